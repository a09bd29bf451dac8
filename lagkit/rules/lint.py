"""What is wrong with somebody's lag alerts: the seed runbook's faults, each with the fix.

Which metric is which is told by the dialects, by the types that a server declares, and by the
rules' own recordings; rules that are not about consumer lag are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lagkit.rules.promql import Node, Unparsable, parse
from lagkit.sources.dialects import DIALECTS, Dialect
from lagkit.wording import plural, printable

if TYPE_CHECKING:
    from lagkit.rules.reading import Rulebook, Written
    from lagkit.sources.prometheus.survey import Survey

COUNTER_FUNCTIONS = frozenset({"rate", "irate", "increase"})
CHANGE_FUNCTIONS = COUNTER_FUNCTIONS | {"delta", "idelta", "deriv", "changes"}
ABSENT = frozenset({"absent", "absent_over_time"})
COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
# what keeps a metric's meaning
_TRANSPARENT = frozenset(
    {"max_over_time", "min_over_time", "avg_over_time", "last_over_time", "label_replace",
     "label_join", "clamp_min", "clamp_max", "clamp", "abs", "round", "sort", "sort_desc"}
)  # fmt: skip
_ADDING = frozenset({"sum", "avg", "min", "stddev", "stdvar", "quantile", "bottomk"})
_CONCEPTS = {
    "lag": "lag",
    "lag_by_topic": "lag",
    "lag_by_group": "lag",
    "committed": "committed",
    "committed_by_topic": "committed",
    "log_end": "end",
    "log_start": "start",
    "lag_seconds": "age",
    "members": "members",
}
_SUMS_WITH_MINUS_ONE = re.compile(r"kafka_consumer_?group_(current_)?offset_sum(_ratio)?")
_SUMS = re.compile(r"kafka_consumer_?group_lag_sum(_ratio)?")
_LOST_WITH_LAG = frozenset({"lag", "committed", "age"})
_LAGKIT = {
    "lagkit:unread:messages": "lag",
    "lagkit:group_topic_unread:messages": "lag",
    "lagkit:group_unread:messages": "lag",
    "lagkit:committed:offset": "committed",
    "lagkit:log_end:offset": "end",
    "lagkit:age:seconds": "age",
    "lagkit:group_topic_age:seconds": "age",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with one rule."""

    kind: str
    rule: str
    place: str
    what: str
    why: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """Return plain JSON types."""
        return asdict(self)


def lint(book: Rulebook, survey: Survey | None = None) -> list[Fault]:
    """Return the faults of *book*, in its order; *survey* is the server that the rules are for."""
    return list(_Judge(book, survey).faults())


def render(book: Rulebook, faults: Sequence[Fault], survey: Survey | None = None) -> str:
    """Return *faults* for a person."""
    against = f", against the metrics of {survey.place}" if survey else ""
    head = f"{book.place}: {plural(len(book.rules), 'rule')}{against}"
    if not faults:
        asked = "" if survey else " Whether their metrics exist was not asked: give --prometheus."
        return f"{head}: none of these faults.{asked}"
    lines = [f"{head}: {plural(len(faults), 'finding')}"]
    for one in faults:
        lines += [
            "",
            f"{one.rule}  {one.place}  [{one.kind}]",
            f"  {one.what}",
            f"  why  {one.why}",
            f"  fix  {one.fix}",
        ]
    return "\n".join(lines)


class _Judge:
    """The rules of one book, and what their metrics are."""

    def __init__(self, book: Rulebook, survey: Survey | None) -> None:
        self._book = book
        self._survey = survey
        self._trees: dict[int, Node] = {}
        self._broken: dict[int, str] = {}
        for number, rule in enumerate(book.rules):
            try:
                self._trees[number] = parse(rule.expr)
            except Unparsable as error:
                self._broken[number] = printable(error, limit=200)
        self._kinds: dict[str, str] = dict(_LAGKIT)
        self._recorded = frozenset(rule.name for rule in book.rules if not rule.alerts)
        # a server tells groups by name, so that a recording may come after what reads it
        self._records = {
            rule.name: self._trees[number]
            for number, rule in enumerate(book.rules)
            if not rule.alerts and number in self._trees
        }

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong, rule by rule; what the whole book lacks comes last."""
        for number, rule in enumerate(self._book.rules):
            if number in self._broken:
                yield self._fault(
                    "unreadable", rule, f"The expression cannot be read: {self._broken[number]}.",
                    "What is not read is not judged; Prometheus may refuse it too.",
                    "Mend it: promtool check rules says where.",
                )  # fmt: skip
                continue
            tree = self._trees[number]
            yield from self._unknown_metrics(rule, tree)
            if not any(self._kind_of(name) for name in tree.metrics()):
                continue
            seen: set[tuple[str, str]] = set()
            for find in _FINDERS:
                for fault in find(self, rule, tree):
                    if (fault.kind, fault.what) not in seen:
                        seen.add((fault.kind, fault.what))
                        yield fault
        yield from self._never_missed()

    # ── what a metric is ──

    def _kind_of(self, name: str) -> str:
        if name not in self._kinds and name in self._records:
            self._kinds[name] = ""  # while it is looked at: it may be made of itself
            self._kinds[name] = self.kind(self._records[name])
        if name in self._kinds:
            return self._kinds[name]
        for dialect in self._dialects:
            for concept, kind in _CONCEPTS.items():
                if any(_is(name, known) for known in getattr(dialect, concept)):
                    return kind
            if name in dialect.knows and "_lag" in name:
                return "lag"
        if _SUMS_WITH_MINUS_ONE.fullmatch(name):
            return "committed"
        if _SUMS.fullmatch(name):
            return "lag"
        declared = self._survey.types.get(name) if self._survey else None
        about_lag = re.search(r"(^|[_:])lag([_:]|$)", name) and not re.search(
            r"_(total|count|bucket|sum|info)$", name
        )
        if about_lag and declared in {None, "gauge", "unknown"}:
            return "age" if re.search(r"(seconds|_ms|millis)", name) else "lag"
        return ""

    @property
    def _dialects(self) -> tuple[Dialect, ...]:
        known = {found.dialect.id for found in self._survey.found} if self._survey else set()
        own = (
            tuple(f.dialect for f in self._survey.found if f.dialect not in DIALECTS)
            if self._survey
            else ()
        )
        return (*own, *sorted(DIALECTS, key=lambda one: one.id not in known))

    def kind(self, node: Node) -> str:
        """Return what the values of *node* are: lag, committed, end, age, …; "" for others."""
        inner = node.children
        if node.kind == "selector":
            return self._kind_of(node.name)
        if node.kind == "aggregate" and node.name not in {"count", "count_values", "group"}:
            return self.kind(inner[0])
        if node.kind == "call" and node.name in _TRANSPARENT and inner:
            return self.kind(inner[0])
        if node.kind != "binary":
            return ""
        left, right = self.kind(inner[0]), self.kind(inner[1])
        if node.name in COMPARISONS and not node.as_bool and inner[1].kind == "number":
            return left
        if node.name in {"or", "and", "unless"}:
            return left
        if node.name == "-" and left == "end" and right in {"committed", "end"}:
            return "lag" if right == "committed" else ""
        if node.name in {"+", "-"} and "number" in {inner[0].kind, inner[1].kind}:
            return left or right
        return ""

    # ── findings about one rule ──

    def rate_on_gauge(self, rule: Written, tree: Node) -> Iterator[Fault]:
        """Find rate() and its kin on lag, offsets or members, which are gauges."""
        for node in tree.walk():
            if node.kind != "call" or node.name not in COUNTER_FUNCTIONS or not node.children:
                continue
            what = self.kind(node.children[0])
            if what in {"lag", "age", "members"}:
                yield self._fault(
                    "rate-on-gauge", rule,
                    f"{node.name}() on {_names(node)}, which is a gauge.",
                    f"Every fall counts as a reset of a counter, so {node.name}() is large while a "
                    "backlog drains, and the alert fires during recovery.",
                    "Take the slope: deriv(METRIC[15m]) > 0, together with an age that matters.",
                )  # fmt: skip
            elif what == "committed":
                yield self._fault(
                    "rate-on-gauge", rule,
                    f"{node.name}() on {_names(node)}, a committed offset.",
                    "An offset that goes back (seek, reset) counts as a reset of a counter: a "
                    "rewind looks like a burst of work.",
                    "deriv() for the speed, changes() for standstill, and an alert of its own for "
                    "a rewind: max_over_time(OFFSET[10m]) - OFFSET > 0.",
                )  # fmt: skip

    def idle_topic(self, rule: Written, tree: Node) -> Iterator[Fault]:
        """Find "no commit" without the question whether there is anything to read."""
        guarded = self._asks_for_backlog(tree)
        for node in tree.walk():
            if node.kind != "binary" or guarded or not _holds_at_zero(node):
                continue
            for call in node.children[0].walk():
                if (
                    call.kind == "call"
                    and call.name in CHANGE_FUNCTIONS
                    and call.children
                    and self.kind(call.children[0]) == "committed"
                ):
                    yield self._fault(
                        "idle-topic", rule,
                        f"{call.name}() of {_names(call)} near 0, with no question for a backlog.",
                        "A topic that nobody writes to has no commits either: the alert pages for "
                        "idle topics, and for ever where nothing was ever committed.",
                        "Add what is unread: … and min_over_time(LAG[10m]) > 0, per group and "
                        "topic.",
                    )  # fmt: skip
                    break

    def minus_one(self, rule: Written, tree: Node) -> Iterator[Fault]:
        """Find the -1 of partitions without a commit, added or compared as if it were a lag."""
        yield from self._minus_one(rule, tree, safe=False, adding=False)

    def _minus_one(self, rule: Written, node: Node, *, safe: bool, adding: bool) -> Iterator[Fault]:
        if node.kind == "selector":
            sums = bool(_SUMS_WITH_MINUS_ONE.fullmatch(node.name))
            of_partitions = self._writes_minus_one(node.name)
            if sums or (of_partitions and adding and not safe):
                yield self._fault(
                    "minus-one", rule,
                    f"{node.name} is -1 where nothing was committed"
                    + (", and that is added up." if sums or adding else "."),
                    "The exporter writes -1 for unknown: it lowers sums and means, and passes for "
                    "a small lag.",
                    (f"Sum the partitions' own offsets, {node.name.replace('_sum', '')} >= 0."
                     if sums else f"Leave it out first: {node.name} >= 0."),
                )  # fmt: skip
            return
        inner = node.children
        if node.kind == "binary" and node.name in COMPARISONS and inner[1].kind == "number":
            limit = inner[1].value
            drops = (node.name == ">" and limit >= -1) or (node.name == ">=" and limit > -1)
            low = node.name in {"<", "<=", "!="} or (node.name == "==" and limit <= 0)
            filters = drops and not node.as_bool
            yield from self._minus_one(
                rule, inner[0], safe=filters or safe, adding=adding or (low and not filters)
            )
            return
        if node.kind == "aggregate" and node.name in _ADDING:
            # what is compared afterwards has been added up before
            yield from self._minus_one(rule, inner[0], safe=False, adding=True)
            return
        if node.kind == "call" and node.name in {*CHANGE_FUNCTIONS, *ABSENT, "count_over_time"}:
            return  # a -1 that stays adds no change
        clamped = node.kind == "call" and node.name in {"clamp_min", "clamp"}
        for child in inner:
            yield from self._minus_one(rule, child, safe=safe or clamped, adding=adding)

    def _writes_minus_one(self, name: str) -> bool:
        return any(
            dialect.writes_minus_one and name in {*dialect.lag, *dialect.committed}
            for dialect in self._dialects
        )

    def count_without_time(self, rule: Written, tree: Node) -> Iterator[Fault]:
        """Find a number of messages as the threshold, with no word about time."""
        if not rule.alerts or any(self.kind(one) == "age" for one in tree.walk()):
            return
        for node in tree.walk():
            if node.kind != "binary" or node.name not in {">", ">="} or node.as_bool:
                continue
            left, right = node.children
            if right.kind != "number" or right.value <= 1 or self.kind(left) != "lag":
                continue
            single = (
                ""
                if any(n.kind == "aggregate" for n in left.walk())
                else (
                    " It also looks at one series at a time: six partitions just below do not fire."
                )
            )
            yield self._fault(
                "count-without-time", rule,
                f"{_names(left)} {node.name} {right.value:g}: a count of messages, no time.",
                "On a busy topic that many messages are a second, on a quiet one weeks; the alert "
                f"pages for the first and sleeps through the second.{single}",
                "Alert on the age of the oldest unread message: lagkit rules writes that for this "
                "exporter, without an estimate by rates.",
            )  # fmt: skip

    def _asks_for_backlog(self, tree: Node) -> bool:
        """Whether what is unread, or that something is written, is among the conditions."""
        for node in tree.walk():
            if node.kind != "binary" or node.name not in {">", ">=", "!="}:
                continue
            subject = node.children[0]
            if self.kind(subject) in {"lag", "age"}:
                return True
            if any(
                call.kind == "call"
                and call.name in CHANGE_FUNCTIONS
                and call.children
                and self.kind(call.children[0]) == "end"
                for call in subject.walk()
            ):
                return True
        return False

    # ── findings about metrics ──

    def _unknown_metrics(self, rule: Written, tree: Node) -> Iterator[Fault]:
        survey = self._survey
        if survey is None:
            return
        about_lag = any(self._kind_of(name) for name in tree.metrics())
        for name in sorted(tree.metrics() - survey.names - self._recorded):
            if not (about_lag or re.search("kafka|redpanda|burrow|klag", name)):
                continue
            only_absent = not any(
                name in branch.metrics() for branch in _branches(tree) if not _is_absent(branch)
            )
            why = (
                "absent() of it holds always: the alert fires and says nothing."
                if only_absent
                else "The rule reads nothing, and never fires."
            )
            yield self._fault(
                "unknown-metric", rule,
                f"{name} is not on {survey.place} (last hour).",
                why,
                self._instead(name),
            )  # fmt: skip

    def _instead(self, name: str) -> str:
        assert self._survey is not None
        concept = self._concept(name)
        for found in self._survey.found:
            names = found.metrics(concept) if concept else ()
            if names:
                labels = found.dialect
                return (
                    f"Here it is {names[0]} of {labels.title}, by {labels.group}"
                    + (f", {labels.topic}" if labels.topic else "")
                    + (f", {labels.partition}." if labels.partition else ".")
                )
        if not self._survey.found:
            return "No lag exporter writes to this server: deploy one, or ask another server."
        title = self._survey.found[0].dialect.title
        return f"{title} runs here and has nothing of the kind; lagkit rules writes what it allows."

    def _concept(self, name: str) -> str:
        for dialect in DIALECTS:
            for concept in _CONCEPTS:
                if any(_is(name, known) for known in getattr(dialect, concept)):
                    return concept
        return {"lag": "lag", "committed": "committed"}.get(self._kind_of(name), "")

    def _never_missed(self) -> Iterator[Fault]:
        """Metrics that alerts rely on and whose absence nobody notices."""
        watched: set[str] = set()
        first: dict[str, Written] = {}
        for number, tree in self._trees.items():
            rule = self._book.rules[number]
            if not rule.alerts:
                continue
            for node in tree.walk():
                if _is_absent(node):
                    watched |= self._made_of(node.metrics())
                elif node.kind == "binary" and node.name == "unless":  # there once, or elsewhere
                    watched |= self._made_of(node.children[1].metrics())
            told = {name for name in tree.metrics() if self._kind_of(name) in _LOST_WITH_LAG}
            for name in sorted(self._made_of(told)):
                if self._kind_of(name) in _LOST_WITH_LAG:
                    first.setdefault(name, rule)
        for name, rule in first.items():
            if name in watched:
                continue
            yield self._fault(
                "absence-unnoticed", rule,
                f"No rule here notices when {name} is gone.",
                "A missing series is no lag of zero, yet every comparison with it is silent: an "
                "exporter that died looks like a group that keeps up.",
                f"Add an alert on absent({name}), and absent({name}{{…}}) for each group that "
                "must be there.",
            )  # fmt: skip

    def _made_of(self, names: Iterable[str]) -> frozenset[str]:
        """Return the metrics behind *names* that no rule here records."""
        waiting, seen = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self._records[name].metrics() if name in self._records else ()
        return frozenset(seen - self._records.keys())

    @staticmethod
    def _fault(kind: str, rule: Written, what: str, why: str, fix: str) -> Fault:
        return Fault(kind, rule.name, rule.place, printable(what), why, printable(fix))


_FINDERS: tuple[Callable[[_Judge, Written, Node], Iterable[Fault]], ...] = (
    _Judge.rate_on_gauge,
    _Judge.idle_topic,
    _Judge.minus_one,
    _Judge.count_without_time,
)
KINDS: Mapping[str, str] = {
    "rate-on-gauge": "rate(), irate() or increase() on a lag, an age, members or a commit",
    "idle-topic": "no commits, without asking whether anything is unread",
    "minus-one": "the -1 of partitions without a commit, in a sum or a comparison",
    "count-without-time": "a number of messages as the threshold of an alert",
    "absence-unnoticed": "no rule with absent() on a metric that alerts rely on",
    "unknown-metric": "a metric that the server does not have",
    "unreadable": "an expression that is no PromQL",
}
"""Every kind of finding, for documents."""


def _is(name: str, known: str) -> bool:
    if "{prefix}" in known:
        return name.endswith(known.replace("{prefix}", "")) and "group_topic" in known + name
    return name == known


def _holds_at_zero(node: Node) -> bool:
    """Whether a comparison with a number is true of 0: < 0 asks for a rewind, not for rest."""
    limit = node.children[1]
    if limit.kind != "number":
        return False
    holds = {"==": limit.value == 0, "<=": limit.value >= 0, "<": limit.value > 0}
    return holds.get(node.name, False)


def _names(node: Node) -> str:
    return ", ".join(sorted(node.metrics())) or "an unnamed metric"


def _is_absent(node: Node) -> bool:
    return node.kind == "call" and node.name in ABSENT


def _branches(node: Node) -> Iterator[Node]:
    """Yield selectors and absent() calls, not what is inside the latter."""
    if _is_absent(node) or node.kind == "selector":
        yield node
        return
    for child in node.children:
        yield from _branches(child)

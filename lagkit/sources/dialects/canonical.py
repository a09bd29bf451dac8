"""One dialect under lagkit's own labels: ``cluster``, ``group``, ``topic``, ``partition``.

For rules, which a server evaluates on its own for months: expressions of the newest sample, with no
window of an investigation, the same labels whatever the exporter calls them, and neither the -1 of
a partition without a commit nor the copies that replicas and churning members make.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lagkit.sources.dialects.dialect import Dialect, Found
from lagkit.sources.dialects.promql import either, joined, quoted

CLUSTER = "cluster"
GROUP = (CLUSTER, "group")
GROUP_TOPIC = (*GROUP, "topic")
_IDLE_STATES = ("Empty", "Dead")


def everything_of(dialect: Dialect, prefix: str = "kminion_") -> Found:
    """Return *dialect* as spoken by a server that has every metric it can write."""
    fields = ("lag", "committed", "log_end", "log_start", "lag_seconds", "lag_by_topic",
              "committed_by_topic", "lag_by_group", "members", "knows")  # fmt: skip
    names = {name for field in fields for name in getattr(dialect, field)}
    if dialect.state:
        names.add(dialect.state.name)
    return Found(dialect, prefix, frozenset(name.replace("{prefix}", prefix) for name in names))


@dataclass(frozen=True, slots=True)
class Canonical:
    """Expressions over the metrics of *found*; a concept that it lacks is an empty text."""

    found: Found
    cluster_labels: tuple[str, ...] = ()
    """Labels that name the Kafka cluster here, beside ``cluster`` itself."""
    skip_groups: str = ""
    """Pattern of groups that are left out, matched whole."""
    skip_topics: str = ""

    @property
    def unit(self) -> tuple[str, ...]:
        """Labels of the smallest thing whose offsets are told."""
        match self.found.dialect.granularity:
            case "partition":
                return (*GROUP_TOPIC, "partition")
            case "topic":
                return GROUP_TOPIC
            case _:
                return GROUP

    @property
    def log(self) -> tuple[str, ...]:
        """Labels of a log: groups share it, but sums over what each group reads they do not."""
        shared = self.found.dialect.granularity == "partition"
        return (CLUSTER, "topic", "partition") if shared else self.unit

    @property
    def to_unit(self) -> str:
        """How what is told of a log meets what is told of each group that reads it."""
        return f"on ({', '.join(self.log)}) group_right ()"

    def committed(self, end: str) -> str:
        """Return the committed offsets per unit; *end* is the record of log ends."""
        if self.found.dialect.granularity == "topic":
            return self._greatest("committed_by_topic", self.unit)
        written = self._greatest("committed", self.unit)
        if written and not self.found.dialect.zero_lag_without_commit:
            return written
        lag = self._greatest("lag", self.unit)
        if not lag or not self._ends_are_written:
            return written
        if self.found.dialect.zero_lag_without_commit:
            # a lag of 0 may mean that nothing was ever committed
            lag = f"({lag} > 0)"
        return either(filter(None, (written, f"{end} - {self.to_unit} {lag}")))

    def log_end(self) -> str:
        """Return the log end offsets per log."""
        if self._ends_are_written:
            return self._greatest("log_end", self.log)
        topic = self.found.dialect.granularity == "topic"
        suffix = "_by_topic" if topic else ""
        lag, committed = (self._greatest(f"{name}{suffix}", self.unit)
                          for name in ("lag", "committed"))  # fmt: skip
        if not lag or not committed:
            return ""
        together = f"{committed} + {lag}"
        return together if topic else f"max by ({', '.join(self.log)}) ({together})"

    def log_start(self) -> str:
        """Return the log start offsets per log."""
        return self._greatest("log_start", self.log) if self._by_partition else ""

    def lag_of_group(self) -> str:
        """Return the lag of whole groups, from an exporter that tells nothing finer."""
        return self._greatest("lag_by_group", GROUP)

    def members(self) -> str:
        """Return the number of members per group."""
        return self._greatest("members", GROUP)

    def without_members(self) -> str:
        """Return 1 per group that has no member, 0 per group that has, by state or count."""
        dialect = self.found.dialect
        ways: list[str] = []
        if dialect.state and (names := self.found.present((dialect.state.name,))):
            by = ", ".join(GROUP)
            if dialect.state.codes:
                codes = [code for code, name in dialect.state.codes.items() if name in _IDLE_STATES]
                value = f"max by ({by}) ({self._relabelled(self._selector(names[0]), GROUP)})"
                ways.append(" + ".join(f"({value} == bool {code})" for code in sorted(codes)))
            elif not dialect.members:
                # The series of an earlier state outlives it: only a group without any other state
                # is without members, and the value says nothing.
                states = "|".join(_IDLE_STATES)
                idle = f"{dialect.state.label}=~{quoted(f'(?i)({states})')}"
                other = idle.replace("=~", "!~", 1)
                counted = (
                    f"count by ({by}) ({self._relabelled(self._selector(names[0], more), GROUP)})"
                    for more in (other, idle)
                )
                ways.append(" or ".join(f"{one} * 0{end}" for one, end in
                                        zip(counted, ("", " + 1"), strict=True)))  # fmt: skip
        if not ways and (members := self.members()):
            ways.append(f"{members} == bool 0")
        return ways[0] if ways else ""

    @property
    def _by_partition(self) -> bool:
        return self.found.dialect.granularity == "partition"

    @property
    def _ends_are_written(self) -> bool:
        return self._by_partition and bool(self.found.metrics("log_end"))

    def _greatest(self, concept: str, labels: Sequence[str]) -> str:
        names = self.found.metrics(concept)
        if not names:
            return ""
        is_log = concept.startswith("log_")
        more = self.found.dialect.log_matchers if is_log else ""
        each = either(f"{self._selector(name, more, log=is_log)} >= 0" for name in names)
        return f"max by ({', '.join(labels)}) ({self._relabelled(each, labels)})"

    def _selector(self, name: str, more: str = "", *, log: bool = False) -> str:
        dialect = self.found.dialect
        skip = (
            f"{dialect.group}!~{quoted(self.skip_groups)}" if self.skip_groups and not log else "",
            f"{dialect.topic}!~{quoted(self.skip_topics)}"
            if self.skip_topics and dialect.topic
            else "",
        )
        inside = joined(dialect.where, more, *skip)
        selector = f"{name}{{{inside}}}" if inside else name
        factor = dialect.factor.get(name, 1.0)
        return selector if factor == 1.0 else f"{selector} * {factor!r}"

    def _relabelled(self, expression: str, labels: Iterable[str]) -> str:
        dialect = self.found.dialect
        own = {"group": dialect.group, "topic": dialect.topic, "partition": dialect.partition}
        wanted = set(labels)
        renamed = [(new, old) for new, old in own.items() if new in wanted and old not in {"", new}]
        renamed += [(CLUSTER, label) for label in self.cluster_labels if label != CLUSTER]
        for new, old in renamed:
            expression = f'label_replace({expression}, "{new}", "$1", "{old}", "(.+)")'
        return expression

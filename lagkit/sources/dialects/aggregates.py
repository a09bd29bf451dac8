"""PromQL for weeks of many groups: one value an hour that keeps the hour's extremes.

What is summed is summed by the server, so an answer has one series per group and topic whatever the
number of partitions. A recording rule that holds such a sum already is read instead, if its text is
one that is understood here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lagkit.sources.dialects.dialect import Found
from lagkit.sources.dialects.promql import either, joined

RULE_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SUM = re.compile(r"sum(?:by\((?P<before>[^()]*)\))?\((?P<inner>.+?)\)(?:by\((?P<after>[^()]*)\))?")
_INNER = re.compile(
    rf"(?:(?P<over>rate|deriv)\()?(?P<name>{RULE_NAME})(?:\{{\}})?(?:\[(?P<window>\w+)\]\))?"
    r"(?P<known>>=0)?"
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording rule: the sum of *name*, or of its rate, by *labels*."""

    rule: str
    name: str
    labels: frozenset[str]
    rate: bool
    known_only: bool
    """The -1 of partitions without a commit are left out."""


def recorded(rule: str, query: str) -> Recorded | None:
    """Return what *rule* records if its *query* is a plain sum by labels; None: not understood."""
    found = _SUM.fullmatch(re.sub(r"\s+", "", query))
    if found is None or not re.fullmatch(RULE_NAME, rule):
        return None
    inner = _INNER.fullmatch(found["inner"])
    by = found["before"] if found["before"] is not None else found["after"]
    if inner is None or by is None or bool(inner["over"]) != bool(inner["window"]):
        return None
    labels = frozenset(label for label in by.split(",") if label)
    return Recorded(rule, inner["name"], labels, bool(inner["over"]), bool(inner["known"]))


@dataclass(frozen=True, slots=True)
class Aggregates:
    """The questions in the dialect *found*, each per group and topic, or per topic.

    ``window``: PromQL duration within which a sample counts for its hour; ``rate_seconds``: what an
    extreme rate is taken over; ``step_seconds``: the hour.
    """

    found: Found
    window: str
    rate_seconds: int
    step_seconds: int
    rules: Mapping[str, Recorded] = field(default_factory=dict)
    """Concept → the rule that is read for it."""

    @property
    def keys(self) -> tuple[str, str]:
        """Labels of group and topic."""
        return self.found.dialect.group, self.found.dialect.topic

    def usable(self, rules: Iterable[Recorded], cluster: Iterable[str]) -> dict[str, Recorded]:
        """Return, per concept, the rule that says the same; *cluster*: labels it may have too."""
        group, topic = self.keys
        wanted = {
            "committed": (self.found.metrics("committed"), {group, topic}, False),
            "lag_high": (self.found.metrics("lag"), {group, topic}, False),
            "log_end": (self.found.metrics("log_end"), {topic}, False),
            "produced": (self.found.metrics("log_end"), {topic}, True),
            "consumed": (self.found.metrics("committed"), {group, topic}, True),
        }
        chosen: dict[str, Recorded] = {}
        for rule in rules:
            for concept, (names, labels, rate) in wanted.items():
                same = rule.name in names and rule.rate == rate
                enough = labels <= rule.labels <= labels | set(cluster)
                if same and enough and (rule.known_only or concept != "committed"):
                    chosen.setdefault(concept, rule)
        return chosen

    def committed(self, matchers: str) -> str:
        """Return committed offsets per group and topic, the -1 left out; "" if there are none."""
        if rule := self.rules.get("committed"):
            return self._rule(rule, self.keys, matchers, f"last_over_time({{}}[{self.window}])")
        return self.found.by_topic("committed", matchers, "", self.window)

    def lag(self, matchers: str) -> str:
        """Return lag per group and topic at the hour's end."""
        return self.found.by_topic("lag", matchers, "", self.window)

    def lag_high(self, matchers: str) -> str:
        """Return the sum of each partition's highest lag in the hour: at least the highest sum."""
        over = f"max_over_time({{}}[{self.step_seconds}s])"
        if rule := self.rules.get("lag_high"):
            return self._rule(rule, self.keys, matchers, over)
        by = ", ".join(self.keys)
        names = self.found.metrics("lag") or self.found.metrics("lag_by_topic")
        within = f"{self.step_seconds}s"
        each = by
        if self.found.dialect.partition and self.found.metrics("lag"):
            each = f"{by}, {self.found.dialect.partition}"
        return either(
            f"sum by ({by}) (max by ({each}) "
            f"({self.found.sampled(name, matchers, within, 'max_over_time')}) >= 0)"
            for name in names
        )

    def log(self, concept: str, matchers: str) -> str:
        """Return ``log_end`` or ``log_start``, summed over partitions, per topic."""
        topic = self.found.dialect.topic
        if concept == "log_end" and (rule := self.rules.get(concept)):
            return self._rule(rule, (topic,), matchers, f"last_over_time({{}}[{self.window}])")
        each = self.found.by_partition(concept, matchers, self.window)
        return f"sum by ({topic}) ({each})" if each and self.found.dialect.partition else ""

    def partitions(self, matchers: str) -> str:
        """Return the log end of each partition."""
        if not self.found.dialect.partition:
            return ""
        return self.found.by_partition("log_end", matchers, self.window)

    def produced(self, matchers: str, over: str) -> str:
        """Return the highest or lowest rate of production in the hour, by *over*."""
        dialect = self.found.dialect
        matchers = joined(matchers, dialect.log_matchers)
        return self._rate("produced", "log_end", (dialect.topic,), matchers, over)

    def consumed(self, matchers: str) -> str:
        """Return the highest rate at which the group committed within the hour."""
        return self._rate("consumed", "committed", self.keys, matchers, "max_over_time")

    def retention_use(self, matchers: str, topics: str) -> str:
        """Return lag as a share of what is kept, of the worst partition; above 1: some was lost."""
        dialect = self.found.dialect
        end = self.found.by_partition("log_end", topics, self.window)
        start = self.found.by_partition("log_start", topics, self.window)
        names = self.found.metrics("lag")
        if not (end and start and names and dialect.partition):
            return ""
        by = ", ".join(self.keys)
        on = f"on ({dialect.topic}, {dialect.partition})"
        return either(
            f"max by ({by}) ((max by ({by}, {dialect.partition}) "
            f"({self.found.sampled(name, matchers, self.window)}) >= 0) "
            f"/ {on} group_left () ((({end}) - {on} ({start})) > 0))"
            for name in names
        )

    def members(self, matchers: str) -> str:
        """Return members per group."""
        group = self.found.dialect.group
        return either(
            f"max by ({group}) ({self.found.sampled(name, matchers, self.window)})"
            for name in self.found.metrics("members")
        )

    def presence(self, name: str, labels: Iterable[str]) -> str:
        """Say by *labels* what has samples of *name* within the hour."""
        where = self.found.dialect.where
        selector = f"{{{where}}}" if where else ""
        return f"count by ({', '.join(labels)}) (last_over_time({name}{selector}[1h]))"

    def _rate(
        self, concept: str, offsets: str, keys: tuple[str, ...], matchers: str, over: str
    ) -> str:
        if rule := self.rules.get(concept):
            return self._rule(rule, keys, matchers, f"{over}({{}}[{self.step_seconds}s])")
        dialect = self.found.dialect
        by = ", ".join(keys)
        names = self.found.metrics(offsets)
        each = by
        if dialect.partition and names:
            each = f"{by}, {dialect.partition}"
        elif offsets == "committed":
            names = self.found.metrics("committed_by_topic")
        window = f"{self.rate_seconds}s"
        summed = either(
            # an offset that goes back is no consumption, and what a reset adds is none either
            f"sum by ({by}) (clamp_min(max by ({each}) "
            f"({self.found.sampled(name, matchers, window, 'delta')}), 0)) / {self.rate_seconds}"
            for name in names
        )
        return f"{over}(({summed})[{self.step_seconds}s:{window}])" if summed else ""

    @staticmethod
    def _rule(rule: Recorded, keys: Iterable[str], matchers: str, over: str) -> str:
        by = ", ".join(keys)
        return f"sum by ({by}) ({over.format(f'{rule.rule}{{{matchers}}}')})"

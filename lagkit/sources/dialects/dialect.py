"""What a dialect is, and the PromQL that reads one: names, labels, encodings, units, gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lagkit.sources.dialects.promql import either, joined

Granularity = Literal["partition", "topic", "group"]


@dataclass(frozen=True, slots=True)
class State:
    """How the group's state is written: as a label of a metric, or as a code in its value."""

    name: str
    label: str = ""
    codes: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """What a dialect does not show; stated if none of *unless* is there."""

    what: str
    why: str
    fix: str
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names one exporter uses; ``{prefix}`` is what ``detect`` found before the name.

    Of several names of one concept every one that exists is asked for, the first with a value
    counts.
    """

    id: str
    title: str
    detect: str
    """Pattern that a metric name must match whole."""
    group: str
    topic: str = ""
    """Label of the topic; empty where the exporter knows groups only."""
    partition: str = ""
    """Label of the partition; empty where the exporter knows topics only."""
    cluster: str = ""
    """Label by which the exporter itself names the Kafka cluster."""
    lag: tuple[str, ...] = ()
    committed: tuple[str, ...] = ()
    """Empty where the exporter has only lag and log end: committed is then their difference."""
    log_end: tuple[str, ...] = ()
    log_start: tuple[str, ...] = ()
    lag_seconds: tuple[str, ...] = ()
    lag_by_topic: tuple[str, ...] = ()
    """Sums over partitions, where ``lag`` is missing."""
    committed_by_topic: tuple[str, ...] = ()
    """The same of committed offsets, where that sum leaves the -1 out."""
    lag_by_group: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    state: State | None = None
    knows: tuple[str, ...] = ()
    """Further metrics that name a group, also one without any committed offset."""
    needs: tuple[str, ...] = ()
    """One of these must be there as well."""
    excludes: tuple[str, ...] = ()
    """None of these may be there."""
    yields_to: str = ""
    """A dialect that writes the same names; where that one is spoken, ``proof`` is asked for."""
    proof: tuple[str, ...] = ()
    """Names that only this dialect writes."""
    log_matchers: str = ""
    """Further matchers of the log offsets."""
    where: str = ""
    """Further matchers of every metric."""
    factor: Mapping[str, float] = field(default_factory=dict)
    """Name → what its values are multiplied by to be in messages, offsets or seconds."""
    zero_lag_without_commit: bool = False
    """It writes lag 0 for what was never committed: such a 0 is unknown (lag.md Q24)."""
    end_from_lag: bool = False
    """Where it has no log end at all, committed plus lag stands in for it."""
    writes_minus_one: bool = False
    """Lag and committed are -1 for a partition without a commit, and sums add that (lag.md Q1)."""
    zero_age_if: str = ""
    """Matcher of the time lags whose 0 means unknown (lag.md Q18)."""
    gaps: tuple[Gap, ...] = ()

    @property
    def granularity(self) -> Granularity:
        """How finely the exporter tells one group's lag."""
        if self.partition:
            return "partition"
        return "topic" if self.topic else "group"

    @property
    def groups_from(self) -> str:
        """The field whose series say which groups have lag."""
        if self.granularity == "partition":
            return "lag" if self.lag else "committed"
        return "lag_by_topic" if self.granularity == "topic" else "lag_by_group"


@dataclass(frozen=True, slots=True)
class Found:
    """A dialect that is spoken here, with the names it uses here."""

    dialect: Dialect
    prefix: str
    names: frozenset[str]

    def present(self, candidates: Iterable[str]) -> tuple[str, ...]:
        """Return those of *candidates* that exist here, in order, with the prefix filled in."""
        filled = (name.replace("{prefix}", self.prefix) for name in candidates)
        return tuple(name for name in filled if name in self.names)

    def metrics(self, concept: str) -> tuple[str, ...]:
        """Return the metric names of *concept* that exist here."""
        return self.present(getattr(self.dialect, concept))

    @property
    def group_metrics(self) -> tuple[str, ...]:
        """Return the metric names whose series say which groups have lag; may be empty."""
        return self.metrics(self.dialect.groups_from)

    @property
    def naming_metrics(self) -> tuple[str, ...]:
        """Return every metric name whose series name a group, with or without a commit."""
        state = (self.dialect.state.name,) if self.dialect.state else ()
        named = (*self.group_metrics, *self.metrics("members"))
        return tuple(dict.fromkeys((*named, *self.present(state), *self.metrics("knows"))))

    @property
    def richness(self) -> int:
        """Count which of committed, log end and log start are known per partition (0 to 3)."""
        if self.dialect.granularity != "partition":
            return 0
        derived = bool(self.metrics("lag") and self.metrics("log_end"))
        known = (
            bool(self.metrics("committed")) or derived,
            self.metrics("log_end"),
            self.metrics("log_start"),
        )
        return sum(map(bool, known))

    @property
    def fineness(self) -> int:
        """Rank the granularity: 2 partitions, 1 topics, 0 groups."""
        return ("group", "topic", "partition").index(self.dialect.granularity)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return what this dialect does not show here."""
        return tuple(gap for gap in self.dialect.gaps if not self.present(gap.unless))

    def sampled(self, name: str, matchers: str, window: str, over: str = "last_over_time") -> str:
        """Return PromQL for the last sample of *name* within *window*, in lagkit's units.

        *over* is another function of a range: ``max_over_time``, ``delta``.
        """
        selector = joined(matchers, self.dialect.where)
        last = f"{over}({name}{{{selector}}}[{window}])"
        factor = self.dialect.factor.get(name, 1.0)
        return last if factor == 1.0 else f"{last} * {factor!r}"

    def by_partition(self, concept: str, matchers: str, window: str) -> str:
        """Return PromQL for *concept* per partition, one series each whatever else labels it.

        The greatest of several copies counts: every replica exports an end offset, and a new
        member's labels make a second series of the same partition.
        """
        dialect = self.dialect
        is_log = concept.startswith("log_")
        labels = f"{dialect.topic}, {dialect.partition}"
        matchers = joined(matchers, dialect.log_matchers if is_log else "")
        expressions = []
        for name in self.metrics(concept):
            sampled = self.sampled(name, matchers, window)
            if concept == "lag_seconds" and dialect.zero_age_if:
                doubtful = self.sampled(name, joined(matchers, dialect.zero_age_if), window)
                sampled = f"({sampled} unless ({doubtful} == 0))"
            expressions.append(f"max by ({labels}) ({sampled})")
        return either(expressions)

    def by_topic(self, concept: str, matchers: str, log_matchers: str, window: str) -> str:
        """Return PromQL for "lag" or "committed" per group and topic, the -1 left out; "" if none.

        Sums of the exporter are not used where they add the -1 of partitions without a commit.
        """
        dialect = self.dialect
        if dialect.granularity == "group":
            return ""
        keys = f"{dialect.group}, {dialect.topic}"
        partition_keys = f"{keys}, {dialect.partition}"

        def each(name: str) -> str:
            return f"(max by ({partition_keys}) ({self.sampled(name, matchers, window)}) >= 0)"

        if names := self.metrics(concept):
            return either(f"sum by ({keys}) {each(name)}" for name in names)
        if sums := self.metrics(f"{concept}_by_topic"):
            return either(
                f"max by ({keys}) ({self.sampled(name, matchers, window)})" for name in sums
            )
        ends = self.by_partition("log_end", log_matchers, window) if dialect.partition else ""
        if concept == "committed" or not ends:
            return ""
        on = f"on ({dialect.topic}, {dialect.partition})"
        return either(
            # committed minus end, negated: the side with the group's labels must be the left one
            f"sum by ({keys}) (clamp_min(0 - ({each(name)} - {on} group_left () ({ends})), 0))"
            for name in self.metrics("committed")
        )

    def by_group(self, matchers: str, window: str) -> str:
        """Return PromQL for the lag of whole groups, where that is all there is; "" if none."""
        return either(
            f"max by ({self.dialect.group}) ({self.sampled(name, matchers, window)})"
            for name in self.metrics("lag_by_group")
        )

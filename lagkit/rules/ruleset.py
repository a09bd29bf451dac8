"""Rules as data: what a dialect's metrics allow, and by name and reason what they do not.

The age of the oldest unread message is read off offsets and never estimated from a rate: it is more
than a minute exactly if what the log held a minute ago is more than the group has read now. That
holds after a burst and when nothing is produced any more, where lag ÷ rate is wrong or has no
value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lagkit.sources.dialects import Canonical
from lagkit.wording import printable

if TYPE_CHECKING:
    from lagkit.rules.wishes import Wishes
    from lagkit.sources.dialects import Found


@dataclass(frozen=True, slots=True)
class Rule:
    """A recording rule (*record*) or an alert rule (*alert*) of Prometheus."""

    expr: str
    record: str = ""
    alert: str = ""
    hold: str = ""
    """How long the expression must hold before the alert fires; empty: at once."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the metric or the alert."""
        return self.record or self.alert


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated one after the other, every *interval*."""

    name: str
    interval: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A rule that cannot be had with these metrics, why, and what would give it."""

    rule: str
    why: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything written for one dialect."""

    dialect: str
    title: str
    groups: tuple[RuleGroup, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    """What the rules say less about than their names promise."""
    wishes: Wishes
    has: frozenset[str]
    """What the metrics tell: see :data:`lagkit.rules.records.ABILITIES`."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules in order of evaluation."""
        return tuple(rule for group in self.groups for rule in group.rules)

    @property
    def alerts(self) -> tuple[str, ...]:
        """The names of its alerts, each once."""
        return tuple(dict.fromkeys(rule.alert for rule in self.rules if rule.alert))

    @property
    def records(self) -> frozenset[str]:
        """The names of what it records."""
        return frozenset(rule.record for rule in self.rules if rule.record)


def build(found: Found, wishes: Wishes, cluster_labels: tuple[str, ...] = ()) -> Ruleset:
    """Return the rules that *found*'s metrics allow under *wishes*.

    *cluster_labels* are those that tell Kafka clusters apart on this server; the exporter's own is
    always among them.
    """
    from lagkit.rules.alerts import alerts
    from lagkit.rules.records import recorded
    from lagkit.rules.wishes import duration

    own = (found.dialect.cluster,) if found.dialect.cluster else ()
    canonical = Canonical(
        found,
        tuple(dict.fromkeys((*own, *cluster_labels))),
        wishes.skip_groups,
        wishes.skip_topics,
    )
    records, has = recorded(canonical, wishes)
    warnings, left_out = alerts(found, wishes, has)
    interval = duration(wishes.interval)
    return Ruleset(
        found.dialect.id,
        found.dialect.title,
        (
            RuleGroup("lagkit-records", interval, records),
            RuleGroup("lagkit-alerts", interval, warnings),
        ),
        left_out,
        tuple(_notes(found, wishes, has)),
        wishes,
        has,
    )


def _notes(found: Found, wishes: Wishes, has: frozenset[str]) -> list[str]:
    from lagkit.rules.wishes import duration

    notes = []
    if wishes.expected:
        notes.append(
            "Groups that must have metrics (--group, or the runbook's): "
            f"{', '.join(printable(group, limit=100) for group in wishes.expected)}."
        )
    if "offsets" in has:
        notes.append(
            f"Ages are seen in steps: {', '.join(map(duration, wishes.rungs))}. A step is seen "
            "once the rules have run for as long, and Prometheus has kept it."
        )
    if "offsets" in has and "partitions" not in has:
        notes.append(
            "The age is that of the topic as a whole: one partition that stands still hides "
            "behind others that are ahead."
        )
    if found.dialect.writes_minus_one:
        notes.append(f"{found.dialect.title} writes -1 where nothing was committed: left out.")
    if "empty" in has and not (found.dialect.state and found.dialect.state.codes):
        notes.append(
            "A group without members must also have stopped committing: some exporters count 0 "
            "members for a live group of the consumer protocol (KIP-848)."
        )
    return notes

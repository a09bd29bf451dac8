"""What a post-mortem says, as frozen data: ``postmortem.json`` of the contract.

Facts only; the sentences are made of them by ``lagkit.postmortem.pages``, so that every number in
the prose is one of these. What people have to say stands in ``people``, by section. No arithmetic
and no display.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lagkit.model import IncidentReference, Onset, RankedCause, State, plain

SCHEMA = "lagkit.postmortem/1"
STATUS = "Draft"
"""What every post-mortem is until people have read it."""

LossProof = Literal["proved_none", "lost", "cannot_tell"]
RuleOutcome = Literal["fires", "silent", "cannot_tell"]
ActionType = Literal["detect", "mitigate", "prevent", "process"]
Priority = Literal["P1", "P2", "P3"]
FactValue = float | int | str | datetime | None


@dataclass(frozen=True, slots=True)
class Capture:
    """One incident file that the post-mortem rests on."""

    role: Literal["first", "later"]
    id: str
    sha256: str
    start: datetime
    end: datetime
    captured_at: datetime
    lagkit_version: str


@dataclass(frozen=True, slots=True)
class Joining:
    """How two captures became one window: nothing of it is counted twice.

    ``rows`` says per frame how many rows of the later capture came in; ``unseen_seconds`` is the
    stretch between the two in which nobody looked.
    """

    rule: str
    from_first_until: datetime | None
    rows_taken: Mapping[str, int] = field(default_factory=dict)
    rows_left_out: Mapping[str, int] = field(default_factory=dict)
    unseen_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceSeen:
    """How one source answered."""

    capture: str
    name: str
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class Blindness:
    """Something that was not seen: what, why, what would mend it."""

    source: str
    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much of what happened could be seen."""

    checks_with_data: int
    checks_total: int
    confidence: str
    samples_seen: int
    samples_expected: int
    step_seconds: float | None
    unseen_seconds: float
    """Longest stretches without a sample, added up; figures bridge them by straight lines."""
    sources: tuple[SourceSeen, ...] = ()
    blind: tuple[Blindness, ...] = ()
    not_believed: tuple[str, ...] = ()
    """Monitoring that told an untruth, and since when."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One instant: what it is by definition, where it comes from and how far it may be off.

    ``at`` None: it could not be known; ``why`` says why. ``uncertainty_seconds`` None: by the
    interval ``earliest`` to ``latest``.
    """

    name: str
    definition: str
    at: datetime | None
    source: str = ""
    query: str = ""
    uncertainty_seconds: float | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two stamps, never averaged over incidents."""

    name: str
    begins: str
    ends: str
    seconds: float | None
    uncertainty_seconds: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Impact:
    """What it cost over the whole window; None is explained in ``cannot_tell``.

    Delays are waits of messages: how long each lay unread. ``mean`` and ``p95`` are over the
    messages that waited between ``counted_from`` and ``counted_until`` (onset to recovery).
    """

    promise_seconds: float
    criticality: str
    window_seconds: float
    messages_delayed: float | None = None
    delay_message_seconds: float | None = None
    incident_message_seconds: float | None = None
    counted_from: datetime | None = None
    counted_until: datetime | None = None
    messages_waiting: float | None = None
    mean_delay_seconds: float | None = None
    p95_delay_seconds: float | None = None
    max_delay_seconds: float | None = None
    delays_are_at_least: bool = False
    """True: some of the messages still wait at the end, or were older than the data."""
    peak_lag_messages: float | None = None
    peak_lag_at: datetime | None = None
    peak_age_seconds: float | None = None
    peak_age_at: datetime | None = None
    peak_topic: str = ""
    peak_partition: int | None = None
    promise_minutes_broken: float | None = None
    objective: float = 0.99
    """Share of minutes in 30 days that is taken as the objective for the budget."""
    budget_used: float | None = None
    messages_lost: float | None = None
    loss: LossProof = "cannot_tell"
    loss_because: str = ""
    unread_at_end: float | None = None
    oldest_age_at_end_seconds: float | None = None
    state_at_end: State = "unknown"
    cannot_tell: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicImpact:
    """One topic of the group, with the people on both ends of it and what it bore."""

    topic: str
    criticality: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int
    partitions_broken: int
    messages_delayed: float | None
    delay_message_seconds: float | None
    peak_lag_messages: float | None
    peak_age_seconds: float | None


@dataclass(frozen=True, slots=True)
class AlertSeen:
    """One alert as it was recorded."""

    alert: str
    severity: str
    of_group: bool
    active_at: datetime | None
    fired_at: datetime | None
    resolved_at: datetime | None
    still_firing: bool
    query: str
    uncertainty_seconds: float


@dataclass(frozen=True, slots=True)
class ReplayedRule:
    """An alert rule that was run over the recorded data, as if it had been there."""

    rule: str
    condition: str
    for_seconds: float
    outcome: RuleOutcome
    true_at: datetime | None = None
    fires_at: datetime | None = None
    after_onset_seconds: float | None = None
    seen_in_alerts: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Detection:
    """Which alert told of it and how long that took.

    ``gap_seconds``: onset → expression true; ``for_seconds``: true → fired; together ``ttd``.
    """

    alert: str
    fired_at: datetime | None
    ttd_seconds: float | None
    gap_seconds: float | None
    for_seconds: float | None
    uncertainty_seconds: float | None
    why: str = ""
    alerts: tuple[AlertSeen, ...] = ()
    replayed: tuple[ReplayedRule, ...] = ()
    earliest_rule: str = ""
    """The advised rule that was not there and would have fired first."""
    earliest_rule_seconds: float | None = None
    dead_rules: tuple[str, ...] = ()
    """What the capture said of rules that can never fire."""


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One line of what happened. ``what`` quotes evidence; ``query`` names rows of ``queries``."""

    at: datetime
    kind: str
    what: str
    source: str
    query: str
    confidence: str
    uncertainty_seconds: float | None = None
    until: datetime | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state that came before the lag, or as it began."""

    at: datetime
    kind: str
    what: str
    before_onset_seconds: float
    source: str
    query: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Trigger, critical failure, contributing causes and mechanism, as the ranking has them.

    ``judged_on`` is the capture whose evidence the ranking rests on.
    """

    judged_on: str
    cause: str
    title: str
    likelihood_term: str
    summary: str
    triggers: tuple[Change, ...]
    changes_looked_for: bool
    """False: the source that shows changes was blind, so none seen is not none."""
    primary: RankedCause | None
    contributing: tuple[RankedCause, ...]
    mechanism: tuple[RankedCause, ...]
    ruled_out: tuple[str, ...]
    titles: Mapping[str, str]
    capacity_bound: bool | None
    capacity_because: str


@dataclass(frozen=True, slots=True)
class Fact:
    """Something computed that went well, or that luck had a hand in.

    ``outcome``: holds, does not hold, or cannot be told (then ``why``). The sentence is made of
    ``numbers``, names among them.
    """

    id: str
    outcome: Literal["holds", "does_not_hold", "cannot_tell"]
    numbers: Mapping[str, FactValue]
    source: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An action item that the evidence suggests; people accept or decline it."""

    id: str
    type: ActionType
    action: str
    done_when: str
    evidence: str
    """Id of the finding, fact, rule, suspicion or gap it rests on."""
    because: str
    priority: Priority
    priority_because: str


@dataclass(frozen=True, slots=True)
class Lookalike:
    """An earlier incident, and how alike its signature is (0 to 1)."""

    id: str
    group: str
    start: datetime
    cause: str
    title: str
    likeness: float
    evidence_likeness: float
    cause_likeness: float
    shared: tuple[str, ...]
    """Kinds of evidence that both show."""
    file: str


@dataclass(frozen=True, slots=True)
class Similar:
    """Earlier incidents by signature; ``compared`` of ``files`` could be used."""

    asked: bool
    files: int = 0
    compared: int = 0
    not_earlier: int = 0
    unreadable: tuple[str, ...] = ()
    nearest: tuple[Lookalike, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """One question that was asked of a source, as it was asked."""

    id: str
    source: str
    statement: str
    outcome: str
    rows: int
    detail: str


@dataclass(frozen=True, slots=True)
class Postmortem:
    """Everything that data can say of one incident. Same captures in, same post-mortem out."""

    status: str
    incident: IncidentReference
    generated_at: datetime
    lagkit_version: str
    zone: str
    """IANA name of the local time that stands beside UTC."""
    state: State
    onset: Onset | None
    captures: tuple[Capture, ...]
    joining: Joining | None
    completeness: Completeness
    stamps: tuple[Stamp, ...]
    intervals: tuple[Interval, ...]
    impact: Impact
    topics: tuple[TopicImpact, ...]
    detection: Detection
    timeline: tuple[TimelineRow, ...]
    chain: Chain
    went_well: tuple[Fact, ...]
    got_lucky: tuple[Fact, ...]
    candidates: tuple[Candidate, ...]
    similar: Similar
    queries: tuple[Asked, ...]
    people: Mapping[str, str] = field(default_factory=dict)
    """What people wrote, by section of the Markdown."""
    schema: str = SCHEMA

    def stamp(self, name: str) -> Stamp:
        """Return the stamp called *name*; KeyError if there is none."""
        for stamp in self.stamps:
            if stamp.name == name:
                return stamp
        raise KeyError(name)

    def interval(self, name: str) -> Interval:
        """Return the interval called *name*; KeyError if there is none."""
        for interval in self.intervals:
            if interval.name == name:
                return interval
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the post-mortem as plain JSON types, ``schema`` first."""
        content = plain(self)
        assert isinstance(content, dict)
        first = ["schema", *(key for key in content if key != "schema")]
        return {key: content[key] for key in first}

    def to_json(self) -> str:
        """Return ``postmortem.json``: two-space indent, UTF-8, one final newline, no NaN."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_written(value: Any) -> Any:
    """Return *value* with its numbers as ``to_json`` writes them: the prose is made of these."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: as_written(getattr(value, one.name)) for one in _own_fields(value)}
        return dataclasses.replace(value, **fields)
    if isinstance(value, Mapping):
        return {key: as_written(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(as_written(item) for item in value)
    return plain(value) if isinstance(value, float) else value


def _own_fields(value: Any) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(one for one in dataclasses.fields(value) if one.init)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``postmortem.json``."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(Postmortem).json_schema(mode="serialization")
    schema["$id"] = f"urn:{SCHEMA.replace('/', ':')}"
    schema["title"] = SCHEMA
    return schema

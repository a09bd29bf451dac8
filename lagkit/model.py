"""The words of a verdict: findings, ranked causes, impact, forecast, actions.

Everything here is frozen data. ``to_json`` gives ``verdict.json`` of the contract
(``lagkit.verdict/1``); ``json_schema`` publishes its shape. No arithmetic and no display.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import pandas as pd

SCHEMA = "lagkit.verdict/1"

State = Literal["growing", "draining", "stalled", "recovered", "healthy", "unknown"]
CheckStatus = Literal["validated", "invalidated", "inconclusive", "not_checked"]
Role = Literal["primary", "contributing", "mechanism", "none"]
Confidence = Literal["high", "moderate", "low"]
Safety = Literal["read_only", "disruptive", "data_loss", "irreversible"]
ConditionStatus = Literal["met", "not_met", "cannot_tell"]
Outlook = Literal["drains", "never", "no_gain", "at_once", "unknown"]
SourceName = Literal["prometheus", "kafka", "kubernetes", "downstream"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for and seen, with the number, the time and the query behind it.

    ``weights`` are nats by cause, filled in by the ranking; a signal knows no cause. ``id`` is the
    kind of evidence, optionally with ``:what``, e.g. ``pod_restarts`` or ``stalled_partition:3``.
    """

    id: str
    statement: str
    source: SourceName
    query: str
    onset: datetime | None = None
    value: float | None = None
    baseline: float | None = None
    unit: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    quote: str = ""
    """A log line or event that shows it, bounded and redacted; hostile until escaped."""

    @property
    def kind(self) -> str:
        """The evidence kind, without the part after the colon."""
        return self.id.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one evidence kind: present (with findings), absent, or not checked."""

    kind: str
    outcome: Literal["present", "absent", "not_checked"]
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    """What was seen instead (absent), or what was missing (not checked)."""
    source: SourceName = "prometheus"
    query: str = ""


@dataclass(frozen=True, slots=True)
class Onset:
    """When the trouble began, as an interval."""

    at: datetime
    earliest: datetime
    latest: datetime
    censored: bool = False
    """True: nobody saw it begin; the truth is ``earliest`` or before."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line for or against a cause: the finding's id, its weight in nats and the sentence."""

    id: str
    weight: float
    statement: str


@dataclass(frozen=True, slots=True)
class RankedCause:
    """One cause in the ranking."""

    cause: str
    rank: int
    probability: float
    prior: float
    status: CheckStatus
    role: Role
    evidence_for: tuple[Evidence, ...] = ()
    evidence_against: tuple[Evidence, ...] = ()
    not_checked: tuple[str, ...] = ()
    would_change: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict in one line, and how sure of it."""

    cause: str
    likelihood: float
    likelihood_term: str
    confidence: Confidence
    summary: str
    evidence_checked: int = 0
    evidence_total: int = 0


@dataclass(frozen=True, slots=True)
class Impact:
    """What it cost; None where it could not be known."""

    peak_lag_messages: float | None = None
    peak_age_seconds: float | None = None
    messages_delayed: float | None = None
    delay_message_seconds: float | None = None
    slo_minutes_broken: float | None = None
    messages_lost: float | None = None
    lag_messages_now: float | None = None
    oldest_age_seconds_now: float | None = None
    oldest_age_is_at_least: bool = False
    """True: the age is censored by the window; the truth is this or more."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """When the backlog will be gone, as an interval."""

    low: datetime
    mid: datetime
    high: datetime


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where it goes if nothing changes. ``catch_up_at`` None: never at this rate, or unknown."""

    net_drain_per_second: float | None = None
    catch_up_at: CatchUp | None = None
    data_loss_at: datetime | None = None
    data_loss_rule: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must hold before a command is run, and whether it did when it was captured.

    ``seen`` is what that was read from; "" where nothing that was captured can tell.
    """

    text: str
    status: ConditionStatus
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What one thing that can be done would gain and cost, by this incident's own numbers.

    ``outlook``: ``drains`` in ``catch_up_seconds`` from the end of the window; ``never``, it reads
    no faster than is written; ``no_gain``, it changes nothing of this backlog; ``at_once``, it
    gives the backlog up; ``unknown``. ``capacity_per_second`` is what the group would then read.
    """

    id: str
    title: str
    outlook: Outlook
    statement: str
    cost: str = ""
    members: int | None = None
    capacity_per_second: float | None = None
    catch_up_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """A command for a person to run, never run by lagkit.

    ``preconditions`` are the runbook's words; ``conditions`` the same and lagkit's own, checked
    against what was captured. ``gain`` and ``cost`` are those of the prospect it serves.
    """

    command: str
    why: str
    safety: Safety
    preconditions: tuple[str, ...] = ()
    title: str = ""
    cause: str = ""
    conditions: tuple[Condition, ...] = ()
    prospect: str = ""
    """``id`` of the prospect that it brings about; "" where it only looks."""
    gain: str = ""
    cost: str = ""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who is to be told by now, why they, and a message ready to be pasted.

    ``also`` are the other levels that are due; ``later`` those that are not, with when.
    """

    level: str
    who: str
    contact: str
    why: str
    message: str
    also: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    elapsed_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SourceReport:
    """How a source did."""

    status: Literal["ok", "partial", "unavailable", "not_configured"]
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One untruth that monitoring told: who, since when, what is believed instead, what mends it.

    ``kind`` is the check of ``lagkit.monitoring`` that found it, ``instance`` the scrape job and
    address where they are known. ``until`` None: it went on until the end of the window.
    """

    kind: str
    exporter: str
    instance: str
    since: datetime
    until: datetime | None
    title: str
    """What the untruth is, in a few words."""
    statement: str
    evidence: tuple[str, ...]
    query_ids: tuple[str, ...]
    believed_instead: str
    fix: str


@dataclass(frozen=True, slots=True)
class IncidentReference:
    """Which incident a verdict is about."""

    id: str
    cluster: str
    group: str
    topics: tuple[str, ...]
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole answer. Same incident in, same verdict out."""

    incident: IncidentReference
    generated_at: datetime
    lagkit_version: str
    state: State
    onset: Onset | None
    verdict: Headline
    ranking: tuple[RankedCause, ...]
    findings: tuple[Finding, ...]
    impact: Impact
    forecast: Forecast
    actions: tuple[Action, ...]
    do_not: tuple[str, ...]
    sources: Mapping[str, SourceReport]
    not_checked: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    next_check: str = ""
    suspicions: tuple[Suspicion, ...] = ()
    """Monitoring that told an untruth; none of it is evidence here."""
    prospects: tuple[Prospect, ...] = ()
    """What can be done about the backlog, safest first."""
    escalation: Escalation | None = None
    """None: there is no incident to tell of, or the runbook names nobody."""
    schema: str = SCHEMA

    def cause(self, name: str) -> RankedCause:
        """Return the ranked entry of cause *name*; KeyError if it was not ranked."""
        for entry in self.ranking:
            if entry.cause == name:
                return entry
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain JSON types, key order as in the contract."""
        content = plain(self)
        assert isinstance(content, dict)
        first = ["schema", *(k for k in content if k != "schema")]
        return {key: content[key] for key in first}

    def to_json(self) -> str:
        """Return ``verdict.json``: two-space indent, UTF-8, one final newline, no NaN."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``verdict.json``."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(Verdict).json_schema(mode="serialization")
    schema["$id"] = f"urn:{SCHEMA.replace('/', ':')}"
    schema["title"] = SCHEMA
    return schema


def timestamp_text(moment: datetime) -> str:
    """Return *moment* as ISO 8601 in UTC to the millisecond, e.g. 2026-11-23T02:14:30.000Z."""
    stamp = pd.Timestamp(moment).tz_convert("UTC")
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp.microsecond // 1000:03d}Z"


def as_plain(value: Any) -> dict[str, Any]:
    """Return a frozen record of lagkit as JSON types: the rules of ``verdict.json``."""
    reduced = plain(value)
    assert isinstance(reduced, dict)
    return reduced


def plain(value: Any) -> Any:
    """Reduce to JSON types; floats to 10 significant digits, the same bytes on every CPU."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else None
    return value

"""The answer as data: what ``capacity.json`` holds (``lagkit.capacity/1``). Nothing is computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from lagkit.model import as_plain

SCHEMA = "lagkit.capacity/1"

Level = Literal["act", "watch", "unknown", "fine"]
SaturationStatus = Literal[
    "passed", "range", "none", "too_short", "no_baseline", "capacity_unknown", "no_demand"
]
ActionKind = Literal["add_members", "add_partitions", "spread_keys", "measure", "retention"]


@dataclass(frozen=True, slots=True)
class Demand:
    """Messages a second over the last four weeks outside incidents; ``peak``: the weekly peak hour
    as expected now, ``peak_hour``: which one, UTC.
    """

    p50: float
    p95: float
    peak: float
    peak_hour: str
    per_week: float
    """Growth of the mean, messages a second a week; 0 where none is told from the noise."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The highest rate it was seen to read at; ``lower_bound``: it may read faster."""

    per_second: float
    low: float
    high: float | None
    lower_bound: bool
    basis: str


@dataclass(frozen=True, slots=True)
class ForecastNote:
    """Which forecast is shown and the errors of the back-test, as shares of the mean demand."""

    shown: str
    reason: str
    weeks: int
    origins: int
    model_error: float | None
    naive_error: float | None


@dataclass(frozen=True, slots=True)
class SaturationDate:
    """When the peak hour's utilisation passes the target, as a range; ``latest`` None: open."""

    status: SaturationStatus
    reason: str
    earliest: datetime | None = None
    latest: datetime | None = None
    weeks_earliest: float | None = None
    weeks_latest: float | None = None


@dataclass(frozen=True, slots=True)
class Survivable:
    """Longest stop from the weekly peak on: within the promise, and before data is deleted."""

    within_promise_seconds: float | None
    before_loss_seconds: float | None
    loss_at_least: bool
    """Records are kept for longer than was seen."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What is needed ``in_weeks`` from now, at the upper end of the forecast, for the target."""

    in_weeks: int
    peak: float
    members: int | None
    partitions: int | None
    helps: str
    """What of this would help, and what would not."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A stop at the weekly peak under a change; ``catch_up_seconds`` None: not within two weeks."""

    change: str
    stop_seconds: float
    catch_up_seconds: float | None
    oldest_seconds: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Happened:
    """Something in the weeks: a gap, a deploy, a re-created topic, an unusual day, an incident."""

    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class ActionItem:
    """What a person may do, tied to what was seen, and how one knows that it is done."""

    id: str
    kind: ActionKind
    title: str
    why: str
    evidence: tuple[str, ...]
    done_when: str
    due: datetime | None = None


@dataclass(frozen=True, slots=True)
class Trend:
    """One group on one topic."""

    group: str
    topic: str
    criticality: str
    promise_seconds: float
    level: Level
    verdict: str
    """One sentence."""
    demand: Demand | None
    limit: Limit | None
    utilisation: float | None
    partitions: int | None
    members: int | None
    spare_partitions: int | None
    skew: float | None
    survivable: Survivable
    catch_up_per_stopped: float | None
    retention_worst_use: float | None
    retention_seconds: float | None
    loss_margin_seconds: float | None
    """What was left of the retention when the backlog was worst; 0: records were deleted unread."""
    saturation: SaturationDate
    forecast: ForecastNote
    needed: Needed | None
    what_if: tuple[WhatIf, ...]
    happened: tuple[Happened, ...]
    actions: tuple[ActionItem, ...]

    @property
    def name(self) -> str:
        """Group and topic, as a person reads them."""
        return f"{self.group} ← {self.topic}"


@dataclass(frozen=True, slots=True)
class NotSeen:
    """What could not be read, why, and what mends it."""

    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Everything, worst first."""

    generated_at: datetime
    lagkit_version: str
    cluster: str
    start: datetime
    end: datetime
    target: float
    sampled: str
    """What the hours do not show."""
    trends: tuple[Trend, ...]
    not_seen: tuple[NotSeen, ...]
    facts: Mapping[str, str]
    schema: str = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; no NaN and no infinity, None is unknown."""
        plain = as_plain(self)
        first = ["schema", *(key for key in plain if key != "schema")]
        return {key: plain[key] for key in first}

    def to_json(self) -> str:
        """Return ``capacity.json``: two-space indent, UTF-8, one final newline."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``capacity.json``."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(Answer).json_schema(mode="serialization")
    schema["$id"] = f"urn:{SCHEMA.replace('/', ':')}"
    schema["title"] = SCHEMA
    return schema

"""From a history to the answer: one trend a group and topic, worst first. Asks nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lagkit.capacity import advice
from lagkit.capacity.courses import WEEK_HOURS, Array, Course, Flags, courses
from lagkit.capacity.forecast import (
    Forecast,
    Saturation,
    at_last_growth,
    forecast,
    saturation,
    unusual_days,
)
from lagkit.capacity.history import History
from lagkit.capacity.incidents import Behind, Capacity, behind, capacity
from lagkit.capacity.model import (
    Answer,
    Demand,
    ForecastNote,
    Happened,
    Limit,
    Needed,
    NotSeen,
    SaturationDate,
    Survivable,
    Trend,
    WhatIf,
)
from lagkit.capacity.queueing import after_stop, catch_up_per_stopped, survivable_stop
from lagkit.errors import UsageError
from lagkit.wording import duration, plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from lagkit.capacity.tables import CapacitySheet
    from lagkit.figure import Figure

TARGET = 0.7
OUTAGE_SECONDS = 7200.0
QUARTER_WEEKS = 13
RECENT_WEEKS = 4
SOON_WEEKS = 2.0
"""So far the growth of the last week is believed where no forecast holds."""
MOST_HAPPENED = 40
LEAST_CAPACITY_ERROR = 0.01
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LEVELS = {"act": 0, "watch": 1, "unknown": 2, "fine": 3}


@dataclass(frozen=True, slots=True, eq=False)
class Working:
    """What a trend was computed from; charts pick from it and compute nothing."""

    course: Course
    behind: Behind
    usable: Flags
    unusual: Flags
    capacity: Capacity | None
    forecast: Forecast
    week: Array | None
    """Expected demand of each hour of the week, now."""
    target: float


@dataclass(frozen=True, eq=False)
class Capacities:
    """The answer with its workings; shows itself as the ranked table."""

    answer: Answer
    history: History = field(repr=False)
    _workings: Mapping[tuple[str, str], Working] = field(repr=False)

    def working(self, group: str, topic: str) -> Working:
        """Return what the trend of *group* on *topic* was computed from; KeyError if none."""
        return self._workings[group, topic]

    def worst(self, number: int = 1) -> Trend:
        """Return the worst trend, or the second, …; IndexError if there are fewer."""
        return self.answer.trends[number - 1]

    def figure(self, name: str, number: int = 1) -> Figure:
        """Return the figure *name* of the worst trend, or of the second, …; see ``FIGURES``."""
        from lagkit.capacity import charts

        trend = self.worst(number)
        return charts.figure(trend, self.working(trend.group, trend.topic), self.answer, name)

    def table(self, name: str, number: int = 1) -> CapacitySheet:
        """Return the table *name*; those about one trend take the worst, or the second, …."""
        from lagkit.capacity import tables

        return tables.sheet(self.answer, name, number)

    def __repr__(self) -> str:
        """Return one sentence a group, worst first."""
        return "\n".join(f"{trend.name}: {trend.verdict}" for trend in self.answer.trends)

    def _repr_html_(self) -> str:
        return self.table("ranked")._repr_html_()


def trends(
    history: History,
    *,
    target: float = TARGET,
    on_progress: Callable[[str], None] | None = None,
) -> Capacities:
    """Return the trend of every group and topic of *history*, against a utilisation of *target*.

    The same history gives the same answer: its clock is the end of the history.

    Raises
    ------
    UsageError
        *target* is no share, or statsmodels is not installed.
    """
    if not 0 < target < 1:
        msg = f"--target {target:g} is no share of the capacity."
        raise UsageError(msg, hint="Write a number between 0 and 1, e.g. 0.7.")
    found: list[Trend] = []
    workings: dict[tuple[str, str], Working] = {}
    total = len(history.flow_hours[["group", "topic"]].drop_duplicates())
    for number, course in enumerate(courses(history), start=1):
        trend, working = trend_of(course, history, target)
        found.append(trend)
        workings[trend.group, trend.topic] = working
        if on_progress and (number % 50 == 0 or number == total):
            on_progress(f"trend {number} of {total}")
    found.sort(key=_worst_first)
    facts = dict(history.facts.get("prometheus", {}))
    return Capacities(
        Answer(
            generated_at=history.captured_at,
            lagkit_version=history.lagkit_version,
            cluster=history.cluster,
            start=history.start,
            end=history.end,
            target=target,
            sampled=_sampled(facts),
            trends=tuple(found),
            not_seen=tuple(NotSeen(gap.what, gap.why, gap.fix) for gap in history.coverage),
            facts=facts,
        ),
        history,
        workings,
    )


def trend_of(course: Course, history: History, target: float) -> tuple[Trend, Working]:
    """Return the trend of one *course*, and what it was computed from."""
    entry = history.runbook.group(course.group)
    set_apart = behind(course, float(entry.promise_seconds))
    known = np.isfinite(course.produced)
    usable = known & ~set_apart.excluded
    unusual = unusual_days(course.produced, course.weekly, usable)
    ahead = forecast(course.produced, course.weekly, usable & ~unusual)
    limit = capacity(course, set_apart)
    week = _week(course, ahead, usable)
    working = Working(course, set_apart, usable, unusual, limit, ahead, week, target)
    demand = _demand(course, usable, ahead, week)
    passed, date = _saturation(course, ahead, limit, target, demand)
    ratio = demand.peak / limit.per_second if demand and limit and not limit.lower_bound else None
    members = _last(course.members)
    topic = history.runbook.topic(course.topic)
    trend = Trend(
        group=course.group,
        topic=course.topic,
        criticality=entry.criticality if entry.criticality != "unknown" else topic.criticality,
        promise_seconds=float(entry.promise_seconds),
        level="unknown",
        verdict="",
        demand=demand,
        limit=_limit(limit),
        utilisation=ratio,
        partitions=course.partitions,
        members=None if members is None else round(members),
        spare_partitions=None
        if members is None or course.partitions is None
        else course.partitions - round(members),
        skew=course.skew,
        survivable=_survivable(course, week, limit, float(entry.promise_seconds)),
        catch_up_per_stopped=None if ratio is None else catch_up_per_stopped(ratio),
        retention_worst_use=_highest(course.retention_use),
        retention_seconds=course.kept_seconds,
        loss_margin_seconds=_loss_margin(course),
        saturation=date,
        forecast=_note(ahead),
        needed=_needed(course, ahead, limit, target, members, demand),
        what_if=_what_if(course, week, limit, members),
        happened=_happened(course, set_apart, unusual),
        actions=(),
    )
    return advice.judged(trend, passed, set_apart.all_the_time), working


def _worst_first(trend: Trend) -> tuple[float, ...] | tuple[object, ...]:
    critical = {"high": 0, "medium": 1, "low": 3}.get(trend.criticality, 2)
    weeks = trend.saturation.weeks_earliest
    return (
        _LEVELS[trend.level],
        math.inf if weeks is None else weeks,
        -(trend.utilisation or 0.0),
        critical,
        trend.group,
        trend.topic,
    )


def _sampled(facts: Mapping[str, str]) -> str:
    minutes = int(facts.get("rate_seconds", "600")) // 60
    return (
        "One value an hour is kept, with the hour's highest lag and the highest and lowest rate of "
        f"{minutes} minutes in it. A peak shorter than {minutes} minutes is not seen, nor is the "
        "lag of single partitions."
    )


# ── the columns ─────────────────────────────────────────────────────────────────────────────────


def _week(course: Course, ahead: Forecast, usable: Flags) -> Array | None:
    """Return the expected demand of each hour of the week, at the level of now."""
    if ahead.season is not None and ahead.line is not None:
        shares = ahead.season.shares * (ahead.season.peak / ahead.season.shares.max())
        return np.asarray(shares * max(ahead.line.at_end, 0.0), dtype="float64")
    rates, hours = course.produced[usable], course.weekly[usable]
    if not len(rates) or not (rates > 0).any():
        return None
    # too short for a season: each hour as it was seen, the mean where it was not
    total = np.bincount(hours, weights=rates, minlength=WEEK_HOURS)
    count = np.bincount(hours, minlength=WEEK_HOURS)
    return np.where(count > 0, total / np.maximum(count, 1), rates.mean())


def _demand(course: Course, usable: Flags, ahead: Forecast, week: Array | None) -> Demand | None:
    if week is None:
        return None
    recent = usable.copy()
    recent[: -RECENT_WEEKS * WEEK_HOURS] = False
    rates = course.produced[recent if recent.any() else usable]
    hour = int(np.argmax(week))
    name = f"{_DAYS[hour // 24]} {hour % 24:02d}:00Z"
    growth = ahead.line.per_week if ahead.line is not None and ahead.line.growing else 0.0
    return Demand(
        float(np.quantile(rates, 0.5)),
        float(np.quantile(rates, 0.95)),
        float(week.max()),
        name,
        growth,
    )


def _saturation(
    course: Course,
    ahead: Forecast,
    limit: Capacity | None,
    target: float,
    demand: Demand | None,
) -> tuple[Saturation, SaturationDate]:
    nothing = Saturation("none")
    if demand is None:
        return nothing, SaturationDate("no_demand", "no demand outside incidents is known")
    if limit is None or limit.lower_bound:
        return nothing, SaturationDate(
            "capacity_unknown",
            "its capacity was never seen: it was never behind and working off a backlog"
            if limit is None or limit.lower_bound
            else "",
        )
    season, line = ahead.season, ahead.line
    if season is None or line is None:
        if demand.peak >= target * limit.high:
            return Saturation("passed", 0.0, 0.0), _dated(
                course, Saturation("passed", 0.0, 0.0), ahead.reason
            )
        return nothing, SaturationDate("too_short", ahead.reason)
    needed = target * limit.per_second / season.peak
    spread = max((limit.high - limit.low) / 2 / limit.per_second, LEAST_CAPACITY_ERROR)
    # half a spread is two standard errors of what it is known by
    relative = math.hypot(spread / 2, season.peak_error)
    found = saturation(line, needed, relative)
    if ahead.lost and found.status == "none":
        soon = at_last_growth(season.levels, needed)
        if soon <= SOON_WEEKS:
            found = Saturation("range", soon, math.inf)
    if found.status == "none":
        status = "none" if ahead.shown != "naive" else "no_baseline"
        return found, SaturationDate(
            status,  # type: ignore[arg-type]
            ahead.reason
            or ("it would be later than two years" if line.growing else "no growth is seen"),
        )
    return found, _dated(course, found, ahead.reason)


def _dated(course: Course, found: Saturation, reason: str) -> SaturationDate:
    end = course.hours[-1]

    def at(weeks: float) -> datetime | None:
        if not math.isfinite(weeks):
            return None
        return (end + pd.Timedelta(weeks * 7, "D")).floor("D").to_pydatetime()

    return SaturationDate(
        found.status,  # type: ignore[arg-type]
        reason,
        at(found.earliest),
        at(found.latest),
        found.earliest,
        found.latest if math.isfinite(found.latest) else None,
    )


def _limit(limit: Capacity | None) -> Limit | None:
    if limit is None:
        return None
    high = limit.high if math.isfinite(limit.high) else None
    return Limit(limit.per_second, limit.low, high, limit.lower_bound, limit.basis)


def _note(ahead: Forecast) -> ForecastNote:
    tested = ahead.back_test
    return ForecastNote(
        ahead.shown,
        ahead.reason,
        ahead.weeks,
        tested.origins if tested else 0,
        tested.model_error if tested else None,
        tested.naive_error if tested else None,
    )


def _loss_margin(course: Course) -> float | None:
    """Return how long records had left when the backlog took most of what the topic keeps."""
    use = _highest(course.retention_use)
    if use is None or course.kept_seconds is None:
        return None
    return max(0.0, 1.0 - use) * course.kept_seconds


def _survivable(
    course: Course, week: Array | None, limit: Capacity | None, promise: float
) -> Survivable:
    if week is None or limit is None:
        return Survivable(None, None, False)
    hour = int(np.argmax(week))
    within = survivable_stop(week, limit.low, promise, hour=hour)
    if course.kept_seconds is None:
        return Survivable(within, None, False)
    before = survivable_stop(week, limit.low, course.kept_seconds, hour=hour)
    return Survivable(within, before, course.kept_at_least)


def _needed(
    course: Course,
    ahead: Forecast,
    limit: Capacity | None,
    target: float,
    members: float | None,
    demand: Demand | None,
) -> Needed | None:
    if demand is None or limit is None or limit.lower_bound:
        return None
    peak = demand.peak
    season, line = ahead.season, ahead.line
    if season is not None and line is not None:
        weeks = np.array(float(QUARTER_WEEKS))
        upper = float(line.level(weeks) + line.quantile * line.error(weeks))
        peak = max(peak, upper * season.peak)
    partitions = course.partitions
    if not members:
        return Needed(
            QUARTER_WEEKS, peak, None, None,
            f"{peak / (target * limit.per_second):.1f} times the capacity of now; how many members "
            "made it is not exported",
        )  # fmt: skip
    working = min(members, partitions) if partitions else members
    each = limit.per_second / working
    wanted = max(1, math.ceil(peak / (target * each) - 1e-9))
    return Needed(
        QUARTER_WEEKS,
        peak,
        wanted,
        None if partitions is None else max(partitions, wanted),
        advice.what_helps(wanted, round(members), partitions, course.skew, peak, target * each),
    )


def _what_if(
    course: Course, week: Array | None, limit: Capacity | None, members: float | None
) -> tuple[WhatIf, ...]:
    if week is None or limit is None or limit.lower_bound:
        return ()
    hour = int(np.argmax(week))
    rate = limit.per_second
    cases: list[tuple[str, Array, float]] = [("a two-hour outage at the weekly peak", week, rate)]
    if members:
        most = course.partitions or math.inf
        have, more = min(members, most), min(members + 1, most)
        name = "with another replica"
        if more <= have:
            name += " (no partition is left for it)"
        cases.append((name, week, rate * more / have))
    cases += [
        ("with half the handling time", week, 2 * rate),
        ("with twice the demand", 2 * week, rate),
    ]
    rows = []
    for name, demand, capacity_then in cases:
        stop = after_stop(demand, capacity_then, OUTAGE_SECONDS, hour=hour)
        rows.append(
            WhatIf(
                name,
                OUTAGE_SECONDS,
                stop.catch_up_seconds,
                stop.oldest_seconds,
                float(demand.max() / capacity_then),
            )
        )
    return tuple(rows)


def _happened(course: Course, set_apart: Behind, unusual: Flags) -> tuple[Happened, ...]:
    found = [Happened(mark.at.to_pydatetime(), mark.kind, mark.text) for mark in course.marks]
    for one in set_apart.incidents:
        length = (one.last - one.first + 1) * 3600.0
        text = f"behind for about {duration(length)}, at most {one.peak_lag:,.0f} messages"
        if one.drain_per_second:
            text += f"; worked off at {one.drain_per_second:,.1f}/s"
        at = course.hours[one.first] - pd.Timedelta("1h")
        found.append(Happened(at.to_pydatetime(), "incident", text))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], unusual.astype("int8"), [0]])))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        at = course.hours[first] - pd.Timedelta("1h")
        usual = course.usual_of(first, last - first)
        text = f"a day with {usual:.0%} of its usual demand (a holiday?); not in the forecast"
        found.append(Happened(at.to_pydatetime(), "unusual day", text))
    if set_apart.regular.any():
        hours = len(np.unique(course.weekly[set_apart.regular]))
        at = course.hours[np.flatnonzero(set_apart.regular)[0]]
        text = f"behind in {plural(hours, 'hour')} of most weeks: this is its peak, and no incident"
        found.append(Happened(at.to_pydatetime(), "behind every week", text))
    found.sort(key=lambda one: (one.at, one.kind, one.text))
    if len(found) > MOST_HAPPENED:
        incidents = [one for one in found if one.kind != "incident"][:MOST_HAPPENED]
        rest = [one for one in found if one.kind == "incident"]
        found = sorted(
            incidents + rest[-max(0, MOST_HAPPENED - len(incidents)) :] if rest else incidents,
            key=lambda one: (one.at, one.kind, one.text),
        )[:MOST_HAPPENED]
    return tuple(found)


def _last(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known[-24:])) if len(known) else None


def _highest(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else None

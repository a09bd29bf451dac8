"""One group on one topic over weeks, as arrays over hours: rates, what is known, what happened.

Rates are differences of offset sums. What is no demand (a reset, a blip of the exporter, a jump) is
NaN and marked; a hole of one hour is bridged, because the offsets on both sides say what was in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lagkit.capacity.history import History

HOUR = 3600.0
WEEK_HOURS = 168
Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Wholes = NDArray[np.int64]

BRIDGED_HOURS = 2
"""A hole up to so long has the mean of both its sides."""
RESET_SHARE = 0.5
"""A log end that falls below this share of itself belongs to a new topic."""
JUMP = 30.0
"""An hour with this many times the 99th percentile of the others is no demand."""
STEADY_HOURS = 24
"""Members that stay this long are a change, not a restart."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened: when, what kind, in words."""

    at: pd.Timestamp
    kind: str
    text: str


@dataclass(slots=True, eq=False)
class Course:
    """The hours of one group on one topic; every array is over ``hours``, the ends of the hours."""

    group: str
    topic: str
    hours: pd.DatetimeIndex
    produced: Array
    """Mean rate of production in the hour, messages a second; NaN: not known."""
    produced_high: Array
    consumed: Array
    consumed_high: Array
    lag_high: Array
    retention_use: Array
    members: Array
    kept_seconds: float | None
    """The shortest time that the topic held its records, where it is known."""
    kept_at_least: bool
    """Nothing was deleted within the history: it is kept for longer than ``kept_seconds``."""
    partitions: int | None
    skew: float | None
    """Demand of the busiest partition, divided by that of the mean one."""
    partition_changes: list[tuple[pd.Timestamp, int, int]] = field(default_factory=list)
    member_changes: list[tuple[int, float, float]] = field(default_factory=list)
    """Position of the hour from which on there were so many members: before, after."""
    deploys: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    offsets_known: bool = True

    @property
    def weekly(self) -> Wholes:
        """Hour of the week of each hour, 0 is Monday 00:00 to 01:00 UTC."""
        begins = self.hours - pd.Timedelta("1h")
        return np.asarray(begins.day_of_week * 24 + begins.hour, dtype="int64")

    def usual_of(self, first: int, length: int) -> float:
        """Return demand in *length* hours from *first* on as a share of the same hours' median."""
        rows = self.produced[first : first + length]
        same = [
            self.produced[(first + shift) : (first + shift + length)]
            for shift in range(-first + first % WEEK_HOURS, len(self.hours) - first, WEEK_HOURS)
            if shift and first + shift + length <= len(self.hours)
        ]
        if not same or not np.isfinite(rows).any():
            return float("nan")
        usual = np.median([np.nanmean(part) for part in same if np.isfinite(part).any()])
        return float(np.nanmean(rows) / usual) if usual > 0 else float("nan")


def courses(history: History) -> Iterator[Course]:
    """Yield each group on each topic of *history*, in the order of their names."""
    flow = history.flow_hours
    if not len(flow):
        return
    hours = pd.date_range(flow["timestamp"].min(), flow["timestamp"].max(), freq="h")
    at = ((flow["timestamp"] - hours[0]) // pd.Timedelta("1h")).to_numpy()
    keys = flow[["group", "topic"]].apply(lambda column: column.astype("category"))
    code = (
        keys["group"].cat.codes.to_numpy().astype("int64") * len(keys["topic"].cat.categories)
        + keys["topic"].cat.codes.to_numpy()
    )
    order = np.argsort(code, kind="stable")
    edges = np.flatnonzero(np.diff(code[order])) + 1
    columns = {
        name: flow[name].to_numpy(dtype="float64")
        for name in flow.columns
        if name not in ("timestamp", "group", "topic", "dialect")
    }
    members = _members(history, hours)
    days = {str(topic): rows for topic, rows in history.partition_days.groupby("topic")}
    deploys = _deploys(history, hours)
    dialects = flow["dialect"].to_numpy(dtype=object)
    for rows in np.split(order, edges):
        first = rows[0]
        group, topic = str(flow["group"].iloc[first]), str(flow["topic"].iloc[first])
        values = {name: _spread(column[rows], at[rows], len(hours))
                  for name, column in columns.items()}  # fmt: skip
        course = _course(group, topic, hours, values)
        course.members = members.get(group, np.full(len(hours), np.nan))
        _partitions(course, days.get(topic))
        course.member_changes = _steady_changes(course.members)
        course.deploys = deploys.get(group, [])
        _dialect_marks(course, at[rows], dialects[rows])
        _change_marks(course)
        course.marks.sort(key=lambda mark: (mark.at, mark.kind, mark.text))
        yield course


def _spread(values: Array, at: Wholes, length: int) -> Array:
    spread = np.full(length, np.nan)
    spread[at] = values
    return spread


def _course(group: str, topic: str, hours: pd.DatetimeIndex, values: dict[str, Array]) -> Course:
    marks: list[Mark] = []
    end = np.where(values["log_end_sum"] >= 0, values["log_end_sum"], np.nan)
    committed = np.where(values["committed_sum"] >= 0, values["committed_sum"], np.nan)
    lag = np.where(values["lag_high"] >= 0, values["lag_high"], np.nan)
    lag = np.where(np.isnan(lag), np.maximum(end - committed, 0.0), lag)
    produced, resets = _rate(end)
    for hour in resets:
        marks.append(Mark(hours[hour], "topic re-created", "the log end fell: a new topic, or one "
                          "truncated; demand is counted from there on"))  # fmt: skip
    consumed, rewinds = _rate(committed)
    for hour in rewinds:
        if hour not in resets:
            marks.append(Mark(hours[hour], "offsets moved back", "the group reads records again"))
    produced, jumps = _plausible(produced)
    for hour in jumps:
        text = "a rise no producer can make; left out of the demand"
        marks.append(Mark(hours[hour], "jump of the log end", text))
    known = np.isfinite(end)
    missing = _holes(known)
    for first, last in missing:
        length = last - first
        if length > BRIDGED_HOURS:
            marks.append(Mark(hours[first], "gap", f"nothing was scraped for {length} h"))
    kept, at_least = _kept(end, values["log_start_sum"])
    high = np.fmax(
        np.where(values["produced_high"] >= 0, values["produced_high"], np.nan), produced
    )
    high[np.isnan(produced)] = np.nan
    return Course(
        group,
        topic,
        hours,
        produced,
        high,
        consumed,
        np.where(values["consumed_high"] >= 0, values["consumed_high"], np.nan),
        lag,
        np.where(values["retention_use"] >= 0, values["retention_use"], np.nan),
        np.full(len(hours), np.nan),
        kept,
        at_least,
        None,
        None,
        marks=marks,
        offsets_known=bool(np.isfinite(produced).any()),
    )


def _rate(offsets: Array) -> tuple[Array, list[int]]:
    """Return messages a second in each hour, and the hours at which the offsets began anew."""
    values = offsets.copy()
    resets: list[int] = []
    known = np.flatnonzero(np.isfinite(values))
    steps = np.diff(values[known])
    for place in np.flatnonzero(steps < 0):
        before, after = known[place], known[place + 1]
        follows = known[place + 2] if place + 2 < len(known) else None
        if follows is not None and values[follows] >= values[before]:
            values[after] = np.nan  # it was back an hour later: the exporter's blip
        elif values[after] < RESET_SHARE * values[before]:
            resets.append(int(after))
        # a small step back that stays is unknown for that hour, and no event
    known = np.flatnonzero(np.isfinite(values))
    rate = np.full(len(values), np.nan)
    if len(known) < 2:
        return rate, resets
    rise, apart = np.diff(values[known]), np.diff(known)
    good = (rise >= 0) & (apart <= BRIDGED_HOURS + 1)
    for back in range(BRIDGED_HOURS + 1):
        wide = good & (apart > back)
        rate[known[1:][wide] - back] = rise[wide] / (apart[wide] * HOUR)
    return rate, resets


def _plausible(rate: Array) -> tuple[Array, list[int]]:
    known = rate[np.isfinite(rate)]
    if len(known) < WEEK_HOURS:
        return rate, []
    usual = np.partition(known, int(0.99 * (len(known) - 1)))[int(0.99 * (len(known) - 1))]
    jumps = np.flatnonzero(rate > JUMP * max(usual, 1e-9)) if usual > 0 else np.array([], int)
    if not len(jumps):
        return rate, []
    cleaned = rate.copy()
    cleaned[jumps] = np.nan
    return cleaned, [int(hour) for hour in jumps[:10]]


def _holes(known: Flags) -> list[tuple[int, int]]:
    """Return [first, last) of each run of unknown hours that has known ones on both sides."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], known, [True]]).astype("int8")))
    return [
        (int(first), int(last))
        for first, last in zip(edges[::2], edges[1::2], strict=True)
        if first > 0 and last < len(known)
    ]


def _kept(end: Array, start: Array) -> tuple[float | None, bool]:
    """Return the shortest age of the oldest record over time, from the crossing of two curves.

    Where the log start has not passed the first known end, records are kept for longer than the
    history is: the answer is a lower bound then. Exact to the hour.
    """
    known = np.isfinite(end) & np.isfinite(start) & (start >= 0)
    if not known.any():
        return None, False
    hours = np.flatnonzero(known)
    ends = np.maximum.accumulate(end[hours])
    if (np.diff(end[hours]) < 0).any():
        return None, False  # begun anew: the curves of two topics
    reached = start[hours] > ends[0]
    if not reached.any():
        if (start[hours] <= 0).all():
            return None, False  # nothing was ever deleted
        return float((hours[-1] - hours[0]) * HOUR), True
    at = np.interp(start[hours][reached], ends, hours)
    return float((hours[reached] - at).min() * HOUR), False


def _members(history: History, hours: pd.DatetimeIndex) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for group, rows in history.member_hours.groupby("group"):
        at = ((rows["timestamp"] - hours[0]) // pd.Timedelta("1h")).to_numpy()
        inside = (at >= 0) & (at < len(hours))
        found[str(group)] = _spread(
            rows["member_count"].to_numpy(dtype="float64")[inside], at[inside], len(hours)
        )
    return found


def _deploys(history: History, hours: pd.DatetimeIndex) -> dict[str, list[int]]:
    """Return, per group, the hours at which its workload's generation rose."""
    found: dict[str, list[int]] = {}
    workloads = {
        (str(one), str(two)): rows
        for (one, two), rows in history.workload_hours.groupby(["namespace", "workload"])
    }
    for entry in history.runbook.groups:
        if entry.workload is None:
            continue
        rows = workloads.get((entry.workload.namespace, entry.workload.name))
        if rows is None:
            continue
        changed = rows["generation"].diff().to_numpy() > 0
        at = ((rows["timestamp"] - hours[0]) // pd.Timedelta("1h")).to_numpy()[changed]
        found[entry.name] = [int(hour) for hour in at if 0 <= hour < len(hours)]
    return found


def _partitions(course: Course, days: pd.DataFrame | None) -> None:
    if days is None or not len(days):
        return
    counts = days.groupby("timestamp")["partition"].nunique()
    usual = counts.cummax()
    for at, before, after in zip(
        usual.index[1:], usual.to_numpy()[:-1], usual.to_numpy()[1:], strict=True
    ):
        if after > before:
            course.partition_changes.append((at, int(before), int(after)))
    course.partitions = int(usual.iloc[-1])
    recent = days[days["timestamp"] >= days["timestamp"].max() - pd.Timedelta("28D")]
    ends = recent.groupby("partition")["log_end_offset"].agg(["first", "last"])
    rise = (ends["last"] - ends["first"]).clip(lower=0)
    if len(rise) > 1 and rise.sum() > 0:
        course.skew = float(rise.max() / rise.mean())


def _steady_changes(members: Array) -> list[tuple[int, float, float]]:
    """Return the hours from which on there were more or fewer members for at least a day."""
    known = np.flatnonzero(np.isfinite(members))
    if not len(known):
        return []
    values = members[known]
    edges = np.flatnonzero(np.diff(values)) + 1
    runs = np.split(np.arange(len(values)), edges)
    found: list[tuple[int, float, float]] = []
    steady: float | None = None
    for run in runs:
        if known[run[-1]] - known[run[0]] + 1 < STEADY_HOURS:
            continue
        value = float(values[run[0]])
        if steady is not None and value != steady:
            found.append((int(known[run[0]]), steady, value))
        steady = value
    return found


def _dialect_marks(course: Course, at: Wholes, told: NDArray[np.object_]) -> None:
    order = np.argsort(at)
    names = pd.Series(told[order]).ffill().to_numpy(dtype=object)
    for place in np.flatnonzero(names[1:] != names[:-1]) + 1:
        if pd.isna(names[place]) or pd.isna(names[place - 1]):
            continue
        course.marks.append(
            Mark(
                course.hours[at[order][place]],
                "exporter changed",
                f"{names[place - 1]} told the offsets before, {names[place]} since",
            )
        )


def _change_marks(course: Course) -> None:
    for at, before, after in course.partition_changes:
        text = f"{before} before, {after} since"
        course.marks.append(Mark(at, "partitions added", text))
    for hour, was, now in course.member_changes:
        text = f"{was:.0f} before, {now:.0f} since"
        course.marks.append(Mark(course.hours[hour], "members changed", text))
    for hour in course.deploys:
        course.marks.append(Mark(course.hours[hour], "deploy", "the workload's spec changed"))

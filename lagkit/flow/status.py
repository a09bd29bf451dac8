"""What each partition is doing, what the group is doing, and how unevenly the lag is spread.

Two opinions on a partition side by side: Burrow's (``lagkit.flow.burrow``), and the time-window
rules that avoid its known false alarms (lag.md 2.2). Membership comes in as a number; no module
here knows where it is from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from lagkit.flow import burrow
from lagkit.flow.backlog import TREND_SECONDS, Drain
from lagkit.flow.growth import CAUGHT_UP_SECONDS, Onset, onset, onset_by_partition
from lagkit.flow.joined import FALLING_BEHIND_SECONDS
from lagkit.flow.offsets import (
    GAP_STEPS,
    Array,
    Layout,
    layout,
    numbers,
    scrape_step,
    segments,
)
from lagkit.flow.timelag import time_lag

SHORTEST_STOP_SECONDS = 60.0
"""Silence below which nothing has stopped (lag.md 2.2)."""
STOP_COMMIT_GAPS = 3.0
"""The same in median gaps between commits of the partition."""
STOP_SCRAPES = 2.0
"""The same in scrape steps."""
TREND_SAMPLES = 24
"""Samples of a partition's window that the robust slope looks at."""
SIGNIFICANT = 1.96
"""Two-sided 95 % point of the Mann-Kendall statistic."""
STILL_UP = 0.5
"""Share of its peak above which lag that is little has not gone: it may have only begun."""
COME_BACK = 0.5
"""Of its lag, what is left after a commit of much that was read long before."""
AS_HIGH = 0.8
"""A sample may come a while before its tooth's tip."""
COMES_BACK_TIMES = 2
"""Once may be a rebalance that was waited for; twice is how this group commits."""
OUTLIER_Z = 3.5
"""Modified z above which a value is an outlier (Iglewicz and Hoaglin 1993)."""

Status = Literal[
    "OK", "SLOW", "STALL_OR_STOP", "STALL", "STOP", "REWIND", "LOST", "NO_COMMIT", "IDLE", "UNKNOWN"
]
State = Literal["growing", "draining", "stalled", "recovered", "healthy", "unknown"]


def partition_status(
    cleaned: pd.DataFrame,
    *,
    end: pd.Timestamp | None = None,
    members: int | None = None,
    promise_seconds: float = 60.0,
    window_seconds: float = TREND_SECONDS,
) -> pd.DataFrame:
    """Return the status of each partition at *end*, by lagkit's rules and by Burrow's.

    Parameters
    ----------
    cleaned
        From :func:`lagkit.flow.clean_offsets`.
    end
        Now; by default the last timestamp. Later samples are ignored.
    members
        Live members of the group, None if not known. It alone separates STALL (members, no
        progress) from STOP (nobody there): offsets look the same.
    promise_seconds
        Age of the oldest message the service promises not to exceed.
    window_seconds
        The fixed window of the trend.

    Returns
    -------
    group, topic, partition, ``status``, ``burrow``, ``lag_messages``, ``time_lag_seconds``,
    ``censored``, ``committed_offset`` (where it stands, or stands frozen), ``last_progress`` (last
    sample at which it moved, NaT: never seen to), ``frozen_since`` (NaT unless frozen; the first
    sample if it never moved), ``lag_slope_per_second``.

    First match: NO_COMMIT, UNKNOWN (no lag known in the last steps), LOST (committed < log start
    and records left), REWIND (not recovered), STALL/STOP/STALL_OR_STOP (lag, and no progress for
    max(3 median commit gaps, 2 steps, 60 s) during all of which the log was ahead), SLOW (advancing
    with lag rising significantly, and past the promise or on the way there within a window),
    IDLE (nothing to do and nothing done), OK. Lag 1 behind a still log is a transaction marker.
    Burrow's ring is rebuilt from the samples at which the offset moved: real commits without
    progress are not visible there, so its STALL shows as STOP.
    """
    if end is not None:
        cleaned = cleaned[cleaned["timestamp"] <= pd.Timestamp(end)].reset_index(drop=True)
    where = layout(cleaned)
    count = len(where.keys)
    if not count:
        return _status_frame(where, {})
    now = where.clock[-1] if end is None else ((pd.Timestamp(end) - where.times[0]).total_seconds())
    step = scrape_step(cleaned)
    step = 0.0 if np.isnan(step) else step
    series, seconds = where.series, where.seconds
    committed = numbers(cleaned, "committed_offset", where.order)
    log_end = numbers(cleaned, "log_end_offset", where.order)
    log_start = numbers(cleaned, "log_start_offset", where.order)
    lag = numbers(cleaned, "lag_messages", where.order)
    epoch = numbers(cleaned, "epoch", where.order)
    ages = time_lag(cleaned)
    age = ages["time_lag_seconds"].to_numpy()

    fresh = now - GAP_STEPS * max(step, 1e-6)
    at = {
        name: _last_row(~np.isnan(values), series, count)
        for name, values in (
            ("committed", committed),
            ("end", log_end),
            ("start", log_start),
            ("lag", lag),
            ("age", age),
        )
    }

    def last(values: Array, name: str) -> Array:
        return np.where(at[name] >= 0, values[np.maximum(at[name], 0)], np.nan)

    lag_now, age_now = last(lag, "lag"), last(age, "age")
    committed_now, start_now, end_now = (
        last(committed, "committed"),
        last(log_start, "start"),
        last(log_end, "end"),
    )
    stale = (at["lag"] < 0) | (last(seconds, "lag") < fresh)

    known = np.flatnonzero(~np.isnan(committed))
    part = segments(series, epoch)
    moved = np.diff(committed[known], prepend=np.nan) != 0
    moved &= np.diff(part[known], prepend=-1) == 0
    progress_rows = known[moved & (np.diff(committed[known], prepend=np.nan) > 0)]
    progress = _last_row_of(progress_rows, series, count)
    first_known = _first_row_of(known, series, count)
    progress_at = np.where(progress >= 0, seconds[np.maximum(progress, 0)], np.nan)
    since = np.where(
        progress >= 0,
        progress_at,
        np.where(
            first_known < len(series), seconds[np.minimum(first_known, len(series) - 1)], np.nan
        ),
    )

    gap = _median_gap(progress_rows, series, seconds, count)
    stop_age = np.fmax(
        np.fmax(STOP_COMMIT_GAPS * np.nan_to_num(gap), STOP_SCRAPES * step), SHORTEST_STOP_SECONDS
    )
    with np.errstate(invalid="ignore"):
        idle_rows = np.flatnonzero(lag <= 0)
    level = _last_row_of(idle_rows, series, count)
    ahead_since = np.where(
        level >= 0,
        seconds[np.maximum(level, 0)],
        seconds[np.minimum(_first_row_of(np.arange(len(series)), series, count), len(series) - 1)],
    )
    # a record that came after the last level sample is ahead from the next sample on
    ahead_for = now - ahead_since - np.where(level >= 0, step, 0.0)

    window = seconds >= now - window_seconds - 1e-6
    produced = _span(log_end, window, where)
    consumed = _span(committed, window, where)
    marker = (lag_now <= 1) & ~(produced > 0)
    slope, rising, falling = _robust_trend(lag, window, where)
    age_slope, _, _ = _robust_trend(age, window, where)

    high = np.fmax.reduceat(
        np.where(np.isnan(committed), -np.inf, committed),
        np.flatnonzero(np.diff(series, prepend=-1)),
    )
    recent = window & cleaned["rewound"].to_numpy()[where.order]
    rewinds = np.zeros(count, dtype=bool)
    rewinds[series[recent]] = True
    rewinds &= committed_now < high
    no_commit_rows = cleaned["no_commit"].to_numpy()[where.order]
    tail = _last_row_of(np.arange(len(series)), series, count)

    with np.errstate(invalid="ignore"):
        frozen = (lag_now > 0) & ~marker & (now - since >= stop_age) & (ahead_for >= stop_age)
        lost = (committed_now < start_now) & (start_now < end_now)
        late = (age_now > promise_seconds) | (
            age_now + np.nan_to_num(age_slope) * window_seconds > promise_seconds
        )
        slow = (lag_now > 0) & ~marker & late & (rising | ((age_now > promise_seconds) & ~falling))
        idle = (marker | (lag_now == 0)) & ~(produced > 0) & ~(consumed > 0)
    held = "STALL_OR_STOP" if members is None else ("STALL" if members > 0 else "STOP")
    status = np.select(
        [no_commit_rows[tail], stale, lost, rewinds, frozen, slow, idle],
        ["NO_COMMIT", "UNKNOWN", "LOST", "REWIND", held, "SLOW", "IDLE"],
        default="OK",
    )
    shows = frozen & ~stale & ~no_commit_rows[tail]
    return _status_frame(
        where,
        {
            "status": status,
            "burrow": _burrow(where, committed, log_end, lag, now),
            "lag_messages": lag_now,
            "time_lag_seconds": age_now,
            "censored": np.where(
                at["age"] >= 0, ages["censored"].to_numpy()[np.maximum(at["age"], 0)], False
            ).astype(bool),
            "committed_offset": committed_now,
            "last_progress": _moments(where, progress_at),
            "frozen_since": _moments(where, np.where(shows, since, np.nan)),
            "lag_slope_per_second": slope,
        },
    )


def without_markers(ages: pd.DataFrame, status: pd.DataFrame) -> pd.DataFrame:
    """Return *ages* without partitions where only a transaction's marker is left to read.

    Parameters
    ----------
    ages
        From :func:`lagkit.flow.time_lag`.
    status
        From :func:`partition_status`.

    A marker takes an offset and is given to no consumer, so one "record" stays unread behind a
    still log for ever. Where every partition is so, all are kept: nothing else has an age.
    """
    keys = ["topic", "partition"]
    markers = status.loc[(status["status"] == "IDLE") & (status["lag_messages"] == 1), keys]
    if ages.empty or markers.empty:
        return ages
    idle = pd.MultiIndex.from_frame(ages[keys]).isin(pd.MultiIndex.from_frame(markers))
    return ages if idle.all() else ages.loc[~idle]


_STATUS_DTYPES = {
    "status": "str",
    "burrow": "str",
    "lag_messages": "float64",
    "time_lag_seconds": "float64",
    "censored": "bool",
    "committed_offset": "float64",
    "last_progress": "datetime64[us, UTC]",
    "frozen_since": "datetime64[us, UTC]",
    "lag_slope_per_second": "float64",
}


def _status_frame(where: Layout, columns: dict[str, object]) -> pd.DataFrame:
    frame = where.keys.copy()
    for name, dtype in _STATUS_DTYPES.items():
        frame[name] = pd.Series(columns.get(name, []), index=frame.index).astype(dtype)
    return frame


def _moments(where: Layout, seconds: Array) -> pd.DatetimeIndex:
    unknown = np.isnan(seconds)
    micros = np.rint(np.where(unknown, 0.0, seconds) * 1e6).astype("int64") + where.times.asi8[0]
    moments = pd.DatetimeIndex(micros.view("datetime64[us]")).tz_localize("UTC")
    return moments.where(~unknown, pd.NaT)


def _last_row(mask: Array, series: Array, count: int) -> Array:
    return _last_row_of(np.flatnonzero(mask), series, count)


def _last_row_of(rows: Array, series: Array, count: int) -> Array:
    """Last of *rows* per series; -1 if none."""
    last = np.full(count, -1, dtype=np.int64)
    np.maximum.at(last, series[rows], rows)
    return last


def _first_row_of(rows: Array, series: Array, count: int) -> Array:
    """First of *rows* per series; the number of rows if none."""
    first = np.full(count, len(series), dtype=np.int64)
    np.minimum.at(first, series[rows], rows)
    return first


def _median_gap(rows: Array, series: Array, seconds: Array, count: int) -> Array:
    """Median seconds between neighbouring *rows* of one series; NaN below two."""
    out = np.full(count, np.nan)
    if len(rows) < 2:
        return out
    same = np.diff(series[rows]) == 0
    of, gap = series[rows][1:][same], np.diff(seconds[rows])[same]
    order = np.lexsort((gap, of))
    of, gap = of[order], gap[order]
    first = np.flatnonzero(np.diff(of, prepend=-1))
    size = np.diff(np.append(first, len(of)))
    out[of[first]] = (gap[first + (size - 1) // 2] + gap[first + size // 2]) / 2
    return out


def _span(values: Array, window: Array, where: Layout) -> Array:
    """Highest minus lowest known value of each series inside the window; NaN if none."""
    count = len(where.keys)
    high, low = np.full(count, -np.inf), np.full(count, np.inf)
    rows = np.flatnonzero(window & ~np.isnan(values))
    np.maximum.at(high, where.series[rows], values[rows])
    np.minimum.at(low, where.series[rows], values[rows])
    return np.where(high >= low, high - low, np.nan)


def _robust_trend(values: Array, window: Array, where: Layout) -> tuple[Array, Array, Array]:
    """Theil-Sen slope per second of each series, and whether Mann-Kendall calls it up or down."""
    count = len(where.keys)
    moments = np.unique(where.moment[window])
    if len(moments) < 4:
        none = np.zeros(count, dtype=bool)
        return np.full(count, np.nan), none, none
    pick = moments[np.unique(np.linspace(0, len(moments) - 1, TREND_SAMPLES).round().astype(int))]
    column = np.full(len(where.times), -1, dtype=np.int64)
    column[pick] = np.arange(len(pick))
    rows = np.flatnonzero(column[where.moment] >= 0)
    grid = np.full((count, len(pick)), np.nan)
    grid[where.series[rows], column[where.moment[rows]]] = values[rows]
    first, second = np.triu_indices(len(pick), 1)
    clock = where.clock[pick]
    slope = np.full(count, np.nan)
    score, variance = np.zeros(count), np.ones(count)
    # 276 pairs a series: blocks keep the matrix small
    for begin in range(0, count, 4096):
        part = grid[begin : begin + 4096]
        rise = part[:, second] - part[:, first]
        known = ~np.isnan(rise)
        some = known.any(axis=1)
        if some.any():
            slope[begin : begin + 4096][some] = np.nanmedian(
                rise[some] / (clock[second] - clock[first]), axis=1
            )
        n = (~np.isnan(part)).sum(axis=1).astype("float64")
        score[begin : begin + 4096] = np.nansum(np.sign(rise), axis=1)
        variance[begin : begin + 4096] = np.maximum(n * (n - 1) * (2 * n + 5) / 18.0, 1.0)
    z = np.sign(score) * np.maximum(np.abs(score) - 1, 0) / np.sqrt(variance)
    return slope, z > SIGNIFICANT, z < -SIGNIFICANT


def _burrow(where: Layout, committed: Array, log_end: Array, lag: Array, now: float) -> list[str]:
    """Apply Burrow's rules to the ring of samples at which each committed offset moved."""
    bounds = np.append(np.flatnonzero(np.diff(where.series, prepend=-1)), len(where.series))
    base_ms = where.times.asi8[0] // 1000
    now_seconds = int((base_ms + now * 1000) // 1000)
    found = []
    for begin, stop in pairwise(bounds):
        rows = np.flatnonzero(~np.isnan(committed[begin:stop])) + begin
        moved = rows[np.flatnonzero(np.diff(committed[rows], prepend=-1.0))][-burrow.INTERVALS :]
        ends = np.flatnonzero(~np.isnan(log_end[begin:stop])) + begin
        recent = ends[where.seconds[ends] >= now - burrow.INTERVALS * burrow.OFFSET_REFRESH_SECONDS]
        recent = recent if len(recent) else ends[-1:]
        if not len(moved) or not len(ends):
            found.append("OK")
            continue
        commits = [
            burrow.Commit(
                int(committed[row]),
                int(base_ms + round(where.seconds[row] * 1000)),
                None if np.isnan(lag[row]) else int(lag[row]),
            )
            for row in moved
        ]
        current = max(0, int(log_end[ends[-1]]) - commits[-1].offset)
        broker_end = [int(value) for value in log_end[recent]]
        found.append(burrow.evaluate(commits, broker_end, current, now_seconds))
    return found


def state(
    flow: pd.DataFrame,
    begin: Onset | None,
    drained: Drain | None,
    *,
    window_seconds: float = TREND_SECONDS,
) -> State:
    """Return what the group is doing at the end of *flow*.

    Parameters
    ----------
    flow
        From :func:`lagkit.flow.group_flow`.
    begin
        The onset found in it, or None.
    drained
        The drain at its end, or None if it could not be had.

    unknown: no lag known in the last steps. Caught up (less unread than a minute of production, but
    not a backlog of 15 s that is still near its peak): recovered after an onset, else healthy, also
    from one rare commit to the next. Else by the lag's robust slope and Mann-Kendall's test over
    the window, or since the peak or the onset if that is later: growing, draining, or
    stalled when it does neither; a group without onset
    that neither grows nor drains is healthy. Draining needs every partition with a backlog to be
    on its way: one that never gets there makes the group stalled.
    """
    lag = flow["lag_messages"].to_numpy(dtype="float64")
    known = np.flatnonzero(~np.isnan(lag))
    if not len(known) or len(lag) - 1 - known[-1] > GAP_STEPS:
        return "unknown"
    index = pd.DatetimeIndex(flow.index)
    turn = index[-1] - pd.to_timedelta(window_seconds, unit="s")
    if begin is not None and begin.at >= turn and begin.peak >= index[-2]:
        # a turn too young for a trend: the onset has found it significant already
        return "growing"
    if begin is not None:
        settled = int((index > begin.peak).sum()) >= 4
        turn = max(turn, begin.peak if settled else begin.at)
    inside = np.asarray(index >= turn)
    inside[-2:] = True
    part = flow[inside]
    length = (part.index[-1] - part.index[0]).total_seconds()
    ends = part["log_end_sum"].to_numpy(dtype="float64")
    produced = (ends[-1] - ends[0]) / length if length > 0 and not np.isnan(ends).any() else 0.0
    now = float(lag[known[-1]])
    still_up = begin is not None and now > max(
        STILL_UP * begin.peak_lag_messages, produced * FALLING_BEHIND_SECONDS
    )
    if now <= max(1.0, produced * CAUGHT_UP_SECONDS) and not still_up:
        if begin is None and comes_back(lag):
            return "healthy"
        if not _one_left_behind(drained):
            return "healthy" if begin is None else "recovered"
    where = layout(
        pd.DataFrame(
            {
                "timestamp": part.index,
                "group": "",
                "topic": "",
                "partition": 0,
            }
        )
    )
    slope, rising, falling = _robust_trend(
        part["lag_messages"].to_numpy(dtype="float64"), np.ones(len(part), dtype=bool), where
    )
    change = abs(float(slope[0])) * length
    if np.isnan(slope[0]):
        return "unknown"
    significant = change > max(1.0, 0.01 * now)
    if rising[0] and significant:
        return "growing"
    if falling[0] and significant:
        return "stalled" if _one_left_behind(drained) else "draining"
    return "healthy" if begin is None else "stalled"


def current_onset(cleaned: pd.DataFrame, flow: pd.DataFrame, drained: Drain | None) -> Onset | None:
    """Return the onset of what is wrong now: the group's, or that of the partitions left behind.

    Parameters
    ----------
    cleaned, flow
        From :func:`lagkit.flow.clean_offsets` and :func:`lagkit.flow.group_flow`.
    drained
        The drain at the end, which says what has caught up; None if it could not be had.

    A group that has caught up in total may still hold a partition that never will: a few records
    of one partition are nothing beside the production of all. Then the earliest onset among those
    partitions counts, also before one of the group that is over. While the group is still near its
    peak, however little that is, a partition that had lag all along says nothing.
    """
    whole = onset(flow) if len(flow) else None
    if drained is None:
        return whole
    lag = flow["lag_messages"].dropna()
    known = flow["produce_per_second"].dropna()
    usual = float(known.median()) if len(known) else 0.0
    over = len(lag) > 0 and float(lag.iloc[-1]) <= max(1.0, usual * CAUGHT_UP_SECONDS)
    if whole is not None and not over:
        return whole
    left = drained.partitions.loc[~drained.partitions["caught_up"]]
    left = left.loc[left["lag_messages"] > 0, ["topic", "partition"]]
    found = (
        onset_by_partition(cleaned).merge(left, on=["topic", "partition"]) if len(left) else left
    )
    if whole is not None and float(lag.iloc[-1]) > STILL_UP * whole.peak_lag_messages:
        found = _begun_before(whole, found)
    if found.empty:
        return whole
    first = found.loc[found["at"].idxmin()]
    return Onset(
        at=first["at"],
        earliest=first["earliest"],
        latest=first["latest"],
        drift_before_per_second=0.0,
        drift_after_per_second=float(first["drift_after_per_second"]),
        peak=first["peak"],
        peak_lag_messages=float(first["peak_lag_messages"]),
        censored=bool(first["censored"]),
    )


def _begun_before(whole: Onset, found: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of *found* that tell an earlier onset than *whole*, which has only begun."""
    if whole.censored or found.empty:
        return found
    return found.loc[~found["censored"] & (found["at"] < whole.at)]


def comes_back(lag: Array) -> bool:
    """Tell whether *lag* is a saw's tooth of those it has come back from, twice or more.

    Parameters
    ----------
    lag
        Messages, in order of time; NaN where not known.

    A group that commits by the thousand, or reads what comes in batches, is behind from each to
    the next. It has come back where the lag fell below half from one sample to the next, and is on
    its way to the same again while it is about as high as it was before it came back.
    """
    known = lag[~np.isnan(lag)]
    if not len(known):
        return False
    now = float(known[-1])
    # a fall is one sample to the next: what takes several is a backlog that is worked off
    falls = np.flatnonzero(known[1:] < COME_BACK * known[:-1])
    if len(falls) < COMES_BACK_TIMES:
        return False
    teeth = np.maximum.reduceat(known[: falls[-1] + 1], np.concatenate(([0], falls[:-1] + 1)))
    return int((teeth >= AS_HIGH * now).sum()) >= COMES_BACK_TIMES


def _one_left_behind(drained: Drain | None) -> bool:
    """Tell whether some partition holds a backlog that does not shrink at all."""
    if drained is None:
        return False
    frame = drained.partitions
    stuck = ~frame["caught_up"] & ~(frame["net_high"] > 0) & (frame["lag_messages"] > 0)
    return bool(stuck.any())


@dataclass(frozen=True, slots=True)
class Concentration:
    """How lag and production are spread over the partitions.

    ``partitions``: group, topic, partition, lag_messages, lag_share, lag_z, produced_messages,
    produced_share, produced_z, ``lag_outlier``, ``produced_outlier``. ``alignment``: see
    :func:`alignment`; empty without labels.
    """

    partitions: pd.DataFrame
    alignment: pd.DataFrame


def concentration(
    cleaned: pd.DataFrame,
    *,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    labels: pd.DataFrame | None = None,
) -> Concentration:
    """Return the share of the lag at *end*, and of the production since *start*, by partition.

    *labels* has topic, partition and one column per grouping (member, leader, …); see
    :func:`alignment`. The modified z, 0.6745 (x - median) / MAD, is not capped by the number of
    partitions as a z-score is (lag.md 2.3); with fewer than three partitions only the share can
    make an outlier (9/10), and above that it takes z > 3.5 and twice the even share.
    """
    frame = cleaned
    if start is not None:
        frame = frame[frame["timestamp"] >= pd.Timestamp(start)]
    if end is not None:
        frame = frame[frame["timestamp"] <= pd.Timestamp(end)]
    frame = frame.reset_index(drop=True)
    where = layout(frame)
    count = len(where.keys)
    lag = numbers(frame, "lag_messages", where.order)
    row = _last_row(~np.isnan(lag), where.series, count)
    lag_now = np.where(row >= 0, lag[np.maximum(row, 0)] if len(lag) else 0.0, np.nan)
    produced = _span(
        numbers(frame, "log_end_offset", where.order), np.ones(len(lag), dtype=bool), where
    )
    out = where.keys.copy()
    for name, values in (("lag", lag_now), ("produced", produced)):
        total = np.nansum(values)
        share = values / total if total > 0 else np.where(np.isnan(values), np.nan, 0.0)
        z = modified_z(values)
        known = int((~np.isnan(values)).sum())
        out[f"{name}_messages"] = values
        out[f"{name}_share"] = share
        out[f"{name}_z"] = z
        with np.errstate(invalid="ignore"):
            out[f"{name}_outlier"] = (
                (z > OUTLIER_Z) & (share >= 2.0 / known)
                if known > 2
                else (share >= 0.9) & (known == 2)
            )
    aligned = alignment(out, labels) if labels is not None else alignment(out, out[[]])
    return Concentration(out, aligned)


def modified_z(values: Array) -> Array:
    """Return 0.6745 (x - median) / MAD; with MAD 0 the mean absolute deviation x 1.2533 instead.

    NaN stays NaN; all equal gives 0. Source: Iglewicz and Hoaglin 1993.
    """
    values = np.asarray(values, dtype="float64")
    if np.isnan(values).all():
        return np.full(len(values), np.nan)
    distance = values - np.nanmedian(values)
    spread = np.nanmedian(np.abs(distance))
    if spread > 0:
        return np.asarray(0.6745 * distance / spread)
    mean = np.nanmean(np.abs(distance))
    return np.asarray(distance / (1.253314 * mean)) if mean > 0 else distance * 0.0


def alignment(partitions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return how well each grouping of the partitions explains where the lag is (causes.md 3.2).

    Parameters
    ----------
    partitions
        topic, partition, lag_messages.
    labels
        topic, partition and one text column per grouping, e.g. member and leader.

    Returns
    -------
    One row per grouping: grouping, groups, partitions, ``explained`` (between-group share of the
    variance, eta squared), ``explained_adjusted`` (less what that many groups explain by chance;
    NaN when there is one group or one per partition, which says nothing), ``worst`` (label with
    the highest mean lag) and ``worst_share`` of the lag. Best first.
    """
    columns = [
        "grouping",
        "groups",
        "partitions",
        "explained",
        "explained_adjusted",
        "worst",
        "worst_share",
    ]
    names = [name for name in labels.columns if name not in ("group", "topic", "partition")]
    if not names:
        return pd.DataFrame(columns=columns)
    keys = ["topic", "partition"]
    joined = partitions[[*keys, "lag_messages"]].merge(labels[[*keys, *names]], on=keys)
    rows = []
    for name in names:
        part = joined.dropna(subset=[name, "lag_messages"])
        lag = part["lag_messages"].to_numpy(dtype="float64")
        if not len(part):
            continue
        total = float(((lag - lag.mean()) ** 2).sum())
        grouped = part.groupby(name, sort=True)["lag_messages"]
        means, sizes = grouped.mean(), grouped.size()
        between = float((sizes * (means - lag.mean()) ** 2).sum())
        explained = between / total if total > 0 else 0.0
        n, k = len(part), len(means)
        adjusted = 1 - (1 - explained) * (n - 1) / (n - k) if 1 < k < n else float("nan")
        worst = means.idxmax()
        share = float(grouped.sum()[worst] / lag.sum()) if lag.sum() > 0 else 0.0
        rows.append((name, k, n, explained, adjusted, str(worst), share))
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values(
        ["explained_adjusted", "grouping"], ascending=[False, True], ignore_index=True
    )

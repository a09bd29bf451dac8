"""Offset arithmetic at its root: clean samples, rates, and the group's totals over time.

Knows what exporters do to offsets (markers, skewed reads, staircases, gaps) and undoes it. Refuses
to know why: no cause, no threshold on lag, no clock. All frames are long, one row per sample and
partition; the work is done on flat arrays sorted by series and time, never per sample in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]

KEYS = ["group", "topic", "partition"]

SMALL_NEGATIVE_LAG = 100.0
"""Messages by which a skewed pair of reads may go negative; more is a signal (lag.md Q3)."""
SKEW_INTERVALS = 2.0
"""The same allowance in scrape intervals of production (lag.md Q3)."""
GAP_STEPS = 3.0
"""Scrape steps without a value after which a difference is unknown, not an average."""
LONGEST_REFRESH_STEPS = 40
"""A staircase longer than this is a quiet topic, not a slow exporter (60 s at 1.5 s steps)."""
CELLS_AT_ONCE = 4_000_000
"""Cells of a time x partition matrix held at once: 32 MB per float64 matrix."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of a frame seen as series: positions in (series, time) order and where each begins."""

    order: Array
    """Row positions sorted by series, then time."""
    series: Array
    """Series number of each sorted row."""
    moment: Array
    """Position of each sorted row in ``times``."""
    seconds: Array
    """Seconds since the first timestamp of the frame, per sorted row."""
    keys: pd.DataFrame
    """group, topic, partition of each series, sorted."""
    times: pd.DatetimeIndex
    """Distinct timestamps, ascending."""

    @property
    def clock(self) -> Array:
        """Seconds since the first timestamp, per distinct timestamp."""
        return seconds_of(self.times)


def layout(frame: pd.DataFrame) -> Layout:
    """Return how the rows of *frame* (timestamp, group, topic, partition, …) form series.

    The order of the rows does not matter. Raises ValueError if two rows share all four keys.
    """
    times = pd.DatetimeIndex(frame["timestamp"]).as_unit("us")
    moment, distinct = pd.factorize(times, sort=True)
    series = np.zeros(len(frame), dtype=np.int64)
    for key in KEYS:
        codes, labels = pd.factorize(frame[key], sort=True)
        series = series * max(1, len(labels)) + codes
    # hashing, then ranking the few distinct values, beats sorting every row
    codes, present = pd.factorize(series)
    rank = np.empty(len(present), dtype=np.int64)
    rank[np.argsort(present)] = np.arange(len(present))
    series = rank[codes]
    width = max(1, len(distinct))
    cells = len(present) * width
    position = series * width + moment
    if cells <= 4 * len(frame):
        # scatter beats sorting while the grid of series and times is nearly full
        grid = np.full(cells, -1, dtype=np.int64)
        grid[position] = np.arange(len(frame))
        order = grid[grid >= 0]
    else:
        order = np.argsort(position, kind="stable")
    if len(order) != len(frame) or (np.diff(position[order]) == 0).any():
        msg = "two rows share timestamp, group, topic and partition"
        raise ValueError(msg)
    series, moment = series[order], moment[order]
    first = np.flatnonzero(np.diff(series, prepend=-1))
    keys = frame[KEYS].iloc[order[first]].reset_index(drop=True)
    moments = pd.DatetimeIndex(distinct)
    return Layout(order, series, moment, seconds_of(moments)[moment], keys, moments)


def seconds_of(times: pd.DatetimeIndex) -> Array:
    """Return the seconds since the first of *times*."""
    micros = times.as_unit("us").asi8
    return (micros - micros[0]) / 1e6 if len(micros) else np.zeros(0)


def scrape_step(frame: pd.DataFrame) -> float:
    """Return the usual distance of neighbouring timestamps in seconds; NaN below two timestamps."""
    distinct = pd.unique(pd.DatetimeIndex(frame["timestamp"]).as_unit("us").asi8)
    micros = np.sort(distinct)
    return float(np.median(np.diff(micros))) / 1e6 if len(micros) > 1 else float("nan")


def numbers(frame: pd.DataFrame, column: str, order: Array) -> Array:
    """Return *column* as float64 in the given row order; all NaN if the frame lacks it."""
    if column not in frame.columns:
        return np.full(len(order), np.nan)
    values = frame[column].to_numpy(dtype="float64", na_value=np.nan)
    return np.asarray(values[order])


def _previous_known(values: Array, series: Array) -> Array:
    """Return, per row, the last known value before it in the same series; NaN if none."""
    rows = np.arange(len(values))
    known = ~np.isnan(values)
    last = np.maximum.accumulate(np.where(known, rows, -1)) if len(rows) else rows
    before = np.concatenate(([-1], last[:-1])) if len(rows) else rows
    usable = (before >= 0) & (series[np.maximum(before, 0)] == series)
    return np.where(usable, values[np.maximum(before, 0)], np.nan)


def _next_known(values: Array, series: Array) -> Array:
    return _previous_known(values[::-1], series[::-1])[::-1]


def last_known(values: Array, series: Array) -> Array:
    """Return, per row, its value or the last known one before it in its series; NaN if none."""
    return np.where(np.isnan(values), _previous_known(values, series), values)


def next_known(values: Array, series: Array) -> Array:
    """Return, per row, its value or the next known one after it in its series; NaN if none."""
    return np.where(np.isnan(values), _next_known(values, series), values)


CLEAN_FLAGS = (
    "no_commit",
    "negative_lag",
    "log_truncated",
    "phantom",
    "topic_recreated",
    "rewound",
    "false_zero",
)


def clean_offsets(offsets: pd.DataFrame) -> pd.DataFrame:
    """Return the frame `offsets` with markers, skew and resets taken out and named.

    Parameters
    ----------
    offsets
        Frame `offsets` of ``lagkit.frames``: raw, -1 kept, any row order.

    Returns
    -------
    One row per input row, sorted by group, topic, partition, timestamp. Offsets and lag in
    messages, float64, NaN where unknown:

    ``committed_offset, log_end_offset, log_start_offset``
        Negative markers are NaN (Q1). A committed offset that an exporter leaves out is end minus
        reported lag, as kminion documents.
    ``lag_messages``
        max(0, end - committed) where both are known, else the reported lag if it is not negative.
    ``lag_consumable``
        end - max(committed, start): what can still be read (Q5); NaN while start is unknown.
    ``lag_raw``
        The same before clamping.
    ``no_commit``
        The exporter says -1, or nothing yet, while other partitions of the topic have a commit.
    ``negative_lag``
        Clamped: end was read before committed (Q3). ``log_truncated``: too large for that, below
        -max(100, 2 x production of one interval).
    ``phantom``
        committed < log start: records deleted unread (Q5).
    ``topic_recreated``
        Log end fell and stayed down (Q25); ``epoch`` counts these per series, and no difference
        is ever taken across one.
    ``rewound``
        Committed offset fell within an epoch.
    ``false_zero``
        Reported lag 0 without a log end to check it against (Q26, Q24, Q30): unknown.

    Source: lag.md 1.3 and 10. ValueError if two rows share their keys.
    """
    where = layout(offsets)
    series = where.series
    committed_raw = numbers(offsets, "committed_offset", where.order)
    end = numbers(offsets, "log_end_offset", where.order)
    start = numbers(offsets, "log_start_offset", where.order)
    reported = numbers(offsets, "lag_messages", where.order)

    with np.errstate(invalid="ignore"):
        marked = committed_raw < 0
        committed = np.where(marked, np.nan, committed_raw)
        end = np.where(end < 0, np.nan, end)
        start = np.where(start < 0, np.nan, start)
        marked |= np.isnan(committed) & (reported < 0)
        reported = np.where(reported < 0, np.nan, reported)
        derivable = np.isnan(committed) & ~marked & (reported <= end)
        committed = np.where(derivable, end - reported, committed)

        before, after = _previous_known(end, series), _next_known(end, series)
        production = np.fmax(np.fmax(end - before, after - end), 0.0)
        allowance = np.fmax(SMALL_NEGATIVE_LAG, SKEW_INTERVALS * production)
        # one low reading that the next one takes back is a stale replica, not a new topic (Q8)
        glitch = (end < before) & (after >= before) & (before - end <= allowance)
        end = np.where(glitch, np.nan, end)
        recreated = end < _previous_known(end, series)
        epoch = np.cumsum(recreated)
        first = np.flatnonzero(np.diff(series, prepend=-1))
        epoch = epoch - np.repeat(epoch[first], np.diff(np.append(first, len(series))))
        segment = segments(series, epoch)

        rewound = committed < _previous_known(committed, segment)
        false_zero = np.isnan(end) & (reported == 0)

        raw = np.where(np.isnan(end) | np.isnan(committed), reported, end - committed)
        raw = np.where(false_zero, np.nan, raw)
        truncated = raw < -allowance
        lag = np.fmax(raw, 0.0)
        lag[np.isnan(raw)] = np.nan
        consumable = np.fmax(end - np.maximum(committed, start), 0.0)
        consumable[np.isnan(end) | np.isnan(committed) | np.isnan(start)] = np.nan

    topics = pd.factorize(pd.MultiIndex.from_frame(where.keys[["group", "topic"]]))[0]
    spot = topics[series] * max(1, len(where.times)) + where.moment
    committing = np.bincount(spot, weights=~np.isnan(committed)) > 0
    never_before = np.isnan(committed) & np.isnan(_previous_known(committed, segment))
    known_here = ~np.isnan(end) | marked
    no_commit = marked | (never_before & known_here & committing[spot])

    keys = offsets[["timestamp", *KEYS]].iloc[where.order].reset_index(drop=True)
    return keys.assign(
        committed_offset=committed,
        log_end_offset=end,
        log_start_offset=start,
        lag_messages=lag,
        lag_consumable=consumable,
        lag_raw=raw,
        no_commit=no_commit,
        negative_lag=raw < 0,
        log_truncated=truncated,
        phantom=committed < start,
        topic_recreated=recreated,
        rewound=rewound,
        false_zero=false_zero,
        epoch=epoch.astype("int64"),
    )


def segments(series: Array, epoch: Array) -> Array:
    """Return the number of each run of one series and one epoch, ascending."""
    if not len(series):
        return np.zeros(0, dtype=np.int64)
    change = np.diff(series, prepend=series[0]) != 0
    change |= np.diff(epoch, prepend=epoch[0]) != 0
    return np.asarray(np.cumsum(change))


def refresh_steps(values: Array, segment: Array, moment: Array) -> int:
    """Return how many scrape steps an exporter takes to show new values; 1 when every step does.

    Exporters collect every 5 to 60 s, Prometheus may ask oftener: the series is a staircase and a
    difference over one step is 0 or several times the truth. All partitions then move at the same
    scrapes, so the gaps between scrapes at which *any* of them moved are the refresh interval, if
    they are regular; random gaps are a quiet topic and give 1.
    """
    return refresh_of(moved_at(values, segment, moment))


def moved_at(values: Array, segment: Array, moment: Array) -> Array:
    """Return the moments at which any series had changed since its last known value, ascending."""
    known = np.flatnonzero(~np.isnan(values))
    same = segment[known[1:]] == segment[known[:-1]]
    moved = same & (values[known[1:]] != values[known[:-1]])
    return np.flatnonzero(np.bincount(moment[known[1:]][moved]))


def refresh_of(moved: Array) -> int:
    """Return the refresh interval in steps that the moments of :func:`moved_at` show, else 1."""
    gaps = np.diff(moved)
    if len(gaps) < 5:
        return 1
    short, long = np.quantile(gaps, [0.1, 0.9], method="lower")
    regular = long <= 2 * short
    return int(long) if regular and long <= LONGEST_REFRESH_STEPS else 1


def _differences(
    values: Array, segment: Array, seconds: Array, steps: int, step: float, *, falls_break: bool
) -> Array:
    """Return change per second over the last *steps* known values of the same segment."""
    rate = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    if len(known) <= steps:
        return rate
    value, part, at = values[known], segment[known], seconds[known]
    broken = (np.diff(part) != 0) | (np.diff(at) > GAP_STEPS * step * 1.001)
    if falls_break:
        broken |= np.diff(value) < 0
    breaks = np.concatenate(([0], np.cumsum(broken)))
    whole = breaks[steps:] == breaks[:-steps]
    span = np.where(whole, at[steps:] - at[:-steps], np.nan)
    rate[known[steps:]] = (value[steps:] - value[:-steps]) / span
    return rate


def _window_steps(refresh: int, step: float, window_seconds: float | None) -> int:
    if window_seconds is None or not step > 0:
        return refresh
    return max(refresh, round(window_seconds / step))


def rates(cleaned: pd.DataFrame, *, window_seconds: float | None = None) -> pd.DataFrame:
    """Return produce and consume rates per timestamp and partition.

    Parameters
    ----------
    cleaned
        From :func:`clean_offsets`.
    window_seconds
        Smooth over this many seconds; by default over one refresh of the exporter, which is one
        step unless the series is a staircase (:func:`refresh_steps`).

    Returns
    -------
    timestamp, group, topic, partition, ``produce_per_second``, ``consume_per_second`` (messages
    per second, trailing difference of log end and committed offset). NaN where a value is
    unknown, across gaps of more than three steps, a recreated topic or (consume) a rewind.
    """
    where = layout(cleaned)
    step = scrape_step(cleaned)
    segment = segments(where.series, epochs(cleaned, where))
    steps = {
        name: _window_steps(
            refresh_steps(numbers(cleaned, source, where.order), segment, where.moment),
            step,
            window_seconds,
        )
        for name, source in RATES.items()
    }
    return rates_over(cleaned, where, steps)


RATES = {"produce_per_second": "log_end_offset", "consume_per_second": "committed_offset"}
"""Each rate and the offset it is the growth of."""


def rates_over(cleaned: pd.DataFrame, where: Layout, steps: Mapping[str, int]) -> pd.DataFrame:
    """Return :func:`rates` over so many known values each."""
    step = scrape_step(cleaned)
    segment = segments(where.series, epochs(cleaned, where))
    out = cleaned[["timestamp", *KEYS]].iloc[where.order].reset_index(drop=True)
    for name, source in RATES.items():
        values = numbers(cleaned, source, where.order)
        out[name] = _differences(
            values, segment, where.seconds, steps[name], step, falls_break=True
        )
    return out


def epochs(cleaned: pd.DataFrame, where: Layout) -> Array:
    """Return the epoch of each row, in the order of *where*."""
    return np.asarray(cleaned["epoch"].to_numpy(dtype="int64")[where.order])


@dataclass(frozen=True, slots=True)
class Curves:
    """Offsets of some series on one common clock: time x series matrices, gaps filled in.

    Between two known samples of one epoch a value is interpolated; before the first and after the
    last it is held, so a series that comes or goes is never a jump. A log end that restarts with
    its topic goes on from where it was: only growth counts.
    """

    end: Array
    committed: Array
    lag: Array
    lag_known: Array
    members: Array
    """Series number of each column."""


def curves(cleaned: pd.DataFrame, where: Layout, members: Array) -> Curves:
    """Return the filled matrices of the series numbered *members* (ascending)."""
    column = np.full(len(where.keys), -1, dtype=np.int64)
    column[members] = np.arange(len(members))
    rows = np.flatnonzero(column[where.series] >= 0)
    shape = (len(where.times), len(members))
    cell = where.moment[rows], column[where.series[rows]]

    def matrix(name: str) -> Array:
        grid = np.full(shape, np.nan)
        grid[cell] = numbers(cleaned, name, where.order)[rows]
        return grid

    end, committed = matrix("log_end_offset"), matrix("committed_offset")
    lag = matrix("lag_messages")
    lag_known = ~np.isnan(lag)
    both = ~np.isnan(end) & ~np.isnan(committed)
    end[~both] = np.nan
    committed[~both] = np.nan
    epoch = np.zeros(shape)
    epoch[cell] = numbers(cleaned, "epoch", where.order)[rows]
    if epoch.any():
        end, committed = _joined(end, committed, epoch)
    clock = where.clock
    return Curves(
        filled(end, clock, hold=True),
        filled(committed, clock, hold=True),
        filled(lag, clock, hold=False),
        lag_known,
        members,
    )


def _joined(end: Array, committed: Array, epoch: Array) -> tuple[Array, Array]:
    """Shift each epoch so that log end and lag go on from the epoch before."""
    for column in np.flatnonzero(epoch.any(axis=0)):
        known = np.flatnonzero(~np.isnan(end[:, column]))
        jump = np.diff(epoch[known, column]) > 0
        fall = np.diff(end[known, column])
        shift = np.concatenate(([0.0], np.cumsum(np.where(jump, fall, 0.0))))
        end[known, column] -= shift
        committed[known, column] -= shift
    return end, committed


def filled(grid: Array, clock: Array, *, hold: bool) -> Array:
    """Interpolate gaps down each column; outside the known range hold the edge, or leave NaN.

    Without *hold* the edge is still held over GAP_STEPS rows at the end: the last scrape of a
    series may be a step older than that of its neighbours.
    """
    known = ~np.isnan(grid)
    if known.all() or not len(grid):
        return grid
    rows = np.arange(len(grid))[:, None]
    before = np.maximum.accumulate(np.where(known, rows, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, rows, len(grid))[::-1], axis=0)[::-1]
    inside = (before >= 0) & (after < len(grid))
    low, high = np.maximum(before, 0), np.minimum(after, len(grid) - 1)
    left, right = np.take_along_axis(grid, low, 0), np.take_along_axis(grid, high, 0)
    span = clock[high] - clock[low]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(span > 0, (clock[:, None] - clock[low]) / span, 0.0)
        out = np.where(inside, left + (right - left) * part, np.nan)
    trailing = (before >= 0) & ~inside
    if hold:
        out = np.where(trailing, left, out)
        leading = (before < 0) & (after < len(grid))
        return np.where(leading, right, out)
    return np.where(trailing & (rows - before <= GAP_STEPS), left, out)


def blocks_of_series(where: Layout) -> list[Array]:
    """Return the series numbers in blocks small enough for one matrix."""
    size = max(1, CELLS_AT_ONCE // max(1, len(where.times)))
    return [
        np.arange(begin, min(begin + size, len(where.keys)))
        for begin in range(0, len(where.keys), size)
    ]


def group_flow(cleaned: pd.DataFrame) -> pd.DataFrame:
    """Return the totals over all partitions, indexed by timestamp.

    Columns
    -------
    ``lag_messages``
        Sum of the known lags; gaps inside a series are interpolated. NaN where none is known.
    ``log_end_sum``, ``committed_sum``
        Over partitions with both ends known at some time, filled so that a gap, a late first
        commit or a recreated topic is never a drop or a jump; ``log_end_sum`` never falls.
        NaN if no partition has both, and where no lag is known.
    ``produce_per_second``, ``consume_per_second``
        Their differences over one refresh of the exporter; a rewind makes consume NaN.
    ``partitions_known``, ``partitions_total``
        Partitions whose lag was really sampled then, and of the whole frame.
    """
    where = layout(cleaned)
    return sums(cleaned, where).frame(where.times, scrape_step(cleaned))


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over series per moment; :meth:`frame` makes of them what :func:`group_flow` returns."""

    lag: Array
    end: Array
    committed: Array
    counted: Array
    """Series whose lag is known then, or interpolated."""
    known: Array
    """Series whose lag was sampled then."""
    joint: int
    """Series with both ends known at some time."""
    series: int

    def __add__(self, other: Sums) -> Sums:
        """Return the sums over the series of both, at the same moments."""
        return Sums(
            self.lag + other.lag,
            self.end + other.end,
            self.committed + other.committed,
            self.counted + other.counted,
            self.known + other.known,
            self.joint + other.joint,
            self.series + other.series,
        )

    def frame(self, times: pd.DatetimeIndex, step: float) -> pd.DataFrame:
        """Return the totals as :func:`group_flow` does."""
        length = len(times)
        end, committed = self.end.copy(), self.committed.copy()
        # before the first sample and after the last one nothing stood still: nothing was seen
        unseen = (self.counted == 0) | (self.joint == 0)
        end[unseen], committed[unseen] = np.nan, np.nan
        one = np.zeros(length, dtype=np.int64)
        moment, clock = np.arange(length), seconds_of(times)
        speed = {
            name: _differences(
                total, one, clock, refresh_steps(total, one, moment), step, falls_break=True
            )
            for name, total in (("produce_per_second", end), ("consume_per_second", committed))
        }
        return pd.DataFrame(
            {
                "lag_messages": np.where(self.counted > 0, self.lag, np.nan),
                "log_end_sum": end,
                "committed_sum": committed,
                **speed,
                "partitions_known": self.known,
                "partitions_total": np.full(length, self.series, dtype=np.int64),
            },
            index=pd.DatetimeIndex(times, name="timestamp"),
        )


def sums(cleaned: pd.DataFrame, where: Layout) -> Sums:
    """Return the sums over all series of *cleaned*, gaps filled as :class:`Curves` fills them."""
    length = len(where.times)
    lag, end, committed = np.zeros(length), np.zeros(length), np.zeros(length)
    counted = np.zeros(length, dtype=np.int64)
    known = np.zeros(length, dtype=np.int64)
    joint = 0
    for members in blocks_of_series(where):
        part = curves(cleaned, where, members)
        both = ~np.isnan(part.end).all(axis=0) if length else np.zeros(0, dtype=bool)
        joint += int(both.sum())
        lag += np.nansum(part.lag, axis=1)
        counted += (~np.isnan(part.lag)).sum(axis=1)
        known += part.lag_known.sum(axis=1)
        end += part.end[:, both].sum(axis=1)
        committed += part.committed[:, both].sum(axis=1)
    return Sums(lag, end, committed, counted, known, joint, len(where.keys))

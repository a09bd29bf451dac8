"""Histories too long to hold: evaluated some partitions at a time, in memory that stays flat.

What ``clean_offsets``, ``rates``, ``time_lag`` and ``group_flow`` say of every sample, kept as
totals over time and a few numbers per partition. Most partitions of a history are *even*: scraped
at every moment, never reset, never read beyond their log end. Those are taken as series x time
matrices small enough for the processor's cache; the rest go through the functions named, row by
row. Both ways give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lagkit.flow.offsets import (
    CLEAN_FLAGS,
    GAP_STEPS,
    KEYS,
    RATES,
    Array,
    Sums,
    clean_offsets,
    epochs,
    filled,
    layout,
    moved_at,
    numbers,
    rates_over,
    refresh_of,
    scrape_step,
    seconds_of,
    segments,
    sums,
)
from lagkit.flow.timelag import time_lag

SERIES_AT_ONCE = 32
"""Rows of a matrix: 32 x 2,880 moments of a day are 0.7 MB, and a handful of them fit a cache."""
FEWEST_MOMENTS = 3
"""Below these there is no difference to take, and nothing to gain."""
LARGEST_RISE = 2.0**38
"""Messages between two samples up to which a position among 2**14 of them is exact in float64."""
MOST_MOMENTS = 2**14


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A history in short.

    ``group``: as :func:`lagkit.flow.group_flow`. ``partitions``: one row per partition, sorted by
    group, topic, partition: ``lag_messages``, ``time_lag_seconds``, ``produce_per_second``,
    ``consume_per_second`` (the last known value of each), the same with ``peak_`` in front
    (the highest), ``censored`` (some age is a lower bound) and ``unclean`` (samples that
    :func:`lagkit.flow.clean_offsets` flags).
    """

    group: pd.DataFrame
    partitions: pd.DataFrame


def evaluate(chunks: Iterable[pd.DataFrame]) -> Evaluation:
    """Return the evaluation of a history that comes in *chunks*, one held at a time.

    Parameters
    ----------
    chunks
        Frames `offsets` of ``lagkit.frames``, each with the whole history of its partitions, the
        partitions of a topic together. The refresh interval of the exporter is found per chunk.

    Raises
    ------
    ValueError
        No chunk, two rows share their keys, or a partition is in two chunks.
    """
    parts = [_chunk(chunk) for chunk in chunks if len(chunk)]
    if not parts:
        msg = "a history without a sample cannot be evaluated"
        raise ValueError(msg)
    times = parts[0].times
    for part in parts[1:]:
        times = times.union(part.times)
    times = times.copy()
    times.freq = None  # a union guesses one; group_flow has none
    whole = parts[0].over(times)
    for part in parts[1:]:
        whole = whole + part.over(times)
    partitions = pd.concat([part.partitions for part in parts], ignore_index=True)
    if partitions.duplicated(KEYS).any():
        msg = "a partition is in two chunks"
        raise ValueError(msg)
    step = scrape_step(pd.DataFrame({"timestamp": times}))
    return Evaluation(whole.frame(times, step), partitions.sort_values(KEYS, ignore_index=True))


@dataclass(frozen=True, slots=True)
class _Part:
    """One chunk, evaluated."""

    times: pd.DatetimeIndex
    sums: Sums
    partitions: pd.DataFrame

    def over(self, times: pd.DatetimeIndex) -> Sums:
        """Return the sums at *times*; a moment without any sample here is a gap of every series."""
        if len(times) == len(self.times):
            return self.sums
        at = times.get_indexer(self.times)
        clock = seconds_of(times)

        def spread(values: Array, *, hold: bool) -> Array:
            grid = np.full((len(times), 1), np.nan)
            grid[at, 0] = values
            return filled(grid, clock, hold=hold)[:, 0]

        lag = spread(np.where(self.sums.counted > 0, self.sums.lag, np.nan), hold=False)
        known = np.zeros(len(times), dtype=np.int64)
        known[at] = self.sums.known
        return Sums(
            np.nan_to_num(lag),
            spread(self.sums.end, hold=True),
            spread(self.sums.committed, hold=True),
            (~np.isnan(lag)).astype(np.int64),
            known,
            self.sums.joint,
            self.sums.series,
        )


# ── one chunk ───────────────────────────────────────────────────────────────────────────────────


def _chunk(frame: pd.DataFrame) -> _Part:
    grid = even_grid(frame)
    if grid is None:
        return _row_by_row(frame)
    history = _Even.of(frame, grid)
    cleaned = None
    moved = dict(history.moved)
    if not history.even.all():
        cleaned = _cleaned_rest(frame, history)
        where = layout(cleaned)
        segment = segments(where.series, epochs(cleaned, where))
        for name, column in RATES.items():
            values = numbers(cleaned, column, where.order)
            moved[name] = np.union1d(moved[name], moved_at(values, segment, where.moment))
    steps = {name: refresh_of(at) for name, at in moved.items()}
    total, partitions = history.evaluated(steps)
    if cleaned is not None:
        other = _described(cleaned, steps)
        total = total + other.sums
        partitions = pd.concat([partitions, other.partitions], ignore_index=True)
    return _Part(grid.times, total, partitions)


def _row_by_row(frame: pd.DataFrame) -> _Part:
    cleaned = clean_offsets(frame)
    where = layout(cleaned)
    segment = segments(where.series, epochs(cleaned, where))
    steps = {
        name: refresh_of(moved_at(numbers(cleaned, column, where.order), segment, where.moment))
        for name, column in RATES.items()
    }
    return _described(cleaned, steps)


def _described(cleaned: pd.DataFrame, steps: Mapping[str, int]) -> _Part:
    """Return the part that *cleaned* makes, with rates over so many steps."""
    where = layout(cleaned)
    rated, aged = rates_over(cleaned, where, steps), time_lag(cleaned)
    flags = cleaned[list(CLEAN_FLAGS)].to_numpy().any(axis=1)
    samples = cleaned[[*KEYS, "lag_messages"]].assign(
        time_lag_seconds=aged["time_lag_seconds"],
        produce_per_second=rated["produce_per_second"],
        consume_per_second=rated["consume_per_second"],
        censored=aged["censored"],
        unclean=flags,
    )
    # all of these frames are in the order of `cleaned`, which is sorted by series and time
    grouped = samples.groupby(where.series[np.argsort(where.order)], sort=True)
    measured = ["lag_messages", "time_lag_seconds", *RATES]
    last, peak = grouped[measured].last(), grouped[measured].max()
    described = where.keys.assign(
        **{name: last[name].to_numpy() for name in measured},
        **{f"peak_{name}": peak[name].to_numpy() for name in measured},
        censored=grouped["censored"].any().to_numpy(),
        unclean=grouped["unclean"].sum().to_numpy().astype("int64"),
    )
    return _Part(where.times, sums(cleaned, where), described)


def _cleaned_rest(frame: pd.DataFrame, history: _Even) -> pd.DataFrame:
    """Return the cleaned rows of the series that are not even.

    Whether another partition of the topic has committed counts for ``no_commit``: where a commit
    is unknown, one even series of the topic is cleaned too, as a witness, and left out again.
    """
    keys, even = history.grid.keys, history.even
    topics = ["group", "topic"]
    unsure = ~even & ~(history.committed.min(axis=1) >= 0)
    witnesses = keys.loc[even].drop_duplicates(topics).reset_index(names="place")
    witnesses = witnesses.merge(keys.loc[unsure, topics].drop_duplicates(), on=topics)
    witness = np.zeros(len(keys), dtype=bool)
    witness[witnesses["place"].to_numpy(dtype="int64")] = True
    chosen = np.flatnonzero(~even | witness)
    length = len(history.clock)
    rows = (np.arange(length)[:, None] * len(keys) + chosen).ravel()
    cleaned = clean_offsets(frame.take(rows))
    # what was cleaned is sorted by series, each with a row a moment
    left_out = witness[keys.iloc[chosen].sort_values(KEYS).index].repeat(length)
    return cleaned.loc[~left_out].reset_index(drop=True)


# ── even histories ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class EvenGrid:
    """A frame whose rows are, moment after moment, the same series in the same order."""

    times: pd.DatetimeIndex
    keys: pd.DataFrame
    """group, topic, partition in the order of the rows."""


def even_grid(frame: pd.DataFrame) -> EvenGrid | None:
    """Return the grid that *frame* is, as ``lagkit.frames`` sorts a history without gaps; or None.

    Every key of every row is compared; nothing is sorted or hashed.
    """
    times = pd.DatetimeIndex(frame["timestamp"]).as_unit("us")
    micros = times.asi8
    width = int(np.argmax(micros != micros[0])) if len(micros) else 0
    if width == 0 or len(micros) % width or frame["partition"].isna().any():
        return None
    moments = micros.reshape(-1, width)
    partition = frame["partition"].to_numpy(dtype="int64").reshape(-1, width)
    if (
        not FEWEST_MOMENTS <= len(moments) <= MOST_MOMENTS
        or (np.diff(moments[:, 0]) <= 0).any()
        or (moments != moments[:, :1]).any()
        or (partition != partition[0]).any()
        or not all(_repeats(frame[name], width) for name in ("group", "topic"))
    ):
        return None
    # taken, not sliced: a slice would keep the whole chunk in memory
    keys = frame[KEYS].take(np.arange(width)).reset_index(drop=True)
    moments_only = times.take(np.arange(0, len(times), width))
    return None if keys.duplicated().any() else EvenGrid(moments_only, keys)


def _repeats(texts: pd.Series[Any], width: int) -> bool:
    """Whether *texts* is its first *width* values over and over; compares bytes, builds no text."""
    import pyarrow as pa

    held = pa.array(texts, type=pa.large_string())
    if isinstance(held, pa.ChunkedArray):
        held = held.combine_chunks()
    if held.null_count:
        return False
    _, places, content = held.buffers()
    places = np.frombuffer(places, dtype=np.int64)[held.offset : held.offset + len(held) + 1]
    lengths = np.diff(places).reshape(-1, width)
    if (lengths != lengths[0]).any():
        return False
    bytes_ = np.frombuffer(content or b"", dtype=np.uint8)[places[0] : places[-1]]
    blocks = bytes_.reshape(len(lengths), -1)
    return bool((blocks == blocks[0]).all())


@dataclass(slots=True)
class _Even:
    """The even series of one chunk, series x time, and which they are."""

    grid: EvenGrid
    clock: Array
    step: float
    end: Array
    committed: Array
    even: Array
    """Per series of the grid."""
    moved: dict[str, Array]

    @classmethod
    def of(cls, frame: pd.DataFrame, grid: EvenGrid) -> _Even:
        """Return the history of *frame*; series that are not even stay in it, unused."""
        shape = len(grid.times), len(grid.keys)
        columns = {
            name: frame[name].to_numpy(dtype="float64", na_value=np.nan).reshape(shape)
            for name in ("committed_offset", "log_end_offset", "log_start_offset")
            if name in frame.columns
        }
        even = np.zeros(shape[1], dtype=bool)
        end = np.empty(shape[::-1])
        committed = np.empty(shape[::-1])
        changed = {name: np.zeros(shape[0] - 1, dtype=bool) for name in RATES}
        for members in _blocks(shape[1]):
            # transposed a block at a time: both sides of the copy stay in the cache
            end[members] = columns["log_end_offset"][:, members].T
            committed[members] = columns["committed_offset"][:, members].T
            rise, advance = np.diff(end[members], axis=1), np.diff(committed[members], axis=1)
            behind = end[members] - committed[members]
            # a comparison with NaN is false: one unknown offset and the series is not even
            found = rise.min(axis=1) >= 0
            found &= (rise.max(axis=1) <= LARGEST_RISE) & (advance.min(axis=1) >= 0)
            found &= (behind.min(axis=1) >= 0) & (committed[members, 0] >= 0)
            if "log_start_offset" in columns:
                start = columns["log_start_offset"][:, members]
                found &= ~(start > columns["committed_offset"][:, members]).any(axis=0)
            even[members] = found
            changed["produce_per_second"] |= (rise[found] > 0).any(axis=0)
            changed["consume_per_second"] |= (advance[found] > 0).any(axis=0)
        moved = {name: np.flatnonzero(at) + 1 for name, at in changed.items()}
        step = scrape_step(pd.DataFrame({"timestamp": grid.times}))
        return cls(grid, seconds_of(grid.times), step, end, committed, even, moved)

    def evaluated(self, steps: Mapping[str, int]) -> tuple[Sums, pd.DataFrame]:
        """Return sums and a row per even series, with rates over so many steps."""
        chosen = np.flatnonzero(self.even)
        length = len(self.clock)
        lag_sum, end_sum, committed_sum = np.zeros(length), np.zeros(length), np.zeros(length)
        found: list[dict[str, Array]] = []
        for members in _blocks(len(chosen)):
            rows = chosen[members]
            whole = len(rows) == rows[-1] - rows[0] + 1
            series: Array | slice = slice(rows[0], rows[-1] + 1) if whole else rows
            end, committed = self.end[series], self.committed[series]
            lag = end - committed
            age, censored = _ages(end, committed, lag, self.clock)
            lag_sum += lag.sum(axis=0)
            end_sum += end.sum(axis=0)
            committed_sum += committed.sum(axis=0)
            described = {
                "lag_messages": lag[:, -1].copy(),
                "time_lag_seconds": age[:, -1].copy(),
                "peak_lag_messages": lag.max(axis=1),
                "peak_time_lag_seconds": age.max(axis=1),
                "censored": censored,
            }
            for name, values in (("produce_per_second", end), ("consume_per_second", committed)):
                last, peak = _rates(values, self.clock, steps[name], self.step)
                described |= {name: last, f"peak_{name}": peak}
            found.append(described)
        count = len(chosen)
        full = np.full(length, count, dtype=np.int64)
        total = Sums(lag_sum, end_sum, committed_sum, full, full, count, count)
        keys = self.grid.keys.iloc[chosen].reset_index(drop=True)
        columns = ["lag_messages", "time_lag_seconds", *RATES]
        named = [*columns, *(f"peak_{name}" for name in columns), "censored"]
        return total, keys.assign(
            **{
                name: np.concatenate([part[name] for part in found]) if found else np.zeros(0)
                for name in named
            },
            unclean=np.zeros(count, dtype="int64"),
        ).astype({"censored": bool})


def _blocks(count: int) -> list[slice]:
    return [
        slice(begin, min(begin + SERIES_AT_ONCE, count))
        for begin in range(0, count, SERIES_AT_ONCE)
    ]


def _ages(end: Array, committed: Array, lag: Array, clock: Array) -> tuple[Array, Array]:
    """Return :func:`lagkit.flow.time_lag` of even series, and per series whether one is censored.

    ``np.interp`` walks along rising positions instead of searching each: asked for the position
    among the samples, it tells the last sample at which the log end had not passed the commit.
    """
    count, length = end.shape
    places = np.arange(length, dtype="float64")
    spot = np.empty(end.shape)
    for row in range(count):
        spot[row] = np.interp(committed[row], end[row], places, left=-1.0)
    left = spot.astype(np.int64)
    older = spot < 0
    np.maximum(left, 0, out=left)
    # beyond the last sample nothing rises and no time passes
    rise = np.ones(end.shape)
    np.subtract(end[:, 1:], end[:, :-1], out=rise[:, :-1])
    gap = np.append(np.diff(clock), 0.0)
    flat = left + (np.arange(count) * length)[:, None]
    written = committed - end.take(flat)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is older may divide by nothing
        written /= rise.take(flat)
        written *= gap.take(left)
    written += clock.take(left)
    if older.any():
        written[older] = clock[0]
    age = np.subtract(clock, written, out=written)
    age[lag == 0] = 0.0
    np.maximum(age, 0.0, out=age)
    censored: Array = np.any(older, axis=1)
    return age, censored


def _rates(values: Array, clock: Array, steps: int, step: float) -> tuple[Array, Array]:
    """Return the last known and the highest change per second over *steps* moments."""
    unknown = np.full(len(values), np.nan)
    if len(clock) <= steps:
        return unknown, unknown
    broken = np.append(0, np.cumsum(np.diff(clock) > GAP_STEPS * step * 1.001))
    span = np.where(broken[steps:] == broken[:-steps], clock[steps:] - clock[:-steps], np.nan)
    known = np.flatnonzero(~np.isnan(span))
    if not len(known):
        return unknown, unknown
    change = values[:, steps:] - values[:, :-steps]
    change /= span
    peak = change.max(axis=1) if len(known) == len(span) else change[:, known].max(axis=1)
    return change[:, known[-1]].copy(), peak

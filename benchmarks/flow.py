"""``lagkit.flow.evaluate`` beside one numpy pass over the same columns.

The job: a day of offsets of thousands of partitions, from the frame as sources make it, to lag,
rates and ages at every sample, kept as totals over time and last and highest values per
partition. lagkit compares every key, cleans what exporters spoil (here a partition in a hundred
has gaps, markers, a re-created topic, a rewind or skewed reads) and dates the oldest unread record.
The floor reads the same number columns once and takes lag, rates, sums and maxima: no keys, no
cleaning, no ages. ``with ages`` adds ``np.interp`` a partition. The pandas loop is what a notebook
does; it is timed on a few partitions and scaled, which is linear. Making the data is not counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd

from benchmarks import harness
from lagkit import flow

MOST = 10.0
FLAT = 1.25
"""Peak memory of the whole, of that of a fifth of it: what a flat curve may still wobble."""
PARTITIONS, CHUNK, SAMPLES, STEP = 10_000, 500, 2_880, 30
QUICK_PARTITIONS, QUICK_CHUNK, QUICK_SAMPLES = 60, 20, 120
LOOP_PARTITIONS = 20
TOPIC_PARTITIONS = 50
SPOILT = 0.01
PER_SECOND = 10


@functools.cache
def numbers(count: int, samples: int) -> pd.DataFrame:
    """Return times, partitions and offsets of *count* partitions, some of them spoilt."""
    random = np.random.default_rng(0)
    end = random.poisson(PER_SECOND * STEP, size=(samples, count)).cumsum(axis=0).astype("float64")
    behind = np.maximum(0, 2_000 * np.sin(np.linspace(0, 9, samples)))[:, None]
    committed = np.maximum.accumulate(np.maximum(end - behind, 0).round(), axis=0)
    for kind, column in enumerate(random.choice(count, max(1, round(SPOILT * count)), False)):
        _spoil(end[:, column], committed[:, column], kind % 5, random)
    times = pd.date_range("2026-11-22", periods=samples, freq=f"{STEP}s", tz="UTC").as_unit("us")
    return pd.DataFrame(
        {
            "timestamp": times.repeat(count),
            "group": pd.Series(["settlement-worker"], dtype="str").repeat(count * samples).array,
            "partition": pd.array(
                np.tile(np.arange(count) % TOPIC_PARTITIONS, samples), dtype="Int64"
            ),
            "committed_offset": committed.ravel(),
            "log_end_offset": end.ravel(),
            "log_start_offset": 0.0,
            "lag_messages": np.fmax(end - committed, 0).ravel(),
        }
    )


def history(count: int, samples: int, first: int) -> pd.DataFrame:
    """Return frame `offsets` of *count* partitions, in topics of their own for each *first*.

    Chunks share their numbers: no chunk fits a cache, so that helps nobody and saves making them.
    """
    names = [f"payments.orders.{first:05d}.{row // TOPIC_PARTITIONS:02d}" for row in range(count)]
    topics = pd.Series(names, dtype="str").take(np.tile(np.arange(count), samples))
    frame = numbers(count, samples).copy(deep=False)
    frame.insert(2, "topic", topics.array)
    return frame


def _spoil(end: np.ndarray, committed: np.ndarray, kind: int, random: np.random.Generator) -> None:
    """Do to one partition, in place, what exporters and people do."""
    at = random.integers(1, len(end) - 2, 5)
    first = int(at[0])
    if kind == 0:  # scrapes without a value
        end[at] = np.nan
    elif kind == 1:  # the marker for "never committed"
        committed[:first] = -1
    elif kind == 2:  # a topic deleted and made again
        end[first:] -= end[first]
        committed[first:] = np.minimum(committed[first:], end[first:])
    elif kind == 3:  # a reset of the group's offsets
        committed[first:] -= 50
    else:  # committed read after the log end
        committed[first] = end[first] + 7


def chunks(partitions: int, chunk: int, samples: int) -> Iterator[pd.DataFrame]:
    """Yield the history of *partitions*, *chunk* of them at a time."""
    for begin in range(0, partitions, chunk):
        yield history(min(chunk, partitions - begin), samples, begin)


def _columns(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    samples = frame["timestamp"].nunique()
    end, committed, start, reported = (
        frame[name].to_numpy().reshape(samples, -1)
        for name in ("log_end_offset", "committed_offset", "log_start_offset", "lag_messages")
    )
    return end, committed, start, reported


def one_pass(frames: Iterable[pd.DataFrame]) -> list[object]:
    """Take lag, rates, sums and maxima: the floor."""
    return [_one_pass(*_columns(frame)) for frame in frames]


def _one_pass(
    end: np.ndarray, committed: np.ndarray, start: np.ndarray, reported: np.ndarray
) -> object:
    lag = np.maximum(end - committed, 0)
    consumable = np.maximum(end - np.maximum(committed, start), 0)
    produced, consumed = np.diff(end, axis=0) / STEP, np.diff(committed, axis=0) / STEP
    return (
        [table.sum(axis=1) for table in (lag, end, committed)],
        [table.max(axis=0) for table in (lag, consumable, reported, produced, consumed)],
        [table[-1].copy() for table in (lag, produced, consumed)],
    )


def with_ages(frames: Iterable[pd.DataFrame]) -> None:
    """Take the pass, then date the oldest unread record of each partition by ``np.interp``."""
    for frame in frames:
        end, committed, start, reported = _columns(frame)
        _one_pass(end, committed, start, reported)
        clock = np.arange(len(end)) * float(STEP)
        for log_end, commits in zip(end.T.copy(), committed.T.copy(), strict=True):
            age = clock - np.interp(commits, log_end, clock)
            age.max()


def with_a_loop(frames: Iterable[pd.DataFrame]) -> None:
    """Do it with ``groupby``, ``diff`` and ``np.interp``, a partition at a time."""
    for frame in frames:
        for _, part in frame.groupby(["group", "topic", "partition"]):
            part = part.sort_values("timestamp")
            clock = part["timestamp"].astype("int64").to_numpy() / 1e6
            seconds = part["timestamp"].diff().dt.total_seconds()
            (part["log_end_offset"].diff() / seconds).max()
            (part["committed_offset"].diff() / seconds).max()
            flat = part.assign(clock=clock).drop_duplicates("log_end_offset", keep="last")
            age = clock - np.interp(part["committed_offset"], flat["log_end_offset"], flat["clock"])
            age.max()


def prepare_evaluation(partitions: int, chunk: int, samples: int) -> Callable[[], object]:
    """Return the work whose peak memory is measured: making a chunk and evaluating it."""
    flow.evaluate(chunks(min(partitions, 2), 1, samples))  # imports and buffers of the first call
    numbers(chunk, samples)
    return lambda: flow.evaluate(chunks(partitions, chunk, samples))


def measure(*, rounds: int, quick: bool = False) -> harness.Row:
    """Return the row; *quick*: a few thousand samples."""
    size = (QUICK_PARTITIONS, QUICK_CHUNK, QUICK_SAMPLES) if quick else (PARTITIONS, CHUNK, SAMPLES)
    partitions, chunk, samples = size
    few = min(LOOP_PARTITIONS, partitions)
    held = list(chunks(*size))
    loop = f"pandas loop, {few} partitions scaled"

    def scaled_loop() -> float:
        began = harness.cpu_seconds()
        with_a_loop(chunks(few, few, samples))
        return (harness.cpu_seconds() - began) * partitions / few

    seconds = harness.paired(
        {
            "lagkit.flow.evaluate": lambda: flow.evaluate(held),
            "one numpy pass": lambda: one_pass(held),
            "one numpy pass, with ages": lambda: with_ages(held),
            loop: scaled_loop,
        },
        rounds=rounds,
        clock=harness.cpu_seconds,
    )
    fifth = max(chunk, partitions // 5)
    peak = {
        f"{count:,} partitions": harness.peak_bytes(
            "benchmarks.flow:prepare_evaluation", count, chunk, samples
        )
        for count in (fifth, partitions)
    }
    ours = seconds["lagkit.flow.evaluate"]
    points = partitions * samples
    nanoseconds = [each / points * 1e9 for each in ours]
    return harness.Row(
        work=f"{partitions:,} partitions × {samples * STEP / 3600:g} h @ {STEP} s, "
        f"{points / 1e6:.1f} M points: evaluated from frames of {chunk:,} partitions.",
        seconds=seconds,
        clock="CPU",
        peak_bytes=peak,
        claims=[
            harness.Claim(
                "evaluation, of one numpy pass",
                harness.ratio(ours, seconds["one numpy pass"]),
                MOST,
            ),
            harness.Claim(
                f"peak memory of {partitions:,} partitions, of that of {fifth:,}",
                harness.single(peak[f"{partitions:,} partitions"] / peak[f"{fifth:,} partitions"]),
                FLAT,
            ),
        ],
        notes=[
            f"{min(nanoseconds):.0f} to {max(nanoseconds):.0f} ns a point",
            f"a partition in {1 / SPOILT:.0f} is spoilt and evaluated row by row",
            "peak memory is that of making and evaluating, above the numbers that chunks share",
        ],
    )

"""lagkit.flow against a naive pandas loop over partitions, and against a numpy floor.

    python -m benchmarks.flow [--partitions 1000] [--hours 24] [--step 30] [--chunk 1000]

The job of each: produce and consume rates, and the age of the oldest unread record, for every
sample. The loop is what a notebook does: ``groupby``, ``diff`` and ``np.interp`` a partition at a
time, without cleaning, censoring or gaps; it is timed on a few partitions and scaled, which is
linear. The floor is the same arithmetic on ready matrices that need no cleaning. Seconds are CPU
seconds of this process, so a busy machine changes little. Peak memory is of this process after
lagkit's run, before the others'.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd

from lagkit import flow

LOOP_PARTITIONS = 50


def history(partitions: int, samples: int, step: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    produced = random.poisson(10 * step, size=(samples, partitions)).cumsum(axis=0)
    behind = np.maximum(0, 2_000 * np.sin(np.linspace(0, 9, samples)))[:, None]
    committed = np.maximum.accumulate(np.maximum(produced - behind, 0).round(), axis=0)
    times = pd.date_range("2026-11-22", periods=samples, freq=f"{step}s", tz="UTC").as_unit("us")
    return pd.DataFrame(
        {
            "timestamp": times.repeat(partitions),
            "group": pd.Series(["g"], dtype="str").repeat(samples * partitions).to_numpy(),
            "topic": pd.Series(["t"], dtype="str").repeat(samples * partitions).to_numpy(),
            "partition": np.tile(np.arange(partitions), samples),
            "committed_offset": committed.ravel().astype("float64"),
            "log_end_offset": produced.ravel().astype("float64"),
            "log_start_offset": 0.0,
            "lag_messages": (produced - committed).ravel().astype("float64"),
        }
    )


def with_lagkit(frame: pd.DataFrame) -> dict[str, float]:
    seconds = {}
    began = time.process_time()
    cleaned = flow.clean_offsets(frame)
    seconds["clean_offsets"] = time.process_time() - began
    for name, step in (
        ("rates", flow.rates),
        ("time_lag", flow.time_lag),
        ("group_flow", flow.group_flow),
    ):
        began = time.process_time()
        step(cleaned)
        seconds[name] = time.process_time() - began
    return seconds


def with_a_loop(frame: pd.DataFrame) -> float:
    began = time.process_time()
    for _, part in frame.groupby(["group", "topic", "partition"]):
        part = part.sort_values("timestamp")
        clock = part["timestamp"].astype("int64") / 1e6
        seconds = part["timestamp"].diff().dt.total_seconds()
        part["produce_per_second"] = part["log_end_offset"].diff() / seconds
        part["consume_per_second"] = part["committed_offset"].diff() / seconds
        flat = part.drop_duplicates("log_end_offset", keep="last")
        written = np.interp(part["committed_offset"], flat["log_end_offset"], clock[flat.index])
        part["time_lag_seconds"] = clock - written
    return time.process_time() - began


def with_numpy_alone(frame: pd.DataFrame, samples: int, partitions: int, step: int) -> float:
    end = frame["log_end_offset"].to_numpy().reshape(samples, partitions)
    committed = frame["committed_offset"].to_numpy().reshape(samples, partitions)
    clock = np.arange(samples) * float(step)
    began = time.process_time()
    np.divide(np.diff(end, axis=0), step)
    np.divide(np.diff(committed, axis=0), step)
    columns_end, columns_committed = end.T.copy(), committed.T.copy()
    for partition in range(partitions):
        clock - np.interp(columns_committed[partition], columns_end[partition], clock)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--step", type=int, default=30)
    parser.add_argument("--chunk", type=int, default=1000, help="partitions held at once")
    options = parser.parse_args()
    samples = int(options.hours * 3600 / options.step)

    total: dict[str, float] = {}
    floor = 0.0
    peak_mb = 0.0
    for begin in range(0, options.partitions, options.chunk):
        count = min(options.chunk, options.partitions - begin)
        frame = history(count, samples, options.step, seed=begin)
        for name, seconds in with_lagkit(frame).items():
            total[name] = total.get(name, 0.0) + seconds
        peak_mb = max(peak_mb, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        floor += with_numpy_alone(frame, samples, count, options.step)
    few = min(LOOP_PARTITIONS, options.partitions)
    loop = with_a_loop(history(few, samples, options.step, seed=0)) * options.partitions / few

    points = samples * options.partitions
    same_job = total["clean_offsets"] + total["rates"] + total["time_lag"]
    print(f"{options.partitions:,} partitions x {samples:,} samples = {points / 1e6:.1f} M points")
    for name, seconds in total.items():
        print(f"  {name:14} {seconds:8.2f} s  {seconds / points * 1e9:7.0f} ns a point")
    print(f"  lagkit, same job (clean + rates + time_lag)  {same_job:8.2f} s")
    print(
        f"  pandas loop, scaled from {few} partitions     {loop:8.2f} s"
        f"   lagkit is {loop / same_job:.2f} times as fast"
    )
    print(
        f"  numpy floor, no cleaning, ready matrices     {floor:8.2f} s"
        f"   lagkit takes {same_job / floor:.1f} times as long"
    )
    print(f"  peak memory {peak_mb:,.0f} MB with {options.chunk:,} partitions at once")


if __name__ == "__main__":
    main()

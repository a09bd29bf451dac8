"""Queues whose every wait is known, sampled as an exporter would sample them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

GROUP, TOPIC = "deployment-worker", "deploy-requests"
START = pd.Timestamp("2026-11-23T02:00:00Z").as_unit("us")


def moment(seconds: float) -> pd.Timestamp:
    """Return START plus *seconds*."""
    return START + pd.to_timedelta(round(seconds * 1e6), unit="us")


def moments(seconds: Sequence[float] | np.ndarray) -> pd.DatetimeIndex:
    """Return START plus each of *seconds*."""
    micros = np.rint(np.asarray(seconds, dtype="float64") * 1e6).astype("int64")
    return pd.DatetimeIndex((micros + START.value // 1000).view("M8[us]")).tz_localize("UTC")


def offsets(
    seconds: Sequence[float] | np.ndarray,
    partitions: Mapping[int, Mapping[str, Sequence[float] | np.ndarray]],
    *,
    topic: str = TOPIC,
) -> pd.DataFrame:
    """Return the frame `offsets`: per partition the columns committed, end, start, lag."""
    names = {
        "committed": "committed_offset",
        "end": "log_end_offset",
        "start": "log_start_offset",
        "lag": "lag_messages",
    }
    parts = []
    for partition, columns in partitions.items():
        parts.append(
            pd.DataFrame(
                {
                    "timestamp": moments(seconds),
                    "group": GROUP,
                    "topic": topic,
                    "partition": partition,
                    **{
                        long: np.asarray(columns.get(short, np.full(len(seconds), np.nan)), "f8")
                        for short, long in names.items()
                    },
                    "query_id": "prometheus-01",
                }
            ).astype({"partition": "Int64"})
        )
    frame = pd.concat(parts, ignore_index=True)
    return frame.sort_values(["timestamp", "group", "topic", "partition"], ignore_index=True)


def queue(
    produce: np.ndarray, capacity: np.ndarray, *, backlog: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return log end and committed offset at each second's end: first in, first out.

    *produce* and *capacity* are messages per second, one per second; what is not consumed waits.
    """
    end = backlog + np.concatenate(([0.0], np.cumsum(produce)))
    could = np.concatenate(([0.0], np.cumsum(capacity)))
    # Lindley's recursion unrolled: idle capacity is lost, never saved
    spare = np.minimum.accumulate(np.minimum(np.concatenate(([0.0], (end - could)[1:])), 0.0))
    return end, could + spare

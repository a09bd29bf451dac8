"""An outage with its recovery, in which every message's wait is known, as two captures.

Six partitions; from OUTAGE to MENDED only one message in ten seconds and partition is read, then
four times what comes in. The first capture ends in the outage, the later one after the recovery;
they overlap, on the same grid of scrapes.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import incidents
import numpy as np
import pandas as pd
from replayed_queue import GROUP, moment, offsets, queue

from lagkit import frames
from lagkit.incident import Incident

SECONDS, STEP, PARTITIONS = 4500, 15, 6
OUTAGE, MENDED = 1200, 2100
FIRST_END, LATER_START = 1800, 1500
RATE, SLOW, FAST = 2.0, 0.1, 8.0
SUMMARY_NUMBERS = ("late", "total")


@functools.cache
def curves() -> tuple[np.ndarray, np.ndarray]:
    """Return log end and committed offset of each partition, by second."""
    produce = np.full(SECONDS, RATE)
    able = np.full(SECONDS, FAST)
    able[OUTAGE:MENDED] = SLOW
    pairs = [queue(produce, able) for _ in range(PARTITIONS)]
    return np.array([end for end, _ in pairs]), np.array([read for _, read in pairs])


def history(begin: int, stop: int, *, step: int = STEP, start: float | None = 0.0) -> pd.DataFrame:
    """Return frame `offsets` sampled from *begin* to *stop* seconds."""
    ends, reads = curves()
    seconds = np.arange(begin, stop + 1, step)
    columns = {
        number: {
            "end": ends[number][seconds],
            "committed": reads[number][seconds],
            **({} if start is None else {"start": np.full(len(seconds), start)}),
        }
        for number in range(PARTITIONS)
    }
    return frames.normalise("offsets", offsets(seconds, columns))


@functools.cache
def first() -> Incident:
    """Return the capture during the outage: slow AWX around it, as ``incidents`` makes it."""
    made = incidents.make("slow")
    tables = {
        "offsets": history(0, FIRST_END),
        "partitions": frames.empty("partitions"),
        "second_opinions": frames.empty("second_opinions"),
        "oldest_unread": frames.empty("oldest_unread"),
        "alerts": alerts((1320, 1500, FIRST_END)),
    }
    return replace(
        incidents.with_tables(made, **tables),
        start=moment(0),
        end=moment(FIRST_END),
        captured_at=moment(FIRST_END + 4),
        id="20261123T023004Z-outage",
    )


@functools.cache
def later() -> Incident:
    """Return the capture after the recovery."""
    made = incidents.make("calm")
    empty = {name: frames.empty(name) for name in frames.FRAMES}
    tables = {
        **empty,
        "offsets": history(LATER_START, SECONDS),
        "group_history": made.group_history.assign(
            timestamp=made.group_history["timestamp"] + pd.Timedelta(seconds=LATER_START)
        ),
        "alerts": alerts((1320, 1500, 2700), begin=LATER_START),
        "queries": made.queries,
        "group_state": made.group_state.assign(timestamp=moment(SECONDS)),
        "configs": made.configs,
    }
    return replace(
        incidents.with_tables(made, **tables),
        start=moment(LATER_START),
        end=moment(SECONDS),
        captured_at=moment(SECONDS + 4),
        id="20261123T031504Z-after",
    )


def alerts(times: tuple[int, int, int], *, begin: int = 0) -> pd.DataFrame:
    """Return an alert that is true from, fires from and ends at *times*."""
    true, fired, ended = times
    rows = [
        {
            "timestamp": moment(second),
            "alert": "LagGrowing",
            "state": "firing" if second >= fired else "pending",
            "group": GROUP,
            "severity": "page",
            "active_at": moment(true),
            "labels": "{}",
            "query_id": "prometheus-03",
        }
        for second in range(max(true, begin), ended + 1, STEP)
    ]
    return frames.normalise("alerts", rows)

"""Whose clock is wrong: the sources are put on the clock of the machine that asked them.

Causes are told apart by what came first, so that five minutes between the clocks of Prometheus and
Kubernetes would turn a verdict around. What a source measured of its clock (the fact
``clock_skew_seconds``, from an HTTP Date header) is taken out of its times. What only shows in the
data is said, and lowers the confidence; it corrects nothing, for silence can look like it. The
module knows times and frames, and no cause.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.incident import Gap, Incident

FACT = "clock_skew_seconds"
REMOVED_FACT = "clock_skew_removed_seconds"
AGREE_SECONDS = 2.0
"""A Date header has whole seconds and a request takes a while: within this, clocks agree."""
DOUBT_SECONDS = 120.0
"""Less than this between two readings of the log end can be a change of the production rate."""
RATE_SECONDS = 120.0
"""The production rate at the end of the history is taken over this long."""
LEAST_RECORDS = 10
"""Fewer records than this in DOUBT_SECONDS are no clock."""
SHIFTED_SOURCES = ("prometheus", "kubernetes")
OURS = {
    "kubernetes": dict.fromkeys(
        ("pods", "workloads", "autoscalers", "nodes", "quotas"), frozenset({"timestamp"})
    ),
}
"""By source and frame the times at which we looked, not those that the source says."""
_FIX = "Compare the clocks with an NTP server (chronyc tracking), this machine's first."


@dataclass(frozen=True, slots=True)
class Doubt:
    """A clock that seems wrong: *seconds* ahead (negative: behind), as *why* tells."""

    source: str
    seconds: float
    why: str


def aligned(incident: Incident) -> tuple[Incident, tuple[Doubt, ...]]:
    """Return *incident* on one clock, and the doubts that remain.

    Both are named in its coverage. Done twice it changes nothing more.
    """
    tables, facts = dict(incident.tables), {k: dict(v) for k, v in incident.facts.items()}
    gaps: list[Gap] = []
    for source in SHIFTED_SOURCES:
        seconds = _measured(incident, source)
        if abs(seconds) < AGREE_SECONDS:
            continue
        facts[source][REMOVED_FACT] = facts[source].pop(FACT)
        for name, table in incident.tables.items():
            if frames.FRAMES[name].source == source and len(table):
                tables[name] = _moved(name, table, -seconds)
        gaps.append(
            Gap(
                source,
                f"the time by the clock of {source}",
                f"it is {_apart(seconds)} this machine's; the verdict rests on times moved to "
                "this machine's clock",
                _FIX,
            )
        )
    moved = replace(incident, tables=tables, facts=facts)
    doubts = tuple(_doubts(moved))
    gaps += [
        Gap(doubt.source, f"the time by the clock of {doubt.source}", doubt.why, _FIX)
        for doubt in doubts
    ]
    fresh = tuple(gap for gap in gaps if gap not in incident.coverage)
    if not fresh:
        return incident, doubts
    return replace(moved, coverage=(*fresh, *incident.coverage)), doubts


def _measured(incident: Incident, source: str) -> float:
    try:
        seconds = float(incident.facts.get(source, {}).get(FACT, "0"))
    except ValueError:  # a file from somewhere else
        return 0.0
    # more than a year is no drift, and not every time can be moved by it
    return seconds if abs(seconds) < pd.Timedelta("366D").total_seconds() else 0.0


def _moved(name: str, table: pd.DataFrame, seconds: float) -> pd.DataFrame:
    frame = frames.FRAMES[name]
    ours = OURS.get(frame.source, {}).get(name, frozenset())
    by = pd.Timedelta(seconds=seconds)
    changed = {
        column.name: (table[column.name] + by).astype(frames.TIME)
        for column in frame.columns
        if column.dtype == frames.TIME and column.name not in ours
    }
    return table.assign(**changed)


def _apart(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"


def _doubts(incident: Incident) -> Iterator[Doubt]:
    for source in SHIFTED_SOURCES:
        ahead = _from_the_future(incident, source)
        if ahead >= AGREE_SECONDS:
            yield Doubt(
                source,
                ahead,
                f"it wrote times up to {ahead:.0f} s after the capture, so its clock is ahead of "
                "this machine's by at least that; what came first is uncertain",
            )
            continue
        apart = _by_the_log_end(incident) if source == "prometheus" else math.nan
        if abs(apart) >= DOUBT_SECONDS:
            yield Doubt(
                source,
                apart,
                f"by the log end that it and the broker show, its clock is about {_apart(apart)} "
                "this machine's, or production changed as its history ended; what came first is "
                "uncertain",
            )


def _from_the_future(incident: Incident, source: str) -> float:
    """Return by how many seconds the newest time of *source* is later than the capture."""
    newest = [
        table[column.name].max()
        for name, table in incident.tables.items()
        for column in frames.FRAMES[name].columns
        if frames.FRAMES[name].source == source and column.dtype == frames.TIME and len(table)
    ]
    known = [moment for moment in newest if not pd.isna(moment)]
    if not known:
        return -math.inf
    return float((max(known) - incident.captured_at).total_seconds())


def _by_the_log_end(incident: Incident) -> float:
    """Return how far Prometheus' clock is ahead by the log end, a clock that both sources show.

    The broker's own log end at a time of ours is looked up in the history of exported ones; NaN
    where production does not tick.
    """
    history, own = incident.offsets, incident.partitions
    own = own.loc[own["log_end_offset"].notna()]
    history = history.loc[(history["log_end_offset"] >= 0)]
    if own.empty or history.empty:
        return math.nan
    at = own["timestamp"].min()
    place = ["topic", "partition"]
    broker = own.loc[own["timestamp"] == at].drop_duplicates(place).set_index(place)
    wide = history.pivot_table(
        index="timestamp", columns=place, values="log_end_offset", aggfunc="max"
    )
    shared = wide.columns.intersection(broker.index)
    if shared.empty:
        return math.nan
    total = wide[shared].dropna().sum(axis="columns").cummax()
    if len(total) < 2:
        return math.nan
    seconds = (total.index - at).total_seconds().to_numpy()
    ends = total.to_numpy()
    now = float(broker.loc[shared, "log_end_offset"].sum())
    recent = int(np.searchsorted(seconds, seconds[-1] - RATE_SECONDS))
    span = seconds[-1] - seconds[recent]
    rate = (ends[-1] - ends[recent]) / span if span > 0 else 0.0
    if rate * DOUBT_SECONDS < LEAST_RECORDS:
        return math.nan
    if now > ends[-1]:
        return float(seconds[-1] + (now - ends[-1]) / rate)
    if now < ends[0]:
        return math.nan
    return float(seconds[int(np.searchsorted(ends, now))])

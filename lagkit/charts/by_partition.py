"""Figures 3 to 5, by partition: which are late, how the worst one moved, and who served them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lagkit.charts.reading import (
    MOST_PARTITIONS,
    MOST_TABLE_ROWS,
    Investigated,
    drawn,
    epoch_ms,
    finite_max,
    finite_min,
    last_finite,
    member_marks,
    milliseconds,
    number_name,
    onset_marks,
    owner_names,
    partition_keys,
    partition_name,
    rows_height,
    sample_span,
    short_owner,
    window_ms,
    worst_first,
)
from lagkit.figure import Figure
from lagkit.figure.drawing import (
    BLUE,
    GAP_STEPS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    Arrow,
    Cells,
    Line,
    Numbers,
    Panel,
    Span,
    Spans,
    Table,
)
from lagkit.wording import count, duration, plural, printable

MOST_COLUMNS = 120
"""Columns of the heat map: each keeps the greatest age of its share of the window."""
LONGEST_COMMIT_PAUSE_MS = 60_000.0
"""Commits come every 5 s by default (auto.commit.interval.ms) and exporters show them up to 60 s
later (Redpanda's collection interval): a shorter pause says nothing."""


def partitions(result: Investigated) -> Figure:
    """Build figure 3: age per partition over time (one, one member's, or all)."""
    ages = result.flow.time_lag
    start, end = window_ms(result.verdict)
    keys = partition_keys(ages)
    peaks = {
        key: finite_max(part["time_lag_seconds"].to_numpy(dtype="float64"))
        for key, part in keys.items()
    }
    shown = worst_first(peaks)[:MOST_PARTITIONS]
    shown = [key for key in keys if key in set(shown)]
    span = sample_span(ages)
    columns = max(1, min(MOST_COLUMNS, int((end - start) / span) if span else MOST_COLUMNS))
    edges = np.linspace(start, end, columns + 1)
    values = np.full((len(shown), columns), np.nan)
    for row, key in enumerate(shown):
        part = keys[key]
        moments = epoch_ms(part["timestamp"])
        seconds = part["time_lag_seconds"].to_numpy(dtype="float64")
        column = np.clip(np.searchsorted(edges, moments, side="right") - 1, 0, columns - 1)
        good = np.isfinite(seconds)
        cells = np.full(columns, -np.inf)
        np.maximum.at(cells, column[good], seconds[good])
        values[row] = np.where(np.isinf(cells), np.nan, cells)
    low = 1.0
    promise = float(result.runbook_group.promise_seconds)
    high = max(10.0, promise, finite_max(values) or 0.0)
    owner = owner_names(result.owners)
    several = len({topic for topic, _ in shown}) > 1
    names = tuple(partition_name(key, owner.get(key, ""), several) for key in shown)
    late = [key for key in keys if (peaks[key] or 0.0) > promise]
    last = {key: last_finite(part["time_lag_seconds"]) for key, part in keys.items()}
    alt = (
        "Heat map of the age of the oldest unread message per partition over time, to see whether "
        f"one partition, one member's or all are late. {len(late)} of {len(keys)} partitions went "
        f"over the promise of {duration(promise)}"
        + (f"; the worst reached {duration(high)}." if late else ".")
    )
    rows = tuple(
        (
            f"{key[0]} / {number_name(key)}",
            owner.get(key, "unknown"),
            duration(peaks[key]),
            duration(last[key]),
            _status_of(result.flow, key),
        )
        for key in worst_first(peaks)[:MOST_TABLE_ROWS]
    )
    return Figure(
        name="partitions",
        title="Age by partition",
        question="Is one partition late, those of one member, or all?",
        alt=alt,
        caption=f"Logarithmic colour from {duration(low)} (dark) to {duration(high)} (bright); "
        "open cells had no sample. Vertical lines: the number of members changed, so partitions "
        "changed owner."
        + (
            f" {len(keys) - len(shown)} quieter partitions are left out."
            if len(keys) > len(shown)
            else ""
        ),
        panels=(
            Panel(
                "Partition, with its owner at capture",
                "age",
                (
                    Cells(
                        f"{duration(low)} dark to {duration(high)} bright",
                        edges,
                        values,
                        low,
                        high,
                        "s",
                    ),
                )
                if shown
                else (),
                rows=names,
                height=rows_height(len(shown)),
                note="" if shown else "no offset history: age by partition not known",
            ),
        ),
        table=Table(
            "Partitions, worst first",
            ("topic / partition", "owner", "greatest age", "age now", "status"),
            rows,
            max(0, len(keys) - MOST_TABLE_ROWS),
        ),
        x_range=(start, end),
        marks=onset_marks(result.verdict) + member_marks(result.incident),
    )


def cumulative(result: Investigated) -> Figure:
    """Build figure 4: end, committed and start offset of the worst partition (stuck, slow)."""
    keys = partition_keys(result.flow.time_lag)
    peaks = {
        key: finite_max(part["time_lag_seconds"].to_numpy(dtype="float64"))
        for key, part in keys.items()
    }
    cleaned = partition_keys(result.flow.cleaned)
    lags = {
        key: finite_max(part["lag_messages"].to_numpy(dtype="float64"))
        for key, part in cleaned.items()
    }
    ranked = worst_first(peaks) if any(peaks.values()) else worst_first(lags)
    key = ranked[0] if ranked else None
    traces: list[Any] = []
    rows: list[tuple[str, ...]] = []
    alt = (
        "Cumulative chart of log end and committed offsets of the worst partition, to tell "
        "stuck from slow. 0 partitions had an offset history."
    )
    title = "Worst partition"
    if key is not None and key in cleaned:
        part = cleaned[key].sort_values("timestamp")
        x = epoch_ms(part["timestamp"])
        lines = (
            ("log end offset", "log_end_offset", INK, "solid"),
            ("committed offset", "committed_offset", BLUE, "dash"),
            ("log start offset", "log_start_offset", ORANGE, "dot"),
        )
        for name, column, colour, dash in lines:
            y = part[column].to_numpy(dtype="float64")
            known = y[np.isfinite(y)]
            if known.size:
                traces.append(Line(name, *drawn(x, y), colour, dash=dash))  # type: ignore[arg-type]
            rows.append(
                (
                    name,
                    count(known[0] if known.size else None),
                    count(known[-1] if known.size else None),
                    count(known[-1] - known[0] if known.size else None),
                )
            )
        start_line = part["log_start_offset"].to_numpy(dtype="float64")
        if not _worth_drawing(part, start_line):
            # a log start far below would flatten the two lines that matter
            traces = [trace for trace in traces if trace.name != "log start offset"]
        arrow = _delay_arrow(part, keys.get(key))
        if arrow is not None:
            traces.append(arrow)
        frozen = _frozen_seconds(part)
        title = f"{printable(key[0], limit=80)} / {number_name(key)}"
        alt = (
            "Cumulative chart of log end and committed offsets of the worst partition "
            f"({title}), to tell stuck from slow. Its oldest message reached "
            f"{duration(peaks.get(key))}; its committed offset last stood still for "
            f"{duration(frozen)}."
        )
    return Figure(
        name="cumulative",
        title="The worst partition, message by message",
        question="Is it stuck, slow, rewound, skipped, or losing data?",
        alt=alt,
        caption="The vertical gap is the backlog, the horizontal arrow the longest delay. A flat "
        "committed line is stuck; a step down is a rewind; a log start above the committed line "
        "is loss.",
        panels=(
            Panel(
                title,
                "offset",
                tuple(traces),
                height=240,
                from_zero=False,
                note="" if traces else "no offset history of any partition",
            ),
        ),
        table=Table(
            "Offsets of the worst partition over the window",
            ("line", "first", "last", "change"),
            tuple(rows),
        ),
        x_range=window_ms(result.verdict),
        marks=onset_marks(result.verdict),
    )


def assignment(result: Investigated) -> Figure:
    """Build figure 5: members over time, and when each partition was served, by whom."""
    verdict, incident = result.verdict, result.incident
    start, end = window_ms(verdict)
    members = incident.group_history
    moments = epoch_ms(members["timestamp"]) if len(members) else np.array([])
    counts = members["member_count"].to_numpy(dtype="float64") if len(members) else np.array([])
    member_traces: list[Any] = []
    if np.isfinite(counts).any():
        member_traces.append(Line("members", *drawn(moments, counts), INK, step=True))
    gaps = _unstable_spans(members)
    served, stood, omitted = _served_spans(result)
    names = list(served)
    owner = owner_names(result.owners)
    several = len({topic for topic, _ in names}) > 1
    palette = (BLUE, ORANGE, GREEN, PURPLE, SKY_BLUE)
    owners = sorted({owner.get(key, "") for key in names})
    traces: list[Any] = []
    for position, who in enumerate(owners):
        spans = tuple(
            Span(row, a, b, who if index == 0 else "")
            for row, key in enumerate(names)
            if owner.get(key, "") == who
            for index, (a, b) in enumerate(served[key])
        )
        if spans:
            colour = palette[position % len(palette)] if who else GREY
            traces.append(Spans(short_owner(who) or "owner unknown", spans, colour))
    still = tuple(Span(row, a, b) for row, key in enumerate(names) for a, b in stood[key])
    if still:
        traces.append(Spans("no commit, messages waiting", still, VERMILLION, "x"))
    low, high = finite_min(counts), finite_max(counts)
    unowned = [key for key in names if not owner.get(key)] if len(result.owners) else []
    longest = max((b - a for a, b, _ in gaps), default=0.0) / 1000
    alt = (
        "Gantt chart of partitions served over time by member, to find a rebalance or a partition "
        "without owner. "
        + (
            "The number of members is not known; "
            if low is None
            else f"Members ranged from {count(low)} to {count(high)}; "
        )
        + f"{plural(len(gaps), 'spell')} outside Stable, the longest {duration(longest)}; "
        f"{plural(len(still), 'spell')} without a commit while messages waited"
        + (f"; {plural(len(unowned), 'partition')} had no owner at capture." if unowned else ".")
    )
    panels = [
        Panel(
            "Members of the group",
            "members",
            tuple(member_traces),
            height=80,
            note="" if member_traces else "no membership history",
        ),
    ]
    if gaps:
        panels.append(
            Panel(
                "Rebalancing",
                "",
                (
                    Spans(
                        "not Stable",
                        tuple(
                            Span(0, a, b, f"{name} {duration((b - a) / 1000)}")
                            for a, b, name in gaps
                        ),
                        VERMILLION,
                        "/",
                    ),
                ),
                rows=("group state",),
                height=34,
            )
        )
    panels.append(
        Panel(
            "Partitions being served",
            "",
            tuple(traces),
            rows=tuple(partition_name(key, "", several) for key in names),
            height=rows_height(len(names)),
            note="" if traces else "no offset history by partition",
        )
    )
    rows = tuple(
        (
            f"{key[0]} / {number_name(key)}",
            owner.get(key) or "unknown",
            duration(sum(b - a for a, b in served[key]) / 1000),
            duration(sum(b - a for a, b in stood[key]) / 1000),
        )
        for key in names[:MOST_TABLE_ROWS]
    )
    return Figure(
        name="assignment",
        title="Who served which partition",
        question="Was there a rebalance, and was any partition left without an owner?",
        alt=alt,
        caption="A bar is time in which the partition's committed offset moved; crosses are time "
        "in which it did not although messages waited. Owners are those at capture: who owned a "
        "partition before is not recorded by any source."
        + (f" {omitted} quieter partitions are left out." if omitted else ""),
        panels=tuple(panels),
        table=Table(
            "Partitions, their owner at capture, and how long they were served",
            ("topic / partition", "owner", "served for", "stood still for"),
            rows,
            omitted + max(0, len(names) - MOST_TABLE_ROWS),
        ),
        x_range=(start, end),
        marks=onset_marks(verdict) + member_marks(incident),
    )


def _status_of(flow_frames: Any, key: tuple[str, int]) -> str:
    status = getattr(flow_frames, "status", None)
    if not isinstance(status, pd.DataFrame) or not len(status) or "status" not in status.columns:
        return "not known"
    rows = status[(status["topic"] == key[0]) & (status["partition"] == key[1])]
    return printable(rows["status"].iloc[-1]) if len(rows) else "not known"


def _worth_drawing(part: pd.DataFrame, start_line: Numbers) -> bool:
    """Whether the log start is near enough to the other lines to be shown on their scale."""
    others = np.concatenate(
        [
            part["log_end_offset"].to_numpy(dtype="float64"),
            part["committed_offset"].to_numpy(dtype="float64"),
        ]
    )
    high, low = finite_max(others), finite_min(others)
    nearest = finite_max(start_line)
    if high is None or low is None or nearest is None:
        return False
    return nearest >= low - (high - low)


def _delay_arrow(part: pd.DataFrame, ages: pd.DataFrame | None) -> Arrow | None:
    """Return the arrow of the longest delay: from when that message was written until then."""
    if ages is None:
        return None
    known = ages.dropna(subset=["time_lag_seconds"])
    if not len(known):
        return None
    worst = known.loc[known["time_lag_seconds"].idxmax()]
    at = milliseconds(worst["timestamp"])
    seconds = float(worst["time_lag_seconds"])
    here = part[part["timestamp"] == worst["timestamp"]]["committed_offset"].dropna()
    if not len(here) or seconds <= 0:
        return None
    more = "≥ " if bool(worst["censored"]) else ""
    return Arrow(
        at - seconds * 1000, at, float(here.iloc[0]), f"longest delay {more}{duration(seconds)}"
    )


def _frozen_seconds(part: pd.DataFrame) -> float | None:
    """Return for how long the committed offset has not moved at the end of the window."""
    known = part.dropna(subset=["committed_offset"])
    if not len(known):
        return None
    moved = known[known["committed_offset"] != known["committed_offset"].iloc[-1]]
    since = moved["timestamp"].iloc[-1] if len(moved) else known["timestamp"].iloc[0]
    return float((known["timestamp"].iloc[-1] - since).total_seconds())


def _unstable_spans(history: pd.DataFrame) -> list[tuple[float, float, str]]:
    """Return (start, end, state) of each spell in which the group was not Stable."""
    states = history.dropna(subset=["state"])
    if not len(states):
        return []
    moments = epoch_ms(states["timestamp"])
    names = [str(name) for name in states["state"]]
    step = float(np.median(np.diff(moments))) if len(moments) > 1 else 0.0
    spans: list[tuple[float, float, str]] = []
    for at, name in zip(moments, names, strict=True):
        if name == "Stable":
            continue
        if spans and spans[-1][2] == name and at - spans[-1][1] <= 1.5 * step:
            spans[-1] = (spans[-1][0], float(at + step), name)
        else:
            spans.append((float(at), float(at + step), printable(name, limit=40)))
    return spans


def _served_spans(
    result: Investigated,
) -> tuple[
    dict[tuple[str, int], list[tuple[float, float]]],
    dict[tuple[str, int], list[tuple[float, float]]],
    int,
]:
    """Return per partition when commits moved, and when they did not while messages waited."""
    parts = partition_keys(result.flow.cleaned)
    lags = {
        key: finite_max(part["lag_messages"].to_numpy(dtype="float64"))
        for key, part in parts.items()
    }
    wanted = set(worst_first(lags)[:MOST_PARTITIONS])
    served: dict[tuple[str, int], list[tuple[float, float]]] = {}
    stood: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for key, part in parts.items():
        if key not in wanted:
            continue
        ordered = part.sort_values("timestamp")
        x = epoch_ms(ordered["timestamp"])
        committed = ordered["committed_offset"].to_numpy(dtype="float64")
        lag = ordered["lag_messages"].to_numpy(dtype="float64")
        steps = np.diff(x)
        sampled = steps <= GAP_STEPS * np.median(steps) if steps.size else np.zeros(0, dtype=bool)
        moved = (np.diff(committed) > 0) & sampled
        # a step without a commit is normal between two commits: a minute without one is not
        waiting = ~moved & sampled & (lag[1:] > 0) & (lag[:-1] > 0) & np.isfinite(committed[1:])
        served[key] = _intervals(x, moved, bridge_ms=LONGEST_COMMIT_PAUSE_MS)
        stood[key] = [
            (a, b)
            for a, b in _intervals(x, waiting, bridge_ms=0.0)
            if b - a >= LONGEST_COMMIT_PAUSE_MS
        ]
    return served, stood, len(parts) - len(served)


def _intervals(x: Numbers, steps: Any, *, bridge_ms: float) -> list[tuple[float, float]]:
    """Return the stretches of True steps between samples, joined over pauses up to *bridge_ms*."""
    found: list[tuple[float, float]] = []
    for index in np.flatnonzero(steps):
        start, end = float(x[index]), float(x[index + 1])
        if found and start - found[-1][1] <= bridge_ms:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found

"""Figures 1 and 2, over time: what happened when, and is it demand or capacity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lagkit.charts.reading import (
    MOST_EVENTS,
    MOST_TABLE_ROWS,
    Investigated,
    cell_text,
    drawn,
    epoch_ms,
    finite_max,
    group_column,
    member_changes,
    milliseconds,
    onset_marks,
    short_owner,
    window_ms,
)
from lagkit.figure import Figure
from lagkit.figure.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    VERMILLION,
    Area,
    Level,
    Line,
    Mark,
    Numbers,
    Panel,
    Points,
    Table,
    thin,
    with_gaps,
)
from lagkit.wording import clock, count, duration, number, onset_text, printable

if TYPE_CHECKING:
    from lagkit.model import Verdict

RETENTION_NEAR = 2.0
"""The retention line is drawn while the oldest age is within this factor of it."""
MOST_ALERT_MARKS = 8
"""Alerts drawn through all panels; the lane of alerts has the rest."""
LIFECYCLE_REASONS = frozenset(
    {"BackOff", "Unhealthy", "Failed", "FailedScheduling", "OOMKilling", "Evicted", "Killing"}
)
"""Events worth a mark although Kubernetes may call them Normal."""


def timeline(result: Investigated) -> Figure:
    """Build figure 1: oldest age, backlog and events over one time axis (what happened when)."""
    verdict, incident = result.verdict, result.incident
    promise = float(result.runbook_group.promise_seconds)
    worst, at_least = _worst_age(result.flow.time_lag)
    peak_age = finite_max(worst.to_numpy())
    unit, size = _time_unit(max(peak_age or 0.0, promise))
    moments = epoch_ms(worst.index)
    ages = worst.to_numpy(dtype="float64") / size
    age_traces: list[Any] = []
    if np.isfinite(ages).any():
        age_traces.append(Line("oldest unread message", *drawn(moments, ages), BLUE))
        bound = np.where(at_least.to_numpy(dtype=bool), ages, np.nan)
        if np.isfinite(bound).any():
            x, y = thin(*with_gaps(moments, bound))
            age_traces.append(
                Line("at least (window too short)", x, y, BLUE, dash="dot", marker="triangle-up")
            )
    levels = [Level(promise / size, f"promise {duration(promise)}")]
    retention = _retention_seconds(incident)
    if retention is not None and peak_age is not None and peak_age * RETENTION_NEAR >= retention:
        levels.append(Level(retention / size, f"retention {duration(retention)}", ORANGE, "dot"))
    lag = group_column(result.flow.group, "lag_messages")
    lag_x, lag_y = epoch_ms(lag.index), lag.to_numpy(dtype="float64")
    lag_traces = (
        (Line("unread messages", *drawn(lag_x, lag_y), VERMILLION, dash="dash"),)
        if np.isfinite(lag_y).any()
        else ()
    )
    lanes, rows = _event_lanes(result)
    peak_lag = finite_max(lag_y)
    if peak_age is None:
        reached = f"No age is known to compare with the promise of {duration(promise)}"
    else:
        reached = (
            f"The oldest unread message reached {duration(peak_age)} "
            f"({'above' if peak_age > promise else 'within'} the promise of {duration(promise)})"
        )
    alt = (
        f"Line charts of message age and backlog over time, to see what happened when. {reached}; "
        f"the greatest backlog was {_amount(peak_lag, 'messages')}"
        + (f"; it began {_onset_phrase(verdict)}." if verdict.onset else "; no onset was found.")
    )
    return Figure(
        name="timeline",
        title="What happened, when",
        question="When did it begin, what changed just before, and is the promise broken?",
        alt=alt,
        caption="Age of the oldest unread message of the worst partition, the backlog of the "
        "group, and events. A gap in a line is a missing sample, not a zero.",
        panels=(
            Panel(
                "Oldest unread message",
                unit,
                tuple(age_traces),
                tuple(levels),
                note="" if age_traces else "no offset history: age not known",
            ),
            Panel(
                "Backlog",
                "messages",
                lag_traces,
                height=130,
                note="" if lag_traces else "no offset history: backlog not known",
            ),
            lanes,
        ),
        table=_events_table(rows),
        x_range=window_ms(verdict),
        marks=_marks(result),
    )


def flow(result: Investigated) -> Figure:
    """Build figure 2: produce against consume rate, the gap hatched (demand or capacity)."""
    group = result.flow.group
    produced = group_column(group, "produce_per_second")
    consumed = group_column(group, "consume_per_second")
    x = epoch_ms(produced.index)
    p, c = produced.to_numpy(dtype="float64"), consumed.to_numpy(dtype="float64")
    behind = p > c
    traces: list[Any] = []
    if np.isfinite(p).any() or np.isfinite(c).any():
        traces = [
            Area("falling behind", *_stretch(x, p, c, behind), VERMILLION, "/"),
            Area(
                "catching up",
                *_stretch(x, p, c, ~behind & np.isfinite(p) & np.isfinite(c)),
                GREEN,
                "\\",
            ),
            Line("produced", *drawn(x, p), INK),
            Line("consumed", *drawn(x, c), BLUE, dash="dash"),
        ]
    impact, begin = result.verdict.impact, result.verdict.onset
    before, after = _split_at_onset(produced, begin), _split_at_onset(consumed, begin)
    alt = (
        "Line chart of messages produced and consumed per second, to tell demand from capacity. "
        + (
            f"Median produced {number(before[0])}/s before and {number(before[1])}/s after the "
            f"onset; consumed {number(after[0])}/s before and {number(after[1])}/s after."
            if traces
            else "0 samples of the rates are known."
        )
    )
    owed = count(impact.peak_lag_messages)
    repaid = (
        None
        if impact.peak_lag_messages is None or impact.lag_messages_now is None
        else impact.peak_lag_messages - impact.lag_messages_now
    )
    return Figure(
        name="flow",
        title="Produced against consumed",
        question="Is it more demand, or less capacity?",
        alt=alt,
        caption=f"Messages owed at the worst moment: {owed}; repaid since then: {count(repaid)}. "
        "Rising hatch: falling behind. Falling hatch: catching up.",
        panels=(
            Panel(
                "Rate",
                "messages per second",
                tuple(traces),
                height=220,
                note="" if traces else "no offset history: rates not known",
            ),
        ),
        table=Table(
            "Median rates around the onset, messages per second",
            ("rate", "before onset", "after onset"),
            (
                ("produced", number(before[0]), number(before[1])),
                ("consumed", number(after[0]), number(after[1])),
            ),
        ),
        x_range=window_ms(result.verdict),
        marks=onset_marks(result.verdict),
    )


def _time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit of an axis that reaches *seconds*, and how many seconds it has."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _worst_age(time_lag: pd.DataFrame) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """Return per sample the greatest age over partitions, and whether it is a lower bound."""
    if not len(time_lag):
        none = pd.Series([], dtype="float64", index=pd.DatetimeIndex([], tz="UTC"))
        return none, none.astype("bool")
    ordered = time_lag.sort_values(["timestamp", "time_lag_seconds"], na_position="first")
    worst = ordered.groupby("timestamp", sort=True).tail(1).set_index("timestamp")
    return worst["time_lag_seconds"], worst["censored"].fillna(False).astype(bool)


def _split_at_onset(values: pd.Series[Any], begin: Any) -> tuple[float | None, float | None]:
    """Return the median before and after the onset; without one, both are over the window."""
    known = values.dropna()
    if not len(known):
        return None, None
    if begin is None:
        return float(known.median()), float(known.median())
    early = known[known.index < pd.Timestamp(begin.earliest)]
    late = known[known.index >= pd.Timestamp(begin.at)]
    return (
        float(early.median()) if len(early) else None,
        float(late.median()) if len(late) else None,
    )


def _stretch(x: Numbers, p: Numbers, c: Numbers, inside: Any) -> tuple[Numbers, Numbers, Numbers]:
    """Return x, low and high of the area between two lines where *inside* holds, else NaN.

    The neighbours of each stretch are kept, so that areas meet instead of leaving slits.
    """
    touched = inside.copy()
    touched[1:] |= inside[:-1]
    low = np.where(touched, np.fmin(p, c), np.nan)
    high = np.where(touched, np.fmax(p, c), np.nan)
    missing = ~(np.isfinite(p) & np.isfinite(c))
    low[missing] = high[missing] = np.nan
    crossed = touched & ~inside
    low[crossed] = high[crossed] = p[crossed]
    thin_x = thin(x, low)[0]
    if thin_x.size == x.size:
        return x, low, high
    chosen = np.isin(x, thin_x)
    return x[chosen], low[chosen], high[chosen]


def _retention_seconds(incident: Any) -> float | None:
    """Return the shortest retention of the incident's topics, as configured."""
    configs = incident.configs
    rows = configs[(configs["key"] == "retention.ms") & (configs["resource"] == "topic")]
    millis = pd.to_numeric(rows["value"], errors="coerce").dropna()
    millis = millis[millis > 0]
    return float(millis.min()) / 1000 if len(millis) else None


def _onset_phrase(verdict: Verdict) -> str:
    begin = verdict.onset
    assert begin is not None
    return onset_text(begin)


def _marks(result: Investigated) -> tuple[Mark, ...]:
    """Return the onset and the first firing of each alert, the two marks all panels carry."""
    start, end = window_ms(result.verdict)
    alerts = [
        Mark(moment, moment, "", ORANGE)
        for moment, _ in _alert_starts(result.incident)
        if start <= moment <= end
    ]
    return onset_marks(result.verdict) + tuple(alerts[:MOST_ALERT_MARKS])


def _alert_starts(incident: Any) -> list[tuple[float, str]]:
    firing = incident.alerts[incident.alerts["state"] == "firing"]
    if not len(firing):
        return []
    first = firing.groupby(["alert", "labels"], sort=True)["timestamp"].min()
    return sorted(
        {
            (milliseconds(pd.Timestamp(moment)), printable(alert, limit=80))
            for (alert, _), moment in first.items()
        }
    )


def _event_lanes(result: Investigated) -> tuple[Panel, list[tuple[float, str, str]]]:
    """Return the panel of events, and (epoch ms, lane, text) of every event in the window."""
    incident, verdict = result.incident, result.verdict
    start, end = window_ms(verdict)
    kubernetes, prometheus = _seen(verdict, "kubernetes"), _seen(verdict, "prometheus")
    lanes: list[tuple[str, str, str, bool, list[tuple[float, str]]]] = [
        ("alert", ORANGE, "triangle-up", prometheus, _alert_starts(incident)),
        ("rollout", BLUE, "diamond", kubernetes, _rollouts(incident)),
        ("container ended", VERMILLION, "x", kubernetes, _terminations(incident)),
        ("cluster event", PURPLE, "square", kubernetes, _warnings(incident)),
        ("members", GREEN, "circle", prometheus, member_changes(incident)),
    ]
    points: list[Any] = []
    rows: list[tuple[float, str, str]] = []
    names: list[str] = []
    for row, (name, colour, symbol, seen, found) in enumerate(lanes):
        inside = [(at, text) for at, text in sorted(found) if start <= at <= end]
        rows += [(at, name, text) for at, text in inside]
        names.append(name if inside else f"{name}: {'none seen' if seen else 'not checked'}")
        if inside:
            drawn = inside[:MOST_EVENTS]
            points.append(
                Points(
                    "",
                    np.array([at for at, _ in drawn]),
                    np.full(len(drawn), float(row)),
                    tuple(text for _, text in drawn),
                    colour,
                    symbol,  # type: ignore[arg-type]
                    show_labels=True,
                )
            )
    return Panel("Events", "", tuple(points), rows=tuple(names), height=120), sorted(rows)


def _seen(verdict: Verdict, source: str) -> bool:
    report = verdict.sources.get(source)
    return report is not None and report.status in ("ok", "partial")


def _rollouts(incident: Any) -> list[tuple[float, str]]:
    return [
        (
            milliseconds(row["timestamp"]),
            f"{cell_text(row['workload'])} revision {cell_text(row['revision'])} "
            f"{cell_text(row['image'])}".strip(),
        )
        for row in incident.rollouts.to_dict("records")
    ]


def _terminations(incident: Any) -> list[tuple[float, str]]:
    ended = incident.pods.dropna(subset=["last_finished_at"])
    return [
        (
            milliseconds(row["last_finished_at"]),
            (
                f"{short_owner(cell_text(row['pod']))} {cell_text(row['last_reason'])} "
                f"exit {cell_text(row['last_exit_code'])}"
            ),
        )
        for row in ended.to_dict("records")
    ]


def _warnings(incident: Any) -> list[tuple[float, str]]:
    events = incident.events
    wanted = events[(events["type"] == "Warning") | events["reason"].isin(LIFECYCLE_REASONS)]
    return [
        (
            milliseconds(row["timestamp"]),
            f"{cell_text(row['reason'])} {short_owner(cell_text(row['name']))}",
        )
        for row in wanted.to_dict("records")
    ]


def _amount(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{count(value)} {unit}"


def _events_table(rows: Sequence[tuple[float, str, str]]) -> Table:
    shown = rows[:MOST_TABLE_ROWS]
    return Table(
        "Events in the window" if rows else "Events in the window: none were seen",
        ("time (UTC)", "kind", "what"),
        tuple(
            (clock(pd.Timestamp(at, unit="ms", tz="UTC"), seconds=True), lane, text)
            for at, lane, text in shown
        ),
        len(rows) - len(shown),
    )

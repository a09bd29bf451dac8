"""Figures 6 and 7: why the verdict is what it is, and how long there is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lagkit.charts.reading import MOST_TABLE_ROWS, Investigated, distance, milliseconds
from lagkit.figure import Figure
from lagkit.figure.drawing import (
    GREEN,
    INK,
    VERMILLION,
    Mark,
    Panel,
    Points,
    Span,
    Spans,
    Symbols,
    Table,
)
from lagkit.wording import clock, loss_rule, number

if TYPE_CHECKING:
    from lagkit.model import Check, Verdict

MOST_EVIDENCE_ROWS = 30
MOST_CAUSES_ACROSS = 7
"""Columns of the matrix picture: as many names as fit; the report's table holds every cause."""
STRONG_NATS = 0.5 * math.log(10)
"""From here evidence is ``++``: odds times √10, Jeffreys' "substantial" (Theory of Probability,
appendix B)."""
NEUTRAL_NATS = 0.15
"""Below this a weight is shown as 0; the ranking leaves it out of its sentences too."""
FAR = 12.0
"""A loss deadline this many times further than the catch-up is named, not drawn to scale."""


def evidence(result: Investigated) -> Figure:
    """Build figure 6: the evidence × cause matrix (why this verdict)."""
    verdict = result.verdict
    weights = evidence_weights(verdict)
    checks = _ordered_checks(verdict.checks, weights)
    shown = checks[:MOST_EVIDENCE_ROWS]
    causes = [entry.cause for entry in verdict.ranking]
    across = causes[:MOST_CAUSES_ACROSS]
    values = np.zeros((len(shown), len(across)))
    signs: list[tuple[str, ...]] = []
    for row, check in enumerate(shown):
        line: list[str] = []
        for column, cause in enumerate(across):
            weight = weights.get((check.kind, cause), 0.0)
            values[row, column] = 0.0 if check.outcome == "not_checked" else _tint(weight)
            line.append("" if check.outcome == "not_checked" else sign_of(weight))
        signs.append(tuple(line))
    seen = sum(check.outcome == "present" for check in checks)
    blind = sum(check.outcome == "not_checked" for check in checks)
    top = verdict.ranking[0] if verdict.ranking else None
    alt = (
        "Matrix of evidence against causes, to see why the verdict is what it is. "
        f"Of {len(checks)} checks {seen} saw something, {len(checks) - seen - blind} looked and "
        f"saw nothing, {blind} had no data"
        + (
            f"; {top.cause} has {len(top.evidence_for)} for and "
            f"{len(top.evidence_against)} against."
            if top
            else "."
        )
    )
    table_rows = tuple(
        (
            check.kind.replace("_", " "),
            _outcome_word(check.outcome),
            *(
                "no data"
                if check.outcome == "not_checked"
                else sign_of(weights.get((check.kind, cause), 0.0))
                for cause in across
            ),
        )
        for check in checks[:MOST_TABLE_ROWS]
    )
    return Figure(
        name="evidence",
        title="Why this verdict",
        question="Which evidence speaks for which cause, and which was never looked at?",
        alt=alt,
        caption="++ strongly for, + for, 0 says nothing, − against, −− strongly against; hatched: "
        "no data. Evidence that fits every cause equally is worth nothing."
        + (
            f" The picture shows the {len(across)} most probable causes."
            if len(causes) > len(across)
            else ""
        ),
        panels=(
            Panel(
                "Evidence × cause",
                "",
                (Symbols("evidence", tuple(signs), values),) if shown and across else (),
                rows=tuple(check.kind.replace("_", " ") for check in shown),
                columns=tuple(cause.replace("_", " ") for cause in across),
                height=max(60, 22 * max(1, len(shown))),
                note="" if shown else "no check was made",
            ),
        ),
        table=Table(
            "Evidence by cause",
            ("evidence", "seen", *(c.replace("_", " ") for c in across)),
            table_rows,
            max(0, len(checks) - MOST_TABLE_ROWS),
        ),
    )


def deadline(result: Investigated) -> Figure:
    """Build figure 7: now, catch-up and loss on the clock (how long there is)."""
    verdict = result.verdict
    now = pd.Timestamp(verdict.incident.end)
    forecast = verdict.forecast
    catch_up, loss = forecast.catch_up_at, forecast.data_loss_at
    names: list[str] = []
    traces: list[Any] = []
    rows: list[tuple[str, ...]] = [("now (end of the window)", clock(now), "")]
    far = [milliseconds(now) + 10 * 60_000.0]
    if catch_up is not None:
        low, mid, high = (
            milliseconds(pd.Timestamp(moment))
            for moment in (catch_up.low, catch_up.mid, catch_up.high)
        )
        names.append("caught up")
        label = f"{clock(catch_up.mid, near=now)}, in {distance(catch_up.mid, now)}"
        traces.append(Spans("interval", (Span(0, low, high),), GREEN, "\\"))
        traces.append(
            Points(
                "caught up at the present rate",
                np.array([mid]),
                np.array([0.0]),
                (label,),
                GREEN,
                "diamond",
                show_labels=True,
            )
        )
        far.append(high)
        rows.append(
            (
                "caught up at the present rate",
                clock(catch_up.mid),
                (
                    f"in {distance(catch_up.mid, now)} ({distance(catch_up.low, now)} to "
                    f"{distance(catch_up.high, now)})"
                ),
            )
        )
    else:
        rows.append(
            (
                "caught up at the present rate",
                "never at this rate, or not known",
                f"net drain {number(forecast.net_drain_per_second)} messages/s",
            )
        )
    beyond = ""
    if loss is not None:
        at = milliseconds(pd.Timestamp(loss))
        reach = max(far) - milliseconds(now)
        label = f"{clock(loss, near=now)}, in {distance(loss, now)}"
        rows.append(
            (
                "unread data may be deleted from",
                clock(loss),
                f"in {distance(loss, now)}; {loss_rule(forecast.data_loss_rule)}".rstrip("; "),
            )
        )
        if catch_up is not None and at - milliseconds(now) > FAR * reach:
            beyond = f"unread data may be deleted from {label}: beyond this axis"
        else:
            traces.append(
                Points(
                    "unread data may be deleted",
                    np.array([at]),
                    np.array([float(len(names))]),
                    (label,),
                    VERMILLION,
                    "x",
                    show_labels=True,
                )
            )
            names.append("data loss")
            far.append(at)
    else:
        rows.append(
            ("unread data may be deleted from", "no deadline known", forecast.data_loss_rule)
        )
    end = milliseconds(now) + (max(far) - milliseconds(now)) * 1.12
    alt = (
        f"Strip of deadlines on the clock, to see how long there is, from {clock(now)}. "
        + (
            f"Caught up in {distance(catch_up.mid, now)}. "
            if catch_up
            else "Not caught up at the present rate, or not known. "
        )
        + (
            f"Unread data may be deleted in {distance(loss, now)}."
            if loss
            else "No deadline for data loss is known."
        )
    )
    note = beyond or ("" if traces else "neither a catch-up time nor a loss deadline is known")
    return Figure(
        name="deadline",
        title="How long there is",
        question="When is it over if nothing changes, and when is data lost?",
        alt=alt,
        caption="From the end of the window, if nothing changes. The loss deadline is the earliest "
        "that the retention rules allow.",
        panels=(
            Panel(
                "From now on",
                "",
                tuple(traces),
                rows=tuple(names) or ("",),
                height=max(46, 34 * max(1, len(names))) + (24 if beyond else 0),
                note="" if beyond else note,
            ),
        ),
        table=Table(
            f"Deadlines{': ' + beyond if beyond else ''}",
            ("what", "when (UTC)", "distance and rule"),
            tuple(rows),
        ),
        x_range=(milliseconds(now), end),
        marks=(Mark(milliseconds(now), milliseconds(now), "now", INK),),
    )


def sign_of(weight: float) -> str:
    """Return the sign of a weight in nats: ``++``, ``+``, ``0``, ``−`` or ``−−``."""
    if abs(weight) < NEUTRAL_NATS:
        return "0"
    mark = "+" if weight > 0 else "\N{MINUS SIGN}"
    return mark * (2 if abs(weight) >= STRONG_NATS else 1)


def evidence_weights(verdict: Verdict) -> dict[tuple[str, str], float]:
    """Return the weight in nats by (evidence kind, cause), as the ranking used it."""
    weights: dict[tuple[str, str], float] = {}
    for entry in verdict.ranking:
        for line in (*entry.evidence_for, *entry.evidence_against):
            key = (line.id.partition(":")[0], entry.cause)
            weights[key] = weights.get(key, 0.0) + line.weight
    return weights


def _ordered_checks(
    checks: Iterable[Check], weights: Mapping[tuple[str, str], float]
) -> list[Check]:
    """Return checks by what they decide: seen first, then absent, then not checked."""
    order = {"present": 0, "absent": 1, "not_checked": 2}
    power: dict[str, float] = {}
    for (kind, _), weight in weights.items():
        power[kind] = max(power.get(kind, 0.0), abs(weight))
    return sorted(checks, key=lambda c: (order[c.outcome], -power.get(c.kind, 0.0), c.kind))


def _tint(weight: float) -> float:
    return float(np.clip(weight / 3.0, -1, 1)) if abs(weight) >= NEUTRAL_NATS else 0.0


def _outcome_word(outcome: str) -> str:
    return {"present": "yes", "absent": "no", "not_checked": "not checked"}[outcome]

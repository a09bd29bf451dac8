"""The tables of a capacity answer: complete, stable, text already; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import pandas as pd

from lagkit.capacity.advice import months
from lagkit.capacity.model import Answer, Trend
from lagkit.tables import Sheet
from lagkit.wording import clock, duration, number, percent, printable

CapacitySheet = Sheet
NOTHING = "–"
_CHARACTERS = 1000

RANKED = (
    "group", "topic", "verdict", "weekly peak /s", "can read /s", "utilisation at peak",
    "target passed", "survivable stop",
)  # fmt: skip


def sheet(answer: Answer, name: str, number_of: int = 1) -> CapacitySheet:
    """Return the table *name*; those about one trend take the *number_of*-th worst.

    Raises
    ------
    ValueError
        There is no such table; the text names those there are.
    """
    if name not in SHEETS:
        msg = f"no table {name!r}; there are: {', '.join(SHEETS)}"
        raise ValueError(msg)
    return SHEETS[name](answer, number_of)


def ranked(answer: Answer, number_of: int = 1) -> CapacitySheet:
    """Return one row a group and topic, worst first."""
    del number_of
    return _sheet(
        "ranked",
        f"Worst first; target {percent(answer.target)} of what a group can read",
        RANKED,
        [[COLUMNS[name](trend) for name in RANKED] for trend in answer.trends],
    )


def everything(answer: Answer, number_of: int = 1) -> CapacitySheet:
    """Return every column, one row a group and topic."""
    del number_of
    return _sheet(
        "everything",
        "Every column, worst first",
        tuple(COLUMNS),
        [[text(trend) for text in COLUMNS.values()] for trend in answer.trends],
    )


def one(answer: Answer, number_of: int = 1) -> CapacitySheet:
    """Return every column of one trend, a row each."""
    trend = answer.trends[number_of - 1]
    return _sheet(
        "one",
        trend.name,
        ("what", "value"),
        [(name, text(trend)) for name, text in COLUMNS.items()],
    )


def what_if(answer: Answer, number_of: int = 1) -> CapacitySheet:
    """Return what a two-hour outage at the weekly peak would do, as it is and under changes."""
    trend = answer.trends[number_of - 1]
    return _sheet(
        "what-if",
        f"{trend.name}: a stop of two hours at the weekly peak",
        ("case", "caught up after", "oldest message", "utilisation at peak"),
        [
            (
                row.change,
                duration(row.catch_up_seconds)
                if row.catch_up_seconds is not None
                else "not within two weeks",
                duration(row.oldest_seconds),
                percent(row.utilisation),
            )
            for row in trend.what_if
        ],
    )


def happened(answer: Answer, number_of: int = 1) -> CapacitySheet:
    """Return incidents, gaps, deploys, holidays and the like of one trend."""
    trend = answer.trends[number_of - 1]
    return _sheet(
        "happened",
        f"{trend.name}: what happened in these weeks",
        ("when", "what", "detail"),
        [(clock(row.at), row.kind, row.text) for row in trend.happened],
    )


def actions(answer: Answer, number_of: int = 1) -> CapacitySheet:
    """Return the action items of all trends, worst first."""
    del number_of
    return _sheet(
        "actions",
        "What a person may do; lagkit does none of it",
        ("what", "why", "evidence", "done when", "due"),
        [
            (item.title, item.why, "; ".join(item.evidence), item.done_when, _day(item.due))
            for trend in answer.trends
            for item in trend.actions
        ],
    )


def not_seen(answer: Answer, number_of: int = 1) -> CapacitySheet:
    """Return what could not be read, and what was sampled away."""
    del number_of
    rows = [(row.what, row.why, row.fix) for row in answer.not_seen]
    rows.append(("what is between the hours", answer.sampled, ""))
    return _sheet("not-seen", "Not seen", ("what", "why", "what mends it"), rows)


def limit_text(trend: Trend) -> str:
    """Return what it can read, with ``≥`` where that is a lower bound."""
    if trend.limit is None:
        return "unknown"
    return ("≥ " if trend.limit.lower_bound else "") + number(trend.limit.per_second)


def date_text(trend: Trend) -> str:
    """Return when the target is passed, or why there is no date."""
    date = trend.saturation
    if date.status == "passed":
        return "already"
    if date.earliest is not None:
        return months(date.earliest, date.latest)
    words = {
        "none": "no date",
        "no_baseline": "no date",
        "too_short": "too short",
        "capacity_unknown": "capacity unknown",
        "no_demand": "no demand",
    }
    return words.get(date.status, "no date")


def weeks_text(trend: Trend) -> str:
    """Return the weeks until then, as a range."""
    date = trend.saturation
    if date.status != "range" or date.weeks_earliest is None:
        return NOTHING
    last = "open" if date.weeks_latest is None else f"{date.weeks_latest:.0f}"
    return f"{date.weeks_earliest:.0f} to {last}"


def loss_text(trend: Trend) -> str:
    """Return the stop after which records would be deleted unread."""
    return _kept_text(trend, trend.survivable.before_loss_seconds)


def margin_text(trend: Trend) -> str:
    """Return what was left of the retention at the worst moment."""
    return _kept_text(trend, trend.loss_margin_seconds)


def _kept_text(trend: Trend, seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return ("more than " if trend.survivable.loss_at_least else "") + duration(seconds)


def errors_text(trend: Trend) -> str:
    """Return the errors of the back-test: the forecast's, and the seasonal-naive one's."""
    note = trend.forecast
    if note.model_error is None or note.naive_error is None:
        return NOTHING
    return f"{note.model_error:.1%} (naive {note.naive_error:.1%})"


def _of(value: float | None) -> str:
    return NOTHING if value is None else number(value)


def _whole(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def _length(seconds: float | None) -> str:
    return "unknown" if seconds is None else duration(seconds)


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d}"


def _sheet(
    name: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> CapacitySheet:
    cells = [[printable(cell, limit=_CHARACTERS) for cell in row] for row in rows]
    return Sheet(name, printable(caption), pd.DataFrame(cells, columns=list(columns), dtype="str"))


COLUMNS: Mapping[str, Callable[[Trend], str]] = {
    "group": lambda t: t.group,
    "topic": lambda t: t.topic,
    "verdict": lambda t: t.verdict,
    "criticality": lambda t: t.criticality,
    "demand p50 /s": lambda t: _of(t.demand.p50 if t.demand else None),
    "p95 /s": lambda t: _of(t.demand.p95 if t.demand else None),
    "weekly peak /s": lambda t: _of(t.demand.peak if t.demand else None),
    "peak hour": lambda t: t.demand.peak_hour if t.demand else NOTHING,
    "can read /s": limit_text,
    "utilisation at peak": lambda t: percent(t.utilisation) if t.utilisation else NOTHING,
    "target passed": date_text,
    "in weeks": weeks_text,
    "partitions": lambda t: _whole(t.partitions),
    "members": lambda t: _whole(t.members),
    "spare": lambda t: _whole(t.spare_partitions),
    "skew": lambda t: _of(t.skew),
    "survivable stop": lambda t: _length(t.survivable.within_promise_seconds),
    "stop that loses data": loss_text,
    "catch-up per stopped minute": lambda t: (
        f"{t.catch_up_per_stopped:.1f} min" if t.catch_up_per_stopped is not None else NOTHING
    ),
    "worst retention use": lambda t: (
        percent(t.retention_worst_use) if t.retention_worst_use is not None else NOTHING
    ),
    "loss margin": margin_text,
    "members needed in 13 weeks": lambda t: _whole(t.needed.members if t.needed else None),
    "partitions needed": lambda t: _whole(t.needed.partitions if t.needed else None),
    "what helps": lambda t: t.needed.helps if t.needed else NOTHING,
    "back-test error": errors_text,
}
"""Column → its text; the whole of what is known of a group, in the order of the CSV."""

SHEETS: Mapping[str, Callable[[Answer, int], CapacitySheet]] = {
    "ranked": ranked,
    "everything": everything,
    "one": one,
    "what-if": what_if,
    "happened": happened,
    "actions": actions,
    "not-seen": not_seen,
}

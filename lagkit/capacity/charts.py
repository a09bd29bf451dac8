"""The four figures of a trend, each settling one question; values are picked here, not worked out.

The same shapes as an investigation's figures (``lagkit.figure``), each with its words and a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lagkit.capacity.advice import months
from lagkit.capacity.courses import HOUR, WEEK_HOURS, Array
from lagkit.capacity.incidents import Incident
from lagkit.capacity.model import Answer, Trend
from lagkit.capacity.outlook import Working
from lagkit.charts.reading import drawn, epoch_ms, milliseconds
from lagkit.figure import Figure
from lagkit.figure.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    Area,
    Cells,
    Level,
    Line,
    Mark,
    Panel,
    Points,
    Span,
    Spans,
    Table,
)
from lagkit.wording import clock, count, duration, number, percent, plural

AHEAD_WEEKS = 26
"""Weeks ahead that are drawn at least and, with a date in them, at most twice."""
MOST_INCIDENTS = 4
"""Incidents whose backlog is drawn; the largest."""
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEEK_MS = 7 * 86400e3


def figure(trend: Trend, working: Working, answer: Answer, name: str) -> Figure:
    """Return the figure *name* of *trend*.

    Raises
    ------
    KeyError
        There is no such figure; the text lists those there are.
    """
    if name not in FIGURES:
        msg = f"no figure {name!r}; there are: {', '.join(FIGURES)}"
        raise KeyError(msg)
    return FIGURES[name](trend, working, answer)


def demand(trend: Trend, working: Working, answer: Answer) -> Figure:
    """Build figure 1: demand of each week as a ribbon, the forecast, and what can be read."""
    weeks = _weeks(working)
    now = milliseconds(pd.Timestamp(working.course.hours[-1]))
    season, line = working.forecast.season, working.forecast.line
    traces: list[Any] = []
    if len(weeks):
        x = weeks["middle"].to_numpy(dtype="float64")
        traces = [
            Area("median to peak hour of the week", x, weeks["p50"].to_numpy(),
                 weeks["peak"].to_numpy(), BLUE, "/"),
            Line("peak hour", x, weeks["peak"].to_numpy(), BLUE, marker="circle"),
        ]  # fmt: skip
    end = now + AHEAD_WEEKS * WEEK_MS
    date = trend.saturation
    if date.latest is not None:
        end = min(max(end, milliseconds(pd.Timestamp(date.latest)) + 4 * WEEK_MS),
                  now + 4 * AHEAD_WEEKS * WEEK_MS)  # fmt: skip
    if season is not None and line is not None:
        ahead = np.linspace(0.0, (end - now) / WEEK_MS, 60)
        level, error = line.level(ahead), line.quantile * line.error(ahead)
        at = now + ahead * WEEK_MS
        traces += [
            Area("forecast of the peak hour", at, season.peak * np.maximum(level - error, 0.0),
                 season.peak * (level + error), ORANGE, "\\"),
            Line("expected", at, season.peak * level, ORANGE, dash="dash"),
        ]  # fmt: skip
    levels: list[Level] = []
    limit = trend.limit
    if limit is not None:
        at_least = "at least " if limit.lower_bound else ""
        levels.append(Level(limit.per_second, f"can read {at_least}{number(limit.per_second)}/s"))
        if not limit.lower_bound:
            levels.append(
                Level(
                    answer.target * limit.per_second,
                    f"target {percent(answer.target)}",
                    PURPLE,
                    "dot",
                )
            )
    marks: tuple[Mark, ...] = ()
    if date.earliest is not None and date.status == "range":
        first = milliseconds(pd.Timestamp(date.earliest))
        last = end if date.latest is None else milliseconds(pd.Timestamp(date.latest))
        marks = (Mark(min(first, end), min(last, end), "target passed", PURPLE),)
    when = (
        f"the target is passed {months(date.earliest, date.latest)}"
        if date.earliest is not None
        else f"no date: {date.reason or 'none is seen'}"
    )
    peak = "unknown" if trend.demand is None else f"{number(trend.demand.peak)}/s"
    rows = [
        (f"{pd.Timestamp(row['middle'], unit='ms', tz='UTC'):%Y-%m-%d}", number(row["p50"]),
         number(row["peak"]), str(int(row["hours"])))
        for row in weeks.to_dict("records")
    ]  # fmt: skip
    return Figure(
        name="demand",
        title=f"Demand against capacity: {trend.name}",
        question="Will it keep up, and until when?",
        alt=f"Ribbon of the demand of {plural(len(weeks), 'week')} with its forecast, to see when "
        f"capacity runs out. The weekly peak hour is {peak} now; it can read "
        f"{'unknown' if limit is None else number(limit.per_second) + '/s'}; {when}.",
        caption="A ribbon from the median to the peak hour of each week, without incidents and "
        "unusual days. The hatched forecast is the 95 % interval of the expected peak hour: "
        f"{working.forecast.reason or 'weekly season and line'}.",
        panels=(
            Panel(
                "Messages per second",
                "",
                tuple(traces),
                tuple(levels),
                height=260,
                note="" if traces else "no demand is known",
            ),
            _set_apart(working),
        ),
        table=Table(
            "Each week outside incidents, messages per second",
            ("week around", "median hour", "peak hour", "hours counted"),
            tuple(rows),
        ),
        x_range=(milliseconds(pd.Timestamp(working.course.hours[0])), end),
        marks=marks,
    )


def week(trend: Trend, working: Working, answer: Answer) -> Figure:
    """Build figure 2: the expected demand of each hour of the week, as a heat map."""
    del answer
    values = np.full((7, 24), np.nan)
    if working.week is not None:
        values = working.week.reshape(7, 24)
    finite = values[np.isfinite(values) & (values > 0)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (1.0, 10.0)
    low = min(max(low, high / 100), high / 1.01)
    edges = np.arange(25, dtype="float64") * HOUR * 1000
    busiest = trend.demand.peak_hour if trend.demand else "unknown"
    quiet = "unknown"
    if working.week is not None:
        hour = int(np.argmin(working.week))
        quiet = f"{DAYS[hour // 24][:3]} {hour % 24:02d}:00Z at {number(float(finite.min()))}/s" \
            if finite.size else "unknown"  # fmt: skip
    return Figure(
        name="week",
        title=f"Hours of the week: {trend.name}",
        question="When is its peak, and when is there room for a stop?",
        alt=f"Heat map of expected demand by weekday and hour (UTC), to choose when to stop it: "
        f"{finite.size} of 168 hours are known. "
        f"Busiest {busiest} at {number(high) if finite.size else 'unknown'}/s, quietest {quiet}.",
        caption="Expected messages per second in each hour of the week, at the level of now.",
        panels=(
            Panel(
                "Demand by hour of day, UTC",
                "messages per second",
                (Cells("few to many, log scale", edges, values, low, high, "messages per second"),),
                rows=DAYS,
                height=190,
                note="" if finite.size else "no demand is known",
            ),
        ),
        table=Table(
            "Expected messages per second",
            ("day", *(f"{hour:02d}" for hour in range(24))),
            tuple(
                (day, *(number(value) for value in row))
                for day, row in zip(DAYS, values.tolist(), strict=True)
            ),
        ),
        x_range=(0.0, 24 * HOUR * 1000),
    )


def capacity(trend: Trend, working: Working, answer: Answer) -> Figure:
    """Build figure 3: what it was seen to read at, over time, with deploys and members."""
    del answer
    course = working.course
    shown = [one for one in working.behind.incidents if one.drain_per_second]
    x = np.array([_ms(working, one.peak_hour) for one in shown])
    y = np.array([float(one.drain_per_second or 0) for one in shown])
    hours = epoch_ms(course.hours)
    traces: list[Any] = [
        Line("read, highest of each day", *_daily_high(hours, course.consumed), SKY_BLUE),
    ]
    if len(x):
        labels = tuple(f"{value:.0f}/s" for value in y)
        traces.append(Points("working off a backlog", x, y, labels, VERMILLION, "diamond"))
    levels: tuple[Level, ...] = ()
    if working.capacity is not None:
        word = "at least " if working.capacity.lower_bound else ""
        levels = (
            Level(
                working.capacity.per_second, f"taken: {word}{number(working.capacity.per_second)}/s"
            ),
        )
    kinds = ("deploy", "members changed", "partitions added", "topic re-created",
             "exporter changed")  # fmt: skip
    lanes, names, rows = [], [], []
    for kind in kinds:
        inside = [one for one in trend.happened if one.kind == kind]
        names.append(kind if inside else f"{kind}: none seen")
        if inside:
            lanes.append(
                Points(
                    "",
                    np.array([milliseconds(pd.Timestamp(one.at)) for one in inside]),
                    np.full(len(inside), float(len(names) - 1)),
                    tuple(one.text for one in inside),
                    ORANGE,
                    "triangle-up",
                )
            )
    rows = [(clock(one.at), one.kind, one.text) for one in trend.happened]
    members = course.members
    panels = [
        Panel("Messages per second", "", tuple(traces), levels, height=200),
        Panel("What changed it", "", tuple(lanes), rows=tuple(names), height=120),
    ]
    if np.isfinite(members).any():
        line = Line("members", *drawn(hours, members), GREEN, step=True)
        panels.insert(1, Panel("Members", "", (line,), height=80))
    basis = working.capacity.basis if working.capacity else "never seen to read"
    return Figure(
        name="capacity",
        title=f"Capacity over time: {trend.name}",
        question="How fast can it read, and what changed that?",
        alt=f"Line of the highest consume rate of each day with {plural(len(shown), 'incident')} "
        "in which a backlog was worked off, to see what capacity is. Taken: "
        + (number(working.capacity.per_second) + "/s" if working.capacity else "unknown")
        + f" ({basis}).",
        caption="A consume rate shows capacity only while there is a backlog (diamonds); at other "
        f"times it is the demand. {basis[:1].upper()}{basis[1:]}.",
        panels=tuple(panels),
        table=Table("What happened in these weeks", ("when", "what", "detail"), tuple(rows)),
        x_range=_window(working),
    )


def backlog(trend: Trend, working: Working, answer: Answer) -> Figure:
    """Build figure 4: the backlog of past incidents against what was predicted of it."""
    del answer
    found = sorted(working.behind.incidents, key=lambda one: -one.peak_lag)[:MOST_INCIDENTS]
    panels, rows = [], []
    spans = []
    for one in sorted(found, key=lambda item: item.first):
        first, last = max(0, one.first - 2), min(len(working.course.hours) - 1, one.last + 3)
        x: Array = (np.arange(first, last + 1, dtype="float64") - one.peak_hour) * HOUR * 1000.0
        seen = working.course.lag_high[first : last + 1]
        at, predicted, hours = _predicted(working, one)
        name = f"{working.course.hours[one.first]:%Y-%m-%d %H:%MZ}"
        actual = float(one.last - one.peak_hour)
        traces: list[Any] = [Line("seen, highest of the hour", x, seen, VERMILLION)]
        if at is not None and predicted is not None:
            traces.append(Line("predicted from its peak", at, predicted, INK, dash="dash"))
        panels.append(Panel(f"From {name}", "messages", tuple(traces), height=110))
        spans += [float(x[0]), float(x[-1])]
        rows.append(
            (
                name,
                count(one.peak_lag),
                "unknown" if hours is None else duration(hours * HOUR),
                f"{duration(max(actual - 1, 0.0) * HOUR)} to {duration((actual + 1) * HOUR)}",
            )
        )
    if not panels:
        panels = [Panel("Backlog", "messages", (), height=80, note="no incident in these weeks")]
    low, high = (min(spans), max(spans)) if spans else (0.0, HOUR * 1000)
    return Figure(
        name="backlog",
        title=f"Past incidents against the prediction: {trend.name}",
        question="Does the arithmetic hold?",
        alt=f"Lines of the backlog of {plural(len(found), 'incident')}, seen and predicted, to see "
        "whether the arithmetic holds. "
        + (
            f"The largest was {count(found[0].peak_lag)} messages."
            if found
            else "There were 0 incidents."
        ),
        caption="Hours from that of the highest backlog (0 h): what was seen, and what capacity "
        "minus the demand of these hours predicts.",
        panels=tuple(panels),
        table=Table(
            "Time from the highest backlog to the end",
            ("incident", "highest backlog", "predicted", "seen, to the hour"),
            tuple(rows),
        ),
        x_range=(low, high),
    )


FIGURES: Mapping[str, Callable[[Trend, Working, Answer], Figure]] = {
    "demand": demand,
    "week": week,
    "capacity": capacity,
    "backlog": backlog,
}


def _weeks(working: Working) -> pd.DataFrame:
    """Return p50, peak hour and counted hours of each whole week before the end."""
    course = working.course
    hours = len(course.hours) - len(course.hours) % WEEK_HOURS
    if not hours:
        return pd.DataFrame(columns=["middle", "p50", "peak", "hours"])
    good = (working.usable & ~working.unusual)[-hours:].reshape(-1, WEEK_HOURS)
    rates = np.where(good, course.produced[-hours:].reshape(-1, WEEK_HOURS), np.nan)
    known = np.isfinite(rates).sum(axis=1)
    at = epoch_ms(course.hours[-hours:]).reshape(-1, WEEK_HOURS)[:, WEEK_HOURS // 2]
    rows = np.flatnonzero(known)
    return pd.DataFrame(
        {
            "middle": at[rows],
            "p50": [float(np.nanmedian(rates[row])) for row in rows],
            "peak": [float(np.nanmax(rates[row])) for row in rows],
            "hours": known[rows],
        }
    )


def _set_apart(working: Working) -> Panel:
    rows = ("incident", "unusual day", "no data")
    flags = (working.behind.excluded, working.unusual, ~np.isfinite(working.course.produced))
    spans = []
    for row, (name, flag, colour, hatch) in enumerate(
        zip(rows, flags, (VERMILLION, ORANGE, GREY), ("/", "x", "\\"), strict=True)
    ):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flag.astype("int8"), [0]])))
        found = tuple(
            Span(row, _ms(working, first) - HOUR * 1000, _ms(working, last - 1))
            for first, last in zip(edges[::2], edges[1::2], strict=True)
        )
        if found:
            spans.append(Spans(name, found, colour, hatch))  # type: ignore[arg-type]
    return Panel("Left out of the demand", "", tuple(spans), rows=rows, height=70)


def _daily_high(hours: Array, values: Array) -> tuple[Array, Array]:
    count_of = len(values) // 24
    if not count_of:
        return hours, values
    days = values[-count_of * 24 :].reshape(-1, 24)
    known = np.isfinite(days).any(axis=1)
    high = np.full(len(days), np.nan)
    high[known] = np.nanmax(days[known], axis=1)
    return hours[-count_of * 24 :].reshape(-1, 24)[:, 12], high


def _predicted(working: Working, one: Incident) -> tuple[Array | None, Array | None, float | None]:
    """Return time from the peak, the backlog, and the hours until it is gone."""
    if working.capacity is None or working.capacity.lower_bound:
        return None, None, None
    course = working.course
    ahead = np.arange(one.peak_hour + 1, min(len(course.hours), one.peak_hour + 1 + 2 * WEEK_HOURS))
    rates = course.produced[ahead]
    if working.week is not None:
        rates = np.where(np.isfinite(rates), rates, working.week[course.weekly[ahead]])
    left = one.peak_lag + np.concatenate(
        [[0.0], np.cumsum((np.nan_to_num(rates) - working.capacity.per_second) * HOUR)]
    )
    gone = np.flatnonzero(left <= 0)
    stop = int(gone[0]) if len(gone) else min(len(left) - 1, one.last - one.peak_hour + 24)
    hours: float | None = None
    if len(gone):
        before, after = left[stop - 1], left[stop]
        hours = stop - 1 + before / (before - after)
        at = np.append(np.arange(stop, dtype="float64"), hours)
        values = np.append(left[:stop], 0.0)
    else:
        at, values = np.arange(stop + 1, dtype="float64"), left[: stop + 1]
    return at * HOUR * 1000.0, values, hours


def _ms(working: Working, hour: int) -> float:
    return milliseconds(
        pd.Timestamp(working.course.hours[min(hour, len(working.course.hours) - 1)])
    )


def _window(working: Working) -> tuple[float, float]:
    first, last = _ms(working, 0), _ms(working, len(working.course.hours) - 1)
    return first, last if math.isfinite(last) and last > first else first + HOUR * 1000

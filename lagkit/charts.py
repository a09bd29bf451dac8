"""The seven figures of an investigation, each settling one question, each with words and a table.

Every figure is built from frames that were computed before (``result.flow``) and from the verdict:
here values are only picked, put in a unit a person reads, thinned and drawn. A figure without data
says so in its place; it is never left out, because what was not seen is part of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from lagkit.figure import (
    BLUE,
    GAP_STEPS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    Area,
    Arrow,
    Cells,
    Figure,
    Level,
    Line,
    Mark,
    Numbers,
    Panel,
    Points,
    Span,
    Spans,
    Symbols,
    Table,
    thin,
    with_gaps,
)
from lagkit.wording import (
    clock,
    count,
    duration,
    number,
    onset_text,
    plural,
    printable,
)

if TYPE_CHECKING:
    from lagkit.model import Check, Verdict

MOST_COLUMNS = 120
"""Columns of the heat map: each keeps the greatest age of its share of the window."""
MOST_PARTITIONS = 48
"""Rows of a per-partition picture; the worst are kept, the rest counted."""
MOST_TABLE_ROWS = 60
MOST_EVENTS = 40
"""Marks in one lane of the timeline."""
MOST_EVIDENCE_ROWS = 30
MOST_CAUSES_ACROSS = 7
"""Columns of the matrix picture; its table holds every cause."""
STRONG_NATS = 0.5 * math.log(10)
"""From here evidence is ``++``: odds times √10, Jeffreys' "substantial" (Theory of Probability,
appendix B)."""
NEUTRAL_NATS = 0.15
"""Below this a weight is shown as 0; the ranking leaves it out of its sentences too."""
FAR = 12.0
"""A loss deadline this many times further than the catch-up is named, not drawn to scale."""
RETENTION_NEAR = 2.0
"""The retention line is drawn while the oldest age is within this factor of it (report.md 4)."""

LIFECYCLE_REASONS = frozenset(
    {"BackOff", "Unhealthy", "Failed", "FailedScheduling", "OOMKilling", "Evicted", "Killing"}
)


class Investigated(Protocol):
    """What a chart reads of the result of an investigation."""

    @property
    def verdict(self) -> Verdict:
        """The whole answer."""
        ...

    @property
    def incident(self) -> Any:
        """The incident, frames as attributes."""
        ...

    @property
    def flow(self) -> Any:
        """The computed frames: cleaned, group, time_lag, rates."""
        ...

    @property
    def owners(self) -> pd.DataFrame:
        """Who owns which partition: topic, partition, client_id, host, pod."""
        ...

    @property
    def runbook_group(self) -> Any:
        """The group's entry of the runbook."""
        ...


def figures(result: Investigated) -> tuple[Figure, ...]:
    """Return all figures of the report in their order."""
    return tuple(build(result) for build in FIGURES.values())


def figure(result: Investigated, name: str) -> Figure:
    """Return the figure called *name*.

    Raises
    ------
    KeyError
        There is no such figure; the text lists those there are.
    """
    if name not in FIGURES:
        msg = f"no figure {name!r}; there are: {', '.join(FIGURES)}"
        raise KeyError(msg)
    return FIGURES[name](result)


def timeline(result: Investigated) -> Figure:
    """Build figure 1: oldest age, backlog and events over one time axis (what happened when)."""
    verdict, incident = result.verdict, result.incident
    promise = float(result.runbook_group.promise_seconds)
    worst, at_least = _worst_age(result.flow.time_lag)
    peak_age = _finite_max(worst.to_numpy())
    unit, size = _time_unit(max(peak_age or 0.0, promise))
    moments = epoch_ms(worst.index)
    ages = worst.to_numpy(dtype="float64") / size
    age_traces: list[Any] = []
    if np.isfinite(ages).any():
        age_traces.append(Line("oldest unread message", *_drawn(moments, ages), BLUE))
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
    lag = _group_column(result.flow.group, "lag_messages")
    lag_x, lag_y = epoch_ms(lag.index), lag.to_numpy(dtype="float64")
    lag_traces = (
        (Line("unread messages", *_drawn(lag_x, lag_y), VERMILLION, dash="dash"),)
        if np.isfinite(lag_y).any()
        else ()
    )
    lanes, rows = _event_lanes(result)
    peak_lag = _finite_max(lag_y)
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
    produced = _group_column(group, "produce_per_second")
    consumed = _group_column(group, "consume_per_second")
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
            Line("produced", *_drawn(x, p), INK),
            Line("consumed", *_drawn(x, c), BLUE, dash="dash"),
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
        marks=_onset_marks(result.verdict),
    )


def partitions(result: Investigated) -> Figure:
    """Build figure 3: age per partition over time (one, one member's, or all)."""
    ages = result.flow.time_lag
    start, end = window_ms(result.verdict)
    keys = _partition_keys(ages)
    peaks = {
        key: _finite_max(part["time_lag_seconds"].to_numpy(dtype="float64"))
        for key, part in keys.items()
    }
    shown = _worst_first(peaks)[:MOST_PARTITIONS]
    shown = [key for key in keys if key in set(shown)]
    span = _sample_span(ages)
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
    high = max(10.0, promise, _finite_max(values) or 0.0)
    owner = _owner_names(result.owners)
    several = len({topic for topic, _ in shown}) > 1
    names = tuple(_partition_name(key, owner.get(key, ""), several) for key in shown)
    late = [key for key in keys if (peaks[key] or 0.0) > promise]
    last = {key: _last_finite(part["time_lag_seconds"]) for key, part in keys.items()}
    alt = (
        "Heat map of the age of the oldest unread message per partition over time, to see whether "
        f"one partition, one member's or all are late. {len(late)} of {len(keys)} partitions went "
        f"over the promise of {duration(promise)}"
        + (f"; the worst reached {duration(high)}." if late else ".")
    )
    rows = tuple(
        (
            f"{key[0]} / {key[1]}",
            owner.get(key, "unknown"),
            duration(peaks[key]),
            duration(last[key]),
            _status_of(result.flow, key),
        )
        for key in _worst_first(peaks)[:MOST_TABLE_ROWS]
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
                height=max(90, min(520, 22 * max(1, len(shown)))),
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
        marks=_onset_marks(result.verdict) + _member_marks(result.incident),
    )


def cumulative(result: Investigated) -> Figure:
    """Build figure 4: end, committed and start offset of the worst partition (stuck, slow)."""
    keys = _partition_keys(result.flow.time_lag)
    peaks = {
        key: _finite_max(part["time_lag_seconds"].to_numpy(dtype="float64"))
        for key, part in keys.items()
    }
    cleaned = _partition_keys(result.flow.cleaned)
    lags = {
        key: _finite_max(part["lag_messages"].to_numpy(dtype="float64"))
        for key, part in cleaned.items()
    }
    ranked = _worst_first(peaks) if any(peaks.values()) else _worst_first(lags)
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
                traces.append(Line(name, *_drawn(x, y), colour, dash=dash))  # type: ignore[arg-type]
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
        title = f"{printable(key[0], limit=80)} / {key[1]}"
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
        marks=_onset_marks(result.verdict),
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
        member_traces.append(Line("members", *_drawn(moments, counts), INK, step=True))
    gaps = _unstable_spans(members)
    served, stood, omitted = _served_spans(result)
    names = list(served)
    owner = _owner_names(result.owners)
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
            traces.append(Spans(_short_owner(who) or "owner unknown", spans, colour))
    still = tuple(Span(row, a, b) for row, key in enumerate(names) for a, b in stood[key])
    if still:
        traces.append(Spans("no commit, messages waiting", still, VERMILLION, "x"))
    low, high = _finite_min(counts), _finite_max(counts)
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
            rows=tuple(_partition_name(key, "", several) for key in names),
            height=max(80, min(520, 24 * max(1, len(names)))),
            note="" if traces else "no offset history by partition",
        )
    )
    rows = tuple(
        (
            f"{key[0]} / {key[1]}",
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
        marks=_onset_marks(verdict) + _member_marks(incident),
    )


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
            f"; {top.cause} has {len(top.evidence_for)} for and {len(top.evidence_against)} against."
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
    far = [_ms(now) + 10 * 60_000.0]
    if catch_up is not None:
        low, mid, high = (_ms(pd.Timestamp(m)) for m in (catch_up.low, catch_up.mid, catch_up.high))
        names.append("caught up")
        label = f"{clock(catch_up.mid, near=now)}, in {_in(catch_up.mid, now)}"
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
                    f"in {_in(catch_up.mid, now)} ({_in(catch_up.low, now)} to "
                    f"{_in(catch_up.high, now)})"
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
        at = _ms(pd.Timestamp(loss))
        reach = max(far) - _ms(now)
        label = f"{clock(loss, near=now)}, in {_in(loss, now)}"
        rows.append(
            (
                "unread data may be deleted from",
                clock(loss),
                f"in {_in(loss, now)}; {forecast.data_loss_rule}".rstrip("; "),
            )
        )
        if catch_up is not None and at - _ms(now) > FAR * reach:
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
    end = _ms(now) + (max(far) - _ms(now)) * 1.12
    alt = (
        f"Strip of deadlines on the clock, to see how long there is, from {clock(now)}. "
        + (
            f"Caught up in {_in(catch_up.mid, now)}. "
            if catch_up
            else "Not caught up at the present rate, or not known. "
        )
        + (
            f"Unread data may be deleted in {_in(loss, now)}."
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
        x_range=(_ms(now), end),
        marks=(Mark(_ms(now), _ms(now), "now", INK),),
    )


FIGURES: Mapping[str, Callable[[Investigated], Figure]] = {
    "timeline": timeline,
    "flow": flow,
    "partitions": partitions,
    "cumulative": cumulative,
    "assignment": assignment,
    "evidence": evidence,
    "deadline": deadline,
}


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


def epoch_ms(times: Any) -> Numbers:
    """Return timestamps as float64 epoch milliseconds, exact below the year 287,000."""
    index = pd.DatetimeIndex(times)
    return np.asarray(index.as_unit("us").asi8 / 1000.0, dtype="float64")


def window_ms(verdict: Verdict) -> tuple[float, float]:
    """Return the time axis that all figures share: the window of the incident."""
    start, end = _ms(pd.Timestamp(verdict.incident.start)), _ms(pd.Timestamp(verdict.incident.end))
    return start, end if end > start else start + 60_000.0


def _ms(moment: pd.Timestamp) -> float:
    return float(moment.timestamp() * 1000.0)


def _in(moment: Any, now: pd.Timestamp) -> str:
    return duration((pd.Timestamp(moment) - now).total_seconds())


def _drawn(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    return thin(*with_gaps(x, y))


def _finite_max(values: Any) -> float | None:
    array = np.asarray(values, dtype="float64")
    finite = array[np.isfinite(array)]
    return float(finite.max()) if finite.size else None


def _finite_min(values: Any) -> float | None:
    array = np.asarray(values, dtype="float64")
    finite = array[np.isfinite(array)]
    return float(finite.min()) if finite.size else None


def _last_finite(values: pd.Series[Any]) -> float | None:
    known = values.dropna()
    return float(known.iloc[-1]) if len(known) else None


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


def _group_column(group: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return one column of the group's flow by time, whether time is its index or a column."""
    if "timestamp" in group.columns:
        group = group.set_index("timestamp")
    if column in group.columns:
        return group[column]
    return pd.Series(np.nan, index=group.index, dtype="float64")


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


def _partition_keys(frame: pd.DataFrame) -> dict[tuple[str, int], pd.DataFrame]:
    """Return the rows per (topic, partition), sorted by both."""
    if not len(frame):
        return {}
    parts = frame.groupby(["topic", "partition"], sort=True, observed=True)
    return {(str(topic), int(partition)): part for (topic, partition), part in parts}


def _worst_first(peaks: Mapping[tuple[str, int], float | None]) -> list[tuple[str, int]]:
    return sorted(peaks, key=lambda key: (-_known_or(peaks[key], -1.0), key))


def _known_or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _sample_span(frame: pd.DataFrame) -> float:
    """Return the median distance of samples in milliseconds, 0 if there is none."""
    moments = np.unique(epoch_ms(frame["timestamp"])) if len(frame) else np.array([])
    return float(np.median(np.diff(moments))) if moments.size > 1 else 0.0


def _partition_name(key: tuple[str, int], owner: str, several: bool) -> str:
    name = f"{key[0]} / {key[1]}" if several else f"{key[1]}"
    return f"{name} · {_short_owner(owner)}" if owner else name


def _short_owner(owner: str) -> str:
    """Return the end of a pod or client name: what tells two replicas apart."""
    return owner if len(owner) <= 20 else "…" + owner[-19:]


def _owner_names(owners: pd.DataFrame) -> dict[tuple[str, int], str]:
    """Return pod, else client id and host, by (topic, partition)."""
    names: dict[tuple[str, int], str] = {}
    for row in owners.to_dict("records"):
        if pd.isna(row.get("topic")) or pd.isna(row.get("partition")):
            continue
        for column in ("pod", "client_id", "host"):
            value = row.get(column)
            if value is not None and not pd.isna(value) and value != "":
                names[str(row["topic"]), int(row["partition"])] = printable(value, limit=80)
                break
    return names


def _status_of(flow_frames: Any, key: tuple[str, int]) -> str:
    status = getattr(flow_frames, "status", None)
    if not isinstance(status, pd.DataFrame) or not len(status) or "status" not in status.columns:
        return "not known"
    rows = status[(status["topic"] == key[0]) & (status["partition"] == key[1])]
    return printable(rows["status"].iloc[-1]) if len(rows) else "not known"


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
    return onset_text(begin.at, begin.earliest, begin.latest)


def _onset_marks(verdict: Verdict) -> tuple[Mark, ...]:
    begin = verdict.onset
    if begin is None:
        return ()
    return (
        Mark(
            _ms(pd.Timestamp(begin.earliest)),
            _ms(pd.Timestamp(begin.latest)),
            f"onset {clock(begin.at, near=begin.at)}",
        ),
    )


def _member_marks(incident: Any) -> tuple[Mark, ...]:
    """Return a mark wherever the number of members changed: then partitions changed owner."""
    return tuple(
        Mark(moment, moment, label, SKY_BLUE) for moment, label in _member_changes(incident)
    )[:MOST_EVENTS]


def _member_changes(incident: Any) -> list[tuple[float, str]]:
    history = incident.group_history.dropna(subset=["member_count"])
    counts = history["member_count"].to_numpy(dtype="float64")
    moments = epoch_ms(history["timestamp"])
    return [
        (float(moments[i]), f"{counts[i - 1]:.0f}→{counts[i]:.0f}")
        for i in np.flatnonzero(np.diff(counts)) + 1
    ]


def _marks(result: Investigated) -> tuple[Mark, ...]:
    """Return the onset and the first firing of each alert, the two marks all panels carry."""
    start, end = window_ms(result.verdict)
    alerts = [
        Mark(moment, moment, "", ORANGE)
        for moment, _ in _alert_starts(result.incident)
        if start <= moment <= end
    ]
    return _onset_marks(result.verdict) + tuple(alerts[:8])


def _alert_starts(incident: Any) -> list[tuple[float, str]]:
    firing = incident.alerts[incident.alerts["state"] == "firing"]
    if not len(firing):
        return []
    first = firing.groupby(["alert", "labels"], sort=True)["timestamp"].min()
    return sorted(
        {
            (_ms(pd.Timestamp(moment)), printable(alert, limit=80))
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
        ("members", GREEN, "circle", prometheus, _member_changes(incident)),
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
            _ms(row["timestamp"]),
            f"{_text(row['workload'])} revision {_text(row['revision'])} "
            f"{_text(row['image'])}".strip(),
        )
        for row in incident.rollouts.to_dict("records")
    ]


def _terminations(incident: Any) -> list[tuple[float, str]]:
    ended = incident.pods.dropna(subset=["last_finished_at"])
    return [
        (
            _ms(row["last_finished_at"]),
            (
                f"{_short_owner(_text(row['pod']))} {_text(row['last_reason'])} "
                f"exit {_text(row['last_exit_code'])}"
            ),
        )
        for row in ended.to_dict("records")
    ]


def _warnings(incident: Any) -> list[tuple[float, str]]:
    events = incident.events
    wanted = events[(events["type"] == "Warning") | events["reason"].isin(LIFECYCLE_REASONS)]
    return [
        (_ms(row["timestamp"]), f"{_text(row['reason'])} {_short_owner(_text(row['name']))}")
        for row in wanted.to_dict("records")
    ]


def _amount(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{count(value)} {unit}"


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else printable(value, limit=80)


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


def _worth_drawing(part: pd.DataFrame, start_line: Numbers) -> bool:
    """Whether the log start is near enough to the other lines to be shown on their scale."""
    others = np.concatenate(
        [
            part["log_end_offset"].to_numpy(dtype="float64"),
            part["committed_offset"].to_numpy(dtype="float64"),
        ]
    )
    high, low = _finite_max(others), _finite_min(others)
    nearest = _finite_max(start_line)
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
    at = _ms(worst["timestamp"])
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
    parts = _partition_keys(result.flow.cleaned)
    lags = {
        key: _finite_max(part["lag_messages"].to_numpy(dtype="float64"))
        for key, part in parts.items()
    }
    wanted = set(_worst_first(lags)[:MOST_PARTITIONS])
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


LONGEST_COMMIT_PAUSE_MS = 60_000.0
"""Commits come every 5 s by default (auto.commit.interval.ms) and exporters show them up to 60 s
later (Redpanda's collection interval): a shorter pause says nothing."""


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

"""The answer as HTML (one file, offline), Markdown and CSV; foreign text is escaped in each."""

from __future__ import annotations

import csv
import functools
import io
from typing import TYPE_CHECKING, Any

from lagkit.capacity import charts, tables
from lagkit.capacity.model import Trend
from lagkit.capacity.outlook import Capacities
from lagkit.render.markdown import bullets, escape, table
from lagkit.resources import resource_path
from lagkit.wording import clock, percent, plural, printable, visible

if TYPE_CHECKING:
    import jinja2

TEMPLATE = "capacity.html.j2"
STYLE = "templates/report.css"
DRAWN = 6
"""Trends shown with their figures, the worst; the table has all."""
WRITTEN = 12
"""Trends told in words in the Markdown."""
MOST_ROWS = 200
"""Rows of the Markdown's table; HTML, JSON and CSV have all."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; script-src 'none'"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_html(found: Capacities) -> str:
    """Return one HTML document that opens offline; it holds no script."""
    from markupsafe import Markup

    answer = found.answer
    drawn = []
    for number, trend in enumerate(answer.trends[:DRAWN], start=1):
        working = found.working(trend.group, trend.topic)
        figures = [charts.figure(trend, working, answer, name) for name in charts.FIGURES]
        drawn.append(
            {
                "trend": trend,
                "id": f"trend-{number}",
                # made by lagkit from escaped text
                "figures": [(figure, Markup(figure.svg())) for figure in figures],  # noqa: S704
                "columns": tables.one(answer, number).frame.itertuples(index=False),
                "what_if": tables.what_if(answer, number).frame,
                "happened": tables.happened(answer, number).frame,
            }
        )
    style = resource_path(STYLE).read_text(encoding="utf-8")
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            answer=answer,
            policy=POLICY,
            style=Markup(style),  # noqa: S704 - shipped with lagkit
            lead=lead(found),
            rows=[_row(number, trend) for number, trend in enumerate(answer.trends, start=1)],
            drawn=drawn,
            everything=tables.everything(answer).frame,
            actions=tables.actions(answer).frame,
            not_seen=tables.not_seen(answer).frame,
        )
    )


def render_markdown(found: Capacities) -> str:
    """Return Markdown (CommonMark with tables of at most eight columns)."""
    answer = found.answer
    shown = tables.ranked(answer).frame
    parts = [
        "# Capacity trend",
        f"{escape(lead(found))} {_window(found)}, target {percent(answer.target)}.",
        "## Worst first",
        table(
            list(shown.columns),
            [
                [escape(cell) for cell in row]
                for row in shown.head(MOST_ROWS).itertuples(index=False)
            ],
        ),
    ]
    if len(shown) > MOST_ROWS:
        parts.append(f"{len(shown) - MOST_ROWS} more rows are in `capacity.csv`.")
    for number, trend in enumerate(answer.trends[:WRITTEN], start=1):
        columns = tables.one(answer, number).frame
        parts += [
            f"## {escape(trend.name)}",
            escape(trend.verdict),
            table(
                ("what", "value"),
                [[escape(cell) for cell in row] for row in columns.itertuples(index=False)],
            ),
        ]
        whatever = tables.what_if(answer, number)
        if len(whatever.frame):
            parts += [
                "### What if",
                table(
                    list(whatever.frame.columns),
                    [
                        [escape(cell) for cell in row]
                        for row in whatever.frame.itertuples(index=False)
                    ],
                ),
            ]
        working = found.working(trend.group, trend.topic)
        if number <= DRAWN:
            parts.append(
                bullets(
                    escape(charts.figure(trend, working, answer, name).alt)
                    for name in charts.FIGURES
                )
            )
        if trend.happened:
            parts += [
                "### What happened",
                bullets(
                    f"{clock(one.at)} {escape(one.kind)}: {escape(one.text)}"
                    for one in trend.happened
                ),
            ]
    items = [item for trend in answer.trends for item in trend.actions]
    if items:
        parts += [
            "## What a person may do",
            bullets(
                f"**{escape(item.title)}**: {escape(item.why)}. Done when {escape(item.done_when)}."
                for item in items
            ),
        ]
    lost = tables.not_seen(answer).frame
    parts += [
        "## Not seen",
        bullets(
            f"{escape(what)}: {escape(why)}{' ' + escape(fix) if fix else ''}"
            for what, why, fix in lost.itertuples(index=False)
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_csv(found: Capacities) -> str:
    """Return every column, one row a group and topic; no cell can act as a formula."""
    frame = tables.everything(found.answer).frame
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(frame.columns)
    for row in frame.itertuples(index=False):
        writer.writerow(_harmless(cell) for cell in row)
    return sink.getvalue()


def lead(found: Capacities) -> str:
    """Return one line with how many groups stand how."""
    counts = {
        level: sum(trend.level == level for trend in found.answer.trends)
        for level in ("act", "watch", "unknown", "fine")
    }
    words = {"act": "to act on", "watch": "to watch", "unknown": "unknown", "fine": "fine"}
    told = ", ".join(f"{count} {words[level]}" for level, count in counts.items() if count)
    return f"{plural(len(found.answer.trends), 'group on a topic', 'groups on topics')}: {told}."


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) and cell != tables.NOTHING else cell


def _window(found: Capacities) -> str:
    answer = found.answer
    return f"From {clock(answer.start)} to {clock(answer.end)}"


def _row(number: int, trend: Trend) -> dict[str, Any]:
    return {
        "anchor": f"trend-{number}" if number <= DRAWN else "",
        "level": trend.level,
        "cells": [tables.COLUMNS[name](trend) for name in tables.RANKED],
    }


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        if isinstance(value, str) and not isinstance(value, Markup):
            return visible(value)
        return value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource_path(f"templates/{TEMPLATE}").parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"clock": clock, "percent": percent, "printable": printable}
    environment.globals["ranked"] = tables.RANKED
    return environment

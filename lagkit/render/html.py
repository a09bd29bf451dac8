"""``report.html``: one file that opens offline, under a policy that forbids every request.

The static pictures come first; the script only upgrades them in place, so a mail preview, a
printer or a browser without scripts loses nothing. Everything from outside is escaped by the
template, and ``<`` never occurs in the data given to the script.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lagkit.charts import evidence_weights, sign_of
from lagkit.figure.interactive import plotly_json
from lagkit.render.text import CONDITION, LABEL, SAFETY, STATES
from lagkit.resources import resource_path
from lagkit.wording import clock, count, duration, number, onset_text, percent, visible

if TYPE_CHECKING:
    import jinja2

    from lagkit.figure import Figure
    from lagkit.model import Finding
    from lagkit.report import Query, Report

TEMPLATE = "report.html.j2"
MOST_FOR = 4
MOST_AGAINST = 3
"""Causes named beside a finding; the matrix has them all."""
STYLE = "templates/report.css"
START_SCRIPT = "templates/plotly-start.js"
LIBRARY = "templates/vendor/plotly-cartesian.min.js"
STATUS = {
    "validated": "validated",
    "invalidated": "ruled out",
    "inconclusive": "inconclusive",
    "not_checked": "not checked",
}


def render_html(report: Report, *, interactive: bool = True) -> str:
    """Return the report as one HTML document; without *interactive* it holds no script at all."""
    from markupsafe import Markup

    library = _shipped(LIBRARY) if interactive else ""
    start = _shipped(START_SCRIPT) if interactive else ""
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            report=report,
            verdict=report.verdict,
            screen=screen_rows(report.first_screen),
            lead=report.verdict.verdict.summary.removeprefix(
                f"{report.title_of(report.verdict.verdict.cause)}: "
            ),
            policy=_policy(library, start) if interactive else _policy(),
            style=Markup(_shipped(STYLE)),  # noqa: S704 - shipped with lagkit, not from outside
            library=Markup(library),  # noqa: S704
            start=Markup(start),  # noqa: S704
            pictures=[_picture(figure, interactive=interactive) for figure in report.figures],
            findings=[_finding_row(report, finding) for finding in report.verdict.findings],
            matrix=_matrix(report),
            states=STATES,
            safety=SAFETY,
            conditions=CONDITION,
            status=STATUS,
        )
    )


def screen_rows(first_screen: str) -> list[tuple[str, str]]:
    """Return the lines of the first screen as (label, text); the heading has no label."""
    heading, *lines = first_screen.splitlines()
    return [("", heading), *((line[:LABEL].strip(), line[LABEL:].strip()) for line in lines)]


def anchor(text: str) -> str:
    """Return *text* as the id of an element."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "item"


@functools.cache
def _shipped(relative: str) -> str:
    return resource_path(relative).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
        f"base-uri 'none'; form-action 'none'; script-src {allowed or chr(39) + 'none' + chr(39)}"
    )


def _picture(figure: Figure, *, interactive: bool) -> dict[str, Any]:
    from markupsafe import Markup

    data = plotly_json(figure).replace("<", "\\u003c") if interactive else ""
    return {
        "figure": figure,
        # both are made by lagkit from escaped text
        "svg": Markup(figure.svg()),  # noqa: S704
        "data": Markup(data),  # noqa: S704
    }


def _finding_row(report: Report, finding: Finding) -> dict[str, Any]:
    signed = [
        (report.title_of(cause), sign_of(weight)) for cause, weight in strongest(finding.weights)
    ]
    return {
        "finding": finding,
        "queries": queries_of(report, finding.query),
        "value": measured(finding.value, finding.unit),
        "baseline": measured(finding.baseline, finding.unit),
        "weights": signed,
    }


def queries_of(report: Report, references: str) -> list[Query]:
    """Return the queries that *references* names by id ("prometheus-01, kafka-02").

    Empty where it is a text of its own.
    """
    wanted = {name.strip() for name in references.split(",")}
    found = [query for query in report.queries if query.id in wanted]
    return found if len(found) == len(wanted) else []


def strongest(weights: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the weights that count, from strongest for to strongest against, not all of them.

    The matrix of the report has every one.
    """
    counted = sorted(
        ((cause, weight) for cause, weight in weights.items() if sign_of(weight) != "0"),
        key=lambda item: (-item[1], item[0]),
    )
    speaking = [item for item in counted if item[1] > 0][:MOST_FOR]
    return speaking + [item for item in counted if item[1] < 0][-MOST_AGAINST:]


def measured(value: float | None, unit: str) -> str:
    """Return a value with its unit; empty for a value that a finding does not have."""
    if value is None:
        return ""
    if unit in ("s", "seconds"):
        return duration(value)
    return f"{number(value)} {unit}".strip()


def _matrix(report: Report) -> dict[str, Any]:
    """Return all checks against all causes: the whole of which the picture shows the top."""
    verdict = report.verdict
    weights = evidence_weights(verdict)
    causes = [entry.cause for entry in verdict.ranking]
    order = {"present": 0, "absent": 1, "not_checked": 2}
    rows = [
        (
            check,
            [
                ""
                if check.outcome == "not_checked"
                else sign_of(weights.get((check.kind, cause), 0.0))
                for cause in causes
            ],
        )
        for check in sorted(verdict.checks, key=lambda check: (order[check.outcome], check.kind))
    ]
    return {"causes": causes, "rows": rows}


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        """Take control and bidirectional characters out of everything that is put in."""
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
    environment.filters |= {
        "anchor": anchor,
        "clock": clock,
        "count": count,
        "duration": duration,
        "number": number,
        "percent": percent,
    }
    environment.globals["onset_text"] = onset_text
    return environment

"""``report.html``: one file that opens offline, under a policy that forbids every request.

The static pictures come first; the script only upgrades them in place, so a mail preview, a
printer or a browser without scripts loses nothing. Everything from outside is escaped by the
template, and ``<`` never occurs in the data given to the script.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lagkit.charts import evidence_weights, sign_of
from lagkit.render.page import page
from lagkit.render.text import CONDITION, LABEL, SAFETY, STATES
from lagkit.wording import duration, number

if TYPE_CHECKING:
    from lagkit.model import Finding
    from lagkit.report import Query, Report

TEMPLATE = "report.html.j2"
MOST_FOR = 4
MOST_AGAINST = 3
"""Causes named beside a finding; the matrix has them all."""
STATUS = {
    "validated": "validated",
    "invalidated": "ruled out",
    "inconclusive": "inconclusive",
    "not_checked": "not checked",
}


def render_html(report: Report, *, interactive: bool = True) -> str:
    """Return the report as one HTML document; without *interactive* it holds no script at all."""
    return page(
        TEMPLATE,
        report.figures,
        interactive=interactive,
        report=report,
        verdict=report.verdict,
        screen=screen_rows(report.first_screen),
        lead=report.verdict.verdict.summary.removeprefix(
            f"{report.title_of(report.verdict.verdict.cause)}: "
        ),
        findings=[_finding_row(report, finding) for finding in report.verdict.findings],
        matrix=_matrix(report),
        states=STATES,
        safety=SAFETY,
        conditions=CONDITION,
        status=STATUS,
    )


def screen_rows(first_screen: str) -> list[tuple[str, str]]:
    """Return the lines of the first screen as (label, text); the heading has no label."""
    heading, *lines = first_screen.splitlines()
    return [("", heading), *((line[:LABEL].strip(), line[LABEL:].strip()) for line in lines)]


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

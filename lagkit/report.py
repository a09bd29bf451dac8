"""What a report shows, as data: one thing for every renderer.

:func:`build` gathers it from a result; ``lagkit.render`` has one renderer per format and
``lagkit.writing`` puts them on disk. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lagkit.render import text

if TYPE_CHECKING:
    from lagkit.charts import Investigated
    from lagkit.dashboards import Link
    from lagkit.figure import Figure
    from lagkit.figure.drawing import Table
    from lagkit.model import Verdict


@dataclass(frozen=True, slots=True)
class Gap:
    """What was not seen, why, and what would mend it."""

    source: str
    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Query:
    """One question that was asked of a source."""

    id: str
    source: str
    statement: str
    seconds: float
    rows: int
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Everything a report shows, in the order of showing."""

    verdict: Verdict
    first_screen: str
    figures: tuple[Figure, ...]
    cause_titles: Mapping[str, str]
    questions: Mapping[str, str]
    """Evidence kind → the question it answers."""
    gaps: tuple[Gap, ...]
    queries: tuple[Query, ...]
    facts: Mapping[str, Mapping[str, str]]
    redactions: Mapping[str, int]
    promise_seconds: float
    criticality: str
    links: tuple[Link, ...] = ()
    """The runbook's dashboards, with this incident's group and window."""
    notices: tuple[str, ...] = ()
    """What failed while the report was made."""

    def title_of(self, cause: str) -> str:
        """Return what *cause* is called."""
        return self.cause_titles.get(cause, cause.replace("_", " ").capitalize())

    def question_of(self, kind: str) -> str:
        """Return the question that evidence of *kind* answers."""
        return self.questions.get(kind, kind.replace("_", " ").capitalize())

    def table(self, name: str) -> Table:
        """Return the data table of the figure called *name*; KeyError if there is none."""
        for figure in self.figures:
            if figure.name == name:
                return figure.table
        raise KeyError(name)


def first_screen(result: Investigated) -> str:
    """Return the first screen: at most 12 lines of at most 100 characters, the same everywhere."""
    return text.first_screen(result.verdict)


def build(result: Investigated, *, notices: tuple[str, ...] = ()) -> Report:
    """Return everything the report of *result* shows."""
    from lagkit import charts
    from lagkit.causes import catalogue
    from lagkit.dashboards import links

    known = getattr(result, "catalogue", None) or catalogue()
    incident = result.incident
    return Report(
        verdict=result.verdict,
        first_screen=first_screen(result),
        figures=charts.figures(result),
        cause_titles={cause.id: cause.title for cause in known.causes},
        questions={kind.id: kind.question for kind in known.evidence},
        gaps=tuple(Gap(gap.source, gap.what, gap.why, gap.fix) for gap in incident.coverage),
        queries=tuple(_query(row) for row in incident.queries.to_dict("records")),
        facts={name: dict(sorted(facts.items())) for name, facts in sorted(incident.facts.items())},
        redactions=dict(sorted(incident.redactions.items())),
        promise_seconds=float(result.runbook_group.promise_seconds),
        criticality=str(result.runbook_group.criticality),
        links=links(
            incident.runbook,
            incident.group,
            incident.topics,
            incident.cluster,
            incident.start,
            incident.end,
        ),
        notices=notices,
    )


def _query(row: Mapping[str, Any]) -> Query:
    import pandas as pd

    detail = row["detail"]
    return Query(
        id=str(row["query_id"]),
        source=str(row["source"]),
        statement=str(row["statement"]),
        seconds=float(row["seconds"]),
        rows=int(row["rows"]),
        outcome=str(row["outcome"]),
        detail="" if pd.isna(detail) else str(detail),
    )

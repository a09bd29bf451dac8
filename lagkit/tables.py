"""The tables of a notebook: what a result says in words, one row a thing, complete and stable.

A :class:`Sheet` holds a DataFrame and shows it whole: pandas would cut a sentence at 50
characters, and its HTML has no caption and no scope. Every cell is text already, so that the same
result gives the same bytes, and foreign text is escaped where it is shown. Nothing is computed.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from lagkit.render.text import CONDITION
from lagkit.wording import clock, number, percent, printable

if TYPE_CHECKING:
    from lagkit.charts.reading import Investigated
    from lagkit.model import Condition

_TEXT_CHARACTERS = 1000


@dataclass(frozen=True, eq=False)
class Sheet:
    """A table that shows itself whole; ``frame`` is the DataFrame behind it."""

    name: str
    caption: str
    frame: pd.DataFrame

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col" style="text-align:left">{html.escape(name)}</th>'
            for name in self.frame.columns
        )
        body = "".join(
            "<tr>"
            + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in row)
            + "</tr>\n"
            for row in self.frame.itertuples(index=False)
        )
        return (
            f'<table id="lagkit-{self.name}">\n<caption>{html.escape(self.caption)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
        )

    def __repr__(self) -> str:
        """Return the rows as ``name: value`` blocks, which no width can cut."""
        blocks = (
            "\n".join(f"  {name}: {cell}" for name, cell in row.items() if cell)
            for row in self.frame.to_dict("records")
        )
        return "\n\n".join([self.caption, *blocks])


def sheet(result: Investigated, name: str) -> Sheet:
    """Return the table *name* of *result*; the names are those of ``SHEETS``.

    Raises
    ------
    ValueError
        There is no such table; the text names those there are.
    """
    if name not in SHEETS:
        msg = f"no table {name!r}; there are: {', '.join(SHEETS)}"
        raise ValueError(msg)
    return SHEETS[name](result)


def sources(result: Investigated) -> Sheet:
    """Return how each source did, and who it said it was."""
    return text_sheet(
        "sources",
        "What was asked, and how it went",
        ("source", "status", "detail", "facts"),
        (
            (
                name,
                report.status.replace("_", " "),
                report.detail,
                ", ".join(
                    f"{key.replace('_', ' ')} {value}"
                    for key, value in sorted(result.incident.facts.get(name, {}).items())
                ),
            )
            for name, report in result.verdict.sources.items()
        ),
    )


def findings(result: Investigated) -> Sheet:
    """Return what was seen, with the number before and the query behind it."""
    end = result.verdict.incident.end
    return text_sheet(
        "findings",
        "What was seen, when it began, and the query behind it",
        ("finding", "statement", "began", "value", "baseline", "unit", "source", "query"),
        (
            (
                finding.id,
                finding.statement,
                clock(finding.onset, near=end, seconds=True) if finding.onset else "",
                "" if finding.value is None else number(finding.value),
                "" if finding.baseline is None else number(finding.baseline),
                finding.unit,
                finding.source,
                finding.query,
            )
            for finding in result.verdict.findings
        ),
    )


def ranking(result: Investigated) -> Sheet:
    """Return the causes from the likeliest to the least."""
    return text_sheet(
        "ranking",
        "Causes, the likeliest first; before: what the runbook alone would say",
        ("rank", "cause", "probability", "before", "status", "role", "for", "against"),
        (
            (
                str(entry.rank),
                entry.cause,
                percent(entry.probability),
                percent(entry.prior),
                entry.status.replace("_", " "),
                entry.role,
                str(len(entry.evidence_for)),
                str(len(entry.evidence_against)),
            )
            for entry in result.verdict.ranking
        ),
    )


def actions(result: Investigated) -> Sheet:
    """Return what a person could run, with what must hold first, and then what not to do."""
    verdict = result.verdict
    rows = [
        (
            action.title,
            action.command,
            action.safety.replace("_", " "),
            "; ".join(_condition(entry) for entry in action.conditions)
            or "; ".join(action.preconditions),
            action.gain,
            action.cost,
            action.why,
        )
        for action in verdict.actions
    ]
    rows += [("Do not", "", "", "", "", "", text) for text in verdict.do_not]
    return text_sheet(
        "actions",
        "Commands for a person; lagkit runs none of them",
        ("action", "command", "safety", "only if", "gain", "cost", "why"),
        rows,
    )


def _condition(entry: Condition) -> str:
    return f"{CONDITION[entry.status]}: {entry.text}" + (f" ({entry.seen})" if entry.seen else "")


def prospects(result: Investigated) -> Sheet:
    """Return what each thing that can be done would gain and cost."""
    return text_sheet(
        "prospects",
        "What would drain it, by the rates of this incident",
        ("if", "caught up", "cost"),
        ((entry.title, entry.statement, entry.cost) for entry in result.verdict.prospects),
    )


def blind_spots(result: Investigated) -> Sheet:
    """Return what was not checked."""
    return text_sheet(
        "blind-spots",
        "Not checked: neither confirmed nor refuted",
        ("not checked",),
        ((text,) for text in result.verdict.not_checked),
    )


def queries(result: Investigated) -> Sheet:
    """Return every question that was asked, as it was asked."""
    return text_sheet(
        "queries",
        "Every question that was asked of a system",
        ("query", "source", "statement", "rows", "outcome", "detail"),
        (
            (
                str(row["query_id"]),
                str(row["source"]),
                str(row["statement"]),
                str(row["rows"]),
                str(row["outcome"]),
                "" if pd.isna(row["detail"]) else str(row["detail"]),
            )
            for row in result.incident.queries.to_dict("records")
        ),
    )


def text_sheet(
    name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> Sheet:
    """Return a sheet of text: bounded cells that hold nothing invisible."""
    cells = [[printable(cell, limit=_TEXT_CHARACTERS) for cell in row] for row in rows]
    return Sheet(name, caption, pd.DataFrame(cells, columns=list(columns), dtype="str"))


SHEETS: Mapping[str, Callable[[Investigated], Sheet]] = {
    "sources": sources,
    "findings": findings,
    "ranking": ranking,
    "actions": actions,
    "prospects": prospects,
    "blind-spots": blind_spots,
    "queries": queries,
}

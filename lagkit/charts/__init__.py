"""The seven figures of an investigation, each settling one question, each with words and a table.

Every figure is built from frames that were computed before (``result.flow``) and from the verdict:
here values are only picked, put in a unit a person reads, thinned and drawn. A figure without data
says so in its place; it is never left out, because what was not seen is part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lagkit.charts.by_partition import assignment, cumulative, partitions
from lagkit.charts.judgement import deadline, evidence, evidence_weights, sign_of
from lagkit.charts.over_time import flow, timeline
from lagkit.charts.reading import MOST_PARTITIONS, Investigated, window_ms
from lagkit.figure import Figure

__all__ = [
    "FIGURES",
    "MOST_PARTITIONS",
    "Investigated",
    "assignment",
    "cumulative",
    "deadline",
    "evidence",
    "evidence_weights",
    "figure",
    "figures",
    "flow",
    "partitions",
    "sign_of",
    "timeline",
    "window_ms",
]

FIGURES: Mapping[str, Callable[[Investigated], Figure]] = {
    "timeline": timeline,
    "flow": flow,
    "partitions": partitions,
    "cumulative": cumulative,
    "assignment": assignment,
    "evidence": evidence,
    "deadline": deadline,
}


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

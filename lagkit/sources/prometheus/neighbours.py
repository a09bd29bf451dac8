"""Other groups, and other topics of this one, for the comparison of who else falls behind."""

from __future__ import annotations

import pandas as pd

from lagkit import frames
from lagkit.sources.dialects import joined, matcher, one_of, quoted
from lagkit.sources.prometheus.grid import Grid
from lagkit.sources.prometheus.inquiry import Inquiry, Spoken

MOST_NEIGHBOURS = 200


def neighbours(inquiry: Inquiry, spoken: Spoken, grid: Grid) -> None:
    """Fill the frame ``neighbours``; of very many those with the most lag."""
    found, dialect, scope = spoken.found, spoken.found.dialect, inquiry.scope
    where = spoken.where
    selections = [joined(f"{dialect.group}!={quoted(scope.group)}", where)]
    if scope.topics:
        others = f"{dialect.topic}!~{one_of(scope.topics)}"
        selections.append(joined(matcher(dialect.group, [scope.group]), others, where))
    keys = [dialect.group, dialect.topic]
    rows: list[pd.DataFrame] = []
    for selection in selections:
        # the last value of each within the window picks the ones worth their history
        known = inquiry.ask.instant(found.by_topic("lag", selection, where, f"{inquiry.span}s"))
        ranked = known.columns(*keys).dropna().drop_duplicates(keys)
        if ranked.empty:
            continue
        total = len(ranked)
        ranked = ranked.sort_values(["value", *keys], ascending=[False, True, True])
        kept = ranked.head(grid.at_most(MOST_NEIGHBOURS))
        narrowed = selection
        if total > len(kept):
            narrowed = joined(
                selection, *(f"{key}=~{one_of(sorted(set(kept[key])))}" for key in keys)
            )
            inquiry.facts["neighbours_left_out"] = str(total - len(kept))
            inquiry.blind(
                "other groups with little lag",
                f"{total} group-topics; the {len(kept)} with the most lag are kept",
            )
        parts = []
        for concept, column in (("lag", "lag_messages"), ("committed", "committed_sum")):
            expression = found.by_topic(concept, narrowed, where, grid.window)
            if not expression:
                continue
            answer = inquiry.ask.range(expression, grid)
            part = answer.columns(*keys).dropna().drop(columns="series")
            part = part.merge(kept[keys], on=keys)
            parts.append(part.rename(columns={"value": column}).assign(query_id=answer.query_id))
        first, *rest = parts
        for part in rest:
            first = first.merge(part.drop(columns="query_id"), on=["time", *keys], how="left")
        rows.append(first)
    if not rows:
        return
    together = pd.concat(rows, ignore_index=True)
    inquiry.frames["neighbours"] = frames.normalise(
        "neighbours",
        together.drop(columns="time")
        .rename(columns={dialect.group: "group", dialect.topic: "topic"})
        .assign(timestamp=inquiry.times(together["time"])),
    )

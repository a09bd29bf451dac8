"""What the other exporters say of the same group, in a coarse step: the frame ``second_opinions``.

They are read for a cross-check only, so a few points and few series are enough. Which of them is
right is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.sources.dialects import joined, matcher
from lagkit.sources.prometheus.grid import WINDOW_SLACK, Grid
from lagkit.sources.prometheus.inquiry import Inquiry, Spoken

MOST_POINTS = 120
MOST_PARTITIONS = 100
"""Of an exporter that tells more partitions of the group, the sums per topic are read."""
LOOK_BACK_SECONDS = 66
"""A scrape interval of a minute, the longest in common use, and a tenth."""


def second_opinions(inquiry: Inquiry, others: Iterable[Spoken], grid: Grid) -> None:
    """Fill the frame ``second_opinions`` from every dialect in *others*."""
    step = max(grid.step, math.ceil((grid.last - grid.first) / MOST_POINTS))
    coarse = Grid.over(inquiry.scope.start, inquiry.scope.end, step)
    # not the coarse step: what was said long before a point is no opinion on it
    window = f"{max(LOOK_BACK_SECONDS, math.ceil(grid.step * WINDOW_SLACK))}s"
    rows = [part for spoken in others for part in _opinions(inquiry, spoken, coarse, window)]
    if rows:
        inquiry.frames["second_opinions"] = frames.normalise(
            "second_opinions", pd.concat(rows, ignore_index=True)
        )


def _opinions(inquiry: Inquiry, spoken: Spoken, grid: Grid, window: str) -> Iterable[pd.DataFrame]:
    dialect = spoken.found.dialect
    keys, expressions = _questions(inquiry, spoken, window)
    together = pd.DataFrame({"time": [], **{key: [] for key in keys}})
    for concept, expression in expressions.items():
        if not expression:
            continue
        answer = inquiry.ask.range(expression, grid)
        part = answer.columns(*keys).dropna(subset=["value", *keys]).drop(columns="series")
        part = part.rename(columns={"value": concept})
        part[f"{concept}_query"] = answer.query_id
        # every partition of the topic has an end; the group may read only some
        how = "left" if concept == "log_end" and len(together) else "outer"
        together = part if together.empty else together.merge(part, on=["time", *keys], how=how)
    if together.empty:
        return
    for concept in ("lag", "committed", "log_end"):
        if concept not in together:
            together = together.assign(**{concept: np.nan, f"{concept}_query": None})
    lag = together["lag"]
    if dialect.zero_lag_without_commit:
        lag = lag.mask((lag == 0) & together["committed"].isna())
    by_partition = dialect.partition in keys
    yield pd.DataFrame(
        {
            "timestamp": frames.from_epoch_seconds(together["time"].to_numpy()),
            "dialect": dialect.id,
            "group": inquiry.scope.group,
            "topic": together[dialect.topic] if keys else None,
            "partition": pd.to_numeric(together[dialect.partition], errors="coerce").astype("Int64")
            if by_partition
            else None,
            "committed_offset": together["committed"],
            "log_end_offset": together["log_end"],
            "lag_messages": lag,
            "query_id": together["lag_query"].fillna(together["committed_query"]),
        }
    ).drop_duplicates(["timestamp", "topic", "partition"])


def _questions(
    inquiry: Inquiry, spoken: Spoken, window: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the labels that tell the rows apart, and PromQL by concept, "" for what is not there.

    By partition where there are few, else by topic; by group where nothing finer is told.
    """
    found, dialect, scope = spoken.found, spoken.found.dialect, inquiry.scope
    own = spoken.of_group(scope.group, scope.topics)
    if dialect.granularity == "group":
        # the lag of a whole group says nothing of some of its topics
        return (), {} if scope.topics else {"lag": found.by_group(own, window)}
    of_topics = joined(matcher(dialect.topic, spoken.topics(scope.topics)), spoken.where)
    if dialect.granularity == "partition" and len(spoken.series) <= MOST_PARTITIONS:
        asked = {
            concept: found.by_partition(concept, own, window) for concept in ("lag", "committed")
        }
        if not asked["lag"]:
            asked["log_end"] = found.by_partition("log_end", of_topics, window)
        return (dialect.topic, dialect.partition), asked
    return (dialect.topic,), {
        concept: found.by_topic(concept, own, of_topics, window) for concept in ("lag", "committed")
    }

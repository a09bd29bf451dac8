"""The group's own past: offsets per partition, members and state, each as exported.

A value is asked for within one step, so what was not scraped is a missing row. Values that an
exporter uses as a marker stay as they are, but for a zero that its dialect calls unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.sources.dialects import BROKER_LOGS, joined, matcher
from lagkit.sources.prometheus.grid import WINDOW_SLACK, Grid
from lagkit.sources.prometheus.inquiry import Inquiry, Spoken

Task = tuple[str, Callable[[], None]]

_SAYS = {
    "committed": "committed offsets over time",
    "lag": "lag as exported over time",
    "log_end": "log end offsets over time",
    "log_start": "log start offsets over time",
    "lag_seconds": "age of the oldest record as exported",
}
_OF_TOPICS = ("log_end", "log_start")
_KEYS = ["time", "topic", "partition"]
_GAP_STEPS = 1.5
"""Two samples further apart than this many steps have a gap between them."""


class OffsetHistory:
    """The frame ``offsets``: one question per concept, joined when all have come."""

    def __init__(
        self, inquiry: Inquiry, spoken: Spoken, grid: Grid, of_brokers: str | None
    ) -> None:
        """Read for *spoken*; *of_brokers* matches the brokers' own series, None: they are unknown.

        Where the exporter writes no log offsets, the brokers' own are taken.
        """
        self._inquiry, self._spoken, self._grid = inquiry, spoken, grid
        self._of_brokers = of_brokers
        self._parts: dict[str, pd.DataFrame] = {}

    def tasks(self) -> list[Task]:
        """Return what to ask, each question on its own."""
        if self._spoken.found.dialect.granularity == "topic":
            return [(_SAYS[concept], partial(self._by_topic, concept)) for concept in
                    ("committed", "lag")]  # fmt: skip
        return [
            (says, partial(self._by_partition, concept, expression, labels))
            for concept, says in _SAYS.items()
            for expression, labels in [self._expression(concept)]
            if expression
        ]

    def _expression(self, concept: str) -> tuple[str, tuple[str, str]]:
        spoken, found, window = self._spoken, self._spoken.found, self._grid.window
        dialect, scope = found.dialect, self._inquiry.scope
        own = (dialect.topic, dialect.partition)
        if concept not in _OF_TOPICS:
            matchers = spoken.of_group(scope.group, scope.topics)
            return found.by_partition(concept, matchers, window), own
        topics = spoken.topics(scope.topics)
        of_topics = joined(matcher(dialect.topic, topics), spoken.where)
        # an exporter that has such names and writes none of them now is broken, not poor
        poor = dialect.end_from_lag or not getattr(dialect, concept)
        if found.metrics(concept) or self._of_brokers is None or not poor:
            return found.by_partition(concept, of_topics, window), own
        for log in BROKER_LOGS:
            name = getattr(log, concept)
            if name in found.names:
                matchers = joined(matcher(log.topic, topics), self._of_brokers)
                last = f"last_over_time({name}{{{matchers}}}[{window}])"
                labels = (log.topic, log.partition)
                return f"max by ({', '.join(labels)}) ({last})", labels
        return "", own

    def _by_partition(self, concept: str, expression: str, labels: tuple[str, str]) -> None:
        answer = self._inquiry.ask.range(expression, self._grid)
        topic, number = labels
        rows = answer.columns(topic, number).dropna(subset="value")
        self._parts[concept] = pd.DataFrame(
            {
                "time": rows["time"],
                "topic": rows[topic],
                "partition": pd.to_numeric(rows[number], errors="coerce"),
                concept: rows["value"],
                f"{concept}_query": answer.query_id,
            }
        ).dropna(subset=["topic", "partition"])

    def _by_topic(self, concept: str) -> None:
        spoken, scope = self._spoken, self._inquiry.scope
        matchers = spoken.of_group(scope.group, scope.topics)
        expression = spoken.found.by_topic(concept, matchers, spoken.where, self._grid.window)
        answer = self._inquiry.ask.range(expression, self._grid)
        rows = answer.columns(spoken.found.dialect.topic).dropna()
        self._parts[concept] = pd.DataFrame(
            {
                "time": rows["time"],
                "topic": rows[spoken.found.dialect.topic],
                "partition": frames.WHOLE_TOPIC,
                concept: rows["value"],
                f"{concept}_query": answer.query_id,
            }
        )

    def join(self) -> None:
        """Join what came into the frame ``offsets``."""
        inquiry = self._inquiry
        rows = pd.DataFrame({key: [] for key in _KEYS})
        for concept in _SAYS:
            part = self._parts.get(concept)
            if part is not None:
                # an age alone is no sample of an offset
                how = "left" if concept == "lag_seconds" else "outer"
                rows = part if rows.empty else rows.merge(part, on=_KEYS, how=how)
        if rows.empty:
            if not inquiry.ask.failures:
                inquiry.ask.miss(
                    "offset history of the group",
                    "the group has series, and no sample of them lies in the window",
                    "Widen the window with --since.",
                )
            return
        for concept in _SAYS:
            if concept not in rows:
                rows = rows.assign(**{concept: np.nan, f"{concept}_query": None})
        rows = self._used_topics(self._derived(rows)).drop_duplicates(_KEYS)
        queries = rows["committed_query"]
        for concept in ("lag", "log_end", "log_start"):
            queries = queries.where(queries.notna(), rows[f"{concept}_query"])
        inquiry.frames["offsets"] = frames.normalise(
            "offsets",
            pd.DataFrame(
                {
                    "timestamp": inquiry.times(rows["time"]),
                    "group": inquiry.scope.group,
                    "topic": rows["topic"],
                    "partition": rows["partition"].astype("int64"),
                    "committed_offset": rows["committed"],
                    "log_end_offset": rows["log_end"],
                    "log_start_offset": rows["log_start"],
                    "lag_messages": rows["lag"],
                    "lag_seconds": rows["lag_seconds"],
                    "query_id": queries,
                }
            ),
        )
        self._describe_gaps(rows)

    def _derived(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Fill in what the dialect leaves to be computed, and take out what it does not know."""
        found = self._spoken.found
        dialect = found.dialect
        if dialect.zero_lag_without_commit:
            unknown = (rows["lag"] == 0) & rows["committed"].isna()
            rows = rows.assign(lag=rows["lag"].mask(unknown))
        if dialect.granularity == "topic":
            return rows.assign(log_end=rows["committed"] + rows["lag"])
        if not found.metrics("committed"):
            return rows.assign(committed=rows["log_end"] - rows["lag"])
        if dialect.end_from_lag and rows["log_end"].isna().all():
            told = (rows["committed"] >= 0) & (rows["lag"] >= 0)
            return rows.assign(log_end=(rows["committed"] + rows["lag"]).where(told))
        return rows

    def _used_topics(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Leave out topics the group never committed to, unless they were asked for by name.

        With one of its settings the OpenTelemetry receiver writes -1 for every topic there is.
        """
        if self._inquiry.scope.topics:
            return rows
        used = set(rows.loc[rows["committed"] >= 0, "topic"])
        return rows[rows["topic"].isin(used)] if used else rows

    def _describe_gaps(self, rows: pd.DataFrame) -> None:
        grid = self._grid
        seen = rows.loc[rows[["committed", "lag"]].notna().any(axis=1), "time"]
        at = np.unique(np.append(seen.to_numpy(), [grid.first, grid.last]))
        gaps = np.diff(at)[np.diff(at) > grid.step * _GAP_STEPS] - grid.step
        if len(gaps):
            longest = f"{int(gaps.max())} s"
            text = f"1 gap of {longest}" if len(gaps) == 1 else f"{len(gaps)} gaps up to {longest}"
            self._inquiry.remarks.append(text)
            self._inquiry.facts["gaps"] = text


def group_history(inquiry: Inquiry, spoken: Spoken, grid: Grid) -> None:
    """Fill the frame ``group_history``: members and state, where the exporter writes them."""
    found = spoken.found
    own = spoken.of_group(inquiry.scope.group)
    rows = pd.DataFrame({"time": [], "member_count": [], "state": [], "query_id": []})
    if members := found.metrics("members"):
        # max, not sum: two coordinators may both write it while the group moves
        expression = " or ".join(
            f"max ({found.sampled(name, own, grid.window)})" for name in members
        )
        answer = inquiry.ask.range(expression, grid)
        rows = answer.samples.rename(columns={"value": "member_count"}).drop(columns="series")
        rows = rows.dropna(subset="member_count").assign(query_id=answer.query_id)
    states = _states(inquiry, spoken, own, grid)
    if states is not None:
        rows = rows.drop(columns="state", errors="ignore").merge(
            states, on="time", how="outer", suffixes=("", "_of_state")
        )
        rows["query_id"] = rows["query_id"].where(
            rows["query_id"].notna(), rows.pop("query_id_of_state")
        )
    if rows.empty:
        return
    inquiry.frames["group_history"] = frames.normalise(
        "group_history",
        rows.drop(columns="time").assign(
            timestamp=inquiry.times(rows["time"]), group=inquiry.scope.group
        ),
    )


def _states(inquiry: Inquiry, spoken: Spoken, own: str, grid: Grid) -> pd.DataFrame | None:
    state = spoken.found.dialect.state
    names = spoken.found.present([state.name]) if state else ()
    if state is None or not names:
        return None
    if state.codes:
        answer = inquiry.ask.range(
            f"max ({spoken.found.sampled(names[0], own, grid.window)})", grid
        )
        rows = answer.samples.dropna(subset="value")
        named = rows["value"].map(state.codes).fillna("Unknown")
        return pd.DataFrame({"time": rows["time"], "state": named, "query_id": answer.query_id})
    # The series of the old state lives on for a while: the one scraped last is right, and of
    # those scraped together the one that began last. Its value is not the state (lag.md Q15).
    answer = inquiry.ask.range(f"max by ({state.label}) (timestamp({names[0]}{{{own}}}))", grid)
    rows = answer.columns(state.label).dropna(subset=["value", state.label])
    rows = rows[rows["time"] - rows["value"] <= grid.step * WINDOW_SLACK]
    rows = rows.sort_values(["series", "time"])
    new_run = (rows.groupby("series")["time"].diff() > grid.step * _GAP_STEPS).cumsum()
    rows["began"] = rows.groupby([rows["series"], new_run])["time"].transform("min")
    rows = rows.sort_values(["time", "value", "began", state.label])
    rows = rows.drop_duplicates("time", keep="last")
    return pd.DataFrame(
        {
            "time": rows["time"],
            "state": rows[state.label].map(state_name),
            "query_id": answer.query_id,
        }
    )


def state_name(text: Any) -> str:
    """Return a group state as Kafka writes it: klag's ``preparing_rebalance`` has another case."""
    words = str(text).split("_")
    return "".join(word[:1].upper() + word[1:] for word in words)

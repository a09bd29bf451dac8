"""Answers about weeks as matrices, places × hours, and the frames that they make.

A row a sample would be ten times the memory. Knows concepts and labels, and asks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.sources.prometheus.queries import Series

HOUR = 3600
Places = list[tuple[str, str]]

_OF_GROUP = ("committed", "lag", "lag_high", "consumed", "retention_use")
_OF_TOPIC = ("log_end", "log_start", "produced_high", "produced_low")
_COLUMNS = {
    "committed": "committed_sum",
    "log_end": "log_end_sum",
    "log_start": "log_start_sum",
    "produced_high": "produced_high",
    "produced_low": "produced_low",
    "consumed": "consumed_high",
    "lag_high": "lag_high",
    "retention_use": "retention_use",
}


class Tables:
    """What was answered, by concept; of two dialects the one that comes first counts."""

    def __init__(self, places: Places, hours: np.ndarray, dialects: list[str]) -> None:
        self._places, self._hours, self._dialects = places, hours, dialects
        self._topics = sorted({topic for _, topic in places})
        self._place_at = {place: number for number, place in enumerate(places)}
        self._topic_at = {topic: number for number, topic in enumerate(self._topics)}
        self._values: dict[str, np.ndarray] = {}
        self._told = np.full((len(places), len(hours)), -1, dtype="int8")
        self._partitions: list[pd.DataFrame] = []
        self._members: list[pd.DataFrame] = []

    def put(self, dialect: int, concept: str, keys: tuple[str, ...], answer: Series) -> None:
        """Store an answer; a dialect that comes earlier in the order wins where both tell."""
        if concept == "partitions":
            rows = answer.columns(*keys).dropna()
            self._partitions.append(rows.rename(columns={keys[0]: "topic", keys[1]: "partition"}))
            return
        if concept == "members":
            self._members.append(answer.columns(*keys).dropna().rename(columns={keys[0]: "group"}))
            return
        at, width = (
            (self._topic_at, len(self._topics))
            if concept in _OF_TOPIC
            else (self._place_at, len(self._places))
        )
        target = np.array(
            [at.get(_key(item["metric"], keys), -1) for item in answer.series], dtype="int64"
        )
        values = self._values.setdefault(concept, np.full((width, len(self._hours)), np.nan))
        if not len(answer.samples):
            return
        row = target[answer.samples["series"].to_numpy()]
        column = ((answer.samples["time"].to_numpy() - self._hours[0]) // HOUR).astype("int64")
        value = answer.samples["value"].to_numpy()
        good = (row >= 0) & (column >= 0) & (column < len(self._hours)) & np.isfinite(value)
        row, column, value = row[good], column[good], value[good]
        if dialect:
            # the same broker's numbers, told by another exporter: only where there is none yet
            told = self._told[row, column] if concept in _OF_GROUP else np.full(len(row), -1)
            free = np.isnan(values[row, column]) & ((told < 0) | (told >= dialect))
            row, column, value = row[free], column[free], value[free]
        values[row, column] = value
        if concept in ("committed", "lag_high", "lag"):
            before = self._told[row, column]
            self._told[row, column] = np.where(before < 0, dialect, before)

    def first_hour(self) -> int | None:
        """Return the first hour that anything is known of."""
        seen = (self._told >= 0).any(axis=0)
        return int(self._hours[seen.argmax()]) if seen.any() else None

    def flow_hours(self) -> pd.DataFrame:
        """Return the frame, sorted by time, rows without any value left out."""
        shape = (len(self._places), len(self._hours))
        topic_of = np.array([self._topic_at[topic] for _, topic in self._places], dtype="int64")

        def values(concept: str) -> np.ndarray:
            found = self._values.get(concept)
            if found is None:
                return np.full(shape, np.nan)
            return found[topic_of] if concept in _OF_TOPIC else found

        held = {concept: values(concept) for concept in _COLUMNS}
        lag = values("lag")
        held["committed"] = np.where(
            np.isnan(held["committed"]), held["log_end"] - lag, held["committed"]
        )
        held["log_end"] = np.where(
            np.isnan(held["log_end"]), held["committed"] + lag, held["log_end"]
        )
        # a topic's end alone, before the group was there, is nothing about the group
        known = (self._told >= 0).T
        columns: dict[str, Any] = {}
        hour, place = np.nonzero(known)
        names = pd.array([group for group, _ in self._places], dtype="str")
        topics = pd.array([topic for _, topic in self._places], dtype="str")
        dialects = pd.array(self._dialects, dtype="str")
        columns["timestamp"] = frames.from_epoch_seconds(self._hours)[hour]
        columns["group"], columns["topic"] = names.take(place), topics.take(place)
        for concept, column in _COLUMNS.items():
            columns[column] = held.pop(concept)[place, hour]
        columns["dialect"] = dialects.take(self._told[place, hour].astype("int64"))
        return frames.normalise("flow_hours", pd.DataFrame(columns, copy=False))

    def partition_days(self) -> pd.DataFrame:
        """Return the frame; of two dialects the first that told."""
        if not self._partitions:
            return frames.empty("partition_days")
        rows = pd.concat(self._partitions, ignore_index=True)
        number = pd.to_numeric(rows["partition"], errors="coerce")
        rows = rows.assign(partition=number).dropna(subset="partition")
        rows = rows.drop_duplicates(["time", "topic", "partition"])
        return frames.normalise(
            "partition_days",
            pd.DataFrame(
                {
                    "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                    "topic": rows["topic"].to_numpy(),
                    "partition": rows["partition"].to_numpy().astype("int64"),
                    "log_end_offset": rows["value"].to_numpy(),
                }
            ),
        )

    def member_hours(self) -> pd.DataFrame:
        """Return the frame."""
        if not self._members:
            return frames.empty("member_hours")
        rows = pd.concat(self._members, ignore_index=True).drop_duplicates(["time", "group"])
        return frames.normalise(
            "member_hours",
            pd.DataFrame(
                {
                    "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                    "group": rows["group"].to_numpy(),
                    "member_count": rows["value"].to_numpy(),
                }
            ),
        )


def _key(labels: Mapping[str, str], keys: tuple[str, ...]) -> Any:
    found = tuple(labels.get(key, "") for key in keys)
    return found if len(found) > 1 else found[0]

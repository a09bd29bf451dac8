"""What one investigation asks of one Prometheus: the questions, what came of them, where and when.

It is handed from one reading to the next; it knows no metric and no frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.sources import Blind, Scope
from lagkit.sources.dialects import CLUSTER_LABELS, DIALECTS, Dialect, Found, joined, matcher
from lagkit.sources.prometheus.grid import epoch
from lagkit.sources.prometheus.queries import Queries

LABEL_CHARACTERS = 500
"""Most that is stored of one label of an alert: labels are written by anyone."""


@dataclass(slots=True)
class Spoken:
    """A dialect together with the series of the group in it."""

    found: Found
    series: list[Mapping[str, str]]
    where: str = ""
    """Further matchers: the cluster, and the job where several export the same group."""
    cluster: Mapping[str, str] = field(default_factory=dict)
    """Labels that name the group's cluster, and their values; empty: nothing names it."""

    def of_group(self, group: str, topics: Iterable[str] = ()) -> str:
        """Return matchers of the series of *group*, on *topics* only if there are any."""
        dialect = self.found.dialect
        by_topic = matcher(dialect.topic, topics) if dialect.topic else ""
        return joined(matcher(dialect.group, [group]), by_topic, self.where)

    def topics(self, wanted: tuple[str, ...]) -> list[str]:
        """Return the topics of the group, those *wanted* if there are any."""
        label = self.found.dialect.topic
        return sorted(wanted or {item[label] for item in self.series if label in item})


def place_of(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return job and cluster of a series, as far as its labels tell them."""
    return tuple((label, labels[label]) for label in ("job", *CLUSTER_LABELS) if labels.get(label))


@dataclass(slots=True)
class Inquiry:
    """One fetch: what is asked, what came, what did not."""

    ask: Queries
    dialects: tuple[Dialect, ...] = DIALECTS
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    shift: float = 0.0
    """Seconds that the scrape lies before the grid point which shows it."""

    @property
    def scope(self) -> Scope:
        """What this is about."""
        return self.ask.scope

    @property
    def span(self) -> int:
        """Whole seconds of the window."""
        seconds = (self.scope.end - self.scope.start).total_seconds()
        return max(1, math.ceil(float(seconds)))

    @property
    def bounds(self) -> dict[str, str]:
        """The window as fields of a question."""
        return {"start": epoch(self.scope.start), "end": epoch(self.scope.end)}

    def blind(self, what: str, why: str, fix: str = "") -> None:
        """Say what cannot be seen here, though every question was answered."""
        self.ask.blind.append(Blind(what, why, fix))

    def times(self, seconds: pd.Series[Any] | np.ndarray) -> pd.DatetimeIndex:
        """Return when the samples shown at *seconds* were scraped."""
        return frames.from_epoch_seconds(np.asarray(seconds, dtype="float64") - self.shift)

    def label_values(self, label: str, match: str | list[str]) -> set[str]:
        """Return the values of *label* on the series that *match* selects, in the window."""
        fields = {**self.bounds, "match[]": match}
        return set(map(str, self.ask.metadata(f"label/{label}/values", fields, post=False)))

    def series(self, matches: list[str]) -> list[Mapping[str, str]]:
        """Return the label sets that *matches* select, in the window."""
        return self.ask.metadata("series", {**self.bounds, "match[]": matches}, post=True)

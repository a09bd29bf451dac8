"""How the brokers were: the frame ``broker_metrics``, of the group's own cluster only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import groupby

import pandas as pd

from lagkit import frames
from lagkit.sources.dialects import (
    BROKER_LOGS,
    BROKER_READINGS,
    CLUSTER_LABELS,
    BrokerReading,
    joined,
    matcher,
    one_of,
)
from lagkit.sources.prometheus.grid import Grid
from lagkit.sources.prometheus.history import Task
from lagkit.sources.prometheus.inquiry import Inquiry

MOST_THROTTLED_CLIENTS = 50


def broker_names(names: frozenset[str]) -> set[str]:
    """Return those of *names* that tell anything of a broker."""
    known = {name for reading in BROKER_READINGS for name in reading.names}
    known |= {name for log in BROKER_LOGS for name in (log.log_end, log.log_start)}
    return known & names


def of_our_brokers(
    inquiry: Inquiry, names: frozenset[str], cluster: Mapping[str, str]
) -> str | None:
    """Return matchers of the brokers of the group's *cluster*; None if they cannot be told apart.

    *cluster* are the labels that name it on the group's own series. Series without any label of a
    cluster count as ours: most servers watch one cluster and name none.
    """
    there = broker_names(names)
    if not there:
        return ""
    keys = ", ".join(CLUSTER_LABELS)
    # at the end of the window only: over all of it every sample of every partition would be read
    expression = f"count by ({keys}) ({{{matcher('__name__', there)}}})"
    places = [
        {label: item["metric"][label] for label in CLUSTER_LABELS if item["metric"].get(label)}
        for item in inquiry.ask.instant(expression).series
    ]
    matchers = {label: f"{label}=~{one_of([value, ''])}" for label, value in cluster.items()}
    foreign = [
        place
        for place in places
        if any(place.get(label, value) != value for label, value in cluster.items())
    ]
    unsure = [
        place
        for place in places
        if place and not set(place) & set(cluster) and place not in foreign
    ]
    if len(unsure) > 1:
        named = sorted(
            " ".join(f"{key}={value}" for key, value in place.items()) for place in unsure
        )
        inquiry.blind(
            "which brokers are the group's",
            f"brokers of {len(unsure)} clusters are scraped here ({', '.join(named)}) and the "
            "group's own series name none of these; their metrics are left out",
            "Give the lag exporter's target the same cluster label, or point --prometheus at one "
            "cluster.",
        )
        matchers |= {label: f'{label}=""' for place in unsure for label in place}
    excluded = [*foreign, *(unsure if len(unsure) > 1 else ())]
    if places and all(place in excluded for place in places):
        if foreign and not unsure:
            inquiry.blind(
                "health of the brokers over time",
                "the brokers scraped here are of another cluster than the group",
                "Scrape the brokers of the group's cluster with the same cluster label.",
            )
        return None
    return joined(*(text for _, text in sorted(matchers.items())))


class BrokerHealth:
    """The frame ``broker_metrics``: one question per metric, joined when all have come."""

    def __init__(self, inquiry: Inquiry, grid: Grid, names: frozenset[str], where: str) -> None:
        self._inquiry, self._grid, self._names, self._where = inquiry, grid, names, where
        self._rows: list[pd.DataFrame] = []

    def tasks(self) -> list[Task]:
        """Return what to ask: per metric the first reading that is there, and who is throttled."""
        tasks: list[Task] = []
        for metric, readings in groupby(BROKER_READINGS, key=lambda reading: reading.metric):
            kinds: dict[str, tuple[BrokerReading, str]] = {}
            for reading in readings:
                for name in reading.names:
                    if name in self._names:
                        kinds.setdefault(reading.about, (reading, name))
            tasks.extend(
                (f"broker metric {metric}", partial(self._read, reading, name))
                for reading, name in kinds.values()
            )
        if not tasks:
            self._inquiry.blind(
                "health of the brokers over time",
                "no broker metric is scraped here",
                "Scrape the brokers' JMX exporter, or Redpanda's /public_metrics.",
            )
        return tasks

    def _read(self, reading: BrokerReading, name: str) -> None:
        grid = self._grid
        expression = reading.expression.format(
            name=name, where=self._where, window=grid.window, rate_window=grid.rate_window
        )
        answer = self._inquiry.ask.range(expression, grid)
        rows = answer.columns("instance", *reading.labels).dropna(subset="value")
        if reading.about:
            greatest = rows.groupby("series")["value"].max().sort_values(ascending=False)
            rows = rows[rows["series"].isin(greatest.index[:MOST_THROTTLED_CLIENTS])]
        place = rows["instance"].fillna("unknown").astype(str)
        if reading.about:
            place = place + f" {reading.about}"
        for label in reading.labels:
            value = rows[label].fillna("").astype(str)
            place = place.where(value == "", place + f" {label}=" + value)
        if rows.empty:
            return
        self._rows.append(
            pd.DataFrame(
                {
                    "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                    "metric": reading.metric,
                    "instance": place.to_numpy(),
                    "value": rows["value"].to_numpy() * reading.scale,
                    "unit": reading.unit,
                    "query_id": answer.query_id,
                }
            )
        )

    def join(self) -> None:
        """Join what came into the frame ``broker_metrics``."""
        if self._rows:
            self._inquiry.frames["broker_metrics"] = frames.normalise(
                "broker_metrics", pd.concat(self._rows, ignore_index=True)
            )

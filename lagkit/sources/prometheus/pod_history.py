"""How the consumer's containers did: the frame ``pod_metrics``, where they are scraped here.

A cluster's own objects and events are gone after an hour; kube-state-metrics and cAdvisor have
been written down for as long as Prometheus keeps anything.
"""

from __future__ import annotations

import re
from functools import partial

import pandas as pd

from lagkit import frames
from lagkit.sources.dialects import POD_READINGS, PodReading, joined, matcher, quoted
from lagkit.sources.prometheus.grid import Grid
from lagkit.sources.prometheus.history import Task
from lagkit.sources.prometheus.inquiry import Inquiry

MOST_CONTAINERS = 100
_KEYS = ["namespace", "pod", "container"]


class PodHistory:
    """The frame ``pod_metrics``: one question per metric, joined when all have come."""

    def __init__(self, inquiry: Inquiry, grid: Grid, names: frozenset[str]) -> None:
        self._inquiry, self._grid, self._names = inquiry, grid, names
        self._rows: list[pd.DataFrame] = []

    def tasks(self) -> list[Task]:
        """Return what to ask; nothing where the runbook names no workload of the group."""
        scope = self._inquiry.scope
        workload = scope.runbook.group(scope.group).workload
        there = [
            reading
            for reading in POD_READINGS
            if all(name in self._names for name in reading.names)
        ]
        if workload is None or not there:
            return []
        where = joined(
            matcher("namespace", [scope.namespace or workload.namespace]),
            # pods of a Deployment or StatefulSet: its name and what the controllers append
            f"pod=~{quoted(re.escape(workload.name) + '-.*')}",
        )
        return [
            (f"history of the pods, {reading.metric}", partial(self._read, reading, where))
            for reading in there
        ]

    def _read(self, reading: PodReading, where: str) -> None:
        grid = self._grid
        expression = reading.expression.format(
            where=where, window=grid.window, rate_window=grid.rate_window
        )
        answer = self._inquiry.ask.range(
            expression, grid, most_series=grid.at_most(MOST_CONTAINERS)
        )
        rows = answer.columns(*_KEYS).dropna()
        if rows.empty:
            return
        self._rows.append(
            pd.DataFrame(
                {
                    "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                    **{key: rows[key] for key in _KEYS},
                    "metric": reading.metric,
                    "value": rows["value"],
                    "unit": reading.unit,
                    "query_id": answer.query_id,
                }
            )
        )

    def join(self) -> None:
        """Join what came into the frame ``pod_metrics``."""
        if self._rows:
            self._inquiry.frames["pod_metrics"] = frames.normalise(
                "pod_metrics", pd.concat(self._rows, ignore_index=True)
            )

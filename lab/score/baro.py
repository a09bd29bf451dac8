"""BARO's RobustScorer as a baseline: the metric that leaves its usual range most, read as a cause.

The scorer is the authors' own (``fse-baro``; Pham, Ha and Zhang, "BARO", FSE 2024): each metric's
highest value after the onset, less its median before, over its interquartile range before. It is
given lagkit's onset instead of its own change-point detection, and the metrics of the incident's
frames. Lag itself is the symptom and is left out.

As packaged it counts rises only and leaves out what was constant before or after the onset: so a
metric whose fall is the symptom is handed in with its sign turned, and what was constant (members,
under-replicated partitions) is never named. No metric sees the network between client and broker:
that cause cannot be named from metrics.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

import lagkit as lk
from lab.score.baselines import Distribution, named

BARO = "BARO RobustScorer, top metric"
FEWEST_ROWS = 2
"""On each side of the onset; of one value nothing is a usual range."""

CAUSE_OF = {
    "produced per second": "message_spike",
    "consumed per second, lost": "slow_processing",
    "downstream job seconds": "slow_processing",
    "cpu_throttled_ratio": "slow_processing",
    "share of lag on one partition": "poison_message",
    "members, lost": "consumer_down",
    "restarts": "consumer_down",
    "members changed": "rebalancing",
    "state other than Stable": "rebalancing",
    "lag of other groups": "broker_overload",
    "broker_count, lost": "broker_overload",
    "request_handler_idle_ratio, lost": "broker_overload",
    "network_idle_ratio, lost": "broker_overload",
    "under_replicated_partitions": "broker_overload",
    "offline_partitions": "broker_overload",
    "produce_p99_seconds": "broker_overload",
    "offset_commit_p99_seconds": "broker_overload",
    "request_queue_p99_seconds": "broker_overload",
    "throttle_seconds": "quota_throttled",
}
"""The map from metric to cause, in full. A metric that is not in it is not scored."""


def baro(result: lk.Result) -> Distribution:
    """Return the causes of the top metrics; without an onset, or with too little, unknown."""
    if result.flow.onset is None:
        return named("unknown")
    table = metrics(result)
    onset = result.flow.onset.at.timestamp()
    before = int((table["time"] < onset).sum()) if len(table) else 0
    if before < FEWEST_ROWS or len(table) - before < FEWEST_ROWS:
        return named("unknown")
    from baro.root_cause_analysis import robust_scorer

    ranks = robust_scorer(table, inject_time=onset)["ranks"]
    causes = tuple(dict.fromkeys(CAUSE_OF[metric] for metric in ranks))
    return named(*causes) if causes else named("unknown")


def metrics(result: lk.Result) -> pd.DataFrame:
    """Return the metrics of the map side by side: ``time`` in seconds, the rest by its names.

    Gaps are filled forward, then with zero, as BARO's own evaluation does.
    """
    grid = pd.DatetimeIndex(result.flow.group["timestamp"].drop_duplicates().sort_values())
    columns: dict[str, pd.Series] = {}
    for name, values in _series(result):
        known = values.dropna()
        if len(known) and name in CAUSE_OF:
            known = known.groupby(level=0).last().sort_index()
            columns[name] = known.reindex(grid.union(known.index)).ffill().reindex(grid)
    table = pd.DataFrame(columns, index=grid).ffill().fillna(0.0).astype("float64")
    seconds = (grid - pd.Timestamp(0, tz="UTC")).total_seconds()
    table.insert(0, "time", np.asarray(seconds, dtype="float64"))
    return table.reset_index(drop=True)


def _series(result: lk.Result) -> Iterator[tuple[str, pd.Series]]:
    incident, flow = result.incident, result.flow
    rates = flow.group.set_index("timestamp")
    yield "produced per second", rates["produce_per_second"]
    yield "consumed per second, lost", -rates["consume_per_second"]
    lag = flow.cleaned.pivot_table(
        index="timestamp", columns=["topic", "partition"], values="lag_messages"
    ).clip(lower=0)
    if len(lag):
        total = lag.sum(axis=1)
        yield "share of lag on one partition", lag.max(axis=1) / total.where(total > 0)
    history = incident.group_history
    history = history.loc[history["group"] == incident.group].set_index("timestamp")
    members = history["member_count"]
    yield "members, lost", -members
    yield "members changed", members.diff().abs()
    states = history["state"].dropna()
    yield "state other than Stable", (states != "Stable").astype("float64")
    others = incident.neighbours
    others = others.loc[others["group"] != incident.group]
    yield "lag of other groups", others.groupby("timestamp")["lag_messages"].sum(min_count=1)
    jobs = incident.jobs.dropna(subset=["elapsed_seconds"])
    if len(jobs):
        yield "downstream job seconds", jobs.groupby("timestamp")["elapsed_seconds"].median()
    for table in (incident.broker_metrics, incident.pod_metrics):
        for name, rows in table.groupby("metric", sort=True):
            worst = rows.groupby("timestamp")["value"]
            lost = f"{name}, lost"
            yield (lost, -worst.min()) if lost in CAUSE_OF else (str(name), worst.max())

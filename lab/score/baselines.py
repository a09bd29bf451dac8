"""What else one could believe: the runbook's order, published decision trees, other tools' rules.

Each baseline is a function of the same frames that lagkit saw, and gives a probability to each of
the seven causes and to unknown. They are coded as they are written down, thresholds included, and
not tuned on any incident. A tree that names a cause gives it ``NAMED``, the next one it would name
the like share of what is left, and spreads the rest. An extended cause is named as what it is and
counts as unknown in the numbers over the seven.

Two liberties, both in favour of the baseline: where a tool utters several findings, the one that
says most about a cause is read before one that only says that lag grows; and the AWS tree asks last
of all about the two causes that its guide never names.

Sources: ``kafka-consumer-lag`` runbook, its verification points and cases; AWS agent toolkit,
``troubleshoot-consumer-lag.md``; Netdata's guide "Kafka consumer group lag growing" (flow chart and
table of causes); Burrow v1.9.5's evaluator (``lagkit.flow.burrow``); themoah/klag's ``Diagnoser``;
``kafka-dataops-mcp`` 0.1.0, ``kafka_consumer_lag``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

import lagkit as lk

CLASSES = (
    "consumer_down",
    "slow_processing",
    "message_spike",
    "rebalancing",
    "broker_overload",
    "poison_message",
    "network",
    "unknown",
)
CORE = CLASSES[:-1]
NAMED = 0.65
"""Probability of what a tree names: it says no more than "this one"."""
RUNBOOK_ORDER = (0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.0625)
"""High, high, medium, medium, low and the two of the checklist, in weights 4:4:2:2:1:1:1:1."""

GROWN = 1.5
"""Times its first third that a rate must have in the last third to count as risen."""
SHRUNK = 0.67
AWS_IDLE_RATIO = 0.30
"""AWS: request handlers or network threads idle for less than 30 % of the time."""
ELEVATED_SECONDS = 0.5
"""The guides say "elevated" and give no number: half a second for the slowest per cent."""
SKEWED_SHARE = 0.5
"""More than half of all production on one partition."""
LAGGING_SHARE = 0.1
"""A partition lags too if it has a tenth of the lag of the worst."""
KLAG_CHANGES = 3
KLAG_STALE_SECONDS = 300.0
KLAG_SIGMAS = 2.0
KLAG_FEWEST_PARTITIONS = 3
KLAG_RETENTION = 0.80
DATAOPS_UNEVEN = 10
"""kafka-dataops-mcp: the largest lag of a partition over the smallest."""

Distribution = dict[str, float]


def named(*causes: str) -> Distribution:
    """Return the distribution of a tool that names *causes* in this order and no other."""
    told: Distribution = {}
    left = 1.0
    for cause in causes:
        told[cause] = NAMED * left
        left -= told[cause]
    others = [name for name in CLASSES if name not in told]
    return told | {name: left / len(others) for name in others}


@dataclass(frozen=True)
class Seen:
    """What the trees ask for, read off the frames once. NaN and "": it cannot be told."""

    produced_ratio: float
    produced_top_share: float
    consumed_ratio: float
    lag_now: float
    lag_least: float
    lag_most: float
    lag_sigmas: float
    lag_slope: float
    lag_falls: bool
    lagging: int
    partitions: int
    burrow: tuple[str, ...]
    retention_share: float
    stale_seconds: float
    members_now: float
    members_before: float
    state: str
    state_changes: int
    others_lag: bool
    idle: float
    latency: float
    throttled: bool
    under_replicated: bool
    pods_not_running: bool
    decoding_errors: bool
    transport_errors: bool
    downstream_slow: bool
    stable_offset_pinned: bool


def see(result: lk.Result) -> Seen:
    """Read an incident as the guides tell a person to; of the verdict nothing is read."""
    incident = result.incident
    offsets = result.flow.cleaned
    committed = _by_partition(offsets, "committed_offset")
    ends = _by_partition(offsets, "log_end_offset")
    lag = _by_partition(offsets, "lag_messages").clip(lower=0)
    total = lag.sum(axis=1, min_count=1).dropna()
    last = lag.ffill().iloc[-1].dropna() if len(lag) else pd.Series(dtype="float64")
    now = incident.group_state
    now = now.loc[now["group"] == incident.group]
    history = incident.group_history
    history = history.loc[history["group"] == incident.group]
    members = history["member_count"].dropna()
    states = history["state"].dropna()
    broker = incident.broker_metrics
    members_now = now["member_count"].dropna() if len(now) else members
    logs = incident.logs.loc[incident.logs["role"] == "consumer", "message"]
    words = logs.fillna("").str.lower() if len(logs) else pd.Series(dtype="str")
    return Seen(
        produced_ratio=_ratio(ends),
        produced_top_share=_top_share(ends),
        consumed_ratio=_ratio(committed),
        lag_now=float(last.sum()) if len(last) else float("nan"),
        lag_least=float(last.min()) if len(last) else float("nan"),
        lag_most=float(last.max()) if len(last) else float("nan"),
        lag_sigmas=_sigmas(last),
        lag_slope=_slope(total),
        lag_falls=bool(len(total) > 2 and total.iloc[-1] < total.iloc[-len(total) // 3]),
        lagging=int((last > LAGGING_SHARE * last.max()).sum()) if len(last) else 0,
        partitions=len(last),
        burrow=tuple(result.flow.status["burrow"]),
        retention_share=_retention_share(incident),
        stale_seconds=_staleness(committed),
        members_now=float(members_now.iloc[-1]) if len(members_now) else float("nan"),
        members_before=float(members.iloc[: max(1, len(members) // 3)].median())
        if len(members)
        else float("nan"),
        state=str(now["state"].iloc[-1]) if len(now) else "",
        state_changes=int((states != states.shift()).sum() - 1) if len(states) else 0,
        others_lag=_others_lag(incident),
        idle=_least(broker, ("request_handler_idle_ratio", "network_idle_ratio")),
        latency=_most(broker, ("produce_p99_seconds", "offset_commit_p99_seconds")),
        throttled=_most(broker, ("throttle_seconds",)) > 0,
        under_replicated=_most(broker, ("under_replicated_partitions", "offline_partitions")) > 0,
        pods_not_running=_not_running(incident.pods),
        decoding_errors=bool(words.str.contains("deserializ|decod|json|schema").any()),
        transport_errors=bool(words.str.contains("timed out|disconnect|transport|refused").any()),
        downstream_slow=_slower(incident.jobs),
        stable_offset_pinned=_pinned(incident),
    )


def _by_partition(offsets: pd.DataFrame, column: str) -> pd.DataFrame:
    values = offsets.loc[offsets[column] >= 0]
    return values.pivot_table(index="timestamp", columns=["topic", "partition"], values=column)


def _ratio(offsets: pd.DataFrame) -> float:
    """Return the rate of the last third over that of the first."""
    if len(offsets) < 6:
        return float("nan")
    rate = offsets.diff().sum(axis=1).to_numpy()[1:]
    third = len(rate) // 3
    before, after = rate[:third].mean(), rate[-third:].mean()
    return float(after / before) if before > 0 else float("nan")


def _top_share(ends: pd.DataFrame) -> float:
    """Return the share of the busiest partition in what the last third produced."""
    if len(ends) < 6:
        return float("nan")
    tail = ends.ffill().tail(len(ends) // 3)
    grown = (tail.iloc[-1] - tail.iloc[0]).clip(lower=0)
    return float(grown.max() / grown.sum()) if grown.sum() > 0 else float("nan")


def _sigmas(lag: pd.Series) -> float:
    """Return how many standard deviations, of the population, the worst partition is out."""
    if len(lag) < KLAG_FEWEST_PARTITIONS or lag.std(ddof=0) == 0:
        return 0.0
    return float((lag.max() - lag.mean()) / lag.std(ddof=0))


def _slope(total: pd.Series) -> float:
    """Return messages a second by ordinary least squares; NaN below three samples, as in klag."""
    if len(total) < 3:
        return float("nan")
    seconds = (total.index - total.index[0]).total_seconds().to_numpy()
    return float(np.polyfit(seconds, total.to_numpy(dtype="float64"), 1)[0])


def _retention_share(incident: lk.Incident) -> float:
    """Return the largest share that a partition's lag has of all that its log still holds."""
    own = incident.partitions
    own = own.loc[(own["group"] == incident.group) & (own["committed_offset"] >= 0)]
    held = own["log_end_offset"] - own["log_start_offset"]
    share = ((own["log_end_offset"] - own["committed_offset"]) / held.where(held > 0)).dropna()
    return float(share.max()) if len(share) else float("nan")


def _staleness(committed: pd.DataFrame) -> float:
    if committed.empty:
        return float("nan")
    moves = committed.diff().abs().sum(axis=1) > 0
    if not moves.any():
        return float((committed.index[-1] - committed.index[0]).total_seconds())
    return float((committed.index[-1] - moves[moves].index[-1]).total_seconds())


def _others_lag(incident: lk.Incident) -> bool:
    others = incident.neighbours
    others = others.loc[others["group"] != incident.group]
    for _, lag in others.groupby(["group", "topic"], sort=False)["lag_messages"]:
        values = lag.dropna().to_numpy()
        if len(values) > 6 and values[-3:].mean() > 10 + 3 * values[: len(values) // 3].mean():
            return True
    return False


def _least(metrics: pd.DataFrame, names: tuple[str, ...]) -> float:
    values = metrics.loc[metrics["metric"].isin(names), "value"].dropna()
    return float(values.tail(20).min()) if len(values) else float("nan")


def _most(metrics: pd.DataFrame, names: tuple[str, ...]) -> float:
    values = metrics.loc[metrics["metric"].isin(names), "value"].dropna()
    return float(values.max()) if len(values) else float("nan")


def _not_running(pods: pd.DataFrame) -> bool:
    own = pods.loc[(pods["role"] == "consumer") & pods["deleted_at"].isna()]
    return bool(len(own) and (~own["ready"].fillna(True).astype(bool)).any())


def _slower(jobs: pd.DataFrame) -> bool:
    times = jobs.sort_values("timestamp")["elapsed_seconds"].dropna().to_numpy()
    third = len(times) // 3
    return bool(third and np.median(times[-third:]) > 3 * np.median(times[:third]))


def _pinned(incident: lk.Incident) -> bool:
    """Tell whether readers of committed records are at an end that is not the log's."""
    own = incident.partitions
    own = own.loc[own["group"] == incident.group].sort_values("timestamp")
    last = own.groupby(["topic", "partition"]).last() if len(own) else own
    stable = last["last_stable_offset"]
    return bool(
        (
            (stable >= 0)
            & (stable <= last["committed_offset"])
            & (stable < last["log_end_offset"] - 1)
        )
        .fillna(False)
        .any()
    )


# -- the baselines ----------------------------------------------------------------------------


def runbook_order(seen: Seen) -> Distribution:
    """Believe the runbook's ratings and look at nothing."""
    return dict(zip(CLASSES, RUNBOOK_ORDER, strict=True))


def runbook_checklist(seen: Seen) -> Distribution:
    """Go down the runbook's verification points, then its cases, and stop at the first hit."""
    if seen.under_replicated or seen.latency > ELEVATED_SECONDS:
        return named("broker_overload")
    if seen.pods_not_running or seen.members_now == 0:
        return named("consumer_down")
    if seen.decoding_errors:
        return named("poison_message")
    if seen.transport_errors:
        return named("network")
    if seen.state not in ("", "Stable"):
        return named("rebalancing")
    if seen.downstream_slow:
        return named("slow_processing")
    if seen.produced_ratio > GROWN:
        return named("message_spike")
    return named("unknown")


def aws_tree(seen: Seen) -> Distribution:
    """Step 1, the pattern: recovering, all groups, some partitions, or this group alone."""
    broker_ill = (
        seen.under_replicated or seen.idle < AWS_IDLE_RATIO or seen.latency > ELEVATED_SECONDS
    )
    if seen.lag_falls:  # step 5, maintenance: expected, resolves itself
        return named("broker_overload" if broker_ill else "none")
    if seen.others_lag:  # step 2, broker side; all healthy: step 4
        if seen.throttled:
            return named("quota_throttled")
        if broker_ill or np.isnan(seen.idle):
            return named("broker_overload")
    elif seen.lagging <= seen.partitions / 2:  # step 3, some partitions
        if seen.produced_top_share > SKEWED_SHARE and seen.partitions > 2:
            return named("key_skew")
        if seen.decoding_errors:
            return named("poison_message")
        return named("slow_processing")
    return _aws_client_side(seen)


def _aws_client_side(seen: Seen) -> Distribution:
    """Steps 6 and 4, then what the guide does not name."""
    if seen.state_changes >= KLAG_CHANGES or seen.state not in ("", "Stable", "Empty"):
        return named("rebalancing")
    if seen.members_now == 0 or seen.members_now < seen.members_before:  # insufficient consumers
        return named("consumer_down")
    if seen.decoding_errors:
        return named("poison_message")
    if seen.stable_offset_pinned:
        return named("hung_transaction")
    if seen.consumed_ratio < SHRUNK or seen.downstream_slow:
        return named("network" if seen.transport_errors else "slow_processing")
    if seen.produced_ratio > GROWN:
        return named("message_spike")
    return named("network" if seen.transport_errors else "slow_processing")


def netdata_tree(seen: Seen) -> Distribution:
    """Empty: crashed. Not Stable: rebalancing. Slow fetches: broker. Bytes out flat: slow."""
    if not seen.lag_now > 0 or seen.lag_falls:
        return named("none")
    if seen.state == "Empty" or seen.members_now == 0:
        return named("consumer_down")
    if seen.state not in ("", "Stable"):
        return named("rebalancing", "consumer_down")  # "rebalance storm or member failure"
    # what a fetch takes is in no frame; what a produce or a commit takes is
    if seen.latency > ELEVATED_SECONDS:
        return named("broker_overload")
    if seen.throttled:
        return named("quota_throttled")
    if np.isnan(seen.consumed_ratio):
        return named("unknown")
    if seen.consumed_ratio < GROWN:
        return named("slow_processing")
    return named("message_spike", "network")  # "throughput spike or network limit"


def burrow_status(seen: Seen) -> Distribution:
    """Burrow's words: all STOP is a dead consumer, some a stuck one, WARN a slow one."""
    if "REWIND" in seen.burrow:
        return named("offset_reset")
    still = sum(status in ("STOP", "STALL") for status in seen.burrow)
    if still:
        return named("consumer_down" if still == len(seen.burrow) else "poison_message")
    return named("slow_processing" if "WARN" in seen.burrow else "none")


def klag_diagnose(seen: Seen) -> Distribution:
    """klag's findings read as causes, the critical ones first and "lag growing" last."""
    told = []
    if seen.state == "Dead":
        told.append("consumer_down")
    if seen.retention_share >= 1:
        told.append("retention_loss")
    if seen.state == "Empty":
        told.append("consumer_down")
    if seen.state_changes >= KLAG_CHANGES:
        told.append("rebalancing")
    if KLAG_RETENTION <= seen.retention_share < 1:
        told.append("retention_loss")
    if seen.lag_now > 0 and seen.stale_seconds >= KLAG_STALE_SECONDS:
        told.append("poison_message")  # "hung, deadlocked, or stuck on a poison message"
    if seen.lag_sigmas > KLAG_SIGMAS:
        told.append("key_skew")
    if seen.lag_now > 0 and seen.lag_slope > 0:
        told.append("slow_processing")  # "speed up processing"
    return named(*told) if told else named("none")


def dataops_rules(seen: Seen) -> Distribution:
    """kafka-dataops-mcp: nobody there, or one partition far behind; large lag alone is no cause."""
    if seen.members_now == 0:
        return named("consumer_down")
    if seen.partitions > 1 and seen.lag_most > DATAOPS_UNEVEN * seen.lag_least:
        return named("key_skew", "consumer_down")  # "hot partition or a stuck consumer instance"
    return named("unknown" if seen.lag_now > 0 else "none")


BASELINES: Mapping[str, Callable[[Seen], Distribution]] = {
    "runbook order": runbook_order,
    "runbook checklist, first match": runbook_checklist,
    "AWS decision tree": aws_tree,
    "Netdata decision tree": netdata_tree,
    "Burrow status": burrow_status,
    "klag diagnose": klag_diagnose,
    "kafka-dataops-mcp rules": dataops_rules,
}
TREES = ("runbook checklist, first match", "AWS decision tree", "Netdata decision tree")
"""Coded decision trees: one that comes close says that the cases are too easy."""

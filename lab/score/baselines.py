"""What else one could believe: the runbook's order, published decision trees, other tools' rules.

Each baseline is a function of the same frames that lagkit saw, and gives a probability to each of
the seven causes and to unknown. They are coded as they are written down, thresholds included, and
not tuned. A tree that names one cause gives it NAMED and spreads the rest.

Sources: the runbook in ``templates/runbook.toml``; AWS MSK's consumer-lag troubleshooting steps;
Netdata's guide to a growing lag; Burrow v1.9.5's evaluator; themoah/klag's ``Diagnoser``; BARO's
RobustScorer (Pham et al., FSE 2024).
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
NAMED = 0.65
"""Probability of what a tree names: it says no more than "this one"."""
RUNBOOK_ORDER = (0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.0625)
"""High, high, medium, medium, low and the two of the checklist, in weights 4:4:2:2:1:1:1:1."""

GROWN = 1.5
"""Times its first third that a rate must have in the last third to count as risen."""
SHRUNK = 0.67
IDLE_RATIO = 0.30
"""AWS: request handlers or network threads idle for less than 30 % of the time."""
LATENCY_SECONDS = 0.5
SKEWED_SHARE = 0.5
"""One partition with more than half of all lag."""
MANY_CHANGES = 3
"""klag: changes of the group's state that make it restless."""
STALE_SECONDS = 300.0
"""klag: a commit older than this, with lag, is a stuck consumer."""

Distribution = dict[str, float]


def named(cause: str) -> Distribution:
    """Return the distribution of a tool that names one cause and says nothing of the rest."""
    rest = (1 - NAMED) / (len(CLASSES) - 1)
    return {name: NAMED if name == cause else rest for name in CLASSES}


@dataclass(frozen=True)
class Seen:
    """What the trees ask for, read off the frames once. NaN and None: it cannot be told."""

    produced_ratio: float
    consumed_ratio: float
    lag_now: float
    lag_falls: bool
    top_share: float
    frozen: int
    partitions: int
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
    failing_pods: bool
    decoding_errors: bool
    transport_errors: bool
    downstream_slow: bool


def see(incident: lk.Incident) -> Seen:
    """Read an incident as the guides tell a person to."""
    offsets = incident.offsets
    own = offsets.loc[offsets["group"] == incident.group]
    committed = _by_partition(own, "committed_offset")
    ends = _by_partition(own, "log_end_offset")
    lag = (ends - committed).clip(lower=0)
    if lag.empty or lag.isna().all(axis=None):
        lag = _by_partition(own, "lag_messages").clip(lower=0)
    total = lag.sum(axis=1, min_count=1).dropna()
    last = lag.ffill().iloc[-1].dropna() if len(lag) else pd.Series(dtype="float64")
    moved = committed.tail(max(2, len(committed) // 3)).diff().abs().sum() if len(committed) else {}
    history = incident.group_history
    members = history["member_count"].dropna()
    states = history["state"].dropna()
    now = incident.group_state
    now = now.loc[now["group"] == incident.group]
    broker = incident.broker_metrics
    pods = incident.pods
    logs = incident.logs
    words = logs["message"].fillna("").str.lower() if len(logs) else pd.Series(dtype="str")
    return Seen(
        produced_ratio=_ratio(ends),
        consumed_ratio=_ratio(committed),
        lag_now=float(last.sum()) if len(last) else float("nan"),
        lag_falls=bool(len(total) > 2 and total.iloc[-1] < total.iloc[-len(total) // 3]),
        top_share=float(last.max() / last.sum()) if len(last) and last.sum() > 0 else float("nan"),
        frozen=sum(1 for place in last.index if last[place] > 0 and moved.get(place, 1) == 0),
        partitions=len(last),
        stale_seconds=_staleness(committed),
        members_now=float(now["member_count"].iloc[-1]) if len(now) else float("nan"),
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
        failing_pods=bool(
            len(pods)
            and (
                (pods["role"] == "consumer")
                & (
                    (pods["restart_count"].fillna(0) > 0)
                    | ~pods["ready"].fillna(False).astype(bool)
                )
            ).any()
        ),
        decoding_errors=bool(words.str.contains("deserializ|decod|json|schema").any()),
        transport_errors=bool(words.str.contains("timed out|disconnect|transport|refused").any()),
        downstream_slow=_slower(incident.jobs),
    )


def _by_partition(own: pd.DataFrame, column: str) -> pd.DataFrame:
    values = own.loc[own[column] >= 0]
    return values.pivot_table(index="timestamp", columns=["topic", "partition"], values=column)


def _ratio(offsets: pd.DataFrame) -> float:
    """Return the rate of the last third over that of the first."""
    if len(offsets) < 6:
        return float("nan")
    rate = offsets.diff().sum(axis=1).to_numpy()[1:]
    third = len(rate) // 3
    before, after = rate[:third].mean(), rate[-third:].mean()
    return float(after / before) if before > 0 else float("nan")


def _staleness(committed: pd.DataFrame) -> float:
    if committed.empty:
        return float("nan")
    moves = committed.diff().abs().sum(axis=1) > 0
    if not moves.any():
        return float("inf")
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


def _slower(jobs: pd.DataFrame) -> bool:
    times = jobs.sort_values("timestamp")["elapsed_seconds"].dropna().to_numpy()
    third = len(times) // 3
    return bool(third and np.median(times[-third:]) > 3 * np.median(times[:third]))


# -- the baselines ----------------------------------------------------------------------------


def runbook_order(seen: Seen) -> Distribution:
    """Believe the runbook's ratings and look at nothing."""
    return dict(zip(CLASSES, RUNBOOK_ORDER, strict=True))


def runbook_checklist(seen: Seen) -> Distribution:
    """Go down the runbook's checklist and stop at the first yes."""
    if seen.failing_pods or seen.members_now == 0:
        return named("consumer_down")
    if seen.downstream_slow:
        return named("slow_processing")
    if seen.produced_ratio > GROWN:
        return named("message_spike")
    if seen.state not in ("", "Stable"):
        return named("rebalancing")
    if seen.under_replicated or seen.latency > LATENCY_SECONDS:
        return named("broker_overload")
    if seen.decoding_errors:
        return named("poison_message")
    if seen.transport_errors:
        return named("network")
    return named("unknown")


def aws_tree(seen: Seen) -> Distribution:
    """Scope first: all groups, some partitions, or this group; then the step's own checks."""
    if seen.others_lag or seen.under_replicated or seen.idle < IDLE_RATIO:
        return named("broker_overload")
    if seen.throttled:
        return named("unknown")  # a quota, which none of the seven is
    if seen.top_share > SKEWED_SHARE and seen.partitions > 1:
        if seen.frozen or seen.decoding_errors:
            return named("poison_message")
        return named("unknown")  # a hot key, which none of the seven is
    if seen.state_changes >= MANY_CHANGES or seen.state not in ("", "Stable", "Empty"):
        return named("rebalancing")
    if seen.members_now == 0 or seen.failing_pods:
        return named("consumer_down")
    if seen.decoding_errors:
        return named("poison_message")
    if seen.produced_ratio > GROWN:
        return named("message_spike")
    if seen.transport_errors:
        return named("network")
    if seen.consumed_ratio < SHRUNK or seen.downstream_slow:
        return named("slow_processing")
    return named("unknown")


def netdata_tree(seen: Seen) -> Distribution:
    """Empty: crashed. Not Stable: rebalancing. Slow fetches: broker. Else slow, or a spike."""
    if seen.state == "Empty" or seen.members_now == 0:
        return named("consumer_down")
    if seen.state not in ("", "Stable"):
        return named("rebalancing")
    if seen.latency > LATENCY_SECONDS or seen.idle < IDLE_RATIO:
        return named("broker_overload")
    if seen.produced_ratio > GROWN:
        return named("message_spike")
    if seen.consumed_ratio < SHRUNK:
        return named("slow_processing")
    return named("unknown")


def burrow_status(seen: Seen) -> Distribution:
    """Burrow's words: STOP is a dead consumer, STALL a stuck one, WARN a slow one."""
    if not seen.lag_now > 0:
        return named("unknown")
    if seen.frozen and seen.frozen == seen.partitions:
        return named("consumer_down")
    if seen.frozen:
        return named("poison_message")
    return named("unknown") if seen.lag_falls else named("slow_processing")


def klag_diagnose(seen: Seen) -> Distribution:
    """klag's findings in the order of their severity, read as causes."""
    if seen.state == "Dead" or seen.state == "Empty":
        return named("consumer_down")
    if seen.state_changes >= MANY_CHANGES:
        return named("rebalancing")
    if seen.lag_now > 0 and seen.stale_seconds >= STALE_SECONDS:
        return named("poison_message")
    # two standard deviations cannot be passed below six partitions: as coded
    if seen.partitions >= 3 and seen.top_share > 1 / seen.partitions + 2 / np.sqrt(seen.partitions):
        return named("unknown")
    if seen.lag_now > 0 and not seen.lag_falls:
        return named("slow_processing")
    return named("unknown")


BASELINES: Mapping[str, Callable[[Seen], Distribution]] = {
    "runbook order": runbook_order,
    "runbook checklist, first match": runbook_checklist,
    "AWS decision tree": aws_tree,
    "Netdata decision tree": netdata_tree,
    "Burrow status": burrow_status,
    "klag diagnose": klag_diagnose,
}

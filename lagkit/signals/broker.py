"""The brokers, and the neighbours who would suffer with us if it were the brokers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lagkit.model import Check, Finding
from lagkit.signals import (
    SNAPSHOT_DELAY,
    Context,
    absent,
    not_checked,
    once,
    present,
    quantity,
    queries_of,
)
from lagkit.signals.thresholds import SPIKE_RATIO

IDLE_RATIO_LOW = 0.30
"""Request handlers and network threads below this are saturated (AWS MSK guide)."""
LATENCY_RATIO = 3.0
"""Request latency of this many times its own history is abnormal (Cruise Control)."""
LATENCY_FLOOR_SECONDS = 0.2
"""... and only from here on is it felt."""
SCRAPE_FLOOR_SECONDS = 1.0
"""A broker's metrics that take longer to collect, and many times as long as before, are late."""
WARM_UP = pd.Timedelta("2min")
"""Idle ratios of a broker mean nothing for this long after its start (lag.md Q34)."""
WARM_UP_GAP_SAMPLES = 3.0
"""A broker that was not scraped for this many of its usual steps may have been restarted."""
THROTTLE_FLOOR_SECONDS = 0.01
NEIGHBOUR_GROWTH = 3.0
"""A neighbour's lag that grows to this many times its earlier maximum fell behind too."""
NEIGHBOUR_FLOOR_MESSAGES = 100.0
LATE_ANSWER_SECONDS = 0.3
"""Half of lagkit's own small requests take this much longer than the fastest one. Chosen where the
lab's first 109 open incidents part: 0.38 and more on each of 6 overloaded brokers, below 0.13 on
102 of 103 others, once 0.28. Two that were made later and hardly overloaded had 0.29 and 0.13."""
FEWEST_ANSWERS = 5
_SMALL = ("describe_cluster(", "describe_consumer_groups([", "list_consumer_group_offsets([",
          "describe_configs(")  # fmt: skip
"""Requests about one thing: their answers do not grow with the cluster."""
_LATENCIES = ("produce_p99_seconds", "offset_commit_p99_seconds", "request_queue_p99_seconds")
_IDLE = ("request_handler_idle_ratio", "network_idle_ratio")
_SCRAPE = "scrape_seconds"
_BAD_COUNTS = ("under_replicated_partitions", "offline_partitions")


def brokers_and_neighbours(context: Context) -> Iterator[Check]:
    """Answer whether brokers are unwell or late, neighbours suffer, or a quota holds back."""
    yield _degraded(context)
    yield _scraped_late(context)
    yield answers_late(context)
    yield _neighbours(context)
    yield _throttled(context)


def _degraded(context: Context) -> Check:
    metrics, own = context.incident.broker_metrics, context.incident.partitions
    if metrics.empty and own.empty:
        return not_checked("broker_degraded", context.gap("kafka", "partitions"), "kafka")
    metrics = metrics.loc[metrics["metric"] != _SCRAPE]
    findings = [*_replicas(own), *_metrics(context, "broker_degraded", metrics)]
    if findings:
        return present("broker_degraded", *findings)
    looked = sorted(metrics["metric"].unique()) + (["leaders and replicas"] if len(own) else [])
    return absent(
        "broker_degraded",
        f"Well as far as seen: {', '.join(looked)}.",
        "kafka" if len(own) else "prometheus",
        queries_of(own, metrics),
    )


def _scraped_late(context: Context) -> Check:
    """Answer whether the brokers let Prometheus wait for their own metrics."""
    kind, metrics = "brokers_scraped_late", context.incident.broker_metrics
    rows = metrics.loc[metrics["metric"] == _SCRAPE]
    if rows.empty:
        return not_checked(kind, "How long the brokers' metrics took to collect is not known.")
    findings = _metrics(context, kind, rows)
    if findings:
        return present(kind, *findings)
    since = rows.loc[rows["timestamp"] >= context.onset_earliest, "value"].dropna()
    if since.empty:
        return not_checked(kind, "No scrape of the brokers since the onset is known.")
    return absent(
        kind,
        f"Prometheus had these within {since.max():.2g} s.",
        "prometheus",
        queries_of(rows),
    )


def _replicas(own: pd.DataFrame) -> list[Finding]:
    if own.empty:
        return []
    last = own.loc[own["timestamp"] == own["timestamp"].max()]
    query = queries_of(own)
    leaderless = last.loc[last["leader"].isna() & last["replica_count"].notna()]
    short = last.loc[last["isr_count"] < last["replica_count"]]
    found = []
    for rows, what in ((leaderless, "have no leader"), (short, "are under-replicated")):
        if len(rows):
            found.append(
                Finding(
                    "broker_degraded:" + what.rsplit(" ", 1)[-1],
                    f"{len(rows)} of the group's {len(last)} partitions {what}",
                    "kafka",
                    query,
                    value=float(len(rows)),
                    baseline=0.0,
                    unit="partitions",
                )
            )
    return found


def _metrics(context: Context, kind: str, metrics: pd.DataFrame) -> list[Finding]:
    onset = context.onset_earliest
    query = queries_of(metrics)
    found = []
    for (metric, instance), rows in metrics.dropna(subset=["value"]).groupby(
        ["metric", "instance"]
    ):
        if metric in _IDLE:
            rows = _warmed_up(rows)
        before = rows.loc[rows["timestamp"] < onset, "value"]
        later = rows.loc[rows["timestamp"] >= onset]
        if later.empty:
            continue
        usual = float(before.median()) if len(before) else float("nan")
        told = _abnormal(str(metric), usual, before, later)
        if told is None:
            continue
        statement, since, value = told
        found.append(
            Finding(
                f"{kind}:{metric}@{instance}",
                f"{statement} on {instance}",
                "prometheus",
                query,
                onset=since,
                value=value,
                baseline=None if usual != usual else usual,
                unit=str(rows["unit"].iloc[0]),
            )
        )
    return found


def _warmed_up(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the samples of one broker without those of the first minutes after a start.

    A start is the first sample after a gap. The first of the window is none: nothing tells how long
    the broker had been running.
    """
    rows = rows.sort_values("timestamp")
    apart = rows["timestamp"].diff()
    started = rows["timestamp"].where(apart > WARM_UP_GAP_SAMPLES * apart.median()).ffill()
    return rows.loc[~(rows["timestamp"] - started < WARM_UP)]


def _abnormal(
    metric: str, usual: float, before: pd.Series[float], later: pd.DataFrame
) -> tuple[str, pd.Timestamp, float] | None:
    values = later["value"]
    if metric in _BAD_COUNTS:
        bad = later.loc[values > (0 if before.empty else float(before.max()))]
        peak = float(values.max())
        text = f"{quantity(peak)} {metric.replace('_', ' ')}"
    elif metric == "broker_count":
        bad = later.loc[values < usual]
        peak, text = float(values.min()), f"brokers fell from {usual:.0f} to {values.min():.0f}"
    elif metric in _IDLE:
        bad = later.loc[(values < IDLE_RATIO_LOW) & (usual >= IDLE_RATIO_LOW)]
        peak, text = float(values.min()), f"{metric.replace('_', ' ')} fell to {values.min():.2f}"
    elif metric in _LATENCIES:
        limit = max(LATENCY_FLOOR_SECONDS, LATENCY_RATIO * usual if usual == usual else 0.0)
        bad = later.loc[values > limit]
        peak = float(values.max())
        text = f"{metric.replace('_', ' ').removesuffix(' seconds')} rose to {peak:.2f} s"
    elif metric == _SCRAPE:
        bad = later.loc[values > max(SCRAPE_FLOOR_SECONDS, LATENCY_RATIO * usual)]
        peak = float(values.max())
        before_that = f" before {usual:.2g} s," if usual == usual else ""
        text = f"Prometheus waited {peak:.1f} s for the metrics,{before_that}"
    else:
        return None
    # One sample is a hiccup of the scrape.
    return (text, bad["timestamp"].iloc[0], peak) if len(bad) >= 2 else None


@once
def answers_late(context: Context) -> Check:
    """Answer whether the brokers let lagkit itself wait, by the way there taken off."""
    kind, incident = "brokers_answer_late", context.incident
    if not incident.readable("kafka"):
        return not_checked(kind, context.gap("kafka"), "kafka")
    if incident.captured_at - incident.end > SNAPSHOT_DELAY:
        return not_checked(kind, "Kafka was read too long after the window.", "kafka")
    asked = incident.queries.loc[incident.queries["source"] == "kafka"]
    asked = asked.loc[asked["outcome"].isin(["ok", "empty", "partial", "timeout"])]
    small = asked.loc[asked["statement"].str.startswith(_SMALL)]
    if len(small) < FEWEST_ANSWERS:
        return not_checked(kind, f"Only {len(small)} small requests were answered.", "kafka")
    silent = small.loc[small["outcome"] == "timeout"]
    if len(silent) == len(small):
        # then it may as well be lagkit's own way to the brokers
        return not_checked(kind, f"None of {len(small)} small requests was answered.", "kafka")
    fastest, usual = float(asked["seconds"].min()), float(small["seconds"].median())
    query = queries_of(small)
    told = (
        f"{len(small)} small requests of lagkit took {usual:.2g} s as a median, the fastest of all "
        f"{fastest:.2g} s"
    )
    # the median of what a broker answers between two long stops is that of a broker that is well
    if len(silent):
        waited = float(silent["seconds"].max())
        told = f"{len(silent)} of them got no answer within {waited:.2g} s; {told}"
    elif usual - fastest < LATE_ANSWER_SECONDS:
        return absent(kind, f"{told}.", "kafka", query)
    return present(
        kind,
        Finding(
            kind,
            f"the brokers answer late: {told}",
            "kafka",
            query,
            value=float(silent["seconds"].max()) if len(silent) else usual,
            baseline=fastest,
            unit="seconds",
        ),
    )


def _produces_more(context: Context) -> bool:
    shares = context.flow.shares
    return shares is not None and shares.produce_now >= SPIKE_RATIO * shares.produce_baseline


def _neighbours(context: Context) -> Check:
    others = context.incident.neighbours
    others = others.loc[others["group"] != context.incident.group].dropna(subset=["lag_messages"])
    if others.empty:
        return not_checked(
            "neighbours_lag_too",
            "No other group was visible to compare with."
            if context.incident.readable("prometheus")
            else context.gap("prometheus"),
        )
    ours = others["topic"].isin(context.incident.topics)
    if _produces_more(context) and ours.any():
        # More to read is more for every reader of the topic: that is no broker's doing.
        others = others.loc[~ours]
        if others.empty:
            return not_checked(
                "neighbours_lag_too", "Every other group reads the topic that has more to read."
            )
    query = queries_of(others)
    onset = context.onset_earliest
    before = others.loc[others["timestamp"] < onset].groupby(["group", "topic"])["lag_messages"]
    after = others.loc[others["timestamp"] >= onset].groupby(["group", "topic"])["lag_messages"]
    ends = after.last()
    usual = before.max().reindex(ends.index)
    # A neighbour that was falling behind anyway tells nothing about now.
    grew_before = (before.last() - before.first()).reindex(ends.index).fillna(0.0)
    grew = ends - usual
    behind = ends.loc[
        (ends > NEIGHBOUR_GROWTH * usual.fillna(float("inf")))
        & (grew > NEIGHBOUR_FLOOR_MESSAGES)
        & (grew > 2 * grew_before.clip(lower=0))
    ]
    if behind.empty:
        return absent(
            "neighbours_lag_too",
            f"{ends.index.get_level_values('group').nunique()} other group(s) keep up as before.",
            "prometheus",
            query,
        )
    return present(
        "neighbours_lag_too",
        *(
            Finding(
                f"neighbours_lag_too:{group}/{topic}",
                f"group {group} fell behind on {topic} too: {quantity(float(lag))} messages, "
                f"at most {quantity(float(usual[(group, topic)]))} before",
                "prometheus",
                query,
                onset=None,
                value=float(lag),
                baseline=float(usual[(group, topic)]),
                unit="messages",
            )
            for (group, topic), lag in behind.sort_values(ascending=False).head(5).items()
        ),
    )


def _ours(context: Context, rows: pd.DataFrame) -> pd.Series[bool]:
    """Tell which rows are about a client of the group, or about nobody in particular."""
    members = context.incident.members
    clients = members.loc[members["group"] == context.incident.group, "client_id"].dropna().unique()
    named = rows["instance"].str.contains("client_id=", regex=False)
    if not len(clients):
        return named | ~named
    ends = rows["instance"] + " "
    own = pd.Series(data=False, index=rows.index)
    for client in clients:
        own |= ends.str.contains(f"client_id={client} ", regex=False)
    return own | ~named


def _throttled(context: Context) -> Check:
    metrics = context.incident.broker_metrics
    rows = metrics.loc[metrics["metric"] == "throttle_seconds"].dropna(subset=["value"])
    if rows.empty:
        return not_checked(
            "client_throttled", "No throttle time is exported (it appears once a quota is set)."
        )
    query = queries_of(rows)
    ours = rows.loc[_ours(context, rows)]
    later = ours.loc[
        (ours["timestamp"] >= context.onset_earliest) & (ours["value"] > THROTTLE_FLOOR_SECONDS)
    ]
    if len(later) < 2:
        others = rows.loc[rows["value"] > THROTTLE_FLOOR_SECONDS, "instance"].nunique()
        return absent(
            "client_throttled",
            f"The group's clients are not held back; {others} other(s) are."
            if others
            else "Throttle times are zero.",
            "prometheus",
            query,
        )
    worst = later.loc[later["value"].idxmax()]
    return present(
        "client_throttled",
        Finding(
            "client_throttled",
            f"brokers hold back {worst['instance']} by {worst['value']:.2f} s",
            "prometheus",
            query,
            onset=later["timestamp"].iloc[0],
            value=float(worst["value"]),
            baseline=0.0,
            unit="seconds",
        ),
    )

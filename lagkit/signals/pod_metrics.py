"""What the history of the consumer's containers shows: restarts, and a CPU limit that holds back.

From kube-state-metrics and cAdvisor, where they are scraped. The cluster's own objects forget: a
pod that was replaced takes its restarts with it, and how busy it was is in none of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lagkit.model import Check, Finding
from lagkit.signals import Context, absent, not_checked, present, quantity, queries_of

LEAD = pd.Timedelta("2min")
"""A restart this long before the onset may have brought it."""
THROTTLED_SHARE = 0.25
"""Share of CPU periods a container was held back in, from which its limit is felt (the default of
the Kubernetes mixin's CPUThrottlingHigh alert) ..."""
THROTTLED_GROWTH = 2.0
"""... if it was less than half as much before: a tight limit is usual and brings no lag."""
NEW_POD_SAMPLES = 3
"""A pod whose first sample comes this many steps after the window's is one that began in it."""
_KEYS = ["namespace", "pod", "container"]


def history(context: Context) -> Iterator[Check]:
    """Answer whether the consumer's containers were restarted or held back by their CPU limit."""
    metrics = context.incident.pod_metrics.dropna(subset=["value"])
    yield _restarted(context, metrics)
    yield _throttled(context, metrics)


def _restarted(context: Context, metrics: pd.DataFrame) -> Check:
    counts = metrics.loc[metrics["metric"] == "restarts"]
    if counts.empty:
        return not_checked(
            "containers_restarted", "kube-state-metrics of the consumer's pods is not scraped."
        )
    since = context.onset_earliest - LEAD
    killed = metrics.loc[(metrics["metric"] == "oom_killed") & (metrics["value"] > 0)]
    query = queries_of(counts, killed)
    step = counts["timestamp"].drop_duplicates().sort_values().diff().median()
    begun = context.incident.start + NEW_POD_SAMPLES * step
    findings = []
    for (namespace, pod, container), rows in counts.groupby(_KEYS, sort=True):
        rows = rows.sort_values("timestamp")
        before = rows["value"].shift()
        if rows["timestamp"].iloc[0] > begun:
            before = before.fillna(0.0)
        more = (rows["value"] - before).clip(lower=0).where(rows["timestamp"] >= since, 0.0)
        total = float(more.sum())
        if not total > 0:
            continue
        own = killed.loc[(killed["pod"] == pod) & (killed["container"] == container)]
        findings.append(
            Finding(
                f"containers_restarted:{namespace}/{pod}/{container}",
                f"container {container} of pod {pod} was restarted {quantity(total)} time"
                + ("s" if total != 1 else "")
                + (" (OOMKilled)" if (own["timestamp"] >= since).any() else ""),
                "prometheus",
                query,
                onset=rows.loc[more > 0, "timestamp"].iloc[0],
                value=total,
                baseline=0.0,
                unit="restarts",
            )
        )
    if findings:
        return present("containers_restarted", *findings)
    return absent(
        "containers_restarted",
        f"None of {counts['pod'].nunique()} consumer pods was restarted since {since:%H:%M}Z.",
        "prometheus",
        query,
    )


def _throttled(context: Context, metrics: pd.DataFrame) -> Check:
    shares = metrics.loc[metrics["metric"] == "cpu_throttled_ratio"]
    if shares.empty:
        return not_checked(
            "cpu_throttled", "CPU periods of the consumer's containers are not scraped (cAdvisor)."
        )
    query = queries_of(shares)
    onset = context.onset_earliest
    by_time = shares.groupby("timestamp")["value"].max()
    before, later = by_time.loc[by_time.index < onset], by_time.loc[by_time.index >= onset]
    if context.flow.onset is None or len(before) < 2 or len(later) < 2:
        return not_checked("cpu_throttled", "There is no before and after to compare.")
    usual, now = float(before.median()), float(later.median())
    if now < THROTTLED_SHARE or now < THROTTLED_GROWTH * usual:
        return absent(
            "cpu_throttled",
            f"Held back in {now:.0%} of CPU periods, {usual:.0%} before the onset.",
            "prometheus",
            query,
        )
    worst = shares.loc[shares["timestamp"] >= onset].sort_values("value").iloc[-1]
    return present(
        "cpu_throttled",
        Finding(
            "cpu_throttled",
            f"the CPU limit holds the consumer back in {now:.0%} of periods, {usual:.0%} before; "
            f"most in pod {worst['pod']}",
            "prometheus",
            query,
            onset=later.index[later >= THROTTLED_SHARE][0],
            value=now,
            baseline=usual,
            unit="share",
        ),
    )

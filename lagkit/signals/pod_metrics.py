"""What the history of the consumer's containers shows: who runs, restarts, and their CPU.

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
SILENT_STEPS = 3
"""Scrapes without any container after which it cannot be told who is gone, they or cAdvisor."""
FEWER_SHARE = 0.3
"""Containers were gone if fewer ran than before in this share of the samples after the onset."""
OFTEN = 2
"""Restarts of one container from which it does not stay up, whatever a moment's look finds."""
IDLE_SHARE = 0.02
"""A container that uses this share of the CPU it used before stands still: a client that is cut
off goes on asking ..."""
BUSY_CORES = 0.001
"""... if it used more than this, or there is nothing to compare with."""
IDLE_SAMPLES = 2
_KEYS = ["namespace", "pod", "container"]


def history(context: Context) -> Iterator[Check]:
    """Answer whether the consumer's containers restarted, stand still or meet their CPU limit."""
    metrics = context.incident.pod_metrics.dropna(subset=["value"])
    yield _restarted(context, metrics)
    yield _idle(context, metrics)
    yield _throttled(context, metrics)


def starts(context: Context) -> pd.DataFrame:
    """Return when each container that ran at a moment had started, as Prometheus saw it.

    Rows of ``pod_metrics``; a container that does not run has none at that moment.
    """
    metrics = context.incident.pod_metrics.dropna(subset=["value"])
    return metrics.loc[metrics["metric"] == "started_at"]


def unsteady(context: Context) -> str:
    """Return what shows that a container does not stay up; "" if nothing does."""
    check = _restarted(context, context.incident.pod_metrics.dropna(subset=["value"]))
    often = (found.statement for found in check.findings if (found.value or 0) >= OFTEN)
    return next(often, "")


def fewer_running(context: Context) -> Check | None:
    """Answer ``pods_unavailable`` by the containers that ran; None where that was not scraped."""
    kind, seen = "pods_unavailable", starts(context)
    if seen.empty:
        return None
    query = queries_of(seen)
    running = seen.groupby("timestamp")["pod"].nunique()
    step = running.index.to_series().diff().median()
    if context.incident.end - running.index[-1] > SILENT_STEPS * step:
        return not_checked(
            kind,
            f"No consumer container is seen after {running.index[-1]:%H:%M:%S}Z: none runs, or "
            "cAdvisor is not scraped any more.",
        )
    before = running.loc[running.index < context.onset_earliest]
    after = running.loc[running.index >= context.onset_earliest]
    if before.empty or after.empty:
        return not_checked(kind, "There is no before and after to compare.")
    usual = float(before.median())
    short = after.loc[after < usual]
    told = f"{after.iloc[-1]:.0f} of {usual:.0f} consumer containers run"
    if len(short) < max(1.0, FEWER_SHARE * len(after)):
        if between := unsteady(context):
            return not_checked(kind, f"{told} at most scrapes, but {between}.")
        return absent(kind, f"{told}, as before.", "prometheus", query)
    return present(
        kind,
        Finding(
            kind,
            f"{told}, as few as {short.min():.0f} since the onset",
            "prometheus",
            query,
            onset=short.index[0],
            value=float(short.min()),
            baseline=usual,
            unit="containers",
        ),
    )


def _restarted(context: Context, metrics: pd.DataFrame) -> Check:
    counts = metrics.loc[metrics["metric"] == "restarts"]
    if counts.empty and (metrics["metric"] == "started_at").any():
        return _started_anew(context)
    if counts.empty:
        return not_checked(
            "containers_restarted",
            "Neither kube-state-metrics nor cAdvisor of the consumer's pods is scraped.",
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


def _started_anew(context: Context) -> Check:
    """Check for containers whose pod was there before and that started after the onset."""
    kind, seen = "containers_restarted", starts(context).sort_values("timestamp")
    since = context.onset_earliest - LEAD
    query = queries_of(seen)
    findings = []
    for (namespace, pod, container), rows in seen.groupby(_KEYS, sort=True):
        anew = rows.loc[(rows["value"].diff() > 0) & (rows["timestamp"] >= since)]
        if anew.empty:
            continue
        times = len(anew)
        findings.append(
            Finding(
                f"{kind}:{namespace}/{pod}/{container}",
                f"container {container} of pod {pod} was seen to start anew {times} time"
                + ("s" if times != 1 else ""),
                "prometheus",
                query,
                onset=anew["timestamp"].iloc[0],
                value=float(times),
                baseline=0.0,
                unit="restarts",
            )
        )
    if findings:
        return present(kind, *findings)
    return absent(
        kind,
        f"None of {seen['pod'].nunique()} consumer pods had its container started anew since "
        f"{since:%H:%M}Z.",
        "prometheus",
        query,
    )


def _idle(context: Context, metrics: pd.DataFrame) -> Check:
    kind = "containers_idle"
    used = metrics.loc[metrics["metric"] == "cpu_cores"].sort_values("timestamp")
    if used.empty:
        return not_checked(kind, "CPU of the consumer's containers is not scraped (cAdvisor).")
    query = queries_of(used)
    if context.flow.onset is None:
        return absent(kind, "The group has not fallen behind in the window.", "prometheus", query)
    last = used["timestamp"].max()
    still, compared = [], 0
    for (namespace, pod, _container), rows in used.groupby(_KEYS, sort=True):
        before = rows.loc[rows["timestamp"] < context.onset_earliest, "value"]
        after = rows.loc[rows["timestamp"] >= context.onset_earliest]
        usual = float(before.median()) if len(before) else 0.0
        if usual < BUSY_CORES or len(after) < IDLE_SAMPLES or after["timestamp"].iloc[-1] < last:
            continue
        compared += 1
        if after["value"].iloc[-1] <= IDLE_SHARE * usual:
            since = after.loc[after["value"] <= IDLE_SHARE * usual, "timestamp"].iloc[0]
            still.append((f"{namespace}/{pod}", usual, since))
    if not compared:
        return not_checked(kind, "No container runs that was busy before.")
    if not still:
        return absent(
            kind, f"All {compared} containers that were busy before use CPU.", "prometheus", query
        )
    return present(
        kind,
        *(
            Finding(
                f"{kind}:{name}",
                f"pod {name.partition('/')[2]} runs and uses no CPU; it used {usual:.3f} cores",
                "prometheus",
                query,
                onset=since,
                value=0.0,
                baseline=usual,
                unit="cores",
            )
            for name, usual, since in still
        ),
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

"""What the history of the consumer's containers shows: who runs, restarts, and their CPU.

From kube-state-metrics and cAdvisor, where they are scraped. The cluster's own objects forget: a
pod that was replaced takes its restarts with it, and how busy it was is in none of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lagkit.model import Check, Finding
from lagkit.signals import Context, absent, bursts, not_checked, once, present, quantity, queries_of
from lagkit.signals.rates import STOPPED_RATIO

LEAD = pd.Timedelta("2min")
"""A restart this long before the onset may have brought it."""
THROTTLED_SHARE = 0.25
"""Share of CPU periods a container was held back in, from which its limit is felt (the default of
the Kubernetes mixin's CPUThrottlingHigh alert) ..."""
THROTTLED_GROWTH = 2.0
"""... if it was less than half as much before: a tight limit is usual and brings no lag."""
NEW_POD_SAMPLES = 3
"""A pod whose first sample comes this many steps after the window's is one that began in it."""
GONE_APART = pd.Timedelta("30s")
"""How far the last sight of the containers and the onset may be apart to be one event."""
SILENT_STEPS = 3
"""Scrapes without any container after which it cannot be told who is gone, they or cAdvisor."""
FEWER_SHARE = 0.3
"""Containers were gone if fewer ran than before in this share of the samples after the onset."""
OFTEN = 2
"""Restarts of one container from which it does not stay up, whatever a moment's look finds."""
IDLE_SHARE = 0.005
"""A container that uses this share of the CPU it used before, or less, uses none ..."""
BUSY_CORES = 0.001
"""... if it used more than this, or there is nothing to compare with."""
RATE_STEPS = 5
"""Scrapes that a rate of CPU looks back over (``lagkit.sources.prometheus.grid``)."""
IDLE_SECONDS = 60.0
"""Who uses none for so long stands still. A client that is cut off goes on asking, every few
seconds, and where CPU is counted in hundredths of a second that takes a while to be seen."""
REPLACED_TIMES = 3
"""Pods beyond the usual number that began since the onset: one rollout makes no more than that
number, and one scaling as many as it says ..."""
REPLACED_MOMENTS = 3
"""... and the moments at which they began, 15 s or more apart."""
LATELY = 3
"""Scrapes before the onset that tell how many containers ran: earlier ones tell of a scaling."""
_KEYS = ["namespace", "pod", "container"]


def history(context: Context) -> Iterator[Check]:
    """Answer whether the consumer's containers restarted, stand still or meet their CPU limit."""
    metrics = context.incident.pod_metrics.dropna(subset=["value"])
    yield _restarted(context)
    yield idle(context)
    yield _throttled(context, metrics)


@once
def starts(context: Context) -> pd.DataFrame:
    """Return when each container that ran at a moment had started, as Prometheus saw it.

    Rows of ``pod_metrics``; a container that does not run has none at that moment.
    """
    metrics = context.incident.pod_metrics.dropna(subset=["value"])
    return metrics.loc[metrics["metric"] == "started_at"]


def unsteady(context: Context) -> str:
    """Return what shows that a container does not stay up; "" if nothing does."""
    check = _restarted(context)
    often = (found.statement for found in check.findings if (found.value or 0) >= OFTEN)
    return next(often, "")


@once
def replaced(context: Context) -> Check | None:
    """Answer ``pods_come_and_go`` by the containers that ran; None where that was not scraped.

    A rollout replaces every pod at about one moment, and scaling adds some: again and again is
    neither.
    """
    kind, seen = "pods_come_and_go", starts(context)
    if seen.empty:
        return None
    query, step = queries_of(seen), _step(seen)
    first = seen.groupby("pod")["timestamp"].min()
    known_from = max(context.onset_earliest, context.incident.start + NEW_POD_SAMPLES * step)
    new = first.loc[first > known_from].sort_values()
    moments = bursts(new)
    usual = seen.groupby("timestamp")["pod"].nunique().median()
    gone = seen.groupby("pod")["timestamp"].max()
    gone = gone.loc[gone < context.incident.end - SILENT_STEPS * step]
    told = (
        f"{len(new)} pods of the consumer began at {moments} separate times since the onset, and "
        f"{len(gone)} are gone"
    )
    if moments < REPLACED_MOMENTS or len(new) < usual + REPLACED_TIMES or gone.empty:
        return absent(kind, f"{told}.", "prometheus", query)
    return present(
        kind,
        Finding(
            kind, told, "prometheus", query,
            onset=new.iloc[0],
            value=float(len(new)),
            baseline=0.0,
            unit="pods",
        ),
    )  # fmt: skip


def _step(seen: pd.DataFrame) -> pd.Timedelta:
    """Return the usual time between two scrapes."""
    step = seen["timestamp"].drop_duplicates().sort_values().diff().median()
    return step if pd.notna(step) else pd.Timedelta(0)


def _gone_with_the_work(context: Context, last: pd.Timestamp) -> bool:
    """Tell whether the group stopped when its containers were seen for the last time."""
    shares, onset = context.flow.shares, context.flow.onset
    if shares is None or onset is None or not shares.consume_baseline > 0:
        return False
    read = context.flow.group["consume_per_second"].dropna().tail(SILENT_STEPS)
    stopped = len(read) and (read <= STOPPED_RATIO * shares.consume_baseline).all()
    return bool(stopped and onset.earliest - GONE_APART <= last <= onset.latest + GONE_APART)


@once
def fewer_running(context: Context) -> Check | None:
    """Answer ``pods_unavailable`` by the containers that ran; None where that was not scraped."""
    kind, seen = "pods_unavailable", starts(context)
    if seen.empty:
        return None
    query = queries_of(seen)
    running = seen.groupby("timestamp")["pod"].nunique()
    step, last = _step(seen), running.index[-1]
    if context.incident.end - last > SILENT_STEPS * step:
        told = f"no consumer container is seen after {last:%H:%M:%S}Z"
        if not _gone_with_the_work(context, last):
            why = "none runs, or cAdvisor is not scraped any more."
            return not_checked(kind, f"N{told[1:]}: {why}")
        return present(
            kind,
            Finding(
                kind, f"{told}, and the group stopped then", "prometheus", query,
                onset=last,
                value=0.0,
                baseline=float(running.median()),
                unit="containers",
            ),
        )  # fmt: skip
    before = running.loc[running.index < context.onset_earliest]
    after = running.loc[running.index >= context.onset_earliest]
    if before.empty or after.empty:
        return not_checked(kind, "There is no before and after to compare.")
    usual = float(before.tail(LATELY).median())
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


@once
def _restarted(context: Context) -> Check:
    metrics = context.incident.pod_metrics.dropna(subset=["value"])
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


@once
def idle(context: Context) -> Check:
    """Answer whether a container of the consumer runs and does nothing."""
    kind, metrics = "containers_idle", context.incident.pod_metrics.dropna(subset=["value"])
    used = metrics.loc[metrics["metric"] == "cpu_cores"].sort_values("timestamp")
    if used.empty:
        return not_checked(kind, "CPU of the consumer's containers is not scraped (cAdvisor).")
    query = queries_of(used)
    if context.flow.onset is None:
        return absent(kind, "The group has not fallen behind in the window.", "prometheus", query)
    step = _step(used)
    recent = context.incident.end - SILENT_STEPS * step
    still, compared, longest = [], 0, 0.0
    for (namespace, pod, _container), rows in used.groupby(_KEYS, sort=True):
        before = rows.loc[rows["timestamp"] < context.onset_earliest, "value"]
        after = rows.loc[rows["timestamp"] >= context.onset_earliest]
        usual = float(before.median()) if len(before) else 0.0
        if usual < BUSY_CORES or after.empty or after["timestamp"].iloc[-1] < recent:
            continue
        compared += 1
        unused = after["value"] <= IDLE_SHARE * usual
        samples = int(unused[::-1].cumprod().sum())
        lasted = (RATE_STEPS + samples - 1) * step.total_seconds() if samples else 0.0
        longest = max(longest, lasted)
        if lasted >= IDLE_SECONDS:
            since = after["timestamp"].iloc[-samples]
            still.append((f"{namespace}/{pod}", usual, since))
    if not compared:
        return not_checked(kind, "No container runs that was busy before.")
    if not still:
        told = f"All {compared} containers that were busy before use CPU"
        if longest:
            told = f"None of {compared} containers stood still for long, one for {longest:.0f} s"
        return absent(kind, f"{told}.", "prometheus", query)
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

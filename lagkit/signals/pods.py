"""The consumer's pods: containers that end, missing replicas, rollouts, scaling, their nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from lagkit.model import Check, Finding, SourceName
from lagkit.signals import Context, absent, not_checked, once, present, queries_of
from lagkit.signals.pod_metrics import fewer_running, replaced, starts

ROLLOUT_BEFORE = pd.Timedelta("3min")
"""A rollout this long before the onset may have brought it: pods start, join and meet their first
records. After that the group has shown that it can run this revision."""
SHOWN_WELL = pd.Timedelta("60s")
"""A revision whose last pod was made this long before the onset has been seen to keep up, and so
has a container that was started anew."""
_LEAD = pd.Timedelta("2min")
_STARTUP = pd.Timedelta("30s")
# 143 = ended by SIGTERM, 0 = done: how a rollout or a scale-down ends a healthy container.
_ORDERLY_EXITS = (0, 143)
_BAD_WAITING = (
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "InvalidImageName",
)
SCALE_REPEATS = 3
"""Scalings after the onset that one correction of an autoscaler does not make."""
REPLACED_TIMES = 3
"""Containers and pods of healthy members that a single eviction does not take."""
SCALING_MAKES = pd.Timedelta("5s")
ROLLOUT_LASTS = pd.Timedelta("10min")
"""A Deployment scales its ReplicaSets while it rolls out: its default progressDeadlineSeconds."""
_SCALED = {
    "HorizontalPodAutoscaler": ("SuccessfulRescale",),
    "ScaledObject": ("KEDAScaleTargetActivated", "KEDAScaleTargetDeactivated"),
    "Deployment": ("ScalingReplicaSet",),
}
_KINDS = (
    "containers_failing",
    "killed_for_memory",
    "pods_come_and_go",
    "pods_unavailable",
    "rollout_before_onset",
    "scaled_near_onset",
    "replicas_capped",
    "nodes_unwell",
)


def consumers(context: Context) -> Iterator[Check]:
    """Answer how the consumer's containers, replicas, rollouts, autoscalers and nodes are."""
    incident = context.incident
    pods = incident.pods.loc[incident.pods["role"] == "consumer"]
    workloads = incident.workloads.loc[incident.workloads["role"] == "consumer"]
    if pods.empty and workloads.empty:
        reason = context.gap("kubernetes", "pods")
        seen = {
            "pods_unavailable": fewer_running(context),
            "pods_come_and_go": replaced(context),
        }
        for kind in _KINDS:
            yield seen.get(kind) or not_checked(kind, reason, "kubernetes")
        return
    yield _failing(context, pods)
    yield _out_of_memory(context, pods)
    yield come_and_go(context)
    yield _unavailable(context, pods, workloads)
    yield _rollout(context)
    yield _scaled(context)
    yield _capped(context, workloads)
    yield _nodes(context, pods)


def _exited(pods: pd.DataFrame) -> pd.Series[bool]:
    code = pods["last_exit_code"]
    return (code.notna() & ~code.isin(_ORDERLY_EXITS)).astype(bool)


def ended_badly(context: Context, pods: pd.DataFrame) -> pd.Series[bool]:
    """Tell which rows of `pods` ended with an error inside the incident, or do so all the time.

    A restart before the onset or after the window says nothing about the lag, nor does one that
    was followed by :data:`SHOWN_WELL` of work without lag.
    """
    finished = pods["last_finished_at"]
    inside = (finished >= context.onset_earliest - _LEAD) & (
        finished <= context.incident.end + _LEAD
    )
    mended = (pods["state"] == "running") & pods["started_at"].between(
        finished, context.onset_earliest - SHOWN_WELL
    )
    # one that ends in order again and again is kept waiting under the same name
    looping = (pods["state_reason"] == "CrashLoopBackOff") & ~_in_order(pods)
    return (_exited(pods) & inside & ~mended) | looping


def _in_order(pods: pd.DataFrame) -> pd.Series[bool]:
    return pods["last_exit_code"].isin(_ORDERLY_EXITS).astype(bool)


@dataclass(frozen=True)
class RanOn:
    """Whether all containers ran through the incident; None if nobody could tell."""

    all: bool | None
    pods: int
    told: str
    source: SourceName = "kubernetes"
    query: str = ""


@once
def ran_on(context: Context) -> RanOn:
    """Return whether the consumer's containers ran on from before the onset, none of them anew."""
    pods = context.incident.pods
    pods = pods.loc[pods["role"] == "consumer"]
    # from the onset on: what came before it cannot be what the members miss since
    seen, since = starts(context), context.onset_earliest
    if len(pods) and pods["ready"].notna().all():
        unready = int((~pods["ready"].astype(bool)).sum())
        fresh = pods["created_at"] >= since
        ended = pods["last_finished_at"].between(since, context.incident.end + _LEAD)
        anew = int((fresh | ended).sum())
        told = f"{pods['pod'].nunique()} pods are there: {unready} not ready, {anew} started anew"
        if lost := scaled_down(context):
            return RanOn(all=False, pods=pods["pod"].nunique(), told=lost[0].statement)
        return RanOn(not unready and not anew, pods["pod"].nunique(), told, query=queries_of(pods))
    if len(seen):
        fewer = fewer_running(context)
        anew = int((seen["value"] >= since.timestamp()).groupby(seen["pod"]).any().sum())
        gone = fewer is None or fewer.outcome != "absent"
        told = f"{seen['pod'].nunique()} pods ran: {anew} started anew" + (
            f"; {fewer.findings[0].statement}" if fewer is not None and fewer.findings else ""
        )
        return RanOn(
            not gone and not anew, seen["pod"].nunique(), told, "prometheus", queries_of(seen)
        )
    return RanOn(None, 0, context.gap("kubernetes", "pods"))


def _failing(context: Context, pods: pd.DataFrame) -> Check:
    if pods.empty:
        return not_checked(
            "containers_failing", "The workload has no pods to look at.", "kubernetes"
        )
    since = context.onset_earliest - _LEAD
    bad = pods.loc[ended_badly(context, pods)]
    query = queries_of(pods, context.incident.events)
    if bad.empty:
        old = pods.loc[_exited(pods), "last_finished_at"].dropna()
        old = old.loc[old < since]
        return absent(
            "containers_failing",
            f"No container of {pods['pod'].nunique()} consumer pods ended with an error since "
            f"{since:%H:%M}Z"
            + (
                f"; the last one before that ended at {old.max():%Y-%m-%d %H:%M}Z."
                if len(old)
                else "."
            ),
            "kubernetes",
            query,
        )
    return present(
        "containers_failing",
        *(
            Finding(
                f"containers_failing:{row.namespace}/{row.pod}",
                _ending(row),
                "kubernetes",
                query,
                onset=_began(context, row, since),
                value=float(row.restart_count) if pd.notna(row.restart_count) else None,
                baseline=0.0,
                unit="restarts",
            )
            for row in bad.sort_values(["restart_count", "pod"], ascending=[False, True])
            # one finding a pod, about its worst container
            .drop_duplicates(["namespace", "pod"])
            .itertuples()
        ),
    )


def _out_of_memory(context: Context, pods: pd.DataFrame) -> Check:
    """Check for kills by the kernel: it says why, where an exit code of 137 alone does not."""
    kind, query = "killed_for_memory", queries_of(pods)
    if pods.empty:
        return not_checked(kind, "The workload has no pods to look at.", "kubernetes")
    killed = pods.loc[ended_badly(context, pods) & (pods["last_reason"] == "OOMKilled")]
    if killed.empty:
        return absent(kind, "No container was killed for want of memory.", "kubernetes", query)
    names = sorted(killed["pod"].unique())
    since = context.onset_earliest - _LEAD
    starts = [_began(context, row, since) for row in killed.itertuples()]
    return present(
        kind,
        Finding(
            kind,
            f"{len(names)} of {pods['pod'].nunique()} pods were killed for want of memory "
            f"({names[0]}{' and others' if len(names) > 1 else ''})",
            "kubernetes",
            query,
            onset=min((at for at in starts if at is not None), default=None),
            value=float(len(names)),
            baseline=0.0,
            unit="pods",
        ),
    )


@once
def come_and_go(context: Context) -> Check:
    """Check for containers that end in order and pods that are made anew, beyond any rollout."""
    pods, workloads = context.incident.pods, context.incident.workloads
    pods = pods.loc[pods["role"] == "consumer"]
    workloads = workloads.loc[workloads["role"] == "consumer"]
    kind, query = "pods_come_and_go", queries_of(pods, context.incident.events)
    if pods.empty or not _asked(context, "/events?"):
        return replaced(context) or not_checked(
            kind, context.gap("kubernetes", "events"), "kubernetes"
        )
    since = context.onset_earliest
    ended = pods.loc[_in_order(pods) & (pods["last_finished_at"] >= since)]
    made, anew = _made_anew(context, pods, workloads, since)
    again = int(ended["restart_count"].fillna(1).sum()) + anew
    told = f"{len(ended)} containers ended in order and {anew} pods were made anew"
    if again < REPLACED_TIMES:
        return absent(
            kind, f"Since the onset {told}, beyond rollouts and scaling.", "kubernetes", query
        )
    began = [*ended["last_finished_at"].loc[ended["restart_count"] <= 1]]
    if anew:
        began.append(made["timestamp"].min())
    return present(
        kind,
        Finding(
            kind,
            f"since the onset {told}, beyond what a rollout or a scaling makes",
            "kubernetes",
            query,
            onset=min(began, default=None),
            value=float(again),
            baseline=0.0,
            unit="times",
        ),
    )


def _made_anew(
    context: Context, pods: pd.DataFrame, workloads: pd.DataFrame, since: pd.Timestamp
) -> tuple[pd.DataFrame, int]:
    """Return the events of pods that were made since then, and how many of them nothing asked for.

    A revision that is rolled out makes as many pods as are wanted, and scaling up the difference;
    one that is rolled back makes them again.
    """
    incident = context.incident
    sets = incident.rollouts.loc[incident.rollouts["role"] == "consumer"]
    events = incident.events
    made = events.loc[
        (events["reason"] == "SuccessfulCreate")
        & events["name"].isin({*sets["replica_set"].dropna(), *pods["replica_set"].dropna()})
        & (events["timestamp"] >= since)
    ]
    new = sets.loc[sets["timestamp"] >= since - ROLLOUT_BEFORE, "replica_set"].nunique()
    scaled = scalings(context)
    up = (scaled["now"] - scaled["was"]).loc[scaled["timestamp"] >= since - SCALING_MAKES]
    asked = new * workloads["desired_replicas"].fillna(0).sum() + up.clip(lower=0).sum()
    return made, max(0, int(made["count"].fillna(1).sum() - asked))


def _ending(row: object) -> str:
    pod = row.pod  # type: ignore[attr-defined]
    code, reason = row.last_exit_code, row.last_reason  # type: ignore[attr-defined]
    restarts, state = row.restart_count, row.state_reason  # type: ignore[attr-defined]
    told = f"pod {pod}"
    if pd.notna(code):
        told += f" ended with exit code {code}"
        if isinstance(reason, str) and reason not in ("Error", "Completed"):
            told += f" ({reason})"
    if pd.notna(restarts) and restarts:
        told += f", {restarts} restart{'s' if restarts != 1 else ''}"
    return told + (f", now {state}" if isinstance(state, str) else "")


def _began(context: Context, row: object, since: pd.Timestamp) -> pd.Timestamp | None:
    """Return when this pod began to fail; None if only a later repeat of it is known."""
    events = context.incident.events
    told = events.loc[
        (events["name"] == row.pod)  # type: ignore[attr-defined]
        & events["reason"].isin(["BackOff", "Failed", "OOMKilling", "Killing", "Unhealthy"])
    ]
    seen = told["first_at"].fillna(told["timestamp"])
    starts = [stamp for stamp in seen if stamp >= since]
    restarts = row.restart_count  # type: ignore[attr-defined]
    finished = row.last_finished_at  # type: ignore[attr-defined]
    created = row.created_at  # type: ignore[attr-defined]
    # A pod that ran for a while before it failed did not begin to fail when it was made.
    if pd.notna(created) and created >= context.onset_earliest - _STARTUP:
        starts.append(created)
    elif pd.notna(finished) and not (pd.notna(restarts) and restarts > 1):
        starts.append(finished)
    return min(starts) if starts else None


def _unavailable(context: Context, pods: pd.DataFrame, workloads: pd.DataFrame) -> Check:
    query = queries_of(pods, workloads)
    findings = []
    away = pods.loc[_in_order(pods) & ~pods["ready"].fillna(value=True).astype(bool)]
    returning = away.drop_duplicates(["namespace", "pod"])
    for row in workloads.itertuples():
        ready = 0 if pd.isna(row.ready_replicas) else int(row.ready_replicas)
        if pd.isna(row.desired_replicas):
            continue
        wanted = int(row.desired_replicas)
        # who ends in order is on its way back
        back = int((returning["workload"] == row.workload).sum()) if ready else 0
        if wanted == 0 or ready + back < wanted:
            findings.append(
                Finding(
                    f"pods_unavailable:{row.namespace}/{row.workload}",
                    f"{row.kind} {row.workload} is scaled to zero{_by_whom(context, row)}"
                    if wanted == 0
                    else f"{ready} of {wanted} pods of {row.workload} are ready",
                    "kubernetes",
                    query,
                    value=float(ready),
                    baseline=float(wanted),
                    unit="pods",
                    quote=row.condition if isinstance(row.condition, str) else "",
                )
            )
    waits = pods["state_reason"].isin(_BAD_WAITING) & ~_in_order(pods)
    stuck = pods.loc[waits | pods["unschedulable"].notna()]
    findings += [
        Finding(
            f"pods_unavailable:{row.namespace}/{row.pod}",
            f"pod {row.pod} cannot be scheduled"
            if isinstance(row.unschedulable, str)
            else f"pod {row.pod} waits: {row.state_reason}",
            "kubernetes",
            query,
            onset=row.created_at
            if pd.notna(row.created_at) and row.created_at >= context.onset_earliest - _LEAD
            else None,
            quote=row.unschedulable if isinstance(row.unschedulable, str) else "",
        )
        for row in stuck.drop_duplicates(["namespace", "pod"]).itertuples()
    ]
    findings += _not_created(context, query)
    known = {finding.id for finding in findings}
    findings += [finding for finding in scaled_down(context) if finding.id not in known]
    if findings:
        return present("pods_unavailable", *findings)
    told = [
        f"{row.ready_replicas} of {row.desired_replicas} pods of {row.workload}"
        for row in workloads.itertuples()
        if pd.notna(row.desired_replicas)
    ]
    if not told and pods["ready"].isna().all():
        return not_checked("pods_unavailable", context.gap("kubernetes", "workloads"), "kubernetes")
    return absent(
        "pods_unavailable",
        f"Ready: {', '.join(told) or str(pods['pod'].nunique()) + ' pods'}.",
        "kubernetes",
        query,
    )


def _by_whom(context: Context, workload: object) -> str:
    """Return which autoscaler of *workload* scales to zero, as the end of a sentence."""
    scalers = context.incident.autoscalers
    mine = scalers.loc[
        (scalers["namespace"] == workload.namespace)  # type: ignore[attr-defined]
        & (scalers["workload"] == workload.workload)  # type: ignore[attr-defined]
        & (scalers["min_replicas"] == 0)
    ]
    return "".join(f" by {row.kind} {row.autoscaler}" for row in mine.head(1).itertuples())


def _not_created(context: Context, query: str) -> list[Finding]:
    """Return one finding per object whose pods the API server refused to make, e.g. by a quota."""
    events = context.incident.events
    failed = events.loc[
        (events["reason"] == "FailedCreate")
        & (events["timestamp"] >= context.onset_earliest - _LEAD)
        & events["name"].isin(_controllers(context))
    ].sort_values("timestamp")
    return [
        Finding(
            f"pods_unavailable:{namespace}/{kind}/{name}",
            f"{kind} {name} cannot make its pods"
            + (
                ": a quota is used up"
                if rows["message"].str.contains("exceeded quota", regex=False).any()
                else ""
            ),
            "kubernetes",
            query,
            onset=rows["first_at"].fillna(rows["timestamp"]).min(),
            quote=str(rows["message"].iloc[-1])[:300],
        )
        for (namespace, kind, name), rows in failed.groupby(["namespace", "kind", "name"])
    ]


def _controllers(context: Context) -> set[str]:
    """Return the names of what makes the consumer's pods."""
    incident = context.incident
    names: set[str] = set()
    for table, column in (
        (incident.workloads, "workload"),
        (incident.rollouts, "replica_set"),
        (incident.pods, "replica_set"),
    ):
        names |= set(table.loc[table["role"] == "consumer", column].dropna())
    return names


def _asked(context: Context, words: str) -> bool:
    """Whether a question of Kubernetes with *words* in it was answered, if by "there is none"."""
    queries = context.incident.queries
    about = queries["statement"].str.contains(words, regex=False)
    return bool((about & queries["outcome"].isin(["ok", "empty", "partial"])).any())


def _scaled(context: Context) -> Check:
    kind = "scaled_near_onset"
    incident, flow = context.incident, context.flow
    if not _asked(context, "/horizontalpodautoscalers") or not _asked(context, "/events?"):
        return not_checked(kind, context.gap("kubernetes", "autoscalers"), "kubernetes")
    workloads = incident.workloads.loc[incident.workloads["role"] == "consumer"]
    scalers = incident.autoscalers.loc[incident.autoscalers["role"] == "consumer"]
    names = {*workloads["workload"], *scalers["autoscaler"]}
    events = incident.events.loc[incident.events["name"].isin(names)]
    events = events.loc[
        [row.reason in _SCALED.get(row.kind, ()) for row in events.itertuples()]
    ].sort_values("timestamp")
    # a Deployment's own lines repeat its autoscaler's, and every rollout writes some
    own = events["kind"] == "Deployment"
    ours = events.index.isin(scalings(context).index)
    events = events.loc[~own | (ours & own.all())]
    query = queries_of(events, scalers)
    if flow.onset is None:
        return absent(kind, "Without an onset no scaling is near it.", "kubernetes", query)
    step = pd.Timedelta(flow.step_seconds, "s")
    near = events.loc[
        (events["timestamp"] >= flow.onset.earliest - ROLLOUT_BEFORE)
        & (events["first_at"].fillna(events["timestamp"]) <= flow.onset.latest + 2 * step)
    ]
    later = events.loc[events["timestamp"] >= flow.onset.earliest - ROLLOUT_BEFORE]
    times = int(later["count"].fillna(1).sum())
    if near.empty and times < SCALE_REPEATS:
        last = f"the last at {events['timestamp'].max():%H:%M:%S}Z" if len(events) else "none known"
        return absent(
            kind, f"The consumer was not scaled around the onset ({last}).", "kubernetes", query
        )
    row = (near if len(near) else later).iloc[0]
    return present(
        kind,
        Finding(
            f"{kind}:{row['namespace']}/{row['name']}",
            f"the consumer was scaled {times} time{'s' if times != 1 else ''} since shortly before "
            f"the onset, first at {row['timestamp']:%H:%M:%S}Z by {row['kind']} {row['name']}: "
            "each time its partitions are handed out anew",
            "kubernetes",
            query,
            onset=row["timestamp"],
            value=float(times),
            baseline=0.0,
            unit="scalings",
            quote=str(row["message"])[:300] if isinstance(row["message"], str) else "",
        ),
    )


_REPLICA_SET = re.compile(
    # Kubernetes 1.27 and later, those before it, and those before 1.23
    r"replica set (?P<set>\S{1,253}) "
    r"(?:from (?P<was>\d{1,6}) to (?P<now>\d{1,6})|to (?P<to>\d{1,6})(?: from (?P<of>\d{1,6}))?)"
)


@once
def scalings(context: Context) -> pd.DataFrame:
    """Return what the consumer's Deployments say of being scaled, in order of time.

    Rows of the frame `events` with ``set`` (the ReplicaSet), ``was`` and ``now`` (its replicas; NaN
    where the line names none). A rollout scales as well, one set down while it scales another up,
    and is left out; so is the first line of a set that was made with its Deployment.
    """
    incident = context.incident
    names = incident.workloads.loc[incident.workloads["role"] == "consumer", "workload"]
    events = incident.events
    events = events.loc[
        (events["kind"] == "Deployment")
        & (events["reason"] == "ScalingReplicaSet")
        & events["name"].isin(names)
    ].sort_values("timestamp", kind="stable")
    told = events["message"].fillna("").astype(str).str.extract(_REPLICA_SET)
    was = pd.to_numeric(told["was"].fillna(told["of"]), errors="coerce")
    now = pd.to_numeric(told["now"].fillna(told["to"]), errors="coerce")
    rows = events.assign(set=told["set"].fillna(""), was=was, now=now)
    place = ["namespace", "name", "set"]
    rows["was"] = rows["was"].fillna(rows.groupby(place)["now"].shift())
    first = rows.groupby(place)["timestamp"].transform("min") == rows["timestamp"]
    made = first & rows["now"].notna() & ~(rows["was"] > 0)
    sets = rows[[*place, "timestamp"]]
    rolled = [
        bool(
            (
                (sets["namespace"] == row.namespace)
                & (sets["name"] == row.name)
                & (sets["set"] != row.set)
                & ((sets["timestamp"] - row.timestamp).abs() <= ROLLOUT_LASTS)
            ).any()
        )
        for row in sets.itertuples(index=False)
    ]
    return rows.loc[~made & ~pd.Series(rolled, index=rows.index, dtype=bool)]


@once
def scaled_down(context: Context) -> list[Finding]:
    """Return which Deployments have fewer replicas than shortly before the onset: `value` of
    `baseline`."""
    if context.flow.onset is None:
        return []
    rows = scalings(context)
    rows = rows.loc[rows["timestamp"] >= context.onset_earliest - ROLLOUT_BEFORE]
    return [
        Finding(
            f"pods_unavailable:{space}/{name}",
            f"{name} was scaled down from {own['was'].iloc[0]:.0f} to {own['now'].iloc[-1]:.0f} "
            f"replicas at {own['timestamp'].iloc[0]:%H:%M:%S}Z",
            "kubernetes",
            queries_of(own),
            onset=own["timestamp"].iloc[0],
            value=float(own["now"].iloc[-1]),
            baseline=float(own["was"].iloc[0]),
            unit="pods",
            quote=str(own["message"].iloc[-1])[:300],
        )
        for (space, name), own in rows.groupby(["namespace", "name"])
        if own["now"].iloc[-1] < own["was"].iloc[0]
    ]


def _capped(context: Context, workloads: pd.DataFrame) -> Check:
    kind = "replicas_capped"
    incident = context.incident
    if not _asked(context, "/horizontalpodautoscalers"):
        return not_checked(kind, context.gap("kubernetes", "autoscalers"), "kubernetes")
    scalers = incident.autoscalers.loc[incident.autoscalers["role"] == "consumer"]
    query = queries_of(scalers, workloads)
    if scalers.empty:
        return not_checked(kind, "No autoscaler looks after the consumer.", "kubernetes")
    limited = scalers.loc[scalers["limited_by_max"].fillna(False).astype(bool)]
    ready = workloads["ready_replicas"].max()
    partitions = len(context.owners)
    by_partitions = partitions > 0 and pd.notna(ready) and int(ready) >= partitions
    findings = [
        Finding(
            f"{kind}:{row.namespace}/{row.autoscaler}",
            f"{row.kind} {row.autoscaler} wants more than its maximum of {row.max_replicas} pods",
            "kubernetes",
            query,
            value=float(row.max_replicas),
            unit="pods",
            quote=row.condition if isinstance(row.condition, str) else "",
        )
        for row in limited.itertuples()
    ]
    if by_partitions:
        findings.append(
            Finding(
                f"{kind}:partitions",
                f"{int(ready)} pods are ready for {partitions} partitions: an autoscaler has "
                "nothing left to add",
                "kubernetes",
                query,
                value=float(ready),
                baseline=float(partitions),
                unit="pods",
            )
        )
    if findings:
        return present(kind, *findings)
    return absent(
        kind,
        "; ".join(
            f"{row.kind} {row.autoscaler} may make {row.max_replicas} pods"
            + (f" and wants {row.desired_replicas}" if pd.notna(row.desired_replicas) else "")
            for row in scalers.itertuples()
        )
        + ".",
        "kubernetes",
        query,
    )


def _nodes(context: Context, pods: pd.DataFrame) -> Check:
    kind = "nodes_unwell"
    nodes = context.incident.nodes
    nodes = nodes.loc[nodes["node"].isin(set(pods["node"].dropna()))]
    if nodes.empty:
        return not_checked(kind, context.gap("kubernetes", "nodes"), "kubernetes")
    query = queries_of(nodes)
    silent = nodes["ready"].notna() & ~nodes["ready"].fillna(True).astype(bool)
    bad = nodes.loc[silent | nodes["pressure"].notna()]
    if bad.empty:
        return absent(
            kind, f"All {len(nodes)} nodes of the pods are ready, none under pressure.",
            "kubernetes", query,
        )  # fmt: skip
    held = pods.groupby("node")["pod"].nunique()
    return present(
        kind,
        *(
            Finding(
                f"{kind}:{row.node}",
                f"node {row.node} with {held.get(row.node, 0)} of the consumer's pods "
                + ("is not ready" if pd.notna(row.ready) and not row.ready else "is under pressure")
                + (f" ({row.pressure})" if isinstance(row.pressure, str) else ""),
                "kubernetes",
                query,
                # a pressure of last week brought no lag of today
                onset=row.changed_at
                if pd.notna(row.changed_at) and row.changed_at >= context.onset_earliest - _LEAD
                else None,
                quote=row.condition if isinstance(row.condition, str) else "",
            )
            for row in bad.sort_values("node").itertuples()
        ),
    )


def _rollout(context: Context) -> Check:
    rollouts = context.incident.rollouts
    rollouts = rollouts.loc[rollouts["role"] == "consumer"]
    if rollouts.empty:
        return not_checked(
            "rollout_before_onset", context.gap("kubernetes", "rollouts"), "kubernetes"
        )
    query = queries_of(rollouts)
    flow = context.flow
    # The first revision is the group's birth, not a change of it.
    changes = rollouts.loc[rollouts["revision"].fillna(1) > 1]
    if flow.onset is not None:
        step = pd.Timedelta(flow.step_seconds, "s")
        near = changes.loc[
            (changes["timestamp"] >= flow.onset.earliest - ROLLOUT_BEFORE)
            & (changes["timestamp"] <= flow.onset.latest + 2 * step)
        ]
        proven = near.loc[_complete_since(context, near) <= flow.onset.earliest - SHOWN_WELL]
        near = near.drop(proven.index)
    else:
        near = proven = changes.iloc[0:0]
    if near.empty:
        last = changes["timestamp"].max() if len(changes) else None
        return absent(
            "rollout_before_onset",
            "The consumer runs its first revision."
            if last is None
            else f"The last rollout was at {last:%Y-%m-%d %H:%M:%S}Z, and the group kept up for "
            f"{SHOWN_WELL.total_seconds():.0f} s and more with all its pods."
            if len(proven)
            else f"The last rollout was at {last:%Y-%m-%d %H:%M:%S}Z, not before the onset.",
            "kubernetes",
            query,
        )
    row = near.iloc[-1]
    return present(
        "rollout_before_onset",
        Finding(
            f"rollout_before_onset:{row['namespace']}/{row['workload']}",
            f"revision {row['revision']} of {row['workload']} was rolled out at "
            f"{row['timestamp']:%H:%M:%S}Z",
            "kubernetes",
            query,
            onset=row["timestamp"],
            quote=row["change_cause"] if isinstance(row["change_cause"], str) else "",
        ),
    )


def _complete_since(context: Context, rollouts: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """Return when the last pod of each rollout was made; NaT where none of it is there."""
    pods = context.incident.pods
    pods = pods.loc[pods["role"] == "consumer"]
    made = pods.groupby("replica_set")["created_at"].max()
    return rollouts[["replica_set"]].join(made, on="replica_set")["created_at"]

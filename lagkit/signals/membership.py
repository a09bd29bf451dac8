"""Who is in the group, who left, and whether there is room for one more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from lagkit.model import Check, Finding, SourceName
from lagkit.monitoring import BLIND_TO_KIP848
from lagkit.signals import (
    BURST,
    Context,
    absent,
    bursts,
    not_checked,
    once,
    present,
    quantity,
    queries_of,
)
from lagkit.signals.downstream import work_goes_on, work_share
from lagkit.signals.log_patterns import says
from lagkit.signals.pod_metrics import fewer_running, idle, unsteady
from lagkit.signals.pods import come_and_go, ran_on, scaled_down
from lagkit.signals.rates import STOPPED_RATIO, on_places
from lagkit.signals.snapshots import demand_and_supply_now
from lagkit.signals.thresholds import SLOWED_RATIO

STILL_SAMPLES = 3
"""Samples without a commit that the rare commit of a slow group does not leave."""
CHURN_CHANGES = 3
"""Membership changes after the onset that a single restart or rollout step does not make."""
MISSING_SHARE = 0.3
"""Members were missing if so in this share of the samples after the onset."""
ALL_AT_ONCE = pd.Timedelta("30s")
"""Sessions that end for one reason end within this: the usual ones last 6 to 45 s."""
SHARED_FROM = 2
"""Members that share something: one alone shares nothing."""
REBALANCING = ("PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling")
LOG_STEP = pd.Timedelta("15s")
"""Step at which the group's log is read off, as an exporter samples it."""
SHORTEST_SESSION_SECONDS = 6.0
"""Default of group.min.session.timeout.ms: whoever is gone sooner has said goodbye."""
LOOKS_SECONDS = 10.0
"""Looks at the coordinator must span this to say that nobody comes and goes."""
_REBALANCE_WORDS = (
    r"(?i)\b(?:rebalanc(?:e|ing)|partitions? (?:revoked|assigned|lost)|revoked|"
    r"\(re-?\)joining group|joining group|setting newly assigned)\b"
)


def members(context: Context) -> Iterator[Check]:
    """Answer whether members are missing, come and go, or leave no partition free."""
    missing, coming_and_going = _missing(context), churn(context)
    yield missing
    yield cut_off(context)
    yield coming_and_going
    yield _leave_at_once(context)
    yield _slower_though_complete(context, missing, coming_and_going)
    yield _spare(context)


@once
def _counts(context: Context) -> pd.DataFrame:
    """Return member counts over time, without those of exporters that cannot see the protocol."""
    log = _logged(context)
    if log["member_count"].notna().any():
        return _logged_counts(context, log)
    history = context.incident.group_history
    history = history.loc[history["group"] == context.incident.group]
    known = context.incident.group_state
    known = known.loc[known["group"] == context.incident.group]
    classic = bool((known["protocol"] == "classic").any())
    consumer_protocol = bool((known["protocol"] == "consumer").any())
    dialect = context.incident.facts.get("prometheus", {}).get("dialect", "")
    blind = consumer_protocol or (not classic and dialect in BLIND_TO_KIP848)
    if blind and not (history["member_count"] > 0).any():
        # they report 0 members for a live group of the protocol of KIP-848; a 0 counts only where
        # the group is known to be of the other one
        return history.iloc[0:0]
    return history


def _logged(context: Context) -> pd.DataFrame:
    """Return what the group's own log says of it; empty where it was not read."""
    log = context.incident.group_log
    return log.loc[log["group"] == context.incident.group]


def _logged_counts(context: Context, log: pd.DataFrame) -> pd.DataFrame:
    """Return the member count that the log tells, as an exporter would have sampled it."""
    known = log.dropna(subset=["member_count"])
    incident = context.incident
    grid = pd.date_range(incident.start, incident.end, freq=LOG_STEP).as_unit("us")
    told = pd.merge_asof(
        pd.DataFrame({"timestamp": grid}),
        known[["timestamp", "group", "member_count", "query_id"]],
        on="timestamp",
    ).dropna(subset=["member_count"])
    return told.assign(member_count=told["member_count"].astype("float64"), state=pd.NA)


@once
def _missing(context: Context) -> Check:
    """Answer whether the group has fewer members than before, or than it should have."""
    counts, now = _counts(context), context.incident.group_state
    now = now.loc[now["group"] == context.incident.group]
    seen = counts.dropna(subset=["member_count"])
    before = seen.loc[seen["timestamp"] < context.onset_earliest, "member_count"]
    usual = float(before.median()) if len(before) else float("nan")
    after = seen.loc[seen["timestamp"] >= context.onset_earliest]
    listed = now["member_count"].dropna()
    current = (
        float(listed.iloc[-1])
        if len(listed)
        else (float(seen["member_count"].iloc[-1]) if len(seen) else float("nan"))
    )
    if np.isnan(current):
        return not_checked("members_missing", context.gap("kafka", "members"), "kafka")
    if current == 0 and not usual > 0 and _reads_now(context):
        return not_checked(
            "members_missing",
            "No member is listed, yet offsets are committed: the group assigns its partitions "
            "itself, or the exporter cannot see its members.",
        )
    source: SourceName = "kafka" if len(listed) else "prometheus"
    query = queries_of(counts, now)
    state = str(now["state"].iloc[-1]) if len(now) and pd.notna(now["state"].iloc[-1]) else ""
    short = after.loc[after["member_count"] < usual] if not np.isnan(usual) else after.iloc[0:0]
    fewer = len(short) >= max(1, MISSING_SHARE * len(after))
    wanted, who = _wanted(context)
    if (
        current == 0
        or (not np.isnan(usual) and current < usual)
        or (np.isnan(usual) and current < wanted)
        or fewer
    ):
        since = short["timestamp"].iloc[0] if len(short) else None
        lowest = min([current, *short["member_count"]])
        return present(
            "members_missing",
            Finding(
                "members_missing",
                (
                    "the group has no members"
                    if current == 0
                    else f"the group has {current:.0f} members"
                )
                + (f", as few as {lowest:.0f} since the onset" if lowest < current else "")
                + (
                    f"; it had {usual:.0f} before"
                    if not np.isnan(usual)
                    else f"; {who}"
                    if current < wanted
                    else ""
                )
                + (f" (state {state})" if state else ""),
                source,
                query,
                onset=since,
                value=lowest,
                baseline=None if np.isnan(usual) else usual,
                unit="members",
            ),
        )
    if np.isnan(usual) and not len(listed):
        return not_checked("members_missing", context.gap("prometheus", "members"))
    if doubt := _listed_for_now(context):
        return not_checked(
            "members_missing", f"{current:.0f} members are listed, but {doubt}", source
        )
    return absent(
        "members_missing",
        f"The group has {current:.0f} members"
        + ("" if np.isnan(usual) else f", as before ({usual:.0f})")
        + (f"; its state is {state}." if state else "."),
        source,
        query,
    )


@once
def cut_off(context: Context) -> Check:
    """Answer whether members are missing although what they run in runs on."""
    kind, missing = "cut_off_while_running", _missing(context)
    if missing.outcome == "not_checked":
        return not_checked(kind, missing.reason, missing.source)
    if missing.outcome == "absent":
        return absent(kind, "No member is missing.", missing.source, missing.query)
    pods = ran_on(context)
    if pods.all is None:
        return not_checked(kind, pods.told, "kubernetes")
    gone = missing.findings[0]
    # members that were scaled away left no pod behind to look at
    if not pods.all or pods.pods < (gone.baseline or 0):
        return absent(kind, f"Of the consumer's {pods.told}.", pods.source, pods.query)
    return present(
        kind,
        Finding(
            kind,
            f"{gone.statement}, although {pods.told}",
            missing.source,
            ", ".join(query for query in (missing.query, pods.query) if query),
            onset=gone.onset,
            value=gone.value,
            baseline=gone.baseline,
            unit=gone.unit,
        ),
    )


def gone_together(context: Context) -> Check:
    """Answer ``sessions_lost_by_all`` by the member count, for where no member's log is known.

    Containers that ended or stand still take their members along; only of those that ran on and
    worked is it known that something else did.
    """
    kind, gap = "sessions_lost_by_all", context.gap("kubernetes", "logs")
    seen = _counts(context).dropna(subset=["member_count"]).sort_values("timestamp")
    before = seen.loc[seen["timestamp"] < context.onset_earliest]
    usual = float(before["member_count"].median()) if len(before) else 0.0
    if usual < SHARED_FROM or len(before) == len(seen):
        return not_checked(kind, gap, "kubernetes")
    # they may have gone between the last scrape before the onset and the first one after it
    after = seen.loc[seen["timestamp"] >= before["timestamp"].iloc[-1]]
    query = queries_of(seen)
    complete = after["timestamp"].where(after["member_count"] >= usual).ffill()
    took = after["timestamp"] - complete
    within = ALL_AT_ONCE + pd.Timedelta(context.flow.step_seconds, "s")
    emptied = after.loc[(after["member_count"] == 0) & (took <= within)]
    if emptied.empty:
        least = after["member_count"].min()
        told = (
            f"Of {usual:.0f} members {least:.0f} were left when the fewest were there."
            if least
            else f"All {usual:.0f} members went, but not at once."
        )
        return absent(kind, told, "prometheus", query)
    pods, still = ran_on(context), idle(context)
    if pods.all is None or still.outcome == "not_checked":
        return not_checked(kind, gap, "kubernetes")
    if still.outcome == "present":
        return absent(kind, f"{still.findings[0].statement}.", still.source, still.query)
    if not pods.all:
        return absent(kind, f"Of the consumer's {pods.told}.", pods.source, pods.query)
    first = emptied.index[0]
    finding = Finding(
        kind,
        f"all {usual:.0f} members were gone within {took[first].total_seconds():.0f} s, although "
        f"{pods.told}",
        "prometheus",
        ", ".join(found for found in (query, pods.query) if found),
        onset=complete[first],
        value=usual,
        baseline=usual,
        unit="members",
    )
    return present(kind, finding)


def _listed_for_now(context: Context) -> str:
    """Return why some of the members listed may be gone; "" if nothing speaks for it."""
    pods = context.incident.pods
    pods = pods.loc[(pods["role"] == "consumer") & pods["ready"].notna()]
    unready = int((~pods["ready"].astype(bool)).sum())
    seen = f"{unready} of {pods['pod'].nunique()} pods are not ready" if unready else ""
    if pods.empty:
        seen = unsteady(context)
    return f"{seen}: who was killed stays listed until its session times out." if seen else ""


def _wanted(context: Context) -> tuple[int, str]:
    """Return how many members there should be by now, and why: a pod each, a replica each.

    Replicas that were taken away around the onset count: the group had them when it was well.
    """
    if lost := scaled_down(context):
        return int(sum(f.baseline or 0 for f in lost)), "; ".join(f.statement for f in lost)
    pods = context.incident.pods
    ready = (pods["role"] == "consumer") & pods["ready"].fillna(False).astype(bool)
    count = int(pods.loc[ready, "pod"].nunique())
    workloads = context.incident.workloads
    own = workloads.loc[workloads["role"] == "consumer"].dropna(subset=["desired_replicas"])
    replicas = int(own.groupby(["namespace", "workload"])["desired_replicas"].last().sum())
    if replicas > count:
        return replicas, f"its workload wants {replicas}"
    return count, f"{count} pods are ready"


def _reads_now(context: Context) -> bool:
    rates = context.flow.group["consume_per_second"].dropna()
    return bool(len(rates) and rates.tail(4).mean() > 0)


@once
def churn(context: Context) -> Check:
    """Answer whether members come and go; pods that do take their members along."""
    seen = _seen_churn(context, _counts(context))
    if seen.outcome == "present":
        return seen
    pods = come_and_go(context)
    if pods.outcome != "present":
        return seen
    finding = pods.findings[0]
    told = replace(finding, id=seen.kind, statement=f"{finding.statement}: each leaves the group")
    return present(seen.kind, told)


def _seen_churn(context: Context, counts: pd.DataFrame) -> Check:
    log = _logged(context)
    if len(log) or (context.incident.commits["group"] == context.incident.group).any():
        return _logged_churn(context, log)
    looks = _looks(context)
    if looks is not None and counts.empty and context.consumer_logs.empty:
        return looks
    return _sampled_churn(context, counts)


def _logged_churn(context: Context, log: pd.DataFrame) -> Check:
    """Count rebalances in the group's own log: every one is there, with who came and went."""
    kind, query = "membership_churn", queries_of(log, context.incident.commits)
    recent = log.loc[log["timestamp"] >= context.onset_earliest]
    # partitions are handed out anew where members stay: not when the last one goes or a first comes
    steps = log.loc[log["event"].isin(["generation", "emptied", "epoch"])]
    stayed = steps["member_count"].shift().fillna(0) > 0
    kept = (steps["event"] == "epoch") | ((steps["event"] == "generation") & stayed)
    rounds = steps.loc[kept & (steps["timestamp"] >= context.onset_earliest)]
    rounds = rounds.drop_duplicates(["generation", "protocol"])
    joined, left = ((recent["event"] == event).sum() for event in ("joined", "left"))
    told = f"the group's own log has {len(rounds)} rebalances since the onset"
    who = f"{joined} members joined and {left} left"
    if len(rounds) < CHURN_CHANGES:
        return absent(kind, f"T{told[1:]}; {who}.", "kafka", query)
    timeouts = log["session_timeout_seconds"].dropna()
    return present(
        kind,
        Finding(
            kind,
            f"{told}: {who}"
            + (f"; session timeout {timeouts.iloc[-1]:g} s" if len(timeouts) else ""),
            "kafka",
            query,
            onset=rounds["timestamp"].iloc[0],
            value=float(len(rounds)),
            baseline=0.0,
            unit="rebalances",
        ),
    )


def _leave_at_once(context: Context) -> Check:
    """Answer whether members end themselves soon after they came: none of them was cut off."""
    kind = "members_leave_at_once"
    log, commits = _logged(context), context.incident.commits
    if log.empty and not (commits["group"] == context.incident.group).any():
        return not_checked(
            kind, "The group's own log was not read (read_offsets_topic), or is silent.", "kafka"
        )
    query = queries_of(log, commits)
    recent = log.loc[log["timestamp"] >= context.onset_earliest]
    came = recent.loc[recent["event"] == "joined", ["member_id", "timestamp"]]
    went = recent.loc[recent["event"] == "left", ["member_id", "client_id", "timestamp"]]
    stays = went.merge(came, on="member_id", suffixes=("", "_joined"))
    stays["seconds"] = (stays["timestamp"] - stays["timestamp_joined"]).dt.total_seconds()
    short = stays.loc[stays["seconds"].between(0, SHORTEST_SESSION_SECONDS, inclusive="left")]
    if len(short) < CHURN_CHANGES or len(short) < len(came) / 2:
        return absent(
            kind,
            f"{len(short)} of {len(came)} members that joined since the onset left again within "
            f"{SHORTEST_SESSION_SECONDS:g} s.",
            "kafka",
            query,
        )
    counts = log.dropna(subset=["member_count"]).sort_values("log_position")
    usual = counts.loc[counts["timestamp"] < context.onset_earliest, "member_count"].tail(1)
    since = counts.loc[counts["timestamp"] >= context.onset_earliest, "member_count"]
    if len(usual) and len(since) and since.min() >= usual.iloc[0]:
        return absent(
            kind,
            f"Members that joined left again {len(short)} times, beside the "
            f"{quantity(float(usual.iloc[0]))} that were there before and stayed.",
            "kafka",
            query,
        )
    return present(
        kind,
        Finding(
            kind,
            f"{len(short)} of {len(came)} times a member that joined left again of its own, after "
            f"{quantity(float(short['seconds'].median()))} s; "
            f"{short['client_id'].nunique()} clients did so",
            "kafka",
            query,
            onset=short["timestamp_joined"].min(),
            value=float(len(short)),
            baseline=0.0,
            unit="departures",
        ),
    )


def _looks(context: Context) -> Check | None:
    """Answer by several looks at the coordinator; None if they span too little."""
    kind = "membership_churn"
    own = context.incident.group_state
    own = own.loc[own["group"] == context.incident.group].sort_values("timestamp")
    seconds = (own["timestamp"].max() - own["timestamp"].min()).total_seconds() if len(own) else 0
    if len(own) < CHURN_CHANGES or seconds < LOOKS_SECONDS:
        return None
    unstable = int(own["state"].isin(REBALANCING).sum())
    counts = own["member_count"].astype("float64").dropna()
    changes = int((counts.diff().fillna(0) != 0).sum())
    moved = context.incident.facts.get("kafka", {}).get("members_changed", "")
    told = (
        f"in {len(own)} looks over {seconds:.0f} s the group was rebalancing {unstable} times and "
        f"its number of members changed {changes} times" + (f"; {moved}" if moved else "")
    )
    query = queries_of(own)
    if unstable < CHURN_CHANGES and changes < CHURN_CHANGES:
        if unstable or changes or moved:
            return not_checked(kind, f"I{told[1:]}: too little to tell a storm.", "kafka")
        return absent(kind, f"I{told[1:]}.", "kafka", query)
    return present(
        kind,
        Finding(
            kind, told, "kafka", query,
            onset=context.onset_at,
            value=float(max(unstable, changes)),
            baseline=0.0,
            unit="looks",
        ),
    )  # fmt: skip


def _found(context: Context) -> pd.Series[pd.Timestamp]:
    """Return the moments at which lagkit itself found the group rebalancing."""
    own = context.incident.group_state
    mine = (own["group"] == context.incident.group) & own["state"].isin(REBALANCING)
    return own.loc[mine, "timestamp"]


def _sampled_churn(context: Context, counts: pd.DataFrame) -> Check:
    since = context.onset_earliest
    recent = counts.loc[counts["timestamp"] >= since]
    steps = recent["member_count"].dropna().diff().fillna(0)
    changes = int((steps != 0).sum())
    states = recent["state"].dropna()
    unstable = states.isin(REBALANCING)
    lines = context.consumer_logs
    lines = lines.loc[lines["timestamp"] >= since]
    words = lines.loc[lines["message"].str.contains(_REBALANCE_WORDS, regex=True)]
    logged = bursts(words["timestamp"])
    sampled = recent.loc[states.index[unstable], "timestamp"]
    # one source misses what the other saw: scrapes are seldom, and a pod's log goes with the pod
    apart = max(BURST, pd.Timedelta(context.flow.step_seconds, "s"))
    moved = recent.loc[steps.index[steps != 0], "timestamp"]
    found = _found(context)
    separate = bursts(pd.concat([words["timestamp"], sampled, moved, found]), apart)
    counted = bool(recent["member_count"].notna().any())
    if not counted and states.empty and lines.empty:
        # one look at the coordinator shows no coming and going
        return not_checked("membership_churn", context.gap("prometheus", "members"))
    query = queries_of(recent, words)
    told = ", ".join(
        [f"the number of members changed {changes} times"] * counted
        + [f"{int(unstable.sum())} samples found the group rebalancing"] * (not states.empty)
        + [f"the members logged rebalances at {logged} separate times"] * (not lines.empty)
        + ["lagkit found it rebalancing"] * (not found.empty)
    )
    if (
        changes >= CHURN_CHANGES
        or int(unstable.sum()) >= CHURN_CHANGES
        or logged >= CHURN_CHANGES
        or separate >= CHURN_CHANGES
    ):
        starts = [*moved, *words["timestamp"].tolist(), *sampled.tolist()]
        return present(
            "membership_churn",
            Finding(
                "membership_churn",
                f"since the onset {told}",
                "prometheus" if changes or unstable.any() else "kubernetes",
                query,
                onset=min(starts) if starts else None,
                value=float(max(changes, logged, separate)),
                baseline=0.0,
                unit="changes",
                quote=str(words["message"].iloc[-1])[:300] if len(words) else "",
            ),
        )
    return absent("membership_churn", f"Since the onset {told}.", "prometheus", query)


def _slower_though_complete(context: Context, missing: Check, churn: Check) -> Check:
    kind = "slower_with_all_members"
    if context.seen_only_now:
        return _slower_now(context, missing, churn)
    lagging = context.flow.lagging
    shares = context.flow.shares if lagging is None else lagging.shares
    where = "" if lagging is None else on_places(lagging.places, len(context.flow.status))
    if context.flow.onset is None and context.flow.state != "unknown":
        return absent(kind, "The group has not fallen behind in the window.", "prometheus")
    if shares is None or np.isnan(shares.consume_baseline) or np.isnan(shares.consume_now):
        return not_checked(kind, "There is no reading rate before the onset to compare with.")
    for check in (missing, churn):
        if check.outcome == "not_checked":
            return not_checked(kind, check.reason, check.source)
    if shares.consume_now > SLOWED_RATIO * shares.consume_baseline:
        why = (
            f"The group reads{where} {quantity(shares.consume_now)}/s, before "
            f"{quantity(shares.consume_baseline)}/s."
        )
        return absent(kind, why, missing.source, missing.query)
    if shares.consume_now < 0:
        return absent(kind, "Offsets went back.", context.history_source, context.history_query)
    if why := _incomplete(context, missing, churn):
        return absent(kind, why, missing.source, missing.query)
    if _stands_still(context, shares.consume_baseline):
        return _slower_by_its_work(context, kind, where)
    return present(
        kind,
        Finding(
            kind,
            f"all members are there, yet the group reads{where} "
            f"{quantity(shares.consume_now)}/s instead of {quantity(shares.consume_baseline)}/s",
            missing.source,
            missing.query,
            onset=context.onset_at,
            value=shares.consume_now,
            baseline=shares.consume_baseline,
            unit="messages/s",
        ),
    )


def _stands_still(context: Context, usual: float) -> bool:
    """Tell whether nothing is committed any more of what is behind."""
    flow = context.flow.group if context.flow.lagging is None else context.flow.lagging.group
    last = flow["consume_per_second"].dropna().tail(STILL_SAMPLES)
    return len(last) > 0 and bool((last <= STOPPED_RATIO * usual).all())


def _slower_by_its_work(context: Context, kind: str, where: str) -> Check:
    """Answer for a group that commits nothing: only what it does can tell whether it is slow."""
    if where:
        why = f"It is not read slower: the group reads{where} nothing at all."
        return absent(kind, why, context.history_source, context.history_query)
    share = work_share(context)
    if share is None:
        return not_checked(
            kind, "The group commits nothing, and nothing counts what it handles.", "downstream"
        )
    told = f"the group commits nothing, and its downstream gets {share:.0%} of the jobs of before"
    if share <= STOPPED_RATIO:
        return absent(kind, f"T{told[1:]}: it does not work slower, it has stopped.", "downstream")
    return present(
        kind,
        Finding(
            kind,
            f"all members are there, yet {told}",
            "downstream",
            queries_of(context.incident.jobs),
            onset=context.onset_at,
            value=share,
            baseline=1.0,
            unit="of the jobs before",
        ),
    )


def _incomplete(context: Context, missing: Check, churn: Check) -> str:
    """Return why it is not that all members are there and read less, "" when it is."""
    if missing.outcome == "present":
        return "Members are missing."
    if churn.outcome == "present":
        return "Members come and go."
    if work_goes_on(context).outcome == "present":
        return "They handle as many records as before, and commit fewer."
    if scaled_down(context):
        return "There are fewer replicas than before."
    fewer = fewer_running(context)
    if fewer is not None and fewer.outcome == "present":
        return f"{fewer.findings[0].statement.capitalize()}."
    if idle(context).outcome == "present":
        return "A container of the consumer runs and does nothing."
    logs = context.consumer_logs
    recent = logs.loc[logs["timestamp"] >= context.onset_earliest, "message"]
    if says(recent, "authentication").any():
        return "The brokers refuse members a login or a right."
    return "The group refuses members." if says(recent, "protocol").any() else ""


def _slower_now(context: Context, missing: Check, churn: Check) -> Check:
    """Answer from snapshots: slower than it must have been, with everybody there and staying."""
    kind = "slower_with_all_members"
    slowed = next(c for c in demand_and_supply_now(context) if c.kind == "consumption_slowed")
    for check in (slowed, missing, churn):
        if check.outcome == "not_checked":
            return not_checked(kind, check.reason, check.source)
    if slowed.outcome == "absent":
        return absent(kind, slowed.reason, slowed.source, slowed.query)
    if why := _incomplete(context, missing, churn):
        return absent(kind, why, missing.source, missing.query)
    seen = slowed.findings[0]
    return present(
        kind,
        Finding(
            kind,
            f"all members are there, yet {seen.statement}",
            "kafka",
            slowed.query,
            onset=context.onset_at,
            value=seen.value,
            baseline=seen.baseline,
            unit=seen.unit,
        ),
    )


def _spare(context: Context) -> Check:
    owners = context.owners
    own = context.incident.members
    own = own.loc[own["group"] == context.incident.group]
    if own.empty or owners.empty:
        return not_checked("no_spare_partition", context.gap("kafka", "members"), "kafka")
    held = own.dropna(subset=["partition"]).groupby("member_id").size()
    everyone = own["member_id"].nunique()
    partitions = len(owners)
    query = queries_of(own)
    if everyone >= partitions or (len(held) == everyone and (held == 1).all() and everyone > 1):
        return present(
            "no_spare_partition",
            Finding(
                "no_spare_partition",
                f"{everyone} members share {partitions} partitions: one more would get nothing",
                "kafka",
                query,
                value=float(everyone),
                baseline=float(partitions),
                unit="members",
            ),
        )
    return absent(
        "no_spare_partition",
        f"{everyone} members share {partitions} partitions: there is room.",
        "kafka",
        query,
    )

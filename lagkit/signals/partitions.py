"""What groups the lagging partitions, and offsets that tell their own story."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lagkit.frames import WHOLE_TOPIC
from lagkit.measurement import BEHIND_SHARE
from lagkit.model import Check, Finding, SourceName
from lagkit.signals import Context, absent, not_checked, present, quantity, queries_of
from lagkit.signals.membership import churn
from lagkit.signals.pod_metrics import unsteady
from lagkit.signals.pods import ended_badly
from lagkit.signals.snapshots import own_partitions, partition_frozen_now, production_skewed_now
from lagkit.signals.thresholds import FROZEN_SHARE, SKEW_FAIR_SHARES

FROZEN = ("STALL", "STOP", "STALL_OR_STOP")
OTHERS_BEHIND = 2
"""Partitions that advance and fall behind beside one that is stuck: a record holds its own, and at
most slows those of its member."""
FEWEST_LED = 2
"""Partitions that one broker's lead explains: a single one may have a reason of its own."""
STANDING_TIMES = 6
"""Longest pauses of a partition, one scrape at least, after which it pauses no longer."""
KILLED = 137
"""Exit code of SIGKILL. A record that cannot be handled ends its worker with an error instead."""
JUMP_MESSAGES = 1000.0
"""A committed offset that jumps over at least this many unread messages to the end was moved ..."""
JUMP_RATIO = 20.0
"""... if the group never read this share of it as quickly: else it just caught up."""


_KINDS = ("partition_frozen", "one_member_behind", "one_leader_behind", "production_skewed")


def shape(context: Context) -> Iterator[Check]:
    """Answer whether one partition, one member or one hot key stands out."""
    status = context.flow.status
    if status.empty:
        reason = context.gap("prometheus", "offsets")
        for kind in _KINDS:
            yield not_checked(kind, reason)
        return
    if (status["partition"] == WHOLE_TOPIC).all():
        # topics are no partitions: one that stands still is a stopped group, not a stuck record
        reason = context.gap("prometheus", "single partitions")
        for kind in _KINDS:
            yield not_checked(kind, reason)
        return
    yield _one_member(context, status)
    yield _one_leader(context, status)
    if context.seen_only_now:
        # Seconds apart every partition seems to stand still: only the age of its next record tells.
        yield _unless_killed(context, partition_frozen_now(context))
        yield production_skewed_now(context)
        return
    yield _unless_killed(context, _frozen(context, status))
    yield _skew(context)


def _unless_killed(context: Context, frozen: Check) -> Check:
    """Take back that a record holds its partition where members are killed: they hold theirs."""
    pods = context.incident.pods
    pods = pods.loc[pods["role"] == "consumer"]
    killed = pods.loc[ended_badly(context, pods) & (pods["last_exit_code"] == KILLED)]
    if frozen.outcome != "present" or killed.empty:
        return frozen
    return not_checked(
        frozen.kind,
        f"{frozen.findings[0].statement}; but containers are killed (exit code {KILLED}), and what "
        "such a member has stands still with it.",
        "kubernetes",
    )


def _frozen(context: Context, status: pd.DataFrame) -> Check:
    source, query = context.history_source, context.history_query
    stuck = status.loc[status["status"].isin(FROZEN) & (status["lag_messages"] > 0)]
    if stuck.empty:
        stuck = _standing(context, status)
    total = len(status)
    if total < 2:
        return not_checked(
            "partition_frozen",
            "The topic has one partition: a stuck record and a stopped group look alike.",
        )
    # an idle partition would stand still in any case
    known = ~status["status"].isin((*FROZEN, "NO_COMMIT", "IDLE", "UNKNOWN"))
    moving = status.loc[known].drop(stuck.index, errors="ignore")
    if stuck.empty or moving.empty or len(stuck) > max(1, int(total * FROZEN_SHARE)):
        if len(stuck) and len(moving) and (dying := unsteady(context)):
            return not_checked(
                "partition_frozen",
                f"{len(stuck)} of {total} partitions stand still, but {dying}: what a dying member "
                "has stands still with the record it may die of.",
                source,
            )
        told = (
            "No partition is stuck."
            if stuck.empty
            else f"{len(stuck)} of {total} partitions stand still, not one alone."
        )
        return absent("partition_frozen", told, source, query)
    behind = moving.loc[moving["status"] == "SLOW"]
    if len(behind) >= OTHERS_BEHIND:
        return not_checked(
            "partition_frozen",
            f"{len(stuck)} of {total} partitions stand still, and {len(behind)} others fall behind "
            "as well: what slows those may have stopped it.",
            source,
        )
    return present(
        "partition_frozen",
        *(
            Finding(
                f"partition_frozen:{row.topic}/{row.partition}",
                f"{row.topic}[{row.partition}] has stood at offset {row.committed_offset:.0f} "
                + (f"since {row.frozen_since:%H:%M:%S}Z " if pd.notna(row.frozen_since) else "")
                + f"with {quantity(row.lag_messages)} unread, while {len(moving)} other "
                "partitions advance",
                source,
                query,
                onset=row.frozen_since if pd.notna(row.frozen_since) else None,
                value=float(row.committed_offset),
                unit="offset",
            )
            for row in stuck.itertuples()
        ),
    )


def _standing(context: Context, status: pd.DataFrame) -> pd.DataFrame:
    """Return what stands still since less than the minute that makes it stopped, and never did so.

    A partition is its own measure: it has stood for many times as long as it ever did before the
    onset, while everything else went on.
    """
    none, step = status.iloc[0:0], pd.Timedelta(context.flow.step_seconds, "s")
    stood = status["last_progress"].max() - status["last_progress"]
    stands = (stood >= STANDING_TIMES * step) & (status["lag_messages"] > 0)
    going = stood.loc[~stands & (status["status"] != "IDLE")]
    if context.flow.onset is None or not stands.any() or (going >= STANDING_TIMES * step / 2).any():
        return none
    if churn(context).outcome == "present":
        return none  # between two owners a partition stands still, too
    found = status.loc[stands].assign(frozen_since=status["last_progress"])
    places = ["topic", "partition"]
    before = context.flow.rates.loc[lambda table: table["timestamp"] < context.onset_earliest]
    before = before.merge(found[places], on=places).sort_values("timestamp")
    still = before["consume_per_second"].eq(0.0)
    by_place = still.groupby([before[name] for name in places])
    counted = by_place.cumsum()
    # samples since the last one that was read: a running count less what it was then
    reset = counted.where(~still).groupby([before[name] for name in places]).ffill().fillna(0)
    longest = (counted - reset).groupby([before[name] for name in places]).max()
    usual = longest.reindex(pd.MultiIndex.from_frame(found[places])).clip(lower=1).to_numpy()
    # one that was never seen before the onset has no pauses to compare with
    return found.loc[(stood[stands] / step).to_numpy() >= STANDING_TIMES * usual]


def _one_member(context: Context, status: pd.DataFrame) -> Check:
    owners = context.owners.dropna(subset=["member_id"]) if len(context.owners) else context.owners
    if owners.empty:
        return not_checked("one_member_behind", context.gap("kafka", "members"), "kafka")
    query = queries_of(context.incident.members)
    if owners["member_id"].nunique() < 2:
        return not_checked("one_member_behind", "The group has a single member.", "kafka")
    lagging = _lagging(status).merge(owners, on=["topic", "partition"], how="left")
    members = lagging["member_id"].dropna().unique()
    held = owners.loc[owners["member_id"].isin(members)]
    if len(members) == 1 and len(lagging) >= 2 and len(lagging) >= 0.75 * len(held):
        row = lagging.iloc[0]
        who = f"pod {row.pod}" if isinstance(row.pod, str) else f"client {row.client_id}"
        return present(
            "one_member_behind",
            Finding(
                "one_member_behind",
                f"all {len(lagging)} partitions that are behind belong to {who}",
                "kafka",
                query,
                value=float(len(lagging)),
                unit="partitions",
            ),
        )
    return absent(
        "one_member_behind",
        f"{len(lagging)} partitions of {len(members)} members are behind.",
        "kafka",
        query,
    )


def _lagging(status: pd.DataFrame) -> pd.DataFrame:
    """Return the partitions that are behind: those with much of the lag of the one with most."""
    most = status["lag_messages"].max()
    behind = (status["lag_messages"] >= BEHIND_SHARE * most) & (status["lag_messages"] > 0)
    return status.loc[behind]


def _one_leader(context: Context, status: pd.DataFrame) -> Check:
    """Check whether the broker that leads a partition decides if it is behind, and no member does.

    A member that reads two partitions and falls behind on one of them has a way to each leader.
    """
    kind, known = "one_leader_behind", context.incident.partitions
    led = known.dropna(subset=["leader"])[["topic", "partition", "leader"]]
    led = led.drop_duplicates(["topic", "partition"], keep="last")
    query = queries_of(known)
    placed = status.merge(led, on=["topic", "partition"])
    if placed.empty:
        return not_checked(kind, context.gap("kafka", "leaders"), "kafka")
    if placed["leader"].nunique() < 2:
        return not_checked(kind, "One broker leads every partition.", "kafka")
    lagging = _lagging(placed)
    leaders = lagging["leader"].unique()
    told = f"{len(lagging)} partitions of {len(leaders)} leaders are behind."
    if len(leaders) != 1 or len(lagging) < FEWEST_LED:
        return absent(kind, told, "kafka", query)
    all_led = int((placed["leader"] == leaders[0]).sum())
    if len(lagging) < all_led:
        return absent(kind, f"{told} It leads {all_led} in all.", "kafka", query)
    owners = context.owners
    if owners.empty or owners["member_id"].isna().all():
        return not_checked(kind, context.gap("kafka", "members"), "kafka")
    who = placed.merge(owners, on=["topic", "partition"], how="left").dropna(subset=["member_id"])
    behind = who["leader"] == leaders[0]
    if not set(who.loc[behind, "member_id"]) & set(who.loc[~behind, "member_id"]):
        told = f"{told} Their members read no others."
        return absent(kind, told, "kafka", query)
    return present(
        kind,
        Finding(
            kind,
            f"the {len(lagging)} partitions that are behind are those that broker {leaders[0]} "
            "leads; of others their members are not behind",
            "kafka",
            query,
            value=float(len(lagging)),
            baseline=float(len(placed)),
            unit="partitions",
        ),
    )


def _skew(context: Context) -> Check:
    rates, onset = context.flow.rates, context.onset_at
    source, query = context.history_source, context.history_query
    made = (
        rates.loc[rates["timestamp"] >= onset]
        .groupby(["topic", "partition"])["produce_per_second"]
        .mean()
        .dropna()
    )
    if len(made) < 3 or not made.sum() > 0:
        return not_checked(
            "production_skewed", "Too few partitions with a known production rate to compare."
        )
    share = made / made.sum()
    hot = share.loc[share >= SKEW_FAIR_SHARES / len(share)]
    if hot.empty:
        return absent(
            "production_skewed",
            f"The busiest partition takes {share.max():.0%} of production; "
            f"{1 / len(share):.0%} would be even.",
            source,
            query,
        )
    topic, partition = hot.idxmax()
    return present(
        "production_skewed",
        Finding(
            f"production_skewed:{topic}/{partition}",
            f"{topic}[{partition}] takes {hot.max():.0%} of production; {1 / len(share):.0%} "
            "would be even",
            source,
            query,
            onset=onset,
            value=float(hot.max()),
            baseline=1 / len(share),
            unit="share",
        ),
    )


def offset_anomalies(context: Context) -> Iterator[Check]:
    """Answer whether offsets were moved, deleted unread, or pinned by a transaction."""
    yield _moved(context)
    yield _deleted(context)
    yield _pinned(context)


def _moved(context: Context) -> Check:
    cleaned = context.flow.cleaned
    source, query = context.history_source, context.history_query
    if cleaned.empty or context.seen_only_now:
        return not_checked("committed_moved", context.gap("prometheus", "offsets"))
    by = cleaned.groupby(["topic", "partition"], sort=False)
    before = by["committed_offset"].shift()
    end_before = by["log_end_offset"].shift()
    unread = end_before - before
    landed = (
        (unread >= JUMP_MESSAGES)
        & (cleaned["committed_offset"] >= end_before)
        & (cleaned["committed_offset"] >= 0.99 * cleaned["log_end_offset"])
    )
    advance = cleaned["committed_offset"] - before
    usual = advance.where(~landed).max()
    jumped = landed & (advance >= JUMP_RATIO * usual)
    moves = cleaned.assign(before=before).loc[cleaned["rewound"] | jumped]
    if moves.empty:
        return absent(
            "committed_moved", "Committed offsets only moved forward, as read.", source, query
        )
    return present(
        "committed_moved",
        *(
            Finding(
                f"committed_moved:{row.topic}/{row.partition}",
                f"the committed offset of {_place(row.topic, row.partition)} went from "
                f"{row.before:.0f} to {row.committed_offset:.0f} at {row.timestamp:%H:%M:%S}Z",
                source,
                query,
                onset=row.timestamp,
                value=float(row.committed_offset),
                baseline=float(row.before),
                unit="offset",
            )
            for row in moves.drop_duplicates(["topic", "partition"]).itertuples()
        ),
    )


def _place(topic: str, partition: int) -> str:
    return topic if partition == WHOLE_TOPIC else f"{topic}[{partition}]"


def _deleted(context: Context) -> Check:
    cleaned, own = context.flow.cleaned, own_partitions(context)
    known = bool(len(cleaned) and cleaned["log_start_offset"].notna().any())
    if not known and own.empty:
        return not_checked(
            "records_deleted_unread",
            "The start of the log was not readable: not exported, and Kafka was not asked.",
        )
    query = queries_of(context.incident.offsets, own)
    source: SourceName = "kafka" if len(own) else "prometheus"
    deleted = context.flow.deleted
    if not deleted.messages:
        return absent(
            "records_deleted_unread", "Every committed offset is still in the log.", source, query
        )
    return present(
        "records_deleted_unread",
        Finding(
            "records_deleted_unread",
            f"{quantity(deleted.messages)} offsets of {deleted.partitions} partitions were "
            "deleted before the group read them",
            source,
            query,
            value=deleted.messages,
            baseline=0.0,
            unit="offsets",
        ),
    )


def _pinned(context: Context) -> Check:
    own = own_partitions(context)
    own = own.dropna(subset=["last_stable_offset", "log_end_offset"])
    if own.empty or own["timestamp"].nunique() < 2:
        return not_checked(
            "last_stable_offset_pinned", context.gap("kafka", "last stable offset"), "kafka"
        )
    query = queries_of(own)
    spans = own.groupby(["topic", "partition"]).agg(
        stable_first=("last_stable_offset", "first"),
        stable=("last_stable_offset", "last"),
        end=("log_end_offset", "last"),
        committed=("committed_offset", "last"),
    )
    pinned = spans.loc[
        (spans["stable"] < spans["end"])
        & (spans["stable"] == spans["stable_first"])
        & (spans["committed"] >= spans["stable"])
    ]
    if pinned.empty:
        return absent(
            "last_stable_offset_pinned",
            "The last stable offset keeps up with the end of every partition.",
            "kafka",
            query,
        )
    topic, partition = pinned.index[0]
    row = pinned.iloc[0]
    return present(
        "last_stable_offset_pinned",
        Finding(
            f"last_stable_offset_pinned:{topic}/{partition}",
            f"the last stable offset of {topic}[{partition}] stands at {row.stable:.0f} where the "
            f"group waits, {quantity(row.end - row.stable)} records before the end",
            "kafka",
            query,
            value=float(row.stable),
            baseline=float(row.end),
            unit="offset",
        ),
    )

"""What a few snapshots and the past log ends tell when no committed offset of the past is known.

Two facts carry it. A group cannot have committed more than had been written, so what it has read
since then bounds from below how fast it read. And the age of the record it reads next says since
when it is behind. No committed offset is assumed at any time at which none was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from lagkit.model import Check, Finding
from lagkit.signals import Context, absent, not_checked, present, quantity, queries_of
from lagkit.signals.thresholds import (
    FASTER_RATIO,
    FROZEN_SHARE,
    MAJOR_SHARE,
    SHORTEST_STOP_SECONDS,
    SKEW_FAIR_SHARES,
    SLOWED_RATIO,
    SPIKE_RATIO,
)

FEWEST_MOMENTS = 4
"""Rates of production needed on each side of a comparison, and half of it before an onset."""
STUCK_SECONDS = 60.0
"""Age of its next record from which a partition that does not move is stuck, not between two."""
STUCK_RATIO = 4.0
"""And this many times the usual age of the partitions that move: a slow reader ages them alike."""
_PLACE = ["topic", "partition"]


@dataclass(frozen=True)
class Watched:
    """What the snapshots of the group saw; messages and seconds, summed over partitions."""

    seconds: float
    read: float
    made: float
    unread: float
    committed: float
    """Sum of committed offsets in the first snapshot."""
    query: str

    @property
    def read_per_second(self) -> float:
        """Return how fast the group reads now."""
        return self.read / self.seconds if self.seconds > 0 else float("nan")


def own_partitions(context: Context) -> pd.DataFrame:
    """Return the group's own rows of the broker's snapshots."""
    table = context.incident.partitions
    return table.loc[table["group"] == context.incident.group]


def watched(context: Context) -> Watched | None:
    """Return what the snapshots saw; None with fewer than two."""
    own = own_partitions(context)
    if own["timestamp"].nunique() < 2:
        return None
    known = own.dropna(subset=["committed_offset", "log_end_offset"])
    spans = known.groupby(_PLACE)[["committed_offset", "log_end_offset"]].agg(["first", "last"])
    committed, end = spans["committed_offset"], spans["log_end_offset"]
    return Watched(
        seconds=(own["timestamp"].max() - own["timestamp"].min()).total_seconds(),
        read=float((committed["last"] - committed["first"]).sum()),
        made=float((end["last"] - end["first"]).sum()),
        unread=float((end["last"] - committed["last"]).sum()),
        committed=float(committed["first"].sum()),
        query=queries_of(own),
    )


def produced(context: Context) -> pd.DataFrame:
    """Return production over time: columns timestamp (end of each step), log_end, per_second.

    Over the partitions the group has commits on, at the moments at which all of them are known.
    """
    own = own_partitions(context)
    places = own.loc[own["committed_offset"].notna(), _PLACE].drop_duplicates()
    past = context.incident.log_end_history.merge(places, on=_PLACE)
    totals = past.groupby("timestamp")["log_end_offset"].agg(["sum", "size"])
    whole = totals.loc[totals["size"] == len(places), "sum"].rename("log_end").reset_index()
    seconds = whole["timestamp"].diff().dt.total_seconds()
    whole["per_second"] = whole["log_end"].diff() / seconds
    return whole


def usual_production(context: Context, made: pd.DataFrame) -> float:
    """Return the median production before the backlog, per second; NaN if too little is known."""
    before = made.loc[made["timestamp"] <= context.onset_earliest, "per_second"].dropna()
    return float(before.median()) if len(before) >= FEWEST_MOMENTS / 2 else float("nan")


def read_at_least(seen: Watched, made: pd.DataFrame, context: Context) -> float:
    """Return a lower bound of the mean rate at which the group read in the window, per second.

    At the first known moment it had committed at most the log end. NaN or below 0: no bound.
    """
    if made.empty:
        return float("nan")
    began = made.iloc[0]
    seconds = (own_partitions(context)["timestamp"].min() - began["timestamp"]).total_seconds()
    return float((seen.committed - began["log_end"]) / seconds) if seconds > 0 else float("nan")


def demand_and_supply_now(context: Context) -> Iterator[Check]:
    """Answer whether production rose and whether reading rose, fell or stopped."""
    seen, made = watched(context), produced(context)
    query = queries_of(own_partitions(context), context.incident.log_end_history)
    told = seen is not None and len(made.dropna()) >= FEWEST_MOMENTS
    if seen is None or not told or context.flow.cleaned["committed_offset"].isna().all():
        reason = context.gap("prometheus", "offsets")
        for kind in ("production_spike", "consumption_at_capacity", "consumption_slowed"):
            yield not_checked(kind, reason)
    elif context.flow.onset is None:
        reason = (
            f"The group is not behind: {quantity(seen.unread)} unread, "
            f"{quantity(seen.read_per_second)}/s read, {quantity(seen.made / seen.seconds)}/s "
            "produced."
        )
        for kind in ("production_spike", "consumption_at_capacity", "consumption_slowed"):
            yield absent(kind, reason, "kafka", query)
    else:
        usual = usual_production(context, made)
        yield _spike(context, seen, made, usual, query)
        yield _capacity(seen, usual, query)
        yield _slowed(seen, made, read_at_least(seen, made, context), query)
    yield _stopped(context, seen)


def _spike(context: Context, seen: Watched, made: pd.DataFrame, usual: float, query: str) -> Check:
    kind = "production_spike"
    if not usual > 0:
        return not_checked(
            kind,
            "The backlog is as old as the window or older, so there is no production before it to "
            "compare with. Ask for a longer one with --since.",
            "kafka",
        )
    after = made.loc[made["timestamp"] > context.onset_earliest].dropna()
    last = made["timestamp"].max()
    now = own_partitions(context)["timestamp"].max()
    grown = after["log_end"].iloc[-1] - after["log_end"].iloc[0] if len(after) else 0.0
    span = (last - after["timestamp"].iloc[0]).total_seconds() if len(after) else 0.0
    steps = [*after["per_second"], seen.made / seen.seconds]
    peak = max(steps)
    extra = (
        grown
        - usual * span
        + max(0.0, (now - last).total_seconds()) * (seen.made / seen.seconds - usual)
    )
    if len(after):
        first = after.iloc[0]
        length = (first["timestamp"] - context.onset_earliest).total_seconds()
        extra += (first["per_second"] - usual) * length
    share = extra / seen.unread if seen.unread > 0 else float("nan")
    if peak >= SPIKE_RATIO * usual and share >= MAJOR_SHARE:
        rising = after.loc[after["per_second"] >= (usual + peak) / 2, "timestamp"]
        return present(
            kind,
            Finding(
                kind,
                f"production rose from {quantity(usual)}/s to {quantity(peak)}/s: "
                f"{min(share, 1.0):.0%} of the backlog",
                "kafka",
                query,
                onset=rising.iloc[0] if len(rising) else context.onset_earliest,
                value=peak,
                baseline=usual,
                unit="messages/s",
            ),
        )
    return absent(
        kind,
        f"Production: {quantity(usual)}/s before the backlog, at most {quantity(peak)}/s since; it "
        f"explains {min(max(0.0, share), 1.0):.0%} of the backlog.",
        "kafka",
        query,
    )


def _capacity(seen: Watched, usual: float, query: str) -> Check:
    kind, now = "consumption_at_capacity", seen.read_per_second
    if not usual > 0:
        return not_checked(kind, "There is no rate before the backlog to compare with.", "kafka")
    if now >= FASTER_RATIO * usual:
        return present(
            kind,
            Finding(
                kind,
                f"the group reads {quantity(now)}/s, {now / usual:.1f} times what was usually "
                f"produced ({quantity(usual)}/s), and is still behind",
                "kafka",
                query,
                value=now,
                baseline=usual,
                unit="messages/s",
            ),
        )
    return absent(
        kind,
        f"The group reads {quantity(now)}/s; {quantity(usual)}/s were produced before the backlog.",
        "kafka",
        query,
    )


def _slowed(seen: Watched, made: pd.DataFrame, bound: float, query: str) -> Check:
    kind, now = "consumption_slowed", seen.read_per_second
    produced_now = seen.made / seen.seconds
    if seen.read == 0:
        return absent(kind, "It does not read slower: it stands still.", "kafka", query)
    if bound > 0 and now <= SLOWED_RATIO * bound:
        return present(
            kind,
            Finding(
                kind,
                f"the group reads {quantity(now)}/s; over the window it read "
                f"{quantity(bound)}/s on average or more; {quantity(produced_now)}/s are produced",
                "kafka",
                query,
                value=now,
                baseline=bound,
                unit="messages/s",
            ),
        )
    usual = float(made["per_second"].median())
    if now >= min(produced_now, usual):
        return absent(
            kind,
            f"The group reads {quantity(now)}/s; {quantity(produced_now)}/s are produced, "
            f"{quantity(usual)}/s usually.",
            "kafka",
            query,
        )
    return not_checked(
        kind,
        f"The group reads {quantity(now)}/s; how fast it read before its backlog began is not "
        "known without a history of its commits. Ask for a longer window with --since.",
        "kafka",
    )


def _stopped(context: Context, seen: Watched | None) -> Check:
    kind = "consumption_stopped"
    own = own_partitions(context)
    if seen is None:
        return not_checked(kind, context.gap("kafka", "offsets"), "kafka")
    if own["committed_offset"].isna().all():
        return not_checked(kind, "The group has never committed an offset.", "kafka")
    onset = context.flow.onset
    stands = seen.read == 0 and seen.unread > 0
    if stands and seen.seconds < SHORTEST_STOP_SECONDS:
        return not_checked(
            kind,
            f"Nothing was committed in {seen.seconds:.0f} s, which is less than two commit "
            "intervals.",
            "kafka",
        )
    if stands and (seen.made > 0 or onset is not None):
        since = (
            f"; the next record has waited since {onset.at:%H:%M:%S}Z" if onset is not None else ""
        )
        return present(
            kind,
            Finding(
                kind,
                f"in {seen.seconds:.0f} s no committed offset moved while {quantity(seen.made)} "
                f"messages were written; {quantity(seen.unread)} are unread{since}",
                "kafka",
                seen.query,
                onset=onset.at if onset is not None else None,
                value=0.0,
                unit="messages/s",
            ),
        )
    return absent(
        kind,
        f"In {seen.seconds:.0f} s the group committed {quantity(seen.read)} messages and "
        f"{quantity(seen.made)} were written.",
        "kafka",
        seen.query,
    )


def partition_frozen_now(context: Context) -> Check:
    """Answer whether one partition stands still at an old record while others move."""
    kind = "partition_frozen"
    own, ages = own_partitions(context), context.incident.oldest_unread
    ages = ages.loc[ages["group"] == context.incident.group].dropna(subset=["time_lag_seconds"])
    seen = watched(context)
    if seen is None or seen.seconds < SHORTEST_STOP_SECONDS or ages.empty:
        return not_checked(kind, context.gap("prometheus", "offsets"))
    spans = own.groupby(_PLACE).agg(
        first=("committed_offset", "first"),
        last=("committed_offset", "last"),
        end=("log_end_offset", "last"),
    )
    joined = ages.set_index(_PLACE).join(spans, how="inner")
    if len(joined) < 2:
        return not_checked(
            kind,
            "The topic has one partition: a stuck record and a stopped group look alike.",
            "kafka",
        )
    moving = joined.loc[joined["last"] > joined["first"]]
    held = (joined["last"] == joined["first"]) & (joined["end"] - joined["last"] > 1)
    usual = float(moving["time_lag_seconds"].median()) if len(moving) else float("nan")
    stuck = joined.loc[
        held & (joined["time_lag_seconds"] >= max(STUCK_SECONDS, STUCK_RATIO * usual))
    ]
    query = queries_of(own, ages)
    if stuck.empty or moving.empty or len(stuck) > max(1, int(len(joined) * FROZEN_SHARE)):
        told = (
            f"No partition stands at an old record while others move; {len(moving)} of "
            f"{len(joined)} moved in {seen.seconds:.0f} s."
            if stuck.empty or moving.empty
            else f"{len(stuck)} of {len(joined)} partitions stand still, not one alone."
        )
        return absent(kind, told, "kafka", query)
    return present(
        kind,
        *(
            Finding(
                f"{kind}:{topic}/{partition}",
                f"{topic}[{partition}] stands at offset {row['last']:.0f}, whose record is "
                f"{quantity(float(row['time_lag_seconds']))} s old, with "
                f"{quantity(float(row['end'] - row['last']))} unread, while {len(moving)} other "
                f"partitions advance ({quantity(usual)} s behind)",
                "kafka",
                query,
                onset=row["written_at"],
                value=float(row["last"]),
                unit="offset",
            )
            for (topic, partition), row in stuck.iterrows()
        ),
    )


def production_skewed_now(context: Context) -> Check:
    """Answer whether production since the onset is concentrated on few partitions."""
    kind = "production_skewed"
    own = own_partitions(context)
    past = context.incident.log_end_history.merge(own[_PLACE].drop_duplicates(), on=_PLACE)
    past = past.loc[past["timestamp"] >= context.onset_at].groupby(_PLACE)["log_end_offset"].first()
    made = (own.groupby(_PLACE)["log_end_offset"].last() - past).dropna()
    if len(made) < 3 or not made.sum() > 0:
        return not_checked(kind, "Too few partitions with a known production to compare.", "kafka")
    query = queries_of(own, context.incident.log_end_history)
    share = made / made.sum()
    if share.max() < SKEW_FAIR_SHARES / len(share):
        return absent(
            kind,
            f"The busiest partition takes {share.max():.0%} of production; {1 / len(share):.0%} "
            "would be even.",
            "kafka",
            query,
        )
    topic, partition = share.idxmax()
    return present(
        kind,
        Finding(
            f"{kind}:{topic}/{partition}",
            f"{topic}[{partition}] takes {share.max():.0%} of production; {1 / len(share):.0%} "
            "would be even",
            "kafka",
            query,
            onset=context.onset_at,
            value=float(share.max()),
            baseline=1 / len(share),
            unit="share",
        ),
    )

"""Demand and supply: what was produced and read, before the onset and after it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from lagkit.model import Check, Finding
from lagkit.signals import Context, absent, not_checked, present, quantity, queries_of

SPIKE_RATIO = 1.5
"""Production this many times its baseline is a spike. The runbook names none; Kafka teams size
consumers for a utilisation of 0.6-0.7, so 1.5 times the demand is where headroom ends."""
MAJOR_SHARE = 0.6
"""A term that explains this share of the backlog is its main part (causes.md 3.3)."""
SLOWED_RATIO = 0.75
"""Reading less than this share of the baseline is slowed; smaller dips are scrape noise."""
STOPPED_RATIO = 0.03
"""Reading at most this share of the baseline is stopped."""
SHORTEST_STOP_SECONDS = 10.0
"""Snapshots must span this to show a stop: twice the default auto.commit.interval.ms."""
FASTER_RATIO = 1.15
"""Reading at least this many times the baseline is faster."""
_KINDS = (
    "production_spike",
    "consumption_at_capacity",
    "consumption_slowed",
    "consumption_stopped",
)


def demand_and_supply(context: Context) -> Iterator[Check]:
    """Answer whether production rose, and whether reading rose, fell or stopped."""
    flow = context.flow
    totals = flow.group
    query = queries_of(context.incident.offsets)
    # A handful of snapshots is no history, however much of it is known.
    no_history = context.history_source == "kafka"
    if no_history or totals.empty or totals["produce_per_second"].notna().sum() < 3:
        yield from _from_snapshots(context)
        return
    if flow.onset is None:
        last = totals.dropna(subset=["produce_per_second"]).iloc[-1]
        reason = (
            f"No onset in the window: {quantity(last.produce_per_second)}/s produced, "
            f"{quantity(last.consume_per_second)}/s read at its end."
        )
        for kind in _KINDS:
            yield absent(kind, reason, "prometheus", query)
        return
    before = totals.loc[totals["timestamp"] < flow.onset.earliest]
    after = totals.loc[totals["timestamp"] > flow.onset.latest]
    produced_before, produced = _level(before, "produce"), _level(after, "produce")
    read_before, read = _level(before, "consume"), _level(after, "consume")
    if np.isnan(produced_before) or np.isnan(produced):
        reason = "The lag began with the window or before it, so there is no baseline."
        for kind in ("production_spike", "consumption_at_capacity", "consumption_slowed"):
            yield not_checked(kind, f"{reason} Ask for a longer one with --since.")
        yield _stopped(context, after if len(after) else totals, read_before, query)
        return
    shares = flow.shares
    spike_share = shares.spike_share if shares is not None else float("nan")
    yield _spike(flow.group, flow.onset.earliest, produced_before, produced, spike_share, query)
    stopped = _stopped(context, after, read_before, query)
    yield _capacity(after, read_before, read, query)
    yield _slowed(context, after, (read_before, read), (produced_before, produced), stopped, query)
    yield stopped


def _level(totals: pd.DataFrame, side: str) -> float:
    values = totals[f"{side}_per_second"].dropna()
    return float(values.median()) if len(values) >= 2 else float("nan")


def _spike(
    totals: pd.DataFrame,
    since: pd.Timestamp,
    before: float,
    after: float,
    share: float,
    query: str,
) -> Check:
    # The median over a window that a short burst does not fill would hide it.
    later = totals.loc[totals["timestamp"] >= since, ["timestamp", "produce_per_second"]].dropna()
    smooth = later["produce_per_second"].rolling(3, min_periods=1, center=True).median()
    peak = float(smooth.max()) if len(smooth) else after
    ratio = peak / before if before > 0 else float("inf")
    if ratio >= SPIKE_RATIO and not share < MAJOR_SHARE:
        crossing = later.loc[smooth >= (before + peak) / 2, "timestamp"]
        return present(
            "production_spike",
            Finding(
                "production_spike",
                f"production rose from {quantity(before)}/s to {quantity(peak)}/s"
                + (f": {min(share, 1.0):.0%} of the backlog" if share == share else ""),
                "prometheus",
                query,
                onset=crossing.iloc[0] if len(crossing) else since,
                value=peak,
                baseline=before,
                unit="messages/s",
            ),
        )
    return absent(
        "production_spike",
        f"Production: {quantity(before)}/s before the onset, at most {quantity(peak)}/s after it"
        + (
            f"; it explains {min(max(0.0, share), 1.0):.0%} of the backlog."
            if share == share
            else "."
        ),
        "prometheus",
        query,
    )


def _capacity(after: pd.DataFrame, before: float, now: float, query: str) -> Check:
    if before > 0 and now >= FASTER_RATIO * before:
        return present(
            "consumption_at_capacity",
            Finding(
                "consumption_at_capacity",
                f"the group reads {now / before:.1f} times its usual rate ({quantity(now)}/s) and "
                "still falls behind",
                "prometheus",
                query,
                onset=after["timestamp"].iloc[0] if len(after) else None,
                value=now,
                baseline=before,
                unit="messages/s",
            ),
        )
    return absent(
        "consumption_at_capacity",
        f"The group reads {quantity(now)}/s; before the onset it read {quantity(before)}/s.",
        "prometheus",
        query,
    )


def _slowed(
    context: Context,
    after: pd.DataFrame,
    read: tuple[float, float],
    produced: tuple[float, float],
    stopped: Check,
    query: str,
) -> Check:
    before, now = read
    if stopped.outcome == "present" or not before > 0:
        return absent(
            "consumption_slowed",
            "It does not read slower: it has stopped."
            if before > 0
            else "The group read nothing before the onset either.",
            "prometheus",
            query,
        )
    share = context.flow.shares.deficit_share if context.flow.shares is not None else 1.0
    if now <= SLOWED_RATIO * before and not share < 1 - MAJOR_SHARE:
        half = after.loc[after["consume_per_second"] <= (before + now) / 2, "timestamp"]
        return present(
            "consumption_slowed",
            Finding(
                "consumption_slowed",
                f"the group reads {quantity(now)}/s instead of {quantity(before)}/s; "
                f"{quantity(produced[1])}/s are produced",
                "prometheus",
                query,
                onset=half.iloc[0] if len(half) else context.onset_at,
                value=now,
                baseline=before,
                unit="messages/s",
            ),
        )
    return absent(
        "consumption_slowed",
        f"The group reads {quantity(now)}/s; before the onset it read {quantity(before)}/s.",
        "prometheus",
        query,
    )


def _stopped(context: Context, after: pd.DataFrame, before: float, query: str) -> Check:
    """Check for a group that commits nothing, for longer than any commit interval."""
    flow = context.flow
    tail = after.dropna(subset=["consume_per_second"])
    reference = (
        before if before > 0 else float(flow.group["produce_per_second"].median(skipna=True))
    )
    # The last third, at least a minute: a stop that was over is not one.
    start = context.incident.end - max(
        (context.incident.end - context.onset_at) / 3, pd.Timedelta("60s")
    )
    tail = tail.loc[tail["timestamp"] >= start]
    if len(tail) < 2 or not reference > 0:
        return not_checked("consumption_stopped", "Too few samples after the onset to tell.")
    now = float(tail["consume_per_second"].mean())
    unread = float(flow.group["lag_messages"].dropna().iloc[-1]) if len(flow.group) else 0.0
    if now <= STOPPED_RATIO * reference and unread > 0:
        moving = after.loc[after["consume_per_second"] > STOPPED_RATIO * reference, "timestamp"]
        since = moving.iloc[-1] if len(moving) else context.onset_at
        return present(
            "consumption_stopped",
            Finding(
                "consumption_stopped",
                f"no partition's committed offset has moved since {since:%H:%M:%S}Z; "
                f"{quantity(unread)} messages are unread",
                "prometheus",
                query,
                onset=min(since, context.onset_at),
                value=now,
                baseline=reference,
                unit="messages/s",
            ),
        )
    return absent(
        "consumption_stopped", f"The group still commits: {quantity(now)}/s.", "prometheus", query
    )


def _from_snapshots(context: Context) -> Iterator[Check]:
    """Without history the broker's own snapshots, seconds apart, still show what stands still."""
    reason = context.gap("prometheus", "offsets")
    for kind in ("production_spike", "consumption_at_capacity", "consumption_slowed"):
        yield not_checked(kind, reason)
    own = context.incident.partitions
    own = own.loc[own["group"] == context.incident.group]
    if own["timestamp"].nunique() < 2:
        yield not_checked("consumption_stopped", context.gap("kafka", "offsets"), "kafka")
        return
    spans = own.groupby(["topic", "partition"])[["committed_offset", "log_end_offset"]].agg(
        ["first", "last"]
    )
    read = float((spans["committed_offset"]["last"] - spans["committed_offset"]["first"]).sum())
    made = float((spans["log_end_offset"]["last"] - spans["log_end_offset"]["first"]).sum())
    seconds = (own["timestamp"].max() - own["timestamp"].min()).total_seconds()
    unread = float((spans["log_end_offset"]["last"] - spans["committed_offset"]["last"]).sum())
    query = queries_of(own)
    if own["committed_offset"].isna().all():
        yield not_checked(
            "consumption_stopped", "The group has never committed an offset.", "kafka"
        )
    elif read == 0 and unread > 0 and seconds < SHORTEST_STOP_SECONDS:
        yield not_checked(
            "consumption_stopped",
            f"Nothing was committed in {seconds:.0f} s, which is less than two commit intervals.",
            "kafka",
        )
    elif read == 0 and unread > 0 and made > 0:
        yield present(
            "consumption_stopped",
            Finding(
                "consumption_stopped",
                f"in {seconds:.0f} s no committed offset moved while {quantity(made)} messages "
                f"were written; {quantity(unread)} are unread",
                "kafka",
                query,
                value=0.0,
                unit="messages/s",
            ),
        )
    else:
        yield absent(
            "consumption_stopped",
            f"In {seconds:.0f} s the group committed {quantity(read)} messages and "
            f"{quantity(made)} were written.",
            "kafka",
            query,
        )


def calm(context: Context) -> Iterator[Check]:
    """Answer whether this is an incident at all."""
    flow, promise = context.flow, context.group.promise_seconds
    source = context.history_source
    incident = context.incident
    query = queries_of(incident.offsets if source == "prometheus" else incident.partitions)
    ages = flow.time_lag
    if ages.empty or ages["time_lag_seconds"].notna().sum() == 0:
        reason = context.gap("prometheus", "offsets")
        yield not_checked("promise_kept", reason)
        yield not_checked("backlog_draining", reason)
        return
    # A record at the tail of a partition that gets no more (a transaction marker) stays "unread".
    worst = ages.loc[ages["time_lag_seconds"].idxmax()]
    trivial = bool(
        (flow.group["lag_messages"].dropna() <= flow.group["partitions_known"].max()).all()
    )
    kept = (worst.time_lag_seconds <= promise and not worst.censored) or trivial
    if worst.censored and worst.time_lag_seconds <= promise and not trivial:
        reason = (
            f"The oldest unread record is older than the {quantity(worst.time_lag_seconds)} s of "
            "history there is."
        )
        yield not_checked("promise_kept", reason)
    elif kept and flow.state in ("healthy", "recovered", "draining", "unknown"):
        yield present(
            "promise_kept",
            Finding(
                "promise_kept",
                f"the oldest unread record was at most {quantity(worst.time_lag_seconds)} s old; "
                f"the promise is {promise:g} s"
                if not trivial
                else "no partition has more than one unread record",
                source,
                query,
                value=float(worst.time_lag_seconds),
                baseline=promise,
                unit="seconds",
            ),
        )
    elif worst.censored and worst.time_lag_seconds <= promise:
        yield not_checked(
            "promise_kept",
            f"The oldest unread record is at least {quantity(worst.time_lag_seconds)} s old; it "
            f"was there before anything was seen, so it may be older (promise {promise:g} s).",
            source,
        )
    else:
        least = "at least " if worst.censored else ""
        yield absent(
            "promise_kept",
            f"The oldest unread record reached {least}{quantity(worst.time_lag_seconds)} s "
            f"(promise {promise:g} s); the lag is {flow.state}.",
            source,
            query,
        )
    if flow.state in ("draining", "recovered"):
        drain = flow.drain
        yield present(
            "backlog_draining",
            Finding(
                "backlog_draining",
                "the backlog is gone"
                if flow.state == "recovered"
                else "the backlog shrinks"
                + (f" by {quantity(drain.net_per_second)} messages/s" if drain else ""),
                source,
                query,
                value=drain.net_per_second if drain else None,
                unit="messages/s",
            ),
        )
    elif flow.state == "unknown":
        yield not_checked(
            "backlog_draining", "Too little was seen to tell where the lag goes.", source
        )
    else:
        yield absent("backlog_draining", f"The lag is {flow.state}.", source, query)

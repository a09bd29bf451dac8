"""Demand and supply: what was produced and read, before the onset and after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lagkit.flow import FALLING_BEHIND_SECONDS, without_markers
from lagkit.model import Check, Finding
from lagkit.signals import Context, absent, not_checked, present, quantity
from lagkit.signals.snapshots import demand_and_supply_now
from lagkit.signals.thresholds import (
    FASTER_RATIO,
    GROWN_RATIO,
    MAJOR_SHARE,
    MORE_RATIO,
    SLOWED_RATIO,
    SPIKE_RATIO,
)

MULTIPLIED_RATIO = 2.0
"""More than growth: the usual headroom of a group, 1.5 times its demand, is long used up."""
STOPPED_RATIO = 0.03
"""Reading at most this share of the baseline is stopped."""
_KINDS = (
    "production_spike",
    "consumption_at_capacity",
    "consumption_slowed",
    "consumption_stopped",
)


def demand_and_supply(context: Context) -> Iterator[Check]:
    """Answer whether production rose, by how much, and whether reading rose, fell or stopped."""
    for check in _demand_and_supply(context):
        yield check
        if check.kind == "production_spike":
            yield _multiplied(check)


def _multiplied(spike: Check) -> Check:
    kind = "production_multiplied"
    finding = spike.findings[0] if spike.findings else None
    if finding is None or finding.value is None or finding.baseline is None:
        return replace(spike, kind=kind)
    times = finding.value / finding.baseline if finding.baseline else float("inf")
    if times < MULTIPLIED_RATIO:
        return absent(
            kind, f"It is {times:.1f} times as much as before.", spike.source, spike.query
        )
    statement = (
        f"{times:,.1f} times as much is produced as before"
        if finding.baseline
        else "nothing was produced before"
    )
    return present(kind, replace(finding, id=kind, statement=statement))


def _demand_and_supply(context: Context) -> Iterator[Check]:
    flow = context.flow
    totals = flow.group
    query = context.history_query
    # A handful of snapshots is no history, however much of it is known.
    if context.seen_only_now or totals["produce_per_second"].notna().sum() < 3:
        yield from demand_and_supply_now(context)
        return
    if flow.onset is None:
        last = totals.dropna(subset=["produce_per_second"]).iloc[-1]
        reason = (
            f"No onset in the window: {quantity(last.produce_per_second)}/s produced, "
            f"{quantity(last.consume_per_second)}/s read at its end."
        )
        for kind in _KINDS:
            yield absent(kind, reason, context.history_source, query)
        return
    before = totals.loc[totals["timestamp"] < flow.onset.earliest]
    after = totals.loc[totals["timestamp"] > flow.onset.latest]
    produced_before, produced = _level(before, "produce"), _level(after, "produce")
    read_before, read = _level(before, "consume"), _level(after, "consume")
    if np.isnan(produced_before):
        # ends of the log need no commit: demand may be known where lag is not
        produced_before = _produced(context, before["timestamp"])
    shares = flow.shares
    if shares is not None:
        # rates need samples close to each other, and the offsets at both ends tell the mean
        produced_before, produced, read_before, read = (
            mean if np.isnan(rate) else rate
            for rate, mean in (
                (produced_before, shares.produce_baseline),
                (produced, shares.produce_now),
                (read_before, shares.consume_baseline),
                (read, shares.consume_now),
            )
        )
    if np.isnan(produced_before) or np.isnan(produced):
        reason = "The lag began with the window or before it, so there is no baseline."
        for kind in ("production_spike", "consumption_at_capacity", "consumption_slowed"):
            yield not_checked(kind, f"{reason} Ask for a longer one with --since.")
        yield _stopped(context, after if len(after) else totals, read_before)
        return
    spike_share = shares.spike_share if shares is not None else float("nan")
    yield _spike(context, flow.onset.earliest, produced_before, produced, spike_share)
    stopped = _stopped(context, after, read_before)
    where = ""
    if flow.lagging is not None:
        # read where the backlog is: the other partitions are read as fast as they are filled
        shares, totals = flow.lagging.shares, flow.lagging.group
        after = totals.loc[totals["timestamp"] > flow.onset.latest]
        before = totals.loc[totals["timestamp"] < flow.onset.earliest]
        read_before, read = _level(before, "consume"), _level(after, "consume")
        produced_before, produced = _level(before, "produce"), _level(after, "produce")
        where = on_places(flow.lagging.places, len(flow.status))
    grown = spike_share >= MAJOR_SHARE and produced >= GROWN_RATIO * produced_before
    faster = MORE_RATIO if grown else FASTER_RATIO
    yield _capacity(context, after, read_before, read, faster, where)
    deficit = shares.deficit_share if shares is not None else 1.0
    rates = (read_before, read, produced)
    yield _slowed(context, after, rates, deficit, stopped, where)
    yield stopped


def on_places(places: Sequence[tuple[str, int]], of: int) -> str:
    """Return the words that say of which partitions something is true."""
    if len(places) == 1:
        return f" on {places[0][0]}[{places[0][1]}], which is behind,"
    return f" on the {len(places)} of {of} partitions that are behind"


def _level(totals: pd.DataFrame, side: str) -> float:
    values = totals[f"{side}_per_second"].dropna()
    return float(values.median()) if len(values) >= 2 else float("nan")


def _produced(context: Context, times: pd.Series[pd.Timestamp]) -> float:
    """Return the usual production at *times* by the ends of all partitions; NaN if not known."""
    rates = context.flow.rates
    made = rates.loc[rates["timestamp"].isin(times)].groupby("timestamp")["produce_per_second"]
    whole = made.sum(min_count=1).loc[made.count() == made.count().max()].dropna()
    return float(whole.median()) if len(whole) >= 2 else float("nan")


def _spike(
    context: Context, since: pd.Timestamp, before: float, after: float, share: float
) -> Check:
    totals = context.flow.group
    source, query = context.history_source, context.history_query
    # The median over a window that a short burst does not fill would hide it.
    later = totals.loc[totals["timestamp"] >= since, ["timestamp", "produce_per_second"]].dropna()
    smooth = later["produce_per_second"].rolling(3, min_periods=1, center=True).median()
    peak = float(smooth.max()) if len(smooth) else after
    if context.flow.shares is not None:
        # where samples are lost, the rates that are left may all be of calmer moments
        peak = float(np.fmax(peak, context.flow.shares.produce_now))
    ratio = peak / before if before > 0 else float("inf")
    needed = GROWN_RATIO if share >= MAJOR_SHARE else SPIKE_RATIO
    if ratio >= needed and not share < MAJOR_SHARE:
        crossing = later.loc[smooth >= (before + peak) / 2, "timestamp"]
        return present(
            "production_spike",
            Finding(
                "production_spike",
                f"production rose from {quantity(before)}/s to {quantity(peak)}/s"
                + (f": {min(share, 1.0):.0%} of the backlog" if share == share else ""),
                source,
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
        source,
        query,
    )


def _capacity(
    context: Context, after: pd.DataFrame, before: float, now: float, faster: float, where: str
) -> Check:
    source, query = context.history_source, context.history_query
    if before > 0 and now >= faster * before:
        return present(
            "consumption_at_capacity",
            Finding(
                "consumption_at_capacity",
                f"the group reads{where} {now / before:.2f} times its usual rate "
                f"({quantity(now)}/s) and still falls behind",
                source,
                query,
                onset=after["timestamp"].iloc[0] if len(after) else None,
                value=now,
                baseline=before,
                unit="messages/s",
            ),
        )
    return absent(
        "consumption_at_capacity",
        f"The group reads{where} {quantity(now)}/s; before the onset it read {quantity(before)}/s.",
        source,
        query,
    )


def _slowed(
    context: Context,
    after: pd.DataFrame,
    rates: tuple[float, float, float],
    deficit_share: float,
    stopped: Check,
    where: str,
) -> Check:
    before, now, produced = rates
    source, query = context.history_source, context.history_query
    if np.isnan(before) or np.isnan(now):
        return not_checked(
            "consumption_slowed", "There is no reading rate on both sides of the onset to compare."
        )
    if stopped.outcome == "present" or not before > 0:
        return absent(
            "consumption_slowed",
            "It does not read slower: it has stopped."
            if before > 0
            else "The group read nothing before the onset either.",
            source,
            query,
        )
    if now <= SLOWED_RATIO * before and not deficit_share < 1 - MAJOR_SHARE:
        half = after.loc[after["consume_per_second"] <= (before + now) / 2, "timestamp"]
        return present(
            "consumption_slowed",
            Finding(
                "consumption_slowed",
                f"the group reads{where} {quantity(now)}/s instead of {quantity(before)}/s; "
                f"{quantity(produced)}/s are produced",
                source,
                query,
                onset=half.iloc[0] if len(half) else context.onset_at,
                value=now,
                baseline=before,
                unit="messages/s",
            ),
        )
    return absent(
        "consumption_slowed",
        f"The group reads{where} {quantity(now)}/s; before the onset it read {quantity(before)}/s.",
        source,
        query,
    )


def _stopped(context: Context, after: pd.DataFrame, before: float) -> Check:
    """Check for a group that commits nothing, for longer than any commit interval."""
    flow = context.flow
    source, query = context.history_source, context.history_query
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
                source,
                query,
                onset=min(since, context.onset_at),
                value=now,
                baseline=reference,
                unit="messages/s",
            ),
        )
    return absent(
        "consumption_stopped", f"The group still commits: {quantity(now)}/s.", source, query
    )


def calm(context: Context) -> Iterator[Check]:
    """Answer whether this is an incident at all."""
    flow, promise = context.flow, context.group.promise_seconds
    source, query = context.history_source, context.history_query
    ages = without_markers(flow.time_lag, flow.status)
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
    # a trend over a few records is no backlog
    calm_so_far = flow.onset is None and worst.time_lag_seconds <= FALLING_BEHIND_SECONDS
    if worst.censored and worst.time_lag_seconds <= promise and not trivial:
        reason = (
            f"The oldest unread record is older than the {quantity(worst.time_lag_seconds)} s of "
            "history there is."
        )
        yield not_checked("promise_kept", reason)
    elif kept and flow.state == "unknown" and worst.time_lag_seconds > FALLING_BEHIND_SECONDS:
        # young records at the end of a backlog that grows are as young as those of a calm group
        yield not_checked(
            "promise_kept",
            f"The oldest unread record was at most {quantity(worst.time_lag_seconds)} s old, but "
            "too little was seen to tell whether the lag grows.",
            source,
        )
    elif kept and (flow.state in ("healthy", "recovered", "draining", "unknown") or calm_so_far):
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

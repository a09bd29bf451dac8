"""What the lag cost and when things happened: impact, stamps and intervals out of the flow.

Times lag like this: onset (the backlog begins to grow), breach (the oldest message is older than
the promise), detection, mitigation (the backlog turns), recovery (the age is back under the promise
and stays there: declared on age, because the count recovers long before it). Each stamp carries its
definition, its source and how far it may be off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lagkit import flow as flows
from lagkit.incident import Incident
from lagkit.investigation import Result
from lagkit.postmortem.model import Impact, Interval, LossProof, Stamp, TopicImpact

HELD_SECONDS = 300.0
"""So long the age must stay under the promise before recovery counts as held."""
TURNED_SHARE = 0.1
"""Share of the peak that the backlog must have lost before the peak counts as the turn."""
BUDGET_OBJECTIVE = 0.99
BUDGET_MINUTES = 30 * 24 * 60
NO_HISTORY = "there is no offset history in the window"
NOT_SEEN_LONG = "the data end before it happened"


@dataclass(frozen=True)
class Course:
    """The age of the oldest unread message and the backlog over time, of the whole group."""

    age: pd.Series[float]
    """Seconds by timestamp: the worst partition, NaN-free."""
    worst: pd.DataFrame
    """timestamp, topic, partition, time_lag_seconds, censored of the worst partition."""
    lag: pd.Series[float]
    queries: str
    step_seconds: float


def course(result: Result) -> Course:
    """Return the course of age and backlog in the window of *result*."""
    flow = result.flow
    ages = flows.without_markers(flow.time_lag, flow.status).dropna(subset=["time_lag_seconds"])
    ages = ages.loc[ages["timestamp"] >= result.incident.start]
    ordered = ages.sort_values(["timestamp", "time_lag_seconds", "topic", "partition"])
    worst = ordered.groupby("timestamp", sort=True).tail(1).reset_index(drop=True)
    group = flow.group
    lag = (
        group.set_index("timestamp")["lag_messages"].dropna()
        if len(group)
        else pd.Series([], dtype="float64", index=pd.DatetimeIndex([], tz="UTC"))
    )
    lag = lag.loc[lag.index >= result.incident.start]
    return Course(
        worst.set_index("timestamp")["time_lag_seconds"],
        worst,
        lag,
        history_queries(result.incident),
        flow.step_seconds,
    )


def history_queries(incident: Incident) -> str:
    """Return the ids of the queries behind the offsets, comma separated."""
    for table in (incident.offsets, incident.partitions, incident.commits):
        if len(table):
            return ", ".join(sorted(table["query_id"].unique()))
    return ""


# ── stamps and intervals ────────────────────────────────────────────────────────────────────────


def breach(path: Course, promise: float, since: pd.Timestamp | None) -> pd.Timestamp | None:
    """Return when the age first exceeded the promise, at the onset or after."""
    age = path.age if since is None else path.age.loc[path.age.index >= since]
    over = age.index[age > promise]
    return over[0] if len(over) else None


def mitigated(path: Course, result: Result) -> pd.Timestamp | None:
    """Return when the backlog turned: its peak, if it has fallen since by a tenth of it."""
    begin = result.flow.onset
    lag = path.lag if begin is None else path.lag.loc[path.lag.index >= begin.at]
    if begin is None or lag.empty:
        return None
    peak = lag.idxmax()
    fallen = lag.loc[peak] - lag.iloc[-1]
    return peak if fallen >= max(1.0, TURNED_SHARE * lag.loc[peak]) else None


def recovered(path: Course, promise: float, since: pd.Timestamp | None) -> pd.Timestamp | None:
    """Return since when the age has been within the promise until the end, after a breach."""
    if since is None or path.age.empty:
        return None
    over = path.age.index[path.age > promise]
    after = path.age.index[path.age.index > over[-1]]
    return after[0] if len(after) else None


def stamps(result: Result, path: Course, alert: Stamp, expression: Stamp) -> tuple[Stamp, ...]:
    """Return the stamps of the incident in their logical order."""
    promise = result.runbook_group.promise_seconds
    onset = result.verdict.onset
    since = pd.Timestamp(onset.earliest) if onset else None
    begins = breach(path, promise, since)
    turn = mitigated(path, result)
    ends = recovered(path, promise, begins)
    missing = NO_HISTORY if path.age.empty else ""
    never = missing or "the age never exceeded the promise"
    found = "" if onset else (missing or "the backlog did not begin to grow in the window")
    step = path.step_seconds
    held = (path.age.index[-1] - ends).total_seconds() if ends is not None else 0.0
    return (
        (
            Stamp(
                "onset",
                "the net flow turned positive and stayed so until the peak (change point, 95 %)",
                pd.Timestamp(onset.at) if onset else None,
                "offset history" if onset else "",
                path.queries if onset else "",
                None,
                onset.earliest if onset else None,
                onset.latest if onset else None,
                found if not (onset and onset.censored) else "it began before the data do",
            ),
            _measured(
                "breach",
                "the oldest unread message was older than the promise",
                begins,
                path,
                never,
            ),
            expression,
            alert,
            _measured(
                "mitigation",
                "the backlog stopped growing: its peak, fallen by a tenth of it since",
                turn,
                path,
                missing or (NOT_SEEN_LONG if onset else found),
            ),
            _measured(
                "recovery",
                "the oldest unread message is back within the promise and stays so",
                ends,
                path,
                never if begins is None else NOT_SEEN_LONG,
                note=""
                if ends is None or held >= HELD_SECONDS
                else "the data go on for less than five minutes after it",
            ),
            Stamp(
                "acknowledged",
                "a person took it: known to a pager, not to this data",
                None,
                why="no export of a pager was given",
            ),
        )
        if step > 0
        else ()
    )


def _measured(
    name: str, definition: str, at: pd.Timestamp | None, path: Course, why: str, *, note: str = ""
) -> Stamp:
    if at is None:
        return Stamp(name, definition, None, why=why)
    return Stamp(name, definition, at, "offset history", path.queries, path.step_seconds, why=note)


INTERVALS = (
    ("TTD", "onset", "alert"),
    ("detection gap", "onset", "expression"),
    ("for-wait", "expression", "alert"),
    ("TTA", "alert", "acknowledged"),
    ("TTM", "onset", "mitigation"),
    ("TTR", "onset", "recovery"),
    ("drain", "mitigation", "recovery"),
)
"""Name and the stamps at both ends."""


def intervals(known: Iterable[Stamp]) -> tuple[Interval, ...]:
    """Return the times between *known* stamps."""
    by_name = {stamp.name: stamp for stamp in known}
    return tuple(
        between(name, by_name[begins], by_name[ends])
        for name, begins, ends in INTERVALS
        if begins in by_name and ends in by_name
    )


def between(name: str, begin: Stamp, end: Stamp) -> Interval:
    """Return the time from *begin* to *end*, as uncertain as both together."""
    lacking = next((stamp for stamp in (begin, end) if stamp.at is None), None)
    if lacking is not None or begin.at is None or end.at is None:
        why = f"{lacking.name}: {lacking.why}" if lacking else ""
        return Interval(name, begin.name, end.name, None, why=why)
    seconds = (pd.Timestamp(end.at) - pd.Timestamp(begin.at)).total_seconds()
    off = uncertainty(begin) + uncertainty(end)
    return Interval(name, begin.name, end.name, seconds, off)


def uncertainty(stamp: Stamp) -> float:
    """Return by how many seconds *stamp* may be off; 0 where nothing is known of it."""
    if stamp.uncertainty_seconds is not None:
        return stamp.uncertainty_seconds
    if stamp.at is None or stamp.earliest is None or stamp.latest is None:
        return 0.0
    at, early, late = (pd.Timestamp(t) for t in (stamp.at, stamp.earliest, stamp.latest))
    return float(max((at - early).total_seconds(), (late - at).total_seconds()))


# ── impact ──────────────────────────────────────────────────────────────────────────────────────


def impact(result: Result, path: Course, known: Iterable[Stamp], *, bridged: float) -> Impact:
    """Return what the lag cost in the window of *result*."""
    by_name = {stamp.name: stamp for stamp in known}
    group, flow, incident = result.runbook_group, result.flow, result.incident
    delay = flow.delay
    begin = by_name["onset"].earliest if "onset" in by_name else None
    end = by_name["recovery"].at if "recovery" in by_name else None
    counted_from = max(pd.Timestamp(begin or incident.start), incident.start)
    counted_until = pd.Timestamp(end or max(incident.end, flow.cleaned["timestamp"].max()))
    waited = flows.waits(flow.cleaned, start=counted_from, end=counted_until)
    deleted = result.flow.deleted
    loss: LossProof = "lost" if deleted.messages else "cannot_tell"
    if deleted.proved and not deleted.messages:
        loss = "proved_none"
    peak = path.lag.idxmax() if len(path.lag) else None
    oldest = path.age.idxmax() if len(path.age) else None
    place = delay.peak_partition if delay else None
    minutes = known_or_none(delay.slo_minutes_broken) if delay else None
    verdict = result.verdict
    made = Impact(
        promise_seconds=float(group.promise_seconds),
        criticality=str(group.criticality),
        window_seconds=(incident.end - incident.start).total_seconds(),
        messages_delayed=known_or_none(delay.messages_delayed) if delay else None,
        delay_message_seconds=known_or_none(delay.message_seconds) if delay else None,
        incident_message_seconds=known_or_none(waited.message_seconds),
        counted_from=counted_from if math.isfinite(waited.messages) else None,
        counted_until=counted_until if math.isfinite(waited.messages) else None,
        messages_waiting=known_or_none(waited.messages),
        mean_delay_seconds=known_or_none(waited.mean_seconds),
        p95_delay_seconds=known_or_none(waited.quantiles[0]),
        max_delay_seconds=known_or_none(delay.max_wait_seconds) if delay else None,
        delays_are_at_least=bool(delay and delay.age_is_at_least)
        or bool(math.isfinite(waited.still_waiting) and waited.still_waiting > 0 and end is None),
        peak_lag_messages=known_or_none(delay.peak_lag_messages) if delay else None,
        peak_lag_at=peak,
        peak_age_seconds=known_or_none(delay.peak_age_seconds) if delay else None,
        peak_age_at=oldest,
        peak_topic=place[0] if place else "",
        peak_partition=place[1] if place else None,
        promise_minutes_broken=minutes,
        objective=BUDGET_OBJECTIVE,
        budget_used=None
        if minutes is None
        else minutes / (BUDGET_MINUTES * (1 - BUDGET_OBJECTIVE)),
        messages_lost=deleted.messages if deleted.proved or deleted.messages else None,
        loss=loss,
        loss_because=deleted.why,
        unread_at_end=verdict.impact.lag_messages_now,
        oldest_age_at_end_seconds=verdict.impact.oldest_age_seconds_now,
        state_at_end=verdict.state,
    )
    return _explained(made, result, bridged)


def _explained(made: Impact, result: Result, bridged: float) -> Impact:
    """Return *made* with the reason for every figure that it lacks."""
    from dataclasses import fields, replace

    why = NO_HISTORY
    if len(result.flow.cleaned):
        offsets = result.flow.cleaned[["log_end_offset", "committed_offset"]].notna()
        why = (
            "the history has lags but no offsets to date messages by"
            if not offsets.all(axis=1).any()
            else "there are too few samples in the window"
        )
    reasons = {
        name.name: why
        for name in fields(made)
        if getattr(made, name.name) is None and name.name not in ("messages_lost", "counted_from")
    }
    if made.messages_lost is None:
        reasons["messages_lost"] = made.loss_because
    if bridged:
        reasons["bridged"] = "some stretches without samples are bridged by straight lines"
    return replace(made, cannot_tell=reasons)


def topics(result: Result, path: Course) -> tuple[TopicImpact, ...]:
    """Return what each topic bore, the most critical first."""
    incident, flow = result.incident, result.flow
    promise = result.runbook_group.promise_seconds
    ages = flows.without_markers(flow.time_lag, flow.status)
    ages = ages.loc[ages["timestamp"] >= incident.start]
    end = max(incident.end, flow.cleaned["timestamp"].max()) if len(flow.cleaned) else incident.end
    made = []
    for topic in sorted({*incident.topics, *map(str, flow.cleaned["topic"].unique())}):
        rows = flow.cleaned.loc[flow.cleaned["topic"] == topic].reset_index(drop=True)
        entry = incident.runbook.topic(topic)
        own = ages.loc[ages["topic"] == topic].groupby("partition")["time_lag_seconds"].max()
        delay = (
            flows.delay_area(rows, start=incident.start, end=end, promise_seconds=promise)
            if len(rows)
            else None
        )
        made.append(
            TopicImpact(
                topic=topic,
                criticality=str(entry.criticality),
                producers=tuple(entry.producers),
                consumers=tuple(entry.consumers),
                partitions=int(rows["partition"].nunique()),
                partitions_broken=int((own > promise).sum()),
                messages_delayed=known_or_none(delay.messages_delayed) if delay else None,
                delay_message_seconds=known_or_none(delay.message_seconds) if delay else None,
                peak_lag_messages=known_or_none(delay.peak_lag_messages) if delay else None,
                peak_age_seconds=known_or_none(delay.peak_age_seconds) if delay else None,
            )
        )
    order = {"high": 0, "medium": 1, "low": 2}
    return tuple(sorted(made, key=lambda one: (order.get(one.criticality, 3), one.topic)))


def unseen_seconds(cleaned: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Return for how long in the window no sample was taken, stretches over three steps only."""
    step = flows.scrape_step(cleaned) if len(cleaned) else float("nan")
    if not step > 0:
        return float((end - start).total_seconds()) if cleaned.empty else 0.0
    known = cleaned.loc[cleaned["lag_messages"].notna(), "timestamp"].drop_duplicates()
    inside = known.loc[(known >= start) & (known <= end)].sort_values()
    moments = pd.DatetimeIndex([start, *inside, end])
    gaps = np.diff(moments.as_unit("us").asi8) / 1e6
    return float(gaps[gaps > 3 * step].sum())


def known_or_none(value: Any) -> float | None:
    """Return *value* as a float, None if it is unknown."""
    number = float(value)
    return number if math.isfinite(number) else None

"""What went well and where luck had a hand: facts that can be computed, and nothing else.

Each fact ends as holds, does not hold or cannot be told; what a person felt about it is theirs to
write. Near misses are margins: how far the incident was from being worse.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lagkit.investigation import Result
from lagkit.postmortem.measures import HELD_SECONDS, Course
from lagkit.postmortem.model import (
    Completeness,
    Detection,
    Fact,
    FactValue,
    Impact,
    Stamp,
    TopicImpact,
)

WEEK_SECONDS = 7 * 86400.0
NEAR_LOSS_SHARE = 0.5
"""Reaching this share of the retention is a near miss."""


def went_well(
    judged: Result,
    impact: Impact,
    topics: tuple[TopicImpact, ...],
    detection: Detection,
    stamps: dict[str, Stamp],
    complete: Completeness,
    path: Course,
) -> tuple[Fact, ...]:
    """Return the facts that may have gone well."""
    return (
        _no_loss(impact),
        _told_before_breach(detection, stamps),
        _drained_as_forecast(judged, stamps),
        _others_kept(topics),
        _held(stamps, path),
        Fact(
            "evidence_complete",
            "holds" if complete.confidence == "high" else "does_not_hold",
            {"checks": complete.checks_with_data, "of": complete.checks_total},
            "checks of the verdict",
        ),
    )


def _no_loss(impact: Impact) -> Fact:
    if impact.loss == "cannot_tell":
        return Fact(
            "no_loss", "cannot_tell", {}, "log starts against commits", why=impact.loss_because
        )
    return Fact(
        "no_loss",
        "holds" if impact.loss == "proved_none" else "does_not_hold",
        {"lost": impact.messages_lost},
        "log starts against commits",
    )


def _told_before_breach(detection: Detection, stamps: dict[str, Stamp]) -> Fact:
    fired, breach = stamps["alert"].at, stamps["breach"].at
    source = "ALERTS against the age of the oldest message"
    if breach is None:
        return Fact("told_before_breach", "cannot_tell", {}, source, why=stamps["breach"].why)
    if fired is None:
        why = stamps["alert"].why
        outcome = "does_not_hold" if why.startswith("no alert") else "cannot_tell"
        return Fact("told_before_breach", outcome, {}, source, why=why)  # type: ignore[arg-type]
    ahead = (pd.Timestamp(breach) - pd.Timestamp(fired)).total_seconds()
    values: dict[str, FactValue] = {"alert": detection.alert, "ahead_seconds": abs(ahead)}
    return Fact("told_before_breach", "holds" if ahead > 0 else "does_not_hold", values, source)


def _drained_as_forecast(judged: Result, stamps: dict[str, Stamp]) -> Fact:
    source = "forecast of the first capture against the recovery"
    forecast, ended = judged.verdict.forecast.catch_up_at, stamps["recovery"].at
    if forecast is None:
        return Fact(
            "drained_as_forecast",
            "cannot_tell",
            {},
            source,
            why="the first capture gave no time for the catch-up: it was not draining yet",
        )
    if ended is None:
        return Fact("drained_as_forecast", "cannot_tell", {}, source, why=stamps["recovery"].why)
    off = (pd.Timestamp(forecast.mid) - pd.Timestamp(ended)).total_seconds()
    inside = pd.Timestamp(ended) <= pd.Timestamp(forecast.high)
    values: dict[str, FactValue] = {
        "forecast_at": forecast.mid,
        "high_at": forecast.high,
        "recovered_at": ended,
        "sooner_seconds": max(0.0, off),
        "later_seconds": max(0.0, -off),
    }
    return Fact("drained_as_forecast", "holds" if inside else "does_not_hold", values, source)


def _others_kept(topics: tuple[TopicImpact, ...]) -> Fact:
    total = sum(topic.partitions for topic in topics)
    broken = sum(topic.partitions_broken for topic in topics)
    source = "age of the oldest message by partition"
    if not total:
        return Fact("others_kept", "cannot_tell", {}, source, why="no partition's age is known")
    return Fact(
        "others_kept",
        "holds" if broken < total else "does_not_hold",
        {"kept": total - broken, "broken": broken, "partitions": total},
        source,
    )


def _held(stamps: dict[str, Stamp], path: Course) -> Fact:
    ended = stamps["recovery"].at
    source = "age of the oldest message until the data end"
    if ended is None:
        return Fact("recovery_held", "cannot_tell", {}, source, why=stamps["recovery"].why)
    seconds = (path.age.index[-1] - pd.Timestamp(ended)).total_seconds()
    if seconds < HELD_SECONDS:
        return Fact(
            "recovery_held",
            "cannot_tell",
            {"held_seconds": seconds},
            source,
            why="the data end too soon after it",
        )
    return Fact("recovery_held", "holds", {"held_seconds": seconds}, source)


# ── luck ────────────────────────────────────────────────────────────────────────────────────────


def got_lucky(
    whole: Result, path: Course, impact: Impact, retention: float | None
) -> tuple[Fact, ...]:
    """Return the near misses."""
    return (
        _retention_margin(path, impact, retention),
        _spare(whole),
        weekly_peak(whole, path),
    )


def _retention_margin(path: Course, impact: Impact, retention: float | None) -> Fact:
    source = "retention.ms against the age of the oldest message"
    if impact.peak_age_seconds is None:
        why = impact.cannot_tell.get("peak_age_seconds", "its age is not known")
        return Fact("retention_margin", "cannot_tell", {}, source, why=why)
    if retention is None:
        why = "the retention of the topic is not known, or it has none"
        return Fact("retention_margin", "cannot_tell", {}, source, why=why)
    margin = retention - impact.peak_age_seconds
    values: dict[str, FactValue] = {
        "retention_seconds": retention,
        "peak_age_seconds": impact.peak_age_seconds,
        "margin_seconds": margin,
        "used_share": impact.peak_age_seconds / retention if retention > 0 else None,
    }
    near = impact.peak_age_seconds >= NEAR_LOSS_SHARE * retention
    return Fact("retention_margin", "holds" if near else "does_not_hold", values, source)


def _spare(whole: Result) -> Fact:
    source = "members and partitions as the coordinator has them"
    state = whole.incident.group_state
    known = state.loc[state["group"] == whole.incident.group, "member_count"].dropna()
    partitions = int(whole.flow.cleaned[["topic", "partition"]].drop_duplicates().shape[0])
    if known.empty or not partitions:
        why = "the number of members or partitions was not seen"
        return Fact("spare_parallelism", "cannot_tell", {}, source, why=why)
    members = int(known.iloc[-1])
    spare = partitions - members
    return Fact(
        "spare_parallelism",
        "holds" if spare > 0 and members else "does_not_hold",
        {"members": members, "partitions": partitions, "spare": max(0, spare)},
        source,
    )


def weekly_peak(whole: Result, path: Course) -> Fact:
    """Return what the same outage at the weekly peak would have done, where data allow it.

    The week's busiest hour over the rate while it lasted scales what came in; what was read stays
    as it was, and an idle group catches up at the fastest rate it showed with a backlog. First in,
    first out over the group as one queue, so a skewed partition would be worse.
    """
    source = "produced and consumed per second over the data"
    group = whole.flow.group
    onset = whole.verdict.onset
    group = group.dropna(subset=["log_end_sum", "committed_sum"]) if len(group) else group
    if onset is None or len(group) < 3:
        return Fact(
            "weekly_peak",
            "cannot_tell",
            {},
            source,
            why="there is no onset to move to another hour",
        )
    seen = (group["timestamp"].iloc[-1] - group["timestamp"].iloc[0]).total_seconds()
    if seen < WEEK_SECONDS:
        return Fact(
            "weekly_peak",
            "cannot_tell",
            {"data_seconds": seen, "needed_seconds": WEEK_SECONDS},
            source,
            why="a weekly peak needs a week of history",
        )
    produced = group.set_index("timestamp")["log_end_sum"].resample("1h").last().diff() / 3600.0
    begin = pd.Timestamp(onset.earliest)
    during = group.loc[group["timestamp"] >= begin]
    lasted = (during["timestamp"].iloc[-1] - during["timestamp"].iloc[0]).total_seconds()
    came = during["log_end_sum"].iloc[-1] - during["log_end_sum"].iloc[0]
    usual = came / lasted if lasted > 0 else float("nan")
    calm = produced.loc[produced.index < begin - pd.Timedelta("1h")]
    peak = float(calm.max()) if len(calm) else float("nan")
    if not (usual > 0 and np.isfinite(peak)):
        why = "the production before it is not known"
        return Fact("weekly_peak", "cannot_tell", {}, source, why=why)
    factor = peak / usual
    age, backlog = _replayed(during, factor)
    return Fact(
        "weekly_peak",
        "holds" if factor > 1 else "does_not_hold",
        {
            "rate_per_second": usual,
            "peak_rate_per_second": peak,
            "peak_hour_at": calm.idxmax(),
            "factor": factor,
            "would_be_age_seconds": age,
            "would_be_backlog_messages": backlog,
            "peak_age_seconds": float(path.age.max()) if len(path.age) else None,
        },
        source,
    )


def _replayed(during: pd.DataFrame, factor: float) -> tuple[float, float]:
    """Return the greatest age and backlog of the outage with *factor* times as much coming in."""
    seconds = (during["timestamp"] - during["timestamp"].iloc[0]).dt.total_seconds().to_numpy()
    came = during["log_end_sum"].to_numpy(dtype="float64")
    read = during["committed_sum"].to_numpy(dtype="float64")
    lag = came - read
    steps = np.diff(seconds)
    handled = np.diff(read)
    busy = (lag[:-1] > 0) | (lag[1:] > 0)  # with a backlog, what was read is what could be
    fastest = float((handled[busy] / steps[busy]).max()) if busy.any() else 0.0
    able = np.where(busy, handled, np.maximum(handled, fastest * steps))
    arrivals = np.diff(came) * factor
    more = np.concatenate(([lag[0]], lag[0] + np.cumsum(arrivals)))
    could = np.concatenate(([0.0], np.cumsum(able)))
    spare = np.minimum.accumulate(np.minimum(np.concatenate(([0.0], (more - could)[1:])), 0.0))
    done = could + spare
    written = np.interp(done, more, seconds)
    waiting = np.where(more - done > 1e-9, seconds - written, 0.0)
    return float(max(0.0, waiting.max())), float((more - done).max())

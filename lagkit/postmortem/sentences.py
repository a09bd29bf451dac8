"""The sentences of a post-mortem, made of its numbers alone.

Every number here is one of ``postmortem.json``, put as ``lagkit.wording`` puts it. Facts, in plain
words, about systems and never about a person; what is unknown is said with its reason.
"""

from __future__ import annotations

import zoneinfo
from datetime import datetime

import pandas as pd

from lagkit.postmortem.model import Fact, Impact, Interval, Postmortem, Stamp
from lagkit.wording import clock, count, duration, number, onset_text, percent, plural

LOSS = {
    "proved_none": "no message was deleted unread: proved",
    "lost": "messages were deleted unread",
    "cannot_tell": "whether messages were deleted unread cannot be told",
}
STATES = {
    "growing": "the backlog was still growing",
    "draining": "the backlog was draining",
    "stalled": "the group stood still",
    "recovered": "the group had recovered",
    "healthy": "the group was within its promise",
    "unknown": "its state was not known",
}


def both_clocks(at: datetime, zone: str, *, near: datetime | None = None) -> str:
    """Return *at* in UTC and, where it differs, local time; no date on the day of *near*."""
    shown = clock(at, near=near, seconds=True)
    return shown if zone == "UTC" else f"{shown} ({local(at, zone)} {zone})"


def local(at: datetime, zone: str) -> str:
    """Return the local time of *at*, with its date where that is not UTC's."""
    stamp = pd.Timestamp(at)
    there = stamp.tz_convert(zoneinfo.ZoneInfo(zone))
    form = "%H:%M:%S" if there.date() == stamp.tz_convert("UTC").date() else "%Y-%m-%d %H:%M:%S"
    return str(there.strftime(form))


def summary(made: Postmortem) -> list[str]:
    """Return the summary in numbers, one sentence a line."""
    impact = made.impact
    lines = [_what(made)]
    lines.append(_delay(impact))
    if impact.peak_lag_messages is not None:
        lines.append(_peaks(made))
    lines.append(loss_sentence(impact))
    lines.append(_noticed(made))
    lines.append(_ended(made))
    lines.append(_cause(made))
    return lines


def _what(made: Postmortem) -> str:
    incident = made.incident
    topics = ", ".join(incident.topics) or "no topic"
    if made.onset is None:
        return (
            f"{incident.group} on {topics}: no onset of a growing backlog was found between "
            f"{both_clocks(incident.start, made.zone)} and {clock(incident.end, seconds=True)}."
        )
    begun = both_clocks(made.onset.at, made.zone)
    how = f" ({onset_text(made.onset)})" if made.onset.censored else ""
    return f"{incident.group} on {topics} fell behind from {begun}{how}."


def _delay(impact: Impact) -> str:
    promise = duration(impact.promise_seconds)
    if impact.messages_delayed is None or impact.delay_message_seconds is None:
        why = impact.cannot_tell.get("messages_delayed") or impact.cannot_tell.get(
            "delay_message_seconds", ""
        )
        return f"How many messages were late cannot be computed: {why}."
    bound = "at least " if impact.delays_are_at_least else ""
    line = (
        f"{count(impact.messages_delayed)} messages waited longer than the promise of {promise}; "
        f"all waits together are {count(impact.delay_message_seconds)} message-seconds"
    )
    if impact.mean_delay_seconds is not None and impact.max_delay_seconds is not None:
        line += (
            f"; a message waited {bound}{duration(impact.mean_delay_seconds)} in the mean, "
            f"{duration(impact.p95_delay_seconds)} at the 95th percentile and "
            f"{duration(impact.max_delay_seconds)} at most"
        )
    return f"{line}."


def _peaks(made: Postmortem) -> str:
    impact = made.impact
    line = f"The backlog reached {count(impact.peak_lag_messages)} messages"
    if impact.peak_lag_at is not None:
        line += f" at {clock(impact.peak_lag_at, near=made.incident.start, seconds=True)}"
    if impact.peak_age_seconds is not None and impact.peak_partition is not None:
        place = (
            f"partition {impact.peak_partition} of {impact.peak_topic}"
            if impact.peak_partition >= 0
            else impact.peak_topic
        )
        line += (
            f"; the oldest unread message was {duration(impact.peak_age_seconds)} old, in {place}"
        )
    if impact.promise_minutes_broken is not None:
        broken = duration(impact.promise_minutes_broken * 60)
        line += f"; the promise was broken for {broken}"
        if impact.budget_used:
            line += (
                f", {percent(impact.budget_used)} of what an objective of "
                f"{percent(impact.objective)} of minutes allows in 30 days"
            )
    return f"{line}."


def loss_sentence(impact: Impact) -> str:
    """Return what is known of messages that were deleted unread."""
    if impact.loss == "lost":
        least = "" if not impact.loss_because else "at least "
        why = f" ({impact.loss_because})" if impact.loss_because else ""
        told = f"{least}{count(impact.messages_lost)} messages were deleted unread{why}."
        return told[:1].upper() + told[1:]
    if impact.loss == "proved_none":
        return (
            "No message was deleted unread: the log starts never passed what the group had "
            "committed (proved)."
        )
    return f"Whether messages were deleted unread cannot be told: {impact.loss_because}."


def _noticed(made: Postmortem) -> str:
    seen = made.detection
    if not seen.alert:
        return (
            f"No alert told of it: {made.stamp('alert').why}."
            if made.stamps
            else ("Whether an alert told of it is not known.")
        )
    if seen.ttd_seconds is None:
        if seen.fired_at is None:
            return f"The alert {seen.alert} fired."
        fired = both_clocks(seen.fired_at, made.zone, near=made.incident.start)
        return f"The alert {seen.alert} fired at {fired}."
    line = f"The alert {seen.alert} fired {duration(seen.ttd_seconds)} after the onset"
    if seen.gap_seconds is not None and seen.for_seconds is not None:
        line += (
            f": {duration(seen.gap_seconds)} until its expression was true, then "
            f"{duration(seen.for_seconds)} of waiting (its for:)"
        )
    return f"{line}."


def _ended(made: Postmortem) -> str:
    known = {stamp.name: stamp for stamp in made.stamps}
    recovery = known.get("recovery")
    if recovery is not None and recovery.at is not None:
        taken = made.interval("TTR").seconds
        after = f", {duration(taken)} after the onset" if taken is not None else ""
        note = f" ({recovery.why})" if recovery.why else ""
        since = both_clocks(recovery.at, made.zone, near=made.incident.start)
        return f"It was within its promise again from {since}{after}{note}."
    return f"When the data end, {STATES[made.state]}{_left(made.impact)}."


def _left(impact: Impact) -> str:
    if impact.unread_at_end is None:
        return ""
    return f", with {count(impact.unread_at_end)} messages unread"


def _cause(made: Postmortem) -> str:
    chain = made.chain
    if chain.cause == "unknown":
        return f"The evidence does not single out a cause ({chain.summary})."
    if chain.cause == "none":
        return f"By the evidence this was no incident: {chain.summary}."
    more = [made.chain.titles.get(entry.cause, entry.cause) for entry in chain.contributing]
    beside = f", together with {', '.join(more).lower()}" if more else ""
    return f"By the evidence it is {chain.likelihood_term} to be {chain.title.lower()}{beside}."


def stamp_text(stamp: Stamp, made: Postmortem) -> str:
    """Return when *stamp* was, or why that is not known."""
    if stamp.at is None:
        return f"not known: {stamp.why}"
    note = f" ({stamp.why})" if stamp.why else ""
    return f"{both_clocks(stamp.at, made.zone, near=made.incident.start)}{note}"


def accuracy(seconds: float | None) -> str:
    """Return how far a time may be off."""
    if seconds is None:
        return "not known"
    return f"±{duration(seconds)}" if seconds >= 0.05 else "exact"


def interval_text(interval: Interval) -> str:
    """Return how long *interval* was, or why that is not known."""
    if interval.seconds is None:
        return f"not known ({interval.why})"
    return f"{duration(interval.seconds)} {accuracy(interval.uncertainty_seconds)}"


# ── facts ───────────────────────────────────────────────────────────────────────────────────────


FACTS: dict[str, dict[str, str]] = {
    "no_loss": {
        "title": "No data lost",
        "holds": "no message was deleted unread: proved from the log starts",
        "does_not_hold": "{lost:count} messages were deleted unread",
    },
    "told_before_breach": {
        "title": "Told before the promise broke",
        "holds": "{alert} fired {ahead_seconds:duration} before the promise was broken",
        "does_not_hold": "no alert fired before the promise was broken",
        "late": "{alert} fired {ahead_seconds:duration} after the promise was broken",
    },
    "drained_as_forecast": {
        "title": "Drained as forecast",
        "holds": "it had recovered at {recovered_at:clock}, no later than the forecast's "
        "{high_at:clock}; the forecast's middle was {forecast_at:clock}",
        "does_not_hold": "it had recovered at {recovered_at:clock}, later than the forecast's "
        "{high_at:clock}",
    },
    "others_kept": {
        "title": "Partitions that kept the promise",
        "holds": "{kept:count} of {partitions:count} partitions kept the promise",
        "does_not_hold": "none of {partitions:count} partitions kept the promise",
    },
    "recovery_held": {
        "title": "Recovery held",
        "holds": "the age stayed within the promise for {held_seconds:duration}, to the end of the "
        "data",
    },
    "evidence_complete": {
        "title": "Evidence was there",
        "holds": "{checks:count} of {of:count} checks had data",
        "does_not_hold": "{checks:count} of {of:count} checks had data",
    },
    "retention_margin": {
        "title": "Margin to data loss",
        "holds": "near miss: the oldest unread message was {peak_age_seconds:duration} old of "
        "{retention_seconds:duration} of retention; {margin_seconds:duration} were left",
        "does_not_hold": "no near miss: at the worst point {margin_seconds:duration} of "
        "{retention_seconds:duration} were left before unread messages are deleted",
    },
    "spare_parallelism": {
        "title": "Room to scale out",
        "holds": "{spare:count} of {partitions:count} partitions could still get a member of "
        "their own ({members:count} members)",
        "does_not_hold": "no room: {members:count} members for {partitions:count} partitions",
    },
    "weekly_peak": {
        "title": "The same at the weekly peak",
        "holds": "lucky hour: at the week's peak ({peak_rate_per_second:number}/s at "
        "{peak_hour_at:clock}, {factor:number} times the {rate_per_second:number}/s here) the "
        "oldest message would have been {would_be_age_seconds:duration} old and the backlog "
        "{would_be_backlog_messages:count} messages",
        "does_not_hold": "no luck in the hour: it came at the week's peak "
        "({rate_per_second:number}/s; the busiest other hour had {peak_rate_per_second:number}/s)",
    },
}
"""By fact its title and a sentence per outcome; ``{name:form}`` are its numbers."""


def fact_text(fact: Fact) -> tuple[str, str]:
    """Return title and sentence of *fact*."""
    words = FACTS[fact.id]
    if fact.outcome == "cannot_tell":
        extra = ""
        if "data_seconds" in fact.numbers:
            seen, needed = (fact.numbers[key] for key in ("data_seconds", "needed_seconds"))
            assert isinstance(seen, float)
            assert isinstance(needed, float)
            extra = f" (the data cover {duration(seen)} of {duration(needed)})"
        return words["title"], f"cannot be told: {fact.why}{extra}"
    kind = str(fact.outcome)
    if fact.id == "told_before_breach" and kind == "does_not_hold" and fact.numbers:
        kind = "late"
    return words["title"], _filled(words[kind], fact)


def _filled(words: str, fact: Fact) -> str:
    import string

    pieces: list[str] = []
    for literal, name, form, _ in string.Formatter().parse(words):
        pieces.append(literal)
        if name:
            pieces.append(_shown(fact.numbers.get(name), form or ""))
    return "".join(pieces)


def _shown(value: object, form: str) -> str:
    if isinstance(value, datetime):
        return clock(value, seconds=True)
    if isinstance(value, int | float):
        how = {"count": count, "duration": duration, "number": number}[form]
        return how(float(value))
    return "unknown" if value is None else str(value)


def partitions_text(topic: str, broken: int, partitions: int) -> str:
    """Return how many partitions of *topic* broke the promise."""
    return f"{broken} of {plural(partitions, 'partition')}"

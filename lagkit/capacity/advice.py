"""One sentence of verdict a group, and what a person may do about it, tied to what was seen.

An action is typed, says why with the numbers behind it, and when it is done: what a post-mortem
needs of one. :func:`action_items` gives them for an incident that was bound by capacity.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

from lagkit.capacity.forecast import LOST_ERROR, Saturation
from lagkit.capacity.model import ActionItem, Answer, Level, SaturationDate, Trend
from lagkit.wording import duration, number, percent, plural

ACT_WEEKS = 26
"""A range that begins within half a year is acted on, a later one is watched."""
NEAR_LOSS = 0.5
"""Worst use of the retention from which a group is watched."""
HOT = 2.0
"""A partition with this many times the mean demand is a limit of its own."""


def judged(trend: Trend, passed: Saturation, all_the_time: bool) -> Trend:
    """Return *trend* with its level, its sentence and its actions."""
    level, sentence = _verdict(trend, passed, all_the_time)
    trend = replace(trend, level=level, verdict=sentence)
    return replace(trend, actions=_actions(trend))


def months(earliest: datetime, latest: datetime | None) -> str:
    """Return a range of dates in months, in days where it lies in one: ``2027-02 to 2027-03``."""
    if latest is None:
        return f"{earliest:%Y-%m} at the earliest, the end is open"
    if earliest.date() == latest.date():
        return f"{earliest:%Y-%m-%d}"
    if f"{earliest:%Y-%m}" == f"{latest:%Y-%m}":
        return f"{earliest:%Y-%m-%d} to {latest:%Y-%m-%d}"
    return f"{earliest:%Y-%m} to {latest:%Y-%m}"


def action_items(answer: Answer, group: str, topic: str | None = None) -> tuple[ActionItem, ...]:
    """Return what the trend of *group* suggests, for the candidates of a post-mortem.

    To be used where an incident was bound by capacity: too few partitions or members, handling too
    slow for the demand, or a spike above what can be read. Empty where the answer knows no such
    group. The post-mortem decides; nothing here is an order.
    """
    found = [
        action
        for trend in answer.trends
        if trend.group == group and (topic is None or trend.topic == topic)
        for action in trend.actions
    ]
    return tuple({action.id: action for action in found}.values())


def what_helps(
    wanted: int,
    members: int,
    partitions: int | None,
    skew: float | None,
    peak: float,
    each: float,
) -> str:
    """Return which of members and partitions would help; *each*: what one may take, per second."""
    if partitions and skew and skew >= HOT and peak / partitions * skew > each:
        hot = peak / partitions * skew
        return (
            f"the busiest partition alone gets {number(hot)}/s of {number(each)}/s that one member "
            "may take: neither helps, the keys must be spread"
        )
    if wanted <= members and (partitions is None or wanted <= partitions):
        return "what there is will do"
    if partitions is None:
        return f"{plural(wanted - members, 'more member')}, if there are partitions for them"
    if wanted <= partitions:
        return f"{plural(wanted - members, 'more member')}; partitions are enough"
    parts = [f"{plural(wanted - partitions, 'more partition')} (keys move; no backlog is drained)"]
    if wanted > members:
        parts.append(f"and {plural(wanted - members, 'more member')}")
    if members < partitions:
        parts.append(f"members alone help up to {partitions}")
    return " ".join(parts[:2]) + (f"; {parts[2]}" if len(parts) > 2 else "")


def _verdict(trend: Trend, passed: Saturation, all_the_time: bool) -> tuple[Level, str]:
    date, use = trend.saturation, trend.retention_worst_use
    numbers = _numbers(trend)
    if all_the_time:
        return "act", f"act now: it was behind for most of the time{numbers}"
    if use is not None and use > 1:
        return "act", (
            f"act now: its backlog outgrew what the topic keeps ({percent(use)}), so records were "
            "deleted unread"
        )
    if date.status == "passed":
        if math.isinf(passed.latest):
            return "act", f"act now: it is about at its target{numbers}"
        return "act", f"act now: it is above its target already{numbers}"
    if date.status == "range" and date.earliest is not None:
        when = months(date.earliest, date.latest)
        if (date.weeks_earliest or 0.0) < 1.0:
            latest = "" if date.latest is None else f", by {date.latest:%Y-%m-%d} at the latest"
            return "act", f"act now: the target may be passed already{latest}{numbers}"
        if (date.weeks_earliest or 0.0) <= ACT_WEEKS:
            return "act", f"act before {when}{numbers}"
        return "watch", f"watch: the target is passed {when}{numbers}"
    if use is not None and use > NEAR_LOSS:
        return "watch", (
            f"watch: its worst backlog was {percent(use)} of what the topic keeps{numbers}"
        )
    if date.status == "no_demand":
        return "unknown", f"unknown: {date.reason}"
    if date.status == "capacity_unknown":
        growing = trend.demand is not None and trend.demand.per_week > 0
        word: Level = "watch" if growing else "unknown"
        text = f"{word}: {date.reason}"
        if growing and trend.demand is not None:
            text += f", and its demand grows by {number(trend.demand.per_week)}/s a week"
        return word, text
    if date.status == "too_short":
        return "unknown", f"unknown: {date.reason}{numbers}"
    error = trend.forecast.naive_error
    if date.status == "no_baseline" and error is not None and error > LOST_ERROR:
        return "watch", (
            "watch: no forecast holds, even the same hour a week ago is off by "
            f"{percent(error)} of the mean demand{numbers}"
        )
    reason = date.reason if date.status == "none" else "no growth that a forecast could show"
    return "fine", f"fine: {reason}{numbers}"


def _numbers(trend: Trend) -> str:
    if trend.utilisation is None or trend.demand is None or trend.limit is None:
        return ""
    return (
        f"; the weekly peak of {number(trend.demand.peak)}/s is {percent(trend.utilisation)} of "
        f"the {number(trend.limit.per_second)}/s it can read"
    )


def _actions(trend: Trend) -> tuple[ActionItem, ...]:
    name = f"{trend.group}/{trend.topic}"
    actions: list[ActionItem] = []
    date, needed, limit = trend.saturation, trend.needed, trend.limit
    due = _due(date)
    if trend.level in ("act", "watch") and needed is not None and needed.members is not None:
        members = trend.members or 0
        evidence = _evidence(trend)
        hot = trend.skew is not None and "keys must be spread" in needed.helps
        if hot:
            actions.append(
                ActionItem(
                    f"{name}:spread_keys",
                    "spread_keys",
                    f"Spread the keys of {trend.topic} over its partitions",
                    f"its busiest partition gets {number(trend.skew)} times the mean; "
                    f"{needed.helps}",
                    evidence,
                    "the busiest partition gets less than twice the mean over a week",
                    due,
                )
            )
        if not hot and needed.partitions and needed.partitions > (trend.partitions or 0):
            actions.append(
                ActionItem(
                    f"{name}:add_partitions",
                    "add_partitions",
                    f"Give {trend.topic} {needed.partitions} partitions ({trend.partitions} now)",
                    f"{needed.helps}; keyed order changes when they are added",
                    evidence,
                    f"{trend.topic} has {needed.partitions} partitions and every consumer that "
                    "relies on the order of a key has been drained once",
                    due,
                )
            )
        if not hot and needed.members > members:
            actions.append(
                ActionItem(
                    f"{name}:add_members",
                    "add_members",
                    f"Run {needed.members} members of {trend.group} ({members} now)",
                    f"{number(needed.peak)}/s is expected at the weekly peak in "
                    f"{needed.in_weeks} weeks; {needed.helps}",
                    evidence,
                    "utilisation at the weekly peak is below the target for two weeks",
                    due,
                )
            )
    if trend.level in ("act", "watch") and needed is not None and needed.members is None:
        actions.append(
            ActionItem(
                f"{name}:add_members",
                "add_members",
                f"Let {trend.group} read {number(needed.peak)}/s at its peak with room to spare",
                f"in {needed.in_weeks} weeks it needs {needed.helps}",
                _evidence(trend),
                "utilisation at the weekly peak is below the target for two weeks",
                due,
            )
        )
    if limit is not None and limit.lower_bound and trend.demand is not None:
        actions.append(
            ActionItem(
                f"{name}:measure",
                "measure",
                f"Measure what {trend.group} can read",
                "its capacity was never seen, so no date and no survivable stop can be given",
                (f"highest rate seen {number(limit.per_second)}/s", limit.basis),
                "a stop of some minutes off the peak has been worked off once, and its rate read "
                "by `lagkit capacity`",
            )
        )
    use = trend.retention_worst_use
    if use is not None and use > NEAR_LOSS:
        kept = duration(trend.retention_seconds) if trend.retention_seconds else "unknown"
        actions.append(
            ActionItem(
                f"{name}:retention",
                "retention",
                f"Keep the records of {trend.topic} for longer",
                f"the worst backlog was {percent(use)} of what is kept",
                (f"records were kept for {kept}",),
                f"the worst use of the retention is below {percent(NEAR_LOSS)} over four weeks",
            )
        )
    return tuple(actions)


def _due(date: SaturationDate) -> datetime | None:
    return date.earliest if date.status == "range" else None


def _evidence(trend: Trend) -> tuple[str, ...]:
    found = []
    if trend.demand is not None:
        found.append(
            f"weekly peak {number(trend.demand.peak)}/s ({trend.demand.peak_hour}), growing by "
            f"{number(trend.demand.per_week)}/s a week"
        )
    if trend.limit is not None:
        found.append(f"capacity {number(trend.limit.per_second)}/s, {trend.limit.basis}")
    if trend.forecast.model_error is not None:
        found.append(
            f"back-test over {plural(trend.forecast.origins, 'origin')}: error "
            f"{trend.forecast.model_error:.1%}, seasonal-naive {trend.forecast.naive_error:.1%}"
        )
    return tuple(found)

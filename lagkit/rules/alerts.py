"""The alerts: each with what it needs of the metrics, and what is said where that is missing.

The runbook's four keep their names, so that whoever routes them need change nothing; what was wrong
with them is mended (``lagkit rules lint`` says what). Sources of the rest: burn rates as in the SRE
workbook's chapter on alerting, standstill and rewind after Burrow's evaluator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lagkit.rules.records import (
    ABILITIES,
    COMMITTED,
    DELETED,
    END,
    GROUP_UNREAD,
    MARGIN,
    PROMISE_BROKEN,
    PROMISE_USED,
    TOPIC_AGE,
    TOPIC_UNREAD,
    UNREAD,
    WITHOUT_MEMBERS,
)
from lagkit.rules.ruleset import LeftOut, Rule
from lagkit.rules.wishes import duration
from lagkit.sources.dialects import one_of, quoted

if TYPE_CHECKING:
    from lagkit.rules.wishes import Wishes
    from lagkit.sources.dialects import Found

_OF_TOPIC = "{{ $labels.group }} on {{ $labels.topic }}"
_AT_LEAST = "at least {{ $value | humanizeDuration }}"
_TOPIC = "cluster, group, topic"
_NEXT = " Next: lagkit investigate, with this group."


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of alert: its rules under *wishes*, and the ABILITIES they need."""

    name: str
    needs: tuple[str, ...]
    rules: Callable[[Wishes, frozenset[str]], list[Rule]]


def alerts(
    found: Found, wishes: Wishes, has: frozenset[str]
) -> tuple[tuple[Rule, ...], tuple[LeftOut, ...]]:
    """Return the alert rules that *has* allows, and those it does not."""
    rules: list[Rule] = []
    left_out: list[LeftOut] = []
    for kind in _KINDS:
        lacking = [need for need in kind.needs if need not in has]
        if lacking:
            left_out.append(_lacking(kind.name, lacking[0], found))
            continue
        made = kind.rules(wishes, has)
        rules += made
        if not made:
            left_out.append(_not_wished(kind.name))
    return tuple(rules), tuple(left_out)


def own_name(group: str) -> str:
    """Return the name of a group's own alert: deployment-worker → DeploymentWorkerLagging."""
    words = re.findall(r"[A-Za-z0-9]+", group)
    name = "".join(word[:1].upper() + word[1:] for word in words)
    return f"{name if name[:1].isalpha() else 'Group' + name}Lagging"


def _lacking(name: str, need: str, found: Found) -> LeftOut:
    # what the dialect itself says of such a gap comes with the line that mends it
    words = {
        "offsets": ("offset", "lag from"),
        "partitions": ("single partition",),
        "log_start": ("log start",),
        "empty": ("member",),
        "unread": ("lag from",),
    }[need]
    gap = next((gap for gap in found.gaps if any(word in gap.what for word in words)), None)
    why = f"{found.dialect.title} does not tell {ABILITIES[need]}"
    broker = gap is None or "--bootstrap" in gap.fix
    fix = (
        "Deploy an exporter that does (docs/prometheus.md has the table)."
        if gap is None or broker
        else gap.fix
    )
    return LeftOut(name, why, fix)


def _not_wished(name: str) -> LeftOut:
    if name == "BacklogReachesRetention":
        return LeftOut(
            name,
            "no retention was given",
            "Give --retention 7d, or --retention TOPIC=6h for each topic that differs.",
        )
    return LeftOut(name, "no critical group was named", "Give --critical GROUP.")


def _alert(
    name: str, expr: str, hold: str, severity: str, summary: str, description: str,
    **labels: str,
) -> Rule:  # fmt: skip
    return Rule(
        expr,
        alert=name,
        hold=hold,
        labels={"severity": severity, **labels},
        annotations={"summary": summary, "description": description},
    )


# ── the promise ─────────────────────────────────────────────────────────────────────────────────


def _burn(wishes: Wishes, long: str, short: str, factor: float) -> str:
    limit = f"{factor:g} * {wishes.budget:g}"
    return (
        f"avg_over_time({PROMISE_BROKEN}[{long}]) > {limit}\n"
        f"and\navg_over_time({PROMISE_BROKEN}[{short}]) > {limit}"
    )


def _fast_burn(wishes: Wishes, _: frozenset[str]) -> list[Rule]:
    return [
        _alert(
            "LagPromiseFastBurn",
            _burn(wishes, "1h", "5m", 14.4),
            "2m",
            "page",
            f"{_OF_TOPIC} burns its month's budget of late minutes in two days",
            "In {{ $value | humanizePercentage }} of the last hour the oldest unread message was "
            f"older than promised; {wishes.objective:g} % of a month must keep the promise.{_NEXT}",
        )
    ]


def _slow_burn(wishes: Wishes, _: frozenset[str]) -> list[Rule]:
    return [
        _alert(
            "LagPromiseSlowBurn",
            _burn(wishes, "6h", "30m", 6),
            "5m",
            "page",
            f"{_OF_TOPIC} burns its month's budget of late minutes in five days",
            "In {{ $value | humanizePercentage }} of the last six hours the oldest unread message "
            f"was older than promised.{_NEXT}",
        )
    ]


def _ticket_burn(wishes: Wishes, _: frozenset[str]) -> list[Rule]:
    expression = "\nor\n".join((_burn(wishes, "1d", "2h", 3), _burn(wishes, "3d", "6h", 1)))
    return [
        _alert(
            "LagPromiseBudget",
            expression,
            "15m",
            "ticket",
            f"{_OF_TOPIC} will not keep its promise over the month",
            "For days the oldest unread message has been older than promised too often: "
            "{{ $value | humanizePercentage }} of the time.",
        )
    ]


# ── the runbook's four, mended ──────────────────────────────────────────────────────────────────


def _high(wishes: Wishes, _: frozenset[str]) -> list[Rule]:
    del wishes
    return [
        _alert(
            "KafkaConsumerLagHigh",
            f"{TOPIC_AGE} and {PROMISE_USED} >= 1",
            "5m",
            "high",
            f"{_OF_TOPIC} is late: the oldest unread message has waited {_AT_LEAST}",
            f"Time and not a count: longer than promised for five minutes.{_NEXT}",
        )
    ]


def _growing(_: Wishes, has: frozenset[str]) -> list[Rule]:
    if "offsets" in has:
        return [
            _alert(
                "KafkaConsumerLagGrowing",
                f"deriv({TOPIC_UNREAD}[15m]) > 0\nand\n{PROMISE_USED} >= 0.5",
                "10m",
                "warning",
                f"{_OF_TOPIC} falls behind by {{{{ $value | humanize }}}} messages a second",
                "The backlog has grown for a quarter of an hour, and half of the promise or more "
                f"is used up.{_NEXT}",
            )
        ]
    return [
        _alert(
            "KafkaConsumerLagGrowing",
            f"deriv({GROUP_UNREAD}[15m]) > 0\nand\nmin_over_time({GROUP_UNREAD}[15m]) > 0",
            "15m",
            "warning",
            "{{ $labels.group }} falls behind by {{ $value | humanize }} messages a second",
            f"The backlog has grown for half an hour and was never worked off.{_NEXT}",
        )
    ]


def _not_consuming(wishes: Wishes, _: frozenset[str]) -> list[Rule]:
    window = duration(wishes.stalled)
    return [
        _alert(
            "KafkaConsumerNotConsuming",
            f"{TOPIC_UNREAD}\nand\nmin_over_time({TOPIC_UNREAD}[{window}]) > 0\nand\n"
            f"sum by ({_TOPIC}) (changes({COMMITTED}[{window}])) == 0",
            "5m",
            "high",
            f"{_OF_TOPIC} has committed nothing for {window}, "
            "with {{ $value | humanize }} messages unread",
            "No partition advances, whether messages still arrive or not. An idle topic has "
            f"nothing unread and does not fire.{_NEXT}",
        )
    ]


def _critical(wishes: Wishes, _: frozenset[str]) -> list[Rule]:
    return [
        _alert(
            own_name(group),
            f"{TOPIC_AGE}{{group={quoted(group)}}} and {PROMISE_USED} >= 0.5",
            "2m",
            "high",
            f"{_OF_TOPIC} is falling behind: the oldest unread message has waited {_AT_LEAST}",
            f"Half of the promise of a critical group is used up.{_NEXT}",
        )
        for group in wishes.critical
    ]


# ── standstill, rewind, nobody there ────────────────────────────────────────────────────────────


def _partition_stalled(wishes: Wishes, _: frozenset[str]) -> list[Rule]:
    window = duration(wishes.stalled)
    moved = f"changes({COMMITTED}[{window}])"
    return [
        _alert(
            "PartitionStalled",
            f"{UNREAD}\nand\nmin_over_time({UNREAD}[{window}]) > 0\nand\n{moved} == 0\n"
            f"and on ({_TOPIC})\nsum by ({_TOPIC}) ({moved}) > 0",
            "5m",
            "page",
            "partition {{ $labels.partition }} of {{ $labels.topic }} stands still for "
            "{{ $labels.group }}, with {{ $value | humanize }} messages unread",
            f"No commit for {window} while other partitions of the topic advance: a record that "
            f"cannot be handled, or a partition that nobody owns.{_NEXT}",
        )
    ]


def _rewound(_: Wishes, __: frozenset[str]) -> list[Rule]:
    return [
        _alert(
            "OffsetRewound",
            f"max_over_time({COMMITTED}[10m]) - {COMMITTED} > 0\n"
            "unless on (cluster, topic, partition)\n"
            f"resets({END}[10m]) > 0",
            "1m",
            "warning",
            "{{ $labels.group }} went back by {{ $value | humanize }} messages on partition "
            "{{ $labels.partition }} of {{ $labels.topic }}",
            "The committed offset is lower than it was: a seek, a reset or restored offsets. "
            "What is read again is handled again. A topic that was made anew does not fire.",
        )
    ]


def _empty(_: Wishes, has: frozenset[str]) -> list[Rule]:
    still = (
        f"\nunless on (cluster, group)\nsum by (cluster, group) (changes({COMMITTED}[5m])) > 0"
        if "offsets" in has
        else ""
    )
    return [
        _alert(
            "GroupEmptyWithBacklog",
            f"{GROUP_UNREAD} > 0\nand on (cluster, group)\n{WITHOUT_MEMBERS} == 1{still}",
            "3m",
            "page",
            "{{ $labels.group }} has no member, and {{ $value | humanize }} messages wait",
            f"Nobody reads: the consumers are down, were scaled to none, or cannot join.{_NEXT}",
        )
    ]


# ── metrics that are not there ──────────────────────────────────────────────────────────────────


def _missing(wishes: Wishes, has: frozenset[str]) -> list[Rule]:
    metric = COMMITTED if "offsets" in has else GROUP_UNREAD
    of_each = [f"absent({metric}{{group={quoted(group)}}})" for group in wishes.expected]
    return [
        _alert(
            "LagMetricsMissing",
            "\nor\n".join([f"absent({metric})", *of_each]),
            "5m",
            "page",
            "{{ if $labels.group }}{{ $labels.group }} has no lag metric{{ else }}"
            "no consumer group has any lag metric{{ end }}",
            "A missing metric is not a lag of zero, and no other alert about it can fire: the "
            "exporter is down, filters the group out, cannot reach the brokers, is not scraped, "
            "or the group's commits have expired.",
        )
    ]


def _vanished(_: Wishes, __: frozenset[str]) -> list[Rule]:
    return [
        _alert(
            "GroupMetricsVanished",
            f"last_over_time({GROUP_UNREAD}[1h]) unless {GROUP_UNREAD}",
            "10m",
            "warning",
            "{{ $labels.group }} no longer has lag metrics; {{ $value | humanize }} messages were "
            "unread when they ended",
            "A group that was there within the hour is not there any more: deleted, expired, or "
            "lost by its exporter.",
        )
    ]


def _unknown(_: Wishes, has: frozenset[str]) -> list[Rule]:
    unit = f"{_TOPIC}, partition" if "partitions" in has else _TOPIC
    return [
        _alert(
            "LagUnknown",
            f"count by ({_TOPIC}) ({COMMITTED} unless on ({unit}) {UNREAD})",
            "5m",
            "warning",
            f"{{{{ $value }}}} partition(s) of {_OF_TOPIC} have commits and no log end",
            "How far behind the group is there is unknown, not zero: the topic was deleted, or "
            "the exporter lost its log ends, as some do after a broker restart.",
        )
    ]


# ── loss ────────────────────────────────────────────────────────────────────────────────────────


def _retention(wishes: Wishes, _: frozenset[str]) -> list[Rule]:
    limits: list[str] = []
    for topic, kept in sorted(wishes.retentions.items()):
        limit = kept - wishes.horizon(kept)
        limits.append(f"{TOPIC_AGE}{{topic={quoted(topic)}}} >= {limit:g}")
    if wishes.retention is not None:
        limit = wishes.retention - wishes.horizon(wishes.retention)
        others = f"{{topic!~{one_of(sorted(wishes.retentions))}}}" if wishes.retentions else ""
        limits.append(f"{TOPIC_AGE}{others} >= {limit:g}")
    if not limits:
        return []
    return [
        _alert(
            "BacklogReachesRetention",
            "\nor\n".join(limits),
            "5m",
            "page",
            f"{_OF_TOPIC}: unread messages are {{{{ $value | humanizeDuration }}}} old, "
            "and may soon be deleted",
            "Two thirds of the retention are used up, or all of it but a day. By the time rule "
            "this is the earliest deletion; retention.bytes and a full disk delete sooner.",
        )
    ]


def _log_start(_: Wishes, __: frozenset[str]) -> list[Rule]:
    return [
        _alert(
            "LogStartCatchingUp",
            f"{MARGIN} > 0\nand\npredict_linear({MARGIN}[6h], 2 * 3600) < 0\nand\n"
            f"deriv({MARGIN}[6h]) < 0\nand\n{UNREAD} > 0\n"
            f"and on ({_TOPIC})\n{PROMISE_BROKEN} == 1",
            "10m",
            "page",
            "partition {{ $labels.partition }} of {{ $labels.topic }}: the log start reaches "
            "{{ $labels.group }} within two hours, {{ $value | humanize }} messages from now",
            "Whichever rule deletes them (time, bytes or disk), records are going faster than the "
            "group reads. The log start moves by whole segments, so the time is rough.",
        )
    ]


def _deleted(_: Wishes, __: frozenset[str]) -> list[Rule]:
    return [
        _alert(
            "RecordsDeletedUnread",
            f"{DELETED} - {DELETED} offset 15m > 0",
            "",
            "page",
            "{{ $value | humanize }} messages of partition {{ $labels.partition }} of "
            "{{ $labels.topic }} were deleted before {{ $labels.group }} read them",
            "The log start has passed the committed offset: proven loss, in the last quarter of "
            "an hour.",
        )
    ]


_KINDS: tuple[_Kind, ...] = (
    _Kind("LagPromiseFastBurn", ("unread", "offsets"), _fast_burn),
    _Kind("LagPromiseSlowBurn", ("unread", "offsets"), _slow_burn),
    _Kind("LagPromiseBudget", ("unread", "offsets"), _ticket_burn),
    _Kind("KafkaConsumerLagHigh", ("unread", "offsets"), _high),
    _Kind("KafkaConsumerLagGrowing", ("unread",), _growing),
    _Kind("KafkaConsumerNotConsuming", ("unread", "offsets"), _not_consuming),
    _Kind("an alert of its own for each critical group", ("unread", "offsets"), _critical),
    _Kind("PartitionStalled", ("unread", "offsets", "partitions"), _partition_stalled),
    _Kind("OffsetRewound", ("unread", "offsets", "partitions"), _rewound),
    _Kind("GroupEmptyWithBacklog", ("unread", "empty"), _empty),
    _Kind("LagMetricsMissing", ("unread",), _missing),
    _Kind("GroupMetricsVanished", ("unread",), _vanished),
    _Kind("LagUnknown", ("unread", "offsets"), _unknown),
    _Kind("BacklogReachesRetention", ("unread", "offsets"), _retention),
    _Kind("LogStartCatchingUp", ("unread", "offsets", "partitions", "log_start"), _log_start),
    _Kind("RecordsDeletedUnread", ("unread", "offsets", "partitions", "log_start"), _deleted),
)
KIND_NAMES: Mapping[str, tuple[str, ...]] = {kind.name: kind.needs for kind in _KINDS}
"""Alert → the ABILITIES that it needs."""

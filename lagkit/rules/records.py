"""Recording rules: every dialect under the same names and labels, so that all else is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lagkit.rules.ruleset import Rule
from lagkit.rules.wishes import duration
from lagkit.sources.dialects import GROUP, GROUP_TOPIC, one_of, quoted

if TYPE_CHECKING:
    from lagkit.rules.wishes import Wishes
    from lagkit.sources.dialects import Canonical

END = "lagkit:log_end:offset"
START = "lagkit:log_start:offset"
COMMITTED = "lagkit:committed:offset"
UNREAD_FROM = "lagkit:unread_from:offset"
UNREAD = "lagkit:unread:messages"
DELETED = "lagkit:deleted_unread:messages"
MARGIN = "lagkit:margin:messages"
AGE = "lagkit:age:seconds"
TOPIC_UNREAD = "lagkit:group_topic_unread:messages"
TOPIC_AGE = "lagkit:group_topic_age:seconds"
PROMISE_USED = "lagkit:group_topic_promise_used:ratio"
PROMISE_BROKEN = "lagkit:group_topic_promise_broken:bool"
WRITTEN = "lagkit:topic_written:rate5m"
READ = "lagkit:group_topic_read:rate5m"
GROUP_UNREAD = "lagkit:group_unread:messages"
MEMBERS = "lagkit:group_members:count"
WITHOUT_MEMBERS = "lagkit:group_without_members:bool"

ABILITIES = {
    "unread": "how much a group has not read",
    "offsets": "where a group is, and where the log ends",
    "partitions": "both of single partitions",
    "log_start": "where the log begins",
    "members": "how many members a group has",
    "empty": "whether a group has members",
}


def recorded(canonical: Canonical, wishes: Wishes) -> tuple[tuple[Rule, ...], frozenset[str]]:
    """Return the recording rules that *canonical* allows, and which ABILITIES they give."""
    rules: list[Rule] = []
    has: set[str] = set()
    end = canonical.log_end()
    committed = canonical.committed(END) if end else ""
    if end and committed:
        has |= {"unread", "offsets"}
        if "partition" in canonical.unit:
            has.add("partitions")
        rules += [Rule(end, END), Rule(committed, COMMITTED)]
        if start := canonical.log_start():
            has.add("log_start")
            rules += _log_start(start, canonical)
        rules += _unread(canonical, wishes, has)
    elif lag := canonical.lag_of_group():
        has.add("unread")
        rules.append(Rule(lag, GROUP_UNREAD))
    if members := canonical.members():
        has.add("members")
        rules.append(Rule(members, MEMBERS))
    if without := canonical.without_members():
        has.add("empty")
        rules.append(Rule(without, WITHOUT_MEMBERS))
    return tuple(rules), frozenset(has)


def _log_start(start: str, canonical: Canonical) -> list[Rule]:
    by_log = f"on ({', '.join(canonical.log)}) group_left ()"
    return [
        Rule(start, START),
        Rule(f"{COMMITTED} - {by_log} {START}", MARGIN),
        Rule(f"clamp_min(-{MARGIN}, 0)", DELETED),
        # what was deleted unread cannot be read any more, and is no backlog
        Rule(f"{COMMITTED} + {DELETED} or {COMMITTED}", UNREAD_FROM),
    ]


def _unread(canonical: Canonical, wishes: Wishes, has: set[str]) -> list[Rule]:
    unread_from = UNREAD_FROM if "log_start" in has else COMMITTED
    to_unit = (
        canonical.to_unit
        if canonical.log != canonical.unit
        else (f"on ({', '.join(canonical.unit)})")
    )
    by = ", ".join(GROUP_TOPIC)
    written_by = "cluster, topic" if canonical.log != canonical.unit else by
    # A log that was longer than it is now was cut off or made anew: its past tells no age.
    rungs = [
        f"(({END} offset {duration(rung)} <= {END}) - {to_unit} {unread_from} > 0) * 0 + {rung:g}"
        for rung in reversed(wishes.rungs)
    ]
    return [
        Rule(f"clamp_min({END} - {to_unit} {unread_from}, 0)", UNREAD),
        Rule("\nor\n".join([*rungs, f"{UNREAD} * 0"]), AGE),
        Rule(f"sum by ({by}) ({UNREAD})", TOPIC_UNREAD),
        Rule(f"max by ({by}) ({AGE})", TOPIC_AGE),
        Rule(_by_group(TOPIC_AGE, wishes), PROMISE_USED),
        Rule(f"{PROMISE_USED} >= bool 1", PROMISE_BROKEN),
        Rule(f"sum by ({written_by}) (clamp_min(deriv({END}[5m]), 0))", WRITTEN),
        Rule(f"sum by ({by}) (clamp_min(deriv({COMMITTED}[5m]), 0))", READ),
        Rule(f"sum by ({', '.join(GROUP)}) ({TOPIC_UNREAD})", GROUP_UNREAD),
    ]


def _by_group(metric: str, wishes: Wishes) -> str:
    if not wishes.promises:
        return f"{metric} / {wishes.promise:g}"
    parts = [
        f"{metric}{{group={quoted(group)}}} / {seconds:g}"
        for group, seconds in sorted(wishes.promises.items())
    ]
    others = one_of(sorted(wishes.promises))
    return "\nor\n".join([*parts, f"{metric}{{group!~{others}}} / {wishes.promise:g}"])

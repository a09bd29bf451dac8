"""What each thing that can be done about a backlog would gain, and what it would cost.

Arithmetic of ``report.md`` 3.2 over one :class:`Situation`: a backlog of L messages drains in
L / (mu - lambda), where mu is bounded by min(members, partitions); what reads no faster than is
written never drains it. A capacity is only seen while there is a backlog, so it is a lower bound
and is called one. Knows no command and no cause by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lagkit.model import Outlook, Prospect
from lagkit.wording import count, duration, number, plural

NOTHING = "nothing"
RESTORE = "restore"
SCALE = "scale"
SKIP = "skip_record"
ADD_PARTITIONS = "add_partitions"
GIVE_UP = "give_up"
RETAIN = "retain"
RESTART = "restart"

HEADROOM = 1.02
"""Reading faster than this times the production counts as faster: below it is noise."""
ONE_PARTITION = 0.8
"""From this share of the backlog in one partition more members gain nothing."""
LONGEST_SECONDS = 30 * 86400.0
"""What takes longer than a month is said to be never, as retention will have had it."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The numbers of an incident that a prospect depends on; None or NaN: not known.

    Rates are messages per second. ``best_per_second`` is the fastest that the group was seen to
    read, ``usual_per_second`` what it read before the onset, both lower bounds of what it can.
    ``worst_share`` is the share of the backlog in the worst partition.
    """

    unread: float | None
    produce_per_second: float
    consume_per_second: float
    best_per_second: float
    usual_per_second: float
    members: int | None
    partitions: int
    usual_members: int | None
    stuck: tuple[tuple[str, int], ...] = ()
    pinned: bool = False
    """An open transaction holds readers back: there is no record to skip."""
    worst_share: float = math.nan
    waits_for: tuple[str, ...] = ()
    """What the consumer waits for, by name."""
    waits_in_trouble: bool = False
    """What it waits for is slow or fails: more members would only load it more."""
    retention_seconds: float | None = None

    @property
    def drained(self) -> bool:
        """Whether there is nothing to drain."""
        return self.unread is not None and self.unread <= 0


def prospects(situation: Situation) -> tuple[Prospect, ...]:
    """Return what can be done, what costs nothing first, what loses messages last."""
    if situation.unread is None or situation.drained:
        return ()
    found = [_nothing(situation), _restore(situation)]
    if situation.stuck:
        found.append(_skip(situation))
    found += [_scale(situation), _add_partitions(situation), _give_up(situation)]
    return tuple(found)


def drain_seconds(unread: float, capacity: float, produced: float) -> float:
    """Return how long *unread* messages take at *capacity*; inf where they never end."""
    spare = capacity - produced
    if not (spare > 0 and capacity > produced * HEADROOM):
        return math.inf
    seconds = unread / spare
    return seconds if seconds <= LONGEST_SECONDS else math.inf


def _outlook(situation: Situation, capacity: float) -> tuple[Outlook, float | None]:
    assert situation.unread is not None
    if not (math.isfinite(capacity) and math.isfinite(situation.produce_per_second)):
        return "unknown", None
    seconds = drain_seconds(situation.unread, capacity, situation.produce_per_second)
    return ("drains", seconds) if math.isfinite(seconds) else ("never", None)


def _words(
    situation: Situation,
    outlook: Outlook,
    seconds: float | None,
    capacity: float,
    reads: str = "would read",
) -> str:
    written = f"{number(situation.produce_per_second)}/s are written"
    if outlook == "drains":
        return f"caught up in {duration(seconds)}: it {reads} {number(capacity)}/s, {written}"
    if outlook == "never":
        return f"never: it {reads} {number(capacity)}/s and {written}"
    return "not known: no rate was measured"


def _nothing(situation: Situation) -> Prospect:
    capacity = situation.consume_per_second
    if situation.stuck:
        named = ", ".join(f"{topic}/{partition}" for topic, partition in situation.stuck[:3])
        return Prospect(
            NOTHING,
            "Nothing changes",
            "never",
            f"never: partition {named} stands still",
            capacity_per_second=_known(capacity),
        )
    outlook, seconds = _outlook(situation, capacity)
    return Prospect(
        NOTHING,
        "Nothing changes",
        outlook,
        _words(situation, outlook, seconds, capacity, "reads"),
        members=situation.members,
        capacity_per_second=_known(capacity),
        catch_up_seconds=seconds,
    )


def _restore(situation: Situation) -> Prospect:
    """Return what it gains when the consumer, or what it waits for, is as it was."""
    title = "It reads again as fast as it was seen to"
    capacity = situation.best_per_second
    outlook, seconds = _outlook(situation, capacity)
    if outlook == "never":
        # never seen with a backlog and healthy: what it can do beyond that nobody knows
        outlook = "unknown"
        text = (
            f"not known: it was never seen to read faster than {number(capacity)}/s, and "
            f"{number(situation.produce_per_second)}/s are written now"
        )
    elif outlook == "drains":
        text = f"{_words(situation, outlook, seconds, capacity)}; it may read faster than was seen"
    else:
        text = "not known: it was not seen reading in this window"
    return Prospect(
        RESTORE,
        title,
        outlook,
        text,
        cost=_rebalances(situation),
        members=situation.usual_members,
        capacity_per_second=_known(capacity),
        catch_up_seconds=seconds,
    )


def _skip(situation: Situation) -> Prospect:
    restored = _restore(situation)
    named = ", ".join(f"{topic}/{partition}" for topic, partition in situation.stuck[:3])
    title = "The record it is stuck on is skipped"
    cost = f"{plural(len(situation.stuck), 'message')} that this group will never read"
    if situation.pinned:
        text = f"no gain: an open transaction holds partition {named}, and no record of it"
        return Prospect(SKIP, title, "no_gain", text, cost=cost)
    return Prospect(
        SKIP,
        title,
        restored.outlook,
        f"partition {named} moves again, if no other record does the same; {restored.statement}",
        cost=cost,
        capacity_per_second=restored.capacity_per_second,
        catch_up_seconds=restored.catch_up_seconds,
    )


def _scale(situation: Situation) -> Prospect:
    partitions, members = situation.partitions, situation.members
    title = f"Members for every partition ({partitions})" if partitions else "More members"
    if not partitions or members is None:
        return Prospect(SCALE, title, "unknown", "not known: members or partitions are not known")
    if members >= partitions:
        text = f"no gain: {plural(members, 'member')} share {plural(partitions, 'partition')}"
        return Prospect(SCALE, title, "no_gain", text, members=members)
    cost = (
        f"{plural(partitions - members, 'member')} more: a rebalance at each step, in which "
        "reading pauses"
    )
    if situation.waits_for and members:
        named = ", ".join(situation.waits_for)
        cost += f"; {number(partitions / members)} times the load on {named}"
    if situation.waits_in_trouble:
        named = ", ".join(situation.waits_for) or "what it waits for"
        text = f"no gain: {named} is the limit, and has no room for more"
        return Prospect(SCALE, title, "no_gain", text, cost=cost, members=partitions)
    if situation.stuck:
        text = "no gain: the new member reads the same record"
        return Prospect(SCALE, title, "no_gain", text, cost=cost, members=partitions)
    if situation.worst_share >= ONE_PARTITION and partitions > 1:
        text = "no gain: the backlog lies in one partition, which one member reads"
        return Prospect(SCALE, title, "no_gain", text, cost=cost, members=partitions)
    if not members:
        known = situation.best_per_second, situation.usual_members
        each = known[0] / known[1] if known[1] else math.nan
    else:
        each = situation.consume_per_second / members
    capacity = each * partitions
    outlook, seconds = _outlook(situation, capacity)
    text = _words(situation, outlook, seconds, capacity)
    if not members and outlook == "drains":
        text += ", if they can run and reach the brokers again"
    fewest = _fewest(situation, each)
    if outlook == "drains" and fewest is not None and fewest < partitions:
        text += f"; from {plural(fewest, 'member')} on it drains at all"
    return Prospect(
        SCALE,
        title,
        outlook,
        text,
        cost=cost,
        members=partitions,
        capacity_per_second=_known(capacity),
        catch_up_seconds=seconds,
    )


def _fewest(situation: Situation, each: float) -> int | None:
    """Return the fewest members that drain the backlog at all."""
    if not (each > 0 and math.isfinite(situation.produce_per_second)):
        return None
    return math.floor(situation.produce_per_second * HEADROOM / each) + 1


def _add_partitions(situation: Situation) -> Prospect:
    return Prospect(
        ADD_PARTITIONS,
        "More partitions",
        "no_gain",
        "no gain: records already written stay where they are",
        cost="keys move, so a key's records are read out of order across the change; cannot be "
        "undone",
    )


def _give_up(situation: Situation) -> Prospect:
    return Prospect(
        GIVE_UP,
        "The backlog is given up (seek to the end)",
        "at_once",
        "at once: nothing is read",
        cost=f"{count(situation.unread)} messages that this group will never read",
        catch_up_seconds=0.0,
    )


def _rebalances(situation: Situation) -> str:
    usual = situation.usual_members or situation.members
    if not usual:
        return "a rebalance when the members come back"
    return f"up to {plural(usual, 'rebalance')}, one a member that is replaced"


def cost_of_restart(situation: Situation) -> str:
    """Return what it costs to replace every member."""
    return f"every member is replaced: {_rebalances(situation)}"


def cost_of_retention(situation: Situation) -> str:
    """Return what it costs to keep records twice as long."""
    now = situation.retention_seconds
    kept = f" ({duration(now)} now)" if now else ""
    return f"up to as much disk again as the topic takes{kept}"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None

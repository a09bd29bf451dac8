"""What is asked of the broker about one group, and in which order.

Commits are read before log ends, so that lag errs upwards only, and a neighbour is another group
with commits on the same topics.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lagkit.sources import Blind
from lagkit.sources.kafka.groups import (
    committed_of,
    describe,
    describe_again,
    describe_others,
    forget_dead,
    judge_existence,
    list_groups,
)
from lagkit.sources.kafka.history import LogTimes, read_ages, read_log_ends
from lagkit.sources.kafka.offsets import committed_of_many, log_offsets
from lagkit.sources.kafka.offsets_topic import TOPIC, read_offsets_topic
from lagkit.sources.kafka.rows import Place, Read, Replicas, RowMaker, assigned
from lagkit.sources.kafka.session import Session
from lagkit.sources.kafka.topics import describe_topics, read_configs

NEIGHBOURS = 50
"""Other groups on the same topics that are read."""
NEIGHBOUR_CANDIDATES = 2_000
"""Other groups that are asked whether they have commits on these topics; about a second."""
NEIGHBOUR_ROWS = 100_000
REBALANCING = frozenset({"PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling"})
WATCH_SECONDS = 12.0
"""Snapshots that are all there is must show a stop: twice the default commit interval of 5 s."""
AGE_ALLOWANCE = pd.Timedelta("5min")
"""What is unread now says nothing of a window that ended longer ago than this."""


def read_group(
    session: Session,
    *,
    snapshots: int,
    interval: float,
    longer: threading.Event | None = None,
    offsets_topic: bool = False,
) -> None:
    """Ask everything, in the order that keeps errors one-sided: commits, then log ends.

    *snapshots* are taken *interval* seconds apart; once *longer* is set, over WATCH_SECONDS at
    least, because nothing else tells whether the group moves. With *offsets_topic* the group's
    own log is read too.
    """
    if not session.connect():
        return
    group = session.scope.group
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="lagkit-kafka") as pool:
        listing_later = pool.submit(list_groups, session)
        description_later = pool.submit(describe, session, group)
        committed_later = pool.submit(committed_of, session, group)
        listed, listed_whole = listing_later.result()
        description = description_later.result()
        _, committed = committed_later.result()
        if description is None and committed is None and session.renewed_for_silence():
            # the coordinator died or froze: another broker takes over within seconds
            description = describe(session, group)
            _, committed = committed_of(session, group)

        judge_existence(session, listed, listed_whole, description, committed)
        topics = _topics(session, description, committed)
        known_kind = "group_kind" not in session.found.facts
        if not topics and session.found.facts["group_exists"] != "no" and known_kind:
            session.blind(
                Blind(
                    "offsets of the group",
                    "no commit and no assigned partition is visible, so no topic is known; "
                    "the broker leaves out topics that this user may not describe, and drops the "
                    "commits on a topic that is deleted",
                    "Give --topic, or " + session.acl("Describe", "topic", "TOPIC"),
                )
            )
        log_later = pool.submit(read_offsets_topic, session) if offsets_topic else None
        others_later = pool.submit(_neighbours, session, listed, topics)
        configs_later = pool.submit(read_configs, session, topics, description)
        replicas, unknown_topics = describe_topics(session, topics)
        places = _places(session, topics, replicas, description, committed)
        others = others_later.result()
        configs_later.result()
        others = _bounded(session, others, len(places))
        states_later = pool.submit(describe_others, session, others)
        plan = _Plan(snapshots, interval, longer or threading.Event())
        looks = [description]
        _take_snapshots(session, places, unknown_topics, replicas, others, pool, plan, looks)
        states_later.result()
        describe_again(session, looks)
        forget_dead(session)
        if log_later is not None:
            log_later.result()
        else:
            _offer_offsets_topic(session)
    if group_rows := session.found.rows.get("partitions"):
        _note_offsets(session, group_rows, others)


def _offer_offsets_topic(session: Session) -> None:
    """Say how the past of a group that rebalances now could be known."""
    states = {
        row["state"]
        for row in session.found.rows.get("group_state", [])
        if row["group"] == session.scope.group
    }
    if states & REBALANCING or "members_changed" in session.found.facts:
        session.blind(
            Blind(
                "rebalances before now",
                "the group rebalances now, and Kafka tells no past of it by DESCRIBE",
                "Set read_offsets_topic = true in lagkit.toml; it reads the group's log and needs "
                "this: " + session.acl("Read", "topic", TOPIC),
            )
        )


def _topics(
    session: Session, description: Any, committed: Mapping[Place, Read] | None
) -> list[str]:
    if session.scope.topics:
        return sorted(set(session.scope.topics))
    topics = {topic for topic, _ in committed or {}}
    if description is not None:
        topics |= {topic for topic, _ in assigned(description)}
    if not topics and session.found.facts.get("group_exists") != "no":
        topics = set(session.scope.runbook.group(session.scope.group).topics)
    return sorted(topics)


def _places(
    session: Session,
    topics: Sequence[str],
    replicas: Mapping[Place, Replicas],
    description: Any,
    committed: Mapping[Place, Read] | None,
) -> list[Place]:
    places = set(replicas) | set(committed or ())
    if description is not None:
        places |= set(assigned(description))
    return sorted(place for place in places if place[0] in topics)


def _neighbours(
    session: Session, listed: Mapping[str, str], topics: Sequence[str]
) -> dict[str, dict[Place, Read]]:
    """Return other groups with commits on *topics*, and those commits."""
    group = session.scope.group
    others = sorted(
        (name for name in listed if name != group),
        # busy groups first: an empty one says nothing about a shared cause
        key=lambda name: (listed[name] != "Stable", name),
    )
    if not others or not topics:
        return {}
    asked = others[:NEIGHBOUR_CANDIDATES]
    if len(others) > len(asked):
        session.blind(
            Blind(
                "other groups on the same topics",
                f"{len(others)} groups are listed; {len(asked)} were asked",
            )
        )
    sharing: dict[str, dict[Place, Read]] = {}
    for name, read in committed_of_many(session, asked):
        mine = {place: value for place, value in read.items() if place[0] in topics}
        if mine:
            sharing[name] = mine
    kept = sorted(sharing)[:NEIGHBOURS]
    if len(kept) < len(sharing):
        session.blind(
            Blind(
                "other groups on the same topics",
                f"{len(sharing)} share these topics; {len(kept)} were read",
            )
        )
    return {name: sharing[name] for name in kept}


def _bounded(
    session: Session, others: dict[str, dict[Place, Read]], places: int
) -> dict[str, dict[Place, Read]]:
    """Keep as many neighbours as fit, at two rows for each of their partitions."""
    kept: dict[str, dict[Place, Read]] = {}
    room = NEIGHBOUR_ROWS
    for name, read in others.items():
        room -= 2 * len(read)
        if room < 0:
            session.blind(
                Blind(
                    "other groups on the same topics",
                    f"{len(others)} share {places} partitions; {len(kept)} were kept",
                )
            )
            break
        kept[name] = read
    return kept


@dataclass(slots=True)
class _Plan:
    """How many snapshots, how far apart; longer once it is known that there is no other history."""

    count: int
    interval: float
    longer: threading.Event
    began: float = field(default_factory=time.monotonic)

    def is_last(self, number: int) -> bool:
        """Whether snapshot *number*, counted from 0, is the last one."""
        watched = time.monotonic() - self.began
        return number >= self.count - 1 and not (self.longer.is_set() and watched < WATCH_SECONDS)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The offsets of one moment."""

    at: pd.Timestamp
    committed: Mapping[Place, Read] | None
    starts: Mapping[Place, Read]
    ends: Mapping[Place, Read]


def _take_snapshots(
    session: Session,
    places: Sequence[Place],
    unknown_topics: set[str],
    replicas: Mapping[Place, Replicas],
    others: Mapping[str, dict[Place, Read]],
    pool: ThreadPoolExecutor,
    plan: _Plan,
    looks: list[Any],
) -> None:
    if not places:
        return
    readable = [place for place in places if place[0] not in unknown_topics]
    number, last = 0, False
    begun: _Snapshot | None = None
    told: Future[LogTimes] | None = None
    while not last:
        first = number == 0
        if not first:
            time.sleep(session.deadline.left(plan.interval))
            if session.deadline.left() < plan.interval / 2:
                session.blind(
                    Blind(
                        "motion of the offsets",
                        f"{number} of {max(plan.count, number + 1)} snapshots fitted into the "
                        f"budget of {session.deadline.seconds:g} s",
                        "Give Kafka a larger budget.",
                    )
                )
                break
        last = plan.is_last(number)
        query_id, committed = committed_of(session, session.scope.group)
        if committed is None:
            session.renew()
        neighbours = dict(others) if first else {}
        if last and not first and others:
            neighbours = {
                name: {place: value for place, value in read.items() if place in others[name]}
                for name, read in committed_of_many(session, sorted(others))
            }
        at = pd.Timestamp.now("UTC")
        starts_later = pool.submit(log_offsets, session, readable, "earliest")
        ends = log_offsets(session, readable, "latest")
        # after the ends: read before them, a busy log would look like an open transaction
        stable = log_offsets(session, readable, "latest", committed_only=True)
        starts = starts_later.result()
        number += 1
        if committed is None and not any(read.error is None for read in ends.values()):
            session.blind(
                Blind(
                    "motion of the offsets",
                    f"the broker stopped answering after {number - 1} of "
                    f"{max(plan.count, number)} snapshots",
                    "Look at the broker itself, then run again.",
                )
            )
            break
        row = RowMaker(at, query_id, starts, ends, stable, replicas, unknown_topics)
        session.found.add("partitions", row.of(session.scope.group, places, committed))
        for name, read in neighbours.items():
            session.found.add("partitions", row.of(name, sorted(read), read))
        newest = _Snapshot(at, committed, starts, ends)
        if begun is None:
            begun = newest
            told = pool.submit(read_log_ends, session, readable, starts, ends, at)
        elif plan.longer.is_set() and not last:
            looks.append(describe(session, session.scope.group, members=False))
    if begun is not None and told is not None:
        _read_ages(session, readable, begun, newest, told.result())


def _read_ages(
    session: Session,
    places: Sequence[Place],
    first: _Snapshot,
    last: _Snapshot,
    told: LogTimes,
) -> None:
    if last.committed is None or last.at - session.scope.end > AGE_ALLOWANCE:
        return
    commits = {place: last.committed.get(place, Read(math.nan)) for place in places}
    read_ages(session, commits, last.starts, last.ends, last.at, told, first.ends, first.at)


def _note_offsets(
    session: Session, rows: Sequence[Mapping[str, Any]], others: Mapping[str, object]
) -> None:
    mine = [row for row in rows if row["group"] == session.scope.group]
    times = sorted({row["timestamp"] for row in mine})
    partitions = len({(row["topic"], row["partition"]) for row in mine})
    span = (times[-1] - times[0]).total_seconds() if times else 0.0
    session.found.notes.append(
        f"{partitions} partition{'' if partitions == 1 else 's'} read {len(times)} "
        f"time{'' if len(times) == 1 else 's'} over {span:.1f} s"
    )
    if others:
        session.found.notes.append(f"{len(others)} other group(s) on the same topics")

"""Offsets of many groups and many partitions at once, with a bound on what is in flight.

Knows how to keep a coordinator busy without flooding it. A group or a partition that does not
answer costs itself and no other: its reason is kept beside the answers of the rest.
"""

from __future__ import annotations

import functools
import math
import queue
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from lagkit.sources import Blind, Outcome, Question
from lagkit.sources.kafka.coordinator import CoordinatorClient, GroupCommits, crashes_told
from lagkit.sources.kafka.errors import LibraryCrashed, fault
from lagkit.sources.kafka.rows import NOT_ANSWERED, Place, Read, committed_offsets
from lagkit.sources.kafka.session import GRACE_SECONDS, TICK_SECONDS, Session

IN_FLIGHT = 200
"""Requests that wait for a broker at a time; more gains nothing (benchmarks/offsets.py)."""

_Answered = queue.SimpleQueue[tuple[str, Future[GroupCommits]]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a group gave no offsets."""

    outcome: Outcome
    why: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """Committed offsets of groups, and the log ends of the partitions they name.

    The commits were read first, so that lag errs upwards only.
    """

    committed: Mapping[str, Mapping[Place, Read]]
    ends: Mapping[Place, Read]
    refused: Mapping[str, Refusal]

    def lag(self, group: str, place: Place) -> float:
        """Return the messages *group* is behind at *place*, at least 0; NaN if not known."""
        missing = Read(math.nan)
        commit = self.committed.get(group, {}).get(place, missing).offset
        lag = self.ends.get(place, missing).offset - commit
        # not max(0.0, lag), which is 0 for NaN
        return 0.0 if lag < 0 else lag


def offsets_of_groups(
    client: Any,
    commits: CoordinatorClient,
    groups: Iterable[str],
    *,
    seconds: float,
    in_flight: int = IN_FLIGHT,
) -> GroupOffsets:
    """Return committed offsets and log ends of *groups*, within about *seconds*.

    *client* is a confluent-kafka ``AdminClient``; it describes and lists only. *commits* are read
    by a process of their own. At most *in_flight* requests are under way at a time. A group that
    did not answer in time is in ``refused``.
    """
    until = time.monotonic() + seconds
    committed: dict[str, dict[Place, Read]] = {}
    refused: dict[str, Refusal] = {}
    for name, answer in fan_out(commits, groups, seconds=seconds, in_flight=in_flight):
        if isinstance(answer, Refusal):
            refused[name] = answer
        else:
            committed[name] = answer
    places = sorted({place for read in committed.values() for place in read})
    left = max(0.0, until - time.monotonic())
    ends = {place: value for place, (value, _) in list_offsets(client, places, left).items()}
    return GroupOffsets(committed, ends, refused)


def fan_out(
    commits: CoordinatorClient, groups: Iterable[str], *, seconds: float, in_flight: int = IN_FLIGHT
) -> Iterator[tuple[str, dict[Place, Read] | Refusal]]:
    """Yield each of *groups* with its committed offsets, in the order in which answers come.

    One request a group, for no more than that works on Redpanda and on Kafka before 3.0; a new one
    is sent as soon as an old one is answered.
    """
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

    waiting = list(dict.fromkeys(groups))[::-1]
    until = time.monotonic() + seconds
    answered: _Answered = queue.SimpleQueue()
    under_way: set[str] = set()
    while waiting or under_way:
        left = until - time.monotonic()
        while waiting and len(under_way) < in_flight and left > TICK_SECONDS:
            name = waiting.pop()
            request = ConsumerGroupTopicPartitions(name)
            future = commits.list_consumer_group_offsets([request], request_timeout=left)[name]
            under_way.add(name)
            # called on the reader's own thread, which must get back to its answers: only note it
            future.add_done_callback(functools.partial(_note, answered, name))
        if not under_way:
            break
        try:
            name, done = answered.get(timeout=max(0.0, left) + GRACE_SECONDS)
        except queue.Empty:
            break
        under_way.discard(name)
        try:
            yield name, committed_offsets(done.result().topic_partitions)
        except KafkaException as error:
            yield name, Refusal(*fault(error, seconds))
        except LibraryCrashed as error:
            yield name, Refusal(*fault(error, seconds), error.fix)
    for name in sorted(under_way):
        yield name, Refusal("timeout", f"no answer within {seconds:.1f} s")
    for name in sorted(waiting):
        yield name, Refusal("timeout", f"not asked: the {seconds:.1f} s for this were spent")


def _note(answered: _Answered, name: str, done: Future[GroupCommits]) -> None:
    answered.put((name, done))


def list_offsets(
    client: Any,
    places: Sequence[Place],
    seconds: float,
    which: str = "latest",
    *,
    committed_only: bool = False,
) -> dict[Place, tuple[Read, Outcome]]:
    """Return log start or end offsets of *places*, or with *committed_only* last stable offsets.

    One request a leader, whatever the number of partitions.
    """
    from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    if not places:
        return {}
    level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
    name = "last stable offsets" if committed_only else f"{which} offsets"
    spec = OffsetSpec.earliest() if which == "earliest" else OffsetSpec.latest()
    futures = client.list_offsets(
        {TopicPartition(topic, partition): spec for topic, partition in places},
        isolation_level=level,
        request_timeout=max(seconds, TICK_SECONDS),
    )
    until = time.monotonic() + seconds + GRACE_SECONDS
    read: dict[Place, tuple[Read, Outcome]] = {}
    for at, future in futures.items():
        try:
            offset = future.result(timeout=max(0.0, until - time.monotonic())).offset
            if offset == NOT_ANSWERED:
                raise TimeoutError
            read[at.topic, at.partition] = Read(float(offset)), "ok"
        except (KafkaException, TimeoutError) as error:
            outcome, why = fault(error, seconds)
            read[at.topic, at.partition] = Read(math.nan, f"{name}: {why}"), outcome
    return read


# -- the same as questions of a session -----------------------------------------------------------


def committed_of_many(
    session: Session, groups: Sequence[str]
) -> Iterator[tuple[str, dict[Place, Read]]]:
    """Yield each other group that answered with its commits; the rest is a blind spot."""
    answered: list[tuple[str, dict[Place, Read]]] = []
    refused: dict[str, Refusal] = {}

    def work(question: Question) -> None:
        before = session.coordinator.crashes
        for name, answer in fan_out(session.coordinator, groups, seconds=session.timeout()):
            if isinstance(answer, Refusal):
                refused[name] = answer
            else:
                answered.append((name, answer))
        question.rows = len(answered)
        told = crashes_told(session.coordinator.crashes - before)
        if refused:
            question.outcome = "partial" if answered else "failed"
            told += [f"{name}: {refused[name].why}" for name in sorted(refused)]
        question.detail = session.text("; ".join(told))

    if not groups:
        return
    session.ask(
        f"list_consumer_group_offsets() of {len(groups)} other groups",
        work,
        what="committed offsets of other groups",
    )
    if refused:
        first = min(refused)
        denied = any(refusal.outcome == "denied" for refusal in refused.values())
        session.blind(
            Blind(
                "committed offsets of other groups",
                session.text(
                    f"{len(refused)} of {len(groups)} did not answer; {first}: {refused[first].why}"
                ),
                session.acl("Describe", "group", "*") if denied else refused[first].fix,
            )
        )
    yield from answered


def log_offsets(
    session: Session, places: Sequence[Place], which: str, *, committed_only: bool = False
) -> dict[Place, Read]:
    """Return log start or end offsets, or with *committed_only* the last stable offset."""
    level = "read_committed" if committed_only else "read_uncommitted"
    name = "last stable offsets" if committed_only else f"{which} offsets"
    read: dict[Place, Read] = {}

    def work(question: Question) -> None:
        found = list_offsets(
            session.client, places, session.timeout(), which, committed_only=committed_only
        )
        read.update(
            (place, Read(value.offset, value.error and session.text(value.error)))
            for place, (value, _) in found.items()
        )
        question.rows = sum(value.error is None for value in read.values())
        missing = {place: outcome for place, (_, outcome) in found.items() if outcome != "ok"}
        if missing:
            reasons = sorted({read[place].error or "" for place in missing})
            question.outcome = "partial" if question.rows else min(missing.values())
            question.detail = session.text("; ".join(reasons))
            denied = [place for place in sorted(missing) if missing[place] == "denied"]
            session.blind(
                Blind(
                    f"{name} of {len(missing)} of {len(places)} partitions",
                    reasons[0],
                    session.acl("Describe", "topic", denied[0][0]) if denied else "",
                )
            )

    if places:
        session.ask(f"list_offsets({which}, {level}) of {len(places)} partitions", work, what=name)
    return read

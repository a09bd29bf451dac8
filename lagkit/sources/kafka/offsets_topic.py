"""The group's own log, from ``__consumer_offsets``: exact commits, generations, members.

Optional, and only where READ on that topic is granted. Knows the record formats that Kafka and
Redpanda write there (classic groups, and the consumer groups of KIP-848); a version it does not
know is skipped and counted. Every record is hostile input: lengths are checked before anything is
sliced, texts and lists are bounded, and a record that does not fit is counted as unreadable.

The reader can disturb nobody. It is *assigned* one partition and never subscribes, so it joins no
group; its group id is random and never committed, automatic commits and offset storing are off, so
no group comes to be; and it never bears the id of the group it looks at.
"""

from __future__ import annotations

import logging
import struct
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from lagkit.sources import Blind, Question
from lagkit.sources.kafka.rows import TEXT_LIMIT, client_host
from lagkit.sources.kafka.session import Session

_LOG = logging.getLogger(__name__)
# without a handler, logging's last resort would print the client's complaints on the terminal
_LOG.addHandler(logging.NullHandler())

TOPIC = "__consumer_offsets"
MOST_SECONDS = 6.0
"""Most of the budget that reading may take."""
MOST_RECORDS = 400_000
MOST_BYTES = 64 * 1024 * 1024
MOST_ROWS = 100_000
"""Rows of each frame that are kept: the newest."""
MOST_MEMBERS = 10_000
NO_USE = frozenset({4, 6, 7, 16})
"""Kinds of KIP-848 groups that tell nothing more: partition metadata, target assignments, regex."""
BATCH = 5_000
POLL_SECONDS = 0.5
LEAD = pd.Timedelta("10min")
"""Read from this long before the window, to know the state that it begins with."""

Event = Literal["generation", "joined", "left", "emptied", "removed", "epoch", "assigned"]


def partition_of(group: str, partitions: int) -> int:
    """Return the partition of ``__consumer_offsets`` that *group* lives in.

    abs(javaHash(group)) modulo the partition count, as ``Utils.abs`` and ``String.hashCode`` have
    it: over UTF-16 units, in 32 bits, and the one number without a positive counterpart is 0.
    """
    units = struct.unpack(f">{len(group.encode('utf-16-be')) // 2}H", group.encode("utf-16-be"))
    value = 0
    for unit in units:
        value = (31 * value + unit) & 0xFFFFFFFF
    if value >= 0x80000000:
        value = 0 if value == 0x80000000 else 0x100000000 - value
    return value % partitions


# -- decoding -------------------------------------------------------------------------------------


class Malformed(ValueError):
    """A record that ends too early, or claims a length that it does not have."""


class UnknownVersion(ValueError):
    """A record of a kind or version that is not known here."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A committed offset; None: it was removed."""

    group: str
    topic: str
    partition: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the coordinator wrote it; timeouts in ms, None where it does not say."""

    member_id: str
    client_id: str = ""
    instance_id: str | None = None
    host: str = ""
    session_ms: int | None = None
    rebalance_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A classic group's metadata; members None: the group was removed."""

    group: str
    generation: int
    members: tuple[Member, ...] | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """The epoch of a KIP-848 group; None: the group was removed."""

    group: str
    epoch: int | None


@dataclass(frozen=True, slots=True)
class MemberChange:
    """A member of a KIP-848 group as it is now; None: it left."""

    group: str
    member_id: str
    member: Member | None


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which epoch a member of a KIP-848 group has reached, and how many partitions it holds."""

    group: str
    member_id: str
    epoch: int | None
    partitions: int


Record = Commit | Generation | Epoch | MemberChange | Assignment


class _Bytes:
    """A cursor over one key or value; reading past the end is :class:`Malformed`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            msg = f"{count} bytes wanted at {self._at} of {len(self._data)}"
            raise Malformed(msg)
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big", signed=True)

    def varint(self) -> int:
        """Read an unsigned varint of at most 32 bits."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        msg = "a varint of over five bytes"
        raise Malformed(msg)

    def text(self, *, compact: bool = False) -> str | None:
        """Read a string: length in int16, or compact (varint of length + 1); None where null."""
        length = self.varint() - 1 if compact else self.number(2)
        if length < 0:
            return None
        return self.take(length).decode("utf-8", "replace")[:TEXT_LIMIT]

    def blob(self, *, compact: bool = False) -> None:
        """Skip bytes: length in int32, or compact."""
        length = self.varint() - 1 if compact else self.number(4)
        self.take(max(0, length))

    def count(self, *, compact: bool = False) -> int:
        """Read the length of a list; no list is longer than the bytes that are left."""
        length = self.varint() - 1 if compact else self.number(4)
        if length > len(self._data) - self._at:
            msg = f"a list of {length} in {len(self._data) - self._at} bytes"
            raise Malformed(msg)
        return max(0, length)

    def tags(self) -> None:
        """Skip tagged fields."""
        for _ in range(self.varint()):
            self.varint()
            self.take(self.varint())


def decode(key: bytes | None, value: bytes | None, *, group: str | None = None) -> Record | None:
    """Return what a record of ``__consumer_offsets`` says; None if of another group, or of no use.

    Parameters
    ----------
    key, value
        As read; a value of None is a tombstone.
    group
        Only this group is decoded; by default all are.

    Raises
    ------
    Malformed
        The bytes do not fit the version they claim.
    UnknownVersion
        A kind of record or a version that is not known here, e.g. of share or streams groups.

    Formats: ``OffsetCommitKey/Value``, ``GroupMetadataKey/Value`` and ``ConsumerGroup*Key/Value``
    of Kafka's group-coordinator (4.3).
    """
    if key is None:
        msg = "a record without a key"
        raise Malformed(msg)
    head = _Bytes(key)
    kind = head.number(2)
    if kind in NO_USE:
        return None
    if kind not in (0, 1, 2, 3, 5, 8):
        msg = f"key {kind}"
        raise UnknownVersion(msg)
    of = head.text() or ""
    if group is not None and of != group:
        return None
    body = None if value is None else _Bytes(value)
    if kind in (0, 1):
        topic, partition = head.text() or "", head.number(4)
        return Commit(of, topic, partition, None if body is None else _commit_offset(body))
    if kind == 2:
        return Generation(of, -1, None) if body is None else _generation(of, body)
    if kind == 3:
        return Epoch(of, None if body is None else _known(body, "epoch").number(4))
    member_id = head.text() or ""
    if kind == 5:
        return MemberChange(of, member_id, None if body is None else _member(member_id, body))
    if body is None:
        return Assignment(of, member_id, None, 0)
    return _assignment(of, member_id, body)


def _known(body: _Bytes, what: str, newest: int = 0) -> _Bytes:
    version = body.number(2)
    if not 0 <= version <= newest:
        msg = f"{what} version {version}"
        raise UnknownVersion(msg)
    return body


def _commit_offset(body: _Bytes) -> int:
    version = body.number(2)
    if not 0 <= version <= 4:
        msg = f"offset commit version {version}"
        raise UnknownVersion(msg)
    offset = body.number(8)
    if version >= 3:
        body.number(4)  # leader epoch
    body.text(compact=version >= 4)  # the committer's metadata
    body.number(8)  # time of the commit: the record's own is the same
    if version == 1:
        body.number(8)  # when it expires
    if version >= 4:
        body.tags()
    return offset


def _generation(group: str, body: _Bytes) -> Generation:
    version = body.number(2)
    if not 0 <= version <= 4:
        msg = f"group metadata version {version}"
        raise UnknownVersion(msg)
    compact = version >= 4
    body.text(compact=compact)  # protocol type
    generation = body.number(4)
    body.text(compact=compact)  # assignor
    body.text(compact=compact)  # leader
    if version >= 2:
        body.number(8)  # since when it is in this state
    members = []
    for _ in range(min(body.count(compact=compact), MOST_MEMBERS)):
        member_id = body.text(compact=compact) or ""
        instance = body.text(compact=compact) if version >= 3 else None
        client, host = body.text(compact=compact) or "", body.text(compact=compact) or ""
        rebalance = body.number(4) if version >= 1 else None
        session = body.number(4)
        body.blob(compact=compact)
        body.blob(compact=compact)
        if compact:
            body.tags()
        members.append(Member(member_id, client, instance, host, session, rebalance))
    return Generation(group, generation, tuple(members))


def _member(member_id: str, body: _Bytes) -> Member:
    body = _known(body, "member metadata")
    instance = body.text(compact=True)
    body.text(compact=True)  # rack
    client, host = body.text(compact=True) or "", body.text(compact=True) or ""
    for _ in range(body.count(compact=True)):
        body.text(compact=True)  # a topic it subscribed to
    body.text(compact=True)  # or a pattern
    rebalance = body.number(4)
    body.text(compact=True)  # assignor of its choice
    body.tags()
    return Member(member_id, client, instance, host, None, rebalance if rebalance >= 0 else None)


def _assignment(group: str, member_id: str, body: _Bytes) -> Assignment:
    body = _known(body, "current assignment")
    epoch = body.number(4)
    body.number(4)  # the epoch before
    body.number(1)  # state
    partitions = 0
    for _ in range(body.count(compact=True)):
        body.take(16)  # topic id
        count = body.count(compact=True)
        body.take(4 * count)
        body.tags()
        partitions += count
    return Assignment(group, member_id, epoch, partitions)


# -- from records to rows -------------------------------------------------------------------------


@dataclass(slots=True)
class GroupLog:
    """What the records of one group, in the order of the log, amount to."""

    group: str
    commits: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    complete_from: int = 0
    """Log position from which nothing was compacted away."""
    skipped: Counter[str] = field(default_factory=Counter)
    _members: dict[str, Member] = field(default_factory=dict)
    _seen: bool = False
    _last: int | None = None

    def position(self, position: int) -> None:
        """Note that the log has a record here, of whichever group.

        One missing position is a transaction's marker, which no consumer is given; more were
        compacted away.
        """
        if self._last is not None and position - self._last > 2:
            self.complete_from = position
        self._last = position

    def add(self, at: pd.Timestamp, position: int, key: bytes | None, value: bytes | None) -> None:
        """Take in one record of the log; what cannot be read is counted."""
        try:
            record = decode(key, value, group=self.group)
        except Malformed:
            self.skipped["unreadable"] += 1
            return
        except UnknownVersion as error:
            self.skipped[str(error)] += 1
            return
        if isinstance(record, Commit):
            self.commits.append(
                {
                    "timestamp": at,
                    "group": record.group,
                    "topic": record.topic[:TEXT_LIMIT],
                    "partition": record.partition,
                    "committed_offset": record.offset,
                    "log_position": position,
                }
            )
        elif isinstance(record, Generation):
            self._generation(at, position, record)
        elif isinstance(record, Epoch):
            if record.epoch is None:
                self._event(at, position, "removed", protocol="consumer")
            else:
                self._event(at, position, "epoch", generation=record.epoch, protocol="consumer")
        elif isinstance(record, MemberChange):
            known = self._members.pop(record.member_id, None)
            if record.member is not None:
                self._members[record.member_id] = record.member
                if known is None:
                    self._event(at, position, "joined", record.member, protocol="consumer")
            else:
                gone = known or Member(record.member_id)
                self._event(at, position, "left", gone, protocol="consumer")
        elif isinstance(record, Assignment) and record.epoch is not None:
            member = self._members.get(record.member_id, Member(record.member_id))
            self._event(
                at, position, "assigned", member, generation=record.epoch, protocol="consumer"
            )

    def _generation(self, at: pd.Timestamp, position: int, record: Generation) -> None:
        protocol = "classic"
        if record.members is None:
            self._event(at, position, "removed", protocol=protocol)
            self._members.clear()
            return
        now = {member.member_id: member for member in record.members}
        # the first look at a group shows who is in it, not who came
        if self._seen:
            for gone in sorted(set(self._members) - set(now)):
                self._event(
                    at, position, "left", self._members[gone],
                    generation=record.generation, protocol=protocol,
                )  # fmt: skip
            for new in sorted(set(now) - set(self._members)):
                self._event(
                    at, position, "joined", now[new],
                    generation=record.generation, protocol=protocol,
                )  # fmt: skip
        self._seen, self._members = True, now
        sessions = [m.session_ms for m in record.members if m.session_ms is not None]
        rebalances = [m.rebalance_ms for m in record.members if m.rebalance_ms is not None]
        self._event(
            at, position, "generation" if now else "emptied",
            generation=record.generation, protocol=protocol, count=len(now),
            session=min(sessions, default=None), rebalance=min(rebalances, default=None),
        )  # fmt: skip

    def _event(
        self,
        at: pd.Timestamp,
        position: int,
        event: Event,
        member: Member | None = None,
        *,
        protocol: str,
        generation: int | None = None,
        count: int | None = None,
        session: int | None = None,
        rebalance: int | None = None,
    ) -> None:
        if member is not None:
            session, rebalance = member.session_ms, member.rebalance_ms
        self.events.append(
            {
                "timestamp": at,
                "group": self.group,
                "event": event,
                "generation": generation,
                "member_id": None if member is None else member.member_id or None,
                "client_id": None if member is None else member.client_id or None,
                "instance_id": None if member is None else member.instance_id,
                "host": None if member is None else client_host(member.host),
                "member_count": count,
                "session_timeout_seconds": None if session is None else session / 1000,
                "rebalance_timeout_seconds": None if rebalance is None else rebalance / 1000,
                "protocol": protocol,
                "log_position": position,
            }
        )

    def commit_rows(self, query_id: str, *, to_the_end: bool) -> list[dict[str, Any]]:
        """Return rows of ``commits``; *to_the_end*: nothing after the last one is unread.

        A commit is complete when nothing between it and the next was compacted away; the last of
        each partition, when the log was read to its end.
        """
        last = {(row["topic"], row["partition"]): row["log_position"] for row in self.commits}
        rows = []
        for row in self.commits[-MOST_ROWS:]:
            final = last[row["topic"], row["partition"]] == row["log_position"]
            whole = row["log_position"] >= self.complete_from and (to_the_end or not final)
            rows.append({**row, "complete": whole, "query_id": query_id})
        return rows

    def event_rows(self, query_id: str) -> list[dict[str, Any]]:
        """Return rows of ``group_log``."""
        return [{**row, "query_id": query_id} for row in self.events[-MOST_ROWS:]]


# -- reading --------------------------------------------------------------------------------------


def read_offsets_topic(session: Session) -> None:
    """Read the group's log from a little before the window; give ``commits`` and ``group_log``."""
    log = GroupLog(session.scope.group)

    def work(question: Question) -> None:
        partition = _find_partition(session)
        begin, stop = _bounds(session, partition)
        records, size, to_the_end = 0, 0, begin >= stop
        if not to_the_end:
            records, size, to_the_end = _drain(session, log, partition, begin, stop)
        commits = log.commit_rows(question.query_id, to_the_end=to_the_end)
        events = log.event_rows(question.query_id)
        session.found.add("commits", commits)
        session.found.add("group_log", events)
        question.rows = len(commits) + len(events)
        said = [f"{records} records, {size} bytes of partition {partition} from {begin}"]
        said += [f"{count} x {what} not decoded" for what, count in sorted(log.skipped.items())]
        if not to_the_end:
            question.outcome = "partial"
            said.append("stopped at a bound before the end of the log")
            session.blind(
                Blind(
                    "end of the group's log",
                    f"reading {TOPIC} stopped after {records} records and {size} bytes",
                    "Give Kafka a larger budget or ask for a shorter window.",
                )
            )
        question.detail = session.text("; ".join(said))

    session.ask(
        f"read {TOPIC} of group {session.scope.group!r} from {session.scope.start - LEAD}",
        work,
        what="commits and rebalances from the group's log",
        acl=session.acl("Read", "topic", TOPIC),
    )


def _find_partition(session: Session) -> int:
    """Return the partition of the group. Raises KafkaException where the topic is hidden."""
    from confluent_kafka import TopicCollection

    seconds = session.timeout()
    future = session.client.describe_topics(TopicCollection([TOPIC]), request_timeout=seconds)
    return partition_of(session.scope.group, len(session.wait(future[TOPIC], seconds).partitions))


def _bounds(session: Session, partition: int) -> tuple[int, int]:
    """Return the first offset of the window's records and the end of the log."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    since = round((session.scope.start - LEAD).timestamp() * 1000)
    offsets = []
    for spec in (OffsetSpec.for_timestamp(since), OffsetSpec.latest()):
        seconds = session.timeout()
        place = TopicPartition(TOPIC, partition)
        (future,) = session.client.list_offsets({place: spec}, request_timeout=seconds).values()
        offsets.append(int(session.wait(future, seconds).offset))
    begin, stop = offsets
    return (stop if begin < 0 else begin), stop


def _drain(
    session: Session, log: GroupLog, partition: int, begin: int, stop: int
) -> tuple[int, int, bool]:
    """Read from *begin* to *stop*; return records, bytes and whether the end was reached."""
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

    configuration = {
        **session.configuration,
        # random and never committed: the broker has no group of this name before or after
        "group.id": f"lagkit-reader-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        # a commit inside a transaction that was aborted is none
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
    }
    until = time.monotonic() + session.deadline.left(MOST_SECONDS)
    records = size = 0
    consumer = Consumer(configuration, logger=_LOG)
    try:
        # assign, not subscribe: no JoinGroup is ever sent
        consumer.assign([TopicPartition(TOPIC, partition, begin)])
        while records < MOST_RECORDS and size < MOST_BYTES and time.monotonic() < until:
            for message in consumer.consume(BATCH, POLL_SECONDS):
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        return records, size, True
                    raise KafkaException(error)
                records += 1
                size += len(message)
                if message.offset() >= stop:
                    return records, size, True
                _take_in(log, message)
        return records, size, False
    finally:
        consumer.close()


def _take_in(log: GroupLog, message: Any) -> None:
    log.position(message.offset())
    at = pd.Timestamp(message.timestamp()[1], unit="ms", tz="UTC")
    log.add(at, message.offset(), message.key(), message.value())


def _silent() -> Any:
    import logging

    logger = logging.getLogger(__name__)
    logger.addHandler(logging.NullHandler())
    return logger

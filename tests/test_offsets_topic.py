"""The group's own log: records as the coordinator writes them, and records as nobody should."""

from __future__ import annotations

import struct

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagkit import frames
from lagkit.sources.kafka.offsets_topic import (
    Assignment,
    Commit,
    Epoch,
    Generation,
    GroupLog,
    Malformed,
    Member,
    MemberChange,
    UnknownVersion,
    decode,
    partition_of,
)

AT = pd.Timestamp("2026-11-24T02:00:00Z")
GROUP = "deployment-worker"


# -- the coordinator's own encoding ---------------------------------------------------------------


def int16(value: int) -> bytes:
    return struct.pack(">h", value)


def int32(value: int) -> bytes:
    return struct.pack(">i", value)


def int64(value: int) -> bytes:
    return struct.pack(">q", value)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def text(value: str | None, *, compact: bool = False) -> bytes:
    if value is None:
        return varint(0) if compact else int16(-1)
    raw = value.encode()
    return (varint(len(raw) + 1) if compact else int16(len(raw))) + raw


def commit_key(group: str = GROUP, topic: str = "deploy-requests", partition: int = 3) -> bytes:
    return int16(1) + text(group) + text(topic) + int32(partition)


def commit_value(version: int, offset: int) -> bytes:
    compact = version >= 4
    return b"".join(
        [
            int16(version),
            int64(offset),
            int32(7) if version >= 3 else b"",
            text("metadata", compact=compact),
            int64(1),
            int64(2) if version == 1 else b"",
            # one tagged field: the topic's id
            varint(1) + varint(0) + varint(16) + bytes(16) if compact else b"",
        ]
    )


def group_value(version: int, generation: int, *members: str) -> bytes:
    compact = version >= 4

    def blob(value: bytes) -> bytes:
        return (varint(len(value) + 1) if compact else int32(len(value))) + value

    encoded = [
        b"".join(
            [
                text(member, compact=compact),
                text(f"static-{member}", compact=compact) if version >= 3 else b"",
                text(f"client-{member}", compact=compact),
                text("/10.0.0.7", compact=compact),
                int32(60_000) if version >= 1 else b"",
                int32(10_000),
                blob(b"subscription"),
                blob(b"assignment" * 20),
                varint(0) if compact else b"",
            ]
        )
        for member in members
    ]
    return b"".join(
        [
            int16(version),
            text("consumer", compact=compact),
            int32(generation),
            text("range" if members else None, compact=compact),
            text(members[0] if members else None, compact=compact),
            int64(1) if version >= 2 else b"",
            varint(len(members) + 1) if compact else int32(len(members)),
            *encoded,
            varint(0) if compact else b"",
        ]
    )


def group_key(kind: int = 2, group: str = GROUP) -> bytes:
    return int16(kind) + text(group)


def member_key(kind: int, member: str, group: str = GROUP) -> bytes:
    return int16(kind) + text(group) + text(member)


def member_value(client: str) -> bytes:
    return b"".join(
        [
            int16(0),
            text("static-0", compact=True),
            text(None, compact=True),
            text(client, compact=True),
            text("/10.0.0.7", compact=True),
            varint(2),
            text("deploy-requests", compact=True),
            text(None, compact=True),
            int32(45_000),
            text(None, compact=True),
            varint(0),
        ]
    )


def assignment_value(epoch: int, *partitions: int) -> bytes:
    held = bytes(16) + varint(len(partitions) + 1)
    held += b"".join(int32(p) for p in partitions) + varint(0)
    return int16(0) + int32(epoch) + int32(epoch - 1) + b"\0" + varint(2) + held + varint(1) * 2


@pytest.mark.parametrize("version", range(5))
def test_commit_of_every_version_gives_its_offset(version: int) -> None:
    found = decode(commit_key(), commit_value(version, 41_207))
    assert found == Commit(GROUP, "deploy-requests", 3, 41_207)


def test_tombstone_is_a_removed_commit_not_offset_zero() -> None:
    assert decode(commit_key(), None) == Commit(GROUP, "deploy-requests", 3, None)


@pytest.mark.parametrize("version", range(5))
def test_generation_of_every_version_gives_members_and_their_timeouts(version: int) -> None:
    found = decode(group_key(), group_value(version, 12, "m-1", "m-2"))
    assert isinstance(found, Generation)
    assert (found.generation, len(found.members or ())) == (12, 2)
    assert (found.members or ())[0] == Member(
        "m-1",
        "client-m-1",
        "static-m-1" if version >= 3 else None,
        "/10.0.0.7",
        10_000,
        60_000 if version >= 1 else None,
    )


def test_records_of_the_new_protocol_give_epochs_members_and_what_they_hold() -> None:
    assert decode(group_key(3), int16(0) + int32(9) + varint(0)) == Epoch(GROUP, 9)
    member = decode(member_key(5, "m-1"), member_value("worker-0"))
    assert member == MemberChange(
        GROUP, "m-1", Member("m-1", "worker-0", "static-0", "/10.0.0.7", None, 45_000)
    )
    assert decode(member_key(5, "m-1"), None) == MemberChange(GROUP, "m-1", None)
    held = decode(member_key(8, "m-1"), assignment_value(9, 0, 1, 2))
    assert held == Assignment(GROUP, "m-1", 9, 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (commit_key(), int16(5) + bytes(40)),
        (group_key(), int16(9) + bytes(40)),
        (group_key(3), int16(1) + bytes(40)),
        (member_key(11, "m-1"), bytes(40)),
        (int16(200) + bytes(8), bytes(8)),
    ],
)
def test_what_a_newer_broker_may_write_is_unknown_not_guessed(key: bytes, value: bytes) -> None:
    with pytest.raises(UnknownVersion):
        decode(key, value)


@pytest.mark.parametrize(
    "value",
    [
        commit_value(3, 5)[:-1],
        int16(3) + int64(5) + int32(1) + int16(32_000) + b"short",
        int16(4) + int64(5) + int32(1) + b"\xff\xff\xff\xff\xff\x01",
    ],
)
def test_commit_that_claims_bytes_it_has_not_is_malformed(value: bytes) -> None:
    with pytest.raises(Malformed):
        decode(commit_key(), value)


def test_list_that_claims_two_billion_members_is_refused_before_it_is_walked() -> None:
    lied = int16(1) + text("consumer") + int32(1) + text("range") + text("m") + int32(2**31 - 1)
    with pytest.raises(Malformed):
        decode(group_key(), lied)


def test_other_groups_are_passed_over_undecoded() -> None:
    assert decode(commit_key(group="other"), b"nonsense", group=GROUP) is None


@settings(deadline=None)
@given(st.binary(max_size=200) | st.none(), st.binary(max_size=400) | st.none())
def test_hostile_bytes_end_in_a_record_or_a_refusal(key: bytes | None, value: bytes | None) -> None:
    log = GroupLog(GROUP)
    log.position(1)
    log.add(AT, 1, key, value)


@settings(deadline=None)
@given(st.integers(-1, 20), st.binary(max_size=200), st.integers(-1, 8), st.binary(max_size=400))
def test_hostile_bytes_behind_a_true_head_end_in_rows_that_fit_their_frames(
    kind: int, rest: bytes, version: int, value: bytes
) -> None:
    log = GroupLog(GROUP)
    log.add(AT, 1, int16(kind) + text(GROUP) + rest, int16(version) + value)
    frames.normalise("commits", log.commit_rows("kafka-01", to_the_end=True))
    frames.normalise("group_log", log.event_rows("kafka-01"))


# -- which partition -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "java_hash"),
    [
        ("", 0),
        ("a", 97),
        ("deployment-worker", -740144250),
        ("polygenelubricants", -2147483648),
        ("f5a5a608", 0),
        ("\N{PILE OF POO}", 1772556),
    ],
)
def test_partition_is_that_of_javas_hash(group: str, java_hash: int) -> None:
    """The hashes are Java's own."""
    magnitude = 0 if java_hash == -(2**31) else abs(java_hash)
    assert partition_of(group, 50) == magnitude % 50


# -- from records to a timeline --------------------------------------------------------------------


def filled(*records: tuple[bytes, bytes | None], positions: list[int] | None = None) -> GroupLog:
    log = GroupLog(GROUP)
    for number, (key, value) in enumerate(records):
        position = positions[number] if positions else number
        log.position(position)
        log.add(AT + pd.Timedelta(number, "s"), position, key, value)
    return log


def test_members_that_differ_between_generations_joined_or_left() -> None:
    log = filled(
        (group_key(), group_value(3, 1, "a", "b")),
        (group_key(), group_value(3, 2, "b", "c")),
        (group_key(), group_value(3, 3)),
    )
    told = [(e["event"], e["generation"], e["member_id"]) for e in log.events]
    assert told == [
        ("generation", 1, None),
        ("left", 2, "a"),
        ("joined", 2, "c"),
        ("generation", 2, None),
        ("left", 3, "b"),
        ("left", 3, "c"),
        ("emptied", 3, None),
    ]
    first = log.events[0]
    assert (first["session_timeout_seconds"], first["rebalance_timeout_seconds"]) == (10.0, 60.0)
    assert first["member_count"] == 2


def test_first_generation_that_is_read_shows_who_is_there_and_not_who_came() -> None:
    log = filled((group_key(), group_value(3, 7, "a", "b")))
    assert [event["event"] for event in log.events] == ["generation"]


def test_commits_before_a_hole_in_the_log_are_not_complete() -> None:
    """Compaction took what lay between: the value between two commits is not known there."""
    log = filled(
        *[(commit_key(), commit_value(3, n)) for n in range(5)], positions=[0, 1, 40, 41, 43]
    )
    rows = log.commit_rows("q", to_the_end=True)
    assert [row["complete"] for row in rows] == [False, False, True, True, True]


def test_last_commit_is_not_complete_while_the_end_of_the_log_is_unread() -> None:
    log = filled(*[(commit_key(), commit_value(3, n)) for n in range(3)])
    assert [row["complete"] for row in log.commit_rows("q", to_the_end=False)] == [
        True,
        True,
        False,
    ]


def test_what_cannot_be_decoded_is_counted() -> None:
    log = filled(
        (commit_key(), b"\0"), (group_key(), int16(77)), (commit_key(), commit_value(1, 8))
    )
    assert dict(log.skipped) == {"unreadable": 1, "group metadata version 77": 1}
    assert len(log.commits) == 1

"""The admin client's own objects as rows of frames.

Plain functions: they ask nothing and wait for nothing. A number that the broker did not give is
NaN, with the reason in ``error``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lagkit.sources.kafka.errors import describe_error

Place = tuple[str, int]
"""Topic and partition."""
NOT_ANSWERED = -1001
"""What ``list_offsets`` gives, without an error, for a partition whose leader was silent while the
other leaders answered; seen with librdkafka 2.16 and a broker killed."""

TEXT_LIMIT = 500
STATES: Mapping[str, str] = {
    "UNKNOWN": "Unknown",
    "PREPARING_REBALANCING": "PreparingRebalance",
    "COMPLETING_REBALANCING": "CompletingRebalance",
    "STABLE": "Stable",
    "DEAD": "Dead",
    "EMPTY": "Empty",
    "ASSIGNING": "Assigning",
    "RECONCILING": "Reconciling",
}
"""Names of librdkafka's states → the names the broker itself uses."""


@dataclass(frozen=True, slots=True)
class Read:
    """One number for one partition: NaN with an error text where the broker gave none."""

    offset: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Replicas:
    """Where one partition lives; ``leader`` None: nobody leads it."""

    leader: int | None
    replica_count: int
    isr_count: int


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Joins one snapshot's answers into rows of ``partitions``."""

    at: pd.Timestamp
    query_id: str
    starts: Mapping[Place, Read]
    ends: Mapping[Place, Read]
    stable: Mapping[Place, Read]
    replicas: Mapping[Place, Replicas]
    unknown_topics: set[str]

    def of(
        self, group: str, places: Iterable[Place], committed: Mapping[Place, Read] | None
    ) -> Iterator[dict[str, Any]]:
        """Yield a row for each place; without an answer about commits, the error says so."""
        silent = Read(math.nan, "committed offsets: not answered")
        for place in places:
            commit = silent if committed is None else committed.get(place, Read(math.nan))
            reads = {
                "committed_offset": commit,
                "log_start_offset": self.starts.get(place, Read(math.nan)),
                "log_end_offset": self.ends.get(place, Read(math.nan)),
                "last_stable_offset": self.stable.get(place, Read(math.nan)),
            }
            errors = [read.error for read in reads.values() if read.error]
            if place[0] in self.unknown_topics:
                errors.append("topic not described: unknown to the broker or hidden from this user")
            where = self.replicas.get(place)
            yield {
                "timestamp": self.at,
                "group": group,
                "topic": place[0],
                "partition": place[1],
                **{name: read.offset for name, read in reads.items()},
                "leader": None if where is None else where.leader,
                "replica_count": None if where is None else where.replica_count,
                "isr_count": None if where is None else where.isr_count,
                "error": "; ".join(dict.fromkeys(errors)) or None,
                "query_id": self.query_id,
            }


def state_name(group: Any) -> str:
    """Return the broker's name for the state of a described or listed *group*."""
    state = getattr(group, "state", None)
    return "Unknown" if state is None else STATES.get(state.name, str(state.name))


def protocol_name(group: Any) -> str | None:
    """Return ``classic`` or ``consumer``; None where the broker is too old to say."""
    name = getattr(getattr(group, "type", None), "name", "UNKNOWN")
    return None if name == "UNKNOWN" else str(name).lower()


def client_host(host: str | None) -> str | None:
    """Return the address in a broker's client host (``/10.0.0.7`` or ``name/10.0.0.7``)."""
    return (host or "").rpartition("/")[2] or None


def broker_rows(cluster: Any, at: pd.Timestamp, query_id: str) -> list[dict[str, Any]]:
    """Return rows of ``brokers`` from a described cluster."""
    controller = None if cluster.controller is None else cluster.controller.id
    return [
        {
            "timestamp": at,
            "broker_id": node.id,
            "address": f"{node.host}:{node.port}",
            "is_controller": None if controller in (None, -1) else node.id == controller,
            "query_id": query_id,
        }
        for node in sorted(cluster.nodes, key=lambda node: node.id)
    ]


def group_row(group: Any, at: pd.Timestamp, query_id: str) -> dict[str, Any]:
    """Return the row of ``group_state`` of a described *group*."""
    node = group.coordinator
    return {
        "timestamp": at,
        "group": group.group_id,
        "state": state_name(group),
        "protocol": protocol_name(group),
        "assignor": group.partition_assignor or None,
        "coordinator": None if node is None else f"{node.host}:{node.port}",
        "member_count": len(group.members),
        "query_id": query_id,
    }


def assigned(group: Any) -> list[Place]:
    """Return the partitions that members of a described *group* own."""
    return [
        (place.topic, place.partition)
        for member in group.members
        if member.assignment is not None
        for place in member.assignment.topic_partitions
    ]


def member_rows(group: Any, at: pd.Timestamp, query_id: str) -> list[dict[str, Any]]:
    """Return rows of ``members``; a member without partitions keeps one row."""
    rows = []
    for member in group.members:
        owned = [] if member.assignment is None else member.assignment.topic_partitions
        places: list[tuple[str | None, int | None]] = [(p.topic, p.partition) for p in owned]
        rows += [
            {
                "timestamp": at,
                "group": group.group_id,
                "member_id": member.member_id[:TEXT_LIMIT],
                "client_id": (member.client_id or "")[:TEXT_LIMIT] or None,
                "instance_id": (member.group_instance_id or "")[:TEXT_LIMIT] or None,
                "host": client_host(member.host),
                "topic": topic,
                "partition": partition,
                "query_id": query_id,
            }
            for topic, partition in places or [(None, None)]
        ]
    return rows


def committed_offsets(partitions: Iterable[Any]) -> dict[Place, Read]:
    """Return committed offsets; OFFSET_INVALID (-1001) is *no commit*, NaN without an error."""
    read = {}
    for place in partitions:
        if place.error is not None:
            value = Read(math.nan, f"committed offsets: {describe_error(place.error)}")
        else:
            value = Read(float(place.offset) if place.offset >= 0 else math.nan)
        read[place.topic, place.partition] = value
    return read


def replica_map(topic: Any) -> dict[Place, Replicas]:
    """Return where each partition of a described *topic* lives."""
    return {
        (topic.name, part.id): Replicas(
            part.leader.id if part.leader is not None and part.leader.id >= 0 else None,
            len(part.replicas),
            len(part.isr),
        )
        for part in topic.partitions
    }


def config_rows(
    entries: Mapping[str, Any],
    kind: str,
    name: str,
    keys: Sequence[str],
    at: pd.Timestamp,
    query_id: str,
) -> list[dict[str, Any]]:
    """Return rows of ``configs`` for those *keys* that the broker has."""
    return [
        {
            "timestamp": at,
            "resource": kind,
            "name": name,
            "key": key,
            "value": None if entries[key].is_sensitive else entries[key].value,
            "is_default": bool(entries[key].is_default),
            "query_id": query_id,
        }
        for key in keys
        if key in entries
    ]

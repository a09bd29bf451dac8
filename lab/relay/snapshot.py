"""What one pass over the broker finds, and the reader that makes the passes.

Everything comes from the admin API: the reader joins no group and reads no record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

LOG = logging.getLogger("lab.relay")

REQUEST_SECONDS = 4.0  # of one admin request, below the refresh so that a hang is noticed at once
CONFIG_SECONDS = 60.0  # topic configuration changes rarely and costs a request per refresh


@dataclass(frozen=True)
class Broker:
    """One broker: id, host and port as advertised."""

    id: int
    host: str
    port: int


@dataclass(frozen=True)
class Partition:
    """One topic partition. ``end`` and ``start`` are None when the broker did not answer them."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    end: int | None
    start: int | None


@dataclass(frozen=True)
class Topic:
    """One topic and the configuration that kminion shows."""

    partitions: Mapping[int, Partition]
    cleanup_policy: str = ""
    retention_ms: str = ""


@dataclass(frozen=True)
class Group:
    """One consumer group.

    ``kip848``: of the new protocol, which the exporters cannot describe. ``ends_after``: end
    offsets read again after the commits, which kafka_exporter takes for its lag.
    """

    state: str
    protocol: str
    coordinator: int
    members: int
    idle_members: int  # those with no partition at all
    assigned: Mapping[str, Sequence[int]]  # topic: partitions assigned, one entry per member
    committed: Mapping[str, Mapping[int, int]]
    ends_after: Mapping[str, Mapping[int, int]]
    kip848: bool = False


@dataclass(frozen=True)
class Snapshot:
    """What one pass over the broker found."""

    cluster_id: str
    controller: int
    brokers: Sequence[Broker]
    topics: Mapping[str, Topic]
    groups: Mapping[str, Group]


class Reader:
    """Reads snapshots through one AdminClient, and makes a new one after a failure.

    A client that is connected to a frozen broker keeps hanging on it, hence the replacement.
    Commits are asked for in a process of their own: a coordinator that moves kills the asker.
    """

    def __init__(self, bootstrap: str) -> None:
        """Read the cluster at this bootstrap address."""
        self._bootstrap = bootstrap
        self._admin: Any = None
        self._commits: Any = None
        self._configs: dict[str, tuple[str, str]] = {}
        self._configs_at = float("-inf")

    def read(self) -> Snapshot:
        """Return a snapshot.

        End offsets are read before the committed ones, and once more after them: kafka_exporter
        shows the first and takes the second for its lag.

        Raises:
            Exception: whatever the client raised; the next read begins with a new client.
        """
        try:
            return self._read()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the clients; the next read begins with new ones."""
        commits, self._admin, self._commits = self._commits, None, None
        if commits is not None:
            commits.close()

    def _read(self) -> Snapshot:
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
        from confluent_kafka.admin import AdminClient, OffsetSpec

        from lagkit.sources.kafka.coordinator import CoordinatorClient

        if self._admin is None:
            configuration = {
                "bootstrap.servers": self._bootstrap,
                "client.id": "lab-relay",
                "socket.timeout.ms": int(REQUEST_SECONDS * 1_000),
            }
            self._admin = AdminClient(
                configuration, logger=logging.getLogger("lab.relay.librdkafka")
            )
            self._commits = CoordinatorClient(configuration)
            self._commits.start()
        admin = self._admin
        metadata = admin.list_topics(timeout=REQUEST_SECONDS)
        if not metadata.brokers:
            raise RuntimeError("the cluster named no broker")
        wanted = [
            TopicPartition(name, number)
            for name, topic in metadata.topics.items()
            for number in topic.partitions
        ]
        ends = self._offsets(admin, wanted, OffsetSpec.latest())
        starts = self._offsets(admin, wanted, OffsetSpec.earliest())
        listed = admin.list_consumer_groups(request_timeout=REQUEST_SECONDS).result(
            REQUEST_SECONDS + 1
        )
        if listed.errors:
            raise RuntimeError(f"groups could not be listed: {listed.errors[0]}")
        names = sorted(group.group_id for group in listed.valid)
        # one request per group is all the API takes; issued together they cost one round trip
        pending: dict[str, Future[Any]] = {
            name: self._commits.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(name)], request_timeout=REQUEST_SECONDS
            )[name]
            for name in names
        }
        described = (
            self._commits.describe_consumer_groups(names, request_timeout=REQUEST_SECONDS)
            if names
            else {}
        )
        offsets = {name: pending[name].result(REQUEST_SECONDS + 1) for name in names}
        later: dict[str, dict[int, int]] = {}
        if names:
            again = self._offsets(admin, wanted, OffsetSpec.latest())
            for (topic, number), end in again.items():
                later.setdefault(topic, {})[number] = end
        groups = {
            name: _group(described[name].result(REQUEST_SECONDS + 1), offsets[name], later)
            for name in names
        }
        self._refresh_configs(admin, sorted(metadata.topics))
        return Snapshot(
            cluster_id=metadata.cluster_id or "",
            controller=metadata.controller_id,
            brokers=[
                Broker(b.id, b.host, b.port)
                for b in sorted(metadata.brokers.values(), key=lambda b: int(b.id))
            ],
            topics={
                name: Topic(
                    {
                        number: Partition(
                            leader=p.leader,
                            replicas=tuple(p.replicas),
                            in_sync=tuple(p.isrs),
                            end=ends.get((name, number)),
                            start=starts.get((name, number)),
                        )
                        for number, p in topic.partitions.items()
                    },
                    *self._configs.get(name, ("", "")),
                )
                for name, topic in metadata.topics.items()
            },
            groups=groups,
        )

    def _offsets(self, admin: Any, wanted: Sequence[Any], spec: Any) -> dict[tuple[str, int], int]:
        asked = admin.list_offsets(dict.fromkeys(wanted, spec), request_timeout=REQUEST_SECONDS)
        found = {}
        for partition, future in asked.items():
            try:
                found[partition.topic, partition.partition] = future.result(
                    REQUEST_SECONDS + 1
                ).offset
            except Exception as error:  # one leaderless partition must not hide the others
                LOG.debug("no offset of %s[%d]: %s", partition.topic, partition.partition, error)
        if wanted and not found:
            raise RuntimeError("no partition answered its offset")
        return found

    def _refresh_configs(self, admin: Any, topics: Sequence[str]) -> None:
        from confluent_kafka.admin import ConfigResource, ResourceType

        known = set(topics) <= set(self._configs)
        if known and time.monotonic() - self._configs_at < CONFIG_SECONDS:
            return
        asked = admin.describe_configs(
            [ConfigResource(ResourceType.TOPIC, name) for name in topics],
            request_timeout=REQUEST_SECONDS,
        )
        for resource, future in asked.items():
            entries = future.result(REQUEST_SECONDS + 1)
            self._configs[resource.name] = (
                entries["cleanup.policy"].value,
                entries["retention.ms"].value,
            )
        self._configs_at = time.monotonic()


STATES = {
    "STABLE": "Stable",
    "EMPTY": "Empty",
    "DEAD": "Dead",
    "PREPARING_REBALANCING": "PreparingRebalance",
    "COMPLETING_REBALANCING": "CompletingRebalance",
}


def _group(described: Any, offsets: Any, later: Mapping[str, Mapping[int, int]]) -> Group:
    """Build a group from what the admin API describes, its committed offsets and later ends."""
    assigned: dict[str, list[int]] = {}
    idle = 0
    for member in described.members:
        share: dict[str, int] = {}
        for partition in member.assignment.topic_partitions if member.assignment else ():
            share[partition.topic] = share.get(partition.topic, 0) + 1
        idle += not share
        for topic, count in share.items():
            assigned.setdefault(topic, []).append(count)
    committed: dict[str, dict[int, int]] = {}
    for partition in offsets.topic_partitions:
        if partition.error is None and partition.offset >= 0:
            committed.setdefault(partition.topic, {})[partition.partition] = partition.offset
    kind = getattr(getattr(described, "type", None), "name", "CLASSIC")
    return Group(
        state=STATES.get(described.state.name, described.state.name.title()),
        protocol=described.partition_assignor or "",
        coordinator=described.coordinator.id if described.coordinator else -1,
        members=len(described.members),
        idle_members=idle,
        assigned=assigned,
        committed=committed,
        ends_after=later,
        kip848=kind == "CONSUMER",
    )

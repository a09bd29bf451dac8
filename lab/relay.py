"""Stand in for kafka_exporter, kminion and Redpanda's ``/public_metrics``. Lab only.

None of the three can be installed from a package registry. This relay reads the lab's real broker
through the admin API (it never joins a group) and serves the broker's real numbers under their
names: ``/kafka_exporter`` as danielqsj/kafka_exporter 1.9 writes them, ``/kminion`` as kminion
2.3.5 and ``/redpanda`` as Redpanda 24.3. The first two are tested against recorded scrapes of the
real programs, quirks included: -1 for a partition without a commit (kafka_exporter) or no series at
all (kminion), offset sums that add the -1s, a lag in kafka_exporter that is measured against an
end offset read later than the one it shows, and not clamped.
Redpanda's follows its public reference.

It refuses to serve old numbers: a broker that cannot be read leaves a gap, as the real ones would.
What AdminClient cannot know (log directory sizes, the exporters' own traffic) is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOG = logging.getLogger("lab.relay")

REFRESH_SECONDS = 5.0
REQUEST_SECONDS = 4.0  # of one admin request, below the refresh so that a hang is noticed at once
FRESH_SECONDS = 15.0  # three refreshes; older numbers are not served
CONFIG_SECONDS = 60.0  # topic configuration changes rarely and costs a request per refresh
INTERNAL_PREFIX = "__"
UNCOMMITTED = -1  # what kafka_exporter writes for a partition without a commit


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


@dataclass
class Family:
    """One metric of the text format."""

    name: str
    kind: str
    help: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: object) -> None:
        """Append a sample."""
        self.samples.append(({k: str(v) for k, v in labels.items()}, value))


def escaped(text: str) -> str:
    """Escape a label value for the text format."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def go_number(value: float) -> str:
    """Write a number as Go's client does: short, with an exponent from 1e+21 up (never reached)."""
    return str(int(value)) if value == int(value) else repr(value)


def seastar_number(value: float) -> str:
    """Write a gauge as Seastar does, which serves Redpanda's metrics."""
    return f"{value:.6f}"


def exposition(families: Iterable[Family], *, seastar: bool = False) -> str:
    """Write families in the Prometheus text format, sorted by labels as the Go client sorts."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        plain = not seastar or family.kind == "counter"
        for labels, value in sorted(family.samples, key=lambda s: sorted(s[0].items())):
            inner = ",".join(f'{k}="{escaped(labels[k])}"' for k in sorted(labels))
            shown = f"{{{inner}}}" if inner or seastar else ""
            lines.append(f"{family.name}{shown} {(go_number if plain else seastar_number)(value)}")
    return "\n".join([*lines, ""])


def _topic_partitions(snapshot: Snapshot) -> Iterator[tuple[str, int, Partition]]:
    for name, topic in sorted(snapshot.topics.items()):
        for number, partition in sorted(topic.partitions.items()):
            yield name, number, partition


def _end(snapshot: Snapshot, topic: str, number: int) -> int | None:
    known = snapshot.topics.get(topic)
    partition = known.partitions.get(number) if known else None
    return partition.end if partition else None


def kafka_exporter(snapshot: Snapshot | None) -> list[Family]:
    """Return kafka_exporter's families; without a snapshot only its build information."""
    build = Family(
        "kafka_exporter_build_info",
        "gauge",
        "A metric with a constant '1' value labeled by version, revision, branch, goversion from "
        "which kafka_exporter was built, and the goos and goarch for the build.",
    )
    build.add(
        1, branch="", goarch="", goos="", goversion="", revision="lab relay", tags="", version=""
    )
    if snapshot is None:
        return [build]

    def gauge(name: str, text: str) -> Family:
        return Family(name, "gauge", text)

    info = gauge("kafka_broker_info", "Information about the Kafka Broker.")
    for broker in snapshot.brokers:
        info.add(1, address=f"{broker.host}:{broker.port}", id=broker.id)
    brokers = gauge("kafka_brokers", "Number of Brokers in the Kafka Cluster.")
    brokers.add(len(snapshot.brokers))
    current = gauge(
        "kafka_consumergroup_current_offset",
        "Current Offset of a ConsumerGroup at Topic/Partition",
    )
    current_sum = gauge(
        "kafka_consumergroup_current_offset_sum",
        "Current Offset of a ConsumerGroup at Topic for all partitions",
    )
    lag = gauge(
        "kafka_consumergroup_lag", "Current Approximate Lag of a ConsumerGroup at Topic/Partition"
    )
    lag_sum = gauge(
        "kafka_consumergroup_lag_sum",
        "Current Approximate Lag of a ConsumerGroup at Topic for all partitions",
    )
    members = gauge("kafka_consumergroup_members", "Amount of members in a consumer group")
    for name, group in sorted(snapshot.groups.items()):
        # the classic describe call sees no member of a KIP-848 group
        members.add(0 if group.kip848 else group.members, consumergroup=name)
        for topic, committed in sorted(group.committed.items()):
            if not committed:
                continue
            known = snapshot.topics.get(topic)
            offsets, lags = 0, 0
            for number in sorted({*committed, *(known.partitions if known else ())}):
                offset = committed.get(number, UNCOMMITTED)
                labels = {"consumergroup": name, "partition": number, "topic": topic}
                current.add(offset, **labels)
                offsets += offset  # the real one adds the -1s too
                end = group.ends_after.get(topic, {}).get(number)
                if end is None:
                    continue
                if offset == UNCOMMITTED:
                    lag.add(UNCOMMITTED, **labels)
                else:
                    lag.add(end - offset, **labels)  # not clamped
                    lags += end - offset
            current_sum.add(offsets, consumergroup=name, topic=topic)
            lag_sum.add(lags, consumergroup=name, topic=topic)
    end_offset = gauge(
        "kafka_topic_partition_current_offset", "Current Offset of a Broker at Topic/Partition"
    )
    in_sync = gauge(
        "kafka_topic_partition_in_sync_replica",
        "Number of In-Sync Replicas for this Topic/Partition",
    )
    leader = gauge("kafka_topic_partition_leader", "Leader Broker ID of this Topic/Partition")
    preferred = gauge(
        "kafka_topic_partition_leader_is_preferred",
        "1 if Topic/Partition is using the Preferred Broker",
    )
    oldest = gauge(
        "kafka_topic_partition_oldest_offset", "Oldest Offset of a Broker at Topic/Partition"
    )
    replicas = gauge(
        "kafka_topic_partition_replicas", "Number of Replicas for this Topic/Partition"
    )
    under = gauge(
        "kafka_topic_partition_under_replicated_partition",
        "1 if Topic/Partition is under Replicated",
    )
    counts = gauge("kafka_topic_partitions", "Number of partitions for this Topic")
    for name, topic_facts in sorted(snapshot.topics.items()):
        counts.add(len(topic_facts.partitions), topic=name)
    for name, number, partition in _topic_partitions(snapshot):
        labels = {"partition": number, "topic": name}
        if partition.end is not None:
            end_offset.add(partition.end, **labels)
        if partition.start is not None:
            oldest.add(partition.start, **labels)
        in_sync.add(len(partition.in_sync), **labels)
        leader.add(partition.leader, **labels)
        first = partition.replicas[0] if partition.replicas else None
        preferred.add(int(partition.leader == first), **labels)
        replicas.add(len(partition.replicas), **labels)
        under.add(int(len(partition.in_sync) < len(partition.replicas)), **labels)
    return [
        info,
        brokers,
        current,
        current_sum,
        lag,
        lag_sum,
        members,
        build,
        end_offset,
        in_sync,
        leader,
        preferred,
        oldest,
        replicas,
        under,
        counts,
    ]


def kminion(snapshot: Snapshot | None) -> list[Family]:
    """Return kminion's families; without a snapshot only ``kminion_exporter_up 0``."""

    def gauge(name: str, text: str) -> Family:
        return Family(f"kminion_{name}", "gauge", text)

    up = gauge(
        "exporter_up",
        "Build info about this Prometheus Exporter. Gauge value is 0 if one or more scrapes have "
        "failed.",
    )
    up.add(int(snapshot is not None), version="")
    if snapshot is None:
        return [up]
    broker_info = gauge("kafka_broker_info", "Kafka broker information")
    for broker in snapshot.brokers:
        broker_info.add(
            1,
            address=broker.host,
            broker_id=broker.id,
            is_controller=str(broker.id == snapshot.controller).lower(),
            port=broker.port,
            rack_id="",
        )
    cluster = gauge("kafka_cluster_info", "Kafka cluster information")
    cluster.add(
        1,
        broker_count=len(snapshot.brokers),
        cluster_id=snapshot.cluster_id,
        cluster_version="",
        controller_id=snapshot.controller,
    )
    info = gauge(
        "kafka_consumer_group_info",
        "Consumer Group info metrics. It will report 1 if the group is in the stable state, "
        "otherwise 0.",
    )
    members = gauge(
        "kafka_consumer_group_members",
        "Consumer Group member count metrics. It will report the number of members in the consumer "
        "group",
    )
    empty = gauge(
        "kafka_consumer_group_empty_members",
        "It will report the number of members in the consumer group with no partition assigned",
    )
    assigned = gauge(
        "kafka_consumer_group_topic_assigned_partitions",
        "It will report the number of partitions assigned in the consumer group for a given topic",
    )
    topic_lag = gauge(
        "kafka_consumer_group_topic_lag",
        "The number of messages a consumer group is lagging behind across all partitions in a "
        "topic",
    )
    topic_members = gauge(
        "kafka_consumer_group_topic_members",
        "It will report the number of members in the consumer group assigned on a given topic",
    )
    offset_sum = gauge(
        "kafka_consumer_group_topic_offset_sum",
        "The sum of all committed group offsets across all partitions in a topic",
    )
    lag = gauge(
        "kafka_consumer_group_topic_partition_lag",
        "The number of messages a consumer group is lagging behind the latest offset of a "
        "partition",
    )
    for name, group in sorted(snapshot.groups.items()):
        if not group.kip848:  # the describe call it uses answers an error for those
            info.add(
                int(group.state == "Stable"),
                coordinator_id=group.coordinator,
                group_id=name,
                protocol=group.protocol,
                protocol_type="consumer",
                state=group.state,
            )
            members.add(group.members, group_id=name)
            for topic, shares in sorted(group.assigned.items()):
                assigned.add(sum(shares), group_id=name, topic_name=topic)
                topic_members.add(len(shares), group_id=name, topic_name=topic)
            if group.idle_members:  # absent, not 0, when every member has work
                empty.add(group.idle_members, group_id=name)
        for topic, committed in sorted(group.committed.items()):
            total, offsets = 0, 0
            for number, offset in sorted(committed.items()):
                end = _end(snapshot, topic, number)
                if end is None:
                    continue
                behind = max(0, end - offset)  # clamped, unlike kafka_exporter
                lag.add(behind, group_id=name, partition_id=number, topic_name=topic)
                total += behind
                offsets += offset
            if committed:
                topic_lag.add(total, group_id=name, topic_name=topic)
                offset_sum.add(offsets, group_id=name, topic_name=topic)
    high_sum = gauge(
        "kafka_topic_high_water_mark_sum", "Sum of all the topic's partition high water marks"
    )
    low_sum = gauge(
        "kafka_topic_low_water_mark_sum", "Sum of all the topic's partition low water marks"
    )
    topic_info = gauge("kafka_topic_info", "Info labels for a given topic")
    high = gauge("kafka_topic_partition_high_water_mark", "Partition High Water Mark")
    low = gauge("kafka_topic_partition_low_water_mark", "Partition Low Water Mark")
    for name, topic_facts in sorted(snapshot.topics.items()):
        partitions = topic_facts.partitions
        topic_info.add(
            1,
            cleanup_policy=topic_facts.cleanup_policy,
            partition_count=len(partitions),
            replication_factor=max((len(p.replicas) for p in partitions.values()), default=0),
            retention_ms=topic_facts.retention_ms,
            topic_name=name,
        )
        if name.startswith(INTERNAL_PREFIX):
            continue
        ends = {n: p.end for n, p in partitions.items() if p.end is not None}
        starts = {n: p.start for n, p in partitions.items() if p.start is not None}
        high_sum.add(sum(ends.values()), topic_name=name)
        low_sum.add(sum(starts.values()), topic_name=name)
        for number, value in ends.items():
            high.add(value, partition_id=number, topic_name=name)
        for number, value in starts.items():
            low.add(value, partition_id=number, topic_name=name)
    return [
        up,
        broker_info,
        cluster,
        empty,
        info,
        members,
        assigned,
        topic_lag,
        topic_members,
        offset_sum,
        lag,
        high_sum,
        topic_info,
        low_sum,
        high,
        low,
    ]


def redpanda(snapshot: Snapshot) -> list[Family]:
    """Return the families of Redpanda's ``/public_metrics`` that concern lag.

    The broker itself serves that page, so without a broker there is no page. The group lag gauges
    are off by default there, and absent here.
    """

    def gauge(name: str, text: str) -> Family:
        return Family(f"redpanda_{name}", "gauge", text)

    brokers = gauge("cluster_brokers", "Number of configured brokers in the cluster")
    brokers.add(len(snapshot.brokers))
    everything = list(_topic_partitions(snapshot))
    partitions = gauge(
        "cluster_partitions", "Number of partitions in the cluster (replicas not included)"
    )
    partitions.add(len(everything))
    topics = gauge("cluster_topics", "Number of topics in the cluster")
    topics.add(len(snapshot.topics))
    unavailable = gauge(
        "cluster_unavailable_partitions",
        "Number of partitions that lack quorum among replicants",
    )
    unavailable.add(sum(1 for _, _, p in everything if len(p.in_sync) * 2 <= len(p.replicas)))
    committed = gauge("kafka_consumer_group_committed_offset", "Consumer group committed offset")
    consumers = gauge("kafka_consumer_group_consumers", "Number of consumers in a group")
    group_topics = gauge("kafka_consumer_group_topics", "Number of topics in a group")
    for name, group in sorted(snapshot.groups.items()):
        consumers.add(group.members, redpanda_group=name, shard=0)
        group_topics.add(len(group.committed), redpanda_group=name, shard=0)
        for topic, offsets in sorted(group.committed.items()):
            for number, offset in sorted(offsets.items()):
                committed.add(
                    offset,
                    redpanda_group=name,
                    redpanda_partition=number,
                    redpanda_topic=topic,
                    shard=0,
                )
    newest = gauge(
        "kafka_max_offset", "Latest readable offset of the partition (i.e. high watermark)"
    )
    configured = gauge("kafka_partitions", "Configured number of partitions for the topic")
    produced = Family(
        "redpanda_kafka_records_produced_total", "counter", "Total number of records produced"
    )
    replicas = gauge("kafka_replicas", "Configured number of replicas for the topic")
    under = gauge(
        "kafka_under_replicated_replicas",
        "Number of under replicated replicas (i.e. replicas that are live, but not at the latest "
        "offset)",
    )
    for name, topic_facts in sorted(snapshot.topics.items()):
        space = "kafka_internal" if name.startswith(INTERNAL_PREFIX) else "kafka"
        labels = {"redpanda_namespace": space, "redpanda_topic": name}
        configured.add(len(topic_facts.partitions), **labels)
        replicas.add(
            max((len(p.replicas) for p in topic_facts.partitions.values()), default=0), **labels
        )
        ends = [p.end for p in topic_facts.partitions.values()]
        if None not in ends:
            produced.add(sum(end for end in ends if end is not None), **labels)
        for number, partition in sorted(topic_facts.partitions.items()):
            own = {**labels, "redpanda_partition": number}
            if partition.end is not None:
                newest.add(partition.end, **own)
            under.add(len(partition.replicas) - len(partition.in_sync), **own)
    return [
        brokers,
        partitions,
        topics,
        unavailable,
        committed,
        consumers,
        group_topics,
        newest,
        configured,
        produced,
        replicas,
        under,
    ]


class Reader:
    """Reads snapshots through one AdminClient, and makes a new one after a failure.

    A client that is connected to a frozen broker keeps hanging on it, hence the replacement.
    """

    def __init__(self, bootstrap: str) -> None:
        """Read the cluster at this bootstrap address."""
        self._bootstrap = bootstrap
        self._admin: Any = None
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
            self._admin = None
            raise

    def _read(self) -> Snapshot:
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
        from confluent_kafka.admin import AdminClient, OffsetSpec

        if self._admin is None:
            self._admin = AdminClient(
                {
                    "bootstrap.servers": self._bootstrap,
                    "client.id": "lab-relay",
                    "socket.timeout.ms": int(REQUEST_SECONDS * 1_000),
                },
                logger=logging.getLogger("lab.relay.librdkafka"),
            )
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
            name: admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(name)], request_timeout=REQUEST_SECONDS
            )[name]
            for name in names
        }
        described = (
            admin.describe_consumer_groups(names, request_timeout=REQUEST_SECONDS) if names else {}
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


class Relay:
    """Keeps the newest snapshot, refreshed by a thread of its own."""

    def __init__(
        self,
        read: Callable[[], Snapshot],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read with this function; nothing happens before :meth:`start`."""
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._newest: tuple[float, Snapshot] | None = None
        self._stopped = threading.Event()
        self._failing = False

    def refresh(self) -> None:
        """Read once. A failure drops the old snapshot: a gap, not a stale number."""
        began = self._clock()
        try:
            snapshot: Snapshot | None = self._read()
        except Exception as error:
            snapshot = None
            if not self._failing:
                LOG.warning(
                    "the broker cannot be read (%s); serving gaps until it can", str(error)[:300]
                )
        if snapshot is not None and self._failing:
            LOG.info("the broker can be read again")
        self._failing = snapshot is None
        with self._lock:
            self._newest = None if snapshot is None else (began, snapshot)

    def newest(self) -> Snapshot | None:
        """Return the newest snapshot, or None when there is none that is fresh."""
        with self._lock:
            if self._newest is None or self._clock() - self._newest[0] > FRESH_SECONDS:
                return None
            return self._newest[1]

    def start(self) -> None:
        """Begin to refresh in the background."""
        threading.Thread(target=self._run, name="relay-refresh", daemon=True).start()

    def stop(self) -> None:
        """End the background refresh."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = self._clock()
            self.refresh()
            self._stopped.wait(max(0.1, REFRESH_SECONDS - (self._clock() - began)))

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a path."""
        snapshot = self.newest()
        if path == "/kafka_exporter":
            return 200, exposition(kafka_exporter(snapshot))
        if path == "/kminion":
            return 200, exposition(kminion(snapshot))
        if path == "/redpanda":
            if snapshot is None:
                return 503, "the broker that would serve this page cannot be read\n"
            return 200, exposition(redpanda(snapshot), seastar=True)
        if path == "/":
            return 200, "/kafka_exporter /kminion /redpanda (lab stand-ins)\n"
        return 404, "not found\n"


def server(relay: Relay, host: str, port: int) -> ThreadingHTTPServer:
    """Return an HTTP server over the relay, not yet serving."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30  # of an idle scraper

        def do_GET(self) -> None:
            status, text = relay.page(self.path.partition("?")[0])
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            LOG.debug(format, *args)

    return ThreadingHTTPServer((host, port), Handler)


def main(argv: list[str] | None = None) -> int:
    """Run the relay from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.relay", description="a broker's numbers under other exporters' names"
    )
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("lab.relay.librdkafka").setLevel(logging.ERROR)
    relay = Relay(Reader(args.bootstrap).read)
    relay.start()
    http = server(relay, args.host, args.port)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=http.shutdown).start())
    LOG.info("relay (lab stand-in) of %s listens on %s:%d", args.bootstrap, args.host, args.port)
    with contextlib.suppress(KeyboardInterrupt):
        http.serve_forever()
    relay.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

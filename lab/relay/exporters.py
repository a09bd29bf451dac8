"""The pages of kafka_exporter and kminion: the broker's numbers under their names and quirks."""

from __future__ import annotations

from collections.abc import Iterator

from lab.relay.exposition import Family
from lab.relay.snapshot import Partition, Snapshot

INTERNAL_PREFIX = "__"
UNCOMMITTED = -1  # what kafka_exporter writes for a partition without a commit


def topic_partitions(snapshot: Snapshot) -> Iterator[tuple[str, int, Partition]]:
    """Yield every partition with its topic and number, in order."""
    for name, topic in sorted(snapshot.topics.items()):
        for number, partition in sorted(topic.partitions.items()):
            yield name, number, partition


def end_of(snapshot: Snapshot, topic: str, number: int) -> int | None:
    """Return the log end of a partition, None if it is not known."""
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
    for name, number, partition in topic_partitions(snapshot):
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
                end = end_of(snapshot, topic, number)
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


def kminion_by_topic(snapshot: Snapshot | None) -> list[Family]:
    """Return what kminion writes with ``granularity: topic``: the same without partitions' lag."""
    return [family for family in kminion(snapshot) if not family.name.endswith("_partition_lag")]

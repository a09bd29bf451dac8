"""Redpanda's ``/public_metrics``, after its public reference: no Redpanda could be recorded."""

from __future__ import annotations

from lab.relay.exporters import INTERNAL_PREFIX, end_of, topic_partitions
from lab.relay.exposition import Family
from lab.relay.snapshot import Snapshot


def redpanda(snapshot: Snapshot) -> list[Family]:
    """Return the families of Redpanda's ``/public_metrics`` that concern lag.

    The broker itself serves that page, so without a broker there is no page. The group lag gauges
    are off by default there, and absent here; see :func:`redpanda_with_lag`.
    """

    def gauge(name: str, text: str) -> Family:
        return Family(f"redpanda_{name}", "gauge", text)

    brokers = gauge("cluster_brokers", "Number of configured brokers in the cluster")
    brokers.add(len(snapshot.brokers))
    everything = list(topic_partitions(snapshot))
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


def redpanda_with_lag(snapshot: Snapshot) -> list[Family]:
    """Return the same with ``consumer_lag`` in ``enable_consumer_group_metrics``."""
    total = Family(
        "redpanda_kafka_consumer_group_lag_sum", "gauge", "Sum of consumer group lag for all topics"
    )
    most = Family(
        "redpanda_kafka_consumer_group_lag_max", "gauge", "Maximum consumer group lag across topics"
    )
    for name, group in sorted(snapshot.groups.items()):
        lags = [
            max(0, end - offset)
            for topic, offsets in group.committed.items()
            for number, offset in offsets.items()
            for end in [end_of(snapshot, topic, number)]
            if end is not None
        ]
        total.add(sum(lags), redpanda_group=name, shard=0)
        most.add(max(lags, default=0), redpanda_group=name, shard=0)
    return [*redpanda(snapshot), total, most]

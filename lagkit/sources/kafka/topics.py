"""Topics: where their partitions live, and the configuration that matters for lag."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lagkit.sources import Blind, Question
from lagkit.sources.kafka.errors import fault
from lagkit.sources.kafka.rows import Place, Replicas, config_rows, protocol_name, replica_map
from lagkit.sources.kafka.session import Session

TOPIC_KEYS = (
    "retention.ms",
    "retention.bytes",
    "cleanup.policy",
    "segment.ms",
    "min.insync.replicas",
    "max.message.bytes",
    "message.timestamp.type",
)
BROKER_KEYS = (
    "offsets.retention.minutes",
    "group.initial.rebalance.delay.ms",
    "group.min.session.timeout.ms",
    "group.max.session.timeout.ms",
    "group.consumer.session.timeout.ms",
    "group.consumer.heartbeat.interval.ms",
)
GROUP_KEYS = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms")


def describe_topics(
    session: Session, topics: Sequence[str]
) -> tuple[dict[Place, Replicas], set[str]]:
    """Return where each partition lives, and the topics that do not exist or are hidden."""
    from confluent_kafka import KafkaException, TopicCollection

    replicas: dict[Place, Replicas] = {}
    unknown: set[str] = set()
    if not topics:
        return replicas, unknown

    def work(question: Question) -> None:
        seconds = session.timeout()
        futures = session.client.describe_topics(
            TopicCollection(list(topics)), request_timeout=seconds
        )
        faults = []
        for topic, future in futures.items():
            try:
                replicas.update(replica_map(session.wait(future, seconds)))
            except (KafkaException, TimeoutError) as error:
                outcome, why = fault(error, session.call_seconds)
                if outcome != "timeout":
                    unknown.add(topic)
                faults.append(f"{topic}: {why}")
                question.outcome = outcome if len(faults) == len(topics) else "partial"
                session.blind(
                    Blind(
                        f"partitions and replicas of topic {topic}",
                        session.text(why),
                        session.acl("Describe", "topic", topic) if outcome == "denied" else "",
                    )
                )
        question.rows = len(replicas)
        question.detail = session.text("; ".join(faults))

    session.ask(
        f"describe_topics({', '.join(topics)})", work, what="partitions and replicas of topics"
    )
    return replicas, unknown


def read_configs(session: Session, topics: Sequence[str], description: Any) -> None:
    """Keep the configuration of *topics*, of a broker and of a KIP-848 group."""
    _read_configs(session, "topic", topics, TOPIC_KEYS)
    brokers = session.found.rows.get("brokers", [])
    if brokers:
        # one broker speaks for all: these keys are cluster-wide in practice
        _read_configs(session, "broker", [str(brokers[0]["broker_id"])], BROKER_KEYS)
    if description is not None and protocol_name(description) == "consumer":
        _read_configs(session, "group", [session.scope.group], GROUP_KEYS)


def _read_configs(session: Session, kind: str, names: Sequence[str], keys: Sequence[str]) -> None:
    """Ask for all *names* of one kind at once; one that is denied leaves the others."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource, ResourceType

    def work(question: Question) -> None:
        seconds = session.timeout()
        resources = [ConfigResource(ResourceType[kind.upper()], name) for name in names]
        futures = session.client.describe_configs(resources, request_timeout=seconds)
        until = time.monotonic() + seconds
        now = pd.Timestamp.now("UTC")
        faults = []
        for resource, future in futures.items():
            try:
                entries = session.wait(future, max(0.0, until - time.monotonic()))
            except (KafkaException, TimeoutError) as error:
                outcome, why = fault(error, seconds)
                faults.append(f"{resource.name}: {why}")
                question.outcome = outcome if len(faults) == len(names) else "partial"
                on = ("cluster", "kafka-cluster") if kind == "broker" else (kind, resource.name)
                session.blind(
                    Blind(
                        f"configuration of {kind} {resource.name}",
                        session.text(why),
                        session.acl("DescribeConfigs", *on) if outcome == "denied" else "",
                    )
                )
                continue
            rows = config_rows(entries, kind, resource.name, keys, now, question.query_id)
            question.rows += len(rows)
            session.found.add("configs", rows)
        question.detail = session.text("; ".join(faults))

    if names:
        shown = session.text(", ".join(repr(name) for name in names))
        session.ask(
            f"describe_configs({kind} {shown})", work, what=f"configuration of {kind} {shown}"
        )

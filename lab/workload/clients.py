"""The Kafka client libraries a worker can use, behind the few calls it makes.

Knows how each library polls, commits, pauses and tells of a rebalance; knows nothing of requests
or AWX. The libraries log for themselves, because their words are evidence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

LOG = logging.getLogger("worker")

Place = tuple[str, int]
"""Topic and partition."""
Told = Callable[[Sequence[Place]], None]


@dataclass(frozen=True)
class Record:
    """What the worker needs of one record."""

    topic: str
    partition: int
    offset: int
    value: bytes | None


class CommitFailed(RuntimeError):
    """The broker did not take a commit; the text says why."""


class Client(Protocol):
    """One member of a consumer group; a failed commit in the background is logged, not raised."""

    def subscribe(self, topic: str, assigned: Told, revoked: Told, lost: Told) -> None:
        """Join the group for one topic."""

    def poll(self, seconds: float) -> Record | None:
        """Return the next record, or None after ``seconds``."""

    def commit(self, offsets: Mapping[Place, int], *, wait: bool) -> None:
        """Commit next offsets. CommitFailed, with ``wait`` only."""

    def pause(self, place: Place) -> None:
        """Take no more records from a partition."""

    def resume(self, place: Place) -> None:
        """Take records from it again."""

    def seek(self, place: Place, offset: int) -> None:
        """Read a partition from ``offset``."""

    def close(self) -> None:
        """Leave the group."""


class Librdkafka:
    """confluent-kafka."""

    def __init__(self, properties: Mapping[str, str | int | bool]) -> None:
        """Connect lazily; ``properties`` are librdkafka's."""
        from confluent_kafka import Consumer

        self._consumer = Consumer(
            {**properties, "error_cb": self._on_error, "on_commit": self._on_commit},
            logger=logging.getLogger("rdkafka"),
        )

    @staticmethod
    def _on_error(error: Any) -> None:
        LOG.error("kafka client: %s", error)

    @staticmethod
    def _on_commit(error: Any, partitions: list[Any]) -> None:
        if error is not None:
            LOG.error("commit failed: %s", error)

    def subscribe(self, topic: str, assigned: Told, revoked: Told, lost: Told) -> None:
        """Join the group for one topic."""

        def to(told: Told) -> Callable[[Any, list[Any]], None]:
            return lambda _, partitions: told([(p.topic, p.partition) for p in partitions])

        self._consumer.subscribe(
            [topic], on_assign=to(assigned), on_revoke=to(revoked), on_lost=to(lost)
        )

    def poll(self, seconds: float) -> Record | None:
        """Return the next record, or None after ``seconds``."""
        message = self._consumer.poll(seconds)
        if message is None:
            return None
        if message.error():
            LOG.error("kafka: %s", message.error())
            return None
        return Record(message.topic(), message.partition(), message.offset(), message.value())

    def commit(self, offsets: Mapping[Place, int], *, wait: bool) -> None:
        """Commit next offsets."""
        from confluent_kafka import KafkaException, TopicPartition

        listed = [TopicPartition(*place, offset) for place, offset in sorted(offsets.items())]
        try:
            self._consumer.commit(offsets=listed, asynchronous=not wait)
        except KafkaException as error:
            raise CommitFailed(str(error.args[0])) from error

    def pause(self, place: Place) -> None:
        """Take no more records from a partition."""
        from confluent_kafka import TopicPartition

        self._consumer.pause([TopicPartition(*place)])

    def resume(self, place: Place) -> None:
        """Take records from it again."""
        from confluent_kafka import TopicPartition

        self._consumer.resume([TopicPartition(*place)])

    def seek(self, place: Place, offset: int) -> None:
        """Read a partition from ``offset``."""
        from confluent_kafka import TopicPartition

        self._consumer.seek(TopicPartition(*place, offset))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


class KafkaPython:
    """kafka-python, configured from the same properties."""

    ASSIGNORS = ("range", "roundrobin")

    def __init__(self, properties: Mapping[str, str | int | bool]) -> None:
        """Connect; ``properties`` are librdkafka's, of which it takes what it has."""
        from kafka import KafkaConsumer
        from kafka.coordinator.assignors.range import RangePartitionAssignor
        from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

        known = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
        wanted = str(properties["partition.assignment.strategy"])
        self._consumer = KafkaConsumer(
            bootstrap_servers=str(properties["bootstrap.servers"]).split(","),
            client_id=str(properties["client.id"]),
            group_id=str(properties["group.id"]),
            enable_auto_commit=False,
            auto_offset_reset=str(properties["auto.offset.reset"]),
            session_timeout_ms=int(properties["session.timeout.ms"]),
            heartbeat_interval_ms=int(properties["heartbeat.interval.ms"]),
            max_poll_interval_ms=int(properties["max.poll.interval.ms"]),
            request_timeout_ms=int(properties["socket.timeout.ms"])
            + int(properties["session.timeout.ms"]),
            max_poll_records=1,
            partition_assignment_strategy=[known[wanted]],
        )

    def subscribe(self, topic: str, assigned: Told, revoked: Told, lost: Told) -> None:
        """Join the group for one topic."""
        from kafka import ConsumerRebalanceListener

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            def on_partitions_assigned(self, assigned_now: Any) -> None:
                assigned([(p.topic, p.partition) for p in assigned_now])

            def on_partitions_revoked(self, revoked_now: Any) -> None:
                revoked([(p.topic, p.partition) for p in revoked_now])

            def on_partitions_lost(self, lost_now: Any) -> None:
                lost([(p.topic, p.partition) for p in lost_now])

        self._consumer.subscribe([topic], listener=Listener())

    def poll(self, seconds: float) -> Record | None:
        """Return the next record, or None after ``seconds``."""
        batches = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=1)
        for records in batches.values():
            for record in records:
                return Record(record.topic, record.partition, record.offset, record.value)
        return None

    def commit(self, offsets: Mapping[Place, int], *, wait: bool) -> None:
        """Commit next offsets."""
        from kafka import OffsetAndMetadata, TopicPartition
        from kafka.errors import KafkaError

        told = {
            TopicPartition(*place): OffsetAndMetadata(offset, "", -1)
            for place, offset in sorted(offsets.items())
        }
        if not wait:
            self._consumer.commit_async(told, callback=self._on_commit)
            return
        try:
            self._consumer.commit(told)
        except KafkaError as error:
            raise CommitFailed(str(error)) from error

    @staticmethod
    def _on_commit(offsets: Any, answer: Any) -> None:
        if isinstance(answer, Exception):
            LOG.error("commit failed: %s", answer)

    def pause(self, place: Place) -> None:
        """Take no more records from a partition."""
        from kafka import TopicPartition

        self._consumer.pause(TopicPartition(*place))

    def resume(self, place: Place) -> None:
        """Take records from it again."""
        from kafka import TopicPartition

        self._consumer.resume(TopicPartition(*place))

    def seek(self, place: Place, offset: int) -> None:
        """Read a partition from ``offset``."""
        from kafka import TopicPartition

        self._consumer.seek(TopicPartition(*place), offset)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close(autocommit=False)


CLIENTS: Mapping[str, Callable[[Mapping[str, str | int | bool]], Client]] = {
    "confluent": Librdkafka,
    "kafka-python": KafkaPython,
}

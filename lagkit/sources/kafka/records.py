"""A few records of one partition, read outside every group.

A consumer of its own random group id, given its partition and offset by hand: it joins no group,
asks for no committed offset and commits none. Reads what is written, committed by its transaction
or not, because that is what a group can be stuck on.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lagkit.sources import Deadline
from lagkit.sources.kafka.errors import DENIED, describe_error, error_name

if TYPE_CHECKING:
    from lagkit.sources.kafka import KafkaSource

MOST_BYTES = 32 * 2**20
"""Most that is fetched ahead; a record larger than this still comes alone."""
POLL_SECONDS = 0.25
_TIMESTAMPS = {1: "create time", 2: "log append time"}


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it lies in the log; ``key`` and ``value`` None: null."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None
    timestamp_kind: str = ""

    @property
    def size(self) -> int:
        """Bytes of key, value and headers, without the batch around them and its compression."""
        headers = sum(len(name.encode()) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


@dataclass(frozen=True, slots=True)
class Read:
    """The records between two offsets, in order; ``fault`` says why there are not all of them."""

    records: tuple[Record, ...]
    fault: str = ""
    denied: bool = False


def read_records(
    source: KafkaSource,
    topic: str,
    partition: int,
    first: int,
    last: int,
    *,
    budget_seconds: float,
) -> Read:
    """Return the records at offsets *first* to *last* that are there; never raises.

    Offsets without a record (compacted away, or a transaction's marker) have none.
    """
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    said: list[str] = []
    deadline = Deadline(budget_seconds)
    try:
        consumer = Consumer(_configuration(source, said))
    except (KafkaException, ValueError, TypeError) as error:
        return Read((), _clean(source, describe_error(error)))
    found: list[Record] = []
    try:
        consumer.assign([TopicPartition(topic, partition, first)])
        while not deadline.passed:
            message = consumer.poll(min(POLL_SECONDS, deadline.left()))
            if message is None:
                continue
            refusal = message.error()
            if refusal is not None:
                if error_name(refusal) == "_PARTITION_EOF":
                    return Read(tuple(found))
                why = _clean(source, describe_error(refusal))
                return Read(tuple(found), why, denied=error_name(refusal) in DENIED)
            if message.offset() > last:
                return Read(tuple(found))
            found.append(_record(message))
            if message.offset() == last:
                return Read(tuple(found))
    except Exception as error:  # a source never raises
        return Read(tuple(found), _clean(source, f"{type(error).__name__}: {error}"))
    finally:
        consumer.close()
    why = "; ".join(dict.fromkeys(said))[:500]
    text = f"no answer within {budget_seconds:g} s" + (f": {why}" if why else "")
    return Read(tuple(found), _clean(source, text))


def _configuration(source: KafkaSource, said: list[str]) -> Mapping[str, Any]:
    return {
        **source.configuration(),
        # nobody's group: random, so that it can be no monitored group's, and never joined
        "group.id": f"lagkit-peek-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_uncommitted",
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": MOST_BYTES // 1024,
        "fetch.max.bytes": MOST_BYTES,
        "log_level": 0,
        "error_cb": lambda error: said.append(str(error.str())),
    }


def _record(message: Any) -> Record:
    kind, moment = message.timestamp()
    return Record(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        headers=tuple(
            (str(name), None if value is None else bytes(value))
            for name, value in message.headers() or ()
        ),
        timestamp_ms=moment if kind in _TIMESTAMPS else None,
        timestamp_kind=_TIMESTAMPS.get(kind, ""),
    )


def _clean(source: KafkaSource, text: str) -> str:
    for secret in source.secrets:
        text = text.replace(secret, "***")
    return text

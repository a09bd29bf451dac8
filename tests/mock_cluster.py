"""librdkafka's own mock brokers: they listen on loopback and answer as they are told to.

Reached by ctypes through the library that confluent-kafka brings along, which offers them to C
alone. They speak the real protocol, so a client in any process is answered by them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import confluent_kafka.cimpl
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

OFFSET_FETCH = 9
"""The number of the request in Kafka's protocol."""
_PRODUCER = 0
_TEXT = 512
_PATIENCE = 10.0


@dataclass(frozen=True)
class MockCluster:
    """One running mock broker."""

    bootstrap: str
    _library: Any
    _cluster: int

    def fail(self, *codes: int, request: int = OFFSET_FETCH) -> None:
        """Answer the next requests of this kind by these error codes, one each."""
        for code in codes:
            self._library.rd_kafka_mock_push_request_errors(
                ctypes.c_void_p(self._cluster),
                ctypes.c_int16(request),
                ctypes.c_size_t(1),
                ctypes.c_int(code),
            )

    def delay(self, milliseconds: int) -> None:
        """Keep every answer back for so long; 0: no longer."""
        self._library.rd_kafka_mock_broker_set_rtt(
            ctypes.c_void_p(self._cluster), ctypes.c_int32(1), ctypes.c_int(milliseconds)
        )

    def commit(self, group: str, topic: str, *offsets: int) -> None:
        """Commit *offsets* of the partitions of *topic*, from 0 on."""
        places = [TopicPartition(topic, number, offset) for number, offset in enumerate(offsets)]
        self._library.rd_kafka_mock_topic_create(
            ctypes.c_void_p(self._cluster), topic.encode(), len(places), 1
        )
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        request = ConsumerGroupTopicPartitions(group, places)
        admin.alter_consumer_group_offsets([request])[group].result(_PATIENCE)


@contextmanager
def mock_cluster() -> Iterator[MockCluster]:
    """Run one mock broker, which knows no topic and no commit."""
    library = ctypes.CDLL(confluent_kafka.cimpl.__file__)
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    text = ctypes.create_string_buffer(_TEXT)
    configuration = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(configuration, b"log_level", b"0", text, ctypes.c_size_t(_TEXT))
    owner = library.rd_kafka_new(_PRODUCER, configuration, text, ctypes.c_size_t(_TEXT))
    assert owner, text.value
    cluster = library.rd_kafka_mock_cluster_new(ctypes.c_void_p(owner), 1)
    try:
        bootstrap = library.rd_kafka_mock_cluster_bootstraps(ctypes.c_void_p(cluster)).decode()
        yield MockCluster(bootstrap, library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(ctypes.c_void_p(cluster))
        library.rd_kafka_destroy(ctypes.c_void_p(owner))

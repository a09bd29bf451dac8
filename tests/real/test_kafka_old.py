"""The Kafka source against a broker that lacks what Redpanda lacks."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lab import kafka as lab_kafka
from lab.install import Artifact, install
from lab.processes import Ledger
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.kafka import KafkaSource

from .conftest import require

PATIENCE = 30.0
TOPIC, GROUP, OTHER = "orders", "orders-worker", "orders-audit"
PARTITIONS, MESSAGES, COMMITTED = 3, 10, 4


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Kafka 2.8 with two groups on one topic, one of them with a member."""
    parts = install(["kafka-old"])
    require(parts, "kafka-old")
    artifact = parts["kafka-old"]
    assert isinstance(artifact, Artifact)
    ledger = Ledger(tmp_path_factory.mktemp("old"))
    cluster = lab_kafka.plan(1, proxied=False)
    with ledger.exclusive():
        try:
            lab_kafka.start(ledger, artifact, None, cluster)
            prepare(cluster.bootstrap)
            yield cluster.bootstrap
        finally:
            ledger.stop()


def prepare(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(PATIENCE)
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(MESSAGES * PARTITIONS):
        producer.produce(TOPIC, b"x", partition=number % PARTITIONS)
    assert producer.flush(PATIENCE) == 0
    for group in (GROUP, OTHER):
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
        consumer.commit(offsets=[TopicPartition(TOPIC, 0, COMMITTED)], asynchronous=False)
        consumer.close()


@pytest.fixture(scope="module")
def answer(bootstrap: str) -> Answer:
    now = pd.Timestamp.now("UTC")
    scope = Scope(GROUP, (), now - pd.Timedelta("1h"), now, Runbook(title="t"))
    return KafkaSource(bootstrap, snapshots=2, interval=0.2).fetch(scope, budget_seconds=30)


def test_an_old_broker_is_read_whole(answer: Answer) -> None:
    assert answer.status == "ok", answer.blind
    rows = answer.frames["partitions"]
    mine = rows[rows["group"] == GROUP].set_index("partition")
    assert set(mine.loc[[0], "committed_offset"]) == {COMMITTED}
    assert (mine["log_end_offset"] == MESSAGES).all()
    assert (mine["last_stable_offset"] == MESSAGES).all()


def test_an_old_broker_tells_ages_and_production_by_time(answer: Answer) -> None:
    """By ListOffsets with a timestamp, which is as old as Kafka 0.10 and in Redpanda."""
    oldest = answer.frames["oldest_unread"].set_index("partition")
    assert 0 <= oldest.loc[0, "time_lag_seconds"] < 600
    history = answer.frames["log_end_history"].groupby("partition")["log_end_offset"]
    assert history.min().tolist() == [0] * PARTITIONS
    assert history.max().tolist() == [MESSAGES] * PARTITIONS


def test_a_neighbour_is_found_without_the_fetch_of_many_groups(answer: Answer) -> None:
    assert set(answer.frames["partitions"]["group"]) == {GROUP, OTHER}


def test_a_protocol_that_an_old_broker_cannot_tell_is_not_made_up(answer: Answer) -> None:
    assert set(answer.frames["group_state"]["protocol"].dropna()) <= {"classic"}

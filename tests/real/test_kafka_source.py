"""The Kafka source against a real broker."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lab.stack import Stack
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.kafka import KafkaSource

from .conftest import require

PATIENCE = 30.0
PARTITIONS = 3
MESSAGES = 10
SNAPSHOTS, INTERVAL = 3, 0.3


@dataclass(frozen=True)
class Place:
    """A topic of its own on the lab's broker, with ten messages in each partition."""

    bootstrap: str
    topic: str
    group: str


@pytest.fixture
def place(stack: Stack) -> Place:
    require(stack, "kafka")
    name = f"src-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    topic = NewTopic(name, PARTITIONS, 1, config={"retention.ms": "3600000"})
    admin.create_topics([topic])[name].result(timeout=PATIENCE)
    produce(stack.kafka.bootstrap, name, MESSAGES)
    return Place(stack.kafka.bootstrap, name, f"{name}-group")


def produce(bootstrap: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(count):
        for partition in range(PARTITIONS):
            producer.produce(topic, str(number).encode(), partition=partition)
    assert producer.flush(PATIENCE) == 0


def commit(place: Place, group: str, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": place.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(place.topic, partition, offset)], asynchronous=False)
    consumer.close()


@pytest.fixture
def consumer(place: Place, request: pytest.FixtureRequest) -> Iterator[Consumer]:
    """Join the group of *place* and poll in the background until the partitions are there."""
    protocol = getattr(request, "param", "classic")
    joined = threading.Event()
    client = Consumer(
        {
            "bootstrap.servers": place.bootstrap,
            "group.id": place.group,
            "client.id": "api-0",
            "group.protocol": protocol,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    client.subscribe([place.topic], on_assign=lambda *_: joined.set())
    ended = threading.Event()

    def poll() -> None:
        while not ended.is_set():
            client.poll(0.1)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    assert joined.wait(PATIENCE)
    yield client
    ended.set()
    thread.join()
    client.close()


def read(place: Place, *, group: str | None = None, budget: float = 30.0, **more: Any) -> Answer:
    now = pd.Timestamp.now("UTC")
    scope = Scope(group or place.group, (), now - pd.Timedelta("1h"), now, Runbook(title="t"))
    source = KafkaSource(place.bootstrap, snapshots=SNAPSHOTS, interval=INTERVAL, **more)
    return source.fetch(scope, budget_seconds=budget)


def mine(answer: Answer, group: str) -> pd.DataFrame:
    rows = answer.frames["partitions"]
    return rows[rows["group"] == group]


def test_offsets_are_exact_and_a_partition_without_a_commit_is_unknown(place: Place) -> None:
    commit(place, place.group, 0, 4)
    answer = read(place)
    assert answer.status == "ok", answer.blind
    rows = mine(answer, place.group)
    assert rows["timestamp"].nunique() == SNAPSHOTS
    last = rows[rows["timestamp"] == rows["timestamp"].max()].set_index("partition")
    assert last.loc[0, "committed_offset"] == 4
    assert last.loc[[1, 2], "committed_offset"].isna().all()
    assert (last["log_end_offset"] == MESSAGES).all()
    assert (last["log_start_offset"] == 0).all()
    assert (last["last_stable_offset"] == MESSAGES).all()
    assert (last["isr_count"] == 1).all()
    assert last["error"].isna().all()


@pytest.mark.parametrize("consumer", ["classic", "consumer"], indirect=True)
def test_group_of_either_protocol_is_described_with_its_member(
    place: Place, consumer: Consumer, request: pytest.FixtureRequest
) -> None:
    answer = read(place)
    state = answer.frames["group_state"].iloc[0]
    assert (state["state"], state["member_count"]) == ("Stable", 1)
    assert state["protocol"] == request.node.callspec.params["consumer"]
    members = answer.frames["members"]
    assert members["partition"].tolist() == [0, 1, 2]
    assert set(members["client_id"]) == {"api-0"}
    assert set(members["host"]) == {"127.0.0.1"}
    assert answer.facts["group_exists"] == "yes"


def test_motion_is_visible_between_snapshots(place: Place) -> None:
    commit(place, place.group, 0, 1)
    stop = threading.Event()

    def keep_producing() -> None:
        while not stop.is_set():
            produce(place.bootstrap, place.topic, 1)

    thread = threading.Thread(target=keep_producing, daemon=True)
    thread.start()
    try:
        rows = mine(read(place), place.group)
    finally:
        stop.set()
        thread.join()
    ends = rows[rows["partition"] == 0].sort_values("timestamp")["log_end_offset"]
    assert ends.iloc[-1] > ends.iloc[0]


def test_open_transaction_holds_the_last_stable_offset_back(place: Place) -> None:
    commit(place, place.group, 0, 1)
    producer = Producer(
        {"bootstrap.servers": place.bootstrap, "transactional.id": f"{place.topic}-tx"}
    )
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    for _ in range(5):
        producer.produce(place.topic, b"open", partition=0)
    producer.flush(PATIENCE)
    try:
        rows = mine(read(place), place.group)
    finally:
        producer.abort_transaction(PATIENCE)
    row = rows[rows["partition"] == 0].iloc[-1]
    assert row["log_end_offset"] == MESSAGES + 5
    assert row["last_stable_offset"] == MESSAGES


def test_unknown_group_is_said_so_with_near_names(place: Place) -> None:
    commit(place, place.group, 0, 1)
    answer = read(place, group=place.group.replace("group", "gruop"))
    assert answer.facts["group_exists"] == "no"
    assert place.group in answer.facts["near_groups"].split(", ")
    assert answer.frames.get("partitions", pd.DataFrame()).empty


def test_empty_group_exists_and_has_no_members(place: Place) -> None:
    commit(place, place.group, 0, 1)
    answer = read(place)
    assert answer.facts["group_exists"] == "yes"
    assert answer.frames["group_state"].iloc[0]["state"] == "Empty"
    assert answer.frames["members"].empty


def test_other_groups_on_the_same_topic_are_read_at_first_and_last(place: Place) -> None:
    commit(place, place.group, 0, 1)
    commit(place, f"{place.topic}-other", 1, 7)
    answer = read(place)
    rows = mine(answer, f"{place.topic}-other")
    assert rows["timestamp"].nunique() == 2
    assert set(rows["committed_offset"]) == {7}
    assert set(answer.frames["group_state"]["group"]) == {place.group, f"{place.topic}-other"}


def test_configuration_that_matters_is_read(place: Place) -> None:
    commit(place, place.group, 0, 1)
    configs = read(place).frames["configs"].set_index(["resource", "key"])
    assert configs.loc[("topic", "retention.ms"), "value"] == "3600000"
    assert not configs.loc[("topic", "retention.ms"), "is_default"]
    assert ("broker", "offsets.retention.minutes") in configs.index


def test_reading_leaves_no_group_and_no_member_behind(place: Place, consumer: Consumer) -> None:
    del consumer
    admin = AdminClient({"bootstrap.servers": place.bootstrap})
    before = {g.group_id for g in admin.list_consumer_groups(request_timeout=10).result(20).valid}
    read(place)
    after = {g.group_id for g in admin.list_consumer_groups(request_timeout=10).result(20).valid}
    assert after == before
    described = admin.describe_consumer_groups([place.group], request_timeout=10)
    assert len(described[place.group].result(20).members) == 1


def test_broker_that_goes_silent_costs_the_budget_and_is_a_blind_spot(stack: Stack) -> None:
    require(stack, "kafka")
    require(stack, "toxiproxy")
    place = Place(stack.kafka.proxied_bootstrap, "any", "any")
    stack.toxiproxy.add("kafka-1", "timeout", {"timeout": 0}, stream="upstream")
    began = time.monotonic()
    try:
        answer = read(place, budget=3.0)
    finally:
        took = time.monotonic() - began
        stack.toxiproxy.clear()
    assert took < 15
    assert answer.status == "unavailable"
    assert answer.blind
    assert "timeout" in set(answer.queries["outcome"])

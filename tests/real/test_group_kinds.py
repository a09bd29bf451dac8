"""Every kind of group and of topic: what lagkit says of it is right, and nothing crashes."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import pytest
from confluent_kafka import Consumer, Producer, ShareConsumer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from lab import security
from lab.stack import Stack
from lagkit.collect import build_incident
from lagkit.config import Settings
from lagkit.investigation import Result, investigate
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.kafka import KafkaSource

from .conftest import require

PATIENCE = 30.0
PARTITIONS = 2
RECORDS = 20


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(tmp_path_factory.mktemp("kinds"), parts=("kafka",)) as stack:
        require(stack, "kafka")
        # confluent-kafka 2.16.1 dies of a segmentation fault when it lists the offsets of a group
        # before the broker has made __consumer_offsets
        first = Place(stack.kafka.bootstrap, "first", "first-group")
        first.create()
        first.commit(0)
        yield stack.kafka.bootstrap


@dataclass(frozen=True)
class Place:
    """A topic of our own with ten records in each of two partitions, and its group."""

    bootstrap: str
    topic: str
    group: str

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def create(self, **config: str) -> None:
        topic = NewTopic(self.topic, PARTITIONS, 1, config=config)
        self.admin.create_topics([topic])[self.topic].result(PATIENCE)

    def produce(self, count: int = RECORDS, key: bytes | None = None) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for number in range(count):
            producer.produce(self.topic, b"x", key=key, partition=number % PARTITIONS)
        assert producer.flush(PATIENCE) == 0

    def consumer(self, **more: Any) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **more,
            }
        )

    def commit(self, *offsets: int) -> None:
        consumer = self.consumer()
        places = [TopicPartition(self.topic, p, offset) for p, offset in enumerate(offsets)]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def scope(self) -> Scope:
        now = pd.Timestamp.now("UTC")
        return Scope(self.group, (), now - pd.Timedelta("1h"), now, Runbook(title="t"))

    def read(self, *, group_log: bool = False, snapshots: int = 3) -> Answer:
        source = KafkaSource(self.bootstrap, snapshots=snapshots, interval=0.3)
        if group_log:
            source.read_group_log()
        return source.fetch(self.scope(), budget_seconds=30)

    def judge(self, answer: Answer) -> Result:
        return investigate(build_incident(self.scope(), {"kafka": answer}, Settings()))


@pytest.fixture
def place(bootstrap: str) -> Place:
    name = f"kind-{uuid.uuid4().hex[:8]}"
    return Place(bootstrap, name, f"{name}-group")


@dataclass
class Running:
    """Polls a client in the background and commits what it reads, until it is stopped."""

    client: Any
    stopped: threading.Event
    thread: threading.Thread

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.client.close()


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(client: Any, poll: Callable[[Any], None]) -> Running:
        stopped = threading.Event()

        def loop() -> None:
            while not stopped.is_set():
                poll(client)

        thread = threading.Thread(target=loop, daemon=True)
        started.append(Running(client, stopped, thread))
        thread.start()
        return started[-1]

    yield start
    for each in started:
        if not each.stopped.is_set():
            each.stop()


def take(client: Consumer) -> None:
    message = client.poll(0.1)
    if message is not None and message.error() is None:
        client.commit(message, asynchronous=False)


def committed(place: Place) -> dict[int, int]:
    from confluent_kafka import ConsumerGroupTopicPartitions

    asked = place.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(place.group)])
    return {p.partition: p.offset for p in asked[place.group].result(PATIENCE).topic_partitions}


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.1)


def check(result: Result, kind: str) -> Any:
    return next(c for c in result.verdict.checks if c.kind == kind)


def status(result: Result) -> dict[int, str]:
    return result.flow.status.set_index("partition")["status"].to_dict()


# -- groups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_group_that_has_read_all_is_no_incident_in_either_protocol(
    place: Place, running, protocol: str
) -> None:
    place.create()
    place.produce()
    client = place.consumer(**{"group.protocol": protocol})
    client.subscribe([place.topic])
    running(client, take)
    wait_until(lambda: committed(place) == {0: 10, 1: 10}, "all to be read")
    answer = place.read()
    assert answer.status == "ok", answer.blind
    assert set(answer.frames["members"]["partition"]) == {0, 1}
    result = place.judge(answer)
    assert (result.verdict.state, result.verdict.verdict.cause) == ("healthy", "none")
    assert check(result, "members_missing").outcome == "absent"


def test_static_member_is_told_by_its_instance_id(place: Place, running) -> None:
    place.create()
    place.produce()
    client = place.consumer(**{"group.instance.id": "worker-0"})
    client.subscribe([place.topic])
    running(client, take)
    wait_until(lambda: committed(place) == {0: 10, 1: 10}, "all to be read")
    members = place.read().frames["members"]
    assert set(members["instance_id"]) == {"worker-0"}


def test_share_group_is_named_as_one_and_not_as_missing(place: Place, running) -> None:
    place.create()
    place.produce()
    client = ShareConsumer(
        {"bootstrap.servers": place.bootstrap, "group.id": place.group, "log_level": 0}
    )
    client.subscribe([place.topic])
    running(client, lambda each: each.poll(0.2))

    def listed() -> bool:
        return place.read(snapshots=1).facts.get("group_exists") == "yes"

    wait_until(listed, "the share group to be listed")
    answer = place.read()
    assert answer.facts["group_kind"] == "not a consumer group"
    assert any("share group" in blind.why for blind in answer.blind)
    result = place.judge(answer)
    assert result.verdict.state == "unknown"
    assert check(result, "members_missing").outcome == "not_checked"
    assert any("share group" in told for told in result.verdict.not_checked)


def take_slowly(client: Consumer) -> None:
    take(client)
    time.sleep(0.05)


def test_consumer_that_assigns_itself_has_no_members_and_none_are_missed(
    place: Place, running
) -> None:
    place.create()
    place.produce(20 * RECORDS)
    client = place.consumer()
    client.assign([TopicPartition(place.topic, p, 0) for p in range(PARTITIONS)])
    running(client, take_slowly)
    wait_until(lambda: sum(committed(place).values()) > 0, "a first commit")
    answer = place.read(snapshots=4)
    assert answer.frames["group_state"]["state"].iloc[-1] == "Empty"
    assert answer.frames["members"].empty
    result = place.judge(answer)
    missing = check(result, "members_missing")
    assert missing.outcome == "not_checked", "it commits, so somebody reads"
    assert "assigns its partitions itself" in missing.reason
    assert result.verdict.verdict.cause != "consumer_down"


def test_empty_group_with_a_backlog_misses_its_members(place: Place) -> None:
    place.create()
    place.produce()
    place.commit(4, 4)
    result = place.judge(place.read())
    missing = check(result, "members_missing")
    assert missing.outcome == "present"
    assert "Empty" in missing.findings[0].statement
    assert result.verdict.impact.lag_messages_now == 12


# -- topics ---------------------------------------------------------------------------------------


def test_marker_of_a_transaction_left_behind_is_no_incident(place: Place) -> None:
    """librdkafka#3917: lag 1 for ever."""
    place.create()
    producer = Producer(
        {"bootstrap.servers": place.bootstrap, "transactional.id": f"{place.topic}-tx",
         "log_level": 0}
    )  # fmt: skip
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    for number in range(RECORDS):
        producer.produce(
            place.topic, b"x", partition=number % PARTITIONS,
            timestamp=round(time.time() * 1000) - 1_800_000,
        )  # fmt: skip
    producer.commit_transaction(PATIENCE)
    place.commit(10, 10)
    result = place.judge(place.read())
    assert result.verdict.impact.lag_messages_now == PARTITIONS, "one marker each"
    assert result.verdict.state == "healthy"
    assert check(result, "promise_kept").outcome == "present"
    assert result.flow.onset is None


def test_hung_transaction_is_seen_at_the_last_stable_offset(place: Place) -> None:
    place.create()
    place.commit(0, 0)
    producer = Producer(
        {"bootstrap.servers": place.bootstrap, "transactional.id": f"{place.topic}-tx",
         "log_level": 0}
    )  # fmt: skip
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    for _ in range(5):
        producer.produce(
            place.topic, b"open", partition=0, timestamp=round(time.time() * 1000) - 600_000
        )
    producer.flush(PATIENCE)
    try:
        answer = place.read()
    finally:
        producer.abort_transaction(PATIENCE)
    result = place.judge(answer)
    pinned = check(result, "last_stable_offset_pinned")
    assert pinned.outcome == "present"
    assert f"{place.topic}[0]" in pinned.findings[0].statement
    oldest = answer.frames["oldest_unread"].set_index("partition")
    assert oldest.loc[0, "time_lag_seconds"] >= 600


def test_lag_on_a_compacted_topic_is_said_to_be_an_upper_bound(place: Place) -> None:
    place.create(**{"cleanup.policy": "compact"})
    place.produce(key=b"k")
    place.commit(3, 3)
    notes = place.read().frames["oldest_unread"]["note"]
    assert notes.str.contains("compacted").all()


def test_topic_that_was_deleted_leaves_no_lag_and_no_crash(place: Place) -> None:
    place.create()
    place.produce()
    place.commit(4, 4)
    place.admin.delete_topics([place.topic])[place.topic].result(PATIENCE)
    wait_until(lambda: not committed(place), "the broker to drop the commits")
    answer = place.read()
    assert answer.facts.get("group_exists") == "yes"
    assert any("deleted" in blind.why for blind in answer.blind)
    assert place.judge(answer).verdict.state == "unknown"


def test_commit_on_a_topic_that_does_not_exist_is_an_error_in_its_row(place: Place) -> None:
    """As Redpanda keeps them, and Kafka until its coordinator has heard of the deletion."""
    place.create()
    place.produce()
    place.commit(4, 4)
    place.admin.delete_topics([place.topic])[place.topic].result(PATIENCE)
    now = pd.Timestamp.now("UTC")
    scope = Scope(place.group, (place.topic,), now - pd.Timedelta("1h"), now, Runbook(title="t"))
    answer = KafkaSource(place.bootstrap, snapshots=1).fetch(scope, budget_seconds=30)
    assert any(place.topic in blind.what for blind in answer.blind)


@pytest.mark.parametrize("group_log", [False, True], ids=["offsets", "group-log"])
def test_topic_that_was_deleted_and_made_again_begins_anew(place: Place, group_log: bool) -> None:
    place.create()
    place.produce(10 * RECORDS)
    place.commit(90, 90)
    place.admin.delete_topics([place.topic])[place.topic].result(PATIENCE)
    wait_until(lambda: not committed(place), "the broker to drop the commits")
    place.create()
    place.produce(6)
    place.commit(1, 1)
    answer = place.read(group_log=group_log)
    assert answer.status == "ok", answer.blind
    rows = answer.frames["partitions"]
    assert set(rows["log_end_offset"]) == {3}
    assert set(rows["committed_offset"]) == {1}
    assert answer.frames["log_end_history"]["log_end_offset"].max() == 3, "none of the old topic"
    result = place.judge(answer)
    assert result.verdict.impact.lag_messages_now == 4
    assert result.verdict.verdict.cause != "offset_reset"


def test_commit_beyond_the_end_of_a_topic_made_anew_is_named(place: Place) -> None:
    place.create()
    place.produce(6)
    place.commit(400, 3)
    answer = place.read()
    (blind,) = (b for b in answer.blind if "beyond the log end" in b.why)
    assert blind.what == "lag of 1 of 2 partitions"
    assert f"{place.topic}[0]" in blind.why
    result = place.judge(answer)
    assert any("beyond the log end" in told for told in result.verdict.not_checked)


# -- the group's own log, where READ is granted ----------------------------------------------------


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_that_come_and_go_are_in_the_groups_log(
    place: Place, running, protocol: str
) -> None:
    place.create()
    place.produce()
    more = {"group.protocol": protocol}
    if protocol == "classic":
        more |= {"session.timeout.ms": "7000", "max.poll.interval.ms": "61000"}
    clients = []
    for name in ("first", "second"):
        client = place.consumer(**more, **{"client.id": name})
        joined = threading.Event()
        client.subscribe([place.topic], on_assign=lambda *_, joined=joined: joined.set())
        clients.append(running(client, take))
        assert joined.wait(PATIENCE)
    wait_until(lambda: committed(place) == {0: 10, 1: 10}, "all to be read")
    clients[0].stop()

    def left() -> bool:
        log = place.read(group_log=True, snapshots=1).frames["group_log"]
        return bool((log.loc[log["client_id"] == "first", "event"] == "left").any())

    wait_until(left, "the log to say that the first one left")
    answer = place.read(group_log=True)
    log = answer.frames["group_log"]
    came = log.loc[log["event"] == "joined", "client_id"]
    assert list(came) == ["first", "second"]
    assert set(log["protocol"]) == {protocol}
    rounds = log.loc[log["event"].isin(["generation", "epoch"]), "generation"]
    assert rounds.is_monotonic_increasing
    assert rounds.nunique() >= 3
    if protocol == "classic":
        assert set(log["session_timeout_seconds"].dropna()) == {7.0}
        assert set(log["rebalance_timeout_seconds"].dropna()) == {61.0}
    churn = check(place.judge(answer), "membership_churn")
    assert churn.source == "kafka"
    told = churn.reason or churn.findings[0].statement
    assert "own log" in told
    assert "2 members joined and 1 left" in told


def test_commits_in_the_groups_log_are_those_that_were_made(place: Place) -> None:
    place.create()
    place.produce()
    for offset in (2, 5, 9):
        place.commit(offset, offset)
    commits = place.read(group_log=True).frames["commits"]
    for partition in range(PARTITIONS):
        rows = commits.loc[commits["partition"] == partition]
        assert rows["committed_offset"].tolist() == [2, 5, 9]
    assert commits["complete"].all()


def test_reading_the_groups_log_leaves_no_group_and_no_member_behind(place: Place, running) -> None:
    place.create()
    place.produce()
    client = place.consumer()
    client.subscribe([place.topic])
    running(client, take)
    wait_until(lambda: committed(place) == {0: 10, 1: 10}, "all to be read")

    def groups() -> set[str]:
        listed = place.admin.list_consumer_groups(request_timeout=10).result(PATIENCE)
        return {group.group_id for group in listed.valid}

    def state() -> tuple[Any, int, set[str]]:
        found = place.admin.describe_consumer_groups([place.group])[place.group].result(PATIENCE)
        return found.state, len(found.members), {m.member_id for m in found.members}

    before = groups(), state(), committed(place)
    answer = place.read(group_log=True)
    assert len(answer.frames["commits"])
    assert (groups(), state(), committed(place)) == before


def test_without_being_asked_to_nothing_is_read_from_the_groups_log(place: Place) -> None:
    place.create()
    place.produce()
    place.commit(3, 3)
    answer = place.read()
    assert not answer.queries["statement"].str.contains("__consumer_offsets").any()
    assert "commits" not in answer.frames


def test_group_in_a_rebalance_is_told_how_its_past_could_be_known(place: Place) -> None:
    """A member that joins and never polls again holds the group in its rebalance."""
    place.create()
    place.produce()
    first = place.consumer(**{"max.poll.interval.ms": "30000", "session.timeout.ms": "10000"})
    first.subscribe([place.topic])
    wait_until(lambda: first.poll(0.2) is not None, "the first member to read")
    second = place.consumer(**{"session.timeout.ms": "10000"})
    second.subscribe([place.topic])
    try:
        # the first does not poll, so it does not join again, and the second waits for it
        def told() -> bool:
            second.poll(0.2)
            answer = place.read(snapshots=1)
            return any("read_offsets_topic = true" in blind.fix for blind in answer.blind)

        wait_until(told, "the rebalance to be seen")
    finally:
        second.close()
        first.close()


# -- rights ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("guarded"), parts=("kafka",), secured=True) as stack:
        require(stack, "kafka")
        yield stack


def test_group_log_takes_read_and_nothing_else_does(guarded: Stack) -> None:
    name = f"kind-{uuid.uuid4().hex[:8]}"
    place = Place(guarded.kafka.bootstrap, name, f"{name}-group")
    place.create()
    place.produce()
    place.commit(4, 4)

    def grant(operation: AclOperation, kind: ResourceType, resource: str) -> None:
        permit = AclBinding(
            kind, resource, ResourcePatternType.LITERAL, f"User:{security.READER}", "*",
            operation, AclPermissionType.ALLOW,
        )  # fmt: skip
        place.admin.create_acls([permit])[permit].result(PATIENCE)

    for operation, kind, resource in [
        (AclOperation.DESCRIBE, ResourceType.BROKER, "kafka-cluster"),
        (AclOperation.DESCRIBE_CONFIGS, ResourceType.BROKER, "kafka-cluster"),
        (AclOperation.DESCRIBE, ResourceType.GROUP, "*"),
        (AclOperation.DESCRIBE, ResourceType.TOPIC, place.topic),
        (AclOperation.DESCRIBE_CONFIGS, ResourceType.TOPIC, place.topic),
    ]:
        grant(operation, kind, resource)
    login = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": security.READER,
        "sasl.password": security.PASSWORDS[security.READER],
        "ssl.ca.location": str(guarded.folder / security.FOLDER / "ca.pem"),
    }

    def read() -> Answer:
        source = KafkaSource(guarded.kafka.sasl_bootstrap, login, snapshots=1)
        source.read_group_log()
        return source.fetch(place.scope(), budget_seconds=30)

    answer = read()
    (blind,) = answer.blind
    assert blind.what == "commits and rebalances from the group's log"
    assert "--operation Read --topic __consumer_offsets" in blind.fix
    assert len(answer.frames["log_end_history"])
    assert answer.frames["oldest_unread"]["time_lag_seconds"].notna().all()
    grant(AclOperation.READ, ResourceType.TOPIC, "__consumer_offsets")
    granted = read()
    assert granted.status == "ok", granted.blind
    assert granted.frames["commits"]["committed_offset"].tolist() == [4, 4]

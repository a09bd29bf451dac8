"""watch, peek and verify against a real broker: drains, worsenings, freezes, poison, bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import command
import pandas as pd
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lab.stack import Stack
from lagkit.runbook import Runbook
from lagkit.sources import Scope
from lagkit.sources.kafka import KafkaSource
from lagkit.sources.kafka.following import Follower
from lagkit.watching import Watch

from .conftest import require

PATIENCE = 60.0
INTERVAL = 0.5


class Place:
    """A topic and a group of its own; the group stands at 0 in every partition."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self.bootstrap = bootstrap
        self.topic = f"after-{uuid.uuid4().hex[:8]}"
        self.group = f"{self.topic}-group"
        self.partitions = partitions
        admin = AdminClient({"bootstrap.servers": bootstrap})
        topic = NewTopic(self.topic, partitions, 1, config={"retention.ms": "3600000"})
        admin.create_topics([topic])[self.topic].result(timeout=PATIENCE)
        self.commit(dict.fromkeys(range(partitions), 0))

    def commit(self, offsets: dict[int, int]) -> None:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group})
        places = [TopicPartition(self.topic, n, offset) for n, offset in offsets.items()]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def produce(self, count: int, value: bytes = b'{"n": 1}', **more: object) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for number in range(count):
            producer.produce(self.topic, value, partition=number % self.partitions, **more)
            producer.poll(0)
        assert producer.flush(PATIENCE) == 0

    def follower(self) -> Follower:
        now = pd.Timestamp.now("UTC").as_unit("us")
        scope = Scope(self.group, (), now - pd.Timedelta("1h"), now, Runbook(title="t"))
        return Follower(KafkaSource(self.bootstrap), scope)

    def watch(self, **changes: float) -> Watch:
        options = {"promise_seconds": 3.0, "interval_seconds": INTERVAL, "worse_after_seconds": 4.0}
        return Watch(self.group, **(options | changes))

    def drain(self, per_second: float, over: threading.Event) -> threading.Thread:
        """Read as a member of the group, so fast and no faster, until *over*."""

        def work() -> None:
            member = Consumer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "group.id": self.group,
                    "enable.auto.commit": False,
                }
            )
            member.subscribe([self.topic])
            read, begun = 0, 0.0
            while not over.is_set():
                begun = begun or (time.monotonic() if read else 0.0)
                if begun and read > (time.monotonic() - begun) * per_second:
                    time.sleep(0.01)
                    continue
                message = member.poll(0.1)
                read += message is not None and message.error() is None
                if read and (message is None or read % 50 == 0):
                    member.commit(asynchronous=True)
            member.close()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def place(stack: Stack) -> Place:
    require(stack, "kafka")
    return Place(stack.kafka.bootstrap, 2)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    ended = threading.Event()
    yield ended
    ended.set()


def looks(follower: Follower, watching: Watch, seconds: float, *, budget: float = 10.0):
    """Look until it is over or *seconds* have passed; yield each progress."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not watching.outcome():
        seen = follower.look(budget_seconds=budget)
        yield watching.add(
            seen.at,
            seen.offsets,
            state=seen.state,
            members=seen.members,
            owners=seen.owners,
            fault=seen.fault,
        )
        time.sleep(INTERVAL)


def run(place: Place, verb: str, tmp_path: Path, *more: object) -> command.Run:
    return command.run(verb, place.group, "--bootstrap", place.bootstrap, *more, cwd=tmp_path)


# -- watch


def test_a_drain_is_watched_to_its_end_within_the_interval_of_its_eta(place, over) -> None:
    place.produce(6000)
    thread = place.drain(150, over)
    with place.follower() as follower:
        watching = place.watch()
        found = list(looks(follower, watching, 90))
    over.set()
    thread.join(PATIENCE)
    assert watching.outcome() == "caught_up", [p.eta_note for p in found]
    end = next(p.at for p in found if p.caught_up)
    told = [p.eta for p in found if p.eta is not None]
    assert len(told) >= 5, [p.eta_note for p in found]
    held = [eta.low <= end <= eta.high for eta in told]
    # a machine that stops for seconds may break single promises, never most of them
    assert sum(held) >= 0.9 * len(held), [(e.low, e.high, end) for e in told]
    assert found[-1].members == 1


def test_a_backlog_that_nobody_reads_and_that_grows_ends_with_6(place, tmp_path) -> None:
    place.produce(400)
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            place.produce(40)
            time.sleep(0.2)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    done = run(
        place, "watch", tmp_path,
        "--interval", "0.5", "--promise", "2", "--worse-after", "4", "--timeout", "60",
    )  # fmt: skip
    ended.set()
    writer.join(PATIENCE)
    assert done.status == 6, done.both
    assert "GROWING by" in done.out
    assert "nobody reads" in done.out
    assert "Getting worse" in done.err


def test_neither_caught_up_nor_worse_ends_with_7_at_the_timeout(place, tmp_path) -> None:
    place.produce(100)
    done = run(place, "watch", tmp_path, "--interval", "0.5", "--promise", "1", "--timeout", "5")
    assert done.status == 7, done.both
    assert "Not caught up within 5s" in done.err
    assert all(re.match(r"\d\d:\d\d:\d\dZ  lag 100 ", line) for line in done.out.splitlines())


def test_a_group_that_is_well_ends_with_0_at_once(place, tmp_path) -> None:
    done = run(place, "watch", tmp_path, "--interval", "0.5")
    assert done.status == 0, done.both
    assert "Caught up" in done.err


def test_a_frozen_broker_is_said_to_be_silent_and_followed_again_when_it_is_back(stack, place):
    place.produce(100)
    broker = stack.ledger.find("kafka-1")
    with place.follower() as follower:
        watching = place.watch(worse_after_seconds=600.0)
        before = next(looks(follower, watching, 60))
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            blind = watching.add(
                (seen := follower.look(budget_seconds=2.0)).at, seen.offsets, fault=seen.fault
            )
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        after = [p for p in looks(follower, watching, 40) if not p.fault][:1]
    assert not before.fault
    assert blind.fault
    assert blind.lag_messages == before.lag_messages
    assert after
    assert after[0].lag_messages == 100


def test_watching_joins_and_commits_nothing(place) -> None:
    place.produce(10)
    with place.follower() as follower:
        for _ in looks(follower, place.watch(), 3):
            pass
        seen = follower.look(budget_seconds=10)
    assert (seen.state, seen.members) == ("Empty", 0)
    assert set(seen.offsets["committed_offset"]) == {0.0}


# -- peek


def test_records_are_shown_with_key_headers_and_whether_they_decode(stack, tmp_path) -> None:
    require(stack, "kafka")
    place = Place(stack.kafka.bootstrap, 1)
    place.produce(1, b'{"api": "orders"}', key=b"k1", headers=[("trace", b"t1")])
    place.produce(1, b'{"api": "orders", "token": "hunter2hunter2', key=b"k2")
    place.produce(1, b"\x00\x01\xfe\xff binary")
    place.commit({0: 1})
    done = run(place, "peek", tmp_path, "--partition", "0")
    assert done.status == 0, done.both
    for words in (
        "committed offset 1; 2 unread",
        "offset 0   read already",
        "trace: t1",
        "offset 1   THE NEXT ONE",
        "DOES NOT DECODE: it begins like JSON",
        "offset 2   after it",
        "00000000  00 01 fe ff",
        "met: the group is Empty",
        f"printf '%s %s %s\\n' {place.topic} 0 2 |",
        "lost: One record of",
    ):
        assert words in done.out, (words, done.out)
    assert "hunter2" not in done.both
    assert not any("lagkit-peek" in name for name in groups(place))


def groups(place: Place) -> list[str]:
    admin = AdminClient({"bootstrap.servers": place.bootstrap})
    return [g.group_id for g in admin.list_consumer_groups().result(PATIENCE).valid]


def test_the_printed_step_names_the_offset_that_skips_that_record_alone(stack, tmp_path) -> None:
    """What rpk does with the line, done by the admin client: neither rpk nor Kafka's own command
    line can be had here."""
    require(stack, "kafka")
    place = Place(stack.kafka.bootstrap, 2)
    place.produce(20, b"{poison")
    place.commit({0: 3, 1: 4})
    out = run(place, "peek", tmp_path, "--partition", "0").out
    (line,) = (text for text in out.splitlines() if "--to-file /dev/stdin" in text)
    shell = ["bash", "-c", line.partition(" | ")[0]]
    told = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    topic, partition, offset = told.split()
    admin = AdminClient({"bootstrap.servers": place.bootstrap})
    places = [TopicPartition(topic, int(partition), int(offset))]
    wanted = ConsumerGroupTopicPartitions(place.group, places)
    admin.alter_consumer_group_offsets([wanted])[place.group].result(PATIENCE)
    with place.follower() as follower:
        follower.begin(budget_seconds=20)
        seen = follower.look(budget_seconds=10).offsets.set_index("partition")
    assert seen["committed_offset"].to_dict() == {0: 4.0, 1: 4.0}


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (("--partition", "99"), 3, "There is no partition 99"),
        (("--partition", "0", "--topic", "no-such-topic"), 3, "no-such-topic"),
        (("--partition", "minus"), 2, "minus"),
    ],
)
def test_what_is_not_there_is_refused_by_name(place, tmp_path, more, status, words) -> None:
    place.produce(4)
    done = run(place, "peek", tmp_path, *more)
    assert done.status == status, done.both
    assert words in done.err


@pytest.mark.parametrize("verb", ["watch", "peek"])
def test_an_unknown_group_ends_with_3(place, tmp_path, verb) -> None:
    more = ("--partition", "0") if verb == "peek" else ()
    done = command.run(verb, "no-such-group", "--bootstrap", place.bootstrap, *more, cwd=tmp_path)
    assert done.status == 3, done.both
    assert "no-such-group" in done.err


def test_a_partition_that_is_read_to_its_end_has_no_next_record(place, tmp_path) -> None:
    place.produce(4)
    place.commit({0: 2, 1: 2})
    done = run(place, "peek", tmp_path, "--partition", "1")
    assert done.status == 0, done.both
    assert "read everything here" in done.out
    assert "To skip" not in done.out


# -- verify


def test_an_incident_is_not_over_while_it_lags_and_over_when_it_does_not(place, tmp_path) -> None:
    place.produce(200)
    bootstrap = ("--bootstrap", place.bootstrap)
    kept = tmp_path / "then.lagkit"
    done = command.run("capture", place.group, *bootstrap, "--out", kept, cwd=tmp_path)
    assert done.status == 0, done.both
    during = command.run("verify", kept, *bootstrap, "--json", cwd=tmp_path)
    told = {line["id"]: line["status"] for line in json.loads(during.out)["lines"]}
    assert during.status == 6, during.both
    assert told["members"] == "failed"
    assert told["logs"] == told["alerts"] == "not_checked"
    ended = threading.Event()
    thread = place.drain(5000, ended)
    with place.follower() as follower:
        for _ in looks(follower, place.watch(), 60):
            pass
        after = command.run("verify", kept, *bootstrap, "--last", "2m", cwd=tmp_path)
    ended.set()
    thread.join(PATIENCE)
    assert after.status == 0, after.both
    assert "could not be checked" in after.out.splitlines()[-1]

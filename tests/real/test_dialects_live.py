"""Every dialect at once on one moving group: the richest is read, the others agree with it.

A real broker, a real Prometheus, and the lab's relay (a stand-in) under six exporters' names.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lab import prometheus
from lab.install import Artifact, install
from lab.processes import free_ports
from lab.stack import Stack
from lagkit import flow
from lagkit.flow.second_opinions import disagreements
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope

from .conftest import require
from .recorded import ask

TOPIC, GROUP, PARTITIONS = "live", "live-group", 3
BEHIND = 200
"""Messages that each partition of the group stays behind."""
PER_TICK, TICK_SECONDS = 20, 0.25
SCRAPES = 10
PATIENCE_SECONDS = 120.0
EVERY = ("/klag", "/kminion", "/burrow", "/kafka_exporter", "/redpanda_lag")


@dataclass(frozen=True)
class Live:
    """Two Prometheus servers over one group since *begun*: all exporters, and the coarsest only."""

    all: str
    by_topic: str
    begun: pd.Timestamp

    def ask(self, url: str) -> Answer:
        return ask(url, Scope(GROUP, (), self.begun, pd.Timestamp.now("UTC"), Runbook(title="t")))


@contextlib.contextmanager
def moving(bootstrap: str) -> Iterator[None]:
    """Produce steadily and commit BEHIND messages behind, until left."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(timeout=PATIENCE_SECONDS)
    producer = Producer({"bootstrap.servers": bootstrap})
    committer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP})
    ended = threading.Event()

    def run() -> None:
        written = 0
        while not ended.wait(TICK_SECONDS):
            for _ in range(PER_TICK):
                for partition in range(PARTITIONS):
                    producer.produce(TOPIC, b"x", partition=partition)
            written += PER_TICK
            producer.flush(PATIENCE_SECONDS)
            offset = max(0, written - BEHIND)
            places = [TopicPartition(TOPIC, number, offset) for number in range(PARTITIONS)]
            committer.commit(offsets=places, asynchronous=False)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        committer.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    artifact = install(("prometheus",))
    require(artifact, "prometheus")
    server = artifact["prometheus"]
    assert isinstance(server, Artifact)
    with Stack(tmp_path_factory.mktemp("live"), parts=("kafka", "relay")) as stack:
        require(stack, "kafka")
        with moving(stack.kafka.bootstrap):
            urls = []
            for name, pages in (("all", EVERY), ("by-topic", ("/kminion_topic",))):
                (port,) = free_ports(1)
                targets = [
                    prometheus.Target(page[1:], (f"127.0.0.1:{stack.relay_port}",), page)
                    for page in pages
                ]
                urls.append(
                    prometheus.start_prometheus(
                        stack.ledger, server, name, port, prometheus.config(targets)
                    )
                )
            found = Live(*urls, pd.Timestamp.now("UTC"))
            until = time.monotonic() + PATIENCE_SECONDS
            while scraped(found.ask(found.all)) < SCRAPES:
                assert time.monotonic() < until, "the group was not scraped"
                time.sleep(5)
            yield found


def scraped(answer: Answer) -> int:
    offsets = answer.frames.get("offsets")
    return 0 if offsets is None else offsets["timestamp"].nunique()


def test_the_richest_of_five_exporters_is_read_and_the_others_are_second_opinions(
    live: Live,
) -> None:
    answer = live.ask(live.all)
    assert answer.facts["dialect"] == "klag"
    assert set(answer.frames["second_opinions"]["dialect"]) == {
        "kminion",
        "burrow",
        "kafka_exporter",
        "redpanda",
        "redpanda_gauges",
    }
    assert answer.frames["offsets"]["log_start_offset"].notna().all()


def test_exporters_of_one_moving_group_are_not_said_to_disagree(live: Live) -> None:
    answer = live.ask(live.all)
    opinions = answer.frames["second_opinions"]
    assert disagreements(answer.frames["offsets"], opinions) == ()
    # nor do they agree for want of anything to compare
    wrong = opinions.assign(lag_messages=opinions["lag_messages"] * 3)
    assert {told.dialect for told in disagreements(answer.frames["offsets"], wrong)} == {
        "kminion",
        "burrow",
        "kafka_exporter",
        "redpanda_gauges",
    }


def test_the_exporter_that_knows_topics_only_tells_the_same_lag(live: Live) -> None:
    fine, coarse = live.ask(live.all), live.ask(live.by_topic)
    assert coarse.facts["dialect"] == "kminion_topic"
    totals = [
        flow.group_flow(flow.clean_offsets(answer.frames["offsets"]))["lag_messages"].median()
        for answer in (fine, coarse)
    ]
    # a scrape falls anywhere between a message and its commit
    assert totals[1] == pytest.approx(totals[0], abs=PARTITIONS * 10 * PER_TICK)
    assert totals[0] >= PARTITIONS * BEHIND - PARTITIONS * 10 * PER_TICK

"""Committed offsets of a real broker, while it restarts and while the process that asks is killed.

Without a process of its own the question would end this one: see the bare client in
tests/sources/test_kafka_coordinator.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from askers import askers, gone
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from lab import kafka
from lab.install import Artifact, install
from lab.stack import Stack
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.kafka import KafkaSource
from lagkit.sources.kafka.coordinator import CoordinatorClient
from lagkit.sources.kafka.errors import LibraryCrashed

from .conftest import require

GROUP, TOPIC = "deployment-worker", "deploy-requests"
OFFSETS = {0: 5, 1: 7, 2: 0}
RESTARTS = 2
PATIENCE = 60.0
CALL_SECONDS = 3.0


@dataclass(frozen=True)
class Place:
    """A broker of these tests alone, for they restart it."""

    stack: Stack

    @property
    def bootstrap(self) -> str:
        return self.stack.kafka.bootstrap

    def restart(self) -> None:
        artifact = install(["kafka"])["kafka"]
        assert isinstance(artifact, Artifact)
        kafka.restart(self.stack.ledger, artifact, None, self.stack.kafka)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Stack(tmp_path_factory.mktemp("commits"), parts=("kafka",)) as stack:
        require(stack, "kafka")
        commit(stack.kafka.bootstrap)
        yield Place(stack)


def commit(bootstrap: str) -> None:
    """Commit, again while the broker still makes the topic that commits are kept in."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    places = [TopicPartition(TOPIC, number, at) for number, at in OFFSETS.items()]
    end = time.monotonic() + PATIENCE
    while True:
        request = ConsumerGroupTopicPartitions(GROUP, places)
        asked = admin.alter_consumer_group_offsets([request], request_timeout=CALL_SECONDS)
        with contextlib.suppress(KafkaException):
            done = asked[GROUP].result(PATIENCE)
            if all(place.error is None for place in done.topic_partitions):
                return
        assert time.monotonic() < end
        time.sleep(0.2)


def ask(reader: CoordinatorClient, seconds: float) -> Any:
    return reader.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(GROUP)], request_timeout=seconds
    )[GROUP]


def committed(answer: Any) -> dict[int, int]:
    return {place.partition: place.offset for place in answer.topic_partitions}


def fetch(place: Place) -> Answer:
    now = pd.Timestamp.now("UTC")
    scope = Scope(GROUP, (), now - pd.Timedelta("1h"), now, Runbook(title="t"))
    return KafkaSource(place.bootstrap, snapshots=1).fetch(scope, budget_seconds=30)


def test_a_process_killed_in_the_middle_of_a_question_is_asked_again(place: Place) -> None:
    with closing(CoordinatorClient({"bootstrap.servers": place.bootstrap})) as reader:
        assert committed(ask(reader, PATIENCE).result(PATIENCE)) == OFFSETS
        (process,) = askers(os.getpid())
        os.kill(process, signal.SIGSTOP)
        asked = ask(reader, PATIENCE)
        os.kill(process, signal.SIGKILL)
        assert committed(asked.result(PATIENCE)) == OFFSETS
        assert gone(process)
        assert reader.crashes == 1


def test_a_fetch_leaves_no_process_behind(place: Place) -> None:
    answer = fetch(place)
    rows = answer.frames["partitions"].set_index("partition")
    assert rows.loc[list(OFFSETS), "committed_offset"].tolist() == list(OFFSETS.values())
    assert askers(os.getpid()) == []


def test_while_its_broker_restarts_an_answer_is_right_or_a_named_refusal(place: Place) -> None:
    refusals = []
    configuration = {"bootstrap.servers": place.bootstrap, "log_level": 0}
    with closing(CoordinatorClient(configuration)) as reader:
        for _ in range(RESTARTS):
            restarting = threading.Thread(target=place.restart)
            restarting.start()
            answered = False
            while restarting.is_alive() or not answered:
                try:
                    answer = ask(reader, CALL_SECONDS).result(2 * CALL_SECONDS)
                except LibraryCrashed as error:
                    refusals.append(str(error))
                except (KafkaException, TimeoutError):
                    continue
                else:
                    assert committed(answer) == OFFSETS
                    answered = True
    assert all("librdkafka issues 4605 and 5040" in refusal for refusal in refusals)


def test_a_fetch_while_the_broker_restarts_ends_with_an_answer(place: Place) -> None:
    restarting = threading.Thread(target=place.restart)
    restarting.start()
    answers = []
    while restarting.is_alive():
        answers.append(fetch(place))
    restarting.join()
    rows = [answer.frames["partitions"] for answer in answers if "partitions" in answer.frames]
    for seen in rows:
        known = seen.dropna(subset="committed_offset").set_index("partition")["committed_offset"]
        assert set(known.items()) <= set(OFFSETS.items())
    assert fetch(place).frames["partitions"]["committed_offset"].notna().any()


def test_killed_each_time_the_command_says_so_and_goes_on(place: Place) -> None:
    command = [sys.executable, "-m", "lagkit", "investigate", GROUP, "--bootstrap",
               place.bootstrap, "--no-report", "--json"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        over = threading.Event()
        killer = threading.Thread(target=kill_all_of, args=(running.pid, over))
        killer.start()
        told, said = running.communicate(timeout=2 * PATIENCE)
        over.set()
        killer.join()
    assert running.returncode == 0, said.decode()
    assert "librdkafka issues 4605 and 5040" in json.dumps(json.loads(told))
    assert askers(running.pid) == []


def kill_all_of(parent: int, over: threading.Event) -> None:
    """Kill what *parent* starts to ask for commits: it takes longer to start than to be found."""
    while not over.wait(0.02):
        for process in askers(parent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSEGV)

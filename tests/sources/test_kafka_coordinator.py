"""Committed offsets asked for in another process: its death is an answer, never ours.

The broker is librdkafka's own mock, which answers as it is told to; with commits of a real one
see tests/real/test_kafka_coordinator.py.
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from askers import askers, gone
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from mock_cluster import MockCluster, mock_cluster

from lagkit.runbook import Runbook
from lagkit.sources import Deadline, Questions, Scope
from lagkit.sources.kafka.coordinator import PROGRAM, TRIES, CoordinatorClient, GroupCommits
from lagkit.sources.kafka.errors import LibraryCrashed, fault
from lagkit.sources.kafka.groups import committed_of
from lagkit.sources.kafka.offsets import Refusal, committed_of_many, fan_out
from lagkit.sources.kafka.session import Found, Session

SECONDS = 60.0
"""Much more than any of this takes, for a machine that does other things too."""
MOVES = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE]
PASSWORD = "secret-4711"
BARE = """
import sys
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
client = AdminClient({"bootstrap.servers": sys.argv[1], "log_level": 0})
asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions("g")])
asked["g"].result(60)
"""
PARENT = """
import sys, time
from lagkit.sources.kafka.coordinator import CoordinatorClient
from confluent_kafka import ConsumerGroupTopicPartitions
reader = CoordinatorClient({"bootstrap.servers": sys.argv[1]})
asked = reader.list_consumer_group_offsets([ConsumerGroupTopicPartitions("g")], request_timeout=60)
asked["g"].result(60)
print("asked", flush=True)
time.sleep(600)
"""


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with mock_cluster() as running:
        yield running


@pytest.fixture
def reader(cluster: MockCluster) -> Iterator[CoordinatorClient]:
    with closing(CoordinatorClient({"bootstrap.servers": cluster.bootstrap})) as made:
        yield made


def ask(client: Any, seconds: float = SECONDS) -> GroupCommits:
    asked = client.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions("g")], request_timeout=seconds
    )
    answer: GroupCommits = asked["g"].result(2 * SECONDS)
    return answer


def bare(cluster: MockCluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("code", MOVES)
def test_the_bare_client_dies_where_a_coordinator_moves(cluster: MockCluster, code: int) -> None:
    cluster.fail(code)
    command = [sys.executable, "-c", BARE, cluster.bootstrap]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == -signal.SIGSEGV, (
        "librdkafka issue 5040 is mended: once 4605 is too, an AdminClient is enough"
    )


@pytest.mark.parametrize("code", MOVES)
def test_a_crash_of_the_library_is_followed_by_an_answer(
    cluster: MockCluster, reader: CoordinatorClient, code: int
) -> None:
    cluster.fail(code)
    assert ask(reader) == GroupCommits("g", [])
    assert reader.crashes == 1


def test_a_crash_each_time_is_named_with_how_often_and_what_to_do(
    cluster: MockCluster, reader: CoordinatorClient
) -> None:
    cluster.fail(*MOVES[:1] * TRIES)
    with pytest.raises(LibraryCrashed) as raised:
        ask(reader)
    outcome, why = fault(raised.value, 1.0)
    assert outcome == "failed"
    assert why.startswith("Kafka's client library crashed (SIGSEGV)")
    assert f"{TRIES} times in " in why
    assert "librdkafka issues 4605 and 5040" in why
    assert "Run again" in raised.value.fix


def test_after_crashes_that_were_told_the_next_question_is_asked_afresh(
    cluster: MockCluster, reader: CoordinatorClient
) -> None:
    cluster.fail(*MOVES[:1] * TRIES)
    with pytest.raises(LibraryCrashed):
        ask(reader)
    assert ask(reader) == GroupCommits("g", [])


def test_without_time_for_another_try_a_crash_is_told_at_once(
    cluster: MockCluster, reader: CoordinatorClient
) -> None:
    ask(reader)
    cluster.fail(MOVES[0])
    with pytest.raises(LibraryCrashed, match="once in"):
        ask(reader, seconds=0.4)


@pytest.mark.parametrize(
    "code", [KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]
)
def test_an_error_says_the_same_as_from_a_client_of_ones_own(
    cluster: MockCluster, reader: CoordinatorClient, code: int
) -> None:
    told = []
    for client in (bare(cluster), reader):
        cluster.fail(code)
        with pytest.raises(KafkaException) as raised:
            ask(client)
        error = raised.value.args[0]
        told.append((error.code(), error.name(), error.str(), fault(raised.value, 1.0)))
    assert told[0] == told[1]


def test_a_broker_that_is_not_there_is_a_timeout_and_no_crash() -> None:
    with closing(CoordinatorClient({"bootstrap.servers": "127.0.0.1:1"})) as reader:
        with pytest.raises(KafkaException) as raised:
            ask(reader, seconds=0.5)
        assert fault(raised.value, 0.5) == ("timeout", "no answer within 0.5 s")
        assert reader.crashes == 0


def test_a_group_that_cannot_be_asked_for_is_refused_as_by_the_client(
    cluster: MockCluster, reader: CoordinatorClient
) -> None:
    request = ConsumerGroupTopicPartitions("g")
    request.group_id = ""
    with pytest.raises(ValueError, match="group_id") as raised:
        bare(cluster).list_consumer_group_offsets([request])
    asked = reader.list_consumer_group_offsets([request], request_timeout=SECONDS)
    with pytest.raises(ValueError, match=f"^{raised.value}$"):
        asked[""].result(SECONDS)


def test_a_token_is_made_in_this_process_for_the_other_one(cluster: MockCluster) -> None:
    said: list[str] = []

    def token(text: str) -> tuple[str, float]:
        said.append(text)
        return "token", time.time() + SECONDS

    login = {
        "bootstrap.servers": cluster.bootstrap,
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.config": "principal=u",
        "oauth_cb": token,
    }
    # with the token it goes on to log in, which the mock cannot answer
    with closing(CoordinatorClient(login)) as reader, pytest.raises(KafkaException):
        ask(reader, seconds=2.0)
    assert said == ["principal=u"]
    assert reader.crashes == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_killed_while_it_waits_is_replaced_and_the_answer_comes(
    cluster: MockCluster, reader: CoordinatorClient, number: int
) -> None:
    ask(reader)
    (first,) = askers(os.getpid())
    os.kill(first, signal.SIGSTOP)
    asked = reader.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions("g")], request_timeout=SECONDS
    )["g"]
    os.kill(first, number)
    os.kill(first, signal.SIGCONT)
    assert asked.result(SECONDS) == GroupCommits("g", [])
    assert reader.crashes == 1


def test_groups_under_way_when_the_process_dies_are_all_answered(
    cluster: MockCluster, reader: CoordinatorClient
) -> None:
    groups = [f"g{number}" for number in range(30)]
    cluster.fail(*[0] * 5, MOVES[0])
    found = dict(fan_out(reader, groups, seconds=SECONDS, in_flight=10))
    assert found == {name: {} for name in groups}
    assert reader.crashes == 1


def test_groups_for_which_the_process_died_each_time_are_refused_by_name(
    cluster: MockCluster, reader: CoordinatorClient
) -> None:
    cluster.fail(*MOVES[:1] * TRIES)
    (answer,) = dict(fan_out(reader, ["g"], seconds=SECONDS)).values()
    assert isinstance(answer, Refusal)
    assert answer.outcome == "failed"
    assert "librdkafka issues 4605 and 5040" in answer.why
    assert answer.fix == LibraryCrashed.fix


def session_of(cluster: MockCluster, found: Found) -> Session:
    now = pd.Timestamp.now("UTC")
    scope = Scope("g", (), now - pd.Timedelta("1h"), now, Runbook(title="t"))
    configuration = {"bootstrap.servers": cluster.bootstrap}
    return Session(configuration, (), scope, Deadline(SECONDS), Questions("kafka"), found)


def test_a_crash_that_an_answer_outlives_is_told_by_provenance_alone(cluster: MockCluster) -> None:
    found = Found()
    with closing(session_of(cluster, found)) as session:
        cluster.fail(MOVES[0])
        assert committed_of(session, "g")[1] == {}
        (asked,) = session.questions.frame().to_dict("records")
    assert asked["outcome"] == "empty"
    told = "Kafka's client library died once (librdkafka issues 4605 and 5040)"
    assert asked["detail"].startswith(told)
    assert found.blind == []


def test_commits_that_were_not_seen_for_crashes_are_one_blind_spot(cluster: MockCluster) -> None:
    found = Found()
    with closing(session_of(cluster, found)) as session:
        cluster.fail(*MOVES[:1] * TRIES * 2)
        for _ in range(2):
            assert committed_of(session, "g")[1] is None
        asked = session.questions.frame()
    assert asked["outcome"].tolist() == ["failed", "failed"]
    assert asked["detail"].str.contains("issues 4605 and 5040").all()
    (blind,) = found.blind
    assert blind.what == "committed offsets"
    assert "issues 4605 and 5040" in blind.why
    assert blind.fix == LibraryCrashed.fix


def test_neighbours_that_were_not_seen_for_crashes_are_a_blind_spot(cluster: MockCluster) -> None:
    found = Found()
    with closing(session_of(cluster, found)) as session:
        cluster.fail(*MOVES[:1] * TRIES)
        assert list(committed_of_many(session, ["h"])) == []
    (blind,) = found.blind
    assert blind.what == "committed offsets of other groups"
    assert blind.why.startswith("1 of 1 did not answer; h: Kafka's client library crashed")
    assert blind.fix == LibraryCrashed.fix


def test_a_process_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    reader = CoordinatorClient({"bootstrap.servers": "127.0.0.1:1"})
    with closing(reader), pytest.raises(LibraryCrashed, match=r"could not be started \(.*nowhere"):
        ask(reader)


def test_what_the_program_says_as_it_ends_is_told(cluster: MockCluster) -> None:
    broken = {"bootstrap.servers": cluster.bootstrap, "no.such.property": "1"}
    with closing(CoordinatorClient(broken)) as reader, pytest.raises(LibraryCrashed) as raised:
        ask(reader)
    assert "exit status 1" in str(raised.value)
    assert "no.such.property" in str(raised.value)


# -- what is left behind -------------------------------------------------------------------------


def test_a_secret_is_neither_an_argument_nor_in_the_environment(
    cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAGKIT_KAFKA_PROPERTIES", f'{{"sasl.password": "{PASSWORD}"}}')
    properties: Mapping[str, str] = {"sasl.username": "u", "sasl.password": PASSWORD}
    with closing(
        CoordinatorClient({"bootstrap.servers": cluster.bootstrap, **properties})
    ) as reader:
        ask(reader)
        (process,) = askers(os.getpid())
        for name in ("cmdline", "environ"):
            told = Path(f"/proc/{process}/{name}").read_bytes()
            assert told
            assert PASSWORD.encode() not in told


def test_the_process_leaves_no_memory_on_the_disk(reader: CoordinatorClient) -> None:
    ask(reader)
    (process,) = askers(os.getpid())
    limits = Path(f"/proc/{process}/limits").read_text(encoding="ascii")
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    kept = Path(f"/proc/{process}/coredump_filter").read_text(encoding="ascii")
    assert int(kept, 16) == 0


def test_no_process_is_left_after_the_end(reader: CoordinatorClient) -> None:
    ask(reader)
    (process,) = askers(os.getpid())
    reader.close()
    assert gone(process)


def test_closed_before_it_was_asked_nothing_is_left() -> None:
    reader = CoordinatorClient({"bootstrap.servers": "127.0.0.1:1"})
    reader.start()
    reader.close()
    until(lambda: not askers(os.getpid()))


def test_no_process_is_left_when_the_parent_is_killed(cluster: MockCluster) -> None:
    command = [sys.executable, "-c", PARENT, cluster.bootstrap]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"asked\n"
        (process,) = askers(parent.pid)
        parent.kill()
    until(lambda: gone(process))


def test_the_program_loads_the_client_library_and_nothing_else() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    loaded = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
              for alias in node.names}  # fmt: skip
    loaded |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in loaded}
    assert roots - sys.stdlib_module_names == {"confluent_kafka"}

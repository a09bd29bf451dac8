"""Brokers that are not there, refuse, freeze or die: the command's exit status, words and files."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import lagkit
from lab.install import install
from lab.stack import Stack

from .conftest import require

PATIENCE = 60.0
COMMAND_SECONDS = 120
BUDGET = "8"
TOPIC, GROUP, IDLE = "orders", "orders-worker", "orders-newcomer"
PARTITIONS, MESSAGES, COMMITTED = 3, 10, 4
FILE = "saved.lagkit"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lagkit", *arguments]


def environment() -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LAGKIT_")}
    return clean | {"LAGKIT_BUDGETS__KAFKA": BUDGET}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
        timeout=COMMAND_SECONDS,
    )  # fmt: skip


def capture(folder: Path, bootstrap: str, *more: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "capture", GROUP, "--bootstrap", bootstrap, "--out", FILE, *more)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def produce_and_commit(bootstrap: str, replicas: int) -> None:
    """Make the topic, ten messages in each partition, and a commit of the group in the first."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topic = NewTopic(TOPIC, PARTITIONS, replicas)
    admin.create_topics([topic])[TOPIC].result(PATIENCE)
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for number in range(MESSAGES * PARTITIONS):
        producer.produce(TOPIC, b"x", partition=number % PARTITIONS)
    assert producer.flush(PATIENCE) == 0
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "log_level": 0})
    consumer.commit(offsets=[TopicPartition(TOPIC, 0, COMMITTED)], asynchronous=False)
    consumer.close()


@contextmanager
def brokers(folder: Path, *, nodes: int = 1, parts: tuple[str, ...] = ()) -> Iterator[Stack]:
    for part, found in install(["kafka", *parts]).items():
        require({part: found}, part)
    with Stack(folder, kafka_nodes=nodes, parts=("kafka", *parts)) as stack:
        produce_and_commit(stack.kafka.bootstrap, nodes)
        yield stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start one broker, and a Prometheus that has seen the group."""
    with brokers(tmp_path_factory.mktemp("one"), parts=("otel", "prometheus")) as running:
        address = running.prometheus["otel"]
        query = urllib.parse.quote(f'{{group="{GROUP}"}}')

        def seen() -> bool:
            with urllib.request.urlopen(f"{address}/api/v1/query?query={query}") as answer:
                return bool(json.load(answer)["data"]["result"])

        wait_for(seen)
        yield running


@contextmanager
def frozen(stack: Stack) -> Iterator[None]:
    pid = stack.ledger.find("kafka-1").pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def web_server() -> Iterator[str]:
    """Answer anything with an HTTP error, as nginx does to bytes that are no request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.recv(1024)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        thread.join()


# -- nobody there ----------------------------------------------------------------------------------


def assert_nothing_read(ran: subprocess.CompletedProcess[str], folder: Path, *words: str) -> None:
    assert ran.returncode == 4, ran.stderr
    assert ran.stdout == ""
    for word in words:
        assert word in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "gave up" not in ran.stderr, "the source itself must come back within its budget"
    assert list(folder.iterdir()) == []


def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    ran = capture(tmp_path, "no-such-broker.invalid:9092")
    assert_nothing_read(ran, tmp_path, "no-such-broker.invalid", "mend the bootstrap address")


def test_a_port_where_nothing_listens(tmp_path: Path) -> None:
    ran = capture(tmp_path, "127.0.0.1:1")
    assert_nothing_read(ran, tmp_path, "Connection refused", "whether the broker runs")


def test_a_web_server_in_place_of_a_broker(tmp_path: Path, web_server: str) -> None:
    ran = capture(tmp_path, web_server)
    assert_nothing_read(ran, tmp_path, "An HTTP server answers there")


def test_a_frozen_broker_costs_no_more_than_the_budget(tmp_path: Path, stack: Stack) -> None:
    with frozen(stack):
        ran = capture(tmp_path, stack.kafka.bootstrap)
    assert_nothing_read(ran, tmp_path, "no answer")


# -- a file of properties that cannot be used ------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"\xfe\xed\xfe\xed\x00\x00\x00\x02", "is not a text file"),
        (b"security.protocol=SSL\nhunter2-4711\n", "line 2"),
        (b"sasl.mechanism=GSSAPI\n", "GSSAPI cannot be used"),
        (b"sasl.jaas.config=com.sun.security.Krb5LoginModule required;", "Krb5LoginModule"),
        (b"ssl.truststore.location=trust.jks\nssl.truststore.type=JKS\n", "keytool -exportcert"),
        (b"security.protocol=SASL_SSL\nsasl.password=hunter2-4711\n", "names no broker"),
    ],
    ids=["missing", "a-store", "no-pair", "kerberos", "krb5-jaas", "jks", "no-broker"],
)
def test_properties_that_cannot_be_used_end_with_2_and_show_no_secret(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "p.properties").write_bytes(content)
    ran = run(tmp_path, "capture", GROUP, "--kafka-properties", "p.properties", "--out", FILE)
    assert ran.returncode == 2, ran.stderr
    assert words in ran.stderr
    assert "hunter2-4711" not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / FILE).exists()


# -- brokers that fail on the way ------------------------------------------------------------------


def test_a_frozen_broker_leaves_the_other_sources_their_say(tmp_path: Path, stack: Stack) -> None:
    with frozen(stack):
        more = ("--prometheus", stack.prometheus["otel"])
        ran = capture(tmp_path, stack.kafka.bootstrap, *more)
    assert ran.returncode == 0, ran.stderr
    assert "kafka: unavailable" in ran.stderr
    assert files(tmp_path) == [FILE]
    incident = lagkit.open(tmp_path / FILE)
    assert not incident.offsets.empty
    assert any("no answer" in gap.why for gap in incident.coverage), incident.coverage


def connected(port: int) -> bool:
    """Whether somebody is connected to the loopback *port* (state 01, as the kernel lists it)."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split() for line in lines]
    rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_a_broker_that_dies_during_the_capture_leaves_what_was_read(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with brokers(tmp_path / "lab") as dying:
        port = dying.kafka.nodes[0].direct
        wait_for(lambda: not connected(port))
        patient = environment() | {"LAGKIT_BUDGETS__KAFKA": "25"}
        given = ["capture", GROUP, "--bootstrap", dying.kafka.bootstrap, "--out", FILE]
        with subprocess.Popen(
            command(*given), cwd=out, env=patient, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            wait_for(lambda: connected(port))
            # without another history it watches for 12 s: a snapshot is there, more are to come
            time.sleep(4.0)
            os.kill(dying.ledger.find("kafka-1").pid, signal.SIGKILL)
            _, errors = process.communicate(timeout=COMMAND_SECONDS)
    assert process.returncode == 0, errors
    assert "kafka: partial" in errors
    assert "not seen: " in errors
    assert "Traceback" not in errors
    assert files(out) == [FILE]
    incident = lagkit.open(out / FILE)
    rows = incident.partitions
    assert COMMITTED in set(rows["committed_offset"])
    assert any(
        "stopped answering" in gap.why or "no answer" in gap.why for gap in incident.coverage
    )


def test_one_dead_broker_of_three_is_survived_and_seen(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with brokers(tmp_path / "lab", nodes=3) as three:
        os.kill(three.ledger.find("kafka-3").pid, signal.SIGKILL)
        living = three.kafka.nodes[0]
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{living.direct}", "log_level": 0})

        def led_by_the_living() -> bool:
            topic = admin.list_topics(TOPIC, timeout=10).topics[TOPIC]
            return all(part.leader in (1, 2) for part in topic.partitions.values())

        wait_for(led_by_the_living)
        ran = run(
            out, "investigate", GROUP, "--bootstrap", three.kafka.bootstrap, "--no-report",
            "--out", "report",
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "2 brokers" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert files(out) == ["report/incident.lagkit", "report/verdict.json"]
    verdict = json.loads((out / "report" / "verdict.json").read_text(encoding="utf-8"))
    checks = {check["kind"]: check["outcome"] for check in verdict["checks"]}
    assert checks["broker_degraded"] == "present"
    told = f"{PARTITIONS} of the group's {PARTITIONS} partitions are under-replicated"
    assert any(told in finding["statement"] for finding in verdict["findings"])
    rows = lagkit.open(out / "report" / "incident.lagkit").partitions
    assert (rows["log_end_offset"] == MESSAGES).all()
    assert set(rows["replica_count"]) == {3}
    assert set(rows["isr_count"]) == {2}


# -- groups ----------------------------------------------------------------------------------------


def test_an_unknown_group_ends_with_3_and_near_names(tmp_path: Path, stack: Stack) -> None:
    ran = run(tmp_path, "capture", "orders-wroker", "--bootstrap", stack.kafka.bootstrap)
    assert ran.returncode == 3, ran.stderr
    assert "No group 'orders-wroker'" in ran.stderr
    assert re.search(rf"^Near: (?:.*, )?{GROUP}\b", ran.stderr, re.MULTILINE)
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_never_committed_has_no_lag_rather_than_zero(
    tmp_path: Path, stack: Stack
) -> None:
    member = Consumer({"bootstrap.servers": stack.kafka.bootstrap, "group.id": IDLE,
                       "enable.auto.commit": False, "auto.offset.reset": "latest"})  # fmt: skip
    joined = threading.Event()
    member.subscribe([TOPIC], on_assign=lambda *_: joined.set())
    ended = threading.Event()

    def poll() -> None:
        while not ended.is_set():
            member.poll(0.1)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        assert joined.wait(PATIENCE)
        more = ("--bootstrap", stack.kafka.bootstrap, "--no-report", "--json", "--out", "out")
        ran = run(tmp_path, "investigate", IDLE, *more)
    finally:
        ended.set()
        thread.join()
        member.close()
    assert ran.returncode == 0, ran.stderr
    assert files(tmp_path) == ["out/incident.lagkit", "out/verdict.json"]
    verdict = json.loads(ran.stdout)
    assert verdict["state"] == "unknown"
    assert verdict["impact"]["lag_messages_now"] is None
    incident = lagkit.open(tmp_path / "out" / "incident.lagkit")
    rows = incident.partitions
    mine = rows[rows["group"] == IDLE]
    assert mine["committed_offset"].isna().all()
    assert set(mine["partition"]) == set(range(PARTITIONS))

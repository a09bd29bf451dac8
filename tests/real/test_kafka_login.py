"""Logins and rights against a real broker: SASL over TLS, client certificates, and ACLs."""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from lab import security
from lab.install import Artifact, install
from lab.stack import Stack
from lagkit.incident import open_incident
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.kafka import KafkaSource
from lagkit.sources.kafka.login import resolve

from .conftest import require

PATIENCE = 30.0
COMMAND_SECONDS = 90
TOPIC, HIDDEN, GROUP = "orders", "payroll", "orders-worker"
PARTITIONS, MESSAGES, COMMITTED = 3, 10, 4
READER, STRANGER = security.READER, security.STRANGER
DESCRIBE, CONFIGS = AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS


@dataclass(frozen=True)
class Secured:
    """The lab's secured broker, with one topic and one group."""

    stack: Stack
    admin: AdminClient
    """May do anything: the plaintext listener's user is a super user."""

    @property
    def certificates(self) -> Path:
        return self.stack.folder / security.FOLDER

    @property
    def tls(self) -> dict[str, str]:
        return {"ssl.ca.location": str(self.certificates / "ca.pem")}

    def sasl(self, mechanism: str, user: str = READER) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": security.PASSWORDS[user],
            **self.tls,
        }

    def mtls(self) -> dict[str, str]:
        return {
            "security.protocol": "SSL",
            "ssl.certificate.location": str(self.certificates / "client.pem"),
            "ssl.key.location": str(self.certificates / "client.key"),
            **self.tls,
        }


def allow(
    admin: AdminClient, who: str, operation: AclOperation, kind: ResourceType, name: str
) -> None:
    permit = AclBinding(
        kind, name, ResourcePatternType.LITERAL, who, "*", operation, AclPermissionType.ALLOW
    )
    admin.create_acls([permit])[permit].result(PATIENCE)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Start one secured broker; the reader may describe everything and nothing else."""
    require(install(["kafka"]), "kafka")
    with Stack(tmp_path_factory.mktemp("secured"), parts=("kafka",), secured=True) as stack:
        admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap, "log_level": 0})
        wanted = [NewTopic(name, PARTITIONS, 1) for name in (TOPIC, HIDDEN)]
        for future in admin.create_topics(wanted).values():
            future.result(PATIENCE)
        producer = Producer({"bootstrap.servers": stack.kafka.bootstrap})
        for number in range(MESSAGES * PARTITIONS):
            producer.produce(TOPIC, b"x", partition=number % PARTITIONS)
            producer.produce(HIDDEN, b"x", partition=number % PARTITIONS)
        assert producer.flush(PATIENCE) == 0
        consumer = Consumer({"bootstrap.servers": stack.kafka.bootstrap, "group.id": GROUP})
        consumer.commit(offsets=[TopicPartition(TOPIC, 0, COMMITTED)], asynchronous=False)
        consumer.close()
        for who in (f"User:{READER}", f"User:CN={READER}"):
            allow(admin, who, DESCRIBE, ResourceType.BROKER, "kafka-cluster")
            allow(admin, who, CONFIGS, ResourceType.BROKER, "kafka-cluster")
            allow(admin, who, DESCRIBE, ResourceType.GROUP, "*")
            for operation in (DESCRIBE, CONFIGS):
                allow(admin, who, operation, ResourceType.TOPIC, TOPIC)
        yield Secured(stack, admin)


@pytest.fixture(scope="module")
def token_endpoint() -> Iterator[str]:
    """Serve the client-credentials grant of an identity provider; its tokens are not signed."""

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            expected = "Basic " + base64.b64encode(b"lagkit:client-secret-9c").decode()
            good = self.headers.get("Authorization") == expected
            body = json.dumps({"access_token": token(READER)} if good else {}).encode()
            self.send_response(200 if good else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/token"
        server.shutdown()
        thread.join()


def token(subject: str) -> str:
    """Return a JSON web token without a signature."""

    def part(content: Mapping[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': subject, 'iat': now, 'exp': now + 600})}."


def scope() -> Scope:
    now = pd.Timestamp.now("UTC")
    return Scope(GROUP, (), now - pd.Timedelta("1h"), now, Runbook(title="t"))


def read(bootstrap: str, properties: Mapping[str, str], budget: float = 30.0) -> Answer:
    source = KafkaSource(bootstrap, properties, snapshots=1)
    return source.fetch(scope(), budget_seconds=budget)


def assert_read(answer: Answer) -> None:
    assert answer.status == "ok", (answer.detail, answer.blind)
    rows = answer.frames["partitions"].set_index("partition")
    assert rows.loc[0, "committed_offset"] == COMMITTED
    assert (rows["log_end_offset"] == MESSAGES).all()


def lagkit(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in *folder*, with nothing configured but *environment*."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LAGKIT_")}
    return subprocess.run(
        [sys.executable, "-m", "lagkit", *arguments],
        cwd=folder, env=clean | environment, capture_output=True, text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )  # fmt: skip


# -- every login ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_login_reads_everything(secured: Secured, mechanism: str) -> None:
    assert_read(read(secured.stack.kafka.sasl_bootstrap, secured.sasl(mechanism)))


def test_a_client_certificate_reads_everything(secured: Secured) -> None:
    assert_read(read(secured.stack.kafka.mtls_bootstrap, secured.mtls()))


def oidc(secured: Secured, endpoint: str) -> dict[str, str]:
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "lagkit",
        "sasl.oauthbearer.client.secret": "client-secret-9c",
        "sasl.oauthbearer.token.endpoint.url": endpoint,
        **secured.tls,
    }


def test_client_credentials_get_a_token_and_read_everything(
    secured: Secured, token_endpoint: str
) -> None:
    assert_read(read(secured.stack.kafka.sasl_bootstrap, oidc(secured, token_endpoint)))


def test_a_token_endpoint_that_refuses_is_named_and_the_secret_is_not(
    secured: Secured, token_endpoint: str
) -> None:
    properties = oidc(secured, token_endpoint) | {"sasl.oauthbearer.client.secret": "wrong-4711"}
    answer = read(secured.stack.kafka.sasl_bootstrap, properties)
    assert answer.status == "unavailable"
    assert "client.secret" in answer.blind[0].fix
    assert "wrong-4711" not in repr(answer) + answer.queries.to_string()


def test_an_unsigned_token_made_by_the_client_reads_everything(secured: Secured) -> None:
    properties = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "enable.sasl.oauthbearer.unsecure.jwt": "true",
        "sasl.oauthbearer.config": f"principal={READER}",
        **secured.tls,
    }
    assert_read(read(secured.stack.kafka.sasl_bootstrap, properties))


@pytest.mark.parametrize("projected", [False, True], ids=["given", "from-a-file"])
def test_a_token_that_exists_already_reads_everything(
    secured: Secured, tmp_path: Path, projected: bool
) -> None:
    file = tmp_path / "token"
    file.write_text(token(READER) + "\n")
    told = (
        {"sasl.oauthbearer.token.file": str(file)}
        if projected
        else {"sasl.oauthbearer.token": token(READER)}
    )
    properties = {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", **told}
    assert_read(read(secured.stack.kafka.sasl_bootstrap, properties | secured.tls))


# -- the same from files, by the command ----------------------------------------------------------


def as_librdkafka(secured: Secured) -> tuple[str, str]:
    lines = [f"{key}={value}" for key, value in secured.sasl("SCRAM-SHA-512").items()]
    lines.append(f"bootstrap.servers={secured.stack.kafka.sasl_bootstrap}")
    return "client.conf", "\n".join(lines)


def as_java(secured: Secured) -> tuple[str, str]:
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    return "client.properties", "\n".join(
        [
            "# what kafka-consumer-groups --command-config takes",
            f"bootstrap.servers = {secured.stack.kafka.sasl_bootstrap}",
            "security.protocol = SASL_SSL",
            "sasl.mechanism = SCRAM-SHA-256",
            f"sasl.jaas.config = {module} required \\",
            f'  username="{READER}" \\',
            f'  password="{security.PASSWORDS[READER]}";',
            "ssl.truststore.type = PEM",
            f"ssl.truststore.location = {secured.certificates / 'ca.pem'}",
            "group.id = orders-worker",
            "acks = all",
        ]
    )


def as_java_with_a_certificate(secured: Secured) -> tuple[str, str]:
    store = secured.certificates / "client-store.pem"
    parts = [(secured.certificates / f"client.{kind}").read_text() for kind in ("key", "pem")]
    store.write_text("".join(parts))
    return "client.properties", "\n".join(
        [
            f"bootstrap.servers={secured.stack.kafka.mtls_bootstrap}",
            "security.protocol=SSL",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={store}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={secured.certificates / 'ca.pem'}",
        ]
    )


def as_rpk(secured: Secured) -> tuple[str, str]:
    api = {
        "brokers": [secured.stack.kafka.sasl_bootstrap],
        "tls": {"ca_file": str(secured.certificates / "ca.pem")},
        "sasl": {"user": READER, "password": security.PASSWORDS[READER], "mechanism": ""},
    }
    profiles = [{"name": "other"}, {"name": "lab", "kafka_api": api}]
    return "rpk.yaml", json.dumps({"current_profile": "lab", "profiles": profiles})


@pytest.mark.parametrize("write", [as_librdkafka, as_java, as_java_with_a_certificate, as_rpk])
def test_a_file_made_for_another_client_logs_in(
    secured: Secured, tmp_path: Path, write: Callable[[Secured], tuple[str, str]]
) -> None:
    name, text = write(secured)
    (tmp_path / name).write_text(text)
    login = resolve(None, {}, tmp_path / name)
    assert_read(read(login.bootstrap, login.properties))


def test_the_command_takes_the_file_and_shows_no_password(secured: Secured, tmp_path: Path) -> None:
    name, text = as_java(secured)
    (tmp_path / name).write_text(text)
    ran = lagkit(tmp_path, "capture", GROUP, "--kafka-properties", name, "--out", "i.lagkit")
    assert ran.returncode == 0, ran.stderr
    assert "kafka: ok" in ran.stderr
    password = security.PASSWORDS[READER]
    assert password not in ran.stdout + ran.stderr
    with zipfile.ZipFile(tmp_path / "i.lagkit") as saved:
        assert not any(password.encode() in saved.read(entry) for entry in saved.namelist())


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"sasl.password": "wrong-4711"}, "sasl.password"),
        ({"security.protocol": "SASL_PLAINTEXT"}, "SASL_SSL"),
        ({"ssl.ca.location": "other-ca.pem"}, "ssl.ca.location"),
        ({"sasl.mechanism": "SCRAM-SHA-1"}, "sasl.mechanism"),
    ],
    ids=["wrong-password", "plain-to-tls", "wrong-ca", "wrong-mechanism"],
)
def test_a_refused_login_ends_with_4_and_the_line_that_mends_it(
    secured: Secured, tmp_path: Path, change: dict[str, str], fix: str
) -> None:
    shutil.copy(secured.certificates / "other-ca.pem", tmp_path)
    properties = secured.sasl("SCRAM-SHA-512") | change
    (tmp_path / "p.properties").write_text(
        "\n".join(f"{key}={value}" for key, value in properties.items())
    )
    bootstrap = secured.stack.kafka.sasl_bootstrap
    ran = lagkit(
        tmp_path, "doctor", GROUP, "--bootstrap", bootstrap, "--kafka-properties", "p.properties"
    )
    assert ran.returncode == 4, ran.stderr
    assert fix in ran.stdout
    assert "Traceback" not in ran.stderr
    assert properties["sasl.password"] not in ran.stdout + ran.stderr


def test_a_refused_login_leaves_nothing_on_disk_and_says_what_to_look_at(
    secured: Secured, tmp_path: Path
) -> None:
    properties = secured.sasl("SCRAM-SHA-512") | {"sasl.password": "wrong-4711"}
    lines = [f"{key}={value}" for key, value in properties.items()]
    (tmp_path / "p.properties").write_text("\n".join(lines))
    bootstrap = secured.stack.kafka.sasl_bootstrap
    given = ("--bootstrap", bootstrap, "--kafka-properties", "p.properties")
    for command in (("capture", "--out", "i.lagkit"), ("investigate", "--out", "out")):
        verb, *out = command
        ran = lagkit(tmp_path, verb, GROUP, *given, *out)
        assert ran.returncode == 4, ran.stderr
        assert ran.stdout == ""
        assert "No source could be read" in ran.stderr
        assert "look at sasl.mechanism, sasl.username and sasl.password" in ran.stderr
        assert "wrong-4711" not in ran.stderr
        assert [entry.name for entry in tmp_path.iterdir()] == ["p.properties"]


def test_no_client_certificate_is_asked_for_by_name(secured: Secured) -> None:
    properties = {"security.protocol": "SSL", **secured.tls}
    answer = read(secured.stack.kafka.mtls_bootstrap, properties)
    assert "ssl.certificate.location" in answer.blind[0].fix


def test_tls_to_a_plain_listener_is_told(secured: Secured) -> None:
    answer = read(secured.stack.kafka.bootstrap, {"security.protocol": "SSL", **secured.tls})
    assert "speaks no TLS" in answer.blind[0].fix


# -- rights ----------------------------------------------------------------------------------------


def test_describe_alone_is_enough_and_cannot_move_the_group(secured: Secured) -> None:
    properties = secured.sasl("SCRAM-SHA-512")
    assert_read(read(secured.stack.kafka.sasl_bootstrap, properties))
    consumer = Consumer(
        {**properties, "bootstrap.servers": secured.stack.kafka.sasl_bootstrap, "group.id": GROUP}
    )
    with pytest.raises(KafkaException, match="AUTHORIZATION_FAILED"):
        consumer.commit(offsets=[TopicPartition(TOPIC, 0, 0)], asynchronous=False)
    consumer.close()


def test_a_topic_that_may_not_be_described_is_named_and_the_others_are_read(
    secured: Secured,
) -> None:
    properties = secured.sasl("SCRAM-SHA-512")
    now = pd.Timestamp.now("UTC")
    both = Scope(GROUP, (TOPIC, HIDDEN), now - pd.Timedelta("1h"), now, Runbook(title="t"))
    source = KafkaSource(secured.stack.kafka.sasl_bootstrap, properties, snapshots=1)
    answer = source.fetch(both, budget_seconds=30)
    assert answer.status == "partial"
    rows = answer.frames["partitions"]
    assert (rows.loc[rows["topic"] == TOPIC, "log_end_offset"] == MESSAGES).all()
    fixes = " ".join(blind.fix for blind in answer.blind)
    assert f"--operation Describe --topic {HIDDEN}" in fixes


def acls(file: dict[str, Any]) -> list[str]:
    """Return the kafka-acls lines in what doctor says is missing."""
    fixes = [gap["fix"] for gap in file["sources"]["kafka"]["missing"]]
    return sorted({fix[fix.index("kafka-acls ") :] for fix in fixes if "kafka-acls " in fix})


def run_as_super_user(secured: Secured, tools: Artifact, line: str) -> None:
    """Run a printed line with Kafka's own tool, at the listener that lets anybody do anything."""
    words = shlex.split(line)[1:]
    words[words.index("--bootstrap-server") + 1] = secured.stack.kafka.bootstrap
    del words[words.index("--command-config") : words.index("--command-config") + 2]
    tool = "org.apache.kafka.tools.AclCommand"
    subprocess.run(
        ["java", "-cp", f"{tools.files['libs']}/*", tool, *words],
        check=True, capture_output=True, timeout=COMMAND_SECONDS,
    )  # fmt: skip


@pytest.fixture
def tools() -> Artifact:
    parts = install(["kafka-tools"])
    require(parts, "kafka-tools")
    found = parts["kafka-tools"]
    assert isinstance(found, Artifact)
    return found


@pytest.fixture
def stranger(secured: Secured) -> Iterator[dict[str, str]]:
    """Return the login of a user without a right; what a test gives is taken back."""
    yield secured.sasl("PLAIN", STRANGER)
    everything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, f"User:{STRANGER}", None,
        AclOperation.ANY, AclPermissionType.ANY,
    )  # fmt: skip
    secured.admin.delete_acls([everything])[everything].result(PATIENCE)


def test_a_stranger_saves_an_incident_that_says_what_was_denied(
    secured: Secured, stranger: dict[str, str], tmp_path: Path
) -> None:
    lines = [f"{key}={value}" for key, value in stranger.items()]
    (tmp_path / "p.properties").write_text("\n".join(lines))
    bootstrap = secured.stack.kafka.sasl_bootstrap
    given = ("--bootstrap", bootstrap, "--kafka-properties", "p.properties", "--out", "i.lagkit")
    ran = lagkit(tmp_path, "capture", GROUP, *given)
    assert ran.returncode == 0, ran.stderr
    assert "not seen: committed offsets: GROUP_AUTHORIZATION_FAILED" in ran.stderr
    incident = open_incident(tmp_path / "i.lagkit")
    assert incident.partitions.empty
    assert any(f"--allow-principal User:{STRANGER}" in gap.fix for gap in incident.coverage)


def test_the_lines_in_the_documents_open_everything(
    secured: Secured, stranger: dict[str, str], tools: Artifact
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "kafka.md").read_text(encoding="utf-8")
    lines = re.findall(r"^kafka-acls (?:.*\\\n)*.*$", page, flags=re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        run_as_super_user(secured, tools, line.replace(READER, STRANGER).replace("\\\n", ""))
    assert_read(read(secured.stack.kafka.sasl_bootstrap, stranger))


def test_the_lines_that_doctor_prints_for_a_stranger_are_the_ones_that_open_everything(
    secured: Secured, stranger: dict[str, str], tools: Artifact, tmp_path: Path
) -> None:
    lines = [f"{key}={value}" for key, value in stranger.items()]
    lines.append(f"bootstrap.servers={secured.stack.kafka.sasl_bootstrap}")
    (tmp_path / "p.properties").write_text("\n".join(lines))
    doctor = ["doctor", GROUP, "--kafka-properties", "p.properties", "--json"]
    found = json.loads(lagkit(tmp_path, *doctor).stdout)
    assert found["sources"]["kafka"]["status"] == "partial"
    whats = " ".join(gap["what"] for gap in found["sources"]["kafka"]["missing"])
    assert all(word in whats for word in ("state and members", "committed offsets", "list of"))
    ran: set[str] = set()
    # a group must be visible before the topics it reads can be asked about
    while to_run := [line for line in acls(found) if line not in ran and "TOPIC" not in line]:
        for line in to_run:
            assert f"User:{STRANGER}" in line
            run_as_super_user(secured, tools, line)
        ran.update(to_run)
        # of a topic that is hidden from this user the broker does not tell the name
        allow(secured.admin, f"User:{STRANGER}", DESCRIBE, ResourceType.TOPIC, TOPIC)
        found = json.loads(lagkit(tmp_path, *doctor).stdout)
    assert found["sources"]["kafka"]["status"] == "ok", found["sources"]["kafka"]["missing"]

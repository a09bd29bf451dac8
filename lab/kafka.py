"""Run Apache Kafka in KRaft mode: one combined broker and controller, or three.

Knows the broker's configuration, its JMX agent and when it is ready; knows nothing about topics
or workloads. Every broker has two client listeners: DIRECT, and PROXIED, whose *advertised* port
is toxiproxy's, so that a client that bootstraps there stays behind the proxy. A secured cluster
has two more: SASL (over TLS, every mechanism) and MTLS, and an authorizer (see lab.security).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import names, security
from lab.install import Artifact
from lab.processes import LabError, Ledger, free_ports, listening, log_tail

PART = "kafka"
READY_SECONDS = 120.0
FORMAT_SECONDS = 60.0
ASK_SECONDS = 3.0
TERM_GRACE = 10.0
TOPIC_SECONDS = 10.0
# Topic -> partitions: the runbook's own, and one for the independent neighbour group.
TOPICS = {"deploy-requests": 6, "api-events": 3}
JMX_RULES = Path(__file__).resolve().parent / "jmx.yml"

LOOPBACK = "127.0.0.1"

# Fixed: a random id may begin with "-", which the formatter takes for an option.
CLUSTER_ID = "lagkitLabClusterAAAAAA"

# Small machine: serial collector, no C2 compiler, little heap. Ready in 3-6 s.
JAVA_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
HEAP = "-Xmx256m"
FORMAT_HEAP = "-Xmx128m"

LOGGING = """\
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
"""


@dataclass(frozen=True)
class Broker:
    """One node's ports on loopback. `advertised` is the port clients of PROXIED connect to.

    `sasl` and `mtls` are 0 where the cluster is not secured. `host` is what PROXIED advertises: a
    name in a named cluster, which only the workers can resolve (see lab.names).
    """

    node: int
    direct: int
    proxied: int
    advertised: int
    controller: int
    jmx: int
    sasl: int = 0
    mtls: int = 0
    host: str = LOOPBACK

    @property
    def name(self) -> str:
        """Return the name of the process, of its log and of its proxy."""
        return f"kafka-{self.node}"


@dataclass(frozen=True)
class Kafka:
    """A running cluster."""

    nodes: tuple[Broker, ...]

    @property
    def bootstrap(self) -> str:
        """Return the bootstrap servers of the direct listeners."""
        return ",".join(f"127.0.0.1:{node.direct}" for node in self.nodes)

    @property
    def proxied_bootstrap(self) -> str:
        """Return the bootstrap servers whose connections go through toxiproxy.

        Without toxiproxy in the lab this listener is reached directly.
        """
        return ",".join(f"{node.host}:{node.advertised}" for node in self.nodes)

    @property
    def secured(self) -> bool:
        """Return whether the brokers have logins and an authorizer."""
        return all(node.sasl and node.mtls for node in self.nodes)

    @property
    def named(self) -> bool:
        """Return whether the brokers have names that only the workers can resolve."""
        return all(node.host != LOOPBACK for node in self.nodes)

    @property
    def sasl_bootstrap(self) -> str:
        """Return the bootstrap servers that want a SASL login over TLS."""
        return ",".join(f"127.0.0.1:{node.sasl}" for node in self.nodes)

    @property
    def mtls_bootstrap(self) -> str:
        """Return the bootstrap servers that want a client certificate."""
        return ",".join(f"127.0.0.1:{node.mtls}" for node in self.nodes)

    @property
    def jmx(self) -> tuple[str, ...]:
        """Return HOST:PORT of every broker's JMX exporter."""
        return tuple(f"127.0.0.1:{node.jmx}" for node in self.nodes)

    def as_facts(self) -> list[dict[str, Any]]:
        """Return what the state file keeps."""
        return [asdict(node) for node in self.nodes]

    @classmethod
    def from_facts(cls, facts: Sequence[dict[str, Any]]) -> Kafka:
        """Return the cluster that a state file describes."""
        return cls(tuple(Broker(**node) for node in facts))


def plan(count: int, *, proxied: bool, secured: bool = False, named: bool = False) -> Kafka:
    """Choose ports for `count` brokers (1 or 3); ValueError for another count."""
    if count not in (1, 3):
        raise ValueError(f"{count} Kafka nodes asked for; the lab runs 1 or 3")
    brokers = []
    for node in range(1, count + 1):
        direct, inner, outer, controller, jmx = free_ports(5)
        sasl, mtls = free_ports(2) if secured else (0, 0)
        advertised = outer if proxied else inner
        host = names.name_of(node) if named else LOOPBACK
        brokers.append(Broker(node, direct, inner, advertised, controller, jmx, sasl, mtls, host))
    return Kafka(tuple(brokers))


def properties(
    broker: Broker, cluster: Kafka, data: Path, certificates: Path = Path(security.FOLDER)
) -> str:
    """Return the broker's server.properties; `certificates` matter to a secured cluster only."""
    count = len(cluster.nodes)
    voters = ",".join(f"{node.node}@127.0.0.1:{node.controller}" for node in cluster.nodes)
    in_sync = min(2, count)
    logins = {"SASL": broker.sasl, "MTLS": broker.mtls} if cluster.secured else {}
    listening_too = "".join(f",{name}://127.0.0.1:{port}" for name, port in logins.items())
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": broker.node,
        "controller.quorum.voters": voters,
        "listeners": (
            f"DIRECT://127.0.0.1:{broker.direct},PROXIED://127.0.0.1:{broker.proxied},"
            f"CONTROLLER://127.0.0.1:{broker.controller}{listening_too}"
        ),
        "advertised.listeners": (
            f"DIRECT://127.0.0.1:{broker.direct},PROXIED://{broker.host}:{broker.advertised}"
            f"{listening_too}"
        ),
        "listener.security.protocol.map": (
            "DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MTLS:SSL"
        ),
        "inter.broker.listener.name": "DIRECT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        "default.replication.factor": count,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": count,
        "offsets.topic.num.partitions": 5,
        "transaction.state.log.replication.factor": count,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": count,
        "share.coordinator.state.topic.min.isr": in_sync,
        # Groups form at once instead of waiting three seconds for more members.
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
        "num.network.threads": 2,
        "num.io.threads": 4,
    }
    if cluster.secured:
        settings |= security.broker_settings(certificates)
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def start(ledger: Ledger, kafka: Artifact, jmx: Artifact | None, cluster: Kafka) -> None:
    """Format, start and await all brokers of a planned cluster; LabError when one fails.

    Without the JMX agent the brokers run and serve no metrics of their own.
    """
    java = _java()
    classpath = f"{kafka.files['libs']}/*"
    certificates = ledger.folder / security.FOLDER
    if cluster.secured:
        security.make_certificates(certificates)
    for broker in cluster.nodes:
        folder = ledger.folder / broker.name
        # A lab starts empty: what an earlier run left is of no use to the next.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "server.properties").write_text(
            properties(broker, cluster, folder / "data", certificates)
        )
        (folder / "log4j2.properties").write_text(LOGGING)
    for broker in cluster.nodes:
        _format(
            ledger.folder / broker.name,
            java,
            classpath,
            security.format_arguments() if cluster.secured else [],
        )
    _run(ledger, kafka, jmx, cluster)


def restart(ledger: Ledger, kafka: Artifact, jmx: Artifact | None, cluster: Kafka) -> None:
    """Stop all brokers of a running cluster, start them again on their data and await them.

    Ready is not yet loaded: for seconds the groups are missing from lists.
    """
    ledger.stop([broker.name for broker in cluster.nodes])
    _run(ledger, kafka, jmx, cluster)


def _run(ledger: Ledger, kafka: Artifact, jmx: Artifact | None, cluster: Kafka) -> None:
    java = _java()
    for broker in cluster.nodes:
        folder = ledger.folder / broker.name
        agent = []
        if jmx is not None:
            agent = [f"-javaagent:{jmx.files['agent']}=127.0.0.1:{broker.jmx}:{JMX_RULES}"]
        ledger.start(
            broker.name,
            [java, HEAP, *JAVA_OPTIONS, *agent, _logging(folder),
             "-cp", f"{kafka.files['libs']}/*", "kafka.Kafka", "server.properties"],
            part=PART, endpoint=f"127.0.0.1:{broker.direct}", cwd=folder,
            # A node of three is not ready before the others are: await them all below.
            ready=lambda: None, timeout=READY_SECONDS, term_grace=TERM_GRACE,
        )  # fmt: skip
    for broker in cluster.nodes:
        ledger.wait(
            ledger.find(broker.name),
            lambda broker=broker: _missing(broker, len(cluster.nodes)),  # type: ignore[misc]
            READY_SECONDS,
        )


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise LabError("kafka needs java on PATH: apt-get install -y openjdk-17-jre-headless")
    return java


def _logging(folder: Path) -> str:
    return f"-Dlog4j2.configurationFile=file:{folder / 'log4j2.properties'}"


def _format(folder: Path, java: str, classpath: str, more: Sequence[str]) -> None:
    log = folder / "format.log"
    with log.open("wb") as sink:
        try:
            code = subprocess.run(
                [java, FORMAT_HEAP, *JAVA_OPTIONS, _logging(folder), "-cp", classpath,
                 "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties",
                 *more],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
                timeout=FORMAT_SECONDS,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LabError(f"formatting {folder} took over {FORMAT_SECONDS:.0f} s") from error
    if code != 0:
        raise LabError(f"formatting {folder} ended with {code}. Last lines:\n{log_tail(log)}")


def _missing(broker: Broker, count: int) -> str | None:
    """Return None when this broker answers clients and sees all brokers, else what is missing."""
    # Without this check librdkafka fills the terminal with refused connections.
    if not listening(broker.direct):
        return f"nothing listens on {broker.direct}"
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient(
        {"bootstrap.servers": f"127.0.0.1:{broker.direct}", "log_level": 0},
    )
    try:
        known = admin.list_topics(timeout=ASK_SECONDS).brokers
    except KafkaException as error:
        return f"no metadata: {error.args[0].str()}"
    return None if len(known) == count else f"it sees {len(known)} of {count} brokers"


def create_topics(bootstrap: str, replicas: int) -> None:
    """Make the runbook's topics.

    Before the exporters start: klag-exporter reports a lag of 0, and no log end, for topics that
    are younger than itself.

    Raises:
        LabError: the broker refused one.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(name, partitions, replicas) for name, partitions in TOPICS.items()]
    for name, future in admin.create_topics(wanted, request_timeout=TOPIC_SECONDS).items():
        try:
            future.result(TOPIC_SECONDS + 1)
        except KafkaException as error:
            raise LabError(f"topic {name} could not be created: {error.args[0]}") from error

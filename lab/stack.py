"""Start the whole lab in one folder, find it again, and stop it.

Knows which part needs which and in what order they start; the parts themselves know the rest.
Every server listens on a free loopback port. A part that cannot be had is listed in `missing` and
the rest runs; a part that is there and does not start is an error, and nothing stays behind.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab import exporters, kafka, kubernetes, names, prometheus, toxiproxy
from lab.install import Artifact, Echo, Unavailable, install, say
from lab.kafka import Kafka
from lab.kubernetes import Kubernetes
from lab.processes import (
    LabError,
    Ledger,
    free_ports,
    is_running,
    resident_bytes,
)
from lab.toxiproxy import Toxiproxy

PARTS = ("kafka", "jmx", "toxiproxy", "prometheus", "otel", "klag", "relay", "kubernetes")
OPTIONAL_PARTS = ("braedon",)
# A part on the left is of no use without the one on the right.
NEEDS = {
    "jmx": "kafka",
    "toxiproxy": "kafka",
    "otel": "kafka",
    "klag": "kafka",
    "relay": "kafka",
    "braedon": "kafka",
}
DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / ".lab"


@dataclass(frozen=True)
class Row:
    """One line of `status`: `state` is running, ended or missing; sizes in bytes."""

    part: str
    state: str
    endpoint: str
    pid: int | None
    resident: int | None
    log: str


class Stack:
    """The lab's servers. A context manager: entering starts them, leaving stops them.

    `parts` limits what is started (all of PARTS when None). `crash_loop_seconds` is the longest
    pause the kubelet makes between two starts of a crashing container. Without
    `honest_exporters` klag-exporter and the collector run with their own defaults, and the
    collector reaches the brokers through toxiproxy: both then tell untruths when they are cut off.
    `secured` gives the brokers logins and an authorizer besides (see lab.security). `named` gives
    them names that only the workers can resolve (see lab.names). `dialects` are the exporters that
    are scraped, all when None: each has a Prometheus of its own.
    """

    def __init__(
        self,
        folder: Path | str = DEFAULT_FOLDER,
        kafka_nodes: int = 1,
        parts: Iterable[str] | None = None,
        *,
        crash_loop_seconds: int = kubernetes.CRASH_LOOP_SECONDS,
        honest_exporters: bool = True,
        secured: bool = False,
        named: bool = False,
        dialects: Iterable[str] | None = None,
        echo: Echo = say,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.parts = PARTS if parts is None else tuple(dict.fromkeys(parts))
        known = (*PARTS, *OPTIONAL_PARTS)
        unknown = [part for part in self.parts if part not in known]
        if unknown:
            raise ValueError(f"no such part: {', '.join(unknown)}; known: {', '.join(known)}")
        self.kafka_nodes = kafka_nodes
        self.crash_loop_seconds = crash_loop_seconds
        self.honest_exporters = honest_exporters
        self.secured = secured
        self.named = named
        self.dialects = None if dialects is None else frozenset(dialects)
        self.echo = echo
        self.python = sys.executable
        self.missing: dict[str, Unavailable] = {}
        self.prometheus: dict[str, str] = {}
        self.alertmanager: str | None = None
        self.awx_port = 0
        self.relay_port = 0
        self.start_seconds = 0.0
        self.ledger = Ledger(self.folder)
        self._kafka: Kafka | None = None
        self._kubernetes: Kubernetes | None = None
        self._toxiproxy: Toxiproxy | None = None

    # -- what runs --------------------

    def _absent(self, part: str) -> LabError:
        why = self.missing.get(part)
        if why is None:
            return LabError(f"{part} is not started in this lab")
        return LabError(f"{part} is not in this lab: {why.reason}. To do: {why.hint}")

    @property
    def kafka(self) -> Kafka:
        """Return the brokers; LabError when they are missing."""
        if self._kafka is None:
            raise self._absent("kafka")
        return self._kafka

    @property
    def toxiproxy(self) -> Toxiproxy:
        """Return the client of toxiproxy; LabError when it is missing."""
        if self._toxiproxy is None:
            raise self._absent("toxiproxy")
        return self._toxiproxy

    @property
    def kubernetes(self) -> Kubernetes:
        """Return the control plane; LabError when it is missing."""
        if self._kubernetes is None:
            raise self._absent("kubernetes")
        return self._kubernetes

    def kubeconfig(self, user: str = "admin") -> str:
        """Return the path of a kubeconfig for admin, lagkit-ro or nobody."""
        return self.kubernetes.kubeconfig(user)

    def environment(self) -> dict[str, str]:
        """Return the variables with which lagkit finds this lab."""
        found: dict[str, str] = {}
        if "otel" in self.prometheus:
            found["LAGKIT_PROMETHEUS"] = self.prometheus["otel"]
        if self._kafka is not None:
            found["LAGKIT_BOOTSTRAP"] = self._kafka.bootstrap
        if self._kubernetes is not None:
            found["LAGKIT_KUBECONFIG"] = self._kubernetes.kubeconfig("lagkit-ro")
        return found

    # -- start --------------------

    def __enter__(self) -> Self:
        """Start everything."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything that was started."""
        self.stop()

    def start(self) -> Self:
        """Install what is needed and start it; LabError, and nothing left, when a part fails."""
        with self.ledger.exclusive():
            running = [process.name for process in self.ledger.processes if is_running(process)]
            if running:
                raise LabError(
                    f"{self.folder} runs already ({', '.join(running)}); stop it first: "
                    "python -m lab down"
                )
            # What is left of a crash or a reboot: those processes are gone.
            self.ledger.stop()
            artifacts = self._artifacts()
            begun = time.monotonic()
            try:
                self._start(artifacts)
            except BaseException:
                self._stop()
                raise
            self.start_seconds = time.monotonic() - begun
        return self

    def _artifacts(self) -> dict[str, Artifact]:
        """Install the wanted parts; fill `missing`."""
        self.missing = {}
        wanted = [part for part in self.parts if part != "relay"]
        found: dict[str, Artifact] = {}
        for part, result in install(wanted, echo=self.echo).items():
            if isinstance(result, Artifact):
                found[part] = result
            else:
                self.missing[part] = result
        if "relay" in self.parts and not exporters.relay_exists():
            self.missing["relay"] = Unavailable(
                "relay", "this checkout has no lab/relay", "update the checkout"
            )
        for part, needed in NEEDS.items():
            if part in self.parts and needed not in found and part not in self.missing:
                found.pop(part, None)
                self.missing[part] = Unavailable(
                    part, f"it needs {needed}, which does not run", f"get {needed} first"
                )
        return found

    def _start(self, artifacts: dict[str, Artifact]) -> None:
        self.awx_port, self.relay_port = free_ports(2)
        # Two chains that need nothing of each other; a thread each.
        with ThreadPoolExecutor(2) as pool:
            messaging = pool.submit(self._start_messaging, artifacts)
            control = pool.submit(self._start_kubernetes, artifacts)
        errors = [task.exception() for task in (messaging, control)]
        first = next((error for error in errors if error is not None), None)
        if first is not None:
            raise first
        self._remember()

    def _start_kubernetes(self, artifacts: dict[str, Artifact]) -> None:
        if "kubernetes" in artifacts:
            self._kubernetes = kubernetes.start(
                self.ledger, artifacts["kubernetes"], crash_loop_seconds=self.crash_loop_seconds
            )

    def _start_messaging(self, artifacts: dict[str, Artifact]) -> None:
        otel_port, klag_port, braedon_port = free_ports(3)
        serves: dict[str, prometheus.Target] = {}
        if "kafka" in artifacts:
            proxied = "toxiproxy" in artifacts
            cluster = kafka.plan(
                self.kafka_nodes, proxied=proxied, secured=self.secured, named=self.named
            )
            if self.named:
                names.give(self.folder, (node.host for node in cluster.nodes))
                names.check(self.folder)
            if proxied:
                routes = {node.name: (node.advertised, node.proxied) for node in cluster.nodes}
                self._toxiproxy = toxiproxy.start(
                    self.ledger, artifacts["toxiproxy"], free_ports(1)[0], routes
                )
            kafka.start(self.ledger, artifacts["kafka"], artifacts.get("jmx"), cluster)
            self._kafka = cluster
            kafka.create_topics(cluster.bootstrap, len(cluster.nodes))
            if "otel" in artifacts:
                if self.honest_exporters:
                    exporters.start_otel(
                        self.ledger, artifacts["otel"], cluster.bootstrap, otel_port
                    )
                else:
                    exporters.start_otel(
                        self.ledger,
                        artifacts["otel"],
                        cluster.proxied_bootstrap,
                        otel_port,
                        metric_expiration=None,
                    )
                serves["otel"] = prometheus.Target("otel", (f"127.0.0.1:{otel_port}",))
            if "klag" in artifacts:
                exporters.start_klag(
                    self.ledger,
                    artifacts["klag"],
                    cluster.bootstrap,
                    klag_port,
                    metadata_max_age_ms=exporters.METADATA_MAX_AGE
                    if self.honest_exporters
                    else None,
                )
                serves["klag"] = prometheus.Target("klag", (f"127.0.0.1:{klag_port}",))
            if "braedon" in artifacts:
                exporters.start_braedon(
                    self.ledger, artifacts["braedon"], cluster.bootstrap, braedon_port
                )
                serves["braedon"] = prometheus.Target("braedon", (f"127.0.0.1:{braedon_port}",))
            if "relay" in self.parts and "relay" not in self.missing:
                exporters.start_relay(self.ledger, cluster.bootstrap, self.relay_port)
                for dialect in exporters.RELAY_DIALECTS:
                    serves[dialect] = prometheus.Target(
                        dialect, (f"127.0.0.1:{self.relay_port}",), f"/{dialect}"
                    )
        if self.dialects is not None:
            serves = {name: target for name, target in serves.items() if name in self.dialects}
        if "prometheus" in artifacts:
            self._start_prometheus(artifacts, serves)

    def _start_prometheus(
        self, artifacts: dict[str, Artifact], serves: dict[str, prometheus.Target]
    ) -> None:
        artifact = artifacts["prometheus"]
        alert_port, *ports = free_ports(1 + len(serves))
        self.alertmanager = prometheus.start_alertmanager(self.ledger, artifact, alert_port)
        for port, (dialect, target) in zip(ports, serves.items(), strict=True):
            targets = [target]
            # Redpanda has no JMX: beside its names a Kafka broker's would be a false picture.
            if self._kafka is not None and "jmx" in artifacts and dialect != "redpanda":
                targets.append(prometheus.Target("kafka", self._kafka.jmx))
            if "relay" in self.parts and "relay" not in self.missing and "kubernetes" in artifacts:
                address = f"127.0.0.1:{self.relay_port}"
                targets.append(prometheus.Target("kubelet", (address,), exporters.CONTAINERS))
            ruled = dialect == "otel"
            settings = prometheus.config(
                targets, rules=ruled, alertmanager=alert_port if ruled else None
            )
            self.prometheus[dialect] = prometheus.start_prometheus(
                self.ledger, artifact, dialect, port, settings
            )

    # -- the state file --------------------

    def _remember(self) -> None:
        facts = {
            "kafka": self._kafka.as_facts() if self._kafka else None,
            "kubernetes": (
                {"folder": str(self._kubernetes.folder), "port": self._kubernetes.port}
                if self._kubernetes
                else None
            ),
            "toxiproxy": self._toxiproxy.port if self._toxiproxy else None,
            "prometheus": self.prometheus,
            "alertmanager": self.alertmanager,
            "awx_port": self.awx_port,
            "relay_port": self.relay_port,
            "missing": [asdict(reason) for reason in self.missing.values()],
        }
        self.ledger.remember(facts)

    def _recall(self) -> None:
        facts: dict[str, Any] = self.ledger.facts
        if facts["kafka"]:
            self._kafka = Kafka.from_facts(facts["kafka"])
            self.kafka_nodes = len(self._kafka.nodes)
            self.secured, self.named = self._kafka.secured, self._kafka.named
        if facts["kubernetes"]:
            self._kubernetes = Kubernetes(
                Path(facts["kubernetes"]["folder"]), facts["kubernetes"]["port"]
            )
        if facts["toxiproxy"]:
            self._toxiproxy = Toxiproxy(facts["toxiproxy"])
        self.prometheus = dict(facts["prometheus"])
        self.alertmanager = facts["alertmanager"]
        self.awx_port = facts["awx_port"]
        self.relay_port = facts["relay_port"]
        self.missing = {entry["part"]: Unavailable(**entry) for entry in facts["missing"]}

    @classmethod
    def attach(cls, folder: Path | str = DEFAULT_FOLDER) -> Stack:
        """Return the lab that runs in a folder; LabError when none does."""
        stack = cls(folder)
        if not stack.ledger.facts or not any(map(is_running, stack.ledger.processes)):
            raise LabError(f"no lab runs in {stack.folder}; start one: python -m lab up")
        stack._recall()
        return stack

    # -- stop and status --------------------

    def stop(self) -> None:
        """Stop what this folder's lab started and nothing else; logs and data stay."""
        with self.ledger.exclusive():
            self._stop()

    def _stop(self) -> None:
        kubernetes.stop_pods(self.ledger)
        self.ledger.stop()
        if self.ledger.state_path.exists():
            self.ledger.remember({})
        self._kafka = self._kubernetes = self._toxiproxy = None
        self.prometheus = {}
        self.alertmanager = None

    def status(self) -> list[Row]:
        """Return one row per process and per missing part."""
        rows = []
        for process in self.ledger.processes:
            alive = is_running(process)
            rows.append(
                Row(
                    part=process.name,
                    state="running" if alive else "ended",
                    endpoint=process.endpoint,
                    pid=process.pid if alive else None,
                    resident=resident_bytes(process.pid) if alive else None,
                    log=process.log,
                )
            )
        rows.extend(
            Row(entry["part"], "missing", entry["reason"], None, None, "")
            for entry in self.ledger.facts.get("missing", [])
        )
        return rows

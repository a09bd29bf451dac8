"""From the alert to the verdict on the terminal, live, beside what cannot be done faster.

The floor is the imports, in a process of their own, plus the slowest source asked alone; the
Kafka source's snapshots, seconds apart on purpose, are its time. On the lab: a fault in a running
workload, read through the otel collector's metrics, the broker and the Kubernetes API.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import harness
from benchmarks.report import ROOT, after_verdict, empty_notebook
from lagkit.collect import ask_all, configured_sources, window
from lagkit.config import Settings
from lagkit.runbook import load as load_runbook
from lagkit.sources import Scope

MOST = 1.5
MOST_FOR_THE_REPORT = 1.3
SCENARIO = "slow_processing_awx"
PARTS = ("kafka", "toxiproxy", "prometheus", "otel", "kubernetes")
SOME_SECONDS = 45.0
"""Of baseline and of fault: enough to have a history; how right the verdict is, others test."""
IMPORTS = (
    "import lagkit.collect, lagkit.investigation, lagkit.report, lagkit.cli, pandera.pandas, "
    "lagkit.sources.prometheus, lagkit.sources.kafka, lagkit.sources.kubernetes, "
    "prometheus_api_client, confluent_kafka.admin, kubernetes.client, pyarrow.parquet"
)


@dataclass(frozen=True)
class Target:
    """What is asked, and where."""

    group: str
    settings: Settings

    @property
    def options(self) -> list[str]:
        """The same for the command line."""
        settings = self.settings
        options = ["--bootstrap", settings.bootstrap or ""]
        if settings.prometheus:
            options += ["--prometheus", settings.prometheus]
        if settings.kubeconfig:
            options += ["--kubeconfig", str(settings.kubeconfig)]
        return options


@contextmanager
def lab(folder: Path, *, quick: bool) -> Iterator[Target]:
    """Yield a group that lags on a running lab; *quick*: the broker alone.

    Raises
    ------
    harness.Missing
        A server of the lab cannot be had here.
    """
    from lab import scenarios
    from lab.stack import Stack

    parts = ("kafka",) if quick else PARTS
    with Stack(folder, parts=parts) as stack:
        for part, why in stack.missing.items():
            if part in parts:
                msg = f"{part} is not in this lab: {why.reason}. To do: {why.hint}"
                raise harness.Missing(msg)
        if quick:
            committed_once(stack.kafka.bootstrap, scenarios.GROUP, scenarios.TOPIC)
            yield Target(scenarios.GROUP, Settings(bootstrap=stack.kafka.bootstrap))
            return
        with scenarios.live(
            stack, SCENARIO, baseline_seconds=SOME_SECONDS, hold_seconds=SOME_SECONDS
        ):
            yield Target(
                scenarios.GROUP,
                Settings(
                    prometheus=stack.prometheus["otel"],
                    bootstrap=stack.kafka.bootstrap,
                    kubeconfig=Path(stack.kubeconfig("lagkit-ro")),
                ),
            )


def committed_once(bootstrap: str, group: str, topic: str) -> None:
    """Write one record and commit offset 0 for *group*: a lag of one."""
    from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient

    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, b"one", partition=0)
    producer.flush(10)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 0)])
    admin.alter_consumer_group_offsets([wanted])[group].result(10)


def imports() -> None:
    """Import, in a fresh process, what an investigation imports."""
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, cwd=ROOT)


def alone(target: Target, name: str) -> float:
    """Return the seconds of one source asked alone, as an investigation asks it."""
    start, end = window("1h")
    scope = Scope(target.group, (), start, end, load_runbook(None))
    source = configured_sources(target.settings, scope)[name]
    answer = ask_all({name: source}, scope, target.settings)[name]
    if answer.status == "unavailable":
        msg = f"{name}: {answer.detail}"
        raise RuntimeError(msg)
    return answer.seconds


def measure(*, rounds: int, quick: bool = False) -> harness.Row:
    """Return the row; *quick*: one source, the broker, and no workload."""
    with tempfile.TemporaryDirectory() as scratch, lab(Path(scratch) / "lab", quick=quick) as at:
        folder = Path(scratch)
        reports: list[float] = []

        def investigated() -> float:
            arguments = ["investigate", at.group, *at.options, "--out", str(folder / "report")]
            verdict, report = after_verdict(arguments)
            reports.append(report)
            return verdict

        start, end = window("1h")
        names = list(
            configured_sources(at.settings, Scope(at.group, (), start, end, load_runbook(None)))
        )
        seconds = harness.paired(
            {
                "lagkit investigate → verdict": investigated,
                "imports": imports,
                **{f"{name} alone": lambda name=name: alone(at, name) for name in names},
                "papermill, empty notebook": lambda: empty_notebook(folder),
            },
            rounds=rounds,
            warm_up=not quick,
        )
    slowest = max(names, key=lambda name: sorted(seconds[f"{name} alone"])[rounds // 2])
    floor = [
        import_ + source
        for import_, source in zip(seconds["imports"], seconds[f"{slowest} alone"], strict=True)
    ]
    after = reports[-rounds:]
    return harness.Row(
        work="A fault in a running workload: `lagkit investigate` until the verdict is on the "
        f"terminal, with {', '.join(names)}.",
        seconds=seconds | {"lagkit, verdict → report": after},
        claims=[
            harness.Claim(
                f"start → verdict, of imports + {slowest} alone",
                harness.ratio(seconds["lagkit investigate → verdict"], floor),
                MOST,
            ),
            harness.Claim(
                "verdict → report, of an empty notebook under papermill",
                harness.ratio(after, seconds["papermill, empty notebook"]),
                MOST_FOR_THE_REPORT,
            ),
        ],
    )

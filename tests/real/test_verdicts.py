"""The whole way, live: a fault on the real lab, the right cause from every exporter's names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import record, scenarios
from lab.stack import Stack

from .conftest import require

BASELINE_SECONDS = 75
HOLD_SECONDS = 75  # above session timeouts, a crash loop's pauses and every evidence's delay
DISCRIMINATING = {
    "slow_processing_awx": {"downstream_slow", "slower_with_all_members", "downstream_complaints"},
    "consumer_down_crash_loop": {"containers_failing"},
}


@pytest.fixture(scope="module", params=sorted(DISCRIMINATING))
def fault(stack: Stack, request: pytest.FixtureRequest) -> Iterator[scenarios.Injected]:
    for part in ("kafka", "toxiproxy", "kubernetes", "prometheus", "otel", "klag"):
        require(stack, part)
    with scenarios.live(
        stack, request.param, baseline_seconds=BASELINE_SECONDS, hold_seconds=HOLD_SECONDS
    ) as injected:
        yield injected


@pytest.mark.parametrize("dialect", ["otel", "klag", "kafka_exporter", "kminion", "redpanda"])
def test_the_injected_fault_is_named_with_its_evidence(
    stack: Stack, fault: scenarios.Injected, dialect: str
) -> None:
    """kafka_exporter, kminion and Redpanda are the lab's relay under their names."""
    kept = record.capture(stack, fault, dialect)
    verdict = kept.result.verdict
    assert verdict.verdict.cause == fault.label, repr(kept.result)
    cited = {line.id.partition(":")[0] for line in verdict.cause(fault.label).evidence_for}
    assert DISCRIMINATING[fault.name] <= cited
    outcomes = {check.kind: check.outcome for check in verdict.checks}
    assert outcomes["brokers_answer_late"] != "not_checked", "what Kafka was asked is recognised"


def test_the_command_line_writes_verdict_and_report_from_a_live_fault(
    stack: Stack, fault: scenarios.Injected, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    command = [
        *(sys.executable, "-m", "lagkit", "investigate", scenarios.GROUP),
        *("--start", (fault.started + record.EXPORTER_LAG).isoformat()),
        *("--prometheus", stack.prometheus["otel"]),
        *("--bootstrap", stack.kafka.bootstrap, "--kubeconfig", stack.kubeconfig("lagkit-ro")),
        *("--out", str(out), "--json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"]["cause"] == fault.label
    for name in ("incident.lagkit", "verdict.json", "report.html", "report.md", "report.ipynb"):
        assert (out / name).stat().st_size > 0, name

"""The doctor on real servers: what it can read there, what not, and the line that mends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run

from lab.install import Artifact, install
from lab.processes import Ledger, free_ports
from lab.prometheus import start_recorded, write_blocks
from lab.stack import Stack

from .conftest import require

GROUP, TOPIC = "deployment-worker", "deploy-requests"
STEP_SECONDS = 15
BEFORE_SECONDS, AHEAD_SECONDS = 900, 1800
"""The samples reach into the future, so that the last ten minutes are covered whenever it asks."""

CONSUMER_LAG = """'["group","partition","consumer_lag"]'"""
REDPANDA = {
    "redpanda_kafka_consumer_group_committed_offset": (
        f'redpanda_group="{GROUP}",redpanda_topic="{TOPIC}",redpanda_partition="0",shard="0"'
    ),
    "redpanda_kafka_max_offset": (
        f'redpanda_namespace="kafka",redpanda_topic="{TOPIC}",redpanda_partition="0"'
    ),
    "redpanda_kafka_consumer_group_consumers": f'redpanda_group="{GROUP}",shard="0"',
}
KMINION_BY_TOPIC = {
    "kminion_kafka_consumer_group_topic_lag": f'group_id="{GROUP}",topic_name="{TOPIC}"',
    "kminion_kafka_consumer_group_topic_offset_sum": f'group_id="{GROUP}",topic_name="{TOPIC}"',
    "kminion_kafka_consumer_group_members": f'group_id="{GROUP}"',
}
VARIANTS = {
    "redpanda": (
        REDPANDA,
        "dialect redpanda",
        f"fix  rpk cluster config set enable_consumer_group_metrics {CONSUMER_LAG}",
    ),
    "kminion by topic": (
        KMINION_BY_TOPIC,
        "dialect kminion_topic",
        "fix  Set minion.consumerGroups.granularity: partition in kminion's configuration.",
    ),
    "no exporter": ({}, "no lag metric of any known exporter", "fix  Deploy a lag exporter"),
}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    found = install(["prometheus"])
    require(found, "prometheus")
    prometheus = found["prometheus"]
    assert isinstance(prometheus, Artifact)
    return prometheus


@pytest.fixture(params=sorted(VARIANTS))
def variant(
    artifact: Artifact, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[str, str]]:
    """Start a Prometheus with one exporter's names and yield the variant and its address."""
    now = int(time.time())
    times = range(now - BEFORE_SECONDS, now + AHEAD_SECONDS, STEP_SECONDS)
    metrics, *_ = VARIANTS[request.param]
    lines = [
        f'{name}{{{labels},job="exporter",instance="10.0.0.7:9999"}} {value} {at}'
        for name, labels in {**metrics, "up": 'exporter="any"'}.items()
        for value, at in enumerate(times, start=1)
    ]
    ledger = Ledger(tmp_path / "lab")
    store = write_blocks(artifact, tmp_path / "pages", lines)
    try:
        yield request.param, start_recorded(ledger, artifact, free_ports(1)[0], store)
    finally:
        ledger.stop()


def test_the_doctor_says_what_a_server_gives_and_the_line_that_gives_more(
    variant: tuple[str, str], tmp_path: Path
) -> None:
    name, url = variant
    metrics, seen, line = VARIANTS[name]
    told = run("doctor", GROUP, "--prometheus", url, cwd=tmp_path)
    assert told.status == 0, told.both
    assert seen in told.out
    assert line in told.out
    assert ("     reads  " in told.out and "offsets" in told.out) == bool(metrics)
    assert "distrust" not in told.out


def test_the_doctor_gives_the_rules_that_a_user_without_rights_needs(
    control_plane: Stack, tmp_path: Path
) -> None:
    login = control_plane.kubeconfig("nobody")
    told = run("doctor", GROUP, "--kubeconfig", login, cwd=tmp_path)
    assert told.status in (0, 4), told.both
    assert "missing  " in told.out
    assert 'apiGroups: [""], resources: ["pods"]' in told.out

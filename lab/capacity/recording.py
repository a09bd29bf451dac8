"""The demo's eight weeks: made by seed, written into a real Prometheus, read back by lagkit.

``python -m lab capacity record`` writes OpenMetrics, has ``promtool tsdb create-blocks-from
openmetrics`` make blocks of it, starts a Prometheus on them, lets ``lagkit.capacity.capture`` read
it and keeps the history as ``templates/demo/capacity.lagkit``. The names are those of the
OpenTelemetry receiver, the runbook's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lab import prometheus
from lab.capacity.histories import START, STEP, WEEKS, Made, draw, make
from lab.install import Artifact, install
from lab.processes import LabError, Ledger, free_ports
from lagkit.capacity.capture import capture
from lagkit.capacity.history import DEMO, History
from lagkit.config import Settings

SCRAPE_SECONDS = 120
KEPT_DAYS = 3
LONGEST_BLOCK = "1458h"
DEMO_FILE = Path(__file__).resolve().parents[2] / DEMO
NAMESPACE, WORKLOAD = "stoa-system", "control-plane-api"


@dataclass(frozen=True)
class Weeks:
    """One group of the demo: its history, on how many partitions, read by how many members."""

    group: str
    topic: str
    made: Made
    shares: tuple[float, ...]
    members: int
    deploy_week: float | None = None


def demo_weeks() -> tuple[Weeks, ...]:
    """Return the groups of the demo.

    ``deployment-worker`` passes 70 % of its capacity on :func:`demo_date`; ``audit`` does not grow;
    ``provisioning`` was never behind.
    """
    growing = replace(
        draw(11, "linear"),
        base=20.0,
        per_week=0.03,
        noise=0.12,
        day_noise=0.015,
        incidents=4,
        gaps=1,
        spikes=1,
        weeks_to_target=11.0,
        slower_until=(3.0, 0.8),
        holidays=(35,),
    )
    still = replace(draw(12, "none"), base=140.0, incidents=2, gaps=1, spikes=0)
    calm = replace(draw(14, "linear"), base=4.0, per_week=0.02, incidents=0, spikes=0)
    return (
        Weeks("deployment-worker", "deploy-requests", make(growing),
              (0.22, 0.17, 0.16, 0.16, 0.15, 0.14), 4, 3.0),
        Weeks("audit", "api-events", make(still), (0.26, 0.25, 0.25, 0.24), 4),
        Weeks("provisioning", "tenant-events", make(calm), (0.34, 0.33, 0.33), 2),
    )  # fmt: skip


def demo_date() -> pd.Timestamp:
    """Return when ``deployment-worker`` passes the target, as its rule has it."""
    passes = demo_weeks()[0].made.passes
    assert passes is not None
    return passes


def samples(weeks: tuple[Weeks, ...], scrape_seconds: int = SCRAPE_SECONDS) -> Iterator[str]:
    """Yield the lines of an OpenMetrics page, series after series."""
    first = int(START.timestamp())
    count = len(weeks[0].made.log_end) * STEP // scrape_seconds
    at = first + (np.arange(count) + 1) * scrape_seconds
    for one in weeks:
        made = one.made
        ends = np.concatenate([[0.0], made.log_end])
        read = np.concatenate([[0.0], made.committed])
        edges = first + np.arange(len(ends)) * STEP
        end, committed = np.interp(at, edges, ends), np.interp(at, edges, read)
        old = np.interp(at - KEPT_DAYS * 86400, edges, ends)
        seen = made.seen[np.minimum((at - first - 1) // STEP, len(made.seen) - 1)]
        for number, share in enumerate(one.shares):
            of_log = f'topic="{one.topic}",partition="{number}",job="otel"'
            of_group = f'group="{one.group}",{of_log}'
            high, low = np.floor(end * share), np.floor(committed * share)
            yield from _lines("kafka_partition_current_offset", of_log, at, high, seen)
            yield from _lines("kafka_partition_oldest_offset", of_log, at, np.floor(old * share),
                              seen)  # fmt: skip
            yield from _lines("kafka_consumer_group_offset", of_group, at, low, seen)
            yield from _lines("kafka_consumer_group_lag", of_group, at, high - low, seen)
        of_members = f'group="{one.group}",job="otel"'
        members = np.full(len(at), float(one.members))
        yield from _lines("kafka_consumer_group_members", of_members, at, members, seen)
        if one.deploy_week is not None:
            labels = f'namespace="{NAMESPACE}",deployment="{WORKLOAD}",job="kube-state-metrics"'
            generation = 7.0 + (at >= first + one.deploy_week * 7 * 86400)
            yield from _lines("kube_deployment_metadata_generation", labels, at, generation, seen)


def _lines(
    name: str, labels: str, at: np.ndarray, values: np.ndarray, seen: np.ndarray
) -> Iterator[str]:
    for moment, value in zip(at[seen].tolist(), values[seen].tolist(), strict=True):
        yield f"{name}{{{labels}}} {value:.0f} {moment}"


def prometheus_artifact() -> Artifact:
    """Return the lab's Prometheus; LabError where it cannot be had."""
    found = install(("prometheus",))["prometheus"]
    if not isinstance(found, Artifact):
        msg = f"prometheus: {found.reason}. To do: {found.hint}"
        raise LabError(msg)
    return found


def record(target: Path = DEMO_FILE) -> History:
    """Make the demo's history and keep it in *target*."""
    artifact = prometheus_artifact()
    with tempfile.TemporaryDirectory(prefix="lagkit-demo-") as scratch:
        folder = Path(scratch)
        weeks = demo_weeks()
        store = prometheus.write_blocks(
            artifact, folder / "blocks", samples(weeks), longest=LONGEST_BLOCK
        )
        ledger = Ledger(folder / "lab")
        try:
            url = prometheus.start_recorded(ledger, artifact, free_ports(1)[0], store)
            history = capture(
                (),
                since=f"{WEEKS}w",
                end=(START + pd.Timedelta(weeks=WEEKS)).isoformat(),
                settings=Settings(prometheus=url, cluster="demo"),
                keep=False,
                on_progress=print,
            )
        finally:
            ledger.stop()
    # the clock of the recording is no part of the weeks
    history = replace(history, captured_at=history.end)
    history.save(target)
    return history

"""Make one labelled incident: a workload that is well, a fault, a capture, a sealed label.

The incident file is written by the same ``lagkit capture`` that users run, with the read-only
account. The label is the injector's own: which causes were active, from when by its own clock, and
what a diagnosis should cite. lagkit never sees it; what it says of the incident is not looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lab import prometheus, scenarios, security
from lab.incidents.faults import Bench, Release, bench_on, inject
from lab.incidents.script import Drawn, Step
from lab.processes import LabError
from lab.stack import Stack
from lagkit.incident import open_incident
from lagkit.version import __version__

RELAYED = ("kafka_exporter", "kminion", "redpanda")
NOISE_SECONDS = 7
EARLY = ("old_restart", "scaled_before")
"""Distractors that are over before the window begins."""
CAPTURE_SECONDS = 120.0
SHOWN_SECONDS = 60.0
SETTLED_SECONDS = 180.0


class NothingShown(LabError):
    """The fault was in force and the group did not show it: such an incident has no truth."""


@dataclass(frozen=True)
class Made:
    """One incident on disk with its label."""

    name: str
    file: Path
    label: Mapping[str, Any]


def make(stack: Stack, drawn: Drawn, folder: Path) -> Made:
    """Make the incident *drawn* and write ``NAME.lagkit`` and ``labels/NAME.json`` into *folder*.

    Raises:
        NothingShown: the group did not show the fault as the script says.
        LabError: the workload did not get well, a fault did not take or the capture failed.
    """
    workload = drawn.workload
    environment = {key: str(value) for key, value in workload.environment.items()}
    if "noise" in drawn.distractors:
        environment["NOISE_SECONDS"] = str(NOISE_SECONDS)
    environment["CLIENT_LIBRARY"] = str(workload.client)
    release = Release(
        replicas=int(workload.replicas),
        environment=environment,
        killed_for_memory=any(step.do == "memory_limit" for step in drawn.steps),
    )
    chooser = random.Random(f"{drawn.name}:bench")
    scraping = (stack.ledger, drawn.dialect, stack.prometheus[drawn.dialect])
    scenarios.deploy_around(stack)
    url = f"{scenarios.producer_url(stack)}/rate"
    scenarios.ask("POST", url, {"multiplier": float(workload.rate)})
    members = int(workload.replicas)
    if stack.secured:
        security.let_consume(
            stack.kafka.bootstrap, security.WORKER, scenarios.TOPIC, scenarios.GROUP
        )
    with bench_on(stack, release, chooser) as bench:
        bench.mend_with(scenarios.ask, "POST", url, {"multiplier": 1})
        bench.mend_with(prometheus.scrape_every, *scraping, prometheus.SCRAPE_SECONDS)
        prometheus.scrape_every(*scraping, drawn.scrape_seconds)
        bench.roll_out(release)
        scenarios.settle(stack, members=members)
        told = [_take(bench, step) for step in drawn.before]
        if told:
            scenarios.settle(stack, SETTLED_SECONDS, members=members)
        told += _distract(bench, drawn, members)
        if workload.cpu_percent:
            inject(bench, "cpu_limit", {"percent": float(workload.cpu_percent) * members})
        started = datetime.now(UTC)
        time.sleep(drawn.settled_seconds)
        trouble = scenarios.unwell(stack, members)
        if trouble is not None:
            raise LabError(f"{drawn.name}: the baseline did not stay well: {trouble}")
        onsets = _play(bench, drawn, told)
        _shown(stack, drawn)
        file = folder / f"{drawn.name}.lagkit"
        _capture(stack, drawn.dialect, started + timedelta(seconds=drawn.unseen_seconds), file)
        _answered(drawn, file)
        ended = datetime.now(UTC)
    label = {
        "script": drawn.script.id,
        "seed": drawn.seed,
        "split": drawn.script.split,
        "primary": drawn.script.primary,
        "active": list(drawn.script.active),
        "onsets": onsets,
        "evidence": list(drawn.script.evidence),
        "distractors": list(drawn.distractors),
        "values": drawn.values,
        "workload": workload.model_dump(),
        "done": told,
        "dialect": drawn.dialect,
        "scrape_seconds": drawn.scrape_seconds,
        "exporter": "the lab's relay under its names"
        if drawn.dialect in RELAYED
        else "the real one",
        "started": started.isoformat(),
        "ended": ended.isoformat(),
        "lagkit_version": __version__,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    labels = folder / "labels"
    labels.mkdir(exist_ok=True)
    (labels / f"{drawn.name}.json").write_text(
        json.dumps(label, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    return Made(drawn.name, file, label)


def _distract(bench: Bench, drawn: Drawn, members: int) -> list[dict[str, Any]]:
    """Put the distractors in place: first what must be over, then what goes on."""
    told: list[dict[str, Any]] = []
    for kind in sorted(drawn.distractors, key=lambda kind: kind not in EARLY):
        if kind == "noise":
            continue
        done = inject(bench, kind, {})
        told.append({"do": kind, "at": datetime.now(UTC).isoformat(), "told": dict(done)})
        if kind in EARLY:
            scenarios.settle(bench.stack, SETTLED_SECONDS, members=members)
    return told


def _play(bench: Bench, drawn: Drawn, told: list[dict[str, Any]]) -> dict[str, str]:
    """Take the steps at their times, hold, mend if the script says so; return the onsets."""
    onsets: dict[str, str] = {}
    began = time.monotonic()
    for step in drawn.steps:
        time.sleep(max(0.0, began + float(step.after) - time.monotonic()))
        told.append(_take(bench, step))
        if step.begins:
            onsets.setdefault(step.begins, told[-1]["at"])
    end = began + drawn.held_seconds
    if drawn.mended_after_seconds is not None:
        time.sleep(max(0.0, began + drawn.mended_after_seconds - time.monotonic()))
        told.append({"do": "mend", "at": datetime.now(UTC).isoformat(), "told": {}})
        bench.mend()
    time.sleep(max(0.0, end - time.monotonic()))
    return onsets


def _take(bench: Bench, step: Step) -> dict[str, Any]:
    """Take one step; return what was done, with the moment it was asked for."""
    asked = datetime.now(UTC)
    done = inject(bench, step.do, step.options)
    return {"do": step.do, "at": asked.isoformat(), "told": dict(done)}


def _shown(stack: Stack, drawn: Drawn) -> None:
    """Check what the script says must be seen."""
    bounds = drawn.script.shows
    if not bounds:
        return
    end = time.monotonic() + SHOWN_SECONDS
    while True:
        try:
            lag = scenarios.group_view(stack.kafka.bootstrap).total_lag
            break
        except LabError:  # a broker that pauses answers between two pauses
            if time.monotonic() > end:
                raise
    if not bounds.get("least_lag", 0) <= lag <= bounds.get("most_lag", sys.maxsize):
        raise NothingShown(f"{drawn.name}: the group is {lag} records behind, expected {bounds}")


def _answered(drawn: Drawn, file: Path) -> None:
    """Refuse a capture that a busy machine cut short: no script silences these two."""
    sources = open_incident(file).sources
    silent = [n for n in ("kubernetes", "prometheus") if sources[n].status == "unavailable"]
    if silent:
        file.unlink()
        raise LabError(f"{drawn.name}: {', '.join(silent)} did not answer the capture in time")


def _capture(stack: Stack, dialect: str, started: datetime, file: Path) -> None:
    """Run ``lagkit capture`` as a user would."""
    file.parent.mkdir(parents=True, exist_ok=True)
    awx = json.dumps({"awx": f"http://127.0.0.1:{stack.awx_port}"})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lagkit", "capture", scenarios.GROUP),
            *("--start", started.isoformat()),
            *("--prometheus", stack.prometheus[dialect]),
            *("--bootstrap", stack.kafka.bootstrap),
            *("--kubeconfig", stack.kubeconfig("lagkit-ro")),
            *("--out", str(file)),
        ],
        env={**os.environ, "LAGKIT_DOWNSTREAM": awx, "LAGKIT_CLUSTER": "lab"},
        capture_output=True,
        text=True,
        timeout=CAPTURE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise LabError(f"lagkit capture ended with {done.returncode}: {done.stderr[-600:]}")

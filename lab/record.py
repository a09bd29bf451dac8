"""Record labelled incidents: run a scenario, capture it as a user would, keep the label beside it.

Each scenario is captured once per exporter, through lagkit's public API and the read-only account,
while the fault is active. The label is the injector's own: cause, scenario, time of injection. The
verdict is printed and never written into the label.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd

import lagkit as lk
from lab import scenarios
from lab.processes import LabError
from lab.stack import DEFAULT_FOLDER, Stack

LABELS = "labels.json"
EXPORTER_LAG = timedelta(seconds=15)
RELAYED = ("kafka_exporter", "kminion", "redpanda")


@dataclass(frozen=True)
class Recorded:
    """One capture with its verdict and the seconds from the question to each."""

    scenario: str
    label: str
    dialect: str
    result: lk.Result
    capture_seconds: float
    verdict_seconds: float

    def line(self) -> str:
        """Return one line for a table."""
        verdict = self.result.verdict
        truth = verdict.cause(self.label)
        mark = "right" if verdict.verdict.cause == self.label else "WRONG"
        return (
            f"{self.scenario:26} {self.dialect:15} {mark:6} {verdict.verdict.cause:16} "
            f"p={verdict.verdict.likelihood:.3f} p(label)={truth.probability:.3f} "
            f"{verdict.verdict.confidence:9} "
            f"{verdict.verdict.evidence_checked}/{verdict.verdict.evidence_total} checks, "
            f"verdict after {self.verdict_seconds:.1f} s"
        )


def settings(stack: Stack, dialect: str) -> lk.Settings:
    """Return what a user would configure to read this stack through one exporter."""
    return lk.Settings(
        prometheus=stack.prometheus[dialect],
        bootstrap=stack.kafka.bootstrap,
        kubeconfig=Path(stack.kubeconfig("lagkit-ro")),
        downstream={"awx": f"http://127.0.0.1:{stack.awx_port}"},
        cluster="lab",
    )


def capture(stack: Stack, injected: scenarios.Injected, dialect: str) -> Recorded:
    """Capture and judge the active fault through one exporter."""
    begun = time.monotonic()
    incident = lk.capture(
        scenarios.GROUP,
        # the exporters' last look at the backlog that was settled before is not of this incident
        start=(injected.started + EXPORTER_LAG).isoformat(),
        settings=settings(stack, dialect),
    )
    captured = time.monotonic() - begun
    result = lk.investigate(incident)
    return Recorded(
        injected.name, injected.label, dialect, result, captured, time.monotonic() - begun
    )


def record(
    stack: Stack,
    names: Sequence[str],
    folder: Path,
    *,
    dialects: Sequence[str] | None = None,
    baseline_seconds: float = scenarios.BASELINE_SECONDS,
    hold_seconds: float = scenarios.HOLD_SECONDS,
) -> list[Recorded]:
    """Record *names* one after another into *folder*; a scenario that fails stops only itself."""
    folder.mkdir(parents=True, exist_ok=True)
    done: list[Recorded] = []
    for name in names:
        try:
            with scenarios.live(
                stack, name, baseline_seconds=baseline_seconds, hold_seconds=hold_seconds
            ) as injected:
                for dialect in dialects or tuple(stack.prometheus):
                    kept = capture(stack, injected, dialect)
                    file = f"{name}.{dialect}.lagkit"
                    kept.result.incident.save(folder / file)
                    _label(folder, file, injected, dialect)
                    done.append(kept)
                    print(kept.line(), flush=True)
        except LabError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    return done


def _label(folder: Path, file: str, injected: scenarios.Injected, dialect: str) -> None:
    path = folder / LABELS
    labels = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    labels[file] = {
        "cause": injected.label,
        "scenario": injected.name,
        "injected_at": pd.Timestamp(injected.injected_at).isoformat(),
        "fault": dict(injected.fault),
        "dialect": dialect,
        "exporter": "the lab's relay under its names" if dialect in RELAYED else "the real one",
    }
    path.write_text(json.dumps(labels, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Record scenarios on a running lab; status 1 unless every verdict was right."""
    parser = argparse.ArgumentParser(prog="python -m lab.record", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(scenarios.SCENARIOS))
    parser.add_argument("--lab", type=Path, default=DEFAULT_FOLDER, help="folder of the lab")
    parser.add_argument("--out", type=Path, required=True, help="folder of the incident files")
    parser.add_argument("--dialect", action="append", help="only this exporter (repeatable)")
    parser.add_argument("--baseline", type=float, default=scenarios.BASELINE_SECONDS)
    parser.add_argument("--hold", type=float, default=scenarios.HOLD_SECONDS)
    given = parser.parse_args(arguments)
    try:
        kept = record(
            Stack.attach(given.lab),
            given.names,
            given.out,
            dialects=given.dialect,
            baseline_seconds=given.baseline,
            hold_seconds=given.hold,
        )
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    right = sum(one.result.cause == one.label for one in kept)
    print(f"{right} of {len(kept)} verdicts right")
    return 0 if kept and right == len(kept) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Make a corpus: every script with every seed, on several stacks at once, resumed where it ended.

Each stack is a lab of its own with its own brokers and control plane, because one group's incident
would be another's neighbour. A run that fails is noted with its reason and tried once more on a
fresh stack; what cannot be made is listed at the end and never replaced by something easier.
"""

from __future__ import annotations

import json
import multiprocessing
import queue
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.incidents.making import make
from lab.incidents.script import Drawn, Script, draw, load
from lab.processes import LabError
from lab.stack import Stack

DIALECTS = ("otel", "klag", "kafka_exporter", "kminion", "redpanda")
TRIES = 2
FAILURES = "failures.json"
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """What became of one incident: ``error`` is empty when it was made."""

    name: str
    seconds: float
    error: str = ""


def wanted(
    scripts: Sequence[Script], folder: Path, *, seeds: Sequence[int] | None = None
) -> list[Drawn]:
    """Return the incidents that *folder* does not hold yet, those of many brokers last."""
    todo = [
        draw(script, seed, DIALECTS)
        for script in scripts
        for seed in (seeds if seeds is not None else range(1, script.seeds + 1))
    ]
    missing = [d for d in todo if not (folder / "labels" / f"{d.name}.json").exists()]
    return sorted(missing, key=lambda drawn: (drawn.script.nodes, drawn.seed, drawn.script.id))


def record(todo: Sequence[Drawn], folder: Path, lab: Path, stacks: int) -> list[Outcome]:
    """Make *todo* on so many stacks; print a line for each as it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for nodes in sorted({drawn.script.nodes for drawn in todo}):
        batch = [drawn for drawn in todo if drawn.script.nodes == nodes]
        outcomes += _batch(batch, folder, lab, min(stacks, len(batch)), nodes)
    failed = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
    (folder / FAILURES).write_text(json.dumps(failed, indent=1, sort_keys=True) + "\n")
    return outcomes


def _batch(
    todo: Sequence[Drawn], folder: Path, lab: Path, stacks: int, nodes: int
) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")
    jobs: Any = context.Queue()
    done: Any = context.Queue()
    for drawn in todo:
        jobs.put(drawn)
    for _ in range(stacks):
        jobs.put(None)
    makers = [
        context.Process(target=_maker, args=(jobs, done, folder, lab / f"{nodes}-{i}", nodes))
        for i in range(stacks)
    ]
    for maker in makers:
        maker.start()
    outcomes: list[Outcome] = []
    try:
        while len(outcomes) < len(todo):
            try:
                outcomes.append(done.get(timeout=1.0))
            except queue.Empty:
                if not any(maker.is_alive() for maker in makers):
                    break
                continue
            last = outcomes[-1]
            print(
                f"{datetime.now(UTC):%H:%M:%S} {len(outcomes):4}/{len(todo)} {last.name:44} "
                f"{last.seconds:5.0f} s {last.error or 'made'}",
                flush=True,
            )
    except BaseException:
        for maker in makers:
            maker.terminate()
        raise
    finally:
        for maker in makers:
            maker.join(STOP_SECONDS)
            maker.kill()
    return outcomes


def _maker(jobs: Any, done: Any, folder: Path, lab: Path, nodes: int) -> None:
    """Make incidents on one stack until there are none left; a failure costs a fresh stack."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    stack: Stack | None = None
    try:
        while (drawn := jobs.get()) is not None:
            began = time.monotonic()
            error = ""
            for _ in range(TRIES):
                try:
                    if stack is None:
                        shutil.rmtree(lab, ignore_errors=True)
                        stack = Stack(lab, kafka_nodes=nodes, echo=lambda _: None).start()
                    make(stack, drawn, folder)
                    error = ""
                    break
                except LabError as failure:
                    error = " ".join(str(failure).split())
                except Exception as failure:  # whatever it was, the next incident is still wanted
                    error = f"{type(failure).__name__}: {failure}"
                if stack is not None:
                    stack.stop()
                    stack = None
            done.put(Outcome(drawn.name, time.monotonic() - began, error))
    finally:
        if stack is not None:
            stack.stop()


def add_cli(subparsers: Any) -> None:
    """Add the ``corpus`` command to a command line; its ``run`` takes the parsed arguments."""
    parser = subparsers.add_parser("corpus", help="make labelled incidents by their scripts")
    parser.add_argument("ids", nargs="*", help="scripts, or families of them; none: all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the incident files")
    parser.add_argument("--lab", type=Path, default=Path(".lab/corpus"), help="of the stacks")
    parser.add_argument("--stacks", type=int, default=3, help="labs at once (default 3)")
    parser.add_argument("--seed", type=int, action="append", help="only this seed (repeatable)")
    parser.add_argument("--list", action="store_true", help="say what would be made, and stop")
    parser.set_defaults(run=_command)


def _command(args: Any) -> int:
    scripts = load()
    chosen = [
        script
        for script in scripts.values()
        if not args.ids or {script.id, script.family} & set(args.ids)
    ]
    todo = wanted(chosen, args.out, seeds=args.seed)
    if args.list or not todo:
        for drawn in todo:
            print(f"{drawn.name:44} {drawn.script.split:12} {drawn.dialect:15} {drawn.values}")
        print(f"{len(todo)} to make of {len(chosen)} scripts")
        return 0 if chosen else 2
    outcomes = record(todo, args.out, args.lab, args.stacks)
    failed = [outcome for outcome in outcomes if outcome.error]
    print(f"{len(outcomes) - len(failed)} made, {len(failed)} failed, of {len(todo)}")
    return 1 if failed or len(outcomes) < len(todo) else 0

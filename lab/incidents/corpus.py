"""Make a corpus: every script with every seed, on several stacks at once, resumed where it ended.

Each stack is a lab of its own with its own brokers and control plane, because one group's incident
would be another's neighbour. A run that fails is noted with its reason and tried once more on a
fresh stack; what cannot be made is listed at the end and never replaced by something easier. What
the folder holds then stands in its manifest.
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

from lab.incidents import manifest
from lab.incidents.making import make
from lab.incidents.script import SPLITS, Drawn, Script, draw, load
from lab.processes import LabError
from lab.prometheus import DIALECTS
from lab.stack import PARTS, Stack

EXPORTERS = ("otel", "klag")
"""Parts that are the exporter of one dialect; the relay serves the others, and the containers."""
WARM_SECONDS = {"klag": 75.0}
"""klag-exporter writes a lag of 0 and no end for topics younger than itself, a minute long."""
TRIES = 2
FAILURES = "failures.json"
STOP_SECONDS = 60.0
CORPUS = Path(__file__).resolve().parents[2] / "corpus"


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
    return sorted(
        missing, key=lambda drawn: (drawn.script.nodes, drawn.dialect, drawn.seed, drawn.script.id)
    )


def record(todo: Sequence[Drawn], folder: Path, lab: Path, stacks: int) -> list[Outcome]:
    """Make *todo* on so many stacks; print a line for each as it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for nodes, needs in sorted({(drawn.script.nodes, drawn.script.needs) for drawn in todo}):
        batch = [d for d in todo if (d.script.nodes, d.script.needs) == (nodes, needs)]
        outcomes += _batch(batch, folder, lab, min(stacks, len(batch)), nodes, needs)
    failed = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
    (folder / FAILURES).write_text(json.dumps(failed, indent=1, sort_keys=True) + "\n")
    return outcomes


def _batch(
    todo: Sequence[Drawn],
    folder: Path,
    lab: Path,
    stacks: int,
    nodes: int,
    needs: tuple[str, ...],
) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")
    jobs: Any = context.Queue()
    done: Any = context.Queue()
    for drawn in todo:
        jobs.put(drawn)
    for _ in range(stacks):
        jobs.put(None)
    makers = [
        context.Process(
            target=_maker,
            args=(jobs, done, folder, lab / "-".join([str(nodes), *needs, str(i)]), nodes, needs),
        )
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


def _maker(
    jobs: Any, done: Any, folder: Path, lab: Path, nodes: int, needs: tuple[str, ...]
) -> None:
    """Make incidents on one stack until there are none left; a failure costs a fresh stack."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    stack: Stack | None = None
    try:
        while (drawn := jobs.get()) is not None:
            began = time.monotonic()
            error = ""
            for _ in range(TRIES):
                try:
                    if stack is not None and drawn.dialect not in (stack.dialects or ()):
                        stack.stop()
                        stack = None
                    if stack is None:
                        shutil.rmtree(lab, ignore_errors=True)
                        # what does not see the incident only costs time on the processors
                        others = set(EXPORTERS) - {drawn.dialect}
                        stack = Stack(
                            lab,
                            kafka_nodes=nodes,
                            parts=[part for part in PARTS if part not in others],
                            dialects=[drawn.dialect],
                            secured="logins" in needs,
                            named="names" in needs,
                            echo=lambda _: None,
                        ).start()
                        time.sleep(WARM_SECONDS.get(drawn.dialect, 0.0))
                    make(stack, drawn, folder)
                    error = ""
                    break
                except LabError as failure:
                    error = " ".join(str(failure).split())
                except Exception as failure:  # whatever it was, the next incident is still wanted
                    error = f"{type(failure).__name__}: {failure}"
                print(f"{datetime.now(UTC):%H:%M:%S} {drawn.name}: {error}", flush=True)
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
    parser.add_argument(
        "--out", type=Path, default=CORPUS, help="folder of the incident files (%(default)s)"
    )
    parser.add_argument("--lab", type=Path, default=Path(".lab/corpus"), help="of the stacks")
    parser.add_argument("--stacks", type=int, default=3, help="labs at once (default 3)")
    parser.add_argument("--seed", type=int, action="append", help="only this seed (repeatable)")
    parser.add_argument(
        "--split", choices=SPLITS, action="append", help="only of this split (repeatable)"
    )
    parser.add_argument(
        "--dialect", choices=DIALECTS, action="append", help="only seen so (repeatable)"
    )
    parser.add_argument("--list", action="store_true", help="say what would be made, and stop")
    parser.add_argument(
        "--check", type=Path, metavar="DIR", help="say what is not as the manifest of DIR says"
    )
    parser.add_argument(
        "--repack", type=Path, metavar="DIR", help="write the files of DIR anew, and its manifest"
    )
    parser.set_defaults(run=_command)


def _check(folder: Path) -> int:
    wrong = manifest.check(folder)
    for line in wrong:
        print(line)
    print(f"{len(wrong)} wrong" if wrong else f"{folder} is as its manifest says")
    return 1 if wrong else 0


def _repack(folder: Path) -> int:
    packed = manifest.repack(folder)
    for name, before, after in packed:
        print(f"{name:44} {before:8} -> {after:8} bytes")
    before, after = (sum(sizes) for sizes in list(zip(*packed, strict=True))[1:])
    print(f"{len(packed)} incidents, {before} -> {after} bytes")
    return 0


def _command(args: Any) -> int:
    if args.check is not None:
        return _check(args.check)
    if args.repack is not None:
        return _repack(args.repack)
    scripts = load()
    chosen = [
        script
        for script in scripts.values()
        if (not args.ids or {script.id, script.family} & set(args.ids))
        and script.split in (args.split or SPLITS)
    ]
    todo = [
        drawn
        for drawn in wanted(chosen, args.out, seeds=args.seed)
        if drawn.dialect in (args.dialect or DIALECTS)
    ]
    if args.list or not todo:
        for drawn in todo:
            print(f"{drawn.name:44} {drawn.script.split:12} {drawn.dialect:15} {drawn.values}")
        print(f"{len(todo)} to make of {len(chosen)} scripts")
        if chosen and not args.list:
            manifest.write(args.out)
        return 0 if chosen else 2
    try:
        outcomes = record(todo, args.out, args.lab, args.stacks)
    finally:
        manifest.write(args.out)
    failed = [outcome for outcome in outcomes if outcome.error]
    print(f"{len(outcomes) - len(failed)} made, {len(failed)} failed, of {len(todo)}")
    return 1 if failed or len(outcomes) < len(todo) else 0

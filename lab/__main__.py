"""The lab's command line: ``python -m lab install | up | down | status | corpus | score |
capacity``.

Exit codes: 0 done, 1 a part does not run or cannot be had, 2 wrong use.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import capacity, score
from lab.incidents import corpus
from lab.install import PARTS, Artifact, install
from lab.kubernetes import CRASH_LOOP_SECONDS
from lab.processes import LabError
from lab.stack import DEFAULT_FOLDER, Row, Stack

MEGABYTE = 1_000_000


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    top = argparse.ArgumentParser(prog="python -m lab", description="lagkit's lab: real servers.")
    commands = top.add_subparsers(dest="command", required=True)
    get = commands.add_parser("install", help="get the servers into the cache, start nothing")
    get.add_argument("part", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="state, logs and data")
    up = commands.add_parser("up", parents=[folder], help="start everything")
    up.add_argument("--nodes", type=int, default=1, choices=(1, 3), help="Kafka brokers")
    up.add_argument(
        "--crash-loop-seconds", type=int, default=CRASH_LOOP_SECONDS, metavar="S",
        help="longest pause between two starts of a crashing container (%(default)s)",
    )  # fmt: skip
    commands.add_parser("down", parents=[folder], help="stop what `up` started")
    commands.add_parser("status", parents=[folder], help="what runs, where, since which log")
    corpus.add_cli(commands)
    score.add_cli(commands)
    capacity.add_cli(commands)
    return top


def table(rows: Sequence[Row]) -> str:
    """Return the status as aligned text."""
    cells = [("part", "state", "endpoint", "pid", "MB", "log")]
    for row in rows:
        size = "" if row.resident is None else f"{row.resident / MEGABYTE:.0f}"
        pid = "" if row.pid is None else str(row.pid)
        cells.append((row.part, row.state, row.endpoint, pid, size, row.log))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def run(arguments: argparse.Namespace) -> int:
    """Do one command and return its exit code."""
    if arguments.command in ("capacity", "corpus", "score"):
        return int(arguments.run(arguments))
    if arguments.command == "install":
        results = install(arguments.part or None)
        for part, result in results.items():
            if isinstance(result, Artifact):
                print(f"{part:<11} {'built' if result.built else 'there'}  {result.folder}")
            else:
                print(f"{part:<11} missing  {result.reason}. To do: {result.hint}")
        return 0 if all(isinstance(result, Artifact) for result in results.values()) else 1
    if arguments.command == "up":
        stack = Stack(
            arguments.folder,
            arguments.nodes,
            crash_loop_seconds=arguments.crash_loop_seconds,
        ).start()
        print(f"The lab runs in {stack.folder} (started in {stack.start_seconds:.0f} s).")
        for reason in stack.missing.values():
            print(f"Missing: {reason.part}: {reason.reason}. To do: {reason.hint}")
        for name, value in stack.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        return 0
    stack = Stack(arguments.folder)
    if arguments.command == "down":
        count = len(stack.ledger.processes)
        stack.stop()
        print(f"Stopped {count} processes of {stack.folder}; logs and data are still there.")
        return 0
    rows = stack.status()
    if not rows:
        print(f"No lab runs in {stack.folder}. Start one: python -m lab up")
        return 1
    print(table(rows))
    return 0 if all(row.state == "running" for row in rows) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = parser().parse_args(argv)
    # SIGTERM unwinds like Ctrl-C: a build or a half-started lab does not stay behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        return run(arguments)
    except (LabError, ValueError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

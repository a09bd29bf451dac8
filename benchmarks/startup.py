"""`lagkit --help` and `import lagkit` beside a bare interpreter: each a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import harness

MOST_SECONDS_MORE = 0.3
CANDIDATES = {
    "python -c pass": ["-c", "pass"],
    "import lagkit": ["-c", "import lagkit"],
    "lagkit --help": ["-m", "lagkit", "--help"],
}


def _process(arguments: list[str]) -> Callable[[], object]:
    def run() -> object:
        return subprocess.run(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            check=True,
            cwd=Path(__file__).parent.parent,
        )

    return run


def measure(*, rounds: int, quick: bool = False) -> harness.Row:
    """Return the row; *quick* changes nothing, a round takes a fifth of a second."""
    del quick
    seconds = harness.paired(
        {name: _process(arguments) for name, arguments in CANDIDATES.items()},
        rounds=rounds,
        clock=harness.cpu_seconds,
    )
    bare = seconds["python -c pass"]
    return harness.Row(
        work="A fresh process: start, import, print the help, end.",
        seconds=seconds,
        clock="CPU",
        claims=[
            harness.Claim(
                f"{name}, more than bare python",
                harness.difference(seconds[name], bare),
                MOST_SECONDS_MORE,
                unit="s",
            )
            for name in ("import lagkit", "lagkit --help")
        ],
    )

"""``python -m benchmarks [ROW…]``: measure, print one table, keep it in ``benchmarks/results/``."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks import harness

ROUNDS = 5


def rows() -> list[str]:
    """Return the names of the rows: every module of this package that measures something."""
    names = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in names if name not in ("harness", "__main__"))


def measured(name: str, *, rounds: int, quick: bool) -> dict[str, Any]:
    """Return the document of the row *name*; one that cannot be measured says why."""
    measure = importlib.import_module(f"benchmarks.{name}").measure
    options = {"quick": quick} if "quick" in inspect.signature(measure).parameters else {}
    try:
        return harness.document(name, measure(rounds=rounds, **options), rounds=rounds)
    except harness.Missing as why:
        return harness.missing(name, why, rounds=rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the rows asked for; 1 if one failed, 0 otherwise, goals met or not."""
    known = rows()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(known)}; all")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--quick", action="store_true", help="smallest sizes, one round; nothing is kept"
    )
    parser.add_argument("--results", type=Path, help="folder of the results")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.rows) - set(known))
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there is {', '.join(known)}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    rounds = 1 if options.quick else options.rounds
    # A quick run shows that the rows work; its figures are of no use to anyone.
    folder = options.results or (None if options.quick else harness.RESULTS)
    written, failed = [], 0
    for name in options.rows or known:
        began = time.monotonic()
        try:
            document = measured(name, rounds=rounds, quick=options.quick)
        except Exception:  # noqa: BLE001 - the other rows are still worth having
            traceback.print_exc()
            print(f"{name}: failed", file=sys.stderr)
            failed = 1
            continue
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        written.append(document)
        if folder is not None:
            harness.save(folder, document)
    print(harness.table(written))
    return failed


if __name__ == "__main__":
    sys.exit(main())

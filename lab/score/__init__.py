"""Score lagkit and the baselines on a labelled corpus: ``python -m lab score --corpus DIR``.

``metrics`` knows the numbers, ``cases`` the incidents and how to spoil them, ``baselines`` what
else one could believe, ``board`` puts them side by side.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SPLITS = ("dev", "calibration", "test")


def add_cli(subparsers: Any) -> None:
    """Add the ``score`` command to a command line; its ``run`` takes the parsed arguments."""
    parser = subparsers.add_parser("score", help="score lagkit on a corpus")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the incidents")
    parser.add_argument("--split", choices=SPLITS, action="append", help="(repeatable; all)")
    parser.add_argument("--json", action="store_true", help="numbers instead of tables")
    parser.add_argument("--misses", action="store_true", help="name what went wrong; not of test")
    parser.set_defaults(run=_command)


def _command(args: Any) -> int:
    from lab.score import board
    from lab.score.cases import load

    told: dict[str, Any] = {}
    everything = load(args.corpus)
    for split in args.split or SPLITS:
        cases = [case for case in everything if case.split == split]
        if not cases:
            continue
        print(f"{split}: {len(cases)} incidents", file=sys.stderr, flush=True)
        given = board.answers(cases)
        table = {name: board.score(cases, said) for name, said in given.items()}
        if args.json:
            told[split] = {
                name: {key: _plain(value) for key, value in row.items()}
                for name, row in table.items()
            }
            continue
        print(f"\n## {split}: {len(cases)} incidents\n\n{board.render(table)}\n")
        own = given[board.LAGKIT]
        for title, key in (
            ("cause", lambda case: case.primary),
            ("exporter", lambda case: str(case.label["dialect"])),
        ):
            print(f"| {title} | named right |\n|---|---|")
            for name, share in board.rows_by(cases, own, key).items():
                print(f"| {name} | {share} |")
            print()
        if args.misses and split != "test":
            for case, answer in zip(cases, own, strict=True):
                if not board.is_right(case, answer):
                    print(f"{case.name}: {answer.named} ({answer.said:.2f})")
    if args.json:
        print(json.dumps(told, indent=1, sort_keys=True))
    return 0


def _plain(value: Any) -> Any:
    """Return a number of the score as JSON."""
    if hasattr(value, "hits"):
        return {"value": value.value, "hits": value.hits, "of": value.of, "ci95": value.interval}
    return value

"""Score lagkit and the baselines on a labelled corpus: ``python -m lab score --corpus DIR``.

``metrics`` knows the numbers, ``cases`` the incidents, which labels may be read and how to spoil an
incident, ``baselines``, ``baro`` and ``logistic`` what else one could believe, ``board`` puts them
side by side, ``page`` shows them; ``evidence`` counts what was seen in them, ``sharpness`` tells
what lagkit's exponents were chosen by.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

SPLITS = ("dev", "calibration", "test")
OPEN_SPLITS = ("dev", "calibration")
"""What is scored when no split is asked for: the test split is read by whoever names it."""
CORPUS = Path(__file__).resolve().parents[2] / "corpus"


def add_cli(subparsers: Any) -> None:
    """Add the ``score`` command to a command line; its ``run`` takes the parsed arguments."""
    parser = subparsers.add_parser("score", help="score lagkit on a corpus")
    parser.add_argument(
        "--corpus", type=Path, default=CORPUS, help="of the incidents (%(default)s)"
    )
    parser.add_argument(
        "--split", choices=SPLITS, action="append", help="repeatable (dev and calibration)"
    )
    parser.add_argument("--json", action="store_true", help="numbers instead of tables")
    parser.add_argument("--misses", action="store_true", help="name what went wrong; not of test")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into a page")
    parser.add_argument(
        "--evidence",
        type=Path,
        metavar="PAGE",
        help="instead: put how often each kind of evidence was seen into a page",
    )
    parser.add_argument(
        "--sharpness",
        action="store_true",
        help="instead: what each exponent on the evidence would cost on the calibration split",
    )
    parser.add_argument(
        "--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes (%(default)s)"
    )
    parser.set_defaults(run=_command)


def _command(args: Any) -> int:
    from lab.processes import LabError
    from lab.score import board, page
    from lab.score.cases import load

    if args.evidence:
        return _evidence(args)
    if args.sharpness:
        return _sharpness(args)
    splits = tuple(split for split in SPLITS if split in (args.split or OPEN_SPLITS))
    if args.misses and "test" in splits:
        raise LabError("what goes wrong on the test split is not told: leave out --misses")
    # dev is needed in any case: the logistic regression learns from it
    everything = load(args.corpus, {*splits, "dev"})
    dev = [case for case in everything if case.split == "dev"]
    boards = []
    for split in splits:
        cases = [case for case in everything if case.split == split]
        if not cases:
            print(f"{split}: no incident", file=sys.stderr)
            continue
        print(f"{split}: {len(cases)} incidents", file=sys.stderr, flush=True)
        boards.append(page.board(split, cases, board.answers(cases, dev, args.workers)))
    if not boards:
        raise LabError(f"{args.corpus} holds no incident of {', '.join(splits)}")
    if args.json:
        told = {one.split: page.plain(one) for one in boards}
        print(json.dumps(told, indent=1, sort_keys=True, allow_nan=False))
    else:
        print(page.markdown(boards))
    if args.misses:
        for one in boards:
            print("\n".join(page.misses(one, board.is_right)), file=sys.stderr)
    if args.write:
        page.write(args.write, boards, about(args.corpus, splits))
    return 0


def _evidence(args: Any) -> int:
    from lab.score import evidence
    from lab.score.cases import load

    cases = load(args.corpus, OPEN_SPLITS)
    print(f"{len(cases)} incidents of {' and '.join(OPEN_SPLITS)}", file=sys.stderr, flush=True)
    evidence.write(args.evidence, cases, evidence.outcomes(cases, args.workers))
    return 0


def _sharpness(args: Any) -> int:
    from lab.score import sharpness
    from lab.score.cases import load

    cases = load(args.corpus, {"calibration"})
    print(f"{len(cases)} incidents of calibration", file=sys.stderr, flush=True)
    print("\n".join(sharpness.table(cases, sharpness.judged(cases, args.workers))))
    return 0


def about(corpus: Path, splits: tuple[str, ...]) -> str:
    """Return by what the tables were made: the command, the version, the corpus's hash."""
    import hashlib

    from lab.incidents.manifest import FILE as MANIFEST
    from lagkit.version import __version__

    wanted = " ".join(f"--split {split}" for split in splits)
    manifest, of = corpus / MANIFEST, "a corpus without a manifest"
    if manifest.is_file():
        of = f"manifest.json with SHA-256 `{hashlib.sha256(manifest.read_bytes()).hexdigest()}`"
    return f"`python -m lab score {wanted} --write docs/score.md`, lagkit {__version__}, {of}."

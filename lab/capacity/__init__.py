"""Generated histories with a known date, and what they show: ``python -m lab capacity …``.

``histories`` makes weeks from a seed, ``coverage`` scores the printed ranges on many of them,
``recording`` writes the demo's weeks into a real Prometheus and reads them back, ``drain`` stops
consumers on the real broker and compares the time to catch up with what was predicted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"


def add_cli(subparsers: Any) -> None:
    """Add the ``capacity`` command to a command line; its ``run`` takes the parsed arguments."""
    parser = subparsers.add_parser("capacity", help="coverage of the dates, the demo, the drain")
    parser.add_argument("what", choices=("coverage", "record", "drain"))
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    parser.add_argument(
        "--development", action="store_true", help="coverage: the seeds the rules were made on"
    )
    parser.add_argument("--misses", action="store_true", help="coverage: name what went wrong")
    parser.set_defaults(run=run)


def run(arguments: Any) -> int:
    """Do one of them."""
    page = PAGE if arguments.write else None
    if arguments.what == "coverage":
        from lab.capacity import coverage

        return coverage.main(development=arguments.development, page=page, misses=arguments.misses)
    if arguments.what == "record":
        from lab.capacity import recording

        history = recording.record()
        print(f"{recording.DEMO_FILE}: {history!r}; the target is passed on "
              f"{recording.demo_date():%Y-%m-%d}")  # fmt: skip
        return 0
    from lab.capacity import drain

    return drain.main(page)

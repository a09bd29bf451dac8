"""How a measurement is taken, judged and written down; knows no row's subject.

A row of the table is a module of this package with ``measure(*, rounds, quick) -> Row``. Peer,
floor and lagkit run in the same process, round by round in turn, so that a machine that is slow
for a while is slow for all of them: the ratio of one round is believed, a lone number of seconds
is not. A ratio is the median over the rounds, with the lowest and highest beside it.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SCHEMA = "lagkit.benchmark/1"
# What the rows measure against or run on.
PACKAGES = (
    "click",
    "confluent-kafka",
    "numpy",
    "orjson",
    "pandas",
    "papermill",
    "prometheus-api-client",
    "pyarrow",
)
MIB = 1024 * 1024

Clock = Callable[[], float]
wall_seconds: Clock = time.perf_counter


def cpu_seconds() -> float:
    """Return CPU seconds of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


class Missing(Exception):
    """A server or a peer that the row needs is not here; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One quantity divided by another, round by round."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A goal and what was measured; ``at_least``: the limit is the smallest ratio that will do."""

    text: str
    ratio: Ratio
    limit: float
    at_least: bool = False
    unit: str = "×"

    @property
    def met(self) -> bool:
        """Whether the median keeps the limit."""
        if self.at_least:
            return self.ratio.median >= self.limit
        return self.ratio.median <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    ``seconds`` holds the rounds of each candidate, in the order of the rounds; ``clock`` says what
    kind of seconds. ``peak_bytes`` is memory above that of the prepared process.
    """

    work: str
    seconds: Mapping[str, Sequence[float]]
    claims: Sequence[Claim]
    clock: str = "wall"
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def paired(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    clock: Clock = wall_seconds,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Time each candidate once a round, in turn; the order turns by one with every round.

    One untimed round comes first unless *warm_up* is False: first imports and caches are nobody's
    work. A candidate that returns a float has timed its part itself.
    """
    names = list(candidates)
    if warm_up:
        for name in names:
            candidates[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            began = clock()
            part = candidates[name]()
            whole = clock() - began
            seconds[name].append(part if isinstance(part, float) else whole)
    return seconds


def ratio(of: Sequence[float], to: Sequence[float]) -> Ratio:
    """Return *of* / *to* round by round."""
    each = [a / b for a, b in zip(of, to, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def difference(of: Sequence[float], to: Sequence[float]) -> Ratio:
    """Return *of* - *to* round by round, for goals in seconds more (``unit='s'``)."""
    each = [a - b for a, b in zip(of, to, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def single(value: float) -> Ratio:
    """Return a ratio measured once, e.g. of two peaks of memory."""
    return Ratio(value, value, value)


def fastest(seconds: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """Return the one of *names* with the smallest median."""
    return min(names, key=lambda name: statistics.median(seconds[name]))


# ── memory ──────────────────────────────────────────────────────────────────────────────────────


def peak_bytes(target: str, *arguments: Any) -> int:
    """Return the peak memory of ``module:function`` in a fresh process, in bytes.

    The function is called with *arguments* (what JSON can hold), prepares, and returns a callable;
    what that one adds to the resident memory at its highest is the result.

    Raises
    ------
    RuntimeError
        The process failed; its last lines are in the text.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness", target, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    if done.returncode:
        msg = f"{target} failed in its own process: {done.stderr.strip()[-2000:]}"
        raise RuntimeError(msg)
    return int(done.stdout.splitlines()[-1])


def _print_peak(target: str, arguments: Sequence[Any]) -> None:
    module, _, name = target.partition(":")
    work = getattr(importlib.import_module(module), name)(*arguments)
    gc.collect()
    before = _resident(reset=True)
    work()
    print(_resident(reset=False) - before)


def _resident(*, reset: bool) -> int:
    """Return the highest resident size in bytes, since the last reset where that can be had."""
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux: since the start of the process, bytes on macOS
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if reset:
        # ru_maxrss would also count the parent before exec; this is the process alone.
        Path("/proc/self/clear_refs").write_text("5")
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    msg = "no VmHWM in /proc/self/status"
    raise RuntimeError(msg)


# ── the table ───────────────────────────────────────────────────────────────────────────────────


def machine() -> dict[str, Any]:
    """Return what a reader needs to compare: cores, memory, versions, day; no name, no path."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 1024**3),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "packages": versions,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def document(name: str, row: Row, *, rounds: int) -> dict[str, Any]:
    """Return *row* as it is written to ``results/NAME.json``."""
    return {
        "schema": SCHEMA,
        "row": name,
        "work": row.work,
        "rounds": rounds,
        "clock": row.clock,
        "seconds": {who: [round(s, 6) for s in each] for who, each in row.seconds.items()},
        "median_seconds": {
            who: round(statistics.median(each), 6) for who, each in row.seconds.items() if each
        },
        "peak_bytes": dict(row.peak_bytes),
        "claims": [_rounded(asdict(claim)) | {"met": claim.met} for claim in row.claims],
        "notes": list(row.notes),
        "machine": machine(),
    }


def missing(name: str, why: Missing, *, rounds: int) -> dict[str, Any]:
    """Return the document of a row that could not be measured."""
    return {
        "schema": SCHEMA,
        "row": name,
        "work": "",
        "rounds": rounds,
        "missing": str(why),
        "claims": [],
        "machine": machine(),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def save(folder: Path, written: Mapping[str, Any]) -> None:
    """Write one row's document into *folder*, and the table of all that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(written, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / f"{written['row']}.json").write_text(text, encoding="utf-8")
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    (folder / "table.md").write_text(table(rows), encoding="utf-8")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as Markdown: one line a claim, then medians, memory and machine."""
    lines = [
        "# Benchmarks",
        "",
        (
            "Written by `python -m benchmarks`. A ratio is the median of the rounds, with the "
            "lowest and highest."
        ),
        "",
        "| row | claim | goal | measured | lowest to highest | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if "missing" in row:
            lines.append(f"| {row['row']} | not measured: {row['missing']} | | | | |")
        lines += [
            f"| {row['row']} | {' | '.join(_claim_cells(claim))} |" for claim in row["claims"]
        ]
    for row in rows:
        if "missing" not in row:
            lines += _details(row)
    return "\n".join(lines) + "\n"


def _claim_cells(claim: Mapping[str, Any]) -> list[str]:
    found, unit = claim["ratio"], claim["unit"]
    sign = "≥" if claim["at_least"] else "≤"
    return [
        claim["text"],
        f"{sign} {claim['limit']:g} {unit}",
        f"{found['median']:.2f} {unit}",
        f"{found['low']:.2f} to {found['high']:.2f}",
        "yes" if claim["met"] else "**no**",
    ]


def _details(row: Mapping[str, Any]) -> list[str]:
    lines = ["", f"## {row['row']}", "", row["work"], ""]
    if row["seconds"]:
        lines += [
            f"| candidate | {row['clock']} seconds, median | lowest to highest | peak memory |",
            "| --- | --- | --- | --- |",
        ]
    for who in sorted({*row["seconds"], *row["peak_bytes"]}):
        each = row["seconds"].get(who)
        peak = row["peak_bytes"].get(who)
        lines.append(
            f"| {who} | "
            + (
                f"{statistics.median(each):.3f} | {min(each):.3f} to {max(each):.3f}"
                if each
                else "|"
            )
            + f" | {f'{peak / MIB:.0f} MiB' if peak is not None else ''} |"
        )
    lines += ["", *(f"- {note}" for note in row["notes"])]
    had = row["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(had["packages"].items()))
    lines.append(
        f"- {row['rounds']} rounds on {had['date']}: {had['cores']} cores, "
        f"{had['memory_gib']} GiB, {had['system']} {had['architecture']}, "
        f"Python {had['python']}, {versions}"
    )
    return lines


if __name__ == "__main__":
    _print_peak(sys.argv[1], json.loads(sys.argv[2]))

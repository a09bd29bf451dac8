"""How often each kind of evidence was seen: the counts beside the levels of ``lagkit.evidence``.

Of dev and calibration alone. The levels are set by hand, with the reason beside each; the counts
say whether they hold. A kind was seen *anyway* in an incident of which no active cause expects it.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import lagkit as lk
from lab.processes import LabError
from lab.score.cases import Case
from lab.score.metrics import Share
from lagkit.disk import write_whole
from lagkit.evidence import EVIDENCE, LEVELS

EXPECTED = frozenset({"++", "*", "+", "o"})
BEGIN = "<!-- evidence: written by `python -m lab score --evidence`, do not edit -->"
END = "<!-- evidence: end -->"


def outcomes(cases: Sequence[Case], workers: int) -> list[dict[str, str]]:
    """Return what was made of each kind in each of *cases*: present, absent or not_checked."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        return list(pool.map(_outcomes, cases, chunksize=4))


def _outcomes(case: Case) -> dict[str, str]:
    return {check.kind: check.outcome for check in lk.investigate(case.incident).verdict.checks}


def rows(cases: Sequence[Case], found: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, ...]]:
    """Yield a row a kind: id, rate of distractors with its count, causes with theirs, reason."""
    for kind in EVIDENCE:
        looked = [
            (case, seen[kind.id] == "present")
            for case, seen in zip(cases, found, strict=True)
            if seen.get(kind.id, "not_checked") != "not_checked"
        ]
        anyway = _count(
            seen
            for case, seen in looked
            if not any(kind.level(cause) in EXPECTED for cause in case.active)
        )
        by_cause = [
            f"{cause} `{level}` {_told(_of(looked, cause), LEVELS[level])}"
            for cause, level in sorted(kind.levels.items(), key=lambda item: -LEVELS[item[1]])
            if level in EXPECTED
        ]
        yield (
            f"`{kind.id}`",
            f"{kind.seen_anyway:g} {_told(anyway, kind.seen_anyway)}",
            "; ".join(by_cause) or "none",
            kind.reason,
        )


def _of(looked: Sequence[tuple[Case, bool]], cause: str) -> Share:
    return _count(seen for case, seen in looked if case.primary == cause)


def _count(seen: Iterator[bool]) -> Share:
    every = list(seen)
    return Share(sum(every), len(every))


def _told(share: Share, probability: float) -> str:
    """Show the count, bold where its 95 % interval leaves *probability* out."""
    if not share.of:
        return "(not met)"
    low, high = share.wilson
    bold = "" if low <= probability <= high else "**"
    return f"({bold}{share.hits}/{share.of}{bold})"


def write(page: Path, cases: Sequence[Case], found: Sequence[Mapping[str, str]]) -> None:
    """Put the table between the marks of *page*; the rest of it stays.

    Raises:
        LabError: the page has not the two marks.
    """
    text = page.read_text(encoding="utf-8")
    lines = ["| kind | seen anyway | expected of | why |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows(cases, found)]
    made = f"{BEGIN}\n\n{len(cases)} incidents of dev and calibration.\n\n" + "\n".join(lines)
    changed, times = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{made}\n\n{END}",
        text,
        flags=re.DOTALL,
    )
    if times != 1:
        raise LabError(f"{page} has not the two marks between which the table belongs")
    write_whole(page, changed.encode())

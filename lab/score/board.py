"""The score: lagkit and the baselines on the same labelled incidents, side by side.

Only this module reads the labels of the test split, and it prints totals: which test incident went
wrong is told when asked for by name, never by default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

import lagkit as lk
from lab.score import metrics
from lab.score.baselines import BASELINES, CLASSES, Distribution, see
from lab.score.cases import DEGRADED, Case

CORE = CLASSES[:-1]
LAGKIT = "lagkit"
BLAMES_FROM = 0.5
COVERAGE = 0.9


@dataclass(frozen=True)
class Answer:
    """What one contestant said of one incident."""

    distribution: Distribution
    """Over the seven causes and unknown, which holds the rest."""
    named: str
    """What it would tell the engineer: any cause id, unknown or none."""
    said: float
    active: frozenset[str] = frozenset()
    cited: frozenset[str] = frozenset()
    onset_error_seconds: float | None = None
    step_seconds: float = float("nan")
    seconds: float = 0.0


def ask_lagkit(case: Case, incident: lk.Incident) -> Answer:
    """Return lagkit's verdict on *incident*, which is the case's or a spoiled copy of it."""
    began = time.perf_counter()
    result = lk.investigate(incident)
    seconds = time.perf_counter() - began
    verdict = result.verdict
    own = {entry.cause: entry.probability for entry in verdict.ranking if entry.cause in CORE}
    distribution = {**dict.fromkeys(CORE, 0.0), **own}
    distribution["unknown"] = max(0.0, 1.0 - sum(own.values()))
    top = verdict.ranking[0]
    error = None
    if case.onset is not None and verdict.onset is not None:
        at = verdict.onset.at.timestamp()
        error = abs(at - case.onset.timestamp())
    return Answer(
        distribution=distribution,
        named=result.cause,
        said=verdict.verdict.likelihood,
        active=frozenset(
            entry.cause
            for entry in verdict.ranking
            if entry.role in ("primary", "contributing", "mechanism")
        ),
        cited=frozenset(line.id.partition(":")[0] for line in top.evidence_for),
        onset_error_seconds=error,
        step_seconds=result.flow.step_seconds,
        seconds=seconds,
    )


def ask_baseline(name: str, incident: lk.Incident) -> Answer:
    """Return what the baseline *name* says."""
    began = time.perf_counter()
    distribution = BASELINES[name](see(incident))
    first = max(distribution, key=lambda cause: distribution[cause])
    return Answer(distribution, first, distribution[first], seconds=time.perf_counter() - began)


def answers(cases: Sequence[Case], workers: int = 2) -> dict[str, list[Answer]]:
    """Ask everybody about every case; lagkit about the spoiled copies too.

    Returns
    -------
    By contestant, ``lagkit`` first, then ``lagkit, HOW IT WAS SPOILED``, then the baselines; each
    list in the order of *cases*.
    """
    with ProcessPoolExecutor(workers) as pool:
        rows = list(pool.map(_ask_all, cases, chunksize=4))
    return {name: [row[name] for row in rows] for name in rows[0]}


def _ask_all(case: Case) -> dict[str, Answer]:
    incident = case.incident
    found = {LAGKIT: ask_lagkit(case, incident)}
    for how, spoil in DEGRADED.items():
        found[f"{LAGKIT}, {how}"] = ask_lagkit(case, spoil(incident))
    return found | {name: ask_baseline(name, incident) for name in BASELINES}


def score(cases: Sequence[Case], given: Sequence[Answer]) -> dict[str, Any]:
    """Return every number for one contestant on *cases*; shares as ``Share``, others as floats."""
    single = _where(cases, lambda case: case.primary in CORE and len(case.active) == 1)
    chains = _where(cases, lambda case: case.primary in CORE and len(case.active) > 1)
    controls = _where(cases, lambda case: case.primary not in CORE)
    table = np.array([[a.distribution[cause] for cause in CLASSES] for a in given])
    folded = np.array(
        [CLASSES.index(c.primary) if c.primary in CORE else len(CORE) for c in cases], dtype=np.intp
    )
    right = np.array([is_right(c, a) for c, a in zip(cases, given, strict=True)], dtype=bool)
    said = np.array([answer.said for answer in given])
    among_causes = table[:, : len(CORE)]
    grounded = [right[i] and bool(given[i].cited & set(cases[i].label["evidence"])) for i in single]
    errors = [
        a.onset_error_seconds / a.step_seconds
        for a in given
        if a.onset_error_seconds is not None and a.step_seconds > 0
    ]
    return {
        "ac@1": metrics.accuracy_at(1, among_causes[single], folded[single]),
        "ac@3": metrics.accuracy_at(3, among_causes[single], folded[single]),
        "avg@5": metrics.average_at(5, among_causes[single], folded[single]),
        "mrr": metrics.reciprocal_rank(among_causes[single], folded[single]),
        "named right": metrics.Share(int(right[single].sum()), len(single)),
        "ac@1 on cascades": metrics.accuracy_at(1, among_causes[chains], folded[chains]),
        "exact active set": metrics.Share(
            sum(given[i].active == cases[i].active for i in chains), len(chains)
        ),
        "grounded": metrics.Share(sum(grounded), len(single)),
        "brier": metrics.brier(table, folded),
        "log_loss": metrics.log_loss(table, folded),
        "ece": metrics.calibration_error(said, right),
        "ece interval": metrics.calibration_interval(said, right),
        "false blame": metrics.Share(
            sum(float(among_causes[i].max()) > BLAMES_FROM for i in controls), len(controls)
        ),
        "risk at 90 %": metrics.selective_risk(said, right, COVERAGE),
        "onset error, median steps": float(np.median(errors)) if errors else float("nan"),
        "seconds": float(np.median([answer.seconds for answer in given])),
    }


def is_right(case: Case, answer: Answer) -> bool:
    """Whether what was named is the primary cause; for a control, that nothing was blamed."""
    if case.primary in ("none", "unknown"):
        return answer.named in ("none", "unknown")
    return answer.named == case.primary


def _where(cases: Sequence[Case], wanted: Callable[[Case], bool]) -> list[int]:
    return [number for number, case in enumerate(cases) if wanted(case)]


def rows_by(
    cases: Sequence[Case], given: Sequence[Answer], key: Callable[[Case], str]
) -> dict[str, metrics.Share]:
    """Return the share of right names for each value of *key*."""
    groups: dict[str, list[bool]] = {}
    for case, answer in zip(cases, given, strict=True):
        groups.setdefault(key(case), []).append(is_right(case, answer))
    return {name: metrics.Share(sum(hits), len(hits)) for name, hits in sorted(groups.items())}


def render(board: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the score as a Markdown table: one row a contestant, chance first."""
    columns = list(next(iter(board.values())))
    guess = metrics.chance(len(CORE))
    whole = metrics.chance(len(CLASSES))
    guess |= {name: whole[name] for name in ("brier", "log_loss")}
    lines = [
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        "| *chance* | "
        + " | ".join(f"{guess[name]:.3f}" if name in guess else "" for name in columns)
        + " |",
    ]
    for name, row in board.items():
        lines.append(f"| {name} | " + " | ".join(_cell(row[column]) for column in columns) + " |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return "-".join(f"{number:.3f}" for number in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)

"""The score: lagkit and the baselines on the same labelled incidents, side by side.

Asks everybody about every incident once and lagkit about every spoiled copy too; then computes.
Nothing is kept between two runs. How the numbers are shown is ``lab.score.page``.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

import lagkit as lk
from lab.score import metrics
from lab.score.baro import BARO, baro
from lab.score.baselines import BASELINES, CLASSES, CORE, Distribution, see
from lab.score.cases import DEGRADED, Case
from lab.score.logistic import LOGISTIC, Example, judge
from lab.score.metrics import Estimate, Share
from lagkit.causes import NONE, UNKNOWN

LAGKIT = "lagkit"
NO_CAUSE = (NONE, UNKNOWN)
BLAMES_FROM = 0.5
COVERAGE = 0.9
ORDER_STEPS = 2
"""Scrape steps by which a time may be out without its order being wrong."""
PROGRESS_EVERY = 10


@dataclass(frozen=True)
class Answer:
    """What one contestant said of one incident."""

    probabilities: Distribution
    """By cause, extended ones, unknown and none among them; sums to 1."""
    named: str
    """What it would tell the engineer: any cause, unknown or none."""
    said: float
    """How sure of it."""
    active: frozenset[str] = frozenset()
    cited: Mapping[str, pd.Timestamp | None] = field(default_factory=dict)
    """Evidence kinds cited for what was named, and when the earliest of each began."""
    onset: pd.Timestamp | None = None
    onset_latest: pd.Timestamp | None = None
    step_seconds: float = float("nan")
    seconds: float = 0.0
    """Of processor time: on a busy machine the clock on the wall measures the others."""
    outcomes: Mapping[str, str] = field(default_factory=dict)

    @property
    def folded(self) -> list[float]:
        """The probabilities over the seven causes and unknown, which holds the rest."""
        own = [self.probabilities.get(cause, 0.0) for cause in CORE]
        return [*own, max(0.0, 1.0 - sum(own))]

    def blames(self, besides: str = "") -> bool:
        """Tell whether a cause, any but *besides*, is held for more likely than not."""
        return any(
            probability > BLAMES_FROM
            for cause, probability in self.probabilities.items()
            if cause not in (*NO_CAUSE, besides)
        )


def from_distribution(told: Distribution) -> Answer:
    """Return the answer of a contestant that gives probabilities and nothing else."""
    first = max(told, key=lambda cause: told[cause])
    return Answer(told, first, told[first], active=frozenset({first}))


# -- asking -----------------------------------------------------------------------------------


def ask_lagkit(incident: lk.Incident) -> tuple[Answer, lk.Result]:
    """Return lagkit's verdict on *incident*."""
    began = time.process_time()
    result = lk.investigate(incident)
    seconds = time.process_time() - began
    verdict = result.verdict
    begins = {finding.id: finding.onset for finding in verdict.findings}
    cited: dict[str, pd.Timestamp | None] = {}
    for line in verdict.ranking[0].evidence_for:
        kind, at = line.id.partition(":")[0], begins.get(line.id)
        known = [moment for moment in (cited.get(kind), at) if moment is not None]
        cited[kind] = pd.Timestamp(min(known)) if known else None
    onset = verdict.onset
    answer = Answer(
        probabilities={entry.cause: entry.probability for entry in verdict.ranking},
        named=result.cause,
        said=verdict.verdict.likelihood,
        active=frozenset(
            entry.cause
            for entry in verdict.ranking
            if entry.role in ("primary", "contributing", "mechanism")
        ),
        cited=cited,
        onset=None if onset is None else pd.Timestamp(onset.at),
        onset_latest=None if onset is None else pd.Timestamp(onset.latest),
        step_seconds=result.flow.step_seconds,
        seconds=seconds,
        outcomes={check.kind: check.outcome for check in verdict.checks},
    )
    return answer, result


def answers(
    cases: Sequence[Case], learned_from: Sequence[Case] = (), workers: int = 2
) -> dict[str, list[Answer]]:
    """Ask everybody about every case, lagkit about the spoiled copies too.

    Parameters
    ----------
    cases
        Whose answers are returned.
    learned_from
        The cases of dev, from which the logistic regression learns.

    Returns
    -------
    By contestant, ``lagkit`` first, then ``lagkit, HOW IT WAS SPOILED``, then the baselines; each
    list in the order of *cases*.
    """
    asked_for = {case.name for case in cases}
    told = [*cases, *(case for case in learned_from if case.name not in asked_for)]
    spoil = [True] * len(cases) + [False] * (len(told) - len(cases))
    rows = list(_with_progress(_asked(told, spoil, workers), len(told)))
    # incidents that were only learned from were not asked about
    first = dict(zip((case.name for case in told), (row[LAGKIT] for row in rows), strict=True))
    examples = [
        Example(case.script, first[case.name].outcomes, folded(case)) for case in learned_from
    ]
    for case, row in zip(cases, rows, strict=False):
        row[LOGISTIC] = from_distribution(judge(case.script, row[LAGKIT].outcomes, examples))
    asked = rows[: len(cases)]
    return {name: [row[name] for row in asked] for name in asked[0]} if asked else {}


def _asked(
    told: Sequence[Case], spoil: Sequence[bool], workers: int
) -> Iterator[dict[str, Answer]]:
    if workers == 1:
        _warm_up()
        yield from map(_ask_all, told, spoil)
        return
    # spawned, not forked: threads of pyarrow do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_warm_up) as pool:
        yield from pool.map(_ask_all, told, spoil)


def _warm_up() -> None:
    """Import what the first incident would otherwise be charged for."""
    lk.investigate(lk.demo())


def _ask_all(case: Case, spoiled: bool) -> dict[str, Answer]:
    began = time.process_time()
    incident = case.incident
    opening = time.process_time() - began
    own, result = ask_lagkit(incident)
    found = {LAGKIT: dataclasses.replace(own, seconds=opening + own.seconds)}
    if not spoiled:
        return found
    for how, spoil in DEGRADED.items():
        found[degraded(how)] = ask_lagkit(spoil(incident))[0]
    seen = see(result)
    for name, believes in BASELINES.items():
        found[name] = from_distribution(believes(seen))
    found[BARO] = from_distribution(baro(result))
    return found


def degraded(how: str) -> str:
    """Return what lagkit on a spoiled copy is called."""
    return f"{LAGKIT}, {how}"


def _with_progress(rows: Iterable[dict[str, Answer]], total: int) -> Iterable[dict[str, Answer]]:
    began = time.monotonic()
    for number, row in enumerate(rows, start=1):
        if number % PROGRESS_EVERY == 0 or number == total:
            minutes = (time.monotonic() - began) / 60
            print(f"  {number} of {total}, {minutes:.1f} min", file=sys.stderr, flush=True)
        yield row


# -- scoring ----------------------------------------------------------------------------------


def folded(case: Case) -> str:
    """Return the class of the truth among the seven and unknown."""
    return case.primary if case.primary in CORE else UNKNOWN


def is_right(case: Case, answer: Answer) -> bool:
    """Whether what was named is the primary cause; for a control, that nothing was blamed."""
    if case.primary in NO_CAUSE:
        return answer.named in NO_CAUSE
    return answer.named == case.primary


def is_grounded(case: Case, answer: Answer) -> bool:
    """Whether the right cause was named for a scripted reason that began in the right order.

    A cited kind counts if the label names it and the earliest of it began neither before the fault
    was injected nor after the lag was seen to grow, give or take what its kind may come late and
    two scrape steps. A finding without a time has no wrong order.
    """
    return is_right(case, answer) and any(
        _in_order(case, answer, kind, at)
        for kind, at in answer.cited.items()
        if kind in case.label["evidence"]
    )


def _in_order(case: Case, answer: Answer, kind: str, at: pd.Timestamp | None) -> bool:
    from lagkit.causes import catalogue

    if at is None or np.isnan(answer.step_seconds):
        return True
    slack = pd.Timedelta(ORDER_STEPS * answer.step_seconds, "s")
    late = pd.Timedelta(catalogue().kind(kind).delay_seconds, "s")
    begins = [pd.Timestamp(moment) for moment in case.label["onsets"].values()]
    if begins and at < min(begins) - slack:
        return False
    return answer.onset_latest is None or at <= answer.onset_latest + late + slack


@dataclass(frozen=True)
class Part:
    """The cases of a split that a number is about, with one contestant's answers."""

    cases: tuple[Case, ...]
    given: tuple[Answer, ...]

    def where(self, wanted: Callable[[Case], bool]) -> Part:
        """Return the part of it whose cases are *wanted*."""
        rows = [n for n, case in enumerate(self.cases) if wanted(case)]
        return Part(tuple(self.cases[n] for n in rows), tuple(self.given[n] for n in rows))

    @cached_property
    def scripts(self) -> metrics.Scripts:
        """Which script made which row."""
        return metrics.Scripts(tuple(case.script for case in self.cases))

    @cached_property
    def table(self) -> metrics.Matrix:
        """The folded probabilities: a row an incident, a column one of the eight classes."""
        rows = [answer.folded for answer in self.given]
        return np.array(rows, dtype="float64").reshape(len(rows), len(CLASSES))

    @cached_property
    def truth(self) -> metrics.Truth:
        """The column of the truth in each row."""
        return np.array([CLASSES.index(folded(case)) for case in self.cases], dtype=np.intp)

    @cached_property
    def right(self) -> Any:
        """Whether each answer is right."""
        pairs = zip(self.cases, self.given, strict=True)
        return np.array([is_right(case, answer) for case, answer in pairs], dtype=bool)

    @cached_property
    def said(self) -> metrics.Matrix:
        """How sure each answer is of what it names."""
        return np.array([answer.said for answer in self.given], dtype="float64")


def is_single(case: Case) -> bool:
    """Whether one of the seven causes is at work, and nothing else."""
    return case.primary in CORE and len(case.active) == 1


def is_cascade(case: Case) -> bool:
    """Whether several causes are at work and one of the seven comes first."""
    return case.primary in CORE and len(case.active) > 1


def is_control(case: Case) -> bool:
    """Whether there is nothing, or nothing that has a name, to blame."""
    return case.primary in NO_CAUSE


def is_extended(case: Case) -> bool:
    """Whether the cause is none of the seven and has a name all the same."""
    return case.primary not in (*CORE, *NO_CAUSE)


def score(cases: Sequence[Case], given: Sequence[Answer]) -> dict[str, Share | Estimate]:
    """Return every number for one contestant on *cases*."""
    whole = Part(tuple(cases), tuple(given))
    single, chains = whole.where(is_single), whole.where(is_cascade)
    controls, extended = whole.where(is_control), whole.where(is_extended)
    seven, truth = single.table[:, : len(CORE)], single.truth
    seconds = [answer.seconds for answer in given]
    return {
        "ac@1": single.scripts.share(metrics.hits_at(1, seven, truth)),
        "ac@3": single.scripts.share(metrics.hits_at(3, seven, truth)),
        "avg@5": single.scripts.mean(metrics.average_hits(5, seven, truth)),
        "mrr": single.scripts.mean(metrics.reciprocal_ranks(seven, truth)),
        "named right": whole.scripts.share(whole.right),
        "cascades ac@1": chains.scripts.share(
            metrics.hits_at(1, chains.table[:, : len(CORE)], chains.truth)
        ),
        "exact active set": chains.scripts.share(
            [a.active == c.active for c, a in zip(chains.cases, chains.given, strict=True)]
        ),
        "grounded ac@1": single.scripts.share(
            [is_grounded(c, a) for c, a in zip(single.cases, single.given, strict=True)]
        ),
        "brier": whole.scripts.mean(metrics.briers(whole.table, whole.truth)),
        "log_loss": whole.scripts.mean(metrics.log_losses(whole.table, whole.truth)),
        "ece": Estimate(
            metrics.calibration_error(whole.said, whole.right),
            whole.scripts.interval(
                lambda rows: metrics.calibration_error(whole.said[rows], whole.right[rows])
            ),
            len(whole.cases),
        ),
        "false blame": controls.scripts.share([answer.blames() for answer in controls.given]),
        "false blame, extended": extended.scripts.share(
            [a.blames(c.primary) for c, a in zip(extended.cases, extended.given, strict=True)]
        ),
        "selective risk": _selective_risk(whole),
        **_onsets(whole),
        "seconds": Estimate(float(np.median(seconds)) if seconds else float("nan")),
        "slowest": Estimate(max(seconds, default=float("nan"))),
    }


def _selective_risk(whole: Part) -> Share:
    def risk(rows: metrics.Rows) -> float:
        wrong, kept = metrics.risk_at(whole.said[rows], whole.right[rows], COVERAGE)
        return wrong / kept if kept else float("nan")

    wrong, kept = metrics.risk_at(whole.said, whole.right, COVERAGE)
    return Share(wrong, kept, whole.scripts.interval(risk))


def _onsets(whole: Part) -> dict[str, Share | Estimate]:
    """Return how often an onset was found where there is one, and how far it is from the fault."""
    faults = whole.where(lambda case: case.onset is not None)
    steps = np.array(
        [
            abs((answer.onset - case.onset).total_seconds()) / answer.step_seconds
            if answer.onset is not None and case.onset is not None and answer.step_seconds > 0
            else np.nan
            for case, answer in zip(faults.cases, faults.given, strict=True)
        ],
        dtype="float64",
    )

    def median(rows: metrics.Rows) -> float:
        known = steps[rows][np.isfinite(steps[rows])]
        return float(np.median(known)) if known.size else float("nan")

    found = np.isfinite(steps)
    everything = np.arange(len(steps), dtype=np.intp)
    return {
        "onset found": faults.scripts.share(found),
        "onset error": Estimate(
            median(everything), faults.scripts.interval(median), int(found.sum())
        ),
    }


@dataclass(frozen=True)
class Drop:
    """What a spoiled copy costs."""

    ac1: Share
    points: Estimate
    """Percentage points of AC@1 lost against the whole incident."""
    brier: Estimate


def drop(cases: Sequence[Case], given: Sequence[Answer], spoiled: Sequence[Answer]) -> Drop:
    """Compare the same single-cause incidents whole and spoiled; Brier is over all of them."""
    before = Part(tuple(cases), tuple(given)).where(is_single)
    after = Part(tuple(cases), tuple(spoiled))
    left = after.where(is_single)
    hits = [metrics.hits_at(1, part.table[:, : len(CORE)], part.truth) for part in (before, left)]
    return Drop(
        left.scripts.share(hits[1]),
        left.scripts.mean(100 * (hits[0] - hits[1])),
        after.scripts.mean(metrics.briers(after.table, after.truth)),
    )


def rows_by(
    cases: Sequence[Case], given: Sequence[Answer], key: Callable[[Case], str]
) -> dict[str, Share]:
    """Return the share of right names for each value of *key*."""
    whole = Part(tuple(cases), tuple(given))
    found = {}
    for name in sorted({key(case) for case in cases}):
        part = whole.where(lambda case, name=name: key(case) == name)  # type: ignore[misc]
        found[name] = part.scripts.share(part.right)
    return found

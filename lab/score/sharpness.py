"""What exponents on the evidence a split asks for: log-loss per confidence and exponent.

Of the calibration split and its spoiled copies alone. Rules that were mended on a split are surer
on it than they should be; what ``lagkit.ranking.SHARPNESS`` was chosen by stands there. The
confidence does not depend on the exponent, so that each of the three is asked about by itself.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import get_args

import numpy as np

import lagkit as lk
from lab.score import metrics
from lab.score.baselines import CLASSES
from lab.score.board import folded, from_distribution
from lab.score.cases import DEGRADED, Case
from lagkit import ranking
from lagkit.causes import catalogue
from lagkit.model import Confidence

EXPONENTS = (0.6, 0.85, 1.0, 1.2, 1.5, 1.8, 2.5)
GRADES: tuple[Confidence, ...] = get_args(Confidence)
Judged = tuple[bool, Confidence, list[list[float]]]
"""Whether nothing was taken away, the confidence, and the folded forecast at each exponent."""


def judged(cases: Sequence[Case], workers: int) -> list[list[Judged]]:
    """Return what lagkit says at every exponent of each of *cases* and of its spoiled copies."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        return list(pool.map(_judge, cases))


def _judge(case: Case) -> list[Judged]:
    copies = [
        (True, case.incident),
        *((False, spoil(case.incident)) for spoil in DEGRADED.values()),
    ]
    return [(whole, *_forecasts(lk.investigate(incident))) for whole, incident in copies]


def _forecasts(result: lk.Result) -> tuple[Confidence, list[list[float]]]:
    told = [
        ranking.rank(
            result.verdict.checks,
            catalogue(),
            ratings=result.incident.runbook.priors,
            onset=result.verdict.onset,
            step_seconds=result.flow.step_seconds,
            tuning=ranking.Tuning(sharpness=dict.fromkeys(GRADES, exponent)),
        )
        for exponent in EXPONENTS
    ]
    distributions = [{row.cause: row.probability for row in one.causes} for one in told]
    return told[0].confidence, [from_distribution(one).folded for one in distributions]


def table(cases: Sequence[Case], found: Sequence[Sequence[Judged]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: mean log-loss, a row a confidence, whole and spoiled."""
    yield "| confidence | incidents | " + " | ".join(f"{e:g}" for e in EXPONENTS) + " |"
    yield "| --- | --- |" + " --- |" * len(EXPONENTS)
    rows = [
        (grade, whole, CLASSES.index(folded(case)), forecasts)
        for case, copies in zip(cases, found, strict=True)
        for whole, grade, forecasts in copies
    ]
    for grade in GRADES:
        for only, what in ((True, "whole"), (False, "and copies")):
            part = [row for row in rows if row[0] == grade and (row[1] or not only)]
            if part:
                truth = np.array([row[2] for row in part], dtype=np.intp)
                losses = [
                    metrics.log_losses(np.array([row[3][n] for row in part]), truth).mean()
                    for n in range(len(EXPONENTS))
                ]
                cells = " | ".join(f"{loss:.3f}" for loss in losses)
                yield f"| {grade} | {len(part)} {what} | {cells} |"

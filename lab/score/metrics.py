"""Numbers that say how right a ranking of causes is, each with its chance level or its interval.

Definitions follow RCAEval (AC@k, Avg@k), Brier 1950 on the 0 to 2 scale, Guo et al. 2017 for the
calibration error with bins of equal count, and Wilson 1927 for the interval of a share. Knows
arrays only: a row is an incident, a column one of the classes, a value its probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Truth = NDArray[np.intp]

Z_95 = 1.959963984540054
LEAST_PROBABILITY = 1e-6
"""A class said to be impossible costs as much as one in a million: log-loss stays finite."""
BINS = 10
BOOTSTRAPS = 1_000


@dataclass(frozen=True)
class Share:
    """So many of so many, with Wilson's 95 % interval."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.hits / self.of if self.of else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval; 0 to 1 of nothing."""
        if not self.of:
            return 0.0, 1.0
        n, p = self.of, self.value
        middle = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
        half = Z_95 / (1 + Z_95**2 / n) * np.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
        return max(0.0, float(middle - half)), min(1.0, float(middle + half))

    def __str__(self) -> str:
        """Return ``0.950 (133/140, 0.900-0.976)``."""
        low, high = self.interval
        return f"{self.value:.3f} ({self.hits}/{self.of}, {low:.3f}-{high:.3f})"


def places(probabilities: Matrix, truth: Truth) -> NDArray[np.float64]:
    """Return the place of the true class in each row, 1 for the first.

    Classes with the same probability share the mean of their places: a flat ranking gains nothing
    from the order of its columns.
    """
    own = probabilities[np.arange(len(truth)), truth][:, None]
    above = (probabilities > own).sum(axis=1)
    same = (probabilities == own).sum(axis=1)
    return above + (same + 1) / 2


def accuracy_at(k: int, probabilities: Matrix, truth: Truth) -> Share:
    """Return in how many rows the true class is among the first *k*."""
    return Share(int((places(probabilities, truth) <= k).sum()), len(truth))


def average_at(k: int, probabilities: Matrix, truth: Truth) -> float:
    """Return the mean of AC@1 to AC@k."""
    return float(np.mean([accuracy_at(j, probabilities, truth).value for j in range(1, k + 1)]))


def reciprocal_rank(probabilities: Matrix, truth: Truth) -> float:
    """Return the mean of one over the place of the true class."""
    return float(np.mean(1 / places(probabilities, truth))) if len(truth) else float("nan")


def chance(classes: int) -> dict[str, float]:
    """Return what a guess among so many classes gets."""
    return {
        "ac@1": 1 / classes,
        "ac@3": min(1.0, 3 / classes),
        "avg@5": float(np.mean([min(1.0, k / classes) for k in range(1, 6)])),
        "mrr": float(np.mean(1 / np.arange(1, classes + 1))),
        "brier": 1 - 1 / classes,
        "log_loss": float(np.log(classes)),
    }


def brier(probabilities: Matrix, truth: Truth) -> float:
    """Return the mean squared distance from the truth, 0 to 2."""
    if not len(truth):
        return float("nan")
    wanted = np.eye(probabilities.shape[1])[truth]
    return float(((probabilities - wanted) ** 2).sum(axis=1).mean())


def log_loss(probabilities: Matrix, truth: Truth) -> float:
    """Return the mean surprise at the truth, in nats."""
    if not len(truth):
        return float("nan")
    own = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(own, LEAST_PROBABILITY, 1)).mean())


@dataclass(frozen=True)
class Bin:
    """Rows of like confidence: what was said and what came true."""

    count: int
    said: float
    true: float


def reliability(said: Matrix, right: NDArray[np.bool_], bins: int = BINS) -> tuple[Bin, ...]:
    """Return bins of equal count over the stated probability of what was named."""
    if not len(said):
        return ()
    order = np.argsort(said, kind="stable")
    return tuple(
        Bin(len(part), float(said[part].mean()), float(right[part].mean()))
        for part in np.array_split(order, min(bins, len(order)))
    )


def calibration_error(said: Matrix, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the mean distance between what was said and what came true, over bins."""
    found = reliability(said, right, bins)
    total = sum(part.count for part in found)
    if not total:
        return float("nan")
    return sum(part.count * abs(part.said - part.true) for part in found) / total


def calibration_interval(
    said: Matrix, right: NDArray[np.bool_], *, seed: int = 1
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the calibration error."""
    if not len(said):
        return float("nan"), float("nan")
    chooser = np.random.default_rng(seed)
    drawn = chooser.integers(0, len(said), size=(BOOTSTRAPS, len(said)))
    errors = [calibration_error(said[rows], right[rows]) for rows in drawn]
    low, high = np.quantile(errors, [0.025, 0.975])
    return float(low), float(high)


def selective_risk(said: Matrix, right: NDArray[np.bool_], coverage: float) -> Share:
    """Return how many of the most confident *coverage* of rows are wrong."""
    kept = np.argsort(-said, kind="stable")[: int(np.ceil(coverage * len(said)))]
    return Share(int((~right[kept]).sum()), len(kept))


def confusion(named: Sequence[str], truth: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how often each true class was named each way."""
    table: dict[str, dict[str, int]] = {}
    for said, was in zip(named, truth, strict=True):
        row = table.setdefault(was, {})
        row[said] = row.get(said, 0) + 1
    return table

"""Numbers that say how right a ranking of causes is, each with its chance level or its interval.

Definitions follow RCAEval (AC@k, Avg@k, Lift), Brier 1950 on the 0 to 2 scale, Guo et al. 2017 for
the calibration error with bins of equal count, and Wilson 1927 for the interval of a share. Knows
arrays only: a row is an incident, a column one of the classes, a value its probability.

Incidents of one script are alike: they are no independent draws. ``Scripts`` therefore resamples
scripts with all that was made of each (a cluster bootstrap), never single incidents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Truth = NDArray[np.intp]
Rows = NDArray[np.intp]
Interval = tuple[float, float]

Z_95 = 1.959963984540054
LEAST_PROBABILITY = 1e-6
"""A class said to be impossible costs as much as one in a million: log-loss stays finite."""
BINS = 10
BOOTSTRAPS = 1_000
SEED = 1
NOWHERE: Interval = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Share:
    """So many of so many, with Wilson's 95 % interval. Ties may give fractions of a hit."""

    hits: float
    of: int
    by_script: Interval | None = None
    """The 95 % interval when scripts are resampled, where that was done."""

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.hits / self.of if self.of else float("nan")

    @property
    def wilson(self) -> Interval:
        """Wilson's interval, as if every incident stood for itself; 0 to 1 of nothing."""
        if not self.of:
            return 0.0, 1.0
        n, p = self.of, self.value
        middle = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
        half = Z_95 / (1 + Z_95**2 / n) * np.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
        return max(0.0, float(middle - half)), min(1.0, float(middle + half))

    @property
    def interval(self) -> Interval:
        """The wider of both at each end.

        Wilson's is too narrow where seeds of a script go right or wrong together; resampling is
        too narrow where nothing went wrong, for then there is nothing to resample.
        """
        low, high = self.wilson
        if self.by_script is None or np.isnan(self.by_script[0]):
            return low, high
        return min(low, self.by_script[0]), max(high, self.by_script[1])

    def __str__(self) -> str:
        """Return ``0.950 (133/140, 0.900-0.976)``."""
        low, high = self.interval
        return f"{self.value:.3f} ({self.hits:.4g}/{self.of}, {low:.3f}-{high:.3f})"


@dataclass(frozen=True)
class Estimate:
    """A number that is no share, with its 95 % interval when scripts are resampled."""

    value: float
    interval: Interval = NOWHERE
    of: int = 0

    def __str__(self) -> str:
        """Return ``0.081 (0.052-0.113)``."""
        low, high = self.interval
        if np.isnan(self.value):
            return "-"
        return f"{self.value:.3f}" + ("" if np.isnan(low) else f" ({low:.3f}-{high:.3f})")


@dataclass(frozen=True)
class Scripts:
    """Which script each row was made by; draws whole scripts with replacement, always the same."""

    of_row: tuple[str, ...]

    @cached_property
    def draws(self) -> tuple[Rows, ...]:
        """The rows of each resample: as many scripts as there are, each with all its rows."""
        if not self.of_row:
            return ()
        names = np.array(self.of_row)
        blocks = [np.flatnonzero(names == name) for name in sorted(set(self.of_row))]
        chooser = np.random.default_rng(SEED)
        drawn = chooser.integers(0, len(blocks), size=(BOOTSTRAPS, len(blocks)))
        return tuple(np.concatenate([blocks[number] for number in row]) for row in drawn)

    def interval(self, statistic: Callable[[Rows], float]) -> Interval:
        """Return the middle 95 % of *statistic* over the resamples; NaN of fewer than two scripts.

        *statistic* gets row numbers, some of them several times.
        """
        if len(set(self.of_row)) < 2:
            return NOWHERE
        found = np.array([statistic(rows) for rows in self.draws])
        found = found[np.isfinite(found)]
        if not found.size:
            return NOWHERE
        low, high = np.quantile(found, [0.025, 0.975])
        return float(low), float(high)

    def share(self, hits: Sequence[float] | Matrix | NDArray[np.bool_]) -> Share:
        """Return the share of *hits*, one value from 0 to 1 for each row."""
        values = np.asarray(hits, dtype="float64")
        return Share(
            float(values.sum()), len(values), self.interval(lambda rows: float(values[rows].mean()))
        )

    def mean(self, values: Sequence[float] | Matrix) -> Estimate:
        """Return the mean of one value for each row."""
        told = np.asarray(values, dtype="float64")
        if not told.size:
            return Estimate(float("nan"))
        return Estimate(
            float(told.mean()), self.interval(lambda rows: float(told[rows].mean())), len(told)
        )


# -- the place of the truth -------------------------------------------------------------------


def _above_and_same(probabilities: Matrix, truth: Truth) -> tuple[Matrix, Matrix]:
    own = probabilities[np.arange(len(truth)), truth][:, None]
    above = (probabilities > own).sum(axis=1).astype("float64")
    return above, (probabilities == own).sum(axis=1).astype("float64")


def hits_at(k: int, probabilities: Matrix, truth: Truth) -> Matrix:
    """Return for each row how surely the true class is among the first *k*, 0 to 1.

    Classes with the same probability come in any order with the same chance: a flat ranking is
    worth exactly chance and gains nothing from the order of its columns.
    """
    above, same = _above_and_same(probabilities, truth)
    return np.clip(k - above, 0, same) / same


def average_hits(k: int, probabilities: Matrix, truth: Truth) -> Matrix:
    """Return for each row the mean of its hits at 1 to *k*: their mean over rows is Avg@k."""
    return np.mean([hits_at(j, probabilities, truth) for j in range(1, k + 1)], axis=0)


def reciprocal_ranks(probabilities: Matrix, truth: Truth) -> Matrix:
    """Return one over the place of the true class in each row, the mean over its ties."""
    above, same = _above_and_same(probabilities, truth)
    return np.array(
        [
            np.mean(1 / np.arange(first + 1, first + tied + 1))
            for first, tied in zip(above, same, strict=True)
        ]
    )


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


# -- the probabilities ------------------------------------------------------------------------


def briers(probabilities: Matrix, truth: Truth) -> Matrix:
    """Return each row's squared distance from the truth, 0 to 2."""
    wanted = np.eye(probabilities.shape[1])[truth]
    return np.asarray(((probabilities - wanted) ** 2).sum(axis=1))


def log_losses(probabilities: Matrix, truth: Truth) -> Matrix:
    """Return each row's surprise at the truth, in nats."""
    own = probabilities[np.arange(len(truth)), truth]
    return np.asarray(-np.log(np.clip(own, LEAST_PROBABILITY, 1)))


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
    if not len(said):
        return float("nan")
    order = np.argsort(said, kind="stable")
    gaps = (said - right)[order]
    edges = [len(part) for part in np.array_split(order, min(bins, len(order)))]
    starts = np.cumsum([0, *edges[:-1]])
    return float(np.abs(np.add.reduceat(gaps, starts)).sum() / len(said))


def risk_at(said: Matrix, right: NDArray[np.bool_], coverage: float) -> tuple[int, int]:
    """Return how many are wrong, and of how many, among the most confident *coverage* of rows."""
    kept = np.argsort(-said, kind="stable")[: int(np.ceil(coverage * len(said)))]
    return int((~right[kept]).sum()), len(kept)


def confusion(named: Sequence[str], truth: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how often each true class was named each way."""
    table: dict[str, dict[str, int]] = {}
    for said, was in zip(named, truth, strict=True):
        row = table.setdefault(was, {})
        row[said] = row.get(said, 0) + 1
    return table

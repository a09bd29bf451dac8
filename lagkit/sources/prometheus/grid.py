"""The points in time that are asked for: one grid for all range queries of an investigation.

It knows the server's limit on points and how a window is cut under it; it knows no query.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

POINTS_PER_SERIES = 10_000
"""Most points of one series in a window; Prometheus itself refuses more than 11,000."""
POINTS_PER_REQUEST = 5_000
SAMPLE_BYTES = 24
"""What a sample takes in an answer: ``[1767600000,"1234567"],``."""
BYTES_PER_REQUEST = 16 * 2**20
"""Expected size of one answer; more of them at once beat one large one, and any limit on it."""
MOST_SAMPLES = 500_000
"""Samples per question; a wider step is taken rather than more of them."""
WINDOW_SLACK = 1.1
"""Looking back a tenth more than a step keeps scrape jitter from reading as a gap."""
RATE_STEPS = 5
"""Steps under a rate(): below four scrapes it breaks at the first lost one."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The points asked for: every *step* whole seconds, at multiples of it, both ends included."""

    first: int
    last: int
    step: int

    @classmethod
    def over(cls, start: pd.Timestamp, end: pd.Timestamp, step: int) -> Grid:
        """Return the grid inside *start* to *end*; one point at the end if none lies between."""
        first = math.ceil(start.timestamp() / step) * step
        last = math.floor(end.timestamp() / step) * step
        return cls(min(first, last), last, step)

    @property
    def points(self) -> int:
        """Number of points."""
        return (self.last - self.first) // self.step + 1

    def at_most(self, series: int) -> int:
        """Return *series*, or fewer where that many would be more than MOST_SAMPLES."""
        return max(1, min(series, MOST_SAMPLES // self.points))

    @property
    def window(self) -> str:
        """PromQL duration within which a sample counts for a point."""
        return f"{round(self.step * WINDOW_SLACK * 1000)}ms"

    @property
    def rate_window(self) -> str:
        """PromQL duration under a rate()."""
        return f"{self.step * RATE_STEPS}s"

    def parts(self, series: int = 1) -> list[Grid]:
        """Return a grid for each request, equal in size, if *series* answer; they share no point.

        None has more than POINTS_PER_REQUEST points, nor is expected over BYTES_PER_REQUEST.
        """
        by_bytes = BYTES_PER_REQUEST // (max(1, series) * SAMPLE_BYTES)
        most = max(1, min(POINTS_PER_REQUEST, by_bytes))
        return self.cut(math.ceil(self.points / most))

    def cut(self, parts: int) -> list[Grid]:
        """Return *parts* grids of about equal size that follow each other."""
        each = math.ceil(self.points / parts) * self.step
        return [
            Grid(first, min(first + each - self.step, self.last), self.step)
            for first in range(self.first, self.last + 1, each)
        ]


def epoch(at: pd.Timestamp) -> str:
    """Return *at* as the API takes it: epoch seconds with milliseconds."""
    return f"{at.timestamp():.3f}"


def iso(seconds: float) -> str:
    """Return epoch *seconds* as it is shown to a person."""
    return str(pd.Timestamp(seconds, unit="s", tz="UTC").isoformat())


def shift(times: np.ndarray, interval: int) -> float:
    """Return how many seconds before a multiple of *interval* the scrapes at *times* lie.

    At least 0, less than *interval*. The median over the circle, so that jitter around a multiple
    does not read as half an interval.
    """
    first = times[0] % interval
    off = (times - first + interval / 2) % interval - interval / 2
    return float(round(-(first + np.median(off)) % interval, 3))

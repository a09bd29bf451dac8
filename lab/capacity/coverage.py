"""How often the printed range of dates holds the true date: a table over generated histories.

Nothing was chosen on the seeds that are scored here: :data:`DEVELOPMENT` are those that the rules
of ``lagkit.capacity`` were worked out on, :data:`SCORED` those that the table is made of.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lab.capacity.histories import GROWTHS, TARGET, Growth, as_history, draw, make
from lagkit.capacity.forecast import naive_with_drift, saturation
from lagkit.capacity.outlook import LEAST_CAPACITY_ERROR, trends

DEVELOPMENT = range(1, 41)
SCORED = range(10_001, 10_061)
"""60 of each growth: 180 histories."""
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"


@dataclass(frozen=True)
class Outcome:
    """What was printed for one history, in weeks after its end, and the truth."""

    growth: Growth
    seed: int
    truth: float | None
    status: str
    earliest: float | None
    latest: float | None
    naive_width: float
    verdict: str

    @property
    def dated(self) -> bool:
        """Whether a date, or "already", was printed."""
        return self.status in ("range", "passed")

    @property
    def inside(self) -> bool:
        """Whether the true date lies in the printed range."""
        if self.truth is None or self.earliest is None or not self.dated:
            return False
        # dates are printed by the day
        latest = np.inf if self.latest is None else self.latest
        return self.earliest - 1 / 7 <= self.truth <= latest + 1 / 7

    @property
    def width(self) -> float:
        """Weeks from the first to the last date; infinite where there is no end or no range."""
        if not self.dated or self.latest is None or self.earliest is None:
            return np.inf
        return self.latest - self.earliest


def outcome(seed: int, growth: Growth) -> Outcome:
    """Make one history and judge it as the command does."""
    made = make(draw(seed, growth))
    history = as_history(made)
    found = trends(history, target=TARGET)
    trend = found.worst()
    working = found.working(trend.group, trend.topic)
    truth = None
    if made.passes is not None:
        truth = (made.passes - history.end) / pd.Timedelta("7D")
    width = np.inf
    season, limit = working.forecast.season, working.capacity
    if season is not None and limit is not None and not limit.lower_bound:
        spread = max((limit.high - limit.low) / 2 / limit.per_second, LEAST_CAPACITY_ERROR)
        relative = float(np.hypot(spread / 2, season.peak_error))
        needed = TARGET * limit.per_second / season.peak
        naive = saturation(naive_with_drift(season.levels), needed, relative)
        width = naive.latest - naive.earliest if naive.status == "range" else np.inf
    date = trend.saturation
    return Outcome(
        growth, seed, truth, date.status, date.weeks_earliest, date.weeks_latest, width,
        trend.verdict,
    )  # fmt: skip


def outcomes(seeds: Iterable[int]) -> list[Outcome]:
    """Judge a history of each growth for each seed."""
    return [outcome(seed, growth) for seed in seeds for growth in GROWTHS]


def table(found: list[Outcome], seeds: range, seconds: float) -> str:
    """Return the outcomes as Markdown."""
    lines = [
        (
            "| growth | histories | capacity seen | with a date | true date in the printed range | "
            "median width, weeks | seasonal-naive with drift, weeks |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    growing = [one for one in found if one.truth is not None]
    for name, some in (
        *((growth, [one for one in found if one.growth == growth]) for growth in GROWTHS),
        ("growing, all", growing),
    ):
        dated = [one for one in some if one.dated]
        inside = [one for one in some if one.inside]
        known = any(one.truth is not None for one in some)
        lines.append(
            f"| {name} | {len(some)} | {sum(o.status != 'capacity_unknown' for o in some)} | "
            f"{len(dated)} ({len(dated) / len(some):.0%}) | "
            + (
                f"{len(inside)} of {len(some)} ({len(inside) / len(some):.0%}); of those with a "
                f"date {len(inside) / max(1, len(dated)):.0%} | {_weeks(o.width for o in some)} | "
                f"{_weeks(o.naive_width for o in some)} |"
                if known
                else "there is none | | |"
            )
        )
    lines += [
        "",
        (
            f"Seeds {seeds.start} to {seeds.stop - 1}, one history of each growth a seed, "
            f"{seconds:.0f} s of CPU. A range without an end counts as infinitely wide, and so "
            "does no range."
        ),
    ]
    return "\n".join(lines)


def _weeks(widths: Iterable[float]) -> str:
    middle = statistics.median(widths)
    return f"{middle:.1f}" if np.isfinite(middle) else "no end"


def main(*, development: bool, page: Path | None, misses: bool = False) -> int:
    """Print the table, and write it into *page*."""
    began = time.process_time()
    seeds = DEVELOPMENT if development else SCORED
    found = outcomes(seeds)
    text = table(found, seeds, time.process_time() - began)
    print(text)
    if misses:
        for one in found:
            wrong = (one.truth is None) == one.dated if one.truth is None else not one.inside
            if wrong:
                truth = "never" if one.truth is None else f"{one.truth:.1f} weeks"
                print(f"{one.growth} {one.seed}: truth {truth}, {one.status} "
                      f"{one.earliest} to {one.latest}: {one.verdict}")  # fmt: skip
    if page is not None:
        whole = page.read_text(encoding="utf-8")
        new = re.sub(
            f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{text}\n{END}", whole, flags=re.DOTALL
        )
        page.write_text(new, encoding="utf-8")
    return 0

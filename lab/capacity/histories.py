"""Weeks of a consumer group made by rule and seed, with the date at which it outgrows its target.

A queue at ten-minute steps: demand = level × season of the week × noise; a consumer that reads what
is there up to its capacity; incidents in which it reads nothing or half. Everything follows from
the seed. The truth is the noise-free peak hour passing target × capacity; lagkit never sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.capacity.history import History
from lagkit.runbook import Runbook
from lagkit.version import __version__

STEP = 600
STEPS_AN_HOUR = 3600 // STEP
WEEK_HOURS = 168
WEEKS = 8
AFTER_WEEKS = 104
START = pd.Timestamp("2026-09-28T00:00:00Z")  # a Monday
TARGET = 0.7
PARTITIONS = 12
Growth = Literal["linear", "steps", "none"]
GROWTHS: tuple[Growth, ...] = ("linear", "steps", "none")


@dataclass(frozen=True)
class Recipe:
    """What one history is made of; drawn from a seed by :func:`draw`."""

    seed: int
    growth: Growth
    base: float  # messages per second, mean of the first week
    per_week: float  # growth as a share of base
    noise: float  # of ten minutes, log
    day_noise: float  # of a day, log, correlated with the day before
    night: float  # depth of the daily season
    weekend: float  # share of a weekday
    incidents: int
    gaps: int
    spikes: int
    weeks_to_target: float  # after the end; for no growth: unused
    utilisation: float  # at the end; for growth: unused
    jumps: tuple[tuple[float, float], ...] = ()  # weeks, share of base
    slower_until: tuple[float, float] = (0.0, 1.0)  # weeks, share of the capacity before
    holidays: tuple[int, ...] = ()  # days with four tenths of the demand


@dataclass(frozen=True)
class Made:
    """A history and its truth: ``passes`` is None where the target is never passed."""

    recipe: Recipe
    capacity: float
    passes: pd.Timestamp | None
    moments: pd.DatetimeIndex  # ends of the steps
    log_end: np.ndarray
    committed: np.ndarray
    seen: np.ndarray  # False: not scraped
    outages: tuple[tuple[int, int], ...] = field(default=())


def draw(seed: int, growth: Growth) -> Recipe:
    """Draw a recipe."""
    rng = np.random.default_rng((seed, GROWTHS.index(growth)))
    per_week = float(rng.uniform(0.01, 0.04)) if growth != "none" else 0.0
    jumps: list[tuple[float, float]] = []
    if growth == "steps":
        at = float(rng.uniform(0.2, 2.0))
        while at < WEEKS + AFTER_WEEKS:
            apart = float(rng.uniform(0.7, 2.0))
            jumps.append((at, per_week * apart * float(rng.uniform(0.6, 1.4))))
            at += apart
    return Recipe(
        seed=seed,
        growth=growth,
        base=float(10 ** rng.uniform(0.5, 3)),
        per_week=per_week,
        noise=float(rng.uniform(0.05, 0.25)),
        day_noise=float(rng.uniform(0.01, 0.04)),
        night=float(rng.uniform(0.3, 0.8)),
        weekend=float(rng.uniform(0.3, 1.0)),
        incidents=int(rng.integers(2, 6)),
        gaps=int(rng.integers(0, 4)),
        spikes=int(rng.integers(0, 3)),
        weeks_to_target=float(rng.uniform(4, 30)),
        utilisation=float(rng.uniform(0.35, 0.62)),
        jumps=tuple(jumps),
    )


def level(recipe: Recipe, weeks: np.ndarray) -> np.ndarray:
    """Return the mean of a week, so many weeks after the start."""
    if recipe.growth == "linear":
        return recipe.base * (1 + recipe.per_week * weeks)
    grown = np.ones_like(weeks, dtype="float64")
    for at, share in recipe.jumps:
        grown += share * (weeks >= at)
    return recipe.base * grown


def season(recipe: Recipe) -> np.ndarray:
    """Return the share of each hour of the week, mean 1."""
    rng = np.random.default_rng((recipe.seed, 99))
    hour = np.arange(24)
    busiest = rng.uniform(9, 16)
    day = 1 - recipe.night * (1 - np.cos((hour - busiest) / 24 * 2 * np.pi)) / 2
    week = np.concatenate([day * share for share in [1.0] * 5 + [recipe.weekend] * 2])
    week = week * np.exp(rng.normal(0, 0.03, WEEK_HOURS))
    return np.asarray(week / week.mean(), dtype="float64")


def make(recipe: Recipe, weeks: int = WEEKS) -> Made:
    """Make the history of *recipe*."""
    rng = np.random.default_rng((recipe.seed, 7))
    steps = weeks * WEEK_HOURS * STEPS_AN_HOUR
    share = season(recipe)
    at = np.arange(steps) / (WEEK_HOURS * STEPS_AN_HOUR)
    hour = (np.arange(steps) // STEPS_AN_HOUR) % WEEK_HOURS
    days = np.zeros(weeks * 7)
    for day in range(1, len(days)):
        days[day] = 0.5 * days[day - 1] + rng.normal(0, recipe.day_noise * np.sqrt(0.75))
    noise = rng.normal(0, recipe.noise, steps) + np.repeat(days, 24 * STEPS_AN_HOUR)
    demand = level(recipe, at) * share[hour] * np.exp(noise)
    for day in recipe.holidays:
        demand[day * 24 * STEPS_AN_HOUR : (day + 1) * 24 * STEPS_AN_HOUR] *= 0.4
    for _ in range(recipe.spikes):
        first = int(rng.integers(0, steps - 18))
        demand[first : first + int(rng.integers(6, 18))] *= 3
    capacity, passes = _truth(recipe, share, weeks)
    reads = capacity * np.exp(rng.normal(0, 0.02, steps))
    reads[at < recipe.slower_until[0]] *= recipe.slower_until[1]
    outages = []
    for _ in range(recipe.incidents):
        first = int(rng.integers(WEEK_HOURS, steps - 24 * STEPS_AN_HOUR))
        length = int(rng.integers(6, 42))  # one hour to seven
        reads[first : first + length] *= float(rng.choice([0.0, 0.0, 0.3]))
        outages.append((first, first + length))
    end = np.cumsum(demand * STEP)
    backlog = _backlog(demand * STEP, reads * STEP)
    seen = np.ones(steps, dtype=bool)
    for _ in range(recipe.gaps):
        first = int(rng.integers(0, steps - 200))
        seen[first : first + int(rng.integers(6, 180))] = False
    moments = START + pd.to_timedelta((np.arange(steps) + 1) * STEP, unit="s")
    return Made(
        recipe, capacity, passes, pd.DatetimeIndex(moments), np.floor(end),
        np.floor(end - backlog), seen, tuple(outages),
    )  # fmt: skip


def _truth(recipe: Recipe, share: np.ndarray, weeks: int) -> tuple[float, pd.Timestamp | None]:
    """Return the capacity that is outgrown when the recipe says, and when that is."""
    peak = float(share.max())
    if recipe.growth == "none":
        return recipe.base * peak / recipe.utilisation, None
    passing = float(level(recipe, np.array([weeks + recipe.weeks_to_target]))[0])
    capacity = passing * peak / TARGET
    ahead = np.arange(weeks, weeks + AFTER_WEEKS, 1 / 168)
    first = int(np.flatnonzero(level(recipe, ahead) >= passing * (1 - 1e-12))[0])
    return capacity, START + pd.Timedelta(ahead[first] * 7, "D")


def _backlog(arrived: np.ndarray, could_read: np.ndarray) -> np.ndarray:
    """Return the queue after each step (Lindley's recursion as a running minimum)."""
    walk = np.concatenate([[0.0], np.cumsum(arrived - could_read)])
    return np.asarray((walk - np.minimum.accumulate(walk))[1:], dtype="float64")


def as_history(made: Made, group: str = "g", topic: str = "t") -> History:
    """Return the hours as lagkit reads them from Prometheus, without a server in between.

    What each column means is that of the questions of ``lagkit.sources.dialects.aggregates``; that
    they say so is tested on a real Prometheus.
    """
    shape = (-1, STEPS_AN_HOUR)
    end, committed = made.log_end.reshape(shape), made.committed.reshape(shape)
    seen = made.seen.reshape(shape)

    def rates(offsets: np.ndarray) -> np.ndarray:
        return np.diff(offsets.ravel(), prepend=0.0).reshape(shape) / STEP

    last = seen[:, -1]
    whole = seen.all(axis=1)
    lag = np.where(seen, end - committed, np.nan)
    rows = pd.DataFrame(
        {
            "timestamp": made.moments[STEPS_AN_HOUR - 1 :: STEPS_AN_HOUR],
            "group": group,
            "topic": topic,
            "committed_sum": np.where(last, committed[:, -1], np.nan),
            "log_end_sum": np.where(last, end[:, -1], np.nan),
            "produced_high": np.where(whole, rates(made.log_end).max(axis=1), np.nan),
            "produced_low": np.where(whole, rates(made.log_end).min(axis=1), np.nan),
            "consumed_high": np.where(whole, rates(made.committed).max(axis=1), np.nan),
            "lag_high": np.where(last, np.nan_to_num(lag).max(axis=1), np.nan),
            "dialect": "otel",
        }
    )[last]
    tables = {name: frames.empty(name) for name in frames.HISTORY_FRAMES}
    tables["flow_hours"] = frames.normalise("flow_hours", rows, check=False)
    return History(
        cluster="generated",
        asked=(),
        start=START.as_unit("us"),
        end=made.moments[-1].as_unit("us"),
        captured_at=made.moments[-1].as_unit("us"),
        lagkit_version=__version__,
        runbook=Runbook(title="generated"),
        tables=tables,
    )

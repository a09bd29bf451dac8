"""Demand ahead: a weekly season and a line through the weeks, against the same hour a week ago.

The season is statsmodels' STL of the logarithm with a period of one week; the line is its least
squares through one level a week, with the interval of its mean. A line that is not told from none
is none. What is shown must do better than the seasonal-naive forecast (the same hour of the last
week) from rolling origins within the history; otherwise that one is shown, and it knows no date.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from lagkit.capacity.courses import WEEK_HOURS, Array, Flags, Wholes
from lagkit.errors import UsageError

FEWEST_WEEKS = 3
CONFIDENCE = 0.95
"""Of both ends of a range of dates together."""
HORIZON_WEEKS = 104
"""Nothing is said about what is later."""
ORIGINS = 4
"""Rolling origins at most: the last weeks, each forecast from what was before it."""
BACK_TEST_WEEKS = 2
"""How far each origin looks ahead."""
SEASON_WEEKS = 13
"""Weeks over which STL smooths one hour of the week: most of the history."""
JUMP_HOURS = 24
"""STL's own speed-up: its smooth parts are evaluated this often and joined by lines."""
UNUSUAL = 4.0
UNUSUAL_SHARE = 0.7
"""A day is unusual if it is so many deviations off and below this share of the usual, or above
its inverse."""
FEWEST_HOURS = 84
"""A week with fewer known hours has no level."""
LOST_ERROR = 0.5
"""Of the mean demand: where the same hour a week ago is off by more, no forecast holds."""
FLOOR = 0.05
"""Of the mean demand: below it a logarithm tells nothing."""
_NORMAL_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Season:
    """The demand of each hour of the week as a share of the week's mean, and each week's level.

    ``levels``: messages a second; NaN for a week that is not known. ``peak``: the share of the
    busiest hour, as other weeks see it, with its relative standard error.
    """

    shares: Array
    levels: Array
    peak: float
    peak_error: float
    peak_hour: int


@dataclass(frozen=True, slots=True)
class Line:
    """The level of a week ahead: ``a + b·week``, week 0 is the last one, with its covariance.

    Where it is not ``growing``, growth is not told from none: the slope is what little is likely.
    """

    at_end: float
    per_week: float
    covariance: tuple[float, float, float]
    """Variances of both and their covariance: of the level, of the slope, of the two."""
    quantile: float
    growing: bool

    def level(self, weeks: Array) -> Array:
        """Return the expected level so many weeks after the last one."""
        return np.asarray(self.at_end + self.per_week * weeks, dtype="float64")

    def error(self, weeks: Array) -> Array:
        """Return its standard error."""
        one, two, both = self.covariance
        return np.sqrt(np.maximum(one + two * weeks**2 + 2 * both * weeks, 0.0))


@dataclass(frozen=True, slots=True)
class BackTest:
    """Mean absolute errors over rolling origins, as shares of the mean demand."""

    origins: int
    model_error: float
    naive_error: float

    @property
    def better(self) -> bool:
        """Whether the model earned its place."""
        return self.model_error < self.naive_error


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected; ``shown`` is what the back-test left: ``season and line`` or ``naive``.

    ``season`` is None, and ``reason`` says why, where the history is too short.
    """

    shown: str
    reason: str
    weeks: int
    season: Season | None = None
    line: Line | None = None
    back_test: BackTest | None = None

    @property
    def lost(self) -> bool:
        """Whether not even the last week tells the next one, so that "no growth" says nothing."""
        tested = self.back_test
        return self.shown == "naive" and tested is not None and tested.naive_error > LOST_ERROR


@dataclass(frozen=True, slots=True)
class Saturation:
    """Weeks after the end of the history between which the demand passes; inf: open.

    ``status``: ``passed`` (it is above already), ``range``, ``none`` (no growth, or later than two
    years).
    """

    status: str
    earliest: float = np.inf
    latest: float = np.inf


def forecast(demand: Array, weekly: Wholes, usable: Flags) -> Forecast:
    """Return the forecast of *demand* (messages a second each hour, a whole number of weeks).

    *weekly*: the hour of the week of each; *usable*: hours that are demand.
    """
    hours = len(demand) - len(demand) % WEEK_HOURS
    y, week, good = demand[-hours:], weekly[-hours:], usable[-hours:] & np.isfinite(demand[-hours:])
    full = int((good.reshape(-1, WEEK_HOURS).sum(axis=1) >= FEWEST_HOURS).sum()) if hours else 0
    if full < FEWEST_WEEKS:
        reason = (
            f"too short: {full} full week{'s' if full != 1 else ''} of demand outside incidents; "
            f"a weekly season needs {FEWEST_WEEKS}"
        )
        return Forecast("none", reason, full)
    if not (y[good] > 0).any():
        return Forecast("none", "no demand at all", full)
    season = season_of(y, week, good)
    line = line_through(season.levels)
    tested = back_test(y, week, good)
    if tested is None:
        reason = "naive: too few weeks to test a forecast from an earlier origin"
        return Forecast("naive", reason, full, season, flat(season.levels), None)
    if not tested.better:
        reason = (
            "naive: the season with its line was no better than the same hour a week ago "
            f"({tested.model_error:.1%} against {tested.naive_error:.1%} of the mean demand)"
        )
        weeks = 4 if tested.naive_error <= LOST_ERROR else 1
        return Forecast("naive", reason, full, season, flat(season.levels, weeks), tested)
    return Forecast("season and line", "", full, season, line, tested)


def season_of(y: Array, weekly: Wholes, good: Flags) -> Season:
    """Return season and levels of whole weeks *y*, from the hours that are *good*."""
    smooth = _stl_season(y, weekly, good)
    shares = np.exp(_by_hour(smooth, weekly, np.ones(len(y), dtype=bool)))
    shares /= shares.mean()
    levels = _levels(y, shares[weekly], good)
    relative = y / np.repeat(np.where(levels > 0, levels, np.nan), WEEK_HOURS)
    peak, error, hour = _peak(relative, weekly, good & np.isfinite(relative), shares)
    return Season(shares, levels, peak, error, hour)


def _stl_season(y: Array, weekly: Wholes, good: Flags) -> Array:
    stl = _statsmodels()["STL"]
    floor = FLOOR * float(y[good].mean())
    logs = np.log(np.maximum(y, floor))
    logs[~good] = np.nan
    filled = _filled(logs, weekly)
    fitted = stl(
        filled,
        period=WEEK_HOURS,
        seasonal=SEASON_WEEKS,
        trend_jump=JUMP_HOURS,
        low_pass_jump=JUMP_HOURS,
    ).fit()
    return np.asarray(fitted.seasonal, dtype="float64")


def _filled(logs: Array, weekly: Wholes) -> Array:
    """Return *logs* with the usual value of the hour, at its week's level, where one is missing."""
    weeks = logs.reshape(-1, WEEK_HOURS)
    usual = _middle(weeks - _middle(weeks, axis=1)[:, None], axis=0)
    level = _middle(weeks - usual, axis=1)[:, None]
    usual = np.where(np.isfinite(usual), usual, 0.0)
    level = np.where(np.isfinite(level), level, np.nanmedian(logs))
    return np.where(np.isfinite(weeks), weeks, usual + level).ravel()


def _middle(values: Array, axis: int) -> Array:
    """Return the median along *axis* of what is known, NaN of nothing.

    As ``np.nanmedian``, which goes through masked arrays for short rows, at twenty times the price.
    """
    ordered = np.sort(values, axis=axis)  # NaN last
    count = np.expand_dims(np.isfinite(values).sum(axis=axis), axis)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis)
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[axis] - 1), axis)
    return np.where(count > 0, (low + high) / 2, np.nan).squeeze(axis)


def _by_hour(values: Array, weekly: Wholes, good: Flags) -> Array:
    total = np.bincount(weekly[good], weights=values[good], minlength=WEEK_HOURS)
    count = np.bincount(weekly[good], minlength=WEEK_HOURS)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
    return np.where(count > 0, mean, np.nanmean(mean))


def _levels(y: Array, shares: Array, good: Flags) -> Array:
    """Return each week's demand by its season: what it had over what the season gives it."""
    had = np.where(good, y, 0.0).reshape(-1, WEEK_HOURS).sum(axis=1)
    given = np.where(good, shares, 0.0).reshape(-1, WEEK_HOURS).sum(axis=1)
    enough = good.reshape(-1, WEEK_HOURS).sum(axis=1) >= FEWEST_HOURS
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(enough & (given > 0), had / given, np.nan)


def _peak(relative: Array, weekly: Wholes, good: Flags, shares: Array) -> tuple[float, float, int]:
    """Return the share of the busiest hour, its relative error, and which hour that is.

    The busiest hour of all weeks together is partly a lucky one, so that is too much. Asking each
    week how busy the hour is that the others point to, without the least and the greatest answer,
    is too little, for it may be the wrong hour. The truth lies between; the middle is taken.
    """
    table = np.full((len(relative) // WEEK_HOURS, WEEK_HOURS), np.nan)
    table[np.arange(len(relative)) // WEEK_HOURS, weekly] = np.where(good, relative, np.nan)
    answers = []
    for number in range(len(table)):
        others = _middle(np.delete(table, number, axis=0), axis=0)
        if np.isfinite(others).any():
            answers.append(table[number, int(np.nanargmax(others))])
    seen = np.sort(np.array(answers)[np.isfinite(answers)])
    hour = int(np.argmax(shares))
    if len(seen) > 4:
        seen = seen[1:-1]
    if len(seen) < 2 or not seen.mean() > 0:
        return float(shares.max()), 0.1, hour
    much = float(np.nanmax(_middle(table, axis=0)))
    little = float(seen.mean())
    much = max(much, little)
    middle = (little + much) / 2
    chance = float(seen.std(ddof=1)) / np.sqrt(len(seen))
    return middle, float(np.hypot(chance, (much - little) / np.sqrt(12)) / middle), hour


def line_through(levels: Array) -> Line:
    """Return the line through the weekly *levels*; nearly flat if growth is not told from none."""
    tools = _statsmodels()
    week = np.arange(len(levels)) - (len(levels) - 1.0)
    known = np.isfinite(levels)
    x, y = week[known], levels[known]
    if len(y) < FEWEST_WEEKS or np.ptp(y) <= 1e-9 * abs(y).max():
        return flat(levels)
    fitted = tools["OLS"](y, tools["add_constant"](x)).fit()
    at_end, per_week = (float(value) for value in fitted.params)
    low, _ = (float(value) for value in fitted.conf_int(alpha=1 - CONFIDENCE)[1])
    growing = low > 0
    if not growing:
        # a slope as small as its error says little: it counts for as much as it says (James, Stein)
        told = per_week / max(float(fitted.bse[1]), 1e-12)
        per_week *= max(0.0, 1.0 - 1.0 / max(told**2, 1e-12))
        at_end = float(y.mean() - per_week * x.mean())
    cov = np.asarray(fitted.cov_params(), dtype="float64")
    quantile = float(tools["t"].ppf((1 + CONFIDENCE) / 2, len(y) - 2))
    # of the line, and of a week around it: growth that comes in steps is off its line for weeks
    around = float(fitted.mse_resid)
    covariance = (float(cov[0, 0]) + around, float(cov[1, 1]), float(cov[0, 1]))
    return Line(at_end, per_week, covariance, quantile, growing)


def flat(levels: Array, weeks: int = 4) -> Line:
    """Return the line without growth: the mean of the last *weeks*, with its error."""
    tools = _statsmodels()
    known = levels[np.isfinite(levels)][-4:]
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    quantile = float(tools["t"].ppf((1 + CONFIDENCE) / 2, max(1, len(known) - 1)))
    taken = known[-weeks:]
    return Line(
        float(taken.mean()), 0.0, (spread**2 / len(taken), 0.0, 0.0), quantile, growing=False
    )


def at_last_growth(levels: Array, needed: float) -> float:
    """Return the weeks until *needed* if each week grows by the factor of the last; inf: never."""
    known = levels[np.isfinite(levels) & (levels > 0)][-2:]
    if len(known) < 2 or known[1] <= known[0]:
        return np.inf
    return float(max(0.0, np.log(needed / known[1]) / np.log(known[1] / known[0])))


def naive_with_drift(levels: Array) -> Line | None:
    """Return the seasonal-naive forecast with its drift, the yardstick of a range's width.

    The last week and the mean change from week to week; after k weeks its variance is that of k
    changes, plus k² times that of their mean (Hyndman and Athanasopoulos, *Forecasting*, 5.2). None
    below three weeks, or where the drift is not upward.
    """
    known = levels[np.isfinite(levels)]
    if len(known) < FEWEST_WEEKS:
        return None
    changes = np.diff(known)
    drift, spread = float(changes.mean()), float(changes.std(ddof=1))
    if drift <= 0:
        return None
    quantile = float(_statsmodels()["t"].ppf((1 + CONFIDENCE) / 2, len(changes) - 1))
    return Line(
        float(known[-1]), drift, (0.0, spread**2 / len(changes), spread**2 / 2), quantile, True
    )


def back_test(y: Array, weekly: Wholes, good: Flags) -> BackTest | None:
    """Forecast the last weeks, each from what was before it; None where too few are left."""
    weeks = len(y) // WEEK_HOURS
    model: list[Array] = []
    naive: list[Array] = []
    origins = range(max(FEWEST_WEEKS, weeks - ORIGINS), weeks)
    count = 0
    for origin in origins:
        until = origin * WEEK_HOURS
        if (_known_weeks(good[:until])) < FEWEST_WEEKS or not (y[:until][good[:until]] > 0).any():
            continue
        season = season_of(y[:until], weekly[:until], good[:until])
        line = line_through(season.levels)
        last = np.where(good[until - WEEK_HOURS : until], y[until - WEEK_HOURS : until], np.nan)
        count += 1
        for ahead in range(1, min(BACK_TEST_WEEKS, weeks - origin) + 1):
            hours = slice(until + (ahead - 1) * WEEK_HOURS, until + ahead * WEEK_HOURS)
            known = good[hours] & np.isfinite(last)
            if not known.any():
                continue
            expected = float(line.level(np.array(float(ahead)))) * season.shares[weekly[hours]]
            model.append(np.abs(expected - y[hours])[known])
            naive.append(np.abs(last - y[hours])[known])
    if not model:
        return None
    mean = float(y[good].mean())
    return BackTest(
        count,
        float(np.concatenate(model).mean()) / mean,
        float(np.concatenate(naive).mean()) / mean,
    )


def _known_weeks(good: Flags) -> int:
    return int((good.reshape(-1, WEEK_HOURS).sum(axis=1) >= FEWEST_HOURS).sum())


def saturation(line: Line | None, needed: float, relative_error: float) -> Saturation:
    """Return when the level passes *needed* (messages a second), itself known so exactly.

    The earliest week is where the upper end of the interval passes, the latest where the lower one
    does.
    """
    if line is None:
        return Saturation("none")
    weeks = np.arange(0.0, HORIZON_WEEKS * 4 + 1, 1 / 7)
    level = line.level(weeks)
    error = np.sqrt(line.error(weeks) ** 2 + (needed * relative_error) ** 2)
    above, below = level + line.quantile * error, level - line.quantile * error
    if below[0] >= needed:
        return Saturation("passed", 0.0, 0.0)
    if not line.growing:
        return Saturation("passed", 0.0, np.inf) if level[0] >= needed else Saturation("none")
    first = np.flatnonzero(above >= needed)
    last = np.flatnonzero(below >= needed)
    earliest = float(weeks[first[0]]) if len(first) else np.inf
    latest = float(weeks[last[0]]) if len(last) else np.inf
    if earliest > HORIZON_WEEKS:
        return Saturation("none", earliest, latest)
    return Saturation("range", earliest, latest)


def unusual_days(y: Array, weekly: Wholes, good: Flags) -> Flags:
    """Return the hours of days far off their season: holidays and the like.

    Whole days only, and only where the rest of the day's weekday agrees with itself.
    """
    days = len(y) // 24
    unusual = np.zeros(len(y), dtype=bool)
    if days < 7 * FEWEST_WEEKS:
        return unusual
    offset = len(y) - days * 24
    values = np.where(good, y, np.nan)[offset:].reshape(days, 24)
    enough = np.isfinite(values).sum(axis=1) >= 18
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        total = np.where(enough, np.nanmean(values, axis=1), np.nan)
    weekday = (weekly[offset:].reshape(days, 24)[:, 12] // 24).astype("int64")
    ratio = np.full(days, np.nan)
    for day in range(7):
        same = np.flatnonzero((weekday == day) & np.isfinite(total) & (total > 0))
        if len(same) >= FEWEST_WEEKS:
            ratio[same] = np.log(total[same] / np.median(total[same]))
    known = np.isfinite(ratio)
    if known.sum() < 7 * FEWEST_WEEKS:
        return unusual
    centre = np.median(ratio[known])
    spread = max(0.02, _NORMAL_MAD * float(np.median(np.abs(ratio[known] - centre))))
    limit = max(UNUSUAL * spread, -np.log(UNUSUAL_SHARE))
    off = known & (np.abs(ratio - centre) > limit)
    # a change that stays is growth, and no holiday: at most two days in a row
    runs = np.flatnonzero(np.diff(np.concatenate([[False], off, [False]]).astype("int8")))
    for first, last in zip(runs[::2], runs[1::2], strict=True):
        if last - first <= 2:
            unusual[offset + first * 24 : offset + last * 24] = True
    return unusual


def _statsmodels() -> dict[str, Any]:
    try:
        from scipy.stats import t
        from statsmodels.regression.linear_model import OLS
        from statsmodels.tools.tools import add_constant
        from statsmodels.tsa.seasonal import STL
    except ImportError:
        msg = "A forecast needs statsmodels, which is not installed."
        raise UsageError(msg, hint="Run: pip install 'lagkit[capacity]'") from None
    return {"STL": STL, "OLS": OLS, "add_constant": add_constant, "t": t}

"""Hours in which the group was behind, set apart from its usual weeks; and how fast it reads then.

A consume rate shows capacity only while there is a backlog: at other times it is the demand. So
incidents are left out of the demand and are what the capacity is read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lagkit.capacity.courses import WEEK_HOURS, Array, Course, Flags

SPREADS = 6.0
"""Deviations above the usual lag from which a group is behind."""
MAD = 1.4826  # of a normal distribution, in standard deviations
FEWEST_SECONDS = 30.0
PROMISES = 10.0
LATE_SECONDS = 3600.0
"""So many promises and so late is behind, however usual it is."""
REGULAR_SHARE = 0.5
"""An hour of the week that is behind in more than this share of weeks is no incident."""
ALL_SHARE = 0.5
"""Where more hours than these are incidents, none is set apart."""
LONGEST_PAUSE = 1
"""Hours of calm within one incident."""
GAINING = 1.02
"""Consumption this much above production works off a backlog."""
SEEN_SECONDS = 1260.0
"""A backlog that is gone within twice ten minutes may leave no ten minutes of work at capacity, and
rates are taken over as much."""
SUSTAINED = 0.97
"""A backlog worked off below this share of what is read at other times was worked off by a degraded
consumer."""
SIMILAR = 0.85
"""Incidents that show at least this share of the highest rate were run at capacity."""
SPREAD_OF_ONE = 0.03
"""Relative spread of a capacity that was seen once."""
LOWER_QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Incident:
    """Hours [first, last] of one incident; backlog in messages, capacity in messages a second."""

    first: int
    last: int
    peak_lag: float
    peak_hour: int
    drain_per_second: float | None
    """What it read at while it worked off the backlog; None: never seen to."""


@dataclass(frozen=True, slots=True)
class Behind:
    """Incidents, the hours that are not demand, and the hours of regular saturation."""

    incidents: tuple[Incident, ...]
    excluded: Flags
    regular: Flags
    threshold_seconds: float
    all_the_time: bool = False


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate that the group was seen to read at, messages a second.

    ``lower_bound``: it was never behind and working, so it can read at least this fast.
    """

    per_second: float
    low: float
    high: float
    lower_bound: bool
    basis: str
    incidents: int = 0


def behind(course: Course, promise_seconds: float) -> Behind:
    """Find the incidents of *course*."""
    age = _age(course)
    known = age[np.isfinite(age)]
    nothing = np.zeros(len(age), dtype=bool)
    if not len(known):
        return Behind((), nothing, nothing, promise_seconds)
    middle = float(np.median(known))
    spread = MAD * float(np.median(np.abs(known - middle)))
    threshold = max(promise_seconds, FEWEST_SECONDS, middle + SPREADS * spread)
    # what is usual may itself be far behind
    threshold = min(threshold, max(PROMISES * promise_seconds, LATE_SECONDS))
    over = np.where(np.isfinite(age), age > threshold, False)
    regular = _regular(course, over)
    windows = _windows(over & ~regular)
    excluded = nothing.copy()
    for first, last in windows:
        excluded[first : last + 1] = True
    everything = bool(excluded.mean() > ALL_SHARE)
    calm = _calm_rate(course, over)
    found = tuple(_incident(course, first, last, calm) for first, last in windows)
    return Behind(found, nothing if everything else excluded, regular, threshold, everything)


def capacity(course: Course, found: Behind) -> Capacity | None:
    """Return the capacity as the incidents since the last change show it; None: nothing known.

    Where members changed since, the rate of each member is taken on, up to one a partition. A
    deploy after which the rate is another counts from there on.
    """
    least = 0.0
    if not course.member_changes and not course.deploys:
        calm = _calm_rate(course, found.excluded)
        least = SUSTAINED * calm if np.isfinite(calm) else 0.0
    seen = [
        (one, one.drain_per_second)
        for one in found.incidents
        if one.drain_per_second and one.drain_per_second >= least
    ]
    values = [(one.peak_hour, rate * _scale(course, one.peak_hour)) for one, rate in seen]
    scaled = any(abs(_scale(course, one.peak_hour) - 1.0) > 1e-9 for one, _ in seen)
    if found.regular.any():
        hours = found.regular & np.isfinite(course.consumed)
        if hours.any():
            values.append(
                (int(np.flatnonzero(hours)[-1]), float(np.median(course.consumed[hours])))
            )
    values = [(hour, rate) for hour, rate in values if np.isfinite(rate) and rate > 0]
    if not values:
        return _lower_bound(course)
    kept, basis = _since_deploy(course, values)
    highest = max(rate for _, rate in kept)
    alike = [rate for _, rate in kept if rate >= SIMILAR * highest]
    middle = float(np.median(alike))
    half = max(SPREAD_OF_ONE * middle, (max(alike) - min(alike)) / 2)
    if scaled:
        basis += "; members changed since, the rate of each is taken on"
    return Capacity(middle, middle - half, middle + half, False, basis, len(alike))


def _age(course: Course) -> Array:
    """Return the worst lag of each hour in seconds of the usual demand: a measure, not an age."""
    demand = course.produced[np.isfinite(course.produced)]
    usual = float(np.median(demand[demand > 0])) if (demand > 0).any() else 0.0
    if usual <= 0:
        return np.full(len(course.hours), np.nan)
    local = np.fmax(np.nan_to_num(course.produced, nan=usual), usual)
    return np.asarray(course.lag_high / local, dtype="float64")


def _regular(course: Course, over: Flags) -> Flags:
    weeks = len(over) / WEEK_HOURS
    if weeks < 3:
        return np.zeros(len(over), dtype=bool)
    hour = course.weekly
    share = np.bincount(hour, weights=over, minlength=WEEK_HOURS) / np.maximum(
        np.bincount(hour, minlength=WEEK_HOURS), 1
    )
    regular = share > REGULAR_SHARE
    # behind all week long is no season
    return over & regular[hour] if regular.mean() <= ALL_SHARE else np.zeros(len(over), dtype=bool)


def _windows(over: Flags) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], over, [False]]).astype("int8")))
    runs = list(zip(edges[::2], edges[1::2] - 1, strict=True))
    joined: list[tuple[int, int]] = []
    for first, last in runs:
        if joined and first - joined[-1][1] - 1 <= LONGEST_PAUSE:
            joined[-1] = (joined[-1][0], int(last))
        else:
            joined.append((int(first), int(last)))
    return joined


def _calm_rate(course: Course, over: Flags) -> float:
    """Return what it reads at most where it is not behind: faster is work at a backlog."""
    calm = course.consumed[np.isfinite(course.consumed) & ~over]
    return float(np.quantile(calm, LOWER_QUANTILE)) if len(calm) else np.inf


def _incident(course: Course, first: int, last: int, calm: float) -> Incident:
    hours = slice(first, last + 1)
    lag = course.lag_high[hours]
    peak = first + int(np.nanargmax(lag)) if np.isfinite(lag).any() else first
    consumed, produced = course.consumed[hours], course.produced[hours]
    # behind for the whole hour: so at both of its ends
    whole = np.zeros(last - first + 1, dtype=bool)
    whole[1:-1] = True
    gaining = whole & ((consumed > GAINING * produced) | (consumed > GAINING * calm))
    rate: float | None = None
    high = course.consumed_high[hours]
    fast = float(np.nanmax(high)) if np.isfinite(high).any() else 0.0
    usual = float(np.nanmedian(produced)) if np.isfinite(produced).any() else 0.0
    # one hour alone may be the one in which it began to read again
    if gaining.sum() > 1:
        rate = float(consumed[gaining].max())
    elif fast > GAINING * calm and course.lag_high[peak] > SEEN_SECONDS * (fast - usual):
        rate = fast
    return Incident(first, last, float(course.lag_high[peak]), peak, rate)


def _scale(course: Course, hour: int) -> float:
    """Return by how much the members of now read faster than those of *hour*."""
    if not course.member_changes:
        return 1.0
    then = course.member_changes[0][1]
    for place, _, after in course.member_changes:
        if place <= hour:
            then = after
    now = course.member_changes[-1][2]
    most = course.partitions or max(then, now)
    was, have = min(then, most), min(now, most)
    return have / was if was > 0 and have > 0 else 1.0


def _since_deploy(
    course: Course, values: Sequence[tuple[int, float]]
) -> tuple[list[tuple[int, float]], str]:
    count = f"{len(values)} time{'s' if len(values) > 1 else ''} behind and working it off"
    for deploy in reversed(course.deploys):
        after = [one for one in values if one[0] > deploy]
        before = [one for one in values if one[0] <= deploy]
        if not before:
            continue
        if not after:
            return list(values), f"seen before the last deploy, {count}"
        old, new = (max(rate for _, rate in part) for part in (before, after))
        if not SIMILAR <= old / new <= 1 / SIMILAR:
            when = course.hours[deploy]
            return after, f"seen since the deploy of {when:%Y-%m-%d}, which changed it"
    return list(values), f"seen {count}"


def _lower_bound(course: Course) -> Capacity | None:
    rates: NDArray[np.float64] = course.consumed[np.isfinite(course.consumed)]
    if not len(rates) or not (rates > 0).any():
        return None
    most = float(np.quantile(rates, LOWER_QUANTILE))
    return Capacity(most, most, np.inf, True, "never seen behind: it reads at least this fast")

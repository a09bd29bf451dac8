"""When the lag began to grow, and how much of it is spike and how much is missing consumption.

The onset is a change point: the group's lag is cut into straight pieces (optimal partitioning with
a penalty), and from its peak one walks back to the piece where it still lay at its floor. Knows
totals over time only; which partition, member or deploy is behind it is for others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lagkit.flow.offsets import Array, group_flow, layout, refresh_steps

SHORTEST_PIECE = 3
"""Samples a straight piece needs: two always fit."""
PENALTY = 4.0
"""Cost of one more piece in log(n): two parameters and a place, with room for outliers."""
MOST_SAMPLES = 1500
"""Longer histories are thinned first; the interval widens with it."""
CHI2_95 = 3.84
"""95 % point of chi squared with one degree: width of the interval on the cost profile."""
LEVEL = 0.05
"""Share of the growth below which the lag counts as being at its floor."""
DRAWDOWN = 0.25
"""Share of the growth the lag may fall on its way up and still be one incident."""
STANDING = 0.25
"""Growth below this share of the lag at the window's start is a wiggle on a standing backlog."""
NOISE_GROWTH = 8.0
"""Growth in standard deviations of the sampling noise below which there is no onset."""
SMALLEST_GROWTH = 10.0
"""Messages below which growth is no incident, whatever the noise."""
CAUGHT_UP_SECONDS = 60.0
"""Production of this long may be unread in a healthy group: commit interval plus scrape."""
BASELINE_LAG = 0.1
"""Share of the growth by which the lag may exceed its value at the onset in a baseline."""
TEETH = 3
"""Rises from the floor to the top that make a sawtooth (a batch consumer), not an incident."""
LARGEST_PARTITIONS = 64
"""Partitions given an onset of their own, by peak lag."""


@dataclass(frozen=True, slots=True)
class Onset:
    """When the net flow turned positive and stayed so until the peak, as a 95 % interval.

    ``censored``: the lag was there when the window began; the truth is ``earliest`` or before.
    Drifts are messages per second of lag growth before and from the onset to the peak (NaN:
    nothing before). ``peak`` is when the lag was highest.
    """

    at: pd.Timestamp
    earliest: pd.Timestamp
    latest: pd.Timestamp
    drift_before_per_second: float
    drift_after_per_second: float
    peak: pd.Timestamp
    peak_lag_messages: float
    censored: bool = False


def onset(frame: pd.DataFrame) -> Onset | None:
    """Return when the lag of the group began to grow towards its peak; None if it did not.

    Parameters
    ----------
    frame
        The result of :func:`lagkit.flow.clean_offsets`, or of :func:`lagkit.flow.group_flow`.

    Growth from zero, a burst, one frozen partition, a slow leak and a backlog that is already
    draining all have an onset. A sawtooth that comes back to its floor three times has none. Lag
    that was there when the window began has a censored one at the first sample.
    """
    flow = group_flow(frame) if "partition" in frame.columns else frame
    total = (flow["log_end_sum"] - flow["committed_sum"]).to_numpy(dtype="float64")
    if np.isnan(total).all():
        total = flow["lag_messages"].to_numpy(dtype="float64")
    produced = flow["log_end_sum"].to_numpy(dtype="float64")
    return _onset(total, produced, pd.DatetimeIndex(flow.index))


def onset_by_partition(cleaned: pd.DataFrame, *, limit: int = LARGEST_PARTITIONS) -> pd.DataFrame:
    """Return one row per partition that has an onset of its own, earliest first.

    Only the *limit* partitions with the highest peak lag are looked at: the search is quadratic
    in samples. Columns group, topic, partition, at, earliest, latest, censored,
    drift_after_per_second (messages/s), peak, peak_lag_messages.
    """
    where = layout(cleaned)
    lag = cleaned["lag_messages"].to_numpy(dtype="float64")[where.order]
    end = cleaned["log_end_offset"].to_numpy(dtype="float64")[where.order]
    first = np.flatnonzero(np.diff(where.series, prepend=-1))
    peaks = np.maximum.reduceat(np.nan_to_num(lag), first) if len(first) else np.zeros(0)
    largest = np.sort(np.argsort(-peaks, kind="stable")[:limit])
    bounds = np.append(first, len(lag))
    rows = []
    for number in largest:
        part = slice(bounds[number], bounds[number + 1])
        found = _onset(lag[part], end[part], where.times[where.moment[part]])
        if found is not None:
            rows.append(
                {
                    **where.keys.iloc[number].to_dict(),
                    "at": found.at,
                    "earliest": found.earliest,
                    "latest": found.latest,
                    "censored": found.censored,
                    "drift_after_per_second": found.drift_after_per_second,
                    "peak": found.peak,
                    "peak_lag_messages": found.peak_lag_messages,
                }
            )
    columns = [
        "group",
        "topic",
        "partition",
        "at",
        "earliest",
        "latest",
        "censored",
        "drift_after_per_second",
        "peak",
        "peak_lag_messages",
    ]
    found_frame = pd.DataFrame(rows, columns=columns)
    return found_frame.sort_values(["at", "group", "topic", "partition"], ignore_index=True)


def _onset(lag: Array, produced: Array, times: pd.DatetimeIndex) -> Onset | None:
    known = np.flatnonzero(~np.isnan(lag))
    if len(known) < 2 * SHORTEST_PIECE:
        return None
    lag, produced, times = lag[known], produced[known], times[known]
    fresh = _refreshed(lag, produced)
    fresh = fresh[:: -(-len(fresh) // MOST_SAMPLES)]
    lag, produced, times = lag[fresh], produced[fresh], times[fresh]
    if len(lag) < 2 * SHORTEST_PIECE:
        return None
    micros = times.as_unit("us").asi8
    clock = (micros - micros[0]) / 1e6

    noise = _noise(lag)
    span = clock[-1] - clock[0]
    production = np.nanmax(produced) - np.nanmin(produced) if not np.isnan(produced).all() else 0.0
    material = max(SMALLEST_GROWTH, NOISE_GROWTH * noise, production / span * CAUGHT_UP_SECONDS)
    floor = float(np.quantile(lag, 0.05))
    peak = int(np.argmax(lag))
    growth = float(lag[peak] - lag[: peak + 1].min())

    if growth < max(SMALLEST_GROWTH, NOISE_GROWTH * noise):
        present = lag[0] > material
        later = _after_recovery(lag, floor, material) if present else None
        if later is None:
            return _since_the_start(lag, clock, times, peak) if present else None
        return _shifted(lag, produced, times, later)
    if _teeth(lag) >= TEETH:
        return None
    if lag[0] > material and growth < STANDING * lag[0]:
        return _since_the_start(lag, clock, times, peak)

    scale = max(noise, 1.0, 1e-3 * float(np.ptp(lag)))
    pieces = _straight_pieces(clock, lag / scale)
    index = _first_piece(clock, lag, pieces, peak, max(SMALLEST_GROWTH, NOISE_GROWTH * noise))
    if index == 0:
        later = _after_recovery(lag, floor, material)
        if later is not None and later > peak:
            return _shifted(lag, produced, times, later)
        return _since_the_start(lag, clock, times, peak)

    left, boundary = pieces[index - 1], pieces[index]
    right = pieces[index + 1] if index + 1 < len(pieces) else len(lag)
    low, high = _profile(clock, lag / scale, left, boundary, max(right, boundary + 1))
    # a first small step up can hide in the quiet piece: the interval starts before it
    quiet = np.flatnonzero(
        lag[left:low] <= np.median(lag[left:boundary]) + max(SMALLEST_GROWTH, NOISE_GROWTH * noise)
    )
    low = left + int(quiet[-1]) + 1 if len(quiet) else low
    slope0, intercept0 = _line(clock, lag, left, boundary)
    slope1, intercept1 = _line(clock, lag, boundary, right)
    latest = clock[min(high, len(lag) - 1)]
    at = clock[boundary - 1]
    if slope1 > slope0:
        crossing = (intercept0 - intercept1) / (slope1 - slope0)
        at = float(np.clip(crossing, clock[max(low - 1, 0)], latest))
    after = (lag[peak] - (intercept0 + slope0 * at)) / max(clock[peak] - at, 1e-6)
    moment = times[0] + pd.to_timedelta(round(at * 1e6), unit="us")
    return Onset(
        at=moment,
        earliest=min(times[max(low - 1, 0)], moment),
        latest=max(times[min(high, len(lag) - 1)], moment),
        drift_before_per_second=float(slope0),
        drift_after_per_second=float(after),
        peak=times[peak],
        peak_lag_messages=float(lag[peak]),
    )


def _refreshed(lag: Array, produced: Array) -> Array:
    """Return the rows at which the exporter showed something new; all rows unless a staircase."""
    signal = lag if np.isnan(produced).any() else produced
    rows = np.arange(len(lag))
    steps = refresh_steps(signal, np.zeros(len(lag), dtype=np.int64), rows)
    if steps == 1:
        return rows
    moved = (np.diff(lag, prepend=np.nan) != 0) | (np.diff(signal, prepend=np.nan) != 0)
    last = np.maximum.accumulate(np.where(moved, rows, 0))
    # a quiet stretch still gets a row per refresh
    return np.asarray(rows[moved | ((rows - last) % steps == 0)])


def _first_piece(clock: Array, lag: Array, pieces: Array, peak: int, small: float) -> int:
    """Walk back from the piece of the peak to the first one of its rise; 0: it began before."""
    base = float(lag[: peak + 1].min())
    growth = float(lag[peak]) - base
    level = base + max(LEVEL * growth, small)
    index = int(np.searchsorted(pieces, peak, side="right")) - 1
    lowest = float(lag[pieces[index] : peak + 1].min())
    while index > 0:
        begin, stop = pieces[index - 1], pieces[index]
        slope, intercept = _line(clock, lag, begin, stop)
        rise = slope * (clock[stop - 1] - clock[begin])
        finish = intercept + slope * clock[stop - 1]
        growing = rise > max(small / 2, 0.02 * growth)
        if finish <= level and not growing:
            break
        fell = finish - lowest
        if (lowest <= level and fell > level - base) or fell > DRAWDOWN * growth:
            break
        index -= 1
        lowest = min(lowest, float(lag[begin:stop].min()))
    return index


def _noise(lag: Array) -> float:
    """Return the sampling noise in messages, from second differences: blind to any slope."""
    bend = lag[2:] - 2 * lag[1:-1] + lag[:-2]
    median = np.median(np.abs(bend - np.median(bend)))
    return float(1.4826 * median / np.sqrt(6.0))


def _teeth(lag: Array) -> int:
    """Count rises from the lowest to the highest quarter of the range."""
    low, high = lag.min() + 0.25 * np.ptp(lag), lag.min() + 0.75 * np.ptp(lag)
    side = np.where(lag <= low, -1, np.where(lag >= high, 1, 0))
    side = side[side != 0]
    return int(((side[1:] == 1) & (side[:-1] == -1)).sum())


def _after_recovery(lag: Array, floor: float, material: float) -> int | None:
    """Return where lag that was there at the start was gone, if a new rise followed; else None."""
    height = lag[0] - floor
    gone = np.flatnonzero(lag <= floor + 0.1 * height)
    if height < material or not len(gone):
        return None
    rest = lag[gone[0] :]
    grew = rest.max() - rest[0] >= STANDING * height
    return int(gone[0]) if grew and len(rest) >= 2 * SHORTEST_PIECE else None


def _shifted(lag: Array, produced: Array, times: pd.DatetimeIndex, begin: int) -> Onset | None:
    return _onset(lag[begin:], produced[begin:], times[begin:])


def _since_the_start(lag: Array, clock: Array, times: pd.DatetimeIndex, peak: int) -> Onset:
    seconds = clock[peak] - clock[0]
    return Onset(
        at=times[0],
        earliest=times[0],
        latest=times[0],
        drift_before_per_second=float("nan"),
        drift_after_per_second=float((lag[peak] - lag[0]) / seconds) if seconds else float("nan"),
        peak=times[peak],
        peak_lag_messages=float(lag[peak]),
        censored=True,
    )


@dataclass(frozen=True, slots=True)
class _Sums:
    """Running sums from which the residual of any straight piece follows in O(1)."""

    n: Array
    t: Array
    y: Array
    tt: Array
    ty: Array
    yy: Array

    @classmethod
    def of(cls, clock: Array, values: Array) -> _Sums:
        t = (clock - clock.mean()) / max(float(np.ptp(clock)), 1e-9)
        y = values - values.mean()
        total = [
            np.concatenate(([0.0], np.cumsum(x)))
            for x in (np.ones(len(t)), t, y, t * t, t * y, y * y)
        ]
        return cls(*total)

    def cost(self, begin: Array | int, stop: Array | int) -> Array:
        """Squared residual of the best line through samples begin..stop-1."""
        n = np.maximum(self.n[stop] - self.n[begin], 1.0)
        t, y = self.t[stop] - self.t[begin], self.y[stop] - self.y[begin]
        tt = self.tt[stop] - self.tt[begin] - t * t / n
        ty = self.ty[stop] - self.ty[begin] - t * y / n
        yy = self.yy[stop] - self.yy[begin] - y * y / n
        explained = np.where(tt > 1e-15, ty * ty / np.maximum(tt, 1e-15), 0.0)
        return np.asarray(np.maximum(yy - explained, 0.0))


def _straight_pieces(clock: Array, values: Array) -> Array:
    """Return where the pieces begin that best trade fit against number (optimal partitioning)."""
    n = len(values)
    sums = _Sums.of(clock, values)
    penalty = PENALTY * np.log(n)
    best = np.full(n + 1, np.inf)
    best[0] = -penalty
    origin = np.zeros(n + 1, dtype=np.int64)
    for stop in range(SHORTEST_PIECE, n + 1):
        begins = np.arange(0, stop - SHORTEST_PIECE + 1)
        cost = best[begins] + sums.cost(begins, stop) + penalty
        origin[stop] = begin = int(np.argmin(cost))
        best[stop] = cost[begin]
    cuts = []
    stop = n
    while stop > 0:
        stop = int(origin[stop])
        cuts.append(stop)
    return np.array(cuts[::-1], dtype=np.int64)


def _line(clock: Array, values: Array, begin: int, stop: int) -> tuple[float, float]:
    t, y = clock[begin:stop], values[begin:stop]
    spread = float(((t - t.mean()) ** 2).sum())
    slope = float(((t - t.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else 0.0
    return slope, float(y.mean() - slope * t.mean())


def _profile(clock: Array, values: Array, left: int, boundary: int, right: int) -> tuple[int, int]:
    """Return the first and last boundary about as good as *boundary* (likelihood ratio, 95 %)."""
    sums = _Sums.of(clock, values)
    inside = np.arange(left + 1, right)
    cost = sums.cost(np.full(len(inside), left), inside) + sums.cost(inside, right)
    at = cost[inside == boundary][0] if (inside == boundary).any() else cost.min()
    good = inside[cost <= at + CHI2_95]
    return int(min(good.min(), boundary)), int(max(good.max(), boundary))


@dataclass(frozen=True, slots=True)
class FlowShares:
    """What the growth of the lag is made of, in messages and as shares of the growth.

    spike + deficit + imbalance = growth, exactly (causes.md 3.2). Baselines and means are
    messages per second. NaN where there is no baseline to compare with.
    """

    spike_messages: float
    deficit_messages: float
    imbalance_messages: float
    growth_messages: float
    spike_share: float
    deficit_share: float
    produce_baseline: float
    consume_baseline: float
    produce_now: float
    consume_now: float


def shares(
    flow: pd.DataFrame,
    begin: Onset,
    *,
    until: pd.Timestamp | None = None,
    baseline: tuple[float, float] | None = None,
) -> FlowShares:
    """Return how much of the growth is extra production and how much is missing consumption.

    Parameters
    ----------
    flow
        From :func:`lagkit.flow.group_flow`.
    begin
        The onset; growth is counted from the last sample not after it.
    until
        End of the count; by default the peak of the lag.
    baseline
        Produce and consume rate (messages/s) to compare with; by default the means over the
        samples before ``begin.earliest``, as far back as no older backlog was being worked off.

    Formula: growth = sum(P - P0) + sum(C0 - C) + (P0 - C0) T (causes.md 3.2), exact in the
    sampled totals. Without a baseline (censored onset) all but the present rates are NaN.
    """
    flow = flow.dropna(subset=["log_end_sum", "committed_sum"])
    nan = float("nan")
    if len(flow) < 2:
        return FlowShares(*([nan] * 10))
    index = pd.DatetimeIndex(flow.index)
    end = flow["log_end_sum"].to_numpy(dtype="float64")
    committed = flow["committed_sum"].to_numpy(dtype="float64")
    micros = index.as_unit("us").asi8
    clock = (micros - micros[0]) / 1e6
    first = max(int(index.searchsorted(begin.at, side="right")) - 1, 0)
    last = int(index.searchsorted(begin.peak if until is None else until, side="right")) - 1
    last = max(last, min(first + 1, len(flow) - 1))
    seconds = clock[last] - clock[first]
    produced, consumed = end[last] - end[first], committed[last] - committed[first]
    if baseline is None:
        quiet = int(index.searchsorted(begin.earliest, side="right")) - 1
        if begin.censored or quiet < 1:
            baseline = nan, nan
        else:
            lag = end - committed
            high = lag[first] + BASELINE_LAG * max(produced - consumed, 0.0)
            above = np.flatnonzero(lag[: quiet + 1] > high)
            begun = int(above[-1]) + 1 if len(above) and quiet - above[-1] > SHORTEST_PIECE else 0
            length = clock[quiet] - clock[begun]
            baseline = (
                (end[quiet] - end[begun]) / length,
                (committed[quiet] - committed[begun]) / length,
            )
    produce, consume = baseline
    growth = produced - consumed
    spike, deficit = produced - produce * seconds, consume * seconds - consumed
    return FlowShares(
        spike_messages=float(spike),
        deficit_messages=float(deficit),
        imbalance_messages=float((produce - consume) * seconds),
        growth_messages=float(growth),
        spike_share=float(spike / growth) if growth > 0 else nan,
        deficit_share=float(deficit / growth) if growth > 0 else nan,
        produce_baseline=float(produce),
        consume_baseline=float(consume),
        produce_now=float(produced / seconds) if seconds > 0 else nan,
        consume_now=float(consumed / seconds) if seconds > 0 else nan,
    )

"""Where the backlog goes: catch-up time, loss deadline, and what the delay has cost so far.

Forecasts hold only if nothing changes, and say so by being intervals: of several partitions the
slowest counts, and what is not draining is never, not a large number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lagkit.flow.growth import CAUGHT_UP_SECONDS
from lagkit.flow.offsets import (
    Array,
    Curves,
    Layout,
    blocks_of_series,
    curves,
    layout,
    numbers,
    scrape_step,
)
from lagkit.flow.timelag import time_lag

TREND_SECONDS = 600.0
"""History the present trend is read from: lag.md 2.2's fixed window."""
RESAMPLES = 400
"""Bootstrap resamples: the 95 % bounds are then the 10th from each end."""
GROWING_SECONDS = 10.0
"""Production of this long may be unread between a commit and a scrape, growing or not."""
SLOWEST = 1e-6
"""Messages per second below which a drain is rounding: one message in eleven days."""
FEWEST_STEPS = 4
"""Steps of lag below which a trend has no interval."""


@dataclass(frozen=True, slots=True)
class Drain:
    """How fast the backlog shrinks, and in how many seconds it is gone (inf: not at this rate).

    ``net_per_second`` is the sum over partitions (messages/s; negative: growing). ``low``,
    ``mid``, ``high`` are the maxima over the partitions of the optimistic, central and
    pessimistic 95 % time; all 0 when nothing is unread, NaN when nothing is known.
    ``partitions`` has one row per partition: group, topic, partition, lag_messages,
    net_per_second, net_low, net_high, low_seconds, mid_seconds, high_seconds, caught_up.
    """

    net_per_second: float
    low_seconds: float
    mid_seconds: float
    high_seconds: float
    worst_partition: tuple[str, int] | None
    partitions: pd.DataFrame


def drain(
    cleaned: pd.DataFrame,
    *,
    end: pd.Timestamp,
    seed: int = 0,
    window_seconds: float = TREND_SECONDS,
    since: pd.Timestamp | None = None,
) -> Drain:
    """Return when each partition, and so the group, will have caught up (lag.md 2.6).

    Parameters
    ----------
    cleaned
        From :func:`lagkit.flow.clean_offsets`.
    end
        Now: later samples are ignored, the trend is read from the *window_seconds* before.
    seed
        Of the moving-block bootstrap that gives the 95 % interval; same seed, same bytes.
    since
        Read the trend from here at the earliest, e.g. from the peak of the lag: what was before
        a known turn says nothing about now. Ignored if fewer than five samples remain.

    A partition with less unread than a minute of its production has caught up. Where even the
    upper bound of the net drain is not positive, all three times are infinite.
    """
    end = pd.Timestamp(end)
    begin = end - pd.to_timedelta(window_seconds, unit="s")
    recent = _between(cleaned, begin, end)
    if since is not None and pd.Timestamp(since) > begin:
        turned = _between(recent, pd.Timestamp(since), end)
        recent = turned if turned["timestamp"].nunique() > FEWEST_STEPS else recent
    where = layout(recent)
    lag = np.full(len(where.keys), np.nan)
    net, net_low, net_high = lag.copy(), lag.copy(), lag.copy()
    produce = np.zeros(len(where.keys))
    clock = where.clock
    random = np.random.default_rng(seed)
    for members in blocks_of_series(where):
        part = curves(recent, where, members)
        lag[members] = part.lag[-1]
        span = clock[-1] - clock[0]
        if len(clock) <= FEWEST_STEPS or not span > 0:
            continue
        produce[members] = np.nan_to_num((part.end[-1] - part.end[0]) / span)
        net[members], net_low[members], net_high[members] = _trend(part.lag, clock, random)
    settled = lag <= np.maximum(1.0, produce * CAUGHT_UP_SECONDS)
    # a burst makes a minute of production a large backlog: one that surely grows has not caught up
    settled &= ~((net_high < -SLOWEST) & (lag > produce * GROWING_SECONDS))
    with np.errstate(divide="ignore", invalid="ignore"):
        mid, low, high = (
            np.where(settled, 0.0, np.where(speed > SLOWEST, lag / speed, np.inf))
            for speed in (net, net_high, net_low)
        )
    never = ~settled & ~(net_high > SLOWEST)
    mid = np.where(never, np.inf, mid)
    for times in (low, mid, high):
        times[np.isnan(lag) | (np.isnan(net) & ~settled)] = np.nan
    frame = where.keys.assign(
        lag_messages=lag,
        net_per_second=net,
        net_low=net_low,
        net_high=net_high,
        low_seconds=low,
        mid_seconds=mid,
        high_seconds=high,
        caught_up=settled,
    )
    known = ~np.isnan(mid)
    if not known.any():
        nan = float("nan")
        return Drain(nan, nan, nan, nan, None, frame)
    # the slowest by central time; among equals (inf) the one with most to read
    rank = np.lexsort((np.where(known, lag, -1.0), np.where(known, mid, -1.0)))
    worst = where.keys.iloc[int(rank[-1])]
    return Drain(
        net_per_second=float(np.nansum(net)) if (~np.isnan(net)).any() else float("nan"),
        low_seconds=float(np.nanmax(low)),
        mid_seconds=float(np.nanmax(mid)),
        high_seconds=float(np.nanmax(high)),
        worst_partition=(str(worst["topic"]), int(worst["partition"])),
        partitions=frame,
    )


def _between(frame: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    at = frame["timestamp"]
    return frame[(at >= start) & (at <= end)].reset_index(drop=True)


def _trend(lag: Array, clock: Array, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Net drain per second of each column, with the 95 % bounds of a moving-block bootstrap."""
    steps = -np.diff(lag, axis=0)
    seconds = np.diff(clock)
    n = len(steps)
    # blocks of about sqrt(n) keep the sawtooth of commits and refreshes inside
    block = max(1, round(np.sqrt(n)))
    fall = np.vstack((np.zeros((1, lag.shape[1])), np.cumsum(steps, axis=0)))
    time = np.concatenate(([0.0], np.cumsum(seconds)))
    sums, lengths = fall[block:] - fall[:-block], time[block:] - time[:-block]
    chosen = random.integers(0, len(sums), size=(RESAMPLES, -(-n // block)))
    speeds = np.empty((RESAMPLES, lag.shape[1]))
    for number, blocks in enumerate(chosen):
        speeds[number] = sums[blocks].sum(axis=0) / lengths[blocks].sum()
    low, high = np.quantile(speeds, [0.025, 0.975], axis=0)
    net = fall[-1] / time[-1]
    return net, np.minimum(low, net), np.maximum(high, net)


@dataclass(frozen=True, slots=True)
class LossDeadline:
    """When the first unread record will be deleted, at the earliest.

    ``rule`` is "time" (retention.ms), "log_start" (the log start advances on the unread
    records), or "lost" when the only thing known is that records are already gone. ``at`` is None
    for "lost". ``already_lost`` counts messages over all partitions. ``at_most``: the age behind
    it is censored, so it may be sooner.
    """

    at: pd.Timestamp | None
    rule: str
    topic: str
    partition: int
    already_lost: float
    at_most: bool = False


def loss_deadline(
    cleaned: pd.DataFrame, *, retention_ms: float | None, end: pd.Timestamp
) -> LossDeadline | None:
    """Return the earliest time at which retention deletes a record nobody has read.

    Parameters
    ----------
    cleaned
        From :func:`lagkit.flow.clean_offsets`.
    retention_ms
        ``retention.ms`` of the topic; None or negative: no time rule.
    end
        Now; later samples are ignored.

    Time rule: (R - A) / (1 - mu / lambda_head), A the age of the oldest unread record, lambda_head
    the production when that record was written, mu the consumption now (report.md 3.2). Log-start
    rule: (committed - start) / (advance of start - mu). Kafka deletes whole closed segments, so
    real deletion comes later; deletion by size or disk pressure may come sooner and is not seen
    here unless it moves the log start. None if no partition is heading for loss.
    """
    end = pd.Timestamp(end)
    seen = cleaned[cleaned["timestamp"] <= end].reset_index(drop=True)
    if seen.empty:
        return None
    where = layout(seen)
    first = np.flatnonzero(np.diff(where.series, prepend=-1))
    ages = time_lag(seen)
    age_rows = ages["time_lag_seconds"].to_numpy()
    censored_rows = ages["censored"].to_numpy()
    tail = _last_known(age_rows, where.series, len(where.keys))
    age = np.where(tail >= 0, age_rows[tail], np.nan)
    censored = np.where(tail >= 0, censored_rows[tail], False)

    log_end = numbers(seen, "log_end_offset", where.order)
    committed = numbers(seen, "committed_offset", where.order)
    start = numbers(seen, "log_start_offset", where.order)
    now = where.clock[-1]
    consume = _slope(committed, where, now - TREND_SECONDS, now)
    retained = now - np.where(np.isnan(age), 0.0, age)
    head = _slope_around(log_end, where, retained)
    advance = _slope(start, where, where.clock[0], now)
    last_committed, last_start = _last(committed, where), _last(start, where)
    missing = np.fmax(last_start - last_committed, 0.0)
    lost = float(np.nansum(missing))

    seconds = np.full((2, len(first)), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        if retention_ms is not None and retention_ms >= 0:
            slope = np.where(head > 0, 1.0 - consume / head, np.nan)
            # nothing read: the head ages a second per second, whatever was produced then
            slope = np.where(np.nan_to_num(consume, nan=0.0) <= 0, 1.0, slope)
            by_time = np.maximum(retention_ms / 1000.0 - age, 0.0) / slope
            seconds[0] = np.where((slope > 0) & (age > 0), by_time, np.inf)
        closing = advance - np.nan_to_num(consume, nan=0.0)
        by_start = np.maximum(last_committed - last_start, 0.0) / closing
        seconds[1] = np.where((advance > 0) & (closing > 0) & (age > 0), by_start, np.inf)
    seconds = np.where(np.isnan(seconds), np.inf, seconds)
    rule, worst = np.unravel_index(int(np.argmin(seconds)), seconds.shape)
    soonest = float(seconds[rule, worst])
    if np.isinf(soonest):
        if not lost:
            return None
        key = where.keys.iloc[int(np.nanargmax(missing))]
        return LossDeadline(None, "lost", str(key["topic"]), int(key["partition"]), lost)
    key = where.keys.iloc[int(worst)]
    return LossDeadline(
        at=end + pd.to_timedelta(round(soonest * 1e6), unit="us"),
        rule=("time", "log_start")[int(rule)],
        topic=str(key["topic"]),
        partition=int(key["partition"]),
        already_lost=lost,
        at_most=bool(rule == 0 and censored[int(worst)]),
    )


def _last_known(values: Array, series: Array, count: int) -> Array:
    """Row of the last known value per series; -1 if none."""
    last = np.full(count, -1, dtype=np.int64)
    rows = np.flatnonzero(~np.isnan(values))
    np.maximum.at(last, series[rows], rows)
    return last


def _last(values: Array, where: Layout) -> Array:
    row = _last_known(values, where.series, len(where.keys))
    return np.where(row >= 0, values[row], np.nan)


def _slope(values: Array, where: Layout, begin: float, stop: float) -> Array:
    """Change per second of each series between two times; NaN below two known values."""
    count = len(where.keys)
    rows = np.flatnonzero(~np.isnan(values) & (where.seconds >= begin) & (where.seconds <= stop))
    low, high = np.full(count, len(values)), np.full(count, -1)
    np.minimum.at(low, where.series[rows], rows)
    np.maximum.at(high, where.series[rows], rows)
    usable = high > low
    a, b = np.where(usable, low, 0), np.where(usable, high, 0)
    span = where.seconds[b] - where.seconds[a]
    return np.where(usable, (values[b] - values[a]) / np.where(usable, span, 1.0), np.nan)


def _slope_around(values: Array, where: Layout, at: Array) -> Array:
    """Change per second of each series in the TREND_SECONDS after its own time *at*."""
    begin = at[where.series]
    inside = (where.seconds >= begin - 1e-6) & (where.seconds <= begin + TREND_SECONDS)
    return _slope(np.where(inside, values, np.nan), where, -np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class Delay:
    """What the delay cost between two times.

    ``message_seconds`` is the area under the lag, which is the sum of all waits; ``messages_
    delayed`` counts messages that waited longer than the promise, read or not; ages and waits are
    in seconds. NaN where the offsets for it are unknown.
    """

    message_seconds: float
    messages_delayed: float
    max_wait_seconds: float
    mean_wait_seconds: float
    slo_minutes_broken: float
    peak_lag_messages: float
    peak_age_seconds: float
    peak_partition: tuple[str, int] | None
    age_is_at_least: bool = False


def delay_area(
    cleaned: pd.DataFrame, *, start: pd.Timestamp, end: pd.Timestamp, promise_seconds: float
) -> Delay:
    """Return the delay between *start* and *end* (Newell's cumulative curves, report.md 3.3).

    Parameters
    ----------
    cleaned
        From :func:`lagkit.flow.clean_offsets`; samples before *start* help to date old records.
    start, end
        The incident; samples at both ends count.
    promise_seconds
        The promise of the service: a message waiting longer is delayed, a minute in which the
        oldest message waits longer is broken.

    FIFO per partition, linear between samples. A message delivered at *start* already is counted
    from there, so its wait is a lower bound; ``age_is_at_least`` says that an age is censored.
    """
    ages = time_lag(cleaned)
    start, end = pd.Timestamp(start), pd.Timestamp(end)
    inside = _between(cleaned, start, end)
    nan = float("nan")
    if inside.empty:
        return Delay(nan, nan, nan, nan, nan, nan, nan, None)
    where = layout(inside)
    clock = where.clock
    area = delayed = present = 0.0
    total = np.zeros(len(clock))
    known = joint = False
    for members in blocks_of_series(where):
        part = curves(inside, where, members)
        lag = np.nan_to_num(part.lag)
        known |= bool(part.lag_known.any())
        area += float(np.trapezoid(lag, clock, axis=0).sum())
        total += lag.sum(axis=1)
        both = np.asarray(~np.isnan(part.end).all(axis=0))
        if both.any():
            joint = True
            delayed += _delayed(part, both, clock, promise_seconds)
            present += float((part.end[-1, both] - part.committed[0, both]).sum())
    ages = _between(ages, start, end)
    age = ages["time_lag_seconds"].to_numpy()
    top = int(np.nanargmax(age)) if (~np.isnan(age)).any() else None
    oldest = ages.groupby("timestamp")["time_lag_seconds"].max().reindex(where.times)
    broken = oldest.to_numpy() > promise_seconds
    step = scrape_step(inside)
    held = np.diff(clock, append=clock[-1] + (0.0 if np.isnan(step) else step))
    peak_age = float(age[top]) if top is not None else nan
    return Delay(
        message_seconds=area if known else nan,
        messages_delayed=delayed if joint else nan,
        max_wait_seconds=peak_age,
        mean_wait_seconds=area / present if joint and present > 0 else (0.0 if joint else nan),
        slo_minutes_broken=float(held[broken].sum()) / 60.0 if top is not None else nan,
        peak_lag_messages=float(total.max()) if known else nan,
        peak_age_seconds=peak_age,
        peak_partition=None
        if top is None
        else (str(ages["topic"].iloc[top]), int(ages["partition"].iloc[top])),
        age_is_at_least=bool(ages["censored"].iloc[top]) if top is not None else False,
    )


def _delayed(part: Curves, both: Array, clock: Array, promise: float) -> float:
    """Count messages unread *promise* seconds after they came.

    A message that came at time t is number end(t) and still unread then if committed(t + promise)
    is below it. Both curves are straight between samples, so on the union of the sample times and
    the same times moved back by the promise each interval splits at one root.
    """
    reach = clock[-1] - promise
    backlog = part.end[0, both] - _at(part.committed[:, both], clock, np.array([promise]))[0]
    late = float(np.maximum(backlog, 0.0).sum()) if reach >= 0 else 0.0
    moments = np.union1d(clock, clock - promise)
    moments = moments[(moments >= clock[0]) & (moments <= reach)]
    if len(moments) < 2:
        return late
    arrived = _at(part.end[:, both], clock, moments)
    unread = arrived - _at(part.committed[:, both], clock, moments + promise)
    came = np.diff(arrived, axis=0)
    first, second = unread[:-1], unread[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        part_late = np.where(
            (first > 0) & (second > 0),
            1.0,
            np.where(
                (first <= 0) & (second <= 0),
                0.0,
                np.maximum(first, second) / np.abs(second - first),
            ),
        )
    return late + float((came * part_late).sum())


def _at(grid: Array, clock: Array, moments: Array) -> Array:
    """Value of every column at *moments*, linear between samples, held outside."""
    right = np.clip(np.searchsorted(clock, moments, side="right"), 1, max(len(clock) - 1, 1))
    if len(clock) == 1:
        return np.repeat(grid, len(moments), axis=0)
    left = right - 1
    share = np.clip((moments - clock[left]) / (clock[right] - clock[left]), 0.0, 1.0)[:, None]
    return np.asarray(grid[left] * (1 - share) + grid[right] * share)

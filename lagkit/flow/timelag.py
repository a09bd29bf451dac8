"""Time lag: how long the oldest unread record of a partition has been waiting.

Reads the age off the partition's own log-end history (T5 of lag.md 2.5): the record at the
committed offset was written when the log end passed it. What is older than the history is censored
(at least so old), never extrapolated.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lagkit.flow.offsets import KEYS, Array, layout, numbers, segments


def time_lag(cleaned: pd.DataFrame) -> pd.DataFrame:
    """Return the age of the oldest unread record per timestamp and partition.

    Parameters
    ----------
    cleaned
        From :func:`lagkit.flow.clean_offsets`.

    Returns
    -------
    timestamp, group, topic, partition, ``time_lag_seconds`` (float64; 0 when nothing is unread,
    NaN when unknown) and ``censored`` (True: the truth is this or more, the record is older than
    the oldest known log end of its epoch). Right to one scrape interval: the age is
    t - LEO^-1(max(committed, log start)) by linear interpolation between the samples around it,
    and of a flat run of the log end the last timestamp counts, because the record came after it.

    Never negative and never longer than the history of the partition.
    """
    where = layout(cleaned)
    end = numbers(cleaned, "log_end_offset", where.order)
    committed = numbers(cleaned, "committed_offset", where.order)
    start = numbers(cleaned, "log_start_offset", where.order)
    lag = numbers(cleaned, "lag_messages", where.order)
    epoch = np.asarray(cleaned["epoch"].to_numpy(dtype="int64")[where.order])
    segment = segments(where.series, epoch)
    position = np.fmax(committed, start)
    position[np.isnan(committed)] = np.nan

    age = np.full(len(lag), np.nan)
    censored = np.zeros(len(lag), dtype=bool)
    with np.errstate(invalid="ignore"):
        caught_up = (lag == 0) | (position >= end)
        asked = np.flatnonzero(~np.isnan(position) & ~caught_up & (lag > 0))
    age[caught_up] = 0.0

    known = np.flatnonzero(~np.isnan(end))
    if len(known) and len(asked):
        age[asked], censored[asked] = _ages(
            segment[known],
            end[known],
            where.seconds[known],
            segment[asked],
            position[asked],
            where.seconds[asked],
        )
    out = cleaned[["timestamp", *KEYS]].iloc[where.order].reset_index(drop=True)
    return out.assign(time_lag_seconds=age, censored=censored)


def _ages(
    segment: Array, end: Array, at: Array, asked_segment: Array, position: Array, now: Array
) -> tuple[Array, Array]:
    """Invert every log-end series at once.

    The series are laid end to end on one rising axis (each from its own zero), so that one binary
    search serves all of them; offsets stay exact integers far below 2**53.
    """
    first = np.flatnonzero(np.diff(segment, prepend=-1))
    last = np.append(first[1:], len(segment)) - 1
    origin, height = end[first], end[last] - end[first]
    base = np.concatenate(([0.0], np.cumsum(height + 2)[:-1]))
    row = np.searchsorted(segment[first], asked_segment)
    row_safe = np.minimum(row, len(first) - 1)
    found = segment[first][row_safe] == asked_segment
    rank = np.repeat(np.arange(len(first)), last - first + 1)
    axis = base[rank] + (end - origin[rank])

    older = position < origin[row_safe]
    inside = np.clip(position - origin[row_safe], 0.0, height[row_safe] + 1)
    # the last sample at which the log end had not passed the position
    left = np.searchsorted(axis, base[row_safe] + inside, side="right") - 1
    left = np.clip(left, first[row_safe], last[row_safe])
    right = np.minimum(left + 1, last[row_safe])
    rise = end[right] - end[left]
    share = np.where(rise > 0, (position - end[left]) / np.where(rise > 0, rise, 1.0), 0.0)
    written = at[left] + np.clip(share, 0.0, 1.0) * (at[right] - at[left])
    written = np.where(older, at[first][row_safe], written)
    # beyond the newest known log end nothing says when the record came
    unknown = ~found | (position >= end[last][row_safe])
    age = np.where(unknown, np.nan, np.maximum(now - written, 0.0))
    return age, older & ~unknown

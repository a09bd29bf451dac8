"""How long messages waited, and whether any was deleted before it was read.

Newell's cumulative curves read sideways: message number n came when the log end passed n and was
read when the commit passed n. The sum of all waits is the area under the lag, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lagkit.flow.offsets import (
    KEYS,
    Array,
    blocks_of_series,
    curves,
    last_known,
    layout,
    next_known,
)

_HALVINGS = 60
"""Bisections of a quantile: a day to a microsecond takes 37."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits of the messages that lay unread at some time between two instants.

    ``messages`` counts them (those unread at the first instant, and all that came after it),
    ``message_seconds`` adds their waits between the instants up, ``quantiles`` are in the order
    asked for. ``still_waiting`` of them were unread at the second instant, so their waits are
    lower bounds. NaN where the offsets are unknown.
    """

    messages: float
    message_seconds: float
    mean_seconds: float
    quantiles: tuple[float, ...]
    longest_seconds: float
    still_waiting: float


def waits(
    cleaned: pd.DataFrame,
    *,
    start: pd.Timestamp,
    end: pd.Timestamp,
    quantiles: Sequence[float] = (0.95,),
) -> Waits:
    """Return how long messages waited between *start* and *end*.

    Parameters
    ----------
    cleaned
        From :func:`lagkit.flow.clean_offsets`.
    start, end
        What a message waited before *start* or after *end* is not counted.
    quantiles
        Shares of the messages, each from 0 to 1.

    First in, first out per partition, linear between samples (report.md 3.3). What is read again
    after a rewind waited until it was read first.
    """
    nan = float("nan")
    unknown = Waits(nan, nan, nan, tuple(nan for _ in quantiles), nan, nan)
    if cleaned.empty:
        return unknown
    where = layout(cleaned)
    origin = where.times[0]
    begin, stop = ((moment - origin).total_seconds() for moment in (start, end))
    clock = where.clock
    begin, stop = max(begin, clock[0]), min(stop, clock[-1])
    if not stop > begin:
        return unknown
    inside = (clock > begin) & (clock < stop)
    at = np.concatenate(([begin], clock[inside], [stop]))
    pieces, waiting = [], 0.0
    for members in blocks_of_series(where):
        part = curves(cleaned, where, members)
        for column in range(len(members)):
            end_known = part.end[:, column]
            if np.isnan(end_known).any():
                continue
            came = np.maximum.accumulate(np.interp(at, clock, end_known))
            read = np.maximum.accumulate(np.interp(at, clock, part.committed[:, column]))
            pieces.append(_segments(at, came, np.minimum(read, came)))
            waiting += max(0.0, float(came[-1] - read[-1]))
    if not pieces:
        return unknown
    count, low, high = (np.concatenate(values) for values in zip(*pieces, strict=True))
    messages = float(count.sum())
    area = float((count * (low + high) / 2).sum())
    if not messages > 0:
        return Waits(0.0, 0.0, 0.0, tuple(0.0 for _ in quantiles), 0.0, 0.0)
    return Waits(
        messages,
        area,
        area / messages,
        tuple(_quantile(count, low, high, share) for share in quantiles),
        float(np.maximum(low, high).max()),
        waiting,
    )


def _segments(at: Array, came: Array, read: Array) -> tuple[Array, Array, Array]:
    """Return (messages, wait of the first, wait of the last) of each straight piece of one curve.

    Both curves are straight between the message numbers at which either has a sample, so a piece
    is known from two points inside it, where no flat run makes the inverse ambiguous.
    """
    knots = np.union1d(came, read)
    knots = knots[(knots >= read[0]) & (knots <= came[-1])]
    size = np.diff(knots)
    if not len(size):
        none = np.zeros(0)
        return none, none, none
    third, two_thirds = (
        np.interp(number, read, at, left=at[0], right=at[-1])
        - np.interp(number, came, at, left=at[0], right=at[-1])
        for number in (knots[:-1] + size / 3, knots[:-1] + size * 2 / 3)
    )
    first = np.maximum(2 * third - two_thirds, 0.0)
    last = np.maximum(2 * two_thirds - third, 0.0)
    return size, first, last


def _quantile(count: Array, first: Array, last: Array, share: float) -> float:
    """Return the wait that *share* of the messages did not exceed."""
    low, high = np.minimum(first, last), np.maximum(first, last)
    width = high - low
    least, most = 0.0, float(high.max())
    wanted = share * count.sum()
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        part = np.where(
            width > 0,
            np.clip((middle - low) / np.where(width > 0, width, 1.0), 0.0, 1.0),
            middle >= low,
        )
        if (count * part).sum() >= wanted:
            most = middle
        else:
            least = middle
    return most


@dataclass(frozen=True, slots=True)
class DeletedUnread:
    """Messages that retention deleted before the group read them.

    ``proved`` True: so many and no more, 0 included. False: at least so many; ``why`` says what
    the proof lacks.
    """

    messages: float
    proved: bool
    why: str = ""
    partitions: int = 0
    """Of how many partitions these messages were."""


def deleted_unread(samples: pd.DataFrame) -> DeletedUnread:
    """Return how many messages were deleted unread, and whether that is proven.

    Parameters
    ----------
    samples
        timestamp, group, topic, partition, ``committed_offset``, ``log_start_offset`` and, where
        known, ``topic_recreated``; several sources of one partition may be mixed, at different
        times: ValueError if two rows share all four keys.

    Both offsets only grow, so nothing was deleted unread between two samples if the log start of
    the later is no greater than the commit of the earlier; a log start seen once at the end
    proves as much for all that was committed before. What the log start passed is lost; after a
    restart at the log start it stays lost.
    """
    committed, start = (
        samples[name].to_numpy(dtype="float64", na_value=np.nan)
        for name in ("committed_offset", "log_start_offset")
    )
    if not (committed >= 0).any():
        return DeletedUnread(0.0, False, "no committed offset was seen")
    if "topic_recreated" in samples and samples["topic_recreated"].fillna(False).any():
        return DeletedUnread(0.0, False, "a topic was made anew within the window")
    if not (start >= 0).any():
        return DeletedUnread(0.0, False, "no log start was seen")
    told = ~(np.isnan(committed) & np.isnan(start))
    where = layout(samples.loc[told, ["timestamp", *KEYS]])
    committed, start = (
        np.where(values >= 0, values, np.nan)[told][where.order] for values in (committed, start)
    )
    # an offset stays where it was until the next sample says otherwise, and a log start was no
    # greater earlier than where it is seen next
    held, ahead = last_known(committed, where.series), next_known(start, where.series)
    behind = np.nan_to_num(np.clip(start - held, 0, None))
    opens = np.diff(where.series, prepend=-1) != 0
    grown = behind - np.where(opens, 0.0, np.roll(behind, 1))
    lost = float(grown.clip(min=0).sum())
    places = len(np.unique(where.series[behind > 0]))
    closes = np.isnan(start[np.roll(opens, -1)])
    if closes.any():
        blind = f"{int(closes.sum())} of {len(closes)} partitions"
        why = f"the last sample of {blind} has no log start"
        return DeletedUnread(lost, False, why, places)
    reached = np.roll(np.fmax(held, last_known(start, where.series)), 1)
    doubtful = ~opens & (ahead > reached) & ~(behind > 0)
    if doubtful.any():
        partition = where.keys["partition"].iloc[where.series[doubtful.argmax()]]
        why = (
            f"between two samples the log start of partition {int(partition)} passed where "
            "the group had last been seen"
        )
        return DeletedUnread(lost, False, why, places)
    return DeletedUnread(lost, True, partitions=places)

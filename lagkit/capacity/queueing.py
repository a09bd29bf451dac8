"""What a stop does to a queue: how long until it is worked off, and how old a message gets.

Fluid arithmetic on rates that change from hour to hour, per group and topic as one queue: arrivals
are the area under the demand, departures run at capacity while there is a backlog (Newell's curves;
the age of the oldest message is the horizontal gap). For a constant demand λ and capacity μ a stop
of T is worked off after T·λ/(μ−λ) and the oldest message is T old.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lagkit.capacity.courses import Array

STEP_SECONDS = 60.0
LONGEST_DAYS = 14
"""A stop that is not worked off within this is not worked off."""
LONGEST_STOP = 14 * 86400.0
PRECISION = 30.0


@dataclass(frozen=True, slots=True)
class Stop:
    """What becomes of a stop. ``catch_up_seconds``: from the restart on; None: never."""

    stop_seconds: float
    catch_up_seconds: float | None
    oldest_seconds: float
    """The highest age of the oldest unread message; at least, where it never catches up."""
    peak_messages: float


def after_stop(week: Array, capacity: float, seconds: float, *, hour: int) -> Stop:
    """Return what a stop of *seconds*, begun at *hour* of the week, leads to.

    Parameters
    ----------
    week
        Demand in each hour of the week, messages a second, repeated without an end.
    capacity
        Messages a second while there is a backlog.
    """
    count = int(LONGEST_DAYS * 86400 / STEP_SECONDS)
    moments = np.arange(count + 1) * STEP_SECONDS
    at = (hour + (moments[:-1] // 3600).astype("int64")) % len(week)
    arrived = np.concatenate([[0.0], np.cumsum(week[at] * STEP_SECONDS)])
    read = np.maximum(0.0, moments - seconds) * capacity
    backlog = arrived - read
    done = np.flatnonzero((moments > seconds) & (backlog <= 0))
    end = int(done[0]) if len(done) else count
    # between two steps both curves are straight
    caught: float | None = None
    if len(done):
        before, after = backlog[end - 1], backlog[end]
        part = before / (before - after) if before > after else 1.0
        if moments[end - 1] < seconds:  # it began again within this step
            part = 1.0
        caught = max(0.0, float(moments[end - 1] + part * STEP_SECONDS - seconds))
    inside = slice(0, end + 1)
    # when the record that is read next was written: the latest moment with no more arrivals
    written = np.interp(read[inside], arrived, moments)
    written[read[inside] <= 0] = 0.0
    age = moments[inside] - np.minimum(written, moments[inside])
    oldest = max(float(age.max()), seconds if seconds < moments[-1] else float(moments[-1]))
    return Stop(seconds, caught, oldest, float(max(0.0, backlog[inside].max())))


def survivable_stop(
    week: Array, capacity: float, oldest_seconds: float, *, hour: int, usual_age: float = 0.0
) -> float:
    """Return the longest stop from *hour* on after which no message gets *oldest_seconds* old.

    *usual_age* is how old messages are without any stop. 0 where even no stop keeps it.
    """
    room = oldest_seconds - usual_age
    if room <= 0:
        return 0.0
    room = min(room, LONGEST_STOP / 2)
    if capacity > float(week.max()):
        # the age only falls once it reads: dA/dt = 1 − μ/λ < 0
        return room
    if after_stop(week, capacity, 0.0, hour=hour).oldest_seconds > room:
        return 0.0
    low, high = 0.0, room
    while high - low > PRECISION:
        middle = (low + high) / 2
        if after_stop(week, capacity, middle, hour=hour).oldest_seconds <= room:
            low = middle
        else:
            high = middle
    return low


def catch_up_per_stopped(utilisation: float) -> float | None:
    """Return seconds of catching up per second stopped, ρ/(1−ρ); None: it never catches up."""
    return utilisation / (1.0 - utilisation) if 0 <= utilisation < 1 else None

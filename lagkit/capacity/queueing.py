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
    # both curves are straight between the hours, and everything happens at one of their corners
    hours = np.arange(LONGEST_DAYS * 24 + 1) * 3600.0
    rates = np.tile(week, LONGEST_DAYS * 24 // len(week) + 2)[hour : hour + len(hours) - 1]
    arrivals = np.concatenate([[0.0], np.cumsum(rates * 3600.0)])
    corners = np.union1d(hours, [min(seconds, hours[-1])])
    arrived = np.interp(corners, hours, arrivals)
    backlog = arrived - np.maximum(0.0, corners - seconds) * capacity
    done = np.flatnonzero((corners > seconds) & (backlog <= 0))
    caught: float | None = None
    end = hours[-1]
    if len(done):
        last = int(done[0])
        before, after = backlog[last - 1], backlog[last]
        part = before / (before - after) if before > after else 0.0
        end = float(corners[last - 1] + part * (corners[last] - corners[last - 1]))
        caught = max(0.0, end - seconds)
    # the age of what is read turns only where a curve does: at a corner, or where what was written
    # at a corner is read
    moments = np.concatenate([corners, seconds + arrivals / capacity, [end]])
    moments = moments[(moments >= 0) & (moments <= end)]
    read = np.maximum(0.0, moments - seconds) * capacity
    written = np.minimum(np.interp(read, arrivals, hours), moments)
    oldest = float((moments - written).max())
    inside = np.append(backlog[corners <= end], 0.0)
    return Stop(seconds, caught, oldest, float(max(0.0, inside.max())))


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

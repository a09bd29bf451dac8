"""A stop, its catching up and its oldest message: against the closed form and a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from lagkit.capacity.queueing import after_stop, catch_up_per_stopped, survivable_stop

FLAT = np.full(168, 60.0)


@pytest.mark.parametrize("seconds", [600.0, 3600.0, 7200.0])
@pytest.mark.parametrize("capacity", [75.0, 100.0, 600.0])
def test_a_stop_under_constant_demand_is_worked_off_as_the_formula_says(seconds, capacity):
    stop = after_stop(FLAT, capacity, seconds, hour=5)
    assert stop.catch_up_seconds == pytest.approx(seconds * 60 / (capacity - 60), abs=1)
    assert stop.oldest_seconds == pytest.approx(seconds, abs=60)
    assert stop.peak_messages == pytest.approx(60 * seconds, rel=0.02)


@pytest.mark.parametrize(("share", "minutes"), [(0.5, 1.0), (0.7, 2.333), (0.8, 4.0), (0.9, 9.0)])
def test_catching_up_takes_so_much_per_stopped_minute(share, minutes):
    assert catch_up_per_stopped(share) == pytest.approx(minutes, abs=0.001)
    stop = after_stop(np.full(168, 100 * share), 100.0, 3600.0, hour=0)
    assert stop.catch_up_seconds == pytest.approx(minutes * 3600, abs=2)


@pytest.mark.parametrize("capacity", [60.0, 40.0])
def test_without_headroom_it_never_catches_up(capacity):
    assert after_stop(FLAT, capacity, 600.0, hour=0).catch_up_seconds is None
    assert catch_up_per_stopped(60 / capacity) is None


def test_above_capacity_the_oldest_message_ages_until_the_demand_falls():
    """Checked against a simulation in steps of ten seconds."""
    week = np.full(168, 40.0)
    week[10:14] = 200.0
    stop = after_stop(week, 100.0, 1800.0, hour=10)
    step, written, age = 10.0, [], 0.0
    read = 0.0
    arrived = np.cumsum(np.repeat(week[(10 + np.arange(20)) % 168], 360) * step)
    for tick in range(len(arrived)):
        now = (tick + 1) * step
        if now > 1800:
            read = min(read + 100 * step, arrived[tick])
        head = np.searchsorted(arrived, read, side="right") * step
        written.append(head)
        age = max(age, now - head)
    assert stop.oldest_seconds == pytest.approx(age, abs=90)
    assert stop.oldest_seconds > 2 * 1800


def test_with_headroom_at_the_peak_a_stop_survives_as_long_as_the_promise():
    assert survivable_stop(FLAT, 100.0, 60.0, hour=0) == 60.0
    assert survivable_stop(FLAT, 100.0, 3600.0, hour=0, usual_age=600.0) == 3000.0


def test_where_the_peak_is_above_capacity_a_stop_survives_for_less_or_not_at_all():
    week = np.full(168, 40.0)
    week[10] = 110.0
    longest = survivable_stop(week, 100.0, 3600.0, hour=10)
    assert 0 < longest < 3600
    assert after_stop(week, 100.0, longest, hour=10).oldest_seconds <= 3600
    assert after_stop(week, 100.0, longest + 120, hour=10).oldest_seconds > 3600
    assert survivable_stop(np.full(168, 200.0), 100.0, 60.0, hour=0) == 0.0

"""Season, line, back-test and dates, on weeks whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from lagkit.capacity import forecast as fc

from .weeks import HOURS, daily


def hours(weeks):
    return np.arange(weeks * HOURS) % HOURS


def made(weeks=8, growth=0.0, noise=0.05, seed=1):
    rng = np.random.default_rng(seed)
    return daily(weeks, growth=growth) * np.exp(rng.normal(0, noise, weeks * HOURS))


def everything(y):
    return np.ones(len(y), dtype=bool)


@pytest.mark.parametrize("weeks", [0, 1, 2])
def test_less_than_three_full_weeks_is_too_short_and_says_why(weeks):
    y = made(weeks) if weeks else np.array([])
    found = fc.forecast(y, hours(weeks), everything(y))
    assert found.season is None
    assert found.reason.startswith(f"too short: {weeks} full week")


def test_weeks_lost_to_incidents_count_as_missing():
    y, good = made(4), np.ones(4 * HOURS, dtype=bool)
    good[HOURS : 3 * HOURS] = False
    assert fc.forecast(y, hours(4), good).reason.startswith("too short: 2 full weeks")


def test_the_season_is_found_and_the_line_with_it():
    found = fc.forecast(made(growth=0.03), hours(8), everything(made()))
    assert found.shown == "season and line"
    truth = daily(1) / daily(1).mean()
    assert found.season.shares == pytest.approx(truth, rel=0.08)
    assert found.season.peak == pytest.approx(truth.max(), rel=0.04)
    assert found.line.growing
    assert found.line.per_week == pytest.approx(0.03 * daily(1).mean(), rel=0.15)


def test_a_forecast_that_does_no_better_than_last_week_is_not_shown():
    """A demand without noise that repeats itself: nothing beats the same hour a week ago."""
    y = daily(8)
    found = fc.forecast(y, hours(8), everything(y))
    assert found.shown == "naive"
    assert found.back_test.naive_error == 0
    assert not found.line.growing
    assert "no better than the same hour a week ago" in found.reason


def test_constant_demand_gives_no_growth_and_no_warning():
    y = np.full(8 * HOURS, 7.0)
    found = fc.forecast(y, hours(8), everything(y))
    assert not found.line.growing
    assert fc.saturation(found.line, 100.0, 0.02).status == "none"


def test_no_growth_is_seldom_called_growth():
    lines = [
        fc.line_through(100 * np.exp(np.random.default_rng(seed).normal(0, 0.02, 8)))
        for seed in range(400)
    ]
    assert sum(line.growing for line in lines) / len(lines) < 0.05


def test_a_line_covers_its_truth_as_often_as_it_says():
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        levels = 100 + 2.0 * np.arange(8) + rng.normal(0, 1.0, 8)
        line = fc.line_through(levels)
        ahead = np.array(10.0)
        truth = 100 + 2.0 * 17
        inside += abs(line.level(ahead) - truth) <= line.quantile * line.error(ahead)
    assert inside / 300 > 0.93


def test_the_date_lies_between_the_ends_of_the_interval():
    line = fc.Line(100.0, 2.0, (1.0, 0.01, 0.0), 2.0, growing=True)
    found = fc.saturation(line, 140.0, 0.0)
    assert found.status == "range"
    assert found.earliest < 20 < found.latest
    wider = fc.saturation(line, 140.0, 0.05)
    assert wider.earliest < found.earliest
    assert wider.latest > found.latest


def test_above_the_target_already_is_said_and_far_ahead_is_no_date():
    line = fc.Line(100.0, 0.1, (0.01, 0.0, 0.0), 2.0, growing=True)
    assert fc.saturation(line, 90.0, 0.0).status == "passed"
    assert fc.saturation(line, 200.0, 0.0).status == "none"


def test_a_holiday_is_unusual_and_a_lasting_change_is_not():
    y = made(6)
    y[10 * 24 : 11 * 24] *= 0.3
    weekly = hours(6)
    found = fc.unusual_days(y, weekly, everything(y))
    assert np.flatnonzero(found).tolist() == list(range(240, 264))
    y = made(6)
    y[3 * HOURS :] *= 1.6
    assert not fc.unusual_days(y, weekly, everything(y)).any()


def test_a_spike_in_one_week_does_not_move_the_peak():
    y = made(noise=0.03)
    before = fc.season_of(y, hours(8), everything(y))
    y[2 * HOURS + 30] *= 5
    after = fc.season_of(y, hours(8), everything(y))
    assert after.peak == pytest.approx(before.peak, rel=0.03)

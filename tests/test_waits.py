"""Waits against simulated queues in which every single wait is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replayed_queue import moment, offsets, queue

from lagkit import flow as flows

SECONDS = 240


def cleaned(produce: np.ndarray, capacity: np.ndarray, *, backlog: float = 0.0) -> pd.DataFrame:
    end, read = queue(produce, capacity, backlog=backlog)
    seconds = np.arange(len(end))
    return flows.clean_offsets(offsets(seconds, {0: {"end": end, "committed": read}}))


def waits_of(produce: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Return the wait of each message, message by message: came, read, in seconds.

    Both curves are straight within a second; the k-th message is its middle, number k + 1/2.
    """
    end, read = queue(produce, capacity)
    seconds = np.arange(len(end), dtype="float64")
    waits = []
    for number in np.arange(0.5, end[-1], 1.0):
        came = first_at(end, seconds, number)
        gone = first_at(read, seconds, number) if number < read[-1] else seconds[-1]
        waits.append(gone - came)
    return np.array(waits)


def first_at(curve: np.ndarray, seconds: np.ndarray, number: float) -> float:
    """Return when *curve* first reaches *number*: a plain search, nothing of lagkit's."""
    after = next(index for index, value in enumerate(curve) if value >= number)
    if after == 0:
        return float(seconds[0])
    low, high = curve[after - 1], curve[after]
    return float(seconds[after - 1] + (number - low) / (high - low))


counts = st.lists(st.integers(0, 30), min_size=SECONDS // 30, max_size=SECONDS // 30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(came=counts, able=counts)
def test_the_area_under_the_lag_is_the_sum_of_all_waits(came, able):
    produce, capacity = np.repeat(came, 30).astype(float), np.repeat(able, 30).astype(float)
    frame = cleaned(produce, capacity)
    end = moment(len(produce))
    delay = flows.delay_area(frame, start=moment(0), end=end, promise_seconds=60)
    waited = flows.waits(frame, start=moment(0), end=end, quantiles=(0.5, 0.95))
    truth = waits_of(produce, capacity)
    assert delay.message_seconds == pytest.approx(truth.sum(), rel=1e-9, abs=1e-6)
    assert waited.message_seconds == pytest.approx(truth.sum(), rel=1e-9, abs=1e-6)
    assert waited.messages == pytest.approx(len(truth))
    if len(truth):
        assert waited.mean_seconds == pytest.approx(truth.mean(), rel=1e-9, abs=1e-6)
        # a message is half a message wide on either side of the rank
        for share, found in zip((0.5, 0.95), waited.quantiles, strict=True):
            ranks = np.sort(truth)
            place = share * len(truth)
            low = ranks[max(0, int(place) - 2)]
            high = ranks[min(len(ranks) - 1, int(place) + 2)]
            assert low - 1.0 <= found <= high + 1.0


def test_the_worked_example_of_the_reference():
    """Base 10/s, 100/s from 1,800 s to 2,400 s, capacity 20/s: 129,600,000 message-seconds."""
    produce = np.full(8400, 10.0)
    produce[1800:2400] = 100.0
    frame = cleaned(produce, np.full(8400, 20.0))
    waited = flows.waits(frame, start=moment(0), end=moment(8400), quantiles=(0.95, 1.0))
    assert waited.message_seconds == pytest.approx(129_600_000, rel=1e-6)
    assert waited.longest_seconds == pytest.approx(2400, abs=1)
    assert waited.quantiles[0] < waited.quantiles[1] == pytest.approx(2400, abs=1)
    assert waited.still_waiting == 0


def test_what_is_unread_at_the_end_is_counted_as_waiting():
    frame = cleaned(np.full(100, 10.0), np.zeros(100))
    waited = flows.waits(frame, start=moment(0), end=moment(100))
    assert waited.still_waiting == 1000
    assert waited.mean_seconds == pytest.approx(50)


def test_without_offsets_no_wait_is_made_up():
    frame = flows.clean_offsets(offsets([0, 60, 120], {0: {"lag": [5.0, 6.0, 7.0]}}))
    assert np.isnan(flows.waits(frame, start=moment(0), end=moment(120)).messages)
    assert np.isnan(flows.waits(frame.iloc[:0], start=moment(0), end=moment(1)).mean_seconds)


# ── deleted unread ──────────────────────────────────────────────────────────────────────────────


def deleted(committed, start, seconds=(0, 60, 120, 180)):
    size = len(seconds)
    columns = {"end": [1000.0] * size, "committed": committed, "start": start}
    return flows.deleted_unread(flows.clean_offsets(offsets(seconds, {0: columns})))


def test_log_starts_that_stay_behind_prove_that_nothing_was_lost():
    found = deleted([100.0, 200.0, 300.0, 400.0], [50.0, 100.0, 200.0, 300.0])
    assert (found.messages, found.proved) == (0, True)


def test_one_log_start_at_the_end_proves_as_much():
    nan = float("nan")
    found = deleted([100.0, 200.0, 300.0, 400.0], [nan, nan, nan, 90.0])
    assert (found.messages, found.proved) == (0, True)


def test_a_late_log_start_beyond_the_first_commit_proves_nothing():
    nan = float("nan")
    found = deleted([100.0, 200.0, 300.0, 400.0], [nan, nan, nan, 150.0])
    assert (found.messages, found.proved) == (0, False)
    assert "partition 0" in found.why


def test_what_the_log_start_passed_stays_lost_after_the_group_went_on():
    found = deleted([100.0, 100.0, 100.0, 400.0], [50.0, 130.0, 150.0, 150.0])
    assert (found.messages, found.proved) == (50, True)


def test_without_a_log_start_it_cannot_be_told():
    nan = float("nan")
    found = deleted([100.0, 200.0, 300.0, 400.0], [nan] * 4)
    assert (found.proved, found.why) == (False, "no log start was seen")


def test_a_topic_made_anew_proves_nothing():
    columns = {
        "end": [1000.0, 1100.0, 50.0, 90.0],
        "committed": [900.0, 1000.0, 40.0, 80.0],
        "start": [0.0, 0.0, 0.0, 0.0],
    }
    frame = flows.clean_offsets(offsets([0, 60, 120, 180], {0: columns}))
    assert flows.deleted_unread(frame).why == "a topic was made anew within the window"

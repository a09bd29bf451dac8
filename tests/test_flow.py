"""Offset arithmetic on queues whose every wait is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replayed_queue import START, TOPIC, moment, offsets, queue

from lagkit import flow, frames
from lagkit.flow.status import comes_back

SECONDS = np.arange(0, 601, 30)


def one(columns: dict[str, object], seconds: np.ndarray = SECONDS) -> pd.DataFrame:
    return flow.clean_offsets(offsets(seconds, {0: columns}))  # type: ignore[dict-item]


def steady(rate: float = 1.0, *, behind: float = 0.0, origin: float = 1000.0) -> dict[str, object]:
    return {"end": origin + rate * SECONDS, "committed": origin + rate * SECONDS - behind}


def seconds_of(stamp: pd.Timestamp) -> float:
    return (stamp - START).total_seconds()


# --- cleaning -----------------------------------------------------------------------------------


def test_lag_without_commit_is_unknown_not_zero() -> None:
    never = {"end": 50.0 + SECONDS, "committed": np.full(21, -1.0), "lag": np.full(21, -1.0)}
    cleaned = flow.clean_offsets(offsets(SECONDS, {0: steady(behind=5), 1: never}))
    missing = cleaned[cleaned["partition"] == 1]
    assert missing["lag_messages"].isna().all()
    assert missing["no_commit"].all()
    assert not cleaned[cleaned["partition"] == 0]["no_commit"].any()


def test_minus_one_never_enters_a_sum() -> None:
    never = {"end": 50.0 + SECONDS, "committed": np.full(21, -1.0), "lag": np.full(21, -1.0)}
    total = flow.group_flow(
        flow.clean_offsets(offsets(SECONDS, {0: steady(behind=500), 1: never, 2: never}))
    )
    assert (total["lag_messages"] == 500).all()
    assert (total["partitions_known"] == 1).all()
    assert (total["partitions_total"] == 3).all()


def test_a_partition_without_a_row_of_its_own_yet_has_no_commit() -> None:
    late = {"end": 50.0 + SECONDS, "committed": np.where(SECONDS < 300, np.nan, 50.0)}
    cleaned = flow.clean_offsets(offsets(SECONDS, {0: steady(), 1: late}))
    flags = cleaned[cleaned["partition"] == 1]["no_commit"].to_numpy()
    assert flags[:10].all()
    assert not flags[10:].any()


def test_a_commit_missing_from_one_scrape_is_a_gap_not_no_commit() -> None:
    gap = steady()
    committed = np.array(gap["committed"])
    committed[7] = np.nan
    hole = {**gap, "committed": committed}
    cleaned = flow.clean_offsets(offsets(SECONDS, {0: steady(), 1: hole}))
    assert not cleaned["no_commit"].any()
    assert cleaned["lag_messages"].isna().sum() == 1


def test_small_negative_lag_is_clamped_and_kept_raw() -> None:
    cleaned = one(steady(behind=-3))
    assert (cleaned["lag_messages"] == 0).all()
    assert (cleaned["lag_raw"] == -3).all()
    assert cleaned["negative_lag"].all()
    assert not cleaned["log_truncated"].any()


def test_large_negative_lag_is_a_truncated_log() -> None:
    assert one(steady(behind=-5000))["log_truncated"].all()


def test_negative_lag_within_two_intervals_of_production_is_skew() -> None:
    # 100/s at 30 s steps: a read 40 s apart is off by 4,000
    assert not one(steady(100.0, behind=-4000))["log_truncated"].any()


def test_phantom_lag_is_not_consumable() -> None:
    cleaned = one(
        {"end": np.full(21, 900.0), "start": np.full(21, 900.0), "committed": np.full(21, 100.0)}
    )
    assert cleaned["phantom"].all()
    assert (cleaned["lag_messages"] == 800).all()
    assert (cleaned["lag_consumable"] == 0).all()


def test_consumable_lag_is_unknown_without_a_log_start() -> None:
    assert one(steady(behind=5))["lag_consumable"].isna().all()


def test_a_recreated_topic_splits_the_series() -> None:
    end = np.where(SECONDS < 300, 5000.0 + SECONDS, SECONDS - 300.0)
    cleaned = one({"end": end, "committed": end})
    assert cleaned["topic_recreated"].sum() == 1
    assert cleaned["epoch"].tolist() == [0] * 10 + [1] * 11
    assert not cleaned["rewound"].any()


def test_one_stale_reading_of_the_log_end_is_not_a_new_topic() -> None:
    end = 5000.0 + SECONDS
    end[8] -= 40
    cleaned = one({"end": end, "committed": np.full(21, 5000.0)})
    assert not cleaned["topic_recreated"].any()
    assert (cleaned["epoch"] == 0).all()
    assert np.isnan(cleaned["log_end_offset"][8])


def test_a_committed_offset_that_falls_is_a_rewind() -> None:
    committed = np.where(SECONDS < 300, 1000.0 + SECONDS, 700.0 + SECONDS)
    cleaned = one({"end": 1000.0 + SECONDS, "committed": committed})
    assert np.flatnonzero(cleaned["rewound"]).tolist() == [10]


def test_committed_is_derived_where_an_exporter_gives_end_and_lag_only() -> None:
    cleaned = one({"end": 1000.0 + SECONDS, "lag": np.full(21, 7.0)})
    assert (cleaned["committed_offset"] == 993.0 + SECONDS).all()


def test_lag_zero_without_a_log_end_that_was_ahead_is_a_false_zero() -> None:
    end = np.where(SECONDS < 300, 5000.0, np.nan)
    lag = np.where(SECONDS < 300, 1000.0, 0.0)
    cleaned = one({"end": end, "committed": np.full(21, 4000.0), "lag": lag})
    assert cleaned["false_zero"].sum() == 11
    assert cleaned["lag_messages"][10:].isna().all()


def test_an_empty_frame_cleans_to_an_empty_frame() -> None:
    cleaned = flow.clean_offsets(frames.empty("offsets"))
    assert cleaned.empty
    assert {"lag_messages", "epoch", "no_commit"} <= set(cleaned.columns)
    assert flow.time_lag(cleaned).empty
    assert flow.rates(cleaned).empty
    assert flow.group_flow(cleaned).empty
    assert flow.onset(cleaned) is None
    assert flow.partition_status(cleaned).empty
    assert flow.state(flow.group_flow(cleaned), None, None) == "unknown"


def test_two_rows_for_one_sample_are_refused() -> None:
    frame = offsets(SECONDS, {0: steady()})
    with pytest.raises(ValueError, match="share timestamp"):
        flow.clean_offsets(pd.concat([frame, frame.head(1)]))


# --- rates --------------------------------------------------------------------------------------


def test_rates_are_differences_of_known_values() -> None:
    found = flow.rates(one({"end": 10.0 * SECONDS, "committed": 4.0 * SECONDS}))
    assert np.allclose(found["produce_per_second"][1:], 10)
    assert np.allclose(found["consume_per_second"][1:], 4)
    assert found.loc[0, ["produce_per_second", "consume_per_second"]].isna().all()


def test_a_staircase_of_a_slow_exporter_gives_the_true_rate() -> None:
    fine = np.arange(0, 601, 5)
    shown = 10.0 * (fine // 30 * 30)
    found = flow.rates(one({"end": shown, "committed": shown}, fine))
    rate = found["produce_per_second"].dropna()
    assert len(rate) > 100
    assert np.allclose(rate, 10)


def test_a_consumer_that_stops_behind_a_slow_exporter_has_rate_zero_not_unknown() -> None:
    fine = np.arange(0, 1201, 5)
    shown = fine // 30 * 30
    committed = 10.0 * np.minimum(shown, 600)
    found = flow.rates(one({"end": 10.0 * shown, "committed": committed}, fine))
    assert (found["consume_per_second"][-60:] == 0).all()


@pytest.mark.parametrize(
    ("change", "rate"),
    [
        ("gap", "produce_per_second"),
        ("recreated", "produce_per_second"),
        ("rewind", "consume_per_second"),
    ],
)
def test_no_rate_is_taken_across_a_break(change: str, rate: str) -> None:
    end, committed = 1000.0 + SECONDS, 1000.0 + SECONDS
    if change == "gap":
        end[5:10] = np.nan
    elif change == "recreated":
        end[10:] -= 1200
    else:
        committed[10:] -= 500
    found = flow.rates(one({"end": end, "committed": committed}))
    assert np.isnan(found[rate][10])
    assert np.allclose(found[rate][11:], 1)


def test_smoothing_keeps_the_mean() -> None:
    end = np.cumsum(np.tile([0.0, 600.0], 11))[:21]
    found = flow.rates(one({"end": end, "committed": end}), window_seconds=60)
    assert np.allclose(found["produce_per_second"].dropna(), 10)


# --- totals -------------------------------------------------------------------------------------


def test_a_gap_of_one_partition_is_not_a_drop_of_the_total() -> None:
    hole = {
        key: np.where((SECONDS > 200) & (SECONDS < 400), np.nan, value)
        for key, value in steady(2.0, behind=100).items()
    }
    total = flow.group_flow(flow.clean_offsets(offsets(SECONDS, {0: steady(behind=10), 1: hole})))
    assert np.allclose(total["lag_messages"], 110)
    assert (np.diff(total["log_end_sum"]) > 0).all()
    assert total["partitions_known"].min() == 1


def test_a_partition_that_appears_late_is_not_a_jump_of_the_flow() -> None:
    late = {
        key: np.where(SECONDS < 300, np.nan, value)
        for key, value in steady(1.0, behind=9e5, origin=1e6).items()
    }
    total = flow.group_flow(flow.clean_offsets(offsets(SECONDS, {0: steady(), 1: late})))
    net = (total["log_end_sum"] - total["committed_sum"]).diff().dropna()
    assert (net == 0).all()


def test_a_recreated_topic_does_not_lower_the_log_end_sum() -> None:
    end = np.where(SECONDS < 300, 5000.0 + SECONDS, SECONDS - 300.0)
    total = flow.group_flow(one({"end": end, "committed": end}))
    assert (np.diff(total["log_end_sum"]) >= 0).all()
    assert np.allclose(total["lag_messages"], 0)


# --- time lag -----------------------------------------------------------------------------------


def test_nothing_unread_has_age_zero() -> None:
    found = flow.time_lag(one(steady()))
    assert (found["time_lag_seconds"] == 0).all()
    assert not found["censored"].any()


def test_age_is_read_off_the_log_end_history() -> None:
    # 2/s, 120 messages behind: the oldest is a minute old
    found = flow.time_lag(one(steady(2.0, behind=120)))
    assert np.allclose(found["time_lag_seconds"][2:], 60)


def test_age_beyond_the_history_is_censored_not_extrapolated() -> None:
    found = flow.time_lag(one(steady(2.0, behind=1e6, origin=2e6)))
    assert np.allclose(found["time_lag_seconds"], SECONDS)
    assert found["censored"].all()


def test_the_last_moment_of_a_flat_run_counts() -> None:
    # idle until 300 s, then one burst that nobody reads
    end = np.where(SECONDS <= 300, 1000.0, 1600.0)
    found = flow.time_lag(one({"end": end, "committed": np.full(21, 1000.0)}))
    assert found["time_lag_seconds"].tolist()[11:] == [30.0 * n for n in range(1, 11)]


def test_an_idle_topic_does_not_age() -> None:
    found = flow.time_lag(one({"end": np.full(21, 7.0), "committed": np.full(21, 7.0)}))
    assert (found["time_lag_seconds"] == 0).all()


def test_age_is_not_read_across_a_recreated_topic() -> None:
    end = np.where(SECONDS < 300, 5000.0 + SECONDS, SECONDS - 299.0)
    found = flow.time_lag(one({"end": end, "committed": np.where(SECONDS < 300, end, 0.0)}))
    assert (found["time_lag_seconds"] <= np.maximum(SECONDS - 300, 0)).all()


def test_age_of_what_was_deleted_is_that_of_the_oldest_record_left() -> None:
    start = 1000.0 + np.maximum(SECONDS - 60, 0)
    columns = {"end": 1000.0 + SECONDS, "start": start, "committed": np.full(21, 1000.0)}
    found = flow.time_lag(one(columns))
    assert np.allclose(found["time_lag_seconds"][2:], 60)


def test_unknown_lag_has_unknown_age() -> None:
    found = flow.time_lag(one({"end": 1000.0 + SECONDS}))
    assert found["time_lag_seconds"].isna().all()


def test_age_is_within_one_scrape_of_the_truth() -> None:
    random = np.random.default_rng(4)
    produce = random.poisson(np.repeat([5, 50, 0, 8], 900)).astype(float)
    capacity = np.repeat([10.0, 20.0, 20.0, 3.0], 900)
    end, committed = queue(produce, capacity)
    written = np.repeat(np.arange(1, len(end)), np.diff(end).astype(int))
    at = np.arange(0, 3601, 15)
    found = flow.time_lag(one({"end": end[at], "committed": committed[at]}, at))
    behind = committed[at] < end[at]
    truth = at[behind] - written[committed[at][behind].astype(int)]
    error = found["time_lag_seconds"].to_numpy()[behind] - truth
    assert behind.sum() > 100
    assert np.abs(error).max() <= 15


# --- the worked example of delay accounting -----------------------------------------------------


@pytest.fixture(scope="module")
def burst() -> pd.DataFrame:
    """10/s, 100/s from 1800 s to 2400 s, 20/s capacity."""
    produce = np.where((np.arange(9000) >= 1800) & (np.arange(9000) < 2400), 100.0, 10.0)
    end, committed = queue(produce, np.full(9000, 20.0))
    at = np.arange(0, 9001, 30)
    return flow.clean_offsets(offsets(at, {0: {"end": end[at], "committed": committed[at]}}))


@pytest.mark.parametrize(
    ("second", "lag", "age"),
    [
        (2100, 24_000, 240),
        (2400, 48_000, 480),
        (3000, 42_000, 960),
        (3600, 36_000, 1440),
        (4800, 24_000, 2400),
        (6000, 12_000, 1200),
    ],
)
def test_worked_example_lag_and_oldest_age(
    burst: pd.DataFrame, second: int, lag: float, age: float
) -> None:
    row = second // 30
    assert burst["lag_messages"][row] == lag
    assert flow.time_lag(burst)["time_lag_seconds"][row] == pytest.approx(age)


def test_worked_example_delay(burst: pd.DataFrame) -> None:
    delay = flow.delay_area(burst, start=moment(0), end=moment(9000), promise_seconds=60)
    assert delay.message_seconds == pytest.approx(129_600_000)
    assert delay.peak_lag_messages == 48_000
    assert delay.peak_age_seconds == pytest.approx(2400)
    assert delay.max_wait_seconds == pytest.approx(2400)
    assert delay.peak_partition == (TOPIC, 0)
    assert not delay.age_is_at_least
    # all but the first 1,500 of the burst (75 s at 80/s of growth) and the last 60 s of the drain
    assert delay.messages_delayed == pytest.approx(60_000 + 48_000 - 1_500 - 1_200, rel=0.001)


def test_waiting_messages_count_whether_read_or_not() -> None:
    stopped = one({"end": 10.0 * SECONDS, "committed": np.zeros(21)})
    delay = flow.delay_area(stopped, start=moment(0), end=moment(600), promise_seconds=60)
    assert delay.messages_delayed == pytest.approx(10 * 540)
    assert delay.slo_minutes_broken == pytest.approx(9.0, abs=0.51)


def test_a_backlog_from_before_counts_as_waiting_since_the_start() -> None:
    standing = one({"end": np.full(21, 1000.0), "committed": np.zeros(21)})
    delay = flow.delay_area(standing, start=moment(0), end=moment(600), promise_seconds=60)
    assert delay.messages_delayed == 1000
    assert delay.age_is_at_least


def test_delay_without_samples_is_unknown() -> None:
    delay = flow.delay_area(one(steady()), start=moment(5000), end=moment(6000), promise_seconds=60)
    assert math.isnan(delay.message_seconds)
    assert math.isnan(delay.messages_delayed)


# --- onset --------------------------------------------------------------------------------------


def group(
    produce: np.ndarray,
    capacity: np.ndarray,
    *,
    step: int = 15,
    refresh: int = 1,
    seed: int | None = 1,
    backlog: float = 0.0,
    parts: int = 3,
) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    at = np.arange(0, len(produce) + 1, step)
    shown = at // refresh * refresh
    partitions = {}
    for number in range(parts):
        came = produce / parts if seed is None else random.poisson(produce / parts)
        end, committed = queue(came, capacity / parts, backlog=backlog / parts)
        partitions[number] = {"end": end[shown], "committed": committed[shown // 5 * 5]}
    return flow.clean_offsets(offsets(at, partitions))


N = 7200
RATE = np.full(N, 30.0)


def capacity(*pieces: tuple[int, float]) -> np.ndarray:
    out = np.full(N, 60.0)
    for begin, able in pieces:
        out[begin:] = able
    return out


SAMPLING = pytest.mark.parametrize(
    ("step", "refresh"),
    [(15, 1), (30, 1), (5, 30), (10, 15)],
    ids=["15s", "30s", "30s-staircase-at-5s", "15s-staircase-at-10s"],
)
SHAPES = {
    "slower": (RATE, capacity((4000, 10.0)), 4000),
    "stopped": (RATE, capacity((4000, 0.0)), 4000),
    "burst": (np.where(np.arange(N) // 300 == 14, 600.0, 30.0), capacity(), 4200),
    "one instant": (np.where(np.arange(N) == 4000, 20_000.0, 30.0), capacity(), 4000),
    "already drained": (RATE, capacity((2000, 0.0), (3500, 60.0)), 2000),
    "draining": (RATE, capacity((2000, 0.0), (5500, 60.0)), 2000),
    "just now": (RATE, capacity((7080, 0.0)), 7080),
    "quiet topic": (RATE / 100, capacity((4000, 0.0)), 4000),
    "stop and go": (
        RATE,
        np.where(np.arange(N) < 3000, 60.0, 40.0 * (np.arange(N) // 120 % 2)),
        3120,
    ),
}


@SAMPLING
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_onset_is_found_within_a_refresh_and_its_interval_holds_it(
    shape: str, step: int, refresh: int
) -> None:
    produce, able, truth = SHAPES[shape]
    found = flow.onset(group(produce, able, step=step, refresh=refresh))
    assert found is not None
    assert not found.censored
    assert abs(seconds_of(found.at) - truth) <= max(step, refresh) + 5
    assert seconds_of(found.earliest) <= truth <= seconds_of(found.latest)
    assert found.earliest <= found.at <= found.latest
    assert seconds_of(found.latest) - seconds_of(found.earliest) <= 240


@SAMPLING
def test_onset_of_a_slow_leak_is_found_within_two_minutes(step: int, refresh: int) -> None:
    found = flow.onset(group(RATE, capacity((2000, 29.0)), step=step, refresh=refresh))
    assert found is not None
    assert abs(seconds_of(found.at) - 2000) <= 120
    assert found.drift_after_per_second == pytest.approx(1.0, rel=0.1)


@SAMPLING
def test_onset_of_one_frozen_partition_among_many(step: int, refresh: int) -> None:
    at = np.arange(0, N + 1, step)
    shown = at // refresh * refresh
    partitions = {}
    for number in range(6):
        able = capacity((4000, 0.0)) if number == 3 else capacity()
        end, committed = queue(np.full(N, 5.0), able)
        partitions[number] = {"end": end[shown], "committed": committed[shown // 5 * 5]}
    cleaned = flow.clean_offsets(offsets(at, partitions))
    found = flow.onset(cleaned)
    assert found is not None
    assert abs(seconds_of(found.at) - 4000) <= max(step, refresh) + 5
    alone = flow.onset_by_partition(cleaned)
    assert alone["partition"].tolist() == [3]


@pytest.mark.parametrize("period", [60, 600])
def test_a_sawtooth_of_batches_has_no_onset(period: int) -> None:
    able = np.where(np.arange(N) % period == period - 1, 1e9, 0.0)
    assert flow.onset(group(RATE, able)) is None


def test_a_healthy_group_has_no_onset() -> None:
    assert flow.onset(group(RATE, capacity())) is None


@pytest.mark.parametrize("able", [10.0, 30.0], ids=["growing", "standing"])
def test_lag_that_was_there_before_has_a_censored_onset(able: float) -> None:
    found = flow.onset(group(RATE, np.full(N, able), backlog=50_000))
    assert found is not None
    assert found.censored
    assert found.at == START


def test_a_new_rise_after_an_old_backlog_was_worked_off_is_the_onset() -> None:
    found = flow.onset(group(RATE, capacity((5000, 0.0)), backlog=50_000))
    assert found is not None
    assert abs(seconds_of(found.at) - 5000) <= 20


# --- shares -------------------------------------------------------------------------------------


def test_a_spike_is_all_spike() -> None:
    totals = flow.group_flow(group(*SHAPES["burst"][:2], seed=None))
    found = flow.onset(totals)
    assert found is not None
    part = flow.shares(totals, found)
    assert part.spike_share > 0.95
    assert part.deficit_share < 0.05
    assert part.produce_baseline == pytest.approx(30)


def test_a_stopped_consumer_is_all_deficit() -> None:
    totals = flow.group_flow(group(*SHAPES["stopped"][:2], seed=None))
    found = flow.onset(totals)
    assert found is not None
    part = flow.shares(totals, found)
    assert part.deficit_share == pytest.approx(1, abs=0.02)
    assert part.consume_now == pytest.approx(0, abs=0.2)


def test_without_a_baseline_the_shares_are_unknown_but_the_rates_are_not() -> None:
    totals = flow.group_flow(group(RATE, np.full(N, 10.0), backlog=50_000))
    found = flow.onset(totals)
    assert found is not None
    part = flow.shares(totals, found)
    assert math.isnan(part.spike_share)
    assert part.produce_now == pytest.approx(30, rel=0.05)
    assert part.consume_now == pytest.approx(10, rel=0.05)


# --- drain and deadline -------------------------------------------------------------------------


def test_catch_up_is_backlog_over_headroom() -> None:
    cleaned = group(*SHAPES["draining"][:2])
    found = flow.drain(cleaned, end=moment(N))
    lag = flow.group_flow(cleaned)["lag_messages"].iloc[-1]
    assert found.net_per_second == pytest.approx(30, rel=0.05)
    assert found.low_seconds <= found.mid_seconds <= found.high_seconds
    assert found.mid_seconds == pytest.approx(lag / 30, rel=0.1)


def test_one_stuck_partition_makes_the_group_never_done() -> None:
    fine = {"end": 1000.0 + SECONDS, "committed": 100.0 + 2.2 * SECONDS}
    stuck = {"end": 1000.0 + SECONDS, "committed": np.full(21, 100.0)}
    found = flow.drain(flow.clean_offsets(offsets(SECONDS, {0: fine, 1: stuck})), end=moment(600))
    assert math.isinf(found.mid_seconds)
    assert found.worst_partition == (TOPIC, 1)


def test_a_group_that_has_caught_up_has_nothing_to_drain() -> None:
    found = flow.drain(one(steady(behind=3)), end=moment(600))
    assert (found.low_seconds, found.mid_seconds, found.high_seconds) == (0, 0, 0)


def test_same_seed_same_drain() -> None:
    cleaned = group(*SHAPES["draining"][:2])
    first, second = (flow.drain(cleaned, end=moment(N), seed=7) for _ in range(2))
    pd.testing.assert_frame_equal(first.partitions, second.partitions)


def test_since_the_peak_the_trend_is_that_of_the_drain() -> None:
    cleaned = group(RATE, capacity((2000, 0.0), (6900, 60.0)))
    found = flow.onset(cleaned)
    assert found is not None
    blind = flow.drain(cleaned, end=moment(N))
    seeing = flow.drain(cleaned, end=moment(N), since=found.peak)
    assert blind.net_per_second < 5
    assert seeing.net_per_second == pytest.approx(30, rel=0.1)


def test_loss_deadline_of_the_worked_example() -> None:
    # 800/s in, 250/s out, 6 h kept: 8.73 h from the onset
    at = np.arange(0, 7201, 30)
    cleaned = one({"end": 800.0 * at, "committed": 250.0 * at}, at)
    found = flow.loss_deadline(cleaned, retention_ms=6 * 3.6e6, end=moment(7200))
    assert found is not None
    assert found.rule == "time"
    assert seconds_of(found.at) / 3600 == pytest.approx(8.727, abs=0.01)


def test_no_deadline_while_the_age_does_not_grow() -> None:
    assert flow.loss_deadline(one(steady(behind=60)), retention_ms=6e6, end=moment(600)) is None


def test_no_deadline_without_retention() -> None:
    stopped = one({"end": 1.0 * SECONDS, "committed": np.zeros(21)})
    assert flow.loss_deadline(stopped, retention_ms=None, end=moment(600)) is None
    assert flow.loss_deadline(stopped, retention_ms=-1, end=moment(600)) is None


def test_an_advancing_log_start_sets_a_deadline_of_its_own() -> None:
    cleaned = one(
        {"end": 5000.0 + 10 * SECONDS, "start": 2.0 * SECONDS, "committed": np.full(21, 4200.0)}
    )
    found = flow.loss_deadline(cleaned, retention_ms=None, end=moment(600))
    assert found is not None
    assert found.rule == "log_start"
    assert seconds_of(found.at) == pytest.approx(600 + (4200 - 1200) / 2)


def test_records_deleted_unread_are_counted_as_lost() -> None:
    cleaned = one(
        {"end": np.full(21, 9000.0), "start": np.full(21, 4000.0), "committed": np.full(21, 1000.0)}
    )
    found = flow.loss_deadline(cleaned, retention_ms=None, end=moment(600))
    assert found is not None
    assert found.rule == "lost"
    assert found.at is None
    assert found.already_lost == 3000


# --- status and state ---------------------------------------------------------------------------


def status(columns: dict[str, object], **options: object) -> str:
    return str(flow.partition_status(one(columns), **options)["status"][0])  # type: ignore[arg-type]


FROZEN = {"end": 1000.0 + SECONDS, "committed": np.minimum(1000.0 + SECONDS, 1150.0)}


def test_status_of_a_frozen_partition_depends_on_who_is_there() -> None:
    assert status(FROZEN) == "STALL_OR_STOP"
    assert status(FROZEN, members=3) == "STALL"
    assert status(FROZEN, members=0) == "STOP"


def test_a_frozen_partition_says_since_when_and_where() -> None:
    row = flow.partition_status(one(FROZEN)).iloc[0]
    assert row["frozen_since"] == moment(150)
    assert row["last_progress"] == moment(150)
    assert row["committed_offset"] == 1150
    assert row["burrow"] == "STOP"


def test_a_pause_shorter_than_three_commits_is_no_stop() -> None:
    every_two_minutes = 1000.0 + SECONDS // 120 * 120
    assert status({"end": 1030.0 + SECONDS, "committed": every_two_minutes}) == "OK"


def test_an_idle_topic_is_idle() -> None:
    assert status({"end": np.full(21, 7.0), "committed": np.full(21, 7.0)}) == "IDLE"


def test_lag_one_behind_a_transaction_marker_is_idle() -> None:
    assert status({"end": np.full(21, 8.0), "committed": np.full(21, 7.0)}) == "IDLE"


def test_a_record_that_came_just_now_on_an_idle_topic_is_no_stop() -> None:
    end = np.where(SECONDS < 580, 7.0, 12.0)
    assert status({"end": end, "committed": np.full(21, 7.0)}) == "OK"


def test_committed_below_log_start_of_an_empty_topic_is_no_alarm() -> None:
    assert status(
        {"end": np.full(21, 9.0), "start": np.full(21, 9.0), "committed": np.full(21, 2.0)}
    ) not in ("LOST", "SLOW")


def test_committed_below_log_start_with_records_left_is_loss() -> None:
    assert (
        status(
            {
                "end": np.full(21, 9000.0),
                "start": np.full(21, 4000.0),
                "committed": np.full(21, 1000.0),
            }
        )
        == "LOST"
    )


def test_advancing_with_lag_growing_past_the_promise_is_slow() -> None:
    assert status({"end": 10.0 * SECONDS, "committed": 5.0 * SECONDS}) == "SLOW"


def test_growth_that_keeps_the_promise_is_ok() -> None:
    # Burrow warns from 11 to 145 messages; a second of production is no incident
    columns = {"end": 1e5 + 145 * SECONDS, "committed": 1e5 + 145 * SECONDS - 11 - SECONDS / 5}
    assert status(columns) == "OK"


def test_draining_is_not_slow() -> None:
    assert status({"end": 2000.0 + SECONDS, "committed": 3.0 * SECONDS}) == "OK"


def test_an_unrecovered_rewind_shows_and_a_recovered_one_does_not() -> None:
    end = 5000.0 + SECONDS
    fell = np.where(SECONDS < 300, end, 1000.0 + SECONDS)
    back = np.where(SECONDS == 300, 4000.0, end)
    assert status({"end": end, "committed": fell}) == "REWIND"
    assert status({"end": end, "committed": back}) == "OK"


def test_never_committed_is_its_own_status() -> None:
    assert status({"end": 5.0 + SECONDS, "committed": np.full(21, -1.0)}) == "NO_COMMIT"


def test_a_partition_whose_lag_is_not_seen_any_more_is_unknown() -> None:
    columns = {key: np.where(SECONDS > 300, np.nan, value) for key, value in steady().items()}
    assert status(columns) == "UNKNOWN"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("slower", "growing"),
        ("stopped", "growing"),
        ("just now", "growing"),
        ("already drained", "recovered"),
        ("draining", "draining"),
        ("burst", "draining"),
    ],
)
@SAMPLING
def test_state_of_the_group(shape: str, expected: str, step: int, refresh: int) -> None:
    cleaned = group(*SHAPES[shape][:2], step=step, refresh=refresh)
    totals, begin = flow.group_flow(cleaned), flow.onset(cleaned)
    assert flow.state(totals, begin, flow.drain(cleaned, end=moment(N))) == expected


def test_state_of_a_group_that_is_well() -> None:
    cleaned = group(RATE, capacity())
    drained = flow.drain(cleaned, end=moment(N))
    assert flow.state(flow.group_flow(cleaned), None, drained) == "healthy"


@pytest.mark.parametrize(
    ("lag", "known"),
    [
        # committed by the thousand: up, and down at once
        ([20, 20, 300, 600, 150, 400, 700, 100, 350, 600], True),
        # the last tooth is higher than all before it
        ([20, 20, 300, 600, 150, 400, 700, 100, 700, 1400], False),
        # once may be a rebalance that was waited for
        ([20, 20, 300, 600, 150, 300, 400], False),
        # a backlog that is worked off falls in steps
        ([20, 900, 800, 700, 600, 500, 400, 300], False),
        ([np.nan, np.nan], False),
    ],
)
def test_a_saws_tooth_is_known_by_those_it_has_come_back_from(
    lag: list[float], known: bool
) -> None:
    assert comes_back(np.array(lag, dtype="float64")) is known


def test_state_of_a_backlog_that_neither_grows_nor_shrinks() -> None:
    cleaned = group(RATE, np.full(N, 30.0), backlog=50_000, seed=None)
    totals, begin = flow.group_flow(cleaned), flow.onset(cleaned)
    assert flow.state(totals, begin, flow.drain(cleaned, end=moment(N))) == "stalled"


@pytest.mark.parametrize(("seconds_behind", "state"), [(18.0, "stalled"), (8.0, "recovered")])
def test_a_backlog_that_stays_at_its_peak_is_gone_only_if_it_is_young(
    seconds_behind: float, state: str
) -> None:
    seconds = np.arange(0.0, 300.0, 5.0)
    wobble = 0.97 + 0.03 * np.cos(seconds)
    lag = np.clip((seconds - 100.0) / 20.0, 0.02, 1.0) * 50.0 * seconds_behind * wobble
    ends = 50.0 * seconds
    totals = pd.DataFrame(
        {
            "lag_messages": lag,
            "log_end_sum": ends,
            "committed_sum": ends - lag,
            "produce_per_second": 50.0,
        },
        index=pd.DatetimeIndex([moment(float(second)) for second in seconds], name="timestamp"),
    )
    begin = flow.onset(totals)
    assert begin is not None
    assert flow.state(totals, begin, None) == state


def test_state_without_recent_samples_is_unknown() -> None:
    cleaned = one({key: np.where(SECONDS > 300, np.nan, value) for key, value in steady().items()})
    assert flow.state(flow.group_flow(cleaned), None, None) == "unknown"


# --- concentration ------------------------------------------------------------------------------


def spread(lags: list[float]) -> pd.DataFrame:
    return flow.clean_offsets(
        offsets(
            SECONDS,
            {
                n: {"end": 1e6 + SECONDS, "committed": 1e6 + SECONDS - lag}
                for n, lag in enumerate(lags)
            },
        )
    )


@pytest.mark.parametrize("count", [3, 4, 5, 6, 12])
def test_one_hot_partition_is_an_outlier_whatever_their_number(count: int) -> None:
    found = flow.concentration(spread([5000.0] + [10.0 + n for n in range(count - 1)])).partitions
    assert found["lag_outlier"].tolist() == [True] + [False] * (count - 1)
    assert found["lag_share"].sum() == pytest.approx(1)


def test_even_lag_has_no_outlier() -> None:
    found = flow.concentration(spread([100.0, 101, 99, 100, 102, 98])).partitions
    assert not found["lag_outlier"].any()


def test_the_grouping_that_holds_the_lag_explains_it() -> None:
    labels = pd.DataFrame(
        {
            "topic": TOPIC,
            "partition": range(6),
            "member": ["a", "a", "b", "b", "c", "c"],
            "leader": ["1", "2", "3", "1", "2", "3"],
        }
    )
    found = flow.concentration(spread([5, 7, 900, 920, 6, 4]), labels=labels).alignment
    assert found["grouping"].tolist() == ["member", "leader"]
    assert found["explained"][0] > 0.99
    assert found["worst"][0] == "b"
    assert found["explained_adjusted"][1] < 0.2


def test_one_partition_per_label_says_nothing() -> None:
    labels = pd.DataFrame({"topic": TOPIC, "partition": range(3), "member": list("abc")})
    found = flow.concentration(spread([5, 900, 6]), labels=labels).alignment
    assert found["explained"][0] == pytest.approx(1)
    assert math.isnan(found["explained_adjusted"][0])


# --- properties ---------------------------------------------------------------------------------

rates_per_second = st.lists(st.integers(0, 20), min_size=20, max_size=60)


@given(produce=rates_per_second, able=st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_area_under_the_lag_is_the_sum_of_all_waits(produce: list[int], able: int) -> None:
    tail = math.ceil(sum(produce) / able) + 1
    came = np.array(produce + [0] * tail, dtype=float)
    end, committed = queue(came, np.full(len(came), float(able)))
    at = np.arange(len(end))
    arrived = np.repeat(at[1:], np.diff(end).astype(int))
    left = np.repeat(at[1:], np.diff(committed).astype(int))
    delay = flow.delay_area(
        one({"end": end, "committed": committed}, at),
        start=moment(0),
        end=moment(len(came)),
        promise_seconds=1e9,
    )
    assert delay.message_seconds == pytest.approx(float((left - arrived).sum()))
    assert delay.messages_delayed == 0


@given(produce=rates_per_second, able=st.integers(1, 12), promise=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_delayed_messages_are_those_that_waited_longer(
    produce: list[int], able: int, promise: int
) -> None:
    tail = math.ceil(sum(produce) / able) + promise + 1
    came = np.array(produce + [0] * tail, dtype=float)
    end, committed = queue(came, np.full(len(came), float(able)))
    at = np.arange(len(end))
    # fluid truth, message by message, between its two curves
    middle = np.arange(0.5 * 0.1, end[-1], 0.1)
    arrived = np.interp(middle, end, at)
    left = np.interp(middle, committed, at)
    flat_end = np.searchsorted(end, middle, side="right") - 1
    arrived = flat_end + (middle - end[flat_end]) / (end[flat_end + 1] - end[flat_end])
    flat_left = np.searchsorted(committed, middle, side="right") - 1
    left = flat_left + (middle - committed[flat_left]) / (
        committed[flat_left + 1] - committed[flat_left]
    )
    truth = float((left - arrived > promise + 1e-9).sum()) * 0.1
    delay = flow.delay_area(
        one({"end": end, "committed": committed}, at),
        start=moment(0),
        end=moment(len(came)),
        promise_seconds=float(promise),
    )
    assert delay.messages_delayed == pytest.approx(truth, abs=1.0 + 0.02 * truth)


@st.composite
def histories(draw: st.DrawFn) -> pd.DataFrame:
    """Any history an exporter could show: gaps, markers, resets and all."""
    length = draw(st.integers(6, 25))
    number = st.one_of(st.just(-1.0), st.just(float("nan")), st.integers(0, 3000).map(float))
    partitions = {}
    for partition in range(draw(st.integers(1, 3))):
        partitions[partition] = {
            name: draw(st.lists(number, min_size=length, max_size=length))
            for name in ("committed", "end", "start", "lag")
        }
    return offsets(np.arange(length) * 30, partitions)


def everything(frame: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    cleaned = flow.clean_offsets(frame)
    end = cleaned["timestamp"].max()
    return (
        cleaned,
        flow.rates(cleaned),
        flow.time_lag(cleaned),
        flow.group_flow(cleaned).reset_index(),
        flow.drain(cleaned, end=end).partitions,
        flow.partition_status(cleaned),
        flow.concentration(cleaned).partitions,
        pd.DataFrame(
            [
                dataclasses.asdict(
                    flow.delay_area(
                        cleaned, start=cleaned["timestamp"].min(), end=end, promise_seconds=60
                    )
                )
            ]
        ),
    )


@given(frame=histories(), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_changes_nothing(frame: pd.DataFrame, seed: int) -> None:
    mixed = frame.sample(frac=1, random_state=seed)
    for straight, shuffled in zip(everything(frame), everything(mixed), strict=True):
        pd.testing.assert_frame_equal(straight, shuffled)


@given(frame=histories(), hours=st.integers(-9999, 9999))
@settings(max_examples=20, deadline=None)
def test_a_shift_of_time_shifts_times_only(frame: pd.DataFrame, hours: int) -> None:
    shift = pd.Timedelta(hours=hours)
    later = frame.assign(timestamp=frame["timestamp"] + shift)
    for straight, moved in zip(everything(frame), everything(later), strict=True):
        times = moved.select_dtypes("datetimetz").columns
        back = moved.assign(**{name: moved[name] - shift for name in times})
        pd.testing.assert_frame_equal(straight, back, check_dtype=False)


@given(frame=histories())
@settings(max_examples=40, deadline=None)
def test_age_is_never_negative_and_never_longer_than_the_window(frame: pd.DataFrame) -> None:
    found = flow.time_lag(flow.clean_offsets(frame))
    age = found["time_lag_seconds"].dropna()
    since = (found["timestamp"] - found["timestamp"].min()).dt.total_seconds()
    assert (age >= 0).all()
    assert (age <= since[age.index] + 1e-6).all()


@given(frame=histories())
@settings(max_examples=20, deadline=None)
def test_any_history_gives_an_answer(frame: pd.DataFrame) -> None:
    cleaned = flow.clean_offsets(frame)
    totals = flow.group_flow(cleaned)
    begin = flow.onset(totals)
    end = cleaned["timestamp"].max()
    drained = flow.drain(cleaned, end=end)
    assert flow.state(totals, begin, drained) in (
        "growing",
        "draining",
        "stalled",
        "recovered",
        "healthy",
        "unknown",
    )
    flow.onset_by_partition(cleaned)
    flow.loss_deadline(cleaned, retention_ms=6e5, end=end)
    assert (totals["log_end_sum"].diff().dropna() >= -1e-6).all()


@given(
    produce=st.lists(st.integers(0, 50), min_size=12, max_size=40),
    consume=st.lists(st.integers(0, 50), min_size=12, max_size=40),
    first=st.integers(2, 8),
    last=st.integers(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_the_shares_add_up_to_the_growth(
    produce: list[int], consume: list[int], first: int, last: int
) -> None:
    length = min(len(produce), len(consume))
    at = np.arange(length) * 30
    cleaned = one(
        {"end": 1e5 + np.cumsum(produce[:length]), "committed": np.cumsum(consume[:length])}, at
    )
    peak = moment(30.0 * min(length - 1, first + 1 + last))
    begin = flow.Onset(
        moment(30.0 * first), moment(30.0 * first), moment(30.0 * first), 0.0, 0.0, peak, 0.0
    )
    part = flow.shares(flow.group_flow(cleaned), begin)
    total = part.spike_messages + part.deficit_messages + part.imbalance_messages
    assert total == pytest.approx(part.growth_messages, abs=1e-6)


@given(factor=st.sampled_from([2, 10, 1000]))
@settings(max_examples=3, deadline=None)
def test_messages_counted_in_another_unit_change_rates_not_times(factor: int) -> None:
    produce, able, _ = SHAPES["slower"]
    plain, scaled = (group(produce * k, able * k, seed=None) for k in (1, factor))
    first, second = flow.onset(plain), flow.onset(scaled)
    assert first is not None
    assert second is not None
    assert abs(seconds_of(first.at) - seconds_of(second.at)) <= 15
    pd.testing.assert_series_equal(
        flow.time_lag(plain)["time_lag_seconds"], flow.time_lag(scaled)["time_lag_seconds"]
    )
    assert np.allclose(
        flow.rates(plain)["consume_per_second"].fillna(0) * factor,
        flow.rates(scaled)["consume_per_second"].fillna(0),
    )


def test_a_partition_left_behind_counts_before_a_backlog_that_is_over() -> None:
    """All begin behind and catch up; then one stands still, in total less than a minute's work."""
    seconds = np.arange(0.0, 600.0, 5.0)
    series = {
        f"{partition}": {
            "end": 1000 + 10 * seconds,
            "committed": np.minimum(998 + 10 * seconds, 400 + 30 * seconds),
        }
        for partition in range(20)
    }
    series["0"]["committed"] = np.minimum(series["0"]["committed"], 998 + 10 * 500.0)
    cleaned = flow.clean_offsets(
        frames.normalise(
            "offsets",
            pd.concat(
                pd.DataFrame(
                    {
                        "timestamp": pd.Timestamp("2026-11-23T00:00Z")
                        + pd.to_timedelta(seconds, unit="s"),
                        "group": "g",
                        "topic": "t",
                        "partition": int(partition),
                        "committed_offset": values["committed"],
                        "log_end_offset": values["end"],
                        "query_id": "q",
                    }
                )
                for partition, values in series.items()
            ),
        )
    )
    totals = flow.group_flow(cleaned)
    end = cleaned["timestamp"].max()
    drained = flow.drain(cleaned, end=end, window_seconds=60)
    stopped = pd.Timestamp("2026-11-23T00:08:20Z")
    whole = flow.onset(totals)
    assert whole is None or whole.at < stopped - pd.Timedelta("60s")
    found = flow.current_onset(cleaned, totals, drained)
    assert found is not None
    assert abs(found.at - stopped) <= pd.Timedelta("10s")


def test_a_rise_after_an_earlier_backlog_is_gone_has_its_own_onset() -> None:
    """The window opens on the tail of another backlog; the rise is less than a minute's work."""
    seconds = np.arange(0.0, 160.0, 5.0)
    end = 10_000 + 40 * seconds
    behind = np.where(seconds < 10, 3000.0, 20.0) + np.clip(seconds - 90.0, 0, None) * 34.0
    cleaned = one_series(seconds, end, end - behind)
    found = flow.onset(flow.group_flow(cleaned))
    assert found is not None
    assert abs(found.at - (START + pd.Timedelta("90s"))) <= pd.Timedelta("10s")


def one_series(seconds: np.ndarray, end: np.ndarray, committed: np.ndarray) -> pd.DataFrame:
    return flow.clean_offsets(
        frames.normalise(
            "offsets",
            pd.DataFrame(
                {
                    "timestamp": START + pd.to_timedelta(seconds, unit="s"),
                    "group": "g",
                    "topic": "t",
                    "partition": 0,
                    "committed_offset": committed,
                    "log_end_offset": end,
                    "query_id": "q",
                }
            ),
        )
    )

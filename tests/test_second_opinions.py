"""Two exporters of one group: when they disagree, and when they only seem to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lagkit import frames
from lagkit.flow.second_opinions import Disagreement, disagreements

START = pd.Timestamp("2026-11-23T02:00:00Z")
STEP = pd.Timedelta("15s")
SAMPLES = 120
PRODUCED = 10.0
"""Messages a second and partition."""


def offsets(lag=5_000.0, *, partitions: int = 3, samples: int = SAMPLES, **changes) -> pd.DataFrame:
    """Return what the chosen exporter wrote: *lag* is a number or one per sample."""
    end = 50_000.0 + PRODUCED * 15 * np.arange(samples)
    lags = np.broadcast_to(np.asarray(lag, dtype="float64"), samples)
    return frames.normalise(
        "offsets",
        pd.concat(
            pd.DataFrame(
                {
                    "timestamp": START + STEP * np.arange(samples),
                    "group": "g",
                    "topic": "t",
                    "partition": number,
                    "committed_offset": end - lags,
                    "log_end_offset": end,
                    "lag_messages": lags,
                    "query_id": "prometheus-01",
                }
                | changes
            )
            for number in range(partitions)
        ),
    )


def opinions(lag, *, dialect: str = "kafka_exporter", every: int = 2, where=None) -> pd.DataFrame:
    """Return another exporter's word, every other sample; *where* lists (topic, partition)."""
    at = np.arange(0, SAMPLES, every)
    lags = np.broadcast_to(np.asarray(lag, dtype="float64"), SAMPLES)[at]
    return frames.normalise(
        "second_opinions",
        pd.concat(
            pd.DataFrame(
                {
                    "timestamp": START + STEP * at,
                    "dialect": dialect,
                    "group": "g",
                    "topic": topic,
                    "partition": pd.array([number] * len(at), dtype="Int64"),
                    "lag_messages": lags,
                    "query_id": "prometheus-09",
                }
            )
            for topic, number in where or [("t", 0), ("t", 1), ("t", 2)]
        ),
    )


def only(found: tuple[Disagreement, ...]) -> Disagreement:
    (one,) = found
    return one


def test_exporters_that_tell_the_same_lag_agree():
    assert disagreements(offsets(), opinions(5_000)) == ()


def test_nobody_else_is_no_disagreement():
    assert disagreements(offsets(), frames.empty("second_opinions")) == ()
    assert disagreements(frames.empty("offsets"), opinions(5_000)) == ()


def test_a_difference_below_five_percent_and_a_minute_of_production_is_agreement():
    assert disagreements(offsets(20_000), opinions(20_500)) == ()


def test_a_difference_above_five_percent_is_named_by_dialect_and_since_when():
    theirs = np.where(np.arange(SAMPLES) < 60, 5_000.0, 0.0)
    told = only(disagreements(offsets(), opinions(theirs, dialect="klag_exporter")))
    assert (told.dialect, told.lasting) == ("klag_exporter", True)
    assert told.since == START + 60 * STEP
    assert (told.ours, told.theirs, told.places) == (5_000.0, 0.0, 3)


def test_a_minute_of_production_is_a_disagreement_though_a_small_share():
    told = only(disagreements(offsets(20_000), opinions(20_700)))
    assert told.seconds == pytest.approx(70.0)
    assert told.theirs / told.ours < 1.05


def test_a_lag_read_a_minute_later_is_no_disagreement():
    """Growing by 1,000 every 15 s, read 60 s apart: 4,000 of difference and nothing wrong."""
    ours = 1_000.0 * np.arange(SAMPLES)
    theirs = np.concatenate([np.zeros(4), ours[:-4]])
    assert disagreements(offsets(ours), opinions(theirs)) == ()


def test_an_exporter_that_stopped_counting_is_found_when_the_lag_leaves_it_behind():
    ours = 1_000.0 + 500.0 * np.arange(SAMPLES)
    frozen = np.minimum(ours, ours[40])
    told = only(disagreements(offsets(ours), opinions(frozen)))
    assert START + 40 * STEP < told.since <= START + 50 * STEP
    assert told.lasting


def test_one_late_scrape_is_no_disagreement():
    theirs = np.full(SAMPLES, 5_000.0)
    theirs[50] = 0.0
    assert disagreements(offsets(), opinions(theirs)) == ()


def test_a_disagreement_that_ended_says_until_when():
    theirs = np.where((np.arange(SAMPLES) >= 20) & (np.arange(SAMPLES) <= 40), 0.0, 5_000.0)
    told = only(disagreements(offsets(), opinions(theirs)))
    assert (told.since, told.until) == (START + 20 * STEP, START + 40 * STEP)
    assert not told.lasting


def test_what_either_does_not_know_is_not_compared():
    assert disagreements(offsets(), opinions(-1)) == ()
    unknown = offsets(-1.0).assign(committed_offset=-1.0)
    assert disagreements(unknown, opinions(5_000)) == ()


def test_a_negative_lag_of_an_exporter_that_does_not_clamp_is_no_unknown():
    assert disagreements(offsets(0), opinions(0)) == ()
    assert only(disagreements(offsets(-3.0), opinions(5_000))).ours == 0.0


def test_an_exporter_that_knows_the_topic_only_is_compared_with_the_sum():
    by_topic = [("t", pd.NA)]
    assert disagreements(offsets(), opinions(15_000, where=by_topic)) == ()
    told = only(disagreements(offsets(), opinions(9_000, where=by_topic)))
    assert (told.topic, told.partition, told.ours) == ("t", None, 15_000.0)


def test_an_exporter_that_knows_the_group_only_is_compared_with_the_sum_of_all():
    by_group = [(None, pd.NA)]
    assert (
        disagreements(offsets(), opinions(15_000, dialect="redpanda_gauges", where=by_group)) == ()
    )
    told = only(disagreements(offsets(), opinions(0, dialect="redpanda_gauges", where=by_group)))
    assert (told.topic, told.partition, told.ours) == (None, None, 15_000.0)


def test_a_lag_that_is_not_exported_is_the_difference_of_the_offsets():
    theirs = opinions(np.nan).assign(committed_offset=1_000.0, log_end_offset=6_000.0)
    assert disagreements(offsets(), theirs) == ()


def test_a_false_zero_of_the_chosen_exporter_is_said_by_the_other_one():
    told = only(disagreements(offsets(0.0).assign(log_end_offset=np.nan), opinions(5_000)))
    assert (told.ours, told.theirs) == (0.0, 5_000.0)


def test_every_dialect_is_told_apart_and_in_order():
    both = pd.concat(
        [opinions(0, dialect="b"), opinions(0, dialect="a"), opinions(5_000, dialect="c")]
    )
    assert [told.dialect for told in disagreements(offsets(), both)] == ["a", "b"]


def test_the_widest_gap_is_the_one_named():
    theirs = pd.concat([opinions(4_000, where=[("t", 0)]), opinions(0, where=[("t", 2)])])
    told = only(disagreements(offsets(), theirs))
    assert (told.partition, told.places) == (2, 2)


def test_the_order_of_rows_does_not_matter():
    theirs = opinions(0)
    assert disagreements(offsets(), theirs) == disagreements(
        offsets().sample(frac=1, random_state=1), theirs.sample(frac=1, random_state=2)
    )

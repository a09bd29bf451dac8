"""A long history in short: the fast way and the row-by-row way give the same numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replayed_queue import GROUP, moments

from lagkit import flow, frames

KEYS = ["group", "topic", "partition"]
VALUES = ["lag_messages", "time_lag_seconds", "produce_per_second", "consume_per_second"]
STEP = 30


def history(
    seed: int, *, series: int = 12, samples: int = 40, spoilt: int = 0, quiet: bool = False
) -> pd.DataFrame:
    """Return frame `offsets`: *series* partitions of three topics, *spoilt* of them not even."""
    random = np.random.default_rng(seed)
    end = random.poisson(0.2 if quiet else 90, (samples, series)).cumsum(axis=0).astype("f8")
    start = np.zeros_like(end)
    behind = random.integers(0, 400, (samples, series))
    committed = np.maximum.accumulate(np.maximum(end - behind, 0), axis=0)
    for column in random.choice(series, spoilt, replace=False):
        first = int(random.integers(1, samples - 1))
        some = random.integers(0, samples, 5)
        kind = random.integers(0, 7)
        if kind == 0:
            end[some, column] = np.nan
        elif kind == 1:
            committed[:first, column] = -1
        elif kind == 2:
            end[first:, column] -= end[first, column]
            committed[first:, column] = np.minimum(committed[first:, column], end[first:, column])
        elif kind == 3:
            committed[first:, column] -= 50
        elif kind == 4:
            committed[first, column] = end[first, column] + 7
        elif kind == 5:
            start[first:, column] = end[first, column]
        else:
            committed[:, column] = np.nan
    number = np.arange(series)
    at = moments(np.arange(samples) * STEP)
    return frames.normalise(
        "offsets",
        pd.DataFrame(
            {
                "timestamp": at.repeat(series),
                "group": GROUP,
                "topic": [f"topic-{row % 3}" for row in number] * samples,
                "partition": np.tile(number // 3, samples),
                "committed_offset": committed.ravel(),
                "log_end_offset": end.ravel(),
                "log_start_offset": start.ravel(),
                "lag_messages": np.nan,
                "query_id": "prometheus-01",
            }
        ),
    )


def described(offsets: pd.DataFrame) -> pd.DataFrame:
    """Return what `Evaluation.partitions` should be, from the functions that it stands for."""
    cleaned = flow.clean_offsets(offsets)
    whole = cleaned.merge(flow.rates(cleaned)).merge(flow.time_lag(cleaned))
    flags = ["no_commit", "negative_lag", "log_truncated", "phantom", "topic_recreated"]
    whole["unclean"] = whole[[*flags, "rewound", "false_zero"]].any(axis=1).astype("int64")
    grouped = whole.sort_values("timestamp").groupby(KEYS)
    last, peak = grouped[VALUES].last(), grouped[VALUES].max().add_prefix("peak_")
    rest = [grouped["censored"].any(), grouped["unclean"].sum()]
    return pd.concat([last, peak, *rest], axis=1).reset_index()


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    spoilt=st.integers(0, 12),
    samples=st.integers(3, 60),
    quiet=st.booleans(),
)
def test_an_evaluation_says_what_the_functions_say_of_every_sample(seed, spoilt, samples, quiet):
    offsets = history(seed, spoilt=spoilt, samples=samples, quiet=quiet)
    found = flow.evaluate([offsets])
    expected = described(offsets)
    pd.testing.assert_frame_equal(
        found.partitions[expected.columns], expected, check_exact=True, check_dtype=False
    )
    pd.testing.assert_frame_equal(
        found.group, flow.group_flow(flow.clean_offsets(offsets)), rtol=1e-12
    )


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), spoilt=st.integers(0, 6))
def test_chunks_add_up_to_the_whole(seed, spoilt):
    offsets = history(seed, spoilt=spoilt)
    of_a_topic = [part.reset_index(drop=True) for _, part in offsets.groupby("topic")]
    whole, added = flow.evaluate([offsets]), flow.evaluate(of_a_topic)
    # the refresh interval, which rates are taken over, is found per chunk
    same = [name for name in whole.partitions.columns if "per_second" not in name]
    pd.testing.assert_frame_equal(added.partitions[same], whole.partitions[same])
    pd.testing.assert_frame_equal(added.group, whole.group, rtol=1e-12)


def test_a_moment_that_a_chunk_lacks_is_a_gap_and_not_a_drop():
    offsets = history(1)
    first = offsets[offsets["topic"] == "topic-0"].reset_index(drop=True)
    rest = offsets[offsets["topic"] != "topic-0"].reset_index(drop=True)
    missing = offsets["timestamp"].unique()[20]
    gap = first[first["timestamp"] != missing].reset_index(drop=True)
    together = pd.concat([gap, rest], ignore_index=True)
    pd.testing.assert_frame_equal(
        flow.evaluate([gap, rest]).group,
        flow.group_flow(flow.clean_offsets(together)),
        rtol=1e-12,
    )


def test_rows_in_any_order_give_the_same_evaluation():
    offsets = history(2, spoilt=3)
    mixed = offsets.sample(frac=1.0, random_state=5).reset_index(drop=True)
    pd.testing.assert_frame_equal(
        flow.evaluate([mixed]).partitions, flow.evaluate([offsets]).partitions
    )


def test_names_of_one_length_in_a_changing_order_are_told_apart():
    offsets = history(3)
    swapped = offsets.copy()
    late = swapped["timestamp"] == swapped["timestamp"].max()
    names = {"topic-0": "topic-1", "topic-1": "topic-0"}
    swapped.loc[late, "topic"] = swapped.loc[late, "topic"].replace(names)
    pd.testing.assert_frame_equal(
        flow.evaluate([swapped]).partitions[KEYS + VALUES], described(swapped)[KEYS + VALUES]
    )


def test_a_partition_in_two_chunks_is_refused():
    offsets = history(4)
    with pytest.raises(ValueError, match="two chunks"):
        flow.evaluate([offsets, offsets])


def test_two_rows_of_one_moment_are_refused():
    offsets = history(5)
    doubled = pd.concat([offsets, offsets.iloc[[0]]], ignore_index=True)
    with pytest.raises(ValueError, match="two rows share"):
        flow.evaluate([doubled])


def test_no_history_is_not_an_empty_evaluation():
    with pytest.raises(ValueError, match="without a sample"):
        flow.evaluate([frames.empty("offsets")])

"""The quirks of lag.md by number: which test holds each, and those that need no server.

A quirk is something an exporter, a broker or a dashboard does that changes the answer. Most tests
are in ``tests/real/test_quirks.py``, on recorded pages in a real Prometheus.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import incidents
import pandas as pd
import pytest

import lagkit as lk
from lagkit import frames, monitoring
from lagkit.investigation import investigate
from lagkit.left_topics import left_topics, without_left_topics

TESTS = Path(__file__).resolve().parent
RECORDED = sorted((TESTS / "data" / "incidents").glob("*.otel.lagkit"))
REAL, HERE, BROKER = "real/test_quirks.py", "test_quirks.py", "signals/test_broker.py"

QUIRKS = {
    1: (REAL, "test_minus_one_is_an_unknown_lag_and_in_no_sum_q1"),
    2: (REAL, "test_an_offset_sum_that_adds_the_minus_ones_is_not_read_q2"),
    3: (REAL, "test_a_small_negative_lag_is_zero_and_a_large_one_a_truncated_log_q3"),
    4: (HERE, "test_commits_are_read_before_log_ends_so_that_a_lag_errs_upwards_only_q4"),
    5: (REAL, "test_records_deleted_unread_are_no_lag_that_can_be_read_q5"),
    6: (
        REAL,
        "test_a_redpanda_gauge_of_zero_for_a_read_replica_is_contradicted_by_the_offsets_q6",
    ),
    7: (REAL, "test_without_redpandas_lag_gauges_the_line_that_turns_them_on_is_given_q7"),
    8: (REAL, "test_replicas_of_a_partition_and_other_namespaces_count_once_q8"),
    9: (REAL, "test_nothing_is_added_to_a_committed_offset_q9"),
    10: (REAL, "test_redpandas_prefixed_labels_become_group_topic_and_partition_q10"),
    11: (REAL, "test_kminion_under_another_prefix_is_kminion_q11"),
    12: (
        REAL,
        "test_kminion_by_topic_gives_sums_and_says_that_partitions_are_not_assessable_q12",
    ),
    13: (REAL, "test_a_log_end_that_each_group_has_its_copy_of_is_not_doubled_q13"),
    14: (REAL, "test_milliseconds_and_hundredths_of_klag_are_brought_to_seconds_and_ones_q14"),
    15: (REAL, "test_the_state_is_the_label_of_the_series_that_began_last_q15"),
    16: (REAL, "test_a_new_members_labels_do_not_break_the_series_q16"),
    17: (REAL, "test_a_time_lag_of_too_few_points_and_a_dropped_topic_are_unknown_q17"),
    18: (REAL, "test_an_age_of_zero_beside_lost_records_is_unknown_q18"),
    19: (REAL, "test_the_collectors_names_are_read_with_ratio_at_their_end_q19"),
    20: (REAL, "test_names_that_two_exporters_share_tell_neither_q20"),
    21: (REAL, "test_a_gap_during_a_rebalance_is_a_gap_and_no_recovery_q21"),
    22: (HERE, "test_a_topic_that_the_group_has_left_is_no_lag_q22"),
    23: (REAL, "test_a_rule_on_a_metric_that_does_not_exist_is_named_and_others_are_not_q23"),
    24: (
        REAL,
        "test_burrows_zero_without_a_commit_is_unknown_and_its_lag_needs_no_full_ring_q24",
    ),
    25: (REAL, "test_a_log_end_that_fell_splits_the_series_q25"),
    26: (REAL, "test_a_lag_of_zero_without_a_log_end_is_no_recovery_q26"),
    27: (
        REAL,
        "test_all_groups_flat_at_once_while_kafka_goes_on_are_a_frozen_exporter_q27",
    ),
    28: (REAL, "test_members_zero_of_a_live_kip848_group_is_not_believed_q28"),
    29: (REAL, "test_topics_the_group_never_used_are_not_part_of_it_q29"),
    30: (REAL, "test_a_sum_of_zero_for_a_group_without_a_commit_is_unknown_q30"),
    31: (REAL, "test_an_exporter_that_is_up_without_a_lag_is_found_and_said_to_be_empty_q31"),
    32: (HERE, "test_an_empty_list_of_groups_from_a_broker_that_has_some_is_not_believed_q32"),
    33: (
        REAL,
        "test_under_replication_is_summed_over_brokers_and_isr_shrinks_are_not_read_q33",
    ),
    34: (BROKER, "test_low_idle_ratios_of_a_broker_that_has_just_started_are_no_overload"),
}
"""Number in lag.md 1.3 and 10 → where its test is and what it is called."""


def named_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_quirk_has_its_test():
    assert sorted(QUIRKS) == list(range(1, 35))
    for number, (file, name) in QUIRKS.items():
        assert name in named_in(file), f"Q{number}"


def test_no_test_stands_for_two_quirks():
    assert len(set(QUIRKS.values())) == len(QUIRKS)


def test_a_test_that_ends_in_a_number_is_that_quirks():
    for file in (REAL, HERE):
        for name in named_in(file):
            if found := re.search(r"_q(\d+)$", name):
                assert int(found[1]) in QUIRKS, name


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_commits_are_read_before_log_ends_so_that_a_lag_errs_upwards_only_q4(file):
    """Every recorded look at a real broker, and when its questions were asked."""
    made = lk.open(file)
    asked = made.queries.loc[made.queries["source"] == "kafka"].sort_values("query_id")
    commits = asked["statement"].str.startswith(f"list_consumer_group_offsets(['{made.group}'])")
    ends = asked["statement"].str.startswith("list_offsets(latest, read_uncommitted)")
    looked = 0
    for position in range(len(asked)):
        if ends.iloc[position]:
            before = asked.loc[commits & (asked["query_id"] < asked["query_id"].iloc[position])]
            assert before["started_at"].max() < asked["started_at"].iloc[position]
            looked += 1
    own = made.partitions.loc[made.partitions["group"] == made.group]
    assert looked or own.empty
    assert not ((own["log_end_offset"] - own["committed_offset"]) < 0).any()


def with_a_left_topic(*, moved: bool = False):
    """Return a calm incident whose group committed to ``old`` long ago, where records arrive."""
    made = incidents.make("calm")
    one = made.offsets.loc[made.offsets["partition"] == 0].reset_index(drop=True)
    ends = 50_000.0 + 20.0 * one.index.to_numpy()
    commits = 100.0 + (one.index.to_numpy() >= len(one) - 5 if moved else 0)
    old = one.assign(
        topic="old",
        log_end_offset=ends,
        committed_offset=commits,
        log_start_offset=0.0,
        lag_messages=ends - commits,
    )
    table = frames.normalise("offsets", pd.concat([made.offsets, old], ignore_index=True))
    return incidents.with_tables(made, offsets=table)


def test_a_topic_that_the_group_has_left_is_no_lag_q22():
    result = investigate(with_a_left_topic())
    assert result.cause == "none"
    assert set(result.flow.cleaned["topic"]) == {incidents.TOPIC}
    assert any("lag of old" in told for told in result.verdict.not_checked)


@pytest.mark.parametrize("name", ["controls.left_topic.1", "controls.left_topic.2"])
def test_a_topic_left_on_a_real_broker_is_no_lag_and_is_named_q22(name):
    """Recorded in the lab (Kafka 4.3.1): its lag grows all the time, and nobody reads it."""
    made = lk.open(TESTS.parent / "corpus" / f"{name}.lagkit")
    left = made.offsets.loc[made.offsets["topic"] == "api-events"]
    lag = (left["log_end_offset"] - left["committed_offset"]).groupby(left["timestamp"]).sum()
    assert lag.iloc[-1] - lag.iloc[0] > 1000
    assert left_topics(made) == ("api-events",)
    result = investigate(made)
    assert result.cause == "none"
    assert set(result.flow.cleaned["topic"]) == {"deploy-requests"}
    assert any(told.startswith("lag of api-events") for told in result.verdict.not_checked)


def test_an_opinion_on_the_whole_group_goes_with_the_topic_that_it_counts_q22():
    made = with_a_left_topic()
    rows = [
        {
            "timestamp": made.end,
            "dialect": dialect,
            "group": made.group,
            "topic": topic,
            "lag_messages": 49_000.0,
            "query_id": "prometheus-20",
        }
        for dialect, topic in (("redpanda_gauges", None), ("kminion", incidents.TOPIC))
    ]
    table = frames.normalise("second_opinions", rows)
    kept = without_left_topics(incidents.with_tables(made, second_opinions=table))
    assert kept.second_opinions["dialect"].tolist() == ["kminion"]


def test_a_topic_on_which_the_group_still_commits_is_not_left_q22():
    assert left_topics(with_a_left_topic(moved=True)) == ()


@pytest.mark.parametrize("state", ["Empty", "PreparingRebalance"])
def test_without_members_at_work_no_topic_is_left_q22(state):
    made = with_a_left_topic()
    table = made.group_state.assign(state=pd.Series([state] * len(made.group_state), dtype="str"))
    assert left_topics(incidents.with_tables(made, group_state=table)) == ()
    assert left_topics(incidents.with_tables(made, members=frames.empty("members"))) == ()


def test_a_topic_that_the_runbook_wants_read_is_an_incident_and_not_left_q22():
    made = with_a_left_topic()
    table = made.offsets.assign(
        topic=made.offsets["topic"].replace("old", incidents.TOPIC + "-wanted")
    )
    group = made.runbook.group(made.group)
    wanted = group.model_copy(update={"topics": (*group.topics, incidents.TOPIC + "-wanted")})
    runbook = made.runbook.model_copy(update={"groups": (wanted,)})
    renamed = incidents.with_tables(made, offsets=frames.normalise("offsets", table))
    assert left_topics(renamed) == (incidents.TOPIC + "-wanted",)
    assert left_topics(lk.Incident(**{**vars(renamed), "runbook": runbook})) == ()


def test_an_empty_list_of_groups_from_a_broker_that_has_some_is_not_believed_q32():
    made = incidents.make("calm")
    asked = frames.normalise(
        "queries",
        [
            {
                "query_id": "kafka-01",
                "source": "kafka",
                "statement": "list_consumer_groups()",
                "started_at": made.end,
                "seconds": 0.01,
                "rows": 0,
                "outcome": "empty",
                "detail": monitoring.EMPTY_ANSWER,
            }
        ],
    )
    emptied = incidents.with_tables(made, queries=asked)
    kinds = {found.kind for found in monitoring.suspicions(monitoring.Watched.of(emptied))}
    assert "empty_list" in kinds
    assert investigate(emptied).cause == "none"

"""Hours become rates, and what is no demand is marked instead of counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lagkit.capacity.courses import courses

from .weeks import HOURS, START, daily, history, rows


def only(made):
    (course,) = courses(made)
    return course


def kinds(course):
    return [mark.kind for mark in course.marks]


def test_rates_are_what_the_offsets_add_up_to():
    demand = daily(2)
    course = only(history(rows(demand)))
    assert course.produced[1:] == pytest.approx(demand)
    assert course.consumed[1:] == pytest.approx(demand)
    assert kinds(course) == []


def test_the_hour_of_the_week_is_that_in_which_the_hour_began():
    course = only(history(rows(daily(1))))
    assert course.weekly[1] == 0
    assert course.weekly[HOURS] == HOURS - 1


def test_a_recreated_topic_is_marked_and_gives_no_negative_demand():
    table = rows(daily(2))
    table.loc[100:, ["log_end_sum", "committed_sum"]] -= table.loc[100, "log_end_sum"] - 10.0
    course = only(history(table))
    assert kinds(course) == ["topic re-created"]
    assert np.isnan(course.produced[100])
    assert np.nanmin(course.produced) >= 0
    assert np.isfinite(course.produced[101:]).all()


def test_a_blip_of_the_exporter_is_bridged():
    table = rows(daily(2))
    table.loc[50, "log_end_sum"] = 3.0
    course = only(history(table))
    assert kinds(course) == []
    assert course.produced[50] == course.produced[51]
    assert course.produced[50] == pytest.approx(daily(2)[49:51].mean())


def test_offsets_that_move_back_are_no_negative_consumption():
    table = rows(daily(2))
    table.loc[60:, "committed_sum"] -= 1.5e6
    course = only(history(table))
    assert np.nanmin(course.consumed) >= 0


def test_a_hole_of_hours_stays_a_hole_and_is_marked_once():
    table = rows(daily(2)).drop(index=range(40, 60))
    course = only(history(table))
    assert kinds(course) == ["gap"]
    assert np.isnan(course.produced[40:61]).all()
    assert "20 h" in course.marks[0].text


def test_a_jump_no_producer_can_make_is_left_out():
    demand = daily(2)
    demand[77] = 1e7
    course = only(history(rows(demand)))
    assert kinds(course) == ["jump of the log end"]
    assert np.isnan(course.produced[78])


def test_negative_offsets_and_lags_are_unknown_and_not_zero():
    table = rows(daily(2))
    table["lag_high"] = -1.0
    table.loc[30:35, ["log_end_sum", "committed_sum"]] = -1.0
    course = only(history(table))
    assert np.isnan(course.produced[30:36]).all()
    assert np.isnan(course.lag_high[30:36]).all()
    assert (course.lag_high[40:] == 0).all()  # from the offsets


def test_a_dialect_that_changed_is_marked_where_it_did():
    table = rows(daily(2))
    table["dialect"] = np.where(np.arange(len(table)) < 200, "otel", "kafka_exporter")
    course = only(history(table))
    (mark,) = course.marks
    assert mark.kind == "exporter changed"
    assert mark.at == START + pd.Timedelta(hours=200)
    assert mark.text == "otel told the offsets before, kafka_exporter since"


def test_added_partitions_members_and_deploys_are_marked():
    days = pd.DataFrame(
        [
            (START + pd.Timedelta(days=day), "t", number, day * (3e6 if number == 0 else 1e6))
            for day in range(14)
            for number in range(2 if day < 6 else 4)
        ],
        columns=["timestamp", "topic", "partition", "log_end_offset"],
    )
    hours = START + pd.to_timedelta(np.arange(2 * HOURS), unit="h")
    members = pd.DataFrame(
        {
            "timestamp": hours,
            "group": "g",
            "member_count": np.where(np.arange(len(hours)) < 150, 2.0, 3.0),
        }
    )
    members.loc[20, "member_count"] = 1.0  # a restart
    deploys = pd.DataFrame(
        {
            "timestamp": hours,
            "namespace": "n",
            "workload": "w",
            "generation": np.where(np.arange(len(hours)) < 90, 4.0, 5.0),
        }
    )
    made = history(
        rows(daily(2)), partition_days=days, member_hours=members, workload_hours=deploys
    )
    course = only(made)
    assert sorted(kinds(course)) == ["deploy", "members changed", "partitions added"]
    assert course.partitions == 4
    assert course.member_changes == [(150, 2.0, 3.0)]
    assert course.deploys == [90]
    assert course.skew == pytest.approx(39 / ((39 + 13 + 7 + 7) / 4), rel=0.01)


def test_how_long_records_are_kept_is_read_off_the_log_start():
    demand = np.full(2 * HOURS, 10.0)
    table = rows(demand)
    kept = 30
    start = table["log_end_sum"].shift(kept).fillna(0.0)
    course = only(history(table.assign(log_start_sum=start)))
    assert course.kept_seconds == pytest.approx(kept * 3600)
    assert not course.kept_at_least


def test_what_was_never_deleted_has_no_retention_to_be_read_off():
    course = only(history(rows(daily(2), log_start_sum=np.zeros(2 * HOURS + 1))))
    assert course.kept_seconds is None

"""A history of offsets without an exporter: nothing is joined that was not known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lagkit import flow, frames

START = pd.Timestamp("2026-11-24T01:00:00Z")
GROUP, TOPIC = "deployment-worker", "deploy-requests"


def at(seconds: float) -> pd.Timestamp:
    return START + pd.Timedelta(seconds, "s")


def snapshots(*rows: tuple[float, float, float]) -> pd.DataFrame:
    """Return snapshots of one partition: seconds, committed, log end."""
    table = frames.normalise(
        "offsets",
        [
            {
                "timestamp": at(seconds),
                "group": GROUP,
                "topic": TOPIC,
                "partition": 0,
                "committed_offset": committed,
                "log_end_offset": end,
                "log_start_offset": 0.0,
                "query_id": "kafka-09",
            }
            for seconds, committed, end in rows
        ],
    )
    return table.drop(columns=["lag_messages", "lag_seconds"], errors="ignore")


def log_ends(*rows: tuple[float, float], partition: int = 0) -> pd.DataFrame:
    return frames.normalise(
        "log_end_history",
        [
            {
                "timestamp": at(seconds),
                "topic": TOPIC,
                "partition": partition,
                "log_end_offset": end,
                "query_id": "kafka-12",
            }
            for seconds, end in rows
        ],
    )


def commits(*rows: tuple[float, float, bool]) -> pd.DataFrame:
    return frames.normalise(
        "commits",
        [
            {
                "timestamp": at(seconds),
                "group": GROUP,
                "topic": TOPIC,
                "partition": 0,
                "committed_offset": offset,
                "log_position": number,
                "complete": complete,
                "query_id": "kafka-07",
            }
            for number, (seconds, offset, complete) in enumerate(rows)
        ],
    )


NONE = frames.empty("commits")
ENDS = log_ends((0, 0), (60, 60), (120, 120), (180, 180))
NOW = snapshots((200, 150, 200), (204, 152, 204))


def committed(joined: pd.DataFrame) -> dict[float, float]:
    known = joined.sort_values("timestamp")
    return {
        (row.timestamp - START).total_seconds(): row.committed_offset for row in known.itertuples()
    }


def test_between_snapshots_no_committed_offset_is_made_up() -> None:
    joined = flow.joined_history(NOW, ENDS, NONE)
    found = committed(joined)
    assert [found[s] for s in (200, 204)] == [150, 152]
    assert all(np.isnan(found[s]) for s in (0, 60, 120, 180))
    assert joined["log_end_offset"].notna().all()


def test_commit_holds_until_the_next_one_where_none_is_missing() -> None:
    told = commits((10, 5, True), (70, 60, True), (110, 100, True), (170, 140, True))
    found = committed(flow.joined_history(NOW, ENDS, told))
    assert np.isnan(found[0]), "before the first commit that was read nothing is known"
    assert [found[s] for s in (60, 120, 180)] == [5, 100, 140]


def test_commit_before_a_hole_says_nothing_of_the_time_after_it() -> None:
    told = commits((10, 5, False), (110, 100, True))
    found = committed(flow.joined_history(NOW, ENDS, told))
    assert np.isnan(found[60])
    assert found[120] == 100


def test_removed_commit_is_unknown_not_zero() -> None:
    told = commits((10, 5, True), (50, np.nan, True))
    assert np.isnan(committed(flow.joined_history(NOW, ENDS, told))[60])


def test_log_ends_of_partitions_that_the_group_does_not_have_are_left_out() -> None:
    joined = flow.joined_history(NOW, log_ends((0, 7), partition=3), NONE)
    assert set(joined["partition"]) == {0}


def test_joined_history_fits_the_frame_of_offsets() -> None:
    told = commits((10, 5, True), (70, 60, True))
    frames.normalise("offsets", flow.joined_history(NOW, ENDS, told))


def test_without_log_ends_the_snapshots_are_all_there_is() -> None:
    pd.testing.assert_frame_equal(
        flow.joined_history(NOW, frames.empty("log_end_history"), NONE), NOW
    )


def oldest(age: float, written: float, partition: int = 0) -> pd.DataFrame:
    return frames.normalise(
        "oldest_unread",
        [
            {
                "timestamp": at(204),
                "group": GROUP,
                "topic": TOPIC,
                "partition": partition,
                "next_offset": 10.0,
                "written_at": at(written),
                "written_before": at(written),
                "time_lag_seconds": age,
                "query_id": "kafka-30",
            }
        ],
    )


def cleaned(now: pd.DataFrame) -> pd.DataFrame:
    return flow.clean_offsets(frames.normalise("offsets", flow.joined_history(now, ENDS, NONE)))


def test_group_that_stands_still_is_behind_since_its_next_record_came() -> None:
    onset = flow.standing_onset(cleaned(snapshots((200, 90, 200), (212, 90, 212))), oldest(122, 90))
    assert onset is not None
    # log ends are known each minute: at the last of them it had read all
    assert onset.at in (at(60), at(90))
    assert onset.latest >= at(90)
    assert onset.censored


def test_group_that_reads_on_slowly_is_behind_for_longer_than_its_next_record_waits() -> None:
    """At 0.5/s back from 150 it was at the log end near second 100."""
    onset = flow.standing_onset(
        cleaned(snapshots((200, 150, 200), (212, 156, 212))), oldest(66, 146)
    )
    assert onset is not None
    assert onset.at == at(60)
    assert onset.latest == at(146)


@pytest.mark.parametrize(
    ("left", "age"), [(1.0, 7_200.0), (20.0, 20.0)], ids=["a transaction marker", "a minute's work"]
)
def test_no_onset_behind_what_is_no_backlog(left: float, age: float) -> None:
    now = snapshots((200, 200 - left, 200), (212, 200 - left, 200))
    assert flow.standing_onset(cleaned(now), oldest(age, 0)) is None

"""What Kafka alone tells: snapshots of now, log ends of the past, the age of what is unread."""

from __future__ import annotations

import functools

import incidents
import numpy as np
import pandas as pd
import pytest

from lagkit import frames
from lagkit.incident import Incident
from lagkit.measurement import measure
from lagkit.signals import membership, partitions, rates

END = incidents.END
PARTITIONS = 6
WATCHED_SECONDS = 12.0
USUAL = 40.0


@functools.cache
def alone(kind: str) -> Incident:
    """Return a group of which Kafka alone tells; the fault began five minutes before the end.

    ``slow`` and ``still``: 40/s are produced and it reads 5/s or nothing; ``spike``: 480/s are
    produced and it reads 110/s; ``poison``: one of six partitions stands, the others keep up.
    """
    made = incidents.without(incidents.make("slow"), "prometheus")
    group, topic = made.group, made.partitions["topic"].iloc[0]
    began = END - pd.Timedelta("5min")
    times = pd.date_range(END - pd.Timedelta("1h"), END, freq="60s").as_unit("us")
    looks = pd.date_range(END, END + pd.Timedelta(WATCHED_SECONDS, "s"), periods=7).as_unit("us")
    produced = {"spike": 480.0}.get(kind, USUAL)
    read = {"slow": 5.0, "still": 0.0, "spike": 110.0, "poison": USUAL, "calm": USUAL}[kind]

    def after(at: pd.Timestamp) -> float:
        return max(0.0, (at - began).total_seconds())

    def total(at: pd.Timestamp, rate: float) -> float:
        whole = (min(at, began) - times[0]).total_seconds() * USUAL
        return 100_000.0 + whole + after(at) * rate

    def at_most(at: pd.Timestamp, partition: int) -> float:
        if kind == "poison" and partition == 2:
            return total(min(at, began), USUAL)
        return total(at, read)

    history = [
        {
            "timestamp": at,
            "topic": topic,
            "partition": p,
            "log_end_offset": np.floor(total(at, produced) / PARTITIONS),
            "query_id": "kafka-12",
        }
        for at in times
        for p in range(PARTITIONS)
    ]
    seen = [
        {
            "timestamp": at,
            "group": group,
            "topic": topic,
            "partition": p,
            "committed_offset": np.floor(at_most(at, p) / PARTITIONS),
            "log_start_offset": 0.0,
            "log_end_offset": np.floor(total(at, produced) / PARTITIONS),
            "last_stable_offset": np.floor(total(at, produced) / PARTITIONS),
            "leader": 1,
            "replica_count": 1,
            "isr_count": 1,
            "query_id": "kafka-09",
        }
        for at in looks
        for p in range(PARTITIONS)
    ]

    def written(partition: int) -> pd.Timestamp:
        ahead = at_most(looks[-1], partition) - total(began, USUAL)
        return min(began + pd.Timedelta(max(0.0, ahead) / produced, "s"), looks[-1])

    ages = [
        {
            "timestamp": looks[-1],
            "group": group,
            "topic": topic,
            "partition": p,
            "next_offset": np.floor(at_most(looks[-1], p) / PARTITIONS),
            "written_at": written(p),
            "written_before": written(p),
            "time_lag_seconds": (looks[-1] - written(p)).total_seconds(),
            "query_id": "kafka-30",
        }
        for p in range(PARTITIONS)
    ]
    return incidents.with_tables(
        made,
        log_end_history=frames.normalise("log_end_history", history),
        partitions=frames.normalise("partitions", seen),
        oldest_unread=frames.normalise("oldest_unread", ages),
    )


@pytest.mark.parametrize(
    ("kind", "present"),
    [
        ("slow", {"consumption_slowed"}),
        ("still", {"consumption_stopped"}),
        (
            "spike",
            {"production_spike", "production_multiplied", "consumption_at_capacity"},
        ),
        ("poison", set()),
        ("calm", set()),
    ],
)
def test_demand_and_supply_are_told_apart_by_kafka_alone(kind: str, present: set[str]) -> None:
    checks = incidents.checks(rates.demand_and_supply, alone(kind))
    assert {name for name, check in checks.items() if check.outcome == "present"} == present


def test_group_is_behind_although_the_broker_was_too_slow_to_date_its_oldest_record() -> None:
    made = alone("slow")
    undated = incidents.with_tables(made, oldest_unread=frames.empty("oldest_unread"))
    told, read_off = (measure(one, promise_seconds=60.0).onset for one in (made, undated))
    assert told is not None
    assert read_off is not None
    assert abs(read_off.at - told.at) <= pd.Timedelta("30s")
    assert read_off.censored


def test_group_reads_slower_than_it_must_have_read_and_no_commit_is_made_up() -> None:
    """It cannot have committed more than was written an hour ago: 36.6/s since, at the least."""
    made = alone("slow")
    finding = incidents.checks(rates.demand_and_supply, made)["consumption_slowed"].findings[0]
    assert finding.value == pytest.approx(5.0, abs=0.2)
    assert finding.baseline == pytest.approx(37.0, abs=0.5)
    cleaned = measure(made, promise_seconds=60.0).cleaned
    before = cleaned["timestamp"] < made.partitions["timestamp"].min()
    assert before.any()
    assert cleaned.loc[before, "committed_offset"].isna().all()


def test_without_log_ends_of_the_past_slowness_is_not_checked_and_not_refuted() -> None:
    made = incidents.with_tables(alone("slow"), log_end_history=frames.empty("log_end_history"))
    checks = incidents.checks(rates.demand_and_supply, made)
    for kind in ("production_spike", "consumption_at_capacity", "consumption_slowed"):
        assert checks[kind].outcome == "not_checked"


def test_backlog_as_old_as_the_window_leaves_no_production_to_compare_with() -> None:
    made = alone("spike")
    late = made.log_end_history["timestamp"] >= END - pd.Timedelta("4min")
    made = incidents.with_tables(
        made, log_end_history=made.log_end_history.loc[late].reset_index(drop=True)
    )
    check = incidents.checks(rates.demand_and_supply, made)["production_spike"]
    assert check.outcome == "not_checked"
    assert "--since" in check.reason


@pytest.mark.parametrize(
    ("kind", "off_by"), [("slow", 60), ("still", 60), ("spike", 60), ("poison", 60)]
)
def test_onset_that_nobody_saw_is_told_by_the_age_of_what_is_unread(kind: str, off_by: int) -> None:
    onset = measure(alone(kind), promise_seconds=60.0).onset
    assert onset is not None
    assert onset.censored
    began = END - pd.Timedelta("5min")
    assert abs((onset.at - began).total_seconds()) <= off_by


def test_group_that_keeps_up_has_no_onset() -> None:
    flow = measure(alone("calm"), promise_seconds=60.0)
    assert flow.onset is None
    assert flow.state == "healthy"


def test_stuck_partition_is_told_from_waiting_ones_by_the_age_of_its_next_record() -> None:
    check = incidents.checks(partitions.shape, alone("poison"))["partition_frozen"]
    assert check.outcome == "present"
    assert len(check.findings) == 1
    assert "[2]" in check.findings[0].statement
    for kind in ("slow", "still", "calm"):
        other = incidents.checks(partitions.shape, alone(kind))["partition_frozen"]
        assert other.outcome == "absent", kind


def test_even_production_is_not_skewed() -> None:
    check = incidents.checks(partitions.shape, alone("spike"))["production_skewed"]
    assert check.outcome == "absent"
    assert check.source == "kafka"


# -- who came and went, by looks at the coordinator and by the group's own log ---------------------


def looks(states: list[str], counts: list[int]) -> Incident:
    made = alone("slow")
    rows = [
        {
            "timestamp": END + pd.Timedelta(2 * n, "s"),
            "group": made.group,
            "state": state,
            "protocol": "classic",
            "member_count": count,
            "query_id": "kafka-03",
        }
        for n, (state, count) in enumerate(zip(states, counts, strict=True))
    ]
    made = incidents.without(made, "kubernetes")
    return incidents.with_tables(
        made,
        group_state=frames.normalise("group_state", rows),
        group_history=frames.empty("group_history"),
    )


@pytest.mark.parametrize(
    ("states", "counts", "outcome"),
    [
        (["Stable"] * 7, [3] * 7, "absent"),
        (["PreparingRebalance", "Stable"] * 3 + ["Stable"], [3] * 7, "present"),
        (["Stable"] * 7, [3, 2, 3, 2, 3, 2, 3], "present"),
        (["Stable"] * 6 + ["PreparingRebalance"], [3] * 7, "not_checked"),
        (["Stable"] * 3, [3] * 3, "not_checked"),
    ],
)
def test_looks_show_a_storm_only_when_they_see_it_again_and_again(
    states: list[str], counts: list[int], outcome: str
) -> None:
    check = incidents.checks(membership.members, looks(states, counts))["membership_churn"]
    assert check.outcome == outcome


def logged(*events: tuple[float, str, int, str | None, int | None]) -> Incident:
    """Return a slow group with a log of its own: seconds after the onset, event, …"""
    made = alone("slow")
    began = END - pd.Timedelta("5min")
    rows = [
        {
            "timestamp": began + pd.Timedelta(seconds, "s"),
            "group": made.group,
            "event": event,
            "generation": generation,
            "member_id": member,
            "client_id": member,
            "member_count": count,
            "session_timeout_seconds": 10.0,
            "protocol": "classic",
            "log_position": number,
            "query_id": "kafka-07",
        }
        for number, (seconds, event, generation, member, count) in enumerate(events)
    ]
    return incidents.with_tables(made, group_log=frames.normalise("group_log", rows))


def test_rebalances_among_members_that_stay_are_counted_in_the_groups_log() -> None:
    steps = [(-1800.0, "generation", 1, None, 3)]
    steps += [(20.0 * n, "generation", 1 + n, None, 3) for n in range(1, 6)]
    check = incidents.checks(membership.members, logged(*steps))["membership_churn"]
    assert check.outcome == "present"
    assert check.source == "kafka"
    assert check.findings[0].value == 5
    assert "session timeout 10 s" in check.findings[0].statement


def crash_loop(stay: float) -> Incident:
    steps: list[tuple[float, str, int, str | None, int | None]] = [
        (-1800.0, "generation", 1, None, 3)
    ]
    for n in range(6):
        at = 10.0 + 40.0 * n
        steps += [
            (at, "generation", 2 * n + 2, None, 1),
            (at, "joined", 2 * n + 2, f"m-{n}", None),
            (at + stay, "emptied", 2 * n + 3, None, 0),
            (at + stay, "left", 2 * n + 3, f"m-{n}", None),
        ]
    return logged(*steps)


def test_members_that_say_goodbye_at_once_end_themselves_and_are_no_storm() -> None:
    checks = incidents.checks(membership.members, crash_loop(0.02))
    assert checks["members_leave_at_once"].outcome == "present"
    assert "6 of 6 times" in checks["members_leave_at_once"].findings[0].statement
    assert checks["membership_churn"].outcome == "absent"
    assert checks["members_missing"].outcome == "present"


def test_a_guest_that_comes_and_goes_beside_members_that_stay_is_no_member_that_dies() -> None:
    steps: list[tuple[float, str, int, str | None, int | None]] = [
        (-1800.0, "generation", 1, None, 3)
    ]
    for n in range(6):
        at = 10.0 + 40.0 * n
        steps += [
            (at, "joined", 2 * n + 2, f"guest-{n}", None),
            (at, "generation", 2 * n + 2, None, 4),
            (at + 5, "left", 2 * n + 3, f"guest-{n}", None),
            (at + 5, "generation", 2 * n + 3, None, 3),
        ]
    checks = incidents.checks(membership.members, logged(*steps))
    assert checks["members_leave_at_once"].outcome == "absent"
    assert "beside the 3 that were there before" in checks["members_leave_at_once"].reason
    assert checks["membership_churn"].outcome == "present"


def test_members_that_are_missed_after_their_session_may_have_been_cut_off() -> None:
    checks = incidents.checks(membership.members, crash_loop(10.0))
    assert checks["members_leave_at_once"].outcome == "absent"


def test_log_that_was_not_read_says_nothing_of_members() -> None:
    check = incidents.checks(membership.members, alone("slow"))["members_leave_at_once"]
    assert check.outcome == "not_checked"
    assert "read_offsets_topic" in check.reason


def test_log_that_was_read_and_names_no_member_shows_that_none_left() -> None:
    made = alone("slow")
    row = made.partitions.iloc[0]
    commits = [
        {
            "timestamp": END - pd.Timedelta("20min"),
            "group": made.group,
            "topic": row["topic"],
            "partition": 0,
            "committed_offset": row["committed_offset"],
            "log_position": 1,
            "complete": False,
            "query_id": "kafka-07",
        }
    ]
    made = incidents.with_tables(made, commits=frames.normalise("commits", commits))
    check = incidents.checks(membership.members, made)["members_leave_at_once"]
    assert check.outcome == "absent"


def test_one_commit_of_the_groups_log_is_no_history() -> None:
    """A group that was seeked a minute ago has not been behind for a minute only."""
    made = alone("still")
    rows = made.partitions.loc[made.partitions["group"] == made.group]
    last = rows.loc[rows["timestamp"] == rows["timestamp"].max()]
    commits = [
        {
            "timestamp": END - pd.Timedelta("90s"),
            "group": made.group,
            "topic": row.topic,
            "partition": row.partition,
            "committed_offset": row.committed_offset,
            "log_position": row.partition,
            "complete": True,
            "query_id": "kafka-07",
        }
        for row in last.itertuples()
    ]
    told = incidents.with_tables(made, commits=frames.normalise("commits", commits))
    flow = measure(told, promise_seconds=60.0)
    assert flow.seen_only_now
    assert flow.onset is not None
    assert flow.onset.at < END - pd.Timedelta("4min")

"""What groups the lagging partitions, and offsets that tell their own story."""

from __future__ import annotations

import incidents
import numpy as np
import pandas as pd
import pytest

from lagkit import frames
from lagkit.investigation import investigate
from lagkit.signals import partitions

TOPIC = incidents.TOPIC


def shape(incident) -> dict:
    return incidents.checks(partitions.shape, incident)


def anomalies(incident) -> dict:
    return incidents.checks(partitions.offset_anomalies, incident)


def after(second: float):
    return lambda table: table["timestamp"] >= incidents.moment(second)


# -- shape


def test_one_stuck_partition_is_named_with_its_offset_and_its_time():
    finding = shape(incidents.make("poison_retry"))["partition_frozen"].findings[0]
    stuck = incidents.make("poison_retry").partitions.query("partition == 2")
    assert finding.id == f"partition_frozen:{TOPIC}/2"
    assert finding.value == stuck["committed_offset"].iloc[-1]
    assert abs(finding.onset - incidents.moment(incidents.FAULT)) <= pd.Timedelta("30s")
    assert "5 other partitions advance" in finding.statement


@pytest.mark.parametrize("kind", ["calm", "slow", "down", "spike", "skew", "network"])
def test_a_group_that_stands_or_crawls_as_a_whole_has_no_stuck_record(kind):
    assert shape(incidents.make(kind))["partition_frozen"].outcome == "absent"


def test_a_partition_that_stands_alone_because_the_others_are_idle_is_no_stuck_record():
    """Only one partition gets records and the consumer is gone: nobody advances."""
    made = incidents.make("down")
    quiet = made.offsets.loc[made.offsets["partition"] != 2]
    level = quiet.assign(log_end_offset=1000.0, committed_offset=1000.0, lag_messages=0.0)
    busy = made.offsets.loc[made.offsets["partition"] == 2]
    table = frames.normalise("offsets", pd.concat([level, busy]))
    assert shape(incidents.with_tables(made, offsets=table))["partition_frozen"].outcome == "absent"


def test_a_partition_that_stands_beside_others_that_fall_behind_may_stand_for_their_reason():
    made = incidents.make("poison_retry")
    slow = made.offsets["partition"].isin([0, 1, 3])
    since = made.offsets["timestamp"] >= incidents.moment(incidents.FAULT)
    offsets = made.offsets.sort_values("timestamp")
    first = offsets.loc[since].groupby("partition")["committed_offset"].first()
    behind = made.offsets["partition"].map(first)
    crawling = behind + (made.offsets["committed_offset"] - behind) // 4
    committed = made.offsets["committed_offset"].where(~(slow & since), crawling)
    check = shape(
        incidents.with_tables(
            made,
            offsets=made.offsets.assign(committed_offset=committed),
            partitions=frames.empty("partitions"),
        )
    )["partition_frozen"]
    assert check.outcome == "not_checked"
    assert "others fall behind as well" in check.reason


def test_a_topic_of_one_partition_cannot_tell_a_stuck_record_from_a_stopped_group():
    made = incidents.make("poison_retry")
    one = made.offsets.loc[made.offsets["partition"] == 2].reset_index(drop=True)
    assert shape(incidents.with_tables(made, offsets=one))["partition_frozen"].outcome == (
        "not_checked"
    )


def by_topic(made):
    """Return the incident as an exporter tells it that knows topics and no partition."""
    known = made.offsets.loc[made.offsets["committed_offset"] >= 0]
    sums = known.groupby(["timestamp", "group", "topic"], as_index=False).agg(
        committed_offset=("committed_offset", "sum"),
        log_end_offset=("log_end_offset", "sum"),
        lag_messages=("lag_messages", "sum"),
        query_id=("query_id", "first"),
    )
    table = frames.normalise("offsets", sums.assign(partition=frames.WHOLE_TOPIC))
    return incidents.with_tables(made, offsets=table)


@pytest.mark.parametrize("kind", ["poison_retry", "slow", "skew"])
def test_where_only_topics_are_told_no_partition_is_blamed_and_none_cleared(kind):
    """lag.md Q12: not assessable, not absent."""
    checks = shape(by_topic(incidents.make(kind)))
    assert {check.outcome for check in checks.values()} == {"not_checked"}


@pytest.mark.parametrize(
    ("kind", "cause"), [("slow", "slow_processing"), ("down", "consumer_down"), ("calm", "none")]
)
def test_where_only_topics_are_told_the_rest_still_finds_the_cause(kind, cause):
    assert investigate(by_topic(incidents.make(kind))).verdict.verdict.cause == cause


def test_seconds_of_snapshots_show_no_stuck_record_and_refute_none():
    for kind in ("poison_retry", "calm"):
        seen = shape(incidents.without(incidents.make(kind), "prometheus"))
        assert seen["partition_frozen"].outcome == "not_checked"
        assert seen["production_skewed"].outcome == "not_checked"


def standing(seconds: float, *, pause: float = 0.0, others: bool = False):
    """Return an incident whose partition 3 stands at the end, and once before for *pause*."""
    made, end = incidents.make("calm", step=5), incidents.SECONDS
    for first, last in ((end - seconds, end), (300.0, 300.0 + pause)):

        def held(table, first=first, last=last):
            times = table["timestamp"].between(incidents.moment(first), incidents.moment(last))
            return times & ((table["partition"] == 3) | others)

        at = made.offsets["partition"].map(
            made.offsets.loc[held(made.offsets)].groupby("partition")["committed_offset"].min()
        )
        committed = made.offsets["committed_offset"].mask(held(made.offsets), at)
        offsets = made.offsets.assign(committed_offset=committed, lag_messages=np.nan)
        made = incidents.with_tables(made, offsets=offsets, partitions=frames.empty("partitions"))
    return made


def test_a_partition_that_never_stood_and_stands_now_is_stuck_before_the_minute_is_over():
    (finding,) = shape(standing(50))["partition_frozen"].findings
    assert finding.id == f"partition_frozen:{TOPIC}/3"
    assert finding.onset == incidents.moment(incidents.SECONDS - 50)


@pytest.mark.parametrize(
    "made",
    [standing(20), standing(50, pause=20), standing(50, others=True)],
    ids=["only begun", "stood before as well", "all stand"],
)
def test_a_partition_that_stands_no_longer_than_usual_or_not_alone_is_not_stuck(made):
    assert shape(made)["partition_frozen"].outcome == "absent"


def member_behind(owner: int):
    """Return an incident in which the partitions of one of three members stand still."""
    made = incidents.make("calm")

    def theirs(table):
        return table["partition"].isin([2 * owner, 2 * owner + 1]) & (
            table["timestamp"] >= incidents.moment(incidents.FAULT)
        )

    first = made.offsets.loc[theirs(made.offsets), "committed_offset"].min()
    return incidents.edited(made, "offsets", theirs, committed_offset=first, lag_messages=np.nan)


def test_partitions_of_one_member_are_told_by_its_pod():
    check = shape(member_behind(1))["one_member_behind"]
    assert check.outcome == "present"
    assert incidents.PODS[1] in check.findings[0].statement


def test_a_lag_on_every_member_is_no_members_own():
    assert shape(incidents.make("slow"))["one_member_behind"].outcome == "absent"


def test_without_members_nobody_is_blamed():
    check = shape(incidents.without(member_behind(1), "kafka"))["one_member_behind"]
    assert check.outcome == "not_checked"


def behind_on(*stopped: int, leaders: tuple[int, ...] = (1, 2, 3, 1, 3, 2)):
    """Return an incident where the partitions *stopped* are behind, each led as *leaders* say."""
    made = incidents.make("calm")

    def theirs(table):
        return table["partition"].isin(stopped) & after(incidents.FAULT)(table)

    first = made.offsets.loc[theirs(made.offsets), "committed_offset"].min()
    made = incidents.edited(made, "offsets", theirs, committed_offset=first, lag_messages=np.nan)
    led = made.partitions["partition"].map(dict(enumerate(leaders))).astype("Int64")
    return incidents.with_tables(made, partitions=made.partitions.assign(leader=led))


def test_partitions_that_one_broker_leads_are_told_by_it_where_their_members_read_others_too():
    (finding,) = shape(behind_on(1, 5))["one_leader_behind"].findings
    assert "are those that broker 2 leads" in finding.statement
    assert (finding.value, finding.baseline) == (2, incidents.PARTITIONS)


@pytest.mark.parametrize(
    "made",
    [
        behind_on(1, 2, 5),
        behind_on(1),
        behind_on(1, 5, leaders=(1, 2, 2, 1, 3, 2)),
        # both partitions of the second member, and of the second broker: whose fault is it?
        behind_on(2, 3, leaders=(1, 1, 2, 2, 3, 3)),
    ],
    ids=["of two leaders", "only one", "not all of them", "of one member"],
)
def test_partitions_that_are_behind_for_another_reason_are_no_leaders(made):
    assert shape(made)["one_leader_behind"].outcome == "absent"


def test_a_leader_is_not_one_of_several_where_there_is_one_or_none_is_known():
    alone = behind_on(1, 5, leaders=(1,) * incidents.PARTITIONS)
    unread = incidents.without(behind_on(1, 5), "kafka")
    for made in (alone, unread):
        assert shape(made)["one_leader_behind"].outcome == "not_checked"


def test_a_single_member_is_never_one_of_several():
    made = incidents.edited(member_behind(1), "members", member_id="only", client_id="only")
    assert shape(made)["one_member_behind"].outcome == "not_checked"


def test_a_hot_partition_is_told_with_its_share():
    finding = shape(incidents.make("skew"))["production_skewed"].findings[0]
    assert finding.id == f"production_skewed:{TOPIC}/4"
    assert finding.value == pytest.approx(0.92, abs=0.05)
    assert finding.baseline == pytest.approx(1 / 6)


def test_even_production_is_not_skewed():
    assert shape(incidents.make("spike"))["production_skewed"].outcome == "absent"


# -- offsets


def test_a_rewind_is_told_with_both_offsets():
    finding = anomalies(incidents.make("rewind"))["committed_moved"].findings[0]
    assert finding.baseline - finding.value == pytest.approx(1500, abs=200)
    assert abs(finding.onset - incidents.moment(incidents.FAULT)) <= pd.Timedelta("15s")


def test_a_seek_to_the_end_is_told():
    """Nothing was read for ten minutes, then everything was left behind at once."""
    made = incidents.make("down")
    table = made.offsets
    late = table["timestamp"] >= incidents.moment(incidents.SECONDS - 60)
    big = table.assign(
        log_end_offset=table["log_end_offset"].where(
            table["timestamp"] < incidents.moment(incidents.FAULT + 60),
            table["log_end_offset"] + 50_000,
        )
    )
    big["committed_offset"] = big["committed_offset"].where(~late, big["log_end_offset"])
    big["lag_messages"] = np.nan
    moved = incidents.with_tables(made, offsets=frames.normalise("offsets", big))
    assert anomalies(moved)["committed_moved"].outcome == "present"


@pytest.mark.parametrize("step", [15, 60])
def test_a_group_that_catches_up_fast_was_not_moved(step):
    """Thousands of messages between two scrapes are a working consumer, not a seek."""
    made = incidents.make("calm")
    at = np.arange(0, incidents.SECONDS + 1, step)
    end = 1000.0 + 40 * at
    # stopped from 600 s to 1200 s, then four hundred a second and partition
    committed = np.where(
        at < 600, end, np.minimum(end, 1000.0 + 40 * 600 + np.maximum(0, at - 1200) * 400.0)
    )
    committed = np.where((at >= 600) & (at < 1200), 1000.0 + 40 * 600, committed)
    table = incidents.offsets(at, {p: {"committed": committed, "end": end} for p in range(6)})
    caught = incidents.with_tables(made, offsets=frames.normalise("offsets", table))
    assert anomalies(caught)["committed_moved"].outcome == "absent"


def test_records_deleted_unread_are_counted():
    finding = anomalies(incidents.make("slow_until_deleted"))["records_deleted_unread"].findings[0]
    assert finding.value == 1500


def test_without_log_starts_a_loss_is_not_checked_and_not_refuted():
    made = incidents.without(incidents.make("slow_until_deleted"), "kafka")
    blind = incidents.edited(made, "offsets", log_start_offset=np.nan)
    assert anomalies(blind)["records_deleted_unread"].outcome == "not_checked"


def test_a_log_that_starts_where_the_group_stands_has_lost_nothing():
    made = incidents.make("calm")
    table = made.partitions.assign(log_start_offset=made.partitions["committed_offset"])
    assert (
        anomalies(incidents.with_tables(made, partitions=table))["records_deleted_unread"].outcome
        == "absent"
    )


def test_a_pinned_last_stable_offset_is_told():
    finding = anomalies(incidents.make("hung_transaction"))["last_stable_offset_pinned"].findings[0]
    assert finding.id == f"last_stable_offset_pinned:{TOPIC}/1"
    assert finding.value < finding.baseline


def test_a_last_stable_offset_that_moves_is_a_transaction_at_work():
    made = incidents.make("hung_transaction")
    behind = made.partitions.assign(last_stable_offset=made.partitions["log_end_offset"] - 1)
    assert (
        anomalies(incidents.with_tables(made, partitions=behind))[
            "last_stable_offset_pinned"
        ].outcome
        == "absent"
    )


def test_one_snapshot_shows_no_pinned_offset_and_refutes_none():
    made = incidents.make("hung_transaction")
    last = made.partitions.loc[made.partitions["timestamp"] == made.partitions["timestamp"].max()]
    check = anomalies(incidents.with_tables(made, partitions=last.reset_index(drop=True)))
    assert check["last_stable_offset_pinned"].outcome == "not_checked"


def test_a_partition_of_a_killed_member_is_held_by_no_record():
    made = incidents.make("poison_retry")
    assert shape(made)["partition_frozen"].outcome == "present"
    killed = incidents.edited(
        made,
        "pods",
        lambda table: table["pod"] == incidents.PODS[0],
        last_exit_code=137,
        last_reason="OOMKilled",
        last_finished_at=incidents.moment(incidents.FAULT + 60),
        restart_count=3,
    )
    check = shape(killed)["partition_frozen"]
    assert check.outcome == "not_checked"
    assert "killed (exit code 137)" in check.reason

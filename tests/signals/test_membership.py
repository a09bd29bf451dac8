"""Who is in the group, who left, and what a single look cannot show."""

from __future__ import annotations

import incidents
import numpy as np
import pandas as pd
import pytest

from lagkit import frames
from lagkit.signals import membership


def group(incident) -> dict:
    return incidents.checks(membership.members, incident)


def after(second: float):
    return lambda table: table["timestamp"] >= incidents.moment(second)


def between(first: float, last: float):
    return lambda table: table["timestamp"].between(incidents.moment(first), incidents.moment(last))


def test_members_that_are_gone_are_counted_against_those_before():
    finding = group(incidents.make("down"))["members_missing"].findings[0]
    assert (finding.value, finding.baseline) == (0, 3)
    assert abs(finding.onset - incidents.moment(incidents.FAULT)) <= pd.Timedelta("30s")
    assert "no members" in finding.statement


def test_one_of_three_is_missing():
    made = incidents.edited(
        incidents.make("slow"), "group_history", after(incidents.FAULT), member_count=2.0
    )
    made = incidents.edited(made, "group_state", member_count=2)
    finding = group(made)["members_missing"].findings[0]
    assert (finding.value, finding.baseline) == (2, 3)


def test_where_no_exporter_counts_members_the_workload_says_how_many_there_should_be():
    made = incidents.edited(
        incidents.make("slow"), "group_history", member_count=float("nan"), state="Stable"
    )
    made = incidents.edited(made, "group_state", member_count=2)
    made = incidents.edited(
        made, "pods", lambda table: table["pod"] == incidents.PODS[0], ready=False
    )
    made = incidents.edited(
        made, "workloads", lambda table: table["role"] == "consumer", ready_replicas=2
    )
    checks = group(made)
    (finding,) = checks["members_missing"].findings
    assert finding.statement.startswith("the group has 2 members; its workload wants 3")
    assert checks["slower_with_all_members"].outcome == "absent"


def test_members_listed_beside_a_pod_that_is_not_ready_may_be_gone():
    """A killed member stays in the coordinator's list until its session times out."""
    made = incidents.edited(
        incidents.make("slow"), "pods", lambda table: table["pod"] == incidents.PODS[0], ready=False
    )
    checks = group(made)
    for kind in ("members_missing", "slower_with_all_members"):
        assert checks[kind].outcome == "not_checked"
        assert "3 members are listed, but 1 of 3 pods are not ready" in checks[kind].reason


def test_a_member_that_was_away_for_one_scrape_is_not_missing():
    made = incidents.edited(
        incidents.make("slow"),
        "group_history",
        between(incidents.FAULT + 60, incidents.FAULT + 70),
        member_count=2.0,
    )
    assert group(made)["members_missing"].outcome == "absent"


def test_a_group_that_manages_no_members_and_commits_is_not_down():
    """assign() instead of subscribe(): the group is Empty for ever and reads all the same."""
    made = incidents.edited(
        incidents.make("spike"), "group_history", member_count=0.0, state="Empty"
    )
    made = incidents.edited(made, "group_state", member_count=0, state="Empty")
    made = incidents.with_tables(made, members=frames.empty("members"))
    assert group(made)["members_missing"].outcome == "not_checked"


def test_a_group_without_members_that_reads_nothing_is_down_even_without_a_history():
    made = incidents.with_tables(
        incidents.make("down"), group_history=frames.empty("group_history")
    )
    assert group(made)["members_missing"].outcome == "present"


def test_an_exporter_that_cannot_see_the_new_protocol_does_not_empty_the_group():
    made = incidents.edited(incidents.make("slow"), "group_history", member_count=0.0, state=None)
    made = incidents.edited(made, "group_state", protocol="consumer")
    assert group(made)["members_missing"].outcome == "absent"


def test_no_count_anywhere_is_not_checked():
    made = incidents.with_tables(
        incidents.make("down"),
        group_history=frames.empty("group_history"),
        group_state=frames.empty("group_state"),
    )
    assert group(made)["members_missing"].outcome == "not_checked"


def test_another_groups_members_are_not_ours():
    made = incidents.added(
        incidents.make("slow"),
        "group_history",
        {"group": "other", "member_count": 0.0, "timestamp": incidents.END},
    )
    assert group(made)["members_missing"].outcome == "absent"


# -- churn


def test_members_that_come_and_go_are_churn():
    finding = group(incidents.make("storm"))["membership_churn"].findings[0]
    assert finding.value >= membership.CHURN_CHANGES
    assert finding.onset >= incidents.moment(incidents.FAULT) - pd.Timedelta("60s")


def test_one_restart_is_no_churn():
    made = incidents.edited(
        incidents.make("slow"),
        "group_history",
        between(incidents.FAULT + 60, incidents.FAULT + 100),
        member_count=2.0,
    )
    assert group(made)["membership_churn"].outcome == "absent"


@pytest.mark.parametrize("offset", [0.0, 3.0, 7.4, 11.9, 14.9])
def test_one_rebalance_counts_once_wherever_its_seconds_fall(offset):
    """Six lines of three pods within ten seconds, on either side of a full quarter minute."""
    begin = incidents.FAULT + 60 + offset
    lines = [
        (begin + n * 2, n % 3, "INFO", f"rebalance: assigned deploy-requests[{n}]")
        for n in range(6)
    ]
    two = [(second + 100, pod, level, text) for second, pod, level, text in lines]
    made = incidents.saying(incidents.make("slow"), *lines, *two)
    check = group(made)["membership_churn"]
    assert check.outcome == "absent"
    assert "2 separate times" in check.reason


def test_three_rebalances_in_the_logs_are_churn_without_any_metric():
    lines = [(incidents.FAULT + 60 * n, 0, "INFO", "rebalance: revoked") for n in range(1, 5)]
    made = incidents.saying(incidents.make("slow"), *lines)
    check = group(made)["membership_churn"]
    assert check.outcome == "present"
    assert check.findings[0].source == "kubernetes"
    assert check.findings[0].quote


def rebalancing_in_two_scrapes_and_two_lines(apart: float):
    """Two samples find the group rebalancing; a pod logs two rebalances, *apart* seconds later."""
    made = incidents.make("slow")
    for second in (60, 180):
        begin = incidents.FAULT + second
        made = incidents.edited(
            made, "group_history", between(begin, begin + 14), state="PreparingRebalance"
        )
    made = incidents.edited(made, "group_history", member_count=float("nan"))
    lines = [
        (incidents.FAULT + second + apart, 0, "INFO", "rebalance: revoked") for second in (60, 180)
    ]
    return incidents.saying(made, *lines)


def test_what_scrapes_and_logs_saw_of_different_rebalances_adds_up():
    check = group(rebalancing_in_two_scrapes_and_two_lines(apart=60))["membership_churn"]
    assert check.outcome == "present"
    assert check.findings[0].statement == (
        "since the onset 2 samples found the group rebalancing, "
        "the members logged rebalances at 2 separate times"
    )


def test_what_scrapes_and_logs_saw_of_the_same_rebalances_counts_once():
    check = group(rebalancing_in_two_scrapes_and_two_lines(apart=5))["membership_churn"]
    assert check.outcome == "absent"
    assert "members changed" not in check.reason, "nobody counted them"


@pytest.mark.parametrize(
    ("state", "outcome"), [("PreparingRebalance", "present"), ("Stable", "absent")]
)
def test_a_member_that_went_and_came_and_a_group_found_rebalancing_now_are_three_moments(
    state, outcome
):
    made = incidents.edited(
        incidents.make("slow"),
        "group_history",
        between(incidents.FAULT + 60, incidents.FAULT + 120),
        member_count=2.0,
    )
    made = incidents.edited(made, "group_state", state=state)
    made = incidents.with_tables(made, logs=frames.empty("logs"))
    assert group(made)["membership_churn"].outcome == outcome


def test_rebalances_before_the_onset_do_not_count():
    lines = [(60 * n, 0, "INFO", "rebalance: revoked") for n in range(1, 10)]
    made = incidents.saying(incidents.make("slow"), *lines)
    assert group(made)["membership_churn"].outcome == "absent"


def test_one_look_at_the_coordinator_shows_no_churn_and_refutes_none():
    made = incidents.without(incidents.make("slow"), "prometheus", "kubernetes")
    assert group(made)["membership_churn"].outcome == "not_checked"


# -- slower with all members, and room


def test_slower_with_all_members_needs_members_that_were_looked_at():
    assert group(incidents.make("slow"))["slower_with_all_members"].outcome == "present"
    blind = incidents.with_tables(
        incidents.without(incidents.make("slow"), "kubernetes"),
        group_history=frames.empty("group_history"),
    )
    assert group(blind)["slower_with_all_members"].outcome == "not_checked"


@pytest.mark.parametrize("kind", ["down", "storm", "calm", "spike"])
def test_it_is_absent_when_members_are_missing_or_nothing_is_slower(kind):
    assert group(incidents.make(kind))["slower_with_all_members"].outcome == "absent"


def test_members_that_their_group_refuses_are_not_all_there():
    text = "JoinGroup failed: Broker: Inconsistent group protocol"
    made = incidents.saying(incidents.make("slow"), (incidents.FAULT + 40, 0, "WARNING", text))
    check = group(made)["slower_with_all_members"]
    assert (check.outcome, check.reason) == ("absent", "The group refuses members.")


@pytest.mark.parametrize(("members", "outcome"), [(3, "absent"), (6, "present"), (8, "present")])
def test_there_is_room_while_members_are_fewer_than_partitions(members, outcome):
    made = incidents.make("spike")
    rows = [
        {
            "timestamp": incidents.END,
            "group": incidents.GROUP,
            "member_id": f"m{n}",
            "topic": incidents.TOPIC if n < 6 else None,
            "partition": n if n < 6 else None,
            "query_id": "kafka-02",
        }
        for n in range(members)
    ]
    if members == 3:
        rows = [
            {**row, "partition": p, "member_id": f"m{p // 2}"}
            for p in range(6)
            for row in [dict(rows[0])]
        ]
    made = incidents.with_tables(made, members=frames.normalise("members", rows))
    assert group(made)["no_spare_partition"].outcome == outcome


def test_without_an_assignment_room_is_not_checked():
    made = incidents.without(incidents.make("spike"), "kafka")
    assert group(made)["no_spare_partition"].outcome == "not_checked"


def test_counts_that_are_not_known_are_skipped():
    made = incidents.edited(
        incidents.make("down"), "group_history", between(600, 700), member_count=np.nan
    )
    assert group(made)["members_missing"].findings[0].baseline == 3


def test_members_missing_from_containers_that_run_on_were_cut_off():
    made = incidents.edited(
        incidents.make("slow"), "group_history", after(incidents.FAULT), member_count=2.0
    )
    finding = group(incidents.edited(made, "group_state", member_count=2))[
        "cut_off_while_running"
    ].findings[0]
    assert (finding.value, finding.baseline) == (2, 3)
    assert "3 pods are there" in finding.statement


def test_members_whose_containers_ended_were_not_cut_off():
    assert group(incidents.make("down"))["cut_off_while_running"].outcome == "absent"


def test_members_that_were_scaled_away_left_no_pod_behind():
    made = incidents.edited(
        incidents.make("slow"), "group_history", after(incidents.FAULT), member_count=2.0
    )
    made = incidents.edited(made, "group_state", member_count=2)
    made = incidents.with_tables(made, pods=made.pods.loc[made.pods["pod"] != incidents.PODS[0]])
    assert group(made)["cut_off_while_running"].outcome == "absent"


def test_whether_containers_run_on_is_not_guessed():
    made = incidents.without(incidents.make("down"), "kubernetes")
    assert group(made)["cut_off_while_running"].outcome == "not_checked"


def unlogged(members_left: float, *, seconds: int = 40, kind: str = "slow", cores: float = 0.2):
    """Return an incident without logs, whose members are fewer for so many seconds."""
    made = incidents.edited(
        incidents.make(kind),
        "group_history",
        between(incidents.FAULT + 30, incidents.FAULT + 30 + seconds),
        member_count=members_left,
    )
    busy = [
        {
            "timestamp": incidents.moment(second),
            "namespace": "stoa-system",
            "pod": pod,
            "container": "worker",
            "metric": "cpu_cores",
            "value": cores if second > incidents.FAULT else 0.2,
            "unit": "cores",
            "query_id": "prometheus-30",
        }
        for pod in incidents.PODS
        for second in range(0, incidents.SECONDS, incidents.STEP)
    ]
    return incidents.with_tables(
        made, logs=frames.empty("logs"), pod_metrics=frames.normalise("pod_metrics", busy)
    )


def all_sessions(incident):
    return membership.gone_together(incidents.context(incident))


def test_members_that_all_go_at_once_while_their_containers_run_lost_their_sessions_together():
    (finding,) = all_sessions(unlogged(0)).findings
    assert (finding.id, finding.value) == ("sessions_lost_by_all", 3)
    assert finding.statement.startswith("all 3 members were gone within 15 s")
    assert finding.onset == incidents.moment(incidents.FAULT + 15)


def test_one_member_that_stayed_shares_nothing_with_those_that_went():
    check = all_sessions(unlogged(1))
    assert (check.outcome, check.source) == ("absent", "prometheus")
    assert check.reason == "Of 3 members 1 were left when the fewest were there."


def test_members_that_were_gone_at_the_first_scrape_of_the_lag_went_together_too():
    made = unlogged(0)
    began = incidents.context(made).onset_earliest
    gone = incidents.edited(
        made, "group_history", lambda table: table["timestamp"] >= began, member_count=0
    )
    assert all_sessions(gone).outcome == "present"


def test_members_that_go_one_after_the_other_did_not_go_at_once():
    made = unlogged(0)
    slowly = incidents.edited(
        made, "group_history", between(incidents.FAULT - 30, incidents.FAULT + 20), member_count=2
    )
    assert all_sessions(slowly).outcome == "absent"


def test_members_whose_containers_ended_or_stand_still_took_their_sessions_along():
    assert all_sessions(unlogged(0, kind="down")).outcome == "absent"
    standing = all_sessions(unlogged(0, cores=0.0))
    assert standing.outcome == "absent"
    assert "runs and uses no CPU" in standing.reason


def test_that_all_members_went_says_little_where_no_container_is_known():
    made = incidents.without(unlogged(0), "kubernetes")
    made = incidents.with_tables(made, pod_metrics=frames.empty("pod_metrics"))
    assert all_sessions(made).outcome == "not_checked"


def told_by(incident, kind: str):
    return group(incident)[kind]


def test_members_whom_the_brokers_refuse_a_right_are_not_slower():
    text = "commit failed: KafkaError{code=GROUP_AUTHORIZATION_FAILED,val=30}"
    made = incidents.saying(incidents.make("slow"), (incidents.FAULT + 40, 0, "ERROR", text))
    check = told_by(made, "slower_with_all_members")
    assert check.outcome == "absent"
    assert "refuse" in check.reason


def asked_for_events(incident, *events):
    row = incident.queries.iloc[0].to_dict()
    asked = {
        **row,
        "query_id": "kubernetes-91",
        "source": "kubernetes",
        "outcome": "ok",
        "statement": "GET /api/v1/namespaces/stoa-system/events?limit=500",
    }
    return incidents.added(incidents.added(incident, "queries", asked), "events", *events)


def test_pods_that_are_replaced_again_and_again_take_their_members_along():
    name = str(incidents.make("slow").rollouts["replica_set"].iloc[0])
    made = asked_for_events(
        incidents.make("slow"),
        *(
            incidents.event(
                incidents.FAULT + 20 * n,
                kind="ReplicaSet",
                name=name,
                reason="SuccessfulCreate",
                message=f"Created pod: {name}-{n}",
            )
            for n in range(4)
        ),
    )
    check = told_by(made, "membership_churn")
    assert check.outcome == "present"
    assert "each leaves the group" in check.findings[0].statement
    assert told_by(incidents.make("slow"), "membership_churn").outcome == "absent"


def test_members_are_counted_against_the_replicas_that_were_taken_away():
    name = str(incidents.make("slow").rollouts["replica_set"].iloc[0])
    made = asked_for_events(
        incidents.edited(
            incidents.make("slow"), "group_history", member_count=float("nan"), state="Stable"
        ),
        incidents.event(
            incidents.FAULT - 5,
            kind="Deployment",
            name="control-plane-api",
            reason="ScalingReplicaSet",
            message=f"Scaled down replica set {name} from 5 to 3",
        ),
    )
    check = told_by(made, "members_missing")
    assert check.outcome == "present"
    assert "scaled down from 5 to 3 replicas" in check.findings[0].statement
    assert told_by(made, "slower_with_all_members").outcome == "absent"


@pytest.mark.parametrize(
    ("jobs_each", "outcome"),
    [(1, "present"), (0, "absent"), (None, "not_checked")],
    ids=["some work", "no work", "nobody counts"],
)
def test_a_group_that_commits_nothing_is_slower_only_if_what_it_does_tells_so(jobs_each, outcome):
    made = incidents.make("slow")
    late = made.offsets["timestamp"] >= incidents.moment(incidents.FAULT)
    offsets = made.offsets.copy()
    still = offsets.loc[~late].groupby("partition")["committed_offset"].max()
    offsets.loc[late, "committed_offset"] = offsets.loc[late, "partition"].map(still)
    jobs = made.jobs.copy()
    after_fault = jobs["timestamp"] >= incidents.moment(incidents.FAULT)
    if jobs_each is None:
        jobs = frames.empty("jobs")
    elif not jobs_each:
        jobs = jobs.loc[~after_fault]
    made = incidents.with_tables(
        made, offsets=frames.normalise("offsets", offsets), jobs=frames.normalise("jobs", jobs)
    )
    assert told_by(made, "slower_with_all_members").outcome == outcome

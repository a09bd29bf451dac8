"""The consumer's pods: what ended inside the incident, and what did not."""

from __future__ import annotations

from dataclasses import replace

import incidents
import pandas as pd
import pytest

from lagkit import frames
from lagkit.investigation import investigate
from lagkit.signals import logs, pods

SLOW = incidents.make("slow")


def consumers(incident) -> dict:
    return incidents.checks(pods.consumers, incident)


def first(table: pd.DataFrame) -> pd.Series:
    return table["pod"] == incidents.PODS[0]


def ended(when: pd.Timestamp, **changes):
    """Return the slow incident with one container that ended at *when*."""
    values = {
        "last_exit_code": 1,
        "last_reason": "Error",
        "last_finished_at": when,
        "restart_count": 1,
    }
    return incidents.edited(SLOW, "pods", first, **(values | changes))


# -- containers


@pytest.mark.parametrize(("well", "outcome"), [(90, "absent"), (30, "present")])
def test_a_container_started_anew_that_worked_for_a_minute_before_the_onset_is_mended(
    well, outcome
):
    onset = incidents.FAULT - 15  # the interval begins a scrape before it
    anew = onset - well
    made = ended(incidents.moment(anew - 5), last_exit_code=137, started_at=incidents.moment(anew))
    assert consumers(made)["containers_failing"].outcome == outcome


def test_a_container_that_ended_after_the_onset_is_told_with_its_exit_code():
    made = ended(
        incidents.moment(incidents.FAULT + 30), last_exit_code=137, last_reason="OOMKilled"
    )
    finding = consumers(made)["containers_failing"].findings[0]
    assert "exit code 137 (OOMKilled), 1 restart" in finding.statement
    assert finding.onset == incidents.moment(incidents.FAULT + 30)
    assert finding.id == f"containers_failing:stoa-system/{incidents.PODS[0]}"


@pytest.mark.parametrize(
    "when",
    [
        incidents.START - pd.Timedelta("3D"),
        incidents.moment(60),
        incidents.moment(incidents.FAULT - 400),
        incidents.END + pd.Timedelta("6h"),
    ],
    ids=["days ago", "early in the window", "before the onset", "after the window"],
)
def test_a_restart_outside_the_incident_never_raises_consumer_down(when):
    made = ended(when)
    made = incidents.saying(
        made, *((incidents.FAULT + n, 0, "ERROR", "exception: odd") for n in range(3))
    )
    if when > incidents.END:
        made = replace(made, captured_at=when)
    check = consumers(made)["containers_failing"]
    assert check.outcome == "absent"
    words = incidents.checks(logs.members_words, made)
    assert words["startup_failures"].outcome == "absent"
    plain = incidents.saying(
        SLOW, *((incidents.FAULT + n, 0, "ERROR", "exception: odd") for n in range(3))
    )
    if when < incidents.END:
        assert investigate(made).verdict.cause("consumer_down").probability == pytest.approx(
            investigate(plain).verdict.cause("consumer_down").probability
        )


def test_an_old_restart_is_named_as_the_last_one():
    check = consumers(ended(incidents.START - pd.Timedelta("3D")))["containers_failing"]
    assert "the last one before that ended at 2026-11-20" in check.reason


@pytest.mark.parametrize("code", [0, 143])
def test_an_orderly_end_is_no_failure(code):
    made = ended(incidents.moment(incidents.FAULT + 30), last_exit_code=code)
    assert consumers(made)["containers_failing"].outcome == "absent"


def test_a_crash_loop_is_a_failure_whenever_it_began():
    made = ended(
        incidents.START - pd.Timedelta("3D"), state_reason="CrashLoopBackOff", restart_count=700
    )
    finding = consumers(made)["containers_failing"].findings[0]
    assert finding.onset is None
    assert "now CrashLoopBackOff" in finding.statement


def test_the_first_event_tells_when_a_crash_loop_began():
    finding = consumers(incidents.make("poison_crash"))["containers_failing"].findings[0]
    assert finding.onset == incidents.moment(incidents.FAULT + 12)


def test_an_unknown_number_of_restarts_is_unknown():
    made = ended(incidents.moment(incidents.FAULT + 30), restart_count=None, last_reason=None)
    finding = consumers(made)["containers_failing"].findings[0]
    assert finding.value is None
    assert "restart" not in finding.statement


def test_two_containers_of_one_pod_make_one_finding_about_the_worse():
    made = ended(
        incidents.moment(incidents.FAULT + 30), restart_count=2, state_reason="CrashLoopBackOff"
    )
    row = dict(made.pods.loc[first(made.pods)].iloc[0])
    made = incidents.added(made, "pods", {**row, "container": "sidecar", "restart_count": 9})
    for kind in ("containers_failing", "pods_unavailable"):
        ids = [finding.id for finding in consumers(made)[kind].findings]
        assert len(ids) == len(set(ids)), kind
    assert "9 restarts" in consumers(made)["containers_failing"].findings[0].statement


def test_the_downstreams_pods_are_not_the_consumers():
    made = incidents.edited(
        SLOW,
        "pods",
        lambda t: t["role"] == "awx",
        last_exit_code=1,
        last_finished_at=incidents.moment(incidents.FAULT + 30),
        state_reason="CrashLoopBackOff",
    )
    assert consumers(made)["containers_failing"].outcome == "absent"


# -- replicas


def test_a_workload_scaled_to_zero_is_told():
    finding = consumers(incidents.make("scaled_to_zero"))["pods_unavailable"].findings[0]
    assert "scaled to zero" in finding.statement
    assert (finding.value, finding.baseline) == (0, 0)


@pytest.mark.parametrize(("ready", "outcome"), [(3, "absent"), (2, "present"), (None, "present")])
def test_replicas_that_are_not_ready_are_counted_and_absent_means_none(ready, outcome):
    made = incidents.edited(SLOW, "workloads", ready_replicas=ready)
    assert consumers(made)["pods_unavailable"].outcome == outcome


def test_a_workload_whose_size_is_not_known_says_nothing_on_its_pods():
    made = incidents.edited(SLOW, "workloads", desired_replicas=None, ready_replicas=None)
    made = incidents.edited(made, "pods", ready=None)
    assert consumers(made)["pods_unavailable"].outcome == "not_checked"


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_a_pod_that_cannot_start_is_told(reason):
    made = incidents.edited(SLOW, "pods", first, state_reason=reason)
    assert f"waits: {reason}" in consumers(made)["pods_unavailable"].findings[0].statement


def test_the_schedulers_words_are_quoted():
    made = incidents.edited(SLOW, "pods", first, unschedulable="0/3 nodes: <b>no</b> memory")
    finding = consumers(made)["pods_unavailable"].findings[0]
    assert finding.quote == "0/3 nodes: <b>no</b> memory"
    assert "cannot be scheduled" in finding.statement


# -- rollouts


@pytest.mark.parametrize(
    ("seconds", "outcome"), [(-660, "absent"), (-120, "present"), (0, "present"), (300, "absent")]
)
def test_a_rollout_shortly_before_the_onset_is_told(seconds, outcome):
    made = incidents.added(
        SLOW,
        "rollouts",
        {
            "timestamp": incidents.moment(incidents.FAULT + seconds),
            "revision": 5,
            "replica_set": "new",
            "change_cause": "image worker:2",
        },
    )
    check = consumers(made)["rollout_before_onset"]
    assert check.outcome == outcome
    if outcome == "present":
        assert check.findings[0].quote == "image worker:2"


def test_the_first_revision_is_no_change():
    made = incidents.edited(
        SLOW, "rollouts", revision=1, timestamp=incidents.moment(incidents.FAULT - 60)
    )
    assert consumers(made)["rollout_before_onset"].outcome == "absent"


def test_without_kubernetes_nothing_is_said_of_pods():
    seen = consumers(incidents.without(SLOW, "kubernetes"))
    assert {check.outcome for check in seen.values()} == {"not_checked"}
    assert all("did not answer" in check.reason for check in seen.values())


def test_without_pods_but_with_a_workload_replicas_are_still_told():
    made = incidents.with_tables(incidents.make("scaled_to_zero"), pods=frames.empty("pods"))
    seen = consumers(made)
    assert seen["pods_unavailable"].outcome == "present"
    assert seen["containers_failing"].outcome == "not_checked"


# -- what scales the pods, what they stand on, what keeps them from being made


def asked(incident):
    """Return *incident* with the questions about autoscalers answered."""
    row = incident.queries.iloc[0].to_dict()
    rows = [
        {**row, "query_id": f"kubernetes-9{number}", "source": "kubernetes", "outcome": "ok",
         "statement": f"GET /apis/x/namespaces/stoa-system/{path}"}
        for number, path in enumerate(("horizontalpodautoscalers?limit=500", "events?limit=500"))
    ]  # fmt: skip
    return incidents.added(incident, "queries", *rows)


def scaler(incident, **values):
    row = {
        "timestamp": incidents.moment(incidents.SECONDS),
        "namespace": "stoa-system",
        "autoscaler": "by-lag",
        "kind": "HorizontalPodAutoscaler",
        "workload": "control-plane-api",
        "role": "consumer",
        "min_replicas": 1,
        "max_replicas": 6,
        "query_id": "kubernetes-90",
    }
    return incidents.added(asked(incident), "autoscalers", {**row, **values})


def event(second: float, **values):
    """Return what an autoscaler says of itself."""
    scaled = {
        "kind": "HorizontalPodAutoscaler",
        "name": "by-lag",
        "reason": "SuccessfulRescale",
        "message": "New size: 1; reason: All metrics below target",
    }
    return incidents.event(second, **{**scaled, **values})


def test_an_autoscaler_that_scaled_just_before_the_onset_is_told_with_its_time():
    made = incidents.added(scaler(SLOW), "events", event(incidents.FAULT - 10))
    check = consumers(made)["scaled_near_onset"]
    (found,) = check.findings
    assert found.onset == incidents.moment(incidents.FAULT - 10)
    assert "scaled 1 time" in found.statement
    assert "New size: 1" in found.quote


def test_scaling_again_and_again_after_the_onset_counts_its_repeats():
    made = incidents.added(scaler(SLOW), "events", event(incidents.FAULT + 300, count=4))
    (found,) = consumers(made)["scaled_near_onset"].findings
    assert found.value == 4


def test_scaling_long_before_the_onset_did_not_bring_it():
    made = incidents.added(scaler(SLOW), "events", event(incidents.FAULT - 500))
    assert consumers(made)["scaled_near_onset"].outcome == "absent"


SET = str(SLOW.rollouts["replica_set"].iloc[0])
OLD, NEW = SET, "control-plane-api-new"


def scaled(second: float, text: str, **values):
    return event(
        second,
        kind="Deployment",
        name="control-plane-api",
        reason="ScalingReplicaSet",
        message=text,
        **values,
    )


def test_what_a_rollout_scales_is_no_scaling():
    at = incidents.FAULT - 10
    down = scaled(at, f"Scaled down replica set {OLD} from 3 to 2")
    made = incidents.added(asked(SLOW), "events", down)
    assert consumers(made)["scaled_near_onset"].outcome == "present"
    made = incidents.added(made, "events", scaled(at, f"Scaled up replica set {NEW} from 0 to 1"))
    assert consumers(made)["scaled_near_onset"].outcome == "absent"
    assert consumers(made)["pods_unavailable"].outcome == "absent"


def test_the_replicas_that_a_deployment_is_made_with_are_no_scaling():
    made = scaled(incidents.FAULT - 10, f"Scaled up replica set {OLD} from 0 to 3")
    assert (
        consumers(incidents.added(asked(SLOW), "events", made))["scaled_near_onset"].outcome
        == "absent"
    )


@pytest.mark.parametrize(
    "text",
    [
        f"Scaled down replica set {OLD} from 3 to 1",
        # Kubernetes 1.23 to 1.26
        f"Scaled down replica set {OLD} to 1 from 3",
    ],
)
def test_replicas_taken_away_at_the_onset_are_missed_though_all_that_are_wanted_are_ready(text):
    made = incidents.added(asked(SLOW), "events", scaled(incidents.FAULT - 10, text))
    (found,) = consumers(made)["pods_unavailable"].findings
    assert "scaled down from 3 to 1 replicas" in found.statement
    assert (found.value, found.baseline) == (1, 3)


def test_replicas_that_were_taken_away_and_came_back_are_not_missed():
    made = incidents.added(
        asked(SLOW),
        "events",
        scaled(incidents.FAULT - 30, f"Scaled down replica set {OLD} from 3 to 2"),
        scaled(incidents.FAULT - 10, f"Scaled up replica set {OLD} from 2 to 3"),
    )
    assert consumers(made)["pods_unavailable"].outcome == "absent"


def ended_again(code: int):
    return asked(
        ended(
            incidents.moment(incidents.FAULT + 300),
            last_exit_code=code,
            restart_count=3,
            state="waiting",
            state_reason="CrashLoopBackOff",
            ready=False,
        )
    )


@pytest.mark.parametrize("code", [0, 143])
def test_a_container_that_ends_in_order_again_and_again_comes_and_goes_and_fails_in_nothing(code):
    seen = consumers(ended_again(code))
    assert seen["pods_come_and_go"].outcome == "present"
    assert seen["containers_failing"].outcome == "absent"
    assert seen["pods_unavailable"].outcome == "absent"


def test_a_container_that_ends_with_an_error_fails_and_does_not_come_and_go():
    seen = consumers(ended_again(1))
    assert seen["pods_come_and_go"].outcome == "absent"
    assert seen["containers_failing"].outcome == "present"


def created(count: int, since: float = incidents.FAULT, name: str = SET):
    return [
        event(
            since + 20 * n,
            kind="ReplicaSet",
            name=name,
            reason="SuccessfulCreate",
            message=f"Created pod: {name}-{n}",
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(("count", "outcome"), [(2, "absent"), (3, "present")])
def test_pods_that_are_made_anew_without_a_rollout_come_and_go(count, outcome):
    made = incidents.added(asked(SLOW), "events", *created(count))
    assert consumers(made)["pods_come_and_go"].outcome == outcome


def test_the_pods_of_a_rollout_do_not_come_and_go_and_those_of_its_undoing_do():
    rolled = {
        **SLOW.rollouts.iloc[0].to_dict(),
        "timestamp": incidents.moment(incidents.FAULT - 10),
        "replica_set": NEW,
        "revision": 9,
    }
    made = incidents.added(asked(SLOW), "rollouts", rolled)
    made = incidents.added(made, "events", *created(3, name=NEW))
    assert consumers(made)["pods_come_and_go"].outcome == "absent"
    made = incidents.added(made, "events", *created(3, incidents.FAULT + 100))
    assert consumers(made)["pods_come_and_go"].outcome == "present"


def test_without_the_question_scaling_is_not_checked():
    checks = consumers(SLOW)
    assert checks["scaled_near_onset"].outcome == "not_checked"
    assert checks["replicas_capped"].outcome == "not_checked"
    assert checks["nodes_unwell"].outcome == "not_checked"


def test_an_autoscaler_that_wants_more_than_its_maximum_is_told():
    made = scaler(SLOW, limited_by_max=True, max_replicas=3)
    check = consumers(made)["replicas_capped"]
    assert "wants more than its maximum of 3 pods" in check.findings[0].statement


def test_as_many_pods_as_partitions_leave_an_autoscaler_nothing_to_add():
    made = scaler(SLOW, limited_by_max=False)
    assert consumers(made)["replicas_capped"].outcome == "absent"
    consumer = made.workloads["role"] == "consumer"
    made = incidents.edited(made, "workloads", lambda _: consumer, ready_replicas=6)
    (found,) = consumers(made)["replicas_capped"].findings
    assert "6 pods are ready for 6 partitions" in found.statement


def test_who_scaled_to_zero_is_named():
    made = scaler(
        incidents.make("scaled_to_zero"), kind="ScaledObject", min_replicas=0, active=False
    )
    statement = consumers(made)["pods_unavailable"].findings[0].statement
    assert statement.endswith("is scaled to zero by ScaledObject by-lag")


def test_a_quota_that_keeps_pods_from_being_made_is_told_in_the_servers_words():
    replica_set = SLOW.pods.loc[SLOW.pods["role"] == "consumer", "replica_set"].iloc[0]
    refused = event(
        incidents.FAULT + 20,
        kind="ReplicaSet",
        name=replica_set,
        type="Warning",
        reason="FailedCreate",
        message='pods "x" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3',
    )
    made = incidents.added(SLOW, "events", refused)
    found = consumers(made)["pods_unavailable"].findings[0]
    assert "cannot make its pods: a quota is used up" in found.statement
    assert "exceeded quota: few" in found.quote
    assert found.onset == incidents.moment(incidents.FAULT + 20)
    old = incidents.added(SLOW, "events", {**refused, **event(10, **{
        key: refused[key] for key in ("kind", "name", "type", "reason", "message")
    })})  # fmt: skip
    assert consumers(old)["pods_unavailable"].outcome == "absent"


def node(**values):
    name = SLOW.pods.loc[SLOW.pods["role"] == "consumer", "node"].iloc[0]
    row = {
        "timestamp": incidents.moment(incidents.SECONDS),
        "node": name,
        "ready": True,
        "cordoned": False,
        "query_id": "kubernetes-92",
    }
    return incidents.added(SLOW, "nodes", {**row, **values})


def test_a_node_that_is_not_ready_is_told_with_the_pods_on_it():
    made = node(
        ready=False,
        changed_at=incidents.moment(incidents.FAULT + 5),
        condition="Ready=Unknown NodeStatusUnknown: Kubelet stopped posting node status.",
    )
    (found,) = consumers(made)["nodes_unwell"].findings
    assert "of the consumer's pods is not ready" in found.statement
    assert found.onset == incidents.moment(incidents.FAULT + 5)
    assert "stopped posting" in found.quote


def test_a_pressure_that_is_older_than_the_onset_did_not_begin_with_it():
    made = node(pressure="MemoryPressure", changed_at=incidents.moment(0))
    (found,) = consumers(made)["nodes_unwell"].findings
    assert "under pressure (MemoryPressure)" in found.statement
    assert found.onset is None


@pytest.mark.parametrize("ready", [True, None])
def test_a_node_that_is_ready_or_has_never_told_is_not_unwell(ready):
    assert consumers(node(ready=ready))["nodes_unwell"].outcome == "absent"

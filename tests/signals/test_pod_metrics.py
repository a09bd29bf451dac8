"""The containers' own history: restarts that the cluster has forgotten, and CPU limits."""

from __future__ import annotations

import incidents
import pandas as pd
import pytest

from lagkit import frames
from lagkit.investigation import investigate
from lagkit.signals import membership, partitions, pod_metrics, pods
from lagkit.sources.prometheus import grid

FAULT = incidents.FAULT
UNITS = {
    "restarts": "restarts",
    "oom_killed": "flag",
    "cpu_throttled_ratio": "ratio",
    "cpu_cores": "cores",
}


def told(kind: str = "slow", *, pods=incidents.PODS[:1], frm: int = 0, **metrics):
    """Return the incident *kind* with metrics, each a function of the second."""
    rows = [
        {
            "timestamp": incidents.moment(second),
            "namespace": "stoa-system",
            "pod": pod,
            "container": "worker",
            "metric": metric,
            "value": value(second),
            "unit": UNITS[metric],
            "query_id": "prometheus-30",
        }
        for metric, value in metrics.items()
        for pod in pods
        for second in range(frm, incidents.SECONDS, incidents.STEP)
    ]
    table = frames.normalise("pod_metrics", rows)
    return incidents.with_tables(incidents.make(kind), pod_metrics=table)


def checks(made) -> dict:
    return incidents.checks(pod_metrics.history, made)


def test_restarts_after_the_onset_are_told_with_their_number_and_reason():
    made = told(
        restarts=lambda second: 3.0 + (second > FAULT + 60) + (second > FAULT + 200),
        oom_killed=lambda second: float(second > FAULT + 60),
    )
    (finding,) = checks(made)["containers_restarted"].findings
    assert "restarted 2 times (OOMKilled)" in finding.statement
    assert finding.value == 2
    step = incidents.STEP
    assert incidents.moment(FAULT) < finding.onset <= incidents.moment(FAULT + 60 + step)


def test_restarts_before_the_incident_are_none_of_it():
    assert checks(told(restarts=lambda s: 7.0 + (s > 120)))["containers_restarted"].outcome == (
        "absent"
    )


def test_an_old_oom_kill_is_not_the_reason_of_nothing():
    made = told(restarts=lambda _: 7.0, oom_killed=lambda _: 1.0)
    assert checks(made)["containers_restarted"].outcome == "absent"


def test_a_pod_that_began_in_the_window_counts_from_zero():
    made = told(restarts=lambda _: 2.0, frm=FAULT + 60)
    (finding,) = checks(made)["containers_restarted"].findings
    assert finding.value == 2


def test_a_pod_that_was_there_before_the_window_does_not():
    assert checks(told(restarts=lambda _: 2.0))["containers_restarted"].outcome == "absent"


def test_a_cpu_limit_that_is_felt_since_the_onset_is_told_against_before():
    made = told(cpu_throttled_ratio=lambda second: 0.8 if second >= FAULT else 0.05)
    (finding,) = checks(made)["cpu_throttled"].findings
    assert (finding.value, finding.baseline) == pytest.approx((0.8, 0.05))


@pytest.mark.parametrize(("before", "later"), [(0.7, 0.8), (0.0, 0.1), (0.3, 0.3)])
def test_a_limit_that_was_as_tight_before_or_is_not_felt_is_nothing(before, later):
    made = told(cpu_throttled_ratio=lambda second: later if second >= FAULT else before)
    assert checks(made)["cpu_throttled"].outcome == "absent"


def test_without_the_metrics_nothing_is_checked():
    none = checks(incidents.make("slow"))
    assert {check.outcome for check in none.values()} == {"not_checked"}


def test_without_an_onset_there_is_no_before_and_after():
    made = told("calm", cpu_throttled_ratio=lambda _: 0.9)
    assert checks(made)["cpu_throttled"].outcome == "not_checked"


@pytest.mark.parametrize("kind", ["calm", "slow", "spike", "down", "network", "broker", "storm"])
def test_throttling_and_restarts_change_no_verdict_that_rests_on_more(kind):
    cause = investigate(incidents.make(kind)).cause
    made = told(
        kind,
        restarts=lambda second: float(second > FAULT),
        cpu_throttled_ratio=lambda second: 0.6 if second >= FAULT else 0.05,
    )
    assert investigate(made).cause == cause


def test_restarts_in_history_speak_for_consumers_down_where_kubernetes_was_not_asked():
    bare = incidents.with_tables(
        told("down", pods=incidents.PODS, restarts=lambda s: float(max(0, s - FAULT) // 60)),
        **{
            name: frames.empty(name) for name in ("pods", "events", "workloads", "rollouts", "logs")
        },
    )
    told_for = [
        row.statement for row in investigate(bare).verdict.cause("consumer_down").evidence_for
    ]
    assert any("was restarted" in statement for statement in told_for)


def ran(*, until=lambda pod: incidents.SECONDS, start=lambda pod, second: 1000.0, kind="slow"):
    """Return the incident *kind* as cAdvisor saw its containers run, without Kubernetes."""
    rows = [
        {
            "timestamp": incidents.moment(second),
            "namespace": "stoa-system",
            "pod": pod,
            "container": "worker",
            "metric": "started_at",
            "value": start(pod, second),
            "unit": "unix seconds",
            "query_id": "prometheus-31",
        }
        for pod in incidents.PODS
        for second in range(0, incidents.SECONDS, incidents.STEP)
        if second < until(pod)
    ]
    table = frames.normalise("pod_metrics", rows)
    made = incidents.with_tables(incidents.make(kind), pod_metrics=table)
    gone = {name: frames.empty(name) for name in ("pods", "workloads", "rollouts", "logs")}
    return incidents.with_tables(made, **gone)


def pod_checks(made) -> dict:
    return incidents.checks(pods.consumers, made)


def test_containers_that_stopped_running_are_told_where_kubernetes_is_silent():
    made = ran(until=lambda pod: FAULT if pod == incidents.PODS[0] else incidents.SECONDS)
    check = pod_checks(made)["pods_unavailable"]
    (finding,) = check.findings
    everyone = len(incidents.PODS)
    assert check.source == "prometheus"
    assert (finding.value, finding.baseline) == (everyone - 1, everyone)


@pytest.mark.parametrize(("kind", "until"), [("slow", FAULT), ("down", FAULT + 200)])
def test_whether_every_container_is_gone_or_cadvisor_cannot_be_told(kind, until):
    check = pod_checks(ran(kind=kind, until=lambda pod: until))["pods_unavailable"]
    assert check.outcome == "not_checked"
    assert "cAdvisor" in check.reason


def test_containers_last_seen_when_the_group_stopped_are_gone():
    check = pod_checks(ran(kind="network", until=lambda pod: FAULT))["pods_unavailable"]
    assert check.outcome == "present"
    assert "the group stopped then" in check.findings[0].statement


def replacing(times: int, every: int):
    """The slow group whose pods give way to others, all of them *times* times."""
    made = ran(until=lambda pod: FAULT)
    seen = made.pod_metrics
    later = [
        seen.loc[seen["timestamp"] < incidents.moment(every)].assign(
            timestamp=lambda rows, turn=turn: (
                rows["timestamp"] + pd.Timedelta(FAULT + turn * every, "s")
            ),
            pod=lambda rows, turn=turn: rows["pod"] + f"-{turn}",
        )
        for turn in range(times)
    ]
    return incidents.with_tables(made, pod_metrics=pd.concat([seen, *later], ignore_index=True))


@pytest.mark.parametrize(("times", "outcome"), [(1, "absent"), (3, "present")])
def test_pods_that_give_way_again_and_again_are_seen_without_kubernetes(times, outcome):
    made = replacing(times, every=60)
    check = pod_checks(made)["pods_come_and_go"]
    assert (check.outcome, check.source) == (outcome, "prometheus")
    churn = incidents.checks(membership.members, made)["membership_churn"]
    assert churn.outcome == outcome


def test_containers_that_run_on_are_not_missing():
    assert pod_checks(ran())["pods_unavailable"].outcome == "absent"


def test_a_container_that_started_anew_was_restarted_if_its_pod_was_there_before():
    made = ran(start=lambda pod, second: 1000.0 + (500.0 if second > FAULT + 60 else 0.0))
    findings = checks(made)["containers_restarted"].findings
    assert len(findings) == len(incidents.PODS)
    assert {finding.value for finding in findings} == {1.0}


def dying(times: int):
    """The slow group whose containers start anew so many times, a minute apart."""
    return ran(start=lambda pod, second: 1000.0 + 60.0 * min(times, max(0, (second - FAULT) // 60)))


@pytest.mark.parametrize(("times", "outcome"), [(1, "absent"), (2, "not_checked")])
def test_containers_that_die_again_and_again_may_run_at_every_scrape(times, outcome):
    check = pod_checks(dying(times))["pods_unavailable"]
    assert check.outcome == outcome
    assert ("start anew" in check.reason) == (times > 1)


@pytest.mark.parametrize(("times", "outcome"), [(1, "absent"), (2, "not_checked")])
def test_a_member_of_a_container_that_dies_again_and_again_may_be_listed_still(times, outcome):
    check = incidents.checks(membership.members, dying(times))["members_missing"]
    assert check.outcome == outcome


@pytest.mark.parametrize(("times", "outcome"), [(1, "absent"), (2, "not_checked")])
def test_partitions_of_dying_members_stand_still_with_the_record_they_may_die_of(times, outcome):
    made = dying(times)
    offsets = made.offsets
    stood = offsets.loc[offsets["timestamp"] == incidents.moment(FAULT)]
    stuck = offsets["partition"].lt(4) & (offsets["timestamp"] >= incidents.moment(FAULT))
    held = offsets["partition"].map(stood.set_index("partition")["committed_offset"])
    committed = offsets["committed_offset"].where(~stuck, held)
    made = incidents.with_tables(
        made,
        offsets=offsets.assign(committed_offset=committed),
        partitions=frames.empty("partitions"),
    )
    assert incidents.checks(partitions.shape, made)["partition_frozen"].outcome == outcome


def test_containers_that_never_started_anew_were_not_restarted():
    assert checks(ran())["containers_restarted"].outcome == "absent"


@pytest.mark.parametrize(
    ("later", "outcome"), [(0.0, "present"), (0.004, "absent"), (0.3, "absent")]
)
def test_a_container_stands_still_only_if_it_uses_next_to_no_cpu(later, outcome):
    made = told(cpu_cores=lambda second: 0.1 if second < FAULT else later)
    assert checks(made)["containers_idle"].outcome == outcome


def test_one_clock_tick_less_does_not_make_a_container_idle():
    last = incidents.SECONDS - incidents.STEP
    made = told(cpu_cores=lambda s: 0.1 if s < FAULT else 0.001 if s >= last else 0.004)
    assert checks(made)["containers_idle"].outcome == "absent"


def test_a_rate_is_taken_to_look_back_as_far_as_prometheus_was_asked_to():
    assert pod_metrics.RATE_STEPS == grid.RATE_STEPS


@pytest.mark.parametrize(("samples", "outcome"), [(1, "present"), (0, "absent")])
def test_no_cpu_at_all_in_a_rate_of_more_than_a_minute_is_a_container_that_hangs(samples, outcome):
    """A rate falls to nothing only when the last busy moment has left its window."""
    assert pod_metrics.RATE_STEPS * incidents.STEP >= pod_metrics.IDLE_SECONDS
    last = incidents.SECONDS - samples * incidents.STEP
    made = told(cpu_cores=lambda s: 0.1 if s < FAULT else 0.0 if s >= last else 0.02)
    assert checks(made)["containers_idle"].outcome == outcome


def test_a_container_that_was_idle_before_says_nothing_by_being_idle():
    made = told(cpu_cores=lambda second: 0.0)
    assert checks(made)["containers_idle"].outcome == "not_checked"


def test_a_container_that_is_gone_is_not_called_idle():
    made = told(cpu_cores=lambda second: 0.1 if second < FAULT else 0.0)
    metrics = made.pod_metrics
    kept = metrics.loc[metrics["timestamp"] < incidents.moment(FAULT + 60)]
    others = metrics.assign(pod=incidents.PODS[1], value=0.1)
    made = incidents.with_tables(made, pod_metrics=pd.concat([kept, others], ignore_index=True))
    assert checks(made)["containers_idle"].outcome == "absent"

"""What the consumer waits for: how long it takes, whether it answers, whether its pods run."""

from __future__ import annotations

from dataclasses import replace

import incidents
import pandas as pd
import pytest

from lagkit import frames, runbook
from lagkit.signals import downstream

CALM, SLOW = incidents.make("calm"), incidents.make("slow")


def dependencies(incident) -> dict:
    return incidents.checks(downstream.dependencies, incident)


def late(table):
    return table["timestamp"] >= incidents.moment(incidents.FAULT)


def awx(table):
    return table["role"] == "awx"


def test_jobs_that_take_longer_than_before_are_told_with_both_times():
    findings = {f.id: f for f in dependencies(SLOW)["downstream_slow"].findings}
    jobs = findings["downstream_slow:awx"]
    assert jobs.baseline == pytest.approx(0.05, abs=0.01)
    assert jobs.value == pytest.approx(3.0, abs=0.1)
    assert abs((jobs.onset - incidents.moment(incidents.FAULT)).total_seconds()) <= 30
    assert "downstream_slow:awx/ping" in findings


def test_jobs_as_quick_as_before_are_absent():
    assert dependencies(incidents.make("spike"))["downstream_slow"].outcome == "absent"


def test_jobs_without_an_onset_to_compare_around_are_not_checked():
    assert dependencies(CALM)["downstream_slow"].outcome == "not_checked"


def test_too_few_jobs_on_either_side_compare_nothing():
    made = incidents.with_tables(CALM, jobs=CALM.jobs.iloc[:3])
    assert dependencies(made)["downstream_slow"].outcome == "not_checked"


def test_a_probe_alone_can_tell_a_quick_answer():
    made = incidents.with_tables(CALM, jobs=frames.empty("jobs"))
    assert dependencies(made)["downstream_slow"].outcome == "absent"


def test_a_failed_probe_has_no_latency_to_judge():
    made = incidents.with_tables(CALM, jobs=frames.empty("jobs"))
    made = incidents.edited(
        made,
        "downstream",
        ok=False,
        status_code=None,
        latency_seconds=9.0,
        detail="connection refused",
    )
    seen = dependencies(made)
    assert seen["downstream_slow"].outcome == "not_checked"
    assert seen["downstream_failing"].outcome == "present"
    assert seen["downstream_failing"].findings[0].quote == "connection refused"


def test_one_failed_probe_of_three_is_no_failure():
    first = CALM.downstream["timestamp"].min()
    made = incidents.edited(CALM, "downstream", lambda t: t["timestamp"] == first, ok=False)
    assert dependencies(made)["downstream_failing"].outcome == "absent"


def test_jobs_that_fail_since_the_onset_are_told_with_their_share():
    made = incidents.edited(SLOW, "jobs", late, status="failed")
    findings = {f.id: f for f in dependencies(made)["downstream_failing"].findings}
    assert findings["downstream_failing:awx/jobs"].value == pytest.approx(1.0, abs=0.1)


def test_jobs_that_failed_before_as_well_are_no_change():
    made = incidents.edited(SLOW, "jobs", status="failed")
    assert dependencies(made)["downstream_failing"].outcome == "absent"


def test_a_pod_of_the_downstream_that_is_not_ready_is_told():
    made = incidents.edited(SLOW, "pods", awx, ready=False, state_reason="CrashLoopBackOff")
    finding = dependencies(made)["downstream_failing"].findings[0]
    assert finding.id == "downstream_failing:awx/pods"
    assert "1 of 1 downstream pods are not ready (CrashLoopBackOff)" in finding.statement


@pytest.mark.parametrize(
    "values",
    [{"phase": "Succeeded"}, {"deleted_at": incidents.END}],
    ids=["a finished job's pod", "a pod being removed"],
)
def test_a_pod_that_is_not_meant_to_be_ready_is_no_failure(values):
    made = incidents.edited(SLOW, "pods", awx, ready=False, **values)
    assert dependencies(made)["downstream_failing"].outcome == "absent"


def test_a_pod_of_unknown_readiness_is_no_failure():
    made = incidents.edited(SLOW, "pods", awx, ready=None)
    assert dependencies(made)["downstream_failing"].outcome == "absent"


def test_the_consumers_pods_are_not_the_downstreams():
    made = incidents.edited(SLOW, "pods", lambda t: ~awx(t), ready=False)
    assert dependencies(made)["downstream_failing"].outcome == "absent"


def test_a_group_without_a_downstream_has_none_to_check():
    made = incidents.with_tables(SLOW, downstream=frames.empty("downstream"))
    made = replace(made, runbook=runbook.Runbook(title="t"))
    seen = dependencies(made)
    assert {check.outcome for check in seen.values()} == {"not_checked"}
    assert "names no downstream" in seen["downstream_slow"].reason


def test_a_downstream_that_was_not_asked_is_not_checked():
    made = incidents.without(SLOW, "downstream", "kubernetes")
    assert {check.outcome for check in dependencies(made).values()} == {"not_checked"}


# -- waiting for capacity, and latencies out of Prometheus


def test_jobs_that_wait_longer_to_be_started_are_told_and_one_that_still_waits_counts():
    made = SLOW
    jobs = made.jobs.copy()
    jobs["elapsed_seconds"] = 0.05
    jobs.loc[late(jobs), "started_at"] = jobs["timestamp"] + pd.Timedelta("20s")
    last = jobs.index[late(jobs)][-3:]
    jobs.loc[last, ["started_at", "finished_at"]] = pd.NaT
    jobs.loc[last, "status"] = "pending"
    check = dependencies(incidents.with_tables(made, jobs=jobs))["downstream_slow"]
    found = {finding.id: finding for finding in check.findings}["downstream_slow:awx/queue"]
    assert found.value == pytest.approx(20, abs=1)
    assert found.baseline < 1
    assert found.onset >= incidents.moment(incidents.FAULT)


def latency(before: float, after: float):
    """Return the slow incident with a latency that changes at the fault, and no other evidence."""
    rows = [
        {
            "timestamp": incidents.moment(second),
            "target": "billing",
            "check": "latency",
            "url": "http://prometheus/api/v1/query_range",
            "ok": True,
            "value": before if second < incidents.FAULT else after,
            "unit": "seconds",
            "query_id": "downstream-09",
        }
        for second in range(0, incidents.SECONDS, 15)
    ]
    made = incidents.with_tables(
        SLOW, jobs=frames.empty("jobs"), downstream=frames.empty("downstream")
    )
    return incidents.added(made, "downstream", *rows)


def test_calls_that_got_slower_in_prometheus_are_told_with_both_times():
    check = dependencies(latency(0.2, 3.0))["downstream_slow"]
    (found,) = check.findings
    assert (found.id, found.value, found.baseline) == ("downstream_slow:billing/latency", 3.0, 0.2)
    assert abs((found.onset - incidents.moment(incidents.FAULT)).total_seconds()) <= 30


def test_calls_as_quick_as_before_are_absent_and_their_time_is_told():
    check = dependencies(latency(0.2, 0.21))["downstream_slow"]
    assert check.outcome == "absent"
    assert "calls of billing take 0.21 s, before 0.2 s" in check.reason


def test_a_full_awx_is_failing_by_its_capacity():
    row = {
        "timestamp": incidents.moment(incidents.SECONDS),
        "target": "awx",
        "check": "capacity of awx-1",
        "url": "http://awx/api/v2/instances/",
        "ok": False,
        "detail": "200 of 200 forks taken, 190 jobs running",
        "value": 1.0,
        "unit": "share of capacity",
        "query_id": "downstream-09",
    }
    check = dependencies(incidents.added(SLOW, "downstream", row))["downstream_failing"]
    assert "200 of 200 forks taken" in {finding.quote for finding in check.findings}.pop()


def test_probes_of_ones_own_are_judged_without_an_entry_in_the_runbook():
    made = latency(0.2, 3.0)
    group = made.runbook.groups[0].model_copy(update={"downstream": ()})
    made = replace(made, runbook=made.runbook.model_copy(update={"groups": (group,)}))
    assert dependencies(made)["downstream_slow"].outcome == "present"


# -- work that goes on


def committing(incident, share: float):
    """Return *incident* with only *share* of what it reads since the fault committed."""
    table = incident.offsets
    rows = []
    for _, own in table.sort_values("timestamp").groupby(["topic", "partition"]):
        own = own.copy()
        since = own["timestamp"] >= incidents.moment(incidents.FAULT)
        start = own.loc[~since, "committed_offset"].max()
        own.loc[since, "committed_offset"] = (
            start + ((own.loc[since, "committed_offset"] - start) * share).round()
        )
        own["lag"] = own["log_end_offset"] - own["committed_offset"] if "lag" in own else None
        rows.append(own)
    return incidents.with_tables(
        incident, offsets=frames.normalise("offsets", pd.concat(rows)[table.columns])
    )


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_jobs_that_go_on_while_commits_do_not_are_told(share):
    made = committing(CALM, share)
    check = dependencies(made)["work_goes_on"]
    assert check.outcome == "present"
    assert "before the onset" in check.findings[0].statement
    assert check.findings[0].value == pytest.approx(check.findings[0].baseline, rel=0.2)


def test_a_group_that_does_less_is_not_at_work_as_before():
    assert dependencies(SLOW)["work_goes_on"].outcome == "absent"


def test_without_numbers_of_jobs_nobody_knows_whether_work_goes_on():
    made = committing(CALM, 0.0)
    blind = incidents.edited(made, "jobs", job_id="not-a-number")
    assert dependencies(blind)["work_goes_on"].outcome == "not_checked"
    none = incidents.with_tables(made, jobs=frames.empty("jobs"))
    assert dependencies(none)["work_goes_on"].outcome == "not_checked"


# -- work that has ended


def until(incident, second: int):
    """Return *incident* whose downstream is well and was asked for nothing from *second* on."""
    jobs = incident.jobs
    return incidents.with_tables(
        incident, jobs=jobs.loc[jobs["timestamp"] < incidents.moment(second)]
    )


STOPPED = incidents.make("network")


def test_a_downstream_that_is_well_and_asked_for_nothing_says_so_since_the_last_job():
    check = dependencies(until(STOPPED, incidents.FAULT))["work_ended"]
    assert check.outcome == "present"
    assert check.findings[0].value == 0
    assert check.findings[0].onset <= incidents.moment(incidents.FAULT)


def test_a_downstream_that_still_gets_work_is_not_left_alone():
    assert dependencies(SLOW)["work_ended"].outcome == "absent"


def test_a_downstream_in_trouble_gets_no_work_for_that():
    failing = incidents.edited(until(STOPPED, incidents.FAULT), "downstream", ok=False)
    check = dependencies(failing)["work_ended"]
    assert check.outcome == "absent"
    assert "probes" in check.reason


def test_without_jobs_nobody_knows_whether_work_ended():
    none = incidents.with_tables(STOPPED, jobs=frames.empty("jobs"))
    assert dependencies(none)["work_ended"].outcome == "not_checked"


# -- work in gusts


GAP = 0.1
"""Seconds between two jobs before the fault."""


def paced(incident, gap: float, gust: int, wait: float):
    """Return *incident* with even jobs before the fault, and since then so many and then a wait."""
    before = [n * GAP for n in range(300)]
    since = [incidents.FAULT + 100.0 + n * gap + n // gust * wait for n in range(200)]
    rows = [
        {**incident.jobs.iloc[0].to_dict(), "timestamp": incidents.moment(second), "job_id": str(n)}
        for n, second in enumerate([*before, *since])
    ]
    return incidents.with_tables(incident, jobs=frames.normalise("jobs", rows))


def test_jobs_that_follow_as_before_with_waits_between_come_in_gusts():
    check = dependencies(paced(SLOW, GAP, gust=10, wait=40 * GAP))["work_in_gusts"]
    assert check.outcome == "present"
    assert check.findings[0].value < 0.65 < check.findings[0].baseline


def test_jobs_that_each_take_longer_come_at_an_even_pace():
    check = dependencies(paced(SLOW, 4 * GAP, gust=1000, wait=0.0))["work_in_gusts"]
    assert check.outcome == "absent"


def test_as_many_jobs_as_before_tell_nothing_of_what_slowed_them():
    check = dependencies(paced(SLOW, GAP, gust=1000, wait=0.0))["work_in_gusts"]
    assert check.outcome == "not_checked"


def test_a_group_that_reads_as_before_has_no_gusts_to_look_for():
    assert dependencies(CALM)["work_in_gusts"].outcome in ("absent", "not_checked")

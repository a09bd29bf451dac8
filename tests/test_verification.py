"""The checklist after an incident: each line passes, fails, or says why it was not looked at."""

from __future__ import annotations

import json
from dataclasses import replace

import incidents
import pandas as pd
import pytest

from lagkit.investigation import investigate
from lagkit.render.checklist import checklist
from lagkit.verification import verify

IDS = ["lag", "age", "commits", "members", "logs", "downstream", "alerts"]


def lines(before, now):
    found = verify(before, investigate(now))
    assert [line.id for line in found.lines] == IDS
    return found, {line.id: line for line in found.lines}


def test_a_group_that_is_well_again_is_over_by_every_check():
    found, by = lines(incidents.make("slow"), incidents.make("calm"))
    told = checklist(found)
    assert {name: line.status for name, line in by.items()} == dict.fromkeys(IDS, "passed"), told
    assert found.over
    assert told.splitlines()[-1] == "Over, by 7 of 7 checks."
    assert all(line.evidence for line in found.lines)


@pytest.mark.parametrize(
    ("kind", "failing"),
    [
        ("slow", {"lag", "age"}),
        ("down", {"lag", "age", "members"}),
        ("poison_retry", {"age", "commits", "logs"}),
        ("scaled_to_zero", {"lag", "members"}),
    ],
)
def test_what_still_goes_on_is_not_over(kind, failing):
    made = incidents.make(kind)
    found, by = lines(made, made)
    assert not found.over
    assert failing <= {name for name, line in by.items() if line.status == "failed"}, checklist(
        found
    )
    assert "NOT OVER: " in checklist(found).splitlines()[-1]


@pytest.mark.parametrize(
    ("source", "unseen"),
    [("prometheus", {"alerts"}), ("kubernetes", {"logs"}), ("downstream", set())],
)
def test_a_source_that_is_blind_leaves_its_lines_unchecked_and_the_rest_as_they_were(
    source, unseen
):
    now = incidents.without(incidents.make("calm"), source)
    found, by = lines(incidents.make("slow"), now)
    unchecked = {name for name, line in by.items() if line.status == "not_checked"}
    assert unseen <= unchecked
    assert not any(line.status == "failed" for line in found.lines), checklist(found)
    assert all("[?]" in checklist(found) for _ in unchecked)


def test_without_any_source_nothing_is_over():
    now = incidents.without(
        incidents.make("calm"), "prometheus", "kafka", "kubernetes", "downstream"
    )
    found, _ = lines(incidents.make("slow"), now)
    assert not found.over
    assert found.checked == 0
    assert "Not known" in checklist(found)


def firing(incident, group, minutes_ago):
    at = incident.end - pd.Timedelta(minutes_ago, "min")
    return incidents.added(
        incident,
        "alerts",
        {
            "timestamp": at,
            "alert": "DeploymentWorkerLagging",
            "state": "firing",
            "group": group,
            "severity": "high",
            "active_at": at,
            "labels": json.dumps({"alertname": "DeploymentWorkerLagging"}),
            "query_id": "prometheus-09",
        },
    )


@pytest.mark.parametrize(
    ("group", "ago", "status"),
    [
        (incidents.GROUP, 0.5, "failed"),
        (None, 0.5, "failed"),
        ("another", 0.5, "passed"),
        (incidents.GROUP, 8, "passed"),
    ],
)
def test_an_alert_counts_if_it_is_ours_and_fires_now(group, ago, status):
    now = firing(incidents.make("calm"), group, ago)
    _, by = lines(incidents.make("slow"), now)
    assert by["alerts"].status == status
    if status == "failed":
        assert "DeploymentWorkerLagging" in by["alerts"].evidence


def test_an_alert_of_no_group_that_fired_before_the_incident_does_not_keep_it_open():
    now = firing(incidents.make("calm"), None, 0.5)
    before = incidents.make("slow")
    old = before.start - pd.Timedelta("3D")
    now = incidents.with_tables(now, alerts=now.alerts.assign(active_at=old))
    assert lines(before, now)[1]["alerts"].status == "passed"


def test_errors_that_were_there_before_the_incident_are_not_new():
    calm = incidents.make("calm")
    noisy = incidents.saying(calm, (120.0, 0, "ERROR", "cache miss 17, retrying"))
    _, by = lines(incidents.make("slow"), noisy)
    assert by["logs"].status == "failed"
    assert "cache miss 17" in by["logs"].evidence
    before = incidents.saying(incidents.make("slow"), (30.0, 0, "ERROR", "cache miss 3, retrying"))
    _, by = lines(before, noisy)
    assert by["logs"].status == "passed"
    assert "like those before the incident" in by["logs"].evidence


def test_a_hostile_line_cannot_move_the_cursor():
    noisy = incidents.saying(incidents.make("calm"), (120.0, 0, "ERROR", "\x1b[2J evil"))
    found, _ = lines(incidents.make("slow"), noisy)
    assert "\x1b" not in checklist(found)


def test_the_same_two_captures_give_the_same_checklist():
    one, _ = lines(incidents.make("slow"), incidents.make("calm"))
    two, _ = lines(incidents.make("slow"), incidents.make("calm"))
    assert checklist(one) == checklist(two)
    assert json.dumps(one.to_dict()) == json.dumps(two.to_dict())
    assert replace(one) == two

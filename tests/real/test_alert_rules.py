"""Alerts that a real Prometheus evaluates itself: pending, firing, since when, and never."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pandas as pd
import pytest

from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope

from .recorded import ask, serving

RULES = """groups:
- name: live
  interval: 1s
  rules:
  - alert: Firing
    expr: vector(1)
    labels: {group: g, severity: page}
  - alert: Pending
    expr: vector(1)
    for: 1h
    labels: {group: g}
  - alert: OfAnotherGroup
    expr: vector(1)
    labels: {group: other}
  - alert: OfNobody
    expr: vector(1)
  - alert: Dead
    expr: 'sum(kafka_consumergroup_lag{group="kafka_in_a_string"}) by (kafka_label) > 1'
  - alert: OnAbsence
    expr: absent(kafka_consumergroup_lag)
"""
PATIENCE_SECONDS = 30


def evaluated(url: str) -> int:
    query = urllib.parse.urlencode({"query": 'count_over_time(ALERTS{alertname="Firing"}[1m])'})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}") as reply:
        result = json.load(reply)["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answer]:
    """Let the rules be evaluated a few times, then ask."""
    with serving(tmp_path_factory.mktemp("rules"), [], rules=RULES) as url:
        until = time.monotonic() + PATIENCE_SECONDS
        while evaluated(url) < 3:
            assert time.monotonic() < until, "the rules were not evaluated"
            time.sleep(0.2)
        now = pd.Timestamp.now(tz="UTC")
        # the last point lies ahead: the server answers with what it evaluated last
        begin, end = now - pd.Timedelta("30s"), now + pd.Timedelta("20s")
        yield ask(url, Scope("g", (), begin, end, Runbook(title="test")))


def last(answer: Answer) -> pd.DataFrame:
    alerts = answer.frames["alerts"]
    return alerts[alerts["timestamp"] == alerts["timestamp"].max()].set_index("alert")


def test_pending_and_firing_alerts_come_with_their_state_and_severity(answer: Answer) -> None:
    states = last(answer)["state"]
    assert (states["Firing"], states["Pending"]) == ("firing", "pending")
    assert last(answer).loc["Firing", "severity"] == "page"


def test_an_alert_is_active_since_its_expression_became_true(answer: Answer) -> None:
    """ALERTS_FOR_STATE is the time, in seconds, at which the expression began to hold."""
    active = last(answer)["active_at"]
    assert active.notna().all()
    age = last(answer)["timestamp"] - active
    assert (age >= pd.Timedelta(0)).all()
    assert (age < pd.Timedelta(minutes=2)).all()


def test_alerts_of_other_groups_are_left_out_and_those_of_nobody_kept(answer: Answer) -> None:
    assert set(last(answer).index) == {"Firing", "Pending", "OfNobody", "OnAbsence"}


def test_a_rule_that_can_never_fire_is_named_with_the_metric_that_is_missing(
    answer: Answer,
) -> None:
    assert answer.facts["rules_that_cannot_fire"] == "Dead"
    (dead,) = [blind for blind in answer.blind if blind.what == "the alert Dead"]
    assert "reads kafka_consumergroup_lag, which" in dead.why

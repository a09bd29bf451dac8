"""Which metrics a rule reads, told from its text, and pages of rules of any shape."""

from __future__ import annotations

import pandas as pd
import pytest
from http_stub import Asked, Handler, serving

from lagkit.config import HttpLogin
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.prometheus import PrometheusSource
from lagkit.sources.prometheus.alerts import MOST_RULES_NAMED, metrics_in

END = pd.Timestamp("2026-01-05T08:05:00Z")


@pytest.mark.parametrize(
    ("expression", "metrics"),
    [
        ("kafka_consumergroup_lag > 5", {"kafka_consumergroup_lag"}),
        ('sum by (kafka_cluster) (rate(kafka_a{kafka_b="kafka_c"}[5m])) > 1', {"kafka_a"}),
        ("sum(redpanda_x) without (redpanda_topic)", {"redpanda_x"}),
        ("kafka_a / on (kafka_group) group_left (kafka_topic) kafka_b", {"kafka_a", "kafka_b"}),
        ('label_replace(burrow_kafka_x, "kafka_y", "$1", `kafka_z`, \'a\')', {"burrow_kafka_x"}),
        ('{__name__=~"kafka_.*"} > 1', set()),
        ("job:kafka_lag:sum > 1", set()),
        ("kafka_not_a_function (1) + up", set()),
        ("klag_consumer_lag and klagenfurt", {"klag_consumer_lag"}),
        ("delta(kafka_a[10m:1m]) > kafka_b offset 5m", {"kafka_a", "kafka_b"}),
        ("", set()),
    ],
)
def test_the_metrics_of_kafka_in_a_rule_are_told_from_labels_and_strings(
    expression: str, metrics: set[str]
) -> None:
    assert metrics_in(expression) == metrics


def asked_with(page: object) -> Answer:
    """Return the answer of a server that has nothing but *page* of rules."""

    def answers(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/rules"):
            handler.success(page)
        elif "/query" in asked.path:
            handler.success({"resultType": "matrix", "result": []})
        elif asked.path.endswith("buildinfo"):
            handler.success({"version": "3.0.0"})
        else:
            handler.success([])

    scope = Scope("g", (), END - pd.Timedelta(minutes=5), END, Runbook(title="test"))
    with serving(answers) as stub:
        return PrometheusSource(stub.url, HttpLogin()).fetch(scope, budget_seconds=10)


def rule(name: str, query: str, kind: str = "alerting") -> dict[str, object]:
    return {"type": kind, "name": name, "query": query}


def test_recording_rules_and_rules_on_other_things_are_left_alone() -> None:
    rules = [rule("Record", "kafka_x", "recording"), rule("Disk", "node_disk > 1")]
    answer = asked_with({"groups": [{"rules": rules}]})
    assert "rules_that_cannot_fire" not in answer.facts


def test_of_very_many_dead_rules_some_are_named_and_their_names_are_bounded() -> None:
    rules = [rule(f"{number:03}" + "x" * 900, "kafka_x > 1") for number in range(50)]
    answer = asked_with({"groups": [{"rules": rules}]})
    told = [blind for blind in answer.blind if blind.what.startswith("the alert")]
    assert len(told) == MOST_RULES_NAMED
    assert max(len(blind.what) for blind in told) < 600
    assert len(answer.facts["rules_that_cannot_fire"]) <= 500


@pytest.mark.parametrize(
    "page",
    [
        None,
        [],
        "rules",
        {"groups": None},
        {"groups": {"a": 1}},
        {"groups": ["x", {"rules": "y"}, {"rules": [1, None, {}]}]},
        {"groups": [{"rules": [{"name": 1, "query": 2}]}]},
    ],
)
def test_a_page_of_rules_of_another_shape_is_no_crash_and_no_accusation(page: object) -> None:
    answer = asked_with(page)
    assert "rules_that_cannot_fire" not in answer.facts
    assert not [blind for blind in answer.blind if "shape" in blind.why]

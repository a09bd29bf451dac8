"""Autoscalers, nodes, quotas and events as the API documents them, where no lab can show them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from lagkit import frames
from lagkit.sources.kubernetes import (
    Target,
    event_row,
    hpa_row,
    level_of,
    node_row,
    quantity_of,
    quota_rows,
    revision_row,
    scaled_object_row,
)
from lagkit.sources.kubernetes.logs import LOG_LINES, LOG_PODS, tail_of
from lagkit.sources.kubernetes.session import RESOURCES, rule_for
from lagkit.sources.kubernetes.surroundings import aims_at, limit_rows

NOW = pd.Timestamp("2026-11-23T21:00:00Z")
TARGET = Target("consumer", "ns", "api")


def hpa(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "api", "namespace": "ns"},
        "spec": {
            "maxReplicas": 3,
            "metrics": [{"type": "External"}],
            "scaleTargetRef": {"kind": "Deployment", "name": "api"},
        },
        "status": {"currentReplicas": 3, "desiredReplicas": 3, "conditions": conditions, **status},
    }


def limited(status: str, reason: str) -> dict[str, str]:
    return {"type": "ScalingLimited", "status": status, "reason": reason, "message": "m"}


@pytest.mark.parametrize(
    ("conditions", "by_max"),
    [
        ([limited("True", "TooManyReplicas")], True),
        ([limited("True", "TooFewReplicas")], False),
        ([limited("False", "DesiredWithinRange")], False),
        ([], None),
    ],
)
def test_an_autoscaler_is_limited_by_its_maximum_only_where_it_says_so(
    conditions: list[dict[str, str]], by_max: bool | None
) -> None:
    row = hpa_row(hpa(*conditions), TARGET, NOW, "q")
    assert row["limited_by_max"] is by_max
    assert row["min_replicas"] == 1, "absent in the API means 1"
    found = frames.normalise("autoscalers", [row]).iloc[0]
    assert pd.isna(found["limited_by_max"]) is (by_max is None)
    assert pd.isna(found["last_scaled_at"])


def test_an_autoscaler_of_another_workload_is_none_of_ours() -> None:
    assert aims_at(hpa(), TARGET)
    assert not aims_at(hpa(), Target("consumer", "ns", "other"))
    assert not aims_at(hpa(), Target("consumer", "ns", "api", "StatefulSet"))
    assert aims_at({"spec": {"scaleTargetRef": {"name": "api"}}}, TARGET), "KEDA's default kind"


def test_a_scaled_object_has_kedas_defaults_and_shows_no_credentials() -> None:
    made = {
        "metadata": {"name": "by-lag"},
        "spec": {"triggers": [
            {"type": "kafka", "metadata": {"topic": "t", "password": "p4ss", "limit": 1}},
            {"type": "cron", "metadata": {"start": "0 8 * * *"}},
        ]},
    }  # fmt: skip
    row = scaled_object_row(made, TARGET, NOW, "q")
    assert (row["min_replicas"], row["max_replicas"], row["active"]) == (0, 100, None)
    assert row["triggers"] == "kafka topic=t; cron"
    assert row["namespace"] == "ns"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5), ("2Gi", 2 * 2**30), ("1e3", 1000.0), ("1E3", 1000.0), ("1E", 1e18),
        ("10", 10.0), (3, 3.0), ("-1", -1.0), ("0.5k", 500.0), (".5", 0.5),
        ("", None), ("many", None), (None, None), ("1KiB", None), ("--1", None),
    ],
)  # fmt: skip
def test_quantities_are_read_in_their_base_unit(text: object, value: float | None) -> None:
    assert quantity_of(text) == pytest.approx(value) if value else quantity_of(text) is value


def test_a_quota_that_is_not_counted_yet_has_a_bound_and_no_use() -> None:
    made = {
        "metadata": {"name": "few", "namespace": "ns"},
        "spec": {"hard": {"pods": "3", "requests.cpu": "500m"}},
        "status": {},
    }
    found = frames.normalise("quotas", list(quota_rows(made, NOW, "q")))
    assert found["hard"].tolist() == [3.0, 0.5]
    assert found["used"].isna().all()


def test_bounds_of_a_limit_range_are_one_row_each() -> None:
    made = {
        "metadata": {"name": "l", "namespace": "ns"},
        "spec": {"limits": [{"type": "Pod", "max": {"cpu": "2"}, "min": {"cpu": "100m"},
                             "default": {"cpu": "1"}}]},
    }  # fmt: skip
    rows = list(limit_rows(made, NOW, "q"))
    assert [(row["resource"], row["hard"]) for row in rows] == [
        ("Pod cpu max", 2.0), ("Pod cpu min", 0.1),
    ]  # fmt: skip


def test_a_silent_node_is_not_ready_and_one_that_never_told_is_unknown() -> None:
    silent = {"status": {"conditions": [
        {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "m",
         "lastTransitionTime": "2026-11-23T20:50:00Z", "lastHeartbeatTime": "2026-11-23T20:49:00Z"},
        {"type": "DiskPressure", "status": "False"},
    ]}}  # fmt: skip
    row = node_row(silent, "n1", NOW, "q")
    assert (row["ready"], row["pressure"]) == (False, None)
    assert row["changed_at"] == pd.Timestamp("2026-11-23T20:50:00Z")
    new = node_row({}, "n2", NOW, "q")
    assert (new["ready"], new["changed_at"]) == (None, None)
    assert len(frames.normalise("nodes", [row, new])) == 2


def test_an_event_of_the_newer_group_gives_the_same_row_as_the_core_groups() -> None:
    thing = {"kind": "Pod", "name": "api-1", "namespace": "ns"}
    times = ("2026-11-23T20:00:00Z", "2026-11-23T20:05:00Z")
    core = {
        "involvedObject": thing, "reason": "BackOff", "message": "m", "type": "Warning",
        "count": 4, "firstTimestamp": times[0], "lastTimestamp": times[1],
        "source": {"component": "kubelet"},
    }  # fmt: skip
    newer = {
        "regarding": thing, "reason": "BackOff", "note": "m", "type": "Warning",
        "deprecatedCount": 4, "deprecatedFirstTimestamp": times[0],
        "deprecatedLastTimestamp": times[1], "deprecatedSource": {"component": "kubelet"},
        "reportingController": "kubelet", "eventTime": None,
    }  # fmt: skip
    assert event_row(core, "ns", "q") == event_row(newer, "ns", "q")


def test_a_revision_of_a_stateful_set_shows_the_images_of_its_time() -> None:
    made = {
        "metadata": {"name": "api-6b", "creationTimestamp": "2026-11-23T20:00:00Z"},
        "revision": 2,
        "data": {"spec": {"template": {"spec": {"containers": [{"image": "api:2"}]}}}},
    }
    row = revision_row(made, Target("consumer", "ns", "api", "StatefulSet"), "q")
    assert (row["revision"], row["image"]) == (2, "api:2")
    assert revision_row({"revision": "two", "data": None}, TARGET, "q")["revision"] is None


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("%3|1764.1|FAIL|worker#consumer-1| [thrd:x]: Connect failed", "ERROR"),
        ("%4|1764.1|MAXPOLL|worker#consumer-1| [thrd:main]: exceeded", "WARNING"),
        ("%7|1764.1|REBALANCE|x| [thrd:main]: group", "DEBUG"),
        ("%9| is no syslog level", None),
    ],
)
def test_the_syslog_level_of_librdkafka_is_read(line: str, level: str | None) -> None:
    assert level_of(line) == level


def test_the_lines_of_a_role_are_shared_among_its_logs() -> None:
    assert tail_of("consumer", 3) == 400
    assert tail_of("consumer", LOG_PODS) * LOG_PODS <= LOG_LINES
    assert tail_of("awx", 1) == 100
    assert tail_of("consumer", 0) == 400


def test_every_kind_has_a_rule_and_says_what_goes_on_without_it() -> None:
    for kind, resource in RESOURCES.items():
        assert resource.lost
        rule = rule_for(kind, "list", "ns")
        assert f'resources: ["{resource.name}"], verbs: ["list"]' in rule
        assert ("ClusterRole" in rule) is resource.cluster

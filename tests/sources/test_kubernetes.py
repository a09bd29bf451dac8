"""Decoding of a real API server's answers, and a server that misbehaves on request."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from http_stub import Asked, Handler, serving

from lagkit import frames
from lagkit.runbook import Group, Runbook, Workload
from lagkit.sources import Answer, Scope
from lagkit.sources.kubernetes import (
    LINE_LIMIT,
    LOG_BYTES,
    KubernetesSource,
    Subjects,
    Target,
    belongs,
    consumer_target,
    event_row,
    label_selector,
    level_of,
    log_rows,
    logs_worth_reading,
    pod_rows,
    rollout_row,
    telling_pods,
    workload_row,
)
from lagkit.sources.kubernetes.logs import LOG_LEAD, LOG_TRANSFER_BYTES
from lagkit.sources.kubernetes.session import PAGES

DATA = Path(__file__).resolve().parents[1] / "data" / "kubernetes"
NOW = pd.Timestamp("2026-11-23T21:00:00Z")
TARGET = Target("consumer", "ns", "api")


def recorded(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return document


def pods(name: str) -> pd.DataFrame:
    rows = [row for item in recorded(name)["items"] for row in pod_rows(item, "consumer", NOW, "q")]
    return frames.normalise("pods", rows)


# -- recorded answers -----------------------------------------------------------------------------


def test_healthy_pods_run_and_have_never_ended() -> None:
    found = pods("running")
    assert len(found) == 3
    assert found["state"].tolist() == ["running"] * 3
    assert found["ready"].all()
    assert (found["restart_count"] == 0).all()
    assert found["last_exit_code"].isna().all()
    assert found["last_finished_at"].isna().all()
    assert set(found["workload"]) == {"control-plane-api"}


def test_crash_loop_shows_its_waiting_reason_and_last_exit() -> None:
    found = pods("crash_loop")
    assert set(found["state_reason"]) == {"CrashLoopBackOff"}
    assert found["last_exit_code"].tolist() == [1, 1]
    assert found["last_finished_at"].notna().all()
    assert not found["ready"].any()


def test_crash_loop_between_two_backoffs_still_shows_its_exit() -> None:
    found = pods("crash_terminated")
    assert set(found["state"]) == {"terminated", "running"}
    assert found["last_exit_code"].tolist() == [1, 1]


def test_out_of_memory_is_told_by_reason_and_exit_code() -> None:
    found = pods("oom_killed")
    assert found["last_reason"].tolist() == ["OOMKilled"]
    assert found["last_exit_code"].tolist() == [137]


def test_unschedulable_pod_has_no_node_no_address_and_the_schedulers_words() -> None:
    (pod,) = pods("unschedulable").to_dict("records")
    assert pd.isna(pod["node"])
    assert pd.isna(pod["pod_ip"])
    assert pod["phase"] == "Pending"
    assert "Insufficient memory" in pod["unschedulable"]
    assert pod["container"] == "app"
    assert pd.isna(pod["restart_count"])


def test_missing_image_is_told_by_its_waiting_reason() -> None:
    (pod,) = pods("image_pull").to_dict("records")
    assert pod["state_reason"] == "ImagePullBackOff"
    assert pod["image"] == "missing/image:nope"


def test_ready_replicas_that_the_api_leaves_out_are_zero() -> None:
    document = recorded("deployment")
    del document["status"]["readyReplicas"]
    row = workload_row(document, TARGET, NOW, "q")
    assert (row["desired_replicas"], row["ready_replicas"]) == (2, 0)
    assert "MinimumReplicasUnavailable" in row["condition"]


def test_healthy_conditions_are_not_reported() -> None:
    document = recorded("deployment")
    document["status"]["conditions"] = [
        {"type": "Available", "status": "True"},
        {"type": "ReplicaFailure", "status": "False"},
    ]
    assert workload_row(document, TARGET, NOW, "q")["condition"] is None


def test_revisions_carry_number_image_and_cause() -> None:
    rows = [rollout_row(item, TARGET, "q") for item in recorded("replicasets")["items"]]
    found = frames.normalise("rollouts", rows).set_index("revision")
    assert found.loc[2, "image"] == "control-plane-api:1.1"
    assert found.loc[2, "change_cause"] == "image 1.1"
    assert found.loc[1, "ready_replicas"] == 0


def event(reason: str, kind: str = "Pod") -> list[dict[str, Any]]:
    rows = [
        event_row(item, "faults", "q")
        for item in recorded("events")["items"]
        if item["reason"] == reason and item["involvedObject"]["kind"] == kind
    ]
    return [row for row in rows if row is not None]


def test_every_recorded_event_has_a_time() -> None:
    items = recorded("events")["items"]
    rows = [row for item in items if (row := event_row(item, "faults", "q"))]
    assert len(frames.normalise("events", rows)) == len(items)


def test_scheduler_event_without_classic_times_takes_its_series() -> None:
    rows = sorted(event("FailedScheduling"), key=lambda row: row["timestamp"])
    assert rows[-1]["count"] == 2
    assert rows[-1]["timestamp"] > rows[-1]["first_at"]
    assert rows[-1]["component"] == "default-scheduler"


def test_kubelet_event_spans_first_to_last() -> None:
    row = max(event("BackOff"), key=lambda row: row["count"])
    assert row["timestamp"] > row["first_at"]
    assert row["component"] == "kubelet"


def test_event_without_any_time_is_left_out() -> None:
    assert event_row({"involvedObject": {"kind": "Pod", "name": "a"}}, "ns", "q") is None


def test_events_of_a_pod_that_is_gone_still_count() -> None:
    subjects = Subjects(
        frozenset({("ns", "Deployment", "api")}), frozenset({"api-7d9"}), frozenset(), frozenset()
    )
    assert subjects.hold({"kind": "Pod", "name": "api-7d9-x2x4z"}, "ns")
    assert not subjects.hold({"kind": "Pod", "name": "other-7d9-x2x4z"}, "ns")
    assert not subjects.hold({"kind": "Node", "name": "n"}, "ns")


def test_pod_belongs_by_its_owner_not_by_its_name() -> None:
    (pod,) = recorded("oom_killed")["items"]
    assert belongs(pod, "Deployment", "oom-kill", set())
    assert not belongs(pod, "Deployment", "oom", set())
    pod["metadata"]["ownerReferences"] = []
    assert not belongs(pod, "Deployment", "oom-kill", set())


def test_init_container_counts_only_until_it_ended_well() -> None:
    (pod,) = recorded("oom_killed")["items"]
    done = {"name": "init", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}
    stuck = {"name": "wait", "restartCount": 3, "state": {"waiting": {"reason": "PodInitializing"}}}
    pod["status"]["initContainerStatuses"] = [done, stuck]
    assert [row["container"] for row in pod_rows(pod, "consumer", NOW, "q")] == ["app", "wait"]


def test_evicted_pod_takes_the_reason_of_the_pod() -> None:
    (pod,) = recorded("unschedulable")["items"]
    pod["status"] = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    (row,) = pod_rows(pod, "consumer", NOW, "q")
    assert (row["phase"], row["state_reason"]) == ("Failed", "Evicted")


# -- choices --------------------------------------------------------------------------------------


def test_selector_keeps_expressions() -> None:
    selector = {
        "matchLabels": {"app": "api"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "canary", "operator": "DoesNotExist"},
        ],
    }
    assert label_selector(selector) == "!canary,app=api,tier in (a,b)"


def test_options_override_the_runbooks_workload() -> None:
    workload = Workload(namespace="ns", name="api", selector="app=api")
    target = consumer_target(workload, "other", "app=b")
    assert target == Target("consumer", "other", "api", "Deployment", "app=b")


def test_namespace_and_selector_stand_in_for_a_workload() -> None:
    assert consumer_target(None, "ns", "app=a") == Target("consumer", "ns", selector="app=a")
    assert consumer_target(None, "ns", None) is None


def test_crashed_and_restarted_pods_are_read_first_then_a_spread() -> None:
    calm = [{"namespace": "n", "pod": f"c{i}", "ready": True, "state": "running",
             "restart_count": 0} for i in range(8)]  # fmt: skip
    restarted = {"namespace": "n", "pod": "r", "ready": True, "state": "running",
                 "restart_count": 5}  # fmt: skip
    crashed = {"namespace": "n", "pod": "x", "ready": False, "state": "waiting", "restart_count": 1}
    chosen = [name for _, name in telling_pods([*calm, restarted, crashed], 4)]
    assert chosen == ["x", "r", "c0", "c4"]


@pytest.mark.parametrize(
    ("row", "logs"),
    [
        ({"restart_count": 0, "state": "running"}, [False]),
        ({"restart_count": 0, "state": "waiting"}, []),
        ({"restart_count": None, "state": None}, []),
        ({"restart_count": 3, "state": "running", "last_finished_at": NOW}, [False, True]),
        ({"restart_count": 3, "state": "waiting", "last_finished_at": NOW}, [True]),
        (
            {"restart_count": 3, "state": "running", "last_finished_at": NOW - pd.Timedelta("9D")},
            [False],
        ),
    ],
)
def test_only_logs_that_exist_and_matter_are_read(row: dict[str, Any], logs: list[bool]) -> None:
    assert logs_worth_reading(row, NOW - pd.Timedelta("1h")) == logs


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-11-23 20:00:00,000 ERROR consumer: poll failed", "ERROR"),
        ('{"level":"warning","msg":"slow"}', "WARNING"),
        ("level=info msg=started", "INFO"),
        ("E1123 20:00:00.000 1 main.go:7] gone", "ERROR"),
        ("[debug] tick", "DEBUG"),
        ("FATAL out of memory", "ERROR"),
        ("deployed without an error", None),
        ("x" * 300 + " ERROR", None),
        ("INFORMATION", None),
    ],
)
def test_level_is_read_only_where_the_line_says_so(line: str, level: str | None) -> None:
    assert level_of(line) == level


POD = {"namespace": "ns", "pod": "a", "container": "app", "role": "consumer"}


def test_log_times_come_from_the_line_and_continue_over_lines_without_one() -> None:
    body = b"2026-11-23T20:00:00.123456789Z ERROR a\n  at b\n\n2026-11-23T20:00:01Z c\n"
    rows, _ = log_rows(body, POD, False, NOW, "q")
    found = frames.normalise("logs", rows)
    assert found["message"].tolist() == ["ERROR a", "  at b", "c"]
    assert found["timestamp"].iloc[0] == found["timestamp"].iloc[1]
    assert found["timestamp"].iloc[2] == pd.Timestamp("2026-11-23T20:00:01Z")


def test_bad_bytes_do_not_lose_the_log() -> None:
    rows, _ = log_rows(b"2026-11-23T20:00:00Z a\xff\xfeb\n", POD, False, NOW, "q")
    assert rows[0]["message"] == "a\ufffd\ufffdb"


def test_long_log_keeps_its_newest_bytes_and_says_so() -> None:
    body = b"old\n" + b"x" * 100 + b"\n" + b"y" * LOG_BYTES + b"\nnew\n"
    rows, cut = log_rows(body, POD, False, NOW, "q")
    assert rows[-1]["message"] == "new"
    assert "old" not in {row["message"] for row in rows}
    assert cut.startswith("cut")


def test_long_line_is_bounded() -> None:
    rows, _ = log_rows(b"z" * 5000, POD, False, NOW, "q")
    assert len(rows[0]["message"]) == LINE_LIMIT


# -- a server that misbehaves ---------------------------------------------------------------------


def read(url: str, tmp_path: Path, *, budget: float = 4.0, workload: bool = True) -> Answer:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "s3cret"}}],
            }
        )
    )
    group = Group(name="g", workload=Workload(namespace="ns", name="api") if workload else None)
    scope = Scope("g", (), NOW - pd.Timedelta("1h"), NOW, Runbook(title="t", groups=(group,)))
    return KubernetesSource(kubeconfig).fetch(scope, budget_seconds=budget)


def cluster(handler: Handler, asked: Asked) -> None:
    """Answer as an API server with one crash-looping Deployment, from the recordings."""
    if asked.path == "/version/":
        handler.json(200, {"gitVersion": "v1.36.3"})
    elif asked.path.endswith("/deployments/api"):
        handler.json(200, recorded("deployment"))
    elif asked.path.endswith("/pods"):
        handler.json(200, recorded("crash_loop"))
    elif asked.path.endswith("/log"):
        handler.send(200, b"2026-11-23T20:00:00Z ERROR cannot decode\n")
    else:
        handler.json(200, {"items": []})


def test_whole_answer_of_a_crash_loop(tmp_path: Path) -> None:
    with serving(cluster) as stub:
        answer = read(stub.url, tmp_path, budget=20)
        log_fields = [a.fields for a in stub.asked if a.path.endswith("/log")]
    assert answer.status == "ok", answer.blind
    assert len(answer.frames["pods"]) == 2
    assert answer.frames["logs"]["previous"].all()
    assert answer.frames["logs"]["level"].tolist() == ["ERROR", "ERROR"]
    assert [fields["previous"][0].lower() for fields in log_fields] == ["true", "true"]
    assert answer.facts["server_version"] == "v1.36.3"
    assert "s3cret" not in repr(answer) + answer.queries.to_string()


def test_a_log_is_asked_for_with_its_bounds_in_time_lines_and_bytes(tmp_path: Path) -> None:
    def respond(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/pods"):
            handler.json(200, recorded("running"))
        else:
            cluster(handler, asked)

    with serving(respond) as stub:
        read(stub.url, tmp_path, budget=20)
        logs = [a.fields for a in stub.asked if a.path.endswith("/log")]
    assert logs
    since = pd.Timestamp.now("UTC") - (NOW - pd.Timedelta("1h") - LOG_LEAD)
    for fields in logs:
        assert fields["previous"] == ["false"]
        assert abs(int(fields["sinceSeconds"][0]) - since.total_seconds()) < 60
        assert fields["tailLines"] == ["400"]
        assert fields["limitBytes"] == [str(LOG_TRANSFER_BYTES)]


def test_forbidden_names_verb_resource_and_the_rule_to_add(tmp_path: Path) -> None:
    def respond(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith(("/pods", "/log")):
            handler.json(403, {"kind": "Status", "message": 'pods is forbidden: User "u"'})
        else:
            cluster(handler, asked)

    with serving(respond) as stub:
        answer = read(stub.url, tmp_path, budget=20)
    assert answer.status == "partial"
    (blind,) = answer.blind
    assert "may not list pods in ns" in blind.why
    assert 'resources: ["pods"], verbs: ["list"]' in blind.fix
    assert "denied" in set(answer.queries["outcome"])


def test_everything_forbidden_is_unavailable(tmp_path: Path) -> None:
    def respond(handler: Handler, asked: Asked) -> None:
        handler.json(200 if asked.path == "/version/" else 403, {"message": "no"})

    with serving(respond) as stub:
        answer = read(stub.url, tmp_path, budget=20)
    assert answer.status == "unavailable"


def test_expired_list_is_begun_again(tmp_path: Path) -> None:
    expired: list[str] = []

    def respond(handler: Handler, asked: Asked) -> None:
        if not asked.path.endswith("/pods"):
            cluster(handler, asked)
        elif "continue" not in asked.fields:
            handler.json(200, {**recorded("crash_loop"), "metadata": {"continue": "token"}})
        elif not expired:
            expired.append("once")
            handler.json(410, {"reason": "Expired", "message": "too old"})
        else:
            handler.json(200, recorded("running"))

    with serving(respond) as stub:
        answer = read(stub.url, tmp_path, budget=20)
    assert len(answer.frames["pods"]) == 5
    assert answer.queries["detail"].str.contains("begun again").any()


def test_a_list_without_an_end_is_cut_and_what_it_may_hide_is_said(tmp_path: Path) -> None:
    """Events have no order: the one that matters may stand on a page that was not read."""

    def respond(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/events"):
            handler.json(200, {"items": [], "metadata": {"continue": "more"}})
        else:
            cluster(handler, asked)

    with serving(respond) as stub:
        answer = read(stub.url, tmp_path, budget=20)
        pages = sum(asked.path.endswith("/events") for asked in stub.asked)
    assert answer.status == "partial"
    # those about nodes lie in the namespace default
    assert {blind.what for blind in answer.blind} == {"events in ns", "events in default"}
    assert all("more than lagkit reads of a list" in blind.why for blind in answer.blind)
    assert all("--selector" in blind.fix for blind in answer.blind)
    asked = answer.queries[answer.queries["statement"].str.contains("/events")]
    assert set(asked["outcome"]) == {"partial"}
    assert pages == len(asked) * PAGES


@pytest.mark.parametrize(
    "respond",
    [
        lambda handler, _: handler.hang(),
        lambda handler, _: handler.connection.close(),
        lambda handler, _: handler.send(500, b"<html>\xff"),
        lambda handler, _: handler.json(401, {"message": "Unauthorized"}),
    ],
    ids=["hang", "close", "500", "401"],
)
def test_server_that_does_not_answer_is_unavailable_within_the_budget(
    respond: Any, tmp_path: Path
) -> None:
    began = time.monotonic()
    with serving(respond) as stub:
        answer = read(stub.url, tmp_path, budget=2)
        took = time.monotonic() - began
    assert took < 15
    assert answer.status == "unavailable"
    assert answer.blind
    assert set(answer.queries["outcome"]) <= {"timeout", "failed", "denied"}


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"items": [1, null]}', b"{}"])
def test_garbage_from_a_list_never_raises(body: bytes, tmp_path: Path) -> None:
    def respond(handler: Handler, asked: Asked) -> None:
        del asked
        handler.send(200, body)

    with serving(respond) as stub:
        answer = read(stub.url, tmp_path, budget=20)
    assert answer.frames.get("pods", frames.empty("pods")).empty


def test_hanging_list_costs_its_share_and_the_rest_is_read(tmp_path: Path) -> None:
    def respond(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/events"):
            handler.hang()
        else:
            cluster(handler, asked)

    with serving(respond) as stub:
        answer = read(stub.url, tmp_path, budget=6)
    assert answer.status == "partial"
    assert len(answer.frames["pods"]) == 2
    assert "timeout" in set(answer.queries["outcome"])


def test_group_without_a_workload_is_a_blind_spot_not_an_error(tmp_path: Path) -> None:
    with serving(cluster) as stub:
        answer = read(stub.url, tmp_path, workload=False, budget=20)
    assert answer.status == "partial"
    (blind,) = answer.blind
    assert blind.what == "pods of the group"
    assert "--selector" in blind.fix


def test_kubeconfig_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    scope = Scope("g", (), NOW, NOW, Runbook(title="t"))
    answer = KubernetesSource(tmp_path / "absent").fetch(scope, budget_seconds=5)
    assert answer.status == "unavailable"
    assert "kubeconfig" in answer.detail

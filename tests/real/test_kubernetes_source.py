"""The Kubernetes source against a real API server and a real kubelet."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from kubernetes import client

from lab.stack import Stack

from .cluster import NAMESPACED_RULES, Room, compact, eventually, passing_on, without, workload_body

KEDA_CRD = {
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


# -- pods, logs, events ---------------------------------------------------------------------------


def test_crash_loop_shows_restarts_exit_code_events_and_the_log_of_the_crash(room: Room) -> None:
    room.deploy("echo 'ERROR cannot decode offset 42'; sleep 1; exit 3")

    def seen(logs) -> bool:
        return bool(logs["previous"].any())

    eventually(
        room.read,
        lambda answer: "BackOff" in set(answer.frames["events"]["reason"]),
    )
    answer = room.until("logs", seen)
    assert answer.status == "ok", answer.blind
    pod = answer.frames["pods"].iloc[0]
    assert (pod["last_exit_code"], pod["last_reason"]) == (3, "Error")
    crashed = answer.frames["logs"].query("previous")
    assert "ERROR cannot decode offset 42" in set(crashed["message"])
    assert set(crashed["level"].dropna()) == {"ERROR"}
    assert answer.frames["workloads"]["desired_replicas"].tolist() == [1]
    assert answer.frames["rollouts"]["revision"].tolist() == [1]


def test_pod_too_big_for_every_node_is_unschedulable(room: Room) -> None:
    room.deploy(resources={"requests": {"memory": "9000Gi"}})
    answer = room.until("pods", lambda pods: pods["unschedulable"].notna().any())
    assert "Insufficient memory" in answer.frames["pods"]["unschedulable"].iloc[0]


def test_missing_image_is_a_waiting_reason(room: Room) -> None:
    room.deploy(image="missing/api:1")
    reasons = ["ErrImagePull", "ImagePullBackOff"]
    room.until("pods", lambda pods: pods["state_reason"].isin(reasons).any())


def test_log_with_bad_bytes_is_read(room: Room) -> None:
    room.deploy(r"printf 'WARN half \377\376 a line\n'; sleep 600")
    answer = room.until("logs", len)
    assert answer.frames["logs"]["message"].tolist() == ["WARN half \ufffd\ufffd a line"]


def test_logs_of_all_replicas_are_read_and_each_is_bounded_by_its_last_lines(room: Room) -> None:
    room.deploy("i=0; while [ $i -lt 900 ]; do echo INFO line $i; i=$((i+1)); done; sleep 600",
                replicas=3)  # fmt: skip
    answer = room.until(
        "logs",
        lambda logs: logs["message"].eq("INFO line 899").sum() == 3,
    )
    logs = answer.frames["logs"]
    assert logs.groupby("pod").size().tolist() == [400, 400, 400]
    assert logs["message"].iloc[0] == "INFO line 500"


def test_stateful_set_shows_its_replicas_and_its_revisions_with_images(room: Room) -> None:
    body = workload_body("sleep 600", "api", 1, None, {})
    body["spec"]["serviceName"] = "api"
    room.apps.create_namespaced_stateful_set(room.name, body)
    room.until("pods", lambda pods: pods["ready"].all(), kind="StatefulSet")
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "api:2"
    room.apps.patch_namespaced_stateful_set("api", room.name, body)
    answer = room.until("rollouts", lambda rollouts: len(rollouts) == 2, kind="StatefulSet")
    assert answer.status == "ok", answer.blind
    rollouts = answer.frames["rollouts"].set_index("revision")
    assert rollouts["image"].to_dict() == {1: "api:1", 2: "api:2"}
    assert answer.frames["workloads"]["kind"].tolist() == ["StatefulSet"]
    assert set(answer.frames["pods"]["workload"]) == {"api"}


def test_wrong_workload_is_a_blind_spot_with_the_way_out(room: Room) -> None:
    answer = room.read()
    assert answer.frames["pods"].empty
    assert any("--namespace" in blind.fix for blind in answer.blind)


def test_events_come_from_the_newer_group_alone_where_the_core_group_is_closed(room: Room) -> None:
    room.deploy()
    core = room.until("events", lambda events: "Started" in set(events["reason"]))
    newer = room.user(
        [*without(NAMESPACED_RULES, "events"), ("events.k8s.io", ("events",), ("list",))],
        nodes=True,
    )
    other = room.read(newer)
    # those about nodes lie in another namespace, where this user may nothing
    columns = ["timestamp", "kind", "name", "type", "reason", "message", "count", "first_at",
               "component"]  # fmt: skip
    mine = core.frames["events"].query("kind != 'Node'")[columns].reset_index(drop=True)
    assert other.frames["events"][columns].head(len(mine)).equals(mine)
    assert {blind.what for blind in other.blind} == {"events in default"}


# -- autoscalers, quotas, nodes -------------------------------------------------------------------


def test_autoscaler_that_scaled_shows_its_bounds_its_time_and_its_event(room: Room) -> None:
    room.deploy()
    scaler = {
        "metadata": {"name": "api"},
        "spec": {
            "minReplicas": 2,
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"},
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 50},
                    },
                }
            ],
        },
    }
    client.AutoscalingV2Api(room.api).create_namespaced_horizontal_pod_autoscaler(room.name, scaler)
    answer = room.until(
        "autoscalers",
        lambda found: found["last_scaled_at"].notna().all() and found["condition"].notna().all(),
    )
    row = answer.frames["autoscalers"].iloc[0]
    assert (row["kind"], row["min_replicas"], row["max_replicas"]) == (
        "HorizontalPodAutoscaler", 2, 3,
    )  # fmt: skip
    assert "FailedGetResourceMetric" in row["condition"], "this cluster serves no metrics"
    events = answer.frames["events"]
    scaled = events.loc[events["reason"] == "SuccessfulRescale", "message"]
    assert scaled.str.startswith("New size: 2").all()
    assert len(scaled)


@pytest.fixture
def keda(room: Room) -> Iterator[client.CustomObjectsApi]:
    definitions = client.ApiextensionsV1Api(room.api)
    definitions.create_custom_resource_definition(KEDA_CRD)
    objects = client.CustomObjectsApi(room.api)

    def served() -> bool:
        try:
            objects.get_api_resources("keda.sh", "v1alpha1")
        except client.ApiException:
            return False
        return True

    eventually(served, bool)
    yield objects
    definitions.delete_custom_resource_definition("scaledobjects.keda.sh")
    eventually(served, lambda there: not there)


def test_keda_shows_what_it_follows_and_that_it_is_idle(
    room: Room, keda: client.CustomObjectsApi
) -> None:
    room.deploy(replicas=0)
    group = ("keda.sh", "v1alpha1", room.name, "scaledobjects")
    made = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "by-lag"},
        "spec": {
            "scaleTargetRef": {"name": "api"},
            "maxReplicaCount": 12,
            "triggers": [
                {
                    "type": "kafka",
                    "metadata": {
                        "bootstrapServers": "kafka:9092",
                        "consumerGroup": "g",
                        "topic": "t",
                        "lagThreshold": "50",
                        "sasl": "plaintext",
                        "password": "never-shown",
                    },
                }
            ],
        },
    }
    eventually(lambda: keda.create_namespaced_custom_object(*group, made), bool)
    conditions = [
        {"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed",
         "message": "kafka: client has run out of available brokers"},
        {"type": "Active", "status": "False", "reason": "ScalerNotActive", "message": "idle"},
    ]  # fmt: skip
    keda.patch_namespaced_custom_object_status(
        *group, "by-lag", {"status": {"conditions": conditions}}
    )
    answer = room.until("autoscalers", lambda found: found["active"].notna().all())
    assert answer.status == "ok", answer.blind
    row = answer.frames["autoscalers"].iloc[0]
    assert (row["kind"], row["min_replicas"], row["max_replicas"]) == ("ScaledObject", 0, 12)
    assert not row["active"]
    assert row["triggers"] == "kafka consumerGroup=g topic=t lagThreshold=50"
    assert "run out of available brokers" in row["condition"]
    assert "never-shown" not in answer.frames["autoscalers"].to_string()


def test_without_the_right_to_scaled_objects_the_rule_is_named(
    room: Room, keda: client.CustomObjectsApi
) -> None:
    del keda
    room.deploy()
    room.until("pods", len)
    user = room.user(without(NAMESPACED_RULES, "scaledobjects"), nodes=True)
    answer = room.read(user)
    (blind,) = [one for one in answer.blind if one.what != "events in default"]
    assert "may not list scaledobjects" in blind.why
    assert 'apiGroups: ["keda.sh"], resources: ["scaledobjects"], verbs: ["list"]' in blind.fix
    assert len(answer.frames["pods"]) == 1


def test_cluster_without_keda_has_no_scaled_objects_and_nothing_failed(room: Room) -> None:
    room.deploy()
    answer = room.until("pods", len)
    assert answer.status == "ok", answer.blind
    asked = answer.queries.set_index("statement").loc["GET /apis/keda.sh/v1alpha1"]
    assert (asked["outcome"], asked["detail"]) == ("empty", "KEDA is not installed")
    assert not answer.queries["statement"].str.contains("scaledobjects").any()


def test_quota_that_is_used_up_is_seen_with_the_pods_it_kept_away(room: Room) -> None:
    room.core.create_namespaced_resource_quota(
        room.name, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    )
    room.core.create_namespaced_limit_range(
        room.name,
        {
            "metadata": {"name": "small"},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "256Mi"}}]},
        },
    )
    # A pod made in the same instant as its quota is let in before the API server counts it.
    room.deploy(replicas=1)
    room.until("quotas", lambda quotas: (quotas["used"] == 1).any())
    room.apps.patch_namespaced_deployment_scale("api", room.name, {"spec": {"replicas": 2}})
    answer = eventually(
        room.read,
        lambda answer: (
            "FailedCreate" in set(answer.frames["events"]["reason"])
            and (answer.frames["quotas"]["used"] == 1).any()
        ),
    )
    quotas = answer.frames["quotas"].set_index("name")
    assert quotas.loc["few", ["resource", "hard", "used"]].tolist() == ["pods", 1.0, 1.0]
    assert quotas.loc["small", ["resource", "hard"]].tolist() == [
        "Container memory max", 256 * 2**20,
    ]  # fmt: skip
    events = answer.frames["events"].query("reason == 'FailedCreate'")
    assert events["message"].str.contains("exceeded quota: few").all()


@pytest.fixture
def sick_node(room: Room) -> Iterator[str]:
    name = f"node-{room.name}"
    room.core.create_node({"metadata": {"name": name}, "spec": {"unschedulable": True}})
    room.core.patch_node_status(
        name,
        {
            "status": {
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "KubeletNotReady",
                     "message": "container runtime is down",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "MemoryPressure", "status": "True", "reason": "KubeletHasInsufficient",
                     "message": "low", "lastTransitionTime": "2026-01-01T00:01:00Z"},
                ]
            }
        },
    )  # fmt: skip
    yield name
    room.core.delete_node(name)


def test_node_of_a_pod_shows_that_it_is_not_ready_and_under_pressure(
    room: Room, sick_node: str
) -> None:
    room.deploy(pod={"nodeName": sick_node})
    answer = room.until("nodes", len)
    row = answer.frames["nodes"].iloc[0]
    assert (row["node"], bool(row["ready"]), row["pressure"]) == (
        sick_node, False, "MemoryPressure",
    )  # fmt: skip
    assert row["cordoned"]
    assert row["changed_at"].isoformat().startswith("2026-01-01T00:00")
    assert "container runtime is down" in row["condition"]


# -- lists that do not fit in one answer, and clocks ----------------------------------------------


def test_list_of_more_than_one_page_is_read_to_its_end(room: Room) -> None:
    def create(number: int) -> None:
        room.core.create_namespaced_pod(
            room.name,
            {
                "metadata": {"name": f"api-{number}", "labels": {"app": "api"}},
                # nobody schedules it: five hundred processes would teach nothing
                "spec": {"schedulerName": "none", "containers": [{"name": "a", "image": "a"}]},
            },
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(510)))
    room.deploy(replicas=0)
    answer = room.read()
    assert answer.frames["pods"]["pod"].nunique() == 510


def _event(room: Room, number: int) -> None:
    room.core.create_namespaced_event(
        room.name,
        {
            "metadata": {"name": f"event-{number}"},
            "involvedObject": {"kind": "Deployment", "name": "api", "namespace": room.name},
            "reason": "Told",
            "message": f"number {number}",
            "type": "Normal",
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:00:00Z",
        },
    )


def test_list_that_expires_between_two_pages_is_begun_again(
    room: Room, control_plane: Stack
) -> None:
    """The API server keeps no cache of events, so a compaction of etcd ends an open page."""
    room.deploy(replicas=0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: _event(room, number), range(510)))
    expired: list[str] = []

    def forget(path: str) -> None:
        if "continue=" in path and "events" in path and not expired:
            expired.append(path)
            _event(room, 999)
            compact(control_plane)

    with passing_on(control_plane, before=forget) as url:
        answer = room.read(room.kubeconfig(room.token(), server=url))
    assert expired
    told = answer.frames["events"].query("reason == 'Told'")
    assert told["message"].nunique() == 511
    details = answer.queries["detail"].dropna()
    assert details.str.contains("expired once (410) and was begun again", regex=False).any()


def test_how_far_the_api_servers_clock_is_ahead_is_measured_and_its_times_are_kept(
    room: Room, control_plane: Stack
) -> None:
    def ahead(headers: dict[str, str]) -> dict[str, str]:
        seconds = email.utils.parsedate_to_datetime(headers["Date"]).timestamp() + 300
        return {**headers, "Date": email.utils.formatdate(seconds, usegmt=True)}

    room.deploy()
    with passing_on(control_plane, headers=ahead) as url:
        answer = room.until("pods", len, kubeconfig=room.kubeconfig(room.token(), server=url))
    assert abs(float(answer.facts["clock_skew_seconds"]) - 300) < 2
    started = answer.frames["pods"]["created_at"].iloc[0]
    assert abs((started - pd.Timestamp.now("UTC")).total_seconds()) < 120, "lagkit.clocks moves it"

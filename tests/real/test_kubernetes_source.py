"""The Kubernetes source against a real API server and a real kubelet."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from kubernetes import client, config

from lab.stack import Stack
from lagkit.runbook import Group, Runbook, Workload
from lagkit.sources import Answer, Scope
from lagkit.sources.kubernetes import KubernetesSource

from .conftest import require

PATIENCE = 60.0


@pytest.fixture
def core(stack: Stack) -> Iterator[client.CoreV1Api]:
    require(stack, "kubernetes")
    with config.new_client_from_config(config_file=stack.kubeconfig()) as api:
        yield client.CoreV1Api(api)


@pytest.fixture
def namespace(core: client.CoreV1Api) -> Iterator[str]:
    name = f"src-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


def deploy(core: client.CoreV1Api, namespace: str, script: str, **container: Any) -> None:
    """Create the Deployment ``api`` of one pod that runs a shell script."""
    body = {"name": "app", "image": "api:1", "command": ["sh", "-c", script], **container}
    client.AppsV1Api(core.api_client).create_namespaced_deployment(
        namespace,
        {
            "metadata": {"name": "api"},
            "spec": {
                "selector": {"matchLabels": {"app": "api"}},
                "template": {
                    "metadata": {"labels": {"app": "api"}},
                    "spec": {"terminationGracePeriodSeconds": 1, "containers": [body]},
                },
            },
        },
    )


def read(stack: Stack, namespace: str, user: str = "lagkit-ro") -> Answer:
    group = Group(name="g", workload=Workload(namespace=namespace, name="api"))
    now = pd.Timestamp.now("UTC")
    scope = Scope("g", (), now - pd.Timedelta("1h"), now, Runbook(title="t", groups=(group,)))
    return KubernetesSource(stack.kubeconfig(user)).fetch(scope, budget_seconds=30)


def eventually(ask: Callable[[], Answer], seen: Callable[[Answer], bool]) -> Answer:
    """Return the first answer in which it is *seen*; fail when there is none for a minute."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = ask()
        if seen(answer):
            return answer
        time.sleep(0.5)
    pytest.fail(f"not seen within {PATIENCE:.0f} s; last: {answer.detail}; {answer.blind}")


def test_crash_loop_shows_restarts_exit_code_events_and_the_log_of_the_crash(
    stack: Stack, core: client.CoreV1Api, namespace: str
) -> None:
    deploy(core, namespace, "echo 'ERROR cannot decode offset 42'; sleep 1; exit 3")

    def seen(answer: Answer) -> bool:
        pods, logs = answer.frames.get("pods"), answer.frames.get("logs")
        return (
            pods is not None
            and logs is not None
            and bool((pods["restart_count"].fillna(0) >= 1).any())
            and bool(logs["previous"].any())
            and "BackOff" in set(answer.frames["events"]["reason"])
        )

    answer = eventually(lambda: read(stack, namespace), seen)
    assert answer.status == "ok", answer.blind
    pod = answer.frames["pods"].iloc[0]
    assert (pod["last_exit_code"], pod["last_reason"]) == (3, "Error")
    crashed = answer.frames["logs"].query("previous")
    assert "ERROR cannot decode offset 42" in set(crashed["message"])
    assert set(crashed["level"].dropna()) == {"ERROR"}
    assert answer.frames["workloads"]["desired_replicas"].tolist() == [1]
    assert answer.frames["rollouts"]["revision"].tolist() == [1]


def test_pod_too_big_for_every_node_is_unschedulable(
    stack: Stack, core: client.CoreV1Api, namespace: str
) -> None:
    deploy(core, namespace, "sleep 60", resources={"requests": {"memory": "9000Gi"}})
    answer = eventually(
        lambda: read(stack, namespace),
        lambda answer: bool(
            "pods" in answer.frames and answer.frames["pods"]["unschedulable"].notna().any()
        ),
    )
    assert "Insufficient memory" in answer.frames["pods"]["unschedulable"].iloc[0]


def test_missing_image_is_a_waiting_reason(
    stack: Stack, core: client.CoreV1Api, namespace: str
) -> None:
    deploy(core, namespace, "sleep 60", image="missing/api:1")
    eventually(
        lambda: read(stack, namespace),
        lambda answer: bool(
            "pods" in answer.frames
            and answer.frames["pods"]["state_reason"].isin(["ErrImagePull", "ImagePullBackOff"])
            .any()
        ),
    )  # fmt: skip


def test_log_with_bad_bytes_is_read(stack: Stack, core: client.CoreV1Api, namespace: str) -> None:
    deploy(core, namespace, r"printf 'WARN half \377\376 a line\n'; sleep 60")
    answer = eventually(
        lambda: read(stack, namespace),
        lambda answer: "logs" in answer.frames and not answer.frames["logs"].empty,
    )
    assert answer.frames["logs"]["message"].tolist() == ["WARN half \ufffd\ufffd a line"]


def test_user_without_rights_is_told_each_missing_one(
    stack: Stack, core: client.CoreV1Api, namespace: str
) -> None:
    deploy(core, namespace, "sleep 60")
    answer = read(stack, namespace, "nobody")
    assert answer.status == "unavailable"
    fixes = " ".join(blind.fix for blind in answer.blind)
    assert all(name in fixes for name in ("deployments", "replicasets", "pods", "events"))
    assert "denied" in set(answer.queries["outcome"])


def test_wrong_workload_is_a_blind_spot_with_the_way_out(
    stack: Stack, core: client.CoreV1Api, namespace: str
) -> None:
    answer = read(stack, namespace)
    assert answer.frames["pods"].empty
    assert any("--namespace" in blind.fix for blind in answer.blind)

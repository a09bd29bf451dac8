"""The workload's Kubernetes objects, as the dictionaries that the API takes.

Knows the runbook's names (``control-plane-api`` in ``stoa-system``, ``awx-web`` in ``awx``) and how
a container here is a local process of this checkout. It sends nothing: :mod:`lab.scenarios` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NAMESPACE = "stoa-system"
CONSUMER = "control-plane-api"
AWX_NAMESPACE = "awx"
AWX = "awx-web"
REPLICAS = 3
RELEASE = "2.14.0"
BAD_RELEASE = "2.15.0"
AWX_RELEASE = "24.6.1"
CHANGE_CAUSE = "kubernetes.io/change-cause"
GRACE_SECONDS = 10
CHECKOUT = Path(__file__).resolve().parent.parent

Manifest = dict[str, Any]


def namespace(name: str) -> Manifest:
    """Return a namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _env(values: Mapping[str, str]) -> list[Manifest]:
    """Return the container's environment; its host name is its pod's, as in a real pod."""
    fixed = {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1", **values}
    return [
        {"name": "HOSTNAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        *({"name": name, "value": value} for name, value in sorted(fixed.items())),
    ]


def _deployment(
    name: str,
    space: str,
    *,
    container: Manifest,
    replicas: int,
    strategy: Manifest,
    labels: Mapping[str, str],
    change_cause: str,
    least_ready_seconds: int = 0,
) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": space,
            "labels": {"app": name, **labels},
            "annotations": {CHANGE_CAUSE: change_cause},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": strategy,
            "minReadySeconds": least_ready_seconds,
            "template": {
                "metadata": {"labels": {"app": name, **labels}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    "containers": [container],
                },
            },
        },
    }


def consumer(
    python: str,
    env: Mapping[str, str],
    *,
    replicas: int = REPLICAS,
    release: str = RELEASE,
    change_cause: str = "release 2.14.0",
    memory: str = "64Mi",
    killed_for_memory: bool = False,
    through: Sequence[str] = (),
    rolling_seconds: int = 0,
) -> Manifest:
    """Return the deployment worker's Deployment.

    Args:
        python: interpreter of the pods' processes.
        env: of the worker, beside its HOSTNAME.
        replicas: members of the group.
        release: the image's tag, which the lab does not pull.
        change_cause: what ``kubectl rollout history`` shows.
        memory: that a pod asks for; the node has what this machine has.
        killed_for_memory: a process that ends with 137 is reported as OOMKilled.
        through: words before the worker's own command.
        rolling_seconds: replace one pod after another, each that long after the one before was
            ready; 0 replaces all at once.
    """
    document = _deployment(
        CONSUMER,
        NAMESPACE,
        container={
            "name": CONSUMER,
            "image": f"stoa/{CONSUMER}:{release}",
            "imagePullPolicy": "IfNotPresent",
            "command": [*through, *_command(python, "lab.workload.consumer")],
            "env": _env(env),
            "resources": {
                "requests": {"cpu": "50m", "memory": memory},
                "limits": {"memory": memory if memory != "64Mi" else "256Mi"},
            },
        },
        replicas=replicas,
        # two releases in one consumer group would rebalance against each other
        strategy={
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
        }
        if rolling_seconds
        else {"type": "Recreate"},
        labels={"version": release},
        change_cause=change_cause,
        least_ready_seconds=rolling_seconds,
    )
    if killed_for_memory:
        # the lab's kubelet has no cgroups; see lab/klab/kubelet.go
        document["spec"]["template"]["metadata"]["annotations"] = {"lab/oom": "true"}
    return document


def failing(python: str, space: str, name: str) -> Manifest:
    """Return a Deployment that has nothing to do with the group and ends with 1 again and again."""
    return _deployment(
        name,
        space,
        container={
            "name": name,
            "image": f"stoa/{name}:0.3.1",
            "imagePullPolicy": "IfNotPresent",
            "command": [python, "-c", "raise SystemExit('report-mailer: no SMTP host configured')"],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        },
        replicas=1,
        strategy={"type": "Recreate"},
        labels={"version": "0.3.1"},
        change_cause="release 0.3.1",
    )


def awx(python: str, port: int, *, replicas: int = 1) -> Manifest:
    """Return the Deployment of the AWX stand-in, which listens on this loopback port."""
    return _deployment(
        AWX,
        AWX_NAMESPACE,
        container={
            "name": AWX,
            "image": f"ansible/awx:{AWX_RELEASE}",
            "imagePullPolicy": "IfNotPresent",
            "command": _command(python, "lab.awx"),
            "env": _env({"AWX_PORT": str(port)}),
            "ports": [{"containerPort": port, "name": "http"}],
            "readinessProbe": {
                "httpGet": {"path": "/api/v2/ping/", "port": port, "host": "127.0.0.1"},
                "periodSeconds": 5,
                "timeoutSeconds": 3,
                "failureThreshold": 3,
            },
            "resources": {
                "requests": {"cpu": "50m", "memory": "64Mi"},
                "limits": {"memory": "256Mi"},
            },
        },
        replicas=replicas,
        strategy={"type": "Recreate"},
        labels={"version": AWX_RELEASE},
        change_cause=f"release {AWX_RELEASE}",
    )


def _command(python: str, module: str) -> Sequence[str]:
    return [python, "-m", module]

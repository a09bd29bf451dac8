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
) -> Manifest:
    """Return the deployment worker's Deployment.

    Args:
        python: interpreter of the pods' processes.
        env: of the worker, beside its HOSTNAME.
        replicas: members of the group.
        release: the image's tag, which the lab does not pull.
        change_cause: what ``kubectl rollout history`` shows.
    """
    return _deployment(
        CONSUMER,
        NAMESPACE,
        container={
            "name": CONSUMER,
            "image": f"stoa/{CONSUMER}:{release}",
            "imagePullPolicy": "IfNotPresent",
            "command": _command(python, "lab.workload.consumer"),
            "env": _env(env),
            "resources": {
                "requests": {"cpu": "50m", "memory": "64Mi"},
                "limits": {"memory": "256Mi"},
            },
        },
        replicas=replicas,
        # two releases in one consumer group would rebalance against each other
        strategy={"type": "Recreate"},
        labels={"version": release},
        change_cause=change_cause,
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

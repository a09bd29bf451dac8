"""Pods, workloads and rollouts: the API's JSON as rows of the frames. Plain functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lagkit.runbook import Workload

Json = Mapping[str, Any]

CONSUMER = "consumer"
MESSAGE_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Target:
    """One workload to look at; ``name`` empty: only pods, by *selector*."""

    role: str
    namespace: str
    name: str = ""
    kind: str = "Deployment"
    selector: str = ""


def consumer_target(
    workload: Workload | None, namespace: str | None, selector: str | None
) -> Target | None:
    """Return what to look at for the group: the runbook's workload, overridden by the options."""
    if workload is None:
        if namespace and selector:
            return Target(CONSUMER, namespace, selector=selector)
        return None
    return Target(
        CONSUMER,
        namespace or workload.namespace,
        workload.name,
        workload.kind,
        selector or workload.selector,
    )


def target_of(role: str, workload: Workload) -> Target:
    """Return what to look at for a downstream of the runbook."""
    return Target(role, workload.namespace, workload.name, workload.kind, workload.selector)


def label_selector(selector: Json | None) -> str:
    """Return a LabelSelector object as the string that a list call takes."""
    terms = [f"{key}={value}" for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    for rule in (selector or {}).get("matchExpressions") or ():
        key, values = rule.get("key"), ",".join(rule.get("values") or ())
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": f"{key}",
                "DoesNotExist": f"!{key}",
            }.get(rule.get("operator", ""), f"{key}")
        )
    return ",".join(sorted(terms))


def moment(text: object) -> pd.Timestamp | None:
    """Return an RFC 3339 time of the API; None for absent or unreadable."""
    if not text:
        return None
    try:
        stamp = pd.Timestamp(str(text))
    except ValueError:
        return None
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def owner(item: Json) -> tuple[str, str] | None:
    """Return kind and name of the controlling owner."""
    for reference in (item.get("metadata") or {}).get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference.get("kind")), str(reference.get("name"))
    return None


def belongs(pod: Json, kind: str, name: str, replica_sets: set[str]) -> bool:
    """Say whether *pod* is controlled by the workload, by its owner references alone."""
    controller = owner(pod)
    if controller is None:
        return False
    if controller == (kind, name):
        return True
    # a Deployment names its ReplicaSets NAME-HASH, and writes the hash on the pods
    template = ((pod.get("metadata") or {}).get("labels") or {}).get("pod-template-hash")
    return controller[0] == "ReplicaSet" and (
        controller[1] in replica_sets
        or (kind == "Deployment" and bool(template) and controller[1] == f"{name}-{template}")
    )


def workload_row(item: Json, target: Target, at: pd.Timestamp, query_id: str) -> dict[str, Any]:
    """Return the row of ``workloads``; counters that the API leaves out are 0."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    healthy = {"Available": "True", "Progressing": "True", "ReplicaFailure": "False"}
    bad = [
        f"{c.get('type')}={c.get('status')} {c.get('reason') or ''}: {c.get('message') or ''}"
        for c in status.get("conditions") or ()
        if healthy.get(c.get("type"), c.get("status")) != c.get("status")
    ]
    return {
        "timestamp": at,
        "namespace": target.namespace,
        "workload": target.name,
        "kind": target.kind,
        "role": target.role,
        "desired_replicas": spec.get("replicas", 1),
        "ready_replicas": status.get("readyReplicas") or 0,
        "updated_replicas": status.get("updatedReplicas") or 0,
        "condition": "; ".join(bad)[:MESSAGE_LIMIT] or None,
        "query_id": query_id,
    }


def rollout_row(item: Json, target: Target, query_id: str) -> dict[str, Any]:
    """Return the row of ``rollouts`` of one ReplicaSet."""
    meta, spec, status = (item.get(key) or {} for key in ("metadata", "spec", "status"))
    notes = meta.get("annotations") or {}
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    revision = str(notes.get("deployment.kubernetes.io/revision") or "")
    return {
        "timestamp": moment(meta.get("creationTimestamp")),
        "namespace": target.namespace,
        "workload": target.name,
        "role": target.role,
        "replica_set": meta.get("name"),
        "revision": int(revision) if revision.isdigit() else None,
        "desired_replicas": spec.get("replicas", 1),
        "ready_replicas": status.get("readyReplicas") or 0,
        "image": _images(containers),
        "change_cause": (notes.get("kubernetes.io/change-cause") or "")[:MESSAGE_LIMIT] or None,
        "query_id": query_id,
    }


def revision_row(item: Json, target: Target, query_id: str) -> dict[str, Any]:
    """Return the row of ``rollouts`` of one ControllerRevision of a StatefulSet.

    It holds the pod template of its time, and knows of no replicas.
    """
    meta = item.get("metadata") or {}
    spec = ((item.get("data") or {}).get("spec")) or {}
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    notes = meta.get("annotations") or {}
    revision = item.get("revision")
    return {
        "timestamp": moment(meta.get("creationTimestamp")),
        "namespace": target.namespace,
        "workload": target.name,
        "role": target.role,
        "replica_set": meta.get("name"),
        "revision": revision if isinstance(revision, int) else None,
        "image": _images(containers),
        "change_cause": (notes.get("kubernetes.io/change-cause") or "")[:MESSAGE_LIMIT] or None,
        "query_id": query_id,
    }


def _images(containers: Any) -> str | None:
    """Return the images of a pod template, comma separated."""
    return ", ".join(str(c.get("image")) for c in containers)[:MESSAGE_LIMIT] or None


def pod_rows(item: Json, role: str, at: pd.Timestamp, query_id: str) -> list[dict[str, Any]]:
    """Return rows of ``pods``, one per container; init containers that ended well are left out."""
    meta, spec, status = (item.get(key) or {} for key in ("metadata", "spec", "status"))
    controller = owner(item)
    replica_set = controller[1] if controller and controller[0] == "ReplicaSet" else None
    template = (meta.get("labels") or {}).get("pod-template-hash")
    workload = controller[1] if controller else None
    if replica_set and template and replica_set.endswith(f"-{template}"):
        workload = replica_set[: -len(template) - 1]
    unschedulable = next(
        (
            str(c.get("message") or c.get("reason") or "")[:MESSAGE_LIMIT]
            for c in status.get("conditions") or ()
            if c.get("type") == "PodScheduled" and c.get("status") == "False"
        ),
        None,
    )
    pod = {
        "timestamp": at,
        "namespace": meta.get("namespace"),
        "pod": meta.get("name"),
        "workload": workload,
        "replica_set": replica_set,
        "role": role,
        "node": spec.get("nodeName") or None,
        "pod_ip": status.get("podIP") or None,
        "phase": status.get("phase"),
        "created_at": moment(meta.get("creationTimestamp")),
        "deleted_at": moment(meta.get("deletionTimestamp")),
        "unschedulable": unschedulable,
        "query_id": query_id,
    }
    statuses = {c.get("name"): c for c in status.get("containerStatuses") or ()}
    rows = [
        {**pod, **_container(statuses.get(c.get("name")) or {}, c, status)}
        for c in spec.get("containers") or ()
    ]
    declared = {c.get("name"): c for c in spec.get("initContainers") or ()}
    for container in status.get("initContainerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if not ended or ended.get("exitCode") != 0:
            declaration = declared.get(container.get("name")) or {}
            rows.append({**pod, **_container(container, declaration, status)})
    return rows


def _container(status: Json, declared: Json, pod_status: Json) -> dict[str, Any]:
    states = status.get("state") or {}
    state = next((name for name in ("running", "waiting", "terminated") if states.get(name)), None)
    if state is None and "running" in states:
        state = "running"
    now = states.get(state or "") or {}
    ended = (
        (now if state == "terminated" else None)
        or (status.get("lastState") or {}).get("terminated")
        or {}
    )
    return {
        "container": status.get("name") or declared.get("name"),
        # a container without a status has not been started, so it is not ready
        "ready": bool(status.get("ready", False)),
        "restart_count": status.get("restartCount"),
        "state": state,
        # an evicted pod has its reason on the pod alone
        "state_reason": now.get("reason") or pod_status.get("reason") or None,
        "last_exit_code": ended.get("exitCode"),
        "last_reason": ended.get("reason"),
        "last_finished_at": moment(ended.get("finishedAt")),
        "started_at": moment(now.get("startedAt")) if state == "running" else None,
        "image": status.get("image") or declared.get("image"),
    }

"""What pods live in: autoscalers that add and take them, nodes that run them, quotas above them.

Plain functions from the API's JSON to rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lagkit.sources.kubernetes.rows import MESSAGE_LIMIT, Target, moment

Json = Mapping[str, Any]

CONSUMER_GROUP_TRIGGERS = ("kafka", "apache-kafka")
"""KEDA scalers that follow a consumer group's lag."""
_QUANTITY = re.compile(
    r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)"
)
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SUFFIXES: Mapping[str, float] = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


def quantity_of(text: object) -> float | None:
    """Return a Kubernetes quantity ("500m", "2Gi", "1e3") in its base unit; None if it is none."""
    match = _QUANTITY.fullmatch(str(text).strip()) if text is not None else None
    if match is None:
        return None
    number, exponent, suffix = match.groups()
    return float(number + (exponent or "")) * _SUFFIXES.get(suffix or "", 1.0)


def aims_at(item: Json, target: Target) -> bool:
    """Say whether an autoscaler scales *target*; KEDA leaves the kind out for a Deployment."""
    aim = (item.get("spec") or {}).get("scaleTargetRef") or {}
    return (aim.get("kind") or "Deployment", aim.get("name")) == (target.kind, target.name)


def _conditions(item: Json) -> dict[str, Json]:
    """Return the conditions of a status by their type."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return {str(c.get("type")): c for c in conditions if isinstance(c, dict)}


def _told(condition: Json) -> str:
    head = f"{condition.get('type')}={condition.get('status')} {condition.get('reason') or ''}"
    return f"{head}: {condition.get('message') or ''}"


def hpa_row(item: Json, target: Target, at: pd.Timestamp, query_id: str) -> dict[str, Any]:
    """Return the row of ``autoscalers`` of one HorizontalPodAutoscaler (autoscaling/v2)."""
    meta, spec, status = (item.get(key) or {} for key in ("metadata", "spec", "status"))
    conditions = _conditions(item)
    limited = conditions.get("ScalingLimited") or {}
    healthy = {"AbleToScale": "True", "ScalingActive": "True", "ScalingLimited": "False"}
    bad = [
        _told(condition)
        for name, condition in sorted(conditions.items())
        if healthy.get(name, condition.get("status")) != condition.get("status")
    ]
    return {
        "timestamp": at,
        "namespace": meta.get("namespace") or target.namespace,
        "autoscaler": meta.get("name"),
        "kind": "HorizontalPodAutoscaler",
        "workload": target.name,
        "role": target.role,
        # absent in the API: 1
        "min_replicas": spec.get("minReplicas", 1),
        "max_replicas": spec.get("maxReplicas"),
        "current_replicas": status.get("currentReplicas"),
        "desired_replicas": status.get("desiredReplicas"),
        "last_scaled_at": moment(status.get("lastScaleTime")),
        # without the condition the controller has not judged it yet
        "limited_by_max": (
            limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas"
            if limited
            else None
        ),
        "triggers": ", ".join(str(m.get("type")) for m in spec.get("metrics") or ()) or None,
        "condition": "; ".join(bad)[:MESSAGE_LIMIT] or None,
        "query_id": query_id,
    }


def scaled_object_row(
    item: Json, target: Target, at: pd.Timestamp, query_id: str
) -> dict[str, Any]:
    """Return the row of ``autoscalers`` of one KEDA ScaledObject (keda.sh/v1alpha1).

    KEDA's own defaults are 0 and 100 replicas. Its replica numbers stand in the
    HorizontalPodAutoscaler that it makes.
    """
    meta, spec, status = (item.get(key) or {} for key in ("metadata", "spec", "status"))
    conditions = _conditions(item)
    bad = [
        _told(condition)
        for name, condition in sorted(conditions.items())
        if (name, condition.get("status")) in {("Ready", "False"), ("Fallback", "True")}
        or (name == "Paused" and condition.get("status") == "True")
    ]
    active = (conditions.get("Active") or {}).get("status")
    return {
        "timestamp": at,
        "namespace": meta.get("namespace") or target.namespace,
        "autoscaler": meta.get("name"),
        "kind": "ScaledObject",
        "workload": target.name,
        "role": target.role,
        "min_replicas": spec.get("minReplicaCount", 0),
        "max_replicas": spec.get("maxReplicaCount", 100),
        "last_scaled_at": moment(status.get("lastActiveTime")),
        "active": {"True": True, "False": False}.get(str(active)),
        "triggers": "; ".join(_trigger(t) for t in spec.get("triggers") or ())[:MESSAGE_LIMIT]
        or None,
        "condition": "; ".join(bad)[:MESSAGE_LIMIT] or None,
        "query_id": query_id,
    }


def _trigger(trigger: Json) -> str:
    """Return what a KEDA trigger follows; of its metadata only what concerns lag is shown."""
    kind, meta = str(trigger.get("type")), trigger.get("metadata") or {}
    if kind not in CONSUMER_GROUP_TRIGGERS:
        return kind
    shown = ("consumerGroup", "topic", "lagThreshold", "activationLagThreshold",
             "allowIdleConsumers", "limitToPartitionsWithLag")  # fmt: skip
    return f"{kind} " + " ".join(f"{key}={meta[key]}" for key in shown if key in meta)


def node_row(item: Json, name: str, at: pd.Timestamp, query_id: str) -> dict[str, Any]:
    """Return the row of ``nodes`` of the node *name*: NotReady and pressures, and since when."""
    spec = item.get("spec") or {}
    conditions = _conditions(item)
    ready = conditions.get("Ready") or {}
    pressed = [
        conditions[name]
        for name in _PRESSURES
        if (conditions.get(name) or {}).get("status") == "True"
    ]
    bad = [*([ready] if ready and ready.get("status") != "True" else []), *pressed]
    changes = [when for c in bad if (when := moment(c.get("lastTransitionTime"))) is not None]
    return {
        "timestamp": at,
        "node": name,
        # Unknown: the node has stopped telling; a node without the condition has never told
        "ready": ready.get("status") == "True" if ready else None,
        "pressure": ", ".join(str(c.get("type")) for c in pressed) or None,
        "cordoned": bool(spec.get("unschedulable", False)),
        "changed_at": min(changes) if changes else None,
        "heartbeat_at": moment(ready.get("lastHeartbeatTime")),
        "condition": "; ".join(_told(c) for c in bad)[:MESSAGE_LIMIT] or None,
        "query_id": query_id,
    }


def quota_rows(item: Json, at: pd.Timestamp, query_id: str) -> Iterator[dict[str, Any]]:
    """Yield rows of ``quotas`` of one ResourceQuota: one per resource it limits."""
    meta, status = item.get("metadata") or {}, item.get("status") or {}
    hard = status.get("hard") or (item.get("spec") or {}).get("hard") or {}
    used = status.get("used") or {}
    for resource in sorted(hard):
        yield {
            "timestamp": at,
            "namespace": meta.get("namespace"),
            "kind": "ResourceQuota",
            "name": meta.get("name"),
            "resource": resource,
            "hard": quantity_of(hard[resource]),
            "used": quantity_of(used.get(resource)),
            "query_id": query_id,
        }


def limit_rows(item: Json, at: pd.Timestamp, query_id: str) -> Iterator[dict[str, Any]]:
    """Yield rows of ``quotas`` of one LimitRange: one per bound on what a pod may ask for."""
    meta = item.get("metadata") or {}
    for limit in (item.get("spec") or {}).get("limits") or ():
        for bound in ("max", "min"):
            for resource, value in sorted((limit.get(bound) or {}).items()):
                yield {
                    "timestamp": at,
                    "namespace": meta.get("namespace"),
                    "kind": "LimitRange",
                    "name": meta.get("name"),
                    "resource": f"{limit.get('type')} {resource} {bound}",
                    "hard": quantity_of(value),
                    "query_id": query_id,
                }

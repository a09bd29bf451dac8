"""Events of both API groups as rows, and whose they are.

The core group and ``events.k8s.io`` show the same stored objects under other names, so one of them
is read, the other where the first may not be. Kubelet events carry first and last time, the
scheduler's ``eventTime`` and sometimes a series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lagkit.sources.kubernetes.rows import MESSAGE_LIMIT, moment

Json = Mapping[str, Any]

EVENTS = 2000


@dataclass(frozen=True, slots=True)
class Subjects:
    """The objects whose events matter."""

    workloads: frozenset[tuple[str, str, str]]
    replica_sets: frozenset[str]
    pods: frozenset[tuple[str, str]]
    nodes: frozenset[str]

    @classmethod
    def of(
        cls,
        workloads: Iterable[tuple[str, str, str]],
        replica_sets: Iterable[str],
        pods: Iterable[Json],
    ) -> Subjects:
        """Return the subjects around *workloads* (namespace, kind, name) and rows of *pods*."""
        pods = list(pods)
        sets = {*replica_sets, *(row["replica_set"] for row in pods if row.get("replica_set"))}
        return cls(
            workloads=frozenset(workloads),
            replica_sets=frozenset(sets),
            pods=frozenset((row["namespace"], row["pod"]) for row in pods),
            nodes=frozenset(row["node"] for row in pods if row.get("node")),
        )

    def kinds(self, namespace: str) -> tuple[str, ...]:
        """Return the kinds of object whose events are worth listing in *namespace*."""
        named = {kind for space, kind, _ in self.workloads if space == namespace}
        return tuple(sorted({"Pod", "ReplicaSet", *named}))

    def hold(self, thing: Json, namespace: str) -> bool:
        """Say whether *thing* (an involvedObject) is one of them, or a pod that is gone by now."""
        kind, name = thing.get("kind"), str(thing.get("name") or "")
        if kind == "Node":
            return name in self.nodes
        if kind == "ReplicaSet":
            return name in self.replica_sets
        if kind != "Pod":
            return (namespace, str(kind), name) in self.workloads
        parent = name.rpartition("-")[0]
        return (
            (namespace, name) in self.pods
            or parent in self.replica_sets
            or (namespace, "StatefulSet", parent) in self.workloads
        )


def thing_of(item: Json) -> Json:
    """Return what an event of either group is about."""
    return item.get("involvedObject") or item.get("regarding") or {}


def event_row(item: Json, namespace: str, query_id: str) -> dict[str, Any] | None:
    """Return the row of ``events``, or None for an event without any time.

    *item* is of the core group or of ``events.k8s.io``. ``timestamp`` is the last time it was seen,
    ``first_at`` the first.
    """
    meta, thing = item.get("metadata") or {}, thing_of(item)
    series = item.get("series") or {}
    source = item.get("source") or item.get("deprecatedSource") or {}
    created = moment(meta.get("creationTimestamp"))
    seen = moment(item.get("eventTime"))
    first = (
        moment(item.get("firstTimestamp") or item.get("deprecatedFirstTimestamp"))
        or seen
        or created
    )
    last = (
        moment(series.get("lastObservedTime"))
        or moment(item.get("lastTimestamp") or item.get("deprecatedLastTimestamp"))
        or seen
        or first
        or created
    )
    if last is None:
        return None
    return {
        "timestamp": last,
        "namespace": thing.get("namespace") or namespace,
        "kind": thing.get("kind"),
        "name": thing.get("name"),
        "type": item.get("type"),
        "reason": item.get("reason"),
        "message": str(item.get("message") or item.get("note") or "")[:MESSAGE_LIMIT] or None,
        "count": series.get("count") or item.get("count") or item.get("deprecatedCount"),
        "first_at": first,
        "component": source.get("component")
        or item.get("reportingComponent")
        or item.get("reportingController")
        or None,
        "query_id": query_id,
    }

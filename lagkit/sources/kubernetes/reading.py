"""The order of questions: the server, the workloads, then everything around their pods.

Within the budget it asks what dies first, first: events expire within the hour, logs go with their
pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from lagkit.sources import Blind, Scope
from lagkit.sources.kubernetes.events import EVENTS, Subjects, event_row, thing_of
from lagkit.sources.kubernetes.logs import (
    LOG_LEAD,
    LOG_PODS,
    LOG_TRANSFER_BYTES,
    log_rows,
    logs_worth_reading,
    tail_of,
    telling_pods,
)
from lagkit.sources.kubernetes.rows import (
    CONSUMER,
    Json,
    Target,
    belongs,
    consumer_target,
    label_selector,
    owner,
    pod_rows,
    revision_row,
    rollout_row,
    target_of,
    workload_row,
)
from lagkit.sources.kubernetes.session import (
    PAGE,
    RESOURCES,
    Found,
    RefusedError,
    Session,
    namespaced,
)
from lagkit.sources.kubernetes.surroundings import (
    aims_at,
    hpa_row,
    limit_rows,
    node_row,
    quota_rows,
    scaled_object_row,
)

TOGETHER = 6
NODES = 20
"""Nodes that are asked about; the pods of one group seldom stand on more."""
KEDA = "/apis/keda.sh/v1alpha1"
_EVENT_SOURCES = (("", "v1", "involvedObject.kind"), ("events.k8s.io", "v1", "regarding.kind"))

Rows = Callable[[Json, str], Iterable[dict[str, Any]]]


@dataclass(slots=True)
class Reading:
    """One fetch: the scope, the session, and what was found."""

    scope: Scope
    session: Session
    found: Found

    def run(self) -> None:
        """Ask the server, then each workload, then what is around its pods."""
        if not self.session.connect():
            return
        targets = self._targets()
        self.found.targets = len(targets)
        if not targets:
            return
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="lagkit-kubernetes") as pool:
            keda = pool.submit(self._has_keda)
            asked = [pool.submit(self._workload, target) for target in targets]
            asked += [pool.submit(self._autoscalers, *job, keda) for job in _by_namespace(targets)]
            for job in asked:
                job.result()
            pods = self.found.of("pods")
            subjects = self._subjects(targets, pods)
            asked = [
                pool.submit(self._events, *job, subjects) for job in _event_jobs(targets, subjects)
            ]
            asked += [pool.submit(self._log, *job) for job in self._log_jobs(pods)]
            asked += [pool.submit(self._node, name) for name in sorted(subjects.nodes)[:NODES]]
            asked += [
                pool.submit(self._quotas, namespace)
                for namespace in sorted({target.namespace for target in targets})
            ]
            for job in asked:
                job.result()
        self._note(targets)
        if not self.found.answered:
            self.found.notes.append(f"nothing could be read: {self.found.blinds[-1].why}")

    def _targets(self) -> list[Target]:
        group = self.scope.runbook.group(self.scope.group)
        targets = []
        mine = consumer_target(group.workload, self.scope.namespace, self.scope.selector)
        if mine is None:
            self.found.blind(
                Blind(
                    "pods of the group",
                    f"the runbook names no workload for group {group.name}",
                    "Give --namespace and --selector, or add a workload to this group in the "
                    "runbook.",
                )
            )
            self.found.notes.append("no workload known for this group")
        else:
            targets.append(mine)
        targets += [
            target_of(downstream.name, downstream.workload)
            for downstream in group.downstream
            if downstream.workload is not None
        ]
        return targets

    def _list(
        self,
        frame: str,
        path: str,
        rows: Rows,
        *,
        what: str,
        kind: str,
        namespace: str,
        calm: Sequence[int] = (),
        query: dict[str, Any] | None = None,
    ) -> list[Json] | None:
        """List *path*, keep its *rows* in *frame*, and return the items; None if refused."""

        def work(query_id: str) -> tuple[list[Json], int, str]:
            items, note = self.session.listed(path, **(query or {}))
            made = [row for item in items for row in rows(item, query_id)]
            return items, self.found.add(frame, made), note

        return self.session.ask(
            path,
            work,
            what=what,
            kind=kind,
            verb="list",
            namespace=namespace,
            calm=calm,
            query={**(query or {}), "limit": PAGE},
        )

    # -- workloads ------------------------------------------------------------------------------

    def _workload(self, target: Target) -> None:
        selector = target.selector
        if target.name:
            document = self._read_workload(target)
            if document is not None:
                selector = selector or label_selector((document.get("spec") or {}).get("selector"))
        sets = self._revisions(target) if target.name else set()
        if selector or target.name:
            self._pods(target, selector, sets)

    def _read_workload(self, target: Target) -> Json | None:
        path = namespaced("apps", "v1", target.namespace, RESOURCES[target.kind].name, target.name)

        def work(query_id: str) -> tuple[Json, int, str]:
            document = self.session.json(path)
            row = workload_row(document, target, pd.Timestamp.now("UTC"), query_id)
            return document, self.found.add("workloads", [row]), ""

        return self.session.ask(
            path,
            work,
            what=f"{target.kind} {target.namespace}/{target.name} ({target.role})",
            kind=target.kind,
            verb="get",
            namespace=target.namespace,
        )

    def _revisions(self, target: Target) -> set[str]:
        """Read the rollouts of *target*; return the names of its ReplicaSets."""
        kind, make = (
            ("ReplicaSet", rollout_row)
            if target.kind == "Deployment"
            else ("ControllerRevision", revision_row)
        )
        mine = (target.kind, target.name)
        items = self._list(
            "rollouts",
            namespaced("apps", "v1", target.namespace, RESOURCES[kind].name),
            lambda item, query: [make(item, target, query)] if owner(item) == mine else [],
            what=f"rollouts of {target.namespace}/{target.name} ({target.role})",
            kind=kind,
            namespace=target.namespace,
        )
        return {
            str((item.get("metadata") or {}).get("name"))
            for item in items or ()
            if kind == "ReplicaSet" and owner(item) == mine
        }

    def _pods(self, target: Target, selector: str, replica_sets: set[str]) -> None:
        def rows(item: Json, query_id: str) -> Iterable[dict[str, Any]]:
            # the workload could not be read, so its selector is unknown: go by ownership
            if not selector and not belongs(item, target.kind, target.name, replica_sets):
                return ()
            return pod_rows(item, target.role, pd.Timestamp.now("UTC"), query_id)

        self._list(
            "pods",
            namespaced("", "v1", target.namespace, "pods"),
            rows,
            what=f"pods of {target.role} in {target.namespace}",
            kind="Pod",
            namespace=target.namespace,
            query={"labelSelector": selector} if selector else None,
        )

    # -- autoscalers ----------------------------------------------------------------------------

    def _autoscalers(self, namespace: str, targets: Sequence[Target], keda: Future[bool]) -> None:
        now = pd.Timestamp.now("UTC")
        self._list(
            "autoscalers",
            namespaced("autoscaling", "v2", namespace, "horizontalpodautoscalers"),
            lambda item, query: [hpa_row(item, t, now, query) for t in targets if aims_at(item, t)],
            what=f"autoscalers in {namespace}",
            kind="HorizontalPodAutoscaler",
            namespace=namespace,
            # autoscaling/v2 came with 1.23
            calm=(404,),
        )
        if not keda.result():
            return
        self._list(
            "autoscalers",
            namespaced("keda.sh", "v1alpha1", namespace, "scaledobjects"),
            lambda item, query: [
                scaled_object_row(item, t, now, query) for t in targets if aims_at(item, t)
            ],
            what=f"KEDA in {namespace}",
            kind="ScaledObject",
            namespace=namespace,
            calm=(404,),
        )

    def _has_keda(self) -> bool:
        """Say whether the cluster knows ScaledObjects: where it does not, listing them is a 403.

        Discovery is open to every user who is logged in.
        """
        with self.session.questions.ask(f"GET {KEDA}") as question:
            try:
                self.session.json(KEDA)
            except RefusedError as error:
                there = error.status not in (None, 404)
                question.outcome = "empty" if error.status == 404 else error.outcome
                question.detail = "KEDA is not installed" if error.status == 404 else str(error)
                return there
            question.rows = 1
            return True

    # -- events ---------------------------------------------------------------------------------

    def _subjects(self, targets: Sequence[Target], pods: Sequence[Json]) -> Subjects:
        scalers = self.found.of("autoscalers")
        return Subjects.of(
            [
                *((t.namespace, t.kind, t.name) for t in targets if t.name),
                *((row["namespace"], row["kind"], row["autoscaler"]) for row in scalers),
            ],
            (row["replica_set"] for row in self.found.of("rollouts")),
            pods,
        )

    def _events(self, namespace: str, kind: str, subjects: Subjects) -> None:
        """List the events of one kind of object; from the other API group if one is closed."""
        refused = False
        for group, version, field_name in _EVENT_SOURCES:
            path = namespaced(group, version, namespace, "events")
            query = {"fieldSelector": f"{field_name}={kind}"}
            refused = self._events_of(path, query, namespace, subjects, again=refused)
            if not refused:
                return

    def _events_of(
        self,
        path: str,
        query: dict[str, str],
        namespace: str,
        subjects: Subjects,
        *,
        again: bool,
    ) -> bool:
        """List events at *path*; say whether that is forbidden. Only *again* is it a blind spot."""
        forbidden = False

        def work(query_id: str) -> tuple[None, int, str]:
            nonlocal forbidden
            try:
                items, note = self.session.listed(path, **query)
            except RefusedError as error:
                forbidden = error.status == 403
                raise
            rows = [
                row
                for item in items
                if subjects.hold(thing_of(item), namespace)
                and (row := event_row(item, namespace, query_id)) is not None
            ]
            rows.sort(key=lambda row: row["timestamp"])
            if len(rows) > EVENTS:
                newest = f"cut: the newest {EVENTS} of {len(rows)} events"
                note = f"{note}; {newest}" if note else newest
            return None, self.found.add("events", rows[-EVENTS:]), note

        self.session.ask(
            path,
            work,
            what=f"events in {namespace}",
            kind="Event",
            verb="list",
            namespace=namespace,
            query={**query, "limit": PAGE},
            quiet=() if again else (403,),
        )
        return forbidden

    # -- logs -----------------------------------------------------------------------------------

    def _log_jobs(self, pods: Sequence[Json]) -> list[tuple[Json, bool, int]]:
        """Return which container logs to read, in order of worth, and say what was left out."""
        jobs: list[tuple[Json, bool, int]] = []
        since = self.scope.start - LOG_LEAD
        roles = sorted({row["role"] for row in pods}, key=lambda role: (role != CONSUMER, role))
        for role in roles:
            rows = [row for row in pods if row["role"] == role]
            names = {(row["namespace"], row["pod"]) for row in rows}
            chosen = telling_pods(rows, LOG_PODS)
            if len(chosen) < len(names):
                self.found.blind(
                    Blind(
                        f"logs of {len(names) - len(chosen)} of {len(names)} pods ({role})",
                        f"{len(chosen)} were read: those that crashed or restarted most, then "
                        "some of the rest",
                    )
                )
            by_pod: dict[tuple[str, str], list[Json]] = {}
            for row in rows:
                by_pod.setdefault((row["namespace"], row["pod"]), []).append(row)
            wanted = [
                (row, previous)
                for name in chosen
                for row in by_pod[name]
                for previous in logs_worth_reading(row, since)
            ]
            tail = tail_of(role, len(wanted))
            jobs += [(row, previous, tail) for row, previous in wanted]
        return jobs

    def _log(self, pod: Json, previous: bool, tail: int) -> None:
        since = int((pd.Timestamp.now("UTC") - (self.scope.start - LOG_LEAD)).total_seconds())
        shown: dict[str, Any] = {
            "container": pod["container"],
            "tailLines": tail,
            "previous": str(previous).lower(),
        }
        query = {**shown, "limitBytes": LOG_TRANSFER_BYTES, "timestamps": "true"}
        if not previous:
            query["sinceSeconds"] = max(1, since)
        path = namespaced("", "v1", pod["namespace"], "pods", pod["pod"], "log")

        def work(query_id: str) -> tuple[None, int, str]:
            body, _ = self.session.get(path, **query)
            rows, cut = log_rows(body, pod, previous, pd.Timestamp.now("UTC"), query_id)
            return None, self.found.add("logs", rows), cut

        self.session.ask(
            path,
            work,
            what=f"log of {pod['namespace']}/{pod['pod']} ({pod['container']})",
            kind="Log",
            verb="get",
            namespace=pod["namespace"],
            # gone since the list was read, or nothing was ever written
            calm=(400, 404),
            query=shown,
        )

    # -- nodes and quotas -----------------------------------------------------------------------

    def _node(self, name: str) -> None:
        path = f"/api/v1/nodes/{quote(name, safe='')}"

        def work(query_id: str) -> tuple[None, int, str]:
            row = node_row(self.session.json(path), name, pd.Timestamp.now("UTC"), query_id)
            return None, self.found.add("nodes", [row]), ""

        self.session.ask(
            path,
            work,
            what="nodes of the pods",
            kind="Node",
            verb="get",
            namespace="",
            # a node that is gone took its pods along
            calm=(404,),
        )

    def _quotas(self, namespace: str) -> None:
        now = pd.Timestamp.now("UTC")
        for kind, make in (("ResourceQuota", quota_rows), ("LimitRange", limit_rows)):
            self._list(
                "quotas",
                namespaced("", "v1", namespace, RESOURCES[kind].name),
                lambda item, query, make=make: make(item, now, query),  # type: ignore[misc]
                what=f"{RESOURCES[kind].name} in {namespace}",
                kind=kind,
                namespace=namespace,
            )

    def _note(self, targets: Sequence[Target]) -> None:
        for target in targets:
            rows = [row for row in self.found.of("pods") if row["role"] == target.role]
            names = {row["pod"] for row in rows}
            restarts = sum(row["restart_count"] or 0 for row in rows)
            self.found.notes.append(
                f"{target.namespace}/{target.name or target.selector}: {len(names)} "
                f"pod{'' if len(names) == 1 else 's'}, "
                f"{restarts} restart{'' if restarts == 1 else 's'}"
            )
        for frame, noun in (("events", "event"), ("logs", "log line")):
            count = len(self.found.of(frame))
            self.found.notes.append(f"{count} {noun}{'' if count == 1 else 's'}")


def _by_namespace(targets: Sequence[Target]) -> Iterator[tuple[str, list[Target]]]:
    """Yield each namespace with its named workloads."""
    for namespace in sorted({target.namespace for target in targets if target.name}):
        yield namespace, [t for t in targets if t.name and t.namespace == namespace]


def _event_jobs(targets: Sequence[Target], subjects: Subjects) -> list[tuple[str, str]]:
    """Return which events to list: namespace and kind of object."""
    jobs = [
        (namespace, kind)
        for namespace in sorted({target.namespace for target in targets})
        for kind in subjects.kinds(namespace)
    ]
    # events about what has no namespace are kept in this one
    return [*jobs, ("default", "Node")] if subjects.nodes else jobs

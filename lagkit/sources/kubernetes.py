"""Kubernetes: the group's pods and those of what it waits for, their events, rollouts and logs.

Knows the API's JSON and its traps. Reads only (get and list), and only the workloads that the
runbook names. Answers are decoded from JSON here rather than by the client's models, which refuse
events that real kubelets write and logs with one bad byte. Knows no cause.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import pandas as pd

from lagkit import frames
from lagkit.runbook import Workload
from lagkit.sources import Answer, Blind, Deadline, Outcome, Questions, Scope, Status
from lagkit.sources.http import excerpt, public_url

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())

_T = TypeVar("_T")
Json = Mapping[str, Any]

CALL_SECONDS = 5.0
CONNECT_SECONDS = 3.0
PAGE = 500
"""Objects in one page of a list, as kubectl asks."""
PAGES = 10
RESTARTS = 2
"""How often a list is begun again when its snapshot has expired (410)."""
MOST_BYTES = 32 * 2**20
TOGETHER = 6

CONSUMER = "consumer"
LOG_PODS = 20
LOG_TAIL = {CONSUMER: 400}
LOG_TAIL_OTHER = 100
LOG_BYTES = 256 * 1024
LOG_TRANSFER_BYTES = 4 * 2**20
"""``limitBytes`` keeps the *oldest* bytes of the tail, so more is asked for and cut here."""
LOG_LEAD = pd.Timedelta(minutes=15)
LINE_LIMIT = 2000
MESSAGE_LIMIT = 2000
EVENTS = 2000

_LEVEL = re.compile(
    r"""\b(?P<upper>FATAL|CRITICAL|PANIC|SEVERE|ERROR|WARNING|WARN|INFO|DEBUG|TRACE)\b
      | \b(?:level|lvl|severity)["']?\s*[:=]\s*["']?(?P<key>[A-Za-z]+)
      | \[(?P<bracket>fatal|critical|error|warning|warn|info|debug|trace)\]
      | ^(?P<klog>[FEWI])\d{4}\s""",
    re.VERBOSE,
)
_LEVEL_WITHIN = 200
"""A level stands at the beginning of a line; further on it is somebody's text."""
_LEVELS: Mapping[str, str] = {
    "fatal": "ERROR",
    "critical": "ERROR",
    "panic": "ERROR",
    "severe": "ERROR",
    "error": "ERROR",
    "err": "ERROR",
    "warning": "WARNING",
    "warn": "WARNING",
    "info": "INFO",
    "debug": "DEBUG",
    "trace": "DEBUG",
    "f": "ERROR",
    "e": "ERROR",
    "w": "WARNING",
    "i": "INFO",
}
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?")

_RESOURCES: Mapping[str, tuple[str, str]] = {
    "Deployment": ("apps", "deployments"),
    "StatefulSet": ("apps", "statefulsets"),
    "ReplicaSet": ("apps", "replicasets"),
    "Pod": ("", "pods"),
    "Event": ("", "events"),
    "Log": ("", "pods/log"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """One workload to look at; ``name`` empty: only pods, by *selector*."""

    role: str
    namespace: str
    name: str = ""
    kind: str = "Deployment"
    selector: str = ""


class _RefusedError(Exception):
    """The API server said no, or nothing in time; the text is one sentence."""

    def __init__(self, text: str, outcome: Outcome, status: int | None = None) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.status = status


@dataclass(slots=True)
class _Found:
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    blind: list[Blind] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    answered: int = 0
    """Questions about workloads that got an answer."""
    targets: int = 0
    reached: bool = False

    def typed(self) -> dict[str, pd.DataFrame]:
        """Return the frames; one whose rows break its schema becomes a blind spot."""
        typed = {}
        for name, rows in sorted(self.rows.items()):
            try:
                typed[name] = frames.normalise(name, rows)
            except frames.FrameError as error:
                self.blind.append(Blind(f"frame {name}", str(error)[:500]))
        return typed


class KubernetesSource:
    """One cluster, through a kubeconfig or the pod's own service account."""

    name = "kubernetes"

    def __init__(
        self,
        kubeconfig: Path | str | None = None,
        context: str | None = None,
        in_cluster: bool = False,
    ) -> None:
        """Read the cluster of *context* in *kubeconfig*, or with *in_cluster* the one around us."""
        self._kubeconfig = kubeconfig
        self._context = context
        self._in_cluster = in_cluster

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        """Read the workloads of *scope*; return within about *budget_seconds*, never raise."""
        started = time.monotonic()
        questions = Questions(self.name)
        found = _Found()
        session = _Session(self, scope, Deadline(budget_seconds), questions, found)
        try:
            session.run()
        except Exception as error:  # a source never raises: whatever was read so far still counts
            _LOG.exception("reading Kubernetes stopped early")
            session.blind(Blind("rest of Kubernetes", f"{type(error).__name__}: {error}"[:500]))
        typed = found.typed()
        status: Status = "ok"
        if not found.reached or (found.targets and not found.answered):
            status = "unavailable"
        elif found.blind:
            status = "partial"
        return Answer(
            source=self.name,
            status=status,
            detail="; ".join(found.notes) or "nothing was answered",
            seconds=round(time.monotonic() - started, 3),
            frames=typed,
            queries=questions.frame(),
            blind=tuple(found.blind),
            facts=dict(sorted(found.facts.items())),
        )

    def connect(self) -> tuple[Any, str]:
        """Return an API client that writes nothing back to the kubeconfig, and the server's URL."""
        import urllib3
        from kubernetes import client, config

        configuration = client.Configuration()
        if self._in_cluster:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(
                config_file=None if self._kubeconfig is None else str(self._kubeconfig),
                context=self._context,
                client_configuration=configuration,
                persist_config=False,
            )
        configuration.retries = False
        if not configuration.verify_ssl:
            # the kubeconfig says so: one warning per request would bury the verdict
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return client.ApiClient(configuration), public_url(configuration.host)


class _Session:
    """One fetch: a client, a deadline, and what was found."""

    def __init__(
        self,
        source: KubernetesSource,
        scope: Scope,
        deadline: Deadline,
        questions: Questions,
        found: _Found,
    ) -> None:
        self.source = source
        self.scope = scope
        self.deadline = deadline
        self.questions = questions
        self.found = found
        self.url = ""
        self._api: Any = None
        self._core: Any = None
        self._apps: Any = None
        self._lock = threading.Lock()

    def blind(self, blind: Blind) -> None:
        """Note a blind spot once."""
        with self._lock:
            if blind not in self.found.blind:
                self.found.blind.append(blind)

    def add(self, frame: str, rows: Iterable[dict[str, Any]]) -> int:
        """Keep those *rows* whose key is new: two roles may share a workload or a pod."""
        schema = frames.FRAMES[frame]
        kept = 0
        with self._lock:
            held = self.found.rows.setdefault(frame, [])
            seen = {tuple(row.get(key) for key in schema.keys) for row in held}
            for row in rows:
                key = tuple(row.get(name) for name in schema.keys)
                if schema.unique and key in seen:
                    continue
                seen.add(key)
                held.append(row)
                kept += 1
        return kept

    # -- transport ------------------------------------------------------------------------------

    def within(self, seconds: float, work: Callable[[], _T]) -> _T:
        """Return what *work* returns; after *seconds* leave it behind and raise ``_RefusedError``.

        Only a thread bounds everything: a credential plug-in of the kubeconfig, a name server, a
        body that comes in drops.
        """
        results: list[_T] = []
        faults: list[BaseException] = []

        def body() -> None:
            try:
                results.append(work())
            except BaseException as error:
                faults.append(error)

        thread = threading.Thread(target=body, daemon=True, name="lagkit-kubernetes")
        thread.start()
        thread.join(seconds)
        if results:
            return results[0]
        if faults:
            raise faults[0]
        text = f"no whole answer from {self.url or 'the API server'} within {seconds:.1f} s"
        raise _RefusedError(text, "timeout")

    def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> tuple[bytes, Json]:
        """Return body and headers of one GET.

        Raises
        ------
        _RefusedError
            Any status but 2xx, no answer in time, or more than ``MOST_BYTES``.
        """
        seconds = self.deadline.left(CALL_SECONDS)
        if seconds <= 0:
            text = f"not asked: the budget of {self.deadline.seconds:g} s was spent"
            raise _RefusedError(text, "timeout")

        def work() -> tuple[bytes, Json]:
            response = method(
                *args,
                **options,
                _preload_content=False,
                _request_timeout=(min(seconds, CONNECT_SECONDS), seconds),
            )
            try:
                body = response.read(MOST_BYTES + 1)
                if len(body) > MOST_BYTES:
                    text = f"answered with more than {MOST_BYTES // 2**20} MiB"
                    raise _RefusedError(text, "failed", response.status)
                return body, dict(response.headers)
            finally:
                response.close()

        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self.within(seconds, work)
        except ApiException as error:
            raise _refusal(error) from None
        except (HTTPError, OSError, ValueError, TypeError) as error:
            raise _transport(error, self.url) from None

    def json(self, method: Callable[..., Any], *args: Any, **options: Any) -> Json:
        """Return the JSON object that one GET answers."""
        body, _ = self.call(method, *args, **options)
        try:
            document = json.loads(body)
        except ValueError:
            text = f"answered with something that is not JSON: {excerpt(body)}"
            raise _RefusedError(text, "failed") from None
        if not isinstance(document, dict):
            text = "answered with JSON that is not an object"
            raise _RefusedError(text, "failed")
        return document

    def listed(
        self, method: Callable[..., Any], *args: Any, **options: Any
    ) -> tuple[list[Json], str]:
        """Return all items of a list, page by page, and what was cut or begun again."""
        note = ""
        items: list[Json] = []
        for attempt in range(RESTARTS + 1):
            items, following = [], ""
            try:
                for _ in range(PAGES):
                    paging = {"_continue": following} if following else {}
                    page = self.json(method, *args, limit=PAGE, **paging, **options)
                    items += [item for item in page.get("items") or () if isinstance(item, dict)]
                    following = str((page.get("metadata") or {}).get("continue") or "")
                    if not following:
                        return items, note
                return items, f"cut after {len(items)} objects"
            except _RefusedError as error:
                if error.status != 410 or attempt == RESTARTS:
                    if items and error.status == 410:
                        return items, f"the list expired {attempt + 1} times; incomplete"
                    raise
                note = "the list expired once (410) and was begun again"
        return items, note

    def ask(
        self,
        path: str,
        work: Callable[[str], tuple[_T, int, str]],
        *,
        what: str,
        kind: str,
        verb: str,
        namespace: str,
        calm: Sequence[int] = (),
    ) -> _T | None:
        """Ask one question; *work* gets the query id and returns result, rows and a note.

        A failure becomes provenance and a blind spot, and None. Statuses in *calm* are answers
        ("there is none"), not failures.
        """
        with self.questions.ask(f"GET {path}") as question:
            try:
                result, question.rows, question.detail = work(question.query_id)
            except _RefusedError as error:
                question.outcome, question.detail = error.outcome, str(error)
                if error.status in calm:
                    question.outcome = "empty"
                    return None
                fix = ""
                if error.status == 403:
                    group, resource = _RESOURCES[kind]
                    fix = (
                        f"Add to a Role in namespace {namespace}: "
                        f'apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["{verb}"]'
                    )
                    self.blind(Blind(what, f"may not {verb} {resource} in {namespace} (403)", fix))
                elif error.status == 404:
                    fix = "Correct the workload in the runbook, or give --namespace and --selector."
                    self.blind(Blind(what, str(error), fix))
                else:
                    self.blind(Blind(what, str(error)))
                return None
            self.found.answered += 1
            if question.detail:
                question.outcome = "partial" if "cut" in question.detail else None
            return result

    # -- the order of questions -----------------------------------------------------------------

    def run(self) -> None:
        """Ask the server, then each workload, then events and logs, as far as the budget goes."""
        if not self._connect():
            return
        targets = self._targets()
        self.found.targets = len(targets)
        if not targets:
            return
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="lagkit-kubernetes") as pool:
            list(pool.map(self._workload, targets))
            pods = list(self.found.rows.get("pods", ()))
            # events first: they expire within the hour, and there are few questions of them
            jobs = [pool.submit(self._events_of, *job) for job in self._event_jobs(targets, pods)]
            jobs += [pool.submit(self._read_log, *job) for job in self._log_jobs(pods)]
            for job in jobs:
                job.result()
        self._note(targets)
        if not self.found.answered:
            self.found.notes.append(f"nothing could be read: {self.found.blind[-1].why}")

    def _connect(self) -> bool:
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException
        from kubernetes.config import ConfigException

        # the client loads these late; a busy machine must not take that for a silent server
        core, apps, versions = client.CoreV1Api, client.AppsV1Api, client.VersionApi
        why = ""
        try:
            self._api, self.url = self.within(self.deadline.left(CALL_SECONDS), self.source.connect)
        except (ConfigException, _RefusedError, OSError, ValueError, TypeError, KeyError) as error:
            why = f"the kubeconfig cannot be used: {excerpt(str(error).encode())}"
        except ApiException as error:
            why = str(_refusal(error))
        if why:
            with self.questions.ask("load kubeconfig") as question:
                question.outcome, question.detail = "failed", why
            self._unreachable(why)
            return False
        self._core, self._apps = core(self._api), apps(self._api)
        self.found.facts["api_server"] = self.url
        with self.questions.ask("GET /version") as question:
            try:
                before = time.time()
                body, headers = self.call(versions(self._api).get_code)
                self._note_server(body, headers, (before + time.time()) / 2)
                question.rows = 1
            except _RefusedError as error:
                question.outcome, question.detail = error.outcome, str(error)
                if error.status != 403:
                    self._unreachable(f"{self.url}: {error}")
                    return False
        self.found.reached = True
        return True

    def _unreachable(self, why: str) -> None:
        self.found.notes.append(why)
        context = f" --context {shlex.quote(self.source._context)}" if self.source._context else ""
        self.blind(
            Blind(
                "pods, events, rollouts and logs",
                why,
                f"Check that this answers: kubectl{context} get --raw /version",
            )
        )

    def _note_server(self, body: bytes, headers: Json, middle: float) -> None:
        with contextlib.suppress(ValueError, AttributeError):
            version = json.loads(body).get("gitVersion")
            if version:
                self.found.facts["server_version"] = str(version)[:50]
                self.found.notes.append(f"server {self.found.facts['server_version']}")
        date = next((value for key, value in headers.items() if key.lower() == "date"), "")
        with contextlib.suppress(ValueError, TypeError):
            # the header has whole seconds, cut: half a second is its middle
            server = email.utils.parsedate_to_datetime(date).timestamp() + 0.5
            self.found.facts["clock_skew_seconds"] = f"{server - middle:+.1f}"

    def _targets(self) -> list[Target]:
        group = self.scope.runbook.group(self.scope.group)
        targets = []
        mine = consumer_target(group.workload, self.scope.namespace, self.scope.selector)
        if mine is None:
            self.blind(
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
        for downstream in group.downstream:
            if downstream.workload is not None:
                targets.append(_target(downstream.name, downstream.workload))
        return targets

    # -- workloads ------------------------------------------------------------------------------

    def _workload(self, target: Target) -> None:
        selector = target.selector
        if target.name:
            document = self._read_workload(target)
            if document is not None:
                selector = selector or label_selector((document.get("spec") or {}).get("selector"))
        sets = self._replica_sets(target) if target.name and target.kind == "Deployment" else []
        if not selector and not target.name:
            return
        self._pods(target, selector, {set_["metadata"]["name"] for set_ in sets})

    def _read_workload(self, target: Target) -> Json | None:
        group, resource = _RESOURCES[target.kind]
        method = (
            self._apps.read_namespaced_deployment
            if target.kind == "Deployment"
            else self._apps.read_namespaced_stateful_set
        )

        def work(query_id: str) -> tuple[Json, int, str]:
            document = self.json(method, target.name, target.namespace)
            row = workload_row(document, target, pd.Timestamp.now("UTC"), query_id)
            self.add("workloads", [row])
            return document, 1, ""

        return self.ask(
            f"/apis/{group}/v1/namespaces/{target.namespace}/{resource}/{target.name}",
            work,
            what=f"{target.kind} {target.namespace}/{target.name} ({target.role})",
            kind=target.kind,
            verb="get",
            namespace=target.namespace,
        )

    def _replica_sets(self, target: Target) -> list[Json]:
        def work(query_id: str) -> tuple[list[Json], int, str]:
            items, note = self.listed(self._apps.list_namespaced_replica_set, target.namespace)
            mine = [item for item in items if owner(item) == ("Deployment", target.name)]
            self.add("rollouts", [rollout_row(item, target, query_id) for item in mine])
            return mine, len(mine), note

        return (
            self.ask(
                f"/apis/apps/v1/namespaces/{target.namespace}/replicasets?limit={PAGE}",
                work,
                what=f"rollouts of {target.namespace}/{target.name} ({target.role})",
                kind="ReplicaSet",
                verb="list",
                namespace=target.namespace,
            )
            or []
        )

    def _pods(self, target: Target, selector: str, replica_sets: set[str]) -> None:
        options = {"label_selector": selector} if selector else {}

        def work(query_id: str) -> tuple[None, int, str]:
            items, note = self.listed(self._core.list_namespaced_pod, target.namespace, **options)
            if not selector:
                # the workload could not be read, so its selector is unknown: go by ownership
                items = [
                    item for item in items if belongs(item, target.kind, target.name, replica_sets)
                ]
            now = pd.Timestamp.now("UTC")
            rows = [row for item in items for row in pod_rows(item, target.role, now, query_id)]
            self.add("pods", rows)
            return None, len(rows), note

        query = urlencode({**({"labelSelector": selector} if selector else {}), "limit": PAGE})
        self.ask(
            f"/api/v1/namespaces/{target.namespace}/pods?{query}",
            work,
            what=f"pods of {target.role} in {target.namespace}",
            kind="Pod",
            verb="list",
            namespace=target.namespace,
        )

    # -- events ---------------------------------------------------------------------------------

    def _event_jobs(
        self, targets: Sequence[Target], pods: Sequence[Json]
    ) -> list[tuple[str, str, Subjects]]:
        """Return which events to list: namespace, kind of object, and the objects that matter."""
        sets = {row["replica_set"] for row in self.found.rows.get("rollouts", ())}
        sets |= {row["replica_set"] for row in pods if row.get("replica_set")}
        subjects = Subjects(
            workloads=frozenset((t.namespace, t.kind, t.name) for t in targets if t.name),
            replica_sets=frozenset(sets),
            pods=frozenset((row["namespace"], row["pod"]) for row in pods),
            nodes=frozenset(row["node"] for row in pods if row.get("node")),
        )
        wanted: list[tuple[str, str]] = []
        for namespace in sorted({target.namespace for target in targets}):
            kinds = {t.kind for t in targets if t.namespace == namespace and t.name}
            wanted += [(namespace, kind) for kind in sorted({"Pod", "ReplicaSet", *kinds})]
        if subjects.nodes:
            wanted.append(("default", "Node"))
        return [(namespace, kind, subjects) for namespace, kind in wanted]

    def _events_of(self, namespace: str, kind: str, subjects: Subjects) -> None:
        fields = f"involvedObject.kind={kind}"

        def work(query_id: str) -> tuple[None, int, str]:
            items, note = self.listed(
                self._core.list_namespaced_event, namespace, field_selector=fields
            )
            rows = [
                row
                for item in items
                if subjects.hold(item.get("involvedObject") or {}, namespace)
                and (row := event_row(item, namespace, query_id)) is not None
            ]
            rows.sort(key=lambda row: row["timestamp"])
            if len(rows) > EVENTS:
                note = f"cut: the newest {EVENTS} of {len(rows)} events"
            return None, self.add("events", rows[-EVENTS:]), note

        self.ask(
            f"/api/v1/namespaces/{namespace}/events?{urlencode({'fieldSelector': fields})}",
            work,
            what=f"events in {namespace}",
            kind="Event",
            verb="list",
            namespace=namespace,
        )

    # -- logs -----------------------------------------------------------------------------------

    def _log_jobs(self, pods: Sequence[Json]) -> list[tuple[Json, bool]]:
        """Return which container logs to read, in order of worth, and say what was left out."""
        jobs: list[tuple[Json, bool]] = []
        since = self.scope.start - LOG_LEAD
        roles = sorted({row["role"] for row in pods}, key=lambda role: (role != CONSUMER, role))
        for role in roles:
            rows = [row for row in pods if row["role"] == role]
            names = {(row["namespace"], row["pod"]) for row in rows}
            chosen = telling_pods(rows, LOG_PODS)
            if len(chosen) < len(names):
                self.blind(
                    Blind(
                        f"logs of {len(names) - len(chosen)} of {len(names)} pods ({role})",
                        f"{len(chosen)} were read: those that crashed or restarted most, then "
                        "some of the rest",
                    )
                )
            by_pod: dict[tuple[str, str], list[Json]] = {}
            for row in rows:
                by_pod.setdefault((row["namespace"], row["pod"]), []).append(row)
            for name in chosen:
                for row in by_pod[name]:
                    jobs += [(row, previous) for previous in logs_worth_reading(row, since)]
        return jobs

    def _read_log(self, pod: Json, previous: bool) -> None:
        since = int((pd.Timestamp.now("UTC") - (self.scope.start - LOG_LEAD)).total_seconds())
        tail = LOG_TAIL.get(pod["role"], LOG_TAIL_OTHER)
        options: dict[str, Any] = {
            "container": pod["container"],
            "tail_lines": tail,
            "limit_bytes": LOG_TRANSFER_BYTES,
            "timestamps": True,
        }
        if previous:
            options["previous"] = True
        else:
            options["since_seconds"] = max(1, since)

        def work(query_id: str) -> tuple[None, int, str]:
            body, _ = self.call(
                self._core.read_namespaced_pod_log, pod["pod"], pod["namespace"], **options
            )
            rows, cut = log_rows(body, pod, previous, pd.Timestamp.now("UTC"), query_id)
            return None, self.add("logs", rows), cut

        shown = {
            "container": pod["container"],
            "tailLines": tail,
            "previous": str(previous).lower(),
        }
        self.ask(
            f"/api/v1/namespaces/{pod['namespace']}/pods/{pod['pod']}/log?{urlencode(shown)}",
            work,
            what=f"log of {pod['namespace']}/{pod['pod']} ({pod['container']})",
            kind="Log",
            verb="get",
            namespace=pod["namespace"],
            # gone since the list was read, or nothing was ever written
            calm=(400, 404),
        )

    def _note(self, targets: Sequence[Target]) -> None:
        for target in targets:
            rows = [row for row in self.found.rows.get("pods", ()) if row["role"] == target.role]
            names = {row["pod"] for row in rows}
            restarts = sum(row["restart_count"] or 0 for row in rows)
            self.found.notes.append(
                f"{target.namespace}/{target.name or target.selector}: {len(names)} "
                f"pod{'' if len(names) == 1 else 's'}, "
                f"{restarts} restart{'' if restarts == 1 else 's'}"
            )
        for frame, noun in (("events", "event"), ("logs", "log line")):
            count = len(self.found.rows.get(frame, ()))
            self.found.notes.append(f"{count} {noun}{'' if count == 1 else 's'}")


@dataclass(frozen=True, slots=True)
class Subjects:
    """The objects whose events matter."""

    workloads: frozenset[tuple[str, str, str]]
    replica_sets: frozenset[str]
    pods: frozenset[tuple[str, str]]
    nodes: frozenset[str]

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


# -- decoding: plain functions over the API's JSON -------------------------------------------------


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


def _target(role: str, workload: Workload) -> Target:
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
        "image": ", ".join(str(c.get("image")) for c in containers)[:MESSAGE_LIMIT] or None,
        "change_cause": (notes.get("kubernetes.io/change-cause") or "")[:MESSAGE_LIMIT] or None,
        "query_id": query_id,
    }


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


def event_row(item: Json, namespace: str, query_id: str) -> dict[str, Any] | None:
    """Return the row of ``events``, or None for an event without any time.

    Kubelet events carry first and last time, scheduler events ``eventTime`` and sometimes a
    series: ``timestamp`` is the last time it was seen, ``first_at`` the first.
    """
    meta, thing = item.get("metadata") or {}, item.get("involvedObject") or {}
    series = item.get("series") or {}
    created = moment(meta.get("creationTimestamp"))
    seen = moment(item.get("eventTime"))
    first = moment(item.get("firstTimestamp")) or seen or created
    last = (
        moment(series.get("lastObservedTime"))
        or moment(item.get("lastTimestamp"))
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
        "message": str(item.get("message") or "")[:MESSAGE_LIMIT] or None,
        "count": series.get("count") or item.get("count"),
        "first_at": first,
        "component": (item.get("source") or {}).get("component")
        or item.get("reportingComponent")
        or None,
        "query_id": query_id,
    }


def telling_pods(rows: Iterable[Json], most: int) -> list[tuple[str, str]]:
    """Return at most *most* pods (namespace, name): crashed and restarted first, then a spread.

    The spread takes every n-th of the calm pods by name, so that no node or revision is favoured.
    """
    trouble: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        name = (row["namespace"], row["pod"])
        crashed = int(row.get("state") in ("waiting", "terminated") or not row.get("ready"))
        worst = trouble.get(name, (0, 0))
        trouble[name] = (max(worst[0], crashed), worst[1] + int(row.get("restart_count") or 0))
    loud = sorted(
        (name for name, worth in trouble.items() if worth != (0, 0)),
        key=lambda name: (-trouble[name][0], -trouble[name][1], name),
    )
    calm = sorted(name for name, worth in trouble.items() if worth == (0, 0))
    room = max(0, most - len(loud))
    if room and len(calm) > room:
        calm = [calm[index * len(calm) // room] for index in range(room)]
    return [*loud, *calm][:most]


def logs_worth_reading(row: Json, since: pd.Timestamp) -> list[bool]:
    """Return which logs of a container exist: [False] current, [True] previous, both or neither.

    While a crashed container waits for its restart, "current" is the log of the crashed one; it is
    read as previous, once.
    """
    if not row.get("restart_count"):
        return [] if row.get("state") in (None, "waiting") else [False]
    ended = row.get("last_finished_at")
    fresh = ended is None or ended >= since
    if row.get("state") == "waiting":
        return [True] if fresh else []
    return [False, True] if fresh else [False]


def level_of(line: str) -> str | None:
    """Return ERROR, WARNING, INFO or DEBUG where the beginning of *line* says so."""
    match = _LEVEL.search(line[:_LEVEL_WITHIN])
    if match is None:
        return None
    word = next(value for value in match.groupdict().values() if value)
    return _LEVELS.get(word.lower())


def log_rows(
    body: bytes, pod: Json, previous: bool, at: pd.Timestamp, query_id: str
) -> tuple[list[dict[str, Any]], str]:
    """Return rows of ``logs`` from the newest ``LOG_BYTES`` of *body*, and what was cut.

    Bad bytes become U+FFFD. A line without a time of its own takes that of the line before, or
    *at*.
    """
    cut = ""
    if len(body) > LOG_BYTES:
        cut = f"cut: the newest {LOG_BYTES // 1024} of {len(body) // 1024} KiB"
        body = body[-LOG_BYTES:].partition(b"\n")[2]
    rows = []
    stamp = at
    for number, line in enumerate(body.decode("utf-8", "replace").split("\n")):
        match = _STAMP.match(line)
        text = line[match.end() :] if match else line
        text = text.rstrip("\r")
        if not text.strip():
            continue
        if match:
            stamp = moment(match.group(1)) or stamp
        rows.append(
            {
                "timestamp": stamp,
                "namespace": pod["namespace"],
                "pod": pod["pod"],
                "container": pod["container"],
                "role": pod["role"],
                "previous": previous,
                "line_number": number,
                "level": level_of(text),
                "message": text[:LINE_LIMIT],
                "query_id": query_id,
            }
        )
    return rows, cut


def _refusal(error: Any) -> _RefusedError:
    """Return what an ApiException says, as one sentence."""
    status = int(error.status or 0)
    body = error.body if isinstance(error.body, bytes) else str(error.body or "").encode()
    message = excerpt(body)
    with contextlib.suppress(ValueError, AttributeError):
        message = excerpt(str(json.loads(body).get("message") or message).encode())
    outcome: Outcome = "denied" if status in (401, 403) else "failed"
    return _RefusedError(f"HTTP {status}: {message or error.reason}", outcome, status)


def _transport(error: Exception, url: str) -> _RefusedError:
    """Return what a failed connection means, as one sentence."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.NameResolutionError):
        return _RefusedError(f"the name in {url} cannot be resolved", "failed")
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return _RefusedError(f"{url} did not answer in time", "timeout")
    if isinstance(error, exceptions.NewConnectionError):
        return _RefusedError(f"nothing listens at {url}", "failed")
    if isinstance(error, exceptions.SSLError):
        return _RefusedError(f"TLS to {url} failed: {excerpt(str(error).encode())}", "failed")
    return _RefusedError(f"{type(error).__name__}: {excerpt(str(error).encode())}", "failed")

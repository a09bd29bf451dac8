"""One API server: a GET within a budget, page by page, and what its refusals mean.

Every path is asked raw and decoded as JSON: the client's generated classes cost a second to load
and refuse what real servers send. Knows statuses, permissions and provenance; not what is asked.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import pandas as pd

from lagkit import frames
from lagkit.sources import Blind, Deadline, Outcome, Questions
from lagkit.sources.http import excerpt, public_url

_T = TypeVar("_T")
Json = Mapping[str, Any]

CALL_SECONDS = 5.0
CONNECT_SECONDS = 3.0
PAGE = 500
"""Objects in one page of a list, as kubectl asks."""
PAGES = 10
CUT = "cut after"
"""How the note of a list begins that has more pages than are read."""
RESTARTS = 2
"""How often a list is begun again when its snapshot has expired (410); the last time whole."""
MOST_BYTES = 32 * 2**20
RBAC_FILE = "templates/kubernetes-rbac.yaml"
"""What lagkit asks for, ready to apply."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, and what a reader loses who may not read it."""

    group: str
    name: str
    lost: str
    cluster: bool = False
    """Not in any namespace, so a Role cannot grant it."""


RESOURCES: Mapping[str, Resource] = {
    "Deployment": Resource("apps", "deployments", "wanted and ready replicas stay unknown"),
    "StatefulSet": Resource("apps", "statefulsets", "wanted and ready replicas stay unknown"),
    "ReplicaSet": Resource("apps", "replicasets", "a rollout before the onset stays unseen"),
    "ControllerRevision": Resource(
        "apps", "controllerrevisions", "a rollout before the onset stays unseen"
    ),
    "Pod": Resource("", "pods", "crashes and restarts stay unseen, and no log is read"),
    "Event": Resource("", "events", "kills, failed probes and scheduling stay unseen"),
    "Log": Resource("", "pods/log", "the members' own words stay unread"),
    "HorizontalPodAutoscaler": Resource(
        "autoscaling", "horizontalpodautoscalers", "scaling by an autoscaler stays unseen"
    ),
    "ScaledObject": Resource("keda.sh", "scaledobjects", "scaling by KEDA stays unseen"),
    "ResourceQuota": Resource("", "resourcequotas", "a quota that is used up stays unseen"),
    "LimitRange": Resource("", "limitranges", "limits on what a pod may ask for stay unseen"),
    "Node": Resource("", "nodes", "a node that is not ready stays unseen", cluster=True),
}


class RefusedError(Exception):
    """The API server said no, or nothing in time; the text is one sentence."""

    def __init__(self, text: str, outcome: Outcome, status: int | None = None) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.status = status


@dataclass(slots=True)
class Found:
    """What one fetch has so far. Methods are safe to call from several threads."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    blinds: list[Blind] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    answered: int = 0
    """Questions about workloads that got an answer."""
    targets: int = 0
    reached: bool = False
    _keys: dict[str, set[tuple[Any, ...]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, frame: str) -> list[dict[str, Any]]:
        """Return the rows of *frame* found so far."""
        with self._lock:
            return list(self.rows.get(frame, ()))

    def blind(self, blind: Blind) -> None:
        """Note a blind spot once."""
        with self._lock:
            if blind not in self.blinds:
                self.blinds.append(blind)

    def add(self, frame: str, rows: Iterable[dict[str, Any]]) -> int:
        """Keep those *rows* whose key is new: two roles may share a workload or a pod."""
        schema = frames.FRAMES[frame]
        kept = 0
        with self._lock:
            held = self.rows.setdefault(frame, [])
            seen = self._keys.setdefault(frame, set())
            for row in rows:
                key = tuple(row.get(name) for name in schema.keys)
                if schema.unique and key in seen:
                    continue
                seen.add(key)
                held.append(row)
                kept += 1
        return kept

    def count(self) -> None:
        """Count one answered question."""
        with self._lock:
            self.answered += 1

    def typed(self) -> dict[str, pd.DataFrame]:
        """Return the frames; one whose rows break its schema becomes a blind spot."""
        typed = {}
        for name, rows in sorted(self.rows.items()):
            try:
                typed[name] = frames.normalise(name, rows)
            except frames.FrameError as error:
                self.blind(Blind(f"frame {name}", str(error)[:500]))
        return typed


@dataclass(slots=True)
class Session:
    """One API server during one fetch."""

    kubeconfig: Path | str | None
    context: str | None
    in_cluster: bool
    deadline: Deadline
    questions: Questions
    found: Found
    url: str = ""
    _api: Any = None

    # -- connecting -----------------------------------------------------------------------------

    def connect(self) -> bool:
        """Load the kubeconfig and ask the server for its version; say whether it answered."""
        why = ""
        try:
            self._api, self.url = within(self.deadline.left(CALL_SECONDS), self._client)
        except RefusedError:
            why = f"the kubeconfig gave no login within {CALL_SECONDS:g} s (a login plug-in?)"
        except Exception as error:  # the client's, PyYAML's, and those of login plug-ins
            why = self._kubeconfig_fault(error)
        if why:
            with self.questions.ask("load kubeconfig") as question:
                question.outcome, question.detail = "failed", why
            self._unreachable(why, "Give a kubeconfig that kubectl can use: --kubeconfig PATH.")
            return False
        self.found.facts["api_server"] = self.url
        with self.questions.ask("GET /version") as question:
            try:
                before = time.time()
                body, headers = self.get("/version/")
                self._note_server(body, headers, (before + time.time()) / 2)
                question.rows = 1
            except RefusedError as error:
                question.outcome, question.detail = error.outcome, str(error)
                if error.status != 403:
                    self._unreachable(f"{self.url}: {error}", self._way_out(error))
                    return False
        self.found.reached = True
        return True

    def _client(self) -> tuple[Any, str]:
        """Return an API client that writes nothing back to the kubeconfig, and the server's URL."""
        import urllib3
        from kubernetes import client, config

        configuration = client.Configuration()
        if self.in_cluster:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(
                config_file=None if self.kubeconfig is None else str(self.kubeconfig),
                context=self.context,
                client_configuration=configuration,
                persist_config=False,
            )
        configuration.retries = False
        if not configuration.verify_ssl:
            # the kubeconfig says so: one warning per request would bury the verdict
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return client.ApiClient(configuration), public_url(configuration.host)

    def _kubeconfig_fault(self, error: Exception) -> str:
        file = "" if self.kubeconfig is None else f" {self.kubeconfig}"
        if self.kubeconfig is not None and not Path(self.kubeconfig).is_file():
            return f"the kubeconfig{file} cannot be used: there is no such file"
        # a parser quotes the line it stumbled over, and that line may be the token
        said = "" if type(error).__module__.startswith("yaml") else f": {error}"
        kind = "it is not YAML" if not said else type(error).__name__
        return f"the kubeconfig{file} cannot be used: {kind}{excerpt(said.encode())}"

    def _way_out(self, error: RefusedError) -> str:
        context = f" --context {shlex.quote(self.context)}" if self.context else ""
        if error.status == 401:
            return (
                "The login of this kubeconfig is not accepted (expired?): log in again, and check "
                f"with: kubectl{context} auth whoami"
            )
        return f"Check that this answers: kubectl{context} get --raw /version"

    def _unreachable(self, why: str, fix: str) -> None:
        self.found.notes.append(why)
        self.found.blind(Blind("pods, events, rollouts and logs", why, fix))

    def _note_server(self, body: bytes, headers: Json, middle: float) -> None:
        with contextlib.suppress(ValueError, AttributeError):
            version = json.loads(body).get("gitVersion")
            if version:
                self.found.facts["server_version"] = str(version)[:50]
                self.found.notes.append(f"server {self.found.facts['server_version']}")
        date = next((value for key, value in headers.items() if key.lower() == "date"), "")
        with contextlib.suppress(ValueError, TypeError):
            # the header has whole seconds, cut: half a second is its middle
            skew = email.utils.parsedate_to_datetime(date).timestamp() + 0.5 - middle
            self.found.facts["clock_skew_seconds"] = f"{skew:+.1f}"

    # -- asking ---------------------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> tuple[bytes, Json]:
        """Return body and headers of one GET of *path*.

        Raises
        ------
        RefusedError
            Any status but 2xx, no answer in time, or more than ``MOST_BYTES``.
        """
        seconds = self.deadline.left(CALL_SECONDS)
        if seconds <= 0:
            text = f"not asked: the budget of {self.deadline.seconds:g} s was spent"
            raise RefusedError(text, "timeout")

        def work() -> tuple[bytes, Json]:
            method, url, headers, body, form = self._api.param_serialize(
                "GET", path, auth_settings=["BearerToken"]
            )
            if query:
                url = f"{url}?{urlencode(query)}"
            answer = self._api.call_api(
                method,
                url,
                headers,
                body,
                form,
                _request_timeout=(min(seconds, CONNECT_SECONDS), seconds),
            ).response
            try:
                content = answer.read(MOST_BYTES + 1)
                if not 200 <= answer.status < 300:
                    raise _refusal(answer.status, content, answer.reason)
                if len(content) > MOST_BYTES:
                    text = f"answered with more than {MOST_BYTES // 2**20} MiB"
                    raise RefusedError(text, "failed", answer.status)
                return content, dict(answer.headers)
            finally:
                answer.close()

        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return within(seconds, work, self.url)
        except ApiException as error:  # the client's own name for a failed handshake
            text = f"TLS to {self.url} failed: {excerpt(str(error.reason).encode())}"
            raise RefusedError(text, "failed") from None
        except (HTTPError, OSError, ValueError, TypeError) as error:
            raise _transport(error, self.url) from None

    def json(self, path: str, **query: Any) -> Json:
        """Return the JSON object that one GET answers; RefusedError as :meth:`get`."""
        body, _ = self.get(path, **query)
        try:
            document = json.loads(body)
        except ValueError:
            text = f"answered with something that is not JSON: {excerpt(body)}"
            raise RefusedError(text, "failed") from None
        if not isinstance(document, dict):
            text = "answered with JSON that is not an object"
            raise RefusedError(text, "failed")
        return document

    def listed(self, path: str, **query: Any) -> tuple[list[Json], str]:
        """Return all items of a list, page by page, and what was cut or begun again.

        A snapshot that expired between two pages (410, after a compaction of etcd) is begun again;
        the last time in one piece, which cannot expire.
        """
        note = ""
        for attempt in range(RESTARTS + 1):
            items: list[Json] = []
            paging: dict[str, Any] = {"limit": PAGE} if attempt < RESTARTS else {}
            try:
                for _ in range(PAGES):
                    page = self.json(path, **query, **paging)
                    items += [item for item in page.get("items") or () if isinstance(item, dict)]
                    following = str((page.get("metadata") or {}).get("continue") or "")
                    if not following:
                        return items, note
                    paging["continue"] = following
                return items, f"{CUT} {len(items)} objects"
            except RefusedError as error:
                if error.status != 410 or attempt == RESTARTS:
                    raise
                times = ("once", "twice")[min(attempt, 1)]
                note = f"the list expired {times} (410) and was begun again"
        msg = "unreachable: the last attempt returns or raises"
        raise AssertionError(msg)

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
        quiet: Sequence[int] = (),
        query: Mapping[str, Any] | None = None,
    ) -> _T | None:
        """Ask one question; *work* gets the query id and returns result, rows and a note.

        A failure becomes provenance and a blind spot, and None. Statuses in *calm* are answers
        ("there is none"), not failures; those in *quiet* are written down and no blind spot yet:
        the caller knows another way to ask.
        """
        shown = f"GET {path}" + (f"?{urlencode(query)}" if query else "")
        with self.questions.ask(shown) as question:
            try:
                result, question.rows, question.detail = work(question.query_id)
            except RefusedError as error:
                question.outcome, question.detail = error.outcome, str(error)
                if error.status in calm:
                    question.outcome = "empty"
                elif error.status not in quiet:
                    self.found.blind(_blind(error, what, kind, verb, namespace))
                return None
            self.found.count()
            if question.detail:
                question.outcome = "partial" if "cut" in question.detail else None
            if question.detail.startswith(CUT):
                why = f"there are more than lagkit reads of a list: {question.detail}"
                self.found.blind(Blind(what, why, "Name fewer with --namespace and --selector."))
            return result


def namespaced(group: str, version: str, namespace: str, *parts: str) -> str:
    """Return the path of *parts* (resource, name, subresource) in *namespace*."""
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    rest = "/".join(quote(part, safe="") for part in (namespace, *parts))
    return f"{root}/namespaces/{rest}"


def rule_for(kind: str, verb: str, namespace: str) -> str:
    """Return the line of RBAC that lets lagkit *verb* objects of *kind*."""
    resource = RESOURCES[kind]
    where = (
        "a ClusterRole with a ClusterRoleBinding"
        if resource.cluster
        else f"a Role in namespace {namespace}"
    )
    return (
        f'Add to {where}: apiGroups: ["{resource.group}"], resources: ["{resource.name}"], '
        f'verbs: ["{verb}"] (all of them: {RBAC_FILE})'
    )


def _blind(error: RefusedError, what: str, kind: str, verb: str, namespace: str) -> Blind:
    resource = RESOURCES[kind]
    if error.status == 403:
        where = "this cluster" if resource.cluster else namespace
        why = f"may not {verb} {resource.name} in {where} (403): {resource.lost}"
        # every pod's log is refused alike: once is enough
        about = f"logs in {namespace}" if kind == "Log" else what
        return Blind(about, why, rule_for(kind, verb, namespace))
    if error.status == 404:
        fix = "Correct the workload in the runbook, or give --namespace and --selector."
        return Blind(what, str(error), fix)
    return Blind(what, str(error))


def within(seconds: float, work: Callable[[], _T], place: str = "") -> _T:
    """Return what *work* returns; after *seconds* leave it behind and raise ``RefusedError``.

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
    text = f"no whole answer from {place or 'the API server'} within {seconds:.1f} s"
    raise RefusedError(text, "timeout")


def _refusal(status: int, body: bytes, reason: str | None) -> RefusedError:
    """Return what a status other than 2xx says, as one sentence."""
    message = excerpt(body)
    with contextlib.suppress(ValueError, AttributeError):
        message = excerpt(str(json.loads(body).get("message") or message).encode())
    outcome: Outcome = "denied" if status in (401, 403) else "failed"
    return RefusedError(f"HTTP {status}: {message or reason}", outcome, status)


def _transport(error: Exception, url: str) -> RefusedError:
    """Return what a failed connection means, as one sentence."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.NameResolutionError):
        return RefusedError(f"the name in {url} cannot be resolved", "failed")
    if isinstance(error, exceptions.NewConnectionError):
        return RefusedError(f"nothing listens at {url}", "failed")
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return RefusedError(f"{url} did not answer in time", "timeout")
    if isinstance(error, exceptions.SSLError):
        return RefusedError(f"TLS to {url} failed: {excerpt(str(error).encode())}", "failed")
    return RefusedError(f"{type(error).__name__}: {excerpt(str(error).encode())}", "failed")

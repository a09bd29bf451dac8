"""What the consumer waits for: probes over HTTP, and the jobs that AWX ran for it.

Knows the AWX REST paths and how to time a GET. Only reads, follows no redirect, and logs in
nowhere but where it was told to. A probe that fails is evidence about the downstream, so it is a
row *and* provenance: a refused or timed-out question is never an absent one. Knows no cause.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pandas as pd

from lagkit import frames
from lagkit.config import HttpLogin
from lagkit.runbook import Downstream
from lagkit.sources import Answer, Blind, Deadline, Questions, Scope, Status
from lagkit.sources.http import HttpFailure, Reply, ask, build_session, excerpt, public_url
from lagkit.sources.probes import read_latency, read_probe

if TYPE_CHECKING:
    import requests

    from lagkit.config import Latency, Probe

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())

PROBES = 3
"""One slow answer is chance, three are a state."""
PROBE_PAUSE_SECONDS = 0.2
PROBE_SECONDS = 5.0
PROBE_SHARE = 0.25
"""Most of the budget that one probe may take, so that three that hang still fit."""
MOST_BYTES = 5 * 2**20
DETAIL_LIMIT = 300
PING = "/api/v2/ping/"
JOBS = "/api/v2/jobs/"
INSTANCES = "/api/v2/instances/"
WAITING = "pending,waiting"
RUNNING = "running"
OLDEST = 25
"""Of the jobs in a state, this many of the oldest are read; their number comes with any page."""
PAGE_SIZE = 200
"""AWX's own maximum."""
SLICES = 12
"""Parts of the window that are sampled, ..."""
SLICE_SIZE = 25
"""... and jobs read of each: enough for a median."""


@dataclass(slots=True)
class _Seen:
    """What one target gave."""

    probes: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    blind: list[Blind] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)


class DownstreamSource:
    """The downstreams of a group that have a URL."""

    name = "downstream"

    def __init__(
        self,
        urls: Mapping[str, str],
        logins: Mapping[str, HttpLogin] | None = None,
        *,
        probes: Sequence[Probe] = (),
        latencies: Sequence[Latency] = (),
        prometheus: str = "",
        prometheus_login: HttpLogin | None = None,
    ) -> None:
        """Probe the runbook's downstreams at *urls* (name → base URL, else the runbook's own).

        *probes* and *latencies* are the configuration's own questions; the latter are asked of the
        *prometheus* with that base URL.
        """
        self._urls = dict(urls)
        self._logins = dict(logins or {})
        self._probes = tuple(probes)
        self._latencies = tuple(latencies)
        self._prometheus = prometheus
        self._prometheus_login = prometheus_login or HttpLogin()

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        """Probe what the group of *scope* waits for; return within about *budget_seconds*."""
        started = time.monotonic()
        questions = Questions(self.name)
        deadline = Deadline(budget_seconds)
        group = scope.runbook.group(scope.group)
        seen: list[_Seen] = []
        blind: list[Blind] = []
        targets = []
        for downstream in group.downstream:
            url = self._urls.get(downstream.name) or downstream.url
            if url:
                targets.append((downstream, url))
            else:
                blind.append(
                    Blind(
                        f"downstream {downstream.name}",
                        "no URL for it in the runbook or the configuration",
                        f'Set downstream.{downstream.name} = "https://…" in lagkit.toml.',
                    )
                )
        if targets or self._probes or self._latencies:
            with ThreadPoolExecutor(max_workers=8) as pool:
                looks: list[Future[_Seen]] = [
                    pool.submit(self._look, downstream, url, scope, deadline, questions)
                    for downstream, url in targets
                ]
                looks += [pool.submit(self._probe, p, deadline, questions) for p in self._probes]
                looks += [
                    pool.submit(self._latency, latency, scope, deadline, questions)
                    for latency in self._latencies
                ]
                seen = [look.result() for look in looks]
        elif not blind:
            blind.append(
                Blind(
                    "what the group waits for",
                    f"the runbook names no downstream for group {group.name}",
                    "Add [[groups.downstream]] to this group in the runbook.",
                )
            )
        blind += [one for target in seen for one in target.blind]
        rows = {
            "downstream": [row for target in seen for row in target.probes],
            "jobs": [row for target in seen for row in target.jobs],
        }
        typed: dict[str, pd.DataFrame] = {}
        for name, found in rows.items():
            try:
                typed[name] = frames.normalise(name, found)
            except frames.FrameError as error:
                blind.append(Blind(f"frame {name}", str(error)[:DETAIL_LIMIT]))
        return Answer(
            source=self.name,
            status=_status(seen, blind),
            detail="; ".join(note for target in seen for note in target.notes)
            or "no downstream with a URL",
            seconds=round(time.monotonic() - started, 3),
            frames=typed,
            queries=questions.frame(),
            blind=tuple(blind),
            facts=dict(sorted(item for target in seen for item in target.facts.items())),
        )

    def _probe(self, probe: Probe, deadline: Deadline, questions: Questions) -> _Seen:
        row, blind = read_probe(
            probe, self._logins.get(probe.name, HttpLogin()), deadline, questions
        )
        note = f"{probe.name}: {row['detail']}"
        return _Seen(probes=[row], blind=blind, notes=[note])

    def _latency(
        self, latency: Latency, scope: Scope, deadline: Deadline, questions: Questions
    ) -> _Seen:
        rows, blind = read_latency(
            latency, self._prometheus, self._prometheus_login, scope, deadline, questions
        )
        return _Seen(probes=rows, blind=blind, notes=[f"{len(rows)} latencies of {latency.name}"])

    def _look(
        self,
        downstream: Downstream,
        url: str,
        scope: Scope,
        deadline: Deadline,
        questions: Questions,
    ) -> _Seen:
        seen = _Seen()
        try:
            session = build_session(self._logins.get(downstream.name, HttpLogin()))
            _without_retries(session)
            target = _Target(downstream, url.rstrip("/"), session, deadline, questions, seen)
            target.probe()
            if downstream.kind == "awx":
                target.read_capacity()
                if target.read_jobs(scope):
                    target.read_unfinished()
        except Exception as error:  # a source never raises: whatever was read so far still counts
            _LOG.exception("probing %s stopped early", downstream.name)
            what = f"downstream {downstream.name}"
            seen.blind.append(Blind(what, f"{type(error).__name__} in lagkit; see its log"))
        return seen


@dataclass(frozen=True, slots=True)
class _Target:
    """One downstream while it is looked at."""

    downstream: Downstream
    base: str
    session: requests.Session
    deadline: Deadline
    questions: Questions
    seen: _Seen

    def probe(self) -> None:
        """Time the health path a few times."""
        name = self.downstream.name
        is_awx = self.downstream.kind == "awx"
        path = PING if is_awx else self.downstream.probe
        url = self.base + "/" + path.lstrip("/")
        at_most = min(PROBE_SECONDS, self.deadline.seconds * PROBE_SHARE)
        rows = self.seen.probes
        for number in range(PROBES):
            if number:
                time.sleep(self.deadline.left(PROBE_PAUSE_SECONDS))
                if self.deadline.passed:
                    break
            at = pd.Timestamp.now("UTC")
            row: dict[str, Any] = {
                "timestamp": at,
                "target": name,
                "check": "ping" if is_awx else "probe",
                "url": public_url(url),
                "ok": False,
            }
            with self.questions.ask(f"GET {public_url(url)}") as question:
                row["query_id"] = question.query_id
                began = time.monotonic()
                try:
                    reply = ask(
                        self.session,
                        "GET",
                        url,
                        deadline=self.deadline,
                        at_most_seconds=at_most,
                        most_bytes=MOST_BYTES,
                    )
                except HttpFailure as failure:
                    question.outcome, question.detail = failure.outcome, str(failure)
                    row["status_code"] = failure.status
                    row["detail"] = (
                        f"timed out after {time.monotonic() - began:.1f} s"
                        if failure.outcome == "timeout"
                        else str(failure)
                    )[:DETAIL_LIMIT]
                else:
                    question.rows = 1
                    row["status_code"] = reply.status
                    row["latency_seconds"] = reply.seconds
                    row["ok"], row["detail"] = judge(reply, is_awx=is_awx)
                    if not row["ok"]:
                        question.outcome = "denied" if reply.status in (401, 403) else "failed"
                        question.detail = row["detail"]
                    elif is_awx:
                        self._note_version(reply)
            rows.append(row)
        self._note_probes(rows)

    def _note_version(self, reply: Reply) -> None:
        version = json.loads(reply.body).get("version")
        if version:
            self.seen.facts[f"{self.downstream.name}_version"] = str(version)[:50]

    def _note_probes(self, rows: list[dict[str, Any]]) -> None:
        name = self.downstream.name
        good = [row for row in rows if row["ok"]]
        if good:
            worst = max(row["latency_seconds"] for row in good)
            self.seen.notes.append(
                f"{name} answered {len(good)} of {len(rows)} probes, slowest {worst:.3f} s"
            )
        else:
            why = rows[-1]["detail"] if rows else "not asked: the budget was spent"
            self.seen.notes.append(f"{name} answered no probe: {why}")
        denied = [row for row in rows if row.get("status_code") in (401, 403)]
        if denied:
            self.seen.blind.append(
                Blind(
                    f"health of {name}",
                    f"HTTP {denied[0]['status_code']}: lagkit may not read it",
                    f"Set downstream_login.{name} in lagkit.toml (bearer_token_file or username).",
                )
            )

    def read_capacity(self) -> None:
        """Read how much of each instance's capacity is taken, as a row per instance.

        Capacity is counted in forks; ``/api/v2/ping/`` shows what there is, not what is taken.
        """
        name, url = self.downstream.name, f"{self.base}{INSTANCES}"
        with self.questions.ask(f"GET {public_url(url)}") as question:
            try:
                reply = ask(
                    self.session,
                    "GET",
                    url,
                    params={"page_size": PAGE_SIZE, "order_by": "hostname"},
                    deadline=self.deadline,
                    at_most_seconds=PROBE_SECONDS,
                    most_bytes=MOST_BYTES,
                )
                rows = instance_rows(reply, name, public_url(url), question.query_id)
            except HttpFailure as failure:
                question.outcome, question.detail = failure.outcome, str(failure)
                self._cannot(f"capacity of {name}", failure, "instances")
                return
            question.rows = len(rows)
            self.seen.probes.extend(rows)

    def _cannot(self, what: str, failure: HttpFailure, resource: str) -> None:
        """Note a question that AWX did not answer, and how to be let in."""
        fix = ""
        if failure.outcome == "denied":
            fix = (
                f"Set downstream_login.{self.downstream.name} in lagkit.toml (bearer_token_file, "
                f"or username and password); the user needs the read role on {resource} "
                "(System Auditor)."
            )
        self.seen.blind.append(Blind(what, str(failure), fix))

    def read_unfinished(self) -> None:
        """Read the oldest jobs that wait and that run, and how many there are of each."""
        counts = []
        for states, said in ((WAITING, "waiting"), (RUNNING, "running")):
            query = {"status__in": states, "order_by": "created", "page_size": OLDEST}
            count: list[int] = []
            if self._job_page(query, count) is None:
                return
            self.seen.facts[f"{self.downstream.name}_jobs_{said}"] = str(count[0])
            counts.append(f"{count[0]} {said}")
        known = {row["job_id"]: row for row in self.seen.jobs}
        self.seen.jobs[:] = known.values()
        self.seen.notes.append(f"{self.downstream.name} jobs now: {', '.join(counts)}")

    def read_jobs(self, scope: Scope) -> bool:
        """Read the newest jobs of AWX, then a sample of each part of the window before them.

        Says whether AWX showed any.

        A busy AWX runs more jobs in a minute than a page holds: whether they got slower is seen
        only if some of every part are read.
        """
        name = self.downstream.name
        newest = {"order_by": "-created", "page_size": PAGE_SIZE}
        rows = self._job_page(newest)
        if not rows:
            return False
        oldest = min(row["timestamp"] for row in rows)
        slices = 0
        if len(rows) == PAGE_SIZE and oldest > scope.start:
            edges = pd.date_range(scope.start, oldest, periods=SLICES + 1)
            for begin, end in itertools.pairwise(edges):
                part = self._job_page(
                    {
                        "created__gte": begin.isoformat(),
                        "created__lt": end.isoformat(),
                        "order_by": "-created",
                        "page_size": SLICE_SIZE,
                    }
                )
                if part is None:
                    break
                slices += 1
        known: dict[str, dict[str, Any]] = {row["job_id"]: row for row in self.seen.jobs}
        self.seen.jobs[:] = known.values()
        if slices:
            self.seen.notes.append(f"sampled {SLICE_SIZE} of each of {slices} parts of the window")
        if self.seen.jobs:
            self.seen.notes.append(f"{len(self.seen.jobs)} {name} jobs")
        return True

    def _job_page(
        self, query: dict[str, Any], count: list[int] | None = None
    ) -> list[dict[str, Any]] | None:
        """Read one page of jobs; None if that failed, which is then written down.

        How many jobs *query* finds in all is added to *count*.
        """
        name, url = self.downstream.name, f"{self.base}{JOBS}"
        with self.questions.ask(f"GET {public_url(url)}?{urlencode(query)}") as question:
            try:
                reply = ask(
                    self.session,
                    "GET",
                    url,
                    params=query,
                    deadline=self.deadline,
                    at_most_seconds=PROBE_SECONDS,
                    most_bytes=MOST_BYTES,
                )
                rows = job_rows(reply, name, question.query_id)
            except HttpFailure as failure:
                question.outcome, question.detail = failure.outcome, str(failure)
                self._cannot(f"jobs of {name}", failure, "jobs")
                return None
            question.rows = len(rows)
            if count is not None:
                count.append(max(len(rows), _count(reply)))
            self.seen.jobs.extend(rows)
            return rows


def judge(reply: Reply, *, is_awx: bool) -> tuple[bool, str]:
    """Return whether *reply* is what a healthy downstream says, and a short account of it.

    Healthy is 2xx; of AWX also a JSON object with a version and at least one instance with
    capacity, as ``/api/v2/ping/`` shows it.
    """
    if reply.location:
        return False, f"HTTP {reply.status}: redirects to {reply.location}"[:DETAIL_LIMIT]
    if not 200 <= reply.status < 300:
        return False, f"HTTP {reply.status}: {excerpt(reply.body)}"[:DETAIL_LIMIT]
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        if is_awx:
            return False, f"not JSON, so not AWX: {excerpt(reply.body)}"[:DETAIL_LIMIT]
        return True, f"HTTP {reply.status}"
    if not is_awx:
        return True, json.dumps(document, sort_keys=True, ensure_ascii=False)[:DETAIL_LIMIT]
    if not isinstance(document, dict) or "version" not in document:
        return False, "JSON without a version, so not AWX's ping"
    instances = [item for item in document.get("instances") or () if isinstance(item, dict)]
    capacity = sum(int(item.get("capacity") or 0) for item in instances)
    account = f"AWX {document['version']}, {len(instances)} instance(s), capacity {capacity}"
    return not instances or capacity > 0, account[:DETAIL_LIMIT]


def instance_rows(reply: Reply, target: str, url: str, query_id: str) -> list[dict[str, Any]]:
    """Return rows of ``downstream`` from ``/api/v2/instances/``: capacity taken, per instance.

    Raises
    ------
    HttpFailure
        The status is not 2xx, or the body is not a page of instances.
    """
    at = pd.Timestamp.now("UTC")
    rows = []
    for item in _results(reply, "instances"):
        capacity = _whole(item.get("capacity"))
        taken = _whole(item.get("consumed_capacity"))
        hostname = str(item.get("hostname") or item.get("id"))[:60]
        if item.get("node_type") == "hop":
            continue  # it passes jobs on and runs none
        state = "" if item.get("enabled", True) else ", switched off"
        if item.get("errors"):
            state += f", {str(item['errors'])[:100]}"
        rows.append(
            {
                "timestamp": at,
                "target": target,
                "check": f"capacity of {hostname}",
                "url": url,
                "status_code": reply.status,
                "ok": bool(item.get("enabled", True)) and 0 < capacity > taken,
                "detail": f"{taken} of {capacity} forks taken, "
                f"{_whole(item.get('jobs_running'))} jobs running{state}",
                "value": taken / capacity if capacity else None,
                "unit": "share of capacity",
                "query_id": query_id,
            }
        )
    return rows


def _whole(value: object) -> int:
    """Return a count of AWX, which may come as 12, 12.0 or not at all."""
    return int(value) if isinstance(value, int | float) and value == value else 0


def _count(reply: Reply) -> int:
    """Return how many things a list has in all, as its page says; 0 if it does not."""
    return _whole(json.loads(reply.body).get("count"))


def _results(reply: Reply, what: str) -> list[Mapping[str, Any]]:
    """Return the things on a page of AWX; HttpFailure if it is none."""
    if reply.location:
        text = f"HTTP {reply.status}: redirects to {reply.location}"
        raise HttpFailure(text, status=reply.status)
    if reply.status in (401, 403):
        text = f"HTTP {reply.status}: {excerpt(reply.body)}"
        raise HttpFailure(text, outcome="denied", status=reply.status)
    if not 200 <= reply.status < 300:
        text = f"HTTP {reply.status}: {excerpt(reply.body)}"
        raise HttpFailure(text, status=reply.status)
    try:
        results = json.loads(reply.body)["results"]
    except (ValueError, RecursionError, KeyError, TypeError):
        results = None
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        text = f"not a page of AWX {what}: {excerpt(reply.body)}"
        raise HttpFailure(text, status=reply.status)
    return results


def job_rows(reply: Reply, target: str, query_id: str) -> list[dict[str, Any]]:
    """Return rows of ``jobs`` from one page of AWX.

    Raises
    ------
    HttpFailure
        The status is not 2xx, or the body is not a page of jobs.
    """
    try:
        rows = [_job(item, target, query_id) for item in _results(reply, "jobs")]
    except (ValueError, KeyError, TypeError, AttributeError):
        text = f"not a page of AWX jobs: {excerpt(reply.body)}"
        raise HttpFailure(text, status=reply.status) from None
    return list({row["job_id"]: row for row in rows}.values())


def _job(item: Mapping[str, Any], target: str, query_id: str) -> dict[str, Any]:
    elapsed = item.get("elapsed")
    return {
        "timestamp": _moment(item["created"]),
        "target": target,
        "job_id": str(item["id"])[:50],
        "status": str(item["status"])[:50] if item.get("status") else None,
        "started_at": _moment(item.get("started")),
        "finished_at": _moment(item.get("finished")),
        "elapsed_seconds": None if elapsed is None else float(elapsed),
        "query_id": query_id,
    }


def _moment(text: object) -> pd.Timestamp | None:
    """Return an ISO time of AWX (always UTC, with or without a Z) as a Timestamp."""
    if not text:
        return None
    stamp = pd.Timestamp(str(text))
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _status(seen: Sequence[_Seen], blind: Sequence[Blind]) -> Status:
    """Return the status: probes that fail are an answer about the downstream, so never *none*."""
    probes = [row for target in seen for row in target.probes]
    if seen and not probes:
        return "unavailable"
    return "partial" if blind or not all(row["ok"] for row in probes) else "ok"


def _without_retries(session: requests.Session) -> None:
    """Take retries off: a probe that was tried three times has timed three answers."""
    from requests.adapters import HTTPAdapter

    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=0))

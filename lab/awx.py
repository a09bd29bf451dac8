"""Stand in for AWX: its REST paths and JSON shapes over virtual jobs. Lab only.

Knows: ``/api/v2/ping/``, ``/api/v2/job_templates/``, its ``launch/``, ``/api/v2/jobs/`` with
paging, ordering and field look-ups, ``/api/v2/instances/`` and ``/api/v2/instance_groups/`` with
the capacity that jobs take, and the life of a job (pending, waiting, running, then successful or
failed), as AWX 24 answers them. Faults come over ``/lab/faults``, which AWX does not have.

Refuses to know: playbooks, inventories, permissions. Credentials are asked for only while the fault
``login`` is set: then everything but ping wants its bearer token or its user, as AWX always does. A
job is three instants drawn at its launch, so thousands of them cost no process and no timer.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import bisect
import contextlib
import heapq
import itertools
import json
import logging
import os
import random
import re
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

LOG = logging.getLogger("awx.web")

VERSION = "24.6.1"
JOB_SECONDS = 0.015
JITTER_SHARE = 0.3  # a job lasts JOB_SECONDS plus or minus this share
QUEUE_SECONDS = 0.0002  # each of pending and waiting, when a slot is free
JOBS_KEPT = 50_000  # twenty minutes at the lab's usual rate
CAPACITY = 200  # jobs at once; what ping reports as the instance's capacity
PAGE_SIZE = 25  # AWX's default page
PAGE_SIZE_MAX = 200  # AWX's max_page_size
HANG_SECONDS = 600.0  # a hung request is dropped after this
BODY_BYTES = 1 << 20
HEADER_BYTES = 32 << 10
IDLE_SECONDS = 75.0  # keep-alive of the proxy in front of AWX
SUMMARY_SECONDS = 10.0

TEMPLATES = {7: "deploy-api", 8: "rollback-api"}
ORDERABLE = ("id", "created", "modified", "started", "finished", "elapsed", "name", "status")
INSTANTS = ("created", "modified", "started", "finished")
TOKEN = "lab-awx-token"
USER, PASSWORD = "lagkit", "lab-awx-password"
FORKS_OF_A_JOB = 1  # what a job of the lab takes of its instance's capacity
LONG_FIELDS = ("job_args", "job_cwd", "job_env", "result_traceback", "artifacts")


@dataclass(frozen=True)
class Faults:
    """What is wrong with this AWX; the defaults are health."""

    job_seconds: float = JOB_SECONDS
    launch_latency_seconds: float = 0.0
    status: int | None = None
    hang: bool = False
    capacity: int = CAPACITY
    failed_share: float = 0.0
    login: bool = False


def checked_faults(current: Faults, wanted: Mapping[str, Any]) -> Faults:
    """Return the faults after a change.

    Raises:
        ValueError: a name is unknown or a value is of the wrong kind or out of range.
    """
    known = {f.name for f in fields(Faults)}
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise ValueError(f"unknown fault {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    changes: dict[str, Any] = {}
    for name, value in wanted.items():
        if name in ("hang", "login"):
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be true or false")
            changes[name] = value
        elif name == "status" and value is None:
            changes[name] = None
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number")
        elif name == "status":
            if not 400 <= value <= 599:
                raise ValueError("status must be an HTTP error, 400 to 599")
            changes[name] = int(value)
        elif name == "capacity":
            if not 1 <= value <= 10_000:
                raise ValueError("capacity must be 1 to 10000 jobs")
            changes[name] = int(value)
        else:
            ceiling = 1.0 if name == "failed_share" else 3_600.0
            if not 0 <= value <= ceiling:
                raise ValueError(f"{name} must be 0 to {ceiling:g}")
            changes[name] = float(value)
    return replace(current, **changes)


def instant(seconds: float | None) -> str | None:
    """Write a Unix time as AWX does: UTC, microseconds, ``Z``."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(text: str) -> float:
    """Read an ISO 8601 instant; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True)
class Job:
    """One virtual job: its times are fixed at the launch. Times are Unix seconds."""

    id: int
    template: int
    extra_vars: str
    created: float
    starts: float
    ends: float
    fails: bool

    def status(self, now: float) -> str:
        """Return the AWX status at that time."""
        if now < self.created + QUEUE_SECONDS:
            return "pending"
        if now < self.starts:
            # AWX keeps a job pending until the task manager finds capacity for it
            return "waiting" if now >= self.starts - QUEUE_SECONDS else "pending"
        if now < self.ends:
            return "running"
        return "failed" if self.fails else "successful"

    def facts(self, now: float) -> dict[str, Any]:
        """Return the fields that change in a job's life, as numbers."""
        status = self.status(now)
        started = self.starts if now >= self.starts else None
        finished = self.ends if now >= self.ends else None
        elapsed = 0.0 if started is None else (finished or now) - started
        return {
            "id": self.id,
            "name": TEMPLATES[self.template],
            "status": status,
            "created": self.created,
            "modified": max(t for t in (self.created, started, finished) if t is not None),
            "started": started,
            "finished": finished,
            "elapsed": round(elapsed, 3),
        }

    def body(self, now: float, *, listed: bool = False) -> dict[str, Any]:
        """Return the job as AWX serialises it; a list leaves the long fields out."""
        now_facts = self.facts(now)
        url = f"/api/v2/jobs/{self.id}/"
        template_url = f"/api/v2/job_templates/{self.template}/"
        template = {"id": self.template, "name": TEMPLATES[self.template], "description": ""}
        started = now_facts["started"] is not None
        body: dict[str, Any] = {
            "id": self.id,
            "type": "job",
            "url": url,
            "related": {
                "unified_job_template": template_url,
                "job_template": template_url,
                "stdout": f"{url}stdout/",
                "job_events": f"{url}job_events/",
                "cancel": f"{url}cancel/",
                "relaunch": f"{url}relaunch/",
            },
            "summary_fields": {
                "job_template": template,
                "unified_job_template": {**template, "unified_job_type": "job"},
                "created_by": {"id": 1, "username": "admin", "first_name": "", "last_name": ""},
                "user_capabilities": {"delete": True, "start": True},
                "labels": {"count": 0, "results": []},
                "credentials": [],
            },
            "created": instant(now_facts["created"]),
            "modified": instant(now_facts["modified"]),
            "name": now_facts["name"],
            "description": "",
            "job_type": "run",
            "inventory": 1,
            "project": 1,
            "playbook": f"{now_facts['name'].replace('-', '_')}.yml",
            "scm_branch": "",
            "forks": 0,
            "limit": "",
            "verbosity": 0,
            "extra_vars": self.extra_vars,
            "job_tags": "",
            "force_handlers": False,
            "skip_tags": "",
            "start_at_task": "",
            "timeout": 0,
            "use_fact_cache": False,
            "organization": 1,
            "unified_job_template": self.template,
            "launch_type": "manual",
            "status": now_facts["status"],
            "execution_environment": 1,
            "failed": now_facts["status"] == "failed",
            "started": instant(now_facts["started"]),
            "finished": instant(now_facts["finished"]),
            "canceled_on": None,
            "elapsed": now_facts["elapsed"],
            "job_args": "",
            "job_cwd": "",
            "job_env": {},
            "job_explanation": "",
            "execution_node": node_name() if started else "",
            "controller_node": node_name() if started else "",
            "result_traceback": "",
            "event_processing_finished": now_facts["finished"] is not None,
            "launched_by": {"id": 1, "name": "admin", "type": "user", "url": "/api/v2/users/1/"},
            "work_unit_id": None,
            "job_template": self.template,
            "passwords_needed_to_start": [],
            "allow_simultaneous": True,
            "artifacts": {},
            "scm_revision": "",
            "instance_group": 1 if started else None,
            "diff_mode": False,
            "job_slice_number": 0,
            "job_slice_count": 1,
            "webhook_service": "",
            "webhook_credential": None,
            "webhook_guid": "",
        }
        if listed:
            for name in LONG_FIELDS:
                del body[name]
        return body


def node_name() -> str:
    """Return this instance's name: its pod's when it runs as one."""
    return os.environ.get("HOSTNAME", "awx")


class Awx:
    """The state of one AWX: its jobs, its faults, its slots.

    Args:
        seed: of the job durations.
        clock: Unix seconds; another one lets time pass without waiting.
    """

    def __init__(self, seed: int = 0, clock: Callable[[], float] = time.time) -> None:
        """Begin healthy, with no job."""
        self.faults = Faults()
        self.jobs: OrderedDict[int, Job] = OrderedDict()
        self._ids = itertools.count(1)
        self._random = random.Random(seed)
        self._clock = clock
        self._slots: list[float] = []  # when each busy slot falls free
        self.launched = 0

    def now(self) -> float:
        """Return the present, in Unix seconds."""
        return self._clock()

    def launch(self, template: int, extra_vars: str) -> Job:
        """Create a job and fix its times; a full instance makes it wait for a slot."""
        now = self.now()
        while self._slots and self._slots[0] <= now:
            heapq.heappop(self._slots)
        starts = now + 2 * QUEUE_SECONDS
        while len(self._slots) >= self.faults.capacity:
            starts = max(starts, heapq.heappop(self._slots))
        spread = self._random.uniform(-JITTER_SHARE, JITTER_SHARE)
        ends = starts + self.faults.job_seconds * (1 + spread)
        fails = self._random.random() < self.faults.failed_share
        heapq.heappush(self._slots, ends)
        job = Job(next(self._ids), template, extra_vars, now, starts, ends, fails)
        self.jobs[job.id] = job
        self.launched += 1
        if len(self.jobs) > JOBS_KEPT:
            self.jobs.popitem(last=False)
        return job


class BadQuery(ValueError):
    """A look-up that AWX answers with 400; the text is its ``detail``."""


def _wanted(query: Iterable[tuple[str, str]]) -> Callable[[Mapping[str, Any]], bool]:
    """Turn look-ups such as ``created__gt`` into one test of a job's facts."""
    tests: list[Callable[[Mapping[str, Any]], bool]] = []
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
        "exact": lambda a, b: a == b,
        "in": lambda a, b: a in b,
    }
    for name, text in query:
        if name in ("page", "page_size", "order_by", "format"):
            continue
        field, _, lookup = name.partition("__")
        if field not in ORDERABLE:
            raise BadQuery(f"Job has no field named '{field[:40]}'")
        if lookup == "isnull":
            absent = text.lower() in ("true", "1")
            tests.append(lambda job, f=field, a=absent: (job[f] is None) == a)  # type: ignore[misc]
            continue
        operator = compare.get(lookup or "exact")
        if operator is None:
            raise BadQuery(f"Unsupported lookup '{lookup[:40]}' for field '{field}'")
        cast: Callable[[str], Any] = str
        if field in INSTANTS:
            cast = seconds_of
        elif field in ("id", "elapsed"):
            cast = float
        try:
            value = [cast(part) for part in text.split(",")] if lookup == "in" else cast(text)
        except ValueError:
            raise BadQuery(f"'{text[:40]}' is not a value of field '{field}'") from None
        tests.append(
            lambda job, f=field, o=operator, v=value: job[f] is not None and o(job[f], v)  # type: ignore[misc]
        )
    return lambda job: all(test(job) for test in tests)


def _created_between(jobs: list[Job], asked: Mapping[str, str]) -> list[Job]:
    """Return the jobs that the look-ups on ``created`` leave; *jobs* are in that order."""
    first, last = 0, len(jobs)
    for lookup, cut in (
        ("gt", bisect.bisect_right),
        ("gte", bisect.bisect_left),
        ("lt", bisect.bisect_left),
        ("lte", bisect.bisect_right),
    ):
        text = asked.get(f"created__{lookup}")
        if text is None:
            continue
        at = cut(jobs, seconds_of(text), key=lambda job: job.created)
        if lookup.startswith("g"):
            first = max(first, at)
        else:
            last = min(last, at)
    return jobs[first:last]


def job_list(awx: Awx, path: str, query: list[tuple[str, str]]) -> dict[str, Any]:
    """Return one page of ``/api/v2/jobs/``: count, next, previous, results.

    Raises:
        BadQuery: unknown field, look-up or order.
        LookupError: a page that does not exist.
    """
    asked = dict(query)
    wanted = _wanted(query)
    now = awx.now()
    order = asked.get("order_by", "id")
    jobs = _created_between(list(awx.jobs.values()), asked)
    if order.lstrip("-") in ("id", "created") and all(
        name in ("page", "page_size", "order_by", "format") or name.startswith("created__")
        for name in asked
    ):
        # what AWX's index on created answers without looking at a row
        found = jobs[::-1] if order.startswith("-") else jobs
    else:
        rows = [(job.facts(now), job) for job in jobs]
        rows = [row for row in rows if wanted(row[0])]
        for key in reversed(order.split(",")):
            field = key.lstrip("-")
            if field not in ORDERABLE:
                raise BadQuery(f"Job has no field named '{field[:40]}'")
            # the database under AWX sorts NULL as the largest value
            rows.sort(
                key=lambda row, f=field: (  # type: ignore[misc]
                    row[0][f] is None,
                    row[0][f] if row[0][f] is not None else 0,
                ),
                reverse=key.startswith("-"),
            )
        found = [job for _, job in rows]
    size = _positive(asked.get("page_size"), PAGE_SIZE, PAGE_SIZE_MAX)
    page = _positive(asked.get("page"), 1, None)
    pages = max(1, -(-len(found) // size))
    if page is None or page > pages:
        raise LookupError("Invalid page.")

    def link(number: int) -> str | None:
        if not 1 <= number <= pages or number == page:
            return None
        return f"{path}?{urlencode({**asked, 'page': number})}"

    shown = found[(page - 1) * size : page * size]
    return {
        "count": len(found),
        "next": link(page + 1),
        "previous": link(page - 1),
        "results": [job.body(now, listed=True) for job in shown],
    }


def _positive(text: str | None, default: int, ceiling: int | None) -> Any:
    """Read a page number or size: AWX falls back on a bad size, and refuses a bad page."""
    if text is None:
        return default
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        return None if ceiling is None else default
    return int(text) if ceiling is None else min(int(text), ceiling)


def template_body(number: int) -> dict[str, Any]:
    """Return a job template as AWX serialises it, with the fields a launcher reads."""
    url = f"/api/v2/job_templates/{number}/"
    return {
        "id": number,
        "type": "job_template",
        "url": url,
        "related": {"launch": f"{url}launch/", "jobs": f"{url}jobs/"},
        "summary_fields": {"user_capabilities": {"edit": True, "delete": True, "start": True}},
        "created": "2024-12-28T08:00:00.000000Z",
        "modified": "2024-12-28T08:00:00.000000Z",
        "name": TEMPLATES[number],
        "description": "",
        "job_type": "run",
        "inventory": 1,
        "project": 1,
        "playbook": f"{TEMPLATES[number].replace('-', '_')}.yml",
        "ask_variables_on_launch": True,
        "allow_simultaneous": True,
        "status": "successful",
    }


def ping_body(awx: Awx) -> dict[str, Any]:
    """Return ``/api/v2/ping/``: version, active node, instances and instance groups."""
    node = node_name()
    return {
        "ha": False,
        "version": VERSION,
        "active_node": node,
        "install_uuid": "3f0c1f4e-8d5b-4a52-9d3e-0a6f2b7c9e11",
        "instances": [
            {
                "node": node,
                "node_type": "hybrid",
                "uuid": "00000000-0000-0000-0000-000000000000",
                "heartbeat": instant(awx.now()),
                "capacity": awx.faults.capacity,
                "version": VERSION,
            }
        ],
        "instance_groups": [
            {"name": "default", "capacity": awx.faults.capacity, "instances": [node]}
        ],
    }


def instance_body(awx: Awx) -> dict[str, Any]:
    """Return the only instance as AWX serialises it; a waiting job has its capacity already."""
    now, node = awx.now(), node_name()
    statuses = [job.status(now) for job in awx.jobs.values() if now < job.ends]
    running = statuses.count("running")
    taken = (running + statuses.count("waiting")) * FORKS_OF_A_JOB
    capacity = awx.faults.capacity
    return {
        "id": 1,
        "type": "instance",
        "url": "/api/v2/instances/1/",
        "related": {
            "jobs": "/api/v2/instances/1/jobs/",
            "instance_groups": "/api/v2/instances/1/instance_groups/",
            "health_check": "/api/v2/instances/1/health_check/",
        },
        "summary_fields": {"user_capabilities": {"edit": False}, "links": []},
        "uuid": "00000000-0000-0000-0000-000000000000",
        "hostname": node,
        "created": instant(now),
        "modified": instant(now),
        "last_seen": instant(now),
        "health_check_started": None,
        "health_check_pending": False,
        "last_health_check": instant(now),
        "errors": "",
        "capacity_adjustment": "1.00",
        "version": VERSION,
        "capacity": capacity,
        "consumed_capacity": taken,
        "percent_capacity_remaining": round(100.0 * max(0, capacity - taken) / capacity, 2),
        "jobs_running": running,
        "jobs_total": awx.launched,
        "cpu": "4.0",
        "memory": 8 * 2**30,
        "cpu_capacity": capacity,
        "mem_capacity": capacity,
        "enabled": True,
        "managed_by_policy": True,
        "managed": False,
        "node_type": "hybrid",
        "node_state": "ready",
        "ip_address": "",
        "listener_port": None,
        "peers": [],
        "peers_from_control_nodes": False,
    }


def group_body(awx: Awx) -> dict[str, Any]:
    """Return the only instance group as AWX serialises it."""
    one = instance_body(awx)
    kept = ("created", "modified", "capacity", "consumed_capacity", "percent_capacity_remaining",
            "jobs_running", "jobs_total")  # fmt: skip
    return {
        "id": 1,
        "type": "instance_group",
        "url": "/api/v2/instance_groups/1/",
        "related": {"jobs": "/api/v2/instance_groups/1/jobs/",
                    "instances": "/api/v2/instance_groups/1/instances/"},
        "name": "default",
        **{key: one[key] for key in kept},
        "max_concurrent_jobs": 0,
        "max_forks": 0,
        "instances": 1,
        "is_container_group": False,
        "credential": None,
        "policy_instance_percentage": 100,
        "policy_instance_minimum": 0,
        "policy_instance_list": [],
        "pod_spec_override": "",
        "summary_fields": {"user_capabilities": {"edit": False, "delete": False}},
    }  # fmt: skip


def refusal(path: str, authorization: str) -> str | None:
    """Return what AWX says to a request that it does not let in; None if it does.

    Ping is open to everyone.
    """
    if path == "/api/v2/ping/":
        return None
    known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    if authorization in (f"Bearer {TOKEN}", f"Basic {known}"):
        return None
    said = (
        "Invalid username/password."
        if authorization.startswith("Basic ")
        else "Authentication credentials were not provided."
    )
    return f"{said} To establish a login session, visit /api/login/."


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: Any
    content_type: str = "application/json"
    location: str | None = None


NOT_FOUND = Answer(404, {"detail": "The requested resource could not be found."})


def respond(awx: Awx, method: str, target: str, body: bytes) -> Answer:
    """Answer one request of the API, without its latency faults."""
    split = urlsplit(target)
    path = split.path
    query = parse_qsl(split.query, keep_blank_values=True)
    launch = re.fullmatch(r"/api/v2/job_templates/(\d{1,9}|[A-Za-z0-9_-]{1,64})/launch/", path)
    if launch:
        return _launch(awx, method, launch[1], body)
    if method not in ("GET", "HEAD"):
        return Answer(405, {"detail": f'Method "{method[:10]}" not allowed.'})
    if path == "/api/v2/ping/":
        return Answer(200, ping_body(awx))
    if path == "/api/v2/":
        names = ("ping", "instances", "instance_groups", "job_templates", "jobs")
        return Answer(200, {name: f"/api/v2/{name}/" for name in names})
    if path == "/api/v2/job_templates/":
        name = dict(query).get("name")
        found = [template_body(n) for n, known in TEMPLATES.items() if name in (None, known)]
        return Answer(200, {"count": len(found), "next": None, "previous": None, "results": found})
    if path in ("/api/v2/instances/", "/api/v2/instance_groups/"):
        shown = instance_body(awx) if path == "/api/v2/instances/" else group_body(awx)
        return Answer(200, {"count": 1, "next": None, "previous": None, "results": [shown]})
    one = re.fullmatch(r"/api/v2/job_templates/(\d{1,9})/", path)
    if one:
        number = int(one[1])
        return Answer(200, template_body(number)) if number in TEMPLATES else NOT_FOUND
    if path == "/api/v2/jobs/":
        try:
            return Answer(200, job_list(awx, path, query))
        except BadQuery as error:
            return Answer(400, {"detail": str(error)})
        except LookupError as error:
            return Answer(404, {"detail": str(error.args[0])})
    one = re.fullmatch(r"/api/v2/jobs/(\d{1,9})/", path)
    if one:
        job = awx.jobs.get(int(one[1]))
        return Answer(200, job.body(awx.now())) if job else NOT_FOUND
    return NOT_FOUND


def _launch(awx: Awx, method: str, which: str, body: bytes) -> Answer:
    number = next((n for n, name in TEMPLATES.items() if which in (str(n), name)), None)
    if number is None:
        return NOT_FOUND
    if method == "GET":
        return Answer(200, {"can_start_without_user_input": True, "ask_variables_on_launch": True})
    if method != "POST":
        return Answer(405, {"detail": f'Method "{method[:10]}" not allowed.'})
    try:
        sent = json.loads(body or b"{}")
        if not isinstance(sent, dict):
            raise ValueError("not an object")
    except ValueError as error:
        return Answer(400, {"detail": f"JSON parse error - {error}"})
    extra = sent.get("extra_vars", {})
    text = extra if isinstance(extra, str) else json.dumps(extra, sort_keys=True)
    job = awx.launch(number, text[:2_000])
    ignored = {k: sent[k] for k in sorted(sent) if k != "extra_vars"}
    head = {"job": job.id, "ignored_fields": ignored}
    return Answer(201, {**head, **job.body(job.created)}, location=f"/api/v2/jobs/{job.id}/")


def change_faults(awx: Awx, method: str, body: bytes) -> Answer:
    """Answer ``/lab/faults``: POST changes some, GET shows, DELETE heals. Not part of AWX."""
    if method == "DELETE":
        awx.faults = Faults()
    elif method == "POST":
        try:
            sent = json.loads(body or b"{}")
            if not isinstance(sent, dict):
                raise ValueError("a JSON object is needed")
            awx.faults = checked_faults(awx.faults, sent)
        except ValueError as error:
            return Answer(400, {"detail": str(error)})
    elif method != "GET":
        return Answer(405, {"detail": f'Method "{method[:10]}" not allowed.'})
    return Answer(200, asdict(awx.faults))


REASONS = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def _wire(answer: Answer, seconds: float, keep: bool, head: bool) -> bytes:
    text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    payload = text.encode()
    lines = [
        f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Error')}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(payload)}",
        f"X-API-Product-Version: {VERSION}",
        "X-API-Product-Name: AWX",
        f"X-API-Node: {node_name()}",
        f"X-API-Time: {seconds:.3f}s",
        f"Connection: {'keep-alive' if keep else 'close'}",
    ]
    if answer.location:
        lines.append(f"Location: {answer.location}")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else payload)


class Server:
    """An asyncio HTTP/1.1 server over one :class:`Awx`, keep-alive included."""

    def __init__(self, awx: Awx) -> None:
        """Serve this AWX once :meth:`start` is awaited."""
        self.awx = awx
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._talk, host, port, limit=HEADER_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening. Open connections end with the loop."""
        if self._server:
            self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            TimeoutError,
            ConnectionError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            asyncio.CancelledError,
        ):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; return whether the connection goes on."""
        raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_SECONDS)
        began = time.monotonic()
        first, *rest = raw.decode("latin-1").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3:
            writer.write(_wire(Answer(400, {"detail": "Malformed request."}), 0, False, False))
            await writer.drain()
            return False
        method, target, _ = parts
        headers = {k.strip().lower(): v.strip() for k, _, v in (h.partition(":") for h in rest)}
        length = headers.get("content-length", "0")
        if not re.fullmatch(r"\d{1,9}", length) or int(length) > BODY_BYTES:
            writer.write(_wire(Answer(413, {"detail": "Body refused."}), 0, False, False))
            await writer.drain()
            return False
        body = await asyncio.wait_for(reader.readexactly(int(length)), IDLE_SECONDS)
        keep = headers.get("connection", "").lower() != "close"
        if urlsplit(target).path == "/lab/faults":
            answer = change_faults(self.awx, method, body)
        else:
            answer = await self._api(method, target, body, headers.get("authorization", ""))
        writer.write(_wire(answer, time.monotonic() - began, keep, method == "HEAD"))
        await writer.drain()
        return keep

    async def _api(self, method: str, target: str, body: bytes, authorization: str) -> Answer:
        faults = self.awx.faults
        if faults.hang:
            await asyncio.sleep(HANG_SECONDS)
            raise ConnectionError
        if faults.status is not None:
            # what the proxy in front of a broken AWX answers: a page, not JSON
            page = f"<html><head><title>{faults.status}</title></head></html>\r\n"
            return Answer(faults.status, page, content_type="text/html")
        said = refusal(urlsplit(target).path, authorization) if faults.login else None
        if said is not None:
            return Answer(401, {"detail": said})
        if faults.launch_latency_seconds and target.endswith("/launch/"):
            await asyncio.sleep(faults.launch_latency_seconds)
        return respond(self.awx, method, target, body)


async def _summaries(awx: Awx) -> None:
    """Log what the jobs did, as the pod's log."""
    before = 0
    while True:
        await asyncio.sleep(SUMMARY_SECONDS)
        now = awx.now()
        recent = [job for job in awx.jobs.values() if 0 <= now - job.ends < SUMMARY_SECONDS]
        mean = sum(job.ends - job.starts for job in recent) / len(recent) if recent else 0.0
        running = sum(1 for job in awx.jobs.values() if job.status(now) == "running")
        pending = sum(1 for job in awx.jobs.values() if now < job.starts)
        LOG.info(
            "jobs in %.0f s: %d launched, %d finished, mean elapsed %.3f s; now %d running, "
            "%d pending",
            SUMMARY_SECONDS,
            awx.launched - before,
            len(recent),
            mean,
            running,
            pending,
        )
        before = awx.launched


async def serve(awx: Awx, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = Server(awx)
    LOG.info(
        "AWX %s (lab stand-in) listens on %s:%d", VERSION, host, await server.start(host, port)
    )
    summaries = asyncio.create_task(_summaries(awx))
    await ended.wait()
    LOG.info("stopping")
    summaries.cancel()
    await server.stop()


def main(argv: list[str] | None = None) -> int:
    """Run the stand-in from the command line."""
    parser = argparse.ArgumentParser(prog="python -m lab.awx", description="stand-in for AWX")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("AWX_PORT", "8052")))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    asyncio.run(serve(Awx(args.seed), args.host, args.port))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

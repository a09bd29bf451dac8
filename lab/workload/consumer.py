"""The deployment worker: one consumer of a group that launches an AWX job for each record.

Run as a pod (``python -m lab.workload.consumer``) and set up by its environment alone:

=======================  ===================================================================
KAFKA_BOOTSTRAP          brokers, required
KAFKA_USERNAME, KAFKA_PASSWORD, KAFKA_CA
                         a login by SASL/PLAIN over TLS; without a name there is none
KAFKA_TOPIC, KAFKA_GROUP default deploy-requests, deployment-worker
AWX_URL                  base address of AWX; without it records are only read and committed
AWX_TOKEN                sent as a bearer token when set
AWX_TIMEOUT_SECONDS      of one AWX request, default 5
CLIENT_LIBRARY           confluent (default) or kafka-python
POISON_POLICY            what a record it cannot handle does: retry (default), crash, skip, or park
                         (its partition is paused and nothing is said)
CONFIG_REQUIRED          names of settings without which the worker exits 1 once it has joined
COMMIT_RECORDS           commit after so many records, default 20; above it also after a second,
                         unless COMMIT_BY_COUNT is set
COMMIT_WAITS             handles no record while a commit is on its way, as many workers do
COMMIT_LOWEST            this release forgets to commit any but the lowest of its partitions
WORK_SECONDS, WORK_CPU_SECONDS
                         what this release does itself for each record: waiting, computing
WARM_UP_SECONDS          what it loads before it handles records of newly assigned partitions
KEEP_BYTES               what this release keeps in memory of each record while it is behind,
                         with KEEP_ALWAYS of every record
NOISE_SECONDS            a harmless warning so often
SESSION_TIMEOUT_MS, HEARTBEAT_INTERVAL_MS, MAX_POLL_INTERVAL_MS, SOCKET_TIMEOUT_MS,
ASSIGNMENT_STRATEGY      of the Kafka client
HOSTNAME                 the client.id, in a pod the pod's name
=======================  ===================================================================

SIGUSR1 turns the intake off, and on again: all partitions are paused while the member stays in
its group. It logs like any service, to standard output, and does not know that faults exist: it
only meets them. One record at a time, in order.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from lab.workload.clients import CLIENTS, Client, CommitFailed, Place, Record

COMMIT_RECORDS = 20
COMMIT_SECONDS = 1.0
POLL_SECONDS = 0.2
REPORT_RECORDS = 100
REPORT_SECONDS = 30.0
RETRY_SECONDS = 0.5  # between two tries of an undecodable record
AWX_RETRY_SECONDS = 1.0
AWX_POLL_SECONDS = 0.008
AWX_POLL_GROWTH = 1.2
AWX_POLL_CEILING = 0.1  # a long job is asked ten times a second, not a hundred
SLOW_FACTOR = 5.0
SLOW_FLOOR_SECONDS = 0.2  # a busy machine's hiccup is not worth a warning
USUAL_WEIGHT = 0.05  # of the newest ordinary job in the running mean
USUAL_START = 0.03  # seconds; before the first job has been seen
TEMPLATE = "deploy-api"
FINISHED = ("successful", "failed", "error", "canceled")  # AWX: a job does not leave these
SHOWN_CHARS = 80
POLICIES = ("retry", "crash", "skip", "park")
KEPT_WHEN_BEHIND_SECONDS = 5.0  # a record older than this came out of a backlog
FORBIDDEN_API = "legacy-gateway"

LOG = logging.getLogger("worker")


class Unfit(ValueError):
    """A record that cannot be handled, now or later; the text says why."""


class Undecodable(Unfit):
    """A record whose value is not a deploy request."""


class Refused(Unfit):
    """A deploy request that breaks a rule of the business."""


class AwxError(RuntimeError):
    """A call to AWX that failed; the text says how."""


class Fatal(RuntimeError):
    """The worker cannot go on; it exits 1."""


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    bootstrap: str
    topic: str
    group: str
    client: str
    awx_url: str
    awx_token: str
    awx_timeout: float
    poison_policy: str
    required: tuple[str, ...]
    kafka: Mapping[str, str | int | bool]
    library: str = "confluent"
    commit_records: int = COMMIT_RECORDS
    commit_seconds: float = COMMIT_SECONDS
    commit_waits: bool = False
    commit_lowest: bool = False
    work_seconds: float = 0.0
    work_cpu_seconds: float = 0.0
    warm_up_seconds: float = 0.0
    keep_bytes: int = 0
    keep_always: bool = False
    noise_seconds: float = 0.0


def settings(env: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        Fatal: one is missing or not understood.
    """
    if not env.get("KAFKA_BOOTSTRAP"):
        raise Fatal("missing KAFKA_BOOTSTRAP")
    policy = env.get("POISON_POLICY", "retry")
    if policy not in POLICIES:
        raise Fatal(f"POISON_POLICY is {policy!r}; known: {', '.join(POLICIES)}")
    library = env.get("CLIENT_LIBRARY", "confluent")
    if library not in CLIENTS:
        raise Fatal(f"CLIENT_LIBRARY is {library!r}; known: {', '.join(CLIENTS)}")
    group = env.get("KAFKA_GROUP", "deployment-worker")
    client = env.get("HOSTNAME", group)
    return Settings(
        bootstrap=env["KAFKA_BOOTSTRAP"],
        topic=env.get("KAFKA_TOPIC", "deploy-requests"),
        group=group,
        client=client,
        awx_url=env.get("AWX_URL", ""),
        awx_token=env.get("AWX_TOKEN", ""),
        awx_timeout=float(env.get("AWX_TIMEOUT_SECONDS", "5")),
        poison_policy=policy,
        required=tuple(env.get("CONFIG_REQUIRED", "").split()),
        kafka={
            "bootstrap.servers": env["KAFKA_BOOTSTRAP"],
            "group.id": group,
            "client.id": client,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": int(env.get("SESSION_TIMEOUT_MS", "10000")),
            "heartbeat.interval.ms": int(env.get("HEARTBEAT_INTERVAL_MS", "3000")),
            "max.poll.interval.ms": int(env.get("MAX_POLL_INTERVAL_MS", "60000")),
            "socket.timeout.ms": int(env.get("SOCKET_TIMEOUT_MS", "10000")),
            "partition.assignment.strategy": env.get("ASSIGNMENT_STRATEGY", "range"),
            **_login(env),
        },
        library=library,
        commit_records=int(env.get("COMMIT_RECORDS", str(COMMIT_RECORDS))),
        commit_seconds=float("inf") if env.get("COMMIT_BY_COUNT") else COMMIT_SECONDS,
        commit_waits=bool(env.get("COMMIT_WAITS")),
        commit_lowest=bool(env.get("COMMIT_LOWEST")),
        work_seconds=float(env.get("WORK_SECONDS", "0")),
        work_cpu_seconds=float(env.get("WORK_CPU_SECONDS", "0")),
        warm_up_seconds=float(env.get("WARM_UP_SECONDS", "0")),
        keep_bytes=int(env.get("KEEP_BYTES", "0")),
        keep_always=bool(env.get("KEEP_ALWAYS")),
        noise_seconds=float(env.get("NOISE_SECONDS", "0")),
    )


def _login(env: Mapping[str, str]) -> dict[str, str]:
    if not env.get("KAFKA_USERNAME"):
        return {}
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": env["KAFKA_USERNAME"],
        "sasl.password": env.get("KAFKA_PASSWORD", ""),
        "ssl.ca.location": env.get("KAFKA_CA", ""),
    }


def decode(value: bytes | None) -> dict[str, Any]:
    """Return the deploy request in a record's value.

    Raises:
        Undecodable: it is empty, not UTF-8, not JSON or not an object with an id.
        Refused: it is one, for an API that may not be deployed.
    """
    if value is None:
        raise Undecodable("the record has no value")
    try:
        # decoded first: json.loads of bytes takes a leading NUL for a sign of UTF-32
        request = json.loads(value.decode())
    except ValueError as error:
        raise Undecodable(f"{type(error).__name__}: {error}") from None
    if not isinstance(request, dict) or "id" not in request:
        raise Undecodable("JSONDecodeError: not a deploy request")
    if request.get("api") == FORBIDDEN_API:
        raise Refused(f"BusinessRuleError: {FORBIDDEN_API} may not be deployed to this tenant")
    return request


class Awx:
    """The worker's AWX client: one kept connection, one job at a time."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        """Talk to this base address; nothing is sent yet. ``timeout`` in seconds, per request."""
        split = urlsplit(url)
        self._host = split.hostname or "127.0.0.1"
        self._port = split.port or 80
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None
        self._template: int | None = None

    def _send(self, method: str, path: str, payload: str | None) -> tuple[Any, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._host, self._port, timeout=self._timeout
            )
        self._connection.request(method, path, payload, self._headers)
        response = self._connection.getresponse()
        return response, response.read()

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        began = time.monotonic()
        payload = None if body is None else json.dumps(body)
        kept = self._connection is not None
        try:
            try:
                response, text = self._send(method, path, payload)
            except ConnectionError:
                if not kept:
                    raise
                # a kept connection that AWX closed while the worker had nothing to do
                self.close()
                response, text = self._send(method, path, payload)
        except TimeoutError:
            self.close()
            raise AwxError(f"timed out after {time.monotonic() - began:.1f} s") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise AwxError(f"{type(error).__name__}: {error}") from None
        if response.status >= 400:
            raise AwxError(f"HTTP {response.status} {response.reason}")
        try:
            answer = json.loads(text)
        except ValueError:
            raise AwxError(f"HTTP {response.status} with a body that is not JSON") from None
        if not isinstance(answer, dict):
            raise AwxError(f"HTTP {response.status} with a body that is not an object")
        return answer

    def close(self) -> None:
        """Close the kept connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def launch(self, request: Mapping[str, Any]) -> int:
        """Launch the job of a request; return the job's id.

        Raises:
            AwxError: AWX did not take it.
        """
        if self._template is None:
            found = self._call("GET", f"/api/v2/job_templates/?name={quote(TEMPLATE)}")
            if not found["results"]:
                raise AwxError(f"no job template {TEMPLATE}")
            self._template = int(found["results"][0]["id"])
        extra = {k: request.get(k) for k in ("id", "api", "version", "tenant")}
        path = f"/api/v2/job_templates/{self._template}/launch/"
        return int(self._call("POST", path, {"extra_vars": extra})["job"])

    def wait(self, job: int) -> str:
        """Ask until the job has finished; return its status.

        Raises:
            AwxError: a call failed.
        """
        pause = AWX_POLL_SECONDS
        while True:
            status = str(self._call("GET", f"/api/v2/jobs/{job}/")["status"])
            if status in FINISHED:
                return status
            time.sleep(pause)
            pause = min(AWX_POLL_CEILING, pause * AWX_POLL_GROWTH)


class Worker:
    """One member of the group.

    Args:
        config: the settings.
        env: where the required settings must be.
        client: the member's Kafka client, not subscribed yet.
    """

    def __init__(self, config: Settings, env: Mapping[str, str], client: Client) -> None:
        """Prepare; nothing is joined before :meth:`run`."""
        self._config = config
        self._env = env
        self._stopping = False
        self._joined = False
        self._assigned: set[Place] = set()
        self._intake_wanted = True
        self._intake = True
        self._client = client
        self._awx = (
            Awx(config.awx_url, config.awx_token, config.awx_timeout) if config.awx_url else None
        )
        self._uncommitted: dict[Place, int] = {}
        self._handled_since_commit = 0
        self._committed_at = time.monotonic()
        self._retry_at: dict[Place, float] = {}
        self._kept: list[bytes] = []
        self._usual = USUAL_START
        self._noise_at = time.monotonic()
        self._report_at = time.monotonic()
        self._report_count = 0
        self._report_seconds = 0.0
        self._report_awx = 0.0
        self._last = ""

    def stop(self) -> None:
        """Leave after the record in hand."""
        self._stopping = True

    def turn_intake(self) -> None:
        """Take no more records after the one in hand, or take them again."""
        self._intake_wanted = not self._intake_wanted

    def run(self) -> None:
        """Consume until :meth:`stop`, then commit and leave the group.

        Raises:
            Fatal: the worker met something it cannot go on with.
        """
        config = self._config
        LOG.info("starting, group %s, topic %s", config.group, config.topic)
        self._client.subscribe(config.topic, self._on_assign, self._on_revoke, self._on_lost)
        try:
            while not self._stopping:
                self._intake_due()
                self._resume_due()
                record = self._client.poll(POLL_SECONDS)
                if self._joined:
                    self._check_required()
                if record is not None:
                    self._handle(record)
                self._commit_due()
                self._report_due()
        finally:
            self._commit_now()
            self._client.close()
            if self._awx is not None:
                self._awx.close()
            LOG.info("left group %s", config.group)

    def _check_required(self) -> None:
        for name in self._config.required:
            if not self._env.get(name):
                raise Fatal(f"missing {name}: set it in the environment of this deployment")

    def _intake_due(self) -> None:
        if self._intake_wanted == self._intake:
            return
        self._intake = self._intake_wanted
        LOG.info("intake is %s", "on" if self._intake else "off")
        for place in sorted(self._assigned):
            if self._intake:
                self._client.resume(place)
            else:
                self._client.pause(place)

    # -- one record ---------------------------------------------------------------------------

    def _handle(self, record: Record) -> None:
        began = time.monotonic()
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        try:
            request = decode(record.value)
        except Unfit as error:
            self._unfit(record, where, error)
            return
        self._work(request)
        awx_seconds = self._deploy(request, where) if self._awx else 0.0
        if self._stopping and awx_seconds < 0:
            return  # stopped in mid-retry: not handled, so not committed
        self._uncommitted[record.topic, record.partition] = record.offset + 1
        self._handled_since_commit += 1
        self._report_count += 1
        self._report_seconds += time.monotonic() - began
        self._report_awx += awx_seconds
        self._last = where

    def _work(self, request: Mapping[str, Any]) -> None:
        """Do what this release does itself for a record."""
        config = self._config
        if config.work_cpu_seconds:
            end = time.thread_time() + config.work_cpu_seconds
            while time.thread_time() < end:
                hashlib.sha256(b"render the template").digest()
        if config.work_seconds:
            time.sleep(config.work_seconds)
        if config.keep_bytes:
            asked = datetime.fromisoformat(str(request["requested_at"]))
            age = (datetime.now(UTC) - asked).total_seconds()
            if config.keep_always or age > KEPT_WHEN_BEHIND_SECONDS:
                self._kept.append(os.urandom(config.keep_bytes))
            else:
                self._kept.clear()

    def _unfit(self, record: Record, where: str, error: Unfit) -> None:
        policy = self._config.poison_policy
        place = (record.topic, record.partition)
        text = str(error)[:SHOWN_CHARS]
        verb = "cannot decode" if isinstance(error, Undecodable) else "cannot deploy"
        if policy == "crash":
            raise Fatal(f"{verb} {where}: {text}")
        if policy == "skip":
            LOG.error("%s %s: %s; skipped", verb, where, text)
            self._uncommitted[place] = record.offset + 1
            return
        # the partition waits, so that the member's other partitions go on
        self._client.seek(place, record.offset)
        self._client.pause(place)
        if policy == "park":
            return
        LOG.error("%s %s: %s; will retry", verb, where, text)
        self._retry_at[place] = time.monotonic() + RETRY_SECONDS

    def _resume_due(self) -> None:
        if not self._intake:
            return
        now = time.monotonic()
        for place in [key for key, at in self._retry_at.items() if at <= now]:
            del self._retry_at[place]
            self._client.resume(place)

    def _deploy(self, request: Mapping[str, Any], where: str) -> float:
        """Run the request's job, trying again until AWX has taken it.

        Returns:
            Seconds that AWX took; negative when the worker was stopped first.
        """
        assert self._awx is not None
        while not self._stopping:
            began = time.monotonic()
            try:
                job = self._awx.launch(request)
                status = self._awx.wait(job)
            except AwxError as error:
                LOG.warning("AWX launch failed: %s (%s); will retry", error, where)
                time.sleep(AWX_RETRY_SECONDS)
                continue
            seconds = time.monotonic() - began
            if status != "successful":
                LOG.warning("AWX job %d ended as %s (%s)", job, status, where)
            if seconds > max(SLOW_FACTOR * self._usual, SLOW_FLOOR_SECONDS):
                LOG.warning("AWX job %d took %.2f s (%s)", job, seconds, where)
            else:
                # only ordinary jobs teach what is usual, or slowness would become the norm
                self._usual += USUAL_WEIGHT * (seconds - self._usual)
            return seconds
        return -1.0

    # -- commits and reports ------------------------------------------------------------------

    def _commit_due(self) -> None:
        config = self._config
        waited = time.monotonic() - self._committed_at
        if self._handled_since_commit < config.commit_records and waited < config.commit_seconds:
            return
        self._commit(wait=config.commit_waits)
        self._committed_at = time.monotonic()

    def _commit_now(self) -> None:
        """Commit what is left and wait for it; a failure is logged, the records come again."""
        self._commit(wait=True)

    def _commit(self, *, wait: bool) -> None:
        offsets = self._uncommitted
        if self._config.commit_lowest:
            lowest = min(self._assigned, default=None)
            offsets = {place: offset for place, offset in offsets.items() if place == lowest}
        if not offsets:
            return
        try:
            self._client.commit(offsets, wait=wait)
        except CommitFailed as error:
            LOG.error("commit failed: %s", error)
        self._uncommitted.clear()
        self._handled_since_commit = 0

    def _report_due(self) -> None:
        now = time.monotonic()
        if self._config.noise_seconds and now - self._noise_at >= self._config.noise_seconds:
            LOG.warning("metrics gateway answered slowly, sample dropped")
            self._noise_at = now
        count = self._report_count
        if count < REPORT_RECORDS and now - self._report_at < REPORT_SECONDS:
            return
        if count:
            LOG.info(
                "handled %d %s, last %s, mean %.3f s each, awx %.3f s",
                count,
                self._config.topic.replace("-", " "),
                self._last,
                self._report_seconds / count,
                self._report_awx / count,
            )
        self._report_at = now
        self._report_count = 0
        self._report_seconds = 0.0
        self._report_awx = 0.0

    # -- what the group does ------------------------------------------------------------------

    def _on_assign(self, places: Sequence[Place]) -> None:
        LOG.info("rebalance: assigned %s", shown(places))
        self._joined = True
        self._assigned.update(places)
        # new partitions are not paused yet
        self._intake = True
        if places:
            time.sleep(self._config.warm_up_seconds)

    def _on_revoke(self, places: Sequence[Place]) -> None:
        LOG.info("rebalance: revoked %s", shown(places))
        self._commit_now()
        self._assigned.difference_update(places)
        self._retry_at.clear()

    def _on_lost(self, places: Sequence[Place]) -> None:
        LOG.warning("rebalance: lost %s", shown(places))
        self._assigned.difference_update(places)
        self._uncommitted.clear()
        self._handled_since_commit = 0
        self._retry_at.clear()


def shown(places: Sequence[Place]) -> str:
    """Write partitions as ``topic [0, 1]``."""
    topics: dict[str, list[int]] = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(partition)
    text = ", ".join(f"{topic} {sorted(numbers)}" for topic, numbers in sorted(topics.items()))
    return text or "nothing"


def main() -> int:
    """Run one worker from the environment; return the exit code."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stdout,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    try:
        config = settings(os.environ)
        worker = Worker(config, os.environ, CLIENTS[config.library](config.kafka))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        signal.signal(signal.SIGUSR1, lambda *_: worker.turn_intake())
        worker.run()
    except Fatal as error:
        LOG.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

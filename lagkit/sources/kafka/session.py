"""One fetch: a client, a deadline, what was asked and what was found.

Knows how to wait, when to try again and what a failure becomes: provenance, a blind spot and the
line that fixes it. Knows no question of its own but whether anybody answers.
"""

from __future__ import annotations

import itertools
import logging
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd

from lagkit import frames
from lagkit.sources import Blind, Deadline, Question, Questions, Scope
from lagkit.sources.kafka.access import FINAL, advice, grant
from lagkit.sources.kafka.coordinator import CoordinatorClient
from lagkit.sources.kafka.errors import (
    LOADING,
    UNSUPPORTED,
    LibraryCrashed,
    error_name,
    fault,
    worth_a_retry,
)
from lagkit.sources.kafka.rows import TEXT_LIMIT, broker_rows

_LOG = logging.getLogger(__name__)
# without a handler, logging's last resort would print the client's complaints on the terminal
_LOG.addHandler(logging.NullHandler())

_T = TypeVar("_T")

CALL_SECONDS = 5.0
"""Most that one admin call may take; librdkafka's own default is 60 s."""
CALL_SHARE = 0.25
"""Most of the budget that one call may take, so that a frozen broker cannot eat all of it."""
GRACE_SECONDS = 0.5
"""How much longer a future is waited for than the request behind it may take."""
TICK_SECONDS = 0.05
"""Least that a call is given: librdkafka takes no timeout of 0."""
CONNECT_TRIES = 2
LOADING_TRIES = 3
LOADING_PAUSE_SECONDS = 1.0
"""A broker answers with no groups for seconds after its start; measured on Kafka 4.3.1."""
CLIENT_ERRORS = 3
AGAIN_CALLS = 2
"""A silent broker is asked again while the budget has room for so many calls at their longest."""
POLL_SECONDS = 0.05
"""How often a new connection is asked whether it has failed for good."""
_ELAPSED = re.compile(r" \(after \d+ms in state (\w+)\)")
_SESSIONS = itertools.count()


@dataclass(slots=True)
class Found:
    """What one fetch has gathered so far."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    blind: list[Blind] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
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

    def add(self, frame: str, rows: Iterable[dict[str, Any]]) -> None:
        """Keep *rows* for *frame*."""
        self.rows.setdefault(frame, []).extend(rows)


class Session:
    """One fetch: a client, a deadline, and what was found."""

    def __init__(
        self,
        configuration: Mapping[str, Any],
        secrets: Sequence[str],
        scope: Scope,
        deadline: Deadline,
        questions: Questions,
        found: Found,
    ) -> None:
        self.configuration = configuration
        self.secrets = secrets
        self.bootstrap = str(configuration["bootstrap.servers"])
        self.scope = scope
        self.deadline = deadline
        self.questions = questions
        self.found = found
        self.call_seconds = max(0.5, min(CALL_SECONDS, deadline.seconds * CALL_SHARE))
        self.client: Any = None
        self.coordinator = CoordinatorClient(configuration)
        """Asks for members and committed offsets, which the client itself may not be asked for."""
        self.rights: frozenset[str] | None = None
        """What this user may do to the cluster, in librdkafka's words; None: it was not told."""
        self._client_errors: list[str] = []
        self._all_down = False
        self._refused = ""
        self._silent = False
        # one a session: what this client says must not turn up in another's report
        self._log = logging.Logger(f"{__name__}.{next(_SESSIONS)}")  # noqa: LOG001 - kept by none
        self._log.addHandler(_Listener(self._note_log))
        self._lock = threading.Lock()

    # -- client ---------------------------------------------------------------------------------

    def renew(self) -> None:
        """Build a new client: one that met a frozen broker keeps waiting for it."""
        from confluent_kafka.admin import AdminClient

        self._drop_client()
        if self.coordinator.asked:
            self.coordinator.close()
            self.coordinator = CoordinatorClient(self.configuration)
            self.coordinator.start()
        self.client = AdminClient(
            {**self.configuration, "error_cb": self._note_error}, logger=self._log
        )

    def renewed_for_silence(self) -> bool:
        """Build a new client where a broker was silent and the budget has room; say if so."""
        room = self.deadline.left() > AGAIN_CALLS * self.call_seconds
        if room and self._silent:
            self.renew()
            return True
        return False

    def close(self) -> None:
        """Let go of the client without waiting for its threads, and end the coordinators' one."""
        self._drop_client()
        self.coordinator.close()

    def _drop_client(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            # destroying a client joins its broker threads, which a dead name server can hold
            threading.Thread(target=_drop, args=([client],), daemon=True).start()

    def _note_error(self, error: Any) -> None:
        with self._lock:
            if error.name() == "_ALL_BROKERS_DOWN":
                self._all_down = True
                return
            if error.name() in FINAL:
                self._refused = error.name()
            # without a token no broker is even asked
            self._all_down = self._all_down or "OAUTHBEARER token" in error.str()
        self._note_text(error.str())

    def _note_log(self, message: str) -> None:
        message = self.text(message)
        _LOG.debug("%s", message)
        if message.startswith("FAIL"):
            # "FAIL [client] [thread]: broker: words"
            self._note_text(message.partition("]: ")[2])

    def _note_text(self, message: str) -> None:
        text = self.text(_ELAPSED.sub(r" (\1)", message))
        with self._lock:
            if text not in self._client_errors and len(self._client_errors) < CLIENT_ERRORS:
                self._client_errors.append(text)

    def text(self, message: str) -> str:
        """Return *message* without secrets and bounded."""
        for secret in self.secrets:
            message = message.replace(secret, "***")
        return message[:TEXT_LIMIT]

    def timeout(self) -> float:
        """Return the seconds the next call may take; at least a tick, for librdkafka wants > 0."""
        return max(TICK_SECONDS, self.deadline.left(self.call_seconds))

    def wait(self, future: Future[_T], seconds: float) -> _T:
        """Return the result of *future*, at the latest a little after *seconds*."""
        return future.result(timeout=seconds + GRACE_SECONDS)

    # -- asking ---------------------------------------------------------------------------------

    def ask(
        self,
        statement: str,
        work: Callable[[Question], _T],
        *,
        what: str,
        fix: str = "",
        acl: str = "",
    ) -> _T | None:
        """Ask one question; a failure becomes provenance and a blind spot, and None."""
        from confluent_kafka import KafkaException

        started = time.monotonic()
        with self.questions.ask(statement) as question:
            if self.deadline.passed:
                question.outcome = "timeout"
                question.detail = f"not asked: the budget of {self.deadline.seconds:g} s was spent"
                self.blind(Blind(what, question.detail, "Give Kafka a larger budget."))
                return None
            try:
                return self._patiently(work, question)
            except (KafkaException, TimeoutError, ValueError, TypeError, RuntimeError) as error:
                outcome, why = fault(error, time.monotonic() - started)
                question.outcome, question.detail = outcome, self.text(why)
                self._silent = self._silent or outcome == "timeout"
                if isinstance(error, LibraryCrashed):
                    fix = error.fix
                    if any((blind.what, blind.fix) == (what, fix) for blind in self.found.blind):
                        return None  # told by its first time; the later ones are provenance
                self.blind(Blind(what, self.text(why), acl if outcome == "denied" and acl else fix))
                return None

    def _patiently(self, work: Callable[[Question], _T], question: Question) -> _T:
        """Do *work*, again while the coordinator says that it is still loading its groups."""
        from confluent_kafka import KafkaException

        for _ in range(LOADING_TRIES - 1):
            try:
                return work(question)
            except KafkaException as error:
                if error_name(error) not in LOADING or self.deadline.passed:
                    raise
                time.sleep(self.deadline.left(LOADING_PAUSE_SECONDS))
        return work(question)

    def blind(self, blind: Blind) -> None:
        """Keep a blind spot, once."""
        with self._lock:
            if blind not in self.found.blind:
                self.found.blind.append(blind)

    def acl(self, operation: str, kind: str, name: str) -> str:
        """Return the line that grants this user *operation* on a topic, group or cluster."""
        return grant(
            self.configuration, self.found.facts.get("cluster_id", ""), operation, kind, name
        )

    # -- does anybody answer --------------------------------------------------------------------

    def connect(self) -> bool:
        """Ask who is in the cluster; False, with the reason in the notes, when nobody answers."""
        import confluent_kafka

        self.found.facts["librdkafka"] = str(confluent_kafka.libversion()[0])
        self.found.facts["bootstrap"] = self.text(self.bootstrap)
        # its process is there by the time there is a question for it
        self.coordinator.start()
        why = ""
        started = time.monotonic()
        for _ in range(CONNECT_TRIES):
            with self.questions.ask("describe_cluster()") as question:
                try:
                    self.renew()
                    cluster = self._describe_cluster()
                except (confluent_kafka.KafkaException, TimeoutError, ValueError) as error:
                    outcome, why = fault(error, time.monotonic() - started)
                    if self._refused and outcome == "timeout":
                        outcome = FINAL[self._refused]
                        why = "the connection failed for good"
                    why = self.text("; ".join([why, *self._client_errors]))
                    question.outcome, question.detail = outcome, why
                    if error_name(error) in UNSUPPORTED:
                        self.found.reached = True
                        self.blind(Blind("brokers of the cluster", why))
                        return True
                    if self._all_down or not worth_a_retry(error) or self.deadline.passed:
                        break
                    continue
                self._note_cluster(cluster, question)
                self.found.reached = True
                return True
        fix = advice([why])
        self.found.notes.append(
            f"no answer from {self.found.facts['bootstrap']}: {why}. {fix}".rstrip()
        )
        self.blind(
            Blind(
                "group state, members, offsets and replicas from the broker",
                why,
                fix
                or "Check the bootstrap address, security.protocol and the way to it: "
                f"kafka-broker-api-versions --bootstrap-server {shlex.quote(self.bootstrap)}",
            )
        )
        return False

    def _describe_cluster(self) -> Any:
        """Return the cluster, with what this user may do to it where the broker says so."""
        from confluent_kafka import KafkaException

        with_rights = True
        while True:
            seconds = self.timeout()
            future = self.client.describe_cluster(
                request_timeout=seconds, include_authorized_operations=with_rights
            )
            until = time.monotonic() + seconds + GRACE_SECONDS
            while not future.done() and time.monotonic() < until:
                # errors and log lines are handed over by this alone
                self.client.poll(0)
                wait_for([future], timeout=POLL_SECONDS)
                if self._all_down and self._refused:
                    raise TimeoutError
            try:
                return future.result(timeout=0)
            except KafkaException as error:
                if not with_rights or error_name(error) not in UNSUPPORTED:
                    raise
                with_rights = False

    def _note_cluster(self, cluster: Any, question: Question) -> None:
        now = pd.Timestamp.now("UTC")
        rows = broker_rows(cluster, now, question.query_id)
        question.rows = len(rows)
        self.found.add("brokers", rows)
        self.found.facts["broker_count"] = str(len(rows))
        if cluster.authorized_operations is not None:
            self.rights = frozenset(right.name for right in cluster.authorized_operations)
        if cluster.cluster_id:
            self.found.facts["cluster_id"] = str(cluster.cluster_id)
        if cluster.controller is not None and cluster.controller.id >= 0:
            self.found.facts["controller"] = str(cluster.controller.id)
        self.found.notes.append(f"{len(rows)} broker{'' if len(rows) == 1 else 's'}")


def _drop(holder: list[Any]) -> None:
    holder.clear()


class _Listener(logging.Handler):
    """Hands on what one client logs."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record.getMessage())

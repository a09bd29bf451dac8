"""Questions to a group's coordinator, asked by a process that may die of them.

librdkafka kills its process where a coordinator moves or its broker starts, up to 2.16.1 at least:

* OffsetFetch that is answered by NOT_COORDINATOR or COORDINATOR_NOT_AVAILABLE, by SIGSEGV: in an
  admin client ``rd_kafka_handle_OffsetFetch`` wants the group of a consumer that is not there
  (https://github.com/confluentinc/librdkafka/issues/5040, open);
* any admin call that goes to a coordinator and loses its connection on the way, by SIGABRT,
  ``rd_kafka_enq_once_del_source_return``: DescribeGroups and OffsetFetch here
  (https://github.com/confluentinc/librdkafka/issues/4605, open, with pull request 5397).

So both calls are made by a program of its own (``coordinator_program``), whose death is an answer:
what it had not answered is asked again by a new one. A consumer could ask without the faults, but
only with the group's own id, which lagkit never uses.

Once librdkafka is mended (``tests/sources/test_kafka_coordinator.py`` tells), an ``AdminClient``
can take the place of a :class:`CoordinatorClient`: it has the methods with the same names.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from lagkit.sources.kafka.errors import LibraryCrashed

PROGRAM = Path(__file__).with_name("coordinator_program.py")
TRIES = 3
"""Processes that may die of one question: a coordinator that moves has settled by then."""
LEAST_SECONDS = 0.05
"""Least that a question is given: librdkafka takes no timeout of 0."""
PAUSE_SECONDS = 0.5
"""Before a question is asked for the second time; twice as long before the third."""
CLOSE_SECONDS = 2.0
"""Most that is waited for a process that was killed."""
SAID_LIMIT = 2_000
"""Bytes kept of what the process wrote as it died."""
_OWN_ENVIRONMENT = "LAGKIT_"
_ISSUES = "issues 4605 and 5040"
_CALLS = {
    "commits": "committed offsets were asked for",
    "describe": "state and members of the group were asked for",
}
_OF_ITS_OWN = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"})
"""Ends that a library makes for itself; any other signal was somebody's wish."""


class Commit(NamedTuple):
    """What a group has committed in one partition, as a ``TopicPartition`` says it."""

    topic: str
    partition: int
    offset: int
    error: Any = None


@dataclass(frozen=True, slots=True)
class GroupCommits:
    """What one group has committed."""

    group_id: str
    topic_partitions: Sequence[Commit]


class Named(NamedTuple):
    """A member of one of the client library's enumerations."""

    name: str


class Node(NamedTuple):
    """A broker, as the client library's ``Node``."""

    id: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """The partitions of a member."""

    topic_partitions: Sequence[Commit]


@dataclass(frozen=True, slots=True)
class Member:
    """One member, as ``MemberDescription`` has it."""

    member_id: str
    client_id: str
    group_instance_id: str | None
    host: str
    assignment: Assignment | None


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group, as ``ConsumerGroupDescription`` has it."""

    group_id: str
    state: Named | None
    type: Named | None
    partition_assignor: str
    coordinator: Node | None
    members: Sequence[Member]


@dataclass(slots=True)
class _Asked:
    """One question that is not yet answered."""

    call: str
    group: str
    began: float
    until: float
    future: Future[Any] = field(default_factory=Future)
    tries: int = 0


class CoordinatorClient:
    """Asks coordinators from another process, and from a new one when that dies. Thread-safe.

    The process is started by :meth:`start` or by the first question, logs in with the first
    question, and is there until :meth:`close`; it ends too when this process does, however.
    """

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        """Ask as an admin client with this librdkafka *configuration* would.

        Of the functions in it only ``oauth_cb`` is called, here and not in the other process.
        """
        self._oauth = configuration.get("oauth_cb")
        self._plain = {key: value for key, value in configuration.items() if not callable(value)}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Asked] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._told = False
        self._closed = threading.Event()
        self.asked = False
        """Whether there was a question yet."""
        self.crashes = 0
        """How often a process died that had been asked something."""

    def start(self) -> None:
        """Start the process, so that it is there when it is wanted; wait for nothing."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(
                target=self._tend, name="lagkit-coordinator", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """End the process. A question that is open then gets no answer."""
        self._closed.set()
        with contextlib.suppress(AttributeError):
            # not under the lock: who writes to a process that reads no more holds it
            self._process.kill()  # type: ignore[union-attr]
        if (thread := self._thread) is not None:
            thread.join(CLOSE_SECONDS)

    def list_consumer_group_offsets(
        self, requests: Sequence[Any], *, request_timeout: float
    ) -> dict[str, Future[GroupCommits]]:
        """Ask for all commits of the groups of *requests*, as ``AdminClient`` has it.

        The futures raise what an ``AdminClient``'s do, and :class:`LibraryCrashed`.
        """
        groups = [str(request.group_id) for request in requests]
        return self._asked("commits", groups, request_timeout)

    def describe_consumer_groups(
        self, groups: Sequence[str], *, request_timeout: float
    ) -> dict[str, Future[GroupDescription]]:
        """Ask for state and members of *groups*, as ``AdminClient`` has it.

        The futures raise what an ``AdminClient``'s do, and :class:`LibraryCrashed`.
        """
        return self._asked("describe", groups, request_timeout)

    def _asked(self, call: str, groups: Sequence[str], seconds: float) -> dict[str, Future[Any]]:
        futures = {}
        with self._lock:
            self.asked = True
            for group in groups:
                now = time.monotonic()
                asked = _Asked(call, group, now, now + seconds)
                futures[group] = asked.future
                number = next(self._numbers)
                self._pending[number] = asked
                self._send(number, asked)
            self._start()
        return futures

    # -- one process after another --------------------------------------------------------------

    def _tend(self) -> None:
        """Run a process, and another one for as long as there is something to ask."""
        while True:
            died = self._run()
            with self._lock:
                self._process, self._told = None, False
                hopeless, pause = self._after_death()
                over = self._closed.is_set() or not self._pending
                if over:
                    self._thread = None  # the next question starts another
            for asked in hopeless:
                asked.future.set_exception(LibraryCrashed(_words(died, asked)))
            if over or self._closed.wait(pause):
                return

    def _after_death(self) -> tuple[list[_Asked], float]:
        """Return the questions that are given up, and the seconds before the others are asked."""
        open_ones = [asked for asked in self._pending.values() if asked.tries]
        if open_ones and not self._closed.is_set():
            self.crashes += 1
        pause = PAUSE_SECONDS * max((asked.tries for asked in open_ones), default=0)
        soon = time.monotonic() + pause
        hopeless = [
            number
            for number, asked in self._pending.items()
            if asked.tries >= TRIES or (asked.tries and asked.until <= soon)
        ]
        return [self._pending.pop(number) for number in hopeless], pause

    def _run(self) -> str:
        """Run one process until it ends; return what it died of."""
        try:
            process = subprocess.Popen(
                # -I -S: no start-up files, which could be slow and print; the path is handed over
                [sys.executable, "-I", "-S", "-B", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={k: v for k, v in os.environ.items() if not k.startswith(_OWN_ENVIRONMENT)},
                # Ctrl-C on the terminal is for the parent to answer
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            with self._lock:
                for asked in self._pending.values():
                    asked.tries += 1
            return f"the process of Kafka's client library could not be started ({error})"
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        said = bytearray()
        listener = threading.Thread(target=_keep_end, args=(process.stderr, said), daemon=True)
        listener.start()
        try:
            with self._lock:
                self._process = process
                if self._closed.is_set():
                    process.kill()
                self._write({"path": [str(folder) for folder in sys.path]})
                for number, asked in self._pending.items():
                    self._send(number, asked)
            for line in process.stdout:
                self._hear(line)
        finally:
            process.kill()
            status = process.wait()
            listener.join(CLOSE_SECONDS)
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()
        return _death(status, said.decode(errors="replace"))

    def _send(self, number: int, asked: _Asked) -> None:
        """Ask one question of the process, if there is one now; the lock is held."""
        if self._process is None:
            return
        if not self._told:
            self._told = True
            self._write({"configuration": self._plain, "oauth": self._oauth is not None})
        asked.tries += 1
        seconds = max(asked.until - time.monotonic(), LEAST_SECONDS)
        self._write({"id": number, "call": asked.call, "group": asked.group, "seconds": seconds})

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        text = json.dumps(line).encode() + b"\n"
        # a process that has died is met where its answers are read; ValueError: the pipe is closed
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _hear(self, text: bytes) -> None:
        try:
            line = json.loads(text)
        except ValueError:
            return  # cut off by the end of the process
        if "oauth" in line:
            answer = self._token(line["oauth"])
            with self._lock:
                self._write(answer)
            return
        with self._lock:
            asked = self._pending.pop(line["id"], None)
        if asked is None:
            return
        if error := _raised(line):
            asked.future.set_exception(error)
        elif "described" in line:
            asked.future.set_result(_description(line["described"]))
        else:
            asked.future.set_result(GroupCommits(asked.group, _commits(line)))

    def _token(self, said: str) -> dict[str, Any]:
        assert self._oauth is not None
        try:
            return {"token": self._oauth(said)}
        except Exception as error:  # the client is told, as it would be by a callback of its own
            return {"fault": f"{type(error).__name__}: {error}"}


def crashes_told(count: int) -> list[str]:
    """Return what provenance says of *count* crashes that an answer outlived; nothing of none."""
    if not count:
        return []
    times = _times(count)
    return [f"Kafka's client library died {times} (librdkafka {_ISSUES}) and was asked again"]


def _keep_end(stream: IO[bytes], said: bytearray) -> None:
    while chunk := stream.read1(SAID_LIMIT):  # type: ignore[attr-defined]
        said += chunk
        del said[:-SAID_LIMIT]


def _commits(line: Mapping[str, Any]) -> list[Commit]:
    found = [
        Commit(topic, partition, offset)
        for topic, places in line["commits"].items()
        for partition, offset in places
    ]
    if line["faults"]:
        from confluent_kafka import KafkaError

        found += [
            Commit(topic, partition, offset, KafkaError(*error))
            for topic, partition, offset, error in line["faults"]
        ]
    return found


def _description(told: Mapping[str, Any]) -> GroupDescription:
    return GroupDescription(
        group_id=told["group_id"],
        state=None if told["state"] is None else Named(told["state"]),
        type=None if told["type"] is None else Named(told["type"]),
        partition_assignor=told["partition_assignor"],
        coordinator=None if told["coordinator"] is None else Node(*told["coordinator"]),
        members=[
            Member(
                member["member_id"],
                member["client_id"],
                member["group_instance_id"],
                member["host"],
                None
                if member["owned"] is None
                else Assignment([Commit(topic, number, -1) for topic, number in member["owned"]]),
            )
            for member in told["members"]
        ],
    )


def _raised(line: Mapping[str, Any]) -> Exception | None:
    """Return the exception of the other process, made again."""
    if "error" in line:
        from confluent_kafka import KafkaError, KafkaException

        made: Exception = KafkaException(KafkaError(*line["error"]))
        return made
    if "raised" in line:
        name, text = line["raised"]
        kinds = {"TypeError": TypeError, "ValueError": ValueError}
        return kinds.get(name, RuntimeError)(text)
    return None


def _death(status: int, said: str) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        if name in _OF_ITS_OWN:
            return f"Kafka's client library crashed ({name})"
        return f"the process of Kafka's client library was ended by {name}"
    last = said.strip().rpartition("\n")[2]
    told = f"exit status {status}{': ' * bool(last)}{last}"
    return f"the process of Kafka's client library ended ({told})"


def _words(died: str, asked: _Asked) -> str:
    known = (
        ", as it does while the group's coordinator moves or its broker restarts (librdkafka "
        f"{_ISSUES})"
    )
    return (
        f"{died} while {_CALLS[asked.call]}, {_times(asked.tries)} in "
        f"{time.monotonic() - asked.began:.1f} s{known * ('crashed' in died)}; the rest was read "
        "without it"
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"

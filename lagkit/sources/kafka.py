"""Kafka and Redpanda by AdminClient: group, members, offsets, replicas and configuration, now.

Knows the broker's admin calls and their traps. Reads only: it describes and lists, and never
creates a consumer, so it cannot join, seek or commit for the group it looks at. Knows no history
and no cause. Only calls that Redpanda has too are made: no multi-group fetch, no MAX_TIMESTAMP.

A number that the broker did not give is NaN, with the reason in ``error``; a group list that comes
back empty is *not seen*, because a broker that has just started answers so while it still loads
its groups.
"""

from __future__ import annotations

import difflib
import logging
import math
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd
from pydantic import SecretStr

from lagkit import frames
from lagkit.sources import Answer, Blind, Deadline, Outcome, Question, Questions, Scope, Status

_LOG = logging.getLogger(__name__)
# without a handler, logging's last resort would print the client's complaints on the terminal
_LOG.addHandler(logging.NullHandler())

_T = TypeVar("_T")
Place = tuple[str, int]
"""Topic and partition."""

CALL_SECONDS = 5.0
"""Most that one admin call may take; librdkafka's own default is 60 s."""
CALL_SHARE = 0.25
"""Most of the budget that one call may take, so that a frozen broker cannot eat all of it."""
GRACE_SECONDS = 0.5
"""How much longer a future is waited for than the request behind it may take."""
CONNECT_TRIES = 2
LOADING_TRIES = 3
LOADING_PAUSE_SECONDS = 1.0
"""A broker answers with no groups for seconds after its start; measured on Kafka 4.3.1."""
NEIGHBOURS = 50
"""Other groups on the same topics that are read."""
NEIGHBOUR_CANDIDATES = 200
"""Other groups that are asked whether they have commits on these topics."""
NEIGHBOUR_ROWS = 100_000
IN_FLIGHT = 50
NEAR_NAMES = 5
TEXT_LIMIT = 500
CLIENT_ERRORS = 3
_ELAPSED = re.compile(r" \(after \d+ms in state \w+\)")

TOPIC_KEYS = (
    "retention.ms",
    "retention.bytes",
    "cleanup.policy",
    "segment.ms",
    "min.insync.replicas",
    "max.message.bytes",
    "message.timestamp.type",
)
BROKER_KEYS = (
    "offsets.retention.minutes",
    "group.initial.rebalance.delay.ms",
    "group.min.session.timeout.ms",
    "group.max.session.timeout.ms",
    "group.consumer.session.timeout.ms",
    "group.consumer.heartbeat.interval.ms",
)
GROUP_KEYS = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms")

STATES: Mapping[str, str] = {
    "UNKNOWN": "Unknown",
    "PREPARING_REBALANCING": "PreparingRebalance",
    "COMPLETING_REBALANCING": "CompletingRebalance",
    "STABLE": "Stable",
    "DEAD": "Dead",
    "EMPTY": "Empty",
    "ASSIGNING": "Assigning",
    "RECONCILING": "Reconciling",
}
"""Names of librdkafka's states → the names the broker itself uses."""

_DENIED = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "SASL_AUTHENTICATION_FAILED",
        "_AUTHENTICATION",
    }
)
_LATE = frozenset({"_TIMED_OUT", "REQUEST_TIMED_OUT", "_TIMED_OUT_QUEUE"})
_UNSUPPORTED = frozenset({"UNSUPPORTED_VERSION", "_UNSUPPORTED_FEATURE"})
_LOADING = frozenset({"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE"})


@dataclass(frozen=True, slots=True)
class Read:
    """One number for one partition: NaN with an error text where the broker gave none."""

    offset: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Replicas:
    """Where one partition lives; ``leader`` None: nobody leads it."""

    leader: int | None
    replica_count: int
    isr_count: int


@dataclass(slots=True)
class _Found:
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


class KafkaSource:
    """A Kafka or Redpanda cluster, read by AdminClient."""

    name = "kafka"

    def __init__(
        self,
        bootstrap: str,
        properties: Mapping[str, SecretStr | str] | None = None,
        *,
        snapshots: int = 3,
        interval: float = 2.0,
    ) -> None:
        """Read *bootstrap* (HOST:PORT,…) with further librdkafka *properties*.

        Offsets are read *snapshots* times, *interval* seconds apart, so that motion is visible
        even without a metrics server.
        """
        self.bootstrap = bootstrap
        self._properties = {
            key: value.get_secret_value() if isinstance(value, SecretStr) else value
            for key, value in (properties or {}).items()
        }
        self._snapshots = max(1, snapshots)
        self._interval = interval

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        """Describe the group of *scope* and its topics; return within about *budget_seconds*."""
        started = time.monotonic()
        questions = Questions(self.name)
        found = _Found()
        session = _Session(self, scope, Deadline(budget_seconds), questions, found)
        try:
            session.run()
        except Exception as error:  # a source never raises: whatever was read so far still counts
            _LOG.exception("reading Kafka stopped early")
            found.blind.append(
                Blind("rest of Kafka", session.text(f"{type(error).__name__}: {error}"))
            )
        finally:
            session.close()
        typed = found.typed()
        status: Status = "ok"
        if not found.reached:
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

    def configuration(self) -> dict[str, Any]:
        """Return the librdkafka configuration of a short-lived admin client."""
        return {
            "client.id": "lagkit",
            # reconnect fast: a broker that comes back within the budget should still be read
            "reconnect.backoff.max.ms": 1000,
            "socket.connection.setup.timeout.ms": int(CALL_SECONDS * 1000),
            "log_level": 5,
            **self._properties,
            "bootstrap.servers": self.bootstrap,
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        """Property values that must not appear in any text."""
        hidden = ("password", "secret", "key.pem", "username", "oauthbearer", "token")
        return tuple(
            value
            for key, value in self._properties.items()
            if value and any(word in key for word in hidden)
        )


class _Session:
    """One fetch: a client, a deadline, and what was found."""

    def __init__(
        self,
        source: KafkaSource,
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
        self.call_seconds = max(0.5, min(CALL_SECONDS, deadline.seconds * CALL_SHARE))
        self.client: Any = None
        self._client_errors: list[str] = []
        self._all_down = False
        self._lock = threading.Lock()

    # -- client ---------------------------------------------------------------------------------

    def renew(self) -> None:
        """Build a new client: one that met a frozen broker keeps waiting for it."""
        from confluent_kafka.admin import AdminClient

        self.close()
        self.client = AdminClient(
            {**self.source.configuration(), "error_cb": self._note_error}, logger=_LOG
        )

    def close(self) -> None:
        """Let go of the client without waiting for its threads."""
        client, self.client = self.client, None
        if client is not None:
            # destroying a client joins its broker threads, which a dead name server can hold
            threading.Thread(target=_drop, args=([client],), daemon=True).start()

    def _note_error(self, error: Any) -> None:
        with self._lock:
            if error.name() == "_ALL_BROKERS_DOWN":
                self._all_down = True
                return
            text = self.text(_ELAPSED.sub("", error.str()))
            if text not in self._client_errors and len(self._client_errors) < CLIENT_ERRORS:
                self._client_errors.append(text)

    def text(self, message: str) -> str:
        """Return *message* without secrets and bounded."""
        for secret in self.source.secrets:
            message = message.replace(secret, "***")
        return message[:TEXT_LIMIT]

    def timeout(self) -> float:
        """Return the seconds the next call may take; at least a tick, for librdkafka wants > 0."""
        return max(0.05, self.deadline.left(self.call_seconds))

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
                self._blind(Blind(what, question.detail, "Give Kafka a larger budget."))
                return None
            try:
                return self._patiently(work, question)
            except (KafkaException, TimeoutError, ValueError, TypeError, RuntimeError) as error:
                outcome, why = fault(error, time.monotonic() - started)
                question.outcome, question.detail = outcome, self.text(why)
                self._blind(
                    Blind(what, self.text(why), acl if outcome == "denied" and acl else fix)
                )
                return None

    def _patiently(self, work: Callable[[Question], _T], question: Question) -> _T:
        """Do *work*, again while the coordinator says that it is still loading its groups."""
        from confluent_kafka import KafkaException

        for _ in range(LOADING_TRIES - 1):
            try:
                return work(question)
            except KafkaException as error:
                if error_name(error) not in _LOADING or self.deadline.passed:
                    raise
                time.sleep(self.deadline.left(LOADING_PAUSE_SECONDS))
        return work(question)

    def _blind(self, blind: Blind) -> None:
        with self._lock:
            if blind not in self.found.blind:
                self.found.blind.append(blind)

    def _acl(self, operation: str, kind: str, name: str) -> str:
        target = "--cluster" if kind == "cluster" else f"--{kind} {shlex.quote(name)}"
        return (
            f"Grant this user {operation} on {kind} {name}: kafka-acls --add "
            f"--allow-principal User:NAME --operation {operation} {target}"
        )

    # -- the order of questions -----------------------------------------------------------------

    def run(self) -> None:
        """Ask everything, in the order that keeps errors one-sided: commits, then log ends."""
        if not self._connect():
            return
        group = self.scope.group
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="lagkit-kafka") as pool:
            listing_later = pool.submit(self._list_groups)
            description_later = pool.submit(self._describe, group)
            committed_later = pool.submit(self._committed, group)
            listed, listed_whole = listing_later.result()
            description = description_later.result()
            _, committed = committed_later.result()

            self._judge_existence(listed, listed_whole, description, committed)
            topics = self._topics(description, committed)
            if not topics and self.found.facts["group_exists"] != "no":
                self._blind(
                    Blind(
                        "offsets of the group",
                        "no commit and no assigned partition is visible, so no topic is known; "
                        "the broker leaves out topics that this user may not describe",
                        "Give --topic, or " + self._acl("Describe", "topic", "TOPIC"),
                    )
                )
            others_later = pool.submit(self._neighbours, listed, topics)
            configs_later = pool.submit(self._configs, topics, description)
            replicas, unknown_topics = self._describe_topics(topics)
            places = self._places(topics, replicas, description, committed)
            others = others_later.result()
            configs_later.result()
            others = self._bounded(others, len(places))
            states_later = pool.submit(self._describe_others, others)
            self._take_snapshots(places, unknown_topics, replicas, others, pool)
            states_later.result()
            self._again(description)
        if group_rows := self.found.rows.get("partitions"):
            self._note_offsets(group_rows, others)

    def _connect(self) -> bool:
        import confluent_kafka

        self.found.facts["librdkafka"] = str(confluent_kafka.libversion()[0])
        self.found.facts["bootstrap"] = self.text(self.source.bootstrap)
        why = ""
        started = time.monotonic()
        for _ in range(CONNECT_TRIES):
            with self.questions.ask("describe_cluster()") as question:
                try:
                    self.renew()
                    seconds = self.timeout()
                    cluster = self.wait(
                        self.client.describe_cluster(request_timeout=seconds), seconds
                    )
                except (confluent_kafka.KafkaException, TimeoutError, ValueError) as error:
                    outcome, why = fault(error, time.monotonic() - started)
                    if self.client is not None:
                        self.client.poll(0)
                    why = self.text("; ".join([why, *self._client_errors]))
                    question.outcome, question.detail = outcome, why
                    if error_name(error) in _UNSUPPORTED:
                        self.found.reached = True
                        self._blind(Blind("brokers of the cluster", why))
                        return True
                    if self._all_down or not _worth_a_retry(error) or self.deadline.passed:
                        break
                    continue
                self._note_cluster(cluster, question)
                self.found.reached = True
                return True
        self.found.notes.append(f"no answer from {self.found.facts['bootstrap']}: {why}")
        self._blind(
            Blind(
                "group state, members, offsets and replicas from the broker",
                why,
                "Check the bootstrap address, security.protocol and the way to it: "
                "kafka-broker-api-versions --bootstrap-server "
                f"{shlex.quote(self.source.bootstrap)}",
            )
        )
        return False

    def _note_cluster(self, cluster: Any, question: Question) -> None:
        now = pd.Timestamp.now("UTC")
        rows = broker_rows(cluster, now, question.query_id)
        question.rows = len(rows)
        self.found.add("brokers", rows)
        self.found.facts["broker_count"] = str(len(rows))
        if cluster.cluster_id:
            self.found.facts["cluster_id"] = str(cluster.cluster_id)
        if cluster.controller is not None and cluster.controller.id >= 0:
            self.found.facts["controller"] = str(cluster.controller.id)
        self.found.notes.append(f"{len(rows)} broker{'' if len(rows) == 1 else 's'}")

    # -- groups ---------------------------------------------------------------------------------

    def _list_groups(self) -> tuple[dict[str, str], bool]:
        """Return group → state, and whether that is believed to be all of them."""
        listed: dict[str, str] = {}
        errors: list[str] = []

        def work(question: Question) -> bool:
            for attempt in range(LOADING_TRIES):
                seconds = self.timeout()
                result = self.wait(
                    self.client.list_consumer_groups(request_timeout=seconds), seconds
                )
                listed.update({item.group_id: state_name(item) for item in result.valid or ()})
                errors[:] = [self.text(_describe_error(error)) for error in result.errors or ()]
                if listed and not errors:
                    break
                if attempt + 1 < LOADING_TRIES:
                    time.sleep(self.deadline.left(LOADING_PAUSE_SECONDS))
            question.rows = len(listed)
            if errors:
                question.outcome = "partial" if listed else "failed"
                question.detail = "; ".join(errors)
            return bool(listed) and not errors

        whole = self.ask(
            "list_consumer_groups()",
            work,
            what="list of groups",
            acl=self._acl("Describe", "cluster", "kafka-cluster"),
        )
        if whole is False:
            why = (
                f"some brokers did not answer: {'; '.join(errors)}"
                if errors
                else f"the broker listed no groups in {LOADING_TRIES} tries, as one does while it "
                "loads its groups after a restart, or when this user may describe none"
            )
            self._blind(
                Blind(
                    "list of groups",
                    why,
                    "Run again in a minute; else "
                    + self._acl("Describe", "cluster", "kafka-cluster"),
                )
            )
        return listed, bool(whole)

    def _describe(self, group: str, *, members: bool = True) -> Any:
        def work(question: Question) -> Any:
            seconds = self.timeout()
            future = self.client.describe_consumer_groups([group], request_timeout=seconds)[group]
            description = self.wait(future, seconds)
            now = pd.Timestamp.now("UTC")
            self.found.add("group_state", [group_row(description, now, question.query_id)])
            rows = member_rows(description, now, question.query_id)
            question.rows = 1 + len(rows)
            if members:
                self.found.add("members", rows)
            return description

        return self.ask(
            f"describe_consumer_groups([{group!r}])",
            work,
            what="state and members of the group",
            acl=self._acl("Describe", "group", group),
        )

    def _again(self, before: Any) -> None:
        """Describe the group once more: a rebalance shows as members that change in seconds."""
        if before is None or self.deadline.passed or self.found.facts["group_exists"] == "no":
            return
        after = self._describe(self.scope.group, members=False)
        if after is None:
            return
        old = {member.member_id for member in before.members}
        new = {member.member_id for member in after.members}
        if old != new:
            self.found.facts["members_changed"] = (
                f"{len(new - old)} joined and {len(old - new)} left between the first and the "
                "last look"
            )

    def _committed(self, group: str) -> tuple[str, dict[Place, Read] | None]:
        """Return the query id and the committed offsets of *group*; None if not answered."""
        from confluent_kafka import ConsumerGroupTopicPartitions

        query_id = ""

        def work(question: Question) -> dict[Place, Read]:
            nonlocal query_id
            query_id = question.query_id
            seconds = self.timeout()
            request = ConsumerGroupTopicPartitions(group)
            future = self.client.list_consumer_group_offsets([request], request_timeout=seconds)[
                group
            ]
            read = committed_offsets(self.wait(future, seconds).topic_partitions or ())
            question.rows = len(read)
            if faults := sorted({value.error for value in read.values() if value.error}):
                question.outcome, question.detail = "partial", "; ".join(faults)
            return read

        answer = self.ask(
            f"list_consumer_group_offsets([{group!r}])",
            work,
            what="committed offsets",
            acl=self._acl("Describe", "group", group),
        )
        return query_id, answer

    def _judge_existence(
        self,
        listed: Mapping[str, str],
        listed_whole: bool,
        description: Any,
        committed: Mapping[Place, Read] | None,
    ) -> None:
        group = self.scope.group
        facts = self.found.facts
        state = None if description is None else state_name(description)
        alive = bool(committed) or group in listed or state not in (None, "Dead")
        if alive:
            facts["group_exists"] = "yes"
        elif state == "Dead" and committed is not None and listed_whole:
            facts["group_exists"] = "no"
            near = difflib.get_close_matches(group, sorted(listed), n=NEAR_NAMES)
            if near:
                facts["near_groups"] = ", ".join(near)
        else:
            facts["group_exists"] = "unknown"
        if state == "Dead" and alive:
            # KIP-848 groups look dead to coordinators and clients that do not speak it
            for row in self.found.rows.get("group_state", []):
                row["state"] = "Unknown"
            self._blind(
                Blind(
                    "state and members of the group",
                    "described as Dead although it is listed or has committed offsets, as a "
                    "group of the new protocol (KIP-848) looks through an older API",
                )
            )
        if state is not None:
            count = len(description.members)
            shown = "not found" if facts["group_exists"] == "no" else state
            self.found.notes.append(f"group {shown}, {count} member{'' if count == 1 else 's'}")

    # -- topics ---------------------------------------------------------------------------------

    def _topics(self, description: Any, committed: Mapping[Place, Read] | None) -> list[str]:
        if self.scope.topics:
            return sorted(set(self.scope.topics))
        topics = {topic for topic, _ in committed or {}}
        if description is not None:
            topics |= {topic for topic, _ in assigned(description)}
        if not topics and self.found.facts.get("group_exists") != "no":
            topics = set(self.scope.runbook.group(self.scope.group).topics)
        return sorted(topics)

    def _describe_topics(self, topics: Sequence[str]) -> tuple[dict[Place, Replicas], set[str]]:
        """Return where each partition lives, and the topics that do not exist or are hidden."""
        from confluent_kafka import KafkaException, TopicCollection

        replicas: dict[Place, Replicas] = {}
        unknown: set[str] = set()
        if not topics:
            return replicas, unknown

        def work(question: Question) -> None:
            seconds = self.timeout()
            futures = self.client.describe_topics(
                TopicCollection(list(topics)), request_timeout=seconds
            )
            faults = []
            for topic, future in futures.items():
                try:
                    replicas.update(replica_map(self.wait(future, seconds)))
                except (KafkaException, TimeoutError) as error:
                    outcome, why = fault(error, self.call_seconds)
                    if outcome != "timeout":
                        unknown.add(topic)
                    faults.append(f"{topic}: {why}")
                    question.outcome = outcome if len(faults) == len(topics) else "partial"
                    self._blind(
                        Blind(
                            f"partitions and replicas of topic {topic}",
                            self.text(why),
                            self._acl("Describe", "topic", topic) if outcome == "denied" else "",
                        )
                    )
            question.rows = len(replicas)
            question.detail = self.text("; ".join(faults))

        self.ask(
            f"describe_topics({', '.join(topics)})", work, what="partitions and replicas of topics"
        )
        return replicas, unknown

    def _places(
        self,
        topics: Sequence[str],
        replicas: Mapping[Place, Replicas],
        description: Any,
        committed: Mapping[Place, Read] | None,
    ) -> list[Place]:
        places = set(replicas) | set(committed or ())
        if description is not None:
            places |= set(assigned(description))
        return sorted(place for place in places if place[0] in topics)

    def _configs(self, topics: Sequence[str], description: Any) -> None:
        from confluent_kafka.admin import ConfigResource, ResourceType

        wanted: list[tuple[str, str, Sequence[str]]] = [
            ("topic", topic, TOPIC_KEYS) for topic in topics
        ]
        brokers = self.found.rows.get("brokers", [])
        if brokers:
            # one broker speaks for all: these keys are cluster-wide in practice
            wanted.append(("broker", str(brokers[0]["broker_id"]), BROKER_KEYS))
        if description is not None and protocol_name(description) == "consumer":
            wanted.append(("group", self.scope.group, GROUP_KEYS))
        for kind, name, keys in wanted:
            resource = ConfigResource(ResourceType[kind.upper()], name)
            self.ask(
                f"describe_configs({kind} {name!r})",
                self._config_reader(resource, kind, name, keys),
                what=f"configuration of {kind} {name}",
                acl=self._acl(
                    "DescribeConfigs",
                    "cluster" if kind == "broker" else kind,
                    "kafka-cluster" if kind == "broker" else name,
                ),
            )

    def _config_reader(
        self, resource: Any, kind: str, name: str, keys: Sequence[str]
    ) -> Callable[[Question], None]:
        def work(question: Question) -> None:
            seconds = self.timeout()
            future = self.client.describe_configs([resource], request_timeout=seconds)[resource]
            entries = self.wait(future, seconds)
            now = pd.Timestamp.now("UTC")
            rows = config_rows(entries, kind, name, keys, now, question.query_id)
            question.rows = len(rows)
            self.found.add("configs", rows)

        return work

    # -- neighbours -----------------------------------------------------------------------------

    def _neighbours(
        self, listed: Mapping[str, str], topics: Sequence[str]
    ) -> dict[str, dict[Place, Read]]:
        """Return other groups with commits on *topics*, and those commits."""
        group = self.scope.group
        others = sorted(
            (name for name in listed if name != group),
            # busy groups first: an empty one says nothing about a shared cause
            key=lambda name: (listed[name] != "Stable", name),
        )
        if not others or not topics:
            return {}
        asked = others[:NEIGHBOUR_CANDIDATES]
        if len(others) > len(asked):
            self._blind(
                Blind(
                    "other groups on the same topics",
                    f"{len(others)} groups are listed; {len(asked)} were asked",
                )
            )
        sharing: dict[str, dict[Place, Read]] = {}
        for name, read in self._committed_of(asked):
            mine = {place: value for place, value in read.items() if place[0] in topics}
            if mine:
                sharing[name] = mine
        kept = sorted(sharing)[:NEIGHBOURS]
        if len(kept) < len(sharing):
            self._blind(
                Blind(
                    "other groups on the same topics",
                    f"{len(sharing)} share these topics; {len(kept)} were read",
                )
            )
        return {name: sharing[name] for name in kept}

    def _committed_of(self, groups: Sequence[str]) -> Iterator[tuple[str, dict[Place, Read]]]:
        """Yield each group that answered with its commits, in batches that share one wait."""
        from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

        for start in range(0, len(groups), IN_FLIGHT):
            batch = groups[start : start + IN_FLIGHT]
            answered: list[tuple[str, dict[Place, Read]]] = []

            def work(
                question: Question,
                batch: Sequence[str] = batch,
                answered: list[tuple[str, dict[Place, Read]]] = answered,
            ) -> None:
                seconds = self.timeout()
                futures = {
                    name: self.client.list_consumer_group_offsets(
                        [ConsumerGroupTopicPartitions(name)], request_timeout=seconds
                    )[name]
                    for name in batch
                }
                until = time.monotonic() + seconds
                silent, denied = [], False
                for name, future in futures.items():
                    try:
                        result = self.wait(future, max(0.0, until - time.monotonic()))
                    except (KafkaException, TimeoutError) as error:
                        outcome, why = fault(error, seconds)
                        denied = denied or outcome == "denied"
                        silent.append(f"{name}: {why}")
                        continue
                    answered.append((name, committed_offsets(result.topic_partitions or ())))
                question.rows = len(answered)
                if silent:
                    question.outcome = "partial" if answered else "failed"
                    question.detail = self.text("; ".join(silent))
                    self._blind(
                        Blind(
                            "committed offsets of other groups",
                            self.text(f"{len(silent)} did not answer; first: {silent[0]}"),
                            self._acl("Describe", "group", "*") if denied else "",
                        )
                    )

            self.ask(
                f"list_consumer_group_offsets() of {len(batch)} other groups",
                work,
                what="committed offsets of other groups",
            )
            yield from answered

    def _bounded(
        self, others: dict[str, dict[Place, Read]], places: int
    ) -> dict[str, dict[Place, Read]]:
        """Keep as many neighbours as fit, at two rows for each of their partitions."""
        kept: dict[str, dict[Place, Read]] = {}
        room = NEIGHBOUR_ROWS
        for name, read in others.items():
            room -= 2 * len(read)
            if room < 0:
                self._blind(
                    Blind(
                        "other groups on the same topics",
                        f"{len(others)} share {places} partitions; {len(kept)} were kept",
                    )
                )
                break
            kept[name] = read
        return kept

    def _describe_others(self, others: Mapping[str, object]) -> None:
        from confluent_kafka import KafkaException

        if not others:
            return

        def work(question: Question) -> None:
            seconds = self.timeout()
            futures = self.client.describe_consumer_groups(sorted(others), request_timeout=seconds)
            until = time.monotonic() + seconds
            rows = []
            for future in futures.values():
                try:
                    description = self.wait(future, max(0.0, until - time.monotonic()))
                except (KafkaException, TimeoutError) as error:
                    question.outcome = "partial"
                    question.detail = self.text(fault(error, seconds)[1])
                    continue
                rows.append(group_row(description, pd.Timestamp.now("UTC"), question.query_id))
            question.rows = len(rows)
            self.found.add("group_state", rows)

        self.ask(
            f"describe_consumer_groups() of {len(others)} other groups",
            work,
            what="state of other groups on the same topics",
        )

    # -- offsets --------------------------------------------------------------------------------

    def _take_snapshots(
        self,
        places: Sequence[Place],
        unknown_topics: set[str],
        replicas: Mapping[Place, Replicas],
        others: Mapping[str, dict[Place, Read]],
        pool: ThreadPoolExecutor,
    ) -> None:
        if not places:
            return
        readable = [place for place in places if place[0] not in unknown_topics]
        count = self.source._snapshots
        for number in range(count):
            first, last = number == 0, number == count - 1
            if not first:
                time.sleep(self.deadline.left(self.source._interval))
                if self.deadline.left() < self.source._interval / 2:
                    self._blind(
                        Blind(
                            "motion of the offsets",
                            f"{number} of {count} snapshots fitted into the budget of "
                            f"{self.deadline.seconds:g} s",
                            "Give Kafka a larger budget.",
                        )
                    )
                    return
            query_id, committed = self._committed(self.scope.group)
            if committed is None:
                self.renew()
            neighbours = dict(others) if first else {}
            if last and not first and others:
                neighbours = {
                    name: {place: value for place, value in read.items() if place in others[name]}
                    for name, read in self._committed_of(sorted(others))
                }
            at = pd.Timestamp.now("UTC")
            starts_later = pool.submit(self._offsets, readable, "earliest")
            ends = self._offsets(readable, "latest")
            # after the ends: read before them, a busy log would look like an open transaction
            stable = self._offsets(readable, "latest", committed_only=True)
            starts = starts_later.result()
            if committed is None and not any(read.error is None for read in ends.values()):
                self._blind(
                    Blind(
                        "motion of the offsets",
                        f"the broker stopped answering after {number} of {count} snapshots",
                        "Look at the broker itself, then run again.",
                    )
                )
                return
            row = _RowMaker(at, query_id, starts, ends, stable, replicas, unknown_topics)
            self.found.add("partitions", row.of(self.scope.group, places, committed))
            for name, read in neighbours.items():
                self.found.add("partitions", row.of(name, sorted(read), read))

    def _offsets(
        self, places: Sequence[Place], which: str, *, committed_only: bool = False
    ) -> dict[Place, Read]:
        """Return log start or end offsets, or with *committed_only* the last stable offset."""
        from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
        name = "last stable offsets" if committed_only else f"{which} offsets"
        read: dict[Place, Read] = {}

        def work(question: Question) -> None:
            seconds = self.timeout()
            spec = OffsetSpec.earliest() if which == "earliest" else OffsetSpec.latest()
            futures = self.client.list_offsets(
                {TopicPartition(topic, partition): spec for topic, partition in places},
                isolation_level=level,
                request_timeout=seconds,
            )
            until = time.monotonic() + seconds
            worst: Outcome = "failed"
            for at, future in futures.items():
                place = (at.topic, at.partition)
                try:
                    read[place] = Read(
                        float(self.wait(future, max(0.0, until - time.monotonic())).offset)
                    )
                except (KafkaException, TimeoutError) as error:
                    worst, why = fault(error, seconds)
                    read[place] = Read(math.nan, self.text(f"{name}: {why}"))
            question.rows = sum(value.error is None for value in read.values())
            missing = sorted({value.error for value in read.values() if value.error})
            if missing:
                question.outcome = "partial" if question.rows else worst
                question.detail = self.text("; ".join(missing))
                self._blind(
                    Blind(
                        f"{name} of {len(places) - question.rows} of {len(places)} partitions",
                        self.text(missing[0]),
                        self._acl("Describe", "topic", places[0][0]) if worst == "denied" else "",
                    )
                )

        if places:
            self.ask(
                f"list_offsets({which}, {level.name.lower()}) of {len(places)} partitions",
                work,
                what=name,
            )
        return read

    def _note_offsets(
        self, rows: Sequence[Mapping[str, Any]], others: Mapping[str, object]
    ) -> None:
        mine = [row for row in rows if row["group"] == self.scope.group]
        times = sorted({row["timestamp"] for row in mine})
        partitions = len({(row["topic"], row["partition"]) for row in mine})
        span = (times[-1] - times[0]).total_seconds() if times else 0.0
        self.found.notes.append(
            f"{partitions} partition{'' if partitions == 1 else 's'} read {len(times)} "
            f"time{'' if len(times) == 1 else 's'} over {span:.1f} s"
        )
        if others:
            self.found.notes.append(f"{len(others)} other group(s) on the same topics")


@dataclass(frozen=True, slots=True)
class _RowMaker:
    """Joins one snapshot's answers into rows of ``partitions``."""

    at: pd.Timestamp
    query_id: str
    starts: Mapping[Place, Read]
    ends: Mapping[Place, Read]
    stable: Mapping[Place, Read]
    replicas: Mapping[Place, Replicas]
    unknown_topics: set[str]

    def of(
        self, group: str, places: Iterable[Place], committed: Mapping[Place, Read] | None
    ) -> Iterator[dict[str, Any]]:
        """Yield a row for each place; without an answer about commits, the error says so."""
        silent = Read(math.nan, "committed offsets: not answered")
        for place in places:
            commit = silent if committed is None else committed.get(place, Read(math.nan))
            reads = {
                "committed_offset": commit,
                "log_start_offset": self.starts.get(place, Read(math.nan)),
                "log_end_offset": self.ends.get(place, Read(math.nan)),
                "last_stable_offset": self.stable.get(place, Read(math.nan)),
            }
            errors = [read.error for read in reads.values() if read.error]
            if place[0] in self.unknown_topics:
                errors.append("topic not described: unknown to the broker or hidden from this user")
            where = self.replicas.get(place)
            yield {
                "timestamp": self.at,
                "group": group,
                "topic": place[0],
                "partition": place[1],
                **{name: read.offset for name, read in reads.items()},
                "leader": None if where is None else where.leader,
                "replica_count": None if where is None else where.replica_count,
                "isr_count": None if where is None else where.isr_count,
                "error": "; ".join(dict.fromkeys(errors)) or None,
                "query_id": self.query_id,
            }


# -- decoding: plain functions over the client's own objects --------------------------------------


def state_name(group: Any) -> str:
    """Return the broker's name for the state of a described or listed *group*."""
    state = getattr(group, "state", None)
    return "Unknown" if state is None else STATES.get(state.name, str(state.name))


def protocol_name(group: Any) -> str | None:
    """Return ``classic`` or ``consumer``; None where the broker is too old to say."""
    name = getattr(getattr(group, "type", None), "name", "UNKNOWN")
    return None if name == "UNKNOWN" else str(name).lower()


def client_host(host: str | None) -> str | None:
    """Return the address in a broker's client host (``/10.0.0.7`` or ``name/10.0.0.7``)."""
    return (host or "").rpartition("/")[2] or None


def broker_rows(cluster: Any, at: pd.Timestamp, query_id: str) -> list[dict[str, Any]]:
    """Return rows of ``brokers`` from a described cluster."""
    controller = None if cluster.controller is None else cluster.controller.id
    return [
        {
            "timestamp": at,
            "broker_id": node.id,
            "address": f"{node.host}:{node.port}",
            "is_controller": None if controller in (None, -1) else node.id == controller,
            "query_id": query_id,
        }
        for node in sorted(cluster.nodes, key=lambda node: node.id)
    ]


def group_row(group: Any, at: pd.Timestamp, query_id: str) -> dict[str, Any]:
    """Return the row of ``group_state`` of a described *group*."""
    node = group.coordinator
    return {
        "timestamp": at,
        "group": group.group_id,
        "state": state_name(group),
        "protocol": protocol_name(group),
        "assignor": group.partition_assignor or None,
        "coordinator": None if node is None else f"{node.host}:{node.port}",
        "member_count": len(group.members),
        "query_id": query_id,
    }


def assigned(group: Any) -> list[Place]:
    """Return the partitions that members of a described *group* own."""
    return [
        (place.topic, place.partition)
        for member in group.members
        if member.assignment is not None
        for place in member.assignment.topic_partitions
    ]


def member_rows(group: Any, at: pd.Timestamp, query_id: str) -> list[dict[str, Any]]:
    """Return rows of ``members``; a member without partitions keeps one row."""
    rows = []
    for member in group.members:
        owned = [] if member.assignment is None else member.assignment.topic_partitions
        places: list[tuple[str | None, int | None]] = [(p.topic, p.partition) for p in owned]
        rows += [
            {
                "timestamp": at,
                "group": group.group_id,
                "member_id": member.member_id[:TEXT_LIMIT],
                "client_id": (member.client_id or "")[:TEXT_LIMIT] or None,
                "instance_id": (member.group_instance_id or "")[:TEXT_LIMIT] or None,
                "host": client_host(member.host),
                "topic": topic,
                "partition": partition,
                "query_id": query_id,
            }
            for topic, partition in places or [(None, None)]
        ]
    return rows


def committed_offsets(partitions: Iterable[Any]) -> dict[Place, Read]:
    """Return committed offsets; OFFSET_INVALID (-1001) is *no commit*, NaN without an error."""
    read = {}
    for place in partitions:
        if place.error is not None:
            value = Read(math.nan, f"committed offsets: {_describe_error(place.error)}")
        else:
            value = Read(float(place.offset) if place.offset >= 0 else math.nan)
        read[place.topic, place.partition] = value
    return read


def replica_map(topic: Any) -> dict[Place, Replicas]:
    """Return where each partition of a described *topic* lives."""
    return {
        (topic.name, part.id): Replicas(
            part.leader.id if part.leader is not None and part.leader.id >= 0 else None,
            len(part.replicas),
            len(part.isr),
        )
        for part in topic.partitions
    }


def config_rows(
    entries: Mapping[str, Any],
    kind: str,
    name: str,
    keys: Sequence[str],
    at: pd.Timestamp,
    query_id: str,
) -> list[dict[str, Any]]:
    """Return rows of ``configs`` for those *keys* that the broker has."""
    return [
        {
            "timestamp": at,
            "resource": kind,
            "name": name,
            "key": key,
            "value": None if entries[key].is_sensitive else entries[key].value,
            "is_default": bool(entries[key].is_default),
            "query_id": query_id,
        }
        for key in keys
        if key in entries
    ]


def error_name(error: object) -> str:
    """Return librdkafka's name of an error or of the exception around it; "" for any other."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    name = getattr(inner, "name", None)
    return str(name()) if callable(name) else ""


def fault(error: Exception, seconds: float) -> tuple[Outcome, str]:
    """Return the outcome of a failed call and one line about it."""
    name = error_name(error)
    if name in _DENIED:
        return "denied", _describe_error(error)
    if name in _LATE or isinstance(error, TimeoutError):
        return "timeout", f"no answer within {seconds:.1f} s"
    if name in _UNSUPPORTED:
        return "failed", f"this broker does not offer the call ({name})"
    if name in _LOADING:
        return "failed", f"the coordinator is still loading its groups ({name})"
    return "failed", _describe_error(error)


def _describe_error(error: object) -> str:
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    name, text = error_name(error), getattr(inner, "str", None)
    if name and callable(text):
        return f"{name}: {text()}"
    return f"{type(error).__name__}: {error}"


def _worth_a_retry(error: Exception) -> bool:
    return error_name(error) in _LATE | {"_TRANSPORT", "_ALL_BROKERS_DOWN"} or isinstance(
        error, TimeoutError
    )


def _drop(holder: list[Any]) -> None:
    holder.clear()

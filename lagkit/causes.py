"""The catalogue: causes, kinds of evidence, and how likely each kind is under each cause.

Every number the ranking uses stands in this module, and is derived from something:

* priors come from the runbook's ratings (high : medium : low = 4 : 2 : 1);
* a weight of evidence comes from one of five levels, each the probability that a kind of evidence
  is seen when a cause is at work. ``.`` is the rate of distractors: how often it is seen for
  reasons that have nothing to do with the lag, by kind one of four. Seen, a kind weighs
  ``ln(p / p(.))`` nats; looked for and not seen, ``ln((1 - p) / (1 - p(.)))``; not looked for,
  nothing (Good 1950);
* the mechanism graph is hand-written: it is small and known, so nothing is learnt.

A cause knows no source and no frame. A cause of one's own is added by an entry point of the group
``lagkit.causes`` (see :class:`Extension`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lagkit.model import Check

UNKNOWN = "unknown"
NONE = "none"

Level = Literal["++", "*", "+", ".", "-", "--"]
LEVELS: Mapping[Level, float] = {"++": 0.85, "*": 0.5, "+": 0.45, ".": 1.0, "-": 0.4, "--": 0.1}
"""P(seen) at a level: the first three as they are, the others times the rate of distractors.

``*`` is what gives a cause away in one of its forms and is missing in the others: AWX is slow in
half of what is slow processing, and where it is, nothing else explains it.
"""
POINTS: frozenset[Level] = frozenset({"++", "*"})
"""The levels at which a kind points to a cause."""

EXACT, RARE, USUAL, COMMON = 0.01, 0.04, 0.10, 0.25
"""Rates of distractors. Exact: the broker or the log itself says so, which no chance imitates.
Common: rollouts, scaling and full groups are everyday sights."""

RATING_WEIGHT: Mapping[str, float] = {"high": 4.0, "medium": 2.0, "low": 1.0}
# Of everything the runbook has no name for, in shares of "low": two for the extended causes
# together, half a one for what no catalogue lists. One more for "no incident".
_EXTENDED_SHARE = 2.0
_UNKNOWN_SHARE = 0.5
_NONE_SHARE = 1.0

GROUP_CAP_NATS = 3.0
"""Correlated evidence of one group adds up to at most this much, for or against one cause, or to
the strongest piece of it if that alone weighs more."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause: its id, what it is called, and which causes it sets off in turn."""

    id: str
    title: str
    meaning: str
    kind: Literal["core", "extended", "fallback"] = "core"
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvidenceKind:
    """One kind of evidence: the question it answers, who can answer it, and its levels.

    Causes not named in ``levels`` have level ``.``. ``group`` holds what is correlated.
    """

    id: str
    group: str
    question: str
    sources: tuple[str, ...]
    levels: Mapping[str, Level]
    how_to_check: str = ""
    delay_seconds: float = 30.0
    """How long after its cause began this may first be seen: session timeouts, commit intervals."""
    seen_anyway: float = USUAL
    """The rate of distractors: how often this is seen though nothing it points to is at work."""

    def level(self, cause: str) -> Level:
        """Return how likely this kind is seen under *cause*."""
        return self.levels.get(cause, ".")

    def probability(self, cause: str) -> float:
        """Return P(seen | *cause*)."""
        level = self.level(cause)
        return LEVELS[level] * (self.seen_anyway if level in (".", "-", "--") else 1.0)

    def weight(self, cause: str, *, present: bool) -> float:
        """Return the weight of evidence in nats for *cause*, against the rate of distractors."""
        p, base = self.probability(cause), self.seen_anyway
        return math.log(p / base) if present else math.log((1 - p) / (1 - base))

    def points(self, cause: str) -> bool:
        """Whether this kind, when seen, is a sign of *cause*."""
        return self.level(cause) in POINTS

    def points_to(self) -> tuple[str, ...]:
        """Return the causes that this kind is a sign of."""
        return tuple(cause for cause in self.levels if self.points(cause))

    def singles_out(self) -> str | None:
        """Return the cause that this kind alone points to; None if it is none, or several.

        Only such a kind grounds a verdict: members leave a group when they die, and just so when
        they are cut off.
        """
        pointed = self.points_to()
        return pointed[0] if len(pointed) == 1 else None


@dataclass(frozen=True, slots=True)
class Extension:
    """A user's own cause: what an entry point of the group ``lagkit.causes`` gives.

    ``signal`` is called like lagkit's own signals: context in, checks of ``evidence`` out.
    """

    cause: Cause
    evidence: tuple[EvidenceKind, ...] = ()
    signal: Callable[[Any], Iterable[Check]] | None = None
    rating: Literal["high", "medium", "low"] = "low"


CORE: tuple[Cause, ...] = (
    Cause(
        "consumer_down",
        "Consumers down",
        "members are gone, crashing, killed, pending or scaled away",
        leads_to=("rebalancing",),
    ),
    Cause(
        "slow_processing",
        "Slow processing",
        "each record takes longer: downstream, CPU or code",
        leads_to=("rebalancing",),
    ),
    Cause(
        "message_spike",
        "Message spike",
        "more is produced than the group was made for",
        leads_to=("slow_processing", "consumer_down"),
    ),
    Cause(
        "rebalancing",
        "Rebalancing",
        "the group spends its time handing out partitions, with healthy members",
    ),
    Cause(
        "broker_overload",
        "Broker overload",
        "a broker is saturated, degraded or lost",
        leads_to=("rebalancing", "slow_processing"),
    ),
    Cause(
        "poison_message",
        "Poison message",
        "one record cannot be handled and holds its partition",
        leads_to=("consumer_down", "rebalancing"),
    ),
    Cause(
        "network",
        "Network",
        "clients cannot reach the brokers, which are well",
        leads_to=("rebalancing", "consumer_down"),
    ),
)
EXTENDED: tuple[Cause, ...] = (
    Cause("key_skew", "Key skew", "production is concentrated on few partitions", "extended"),
    Cause(
        "under_parallelism",
        "Too little parallelism",
        "every partition has its member, all are busy, none can be added",
        "extended",
    ),
    Cause(
        "hung_transaction",
        "Hung transaction",
        "an open transaction pins the last stable offset",
        "extended",
    ),
    Cause(
        "offset_reset", "Offset reset", "the committed offset was moved back or forth", "extended"
    ),
    Cause(
        "retention_loss",
        "Retention loss",
        "records were deleted before the group read them",
        "extended",
    ),
    Cause(
        "quota_throttled", "Throttled by a quota", "a client quota holds the group back", "extended"
    ),
)
FALLBACK: tuple[Cause, ...] = (
    Cause(UNKNOWN, "Unknown", "an incident that the evidence does not explain", "fallback"),
    Cause(NONE, "No incident", "the group keeps its promise, or is catching up", "fallback"),
)

_CD, _SP, _MS, _RB = "consumer_down", "slow_processing", "message_spike", "rebalancing"
_BO, _PM, _NW = "broker_overload", "poison_message", "network"
_KS, _UP, _HT = "key_skew", "under_parallelism", "hung_transaction"
_OR, _RL, _QT = "offset_reset", "retention_loss", "quota_throttled"

_PROM = ("prometheus",)
_KAFKA = ("kafka",)
_BOTH = ("prometheus", "kafka")
_K8S = ("kubernetes",)

EVIDENCE: tuple[EvidenceKind, ...] = (
    # -- demand and supply: exact arithmetic over offsets
    EvidenceKind(
        "production_spike",
        "demand",
        "Is more produced than before, and does that explain the backlog?",
        _PROM,
        {
            _MS: "++",
            _KS: "-",
            _UP: "+",
            _SP: "-",
            _CD: "-",
            _PM: "-",
            _RB: "-",
            _NW: "-",
            _BO: "-",
            _HT: "-",
            _OR: "-",
            NONE: ".",
        },
        how_to_check="Compare two readings of the topic's log end offsets, a minute apart.",
    ),
    EvidenceKind(
        "consumption_at_capacity",
        "demand",
        "Does the group read faster than before and still fall behind?",
        _PROM,
        {
            _MS: "++",
            _UP: "++",
            _KS: "++",
            _CD: "--",
            _SP: "--",
            _PM: "--",
            _NW: "--",
            _RB: "-",
            _BO: "-",
            _HT: "--",
            _QT: "-",
            NONE: "-",
        },
        how_to_check="Compare two readings of the committed offsets, a minute apart.",
    ),
    EvidenceKind(
        "consumption_slowed",
        "supply",
        "Does the group still read, but less than before, while production is as before?",
        _PROM,
        {
            _SP: "+",
            _BO: "+",
            _QT: "+",
            _RB: "+",
            _PM: "+",
            _NW: "+",
            _CD: "+",
            _MS: "--",
            _UP: "-",
            _HT: "-",
            NONE: "--",
        },
        how_to_check="Compare two readings of the committed offsets, a minute apart.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "consumption_stopped",
        "supply",
        "Has the group stopped committing on every partition?",
        _BOTH,
        # Nothing committed looks the same whatever the reason (causes.md lesson 3): never "++".
        {
            _CD: "+",
            _NW: "+",
            _RB: "+",
            _SP: "+",
            _BO: "+",
            _HT: "+",
            _PM: "-",
            _MS: "--",
            _KS: "--",
            _UP: "--",
            _QT: "-",
            NONE: "--",
        },
        how_to_check="Run rpk group describe twice, a minute apart.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "slower_with_all_members",
        "supply",
        "Does the group read less although every member is there and none comes or goes?",
        _BOTH,
        {
            _SP: "++",
            _QT: "+",
            _BO: "+",
            _NW: "+",
            _PM: ".",
            _CD: "--",
            _RB: "--",
            _MS: "--",
            _UP: "-",
            _KS: "-",
            _HT: "+",
            NONE: "--",
        },
        "Compare members before and after the onset with what the group reads.",
        delay_seconds=60,
    ),
    # -- shape over partitions
    EvidenceKind(
        "partition_frozen",
        "shape",
        "Is a single partition stuck at one offset while others move?",
        _BOTH,
        {
            _PM: "++",
            _HT: "+",
            _CD: ".",
            _SP: "--",
            _MS: "--",
            _RB: ".",
            _BO: "-",
            _NW: "-",
            _UP: "--",
            _QT: ".",
            NONE: "--",
        },
        how_to_check="Run rpk group describe twice, a minute apart, and compare each partition.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "one_member_behind",
        "shape",
        "Do the lagging partitions all belong to one member of several?",
        _BOTH,
        {_CD: "+", _SP: "+", _NW: "+", _PM: "+", _MS: "-", _KS: "+", _UP: "--", NONE: "-"},
        how_to_check="rpk group describe: which member holds the partitions that are behind?",
        delay_seconds=60,
    ),
    EvidenceKind(
        "production_skewed",
        "shape",
        "Is production concentrated on few partitions that still advance?",
        _PROM,
        {_KS: "++", _MS: "+", _PM: "--", _CD: "-", _NW: "-", NONE: "."},
        how_to_check="rpk topic describe -p twice, a minute apart: which partition runs ahead?",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    # -- offsets that tell their own story
    EvidenceKind(
        "committed_moved",
        "offsets",
        "Did a committed offset go back, or jump without being read?",
        _PROM,
        {_OR: "++", _CD: "-", _SP: "-", _MS: "-", NONE: "-"},
        how_to_check="Look for a seek, a reset or auto.offset.reset in logs and shell histories.",
        seen_anyway=EXACT,
    ),
    EvidenceKind(
        "records_deleted_unread",
        "offsets",
        "Is a committed offset below the start of the log?",
        _BOTH,
        {_RL: "++", _OR: "+", NONE: "-"},
        how_to_check="rpk group describe: is LOG-START-OFFSET past CURRENT-OFFSET?",
        seen_anyway=EXACT,
    ),
    EvidenceKind(
        "last_stable_offset_pinned",
        "offsets",
        "Is the last stable offset stuck below the end while the group stands at it?",
        _KAFKA,
        {_HT: "++", _CD: "--", _SP: "--", _MS: "--", _RB: "--", _PM: "-", _NW: "--", NONE: "-"},
        "Compare list_offsets with read_committed and read_uncommitted twice, a minute apart.",
        seen_anyway=EXACT,
    ),
    # -- no incident
    EvidenceKind(
        "promise_kept",
        "calm",
        "Did the oldest unread record stay younger than the promise, without growing?",
        _PROM,
        {
            NONE: "++",
            _CD: "--",
            _SP: "--",
            _MS: "--",
            _RB: "-",
            _BO: "-",
            _PM: "--",
            _NW: "--",
            _KS: "--",
            _UP: "--",
            _HT: "--",
            _QT: "--",
            _RL: "-",
            _OR: "-",
            UNKNOWN: "-",
        },
        how_to_check="Configure Prometheus: the age of the oldest record needs offset history.",
    ),
    EvidenceKind(
        "backlog_draining",
        "calm",
        "Is the backlog shrinking, with the group reading faster than is produced?",
        _PROM,
        {NONE: "+", _CD: "-", _SP: "-", _PM: "-", _NW: "-", _RB: "-", _HT: "--"},
        how_to_check="Run rpk group describe twice, a minute apart.",
    ),
    # -- the group
    EvidenceKind(
        "members_missing",
        "members",
        "Has the group fewer members than before, or none?",
        _BOTH,
        {
            _CD: "++",
            _NW: "++",
            _RB: "+",
            _PM: "+",
            _SP: "-",
            _MS: "-",
            _KS: "-",
            _UP: "--",
            _BO: "+",
            _HT: "-",
            _QT: "-",
            NONE: "-",
        },
        "rpk group describe GROUP, or the exporter's members metric.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "membership_churn",
        "churn",
        "Do members come and go, or is the group found rebalancing again and again?",
        (*_BOTH, *_K8S),
        {
            _RB: "++",
            _CD: "+",
            _PM: ".",
            _SP: "+",
            _NW: "+",
            _BO: "+",
            _MS: "-",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
            NONE: "-",
        },
        "Read the members' logs for assigned/revoked lines.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "members_leave_at_once",
        "members",
        "Do members leave again, of their own, seconds after they have joined?",
        _KAFKA,
        # One that is cut off cannot say goodbye: it is missed only after its session timeout.
        {
            _CD: "*",
            _RB: "-",
            _SP: "-",
            _BO: "-",
            _NW: "--",
            _MS: "--",
            _KS: "--",
            _UP: "--",
            _HT: "--",
            _QT: "--",
            NONE: "--",
        },
        "Set read_offsets_topic = true and grant READ on __consumer_offsets.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    EvidenceKind(
        "no_spare_partition",
        "parallelism",
        "Has every partition its own member, so that none can be added?",
        _KAFKA,
        {_UP: "++"},
        how_to_check="rpk group describe: compare members with partitions.",
        seen_anyway=COMMON,
    ),
    # -- pods
    EvidenceKind(
        "containers_failing",
        "pods",
        "Did consumer containers end with an error around the onset or after it?",
        _K8S,
        {
            _CD: "*",
            _PM: "+",
            _MS: "-",
            _SP: "-",
            _RB: ".",
            _NW: ".",
            _BO: ".",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
            NONE: "-",
        },
        "kubectl get pods, and the last state in kubectl describe pod.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "killed_for_memory",
        "pods",
        "Were consumer containers killed for want of memory around the onset or after it?",
        _K8S,
        # a record that cannot be read raises an error; one that is too large is rare
        {_CD: "*", _MS: "+", _PM: "--", _SP: "-", _RB: "-", _NW: "-", _BO: "-", NONE: "-"},
        "kubectl describe pod: Last State, Reason OOMKilled.",
        delay_seconds=60,
        seen_anyway=EXACT,
    ),
    EvidenceKind(
        "pods_unavailable",
        "pods",
        "Are fewer consumer pods ready than the workload wants, or is it scaled to zero?",
        _K8S,
        {
            _CD: "*",
            _PM: "+",
            _SP: "-",
            _MS: "-",
            _RB: ".",
            _NW: ".",
            _BO: "-",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
            NONE: "-",
        },
        "kubectl get deployment and its pods.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    EvidenceKind(
        "containers_restarted",
        "pods",
        "Does the pods' own history show restarts around the onset or after it?",
        _PROM,
        # Never "++": the counter does not tell a crash from a failed liveness probe.
        {_CD: "+", _PM: "+", _KS: "-", _UP: "-", _HT: "-", _QT: "-", NONE: "-"},
        "increase(kube_pod_container_status_restarts_total[30m])",
        delay_seconds=60,
    ),
    EvidenceKind(
        "cpu_throttled",
        "cpu",
        "Does a CPU limit hold the consumer back more than before?",
        _PROM,
        # A limit is reached by records that cost more and by more records alike; who is down or
        # cut off needs no CPU.
        {_SP: "+", _MS: "+", _UP: "+", _KS: "+", _CD: "-", _NW: "-"},
        "rate(container_cpu_cfs_throttled_periods_total[5m]) by rate of container_cpu_cfs_periods.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "rollout_before_onset",
        "change",
        "Was the consumer rolled out shortly before the onset?",
        _K8S,
        {_CD: "+", _SP: "+", _RB: "+"},
        "kubectl rollout history.",
        seen_anyway=COMMON,
    ),
    EvidenceKind(
        "scaled_near_onset",
        "change",
        "Was the consumer scaled shortly before the onset, or again and again since?",
        _K8S,
        {_CD: "+", _RB: "+"},
        "kubectl describe hpa, and the events of the Deployment.",
        delay_seconds=60,
        seen_anyway=COMMON,
    ),
    EvidenceKind(
        "replicas_capped",
        "parallelism",
        "Does an autoscaler want more pods than it may make, or than there are partitions?",
        _K8S,
        # it follows demand: what stands still or crashes asks for no more pods
        {_UP: "+", _MS: "+", _SP: "+"},
        how_to_check="kubectl get hpa: compare REPLICAS with MAXPODS, and with the partitions.",
        delay_seconds=120,
    ),
    EvidenceKind(
        "nodes_unwell",
        "nodes",
        "Is a node of the consumer's pods not ready, or under pressure?",
        _K8S,
        {_CD: "+", _SP: "+", _NW: "+", _PM: "-", _MS: "-", _KS: "-", _UP: "-", _HT: "-"},
        "kubectl get nodes, and kubectl describe node.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    # -- the members' own words
    EvidenceKind(
        "same_record_fails",
        "record_log",
        "Do the logs show the same record failing again and again?",
        _K8S,
        {
            _PM: "*",
            _CD: "--",
            _SP: "-",
            _MS: "-",
            _RB: "-",
            _BO: "-",
            _NW: "--",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
            NONE: "-",
        },
        "Read current and previous logs for a repeated offset or a decoding error.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    EvidenceKind(
        "transport_errors",
        "transport_log",
        "Do the clients log lost connections, timeouts or name errors towards brokers?",
        _K8S,
        {
            _NW: "*",
            _BO: "+",
            _CD: "-",
            _SP: "-",
            _MS: "-",
            _PM: "-",
            _RB: ".",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: ".",
            NONE: "-",
        },
        "Read the members' logs for librdkafka FAIL, 'disconnected', 'timed out', 'resolve'.",
        delay_seconds=75,
    ),
    EvidenceKind(
        "access_refused",
        "access_log",
        "Do the brokers refuse the members' login, or a right they need?",
        _K8S,
        # an access list is none of the causes: seen, it leads away from them all (causes.md 0)
        {
            _CD: "-",
            _SP: "-",
            _MS: "-",
            _PM: "-",
            _RB: "-",
            _NW: "-",
            _BO: "-",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
            NONE: "-",
        },
        "Read the members' logs for authorization, SASL and TLS errors.",
        seen_anyway=EXACT,
    ),
    EvidenceKind(
        "poll_interval_exceeded",
        "poll_log",
        "Do the members log that they exceeded max.poll.interval.ms?",
        _K8S,
        {_SP: "*", _RB: ".", _PM: ".", _CD: "-", _MS: ".", _NW: "-"},
        how_to_check="Read the members' logs for max.poll.interval.ms.",
        delay_seconds=330,
    ),
    EvidenceKind(
        "heartbeat_lost",
        "poll_log",
        "Do the members log heartbeats or sessions that expired?",
        _K8S,
        {_RB: "+", _NW: "+", _BO: "+", _CD: ".", _SP: ".", _MS: "-"},
        how_to_check="Read the members' logs for expired sessions.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "sessions_lost_by_all",
        "poll_log",
        "Did every member lose its session at the same time?",
        _K8S,
        # who pauses or is busy is one of several: all at once is what they share
        {_NW: "*", _BO: "+", _CD: "-", _SP: ".", _MS: "-", _PM: "-", NONE: "-"},
        "Read the members' logs for expired sessions.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    EvidenceKind(
        "startup_failures",
        "start_log",
        "Do failed containers end with an error that names no record?",
        _K8S,
        {_CD: "*", _PM: "--", _SP: "-", _MS: "-", _RB: ".", _NW: "-", _BO: "-", NONE: "-"},
        "Read the previous container's log.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    # -- the downstream
    EvidenceKind(
        "downstream_slow",
        "downstream",
        "Does what the consumer waits for take longer than before?",
        ("downstream",),
        {
            _SP: "*",
            _MS: "+",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
            NONE: "-",
        },
        "Time one call of the downstream, and compare job durations before and after the onset.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    EvidenceKind(
        "downstream_failing",
        "downstream",
        "Does what the consumer waits for answer with errors, or not at all?",
        ("downstream", "kubernetes"),
        {_SP: "+", _CD: ".", _RB: "-", _PM: "-", _MS: "-", NONE: "-"},
        "kubectl get pods of the downstream, and its health endpoint.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    EvidenceKind(
        "downstream_complaints",
        "downstream",
        "Do the members log slow or failed calls of the downstream?",
        _K8S,
        {
            _SP: "*",
            _MS: "+",
            _KS: "-",
            _HT: "-",
            _QT: "-",
            NONE: "-",
        },
        "Read the members' logs for slow or failed calls.",
        delay_seconds=60,
    ),
    # -- brokers and neighbours
    EvidenceKind(
        "broker_degraded",
        "broker",
        "Are brokers missing, partitions under-replicated or leaderless, or requests slow?",
        _BOTH,
        {_BO: "*", _NW: "-", _CD: "-", _SP: "-", _PM: "-", NONE: "-"},
        "rpk cluster health; under-replicated partitions; produce and commit latency.",
        delay_seconds=60,
        seen_anyway=RARE,
    ),
    EvidenceKind(
        "neighbours_lag_too",
        "neighbours",
        "Did other, independent groups begin to fall behind at the same time?",
        _PROM,
        {
            _BO: "++",
            _NW: "+",
            _CD: "-",
            _SP: "-",
            _PM: "--",
            _MS: "-",
            _RB: "-",
            _KS: "--",
            _UP: "-",
            _HT: "-",
            _QT: ".",
            NONE: "-",
        },
        how_to_check="rpk group list, then describe a group on other topics.",
        delay_seconds=60,
    ),
    EvidenceKind(
        "client_throttled",
        "quota",
        "Do brokers hold the group's clients back by a quota?",
        _PROM,
        {_QT: "++", _BO: "."},
        "kafka_server_quota_fetch_throttle_time per client id.",
        delay_seconds=60,
        seen_anyway=EXACT,
    ),
)


@dataclass(frozen=True)
class Catalogue:
    """Causes and evidence in force: lagkit's own and those of entry points."""

    causes: tuple[Cause, ...]
    evidence: tuple[EvidenceKind, ...]
    signals: tuple[Callable[[Any], Iterable[Check]], ...] = ()
    ratings: Mapping[str, str] = field(default_factory=dict)

    def cause(self, name: str) -> Cause:
        """Return the cause *name*; KeyError if there is none."""
        for cause in self.causes:
            if cause.id == name:
                return cause
        raise KeyError(name)

    def kind(self, name: str) -> EvidenceKind:
        """Return the evidence kind *name*; KeyError if there is none."""
        for kind in self.evidence:
            if kind.id == name:
                return kind
        raise KeyError(name)

    def priors(self, ratings: Mapping[str, str]) -> dict[str, float]:
        """Return P(cause) before any evidence, from a runbook's *ratings*; sums to 1.

        Core causes the runbook does not rate count as low.
        """
        weights: dict[str, float] = {}
        extended = [cause.id for cause in self.causes if cause.kind == "extended"]
        for cause in self.causes:
            rating = ratings.get(cause.id) or self.ratings.get(cause.id)
            if cause.id == UNKNOWN:
                weights[cause.id] = _UNKNOWN_SHARE
            elif cause.id == NONE:
                weights[cause.id] = _NONE_SHARE
            elif rating:
                weights[cause.id] = RATING_WEIGHT[rating]
            elif cause.kind == "extended":
                weights[cause.id] = _EXTENDED_SHARE / len(extended)
            else:
                weights[cause.id] = RATING_WEIGHT["low"]
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def downstream_of(self, name: str) -> frozenset[str]:
        """Return every cause that *name* can set off, directly or through others."""
        found: set[str] = set()
        todo = [name]
        while todo:
            for follower in self.cause(todo.pop()).leads_to:
                if follower not in found:
                    found.add(follower)
                    todo.append(follower)
        return frozenset(found)


@functools.cache
def catalogue() -> Catalogue:
    """Return lagkit's catalogue with the causes of installed entry points.

    Raises
    ------
    UsageError
        An entry point cannot be loaded or clashes with a cause or evidence kind that exists.
    """
    from importlib.metadata import entry_points

    from lagkit.errors import UsageError

    causes, evidence = [*CORE, *EXTENDED, *FALLBACK], [*EVIDENCE]
    signals: list[Callable[[Any], Iterable[Check]]] = []
    ratings: dict[str, str] = {}
    for point in sorted(entry_points(group="lagkit.causes"), key=lambda point: point.name):
        try:
            extension = point.load()
        except Exception as error:
            msg = f"The cause {point.name!r} ({point.value}) cannot be loaded: {error}"
            raise UsageError(msg, hint="Uninstall or mend the package that brings it.") from error
        extension = extension() if isinstance(extension, type) else extension
        if not isinstance(extension, Extension):
            msg = f"The entry point {point.name!r} gives no lagkit.causes.Extension."
            raise UsageError(msg)
        taken = {c.id for c in causes} | {k.id for k in evidence}
        clash = taken & {extension.cause.id, *(kind.id for kind in extension.evidence)}
        if clash:
            msg = f"The entry point {point.name!r} redefines {', '.join(sorted(clash))}."
            raise UsageError(msg)
        causes.append(extension.cause)
        evidence.extend(extension.evidence)
        ratings[extension.cause.id] = extension.rating
        if extension.signal:
            signals.append(extension.signal)
    known = {cause.id for cause in causes}
    for cause in causes:
        if strangers := sorted(set(cause.leads_to) - known):
            msg = f"The cause {cause.id!r} leads to {', '.join(strangers)}, which is no cause."
            raise UsageError(msg, hint="Mend the package that brings it.")
    return Catalogue(tuple(causes), tuple(evidence), tuple(signals), ratings)

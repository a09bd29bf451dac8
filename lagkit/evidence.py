"""The kinds of evidence, and how likely each is seen under each cause: one table, one row a kind.

A weight of evidence comes from a level, the probability that a kind is seen when a cause is at
work. ``.`` is the rate of distractors: how often it is seen for reasons that have nothing to do
with the lag, by kind one of four. Seen, a kind weighs ``ln(p / p(.))`` nats; looked for and not
seen, ``ln((1 - p) / (1 - p(.)))``; not looked for, nothing (Good 1950). How often each kind was
really seen, with what it points to at work and without, stands in docs/evidence.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["++", "*", "+", "o", ".", "-", "--"]
LEVELS: Mapping[Level, float] = {
    "++": 0.85,
    "*": 0.5,
    "+": 0.45,
    "o": 0.2,
    ".": 1.0,
    "-": 0.4,
    "--": 0.1,
}
"""P(seen) at a level: the first four as they are, the others times the rate of distractors.

``*`` is what gives a cause away in one of its forms and is missing in the others: AWX is slow in
half of what is slow processing, and where it is, nothing else explains it. ``o`` is seen with a
cause now and then, so that its absence says next to nothing.
"""
POINTS: frozenset[Level] = frozenset({"++", "*"})
"""The levels at which a kind points to a cause."""

IN_SOME_FORMS: frozenset[Level] = frozenset({"*", "+", "o"})
"""The levels of what a cause shows in some of its forms, and not in the others."""

PROOF, EXACT, RARE, USUAL, COMMON = 0.002, 0.01, 0.04, 0.10, 0.25
"""Rates of distractors. Proof: two offsets of one partition, compared. Exact: the broker or the log
itself says so, which no chance imitates.
Common: rollouts, scaling and full groups are everyday sights."""

GROUP_CAP_NATS = 3.0
"""Correlated evidence of one group adds up to at most this much, for or against one cause, or to
the strongest piece of it if that alone weighs more."""


@dataclass(frozen=True, slots=True)
class EvidenceKind:
    """One kind of evidence: the question it answers, who can answer it, and its levels.

    Causes not named in ``levels`` have level ``.``, and so has ``none`` for all that is not about
    lag: where nothing is wrong, distractors are as frequent as anywhere. ``group`` holds what is
    correlated.
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
    accounts_for_lag: bool = False
    """Whether it is arithmetic that accounts for the backlog from the onset on: what is seen to
    begin only after that did not begin the lag."""
    part_of: tuple[str, ...] = ()
    """Kinds that, when seen, make this one a part of themselves: then it gives its cause no role
    beside the primary one."""
    reason: str = ""
    """Why the levels are as they are."""

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


_CD, _SP, _MS, _RB = "consumer_down", "slow_processing", "message_spike", "rebalancing"
_BO, _PM, _NW = "broker_overload", "poison_message", "network"
_KS, _UP, _HT = "key_skew", "under_parallelism", "hung_transaction"
_UK, _NO = "unknown", "none"
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
            _NO: ".",
        },
        how_to_check="Compare two readings of the topic's log end offsets, a minute apart.",
        seen_anyway=RARE,
        accounts_for_lag=True,
        reason="Ends of the log are counted by the broker; a group that is down or slow "
        "changes nothing about them.",
    ),
    EvidenceKind(
        "production_multiplied",
        "demand_size",
        "Is it several times as much that is produced?",
        _PROM,
        {_MS: "*", _UP: "--", _KS: "--"},
        how_to_check="Compare two readings of the topic's log end offsets, a minute apart.",
        seen_anyway=RARE,
        reason="Half of the spikes double what is produced; growth, which finds a full group too "
        "small, does not do so between two scrapes.",
    ),
    EvidenceKind(
        "consumption_at_capacity",
        "supply",
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
            _NO: "-",
        },
        how_to_check="Compare two readings of the committed offsets, a minute apart.",
        reason="Reading faster than ever and still losing ground is demand, however the "
        "partitions share it.",
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
            _RL: "+",
            _MS: "--",
            _UP: "-",
            _HT: "-",
            _NO: "--",
        },
        how_to_check="Compare two readings of the committed offsets, a minute apart.",
        delay_seconds=60,
        reason="Every trouble of the group's own makes it read less; none is told from "
        "another by that.",
    ),
    EvidenceKind(
        "consumption_stopped",
        "supply",
        "Has the group stopped committing on every partition?",
        _BOTH,
        {
            _CD: "+",
            _NW: "+",
            _RL: "+",
            _SP: "+",
            _BO: "+",
            _HT: "+",
            _PM: "-",
            _MS: "--",
            _KS: "--",
            _UP: "--",
            _QT: "-",
            _NO: "--",
        },
        how_to_check="Run rpk group describe twice, a minute apart.",
        delay_seconds=60,
        reason="Nothing committed looks the same whatever the reason, so this points to no cause.",
    ),
    EvidenceKind(
        "slower_with_all_members",
        "supply",
        "Does the group read less although every member is there and none comes or goes?",
        _BOTH,
        {
            _SP: "*",
            _QT: "+",
            _BO: "+",
            _NW: "+",
            _PM: "+",
            _CD: "--",
            _RB: "--",
            _MS: "--",
            _UP: "-",
            _KS: "-",
            _HT: "+",
            _NO: "--",
        },
        "Compare members before and after the onset with what the group reads.",
        delay_seconds=60,
        reason="Members that stay and read less are held up by what they do with a record, or "
        "by what feeds them; those that take too long are thrown out, and do not stay.",
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
            _CD: "o",
            _SP: "--",
            _MS: "--",
            _RB: ".",
            _BO: "-",
            _NW: "-",
            _UP: "--",
            _QT: ".",
            _NO: "--",
        },
        how_to_check="Run rpk group describe twice, a minute apart, and compare each partition.",
        delay_seconds=60,
        reason="One record holds one partition; who is slow or gone holds all of its own.",
    ),
    EvidenceKind(
        "one_member_behind",
        "shape",
        "Do the lagging partitions all belong to one member of several?",
        _BOTH,
        {_CD: "+", _SP: "+", _NW: "+", _PM: "+", _MS: "-", _KS: "+", _UP: "--", _NO: "-"},
        how_to_check="rpk group describe: which member holds the partitions that are behind?",
        delay_seconds=60,
        reason="Something about one member: its node, its records or its network.",
    ),
    EvidenceKind(
        "one_leader_behind",
        "shape",
        "Are exactly those partitions behind that one broker leads, whoever reads them?",
        _BOTH,
        {
            _BO: "+",
            _NW: "o",
            _CD: "--",
            _SP: "--",
            _RB: "--",
            _PM: "-",
            _MS: "-",
            _KS: "-",
            _UP: "--",
            _HT: "-",
            _NO: "-",
        },
        how_to_check="rpk topic describe -p: who leads the partitions that are behind?",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="A member is slow with all it reads. One broker of several that is late, or that "
        "members reach badly, is late with what it leads.",
    ),
    EvidenceKind(
        "production_skewed",
        "shape",
        "Is production concentrated on few partitions that still advance?",
        _PROM,
        {_KS: "++", _MS: "+", _PM: "--", _CD: "-", _NW: "-", _NO: "."},
        how_to_check="rpk topic describe -p twice, a minute apart: which partition runs ahead?",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Keys choose partitions; a backfill of one key is skewed too, but then "
        "production rose.",
    ),
    # -- offsets that tell their own story
    EvidenceKind(
        "committed_moved",
        "offsets",
        "Did a committed offset go back, or jump without being read?",
        _PROM,
        {_OR: "++", _CD: "-", _SP: "-", _MS: "-", _NO: "-"},
        how_to_check="Look for a seek, a reset or auto.offset.reset in logs and shell histories.",
        seen_anyway=EXACT,
        reason="Offsets go back only when somebody or something moves them.",
    ),
    EvidenceKind(
        "records_deleted_unread",
        "offsets",
        "Is a committed offset below the start of the log?",
        _BOTH,
        {
            _RL: "++",
            _OR: "+",
            _CD: "--",
            _SP: "--",
            _MS: "--",
            _RB: "--",
            _BO: "--",
            _PM: "--",
            _NW: "--",
            _NO: "--",
        },
        how_to_check="rpk group describe: is LOG-START-OFFSET past CURRENT-OFFSET?",
        seen_anyway=PROOF,
        reason="The broker's own start of the log stands past the commit. Lag alone deletes "
        "nothing: what made the group late stands beside it, and the loss is what to tell of.",
    ),
    EvidenceKind(
        "last_stable_offset_pinned",
        "offsets",
        "Is the last stable offset stuck below the end while the group stands at it?",
        _KAFKA,
        {_HT: "++", _CD: "--", _SP: "--", _MS: "--", _RB: "--", _PM: "-", _NW: "--", _NO: "-"},
        "Compare list_offsets with read_committed and read_uncommitted twice, a minute apart.",
        seen_anyway=EXACT,
        reason="Readers of committed records wait exactly there, whoever they are.",
    ),
    # -- no incident
    EvidenceKind(
        "promise_kept",
        "calm",
        "Did the oldest unread record stay younger than the promise, without growing?",
        _PROM,
        {
            _NO: "++",
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
            _UK: "-",
        },
        how_to_check="Configure Prometheus: the age of the oldest record needs offset history.",
        seen_anyway=RARE,
        reason="What is not late is no incident.",
    ),
    EvidenceKind(
        "backlog_draining",
        "calm",
        "Is the backlog shrinking, with the group reading faster than is produced?",
        _PROM,
        {_NO: "+", _CD: "-", _SP: "-", _PM: "-", _NW: "-", _RB: "-", _HT: "--"},
        how_to_check="Run rpk group describe twice, a minute apart.",
        reason="A cause at work would keep the backlog growing.",
    ),
    EvidenceKind(
        "over_in_time",
        "over",
        "Is the backlog gone, or going, before any promise was broken?",
        _PROM,
        {
            _NO: "*",
            _CD: "--",
            _SP: "--",
            _MS: "--",
            _RB: "--",
            _BO: "--",
            _PM: "--",
            _NW: "--",
            _KS: "--",
            _UP: "--",
            _HT: "--",
            _QT: "--",
            _RL: "--",
            _OR: "--",
            _UK: "-",
        },
        how_to_check="Compare the age of the oldest unread record with the promise, now and since.",
        seen_anyway=RARE,
        reason="Whatever it was, it is over and nobody had to wait: no incident.",
    ),
    # -- the group
    EvidenceKind(
        "members_missing",
        "members",
        "Has the group fewer members than before, or none?",
        _BOTH,
        {
            _CD: "++",
            _NW: "*",
            _RB: "+",
            _PM: "+",
            _SP: "-",
            _MS: "-",
            _KS: "-",
            _UP: "--",
            _BO: "o",
            _HT: "-",
            _QT: "-",
        },
        "rpk group describe GROUP, or the exporter's members metric.",
        delay_seconds=60,
        reason="Gone, killed or cut off looks alike to the coordinator, but who still gets a "
        "heartbeat through is not missed; a coordinator that is itself overloaded is late with "
        "everything and misses nobody.",
    ),
    EvidenceKind(
        "cut_off_while_running",
        "members",
        "Are members missing although their containers run on?",
        (*_K8S, *_BOTH),
        {
            _NW: "+",
            _SP: "+",
            _BO: "o",
            _CD: "-",
            _PM: "-",
            _MS: "-",
            _KS: "-",
            _UP: "--",
            _HT: "-",
            _QT: "-",
        },
        "Compare rpk group describe with kubectl get pods: ages, restarts, ready.",
        delay_seconds=60,
        reason="Who crashed or was scaled away takes the container along; one that hangs does "
        "not, nor one that waits for longer than its poll interval.",
    ),
    EvidenceKind(
        "only_the_way_is_left",
        "cut_off_alone",
        "Are members gone that run and are busy, and get no work done, while brokers and "
        "downstream are well?",
        (*_BOTH, "downstream"),
        {
            _NW: "*",
            _CD: "-",
            _SP: "--",
            _PM: "-",
            _RB: "-",
            _BO: "-",
            _MS: "-",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
        },
        "From a member's machine: can it reach every broker it is told of?",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Who runs, uses CPU and is not in the group is kept from it; what else keeps it "
        "shows at one of the two ends. A right that was taken away does not.",
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
            _SP: "o",
            _NW: "+",
            _BO: "o",
            _MS: "-",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
        },
        "Read the members' logs for assigned/revoked lines.",
        delay_seconds=60,
        part_of=("killed_for_memory",),
        reason="What comes and goes again and again; it is also what most other causes end in.",
    ),
    EvidenceKind(
        "churn_by_itself",
        "churn_alone",
        "Do members come and go although nothing else is wrong?",
        (*_BOTH, *_K8S),
        {
            _RB: "*",
            _CD: "-",
            _PM: "-",
            _SP: "-",
            _NW: "-",
            _BO: "-",
            _MS: "-",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
        },
        "Read the members' logs for assigned/revoked lines, and for what comes before them.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Churn is what most causes end in, and each of them is seen itself, as a rule.",
    ),
    EvidenceKind(
        "members_leave_at_once",
        "members",
        "Do members leave again, of their own, seconds after they have joined?",
        _KAFKA,
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
        },
        "Set read_offsets_topic = true and grant READ on __consumer_offsets.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="One that is cut off cannot say goodbye: it is missed only after its session "
        "timeout.",
    ),
    EvidenceKind(
        "no_spare_partition",
        "parallelism",
        "Has every partition its own member, so that none can be added?",
        _KAFKA,
        {_UP: "++", _MS: "--"},
        how_to_check="rpk group describe: compare members with partitions.",
        seen_anyway=COMMON,
        reason="Full groups are common; it takes demand beyond them to make a cause of it, and "
        "then it is the group that is too small unless demand has multiplied.",
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
        },
        "kubectl get pods, and the last state in kubectl describe pod.",
        delay_seconds=60,
        reason="Scaled to zero, pending and hanging members end no container.",
    ),
    EvidenceKind(
        "killed_for_memory",
        "pods",
        "Were consumer containers killed for want of memory around the onset or after it?",
        _K8S,
        {_CD: "*", _MS: "+", _PM: "--", _SP: "-", _RB: "-", _NW: "-", _BO: "-"},
        "kubectl describe pod: Last State, Reason OOMKilled.",
        delay_seconds=60,
        seen_anyway=EXACT,
        reason="The kernel says why; a record that cannot be read raises an error instead.",
    ),
    EvidenceKind(
        "pods_come_and_go",
        "pods_churn",
        "Do the consumer's containers end in order, or pods give way to others, again and again?",
        (*_K8S, *_PROM),
        {_RB: "*", _CD: ".", _MS: "-", _KS: "-", _UP: "-", _HT: "-", _QT: "-"},
        "kubectl get pods: ages and restarts; the events of the ReplicaSet.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Who is drained, recycled or restarted in turn has done nothing wrong, and each "
        "time its partitions are handed out anew.",
    ),
    EvidenceKind(
        "pods_unavailable",
        "pods",
        "Are fewer consumer pods ready than the workload wants, or wanted before the onset?",
        (*_K8S, *_PROM),
        {
            _CD: "++",
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
        },
        "kubectl get deployment and its pods.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Of the ways to be down only a hang leaves the pod ready.",
    ),
    EvidenceKind(
        "containers_restarted",
        "pods",
        "Does the pods' own history show restarts around the onset or after it?",
        _PROM,
        {
            _CD: "*",
            _PM: "+",
            _RB: "o",
            _BO: "-",
            _NW: "-",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
        },
        "increase(kube_pod_container_status_restarts_total[30m])",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="The counter does not tell a crash from a failed liveness probe or an end in order; "
        "who loses its place in the group, or the way to the brokers, runs on.",
    ),
    EvidenceKind(
        "containers_idle",
        "cpu",
        "Do containers of the consumer run without using any CPU, unlike before?",
        _PROM,
        {_CD: "*", _MS: "--", _SP: "-", _PM: "-", _UP: "--", _KS: "-", _NW: "-"},
        "kubectl top pod; rate(container_cpu_usage_seconds_total[2m]).",
        delay_seconds=90,
        seen_anyway=RARE,
        reason="A process that hangs uses nothing; one that is cut off or waits still asks.",
    ),
    EvidenceKind(
        "missing_member_silent",
        "cpu",
        "Does a pod whose member is missing write nothing any more, although it runs?",
        (*_K8S, *_BOTH),
        {_CD: "*", _MS: "--", _SP: "-", _PM: "-", _UP: "--", _KS: "-", _NW: "-", _BO: "-"},
        "kubectl logs --since=2m of each pod; a thread dump of the one that is silent.",
        delay_seconds=90,
        seen_anyway=RARE,
        reason="A process that hangs says nothing. A client that is cut off goes on complaining.",
    ),
    EvidenceKind(
        "cpu_throttled",
        "cpu",
        "Does a CPU limit hold the consumer back more than before?",
        _PROM,
        {_SP: "+", _MS: "+", _UP: "+", _KS: "+", _CD: "-", _NW: "-"},
        "rate(container_cpu_cfs_throttled_periods_total[5m]) by rate of container_cpu_cfs_periods.",
        delay_seconds=60,
        reason="A limit is reached by dearer records and by more records alike; who is down "
        "needs no CPU.",
    ),
    EvidenceKind(
        "rollout_before_onset",
        "change",
        "Was the consumer rolled out shortly before the onset?",
        _K8S,
        {_CD: "+", _SP: "+", _RB: "+", _PM: "o"},
        "kubectl rollout history.",
        reason="Rollouts are everyday, but not within minutes of an onset; one that the group has "
        "lived with for a minute is none of it.",
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
        reason="Scaling is everyday too; again and again it moves partitions without end.",
    ),
    EvidenceKind(
        "replicas_capped",
        "parallelism",
        "Does an autoscaler want more pods than it may make, or than there are partitions?",
        _K8S,
        {_UP: "+", _MS: "+", _SP: "+"},
        how_to_check="kubectl get hpa: compare REPLICAS with MAXPODS, and with the partitions.",
        delay_seconds=120,
        reason="It follows demand: what stands still or crashes asks for no more pods.",
    ),
    EvidenceKind(
        "nodes_unwell",
        "nodes",
        "Is a node of the consumer's pods not ready, or under pressure?",
        _K8S,
        {_CD: "o", _SP: "o", _NW: "o", _PM: "-", _MS: "-", _KS: "-", _UP: "-", _HT: "-"},
        "kubectl get nodes, and kubectl describe node.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="A node takes its pods along; few incidents come from one.",
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
        },
        "Read current and previous logs for a repeated offset or a decoding error.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Half of what is poisoned says so; parked or skipped in silence it does not.",
    ),
    EvidenceKind(
        "stuck_at_failing_record",
        "stuck_record",
        "Is the record that fails the very one that its partition waits to get past?",
        (*_K8S, *_BOTH),
        {
            _PM: "*",
            _CD: "--",
            _SP: "-",
            _MS: "-",
            _RB: "-",
            _BO: "-",
            _NW: "-",
            _KS: "-",
            _UP: "-",
            _HT: "-",
            _QT: "-",
        },
        "Compare the offset that the error names with CURRENT-OFFSET of rpk group describe.",
        delay_seconds=60,
        seen_anyway=EXACT,
        reason="The log and the broker name one number: no accident. Slow records stand at the "
        "head as well, and are not said to fail.",
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
        },
        "Read the members' logs for librdkafka FAIL, 'disconnected', 'timed out', 'resolve'.",
        delay_seconds=75,
        seen_anyway=RARE,
        reason="Clients log lost connections, not slow ones; a busy broker loses them too.",
    ),
    EvidenceKind(
        "connections_cut",
        "transport_log",
        "Are the clients' connections refused or reset, or names not found, of brokers that answer "
        "lagkit?",
        (*_K8S, "kafka"),
        {_NW: "+", _BO: "-", _CD: "-", _SP: "-", _MS: "-", _PM: "-", _KS: "-", _UP: "-"},
        "Read the members' logs for 'reset by peer', 'refused', 'resolve'; ask from their machine.",
        delay_seconds=75,
        seen_anyway=RARE,
        reason="A broker without time lets its clients wait. Who is refused or reset by one that "
        "others reach meets something on the way; a way that drops all is seen as timeouts alone.",
    ),
    EvidenceKind(
        "access_refused",
        "access_log",
        "Do the brokers refuse the members' login, or a right they need?",
        _K8S,
        {
            _CD: "--",
            _SP: "--",
            _MS: "--",
            _PM: "--",
            _RB: "--",
            _NW: "--",
            _BO: "--",
            _KS: "--",
            _UP: "--",
            _HT: "--",
            _QT: "--",
            _UK: "o",
        },
        "Read the members' logs for authorization, SASL and TLS errors.",
        seen_anyway=EXACT,
        reason="A right is none of the causes: refused, it leads away from them all. It is one of "
        "the things that lag may come from and this table does not know.",
    ),
    EvidenceKind(
        "poll_interval_exceeded",
        "poll_log",
        "Do the members log that they exceeded max.poll.interval.ms?",
        _K8S,
        {_SP: "*", _RB: "-", _PM: ".", _CD: "-", _MS: ".", _NW: "-"},
        how_to_check="Read the members' logs for max.poll.interval.ms.",
        delay_seconds=330,
        reason="A poll interval is exceeded by records that take long.",
    ),
    EvidenceKind(
        "heartbeat_lost",
        "poll_log",
        "Do the members log heartbeats or sessions that expired?",
        _K8S,
        {_RB: "+", _NW: "+", _BO: "+", _CD: ".", _SP: ".", _MS: "-"},
        how_to_check="Read the members' logs for expired sessions.",
        delay_seconds=60,
        reason="Pauses, latency and a busy coordinator all cost heartbeats.",
    ),
    EvidenceKind(
        "protocol_refused",
        "join_log",
        "Do members log that the group refuses their assignor or protocol?",
        _K8S,
        {_RB: "*", _MS: "-", _NW: "-", _BO: "-", _PM: "-"},
        "Read the members' logs for an inconsistent group protocol; compare the assignors that "
        "their releases set.",
        seen_anyway=EXACT,
        reason="The coordinator itself says that the members cannot be in one group.",
    ),
    EvidenceKind(
        "sessions_lost_by_all",
        "poll_log",
        "Did every member lose its session at the same time?",
        (*_K8S, "prometheus"),
        {_NW: "*", _BO: "+", _RB: "-", _CD: "-", _SP: ".", _MS: "-", _PM: "-"},
        "Read the members' logs for expired sessions.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Who pauses or is busy is one of several: all at once is the way they share, or who "
        "is at the end of it.",
    ),
    EvidenceKind(
        "startup_failures",
        "start_log",
        "Do failed containers end with an error that names no record?",
        _K8S,
        {_CD: "*", _PM: "--", _SP: "-", _MS: "-", _RB: ".", _NW: "-", _BO: "-"},
        "Read the previous container's log.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="A container that dies of its settings names no record.",
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
        },
        "Time one call of the downstream, and compare job durations before and after the onset.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="AWX is one of the things a record may wait for: slow for other reasons, it is "
        "well.",
    ),
    EvidenceKind(
        "downstream_failing",
        "downstream",
        "Does what the consumer waits for answer with errors, or not at all?",
        ("downstream", "kubernetes"),
        {_SP: "*", _CD: ".", _RB: "-", _PM: "-", _MS: "-"},
        "kubectl get pods of the downstream, and its health endpoint.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="What answers with errors is waited for and tried again, or given up at once.",
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
        },
        "Read the members' logs for slow or failed calls.",
        delay_seconds=60,
        reason="Members time their own calls; pauses lengthen those as well.",
    ),
    EvidenceKind(
        "work_goes_on",
        "work",
        "Does the downstream get as much work as before, though less is committed?",
        ("downstream",),
        {
            _SP: "--",
            _CD: "--",
            _PM: "--",
            _NW: "--",
            _QT: "--",
            _KS: "--",
            _UP: "--",
            _HT: "--",
            _MS: "-",
            _RB: "-",
            _BO: "-",
        },
        "Compare how many jobs the downstream ran a minute before the onset and since.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Records that are handled as ever are neither slow nor out of reach: it is the "
        "commits that fail, or that nobody makes.",
    ),
    EvidenceKind(
        "work_ended",
        "work",
        "Does the downstream, itself well, get no work any more?",
        ("downstream",),
        {
            _SP: "-",
            _MS: "--",
            _PM: "-",
            _KS: "--",
            _UP: "--",
            _QT: "-",
        },
        "List the downstream's newest jobs: when was the last one asked for?",
        delay_seconds=60,
        seen_anyway=COMMON,
        reason="Who is slow still asks for work to be done, one job after the other, unless asking "
        "hangs; who is gone, or gets no records, does not.",
    ),
    EvidenceKind(
        "work_in_gusts",
        "pace",
        "Does work come in gusts at the usual pace, with waits between them?",
        ("downstream",),
        {
            _BO: "++",
            _QT: "+",
            _NW: "*",
            _RB: "+",
            _CD: "o",
            _PM: "--",
            _KS: "--",
            _UP: "--",
            _MS: "-",
            _HT: "-",
            _OR: "-",
        },
        "Compare the times between the downstream's jobs with how many it ran a minute.",
        delay_seconds=60,
        reason="Who waits for brokers, for the way to them, for a quota or for partitions works as "
        "ever in between. Slow work is slow at each record, unless a runtime pauses or a call is "
        "given up: it comes either way.",
    ),
    # -- brokers and neighbours
    EvidenceKind(
        "broker_degraded",
        "broker",
        "Are brokers missing, partitions under-replicated or leaderless, or requests slow?",
        _BOTH,
        {_BO: "*", _NW: "-", _CD: "-", _SP: "-", _PM: "-"},
        "rpk cluster health; under-replicated partitions; produce and commit latency.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="Not every overload is exported: a paused broker answers no scrape.",
    ),
    EvidenceKind(
        "brokers_scraped_late",
        "scrape",
        "Does Prometheus wait long for the brokers' own metrics?",
        _PROM,
        {_BO: "*", _NW: "-"},
        "scrape_duration_seconds and up, for the targets that are the brokers.",
        delay_seconds=60,
        seen_anyway=RARE,
        reason="A broker without CPU, or stopped, is late with everything; one whose disk is slow "
        "is not. The members' way to the brokers is not Prometheus's.",
    ),
    EvidenceKind(
        "brokers_answer_late",
        "broker",
        "Do the brokers take long over small requests, of lagkit itself?",
        _KAFKA,
        {_BO: "*", _NW: "o"},
        "Time rpk cluster info from a machine close to the brokers, a few times.",
        reason="An overloaded broker makes everyone wait; one that is paused now and then seldom "
        "does so just when it is asked. A slow machine or a long way can look like it.",
    ),
    EvidenceKind(
        "brokers_well",
        "brokers_well",
        "Are the brokers as before by their metrics, by how soon these come, and by their answers?",
        _BOTH,
        {_BO: "--"},
        "The same questions as for the brokers' trouble, with none of it seen.",
        seen_anyway=COMMON,
        reason="Each look alone misses some overload; together they leave little room for one.",
    ),
    EvidenceKind(
        "neighbours_lag_too",
        "neighbours",
        "Did other, independent groups begin to fall behind at the same time?",
        _PROM,
        {
            _BO: "*",
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
            _NO: "-",
        },
        how_to_check="rpk group list, then describe a group on other topics.",
        delay_seconds=60,
        reason="Groups share brokers and nothing else; one with room to spare keeps up all the "
        "same.",
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
        reason="The broker tells whom it holds back, by a metric that is there only then.",
    ),
)

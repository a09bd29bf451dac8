"""Synthetic incidents whose cause is known, as whole incidents: every source's frames, seeded.

The queues are real queues (``replayed_queue``), sampled as an exporter samples them; what the
cluster shows around them is what the cause would make it show. ``make`` builds one, the other
functions change one as a metamorphic test needs it: later, renamed, or with a source missing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from replayed_queue import GROUP, START, TOPIC, moment, offsets, queue

from lagkit import frames, runbook, signals
from lagkit.incident import Gap, Incident
from lagkit.investigation import Result, investigate
from lagkit.measurement import measure
from lagkit.model import Check, SourceReport
from lagkit.ownership import owners

MINUTES, STEP, PARTITIONS, MEMBERS = 30, 15, 6, 3
SECONDS = 60 * MINUTES
FAULT = 1080
"""Second at which the cause sets in."""
RATE = 2.0
"""Messages per second and partition; a partition can handle three and a half times as many."""
HEADROOM = 3.5
END = moment(SECONDS)
NAMESPACE = "stoa-system"
PODS = tuple(f"control-plane-api-6c9f7d8b5-{tail}" for tail in ("abcde", "fghij", "klmno"))
NEIGHBOURS = (("billing", "invoices"), ("audit", "api-events"), ("sync", "tenant-events"))

CAUSES: Mapping[str, str] = {
    "calm": "none",
    "burst": "none",
    "spike": "message_spike",
    "slow": "slow_processing",
    "slow_poll": "slow_processing",
    "down": "consumer_down",
    "scaled_to_zero": "consumer_down",
    "poison_retry": "poison_message",
    "poison_crash": "poison_message",
    "network": "network",
    "storm": "rebalancing",
    "spike_oom": "message_spike",
    "broker": "broker_overload",
    "skew": "key_skew",
    "rewind": "offset_reset",
    "slow_until_deleted": "retention_loss",
    "hung_transaction": "hung_transaction",
    "throttled": "quota_throttled",
}
"""Kinds whose cause the evidence shows."""
OTHERS = ("drain",)
KINDS = (*CAUSES, *OTHERS)


@dataclass
class _Scene:
    """What a kind changes of a calm half hour."""

    random: np.random.Generator
    produce: np.ndarray = field(init=False)
    capacity: np.ndarray = field(init=False)
    backlog: float = 0.0
    members: np.ndarray = field(init=False)
    states: dict[int, str] = field(default_factory=dict)
    logs: list[tuple[float, int, str, str, bool]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    pods: dict[int, dict[str, Any]] = field(default_factory=dict)
    ready: int = MEMBERS
    desired: int = MEMBERS
    job_seconds: float = 0.05
    probe_seconds: float = 0.02
    neighbours_fall_behind: bool = False
    metrics: dict[str, tuple[str, str, float, float]] = field(default_factory=dict)
    last_stable: dict[int, float] = field(default_factory=dict)
    log_start: float = 0.0
    lose_until: float = 0.0
    rewind: float = 0.0

    def __post_init__(self) -> None:
        shape = (SECONDS, PARTITIONS)
        self.produce = self.random.poisson(RATE, shape).astype("float64")
        self.capacity = np.full(shape, np.floor(RATE * HEADROOM))
        self.members = np.full(SECONDS + 1, float(MEMBERS))

    def say(
        self, second: float, pod: int, level: str, text: str, *, previous: bool = False
    ) -> None:
        """Write a log line of a pod."""
        self.logs.append((second, pod, level, text, previous))

    def crash(
        self, pod: int, code: int, reason: str, restarts: int, text: str, level: str = "ERROR"
    ) -> None:
        """End a pod's container again and again from the fault on."""
        self.pods[pod] = {
            "restart_count": restarts,
            "last_exit_code": code,
            "last_reason": reason,
            "last_finished_at": moment(SECONDS - 40),
            "ready": False,
            "state": "waiting",
            "state_reason": "CrashLoopBackOff",
            "started_at": None,
        }
        self.events.append(
            {
                "timestamp": moment(SECONDS - 30),
                "first_at": moment(FAULT + 12),
                "kind": "Pod",
                "name": PODS[pod],
                "type": "Warning",
                "reason": "BackOff",
                "count": restarts,
                "message": f"Back-off restarting failed container worker in pod {PODS[pod]}",
            }
        )
        self.say(
            SECONDS - 41, pod, "INFO", "worker starting, group deployment-worker", previous=True
        )
        self.say(SECONDS - 40, pod, level, text, previous=True)


def _slow(scene: _Scene) -> None:
    scene.capacity[FAULT:] = 0
    scene.capacity[FAULT::3] = 1  # one record in three seconds
    scene.job_seconds, scene.probe_seconds = 3.0, 1.4
    for second in range(FAULT + 5, SECONDS, 6):
        partition = second % PARTITIONS
        scene.say(
            second,
            partition // 2,
            "WARNING",
            f"worker AWX job {second} took 3.02 s ({TOPIC}[{partition}]@{second})",
        )


def _slow_poll(scene: _Scene) -> None:
    _slow(scene)
    for begin in range(FAULT + 300, SECONDS - 20, 60):
        pod = begin // 60 % MEMBERS
        scene.say(
            begin,
            pod,
            "WARNING",
            "rdkafka MAXPOLL [thrd:main]: Application maximum poll "
            "interval (60000ms) exceeded by 214ms: leaving group",
        )
        for other in range(MEMBERS):
            scene.say(begin + 2, other, "INFO", "worker rebalance: revoked none")
            scene.say(begin + 4, other, "INFO", f"worker rebalance: assigned {TOPIC}[{other}]")
        scene.members[begin : begin + 25] = MEMBERS - 1
        scene.states[begin] = "PreparingRebalance"


def _spike(scene: _Scene) -> None:
    scene.produce[FAULT:] = scene.random.poisson(RATE * 12, (SECONDS - FAULT, PARTITIONS))


def _burst(scene: _Scene) -> None:
    scene.produce[FAULT : FAULT + 20] = scene.random.poisson(RATE * 8, (20, PARTITIONS))


def _spike_oom(scene: _Scene) -> None:
    _spike(scene)
    scene.crash(0, 137, "OOMKilled", 4, "worker handling a batch of 4000 records", "INFO")
    scene.events[-1]["first_at"] = moment(FAULT + 250)
    scene.capacity[FAULT + 240 :, :2] = 0
    scene.members[FAULT + 250 :] = MEMBERS - 1
    scene.ready = MEMBERS - 1


def _down(scene: _Scene) -> None:
    scene.capacity[FAULT:] = 0
    scene.members[FAULT + 10 :] = 0
    scene.ready = 0
    for pod in range(MEMBERS):
        scene.crash(
            pod,
            1,
            "Error",
            6,
            "worker missing AWX_URL: set it in the environment of this deployment",
        )


def _scaled_to_zero(scene: _Scene) -> None:
    scene.capacity[FAULT:] = 0
    scene.members[FAULT + 5 :] = 0
    scene.ready = scene.desired = 0
    scene.pods = {pod: {"gone": True} for pod in range(MEMBERS)}


def _stuck_record(scene: _Scene) -> str:
    scene.capacity[FAULT:, 2] = 0
    return f"{TOPIC}[2]@{{stuck}}"


def _poison_retry(scene: _Scene) -> None:
    where = _stuck_record(scene)
    for second in range(FAULT + 2, SECONDS, 10):
        scene.say(
            second,
            1,
            "ERROR",
            f"worker cannot decode {where}: JSONDecodeError: Expecting "
            "value: line 1 column 1 (char 0); will retry",
        )


def _poison_crash(scene: _Scene) -> None:
    where = _stuck_record(scene)
    text = f"worker cannot decode {where}: JSONDecodeError: Expecting value: line 1 column 1"
    scene.crash(1, 1, "Error", 5, text)
    for second in range(FAULT + 60, SECONDS, 60):
        scene.members[second : second + 20] = MEMBERS - 1
        for pod in (0, 2):
            scene.say(second, pod, "INFO", f"worker rebalance: assigned {TOPIC}[{pod}]")
    scene.members[SECONDS - 30 :] = MEMBERS - 1
    scene.say(SECONDS - 100, 0, "ERROR", text, previous=True)
    scene.ready = MEMBERS - 1


def _network(scene: _Scene) -> None:
    scene.capacity[FAULT:] = 0
    scene.members[FAULT + 45 :] = 0
    for second in range(FAULT + 12, SECONDS, 15):
        for pod in range(MEMBERS):
            scene.say(
                second,
                pod,
                "ERROR",
                "rdkafka FAIL [thrd:kafka:9092/1]: kafka:9092/1: 1 "
                "request(s) timed out: disconnect (after 10021ms in state UP)",
            )
    for pod in range(MEMBERS):
        scene.say(
            FAULT + 47,
            pod,
            "WARNING",
            "rdkafka SESSTMOUT [thrd:main]: Consumer group "
            "session timed out (in join-state steady) after 10003 ms",
        )


def _storm(scene: _Scene) -> None:
    scene.capacity[FAULT:] = 0
    for begin in range(FAULT, SECONDS, 40):
        scene.capacity[begin + 32 : begin + 40] = np.floor(RATE * HEADROOM)
        scene.members[begin : begin + 16] = MEMBERS - 1
        scene.states[begin] = "PreparingRebalance"
        # the one that is missing; the others only hear of it
        scene.say(
            begin,
            (begin - FAULT) // 40 % MEMBERS,
            "WARNING",
            "rdkafka SESSTMOUT [thrd:main]: Consumer group "
            "session timed out (in join-state steady) after 6003 ms",
        )
        for pod in range(MEMBERS):
            scene.say(begin + 20 + pod, pod, "INFO", f"worker rebalance: assigned {TOPIC}[{pod}]")


def _broker(scene: _Scene) -> None:
    scene.capacity[FAULT:] = 0
    scene.capacity[FAULT::2] = 1
    scene.neighbours_fall_behind = True
    scene.metrics = {
        "under_replicated_partitions": ("broker-2:9404", "partitions", 0.0, 14.0),
        "request_handler_idle_ratio": ("broker-1:9404", "ratio", 0.92, 0.04),
        "produce_p99_seconds": ("broker-1:9404", "seconds", 0.01, 3.2),
    }


def _skew(scene: _Scene) -> None:
    # as much in all as before: only who gets it has changed
    shares = np.full(PARTITIONS, 0.1)
    shares[4] = PARTITIONS - shares[:4].sum() - shares[5:].sum()
    size = (SECONDS - FAULT, PARTITIONS)
    scene.produce[FAULT:] = scene.random.poisson(RATE * shares, size)


def _drain(scene: _Scene) -> None:
    scene.backlog = 3000.0


def _rewind(scene: _Scene) -> None:
    scene.rewind = 1500.0


def _slow_until_deleted(scene: _Scene) -> None:
    scene.capacity[FAULT:] = 0
    scene.capacity[FAULT::4] = 1
    scene.lose_until = 250.0


def _hung_transaction(scene: _Scene) -> None:
    scene.capacity[FAULT:, 1] = 0
    scene.last_stable[1] = -1.0  # where the group stands


def _throttled(scene: _Scene) -> None:
    scene.capacity[FAULT:] = 1
    scene.metrics = {"throttle_seconds": ("worker", "seconds", 0.0, 0.8)}


_CHANGES: Mapping[str, Callable[[_Scene], None]] = {
    "calm": lambda scene: None,
    "drain": _drain,
    "burst": _burst,
    "spike": _spike,
    "slow": _slow,
    "slow_poll": _slow_poll,
    "down": _down,
    "scaled_to_zero": _scaled_to_zero,
    "poison_retry": _poison_retry,
    "poison_crash": _poison_crash,
    "network": _network,
    "storm": _storm,
    "spike_oom": _spike_oom,
    "broker": _broker,
    "skew": _skew,
    "rewind": _rewind,
    "slow_until_deleted": _slow_until_deleted,
    "hung_transaction": _hung_transaction,
    "throttled": _throttled,
}


@functools.cache
def make(kind: str = "calm", *, seed: int = 0, step: int = STEP) -> Incident:
    """Return the incident of *kind*; same kind and seed, same incident.

    Made once: nobody may change it in place. ``make.__wrapped__`` makes it anew.
    """
    scene = _Scene(np.random.default_rng([KINDS.index(kind), seed]))
    _CHANGES[kind](scene)
    ends, commits = _queues(scene)
    tables = {
        **{name: frames.empty(name) for name in frames.FRAMES},
        **_prometheus(scene, ends, commits, step),
        **_kafka(scene, ends, commits),
        **_kubernetes(scene, commits),
        **_downstream(scene, commits),
    }
    tables["queries"] = _queries(tables)
    return Incident(
        id=f"20261123T023000Z-{kind}",
        cluster="stoa-kafka",
        group=GROUP,
        topics=(TOPIC,),
        start=START,
        end=END,
        captured_at=END + pd.Timedelta("4s"),
        lagkit_version="0.1.0",
        runbook=runbook.load(),
        tables=tables,
        sources={
            name: SourceReport("ok", f"{name} answered", 0.4)
            for name in ("prometheus", "kafka", "kubernetes", "downstream")
        },
        facts={"prometheus": {"dialect": "kminion"}},
    )


@functools.cache
def investigated(kind: str, seed: int = 0) -> Result:
    """Return the verdict on ``make(kind)``; made once, for nobody can change it."""
    return investigate(make(kind, seed=seed))


def context(incident: Incident) -> signals.Context:
    """Return what a signal gets to see of *incident*."""
    group = incident.runbook.group(incident.group)
    flow = measure(incident, promise_seconds=group.promise_seconds)
    return signals.Context(incident, flow, owners(incident.members, incident.pods), group)


def checks(signal: signals.Signal, incident: Incident) -> dict[str, Check]:
    """Return what *signal* answers, by kind of evidence."""
    return {check.kind: check for check in signal(context(incident))}


def edited(incident: Incident, name: str, where: Any = True, **values: Any) -> Incident:
    """Return *incident* with values set in the rows of frame *name* that *where* picks."""
    table = incident.tables[name]
    rows = pd.Series(where, index=table.index) if isinstance(where, bool) else where(table)
    new = {
        column: table[column].astype("object").where(~rows, value)
        for column, value in values.items()
    }
    return with_tables(incident, **{name: frames.normalise(name, table.assign(**new))})


def added(incident: Incident, name: str, *rows: Mapping[str, Any]) -> Incident:
    """Return *incident* with rows added to frame *name*; what a row lacks is as in the first."""
    table = incident.tables[name]
    first = dict(table.iloc[0]) if len(table) else {}
    more = pd.DataFrame([{**first, **row} for row in rows])
    both = pd.concat([table.astype("object"), more.astype("object")], ignore_index=True)
    return with_tables(incident, **{name: frames.normalise(name, both)})


def saying(incident: Incident, *lines: tuple[float, int, str, str]) -> Incident:
    """Return *incident* with log lines (second, pod number, level, text) of its consumer's pods."""
    number = 100_000 + len(incident.logs)
    return added(
        incident,
        "logs",
        *(
            {
                "timestamp": moment(second),
                "pod": PODS[pod],
                "level": level,
                "message": text,
                "previous": False,
                "line_number": number + index,
                "role": "consumer",
                "namespace": NAMESPACE,
                "container": "worker",
                "query_id": "kubernetes-05",
            }
            for index, (second, pod, level, text) in enumerate(lines)
        ),
    )


def _queues(scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    ends, commits = np.zeros((SECONDS + 1, PARTITIONS)), np.zeros((SECONDS + 1, PARTITIONS))
    for partition in range(PARTITIONS):
        ends[:, partition], commits[:, partition] = queue(
            scene.produce[:, partition], scene.capacity[:, partition], backlog=scene.backlog
        )
    ends, commits = ends + 1000.0, commits + 1000.0
    if scene.rewind:
        commits[FAULT:] = np.minimum(
            commits[FAULT:],
            commits[FAULT]
            - scene.rewind
            + np.floor(RATE * HEADROOM) * np.arange(SECONDS + 1 - FAULT)[:, None],
        )
    return ends, commits


def _prometheus(
    scene: _Scene, ends: np.ndarray, commits: np.ndarray, step: int
) -> dict[str, pd.DataFrame]:
    at = np.arange(0, SECONDS + 1, step)
    start = np.full(len(at), scene.log_start)
    history = offsets(
        at,
        {
            p: {
                "committed": commits[at, p],
                "end": ends[at, p],
                "lag": ends[at, p] - commits[at, p],
                "start": _log_start(scene, at, commits[:, p]) if scene.lose_until else start,
            }
            for p in range(PARTITIONS)
        },
    )
    states = {second // step * step: state for second, state in scene.states.items()}
    neighbours = []
    for number, (group, topic) in enumerate(NEIGHBOURS):
        for second in at:
            behind = 6.0 * (second - FAULT) if scene.neighbours_fall_behind else 0.0
            neighbours.append(
                {
                    "timestamp": moment(second),
                    "group": group,
                    "topic": topic,
                    "lag_messages": max(0.0, behind) + 5.0 + number,
                    "committed_sum": 40.0 * second,
                    "query_id": "prometheus-03",
                }
            )
    metrics = [
        {
            "timestamp": moment(second),
            "metric": metric,
            "instance": instance,
            "unit": unit,
            "value": then if second < FAULT else now,
            "query_id": "prometheus-04",
        }
        for metric, (instance, unit, then, now) in {
            "broker_count": ("exporter:9308", "brokers", 3.0, 3.0),
            "throttle_seconds": ("worker", "seconds", 0.0, 0.0),
            **scene.metrics,
        }.items()
        for second in at
    ]
    return {
        "offsets": frames.normalise("offsets", history),
        "group_history": frames.normalise(
            "group_history",
            [
                {
                    "timestamp": moment(second),
                    "group": GROUP,
                    "member_count": scene.members[second],
                    "state": states.get(
                        int(second), "Stable" if scene.members[second] else "Empty"
                    ),
                    "query_id": "prometheus-02",
                }
                for second in at
            ],
        ),
        "neighbours": frames.normalise("neighbours", neighbours),
        "broker_metrics": frames.normalise("broker_metrics", metrics),
        "targets": frames.normalise(
            "targets",
            [
                {
                    "timestamp": moment(second),
                    "job": "kafka",
                    "instance": "exporter:9308",
                    "up": 1.0,
                    "query_id": "prometheus-05",
                }
                for second in at
            ],
        ),
    }


def _log_start(scene: _Scene, at: np.ndarray, commits: np.ndarray) -> np.ndarray:
    """Retention overtakes the group in the last quarter."""
    cut = np.where(at > FAULT + 3 * (SECONDS - FAULT) // 4, commits[at] + scene.lose_until, 0.0)
    return np.maximum.accumulate(cut)


def _kafka(scene: _Scene, ends: np.ndarray, commits: np.ndarray) -> dict[str, pd.DataFrame]:
    rows = []
    for late in (4, 2, 0):
        second = SECONDS - late
        for p in range(PARTITIONS):
            stable = ends[second, p]
            if p in scene.last_stable:
                stable = commits[second, p]
            rows.append(
                {
                    "timestamp": moment(second),
                    "group": GROUP,
                    "topic": TOPIC,
                    "partition": p,
                    "committed_offset": commits[second, p],
                    "log_end_offset": ends[second, p],
                    "log_start_offset": float(
                        _log_start(scene, np.array([second]), commits[:, p])[0]
                    )
                    if scene.lose_until
                    else scene.log_start,
                    "last_stable_offset": stable,
                    "leader": 1 + p % 3,
                    "replica_count": 3,
                    "isr_count": 3,
                    "query_id": "kafka-03",
                }
            )
    now = int(scene.members[-1])
    owners = [pod for pod in range(MEMBERS) if pod not in scene.pods][:now] or list(range(now))
    return {
        "group_state": frames.normalise(
            "group_state",
            [
                {
                    "timestamp": END,
                    "group": GROUP,
                    "state": "Stable" if now else "Empty",
                    "protocol": "classic",
                    "assignor": "range",
                    "coordinator": "broker-1:9092",
                    "member_count": now,
                    "query_id": "kafka-01",
                },
            ],
        ),
        "members": frames.normalise(
            "members",
            [
                {
                    "timestamp": END,
                    "group": GROUP,
                    "member_id": f"{PODS[owner]}-0f1e",
                    "client_id": PODS[owner],
                    "host": f"10.1.0.{owner + 1}",
                    "topic": TOPIC,
                    "partition": p,
                    "query_id": "kafka-02",
                }
                for p in range(PARTITIONS)
                if owners
                for owner in [owners[p * len(owners) // PARTITIONS]]
            ],
        ),
        "partitions": frames.normalise("partitions", rows),
        "brokers": frames.normalise(
            "brokers",
            [
                {
                    "timestamp": END,
                    "broker_id": b,
                    "address": f"broker-{b}:9092",
                    "is_controller": b == 1,
                    "query_id": "kafka-04",
                }
                for b in (1, 2, 3)
            ],
        ),
        "configs": frames.normalise(
            "configs",
            [
                {
                    "timestamp": END,
                    "resource": "topic",
                    "name": TOPIC,
                    "key": "retention.ms",
                    "value": "21600000",
                    "is_default": False,
                    "query_id": "kafka-05",
                },
            ],
        ),
    }


def _kubernetes(scene: _Scene, commits: np.ndarray) -> dict[str, pd.DataFrame]:
    pods = []
    for number, pod in enumerate(PODS):
        changes = scene.pods.get(number, {})
        if changes.get("gone"):
            continue
        pods.append(
            {
                "timestamp": END,
                "namespace": NAMESPACE,
                "pod": pod,
                "container": "worker",
                "workload": "control-plane-api",
                "replica_set": "control-plane-api-6c9f7d8b5",
                "role": "consumer",
                "node": f"node-{number}",
                "pod_ip": f"10.1.0.{number + 1}",
                "phase": "Running",
                "ready": True,
                "restart_count": 0,
                "state": "running",
                "started_at": START - pd.Timedelta("2D"),
                "created_at": START - pd.Timedelta("2D"),
                "image": "worker:1",
                "query_id": "kubernetes-01",
                **changes,
            }
        )
    pods.append(
        {
            "timestamp": END,
            "namespace": "awx",
            "pod": "awx-web-7d-aaaaa",
            "container": "web",
            "workload": "awx-web",
            "role": "awx",
            "phase": "Running",
            "ready": True,
            "restart_count": 0,
            "state": "running",
            "pod_ip": "10.1.1.1",
            "created_at": START - pd.Timedelta("9D"),
            "query_id": "kubernetes-01",
        }
    )
    for number in range(0, SECONDS, 60):
        scene.say(number, number // 60 % MEMBERS, "INFO", "worker handled 120 in 60 s")
    stuck = f"{commits[SECONDS, 2]:.0f}"
    lines: dict[tuple[int, bool], int] = {}
    logs = []
    for second, pod, level, text, previous in sorted(scene.logs):
        lines[pod, previous] = lines.get((pod, previous), 0) + 1
        logs.append(
            {
                "timestamp": moment(second),
                "namespace": NAMESPACE,
                "pod": PODS[pod],
                "container": "worker",
                "role": "consumer",
                "previous": previous,
                "line_number": lines[pod, previous],
                "level": level,
                "message": f"{level} {text.replace('{stuck}', stuck)}",
                "query_id": "kubernetes-05",
            }
        )
    return {
        "pods": frames.normalise("pods", pods),
        "events": frames.normalise(
            "events",
            [
                {
                    "namespace": NAMESPACE,
                    "component": "kubelet",
                    "query_id": "kubernetes-02",
                    **event,
                }
                for event in scene.events
            ],
        ),
        "workloads": frames.normalise(
            "workloads",
            [
                {
                    "timestamp": END,
                    "namespace": NAMESPACE,
                    "workload": "control-plane-api",
                    "kind": "Deployment",
                    "role": "consumer",
                    "desired_replicas": scene.desired,
                    "ready_replicas": scene.ready,
                    "updated_replicas": scene.desired,
                    "query_id": "kubernetes-03",
                },
            ],
        ),
        "rollouts": frames.normalise(
            "rollouts",
            [
                {
                    "timestamp": START - pd.Timedelta("2D"),
                    "namespace": NAMESPACE,
                    "workload": "control-plane-api",
                    "role": "consumer",
                    "replica_set": "control-plane-api-6c9f7d8b5",
                    "revision": 4,
                    "desired_replicas": scene.desired,
                    "ready_replicas": scene.ready,
                    "image": "worker:1",
                    "query_id": "kubernetes-04",
                },
            ],
        ),
        "logs": frames.normalise("logs", logs),
    }


def _downstream(scene: _Scene, commits: np.ndarray) -> dict[str, pd.DataFrame]:
    # a job for each record that was handled, numbered in order
    handled = np.maximum.accumulate(commits.sum(axis=1)).astype("int64")
    return {
        "downstream": frames.normalise(
            "downstream",
            [
                {
                    "timestamp": moment(SECONDS + second),
                    "target": "awx",
                    "check": "ping",
                    "url": "https://awx.example/api/v2/ping/",
                    "status_code": 200,
                    "latency_seconds": scene.probe_seconds,
                    "ok": True,
                    "query_id": "downstream-01",
                }
                for second in range(3)
            ],
        ),
        "jobs": frames.normalise(
            "jobs",
            [
                {
                    "timestamp": moment(second),
                    "target": "awx",
                    "job_id": str(handled[second]),
                    "status": "successful",
                    "started_at": moment(second),
                    "finished_at": moment(second + 4),
                    "elapsed_seconds": (0.05 if second < FAULT else scene.job_seconds)
                    + 0.001 * (second % 7),
                    "query_id": "downstream-02",
                }
                for second in range(600, SECONDS, 12)
                if handled[second] > handled[second - 12]
            ],
        ),
    }


def _queries(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    ids = sorted({str(i) for table in tables.values() for i in table["query_id"].unique()})
    return frames.normalise(
        "queries",
        [
            {
                "query_id": name,
                "source": name.partition("-")[0],
                "statement": f"question {name}",
                "started_at": END,
                "seconds": 0.1,
                "rows": 1,
                "outcome": "ok",
            }
            for name in ids
        ],
    )


# -- the same incident, seen or named otherwise


def with_tables(incident: Incident, **tables: pd.DataFrame) -> Incident:
    """Return *incident* with some frames replaced."""
    return replace(incident, tables={**incident.tables, **tables})


def without(incident: Incident, *sources: str) -> Incident:
    """Return *incident* as if these sources had not answered."""
    tables = {
        name: frames.empty(name) if frames.FRAMES[name].source in sources else table
        for name, table in incident.tables.items()
    }
    queries = tables["queries"]
    tables["queries"] = queries.loc[~queries["source"].isin(sources)].reset_index(drop=True)
    reports = {
        name: SourceReport("unavailable", "did not answer within 20 s", 20.0)
        if name in sources
        else report
        for name, report in incident.sources.items()
    }
    gaps = tuple(Gap(name, name, "did not answer within 20 s") for name in sorted(sources))
    return replace(incident, tables=tables, sources=reports, coverage=gaps)


def later(incident: Incident, delta: str) -> Incident:
    """Return *incident* with every time moved by *delta*."""
    by = pd.Timedelta(delta)
    tables = {}
    for name, table in incident.tables.items():
        times = [c.name for c in frames.FRAMES[name].columns if c.dtype == frames.TIME]
        tables[name] = table.assign(**{column: table[column] + by for column in times})
    return replace(
        incident,
        tables={n: frames.normalise(n, t) for n, t in tables.items()},
        start=incident.start + by,
        end=incident.end + by,
        captured_at=incident.captured_at + by,
    )


def renamed(incident: Incident, names: Mapping[str, str]) -> Incident:
    """Return *incident* with texts replaced everywhere; also in group, topics and runbook."""
    pattern = re.compile("|".join(re.escape(old) for old in sorted(names, key=len, reverse=True)))

    def swap(text: str) -> str:
        return pattern.sub(lambda match: names[match.group()], text)

    def deep(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: deep(item) for key, item in value.items()}
        if isinstance(value, list):
            return [deep(item) for item in value]
        return swap(value) if isinstance(value, str) else value

    tables = {}
    for name, table in incident.tables.items():
        texts = [c.name for c in frames.FRAMES[name].columns if c.dtype == frames.TEXT]
        tables[name] = frames.normalise(
            name,
            table.assign(
                **{column: table[column].map(swap, na_action="ignore") for column in texts}
            ),
        )
    book = runbook.Runbook.model_validate(deep(incident.runbook.model_dump(mode="json")))
    return replace(
        incident,
        tables=tables,
        runbook=book,
        group=swap(incident.group),
        topics=tuple(map(swap, incident.topics)),
    )


def repartitioned(incident: Incident, order: Iterable[int]) -> Incident:
    """Return *incident* with partition n called ``order[n]``, in frames and in log lines."""
    numbers = dict(enumerate(order))
    tables = {}
    for name, table in incident.tables.items():
        if "partition" in table.columns:
            table = table.assign(partition=table["partition"].map(numbers).astype("Int64"))
        if name == "logs":
            table = table.assign(
                message=table["message"].map(
                    lambda text: re.sub(
                        r"(?<=deploy-requests\[)\d+", lambda m: str(numbers[int(m.group())]), text
                    )
                )
            )
        tables[name] = frames.normalise(name, table)
    return replace(incident, tables=tables)


def event(second: float, **values: Any) -> dict[str, Any]:
    """Return an event of Kubernetes, at this second of the window."""
    at = moment(second)
    return {
        "timestamp": at,
        "first_at": at,
        "namespace": "stoa-system",
        "type": "Normal",
        "count": 1,
        "query_id": "kubernetes-91",
        **values,
    }

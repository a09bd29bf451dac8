"""Incidents and results for tests of charts and reports: synthetic offsets, real types throughout.

The frames go through ``lagkit.frames`` and the flow through ``lagkit.flow``; only the offsets, the
cluster's objects and the verdict's words are made up here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from lagkit import flow, frames, runbook
from lagkit.incident import Gap, Incident
from lagkit.model import (
    Action,
    Check,
    Evidence,
    Finding,
    Forecast,
    Headline,
    Impact,
    IncidentReference,
    Onset,
    RankedCause,
    SourceReport,
    Verdict,
)

START = pd.Timestamp("2026-11-23T01:00:00Z")
END = pd.Timestamp("2026-11-23T02:40:00Z")
ONSET = pd.Timestamp("2026-11-23T02:09:00Z")
STEP_SECONDS = 15
GROUP, TOPIC = "deployment-worker", "deploy-requests"
PARTITIONS = 6
PODS = (
    "control-plane-api-6c9f7d8b5-abcde",
    "control-plane-api-6c9f7d8b5-fghij",
    "control-plane-api-6c9f7d8b5-klmno",
)
HOSTILE = "x</script><script>document.title='ran'</script><img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Result:
    """What ``lagkit.investigate`` returns, as far as a report reads it."""

    verdict: Verdict
    incident: Incident
    flow: Any
    owners: pd.DataFrame
    runbook_group: runbook.Group


def offsets(*, gap: bool = True) -> pd.DataFrame:
    """Return an offset history in which consuming slows down at ONSET, with one lost scrape run."""
    times = pd.date_range(START, END, freq=f"{STEP_SECONDS}s").as_unit("us")
    seconds = (times - START).total_seconds().to_numpy()
    slow_from = (ONSET - START).total_seconds()
    rows = []
    for partition in range(PARTITIONS):
        end = 40_000 + np.floor(seconds * (0.6 + 0.05 * partition))
        speed = np.where(seconds < slow_from, 0.6 + 0.05 * partition, 0.18)
        committed = np.minimum(end, 40_000 + np.floor(np.cumsum(speed * STEP_SECONDS)))
        for index, moment in enumerate(times):
            if gap and 120 <= index < 136:
                continue
            rows.append(
                {
                    "timestamp": moment,
                    "group": GROUP,
                    "topic": TOPIC,
                    "partition": partition,
                    "committed_offset": committed[index],
                    "log_end_offset": end[index],
                    "log_start_offset": 31_000.0,
                    "query_id": "prometheus-01",
                }
            )
    return frames.normalise("offsets", rows)


def incident(tables: dict[str, pd.DataFrame] | None = None, **changes: Any) -> Incident:
    """Return an incident with every frame a report draws from."""
    moments = pd.date_range(START, END, freq=f"{STEP_SECONDS}s").as_unit("us")
    members = [3.0 if m < ONSET + pd.Timedelta("12min") else 2.0 for m in moments]
    rebalance = ONSET + pd.Timedelta("12min")
    states = [
        "PreparingRebalance" if rebalance <= m < rebalance + pd.Timedelta("90s") else "Stable"
        for m in moments
    ]
    made = {
        "offsets": offsets(),
        "group_history": frames.normalise(
            "group_history",
            [
                {
                    "timestamp": m,
                    "group": GROUP,
                    "member_count": c,
                    "state": s,
                    "query_id": "prometheus-02",
                }
                for m, c, s in zip(moments, members, states, strict=True)
            ],
        ),
        "alerts": frames.normalise(
            "alerts",
            [
                {
                    "timestamp": ONSET + pd.Timedelta("5min"),
                    "alert": "KafkaConsumerLagHigh",
                    "state": "firing",
                    "group": GROUP,
                    "labels": '{"severity":"critical"}',
                    "query_id": "prometheus-03",
                },
            ],
        ),
        "members": frames.normalise(
            "members",
            [
                {
                    "timestamp": END,
                    "group": GROUP,
                    "member_id": f"worker-{p % 2}",
                    "client_id": "worker",
                    "host": f"10.0.0.{p % 2}",
                    "topic": TOPIC,
                    "partition": p,
                    "query_id": "kafka-02",
                }
                for p in range(PARTITIONS)
            ],
        ),
        "pods": frames.normalise(
            "pods",
            [
                {
                    "timestamp": END,
                    "namespace": "stoa-system",
                    "pod": pod,
                    "container": "api",
                    "role": "consumer",
                    "restart_count": int(i == 2),
                    "phase": "Running",
                    "last_finished_at": ONSET + pd.Timedelta("11min") if i == 2 else None,
                    "last_reason": "OOMKilled" if i == 2 else None,
                    "last_exit_code": 137 if i == 2 else None,
                    "query_id": "kubernetes-01",
                }
                for i, pod in enumerate(PODS)
            ],
        ),
        "events": frames.normalise(
            "events",
            [
                {
                    "timestamp": ONSET + pd.Timedelta("13min"),
                    "namespace": "stoa-system",
                    "kind": "Pod",
                    "name": PODS[2],
                    "type": "Warning",
                    "reason": "BackOff",
                    "message": "Back-off restarting failed container",
                    "query_id": "kubernetes-02",
                },
            ],
        ),
        "rollouts": frames.normalise(
            "rollouts",
            [
                {
                    "timestamp": ONSET - pd.Timedelta("4min"),
                    "namespace": "awx",
                    "workload": "awx-web",
                    "role": "awx",
                    "replica_set": "awx-web-7d",
                    "revision": 12,
                    "image": "awx:24.6",
                    "query_id": "kubernetes-03",
                },
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
                    "query_id": "kafka-05",
                },
            ],
        ),
        "queries": frames.normalise(
            "queries",
            [
                {
                    "query_id": f"{source}-0{n}",
                    "source": source,
                    "statement": statement,
                    "started_at": END,
                    "seconds": 0.12,
                    "rows": rows,
                    "outcome": outcome,
                    "detail": why,
                }
                for source, n, statement, rows, outcome, why in (
                    (
                        "prometheus",
                        1,
                        ('kafka_consumergroup_current_offset{consumergroup="deployment-worker"}'),
                        2310,
                        "ok",
                        None,
                    ),
                    ("prometheus", 2, "kafka_consumergroup_members", 385, "ok", None),
                    ("prometheus", 3, "ALERTS", 1, "ok", None),
                    ("kafka", 2, "DescribeConsumerGroups deployment-worker", 6, "ok", None),
                    ("kafka", 5, "DescribeConfigs topic deploy-requests", 1, "ok", None),
                    ("kubernetes", 1, "GET /api/v1/namespaces/stoa-system/pods", 3, "ok", None),
                    (
                        "kubernetes",
                        4,
                        "GET /api/v1/namespaces/awx/pods",
                        0,
                        "denied",
                        "403 Forbidden: pods is forbidden",
                    ),
                )
            ],
        ),
    }
    made |= tables or {}
    fields: dict[str, Any] = {
        "id": "deployment-worker-20261123T0240Z",
        "cluster": "stoa-kafka",
        "group": GROUP,
        "topics": (TOPIC,),
        "start": START,
        "end": END,
        "captured_at": END,
        "lagkit_version": "0.1.0",
        "runbook": runbook.Runbook(title="Test runbook"),
        "tables": made,
        "sources": {
            "prometheus": SourceReport("ok", "kafka_exporter names; 3 queries", 0.41),
            "kafka": SourceReport("ok", "Apache Kafka 4.1", 0.22),
            "kubernetes": SourceReport("partial", "pods of awx are forbidden (403)", 0.3),
            "downstream": SourceReport("not_configured", "no address given", 0.0),
        },
        "facts": {"prometheus": {"dialect": "kafka_exporter", "step": "15 s"}},
        "coverage": (
            Gap("kubernetes", "pods of awx", "403 Forbidden", "grant get,list on pods in awx"),
            Gap("downstream", "AWX latency", "no address configured", "set downstream.awx"),
        ),
        "redactions": {"bearer token": 2, "e-mail address": 1},
    }
    return Incident(**(fields | changes))


def finding(
    identity: str,
    statement: str,
    source: str = "prometheus",
    query: str = "prometheus-01",
    **more: Any,
) -> Finding:
    """Return a finding."""
    return Finding(id=identity, statement=statement, source=source, query=query, **more)


def verdict(**changes: Any) -> Verdict:
    """Return the verdict of slow processing through AWX, on the synthetic incident."""
    slow = finding(
        "consume_rate_down",
        "Consumed 0.18/s per partition since 02:09Z, 0.72/s before",
        onset=ONSET,
        value=0.18,
        baseline=0.72,
        unit="messages/s",
        weights={"slow_processing": 2.1, "message_spike": -1.6},
    )
    killed = finding(
        "pod_restarts:control-plane-api-6c9f7d8b5-klmno",
        "One consumer pod was OOMKilled at 02:20Z, after the lag began",
        "kubernetes",
        "kubernetes-01",
        onset=ONSET + pd.Timedelta("11min"),
        value=1.0,
        unit="restarts",
        weights={"consumer_down": 0.9},
        quote="Killed process 4711 (python) total-vm:2000000kB",
    )
    log = finding(
        "downstream_errors",
        "47 log lines name a timeout of AWX",
        "kubernetes",
        "kubernetes-01",
        onset=ONSET,
        value=47.0,
        unit="lines",
        weights={"slow_processing": 2.0},
        quote="ERROR awx POST /api/v2/job_templates/7/launch/ timed out after 30 s",
    )
    causes = (
        "slow_processing",
        "consumer_down",
        "rebalancing",
        "message_spike",
        "broker_overload",
        "poison_message",
        "network",
        "key_skew",
        "under_parallelism",
        "hung_transaction",
        "offset_reset",
        "retention_loss",
        "quota_throttled",
        "unknown",
        "none",
    )
    shares = (
        0.81,
        0.07,
        0.03,
        0.02,
        0.015,
        0.01,
        0.01,
        0.006,
        0.005,
        0.004,
        0.004,
        0.003,
        0.003,
        0.008,
        0.002,
    )
    evidence = {
        "slow_processing": (
            (
                Evidence("consume_rate_down", 2.1, slow.statement),
                Evidence("downstream_errors", 2.0, log.statement),
            ),
            (),
        ),
        "consumer_down": (
            (Evidence(killed.id, 0.9, killed.statement),),
            (Evidence("group_empty", -1.8, "2 members were there all the time"),),
        ),
        "message_spike": ((), (Evidence("consume_rate_down", -1.6, slow.statement),)),
    }
    ranking = tuple(
        RankedCause(
            cause,
            rank,
            share,
            0.25 if rank < 3 else 0.04,
            "validated"
            if rank == 1
            else "invalidated"
            if cause == "message_spike"
            else "not_checked"
            if cause == "quota_throttled"
            else "inconclusive",
            "primary" if rank == 1 else "mechanism" if cause == "consumer_down" else "none",
            *evidence.get(cause, ((), ())),
            not_checked=("Is AWX slow? no address configured",) if rank == 1 else (),
            would_change=("A no would speak against it: is AWX slow?",) if rank == 1 else (),
        )
        for rank, (cause, share) in enumerate(zip(causes, shares, strict=True), start=1)
    )
    fields: dict[str, Any] = {
        "incident": IncidentReference(
            "deployment-worker-20261123T0240Z", "stoa-kafka", GROUP, (TOPIC,), START, END
        ),
        "generated_at": END,
        "lagkit_version": "0.1.0",
        "state": "growing",
        "onset": Onset(ONSET, ONSET - pd.Timedelta("45s"), ONSET + pd.Timedelta("60s")),
        "verdict": Headline(
            "slow_processing",
            0.81,
            "very likely",
            "moderate",
            "Slow processing: consumed 0.18/s per partition since 02:09Z, "
            "0.72/s before; 47 log lines name a timeout of AWX",
            7,
            9,
        ),
        "ranking": ranking,
        "findings": (slow, log, killed),
        "impact": Impact(
            peak_lag_messages=5931.0,
            peak_age_seconds=1440.0,
            messages_delayed=5400.0,
            delay_message_seconds=5_400_000.0,
            slo_minutes_broken=28.0,
            messages_lost=0.0,
            lag_messages_now=5931.0,
            oldest_age_seconds_now=1440.0,
        ),
        "forecast": Forecast(
            net_drain_per_second=-3.2,
            catch_up_at=None,
            data_loss_at=END + pd.Timedelta("5h20min"),
            data_loss_rule="retention 6h, earliest possible",
        ),
        "actions": (
            Action(
                "kubectl get pods -n awx",
                "all Running and fast: look at cause 2",
                "read_only",
                title="Look at AWX",
                cause="slow_processing",
            ),
            Action(
                "kubectl rollout undo -n awx deployment/awx-web",
                "awx-web was rolled out 4 minutes before the onset",
                "disruptive",
                ("the rollout at 02:05Z is not wanted",),
                "Undo the AWX rollout",
                "slow_processing",
            ),
            Action(
                "rpk group seek deployment-worker --to end",
                "skips the backlog",
                "data_loss",
                ("5,931 messages may be thrown away",),
                "Abandon the backlog",
                "slow_processing",
            ),
        ),
        "do_not": ("scale out: it adds load to AWX", "seek to end: abandons 5,931 unread messages"),
        "sources": incident().sources,
        "not_checked": (
            "broker health: no broker metrics in Prometheus",
            "AWX latency: no address configured",
        ),
        "checks": (
            Check("consume_rate_down", "present", (slow,), query="prometheus-01"),
            Check(
                "downstream_errors", "present", (log,), source="kubernetes", query="kubernetes-01"
            ),
            Check("pod_restarts", "present", (killed,), source="kubernetes", query="kubernetes-01"),
            Check(
                "group_empty",
                "absent",
                reason="2 members were there all the time",
                query="prometheus-02",
            ),
            Check(
                "produce_rate_up",
                "absent",
                reason="produced 4.4/s, as before",
                query="prometheus-01",
            ),
            Check("broker_saturated", "not_checked", reason="no broker metrics in Prometheus"),
            Check(
                "downstream_slow",
                "not_checked",
                reason="no address configured",
                source="downstream",
            ),
        ),
        "next_check": "Is AWX slow? kubectl get pods -n awx",
    }
    return Verdict(**(fields | changes))


def owners() -> pd.DataFrame:
    """Return who owns which partition at capture."""
    return pd.DataFrame(
        {
            "topic": [TOPIC] * PARTITIONS,
            "partition": range(PARTITIONS),
            "member_id": [f"worker-{p % 2}" for p in range(PARTITIONS)],
            "client_id": ["worker"] * PARTITIONS,
            "host": [f"10.0.0.{p % 2}" for p in range(PARTITIONS)],
            "pod": [PODS[p % 2] for p in range(PARTITIONS)],
            "joined_by": ["host"] * PARTITIONS,
        }
    )


def computed(frame: pd.DataFrame) -> SimpleNamespace:
    """Return the flow of the frame `offsets`, computed by lagkit itself."""
    cleaned = flow.clean_offsets(frame)
    return SimpleNamespace(
        cleaned=cleaned,
        group=flow.group_flow(cleaned),
        time_lag=flow.time_lag(cleaned),
        rates=flow.rates(cleaned),
        status=flow.partition_status(cleaned),
    )


def result(**changes: Any) -> Result:
    """Return a whole result; *changes* replace its parts."""
    whole = incident()
    fields: dict[str, Any] = {
        "verdict": verdict(),
        "incident": whole,
        "owners": owners(),
        "runbook_group": runbook.Group(name=GROUP, topics=(TOPIC,), criticality="high"),
    }
    fields |= changes
    fields.setdefault("flow", computed(fields["incident"].offsets))
    return Result(**fields)


def blind_result() -> Result:
    """Return the result of an incident in which no source saw anything."""
    nothing = incident(tables={name: frames.empty(name) for name in frames.FRAMES})
    empty = replace(
        verdict(),
        state="unknown",
        onset=None,
        ranking=(),
        findings=(),
        impact=Impact(),
        forecast=Forecast(),
        actions=(),
        do_not=(),
        checks=(),
        next_check="",
        verdict=Headline(
            "unknown", 1.0, "almost certain", "low", "Unknown: no source saw anything", 0, 0
        ),
        sources={
            name: SourceReport("unavailable", "did not answer within 20 s", 20.0)
            for name in ("prometheus", "kafka", "kubernetes", "downstream")
        },
    )
    return result(incident=nothing, verdict=empty, owners=owners().iloc[:0])


MARKDOWN_ATTACK = "# [click](https://evil.example) | @team `rm -rf` <b>bold</b> **not**"
TERMINAL_ATTACK = "red\x1b[31m\x07 back\u202ewards\nsecond line"


def hostile_result() -> Result:
    """Return a result in which every text from outside tries to be something else."""
    texts = (HOSTILE, MARKDOWN_ATTACK, TERMINAL_ATTACK)
    history = offsets()
    history["topic"] = HOSTILE
    owned = owners()
    owned["topic"], owned["pod"] = HOSTILE, HOSTILE
    seen = tuple(
        finding(
            f"consume_rate_down:{index}",
            text,
            query=text,
            quote=text,
            onset=ONSET,
            value=1.0,
            unit=text,
            weights={"slow_processing": 2.0},
        )
        for index, text in enumerate(texts)
    )
    plain = verdict()
    lines = tuple(Evidence(f.id, 2.0, f.statement) for f in seen)
    top = replace(
        plain.ranking[0],
        evidence_for=lines,
        evidence_against=lines,
        not_checked=texts,
        would_change=texts,
    )
    alerts = frames.normalise(
        "alerts",
        [
            {
                "timestamp": ONSET,
                "alert": text,
                "state": "firing",
                "group": GROUP,
                "labels": str(index),
                "query_id": "prometheus-03",
            }
            for index, text in enumerate(texts)
        ],
    )
    pods = incident().pods.copy()
    pods["pod"] = [f"{text} {index}" for index, text in enumerate(texts)]
    queries = incident().queries.copy()
    queries["statement"] = HOSTILE
    queries["detail"] = MARKDOWN_ATTACK
    whole = incident(
        tables={"offsets": history, "alerts": alerts, "pods": pods, "queries": queries},
        coverage=tuple(Gap("kubernetes", text, text, text) for text in texts),
        facts={"prometheus": {"dialect": HOSTILE}},
        redactions={MARKDOWN_ATTACK: 1},
    )
    words = replace(
        plain,
        incident=replace(plain.incident, group=HOSTILE, topics=texts, cluster=HOSTILE, id=HOSTILE),
        verdict=replace(plain.verdict, summary=TERMINAL_ATTACK + HOSTILE),
        ranking=(top, *plain.ranking[1:]),
        findings=seen,
        do_not=texts,
        not_checked=texts,
        next_check=HOSTILE,
        actions=tuple(
            Action(text, text, "read_only", (text,), text, "slow_processing") for text in texts
        ),
        forecast=replace(plain.forecast, data_loss_rule=MARKDOWN_ATTACK),
        checks=tuple(Check("consume_rate_down", "present", (f,), f.statement) for f in seen),
        sources={"prometheus": SourceReport("partial", HOSTILE, 1.0)},
    )
    return result(incident=whole, verdict=words, owners=owned)

"""Every frame that crosses from a source into the analysis: columns, dtypes, units, meaning.

This is the one contract between ``lagkit.sources`` and everything to the right of it. A source
builds rows, :func:`normalise` makes them a typed frame in a stable order; what does not fit raises
here, at the boundary, and nowhere later. The module knows no source and no cause.

Times are ``datetime64[us, UTC]``. A missing number is NaN and a missing text is NA: never 0, never
an empty string. Offsets are float64 (exact up to 2**53) so that "unknown" has a place to live;
values an exporter uses as a marker, such as -1, are kept as they came and read by ``lagkit.flow``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pandera.pandas as pa

TIME = "datetime64[us, UTC]"
TEXT = "str"
NUMBER = "float64"
WHOLE = "Int64"
FLAG = "boolean"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: dtype, unit ("" for none) and what a value means."""

    name: str
    dtype: str
    unit: str
    meaning: str
    required: bool = False
    """A row without a value here is refused."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its columns in order, and the columns that sort it and make a row unique."""

    name: str
    source: str
    meaning: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    unique: bool = True

    def column(self, name: str) -> Column:
        """Return the column called *name*; KeyError if the frame has none."""
        for column in self.columns:
            if column.name == name:
                return column
        msg = f"frame {self.name!r} has no column {name!r}"
        raise KeyError(msg)


_AT = Column("timestamp", TIME, "UTC", "when the value was true", required=True)
_GROUP = Column("group", TEXT, "", "consumer group id", required=True)
_TOPIC = Column("topic", TEXT, "", "topic name", required=True)
_PARTITION = Column("partition", WHOLE, "", "partition number", required=True)
_NAMESPACE = Column("namespace", TEXT, "", "Kubernetes namespace", required=True)
_QUERY = Column("query_id", TEXT, "", "row of `queries` this came from", required=True)


WHOLE_TOPIC = -1
"""Partition number of a row of `offsets` that is about all partitions of its topic together."""


def _offset(name: str, meaning: str) -> Column:
    return Column(name, NUMBER, "offset", meaning)


FRAMES: Mapping[str, Frame] = {
    frame.name: frame
    for frame in (
        Frame(
            "offsets",
            "prometheus",
            "offset history of the group, one row per sample and partition, as exported (-1 kept); "
            "partition -1: sums over the topic, of an exporter that tells no partition",
            (
                _AT,
                _GROUP,
                _TOPIC,
                _PARTITION,
                _offset("committed_offset", "next offset the group will read; -1: never committed"),
                _offset("log_end_offset", "offset of the next record to be written"),
                _offset("log_start_offset", "oldest offset still on disk"),
                Column("lag_messages", NUMBER, "messages", "lag as the exporter reported it"),
                Column("lag_seconds", NUMBER, "seconds", "time lag as the exporter reported it"),
                _QUERY,
            ),
            ("timestamp", "group", "topic", "partition"),
        ),
        Frame(
            "group_history",
            "prometheus",
            "membership and state of the group over time",
            (
                _AT,
                _GROUP,
                Column("member_count", NUMBER, "members", "members the exporter saw"),
                Column("state", TEXT, "", "Stable, PreparingRebalance, Empty, … where exported"),
                _QUERY,
            ),
            ("timestamp", "group"),
        ),
        Frame(
            "neighbours",
            "prometheus",
            "other groups, and other topics of this group, for the blast-radius comparison",
            (
                _AT,
                _GROUP,
                _TOPIC,
                Column("lag_messages", NUMBER, "messages", "sum over partitions, -1 left out"),
                _offset("committed_sum", "sum of committed offsets over partitions, -1 left out"),
                _QUERY,
            ),
            ("timestamp", "group", "topic"),
        ),
        Frame(
            "broker_metrics",
            "prometheus",
            "broker health in canonical names, long form",
            (
                _AT,
                Column(
                    "metric",
                    TEXT,
                    "",
                    "under_replicated_partitions, offline_partitions, broker_count, "
                    "request_handler_idle_ratio, network_idle_ratio, produce_p99_seconds, "
                    "offset_commit_p99_seconds, request_queue_p99_seconds, scrape_seconds, "
                    "throttle_seconds",
                    required=True,
                ),
                Column(
                    "instance", TEXT, "", "broker or exporter the value is about", required=True
                ),
                Column("value", NUMBER, "see unit", "value in `unit`"),
                Column("unit", TEXT, "", "partitions, brokers, ratio or seconds", required=True),
                _QUERY,
            ),
            ("timestamp", "metric", "instance"),
        ),
        Frame(
            "alerts",
            "prometheus",
            "alert states over time (ALERTS)",
            (
                _AT,
                Column("alert", TEXT, "", "alertname", required=True),
                Column("state", TEXT, "", "pending or firing", required=True),
                Column("group", TEXT, "", "consumer group label, where the alert carries one"),
                Column("severity", TEXT, "", "severity label, where the alert carries one"),
                Column("active_at", TIME, "UTC", "when the expression became true"),
                Column("labels", TEXT, "", "all labels as JSON with sorted keys", required=True),
                _QUERY,
            ),
            ("timestamp", "alert", "state", "labels"),
        ),
        Frame(
            "targets",
            "prometheus",
            "scrape health (up) of the exporters behind the other frames",
            (
                _AT,
                Column("job", TEXT, "", "scrape job", required=True),
                Column("instance", TEXT, "", "scrape target", required=True),
                Column("up", NUMBER, "", "1 scraped, 0 failed", required=True),
                _QUERY,
            ),
            ("timestamp", "job", "instance"),
        ),
        Frame(
            "second_opinions",
            "prometheus",
            "what the other exporters of the same group say, in a coarse step, for a cross-check; "
            "partition NA where an exporter knows the group's topic only, topic NA too where it "
            "knows the group only",
            (
                _AT,
                Column("dialect", TEXT, "", "id of the exporter's dialect", required=True),
                _GROUP,
                Column("topic", TEXT, "", "topic name; NA: all topics of the group"),
                Column("partition", WHOLE, "", "partition number; NA: all partitions"),
                _offset("committed_offset", "as exported (-1 kept); of a whole topic: their sum"),
                _offset("log_end_offset", "as exported; of a whole topic: their sum"),
                Column("lag_messages", NUMBER, "messages", "lag as that exporter reported it"),
                _QUERY,
            ),
            ("timestamp", "dialect", "group", "topic", "partition"),
        ),
        Frame(
            "pod_metrics",
            "prometheus",
            "history of the pods from kube-state-metrics and cAdvisor, in canonical names",
            (
                _AT,
                _NAMESPACE,
                Column("pod", TEXT, "", "pod name", required=True),
                Column("container", TEXT, "", "container name", required=True),
                Column(
                    "metric",
                    TEXT,
                    "",
                    "restarts, oom_killed, cpu_cores, cpu_throttled_ratio, memory_bytes, "
                    "memory_limit_bytes, started_at",
                    required=True,
                ),
                Column("value", NUMBER, "see unit", "value in `unit`"),
                Column(
                    "unit",
                    TEXT,
                    "",
                    "restarts, flag, cores, ratio, bytes or unix seconds",
                    required=True,
                ),
                _QUERY,
            ),
            ("timestamp", "namespace", "pod", "container", "metric"),
        ),
        Frame(
            "group_state",
            "kafka",
            "what the coordinator says of the group and of the other groups on its topics",
            (
                _AT,
                _GROUP,
                Column(
                    "state",
                    TEXT,
                    "",
                    "Stable, PreparingRebalance, CompletingRebalance, "
                    "Empty, Dead, Assigning, Reconciling or Unknown",
                ),
                Column("protocol", TEXT, "", "classic or consumer (KIP-848)"),
                Column("assignor", TEXT, "", "partition assignor, e.g. range"),
                Column("coordinator", TEXT, "", "host:port of the coordinator"),
                Column("member_count", WHOLE, "members", "members listed"),
                _QUERY,
            ),
            ("timestamp", "group"),
        ),
        Frame(
            "members",
            "kafka",
            "who owns what: one row per member and assigned partition; topic and partition NA "
            "for a member without partitions",
            (
                _AT,
                _GROUP,
                Column("member_id", TEXT, "", "member id given by the coordinator", required=True),
                Column("client_id", TEXT, "", "client.id as configured"),
                Column("instance_id", TEXT, "", "group.instance.id of a static member"),
                Column("host", TEXT, "", "client host as the broker sees it, without the slash"),
                Column("topic", TEXT, "", "assigned topic"),
                Column("partition", WHOLE, "", "assigned partition"),
                _QUERY,
            ),
            ("timestamp", "group", "member_id", "topic", "partition"),
        ),
        Frame(
            "partitions",
            "kafka",
            "offsets read from the broker itself, in a few snapshots seconds apart",
            (
                _AT,
                _GROUP,
                _TOPIC,
                _PARTITION,
                _offset("committed_offset", "NaN: the group has committed nothing here"),
                _offset("log_start_offset", "oldest offset still on disk"),
                _offset("log_end_offset", "high watermark"),
                _offset(
                    "last_stable_offset",
                    "first offset of the oldest open transaction, or the high watermark",
                ),
                Column("leader", WHOLE, "", "broker id of the leader; NA: leaderless"),
                Column("replica_count", WHOLE, "replicas", "replicas"),
                Column("isr_count", WHOLE, "replicas", "replicas in sync"),
                Column("error", TEXT, "", "per-partition error of any of these calls"),
                _QUERY,
            ),
            ("timestamp", "group", "topic", "partition"),
        ),
        Frame(
            "log_end_history",
            "kafka",
            "log ends of the past, told by the records' own timestamps; no row where unknown",
            (
                _AT,
                _TOPIC,
                _PARTITION,
                _offset("log_end_offset", "log end when records of this time began"),
                _QUERY,
            ),
            ("timestamp", "topic", "partition"),
        ),
        Frame(
            "oldest_unread",
            "kafka",
            "age of the oldest unread record by its own timestamp, at the last snapshot",
            (
                _AT,
                _GROUP,
                _TOPIC,
                _PARTITION,
                _offset("next_offset", "offset that the group reads next, not below the log start"),
                Column("written_at", TIME, "UTC", "when it was written; NA: nothing unread"),
                Column("written_before", TIME, "UTC", "it was written no later than this"),
                Column("time_lag_seconds", NUMBER, "seconds", "0: nothing unread; NaN: unknown"),
                Column("note", TEXT, "", "why it is unknown, or what to know of it"),
                _QUERY,
            ),
            ("timestamp", "group", "topic", "partition"),
        ),
        Frame(
            "commits",
            "kafka",
            "the group's own commits, from __consumer_offsets where that may be read",
            (
                _AT,
                _GROUP,
                _TOPIC,
                _PARTITION,
                _offset("committed_offset", "NaN: the commit was removed (expired or deleted)"),
                Column("log_position", WHOLE, "", "offset in __consumer_offsets", required=True),
                Column(
                    "complete",
                    FLAG,
                    "",
                    "no commit between this one and the next is missing: not compacted since",
                    required=True,
                ),
                _QUERY,
            ),
            ("timestamp", "group", "topic", "partition", "log_position"),
        ),
        Frame(
            "group_log",
            "kafka",
            "what happened to the group, from __consumer_offsets where that may be read",
            (
                _AT,
                _GROUP,
                Column(
                    "event",
                    TEXT,
                    "",
                    "generation, joined, left, emptied, removed, epoch or assigned",
                    required=True,
                ),
                Column("generation", WHOLE, "", "generation, or epoch of a KIP-848 group"),
                Column("member_id", TEXT, "", "member id, where the event is about one"),
                Column("client_id", TEXT, "", "client.id as configured"),
                Column("instance_id", TEXT, "", "group.instance.id of a static member"),
                Column("host", TEXT, "", "client host as the broker sees it, without the slash"),
                Column("member_count", WHOLE, "members", "members after a generation event"),
                Column("session_timeout_seconds", NUMBER, "seconds", "in force; classic groups"),
                Column("rebalance_timeout_seconds", NUMBER, "seconds", "max.poll.interval.ms"),
                Column("protocol", TEXT, "", "classic or consumer (KIP-848)"),
                Column("log_position", WHOLE, "", "offset in __consumer_offsets", required=True),
                _QUERY,
            ),
            ("timestamp", "log_position", "event", "member_id"),
            unique=False,
        ),
        Frame(
            "brokers",
            "kafka",
            "brokers of the cluster as metadata lists them",
            (
                _AT,
                Column("broker_id", WHOLE, "", "node id", required=True),
                Column("address", TEXT, "", "host:port", required=True),
                Column("is_controller", FLAG, "", "answers as controller"),
                _QUERY,
            ),
            ("timestamp", "broker_id"),
        ),
        Frame(
            "configs",
            "kafka",
            "the configuration that matters to lag (retention, cleanup, timeouts, quotas)",
            (
                _AT,
                Column("resource", TEXT, "", "topic, group or broker", required=True),
                Column("name", TEXT, "", "name of the resource", required=True),
                Column("key", TEXT, "", "configuration key", required=True),
                Column("value", TEXT, "", "value as text; NA: sensitive or unset"),
                Column("is_default", FLAG, "", "value is the default"),
                _QUERY,
            ),
            ("timestamp", "resource", "name", "key"),
        ),
        Frame(
            "pods",
            "kubernetes",
            "pods of the workload and of its dependencies, one row per container",
            (
                _AT,
                _NAMESPACE,
                Column("pod", TEXT, "", "pod name", required=True),
                Column("container", TEXT, "", "container name", required=True),
                Column("workload", TEXT, "", "owning Deployment or StatefulSet"),
                Column("replica_set", TEXT, "", "owning ReplicaSet"),
                Column(
                    "role",
                    TEXT,
                    "",
                    "consumer, or the downstream's name in the runbook",
                    required=True,
                ),
                Column("node", TEXT, "", "node name; NA: not scheduled"),
                Column("pod_ip", TEXT, "", "pod IP; NA: none yet"),
                Column("phase", TEXT, "", "Pending, Running, Succeeded, Failed or Unknown"),
                Column("ready", FLAG, "", "container ready"),
                Column("restart_count", WHOLE, "restarts", "restarts of the container"),
                Column("state", TEXT, "", "running, waiting or terminated"),
                Column("state_reason", TEXT, "", "e.g. CrashLoopBackOff, ImagePullBackOff"),
                Column("last_exit_code", WHOLE, "", "exit code of the last termination"),
                Column("last_reason", TEXT, "", "reason of the last termination, e.g. OOMKilled"),
                Column("last_finished_at", TIME, "UTC", "end of the last termination"),
                Column("started_at", TIME, "UTC", "start of the running container"),
                Column("created_at", TIME, "UTC", "creation of the pod"),
                Column("deleted_at", TIME, "UTC", "deletion asked for"),
                Column("unschedulable", TEXT, "", "scheduler's message while unschedulable"),
                Column("image", TEXT, "", "image"),
                _QUERY,
            ),
            ("namespace", "pod", "container"),
        ),
        Frame(
            "events",
            "kubernetes",
            "events about those workloads, their pods, nodes and autoscalers",
            (
                _AT,
                _NAMESPACE,
                Column("kind", TEXT, "", "kind of the object", required=True),
                Column("name", TEXT, "", "name of the object", required=True),
                Column("type", TEXT, "", "Normal or Warning"),
                Column("reason", TEXT, "", "e.g. BackOff, Unhealthy, ScalingReplicaSet"),
                Column("message", TEXT, "", "text, bounded and redacted"),
                Column("count", WHOLE, "times", "how often it was seen"),
                Column("first_at", TIME, "UTC", "first time it was seen"),
                Column("component", TEXT, "", "who reported it"),
                _QUERY,
            ),
            ("timestamp", "namespace", "kind", "name", "reason", "message"),
            unique=False,
        ),
        Frame(
            "workloads",
            "kubernetes",
            "Deployments and StatefulSets of the runbook as they are now",
            (
                _AT,
                _NAMESPACE,
                Column("workload", TEXT, "", "name", required=True),
                Column("kind", TEXT, "", "Deployment or StatefulSet", required=True),
                Column("role", TEXT, "", "consumer, or the downstream's name", required=True),
                Column("desired_replicas", WHOLE, "replicas", "spec.replicas"),
                Column("ready_replicas", WHOLE, "replicas", "ready; absent in the API means 0"),
                Column("updated_replicas", WHOLE, "replicas", "on the newest revision"),
                Column("condition", TEXT, "", "conditions that are not well, as text"),
                _QUERY,
            ),
            ("namespace", "kind", "workload"),
        ),
        Frame(
            "rollouts",
            "kubernetes",
            "revisions of those workloads, one row per ReplicaSet or ControllerRevision",
            (
                Column("timestamp", TIME, "UTC", "creation of the ReplicaSet", required=True),
                _NAMESPACE,
                Column("workload", TEXT, "", "Deployment or StatefulSet", required=True),
                Column("role", TEXT, "", "consumer, or the downstream's name", required=True),
                Column("replica_set", TEXT, "", "ReplicaSet or ControllerRevision", required=True),
                Column("revision", WHOLE, "", "its number, counted from 1"),
                Column("desired_replicas", WHOLE, "replicas", "of this revision"),
                Column("ready_replicas", WHOLE, "replicas", "of this revision"),
                Column("image", TEXT, "", "images, comma separated"),
                Column("change_cause", TEXT, "", "kubernetes.io/change-cause annotation"),
                _QUERY,
            ),
            ("timestamp", "namespace", "workload", "replica_set"),
        ),
        Frame(
            "autoscalers",
            "kubernetes",
            "HorizontalPodAutoscalers and KEDA ScaledObjects that scale those workloads, as they "
            "are now",
            (
                _AT,
                _NAMESPACE,
                Column("autoscaler", TEXT, "", "name", required=True),
                Column("kind", TEXT, "", "HorizontalPodAutoscaler or ScaledObject", required=True),
                Column("workload", TEXT, "", "Deployment or StatefulSet it scales", required=True),
                Column("role", TEXT, "", "consumer, or the downstream's name", required=True),
                Column("min_replicas", WHOLE, "replicas", "fewest it keeps; 0: scales to zero"),
                Column("max_replicas", WHOLE, "replicas", "most it may make"),
                Column("current_replicas", WHOLE, "replicas", "as it last saw them"),
                Column("desired_replicas", WHOLE, "replicas", "as it last decided"),
                Column(
                    "last_scaled_at",
                    TIME,
                    "UTC",
                    "last change of replicas; of a ScaledObject: when a trigger was last active",
                ),
                Column("limited_by_max", FLAG, "", "wants more than the maximum; NA: not said"),
                Column("active", FLAG, "", "a trigger of the ScaledObject is active"),
                Column("triggers", TEXT, "", "what it follows"),
                Column("condition", TEXT, "", "conditions that are not well, as text"),
                _QUERY,
            ),
            ("namespace", "kind", "autoscaler", "role"),
        ),
        Frame(
            "nodes",
            "kubernetes",
            "nodes that those pods stand on, as they are now",
            (
                _AT,
                Column("node", TEXT, "", "node name", required=True),
                Column("ready", FLAG, "", "False: not ready, or silent; NA: has never told"),
                Column("pressure", TEXT, "", "MemoryPressure, DiskPressure, … that hold"),
                Column("cordoned", FLAG, "", "takes no new pods"),
                Column("changed_at", TIME, "UTC", "since when the first of these holds"),
                Column("heartbeat_at", TIME, "UTC", "last time the node told of itself"),
                Column("condition", TEXT, "", "conditions that are not well, as text"),
                _QUERY,
            ),
            ("node",),
        ),
        Frame(
            "quotas",
            "kubernetes",
            "ResourceQuotas and LimitRanges of those namespaces, one row per resource and bound",
            (
                _AT,
                _NAMESPACE,
                Column("kind", TEXT, "", "ResourceQuota or LimitRange", required=True),
                Column("name", TEXT, "", "name", required=True),
                Column("resource", TEXT, "", "e.g. pods, requests.memory", required=True),
                Column("hard", NUMBER, "cores, bytes or objects", "the bound"),
                Column("used", NUMBER, "cores, bytes or objects", "taken of it; NaN: not counted"),
                _QUERY,
            ),
            ("namespace", "kind", "name", "resource"),
        ),
        Frame(
            "logs",
            "kubernetes",
            "bounded tail of the current and previous logs, redacted",
            (
                _AT,
                _NAMESPACE,
                Column("pod", TEXT, "", "pod name", required=True),
                Column("container", TEXT, "", "container name", required=True),
                Column("role", TEXT, "", "consumer, or the downstream's name", required=True),
                Column("previous", FLAG, "", "from the terminated container", required=True),
                Column("line_number", WHOLE, "", "position in what was read", required=True),
                Column("level", TEXT, "", "ERROR, WARNING, INFO, DEBUG where the line says so"),
                Column("message", TEXT, "", "the line, at most 2,000 characters", required=True),
                _QUERY,
            ),
            ("namespace", "pod", "container", "previous", "line_number"),
        ),
        Frame(
            "downstream",
            "downstream",
            "probes of what the consumer depends on",
            (
                _AT,
                Column("target", TEXT, "", "name in the runbook, e.g. awx", required=True),
                Column("check", TEXT, "", "name of the probe, e.g. ping", required=True),
                Column("url", TEXT, "", "URL without userinfo and query", required=True),
                Column("status_code", WHOLE, "", "HTTP status; NA: no answer"),
                Column("latency_seconds", NUMBER, "seconds", "time to the whole answer"),
                Column("ok", FLAG, "", "answered as a healthy one does", required=True),
                Column("detail", TEXT, "", "error, or what the answer said"),
                Column("value", NUMBER, "see unit", "what the check reads out of the answer"),
                Column("unit", TEXT, "", "of `value`, e.g. seconds"),
                _QUERY,
            ),
            ("timestamp", "target", "check"),
        ),
        Frame(
            "jobs",
            "downstream",
            "jobs that the downstream ran for the consumer (AWX: /api/v2/jobs/)",
            (
                Column("timestamp", TIME, "UTC", "creation of the job", required=True),
                Column("target", TEXT, "", "name in the runbook, e.g. awx", required=True),
                Column("job_id", TEXT, "", "id", required=True),
                Column("status", TEXT, "", "pending, waiting, running, successful, failed, …"),
                Column("started_at", TIME, "UTC", "start"),
                Column("finished_at", TIME, "UTC", "end; NA: still running"),
                Column("elapsed_seconds", NUMBER, "seconds", "run time; of a running job: so far"),
                _QUERY,
            ),
            ("timestamp", "target", "job_id"),
        ),
        Frame(
            "queries",
            "lagkit",
            "provenance: every question asked, with its text, time and outcome",
            (
                Column("query_id", TEXT, "", "source-number, e.g. prometheus-03", required=True),
                Column(
                    "source", TEXT, "", "prometheus, kafka, kubernetes or downstream", required=True
                ),
                Column("statement", TEXT, "", "the query, call or URL", required=True),
                Column("started_at", TIME, "UTC", "when it was asked", required=True),
                Column("seconds", NUMBER, "seconds", "until the answer was decoded", required=True),
                Column("rows", WHOLE, "rows", "rows it gave", required=True),
                Column(
                    "outcome",
                    TEXT,
                    "",
                    "ok, empty, partial, denied, timeout or failed",
                    required=True,
                ),
                Column("detail", TEXT, "", "warnings, error text, what was cut"),
            ),
            ("query_id",),
        ),
    )
}


def _per_second(name: str, meaning: str) -> Column:
    return Column(name, NUMBER, "messages per second", meaning)


HISTORY_FRAMES: Mapping[str, Frame] = {
    frame.name: frame
    for frame in (
        Frame(
            "flow_hours",
            "prometheus",
            "weeks of one group on one topic, one row an hour, sums over partitions; the extremes "
            "are of the hour that ends here",
            (
                Column("timestamp", TIME, "UTC", "end of the hour", required=True),
                _GROUP,
                _TOPIC,
                _offset("committed_sum", "committed offsets at the end of the hour, -1 left out"),
                _offset("log_end_sum", "log end offsets at the end of the hour"),
                _offset("log_start_sum", "log start offsets at the end of the hour"),
                _per_second("produced_high", "the highest rate of some minutes in the hour"),
                _per_second("produced_low", "the lowest"),
                _per_second("consumed_high", "the highest rate of some minutes in the hour"),
                Column("lag_high", NUMBER, "messages", "sum of the partitions' highest lags"),
                Column("retention_use", NUMBER, "ratio", "worst lag / records kept of a partition"),
                Column("dialect", TEXT, "", "exporter that told the offsets"),
            ),
            ("timestamp", "group", "topic"),
        ),
        Frame(
            "partition_days",
            "prometheus",
            "log end of each partition once a day: how even it is, and when partitions were added",
            (
                Column("timestamp", TIME, "UTC", "when the value was true", required=True),
                _TOPIC,
                _PARTITION,
                _offset("log_end_offset", "offset of the next record to be written"),
            ),
            ("timestamp", "topic", "partition"),
        ),
        Frame(
            "member_hours",
            "prometheus",
            "members of a group once an hour",
            (
                Column("timestamp", TIME, "UTC", "end of the hour", required=True),
                _GROUP,
                Column("member_count", NUMBER, "members", "members the exporter saw"),
            ),
            ("timestamp", "group"),
        ),
        Frame(
            "workload_hours",
            "prometheus",
            "generation of each workload of the runbook once an hour: it changes with a deploy",
            (
                Column("timestamp", TIME, "UTC", "end of the hour", required=True),
                _NAMESPACE,
                Column("workload", TEXT, "", "name of the Deployment", required=True),
                Column("generation", NUMBER, "", "metadata.generation of the object"),
            ),
            ("timestamp", "namespace", "workload"),
        ),
        FRAMES["queries"],
    )
}
"""What a history of weeks holds, beside :data:`FRAMES` of an incident."""

_KNOWN = {**FRAMES, **HISTORY_FRAMES}


class FrameError(ValueError):
    """Rows do not fit the schema of their frame: a fault of the source that built them."""


def empty(name: str) -> pd.DataFrame:
    """Return the frame *name* with no rows and every dtype right."""
    return pd.DataFrame(
        {column.name: pd.Series([], dtype=column.dtype) for column in _KNOWN[name].columns}
    )


def normalise(
    name: str, rows: pd.DataFrame | Iterable[Mapping[str, Any]], *, check: bool = True
) -> pd.DataFrame:
    """Return *rows* as the typed, ordered and checked frame *name*.

    Columns that the rows lack become missing values, if the schema allows it. Row order never
    matters: rows are sorted by the frame's keys. Times must carry a zone.

    Raises
    ------
    FrameError
        A column is unknown, a required value is missing, a value cannot take its dtype, a time is
        naive, or two rows share a key.
    """
    schema = _KNOWN[name]
    raw = rows if isinstance(rows, pd.DataFrame) else _table(list(rows))
    if raw.empty:
        return empty(name)
    unknown = sorted(set(raw.columns) - {column.name for column in schema.columns})
    if unknown:
        msg = f"frame {name!r}: unknown columns {', '.join(map(str, unknown))}"
        raise FrameError(msg)
    typed = pd.DataFrame(
        {
            column.name: _cast(name, column, raw[column.name])
            if column.name in raw.columns
            else pd.Series(pd.NA if column.dtype in (WHOLE, FLAG) else None, index=raw.index)
            .astype("object")
            .astype(column.dtype)
            for column in schema.columns
        },
        index=raw.index,
    )
    typed = typed.sort_values(list(schema.keys), kind="stable", ignore_index=True)
    if check:
        import pandera.errors

        try:
            pandera_schema(name).validate(typed, lazy=True)
        except pandera.errors.SchemaErrors as error:
            first = error.failure_cases.iloc[0]
            msg = (
                f"frame {name!r}: {len(error.failure_cases)} value(s) break the schema; first: "
                f"column {first['column']}, check {first['check']}, value {first['failure_case']!r}"
            )
            raise FrameError(msg) from None
    return typed


def _table(rows: list[Mapping[str, Any]]) -> pd.DataFrame:
    try:
        return pd.DataFrame.from_records(rows)
    except UnicodeEncodeError:
        # as objects nothing is encoded yet; see _text
        return pd.DataFrame(rows, dtype="object")


def _cast(frame: str, column: Column, values: pd.Series[Any]) -> pd.Series[Any]:
    try:
        if column.dtype == TIME:
            return _utc_microseconds(values)
        if column.dtype == TEXT:
            return _text(values.astype("object").where(values.notna(), None))
        if column.dtype in (WHOLE, FLAG):
            return values.astype("object").where(values.notna(), pd.NA).astype(column.dtype)
        return pd.to_numeric(values).astype(NUMBER)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"frame {frame!r}, column {column.name!r}: not {column.dtype}: {error}"
        raise FrameError(msg) from None


def _text(values: pd.Series[Any]) -> pd.Series[str]:
    try:
        return values.astype(TEXT)
    except UnicodeEncodeError:
        # half a surrogate pair, as JSON lets a label have: no encoding can write it
        return values.map(
            lambda value: str(value).encode("utf-8", "replace").decode(), na_action="ignore"
        ).astype(TEXT)


def _utc_microseconds(values: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").dt.as_unit("us")
    if values.isna().all():
        return pd.Series(pd.NaT, index=values.index, dtype=TIME)
    if np.issubdtype(np.asarray(values).dtype, np.datetime64):
        msg = "times without a zone"
        raise ValueError(msg)
    stamps = [pd.NaT if pd.isna(value) else pd.Timestamp(value) for value in values]
    if any(stamp is not pd.NaT and stamp.tzinfo is None for stamp in stamps):
        msg = "times without a zone"
        raise ValueError(msg)
    # one unit for all: mixed ns and us columns make merge_asof raise
    return pd.Series(
        pd.DatetimeIndex(pd.to_datetime(stamps, utc=True)).as_unit("us"), index=values.index
    )


def from_epoch_seconds(seconds: Iterable[float] | np.ndarray) -> pd.DatetimeIndex:
    """Return Unix seconds (floats, as Prometheus sends them) as ``datetime64[us, UTC]``.

    Rounded to whole milliseconds first: a float second cast to microseconds keeps the float's
    error (…20.122999).
    """
    millis = np.rint(np.asarray(seconds, dtype="float64") * 1000).astype("int64")
    return pd.DatetimeIndex(pd.to_datetime(millis, unit="ms", utc=True)).as_unit("us")


@functools.cache
def pandera_schema(name: str) -> pa.DataFrameSchema:
    """Return the pandera schema of frame *name*: strict, ordered, units in the metadata."""
    import pandera.pandas as pa

    frame = _KNOWN[name]
    return pa.DataFrameSchema(
        {
            column.name: pa.Column(
                pd.DatetimeTZDtype("us", "UTC") if column.dtype == TIME else column.dtype,
                nullable=not column.required,
                description=column.meaning,
                metadata={"unit": column.unit},
            )
            for column in frame.columns
        },
        strict=True,
        ordered=True,
        unique=list(frame.keys) if frame.unique else None,
        name=name,
        description=frame.meaning,
    )

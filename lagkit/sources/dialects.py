"""The dialects of lag exporters and broker exporters, as data: names, labels, encodings, gaps.

A dialect is one :class:`Dialect` in :data:`DIALECTS`; adding an exporter means adding one there and
nothing elsewhere. Names are tried in the order given, because one exporter writes the same number
under several names (OpenTelemetry appends ``_ratio``). This module asks no server and judges no
value: it turns "the committed offsets of group g" into PromQL for the exporter at hand.

PromQL is made here only, and every value in it goes through :func:`quoted` or :func:`one_of`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

CONCEPTS = ("lag", "committed", "log_end", "log_start")
"""What a dialect may give per partition."""


@dataclass(frozen=True, slots=True)
class State:
    """How the group's state is written: as a label of a metric, or as a code in its value."""

    name: str
    label: str = ""
    codes: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """What a dialect does not show; stated if none of *unless* is there."""

    what: str
    why: str
    fix: str
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names one exporter uses; ``{prefix}`` is what ``detect`` found before the name."""

    id: str
    title: str
    detect: str
    """Pattern that a metric name must match whole."""
    group: str
    topic: str
    partition: str
    lag: tuple[str, ...] = ()
    committed: tuple[str, ...] = ()
    """Empty where the exporter has only lag and log end: committed is then their difference."""
    log_end: tuple[str, ...] = ()
    log_start: tuple[str, ...] = ()
    committed_by_topic: str = ""
    """Sum over partitions, where that sum leaves the -1 out and ``committed`` is missing."""
    members: tuple[str, ...] = ()
    state: State | None = None
    needs: tuple[str, ...] = ()
    """One of these must be there as well."""
    excludes: tuple[str, ...] = ()
    """None of these may be there."""
    log_matchers: str = ""
    """Further matchers of the log offsets."""
    gaps: tuple[Gap, ...] = ()

    @property
    def groups_from(self) -> str:
        """The concept whose series say which groups exist."""
        return "lag" if self.lag else "committed"


_BROKER_READS_LOG_START = "Give --bootstrap: the broker itself knows its log start offsets."
_STATE_CODES = {
    0: "Unknown",
    1: "PreparingRebalance",
    2: "CompletingRebalance",
    3: "Stable",
    4: "Dead",
    5: "Empty",
    6: "Assigning",
    7: "Reconciling",
}  # klag-exporter, kafka_consumergroup_group_state
_NO_STATE = Gap(
    "state of the group over time",
    "this exporter does not write it",
    "Give --bootstrap for the state now; members over time stand in for its history.",
)

DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        id="klag_exporter",
        title="klag-exporter",
        detect="kafka_consumergroup_group_lag",
        needs=("kafka_consumergroup_group_state", "kafka_consumergroup_group_messages_lost"),
        group="group",
        topic="topic",
        partition="partition",
        lag=("kafka_consumergroup_group_lag",),
        committed=("kafka_consumergroup_group_offset",),
        log_end=("kafka_partition_latest_offset",),
        log_start=("kafka_partition_earliest_offset",),
        state=State("kafka_consumergroup_group_state", codes=_STATE_CODES),
    ),
    Dialect(
        id="seglo",
        title="kafka-lag-exporter (seglo)",
        detect="kafka_consumergroup_group_lag",
        excludes=("kafka_consumergroup_group_state", "kafka_consumergroup_group_messages_lost"),
        group="group",
        topic="topic",
        partition="partition",
        lag=("kafka_consumergroup_group_lag",),
        committed=("kafka_consumergroup_group_offset",),
        log_end=("kafka_partition_latest_offset",),
        log_start=("kafka_partition_earliest_offset",),
        gaps=(_NO_STATE,),
    ),
    Dialect(
        id="kminion",
        title="kminion",
        detect=r"(?P<prefix>.*)kafka_consumer_group_topic_partition_lag",
        group="group_id",
        topic="topic_name",
        partition="partition_id",
        lag=("{prefix}kafka_consumer_group_topic_partition_lag",),
        log_end=("{prefix}kafka_topic_partition_high_water_mark",),
        log_start=("{prefix}kafka_topic_partition_low_water_mark",),
        committed_by_topic="{prefix}kafka_consumer_group_topic_offset_sum",
        members=("{prefix}kafka_consumer_group_members",),
        state=State("{prefix}kafka_consumer_group_info", label="state"),
    ),
    Dialect(
        id="braedon",
        title="prometheus-kafka-consumer-group-exporter (braedon)",
        detect="kafka_consumer_group_(lag|exporter_offset)",
        needs=("kafka_topic_highwater", "kafka_consumer_group_exporter_offset"),
        group="group",
        topic="topic",
        partition="partition",
        lag=("kafka_consumer_group_lag",),
        committed=("kafka_consumer_group_offset",),
        log_end=("kafka_topic_highwater",),
        log_start=("kafka_topic_lowwater",),
        gaps=(
            Gap(
                "consumer lag from prometheus-kafka-consumer-group-exporter",
                "it runs and writes no lag series: it cannot read the offsets of Kafka 4 and "
                "later, and an alert on kafka_consumer_group_lag can never fire",
                "Deploy another exporter, e.g. the OpenTelemetry kafkametrics receiver.",
                unless=("kafka_consumer_group_lag",),
            ),
            _NO_STATE,
        ),
    ),
    Dialect(
        id="otel",
        title="OpenTelemetry kafkametrics receiver",
        detect="kafka_consumer_group_lag(_ratio)?",
        group="group",
        topic="topic",
        partition="partition",
        lag=("kafka_consumer_group_lag", "kafka_consumer_group_lag_ratio"),
        committed=("kafka_consumer_group_offset", "kafka_consumer_group_offset_ratio"),
        log_end=("kafka_partition_current_offset", "kafka_partition_current_offset_ratio"),
        log_start=("kafka_partition_oldest_offset", "kafka_partition_oldest_offset_ratio"),
        members=("kafka_consumer_group_members", "kafka_consumer_group_members_ratio"),
        gaps=(_NO_STATE,),
    ),
    Dialect(
        id="kafka_exporter",
        title="kafka_exporter (danielqsj)",
        detect="kafka_consumergroup_lag",
        group="consumergroup",
        topic="topic",
        partition="partition",
        lag=("kafka_consumergroup_lag",),
        committed=("kafka_consumergroup_current_offset",),
        log_end=("kafka_topic_partition_current_offset",),
        log_start=("kafka_topic_partition_oldest_offset",),
        members=("kafka_consumergroup_members",),
        gaps=(_NO_STATE,),
    ),
    Dialect(
        id="redpanda",
        title="Redpanda /public_metrics",
        detect="redpanda_kafka_consumer_group_committed_offset",
        group="redpanda_group",
        topic="redpanda_topic",
        partition="redpanda_partition",
        committed=("redpanda_kafka_consumer_group_committed_offset",),
        log_end=("redpanda_kafka_max_offset",),
        log_matchers='redpanda_namespace="kafka"',
        members=("redpanda_kafka_consumer_group_consumers",),
        gaps=(
            Gap(
                "Redpanda's own lag gauges",
                "consumer_lag is not among enable_consumer_group_metrics; lag is computed from "
                "the offsets instead",
                "rpk cluster config set enable_consumer_group_metrics "
                """'["group","partition","consumer_lag"]'""",
                unless=("redpanda_kafka_consumer_group_lag_sum",),
            ),
            Gap(
                "log start offsets over time",
                "/public_metrics has none, so records deleted before they were read do not show",
                _BROKER_READS_LOG_START,
            ),
            _NO_STATE,
        ),
    ),
)
"""In the order of detection."""


@dataclass(frozen=True, slots=True)
class Found:
    """A dialect that is spoken here, with the names it uses here."""

    dialect: Dialect
    prefix: str
    names: frozenset[str]

    def present(self, candidates: Iterable[str]) -> tuple[str, ...]:
        """Return those of *candidates* that exist here, in order, with the prefix filled in."""
        filled = (name.replace("{prefix}", self.prefix) for name in candidates)
        return tuple(name for name in filled if name in self.names)

    def metrics(self, concept: str) -> tuple[str, ...]:
        """Return the metric names of *concept* that exist here."""
        return self.present(getattr(self.dialect, concept))

    @property
    def group_metrics(self) -> tuple[str, ...]:
        """Return the metric names whose series say which groups exist; may be empty."""
        return self.metrics(self.dialect.groups_from)

    @property
    def richness(self) -> int:
        """Count which of committed, log end and log start are known per partition (0 to 3)."""
        derived = bool(self.metrics("lag") and self.metrics("log_end"))
        known = (
            bool(self.metrics("committed")) or derived,
            self.metrics("log_end"),
            self.metrics("log_start"),
        )
        return sum(map(bool, known))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return what this dialect does not show here."""
        return tuple(gap for gap in self.dialect.gaps if not self.present(gap.unless))

    def by_partition(self, concept: str, matchers: str, window: str) -> str:
        """Return PromQL for *concept* per partition, one series each whatever else labels it.

        The greatest of several copies counts: every replica exports an end offset, and a new
        member's labels make a second series of the same partition.
        """
        dialect = self.dialect
        is_log = concept.startswith("log_")
        labels = [dialect.topic, dialect.partition]
        matchers = joined(matchers, dialect.log_matchers if is_log else "")
        return either(
            f"max by ({', '.join(labels)}) (last_over_time({name}{{{matchers}}}[{window}]))"
            for name in self.metrics(concept)
        )

    def by_topic(self, concept: str, matchers: str, log_matchers: str, window: str) -> str:
        """Return PromQL for "lag" or "committed" per group and topic, the -1 left out; "" if none.

        Sums of the exporter are not used where they add the -1 of partitions without a commit.
        """
        dialect = self.dialect
        keys = f"{dialect.group}, {dialect.topic}"
        partition_keys = f"{keys}, {dialect.partition}"

        def each(name: str) -> str:
            return (
                f"(max by ({partition_keys}) (last_over_time({name}{{{matchers}}}[{window}])) >= 0)"
            )

        names = self.metrics(concept)
        if names:
            return either(f"sum by ({keys}) {each(name)}" for name in names)
        if concept == "committed":
            sums = self.present([dialect.committed_by_topic])
            return either(
                f"max by ({keys}) (last_over_time({name}{{{matchers}}}[{window}]))" for name in sums
            )
        ends = self.by_partition("log_end", log_matchers, window)
        if not ends:
            return ""
        on = f"on ({dialect.topic}, {dialect.partition})"
        return either(
            # committed minus end, negated: the side with the group's labels must be the left one
            f"sum by ({keys}) (clamp_min(0 - ({each(name)} - {on} group_left () ({ends})), 0))"
            for name in self.metrics("committed")
        )


def detect(names: Collection[str]) -> tuple[Found, ...]:
    """Return the dialects spoken by *names*, in order of detection."""
    known = frozenset(names)
    found = []
    for dialect in DIALECTS:
        matches = [re.fullmatch(dialect.detect, name) for name in sorted(known)]
        prefixes = {match.groupdict().get("prefix", "") for match in matches if match}
        for prefix in sorted(prefixes):
            spoken = Found(dialect, prefix, known)
            if dialect.needs and not spoken.present(dialect.needs):
                continue
            if spoken.present(dialect.excludes):
                continue
            found.append(spoken)
    ids = [spoken.dialect.id for spoken in found]
    # these two share their names; what tells them apart was looked at just above
    shared = "braedon" in ids and "kafka_partition_current_offset" not in known
    return tuple(spoken for spoken in found if not (shared and spoken.dialect.id == "otel"))


def silent(names: Collection[str]) -> tuple[str, ...]:
    """Return the titles of exporters that write log offsets to *names* and no group at all."""
    titles = [
        dialect.title
        for dialect in DIALECTS
        for pattern in dialect.log_end
        if any(
            re.fullmatch(re.escape(pattern).replace(r"\{prefix\}", ".*"), name) for name in names
        )
    ]
    return tuple(dict.fromkeys(titles))


def looked_for() -> tuple[str, ...]:
    """Return, for a person, the metric names that would have told a dialect."""
    return tuple(
        dict.fromkeys(
            name.replace("{prefix}", "*_")
            for dialect in DIALECTS
            for name in getattr(dialect, dialect.groups_from)
        )
    )


@dataclass(frozen=True, slots=True)
class BrokerReading:
    """One way to read a canonical broker metric.

    ``expression`` is PromQL per ``instance`` with ``{name}``, ``{window}`` and ``{rate_window}``
    to fill in. A reading with ``about`` stands beside the others of its metric instead of in for
    them: ``about`` and ``labels`` then tell who its values are about.
    """

    metric: str
    unit: str
    names: tuple[str, ...]
    expression: str
    scale: float = 1.0
    about: str = ""
    labels: tuple[str, ...] = ()


_GREATEST = "max by (instance) (last_over_time({name}[{window}]))"
_MILLISECONDS = 1e-3


def _jmx_p99(metric: str, name: str, request: str) -> BrokerReading:
    return BrokerReading(
        metric,
        "seconds",
        (name,),
        f'max by (instance) (last_over_time({{name}}{{{{request="{request}",quantile="0.99"}}}}'
        "[{window}]))",
        _MILLISECONDS,
    )


BROKER_READINGS: tuple[BrokerReading, ...] = (
    # Per metric, the first reading that is there is used: the broker's own word comes first, and
    # two exporters that both count under-replicated partitions must not be added up.
    BrokerReading(
        "under_replicated_partitions",
        "partitions",
        ("kafka_server_replicamanager_underreplicatedpartitions",),
        _GREATEST,
    ),
    BrokerReading(
        "under_replicated_partitions",
        "partitions",
        (
            "kafka_topic_partition_under_replicated_partition",
            "kafka_cluster_partition_underreplicated",
        ),
        "sum by (instance) (last_over_time({name}[{window}]))",
    ),
    BrokerReading(
        "under_replicated_partitions",
        "partitions",
        ("redpanda_kafka_under_replicated_replicas",),
        "sum by (instance) (last_over_time({name}[{window}]))",
    ),
    BrokerReading(
        "under_replicated_partitions",
        "partitions",
        ("kafka_partition_replicas_in_sync",),
        "sum by (instance) (last_over_time({name}[{window}]) < bool "
        "last_over_time(kafka_partition_replicas[{window}]))",
    ),
    BrokerReading(
        "offline_partitions",
        "partitions",
        ("kafka_controller_kafkacontroller_offlinepartitionscount",),
        _GREATEST,
    ),
    BrokerReading(
        "offline_partitions",
        "partitions",
        ("redpanda_cluster_unavailable_partitions",),
        _GREATEST,
    ),
    BrokerReading(
        "offline_partitions",
        "partitions",
        ("kafka_topic_partition_leader",),
        # kafka_exporter writes -1 for a partition without a leader
        "sum by (instance) (last_over_time({name}[{window}]) < bool 0)",
    ),
    BrokerReading(
        "broker_count",
        "brokers",
        (
            "kafka_controller_kafkacontroller_activebrokercount",
            "redpanda_cluster_brokers",
            "kafka_brokers",
        ),
        _GREATEST,
    ),
    BrokerReading(
        "request_handler_idle_ratio",
        "ratio",
        (
            "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
            "kafka_server_kafkarequesthandlerpool_requesthandleravgidlepercent",
        ),
        "min by (instance) (last_over_time({name}[{window}]))",
    ),
    BrokerReading(
        "network_idle_ratio",
        "ratio",
        (
            "kafka_network_socketserver_networkprocessoravgidle_percent",
            "kafka_network_socketserver_networkprocessoravgidlepercent",
        ),
        "min by (instance) (last_over_time({name}[{window}]))",
    ),
    # Produce and OffsetCommit, not FetchConsumer: its p99 is the long poll of an idle consumer
    _jmx_p99("produce_p99_seconds", "kafka_network_requestmetrics_totaltimems", "Produce"),
    BrokerReading(
        "produce_p99_seconds",
        "seconds",
        ("redpanda_kafka_request_latency_seconds_bucket",),
        'histogram_quantile(0.99, sum by (instance, le) (rate({name}{{redpanda_request="produce"}}'
        "[{rate_window}])))",
    ),
    _jmx_p99(
        "offset_commit_p99_seconds", "kafka_network_requestmetrics_totaltimems", "OffsetCommit"
    ),
    _jmx_p99(
        "request_queue_p99_seconds", "kafka_network_requestmetrics_requestqueuetimems", "Produce"
    ),
    # Per client: the broker-wide ThrottleTimeMs stays 0 while one client waits for seconds
    *(
        BrokerReading(
            "throttle_seconds",
            "seconds",
            (f"kafka_server_quota_{kind}_throttle_time", f"kafka_server_{kind}_throttle_time"),
            "max by (instance, client_id, user) (last_over_time({name}[{window}]))",
            _MILLISECONDS,
            about=kind,
            labels=("client_id", "user"),
        )
        for kind in ("fetch", "produce", "request")
    ),
)

GROUP_LABELS = tuple(sorted({dialect.group for dialect in DIALECTS} | {"consumer_group"}))
"""Labels that may name a consumer group, in alerts too."""
CLUSTER_LABELS = ("cluster_name", "cluster", "kafka_cluster", "redpanda_cluster")
"""Labels that tell two Kafka clusters in one Prometheus apart, where they are set."""


def quoted(value: str) -> str:
    r"""Return *value* as a PromQL string; ``\``, ``"`` and control characters are escaped."""
    escaped = value.encode("utf-8", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.replace("\n", "\\n")
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda hit: f"\\x{ord(hit[0]):02x}", escaped) + '"'


def one_of(values: Iterable[str]) -> str:
    """Return a quoted pattern for ``=~`` that matches exactly *values*; "" among them: no label."""
    return quoted("|".join(re.escape(value) for value in values))


def matcher(label: str, values: Iterable[str]) -> str:
    """Return a matcher of *label* for one or several *values*; "" for none at all."""
    wanted = sorted(set(values))
    if not wanted:
        return ""
    return f"{label}={quoted(wanted[0])}" if len(wanted) == 1 else f"{label}=~{one_of(wanted)}"


def joined(*matchers: str) -> str:
    """Return *matchers* as the inside of one selector, empty ones left out."""
    return ",".join(part for part in matchers if part)


def either(expressions: Iterable[str]) -> str:
    """Return PromQL that takes the first of *expressions* that has a value; "" for none."""
    return " or ".join(expressions)

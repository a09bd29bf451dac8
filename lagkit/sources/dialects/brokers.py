"""What tells how the brokers are: their own metrics under the names of each exporter of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BrokerReading:
    """One way to read a canonical broker metric.

    ``expression`` is PromQL per ``instance`` with ``{name}``, ``{where}``, ``{window}`` and
    ``{rate_window}`` to fill in. A reading with ``about`` stands beside the others of its metric
    instead of in for them: ``about`` and ``labels`` then tell who its values are about.
    """

    metric: str
    unit: str
    names: tuple[str, ...]
    expression: str
    scale: float = 1.0
    about: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokerLog:
    """Log offsets that the brokers themselves export, per topic and partition."""

    log_end: str
    log_start: str
    topic: str = "topic"
    partition: str = "partition"


_LAST = "last_over_time({name}{{{where}}}[{window}])"
_GREATEST = f"max by (instance) ({_LAST})"
_LEAST = f"min by (instance) ({_LAST})"
_SUM = f"sum by (instance) ({_LAST})"
_MILLISECONDS = 1e-3
_NANOSECONDS = 1e-9


def _jmx_p99(metric: str, name: str, request: str) -> BrokerReading:
    return BrokerReading(
        metric,
        "seconds",
        (name,),
        f'max by (instance) (last_over_time({{name}}{{{{request="{request}",quantile="0.99",'
        "{where}}}[{window}]))",
        _MILLISECONDS,
    )


BROKER_READINGS: tuple[BrokerReading, ...] = (
    # Per metric, the first reading that is there is used: the broker's own word comes first, and
    # two exporters that both count under-replicated partitions must not be added up.
    # Not IsrShrinks: it stays 0 while partitions are under-replicated (lag.md Q33).
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
        _SUM,
    ),
    BrokerReading(
        "under_replicated_partitions",
        "partitions",
        ("redpanda_kafka_under_replicated_replicas",),
        _SUM,
    ),
    BrokerReading(
        "under_replicated_partitions",
        "partitions",
        ("kafka_partition_replicas_in_sync",),
        f"sum by (instance) ({_LAST} < bool "
        "last_over_time(kafka_partition_replicas{{{where}}}[{window}]))",
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
        f"sum by (instance) ({_LAST} < bool 0)",
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
        _LEAST,
    ),
    BrokerReading(
        "request_handler_idle_ratio",
        "ratio",
        # as a counter it is nanoseconds of idleness: Strimzi's metrics reporter
        ("kafka_server_kafkarequesthandlerpool_requesthandleravgidlepercent_total",),
        "min by (instance) (rate({name}{{{where}}}[{rate_window}]))",
        _NANOSECONDS,
    ),
    BrokerReading(
        "network_idle_ratio",
        "ratio",
        (
            "kafka_network_socketserver_networkprocessoravgidle_percent",
            "kafka_network_socketserver_networkprocessoravgidlepercent",
        ),
        _LEAST,
    ),
    # Produce and OffsetCommit, not FetchConsumer: its p99 is the long poll of an idle consumer
    _jmx_p99("produce_p99_seconds", "kafka_network_requestmetrics_totaltimems", "Produce"),
    BrokerReading(
        "produce_p99_seconds",
        "seconds",
        ("redpanda_kafka_request_latency_seconds_bucket",),
        "histogram_quantile(0.99, sum by (instance, le) (rate({name}"
        '{{redpanda_request="produce",{where}}}[{rate_window}])))',
    ),
    _jmx_p99(
        "offset_commit_p99_seconds", "kafka_network_requestmetrics_totaltimems", "OffsetCommit"
    ),
    _jmx_p99(
        "request_queue_p99_seconds", "kafka_network_requestmetrics_requestqueuetimems", "Produce"
    ),
    # Prometheus's own clock. A broker that is paused or has no CPU is late with its metrics too,
    # and this series goes on where its own have a gap.
    BrokerReading(
        "scrape_seconds",
        "seconds",
        (
            "kafka_server_replicamanager_underreplicatedpartitions",
            "kafka_controller_kafkacontroller_activebrokercount",
            "redpanda_cluster_brokers",
        ),
        "max by (instance) (max_over_time(scrape_duration_seconds{{{where}}}[{window}]) and on "
        "(job, instance) count by (job, instance) (last_over_time({name}{{{where}}}[1h])))",
    ),
    # Per client: the broker-wide ThrottleTimeMs stays 0 while one client waits for seconds
    *(
        BrokerReading(
            "throttle_seconds",
            "seconds",
            (f"kafka_server_quota_{kind}_throttle_time", f"kafka_server_{kind}_throttle_time"),
            f"max by (instance, client_id, user) ({_LAST})",
            _MILLISECONDS,
            about=kind,
            labels=("client_id", "user"),
        )
        for kind in ("fetch", "produce", "request")
    ),
    BrokerReading(
        "throttle_seconds",
        "seconds",
        ("redpanda_kafka_quotas_client_quota_throttle_time_bucket",),
        # NaN while nobody sends anything, 0 while nobody is held back
        "histogram_quantile(0.99, sum by (instance, redpanda_quota_rule, redpanda_quota_type, le) "
        "(rate({name}{{{where}}}[{rate_window}])))",
        about="quota",
        labels=("redpanda_quota_type", "redpanda_quota_rule"),
    ),
)

BROKER_LOGS: tuple[BrokerLog, ...] = (
    # kafka.log:type=Log, by the JMX exporter with Strimzi's rules and by Strimzi's reporter
    BrokerLog("kafka_log_log_logendoffset", "kafka_log_log_logstartoffset"),
)
"""Where a lag exporter writes no log offsets."""

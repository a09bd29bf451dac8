"""The lag exporters lagkit knows, one entry each: adding one means adding one here and its test."""

from __future__ import annotations

from lagkit.sources.dialects.dialect import Dialect, Gap, State

_MILLISECONDS = 1e-3
_HUNDREDTHS = 1e-2
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
_NO_STATE_NOR_MEMBERS = Gap(
    "members and state of the group over time",
    "this exporter writes neither",
    "Give --bootstrap for both as they are now.",
)
_NO_MEMBERS = Gap(
    "number of members over time",
    "this exporter writes the group's state and not how many members it has",
    "Give --bootstrap for the members now.",
)
_REDPANDA_LAG_LINE = (
    "rpk cluster config set enable_consumer_group_metrics "
    """'["group","partition","consumer_lag"]'"""
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
        cluster="cluster_name",
        lag=("kafka_consumergroup_group_lag",),
        committed=("kafka_consumergroup_group_offset",),
        log_end=("kafka_partition_latest_offset",),
        log_start=("kafka_partition_earliest_offset",),
        lag_seconds=("kafka_consumergroup_group_lag_seconds",),
        # records deleted unread have no age, and it writes 0 for them
        zero_age_if='data_loss_detected="true"',
        state=State("kafka_consumergroup_group_state", codes=_STATE_CODES),
        # a group that never commits has these, at 0, and nothing per partition
        knows=("kafka_consumergroup_group_sum_lag", "kafka_consumergroup_group_max_lag"),
        gaps=(_NO_MEMBERS,),
    ),
    Dialect(
        id="seglo",
        title="kafka-lag-exporter (seglo)",
        detect="kafka_consumergroup_group_lag",
        excludes=("kafka_consumergroup_group_state", "kafka_consumergroup_group_messages_lost"),
        group="group",
        topic="topic",
        partition="partition",
        cluster="cluster_name",
        lag=("kafka_consumergroup_group_lag",),
        committed=("kafka_consumergroup_group_offset",),
        log_end=("kafka_partition_latest_offset",),
        log_start=("kafka_partition_earliest_offset",),
        lag_seconds=("kafka_consumergroup_group_lag_seconds",),
        knows=("kafka_consumergroup_group_sum_lag", "kafka_consumergroup_group_max_lag"),
        gaps=(_NO_STATE_NOR_MEMBERS,),
    ),
    Dialect(
        id="klag",
        title="klag (themoah)",
        detect="klag_consumer_lag",
        group="consumer_group",
        topic="topic",
        partition="partition",
        lag=("klag_consumer_lag",),
        committed=("klag_consumer_committed_offset",),
        log_end=("klag_partition_log_end_offset",),
        log_start=("klag_partition_log_start_offset",),
        lag_seconds=("klag_consumer_lag_ms",),
        state=State("klag_consumer_group_state", label="state"),
        knows=("klag_consumer_lag_sum", "klag_consumer_lag_max"),
        factor={
            "klag_consumer_lag_ms": _MILLISECONDS,
            "klag_consumer_lag_velocity": _HUNDREDTHS,
            "klag_consumer_lag_retention_percent": _HUNDREDTHS,
            "klag_hot_partition": _HUNDREDTHS,
        },
        gaps=(_NO_MEMBERS,),
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
        committed_by_topic=("{prefix}kafka_consumer_group_topic_offset_sum",),
        members=("{prefix}kafka_consumer_group_members",),
        state=State("{prefix}kafka_consumer_group_info", label="state"),
    ),
    Dialect(
        id="kminion_topic",
        title="kminion (granularity: topic)",
        detect=r"(?P<prefix>.*)kafka_consumer_group_topic_lag",
        excludes=("{prefix}kafka_consumer_group_topic_partition_lag",),
        group="group_id",
        topic="topic_name",
        lag_by_topic=("{prefix}kafka_consumer_group_topic_lag",),
        committed_by_topic=("{prefix}kafka_consumer_group_topic_offset_sum",),
        members=("{prefix}kafka_consumer_group_members",),
        state=State("{prefix}kafka_consumer_group_info", label="state"),
        gaps=(
            Gap(
                "single partitions over time",
                "kminion runs with granularity: topic, so a stuck or hot partition cannot be told "
                "from a slow group, and an age is that of the topic as a whole",
                "Set minion.consumerGroups.granularity: partition in kminion's configuration.",
            ),
        ),
    ),
    Dialect(
        id="burrow",
        title="Burrow",
        detect="burrow_kafka_consumer_partition_lag",
        group="consumer_group",
        topic="topic",
        partition="partition",
        cluster="cluster",
        lag=("burrow_kafka_consumer_partition_lag",),
        committed=("burrow_kafka_consumer_current_offset",),
        log_end=("burrow_kafka_topic_partition_offset",),
        # written always, as 0 for a partition without a commit; the offset only once the ring of
        # commits is full
        zero_lag_without_commit=True,
        knows=("burrow_kafka_consumer_status", "burrow_kafka_consumer_lag_total"),
        gaps=(
            Gap(
                "log start offsets over time",
                "this exporter writes none, so records deleted before they were read do not show",
                _BROKER_READS_LOG_START,
            ),
            _NO_STATE_NOR_MEMBERS,
        ),
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
            _NO_STATE_NOR_MEMBERS,
        ),
    ),
    Dialect(
        id="otel",
        title="OpenTelemetry kafkametrics receiver",
        detect="kafka_consumer_group_lag(_ratio)?",
        yields_to="braedon",
        proof=(
            "kafka_partition_current_offset",
            "kafka_partition_current_offset_ratio",
            "kafka_consumer_group_members",
            "kafka_consumer_group_lag_ratio",
        ),
        group="group",
        topic="topic",
        partition="partition",
        writes_minus_one=True,
        lag=("kafka_consumer_group_lag", "kafka_consumer_group_lag_ratio"),
        committed=("kafka_consumer_group_offset", "kafka_consumer_group_offset_ratio"),
        log_end=("kafka_partition_current_offset", "kafka_partition_current_offset_ratio"),
        log_start=("kafka_partition_oldest_offset", "kafka_partition_oldest_offset_ratio"),
        end_from_lag=True,
        members=("kafka_consumer_group_members", "kafka_consumer_group_members_ratio"),
        gaps=(
            Gap(
                "log end offsets from the exporter itself",
                "its topics scraper is off; committed plus lag stands in for the log end",
                "Add topics to the receiver's scrapers.",
                unless=(
                    "kafka_partition_current_offset",
                    "kafka_partition_current_offset_ratio",
                ),
            ),
            _NO_STATE,
        ),
    ),
    Dialect(
        id="kafka_exporter",
        title="kafka_exporter (danielqsj)",
        detect="kafka_consumergroup_lag",
        group="consumergroup",
        topic="topic",
        partition="partition",
        writes_minus_one=True,
        lag=("kafka_consumergroup_lag",),
        committed=("kafka_consumergroup_current_offset",),
        log_end=("kafka_topic_partition_current_offset",),
        log_start=("kafka_topic_partition_oldest_offset",),
        lag_seconds=("kafka_consumer_lag_millis",),  # the fork in Grafana Alloy
        factor={"kafka_consumer_lag_millis": _MILLISECONDS},
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
                _REDPANDA_LAG_LINE,
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
    Dialect(
        id="redpanda_gauges",
        title="Redpanda's own lag gauges",
        # refreshed once a minute, per group only, and 0 for read-replica topics before 26.2
        detect="redpanda_kafka_consumer_group_lag_sum",
        group="redpanda_group",
        lag_by_group=("redpanda_kafka_consumer_group_lag_sum",),
        members=("redpanda_kafka_consumer_group_consumers",),
        gaps=(
            Gap(
                "offsets of the group per partition",
                "partition is not among enable_consumer_group_metrics; a lag of the whole group "
                "tells no rate, no age and no partition",
                _REDPANDA_LAG_LINE,
                unless=("redpanda_kafka_consumer_group_committed_offset",),
            ),
        ),
    ),
)
"""In the order of detection (lag.md 1.4); the seed runbook's names are those of ``otel``."""

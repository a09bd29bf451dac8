"""The dialects of lag exporters and broker exporters, as data: names, labels, encodings, gaps.

A lag exporter is one :class:`Dialect` in :mod:`~lagkit.sources.dialects.lag_exporters`, or a
``[[dialects]]`` table of lagkit.toml; adding one means adding it there and nothing elsewhere. Names
are tried in the order given, because one exporter writes the same number under several names
(OpenTelemetry appends ``_ratio``). This package asks no server and judges no value: it turns "the
committed offsets of group g" into PromQL for the exporter at hand.

PromQL is made here only, and every value in it goes through :func:`quoted` or :func:`one_of`.
"""

from __future__ import annotations

from lagkit.sources.dialects.aggregates import Aggregates, Recorded, recorded
from lagkit.sources.dialects.brokers import (
    BROKER_LOGS,
    BROKER_READINGS,
    BrokerLog,
    BrokerReading,
)
from lagkit.sources.dialects.canonical import GROUP, GROUP_TOPIC, Canonical, everything_of
from lagkit.sources.dialects.detection import asked_for, detect, looked_for, silent
from lagkit.sources.dialects.dialect import Dialect, Found, Gap, State
from lagkit.sources.dialects.lag_exporters import DIALECTS
from lagkit.sources.dialects.own import own_dialects
from lagkit.sources.dialects.pods import POD_NAMES, POD_READINGS, PodReading
from lagkit.sources.dialects.promql import either, joined, matcher, one_of, quoted

GROUP_LABELS = tuple(sorted({dialect.group for dialect in DIALECTS} | {"consumer_group"}))
"""Labels that may name a consumer group, in alerts too."""
CLUSTER_LABELS = ("cluster_name", "cluster", "kafka_cluster", "redpanda_cluster")
"""Labels that tell two Kafka clusters in one Prometheus apart, where they are set."""

__all__ = [
    "BROKER_LOGS",
    "BROKER_READINGS",
    "CLUSTER_LABELS",
    "DIALECTS",
    "GROUP",
    "GROUP_LABELS",
    "GROUP_TOPIC",
    "POD_NAMES",
    "POD_READINGS",
    "Aggregates",
    "BrokerLog",
    "BrokerReading",
    "Canonical",
    "Dialect",
    "Found",
    "Gap",
    "PodReading",
    "Recorded",
    "State",
    "asked_for",
    "detect",
    "either",
    "everything_of",
    "joined",
    "looked_for",
    "matcher",
    "one_of",
    "own_dialects",
    "quoted",
    "recorded",
    "silent",
]

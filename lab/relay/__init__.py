"""Stand in for kafka_exporter, kminion, Burrow, klag and Redpanda's ``/public_metrics``. Lab only.

None of them can be installed from a package registry. The relay reads the lab's real broker through
the admin API (it never joins a group) and serves the broker's real numbers under their names:
``/kafka_exporter`` as danielqsj/kafka_exporter 1.9 writes them, ``/kminion`` as kminion 2.3.5 (with
``/kminion_topic`` for its coarser setting), ``/burrow`` as Burrow 1.9.5, ``/klag`` as klag and
``/redpanda`` as Redpanda 24.3 (``/redpanda_lag`` with the lag gauges of 25.1). The first two are
tested against recorded scrapes of the real programs, quirks included: -1 for a partition without a
commit (kafka_exporter), no series at all (kminion) or a lag of 0 (Burrow), offset sums that add the
-1s, a lag in kafka_exporter that is measured against an end offset read later than the one it
shows, and not clamped. Redpanda's and klag's follow their public reference.

``/cadvisor`` is of another kind: what the lab's kubelet would say of its containers, from the
kernel's own counters (:mod:`lab.relay.cadvisor`).

It refuses to serve old numbers: a broker that cannot be read leaves a gap, as the real ones would.
What AdminClient cannot know (log directory sizes, the exporters' own traffic) is left out.
"""

from __future__ import annotations

from lab.relay.burrow_and_klag import burrow, klag
from lab.relay.exporters import kafka_exporter, kminion, kminion_by_topic
from lab.relay.exposition import Family, exposition
from lab.relay.redpanda import redpanda, redpanda_with_lag
from lab.relay.serving import FRESH_SECONDS, Relay, server
from lab.relay.snapshot import Broker, Group, Partition, Reader, Snapshot, Topic

__all__ = [
    "FRESH_SECONDS",
    "Broker",
    "Family",
    "Group",
    "Partition",
    "Reader",
    "Relay",
    "Snapshot",
    "Topic",
    "burrow",
    "exposition",
    "kafka_exporter",
    "klag",
    "kminion",
    "kminion_by_topic",
    "redpanda",
    "redpanda_with_lag",
    "server",
]

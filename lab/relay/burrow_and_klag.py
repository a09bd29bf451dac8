"""The pages of Burrow 1.9.5 and of klag: two more dialects that no registry offers.

Burrow's is tested against a recording for names, labels and what it says without a commit; klag's
follows its documentation. Burrow keeps a ring of commits in memory; here every ring is full.
"""

from __future__ import annotations

import re

from lab.relay.exporters import INTERNAL_PREFIX, end_of, topic_partitions
from lab.relay.exposition import Family
from lab.relay.snapshot import Snapshot

CLUSTER = "local"  # Burrow's own name of the cluster, from its configuration
OK = 1  # Burrow's code of a group and of a partition that is well


def burrow(snapshot: Snapshot | None) -> list[Family]:
    """Return Burrow's families; a partition without a commit has a lag of 0 and no offset."""
    if snapshot is None:
        return []

    def gauge(name: str, text: str) -> Family:
        return Family(f"burrow_kafka_{name}", "gauge", text)

    current = gauge(
        "consumer_current_offset", "Latest offset that Burrow is storing for this partition"
    )
    total = gauge("consumer_lag_total", "The sum of all partition current lag values for the group")
    lag = gauge(
        "consumer_partition_lag",
        "Number of messages the consumer group is behind by for a partition as reported by Burrow",
    )
    status = gauge(
        "consumer_status",
        "The status of the consumer group. It is calculated from the highest status for the "
        "individual partitions. Statuses are an index list from NOTFOUND, OK, WARN, or ERR",
    )
    ends = gauge(
        "topic_partition_offset",
        "Latest offset the topic that Burrow is storing for this partition",
    )
    for name, group in sorted(snapshot.groups.items()):
        behind = 0
        for topic, committed in sorted(group.committed.items()):
            known = snapshot.topics.get(topic)
            for number in sorted({*committed, *(known.partitions if known else ())}):
                labels = {
                    "cluster": CLUSTER,
                    "consumer_group": name,
                    "partition": number,
                    "topic": topic,
                }
                end = end_of(snapshot, topic, number)
                own = 0
                if number in committed and end is not None:
                    own = max(0, end - committed[number])
                    current.add(committed[number], **labels)
                lag.add(own, **labels)
                behind += own
        if group.committed:
            total.add(behind, cluster=CLUSTER, consumer_group=name)
            status.add(OK, cluster=CLUSTER, consumer_group=name)
    for topic, number, partition in topic_partitions(snapshot):
        if partition.end is not None:
            ends.add(partition.end, cluster=CLUSTER, partition=number, topic=topic)
    return [current, total, lag, status, ends]


def klag(snapshot: Snapshot | None) -> list[Family]:
    """Return klag's families: log offsets once per group, the state as a label in lower case."""
    if snapshot is None:
        return []

    def gauge(name: str) -> Family:
        return Family(f"klag_{name}", "gauge", "")

    lag, committed = gauge("consumer_lag"), gauge("consumer_committed_offset")
    end, start = gauge("partition_log_end_offset"), gauge("partition_log_start_offset")
    state = gauge("consumer_group_state")
    for name, group in sorted(snapshot.groups.items()):
        words = re.sub(r"(?<!^)([A-Z])", r"_\1", group.state).lower()
        state.add(1, consumer_group=name, state=words)
        for topic, offsets in sorted(group.committed.items()):
            known = snapshot.topics.get(topic)
            if topic.startswith(INTERNAL_PREFIX) or known is None:
                continue
            for number, offset in sorted(offsets.items()):
                partition = known.partitions.get(number)
                if partition is None or partition.end is None:
                    continue
                labels = {"consumer_group": name, "partition": number, "topic": topic}
                committed.add(offset, **labels)
                lag.add(max(0, partition.end - offset), **labels)
                end.add(partition.end, **labels)
                if partition.start is not None:
                    start.add(partition.start, **labels)
    return [lag, committed, end, start, state]

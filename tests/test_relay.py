"""The relay against recorded scrapes of the exporters that it stands in for."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from lab import relay
from lab.cgroups import Counted
from lab.processes import Ledger
from lab.relay import Broker, Group, Partition, Relay, Snapshot, Topic, cadvisor

SCRAPES = Path(__file__).resolve().parent / "data" / "scrapes"
SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

# what the exporters say about themselves, and what the admin API does not know
RUNTIME = ("go_", "process_", "promhttp_", "kafka_exporter_build_info")
NOT_IN_THE_RELAY = (
    "kminion_exporter_offset_consumer_records_consumed_total",
    "kminion_kafka_broker_log_dir_size_total_bytes",
    "kminion_kafka_received_bytes",
    "kminion_kafka_requests_received_total",
    "kminion_kafka_requests_sent_total",
    "kminion_kafka_sent_bytes",
    "kminion_kafka_topic_log_dir_size_total_bytes",
    "kminion_log_messages_total",
)

Rows = dict[str, list[tuple[dict[str, str], float]]]


def kept(text: str) -> list[str]:
    """Return the lines of a page that the relay should write too, in their order."""
    lines = []
    for line in text.splitlines():
        name = line.split()[2] if line.startswith("#") else re.split(r"[{ ]", line)[0]
        if not name.startswith((*RUNTIME, *NOT_IN_THE_RELAY)):
            lines.append(line)
    return lines


def samples(text: str) -> Rows:
    found: Rows = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else SAMPLE.fullmatch(line)
        if match:
            labels = dict(LABEL.findall(match["labels"] or ""))
            found.setdefault(match["name"], []).append((labels, float(match["value"])))
    return found


def broker_behind_kafka_exporter(rows: Rows) -> Snapshot:
    """Rebuild the broker's state from a kafka_exporter page."""

    def cell(name: str, topic: str, number: int) -> int:
        wanted = {"topic": topic, "partition": str(number)}
        return next(int(v) for labels, v in rows[name] if labels == wanted)

    ids = tuple(int(labels["id"]) for labels, _ in rows["kafka_broker_info"])
    topics = {}
    for labels, count in rows["kafka_topic_partitions"]:
        topic, partitions = labels["topic"], {}
        for number in range(int(count)):
            leader = cell("kafka_topic_partition_leader", topic, number)
            size = cell("kafka_topic_partition_replicas", topic, number)
            others = [i for i in ids if i != leader]
            preferred = cell("kafka_topic_partition_leader_is_preferred", topic, number)
            order = [leader, *others] if preferred else [*others, leader]
            in_sync = cell("kafka_topic_partition_in_sync_replica", topic, number)
            partitions[number] = Partition(
                leader=leader,
                replicas=tuple(order[:size]),
                in_sync=tuple(order[:in_sync]),
                end=cell("kafka_topic_partition_current_offset", topic, number),
                start=cell("kafka_topic_partition_oldest_offset", topic, number),
            )
        topics[topic] = Topic(partitions)
    lags = {tuple(sorted(k.items())): int(v) for k, v in rows["kafka_consumergroup_lag"]}
    committed: dict[str, dict[str, dict[int, int]]] = {}
    later: dict[str, dict[str, dict[int, int]]] = {}
    for labels, offset in rows["kafka_consumergroup_current_offset"]:
        by_topic = committed.setdefault(labels["consumergroup"], {})
        numbers = by_topic.setdefault(labels["topic"], {})
        if offset >= 0:
            numbers[int(labels["partition"])] = int(offset)
        # a partition without a commit only has to have been answered
        end = int(offset) + lags[tuple(sorted(labels.items()))] if offset >= 0 else 0
        ends = later.setdefault(labels["consumergroup"], {}).setdefault(labels["topic"], {})
        ends[int(labels["partition"])] = end
    groups = {
        labels["consumergroup"]: Group(
            state="Stable" if members else "Empty",
            protocol="",
            coordinator=1,
            members=int(members),
            idle_members=0,
            assigned={},
            committed=committed.get(labels["consumergroup"], {}),
            ends_after=later.get(labels["consumergroup"], {}),
        )
        for labels, members in rows["kafka_consumergroup_members"]
    }
    addresses = [labels for labels, _ in rows["kafka_broker_info"]]
    brokers = []
    for labels in addresses:
        host, _, port = labels["address"].rpartition(":")
        brokers.append(Broker(int(labels["id"]), host, int(port)))
    return Snapshot("cluster", ids[0], brokers, topics, groups)


def broker_behind_kminion(rows: Rows) -> Snapshot:
    """Rebuild the broker's state from a kminion page."""
    topics = {}
    for info, _ in rows["kminion_kafka_topic_info"]:
        name = info["topic_name"]
        marks: dict[int, list[int | None]] = {
            n: [None, None] for n in range(int(info["partition_count"]))
        }
        for slot, metric in enumerate(("high", "low")):
            for labels, value in rows[f"kminion_kafka_topic_partition_{metric}_water_mark"]:
                if labels["topic_name"] == name:
                    marks[int(labels["partition_id"])][slot] = int(value)
        topics[name] = Topic(
            {n: Partition(1, (1,), (1,), end, start) for n, (end, start) in marks.items()},
            info["cleanup_policy"],
            info["retention_ms"],
        )
    committed: dict[str, dict[str, dict[int, int]]] = {}
    for labels, lag in rows["kminion_kafka_consumer_group_topic_partition_lag"]:
        topic, number = labels["topic_name"], int(labels["partition_id"])
        end = topics[topic].partitions[number].end
        assert end is not None
        of_group = committed.setdefault(labels["group_id"], {})
        of_group.setdefault(topic, {})[number] = end - int(lag)
    groups = {}
    for name, commits in committed.items():
        info = next(
            (i for i, _ in rows["kminion_kafka_consumer_group_info"] if i["group_id"] == name), None
        )
        members = {
            labels["group_id"]: int(v) for labels, v in rows["kminion_kafka_consumer_group_members"]
        }
        assigned = {}
        for labels, count in rows["kminion_kafka_consumer_group_topic_assigned_partitions"]:
            if labels["group_id"] == name:
                share = int(count) // members[name]
                assigned[labels["topic_name"]] = [share] * members[name]
        groups[name] = Group(
            state=info["state"] if info else "Stable",
            protocol=info["protocol"] if info else "",
            coordinator=int(info["coordinator_id"]) if info else 1,
            members=members.get(name, 1),
            idle_members=0,
            assigned=assigned,
            committed=commits,
            ends_after={},
            kip848=info is None,
        )
    cluster = rows["kminion_kafka_cluster_info"][0][0]
    broker = rows["kminion_kafka_broker_info"][0][0]
    return Snapshot(
        cluster["cluster_id"],
        int(cluster["controller_id"]),
        [Broker(int(broker["broker_id"]), broker["address"], int(broker["port"]))],
        topics,
        groups,
    )


def test_kafka_exporter_page_is_the_recorded_one_line_for_line() -> None:
    recorded = (SCRAPES / "kafka_exporter.prom").read_text()
    snapshot = broker_behind_kafka_exporter(samples(recorded))
    assert kept(relay.exposition(relay.kafka_exporter(snapshot))) == kept(recorded)


def test_kafka_exporter_page_of_an_under_replicated_cluster_is_the_recorded_one() -> None:
    recorded = (SCRAPES / "kafka_exporter_3node_underreplicated.prom").read_text()
    snapshot = broker_behind_kafka_exporter(samples(recorded))
    assert kept(relay.exposition(relay.kafka_exporter(snapshot))) == kept(recorded)


def test_kminion_page_is_the_recorded_one_line_for_line() -> None:
    recorded = (SCRAPES / "kminion.prom").read_text()
    snapshot = broker_behind_kminion(samples(recorded))
    # kminion guesses the version from the protocol; the admin API does not tell it
    unversioned = recorded.replace('cluster_version="at least v4.1"', 'cluster_version=""')
    assert kept(relay.exposition(relay.kminion(snapshot))) == kept(unversioned)


def test_every_metric_that_the_relay_leaves_out_is_listed_here() -> None:
    recorded = samples((SCRAPES / "kminion.prom").read_text())
    ours = {family.name for family in relay.kminion(small())}
    theirs = {name for name in recorded if not name.startswith(RUNTIME)}
    assert theirs - ours == set(NOT_IN_THE_RELAY)


ENDS = {"t": {0: 100, 1: 50}}


def small(**changes: object) -> Snapshot:
    """Return one broker, one topic of two partitions, one group with one commit."""
    topic = Topic(
        {0: Partition(1, (1,), (1,), 100, 10), 1: Partition(1, (1,), (1,), 50, 0)}, "delete", "1"
    )
    group = Group("Stable", "range", 1, 1, 0, {"t": [2]}, {"t": {0: 60}}, ENDS)
    snapshot = Snapshot("c", 1, [Broker(1, "127.0.0.1", 9092)], {"t": topic}, {"g": group})
    return replace(snapshot, **changes)  # type: ignore[arg-type]


def page(snapshot: Snapshot, dialect: str) -> Rows:
    served = Relay(lambda: snapshot)
    served.refresh()
    status, text = served.page(f"/{dialect}")
    assert status == 200
    return samples(text)


def test_partition_without_a_commit_is_minus_one_in_kafka_exporter() -> None:
    lags = {
        k["partition"]: v for k, v in page(small(), "kafka_exporter")["kafka_consumergroup_lag"]
    }
    assert lags == {"0": 40, "1": -1}


def test_partition_without_a_commit_has_no_series_in_kminion_and_redpanda() -> None:
    kminion = page(small(), "kminion")["kminion_kafka_consumer_group_topic_partition_lag"]
    committed = page(small(), "redpanda")["redpanda_kafka_consumer_group_committed_offset"]
    assert [labels["partition_id"] for labels, _ in kminion] == ["0"]
    assert [labels["redpanda_partition"] for labels, _ in committed] == ["0"]


def test_group_without_any_commit_has_members_but_no_lag() -> None:
    silent = Group("Stable", "range", 1, 1, 0, {"t": [2]}, {}, ENDS)
    rows = page(small(groups={"g": silent}), "kafka_exporter")
    assert rows["kafka_consumergroup_members"] == [({"consumergroup": "g"}, 1)]
    assert "kafka_consumergroup_lag" not in rows
    assert "kafka_consumergroup_lag_sum" not in rows


def test_commit_beyond_the_end_is_negative_in_kafka_exporter_and_zero_in_kminion() -> None:
    ahead = Group("Stable", "range", 1, 1, 0, {}, {"t": {0: 103, 1: 50}}, ENDS)
    exporter = page(small(groups={"g": ahead}), "kafka_exporter")
    kminion = page(small(groups={"g": ahead}), "kminion")
    assert min(v for _, v in exporter["kafka_consumergroup_lag"]) == -3
    assert [v for _, v in kminion["kminion_kafka_consumer_group_topic_partition_lag"]] == [0, 0]


def test_empty_members_are_absent_when_every_member_has_work() -> None:
    name = "kminion_kafka_consumer_group_empty_members"
    idle = Group("Stable", "range", 1, 3, 1, {"t": [1, 1]}, {"t": {0: 1}}, ENDS)
    assert name not in page(small(), "kminion")
    assert page(small(groups={"g": idle}), "kminion")[name] == [({"group_id": "g"}, 1)]


def test_group_state_is_a_label_and_the_value_says_stable_or_not() -> None:
    moving = Group("PreparingRebalance", "", 1, 2, 2, {}, {"t": {0: 1}}, ENDS)
    rows = page(small(groups={"g": moving}), "kminion")["kminion_kafka_consumer_group_info"]
    assert [(labels["state"], value) for labels, value in rows] == [("PreparingRebalance", 0)]


def test_burrows_names_texts_and_labels_are_the_recorded_ones() -> None:
    recorded = (SCRAPES / "burrow.prom").read_text()
    ours = relay.exposition(relay.burrow(small()))
    # what depends on how full its ring of commits is has no part in a relay
    left_out = "burrow_kafka_topic_partition_status"

    def said(text: str) -> set[str]:
        lines = (line for line in kept(text) if line.startswith("#") and left_out not in line)
        return set(lines)

    def labels(text: str) -> dict[str, set[str]]:
        rows = samples(text)
        return {name: set(rows[name][0][0]) for name in rows if name != left_out}

    assert said(ours) == {line for line in said(recorded) if "burrow_" in line}
    assert labels(ours) == {k: v for k, v in labels(recorded).items() if k.startswith("burrow_")}


def test_partition_without_a_commit_has_lag_zero_and_no_offset_in_burrow() -> None:
    rows = page(small(), "burrow")
    lags = {k["partition"]: v for k, v in rows["burrow_kafka_consumer_partition_lag"]}
    assert lags == {"0": 40, "1": 0}
    assert len(rows["burrow_kafka_consumer_current_offset"]) == 1


def test_klag_writes_the_state_in_lower_case_and_a_log_end_for_each_group() -> None:
    moving = Group("PreparingRebalance", "", 1, 2, 2, {}, {"t": {0: 1}}, ENDS)
    rows = page(small(groups={"g": moving, "h": moving}), "klag")
    assert rows["klag_consumer_group_state"][0][0]["state"] == "preparing_rebalance"
    assert [k["consumer_group"] for k, _ in rows["klag_partition_log_end_offset"]] == ["g", "h"]


def test_kminion_by_topic_has_no_partitions_of_groups() -> None:
    rows = page(small(), "kminion_topic")
    assert "kminion_kafka_consumer_group_topic_partition_lag" not in rows
    assert rows["kminion_kafka_consumer_group_topic_lag"][0][1] == 40


def test_redpandas_lag_gauges_are_there_where_they_are_turned_on() -> None:
    name = "redpanda_kafka_consumer_group_lag_sum"
    assert name not in page(small(), "redpanda")
    assert page(small(), "redpanda_lag")[name] == [({"redpanda_group": "g", "shard": "0"}, 40)]


def test_redpanda_counts_records_and_names_its_namespace() -> None:
    rows = page(small(), "redpanda")
    assert rows["redpanda_kafka_records_produced_total"] == [
        ({"redpanda_namespace": "kafka", "redpanda_topic": "t"}, 150)
    ]
    assert rows["redpanda_kafka_max_offset"][0][0] == {
        "redpanda_namespace": "kafka",
        "redpanda_partition": "0",
        "redpanda_topic": "t",
    }
    assert rows["redpanda_kafka_consumer_group_committed_offset"][0][0] == {
        "redpanda_group": "g",
        "redpanda_partition": "0",
        "redpanda_topic": "t",
        "shard": "0",
    }


def test_end_offset_that_was_not_answered_leaves_a_gap_not_a_zero() -> None:
    deaf = Topic({0: Partition(1, (1,), (1,), None, None), 1: Partition(1, (1,), (1,), 50, 0)})
    group = Group("Stable", "", 1, 1, 0, {}, {"t": {0: 60, 1: 40}}, {"t": {1: 50}})
    rows = page(small(topics={"t": deaf}, groups={"g": group}), "kafka_exporter")
    ends = [labels["partition"] for labels, _ in rows["kafka_topic_partition_current_offset"]]
    lags = [labels["partition"] for labels, _ in rows["kafka_consumergroup_lag"]]
    assert ends == ["1"]
    assert lags == ["1"]
    counters = page(small(topics={"t": deaf}), "redpanda")
    assert "redpanda_kafka_records_produced_total" not in counters


def test_hostile_group_name_stays_inside_its_label() -> None:
    name = 'x"} 1\nkafka_brokers 99\\'
    only = Group("Empty", "", 1, 0, 0, {}, {"t": {0: 1}}, ENDS)
    text = relay.exposition(relay.kafka_exporter(small(groups={name: only})))
    assert "kafka_brokers 99" not in text.splitlines()
    assert 'consumergroup="x\\"} 1\\nkafka_brokers 99\\\\"' in text


def test_only_a_container_with_a_cpu_limit_has_periods() -> None:
    free = cadvisor.Container("stoa-system", "api-a", "api", 7, 1.5, 2_048, 1_795_000_000.5)
    held = replace(free, pod="api-b", pid=8, limited=Counted(20, 5, 0.25))
    found = samples(relay.exposition(cadvisor.cadvisor([free, held])))
    names = {"namespace": "stoa-system", "container": "api"}
    starts = [value for _labels, value in found["container_start_time_seconds"]]
    assert starts == [1_795_000_000.5, 1_795_000_000.5]
    assert [
        (labels["pod"], value) for labels, value in found["container_cpu_usage_seconds_total"]
    ] == [("api-a", 1.5), ("api-b", 1.5)]
    for name, value in (
        ("container_cpu_cfs_periods_total", 20.0),
        ("container_cpu_cfs_throttled_periods_total", 5.0),
        ("container_cpu_cfs_throttled_seconds_total", 0.25),
    ):
        ((labels, seen),) = found[name]
        assert seen == value
        assert names.items() <= labels.items()
        assert labels["pod"] == "api-b"


def test_lab_without_a_kubelet_has_no_containers(tmp_path: Path) -> None:
    assert cadvisor.running(Ledger(tmp_path)) == []


class Broken:
    """A broker that can be read, or not."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self) -> Snapshot:
        if self.broken:
            raise RuntimeError("Local: Broker transport failure")
        return small()


def test_unreadable_broker_leaves_gaps_and_no_old_numbers() -> None:
    broker = Broken()
    served = Relay(broker)
    served.refresh()
    broker.broken = True
    served.refresh()
    exporter = samples(served.page("/kafka_exporter")[1])
    assert list(exporter) == ["kafka_exporter_build_info"]
    assert samples(served.page("/kminion")[1]) == {"kminion_exporter_up": [({"version": ""}, 0)]}
    assert served.page("/redpanda")[0] == 503


def test_readable_broker_is_served_again() -> None:
    broker = Broken()
    broker.broken = True
    served = Relay(broker)
    served.refresh()
    broker.broken = False
    served.refresh()
    assert "kafka_consumergroup_lag" in samples(served.page("/kafka_exporter")[1])


def test_numbers_that_are_no_longer_fresh_are_not_served() -> None:
    now = [0.0]
    served = Relay(small, clock=lambda: now[0])
    served.refresh()
    now[0] = relay.FRESH_SECONDS + 1
    assert served.newest() is None


@pytest.fixture
def address():
    served = Relay(small)
    served.refresh()
    http = relay.server(served, "127.0.0.1", 0)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_pages_are_served_as_prometheus_text(address: str) -> None:
    with urllib.request.urlopen(f"{address}/kminion?x=1", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"kminion_exporter_up" in answer.read()


def test_unknown_page_is_404(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/metrics", timeout=5)
    refused.value.close()
    assert refused.value.code == 404

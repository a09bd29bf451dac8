"""Recorded scrapes in a real Prometheus come out as frames, dialect by dialect.

``promtool`` makes one TSDB out of the recordings in ``tests/data/scrapes``, each in hours of its
own, and a real server answers from it. Redpanda's page is written here in the shape its manual
gives: no Redpanda could be installed to record one.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import lagkit.sources.prometheus.grid as grid_module
from lagkit.config import Latency, OwnDialect
from lagkit.flow.second_opinions import disagreements
from lagkit.runbook import Group, Runbook, Workload, load
from lagkit.sources import Answer, Blind
from lagkit.sources.downstream import DownstreamSource

from .recorded import (
    DAY,
    HOUR,
    INTERVAL,
    OFFSET,
    SCRAPED,
    Recording,
    Value,
    ask,
    in_openmetrics,
    own,
    recorded,
    serving,
    together,
)

HOSTILE = 'it\'s "quoted" \\back\nnew } or {'


def redpanda() -> Recording:
    def where(group: str = "") -> str:
        topic = 'redpanda_namespace="kafka",redpanda_topic="t",redpanda_partition="0"'
        return f'{group}redpanda_topic="t",redpanda_partition="0"' if group else topic

    own_group, other = 'redpanda_group="g",', 'redpanda_group="other",'
    committed = "redpanda_kafka_consumer_group_committed_offset"
    return own(
        14,
        # a leader and a follower that is 40 behind; two coordinators while leadership moves
        ("redpanda_kafka_max_offset", where() + ',replica="1"', lambda step: 1000 + 10 * step),
        ("redpanda_kafka_max_offset", where() + ',replica="2"', lambda step: 960 + 10 * step),
        (committed, where(own_group) + ',shard="0"', lambda step: 900 + 5 * step),
        (committed, where(own_group) + ',shard="1"', lambda step: 800),
        (committed, where(other) + ',shard="0"', lambda step: 1000 + 10 * step - 7),
        ("redpanda_kafka_consumer_group_consumers", 'redpanda_group="g",shard="0"', lambda _: 2),
        ("redpanda_kafka_under_replicated_replicas", where(), lambda _: 1),
        ("redpanda_cluster_brokers", 'cluster="x"', lambda _: 3),
    )


def idle_for_nine_tenths(name: str, _: str, recorded_value: float) -> Value:
    """Let the idle time of the request handlers, in nanoseconds, go on from what was recorded."""
    grows = 0.9e9 * INTERVAL if name.endswith("requesthandleravgidlepercent_total") else 0.0
    return lambda step: recorded_value + grows * step


def made() -> dict[str, Recording]:
    def lag(group: str, partition: str = "0", more: str = "") -> str:
        return f'group="{group}",topic="t",partition="{partition}"{more}'

    hostile = in_openmetrics(HOSTILE)
    member = ',client_id="c",consumer_id="{0}",member_host="/{0}"'
    half = SCRAPED // 2
    of_deploy = 'group="deployment-worker",topic="deploy-requests",partition="0"'
    alert = 'alertname="Lag",group="g",severity="page"'
    return {
        "otel": recorded(0, "otel_kafkametrics_runbook_names", "jmx_narrow", skip=range(60, 70)),
        "otel_ratio": recorded(2, "otel_kafkametrics_default"),
        "klag": recorded(4, "klag_exporter_message"),
        "klag_zero": recorded(6, "klag_exporter_rate_false_zero_after_restart"),
        "kafka_exporter": recorded(8, "kafka_exporter"),
        "three_nodes": recorded(10, "kafka_exporter_3node_underreplicated"),
        "kminion": recorded(12, "kminion"),
        "redpanda": redpanda(),
        "hostile": own(
            16,
            ("kafka_consumer_group_lag", lag(hostile), lambda _: 7),
            ("kafka_consumer_group_offset", lag(hostile), lambda step: step),
            ("kafka_consumer_group_lag", lag("new"), lambda _: 8),
        ),
        "churn": own(
            18,
            *(
                (name, lag("g", more=member.format(who)), value)
                for name, number in (
                    ("kafka_consumergroup_group_lag", 50),
                    ("kafka_consumergroup_group_offset", 100),
                )
                for who, value in (
                    ("a", lambda step, n=number: n + step if step < half else None),
                    ("b", lambda step, n=number: n + step if step >= half else None),
                )
            ),
            ("kafka_consumergroup_group_state", 'group="g"', lambda step: 3 if step < half else 1),
        ),
        "states": own(
            20,
            (
                "x_kafka_consumer_group_topic_partition_lag",
                'group_id="g",topic_name="t",partition_id="0"',
                lambda _: 1,
            ),
            # the old state's series is still there while the new one has begun
            (
                "x_kafka_consumer_group_info",
                'group_id="g",state="Stable"',
                lambda step: 1 if step < half else None,
            ),
            (
                "x_kafka_consumer_group_info",
                'group_id="g",state="Empty"',
                lambda step: 0 if step >= half else None,
            ),
        ),
        "alerts": own(
            22,
            ("kafka_consumer_group_lag", lag("g"), lambda _: 7),
            ("ALERTS", f'{alert},alertstate="pending"', lambda s: 1 if 20 <= s < 40 else None),
            ("ALERTS", f'{alert},alertstate="firing"', lambda s: 1 if s >= 40 else None),
            ("ALERTS_FOR_STATE", alert, lambda s: DAY + 22 * HOUR + 100 if s >= 20 else None),
            ("ALERTS", 'alertname="Other",group="x",alertstate="firing"', lambda _: 1),
            ("ALERTS", 'alertname="Disk",alertstate="firing"', lambda _: 1),
            ("up", 'part="y"', lambda _: 0),
        ),
        "unused": own(
            24,
            *(
                (name, f'group="g",topic="{topic}",partition="0"', lambda _, v=value: v)
                for topic, value in (("used", 5), ("unused", -1))
                for name in ("kafka_consumer_group_lag", "kafka_consumer_group_offset")
            ),
        ),
        "long": own(
            60,
            ("kafka_consumer_group_lag", lag("g"), lambda _: 7),
            ("kafka_consumer_group_offset", lag("g"), lambda step: step),
        ),
        "two_clusters": together(
            own(
                62,
                ("kafka_consumergroup_group_lag", lag("g") + ',cluster_name="a"', lambda _: 5),
                ("kafka_consumergroup_group_offset", lag("g") + ',cluster_name="a"', lambda s: s),
                # the other cluster has a topic of the same name, with far more in it
                (
                    "kafka_partition_latest_offset",
                    'topic="t",partition="0",cluster_name="a"',
                    lambda s: s + 5,
                ),
                (
                    "kafka_partition_latest_offset",
                    'topic="t",partition="0",cluster_name="b"',
                    lambda _: 10**6,
                ),
                ("kafka_consumergroup_group_lag", lag("h") + ',cluster_name="b"', lambda _: 9),
            ),
            *(
                own(
                    62,
                    (
                        "kafka_server_replicamanager_underreplicatedpartitions",
                        f'cluster_name="{cluster}"',
                        lambda _, n=count: n,
                    ),
                    instance=f"{cluster}-1:9404",
                )
                for cluster, count in (("a", 0), ("b", 7))
            ),
        ),
        "namesake": together(
            own(
                76,
                ("kafka_consumer_group_lag", lag("g") + ',cluster="a"', lambda _: 5),
                ("kafka_consumer_group_offset", lag("g") + ',cluster="a"', lambda s: s),
                *(
                    (
                        "kafka_consumergroup_lag",
                        f'consumergroup="g",topic="t",partition="0",cluster="{cluster}"',
                        lambda _, n=number: n,
                    )
                    for cluster, number in (("a", 6), ("b", 9000))
                ),
                (
                    "klag_consumer_lag",
                    'consumer_group="g",topic="t",partition="0",cluster="b"',
                    lambda _: 9000,
                ),
            ),
        ),
        "unnamed_cluster": together(
            own(
                64,
                ("kafka_consumer_group_lag", lag("g"), lambda _: 5),
                ("kafka_consumer_group_offset", lag("g"), lambda s: s),
            ),
            *(
                own(
                    64,
                    (
                        "kafka_server_replicamanager_underreplicatedpartitions",
                        f'cluster="{cluster}"',
                        lambda _: 7,
                    ),
                    instance=f"{cluster}-1:9404",
                )
                for cluster in ("a", "b")
            ),
        ),
        "strimzi": together(
            recorded(66, "strimzi_metrics_reporter_020", changing=idle_for_nine_tenths),
            own(
                66,
                ("kafka_consumer_group_lag", of_deploy, lambda _: 41),
                ("kafka_consumer_group_offset", of_deploy, lambda _: 950),
            ),
        ),
        "redpanda_throttled": own(
            68,
            (
                "redpanda_kafka_consumer_group_committed_offset",
                'redpanda_group="g",redpanda_topic="t",redpanda_partition="0"',
                lambda s: s,
            ),
            (
                "redpanda_kafka_max_offset",
                'redpanda_namespace="kafka",redpanda_topic="t",redpanda_partition="0"',
                lambda s: s,
            ),
            *(
                (
                    "redpanda_kafka_quotas_client_quota_throttle_time_bucket",
                    f'redpanda_quota_rule="kafka_client_id",redpanda_quota_type="{kind}",le="{le}"',
                    lambda s, n=count: n * s,
                )
                for kind, le, count in (
                    ("fetch_quota", "0.5", 0),
                    ("fetch_quota", "1", 10),
                    ("fetch_quota", "+Inf", 10),
                    ("produce_quota", "0.5", 10),
                    ("produce_quota", "1", 10),
                    ("produce_quota", "+Inf", 10),
                )
            ),
        ),
        "pods": own(
            70,
            ("kafka_consumer_group_lag", lag("g"), lambda _: 7),
            ("kafka_consumer_group_offset", lag("g"), lambda s: s),
            *(
                (name, f'namespace="apps",pod="{pod}",container="{container}"{more}', value)
                for pod in ("worker-1", "workerbee-1")
                for name, container, more, value in (
                    ("kube_pod_container_status_restarts_total", "app", "", lambda s: s // 60),
                    (
                        "kube_pod_container_status_last_terminated_reason",
                        "app",
                        ',reason="OOMKilled"',
                        lambda s: 1 if s >= 60 else None,
                    ),
                    ("container_cpu_usage_seconds_total", "app", "", lambda s: 2.0 * s),
                    ("container_cpu_usage_seconds_total", "", "", lambda s: 9.0 * s),
                    ("container_cpu_cfs_periods_total", "app", "", lambda s: 50 * s),
                    ("container_cpu_cfs_throttled_periods_total", "app", "", lambda s: 20 * s),
                    ("container_memory_working_set_bytes", "app", "", lambda _: 3e8),
                    ("container_memory_working_set_bytes", "POD", "", lambda _: 1e6),
                    (
                        "kube_pod_container_resource_limits",
                        "app",
                        ',resource="memory",unit="byte"',
                        lambda _: 4e8,
                    ),
                    (
                        "kube_pod_container_resource_limits",
                        "app",
                        ',resource="cpu",unit="core"',
                        lambda _: 1,
                    ),
                )
            ),
        ),
        "acme": together(
            own(
                72,
                *(
                    (name, f'cg="g",topic="t",partition="0",env="{env}"', value)
                    for env, n in (("prod", 1), ("test", 1000))
                    for name, value in (
                        ("acme_lag_thousands", lambda _, n=n: 2 * n),
                        ("acme_offset", lambda s, n=n: n * s),
                        ("acme_end", lambda s, n=n: n * s + 2000 * n),
                    )
                ),
            ),
        ),
        "many": own(
            74,
            *(
                (name, labels, value)
                for n in range(101)
                for name, labels, value in (
                    ("kafka_consumer_group_lag", lag("g", str(n)), lambda _: 5),
                    ("kafka_consumer_group_offset", lag("g", str(n)), lambda s: s),
                    (
                        "kafka_partition_current_offset",
                        f'topic="t",partition="{n}"',
                        lambda s: s + 5,
                    ),
                    ("kafka_partition_oldest_offset", f'topic="t",partition="{n}"', lambda _: 0),
                    (
                        "kafka_consumergroup_lag",
                        f'consumergroup="g",topic="t",partition="{n}"',
                        lambda _, n=n: -1 if n == 100 else 5,
                    ),
                )
            ),
        ),
        # ten calls a scrape: up to 0.1 s, and in the second half up to 10 s
        "latency": own(
            78,
            *(
                (
                    "awx_seconds_bucket",
                    f'le="{le}"',
                    lambda s, fast=fast: 10 * (min(s, half) if fast else s),
                )
                for le, fast in (("0.1", True), ("1", True), ("10", False), ("+Inf", False))
            ),
        ),
        "nothing": own(26, ("process_cpu_seconds_total", 'a="b"', lambda step: step)),
    }


RECORDINGS = made()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve all recordings from one real Prometheus."""
    with serving(tmp_path_factory.mktemp("prometheus"), RECORDINGS.values()) as address:
        yield address


def fetched(url: str, name: str, group: str, topics: tuple[str, ...] = ()) -> Answer:
    return ask(url, RECORDINGS[name].scope(group, topics))


def one_scrape(answer: Answer) -> pd.DataFrame:
    offsets = answer.frames["offsets"]
    first = offsets[offsets["timestamp"] == offsets["timestamp"].iloc[0]]
    return first.set_index(["topic", "partition"])


@pytest.mark.parametrize(
    ("name", "group", "dialect", "expected"),
    [
        ("otel", "deployment-worker", "otel", (11571, 26708, 0, 15137)),
        ("otel_ratio", "deployment-worker", "otel", None),
        ("klag", "deployment-worker", "klag_exporter", (11571, 26715, 0, 15144)),
        ("kafka_exporter", "orders-svc", "kafka_exporter", (11484, 29976, 0, 18494)),
        ("kminion", "orders-svc", "kminion", None),
        ("redpanda", "g", "redpanda", (900, 1000, np.nan, np.nan)),
    ],
)
def test_offsets_are_those_on_the_recorded_page(
    url: str, name: str, group: str, dialect: str, expected: tuple[float, ...] | None
) -> None:
    answer = fetched(url, name, group)
    row = one_scrape(answer).iloc[0]
    assert answer.facts["dialect"] == dialect
    assert answer.status == "ok"
    got = row[["committed_offset", "log_end_offset", "log_start_offset", "lag_messages"]]
    if expected is not None:
        np.testing.assert_array_equal(got.astype(float), expected)
    elif name == "kminion":
        assert got["committed_offset"] == got["log_end_offset"] - got["lag_messages"]
    assert got["committed_offset"] >= 0


def test_the_step_is_the_scrape_interval_and_rows_carry_the_time_of_the_scrape(url: str) -> None:
    answer = fetched(url, "otel_ratio", "deployment-worker")
    times = answer.frames["offsets"]["timestamp"].drop_duplicates()
    assert answer.facts["scrape_interval_seconds"] == answer.facts["step_seconds"] == "5"
    first = pd.Timestamp(RECORDINGS["otel_ratio"].start + OFFSET, unit="s", tz="UTC")
    assert times.iloc[0] == first.round("ms")
    assert len(times) == SCRAPED


def test_what_was_not_scraped_is_missing_though_the_server_repeats_it(url: str) -> None:
    answer = fetched(url, "otel", "deployment-worker")
    seen = answer.frames["offsets"]["timestamp"].drop_duplicates()
    start = RECORDINGS["otel"].start
    inside = pd.Timestamp(start + 65 * INTERVAL, unit="s", tz="UTC")
    query = urllib.parse.urlencode(
        {"query": "count(kafka_consumer_group_lag)", "time": start + 65 * INTERVAL}
    )
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}") as reply:
        assert json.load(reply)["data"]["result"]
    assert not ((seen - inside).abs() < pd.Timedelta(seconds=20)).any()
    assert "1 gap of 50 s" in answer.detail


def test_minus_one_is_handed_on_as_exported(url: str) -> None:
    rows = one_scrape(fetched(url, "kafka_exporter", "dead-svc"))
    assert rows["committed_offset"].tolist() == [-1, -1, 500]
    assert rows["lag_messages"].tolist() == [-1, -1, 1194]


def test_minus_one_never_enters_a_sum_over_partitions(url: str) -> None:
    neighbours = fetched(url, "kafka_exporter", "orders-svc").frames["neighbours"]
    dead = neighbours[neighbours["group"] == "dead-svc"]
    assert set(dead["lag_messages"]) == {1194}
    assert set(dead["committed_sum"]) == {500}


def test_a_partition_kminion_leaves_out_has_no_committed_offset(url: str) -> None:
    rows = one_scrape(fetched(url, "kminion", "dead-svc"))
    assert rows["committed_offset"].isna().tolist() == [True, True, False]
    assert rows["log_end_offset"].notna().all()


def test_a_false_zero_of_klag_exporter_comes_without_a_log_end(url: str) -> None:
    rows = one_scrape(fetched(url, "klag_zero", "deployment-worker"))
    assert set(rows["lag_messages"]) == {0}
    assert rows["log_end_offset"].isna().all()


def test_replicas_and_coordinators_of_redpanda_count_once(url: str) -> None:
    answer = fetched(url, "redpanda", "g")
    offsets = answer.frames["offsets"]
    assert len(offsets) == SCRAPED
    assert offsets["log_end_offset"].iloc[-1] == 1000 + 10 * (SCRAPED - 1)
    other = answer.frames["neighbours"]
    assert set(other["lag_messages"]) == {7}
    assert any("enable_consumer_group_metrics" in blind.fix for blind in answer.blind)


def test_a_new_member_does_not_break_or_double_the_history(url: str) -> None:
    offsets = fetched(url, "churn", "g").frames["offsets"]
    assert offsets["committed_offset"].tolist() == [100 + step for step in range(SCRAPED)]


def test_the_state_code_becomes_its_name(url: str) -> None:
    history = fetched(url, "churn", "g").frames["group_history"]
    assert history["state"].tolist() == ["Stable"] * 60 + ["PreparingRebalance"] * 60


def test_the_state_scraped_last_is_the_state(url: str) -> None:
    answer = fetched(url, "states", "g")
    assert answer.facts["dialect"] == "kminion"
    history = answer.frames["group_history"]
    assert history["state"].tolist() == ["Stable"] * 60 + ["Empty"] * 60


def test_members_are_read_where_the_exporter_writes_them(url: str) -> None:
    history = fetched(url, "kafka_exporter", "orders-svc").frames["group_history"]
    assert set(history["member_count"]) == {2}


def test_a_hostile_group_name_finds_its_own_series_only(url: str) -> None:
    answer = fetched(url, "hostile", HOSTILE)
    assert set(answer.frames["offsets"]["lag_messages"]) == {7}
    assert set(answer.frames["neighbours"]["group"]) == {"new"}


def test_alerts_carry_state_and_the_time_their_expression_became_true(url: str) -> None:
    alerts = fetched(url, "alerts", "g").frames["alerts"]
    lag = alerts[alerts["alert"] == "Lag"]
    began = pd.Timestamp(RECORDINGS["alerts"].start + 100, unit="s", tz="UTC")
    assert lag["state"].iloc[0] == "pending"
    assert lag["state"].iloc[-1] == "firing"
    assert set(lag["active_at"]) == {began}
    assert set(lag["severity"]) == {"page"}


def test_alerts_of_other_groups_are_left_out_and_those_of_no_group_kept(url: str) -> None:
    alerts = fetched(url, "alerts", "g").frames["alerts"]
    assert set(alerts["alert"]) == {"Lag", "Disk"}
    assert alerts.loc[alerts["alert"] == "Disk", "group"].isna().all()


def test_broker_health_has_canonical_names_and_units(url: str) -> None:
    brokers = fetched(url, "otel", "deployment-worker").frames["broker_metrics"]
    value = brokers.groupby("metric")["value"].first()
    assert value["produce_p99_seconds"] == pytest.approx(0.00271)
    assert value["offset_commit_p99_seconds"] == pytest.approx(0.00497)
    assert value["request_queue_p99_seconds"] == pytest.approx(0.001)
    assert value["request_handler_idle_ratio"] == pytest.approx(0.9914, abs=1e-4)
    assert value["under_replicated_partitions"] == 0
    assert set(brokers["instance"].str.split().str[0]) == {"jmx_narrow:9000"}


def test_throttling_is_told_per_client_and_only_of_those_throttled(url: str) -> None:
    brokers = fetched(url, "otel", "deployment-worker").frames["broker_metrics"]
    throttled = brokers[brokers["metric"] == "throttle_seconds"]
    assert set(throttled["instance"]) == {"jmx_narrow:9000 fetch client_id=deployment-worker-0"}
    assert throttled["value"].iloc[0] == pytest.approx(8.0386)


def test_under_replication_is_counted_where_only_kafka_exporter_tells_it(url: str) -> None:
    brokers = fetched(url, "three_nodes", "orders-svc").frames["broker_metrics"]
    count = brokers[brokers["metric"] == "under_replicated_partitions"]["value"]
    assert set(count) == {15}


def test_targets_behind_the_frames_are_listed_and_other_jobs_summed_up(url: str) -> None:
    answer = fetched(url, "otel", "deployment-worker")
    targets = answer.frames["targets"]
    assert set(targets["job"]) == {"otel_kafkametrics_runbook_names", "jmx_narrow"}
    assert set(targets["up"]) == {1}


def test_a_topic_the_group_never_committed_to_is_not_part_of_it(url: str) -> None:
    assert set(fetched(url, "unused", "g").frames["offsets"]["topic"]) == {"used"}


def test_a_topic_asked_for_by_name_is_shown_even_so(url: str) -> None:
    offsets = fetched(url, "unused", "g", ("unused",)).frames["offsets"]
    assert set(offsets["committed_offset"]) == {-1}


def test_other_topics_of_the_group_are_neighbours(url: str) -> None:
    neighbours = fetched(url, "unused", "g", ("unused",)).frames["neighbours"]
    assert set(neighbours["topic"]) == {"used"}


def test_an_unknown_group_comes_with_near_names(url: str) -> None:
    answer = fetched(url, "otel", "deploymnt-worker")
    assert answer.facts["near_groups"].split(",")[0] == "deployment-worker"
    assert "targets" in answer.frames


def test_a_window_without_an_exporter_says_what_was_looked_for(url: str) -> None:
    answer = fetched(url, "nothing", "g")
    assert answer.facts["dialect"] == "none"
    assert any("kafka_consumer_group_lag" in blind.why for blind in answer.blind)


def test_a_window_in_many_requests_is_the_same_as_in_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fetched(url, "churn", "g").frames["offsets"]
    monkeypatch.setattr(grid_module, "POINTS_PER_REQUEST", 7)
    parts = fetched(url, "churn", "g").frames["offsets"]
    pd.testing.assert_frame_equal(whole.drop(columns="query_id"), parts.drop(columns="query_id"))


def test_a_long_window_is_thinned_and_says_so(url: str) -> None:
    """Twenty hours at a scrape every 5 s are more points than one series may have."""
    scope = RECORDINGS["long"].scope("g")
    answer = ask(url, replace(scope, start=scope.end - pd.Timedelta(hours=20)))
    assert answer.facts["step_seconds"] == "8"
    assert "thinned from 5 s" in answer.detail
    assert len(answer.frames["offsets"]) == pytest.approx(SCRAPED * INTERVAL / 8, abs=2)


def test_another_cluster_with_a_topic_of_the_same_name_is_left_out(url: str) -> None:
    answer = fetched(url, "two_clusters", "g")
    offsets = answer.frames["offsets"]
    assert (offsets["log_end_offset"] - offsets["committed_offset"]).eq(5).all()
    assert answer.facts["cluster_label"] == "cluster_name=a"
    assert "neighbours" not in answer.frames


def test_a_group_of_the_same_name_in_another_cluster_is_no_second_opinion(url: str) -> None:
    answer = fetched(url, "namesake", "g")
    assert (answer.facts["dialect"], answer.facts["cluster_label"]) == ("otel", "cluster=a")
    opinions = answer.frames["second_opinions"]
    assert set(opinions["dialect"]) == {"kafka_exporter"}
    assert set(opinions["lag_messages"]) == {6}


def test_only_the_brokers_of_the_groups_own_cluster_count(url: str) -> None:
    brokers = fetched(url, "two_clusters", "g").frames["broker_metrics"]
    assert set(brokers["instance"]) == {"a-1:9404"}


def test_brokers_that_may_be_of_any_of_two_clusters_are_left_out_and_it_is_said(url: str) -> None:
    answer = fetched(url, "unnamed_cluster", "g")
    assert "broker_metrics" not in answer.frames
    (blind,) = [blind for blind in answer.blind if blind.what == "which brokers are the group's"]
    assert "cluster=a, cluster=b" in blind.why


def test_idleness_counted_in_nanoseconds_becomes_a_ratio(url: str) -> None:
    brokers = fetched(url, "strimzi", "deployment-worker").frames["broker_metrics"]
    idle = brokers[brokers["metric"] == "request_handler_idle_ratio"]["value"]
    assert set(idle.tail(SCRAPED // 2).round(6)) == {0.9}


def test_the_brokers_own_log_offsets_stand_in_for_those_an_exporter_does_not_write(
    url: str,
) -> None:
    row = one_scrape(fetched(url, "strimzi", "deployment-worker")).iloc[0]
    assert (row["log_end_offset"], row["log_start_offset"]) == (991, 0)


def test_redpandas_throttling_is_told_per_kind_of_quota(url: str) -> None:
    brokers = fetched(url, "redpanda_throttled", "g").frames["broker_metrics"]
    last = brokers[brokers["metric"] == "throttle_seconds"].groupby("instance")["value"].last()
    assert last.index.str.contains("redpanda_quota_type=(?:fetch|produce)_quota").all()
    assert last[last.index.str.contains("fetch_quota")].iloc[0] > 0.9


def test_the_history_of_the_consumers_containers_is_read_and_no_other_pods(url: str) -> None:
    workload = Workload(namespace="apps", name="worker")
    runbook = Runbook(title="test", groups=(Group(name="g", workload=workload),))
    answer = ask(url, RECORDINGS["pods"].scope("g", runbook=runbook))
    metrics = answer.frames["pod_metrics"]
    assert set(metrics["pod"]) == {"worker-1"}
    assert set(metrics["container"]) == {"app"}
    last = metrics.groupby("metric")["value"].last()
    assert last.to_dict() == pytest.approx(
        {
            "restarts": 1,
            "oom_killed": 1,
            "cpu_cores": 2 / INTERVAL,
            "cpu_throttled_ratio": 0.4,
            "memory_bytes": 3e8,
            "memory_limit_bytes": 4e8,
        }
    )


def test_a_latency_is_read_over_the_window_so_that_now_has_its_baseline(url: str) -> None:
    query = "histogram_quantile(0.95, sum by (le) (rate(awx_seconds_bucket[1m])))"
    source = DownstreamSource({}, {}, latencies=(Latency(name="awx", query=query),), prometheus=url)
    answer = source.fetch(RECORDINGS["latency"].scope("g"), budget_seconds=30)
    assert answer.status == "ok", answer.blind
    rows = answer.frames["downstream"]
    assert set(rows["check"]) == {"latency"}
    begin = pd.Timestamp(RECORDINGS["latency"].start, unit="s", tz="UTC")
    minute = (rows["timestamp"] - begin).dt.total_seconds() / 60
    before, after = rows.loc[minute < 4.9, "value"], rows.loc[minute > 6.5, "value"]
    assert before.median() == pytest.approx(0.095)
    assert after.median() == pytest.approx(9.55)


def test_without_a_workload_in_the_runbook_no_pod_is_guessed(url: str) -> None:
    assert "pod_metrics" not in fetched(url, "pods", "g").frames


def test_names_of_the_users_own_mapping_are_read_with_its_labels_and_units(url: str) -> None:
    own_names = OwnDialect(
        id="acme",
        lag="acme_lag_thousands",
        committed="acme_offset",
        log_end="acme_end",
        group="cg",
        where={"env": "prod"},
        factor={"acme_lag_thousands": 1000},
    )
    scope = RECORDINGS["acme"].scope("g")
    answer = ask(url, scope, [own_names])
    offsets = answer.frames["offsets"]
    assert (answer.facts["dialect"], answer.status) == ("acme", "ok")
    assert set(offsets["lag_messages"]) == {2000}
    assert (offsets["log_end_offset"] - offsets["committed_offset"]).eq(2000).all()
    assert ask(url, scope).facts["dialect"] == "none"


def test_a_second_opinion_on_very_many_partitions_is_by_topic_and_leaves_the_unknown_out(
    url: str,
) -> None:
    answer = fetched(url, "many", "g")
    assert (answer.facts["dialect"], answer.facts["cross_dialects"]) == ("otel", "kafka_exporter")
    opinions = answer.frames["second_opinions"]
    assert opinions["partition"].isna().all()
    assert set(opinions["lag_messages"]) == {500}
    assert len(opinions) <= 121
    told = disagreements(answer.frames["offsets"], opinions)
    assert told == ()  # 505 and 500: less than 5 %


def test_the_runbooks_alert_on_a_metric_that_does_not_exist_is_said_to_be_dead(url: str) -> None:
    def dead(name: str, group: str) -> list[Blind]:
        answer = ask(url, RECORDINGS[name].scope(group, runbook=load()))
        return [blind for blind in answer.blind if blind.what == "the runbook's alerts"]

    (blind,) = dead("kafka_exporter", "orders-svc")
    assert "kafka_consumer_group_lag and kafka_consumer_group_offset are no names of" in blind.why
    assert blind.fix == "Alert on kafka_consumergroup_lag instead."
    assert dead("otel", "deployment-worker") == []
    # with metric suffixes the collector writes other names than the runbook's
    assert len(dead("otel_ratio", "deployment-worker")) == 1

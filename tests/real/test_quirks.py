"""The quirks of lag.md 1.3 and 10, each on a recorded or promtool-written past of a real server.

A test is named by its claim and ends in the quirk's number; ``tests/test_quirks.py`` holds the
table of all of them.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator

import incidents
import numpy as np
import pandas as pd
import pytest

from lagkit import flow, frames, monitoring
from lagkit.flow.second_opinions import disagreements
from lagkit.signals import broker
from lagkit.sources import Answer
from lagkit.sources.dialects import BROKER_READINGS, detect

from .recorded import INTERVAL, SCRAPED, Recording, ask, own, recorded, serving, together

HALF = SCRAPED // 2
WORKER = "deployment-worker"
IDLE = "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent"
GONE = 40
"""The scrape at which a broker is gone."""
RULES = """groups:
- name: of-others
  rules:
  - alert: FromAnotherExporter
    expr: sum by (group) (kafka_burrow_partition_lag{cluster="x"}) > 1000
  - alert: OnWhatIsThere
    expr: sum by (consumer_group) (burrow_kafka_consumer_partition_lag) > 1000
  - alert: OnAbsence
    expr: absent(kafka_never_there)
"""


def of(group: str = "g", topic: str = "t", partition: int = 0, more: str = "") -> str:
    return f'group="{group}",topic="{topic}",partition="{partition}"{more}'


def busy_from_start(scrape: int, *, until: int) -> float | None:
    """Return an idle ratio: the broker is gone for a minute, then busy *until* a scrape."""
    if GONE <= scrape < GONE + 12:
        return None
    return 0.05 if GONE <= scrape < until else 0.95


def exporter(
    hour: int, *, lag=None, committed=None, end=None, start=None, partition: int = 0
) -> Recording:
    """Return one partition under kafka_exporter's names; every number may change by scrape."""
    group = f'consumergroup="g",topic="t",partition="{partition}"'
    topic = f'topic="t",partition="{partition}"'
    parts = (
        ("kafka_consumergroup_lag", group, lag),
        ("kafka_consumergroup_current_offset", group, committed),
        ("kafka_topic_partition_current_offset", topic, end),
        ("kafka_topic_partition_oldest_offset", topic, start),
    )
    return own(hour, *((name, labels, value) for name, labels, value in parts if value))


def redpanda(hour: int, *, committed, end, gauge=None) -> Recording:
    group = 'redpanda_group="g",redpanda_topic="t",redpanda_partition="0",shard="0"'
    topic = 'redpanda_namespace="kafka",redpanda_topic="t",redpanda_partition="0"'
    parts = [
        ("redpanda_kafka_consumer_group_committed_offset", group, committed),
        ("redpanda_kafka_max_offset", topic + ',replica="1"', end),
        ("redpanda_kafka_max_offset", topic + ',replica="2"', lambda step: end(step) - 40),
        # another namespace has a topic of the same name
        ("redpanda_kafka_max_offset", topic.replace('"kafka"', '"redpanda"'), lambda _: 10**6),
    ]
    if gauge:
        parts.append(
            ("redpanda_kafka_consumer_group_lag_sum", 'redpanda_group="g",shard="0"', gauge)
        )
    return own(hour, *parts)


def made() -> dict[str, Recording]:
    klag = 'consumer_group="{}",topic="t",partition="0"'
    stopped = range(40, 55)
    member = ',client_id="c",consumer_id="{0}",member_host="/{0}"'
    return {
        "kafka_exporter": recorded(0, "kafka_exporter"),
        "negative": together(
            exporter(2, lag=lambda _: -3, committed=lambda s: 103 + s, end=lambda s: 100 + s),
            exporter(
                2, lag=lambda _: -9000, committed=lambda _: 9100, end=lambda _: 100, partition=1
            ),
        ),
        "phantom": exporter(
            4, lag=lambda _: 900, committed=lambda _: 100, end=lambda _: 1000, start=lambda _: 500
        ),
        "read_replica": redpanda(
            6, committed=lambda _: 100, end=lambda s: 5000 + s, gauge=lambda _: 0
        ),
        "redpanda": redpanda(8, committed=lambda s: 1000 + s, end=lambda s: 1000 + s),
        "renamed": recorded(10, "kminion", rename=lambda name: name.replace("kminion_", "acme_")),
        "kminion_topic": recorded(12, "kminion", only="^(?!.*topic_partition_lag)"),
        "klag": own(
            14,
            *(
                (name, klag.format(group), value)
                for group in ("g", "other")
                for name, value in (
                    ("klag_consumer_lag", lambda _: 50),
                    ("klag_consumer_committed_offset", lambda s: 950 + s),
                    ("klag_partition_log_end_offset", lambda s: 1000 + s),
                    ("klag_partition_log_start_offset", lambda _: 0),
                    ("klag_consumer_lag_ms", lambda _: 4500),
                    ("klag_consumer_lag_retention_percent", lambda _: 4550),
                )
            ),
            # a count that is not the state; the series of the old state lives two intervals longer
            (
                "klag_consumer_group_state",
                'consumer_group="g",state="stable"',
                lambda s: 7 if s < HALF + 2 else None,
            ),
            (
                "klag_consumer_group_state",
                'consumer_group="g",state="preparing_rebalance"',
                lambda s: 0 if s >= HALF else None,
            ),
        ),
        "churn": own(
            16,
            *(
                (name, of(more=member.format(who)), value)
                for name, number in (
                    ("kafka_consumergroup_group_lag", 50),
                    ("kafka_consumergroup_group_offset", 100),
                )
                for who, value in (
                    ("a", lambda s, n=number: n + s if s < HALF + 3 else None),
                    ("b", lambda s, n=number: n + s if s >= HALF else None),
                )
            ),
        ),
        "seglo": own(
            18,
            ("kafka_consumergroup_group_lag", of(), lambda _: 50),
            ("kafka_consumergroup_group_offset", of(), lambda s: 100 + s),
            ("kafka_partition_latest_offset", 'topic="t",partition="0"', lambda s: 150 + s),
            ("kafka_partition_latest_offset", 'topic="dropped",partition="0"', lambda s: 150 + s),
            ("kafka_consumergroup_group_lag_seconds", of(), lambda s: "NaN" if s < 2 else 5),
        ),
        "lost": own(
            20,
            ("kafka_consumergroup_group_lag", of(), lambda _: 50),
            ("kafka_consumergroup_group_offset", of(), lambda _: 100),
            ("kafka_consumergroup_group_messages_lost", of(), lambda _: 400),
            (
                "kafka_consumergroup_group_lag_seconds",
                of(more=',data_loss_detected="true"'),
                lambda _: 0,
            ),
            ("kafka_consumergroup_group_lag", of(partition=1), lambda _: 0),
            ("kafka_consumergroup_group_offset", of(partition=1), lambda _: 100),
            (
                "kafka_consumergroup_group_lag_seconds",
                of(partition=1, more=',data_loss_detected="false"'),
                lambda _: 0,
            ),
        ),
        "ratio": recorded(22, "otel_kafkametrics_default"),
        "shared_names": recorded(24, "kafka_exporter", only="kafka_brokers|kafka_topic_partitions"),
        "rebalance": own(
            26,
            *(
                (name, of(), lambda s, n=number: None if s in stopped else n + 2 * s)
                for name, number in (
                    ("kafka_consumer_group_lag", 500),
                    ("kafka_consumer_group_offset", 100),
                )
            ),
            ("kafka_partition_current_offset", 'topic="t",partition="0"', lambda s: 600 + 4 * s),
        ),
        "burrow": recorded(28, "burrow"),
        "recreated": exporter(
            30,
            lag=lambda s: 50,
            committed=lambda s: 5000 + s if s < HALF else 100 + s,
            end=lambda s: 5050 + s if s < HALF else 150 + s,
        ),
        "false_zero": recorded(32, "klag_exporter_rate_false_zero_after_restart"),
        "frozen": recorded(34, "otel_kafkametrics_runbook_names"),
        "never_used": own(
            36,
            *(
                (name, of(topic=topic), lambda _, v=value: v)
                for topic, value in (("used", 5), ("unused", -1), ("unused_too", -1))
                for name in ("kafka_consumer_group_lag", "kafka_consumer_group_offset")
            ),
        ),
        "klag_exporter": recorded(38, "klag_exporter_rate"),
        "braedon_mute": recorded(40, "braedon_kafka431_broken"),
        "three_nodes": recorded(42, "kafka_exporter_3node_underreplicated"),
        "jmx": recorded(44, "jmx_narrow", "otel_kafkametrics_runbook_names"),
        "two_brokers": together(
            *(
                own(
                    46,
                    ("kafka_server_replicamanager_underreplicatedpartitions", "", lambda _: 7),
                    ("kafka_server_replicamanager_isrshrinks_total", "", lambda _: 0),
                    instance=f"broker-{number}:9404",
                )
                for number in (1, 2)
            ),
            exporter(46, lag=lambda _: 1, committed=lambda s: s, end=lambda s: s + 1),
        ),
        **{
            name: together(
                own(hour, (IDLE, "", idle), instance="broker-1:9404"),
                exporter(hour, lag=lambda _: 1, committed=lambda s: s, end=lambda s: s + 1),
            )
            for name, hour, idle in (
                ("warming_up", 50, lambda scrape: busy_from_start(scrape, until=GONE + 12 + 18)),
                ("overloaded", 52, lambda scrape: busy_from_start(scrape, until=SCRAPED)),
            )
        },
        "klag_and_exporter": together(
            recorded(48, "klag_exporter_rate_false_zero_after_restart"),
            own(
                48,
                *(
                    (name, f'consumergroup="{WORKER}",topic="deploy-requests",partition="0"', value)
                    for name, value in (
                        ("kafka_consumergroup_lag", lambda _: 15169),
                        ("kafka_consumergroup_current_offset", lambda _: 11571),
                    )
                ),
            ),
        ),
    }


RECORDINGS = made()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve all recordings from one real Prometheus that has a few rules of its own."""
    folder = tmp_path_factory.mktemp("quirks")
    with serving(folder, RECORDINGS.values(), rules=RULES) as address:
        yield address


def fetched(url: str, name: str, group: str = "g") -> Answer:
    return ask(url, RECORDINGS[name].scope(group))


def offsets(url: str, name: str, group: str = "g") -> pd.DataFrame:
    return fetched(url, name, group).frames["offsets"]


def cleaned(url: str, name: str, group: str = "g") -> pd.DataFrame:
    return flow.clean_offsets(offsets(url, name, group))


def watched(answer: Answer, group: str, **more: pd.DataFrame) -> monitoring.Watched:
    """Return what the checks on monitoring see, with frames that Kafka would have given."""
    at = answer.frames["offsets"]["timestamp"]
    return monitoring.Watched(group, at.min(), at.max(), {**answer.frames, **more}, answer.facts)


def kinds(seen: monitoring.Watched) -> set[str]:
    return {suspicion.kind for suspicion in monitoring.suspicions(seen)}


def from_kafka(rows: pd.DataFrame, *, later: str = "5s", unread: float = 0.0) -> pd.DataFrame:
    """Return what the broker itself would say shortly after the last of *rows*."""
    last = rows[rows["timestamp"] == rows["timestamp"].max()]
    last = last[last["committed_offset"] >= 0]
    return frames.normalise(
        "partitions",
        pd.DataFrame(
            {
                "timestamp": last["timestamp"] + pd.Timedelta(later),
                "group": last["group"],
                "topic": last["topic"],
                "partition": last["partition"],
                "committed_offset": last["committed_offset"],
                "log_end_offset": last["committed_offset"] + unread,
                "query_id": "kafka-01",
            }
        ),
    )


# -- offsets and their markers


def test_minus_one_is_an_unknown_lag_and_in_no_sum_q1(url: str) -> None:
    rows = cleaned(url, "kafka_exporter", "dead-svc")
    never = rows[rows["partition"].isin([0, 1])]
    assert never["lag_messages"].isna().all()
    assert never["no_commit"].all()
    assert set(flow.group_flow(rows)["lag_messages"]) == {1194}


def test_an_offset_sum_that_adds_the_minus_ones_is_not_read_q2(url: str) -> None:
    answer = fetched(url, "kafka_exporter", "orders-svc")
    dead = answer.frames["neighbours"].query("group == 'dead-svc'")
    assert set(dead["committed_sum"]) == {500}  # the page says 498
    assert not answer.queries["statement"].str.contains("offset_sum").any()


def test_a_small_negative_lag_is_zero_and_a_large_one_a_truncated_log_q3(url: str) -> None:
    rows = cleaned(url, "negative")
    small, large = rows[rows["partition"] == 0], rows[rows["partition"] == 1]
    assert set(small["lag_messages"]) == {0}
    assert set(small["lag_raw"]) == {-3}
    assert not small["log_truncated"].any()
    assert large["log_truncated"].all()


def test_records_deleted_unread_are_no_lag_that_can_be_read_q5(url: str) -> None:
    row = cleaned(url, "phantom").iloc[-1]
    assert (row["lag_messages"], row["lag_consumable"]) == (900, 500)
    assert row["phantom"]


def test_a_redpanda_gauge_of_zero_for_a_read_replica_is_contradicted_by_the_offsets_q6(
    url: str,
) -> None:
    answer = fetched(url, "read_replica")
    lag = flow.clean_offsets(answer.frames["offsets"])["lag_messages"]
    assert (lag >= 4900).all()
    (told,) = disagreements(answer.frames["offsets"], answer.frames["second_opinions"])
    assert (told.dialect, told.theirs, told.lasting) == ("redpanda_gauges", 0, True)


def test_without_redpandas_lag_gauges_the_line_that_turns_them_on_is_given_q7(url: str) -> None:
    line = "rpk cluster config set enable_consumer_group_metrics"
    assert any(line in blind.fix for blind in fetched(url, "redpanda").blind)
    assert not any(line in blind.fix for blind in fetched(url, "read_replica").blind)


def test_replicas_of_a_partition_and_other_namespaces_count_once_q8(url: str) -> None:
    rows = offsets(url, "redpanda")
    assert len(rows) == SCRAPED
    assert (rows["log_end_offset"] == rows["committed_offset"]).all()


def test_nothing_is_added_to_a_committed_offset_q9(url: str) -> None:
    assert set(cleaned(url, "redpanda")["lag_messages"]) == {0}


def test_redpandas_prefixed_labels_become_group_topic_and_partition_q10(url: str) -> None:
    rows = offsets(url, "redpanda")
    assert set(zip(rows["group"], rows["topic"], rows["partition"], strict=True)) == {("g", "t", 0)}


def test_kminion_under_another_prefix_is_kminion_q11(url: str) -> None:
    answer = fetched(url, "renamed", "orders-svc")
    assert answer.facts["dialect"] == "kminion"
    assert len(answer.frames["offsets"]["partition"].unique()) == 6


def test_kminion_by_topic_gives_sums_and_says_that_partitions_are_not_assessable_q12(
    url: str,
) -> None:
    answer = fetched(url, "kminion_topic", "dead-svc")
    row = answer.frames["offsets"].iloc[0]
    assert (row["partition"], row["lag_messages"]) == (frames.WHOLE_TOPIC, 1194)
    assert row["log_end_offset"] == row["committed_offset"] + 1194
    assert any(blind.what.startswith("single partitions") for blind in answer.blind)
    assert answer.frames["neighbours"]["lag_messages"].notna().all()


def test_a_log_end_that_each_group_has_its_copy_of_is_not_doubled_q13(url: str) -> None:
    rows = offsets(url, "klag")
    assert len(rows) == SCRAPED
    assert rows["log_end_offset"].tolist() == [1000 + step for step in range(SCRAPED)]


def test_milliseconds_and_hundredths_of_klag_are_brought_to_seconds_and_ones_q14(url: str) -> None:
    assert set(offsets(url, "klag")["lag_seconds"]) == {4.5}
    (klag,) = detect({"klag_consumer_lag", "klag_consumer_lag_retention_percent"})
    expression = klag.sampled("klag_consumer_lag_retention_percent", "", "1m")
    at = RECORDINGS["klag"].start + 60
    query = urllib.parse.urlencode({"query": f"max({expression})", "time": at})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}") as reply:
        assert float(json.load(reply)["data"]["result"][0]["value"][1]) == 45.5


def test_the_state_is_the_label_of_the_series_that_began_last_q15(url: str) -> None:
    history = fetched(url, "klag").frames["group_history"]
    assert history["state"].tolist() == ["Stable"] * HALF + ["PreparingRebalance"] * HALF


def test_a_new_members_labels_do_not_break_the_series_q16(url: str) -> None:
    rows = offsets(url, "churn")
    assert rows["committed_offset"].tolist() == [100 + step for step in range(SCRAPED)]
    rate = flow.rates(flow.clean_offsets(rows))["consume_per_second"].dropna()
    assert set(rate.round(6)) == {1 / INTERVAL}


def test_a_time_lag_of_too_few_points_and_a_dropped_topic_are_unknown_q17(url: str) -> None:
    rows = offsets(url, "seglo")
    assert rows["lag_seconds"].isna().tolist() == [True, True] + [False] * (SCRAPED - 2)
    assert set(rows["topic"]) == {"t"}


def test_an_age_of_zero_beside_lost_records_is_unknown_q18(url: str) -> None:
    rows = offsets(url, "lost")
    assert rows.loc[rows["partition"] == 0, "lag_seconds"].isna().all()
    assert set(rows.loc[rows["partition"] == 1, "lag_seconds"]) == {0}


def test_the_collectors_names_are_read_with_ratio_at_their_end_q19(url: str) -> None:
    answer = fetched(url, "ratio", WORKER)
    assert answer.facts["dialect"] == "otel"
    assert answer.frames["offsets"]["committed_offset"].max() > 0


def test_names_that_two_exporters_share_tell_neither_q20(url: str) -> None:
    assert fetched(url, "shared_names", "orders-svc").facts["dialect"] == "none"


def test_a_gap_during_a_rebalance_is_a_gap_and_no_recovery_q21(url: str) -> None:
    answer = fetched(url, "rebalance")
    rows = flow.clean_offsets(answer.frames["offsets"])
    inside = rows[
        rows["timestamp"].between(
            pd.Timestamp(RECORDINGS["rebalance"].start + 41 * INTERVAL, unit="s", tz="UTC"),
            pd.Timestamp(RECORDINGS["rebalance"].start + 54 * INTERVAL, unit="s", tz="UTC"),
        )
    ]
    assert inside["lag_messages"].isna().all()
    assert answer.facts["gaps"] == "1 gap of 75 s"


# -- alerts


def test_a_rule_on_a_metric_that_does_not_exist_is_named_and_others_are_not_q23(url: str) -> None:
    answer = fetched(url, "burrow", "orders-svc")
    assert answer.facts["rules_that_cannot_fire"] == "FromAnotherExporter"
    (dead,) = [blind for blind in answer.blind if "FromAnotherExporter" in blind.what]
    assert "kafka_burrow_partition_lag" in dead.why


# -- exporters that tell something else than they seem to


def test_burrows_zero_without_a_commit_is_unknown_and_its_lag_needs_no_full_ring_q24(
    url: str,
) -> None:
    rows = cleaned(url, "burrow", "dead-svc").groupby("partition").last()
    assert rows["lag_messages"].isna().tolist() == [True, True, False]
    assert rows.loc[2, "lag_messages"] == 1194
    assert rows.loc[2, "committed_offset"] == rows.loc[2, "log_end_offset"] - 1194
    whole = cleaned(url, "burrow", "payments-svc")
    assert set(whole["lag_messages"]) == {0}


def test_a_log_end_that_fell_splits_the_series_q25(url: str) -> None:
    rows = cleaned(url, "recreated")
    assert rows["topic_recreated"].sum() == 1
    assert not (rows["lag_messages"] > 50).any()
    rate = flow.rates(rows)["consume_per_second"].dropna()
    assert (rate >= 0).all()
    assert rate.max() < 1


def test_a_lag_of_zero_without_a_log_end_is_no_recovery_q26(url: str) -> None:
    answer = fetched(url, "false_zero", WORKER)
    assert set(answer.frames["offsets"]["lag_messages"]) == {0}
    assert flow.clean_offsets(answer.frames["offsets"])["lag_messages"].isna().all()
    kafka = from_kafka(answer.frames["offsets"], unread=15_000)
    assert "false_zero" in kinds(watched(answer, WORKER, partitions=kafka))


def test_another_exporter_says_since_when_a_zero_is_false_q26(url: str) -> None:
    answer = fetched(url, "klag_and_exporter", WORKER)
    assert answer.facts["dialect"] == "klag_exporter"
    (told,) = disagreements(answer.frames["offsets"], answer.frames["second_opinions"])
    assert (told.dialect, told.ours, told.theirs) == ("kafka_exporter", 0, 15169)


def test_all_groups_flat_at_once_while_kafka_goes_on_are_a_frozen_exporter_q27(url: str) -> None:
    answer = fetched(url, "frozen", WORKER)
    rows = answer.frames["offsets"]
    assert rows.groupby(["topic", "partition"])["log_end_offset"].nunique().max() == 1
    now, then = (from_kafka(rows, later=later, unread=100_000.0 + 5_000 * number)
                 for number, later in enumerate(("5s", "15s")))  # fmt: skip
    kafka = frames.normalise("partitions", pd.concat([now, then]))
    assert "frozen" in kinds(watched(answer, WORKER, partitions=kafka))


def test_the_same_flatness_is_true_where_kafka_stands_still_too_q27(url: str) -> None:
    answer = fetched(url, "frozen", WORKER)
    rows = answer.frames["offsets"]
    last = rows[(rows["timestamp"] == rows["timestamp"].max()) & (rows["committed_offset"] >= 0)]
    kafka = from_kafka(rows).merge(
        last[["topic", "partition", "log_end_offset"]], on=["topic", "partition"]
    )
    kafka = kafka.drop(columns="log_end_offset_x").rename(
        columns={"log_end_offset_y": "log_end_offset"}
    )
    told = watched(answer, WORKER, partitions=frames.normalise("partitions", kafka))
    assert "frozen" not in kinds(told)


def test_members_zero_of_a_live_kip848_group_is_not_believed_q28(url: str) -> None:
    answer = fetched(url, "frozen", "notify-848")
    history = answer.frames["group_history"]
    assert set(history["member_count"]) == {0}
    state = frames.normalise(
        "group_state",
        [
            {
                "timestamp": history["timestamp"].max(),
                "group": "notify-848",
                "state": "Stable",
                "protocol": "consumer",
                "member_count": 2,
                "query_id": "kafka-01",
            }
        ],
    )
    assert "members_unseen" in kinds(watched(answer, "notify-848", group_state=state))
    classic = state.assign(protocol=pd.Series(["classic"], dtype="str"))
    assert "members_unseen" not in kinds(watched(answer, "notify-848", group_state=classic))


def test_topics_the_group_never_used_are_not_part_of_it_q29(url: str) -> None:
    assert set(offsets(url, "never_used")["topic"]) == {"used"}


def test_a_sum_of_zero_for_a_group_without_a_commit_is_unknown_q30(url: str) -> None:
    answer = fetched(url, "klag_exporter", "idle-nocommit")
    assert "offsets" not in answer.frames
    (blind,) = [blind for blind in answer.blind if blind.what == "offset history of the group"]
    assert "committed nothing" in blind.why
    assert "kafka_consumergroup_group_sum_lag" in blind.why


def test_an_exporter_that_is_up_without_a_lag_is_found_and_said_to_be_empty_q31(url: str) -> None:
    answer = fetched(url, "braedon_mute", WORKER)
    assert answer.facts["dialect"] == "braedon"
    assert any("can never fire" in blind.why for blind in answer.blind)
    assert set(answer.frames["targets"]["up"]) == {1}


# -- brokers


def test_under_replication_is_summed_over_brokers_and_isr_shrinks_are_not_read_q33(
    url: str,
) -> None:
    counted = fetched(url, "three_nodes", "orders-svc").frames["broker_metrics"]
    assert set(counted.query("metric == 'under_replicated_partitions'")["value"]) == {15}
    by_broker = fetched(url, "two_brokers").frames["broker_metrics"]
    last = by_broker[by_broker["timestamp"] == by_broker["timestamp"].max()]
    assert last.query("metric == 'under_replicated_partitions'")["value"].sum() == 14
    assert not any("isrshrinks" in name for reading in BROKER_READINGS for name in reading.names)


def test_throttling_is_read_per_client_and_latency_not_from_the_long_poll_q34(url: str) -> None:
    metrics = fetched(url, "jmx", WORKER).frames["broker_metrics"]
    throttled = metrics.query("metric == 'throttle_seconds'")
    assert set(throttled["instance"]) == {f"jmx_narrow:9000 fetch client_id={WORKER}-0"}
    assert throttled["value"].iloc[0] == pytest.approx(8.0386)
    assert metrics.query("metric == 'produce_p99_seconds'")["value"].max() < 0.1
    assert not any("Fetch" in reading.expression for reading in BROKER_READINGS)
    assert np.isfinite(metrics["value"]).all()


@pytest.mark.parametrize(("name", "found"), [("warming_up", False), ("overloaded", True)])
def test_an_idle_ratio_counts_once_the_broker_has_warmed_up_q34(
    url: str, name: str, found: bool
) -> None:
    answer = fetched(url, name)
    read = answer.frames["broker_metrics"].query("metric == 'request_handler_idle_ratio'")
    low = read.loc[read["value"] < 0.1, "timestamp"]
    assert len(low) >= 12
    # the same course, beside an incident whose fault begins when the broker is gone
    gone = pd.Timestamp(RECORDINGS[name].start, unit="s", tz="UTC") + pd.Timedelta(
        GONE * INTERVAL, "s"
    )
    later = incidents.moment(incidents.FAULT) - gone
    made = incidents.with_tables(
        incidents.make("slow"), broker_metrics=read.assign(timestamp=read["timestamp"] + later)
    )
    findings = incidents.checks(broker.brokers_and_neighbours, made)["broker_degraded"].findings
    assert any("request_handler_idle_ratio" in finding.id for finding in findings) == found

"""The brokers, and the neighbours who would suffer with us if it were the brokers."""

from __future__ import annotations

from dataclasses import replace

import incidents
import numpy as np
import pandas as pd
import pytest

from lagkit import frames
from lagkit.signals import broker

CALM, SLOW = incidents.make("calm"), incidents.make("slow")


def brokers(incident) -> dict:
    return incidents.checks(broker.brokers_and_neighbours, incident)


def metric(name: str, before: float, later: float, unit: str = "", samples: int | None = None):
    rows = []
    for number, second in enumerate(range(0, incidents.SECONDS, incidents.STEP)):
        late = second >= incidents.FAULT
        if samples is not None and late:
            late = second < incidents.FAULT + samples * incidents.STEP
        rows.append(
            {
                "timestamp": incidents.moment(second),
                "metric": name,
                "instance": "b1:9404",
                "value": later if late else before,
                "unit": unit or "x",
                "query_id": f"prometheus-{4 + number % 2:02d}",
            }
        )
    return incidents.with_tables(SLOW, broker_metrics=frames.normalise("broker_metrics", rows))


@pytest.mark.parametrize(
    ("name", "before", "later"),
    [
        ("under_replicated_partitions", 0, 14),
        ("offline_partitions", 0, 2),
        ("broker_count", 3, 2),
        ("request_handler_idle_ratio", 0.9, 0.1),
        ("network_idle_ratio", 0.9, 0.2),
        ("produce_p99_seconds", 0.01, 1.5),
        ("offset_commit_p99_seconds", 0.1, 0.5),
    ],
)
def test_a_broker_that_got_worse_at_the_onset_is_told(name, before, later):
    finding = brokers(metric(name, before, later))["broker_degraded"].findings[0]
    assert finding.id == f"broker_degraded:{name}@b1:9404"
    assert (finding.value, finding.baseline) == (later, before)
    assert abs((finding.onset - incidents.moment(incidents.FAULT)).total_seconds()) <= 60


@pytest.mark.parametrize(
    ("name", "before", "later"),
    [
        ("under_replicated_partitions", 14, 14),
        ("request_handler_idle_ratio", 0.1, 0.1),
        ("produce_p99_seconds", 0.01, 0.05),
        ("produce_p99_seconds", 1.0, 1.2),
        ("broker_count", 3, 3),
        ("cpu_of_the_moon", 0, 1),
    ],
)
def test_what_was_so_before_or_is_not_felt_is_no_degradation(name, before, later):
    assert brokers(metric(name, before, later))["broker_degraded"].outcome == "absent"


def test_brokers_that_let_prometheus_wait_for_their_metrics_are_told():
    check = brokers(metric("scrape_seconds", 0.1, 4.0))["brokers_scraped_late"]
    assert check.findings[0].statement == (
        "Prometheus waited 4.0 s for the metrics, before 0.1 s, on b1:9404"
    )
    assert (check.findings[0].value, check.findings[0].baseline) == (4.0, 0.1)


@pytest.mark.parametrize(("before", "later"), [(0.1, 0.9), (4.0, 5.0)])
def test_metrics_that_come_soon_or_were_as_late_before_are_not_late(before, later):
    seen = brokers(metric("scrape_seconds", before, later))
    assert seen["brokers_scraped_late"].outcome == "absent"
    assert seen["broker_degraded"].outcome == "absent"


def test_a_server_that_does_not_know_how_long_its_scrapes_took_has_not_been_asked():
    seen = brokers(metric("network_idle_ratio", 0.9, 0.9))
    assert seen["brokers_scraped_late"].outcome == "not_checked"


def test_one_bad_sample_is_a_hiccup_of_the_scrape():
    made = metric("under_replicated_partitions", 0, 14, samples=1)
    assert brokers(made)["broker_degraded"].outcome == "absent"


@pytest.mark.parametrize(
    ("values", "words"), [({"leader": None}, "no leader"), ({"isr_count": 1}, "under-replicated")]
)
def test_what_kafka_says_of_leaders_and_replicas_is_told(values, words):
    made = incidents.edited(SLOW, "partitions", lambda t: t["partition"] == 1, **values)
    statement = brokers(made)["broker_degraded"].findings[0].statement
    assert words in statement
    assert "1 of the group's 6 partitions" in statement


def test_no_metrics_and_no_kafka_is_not_checked():
    made = incidents.without(SLOW, "prometheus", "kafka")
    assert {check.outcome for check in brokers(made).values()} == {"not_checked"}


# -- neighbours


def test_neighbours_that_fall_behind_at_the_same_time_are_told():
    check = brokers(incidents.make("broker"))["neighbours_lag_too"]
    assert [f.id for f in check.findings] == [
        f"neighbours_lag_too:{group}/{topic}" for group, topic in reversed(incidents.NEIGHBOURS)
    ]


def test_neighbours_that_keep_up_are_counted():
    check = brokers(SLOW)["neighbours_lag_too"]
    assert check.outcome == "absent"
    assert "3 other group(s)" in check.reason


def neighbour(topic: str, kind: str, lag):
    made = incidents.make(kind)
    rows = [
        {
            "timestamp": incidents.moment(s),
            "group": "audit",
            "topic": topic,
            "lag_messages": lag(s),
            "query_id": "prometheus-03",
        }
        for s in range(0, incidents.SECONDS, incidents.STEP)
    ]
    return incidents.with_tables(made, neighbours=frames.normalise("neighbours", rows))


def growing(second: float) -> float:
    return 5 + max(0.0, 6.0 * (second - incidents.FAULT))


def test_more_to_read_on_our_topic_is_more_for_every_reader_and_no_brokers_doing():
    made = neighbour(incidents.TOPIC, "spike", growing)
    assert brokers(made)["neighbours_lag_too"].outcome == "not_checked"


def test_another_reader_of_our_topic_counts_while_no_more_is_produced():
    made = neighbour(incidents.TOPIC, "slow", growing)
    assert brokers(made)["neighbours_lag_too"].outcome == "present"


def test_a_neighbour_on_another_topic_counts_during_a_spike():
    made = neighbour("invoices", "spike", growing)
    assert brokers(made)["neighbours_lag_too"].outcome == "present"


@pytest.mark.parametrize(
    "lag",
    [
        lambda s: 10.0 * s,
        lambda s: 5000.0,
        lambda s: 5 + max(0, s - incidents.FAULT) / 60,
        lambda s: np.nan,
    ],
    ids=["was falling behind anyway", "stands", "grows a little", "unknown"],
)
def test_a_neighbour_that_does_not_begin_to_fall_behind_is_no_witness(lag):
    assert brokers(neighbour("invoices", "slow", lag))["neighbours_lag_too"].outcome != "present"


def test_another_topic_of_our_own_group_is_no_neighbour():
    made = neighbour("invoices", "slow", growing)
    own = incidents.edited(made, "neighbours", group=incidents.GROUP)
    assert brokers(own)["neighbours_lag_too"].outcome == "not_checked"


# -- quotas


def test_a_throttled_client_is_named():
    finding = brokers(incidents.make("throttled"))["client_throttled"].findings[0]
    assert "worker by 0.80 s" in finding.statement


def test_no_throttle_metric_is_not_checked_and_zero_is_absent():
    none = incidents.with_tables(SLOW, broker_metrics=frames.empty("broker_metrics"))
    assert brokers(none)["client_throttled"].outcome == "not_checked"
    assert brokers(CALM)["client_throttled"].outcome == "absent"


def throttled(*clients: str):
    rows = [
        {
            "timestamp": incidents.moment(second),
            "metric": "throttle_seconds",
            "instance": f"b1:9404 fetch client_id={client}",
            "value": 2.0,
            "unit": "seconds",
            "query_id": "prometheus-04",
        }
        for second in range(0, incidents.SECONDS, incidents.STEP)
        for client in clients
    ]
    return incidents.with_tables(SLOW, broker_metrics=frames.normalise("broker_metrics", rows))


def test_a_client_of_the_group_that_is_held_back_is_told_among_others():
    check = brokers(throttled("mirror-maker", incidents.PODS[0]))["client_throttled"]
    assert incidents.PODS[0] in check.findings[0].statement


def test_a_client_of_another_group_that_is_held_back_is_not_ours():
    check = brokers(throttled("mirror-maker", incidents.PODS[0] + "-other"))["client_throttled"]
    assert check.outcome == "absent"
    assert "2 other(s)" in check.reason


def idle(low, gone=()):
    rows = [
        {
            "timestamp": incidents.moment(second),
            "metric": "request_handler_idle_ratio",
            "instance": "b1:9404",
            "value": 0.05 if second in low else 0.95,
            "unit": "ratio",
            "query_id": "prometheus-04",
        }
        for second in range(0, incidents.SECONDS, incidents.STEP)
        if second not in gone
    ]
    return incidents.with_tables(SLOW, broker_metrics=frames.normalise("broker_metrics", rows))


FAULT = incidents.FAULT


def test_low_idle_ratios_of_a_broker_that_has_just_started_are_no_overload():
    """lag.md Q34: gone for a minute, then low for less than two."""
    made = idle(range(FAULT + 60, FAULT + 170), gone=range(FAULT, FAULT + 60))
    assert not metric_findings(made)


def test_low_idle_ratios_that_outlast_the_start_are_an_overload():
    made = idle(range(FAULT + 60, incidents.SECONDS), gone=range(FAULT, FAULT + 60))
    assert metric_findings(made)


def test_low_idle_ratios_of_a_broker_that_did_not_start_are_an_overload():
    assert metric_findings(idle(range(FAULT + 60, FAULT + 170)))


def metric_findings(made):
    found = brokers(made)["broker_degraded"].findings
    return [f for f in found if "request_handler_idle_ratio" in f.id]


# -- what the brokers' answers to lagkit itself tell


def asked(
    *seconds: float,
    outcome: str = "ok",
    unanswered: int = 0,
    statement: str = "describe_configs(broker '1')",
):
    """Return an incident whose Kafka was asked *statement* so often, and once for much."""
    rows = [
        {
            "query_id": f"kafka-{number:02d}",
            "source": "kafka",
            "statement": statement,
            "started_at": incidents.END,
            "seconds": took,
            "rows": 1,
            "outcome": "timeout" if number < unanswered else outcome,
        }
        for number, took in enumerate(seconds)
    ]
    much = {
        **rows[0],
        "query_id": "kafka-99",
        "statement": "list_offsets(latest) of 9000 partitions",
    }
    rows.append({**much, "seconds": 5.0})
    return incidents.with_tables(SLOW, queries=frames.normalise("queries", rows))


def answered_late(made):
    return brokers(made)["brokers_answer_late"]


@pytest.mark.parametrize("outcome", ["ok", "partial"])
def test_brokers_that_let_lagkit_wait_are_told_with_how_long(outcome):
    finding = answered_late(asked(0.1, 0.5, 0.5, 0.6, 0.9, outcome=outcome)).findings[0]
    assert (finding.value, finding.baseline, finding.unit) == (0.5, 0.1, "seconds")
    assert finding.query.startswith("kafka-00")


def test_one_request_without_an_answer_among_quick_ones_tells_of_a_broker_that_stops_at_times():
    finding = answered_late(asked(5.0, 0.02, 0.01, 0.01, 0.03, unanswered=1)).findings[0]
    assert (finding.value, finding.baseline) == (5.0, 0.01)
    assert "1 of them got no answer within 5 s" in finding.statement


def test_requests_of_which_none_was_answered_may_have_been_lost_on_lagkits_own_way():
    check = answered_late(asked(*[5.0] * 6, unanswered=6))
    assert (check.outcome, check.source) == ("not_checked", "kafka")


def test_a_long_way_to_the_brokers_is_no_late_answer():
    check = answered_late(asked(0.6, 0.6, 0.7, 0.7, 0.8))
    assert (check.outcome, check.source) == ("absent", "kafka")
    assert "took 0.7 s as a median, the fastest of all 0.6 s" in check.reason


def test_answers_that_take_long_because_they_are_large_are_no_late_answers():
    large = asked(*[2.0] * 6, statement="list_offsets(latest) of 9000 partitions")
    quick = asked(*[0.01] * 6)
    assert answered_late(large).outcome == "not_checked"
    assert answered_late(quick).outcome == "absent"


def test_a_broker_that_was_not_asked_or_only_long_after_is_neither_late_nor_in_time():
    slow = asked(0.1, 0.5, 0.5, 0.6, 0.9)
    afterwards = replace(slow, captured_at=slow.end + pd.Timedelta("1h"))
    unread = incidents.without(slow, "kafka")
    refused = asked(0.1, 0.5, 0.5, 0.6, 0.9, outcome="denied")
    for made in (afterwards, unread, refused, asked(0.1, 0.5, 0.5, 0.6)):
        assert answered_late(made).outcome == "not_checked"

"""Decoding of the admin client's own objects. What a broker does is in tests/real."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, Node, TopicPartition
from confluent_kafka.admin import (
    ConsumerGroupDescription,
    DescribeClusterResult,
    MemberAssignment,
    MemberDescription,
)
from pydantic import SecretStr

from lagkit import frames
from lagkit.runbook import Runbook
from lagkit.sources import Scope
from lagkit.sources.kafka import (
    STATES,
    KafkaSource,
    broker_rows,
    client_host,
    committed_offsets,
    fault,
    group_row,
    member_rows,
)

NOW = pd.Timestamp("2026-11-23T12:00:00Z")


def description(*members: MemberDescription) -> ConsumerGroupDescription:
    return ConsumerGroupDescription(
        "g", False, list(members), "range", ConsumerGroupState.STABLE, Node(1, "broker", 9092)
    )


def member(*places: tuple[str, int], host: str = "/10.0.0.7") -> MemberDescription:
    owned = MemberAssignment([TopicPartition(*place) for place in places])
    return MemberDescription("m-1", "client", host, owned)


def failure(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


def test_partition_without_a_commit_is_unknown_not_zero() -> None:
    read = committed_offsets([TopicPartition("t", 0), TopicPartition("t", 1, 0)])
    assert math.isnan(read["t", 0].offset)
    assert read["t", 0].error is None
    assert read["t", 1].offset == 0


@pytest.mark.parametrize(
    ("host", "address"),
    [("/10.0.0.7", "10.0.0.7"), ("pod.ns/10.0.0.7", "10.0.0.7"), ("10.0.0.7", "10.0.0.7"),
     ("/2001:db8::1", "2001:db8::1"), ("", None), (None, None)],
)  # fmt: skip
def test_client_host_is_the_bare_address(host: str | None, address: str | None) -> None:
    assert client_host(host) == address


def test_member_has_a_row_for_each_partition() -> None:
    rows = frames.normalise(
        "members", member_rows(description(member(("t", 0), ("u", 3))), NOW, "q")
    )
    assert rows[["topic", "partition"]].to_numpy().tolist() == [["t", 0], ["u", 3]]


def test_member_without_partitions_keeps_a_row() -> None:
    rows = frames.normalise("members", member_rows(description(member()), NOW, "q"))
    assert len(rows) == 1
    assert rows["topic"].isna().all()


def test_group_row_uses_the_brokers_words() -> None:
    row = group_row(description(member(("t", 0))), NOW, "q")
    assert (row["state"], row["assignor"], row["coordinator"], row["member_count"]) == (
        "Stable",
        "range",
        "broker:9092",
        1,
    )


def test_every_state_of_the_client_has_a_name() -> None:
    assert set(STATES) >= {state.name for state in ConsumerGroupState}


def test_protocol_that_the_broker_does_not_tell_is_missing() -> None:
    assert group_row(description(), NOW, "q")["protocol"] is None


def test_unknown_controller_is_not_false() -> None:
    cluster = DescribeClusterResult(None, [Node(1, "broker", 9092)], "id")
    assert broker_rows(cluster, NOW, "q")[0]["is_controller"] is None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (failure(KafkaError.GROUP_AUTHORIZATION_FAILED), "denied"),
        (failure(KafkaError.TOPIC_AUTHORIZATION_FAILED), "denied"),
        (failure(KafkaError._TIMED_OUT), "timeout"),
        (TimeoutError(), "timeout"),
        (failure(KafkaError.UNSUPPORTED_VERSION), "failed"),
        (ValueError("odd"), "failed"),
    ],
)
def test_failures_are_told_apart(error: Exception, outcome: str) -> None:
    assert fault(error, 5.0)[0] == outcome


def test_call_that_the_broker_lacks_is_said_so() -> None:
    _, text = fault(failure(KafkaError.UNSUPPORTED_VERSION), 5.0)
    assert "does not offer" in text


def scope() -> Scope:
    return Scope("g", (), NOW - pd.Timedelta("1h"), NOW, Runbook(title="t"))


def test_property_that_librdkafka_refuses_is_an_answer_without_the_secret() -> None:
    source = KafkaSource(
        "127.0.0.1:1", {"sasl.password": SecretStr("hunter2"), "sasl.mechanism": "hunter2"}
    )
    answer = source.fetch(scope(), budget_seconds=2)
    assert answer.status == "unavailable"
    assert "hunter2" not in repr(answer) + answer.queries.to_string()


def test_nobody_listening_is_unavailable_with_the_reason() -> None:
    answer = KafkaSource("127.0.0.1:1").fetch(scope(), budget_seconds=2)
    assert answer.status == "unavailable"
    assert "refused" in answer.detail
    assert answer.queries["outcome"].tolist() == ["timeout"]
    assert answer.blind

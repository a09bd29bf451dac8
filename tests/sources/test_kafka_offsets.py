"""The bounded fan-out: what is kept when one of many does not answer. Speed is in benchmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import ListOffsetsResultInfo

from lagkit.sources.kafka.offsets import Refusal, fan_out, list_offsets, offsets_of_groups

GROUPS = [f"g{number}" for number in range(7)]
SILENT: Future[Any] = Future()


def done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


def failed(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


class Client:
    """An admin client of which each answer is decided beforehand; it counts what is under way."""

    def __init__(
        self, answers: Mapping[str, Any] | None = None, ends: Mapping[int, Any] | None = None
    ) -> None:
        self._answers = answers or {}
        self._ends = ends or {}
        self.held: list[tuple[str, Future[Any]]] = []
        self.most = 0
        self.hold = False

    def list_consumer_group_offsets(
        self, requests: Sequence[ConsumerGroupTopicPartitions], *, request_timeout: float
    ) -> dict[str, Future[Any]]:
        assert request_timeout > 0
        (request,) = requests
        name = request.group_id
        places = [TopicPartition("t", 0, 5), TopicPartition("t", 1)]
        answer = self._answers.get(name, ConsumerGroupTopicPartitions(name, places))
        if self.hold:
            future: Future[Any] = Future()
            self.held.append((name, future))
            self.most = max(self.most, len(self.held))
            if len(self.held) == 3 or name == GROUPS[-1]:
                for held, waiting in self.held:
                    waiting.set_result(ConsumerGroupTopicPartitions(held, places))
                self.held.clear()
            return {name: future}
        return {name: answer if isinstance(answer, Future) else done(answer)}

    def list_offsets(self, asked: Mapping[Any, Any], **_: Any) -> dict[Any, Future[Any]]:
        return {
            place: done(self._ends.get(place.partition, ListOffsetsResultInfo(9, -1, 0)))
            for place in asked
        }


def test_every_group_is_answered_once_however_often_it_is_named() -> None:
    found = dict(fan_out(Client(), [*GROUPS, *GROUPS], seconds=5))
    assert sorted(found) == GROUPS


def test_no_more_than_the_bound_is_under_way() -> None:
    client = Client()
    client.hold = True
    assert len(dict(fan_out(client, GROUPS, seconds=5, in_flight=3))) == len(GROUPS)
    assert client.most == 3


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(KafkaError.GROUP_AUTHORIZATION_FAILED, "denied"), (KafkaError._TIMED_OUT, "timeout"),
     (KafkaError._UNSUPPORTED_FEATURE, "failed")],
)  # fmt: skip
def test_a_group_that_is_refused_costs_itself_alone(code: int, outcome: str) -> None:
    found = dict(fan_out(Client({"g3": failed(code)}), GROUPS, seconds=5))
    refused = {name: answer for name, answer in found.items() if isinstance(answer, Refusal)}
    assert list(refused) == ["g3"]
    assert refused["g3"].outcome == outcome


def test_a_group_that_never_answers_ends_with_the_time() -> None:
    found = dict(fan_out(Client({"g3": SILENT}), GROUPS, seconds=0.2))
    assert found["g3"] == Refusal("timeout", "no answer within 0.2 s")
    assert sum(isinstance(answer, Refusal) for answer in found.values()) == 1


def test_groups_for_which_no_time_is_left_are_told_as_not_asked() -> None:
    found = dict(fan_out(Client(dict.fromkeys(GROUPS, SILENT)), GROUPS, seconds=0.2, in_flight=2))
    whys = sorted(answer.why for answer in found.values() if isinstance(answer, Refusal))
    assert len(whys) == len(GROUPS)
    assert sum("not asked" in why for why in whys) == len(GROUPS) - 2


def test_an_error_of_one_partition_of_a_group_is_kept_beside_the_others() -> None:
    # only librdkafka can put an error into a TopicPartition of its own
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    broken = SimpleNamespace(topic="t", partition=1, offset=-1001, error=error)
    answer = SimpleNamespace(topic_partitions=[TopicPartition("t", 0, 5), broken])
    read = dict(fan_out(Client({"g0": answer}), ["g0"], seconds=5))["g0"]
    assert not isinstance(read, Refusal)
    assert read["t", 0].offset == 5
    assert "TOPIC_AUTHORIZATION_FAILED" in str(read["t", 1].error)


def test_a_partition_whose_leader_was_silent_is_unknown_not_minus_1001() -> None:
    ends = {1: ListOffsetsResultInfo(-1001, -1, -1)}
    read = list_offsets(Client(ends=ends), [("t", 0), ("t", 1)], 5)
    assert read["t", 0][0].offset == 9
    assert math.isnan(read["t", 1][0].offset)
    assert read["t", 1][1] == "timeout"


def test_an_error_of_one_partition_leaves_the_other_log_ends() -> None:
    ends = {1: failed(KafkaError.TOPIC_AUTHORIZATION_FAILED)}
    read = list_offsets(Client(ends=ends), [("t", 0), ("t", 1)], 5)
    assert read["t", 0][0].offset == 9
    assert read["t", 1][1] == "denied"


def test_lag_of_many_groups_is_there_at_once_and_unknown_without_a_commit() -> None:
    client = Client({"g3": failed(KafkaError._TIMED_OUT)})
    found = offsets_of_groups(client, client, GROUPS, seconds=5)
    assert found.lag("g0", ("t", 0)) == 4
    assert math.isnan(found.lag("g0", ("t", 1)))
    assert math.isnan(found.lag("g3", ("t", 0)))
    assert list(found.refused) == ["g3"]

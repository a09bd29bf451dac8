"""Time lag and production history from ListOffsets alone, checked against real record times."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lab.stack import Stack
from lagkit.collect import build_incident
from lagkit.config import Settings
from lagkit.investigation import Result, investigate
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.kafka import KafkaSource

from .conftest import require

PATIENCE = 30.0
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(tmp_path_factory.mktemp("history"), parts=("kafka",)) as stack:
        require(stack, "kafka")
        yield stack.kafka.bootstrap


@dataclass(frozen=True)
class Log:
    """A topic of our own, its group, and the clock when it was made (ms)."""

    bootstrap: str
    topic: str
    now: int

    @property
    def group(self) -> str:
        return f"{self.topic}-group"

    def write(self, times: Sequence[int], partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for moment in times:
            producer.produce(self.topic, b"x", partition=partition, timestamp=moment)
        assert producer.flush(PATIENCE) == 0

    def commit(self, offsets: Sequence[int]) -> None:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group})
        places = [TopicPartition(self.topic, p, offset) for p, offset in enumerate(offsets)]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def read(self, *, since: str = "1h", snapshots: int = 1, interval: float = 0.2) -> Answer:
        now = pd.Timestamp.now("UTC")
        scope = Scope(self.group, (), now - pd.Timedelta(since), now, Runbook(title="t"))
        source = KafkaSource(self.bootstrap, snapshots=snapshots, interval=interval)
        return source.fetch(scope, budget_seconds=30)

    def investigate(self, answer: Answer, *, since: str = "1h") -> Result:
        now = pd.Timestamp.now("UTC")
        scope = Scope(self.group, (), now - pd.Timedelta(since), now, Runbook(title="t"))
        return investigate(build_incident(scope, {"kafka": answer}, Settings()))


@pytest.fixture
def make(bootstrap: str):
    def made(partitions: int = 1, **config: str) -> Log:
        name = f"t6-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": bootstrap})
        topic = NewTopic(name, partitions, 1, config=config)
        admin.create_topics([topic])[name].result(timeout=PATIENCE)
        return Log(bootstrap, name, round(time.time() * 1000))

    return made


def age(answer: Answer, partition: int = 0) -> pd.Series:
    rows = answer.frames["oldest_unread"].set_index("partition")
    return rows.loc[partition]


def true_age(answer: Answer, written: int) -> float:
    asked = answer.frames["oldest_unread"]["timestamp"].iloc[0]
    return asked.timestamp() - written / 1000


def bisection(answer: Answer) -> tuple[int, int]:
    """Return rounds and calls of the bisection, from its provenance."""
    row = answer.queries.loc[answer.queries["statement"].str.contains("bisected")].iloc[0]
    rounds, calls = row["detail"].split(", ")[:2]
    return int(rounds.split()[0]), int(calls.split()[0])


# -- the age of the oldest unread record: within a second of the truth -----------------------------


def test_age_on_a_steady_topic_is_right_to_a_second(make) -> None:
    log = make()
    times = [log.now - HOUR + n * 1_700 for n in range(2_000)]
    log.write(times)
    for position in (1, 700, 1_999):
        log.commit([position])
        answer = log.read()
        assert age(answer)["time_lag_seconds"] == pytest.approx(
            true_age(answer, times[position]), abs=1.0
        )


def test_age_inside_a_burst_of_one_millisecond_is_that_of_the_burst(make) -> None:
    log = make()
    burst = log.now - 20 * MINUTE
    log.write([log.now - HOUR] * 10 + [burst] * 1_000 + [log.now - MINUTE] * 10)
    log.commit([500])
    answer = log.read()
    assert age(answer)["time_lag_seconds"] == pytest.approx(true_age(answer, burst), abs=1.0)


def test_age_on_an_idle_topic_is_that_of_its_last_record_not_of_the_silence_before(make) -> None:
    log = make()
    last = log.now - 7 * MINUTE
    log.write([log.now - 50 * MINUTE] * 10 + [last])
    log.commit([10])
    answer = log.read()
    assert age(answer)["time_lag_seconds"] == pytest.approx(true_age(answer, last), abs=1.0)


def test_age_of_a_group_that_reads_again_from_the_start_is_that_of_the_first_record(make) -> None:
    """seglo#175: extrapolation made 75 hours of this; here the record itself tells, days back."""
    log = make(**{"retention.ms": "-1", "message.timestamp.before.max.ms": str(10**12)})
    week = log.now - 7 * 24 * HOUR
    times = [week + n * 10 * MINUTE for n in range(1_000)]
    log.write(times)
    log.commit([3])
    answer = log.read()
    assert age(answer)["time_lag_seconds"] == pytest.approx(true_age(answer, times[3]), abs=1.0)


def test_age_where_the_brokers_clock_is_used_is_that_of_the_append(make) -> None:
    log = make(**{"message.timestamp.type": "LogAppendTime"})
    log.write([log.now - HOUR])
    log.commit([0])
    answer = log.read()
    assert age(answer)["time_lag_seconds"] == pytest.approx(true_age(answer, log.now), abs=2.0)


def test_rounds_of_the_bisection_do_not_grow_with_the_number_of_partitions(make) -> None:
    rounds = {}
    for partitions in (1, 60):
        log = make(partitions)
        for partition in range(partitions):
            # each partition its own rhythm and position
            log.write(
                [log.now - 50 * MINUTE + n * (1_100 + 13 * partition) for n in range(200)],
                partition,
            )
        log.commit([1 + 3 * partition for partition in range(partitions)])
        answer = log.read()
        told = answer.frames["oldest_unread"]
        assert len(told) == partitions
        for partition in range(partitions):
            position = 1 + 3 * partition
            truth = true_age(answer, log.now - 50 * MINUTE + position * (1_100 + 13 * partition))
            assert age(answer, partition)["time_lag_seconds"] == pytest.approx(truth, abs=1.0)
        rounds[partitions], calls = bisection(answer)
        assert calls == rounds[partitions]
    assert rounds[60] <= 9, "a minute's bracket to half a second takes seven halvings"


def test_partition_that_is_read_to_its_end_has_no_age(make) -> None:
    log = make(2)
    log.write([log.now - HOUR] * 5)
    log.commit([5, 0])
    answer = log.read()
    assert age(answer, 0)["time_lag_seconds"] == 0.0
    assert pd.isna(age(answer, 0)["written_at"])
    assert age(answer, 1)["time_lag_seconds"] == 0.0, "empty, and nothing is waiting"


def test_partition_without_a_commit_has_an_unknown_age_not_zero(make) -> None:
    log = make(2)
    log.write([log.now - MINUTE] * 5, 1)
    log.write([log.now - MINUTE] * 5, 0)
    log.commit([2])
    row = age(log.read(), 1)
    assert pd.isna(row["time_lag_seconds"])
    assert row["note"] == "no commit"


def test_records_that_were_deleted_unread_are_named_and_the_oldest_left_counts(make) -> None:
    log = make()
    times = [log.now - HOUR + n * SECOND for n in range(1_000)]
    log.write(times)
    log.commit([100])
    admin = AdminClient({"bootstrap.servers": log.bootstrap})
    place = TopicPartition(log.topic, 0, 400)
    admin.delete_records([place])[place].result(PATIENCE)
    answer = log.read()
    row = age(answer)
    assert row["time_lag_seconds"] == pytest.approx(true_age(answer, times[400]), abs=1.0)
    assert "below the log start" in row["note"]
    history = answer.frames["log_end_history"]
    assert history["log_end_offset"].min() > 400, "what the log end was before is not known"


def test_records_written_out_of_order_never_make_an_age_too_large(make) -> None:
    """The newest time up to the position is what a timestamp search can know."""
    log = make()
    log.write([log.now - 30 * MINUTE, log.now - 10 * MINUTE, log.now - 20 * MINUTE, log.now])
    log.commit([2])
    answer = log.read()
    assert age(answer)["time_lag_seconds"] == pytest.approx(
        true_age(answer, log.now - 10 * MINUTE), abs=1.0
    )


def test_record_from_the_future_is_said_so_and_spoils_no_history(make) -> None:
    log = make(**{"message.timestamp.after.max.ms": str(10**12)})
    log.write([log.now - 30 * MINUTE + n * SECOND for n in range(600)])
    log.write([log.now + 2 * HOUR] * 10)
    log.commit([100])
    answer = log.read()
    assert any("from the future" in blind.why for blind in answer.blind)
    assert answer.frames["log_end_history"]["log_end_offset"].max() < 600
    assert age(answer)["time_lag_seconds"] == pytest.approx(
        true_age(answer, log.now - 30 * MINUTE + 100 * SECOND), abs=1.0
    )


def test_replayed_records_with_old_times_are_found_out_and_give_no_history(make) -> None:
    log = make(**{"message.timestamp.before.max.ms": str(10**12)})
    old = log.now - 40 * MINUTE
    log.write([old] * 100)
    log.commit([10])
    source = KafkaSource(log.bootstrap, snapshots=2, interval=1.5)
    now = pd.Timestamp.now("UTC")
    scope = Scope(log.group, (), now - pd.Timedelta("1h"), now, Runbook(title="t"))
    from threading import Timer

    writer = Timer(0.7, log.write, [[old + SECOND] * 100])
    writer.start()
    answer = source.fetch(scope, budget_seconds=30)
    writer.join()
    assert any("over 60 s older" in blind.why for blind in answer.blind)
    assert answer.frames["log_end_history"].empty
    assert "older times" in age(answer)["note"]
    # by the time that the record itself carries, which is all that can be known of a replay
    assert age(answer)["time_lag_seconds"] == pytest.approx(true_age(answer, old), abs=1.0)


def test_age_in_a_replay_that_is_over_is_that_of_the_record_itself(make) -> None:
    """A mirror or a replay copies old records with their times: 100 of them, 1.7 s apart."""
    log = make(**{"message.timestamp.before.max.ms": str(10**12)})
    times = [log.now - 3 * HOUR + n * 1_700 for n in range(100)]
    log.write(times)
    for position in (0, 37, 99):
        log.commit([position])
        answer = log.read()
        assert age(answer)["time_lag_seconds"] == pytest.approx(
            true_age(answer, times[position]), abs=1.0
        )


def test_compacted_topic_has_an_age_that_is_said_to_be_an_upper_bound(make) -> None:
    log = make(**{"cleanup.policy": "compact"})
    producer = Producer({"bootstrap.servers": log.bootstrap})
    for number in range(50):
        producer.produce(log.topic, b"x", key=b"k", timestamp=log.now - HOUR + number * SECOND)
    assert producer.flush(PATIENCE) == 0
    log.commit([20])
    assert "at most so old" in age(log.read())["note"]


# -- what was produced, and when -------------------------------------------------------------------


def test_log_ends_of_the_past_are_those_of_the_record_times(make) -> None:
    log = make(2)
    times = {
        0: [log.now - 50 * MINUTE + n * 1_500 for n in range(1_900)],
        1: sorted([log.now - 50 * MINUTE] * 300 + [log.now - 9 * MINUTE] * 700),
    }
    for partition, moments in times.items():
        log.write(moments, partition)
    log.commit([0, 0])
    history = log.read().frames["log_end_history"]
    assert set(history["partition"]) == {0, 1}
    assert history.groupby("partition").size().min() == 61
    for row in history.itertuples():
        moment = row.timestamp.timestamp() * 1000
        truth = sum(written < moment for written in times[row.partition])
        assert row.log_end_offset == truth


def test_log_end_is_known_back_to_the_window_of_a_topic_that_is_idle_now(make) -> None:
    log = make()
    log.write([log.now - 30 * MINUTE] * 40)
    log.commit([40])
    history = log.read().frames["log_end_history"].sort_values("timestamp")
    assert history["log_end_offset"].iloc[0] == 0
    assert history["log_end_offset"].iloc[-1] == 40


# -- a verdict from Kafka alone -------------------------------------------------------------------


def check(result: Result, kind: str):
    return next(c for c in result.verdict.checks if c.kind == kind)


def test_spike_is_seen_by_kafka_alone(make) -> None:
    """10/s for 50 minutes, then 100/s for 5; the group has read a little more than usual."""
    log = make()
    steady = [log.now - 55 * MINUTE + n * 100 for n in range(30_000)]
    burst = [log.now - 5 * MINUTE + n * 10 for n in range(30_000)]
    log.write(steady)
    log.write(burst)
    log.commit([34_000])
    result = log.investigate(log.read(snapshots=3, interval=0.4))
    spike = check(result, "production_spike")
    assert spike.outcome == "present", spike.reason
    assert "10/s to" in spike.findings[0].statement
    began = result.flow.onset.at
    assert abs(began.timestamp() * 1000 - (log.now - 5 * MINUTE)) < 2 * MINUTE
    assert check(result, "promise_kept").outcome == "absent"


def test_steady_production_is_no_spike_and_a_standing_group_has_its_age(make) -> None:
    log = make()
    log.write([log.now - 55 * MINUTE + n * 100 for n in range(33_000)])
    log.commit([21_000])
    result = log.investigate(log.read(snapshots=3, interval=0.4))
    assert check(result, "production_spike").outcome == "absent"
    truth = 55 * 60 - 2_100
    assert result.verdict.impact.oldest_age_seconds_now == pytest.approx(truth, abs=20)
    assert not result.verdict.impact.oldest_age_is_at_least
    assert result.flow.onset.censored, "nobody saw it begin"


def test_group_that_keeps_up_is_healthy_to_kafka_alone(make) -> None:
    log = make()
    log.write([log.now - 55 * MINUTE + n * 100 for n in range(33_000)])
    log.commit([32_990])
    result = log.investigate(log.read(snapshots=3, interval=0.4))
    assert result.verdict.state == "healthy"
    assert check(result, "promise_kept").outcome == "present"
    assert check(result, "production_spike").outcome == "absent"

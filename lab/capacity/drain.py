"""Consumers stopped for a measured time on a real broker: is the time to catch up as predicted?

``python -m lab capacity drain``. A producer writes at a steady rate, a consumer of a real group
reads at most so fast. Its capacity is read off while it works off a first backlog, as lagkit does.
Then it is stopped and started again; from the measured stop ``lagkit.capacity.queueing`` predicts
how long it takes to catch up and how old the oldest message gets.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.stack import Stack
from lagkit.capacity.queueing import after_stop
from lagkit.flow import clean_offsets, time_lag
from lagkit.frames import normalise

PARTITIONS = 2
DEMAND = 150.0
CAPACITY = 450.0
BACKLOG = 2500
STOP_SECONDS = 8.0
STEADY_SECONDS = 5.0
SAMPLE_SECONDS = 0.2
LONGEST_SECONDS = 40.0
ANSWER_SECONDS = 10.0
BATCH = 30
CAUGHT_UP_SECONDS = 0.5
"""A lag of this much demand is on its way, and no backlog."""
BEGIN, END = "<!-- drain: begin -->", "<!-- drain: end -->"


@dataclass(frozen=True)
class Drained:
    """What was predicted and what was seen; seconds and messages a second."""

    demand: tuple[float, float]
    capacity: tuple[float, float]
    stop: float
    resolution: float
    predicted: tuple[float, float]
    observed: float
    oldest_predicted: tuple[float, float]
    oldest_observed: float

    @property
    def confirmed(self) -> bool:
        """Whether both lie in their intervals."""
        low, high = self.predicted
        young, old = self.oldest_predicted
        return low <= self.observed <= high and young <= self.oldest_observed <= old


class _Flow:
    """A producer, a consumer that can be stopped, and somebody who looks at the offsets."""

    def __init__(self, bootstrap: str) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        name = uuid.uuid4().hex[:8]
        self.bootstrap, self.topic, self.group = bootstrap, f"drain-{name}", f"drain-{name}"
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        topic = NewTopic(self.topic, PARTITIONS, 1)
        for future in self._admin.create_topics([topic]).values():
            future.result(timeout=20)
        self._over = threading.Event()
        self._pause = threading.Event()
        self._threads: list[threading.Thread] = []
        self.rows: list[dict[str, Any]] = []
        self.looks: list[tuple[float, int, int]] = []
        self.faults: list[BaseException] = []

    def start(self, work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.faults.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def produce(self) -> None:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5})
        for number in range(BACKLOG):
            producer.produce(self.topic, b"x" * 100, partition=number % PARTITIONS)
        producer.flush(20)
        began, sent = time.monotonic(), 0
        while not self._over.is_set():
            due = int((time.monotonic() - began) * DEMAND)
            for number in range(sent, due):
                producer.produce(self.topic, b"x" * 100, partition=number % PARTITIONS)
            sent = due
            producer.poll(0)
            time.sleep(0.01)
        producer.flush(20)

    def consume(self) -> None:
        from confluent_kafka import Consumer

        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # in small pieces, or one partition's backlog is read before another's is begun
                "max.partition.fetch.bytes": 20_000,
                "queued.min.messages": 300,
            }
        )
        consumer.subscribe([self.topic])
        free_at = time.monotonic()
        try:
            while not self._over.is_set() and not self._pause.is_set():
                got = [one for one in consumer.consume(BATCH, 0.1) if one.error() is None]
                if not got:
                    continue
                # a worker that handles one message at a time and is never faster
                free_at = max(free_at, time.monotonic() - 0.02) + len(got) / CAPACITY
                time.sleep(max(0.0, free_at - time.monotonic()))
                consumer.commit(asynchronous=False)
        finally:
            consumer.close()

    def look(self) -> None:
        from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        places = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
        while not self._over.is_set():
            asked = ConsumerGroupTopicPartitions(self.group, places)
            answers = self._admin.list_consumer_group_offsets(
                [asked], request_timeout=ANSWER_SECONDS
            )
            future = answers[self.group]
            try:
                told = future.result(ANSWER_SECONDS + 1).topic_partitions
            except (KafkaException, TimeoutError):
                if self.looks:
                    raise
                continue  # a young broker has no coordinator yet
            committed = {p.partition: p.offset for p in told}
            at = time.time()
            latest = self._admin.list_offsets({place: OffsetSpec.latest() for place in places})
            ends = {place.partition: got.result(5).offset for place, got in latest.items()}
            self.rows += [
                {
                    "timestamp": pd.Timestamp(at, unit="s", tz="UTC"),
                    "group": self.group,
                    "topic": self.topic,
                    "partition": number,
                    "committed_offset": float(committed.get(number, -1)),
                    "log_end_offset": float(ends[number]),
                    "query_id": "drain",
                }
                for number in range(PARTITIONS)
            ]
            read = sum(max(0, offset) for offset in committed.values())
            self.looks.append((at, sum(ends.values()), read))
            time.sleep(SAMPLE_SECONDS)

    def wait(self, what: str, holds: Any, most: float = LONGEST_SECONDS) -> None:
        end = time.monotonic() + most
        while not (self.looks and holds(*self.looks[-1])):
            if self.faults:
                raise self.faults[0]
            if time.monotonic() > end:
                msg = f"{what} did not happen within {most:g} s"
                raise TimeoutError(msg)
            time.sleep(0.05)

    def stop_consumer(self, thread: threading.Thread) -> None:
        self._pause.set()
        thread.join(20)
        self._pause.clear()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
        for future in self._admin.delete_topics([self.topic]).values():
            future.result(20)


def experiment(bootstrap: str) -> Drained:
    """Run it once; takes about 40 s."""
    flow = _Flow(bootstrap)
    small = DEMAND * CAUGHT_UP_SECONDS
    try:
        flow.start(flow.produce)
        flow.start(flow.look)
        flow.wait("the first backlog", lambda _at, end, _read: end >= BACKLOG)
        consumer = flow.start(flow.consume)
        flow.wait("catching up with it", lambda _at, end, read: read and end - read <= small)
        caught = flow.looks[-1][0]
        time.sleep(STEADY_SECONDS)
        flow.stop_consumer(consumer)
        time.sleep(STOP_SECONDS)
        flow.start(flow.consume)
        flow.wait("a backlog", lambda _at, end, read: end - read > small)
        flow.wait("catching up", lambda _at, end, read: end - read <= small)
        time.sleep(1.0)
    finally:
        flow.close()
    return _judged(np.array(flow.looks), flow.rows, caught, small)


def _judged(looks: np.ndarray, rows: list[dict[str, Any]], caught: float, small: float) -> Drained:
    at, end, read = looks.T
    # the stop: from the last commit before it to the first after it
    moved = np.flatnonzero(np.diff(read) > 0) + 1
    after = moved[at[moved] > caught]
    longest = int(np.argmax(np.diff(at[after])))
    from_, to = after[longest], after[longest + 1] - 1
    stop = float(at[to] - at[from_])
    done = to + 1 + int(np.flatnonzero((end - read)[to + 1 :] <= small)[0])
    capacity = _rates(at, read, (read > 0) & (at < caught) & (end - read > small))
    demand = _rates(at, end, at > caught)
    resolution = 2 * float(np.median(np.diff(at))) + CAUGHT_UP_SECONDS
    low = after_stop(np.full(168, demand[0]), capacity[1], stop - resolution, hour=0)
    high = after_stop(np.full(168, demand[1]), capacity[0], stop + resolution, hour=0)
    assert low.catch_up_seconds is not None
    assert high.catch_up_seconds is not None
    history = clean_offsets(normalise("offsets", rows))
    ages = time_lag(history)
    since = ages["timestamp"] > pd.Timestamp(float(at[from_]) - 1, unit="s", tz="UTC")
    oldest = float(ages.loc[since, "time_lag_seconds"].max())
    return Drained(
        demand,
        capacity,
        stop,
        resolution,
        (max(0.0, low.catch_up_seconds - resolution), high.catch_up_seconds + resolution),
        float(at[done] - at[to]),
        (low.oldest_seconds - resolution, high.oldest_seconds + resolution),
        oldest,
    )


def _rates(at: np.ndarray, offsets: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Return the lower and upper end of the mean rate, by two standard errors over its seconds."""
    t, o = at[inside], offsets[inside]
    edges = np.arange(t[0], t[-1], 1.0)
    rates = np.diff(np.interp(edges, t, o))
    mean = float((o[-1] - o[0]) / (t[-1] - t[0]))
    spread = float(rates.std(ddof=1) / np.sqrt(len(rates))) if len(rates) > 2 else 0.1 * mean
    half = max(2 * spread, 0.02 * mean)
    return mean - half, mean + half


def report(done: Drained) -> str:
    """Return it as Markdown."""
    return "\n".join(
        [
            "| | predicted | seen |",
            "| --- | --- | --- |",
            (
                f"| caught up after | {done.predicted[0]:.1f} s to {done.predicted[1]:.1f} s | "
                f"{done.observed:.1f} s |"
            ),
            (
                f"| oldest message | {done.oldest_predicted[0]:.1f} s to "
                f"{done.oldest_predicted[1]:.1f} s | {done.oldest_observed:.1f} s |"
            ),
            "",
            (
                f"Stopped for {done.stop:.1f} s; demand {done.demand[0]:.0f} to "
                f"{done.demand[1]:.0f}/s, capacity {done.capacity[0]:.0f} to "
                f"{done.capacity[1]:.0f}/s, each by two standard errors; offsets looked at to "
                f"±{done.resolution:.1f} s."
            ),
        ]
    )


def main(page: Path | None) -> int:
    """Start a broker, run the experiment, print it, and write it into *page*."""
    with (
        tempfile.TemporaryDirectory(prefix="lagkit-drain-") as folder,
        Stack(folder, parts=("kafka",)) as stack,
    ):
        done = experiment(stack.kafka.bootstrap)
    text = report(done)
    print(text)
    if page is not None:
        whole = page.read_text(encoding="utf-8")
        page.write_text(
            re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{text}\n{END}", whole, flags=re.DOTALL),
            encoding="utf-8",
        )
    return 0 if done.confirmed else 1

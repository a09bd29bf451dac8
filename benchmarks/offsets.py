"""Committed offsets and log ends of 1,000 groups × 50 partitions, 20 ms away from the broker.

Loopback would hide what matters here: how often one waits for an answer before the next question.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from lab.install import Artifact, install
from lab.stack import Stack
from lagkit.sources.kafka.coordinator import CoordinatorClient
from lagkit.sources.kafka.offsets import list_offsets, offsets_of_groups
from lagkit.sources.kafka.rows import Place, committed_offsets

TOPICS, PARTITIONS = 20, 50
GROUPS, QUICK_GROUPS = 1_000, 100
ROUND_TRIP_MS = 20
MOST_ROUNDS = 3
"""The peers take minutes a round."""
REPEATS = 7
MORE_THAN_PEER, OF_FLOOR, MOST_SECONDS = 5.0, 1.5, 10.0
PATIENCE = 120.0
SEED_BATCH = 50
OURS, FLOOR = "lagkit", "all futures at once"
ONE_BY_ONE, TOOL = "AdminClient, one group after another", "kafka-consumer-groups --all-groups"


def measure(*, rounds: int, quick: bool = False) -> harness.Row:
    """Return the row; *quick* takes a tenth of the groups.

    Raises
    ------
    harness.Missing
        Kafka, its command-line tools or toxiproxy cannot be had.
    """
    count = QUICK_GROUPS if quick else GROUPS
    parts = install(["kafka", "toxiproxy", "kafka-tools"])
    for name, part in parts.items():
        if not isinstance(part, Artifact):
            msg = f"{name}: {part.reason}. To do: {part.hint}"
            raise harness.Missing(msg)
    tools = parts["kafka-tools"]
    assert isinstance(tools, Artifact)
    rounds = min(rounds, MOST_ROUNDS)
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(folder, parts=("kafka", "toxiproxy")) as stack,
    ):
        groups = seed(stack.kafka.bootstrap, count)
        for stream in ("upstream", "downstream"):
            stack.toxiproxy.add(
                "kafka-1", "latency", {"latency": ROUND_TRIP_MS // 2}, stream=stream
            )
        bootstrap = stack.kafka.proxied_bootstrap
        with contextlib.closing(CoordinatorClient({"bootstrap.servers": bootstrap})) as commits:
            seconds = harness.paired(
                candidates(bootstrap, commits, groups, tools), rounds=rounds, warm_up=False
            )
    peer = harness.fastest(seconds, [ONE_BY_ONE, TOOL])
    return harness.Row(
        work=f"Committed offsets and log ends of {count:,} groups × {PARTITIONS} partitions over "
        f"{TOPICS} topics, one broker, {ROUND_TRIP_MS} ms of round trip by toxiproxy.",
        seconds=seconds,
        claims=[
            harness.Claim(
                f"faster than the fastest peer ({peer})",
                harness.ratio(seconds[peer], seconds[OURS]),
                MORE_THAN_PEER,
                at_least=True,
            ),
            harness.Claim(
                f"of the floor ({FLOOR})", harness.ratio(seconds[OURS], seconds[FLOOR]), OF_FLOOR
            ),
            harness.Claim(
                "seconds", harness.difference(seconds[OURS], [0.0] * rounds), MOST_SECONDS, unit="s"
            ),
        ],
        notes=[
            "kafka-consumer-groups also starts a JVM and asks for the members of each group.",
            f"{rounds} rounds here: the peers take minutes.",
        ],
    )


def seed(bootstrap: str, count: int) -> list[str]:
    """Make the topics and *count* groups with a commit in each partition of one topic."""
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = [f"t{number:02}" for number in range(TOPICS)]
    wanted = [NewTopic(topic, PARTITIONS, 1) for topic in topics]
    for future in admin.create_topics(wanted, request_timeout=PATIENCE).values():
        future.result(PATIENCE)
    groups = [f"g{number:04}" for number in range(count)]
    left = list(groups)
    # a commit is refused while the offsets topic is being made, and too many at once drown it
    while left:
        batch, left = left[:SEED_BATCH], left[SEED_BATCH:]
        futures = {}
        for name in batch:
            topic = topics[int(name[1:]) % TOPICS]
            offsets = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
            request = ConsumerGroupTopicPartitions(name, offsets)
            futures[name] = admin.alter_consumer_group_offsets([request], request_timeout=5)[name]
        for name, future in futures.items():
            try:
                future.result(PATIENCE)
            except KafkaException:
                left.append(name)
    return groups


def candidates(
    bootstrap: str, commits: CoordinatorClient, groups: Sequence[str], tools: Artifact
) -> dict[str, Callable[[], object]]:
    """Return what is timed; each but the tool keeps its connection from round to round."""
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": bootstrap})
    client.list_topics(timeout=PATIENCE)
    _ask(commits, groups[0]).result(PATIENCE)
    return {
        OURS: functools.partial(_typical, functools.partial(_ours, client, commits, groups)),
        FLOOR: functools.partial(_typical, functools.partial(_at_once, client, groups)),
        ONE_BY_ONE: functools.partial(_one_by_one, client, groups),
        TOOL: functools.partial(_tool, bootstrap, tools),
    }


def _typical(work: Callable[[], object]) -> float:
    """Return the median of some calls: one second says little beside a peer's minutes."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _ours(client: Any, commits: CoordinatorClient, groups: Sequence[str]) -> None:
    found = offsets_of_groups(client, commits, groups, seconds=PATIENCE)
    _complete(len(found.committed), len(groups))
    _complete(sum(read.error is None for read in found.ends.values()), TOPICS * PARTITIONS)


def _at_once(client: Any, groups: Sequence[str]) -> None:
    futures = {name: _ask(client, name) for name in groups}
    read = [committed_offsets(future.result(PATIENCE).topic_partitions) for future in
            futures.values()]  # fmt: skip
    _complete(len(read), len(groups))
    places = sorted({place for each in read for place in each})
    _complete(len(list_offsets(client, places, PATIENCE)), TOPICS * PARTITIONS)


def _one_by_one(client: Any, groups: Sequence[str]) -> None:
    places: set[Place] = set()
    for name in groups:
        places |= committed_offsets(_ask(client, name).result(PATIENCE).topic_partitions).keys()
    _complete(len(list_offsets(client, sorted(places), PATIENCE)), TOPICS * PARTITIONS)


def _ask(client: Any, group: str) -> Any:
    from confluent_kafka import ConsumerGroupTopicPartitions

    request = ConsumerGroupTopicPartitions(group)
    return client.list_consumer_group_offsets([request], request_timeout=PATIENCE)[group]


def _tool(bootstrap: str, tools: Artifact) -> None:
    command = [
        "java", "-cp", f"{tools.files['libs']}/*",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "--bootstrap-server", bootstrap, "--all-groups", "--describe",
        "--timeout", str(int(PATIENCE * 1000)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.home())
    _complete(sum(line.startswith("g") for line in done.stdout.splitlines()) > 0, True)


def _complete(found: int, wanted: int) -> None:
    if found != wanted:
        msg = f"{found} answers of {wanted}: this round says nothing"
        raise RuntimeError(msg)

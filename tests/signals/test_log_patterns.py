"""The table of what client libraries write: true to its sources, exact, safe on hostile text."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lagkit.signals.log_patterns import (
    KINDS,
    LINE_LIMIT,
    LogPattern,
    NamedRecord,
    classify,
    libraries,
    log_patterns,
    named_record,
    says,
)

ROWS = log_patterns()
RECORDED = tomllib.loads(
    (Path(__file__).parents[1] / "data" / "client_logs" / "recorded.toml").read_text()
)["line"]
CLIENTS = {"librdkafka", "java", "kafka-python", "aiokafka", "sarama", "franz-go", "spring-kafka"}
HANG_SECONDS = 120
"""A guard, no measure: an expression that backtracks without end would take years."""

ORDINARY = (
    "2026-11-23 20:00:00,000 INFO consumer: handled 120 in 60 s, kafka lag 0",
    "INFO committed offset 8120 of orders-3",
    "GET /healthz 200 OK 3ms",
    "starting worker with 4 threads, session timeout 45 s, poll interval 300 s",
    "connected to kafka-1:9092",
    "subscribed to topic orders",
    "WARN cache miss for key 17, loading from database",
    "ERROR order 17 rejected: customer unknown",
    "authentication of user 12 succeeded",
    "token refreshed, expires in 3600 s",
    "heartbeat sent to the load balancer",
    "deserialized 120 records in 3 ms",
    "schema registry answered in 12 ms",
    "assigned ticket 42 to worker 3",
    "request timed out? no: 12 ms",
    "group photo uploaded",
    '{"level":"info","msg":"processed","partition":3,"offset":8120}',
    "Traceback (most recent call last):",
    '  File "consumer.py", line 12, in main',
    "ValueError: invalid literal for int() with base 10: 'x'",
    "\tat java.base/java.lang.Thread.run(Thread.java:840)",
    "shutting down gracefully, 0 messages in flight",
)


def named(row: LogPattern) -> str:
    return f"{row.library}-{row.kind}-{row.regex.pattern[:40]}"


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_row_matches_its_example_and_names_its_source(row: LogPattern) -> None:
    assert row.regex.search(row.example)
    assert row.kind in KINDS
    assert re.match(r"https://\S+$", row.source)
    assert row.version.strip(".0123456789") == ""
    assert row.version in row.source or row.version.split(".")[0] in row.source


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_no_row_of_another_kind_matches_the_example(row: LogPattern) -> None:
    others = [other for other in ROWS if other.kind != row.kind]
    assert [named(other) for other in others if other.regex.search(row.example)] == []


@pytest.mark.parametrize("line", ORDINARY)
def test_an_ordinary_line_is_of_no_kind(line: str) -> None:
    assert classify(line) is None


@pytest.mark.parametrize("line", RECORDED, ids=lambda line: f"{line['library']}-{line['kind']}")
def test_a_recorded_line_is_of_the_kind_it_is_about(line: dict[str, Any]) -> None:
    row = classify(line["text"])
    assert (row.kind if row else "") == line["kind"]


@pytest.mark.parametrize("row", [row for row in ROWS if row.recorded], ids=named)
def test_what_is_called_recorded_is_among_the_recordings_of_that_version(row: LogPattern) -> None:
    recorded = {(line["version"], line["text"].removeprefix("APPERR ")) for line in RECORDED}
    core = row.example.removeprefix("poll failed: ")
    assert any(
        version == row.version and (core in text or text in core) for version, text in recorded
    )


def test_every_client_library_is_known_by_the_troubles_it_can_log() -> None:
    covered = {library: {row.kind for row in ROWS if row.library == library} for library in CLIENTS}
    assert all(kinds >= {"rebalance", "authentication"} for kinds in covered.values())
    # Spring leaves sessions and sockets to the Java client it wraps, and logs in its words
    assert all(
        kinds >= {"session", "transport"}
        for library, kinds in covered.items()
        if library != "spring-kafka"
    )
    assert {row.library for row in ROWS if row.kind == "poll_interval"} == {
        "librdkafka", "java", "kafka-python", "sarama",
    }  # fmt: skip


# -- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (
            "Error deserializing VALUE for partition a.b-c-12 at offset 9007199254740993. If",
            NamedRecord("a.b-c", 12, 9007199254740993),
        ),
        (
            "Error deserializing key/value for partition orders-2 at offset 5.",
            NamedRecord("orders", 2, 5),
        ),
        (
            "Encountered corrupt message when fetching offset 42 for topic-partition orders-3",
            NamedRecord("orders", 3, 42),
        ),
        (
            "Backoff FixedBackOff{interval=0, currentAttempts=10} exhausted for orders-3@8120",
            NamedRecord("orders", 3, 8120),
        ),
        (
            "FailedBatchProcessor : orders-3@8120 included in remaining due to Exception: failed",
            NamedRecord("orders", 3, 8120),
        ),
        (
            "kafka: error while consuming orders/3: kafka: error decoding packet: bad CRC",
            NamedRecord("orders", 3, None),
        ),
        ("KafkaError{code=_VALUE_DESERIALIZATION,val=-159}", None),
        ("handled orders-3@8120", None),
    ],
)
def test_topic_partition_and_offset_are_read_from_the_line(
    line: str, record: NamedRecord | None
) -> None:
    assert named_record(line) == record


# -- over a frame ---------------------------------------------------------------------------------


def test_the_cause_wins_a_line_that_also_names_its_effect() -> None:
    line = (
        "[Consumer clientId=c, groupId=g] Connection to node 1 (k/10.0.0.7:9092) failed "
        "authentication due to: SSL handshake failed; Node 1 disconnected."
    )
    row = classify(line)
    assert row
    assert row.kind == "authentication"


def test_lines_are_told_by_kind_and_their_libraries_named() -> None:
    lines = pd.Series([row["text"] for row in RECORDED] + list(ORDINARY), dtype="str")
    for kind in KINDS:
        wanted = {row["text"] for row in RECORDED if row["kind"] == kind}
        assert wanted <= set(lines[says(lines, kind)])
    assert not any(says(lines.tail(len(ORDINARY)), kind).any() for kind in KINDS)
    assert libraries(lines, "poll_interval") == ("java", "kafka-python", "librdkafka")
    assert says(lines.head(0), "transport").empty


# -- hostile text ---------------------------------------------------------------------------------


def unbounded(pattern: str) -> Iterator[str]:
    """Yield repetitions in *pattern* without an upper bound."""
    for match in re.finditer(r"(?<!\\)(?:[*+]|\{\d*,\})", re.sub(r"\[[^\]]*\]", "[]", pattern)):
        yield match[0]


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_every_repetition_is_bounded(row: LogPattern) -> None:
    assert list(unbounded(row.regex.pattern)) == []


def test_what_stands_beyond_the_limit_of_a_line_is_not_looked_at() -> None:
    assert classify("x" * LINE_LIMIT + " REQTMOUT") is None
    assert classify("x" * (LINE_LIMIT - 20) + " REQTMOUT ") is not None


HOSTILE = """
from lagkit.signals.log_patterns import classify, log_patterns
size = 100_000
for row in log_patterns():
    half = row.example[: len(row.example) // 2]
    for line in (half * (size // len(half)), row.example[:-1] * (size // len(row.example)),
                 "x" * size, " " * size, "a-" * (size // 2), "(" * size, "1." * (size // 2)):
        row.regex.search(line)
        classify(line)
print("done")
"""


def test_lines_of_100_kb_made_of_the_beginnings_of_examples_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.stdout.strip() == "done", done.stderr

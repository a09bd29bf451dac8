"""Monitoring that lies, on real servers: found out, named, and not believed.

klag-exporter and the collector run with their own defaults, braedon's exporter as it comes from
PyPI; the broker is Kafka 4.3.1. What they say is compared with what the broker says.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lagkit as lk
from lab import kafka
from lab.install import Artifact, install
from lab.processes import listening
from lab.prometheus import SCRAPE_SECONDS
from lab.stack import Stack
from lagkit.errors import NoSourceReadable
from lagkit.render.html import render_html
from lagkit.render.markdown import render_markdown
from lagkit.report import build
from lagkit.sources.kafka.coordinator import CoordinatorClient

from .conftest import require

PARTS = ("kafka", "toxiproxy", "prometheus", "otel", "klag", "braedon")
GROUP, TOPIC = "deployment-worker", "deploy-requests"
LIVE_GROUP = "worker-848"
NEIGHBOUR, NEIGHBOUR_TOPIC = "audit-writer", "api-events"
PRODUCED, READ = 40.0, 20.0
"""Messages a second: the group falls behind all the time."""
HISTORY = (("otel", "kafka_consumer_group_lag", 9), ("klag", "kafka_consumergroup_group_lag", 4))
"""Samples to wait for; klag-exporter needs a minute to see its first group."""
HISTORY_SECONDS = 240
FLAT_SECONDS = 70
LOOKBACK = "4m"
SCRAPED = pd.Timedelta(seconds=2 * SCRAPE_SECONDS)
RESTARTS = 3
TOGETHER, STAGGER_SECONDS = 4, 0.25
COMMAND_SECONDS = 180


# -- the workload ----------------------------------------------------------------------------


def produce(bootstrap: str, topic: str, rate: float, over: threading.Event) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    number = 0
    while not over.wait(1 / rate):
        producer.produce(topic, b"x", key=str(number).encode())
        producer.poll(0)
        number += 1


def consume(
    bootstrap: str, group: str, topic: str, pause: float, over: threading.Event, **more: str
) -> None:
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": 1000,
            "log_level": 0,
            **more,
        }
    )
    consumer.subscribe([topic])
    while not over.is_set():
        if consumer.poll(0.5) is not None:
            over.wait(pause)
    consumer.close()


@contextmanager
def workload(bootstrap: str) -> Iterator[None]:
    over = threading.Event()
    threads = [
        threading.Thread(target=produce, args=(bootstrap, TOPIC, PRODUCED, over)),
        threading.Thread(target=produce, args=(bootstrap, NEIGHBOUR_TOPIC, READ, over)),
        threading.Thread(target=consume, args=(bootstrap, GROUP, TOPIC, 1 / READ, over)),
        threading.Thread(target=consume, args=(bootstrap, NEIGHBOUR, NEIGHBOUR_TOPIC, 0, over)),
        threading.Thread(
            target=consume,
            args=(bootstrap, LIVE_GROUP, TOPIC, 0, over),
            kwargs={"group.protocol": "consumer"},
        ),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


# -- what the servers say --------------------------------------------------------------------


def value(url: str, expression: str) -> float | None:
    """Return the one value of *expression* now, None if it has none."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def until(condition: Callable[[], bool], seconds: float, what: str, *, pause: float = 1.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


def unread(bootstrap: str, group: str = GROUP) -> float:
    """Return the lag of *group* by the broker itself."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    admin = AdminClient({"bootstrap.servers": bootstrap})
    # not by the client itself, which a broker that has just started would kill
    with closing(CoordinatorClient({"bootstrap.servers": bootstrap})) as commits:
        request = [ConsumerGroupTopicPartitions(group)]
        asked = commits.list_consumer_group_offsets(request, request_timeout=60)[group]
        committed = {
            TopicPartition(place.topic, place.partition): place.offset
            for place in asked.result().topic_partitions
        }
    ends = admin.list_offsets({place: OffsetSpec.latest() for place in committed})
    return float(sum(ends[place].result().offset - at for place, at in committed.items()))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("lying")
    with Stack(folder, parts=PARTS, honest_exporters=False) as stack:
        for part in PARTS:
            require(stack, part)
        with workload(stack.kafka.bootstrap):
            for dialect, name, samples in HISTORY:
                lag = f'max(count_over_time({name}{{group="{GROUP}",partition="0"}}[5m]))'
                url = stack.prometheus[dialect]
                until(
                    lambda url=url, lag=lag, samples=samples: (  # type: ignore[misc]
                        (value(url, lag) or 0) >= samples
                    ),
                    HISTORY_SECONDS,
                    f"{samples} samples of {dialect}",
                )
            yield stack


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lagkit", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def sources(stack: Stack, dialect: str) -> tuple[str, ...]:
    return ("--prometheus", stack.prometheus[dialect], "--bootstrap", stack.kafka.bootstrap)


def investigated(stack: Stack, dialect: str, group: str = GROUP) -> dict[str, Any]:
    """Return verdict.json of the real command."""
    asked = ("investigate", group, "--since", LOOKBACK, *sources(stack, dialect))
    done = run(*asked, "--no-report", "--json")
    assert done.returncode == 0, done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


def named_everywhere(
    stack: Stack, dialect: str, kind: str, folder: Path, group: str = GROUP
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Assert that first screen, reports and doctor name one liar, since when, and what mends it.

    Returns the verdict and what it says of the liar.
    """
    out = folder / "report"
    asked = ("investigate", group, "--since", LOOKBACK, *sources(stack, dialect))
    begun = pd.Timestamp.now("UTC") - pd.Timedelta(LOOKBACK)
    done = run(*asked, "--out", str(out))
    assert done.returncode == 0, done.stderr
    verdict: dict[str, Any] = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    told = only(verdict, kind)
    assert told["instance"].startswith(f"job {dialect} at 127.0.0.1:")
    since = pd.Timestamp(told["since"])
    # the first scrape of a window may lie a little before it
    assert begun - SCRAPED <= since <= pd.Timestamp.now("UTC")
    assert re.search(
        rf"^DISTRUST +{re.escape(told['exporter'][:40])}.* since ", done.stdout, re.MULTILINE
    )
    for page in ("report.html", "report.md"):
        text = html.unescape((out / page).read_text(encoding="utf-8")).replace("\\", "")
        assert "Monitoring that is not believed" in text
        assert told["exporter"] in text
        assert f"{since:%H:%M:%S}" in text
        assert "believed instead" in text
    examined = run("doctor", group, *sources(stack, dialect))
    assert examined.returncode == 0, examined.stderr
    liar = re.escape(f"{told['exporter']} ({told['instance']})")
    lines = (
        rf"^distrust +{liar}: .+\n +since +\d{{4}}-.+\n +said +.+\n +instead +(.+)\n +fix +(.+)$"
    )
    found = re.search(lines, examined.stdout, re.MULTILINE)
    assert found, examined.stdout
    assert "Kafka" in found[1]
    assert found[2] == told["fix"]
    return verdict, told


def only(verdict: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [one for one in verdict["suspicions"] if one["kind"] == kind]
    suspicion: dict[str, Any] = found
    return suspicion


# -- while all is well -----------------------------------------------------------------------


def test_exporters_that_tell_the_truth_are_not_accused(lab: Stack) -> None:
    for dialect in ("otel", "klag"):
        assert investigated(lab, dialect)["suspicions"] == []


def test_members_0_of_a_live_group_of_the_new_protocol_is_the_exporters_fault(
    lab: Stack, tmp_path: Path
) -> None:
    verdict, told = named_everywhere(lab, "otel", "members_unseen", tmp_path, LIVE_GROUP)
    assert "OpenTelemetry" in told["exporter"]
    assert "Kafka lists 1 member" in told["statement"]
    assert told["believed_instead"].startswith("Kafka's own list of members")
    checks = {check["kind"]: check["outcome"] for check in verdict["checks"]}
    assert checks["members_missing"] != "present"
    assert verdict["verdict"]["cause"] != "consumer_down"


def test_an_exporter_that_is_up_without_a_lag_series_is_named(lab: Stack, tmp_path: Path) -> None:
    before = unread(lab.kafka.bootstrap)
    verdict, told = named_everywhere(lab, "braedon", "mute", tmp_path)
    assert told["exporter"] == "prometheus-kafka-consumer-group-exporter (braedon)"
    assert "an alert on its lag can never fire" in told["statement"]
    assert "cannot read Kafka 4 and later" in told["fix"]
    # what is judged is what Kafka says
    assert before <= verdict["impact"]["lag_messages_now"] <= unread(lab.kafka.bootstrap)
    assert verdict["state"] not in ("recovered", "healthy", "draining")


# -- cut off and restarted -------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """When the collector was cut off from the broker, and when klag-exporter was seen at 0."""

    cut_at: pd.Timestamp
    zero_at: pd.Timestamp


@pytest.fixture(scope="module")
def broken(lab: Stack) -> Broken:
    """Cut the collector off, restart the broker, and wait until both exporters lie."""
    artifact = install(["kafka"])["kafka"]
    assert isinstance(artifact, Artifact)
    lab.toxiproxy.disable("kafka-1")
    cut_at = pd.Timestamp.now("UTC")
    kafka.restart(lab.ledger, artifact, None, lab.kafka)
    group = f'{{group="{GROUP}"}}'
    until(
        lambda: value(lab.prometheus["klag"], f"sum(kafka_consumergroup_group_lag{group})") == 0,
        120,
        "klag-exporter's false zeros",
    )
    zero_at = pd.Timestamp.now("UTC")
    still = f"max(changes(kafka_partition_current_offset[{FLAT_SECONDS}s]))"
    until(lambda: value(lab.prometheus["otel"], still) == 0, 240, "the collector's frozen values")
    return Broken(cut_at, zero_at)


def test_lag_0_after_a_broker_restart_is_no_recovery(
    lab: Stack, broken: Broken, tmp_path: Path
) -> None:
    truth = unread(lab.kafka.bootstrap)
    verdict, told = named_everywhere(lab, "klag", "false_zero", tmp_path)
    assert told["exporter"] == "klag-exporter"
    # known from the scrape on that brought it
    assert broken.cut_at < pd.Timestamp(told["since"]) <= broken.zero_at + SCRAPED
    assert '"metadata.max.age.ms" = "10000"' in told["fix"]
    assert verdict["state"] not in ("recovered", "healthy", "draining")
    assert verdict["impact"]["lag_messages_now"] >= 0.9 * truth


def test_values_that_an_exporter_repeats_are_not_a_stall(
    lab: Stack, broken: Broken, tmp_path: Path
) -> None:
    shown = value(lab.prometheus["otel"], f'sum(kafka_consumer_group_lag{{group="{GROUP}"}})')
    truth = unread(lab.kafka.bootstrap)
    assert shown is not None
    assert shown < 0.8 * truth, "the exporter does not lie yet"
    verdict, told = named_everywhere(lab, "otel", "frozen", tmp_path)
    assert "OpenTelemetry" in told["exporter"]
    assert "for 3 groups" in told["statement"]
    assert abs(pd.Timestamp(told["since"]) - broken.cut_at) < pd.Timedelta("30s")
    assert "metric_expiration: 30s" in told["fix"]
    assert verdict["impact"]["lag_messages_now"] >= 0.9 * truth
    assert verdict["state"] == "growing"


def asked_in_turns(settings: lk.Settings) -> list[lk.Result]:
    """Ask TOGETHER times, STAGGER_SECONDS apart; an empty list that was believed would raise."""

    def ask(number: int) -> lk.Result | None:
        time.sleep(number * STAGGER_SECONDS)
        try:
            return lk.investigate(lk.capture(GROUP, since=LOOKBACK, settings=settings))
        except NoSourceReadable:
            return None  # the broker closed the door once more, and lagkit said so

    with ThreadPoolExecutor(TOGETHER) as pool:
        return [result for result in pool.map(ask, range(TOGETHER)) if result is not None]


def test_a_list_of_groups_that_is_empty_after_a_restart_is_never_no_group(lab: Stack) -> None:
    """The broker answers so for a moment only: asked from when its port is open, repeatedly."""
    artifact = install(["kafka"])["kafka"]
    assert isinstance(artifact, Artifact)
    settings = lk.Settings(bootstrap=lab.kafka.bootstrap)
    judged = 0
    for _ in range(RESTARTS):
        lab.ledger.stop(["kafka-1"])
        starting = threading.Thread(
            target=kafka.restart, args=(lab.ledger, artifact, None, lab.kafka)
        )
        starting.start()
        try:
            until(lambda: listening(lab.kafka.nodes[0].direct), 60, "the broker's port", pause=0.01)
            results = asked_in_turns(settings)
        finally:
            starting.join()
        judged += len(results)
        for result in results:
            empty = [one for one in result.verdict.suspicions if one.kind == "empty_list"]
            if not empty:
                continue
            assert "listed no group and no error" in empty[0].statement
            assert "commits of this group" in empty[0].believed_instead
            assert result.verdict.impact.lag_messages_now > 0
            assert "DISTRUST    Kafka's own list of groups since" in repr(result)
            report = build(result)
            for page in (render_html(report, interactive=False), render_markdown(report)):
                shown = html.unescape(page).replace("\\", "")
                assert "Kafka's own list of groups" in shown
                assert f"{empty[0].since:%H:%M:%S}Z" in shown
            return
    # the broker had its groups before it was asked each time; the moment itself is recorded, see
    # tests/data/lying/kafka_empty_group_list.lagkit
    assert judged, f"in {RESTARTS} restarts the broker never answered"

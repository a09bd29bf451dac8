"""Weeks read from a real Prometheus, by the real command: its limits, its gaps, an interrupt."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import environment, run, started

from lab import prometheus
from lab.install import Artifact, install
from lab.processes import Ledger, free_ports
from lagkit.capacity import open_history

from .conftest import require

END = pd.Timestamp("2026-11-02T00:00:00Z")
WEEKS = 4
SCRAPE = 600
COUNT = WEEKS * 7 * 86400 // SCRAPE
START = END - pd.Timedelta(weeks=WEEKS)
AT = int(START.timestamp()) + (np.arange(COUNT) + 1) * SCRAPE
RULE = "group_topic:kafka_consumer_group_lag:sum"
CHANGE = COUNT // 2


@dataclass(frozen=True)
class Room:
    """Where the servers of these tests run, and the blocks they answer from."""

    ledger: Ledger
    artifact: Artifact
    store: Path
    folder: Path

    def serve(self, *options: str) -> str:
        (port,) = free_ports(1)
        return prometheus.start_recorded(self.ledger, self.artifact, port, self.store, *options)


def offsets(mean: float) -> np.ndarray:
    """Return a log end that grows with a daily season, messages."""
    seconds = np.arange(COUNT) * SCRAPE
    rate = mean * (1 + 0.5 * np.sin(seconds / 86400 * 2 * np.pi))
    return np.floor(1000 + np.cumsum(rate * SCRAPE))


def series(name: str, labels: str, values: np.ndarray, part: slice = slice(None)) -> Iterator[str]:
    for at, value in zip(AT[part].tolist(), values[part].tolist(), strict=True):
        yield f"{name}{{{labels}}} {value:.0f} {at}"


def page() -> Iterator[str]:
    """Yield two groups told by OpenTelemetry, one whose exporter was replaced, one of lag only."""
    for topic, mean in (("orders", 20.0), ("mails", 5.0)):
        group = f"{topic}-worker"
        for partition in range(2):
            end = offsets(mean)
            log = f'topic="{topic}",partition="{partition}",job="otel"'
            yield from series("kafka_partition_current_offset", log, end)
            yield from series("kafka_partition_oldest_offset", log, np.maximum(0, end - 2e6))
            own = f'group="{group}",{log}'
            yield from series("kafka_consumer_group_offset", own, end - 30)
            yield from series("kafka_consumer_group_lag", own, np.full(COUNT, 30.0))
        yield from series(RULE, f'group="{group}",topic="{topic}"', np.full(COUNT, 77.0))
    end, before, since = offsets(8.0), slice(0, CHANGE), slice(CHANGE, None)
    log = 'topic="moved",partition="0",job="otel"'
    yield from series("kafka_partition_current_offset", log, end, before)
    yield from series("kafka_consumer_group_offset", f'group="mover",{log}', end - 5, before)
    yield from series("kafka_consumer_group_lag", f'group="mover",{log}', np.full(COUNT, 5.0),
                      before)  # fmt: skip
    log = 'topic="moved",partition="0",job="kafka_exporter"'
    own = f'consumergroup="mover",{log}'
    yield from series("kafka_topic_partition_current_offset", log, end, since)
    yield from series("kafka_consumergroup_current_offset", own, end - 5, since)
    yield from series("kafka_consumergroup_lag", own, np.full(COUNT, 5.0), since)
    yield from series("kafka_consumer_group_lag", 'group="mute",topic="gone",partition="0",'
                      'job="otel"', np.full(COUNT, 9.0))  # fmt: skip


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    parts = install(("prometheus",))
    require(parts, "prometheus")
    artifact = parts["prometheus"]
    assert isinstance(artifact, Artifact)
    folder = tmp_path_factory.mktemp("capacity")
    store = prometheus.write_blocks(artifact, folder / "blocks", page(), longest="1458h")
    ledger = Ledger(folder / "lab")
    try:
        yield Room(ledger, artifact, store, folder)
    finally:
        ledger.stop()


@pytest.fixture(scope="module")
def url(room: Room) -> str:
    return room.serve()


def ask(url: str, tmp_path: Path, *words: object, end: pd.Timestamp = END, cache: str = "cache"):
    return run(
        "capacity", *words, "--prometheus", url, "--end", end.isoformat(), "--no-report",
        "--out", "out",
        cwd=tmp_path,
        env=environment(LAGKIT_CACHE=str(tmp_path / cache)),
    )  # fmt: skip


def answer(tmp_path: Path) -> dict[str, dict]:
    document = json.loads((tmp_path / "out" / "capacity.json").read_text(encoding="utf-8"))
    return {trend["group"]: trend for trend in document["trends"]} | {"": document}


def test_hours_read_from_a_server_are_the_rates_that_were_written(url, tmp_path):
    done = ask(url, tmp_path, "orders-worker", "--since", "4w")
    assert done.status == 0, done.both
    hours = open_history(tmp_path / "out" / "history.lagkit").flow_hours
    assert set(hours["group"]) == {"orders-worker"}
    assert len(hours) == WEEKS * 168
    end = 2 * offsets(20.0)
    at = ((hours["timestamp"] - START).dt.total_seconds() // SCRAPE - 1).astype(int)
    assert (hours["log_end_sum"] == end[at]).all()
    assert (hours["committed_sum"] == end[at] - 60).all()
    # rates over four scrapes, so also of what was up to forty minutes before the hour
    rate = pd.Series(np.diff(end, prepend=end[0]) / SCRAPE).rolling(10)
    high, low = hours["produced_high"].to_numpy()[5:-5], hours["produced_low"].to_numpy()[5:-5]
    assert (high <= 1.001 * rate.max().to_numpy()[at][5:-5]).all()
    assert (low >= 0.999 * rate.min().to_numpy()[at][5:-5]).all()
    assert (low <= high).all()
    assert hours["retention_use"].iloc[-1] == pytest.approx(30 / 2e6)
    assert hours["retention_use"].max() == pytest.approx(60 / end[at].min())
    trend = answer(tmp_path)["orders-worker"]
    assert trend["partitions"] == 2
    assert trend["saturation"]["status"] == "capacity_unknown"


def test_an_unknown_group_is_nothing_there_and_a_near_name_is_offered(url, tmp_path):
    done = ask(url, tmp_path, "order-worker", "--since", "4w")
    assert done.status == 3
    assert "orders-worker" in done.err
    assert not (tmp_path / "out").exists()


def test_one_unknown_of_several_groups_is_named_and_the_others_are_told(url, tmp_path):
    done = ask(url, tmp_path, "mails-worker", "nobody", "--since", "4w")
    assert done.status == 0
    assert "the history of 'nobody'" in done.out
    assert "mails-worker" in answer(tmp_path)


def test_a_retention_shorter_than_asked_says_what_there_is(url, tmp_path):
    """Of 70 weeks an hour apart the server itself refuses to answer at once."""
    query = {"query": "kafka_consumer_group_lag", "step": "3600", "end": str(END.timestamp()),
             "start": str((END - pd.Timedelta(weeks=70)).timestamp())}  # fmt: skip
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/api/v1/query_range?{urllib.parse.urlencode(query)}")
    assert b"exceeded maximum resolution" in refused.value.read()
    done = ask(url, tmp_path, "mails-worker", "--since", "70w")
    assert done.status == 0, done.both
    assert re.search(r"what was before 2026-10-05: the server holds 28 days of the 490", done.out)
    assert answer(tmp_path)["mails-worker"]["forecast"]["weeks"] >= 3


def test_an_exporter_that_was_replaced_is_read_on_in_its_successor(url, tmp_path):
    done = ask(url, tmp_path, "mover", "--since", "4w")
    assert done.status == 0, done.both
    trend = answer(tmp_path)["mover"]
    (change,) = [one for one in trend["happened"] if one["kind"] == "exporter changed"]
    assert change["at"].startswith("2026-10-19")
    hours = open_history(tmp_path / "out" / "history.lagkit").flow_hours
    assert hours["dialect"].value_counts().to_dict() == pytest.approx(
        {"otel": 336, "kafka_exporter": 336}, abs=2
    )
    assert trend["demand"]["p50"] == pytest.approx(8.0, rel=0.1)


def clusters() -> Iterator[str]:
    """Yield a group told with a cluster label, in two clusters, then by a successor without one."""
    end, before, since = offsets(8.0), slice(0, CHANGE), slice(CHANGE, None)
    for cluster, many, part in (("east", 1, before), ("west", 3, slice(CHANGE // 2, CHANGE))):
        log = f'topic="moved",partition="0",job="otel",cluster="{cluster}"'
        yield from series("kafka_partition_current_offset", log, many * end, part)
        own = f'group="mover",{log}'
        yield from series("kafka_consumer_group_offset", own, many * end - 5, part)
        yield from series("kafka_consumer_group_lag", own, np.full(COUNT, 5.0), part)
    log = 'topic="moved",partition="0",job="kafka_exporter"'
    own = f'consumergroup="mover",{log}'
    yield from series("kafka_topic_partition_current_offset", log, end, since)
    yield from series("kafka_consumergroup_current_offset", own, end - 5, since)
    yield from series("kafka_consumergroup_lag", own, np.full(COUNT, 5.0), since)


def test_each_exporter_is_read_of_its_own_cluster(room, tmp_path):
    folder = room.folder / "clusters"
    store = prometheus.write_blocks(room.artifact, folder, clusters(), longest="1458h")
    done = ask(replace(room, store=store).serve(), tmp_path, "mover", "--since", "4w")
    assert done.status == 0, done.both
    assert "cluster=west is there too" in done.out
    hours = open_history(tmp_path / "out" / "history.lagkit").flow_hours
    at = ((hours["timestamp"] - START).dt.total_seconds() // SCRAPE - 1).astype(int)
    assert set(hours["dialect"]) == {"otel", "kafka_exporter"}
    assert (hours["log_end_sum"] == offsets(8.0)[at]).all()


def test_a_group_of_which_only_lag_is_exported_is_unknown(url, tmp_path):
    done = ask(url, tmp_path, "mute", "--since", "4w")
    assert done.status == 0, done.both
    trend = answer(tmp_path)["mute"]
    assert (trend["level"], trend["demand"], trend["limit"]) == ("unknown", None, None)


def test_a_server_with_a_low_sample_limit_is_asked_for_less_at_a_time(room, url, tmp_path):
    whole = ask(url, tmp_path, "orders-worker", "mails-worker", "--since", "2w", cache="a")
    assert whole.status == 0
    expected = open_history(tmp_path / "out" / "history.lagkit").flow_hours
    limited = room.serve("--query.max-samples=1500")
    query = urllib.parse.urlencode(
        {"query": "sum(max_over_time(kafka_consumer_group_lag[2w]))", "time": END.timestamp()}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{limited}/api/v1/query?{query}")
    assert b"too many samples" in refused.value.read()
    done = ask(limited, tmp_path, "orders-worker", "mails-worker", "--since", "2w", cache="b")
    assert done.status == 0, done.both
    read = open_history(tmp_path / "out" / "history.lagkit")
    pd.testing.assert_frame_equal(read.flow_hours, expected)
    assert read.queries["detail"].str.contains("too much for one answer").any()


def test_a_limit_below_everything_is_told_and_loses_what_it_must(room, tmp_path):
    limited = room.serve("--query.max-samples=1")
    done = ask(limited, tmp_path, "orders-worker", "--since", "2w")
    assert done.status == 3
    assert "too many samples" in done.err


def test_an_interrupted_run_goes_on_where_it_stopped(url, tmp_path):
    cache = environment(LAGKIT_CACHE=str(tmp_path / "cache"))
    words = ("capacity", "--all", "--since", "4w", "--prometheus", url, "--no-report",
             "--end", END.isoformat(), "--out", "out")  # fmt: skip
    process = started(*words, cwd=tmp_path, env=cache)
    folder = tmp_path / "cache" / "answers"
    while process.poll() is None and len(list(folder.glob("*.parquet"))) < 12:
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (tmp_path / "out").exists()
    kept = len(list(folder.glob("*.parquet")))
    assert kept >= 12
    done = run(*words, cwd=tmp_path, env=cache)
    assert done.status == 0, done.both
    read = open_history(tmp_path / "out" / "history.lagkit")
    again = read.queries["statement"].str.startswith("kept: ").sum()
    assert again == kept
    third = run(*words, cwd=tmp_path, env=cache)
    assert third.status == 0
    later = open_history(tmp_path / "out" / "history.lagkit")
    pd.testing.assert_frame_equal(later.flow_hours, read.flow_hours)
    asked = later.queries["statement"]
    assert not asked.str.startswith("query_range").any()


def test_a_kept_answer_that_is_damaged_is_asked_again(url, tmp_path):
    assert ask(url, tmp_path, "mails-worker", "--since", "2w").status == 0
    before = (tmp_path / "out" / "capacity.json").read_bytes()
    for path in (tmp_path / "cache" / "answers").glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:40])
    assert ask(url, tmp_path, "mails-worker", "--since", "2w").status == 0
    after = json.loads((tmp_path / "out" / "capacity.json").read_bytes())
    assert after["trends"] == json.loads(before)["trends"]


def test_a_recording_rule_that_covers_the_weeks_is_read_instead(room, tmp_path):
    rules = room.folder / "rules.yml"
    rules.write_text(
        json.dumps(
            {
                "groups": [
                    {
                        "name": "lag",
                        "interval": "1h",
                        "rules": [
                            {
                                "record": RULE,
                                "expr": "sum by (group, topic) (kafka_consumer_group_lag)",
                            }
                        ],
                    }
                ]
            }
        )
    )
    (port,) = free_ports(1)
    served = prometheus.start_recorded(
        room.ledger, room.artifact, port, room.store, settings={"rule_files": [str(rules)]}
    )
    done = ask(served, tmp_path, "orders-worker", "--since", "3w")
    assert done.status == 0, done.both
    read = open_history(tmp_path / "out" / "history.lagkit")
    assert read.facts["prometheus"][f"rule {RULE}"] == "read for lag high"
    assert (read.flow_hours["lag_high"] == 77.0).all()

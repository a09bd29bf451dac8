"""Recorded scrapes in a real Prometheus come out as frames, dialect by dialect.

``promtool`` makes one TSDB out of the recordings in ``tests/data/scrapes``, each in hours of its
own, and a real server answers from it. Redpanda's page is written here in the shape its manual
gives: no Redpanda could be installed to record one.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lagkit.sources.prometheus as module
from lab.install import Artifact, install
from lab.processes import Ledger, free_ports
from lagkit.config import HttpLogin
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.prometheus import PrometheusSource

from .conftest import require

SCRAPES = Path(__file__).resolve().parent.parent / "data" / "scrapes"
DAY = int(pd.Timestamp("2026-01-05T00:00:00Z").timestamp())
HOUR = 3600
INTERVAL = 5
OFFSET = 1.3
"""Seconds from a multiple of the interval to the scrape."""
SCRAPED = 120
HOSTILE = 'it\'s "quoted" \\back\nnew } or {'

LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
Value = Callable[[int], float | None]


@dataclass(frozen=True)
class Recording:
    """One page scraped SCRAPED times from *start*; ``lines`` are in the exposition format."""

    start: int
    lines: tuple[str, ...]

    def scope(self, group: str, topics: tuple[str, ...] = (), scrapes: int = SCRAPED) -> Scope:
        begin = pd.Timestamp(self.start, unit="s", tz="UTC")
        end = begin + pd.Timedelta(seconds=scrapes * INTERVAL)
        return Scope(group, topics, begin, end, Runbook(title="test"))


def series(start: int, name: str, labels: str, value: Value, offset: float = OFFSET) -> list[str]:
    values = [(value(step), start + step * INTERVAL + offset) for step in range(SCRAPED)]
    return [f"{name}{{{labels}}} {number} {at}" for number, at in values if number is not None]


def recorded(hour: int, *scrapes: str, skip: range = range(0), more: str = "") -> Recording:
    """Repeat recorded pages; the scrapes in *skip* did not take place."""
    start = DAY + hour * HOUR
    lines: list[str] = []
    for scrape in scrapes:
        target = f'job="{scrape}",instance="{scrape}:9000"'
        for line in (SCRAPES / f"{scrape}.prom").read_text(encoding="utf-8").splitlines():
            found = LINE.match(line)
            if found is None:
                continue
            name, labels, text = found.groups()
            number = float(text)
            lines += series(
                start,
                name,
                ",".join(part for part in (labels, target, more) if part),
                lambda step, number=number: None if step in skip else number,
            )
        lines += series(start, "up", target, lambda step: None if step in skip else 1)
    return Recording(start, tuple(lines))


def own(hour: int, *parts: tuple[str, str, Value]) -> Recording:
    start = DAY + hour * HOUR
    target = 'job="own",instance="own:9000"'
    lines = [line for name, labels, value in parts
             for line in series(start, name, f"{labels},{target}", value)]  # fmt: skip
    return Recording(start, tuple(lines))


def in_openmetrics(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def redpanda() -> Recording:
    def where(group: str = "") -> str:
        topic = 'redpanda_namespace="kafka",redpanda_topic="t",redpanda_partition="0"'
        return f'{group}redpanda_topic="t",redpanda_partition="0"' if group else topic

    own_group, other = 'redpanda_group="g",', 'redpanda_group="other",'
    committed = "redpanda_kafka_consumer_group_committed_offset"
    return own(
        14,
        # a leader and a follower that is 40 behind; two coordinators while leadership moves
        ("redpanda_kafka_max_offset", where() + ',replica="1"', lambda step: 1000 + 10 * step),
        ("redpanda_kafka_max_offset", where() + ',replica="2"', lambda step: 960 + 10 * step),
        (committed, where(own_group) + ',shard="0"', lambda step: 900 + 5 * step),
        (committed, where(own_group) + ',shard="1"', lambda step: 800),
        (committed, where(other) + ',shard="0"', lambda step: 1000 + 10 * step - 7),
        ("redpanda_kafka_consumer_group_consumers", 'redpanda_group="g",shard="0"', lambda _: 2),
        ("redpanda_kafka_under_replicated_replicas", where(), lambda _: 1),
        ("redpanda_cluster_brokers", 'cluster="x"', lambda _: 3),
    )


def made() -> dict[str, Recording]:
    def lag(group: str, partition: str = "0", more: str = "") -> str:
        return f'group="{group}",topic="t",partition="{partition}"{more}'

    hostile = in_openmetrics(HOSTILE)
    member = ',client_id="c",consumer_id="{0}",member_host="/{0}"'
    half = SCRAPED // 2
    alert = 'alertname="Lag",group="g",severity="page"'
    return {
        "otel": recorded(0, "otel_kafkametrics_runbook_names", "jmx_narrow", skip=range(60, 70)),
        "otel_ratio": recorded(2, "otel_kafkametrics_default"),
        "klag": recorded(4, "klag_exporter_message"),
        "klag_zero": recorded(6, "klag_exporter_rate_false_zero_after_restart"),
        "kafka_exporter": recorded(8, "kafka_exporter"),
        "three_nodes": recorded(10, "kafka_exporter_3node_underreplicated"),
        "kminion": recorded(12, "kminion"),
        "redpanda": redpanda(),
        "hostile": own(
            16,
            ("kafka_consumer_group_lag", lag(hostile), lambda _: 7),
            ("kafka_consumer_group_offset", lag(hostile), lambda step: step),
            ("kafka_consumer_group_lag", lag("new"), lambda _: 8),
        ),
        "churn": own(
            18,
            *(
                (name, lag("g", more=member.format(who)), value)
                for name, number in (
                    ("kafka_consumergroup_group_lag", 50),
                    ("kafka_consumergroup_group_offset", 100),
                )
                for who, value in (
                    ("a", lambda step, n=number: n + step if step < half else None),
                    ("b", lambda step, n=number: n + step if step >= half else None),
                )
            ),
            ("kafka_consumergroup_group_state", 'group="g"', lambda step: 3 if step < half else 1),
        ),
        "states": own(
            20,
            (
                "x_kafka_consumer_group_topic_partition_lag",
                'group_id="g",topic_name="t",partition_id="0"',
                lambda _: 1,
            ),
            # the old state's series is still there while the new one has begun
            (
                "x_kafka_consumer_group_info",
                'group_id="g",state="Stable"',
                lambda step: 1 if step < half else None,
            ),
            (
                "x_kafka_consumer_group_info",
                'group_id="g",state="Empty"',
                lambda step: 0 if step >= half else None,
            ),
        ),
        "alerts": own(
            22,
            ("kafka_consumer_group_lag", lag("g"), lambda _: 7),
            ("ALERTS", f'{alert},alertstate="pending"', lambda s: 1 if 20 <= s < 40 else None),
            ("ALERTS", f'{alert},alertstate="firing"', lambda s: 1 if s >= 40 else None),
            ("ALERTS_FOR_STATE", alert, lambda s: DAY + 22 * HOUR + 100 if s >= 20 else None),
            ("ALERTS", 'alertname="Other",group="x",alertstate="firing"', lambda _: 1),
            ("ALERTS", 'alertname="Disk",alertstate="firing"', lambda _: 1),
            ("up", 'part="y"', lambda _: 0),
        ),
        "unused": own(
            24,
            *(
                (name, f'group="g",topic="{topic}",partition="0"', lambda _, v=value: v)
                for topic, value in (("used", 5), ("unused", -1))
                for name in ("kafka_consumer_group_lag", "kafka_consumer_group_offset")
            ),
        ),
        "nothing": own(26, ("process_cpu_seconds_total", 'a="b"', lambda step: step)),
    }


RECORDINGS = made()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve all recordings from one real Prometheus."""
    parts = install(("prometheus",))
    require(parts, "prometheus")
    artifact = parts["prometheus"]
    assert isinstance(artifact, Artifact)
    folder = tmp_path_factory.mktemp("prometheus")
    lines = [line for recording in RECORDINGS.values() for line in recording.lines]
    page = folder / "recorded.txt"
    page.write_text("\n".join([*lines, "# EOF", ""]), encoding="utf-8")
    subprocess.run(
        [artifact.files["promtool"], "tsdb", "create-blocks-from", "openmetrics", page,
         folder / "tsdb"],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (folder / "prometheus.yml").write_text("global: {}\n", encoding="utf-8")
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    ledger = Ledger(folder / "lab")

    def ready() -> str | None:
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=2):
                return None
        except OSError as error:
            return str(error)

    ledger.start(
        "prometheus",
        [
            artifact.files["prometheus"],
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={address}",
        ],
        ready=ready,
        timeout=60,
    )
    try:
        yield f"http://{address}"
    finally:
        ledger.stop()


def fetched(url: str, name: str, group: str, topics: tuple[str, ...] = ()) -> Answer:
    scope = RECORDINGS[name].scope(group, topics)
    answer = PrometheusSource(url, HttpLogin()).fetch(scope, budget_seconds=60)
    failed = answer.queries[answer.queries["outcome"].isin(["failed", "timeout", "denied"])]
    assert failed.empty, failed[["statement", "detail"]].to_dict("records")
    return answer


def one_scrape(answer: Answer) -> pd.DataFrame:
    offsets = answer.frames["offsets"]
    first = offsets[offsets["timestamp"] == offsets["timestamp"].iloc[0]]
    return first.set_index(["topic", "partition"])


@pytest.mark.parametrize(
    ("name", "group", "dialect", "expected"),
    [
        ("otel", "deployment-worker", "otel", (11571, 26708, 0, 15137)),
        ("otel_ratio", "deployment-worker", "otel", None),
        ("klag", "deployment-worker", "klag_exporter", (11571, 26715, 0, 15144)),
        ("kafka_exporter", "orders-svc", "kafka_exporter", (11484, 29976, 0, 18494)),
        ("kminion", "orders-svc", "kminion", None),
        ("redpanda", "g", "redpanda", (900, 1000, np.nan, np.nan)),
    ],
)
def test_offsets_are_those_on_the_recorded_page(
    url: str, name: str, group: str, dialect: str, expected: tuple[float, ...] | None
) -> None:
    answer = fetched(url, name, group)
    row = one_scrape(answer).iloc[0]
    assert answer.facts["dialect"] == dialect
    assert answer.status == "ok"
    got = row[["committed_offset", "log_end_offset", "log_start_offset", "lag_messages"]]
    if expected is not None:
        np.testing.assert_array_equal(got.astype(float), expected)
    elif name == "kminion":
        assert got["committed_offset"] == got["log_end_offset"] - got["lag_messages"]
    assert got["committed_offset"] >= 0


def test_the_step_is_the_scrape_interval_and_rows_carry_the_time_of_the_scrape(url: str) -> None:
    answer = fetched(url, "otel_ratio", "deployment-worker")
    times = answer.frames["offsets"]["timestamp"].drop_duplicates()
    assert answer.facts["scrape_interval_seconds"] == answer.facts["step_seconds"] == "5"
    first = pd.Timestamp(RECORDINGS["otel_ratio"].start + OFFSET, unit="s", tz="UTC")
    assert times.iloc[0] == first.round("ms")
    assert len(times) == SCRAPED


def test_what_was_not_scraped_is_missing_though_the_server_repeats_it(url: str) -> None:
    answer = fetched(url, "otel", "deployment-worker")
    seen = answer.frames["offsets"]["timestamp"].drop_duplicates()
    start = RECORDINGS["otel"].start
    inside = pd.Timestamp(start + 65 * INTERVAL, unit="s", tz="UTC")
    query = urllib.parse.urlencode(
        {"query": "count(kafka_consumer_group_lag)", "time": start + 65 * INTERVAL}
    )
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}") as reply:
        assert json.load(reply)["data"]["result"]
    assert not ((seen - inside).abs() < pd.Timedelta(seconds=20)).any()
    assert "1 gap of 50 s" in answer.detail


def test_minus_one_is_handed_on_as_exported(url: str) -> None:
    rows = one_scrape(fetched(url, "kafka_exporter", "dead-svc"))
    assert rows["committed_offset"].tolist() == [-1, -1, 500]
    assert rows["lag_messages"].tolist() == [-1, -1, 1194]


def test_minus_one_never_enters_a_sum_over_partitions(url: str) -> None:
    neighbours = fetched(url, "kafka_exporter", "orders-svc").frames["neighbours"]
    dead = neighbours[neighbours["group"] == "dead-svc"]
    assert set(dead["lag_messages"]) == {1194}
    assert set(dead["committed_sum"]) == {500}


def test_a_partition_kminion_leaves_out_has_no_committed_offset(url: str) -> None:
    rows = one_scrape(fetched(url, "kminion", "dead-svc"))
    assert rows["committed_offset"].isna().tolist() == [True, True, False]
    assert rows["log_end_offset"].notna().all()


def test_a_false_zero_of_klag_exporter_comes_without_a_log_end(url: str) -> None:
    rows = one_scrape(fetched(url, "klag_zero", "deployment-worker"))
    assert set(rows["lag_messages"]) == {0}
    assert rows["log_end_offset"].isna().all()


def test_replicas_and_coordinators_of_redpanda_count_once(url: str) -> None:
    answer = fetched(url, "redpanda", "g")
    offsets = answer.frames["offsets"]
    assert len(offsets) == SCRAPED
    assert offsets["log_end_offset"].iloc[-1] == 1000 + 10 * (SCRAPED - 1)
    other = answer.frames["neighbours"]
    assert set(other["lag_messages"]) == {7}
    assert any("enable_consumer_group_metrics" in blind.fix for blind in answer.blind)


def test_a_new_member_does_not_break_or_double_the_history(url: str) -> None:
    offsets = fetched(url, "churn", "g").frames["offsets"]
    assert offsets["committed_offset"].tolist() == [100 + step for step in range(SCRAPED)]


def test_the_state_code_becomes_its_name(url: str) -> None:
    history = fetched(url, "churn", "g").frames["group_history"]
    assert history["state"].tolist() == ["Stable"] * 60 + ["PreparingRebalance"] * 60


def test_the_state_scraped_last_is_the_state(url: str) -> None:
    answer = fetched(url, "states", "g")
    assert answer.facts["dialect"] == "kminion"
    history = answer.frames["group_history"]
    assert history["state"].tolist() == ["Stable"] * 60 + ["Empty"] * 60


def test_members_are_read_where_the_exporter_writes_them(url: str) -> None:
    history = fetched(url, "kafka_exporter", "orders-svc").frames["group_history"]
    assert set(history["member_count"]) == {2}


def test_a_hostile_group_name_finds_its_own_series_only(url: str) -> None:
    answer = fetched(url, "hostile", HOSTILE)
    assert set(answer.frames["offsets"]["lag_messages"]) == {7}
    assert set(answer.frames["neighbours"]["group"]) == {"new"}


def test_alerts_carry_state_and_the_time_their_expression_became_true(url: str) -> None:
    alerts = fetched(url, "alerts", "g").frames["alerts"]
    lag = alerts[alerts["alert"] == "Lag"]
    began = pd.Timestamp(RECORDINGS["alerts"].start + 100, unit="s", tz="UTC")
    assert lag["state"].iloc[0] == "pending"
    assert lag["state"].iloc[-1] == "firing"
    assert set(lag["active_at"]) == {began}
    assert set(lag["severity"]) == {"page"}


def test_alerts_of_other_groups_are_left_out_and_those_of_no_group_kept(url: str) -> None:
    alerts = fetched(url, "alerts", "g").frames["alerts"]
    assert set(alerts["alert"]) == {"Lag", "Disk"}
    assert alerts.loc[alerts["alert"] == "Disk", "group"].isna().all()


def test_broker_health_has_canonical_names_and_units(url: str) -> None:
    brokers = fetched(url, "otel", "deployment-worker").frames["broker_metrics"]
    value = brokers.groupby("metric")["value"].first()
    assert value["produce_p99_seconds"] == pytest.approx(0.00271)
    assert value["offset_commit_p99_seconds"] == pytest.approx(0.00497)
    assert value["request_queue_p99_seconds"] == pytest.approx(0.001)
    assert value["request_handler_idle_ratio"] == pytest.approx(0.9914, abs=1e-4)
    assert value["under_replicated_partitions"] == 0
    assert set(brokers["instance"].str.split().str[0]) == {"jmx_narrow:9000"}


def test_throttling_is_told_per_client_and_only_of_those_throttled(url: str) -> None:
    brokers = fetched(url, "otel", "deployment-worker").frames["broker_metrics"]
    throttled = brokers[brokers["metric"] == "throttle_seconds"]
    assert set(throttled["instance"]) == {"jmx_narrow:9000 fetch client_id=deployment-worker-0"}
    assert throttled["value"].iloc[0] == pytest.approx(8.0386)


def test_under_replication_is_counted_where_only_kafka_exporter_tells_it(url: str) -> None:
    brokers = fetched(url, "three_nodes", "orders-svc").frames["broker_metrics"]
    count = brokers[brokers["metric"] == "under_replicated_partitions"]["value"]
    assert set(count) == {15}


def test_targets_behind_the_frames_are_listed_and_other_jobs_summed_up(url: str) -> None:
    answer = fetched(url, "otel", "deployment-worker")
    targets = answer.frames["targets"]
    assert set(targets["job"]) == {"otel_kafkametrics_runbook_names", "jmx_narrow"}
    assert set(targets["up"]) == {1}


def test_a_topic_the_group_never_committed_to_is_not_part_of_it(url: str) -> None:
    assert set(fetched(url, "unused", "g").frames["offsets"]["topic"]) == {"used"}


def test_a_topic_asked_for_by_name_is_shown_even_so(url: str) -> None:
    offsets = fetched(url, "unused", "g", ("unused",)).frames["offsets"]
    assert set(offsets["committed_offset"]) == {-1}


def test_other_topics_of_the_group_are_neighbours(url: str) -> None:
    neighbours = fetched(url, "unused", "g", ("unused",)).frames["neighbours"]
    assert set(neighbours["topic"]) == {"used"}


def test_an_unknown_group_comes_with_near_names(url: str) -> None:
    answer = fetched(url, "otel", "deploymnt-worker")
    assert answer.facts["near_groups"].split(",")[0] == "deployment-worker"
    assert "targets" in answer.frames


def test_a_window_without_an_exporter_says_what_was_looked_for(url: str) -> None:
    answer = fetched(url, "nothing", "g")
    assert answer.facts["dialect"] == "none"
    assert any("kafka_consumer_group_lag" in blind.why for blind in answer.blind)


def test_a_window_in_many_requests_is_the_same_as_in_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fetched(url, "churn", "g").frames["offsets"]
    monkeypatch.setattr(module, "POINTS_PER_REQUEST", 7)
    parts = fetched(url, "churn", "g").frames["offsets"]
    pd.testing.assert_frame_equal(whole.drop(columns="query_id"), parts.drop(columns="query_id"))


def test_a_long_window_is_thinned_and_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POINTS_PER_SERIES", 20)
    answer = fetched(url, "churn", "g")
    assert answer.facts["step_seconds"] == "30"
    assert "thinned from 5 s" in answer.detail
    assert len(answer.frames["offsets"]) == 20

"""Alert rules on the real promtool and a real Prometheus: proven, refuted, evaluated, linted."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import rule_proofs
import yaml
from command import run

from lab import prometheus as servers
from lab.install import Artifact, install
from lab.processes import Ledger, free_ports
from lagkit.rules import writing
from lagkit.rules.dashboard import dashboard, expressions
from lagkit.rules.ruleset import build
from lagkit.rules.wishes import Wishes
from lagkit.sources.dialects import DIALECTS, detect, everything_of

from .conftest import require
from .recorded import LINE, SCRAPES

BY_ID = {dialect.id: dialect for dialect in DIALECTS}
SEED = Path(__file__).resolve().parent.parent / "data" / "rules" / "seed.yml"
PATIENCE_SECONDS = 90
MOST_APART = 10
"""Messages."""


@pytest.fixture(scope="module")
def tools() -> Artifact:
    parts = install(("prometheus",))
    require(parts, "prometheus")
    artifact = parts["prometheus"]
    assert isinstance(artifact, Artifact)
    return artifact


def promtool(tools: Artifact, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tools.files["promtool"]), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def proven(
    tools: Artifact,
    folder: Path,
    rules: str,
    tests: Sequence[Mapping[str, Any]],
    order: Sequence[str],
) -> subprocess.CompletedProcess[str]:
    """Run *tests* of the promtool format on *rules*."""
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "group_eval_order": list(order),
        "tests": list(tests),
    }
    (folder / "tests.yml").write_text(writing.as_yaml(document), encoding="utf-8")
    return promtool(tools, "test", "rules", folder / "tests.yml")


# ── the shipped rules ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dialect", sorted(BY_ID))
def test_the_shipped_rules_of_each_dialect_are_proven(tools: Artifact, dialect: str) -> None:
    checked = promtool(tools, "check", "rules", rule_proofs.FOLDER / f"{dialect}.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    proven = promtool(tools, "test", "rules", rule_proofs.FOLDER / f"{dialect}_test.yml")
    assert proven.returncode == 0, proven.stdout + proven.stderr


MUTATIONS = {
    "rate() for the slope": (
        "deriv(lagkit:group_topic_unread", "rate(lagkit:group_topic_unread", "a backlog drains",
    ),
    "no question for a backlog": (
        "min_over_time(lagkit:group_topic_unread:messages[10m]) > 0",
        "min_over_time(lagkit:group_topic_unread:messages[10m]) >= 0", "an idle topic",
    ),
    "the -1 kept": (" >= 0", " >= -1", "an idle topic"),
    "the least of the replicas": (
        "max by (cluster, topic, partition)", "min by (cluster, topic, partition)", "a replica is",
    ),
    "the past of a deleted topic kept": (
        " <= lagkit:log_end:offset)", ")", "deleted and made anew",
    ),
    "a deleted topic called a rewind": (
        "resets(lagkit:log_end:offset[10m]) > 0",
        "resets(lagkit:log_end:offset[10m]) > 9", "deleted and made anew",
    ),
    "clusters not told apart": (
        "on (cluster, topic, partition) group_right", "on (topic, partition) group_right",
        "two clusters",
    ),
    "the number of members believed": (
        "(changes(lagkit:committed:offset[5m])) > 0", "(lagkit:committed:offset) < 0", "KIP-848",
    ),
    "the age as lag ÷ rate": (
        "lagkit:group_topic_age:seconds / 60",
        "60 * lagkit:group_topic_unread:messages / on (topic) (lagkit:topic_written:rate5m > 0)",
        "the producers fall silent",
    ),
    "unread messages counted from what is deleted": (
        "group_right () lagkit:unread_from:offset, 0)",
        "group_right () lagkit:committed:offset, 0)", "the log start catches up",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_rule_made_worse_is_found_out_by_its_proof(
    tools: Artifact, tmp_path: Path, name: str
) -> None:
    old, new, situation = MUTATIONS[name]
    ruleset = build(everything_of(BY_ID["kafka_exporter"]), rule_proofs.STANDARD)
    document = yaml.safe_load(rule_proofs.proofs(ruleset, BY_ID["kafka_exporter"]))
    tests = [one for one in document["tests"] if situation in one["name"]]
    assert len(tests) == 1
    rules = yaml.safe_load(writing.prometheus(ruleset))
    order = [group["name"] for group in rules["groups"]]
    assert proven(tools, tmp_path, writing.as_yaml(rules), tests, order).returncode == 0
    changed = 0
    for group in rules["groups"]:
        for rule in group["rules"]:
            changed += old in rule["expr"]
            rule["expr"] = rule["expr"].replace(old, new)
    assert changed
    assert proven(tools, tmp_path, writing.as_yaml(rules), tests, order).returncode != 0


def test_groups_with_promises_of_their_own_are_held_to_them(
    tools: Artifact, tmp_path: Path
) -> None:
    odd = 'ba"d\\ }{ {{ $x }}'
    wishes = Wishes(promise=60, promises={"slow": 600.0, odd: 120.0}, expected=(odd,))
    ruleset = build(everything_of(BY_ID["otel"]), wishes)
    series = []
    for group in ("slow", "fast", odd):
        labels = rule_proofs.braces({"group": group, "topic": "t", "partition": "0"})
        series += [
            {"series": f"kafka_consumer_group_offset{labels}", "values": "1000+0x40"},
            {"series": f"kafka_consumer_group_lag{labels}", "values": "0+10x40"},
        ]
    log = {"series": 'kafka_partition_current_offset{topic="t",partition="0"}',
           "values": "1000+10x40"}  # fmt: skip
    test = {
        "interval": "1m",
        "input_series": [*series, log],
        "promql_expr_test": [
            {
                "expr": "lagkit:group_topic_promise_broken:bool",
                "eval_time": "5m",
                "exp_samples": [
                    {
                        "labels": "lagkit:group_topic_promise_broken:bool"
                        + rule_proofs.braces({"group": group, "topic": "t"}),
                        "value": value,
                    }
                    for group, value in (("slow", 0), ("fast", 1), (odd, 1))
                ],
            }
        ],
    }
    order = [group.name for group in ruleset.groups]
    done = proven(tools, tmp_path, writing.prometheus(ruleset), [test], order)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_says_in_words_who_is_late_and_for_how_long(
    tools: Artifact, tmp_path: Path
) -> None:
    ruleset = build(everything_of(BY_ID["otel"]), Wishes())
    labels = '{group="g",topic="t",partition="0"}'
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f"kafka_consumer_group_offset{labels}", "values": "1000+0x40"},
            {"series": f"kafka_consumer_group_lag{labels}", "values": "0+10x40"},
            {"series": 'kafka_partition_current_offset{topic="t",partition="0"}',
             "values": "1000+10x40"},
        ],
        "alert_rule_test": [
            {
                "eval_time": "15m",
                "alertname": "KafkaConsumerLagHigh",
                "exp_alerts": [
                    {
                        "exp_labels": {"group": "g", "topic": "t", "severity": "high"},
                        "exp_annotations": {
                            "summary": "g on t is late: the oldest unread message has waited at "
                            "least 10m 0s",
                            "description": "Time and not a count: longer than promised for five "
                            "minutes. Next: lagkit investigate, with this group.",
                        },
                    }
                ],
            }
        ],
    }  # fmt: skip
    order = [group.name for group in ruleset.groups]
    done = proven(tools, tmp_path, writing.prometheus(ruleset), [test], order)
    assert done.returncode == 0, done.stdout + done.stderr


# ── the seed's rules, which fail what they should promise ───────────────────────────────────────

LAG, OFFSET = 'kafka_consumer_group_lag{group="g"}', 'kafka_consumer_group_offset{group="g"}'
GROWING = {"exp_labels": {"group": "g", "severity": "warning"}}
HIGH = {"exp_labels": {"group": "g", "severity": "high"}}
SEED_FAULTS = {
    "a backlog that drains is not growing": (
        {LAG: "120000-1000x60"}, "30m", "KafkaConsumerLagGrowing", [], "got:[",
    ),
    "a backlog that grows by 90 a second for an hour is growing": (
        {LAG: "0+5400x60"}, "60m", "KafkaConsumerLagGrowing", [GROWING], "got:[]",
    ),
    "an idle topic with nothing unread is no standstill": (
        {OFFSET: "5000x60", LAG: "0x60"}, "30m", "KafkaConsumerNotConsuming", [], "got:[",
    ),
    "a partition that was never committed to is no standstill": (
        {OFFSET: "-1x60", LAG: "-1x60"}, "30m", "KafkaConsumerNotConsuming", [], "got:[",
    ),
    "a group whose metrics vanish is noticed": (
        {OFFSET: "5000+100x5 stale", LAG: "0x5 stale"}, "60m", "KafkaConsumerNotConsuming", [HIGH],
        "got:[]",
    ),
    "1,200 messages that are late for two hours are a high lag": (
        {OFFSET: "5000+2x120", LAG: "0+10x120"}, "120m", "KafkaConsumerLagHigh", [HIGH], "got:[]",
    ),
    "a backlog of a second on a busy topic is no high lag": (
        {OFFSET: "0+1200000x60", LAG: "20000x60"}, "30m", "KafkaConsumerLagHigh", [], "got:[",
    ),
    "six partitions just below the threshold are a high lag": (
        {f'kafka_consumer_group_lag{{group="g",partition="{n}"}}': "9999x60" for n in range(6)},
        "30m", "KafkaConsumerLagHigh", [HIGH], "got:[]",
    ),
    "a worker that is late by hours on a quiet topic is lagging": (
        {'kafka_consumer_group_lag{group="deployment-worker"}': "999x600"}, "600m",
        "DeploymentWorkerLagging",
        [{"exp_labels": {"group": "deployment-worker", "severity": "high"}}], "got:[]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("claim", SEED_FAULTS)
def test_the_seeds_rules_fail(tools: Artifact, tmp_path: Path, claim: str) -> None:
    series, at, alert, expected, told = SEED_FAULTS[claim]
    test = {
        "name": claim,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": expected}],
    }
    done = proven(tools, tmp_path, SEED.read_text(encoding="utf-8"), [test], ["kafka"])
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert f"alertname: {alert}" in said
    assert told in said
    if told == "got:[":
        assert "got:[]" not in said


def test_a_rewind_reads_as_a_burst_by_the_seeds_rate(tools: Artifact, tmp_path: Path) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": OFFSET, "values": "500000+60x9 0+60x20"}],
        "promql_expr_test": [
            {"expr": "rate(kafka_consumer_group_offset[5m]) > 1", "eval_time": "12m",
             "exp_samples": []},
        ],
    }  # fmt: skip
    done = proven(tools, tmp_path, SEED.read_text(encoding="utf-8"), [test], ["kafka"])
    assert done.returncode == 0  # the rate stays small after the fall to 0: nothing is told
    higher = {**test, "input_series": [{"series": OFFSET, "values": "500000+60x9 100000+60x20"}]}
    done = proven(tools, tmp_path, SEED.read_text(encoding="utf-8"), [higher], ["kafka"])
    assert done.returncode != 0  # 100,000 messages back look like hundreds a second forward


# ── recorded pages ──────────────────────────────────────────────────────────────────────────────

PAGES = ("kafka_exporter", "kafka_exporter_3node_underreplicated", "kminion", "burrow",
         "otel_kafkametrics_default", "otel_kafkametrics_runbook_names", "klag_exporter_message",
         "klag_exporter_rate", "braedon_kafka391")  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_the_backlog_of_a_recorded_page_is_what_its_exporter_says(
    tools: Artifact, tmp_path: Path, page: str
) -> None:
    """Ends minus commits come to the page's own lag; -1 and what is not committed are left out."""
    text = (SCRAPES / f"{page}.prom").read_text(encoding="utf-8")
    lines = [found.groups() for line in text.splitlines() if (found := LINE.match(line))]
    (found,) = detect({name for name, _, _ in lines})
    dialect = found.dialect
    wanted = {*found.metrics("lag"), *found.metrics("committed"), *found.metrics("log_end"),
              *found.metrics("log_start")}  # fmt: skip
    ruleset = build(found, Wishes())
    said: dict[tuple[str, str, str], float] = {}
    committed: set[tuple[str, str, str]] = set()
    for name, labels, value in lines:
        told = labels_of(labels)
        key = (told.get(dialect.group, ""), told.get(dialect.topic, ""),
               told.get(dialect.partition, ""))  # fmt: skip
        if name in found.metrics("lag") and float(value) >= 0:
            said[key] = float(value)
        if name in found.metrics("committed") and float(value) >= 0:
            committed.add(key)
    if found.dialect.zero_lag_without_commit:
        said = {key: lag for key, lag in said.items() if lag or key in committed}
    assert said
    on = "on (group, topic, partition)"
    told = "what_the_page_says"
    nothing = (
        f"lagkit:unread:messages unless {on} {told}",
        f"{told} unless {on} lagkit:unread:messages",
        # within one scrape the exporter reads offsets one after the other
        f"abs(lagkit:unread:messages - {on} {told}) > {MOST_APART}",
    )
    test = {
        "interval": "1m",
        "input_series": [
            *(
                {"series": f"{name}{{{labels or ''}}}", "values": f"{float(value):.15g}x10"}
                for name, labels, value in lines
                if name in wanted
            ),
            *(
                {
                    "series": told
                    + rule_proofs.braces(
                        {"group": group, "topic": topic, "partition": partition}
                    ),
                    "values": f"{lag:.15g}x10",
                }
                for (group, topic, partition), lag in said.items()
            ),
        ],
        "promql_expr_test": [
            {"expr": f"count({told})", "eval_time": "5m",
             "exp_samples": [{"labels": "{}", "value": len(said)}]},
            *({"expr": expr, "eval_time": "5m", "exp_samples": []} for expr in nothing),
        ],
    }  # fmt: skip
    order = [group.name for group in ruleset.groups]
    done = proven(tools, tmp_path, writing.prometheus(ruleset), [test], order)
    assert done.returncode == 0, (done.stdout + done.stderr)[:4000]


def labels_of(text: str | None) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', text or ""))


# ── a live Prometheus ───────────────────────────────────────────────────────────────────────────


class Page(BaseHTTPRequestHandler):
    """The recorded page of kafka_exporter, with records being written and, of orders-svc, read."""

    began = time.monotonic()

    def do_GET(self) -> None:
        passed = int((time.monotonic() - self.began) * 10)
        lines = []
        for line in (SCRAPES / "kafka_exporter.prom").read_text(encoding="utf-8").splitlines():
            found = LINE.match(line)
            if found and found[1] == "kafka_topic_partition_current_offset":
                line = f"{found[1]}{{{found[2]}}} {float(found[3]) + passed}"
            lines.append(line)
        body = "\n".join([*lines, ""]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def live(tools: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield a Prometheus that scrapes the page and evaluates the shipped and the seed's rules."""
    folder = tmp_path_factory.mktemp("live")
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    exporter.daemon_threads = True
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    target = servers.Target("kafka_exporter", (f"127.0.0.1:{exporter.server_address[1]}",))
    settings = servers.config([target])
    settings["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    rules = yaml.safe_load((rule_proofs.FOLDER / "kafka_exporter.yml").read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
    (folder / "lagkit.yml").write_text(writing.as_yaml(rules), encoding="utf-8")
    settings["rule_files"] = [str(folder / "lagkit.yml"), str(SEED)]
    (port,) = free_ports(1)
    ledger = Ledger(folder / "lab")
    try:
        url = servers.start_prometheus(ledger, tools, "rules", port, settings)
        until = time.monotonic() + PATIENCE_SECONDS
        while len(asked(url, 'lagkit:topic_written:rate5m{topic="orders"} > 0')) < 1:
            assert time.monotonic() < until, "the rules were not evaluated"
            time.sleep(0.5)
        yield url
    finally:
        ledger.stop()
        exporter.shutdown()
        exporter.server_close()


def api(url: str, path: str, **fields: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(fields)}") as reply:
        return json.load(reply)["data"]


def asked(url: str, expression: str) -> list[Any]:
    return api(url, "query", query=expression)["result"]


def test_a_real_prometheus_evaluates_every_shipped_rule_without_error(live: str) -> None:
    groups = [one for one in api(live, "rules")["groups"] if one["name"].startswith("lagkit-")]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 30
    assert [rule for rule in rules if rule["health"] == "err" or rule.get("lastError")] == []


def test_every_expression_of_the_dashboard_evaluates_and_the_first_ones_draw(live: str) -> None:
    ruleset = build(everything_of(BY_ID["kafka_exporter"]), rule_proofs.STANDARD)
    found = [asked(live, expression) for expression in expressions(dashboard(ruleset))]
    assert [bool(one) for one in found[:3]] == [True, True, True]


@pytest.mark.parametrize("dialect", sorted(BY_ID))
def test_every_expression_of_each_dialects_dashboard_is_promql(live: str, dialect: str) -> None:
    ruleset = build(everything_of(BY_ID[dialect]), rule_proofs.STANDARD)
    for expression in expressions(dashboard(ruleset)):
        asked(live, expression)  # an error of the query is an HTTP error


def test_the_exporter_that_runs_is_found_and_written_for(live: str, tmp_path: Path) -> None:
    done = run("rules", "--prometheus", live, "--group", "orders-svc", cwd=tmp_path)
    assert done.status == 0, done.both
    rules = yaml.safe_load(done.out)["groups"]
    ends = next(rule for group in rules for rule in group["rules"])
    assert "kafka_topic_partition_current_offset" in ends["expr"]
    assert "kafka_exporter (danielqsj)" in done.err
    assert 'group="orders-svc"' in done.out


def test_the_rules_of_a_server_are_linted_against_its_own_metrics(
    live: str, tmp_path: Path
) -> None:
    done = run("rules", "lint", live, "--json", "--check", cwd=tmp_path)
    assert done.status == 1, done.both
    found = json.loads(done.out)
    assert {one["rule"] for one in found} == {
        "KafkaConsumerLagHigh", "KafkaConsumerLagGrowing", "KafkaConsumerNotConsuming",
        "DeploymentWorkerLagging",
    }  # fmt: skip
    assert [one for one in found if one["place"] != "group kafka"] == []
    unknown = [one for one in found if one["kind"] == "unknown-metric"]
    assert any("Here it is kafka_consumergroup_lag of" in one["fix"] for one in unknown)


def test_a_server_without_any_lag_metric_is_told_apart_from_one_that_is_away(
    tools: Artifact, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    ledger = Ledger(tmp_path / "lab")
    url = servers.start_prometheus(ledger, tools, "empty", port, servers.config([]))
    try:
        done = run("rules", "--prometheus", url, cwd=tmp_path)
        assert (done.status, done.out) == (3, "")
        assert "no lag metric" in done.err
        assert "kafka_consumergroup_lag" in done.err
        unspoken = run("rules", "--prometheus", url, "--dialect", "otel", cwd=tmp_path)
        assert unspoken.status == 3
        nothing = run("rules", "lint", url, cwd=tmp_path)
        assert (nothing.status, nothing.out) == (3, "")
    finally:
        ledger.stop()
    away = run("rules", "--prometheus", url, cwd=tmp_path)
    assert (away.status, away.out) == (4, "")
    assert "connection refused" in away.err

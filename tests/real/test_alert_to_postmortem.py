"""One incident from its alert to its post-mortem, by the commands of the documents.

A real Prometheus evaluates the rules that `lagkit rules` wrote, a bad release crashes the
consumers, the alert fires, and what lagkit prints then is run as by hand: by kubectl itself.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import lagkit as lk
from lab import manifests, prometheus, scenarios
from lab.install import Artifact, install
from lab.processes import free_ports
from lab.stack import Stack

from .conftest import require

DIALECT = "kafka_exporter"
PROMISE = 10
BASELINE_SECONDS = 45
SCRAPED_SECONDS = 60
ALERT_SECONDS = 120
"""From the bad release to a broken promise, and from a firing rule to Alertmanager."""
DRAIN_SECONDS = 180
RESOLVED_SECONDS = 180
LINE_TIME = re.compile(r"\d\d:\d\d:\d\d")


@dataclass
class Story:
    """What each step left behind."""

    folder: Path
    alert: str = ""
    verdict: dict[str, Any] = field(default_factory=dict)
    acted: str = ""
    watched: list[str] = field(default_factory=list)
    watch_status: int = -1
    verified: dict[str, Any] = field(default_factory=dict)
    verify_statuses: list[int] = field(default_factory=list)
    postmortem: dict[str, Any] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        return self.folder / "report"


def lagkit(*words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lagkit", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def firing(stack: Stack, server: str) -> list[str]:
    """Return the alerts of *server* that have reached Alertmanager for the group.

    The lab's own rules send theirs there as well.
    """
    port = server.rpartition(":")[2]
    with urllib.request.urlopen(f"{stack.alertmanager}/api/v2/alerts", timeout=5) as reply:
        return [
            alert["labels"]["alertname"]
            for alert in json.load(reply)
            if alert["labels"].get("group") == scenarios.GROUP
            and f":{port}/" in alert["generatorURL"]
        ]


def waited(rules: Path) -> float:
    """Return the seconds for which the promise must be broken before its rule in *rules* fires."""
    groups = yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]
    (late,) = (
        rule
        for group in groups
        for rule in group["rules"]
        if rule.get("alert") == "KafkaConsumerLagHigh"
    )
    return pd.Timedelta(late["for"]).total_seconds()


def in_force(server: str) -> list[str]:
    """Return the alerts of *server* that are pending or firing for the group, with their state."""
    with urllib.request.urlopen(f"{server}/api/v1/alerts", timeout=5) as reply:
        return [
            f"{alert['labels']['alertname']} {alert['state']} since {alert['activeAt']}"
            for alert in json.load(reply)["data"]["alerts"]
            if alert["labels"].get("group") == scenarios.GROUP
        ]


def without_burn_rates(rules: Path) -> Path:
    """Write *rules* without those that look back half an hour and more, and so last as long."""
    document = yaml.safe_load(rules.read_text(encoding="utf-8"))
    for group in document["groups"]:
        group["rules"] = [
            rule for rule in group["rules"] if not rule.get("alert", "").startswith("LagPromise")
        ]
    kept = rules.with_name("evaluated.yml")
    kept.write_text(yaml.safe_dump(document), encoding="utf-8")
    return kept


def evaluating(stack: Stack, rules: Path) -> str:
    """Start a Prometheus that scrapes as the lab's does, evaluates *rules* and sends alerts."""
    artifact = install(["prometheus"])["prometheus"]
    assert isinstance(artifact, Artifact)
    running = stack.ledger.folder / f"prometheus-{DIALECT}" / "prometheus.yml"
    settings = json.loads(running.read_text())
    settings["rule_files"] = [str(rules)]
    peer = str(stack.alertmanager).removeprefix("http://")
    settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [peer]}]}]}
    (port,) = free_ports(1)
    return prometheus.start_prometheus(stack.ledger, artifact, "evaluating", port, settings)


@pytest.fixture(scope="module")
def story(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Live through it once; the tests look at what each step left."""
    for part in ("kafka", "toxiproxy", "kubernetes", "prometheus", "relay"):
        require(stack, part)
    found = install(["kubectl"])["kubectl"]
    require({"kubectl": found}, "kubectl")
    assert isinstance(found, Artifact)
    told = Story(tmp_path_factory.mktemp("story"))
    scenarios.deploy(stack)
    scenarios.settle(stack)
    rules = told.folder / "rules.yml"
    end = time.monotonic() + SCRAPED_SECONDS
    while True:  # the group may be younger than the last scrape
        written = lagkit(
            *("rules", "--prometheus", stack.prometheus[DIALECT], "--promise", f"{PROMISE}s"),
            *("--group", scenarios.GROUP, "--out", str(rules)),
        )
        if written.returncode == 0:
            break
        assert time.monotonic() < end, written.stderr
    url = evaluating(stack, without_burn_rates(rules))
    time.sleep(BASELINE_SECONDS)
    started = pd.Timestamp.now("UTC") - pd.Timedelta(BASELINE_SECONDS - 10, "s")
    sources = (
        *("--prometheus", url, "--bootstrap", stack.kafka.bootstrap),
        *("--kubeconfig", stack.kubeconfig("lagkit-ro")),
    )
    try:
        scenarios._bad_release(stack)
        end = time.monotonic() + waited(rules) + ALERT_SECONDS
        while not (names := firing(stack, url)):
            assert time.monotonic() < end, f"none reached Alertmanager: {in_force(url)}"
            time.sleep(1)
        told.alert = names[0]
        judged = lagkit(
            *("investigate", scenarios.GROUP, "--start", started.isoformat(), *sources),
            *("--out", str(told.report), "--json"),
        )
        assert judged.returncode == 0, judged.stderr
        told.verdict = json.loads(judged.stdout)
        told.acted = next(
            action["command"]
            for action in told.verdict["actions"]
            if action["safety"] == "disruptive"
        )
        words = shlex.split(told.acted)
        assert words[0] == "kubectl"
        subprocess.run(
            [str(found.files["kubectl"]), f"--kubeconfig={stack.kubeconfig()}", *words[1:]],
            check=True, timeout=60,
        )  # fmt: skip
        watched = lagkit(
            *("watch", scenarios.GROUP, "--bootstrap", stack.kafka.bootstrap),
            *("--promise", str(PROMISE), "--interval", "1", "--timeout", str(DRAIN_SECONDS)),
            timeout=DRAIN_SECONDS + 30,
        )
        told.watched, told.watch_status = watched.stdout.splitlines(), watched.returncode
        end = time.monotonic() + RESOLVED_SECONDS
        while time.monotonic() < end and 0 not in told.verify_statuses:
            over = lagkit("verify", str(told.report), "--last", "45s", *sources, "--json")
            told.verify_statuses.append(over.returncode)
            told.verified = json.loads(over.stdout)
        later = told.folder / "later.lagkit"
        kept = lagkit(
            *("capture", scenarios.GROUP, "--start", started.isoformat(), *sources),
            *("--out", str(later)),
        )
        assert kept.returncode == 0, kept.stderr
        drafted = lagkit(
            *("postmortem", str(told.report / "incident.lagkit"), "--also", str(later)),
            *("--out", str(told.folder / "postmortem")),
        )
        assert drafted.returncode == 0, drafted.stderr
        text = (told.folder / "postmortem" / "postmortem.json").read_text(encoding="utf-8")
        told.postmortem = json.loads(text)
        yield told
    finally:
        stack.ledger.stop(["prometheus-evaluating"])
        scenarios._good_release(stack)
        scenarios.settle(stack)


def test_a_rule_that_lagkit_wrote_fires_for_the_group(story: Story) -> None:
    written = (story.folder / "rules.yml").read_text(encoding="utf-8")
    assert f"alert: {story.alert}\n" in written


def test_the_cause_is_named_and_the_printed_command_goes_back_to_the_release_before(
    story: Story,
) -> None:
    assert story.verdict["verdict"]["cause"] == "consumer_down"
    assert "rollout undo" in story.acted
    assert manifests.CONSUMER in story.acted


def test_the_watch_ends_when_the_group_has_caught_up_within_its_interval(story: Story) -> None:
    assert story.watch_status == 0, story.watched[-3:]
    over = pd.Timestamp(LINE_TIME.search(story.watched[-1]).group())  # type: ignore[union-attr]
    estimates = [
        [pd.Timestamp(moment) for moment in LINE_TIME.findall(line)]
        for line in story.watched
        if " to " in line
    ]
    assert estimates, story.watched
    # look time, middle, low, high; the interval is one of 95 %, and a look lasts a second
    held = [row[2] - pd.Timedelta("2s") <= over <= row[3] + pd.Timedelta("2s") for row in estimates]
    assert held[-1]
    assert np.mean(held) >= 0.5, story.watched


def test_verify_turns_to_zero_with_evidence_on_every_line(story: Story) -> None:
    assert story.verify_statuses[-1] == 0, story.verified
    assert story.verified["over"]
    assert all(line["evidence"] for line in story.verified["lines"])


def test_the_post_mortem_comes_with_attachments_that_stand_alone(story: Story) -> None:
    folder = story.folder / "postmortem"
    for name in ("postmortem.md", "postmortem.html", "postmortem.json"):
        assert (folder / name).stat().st_size > 0
    with zipfile.ZipFile(folder / "attachments.zip") as attached:
        assert attached.testzip() is None
        assert any(name.endswith(".lagkit") for name in attached.namelist())
    detection = story.postmortem["detection"]
    assert detection["alert"] == story.alert
    assert detection["gap_seconds"] + detection["for_seconds"] == pytest.approx(
        detection["ttd_seconds"]
    )


def waits_of(end: Any, committed: Any, clock: Any) -> Any:
    """Return the wait of every message that came or was read: its own reading of raw offsets."""
    numbers = np.arange(np.ceil(committed[0]), np.floor(end[-1])) + 0.5
    came = np.interp(numbers, np.maximum.accumulate(end), clock, left=clock[0])
    read = np.interp(numbers, np.maximum.accumulate(committed), clock, right=clock[-1])
    return np.maximum(read - came, 0.0)


def test_every_figure_of_the_impact_follows_from_the_raw_offsets(story: Story) -> None:
    impact = story.postmortem["impact"]
    raw = lk.open(story.folder / "later.lagkit").offsets
    raw = raw.dropna(subset=["committed_offset", "log_end_offset"])
    since, until = (pd.Timestamp(impact[f"counted_{edge}"]) for edge in ("from", "until"))
    step = raw["timestamp"].drop_duplicates().sort_values().diff().median().total_seconds()
    waits, area, ages, lags = [], 0.0, [], []
    for _, rows in raw.sort_values("timestamp").groupby(["topic", "partition"]):
        whole = rows.loc[(rows["timestamp"] <= until + pd.Timedelta(step, "s"))]
        clock = (whole["timestamp"] - since).dt.total_seconds().to_numpy()
        end = whole["log_end_offset"].to_numpy(dtype=float)
        committed = whole["committed_offset"].to_numpy(dtype=float)
        inside = clock >= 0
        own = waits_of(end[inside], committed[inside], clock[inside])
        waits.append(own)
        area += own.sum()
        lags.append(pd.Series(np.maximum(end - committed, 0.0), index=whole["timestamp"]))
        behind = np.interp(committed + 1, np.maximum.accumulate(end), clock, left=np.nan)
        ages.append(np.where(end > committed, clock - behind, 0.0))
    everything = np.concatenate(waits)
    total = pd.concat(lags, axis=1).dropna().sum(axis=1)
    assert impact["messages_waiting"] == pytest.approx(len(everything), rel=0.05)
    assert impact["delay_message_seconds"] == pytest.approx(area, rel=0.08)
    assert impact["mean_delay_seconds"] == pytest.approx(everything.mean(), rel=0.08)
    assert impact["p95_delay_seconds"] == pytest.approx(
        np.quantile(everything, 0.95), rel=0.05, abs=step
    )
    assert impact["max_delay_seconds"] == pytest.approx(everything.max(), rel=0.05, abs=2 * step)
    late = (everything > impact["promise_seconds"]).sum()
    assert impact["messages_delayed"] == pytest.approx(late, rel=0.1, abs=100)
    assert impact["peak_lag_messages"] == pytest.approx(total.max(), rel=0.02)
    peak_at = pd.Timestamp(impact["peak_lag_at"])
    assert abs(peak_at - total.idxmax()) <= pd.Timedelta(2 * step, "s")
    oldest = np.nanmax(np.concatenate(ages))
    assert impact["peak_age_seconds"] == pytest.approx(oldest, rel=0.05, abs=2 * step)
    together = np.vstack([row[-min(map(len, ages)) :] for row in ages])
    known = ~np.isnan(together).all(axis=0)  # not of a backlog older than the first snapshot
    assert known.mean() > 0.9
    worst = np.nanmax(together[:, known], axis=0)
    broken = (worst > impact["promise_seconds"]).sum() * step / 60
    assert impact["promise_minutes_broken"] == pytest.approx(broken, abs=3 * step / 60)
    assert (impact["messages_lost"], impact["loss"]) == (0.0, "proved_none")

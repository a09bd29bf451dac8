"""Incidents recorded from the real lab: right cause, right evidence, same bytes each time.

These few are the development set of this ranker: its rules were written with them in sight, so a
pass here shows that nothing broke, not how often lagkit is right on incidents it has never seen.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest

import lagkit as lk
from lagkit import frames
from lagkit.model import SourceReport

FOLDER = Path(__file__).parent / "data" / "incidents"
CORPUS = Path(__file__).parent.parent / "corpus"
README = Path(__file__).parent.parent / "README.md"
LABELS = json.loads((FOLDER / "labels.json").read_text(encoding="utf-8"))
FILES = sorted(LABELS)

# What a person would want cited, per scenario; each is a kind that points to the cause.
EXPECTED = {
    "baseline": {"promise_kept"},
    "slow_processing_awx": {"downstream_slow", "slower_with_all_members"},
    "consumer_down_crash_loop": {"containers_failing", "members_missing"},
    "poison_message_retry": {"partition_frozen", "same_record_fails"},
    "poison_message_crash": {"same_record_fails"},
    "message_spike": {"production_spike", "consumption_at_capacity"},
    "network_blackhole": {"transport_errors", "members_missing"},
    "network_latency": {"transport_errors"},
}


@pytest.fixture(scope="module", params=FILES)
def case(request: pytest.FixtureRequest) -> tuple[str, lk.Result]:
    return request.param, lk.investigate(lk.open(FOLDER / request.param))


def test_the_verdict_is_the_label(case: tuple[str, lk.Result]) -> None:
    file, result = case
    assert result.cause == LABELS[file]["cause"], repr(result)


def test_the_verdict_is_as_sure_as_the_readme_says(case: tuple[str, lk.Result]) -> None:
    text = README.read_text(encoding="utf-8")
    (least,) = re.findall(r"with probabilities of (0\.\d\d) and more", text)
    assert round(case[1].verdict.verdict.likelihood, 2) >= float(least)


def test_the_verdict_cites_the_evidence_that_points_to_the_cause(
    case: tuple[str, lk.Result],
) -> None:
    file, result = case
    cited = {line.id.partition(":")[0] for line in result.verdict.ranking[0].evidence_for}
    assert EXPECTED[LABELS[file]["scenario"]] <= cited


def test_the_onset_is_within_seconds_of_the_injection(case: tuple[str, lk.Result]) -> None:
    """Commit interval, collection and scrape add up to three steps; a session timeout is 10 s."""
    file, result = case
    if LABELS[file]["cause"] == "none":
        assert result.verdict.onset is None
        return
    assert result.verdict.onset is not None
    late = pd.Timestamp(result.verdict.onset.at) - pd.Timestamp(LABELS[file]["injected_at"])
    assert pd.Timedelta("-20s") <= late <= pd.Timedelta("30s")


def test_the_same_file_gives_the_same_verdict_to_the_byte(case: tuple[str, lk.Result]) -> None:
    file, result = case
    again = lk.investigate(lk.open(FOLDER / file))
    assert again.verdict.to_json() == result.verdict.to_json()


def test_saving_a_recorded_incident_again_keeps_its_verdict(
    case: tuple[str, lk.Result], tmp_path: Path
) -> None:
    file, result = case
    copy = lk.open(FOLDER / file).save(tmp_path / "copy.lagkit")
    assert lk.investigate(lk.open(copy)).verdict.to_json() == result.verdict.to_json()


def without(incident: lk.Incident, source: str) -> lk.Incident:
    """Return the incident as it would be had *source* not answered."""
    kept = {
        name: frames.empty(name) if frames.FRAMES[name].source == source else table
        for name, table in incident.tables.items()
    }
    return dataclasses.replace(
        incident,
        tables=kept,
        sources={**incident.sources, source: SourceReport("unavailable", "taken away.", 0.0)},
    )


@pytest.mark.parametrize("source", ["prometheus", "kafka", "kubernetes", "downstream"])
def test_a_missing_source_weakens_the_verdict_but_never_turns_it_into_another_cause(
    case: tuple[str, lk.Result], source: str
) -> None:
    file, result = case
    blind = lk.investigate(without(result.incident, source))
    assert blind.cause in (LABELS[file]["cause"], "unknown"), repr(blind)
    assert any(source in text for text in blind.verdict.not_checked)
    assert sum(entry.probability for entry in blind.ranking) == pytest.approx(1.0)


def test_an_exporter_that_reports_lag_zero_without_a_log_end_is_not_believed() -> None:
    result = lk.investigate(lk.open(FOLDER.parent / "lying" / "klag_exporter_false_zero.lagkit"))
    assert result.cause in ("slow_processing", "unknown"), repr(result)
    assert "klag-exporter wrote a lag of 0 without a log end" in result.verdict.not_checked[0]
    assert result.verdict.impact.lag_messages_now > 1000, "Kafka itself knows the backlog"


def test_a_rise_of_less_than_a_minutes_work_is_the_groups_and_not_its_noisiest_partitions() -> None:
    """Members are replaced one by one: the lag is little all the time, yet its most is at the end.

    A calibration incident of the corpus, so its label may be known.
    """
    file = "rebalancing.mixed_assignors.1"
    label = json.loads((CORPUS / "labels" / f"{file}.json").read_text(encoding="utf-8"))
    found = lk.investigate(lk.open(CORPUS / f"{file}.lagkit")).verdict.onset
    assert found is not None
    assert not found.censored
    began = pd.Timestamp(label["onsets"]["rebalancing"])
    assert abs(found.at - began) <= pd.Timedelta(label["scrape_seconds"], "s")

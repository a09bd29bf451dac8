"""What the score says of a ranking: known answers, chance levels, and no gain from ties."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lagkit as lk
from lab.processes import LabError
from lab.score import metrics
from lab.score.baselines import BASELINES, CLASSES, see
from lab.score.board import BLAMES_FROM, LAGKIT, Answer, answers, render, score
from lab.score.cases import DEGRADED, Case, load

TRUTH = np.array([0, 1, 2])
SURE = np.eye(3)
FLAT = np.full((3, 3), 1 / 3)


def distributions(classes: int = 4, rows: int = 6):
    shares = st.lists(st.floats(0.01, 1), min_size=classes, max_size=classes)
    return st.lists(shares, min_size=rows, max_size=rows).map(
        lambda drawn: np.array(drawn) / np.sum(drawn, axis=1, keepdims=True)
    )


def test_a_sure_and_right_ranking_has_every_number_at_its_best():
    assert metrics.accuracy_at(1, SURE, TRUTH).value == 1
    assert metrics.average_at(5, SURE, TRUTH) == 1
    assert metrics.reciprocal_rank(SURE, TRUTH) == 1
    assert metrics.brier(SURE, TRUTH) == 0
    assert metrics.log_loss(SURE, TRUTH) == 0


def test_a_flat_ranking_is_worth_chance_and_not_the_order_of_its_columns():
    assert metrics.accuracy_at(1, FLAT, TRUTH).hits == 0
    assert metrics.brier(FLAT, TRUTH) == pytest.approx(metrics.chance(3)["brier"])
    assert metrics.log_loss(FLAT, TRUTH) == pytest.approx(metrics.chance(3)["log_loss"])
    assert set(metrics.places(FLAT, TRUTH)) == {2.0}


def test_chance_among_seven_is_what_the_protocol_prints():
    guess = metrics.chance(7)
    assert [round(guess[name], 3) for name in ("ac@1", "ac@3", "avg@5", "mrr")] == [
        0.143,
        0.429,
        0.429,
        0.370,
    ]
    assert metrics.chance(8)["brier"] == 0.875
    assert round(metrics.chance(8)["log_loss"], 2) == 2.08


def test_wilsons_interval_is_the_published_one():
    low, high = metrics.Share(133, 140).interval
    assert (round(low, 3), round(high, 3)) == (0.900, 0.976)
    assert metrics.Share(140, 140).interval[0] == pytest.approx(0.973, abs=5e-4)
    assert metrics.Share(0, 0).interval == (0.0, 1.0)


def test_an_impossible_truth_costs_much_and_not_infinitely_much():
    wrong = np.roll(SURE, 1, axis=1)
    assert metrics.log_loss(wrong, TRUTH) == pytest.approx(-math.log(metrics.LEAST_PROBABILITY))
    assert metrics.brier(wrong, TRUTH) == 2


def test_calibration_error_is_the_gap_between_said_and_true():
    said = np.full(100, 0.9)
    right = np.arange(100) % 10 < 6
    chooser = np.random.default_rng(0)
    chooser.shuffle(right)
    assert metrics.calibration_error(said, right, bins=1) == pytest.approx(0.3)
    low, high = metrics.calibration_interval(said, right)
    assert 0.15 < low < 0.3 < high < 0.45


def test_selective_risk_leaves_the_least_confident_out():
    said = np.array([0.9, 0.8, 0.7, 0.2])
    right = np.array([True, True, True, False])
    assert metrics.selective_risk(said, right, 0.75).value == 0
    assert metrics.selective_risk(said, right, 1.0).hits == 1


@given(distributions(), st.integers(0, 2**32 - 1))
def test_more_places_never_lower_the_accuracy(table, seed):
    truth = np.random.default_rng(seed).integers(0, table.shape[1], len(table))
    hits = [metrics.accuracy_at(k, table, truth).hits for k in range(1, table.shape[1] + 1)]
    assert hits == sorted(hits)
    assert hits[-1] == len(table)
    assert 0 <= metrics.brier(table, truth) <= 2


@pytest.fixture(scope="module")
def demo() -> lk.Incident:
    return lk.demo()


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_baseline_gives_each_class_a_probability_and_they_sum_to_one(name, demo):
    told = BASELINES[name](see(demo))
    assert tuple(told) == CLASSES
    assert sum(told.values()) == pytest.approx(1)


@pytest.mark.parametrize("how", sorted(DEGRADED))
def test_a_spoiled_copy_can_still_be_judged_and_is_no_longer_the_same(how, demo):
    spoiled = DEGRADED[how](demo)
    assert spoiled != demo
    assert sum(entry.probability for entry in lk.investigate(spoiled).ranking) == pytest.approx(1)


def sealed(folder, incident: lk.Incident, name: str, **label: object) -> None:
    import hashlib

    (folder / "labels").mkdir(exist_ok=True)
    file = incident.save(folder / f"{name}.lagkit")
    told = {
        "split": "dev",
        "primary": "slow_processing",
        "active": ["slow_processing"],
        "onsets": {},
        "evidence": ["downstream_slow"],
        "dialect": "otel",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        **label,
    }
    (folder / "labels" / f"{name}.json").write_text(json.dumps(told))


def test_an_incident_that_was_changed_after_its_label_was_sealed_is_not_scored(tmp_path, demo):
    sealed(tmp_path, demo, "one")
    assert [case.name for case in load(tmp_path)] == ["one"]
    DEGRADED["without kafka"](demo).save(tmp_path / "one.lagkit")
    with pytest.raises(LabError, match="not the incident"):
        load(tmp_path)


def test_a_folder_without_labels_is_said_to_hold_nothing(tmp_path):
    with pytest.raises(LabError, match="no labelled incident"):
        load(tmp_path)


def test_lagkit_and_every_baseline_are_asked_about_the_same_cases(tmp_path, demo):
    sealed(tmp_path, demo, "one")
    cases = load(tmp_path)
    given_answers = answers(cases, workers=1)
    assert set(given_answers) == {
        LAGKIT,
        *(f"{LAGKIT}, {how}" for how in DEGRADED),
        *BASELINES,
    }
    row = score(cases, given_answers[LAGKIT])
    assert row["named right"].of == 1
    assert "| *chance* | 0.143 | 0.429 |" in render({LAGKIT: row})


def test_blaming_a_control_is_counted_and_doubting_is_not(tmp_path):
    control = Case("c", tmp_path / "c", {"primary": "none", "active": ["none"], "onsets": {}})
    rest = (1 - 0.6) / 7
    blaming = Answer({c: 0.6 if c == "network" else rest for c in CLASSES}, "network", 0.6)
    doubting = Answer(dict.fromkeys(CLASSES, 1 / 8), "unknown", 0.2)
    row = score([control, control], [blaming, doubting])
    assert row["false blame"].hits == 1
    assert BLAMES_FROM == 0.5
    assert row["ac@1"].of == 0, "a control is no single-cause incident"

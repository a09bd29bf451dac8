"""What the score says of a ranking: known answers, chance levels, and no gain from ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.score import metrics
from lab.score.metrics import Scripts, Share

TRUTH = np.array([0, 1, 2])
SURE = np.eye(3)
FLAT = np.full((3, 3), 1 / 3)


def distributions(classes: int = 4, rows: int = 6):
    shares = st.lists(st.floats(0.01, 1), min_size=classes, max_size=classes)
    return st.lists(shares, min_size=rows, max_size=rows).map(
        lambda drawn: np.array(drawn) / np.sum(drawn, axis=1, keepdims=True)
    )


# -- places -----------------------------------------------------------------------------------


def test_a_sure_and_right_ranking_has_every_number_at_its_best():
    assert metrics.hits_at(1, SURE, TRUTH).tolist() == [1, 1, 1]
    assert metrics.average_hits(5, SURE, TRUTH).tolist() == [1, 1, 1]
    assert metrics.reciprocal_ranks(SURE, TRUTH).tolist() == [1, 1, 1]
    assert metrics.briers(SURE, TRUTH).tolist() == [0, 0, 0]
    assert metrics.log_losses(SURE, TRUTH).tolist() == [0, 0, 0]


def test_a_ranking_by_hand():
    table = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    assert metrics.hits_at(1, table, TRUTH).tolist() == [1, 0, 0]
    assert metrics.hits_at(2, table, TRUTH).tolist() == [1, 1, 0]
    assert metrics.reciprocal_ranks(table, TRUTH) == pytest.approx([1, 1 / 2, 1 / 3])
    # third of three: hits at 3, 4 and 5 of 5
    assert metrics.average_hits(5, table, TRUTH) == pytest.approx([1, 4 / 5, 3 / 5])
    assert metrics.briers(table, TRUTH)[0] == pytest.approx(0.25 + 0.09 + 0.04)
    assert metrics.log_losses(table, TRUTH)[2] == pytest.approx(-math.log(0.2))


def test_two_that_tie_for_the_first_place_are_each_half_a_hit():
    table = np.array([[0.4, 0.4, 0.2]])
    assert metrics.hits_at(1, table, np.array([1])).tolist() == [0.5]
    assert metrics.hits_at(2, table, np.array([1])).tolist() == [1.0]
    assert metrics.reciprocal_ranks(table, np.array([1])) == pytest.approx([(1 + 1 / 2) / 2])


@pytest.mark.parametrize("classes", [3, 7, 8])
def test_a_flat_ranking_is_worth_exactly_chance(classes):
    flat = np.full((classes, classes), 1 / classes)
    truth = np.arange(classes)
    guess = metrics.chance(classes)
    assert metrics.hits_at(1, flat, truth).mean() == pytest.approx(guess["ac@1"])
    assert metrics.hits_at(3, flat, truth).mean() == pytest.approx(guess["ac@3"])
    assert metrics.average_hits(5, flat, truth).mean() == pytest.approx(guess["avg@5"])
    assert metrics.reciprocal_ranks(flat, truth).mean() == pytest.approx(guess["mrr"])
    assert metrics.briers(flat, truth).mean() == pytest.approx(guess["brier"])
    assert metrics.log_losses(flat, truth).mean() == pytest.approx(guess["log_loss"])


def test_chance_is_what_many_random_rankings_get():
    chooser = np.random.default_rng(5)
    table, truth = chooser.random((20_000, 7)), chooser.integers(0, 7, 20_000)
    guess = metrics.chance(7)
    assert metrics.hits_at(1, table, truth).mean() == pytest.approx(guess["ac@1"], abs=0.01)
    assert metrics.hits_at(3, table, truth).mean() == pytest.approx(guess["ac@3"], abs=0.015)
    assert metrics.reciprocal_ranks(table, truth).mean() == pytest.approx(guess["mrr"], abs=0.01)


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


@given(distributions(), st.integers(0, 2**32 - 1))
def test_more_places_never_lower_the_accuracy(table, seed):
    truth = np.random.default_rng(seed).integers(0, table.shape[1], len(table))
    hits = [metrics.hits_at(k, table, truth).sum() for k in range(1, table.shape[1] + 1)]
    assert hits == sorted(hits)
    assert hits[-1] == len(table)
    assert metrics.briers(table, truth).max() <= 2


def test_an_impossible_truth_costs_much_and_not_infinitely_much():
    wrong = np.roll(SURE, 1, axis=1)
    most = -math.log(metrics.LEAST_PROBABILITY)
    assert metrics.log_losses(wrong, TRUTH) == pytest.approx([most] * 3)
    assert metrics.briers(wrong, TRUTH).tolist() == [2, 2, 2]


# -- intervals --------------------------------------------------------------------------------


def test_wilsons_interval_is_the_published_one():
    low, high = Share(133, 140).interval
    assert (round(low, 3), round(high, 3)) == (0.900, 0.976)
    assert Share(140, 140).interval[0] == pytest.approx(0.973, abs=5e-4)
    assert Share(0, 0).interval == (0.0, 1.0)


def test_scripts_are_resampled_with_all_their_incidents_and_never_split():
    scripts = Scripts(("a", "a", "a", "b", "c", "c"))
    for rows in scripts.draws:
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[1] == counts[2]
        assert counts[4] == counts[5]
        assert counts[0] + counts[3] + counts[4] == 3, "as many scripts as there are"
    assert len(scripts.draws) == metrics.BOOTSTRAPS


def test_a_script_whose_seeds_go_wrong_together_widens_the_interval():
    hits = [1.0] * 20 + [0.0] * 5
    alike = Scripts(tuple(f"script {n // 5}" for n in range(25))).share(hits)
    alone = Scripts(tuple(f"script {n}" for n in range(25))).share(hits)
    assert alike.by_script is not None
    assert alone.by_script is not None
    assert alike.by_script[0] < alone.by_script[0]
    assert alike.interval[0] == alike.by_script[0] < alike.wilson[0], "the wider end is shown"


def test_nothing_wrong_leaves_wilsons_interval_because_resampling_has_no_width():
    share = Scripts(("a", "a", "b", "b")).share([1, 1, 1, 1])
    assert share.by_script == (1.0, 1.0)
    assert share.interval == share.wilson
    assert share.interval[0] < 0.6


def test_one_script_alone_has_no_interval_by_script():
    assert Scripts(("a", "a")).interval(lambda rows: 1.0) == pytest.approx(
        (math.nan, math.nan), nan_ok=True
    )
    assert Scripts(("a", "a")).share([1, 0]).interval == Share(1, 2).wilson


def test_the_interval_of_a_mean_by_hand():
    # two scripts: both the first, one of each, both the second, with chances 1/4, 1/2, 1/4
    mean = Scripts(("a", "b")).mean([0.0, 1.0])
    assert mean.value == 0.5
    assert mean.interval == (0.0, 1.0)


def test_the_same_data_have_the_same_interval_every_time():
    values = np.linspace(0, 1, 12)
    scripts = tuple("abcdef" * 2)
    assert Scripts(scripts).mean(values) == Scripts(scripts).mean(values)


# -- calibration and risk ---------------------------------------------------------------------


def test_calibration_error_is_the_gap_between_said_and_true():
    said = np.full(100, 0.9)
    right = np.arange(100) % 10 < 6
    np.random.default_rng(0).shuffle(right)
    assert metrics.calibration_error(said, right, bins=1) == pytest.approx(0.3)


def test_calibration_error_by_hand_in_two_bins():
    said = np.array([0.2, 0.4, 0.9, 0.7])
    right = np.array([False, True, True, True])
    bins = metrics.reliability(said, right, bins=2)
    assert [(b.count, b.true) for b in bins] == [(2, 0.5), (2, 1.0)]
    assert [b.said for b in bins] == pytest.approx([0.3, 0.8])
    assert metrics.calibration_error(said, right, bins=2) == pytest.approx((0.2 + 0.2) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_calibration_error_is_that_of_its_bins(rows):
    said, right = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    bins = metrics.reliability(said, right)
    by_bins = sum(b.count * abs(b.said - b.true) for b in bins) / len(rows)
    assert metrics.calibration_error(said, right) == pytest.approx(by_bins, abs=1e-12)


def test_selective_risk_leaves_the_least_confident_out():
    said = np.array([0.9, 0.2, 0.8, 0.7])
    right = np.array([True, False, True, True])
    assert metrics.risk_at(said, right, 0.75) == (0, 3)
    assert metrics.risk_at(said, right, 1.0) == (1, 4)


def test_confusion_counts_each_name_for_each_truth():
    table = metrics.confusion(["network", "network", "unknown"], ["network", "none", "none"])
    assert table == {"network": {"network": 1}, "none": {"network": 1, "unknown": 1}}

"""The table by which the exponents on the evidence were chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.score import sharpness
from lab.score.cases import DEGRADED, Case, load
from lagkit import ranking

CORPUS = Path(__file__).resolve().parent.parent / "corpus"


def case(primary: str) -> Case:
    return Case(primary, Path(), {"split": "calibration", "primary": primary, "active": [primary]})


def told(certain: float) -> list[list[float]]:
    """Return a forecast that holds the second of the eight for *certain* at every exponent."""
    rest = (1 - certain) / 7
    return [[rest, certain, *[rest] * 6] for _ in sharpness.EXPONENTS]


def test_each_confidence_has_its_own_loss_whole_and_with_its_spoiled_copies():
    cases = [case("slow_processing"), case("slow_processing")]
    found = [
        [(True, "high", told(1.0)), (False, "low", told(0.5))],
        [(True, "high", told(0.5)), (False, "high", told(0.25))],
    ]
    rows = [line.strip("| ").split(" | ") for line in sharpness.table(cases, found)][2:]
    assert [row[:3] for row in rows] == [
        ["high", "2 whole", "0.347"],
        ["high", "3 and copies", "0.693"],
        ["low", "1 and copies", "0.693"],
    ]


def test_an_exponent_changes_how_sure_lagkit_is_and_not_its_confidence():
    one = next(iter(load(CORPUS, {"calibration"})))
    [copies] = sharpness.judged([one], workers=1)
    assert [whole for whole, _, _ in copies] == [True] + [False] * len(DEGRADED)
    confidence, forecasts = copies[0][1:]
    assert confidence in ranking.SHARPNESS
    surest = [max(row) for row in forecasts]
    assert surest == sorted(surest)
    assert surest[0] < surest[-1]
    assert all(sum(row) == pytest.approx(1) for row in forecasts)

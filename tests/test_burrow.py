"""Burrow's rules against the vectors Burrow publishes, and our own for its other branches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lagkit.flow import burrow

VECTORS = json.loads((Path(__file__).parent / "data" / "burrow_vectors.json").read_text("utf-8"))


def commits(vector: dict[str, Any]) -> list[burrow.Commit | None]:
    return [None if row is None else burrow.Commit(*row) for row in vector["commits"]]


def verdict(vector: dict[str, Any]) -> str:
    settings = {key: vector[key] for key in ("allowed_lag", "minimum_complete") if key in vector}
    return burrow.evaluate(
        commits(vector), vector["broker_end"], vector["current_lag"], vector["now"], **settings
    )


@pytest.mark.parametrize("vector", VECTORS["published"], ids=lambda v: f"published-{v['index']}")
def test_a_published_vector_gives_the_published_status(vector: dict[str, Any]) -> None:
    assert verdict(vector) == vector["status"]


@pytest.mark.parametrize("vector", VECTORS["published"], ids=lambda v: f"published-{v['index']}")
def test_each_rule_alone_answers_as_published(vector: dict[str, Any]) -> None:
    stored = [commit for commit in commits(vector) if commit is not None]
    offsets = [commit.offset for commit in stored]
    assert {
        "lag_always_above": burrow.lag_always_above(stored, 0),
        "stopped": burrow.stopped(stored, vector["now"]),
        "stalled": burrow.stalled(stored),
        "lag_never_decreases": burrow.lag_never_decreases(stored),
        "recently_zero": burrow.recently_zero(stored, vector["broker_end"]),
        "offset_ever_fell": offsets != sorted(offsets),
    } == vector["rules"]


@pytest.mark.parametrize("vector", VECTORS["issue_714"]["vectors"], ids=lambda v: v["name"])
def test_rewinds_are_read_as_issue_714_asked(vector: dict[str, Any]) -> None:
    assert verdict(vector) == vector["status"]


@pytest.mark.parametrize("vector", VECTORS["own"], ids=lambda v: v["name"])
def test_the_branches_no_published_vector_reaches(vector: dict[str, Any]) -> None:
    assert verdict(vector) == vector["status"]


def test_every_status_is_reached_by_some_vector() -> None:
    every = [*VECTORS["published"], *VECTORS["issue_714"]["vectors"], *VECTORS["own"]]
    assert {vector["status"] for vector in every} == set(burrow.CODES)

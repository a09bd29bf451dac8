"""One incident by its script on the real lab: recorded as a user would, its label beside it."""

from __future__ import annotations

import hashlib
import json

import pandas as pd
import pytest

import lagkit as lk
from lab import scenarios
from lab.incidents import corpus
from lab.incidents.making import NothingShown, make
from lab.incidents.script import SPLITS, Choice, Drawn, Range, draw, load
from lab.score.cases import load as load_cases
from lab.stack import Stack

from .conftest import require

BASELINE_SECONDS = 20  # above what the capture leaves out for the exporters
HOLD_SECONDS = 20
SCRAPE_SECONDS = 2  # not what a lab starts with


@pytest.fixture
def lab(stack: Stack) -> Stack:
    for part in ("kafka", "toxiproxy", "kubernetes", "prometheus", "otel"):
        require(stack, part)
    return stack


def short(name: str, **changes: object) -> Drawn:
    """Return a script's first incident with little time before and after the fault."""
    script = load()[name].model_copy(
        update={
            "baseline_seconds": Range(low=BASELINE_SECONDS, high=BASELINE_SECONDS),
            "hold_seconds": Range(low=HOLD_SECONDS, high=HOLD_SECONDS),
            "scrape_seconds": Choice(choose=(SCRAPE_SECONDS,)),
            "bars": ("old_restart", "scaled_before", "failing_neighbour", "other_topic_spike"),
            "dialects": ("otel",),
            **changes,
        }
    )
    return draw(script, 1, corpus.DIALECTS)


def test_an_incident_is_recorded_with_what_was_done_and_when(lab: Stack, tmp_path) -> None:
    made = make(lab, short("consumer_down.scaled_to_zero", shows={"least_lag": 300}), tmp_path)
    label = json.loads((tmp_path / "labels" / f"{made.name}.json").read_text())
    assert label["primary"] == "consumer_down"
    assert label["sha256"] == hashlib.sha256(made.file.read_bytes()).hexdigest()
    incident = lk.open(made.file)
    onset = pd.Timestamp(label["onsets"]["consumer_down"])
    assert incident.start < onset < incident.end
    wanted = incident.workloads.loc[incident.workloads["role"] == "consumer", "desired_replicas"]
    assert wanted.tolist()[-1] == 0
    seen = incident.offsets["timestamp"].drop_duplicates().sort_values().diff().dropna()
    assert label["scrape_seconds"] == SCRAPE_SECONDS
    assert seen.median() == pd.Timedelta(seconds=SCRAPE_SECONDS), "scraped as often as it says"
    (case,) = load_cases(tmp_path, SPLITS)
    assert case.onset == onset
    assert b"scaled_to_zero" not in made.file.read_bytes(), "the label stays outside"
    scenarios.settle(lab)


def test_a_fault_that_shows_nothing_makes_no_incident(lab: Stack, tmp_path) -> None:
    unseen = short("controls.idle", shows={"least_lag": 10**6})
    with pytest.raises(NothingShown, match="records behind, expected"):
        make(lab, unseen, tmp_path)
    assert list(tmp_path.iterdir()) == []
    scenarios.settle(lab)

"""The scripts of labelled incidents: each is sound, and a seed makes the same incident always."""

from __future__ import annotations

from collections import Counter

import pytest

from lab.incidents import corpus
from lab.incidents.faults import FAULTS
from lab.incidents.script import DISTRACTORS, SPLITS, draw, load
from lagkit.causes import CORE, EVIDENCE, EXTENDED
from lagkit.errors import UsageError

SCRIPTS = load()
KINDS = {kind.id for kind in EVIDENCE}
SOUND = "[[script]]\nname='a'\nsummary='s'\nprimary='none'\nsplit='dev'\n"


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_uses_faults_and_evidence_that_exist(name):
    script = SCRIPTS[name]
    assert {step.do for step in script.steps} <= set(FAULTS)
    assert set(script.evidence) <= KINDS
    if script.primary not in ("none", "unknown"):
        assert script.evidence, "what should a diagnosis cite?"
        assert script.primary in {step.begins for step in script.steps}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_the_same_seed_draws_the_same_incident_and_another_seed_another(name):
    script = SCRIPTS[name]
    one, again, other = (draw(script, seed, corpus.DIALECTS) for seed in (1, 1, 2))
    assert one == again
    assert (one.name, one.values, one.hold_seconds, one.distractors, one.dialect) != (
        other.name,
        other.values,
        other.hold_seconds,
        other.distractors,
        other.dialect,
    )
    for drawn in (one, other):
        assert all("$" not in str(step.options) for step in drawn.steps)


def test_the_corpus_is_as_large_as_was_promised():
    of = Counter()
    for script in SCRIPTS.values():
        kind = "control" if script.primary == "none" else script.primary
        if len(script.active) > 1 and script.primary not in {c.id for c in EXTENDED}:
            kind = "cascade"
        of[kind] += script.seeds
    assert sum(of[cause.id] for cause in CORE) >= 140
    assert min(of[cause.id] for cause in CORE) >= 20
    assert of["cascade"] >= 30
    assert of["control"] >= 30
    assert min(of[cause.id] for cause in EXTENDED) >= 3


def test_every_core_cause_is_in_every_split_and_no_script_in_two():
    for cause in CORE:
        splits = {s.split for s in SCRIPTS.values() if s.active == (cause.id,)}
        assert splits == set(SPLITS), cause.id


def test_half_of_the_incidents_or_more_have_a_distractor():
    drawn = [
        draw(script, seed, corpus.DIALECTS)
        for script in SCRIPTS.values()
        for seed in range(1, script.seeds + 1)
    ]
    share = sum(bool(one.distractors) for one in drawn) / len(drawn)
    assert share >= 0.5
    assert {kind for one in drawn for kind in one.distractors} == set(DISTRACTORS)
    assert all(not set(one.distractors) & set(one.script.bars) for one in drawn)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not toml", "no file of scripts"),
        ("[[script]]\nname = 'a'", "no file of scripts"),
        ("[[script]]\nname='a'\nsummary='s'\nprimary='gremlins'\nsplit='dev'", "no such cause"),
        (
            f"{SOUND}step=[{{do='awx', with={{job_seconds='$job'}}}}]",
            "used and not drawn: job",
        ),
        (
            f"{SOUND}draw.x={{low=1,high=2}}",
            "drawn and not used: x",
        ),
        (
            f"{SOUND}draw.x={{low=3,high=2}}",
            "above high",
        ),
        (
            f"{SOUND}step=[{{do='awx', begins='network'}}]",
            "which the label does not hold",
        ),
    ],
)
def test_a_script_that_is_wrong_is_refused_with_its_reason(tmp_path, text, why):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError, match=why):
        load(tmp_path)


def test_what_is_made_already_is_not_made_again(tmp_path):
    scripts = [SCRIPTS["network.latency"]]
    todo = corpus.wanted(scripts, tmp_path)
    assert [one.seed for one in todo] == [1, 2, 3, 4]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{todo[0].name}.json").write_text("{}")
    assert [one.seed for one in corpus.wanted(scripts, tmp_path)] == [2, 3, 4]

"""The scripts of labelled incidents: each is sound, and a seed makes the same incident always."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from lab.incidents import corpus
from lab.incidents.faults import FAULTS
from lab.incidents.script import DISTRACTORS, SCRAPE_SECONDS, SPLITS, draw, load
from lagkit.causes import CORE, EXTENDED
from lagkit.errors import UsageError
from lagkit.evidence import EVIDENCE

SCRIPTS = load()
KINDS = {kind.id for kind in EVIDENCE}
SOUND = "[[script]]\nname='a'\nsummary='s'\nprimary='none'\nsplit='dev'\n"

# what a seed drew when incidents of it were recorded: other numbers would be another incident
DRAWN = json.loads(
    (Path(__file__).parent / "data" / "incident_draws.json").read_text(encoding="utf-8")
)
DRAWN_SEEDS = range(1, 9)

VARIANTS = {
    "consumer_down": {
        "one of three replicas": "consumer_down.one_of_three",
        "OOM-killed": "consumer_down.out_of_memory",
        "crash loop with exit code": "consumer_down.crash_loop",
        "scaled to zero": "consumer_down.scaled_to_zero",
        "pending": "consumer_down.unschedulable",
        "SIGSTOP hang": "consumer_down.hang",
    },
    "slow_processing": {
        "AWX slow": "slow_processing.awx_slow",
        "AWX timing out": "slow_processing.awx_timing_out",
        "AWX pods down": "slow_processing.awx_down",
        "CPU throttled": "slow_processing.cpu_throttled",
        "one member only": "slow_processing.one_member",
        "big batches with frozen commits": "slow_processing.big_batches",
        "deploy of slower code": "slow_processing.slower_release",
    },
    "message_spike": {
        "step": "message_spike.step_up",
        "burst": "message_spike.bursts",
        "backfill of one key": "message_spike.backfill_of_one_key",
        "replayed producer": "message_spike.replay",
    },
    "rebalancing": {
        "short session timeout": "rebalancing.short_session_and_pauses",
        "join and leave": "rebalancing.join_and_leave",
        "rolling restarts": "rebalancing.rolling_restarts",
        "mixed assignors": "rebalancing.mixed_assignors",
    },
    "broker_overload": {
        "little CPU for the leader": "broker_overload.starved",
        "broker of three stopped": "broker_overload.one_of_three_frozen",
        "noisy neighbour topic": "broker_overload.noisy_neighbour",
        "long pauses": "broker_overload.pauses",
    },
    "poison_message": {
        "crash": "poison_message.crashing",
        "infinite retry": "poison_message.retried",
        "silent pause": "poison_message.parked_in_silence",
        "business exception": "poison_message.business_rule",
    },
    "network": {
        "latency": "network.latency",
        "blackhole": "network.blackhole",
        "reset": "network.reset_by_peer",
        "one broker only": "network.one_broker",
        "DNS": "network.names_lost",
    },
    "none": {
        "idle topic": "controls.idle",
        "deploy blip": "controls.release_blip",
        "draining backlog": "controls.draining",
        "seasonal peak": "controls.daily_peak",
        "batch producer's sawtooth": "controls.batch_producer",
        "transactional lag of 1": "controls.transaction_markers",
        "left topic": "controls.left_topic",
        "stale exporter": "controls.exporter_gone",
        "a producer's clock": "controls.producer_clock_behind",
    },
    "unknown": {
        "ACL failure": "controls.group_forbidden",
        "intake off": "controls.intake_off",
        "commits forgotten": "controls.forgotten_commits",
    },
}


@pytest.mark.parametrize("cause", sorted(VARIANTS))
def test_every_variant_that_was_asked_for_has_a_script_of_its_own(cause):
    scripts = list(VARIANTS[cause].values())
    assert len(set(scripts)) == len(scripts)
    assert {SCRIPTS[name].active for name in scripts} == {(cause,)}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_seed_draws_what_it_drew_when_incidents_of_it_were_recorded(name):
    told = [
        [
            one.values,
            one.baseline_seconds,
            one.hold_seconds,
            one.mended_after_seconds,
            list(one.distractors),
            one.dialect,
        ]
        for one in (draw(SCRIPTS[name], seed, corpus.DIALECTS) for seed in DRAWN_SEEDS)
    ]
    found = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    assert found == DRAWN[name]


def test_rare_scrapes_still_make_a_baseline_and_a_fault_that_can_be_seen():
    drawn = [draw(s, seed, corpus.DIALECTS) for s in SCRIPTS.values() for seed in DRAWN_SEEDS]
    assert {one.scrape_seconds for one in drawn} == set(SCRAPE_SECONDS)
    for one in drawn:
        assert one.settled_seconds >= one.baseline_seconds
        assert (one.settled_seconds - one.unseen_seconds) / one.scrape_seconds >= 8
        assert one.held_seconds / one.scrape_seconds >= 6
        assert one.held_seconds >= one.hold_seconds


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
    assert {one.seed for one in todo} == {1, 2, 3, 4}
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{todo[0].name}.json").write_text("{}")
    assert corpus.wanted(scripts, tmp_path) == todo[1:]

"""Which labels may be read, what an answer is worth, and how the score is told."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

import lagkit as lk
from lab.__main__ import parser, run
from lab.processes import LabError
from lab.score import board, page
from lab.score.baro import BARO
from lab.score.baselines import BASELINES, CLASSES, named
from lab.score.board import LAGKIT, Answer, from_distribution
from lab.score.cases import DEGRADED, Case, load
from lab.score.logistic import LOGISTIC

START = pd.Timestamp("2026-01-01T00:00:00Z")
STEP = 5.0


# -- labels that may be read ------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> lk.Incident:
    return lk.demo()


def sealed(folder: Path, incident: lk.Incident, name: str, **label: object) -> dict[str, str]:
    """Write an incident with its label and return its entry for a manifest."""
    (folder / "labels").mkdir(exist_ok=True)
    file = incident.save(folder / f"{name}.lagkit")
    sealed = folder / "labels" / f"{name}.json"
    told = {
        "split": "dev",
        "script": name.rpartition(".")[0],
        "primary": "slow_processing",
        "active": ["slow_processing"],
        "onsets": {},
        "evidence": ["downstream_slow"],
        "dialect": "otel",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        **label,
    }
    sealed.write_text(json.dumps(told))
    return {
        "name": name,
        "split": str(told["split"]),
        "incident_sha256": str(told["sha256"]),
        "label_sha256": hashlib.sha256(sealed.read_bytes()).hexdigest(),
    }


def manifest(folder: Path, *entries: dict[str, str]) -> None:
    (folder / "manifest.json").write_text(json.dumps({"incidents": entries}))


def test_an_incident_that_was_changed_after_its_label_was_sealed_is_not_scored(tmp_path, demo):
    sealed(tmp_path, demo, "made.up.1")
    assert [case.name for case in load(tmp_path, {"dev"})] == ["made.up.1"]
    DEGRADED["without kafka"](demo).save(tmp_path / "made.up.1.lagkit")
    with pytest.raises(LabError, match="not the incident"):
        load(tmp_path, {"dev"})


def test_a_label_that_was_changed_after_the_manifest_was_written_is_not_scored(tmp_path, demo):
    manifest(tmp_path, sealed(tmp_path, demo, "made.up.1"))
    assert len(load(tmp_path, {"dev"})) == 1
    sealed(tmp_path, demo, "made.up.1", primary="network", active=["network"])
    with pytest.raises(LabError, match=r"manifest\.json was written for"):
        load(tmp_path, {"dev"})


def test_a_label_that_the_manifest_does_not_list_stops_the_scoring(tmp_path, demo):
    entry = sealed(tmp_path, demo, "made.up.1")
    sealed(tmp_path, demo, "made.up.2")
    manifest(tmp_path, entry)
    with pytest.raises(LabError, match=r"made\.up\.2 is not in"):
        load(tmp_path, {"dev"})


def test_an_incident_of_the_manifest_that_is_missing_stops_the_scoring(tmp_path, demo):
    manifest(tmp_path, sealed(tmp_path, demo, "made.up.1"))
    (tmp_path / "made.up.1.lagkit").unlink()
    with pytest.raises(LabError, match="there is no"):
        load(tmp_path, {"dev"})


def test_the_labels_of_a_split_that_was_not_asked_for_are_not_opened(tmp_path, demo):
    kept = sealed(tmp_path, demo, "made.up.1")
    hidden = sealed(tmp_path, demo, "made.apart.1", split="test")
    manifest(tmp_path, kept, hidden)
    (tmp_path / "labels" / "made.apart.1.json").write_text("this is no label")
    assert [case.name for case in load(tmp_path, {"dev", "calibration"})] == ["made.up.1"]
    with pytest.raises(ValueError, match="Expecting value"):
        load(tmp_path, {"test"})


def test_without_a_manifest_the_script_says_whose_label_may_be_opened(tmp_path, demo):
    from lab.incidents.script import load as scripts

    name = next(script.id for script in scripts().values() if script.split == "test")
    sealed(tmp_path, demo, "made.up.1")
    sealed(tmp_path, demo, f"{name}.1", split="test")
    (tmp_path / "labels" / f"{name}.1.json").write_text("this is no label")
    assert [case.name for case in load(tmp_path, {"dev"})] == ["made.up.1"]


def test_a_label_of_another_split_than_its_scripts_is_refused(tmp_path, demo):
    from lab.incidents.script import load as scripts

    name = next(script.id for script in scripts().values() if script.split == "dev")
    sealed(tmp_path, demo, f"{name}.1", split="test")
    with pytest.raises(LabError, match="was made for dev, and its label says test"):
        load(tmp_path, {"dev"})


def test_a_folder_without_labels_is_said_to_hold_nothing(tmp_path):
    with pytest.raises(LabError, match="no labelled incident"):
        load(tmp_path, {"dev"})


def test_what_goes_wrong_on_test_is_not_told(tmp_path, demo):
    sealed(tmp_path, demo, "made.up.1", split="test")
    arguments = ["score", "--corpus", str(tmp_path), "--split", "test", "--misses"]
    with pytest.raises(LabError, match="is not told"):
        run(parser().parse_args(arguments))


# -- what an answer is worth ------------------------------------------------------------------


def case(primary: str, *also: str, script: str = "", **label: object) -> Case:
    told = {
        "split": "dev",
        "script": script or f"made.{primary}",
        "primary": primary,
        "active": [primary, *also],
        "onsets": {primary: START.isoformat()} if primary not in ("none", "unknown") else {},
        "evidence": ["downstream_slow"],
        "dialect": "otel",
        **label,
    }
    return Case(f"{told['script']}.1", Path("nowhere"), told)


def answer(cause: str, probability: float = 0.9, **told: object) -> Answer:
    rest = (1 - probability) / 7
    beliefs = {name: rest for name in CLASSES if name != cause} | {cause: probability}
    if cause not in CLASSES:
        beliefs["unknown"] = 0.0
    return Answer(beliefs, cause, probability, active=frozenset({cause}), **told)


def test_shares_and_means_by_hand():
    cases = [case("network"), case("network", script="b"), case("none"), case("key_skew")]
    said = [answer("network"), answer("rebalancing", 0.6), answer("none"), answer("key_skew")]
    row = board.score(cases, said)
    assert (row["ac@1"].hits, row["ac@1"].of) == (1, 2), "of one of the seven causes only"
    assert (row["named right"].hits, row["named right"].of) == (3, 4)
    # 0.6 on the wrong one, 0.4/7 on each of the others
    rest = 0.4 / 7
    wrong = 0.6**2 + (1 - rest) ** 2 + 6 * rest**2
    right = 0.1**2 + 7 * (0.1 / 7) ** 2
    assert row["brier"].value * 4 == pytest.approx(
        wrong + right + brier_of(said[2]) + brier_of(said[3])
    )


def brier_of(told: Answer) -> float:
    wanted = [0.0] * 7 + [1.0]
    return sum((p - w) ** 2 for p, w in zip(told.folded, wanted, strict=True))


def test_an_extended_cause_counts_as_unknown_among_the_eight_and_as_itself_by_name():
    told = answer("key_skew")
    assert told.folded[-1] == pytest.approx(0.9)
    assert board.is_right(case("key_skew"), told)
    assert not board.is_right(case("key_skew"), answer("unknown"))
    assert not board.is_right(case("none"), told)


def test_blaming_a_control_is_counted_and_doubting_is_not():
    controls = [case("none"), case("unknown"), case("none", script="b")]
    said = [answer("network", 0.6), answer("hung_transaction", 0.6), answer("network", 0.5)]
    row = board.score(controls, said)
    assert (row["false blame"].hits, row["false blame"].of) == (2, 3)
    assert row["ac@1"].of == 0, "a control is no single-cause incident"


def test_only_a_wrong_cause_is_false_blame_of_an_extended_one():
    cases = [case("key_skew"), case("key_skew")]
    row = board.score(cases, [answer("key_skew"), answer("message_spike")])
    assert (row["false blame, extended"].hits, row["false blame, extended"].of) == (1, 2)


def test_the_set_of_a_cascade_is_exact_or_wrong():
    cascades = [case("slow_processing", "rebalancing")] * 3
    sets = [{"slow_processing", "rebalancing"}, {"slow_processing"}, {"slow_processing", "network"}]
    said = [
        Answer(answer("slow_processing").probabilities, "slow_processing", 0.9, frozenset(active))
        for active in sets
    ]
    row = board.score(cascades, said)
    assert (row["exact active set"].hits, row["exact active set"].of) == (1, 3)
    assert row["cascades ac@1"].hits == 3


@pytest.mark.parametrize(
    ("kind", "begins_seconds", "grounded"),
    [
        ("downstream_slow", 3.0, True),
        ("downstream_slow", None, True),
        ("downstream_slow", -60.0, False),
        ("downstream_slow", 600.0, False),
        ("containers_failing", 3.0, False),
    ],
    ids=["in order", "without a time", "before the fault", "long after the lag", "not scripted"],
)
def test_a_right_answer_is_grounded_by_scripted_evidence_in_order(kind, begins_seconds, grounded):
    at = None if begins_seconds is None else START + pd.Timedelta(begins_seconds, "s")
    told = answer(
        "slow_processing",
        cited={kind: at},
        onset=START + pd.Timedelta("5s"),
        onset_latest=START + pd.Timedelta("10s"),
        step_seconds=STEP,
    )
    assert board.is_grounded(case("slow_processing"), told) is grounded
    assert not board.is_grounded(case("network"), told), "the cause must be right too"


def test_the_onset_error_is_in_scrape_steps_and_misses_are_told_apart():
    cases = [case("network", script=name) for name in "abc"]
    said = [
        answer("network", onset=START + pd.Timedelta(seconds, "s"), step_seconds=STEP)
        for seconds in (10, -5)
    ]
    row = board.score(cases, [*said, answer("network")])
    assert row["onset error"].value == pytest.approx(1.5)
    assert (row["onset found"].hits, row["onset found"].of) == (2, 3)


def test_a_spoiled_copy_costs_points_on_the_same_incidents():
    cases = [case("network", script=name) for name in "abcd"] + [case("none")]
    whole = [answer("network")] * 4 + [answer("none")]
    spoiled = [answer("network")] * 3 + [answer("rebalancing"), answer("none")]
    lost = board.drop(cases, whole, spoiled)
    assert lost.points.value == pytest.approx(25)
    assert lost.ac1.value == 0.75
    low, high = lost.points.interval
    assert low == 0 < 25 < high


# -- everybody asked, everything told ---------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, demo) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    sealed(folder, demo, "made.slow.1")
    sealed(folder, demo, "made.slow.2", split="calibration")
    return folder


@pytest.fixture(scope="module")
def asked(corpus) -> page.Board:
    cases = load(corpus, {"dev", "calibration"})
    held = [one for one in cases if one.split == "calibration"]
    learned = [one for one in cases if one.split == "dev"]
    return page.board("calibration", held, board.answers(held, learned, workers=1))


def test_lagkit_and_every_baseline_are_asked_about_the_same_cases(asked):
    assert set(asked.given) == {
        LAGKIT,
        *(board.degraded(how) for how in DEGRADED),
        *BASELINES,
        BARO,
        LOGISTIC,
    }
    assert all(len(said) == 1 for said in asked.given.values())
    assert asked.given[LAGKIT][0].seconds > 0
    assert asked.given[LAGKIT][0].outcomes["downstream_slow"] == "present"


def test_a_spoiled_copy_is_no_longer_the_same_and_can_still_be_judged(asked):
    for how in DEGRADED:
        told = asked.given[board.degraded(how)][0]
        assert sum(told.probabilities.values()) == pytest.approx(1), how
    gone = asked.given[board.degraded("without downstream")][0]
    assert gone.probabilities != asked.given[LAGKIT][0].probabilities


def test_the_tables_show_chance_goals_and_whether_they_are_met(asked):
    text = page.markdown([asked])
    assert re.search(r"\| AC@1, one of the seven causes \| 1\.000 \(1 of 1\) .*0\.143", text)
    assert "| met |" in text
    assert "| *chance* | 0.143 | 0.429 | 0.429 | 0.370 |" in text
    assert "| without kubernetes |" in text
    assert "within 3, so these cases are too easy" in text, "the trees get this one too"
    for name in asked.scores:
        assert name in text


@pytest.mark.parametrize(
    ("key", "value", "met"),
    [
        ("ac@1", 0.95, True),
        ("ac@1", 0.949, False),
        ("false blame", 1 / 30, True),
        ("false blame", 0.04, False),
        ("worst drop", 8.1, False),
        ("ece", float("nan"), None),
        ("named right", 1.0, None),
    ],
)
def test_a_goal_is_met_on_its_own_side_and_without_a_value_neither(key, value, met):
    goal = next(goal for goal in page.GOALS if goal.key == key)
    assert goal.met(value) is met


def test_the_numbers_can_be_had_as_strict_json(asked):
    told = json.loads(json.dumps(page.plain(asked), allow_nan=False))
    assert told["contestants"][LAGKIT]["ac@1"]["value"] == 1
    assert told["contestants"][LAGKIT]["false blame"]["value"] is None, "no control, no share"
    assert told["goals"]["ac@1"] == {"goal": "≥ 0.95", "met": True}
    assert told["by_cause"]["slow_processing"]["hits"] == 1


def test_a_page_is_rewritten_between_its_marks_and_nowhere_else(asked, tmp_path):
    target = tmp_path / "score.md"
    target.write_text(f"before\n\n{page.BEGIN}\nold\n{page.END}\n\nafter\n")
    page.write(target, [asked], "How it was made.")
    text = target.read_text()
    assert text.startswith("before\n\n" + page.BEGIN)
    assert text.endswith(page.END + "\n\nafter\n")
    assert "old" not in text
    assert "How it was made." in text
    assert "](reliability.svg)" in text
    page.write(target, [asked], "How it was made.")
    assert target.read_text() == text, "twice is the same as once"


@pytest.mark.parametrize("text", ["no marks", f"{page.END} {page.BEGIN}", page.BEGIN * 2])
def test_a_page_without_its_marks_is_left_alone(asked, tmp_path, text):
    target = tmp_path / "score.md"
    target.write_text(text)
    with pytest.raises(LabError, match="mark"):
        page.write(target, [asked], "")
    assert target.read_text() == text


def test_the_page_of_the_documentation_has_its_marks():
    text = (Path(__file__).resolve().parent.parent / "docs" / "score.md").read_text()
    assert text.index(page.BEGIN) < text.index(page.END)


def test_the_picture_says_in_words_what_it_shows(asked):
    drawn = ET.fromstring(page.picture([asked]))
    assert drawn.get("role") == "img"
    assert drawn.get("aria-label") == page.picture_words([asked])
    assert "calibration: said" in page.picture_words([asked])
    dots = drawn.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(dots) == len(asked.bins) == 1


def test_misses_name_what_was_said_and_how_likely_the_truth_was_held():
    said = from_distribution(named("rebalancing"))
    one = page.Board("dev", (case("network"),), {LAGKIT: [said]})
    (line,) = page.misses(one, board.is_right)
    assert line == "made.network.1: rebalancing (0.65), network 0.05"

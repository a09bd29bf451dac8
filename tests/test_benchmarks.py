"""The benchmarks run and say what they found; how fast anything is, no test says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import harness

ROOT = Path(__file__).resolve().parent.parent
# Those that need no server; tests/real has the others.
ALONE = ("decode", "flow", "report", "startup")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("results")
    done = run(*ALONE, "--quick", "--results", str(folder))
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize("row", ALONE)
def test_a_quick_run_of_a_row_gives_every_claim_a_figure(results, row):
    found = json.loads((results[0] / f"{row}.json").read_text(encoding="utf-8"))
    assert (found["schema"], found["row"], found["rounds"]) == (harness.SCHEMA, row, 1)
    assert "missing" not in found
    assert found["claims"]
    for claim in found["claims"]:
        assert claim["ratio"]["low"] <= claim["ratio"]["median"] <= claim["ratio"]["high"]
        assert isinstance(claim["met"], bool)
    assert all(len(each) == 1 for each in found["seconds"].values())


def test_the_table_holds_every_row_and_is_what_was_printed(results):
    folder, printed = results
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert printed.rstrip("\n") == table.rstrip("\n")
    assert all(f"\n## {row}\n" in table for row in ALONE)


def test_the_results_name_neither_this_machine_nor_a_place_on_it(results):
    import socket

    for path in results[0].iterdir():
        text = path.read_text(encoding="utf-8")
        for name in (socket.gethostname(), str(ROOT), str(Path.home()), sys.prefix):
            assert name not in text


def test_an_unknown_row_is_refused_and_the_known_ones_are_told():
    done = run("nosuch")
    assert done.returncode == 2
    assert "startup" in done.stderr


def claim(median: float, limit: float, *, at_least: bool) -> harness.Claim:
    return harness.Claim("claim", harness.single(median), limit, at_least=at_least)


def test_a_goal_is_met_on_its_own_side_of_the_limit():
    assert claim(1.2, 1.3, at_least=False).met
    assert not claim(1.4, 1.3, at_least=False).met
    assert claim(9.0, 8.0, at_least=True).met
    assert not claim(7.0, 8.0, at_least=True).met


def test_a_ratio_is_taken_round_by_round():
    # a machine twice as slow in the second round changes no ratio
    assert harness.ratio([1.0, 2.0], [4.0, 8.0]) == harness.Ratio(0.25, 0.25, 0.25)


def test_every_candidate_is_timed_once_a_round_and_warmed_up_before():
    calls: list[str] = []
    seconds = harness.paired(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2
    )
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}


def test_a_candidate_that_times_itself_is_believed():
    assert harness.paired({"a": lambda: 42.0}, rounds=1) == {"a": [42.0]}


def test_the_peak_of_memory_is_that_of_the_work_and_not_of_its_preparation():
    quick = harness.peak_bytes("benchmarks.flow:prepare_evaluation", 4, 2, 60)
    long = harness.peak_bytes("benchmarks.flow:prepare_evaluation", 200, 200, 2_000)
    assert long > quick + 400_000 * 3 * 8, "three columns of 400,000 samples at the least"


def test_a_row_without_its_server_says_so_in_the_table():
    why = harness.Missing("kafka is not in this lab: no network. To do: connect.")
    shown = harness.table([harness.missing("offsets", why, rounds=3)])
    assert "| offsets | not measured: kafka is not in this lab" in shown

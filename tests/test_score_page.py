"""docs/score.md tells what lagkit, as it is now, makes of every stored incident."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.incidents.corpus import CORPUS
from lab.score import board
from lab.score.cases import load
from lab.score.page import GOALS, shown

PAGE = Path(__file__).parent.parent / "docs" / "score.md"
# Of the machine, of copies that the command itself makes, and what follows from another row.
ELSEWHERE = {"seconds", "slowest", "worst drop", "lift@5"}


@pytest.mark.parametrize("split", ["dev", "calibration", "test"])
def test_the_page_says_what_the_stored_corpus_gives_today(split):
    cases = load(CORPUS, {split})
    row = board.score(cases, [board.ask_lagkit(case.incident)[0] for case in cases])
    section = PAGE.read_text(encoding="utf-8").split(f"### {split}: ")[1].split("Everybody on")[0]
    told = {
        cells[0]: cells[1]
        for line in section.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 6
    }
    assert section.startswith(f"{len(cases)} incidents")
    wanted = {goal.title: shown(row[goal.key]) for goal in GOALS if goal.key not in ELSEWHERE}
    assert {title: told[title] for title in wanted} == wanted

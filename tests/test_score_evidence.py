"""The table of evidence: counts of what was seen, beside the levels that were set by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.processes import LabError
from lab.score import evidence
from lab.score.cases import Case
from lagkit.evidence import EVIDENCE

PAGE = Path(__file__).resolve().parent.parent / "docs" / "evidence.md"


def case(name: str, *active: str) -> Case:
    label = {"split": "dev", "primary": active[0], "active": list(active)}
    return Case(name, Path(f"{name}.lagkit"), label)


def row(kind: str, cases: list[Case], found: list[dict[str, str]]) -> tuple[str, ...]:
    return next(one for one in evidence.rows(cases, found) if one[0] == f"`{kind}`")


def test_a_kind_is_counted_for_its_cause_and_as_seen_anyway_for_the_others():
    cases = [case("a", "message_spike"), case("b", "message_spike"), case("c", "network")]
    found = [{"production_spike": o} for o in ("present", "absent", "absent")]
    _, anyway, expected, why = row("production_spike", cases, found)
    assert anyway == "0.04 (0/1)"
    assert expected == "message_spike `++` (1/2); under_parallelism `+` (not met)"
    assert why


def test_what_was_not_looked_for_is_not_counted():
    cases = [case("a", "message_spike"), case("b", "message_spike")]
    found = [{"production_spike": "not_checked"}, {}]
    _, anyway, expected, _ = row("production_spike", cases, found)
    assert anyway == "0.04 (not met)"
    assert expected == "message_spike `++` (not met); under_parallelism `+` (not met)"


def test_a_contributing_cause_expects_its_evidence_too():
    cases = [case("a", "slow_processing", "rebalancing")]
    _, anyway, _, _ = row("membership_churn", cases, [{"membership_churn": "present"}])
    assert anyway == "0.1 (not met)"


def test_a_count_that_leaves_the_level_out_stands_in_bold():
    cases = [case(str(n), "network") for n in range(20)]
    found = [{"production_spike": "present"}] * 20
    assert row("production_spike", cases, found)[1] == "0.04 (**20/20**)"


def test_the_page_keeps_its_prose_and_needs_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{evidence.BEGIN}\nstale words\n{evidence.END}\nafter\n")
    evidence.write(page, [case("a", "network")], [{"transport_errors": "present"}])
    told = page.read_text()
    assert told.startswith("before\n")
    assert told.endswith("\nafter\n")
    assert "stale words" not in told
    page.write_text("no marks")
    with pytest.raises(LabError, match="marks"):
        evidence.write(page, [], [])
    assert page.read_text() == "no marks"


def test_the_page_in_the_documents_has_a_row_for_every_kind():
    told = PAGE.read_text(encoding="utf-8")
    missing = [kind.id for kind in EVIDENCE if f"| `{kind.id}` |" not in told]
    assert missing == []


@pytest.mark.parametrize("kind", EVIDENCE, ids=lambda kind: kind.id)
def test_every_kind_says_why_its_levels_are_so(kind):
    assert kind.reason.endswith(".")

"""What may be in a shipped notebook, and that it runs on other incidents than its own.

nbval compares the outputs themselves, but takes a cell without saved outputs as right: that every
cell has been run is claimed here.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import factories
import nbformat
import pytest

from lagkit.runner import run_notebook

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RECORDED = sorted((ROOT / "tests" / "data" / "incidents").glob("*.lagkit"))
LONGEST_CELL = 15
LARGEST_OUTPUT = 200_000
LARGEST_NOTEBOOK = 1_000_000
# The machine's own places; a path of the incident's cluster is evidence and may stand.
PLACES = re.compile(r"(?<![\w.])/(?:root|home|tmp|Users|work|opt|usr)/[\w.-]+")
SECONDS = 240.0

notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_is_a_notebook():
    assert NOTEBOOKS


@notebook
def test_every_cell_was_run_in_order(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run: make notebooks"


@notebook
def test_a_cell_is_a_call_and_no_program(path):
    forbidden = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.Try, ast.With)
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.id
        found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, forbidden)]
        assert not found, cell.id


@notebook
def test_outputs_are_small(path):
    assert path.stat().st_size < LARGEST_NOTEBOOK
    sizes = {cell.id: len(json.dumps(cell.outputs)) for cell in code_cells(path)}
    assert {name: size for name, size in sizes.items() if size > LARGEST_OUTPUT} == {}


@notebook
def test_outputs_name_no_place_of_a_machine(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            text = json.dumps(output.get("text", output.get("data", "")))
            assert PLACES.findall(text) == [], cell.id


@notebook
def test_each_figure_is_followed_by_its_checked_fingerprint(path):
    cells = code_cells(path)
    figures = [
        number
        for number, cell in enumerate(cells)
        if "nbval-ignore-output" in cell.metadata.get("tags", [])
    ]
    assert figures
    for number in figures:
        assert cells[number + 1].source == f"print({cells[number].source}.fingerprint)"
        assert "nbval-ignore-output" not in cells[number + 1].metadata.get("tags", [])


@notebook
def test_a_figure_carries_its_words_and_its_picture(path):
    for cell in code_cells(path):
        if "nbval-ignore-output" not in cell.metadata.get("tags", []):
            continue
        (output,) = cell.outputs
        assert set(output.data) == {
            "application/vnd.plotly.v1+json",
            "text/html",
            "text/plain",
        }, cell.id
        assert "<title" in output.data["text/html"], cell.id
        assert "<figcaption" in output.data["text/html"], cell.id


@pytest.mark.parametrize("incident", RECORDED[:3], ids=lambda path: path.stem)
def test_investigate_runs_on_other_incidents(incident, tmp_path):
    (tmp_path / "incident.lagkit").write_bytes(incident.read_bytes())
    record = run_notebook(
        ROOT / "notebooks" / "investigate.ipynb",
        {"incident_path": "incident.lagkit"},
        tmp_path / "report.ipynb",
        deadline_seconds=SECONDS,
    )
    assert str(record).startswith("The notebook ran to its end")


def test_investigate_runs_on_an_incident_where_every_source_was_blind(tmp_path):
    factories.blind_result().incident.save(tmp_path / "incident.lagkit")
    record = run_notebook(
        ROOT / "notebooks" / "investigate.ipynb",
        {"incident_path": "incident.lagkit"},
        tmp_path / "report.ipynb",
        deadline_seconds=SECONDS,
    )
    assert str(record).startswith("The notebook ran to its end")

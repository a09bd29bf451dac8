from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import factories
import numpy as np
import pytest

from lagkit import charts
from lagkit.figure import Figure
from lagkit.figure.drawing import BLUE, Cells, Line, Panel, Table
from lagkit.figure.svg import WIDTH, blend, render_svg, time_ticks, value_ticks

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures() -> dict[str, str]:
    return {figure.name: figure.svg() for figure in charts.figures(factories.result())}


def drawn(*traces, **panel) -> str:
    figure = Figure(
        "one",
        "One",
        "Which?",
        "Line chart of 3 points",
        "",
        (Panel("Panel", "messages", traces, **panel),),
        Table("", (), ()),
        (0.0, 60_000.0),
    )
    return render_svg(figure)


def series(*values: float) -> Line:
    y = np.array(values, dtype="float64")
    return Line("lag", np.linspace(0, 60_000, y.size), y, BLUE)


@pytest.mark.parametrize("name", charts.FIGURES)
def test_every_picture_is_well_formed_with_title_and_label(pictures, name):
    root = ET.fromstring(pictures[name])
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert re.search(r"\d", root.get("aria-label") or "")
    title = root.find(f"{SVG}title")
    assert title is not None
    assert root.get("aria-label") in (title.text or "")


@pytest.mark.parametrize("name", charts.FIGURES)
def test_a_picture_asks_for_nothing_and_runs_nothing(pictures, name):
    assert not re.search(r"(?:href|src)=|@import|<script|<style|on\w+=", pictures[name])
    assert re.findall(r"https?://[^\"]+", pictures[name]) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize("name", charts.FIGURES)
def test_the_same_result_gives_the_same_bytes(pictures, name):
    assert charts.figure(factories.result(), name).svg() == pictures[name]


@pytest.mark.parametrize("name", charts.FIGURES)
def test_no_coordinate_is_missing_or_outside(pictures, name):
    assert "nan" not in pictures[name].lower().replace("…", "")
    for attribute in ("x", "x1", "x2", "cx"):
        for value in re.findall(rf'\b{attribute}="([-\d.]+)"', pictures[name]):
            assert -1 <= float(value) <= WIDTH


@pytest.mark.parametrize("name", charts.FIGURES)
def test_ids_are_unique_across_all_pictures(pictures, name):
    ids = re.findall(r'\bid="([^"]+)"', pictures[name])
    assert all(identity.startswith(f"hatch-{name}-") for identity in ids)
    assert len(set(ids)) == len(ids)


def test_a_gap_breaks_the_line():
    svg = drawn(series(1, 2, np.nan, 3, 4))
    (path,) = re.findall(r'<path d="(M[^"]+)" fill="none" stroke="#0072B2"', svg)
    assert path.count("M") == 2


def test_a_single_sample_between_gaps_is_seen_as_a_dot():
    assert "<circle" in drawn(series(1, 2, np.nan, 3, np.nan, 4, 5))


def test_a_step_line_holds_its_value():
    x = np.array([0.0, 30_000.0, 60_000.0])
    svg = drawn(Line("members", x, np.array([3.0, 2.0, 2.0]), BLUE, step=True))
    assert re.search(r'd="M[\d.]+ [\d.]+H[\d.]+V', svg)


def test_a_flat_line_at_zero_has_an_axis():
    assert "nan" not in drawn(series(0, 0, 0))


def test_equal_neighbouring_cells_are_one_rectangle():
    cells = Cells("age", np.linspace(0, 60_000, 5), np.array([[5.0, 5.0, np.nan, 5.0]]), 1, 10, "s")
    svg = drawn(cells, rows=("0",), note="")
    assert svg.count(f'fill="{blend(np.log10(5))}"') == 2


def test_a_hatch_is_a_pattern_so_it_does_not_depend_on_colour(pictures):
    assert '<pattern id="hatch-flow-0"' in pictures["flow"]
    assert "url(#hatch-evidence-0)" in pictures["evidence"]


def test_labels_that_would_overlap_are_left_to_the_tooltip():
    svg = charts.figure(factories.hostile_result(), "timeline").svg()
    ET.fromstring(svg)
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg


def test_every_text_carries_a_class_so_that_a_dark_page_can_turn_it(pictures):
    for svg in pictures.values():
        assert all('class="ink"' in tag for tag in re.findall(r"<text[^>]*>", svg))


def test_ticks_are_round_instants_and_the_date_is_named_once_a_day():
    start, end = 1_700_000_000_000.0, 1_700_000_000_000.0 + 3 * 3600 * 1000
    labels = [text for _, text in time_ticks(start, end)]
    assert labels[0] == "Nov 14 22:30"
    assert "Nov 15 00:00" in labels
    assert sum(" " in text for text in labels) == 2


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 0.4, [0, 0.1, 0.2, 0.30000000000000004, 0.4]), (5, 5, [5])],
)
def test_value_ticks_are_one_two_or_five(low, high, ticks):
    assert value_ticks(low, high) == ticks


def test_the_colour_scale_rises_in_lightness():
    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    shades = [lightness(blend(step / 20)) for step in range(21)]
    assert shades == sorted(shades)

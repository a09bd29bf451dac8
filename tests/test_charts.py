from __future__ import annotations

import re
from dataclasses import replace

import factories
import numpy as np
import pandas as pd
import pytest

from lagkit import charts
from lagkit.figure import Figure
from lagkit.figure.drawing import Area, Arrow, Cells, Line, Points, Spans, Symbols, thin, with_gaps
from lagkit.model import CatchUp

# Okabe and Ito 2008, compared with matplotlib's tableau of the same name.
OKABE_ITO = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}


@pytest.fixture(scope="module")
def result():
    return factories.result()


@pytest.fixture(scope="module")
def figures(result) -> dict[str, Figure]:
    return {figure.name: figure for figure in charts.figures(result)}


def traces(figure: Figure, kind: type) -> list:
    return [trace for panel in figure.panels for trace in panel.traces if isinstance(trace, kind)]


def line(figure: Figure, name: str) -> Line:
    return next(trace for trace in traces(figure, Line) if trace.name == name)


def test_there_are_the_seven_figures_of_an_investigation(figures):
    assert list(figures) == [
        "timeline",
        "flow",
        "partitions",
        "cumulative",
        "assignment",
        "evidence",
        "deadline",
    ]


def test_an_unknown_figure_names_those_there_are(result):
    with pytest.raises(KeyError, match=r"no figure 'lag'; there are: timeline, flow"):
        charts.figure(result, "lag")


@pytest.mark.parametrize("name", charts.FIGURES)
def test_every_figure_has_words_with_a_number(figures, name):
    assert re.search(r"\d", figures[name].alt)
    assert figures[name].question.endswith("?")
    assert figures[name].table.columns


@pytest.mark.parametrize("name", charts.FIGURES)
def test_every_figure_has_words_with_a_number_also_without_data(name):
    figure = charts.figure(factories.blind_result(), name)
    assert re.search(r"\d", figure.alt)
    assert any(panel.note for panel in figure.panels)
    assert "nan" not in figure.alt.lower()


def test_a_figure_without_data_says_unknown_not_zero():
    alt = charts.figure(factories.blind_result(), "timeline").alt
    assert "the greatest backlog was unknown" in alt
    assert "reached 0" not in alt


def test_all_time_axes_show_the_same_window(figures):
    ranges = {
        figures[name].x_range for name in charts.FIGURES if name not in ("evidence", "deadline")
    }
    assert ranges == {(factories.START.timestamp() * 1000, factories.END.timestamp() * 1000)}


def test_a_lost_scrape_is_drawn_as_a_gap(figures):
    backlog = line(figures["timeline"], "unread messages")
    assert np.isnan(backlog.y).sum() == 1


def test_the_timeline_shows_promise_onset_and_events(figures):
    figure = figures["timeline"]
    assert figure.panels[0].levels[0].label == "promise 60s"
    assert figure.marks[0].label == "onset 02:09Z"
    assert figure.marks[0].start < figure.marks[0].end
    kinds = {row[1] for row in figure.table.rows}
    assert kinds == {"alert", "rollout", "container ended", "cluster event", "members"}


def test_a_lane_nobody_looked_into_is_not_checked_and_an_empty_one_is_not_seen():
    quiet = factories.incident(tables={"rollouts": factories.incident().rollouts.iloc[:0]})
    rows = charts.figure(factories.result(incident=quiet), "timeline").panels[-1].rows
    assert "rollout: none seen" in rows
    blind = charts.figure(factories.blind_result(), "timeline").panels[-1].rows
    assert "rollout: not checked" in blind


def test_the_retention_line_is_drawn_only_when_the_age_is_near_it(result):
    configs = result.incident.configs.copy()
    near = configs.assign(value="1800000")
    whole = factories.incident(tables={"configs": near})
    levels = charts.figure(factories.result(incident=whole), "timeline").panels[0].levels
    assert [level.label for level in levels] == ["promise 60s", "retention 30m"]
    assert len(charts.figure(result, "timeline").panels[0].levels) == 1


def test_an_age_that_is_a_lower_bound_is_marked_so():
    history = factories.offsets(gap=False)
    early = history["timestamp"] >= factories.ONSET + pd.Timedelta("10min")
    late_window = factories.incident(tables={"offsets": history[early].reset_index(drop=True)})
    figure = charts.figure(factories.result(incident=late_window), "timeline")
    bound = line(figure, "at least (window too short)")
    assert bound.dash == "dot"
    assert bound.marker == "triangle-up"


def test_falling_behind_and_catching_up_differ_in_hatch(figures):
    behind, ahead = traces(figures["flow"], Area)
    assert (behind.name, behind.hatch) == ("falling behind", "/")
    assert (ahead.name, ahead.hatch) == ("catching up", "\\")


def test_produced_and_consumed_differ_in_dash_not_only_in_colour(figures):
    assert {trace.dash for trace in traces(figures["flow"], Line)} == {"solid", "dash"}


def test_the_heat_map_keeps_the_greatest_age_of_each_column(result, figures):
    (cells,) = traces(figures["partitions"], Cells)
    greatest = result.flow.time_lag["time_lag_seconds"].max()
    assert np.nanmax(cells.values) == greatest
    assert cells.high == greatest


def test_the_heat_map_leaves_missing_samples_open(figures):
    (cells,) = traces(figures["partitions"], Cells)
    assert np.isnan(cells.values).any()
    assert (np.isnan(cells.values).sum(axis=0) % factories.PARTITIONS == 0).all()


def test_partitions_are_sorted_by_number_and_name_their_owner(figures):
    rows = figures["partitions"].panels[0].rows
    assert [row.split(" ")[0] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert all("…" in row for row in rows)


def test_a_change_of_members_is_marked_where_owners_changed(figures):
    assert "3→2" in [mark.label for mark in figures["partitions"].marks]


def test_many_partitions_are_bounded_to_the_worst_and_counted():
    history = pd.concat(
        [factories.offsets(gap=False).assign(topic=f"topic-{n:02d}") for n in range(10)],
        ignore_index=True,
    )
    whole = factories.incident(tables={"offsets": history})
    figure = charts.figure(factories.result(incident=whole), "partitions")
    assert len(figure.panels[0].rows) == charts.MOST_PARTITIONS
    assert "12 quieter partitions are left out" in figure.caption


def test_the_arrow_spans_the_longest_delay_of_the_worst_partition(result, figures):
    (arrow,) = traces(figures["cumulative"], Arrow)
    ages = result.flow.time_lag
    assert (arrow.end - arrow.start) / 1000 == pytest.approx(ages["time_lag_seconds"].max())
    assert figures["cumulative"].panels[0].title == "deploy-requests / 5"


def test_a_log_start_near_the_committed_offset_is_the_third_line():
    history = factories.offsets()
    history["log_start_offset"] = 39_000.0
    whole = factories.incident(tables={"offsets": history})
    figure = charts.figure(factories.result(incident=whole), "cumulative")
    assert line(figure, "log start offset").dash == "dot"


def test_a_log_start_far_below_stays_in_the_table_only(figures):
    names = [trace.name for trace in traces(figures["cumulative"], Line)]
    assert names == ["log end offset", "committed offset"]
    assert figures["cumulative"].table.rows[-1][0] == "log start offset"


def test_the_length_of_a_rebalance_is_printed(figures):
    spans = next(t for t in traces(figures["assignment"], Spans) if t.name == "not Stable")
    assert [span.label for span in spans.spans] == ["PreparingRebalance 90s"]


def test_a_frozen_partition_is_shown_as_standing_still_with_its_own_hatch():
    history = factories.offsets(gap=False)
    frozen = (history["partition"] == 3) & (history["timestamp"] > factories.ONSET)
    at = history.loc[(history["partition"] == 3) & ~frozen, "committed_offset"].max()
    history.loc[frozen, "committed_offset"] = at
    whole = factories.incident(tables={"offsets": history})
    figure = charts.figure(factories.result(incident=whole), "assignment")
    (still,) = [t for t in traces(figure, Spans) if t.name.startswith("no commit")]
    assert [span.row for span in still.spans] == [3]
    assert still.hatch == "x"


def test_time_without_samples_is_neither_served_nor_standing_still(result):
    figure = charts.figure(result, "assignment")
    for spans in traces(figure, Spans):
        for span in spans.spans:
            gap_start = (factories.START + pd.Timedelta(seconds=120 * 15)).timestamp() * 1000
            assert not span.start < gap_start < span.end


def test_what_was_not_checked_has_no_sign_in_the_matrix(figures):
    (matrix,) = traces(figures["evidence"], Symbols)
    rows = figures["evidence"].panels[0].rows
    assert set(matrix.signs[rows.index("downstream slow")]) == {""}
    assert matrix.signs[rows.index("consume rate down")][0] == "++"


@pytest.mark.parametrize(
    ("weight", "sign"),
    [(2.0, "++"), (0.5, "+"), (0.1, "0"), (0.0, "0"), (-0.1, "0"), (-0.5, "−"), (-2.0, "−−")],
)
def test_signs_follow_the_weight(weight, sign):
    assert charts.sign_of(weight) == sign


def test_a_catch_up_is_drawn_with_its_interval(result):
    end = factories.END
    at = CatchUp(*(end + pd.Timedelta(minutes=m) for m in (20, 34, 60)))
    verdict = replace(result.verdict, forecast=replace(result.verdict.forecast, catch_up_at=at))
    figure = charts.figure(replace(result, verdict=verdict), "deadline")
    (points, loss) = traces(figure, Points)
    assert points.labels == ("03:14Z, in 34m",)
    assert loss.labels == ("08:00Z, in 5h 20m",)
    assert traces(figure, Spans)[0].hatch == "\\"


def test_a_loss_far_beyond_the_catch_up_is_named_not_drawn(result):
    end = factories.END
    at = CatchUp(*(end + pd.Timedelta(minutes=m) for m in (2, 3, 4)))
    verdict = replace(result.verdict, forecast=replace(result.verdict.forecast, catch_up_at=at))
    figure = charts.figure(replace(result, verdict=verdict), "deadline")
    assert "beyond this axis" in figure.table.caption
    assert "Unread data may be deleted in 5h 20m" in figure.alt


def test_no_trace_has_more_points_than_are_seen():
    x = np.arange(100_000, dtype="float64")
    y = np.sin(x / 500)
    y[40_000] = 9.0
    y[60_000:60_400] = np.nan
    thin_x, thin_y = thin(x, y)
    assert thin_x.size <= 1500
    assert 9.0 in thin_y
    assert np.isnan(thin_y).any()
    assert (np.diff(thin_x) > 0).all()
    assert (thin_x[0], thin_x[-1]) == (x[0], x[-1])


def test_one_lost_scrape_is_no_gap_but_two_are():
    x = np.array([0, 15, 30, 60, 75, 120, 135], dtype="float64")
    assert np.isnan(with_gaps(x, np.ones(7))[1]).sum() == 1


@pytest.mark.parametrize("name", charts.FIGURES)
def test_a_fingerprint_is_the_same_for_the_same_data(figures, name):
    again = charts.figure(factories.result(), name)
    assert again.fingerprint == figures[name].fingerprint


def test_a_fingerprint_differs_when_one_value_does(figures):
    history = factories.offsets()
    history.loc[history.index[-1], "committed_offset"] -= 1
    changed = factories.result(incident=factories.incident(tables={"offsets": history}))
    assert charts.figure(changed, "timeline").fingerprint != figures["timeline"].fingerprint


@pytest.mark.parametrize("name", charts.FIGURES)
def test_colours_are_those_of_okabe_and_ito(figures, name):
    used = {
        trace.colour
        for panel in figures[name].panels
        for trace in panel.traces
        if hasattr(trace, "colour")
    } - {"#1b1f24", "#6b7280"}  # ink and grey
    assert used <= OKABE_ITO


@pytest.mark.parametrize("name", charts.FIGURES)
def test_plotly_accepts_every_figure_and_loads_nothing(figures, name):
    figure = figures[name].plotly()
    text = figure.to_json()
    assert "http" not in text
    assert len(figure.layout.to_plotly_json()["yaxis"]["domain"]) == 2


@pytest.mark.parametrize("name", charts.FIGURES)
def test_plotly_accepts_a_figure_without_data(name):
    charts.figure(factories.blind_result(), name).plotly()


def test_plotly_gets_typed_arrays_in_epoch_milliseconds(figures):
    bundle = figures["timeline"]._repr_mimebundle_()
    x = bundle["application/vnd.plotly.v1+json"]["data"][0]["x"]
    assert x["dtype"] == "f8"


def test_a_notebook_gets_three_forms_with_the_words_in_each(figures):
    bundle = figures["flow"]._repr_mimebundle_()
    assert list(bundle) == ["application/vnd.plotly.v1+json", "text/html", "text/plain"]
    assert bundle["text/html"].startswith("<figure><svg")
    assert "<figcaption>" in bundle["text/html"]
    assert figures["flow"].alt in bundle["text/plain"]


def test_hostile_names_cannot_become_markup_in_plotly():
    for figure in charts.figures(factories.hostile_result()):
        text = figure.plotly().to_json()
        assert "<script" not in text
        assert "<img" not in text

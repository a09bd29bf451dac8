"""Describe a drawing to plotly: typed arrays, UTC, no remote resource.

Draws what the static picture draws, with the same ranges, colours and hatches. All text from
outside is escaped, because plotly reads a subset of HTML in names and labels. The description is
plain data, so a report needs plotly.js only; plotly.py is loaded for whoever asks for its object.
"""

from __future__ import annotations

import base64
import html
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lagkit.figure.drawing import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    VIRIDIS,
    Area,
    Arrow,
    Cells,
    Drawing,
    Line,
    Numbers,
    Panel,
    Points,
    Spans,
    Symbols,
    Trace,
)
from lagkit.figure.svg import CLOCKLESS_MS, HEADING, MARK_LANE, time_ticks, value_bounds
from lagkit.wording import duration, number, printable, shorten

if TYPE_CHECKING:
    import plotly.graph_objects as go

MARGIN = {"l": 64, "r": 18, "t": 30, "b": 72}
MARGIN_LEFT_ROWS = 180
MOST_COLOUR_TICKS = 5
_DASHES = {"solid": "solid", "dash": "dash", "dot": "dot", "dashdot": "dashdot"}


def build_plotly(figure: Drawing) -> go.Figure:
    """Return *figure* as an object of plotly.py."""
    import plotly.graph_objects as go

    return go.Figure(plotly_spec(figure))


def plotly_json(figure: Drawing) -> str:
    """Return the description as JSON, arrays as base64 of their bytes, as plotly.js reads them."""
    return json.dumps(plotly_spec(figure), default=_typed_array, separators=(",", ":"))


def _typed_array(values: object) -> dict[str, str]:
    if not isinstance(values, np.ndarray):
        msg = f"not an array: {type(values).__name__}"
        raise TypeError(msg)
    kind = "f4" if values.dtype == np.float32 else "f8"
    array = values.astype("<" + kind)
    encoded = {"dtype": kind, "bdata": base64.b64encode(array.tobytes()).decode()}
    if array.ndim > 1:
        encoded["shape"] = ", ".join(str(size) for size in array.shape)
    return encoded


def plotly_spec(figure: Drawing) -> dict[str, Any]:
    """Return traces and layout, one y axis per panel over one shared x axis."""
    heights = [panel.height + HEADING for panel in figure.panels]
    total = float(sum(heights) + MARK_LANE)
    layout: dict[str, Any] = {
        "height": int(total + MARGIN["t"] + MARGIN["b"]),
        "margin": MARGIN
        | ({"l": MARGIN_LEFT_ROWS} if any(panel.rows for panel in figure.panels) else {}),
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "annotations": [],
        "shapes": [],
    }
    traces: list[dict[str, Any]] = []
    top = float(MARK_LANE)
    for index, panel in enumerate(figure.panels):
        axis = "y" if index == 0 else f"y{index + 1}"
        above = 1 - (top + HEADING) / total
        below = 1 - (top + heights[index]) / total
        layout["yaxis" + axis[1:]] = _y_axis(panel, (max(0.0, below), above))
        unit = f" ({panel.unit})" if panel.unit else ""
        layout["annotations"].append(_note(f"<b>{_safe(panel.title + unit)}</b>", 0, above))
        if panel.note:
            layout["annotations"].append(
                _note(f"<i>{_safe(panel.note)}</i>", 0.5, (above + below) / 2, "center")
            )
        for trace in panel.traces:
            drawn, marks = _trace(trace, panel, axis, figure.x_range)
            traces += drawn
            layout["annotations"] += marks
        for level in panel.levels:
            layout["shapes"].append(
                {
                    "type": "line",
                    "xref": "paper",
                    "x0": 0,
                    "x1": 1,
                    "yref": axis,
                    "y0": level.y,
                    "y1": level.y,
                    "line": {"color": level.colour, "dash": _DASHES[level.dash]},
                }
            )
            layout["annotations"].append(
                {
                    "xref": "paper",
                    "x": 0.01,
                    "yref": axis,
                    "y": level.y,
                    "text": _safe(level.label),
                    "showarrow": False,
                    "yanchor": "bottom",
                    "xanchor": "left",
                }
            )
        top += heights[index]
    layout["xaxis"] = _x_axis(figure)
    # marks lie under lines and bars, but over a heat map, which would cover them
    covering = any(isinstance(t, Cells) for panel in figure.panels for t in panel.traces)
    for mark in figure.marks:
        layout["shapes"].append(
            {
                "type": "rect",
                "xref": "x",
                "x0": mark.start,
                "x1": mark.end,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "fillcolor": mark.colour,
                "opacity": 0.22,
                "layer": "above" if covering else "below",
                "line": {"color": mark.colour, "dash": "dot", "width": 1.5},
            }
        )
        if mark.label:
            layout["annotations"].append(
                {
                    "xref": "x",
                    "x": mark.start,
                    "yref": "paper",
                    "y": 1,
                    "yanchor": "bottom",
                    "xanchor": "left",
                    "text": _safe(mark.label),
                    "showarrow": False,
                }
            )
    return {"data": traces, "layout": layout}


def _safe(text: str) -> str:
    return html.escape(printable(text, limit=200), quote=False)


def _note(text: str, x: float, y: float, anchor: str = "left") -> dict[str, Any]:
    return {
        "xref": "paper",
        "yref": "paper",
        "x": x,
        "y": y,
        "text": text,
        "showarrow": False,
        "xanchor": anchor,
        "yanchor": "bottom" if anchor == "left" else "middle",
    }


def _y_axis(panel: Panel, domain: tuple[float, float]) -> dict[str, Any]:
    axis: dict[str, Any] = {"domain": list(domain), "zeroline": False, "anchor": "x"}
    if panel.rows:
        return axis | {
            "tickmode": "array",
            "tickvals": list(range(len(panel.rows))),
            "ticktext": [_safe(shorten(row, 24)) for row in panel.rows],
            "range": [len(panel.rows) - 0.5, -0.5],
            "showgrid": False,
        }
    return axis | {"range": list(value_bounds(panel))}


def _x_axis(figure: Drawing) -> dict[str, Any]:
    last = len(figure.panels)
    anchor = "y" if last == 1 else f"y{last}"
    if figure.x_range is None:
        names = figure.panels[-1].columns
        return {
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "anchor": anchor,
            "ticktext": [_safe(name) for name in names],
            "range": [-0.5, len(names) - 0.5],
            "showgrid": False,
            "zeroline": False,
        }
    if abs(figure.x_range[0]) < CLOCKLESS_MS:
        start, end = figure.x_range
        places = [place for place, _ in time_ticks(start, end)]
        return {
            "range": [start, end],
            "anchor": anchor,
            "tickmode": "array",
            "tickvals": places,
            "ticktext": [text for _, text in time_ticks(start, end)],
        }
    return {
        "type": "date",
        "range": list(figure.x_range),
        "anchor": anchor,
        "tickformat": "%H:%M\n%b %d UTC",
        # ticks closer than a minute would all show the same one
        "tickformatstops": [{"dtickrange": [None, 59_999], "value": "%H:%M:%S\n%b %d UTC"}],
        "hoverformat": "%Y-%m-%d %H:%M:%S UTC",
    }


def _trace(
    trace: Trace, panel: Panel, axis: str, x_range: tuple[float, float] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the plotly traces and the annotations of one trace."""
    if isinstance(trace, Line):
        return [_line(trace, axis)], []
    if isinstance(trace, Area):
        return [_polygon(trace.name, *_outline(trace), trace.colour, trace.hatch, axis)], []
    if isinstance(trace, Spans):
        return _bars(trace, axis), []
    if isinstance(trace, Points):
        return [_points(trace, axis, x_range)], []
    if isinstance(trace, Cells):
        return [_cells(trace, panel, axis)], []
    if isinstance(trace, Symbols):
        return [_symbols(trace, axis)], []
    return [], [_arrow(trace, axis)]


def _line(line: Line, axis: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if line.marker else "lines",
        "name": _safe(line.name),
        "x": line.x,
        "y": line.y,
        "yaxis": axis,
        "connectgaps": False,
        "line": {
            "color": line.colour,
            "dash": _DASHES[line.dash],
            "shape": "hv" if line.step else "linear",
            "width": 2,
        },
        "marker": {"symbol": line.marker or "circle", "color": line.colour},
    }


def _outline(area: Area) -> tuple[Numbers, Numbers]:
    """Return the closed outline of *area*, its separate parts parted by NaN."""
    good = np.isfinite(area.low) & np.isfinite(area.high)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], good.astype("int8"), [0]))))
    x: list[Numbers] = []
    y: list[Numbers] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        part = slice(int(start), int(end))
        x += [area.x[part], area.x[part][::-1], np.array([np.nan])]
        y += [area.high[part], area.low[part][::-1], np.array([np.nan])]
    return (np.concatenate(x), np.concatenate(y)) if x else (np.array([]), np.array([]))


def _polygon(
    name: str, x: Numbers, y: Numbers, colour: str, hatch: str, axis: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "fill": "toself",
        "name": _safe(name),
        "x": x,
        "y": y,
        "yaxis": axis,
        "line": {"width": 1, "color": colour},
        "hoverinfo": "name",
        "fillcolor": colour if hatch else _translucent(colour),
        "fillpattern": {"shape": hatch, "fgcolor": colour, "bgcolor": _translucent(colour)},
    }


def _translucent(colour: str, opacity: float = 0.3) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def _bars(spans: Spans, axis: str) -> list[dict[str, Any]]:
    x: list[float] = []
    y: list[float] = []
    for span in spans.spans:
        x += [span.start, span.end, span.end, span.start, span.start, math.nan]
        y += [
            span.row - 0.35,
            span.row - 0.35,
            span.row + 0.35,
            span.row + 0.35,
            span.row - 0.35,
            math.nan,
        ]
    bars = _polygon(spans.name, np.array(x), np.array(y), spans.colour, spans.hatch, axis)
    labelled = [span for span in spans.spans if span.label]
    if not labelled:
        return [bars]
    # a filled shape has no text of its own
    words = {
        "type": "scatter",
        "mode": "text",
        "yaxis": axis,
        "showlegend": False,
        "name": _safe(spans.name),
        "hoverinfo": "text",
        "textposition": "middle right",
        "textfont": {"color": INK},
        "x": np.array([span.start for span in labelled]),
        "y": np.array([float(span.row) for span in labelled]),
        "text": [_safe(shorten(span.label, 28)) for span in labelled],
    }
    return [bars, words]


def _points(points: Points, axis: str, x_range: tuple[float, float] | None) -> dict[str, Any]:
    start, end = x_range or (0.0, 1.0)
    # a label at the right would leave the plot: half way is where the longest still fits
    late = (points.x - start) / (end - start) > 0.5
    return {
        "type": "scatter",
        "mode": "markers+text" if points.show_labels else "markers",
        "name": _safe(points.name),
        "x": points.x,
        "y": points.y,
        "yaxis": axis,
        "text": [_safe(shorten(label, 60)) for label in points.labels],
        "textposition": ["middle left" if left else "middle right" for left in late],
        "showlegend": bool(points.name),
        "hoverinfo": "x+text",
        "marker": {"symbol": points.symbol, "color": points.colour, "size": 9},
    }


def _cells(cells: Cells, panel: Panel, axis: str) -> dict[str, Any]:
    with np.errstate(invalid="ignore"):
        logs = np.log10(np.clip(cells.values, cells.low, cells.high))
    low, high = math.log10(cells.low), math.log10(cells.high)
    ticks = np.linspace(low, high, MOST_COLOUR_TICKS)
    return {
        "type": "heatmap",
        "name": _safe(cells.name),
        "yaxis": axis,
        "x": (cells.edges[:-1] + cells.edges[1:]) / 2,
        "y": np.arange(len(panel.rows), dtype="float64"),
        "z": logs.astype("float32"),
        "zmin": low,
        "zmax": high,
        "hoverongaps": False,
        "customdata": cells.values.astype("float32"),
        "hovertemplate": f"%{{customdata:.1f}} {cells.unit}<extra></extra>",
        "colorscale": [[index / (len(VIRIDIS) - 1), stop] for index, stop in enumerate(VIRIDIS)],
        "colorbar": {
            "tickvals": ticks.tolist(),
            "thickness": 12,
            "ticktext": [_colour_text(10.0**tick, cells.unit) for tick in ticks],
        },
    }


def _colour_text(value: float, unit: str) -> str:
    return duration(value) if unit in ("s", "seconds") else number(value)


def _symbols(symbols: Symbols, axis: str) -> dict[str, Any]:
    open_cells = [[sign or "no data" for sign in row] for row in symbols.signs]
    return {
        "type": "heatmap",
        "name": _safe(symbols.name),
        "yaxis": axis,
        "z": symbols.tints,
        "zmin": -1,
        "zmax": 1,
        "text": open_cells,
        "texttemplate": "%{text}",
        "hoverinfo": "text",
        "colorscale": [
            [0, _translucent(VERMILLION, 0.6)],
            [0.5, _translucent(GREY, 0.06)],
            [1, _translucent(BLUE, 0.6)],
        ],
        "textfont": {"color": INK},
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }


def _arrow(arrow: Arrow, axis: str) -> dict[str, Any]:
    return {
        "x": arrow.end,
        "y": arrow.y,
        "xref": "x",
        "yref": axis,
        "ax": arrow.start,
        "ay": arrow.y,
        "axref": "x",
        "ayref": axis,
        "showarrow": True,
        "arrowhead": 2,
        "arrowside": "end+start",
        "arrowwidth": 1.5,
        "arrowcolor": GREY,
        "text": _safe(arrow.label),
        "yanchor": "bottom",
        "xanchor": "right",
    }

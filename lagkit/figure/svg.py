"""Draw a drawing as one static ``<svg>``: no script, no font, no request.

Deterministic to the byte. Every element carries literal colours, so that the picture stands alone
(mail, PDF, notebook), and a class, so that a page can recolour it for a dark screen. Knows pixels;
refuses to know what is drawn.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
    Hatch,
    Level,
    Line,
    Numbers,
    Panel,
    Points,
    Spans,
    Symbols,
)
from lagkit.wording import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 880
MARGIN_RIGHT = 18
MARGIN_LEFT = 62
MARGIN_LEFT_ROWS = 176
HEADING = 24
"""Pixels above a panel for its title and legend."""
AXIS = 24
"""Pixels under a panel for the labels of its x axis."""
MARK_LANE = 16
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"
CHARACTER = 6.5
"""Width of a character at 11 pixels, for deciding what fits: DejaVu Sans, the widest in FONT."""
RULE = "#d8dce1"
PAPER = "#ffffff"

_DASHES = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3"}
_TIME_STEPS = (
    1,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10800,
    21600,
    43200,
    86400,
    172800,
    604800,
    *(weeks * 604800 for weeks in (2, 4, 8, 13, 26, 52)),
)
_DATES_ONLY = 604800
CLOCKLESS_MS = 365 * 86400e3
"""An axis that begins before this, a year after the epoch, is of hours from some moment."""


def render_svg(figure: Drawing) -> str:
    """Return *figure* as an ``<svg>`` element with ``<title>``, ``aria-label`` and ``role``."""
    left = max(
        MARGIN_LEFT_ROWS if any(panel.rows for panel in figure.panels) else MARGIN_LEFT, MARGIN_LEFT
    )
    canvas = _Canvas(figure.name, left)
    top = float(MARK_LANE if figure.marks else 0)
    body: list[str] = []
    for index, panel in enumerate(figure.panels):
        top += HEADING
        last = index == len(figure.panels) - 1
        body += canvas.panel(figure, panel, top, labelled=last or bool(panel.columns))
        top += panel.height + (AXIS if last or panel.columns else 4)
    height = math.ceil(top) + 4
    label = html.escape(printable(figure.alt), quote=True)
    title = html.escape(printable(figure.title))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label="{label}" '
        f'class="lagkit-chart" font-family="{FONT}" font-size="11">'
        f"<title>{title}. {html.escape(printable(figure.alt))}</title>"
        f'<rect class="paper" width="{WIDTH}" height="{height}" fill="{PAPER}"/>'
        f"{canvas.definitions()}{''.join(body)}</svg>"
    )


def time_ticks(start: float, end: float, most: int = 9) -> list[tuple[float, str]]:
    """Return (epoch ms, label) at round instants; the date is named where it begins or changes."""
    span = max(1.0, (end - start) / 1000)
    step = next((s for s in _TIME_STEPS if span / s <= most), _TIME_STEPS[-1])
    first = math.ceil(start / 1000 / step) * step
    moments = pd.to_datetime(np.arange(first, end / 1000 + 0.5, step), unit="s", utc=True)
    ticks: list[tuple[float, str]] = []
    day = None
    for moment in moments:
        if abs(start) < CLOCKLESS_MS:
            ticks.append((moment.timestamp() * 1000, f"{moment.timestamp() / 3600:g} h"))
            continue
        if step > _DATES_ONLY:
            ticks.append((moment.timestamp() * 1000, moment.strftime("%Y-%m-%d")))
            continue
        text = moment.strftime("%H:%M:%S" if step < 60 else "%H:%M")
        if moment.date() != day:
            text = moment.strftime("%b %d ") + text
            day = moment.date()
        ticks.append((moment.timestamp() * 1000, text))
    return ticks


def value_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten) that cover *low* to *high*."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def value_bounds(panel: Panel) -> tuple[float, float]:
    """Return the y range that shows every trace and level of *panel*, with a little air above."""
    seen: list[Numbers] = [np.array([level.y for level in panel.levels], dtype="float64")]
    for trace in panel.traces:
        if isinstance(trace, Line | Points):
            seen.append(trace.y)
        elif isinstance(trace, Area):
            seen += [trace.low, trace.high]
        elif isinstance(trace, Arrow):
            seen.append(np.array([trace.y], dtype="float64"))
    every = np.concatenate(seen)
    every = every[np.isfinite(every)]
    if not every.size:
        return 0.0, 1.0
    low = min(0.0, float(every.min())) if panel.from_zero else float(every.min())
    high = float(every.max())
    if high - low <= 0:
        high = low + max(1.0, abs(low) * 0.05)
    return low, high + (high - low) * 0.06


def _n(value: float) -> str:
    """Return a coordinate with one decimal and no trailing zero."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def _tick_text(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1000 if suffix == 'k' else size):g}{suffix}"
    return f"{value:g}"


def blend(position: float, stops: Sequence[str] = VIRIDIS) -> str:
    """Return the colour at *position* (0 to 1) of a scale, by linear steps between its stops."""
    place = min(max(position, 0.0), 1.0) * (len(stops) - 1)
    index = min(int(place), len(stops) - 2)
    share = place - index
    pair = [[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in stops[index : index + 2]]
    return "#" + "".join(
        f"{round(a + (b - a) * share):02x}" for a, b in zip(pair[0], pair[1], strict=True)
    )


class _Canvas:
    """Coordinates of one figure, and the hatch patterns it has used so far."""

    def __init__(self, name: str, left: float) -> None:
        self._name = name
        self._left = left
        self._right = float(WIDTH - MARGIN_RIGHT)
        self._patterns: dict[tuple[str, Hatch], str] = {}

    def definitions(self) -> str:
        """Return ``<defs>`` with the patterns that were used."""
        patterns = "".join(
            f'<pattern id="{identity}" width="7" height="7" patternUnits="userSpaceOnUse">'
            f'<path d="{_hatch_path(hatch)}" stroke="{colour}" stroke-width="1.3" fill="none"/>'
            "</pattern>"
            for (colour, hatch), identity in self._patterns.items()
        )
        return f"<defs>{patterns}</defs>" if patterns else ""

    def _fill(self, colour: str, hatch: Hatch) -> str:
        if not hatch:
            return colour
        key = (colour, hatch)
        identity = self._patterns.setdefault(key, f"hatch-{self._name}-{len(self._patterns)}")
        return f"url(#{identity})"

    def _text(self, x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
        return (
            f'<text class="ink" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" fill="{INK}"{more}>'
            f"{html.escape(printable(text))}</text>"
        )

    def panel(self, figure: Drawing, panel: Panel, top: float, *, labelled: bool) -> Iterator[str]:
        """Yield the elements of one panel whose plot area begins at *top*."""
        low, high = value_bounds(panel)
        scale = _Scale(self._left, self._right, top, panel, figure.x_range, (low, high))
        yield self._heading(panel, top)
        yield from self._axes(panel, scale, labelled=labelled)
        # marks lie under lines and bars, but over a heat map, which would cover them
        covering = any(isinstance(trace, Cells) for trace in panel.traces)
        if not covering:
            yield from self._marks(figure, panel, scale)
        if panel.note:
            yield self._text(
                (self._left + self._right) / 2,
                top + panel.height / 2,
                panel.note,
                "middle",
                ' font-style="italic"',
            )
        for trace in panel.traces:
            if isinstance(trace, Line):
                yield from self._line(trace, scale)
            elif isinstance(trace, Area):
                yield from self._area(trace, scale)
            elif isinstance(trace, Spans):
                yield from self._spans(trace, scale)
            elif isinstance(trace, Points):
                yield from self._points(trace, scale)
            elif isinstance(trace, Cells):
                yield from self._cells(trace, scale)
            elif isinstance(trace, Symbols):
                yield from self._symbols(trace, scale)
            else:
                yield from self._arrow(trace, scale)
        if covering:
            yield from self._marks(figure, panel, scale)
        for level in panel.levels:
            yield from self._level(level, scale)

    def _heading(self, panel: Panel, top: float) -> str:
        unit = f" ({panel.unit})" if panel.unit else ""
        parts = [self._text(0, top - 8, panel.title + unit, more=' font-weight="600"')]
        x = self._right
        for trace in reversed(panel.traces):
            if isinstance(trace, Arrow | Symbols) or not trace.name:
                continue
            name = shorten(printable(trace.name), 34)
            x -= len(name) * CHARACTER
            parts.append(self._text(x, top - 8, name))
            x -= 24
            parts.append(self._swatch(trace, x, top - 12))
            x -= 14
        return "".join(parts)

    def _swatch(self, trace: Line | Area | Spans | Points | Cells, x: float, y: float) -> str:
        if isinstance(trace, Line):
            dash = _DASHES[trace.dash]
            return (
                f'<line x1="{_n(x)}" y1="{_n(y)}" x2="{_n(x + 19)}" y2="{_n(y)}" '
                f'{_stroke(trace.colour)} stroke-width="2"'
                + (f' stroke-dasharray="{dash}"/>' if dash else "/>")
            )
        if isinstance(trace, Points):
            return _symbol(trace.symbol, x + 11, y, trace.colour)
        if isinstance(trace, Cells):
            return "".join(
                f'<rect x="{_n(x + index * 4)}" y="{_n(y - 5)}" width="4" height="10" '
                f'fill="{stop}"/>'
                for index, stop in enumerate(VIRIDIS)
            )
        return (
            f'<rect x="{_n(x)}" y="{_n(y - 5)}" width="18" height="10" '
            f'fill="{self._fill(trace.colour, trace.hatch)}" stroke="{trace.colour}"/>'
        )

    def _axes(self, panel: Panel, scale: _Scale, *, labelled: bool) -> Iterator[str]:
        bottom = scale.top + panel.height
        if panel.rows:
            for index, name in enumerate(panel.rows):
                y = scale.row(index)
                yield self._text(self._left - 8, y + 4, shorten(printable(name), 27), "end")
                yield self._rule(self._left, y + scale.row_height / 2, self._right)
        else:
            for value in value_ticks(scale.low, scale.high):
                y = scale.y(value)
                yield self._rule(self._left, y, self._right)
                yield self._text(self._left - 8, y + 4, _tick_text(value), "end")
        if panel.columns:
            width = (self._right - self._left) / len(panel.columns)
            most = max(3, int(width / CHARACTER))
            for index, name in enumerate(panel.columns):
                yield self._text(
                    self._left + (index + 0.5) * width,
                    bottom + 15,
                    shorten(printable(name), most),
                    "middle",
                )
        elif scale.times is not None:
            for moment, text in time_ticks(*scale.times):
                x = scale.x(moment)
                yield (
                    f'<line class="rule" x1="{_n(x)}" y1="{_n(scale.top)}" x2="{_n(x)}" '
                    f'y2="{_n(bottom + (4 if labelled else 0))}" stroke="{RULE}"/>'
                )
                if labelled:
                    # the first and last label must not leave the picture
                    inside = min(max(x, self._left), self._right - 22)
                    yield self._text(inside, bottom + 16, text, "middle")
            if labelled and abs(scale.times[0]) >= CLOCKLESS_MS:
                yield self._text(0, bottom + 16, "UTC")
        yield (
            f'<line class="axis" x1="{_n(self._left)}" y1="{_n(bottom)}" x2="{_n(self._right)}" '
            f'y2="{_n(bottom)}" stroke="{GREY}"/>'
        )

    def _rule(self, left: float, y: float, right: float) -> str:
        return (
            f'<line class="rule" x1="{_n(left)}" y1="{_n(y)}" x2="{_n(right)}" y2="{_n(y)}" '
            f'stroke="{RULE}"/>'
        )

    def _marks(self, figure: Drawing, panel: Panel, scale: _Scale) -> Iterator[str]:
        if scale.times is None or panel.columns:
            return
        first = panel is figure.panels[0]
        taken = -math.inf
        for mark in sorted(figure.marks, key=lambda mark: (mark.start, mark.label)):
            x, end = scale.x(mark.start), scale.x(mark.end)
            top, height = scale.top, panel.height
            if end - x > 1:
                yield (
                    f'<rect x="{_n(x)}" y="{_n(top)}" width="{_n(end - x)}" height="{height}" '
                    f'fill="{mark.colour}" fill-opacity="0.22"/>'
                )
            yield (
                f'<line x1="{_n(x)}" y1="{_n(top)}" x2="{_n(x)}" y2="{_n(top + height)}" '
                f'{_stroke(mark.colour)} stroke-dasharray="3 2"/>'
            )
            width = len(mark.label) * CHARACTER
            start = min(x, self._right - width)
            if first and mark.label and start > taken:
                yield self._text(start, scale.top - HEADING - 2, mark.label)
                taken = start + width + 8

    def _line(self, line: Line, scale: _Scale) -> Iterator[str]:
        path = "".join(_pieces(scale, line.x, line.y, step=line.step))
        dash = _DASHES[line.dash]
        if path:
            yield (
                f'<path d="{path}" fill="none" {_stroke(line.colour)} stroke-width="1.8" '
                f'stroke-linejoin="round"' + (f' stroke-dasharray="{dash}"/>' if dash else "/>")
            )
        alone = _isolated(line.y)
        for index in np.flatnonzero(np.isfinite(line.y) if line.marker else alone):
            x, y = scale.x(float(line.x[index])), scale.y(float(line.y[index]))
            yield _symbol(line.marker or "circle", x, y, line.colour, size=2.6)

    def _area(self, area: Area, scale: _Scale) -> Iterator[str]:
        for part in _runs(np.isfinite(area.low) & np.isfinite(area.high)):
            forth = [
                (scale.x(float(x)), scale.y(float(y)))
                for x, y in zip(area.x[part], area.high[part], strict=True)
            ]
            back = [
                (scale.x(float(x)), scale.y(float(y)))
                for x, y in zip(area.x[part][::-1], area.low[part][::-1], strict=True)
            ]
            corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in forth + back)
            yield f'<polygon points="{corners}" fill="{area.colour}" fill-opacity="0.14"/>'
            if area.hatch:
                fill = self._fill(area.colour, area.hatch)
                yield f'<polygon points="{corners}" fill="{fill}"/>'

    def _spans(self, spans: Spans, scale: _Scale) -> Iterator[str]:
        height = min(16.0, scale.row_height * 0.7)
        for span in spans.spans:
            x, end = scale.x(span.start), scale.x(span.end)
            y = scale.row(span.row) - height / 2
            width = max(1.5, end - x)
            box = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
            yield (
                f'<rect {box} fill="{self._fill(spans.colour, spans.hatch)}" '
                f'stroke="{spans.colour}" fill-opacity="{1 if spans.hatch else 0.45}"/>'
            )
            room = int((width - 6) / CHARACTER)
            baseline = y + height / 2 + 4
            text = printable(span.label)
            if len(text) <= room or (len(spans.spans) > 1 and room >= 4):
                yield self._text(x + 4, baseline, shorten(text, room))
            elif len(spans.spans) == 1 and text:
                beside = end + 6 + len(text) * CHARACTER < self._right
                yield (
                    self._text(end + 6, baseline, text)
                    if beside
                    else self._text(x - 6, baseline, text, "end")
                )

    def _points(self, points: Points, scale: _Scale) -> Iterator[str]:
        rows = bool(scale.panel.rows)
        taken: dict[float, float] = {}
        for x_value, y_value, label in zip(points.x, points.y, points.labels, strict=True):
            x = scale.x(float(x_value))
            y = scale.row(float(y_value)) if rows else scale.y(float(y_value))
            yield (
                f"<g><title>{html.escape(printable(label))}</title>"
                f"{_symbol(points.symbol, x, y, points.colour)}</g>"
            )
            text = shorten(printable(label), 40)
            width = len(text) * CHARACTER
            fits_right = x + 8 + width <= self._right
            start = x + 8 if fits_right else x - 8 - width
            if points.show_labels and start > taken.get(y, -math.inf):
                yield self._text(start, y + 4, text)
                taken[y] = max(x, start + width) + 6

    def _cells(self, cells: Cells, scale: _Scale) -> Iterator[str]:
        height = scale.row_height
        bottom, span = math.log10(cells.low), math.log10(cells.high / cells.low) or 1.0
        for row, values in enumerate(cells.values):
            y = scale.row(row) - height / 2
            colours = [
                ""
                if not math.isfinite(value)
                else blend((math.log10(max(value, cells.low)) - bottom) / span)
                for value in values
            ]
            start = 0
            for column in range(1, len(colours) + 1):
                if column < len(colours) and colours[column] == colours[start]:
                    continue
                if colours[start]:
                    x, end = scale.x(float(cells.edges[start])), scale.x(float(cells.edges[column]))
                    yield (
                        f'<rect x="{_n(x)}" y="{_n(y + 0.5)}" width="{_n(end - x + 0.3)}" '
                        f'height="{_n(height - 1)}" fill="{colours[start]}"/>'
                    )
                start = column

    def _symbols(self, symbols: Symbols, scale: _Scale) -> Iterator[str]:
        width = (self._right - self._left) / max(1, len(scale.panel.columns))
        height = scale.row_height
        for row, signs in enumerate(symbols.signs):
            for column, sign in enumerate(signs):
                x, y = self._left + column * width, scale.row(row)
                box = (
                    f'x="{_n(x + 1)}" y="{_n(y - height / 2 + 1)}" width="{_n(width - 2)}" '
                    f'height="{_n(height - 2)}"'
                )
                if not sign:
                    yield f'<rect {box} fill="{self._fill(GREY, "/")}" fill-opacity="0.5"/>'
                    continue
                value = float(symbols.tints[row][column])
                colour = BLUE if value > 0 else VERMILLION
                if value:
                    opacity = _n(0.15 + 0.35 * min(1.0, abs(value)))
                    yield f'<rect {box} fill="{colour}" fill-opacity="{opacity}"/>'
                weight = ' font-weight="600"' if value else ' fill-opacity="0.55"'
                yield self._text(x + width / 2, y + 4, sign, "middle", weight)

    def _arrow(self, arrow: Arrow, scale: _Scale) -> Iterator[str]:
        x, end, y = scale.x(arrow.start), scale.x(arrow.end), scale.y(arrow.y)
        yield (
            f'<path class="ink-line" d="M{_n(x)} {_n(y)}H{_n(end)}M{_n(x + 5)} {_n(y - 4)}'
            f'L{_n(x)} {_n(y)}l5 4M{_n(end - 5)} {_n(y - 4)}L{_n(end)} {_n(y)}l-5 4" fill="none" '
            f'stroke="{INK}" stroke-width="1.4"/>'
        )
        width = len(arrow.label) * CHARACTER
        middle = min(max((x + end) / 2, self._left + width / 2), self._right - width / 2)
        yield self._text(
            middle, min(y + 15, scale.top + scale.panel.height - 4), arrow.label, "middle"
        )

    def _level(self, level: Level, scale: _Scale) -> Iterator[str]:
        y = scale.y(level.y)
        yield (
            f'<line x1="{_n(self._left)}" y1="{_n(y)}" x2="{_n(self._right)}" y2="{_n(y)}" '
            f'{_stroke(level.colour)} stroke-width="1.4" '
            f'stroke-dasharray="{_DASHES[level.dash]}"/>'
        )
        yield self._text(self._left + 4, y - 4, level.label)


class _Scale:
    """Where a value, a row or an instant lies in one panel."""

    def __init__(
        self,
        left: float,
        right: float,
        top: float,
        panel: Panel,
        times: tuple[float, float] | None,
        bounds: tuple[float, float],
    ) -> None:
        self.panel = panel
        self.top = top
        self.times = times
        self.low, self.high = bounds
        self.row_height = panel.height / max(1, len(panel.rows))
        self._left, self._right = left, right

    def x(self, moment: float) -> float:
        if self.times is None:
            return self._left
        start, end = self.times
        share = (moment - start) / ((end - start) or 1.0)
        return self._left + min(max(share, 0.0), 1.0) * (self._right - self._left)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.top + (1 - share) * self.panel.height

    def row(self, index: float) -> float:
        return self.top + (index + 0.5) * self.row_height


def _stroke(colour: str) -> str:
    """Return the stroke; ink carries a class, so that it turns light on a dark page."""
    return f'class="ink-line" stroke="{colour}"' if colour == INK else f'stroke="{colour}"'


def _hatch_path(hatch: Hatch) -> str:
    rising, falling = "M-1 8L8 -1", "M-1 -1L8 8"
    return {"/": rising, "\\": falling, "x": rising + falling}.get(hatch, "")


def _runs(good: np.ndarray) -> list[slice]:
    """Return the stretches of at least two True values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], good.astype("int8"), [0]))))
    return [
        slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= 2
    ]


def _isolated(y: Numbers) -> np.ndarray:
    """Return which values have a gap on both sides, so that a line alone would hide them."""
    good = np.concatenate(([False], np.isfinite(y), [False]))
    alone: np.ndarray = good[1:-1] & ~good[:-2] & ~good[2:]
    return alone


def _pieces(scale: _Scale, x: Numbers, y: Numbers, *, step: bool) -> Iterator[str]:
    for part in _runs(np.isfinite(y)):
        start = True
        for x_value, y_value in zip(x[part], y[part], strict=True):
            px, py = _n(scale.x(float(x_value))), _n(scale.y(float(y_value)))
            if start:
                yield f"M{px} {py}"
            else:
                yield f"H{px}V{py}" if step else f"L{px} {py}"
            start = False


def _symbol(symbol: str, x: float, y: float, colour: str, *, size: float = 4.5) -> str:
    look = f'fill="{colour}" stroke="{colour}"'
    r, d = _n(size), _n(2 * size)
    top, left = f"{_n(x)} {_n(y - size)}", f"{_n(x - size)} {_n(y - size)}"
    if symbol == "x":
        path, look = f"M{left}l{d} {d}m0 -{d}l-{d} {d}", f'fill="none" stroke="{colour}"'
        return f'<path d="{path}" {look} stroke-width="2"/>'
    paths = {
        "square": f"M{left}h{d}v{d}h-{d}z",
        "diamond": f"M{top}l{r} {r}l-{r} {r}l-{r} -{r}z",
        "triangle-up": f"M{top}l{r} {d}h-{d}z",
    }
    if symbol in paths:
        return f'<path d="{paths[symbol]}" {look}/>'
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{r}" {look}/>'

"""What a chart is: frozen panels of traces, with the question it settles, its words and its table.

Knows shapes, colours and axes; refuses to know how they are shown, and lag, causes or frames, which
are the business of ``lagkit.charts``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Dash = Literal["solid", "dash", "dot", "dashdot"]
Hatch = Literal["", "/", "\\", "x"]
Symbol = Literal["circle", "square", "diamond", "triangle-up", "x"]

# Okabe and Ito's palette (jfly.uni-koeln.de/color), safe for the common colour blindnesses.
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
INK = "#1b1f24"
GREY = "#6b7280"

# Five stops of matplotlib's viridis (Smith and van der Walt): rises evenly in lightness.
VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")

GAP_STEPS = 2.5
"""More usual steps than this between two samples are a gap; one lost scrape makes two."""

MOST_POINTS = 1500
"""Points a trace may hold after thinning: two per pixel of a wide screen would not be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line over time; NaN in *y* is a gap and is drawn as one. *x* is epoch milliseconds."""

    name: str
    x: Numbers
    y: Numbers
    colour: str
    dash: Dash = "solid"
    step: bool = False
    """Hold each value until the next one (a count of members, not a flow)."""
    marker: Symbol | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """The surface between two lines, hatched so that it does not depend on colour."""

    name: str
    x: Numbers
    low: Numbers
    high: Numbers
    colour: str
    hatch: Hatch = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A bar from one instant to another in a row of its panel."""

    row: int
    start: float
    end: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Spans:
    """Bars of one kind."""

    name: str
    spans: tuple[Span, ...]
    colour: str
    hatch: Hatch = ""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Separate marks; *rows* is the row, or the value on the y axis of a panel without rows."""

    name: str
    x: Numbers
    y: Numbers
    labels: tuple[str, ...]
    colour: str
    symbol: Symbol = "circle"
    show_labels: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A heat map: *values* has one row per panel row; NaN is *no data* and left open."""

    name: str
    edges: Numbers
    """Borders of the columns, one more than there are columns."""
    values: Numbers
    low: float
    high: float
    """Bounds of the logarithmic colour scale; values outside take the colour of the bound."""
    unit: str


@dataclass(frozen=True, slots=True, eq=False)
class Symbols:
    """A matrix of signs; ``""`` is *no data* and hatched. *tints* run from −1 to 1."""

    name: str
    signs: tuple[tuple[str, ...], ...]
    tints: Numbers


@dataclass(frozen=True, slots=True)
class Arrow:
    """A horizontal arrow with a label, such as the longest delay in a cumulative picture."""

    start: float
    end: float
    y: float
    label: str


Trace = Line | Area | Spans | Points | Cells | Symbols | Arrow


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line of a panel, such as the promise."""

    y: float
    label: str
    colour: str = VERMILLION
    dash: Dash = "dash"


@dataclass(frozen=True, slots=True)
class Mark:
    """An instant or an interval drawn through every panel, such as the onset."""

    start: float
    end: float
    label: str
    colour: str = PURPLE


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot area. With *rows* its y axis is a list of names, drawn from the top."""

    title: str
    unit: str
    traces: tuple[Trace, ...]
    levels: tuple[Level, ...] = ()
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Names on the x axis; empty: the axis is time."""
    height: int = 170
    from_zero: bool = True
    note: str = ""
    """Why there is nothing to draw, or what the reader must know to read it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under column names. *omitted* rows were left out to stay readable."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a test can compare of a figure: how many traces and points, bounds, hash of the data."""

    traces: int
    points: int
    low: float | None
    high: float | None
    digest: str

    def __str__(self) -> str:
        """Return it on one line, for the output of a notebook cell."""
        bounds = "no values" if self.low is None else f"{self.low:.6g} to {self.high:.6g}"
        return f"{self.traces} traces, {self.points} points, {bounds}, {self.digest}"


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A chart as data."""

    name: str
    title: str
    question: str
    alt: str
    caption: str
    panels: tuple[Panel, ...]
    table: Table
    x_range: tuple[float, float] | None = None
    """Epoch milliseconds at both ends of the time axis; None: no time axis."""
    marks: tuple[Mark, ...] = field(default=())

    @property
    def fingerprint(self) -> Fingerprint:
        """The numbers that change when the picture does."""
        digest = hashlib.sha256(self.name.encode())
        traces = points = 0
        low, high = np.inf, -np.inf
        for panel in self.panels:
            for trace in panel.traces:
                traces += 1
                digest.update(f"{type(trace).__name__} {trace_name(trace)}".encode())
                for values, measured in _arrays(trace):
                    rounded = np.round(values, 6) + 0.0  # + 0.0: one zero, not two
                    digest.update(rounded.tobytes())
                    if measured:
                        finite = values[np.isfinite(values)]
                        points += int(finite.size)
                        if finite.size:
                            low, high = min(low, finite.min()), max(high, finite.max())
        found = np.isfinite(low)
        return Fingerprint(
            traces,
            points,
            float(low) if found else None,
            float(high) if found else None,
            digest.hexdigest()[:16],
        )


def trace_name(trace: Trace) -> str:
    """Return what the trace is called in a legend."""
    return trace.label if isinstance(trace, Arrow) else trace.name


def _arrays(trace: Trace) -> list[tuple[Numbers, bool]]:
    """Return a trace's numbers, each with whether it is measured (not an axis position)."""
    if isinstance(trace, Line | Points):
        return [(trace.x, False), (trace.y, True)]
    if isinstance(trace, Area):
        return [(trace.x, False), (trace.low, True), (trace.high, True)]
    if isinstance(trace, Cells):
        return [(trace.edges, False), (trace.values, True)]
    if isinstance(trace, Symbols):
        return [(trace.tints, True)]
    if isinstance(trace, Arrow):
        return [
            (np.array([trace.start, trace.end], dtype="float64"), False),
            (np.array([trace.y], dtype="float64"), True),
        ]
    ends = [(span.row, span.start, span.end) for span in trace.spans]
    return [(np.array(ends, dtype="float64").reshape(-1), False)]


def with_gaps(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Return the line with a NaN wherever samples are missing, so that a gap is seen as a gap.

    A gap is more than GAP_STEPS times the median distance between samples.
    """
    if x.size < 3:
        return x, y
    steps = np.diff(x)
    holes = np.flatnonzero(steps > GAP_STEPS * np.median(steps))
    if not holes.size:
        return x, y
    return (
        np.insert(x, holes + 1, (x[holes] + x[holes + 1]) / 2),
        np.insert(y, holes + 1, np.nan),
    )


def thin(x: Numbers, y: Numbers, limit: int = MOST_POINTS) -> tuple[Numbers, Numbers]:
    """Return at most *limit* points: least and greatest of each bucket, and a NaN if it holds one.

    Never a mean, because a mean hides the spike one is looking for.
    """
    if x.size <= limit:
        return x, y
    keep: set[int] = {0, x.size - 1}
    for bucket in np.array_split(np.arange(x.size), max(1, (limit - 2) // 3)):
        values = y[bucket]
        finite = bucket[np.isfinite(values)]
        if finite.size:
            keep.update((int(finite[y[finite].argmin()]), int(finite[y[finite].argmax()])))
        if finite.size < bucket.size:
            keep.add(int(bucket[~np.isfinite(values)][0]))
    chosen = np.array(sorted(keep))
    return x[chosen], y[chosen]

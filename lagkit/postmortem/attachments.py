"""``attachments.zip``: all that a post-mortem rests on, in one file that stands alone.

An issue tracker takes it as it is, and a reader years later needs nothing else: the texts, the
captures, every figure as SVG and its numbers as CSV, the questions that were asked, and a manifest
with a hash of each. Same content, same bytes. Knows files; refuses to judge.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lagkit.figure.drawing import (
    Area,
    Arrow,
    Cells,
    Line,
    Points,
    Spans,
    Symbols,
    Trace,
    trace_name,
)

if TYPE_CHECKING:
    from lagkit.figure import Figure
    from lagkit.postmortem.model import Postmortem

FORMAT = "lagkit.attachments/1"
MANIFEST = "manifest.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date makes the same content the same bytes
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = ("panel", "trace", "kind", "time_utc", "until_utc", "row", "value", "high", "label")
_WHAT = {
    "postmortem.md": "the post-mortem, to be edited; marks between its sections keep edits",
    "postmortem.html": "the same as one page that opens offline",
    "postmortem.pdf": "the same as PDF/A-3, the captures embedded",
    "postmortem.json": "every number of it, by templates/postmortem.schema.json of lagkit",
    "postmortem.ipynb": "the notebook that was run, to go on from",
    "incident.lagkit": "the first capture: a zip of Parquet files, read by pandas or DuckDB",
    "later.lagkit": "the later capture, of the recovery",
    "similar.json": "signatures of the earlier incidents that were compared",
    "capacity.json": "the capacity report whose action items were taken",
    "queries.csv": "every question that was asked, as it was asked",
    "README.txt": "what is in here",
}


def attachments(made: Postmortem, figures: Sequence[Figure], files: Mapping[str, bytes]) -> bytes:
    """Return the zip of *files* (name → content) with the figures and queries of *made*."""
    members = dict(files)
    for figure in figures:
        members[f"figures/{figure.name}.svg"] = f"{figure.svg()}\n".encode()
        members[f"figures/{figure.name}.csv"] = figure_csv(figure)
    members["queries.csv"] = _csv(
        ("id", "source", "question", "outcome", "rows", "detail"),
        (
            (query.id, query.source, query.statement, query.outcome, query.rows, query.detail)
            for query in made.queries
        ),
    )
    members["README.txt"] = _readme(made, members)
    manifest = {
        "format": FORMAT,
        "incident": made.incident.id,
        "group": made.incident.group,
        "cluster": made.incident.cluster,
        "lagkit_version": made.lagkit_version,
        "files": [
            {
                "name": name,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "what": _what(name),
            }
            for name, content in sorted(members.items())
        ],
        "queries": [
            {"id": query.id, "source": query.source, "statement": query.statement}
            for query in made.queries
        ],
    }
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    members[MANIFEST] = text.encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, members[name], compresslevel=9)
    return buffer.getvalue()


def _what(name: str) -> str:
    if name.startswith("figures/"):
        return "a figure" if name.endswith(".svg") else "the numbers drawn in that figure"
    return _WHAT.get(name, "")


def _readme(made: Postmortem, members: Mapping[str, bytes]) -> bytes:
    lines = [
        f"Post-mortem of {made.incident.id}, status {made.status}.",
        "Read postmortem.md or open postmortem.html; nothing here needs a network.",
        "",
        *(f"{name:<28}{_what(name)}" for name in sorted({*members, "README.txt"})),
        f"{MANIFEST:<28}size and SHA-256 of each",
        "",
        "Make it again from the capture alone:",
        "  pip install lagkit",
        "  lagkit postmortem incident.lagkit"
        + (" --also later.lagkit" if "later.lagkit" in members else "")
        + (f" --zone {made.zone}" if made.zone != "UTC" else ""),
        "",
    ]
    return "\n".join(lines).encode()


def figure_csv(figure: Figure) -> bytes:
    """Return what *figure* draws, one row a point; times are UTC."""
    rows = [
        (panel.title, *row)
        for panel in figure.panels
        for trace in panel.traces
        for row in _rows(trace, panel.rows, panel.columns)
    ]
    return _csv(COLUMNS, rows)


def _rows(trace: Trace, names: Sequence[str], columns: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """Return (trace, kind, time, until, row, value, high, label) of each point."""
    name, kind = trace_name(trace), type(trace).__name__.lower()
    if isinstance(trace, Line | Points):
        labels = trace.labels if isinstance(trace, Points) else ("",) * len(trace.x)
        moments = _times(trace.x)
        for at, value, label in zip(moments, trace.y, labels, strict=True):
            row = _named(names, value) if names else ""
            yield name, kind, at, "", row, "" if names else _number(value), "", label
    elif isinstance(trace, Area):
        for at, low, high in zip(_times(trace.x), trace.low, trace.high, strict=True):
            yield name, kind, at, "", "", _number(low), _number(high), ""
    elif isinstance(trace, Spans):
        for span in trace.spans:
            start, end = _times(np.array([span.start, span.end]))
            yield name, kind, start, end, _named(names, span.row), "", "", span.label
    elif isinstance(trace, Cells):
        edges = _times(trace.edges)
        for index, values in enumerate(trace.values):
            for column, value in enumerate(values):
                begin, end = edges[column], edges[column + 1]
                yield name, kind, begin, end, _named(names, index), _number(value), "", trace.unit
    elif isinstance(trace, Symbols):
        for index, signs in enumerate(trace.signs):
            for column, sign in enumerate(signs):
                where = columns[column] if column < len(columns) else str(column)
                yield name, kind, "", "", _named(names, index), sign or "not checked", "", where
    elif isinstance(trace, Arrow):
        start, end = _times(np.array([trace.start, trace.end]))
        yield name, kind, start, end, "", _number(trace.y), "", trace.label


def _times(millis: Any) -> list[str]:
    moments = pd.to_datetime(np.rint(np.asarray(millis, dtype="float64")), unit="ms", utc=True)
    return [moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" for moment in moments]


def _named(names: Sequence[str], row: float) -> str:
    index = int(row)
    return names[index] if 0 <= index < len(names) else str(index)


def _number(value: float) -> str:
    return f"{value:.10g}" if np.isfinite(value) else ""


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value

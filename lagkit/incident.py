"""The incident: everything that was seen, frozen, in memory and in one file.

``NAME.lagkit`` is a zip of zstd Parquet files, one per frame that has rows, and ``incident.json``;
pandas, DuckDB or Polars read it without lagkit. It is written before anything is analysed, in one
atomic step, and opened as what it is: a file from somewhere else. The module asks no cluster and
computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pandas as pd

from lagkit import archive, frames
from lagkit.disk import write_whole
from lagkit.model import SourceReport, timestamp_text
from lagkit.runbook import Runbook

FORMAT = "lagkit.incident/1"
_KIND = archive.Kind(
    format=FORMAT,
    document="incident.json",
    noun="incident",
    article="an",
    made_by="`lagkit capture GROUP` or `lagkit investigate`",
    frames=frames.FRAMES,
)
_PRIVATE = 0o600
_LONGEST_WINDOW = pd.Timedelta("3660D")
_SOURCE_STATUS = get_args(get_type_hints(SourceReport)["status"])


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not seen: by which source, why, and what would fix it."""

    source: str
    what: str
    why: str
    fix: str = ""


@dataclass(frozen=True, eq=False)
class Incident:
    """One incident as captured. Frames are attributes: ``incident.offsets``, ``incident.pods``.

    Two incidents are equal when they would be the same file.
    """

    id: str
    cluster: str
    group: str
    topics: tuple[str, ...]
    start: pd.Timestamp
    end: pd.Timestamp
    captured_at: pd.Timestamp
    lagkit_version: str
    runbook: Runbook
    tables: Mapping[str, pd.DataFrame] = field(repr=False)
    sources: Mapping[str, SourceReport] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    coverage: tuple[Gap, ...] = ()
    redactions: Mapping[str, int] = field(default_factory=dict)

    def __getattr__(self, name: str) -> pd.DataFrame:
        """Return the frame called *name* (see ``lagkit.frames``)."""
        if name in frames.FRAMES:
            tables = self.__dict__.get("tables", {})
            return tables[name] if name in tables else frames.empty(name)
        msg = f"an incident has no frame or field {name!r}"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Incident):
            return NotImplemented
        return self is other or self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.id)

    def __dir__(self) -> list[str]:
        """List frames among the attributes, for completion in a notebook."""
        return sorted({*super().__dir__(), *frames.FRAMES})

    def __repr__(self) -> str:
        """Return one line with what an engineer asks first."""
        sources = ", ".join(f"{name} {report.status}" for name, report in self.sources.items())
        return (
            f"<Incident {self.group} on {', '.join(self.topics) or 'no topic'} "
            f"{timestamp_text(self.start)}..{timestamp_text(self.end)}; {sources}>"
        )

    def readable(self, source: str) -> bool:
        """Whether *source* gave anything."""
        report = self.sources.get(source)
        return report is not None and report.status in ("ok", "partial")

    def save(self, path: str | Path, *, new: bool = False) -> Path:
        """Write the incident to *path* in one atomic step and return the path.

        The same incident gives the same bytes. On any failure the old file, if there was one, is
        still whole. Only its owner may read it: logs are in it.

        Raises
        ------
        FileExistsError
            *new* is wanted and *path* is there already.
        OSError
            The folder or the disk does not take the file.
        """
        content = self.to_bytes()
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(target, content, mode=_PRIVATE, new=new)

    def to_bytes(self) -> bytes:
        """Return the content of the incident file."""
        meta = {
            "id": self.id,
            "cluster": self.cluster,
            "group": self.group,
            "topics": list(self.topics),
            "start": timestamp_text(self.start),
            "end": timestamp_text(self.end),
            "captured_at": timestamp_text(self.captured_at),
            "lagkit_version": self.lagkit_version,
            "sources": {
                name: {"status": r.status, "detail": r.detail, "seconds": r.seconds}
                for name, r in self.sources.items()
            },
            "facts": {name: dict(facts) for name, facts in self.facts.items()},
            "coverage": [
                {"source": gap.source, "what": gap.what, "why": gap.why, "fix": gap.fix}
                for gap in self.coverage
            ],
            "redactions": dict(self.redactions),
            "runbook": self.runbook.model_dump(mode="json"),
        }
        return archive.pack(_KIND, meta, self.tables)


def open_incident(path: str | Path) -> Incident:
    """Open an incident file.

    A frame that the file does not hold had no rows: it is empty. Frames that a newer lagkit added
    are left out; columns and types are checked against ``lagkit.frames``, contents against the
    checksums in the file.

    Raises
    ------
    NothingThere
        No such file, not an incident file, damaged, or larger than lagkit opens; says which.
    """
    file = Path(path)
    meta, tables = archive.unpack(_KIND, file)
    try:
        return _from_meta(meta, tables)
    except Exception as error:  # noqa: BLE001 - pydantic, pandas and missing keys have their own
        raise archive.damaged(_KIND, file, error) from None


def _time(text: str) -> pd.Timestamp:
    moment = pd.Timestamp(text)
    if moment is pd.NaT:
        msg = f"{text!r} is no time"
        raise ValueError(msg)
    return moment.tz_convert("UTC").as_unit("us")


def _source_report(status: str, detail: str, seconds: float) -> SourceReport:
    if status not in _SOURCE_STATUS:
        msg = f"{status!r} is no status of a source"
        raise ValueError(msg)
    return SourceReport(status, str(detail), float(seconds))  # type: ignore[arg-type]


def _from_meta(meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Incident:
    start, end = _time(meta["start"]), _time(meta["end"])
    if not pd.Timedelta(0) < end - start <= _LONGEST_WINDOW:
        msg = f"its window, {meta['start']} to {meta['end']}, is none"
        raise ValueError(msg)
    return Incident(
        id=str(meta["id"]),
        cluster=str(meta["cluster"]),
        group=str(meta["group"]),
        topics=tuple(map(str, meta["topics"])),
        start=start,
        end=end,
        captured_at=_time(meta["captured_at"]),
        lagkit_version=str(meta["lagkit_version"]),
        runbook=Runbook.model_validate(meta["runbook"]),
        tables=tables,
        sources={name: _source_report(**report) for name, report in meta["sources"].items()},
        facts={
            name: {str(key): str(value) for key, value in facts.items()}
            for name, facts in meta["facts"].items()
        },
        coverage=tuple(
            Gap(**{key: str(value) for key, value in gap.items()}) for gap in meta["coverage"]
        ),
        redactions={str(kind): int(number) for kind, number in meta["redactions"].items()},
    )

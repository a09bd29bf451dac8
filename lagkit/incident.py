"""The incident: everything that was seen, frozen, in memory and in one file.

``NAME.lagkit`` is an uncompressed zip of zstd Parquet files, one per frame, and ``incident.json``;
pandas, DuckDB or Polars read it without lagkit. It is written before anything is analysed, in one
atomic step, and opened as what it is: a file from somewhere else. The module asks no cluster and
computes nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pandas as pd

from lagkit import frames
from lagkit.errors import NothingThere
from lagkit.model import SourceReport, timestamp_text
from lagkit.runbook import Runbook

FORMAT = "lagkit.incident/1"
_META = "incident.json"
# A fixed date makes the same incident the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# Bounds for opening a file from somewhere else.
_MAX_MEMBERS = 200
_MAX_BYTES = 2 * 1024**3
_MAX_META_BYTES = 16 * 1024**2
# Run-length encoding makes a billion equal rows a few bytes, so bytes alone are no bound.
_MAX_CELLS = 200_000_000
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

    def save(self, path: str | Path) -> Path:
        """Write the incident to *path* in one atomic step and return the path.

        The same incident gives the same bytes. On any failure the old file, if there was one, is
        still whole.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return target

    def to_bytes(self) -> bytes:
        """Return the content of the incident file."""
        members = {
            f"{name}.parquet": _parquet(self.tables[name])
            for name in frames.FRAMES
            if name in self.tables
        }
        meta = {
            "format": FORMAT,
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
            "frames": {
                name.removesuffix(".parquet"): {
                    "rows": len(self.tables[name.removesuffix(".parquet")]),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
                for name, content in members.items()
            },
        }
        members[_META] = (
            json.dumps(meta, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        ).encode()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(members):
                entry = zipfile.ZipInfo(name, _ZIP_DATE)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, members[name])
        return buffer.getvalue()


def open_incident(path: str | Path) -> Incident:
    """Open an incident file.

    Frames that a newer lagkit added are left out; columns and types are checked against
    ``lagkit.frames``, contents against the checksums in the file.

    Raises
    ------
    NothingThere
        No such file, not an incident file, damaged, or larger than lagkit opens; says which.
    """
    file = Path(path)
    try:
        with zipfile.ZipFile(file) as archive:
            meta = _read_meta(file, archive)
            tables = {
                name: _read_frame(file, archive, name, meta["frames"][name])
                for name in frames.FRAMES
                if name in meta["frames"]
            }
        return _from_meta(meta, tables)
    except FileNotFoundError:
        raise _refusal(file, "there is no such file") from None
    except IsADirectoryError:
        raise _refusal(
            file, "it is a folder", hint=f"Did you mean {file / 'incident.lagkit'}?"
        ) from None
    except (zipfile.BadZipFile, EOFError):
        raise _refusal(file, "it is not a zip archive, or was cut off") from None
    except OSError as error:
        raise _refusal(file, str(error)) from None
    except NothingThere:
        raise
    except Exception as error:  # noqa: BLE001 - zip, zlib, JSON, Arrow and pydantic have their own
        raise _refusal(file, f"its content is damaged ({type(error).__name__}: {error})") from None


def _refusal(file: Path, why: str, hint: str = "") -> NothingThere:
    return NothingThere(
        f"{file} cannot be opened as an incident file: {why}.",
        hint=hint or "An incident file is made by `lagkit capture GROUP` or `lagkit investigate`.",
    )


def _read_meta(file: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    entries = archive.infolist()
    if len(entries) > _MAX_MEMBERS or sum(entry.file_size for entry in entries) > _MAX_BYTES:
        raise _refusal(file, "it is larger than an incident can be")
    if _META not in archive.namelist():
        raise _refusal(file, f"it holds no {_META}")
    if archive.getinfo(_META).file_size > _MAX_META_BYTES:
        raise _refusal(file, f"its {_META} is larger than it can be")
    meta = json.loads(archive.read(_META))
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise _refusal(
            file,
            f"its format is {found!r}, this lagkit reads {FORMAT!r}",
            hint="Open it with the lagkit that wrote it, or a newer one.",
        )
    return meta


def _read_frame(
    file: Path, archive: zipfile.ZipFile, name: str, expected: Mapping[str, Any]
) -> pd.DataFrame:
    import pyarrow.parquet as pq

    content = archive.read(f"{name}.parquet")
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise _refusal(file, f"the frame {name} does not match its checksum")
    reader = pq.ParquetFile(io.BytesIO(content))
    if (
        sum(
            reader.metadata.row_group(i).total_byte_size
            for i in range(reader.metadata.num_row_groups)
        )
        > _MAX_BYTES
    ):
        raise _refusal(file, f"the frame {name} is larger than an incident can be")
    if reader.metadata.num_rows * reader.metadata.num_columns > _MAX_CELLS:
        raise _refusal(file, f"the frame {name} has more rows than an incident can have")
    known = {column.name for column in frames.FRAMES[name].columns}
    table = reader.read(columns=[c for c in reader.schema_arrow.names if c in known])
    return frames.normalise(name, table.to_pandas())


def _time(text: str) -> pd.Timestamp:
    return pd.Timestamp(text).tz_convert("UTC").as_unit("us")


def _source_report(status: str, detail: str, seconds: float) -> SourceReport:
    if status not in _SOURCE_STATUS:
        msg = f"{status!r} is no status of a source"
        raise ValueError(msg)
    return SourceReport(status, str(detail), float(seconds))  # type: ignore[arg-type]


def _from_meta(meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Incident:
    return Incident(
        id=str(meta["id"]),
        cluster=str(meta["cluster"]),
        group=str(meta["group"]),
        topics=tuple(map(str, meta["topics"])),
        start=_time(meta["start"]),
        end=_time(meta["end"]),
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


def _parquet(table: pd.DataFrame) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_pandas(table, preserve_index=False),
        buffer,
        compression="zstd",
        compression_level=9,
        write_statistics=False,  # nobody filters by them, and they are a third of a small file
        coerce_timestamps="us",
    )
    return buffer.getvalue()

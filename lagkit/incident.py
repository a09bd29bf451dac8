"""The incident: everything that was seen, frozen, in memory and in one file.

``NAME.lagkit`` is a zip of zstd Parquet files, one per frame that has rows, and ``incident.json``;
pandas, DuckDB or Polars read it without lagkit. It is written before anything is analysed, in one
atomic step, and opened as what it is: a file from somewhere else. The module asks no cluster and
computes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pandas as pd

from lagkit import frames
from lagkit.disk import write_whole
from lagkit.errors import NothingThere
from lagkit.model import SourceReport, timestamp_text
from lagkit.runbook import Runbook
from lagkit.wording import printable

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "lagkit.incident/1"
_META = "incident.json"
_PRIVATE = 0o600
# A fixed date makes the same incident the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# An incident of minutes is mostly footers and descriptions, which deflate to a half; of a large
# frame, zstd has left nothing worth the time.
_DEFLATED_BYTES = 64 * 1024
# Below so many rows a column's dictionary costs more than the repeats that zstd finds without it.
_DICTIONARY_ROWS = 2_000
# Bounds for opening a file from somewhere else.
_MAX_MEMBERS = 200
_MAX_BYTES = 512 * 1024**2
_MAX_META_BYTES = 4 * 1024**2
# Run-length encoding makes a billion equal rows a few bytes, so bytes alone are no bound; nor are
# cells, for a dictionary makes a million equal pages of text one page.
_MAX_CELLS = 100_000_000
_MAX_TEXT_BYTES = 1024**3
# What the description of a pandas frame inside a Parquet file calls them.
_NULLABLE = {frames.WHOLE: "int64", frames.FLAG: "bool"}
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
        members = {
            f"{name}.parquet": _parquet(self.tables[name])
            for name in frames.FRAMES
            if name in self.tables and len(self.tables[name])
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
                small = len(members[name]) < _DEFLATED_BYTES or name == _META
                entry.compress_type = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
                archive.writestr(entry, members[name], compresslevel=zlib.Z_BEST_COMPRESSION)
        return buffer.getvalue()


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
    try:
        with zipfile.ZipFile(file) as archive:
            meta = _read_meta(file, archive)
            budget = _Budget(file)
            tables = {
                name: _read_frame(budget, archive, name, meta["frames"][name])
                if name in meta["frames"]
                else _empty(name).copy()
                for name in frames.FRAMES
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
    names = [entry.filename for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _refusal(file, f"it holds {printable(twice, limit=80)} twice")
    # Nothing is ever unpacked to disk; whoever made such a name meant harm all the same.
    outside = next((name for name in names if not re.fullmatch(r"\w[\w.-]*", name)), None)
    if outside is not None:
        raise _refusal(file, f"it holds a name that is none: {printable(outside, limit=80)}")
    if _META not in archive.namelist():
        raise _refusal(file, f"it holds no {_META}")
    if archive.getinfo(_META).file_size > _MAX_META_BYTES:
        raise _refusal(file, f"its {_META} is larger than it can be")
    meta = json.loads(_content(archive, _META))
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise _refusal(
            file,
            f"its format is {found!r}, this lagkit reads {FORMAT!r}",
            hint="Open it with the lagkit that wrote it, or a newer one.",
        )
    return meta


_empty = functools.cache(frames.empty)


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member; no more of it is unpacked than the size it states."""
    with archive.open(name) as member:
        return member.read(archive.getinfo(name).file_size)


@dataclass
class _Budget:
    """What the frames of one file may still take."""

    file: Path
    bytes_left: int = _MAX_BYTES
    cells_left: int = _MAX_CELLS
    text_left: int = _MAX_TEXT_BYTES

    def spend(self, name: str, *, size: int = 0, cells: int = 0, text: int = 0) -> None:
        self.bytes_left -= size
        self.cells_left -= cells
        self.text_left -= text
        if min(self.bytes_left, self.text_left) < 0:
            raise _refusal(self.file, f"the frame {name} is larger than an incident can be")
        if self.cells_left < 0:
            raise _refusal(self.file, f"the frame {name} has more rows than an incident can have")


def _read_frame(
    budget: _Budget, archive: zipfile.ZipFile, name: str, expected: Mapping[str, Any]
) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = _content(archive, f"{name}.parquet")
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise _refusal(budget.file, f"the frame {name} does not match its checksum")
    known = {column.name for column in frames.FRAMES[name].columns}
    schema = pq.read_schema(io.BytesIO(content))
    wanted = [field for field in schema if field.name in known]
    missing = [
        column.name
        for column in frames.FRAMES[name].columns
        if column.required and column.name not in schema.names
    ]
    if missing:
        msg = f"the frame {name} has no column {missing[0]}"
        raise ValueError(msg)
    if nested := [field.name for field in wanted if pa.types.is_nested(field.type)]:
        raise _refusal(budget.file, f"the frame {name} has a {nested[0]} of several values a row")
    # As a dictionary: how long the text is shows before it is written out.
    kept = {field.name for field in wanted}
    texts = [c.name for c in frames.FRAMES[name].columns if c.dtype == frames.TEXT]
    texts = [text for text in texts if text in kept]
    reader = pq.ParquetFile(io.BytesIO(content), read_dictionary=texts)
    groups = [reader.metadata.row_group(i) for i in range(reader.metadata.num_row_groups)]
    rows = max(reader.metadata.num_rows, sum(group.num_rows for group in groups))
    budget.spend(name, size=sum(group.total_byte_size for group in groups))
    budget.spend(name, cells=rows * reader.metadata.num_columns)
    table = reader.read(columns=[field.name for field in wanted], use_threads=False)
    for column in texts:
        budget.spend(name, text=_text_bytes(table[column]))
    return frames.normalise(name, table.to_pandas())


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Return how many bytes the text of *column* takes once it is written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    if not pa.types.is_string(column.type.value_type):
        return 0
    return sum(
        pc.sum(pc.cast(pc.binary_length(chunk.dictionary), "int64").take(chunk.indices)).as_py()
        or 0
        for chunk in column.chunks
    )


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


def _parquet(table: pd.DataFrame) -> bytes:
    """Return *table* as a Parquet file that says no more of itself than its readers need.

    The schemas of Arrow and pandas, which pyarrow puts into every file, are two thirds of a small
    one. All that is lost with them are the dtypes of columns of whole numbers and flags, so these
    alone are written down, in pandas' own form.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        content.schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=len(table) >= _DICTIONARY_ROWS,
        write_statistics=False,  # nobody filters by them, and they are a third of a small file
        store_schema=False,
        coerce_timestamps="us",
    ) as writer:
        writer.write_table(content)
        nullable = [
            {
                "name": name,
                "field_name": name,
                "pandas_type": _NULLABLE[dtype],
                "numpy_type": dtype,
                "metadata": None,
            }
            for name, dtype in table.dtypes.astype("str").items()
            if dtype in _NULLABLE
        ]
        if nullable:
            told = {"index_columns": [], "column_indexes": [], "columns": nullable}
            writer.add_key_value_metadata({"pandas": json.dumps(told, separators=(",", ":"))})
    return buffer.getvalue()

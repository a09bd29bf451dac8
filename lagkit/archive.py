"""A file of frames: a zip of zstd Parquet, one per frame that has rows, and one JSON document.

pandas, DuckDB or Polars read it without lagkit. The same content gives the same bytes, and what is
opened is bounded and checked as a file from somewhere else. Knows no incident and no capacity.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lagkit import frames
from lagkit.errors import NothingThere
from lagkit.wording import printable

if TYPE_CHECKING:
    import pyarrow as pa

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


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file of frames is: its format, its document, its frames, and what it is called."""

    format: str
    document: str
    """Name of the JSON document in the zip."""
    noun: str
    """As in "it is larger than an incident can be"."""
    article: str
    made_by: str
    """How such a file is made, for whoever opened another one."""
    frames: Mapping[str, frames.Frame]


def pack(kind: Kind, meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Return the file: *meta* with format and checksums, and the frames that have rows."""
    members = {
        f"{name}.parquet": _parquet(tables[name])
        for name in kind.frames
        if name in tables and len(tables[name])
    }
    document = {
        "format": kind.format,
        **meta,
        "frames": {
            name.removesuffix(".parquet"): {
                "rows": len(tables[name.removesuffix(".parquet")]),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in members.items()
        },
    }
    members[kind.document] = (
        json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    ).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.external_attr = 0o644 << 16
            small = len(members[name]) < _DEFLATED_BYTES or name == kind.document
            entry.compress_type = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
            archive.writestr(entry, members[name], compresslevel=zlib.Z_BEST_COMPRESSION)
    return buffer.getvalue()


def unpack(kind: Kind, file: Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Return document and frames of *file*; a frame that it does not hold is empty.

    Frames that a newer lagkit added are left out; columns and types are checked against
    ``lagkit.frames``, contents against the checksums in the file.

    Raises
    ------
    NothingThere
        No such file, not of this kind, damaged, or larger than lagkit opens; says which.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            meta = _read_meta(kind, file, archive)
            budget = _Budget(kind, file)
            return meta, {
                name: _read_frame(budget, archive, name, meta["frames"][name])
                if name in meta["frames"]
                else _empty(name).copy()
                for name in kind.frames
            }
    except FileNotFoundError:
        raise refusal(kind, file, "there is no such file") from None
    except IsADirectoryError:
        beside = file / f"{kind.noun}.lagkit"
        raise refusal(kind, file, "it is a folder", hint=f"Did you mean {beside}?") from None
    except (zipfile.BadZipFile, EOFError):
        raise refusal(kind, file, "it is not a zip archive, or was cut off") from None
    except OSError as error:
        raise refusal(kind, file, str(error)) from None
    except NothingThere:
        raise
    except Exception as error:  # noqa: BLE001 - zip, zlib, JSON and Arrow have their own
        raise damaged(kind, file, error) from None


def refusal(kind: Kind, file: Path, why: str, hint: str = "") -> NothingThere:
    """Return the error that says why *file* cannot be opened."""
    return NothingThere(
        f"{file} cannot be opened as {kind.article} {kind.noun} file: {why}.",
        hint=hint or f"{kind.article.capitalize()} {kind.noun} file is made by {kind.made_by}.",
    )


def damaged(kind: Kind, file: Path, error: Exception) -> NothingThere:
    """Return the error for a *file* whose content made no sense."""
    return refusal(kind, file, f"its content is damaged ({type(error).__name__}: {error})")


def _read_meta(kind: Kind, file: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    entries = archive.infolist()
    if len(entries) > _MAX_MEMBERS or sum(entry.file_size for entry in entries) > _MAX_BYTES:
        raise refusal(kind, file, f"it is larger than {kind.article} {kind.noun} can be")
    names = [entry.filename for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refusal(kind, file, f"it holds {printable(twice, limit=80)} twice")
    # Nothing is ever unpacked to disk; whoever made such a name meant harm all the same.
    outside = next((name for name in names if not re.fullmatch(r"\w[\w.-]*", name)), None)
    if outside is not None:
        raise refusal(kind, file, f"it holds a name that is none: {printable(outside, limit=80)}")
    if kind.document not in archive.namelist():
        raise refusal(kind, file, f"it holds no {kind.document}")
    if archive.getinfo(kind.document).file_size > _MAX_META_BYTES:
        raise refusal(kind, file, f"its {kind.document} is larger than it can be")
    meta = json.loads(_content(archive, kind.document))
    if not isinstance(meta, dict) or meta.get("format") != kind.format:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise refusal(
            kind,
            file,
            f"its format is {found!r}, this lagkit reads {kind.format!r}",
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

    kind: Kind
    file: Path
    bytes_left: int = _MAX_BYTES
    cells_left: int = _MAX_CELLS
    text_left: int = _MAX_TEXT_BYTES

    def spend(self, name: str, *, size: int = 0, cells: int = 0, text: int = 0) -> None:
        what = f"{self.kind.article} {self.kind.noun}"
        self.bytes_left -= size
        self.cells_left -= cells
        self.text_left -= text
        if min(self.bytes_left, self.text_left) < 0:
            raise refusal(self.kind, self.file, f"the frame {name} is larger than {what} can be")
        if self.cells_left < 0:
            raise refusal(
                self.kind, self.file, f"the frame {name} has more rows than {what} can have"
            )


def _read_frame(
    budget: _Budget, archive: zipfile.ZipFile, name: str, expected: Mapping[str, Any]
) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = _content(archive, f"{name}.parquet")
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise refusal(budget.kind, budget.file, f"the frame {name} does not match its checksum")
    frame = budget.kind.frames[name]
    known = {column.name for column in frame.columns}
    schema = pq.read_schema(io.BytesIO(content))
    wanted = [field for field in schema if field.name in known]
    missing = [
        column.name
        for column in frame.columns
        if column.required and column.name not in schema.names
    ]
    if missing:
        msg = f"the frame {name} has no column {missing[0]}"
        raise ValueError(msg)
    if nested := [field.name for field in wanted if pa.types.is_nested(field.type)]:
        raise refusal(
            budget.kind, budget.file, f"the frame {name} has a {nested[0]} of several values a row"
        )
    # As a dictionary: how long the text is shows before it is written out.
    kept = {field.name for field in wanted}
    texts = [c.name for c in frame.columns if c.dtype == frames.TEXT]
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

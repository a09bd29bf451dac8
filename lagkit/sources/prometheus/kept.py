"""Answers kept on disk between runs: what was interrupted goes on, and next week asks one week.

A kept answer is named by everything that it depends on (server, login's tenant, question, grid), so
it is never wrong for another; one that cannot be read is asked again. Only the owner reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lagkit.disk import write_whole

MOST_BYTES = 512 * 2**20
LONGEST_SECONDS = 100 * 86400.0
"""Twice eight weeks and a little: nothing older is asked for again."""
_PRIVATE = 0o600
_LABELS = b"lagkit.series"


def kept_folder() -> Path:
    """Return where answers are kept: $LAGKIT_CACHE or ~/.cache/lagkit, then answers/."""
    named = os.environ.get("LAGKIT_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "lagkit") / "answers"


@dataclass(frozen=True, slots=True)
class Kept:
    """Answers in *folder*; *place* names the server and the tenant."""

    folder: Path
    place: str

    def path(self, question: str) -> Path:
        """Return where the answer to *question* is kept."""
        digest = hashlib.sha256(f"{self.place}\0{question}".encode("utf-8", "replace")).hexdigest()
        return self.folder / f"{digest}.parquet"

    def get(self, question: str) -> tuple[pd.DataFrame, list[Mapping[str, Any]]] | None:
        """Return samples (``series``, ``time``, ``value``) and series; None if there are none."""
        import pyarrow.parquet as pq

        path = self.path(question)
        try:
            table = pq.read_table(path, memory_map=False, use_threads=False)
            series = json.loads(table.schema.metadata[_LABELS])
            samples = table.to_pandas()
            samples = samples.astype({"series": "int64", "time": "float64", "value": "float64"})
            if list(samples) != ["series", "time", "value"] or not isinstance(series, list):
                return None
            if len(samples) and not 0 <= samples["series"].min() <= samples["series"].max() < len(
                series
            ):
                return None
        except Exception:  # whatever became of it, it is asked again
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the oldest by use go first
        return samples, series

    def put(self, question: str, samples: pd.DataFrame, series: list[Mapping[str, Any]]) -> None:
        """Keep an answer; a disk that does not take it costs nothing but the next run's time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "series": samples["series"].to_numpy(dtype="int32"),
                "time": samples["time"].to_numpy(dtype="float64"),
                "value": samples["value"].to_numpy(dtype="float64"),
            }
        ).replace_schema_metadata({_LABELS: json.dumps(series)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_statistics=False)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self.path(question), sink.getvalue().to_pybytes(), mode=_PRIVATE)

    def tidy(self) -> None:
        """Delete what is old, and the least used of what is too much."""
        with contextlib.suppress(OSError):
            found = []
            for path in self.folder.glob("*.parquet"):
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
            room, now = MOST_BYTES, time.time()
            for used, size, path in sorted(found, reverse=True):
                room -= size
                if room < 0 or now - used > LONGEST_SECONDS:
                    path.unlink(missing_ok=True)

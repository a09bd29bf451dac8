"""A history: weeks of groups as they were read, frozen, in memory and in one file.

Built as an incident file is (``lagkit.archive``): saved before it is analysed, bounded when opened,
the same bytes for the same content. Asks no server and computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pandas as pd

from lagkit import archive, frames
from lagkit.disk import write_whole
from lagkit.incident import Gap
from lagkit.model import SourceReport, timestamp_text
from lagkit.resources import resource_path
from lagkit.runbook import Runbook

FORMAT = "lagkit.history/1"
DEMO = "templates/demo/capacity.lagkit"
KIND = archive.Kind(
    format=FORMAT,
    document="history.json",
    noun="history",
    article="a",
    made_by="`lagkit capacity`",
    frames=frames.HISTORY_FRAMES,
)
_PRIVATE = 0o600
_LONGEST_WINDOW = pd.Timedelta("3660D")
_SOURCE_STATUS = get_args(get_type_hints(SourceReport)["status"])


@dataclass(frozen=True, eq=False)
class History:
    """Weeks as read. Frames are attributes: ``history.flow_hours``, ``history.member_hours``.

    ``asked``: the groups that were asked for, empty for all. Two histories are equal when they
    would be the same file.
    """

    cluster: str
    asked: tuple[str, ...]
    start: pd.Timestamp
    end: pd.Timestamp
    captured_at: pd.Timestamp
    lagkit_version: str
    runbook: Runbook
    tables: Mapping[str, pd.DataFrame] = field(repr=False)
    sources: Mapping[str, SourceReport] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    coverage: tuple[Gap, ...] = ()

    def __getattr__(self, name: str) -> pd.DataFrame:
        """Return the frame called *name* (``lagkit.frames.HISTORY_FRAMES``)."""
        if name in frames.HISTORY_FRAMES:
            tables = self.__dict__.get("tables", {})
            return tables[name] if name in tables else frames.empty(name)
        msg = f"a history has no frame or field {name!r}"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return self is other or self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash((self.cluster, self.start, self.end))

    def __repr__(self) -> str:
        """Return one line with what one asks first."""
        places = self.flow_hours[["group", "topic"]].drop_duplicates()
        return (
            f"<History of {len(places)} groups on topics "
            f"{timestamp_text(self.start)}..{timestamp_text(self.end)}>"
        )

    def save(self, path: str | Path) -> Path:
        """Write the history to *path* in one atomic step and return the path.

        Raises
        ------
        OSError
            The folder or the disk does not take the file.
        """
        content = self.to_bytes()
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(target, content, mode=_PRIVATE)

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        meta = {
            "cluster": self.cluster,
            "asked": list(self.asked),
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
            "runbook": self.runbook.model_dump(mode="json"),
        }
        return archive.pack(KIND, meta, self.tables)


def open_history(path: str | Path) -> History:
    """Open a history file.

    Raises
    ------
    NothingThere
        No such file, not a history, damaged, or larger than lagkit opens; says which.
    """
    file = Path(path)
    meta, tables = archive.unpack(KIND, file)
    try:
        return _from_meta(meta, tables)
    except Exception as error:  # noqa: BLE001 - pydantic, pandas and missing keys have their own
        raise archive.damaged(KIND, file, error) from None


def demo() -> History:
    """Open the bundled history: eight generated weeks, read back from a real Prometheus."""
    return open_history(resource_path(DEMO))


def _time(text: str) -> pd.Timestamp:
    moment = pd.Timestamp(text)
    if moment is pd.NaT:
        msg = f"{text!r} is no time"
        raise ValueError(msg)
    return moment.tz_convert("UTC").as_unit("us")


def _report(status: str, detail: str, seconds: float) -> SourceReport:
    if status not in _SOURCE_STATUS:
        msg = f"{status!r} is no status of a source"
        raise ValueError(msg)
    return SourceReport(status, str(detail), float(seconds))  # type: ignore[arg-type]


def _from_meta(meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> History:
    start, end = _time(meta["start"]), _time(meta["end"])
    if not pd.Timedelta(0) < end - start <= _LONGEST_WINDOW:
        msg = f"its window, {meta['start']} to {meta['end']}, is none"
        raise ValueError(msg)
    return History(
        cluster=str(meta["cluster"]),
        asked=tuple(map(str, meta["asked"])),
        start=start,
        end=end,
        captured_at=_time(meta["captured_at"]),
        lagkit_version=str(meta["lagkit_version"]),
        runbook=Runbook.model_validate(meta["runbook"]),
        tables=tables,
        sources={name: _report(**report) for name, report in meta["sources"].items()},
        facts={
            name: {str(key): str(value) for key, value in facts.items()}
            for name, facts in meta["facts"].items()
        },
        coverage=tuple(
            Gap(**{key: str(value) for key, value in gap.items()}) for gap in meta["coverage"]
        ),
    )

"""What charts read of a result: the shared time axis, series by partition, owners, marks.

Values are picked here, never worked out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from lagkit.figure.drawing import SKY_BLUE, Mark, Numbers, thin, with_gaps
from lagkit.frames import WHOLE_TOPIC
from lagkit.wording import clock, duration, printable

if TYPE_CHECKING:
    from lagkit.model import Verdict

MOST_PARTITIONS = 48
"""Rows of a per-partition picture; the worst are kept, the rest counted."""
MOST_TABLE_ROWS = 60
MOST_EVENTS = 40
"""Marks in one lane of the timeline."""


class Investigated(Protocol):
    """What a chart reads of the result of an investigation."""

    @property
    def verdict(self) -> Verdict:
        """The whole answer."""
        ...

    @property
    def incident(self) -> Any:
        """The incident, frames as attributes."""
        ...

    @property
    def flow(self) -> Any:
        """The computed frames: cleaned, group, time_lag, rates."""
        ...

    @property
    def owners(self) -> pd.DataFrame:
        """Who owns which partition: topic, partition, client_id, host, pod."""
        ...

    @property
    def runbook_group(self) -> Any:
        """The group's entry of the runbook."""
        ...


def epoch_ms(times: Any) -> Numbers:
    """Return timestamps as float64 epoch milliseconds, exact below the year 287,000."""
    index = pd.DatetimeIndex(times)
    return np.asarray(index.as_unit("us").asi8 / 1000.0, dtype="float64")


def window_ms(verdict: Verdict) -> tuple[float, float]:
    """Return the time axis that all figures share: the window of the incident."""
    start = milliseconds(pd.Timestamp(verdict.incident.start))
    end = milliseconds(pd.Timestamp(verdict.incident.end))
    return start, end if end > start else start + 60_000.0


def milliseconds(moment: pd.Timestamp) -> float:
    """Return one instant as epoch milliseconds."""
    return float(moment.timestamp() * 1000.0)


def distance(moment: Any, now: pd.Timestamp) -> str:
    """Return how far *moment* is from *now*, in words."""
    return duration((pd.Timestamp(moment) - now).total_seconds())


def drawn(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Return a line as it is drawn: gaps shown, thinned."""
    return thin(*with_gaps(x, y))


def finite_max(values: Any) -> float | None:
    """Return the greatest known value, None if none is known."""
    array = np.asarray(values, dtype="float64")
    finite = array[np.isfinite(array)]
    return float(finite.max()) if finite.size else None


def finite_min(values: Any) -> float | None:
    """Return the least known value, None if none is known."""
    array = np.asarray(values, dtype="float64")
    finite = array[np.isfinite(array)]
    return float(finite.min()) if finite.size else None


def last_finite(values: pd.Series[Any]) -> float | None:
    """Return the last known value, None if none is known."""
    known = values.dropna()
    return float(known.iloc[-1]) if len(known) else None


def _known_or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def group_column(group: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return one column of the group's flow by time, whether time is its index or a column."""
    if "timestamp" in group.columns:
        group = group.set_index("timestamp")
    if column in group.columns:
        return group[column]
    return pd.Series(np.nan, index=group.index, dtype="float64")


def partition_keys(frame: pd.DataFrame) -> dict[tuple[str, int], pd.DataFrame]:
    """Return the rows per (topic, partition), sorted by both."""
    if not len(frame):
        return {}
    parts = frame.groupby(["topic", "partition"], sort=True, observed=True)
    return {(str(topic), int(partition)): part for (topic, partition), part in parts}


def worst_first(peaks: Mapping[tuple[str, int], float | None]) -> list[tuple[str, int]]:
    """Return the partitions by falling peak; those without a known one come last."""
    return sorted(peaks, key=lambda key: (-_known_or(peaks[key], -1.0), key))


def sample_span(frame: pd.DataFrame) -> float:
    """Return the median distance of samples in milliseconds, 0 if there is none."""
    moments = np.unique(epoch_ms(frame["timestamp"])) if len(frame) else np.array([])
    return float(np.median(np.diff(moments))) if moments.size > 1 else 0.0


def number_name(key: tuple[str, int]) -> str:
    """Return the partition's number, or that the row is about all of them together."""
    return "all" if key[1] == WHOLE_TOPIC else str(key[1])


def partition_name(key: tuple[str, int], owner: str, several: bool) -> str:
    """Return what a row is called; the topic is left out where there is only one."""
    name = f"{key[0]} / {number_name(key)}" if several else number_name(key)
    return f"{name} · {short_owner(owner)}" if owner else name


def rows_height(rows: int) -> int:
    """Return the pixels of a panel with so many rows: roomy for few, still legible for many."""
    return max(80, rows * 22) if rows <= 24 else rows * 14


def short_owner(owner: str) -> str:
    """Return the end of a pod or client name: what tells two replicas apart."""
    return owner if len(owner) <= 20 else "…" + owner[-19:]


def owner_names(owners: pd.DataFrame) -> dict[tuple[str, int], str]:
    """Return pod, else client id and host, by (topic, partition)."""
    names: dict[tuple[str, int], str] = {}
    for row in owners.to_dict("records"):
        if pd.isna(row.get("topic")) or pd.isna(row.get("partition")):
            continue
        for column in ("pod", "client_id", "host"):
            value = row.get(column)
            if value is not None and not pd.isna(value) and value != "":
                names[str(row["topic"]), int(row["partition"])] = printable(value, limit=80)
                break
    return names


def onset_marks(verdict: Verdict) -> tuple[Mark, ...]:
    """Return the band of the onset, if there is one."""
    begin = verdict.onset
    if begin is None:
        return ()
    return (
        Mark(
            milliseconds(pd.Timestamp(begin.earliest)),
            milliseconds(pd.Timestamp(begin.latest)),
            f"onset {clock(begin.at, near=begin.at)}",
        ),
    )


def member_marks(incident: Any) -> tuple[Mark, ...]:
    """Return a mark wherever the number of members changed: then partitions changed owner."""
    return tuple(
        Mark(moment, moment, label, SKY_BLUE) for moment, label in member_changes(incident)
    )[:MOST_EVENTS]


def member_changes(incident: Any) -> list[tuple[float, str]]:
    """Return (epoch ms, "3→2") wherever the number of members changed."""
    history = incident.group_history.dropna(subset=["member_count"])
    counts = history["member_count"].to_numpy(dtype="float64")
    moments = epoch_ms(history["timestamp"])
    return [
        (float(moments[i]), f"{counts[i - 1]:.0f}→{counts[i]:.0f}")
        for i in np.flatnonzero(np.diff(counts)) + 1
    ]


def cell_text(value: Any) -> str:
    """Return a value from a frame as bounded text, empty if it is missing."""
    return "" if value is None or pd.isna(value) else printable(value, limit=80)

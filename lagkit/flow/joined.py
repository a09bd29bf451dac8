"""An offsets history without an exporter: past log ends, commits and snapshots in one frame.

Knows what may be joined: between two commits that follow each other in the group's own log the
committed offset stood still, so it is known at every moment; between two snapshots it is not, and
stays NaN. Nothing here fills, interpolates or extrapolates an offset.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lagkit.flow.growth import CAUGHT_UP_SECONDS, Onset
from lagkit.flow.offsets import Array

FALLING_BEHIND_SECONDS = 15.0
"""A backlog this old that still grows is one: three commits of the usual 5 s came meanwhile."""
FALLING_BEHIND_RATIO = 0.9
"""Reading less than this share of what is written between the looks is falling behind."""
TOUCHING = 0.1
"""Share of the backlog by which the line may miss the log end: rates of seconds scatter so."""
_PLACE = ["topic", "partition"]


def joined_history(
    snapshots: pd.DataFrame, log_ends: pd.DataFrame, commits: pd.DataFrame
) -> pd.DataFrame:
    """Return one offsets history of a group, in the columns of the frame `offsets`.

    Parameters
    ----------
    snapshots
        The broker's snapshots of the group, columns of `offsets` without ``lag_messages``.
    log_ends
        Frame `log_end_history`: log ends (offsets) at past moments.
    commits
        Frame `commits` of the group; empty where it could not be read.

    Rows before the first snapshot have the log end and, where a complete run of commits tells it,
    the committed offset as of then; the log start is NaN. Then the snapshots as they are.
    """
    if snapshots.empty or log_ends.empty:
        return snapshots
    places = snapshots[["group", *_PLACE]].drop_duplicates()
    past = log_ends.loc[log_ends["timestamp"] < snapshots["timestamp"].min()]
    past = past.merge(places, on=_PLACE)
    past["committed_offset"] = _as_of(past, commits)
    past["log_start_offset"] = np.nan
    return pd.concat([past[list(snapshots.columns)], snapshots], ignore_index=True)


def _as_of(past: pd.DataFrame, commits: pd.DataFrame) -> Array:
    """Return the committed offset at each row of *past*: the last commit, if none is missing."""
    if past.empty or commits.empty:
        return np.full(len(past), np.nan)
    columns = ["timestamp", *_PLACE, "committed_offset", "complete"]
    known = commits.sort_values(["timestamp", "log_position"])[columns]
    asked = past[["timestamp", *_PLACE]].assign(row=np.arange(len(past))).sort_values("timestamp")
    found = pd.merge_asof(asked, known, on="timestamp", by=_PLACE).sort_values("row")
    whole = found["complete"].fillna(False).to_numpy(dtype=bool)
    return np.where(whole, found["committed_offset"].to_numpy(dtype="float64"), np.nan)


def standing_onset(cleaned: pd.DataFrame, oldest_unread: pd.DataFrame) -> Onset | None:
    """Return since when a group is behind that was only seen now; None if it has caught up.

    Parameters
    ----------
    cleaned
        From :func:`lagkit.flow.clean_offsets`, of a joined history without commits.
    oldest_unread
        Frame `oldest_unread` of the group.

    A group reads a record after it was written, so it had caught up, or was less behind, when its
    oldest unread record came: the onset is no later than the newest such moment of a partition
    with a backlog, and for a group that stands still no earlier than the oldest. If it reads on,
    slowly, the lag is older than that; how much is told by the rate at which it reads now, back
    to where that line meets the log end. The onset is censored: nobody saw it. A single record
    left at the end of a partition is a transaction marker, not a backlog.
    """
    known = cleaned.dropna(subset=["lag_messages"])
    if known.empty:
        return None
    last = known.loc[known["timestamp"] == known["timestamp"].max()]
    held = last.loc[last["lag_messages"] > 1, _PLACE]
    patience = FALLING_BEHIND_SECONDS if _falling_behind(known) else CAUGHT_UP_SECONDS
    behind = oldest_unread.loc[oldest_unread["time_lag_seconds"] > patience]
    behind = behind.dropna(subset=["written_at"]).merge(held, on=_PLACE)
    if behind.empty:
        return None
    total = known.groupby("timestamp")["lag_messages"].sum()
    oldest = behind["written_at"].min()
    began = min(oldest, _line_meets_end(cleaned, known) or oldest)
    return Onset(
        at=began,
        earliest=began,
        latest=max(began, behind["written_at"].max()),
        drift_before_per_second=float("nan"),
        drift_after_per_second=float("nan"),
        peak=known["timestamp"].max(),
        peak_lag_messages=float(total.max()),
        censored=True,
    )


def _falling_behind(known: pd.DataFrame) -> bool:
    """Whether less was committed than written from the first look to the last."""
    by = known.groupby(_PLACE)[["committed_offset", "log_end_offset"]]
    read, written = (by.last() - by.first()).sum()
    return bool(written > 0 and read < FALLING_BEHIND_RATIO * written)


def _line_meets_end(cleaned: pd.DataFrame, known: pd.DataFrame) -> pd.Timestamp | None:
    """Return when the group, read back at its present rate, was at the log end; None if never."""
    first, last = known["timestamp"].min(), known["timestamp"].max()
    seconds = (last - first).total_seconds()
    now = known.loc[known["timestamp"] == last, [*_PLACE, "committed_offset"]]
    then = known.loc[known["timestamp"] == first, [*_PLACE, "committed_offset"]]
    both = now.merge(then, on=_PLACE, suffixes=("", "_then")).dropna()
    past = cleaned.loc[cleaned["timestamp"] < first].dropna(subset=["log_end_offset"])
    past = past.merge(both[_PLACE], on=_PLACE)
    ends = past.groupby("timestamp")["log_end_offset"].agg(["sum", "size"])
    ends = ends.loc[ends["size"] == len(both), "sum"]
    if not seconds > 0 or ends.empty:
        return None
    rate = float((both["committed_offset"] - both["committed_offset_then"]).sum()) / seconds
    age = (last - pd.DatetimeIndex(ends.index)).total_seconds().to_numpy()
    committed = float(both["committed_offset"].sum())
    ahead = ends.to_numpy() - (committed - rate * age)
    kept_up = np.flatnonzero(ahead <= 0)
    if len(kept_up):
        return pd.Timestamp(ends.index[kept_up[-1]])
    # a group that reads at its limit since a spike touches the log end only where that began
    unread = known.loc[known["timestamp"] == last, "lag_messages"].sum()
    nearest = int(np.argmin(ahead))
    touched = ahead[nearest] <= TOUCHING * unread
    return pd.Timestamp(ends.index[nearest]) if touched else None

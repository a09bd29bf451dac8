"""Where exporters of the same group disagree: which one, since when, and by how much.

Pure arithmetic over two frames: what the chosen exporter says (`offsets`) against what each other
one says (`second_opinions`). It does not know which of them is right; a third witness decides that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

DISAGREEMENT_SHARE = 0.05
"""Difference of two lags, as a share of the greater, from which they disagree (lag.md 1.4) ..."""
DISAGREEMENT_SECONDS = 60.0
"""... or as seconds of production (lag.md 1.4)."""
SKEW_SECONDS = 75.0
"""Two exporters are read up to this far apart: a scrape interval of a minute, and the exporter's
own refresh. What the chosen one said within it counts as agreed."""
LEAST_MESSAGES = 1.0
"""A difference of one is a commit between two reads."""
LASTING_SAMPLES = 3
"""A disagreement over fewer points in a row is a scrape that was late."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One other exporter that tells another lag of the group than the chosen one."""

    dialect: str
    """Id of the other exporter's dialect."""
    since: pd.Timestamp
    """First sample of the disagreement that is reported."""
    until: pd.Timestamp
    """Its last sample."""
    lasting: bool
    """It holds at the end of what was compared."""
    topic: str | None
    """Topic of the widest gap; None: all topics together."""
    partition: int | None
    """Partition of the widest gap; None: all of them together."""
    ours: float
    """Lag the chosen exporter told there at ``until``, messages."""
    theirs: float
    """Lag the other one told there, messages."""
    seconds: float
    """Their difference in seconds of production; NaN where nothing was produced."""
    places: int
    """How many partitions (or topics, or the one group) they disagree about at ``until``."""


def disagreements(offsets: pd.DataFrame, opinions: pd.DataFrame) -> tuple[Disagreement, ...]:
    """Return one record per dialect of *opinions* that lastingly tells another lag than *offsets*.

    Both frames are as exported; markers below 0 count as unknown, and what either side does not
    know is not compared. The chosen exporter's lag is the range it went through within
    SKEW_SECONDS; only what lies outside of it by more than 5 % of the greater lag, or by more than
    60 s of production, for three points in a row, is a disagreement. Of several the one that lasts
    to the end counts, else the longest.
    """
    if offsets.empty or opinions.empty:
        return ()
    ours = _lag_of(offsets)
    found = []
    for dialect, theirs in opinions.groupby("dialect", sort=True):
        compared = pd.concat(
            [part for part in _compared(ours, theirs) if len(part)] or [pd.DataFrame()]
        )
        if len(compared) and (told := _told(str(dialect), compared)) is not None:
            found.append(told)
    return tuple(found)


def _known(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.where(values >= 0)


def _lag_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return lag and log end per time, topic and partition; lag as told, else end - committed."""
    committed, end = _known(frame["committed_offset"]), _known(frame["log_end_offset"])
    derived = (end - committed).clip(lower=0)
    reported = frame["lag_messages"]
    # a small negative is a commit read after the end; -1 without a commit is a marker
    marker = (reported < 0) & ~(frame["committed_offset"] >= 0)
    lag = reported.clip(lower=0).where(reported.notna() & ~marker, derived)
    return frame[["timestamp", "topic", "partition"]].assign(
        lag=lag, end=end.fillna(committed + lag)
    )


def _compared(ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield, at each level of detail that *theirs* has, both lags side by side."""
    told = _lag_of(theirs)
    whole = told["topic"].isna()
    by_topic = told["topic"].notna() & told["partition"].isna()
    for rows, keys in (
        (told[~whole & ~by_topic], ["topic", "partition"]),
        (told[by_topic], ["topic"]),
        (told[whole], []),
    ):
        if len(rows):
            yield _side_by_side(ours, rows, keys)


def _side_by_side(ours: pd.DataFrame, theirs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    if len(keys) < 2:
        # a sum over what is known: both sides leave out partitions without a commit
        ours = (
            ours.groupby([*keys, "timestamp"], sort=True)[["lag", "end"]]
            .sum(min_count=1)
            .reset_index()
        )
    parts = []
    groups = theirs.groupby(keys, sort=True) if keys else [((), theirs)]
    mine = dict(iter(ours.groupby(keys, sort=True))) if keys else {(): ours}
    for key, rows in groups:
        own = mine.get(key)
        if own is None:
            continue
        parts.append(_against(own.sort_values("timestamp"), rows.sort_values("timestamp"), keys))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _against(own: pd.DataFrame, rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return *rows* with the range of our lag around each, and the seconds of production between.

    One topic and partition each.
    """
    at = own["timestamp"].astype("int64").to_numpy() / 1e6
    when = rows["timestamp"].astype("int64").to_numpy() / 1e6
    lag, end = own["lag"].to_numpy(), own["end"].to_numpy()
    first = np.searchsorted(at, when - SKEW_SECONDS, side="left")
    last = np.searchsorted(at, when + SKEW_SECONDS, side="right")
    # the least and greatest of each slice; the last one may end behind the last sample
    edges, padded = np.column_stack([first, last]).ravel(), np.append(lag, np.nan)
    seen = first < last
    low = np.where(seen, np.fmin.reduceat(padded, edges)[::2], np.nan)
    high = np.where(seen, np.fmax.reduceat(padded, edges)[::2], np.nan)
    known = ~np.isnan(end)
    produced = np.nan
    if known.sum() > 1 and at[known][-1] > at[known][0]:
        produced = (end[known][-1] - end[known][0]) / (at[known][-1] - at[known][0])
    theirs = rows["lag"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.fmax(np.fmax(low - theirs, theirs - high), 0.0)
        greater = np.fmax(high, theirs)
        seconds = apart / produced if produced > 0 else np.full(len(apart), np.nan)
        differs = (apart > LEAST_MESSAGES) & (
            (apart > DISAGREEMENT_SHARE * greater) | (seconds > DISAGREEMENT_SECONDS)
        )
    return pd.DataFrame(
        {
            "timestamp": rows["timestamp"].to_numpy(),
            "topic": rows["topic"].to_numpy() if keys else None,
            "partition": rows["partition"].to_numpy() if len(keys) == 2 else None,
            "ours": np.where(theirs < low, low, high),
            "theirs": theirs,
            "apart": apart,
            "seconds": seconds,
            "known": ~np.isnan(low) & ~np.isnan(theirs),
            "differs": differs,
        }
    )


def _told(dialect: str, compared: pd.DataFrame) -> Disagreement | None:
    compared = compared[compared["known"]]
    if compared.empty:
        return None
    moments = compared.groupby("timestamp")["differs"].any().sort_index()
    run = (moments != moments.shift()).cumsum()
    runs = [part.index for _, part in moments[moments].groupby(run[moments]) if
            len(part) >= min(LASTING_SAMPLES, len(moments))]  # fmt: skip
    if not runs:
        return None
    end = moments.index[-1]
    lasting = [part for part in runs if part[-1] == end]
    chosen = lasting[0] if lasting else max(runs, key=lambda part: (len(part), part[0]))
    last = compared[(compared["timestamp"] == chosen[-1]) & compared["differs"]]
    worst = last.loc[last["apart"].idxmax()]
    topic, partition = worst["topic"], worst["partition"]
    return Disagreement(
        dialect=dialect,
        since=chosen[0],
        until=chosen[-1],
        lasting=bool(lasting),
        topic=None if pd.isna(topic) else str(topic),
        partition=None if pd.isna(partition) else int(partition),
        ours=float(worst["ours"]),
        theirs=float(worst["theirs"]),
        seconds=float(worst["seconds"]),
        places=len(last),
    )

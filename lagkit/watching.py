"""The catch-up of a group, look by look: who still lags, how fast it drains, when it is over.

Pure arithmetic over what the looks saw; the arithmetic of offsets itself is ``lagkit.flow``. Knows
no network, no terminal and no clock but the looks' own. A look that failed is a gap and no zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from lagkit import flow as flows
from lagkit.flow.backlog import SLOWEST
from lagkit.model import CatchUp

Outcome = Literal["caught_up", "worse"]
PartitionState = Literal[
    "caught_up", "draining", "waiting", "growing", "stuck", "lost", "no_commit", "unknown"
]

LOOKS_OF_A_TREND = 24
"""Looks that the trend is read from: two minutes of the usual interval."""
SHORTEST_TREND_SECONDS = 30.0
LONGEST_TREND_SECONDS = 600.0
FEWEST_LOOKS = 6
"""Below this a trend has no interval worth the name (``lagkit.flow.backlog``: five samples)."""
LOOKS_TO_BELIEVE = 2
"""A group that is caught up in one look may be between two batches."""
UNTOUCHED_SECONDS = 30.0
"""A partition with records and no commit may be one that its member has not come to. Once all else
has been caught up for this long the member has had the time, and left those records on purpose."""
KEPT_SECONDS = 3600.0
"""History that the looks are kept for; older log ends only matter to older records."""
TURN_SECONDS = 30.0
"""A partition waits its turn while its member catches up with others, and for so long after."""
FROZEN = ("STALL", "STOP", "STALL_OR_STOP")


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """One partition now; NaN where a number is not known.

    ``net_per_second`` is how fast its backlog shrinks (negative: grows). ``waiting``: nothing was
    read of it lately, but its member reads its other partitions and will come to it.
    """

    topic: str
    partition: int
    state: PartitionState
    lag_messages: float
    most_lag_messages: float
    """The greatest lag since the watch began: what a bar is drawn against."""
    age_seconds: float
    age_is_at_least: bool
    net_per_second: float
    committed_offset: float
    frozen_since: pd.Timestamp | None = None

    @property
    def place(self) -> str:
        """Topic and partition as people write them."""
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True, slots=True)
class Progress:
    """The group at one look.

    ``eta`` None with ``eta_note`` why. ``growing``: of some member even the upper end of the
    trend's 95 % interval says that its backlog grows.
    """

    at: pd.Timestamp
    group: str
    state: str
    members: int | None
    lag_messages: float
    most_lag_messages: float
    age_seconds: float
    age_is_at_least: bool
    net_per_second: float
    produce_per_second: float
    partitions: tuple[PartitionProgress, ...]
    eta: CatchUp | None
    eta_note: str
    loss: flows.LossDeadline | None
    caught_up: bool
    growing: bool
    fault: str = ""
    untouched_messages: float = 0.0
    """Records in partitions without a commit: unread for whoever starts at the beginning."""

    @property
    def stuck(self) -> tuple[PartitionProgress, ...]:
        """Partitions with unread records that nobody moves on in."""
        return tuple(part for part in self.partitions if part.state == "stuck")

    @property
    def not_known(self) -> tuple[PartitionProgress, ...]:
        """Partitions of which nothing can be said."""
        return tuple(part for part in self.partitions if part.state in ("no_commit", "unknown"))


@dataclass
class Watch:
    """Keeps the looks at one group and says what they come to.

    Parameters
    ----------
    group, promise_seconds
        Caught up is when no partition has an unread record older than the promise.
    interval_seconds
        Between two looks; the times of an ETA are never closer than this.
    worse_after_seconds
        How long it must have got worse without a break to be given up.
    retention_ms
        Topic → ``retention.ms``, for the loss deadline.
    past
        Offsets known before the first look (``lagkit.flow.joined_history``): log ends tell the age.
    """

    group: str
    promise_seconds: float
    interval_seconds: float
    worse_after_seconds: float
    retention_ms: Mapping[str, float] = field(default_factory=dict)
    past: pd.DataFrame | None = None
    _tables: list[pd.DataFrame] = field(default_factory=list)
    _owners: Mapping[tuple[str, int], str] = field(default_factory=dict)
    _most: pd.Series | None = None
    _most_total: float = 0.0
    _caught_up: int = 0
    _caught_up_since: pd.Timestamp | None = None
    _worse_since: pd.Timestamp | None = None
    _busy: dict[str, pd.Timestamp] = field(default_factory=dict)
    _last: Progress | None = None

    def add(
        self,
        at: pd.Timestamp,
        offsets: pd.DataFrame,
        *,
        state: str = "Unknown",
        members: int | None = None,
        owners: Mapping[tuple[str, int], str] | None = None,
        fault: str = "",
    ) -> Progress:
        """Return the progress after one more look; *offsets* is a frame `offsets`.

        A look without offsets repeats the last numbers, with its *fault* and no judgement.
        """
        if offsets.empty:
            return self._blind(at, state, members, fault)
        self._tables.append(offsets)
        oldest = at - pd.Timedelta(KEPT_SECONDS, "s")
        self._tables = [table for table in self._tables if table["timestamp"].max() >= oldest]
        self._owners = owners or self._owners
        progress = self._progress(at, state, members, fault)
        self._last = progress
        self._caught_up = self._caught_up + 1 if progress.caught_up else 0
        if self._caught_up == 1:
            self._caught_up_since = at
        if not progress.growing:
            self._worse_since = None
        elif self._worse_since is None:
            self._worse_since = at
        return progress

    def outcome(self) -> Outcome | None:
        """Return how it ended; None: it goes on."""
        if self._last is None:
            return None
        if self._caught_up >= LOOKS_TO_BELIEVE:
            assert self._caught_up_since is not None
            for_so_long = (self._last.at - self._caught_up_since).total_seconds()
            if not self._last.untouched_messages or for_so_long >= UNTOUCHED_SECONDS:
                return "caught_up"
        since = self._worse_since
        if since is not None and (self._last.at - since).total_seconds() >= (
            self.worse_after_seconds
        ):
            return "worse"
        return None

    def _blind(self, at: pd.Timestamp, state: str, members: int | None, fault: str) -> Progress:
        nan = float("nan")
        last = self._last
        self._caught_up = 0
        self._worse_since = None
        return Progress(
            at=at,
            group=self.group,
            state=state,
            members=members,
            lag_messages=last.lag_messages if last else nan,
            most_lag_messages=last.most_lag_messages if last else nan,
            age_seconds=last.age_seconds if last else nan,
            age_is_at_least=True,
            net_per_second=nan,
            produce_per_second=nan,
            partitions=last.partitions if last else (),
            eta=None,
            eta_note="not known: the brokers did not answer",
            loss=last.loss if last else None,
            caught_up=False,
            growing=False,
            fault=fault,
        )

    def _progress(self, at: pd.Timestamp, state: str, members: int | None, fault: str) -> Progress:
        live = flows.clean_offsets(pd.concat(self._tables, ignore_index=True))
        ages = live
        if self.past is not None and len(self.past):
            kept = [self.past[list(self._tables[0].columns)], *self._tables]
            ages = flows.clean_offsets(pd.concat(kept, ignore_index=True))
        window = float(
            np.clip(
                LOOKS_OF_A_TREND * self.interval_seconds,
                SHORTEST_TREND_SECONDS,
                LONGEST_TREND_SECONDS,
            )
        )
        status = flows.partition_status(
            ages,
            end=at,
            members=members,
            promise_seconds=self.promise_seconds,
            window_seconds=window,
        )
        turn = _turn(live, at, window)
        own = flows.drain(live, end=at, window_seconds=window, since=turn).partitions
        table = status.merge(
            own[["topic", "partition", "net_per_second", "net_high"]], on=["topic", "partition"]
        )
        table["produce_per_second"] = _production(live, at, window, table)
        table["unit"] = [
            self._owners.get((topic, int(number)), "")
            for topic, number in zip(table["topic"], table["partition"], strict=True)
        ]
        units = _drain_of_units(live, table, at, window, turn)
        waits = self._turns(table, at)
        table = _states(table, units, waits, self.promise_seconds)
        table["most"] = self._greatest(table)
        untouched = _untouched(live, table)
        total = float(table["lag_messages"].sum(min_count=1))
        self._most_total = max(self._most_total, 0.0 if np.isnan(total) else total)
        known = table.loc[~table["state"].isin(["no_commit", "unknown"])]
        caught_up = bool(len(known)) and bool((known["state"] == "caught_up").all())
        caught_up &= not (table["state"] == "unknown").any()
        eta, note = self._eta(table, units, at, caught_up=caught_up)
        if eta is not None and untouched:
            eta, note = None, "not known while there are partitions without a commit"
        oldest = table["time_lag_seconds"].max()
        at_least = table.loc[table["time_lag_seconds"] == oldest, "censored"].any()
        net = float(units["net_per_second"].sum(min_count=1)) if len(units) else float("nan")
        surely = bool((units["net_high"] < -SLOWEST).any()) if len(units) else False
        return Progress(
            at=at,
            group=self.group,
            state=state,
            members=members,
            lag_messages=total,
            most_lag_messages=self._most_total,
            age_seconds=float(oldest),
            age_is_at_least=bool(at_least),
            net_per_second=net,
            produce_per_second=float(table["produce_per_second"].sum(min_count=1)),
            partitions=tuple(_row(row) for row in table.to_dict("records")),
            eta=eta,
            eta_note=note,
            loss=self._loss(ages, at),
            caught_up=caught_up,
            growing=surely and not caught_up,
            fault=fault,
            untouched_messages=untouched,
        )

    def _turns(self, table: pd.DataFrame, at: pd.Timestamp) -> pd.Series:
        """Return whether each partition's member is, or just was, catching up with others."""
        moving = ~table["status"].isin(FROZEN) & ~_fresh(table, self.promise_seconds)
        for unit in table.loc[moving & table["lag_messages"].notna(), "unit"].unique():
            self._busy[unit] = at
        since = table["unit"].map(self._busy)
        return since.notna() & (
            (at - pd.to_datetime(since, utc=True)).dt.total_seconds() <= TURN_SECONDS
        )

    def _greatest(self, table: pd.DataFrame) -> pd.Series:
        now = table.set_index(["topic", "partition"])["lag_messages"]
        self._most = now if self._most is None else now.combine(self._most, np.fmax)
        return self._most.reindex(now.index).reset_index(drop=True)

    def _loss(self, ages: pd.DataFrame, at: pd.Timestamp) -> flows.LossDeadline | None:
        found = [
            flows.loss_deadline(
                rows.reset_index(drop=True), retention_ms=self.retention_ms.get(str(topic)), end=at
            )
            for topic, rows in ages.groupby("topic")
        ]
        told = [loss for loss in found if loss is not None]
        return min(told, key=lambda loss: (loss.at is None, loss.at), default=None)

    def _eta(
        self,
        table: pd.DataFrame,
        units: pd.DataFrame,
        at: pd.Timestamp,
        *,
        caught_up: bool,
    ) -> tuple[CatchUp | None, str]:
        """Return when every member will have caught up: the slowest counts, bounds and all."""
        if caught_up:
            return None, "caught up"
        stuck = table.loc[table["state"] == "stuck"]
        if len(stuck):
            first = stuck.iloc[0]
            more = f" and {len(stuck) - 1} more" if len(stuck) > 1 else ""
            where = f"{first['topic']}/{first['partition']}"
            return None, f"never while partition {where}{more} stands still"
        open_units = units.loc[units["left"] > 0]
        if open_units.empty:
            return None, "not known yet"
        if open_units["net_per_second"].isna().any() or open_units["looks"].min() < FEWEST_LOOKS:
            return None, "measuring"
        if (open_units["net_high"] <= SLOWEST).any():
            return None, "never at this rate"
        seconds = {
            name: float((open_units["left"] / open_units[column].clip(lower=1e-12)).max())
            for name, column in (
                ("low", "net_high"),
                ("mid", "net_per_second"),
                ("high", "net_low"),
            )
        }
        if (
            not seconds["mid"] < KEPT_SECONDS * 24 * 30
            or (open_units["net_per_second"] <= SLOWEST).any()
        ):
            return None, "not within reach at this rate"
        # the end is seen at a look and after a commit, so no date is closer than both
        grain = self.interval_seconds + float(open_units["commit_gap"].fillna(0.0).max())
        low, mid = max(0.0, seconds["low"] - grain), seconds["mid"]
        steady = (open_units["net_low"] > SLOWEST).all()
        high = seconds["high"] + LOOKS_TO_BELIEVE * grain if steady else np.inf
        if not np.isfinite(high) or high > KEPT_SECONDS * 24 * 30:
            return None, "not within reach at this rate: it scatters too much"
        return CatchUp(*(at + pd.Timedelta(round(value), "s") for value in (low, mid, high))), ""


def _turn(live: pd.DataFrame, at: pd.Timestamp, window: float) -> pd.Timestamp | None:
    """Return when the backlog was greatest: what came before the turn says nothing of now."""
    recent = live.loc[live["timestamp"] >= at - pd.Timedelta(window, "s")]
    total = recent.groupby("timestamp")["lag_messages"].sum(min_count=1)
    return total.idxmax() if total.notna().any() else None


def _production(
    live: pd.DataFrame, at: pd.Timestamp, window: float, table: pd.DataFrame
) -> np.ndarray[Any, Any]:
    """Return messages per second written to each partition of *table* over the window."""
    recent = live.loc[live["timestamp"] >= at - pd.Timedelta(window, "s")]
    grouped = recent.dropna(subset=["log_end_offset"]).groupby(["topic", "partition"])
    ends = grouped["log_end_offset"].agg(["first", "last"])
    times = grouped["timestamp"].agg(["min", "max"])
    seconds = (times["max"] - times["min"]).dt.total_seconds()
    speed = ((ends["last"] - ends["first"]).clip(lower=0) / seconds).where(seconds > 0)
    wanted = pd.MultiIndex.from_frame(table[["topic", "partition"]])
    return speed.reindex(wanted).to_numpy(dtype="float64")


def _untouched(live: pd.DataFrame, table: pd.DataFrame) -> float:
    """Return how many records lie in partitions that have no commit."""
    wanted = table.loc[table["state"] == "no_commit", ["topic", "partition"]]
    last = live.loc[live["timestamp"] == live["timestamp"].max()].merge(
        wanted, on=["topic", "partition"]
    )
    return float((last["log_end_offset"] - last["log_start_offset"]).clip(lower=0).sum())


def _drain_of_units(
    live: pd.DataFrame,
    table: pd.DataFrame,
    at: pd.Timestamp,
    window: float,
    turn: pd.Timestamp | None,
) -> pd.DataFrame:
    """Return how fast each member's partitions drain together.

    A member reads its partitions in turns, so that one may stand still while another flies: only
    their sum has a rate. Partitions that nobody owns, or whose owner is not known, are one unit.
    """
    named = table[["topic", "partition", "unit"]]
    rows = live.merge(named, on=["topic", "partition"])
    rows = rows.dropna(subset=["committed_offset", "log_end_offset"])
    if rows.empty:
        return pd.DataFrame(
            columns=["unit", "net_per_second", "net_low", "net_high", "left", "looks", "commit_gap"]
        )
    # a moment at which one of the unit's partitions is missing would be a drop of the sum
    counted = rows.groupby(["unit", "timestamp"])["partition"].transform("size")
    whole = counted == rows.groupby("unit")["partition"].transform("nunique")
    columns = ["committed_offset", "log_end_offset", "lag_messages"]
    summed = rows.loc[whole].groupby(["unit", "timestamp"])[columns].sum().reset_index()
    summed = summed.assign(group="", topic=summed["unit"], partition=0, epoch=0)
    drained = flows.drain(summed, end=at, window_seconds=window, since=turn).partitions
    recent = summed.loc[summed["timestamp"] >= at - pd.Timedelta(window, "s")]
    by = recent.groupby("unit")
    span = by["timestamp"].agg(lambda times: (times.max() - times.min()).total_seconds())
    moves = by["committed_offset"].agg(lambda values: int((values.diff() > 0).sum()))
    units = drained.rename(columns={"topic": "unit"})[
        ["unit", "net_per_second", "net_low", "net_high"]
    ].set_index("unit")
    units["looks"] = by.size()
    units["commit_gap"] = (span / moves).where(moves > 0)
    return units.reset_index()


def _fresh(table: pd.DataFrame, promise: float) -> pd.Series:
    """Return whether nothing unread of a partition is older than the promise.

    An age that is only known from below is no proof of being young.
    """
    young = (table["time_lag_seconds"] <= promise) & ~table["censored"].astype(bool)
    return (table["lag_messages"] <= 0) | young


def _states(
    table: pd.DataFrame, units: pd.DataFrame, waits: pd.Series, promise: float
) -> pd.DataFrame:
    """Return *table* with each partition's state, and give *units* what they have left to read.

    Left is what must be read until nothing is older than the promise: with a steady production
    that is the lag less the records of that time.
    """
    lag, fresh = table["lag_messages"], _fresh(table, promise)
    left = (lag - table["produce_per_second"].fillna(0.0) * promise).clip(lower=1.0)
    table["left"] = left.where(~fresh & lag.notna(), 0.0)
    frozen = table["status"].isin(FROZEN)
    table["state"] = np.select(
        [
            table["status"] == "NO_COMMIT",
            table["status"] == "UNKNOWN",
            table["status"] == "LOST",
            fresh,
            frozen & ~waits,
            frozen,
            table["net_per_second"] < -SLOWEST,
        ],
        ["no_commit", "unknown", "lost", "caught_up", "stuck", "waiting", "growing"],
        default="draining",
    )
    if len(units):
        units["left"] = units["unit"].map(table.groupby("unit")["left"].sum()).fillna(0.0)
    return table


def _row(row: Mapping[str, Any]) -> PartitionProgress:
    frozen = row["frozen_since"]
    return PartitionProgress(
        topic=str(row["topic"]),
        partition=int(row["partition"]),
        state=row["state"],
        lag_messages=float(row["lag_messages"]),
        most_lag_messages=float(row["most"]),
        age_seconds=float(row["time_lag_seconds"]),
        age_is_at_least=bool(row["censored"]),
        net_per_second=float(row["net_per_second"]),
        committed_offset=float(row["committed_offset"]),
        frozen_since=None if pd.isna(frozen) else pd.Timestamp(frozen),
    )

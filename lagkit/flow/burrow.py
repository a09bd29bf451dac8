"""Burrow's evaluation rules, in Burrow's order, for one partition.

A faithful port of the rules of linkedin/Burrow v1.9.5 as lag.md 2.1 states them, kept because
people know them and compare with them. It knows commits and end offsets only; what lagkit itself
makes of a partition is ``lagkit.flow.partition_status``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Status = Literal["OK", "WARN", "STOP", "STALL", "REWIND"]

CODES = {"OK": 1, "WARN": 2, "STOP": 4, "STALL": 5, "REWIND": 6}
"""Numbers Burrow exports for a partition; anything above 3 makes the group ERR."""
INTERVALS = 10
"""Commits and end offsets Burrow keeps (`intervals`)."""
OFFSET_REFRESH_SECONDS = 10.0
"""How often Burrow reads end offsets (`offset-refresh`)."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One stored commit: offset, time in milliseconds, lag when it was made (None: unknown)."""

    offset: int
    timestamp_ms: int
    lag: int | None


def evaluate(
    commits: Sequence[Commit | None],
    broker_end: Sequence[int],
    current_lag: int,
    now: int,
    *,
    allowed_lag: int = 0,
    minimum_complete: float = 0.0,
) -> Status:
    """Return the status Burrow gives a partition.

    Parameters
    ----------
    commits
        The ring, oldest first; empty slots (None) come first and only count for completeness.
    broker_end
        Recent end offsets, in any order.
    current_lag
        Messages between the newest end offset and the last commit.
    now
        Unix time in whole seconds, as Burrow takes it.
    allowed_lag, minimum_complete
        Burrow's settings of the same names; defaults are Burrow's.

    Source: lag.md 2.1 (order STOP, REWIND, zero lag, STALL, WARN).
    """
    stored = [commit for commit in commits if commit is not None]
    if not stored or len(stored) / len(commits) < minimum_complete:
        return "OK"
    if current_lag <= allowed_lag:
        return "OK"
    if stopped(stored, now) and not recently_zero(stored, broker_end):
        return "STOP"
    if rewound(stored):
        return "REWIND"
    if not lag_always_above(stored, allowed_lag):
        return "OK"
    if stalled(stored):
        return "STALL"
    if lag_never_decreases(stored):
        return "WARN"
    return "OK"


def stopped(commits: Sequence[Commit], now: int) -> bool:
    """Tell whether the silence since the last commit is longer than the whole stored history."""
    first, last = commits[0].timestamp_ms, commits[-1].timestamp_ms
    return now * 1000 - last > last - first


def recently_zero(commits: Sequence[Commit], broker_end: Sequence[int]) -> bool:
    """Tell whether a recent end offset was not past the last commit."""
    return any(end <= commits[-1].offset for end in broker_end)


def rewound(commits: Sequence[Commit]) -> bool:
    """Tell whether the first fall of the offset was never made good."""
    offsets = [commit.offset for commit in commits]
    for index in range(1, len(offsets)):
        if offsets[index] < offsets[index - 1]:
            return max(offsets[index:]) < offsets[index - 1]
    return False


def lag_always_above(commits: Sequence[Commit], allowed_lag: int) -> bool:
    """Tell whether no known lag at commit was within the allowed lag."""
    return all(commit.lag is None or commit.lag > allowed_lag for commit in commits)


def stalled(commits: Sequence[Commit]) -> bool:
    """Tell whether all stored commits carry one offset."""
    return len({commit.offset for commit in commits}) == 1


def lag_never_decreases(commits: Sequence[Commit]) -> bool:
    """Tell whether the known lags at commit only rise or stay."""
    lags = [commit.lag for commit in commits if commit.lag is not None]
    return all(later >= earlier for earlier, later in pairwise(lags))

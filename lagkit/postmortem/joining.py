"""Two captures of one group as one window: the first as it is, of the later what came after.

A capture during the incident holds the evidence of its cause, a later one the recovery. Every
history is taken from the first capture up to its last sample there, and from the later one only
beyond that, so that no sample, event or line counts twice. Snapshots are the later one's. Nothing
is judged here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from lagkit import clocks, frames
from lagkit import flow as flows
from lagkit.errors import UsageError
from lagkit.incident import Gap, Incident
from lagkit.wording import clock, duration, printable

RULE = (
    "each history comes from the first capture up to its last sample there, and from the later "
    "capture only what came after; snapshots of the group, its pods and workloads are the later "
    "capture's; the cause is judged on the first capture, or on both where the first shows none"
)
SNAPSHOTS = frozenset({"pods", "workloads", "autoscalers", "nodes", "quotas"})
"""Frames of things as they are: where both captures have one, the later one counts."""
_BY_ROW = frozenset({"events", "logs", "rollouts", "jobs", "configs", "group_log"})
"""Frames whose rows are things with a time of their own: joined row by row, equal ones once."""
LATER_QUERY = ".later"
"""What the ids of the later capture's queries end in."""
_GAP_STEPS = 3.0


@dataclass(frozen=True)
class Joined:
    """One window out of two captures, and what was taken from where."""

    incident: Incident
    until: pd.Timestamp | None
    """Last sample that the first capture gave."""
    taken: dict[str, int]
    left_out: dict[str, int]
    unseen_seconds: float


def joined(first: Incident, later: Incident) -> Joined:
    """Return *first* extended by *later*, on one clock.

    Raises
    ------
    UsageError
        They are of different groups or clusters, or *later* ends no later than *first*.
    """
    _refuse(first, later)
    before, after = clocks.aligned(first)[0], _with_own_queries(clocks.aligned(later)[0])
    tables: dict[str, pd.DataFrame] = {}
    taken: dict[str, int] = {}
    left_out: dict[str, int] = {}
    for name in frames.FRAMES:
        old, new = getattr(before, name), getattr(after, name)
        tables[name] = _together(name, old, new)
        if len(new) and name != "queries":
            came = len(tables[name]) - len(old) if name not in SNAPSHOTS else len(new)
            taken[name], left_out[name] = max(0, came), len(new) - max(0, came)
    until = before.offsets["timestamp"].max() if len(before.offsets) else None
    unseen = _unseen(before, after)
    gaps = list(dict.fromkeys((*before.coverage, *after.coverage)))
    if unseen:
        gaps.append(
            Gap(
                "lagkit",
                "the time between the two captures",
                f"nothing was recorded for {duration(unseen)}; figures bridge it by straight lines",
                "capture with --start at the end of the first one",
            )
        )
    whole = replace(
        before,
        tables=tables,
        topics=tuple(sorted({*before.topics, *after.topics})),
        start=before.start,
        end=after.end,
        captured_at=after.captured_at,
        sources=after.sources,
        facts=after.facts,
        coverage=tuple(gaps),
        redactions={
            kind: before.redactions.get(kind, 0) + after.redactions.get(kind, 0)
            for kind in {*before.redactions, *after.redactions}
        },
    )
    return Joined(whole, until, taken, left_out, unseen)


def _refuse(first: Incident, later: Incident) -> None:
    if first.group != later.group:
        msg = (
            f"--also is a capture of group {printable(later.group, limit=80)!r}, the post-mortem "
            f"is of {printable(first.group, limit=80)!r}: they cannot be joined."
        )
        raise UsageError(msg, hint="Give a later capture of the same group, or leave --also out.")
    if first.cluster and later.cluster and first.cluster != later.cluster:
        msg = (
            f"--also comes from cluster {printable(later.cluster, limit=80)!r}, the first capture "
            f"from {printable(first.cluster, limit=80)!r}: groups of one name, but not one group."
        )
        raise UsageError(msg, hint="Give a later capture from the same cluster.")
    if later.end <= first.end:
        msg = (
            f"--also ends at {clock(later.end, seconds=True)}, no later than the first capture "
            f"({clock(first.end, seconds=True)}): it adds nothing."
        )
        raise UsageError(msg, hint="Give the earlier capture first and the later one with --also.")


def _with_own_queries(incident: Incident) -> Incident:
    """Return *incident* with query ids that cannot be taken for the first capture's."""
    tables = {
        name: table.assign(query_id=(table["query_id"] + LATER_QUERY).astype(frames.TEXT))
        if len(table)
        else table
        for name, table in incident.tables.items()
    }
    return replace(incident, tables=tables)


def _together(name: str, old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    if new.empty or old.empty:
        return old if new.empty else new
    keys = list(frames.FRAMES[name].keys)
    if name == "queries":
        return frames.normalise(name, pd.concat([old, new], ignore_index=True))
    if name in SNAPSHOTS:
        both = pd.concat([old, new], ignore_index=True)
        return frames.normalise(name, both.drop_duplicates(keys, keep="last"))
    if name in _BY_ROW:
        both = pd.concat([old, new], ignore_index=True)
        content = [column for column in both.columns if column not in ("query_id", "line_number")]
        same = keys if frames.FRAMES[name].unique and name != "logs" else content
        both = both.drop_duplicates(same, keep="first")
        return frames.normalise(name, _renumbered(both) if name == "logs" else both)
    came = new.loc[new["timestamp"] > old["timestamp"].max()]
    if came.empty:
        return old
    return frames.normalise(name, pd.concat([old, came], ignore_index=True))


def _renumbered(logs: pd.DataFrame) -> pd.DataFrame:
    """Return log lines of two readings with numbers that no two share."""
    where = ["namespace", "pod", "container", "previous"]
    numbers = logs.groupby(where, observed=True).cumcount()
    return logs.assign(line_number=numbers.astype("Int64"))


def _unseen(before: Incident, after: Incident) -> float:
    """Return the seconds between the captures in which no offsets were recorded."""
    ended = before.offsets["timestamp"].max() if len(before.offsets) else before.end
    came = after.offsets["timestamp"]
    came = came.loc[came > ended]
    begins = came.min() if len(came) else max(after.start, ended)
    seconds = float((begins - ended).total_seconds())
    step = flows.scrape_step(before.offsets) if len(before.offsets) else float("nan")
    return seconds if seconds > _GAP_STEPS * (step if step > 0 else 15.0) else 0.0

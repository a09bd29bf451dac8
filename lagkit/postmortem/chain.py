"""Trigger, critical failure, contributing causes and mechanism: the ranking, told as a chain.

A trigger is a change of state: something was deployed, scaled, restarted or reconfigured just
before. "Slow processing" is where it failed first, and lag is what that cost; neither is a root.
There is no single root cause here, and a person is never one.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from lagkit.causes import NONE, UNKNOWN
from lagkit.investigation import Result
from lagkit.postmortem.model import Chain, Change, TimelineRow
from lagkit.postmortem.timeline import CHANGES

NEAR_SECONDS = 900.0
"""A change counts as a possible trigger if it came so long before the onset, or as it began."""
MOST_TRIGGERS = 8
CAPACITY_CAUSES = frozenset({"message_spike", "under_parallelism"})
CAPACITY_EVIDENCE = frozenset({"consumption_at_capacity", "no_spare_partition", "replicas_capped"})


def chain(judged: Result, whole: Result, judged_on: str, rows: Iterable[TimelineRow]) -> Chain:
    """Return the chain: the ranking of *judged*, and what changed in the timeline *rows*."""
    verdict = judged.verdict
    ranked = [entry for entry in verdict.ranking if entry.cause != NONE]
    top = verdict.ranking[0] if verdict.ranking else None
    bound, because = capacity_bound(judged)
    return Chain(
        judged_on=judged_on,
        cause=verdict.verdict.cause,
        title=judged.catalogue.cause(verdict.verdict.cause).title,
        likelihood_term=verdict.verdict.likelihood_term,
        summary=verdict.verdict.summary,
        triggers=triggers(whole, rows),
        changes_looked_for=whole.incident.readable("kubernetes"),
        primary=top if top is not None and top.cause != UNKNOWN else None,
        contributing=tuple(entry for entry in ranked if entry.role == "contributing"),
        mechanism=tuple(entry for entry in ranked if entry.role == "mechanism"),
        ruled_out=tuple(entry.cause for entry in ranked if entry.status == "invalidated"),
        titles={entry.cause: judged.catalogue.cause(entry.cause).title for entry in ranked},
        capacity_bound=bound,
        capacity_because=because,
    )


def triggers(result: Result, rows: Iterable[TimelineRow]) -> tuple[Change, ...]:
    """Return the changes of state shortly before the onset or as it began, nearest first."""
    onset = result.verdict.onset
    if onset is None or onset.censored:
        return ()
    begin, latest = pd.Timestamp(onset.at), pd.Timestamp(onset.latest)
    near = [
        Change(
            row.at,
            row.kind,
            row.what,
            (begin - pd.Timestamp(row.at)).total_seconds(),
            row.source,
            row.query,
        )
        for row in rows
        if row.kind in CHANGES
        and pd.Timestamp(row.at) <= latest
        and (begin - pd.Timestamp(row.at)).total_seconds() <= NEAR_SECONDS
    ]
    near.sort(key=lambda change: (abs(change.before_onset_seconds), change.what))
    return tuple(near[:MOST_TRIGGERS])


def capacity_bound(result: Result) -> tuple[bool | None, str]:
    """Return whether the group could not have kept up as it was sized, and by what.

    True: demand exceeded what it can handle with everything well. False: it failed for another
    reason. None: nobody could tell. What follows from True is work for capacity, and takes the
    action items of a capacity report as they are (``extra`` of ``candidates``).
    """
    cause = result.verdict.verdict.cause
    seen = [
        finding.statement
        for finding in result.verdict.findings
        if finding.kind in CAPACITY_EVIDENCE
    ]
    if cause in CAPACITY_CAUSES:
        return True, seen[0] if seen else result.catalogue.cause(cause).title
    if cause == UNKNOWN:
        return None, "the cause is unknown"
    return False, result.catalogue.cause(cause).title

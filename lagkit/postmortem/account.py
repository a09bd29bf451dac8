"""From one or two captures to a post-mortem: the one place that knows the order of the steps.

No clock, no network and nothing displayed: same captures in, same post-mortem out. The notebook,
the command and a program call :func:`build` alike.
"""

from __future__ import annotations

import hashlib
import zoneinfo
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lagkit.causes import NONE, UNKNOWN
from lagkit.clocks import aligned
from lagkit.errors import UsageError
from lagkit.incident import Incident
from lagkit.investigation import Result, investigate
from lagkit.model import IncidentReference
from lagkit.postmortem import measures
from lagkit.postmortem.candidates import candidates
from lagkit.postmortem.chain import chain
from lagkit.postmortem.detection import alert_stamps, alerts_seen, detection, telling
from lagkit.postmortem.facts import got_lucky, went_well
from lagkit.postmortem.joining import RULE, Joined, joined
from lagkit.postmortem.model import (
    STATUS,
    Asked,
    Blindness,
    Capture,
    Completeness,
    Joining,
    Postmortem,
    SourceSeen,
    as_written,
)
from lagkit.postmortem.planned import Planned
from lagkit.postmortem.similar import Signatures, nearest, signature
from lagkit.postmortem.timeline import baseline_row, timeline
from lagkit.version import __version__
from lagkit.wording import clock

if TYPE_CHECKING:
    from lagkit.figure import Figure
    from lagkit.tables import Sheet

FIGURES = ("timeline", "flow", "partitions", "cumulative", "assignment")
"""Figures of the whole window; that of the evidence belongs to the capture it was judged on."""
EVIDENCE_FIGURE = "evidence"


@dataclass(frozen=True)
class Account:
    """The post-mortem with what it rests on; shows itself, computes nothing more."""

    postmortem: Postmortem
    judged: Result
    """The result that the cause comes from."""
    whole: Result
    """The result over the whole window."""

    def figure(self, name: str) -> Figure:
        """Return the figure *name*, one of ``FIGURES`` or ``evidence``."""
        from lagkit import charts

        return charts.figure(self.judged if name == EVIDENCE_FIGURE else self.whole, name)

    def figures(self) -> tuple[Figure, ...]:
        """Return all figures of a post-mortem, in their order."""
        return tuple(self.figure(name) for name in (*FIGURES, EVIDENCE_FIGURE))

    def table(self, name: str) -> Sheet:
        """Return the table *name*, e.g. impact, stamps, timeline, replayed or candidates."""
        from lagkit.postmortem.sheets import sheet

        return sheet(self.postmortem, name)

    def __repr__(self) -> str:
        """Return the summary in numbers."""
        from lagkit.postmortem.sentences import summary

        return "\n".join(summary(self.postmortem))

    def _repr_markdown_(self) -> str:
        from lagkit.postmortem.sentences import summary
        from lagkit.render.markdown import bullets, escape

        return bullets(escape(line) for line in summary(self.postmortem))


def build(
    incident: Incident,
    *,
    later: Incident | None = None,
    signatures: Signatures | None = None,
    zone: str = "UTC",
    capacity: Planned | None = None,
) -> Account:
    """Return the post-mortem of *incident*.

    Parameters
    ----------
    later
        A later capture of the same group: it extends the window to the recovery.
    signatures
        Earlier incidents to compare with (``similar.read_folder``).
    zone
        IANA name of the local time that stands beside UTC.
    capacity
        What a capacity report suggests (``planned.read_capacity``); taken for its group where the
        incident was bound by capacity.

    Raises
    ------
    UsageError
        *later* is not a later capture of the same group, or there is no such time zone.
    """
    refuse_zone(zone)
    planned = () if capacity is None else capacity.of(incident.group)
    together = joined(incident, later) if later is not None else None
    first = investigate(incident)
    whole = investigate(together.incident) if together is not None else first
    judged = _judged(first, whole)
    judged_on = incident.id if judged is first else "both captures"
    path = measures.course(whole)
    seen = alerts_seen(whole.incident)
    onset = whole.verdict.onset
    chosen = telling(seen, pd.Timestamp(onset.earliest) if onset else None)
    alert, expression = alert_stamps(whole.incident, seen, chosen)
    known = measures.stamps(whole, path, alert, expression)
    by_name = {stamp.name: stamp for stamp in known}
    complete = _completeness(incident, later, judged, whole)
    impact = measures.impact(whole, path, known, bridged=complete.unseen_seconds)
    topics = measures.topics(whole, path)
    retention = retention_seconds(whole.incident)
    noticed = detection(whole, path, seen, chosen, by_name, retention)
    rows = timeline(
        whole,
        tuple(aligned(one)[0] for one in (incident, later) if one is not None),
        known,
        seen,
        judged.verdict.findings,
        baseline_row(
            whole,
            path.queries,
            float(path.lag.iloc[0]) if len(path.lag) else None,
            float(path.age.iloc[0]) if len(path.age) else None,
            impact.promise_seconds,
        ),
    )
    links = chain(judged, whole, judged_on, rows)
    lucky = got_lucky(whole, path, impact, retention)
    own = signature(judged)
    mine = [one.id for one in (incident, later) if one is not None]
    reference = whole.verdict.incident
    made = Postmortem(
        status=STATUS,
        incident=IncidentReference(
            incident.id,
            reference.cluster,
            reference.group,
            reference.topics,
            reference.start,
            reference.end,
        ),
        generated_at=whole.incident.captured_at,
        lagkit_version=__version__,
        zone=zone,
        state=whole.verdict.state,
        onset=onset,
        captures=_captures(incident, later),
        joining=_joining(together),
        completeness=complete,
        stamps=known,
        intervals=measures.intervals(known),
        impact=impact,
        topics=topics,
        detection=noticed,
        timeline=rows,
        chain=links,
        went_well=went_well(first, impact, topics, noticed, by_name, complete, path),
        got_lucky=lucky,
        candidates=candidates(
            judged, links, noticed, impact, topics, lucky, complete, extra=planned
        ),
        similar=nearest(own, signatures, mine),
        queries=_queries(whole.incident),
    )
    return Account(as_written(made), judged, whole)


def refuse_zone(zone: str) -> None:
    """Refuse a time zone that there is not."""
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        msg = f"There is no time zone {zone[:80]!r} here."
        raise UsageError(msg, hint="Give an IANA name, as Europe/Paris or UTC.") from None


def retention_seconds(incident: Incident) -> float | None:
    """Return the shortest retention of the incident's topics, None if unknown or unlimited."""
    configs = incident.configs
    rows = configs.loc[
        (configs["key"] == "retention.ms")
        & (configs["resource"] == "topic")
        & configs["name"].isin(incident.topics)
    ]
    millis = pd.to_numeric(rows["value"], errors="coerce")
    millis = millis[millis > 0]
    return float(millis.min()) / 1000 if len(millis) else None


def _judged(first: Result, whole: Result) -> Result:
    """Return the result whose evidence is nearest to the cause: that of the first capture.

    Pods and logs of a later capture show a group that is well again.
    """
    if first.cause in (UNKNOWN, NONE) and whole.cause not in (UNKNOWN, NONE):
        return whole
    return first


def _captures(incident: Incident, later: Incident | None) -> tuple[Capture, ...]:
    return tuple(
        Capture(
            role,  # type: ignore[arg-type]
            one.id,
            hashlib.sha256(one.to_bytes()).hexdigest(),
            one.start,
            one.end,
            one.captured_at,
            one.lagkit_version,
        )
        for role, one in (("first", incident), ("later", later))
        if one is not None
    )


def _joining(together: Joined | None) -> Joining | None:
    if together is None:
        return None
    return Joining(
        RULE,
        together.until,
        dict(sorted(together.taken.items())),
        dict(sorted(together.left_out.items())),
        together.unseen_seconds,
    )


def _completeness(
    incident: Incident, later: Incident | None, judged: Result, whole: Result
) -> Completeness:
    headline, cleaned = judged.verdict.verdict, whole.flow.cleaned
    start, end = whole.incident.start, whole.incident.end
    known = cleaned.loc[cleaned["lag_messages"].notna(), "timestamp"].drop_duplicates()
    seen = int(((known >= start) & (known <= end)).sum())
    step = whole.flow.step_seconds
    expected = int(np.floor((end - start).total_seconds() / step)) + 1 if step > 0 else 0
    return Completeness(
        checks_with_data=headline.evidence_checked,
        checks_total=headline.evidence_total,
        confidence=headline.confidence,
        samples_seen=min(seen, expected) if seen else 0,
        samples_expected=expected,
        step_seconds=step if len(cleaned) else None,
        unseen_seconds=measures.unseen_seconds(cleaned, start, end),
        sources=tuple(
            SourceSeen(one.id, name, report.status, report.detail)
            for one in (incident, later)
            if one is not None
            for name, report in sorted(one.sources.items())
        ),
        blind=tuple(
            Blindness(gap.source, gap.what, gap.why, gap.fix) for gap in whole.incident.coverage
        ),
        not_believed=tuple(
            f"{one.exporter} since {clock(one.since, seconds=True)}: {one.title}"
            for one in whole.verdict.suspicions
        ),
    )


def _queries(incident: Incident) -> tuple[Asked, ...]:
    return tuple(
        Asked(
            str(row["query_id"]),
            str(row["source"]),
            str(row["statement"]),
            str(row["outcome"]),
            int(row["rows"]),
            _detail(row["detail"]),
        )
        for row in incident.queries.to_dict("records")
    )


def _detail(value: Any) -> str:
    return "" if pd.isna(value) else str(value)

"""From an incident to a verdict: measure the flow, run the signals, rank the causes, say it.

The one place that knows the order of the steps. Same incident in, same verdict out: no clock, no
network, no randomness, and nothing is printed or drawn.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from lagkit import clocks, escalation, frames, model, monitoring, ranking, remedies, signals
from lagkit import flow as flows
from lagkit.causes import NONE, UNKNOWN, Catalogue, catalogue
from lagkit.incident import Gap, Incident
from lagkit.left_topics import without_left_topics
from lagkit.measurement import Flow, measure
from lagkit.ownership import owners
from lagkit.preconditions import Captured
from lagkit.prospects import prospects
from lagkit.runbook import Group
from lagkit.version import __version__

if TYPE_CHECKING:
    from lagkit.figure import Figure
    from lagkit.tables import Sheet

_SNAPSHOTS = (
    "group_state",
    "members",
    "partitions",
    "oldest_unread",
    "workloads",
    "downstream",
)
"""Frames that show one moment; the others hold times of their own."""


@dataclass(frozen=True)
class Result:
    """The verdict with what it rests on; shows itself, computes nothing more."""

    incident: Incident
    verdict: model.Verdict
    flow: Flow
    owners: pd.DataFrame
    runbook_group: Group
    catalogue: Catalogue

    @property
    def cause(self) -> str:
        """The cause ranked first."""
        return self.verdict.verdict.cause

    @property
    def ranking(self) -> tuple[model.RankedCause, ...]:
        """The ranked causes."""
        return self.verdict.ranking

    def figure(self, name: str) -> Figure:
        """Return the figure *name* of ``lagkit.charts``, e.g. timeline, flow or partitions."""
        from lagkit import charts

        return charts.figure(self, name)

    def table(self, name: str) -> Sheet:
        """Return the table *name* of ``lagkit.tables``, e.g. findings, ranking or actions."""
        from lagkit import tables

        return tables.sheet(self, name)

    def explain(self, cause: str) -> Explanation:
        """Return evidence for and against *cause*, what was not checked, what would change it."""
        return Explanation(self.catalogue.cause(cause).title, self.verdict.cause(cause))

    def __repr__(self) -> str:
        """Return the first screen: what the engineer on call reads."""
        from lagkit.report import first_screen

        return first_screen(self)

    def _repr_markdown_(self) -> str:
        from lagkit.report import first_screen

        return f"```\n{first_screen(self)}\n```"


@dataclass(frozen=True)
class Explanation:
    """One cause explained; text in a terminal, a list in a notebook."""

    title: str
    entry: model.RankedCause

    def __repr__(self) -> str:
        """Return the explanation as plain text."""
        entry = self.entry
        status = entry.status.replace("_", " ")
        lines = [
            f"{self.title} ({entry.cause}): {entry.probability:.0%}; {status}, role {entry.role}",
            f"  before any evidence {entry.prior:.0%}",
        ]
        for heading, rows in (("for", entry.evidence_for), ("against", entry.evidence_against)):
            lines += [f"  {heading:<8}{row.weight:+.2f} nats  {row.statement}" for row in rows]
        lines += [f"  not checked  {text}" for text in entry.not_checked]
        lines += [f"  would change it  {text}" for text in entry.would_change]
        return "\n".join(lines)


def investigate(incident: Incident) -> Result:
    """Return the verdict on *incident*: ranked causes, findings, impact, forecast, actions.

    The result holds the incident on one clock (``lagkit.clocks``).
    """
    incident, doubts = clocks.aligned(incident)
    group = incident.runbook.group(incident.group)
    known = catalogue()
    seen = without_left_topics(_at_its_end(incident))
    suspected = monitoring.suspicions(monitoring.Watched.of(seen))
    seen = monitoring.believed(seen, suspected)
    flow = measure(seen, promise_seconds=group.promise_seconds)
    owned = owners(seen.members.loc[seen.members["group"] == seen.group], seen.pods)
    context = signals.Context(seen, flow, owned, group)
    checks = signals.run(context, known)
    onset = None
    if flow.onset is not None:
        begin = flow.onset
        onset = model.Onset(begin.at, begin.earliest, begin.latest, censored=begin.censored)
    ranked = ranking.rank(
        checks,
        known,
        ratings=incident.runbook.priors,
        onset=onset,
        step_seconds=flow.step_seconds,
    )
    impact = _impact(incident, flow)
    members = incident.group_state.loc[
        incident.group_state["group"] == incident.group, "member_count"
    ].dropna()
    now = float(members.iloc[-1]) if len(members) else None
    usual = remedies.usual_members(seen, context.onset_earliest)
    names = remedies.names(
        incident, ranked.findings, unread=impact.lag_messages_now, members=now, usual_members=usual
    )
    situation = remedies.situation(
        incident,
        flow,
        checks,
        ranked.findings,
        unread=impact.lag_messages_now,
        members=now,
        usual_members=usual,
        onset=context.onset_earliest,
    )
    outlooks = prospects(situation) if ranked.top.cause != NONE else ()
    captured = Captured(seen, situation, {check.kind: check for check in checks})
    verdict = model.Verdict(
        incident=model.IncidentReference(
            incident.id,
            incident.cluster,
            incident.group,
            incident.topics,
            incident.start,
            incident.end,
        ),
        generated_at=incident.captured_at,
        lagkit_version=__version__,
        state=flow.state,
        onset=onset,
        verdict=_headline(ranked, known, clocks_doubted=bool(doubts)),
        ranking=ranked.causes,
        findings=ranked.findings,
        impact=impact,
        forecast=_forecast(incident, flow),
        actions=remedies.actions(incident.runbook, ranked.causes, names, captured, outlooks),
        do_not=remedies.do_not(incident.runbook, ranked.causes, names),
        sources=_sources(incident),
        not_checked=_not_checked(seen, checks, known, suspected),
        checks=checks,
        next_check=ranked.next_check,
        suspicions=suspected,
        prospects=outlooks,
    )
    verdict = replace(verdict, escalation=escalation.due(verdict, incident.runbook))
    return Result(incident, verdict, flow, owned, group, known)


def _at_its_end(incident: Incident) -> Incident:
    """Return *incident* without snapshots that were taken too long after its window's end.

    A group that was scaled down yesterday says nothing of last week's lag. Of the pods remains
    what their last termination says, for that has a time of its own.
    """
    if incident.captured_at - incident.end <= signals.SNAPSHOT_DELAY:
        return incident
    emptied = {name: frames.empty(name) for name in _SNAPSHOTS if name in incident.tables}
    pods = incident.pods.loc[incident.pods["role"] == "consumer"].assign(
        ready=pd.array([pd.NA] * int((incident.pods["role"] == "consumer").sum()), dtype="boolean"),
        state_reason=pd.Series(None, dtype="str"),
        unschedulable=pd.Series(None, dtype="str"),
    )
    why = (
        f"read at {incident.captured_at:%Y-%m-%d %H:%M}Z, too long after the window to show its end"
    )
    gaps = tuple(
        Gap(source, what, why)
        for source, what in (
            ("kafka", "members, partitions and state of the group"),
            ("kubernetes", "pods and workloads as they are"),
            ("downstream", "probes of the downstream"),
        )
        if incident.readable(source)
    )
    return replace(
        incident,
        tables={**incident.tables, **emptied, "pods": frames.normalise("pods", pods)},
        coverage=(*incident.coverage, *gaps),
    )


def _headline(
    ranked: ranking.Ranking, known: Catalogue, *, clocks_doubted: bool = False
) -> model.Headline:
    top = ranked.top
    cause = known.cause(top.cause)
    seen = {finding.id: finding for finding in ranked.findings}
    # A reason is something that was seen; the most telling first.
    reasons = [seen[line.id].statement for line in top.evidence_for if line.id in seen][:2]
    if top.cause == UNKNOWN:
        second = ranked.causes[1]
        summary = (
            "the evidence does not single out a cause; nearest is "
            f"{known.cause(second.cause).title.lower()}"
        )
    elif top.cause == NONE:
        summary = reasons[0] if reasons else "the group keeps its promise"
    else:
        summary = "; ".join(reasons) if reasons else cause.meaning
    return model.Headline(
        cause=top.cause,
        likelihood=top.probability,
        likelihood_term=ranking.likelihood_term(top.probability),
        # causes are told apart by what came first
        confidence="moderate"
        if clocks_doubted and ranked.confidence == "high"
        else ranked.confidence,
        summary=f"{cause.title}: {summary}",
        evidence_checked=ranked.evidence_checked,
        evidence_total=ranked.evidence_total,
    )


def _impact(incident: Incident, flow: Flow) -> model.Impact:
    delay, deleted = flow.delay, flow.deleted
    lag = flow.group["lag_messages"].dropna() if len(flow.group) else pd.Series(dtype="float64")
    ages = flows.without_markers(flow.time_lag, flow.status).dropna(subset=["time_lag_seconds"])
    last = ages.loc[ages["timestamp"] == ages["timestamp"].max()] if len(ages) else ages
    oldest = last.loc[last["time_lag_seconds"].idxmax()] if len(last) else None
    return model.Impact(
        peak_lag_messages=_known(delay.peak_lag_messages) if delay else None,
        peak_age_seconds=_known(delay.peak_age_seconds) if delay else None,
        messages_delayed=_known(delay.messages_delayed) if delay else None,
        delay_message_seconds=_known(delay.message_seconds) if delay else None,
        slo_minutes_broken=_known(delay.slo_minutes_broken) if delay else None,
        messages_lost=deleted.messages if deleted.messages or deleted.proved else None,
        lag_messages_now=_known(float(lag.iloc[-1])) if len(lag) else None,
        oldest_age_seconds_now=_known(float(oldest.time_lag_seconds))
        if oldest is not None
        else None,
        oldest_age_is_at_least=bool(oldest.censored) if oldest is not None else False,
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _forecast(incident: Incident, flow: Flow) -> model.Forecast:
    drain, deadline = flow.drain, flow.deadline
    catch_up = None
    if drain is not None and flow.state not in ("healthy", "recovered", "unknown"):
        seconds = (drain.low_seconds, drain.mid_seconds, drain.high_seconds)
        # An interval that has no upper end is "maybe never": not a date.
        if all(np.isfinite(value) for value in seconds):
            catch_up = model.CatchUp(
                *(incident.end + pd.Timedelta(round(value), "s") for value in seconds)
            )
    return model.Forecast(
        net_drain_per_second=_known(drain.net_per_second) if drain else None,
        catch_up_at=catch_up,
        data_loss_at=deadline.at if deadline is not None else None,
        data_loss_rule=deadline.rule if deadline is not None else "",
    )


def _sources(incident: Incident) -> dict[str, model.SourceReport]:
    """Return how each of the four sources did, in the contract's order, whatever the file's was."""
    absent = model.SourceReport("not_configured", "The incident says nothing of it.", 0.0)
    return {name: incident.sources.get(name, absent) for name in get_args(model.SourceName)}


def _not_checked(
    incident: Incident,
    checks: tuple[model.Check, ...],
    known: Catalogue,
    suspected: tuple[model.Suspicion, ...],
) -> tuple[str, ...]:
    """Return what was not seen and why: what is not believed, gaps of the sources, then the rest.

    The rest are questions that stayed without an answer.
    """
    told = [
        f"lag history: {suspicion.statement}; not believed"
        for suspicion in suspected
        if suspicion.kind in monitoring.UNTRUE_HISTORY
    ]
    told += [
        f"{gap.what}: {gap.why.rstrip('.')}" + (f". {gap.fix}" if gap.fix else "")
        for gap in incident.coverage
    ]
    told += [
        f"{name}: {report.detail}"
        for name, report in _sources(incident).items()
        if report.status in ("unavailable", "not_configured")
    ]
    told += [
        f"{known.kind(check.kind).question} {check.reason}".strip()
        for check in checks
        if check.outcome == "not_checked"
    ]
    return tuple(dict.fromkeys(told))


@functools.cache
def demo_path() -> str:
    """Return the path of the bundled incident, recorded from the lab."""
    from lagkit.resources import resource_path

    return str(resource_path("templates/demo/deployment-worker.lagkit"))

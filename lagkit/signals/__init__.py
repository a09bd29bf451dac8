"""Frames to findings: each signal answers the questions of some kinds of evidence.

A signal is a plain function of a :class:`Context`. It says what it saw, since when, against which
baseline and from which query; it knows no cause. Every kind ends as exactly one ``Check``:
present, absent (looked and did not see) or not checked (could not look).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from lagkit.model import Check, Finding, SourceName

if TYPE_CHECKING:
    from lagkit.causes import Catalogue
    from lagkit.incident import Incident
    from lagkit.measurement import Flow
    from lagkit.runbook import Group

Answer = TypeVar("Answer")

BURST = pd.Timedelta("15s")
"""Lines about one rebalance come within this: a join waits for the slowest member's heartbeat."""
SNAPSHOT_DELAY = pd.Timedelta("5min")
"""What was read up to this long after the window's end still shows the state at its end."""


@dataclass(frozen=True)
class Context:
    """What a signal may look at: the incident, the flow computed from it, and who owns what."""

    incident: Incident
    flow: Flow
    owners: pd.DataFrame
    """topic, partition → member_id, client_id, host, pod, joined_by (``lagkit.ownership``)."""
    group: Group
    """The group's entry in the runbook."""
    answered: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What :func:`once` keeps."""

    @property
    def onset_at(self) -> pd.Timestamp:
        """When the lag began; the start of the window if no onset was found."""
        onset = self.flow.onset
        return onset.at if onset is not None else self.incident.start

    @property
    def onset_earliest(self) -> pd.Timestamp:
        """The earliest the lag may have begun."""
        onset = self.flow.onset
        return onset.earliest if onset is not None else self.incident.start

    @property
    def onset_latest(self) -> pd.Timestamp:
        """The latest the lag may have begun; the start of the window if no onset was found."""
        onset = self.flow.onset
        return onset.latest if onset is not None else self.incident.start

    @property
    def history_source(self) -> SourceName:
        """Where the flow's offsets come from: an exporter's history, or Kafka's few snapshots."""
        moments = self.incident.offsets["timestamp"]
        exported = bool(self.flow.cleaned["timestamp"].isin(moments).any())
        return "prometheus" if exported else "kafka"

    @property
    def seen_only_now(self) -> bool:
        """Whether the lag is known in Kafka's few snapshots and hardly at any time before them."""
        return self.flow.seen_only_now

    @property
    def history_query(self) -> str:
        """The queries behind the flow's offsets."""
        incident = self.incident
        if self.history_source == "prometheus":
            return queries_of(incident.offsets)
        own = incident.partitions.loc[incident.partitions["group"] == incident.group]
        return queries_of(own, incident.log_end_history, incident.commits)

    @property
    def consumer_logs(self) -> pd.DataFrame:
        """The log lines of the consumer's pods inside the window."""
        logs = self.incident.logs
        at = logs["timestamp"]
        return logs.loc[
            (logs["role"] == "consumer")
            & (at >= self.incident.start)
            & (at <= self.incident.end + SNAPSHOT_DELAY)
        ]

    def gap(self, source: SourceName, what: str = "") -> str:
        """Return why *source* could not show something, for the reader of a report."""
        report = self.incident.sources.get(source)
        if report is None or report.status == "not_configured":
            return f"{source} is not configured."
        if report.status == "unavailable":
            return f"{source} could not be read: {report.detail}"
        for gap in self.incident.coverage:
            if gap.source == source and (not what or what in gap.what):
                return f"{gap.what}: {gap.why}"
        return f"{source} gave no {what}." if what else f"{source} gave nothing on this."


def once(question: Callable[[Context], Answer]) -> Callable[[Context], Answer]:
    """Have *question* answered once for each context, whoever asks it again."""

    @wraps(question)
    def asked(context: Context) -> Answer:
        name = f"{question.__module__}.{question.__qualname__}"
        if name not in context.answered:
            context.answered[name] = question(context)
        answer: Answer = context.answered[name]
        return answer

    return asked


def present(kind: str, *findings: Finding) -> Check:
    """Return the check of a kind that was seen; at least one finding."""
    first = findings[0]
    return Check(kind, "present", findings, source=first.source, query=first.query)


def absent(kind: str, reason: str, source: SourceName, query: str = "") -> Check:
    """Return the check of a kind that was looked for and not seen; *reason* says what was."""
    return Check(kind, "absent", reason=reason, source=source, query=query)


def not_checked(kind: str, reason: str, source: SourceName = "prometheus") -> Check:
    """Return the check of a kind that could not be looked for."""
    return Check(kind, "not_checked", reason=reason, source=source)


def bursts(times: pd.Series[pd.Timestamp], apart: pd.Timedelta = BURST) -> int:
    """Count moments: what several pods write about one rebalance is one, and so is one rollout."""
    count, begun = 0, None
    for moment in times.sort_values():
        if begun is None or moment - begun > apart:
            count, begun = count + 1, moment
    return count


def queries_of(*tables: pd.DataFrame) -> str:
    """Return the ids of the queries behind *tables*, comma separated, at most six."""
    ids = sorted({str(i) for table in tables if len(table) for i in table["query_id"].unique()})
    return ", ".join(ids[:6]) + (" …" if len(ids) > 6 else "")


def quantity(value: float) -> str:
    """Return a number as a person reads it: 3 significant digits, thousands separated."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


Signal = Callable[[Context], Iterable[Check]]


def signals() -> tuple[Signal, ...]:
    """Return lagkit's signals, in the order in which a person would look."""
    from lagkit.signals import (
        broker,
        downstream,
        logs,
        membership,
        partitions,
        pod_metrics,
        pods,
        rates,
    )

    return (
        rates.demand_and_supply,
        rates.calm,
        partitions.shape,
        partitions.offset_anomalies,
        membership.members,
        pods.consumers,
        pod_metrics.history,
        logs.members_words,
        downstream.dependencies,
        broker.brokers_and_neighbours,
    )


def run(context: Context, catalogue: Catalogue) -> tuple[Check, ...]:
    """Run every signal; return one check per evidence kind of *catalogue*, in its order."""
    from lagkit.signals.together import conclusions

    checks: dict[str, Check] = {}
    for signal in signals():
        checks |= {check.kind: check for check in signal(context)}
    checks |= {check.kind: check for check in conclusions(checks)}
    failed = []
    for foreign in catalogue.signals:
        try:
            answers = {check.kind: check for check in foreign(context)}
        except Exception as error:  # noqa: BLE001 - the boundary to a user's own code
            failed.append(f"A signal of an installed cause failed: {type(error).__name__}: {error}")
            continue
        # it adds answers, it does not overrule lagkit's
        checks = answers | checks
    unanswered = " ".join(failed) or "No signal answers this."
    return tuple(
        checks.get(kind.id) or not_checked(kind.id, unanswered) for kind in catalogue.evidence
    )

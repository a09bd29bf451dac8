"""Is it over? The checklist after an incident, each line with what it was read from.

Compares a capture of now with the incident: nothing is asked here and nothing displayed. A line
that could not be looked at is *not checked*, which is no pass: it says what would let it be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd

from lagkit import flow as flows
from lagkit.wording import clock, count, duration, number, plural, printable

if TYPE_CHECKING:
    from lagkit.incident import Incident
    from lagkit.investigation import Result

LineStatus = Literal["passed", "failed", "not_checked"]

BAD_STATES = ("growing", "stalled")
STUCK = ("STALL", "STOP", "STALL_OR_STOP", "LOST", "REWIND")
LOG_KINDS = (
    "same_record_fails",
    "transport_errors",
    "access_refused",
    "poll_interval_exceeded",
    "heartbeat_lost",
    "protocol_refused",
    "sessions_lost_by_all",
    "startup_failures",
)
"""Evidence that the consumer's own log gives (``lagkit.signals.logs``)."""
_SERIOUS = ("ERROR", "CRITICAL", "FATAL")
_DIGITS = re.compile(r"\d+")
_SCRAPES_OF_NOW = pd.Timedelta("90s")
"""An alert that fired up to here before the end of the window fires now."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the checklist."""

    id: str
    question: str
    status: LineStatus
    evidence: str
    source: str
    """What was asked, with the ids of its queries, or what would have to be."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The checklist, when it was gone through, and about which incident."""

    incident: str
    group: str
    at: pd.Timestamp
    lines: tuple[Line, ...]

    @property
    def over(self) -> bool:
        """Whether something was checked, and all that was passed."""
        statuses = [line.status for line in self.lines]
        return "passed" in statuses and "failed" not in statuses

    @property
    def checked(self) -> int:
        """How many lines could be looked at."""
        return sum(line.status != "not_checked" for line in self.lines)

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types."""
        return {
            "schema": "lagkit.verification/1",
            "incident": self.incident,
            "group": self.group,
            "at": self.at.isoformat(),
            "over": self.over,
            "lines": [
                {
                    "id": line.id,
                    "question": line.question,
                    "status": line.status,
                    "evidence": line.evidence,
                    "source": line.source,
                }
                for line in self.lines
            ],
        }


def verify(before: Incident, now: Result) -> Verification:
    """Return the checklist of the incident *before*, gone through with the capture *now*."""
    promise = before.runbook.group(before.group).promise_seconds
    questions: tuple[tuple[str, str, Callable[[], tuple[LineStatus, str, str]]], ...] = (
        ("lag", "The lag is gone or falls", lambda: _lag(before, now)),
        (
            "age",
            f"Nothing unread is older than the promise ({duration(promise)})",
            lambda: _age(now, promise),
        ),
        ("commits", "Commits advance in every partition with unread", lambda: _commits(now)),
        ("members", "The group has members and is stable", lambda: _members(now)),
        ("logs", "No new errors in the consumer's logs", lambda: _logs(before, now)),
        ("downstream", "What the consumer waits for is healthy", lambda: _downstream(now)),
        ("alerts", "Alerts are resolved", lambda: _alerts(before, now)),
    )
    lines = []
    for name, question, check in questions:
        status, evidence, source = check()
        lines.append(Line(name, question, status, printable(evidence, limit=600), source))
    return Verification(before.id, before.group, now.incident.captured_at, tuple(lines))


def _lag(before: Incident, now: Result) -> tuple[LineStatus, str, str]:
    verdict, flow = now.verdict, now.flow
    lag = verdict.impact.lag_messages_now
    source = _queries(now, "offsets", "partitions")
    if lag is None or not len(flow.group):
        return "not_checked", _gap(now, "kafka", "prometheus"), "offsets of the group"
    earlier = _lag_then(before)
    then = "" if earlier is None else f"; {count(earlier)} at the end of the incident"
    net = flow.drain.net_per_second if flow.drain is not None else float("nan")
    moves = ""
    if math.isfinite(net) and abs(net) >= 0.05:
        moves = f", {'falling' if net > 0 else 'rising'} by {number(abs(net))}/s"
    text = f"{count(lag)} unread, {verdict.state}{moves}{then}"
    if verdict.state in BAD_STATES:
        return "failed", text, source
    if verdict.state == "unknown":
        return "not_checked", f"{text}; the history is too short to tell", source
    return "passed", text, source


def _lag_then(before: Incident) -> float | None:
    own = before.partitions
    own = own.loc[own["group"] == before.group]
    table = own if len(own) else before.offsets
    if table.empty:
        return None
    last = table.sort_values("timestamp").groupby(["topic", "partition"]).last()
    lag = (last["log_end_offset"] - last["committed_offset"]).clip(lower=0)
    return float(lag.sum()) if lag.notna().any() else None


def _age(now: Result, promise: float) -> tuple[LineStatus, str, str]:
    flow = now.flow
    source = _queries(now, "offsets", "partitions", "oldest_unread")
    known = flows.without_markers(flow.time_lag, flow.status) if len(flow.time_lag) else None
    known = known.dropna(subset=["time_lag_seconds"]) if known is not None else pd.DataFrame()
    if not len(known):
        return "not_checked", _gap(now, "kafka", "prometheus"), "offsets over time"
    last = known.loc[known["timestamp"] == known["timestamp"].max()]
    oldest = last.loc[last["time_lag_seconds"].idxmax()]
    age = float(oldest["time_lag_seconds"])
    bound = "at least " if oldest["censored"] else ""
    text = f"oldest unread {bound}{duration(age)}, in {oldest['topic']}/{int(oldest['partition'])}"
    if age > promise:
        return "failed", text, source
    if oldest["censored"] and age > 0:
        return "not_checked", f"{text}: older than the history, so it is not known", source
    return "passed", text, source


def _commits(now: Result) -> tuple[LineStatus, str, str]:
    status = now.flow.status
    source = _queries(now, "offsets", "partitions", "commits")
    if not len(status) or status["committed_offset"].isna().all():
        return "not_checked", _gap(now, "kafka", "prometheus"), "committed offsets"
    stuck = status.loc[status["status"].isin(STUCK)]
    if len(stuck):
        named = ", ".join(
            f"{row.topic}/{int(row.partition)} at {row.committed_offset:.0f} ({row.status})"
            for row in stuck.head(6).itertuples()
        )
        verb = "partition stands" if len(stuck) == 1 else "partitions stand"
        return "failed", f"{len(stuck)} {verb} still: {named}", source
    moved = _moved(now)
    behind = int((status["lag_messages"] > 0).sum())
    if not moved:
        if behind:
            text = f"{plural(behind, 'partition')} with unread, and no commit was seen to move yet"
            return "not_checked", text, source
        return "not_checked", "nothing was written, so nothing had to be committed", source
    return "passed", f"commits moved in {plural(moved, 'partition')}, none stands still", source


def _moved(now: Result) -> int:
    """Return how many partitions' commits advanced in the window."""
    cleaned = now.flow.cleaned.dropna(subset=["committed_offset"])
    grouped = cleaned.groupby(["topic", "partition"])["committed_offset"]
    return int((grouped.max() > grouped.min()).sum())


def _members(now: Result) -> tuple[LineStatus, str, str]:
    rows = now.incident.group_state
    rows = rows.loc[rows["group"] == now.incident.group]
    source = _queries(now, "group_state")
    if rows.empty or rows["state"].isna().all():
        return "not_checked", _gap(now, "kafka"), "state of the group from the brokers"
    last = rows.sort_values("timestamp").iloc[-1]
    members, state = last["member_count"], str(last["state"])
    who = "members not known" if pd.isna(members) else plural(int(members), "member")
    if state == "Unknown":
        return "not_checked", _gap(now, "kafka"), "state of the group from the brokers"
    good = state == "Stable" and (pd.isna(members) or members > 0)
    return ("passed" if good else "failed"), f"{state}, {who}", source


def _logs(before: Incident, now: Result) -> tuple[LineStatus, str, str]:
    incident = now.incident
    logs = incident.logs
    logs = logs.loc[(logs["role"] == "consumer") & (logs["timestamp"] >= incident.start)]
    source = _queries(now, "logs")
    if not incident.readable("kubernetes") or (logs.empty and incident.logs.empty):
        return "not_checked", _gap(now, "kubernetes", what="log"), "logs of the consumer's pods"
    told = [
        check.findings[0].statement
        for check in now.verdict.checks
        if check.kind in LOG_KINDS and check.outcome == "present" and check.findings
    ]
    serious = logs.loc[logs["level"].isin(_SERIOUS), "message"]
    usual = _usual(before)
    shapes = serious.map(_shape)
    fresh = serious.loc[~shapes.isin(usual)]
    since = f"since {clock(incident.start, near=incident.end)}"
    if told or len(fresh):
        first = f": {printable(fresh.iloc[0], limit=200)}" if len(fresh) else ""
        lines = [*told[:2], f"{plural(len(fresh), 'new error line')}{first}" if len(fresh) else ""]
        return "failed", f"{since}: " + "; ".join(text for text in lines if text), source
    old = len(serious) - len(fresh)
    kept = f"; {plural(old, 'error line')} like those before the incident" if old else ""
    return "passed", f"none in {plural(len(logs), 'line')} {since}{kept}", source


def _usual(before: Incident) -> set[str]:
    """Return the shapes of the errors that the consumer wrote before the incident began."""
    from lagkit.measurement import measure

    promise = before.runbook.group(before.group).promise_seconds
    onset = measure(before, promise_seconds=promise).onset
    if onset is None or onset.censored:
        return set()
    logs = before.logs
    earlier = logs.loc[
        (logs["role"] == "consumer")
        & (logs["timestamp"] < onset.earliest)
        & logs["level"].isin(_SERIOUS)
    ]
    return {_shape(message) for message in earlier["message"]}


def _shape(message: str) -> str:
    """Return *message* without its numbers: the same complaint about another record."""
    return _DIGITS.sub("#", message)[:300]


def _downstream(now: Result) -> tuple[LineStatus, str, str]:
    incident = now.incident
    probes = incident.downstream
    work = incident.workloads
    work = work.loc[(work["role"] != "consumer") & work["desired_replicas"].notna()]
    source = _queries(now, "downstream", "workloads", "jobs")
    seen: list[str] = []
    bad: list[str] = []
    for row in probes.sort_values("timestamp").groupby(["target", "check"]).tail(1).itertuples():
        took = "" if pd.isna(row.latency_seconds) else f" in {duration(row.latency_seconds)}"
        why = "" if row.ok or pd.isna(row.detail) else f" ({row.detail})"
        text = f"{row.target} {row.check} {'well' if row.ok else 'NOT well'}{took}{why}"
        (seen if row.ok else bad).append(text)
    for row in work.itertuples():
        ready = 0 if pd.isna(row.ready_replicas) else int(row.ready_replicas)
        text = f"{row.workload} {ready} of {int(row.desired_replicas)} ready"
        (seen if ready >= row.desired_replicas else bad).append(text)
    for check in now.verdict.checks:
        if check.kind in ("downstream_slow", "downstream_failing") and check.outcome == "present":
            bad += [finding.statement for finding in check.findings[:1]]
    if bad:
        return "failed", "; ".join(bad[:4]), source
    if not seen:
        return "not_checked", _gap(now, "downstream"), "probes of the downstream, its pods"
    return "passed", "; ".join(seen[:4]), source


def _alerts(before: Incident, now: Result) -> tuple[LineStatus, str, str]:
    incident = now.incident
    source = _queries(now, "alerts")
    if not incident.readable("prometheus"):
        return "not_checked", _gap(now, "prometheus"), "ALERTS in Prometheus"
    blind = [gap for gap in incident.coverage if "alert" in gap.what.lower()]
    if blind and incident.alerts.empty:
        return "not_checked", f"{blind[0].what}: {blind[0].why}", "ALERTS in Prometheus"
    fired = _firing(before.alerts, before)
    names = sorted(fired["alert"].unique())
    rows = _firing(incident.alerts, before)
    current = rows.loc[rows["timestamp"] >= incident.end - _SCRAPES_OF_NOW]
    if len(current):
        first = current.groupby("alert")["active_at"].min()
        told = [
            f"{alert}" + ("" if pd.isna(at) else f" since {clock(at, near=incident.end)}")
            for alert, at in first.items()
        ]
        return "failed", f"firing: {', '.join(told[:6])}", source
    then = f"; {', '.join(names[:4])} fired in the incident" if names else ""
    return "passed", f"none fires for this group{then}", source


def _firing(alerts: pd.DataFrame, before: Incident) -> pd.DataFrame:
    """Return the rows of alerts that fire for the group of *before*, or came with that incident.

    What names no group and has fired since before it (a watchdog, somebody's full disk) is none of
    it, and would never let it be over.
    """
    own = alerts["group"] == before.group
    came = alerts["group"].isna() & ~(alerts["active_at"] < before.start)
    return alerts.loc[(alerts["state"] == "firing") & (own | came)]


def _queries(now: Result, *names: str) -> str:
    """Return the ids of the queries behind the frames *names* of the new capture."""
    tables: Iterable[pd.DataFrame] = (getattr(now.incident, name) for name in names)
    ids = sorted({str(i) for table in tables if len(table) for i in table["query_id"].unique()})
    return ", ".join(ids[:6]) + (" …" if len(ids) > 6 else "")


def _gap(now: Result, *sources: str, what: str = "") -> str:
    """Return why *sources* could not tell."""
    told = []
    for name in sources:
        report = now.incident.sources.get(name)
        if report is None or report.status == "not_configured":
            told.append(f"{name} is not configured")
        elif report.status == "unavailable":
            told.append(f"{name} could not be read: {report.detail}")
        else:
            gaps = [g for g in now.incident.coverage if g.source == name and what in g.what]
            told.append(f"{gaps[0].what}: {gaps[0].why}" if gaps else f"{name} gave nothing on it")
    return "; ".join(told)

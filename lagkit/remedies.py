"""The runbook's commands with this incident's names filled in: printed, never run.

A command that needs a name this incident does not know is left out rather than half filled. Every
value is quoted for a shell: topic and group names come from outside.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lagkit import preconditions, prospects
from lagkit.causes import NONE, UNKNOWN
from lagkit.frames import WHOLE_TOPIC
from lagkit.incident import Incident
from lagkit.measurement import Flow
from lagkit.model import Action, Check, Finding, Prospect, RankedCause
from lagkit.preconditions import Captured
from lagkit.prospects import Situation
from lagkit.runbook import Remedy, Runbook

WORTH_ACTING = 0.15
"""A cause of at least this probability gets its remedies printed."""

_SAFETY_ORDER = ("read_only", "disruptive", "data_loss", "irreversible")
# Not quoted: they are commands of the runbook itself.
_COMMANDS = ("kubectl", "rpk", "rpk_stdin")
# Words of a command → what it brings about; the first that fits.
_EFFECTS = (
    (r" rollout (?:undo|restart) ", prospects.RESTORE),
    (r" add-partitions ", prospects.ADD_PARTITIONS),
    (r" --to-file ", prospects.SKIP),
    (r" group seek .*--to end", prospects.GIVE_UP),
    (r" alter-config .*retention\.ms=", prospects.RETAIN),
    (r" set env ", prospects.RESTART),
)


def names(
    incident: Incident,
    findings: Iterable[Finding],
    *,
    unread: float | None,
    members: float | None,
    usual_members: float | None,
) -> dict[str, str]:
    """Return what the placeholders of the runbook's commands stand for in this incident."""
    runbook = incident.runbook
    group = runbook.group(incident.group)
    known: dict[str, object] = {
        "group": incident.group,
        "kubectl": runbook.commands.kubectl,
        "rpk": runbook.commands.rpk,
        "rpk_stdin": runbook.commands.rpk_stdin,
    }
    topic, partitions = _worst_topic(incident)
    if topic:
        known["topic"] = topic
    if partitions:
        known["partitions"] = partitions
    if members is not None:
        known["members"] = f"{members:.0f}"
    if unread is not None:
        known["unread_messages"] = f"{unread:.0f}"
    workload = group.workload
    if workload:
        known |= {
            "namespace": workload.namespace,
            "workload": workload.name,
            "kind": workload.kind.lower(),
        }
        if workload.selector:
            known["selector"] = workload.selector
    wanted = incident.workloads.loc[incident.workloads["role"] == "consumer", "desired_replicas"]
    desired = float(wanted.max()) if wanted.notna().any() else 0.0
    best = max(desired, usual_members or 0.0)
    if best and partitions:
        known["replicas_wanted"] = f"{min(best, partitions):.0f}"
        if max(best, members or 0.0) < partitions:
            known["replicas_most"] = partitions
    for entry in group.downstream:
        if entry.workload:
            known |= {
                "downstream_namespace": entry.workload.namespace,
                "downstream_workload": entry.workload.name,
            }
            break
    known |= _stuck(findings, incident.topics)
    retention = incident.configs.loc[
        (incident.configs["resource"] == "topic")
        & (incident.configs["name"] == topic)
        & (incident.configs["key"] == "retention.ms"),
        "value",
    ]
    if len(retention) and str(retention.iloc[0]).isdecimal():
        known["retention_doubled_ms"] = 2 * int(retention.iloc[0])
    return {
        name: str(value) if name in _COMMANDS else shlex.quote(str(value))
        for name, value in known.items()
    }


def _worst_topic(incident: Incident) -> tuple[str, int]:
    own = incident.partitions
    own = own.loc[own["group"] == incident.group]
    table = own if len(own) else incident.offsets
    if table.empty:
        return (incident.topics[0] if incident.topics else ""), 0
    last = table.sort_values("timestamp").groupby(["topic", "partition"]).last()
    lag = (last["log_end_offset"] - last["committed_offset"].clip(lower=0)).groupby("topic").sum()
    topic = str(lag.idxmax()) if lag.notna().any() else str(last.index[0][0])
    of_topic = last.index.get_level_values("topic") == topic
    # a row about the whole topic does not tell how many partitions it has
    numbered = last.index.get_level_values("partition") != WHOLE_TOPIC
    return topic, int((of_topic & numbered).sum())


def _stuck(findings: Iterable[Finding], topics: Sequence[str]) -> dict[str, object]:
    """Return where the group is stuck; nothing if the record's topic is not certain."""
    seen = list(findings)
    for finding in seen:
        if finding.kind == "partition_frozen" and finding.value is not None:
            topic, _, partition = finding.id.partition(":")[2].rpartition("/")
            return _record(topic, partition, int(finding.value))
    for finding in seen:
        if finding.kind == "same_record_fails" and len(topics) == 1:
            partition, _, offset = finding.id.partition(":")[2].partition("@")
            return _record(topics[0], partition, int(offset))
    return {}


def _record(topic: str, partition: str, offset: int) -> dict[str, object]:
    return {
        "stuck_topic": topic,
        "stuck_partition": partition,
        "stuck_offset": offset,
        "stuck_offset_next": offset + 1,
    }


def fill(template: str, known: Mapping[str, str]) -> str | None:
    """Return *template* with its ``{names}`` filled in, or None if one of them is not known."""
    needed = {field for _, field, _, _ in string.Formatter().parse(template) if field}
    if not needed <= known.keys():
        return None
    return template.format_map(dict(known))


def concerned(ranking: Iterable[RankedCause]) -> list[str]:
    """Return the causes worth acting on, most probable first."""
    found = [
        entry.cause
        for entry in ranking
        if entry.cause != NONE
        and (entry.rank == 1 or entry.probability >= WORTH_ACTING or entry.role == "contributing")
    ]
    first = next(iter(ranking), None)
    return [] if first is not None and first.cause == NONE else found


def actions(
    runbook: Runbook,
    ranking: tuple[RankedCause, ...],
    known: Mapping[str, str],
    captured: Captured | None = None,
    outlooks: Sequence[Prospect] = (),
) -> tuple[Action, ...]:
    """Return the remedies of the causes worth acting on, safest first within a cause.

    With *captured* their preconditions are checked against it, and each says what it would gain
    and cost by *outlooks* (``lagkit.prospects``).
    """
    found: list[Action] = []
    for cause in concerned(ranking) or ([UNKNOWN] if not ranking else []):
        remedies = [remedy for remedy in runbook.remedies if remedy.cause == cause]
        for remedy in sorted(remedies, key=lambda r: _SAFETY_ORDER.index(r.safety)):
            command, why = fill(remedy.command, known), fill(remedy.why, known)
            filled = [fill(text, known) for text in remedy.preconditions]
            if command is None or why is None or None in filled:
                continue
            texts = tuple(text for text in filled if text)
            action = Action(
                command=command,
                why=why,
                safety=remedy.safety,
                preconditions=texts,
                title=fill(remedy.title, known) or remedy.title,
                cause=cause,
            )
            if captured is not None:
                checks = zip(texts, checks_of(remedy), strict=False)
                action = weighed(action, captured, tuple(checks), outlooks)
            if all(action.command != earlier.command for earlier in found):
                found.append(action)
    return tuple(found)


def checks_of(remedy: Remedy) -> tuple[str, ...]:
    """Return the check of each precondition of *remedy*, "" where a person must look."""
    shipped = preconditions.shipped_checks()
    named = (*remedy.checked_by, *[""] * len(remedy.preconditions))
    return tuple(
        name or shipped.get(text, "")
        for text, name in zip(remedy.preconditions, named, strict=False)
    )


def effect(action: Action) -> str:
    """Return which prospect (``lagkit.prospects``) a command brings about, by its own words.

    Not by a key of the runbook: a company's own remedies have none, and do the same things.
    """
    if action.safety == "read_only":
        return ""
    words = action.command
    scaled = re.search(r" scale .*--replicas[= ](\d+)", words)
    if scaled:
        return prospects.RESTORE if action.cause == "consumer_down" else prospects.SCALE
    for pattern, name in _EFFECTS:
        if re.search(pattern, words):
            return name
    return ""


def weighed(
    action: Action,
    captured: Captured,
    texts: tuple[tuple[str, str], ...],
    outlooks: Sequence[Prospect],
) -> Action:
    """Return *action* with what it would gain and cost, and its preconditions checked."""
    name = effect(action)
    prospect = next((entry for entry in outlooks if entry.id == name), None)
    situation = captured.situation
    gain = cost = ""
    if prospect is not None:
        gain, cost = prospect.statement, prospect.cost
    elif name == prospects.RESTART:
        gain = "nothing of this backlog by itself: it stops members from being thrown out"
        cost = prospects.cost_of_restart(situation)
    elif name == prospects.RETAIN:
        gain = "time: what is unread is deleted later"
        cost = prospects.cost_of_retention(situation)
    return replace(
        action,
        prospect=name,
        gain=gain,
        cost=cost,
        conditions=preconditions.conditions(captured, texts, name),
    )


def do_not(
    runbook: Runbook, ranking: tuple[RankedCause, ...], known: Mapping[str, str]
) -> tuple[str, ...]:
    """Return what would make it worse, for the causes worth acting on."""
    told = [
        fill(entry.text, known)
        for cause in concerned(ranking)
        for entry in runbook.do_not
        if entry.cause == cause
    ]
    return tuple(dict.fromkeys(text for text in told if text))


def usual_members(incident: Incident, onset: pd.Timestamp) -> float | None:
    """Return how many members the group had before *onset*, or None."""
    history = incident.group_history
    before = history.loc[
        (history["group"] == incident.group) & (history["timestamp"] < onset), "member_count"
    ].dropna()
    return float(before.median()) if len(before) else None


RECENT_SECONDS = 300.0
"""Rates of now are the median over this long before the end of the window."""
FASTEST = 0.95
"""Quantile of the rates of reading that counts as the fastest seen: a single step may be a jump."""


def situation(
    incident: Incident,
    flow: Flow,
    checks: Iterable[Check],
    findings: Iterable[Finding],
    *,
    unread: float | None,
    members: float | None,
    usual_members: float | None,
    onset: pd.Timestamp,
) -> Situation:
    """Return the numbers that prospects are computed from."""
    rates = flow.group
    produce, consume = (
        rates.get(name, pd.Series(dtype="float64")).to_numpy(dtype="float64")
        for name in ("produce_per_second", "consume_per_second")
    )
    at = pd.DatetimeIndex(rates["timestamp"]) if len(rates) else pd.DatetimeIndex([], tz="UTC")
    recent = at >= (at.max() if len(at) else incident.end) - pd.Timedelta(RECENT_SECONDS, "s")
    before = at < onset
    _, partitions = _worst_topic(incident)
    stuck = sorted({_place(finding) for finding in findings if finding.kind == "partition_frozen"})
    present = {check.kind for check in checks if check.outcome == "present"}
    group = incident.runbook.group(incident.group)
    lag = flow.status["lag_messages"].dropna() if len(flow.status) else pd.Series(dtype="float64")
    retention = pd.to_numeric(
        incident.configs.loc[incident.configs["key"] == "retention.ms", "value"], errors="coerce"
    ).dropna()
    return Situation(
        unread=unread,
        produce_per_second=_median(produce[recent]),
        consume_per_second=_median(consume[recent]),
        best_per_second=_quantile(consume, FASTEST),
        usual_per_second=_median(consume[before]),
        members=None if members is None else int(members),
        partitions=partitions,
        usual_members=None if usual_members is None else round(usual_members),
        stuck=tuple(stuck),
        pinned="last_stable_offset_pinned" in present,
        worst_share=float(lag.max() / lag.sum()) if lag.sum() > 0 else float("nan"),
        waits_for=tuple(entry.name for entry in group.downstream),
        waits_in_trouble=bool(present & {"downstream_slow", "downstream_failing"}),
        retention_seconds=float(retention.min()) / 1000 if (retention > 0).any() else None,
    )


def _place(finding: Finding) -> tuple[str, int]:
    topic, _, partition = finding.id.partition(":")[2].rpartition("/")
    return topic, int(partition)


def _median(values: np.ndarray[Any, Any]) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _quantile(values: np.ndarray[Any, Any], share: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if len(known) else float("nan")

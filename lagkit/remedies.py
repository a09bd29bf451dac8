"""The runbook's commands with this incident's names filled in: printed, never run.

A command that needs a name this incident does not know is left out rather than half filled. Every
value is quoted for a shell: topic and group names come from outside.
"""

from __future__ import annotations

import shlex
import string
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from lagkit.causes import NONE, UNKNOWN
from lagkit.frames import WHOLE_TOPIC
from lagkit.incident import Incident
from lagkit.model import Action, Finding, RankedCause
from lagkit.runbook import Runbook

WORTH_ACTING = 0.15
"""A cause of at least this probability gets its remedies printed."""

_SAFETY_ORDER = ("read_only", "disruptive", "data_loss", "irreversible")
# Not quoted: they are commands of the runbook itself.
_COMMANDS = ("kubectl", "rpk", "rpk_stdin")


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
        "rpk_stdin": runbook.commands.rpk.replace("kubectl exec ", "kubectl exec -i ", 1),
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
    runbook: Runbook, ranking: tuple[RankedCause, ...], known: Mapping[str, str]
) -> tuple[Action, ...]:
    """Return the remedies of the causes worth acting on, safest first within a cause."""
    found: list[Action] = []
    for cause in concerned(ranking) or ([UNKNOWN] if not ranking else []):
        remedies = [remedy for remedy in runbook.remedies if remedy.cause == cause]
        for remedy in sorted(remedies, key=lambda r: _SAFETY_ORDER.index(r.safety)):
            command, why = fill(remedy.command, known), fill(remedy.why, known)
            preconditions = [fill(text, known) for text in remedy.preconditions]
            if command is None or why is None or None in preconditions:
                continue
            action = Action(
                command=command,
                why=why,
                safety=remedy.safety,
                preconditions=tuple(text for text in preconditions if text),
                title=fill(remedy.title, known) or remedy.title,
                cause=cause,
            )
            if all(action.command != earlier.command for earlier in found):
                found.append(action)
    return tuple(found)


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

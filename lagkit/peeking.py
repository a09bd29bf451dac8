"""The record a group stands at: what is in it, and how to step over it and nothing else.

Puts together what the sources read; asks nobody itself. The steps are for a person: lagkit runs
none of them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lagkit.model import Condition
from lagkit.wording import count, plural

if TYPE_CHECKING:
    from lagkit.payloads import Payload
    from lagkit.runbook import Runbook


@dataclass(frozen=True, slots=True)
class Shown:
    """One record made readable; ``role`` says where it lies: before, at or after the commit."""

    offset: int
    role: str
    timestamp_ms: int | None
    timestamp_kind: str
    size: int
    key: Payload
    value: Payload
    headers: tuple[tuple[str, Payload], ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the group stands in the partition, and who is in it."""

    group: str
    topic: str
    partition: int
    committed: int
    log_start: int | None
    log_end: int | None
    state: str
    members: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """One command with what it is for."""

    title: str
    command: str


@dataclass(frozen=True, slots=True)
class Skip:
    """How to step over one record, and what that costs."""

    steps: tuple[Step, ...]
    conditions: tuple[Condition, ...]
    lost: str


def skip(standing: Standing, record: Shown, runbook: Runbook, *, bootstrap: str = "") -> Skip:
    """Return how to step over *record*, the first that the group has not committed.

    With *bootstrap* the step itself is also given as Kafka's own tool has it.
    """
    commands = runbook.commands
    workload = runbook.group(standing.group).workload
    group, topic = shlex.quote(standing.group), shlex.quote(standing.topic)
    target = record.offset + 1
    members = standing.members
    steps = []
    place = ""
    if workload is not None:
        place = f"-n {shlex.quote(workload.namespace)} {workload.kind.lower()}/" + shlex.quote(
            workload.name
        )
        steps.append(Step("Stop every member", f"{commands.kubectl} scale {place} --replicas=0"))
    steps += [
        Step("See that the group is Empty", f"{commands.rpk} group describe {group}"),
        Step(
            "Save where it stands: the only way back",
            f"{commands.rpk} group describe {group} --print-commits",
        ),
        Step(
            "Keep the record",
            f"{commands.rpk} topic consume {topic} --partitions {standing.partition} "
            f"--offset {record.offset} --num 1",
        ),
        Step(
            f"Step over offset {record.offset} alone",
            f"printf '%s %s %s\\n' {topic} {standing.partition} {target} | "
            f"{commands.rpk_stdin} group seek {group} --to-file /dev/stdin",
        ),
    ]
    if bootstrap:
        spot = shlex.quote(f"{standing.topic}:{standing.partition}")
        steps.append(
            Step(
                "Or the same with Kafka's own tool",
                f"kafka-consumer-groups.sh --bootstrap-server {shlex.quote(bootstrap)} "
                f"--group {group} --topic {spot} --reset-offsets --to-offset {target} --execute",
            )
        )
    if place and members:
        steps.append(
            Step("Bring the members back", f"{commands.kubectl} scale {place} --replicas={members}")
        )
    return Skip(tuple(steps), _conditions(standing, record), _lost(standing, record))


def _conditions(standing: Standing, record: Shown) -> tuple[Condition, ...]:
    empty = standing.state == "Empty"
    who = "not known" if standing.members is None else plural(standing.members, "member")
    unreadable = record.value.decodes
    return (
        Condition(
            "the group is Empty: the broker refuses a seek while it has members",
            "cannot_tell" if standing.state == "Unknown" else "met" if empty else "not_met",
            f"it is {standing.state}, {who}",
        ),
        Condition(
            "the record itself is at fault, and no fixed consumer will handle it",
            "met" if unreadable is False else "cannot_tell",
            f"it {record.value.verdict}",
        ),
        Condition("the record was copied to a dead-letter topic or a file", "cannot_tell", ""),
    )


def _lost(standing: Standing, record: Shown) -> str:
    unread = None if standing.log_end is None else standing.log_end - record.offset - 1
    rest = "" if unread is None else f"; the {count(unread)} after it stay to be read"
    return (
        f"One record of {count(record.size)} bytes, for this group alone{rest}. It stays in the "
        "topic for other groups until retention removes it."
    )

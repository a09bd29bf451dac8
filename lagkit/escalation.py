"""Who is to be told by now, by how long it has gone on and by its cause, and in which words.

The levels are the runbook's contacts. A level says when in two keys (``after_minutes``,
``causes``); where they are missing its own words are read, and what they do not say is left to a
person. The message names roles, groups and numbers, never a person, a secret or an address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from lagkit.causes import NONE, UNKNOWN, catalogue
from lagkit.model import Escalation, Verdict
from lagkit.render import text as screen
from lagkit.wording import clock, count, duration, percent, printable, shorten

if TYPE_CHECKING:
    from lagkit.runbook import Contact, Runbook

BROKER_CAUSES = frozenset({"broker_overload", "network", "hung_transaction", "quota_throttled"})
"""What "a Kafka issue" means in a runbook's words."""
MESSAGE_CHARACTERS = 2900
"""A whole Slack message should stay under 3,000 (``report.md`` 5.3)."""
_COMMAND_CHARACTERS = 600

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(min|m\b|h\b|hour)", re.IGNORECASE)
_AT_ONCE = re.compile(r"\b(?:immediate\w*|at once|always)\b", re.IGNORECASE)
_BROKERS = re.compile(r"\b(?:kafka|redpanda|brokers?)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class When:
    """When a level is due: from an age on, for some causes, or, with neither, by judgement."""

    after_seconds: float | None
    causes: frozenset[str]


def when(contact: Contact) -> When:
    """Return when *contact* is due, by its keys or else by its words."""
    minutes = contact.after_minutes
    causes = frozenset(contact.causes)
    if minutes is None and not causes:
        if found := _TIME.search(contact.when):
            hours = found[2].lower().startswith("h")
            minutes = float(found[1]) * (60 if hours else 1)
        elif _AT_ONCE.search(contact.when):
            minutes = 0.0
        elif _BROKERS.search(contact.when):
            causes = BROKER_CAUSES
    return When(None if minutes is None else minutes * 60, causes)


def due(verdict: Verdict, runbook: Runbook) -> Escalation | None:
    """Return who is to be told at the end of the incident's window; None: nobody."""
    if verdict.verdict.cause == NONE or verdict.state == "healthy" or not runbook.contacts:
        return None
    elapsed = elapsed_seconds(verdict)
    reached: list[tuple[Contact, str]] = []
    later: list[str] = []
    causes = {entry.cause for entry in verdict.ranking if entry.role in ("primary", "mechanism")}
    causes.discard(UNKNOWN)
    for contact in runbook.contacts:
        level = when(contact)
        name = f"{contact.level} {contact.who} ({contact.contact})"
        matching = sorted(causes & level.causes)
        if matching:
            title = catalogue().cause(matching[0]).title.lower()
            reached.append((contact, f"the cause is {title}"))
        elif level.after_seconds is not None:
            if level.after_seconds == 0:
                reached.append((contact, "told of every incident"))
            elif elapsed is None:
                later.append(f"{name}: {contact.when}; how long it has gone on is not known")
            elif elapsed >= level.after_seconds:
                why = f"it has gone on for {duration(elapsed)}"
                reached.append((contact, f"{why}, over {duration(level.after_seconds)}"))
            else:
                left = duration(level.after_seconds - elapsed)
                later.append(f"{name}: in {left}, if it goes on")
        else:
            later.append(f"{name}: {contact.when}")
    if not reached:
        return None
    contact, why = reached[-1]
    return Escalation(
        level=contact.level,
        who=contact.who,
        contact=contact.contact,
        why=why,
        message=message(verdict, runbook),
        also=tuple(f"{c.level} {c.who} ({c.contact}): {reason}" for c, reason in reached[:-1]),
        later=tuple(later),
        elapsed_seconds=elapsed,
    )


def elapsed_seconds(verdict: Verdict) -> float | None:
    """Return how long it had gone on at the end of the window; None without an onset."""
    if verdict.onset is None:
        return None
    seconds = (pd.Timestamp(verdict.incident.end) - pd.Timestamp(verdict.onset.at)).total_seconds()
    return max(0.0, seconds)


def message(verdict: Verdict, runbook: Runbook) -> str:
    """Return what to tell: plain text that can be pasted anywhere, under 3,000 characters."""
    reference = verdict.incident
    group = runbook.group(reference.group)
    topics = ", ".join(printable(topic, limit=60) for topic in reference.topics[:3]) or "no topic"
    headline = verdict.verdict
    since = "since when is not known"
    elapsed = elapsed_seconds(verdict)
    if verdict.onset is not None:
        at = clock(verdict.onset.at)
        since = f"since {at}, for {duration(elapsed)}"
    who = printable(reference.group, limit=80)
    lines = [
        f"{screen.STATES[verdict.state]}: consumer group {who} lags on {topics} ({since})",
        (
            f"Promise: nothing unread older than {duration(group.promise_seconds)}; criticality "
            f"{group.criticality}"
        ),
        f"What: {screen.headline_text(verdict)}"
        + (f" ({percent(headline.likelihood)})" if headline.cause != UNKNOWN else ""),
        f"Impact: {screen.impact_text(verdict)}",
        f"Deadline: {screen.deadline_text(verdict)}",
        f"Catch-up: {screen.catch_up_text(verdict)}",
    ]
    if verdict.actions:
        first = verdict.actions[0]
        command = printable(first.command)
        if len(command) <= _COMMAND_CHARACTERS:
            lines.append(f"Next: {command}   # {screen.SAFETY[first.safety]}")
    if verdict.do_not:
        lines.append(f"Do not: {printable(' '.join(verdict.do_not[:2]), limit=400)}")
    if verdict.not_checked:
        lines.append(f"Not checked: {count(len(verdict.not_checked))} things, see the report")
    lines.append(f"Incident {reference.id}, lagkit {verdict.lagkit_version}")
    return shorten("\n".join(shorten(line, 900) for line in lines), MESSAGE_CHARACTERS)

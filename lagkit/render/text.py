"""The first screen: at most twelve lines, the same everywhere.

A line has at most a hundred characters, but the one with the command: that is for copying.

Says what is wrong, how likely, from what, what to run next, how long there is and what not to do.
The likelihood of the cause and the confidence in the evidence stand in different lines: a reader
who finds them in one sentence multiplies them (ICD 203).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lagkit.wording import (
    clock,
    count,
    duration,
    loss_rule,
    number,
    onset_text,
    plural,
    printable,
    shorten,
)

if TYPE_CHECKING:
    from lagkit.model import Action, RankedCause, Suspicion, Verdict

WIDTH = 100
LINES = 12
LABEL = 12
LONGEST_COMMAND = 200
UNKNOWN_CAUSE = "unknown"
_NEXT = "  next"

_SHORT = {
    "restore": "read as before",
    "skip_record": "record skipped",
    "scale": "more members",
}
"""Prospects that fit into the line about the catch-up."""

STATES = {
    "growing": "STILL GROWING",
    "draining": "DRAINING",
    "stalled": "STALLED",
    "recovered": "RECOVERED",
    "healthy": "HEALTHY",
    "unknown": "STATE UNKNOWN",
}
SAFETY = {
    "read_only": "only reads",
    "disruptive": "disruptive",
    "data_loss": "LOSES DATA",
    "irreversible": "CANNOT BE UNDONE",
}
CONDITION = {"met": "met", "not_met": "NOT MET", "cannot_tell": "look yourself"}
"""Whether a precondition held, as it stands before it."""


def first_screen(verdict: Verdict) -> str:
    """Return the first screen of *verdict*."""
    top = verdict.ranking[0] if verdict.ranking else None
    lines = [
        _heading(verdict),
        _line("VERDICT", headline_text(verdict)),
        _line("EVIDENCE", _evidence(verdict)),
        *_reasons(verdict, top),
        _line("DISTRUST", distrust_text(verdict.suspicions)) if verdict.suspicions else "",
        _line(_NEXT, verdict.next_check) if verdict.next_check else "",
        f"{'RUN':<{LABEL}}{_run(verdict.actions)}",
        _line("DEADLINE", deadline_text(verdict)),
        _line("CATCH-UP", _catch_up(verdict)),
        _line("IMPACT", impact_text(verdict)),
        _line("DO NOT", _joined(_without_label(verdict.do_not))) if verdict.do_not else "",
        _line("NOT CHECKED", _joined(verdict.not_checked)) if verdict.not_checked else "",
    ]
    shown = [line for line in lines if line]
    if len(shown) > LINES:  # the report says it too; a liar has to be known at once
        shown = [line for line in shown if not line.startswith(_NEXT)]
    return "\n".join(shown)


def distrust_text(suspicions: Sequence[Suspicion]) -> str:
    """Return who told an untruth, since when and which; the first of several, and how many more."""
    first, *others = suspicions
    ended = f" to {clock(first.until, near=first.since, seconds=True)}" if first.until else ""
    text = (
        f"{printable(first.exporter, limit=60)} since "
        f"{clock(first.since, near=first.since, seconds=True)}{ended}: {first.title}"
    )
    return f"{text} (+{len(others)} more)" if others else text


def headline_text(verdict: Verdict) -> str:
    """Return the likelihood in words before the cause, and what is at work beside it.

    That no cause is known has no likelihood.
    """
    headline = verdict.verdict
    if headline.cause == UNKNOWN_CAUSE:
        return headline.summary
    title = headline.summary.partition(":")[0]
    beside = {
        role: ", ".join(entry.cause for entry in verdict.ranking if entry.role == role)
        for role in ("mechanism", "contributing")
    }
    return (
        f"{headline.likelihood_term} \N{EM DASH} {title}"
        + (f", which set off {beside['mechanism']}" if beside["mechanism"] else "")
        + (f", together with {beside['contributing']}" if beside["contributing"] else "")
    )


def deadline_text(verdict: Verdict) -> str:
    """Return when unread data may be deleted, with the distance from the end of the window."""
    loss, now = verdict.forecast.data_loss_at, verdict.incident.end
    rule = loss_rule(verdict.forecast.data_loss_rule)
    if loss is None:
        waits = verdict.state not in ("healthy", "recovered")
        nothing = "no time is known at which unread data would be deleted"
        return rule or (nothing if waits else "none: nothing waits to be read")
    seconds = (loss - now).total_seconds()
    reach = f"in {duration(seconds)}" if seconds > 0 else "that is now or already past"
    text = f"unread data may be deleted from {clock(loss, near=now)} ({reach})"
    return f"{text}; {rule}" if rule else text


def catch_up_text(verdict: Verdict) -> str:
    """Return when the backlog will be gone at the present rate, as an interval."""
    forecast, now = verdict.forecast, verdict.incident.end
    if verdict.state in ("healthy", "recovered"):
        return "nothing to catch up"
    if forecast.catch_up_at is not None:
        at = forecast.catch_up_at
        return (
            f"at the present rate {clock(at.mid, near=now)} (between {clock(at.low, near=now)} and "
            f"{clock(at.high, near=now)})"
        )
    net = forecast.net_drain_per_second
    if net is None:
        return "not known: the rates could not be measured"
    if net < 0:
        return f"never at this rate: the backlog grows by {number(-net)} messages/s"
    return f"not within reach at this rate: the backlog shrinks by {number(net)} messages/s"


def _catch_up(verdict: Verdict) -> str:
    """Return :func:`catch_up_text`, and what would help or not, as far as the line has room."""
    text = catch_up_text(verdict)
    for prospect in verdict.prospects:
        name = _SHORT.get(prospect.id)
        if name is None or prospect.outlook not in ("drains", "never", "no_gain"):
            continue
        words = {"never": "never", "no_gain": "no gain"}
        longer = f"{text}; {name}: {words.get(prospect.outlook, '')}" + (
            duration(prospect.catch_up_seconds) if prospect.outlook == "drains" else ""
        )
        if len(longer) <= WIDTH - LABEL:
            text = longer
    return text


def impact_text(verdict: Verdict) -> str:
    """Return late, unread, oldest, promise and loss in one line; unknown is said, not left out."""
    impact = verdict.impact
    bound = "at least " if impact.oldest_age_is_at_least else ""
    known = {
        "late": (impact.messages_delayed, f"{count(impact.messages_delayed)} messages late"),
        "unread": (impact.lag_messages_now, f"{count(impact.lag_messages_now)} unread"),
        "oldest": (
            impact.oldest_age_seconds_now,
            f"oldest {bound}{duration(impact.oldest_age_seconds_now)}",
        ),
        "promise": (
            impact.slo_minutes_broken,
            f"promise broken for {duration((impact.slo_minutes_broken or 0) * 60)}",
        ),
        "loss": (
            impact.messages_lost,
            f"{count(impact.messages_lost)} LOST" if impact.messages_lost else "none lost",
        ),
    }
    parts = [text for value, text in known.values() if value is not None]
    missing = [name for name, (value, _) in known.items() if value is None]
    if missing:
        parts.append("not known: " + ", ".join(missing))
    return "; ".join(parts)


def _heading(verdict: Verdict) -> str:
    reference = verdict.incident
    topics = ", ".join(printable(topic, limit=40) for topic in reference.topics[:2])
    more = f" +{len(reference.topics) - 2}" if len(reference.topics) > 2 else ""
    begin = verdict.onset
    when = (
        f"since {onset_text(begin)}"
        if begin is not None
        else f"at {clock(reference.end, near=reference.end)}; no onset found"
    )
    tail = f"   {STATES[verdict.state]}   {when}"
    name = f"{printable(reference.group, limit=60)} ← {topics or 'no topic'}{more}"
    return shorten(name, WIDTH - len(tail)) + tail


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL}}{shorten(printable(text), WIDTH - LABEL)}"


def _joined(sentences: Iterable[str]) -> str:
    """Return as many whole sentences as fit, then how many more there are; one always shows."""
    every = [printable(sentence).rstrip(".") for sentence in sentences]
    room = WIDTH - LABEL
    text = ""
    for index, sentence in enumerate(every):
        left = len(every) - index - 1
        more = f" (+{left} more)" if left else ""
        longer = f"{text}; {sentence}" if text else sentence
        if len(longer) + len(more) > room:
            if not text:
                return shorten(sentence, room - len(more)) + more
            return f"{text} (+{left + 1} more)"
        if not left:
            return longer
        text = longer
        if len(text) + len(f" (+{left} more)") > room:
            return shorten(text, room - len(f" (+{left} more)")) + f" (+{left} more)"
    return text


def _reasons(verdict: Verdict, top: RankedCause | None) -> list[str]:
    """Return the lines for and against; without a cause there is only what was seen."""
    if top is None or top.cause == UNKNOWN_CAUSE:
        seen = _joined(finding.statement for finding in verdict.findings)
        return [_line("  seen", seen or "nothing that speaks for any cause")]
    supported = _joined(line.statement for line in top.evidence_for)
    return [
        _line("  for", supported or "nothing that singles it out"),
        _line("  against", _against(top)),
    ]


def _without_label(sentences: Iterable[str]) -> list[str]:
    """Return what is not to be done without the words that the label says already."""
    bare = (re.sub(r"^do not ", "", text, count=1, flags=re.IGNORECASE) for text in sentences)
    return [text.replace(". Do not ", "; do not ") for text in bare]


def _against(top: RankedCause) -> str:
    if top.evidence_against:
        return _joined(line.statement for line in top.evidence_against)
    blind = len(top.not_checked)
    if blind:
        return f"nothing seen; {plural(blind, 'check')} without data could change the verdict"
    return "nothing seen"


def _evidence(verdict: Verdict) -> str:
    headline = verdict.verdict
    return (
        f"{headline.evidence_checked} of {headline.evidence_total} checks had data; "
        f"confidence {headline.confidence}"
    )


def _run(actions: Sequence[Action]) -> str:
    """Return the first command, whole: half a command is a trap, so its line may be longer."""
    if not actions:
        return "no command of the runbook fits"
    first = actions[0]
    safety = f"   # {SAFETY[first.safety]}"  # so that the whole line may be pasted
    if len(first.command.strip().splitlines()) > 1 or len(first.command) > LONGEST_COMMAND:
        return f"{printable(first.title) or 'the first action'}: see the report{safety}"
    return printable(first.command) + safety

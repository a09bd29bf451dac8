"""``report.md``: reads well raw, in an issue tracker, a chat or a pager.

Tables have at most eight columns. Text from outside can make no heading, table cell, link, mention
or markup of its own: what a renderer would act on is escaped or set as code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lagkit.charts import sign_of
from lagkit.render.html import STATUS, measured, strongest
from lagkit.render.text import CONDITION, SAFETY
from lagkit.wording import clock, count, duration, percent, plural, printable, visible

if TYPE_CHECKING:
    from lagkit.figure.drawing import Table
    from lagkit.report import Report

MOST_COLUMNS = 8
MOST_ROWS = 20
"""Rows of a chart's table; the HTML report has them all."""

# What renderers turn into mentions, issue references and links. As code they stay text.
_REFERENCE = re.compile(r"(?:https?://|www\.)[^\s`]+|[\w./-]*[@#]\w[\w./-]*", re.ASCII)
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$]|(?<!\w)_|_(?!\w)")
_LEADING = re.compile(r"^(?:>|(?:#{1,6}|[+=-]+|\d{1,9}[.)])(?=\s|$))")


def render_markdown(report: Report) -> str:
    """Return the report as Markdown (CommonMark with tables)."""
    verdict = report.verdict
    reference = verdict.incident
    parts = [
        f"# {escape(reference.group)}: {escape(report.title_of(verdict.verdict.cause))}",
        *(f"> **Not all of this report could be made:** {escape(text)}" for text in report.notices),
        fenced(report.first_screen),
        _links(report),
        "## What to do",
        *_actions(report),
        *_prospects(report),
        *_escalation(report),
        *_distrust(report),
        "## Charts in words",
        "All times are UTC. The pictures are in `report.html`.",
        *_charts(report),
        "## Evidence",
        _findings(report),
        "## Causes",
        *_causes(report),
        "## Blind spots",
        *_blind(report),
        "## Sources",
        table(
            ("source", "answer", "detail", "took"),
            [
                (
                    name,
                    source.status.replace("_", " "),
                    escape(source.detail),
                    duration(source.seconds),
                )
                for name, source in sorted(verdict.sources.items())
            ],
        ),
        "## Provenance",
        *_provenance(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: object) -> str:
    """Return *text* on one line, so that a Markdown renderer shows it as it is."""
    shown = printable(text)
    pieces: list[str] = []
    end = 0
    for match in _REFERENCE.finditer(shown):
        pieces += [_plain(shown[end : match.start()], first=not end), code(match.group())]
        end = match.end()
    pieces.append(_plain(shown[end:], first=not end))
    return "".join(pieces)


def _plain(text: str, *, first: bool) -> str:
    escaped = _SPECIAL.sub(lambda match: "\\" + match.group(), text)
    escaped = escaped.replace("&", "&amp;")
    if first and _LEADING.match(escaped):
        head = _LEADING.match(escaped)
        assert head is not None
        cut = head.end() - 1
        return f"{escaped[:cut]}\\{escaped[cut:]}"
    return escaped


def code(text: object) -> str:
    """Return *text* as a code span, safe in a table cell."""
    shown = printable(text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    blank = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{blank}{shown}{blank}{fence}".replace("|", "\\|")


def fenced(text: str, language: str = "text") -> str:
    """Return *text* as a code block whose fence is longer than any inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text).rstrip()}\n{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already; columns past the eighth are left out."""
    head = columns[:MOST_COLUMNS]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(row[:MOST_COLUMNS])} |" for row in rows]
    return "\n".join(lines)


def bullets(lines: Iterable[str]) -> str:
    """Return lines that are Markdown already as a list."""
    return "\n".join(f"- {line}" for line in lines)


def _links(report: Report) -> str:
    if not report.links:
        return ""
    # the addresses are percent-encoded: nothing in them ends a link
    named = ", ".join(f"[{escape(link.title)}]({link.url})" for link in report.links)
    return f"Dashboards with this group and window: {named}"


def _actions(report: Report) -> list[str]:
    verdict = report.verdict
    if not verdict.actions:
        parts = ["No command of the runbook fits what was found."]
    else:
        parts = ["lagkit only reads. Every command is for you to run, when its conditions hold."]
    for number, action in enumerate(verdict.actions, start=1):
        parts.append(
            f"### {number}. {escape(action.title or report.title_of(action.cause))} "
            f"({SAFETY[action.safety]})"
        )
        parts.append(escape(action.why))
        if action.gain or action.cost:
            told = (("Gain", action.gain), ("Cost", action.cost))
            parts.append(bullets(f"{name}: {escape(text)}" for name, text in told if text))
        if action.conditions:
            parts.append(
                "Only if (as it was when captured):\n"
                + bullets(
                    f"**{CONDITION[entry.status]}**: {escape(entry.text)}"
                    + (f" ({escape(entry.seen)})" if entry.seen else "")
                    for entry in action.conditions
                )
            )
        elif action.preconditions:
            parts.append("Only if:\n" + bullets(escape(text) for text in action.preconditions))
        parts.append(fenced(action.command, "sh"))
    if verdict.do_not:
        parts += ["### Do not", bullets(escape(text) for text in verdict.do_not)]
    return parts


def _prospects(report: Report) -> list[str]:
    prospects = report.verdict.prospects
    if not prospects:
        return []
    rows = [
        (escape(entry.title), escape(entry.statement), escape(entry.cost) or "–")
        for entry in prospects
    ]
    return [
        "## What would drain it",
        (
            "From the rates of this incident. A capacity is only seen while there is a backlog, so "
            "it is the least that can be read."
        ),
        table(("if", "caught up", "cost"), rows),
    ]


def _escalation(report: Report) -> list[str]:
    due = report.verdict.escalation
    if due is None:
        return []
    lines = [f"**{escape(f'{due.level} {due.who}')}** ({escape(due.contact)}): {escape(due.why)}"]
    lines += [f"also due: {escape(text)}" for text in due.also]
    lines += [f"not yet: {escape(text)}" for text in due.later]
    return ["## Who to tell", bullets(lines), fenced(due.message)]


def _distrust(report: Report) -> list[str]:
    suspicions = report.verdict.suspicions
    if not suspicions:
        return []
    parts = [
        "## Monitoring that is not believed",
        "What it said is no evidence here; the verdict rests on what is believed instead.",
    ]
    for one in suspicions:
        until = f" until {clock(one.until, seconds=True)}" if one.until else ""
        where = f" ({escape(one.instance)})" if one.instance else ""
        parts += [
            f"### {escape(one.exporter)}{where}: {escape(one.title)}",
            bullets(
                [
                    f"since {clock(one.since, seconds=True)}{until}: {escape(one.statement)}",
                    *(escape(text) for text in one.evidence),
                    f"believed instead: {escape(one.believed_instead)}",
                    f"what mends it: {escape(one.fix)}",
                    f"queries: {code(', '.join(one.query_ids)) if one.query_ids else 'none'}",
                ]
            ),
        ]
    return parts


def _charts(report: Report) -> list[str]:
    parts: list[str] = []
    for figure in report.figures:
        parts += [f"### {escape(figure.title)}", f"*{escape(figure.question)}*", escape(figure.alt)]
        # the matrix would be the longest table here, and the causes say the same in sentences
        if figure.name != "evidence" and figure.table.rows:
            parts.append(_figure_table(figure.table))
    return parts


def _figure_table(content: Table) -> str:
    rows = [[escape(cell) for cell in row] for row in content.rows[:MOST_ROWS]]
    hidden = content.omitted + len(content.rows) - len(rows)
    text = table([escape(column) for column in content.columns], rows)
    return f"{text}\n\n{plural(hidden, 'more row')} in report.html." if hidden else text


def _findings(report: Report) -> str:
    verdict = report.verdict
    if not verdict.findings:
        return (
            "Nothing was seen that speaks for any cause. That is not the same as nothing being "
            "wrong: see the blind spots."
        )
    rows = []
    for finding in verdict.findings:
        weights = ", ".join(
            f"{sign_of(weight)} {escape(report.title_of(cause))}"
            for cause, weight in strongest(finding.weights)
        )
        quote = f"<br>{code(printable(finding.quote, limit=300))}" if finding.quote else ""
        rows.append(
            (
                clock(finding.onset, near=verdict.incident.end, seconds=True)
                if finding.onset
                else "not timed",
                escape(finding.statement) + quote,
                escape(measured(finding.value, finding.unit)) or "–",
                escape(measured(finding.baseline, finding.unit)) or "–",
                weights or "nothing",
                code(finding.query) if finding.query else finding.source,
            )
        )
    return table(("began", "finding", "value", "before", "for and against", "query"), rows)


def _causes(report: Report) -> list[str]:
    verdict = report.verdict
    if not verdict.ranking:
        return ["No cause was ranked."]
    parts = [
        "Shares of belief by which the causes are ranked, not measured frequencies.",
        table(
            ("rank", "cause", "before", "after", "check ended", "role"),
            [
                (
                    str(entry.rank),
                    f"{escape(report.title_of(entry.cause))} ({code(entry.cause)})",
                    percent(entry.prior),
                    percent(entry.probability),
                    STATUS[entry.status],
                    "–" if entry.role == "none" else entry.role,
                )
                for entry in verdict.ranking
            ],
        ),
    ]
    for entry in verdict.ranking:
        sections = (
            ("For", [line.statement for line in entry.evidence_for]),
            ("Against", [line.statement for line in entry.evidence_against]),
            ("Not checked", entry.not_checked),
            ("What would change this", entry.would_change),
        )
        # below the second rank only what somebody saw is worth a paragraph
        if entry.rank > 2 and not entry.evidence_for:
            continue
        parts.append(f"### {entry.rank}. {escape(report.title_of(entry.cause))}")
        parts += [
            f"{heading}:\n" + bullets(escape(line) for line in lines)
            for heading, lines in sections
            if lines
        ]
    return parts


def _blind(report: Report) -> list[str]:
    verdict = report.verdict
    parts = ["What was not seen is neither for nor against any cause."]
    if verdict.next_check:
        parts.append(f"The check that would teach most: **{escape(verdict.next_check)}**")
    if report.gaps:
        parts.append(
            table(
                ("not seen", "source", "why", "what mends it"),
                [
                    (escape(gap.what), escape(gap.source), escape(gap.why), escape(gap.fix) or "–")
                    for gap in report.gaps
                ],
            )
        )
    if verdict.not_checked:
        parts.append("Not checked:\n" + bullets(escape(text) for text in verdict.not_checked))
    return parts


def _provenance(report: Report) -> list[str]:
    verdict = report.verdict
    reference = verdict.incident
    redacted = ", ".join(f"{times} × {escape(what)}" for what, times in report.redactions.items())
    facts = bullets(
        f"{name}: " + "; ".join(f"{escape(key)} {escape(value)}" for key, value in facts.items())
        for name, facts in report.facts.items()
        if facts
    )
    lines = bullets(
        (
            f"incident {code(reference.id)} on cluster {escape(reference.cluster) or 'unknown'}",
            (
                f"window {clock(reference.start, seconds=True)} to "
                f"{clock(reference.end, seconds=True)}, "
                f"captured {clock(verdict.generated_at, seconds=True)}"
            ),
            (
                f"promise: no unread message older than {duration(report.promise_seconds)}; "
                f"criticality {escape(report.criticality)}"
            ),
            (
                f"delay {count(verdict.impact.delay_message_seconds)} message-seconds; "
                f"greatest backlog {count(verdict.impact.peak_lag_messages)} messages; "
                f"greatest age {duration(verdict.impact.peak_age_seconds)}"
            ),
            f"lagkit {escape(verdict.lagkit_version)}, schema {code(verdict.schema)}",
            f"redacted: {redacted or 'nothing had to be'}",
        )
    )
    queries = table(
        ("id", "question", "outcome", "rows", "took"),
        [
            (
                code(query.id),
                code(query.statement) + (f"<br>{escape(query.detail)}" if query.detail else ""),
                query.outcome,
                count(query.rows),
                duration(query.seconds),
            )
            for query in report.queries
        ],
    )
    return [lines, facts, queries if report.queries else "No question is recorded."]

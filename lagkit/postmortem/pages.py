"""The post-mortem as sections: facts made of its data, and blanks for people between them.

One place says what stands where; ``lagkit.render`` draws it as Markdown and as HTML. Whatever came
from a system (names, statements, queries) is handed on as it is, for the renderer to escape; lines
of logs and events are quoted as code.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from lagkit.postmortem import chapters
from lagkit.postmortem import sentences as say
from lagkit.postmortem.document import (
    Block,
    Bullets,
    Code,
    Grid,
    Heading,
    Open,
    Paragraph,
    Section,
    Strong,
    Text,
    text,
)
from lagkit.postmortem.model import Candidate, Postmortem
from lagkit.postmortem.template import template
from lagkit.wording import clock, count, duration, number, plural

MOST_QUERY_ROWS = 60
_MARKS = {"holds": "✓", "does_not_hold": "✗", "cannot_tell": "?"}


def sections(made: Postmortem) -> tuple[Section, ...]:
    """Return every section of *made* in the order of reading."""
    return (
        Section(
            "title",
            f"Post-mortem: {made.incident.group}, {pd.Timestamp(made.incident.start):%Y-%m-%d}",
            "facts",
            _title(made),
            level=1,
        ),
        _blank("status"),
        _blank("owner"),
        _blank("severity"),
        Section("summary", "Summary in numbers", "facts", _summary(made)),
        Section("impact", "Impact", "facts", chapters.impact(made)),
        _blank("customers"),
        _blank("revenue"),
        Section("detection", "Detection", "facts", chapters.detection(made)),
        _blank("noticed"),
        Section("timeline", "Timeline", "facts", chapters.timeline(made)),
        _blank("reasoning"),
        Section(
            "causes", "Trigger, contributing factors, mechanism", "facts", chapters.causes(made)
        ),
        _blank("conditions"),
        Section("went-well", "What went well, as far as it can be computed", "facts", _well(made)),
        Section(
            "got-lucky", "Where luck helped, as far as it can be computed", "facts", _luck(made)
        ),
        _blank("lessons"),
        Section("actions", "Candidate action items", "facts", _actions(made)),
        *(part for item in made.candidates for part in _candidate(item)),
        _blank("declined"),
        Section("similar", "Similar earlier incidents", "facts", _similar(made)),
        _blank("same_class"),
        Section("completeness", "What the data could and could not show", "facts", _complete(made)),
        Section("supporting", "Supporting data", "facts", _supporting(made)),
    )


def _blank(name: str) -> Section:
    blank = template().blank(name)
    body: tuple[Block, ...] = (
        Paragraph(text(Strong(f"{blank.title}: "), blank.value or Open("to be written"))),
        Paragraph(text(blank.prompt), note=True),
    )
    return Section(name.replace("_", "-"), "", "yours", body)


def _title(made: Postmortem) -> tuple[Block, ...]:
    incident, complete = made.incident, made.completeness
    seen = (
        f"{count(complete.samples_seen)} of {count(complete.samples_expected)} samples and "
        f"{count(complete.checks_with_data)} of {count(complete.checks_total)} checks had data"
    )
    begin, end = (say.both_clocks(at, made.zone) for at in (incident.start, incident.end))
    return (
        Paragraph(
            text(
                "A draft made from data, for people to complete: what a machine can know is filled "
                "in, what it cannot is left open. It looks for what in the system made this "
                "possible, not for who did it. Numbers come from ",
                Code("postmortem.json"),
                "; what you write is kept by ",
                Code("lagkit postmortem … --merge postmortem.md"),
                ".",
            ),
            note=True,
        ),
        Bullets(
            (
                text(
                    "incident ", Code(incident.id), f" on cluster {incident.cluster or 'unknown'}"
                ),
                text("group ", Code(incident.group), ", topics ", *_codes(incident.topics)),
                text(f"data from {begin} to {end}"),
                text(
                    f"data completeness: {seen}; confidence of the evidence {complete.confidence}"
                ),
                text(
                    f"made from data of {clock(made.generated_at, seconds=True)} by lagkit "
                    f"{made.lagkit_version}, ",
                    Code(made.schema),
                ),
            )
        ),
    )


def _codes(names: Iterable[str]) -> Iterable[Code | str]:
    for index, name in enumerate(names):
        if index:
            yield ", "
        yield Code(name)


def _summary(made: Postmortem) -> tuple[Block, ...]:
    return (Bullets(tuple(text(line) for line in say.summary(made))),)


# ── facts, actions, likes ───────────────────────────────────────────────────────────────────────


def _well(made: Postmortem) -> tuple[Block, ...]:
    return (_facts(made.went_well),)


def _luck(made: Postmortem) -> tuple[Block, ...]:
    return (_facts(made.got_lucky),)


def _facts(facts: Iterable[object]) -> Block:
    from lagkit.postmortem.model import Fact

    rows = []
    for fact in facts:
        assert isinstance(fact, Fact)
        title, words = say.fact_text(fact)
        rows.append(
            (text(Strong(title)), text(f"{_MARKS[fact.outcome]} {words}"), text(fact.source))
        )
    return Grid("✓ so it was, ✗ not so, ? cannot be told", ("fact", "finding", "from"), tuple(rows))


def _actions(made: Postmortem) -> tuple[Block, ...]:
    if not made.candidates:
        return (Paragraph(text("The evidence suggests none.")),)
    return (
        Paragraph(
            text(
                f"{plural(len(made.candidates), 'suggestion')} by the evidence, for people to take "
                "or decline; a declined one is worth its reason."
            ),
            note=True,
        ),
    )


def _candidate(item: Candidate) -> tuple[Section, Section]:
    facts = Section(
        f"action-{item.id}",
        f"{item.type.capitalize()}: {item.action}",
        "facts",
        (
            Bullets(
                (
                    text(Strong("done when "), item.done_when),
                    text(Strong("rests on "), Code(item.evidence), f": {item.because}"),
                    text(
                        Strong("suggested priority "), f"{item.priority}: {item.priority_because}"
                    ),
                )
            ),
        ),
        level=3,
    )
    blanks = text(
        "Decision: ",
        Open("undecided"),
        " · Owner: ",
        Open("unassigned"),
        " · Due: ",
        Open("unassigned"),
        " · Ticket: ",
        Open("unassigned"),
    )
    return facts, Section(f"decision-{item.id}", "", "yours", (Paragraph(blanks),))


def _similar(made: Postmortem) -> tuple[Block, ...]:
    similar = made.similar
    if not similar.asked:
        return (
            Paragraph(
                text(
                    "Not looked for: give a folder of incident files with ", Code("--similar"), "."
                )
            ),
        )
    blocks: list[Block] = [
        Paragraph(
            text(
                f"{plural(similar.compared, 'earlier incident')} of "
                f"{plural(similar.files, 'file')} compared; "
                f"{count(similar.not_earlier)} are not earlier. Likeness runs from 0 to "
                "1: half by the evidence that was seen, half by the ranking."
            ),
            note=True,
        )
    ]
    if similar.unreadable:
        blocks.append(Paragraph(text("Not readable: ", *_codes(similar.unreadable)), note=True))
    if not similar.nearest:
        blocks.append(Paragraph(text("None is like this one.")))
        return tuple(blocks)
    blocks.append(
        Grid(
            "The nearest",
            (
                "incident",
                "began (UTC)",
                "cause then",
                "likeness",
                "evidence",
                "ranking",
                "both show",
            ),
            tuple(
                (
                    text(Code(one.file or one.id)),
                    text(clock(one.start)),
                    text(one.title),
                    text(number(one.likeness)),
                    text(number(one.evidence_likeness)),
                    text(number(one.cause_likeness)),
                    text(", ".join(kind.replace("_", " ") for kind in one.shared) or "nothing"),
                )
                for one in similar.nearest
            ),
        )
    )
    return tuple(blocks)


def _complete(made: Postmortem) -> tuple[Block, ...]:
    complete = made.completeness
    blocks: list[Block] = [
        Grid(
            "How the sources answered",
            ("source", "answer", "detail", "capture"),
            tuple(
                (
                    text(Strong(source.name)),
                    text(source.status.replace("_", " ")),
                    text(source.detail),
                    text(Code(source.capture)),
                )
                for source in complete.sources
            ),
        )
    ]
    if complete.unseen_seconds:
        blocks.append(
            Paragraph(
                text(f"Without a sample for {duration(complete.unseen_seconds)} of the window.")
            )
        )
    if complete.not_believed:
        blocks += [
            Heading("Monitoring that is not believed"),
            Bullets(tuple(text(line) for line in complete.not_believed)),
        ]
    if made.impact.cannot_tell:
        blocks += [
            Heading("What cannot be computed"),
            Bullets(
                tuple(
                    text(Strong(f"{name.replace('_', ' ')}: "), why)
                    for name, why in made.impact.cannot_tell.items()
                    if name != "bridged"
                )
            ),
        ]
    if complete.blind:
        blocks.append(
            Grid(
                "What was not seen",
                ("what", "source", "why", "what mends it"),
                tuple(
                    (text(Strong(gap.what)), text(gap.source), text(gap.why), text(gap.fix or "–"))
                    for gap in complete.blind
                ),
            )
        )
    return tuple(blocks)


def _supporting(made: Postmortem) -> tuple[Block, ...]:
    files: list[Text] = [
        text(
            f"{capture.role} capture ",
            Code(capture.id),
            f", {clock(capture.start, seconds=True)} to {clock(capture.end, seconds=True)}, "
            f"captured {clock(capture.captured_at, seconds=True)} by lagkit "
            f"{capture.lagkit_version}, ",
            Code("SHA-256"),
            " ",
            Code(capture.sha256),
        )
        for capture in made.captures
    ]
    blocks: list[Block] = [
        Paragraph(
            text(
                "Beside this text: ",
                Code("postmortem.json"),
                " with every number, ",
                Code("postmortem.ipynb"),
                " to go on from, and ",
                Code("attachments.zip"),
                " with all of it, the captures, each figure as SVG and CSV, and the questions.",
            )
        ),
        Bullets(tuple(files)),
    ]
    if made.joining is not None:
        taken = ", ".join(f"{name} {count(rows)}" for name, rows in made.joining.rows_taken.items())
        left = sum(made.joining.rows_left_out.values())
        until = made.joining.from_first_until
        upto = f" (until {clock(until, seconds=True)})" if until else ""
        blocks.append(
            Paragraph(
                text(
                    f"Two captures as one window: {made.joining.rule}{upto}. Rows that came in: "
                    f"{taken or 'none'}; {plural(left, 'row')} that both have or that lie before "
                    "were left out."
                )
            )
        )
    if made.queries:
        blocks.append(
            Grid(
                "Questions asked",
                ("id", "question", "outcome", "rows"),
                tuple(
                    (
                        text(Code(query.id)),
                        text(Code(query.statement)),
                        text(query.outcome + (f": {query.detail}" if query.detail else "")),
                        text(count(query.rows)),
                    )
                    for query in made.queries
                ),
                most=MOST_QUERY_ROWS,
            )
        )
    return tuple(blocks)

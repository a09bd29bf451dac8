"""The long chapters of a post-mortem: impact, detection, timeline and causes, as blocks."""

from __future__ import annotations

from datetime import datetime

from lagkit.model import RankedCause
from lagkit.postmortem import sentences as say
from lagkit.postmortem.document import (
    Block,
    Bullets,
    Code,
    Grid,
    Heading,
    Paragraph,
    Picture,
    Strong,
    Text,
    text,
)
from lagkit.postmortem.model import Postmortem, TimelineRow
from lagkit.wording import clock, count, duration, number, percent, printable

MOST_TIMELINE_ROWS = 80
MOST_EVIDENCE = 8
MOST_IDS = 2
AREA = "area under the lag over the whole window: the sum of all waits; from onset to recovery"
_ALERTS = ("alert", "of the group", "expression true", "fired", "last seen firing", "severity")
_OUTCOMES = {"fires": "would have fired", "silent": "silent", "cannot_tell": "cannot tell"}
_INTERVALS = {
    "TTD": "until an alert told of it (TTD)",
    "detection gap": "of it, until the expression was true",
    "for-wait": "of it, waiting for the rule (for:)",
    "TTA": "until somebody took it (TTA)",
    "TTM": "until the backlog shrank (TTM)",
    "TTR": "until it was within the promise again (TTR)",
    "drain": "of it, draining",
}


def _at(made: Postmortem, moment: datetime) -> str:
    """Return *moment* in UTC, with its date only where that is not the window's first day."""
    return clock(moment, near=made.incident.start, seconds=True)


# ── impact ──────────────────────────────────────────────────────────────────────────────────────


def impact(made: Postmortem) -> tuple[Block, ...]:
    """Return what it cost, with the reason for every figure that is not known."""
    impact = made.impact
    bound = "at least " if impact.delays_are_at_least else ""
    span = (
        f"{_at(made, impact.counted_from)} to {_at(made, impact.counted_until)}"
        if impact.counted_from and impact.counted_until
        else "the incident"
    )

    def known(value: float | None, shown: str, field: str) -> str:
        return f"cannot tell: {impact.cannot_tell.get(field, '')}" if value is None else shown

    rows = (
        (
            "messages delayed",
            known(impact.messages_delayed, count(impact.messages_delayed), "messages_delayed"),
            f"waited longer than {duration(impact.promise_seconds)}, read or not",
        ),
        (
            "total delay",
            known(
                impact.delay_message_seconds,
                f"{count(impact.delay_message_seconds)} message-seconds",
                "delay_message_seconds",
            ),
            f"{AREA} {count(impact.incident_message_seconds)}",
        ),
        (
            "mean delay",
            known(
                impact.mean_delay_seconds,
                bound + duration(impact.mean_delay_seconds),
                "mean_delay_seconds",
            ),
            f"of the {count(impact.messages_waiting)} messages that waited from {span}",
        ),
        (
            "95th percentile",
            known(
                impact.p95_delay_seconds,
                bound + duration(impact.p95_delay_seconds),
                "p95_delay_seconds",
            ),
            "of the same",
        ),
        (
            "longest delay",
            known(
                impact.max_delay_seconds,
                bound + duration(impact.max_delay_seconds),
                "max_delay_seconds",
            ),
            "of the whole window",
        ),
        (
            "greatest backlog",
            known(
                impact.peak_lag_messages,
                f"{count(impact.peak_lag_messages)} messages",
                "peak_lag_messages",
            ),
            f"at {_at(made, impact.peak_lag_at)}" if impact.peak_lag_at else "",
        ),
        (
            "oldest unread message",
            known(impact.peak_age_seconds, duration(impact.peak_age_seconds), "peak_age_seconds"),
            _peak_place(made),
        ),
        (
            "promise broken",
            known(
                impact.promise_minutes_broken,
                f"{number(impact.promise_minutes_broken)} minutes",
                "promise_minutes_broken",
            ),
            f"{percent(impact.budget_used)} of what an objective of {percent(impact.objective)} of "
            "minutes allows in 30 days"
            if impact.budget_used is not None
            else "",
        ),
        ("messages lost", _lost(made), impact.loss_because or say.LOSS[impact.loss]),
        (
            "at the end of the data",
            known(impact.unread_at_end, f"{count(impact.unread_at_end)} unread", "unread_at_end"),
            f"oldest {duration(impact.oldest_age_at_end_seconds)}; {say.STATES[made.state]}",
        ),
    )
    grid = Grid(
        "What it cost",
        ("figure", "value", "what it is"),
        tuple((text(Strong(a)), text(b), text(c)) for a, b, c in rows),
    )
    blocks: list[Block] = [grid]
    if "bridged" in impact.cannot_tell:
        blocks.append(
            Paragraph(
                text(
                    f"For {duration(made.completeness.unseen_seconds)} of the window there is no "
                    "sample: figures bridge that by straight lines."
                )
            )
        )
    if made.topics:
        blocks.append(_topics(made))
    blocks.append(Picture("timeline"))
    return tuple(blocks)


def _peak_place(made: Postmortem) -> str:
    impact = made.impact
    if impact.peak_age_at is None or impact.peak_partition is None:
        return ""
    where = (
        f"partition {impact.peak_partition} of {impact.peak_topic}"
        if impact.peak_partition >= 0
        else f"{impact.peak_topic}, whose partitions are not told apart"
    )
    return f"at {_at(made, impact.peak_age_at)} in {where}"


def _lost(made: Postmortem) -> str:
    impact = made.impact
    if impact.loss == "proved_none":
        return "0, proved"
    if impact.loss == "lost":
        return f"{'at least ' if impact.loss_because else ''}{count(impact.messages_lost)}"
    return "cannot tell"


def _topics(made: Postmortem) -> Grid:
    return Grid(
        "Topics by criticality, and who waits for them",
        (
            "topic",
            "criticality",
            "written by",
            "read for",
            "partitions over promise",
            "late",
            "oldest",
        ),
        tuple(
            (
                text(Code(topic.topic)),
                text(topic.criticality),
                text(", ".join(topic.producers) or "not in the runbook"),
                text(", ".join(topic.consumers) or "not in the runbook"),
                text(
                    say.partitions_text(topic.topic, topic.partitions_broken, topic.partitions)
                    if topic.partitions
                    else "not seen"
                ),
                text(count(topic.messages_delayed)),
                text(duration(topic.peak_age_seconds)),
            )
            for topic in made.topics
        ),
    )


# ── detection ───────────────────────────────────────────────────────────────────────────────────


def detection(made: Postmortem) -> tuple[Block, ...]:
    """Return how it was noticed: instants, times between, alerts, rules run over the data."""
    seen = made.detection
    blocks: list[Block] = []
    if made.stamps:
        blocks += [
            Grid(
                "Instants, each with its definition and accuracy",
                ("instant", "when", "definition", "from", "accuracy"),
                tuple(
                    (
                        text(Strong(stamp.name)),
                        text(say.stamp_text(stamp, made)),
                        text(stamp.definition),
                        _from(stamp.source, stamp.query) if stamp.query else text("–"),
                        text(
                            "–"
                            if stamp.at is None
                            else say.accuracy(stamp.uncertainty_seconds)
                            if stamp.uncertainty_seconds is not None
                            else _between(stamp.earliest, stamp.latest)
                        ),
                    )
                    for stamp in made.stamps
                ),
            ),
            Grid(
                "Times between them, of this incident; never averaged over incidents",
                ("time", "from", "to", "how long"),
                tuple(
                    (
                        text(Strong(_INTERVALS.get(interval.name, interval.name))),
                        text(interval.begins),
                        text(interval.ends),
                        text(say.interval_text(interval)),
                    )
                    for interval in made.intervals
                ),
            ),
        ]
    blocks.append(Heading("Alerts that were recorded"))
    if seen.alerts:
        blocks.append(
            Grid(
                "Alerts of the group and of no group, as Prometheus kept them",
                _ALERTS,
                tuple(
                    (
                        text(Code(one.alert)),
                        text("yes" if one.of_group else "no"),
                        text(_at(made, one.active_at) if one.active_at else "not known"),
                        text(_at(made, one.fired_at) if one.fired_at else "only pending"),
                        text(
                            _at(made, one.resolved_at)
                            if one.resolved_at
                            else ("to the end" if one.still_firing else "–")
                        ),
                        text(one.severity or "–"),
                    )
                    for one in seen.alerts
                ),
            )
        )
    else:
        blocks.append(Paragraph(text(f"None{_because(seen.why)}.")))
    blocks += [
        Heading("Rules run over the data: which of them would have told of it"),
        _replayed(made),
    ]
    if seen.dead_rules:
        blocks.append(Bullets(tuple(text(line) for line in seen.dead_rules)))
    return tuple(blocks)


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _between(earliest: object, latest: object) -> str:
    if isinstance(earliest, datetime) and isinstance(latest, datetime):
        begin, end = (clock(at, near=latest, seconds=True) for at in (earliest, latest))
        return f"{begin} to {end}"
    return "–"


def _replayed(made: Postmortem) -> Block:
    rules = made.detection.replayed
    if not rules:
        return Paragraph(text("No rule could be run over the data."))
    return Grid(
        "Rules of the corrected set and of the runbook, with their for:, evaluated at every sample",
        ("rule", "condition", "for", "outcome", "after the onset", "recorded as an alert"),
        tuple(
            (
                text(Code(rule.rule)),
                text(rule.condition),
                text(duration(rule.for_seconds)),
                text(_OUTCOMES[rule.outcome] + (f": {rule.why}" if rule.why else "")),
                text(
                    "–"
                    if rule.fires_at is None
                    else f"{duration(rule.after_onset_seconds)}, at {_at(made, rule.fires_at)}"
                    if rule.after_onset_seconds is not None
                    else f"at {_at(made, rule.fires_at)}"
                ),
                text("yes" if rule.seen_in_alerts else "no"),
            )
            for rule in rules
        ),
    )


# ── timeline ────────────────────────────────────────────────────────────────────────────────────


def timeline(made: Postmortem) -> tuple[Block, ...]:
    """Return what happened, forward, each row with its source."""
    if not made.timeline:
        return (Paragraph(text("Nothing in the data has a time.")),)
    zoned = made.zone != "UTC"
    columns = ("UTC", *((made.zone,) if zoned else ()), "kind", "what", "source", "accuracy")
    return (
        Paragraph(
            text(
                "Forward, from before the onset. Each row names what it came from; the questions "
                "behind the ids stand at the end."
            ),
            note=True,
        ),
        Grid(
            "What happened",
            columns,
            tuple(_row(made, row, made.zone if zoned else "") for row in made.timeline),
            most=MOST_TIMELINE_ROWS,
        ),
    )


def _row(made: Postmortem, row: TimelineRow, zone: str) -> tuple[Text, ...]:
    until = f" to {clock(row.until, near=row.at, seconds=True)}" if row.until else ""
    times = f", {count(row.times)} times" if row.times > 1 else ""
    quoted = row.kind in ("cluster event", "scaling")
    what = printable(row.what, limit=240)
    return (
        text(Strong(_at(made, row.at) + until)),
        *((text(say.local(row.at, zone)),) if zone else ()),
        text(row.kind + times),
        text(Code(what)) if quoted else text(what),
        _from(row.source, row.query),
        text(f"{say.accuracy(row.uncertainty_seconds)} ({row.confidence})"),
    )


def _from(source: str, query: str) -> Text:
    """Return the source with the ids of its questions: the first two, and how many more."""
    ids = [name.strip() for name in query.split(",") if name.strip()]
    if not ids:
        return text(source)
    more = f" +{len(ids) - MOST_IDS} more" if len(ids) > MOST_IDS else ""
    return text(f"{source} ", Code(printable(", ".join(ids[:MOST_IDS]), limit=80)), more)


# ── causes ──────────────────────────────────────────────────────────────────────────────────────


def causes(made: Postmortem) -> tuple[Block, ...]:
    """Return what changed, where it failed first, what made it worse and how it spread."""
    chain = made.chain
    blocks: list[Block] = [
        Paragraph(
            text(
                "There is seldom one root: what changed, where it failed first, what made it "
                "worse and how it spread stand apart. Ranked by lagkit on ",
                Code(chain.judged_on),
                "; open to doubt.",
            ),
            note=True,
        ),
        Heading("Trigger: what changed shortly before"),
    ]
    if chain.triggers:
        blocks.append(
            Grid(
                "Changes of state near the onset, the nearest first; none is proven to be it",
                ("when (UTC)", "before the onset", "what", "source"),
                tuple(
                    (
                        text(Strong(_at(made, change.at))),
                        text(
                            duration(change.before_onset_seconds)
                            if change.before_onset_seconds >= 0
                            else f"{duration(-change.before_onset_seconds)} after"
                        ),
                        text(Code(printable(change.what, limit=240))),
                        _from(change.source, change.query),
                    )
                    for change in chain.triggers
                ),
            )
        )
    elif not chain.changes_looked_for:
        blocks.append(
            Paragraph(text("Not checked: Kubernetes could not be read, so no change was seen."))
        )
    elif made.onset is None or made.onset.censored:
        blocks.append(Paragraph(text("Not known: the data do not show how it began.")))
    else:
        blocks.append(
            Paragraph(text("No deploy, scaling or restart was seen in the 15 minutes before."))
        )
    blocks.append(Heading("Where it failed first"))
    if chain.primary is None:
        blocks.append(Paragraph(text(f"{chain.title}: {chain.summary}.")))
    else:
        blocks += _cause(made, chain.primary)
    for heading, entries, none in (
        ("Contributing", chain.contributing, "No further cause is supported by evidence."),
        ("Mechanism: how it spread", chain.mechanism, "No link between them was seen."),
    ):
        blocks.append(Heading(heading))
        if not entries:
            blocks.append(Paragraph(text(none)))
        for entry in entries:
            blocks += _cause(made, entry)
    if chain.ruled_out:
        names = ", ".join(chain.titles.get(cause, cause) for cause in chain.ruled_out)
        blocks.append(Paragraph(text(Strong("Ruled out: "), names)))
    if chain.capacity_bound is not None:
        words = (
            f"The group was bound by its capacity: {chain.capacity_because}."
            if chain.capacity_bound
            else "By this ranking the group was not bound by its capacity."
        )
        blocks.append(Paragraph(text(words)))
    blocks += [Picture("evidence"), Picture("flow"), Picture("cumulative"), Picture("partitions")]
    return tuple(blocks)


def _cause(made: Postmortem, entry: RankedCause) -> list[Block]:
    title = made.chain.titles.get(entry.cause, entry.cause)
    blocks: list[Block] = [
        Paragraph(
            text(
                Strong(title),
                f": {percent(entry.probability)} after the evidence, {percent(entry.prior)} "
                f"before; {entry.status.replace('_', ' ')}",
            )
        )
    ]
    lines = [
        *(text(Strong("for "), line.statement) for line in entry.evidence_for[:MOST_EVIDENCE]),
        *(
            text(Strong("against "), line.statement)
            for line in entry.evidence_against[:MOST_EVIDENCE]
        ),
        *(text(Strong("not checked "), line) for line in entry.not_checked[:MOST_EVIDENCE]),
        *(
            text(Strong("would change it "), line)
            for line in entry.would_change[: MOST_EVIDENCE // 2]
        ),
    ]
    if lines:
        blocks.append(Bullets(tuple(lines)))
    return blocks

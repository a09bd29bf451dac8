"""Action items that the evidence suggests: typed, tied to what was seen, bounded by "done when".

They are candidates. Owner, due date and the decision are people's, and a decision not to act is
worth recording. Where the incident was bound by capacity, the items of a capacity report come in
through *extra*.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

from lagkit.investigation import Result
from lagkit.postmortem.model import (
    Candidate,
    Chain,
    Completeness,
    Detection,
    Fact,
    Impact,
    Priority,
    TopicImpact,
)
from lagkit.postmortem.template import Suggestion, template
from lagkit.wording import duration, printable

MOST_CANDIDATES = 12
MOST_OF_A_KIND = 3
"""Blind spots and untruths that get an item of their own; the report lists them all."""
SLOW_DETECTION_FACTOR = 1.0
LATE_SECONDS = 300.0
"""Detection that took longer than this and than the promise is late."""
_ORDER = {"P1": 0, "P2": 1, "P3": 2}


def candidates(
    judged: Result,
    chain: Chain,
    detection: Detection,
    impact: Impact,
    topics: Sequence[TopicImpact],
    lucky: Iterable[Fact],
    complete: Completeness,
    *,
    extra: Sequence[Candidate] = (),
) -> tuple[Candidate, ...]:
    """Return the candidates, the most pressing first.

    Parameters
    ----------
    extra
        Items of a capacity report; taken only where the incident was bound by capacity
        (``chain.capacity_bound``).
    """
    found = [
        *_of_detection(detection, impact),
        *_of_cause(judged, chain, impact, topics),
        *_of_luck(lucky),
        *_of_monitoring(judged),
        *_of_blindness(complete),
    ]
    if chain.capacity_bound:
        found += extra
    unique = {item.id: item for item in reversed(found)}
    inner = list(unique.values())[::-1]
    ordered = sorted(inner, key=lambda item: _ORDER[item.priority])
    return tuple(ordered[:MOST_CANDIDATES])


def _of_detection(detection: Detection, impact: Impact) -> Iterable[Candidate]:
    rule = detection.earliest_rule
    late = detection.ttd_seconds is not None and detection.ttd_seconds > max(
        LATE_SECONDS, impact.promise_seconds
    )
    if rule and detection.earliest_rule_seconds is not None:
        sooner = detection.earliest_rule_seconds
        if detection.ttd_seconds is None:
            because = f"no alert told of it; {rule} would have after {duration(sooner)}"
        else:
            because = (
                f"{detection.alert} told after {duration(detection.ttd_seconds)}, {rule} would "
                f"have after {duration(sooner)}"
            )
        if detection.ttd_seconds is None or sooner < detection.ttd_seconds:
            yield Candidate(
                "alert-sooner",
                "detect",
                f"Put the rule {rule} in place",
                "the rule is loaded, and run over this incident it fires within "
                f"{duration(sooner)} of the onset",
                f"rule:{rule}",
                because,
                "P1" if detection.ttd_seconds is None or late else "P3",
                "nobody was told" if detection.ttd_seconds is None else "minutes of warning",
            )
    for text in detection.dead_rules[:MOST_OF_A_KIND]:
        name = text.partition(":")[0].removeprefix("the alert ")
        yield Candidate(
            f"mend-rule-{_slug(name)}",
            "detect",
            f"Mend or remove the alert rule {name}",
            "the rule reads metrics that exist, and a rule test makes it fire",
            "coverage",
            text,
            "P2",
            "a rule that cannot fire is trusted and silent",
        )


def _of_cause(
    judged: Result, chain: Chain, impact: Impact, topics: Sequence[TopicImpact]
) -> Iterable[Candidate]:
    names = _names(judged, impact, topics)
    roles = {entry.cause: entry.role for entry in judged.verdict.ranking}
    seen = {finding.kind: finding for finding in reversed(judged.verdict.findings)}
    further = [entry.cause for entry in (*chain.contributing, *chain.mechanism)]
    wanted = [chain.cause, *further]
    for cause in dict.fromkeys(wanted):
        for suggestion in template().candidates:
            shown = [seen[kind] for kind in suggestion.evidence if kind in seen]
            if suggestion.cause != cause or not shown or not _fits(suggestion, names):
                continue
            first = cause == chain.cause
            priority: Priority = suggestion.priority if first else "P3"
            yield Candidate(
                suggestion.id,
                suggestion.type,
                suggestion.action.format(**names),
                suggestion.done_when.format(**names),
                shown[0].id,
                printable(shown[0].statement, limit=240),
                priority,
                "it bears on the cause ranked first"
                if first
                else f"it bears on a {roles.get(cause, 'further')} cause",
            )


def _names(judged: Result, impact: Impact, topics: Sequence[TopicImpact]) -> dict[str, str]:
    group = judged.runbook_group
    named = {
        "group": judged.incident.group,
        "promise": duration(impact.promise_seconds),
        "topics": ", ".join(topic.topic for topic in topics if topic.partitions_broken)
        or ", ".join(topic.topic for topic in topics),
        "partitions": str(sum(topic.partitions for topic in topics)),
    }
    if group.workload is not None:
        named["workload"] = group.workload.name
    else:
        named["workload"] = judged.incident.group
    return {name: printable(text, limit=200) for name, text in named.items()}


def _fits(suggestion: Suggestion, names: Mapping[str, str]) -> bool:
    fields = {
        field
        for text in (suggestion.action, suggestion.done_when)
        for _, field, _, _ in string.Formatter().parse(text)
        if field is not None
    }
    return fields <= names.keys()


def _of_luck(lucky: Iterable[Fact]) -> Iterable[Candidate]:
    for fact in lucky:
        if fact.id == "retention_margin" and fact.outcome == "holds":
            margin = fact.numbers["margin_seconds"]
            assert isinstance(margin, float)
            yield Candidate(
                "retention-margin",
                "prevent",
                "Raise the retention of the topic, or shorten the longest outage it has to survive",
                "retention is at least twice the age reached here, and BacklogReachesRetention "
                "alerts before that",
                "fact:retention_margin",
                f"{duration(margin)} were left before unread messages would be deleted",
                "P1",
                "the next one of this length may lose data",
            )


def _of_monitoring(judged: Result) -> Iterable[Candidate]:
    for one in judged.verdict.suspicions[:MOST_OF_A_KIND]:
        yield Candidate(
            f"mend-{_slug(one.exporter)}-{_slug(one.kind)}",
            "detect",
            f"Mend what {printable(one.exporter, limit=80)} says: "
            f"{printable(one.fix, limit=200).rstrip('.')}",
            "lagkit doctor names it no more, for a day",
            f"suspicion:{one.kind}",
            printable(one.statement, limit=240),
            "P2",
            "alerts rest on what it says",
        )


def _of_blindness(complete: Completeness) -> Iterable[Candidate]:
    # what an exporter does not write is not for the asking
    asked = ("kubernetes", "kafka", "downstream")
    gaps = [gap for gap in complete.blind if gap.fix and gap.source in asked]
    for gap in gaps[:MOST_OF_A_KIND]:
        yield Candidate(
            f"see-{_slug(gap.source)}-{_slug(gap.what)}",
            "process",
            f"Let lagkit see {gap.what}: {gap.fix.rstrip('.')}",
            "lagkit doctor shows it as readable",
            "coverage",
            gap.why,
            "P3",
            "what is not seen cannot be told apart",
        )


def _slug(text: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(filter(None, kept.split("-")))[:40] or "x"

"""Records of a partition as text, and the steps to skip one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lagkit.redact import Redactor
from lagkit.render.text import CONDITION
from lagkit.wording import clock, count, plural, printable, visible

if TYPE_CHECKING:
    from lagkit.payloads import Payload
    from lagkit.peeking import Shown, Skip, Standing

ROLES = {
    "before": "read already",
    "at": "THE NEXT ONE: the group stands here",
    "after": "after it",
}
MOST_HEADERS = 30
_INDENT = "    "


def records(
    standing: Standing, shown: Sequence[Shown], way: Skip | None, *, fault: str = ""
) -> str:
    """Return the records with key, headers and payload, and how to skip the next one."""
    unread = "" if standing.log_end is None else f"; {count(_unread(standing))} unread"
    who = "members not known" if standing.members is None else plural(standing.members, "member")
    lines = [
        (
            f"{printable(standing.group, limit=80)} in {printable(standing.topic, limit=249)}/"
            f"{standing.partition}: committed offset {standing.committed}{unread}"
        ),
        f"group {printable(standing.state, limit=30)}, {who}; read without joining it",
    ]
    for record in shown:
        lines += ["", *_record(record)]
    lines += _gaps(standing, shown)
    if fault:
        lines += ["", f"Not all could be read: {printable(fault, limit=400)}"]
    if way is not None:
        lines += ["", *_way(way)]
    return "\n".join(lines)


def _unread(standing: Standing) -> int:
    assert standing.log_end is not None
    return max(0, standing.log_end - standing.committed)


def _record(record: Shown) -> list[str]:
    import pandas as pd

    written = "no timestamp"
    if record.timestamp_ms is not None and abs(record.timestamp_ms) < 253_402_300_800_000:
        moment = pd.Timestamp(record.timestamp_ms, unit="ms", tz="UTC")
        local = moment.to_pydatetime().astimezone().strftime("%H:%M:%S")
        kind = record.timestamp_kind
        written = f"{clock(moment, seconds=True)} ({local} local time; {kind})"
    elif record.timestamp_ms is not None:
        written = f"timestamp {record.timestamp_ms} ms, which is no date"
    lines = [
        f"offset {record.offset}   {ROLES[record.role]}",
        f"  written  {written}",
        f"  size     {count(record.size)} bytes",
        *_payload("key", record.key),
    ]
    for name, value in record.headers[:MOST_HEADERS]:
        lines.append(f"  header   {_header(name, value)}")
    if len(record.headers) > MOST_HEADERS:
        lines.append(f"  header   (+{len(record.headers) - MOST_HEADERS} more)")
    return [*lines, *_payload("value", record.value), f"  {record.value.verdict}"]


def _header(name: str, value: Payload) -> str:
    from collections import Counter

    # with its name, because that is what tells a token from a word
    text = f"{printable(name, limit=100)}: {printable(value.text or value.kind, limit=300)}"
    return Redactor().text(text, Counter())


def _payload(name: str, value: Payload) -> list[str]:
    about: list[str] = [value.kind]
    if value.size:
        about.append(f"{count(value.size)} bytes")
    if value.schema_id is not None:
        about.append(f"schema {value.schema_id}")
    if value.removed:
        about.append(f"redacted: {', '.join(value.removed)}")
    if value.cut:
        about.append("cut")
    head = f"  {name:<8} ({', '.join(about)})"
    text = visible(value.text)
    if not text:
        return [head]
    if "\n" not in text and len(text) <= 80:
        return [f"{head} {text}"]
    return [head, *(f"{_INDENT}{line}" for line in text.split("\n"))]


def _gaps(standing: Standing, shown: Sequence[Shown]) -> list[str]:
    """Return what is to be said where no record lies at the committed offset."""
    here = [record for record in shown if record.role == "at"]
    later = [record for record in shown if record.role == "after"]
    if here:
        return []
    if standing.log_end is not None and standing.committed >= standing.log_end:
        return ["", "The group has read everything here: there is no next record yet."]
    if standing.log_start is not None and standing.committed < standing.log_start:
        lost = standing.log_start - standing.committed
        return [
            "",
            (
                f"The record at offset {standing.committed} is gone: the log begins at "
                f"{standing.log_start}, {count(lost)} records were deleted unread."
            ),
        ]
    then = f"; the next record is offset {later[0].offset}" if later else ""
    return [
        "",
        (
            f"No record lies at offset {standing.committed} itself: compacted away, or the mark of "
            f"a transaction{then}. A consumer steps over it by itself."
        ),
    ]


def _way(way: Skip) -> list[str]:
    lines = ["To skip that one record (LOSES DATA; lagkit runs none of this)"]
    lines += ["  lost: " + way.lost, "  only if:"]
    lines += [
        f"    {CONDITION[entry.status]}: {entry.text}" + (f" ({entry.seen})" if entry.seen else "")
        for entry in way.conditions
    ]
    for number, step in enumerate(way.steps, start=1):
        lines += [f"  {number}. {step.title}", f"     {step.command}"]
    return lines

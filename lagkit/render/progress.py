"""The catch-up on a terminal: a line a look, or a table that stays in its place.

Shows what ``lagkit.watching`` computed, and computes nothing. What comes from outside (names of
topics and groups, words of brokers) cannot move the cursor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lagkit.wording import clock, count, duration, loss_rule, number, plural, printable

if TYPE_CHECKING:
    from lagkit.watching import PartitionProgress, Progress

BAR = 24
"""Characters of a bar at its longest."""
MOST_ROWS = 16
_BLOCKS = " ▏▎▍▌▋▊▉█"
_NAME = 40
SIGNS = {
    "caught_up": "caught up",
    "draining": "draining",
    "waiting": "waits its turn",
    "growing": "GROWING",
    "stuck": "STUCK",
    "lost": "RECORDS LOST",
    "no_commit": "no commit yet",
    "unknown": "not known",
}
_ORDER = ("stuck", "lost", "growing", "unknown", "draining", "waiting", "no_commit", "caught_up")
STYLES = {
    "caught_up": "green",
    "stuck": "bold red",
    "lost": "bold red",
    "growing": "yellow",
    "unknown": "dim",
    "no_commit": "dim",
}


def rate(value: float) -> str:
    """Return a drain with its direction in words, as signs are read both ways."""
    if not math.isfinite(value):
        return "rate not known yet"
    if abs(value) < 0.05:
        return "standing still"
    return f"{'shrinking' if value > 0 else 'GROWING'} by {number(abs(value))}/s"


def age(progress: Progress | PartitionProgress) -> str:
    """Return how long the oldest unread record has waited."""
    bound = "≥ " if progress.age_is_at_least and progress.age_seconds > 0 else ""
    return f"{bound}{duration(progress.age_seconds)}"


def eta(progress: Progress) -> str:
    """Return when it will be over, with its interval and the time that is left."""
    if progress.eta is None:
        return printable(progress.eta_note, limit=200)
    at, now = progress.eta, progress.at
    left = (at.mid - now).total_seconds()
    low, mid, high = (clock(moment, near=now, seconds=True) for moment in (at.low, at.mid, at.high))
    local = _datetime(at.mid).astimezone().strftime("%H:%M:%S")
    return f"{mid} ({low} to {high}), in {duration(left)}; {local} local time"


def loss(progress: Progress) -> str:
    """Return when unread records may be deleted; "" where nothing is heading there."""
    found = progress.loss
    if found is None:
        return ""
    where = f"{printable(found.topic, limit=_NAME)}/{found.partition}"
    lost = f"{count(found.already_lost)} LOST unread; " if found.already_lost else ""
    if found.at is None:
        return f"{lost}{loss_rule(found.rule)} ({where})"
    left = (found.at - progress.at).total_seconds()
    sooner = ", or sooner" if found.at_most else ""
    return (
        f"{lost}unread records of {where} may be deleted from {clock(found.at, near=progress.at)} "
        f"(in {duration(left)}{sooner})"
    )


def untouched(progress: Progress) -> str:
    """Return what lies in partitions that the group has not committed in; "" for nothing."""
    if not progress.untouched_messages:
        return ""
    return f" and up to {count(progress.untouched_messages)} where it has no commit yet"


def members(progress: Progress) -> str:
    """Return who reads."""
    if progress.members is None:
        return "members not known"
    if not progress.members:
        return "NOBODY reads: the group has no members"
    return f"{plural(progress.members, 'member')}, {printable(progress.state, limit=30)}"


def line(progress: Progress) -> str:
    """Return one look as one line: for a pipe, a log, a terminal that cannot draw."""
    parts = [clock(progress.at, near=progress.at, seconds=True)]
    if progress.fault:
        parts.append(f"NOT SEEN: {printable(progress.fault, limit=160)}")
    parts += [
        f"lag {count(progress.lag_messages)}{untouched(progress)}",
        rate(progress.net_per_second),
        f"oldest {age(progress)}",
        "caught up"
        if progress.caught_up
        else f"caught up at {eta(progress)}"
        if progress.eta
        else f"caught up: {eta(progress)}",
    ]
    if progress.stuck:
        parts.append(f"STUCK: {places(progress.stuck)}")
    if progress.members == 0:
        parts.append("nobody reads")
    if told := loss(progress):
        parts.append(told)
    return "  ".join(parts)


def places(parts: Sequence[PartitionProgress], most: int = 6) -> str:
    """Return partitions with the offset they stand at; the first of many."""
    named = [
        f"{printable(part.place, limit=_NAME)}"
        + ("" if math.isnan(part.committed_offset) else f" at offset {part.committed_offset:.0f}")
        for part in parts[:most]
    ]
    more = len(parts) - len(named)
    return ", ".join(named) + (f" (+{more} more)" if more else "")


def bar(value: float, most: float, width: int = BAR) -> str:
    """Return *value* as blocks of eighths; anything above nothing shows."""
    if not (math.isfinite(value) and most > 0):
        return " " * width
    eighths = max(round(min(value / most, 1.0) * width * 8), 1 if value > 0 else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest] if rest else "")).ljust(width)


def screen(progress: Progress, *, height: int, width: int, heading: str = "") -> Any:
    """Return the table that stays in its place, as a renderable of rich."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rank = {state: index for index, state in enumerate(_ORDER)}
    rows = sorted(
        progress.partitions,
        key=lambda part: (rank[part.state], -_known(part.lag_messages), part.topic, part.partition),
    )
    facts = [
        (
            "lag",
            (
                f"{count(progress.lag_messages)} messages{untouched(progress)}, "
                f"{rate(progress.net_per_second)}"
            ),
        ),
        ("oldest", f"{age(progress)} unread"),
        ("caught up", eta(progress)),
        ("deadline", loss(progress)),
        ("group", members(progress)),
    ]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, text in facts:
        if text:
            grid.add_row(name, Text(text))
    if progress.fault:
        grid.add_row("NOT SEEN", Text(printable(progress.fault, limit=300), style="bold yellow"))
    room = max(3, min(MOST_ROWS, height - len(facts) - 7))
    shown = rows[:room]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    wide = width >= 96
    table.add_column("partition", no_wrap=True, overflow="ellipsis", max_width=_NAME)
    table.add_column("lag", justify="right", no_wrap=True)
    table.add_column("of its most", no_wrap=True, min_width=BAR if wide else BAR // 2)
    table.add_column("oldest", justify="right", no_wrap=True)
    if wide:
        table.add_column("rate", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for part in shown:
        style = STYLES.get(part.state, "")
        cells = [
            Text(printable(part.place, limit=_NAME)),
            Text(count(part.lag_messages)),
            Text(bar(part.lag_messages, part.most_lag_messages, BAR if wide else BAR // 2), style),
            Text(age(part)),
        ]
        if wide:
            cells.append(Text(rate(part.net_per_second)))
        at = f" at {part.committed_offset:.0f}" if part.state == "stuck" else ""
        table.add_row(*cells, Text(SIGNS[part.state] + at, style))
    hidden = len(rows) - len(shown)
    lines: list[Any] = [Text(heading, style="bold", no_wrap=True, overflow="ellipsis"), grid]
    if shown:
        lines += [Text(""), table]
    if hidden:
        lines.append(Text(f"and {plural(hidden, 'more partition')} that lag less", style="dim"))
    return Group(*lines)


def _datetime(moment: Any) -> datetime:
    """Return a plain datetime: a Timestamp of pandas knows no time of this machine."""
    plain = getattr(moment, "to_pydatetime", None)
    return moment if plain is None else plain()


def _known(value: float) -> float:
    return value if math.isfinite(value) else -1.0

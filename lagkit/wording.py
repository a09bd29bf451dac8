"""How numbers, times and foreign text are put before a reader: the same in every product.

Knows units, clocks and which characters are safe to show. Refuses to know what a number means: a
value that is missing is written ``unknown``, never 0.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lagkit.model import Onset

UNKNOWN = "unknown"
MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def printable(text: object, *, limit: int = 2000) -> str:
    """Return foreign *text* on one line, without control, bidirectional or unassigned characters.

    A terminal escape or a right-to-left override in a label must not be able to redraw a verdict.
    Whitespace becomes a single blank; more than *limit* characters end in an ellipsis.
    """
    blanks = " ".join(str(text).split())
    return shorten(visible(blanks[: limit + 1]), limit)


def visible(text: str) -> str:
    """Return *text* with its lines, every character that hides or reorders others replaced."""
    return "".join(
        _REPLACEMENT
        if character != "\n" and unicodedata.category(character) in _HIDDEN_CATEGORIES
        else character
        for character in text
    )


def shorten(text: str, width: int) -> str:
    """Return *text* cut to *width* characters, with an ellipsis where something was cut."""
    return text if len(text) <= width else text[: max(0, width - 1)].rstrip() + _ELLIPSIS


def count(value: float | None) -> str:
    """Return a whole number with thousands separators, e.g. ``1,284``; ``unknown`` for None."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{round(value):,}"


def number(value: float | None) -> str:
    """Return *value* to about three significant digits, e.g. ``0.42``, ``6.1``, ``1,284``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them: ``4.2s``, ``31m``, ``8h 02m``, ``3d 04h``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    sign, size = ("-" if seconds < 0 else ""), abs(seconds)
    if size < 10:
        return f"{sign}{size:.1f}".rstrip("0").rstrip(".") + "s"
    if size < 2 * MINUTE:
        return f"{sign}{size:.0f}s"
    minutes = round(size / MINUTE)
    if minutes < 120:
        return f"{sign}{minutes}m"
    if minutes < 2880:
        return f"{sign}{minutes // 60}h {minutes % 60:02d}m"
    hours = round(size / HOUR)
    return f"{sign}{hours // 24}d {hours % 24:02d}h"


def clock(moment: datetime, *, near: datetime | None = None, seconds: bool = False) -> str:
    """Return *moment* in UTC: ``02:14Z``, with the date unless it is the day of *near*."""
    import pandas as pd  # not above: what tells of a broken pandas must not need it

    stamp = pd.Timestamp(moment).tz_convert("UTC")
    text = str(stamp.strftime("%H:%M:%SZ" if seconds else "%H:%MZ"))
    if near is not None and pd.Timestamp(near).tz_convert("UTC").date() == stamp.date():
        return text
    return f"{stamp.strftime('%Y-%m-%d')} {text}"


def onset_text(onset: Onset) -> str:
    """Return an onset with its interval: ``02:09Z ±1m``, or both ends where it is lopsided.

    One that nobody saw is ``02:09Z or before``.
    """
    import pandas as pd

    at, earliest, latest = onset.at, onset.earliest, onset.latest
    if onset.censored:
        return f"{clock(at, near=at, seconds=True)} or before"
    before = (pd.Timestamp(at) - pd.Timestamp(earliest)).total_seconds()
    after = (pd.Timestamp(latest) - pd.Timestamp(at)).total_seconds()
    wide = before + after > 2 * MINUTE
    lopsided = wide and max(before, after) > 2 * max(min(before, after), 1.0)
    near = at
    if lopsided:
        return (
            f"{clock(at, near=near, seconds=True)} "
            f"({clock(earliest, near=near, seconds=True)} to "
            f"{clock(latest, near=near, seconds=True)})"
        )
    return f"{clock(at, near=near, seconds=True)} ±{duration(max(before, after))}"


def percent(share: float | None) -> str:
    """Return a probability as a whole percentage, ``<1 %`` and ``>99 %`` at the ends."""
    if share is None or not math.isfinite(share):
        return UNKNOWN
    if 0 < share < 0.01:
        return "<1 %"
    if 0.99 < share < 1:
        return ">99 %"
    return f"{share * 100:.0f} %"


def plural(amount: int, one: str, many: str = "") -> str:
    """Return ``1 partition`` or ``3 partitions``."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def loss_rule(rule: str) -> str:
    """Return what a rule of ``lagkit.flow.LossDeadline`` means for its reader.

    By the time rule the broker may delete later (whole segments, checked every few minutes), so
    what is shown is the earliest.
    """
    return {
        "time": "by retention, at the earliest",
        "log_start": "the log start is catching up",
        "lost": "records were already deleted unread",
    }.get(rule, printable(rule))

"""The checklist after an incident as text: a sign, the question, what was seen and where."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lagkit.wording import clock, plural, printable

if TYPE_CHECKING:
    from lagkit.verification import Verification

WIDTH = 100
SIGNS = {"passed": "[x]", "failed": "[ ]", "not_checked": "[?]"}
WORDS = {"passed": "", "failed": "NOT YET: ", "not_checked": "not checked: "}
_INDENT = " " * 4


def checklist(found: Verification) -> str:
    """Return the checklist of *found*, and in its last line whether it is over."""
    about = printable(found.incident, limit=60)
    at = clock(found.at, seconds=True)
    lines = [
        f"{printable(found.group, limit=60)}   incident {about}   checked {at}",
        "",
    ]
    for line in found.lines:
        source = f" ({printable(line.source, limit=120)})" if line.source else ""
        lines.append(f"{SIGNS[line.status]} {line.question}")
        lines += textwrap.wrap(
            f"{WORDS[line.status]}{line.evidence}{source}",
            WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            break_long_words=True,
        )
    failed = [line for line in found.lines if line.status == "failed"]
    blind = len(found.lines) - found.checked
    unseen = f"; {plural(blind, 'line')} could not be checked" if blind else ""
    if failed:
        verdict = f"NOT OVER: {', '.join(line.id for line in failed)}{unseen}."
    elif found.over:
        verdict = f"Over, by {found.checked} of {len(found.lines)} checks{unseen}."
    else:
        verdict = "Not known: nothing could be checked."
    return "\n".join([*lines, "", verdict])

"""What a line of a member's log says: which client library wrote it, and of what kind of trouble.

The patterns are data, ``templates/log_patterns.toml``: each row names its library, an example and
the source it was read from. A log is hostile text, so a line is looked at as far as
:data:`LINE_LIMIT`, and every repetition in a pattern is bounded.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from lagkit.resources import resource_path

Kind = Literal[
    "authentication",
    "record",
    "poll_interval",
    "session",
    "transport",
    "protocol",
    "rebalance",
    "downstream_timeout",
]
KINDS: Sequence[Kind] = get_args(Kind)
"""In the order in which they win a line that says several things: the cause before its effect."""
LINE_LIMIT = 2000
"""Characters of a line that are looked at: as many as the frame ``logs`` keeps."""
_NAMED = re.compile(r"\(\?P<\w+>")
_BOUNDS = re.compile(r"\{(\d+),\d+\}")


@dataclass(frozen=True, slots=True)
class LogPattern:
    """One row: what *library* writes when there is trouble of *kind*."""

    library: str
    kind: Kind
    regex: re.Pattern[str]
    example: str
    source: str
    """URL of the source file that writes it."""
    version: str
    """Version of the library whose source was read."""
    recorded: str = ""
    """Day on which the example was recorded from that version in the lab; empty: composed from the
    source."""


@dataclass(frozen=True, slots=True)
class NamedRecord:
    """The record that a line names; what it leaves out is None."""

    topic: str | None
    partition: int | None
    offset: int | None


@functools.cache
def log_patterns() -> tuple[LogPattern, ...]:
    """Return every row of ``templates/log_patterns.toml``, in its order."""
    text = resource_path("templates/log_patterns.toml").read_text(encoding="utf-8")
    return tuple(
        LogPattern(**{**row, "regex": re.compile(row["regex"])})
        for row in tomllib.loads(text)["pattern"]
    )


def _sieve(row: LogPattern) -> str:
    """Return an expression that lets every line of *row* through, and few others.

    RE2 is slow at upper bounds of repetitions, and at all rows in one expression.
    """
    text = _NAMED.sub("(?:", row.regex.pattern)
    return _BOUNDS.sub(lambda bound: "*" if bound[1] == "0" else "+", text)


def says(messages: pd.Series[str], kind: Kind) -> pd.Series[bool]:
    """Tell which *messages* a client library writes about trouble of *kind*."""
    looked_at = messages.str.slice(0, LINE_LIMIT)
    found = np.zeros(len(messages), dtype=bool)
    for row in log_patterns():
        if row.kind != kind:
            continue
        # on Arrow strings this is RE2: time linear in the text, whatever the text is
        maybe = looked_at.str.contains(_sieve(row)).to_numpy(dtype=bool)
        for place in np.flatnonzero(maybe & ~found):
            found[place] = row.regex.search(looked_at.iloc[place]) is not None
    return pd.Series(found, index=messages.index)


def classify(line: str) -> LogPattern | None:
    """Return the row that *line* is an instance of; None for a line of no known trouble."""
    rows = sorted(log_patterns(), key=lambda row: KINDS.index(row.kind))
    return next((row for row in rows if row.regex.search(line, 0, LINE_LIMIT)), None)


def libraries(messages: pd.Series[str], kind: Kind) -> tuple[str, ...]:
    """Return the libraries that write *messages* about trouble of *kind*, by name."""
    rows = [row for row in log_patterns() if row.kind == kind]
    return tuple(
        sorted(
            {
                row.library
                for message in messages
                for row in rows
                if row.regex.search(message, 0, LINE_LIMIT)
            }
        )
    )


def named_record(line: str) -> NamedRecord | None:
    """Return the record that *line* says cannot be decoded or handled; None if it names none."""
    for row in log_patterns():
        if row.kind != "record":
            continue
        match = row.regex.search(line, 0, LINE_LIMIT)
        if match is None:
            continue
        # one row may know two wordings; the second one's groups end in a digit
        found = {name.rstrip("2"): text for name, text in match.groupdict().items() if text}
        if "partition" not in found:
            continue
        offset = found.get("offset")
        return NamedRecord(
            found.get("topic"), int(found["partition"]), None if offset is None else int(offset)
        )
    return None

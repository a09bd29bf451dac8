"""A page as data: sections of paragraphs, lists, tables and figures, which renderers draw.

Text holds plain words and :class:`Code` (names, queries, quotes): a renderer escapes both. Knows no
incident and no format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Code:
    """Text as it came: a name, a query, a line of a log."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """Words that a reader should not miss."""

    text: str


@dataclass(frozen=True, slots=True)
class Open:
    """A place that is left open for people, e.g. ``unassigned``."""

    text: str


Piece = str | Code | Strong | Open
Text = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph; *note* is in smaller print."""

    text: Text
    note: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list, each line short."""

    lines: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: the first cell of a row names it. At most eight columns, for a text to read well."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    most: int = 0
    """Rows that a text shows, 0 for all; the page has every one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, by its name."""

    name: str


Block = Paragraph | Bullets | Heading | Grid | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page.

    ``kind`` facts: made from data again by every run. ``yours``: left to people, a question until
    somebody answers it. A section without a title goes on with the one before.
    """

    id: str
    title: str
    kind: Literal["facts", "yours"]
    blocks: tuple[Block, ...]
    level: int = 2


def text(*pieces: Piece) -> Text:
    """Return *pieces* as one text."""
    return pieces

"""``postmortem.md``: sections as Markdown that reads well raw and can be edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lagkit.postmortem.document import (
    Block,
    Bullets,
    Code,
    Grid,
    Heading,
    Open,
    Paragraph,
    Picture,
    Section,
    Strong,
    Text,
)
from lagkit.postmortem.edited import Made
from lagkit.render.markdown import bullets, code, escape, table
from lagkit.wording import plural

if TYPE_CHECKING:
    from lagkit.figure import Figure


def render_sections(
    sections: tuple[Section, ...], figures: Mapping[str, Figure]
) -> tuple[Made, ...]:
    """Return the sections as Markdown, without the marks around them."""
    return tuple(Made(section.id, section.kind, _section(section, figures)) for section in sections)


def _section(section: Section, figures: Mapping[str, Figure]) -> str:
    parts = [f"{'#' * section.level} {escape(section.title)}"] if section.title else []
    parts += [_block(block, section, figures) for block in section.blocks]
    shown = "\n\n".join(part for part in parts if part)
    if section.kind == "yours":
        return "\n".join(f"> {line}".rstrip() for line in shown.split("\n"))
    return shown


def _block(block: Block, section: Section, figures: Mapping[str, Figure]) -> str:
    if isinstance(block, Paragraph):
        return (
            f"_{_inline(block.text)}_"
            if block.note and _emphatic(block.text)
            else _inline(block.text)
        )
    if isinstance(block, Bullets):
        return bullets(_inline(line) for line in block.lines)
    if isinstance(block, Heading):
        return f"{'#' * (section.level + 1)} {escape(block.text)}"
    if isinstance(block, Grid):
        return _grid(block)
    return _picture(block, figures)


def _emphatic(content: Text) -> bool:
    """Whether the whole can be set in italics: nothing in it is set otherwise."""
    return all(isinstance(piece, str) for piece in content)


def _inline(content: Text) -> str:
    return "".join(_piece(piece, first=not index) for index, piece in enumerate(content))


def _piece(piece: str | Code | Strong | Open, *, first: bool) -> str:
    if isinstance(piece, Code):
        return code(piece.text) if piece.text else ""
    if isinstance(piece, Open):
        return f"_{piece.text}_"
    if isinstance(piece, Strong):
        bare = piece.text.rstrip()
        return f"**{escape(bare)}**{piece.text[len(bare) :]}" if bare else ""
    lead, trail = piece[: len(piece) - len(piece.lstrip())], piece[len(piece.rstrip()) :]
    if not piece.strip():
        return piece
    inner = escape(piece)
    return f"{lead if not first else ''}{inner}{trail}"


def _grid(grid: Grid) -> str:
    rows = grid.rows[: grid.most] if grid.most else grid.rows
    hidden = len(grid.rows) - len(rows)
    shown = table(
        [escape(column) for column in grid.columns],
        [[_inline(cell) or "–" for cell in row] for row in rows],
    )
    note = f"\n\n{plural(hidden, 'more row')} in postmortem.html." if hidden else ""
    return f"{escape(grid.caption)}:\n\n{shown}{note}"


def _picture(picture: Picture, figures: Mapping[str, Figure]) -> str:
    figure = figures.get(picture.name)
    if figure is None:
        return ""
    return (
        f"**{escape(figure.title)}** ({code(f'figures/{figure.name}.svg')} in "
        f"{code('attachments.zip')}): {escape(figure.alt)}"
    )

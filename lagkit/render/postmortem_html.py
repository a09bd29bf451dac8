"""``postmortem.html``: the sections as one offline page, what people wrote among them.

People's text is Markdown from a file: raw HTML in it is shown and not run, pictures become links,
and links of unsafe kinds stay text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lagkit.postmortem.document import Block, Code, Open, Picture, Section, Strong, Text
from lagkit.postmortem.edited import LEFTOVER, Merged
from lagkit.render.page import page

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

    from lagkit.figure import Figure
    from lagkit.postmortem.model import Postmortem

TEMPLATE = "postmortem.html.j2"


def render_html(
    made: Postmortem,
    sections: Sequence[Section],
    figures: Sequence[Figure],
    merged: Merged,
    *,
    notices: Sequence[str] = (),
    interactive: bool = True,
) -> str:
    """Return the post-mortem as one HTML document; without *interactive* it holds no script."""
    return page(
        TEMPLATE,
        figures,
        interactive=interactive,
        made=made,
        notices=notices,
        top=_people(merged.top),
        leftover=_people(merged.leftover),
        leftover_id=LEFTOVER,
        sections=[_section(section, merged) for section in sections],
    )


def _section(section: Section, merged: Merged) -> dict[str, Any]:
    body = merged.bodies[section.id]
    return {
        "id": section.id,
        "title": section.title,
        "level": section.level,
        "kind": section.kind,
        "blocks": [_block(block) for block in section.blocks],
        "people": _people(body.people),
        "conflict": body.conflict,
        "after": _people(body.after),
    }


def _block(block: Block) -> dict[str, Any]:
    if isinstance(block, Picture):
        return {"kind": "picture", "name": block.name}
    kind = type(block).__name__.lower()
    content: dict[str, Any] = {"kind": kind}
    for name in block.__slots__:
        value = getattr(block, name)
        if name == "text" and not isinstance(value, str):
            value = _pieces(value)
        elif name == "lines":
            value = [_pieces(line) for line in value]
        elif name == "rows":
            value = [[_pieces(cell) for cell in row] for row in value]
        content[name] = value
    return content


def _pieces(content: Text) -> list[tuple[str, str]]:
    kinds = {Code: "code", Strong: "strong", Open: "open"}
    return [
        (kinds[type(piece)], piece.text) if not isinstance(piece, str) else ("plain", piece)
        for piece in content
    ]


def _people(source: str) -> Any:
    from markupsafe import Markup

    if not source:
        return ""
    # raw HTML is off, so what the renderer returns is made of escaped text
    return Markup(_markdown().render(source))  # noqa: S704


@functools.cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # an <img> would be a request, and the page makes none
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")

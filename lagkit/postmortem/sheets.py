"""The tables of the post-mortem's notebook: one row a thing, complete, stable, text already."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lagkit.postmortem import pages
from lagkit.postmortem.document import Block, Bullets, Grid, Text
from lagkit.postmortem.model import Postmortem
from lagkit.tables import Sheet, text_sheet

TABLES: Mapping[str, tuple[str, int]] = {
    "impact": ("impact", 0),
    "topics": ("impact", 1),
    "stamps": ("detection", 0),
    "intervals": ("detection", 1),
    "replayed": ("detection", -1),
    "timeline": ("timeline", 0),
    "went-well": ("went-well", 0),
    "got-lucky": ("got-lucky", 0),
    "similar": ("similar", 0),
    "completeness": ("completeness", 0),
    "queries": ("supporting", -1),
}
"""Name → the section that shows it, and which of its tables it is."""


def sheet(made: Postmortem, name: str) -> Sheet:
    """Return the table *name* of *made*.

    Raises
    ------
    ValueError
        There is no such table; the text names those there are.
    """
    if name in _OWN:
        return _OWN[name](made)
    if name not in TABLES:
        msg = f"no table {name!r}; there are: {', '.join((*TABLES, *_OWN))}"
        raise ValueError(msg)
    section, index = TABLES[name]
    blocks = next(one.blocks for one in pages.sections(made) if one.id == section)
    grids = [block for block in blocks if isinstance(block, Grid)]
    if not grids or index >= len(grids):
        return text_sheet(f"postmortem-{name}", _words(blocks), (), ())
    grid = grids[index]
    rows = [[_plain(cell) for cell in row] for row in grid.rows]
    return text_sheet(f"postmortem-{name}", grid.caption, grid.columns, rows)


def _candidates(made: Postmortem) -> Sheet:
    return text_sheet(
        "postmortem-candidates",
        "Action items that the evidence suggests; people accept or decline them",
        ("type", "action", "done when", "rests on", "because", "priority"),
        [
            (item.type, item.action, item.done_when, item.evidence, item.because, item.priority)
            for item in made.candidates
        ],
    )


def _causes(made: Postmortem) -> Sheet:
    blocks = next(one.blocks for one in pages.sections(made) if one.id == "causes")
    lines = [_plain(line) for block in blocks if isinstance(block, Bullets) for line in block.lines]
    return text_sheet(
        "postmortem-causes",
        f"{made.chain.title}: evidence for and against it, and what would change that",
        ("evidence",),
        [(line,) for line in lines],
    )


_OWN: Mapping[str, Callable[[Postmortem], Sheet]] = {
    "candidates": _candidates,
    "causes": _causes,
}


def _plain(content: Text) -> str:
    return "".join(piece if isinstance(piece, str) else piece.text for piece in content)


def _words(blocks: tuple[Block, ...]) -> str:
    from lagkit.postmortem.document import Paragraph

    return " ".join(_plain(block.text) for block in blocks if isinstance(block, Paragraph))

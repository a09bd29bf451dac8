"""A chart that shows itself: one description, as plotly, as a static picture and in words.

What is drawn is :class:`lagkit.figure.drawing.Drawing`; this module knows only the ways to show it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lagkit.figure.drawing import Drawing

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Figure(Drawing):
    """A chart as data; shows itself in a notebook as plotly, as a static picture and as words."""

    def plotly(self) -> go.Figure:
        """Return the figure for plotly: typed arrays, epoch milliseconds, no remote resource."""
        from lagkit.figure.interactive import build_plotly

        return build_plotly(self)

    def svg(self) -> str:
        """Return the static picture: one ``<svg>`` with a title and a label, same bytes always."""
        from lagkit.figure.svg import render_svg

        return render_svg(self)

    def html(self) -> str:
        """Return a ``<figure>`` with the static picture and its caption."""
        caption = html.escape(f"{self.title}. {self.caption}")
        return f"<figure>{self.svg()}<figcaption>{caption}</figcaption></figure>"

    def __repr__(self) -> str:
        """Return name, alternative text and fingerprint."""
        return f"<Figure {self.name}: {self.alt} [{self.fingerprint}]>"

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> Mapping[str, Any]:
        """Give a notebook the interactive figure, the static one with its words, and the words."""
        import json

        from lagkit.figure.interactive import plotly_json

        del include, exclude
        return {
            "application/vnd.plotly.v1+json": json.loads(plotly_json(self)),
            "text/html": self.html(),
            "text/plain": f"{self.title}: {self.alt}",
        }

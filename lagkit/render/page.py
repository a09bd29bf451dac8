"""A page as one HTML file that opens offline, under a policy that forbids every request.

What every page of lagkit shares: style, escaping, the static pictures and the script that upgrades
them in place. What stands on a page is its template's business.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lagkit.figure.interactive import plotly_json
from lagkit.resources import resource_path
from lagkit.wording import clock, count, duration, number, onset_text, percent, visible

if TYPE_CHECKING:
    import jinja2

    from lagkit.figure import Figure

STYLE = "templates/report.css"
START_SCRIPT = "templates/plotly-start.js"
LIBRARY = "templates/vendor/plotly-cartesian.min.js"
TEMPLATES = "templates/report.html.j2"
"""A template that is always there: the others lie beside it."""


def page(
    template: str, figures: Sequence[Figure], *, interactive: bool = True, **content: Any
) -> str:
    """Return *template* with *content*; without *interactive* it holds no script at all."""
    from markupsafe import Markup

    library = shipped(LIBRARY) if interactive else ""
    start = shipped(START_SCRIPT) if interactive else ""
    return (
        environment()
        .get_template(template)
        .render(
            policy=_policy(library, start) if interactive else _policy(),
            style=Markup(shipped(STYLE)),  # noqa: S704 - shipped with lagkit, not from outside
            library=Markup(library),  # noqa: S704
            start=Markup(start),  # noqa: S704
            pictures=[_picture(figure, interactive=interactive) for figure in figures],
            **content,
        )
    )


def anchor(text: str) -> str:
    """Return *text* as the id of an element."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "item"


@functools.cache
def shipped(relative: str) -> str:
    """Return a text that lagkit ships."""
    return resource_path(relative).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
        f"base-uri 'none'; form-action 'none'; script-src {allowed or chr(39) + 'none' + chr(39)}"
    )


def _picture(figure: Figure, *, interactive: bool) -> dict[str, Any]:
    from markupsafe import Markup

    data = plotly_json(figure).replace("<", "\\u003c") if interactive else ""
    return {
        "figure": figure,
        # both are made by lagkit from escaped text
        "svg": Markup(figure.svg()),  # noqa: S704
        "data": Markup(data),  # noqa: S704
    }


@functools.cache
def environment() -> jinja2.Environment:
    """Return the templates with what they may call; everything put into one is escaped."""
    import jinja2
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        """Take control and bidirectional characters out of everything that is put in."""
        if isinstance(value, str) and not isinstance(value, Markup):
            return visible(value)
        return value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource_path(TEMPLATES).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "anchor": anchor,
        "clock": clock,
        "count": count,
        "duration": duration,
        "number": number,
        "percent": percent,
    }
    environment.globals["onset_text"] = onset_text
    return environment

"""``report.pdf``: the HTML report without its script, as PDF/A-3 with the evidence embedded.

Needs WeasyPrint, the extra ``pdf``. The incident file and the verdict are attached, so that one
file holds the report and all that it rests on.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from lagkit.errors import UsageError
from lagkit.render.html import render_html

if TYPE_CHECKING:
    from lagkit.report import Report

RELATIONSHIP = "Source"
"""PDF/A-3's word for an attachment that the document was made from."""


def render_pdf(report: Report, attachments: Mapping[str, bytes]) -> bytes:
    """Return the report as PDF/A-3 with *attachments* (name → content) embedded.

    Raises
    ------
    UsageError
        As :func:`draw_pdf`.
    """
    verdict = report.verdict
    return draw_pdf(
        functools.partial(render_html, report, interactive=False),
        attachments,
        name="report.pdf",
        identifier=verdict.incident.id,
        moment=verdict.generated_at,
    )


def draw_pdf(
    page: Callable[[], str],
    attachments: Mapping[str, bytes],
    *,
    name: str,
    identifier: str,
    moment: datetime,
) -> bytes:
    """Return a page of HTML as PDF/A-3 with *attachments* embedded, all dated *moment*.

    Raises
    ------
    UsageError
        WeasyPrint, or the Pango library it draws with, is not installed; names the extra.
    """
    try:
        import weasyprint
    except (ImportError, OSError) as error:
        msg = f"{name} needs WeasyPrint and the Pango library ({error})."
        raise UsageError(
            msg,
            hint='Install them: pip install "lagkit[pdf]"; apt install '
            "libpango-1.0-0 libpangoft2-1.0-0",
        ) from None
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)  # one line per unknown CSS property
    logging.getLogger("fontTools").setLevel(logging.CRITICAL)
    document = weasyprint.HTML(string=page(), url_fetcher=_refuse)
    buffer = io.BytesIO()
    document.write_pdf(
        buffer,
        pdf_variant="pdf/a-3u",
        pdf_identifier=identifier.encode(),
        attachments=[
            weasyprint.Attachment(
                file_obj=io.BytesIO(body),
                name=file,
                description=f"{file} of this report",
                created=moment,
                modified=moment,
                relationship=RELATIONSHIP,
            )
            for file, body in sorted(attachments.items())
        ],
    )
    return buffer.getvalue()


def _refuse(url: str, *_: object, **__: object) -> NoReturn:
    """Fetch nothing: a report rests on nothing outside itself."""
    msg = f"a report may not load {url}"
    raise ValueError(msg)

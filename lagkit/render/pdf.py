"""``report.pdf``: the HTML report without its script, as PDF/A-3 with the evidence embedded.

Needs WeasyPrint, the extra ``pdf``. The incident file and the verdict are attached, so that one
file holds the report and all that it rests on.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
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
        WeasyPrint, or the Pango library it draws with, is not installed; names the extra.
    """
    try:
        import weasyprint
    except (ImportError, OSError) as error:
        msg = f"report.pdf needs WeasyPrint and the Pango library ({error})."
        raise UsageError(
            msg,
            hint='Install them: pip install "lagkit[pdf]"; apt install '
            "libpango-1.0-0 libpangoft2-1.0-0",
        ) from None
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)  # one line per unknown CSS property
    logging.getLogger("fontTools").setLevel(logging.CRITICAL)
    moment = report.verdict.generated_at
    content = render_html(report, interactive=False)
    document = weasyprint.HTML(string=content, url_fetcher=_refuse)
    buffer = io.BytesIO()
    document.write_pdf(
        buffer,
        pdf_variant="pdf/a-3u",
        pdf_identifier=report.verdict.incident.id.encode(),
        attachments=[
            weasyprint.Attachment(
                file_obj=io.BytesIO(body),
                name=name,
                description=f"{name} of this report",
                created=moment,
                modified=moment,
                relationship=RELATIONSHIP,
            )
            for name, body in sorted(attachments.items())
        ],
    )
    return buffer.getvalue()


def _refuse(url: str, *_: object, **__: object) -> NoReturn:
    """Fetch nothing: a report rests on nothing outside itself."""
    msg = f"a report may not load {url}"
    raise ValueError(msg)

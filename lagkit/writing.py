"""The report's files on disk: ``verdict.json`` before anything else, each whole or not at all.

A notebook or a rendering that fails costs its own file only; what failed is said in the others.
Knows the files and their order; what is in them is for ``lagkit.report`` and ``lagkit.render``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lagkit.disk import write_whole
from lagkit.errors import LagkitError, ReportFailed
from lagkit.folders import (
    HTML_FILE,
    INCIDENT_FILE,
    MARKDOWN_FILE,
    NOTEBOOK_FILE,
    PDF_FILE,
    VERDICT_FILE,
)
from lagkit.report import build
from lagkit.resources import resource_path
from lagkit.runner.beside import Beside, note

if TYPE_CHECKING:
    from lagkit.charts import Investigated
    from lagkit.runner import RunRecord, Standby

NOTEBOOK = "notebooks/investigate.ipynb"
INCIDENT_PARAMETER = "incident_path"
"""The notebook's parameter that takes the incident file, relative to the report."""
DEADLINE_SECONDS = 120.0
# What the notebook imports in time: done while its kernel has nothing to do yet.
NOTEBOOK_MODULES = (
    "lagkit.investigation",
    "lagkit.charts",
    "lagkit.tables",
    "lagkit.render.text",
    "pandera.pandas",
    "pyarrow.parquet",
)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Written:
    """Where the files are; None for what was not asked for or could not be made."""

    folder: Path
    incident: Path | None = None
    verdict: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    notebook: Path | None = None
    pdf: Path | None = None
    run: RunRecord | None = None
    failures: tuple[str, ...] = ()


def write(
    result: Investigated,
    folder: str | Path,
    *,
    notebook: bool = True,
    pdf: bool = False,
    deadline_seconds: float = DEADLINE_SECONDS,
    on_progress: Progress | None = None,
    standby: Standby | None = None,
) -> Written:
    """Write the report of *result* into *folder* and return where its files are.

    In order: ``verdict.json``, the incident file if it is not there, ``report.html`` and
    ``report.md``, then (*notebook*) ``report.ipynb`` within *deadline_seconds* and (*pdf*)
    ``report.pdf``. The notebook runs while the others are written, in the kernel that is
    *standby* or in a new one. The same result gives the same bytes.

    Raises
    ------
    ReportFailed
        The verdict is on disk, and so is all that could be rendered, but something was not; says
        what.
    """
    say = on_progress or (lambda _line: None)
    place = Path(folder)
    failures: list[str] = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        written = Written(
            place,
            verdict=write_whole(place / VERDICT_FILE, result.verdict.to_json().encode()),
            incident=_incident_file(result, place),
        )
    except OSError as error:
        msg = f"The report cannot be written to {place}: {error.strerror or error}."
        raise ReportFailed(msg, hint="Give another folder with --out.") from error

    with Beside(place / NOTEBOOK_FILE, failures) as beside:
        if notebook:
            beside.begin(
                resource_path(NOTEBOOK),
                {INCIDENT_PARAMETER: INCIDENT_FILE},
                standby=standby,
                modules=NOTEBOOK_MODULES,
                deadline_seconds=deadline_seconds,
            )
        say("writing report.html and report.md")
        written = _render(result, written, failures)
        if run := beside.finish(on_progress):
            written = replace(written, notebook=run.notebook, run=run)
    if pdf:
        say("writing report.pdf")
        written = _pdf(result, written, failures)
    if not failures:
        return written
    _render(result, replace(written, failures=tuple(failures)), failures)  # now it can say so
    raise ReportFailed(
        f"The verdict stands in {place / VERDICT_FILE}, but " + "; ".join(failures) + ".",
        hint=f"The other files are whole. Try again with: lagkit investigate "
        f"{place / INCIDENT_FILE}",
    )


def _incident_file(result: Investigated, place: Path) -> Path:
    path = place / INCIDENT_FILE
    return path if path.exists() else result.incident.save(path)


def _render(result: Investigated, written: Written, failures: list[str]) -> Written:
    """Write HTML and Markdown; a fault in one is noted and leaves the other standing."""
    from lagkit.render.html import render_html
    from lagkit.render.markdown import render_markdown

    place = written.folder
    try:
        report = build(result, notices=written.failures)
    except Exception as error:  # noqa: BLE001 - the verdict must reach its reader regardless
        note(failures, "the report could not be put together", error)
        return written
    paths: dict[str, Path] = {}
    for file, render in ((HTML_FILE, render_html), (MARKDOWN_FILE, render_markdown)):
        try:
            paths[file] = write_whole(place / file, render(report).encode())
        except Exception as error:  # noqa: BLE001 - as above
            note(failures, f"{file} could not be made", error)
    return replace(written, html=paths.get(HTML_FILE), markdown=paths.get(MARKDOWN_FILE))


def _pdf(result: Investigated, written: Written, failures: list[str]) -> Written:
    from lagkit.render.pdf import render_pdf

    attachments = {
        path.name: path.read_bytes()
        for path in (written.incident, written.verdict)
        if path is not None
    }
    try:
        content = render_pdf(build(result, notices=tuple(failures)), attachments)
        return replace(written, pdf=write_whole(written.folder / PDF_FILE, content))
    except LagkitError as error:
        failures.append(str(error).replace("\n", " "))
    except Exception as error:  # noqa: BLE001 - as in _render
        note(failures, f"{PDF_FILE} could not be made", error)
    return written

"""A post-mortem's files on disk: the data before anything else, each whole or not at all.

The captures go in as they are, then ``postmortem.json``, the Markdown, the page and the notebook,
the PDF if it is wanted, and last ``attachments.zip`` with all of them. A notebook or a rendering
that fails costs its own file only, and the others say so. Text that people wrote is never
overwritten: it is merged, or the run is refused before it wrote anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lagkit import folders
from lagkit.disk import write_whole
from lagkit.errors import LagkitError, ReportFailed, UsageError
from lagkit.postmortem import edited as edits
from lagkit.postmortem.pages import sections
from lagkit.resources import resource_path
from lagkit.runner.beside import Beside, note

if TYPE_CHECKING:
    from lagkit.figure import Figure
    from lagkit.postmortem.account import Account
    from lagkit.postmortem.document import Section
    from lagkit.postmortem.edited import Edited, Made, Merged
    from lagkit.postmortem.model import Postmortem
    from lagkit.runner import RunRecord, Standby

NOTEBOOK = "notebooks/postmortem.ipynb"
DEADLINE_SECONDS = 120.0
_PRIVATE = 0o600
# What the notebook imports in time: done while its kernel has nothing to do yet.
NOTEBOOK_MODULES = ("lagkit.postmortem", "lagkit.charts", "lagkit.tables", "pandera.pandas")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Captures:
    """The files that a post-mortem is made of, as they came."""

    first: bytes
    later: bytes | None = None
    signatures: bytes | None = None
    capacity: bytes | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """Where the files are; None for what was not asked for or could not be made."""

    folder: Path
    merged: Merged
    markdown: Path | None = None
    html: Path | None = None
    data: Path | None = None
    notebook: Path | None = None
    pdf: Path | None = None
    attachments: Path | None = None
    run: RunRecord | None = None
    failures: tuple[str, ...] = ()


def refuse_overwriting(folder: Path, incident: str, merging: Path | None) -> None:
    """Refuse a folder whose ``postmortem.md`` people wrote into, unless it is merged.

    Raises
    ------
    UsageError
        It holds text that would be lost.
    """
    path = folder / folders.POSTMORTEM_FILE
    if not path.exists() or (merging is not None and _same(path, merging)):
        return
    try:
        known = edits.read(path)
        mine = known.incident == edits.identity(incident) and not edits.touched(known)
    except LagkitError:
        mine = False
    if not mine:
        msg = f"{path} holds text that lagkit did not write, or another incident's."
        raise UsageError(
            msg, hint=f"Keep it with --merge {path}, or give another folder with --out."
        )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def write(
    account: Account,
    folder: Path,
    captures: Captures,
    *,
    edited: Edited | None = None,
    notebook: bool = True,
    pdf: bool = False,
    deadline_seconds: float = DEADLINE_SECONDS,
    on_progress: Progress | None = None,
    standby: Standby | None = None,
) -> Written:
    """Write the post-mortem of *account* into *folder* and return where its files are.

    *edited* is a Markdown file that people wrote into. The same captures and the same edits give
    the same bytes.

    Raises
    ------
    ReportFailed
        What could be made is on disk, but something was not, or people's text and new data are in
        conflict; says what.
    """
    say = on_progress or (lambda _line: None)
    failures: list[str] = []
    figures = account.figures()
    parts = sections(account.postmortem)
    made_sections = _markdown(parts, figures)
    merged = edits.merge(made_sections, edited)
    made = replace(account.postmortem, people=merged.people)
    try:
        folders.remove_earlier_postmortem(folder)
        content = _captured(folder, captures)
        text = edits.assemble(made_sections, merged, made.incident.id).encode()
        content[folders.POSTMORTEM_DATA] = made.to_json().encode()
        content[folders.POSTMORTEM_FILE] = text
        written = Written(
            folder,
            merged,
            data=write_whole(folder / folders.POSTMORTEM_DATA, content[folders.POSTMORTEM_DATA]),
            markdown=write_whole(folder / folders.POSTMORTEM_FILE, text),
        )
    except OSError as error:
        msg = f"The post-mortem cannot be written to {folder}: {error.strerror or error}."
        raise ReportFailed(msg, hint="Make room, or give another folder with --out.") from error
    with Beside(folder / folders.POSTMORTEM_NOTEBOOK, failures) as beside:
        if notebook:
            beside.begin(
                resource_path(NOTEBOOK),
                _parameters(captures, made.zone),
                standby=standby,
                modules=NOTEBOOK_MODULES,
                deadline_seconds=deadline_seconds,
            )
        say("writing postmortem.html")
        written = _html(made, parts, figures, written, failures)
        if run := beside.finish(on_progress):
            written = replace(written, notebook=run.notebook, run=run)
    if pdf:
        say("writing postmortem.pdf")
        written = _pdf(made, parts, figures, written, content, failures)
    if failures:  # now the page can say so
        written = _html(made, parts, figures, replace(written, failures=tuple(failures)), failures)
    say("writing attachments.zip")
    written = _attachments(made, figures, written, content, failures)
    if failures or merged.conflicts:
        raise _unfinished(written, failures)
    return written


def _unfinished(written: Written, failures: list[str]) -> ReportFailed:
    texts, hints = list(failures), []
    if failures:
        hints.append("The other files are whole.")
    if names := written.merged.conflicts:
        texts.append(
            f"in {len(names)} section(s) the edited text and the data both changed: "
            f"{', '.join(names)}"
        )
        hints.append(
            f"Both texts stand in {written.folder / folders.POSTMORTEM_FILE}: keep what is right, "
            "delete the note with its marks, and run again with --merge."
        )
    return ReportFailed(
        f"The post-mortem is in {written.folder}, but " + "; ".join(texts) + ".",
        hint=" ".join(hints),
    )


def _markdown(parts: tuple[Section, ...], figures: tuple[Figure, ...]) -> tuple[Made, ...]:
    from lagkit.render.postmortem_markdown import render_sections

    return render_sections(parts, {figure.name: figure for figure in figures})


def _captured(folder: Path, captures: Captures) -> dict[str, bytes]:
    """Put the captures into *folder* as they came, and return them by name."""
    content = {folders.INCIDENT_FILE: captures.first}
    if captures.later is not None:
        content[folders.LATER_FILE] = captures.later
    if captures.signatures is not None:
        content[folders.SIGNATURES_FILE] = captures.signatures
    if captures.capacity is not None:
        content[folders.CAPACITY_FILE] = captures.capacity
    for name, body in content.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != body:
            write_whole(path, body, mode=_PRIVATE)
    return content


def _parameters(captures: Captures, zone: str) -> dict[str, str]:
    """Return the notebook's parameters: what was given, by the names it has in the folder."""
    parameters = {"incident_path": folders.INCIDENT_FILE, "zone": zone}
    if captures.later is not None:
        parameters["later_path"] = folders.LATER_FILE
    if captures.signatures is not None:
        parameters["similar_path"] = folders.SIGNATURES_FILE
    if captures.capacity is not None:
        parameters["capacity_path"] = folders.CAPACITY_FILE
    return parameters


def _html(
    made: Postmortem,
    parts: tuple[Section, ...],
    figures: tuple[Figure, ...],
    written: Written,
    failures: list[str],
) -> Written:
    from lagkit.render.postmortem_html import render_html

    try:
        text = render_html(made, parts, figures, written.merged, notices=written.failures)
        path = write_whole(written.folder / folders.POSTMORTEM_HTML, text.encode())
    except Exception as error:  # noqa: BLE001 - the text must reach its reader regardless
        note(failures, f"{folders.POSTMORTEM_HTML} could not be made", error)
        return written
    return replace(written, html=path)


def _pdf(
    made: Postmortem,
    parts: tuple[Section, ...],
    figures: tuple[Figure, ...],
    written: Written,
    content: Mapping[str, bytes],
    failures: list[str],
) -> Written:
    from lagkit.render.pdf import draw_pdf
    from lagkit.render.postmortem_html import render_html

    def page() -> str:
        return render_html(
            made, parts, figures, written.merged, notices=tuple(failures), interactive=False
        )

    embedded = {name: body for name, body in content.items() if name != folders.POSTMORTEM_FILE}
    try:
        body = draw_pdf(
            page,
            embedded,
            name=folders.POSTMORTEM_PDF,
            identifier=made.incident.id,
            moment=made.generated_at,
        )
        return replace(written, pdf=write_whole(written.folder / folders.POSTMORTEM_PDF, body))
    except LagkitError as error:
        failures.append(str(error).replace("\n", " "))
    except Exception as error:  # noqa: BLE001 - as in _html
        note(failures, f"{folders.POSTMORTEM_PDF} could not be made", error)
    return written


def _attachments(
    made: Postmortem,
    figures: tuple[Figure, ...],
    written: Written,
    content: Mapping[str, bytes],
    failures: list[str],
) -> Written:
    from lagkit.postmortem.attachments import attachments

    try:
        files = dict(content)
        for path in (written.html, written.notebook, written.pdf):
            if path is not None:
                files[path.name] = path.read_bytes()
        body = attachments(made, figures, files)
        path = write_whole(written.folder / folders.ATTACHMENTS_FILE, body, mode=_PRIVATE)
    except Exception as error:  # noqa: BLE001 - as in _html
        note(failures, f"{folders.ATTACHMENTS_FILE} could not be made", error)
        return written
    return replace(written, attachments=path)

"""Where an incident's files go: which names they have, and who may write into a folder.

A folder is held while it is written, refused when it holds what lagkit did not write, and named
after the incident when the user names none. Knows no content.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lagkit.errors import UsageError

if TYPE_CHECKING:
    from lagkit.incident import Incident

INCIDENT_SUFFIX = ".lagkit"
INCIDENT_FILE = "incident.lagkit"
VERDICT_FILE = "verdict.json"
HTML_FILE = "report.html"
MARKDOWN_FILE = "report.md"
NOTEBOOK_FILE = "report.ipynb"
PDF_FILE = "report.pdf"
LATER_FILE = "later.lagkit"
SIGNATURES_FILE = "similar.json"
CAPACITY_FILE = "capacity.json"
POSTMORTEM_FILE = "postmortem.md"
POSTMORTEM_HTML = "postmortem.html"
POSTMORTEM_DATA = "postmortem.json"
POSTMORTEM_NOTEBOOK = "postmortem.ipynb"
POSTMORTEM_PDF = "postmortem.pdf"
ATTACHMENTS_FILE = "attachments.zip"
POSTMORTEM_FILES = frozenset(
    {
        LATER_FILE,
        SIGNATURES_FILE,
        CAPACITY_FILE,
        POSTMORTEM_FILE,
        POSTMORTEM_HTML,
        POSTMORTEM_DATA,
        POSTMORTEM_NOTEBOOK,
        POSTMORTEM_PDF,
        ATTACHMENTS_FILE,
    }
)
"""What a post-mortem adds to the folder of a report."""
OWN_FILES = POSTMORTEM_FILES | frozenset(
    {
        INCIDENT_FILE,
        VERDICT_FILE,
        HTML_FILE,
        MARKDOWN_FILE,
        NOTEBOOK_FILE,
        PDF_FILE,
        ".ipynb_checkpoints",
    }
)
"""What lagkit writes into an output folder, and therefore may replace there."""
KEPT_FILES = frozenset({INCIDENT_FILE, LATER_FILE, POSTMORTEM_FILE})
"""What no run deletes: it may be the only one there is."""
NAME_CHARACTERS = 80


@contextlib.contextmanager
def held(out: Path | None, *, needed: bool = False) -> Iterator[Path | None]:
    """Hold the folder *out* before any system is asked; without one only see that there can be."""
    if out is None:
        if needed:
            refuse_unwritable(Path())
        yield None
        return
    from lagkit.disk import claimed

    with claimed(out) as folder:
        refuse_foreign(folder)
        yield folder


@contextlib.contextmanager
def own_folder(incident: Incident) -> Iterator[Path]:
    """Hold the folder named after *incident*, or the next free name if it is another's."""
    from lagkit.disk import Busy, claimed

    name = default_folder(incident)
    content = incident.to_bytes()
    for number in itertools.count(1):
        folder = name if number == 1 else name.with_name(f"{name.name}-{number}")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(claimed(folder))
            except Busy:
                continue
            known = folder / INCIDENT_FILE
            if known.exists() and known.read_bytes() != content:
                continue
            refuse_foreign(folder)
            yield folder
            return


def refuse_unwritable(folder: Path) -> None:
    """Refuse a place for files that would not take one, before any work is done."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"{folder.resolve()} cannot be written."
        raise UsageError(msg, hint="Give a place that this account may write to with --out.")


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something lagkit did not write, before any work is done."""
    from lagkit.disk import is_part

    names = [entry.name for entry in folder.iterdir()]
    foreign = sorted(name for name in names if name not in OWN_FILES and not is_part(name))
    if foreign:
        msg = f"--out {folder} holds other things ({', '.join(foreign[:3])}), which stay untouched."
        raise UsageError(msg, hint="Give a new folder, or one of an earlier report.")


def remove_earlier(folder: Path) -> None:
    """Delete what an earlier run made of another capture: no two verdicts in one folder.

    Captures stay, and so does a post-mortem's text: people may have written into it.
    """
    _remove(folder, OWN_FILES - KEPT_FILES)


def remove_earlier_postmortem(folder: Path) -> None:
    """Delete what an earlier run made of another post-mortem, but for captures and its text."""
    _remove(folder, POSTMORTEM_FILES - KEPT_FILES)


def _remove(folder: Path, names: frozenset[str]) -> None:
    for name in sorted(names):
        entry = folder / name
        if entry.is_dir() and not entry.is_symlink():
            continue  # a Jupyter's checkpoints: its own affair
        entry.unlink(missing_ok=True)


def saved(incident: Incident, out: Path | None) -> Path:
    """Save to *out*, through a link if it is one, or to the next free name."""
    if out is not None:
        incident.save(out.resolve() if out.is_symlink() else out)
        return out
    default = default_folder(incident)
    number = 1
    while True:
        suffix = "" if number == 1 else f"-{number}"
        try:
            return incident.save(f"{default}{suffix}{INCIDENT_SUFFIX}", new=True)
        except FileExistsError:  # another capture of the same second
            number += 1


def default_folder(incident: Incident) -> Path:
    """Return the name an incident gives its folder: group and time of the capture."""
    return Path(f"lagkit-{safe_name(incident.group)}-{incident.captured_at:%Y%m%dT%H%M%SZ}")


def safe_name(group: str) -> str:
    """Return *group* as a part of a file name: no separator, no leading dot, bounded."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", group).strip("._-")
    return plain[:NAME_CHARACTERS] or "group"

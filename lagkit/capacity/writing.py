"""The files of a capacity trend, each whole or not at all; ``capacity.json`` before the rest.

Knows the files and their order; a fault in one costs that one and is said.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lagkit.capacity.outlook import Capacities
from lagkit.capacity.render import render_csv, render_html, render_markdown
from lagkit.disk import write_whole
from lagkit.errors import ReportFailed, UsageError
from lagkit.resources import resource_path
from lagkit.runner.beside import Beside, note

if TYPE_CHECKING:
    from lagkit.runner import Standby

NOTEBOOK = "notebooks/capacity.ipynb"
HISTORY_PARAMETER = "history_path"
TARGET_PARAMETER = "target"
HISTORY_FILE = "history.lagkit"
JSON_FILE = "capacity.json"
HTML_FILE = "capacity.html"
MARKDOWN_FILE = "capacity.md"
CSV_FILE = "capacity.csv"
NOTEBOOK_FILE = "capacity.ipynb"
OWN_FILES = frozenset(
    {
        HISTORY_FILE,
        JSON_FILE,
        HTML_FILE,
        MARKDOWN_FILE,
        CSV_FILE,
        NOTEBOOK_FILE,
        ".ipynb_checkpoints",
    }
)
NOTEBOOK_MODULES = (
    "lagkit.capacity.outlook",
    "lagkit.capacity.charts",
    "lagkit.capacity.tables",
    "lagkit.figure.interactive",
    "lagkit.figure.svg",
    "pandera.pandas",
    "pyarrow.parquet",
    "statsmodels.tsa.seasonal",
    "statsmodels.regression.linear_model",
)


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something a capacity trend did not write."""
    from lagkit.disk import is_part

    names = sorted(entry.name for entry in folder.iterdir())
    foreign = [name for name in names if name not in OWN_FILES and not is_part(name)]
    if foreign:
        msg = f"--out {folder} holds other things ({', '.join(foreign[:3])}), which stay untouched."
        raise UsageError(msg, hint="Give a new folder, or one of an earlier capacity trend.")


def remove_earlier(folder: Path) -> None:
    """Delete what an earlier run made, but for the history: no two answers in one folder."""
    for name in sorted(OWN_FILES - {HISTORY_FILE}):
        entry = folder / name
        if not (entry.is_dir() and not entry.is_symlink()):
            entry.unlink(missing_ok=True)


def write(
    found: Capacities,
    folder: Path,
    *,
    standby: Standby | None,
    deadline_seconds: float,
    notebook: bool = True,
    on_progress: Callable[[str], None] | None = None,
) -> None:
    """Write JSON, HTML, Markdown, CSV and the executed notebook into *folder*.

    The history file is there already. The notebook runs while the others are written.

    Raises
    ------
    ReportFailed
        Some file could not be made; the others are whole.
    """
    say = on_progress or (lambda _line: None)
    failures: list[str] = []
    answer = found.answer
    try:
        write_whole(folder / JSON_FILE, answer.to_json().encode())
    except OSError as error:
        msg = f"The answer cannot be written to {folder}: {error.strerror or error}."
        raise ReportFailed(msg, hint="Give another folder with --out.") from error
    with Beside(folder / NOTEBOOK_FILE, failures) as beside:
        if notebook:
            beside.begin(
                resource_path(NOTEBOOK),
                {HISTORY_PARAMETER: HISTORY_FILE, TARGET_PARAMETER: answer.target},
                standby=standby,
                modules=NOTEBOOK_MODULES,
                deadline_seconds=deadline_seconds,
            )
        say("writing capacity.html, capacity.md and capacity.csv")
        renderings = (
            (CSV_FILE, render_csv),
            (MARKDOWN_FILE, render_markdown),
            (HTML_FILE, render_html),
        )
        for file, render in renderings:
            try:
                write_whole(folder / file, render(found).encode())
            except Exception as error:  # noqa: BLE001 - the others must reach their reader
                note(failures, f"{file} could not be made", error)
        beside.finish(on_progress)
    if failures:
        raise ReportFailed(
            f"The answer stands in {folder / JSON_FILE}, but " + "; ".join(failures) + ".",
            hint="The other files are whole. Try again with: lagkit capacity "
            f"{folder / HISTORY_FILE}",
        )

"""``lagkit open``: an incident in JupyterLab."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lagkit import folders
from lagkit.commands.console import reason
from lagkit.errors import UsageError

NOTEBOOK = "notebooks/investigate.ipynb"


@click.command("open")
@click.argument("place", metavar="[FILE.lagkit|FOLDER]", required=False, type=click.Path())
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening it.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of JupyterLab.")
def open_(place: str | None, no_browser: bool, port: int | None) -> None:
    """Open an incident in JupyterLab: a saved file, a report's folder, or the bundled one."""
    from importlib.util import find_spec
    from urllib.parse import quote

    if find_spec("jupyterlab") is None:
        msg = "JupyterLab is not installed, so there is nothing to open the notebook with."
        raise UsageError(msg, hint="Run: pip install 'lagkit[notebook]'")
    try:
        notebook = _workbook(Path(place) if place else None)
    except OSError as error:
        msg = f"The notebook cannot be written: {reason(error)}."
        raise UsageError(msg, hint="Copy the incident to a folder that takes a file.") from None
    click.echo(f"Opening {notebook}", err=True)
    # By its address rather than as an argument: the line JupyterLab prints leads to the notebook.
    command = [sys.executable, "-m", "jupyterlab"]
    command += [f"--ServerApp.root_dir={notebook.parent.resolve()}"]
    command += [f"--LabApp.default_url=/lab/tree/{quote(notebook.name)}"]
    command += ["--no-browser"] if no_browser else []
    command += [f"--ServerApp.port={port}"] if port else []
    command += ["--allow-root"] if os.geteuid() == 0 else []  # a container; Jupyter would refuse
    sys.stderr.flush()
    os.execv(sys.executable, command)  # noqa: S606 - JupyterLab takes our place and our terminal


def _workbook(place: Path | None) -> Path:
    """Return the notebook for *place*, made beside the incident if it is not there yet."""
    from lagkit.incident import open_incident
    from lagkit.resources import resource_path
    from lagkit.runner import prepare_notebook

    if place is None:
        return prepare_notebook(resource_path(NOTEBOOK), {}, Path("lagkit-demo.ipynb"))
    file = place / folders.INCIDENT_FILE if place.is_dir() else place
    open_incident(file)  # a file that is none is refused here, not by a traceback in a cell
    known = file.with_name(folders.NOTEBOOK_FILE)
    if file.name == folders.INCIDENT_FILE and known.exists():
        return known
    notebook = file.with_suffix(".ipynb")
    if notebook.exists():  # someone's notes may be in it
        return notebook
    return prepare_notebook(resource_path(NOTEBOOK), {"incident_path": file.name}, notebook)

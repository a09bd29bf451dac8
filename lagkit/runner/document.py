"""The notebook as a file: read, prepared for a person, cleaned after a run.

A notebook of format 4 is JSON, and that is all that is asked of it here: importing nbformat to
read one costs the terminal more than a second where JupyterLab is installed.
"""

from __future__ import annotations

import json
import re
import site
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lagkit.disk import write_whole
from lagkit.errors import UsageError
from lagkit.runner.parameters import validate_parameters, with_defaults
from lagkit.runner.record import RunRecord

FORMAT = 4
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
INPUT, OUTPUT = "input.ipynb", "run.ipynb"
"""What the engine is given and what it writes, in its folder."""
INJECTED = "injected-parameters"  # papermill's tag
_ERROR_MARKER = "papermill-error-cell-tag"

Document = dict[str, Any]


def read(path: Path) -> Document:
    """Return the notebook at *path*, the source of each cell as one text.

    Raises
    ------
    UsageError
        It is no notebook of format 4.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["nbformat"] == FORMAT
        for cell in document["cells"] if known else ():
            cell["source"] = "".join(cell["source"])
            cell.setdefault("metadata", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        msg = f"{path.name} is no notebook of format {FORMAT}."
        raise UsageError(msg, hint="Open it in JupyterLab and save it again.")
    return document


def as_text(document: Document) -> str:
    """Return *document* as nbformat writes it: keys sorted, source in lines."""
    cells = [cell | {"source": cell["source"].splitlines(True)} for cell in document["cells"]]
    return (
        json.dumps(
            document | {"cells": cells},
            ensure_ascii=False,
            indent=1,
            sort_keys=True,
            separators=(",", ": "),
        )
        + "\n"
    )


def prepare_notebook(notebook: Path, parameters: Mapping[str, Any], output: Path) -> Path:
    """Write a copy of *notebook* to *output* for a person to run, its defaults set to *parameters*.

    Outputs of the original are left out where a parameter changes: they would belong to other data.

    Raises
    ------
    UsageError
        As :func:`lagkit.runner.run_notebook`.
    """
    document = read(notebook)
    source = parameters_source(document)
    values = validate_parameters(source, parameters)
    for cell in document["cells"]:
        if cell["cell_type"] != "code":
            continue
        if cell["source"] == source and "parameters" in _tags(cell):
            cell["source"] = with_defaults(source, values)
        if values:
            cell["outputs"], cell["execution_count"] = [], None
    write_whole(output, as_text(document).encode())
    return output


def parameters_source(document: Document) -> str:
    """Return the source of the parameters cell, empty if there is none."""
    for cell in document["cells"]:
        if cell["cell_type"] == "code" and "parameters" in _tags(cell):
            return str(cell["source"])
    return ""


def injected_at(document: Document, values: Mapping[str, Any]) -> int | None:
    """Return the index at which papermill inserts the values, None if it inserts nothing."""
    if not values:
        return None
    for index, cell in enumerate(document["cells"]):
        if "parameters" in _tags(cell):
            return index + 1
    return 0


def labels(document: Document) -> list[str]:
    """Return for each code cell the heading above it."""
    heading, found = "", []
    for cell in document["cells"]:
        if cell["cell_type"] == "markdown":
            titles = re.findall(r"^#{1,3} +(.+)$", cell["source"], flags=re.MULTILINE)
            heading = titles[-1].strip() if titles else heading
        elif cell["cell_type"] == "code":
            found.append(heading)
    return found


def _tags(cell: Mapping[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def clean_notebook(executed: Document, record: RunRecord, *, folder: Path) -> None:
    """Take out of *executed* what differs between two runs or names this machine, in place."""
    executed["cells"] = [cell for cell in executed["cells"] if _ERROR_MARKER not in _tags(cell)]
    for cell in executed["cells"]:
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
        tags = cell["metadata"].get("tags")
        if tags == []:
            del cell["metadata"]["tags"]
        if INJECTED in (tags or []):
            cell["id"] = INJECTED
        for output in cell.get("outputs", []):
            _hide_paths_in(output, folder)
    kept = {key: value for key, value in executed["metadata"].items() if key == "title"}
    executed["metadata"] = kept | {
        "kernelspec": dict(KERNELSPEC),
        "lagkit": {"run": record.to_dict()},
        "language_info": {"name": "python"},
    }


def _hide_paths_in(output: dict[str, Any], folder: Path) -> None:
    """Hide this machine where Python itself names it; a table's own text is evidence."""
    kind = output["output_type"]
    if kind == "error":
        output["evalue"] = hide_paths(output["evalue"], folder)
        output["traceback"] = [hide_paths(line, folder) for line in output["traceback"]]
    elif kind == "stream" and output["name"] == "stderr":
        whole = hide_paths("".join(output["text"]), folder)
        output["text"] = whole.splitlines(True)


def hide_paths(text: str, folder: Path) -> str:
    """Replace the places of this machine in a traceback or a warning by what they are."""
    # ipykernel names a cell after its process: no two runs agree.
    text = re.sub(r"/\S*?/ipykernel_\d+/\d+\.py", "<cell>", text)
    for place, name in _places(folder):
        text = text.replace(place, name)
    return text


def _places(folder: Path) -> list[tuple[str, str]]:
    places = {
        tempfile.gettempdir(): "tmp",
        str(Path.home()): "~",
        sys.base_prefix: "python",
        sys.prefix: "python",
        str(Path(__file__).resolve().parent.parent): "lagkit",
        **dict.fromkeys(site.getsitepackages(), "site-packages"),
        str(folder.resolve()): ".",
    }
    # The longest first, or a prefix would spoil the rest; the root directory is no secret.
    return sorted(
        ((place, name) for place, name in places.items() if len(place) > 1),
        key=lambda pair: (-len(pair[0]), pair),
    )

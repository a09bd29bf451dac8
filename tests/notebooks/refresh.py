"""Run the shipped notebooks on the demo incident and keep their outputs (``make notebooks``)."""

from __future__ import annotations

import sys
from pathlib import Path

from lagkit.runner import run_notebook

FOLDER = Path(__file__).resolve().parent.parent.parent / "notebooks"
SECONDS = 300.0


def main() -> int:
    status = 0
    for notebook in sorted(FOLDER.glob("*.ipynb")):
        record = run_notebook(notebook, {}, notebook, deadline_seconds=SECONDS, on_progress=print)
        print(f"{notebook.name}: {record}")
        status |= not record.finished
    return status


if __name__ == "__main__":
    sys.exit(main())

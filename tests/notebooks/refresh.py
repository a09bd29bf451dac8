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
        made = notebook.with_name(f".new-{notebook.name}")
        try:
            record = run_notebook(notebook, {}, made, deadline_seconds=SECONDS, on_progress=print)
            print(f"{notebook.name}: {record}")
            if record.finished:
                made.replace(notebook)
            else:
                status = 1
                print(f"{notebook.name} is as it was")
        finally:
            made.unlink(missing_ok=True)
    return status


if __name__ == "__main__":
    sys.exit(main())

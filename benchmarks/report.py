"""From the verdict on the terminal to the last file of the report, beside an empty notebook.

Both are whole commands of their own: ``lagkit investigate FILE.lagkit`` from the moment the verdict
can be read to its end, and ``papermill`` with one empty cell. Wall time, because doing things at
the same time is the point. A saved incident is the hard case: there is no network to wait for,
so the notebook's kernel has little time to start before the verdict.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from lagkit.investigation import demo_path

MOST = 1.3
ROOT = Path(__file__).parent.parent
EMPTY = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "empty",
            "metadata": {},
            "outputs": [],
            "source": [],
        }
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
FILES = {"verdict.json", "report.html", "report.md", "report.ipynb", "incident.lagkit"}


WITHOUT_GRAMMAR = (
    "import runpy, sys; sys.modules['rfc3987_syntax'] = None; "
    "runpy.run_module('papermill', run_name='__main__')"
)


def empty_notebook(folder: Path, *, grammar: bool = True) -> None:
    """Run one empty cell under papermill, in a process of its own.

    Without *grammar* as lagkit imports papermill: see ``lagkit.runner.engine``.
    """
    (folder / "empty.ipynb").write_text(json.dumps(EMPTY), encoding="utf-8")
    program = ["-m", "papermill"] if grammar else ["-c", WITHOUT_GRAMMAR]
    command = [sys.executable, *program, "--no-progress-bar", "empty.ipynb", "out.ipynb"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    executed = json.loads((folder / "out.ipynb").read_text(encoding="utf-8"))
    (folder / "out.ipynb").unlink()
    if executed["metadata"]["papermill"]["exception"]:
        msg = "papermill did not run the empty notebook"
        raise RuntimeError(msg)


def after_verdict(arguments: list[str]) -> tuple[float, float]:
    """Run ``lagkit`` and return the seconds to its verdict, and from there to its end.

    Raises
    ------
    RuntimeError
        It did not end well.
    """
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "lagkit", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        told = time.perf_counter()
        process.stdout.read()
        status = process.wait()
        ended = time.perf_counter()
        errors.seek(0)
        if status:
            msg = f"lagkit {arguments[0]} ended with {status}: {errors.read()[-2000:]}"
            raise RuntimeError(msg)
    return told - began, ended - told


def measure(*, rounds: int, quick: bool = False) -> harness.Row:
    """Return the row; *quick* leaves the untimed round out."""
    verdicts: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def lagkit() -> float:
            out = folder / "report"
            verdict, report = after_verdict(["investigate", demo_path(), "--out", str(out)])
            lacking = FILES - {path.name for path in out.iterdir()}
            if lacking:
                msg = f"the report lacks {', '.join(sorted(lacking))}"
                raise RuntimeError(msg)
            verdicts.append(verdict)
            return report

        seconds = harness.paired(
            {
                "lagkit, verdict → report": lagkit,
                "papermill, empty notebook": lambda: empty_notebook(folder),
                "papermill without the grammar, empty notebook": lambda: empty_notebook(
                    folder, grammar=False
                ),
            },
            rounds=rounds,
            warm_up=not quick,
        )
    return harness.Row(
        work="The bundled incident: from the verdict on the terminal to a whole report (HTML, "
        "Markdown, executed notebook).",
        seconds=seconds | {"lagkit, start → verdict": verdicts[-rounds:]},
        claims=[
            harness.Claim(
                "verdict → report, of an empty notebook under papermill",
                harness.ratio(
                    seconds["lagkit, verdict → report"], seconds["papermill, empty notebook"]
                ),
                MOST,
            )
        ],
    )

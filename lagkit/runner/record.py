"""What became of a run, computed from the events that were seen; never from papermill's record."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["finished", "cell_failed", "deadline", "kernel_died", "not_started"]
Progress = Callable[[str], None]

# More of an error than this is in the notebook.
ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What became of one run. ``cell`` counts all cells of the notebook from 0, as editors do."""

    outcome: Outcome
    cells_done: int
    cells_total: int
    cell: int | None = None
    error: str = ""
    seconds: float = 0.0
    """Wall time; never written into a file, or no two runs would be alike."""
    notebook: Path | None = None
    """The clean notebook; None if the run left none."""

    @property
    def finished(self) -> bool:
        """Whether every cell ran to its end."""
        return self.outcome == "finished"

    def to_dict(self) -> dict[str, Any]:
        """Return what may be written down: no times, no paths."""
        return {
            "outcome": self.outcome,
            "cells_done": self.cells_done,
            "cells_total": self.cells_total,
            "cell": self.cell,
            "error": self.error,
        }

    def __str__(self) -> str:
        """Say it in one sentence."""
        if self.outcome == "finished":
            return f"The notebook ran to its end: {self.cells_total} cells."
        place = "" if self.cell is None else f" in cell {self.cell}"
        told = {
            "cell_failed": f"The notebook failed{place}",
            "deadline": f"The notebook was cut at its deadline{place}",
            "kernel_died": f"The notebook's kernel died{place}",
            "not_started": "The notebook did not start",
        }[self.outcome]
        why = f": {self.error}" if self.error else "."
        return f"{told} after {self.cells_done} of {self.cells_total} cells{why}"


@dataclass
class Watch:
    """What was seen of a run, and what that amounts to."""

    total: int = 0
    labels: list[str] = field(default_factory=list)
    injected_at: int | None = None
    """Index of the cell that papermill injects, if it does."""
    on_progress: Progress | None = None
    done: int = 0
    cell: int | None = None
    kernel: int | None = None
    """Process id, once the kernel runs."""
    failure: tuple[int, str, str] | None = None
    fault: tuple[str, str] | None = None
    """Class and text of what papermill raised."""
    ended: bool = False
    deadline_at: float | None = None
    """When the deadline struck; None while it has not."""
    deadline_seconds: float = 0.0
    stderr: str = ""
    started_cells: int = 0

    def see(self, event: Mapping[str, Any]) -> None:
        """Take note of one event of the engine."""
        kind = event["event"]
        if kind == "kernel":
            self.kernel = int(event["pid"])
        elif kind == "cell_start":
            self.cell = int(event["cell"])
            self.started_cells += 1
            self._tell()
        elif kind == "cell_done":
            self.done += 1
        elif kind == "cell_failed":
            self.failure = (int(event["cell"]), str(event["name"]), str(event["text"]))
        elif kind == "raised":
            self.fault = (str(event["name"]), str(event["text"]))
        elif kind == "end":
            self.ended = True

    def _tell(self) -> None:
        if self.on_progress:
            position = min(self.started_cells, self.total)
            label = self.labels[position - 1] if position <= len(self.labels) else ""
            self.on_progress(f"notebook {position}/{self.total}" + (f": {label}" if label else ""))

    def record(self, seconds: float) -> RunRecord:
        """Compute the outcome."""
        offset = self.injected_at

        def own(cell: int | None) -> int | None:
            # The injected cell is not the author's: later cells count one less without it.
            return cell - 1 if cell is not None and offset is not None and cell >= offset else cell

        def made(outcome: Outcome, cell: int | None, error: str) -> RunRecord:
            done = min(self.done, self.total)
            return RunRecord(outcome, done, self.total, own(cell), bounded(error), seconds)

        struck = self.deadline_at is not None
        if self.failure is not None:
            cell, name, text = self.failure
            if struck and name == "KeyboardInterrupt":
                return made("deadline", cell, f"it took longer than {self.deadline_seconds:g} s")
            return made("cell_failed", cell, f"{name}: {text}" if text else name)
        if self.ended and self.fault is None:
            return made("finished", None, "")
        if struck:
            return made("deadline", self.cell, f"it took longer than {self.deadline_seconds:g} s")
        if self.cell is None:
            name, text = self.fault or ("", self.stderr)
            return made("not_started", None, f"{name}: {text}" if name else text)
        if self.fault is not None and self.fault[0] != "DeadKernelError":
            return made("cell_failed", self.cell, ": ".join(filter(None, self.fault)))
        return made("kernel_died", self.cell, "")


def bounded(text: str) -> str:
    """Return *text* without terminal colours and no longer than is useful."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return plain if len(plain) <= ERROR_CHARACTERS else plain[: ERROR_CHARACTERS - 1] + "…"

"""A notebook that runs while other files are written: its fault costs its own file only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from lagkit.runner.record import Progress, RunRecord
from lagkit.runner.standby import Standby


@contextlib.contextmanager
def standing_by(modules: Sequence[str]) -> Iterator[Standby | None]:
    """Have a kernel start and import *modules* while something else is waited for.

    None where none can be started: the run will say why. On a machine with one core it would only
    be in the way, so none is started there either.
    """
    with contextlib.ExitStack() as stack:
        standby = None
        if (os.cpu_count() or 1) > 1:
            with contextlib.suppress(OSError):  # no process or no disk to be had
                standby = stack.enter_context(Standby(modules))
        yield standby


class Beside:
    """The run of one notebook into *output*; what goes wrong is a sentence in *failures*, once.

    Leaving ends a kernel that was started here; one that stood by ends where it was started.
    """

    def __init__(self, output: Path, failures: list[str]) -> None:
        self._output, self._failures = output, failures
        self._stack = contextlib.ExitStack()
        self._running: Standby | None = None

    def __enter__(self) -> Self:
        """Start nothing."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End what was started here."""
        self._stack.close()

    def begin(
        self,
        notebook: Path,
        parameters: Mapping[str, Any],
        *,
        standby: Standby | None,
        modules: Sequence[str],
        deadline_seconds: float,
    ) -> None:
        """Have *notebook* run in the kernel of *standby*, or in a new one with *modules*."""
        try:
            running = standby or self._stack.enter_context(Standby(modules))
            running.begin(notebook, parameters, self._output, deadline_seconds=deadline_seconds)
        except Exception as error:  # noqa: BLE001 - the answer must reach its reader regardless
            self._note(error)
        else:
            self._running = running

    def finish(self, on_progress: Progress | None = None) -> RunRecord | None:
        """Follow the run to its end; None if it never began or nothing is known of it."""
        if self._running is None:
            return None
        try:
            record = self._running.finish(on_progress)
        except Exception as error:  # noqa: BLE001 - as in begin
            self._note(error)
            return None
        if not record.finished:
            self._failures.append(str(record).rstrip("."))
        return record

    def _note(self, error: Exception) -> None:
        note(self._failures, f"{self._output.name} could not be made", error)


def note(failures: list[str], what: str, error: Exception) -> None:
    """Add to *failures* what could not be done and why, unless it stands there already."""
    sentence = f"{what} ({type(error).__name__}: {error})"
    if sentence not in failures:
        failures.append(sentence)

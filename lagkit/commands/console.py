"""What commands say: results on stdout, progress and faults on stderr."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Self

import click

from lagkit.errors import ReportFailed


def print_result(text: str | bytes) -> int:
    """Put *text* on stdout, bytes as they are; return the status that this leads to."""
    try:
        click.echo(text, nl=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head -1` has seen enough; the report is still wanted
        mute_stdout()
    except OSError as error:
        mute_stdout()
        print_error(f"The result cannot be printed: {reason(error)}.")
        return ReportFailed.exit_status
    return 0


def mute_stdout() -> None:
    """Let what is left in the buffer go nowhere, or Python would fail on it once more."""
    void = os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, sys.stdout.fileno())
    os.close(void)


def reason(error: BaseException) -> str:
    """Return why *error* happened, in one line without its end stop."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error).splitlines()[0].rstrip(".")


def print_error(text: str) -> None:
    """Put *text* on stderr; what came from outside cannot move the cursor."""
    from lagkit.wording import printable

    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip(" "))]
        click.echo(indent + printable(line), err=True)


class Progress:
    """Says on stderr what is being done: a line that moves on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._status: Any = None
        self._chapter = ""

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console

            # rich honours NO_COLOR and TERM=dumb.
            self._status = Console(stderr=True, highlight=False).status("")
            self._status.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def __call__(self, line: str) -> None:
        """Say one line; what came from outside cannot move the cursor."""
        from lagkit.wording import printable

        text = f"{time.monotonic() - self._started:5.1f}s  {printable(line)}"
        # A notebook tells every cell; where lines stay, one a chapter is enough.
        head, _, chapter = line.partition(": ")
        told = head.startswith("notebook ") and chapter == self._chapter
        self._chapter = chapter if head.startswith("notebook ") else ""
        if self._status is None:
            if not told:
                click.echo(text, err=True)
            return
        from rich.text import Text

        self._status.update(Text(text))
        if not line.startswith("notebook "):  # each chapter is news only while it runs
            self._status.console.print(Text(text, style="dim"))

    def stop(self) -> None:
        """Take the moving line away; lines after this stand as they are."""
        if self._status is not None:
            self._status.stop()
            self._status = None

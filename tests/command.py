"""The real command, as a user's shell would start it, and disks that are really full.

``run`` gives exit status, both streams and the greatest memory of the process; ``started`` leaves
it running. Nothing of the caller's own configuration reaches the command.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_HEARING = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, sys.argv[1:])"
)
_MEASURED = (
    "import pathlib, resource, subprocess, sys; status = subprocess.call(sys.argv[2:]); "
    "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss; "
    "pathlib.Path(sys.argv[1]).write_text(f'{status} {peak}')"
)
ROOT = Path(__file__).resolve().parent.parent
SECONDS = 180
"""Longest that any command of these tests may take on a loaded machine."""


@dataclass(frozen=True)
class Run:
    """What became of a command; *peak* is its greatest resident memory in bytes."""

    status: int
    out: str
    err: str
    peak: int

    @property
    def both(self) -> str:
        """Both streams, for what must stand in neither."""
        return self.out + self.err


def environment(**changes: str | None) -> dict[str, str]:
    """Return the variables of a command: the caller's without LAGKIT_*, with *changes*."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("LAGKIT_")}
    kept["PYTHONPATH"] = str(ROOT)
    kept |= {name: text for name, text in changes.items() if text is not None}
    return {name: text for name, text in kept.items() if changes.get(name, "") is not None}


def command(*arguments: object) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "lagkit", *map(str, arguments)]


def started(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None, **options: Any):
    """Start the command and return the process, its standard error a pipe of text.

    A shell's background job is born deaf to SIGINT, with all that it starts: not this one.
    """
    return subprocess.Popen(
        [sys.executable, "-c", _HEARING, *command(*arguments)],
        cwd=cwd,
        env=dict(env) if env is not None else environment(),
        stdout=options.pop("stdout", subprocess.DEVNULL),
        stderr=options.pop("stderr", subprocess.PIPE),
        stdin=subprocess.DEVNULL,
        text=True,
        **options,
    )


def run(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Run:
    """Run the command to its end; it must leave no traceback.

    A small process starts it: a child inherits the greatest memory of the one that it was.
    """
    with tempfile.TemporaryDirectory() as notes:
        told = Path(notes) / "told"
        process = subprocess.run(
            [sys.executable, "-c", _MEASURED, told, *command(*arguments)],
            cwd=cwd,
            env=dict(env) if env is not None else environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        out, err = (
            process.stdout.decode("utf-8", "replace"),
            process.stderr.decode("utf-8", "replace"),
        )
        assert "Traceback" not in out + err, out + err
        status, kilobytes = map(int, told.read_text().split())
    return Run(status, out, err, kilobytes * 1024)


def wait_for(process: subprocess.Popen[str], pattern: str) -> str:
    """Read standard error up to the line that holds *pattern*, and return that line."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        if re.search(pattern, line):
            return line
        seen.append(line)
    raise AssertionError(f"no line {pattern!r} in: {''.join(seen)}")


@contextlib.contextmanager
def small_disk(place: Path, size: str, *options: str) -> Iterator[Path]:
    """Mount a file system of *size* (as "300k") at *place*; skip where nothing can be mounted."""
    place.mkdir()
    kind = ",".join([f"size={size}", *options])
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", kind, "lagkit-test", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)

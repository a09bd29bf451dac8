"""Processes that ask for committed offsets, found as an operator would find them: in /proc."""

from __future__ import annotations

import contextlib
from pathlib import Path

from lagkit.sources.kafka.coordinator import PROGRAM


def askers(parent: int) -> list[int]:
    """Return the ids of the live processes that process *parent* asks for committed offsets."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):  # ended meanwhile
            told = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            if int(told.rpartition(")")[2].split()[1]) == parent:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
                if str(PROGRAM).encode() in arguments:
                    found.append(int(folder.name))
    return sorted(found)


def gone(process: int) -> bool:
    """Return whether *process* runs no more; one that nobody has waited for yet does not run."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}

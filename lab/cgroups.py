"""CPU limits by the kernel's own control groups (version 1), as a kubelet sets them.

Knows how a group is made for one container's processes, what the kernel counted in it, and how it
is taken away. Only groups made here are ever read or changed.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from lab.processes import LabError

MOUNT = Path("/sys/fs/cgroup/cpu")
PREFIX = "lagkit-"
PERIOD_US = 100_000
GONE_SECONDS = 60.0
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Counted:
    """What the kernel counted in a group: periods that ran, those cut short, seconds held back."""

    periods: int
    throttled_periods: int
    throttled_seconds: float


def limit(name: str, pid: int, percent: float) -> Path:
    """Let a process with its threads have so many percent of one core; return its group.

    A process that has a group of this module keeps it, and its counters go on.

    Raises:
        LabError: the kernel refused, or the process is gone.
    """
    held = of(pid)
    folder = held or MOUNT / f"{PREFIX}{name}"
    try:
        folder.mkdir(exist_ok=True)
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * percent / 100)))
        # a group weighs what one process of no priority does: that of the process must not be lost
        (folder / "cpu.shares").write_text(str(_weight(os.getpriority(os.PRIO_PROCESS, pid))))
        (folder / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        if held is None:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise LabError(f"no CPU limit by {folder}: {error}") from error
    return folder


def _weight(nice: int) -> int:
    """Return the kernel's weight of a process: a quarter more for each step, 1024 at none."""
    return round(1024 / 1.25**nice)


def lift(folder: Path) -> None:
    """Take a group away; its processes go on without a limit."""
    end = time.monotonic() + GONE_SECONDS
    while folder.exists() and time.monotonic() < end:
        with contextlib.suppress(OSError):
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (MOUNT / "cgroup.procs").write_text(pid)
            folder.rmdir()
            return
        time.sleep(POLL_SECONDS)


def of(pid: int) -> Path | None:
    """Return the group of this module that a process is in."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        name = path.rpartition("/")[2]
        if "cpu" in controllers.split(",") and name.startswith(PREFIX):
            return MOUNT / name
    return None


def counted(folder: Path) -> Counted | None:
    """Return what the kernel counted in a group; None when it is gone."""
    try:
        rows = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return Counted(
            int(rows["nr_periods"]), int(rows["nr_throttled"]), int(rows["throttled_time"]) / 1e9
        )
    except (OSError, KeyError, ValueError):
        return None

"""CPU limits of processes: one group each, whose counters go on when the limit changes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import cgroups
from lab.processes import LabError


@pytest.fixture
def pid() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process.pid
        process.kill()


def test_a_changed_limit_keeps_the_group_and_lifting_takes_it_away(pid: int) -> None:
    name = f"test-{os.getpid()}"
    try:
        folder = cgroups.limit(name, pid, 100)
    except LabError as error:
        pytest.skip(str(error))
    try:
        assert cgroups.of(pid) == folder
        assert cgroups.counted(folder) is not None
        assert cgroups.limit("another-name", pid, 5) == folder
        assert (folder / "cpu.cfs_quota_us").read_text().strip() == str(cgroups.PERIOD_US // 20)
    finally:
        cgroups.lift(folder)
    assert cgroups.of(pid) is None
    assert cgroups.counted(folder) is None


def test_a_process_without_a_limit_of_ours_is_in_no_group(pid: int) -> None:
    assert cgroups.of(pid) is None


def test_a_process_that_is_gone_gets_no_limit() -> None:
    name = f"gone-{os.getpid()}"
    with pytest.raises(LabError, match="no CPU limit"):
        cgroups.limit(name, 2**22 + 1, 50)
    assert not (cgroups.MOUNT / f"{cgroups.PREFIX}{name}").exists()

"""What is on disk when a run is killed, cut, or finds no room: each file whole, and no litter."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import command
import factories
import pytest

from lagkit import disk
from lagkit.errors import UsageError
from lagkit.incident import open_incident

REPORT = ["incident.lagkit", "report.html", "report.ipynb", "report.md", "verdict.json"]
SEED = 20261124
REPORT_KILLS = 30
WRITER_KILLS = 68  # beside the hundred: of the writing itself, where the command spends little time


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def assert_whole(folder: Path) -> None:
    """Every file that has its name opens as what it is; parts have no name of a product."""
    for file in folder.iterdir() if folder.exists() else ():
        if disk.is_part(file.name):
            continue
        assert file.name in REPORT, file.name
        content = file.read_bytes()
        if file.suffix == ".lagkit":
            open_incident(file)
        elif file.suffix in (".json", ".ipynb"):
            json.loads(content)
        elif file.suffix == ".html":
            assert content.rstrip().endswith(b"</html>")
        else:
            assert content.endswith(b"\n")
            assert content.startswith(b"# ")


# -- killed


def killed_at(seconds: float, *arguments: object, cwd: Path) -> int:
    """Run the command and kill it, and nothing else, after *seconds*; return its exit status."""
    process = command.started(*arguments, cwd=cwd, stderr=subprocess.DEVNULL)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()


def kill_over_and_over(folder: Path, moments: list[float]) -> None:
    for moment in moments:
        killed_at(moment, "demo", "--out", "first", cwd=folder)
        assert_whole(folder / "first")
        assert "incident.lagkit" in names(folder / "first"), "the capture is never without a name"


def test_a_report_killed_at_any_moment_leaves_whole_files_and_the_next_run_tidies_up(tmp_path):
    """Thirty of the hundred kills of the real command; the captures' seventy are in tests/real.

    In two folders at once, one for each core.
    """
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()

    def run(folder: Path) -> command.Run:
        return command.run("demo", "--out", "first", cwd=folder)

    with ThreadPoolExecutor(len(folders)) as pool:
        begun = time.monotonic()
        assert [done.status for done in pool.map(run, folders)] == [0, 0]
        length = time.monotonic() - begun
        source = random.Random(SEED)
        moments = [
            # most in the part where files appear: the notebook alone takes most of the time
            (source.uniform(0.15, 0.5) if number % 4 else source.uniform(0.5, 1.05)) * length
            for number in range(REPORT_KILLS)
        ]
        list(pool.map(kill_over_and_over, folders, (moments[::2], moments[1::2])))
        assert [done.status for done in pool.map(run, folders)] == [0, 0]
    for folder in folders:
        assert names(folder / "first") == REPORT
        assert names(folder) == ["first"]


def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path):
    file = tmp_path / "x.bin"
    writer = (
        "import sys, pathlib; from lagkit import disk\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    disk.write_whole(pathlib.Path(sys.argv[1]), bytes([n % 251]) * 300_000)\n"
        "    print('x', flush=True)\n"
    )
    moments = random.Random(SEED)
    for _ in range(WRITER_KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", writer, file],
            stdout=subprocess.PIPE,
            env=command.environment(),
        )
        with process:
            process.stdout.readline()
            time.sleep(moments.uniform(0, 0.03))
            process.kill()
        content = file.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1
    disk.write_whole(file, b"at last")
    assert names(tmp_path) == ["x.bin"]
    assert file.read_bytes() == b"at last"


def test_what_a_living_writer_is_at_stays(tmp_path):
    part = tmp_path / ".lagkit-0123.part"
    part.write_bytes(b"half")
    with part.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        disk.write_whole(tmp_path / "other", b"x")
        assert names(tmp_path) == [".lagkit-0123.part", "other"]
    disk.write_whole(tmp_path / "other", b"y")
    assert names(tmp_path) == ["other"]


def test_a_killed_report_leaves_no_process_and_no_folder_behind_its_successor(tmp_path):
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    env = command.environment(TMPDIR=str(scratch))
    process = command.started("demo", "--out", "out", cwd=tmp_path, env=env)
    command.wait_for(process, "notebook 1/")
    process.kill()
    process.wait()
    process.stderr.close()
    deadline = time.monotonic() + 30
    while (left := running_in(scratch)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert command.run("demo", "--out", "out", cwd=tmp_path, env=env).status == 0
    assert [name for name in names(scratch) if name.startswith("lagkit-")] == []


def running_in(folder: Path) -> list[str]:
    """Return the command lines of the processes that have TMPDIR=*folder*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"TMPDIR={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().decode().replace("\0", " "))
            except OSError:
                continue
    return [line for line in found if line]


# -- cut


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cut_keeps_the_capture_and_says_where(tmp_path, number, status):
    with command.started("demo", "--out", "out", cwd=tmp_path) as process:
        command.wait_for(process, "notebook 1/")
        process.send_signal(number)
        told = process.stderr.read()
        assert process.wait(timeout=60) == status
    assert "What was captured is kept: out/incident.lagkit" in told
    assert "Traceback" not in told
    assert names(tmp_path / "out") == [
        "incident.lagkit",
        "report.html",
        "report.md",
        "verdict.json",
    ]
    assert_whole(tmp_path / "out")


# -- no room


def test_no_room_for_the_capture_keeps_it_elsewhere_and_still_tells_the_verdict(tmp_path):
    saved = factories.incident().save(tmp_path / "saved.lagkit")
    size = saved.stat().st_size
    with command.small_disk(tmp_path / "full", "16k") as full:
        assert size > 16 * 1024
        done = command.run("investigate", saved, "--out", full / "out", cwd=tmp_path)
        assert done.status == 5
        assert "VERDICT" in done.out
        assert "No space left on device" in done.err
        assert names(full) == []


def test_no_room_for_the_report_leaves_the_capture_and_whole_files(tmp_path):
    saved = factories.incident().save(tmp_path / "saved.lagkit")
    kilobytes = saved.stat().st_size // 1024 + 200
    with command.small_disk(tmp_path / "full", f"{kilobytes}k") as full:
        done = command.run("investigate", saved, "--out", full / "out", cwd=tmp_path)
        assert done.status == 5
        assert "report.html could not be made" in done.err
        assert "No space left on device" in done.err
        assert_whole(full / "out")
        assert {"incident.lagkit", "verdict.json"} <= set(names(full / "out"))
        assert "report.html" not in names(full / "out")
        assert not any(disk.is_part(name) for name in names(full / "out"))
        assert (full / "out" / "incident.lagkit").read_bytes() == saved.read_bytes()


def test_no_room_leaves_the_earlier_capture_as_it_was(tmp_path):
    small = factories.incident().save(tmp_path / "small.lagkit")
    demo = command.ROOT / "templates" / "demo" / "deployment-worker.lagkit"
    with command.small_disk(tmp_path / "full", "1m") as full:
        place = ["--no-report", "--out", full / "out"]
        assert command.run("investigate", small, *place, cwd=tmp_path).status == 0
        free = shutil.disk_usage(full).free
        (full / "filler").write_bytes(b"x" * (free - 8192))
        before = {name: (full / "out" / name).read_bytes() for name in names(full / "out")}
        assert command.run("investigate", demo, *place, cwd=tmp_path).status == 5
        after = {name: (full / "out" / name).read_bytes() for name in names(full / "out")}
        assert after == before


def test_no_room_for_temporary_files_is_no_reason_to_fail(tmp_path):
    saved = factories.incident().save(tmp_path / "saved.lagkit")
    with command.small_disk(tmp_path / "full", "4k") as full:
        (full / "filler").write_bytes(b"x" * 4096)
        env = command.environment(TMPDIR=str(full))
        done = command.run("investigate", saved, "--out", "out", cwd=tmp_path, env=env)
        assert names(full) == ["filler"]
    assert done.status == 0
    assert names(tmp_path / "out") == REPORT


def test_nowhere_for_temporary_files_costs_the_notebook_alone():
    """A container whose root is read-only, with one place for the result."""
    place = Path(tempfile.mkdtemp(prefix="lagkit-test-", dir="/dev/shm"))
    try:
        closed = "mount -o remount,bind,ro / && cd /proc && "
        process = subprocess.run(
            ["unshare", "-m", "sh", "-c", f'{closed}exec "$@"', "sh",
             *command.command("demo", "--out", place / "out")],
            env=command.environment(TMPDIR=None),
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if "unshare:" in process.stderr or "mount:" in process.stderr:
            pytest.skip(process.stderr.splitlines()[0])
        assert process.returncode == 5, process.stderr
        assert "VERDICT" in process.stdout
        assert "report.ipynb could not be made" in process.stderr
        assert names(place / "out") == [n for n in REPORT if n != "report.ipynb"]
    finally:
        shutil.rmtree(place)


# -- two runs


def test_a_second_run_into_a_folder_in_use_is_refused_and_changes_nothing(tmp_path):
    with command.started("demo", "--out", "out", cwd=tmp_path) as first:
        command.wait_for(first, "notebook 1/")
        second = command.run("demo", "--out", "out", cwd=tmp_path)
        assert second.status == 2
        assert "Another run of lagkit is writing to out" in second.err
        first.stderr.read()
        assert first.wait(timeout=120) == 0
    assert names(tmp_path / "out") == REPORT
    assert_whole(tmp_path / "out")


def test_one_run_after_another_into_one_folder_leaves_one_report(tmp_path):
    first = factories.incident().save(tmp_path / "first.lagkit")
    assert (
        command.run("investigate", first, "--no-report", "--out", "out", cwd=tmp_path).status == 0
    )
    (tmp_path / "out" / "report.md").write_text("# of the first\n")
    assert command.run("demo", "--no-report", "--out", "out", cwd=tmp_path).status == 0
    assert names(tmp_path / "out") == ["incident.lagkit", "verdict.json"]
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert verdict["incident"]["id"] == open_incident(tmp_path / "out" / "incident.lagkit").id


def test_two_captures_of_one_second_get_two_names(tmp_path):
    incident = factories.incident()
    path = tmp_path / "x.lagkit"
    incident.save(path, new=True)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        incident.save(path, new=True)
    assert names(tmp_path) == ["x.lagkit"]
    assert path.read_bytes() == before


def test_another_captures_folder_of_the_same_name_is_left_alone(tmp_path):
    one = factories.incident().save(tmp_path / "one.lagkit")
    assert command.run("investigate", one, "--no-report", cwd=tmp_path).status == 0
    (folder,) = (entry for entry in tmp_path.iterdir() if entry.is_dir())
    other = factories.incident(facts={}).save(tmp_path / "other.lagkit")
    assert command.run("investigate", other, "--no-report", cwd=tmp_path).status == 0
    assert command.run("investigate", one, "--no-report", cwd=tmp_path).status == 0
    assert names(tmp_path) == [folder.name, f"{folder.name}-2", "one.lagkit", "other.lagkit"]
    assert (folder / "incident.lagkit").read_bytes() == one.read_bytes()


# -- places that are none


def test_a_folder_that_takes_no_file_is_refused_before_anything_is_asked(tmp_path):
    with command.small_disk(tmp_path / "fixed", "1m", "ro") as fixed:
        for out in (fixed, fixed / "out"):
            done = command.run("demo", "--out", out, cwd=tmp_path)
            assert done.status == 2
            assert f"{out} cannot be written: Read-only file system" in done.err
        done = command.run("demo", cwd=fixed)
        assert done.status == 2
        assert "lagkit-demo cannot be written" in done.err
        done = command.run("open", "--no-browser", cwd=fixed)
        assert done.status == 2
        assert "The notebook cannot be written: Read-only file system" in done.err


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_is_no_folder(tmp_path, where):
    (tmp_path / "file").write_text("mine")
    done = command.run("demo", "--out", where, cwd=tmp_path)
    assert done.status == 2
    assert "file" in done.err
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path) == ["file"]


def test_a_report_goes_through_a_linked_folder_and_keeps_the_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert command.run("demo", "--no-report", "--out", "link", cwd=tmp_path).status == 0
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["incident.lagkit", "verdict.json"]


def test_a_linked_product_is_replaced_and_what_it_pointed_to_stays(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").symlink_to(tmp_path / "precious")
    assert command.run("demo", "--out", "out", cwd=tmp_path).status == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "out" / "report.html").is_symlink()


def test_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("gone")
    done = command.run("demo", "--out", "link", cwd=tmp_path)
    assert done.status == 2
    assert names(tmp_path) == ["link"]


def test_a_folder_made_for_a_run_that_found_nothing_goes_again(tmp_path):
    assert command.run("investigate", "none.lagkit", "--out", "out", cwd=tmp_path).status == 3
    assert names(tmp_path) == []


def test_a_lock_ends_with_its_block(tmp_path):
    with disk.claimed(tmp_path / "out") as folder, pytest.raises(disk.Busy):
        disk.claimed(folder).__enter__()
    with disk.claimed(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_bad_usage(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no folder"), disk.claimed(tmp_path / "file" / "x"):
        pass


def test_a_file_limit_of_the_shell_is_told_like_a_full_disk(tmp_path):
    """Where nothing can be mounted this is the one way to run out of room."""
    saved = factories.incident().save(tmp_path / "saved.lagkit")
    blocks = 256  # of 512 bytes: above the capture and the verdict, below the report
    assert saved.stat().st_size < blocks * 512
    process = subprocess.run(
        [
            "sh",
            "-c",
            f'ulimit -f {blocks}; exec "$@"',
            "sh",
            *command.command("investigate", saved, "--out", "out"),
        ],
        cwd=tmp_path,
        env=command.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 5
    assert "report.html could not be made" in process.stderr
    assert "File too large" in process.stderr
    assert_whole(tmp_path / "out")
    assert zipfile.is_zipfile(tmp_path / "out" / "incident.lagkit")
    assert os.access(tmp_path / "out" / "verdict.json", os.R_OK)

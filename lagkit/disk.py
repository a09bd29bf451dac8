"""What a reader of the disk may count on: whole files, one writer a folder, no litter.

Knows files and locks, and nothing of what is written. Every lock is the kernel's own (``flock``):
it ends with the process that holds it, by whatever death, so a leftover is told from work in
progress without a process id. Where a file system has no such locks, nothing is refused and
nothing is cleared.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lagkit.errors import UsageError

_PART_PREFIX, _PART_SUFFIX = ".lagkit-", ".part"
_READABLE = 0o666  # less the umask, as for any file a program writes


class Busy(UsageError):
    """Another run of lagkit is writing there."""


def write_whole(path: Path, content: bytes, *, mode: int = _READABLE, new: bool = False) -> Path:
    """Write *content* to *path* in one step: a reader sees the old file or the new one, whole.

    On any failure the old file, if there was one, is untouched. What killed runs left in the
    folder goes. *mode* is taken less the umask.

    Raises
    ------
    FileExistsError
        *new* is wanted and *path* is there already.
    OSError
        The folder or the disk does not take the file.
    """
    clear_leftovers(path.parent)
    handle, part = _new_part(path.parent, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if new:
                _name_new(part, path)
            else:
                part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    _sync(path.parent)
    return path


def is_part(name: str) -> bool:
    """Whether a file called *name* is one that was never finished."""
    return name.startswith(_PART_PREFIX) and name.endswith(_PART_SUFFIX)


def clear_leftovers(folder: Path) -> None:
    """Delete the parts in *folder* whose writers are dead."""
    for part in sorted(folder.glob(f"{_PART_PREFIX}*{_PART_SUFFIX}")):
        with contextlib.suppress(OSError), _opened(part) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Hold *folder*, made if it is not there, against every other run of lagkit.

    A folder that was made here and is empty at the end goes again.

    Raises
    ------
    Busy
        Another run holds it.
    UsageError
        It is no folder, or it cannot be made or written.
    """
    made = not folder.exists()
    handle = _hold(folder)
    try:
        clear_leftovers(folder)
        yield folder
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(handle)


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Yield a new folder in the system's place for such; those of killed runs go."""
    place = Path(tempfile.gettempdir())
    for old in sorted(place.glob(f"{prefix}*")):
        with contextlib.suppress(OSError), _opened(old) as handle:
            if os.fstat(handle).st_uid == os.geteuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        try:
            handle = os.open(scratch, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # cleared before it was held
            continue
        _lock(handle)
        if _is(scratch, handle):
            break
        os.close(handle)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(handle)


def _new_part(folder: Path, mode: int) -> tuple[int, Path]:
    """Return a new file to write into, held, so that nobody takes it for a leftover."""
    while True:
        part = folder / f"{_PART_PREFIX}{secrets.token_hex(8)}{_PART_SUFFIX}"
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        _lock(handle)
        if _is(part, handle):
            return handle, part
        os.close(handle)  # cleared between its making and its lock


def _name_new(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.replace(path)
    else:
        part.unlink()


def _hold(folder: Path) -> int:
    """Return *folder*, open and locked, after trying that it takes a file."""
    try:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _take(handle, folder)
                if _is(folder, handle):  # else the run that made it has just taken it away
                    trial, part = _new_part(folder, _READABLE)
                    os.close(trial)
                    part.unlink()
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
    except (FileExistsError, NotADirectoryError):
        msg = f"{folder} is no folder, or lies below a file."
        raise UsageError(msg, hint="Give a folder; it is made if it is not there.") from None
    except OSError as error:
        msg = f"{folder} cannot be written: {error.strerror or error}."
        hint = "Give a folder that this account may write to, on a disk with room."
        raise UsageError(msg, hint=hint) from None


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = f"Another run of lagkit is writing to {folder}."
        raise Busy(msg, hint="Wait for it, or give another folder.") from None
    except OSError:  # no such locks here, as on some network file systems
        return


def _lock(handle: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)


def _is(path: Path, handle: int) -> bool:
    try:
        there, here = path.stat(), os.fstat(handle)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    """Make the new name last as the content does; not every file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

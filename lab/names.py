"""A resolver of the workers' own: their brokers have names that only they know, until they do not.

A worker runs in a mount namespace in which this folder's ``hosts``, ``resolv.conf`` and
``nsswitch.conf`` lie over the machine's, which stay untouched. The C library reads them anew for
each question, so that writing them changes what running workers find. Linux, and the right to
make mount namespaces (root).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from lab.processes import LabError

FOLDER = "names"
DOMAIN = "brokers.internal"
# of loopback, where no name server listens: a question is refused at once
NAMESERVER = "127.83.0.1"
FILES = ("hosts", "resolv.conf", "nsswitch.conf")
WAYS = ("no_server", "not_known")
TRY_SECONDS = 10.0

_ENTER = 'for f in {files}; do "$0" --bind "$1/$f" "/etc/$f" || exit 1; done; shift; exec "$@"'


def name_of(node: int) -> str:
    """Return the name of a broker."""
    return f"kafka-{node}.{DOMAIN}"


def give(folder: Path, names: Iterable[str]) -> None:
    """Let the workers find these names on loopback, and ask a server for all others."""
    _write(folder, names, sources="files dns")


def take(folder: Path, way: str) -> None:
    """Let the workers find no name.

    Args:
        folder: of the lab.
        way: no_server, and the failure is temporary; or not_known, and there is no such name.

    Raises:
        LabError: there is no such way.
    """
    if way not in WAYS:
        raise LabError(f"names are lost in one of the ways {', '.join(WAYS)}, not {way!r}")
    _write(folder, (), sources="files dns" if way == "no_server" else "files")


def _write(folder: Path, names: Iterable[str], *, sources: str) -> None:
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    listed = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *names))
    texts = (
        listed,
        f"nameserver {NAMESERVER}\noptions timeout:1 attempts:1\n",
        f"passwd: files\ngroup: files\nhosts: {sources}\n",
    )
    for name, text in zip(FILES, texts, strict=True):
        # in place: a mount holds on to the file itself, not to its name
        (place / name).write_text(text)


def through(folder: Path) -> tuple[str, ...]:
    """Return the words before a command that make it use the lab's names.

    Raises:
        LabError: this machine does not let a process have files of its own.
    """
    words = [shutil.which(word) for word in ("unshare", "sh", "mount")]
    if None in words:
        raise LabError("names of the workers' own need unshare, sh and mount on PATH")
    unshare, shell, mount = (str(word) for word in words)
    enter = _ENTER.format(files=" ".join(FILES))
    return (unshare, "--mount", shell, "-c", enter, mount, str(folder / FOLDER))


def check(folder: Path) -> None:
    """Try it once.

    Raises:
        LabError: this machine does not let a process have files of its own.
    """
    done = subprocess.run(
        [*through(folder), "true"], capture_output=True, text=True, timeout=TRY_SECONDS, check=False
    )
    if done.returncode:
        raise LabError(
            "names of the workers' own need the right to make mount namespaces (root): "
            f"{done.stderr.strip()[-300:]}"
        )

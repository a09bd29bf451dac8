"""Start servers, wait until they answer, and stop exactly what was started.

Knows process ids, log files and one state file; knows nothing about Kafka, Prometheus or
Kubernetes. A process is remembered by its id *and* its start time (and the machine's boot id), so
an id that the kernel has given to somebody else is never signalled. Linux only (``/proc``).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STATE_VERSION = 1
LOG_TAIL_BYTES = 2_000
POLL_SECONDS = 0.1
TERM_GRACE_SECONDS = 10.0
KILL_GRACE_SECONDS = 5.0
# Below the kernel's own range for outgoing connections (32768-60999 by default), so that a port
# chosen here cannot be taken by a client socket before its server binds it.
PORT_RANGE = (20_000, 32_000)

Ready = Callable[[], "str | None"]
"""Answer None when the server is ready, otherwise one line that says what is still missing."""


class LabError(RuntimeError):
    """A lab server did not start, did not answer or is not in this lab."""


@dataclass(frozen=True)
class Process:
    """One started process.

    `start_ticks` counts clock ticks since boot (field 22 of /proc/PID/stat); `term_grace` is how
    long a SIGTERM may take, in seconds.
    """

    name: str
    part: str
    pid: int
    start_ticks: int
    boot_id: str
    endpoint: str
    log: str
    term_grace: float


def boot_id() -> str:
    """Return the id of this boot of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """Return /proc/PID/stat from field 3 (state) on, or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the command in brackets and may hold blanks and brackets itself.
    return text.rpartition(")")[2].split()


def start_ticks(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None when it does not run."""
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return int(fields[19])


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process in bytes; None when it does not run."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> list[int]:
    """Return the process ids whose parent is `pid`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and fields[0] not in "ZX" and int(fields[1]) == pid:
                found.append(int(entry.name))
    return sorted(found)


def is_running(process: Process) -> bool:
    """Tell whether this very process still runs, not merely one with the same id."""
    return process.boot_id == boot_id() and start_ticks(process.pid) == process.start_ticks


def free_ports(count: int) -> list[int]:
    """Return `count` different loopback ports that nothing is bound to now."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        chooser = random.SystemRandom()
        for _attempt in range(200 * count):
            if len(ports) == count:
                break
            port = chooser.randrange(*PORT_RANGE)
            sock = held.enter_context(socket.socket())
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    if len(ports) < count:
        low, high = PORT_RANGE
        raise LabError(f"no {count} free loopback ports between {low} and {high}")
    return ports


def log_tail(path: Path, limit: int = LOG_TAIL_BYTES) -> str:
    """Return the last `limit` bytes of a log as text; says so when there is nothing."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - limit))
            text = log.read().decode("utf-8", "replace").strip()
    except OSError as error:
        return f"(log not readable: {error.strerror})"
    return text or "(the log is empty)"


@dataclass
class State:
    """The contents of a state file."""

    processes: list[Process]
    facts: dict[str, Any]


class Ledger:
    """What one lab folder has started: ``state.json``, ``logs/`` and the processes themselves.

    The file is the truth: several processes may start and stop servers of one folder (`up` here, a
    scenario there), so every look reads it and every change is made under a lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_path = folder / "state.json"
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.RLock()
        self._read()

    def _read(self) -> State:
        try:
            state = json.loads(self.state_path.read_text())
        except FileNotFoundError:
            return State([], {})
        except (OSError, ValueError) as error:
            raise LabError(
                f"{self.state_path} cannot be read ({error}); end its processes by hand and "
                "remove the folder"
            ) from error
        if state.get("version") != STATE_VERSION:
            raise LabError(
                f"{self.state_path} has version {state.get('version')!r}, this lab writes "
                f"{STATE_VERSION}; stop it with the lab that started it"
            )
        return State([Process(**entry) for entry in state["processes"]], state["facts"])

    @contextlib.contextmanager
    def _changing(self) -> Iterator[State]:
        """Read the state, let the caller change it, write it atomically for its owner only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock, (self.folder / "state.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            state = self._read()
            yield state
            content = {
                "version": STATE_VERSION,
                "processes": [asdict(process) for process in state.processes],
                "facts": state.facts,
            }
            fresh = self.state_path.with_suffix(".json.new")
            fresh.touch(mode=0o600)
            fresh.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
            fresh.replace(self.state_path)

    @property
    def facts(self) -> dict[str, Any]:
        """What the lab remembers besides its processes."""
        return self._read().facts

    def remember(self, facts: dict[str, Any]) -> None:
        """Replace what the lab remembers besides its processes."""
        with self._changing() as state:
            state.facts = facts

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder for one `up` or `down`; a second one fails at once and says why."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LabError(f"another lab command works on {self.folder}; try again") from error
            yield

    def log_path(self, name: str) -> Path:
        """Return where the named process writes its log."""
        return self.folder / "logs" / f"{name}.log"

    @property
    def processes(self) -> list[Process]:
        """Everything this folder has started and not yet stopped, in order of start."""
        return self._read().processes

    def find(self, name: str) -> Process:
        """Return the named process; LabError when this lab did not start it."""
        processes = self.processes
        for process in processes:
            if process.name == name:
                return process
        known = ", ".join(process.name for process in processes) or "none"
        raise LabError(f"this lab started no {name!r} (started: {known})")

    def start(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        part: str | None = None,
        endpoint: str = "",
        ready: Ready,
        timeout: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        term_grace: float = TERM_GRACE_SECONDS,
    ) -> Process:
        """Start a process in a session of its own and wait until `ready` answers None.

        `env` is added to this process's environment. `term_grace` is how long (seconds) a SIGTERM
        may take before SIGKILL; 0 means SIGKILL at once. LabError quotes the log's tail when the
        process ends or is not ready within `timeout` seconds.
        """
        log = self.log_path(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            try:
                child = subprocess.Popen(
                    [os.fspath(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    cwd=cwd or self.folder,
                    start_new_session=True,
                )
            except OSError as error:
                raise LabError(f"{name} cannot be started: {error}") from error
        ticks = start_ticks(child.pid)
        process = Process(
            name=name,
            part=part or name,
            pid=child.pid,
            # A process that is over already never matches a start time of -1.
            start_ticks=-1 if ticks is None else ticks,
            boot_id=boot_id(),
            endpoint=endpoint,
            log=str(log),
            term_grace=term_grace,
        )
        with self._changing() as state:
            self._children[child.pid] = child
            state.processes = [known for known in state.processes if known.name != name]
            state.processes.append(process)
        self.wait(process, ready, timeout)
        return process

    def wait(self, process: Process, ready: Ready, timeout: float) -> None:
        """Wait until `ready` answers None; LabError with the log's tail otherwise."""
        begun = time.monotonic()
        missing = "it was not asked yet"
        while True:
            child = self._children.get(process.pid)
            code = child.poll() if child is not None else None
            if code is not None or not is_running(process):
                outcome = f"ended with {code}" if code is not None else "ended"
                raise LabError(
                    f"{process.name} {outcome} after {time.monotonic() - begun:.1f} s. "
                    f"Last lines of {process.log}:\n{log_tail(Path(process.log))}"
                )
            answer = ready()
            if answer is None:
                return
            missing = answer
            if time.monotonic() - begun > timeout:
                raise LabError(
                    f"{process.name} was not ready after {timeout:.0f} s ({missing}). "
                    f"Last lines of {process.log}:\n{log_tail(Path(process.log))}"
                )
            time.sleep(POLL_SECONDS)

    def _gone(self, process: Process) -> bool:
        child = self._children.get(process.pid)
        if child is not None and child.poll() is not None:
            return True
        return not is_running(process)

    def _signal(self, process: Process, number: signal.Signals) -> None:
        # Every process leads a group of its own (start_new_session), so its helpers go with it.
        if is_running(process):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def _wait_gone(self, process: Process, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._gone(process):
            if time.monotonic() > end:
                return False
            time.sleep(POLL_SECONDS / 2)
        return True

    def stop(self, names: Sequence[str] | None = None) -> None:
        """Stop the named processes (all when None) together and forget them.

        SIGTERM first, SIGKILL when its grace is over. A process that is not the one that was
        started is left alone.
        """
        wanted = [p for p in self.processes if names is None or p.name in names]
        for process in wanted:
            self._signal(process, signal.SIGTERM if process.term_grace > 0 else signal.SIGKILL)
            # A frozen process sees its SIGTERM only now, and before it does anything else.
            self._signal(process, signal.SIGCONT)
        begun = time.monotonic()
        for process in wanted:
            left = max(0.0, begun + process.term_grace - time.monotonic())
            if not self._wait_gone(process, left):
                self._signal(process, signal.SIGKILL)
        survivors = [p for p in wanted if not self._wait_gone(p, KILL_GRACE_SECONDS)]
        ended = [process for process in wanted if process not in survivors]
        for process in ended:
            if process.pid in self._children:
                self._children[process.pid].wait(KILL_GRACE_SECONDS)
        # Those that another command stopped are collected here too.
        self._children = {pid: c for pid, c in self._children.items() if c.poll() is None}
        if wanted:
            with self._changing() as state:
                state.processes = [known for known in state.processes if known not in ended]
        if survivors:
            listed = ", ".join(f"{p.name} (pid {p.pid})" for p in survivors)
            raise LabError(f"still running after SIGKILL: {listed}")

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process (and its group) of this lab, for example SIGSTOP."""
        self._signal(self.find(name), number)


def listening(port: int) -> bool:
    """Tell whether something accepts TCP connections on a loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False

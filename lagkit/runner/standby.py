"""The parent's side of a run: start the engine early, give it one job, keep the clock.

SIGINT to the kernel at the deadline, which leaves a true notebook, SIGKILL five seconds later, and
another five seconds later nobody is waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import site
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from lagkit.disk import scratch_folder, write_whole
from lagkit.errors import UsageError
from lagkit.runner import document as documents
from lagkit.runner.document import INPUT, OUTPUT
from lagkit.runner.parameters import validate_parameters
from lagkit.runner.record import Progress, RunRecord, Watch, bounded

# After SIGINT a cell gets this long to end, after SIGKILL papermill gets this long to save.
GRACE_SECONDS = 5.0

# What a kernel needs to start and to draw; everything else, every credential first, stays out.
KERNEL_VARIABLES = frozenset(
    {
        "HOME",
        "LAGKIT_CACHE",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "PATH",
        "PYTHONPATH",
        "SYSTEMROOT",
        "TMPDIR",
        "VIRTUAL_ENV",
    }
)


def run_notebook(
    notebook: Path,
    parameters: Mapping[str, Any],
    output: Path,
    *,
    deadline_seconds: float,
    on_progress: Progress | None = None,
) -> RunRecord:
    """Run *notebook* with *parameters* and write the clean result to *output*.

    The kernel's working directory is the folder of *output*, so that a parameter such as
    ``incident_path`` stays a relative path and the result can be moved together with its data.
    Returns within about *deadline_seconds* plus ten, whatever the notebook does. Two runs over the
    same data write the same bytes.

    Raises
    ------
    UsageError
        A parameter is unknown, has the wrong type or points outside the folder, or the file is no
        notebook; nothing ran.
    """
    with Standby() as standby:
        standby.begin(notebook, parameters, output, deadline_seconds=deadline_seconds)
        return standby.finish(on_progress)


class Standby:
    """A kernel and papermill standing by for one notebook; a context manager.

    Entering starts them and returns at once; *modules* are imported in the kernel while it waits.
    Leaving ends every process that was started, whether or not there was anything to run. A child
    that cannot be started shows in the record of the run, not here.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = tuple(modules)
        self._watch = Watch()
        self._stack = contextlib.ExitStack()
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the engine."""
        with contextlib.ExitStack() as stack:
            self._scratch = stack.enter_context(scratch_folder("lagkit-run-"))
            reading, writing = os.pipe()
            stack.callback(os.close, reading)
            with contextlib.closing(os.fdopen(writing, "wb")):
                self._log = self._scratch / "engine.log"
                with self._log.open("wb") as log:
                    self._child = subprocess.Popen(
                        [
                            sys.executable,
                            "-m",
                            "lagkit.runner.engine",
                            str(writing),
                            *self._modules,
                        ],
                        stdin=subprocess.PIPE,
                        stdout=log,
                        stderr=log,
                        cwd=self._scratch,
                        env=_kernel_environment(self._scratch),
                        pass_fds=(writing,),
                        start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, once
                    )
            stack.callback(self._end)
            os.set_blocking(reading, False)
            self._pipe, self._rest = reading, b""
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        """End the engine and its kernel."""
        self._stack.close()

    def begin(
        self,
        notebook: Path,
        parameters: Mapping[str, Any],
        output: Path,
        *,
        deadline_seconds: float,
    ) -> None:
        """Have *notebook* run, as :func:`run_notebook` describes it, and return at once.

        Raises
        ------
        UsageError
            As :func:`run_notebook`; nothing runs.
        """
        child = self._child
        assert child is not None
        assert child.stdin is not None
        document = documents.read(notebook)
        values = validate_parameters(documents.parameters_source(document), parameters)
        self._output, self._begun = output, time.monotonic()
        watch = self._watch
        watch.total = sum(cell["cell_type"] == "code" for cell in document["cells"])
        watch.labels = documents.labels(document)
        watch.injected_at = documents.injected_at(document, values)
        watch.deadline_seconds = deadline_seconds
        for cell in document["cells"]:  # papermill's inference needs the key on every cell
            cell["metadata"].setdefault("tags", [])
        (self._scratch / INPUT).write_text(documents.as_text(document), encoding="utf-8")
        job = {"parameters": values, "folder": str(output.parent.resolve())}
        with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(json.dumps(job).encode())

    def finish(self, on_progress: Progress | None = None) -> RunRecord:
        """Follow the run to its end or to the deadline, and write the clean notebook."""
        watch = self._watch
        watch.on_progress = on_progress
        for event in self._events(self._begun + watch.deadline_seconds):
            watch.see(event)
        self._end()
        log = self._log.read_text(encoding="utf-8", errors="replace")
        watch.stderr = bounded(log.strip()[-2000:])
        record = watch.record(time.monotonic() - self._begun)
        try:
            executed = documents.read(self._scratch / OUTPUT)
        except (FileNotFoundError, UsageError):  # never written, or cut while it was being written
            return record
        documents.clean_notebook(executed, record, folder=self._output.parent)
        write_whole(self._output, documents.as_text(executed).encode())
        return replace(record, notebook=self._output)

    def _events(self, deadline: float) -> Iterator[dict[str, Any]]:
        """Yield the child's events until it ends, or until two grace periods after *deadline*."""
        watch = self._watch
        steps = [
            (deadline, signal.SIGINT),
            (deadline + GRACE_SECONDS, signal.SIGKILL),
            (deadline + 2 * GRACE_SECONDS, None),
        ]
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while steps:
                due, number = steps[0]
                if (wait := due - time.monotonic()) <= 0:
                    steps.pop(0)
                    watch.deadline_at = watch.deadline_at or time.monotonic()
                    _signal(watch.kernel, number)
                    continue
                if not selector.select(wait):
                    continue
                told = self._told()
                if told is None:  # every writer is gone: the child has ended
                    return
                yield from told

    def _told(self) -> list[dict[str, Any]] | None:
        """Return what the child has said since; None once it can say nothing more."""
        try:
            chunk = os.read(self._pipe, 65536)
        except BlockingIOError:
            return []
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def _end(self) -> None:
        """Leave no process behind."""
        child, self._child = self._child, None
        if child is None:
            return
        while told := self._told():  # the kernel's number may be among it
            for event in told:
                self._watch.see(event)
        if self._watch.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=GRACE_SECONDS)
        else:  # else the kernel is gone, and its number may be someone else's
            _kill(self._watch.kernel)
        _kill(child.pid)
        child.wait()
        if child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()


def _signal(pid: int | None, number: signal.Signals | None) -> None:
    if pid is not None and number is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill(pid: int | None) -> None:
    """End a process we started, with everything in its session."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _kernel_environment(scratch: Path) -> dict[str, str]:
    """Return the variables a kernel may see, and those that make two runs alike."""
    kept = {name: text for name, text in os.environ.items() if name in KERNEL_VARIABLES}
    home = str(Path(__file__).resolve().parent.parent.parent)
    if home not in site.getsitepackages():  # a checkout: the kernel imports what the parent runs
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")]))
    return kept | {
        "IPYTHONDIR": str(scratch / "ipython"),  # no start-up files, no history of the user's
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
    }

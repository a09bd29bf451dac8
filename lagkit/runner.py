"""Run a notebook headless: validated parameters, one deadline, and a record of what happened.

The only module that knows papermill and nbclient. It knows nothing about incidents: a notebook, its
parameters and a place for the result come in, a :class:`RunRecord` and a clean notebook come out.
papermill's own record of a failed run is wrong (a timeout and a dead kernel are saved as
"completed", ``SystemExit(0)`` raises nothing), so the outcome is computed here from the cells that
were seen to start, end and fail.

papermill runs in a child process, because it can hang after its last cell and because a kernel
must inherit an allow-list of variables, not the secrets of its parent. The child says on a pipe
what happens, one JSON document a line; the parent keeps the clock: SIGINT to the kernel at the
deadline, which leaves a true notebook, SIGKILL five seconds later, and another five seconds later
it stops waiting for anyone.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import json
import os
import re
import selectors
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from lagkit.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

Outcome = Literal["finished", "cell_failed", "deadline", "kernel_died", "not_started"]
Progress = Callable[[str], None]

# After SIGINT a cell gets this long to end, after SIGKILL papermill gets this long to save.
GRACE_SECONDS = 5.0
# nbclient drops late output without a word after 4 s (papermill#426).
IOPUB_SECONDS = 30
# More of an error than this is in the notebook.
ERROR_CHARACTERS = 500
PARAMETER_CHARACTERS = 4096

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
PARAMETER_TYPES: Mapping[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
_INJECTED = "injected-parameters"  # papermill's tag
_INPUT, _OUTPUT = "input.ipynb", "run.ipynb"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What became of one run. ``cell`` counts all cells of the notebook from 0, as editors do."""

    outcome: Outcome
    cells_done: int
    cells_total: int
    cell: int | None = None
    error: str = ""
    seconds: float = 0.0
    """Wall time; never written into a file, or no two runs would be alike."""
    notebook: Path | None = None
    """The clean notebook; None if the run left none."""

    @property
    def finished(self) -> bool:
        """Whether every cell ran to its end."""
        return self.outcome == "finished"

    def to_dict(self) -> dict[str, Any]:
        """Return what may be written down: no times, no paths."""
        return {
            "outcome": self.outcome,
            "cells_done": self.cells_done,
            "cells_total": self.cells_total,
            "cell": self.cell,
            "error": self.error,
        }

    def __str__(self) -> str:
        """Say it in one sentence."""
        if self.outcome == "finished":
            return f"The notebook ran to its end: {self.cells_total} cells."
        place = "" if self.cell is None else f" in cell {self.cell}"
        told = {
            "cell_failed": f"The notebook failed{place}",
            "deadline": f"The notebook was cut at its deadline{place}",
            "kernel_died": f"The notebook's kernel died{place}",
            "not_started": "The notebook did not start",
        }[self.outcome]
        why = f": {self.error}" if self.error else "."
        return f"{told} after {self.cells_done} of {self.cells_total} cells{why}"


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
        A parameter is unknown, has the wrong type or points outside the folder; nothing ran.
    """
    import nbformat

    document = nbformat.read(notebook, as_version=4)
    values = validate_parameters(_parameters_source(document), parameters)
    total = sum(cell.cell_type == "code" for cell in document.cells)
    labels = _labels(document)
    watch = _Watch(total=total, labels=labels, on_progress=on_progress)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lagkit-run-") as scratch:
        for cell in document.cells:  # papermill's inference needs the key on every cell
            cell.metadata.setdefault("tags", [])
        nbformat.write(document, Path(scratch) / _INPUT)
        job = {"parameters": values, "folder": str(output.parent.resolve())}
        _supervise(job, Path(scratch), watch, deadline_seconds)
        record = watch.record(time.monotonic() - started, offset=_injected_at(document, values))
        saved = Path(scratch) / _OUTPUT
        if saved.exists():
            try:
                executed = nbformat.read(saved, as_version=4)
            except (nbformat.reader.NotJSONError, ValueError):  # cut while it was being written
                executed = None
            if executed is not None:
                clean_notebook(executed, record, folder=output.parent)
                _write_whole(output, nbformat.writes(executed) + "\n")
                return replace(record, notebook=output)
    return record


def prepare_notebook(notebook: Path, parameters: Mapping[str, Any], output: Path) -> Path:
    """Write a copy of *notebook* to *output* for a person to run, its defaults set to *parameters*.

    Outputs of the original are left out where a parameter changes: they would belong to other data.

    Raises
    ------
    UsageError
        As :func:`run_notebook`.
    """
    import nbformat

    document = nbformat.read(notebook, as_version=4)
    source = _parameters_source(document)
    values = validate_parameters(source, parameters)
    for cell in document.cells:
        if cell.cell_type != "code":
            continue
        if cell.source == source and "parameters" in cell.metadata.get("tags", []):
            cell.source = _with_defaults(source, values)
        if values:
            cell.outputs, cell.execution_count = [], None
    _write_whole(output, nbformat.writes(document) + "\n")
    return output


# ── parameters ──────────────────────────────────────────────────────────────────────────────────


def validate_parameters(source: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return *given* after checking it against a parameters cell; nothing is coerced.

    Raises
    ------
    UsageError
        Unknown name (near ones are offered), wrong type, or a ``*_path`` that leaves the folder.
    """
    from pydantic import ValidationError

    model = parameters_model(source)
    known = sorted(model.model_fields)
    for name in given:
        if name not in model.model_fields:
            near = difflib.get_close_matches(str(name), known, n=1)
            msg = f"The notebook has no parameter {str(name)[:80]!r}."
            raise UsageError(
                msg,
                hint=f"Near: {near[0]}." if near else f"It has: {', '.join(known) or 'none'}.",
            )
    try:
        model.model_validate(dict(given))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        )
        msg = f"The notebook's parameters cannot be used: {faults}"
        raise UsageError(msg) from None
    for name, value in given.items():
        if isinstance(value, str):
            _refuse_text(name, value)
    return dict(given)


def parameters_model(source: str) -> type[BaseModel]:
    """Build a strict pydantic model from a parameters cell of ``name: type = literal`` lines.

    Raises
    ------
    UsageError
        A line is something else, so that its parameter could not be checked.
    """
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if not (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(node.annotation, ast.Name)
            and node.annotation.id in PARAMETER_TYPES
            and node.value is not None
        ):
            msg = (
                f"Line {node.lineno} of the notebook's parameters cell is not `name: type = value`."
            )
            raise UsageError(msg, hint=f"Types: {', '.join(PARAMETER_TYPES)}; values: literals.")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            msg = f"The default of parameter {node.target.id} is not a literal."
            raise UsageError(msg) from None
        fields[node.target.id] = (PARAMETER_TYPES[node.annotation.id], default)
    return create_model(
        "Parameters", __config__=ConfigDict(strict=True, extra="forbid", frozen=True), **fields
    )


def _refuse_text(name: str, value: str) -> None:
    if len(value) > PARAMETER_CHARACTERS or not value.isprintable():
        msg = f"Parameter {name} is too long or holds control characters."
        raise UsageError(msg)
    if name.endswith("_path") and value:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "{" in value or "}" in value:
            msg = f"Parameter {name} must be a path inside the output folder, without braces."
            raise UsageError(msg, hint=f"Got {value!r}.")


def _parameters_source(document: Any) -> str:
    for cell in document.cells:
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
            return str(cell.source)
    return ""


def _with_defaults(source: str, values: Mapping[str, Any]) -> str:
    """Return the parameters cell with *values* as its defaults, comments kept."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.value is not None
            and node.value.end_col_offset is not None
            and node.target.id in values
        ):
            # Offsets of ast count UTF-8 bytes.
            line = lines[node.lineno - 1].encode()
            changed = repr(values[node.target.id]).encode()
            lines[node.lineno - 1] = (
                line[: node.value.col_offset] + changed + line[node.value.end_col_offset :]
            ).decode()
    return "\n".join(lines)


def _injected_at(document: Any, values: Mapping[str, Any]) -> int | None:
    """Return the index at which papermill inserts the values, None if it inserts nothing."""
    if not values:
        return None
    for index, cell in enumerate(document.cells):
        if "parameters" in cell.metadata.get("tags", []):
            return index + 1
    return 0


def _labels(document: Any) -> list[str]:
    """Return for each code cell the heading above it."""
    heading, labels = "", []
    for cell in document.cells:
        if cell.cell_type == "markdown":
            titles = re.findall(r"^#{1,3} +(.+)$", cell.source, flags=re.MULTILINE)
            heading = titles[-1].strip() if titles else heading
        elif cell.cell_type == "code":
            labels.append(heading)
    return labels


# ── the parent's side of a run ──────────────────────────────────────────────────────────────────


@dataclass
class _Watch:
    """What was seen of a run, and what that amounts to."""

    total: int
    labels: list[str]
    on_progress: Progress | None
    done: int = 0
    cell: int | None = None
    kernel: int | None = None
    """Process id, once the kernel runs."""
    failure: tuple[int, str, str] | None = None
    fault: tuple[str, str] | None = None
    """Class and text of what papermill raised."""
    ended: bool = False
    deadline_at: float | None = None
    """When the deadline struck; None while it has not."""
    deadline_seconds: float = 0.0
    stderr: str = ""
    started_cells: int = 0

    def see(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "kernel":
            self.kernel = int(event["pid"])
        elif kind == "cell_start":
            self.cell = int(event["cell"])
            self.started_cells += 1
            self._tell()
        elif kind == "cell_done":
            self.done += 1
        elif kind == "cell_failed":
            self.failure = (int(event["cell"]), str(event["name"]), str(event["text"]))
        elif kind == "raised":
            self.fault = (str(event["name"]), str(event["text"]))
        elif kind == "end":
            self.ended = True

    def _tell(self) -> None:
        if self.on_progress:
            position = min(self.started_cells, self.total)
            label = self.labels[position - 1] if position <= len(self.labels) else ""
            self.on_progress(f"notebook {position}/{self.total}" + (f": {label}" if label else ""))

    def record(self, seconds: float, *, offset: int | None) -> RunRecord:
        """Compute the outcome; *offset* is the index of the injected cell."""

        def own(cell: int | None) -> int | None:
            # The injected cell is not the author's: later cells count one less without it.
            return cell - 1 if cell is not None and offset is not None and cell >= offset else cell

        def made(outcome: Outcome, cell: int | None, error: str) -> RunRecord:
            done = min(self.done, self.total)
            return RunRecord(outcome, done, self.total, own(cell), _bounded(error), seconds)

        struck = self.deadline_at is not None
        if self.failure is not None:
            cell, name, text = self.failure
            if struck and name == "KeyboardInterrupt":
                return made("deadline", cell, f"it took longer than {self.deadline_seconds:g} s")
            return made("cell_failed", cell, f"{name}: {text}" if text else name)
        if self.ended and self.fault is None:
            return made("finished", None, "")
        if struck:
            return made("deadline", self.cell, f"it took longer than {self.deadline_seconds:g} s")
        if self.cell is None:
            name, text = self.fault or ("", self.stderr)
            return made("not_started", None, f"{name}: {text}" if name else text)
        if self.fault is not None and self.fault[0] != "DeadKernelError":
            return made("cell_failed", self.cell, ": ".join(filter(None, self.fault)))
        return made("kernel_died", self.cell, "")


def _supervise(job: Mapping[str, Any], scratch: Path, watch: _Watch, seconds: float) -> None:
    """Run the child to its end or to the deadline, feeding *watch*; leave no process behind."""
    watch.deadline_seconds = seconds
    reading, writing = os.pipe()
    log = scratch / "child.log"
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "lagkit.runner", str(writing)],
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            cwd=scratch,
            env=_kernel_environment(scratch),
            pass_fds=(writing,),
            start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, once
        )
    os.close(writing)
    try:
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(json.dumps(job).encode())
        for event in _events(reading, child, watch, time.monotonic() + seconds):
            watch.see(event)
    finally:
        os.close(reading)
        if not watch.ended:  # else it is gone, and its number may be someone else's
            _kill(watch.kernel)
        _kill(child.pid)
        child.wait()
    watch.stderr = _bounded(log.read_text(encoding="utf-8", errors="replace").strip()[-2000:])


def _events(
    pipe: int, child: subprocess.Popen[bytes], watch: _Watch, deadline: float
) -> Iterator[dict[str, Any]]:
    """Yield the child's events until it ends, or until two grace periods after *deadline*."""
    os.set_blocking(pipe, False)
    steps = [
        (deadline, signal.SIGINT),
        (deadline + GRACE_SECONDS, signal.SIGKILL),
        (deadline + 2 * GRACE_SECONDS, None),
    ]
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while steps:
            due, number = steps[0]
            if (wait := due - time.monotonic()) <= 0:
                steps.pop(0)
                watch.deadline_at = watch.deadline_at or time.monotonic()
                _signal(watch.kernel, number)
                continue
            if not selector.select(wait):
                continue
            chunk = os.read(pipe, 65536)
            if not chunk:  # every writer is gone: the child has ended
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=GRACE_SECONDS)
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)


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
    home = str(Path(__file__).resolve().parent.parent)
    if home not in site.getsitepackages():  # a checkout: the kernel imports what the parent runs
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")]))
    return kept | {
        "IPYTHONDIR": str(scratch / "ipython"),  # no start-up files, no history of the user's
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),  # the connection file holds the key
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
    }


# ── the result ──────────────────────────────────────────────────────────────────────────────────


def clean_notebook(executed: Any, record: RunRecord, *, folder: Path) -> None:
    """Take out of *executed* what differs between two runs or names this machine, in place."""
    marker = "papermill-error-cell-tag"
    executed.cells = [
        cell for cell in executed.cells if marker not in cell.metadata.get("tags", [])
    ]
    for cell in executed.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        tags = cell.metadata.get("tags")
        if tags == []:
            del cell.metadata["tags"]
        if _INJECTED in (tags or []):
            cell["id"] = _INJECTED
        for output in cell.get("outputs", []):
            _hide_paths_in(output, folder)
    kept = {key: value for key, value in executed.metadata.items() if key == "title"}
    executed.metadata.clear()
    executed.metadata.update(
        kept
        | {
            "kernelspec": dict(KERNELSPEC),
            "lagkit": {"run": record.to_dict()},
            "language_info": {"name": "python"},
        }
    )


def _hide_paths_in(output: Any, folder: Path) -> None:
    """Hide this machine where Python itself names it; a table's own text is evidence."""
    if output.output_type == "error":
        output.evalue = hide_paths(output.evalue, folder)
        output.traceback = [hide_paths(line, folder) for line in output.traceback]
    elif output.output_type == "stream" and output.name == "stderr":
        output.text = hide_paths(output.text, folder)


def hide_paths(text: str, folder: Path) -> str:
    """Replace the places of this machine in a traceback or a warning by what they are."""
    # ipykernel names a cell after its process: no two runs agree.
    text = re.sub(r"/\S*?/ipykernel_\d+/\d+\.py", "<cell>", text)
    for place, name in _places(folder):
        text = text.replace(place, name)
    return text


def _places(folder: Path) -> list[tuple[str, str]]:
    places = {
        tempfile.gettempdir(): "tmp",
        str(Path.home()): "~",
        sys.base_prefix: "python",
        sys.prefix: "python",
        str(Path(__file__).resolve().parent): "lagkit",
        **dict.fromkeys(site.getsitepackages(), "site-packages"),
        str(folder.resolve()): ".",
    }
    # The longest first, or a prefix would spoil the rest; the root directory is no secret.
    return sorted(
        ((place, name) for place, name in places.items() if len(place) > 1),
        key=lambda pair: (-len(pair[0]), pair),
    )


def _write_whole(path: Path, text: str) -> None:
    """Write *path* so that a reader sees the old file or the new one, never half."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _bounded(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return plain if len(plain) <= ERROR_CHARACTERS else plain[: ERROR_CHARACTERS - 1] + "…"


# ── the child's side of a run ───────────────────────────────────────────────────────────────────


@dataclass
class _Speaker:
    """Writes events to the parent's pipe."""

    pipe: int

    def say(self, event: str, **details: Any) -> None:
        os.write(self.pipe, (json.dumps({"event": event, **details}) + "\n").encode())


def _child(pipe: int) -> NoReturn:
    """Run one job read from stdin; everything there is to know goes to *pipe*."""
    os.set_inheritable(pipe, False)  # or a kernel that outlives us would keep the parent reading
    speaker = _Speaker(pipe)
    try:
        _execute(json.load(sys.stdin), speaker)
    except BaseException as error:  # noqa: BLE001 - the class is what the parent asks for
        speaker.say("raised", name=type(error).__name__, text=str(error)[:2000])
    speaker.say("end")
    sys.stdout.flush()
    os._exit(0)  # zmq threads may hang a normal exit (papermill#711)


def _execute(job: Mapping[str, Any], speaker: _Speaker) -> None:
    import logging

    import papermill
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):  # type: ignore[misc]
        async def start_kernel(self, **options: Any) -> None:
            await super().start_kernel(**options)
            speaker.say("kernel", pid=self.provisioner.pid)

    def authored(cell: Any) -> bool:
        return cell.cell_type == "code" and _INJECTED not in cell.metadata.get("tags", [])

    def failed(cell: Any, cell_index: int, execute_reply: Mapping[str, Any]) -> None:
        del cell
        content = execute_reply["content"]
        speaker.say(
            "cell_failed",
            cell=cell_index,
            name=str(content.get("ename", ""))[:200],
            text=str(content.get("evalue", ""))[:2000],
        )

    def executed(cell: Any, cell_index: int, execute_reply: Mapping[str, Any]) -> None:
        if authored(cell) and execute_reply["content"].get("status") == "ok":
            speaker.say("cell_done", cell=cell_index)

    def started(cell: Any, cell_index: int) -> None:
        if authored(cell):
            speaker.say("cell_start", cell=cell_index)

    logging.getLogger("papermill").setLevel(logging.ERROR)
    # kernel_dirs=[]: the kernel of this very Python, never one a user registered under its name.
    manager = Manager(
        kernel_name=KERNELSPEC["name"],
        transport_encryption="required",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
    )
    try:
        papermill.execute_notebook(
            # Two names without braces: papermill would format them.
            _INPUT,
            _OUTPUT,
            parameters=job["parameters"] or None,
            kernel_name=KERNELSPEC["name"],
            language=KERNELSPEC["language"],
            progress_bar=False,
            cwd=job["folder"],
            km=manager,
            iopub_timeout=IOPUB_SECONDS,
            record_timing=False,
            coalesce_streams=True,
            on_cell_start=started,
            on_cell_executed=executed,
            on_cell_error=failed,
        )
    finally:
        # nbclient leaves a kernel it did not create to its owner.
        process = getattr(manager.provisioner, "process", None)
        if process is not None:
            process.kill()
            process.wait()


if __name__ == "__main__":
    _child(int(sys.argv[1]))

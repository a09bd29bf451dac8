"""The child process of a run: a kernel and papermill, ready before there is anything to run.

The only module that knows papermill and jupyter_client. ``python -m lagkit.runner.engine PIPE``
imports papermill, starts a kernel, and waits for one job on stdin: a JSON object, or the end of the
stream, which means that nothing will be run. One thing after the other: on two cores the second
one is the parent's. What happens is said on the pipe, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lagkit.runner.document import INJECTED, INPUT, KERNELSPEC, OUTPUT

CONNECTION = "kernel.json"
# nbclient drops late output without a word after 4 s (papermill#426).
IOPUB_SECONDS = 30


@dataclass
class _Speaker:
    """Writes events to the parent's pipe."""

    pipe: int

    def say(self, event: str, **details: Any) -> None:
        os.write(self.pipe, (json.dumps({"event": event, **details}) + "\n").encode())


def _run(pipe: int, modules: Sequence[str]) -> NoReturn:
    """Stand by, run the one job that comes, and say on *pipe* all there is to know."""
    os.set_inheritable(pipe, False)  # or a kernel that outlives us would keep the parent reading
    speaker = _Speaker(pipe)
    try:
        _stand_by(speaker, modules)
    except BaseException as error:  # noqa: BLE001 - the class is what the parent asks for
        speaker.say("raised", name=type(error).__name__, text=str(error)[:2000])
    speaker.say("end")
    sys.stdout.flush()
    os._exit(0)  # zmq threads may hang a normal exit (papermill#711)


def _stand_by(speaker: _Speaker, modules: Sequence[str]) -> None:
    papermill = _import_papermill()
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

    # kernel_dirs=[]: the kernel of this very Python, never one a user registered under its name.
    manager = AsyncKernelManager(
        kernel_name=KERNELSPEC["name"],
        transport_encryption="required",
        # it holds the key: in our own folder it goes with the folder
        connection_file=str(Path(CONNECTION).resolve()),
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
    )
    try:
        run_sync(manager.start_kernel)()
        speaker.say("kernel", pid=manager.provisioner.pid)
        client = manager.blocking_client()
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        for name in modules:  # one that cannot be imported says so in the notebook
            _tell(client, f"__import__({name!r})")
        given = sys.stdin.read()
        if given:
            job = json.loads(given)
            _tell(client, f"__import__('os').chdir({job['folder']!r})")
            _execute(papermill, job, manager, speaker)
    finally:
        # nbclient leaves a kernel it did not create to its owner.
        process = getattr(manager.provisioner, "process", None)
        if process is not None:
            process.kill()
            process.wait()


def _tell(client: Any, code: str) -> None:
    """Have the kernel run *code*, an expression, before the notebook's first cell, unseen."""
    client.execute(code, silent=True, store_history=False, allow_stdin=False)


def _import_papermill() -> Any:
    # papermill → nbformat → jsonschema, which builds a grammar for international addresses where
    # JupyterLab has brought one: over a second, for a format that no notebook's schema has.
    # jsonschema goes without it where it is not installed, and None stands for that.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill

    return papermill


def _execute(papermill: Any, job: Mapping[str, Any], manager: Any, speaker: _Speaker) -> None:
    import logging

    def authored(cell: Any) -> bool:
        return cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])

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
    papermill.execute_notebook(
        # Two names without braces: papermill would format them.
        INPUT,
        OUTPUT,
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


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2:])

"""A headless run is told as it was: real notebooks, real kernels, every way to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from lagkit.errors import UsageError
from lagkit.runner import (
    RunRecord,
    Standby,
    parameters_model,
    prepare_notebook,
    run_notebook,
    validate_parameters,
)

PARAMETERS = 'greeting: str = "none"  # said by the next cell\ncount: int = 1'
# Long enough for a kernel to start on a loaded machine; a test that waits for it hangs a cell.
DEADLINE = 60.0


@pytest.fixture(scope="module")
def short_deadline(tmp_path_factory) -> float:
    """Return a deadline that strikes in a hanging cell, not before its kernel has started here."""
    record = run(tmp_path_factory.mktemp("measure"), "print('started')")
    assert record.finished
    return 4.0 + 2.5 * record.seconds


def write_notebook(folder: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.cells.append(nbformat.v4.new_markdown_cell("# Test", id="title"))
    cell = nbformat.v4.new_code_cell(parameters, id="parameters")
    cell.metadata["tags"] = ["parameters"]
    notebook.cells.append(cell)
    for number, source in enumerate(sources):
        notebook.cells.append(nbformat.v4.new_code_cell(source, id=f"cell-{number}"))
    path = folder / "source.ipynb"
    nbformat.write(notebook, path)
    return path


def run(folder: Path, *sources: str, deadline: float = DEADLINE, **parameters) -> RunRecord:
    return run_notebook(
        write_notebook(folder, *sources),
        parameters,
        folder / "out.ipynb",
        deadline_seconds=deadline,
    )


def streams(path: Path) -> str:
    document = nbformat.read(path, as_version=4)
    return "".join(
        output.text
        for cell in document.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )


def test_a_run_to_the_end_is_finished_and_uses_its_parameters(tmp_path):
    record = run(tmp_path, "print(greeting * count)", greeting="ab", count=2)
    assert (record.outcome, record.cells_done, record.cells_total) == ("finished", 2, 2)
    assert streams(tmp_path / "out.ipynb") == "abab\n"


def test_a_run_leaves_nothing_in_the_folder_for_temporary_files(tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))  # the engine's and the kernel's
    monkeypatch.setattr("tempfile.tempdir", str(place))  # ours: read once a process
    assert run(tmp_path, "1").finished
    assert list(place.iterdir()) == []


def test_a_raising_cell_is_named_with_its_error_and_the_rest_does_not_run(tmp_path):
    record = run(tmp_path, "raise ValueError('no such partition')", "print('later')", count=2)
    assert record.outcome == "cell_failed"
    assert record.cell == 2, "counted without the injected cell"
    assert record.error == "ValueError: no such partition"
    assert "later" not in streams(tmp_path / "out.ipynb")


def test_system_exit_zero_is_a_failure_not_a_success(tmp_path):
    record = run(tmp_path, "raise SystemExit(0)", "print('later')")
    assert (record.outcome, record.cell) == ("cell_failed", 2)


def test_a_hanging_cell_is_cut_at_the_deadline_and_says_so(tmp_path, short_deadline):
    record = run(
        tmp_path,
        "print('before', flush=True)",
        "import time; time.sleep(600)",
        deadline=short_deadline,
    )
    assert (record.outcome, record.cell, record.cells_done) == ("deadline", 3, 2)
    assert streams(tmp_path / "out.ipynb") == "before\n"


def test_a_cell_that_swallows_the_interrupt_is_killed(tmp_path, short_deadline):
    stubborn = (
        "import time\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(600)\n"
        "    except KeyboardInterrupt:\n"
        "        pass"
    )
    record = run(tmp_path, stubborn, deadline=short_deadline)
    assert (record.outcome, record.cell) == ("deadline", 2)


def test_a_kernel_that_dies_is_told_from_a_failed_cell(tmp_path):
    record = run(tmp_path, "import os; os._exit(3)", "print('later')")
    assert (record.outcome, record.cell) == ("kernel_died", 2)


def test_a_run_without_a_kernel_is_not_started(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ipykernel_launcher.py").write_text("raise SystemExit('no kernel today')")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    assert run(tmp_path, "1").outcome == "not_started"


def test_no_process_outlives_a_run_that_was_cut(tmp_path, short_deadline):
    source = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    run(tmp_path, source, deadline=short_deadline)
    kernel = int(streams(tmp_path / "out.ipynb"))
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_two_runs_write_the_same_bytes(tmp_path):
    notebook = write_notebook(tmp_path, "print(greeting)", "1 / 0")
    written = []
    for name in ("a", "b"):
        output = tmp_path / name / "out.ipynb"
        output.parent.mkdir()
        run_notebook(notebook, {"greeting": "x"}, output, deadline_seconds=DEADLINE)
        written.append(output.read_bytes())
    assert written[0] == written[1]


def test_a_clean_notebook_names_neither_papermill_nor_this_machine(tmp_path):
    run(tmp_path, "import warnings; warnings.warn('careful')", "open('/nowhere/at/all')", count=3)
    text = (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    document = json.loads(text)
    assert set(document["metadata"]) == {"kernelspec", "lagkit", "language_info"}
    assert document["metadata"]["lagkit"]["run"]["outcome"] == "cell_failed"
    assert all("papermill" not in cell["metadata"] for cell in document["cells"])
    for place in (str(tmp_path), str(Path.home()), sys.prefix):
        assert place not in text


def test_the_kernel_sees_no_credential_of_its_parent(tmp_path, monkeypatch):
    monkeypatch.setenv("LAGKIT_PROMETHEUS_LOGIN__PASSWORD", "canary-4711")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-4711")
    run(tmp_path, "import os; print(sorted(v for v in os.environ.values() if 'canary' in v))")
    assert streams(tmp_path / "out.ipynb") == "[]\n"


def test_the_kernel_works_in_the_folder_of_the_result(tmp_path):
    (tmp_path / "beside.txt").write_text("found")
    run(tmp_path, "print(open('beside.txt').read())")
    assert streams(tmp_path / "out.ipynb") == "found\n"


def test_progress_names_the_chapter(tmp_path):
    told: list[str] = []
    run_notebook(
        write_notebook(tmp_path, "1"),
        {},
        tmp_path / "out.ipynb",
        deadline_seconds=DEADLINE,
        on_progress=told.append,
    )
    assert told == ["notebook 1/2: Test", "notebook 2/2: Test"]


def test_hostile_text_arrives_as_text(tmp_path):
    hostile = "\"'); import os; os._exit(9) # {greeting.__class__} \\"
    record = run(tmp_path, "print(greeting == " + repr(hostile) + ")", greeting=hostile)
    assert record.finished
    assert streams(tmp_path / "out.ipynb") == "True\n"


def test_a_kernel_on_standby_has_its_modules_and_none_of_their_names(tmp_path):
    notebook = write_notebook(
        tmp_path, "import sys; print('wave' in sys.modules, 'wave' in globals(), 'os' in globals())"
    )
    with Standby(["wave", "nosuchmodule"]) as standby:
        standby.begin(notebook, {}, tmp_path / "out.ipynb", deadline_seconds=DEADLINE)
        record = standby.finish()
    assert record.finished
    assert streams(tmp_path / "out.ipynb") == "True False False\n"


def test_a_standby_that_nothing_was_given_leaves_no_process_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Standby():
        (scratch,) = tmp_path.glob("lagkit-run-*")
        wait_for(lambda: running(f"{scratch}/kernel.json"))
    wait_for(lambda: not running(str(scratch)))
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_on_standby_ends_with_a_parent_that_was_killed(tmp_path):
    program = (
        "import time\nfrom lagkit.runner import Standby\nwith Standby():\n    time.sleep(600)\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as parent:
        try:
            wait_for(lambda: running(f"{tmp_path}/lagkit-run-"))
        finally:
            parent.kill()
    wait_for(lambda: not running(f"{tmp_path}/lagkit-run-"))


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.05)


def running(argument: str) -> list[str]:
    """Return the processes with *argument* in one of their arguments."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if argument in line]


def test_a_file_that_is_no_notebook_is_refused(tmp_path):
    (tmp_path / "old.ipynb").write_text('{"nbformat": 3, "worksheets": []}')
    with pytest.raises(UsageError, match="no notebook of format 4"):
        run_notebook(tmp_path / "old.ipynb", {}, tmp_path / "out.ipynb", deadline_seconds=DEADLINE)


def test_an_unknown_parameter_is_refused_and_the_near_one_offered():
    with pytest.raises(UsageError, match="no parameter 'greting'") as caught:
        validate_parameters(PARAMETERS, {"greting": "x"})
    assert caught.value.hint == "Near: greeting."


def test_code_as_a_parameter_name_is_refused():
    with pytest.raises(UsageError, match="no parameter"):
        validate_parameters(PARAMETERS, {"count = 1; print('INJECTED')\nb": 2})


@pytest.mark.parametrize("value", ["1", 1.5, True, None, [1]])
def test_a_value_of_the_wrong_type_is_refused_not_coerced(value):
    with pytest.raises(UsageError, match="count"):
        validate_parameters(PARAMETERS, {"count": value})


@pytest.mark.parametrize("path", ["/etc/passwd", "../other.lagkit", "out{a.__class__}.lagkit"])
def test_a_path_outside_the_folder_is_refused(path):
    with pytest.raises(UsageError, match="inside the output folder"):
        validate_parameters('incident_path: str = ""', {"incident_path": path})


def test_a_control_character_is_refused():
    with pytest.raises(UsageError, match="control characters"):
        validate_parameters(PARAMETERS, {"greeting": "a\x1b[2J"})


@pytest.mark.parametrize("line", ["a = 1", "a: list = []", "a: int = f()", "import os"])
def test_a_parameters_cell_that_cannot_be_checked_is_refused(line):
    with pytest.raises(UsageError):
        parameters_model(line)


def test_a_refused_parameter_leaves_no_file(tmp_path):
    with pytest.raises(UsageError):
        run(tmp_path, "1", nosuch=1)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (RunRecord("finished", 3, 3), "The notebook ran to its end: 3 cells."),
        (
            RunRecord("cell_failed", 1, 3, 2, "ValueError: x"),
            "The notebook failed in cell 2 after 1 of 3 cells: ValueError: x",
        ),
        (
            RunRecord("kernel_died", 1, 3, 2),
            "The notebook's kernel died in cell 2 after 1 of 3 cells.",
        ),
    ],
)
def test_a_record_says_itself_in_one_sentence(record, sentence):
    assert str(record) == sentence


def test_a_prepared_notebook_has_its_defaults_changed_and_its_comments_kept(tmp_path):
    source = write_notebook(tmp_path, "print(greeting)")
    prepared = prepare_notebook(source, {"greeting": 'é"\\'}, tmp_path / "mine.ipynb")
    cell = nbformat.read(prepared, as_version=4).cells[1]
    assert cell.source.splitlines() == [
        "greeting: str = 'é\"\\\\'  # said by the next cell",
        "count: int = 1",
    ]

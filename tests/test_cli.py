"""The contract of the command line: what goes where, and with which exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import command
import factories
import pytest

from lagkit import cli, folders
from lagkit.commands import console
from lagkit.errors import LagkitError, NoSourceReadable, NothingThere, ReportFailed, UsageError

# 10.255.255.1 would hang; port 1 of the loopback refuses at once.
DEAD_PROMETHEUS = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Every command runs in an empty folder, with nothing configured."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LAGKIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def saved(tmp_path) -> Path:
    return factories.incident().save(tmp_path / "saved.lagkit")


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("capture", "demo", "doctor", "investigate", "open"))


@pytest.mark.parametrize("name", sorted(cli.cli.commands))
def test_every_command_and_option_has_help(name):
    command = cli.cli.commands[name]
    assert command.help
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_without_a_report_no_notebook_engine_is_started(saved, tmp_path):
    # papermill as anyone may have it on the path; importing it leaves a mark
    engines = tmp_path / "engines"
    engines.mkdir()
    (engines / "papermill.py").write_text(
        f"from pathlib import Path; Path({str(tmp_path / 'imported')!r}).touch()"
    )
    environment = os.environ | {"PYTHONPATH": f"{engines}:{Path(cli.__file__).parent.parent}"}
    for options, imported in ((["--no-report"], False), ([], True)):
        subprocess.run(
            [sys.executable, "-m", "lagkit", "investigate", str(saved), "--out", "out", *options],
            env=environment,
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert (tmp_path / "imported").exists() is imported


def test_an_unknown_option_is_bad_usage(capsys):
    assert cli.main(["demo", "--nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


def test_without_any_source_it_is_bad_configuration_and_says_what_to_give(capsys):
    assert cli.main(["investigate", "some-group"]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "--prometheus URL" in streams.err


def test_a_naive_time_is_refused_and_the_right_form_shown(capsys):
    arguments = ["investigate", "g", "--prometheus", DEAD_PROMETHEUS, "--start", "2026-11-23T02:00"]
    assert cli.main(arguments) == 2
    assert "2026-11-23T02:00:00Z" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_nothing_there(capsys):
    assert cli.main(["investigate", "nosuch.lagkit"]) == 3
    assert "nosuch.lagkit" in capsys.readouterr().err


def test_a_file_that_is_no_incident_is_nothing_there(tmp_path, capsys):
    (tmp_path / "fake.lagkit").write_text("not a zip")
    assert cli.main(["investigate", "fake.lagkit"]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_no_readable_source_is_status_4_and_leaves_no_folder(tmp_path, capsys):
    assert cli.main(["investigate", "g", "--prometheus", DEAD_PROMETHEUS]) == 4
    assert "prometheus" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_json_verdict_is_alone_on_stdout(saved, tmp_path, capsys):
    assert cli.main(["investigate", str(saved), "--json", "--no-report", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["schema"] == "lagkit.verdict/1"
    assert printed == (tmp_path / "out" / "verdict.json").read_text(encoding="utf-8")


def test_the_verdict_is_printed_before_the_report_is_begun(saved, tmp_path):
    """Both streams into one pipe: its order is the order of saying."""
    process = command.started(
        "investigate", saved, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = process.communicate(timeout=command.SECONDS)
    assert 0 <= said.index("VERDICT") < said.index("writing report.html")


def test_the_incident_is_kept_byte_for_byte(saved, tmp_path):
    cli.main(["investigate", str(saved), "--no-report", "--out", "out"])
    assert (tmp_path / "out" / "incident.lagkit").read_bytes() == saved.read_bytes()


def test_replaying_twice_gives_the_same_verdict(saved, tmp_path):
    for name in ("a", "b"):
        cli.main(["investigate", str(saved), "--no-report", "--out", name])
    first, second = (tmp_path / name / "verdict.json" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("option", [["--since", "2h"], ["--topic", "t"], ["--bootstrap", "h:1"]])
def test_a_saved_incident_refuses_options_it_would_have_to_ignore(saved, option, capsys):
    assert cli.main(["investigate", str(saved), *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_a_folder_with_foreign_files_is_left_alone(saved, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    assert cli.main(["investigate", str(saved), "--no-report", "--out", "out"]) == 2
    assert "thesis.tex" in capsys.readouterr().err
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_an_earlier_report_is_replaced_as_a_whole(saved, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.md").write_text("old")
    assert cli.main(["investigate", str(saved), "--no-report", "--out", "out"]) == 0
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == [
        "incident.lagkit",
        "verdict.json",
    ]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "saved.lagkit"]


def test_a_failed_report_is_status_5_and_the_verdict_stands(saved, tmp_path):
    """The notebook's kernel is broken and dies as it starts."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ipykernel_launcher.py").write_text("raise SystemExit('broken')\n")
    env = command.environment(PYTHONPATH=os.pathsep.join([str(broken), str(command.ROOT)]))
    done = command.run("investigate", saved, "--out", "out", cwd=tmp_path, env=env)
    assert done.status == 5
    assert "The verdict stands in out/verdict.json, but The notebook" in done.err
    for name in ("incident.lagkit", "verdict.json", "report.html", "report.md"):
        assert (tmp_path / "out" / name).exists()


def test_a_fault_of_lagkit_is_one_line_without_debug(saved, tmp_path):
    """A broken installation: a library that lagkit needs fails as it is loaded."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "pandas.py").write_text("raise ZeroDivisionError('ours')\n")
    env = command.environment(PYTHONPATH=os.pathsep.join([str(broken), str(command.ROOT)]))
    done = command.run("investigate", saved, cwd=tmp_path, env=env)
    assert done.status == 1
    assert "lagkit's own fault: ZeroDivisionError: ours" in done.err
    with command.started("--debug", "investigate", saved, cwd=tmp_path, env=env) as process:
        assert "Traceback" in process.stderr.read()
        assert process.wait() == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LagkitError, 1),
        (UsageError, 2),
        (NothingThere, 3),
        (NoSourceReadable, 4),
        (ReportFailed, 5),
    ],
)
def test_each_error_has_the_status_of_the_contract(error, status):
    assert error.exit_status == status


def test_an_error_text_cannot_move_the_cursor(capsys):
    console.print_error("bad\x1b[2J name\n  and more")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert shown.splitlines()[1] == "  and more"


@pytest.mark.parametrize(
    ("group", "name"),
    [("a/../../etc", "a_.._.._etc"), ("..", "group"), ("deploy worker", "deploy_worker")],
)
def test_a_group_name_cannot_leave_the_folder(group, name):
    assert folders.safe_name(group) == name


def test_options_come_from_the_environment(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("LAGKIT_OUT", "elsewhere")
    monkeypatch.setenv("LAGKIT_NO_REPORT", "1")
    monkeypatch.setenv("LAGKIT_SINCE", "2h")
    assert cli.main(["investigate", str(saved)]) == 0
    assert (tmp_path / "elsewhere" / "verdict.json").exists()


def test_options_come_from_the_configuration_file(saved, tmp_path):
    (tmp_path / "lagkit.toml").write_text('[options]\nout = "elsewhere"\nno-report = true\n')
    assert cli.main(["investigate", str(saved)]) == 0
    assert (tmp_path / "elsewhere" / "verdict.json").exists()


def test_an_unknown_option_in_the_configuration_file_is_refused(saved, tmp_path, capsys):
    (tmp_path / "lagkit.toml").write_text("[options]\noutt = 1\n")
    assert cli.main(["investigate", str(saved)]) == 2
    assert "outt" in capsys.readouterr().err


def test_capture_wants_the_right_suffix(capsys):
    assert cli.main(["capture", "g", "--out", "x.zip"]) == 2
    assert ".lagkit" in capsys.readouterr().err


def test_doctor_says_for_each_source_how_to_configure_it(capsys):
    assert cli.main(["doctor"]) == 2
    shown = capsys.readouterr().out
    for option in ("LAGKIT_PROMETHEUS", "LAGKIT_BOOTSTRAP", "LAGKIT_KUBECONFIG", "[downstream]"):
        assert option in shown


def test_doctor_tells_an_unreachable_source_from_one_not_configured(capsys):
    assert cli.main(["doctor", "--prometheus", DEAD_PROMETHEUS, "--json"]) == 4
    sources = json.loads(capsys.readouterr().out)["sources"]
    assert sources["prometheus"]["status"] == "unavailable"
    assert sources["kafka"]["status"] == "not_configured"


def test_ctrl_c_while_a_source_hangs_ends_with_130(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # a shell's background job is born deaf to SIGINT, and so is all that it starts
        hearing = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "import sys; from lagkit.cli import main; sys.exit(main())"
        )
        command = [sys.executable, "-c", hearing, "capture", "g", "--prometheus", address]
        environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parent.parent)}
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, text=True
        ) as process:
            assert process.stderr is not None
            assert "capturing" in process.stderr.readline()
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130


def test_python_m_lagkit_ends_with_the_same_status_as_the_command(tmp_path):
    command = [sys.executable, "-m", "lagkit", "investigate", "nothing-here.lagkit"]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, check=False).returncode == 3

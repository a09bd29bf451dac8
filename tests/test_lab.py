"""The lab stops what it started and nothing else, and says what it cannot have."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import kafka
from lab.install import (
    PARTS,
    RECIPES,
    Artifact,
    Unavailable,
    cache_folder,
    cache_root,
    install,
)
from lab.processes import (
    LabError,
    Ledger,
    Process,
    boot_id,
    children,
    free_ports,
    is_running,
    start_ticks,
)
from lab.stack import Stack

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('deaf', flush=True); time.sleep(600)"
)


def at_once() -> None:
    return None


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "lab")
    yield ledger
    ledger.stop()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP, start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend a machine with an empty cache and no programs; return the folder on its PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("LAGKIT_CACHE", str(tmp_path / "cache"))
    return programs


def remembered(process: Process, ledger: Ledger) -> Ledger:
    """Return a ledger whose state file names the given process as its own."""
    with ledger._changing() as state:
        state.processes.append(process)
    return Ledger(ledger.folder)


def as_process(pid: int, **changes: object) -> Process:
    ticks = start_ticks(pid)
    assert ticks is not None
    own = Process("server", "server", pid, ticks, boot_id(), "", "/dev/null", 1.0)
    return dataclasses.replace(own, **changes)


def test_state_file_finds_the_processes_again(ledger: Ledger) -> None:
    started = ledger.start("server", SLEEP, endpoint="here", ready=at_once, timeout=5)
    assert Ledger(ledger.folder).processes == [started]


def test_state_file_is_readable_by_its_owner_only(ledger: Ledger) -> None:
    ledger.remember({})
    assert stat.S_IMODE(ledger.state_path.stat().st_mode) == 0o600


def test_another_process_can_stop_what_the_state_file_names(ledger: Ledger) -> None:
    started = ledger.start("server", SLEEP, ready=at_once, timeout=5)
    Ledger(ledger.folder).stop()
    assert not is_running(started)


def test_reused_process_id_is_never_killed(
    ledger: Ledger, stranger: subprocess.Popen[bytes]
) -> None:
    earlier = as_process(stranger.pid)
    earlier = dataclasses.replace(earlier, start_ticks=earlier.start_ticks - 1)
    later = remembered(earlier, ledger)
    later.stop()
    assert stranger.poll() is None
    assert later.processes == []


def test_process_id_of_an_earlier_boot_is_never_killed(
    ledger: Ledger, stranger: subprocess.Popen[bytes]
) -> None:
    remembered(as_process(stranger.pid, boot_id="another boot"), ledger).stop()
    assert stranger.poll() is None


def test_process_that_the_state_file_does_not_name_survives(
    ledger: Ledger, stranger: subprocess.Popen[bytes]
) -> None:
    ledger.start("server", SLEEP, ready=at_once, timeout=5)
    ledger.stop()
    assert stranger.poll() is None


def test_process_that_ignores_sigterm_is_killed(ledger: Ledger) -> None:
    deaf = ledger.start(
        "deaf",
        [sys.executable, "-c", STUBBORN],
        ready=lambda: None if "deaf" in ledger.log_path("deaf").read_text() else "it still listens",
        timeout=20,
        term_grace=0.2,
    )
    ledger.stop()
    assert not is_running(deaf)


def test_frozen_process_is_stopped(ledger: Ledger) -> None:
    frozen = ledger.start("server", SLEEP, ready=at_once, timeout=5)
    ledger.signal("server", signal.SIGSTOP)
    ledger.stop()
    assert not is_running(frozen)


def test_children_of_a_stopped_process_go_with_it(ledger: Ledger) -> None:
    parent = ledger.start(
        "parent",
        [sys.executable, "-c", f"import subprocess; subprocess.run({SLEEP!r})"],
        ready=lambda: None if children(ledger.find("parent").pid) else "no child yet",
        timeout=20,
    )
    (child,) = children(parent.pid)
    ledger.stop()
    for _attempt in range(100):
        if start_ticks(child) is None:
            break
        time.sleep(0.05)
    assert start_ticks(child) is None


def test_start_quotes_the_log_of_a_process_that_ends(ledger: Ledger) -> None:
    with pytest.raises(LabError, match=r"broken ended with 3 .*\n.*no such disk"):
        ledger.start(
            "broken",
            [sys.executable, "-c", "import sys; print('no such disk'); sys.exit(3)"],
            ready=lambda: "it is not there",
            timeout=20,
        )


def test_start_gives_up_at_its_timeout_and_says_what_is_missing(ledger: Ledger) -> None:
    with pytest.raises(LabError, match=r"not ready after 0 s \(the port is closed\)"):
        ledger.start("slow", SLEEP, ready=lambda: "the port is closed", timeout=0.2)


def test_program_that_does_not_exist_is_a_lab_error(ledger: Ledger) -> None:
    with pytest.raises(LabError, match="cannot be started"):
        ledger.start("none", ["/no/such/program"], ready=at_once, timeout=1)


def test_unreadable_state_is_an_error_not_an_empty_lab(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(LabError, match=r"state\.json cannot be read"):
        Ledger(tmp_path)


def test_state_of_another_version_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"version": 99}')
    with pytest.raises(LabError, match="version 99"):
        Ledger(tmp_path)


def test_server_started_by_another_command_is_stopped_too(ledger: Ledger) -> None:
    other = Ledger(ledger.folder)
    started = other.start("producer", SLEEP, ready=at_once, timeout=5)
    ledger.start("server", SLEEP, ready=at_once, timeout=5)
    ledger.stop()
    assert other.processes == []
    assert not is_running(started)
    other.stop()


def test_two_commands_cannot_work_on_one_folder(ledger: Ledger) -> None:
    with (
        ledger.exclusive(),
        pytest.raises(LabError, match="another lab command"),
        Ledger(ledger.folder).exclusive(),
    ):
        pass


def test_free_ports_are_different_and_below_the_kernels_own() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert max(ports) < 32_768


def test_every_part_of_a_bare_machine_is_unavailable_with_one_line_and_a_hint(
    bare_machine: Path,
) -> None:
    results = install(echo=lambda _line: None)
    assert tuple(results) == PARTS
    for result in results.values():
        assert isinstance(result, Unavailable)
        assert result.reason
        assert "\n" not in result.reason
        assert result.hint


def test_an_optional_part_comes_only_when_it_is_named(bare_machine: Path) -> None:
    assert RECIPES["braedon"].optional
    assert "braedon" not in install(echo=lambda _line: None)


def test_go_that_is_too_old_is_named_as_the_reason(bare_machine: Path) -> None:
    old = bare_machine / "go"
    old.write_text("#!/bin/sh\necho go1.19.8\n")
    old.chmod(0o755)
    result = install(["otel"], echo=lambda _line: None)["otel"]
    assert isinstance(result, Unavailable)
    assert "go1.19.8" in result.reason


def test_part_that_cannot_be_had_leaves_no_folder(bare_machine: Path) -> None:
    install(["kafka"], echo=lambda _line: None)
    assert [path for path in cache_root().iterdir() if path.is_dir()] == []


def test_cached_part_is_not_built_again(bare_machine: Path) -> None:
    folder = cache_folder(RECIPES["jmx"])
    folder.mkdir(parents=True)
    (folder / "jmx_prometheus_javaagent.jar").touch()
    result = install(["jmx"])["jmx"]
    assert isinstance(result, Artifact)
    assert not result.built


def test_cached_part_without_the_program_that_runs_it_is_unavailable(bare_machine: Path) -> None:
    (cache_folder(RECIPES["kafka"]) / "libs").mkdir(parents=True)
    result = install(["kafka"], echo=lambda _line: None)["kafka"]
    assert isinstance(result, Unavailable)
    assert "openjdk-17-jre-headless" in result.reason


def test_second_caller_waits_and_says_so(bare_machine: Path) -> None:
    lines: list[str] = []
    said = threading.Event()

    def echo(line: str) -> None:
        lines.append(line)
        said.set()

    cache_root().mkdir(parents=True)
    with (cache_root() / ".kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiter = threading.Thread(target=install, args=(["kafka"],), kwargs={"echo": echo})
        waiter.start()
        assert said.wait(20)
    waiter.join(20)
    assert "waiting for another process to get kafka" in lines[0]


def test_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no such part: zookeeper"):
        install(["zookeeper"])


def test_missing_parts_are_reported_and_the_rest_goes_on(
    bare_machine: Path, tmp_path: Path
) -> None:
    with Stack(tmp_path / "lab", parts=["kafka", "otel"], echo=lambda _line: None) as stack:
        assert set(stack.missing) == {"kafka", "otel"}
        assert {row.state for row in stack.status()} == {"missing"}
        with pytest.raises(LabError, match=r"kafka is not in this lab: .*To do:"):
            _ = stack.kafka


def test_part_without_the_one_it_needs_is_missing(bare_machine: Path, tmp_path: Path) -> None:
    with Stack(tmp_path / "lab", parts=["kafka", "relay"], echo=lambda _line: None) as stack:
        assert stack.missing["relay"].reason == "it needs kafka, which does not run"


def test_attaching_to_a_folder_without_a_lab_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no lab runs"):
        Stack.attach(tmp_path)


def test_up_refuses_a_folder_that_runs_already(tmp_path: Path) -> None:
    stack = Stack(tmp_path, parts=[])
    stack.ledger.start("server", SLEEP, ready=at_once, timeout=5)
    try:
        with pytest.raises(LabError, match="runs already"):
            stack.start()
    finally:
        stack.stop()


def test_clients_of_the_proxied_listener_are_sent_to_the_proxy(tmp_path: Path) -> None:
    cluster = kafka.plan(3, proxied=True)
    for broker in cluster.nodes:
        text = kafka.properties(broker, cluster, tmp_path)
        assert f"PROXIED://127.0.0.1:{broker.proxied},CONTROLLER" in text
        assert f"advertised.listeners=DIRECT://127.0.0.1:{broker.direct}," in text
        assert f"PROXIED://127.0.0.1:{broker.advertised}\n" in text
        assert broker.advertised != broker.proxied


def test_a_secured_broker_lets_nobody_in_without_a_login(tmp_path: Path) -> None:
    cluster = kafka.plan(1, proxied=False, secured=True)
    text = kafka.properties(cluster.nodes[0], cluster, tmp_path, tmp_path)
    assert f",SASL://{cluster.sasl_bootstrap},MTLS://{cluster.mtls_bootstrap}\n" in text
    assert "SASL:SASL_SSL,MTLS:SSL" in text
    assert "authorizer.class.name=" in text
    assert "authorizer.class.name=" not in kafka.properties(
        cluster.nodes[0], kafka.plan(1, proxied=False), tmp_path
    )


def test_only_one_or_three_brokers() -> None:
    with pytest.raises(ValueError, match="1 or 3"):
        kafka.plan(2, proxied=True)


def test_terminated_install_takes_its_build_with_it(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    marker = tmp_path / "building"
    for name, body in (
        ("java", "exit 0"),
        ("mvn", f'echo $$ > "{marker}.new"; mv "{marker}.new" "{marker}"; exec sleep 600'),
    ):
        program = programs / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LAGKIT_CACHE": str(tmp_path / "cache"),
    }
    checkout = Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        [sys.executable, "-m", "lab", "install", "kafka"],
        cwd=checkout,
        env=environment,
        stderr=subprocess.DEVNULL,
    ) as command:
        for _attempt in range(400):
            if marker.exists():
                break
            time.sleep(0.05)
        build = int(marker.read_text())
        command.terminate()
        command.wait(20)
    assert start_ticks(build) is None

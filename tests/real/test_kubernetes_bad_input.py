"""The real command with a Kubernetes that cannot be used: status, message, and what is on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Run, environment, run
from kubernetes import config

import lagkit as lk
from lab.processes import free_ports
from lab.stack import Stack

from .cluster import NAMESPACED_RULES, Room, without

NO_SOURCE = 4


@pytest.fixture(scope="module")
def busy(control_plane: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """Give a namespace whose pod runs and has written a line."""
    with config.new_client_from_config(config_file=control_plane.kubeconfig()) as api:
        room = Room(control_plane, api, "bad-input", tmp_path_factory.mktemp("bad-input"))
        room.core.create_namespace({"metadata": {"name": room.name}})
        room.deploy("echo ERROR cannot decode; sleep 600")
        room.until("logs", len)
        yield room
        room.core.delete_namespace(room.name)


def investigate(room: Room, tmp_path: Path, kubeconfig: object) -> tuple[Run, Path]:
    """Run ``lagkit investigate`` with Kubernetes as its only source; return it and its folder."""
    runbook = tmp_path / "runbook.toml"
    runbook.write_text(
        'title = "t"\n[[groups]]\nname = "g"\n'
        f'workload = {{ namespace = "{room.name}", name = "api" }}\n'
    )
    out = tmp_path / "out"
    done = run(
        "investigate", "g", "--kubeconfig", kubeconfig, "--no-report", "--out", out,
        cwd=tmp_path, env=environment(LAGKIT_RUNBOOK=str(runbook)),
    )  # fmt: skip
    return done, out


def left(folder: Path) -> set[str]:
    """Return the names of the files in *folder*; none if it is not there."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


def refused(done: Run, out: Path, *words: str) -> None:
    """Assert that no source could be read, why, and that nothing was written."""
    assert done.status == NO_SOURCE, done.both
    assert all(word in done.err for word in words), done.err
    assert "lagkit doctor" in done.err
    assert done.out == ""
    assert left(out) == set()


def test_a_kubeconfig_that_is_not_there_is_named(busy: Room, tmp_path: Path) -> None:
    absent = tmp_path / "no-such.kubeconfig"
    refused(*investigate(busy, tmp_path, absent), str(absent), "there is no such file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"users: [\n  token: s3cret-token-in-a-broken-file", "it is not YAML"),
        (b"", "cannot be used"),
        (b"just words", "cannot be used"),
        (b"apiVersion: v1\nkind: Config\n", "cannot be used"),
        (b"\xff\xfe\x00binary", "cannot be used"),
        (b"- 1\n- 2\n", "cannot be used"),
    ],
    ids=["broken yaml", "empty", "text", "no clusters", "binary", "list"],
)
def test_a_kubeconfig_that_is_malformed_is_told_without_its_content(
    busy: Room, tmp_path: Path, content: bytes, words: str
) -> None:
    broken = tmp_path / "broken.kubeconfig"
    broken.write_bytes(content)
    done, out = investigate(busy, tmp_path, broken)
    refused(done, out, str(broken), words)
    assert "s3cret-token" not in done.both


def test_a_token_that_has_expired_is_told_from_a_missing_right(busy: Room, tmp_path: Path) -> None:
    token = busy.expired_token()
    done, out = investigate(busy, tmp_path, busy.kubeconfig(token, "expired"))
    refused(done, out, "HTTP 401")
    assert token not in done.both


def test_the_doctor_says_what_to_do_about_an_expired_token(busy: Room, tmp_path: Path) -> None:
    kubeconfig = busy.kubeconfig("not-a-token", "unknown")
    done = run("doctor", "--kubeconfig", kubeconfig, cwd=tmp_path)
    assert done.status == NO_SOURCE, done.both
    assert "log in again" in done.out
    assert "kubectl auth whoami" in done.out


def test_a_server_that_is_not_there_is_named(busy: Room, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    nobody = busy.kubeconfig("x", "nobody-listens", server=f"https://127.0.0.1:{port}")
    refused(*investigate(busy, tmp_path, nobody), f"nothing listens at https://127.0.0.1:{port}")


def test_a_certificate_of_another_authority_is_told(busy: Room, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    openssl = shutil.which("openssl")
    assert openssl
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other",
         "-keyout", str(tmp_path / "other.key"), "-out", str(other)],
        check=True, capture_output=True,
    )  # fmt: skip
    strange = busy.kubeconfig(
        busy.token("lagkit-ro"),
        "strange",
        server=busy.stack.kubernetes.url,
        **{"certificate-authority": str(other)},
    )
    refused(*investigate(busy, tmp_path, strange), "TLS to", "certificate verify failed")


def captured(done: Run, out: Path) -> dict[str, Any]:
    """Assert that an incident and a verdict were written; return what the verdict has not seen."""
    assert done.status == 0, done.both
    assert left(out) == {"incident.lagkit", "verdict.json"}
    verdict: dict[str, Any] = json.loads((out / "verdict.json").read_text())
    assert verdict["sources"]["kubernetes"]["status"] == "partial"
    return verdict


def test_without_the_right_to_list_pods_the_rest_is_captured_and_the_rule_is_named(
    busy: Room, tmp_path: Path
) -> None:
    user = busy.user(without(NAMESPACED_RULES, "pods"), nodes=True)
    done, out = investigate(busy, tmp_path, user)
    verdict = captured(done, out)
    incident = lk.open(out / "incident.lagkit")
    assert incident.pods.empty
    assert incident.logs.empty
    assert len(incident.workloads) == 1
    assert len(incident.events)
    assert any("may not list pods" in text for text in verdict["not_checked"])
    fixes = " ".join(gap.fix for gap in incident.coverage)
    assert 'resources: ["pods"], verbs: ["list"]' in fixes


def test_without_the_right_to_read_logs_everything_else_is_captured(
    busy: Room, tmp_path: Path
) -> None:
    user = busy.user(without(NAMESPACED_RULES, "pods/log"), nodes=True)
    done, out = investigate(busy, tmp_path, user)
    verdict = captured(done, out)
    incident = lk.open(out / "incident.lagkit")
    assert incident.logs.empty
    assert len(incident.pods) == 1
    assert len(incident.nodes) == 1
    assert any("may not get pods/log" in text for text in verdict["not_checked"])
    gaps = [gap for gap in incident.coverage if "pods/log" in gap.fix]
    assert [gap.what for gap in gaps] == [f"logs in {busy.name}"]

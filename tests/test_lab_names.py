"""Names that only the workers know: found, lost in either way, and the machine's own untouched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab import kafka, names
from lab.processes import LabError

NAME = names.name_of(1)
ASK = f"import socket; print(socket.gethostbyname({NAME!r}))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names.give(tmp_path, [NAME])
    try:
        names.check(tmp_path)
    except LabError as error:
        pytest.skip(str(error))
    return tmp_path


def asked(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [*names.through(folder), sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_worker_finds_a_name_that_the_machine_does_not_know(folder: Path) -> None:
    before = Path("/etc/hosts").read_bytes()
    assert asked(folder) == (0, "127.0.0.1")
    assert Path("/etc/hosts").read_bytes() == before
    assert NAME.encode() not in before


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("no_server", "Temporary failure in name resolution"),
        ("not_known", "Name or service not known"),
    ],
)
def test_a_lost_name_fails_as_the_way_it_was_lost_says(folder: Path, way: str, said: str) -> None:
    names.take(folder, way)
    code, text = asked(folder)
    assert code != 0
    assert said in text
    names.give(folder, [NAME])
    assert asked(folder) == (0, "127.0.0.1")


def test_names_are_lost_in_known_ways_only(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not 'somehow'"):
        names.take(tmp_path, "somehow")


def test_named_brokers_are_told_by_name_to_the_workers_alone(tmp_path: Path) -> None:
    cluster = kafka.plan(1, proxied=True, named=True)
    (broker,) = cluster.nodes
    text = kafka.properties(broker, cluster, tmp_path)
    (told,) = [line for line in text.splitlines() if line.startswith("advertised.listeners=")]
    assert f"PROXIED://{NAME}:{broker.advertised}" in told
    assert f"DIRECT://127.0.0.1:{broker.direct}" in told
    assert cluster.proxied_bootstrap == f"{NAME}:{broker.advertised}"
    assert NAME not in cluster.bootstrap
    assert kafka.Kafka.from_facts(cluster.as_facts()).named
    assert not kafka.plan(1, proxied=True).named

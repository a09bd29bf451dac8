"""One lab for all real tests, and the rule for a part that cannot be had."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab.install import Artifact, Unavailable
from lab.stack import Stack

from .cluster import Room


def require(source: Stack | Mapping[str, Artifact | Unavailable], part: str) -> None:
    """Skip with the reason when a part is missing; fail where LAGKIT_REQUIRE_REAL is set.

    `source` is the running lab or what `lab.install.install` answered.
    """
    found = source.missing.get(part) if isinstance(source, Stack) else source[part]
    if not isinstance(found, Unavailable):
        return
    reason = f"{part}: {found.reason}. To do: {found.hint}"
    if os.environ.get("LAGKIT_REQUIRE_REAL", "") not in {"", "0"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start the whole lab once; its parts may be missing (see `require`)."""
    with Stack(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start the lab's Kubernetes alone, once."""
    with Stack(tmp_path_factory.mktemp("kubernetes"), parts=("kubernetes",)) as running:
        require(running, "kubernetes")
        yield running


@pytest.fixture
def room(control_plane: Stack, tmp_path: Path) -> Iterator[Room]:
    """Make a namespace for one test, and remove it."""
    from kubernetes import config

    with config.new_client_from_config(config_file=control_plane.kubeconfig()) as api:
        made = Room(control_plane, api, f"room-{uuid.uuid4().hex[:8]}", tmp_path)
        made.core.create_namespace({"metadata": {"name": made.name}})
        yield made
        made.core.delete_namespace(made.name)

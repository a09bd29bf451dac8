"""One lab for all real tests, and the rule for a part that cannot be had."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest

from lab.install import Artifact, Unavailable
from lab.stack import Stack


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

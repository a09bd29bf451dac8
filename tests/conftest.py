"""Shared by every test: a real test may be skipped here, but not under ``.ci/run``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import hypothesis
import pytest

# no test asserts a time: on a machine with much else to do any example may take a second
hypothesis.settings.register_profile("lagkit", deadline=None)
hypothesis.settings.load_profile("lagkit")

REAL = Path(__file__).resolve().parent / "real"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server or a browser as real, and keep it behind the rest."""
    for item in items:
        if REAL in item.path.parents or item.path.stem.endswith("_browser"):
            item.add_marker(pytest.mark.real)
    items.sort(key=lambda item: item.get_closest_marker("real") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Turn the skip of a real test into a failure where ``LAGKIT_REQUIRE_REAL`` is set."""
    report = yield
    required = os.environ.get("LAGKIT_REQUIRE_REAL", "") not in {"", "0"}
    expected_failure = hasattr(report, "wasxfail")
    if report.skipped and required and not expected_failure and item.get_closest_marker("real"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"LAGKIT_REQUIRE_REAL is set, and this real test cannot run: {reason}"
    return report


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Drive a real Chromium of 1,200 pixels, in the light."""
    with browser.chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go; ``LAGKIT_SCREENSHOTS=DIR`` keeps them for a person to look at."""
    kept = os.environ.get("LAGKIT_SCREENSHOTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder

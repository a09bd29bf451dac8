"""A headless Chromium of the machine's own, that may speak to nobody.

Needs ``chromium`` and ``chromedriver`` (Debian: apt install chromium chromium-driver). Without
them a test is skipped with its reason, or fails where ``LAGKIT_REQUIRE_REAL`` is set.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 120
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def missing(what: str) -> None:
    """Skip the test with its reason, or fail it where every real test must run."""
    reason = f"{what} is not installed: apt install chromium chromium-driver"
    if os.environ.get("LAGKIT_REQUIRE_REAL", "") not in {"", "0"}:
        pytest.fail(f"LAGKIT_REQUIRE_REAL is set, and this real test cannot run: {reason}")
    pytest.skip(reason)


@contextlib.contextmanager
def chromium(profile: Path, *, dark: bool = False, width: int = 1200) -> Iterator[Any]:
    """Yield a selenium driver of a new Chromium with *profile* as its own, empty folder."""
    pytest.importorskip("selenium", reason="selenium (extra `dev`) is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver_binary = shutil.which("chromedriver")
    if binary is None:
        missing("chromium")
    if driver_binary is None:
        missing("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_binary))
    try:
        driver.set_page_load_timeout(START_SECONDS)
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        yield driver
    finally:
        driver.quit()


def requests_of(driver: Any) -> list[str]:
    """Return the addresses that were asked for since the last call."""
    addresses = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            addresses.append(message["params"]["request"]["url"])
    return addresses


def save_screenshot(driver: Any, path: Path) -> Path:
    """Save the whole page as a PNG."""
    import base64

    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    shot = driver.execute_cdp_cmd(
        "Page.captureScreenshot",
        {
            "captureBeyondViewport": True,
            "format": "png",
            "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        },
    )
    path.write_bytes(base64.b64decode(shot["data"]))
    return path

"""``lagkit open`` in a real JupyterLab: Run All, every cell ends, every chart is drawn.

``LAGKIT_SCREENSHOTS=DIR`` keeps the picture for a person to look at.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import browser
import factories
import nbformat
import pytest

from lagkit import cli
from lagkit.capacity import charts
from lagkit.charts import FIGURES
from lagkit.resources import resource_path

START_SECONDS = 120.0
RUN_SECONDS = 240.0
# All cells are kept on the page, so that a chart below the fold can be looked for.
WHOLE_PAGE = {"windowingMode": "none"}
# JupyterLab's own news and update check wants the internet; nothing of ours does.
QUIET = {"checkForUpdates": False, "fetchNews": "false", "doNotDisturbMode": True}


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """Start JupyterLab by ``lagkit open``; give its address with the token, and the notebook."""
    pytest.importorskip("jupyterlab", reason="the extra `notebook` is not installed")
    folder = tmp_path_factory.mktemp("lab")
    factories.incident().save(folder / "saved.lagkit")
    settings = folder / "settings" / "@jupyterlab"
    for plugin, values in (
        ("notebook-extension/tracker", WHOLE_PAGE),
        ("apputils-extension/notification", QUIET),
    ):
        path = settings / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "lab.log"
    environment = os.environ | {
        "PYTHONPATH": str(Path(cli.__file__).parent.parent),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [sys.executable, "-m", "lagkit.cli", "open", "saved.lagkit", "--no-browser"]
    with log.open("w") as stream:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield address_in(log, server), folder / "saved.ipynb"
    finally:
        server.terminate()
        server.wait(timeout=30)


def address_in(log: Path, server: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        found = re.search(
            r"http://127\.0\.0\.1:\d+/lab/tree/saved\.ipynb\?token=\w+", log.read_text()
        )
        if found:
            return found[0]
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def page(lab, tmp_path_factory):
    """Open the notebook, choose Run All, and wait until the last cell has ended."""
    address, notebook = lab
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as driver:
        run_all(driver, address, notebook)
        yield driver


def run_all(driver, address: str, notebook: Path) -> None:
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.expected_conditions import (
        element_to_be_clickable,
        presence_of_element_located,
    )
    from selenium.webdriver.support.ui import WebDriverWait

    # A workspace of its own: the shared one would also reopen what another page left open,
    # and Run All runs whichever notebook is in front.
    driver.get(address.replace("/lab/tree/", f"/lab/workspaces/{notebook.stem}/tree/"))
    patient = WebDriverWait(driver, RUN_SECONDS)
    patient.until(lambda d: d.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    # Before its kernel is up, Run All asks for a kernel instead of running.
    idle = (By.CSS_SELECTOR, '.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    patient.until(presence_of_element_located(idle), "its kernel was never idle")
    (menu,) = (
        item
        for item in driver.find_elements(By.CSS_SELECTOR, ".lm-MenuBar-item")
        if item.text == "Run"
    )
    menu.click()
    entry = (By.CSS_SELECTOR, '.lm-Menu-item[data-command="runmenu:run-all"]')
    patient.until(element_to_be_clickable(entry)).click()
    last = sum(cell.cell_type == "code" for cell in nbformat.read(notebook, as_version=4).cells)
    try:
        patient.until(lambda d: f"[{last}]:" in prompts(d) or error_outputs(d))
    except TimeoutException:
        words = driver.find_element(By.TAG_NAME, "body").text
        pytest.fail(f"Cell {last} never ended; {prompts(driver)}; the page says: {words[:1500]}")


def prompts(driver) -> list[str]:
    from selenium.webdriver.common.by import By

    return [
        element.get_attribute("textContent").strip()
        for element in driver.find_elements(By.CSS_SELECTOR, ".jp-InputPrompt")
    ]


def error_outputs(driver) -> list[str]:
    from selenium.webdriver.common.by import By

    found = driver.find_elements(
        By.CSS_SELECTOR,
        '.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"], '
        '.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]',
    )
    return [element.get_attribute("textContent")[:2000] for element in found]


def test_every_cell_runs_without_an_error(page):
    assert error_outputs(page) == []


def test_every_chart_is_drawn_by_plotly(page):
    assert charts_drawn(page, len(FIGURES)) >= len(FIGURES)


def charts_drawn(driver, wanted: int) -> int:
    """Wait for *wanted* charts, assert that there are no others, and return how many have ink."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def count(more: str = "") -> int:
        within = f".jp-OutputArea .js-plotly-plot{more}"
        return len(driver.find_elements(By.CSS_SELECTOR, within))

    WebDriverWait(driver, 60).until(lambda _driver: count() >= wanted)
    assert count() == wanted
    return count(" .main-svg")


def test_the_capacity_trend_runs_by_hand_on_its_bundled_weeks(lab, tmp_path):
    address, saved = lab
    notebook = saved.with_name("capacity.ipynb")
    shipped = nbformat.read(resource_path("notebooks/capacity.ipynb"), as_version=4)
    for cell in shipped.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(shipped, notebook)
    with browser.chromium(tmp_path / "chromium") as driver:
        run_all(driver, address.replace("saved.ipynb", notebook.name), notebook)
        assert error_outputs(driver) == []
        assert charts_drawn(driver, len(charts.FIGURES)) >= len(charts.FIGURES)


def test_no_request_leaves_the_machine(page):
    outside = [
        address
        for address in browser.requests_of(page)
        if not re.match(r"chrome://|(https?|ws)://127\.0\.0\.1[:/]|data:|blob:", address)
    ]
    assert outside == []


def test_a_screenshot_can_be_looked_at(page, tmp_path):
    folder = Path(os.environ.get("LAGKIT_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "jupyterlab.png"
    page.execute_script("document.querySelector('.js-plotly-plot').scrollIntoView(false)")
    page.save_screenshot(str(path))
    assert path.stat().st_size > 10_000

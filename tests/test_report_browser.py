"""The report in a real Chromium: silent, drawn, offline, and deaf to what labels say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import browser
import factories
import pytest

import lagkit as lk
from lagkit import report
from lagkit.render.html import render_html

DRAWN_SECONDS = 120
PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = 7


@dataclass(frozen=True)
class Opened:
    """A page as it stood when its charts had been drawn."""

    driver: Any
    console: list[dict[str, Any]]
    requests: list[str]
    address: str


def opened(driver: Any, folder: Path, text: str) -> Opened:
    """Open a report as a file and wait until it says that it has tried every chart."""
    from selenium.webdriver.support.ui import WebDriverWait

    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    browser.requests_of(driver)
    driver.get_log("browser")
    driver.get(path.as_uri())
    WebDriverWait(driver, DRAWN_SECONDS).until(
        lambda d: d.execute_script("return document.documentElement.dataset.charts !== undefined")
    )
    return Opened(driver, driver.get_log("browser"), browser.requests_of(driver), path.as_uri())


@pytest.fixture(scope="module")
def page(light, tmp_path_factory) -> Opened:
    text = render_html(report.build(factories.result()))
    return opened(light, tmp_path_factory.mktemp("page"), text)


def count(driver: Any, selector: str) -> int:
    return driver.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


def test_the_console_stays_empty(page):
    assert page.console == []


def test_no_request_leaves_the_file(page):
    assert [url for url in page.requests if not url.startswith(("data:", "blob:"))] == [
        page.address
    ]


def test_every_chart_is_drawn_in_place_of_its_picture(page):
    assert (
        page.driver.execute_script("return document.documentElement.dataset.chartError || null")
        is None
    )
    assert count(page.driver, "figure.upgraded .plot .main-svg") >= FIGURES
    assert count(page.driver, "path.js-line") >= 6
    assert count(page.driver, ".hm image, .heatmaplayer image") >= 2
    visible = page.driver.execute_script(
        "return [...document.querySelectorAll('.picture > svg')]"
        ".filter(s => getComputedStyle(s).display !== 'none').length"
    )
    assert visible == 0


def test_the_page_is_not_wider_than_the_screen(page):
    wide, inner = page.driver.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth]"
    )
    assert wide <= inner


def test_a_command_has_a_button_that_copies_it(page):
    assert count(page.driver, "pre.command + button.copy") == 3
    page.driver.execute_script("document.querySelector('button.copy').click()")
    selected = page.driver.execute_script("return getSelection().toString()")
    assert selected == "kubectl get pods -n awx"


def test_on_paper_the_static_pictures_stand_again(page):
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown, plots = page.driver.execute_script(
            "const on = s => [...document.querySelectorAll(s)]"
            ".filter(e => getComputedStyle(e).display !== 'none').length;"
            "return [on('.picture > svg'), on('.picture > .plot')]"
        )
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert (shown, plots) == (FIGURES, 0)


def test_a_screenshot_can_be_looked_at(page, shots):
    shot = browser.save_screenshot(page.driver, shots / "report-1200-light.png").read_bytes()
    assert shot.startswith(PNG)


def test_what_a_label_says_is_never_run(light, tmp_path):
    text = render_html(report.build(factories.hostile_result()))
    page = opened(light, tmp_path, text)
    title = light.title
    assert title != "ran"
    assert "<script>" in title  # the label is shown as the text it is
    assert page.console == []
    assert [url for url in page.requests if not url.startswith(("data:", "blob:"))] == [
        page.address
    ]
    assert count(light, "img[src='x'], a[href^='http']") == 0
    assert count(light, "figure.upgraded") == FIGURES


def test_a_report_without_data_is_silent_too(light, tmp_path):
    page = opened(light, tmp_path, render_html(report.build(factories.blind_result())))
    assert page.console == []
    assert count(light, "figure.upgraded") == FIGURES


def test_without_script_the_pictures_and_their_numbers_are_there(light, tmp_path):
    path = tmp_path / "static.html"
    path.write_text(render_html(report.build(factories.result()), interactive=False), "utf-8")
    light.get(path.as_uri())
    assert light.get_log("browser") == []
    assert count(light, ".picture > svg[role=img]") == FIGURES
    assert count(light, "figure ~ details table") == FIGURES


@pytest.mark.parametrize(("dark", "width"), [(True, 1200), (False, 390), (True, 390)])
def test_dark_and_narrow_screens_are_served(tmp_path, shots, dark, width):
    with browser.chromium(tmp_path / "profile", dark=dark, width=width) as driver:
        page = opened(driver, tmp_path, render_html(report.build(factories.result())))
        assert page.console == []
        wide, inner = driver.execute_script(
            "return [document.documentElement.scrollWidth, innerWidth]"
        )
        assert wide <= inner
        paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
        name = f"report-{width}-{'dark' if dark else 'light'}.png"
        assert browser.save_screenshot(driver, shots / name).read_bytes().startswith(PNG)


def test_the_demo_report_opens_silent_offline_and_drawn(light, tmp_path, shots):
    """The bundled incident, recorded from the lab, as `lagkit demo` writes it."""
    text = render_html(report.build(lk.investigate(lk.demo())))
    page = opened(light, tmp_path, text)
    assert page.console == []
    assert [url for url in page.requests if not url.startswith(("data:", "blob:"))] == [
        page.address
    ]
    assert count(light, "figure.upgraded .plot .main-svg") >= FIGURES
    assert "Slow processing" in light.execute_script("return document.body.innerText")
    browser.save_screenshot(light, shots / "demo-report.png")

"""The capacity page in a real Chromium: silent, offline, drawn, and deaf to what names say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from capacity.weeks import daily, history, outage, rows

from lagkit import capacity
from lagkit.capacity.charts import FIGURES
from lagkit.capacity.render import DRAWN, render_html

HOSTILE = '"><img src=x onerror="document.title=1"><script>document.title=1</script>'
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def demo() -> str:
    return render_html(capacity.trends(capacity.demo()))


def opened(driver: Any, folder: Path, text: str) -> str:
    """Open the page as a file, assert that it was silent and alone, and return its address."""
    path = folder / "capacity.html"
    path.write_text(text, encoding="utf-8")
    browser.requests_of(driver)
    driver.get_log("browser")
    driver.get(path.as_uri())
    assert driver.get_log("browser") == []
    assert [url for url in browser.requests_of(driver) if not url.startswith("data:")] == [
        path.as_uri()
    ]
    return path.as_uri()


def test_the_demo_opens_with_every_picture_drawn_inside_its_frame(light, tmp_path, shots, demo):
    opened(light, tmp_path, demo)
    pictures = light.execute_script(
        "return [...document.querySelectorAll('figure .picture > svg')].map(svg => {"
        "  const box = svg.getBoundingClientRect(), drawn = svg.getBBox();"
        "  return [svg.getAttribute('role'), (svg.getAttribute('aria-label') || '').length,"
        "          box.width, box.height, drawn.width, drawn.height,"
        "          svg.querySelectorAll('path, rect, line, polyline, polygon, circle').length]})"
    )
    assert len(pictures) % len(FIGURES) == 0
    assert 0 < len(pictures) <= DRAWN * len(FIGURES)
    for role, words, width, height, drawn_width, drawn_height, marks in pictures:
        assert (role, words > 40) == ("img", True)
        assert min(width, height) > 100
        assert min(drawn_width, drawn_height) > 50
        assert marks > 5
    assert browser.save_screenshot(light, shots / "capacity-1200-light.png").read_bytes()[:8] == PNG


def test_every_link_of_the_page_leads_somewhere_on_it(light, tmp_path, demo):
    opened(light, tmp_path, demo)
    links, lost = light.execute_script(
        "const links = [...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href'));"
        "return [links.length, links.filter(to => !document.getElementById(to.slice(1)))]"
    )
    assert links >= 8
    assert lost == []


def test_what_a_group_is_called_is_never_run(light, tmp_path):
    noisy = daily(8) * np.exp(np.random.default_rng(3).normal(0, 0.05, 8 * 168))
    read, lag = outage(noisy, 260.0, {500: 5, 1000: 4})
    found = capacity.trends(history(rows(noisy, read, lag, group=HOSTILE, topic=HOSTILE)))
    opened(light, tmp_path, render_html(found))
    assert light.title.startswith("Capacity trend")
    assert light.execute_script("return document.querySelectorAll('img, script').length") == 0
    assert HOSTILE in light.execute_script(
        "return document.querySelector('h2 ~ *, main').innerText"
    )


@pytest.mark.parametrize(("dark", "width"), [(True, 1200), (False, 390), (True, 390)])
def test_dark_and_narrow_screens_are_served(tmp_path, shots, demo, dark, width):
    with browser.chromium(tmp_path / "profile", dark=dark, width=width) as driver:
        opened(driver, tmp_path, demo)
        wide, inner = driver.execute_script(
            "return [document.documentElement.scrollWidth, innerWidth]"
        )
        assert wide <= inner
        paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
        name = f"capacity-{width}-{'dark' if dark else 'light'}.png"
        assert browser.save_screenshot(driver, shots / name).read_bytes().startswith(PNG)

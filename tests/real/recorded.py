"""Recorded pages as the past of a real Prometheus: promtool makes the blocks, a server answers.

A recording is one page, scraped SCRAPED times in hours of its own, with values that may change from
scrape to scrape; the pages are those in ``tests/data/scrapes`` or lines written in a test.
"""

from __future__ import annotations

import contextlib
import re
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lab import prometheus
from lab.install import Artifact, install
from lab.processes import Ledger, free_ports
from lagkit.config import HttpLogin, OwnDialect
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.prometheus import PrometheusSource

from .conftest import require

SCRAPES = Path(__file__).resolve().parent.parent / "data" / "scrapes"
DAY = int(pd.Timestamp("2026-01-05T00:00:00Z").timestamp())
HOUR = 3600
INTERVAL = 5
OFFSET = 1.3
"""Seconds from a multiple of the interval to the scrape."""
SCRAPED = 120

LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
Value = Callable[[int], float | str | None]


@dataclass(frozen=True)
class Recording:
    """One page scraped SCRAPED times from *start*; ``lines`` are in the exposition format."""

    start: int
    lines: tuple[str, ...]

    def scope(
        self,
        group: str,
        topics: tuple[str, ...] = (),
        scrapes: int = SCRAPED,
        runbook: Runbook | None = None,
    ) -> Scope:
        """Return the question about *group* over the first *scrapes* scrapes."""
        begin = pd.Timestamp(self.start, unit="s", tz="UTC")
        end = begin + pd.Timedelta(seconds=scrapes * INTERVAL)
        return Scope(group, topics, begin, end, runbook or Runbook(title="test"))


def series(start: int, name: str, labels: str, value: Value, offset: float = OFFSET) -> list[str]:
    """Return the lines of one series; no line where *value* gives None."""
    values = [(value(step), start + step * INTERVAL + offset) for step in range(SCRAPED)]
    return [f"{name}{{{labels}}} {number} {at}" for number, at in values if number is not None]


def recorded(
    hour: int,
    *scrapes: str,
    skip: range = range(0),
    more: str = "",
    only: str = "",
    rename: Callable[[str], str] = str,
    changing: Callable[[str, str, float], Value] | None = None,
) -> Recording:
    """Repeat recorded pages; the scrapes in *skip* did not take place.

    *more* are labels to add, *only* a pattern of the lines to take, *rename* gives a metric its
    name, and *changing* tells from name, labels and recorded value what a series is at each scrape.
    """
    start = DAY + hour * HOUR
    lines: list[str] = []
    for scrape in scrapes:
        target = f'job="{scrape}",instance="{scrape}:9000"'
        for line in (SCRAPES / f"{scrape}.prom").read_text(encoding="utf-8").splitlines():
            found = LINE.match(line)
            if found is None or not re.search(only, line):
                continue
            name, labels, text = found.groups()
            name = rename(name)
            number = float(text)
            value: Value = lambda _, number=number: number  # noqa: E731
            if changing is not None:
                value = changing(name, labels or "", number)
            lines += series(
                start,
                name,
                ",".join(part for part in (labels, target, more) if part),
                lambda step, value=value: None if step in skip else value(step),
            )
        lines += series(start, "up", target, lambda step: None if step in skip else 1)
    return Recording(start, tuple(lines))


def own(hour: int, *parts: tuple[str, str, Value], instance: str = "own:9000") -> Recording:
    """Write name, labels and value of each series of a page of one's own."""
    start = DAY + hour * HOUR
    target = f'job="own",instance="{instance}"'
    lines = [line for name, given, value in parts
             for labels in [",".join(filter(None, (given, target)))]
             for line in series(start, name, labels, value)]  # fmt: skip
    return Recording(start, tuple(lines))


def together(*recordings: Recording) -> Recording:
    """Return pages of the same hours in one."""
    lines = tuple(line for recording in recordings for line in recording.lines)
    return Recording(recordings[0].start, tuple(dict.fromkeys(lines)))


def in_openmetrics(text: str) -> str:
    """Escape a label value as the exposition format wants it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@contextlib.contextmanager
def serving(folder: Path, recordings: Iterable[Recording], *, rules: str = "") -> Iterator[str]:
    """Serve all recordings from one real Prometheus in *folder*; yield its address.

    *rules* are the content of a rule file: loaded, and evaluated from now on only.
    """
    parts = install(("prometheus",))
    require(parts, "prometheus")
    artifact = parts["prometheus"]
    assert isinstance(artifact, Artifact)
    lines = [line for recording in recordings for line in recording.lines]
    store = (
        prometheus.write_blocks(artifact, folder / "recorded", lines) if lines else folder / "tsdb"
    )
    (folder / "rules.yml").write_text(rules or "groups: []\n", encoding="utf-8")
    (folder / "prometheus.yml").write_text(
        "global: {}\nrule_files: [rules.yml]\n", encoding="utf-8"
    )
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    ledger = Ledger(folder / "lab")

    def ready() -> str | None:
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=2):
                return None
        except OSError as error:
            return str(error)

    ledger.start(
        "prometheus",
        [
            artifact.files["prometheus"],
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={store}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={address}",
        ],
        ready=ready,
        timeout=60,
    )
    try:
        yield f"http://{address}"
    finally:
        ledger.stop()


def ask(url: str, scope: Scope, own: Iterable[OwnDialect] = ()) -> Answer:
    """Fetch *scope* and return the answer, no question of which may have failed."""
    answer = PrometheusSource(url, HttpLogin(), own).fetch(scope, budget_seconds=60)
    failed = answer.queries[answer.queries["outcome"].isin(["failed", "timeout", "denied"])]
    assert failed.empty, failed[["statement", "detail"]].to_dict("records")
    return answer

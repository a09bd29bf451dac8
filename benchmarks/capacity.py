"""Eight weeks of 1,000 groups on topics, from a real Prometheus to the answer.

The floor is the server itself: the same questions asked again over plain HTTP, as many at a time,
their answers read and thrown away. Two servers' worth of caching is nobody's: each candidate's
rounds follow the other's in turn. What lagkit keeps on disk is switched off.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import harness
from lab import prometheus
from lab.install import Artifact, install
from lab.processes import Ledger, free_ports

WEEKS, QUICK_WEEKS = 8, 3
GROUPS, QUICK_GROUPS = (10, 100, 1_000), (2, 8, 32)
GROUPS_A_TOPIC = 10
SCRAPE_SECONDS, QUICK_SCRAPE_SECONDS = 900, 1800
"""A store of 1,000 groups scraped every 30 s would be 240 million samples to write first."""
END = pd.Timestamp("2026-11-02T00:00:00Z")
MOST_ROUNDS = 3
RATIO, EXPONENT, MOST_BYTES = 1.5, 1.05, 1024**3
FETCH, WHOLE, SERVER = "lagkit, to frames", "lagkit, to the answer", "the server alone"


def lines(groups: int, weeks: int, scrape: int) -> Iterator[str]:
    """Yield the samples of so many groups; ten read each topic, each was behind twice."""
    count = weeks * 7 * 86400 // scrape
    at = (int(END.timestamp()) - count * scrape + (np.arange(count) + 1) * scrape).tolist()
    seconds = np.arange(count) * scrape
    shape = (1 + 0.5 * np.sin(seconds / 86400 * 2 * np.pi)) * (1 + 0.02 * seconds / 604800)
    rng = np.random.default_rng(1)
    for topic in range(math.ceil(groups / GROUPS_A_TOPIC)):
        rate = (5 + topic % 50) * shape * np.exp(rng.normal(0, 0.05, count))
        end = np.cumsum(rate * scrape)
        log = f'topic="topic-{topic}",partition="0",job="otel"'
        yield from _series("kafka_partition_current_offset", log, at, end)
        for member in range(min(GROUPS_A_TOPIC, groups - topic * GROUPS_A_TOPIC)):
            walk = rate - 2.5 * (5 + topic % 50)
            for first in rng.integers(count // 8, count - count // 8, 2):
                walk[first : first + 4 * 3600 // scrape] = rate[first : first + 4 * 3600 // scrape]
            total = np.concatenate([[0.0], np.cumsum(walk * scrape)])
            lag = (total - np.minimum.accumulate(total))[1:]
            own = f'group="group-{topic}-{member}",{log}'
            yield from _series("kafka_consumer_group_offset", own, at, end - lag)
            yield from _series("kafka_consumer_group_lag", own, at, lag)


def _series(name: str, labels: str, at: list[int], values: np.ndarray) -> Iterator[str]:
    head = f"{name}{{{labels}}} "
    for moment, value in zip(at, values.tolist(), strict=True):
        yield f"{head}{value:.0f} {moment}"


def read(url: str, weeks: int) -> Any:
    """Return the history, as the command reads it."""
    from lagkit.capacity.capture import capture
    from lagkit.config import Settings

    settings = Settings(prometheus=url, cluster="benchmark")
    return capture((), since=f"{weeks}w", end=END.isoformat(), settings=settings, keep=False)


def whole(url: str, weeks: int) -> Any:
    """Return a callable that reads and answers; for the memory of a process of its own."""
    from lagkit.capacity.outlook import trends

    return lambda: trends(read(url, weeks))


def questions(history: Any) -> list[dict[str, str]]:
    """Return every range query that the history was made of, as form fields."""
    pattern = re.compile(r"query_range (.*) start=(\d+) end=(\d+) step=(\d+)", re.DOTALL)
    found = [pattern.fullmatch(text) for text in history.queries["statement"]]
    return [
        dict(zip(("query", "start", "end", "step"), match.groups(), strict=True))
        for match in found
        if match
    ]


def server_alone(url: str, asked: list[dict[str, str]]) -> None:
    """Ask the same questions, as many at a time as lagkit, and throw the answers away."""
    from lagkit.sources.prometheus.long_range import AT_ONCE

    def ask(fields: dict[str, str]) -> None:
        body = urllib.parse.urlencode(fields).encode()
        with urllib.request.urlopen(f"{url}/api/v1/query_range", data=body, timeout=600) as answer:
            while answer.read(1 << 20):
                pass

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, asked))


def measure(*, rounds: int, quick: bool = False) -> harness.Row:
    """Return the row; *quick* takes a few groups and weeks.

    Raises
    ------
    harness.Missing
        Prometheus cannot be had.
    """
    from lagkit.capacity.outlook import trends

    part = install(["prometheus"])["prometheus"]
    if not isinstance(part, Artifact):
        msg = f"prometheus: {part.reason}. To do: {part.hint}"
        raise harness.Missing(msg)
    rounds = min(rounds, MOST_ROUNDS)
    sizes = QUICK_GROUPS if quick else GROUPS
    weeks = QUICK_WEEKS if quick else WEEKS
    scrape = QUICK_SCRAPE_SECONDS if quick else SCRAPE_SECONDS
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ledger = Ledger(folder / "lab")
        try:
            urls = {}
            for size in sizes:
                place = folder / f"of-{size}"
                store = prometheus.write_blocks(
                    part, place, lines(size, weeks, scrape), longest="1458h"
                )
                (place / "samples.txt").unlink()
                (port,) = free_ports(1)
                urls[size] = prometheus.start_recorded(ledger, part, port, store)
            most = urls[sizes[-1]]
            asked = questions(read(most, weeks))
            told: list[float] = []

            def to_answer() -> None:
                history = read(most, weeks)
                began = time.perf_counter()
                trends(history)
                told.append(time.perf_counter() - began)

            seconds = harness.paired(
                {
                    FETCH: lambda: read(most, weeks),
                    SERVER: lambda: server_alone(most, asked),
                    WHOLE: to_answer,
                },
                rounds=rounds,
                warm_up=not quick,
            )
            growth = harness.paired(
                {str(size): lambda size=size: trends(read(urls[size], weeks)) for size in sizes},
                rounds=rounds,
                warm_up=False,
            )
            peak = harness.peak_bytes("benchmarks.capacity:whole", most, weeks)
        finally:
            ledger.stop()
    # from the middle to the largest: below, what every run costs is most of it
    middle, largest = sizes[-2], sizes[-1]
    factor = math.log(largest / middle)
    exponents = [
        math.log(large / small) / factor
        for large, small in zip(growth[str(largest)], growth[str(middle)], strict=True)
    ]
    exponents.sort()
    exponent = harness.Ratio(exponents[len(exponents) // 2], exponents[0], exponents[-1])
    return harness.Row(
        work=f"{weeks} weeks of {sizes[-1]} groups on topics (scraped every {scrape} s), from a "
        f"real Prometheus, {len(asked)} range queries.",
        seconds=seconds
        | {f"{size} groups, to the answer": growth[str(size)] for size in sizes}
        | {"of it the trends": told[-rounds:]},
        claims=[
            harness.Claim(
                "to frames, of the server's own time for the same queries",
                harness.ratio(seconds[FETCH], seconds[SERVER]),
                RATIO,
            ),
            harness.Claim(
                f"growth from {middle} to {largest} groups, exponent",
                exponent,
                EXPONENT,
                unit="",
            ),
            harness.Claim(
                "peak memory", harness.single(peak / harness.MIB), MOST_BYTES / harness.MIB,
                unit="MiB",
            ),
        ],
        peak_bytes={WHOLE: peak},
        notes=[f"{rounds} rounds of this row; {len(asked)} range queries each."],
    )  # fmt: skip

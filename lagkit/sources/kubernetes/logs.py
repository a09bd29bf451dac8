"""Logs: which are worth reading, and their lines as rows. Bounded by time, lines and bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from lagkit.sources.kubernetes.rows import CONSUMER, moment

Json = Mapping[str, Any]

LOG_PODS = 200
"""Pods of one role whose logs are read; a group with more members has more partitions than most."""
LOG_LINES = 20_000
"""Lines of one role, shared among its logs: what a notebook shows and a report quotes from."""
LOG_TAIL_MOST = {CONSUMER: 400}
LOG_TAIL_MOST_OTHER = 100
LOG_TAIL_LEAST = 50
LOG_BYTES = 256 * 1024
LOG_TRANSFER_BYTES = 4 * 2**20
"""``limitBytes`` keeps the *oldest* bytes of the tail, so more is asked for and cut here."""
LOG_LEAD = pd.Timedelta(minutes=15)
LINE_LIMIT = 2000

_LEVEL = re.compile(
    r"""\b(?P<upper>FATAL|CRITICAL|PANIC|SEVERE|ERROR|WARNING|WARN|INFO|DEBUG|TRACE)\b
      | \b(?:level|lvl|severity)["']?\s*[:=]\s*["']?(?P<key>[A-Za-z]+)
      | \[(?P<bracket>fatal|critical|error|warning|warn|info|debug|trace)\]
      | ^%(?P<syslog>[0-7])\|
      | ^(?P<klog>[FEWI])\d{4}\s""",
    re.VERBOSE,
)
_LEVEL_WITHIN = 200
"""A level stands at the beginning of a line; further on it is somebody's text."""
_LEVELS: Mapping[str, str] = {
    "fatal": "ERROR",
    "critical": "ERROR",
    "panic": "ERROR",
    "severe": "ERROR",
    "error": "ERROR",
    "err": "ERROR",
    "warning": "WARNING",
    "warn": "WARNING",
    "info": "INFO",
    "debug": "DEBUG",
    "trace": "DEBUG",
    "f": "ERROR",
    "e": "ERROR",
    "w": "WARNING",
    "i": "INFO",
    # librdkafka writes the syslog level first: %3|1764.123|FAIL|…
    "0": "ERROR",
    "1": "ERROR",
    "2": "ERROR",
    "3": "ERROR",
    "4": "WARNING",
    "5": "INFO",
    "6": "INFO",
    "7": "DEBUG",
}
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?")


def telling_pods(rows: Iterable[Json], most: int) -> list[tuple[str, str]]:
    """Return at most *most* pods (namespace, name): crashed and restarted first, then a spread.

    The spread takes every n-th of the calm pods by name, so that no node or revision is favoured.
    """
    trouble: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        name = (row["namespace"], row["pod"])
        crashed = int(row.get("state") in ("waiting", "terminated") or not row.get("ready"))
        worst = trouble.get(name, (0, 0))
        trouble[name] = (max(worst[0], crashed), worst[1] + int(row.get("restart_count") or 0))
    loud = sorted(
        (name for name, worth in trouble.items() if worth != (0, 0)),
        key=lambda name: (-trouble[name][0], -trouble[name][1], name),
    )
    calm = sorted(name for name, worth in trouble.items() if worth == (0, 0))
    room = max(0, most - len(loud))
    if room and len(calm) > room:
        calm = [calm[index * len(calm) // room] for index in range(room)]
    return [*loud, *calm][:most]


def logs_worth_reading(row: Json, since: pd.Timestamp) -> list[bool]:
    """Return which logs of a container exist: [False] current, [True] previous, both or neither.

    While a crashed container waits for its restart, "current" is the log of the crashed one; it is
    read as previous, once.
    """
    if not row.get("restart_count"):
        return [] if row.get("state") in (None, "waiting") else [False]
    ended = row.get("last_finished_at")
    fresh = ended is None or ended >= since
    if row.get("state") == "waiting":
        return [True] if fresh else []
    return [False, True] if fresh else [False]


def tail_of(role: str, logs: int) -> int:
    """Return how many lines of each of the *logs* of *role* are asked for."""
    most = LOG_TAIL_MOST.get(role, LOG_TAIL_MOST_OTHER)
    return max(LOG_TAIL_LEAST, min(most, LOG_LINES // max(1, logs)))


def level_of(line: str) -> str | None:
    """Return ERROR, WARNING, INFO or DEBUG where the beginning of *line* says so."""
    match = _LEVEL.search(line[:_LEVEL_WITHIN])
    if match is None:
        return None
    word = next(value for value in match.groupdict().values() if value)
    return _LEVELS.get(word.lower())


def log_rows(
    body: bytes, pod: Json, previous: bool, at: pd.Timestamp, query_id: str
) -> tuple[list[dict[str, Any]], str]:
    """Return rows of ``logs`` from the newest ``LOG_BYTES`` of *body*, and what was cut.

    Bad bytes become U+FFFD. A line without a time of its own takes that of the line before, or
    *at*.
    """
    cut = ""
    if len(body) > LOG_BYTES:
        cut = f"cut: the newest {LOG_BYTES // 1024} of {len(body) // 1024} KiB"
        body = body[-LOG_BYTES:].partition(b"\n")[2]
    rows = []
    stamp = at
    for number, line in enumerate(body.decode("utf-8", "replace").split("\n")):
        match = _STAMP.match(line)
        text = line[match.end() :] if match else line
        text = text.rstrip("\r")
        if not text.strip():
            continue
        if match:
            stamp = moment(match.group(1)) or stamp
        rows.append(
            {
                "timestamp": stamp,
                "namespace": pod["namespace"],
                "pod": pod["pod"],
                "container": pod["container"],
                "role": pod["role"],
                "previous": previous,
                "line_number": number,
                "level": level_of(text),
                "message": text[:LINE_LIMIT],
                "query_id": query_id,
            }
        )
    return rows, cut

"""What a server has for rules: metric names, the dialects in them, cluster labels, rules, storage.

Asked once and about the last hour, not about an incident; it judges nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lagkit.sources import Deadline, http
from lagkit.sources.dialects import (
    CLUSTER_LABELS,
    DIALECTS,
    Dialect,
    Found,
    asked_for,
    detect,
    looked_for,
    own_dialects,
    silent,
)
from lagkit.sources.http import HttpFailure
from lagkit.sources.prometheus.server import Server

if TYPE_CHECKING:
    from lagkit.config import HttpLogin, OwnDialect

LOOKBACK_SECONDS = 3600
_KEPT = re.compile(r"(\d+)(ms|[smhdwy])")
_UNITS = {"ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}


class Unreadable(Exception):
    """The server gave no usable answer; *fix* says what to do, if that is known."""

    def __init__(self, text: str, fix: str = "") -> None:
        super().__init__(text)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Survey:
    """What one server has."""

    place: str
    """Its address, fit to be shown."""
    names: frozenset[str]
    """Metric names of the last hour: every name for ``everything``, else those of dialects."""
    found: tuple[Found, ...] = ()
    """Dialects that tell a group, the best first."""
    cluster_labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """Consumer groups of the best dialect."""
    mute: tuple[str, ...] = ()
    """Exporters that run and tell no group."""
    looked_for: tuple[str, ...] = ()
    kept_seconds: float | None = None
    """How long the server keeps samples, if it says so."""
    rules: Any = None
    """The answer of /api/v1/rules; None where there is none."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Metric → type, as exporters declare it."""


def survey(
    url: str,
    login: HttpLogin,
    own: Iterable[OwnDialect] = (),
    *,
    budget_seconds: float,
    everything: bool = False,
) -> Survey:
    """Ask the server at *url*; with *everything* also for all names, types and its rules.

    Raises
    ------
    Unreadable
        It cannot be reached, refuses, or is no Prometheus API.
    UsageError
        One of *own* has the id of a dialect that lagkit knows.
    """
    dialects = (*own_dialects(own), *DIALECTS)
    try:
        server = Server(url, login)
    except Exception as error:  # an address or certificate of any shape
        text = f"{http.public_url(url)} cannot be used: {type(error).__name__}: {error}"
        raise Unreadable(text, "Check the address.") from None
    deadline = Deadline(budget_seconds)
    try:
        return _survey(server, http.public_url(url), dialects, deadline, everything=everything)
    except HttpFailure as failure:
        raise Unreadable(str(failure), failure.fix) from None
    except Exception as error:  # an answer of another shape than Prometheus gives
        text = (
            f"{http.public_url(url)} answered in a shape that Prometheus does not give: {error!r}"
        )
        raise Unreadable(text[: http.EXCERPT_CHARACTERS]) from None
    finally:
        server.close()


def _survey(
    server: Server,
    place: str,
    dialects: tuple[Dialect, ...],
    deadline: Deadline,
    *,
    everything: bool,
) -> Survey:
    now = time.time()
    bounds = {"start": f"{now - LOOKBACK_SECONDS:.0f}", "end": f"{now:.0f}"}
    match = {} if everything else {"match[]": f'{{__name__=~"{asked_for(dialects)}"}}'}
    path = "label/__name__/values"
    try:
        names = _list(server, path, {**bounds, **match}, deadline)
    except HttpFailure as failure:
        if everything or failure.status not in {400, 404, 422}:
            raise
        names = _list(server, path, bounds, deadline)
    known = frozenset(name for name in names if isinstance(name, str))
    found = detect(known, dialects)
    speaking = sorted(
        (one for one in found if one.group_metrics),
        key=lambda one: (-one.fineness, -one.richness, found.index(one)),
    )
    titles = [one.dialect.title for one in found if not one.group_metrics]
    mute = (*titles, *(() if speaking else silent(known, dialects)))
    rules, types = None, {}
    if everything:
        rules = server.ask("rules", {}, deadline, post=False).data
        types = _types(_page(server, "metadata", deadline))
    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    if speaking:
        labels, groups = _labels_and_groups(server, speaking[0], bounds, deadline)
    return Survey(
        place,
        known,
        tuple(speaking),
        labels,
        groups,
        tuple(dict.fromkeys(mute)),
        looked_for(dialects),
        _kept(_page(server, "status/runtimeinfo", deadline)),
        rules,
        types,
    )


def _labels_and_groups(
    server: Server, found: Found, bounds: Mapping[str, str], deadline: Deadline
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    labels: set[str] = set()
    groups: set[str] = set()
    for name in found.group_metrics:
        match = {**bounds, "match[]": name}
        labels |= set(_list(server, "labels", match, deadline))
        path = f"label/{found.dialect.group}/values"
        groups |= set(map(str, _list(server, path, match, deadline)))
    return tuple(label for label in CLUSTER_LABELS if label in labels), tuple(sorted(groups))


def _list(server: Server, path: str, fields: Mapping[str, str], deadline: Deadline) -> list[Any]:
    data = server.ask(path, fields, deadline, post=False).data
    if not isinstance(data, list):
        msg = f"{path} is no list"
        raise TypeError(msg)
    return data


def _page(server: Server, path: str, deadline: Deadline) -> Any:
    """Ask for a page that not every server has; None where there is none."""
    try:
        return server.ask(path, {}, deadline, post=False).data
    except HttpFailure:
        return None


def _types(data: Any) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, entries in data.items() if isinstance(data, dict) else ():
        kinds = {entry.get("type") for entry in entries if isinstance(entry, dict)}
        if len(kinds) == 1 and isinstance(kind := kinds.pop(), str):
            told[name] = kind
    return told


def _kept(data: Any) -> float | None:
    """Return the retention that Prometheus tells, such as ``15d`` or ``15d or 10GiB``."""
    text = data.get("storageRetention") if isinstance(data, dict) else None
    first = str(text or "").split(" or ", 1)[0].strip()
    parts = _KEPT.findall(first)
    if not parts or "".join(a + b for a, b in parts) != first:
        return None
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))

"""The connection to a server of the Prometheus query API, and its answers checked.

It knows how such a server says yes, no, "partly" and "not here", and no query. What is no answer of
this API, a login page or a redirect included, is a failure with a sentence and never a result.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lagkit.sources import Deadline, http
from lagkit.sources.http import HttpFailure, TooLarge
from lagkit.sources.prometheus import wire

if TYPE_CHECKING:
    import requests
    from prometheus_api_client import PrometheusConnect

    from lagkit.config import HttpLogin

CODES_TRYING_GET = frozenset({403, 405, 501})
"""What proxies that let only GET through answer to a POST (403: Kubernetes service proxy)."""
AT_ONCE = 4
"""Requests on their way at a time: a server that everyone's dashboards need is left the rest."""
TIMED = frozenset({"query", "query_range"})
"""Where the API takes a ``timeout``: the server stops working on what nobody waits for any more."""
TOO_MUCH = re.compile(
    r"exceeded maximum resolution|too many (?:samples|points|chunks|series)"
    r"|-search\.max(?:Points|Samples|UniqueTimeseries|Memory)|not enough memory"
    r"|maximum number of (?:samples|series|chunks|bytes)|time range exceeds"
    r"|exceeded (?:samples|series|chunks|bytes) limit|response too large|message larger than max",
    re.IGNORECASE,
)
"""How Prometheus, Thanos, Mimir and VictoriaMetrics refuse what a smaller question would not be."""
PAYLOAD_TOO_LARGE = 413
BAD_REQUEST = 400
NO_LOGIN = re.compile(r"auth token|\bauthori[sz]ation\b", re.IGNORECASE)
"""How vmauth refuses a token that it does not know: as a bad request."""
NOT_FOUND = 404
LOGIN_FIX = (
    "Look at [prometheus_login] in lagkit.toml: bearer_token or bearer_token_file, username and "
    "password, and headers (X-Scope-OrgID)."
)
PREFIX_FIX = (
    "Give the address of the API with its path prefix, what stands before /api/v1: /prometheus of "
    "Mimir, /select/0/prometheus of VictoriaMetrics' cluster, none of Prometheus and Thanos."
)
NOTES = ("warnings", "infos")
INCOMPLETE = re.compile(r"partial|truncat|limit|unreachable|unavailable|incomplete", re.IGNORECASE)
"""How Prometheus, Thanos and Mimir say in a warning that something is missing."""
PARTIAL_FLAG = "the server says that its answer is partial (isPartial)"
"""VictoriaMetrics' cluster says so beside the data where Thanos and Mimir warn."""
_SURROGATE = b"\\ud"


@dataclass(frozen=True, slots=True)
class Page:
    """A good answer: its ``data``, what the server said beside it, and which of that is a loss."""

    data: Any
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


class Server:
    """The connection, its answers checked: form-encoded POST, or GET where it must be."""

    def __init__(self, url: str, login: HttpLogin) -> None:
        from prometheus_api_client import PrometheusConnect

        self._session: requests.Session = http.build_session(login)
        self._connection: PrometheusConnect = PrometheusConnect(
            url=url.rstrip("/"), session=self._session, retry=http.retry(), method="POST"
        )
        self._method = "POST"
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._clocks: list[tuple[float, float]] = []

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def ask(
        self, path: str, fields: Mapping[str, Any], deadline: Deadline, *, post: bool = True
    ) -> Page:
        """Return the answer of the API at *path*.

        Arrays of samples are :class:`~lagkit.sources.prometheus.wire.Span`. AT_ONCE calls are
        under way at a time; the others wait.

        Raises
        ------
        TooLarge
            The server, or lagkit, takes no more in one answer.
        HttpFailure
            No answer, a refusal, an error of the query, or no answer of this API.
        """
        if not self._turns.acquire(timeout=deadline.left()):
            text = f"not asked: the other questions took the budget of {deadline.seconds:g} s"
            raise HttpFailure(text, outcome="timeout")
        try:
            return self._ask(path, fields, deadline, post=post)
        finally:
            self._turns.release()

    def _ask(self, path: str, fields: Mapping[str, Any], deadline: Deadline, *, post: bool) -> Page:
        if path in TIMED:
            fields = {**fields, "timeout": f"{max(1, math.ceil(deadline.left()))}s"}
        method = self._method if post else "GET"
        reply = self._exchange(method, path, fields, deadline)
        if method == "POST" and reply.status in CODES_TRYING_GET:
            second = self._exchange("GET", path, fields, deadline)
            if second.status not in CODES_TRYING_GET:
                self._method = "GET"
            reply = second
        return _page(reply, f"{self._connection.url}/api/v1/{path}")

    def _exchange(
        self, method: str, path: str, fields: Mapping[str, Any], deadline: Deadline
    ) -> http.Reply:
        connection = self._connection
        reply = http.ask(
            self._session,
            method,
            f"{connection.url}/api/v1/{path}",
            deadline=deadline,
            data=fields if method == "POST" else None,
            params=fields if method == "GET" else None,
            headers=connection.headers,
            auth=connection.auth,
            verify=self._session.verify,
            cert=self._session.cert,
        )
        skew = reply.clock_skew_seconds(time.time())
        if skew is not None:
            self._clocks.append((reply.seconds, skew))
        return reply

    @property
    def clock_skew_seconds(self) -> float | None:
        """How far the server's clock is ahead of ours, by its quickest answer; None: not told."""
        return min(self._clocks)[1] if self._clocks else None


def _page(reply: http.Reply, url: str) -> Page:
    place = http.public_url(url)
    status = reply.status
    if reply.location:
        text = f"{place} points to {reply.location} instead of answering; give that address"
        raise HttpFailure(text, status=status)
    try:
        answer = wire.parse(reply.body)
    except (ValueError, RecursionError):
        answer = None
    if _SURROGATE in reply.body.lower():
        answer = _well_formed(answer)
    stated = answer if isinstance(answer, dict) else {}
    refused = status == BAD_REQUEST and NO_LOGIN.search(http.excerpt(reply.body))
    if status in {401, 403} or (refused and not stated):
        text = f"{place} refused the login (HTTP {status}): {http.excerpt(reply.body)}"
        raise HttpFailure(text, outcome="denied", status=status, fix=LOGIN_FIX)
    if stated.get("status") == "error":
        kind, error = str(stated.get("errorType", "error")), str(stated.get("error", ""))
        text = f"HTTP {status}, {kind}: {http.excerpt(error.encode('utf-8', 'replace'))}"
        if TOO_MUCH.search(error):
            raise TooLarge(text, status=status)
        raise HttpFailure(text, outcome="timeout" if kind == "timeout" else "failed", status=status)
    if status >= 300:
        text = f"{place} answered HTTP {status}: {http.excerpt(reply.body)}"
        if status == PAYLOAD_TOO_LARGE:
            raise TooLarge(text, status=status)
        raise HttpFailure(text, status=status, fix=PREFIX_FIX if status == NOT_FOUND else "")
    if stated.get("status") != "success" or "data" not in stated:
        text = f"{place} is no Prometheus API; it said: {http.excerpt(reply.body)}"
        raise HttpFailure(text, status=status, fix=PREFIX_FIX)
    warnings, infos = ([_line(note) for note in stated.get(kind) or ()] for kind in NOTES)
    losses = [note for note in warnings if INCOMPLETE.search(note)]
    if stated.get("isPartial") is True:
        losses.append(PARTIAL_FLAG)
    notes = dict.fromkeys([*warnings, *losses, *infos])
    return Page(stated["data"], tuple(notes), tuple(losses))


def _line(note: object) -> str:
    return http.excerpt(str(note).encode("utf-8", "replace"))


def _well_formed(value: Any) -> Any:
    """Return *value* with ``?`` for the halves of characters, which no file can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in value.items()}
    return value

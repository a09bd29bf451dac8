"""Questions of one's own about what the consumer waits for: JSON over HTTP, and PromQL.

A probe reads one value out of a JSON answer by a JMESPath expression and compares it; a latency is
a PromQL query over the window, whose course before and after the onset tells whether calls got
slower. Both stand in ``lagkit.toml``. Knows how to ask and to compare; no cause.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pandas as pd

from lagkit.comparison import Comparison, number_of
from lagkit.sources import Blind, Deadline, Outcome, Questions, Scope
from lagkit.sources.http import HttpFailure, ask, build_session, excerpt, public_url

if TYPE_CHECKING:
    from lagkit.config import HttpLogin, Latency, Probe

PROBE_SECONDS = 5.0
MOST_BYTES = 5 * 2**20
DETAIL_LIMIT = 300
LATENCY = "latency"
"""The check's name of a row that holds a latency out of Prometheus."""
POINTS = 240
"""Points of a latency over the window: every 15 s of an hour, which is a scrape interval."""
LEAST_STEP_SECONDS = 15
LOGIN_FIX = "Look at [prometheus_login] in lagkit.toml: latencies are asked for with it."


def read_probe(
    probe: Probe, login: HttpLogin, deadline: Deadline, questions: Questions
) -> tuple[dict[str, Any], list[Blind]]:
    """Ask *probe* once; return its row of ``downstream`` and what could not be seen."""
    shown = public_url(probe.url)
    row: dict[str, Any] = {
        "timestamp": pd.Timestamp.now("UTC"),
        "target": probe.name,
        "check": probe.expression[:100],
        "url": shown,
        "ok": False,
        "unit": probe.unit or None,
    }
    blind: list[Blind] = []
    with questions.ask(f"GET {shown} | {probe.expression}") as question:
        row["query_id"] = question.query_id
        try:
            reply = ask(
                build_session(login),
                "GET",
                probe.url,
                deadline=deadline,
                at_most_seconds=PROBE_SECONDS,
                most_bytes=MOST_BYTES,
            )
            row["status_code"], row["latency_seconds"] = reply.status, reply.seconds
            if reply.location:
                text = f"HTTP {reply.status}: redirects to {reply.location}"
                raise HttpFailure(text, status=reply.status)
            if not 200 <= reply.status < 300:
                outcome: Outcome = "denied" if reply.status in (401, 403) else "failed"
                text = f"HTTP {reply.status}: {excerpt(reply.body)}"
                raise HttpFailure(text, outcome=outcome, status=reply.status)
            value = _value(reply.body, probe.expression)
        except HttpFailure as failure:
            question.outcome, question.detail = failure.outcome, str(failure)
            row["status_code"] = failure.status
            row["detail"] = str(failure)[:DETAIL_LIMIT]
            fix = ""
            if failure.outcome == "denied":
                fix = f"Set downstream_login.{probe.name} in lagkit.toml."
            blind.append(Blind(f"probe {probe.name}", str(failure)[:DETAIL_LIMIT], fix))
            return row, blind
        question.rows = 1
        row["value"] = number_of(value)
        row["ok"] = Comparison.parse(probe.healthy).holds(value)
        told = json.dumps(value, sort_keys=True, ensure_ascii=False)
        wanted = probe.healthy or "something"
        row["detail"] = f"{probe.expression} is {told}, healthy is {wanted}"[:DETAIL_LIMIT]
    return row, blind


def _value(body: bytes, expression: str) -> Any:
    """Return what *expression* finds in a JSON *body*; HttpFailure if it finds nothing."""
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        value = jmespath.search(expression, json.loads(body))
    except JMESPathError as error:  # a ValueError too, so it comes first
        text = f"{expression} cannot be applied to the answer: {error}"
        raise HttpFailure(text[:DETAIL_LIMIT]) from None
    except (ValueError, RecursionError):
        text = f"not JSON: {excerpt(body)}"
        raise HttpFailure(text) from None
    if value is None:
        text = f"{expression} finds nothing in the answer: {excerpt(body)}"
        raise HttpFailure(text[:DETAIL_LIMIT])
    return value


def read_latency(
    latency: Latency,
    prometheus: str,
    login: HttpLogin,
    scope: Scope,
    deadline: Deadline,
    questions: Questions,
) -> tuple[list[dict[str, Any]], list[Blind]]:
    """Read *latency* over the window of *scope*; return rows of ``downstream`` and blind spots."""
    step = max(LEAST_STEP_SECONDS, int((scope.end - scope.start).total_seconds() / POINTS))
    query = {
        "query": latency.query,
        "start": scope.start.timestamp(),
        "end": scope.end.timestamp(),
        "step": step,
    }
    url = prometheus.rstrip("/") + "/api/v1/query_range"
    with questions.ask(f"GET {public_url(url)}?{urlencode({'query': latency.query})}") as question:
        try:
            reply = ask(
                build_session(login),
                "GET",
                url,
                params=query,
                deadline=deadline,
                at_most_seconds=PROBE_SECONDS,
                most_bytes=MOST_BYTES,
            )
            if reply.status in (401, 403):
                text = f"HTTP {reply.status}: {excerpt(reply.body)}"
                raise HttpFailure(text, outcome="denied", status=reply.status, fix=LOGIN_FIX)
            samples = _samples(reply.status, reply.body)
        except HttpFailure as failure:
            question.outcome, question.detail = failure.outcome, str(failure)
            what, fix = (
                f"latency of {latency.name}",
                failure.fix or "Mend its query in lagkit.toml.",
            )
            return [], [Blind(what, str(failure)[:DETAIL_LIMIT], fix)]
        question.rows = len(samples)
        rows = [
            {
                "timestamp": pd.Timestamp(at, unit="s", tz="UTC"),
                "target": latency.name,
                "check": LATENCY,
                "url": public_url(url),
                "ok": True,
                "value": value,
                "unit": "seconds",
                "query_id": question.query_id,
            }
            for at, value in samples
        ]
    return rows, []


def _samples(status: int, body: bytes) -> list[tuple[float, float]]:
    """Return the finite samples of the only series in a ``query_range`` answer.

    Raises
    ------
    HttpFailure
        The answer is no range, or has more than one series.
    """
    try:
        document = json.loads(body)
        if document.get("status") != "success":
            text = f"HTTP {status}: {excerpt(str(document.get('error')).encode())}"
            raise HttpFailure(text, status=status)
        result = document["data"]["result"]
        if len(result) > 1:
            text = f"{len(result)} series; aggregate them to one, e.g. by sum by (le) (…)"
            raise HttpFailure(text, status=status)
        values = [(float(at), float(text)) for series in result for at, text in series["values"]]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        outcome: Outcome = "denied" if status in (401, 403) else "failed"
        text = f"HTTP {status}, and no range of samples: {excerpt(body)}"
        raise HttpFailure(text, outcome=outcome, status=status) from None
    # a quantile over no requests is NaN: nothing was called, which is no latency
    return [(at, value) for at, value in values if math.isfinite(value)]

"""Questions of one's own about what a group waits for, answered well, badly and not at all."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from http_stub import Asked, Handler, serving
from pydantic import SecretStr, ValidationError

from lagkit.comparison import Comparison, number_of
from lagkit.config import HttpLogin, Latency, Probe
from lagkit.runbook import Group, Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.downstream import DownstreamSource

END = pd.Timestamp("2026-11-23T12:00:00Z")
SCOPE = Scope("g", (), END - pd.Timedelta("1h"), END, Runbook(title="t", groups=(Group(name="g"),)))
HEALTH = {"queue": {"depth": 250, "name": "jobs"}, "workers": [{"up": True}, {"up": False}]}


def probe(url: str, expression: str = "queue.depth", healthy: str = "< 100") -> Probe:
    return Probe(name="queue", url=url, expression=expression, healthy=healthy, unit="jobs")


def read(
    *probes: Probe,
    login: HttpLogin | None = None,
    latencies: tuple[Latency, ...] = (),
    prometheus: str = "",
) -> Answer:
    source = DownstreamSource(
        {},
        {"queue": login} if login else {},
        probes=probes,
        latencies=latencies,
        prometheus=prometheus,
    )
    return source.fetch(SCOPE, budget_seconds=3)


# -- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "healthy", "ok", "value"),
    [
        ("queue.depth", "< 100", False, 250.0),
        ("queue.depth", ">= 250", True, 250.0),
        ("length(workers[?up])", "== 1", True, 1.0),
        ("queue.name", "== jobs", True, None),
        ("queue.name", '== "jobs"', True, None),
        ("queue.name", "!= jobs", False, None),
        ("queue.name", "< 3", False, None),
        ("workers[1].up", "", False, None),
        ("workers[0].up", "== true", True, None),
        ("workers", "", True, None),
    ],
)
def test_a_value_is_read_and_compared(
    expression: str, healthy: str, ok: bool, value: float | None
) -> None:
    with serving(lambda handler, _: handler.json(200, HEALTH)) as stub:
        answer = read(probe(stub.url + "/h?key=k3y", expression, healthy))
    (row,) = answer.frames["downstream"].to_dict("records")
    assert row["ok"] is ok
    assert row["value"] == value or (value is None and pd.isna(row["value"]))
    assert (row["target"], row["unit"]) == ("queue", "jobs")
    assert row["latency_seconds"] > 0
    assert "k3y" not in repr(answer) + answer.queries.to_string() + str(row)
    assert not answer.blind


@pytest.mark.parametrize(
    ("respond", "said", "outcome"),
    [
        (lambda h, _: h.send(200, b"<html>sign in</html>"), "not JSON", "failed"),
        (lambda h, _: h.send(200, b"[" * 100_000), "not JSON", "failed"),
        (lambda h, _: h.json(200, {"other": 1}), "finds nothing", "failed"),
        (lambda h, _: h.json(200, {"queue": 3}), "finds nothing", "failed"),
        (lambda h, _: h.json(401, {"detail": "who?"}), "HTTP 401", "denied"),
        (lambda h, _: h.json(503, {}), "HTTP 503", "failed"),
        (lambda h, _: h.send(302, b"", Location="http://other/login"), "redirects", "failed"),
        (lambda h, _: h.send(200, b'{"queue": "' + b"x" * 6 * 2**20), "MiB", "failed"),
        (lambda h, _: h.hang(), "within", "timeout"),
    ],
    ids=["html", "deep", "absent", "other shape", "401", "503", "redirect", "huge", "hang"],
)
def test_a_bad_answer_is_a_failed_probe_and_never_a_value(
    respond: Any, said: str, outcome: str
) -> None:
    with serving(respond) as stub:
        answer = read(probe(stub.url))
    (row,) = answer.frames["downstream"].to_dict("records")
    assert row["ok"] is False
    assert pd.isna(row["value"])
    assert said in row["detail"]
    assert answer.queries["outcome"].tolist() == [outcome]
    (blind,) = answer.blind
    assert blind.what == "probe queue"
    assert ("downstream_login.queue" in blind.fix) is (outcome == "denied")


def test_a_function_applied_to_the_wrong_type_is_told() -> None:
    with serving(lambda handler, _: handler.json(200, HEALTH)) as stub:
        answer = read(probe(stub.url, "length(queue.depth)", ""))
    assert "cannot be applied" in answer.frames["downstream"]["detail"].iloc[0]


def test_the_probes_own_login_is_sent_and_not_recorded() -> None:
    with serving(lambda handler, _: handler.json(200, HEALTH)) as stub:
        answer = read(probe(stub.url), login=HttpLogin(bearer_token=SecretStr("s3cret")))
        sent = {asked.headers.get("Authorization") for asked in stub.asked}
    assert sent == {"Bearer s3cret"}
    assert "s3cret" not in repr(answer)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expression": "queue..depth"}, "not a JMESPath expression"),
        ({"healthy": "100"}, "no comparison"),
        ({"healthy": "< many"}, "no number"),
        ({"url": "ftp://x"}, "pattern"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_probe_that_cannot_work_is_refused_when_the_configuration_is_read(
    change: dict[str, str], words: str
) -> None:
    good = {"name": "q", "url": "http://x", "expression": "a", "healthy": "< 1"}
    with pytest.raises(ValidationError, match=words):
        Probe(**{**good, **change})


@pytest.mark.parametrize("value", [True, None, "ten", [1], {}, float("nan"), float("inf"), "1e999"])
def test_only_a_finite_number_is_one(value: Any) -> None:
    assert number_of(value) is None
    assert not Comparison.parse("< 5").holds(value)


# -- PromQL ---------------------------------------------------------------------------------------


def series(*values: tuple[float, str]) -> dict[str, Any]:
    return {"resultType": "matrix", "result": [{"metric": {}, "values": list(values)}]}


P95 = Latency(name="awx", query="histogram_quantile(0.95, sum by (le) (rate(awx_bucket[5m])))")


def test_latency_is_read_over_the_window_without_the_gaps() -> None:
    start = END.timestamp() - 60
    answered = series((start, "0.2"), (start + 15, "NaN"), (start + 30, "3.5"))

    def respond(handler: Handler, asked: Asked) -> None:
        assert asked.path == "/prom/api/v1/query_range"
        handler.success(answered)

    with serving(respond) as stub:
        answer = read(latencies=(P95,), prometheus=stub.url + "/prom/")
        (asked,) = stub.asked
    assert asked.fields["query"] == [P95.query]
    assert float(asked.fields["end"][0]) - float(asked.fields["start"][0]) == 3600
    rows = answer.frames["downstream"]
    assert rows["value"].tolist() == [0.2, 3.5]
    assert set(rows["check"]) == {"latency"}
    assert answer.status == "ok"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, json.dumps({"status": "error", "error": "parse error: bad"}), "parse error"),
        (200, "<html>", "no range of samples"),
        (401, "who?", "HTTP 401: who?"),
        (200, json.dumps({"status": "success", "data": {"result": [{}, {}]}}), "aggregate"),
        (200, json.dumps({"status": "success", "data": {"result": [{"values": 3}]}}), "no range"),
    ],
)
def test_a_query_that_gives_no_latency_is_a_blind_spot(status: int, body: str, said: str) -> None:
    with serving(lambda handler, _: handler.send(status, body.encode())) as stub:
        answer = read(latencies=(P95,), prometheus=stub.url)
    (blind,) = answer.blind
    assert said in blind.why
    assert ("[prometheus_login]" in blind.fix) is (status == 401)
    assert answer.frames["downstream"].empty

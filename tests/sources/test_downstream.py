"""Probes and AWX jobs against a real HTTP server that misbehaves on request."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

import pandas as pd
import pytest
from http_stub import Asked, Handler, serving
from pydantic import SecretStr

from lagkit.config import HttpLogin
from lagkit.runbook import Downstream, Group, Runbook
from lagkit.sources import Answer, Scope
from lagkit.sources.downstream import PAGE_SIZE, PROBES, SLICES, DownstreamSource

NOW = pd.Timestamp("2026-11-23T12:00:00Z")
PING = {
    "ha": False,
    "version": "24.6.1",
    "instances": [{"node": "awx-1", "capacity": 57}],
}


def job(number: int, **more: Any) -> dict[str, Any]:
    created = NOW - pd.Timedelta(seconds=number)
    return {
        "id": number,
        "created": created.isoformat(),
        "started": created.isoformat(),
        "finished": None,
        "elapsed": "12.5",
        "status": "running",
        **more,
    }


def page(*jobs: dict[str, Any]) -> dict[str, Any]:
    return {"count": len(jobs), "next": None, "results": list(jobs)}


INSTANCE = {"id": 1, "hostname": "awx-1", "node_type": "hybrid", "capacity": 57,
            "consumed_capacity": 4, "jobs_running": 2, "enabled": True, "errors": ""}  # fmt: skip


def awx(handler: Handler, asked: Asked) -> None:
    answers = {"/api/v2/ping/": PING, "/api/v2/instances/": page(INSTANCE)}
    handler.json(200, answers.get(asked.path) or page(job(1), job(2)))


def pings(answer: Answer) -> pd.DataFrame:
    return answer.frames["downstream"].query("check in ['ping', 'probe']")


def look(
    url: str,
    *,
    kind: Any = "awx",
    budget: float = 3.0,
    login: HttpLogin | None = None,
    probe: str = "/health",
) -> Answer:
    group = Group(name="g", downstream=(Downstream(name="awx", kind=kind, probe=probe),))
    scope = Scope("g", (), NOW - pd.Timedelta("1h"), NOW, Runbook(title="t", groups=(group,)))
    source = DownstreamSource({"awx": url}, {"awx": login} if login else {})
    return source.fetch(scope, budget_seconds=budget)


def reset(handler: Handler, asked: Asked) -> None:
    del asked
    # SO_LINGER 0 makes close() send RST
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def hang(handler: Handler, asked: Asked) -> None:
    del asked
    handler.hang()


def test_healthy_awx_is_probed_and_its_jobs_are_read() -> None:
    with serving(awx) as stub:
        answer = look(stub.url)
    assert answer.status == "ok"
    probes = pings(answer)
    assert probes["ok"].tolist() == [True] * PROBES
    assert (probes["latency_seconds"] > 0).all()
    assert answer.frames["jobs"]["job_id"].tolist() == ["2", "1"]
    assert answer.facts["awx_version"] == "24.6.1"


def test_times_and_run_time_of_a_job_are_typed_and_missing_ones_stay_missing() -> None:
    with serving(awx) as stub:
        first = look(stub.url).frames["jobs"].iloc[-1]
    assert first["timestamp"] == NOW - pd.Timedelta(seconds=1)
    assert first["elapsed_seconds"] == 12.5
    assert pd.isna(first["finished_at"])


def test_hanging_downstream_costs_its_budget_and_is_evidence() -> None:
    began = time.monotonic()
    with serving(hang) as stub:
        answer = look(stub.url, budget=2.0)
        took = time.monotonic() - began
    assert took < 10
    probes = answer.frames["downstream"]
    assert probes["ok"].tolist() == [False] * len(probes)
    assert probes["status_code"].isna().all()
    assert probes["latency_seconds"].isna().all()
    assert probes["detail"].str.startswith("timed out after").all()
    assert set(answer.queries["outcome"]) == {"timeout"}


@pytest.mark.parametrize("respond", [reset, lambda handler, _: handler.send(500, b"<html>oops")])
def test_broken_downstream_is_evidence_and_provenance(respond: Any) -> None:
    with serving(respond) as stub:
        answer = look(stub.url)
    assert answer.status == "partial"
    assert not answer.frames["downstream"]["ok"].any()
    assert set(answer.queries["outcome"]) == {"failed"}
    assert answer.frames["jobs"].empty
    assert [blind.what for blind in answer.blind] == ["capacity of awx", "jobs of awx"]


def test_nobody_listening_is_evidence_too() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = look(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert answer.frames["downstream"]["detail"].str.contains("refused").all()


def test_page_that_says_200_and_is_not_awx_is_not_healthy() -> None:
    with serving(lambda handler, _: handler.send(200, b"<html>log in</html>")) as stub:
        answer = look(stub.url)
    assert not answer.frames["downstream"]["ok"].any()
    assert answer.frames["downstream"]["status_code"].tolist() == [200] * PROBES


def test_awx_without_capacity_is_not_healthy() -> None:
    empty = {**PING, "instances": [{"node": "awx-1", "capacity": 0}]}
    with serving(lambda handler, _: handler.json(200, empty)) as stub:
        assert not look(stub.url).frames["downstream"]["ok"].any()


def test_denied_jobs_name_the_setting_that_is_missing() -> None:
    def respond(handler: Handler, asked: Asked) -> None:
        if asked.path == "/api/v2/ping/":
            handler.json(200, PING)
        else:
            handler.json(401, {"detail": "Authentication credentials were not provided."})

    with serving(respond) as stub:
        answer = look(stub.url)
    assert answer.frames["downstream"]["ok"].all()
    assert {blind.what for blind in answer.blind} == {"capacity of awx", "jobs of awx"}
    assert all("downstream_login.awx" in blind.fix for blind in answer.blind)
    assert answer.queries["outcome"].iloc[-1] == "denied"


def test_login_is_sent_and_never_recorded() -> None:
    with serving(awx) as stub:
        answer = look(stub.url, login=HttpLogin(bearer_token=SecretStr("s3cret")))
        sent = {asked.headers.get("Authorization") for asked in stub.asked}
    assert sent == {"Bearer s3cret"}
    assert "s3cret" not in repr(answer) + answer.queries.to_string()


def test_userinfo_and_query_of_a_url_are_not_recorded() -> None:
    with serving(lambda handler, _: handler.json(200, {"up": True})) as stub:
        url = stub.url.replace("http://", "http://user:pa55@")
        answer = look(url, kind="http", probe="/health?key=k3y")
        recorded = (
            repr(answer) + answer.queries.to_string() + answer.frames["downstream"].to_string()
        )
    assert answer.frames["downstream"]["ok"].all()
    assert "pa55" not in recorded
    assert "k3y" not in recorded


def test_redirect_is_reported_and_not_followed() -> None:
    with serving(lambda handler, _: handler.send(302, b"", Location="http://other/login")) as stub:
        answer = look(stub.url, kind="http")
        assert {asked.path for asked in stub.asked} == {"/health"}
    assert not answer.frames["downstream"]["ok"].any()
    assert answer.frames["downstream"]["detail"].str.contains("http://other/login").all()


def test_a_busy_awx_is_sampled_over_the_whole_window() -> None:
    newest = [job(number) for number in range(PAGE_SIZE)]

    def respond(handler: Handler, asked: Asked) -> None:
        if asked.path == "/api/v2/ping/":
            handler.json(200, PING)
        elif "created__gte" in asked.fields:
            begin = pd.Timestamp(asked.fields["created__gte"][0])
            handler.json(200, page(job(0, id=int(begin.timestamp()), created=begin.isoformat())))
        else:
            handler.json(200, page(*newest))

    with serving(respond) as stub:
        answer = look(stub.url)
    jobs = answer.frames["jobs"]
    assert len(jobs) == PAGE_SIZE + SLICES
    assert jobs["timestamp"].min() == NOW - pd.Timedelta("1h")
    assert "sampled" in answer.detail


def test_a_quiet_awx_is_asked_for_its_newest_jobs_once() -> None:
    with serving(awx) as stub:
        answer = look(stub.url)
        asked = [one for one in stub.asked if one.path == "/api/v2/jobs/"]
    assert len([one for one in asked if "status__in" not in one.fields]) == 1
    assert len(answer.frames["jobs"]) == 2


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{}", b'{"results": [1]}', b'{"results": [{"id": 1, "created": "soon"}]}', b"\xff"],
)
def test_garbage_instead_of_jobs_is_a_failed_question(body: bytes) -> None:
    def respond(handler: Handler, asked: Asked) -> None:
        if asked.path == "/api/v2/ping/":
            handler.json(200, PING)
        else:
            handler.send(200, body)

    with serving(respond) as stub:
        answer = look(stub.url)
    assert answer.frames["jobs"].empty
    assert answer.queries["outcome"].iloc[-1] == "failed"


def test_huge_body_is_cut_off() -> None:
    huge = json.dumps({"version": "x" * 6 * 2**20}).encode()
    with serving(lambda handler, _: handler.send(200, huge)) as stub:
        answer = look(stub.url, budget=8.0)
    assert not answer.frames["downstream"]["ok"].any()
    assert answer.queries["detail"].str.contains("MiB").all()


def test_downstream_without_a_url_is_a_blind_spot_not_a_failure() -> None:
    group = Group(name="g", downstream=(Downstream(name="awx", kind="awx"),))
    scope = Scope("g", (), NOW, NOW, Runbook(title="t", groups=(group,)))
    answer = DownstreamSource({}).fetch(scope, budget_seconds=1)
    assert answer.frames["downstream"].empty
    assert "downstream.awx" in answer.blind[0].fix

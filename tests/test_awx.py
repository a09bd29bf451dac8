"""The AWX stand-in: the real API's paths and shapes, and faults that show."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import threading
import time
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr

from lab import awx
from lab.awx import Answer, Awx, Faults, change_faults, respond
from lagkit import doctor
from lagkit.config import HttpLogin, Settings
from lagkit.runbook import Downstream, Group, Runbook
from lagkit.sources import Answer as Answered
from lagkit.sources import Scope
from lagkit.sources.downstream import DownstreamSource

# the fields of a launch's answer, from a real AWX's (2021-10, documented shape of 24.6 added)
LAUNCHED = {
    "job", "ignored_fields", "id", "type", "url", "related", "summary_fields", "created",
    "modified", "name", "description", "job_type", "inventory", "project", "playbook",
    "scm_branch", "forks", "limit", "verbosity", "extra_vars", "job_tags", "force_handlers",
    "skip_tags", "start_at_task", "timeout", "use_fact_cache", "organization",
    "unified_job_template", "launch_type", "status", "failed", "started", "finished",
    "canceled_on", "elapsed", "job_args", "job_cwd", "job_env", "job_explanation",
    "execution_node", "controller_node", "result_traceback", "event_processing_finished",
    "job_template", "passwords_needed_to_start", "allow_simultaneous", "artifacts",
    "scm_revision", "instance_group", "diff_mode", "job_slice_number", "job_slice_count",
    "webhook_service", "webhook_credential", "webhook_guid",
    "execution_environment", "launched_by", "work_unit_id",
}  # fmt: skip


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Awx:
    return Awx(seed=1, clock=clock)


def get(server: Awx, target: str) -> Any:
    answer = respond(server, "GET", target, b"")
    assert answer.status == 200, answer
    return answer.body


def launch(server: Awx, body: bytes = b"{}") -> Answer:
    return respond(server, "POST", "/api/v2/job_templates/7/launch/", body)


def test_ping_names_version_instances_and_groups(server: Awx) -> None:
    ping = get(server, "/api/v2/ping/")
    assert set(ping) == {
        "ha", "version", "active_node", "install_uuid", "instances", "instance_groups"
    }  # fmt: skip
    assert {"node", "heartbeat", "capacity", "version"} <= set(ping["instances"][0])
    assert set(ping["instance_groups"][0]) == {"name", "capacity", "instances"}


def test_template_is_found_by_name(server: Awx) -> None:
    found = get(server, "/api/v2/job_templates/?name=deploy-api")
    assert (found["count"], found["results"][0]["id"]) == (1, 7)


def test_unknown_template_name_is_an_empty_list_not_an_error(server: Awx) -> None:
    assert get(server, "/api/v2/job_templates/?name=nothing")["results"] == []


def test_launch_is_201_with_the_real_fields_and_the_job_pending(server: Awx) -> None:
    answer = launch(server, b'{"extra_vars": {"api": "billing"}, "limit": "x"}')
    assert answer.status == 201
    assert set(answer.body) == LAUNCHED
    assert answer.body["status"] == "pending"
    assert answer.body["started"] is None
    assert answer.body["extra_vars"] == '{"api": "billing"}'
    assert answer.body["ignored_fields"] == {"limit": "x"}
    assert answer.location == f"/api/v2/jobs/{answer.body['id']}/"


def test_job_goes_from_pending_to_successful_in_order(server: Awx, clock: Clock) -> None:
    number = launch(server).body["id"]
    seen = []
    for _ in range(300):
        status = get(server, f"/api/v2/jobs/{number}/")["status"]
        if status not in seen:
            seen.append(status)
        clock.now += 0.0001
    assert seen == ["pending", "waiting", "running", "successful"]


def test_finished_job_says_when_it_started_finished_and_how_long_it_took(
    server: Awx, clock: Clock
) -> None:
    number = launch(server).body["id"]
    clock.now += 10
    job = get(server, f"/api/v2/jobs/{number}/")
    ran = awx.seconds_of(job["finished"]) - awx.seconds_of(job["started"])
    assert job["elapsed"] == pytest.approx(ran, abs=0.001)
    assert job["elapsed"] == pytest.approx(awx.JOB_SECONDS, rel=awx.JITTER_SHARE)
    assert job["event_processing_finished"] is True


def test_same_seed_gives_the_same_durations(clock: Clock) -> None:
    one, two = Awx(seed=5, clock=clock), Awx(seed=5, clock=clock)
    for server in (one, two):
        for _ in range(5):
            launch(server)
    assert [j.ends for j in one.jobs.values()] == [j.ends for j in two.jobs.values()]


def test_slow_jobs_are_running_for_as_long_as_the_fault_says(server: Awx, clock: Clock) -> None:
    change_faults(server, "POST", b'{"job_seconds": 60}')
    number = launch(server).body["id"]
    clock.now += 30
    job = get(server, f"/api/v2/jobs/{number}/")
    assert (job["status"], job["finished"]) == ("running", None)
    assert job["elapsed"] == pytest.approx(30, abs=0.01)


def test_job_beyond_capacity_stays_pending_until_a_slot_is_free(server: Awx, clock: Clock) -> None:
    change_faults(server, "POST", b'{"job_seconds": 60, "capacity": 1}')
    first, second = launch(server).body["id"], launch(server).body["id"]
    clock.now += 1
    assert get(server, f"/api/v2/jobs/{first}/")["status"] == "running"
    assert get(server, f"/api/v2/jobs/{second}/")["status"] == "pending"
    clock.now += 90
    assert get(server, f"/api/v2/jobs/{second}/")["status"] == "running"


def test_failed_job_has_failed_true(server: Awx, clock: Clock) -> None:
    change_faults(server, "POST", b'{"failed_share": 1}')
    number = launch(server).body["id"]
    clock.now += 1
    job = get(server, f"/api/v2/jobs/{number}/")
    assert (job["status"], job["failed"]) == ("failed", True)


def fill(server: Awx, clock: Clock, count: int) -> None:
    for _ in range(count):
        launch(server)
        clock.now += 1


def test_list_pages_link_to_each_other(server: Awx, clock: Clock) -> None:
    fill(server, clock, 5)
    first = get(server, "/api/v2/jobs/?page_size=2")
    second = get(server, first["next"])
    third = get(server, second["next"])
    assert first["previous"] is None
    assert third["next"] is None
    assert first["count"] == second["count"] == 5
    assert [j["id"] for page in (first, second, third) for j in page["results"]] == [1, 2, 3, 4, 5]


def test_list_is_ordered_as_asked(server: Awx, clock: Clock) -> None:
    fill(server, clock, 3)
    newest = get(server, "/api/v2/jobs/?order_by=-created")
    assert [job["id"] for job in newest["results"]] == [3, 2, 1]


def test_list_keeps_jobs_of_a_status(server: Awx, clock: Clock) -> None:
    fill(server, clock, 2)
    change_faults(server, "POST", b'{"job_seconds": 60}')
    launch(server)
    clock.now += 1
    running = get(server, "/api/v2/jobs/?status=running")
    assert [job["id"] for job in running["results"]] == [3]


def test_list_keeps_jobs_created_after_an_instant(server: Awx, clock: Clock) -> None:
    fill(server, clock, 3)
    since = get(server, "/api/v2/jobs/2/")["created"]
    later = get(server, f"/api/v2/jobs/?created__gt={since}")
    assert [job["id"] for job in later["results"]] == [3]


def test_unfinished_jobs_are_those_whose_finish_is_null(server: Awx, clock: Clock) -> None:
    fill(server, clock, 1)
    change_faults(server, "POST", b'{"job_seconds": 60}')
    launch(server)
    clock.now += 1
    unfinished = get(server, "/api/v2/jobs/?finished__isnull=true")
    assert [job["id"] for job in unfinished["results"]] == [2]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/api/v2/jobs/?colour=red", 400),
        ("/api/v2/jobs/?created__gt=yesterday", 400),
        ("/api/v2/jobs/?status__like=x", 400),
        ("/api/v2/jobs/?page=2", 404),
        ("/api/v2/jobs/?page=0", 404),
        ("/api/v2/jobs/99/", 404),
        ("/api/v2/nothing/", 404),
    ],
)
def test_wrong_request_is_refused_with_a_detail(server: Awx, target: str, status: int) -> None:
    answer = respond(server, "GET", target, b"")
    assert answer.status == status
    assert set(answer.body) == {"detail"}


def test_launch_of_broken_json_is_refused_and_makes_no_job(server: Awx) -> None:
    assert launch(server, b"{").status == 400
    assert server.launched == 0


def test_old_jobs_are_forgotten(server: Awx, clock: Clock) -> None:
    fill(server, clock, awx.JOBS_KEPT + 3)
    assert len(server.jobs) == awx.JOBS_KEPT
    assert respond(server, "GET", "/api/v2/jobs/1/", b"").status == 404


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{", b'{"colour": 1}', b'{"status": 200}', b'{"hang": 1}', b'{"login": 1}',
     b'{"capacity": 0}',
     b'{"job_seconds": -1}', b'{"job_seconds": "slow"}'],
)  # fmt: skip
def test_wrong_fault_is_refused_and_changes_nothing(server: Awx, body: bytes) -> None:
    assert change_faults(server, "POST", body).status == 400
    assert server.faults == Faults()


def test_faults_add_up_until_they_are_deleted(server: Awx) -> None:
    change_faults(server, "POST", b'{"job_seconds": 1}')
    change_faults(server, "POST", b'{"status": 503}')
    assert (server.faults.job_seconds, server.faults.status) == (1, 503)
    change_faults(server, "DELETE", b"")
    assert server.faults == Faults()


@pytest.fixture
def connection():
    """Serve one AWX on a loopback port, from a loop of its own."""
    loop = asyncio.new_event_loop()
    page = awx.Server(Awx(seed=1))
    port = loop.run_until_complete(page.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    yield client
    client.close()

    async def end() -> None:
        await page.stop()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None):
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    return answer, answer.read()


def test_one_connection_carries_many_requests(connection: http.client.HTTPConnection) -> None:
    launched, text = ask(connection, "POST", "/api/v2/job_templates/deploy-api/launch/", {})
    assert (launched.status, launched.reason) == (201, "Created")
    socket = connection.sock
    answer, again = ask(connection, "GET", launched.headers["Location"])
    assert connection.sock is socket
    assert answer.headers["X-API-Product-Name"] == "AWX"
    assert json.loads(again)["id"] == json.loads(text)["id"]


def test_status_fault_answers_a_page_as_a_proxy_does(
    connection: http.client.HTTPConnection,
) -> None:
    ask(connection, "POST", "/lab/faults", {"status": 503})
    answer, _ = ask(connection, "GET", "/api/v2/ping/")
    assert answer.status == 503
    assert answer.headers["Content-Type"] == "text/html"


def test_hang_fault_answers_nothing_but_can_be_healed(
    connection: http.client.HTTPConnection,
) -> None:
    ask(connection, "POST", "/lab/faults", {"hang": True})
    port = connection.port
    hung = http.client.HTTPConnection("127.0.0.1", port, timeout=0.3)
    with pytest.raises(TimeoutError):
        ask(hung, "GET", "/api/v2/ping/")
    hung.close()
    ask(connection, "DELETE", "/lab/faults")
    assert ask(connection, "GET", "/api/v2/ping/")[0].status == 200


def test_request_that_is_not_http_is_refused(connection: http.client.HTTPConnection) -> None:
    connection.connect()
    connection.sock.sendall(b"hello\r\n\r\n")
    assert b" 400 " in connection.sock.recv(100)


# -- as lagkit reads it ---------------------------------------------------------------------------


def read(connection: http.client.HTTPConnection, login: HttpLogin | None = None) -> Answered:
    now = pd.Timestamp.now("UTC")
    group = Group(name="g", downstream=(Downstream(name="awx", kind="awx"),))
    scope = Scope("g", (), now - pd.Timedelta("1h"), now, Runbook(title="t", groups=(group,)))
    url = f"http://127.0.0.1:{connection.port}"
    source = DownstreamSource({"awx": url}, {"awx": login} if login else {})
    return source.fetch(scope, budget_seconds=10)


def test_jobs_that_wait_for_capacity_are_read_with_what_is_taken_of_it(
    connection: http.client.HTTPConnection,
) -> None:
    ask(connection, "POST", "/lab/faults", {"job_seconds": 600, "capacity": 2})
    for _ in range(5):
        ask(connection, "POST", "/api/v2/job_templates/deploy-api/launch/", {})
    time.sleep(2 * awx.QUEUE_SECONDS)  # until two of them have left the queue
    answer = read(connection)
    assert (answer.facts["awx_jobs_waiting"], answer.facts["awx_jobs_running"]) == ("3", "2")
    assert sorted(answer.frames["jobs"]["status"]) == ["pending"] * 3 + ["running"] * 2
    taken = answer.frames["downstream"].query("check.str.startswith('capacity')").iloc[0]
    assert (taken["value"], bool(taken["ok"])) == (1.0, False)
    assert taken["detail"].startswith("2 of 2 forks taken, 2 jobs running")


@pytest.mark.parametrize(
    "login",
    [
        HttpLogin(bearer_token=SecretStr(awx.TOKEN)),
        HttpLogin(username=awx.USER, password=SecretStr(awx.PASSWORD)),
    ],
    ids=["token", "basic"],
)
def test_a_login_opens_what_is_closed(
    connection: http.client.HTTPConnection, login: HttpLogin
) -> None:
    ask(connection, "POST", "/api/v2/job_templates/deploy-api/launch/", {})
    ask(connection, "POST", "/lab/faults", {"login": True})
    answer = read(connection, login)
    assert answer.status == "ok", answer.blind
    assert len(answer.frames["jobs"]) == 1


@pytest.mark.parametrize(
    "login",
    [None, HttpLogin(username=awx.USER, password=SecretStr("wrong"))],
    ids=["none", "wrong password"],
)
def test_without_the_right_login_ping_alone_answers_and_the_setting_is_named(
    connection: http.client.HTTPConnection, login: HttpLogin | None
) -> None:
    ask(connection, "POST", "/lab/faults", {"login": True})
    answer = read(connection, login)
    assert answer.frames["downstream"]["ok"].all()
    assert answer.frames["jobs"].empty
    assert {blind.what for blind in answer.blind} == {"capacity of awx", "jobs of awx"}
    assert all("downstream_login.awx" in blind.fix for blind in answer.blind)
    assert "wrong" not in repr(answer)


def test_the_doctor_names_the_login_that_awx_wants(
    connection: http.client.HTTPConnection,
) -> None:
    ask(connection, "POST", "/lab/faults", {"login": True})
    address = {"awx": f"http://127.0.0.1:{connection.port}"}
    shut = doctor.render(doctor.examine(Settings(downstream=address), "deployment-worker"))
    assert re.search(r"^downstream +partial", shut, re.MULTILINE)
    assert shut.count("fix  Set downstream_login.awx in lagkit.toml") == 2
    assert "missing  capacity of awx: HTTP 401" in shut
    login = {"awx": HttpLogin(bearer_token=SecretStr(awx.TOKEN))}
    settings = Settings(downstream=address, downstream_login=login)
    opened = doctor.render(doctor.examine(settings, "deployment-worker"))
    assert re.search(r"^downstream +ok", opened, re.MULTILINE)
    assert "downstream_login" not in opened


def test_instances_and_their_groups_have_the_fields_of_awx_24(server: Awx) -> None:
    (instance,) = get(server, "/api/v2/instances/")["results"]
    (group,) = get(server, "/api/v2/instance_groups/")["results"]
    shared = {"capacity", "consumed_capacity", "percent_capacity_remaining", "jobs_running",
              "jobs_total"}  # fmt: skip
    assert shared | {"hostname", "enabled", "errors", "node_type", "node_state"} <= set(instance)
    assert shared | {"name", "max_forks", "is_container_group", "instances"} <= set(group)

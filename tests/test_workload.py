"""The workload's own parts: what a worker takes for a request, and how it talks to AWX."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator

import pytest

from lab import awx, manifests
from lab.scenarios import SCENARIOS
from lab.workload import consumer, producer


@pytest.mark.parametrize(
    "value", [None, b"", b"\xff\xfe", b"[]", b'"id"', b"{}", b'{"id": ', producer.POISON]
)
def test_record_that_is_no_deploy_request_is_undecodable(value: bytes | None) -> None:
    with pytest.raises(consumer.Undecodable):
        consumer.decode(value)


def test_what_the_producer_sends_is_a_deploy_request() -> None:
    request = consumer.decode(producer.request(7, "tenant-001", random.Random(0)))
    assert request["id"] == "dep-00000007"
    assert set(request) == {"id", "api", "version", "tenant", "requested_at"}


def test_worker_without_brokers_does_not_start() -> None:
    with pytest.raises(consumer.Fatal, match="KAFKA_BOOTSTRAP"):
        consumer.settings({})


def test_worker_with_an_unknown_poison_policy_does_not_start() -> None:
    with pytest.raises(consumer.Fatal, match="POISON_POLICY"):
        consumer.settings({"KAFKA_BOOTSTRAP": "b:1", "POISON_POLICY": "pray"})


def test_client_id_is_the_host_name() -> None:
    read = consumer.settings({"KAFKA_BOOTSTRAP": "b:1", "HOSTNAME": "control-plane-api-1"})
    assert read.kafka["client.id"] == "control-plane-api-1"
    assert read.kafka["enable.auto.commit"] is False


def test_spike_ends_when_its_time_is_over() -> None:
    pace = producer.Pace(40.0, multiplier=12.0, until=100.0)
    assert [pace.rate(now) for now in (99.0, 100.0, 101.0)] == [480.0, 40.0, 40.0]


def test_manifest_is_json_and_names_each_pod_in_its_own_environment() -> None:
    document = manifests.consumer("python3", {"KAFKA_GROUP": "g"})
    container = document["spec"]["template"]["spec"]["containers"][0]
    host = next(entry for entry in container["env"] if entry["name"] == "HOSTNAME")
    assert host["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert json.loads(json.dumps(document)) == document


def test_broken_release_differs_from_the_good_one_in_its_template() -> None:
    good = manifests.consumer("python3", {})
    bad = manifests.consumer("python3", {"CONFIG_REQUIRED": "X"}, release=manifests.BAD_RELEASE)
    assert good["spec"]["template"] != bad["spec"]["template"]
    assert good["spec"]["selector"] == bad["spec"]["selector"]


def test_every_scenario_says_what_evidence_to_expect() -> None:
    assert all(s.evidence and s.summary and s.label for s in SCENARIOS.values())


@pytest.fixture
def page() -> Iterator[tuple[awx.Server, int, asyncio.AbstractEventLoop]]:
    loop = asyncio.new_event_loop()
    server = awx.Server(awx.Awx(seed=1))
    port = loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server, port, loop

    async def end() -> None:
        await server.stop()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def client(port: int, timeout: float = 5.0) -> consumer.Awx:
    return consumer.Awx(f"http://127.0.0.1:{port}", "token", timeout)


def test_worker_launches_a_job_and_waits_for_its_end(page) -> None:
    server, port, _ = page
    worker = client(port)
    job = worker.launch({"id": "dep-1", "api": "billing-api"})
    assert worker.wait(job) == "successful"
    assert json.loads(server.awx.jobs[job].extra_vars)["id"] == "dep-1"
    worker.close()


def test_worker_says_how_awx_failed(page) -> None:
    server, port, _ = page
    server.awx.faults = awx.Faults(status=503)
    worker = client(port)
    with pytest.raises(consumer.AwxError, match="HTTP 503"):
        worker.launch({"id": "dep-1"})
    worker.close()


def test_worker_gives_up_a_call_that_hangs(page) -> None:
    server, port, _ = page
    server.awx.faults = awx.Faults(hang=True)
    worker = client(port, timeout=0.2)
    with pytest.raises(consumer.AwxError, match="timed out after"):
        worker.launch({"id": "dep-1"})
    worker.close()


def test_kept_connection_that_awx_closed_is_opened_again(page, monkeypatch) -> None:
    _, port, _ = page
    worker = client(port)
    monkeypatch.setattr(awx, "IDLE_SECONDS", 0.05)
    worker.launch({"id": "dep-1"})
    threading.Event().wait(0.3)
    assert worker.launch({"id": "dep-2"}) == 2
    worker.close()

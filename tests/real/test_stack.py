"""Every server of the lab really answers, and `down` ends only what `up` started."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kubernetes import client, config

from lab.install import Artifact, install
from lab.processes import LabError, is_running, start_ticks
from lab.prometheus import DIALECTS, RULES
from lab.stack import Stack

from .conftest import require

PATIENCE = 60.0
ALERT_TESTS = Path(__file__).resolve().parent / "alerts_test.yml"


def eventually(answer: Callable[[], Any], what: str) -> Any:
    """Return the first true answer; fail when there is none for a minute."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = answer()
        if found:
            return found
        time.sleep(0.3)
    pytest.fail(f"{what}: not seen within {PATIENCE:.0f} s")


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def query(url: str, expression: str) -> list[Any]:
    answer = ask(f"{url}/api/v1/query?query={urllib.parse.quote(expression)}")
    found: list[Any] = answer["data"]["result"]
    return found


@pytest.fixture
def core(stack: Stack) -> Iterator[client.CoreV1Api]:
    require(stack, "kubernetes")
    with config.new_client_from_config(config_file=stack.kubeconfig()) as api:
        yield client.CoreV1Api(api)


@pytest.fixture
def namespace(core: client.CoreV1Api) -> Iterator[str]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


def deploy(
    core: client.CoreV1Api,
    namespace: str,
    name: str,
    script: str,
    *,
    annotations: dict[str, str] | None = None,
    **container: Any,
) -> None:
    """Create a Deployment of one pod that runs a Python script as its container."""
    body = {
        "name": "main",
        "image": "lab/python",
        "command": [sys.executable, "-c", script],
        **container,
    }
    client.AppsV1Api(core.api_client).create_namespaced_deployment(
        namespace,
        {
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}, "annotations": annotations or {}},
                    "spec": {"terminationGracePeriodSeconds": 1, "containers": [body]},
                },
            },
        },
    )


def pod_of(core: client.CoreV1Api, namespace: str, name: str) -> Any:
    """Return the pod of a Deployment once its container has a status; None before."""
    pods = core.list_namespaced_pod(namespace, label_selector=f"app={name}").items
    return pods[0] if pods and pods[0].status.container_statuses else None


def log_of(core: client.CoreV1Api, pod: Any, **options: Any) -> str:
    answer = core.read_namespaced_pod_log(
        pod.metadata.name, pod.metadata.namespace, _preload_content=False, **options
    )
    text: str = answer.data.decode()
    return text


def test_kafka_answers_on_both_listeners(stack: Stack) -> None:
    require(stack, "kafka")
    for servers in (stack.kafka.bootstrap, stack.kafka.proxied_bootstrap):
        metadata = AdminClient({"bootstrap.servers": servers}).list_topics(timeout=20)
        known = {f"{broker.host}:{broker.port}" for broker in metadata.brokers.values()}
        assert known == set(servers.split(","))


def test_kafka_is_a_4_3_broker_that_keeps_messages_for_a_week(stack: Stack) -> None:
    require(stack, "kafka")
    from confluent_kafka.admin import ConfigResource

    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    node = str(stack.kafka.nodes[0].node)
    (settings,) = admin.describe_configs([ConfigResource("broker", node)]).values()
    values = settings.result(timeout=20)
    assert values["log.retention.hours"].value == "168"
    assert values["group.initial.rebalance.delay.ms"].value == "0"


def test_disabled_proxy_cuts_consumers_off_and_leaves_the_direct_listener(stack: Stack) -> None:
    require(stack, "kafka")
    require(stack, "toxiproxy")
    quiet = {"log_level": 0}
    stack.toxiproxy.disable("kafka-1")
    try:
        with pytest.raises(Exception, match="_TRANSPORT"):
            AdminClient({"bootstrap.servers": stack.kafka.proxied_bootstrap, **quiet}).list_topics(
                timeout=3
            )
        assert AdminClient({"bootstrap.servers": stack.kafka.bootstrap}).list_topics(timeout=20)
    finally:
        stack.toxiproxy.enable("kafka-1")


def test_toxic_is_there_until_cleared(stack: Stack) -> None:
    require(stack, "toxiproxy")
    stack.toxiproxy.add("kafka-1", "latency", {"latency": 5})
    assert [toxic["type"] for toxic in stack.toxiproxy.proxies()["kafka-1"]["toxics"]] == [
        "latency"
    ]
    stack.toxiproxy.clear()
    assert stack.toxiproxy.proxies()["kafka-1"]["toxics"] == []


def test_unknown_proxy_is_an_error_that_names_it(stack: Stack) -> None:
    require(stack, "toxiproxy")
    with pytest.raises(LabError, match="kafka-9"):
        stack.toxiproxy.add("kafka-9", "latency", {"latency": 5})


@pytest.mark.parametrize("dialect", DIALECTS)
def test_prometheus_scrapes_every_target_of_its_dialect(stack: Stack, dialect: str) -> None:
    require(stack, "prometheus")
    exporter = dialect if dialect in ("otel", "klag") else "relay"
    require(stack, exporter)
    url = stack.prometheus[dialect]
    jobs = {dialect} if dialect == "redpanda" else {dialect, "kafka"}
    if not {"relay", "kubernetes"} & set(stack.missing):
        jobs.add("kubelet")

    def all_up() -> bool:
        return {item["metric"]["job"] for item in query(url, "up == 1")} == jobs

    assert eventually(all_up, f"targets {jobs} of {dialect} up")
    assert query(url, "up == 0") == []


def test_otel_exporter_serves_the_runbooks_own_names(stack: Stack) -> None:
    require(stack, "prometheus")
    require(stack, "otel")
    topic = f"names-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap})
    for _message in range(7):
        producer.produce(topic, b"x")
    assert producer.flush(20) == 0
    expression = f'kafka_partition_current_offset{{topic="{topic}"}}'

    def seen() -> bool:
        return [item["value"][1] for item in query(stack.prometheus["otel"], expression)] == ["7"]

    assert eventually(seen, "the log end of 7 messages")
    admin.delete_topics([topic])[topic].result(20)


def test_alert_rules_are_loaded_and_sent_to_alertmanager(stack: Stack) -> None:
    require(stack, "prometheus")
    require(stack, "otel")
    groups = ask(f"{stack.prometheus['otel']}/api/v1/rules?type=alert")["data"]["groups"]
    names = {rule["name"] for group in groups for rule in group["rules"]}
    assert {"KafkaConsumerLagHigh", "KafkaConsumerLagGrowing", "DeploymentWorkerLagging"} <= names

    def connected() -> Any:
        answer = ask(f"{stack.prometheus['otel']}/api/v1/alertmanagers")
        return answer["data"]["activeAlertmanagers"]

    (peer,) = eventually(connected, "an Alertmanager")
    assert stack.alertmanager is not None
    assert peer["url"].startswith(stack.alertmanager)
    assert ask(f"{stack.alertmanager}/api/v2/status")["config"]["original"]


def test_alert_rules_hold_their_promises() -> None:
    found = install(["prometheus"])
    require(found, "prometheus")
    tools = found["prometheus"]
    assert isinstance(tools, Artifact)
    for arguments in (["check", "rules", str(RULES)], ["test", "rules", ALERT_TESTS.name]):
        done = subprocess.run(
            [tools.files["promtool"], *arguments],
            cwd=ALERT_TESTS.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_deployment_becomes_replica_set_becomes_pod_with_events_and_log(
    core: client.CoreV1Api, namespace: str
) -> None:
    script = (
        "import os, time\n"
        "print(os.environ['HOSTNAME'], os.environ['POD'], os.getcwd(), flush=True)\n"
        "time.sleep(600)"
    )
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    deploy(core, namespace, "worker", script, env=env, workingDir="/tmp")

    def running() -> Any:
        pod = pod_of(core, namespace, "worker")
        return pod if pod and pod.status.container_statuses[0].ready else None

    pod = eventually(running, "a ready pod")
    name = pod.metadata.name
    assert eventually(lambda: log_of(core, pod), "a log") == f"{name} {name} /tmp\n"
    (owner,) = pod.metadata.owner_references
    sets = client.AppsV1Api(core.api_client).list_namespaced_replica_set(namespace).items
    assert owner.name == sets[0].metadata.name
    assert sets[0].metadata.owner_references[0].name == "worker"

    def reasons() -> set[str]:
        return {event.reason for event in core.list_namespaced_event(namespace).items}

    wanted = {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled", "Pulled", "Started"}
    assert eventually(lambda: wanted <= reasons(), "events of all controllers")


def test_pods_have_addresses_of_their_own(core: client.CoreV1Api, namespace: str) -> None:
    def address(name: str) -> Any:
        pod = pod_of(core, namespace, name)
        return pod and pod.status.pod_ip

    for name in ("one", "two"):
        deploy(core, namespace, name, "import time; time.sleep(600)")
    one, two = (eventually(lambda name=name: address(name), name) for name in ("one", "two"))
    assert one != two


@pytest.mark.parametrize(
    ("annotations", "reason"), [({}, "Error"), ({"lab/oom": "true"}, "OOMKilled")]
)
def test_killed_process_is_out_of_memory_only_where_the_pod_says_so(
    core: client.CoreV1Api, namespace: str, annotations: dict[str, str], reason: str
) -> None:
    script = "import os; print('last words', flush=True); os.kill(os.getpid(), 9)"
    deploy(core, namespace, "crash", script, annotations=annotations)

    def last_end() -> Any:
        pod = pod_of(core, namespace, "crash")
        return pod and pod.status.container_statuses[0].last_state.terminated

    ended = eventually(last_end, "a terminated container")
    assert (ended.exit_code, ended.reason) == (137, reason)

    def previous() -> Any:
        try:
            return log_of(core, pod_of(core, namespace, "crash"), previous=True)
        except client.ApiException:
            return None

    assert eventually(previous, "the previous log") == "last words\n"


def test_failing_exec_probe_makes_a_running_pod_unready(
    core: client.CoreV1Api, namespace: str
) -> None:
    probe = {"exec": {"command": [sys.executable, "-c", "raise SystemExit('not yet')"]}}
    deploy(
        core, namespace, "unready", "import time; time.sleep(600)",
        readinessProbe={**probe, "periodSeconds": 1, "timeoutSeconds": 5},
    )  # fmt: skip

    def complaints() -> list[str]:
        events = core.list_namespaced_event(namespace).items
        return [event.message for event in events if event.reason == "Unhealthy"]

    assert "not yet" in eventually(complaints, "an Unhealthy event")[0]
    status = pod_of(core, namespace, "unready").status.container_statuses[0]
    assert status.state.running is not None
    assert not status.ready


def test_missing_image_is_an_image_pull_error(core: client.CoreV1Api, namespace: str) -> None:
    deploy(core, namespace, "image", "pass", image="lab/missing:1")

    def waiting() -> Any:
        pod = pod_of(core, namespace, "image")
        state = pod and pod.status.container_statuses[0].state.waiting
        return state and state.reason in {"ErrImagePull", "ImagePullBackOff"}

    assert eventually(waiting, "an image pull error")


def test_read_only_user_reads_what_lagkit_needs(
    stack: Stack, core: client.CoreV1Api, namespace: str
) -> None:
    deploy(core, namespace, "worker", "print('seen', flush=True); import time; time.sleep(600)")
    with config.new_client_from_config(config_file=stack.kubeconfig("lagkit-ro")) as api:
        reader, apps = client.CoreV1Api(api), client.AppsV1Api(api)
        pod = eventually(lambda: pod_of(reader, namespace, "worker"), "a pod")

        def log() -> Any:
            try:
                return log_of(reader, pod)
            except client.ApiException:  # 400 while the container is about to start
                return None

        assert eventually(log, "its log") == "seen\n"
        assert eventually(lambda: reader.list_namespaced_event(namespace).items, "events")
        assert apps.read_namespaced_deployment("worker", namespace).spec.replicas == 1
        assert apps.list_namespaced_replica_set(namespace).items
        with pytest.raises(client.ApiException) as none:
            apps.read_namespaced_stateful_set("worker", namespace)
        assert none.value.status == 404, "allowed, and not there"


def test_read_only_user_cannot_write_nor_see_secrets(stack: Stack, namespace: str) -> None:
    with config.new_client_from_config(config_file=stack.kubeconfig("lagkit-ro")) as api:
        core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
        for forbidden in (
            lambda: core.delete_namespaced_pod("any", namespace),
            lambda: core.create_namespace({"metadata": {"name": "mine"}}),
            lambda: core.list_namespaced_secret(namespace),
            lambda: core.list_namespaced_config_map(namespace),
            lambda: apps.patch_namespaced_deployment_scale(
                "any", namespace, {"spec": {"replicas": 0}}
            ),
        ):
            with pytest.raises(client.ApiException) as refused:
                forbidden()
            assert refused.value.status == 403


def test_user_without_a_role_sees_nothing(stack: Stack, namespace: str) -> None:
    with (
        config.new_client_from_config(config_file=stack.kubeconfig("nobody")) as api,
        pytest.raises(client.ApiException) as refused,
    ):
        client.CoreV1Api(api).list_namespaced_pod(namespace)
    assert refused.value.status == 403


def test_status_names_every_process_with_its_log(stack: Stack) -> None:
    rows = [row for row in stack.status() if row.state != "missing"]
    assert rows
    for row in rows:
        assert row.state == "running"
        assert row.resident
        assert Path(row.log).exists()


def test_attached_lab_is_the_same_lab(stack: Stack) -> None:
    require(stack, "kafka")
    found = Stack.attach(stack.folder)
    assert found.kafka == stack.kafka
    assert found.prometheus == stack.prometheus
    assert found.environment() == stack.environment()


def test_down_ends_the_labs_processes_and_no_other(stack: Stack, tmp_path: Path) -> None:
    require(stack, "prometheus")
    bystander = stack.ledger.processes[0] if stack.ledger.processes else None
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(command) as stranger:
        try:
            with Stack(tmp_path / "second", parts=["prometheus"]) as second:
                own = second.ledger.processes
                assert own
            assert not any(is_running(process) for process in own)
            assert stranger.poll() is None
            assert bystander is None or is_running(bystander)
        finally:
            stranger.kill()


def test_down_ends_the_pods_too(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    with Stack(tmp_path / "lab", parts=["kubernetes"]) as second:
        require(second, "kubernetes")
        with config.new_client_from_config(config_file=second.kubeconfig()) as api:
            script = (
                "import os, pathlib, signal, time\n"
                "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                f"pathlib.Path({str(marker)!r}).write_text(str(os.getpid()))\n"
                "time.sleep(600)"
            )
            deploy(client.CoreV1Api(api), "default", "stubborn", script)
            pid = int(eventually(lambda: marker.exists() and marker.read_text(), "a running pod"))
    assert start_ticks(pid) is None

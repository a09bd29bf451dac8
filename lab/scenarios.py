"""Labelled incidents on the running lab: deploy the workload, see it well, break one thing.

Knows the workload's topics, groups and processes, the fault behind each label and how to take it
away again. It judges nothing: whether lagkit finds the cause is for the tests. Every wait has an
end and says what it waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import kafka, manifests
from lab.processes import LabError, free_ports, is_running

if TYPE_CHECKING:
    from lab.stack import Stack

TOPIC = "deploy-requests"  # made by the stack, see lab.kafka.TOPICS
GROUP = "deployment-worker"
PARTITIONS = kafka.TOPICS[TOPIC]
RATE = 40.0  # records a second in normal production
NEIGHBOUR_TOPIC = "api-events"
NEIGHBOUR_GROUP = "audit-writer"
NEIGHBOUR_PARTITIONS = kafka.TOPICS[NEIGHBOUR_TOPIC]
NEIGHBOUR_RATE = 20.0

BASELINE_SECONDS = 150.0
HOLD_SECONDS = 120.0
WELL_SECONDS = 300.0  # longest wait for three members that have caught up, after a spike too
WELL_LAG = 120  # records: three seconds of production, above what commits every second leave
DRAIN_LAG = 200  # records: workers with little to spare would take minutes for more
GONE_SECONDS = 60.0
REQUEST_SECONDS = 10.0
ASK_SECONDS = 5.0
READY_SECONDS = 30.0
POLL_SECONDS = 1.0

SLOW_JOB_SECONDS = 0.6  # three workers then take 5 records a second of 40
FAST_JOB_SECONDS = 0.0  # while draining
SPIKE = 12.0  # times normal production; the three workers can take about three times
POISON_PARTITION = 2
LATENCY_MS = 4_000  # each way; a heartbeat's round trip comes close to the session's 10 s
JITTER_MS = 2_000


def _note(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


# -- the workload -----------------------------------------------------------------------------


def ask(method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
    """Send JSON to one of the lab's own servers on loopback and return its answer.

    Raises:
        LabError: it refused, or did not answer.
    """
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        detail = error.read(400).decode("utf-8", "replace").strip()
        raise LabError(f"{method} {url} was refused: {error.code} {detail}") from error
    except (OSError, ValueError) as error:
        raise LabError(f"{method} {url} failed: {error}") from error


def _need(stack: Stack, part: str) -> None:
    missing = stack.missing.get(part)
    if missing is not None:
        raise LabError(f"scenarios need {part}: {missing.reason}. {missing.hint}")


@contextlib.contextmanager
def _kubernetes(stack: Stack) -> Iterator[Any]:
    from kubernetes import client, config

    api = config.new_client_from_config(config_file=stack.kubeconfig("admin"))
    try:
        yield client, api
    finally:
        api.close()


def apply(stack: Stack, *documents: manifests.Manifest) -> None:
    """Create or replace namespaces and Deployments; an unchanged one starts no rollout.

    Raises:
        LabError: the API server refused one.
    """
    with _kubernetes(stack) as (client, api):
        core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
        for document in documents:
            name = document["metadata"]["name"]
            try:
                if document["kind"] == "Namespace":
                    core.create_namespace(document, _request_timeout=REQUEST_SECONDS)
                    continue
                space = document["metadata"]["namespace"]
                try:
                    apps.replace_namespaced_deployment(
                        name, space, document, _request_timeout=REQUEST_SECONDS
                    )
                except client.ApiException as error:
                    if error.status != 404:
                        raise
                    apps.create_namespaced_deployment(
                        space, document, _request_timeout=REQUEST_SECONDS
                    )
            except client.ApiException as error:
                if error.status != 409:
                    raise LabError(
                        f"{document['kind']} {name} was refused: {error.status} {error.reason}"
                    ) from error


def delete(stack: Stack, document: manifests.Manifest) -> None:
    """Delete a Deployment and what it made; one that is not there is deleted already.

    Raises:
        LabError: the API server refused.
    """
    name, space = document["metadata"]["name"], document["metadata"]["namespace"]
    with _kubernetes(stack) as (client, api):
        try:
            client.AppsV1Api(api).delete_namespaced_deployment(
                name, space, _request_timeout=REQUEST_SECONDS
            )
        except client.ApiException as error:
            if error.status != 404:
                raise LabError(f"{name} was not deleted: {error.status} {error.reason}") from error


def delete_pod(stack: Stack, name: str) -> None:
    """Delete one of the workload's pods, as an eviction does; one that has gone is deleted already.

    Raises:
        LabError: the API server refused.
    """
    with _kubernetes(stack) as (client, api):
        try:
            client.CoreV1Api(api).delete_namespaced_pod(
                name, manifests.NAMESPACE, _request_timeout=REQUEST_SECONDS
            )
        except client.ApiException as error:
            if error.status != 404:
                raise LabError(f"{name} was not deleted: {error.status} {error.reason}") from error


def consumer_manifest(stack: Stack, policy: str, *, broken: bool = False) -> manifests.Manifest:
    """Return the worker's Deployment for this stack.

    Args:
        stack: whose brokers and AWX it uses, through the proxy.
        policy: what an undecodable record does to a worker: retry, crash or skip.
        broken: the release that needs a setting nobody has made.
    """
    env = {
        "KAFKA_BOOTSTRAP": stack.kafka.proxied_bootstrap,
        "KAFKA_TOPIC": TOPIC,
        "KAFKA_GROUP": GROUP,
        "AWX_URL": f"http://127.0.0.1:{stack.awx_port}",
        "POISON_POLICY": policy,
    }
    release, cause = manifests.RELEASE, f"release {manifests.RELEASE}"
    if broken:
        env["CONFIG_REQUIRED"] = "AWX_TOKEN"
        release = manifests.BAD_RELEASE
        cause = f"release {release}: authenticate to AWX by token"
    return manifests.consumer(stack.python, env, release=release, change_cause=cause)


def deploy(stack: Stack, policy: str = "retry") -> None:
    """Bring up the whole workload, or what of it is missing: topics, pods, producers, neighbour.

    Raises:
        LabError: a part of the stack that it needs is missing, or a process did not start.
    """
    deploy_around(stack)
    apply(stack, consumer_manifest(stack, policy))


def deploy_around(stack: Stack) -> None:
    """Bring up what the workers live with: namespaces, AWX, producers, the neighbour.

    Raises:
        LabError: a part of the stack that it needs is missing, or a process did not start.
    """
    _need(stack, "kafka")
    _need(stack, "kubernetes")
    apply(
        stack,
        manifests.namespace(manifests.NAMESPACE),
        manifests.namespace(manifests.AWX_NAMESPACE),
        manifests.awx(stack.python, stack.awx_port),
    )
    wait_for("AWX to answer", lambda: _awx_missing(stack), WELL_SECONDS)
    _start_producer(stack, TOPIC, PARTITIONS, RATE)
    _start_producer(stack, NEIGHBOUR_TOPIC, NEIGHBOUR_PARTITIONS, NEIGHBOUR_RATE)
    _start(
        stack,
        NEIGHBOUR_GROUP,
        [stack.python, "-m", "lab.workload.consumer"],
        env={
            "KAFKA_BOOTSTRAP": stack.kafka.bootstrap,
            "KAFKA_TOPIC": NEIGHBOUR_TOPIC,
            "KAFKA_GROUP": NEIGHBOUR_GROUP,
            "HOSTNAME": f"{NEIGHBOUR_GROUP}-0",
        },
    )


def _start(
    stack: Stack,
    name: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    ready: Callable[[], str | None] = lambda: None,
    endpoint: str = "",
) -> None:
    """Start a process of the workload unless this lab already runs it."""
    if any(p.name == name and is_running(p) for p in stack.ledger.processes):
        return
    stack.ledger.start(
        name,
        command,
        part="workload",
        endpoint=endpoint,
        ready=ready,
        timeout=READY_SECONDS,
        env=env,
        cwd=manifests.CHECKOUT,
    )


def _start_producer(stack: Stack, topic: str, partitions: int, rate: float) -> None:
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"

    def ready() -> str | None:
        try:
            ask("GET", url)
        except LabError as error:
            return str(error)
        return None

    _start(
        stack,
        f"producer-{topic}",
        [
            stack.python, "-m", "lab.workload.producer",
            "--bootstrap", stack.kafka.bootstrap,
            "--topic", topic,
            "--partitions", str(partitions),
            "--rate", str(rate),
            "--control-port", str(port),
        ],
        ready=ready,
        endpoint=url,
    )  # fmt: skip


def producer_url(stack: Stack, topic: str = TOPIC) -> str:
    """Return the control page of a topic's producer."""
    return stack.ledger.find(f"producer-{topic}").endpoint


def awx_faults(stack: Stack, faults: Mapping[str, Any] | None) -> None:
    """Set faults of the AWX stand-in; None heals it."""
    url = f"http://127.0.0.1:{stack.awx_port}/lab/faults"
    if faults is None:
        ask("DELETE", url)
    else:
        ask("POST", url, faults)


def _awx_missing(stack: Stack) -> str | None:
    try:
        ask("GET", f"http://127.0.0.1:{stack.awx_port}/api/v2/ping/")
    except LabError as error:
        return str(error)
    return None


# -- what can be seen -------------------------------------------------------------------------


@dataclass(frozen=True)
class GroupView:
    """A consumer group as the broker sees it now. ``lag`` counts records after the commit.

    A partition without a commit is in ``uncommitted``, not in ``lag``.
    """

    state: str
    members: int
    clients: tuple[str, ...]
    committed: Mapping[int, int]
    ends: Mapping[int, int]
    uncommitted: tuple[int, ...]

    @property
    def lag(self) -> dict[int, int]:
        """Return the lag of each partition that has a commit."""
        return {p: max(0, self.ends[p] - o) for p, o in sorted(self.committed.items())}

    @property
    def total_lag(self) -> int:
        """Return the sum over partitions with a commit."""
        return sum(self.lag.values())


def group_view(bootstrap: str, group: str = GROUP, topic: str = TOPIC) -> GroupView:
    """Read a group by admin calls only.

    Raises:
        LabError: the broker did not answer in time.
    """
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    from lagkit.sources.kafka.coordinator import CoordinatorClient
    from lagkit.sources.kafka.errors import LibraryCrashed

    configuration = {"bootstrap.servers": bootstrap, "log_level": 0}
    admin = AdminClient(configuration)
    try:
        # not by the client itself: a coordinator that moves would kill this process
        with contextlib.closing(CoordinatorClient(configuration)) as coordinator:
            asked = coordinator.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=ASK_SECONDS
            )[group]
            offsets = asked.result(ASK_SECONDS + 1)
            described = coordinator.describe_consumer_groups([group], request_timeout=ASK_SECONDS)[
                group
            ].result(ASK_SECONDS + 1)
        known = admin.list_topics(topic, timeout=ASK_SECONDS).topics[topic].partitions
        ends = {
            p.partition: future.result(ASK_SECONDS + 1).offset
            for p, future in admin.list_offsets(
                {TopicPartition(topic, number): OffsetSpec.latest() for number in known},
                request_timeout=ASK_SECONDS,
            ).items()
        }
    except (KafkaException, LibraryCrashed, TimeoutError) as error:
        raise LabError(f"group {group}: no answer in {ASK_SECONDS:.0f} s ({error})") from error
    committed = {
        p.partition: p.offset
        for p in offsets.topic_partitions
        if p.topic == topic and p.offset >= 0 and p.partition in ends
    }
    return GroupView(
        state="UNKNOWN" if described.state is None else described.state.name,
        members=len(described.members),
        clients=tuple(sorted(member.client_id for member in described.members)),
        committed=committed,
        ends=ends,
        uncommitted=tuple(sorted(set(ends) - set(committed))),
    )


def pods(stack: Stack, space: str = manifests.NAMESPACE) -> list[dict[str, Any]]:
    """Return name, phase, readiness, restarts and container states of a namespace's pods."""
    with _kubernetes(stack) as (client, api):
        listed = client.CoreV1Api(api).list_namespaced_pod(space, _request_timeout=REQUEST_SECONDS)
    rows = []
    for pod in listed.items:
        status = (pod.status.container_statuses or [None])[0]
        state = status.state if status else None
        last = status.last_state.terminated if status and status.last_state else None
        waiting = state.waiting.reason if state and state.waiting else None
        ended = state.terminated if state and state.terminated else last
        rows.append(
            {
                "name": pod.metadata.name,
                "phase": pod.status.phase,
                "ready": bool(status and status.ready),
                "restarts": status.restart_count if status else 0,
                "waiting": waiting,
                "exit_code": ended.exit_code if ended else None,
                "reason": ended.reason if ended else None,
            }
        )
    return sorted(rows, key=lambda row: str(row["name"]))


def pod_log(stack: Stack, pod: str, *, previous: bool = False, lines: int = 20) -> str:
    """Return the end of a pod's log; empty when there is none."""
    with _kubernetes(stack) as (client, api):
        try:
            # raw bytes: a log need not be UTF-8
            answer = client.CoreV1Api(api).read_namespaced_pod_log(
                pod,
                manifests.NAMESPACE,
                tail_lines=lines,
                previous=previous,
                _preload_content=False,
                _request_timeout=REQUEST_SECONDS,
            )
        except client.ApiException:
            return ""
        return str(answer.data.decode("utf-8", "replace"))


def wait_for(what: str, missing: Callable[[], str | None], seconds: float) -> None:
    """Wait until ``missing`` answers None.

    Raises:
        LabError: it did not within ``seconds``; the text says what was still missing.
    """
    end = time.monotonic() + seconds
    while True:
        answer = missing()
        if answer is None:
            return
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:.0f} s for {what}: {answer}")
        time.sleep(POLL_SECONDS)


def unwell(stack: Stack, members: int = manifests.REPLICAS) -> str | None:
    """Return None when the worker's group has its members and next to no lag, else what is not."""
    try:
        view = group_view(stack.kafka.bootstrap)
        neighbour = group_view(stack.kafka.bootstrap, NEIGHBOUR_GROUP, NEIGHBOUR_TOPIC)
    except LabError as error:
        return str(error)
    if view.state != "STABLE" or view.members != members:
        return f"{GROUP} is {view.state} with {view.members} of {members} members"
    if view.uncommitted:
        return f"{GROUP} has no commit on partitions {list(view.uncommitted)}"
    if view.total_lag > WELL_LAG:
        return f"{GROUP} is {view.total_lag} records behind"
    if neighbour.members != 1 or neighbour.total_lag > WELL_LAG:
        return f"{NEIGHBOUR_GROUP} has {neighbour.members} members and lag {neighbour.total_lag}"
    return None


def settle(
    stack: Stack, seconds: float = WELL_SECONDS, *, members: int = manifests.REPLICAS
) -> None:
    """Wait until the workload is well, draining a backlog faster than real jobs would.

    Raises:
        LabError: it is not well within ``seconds``.
    """
    end = time.monotonic() + seconds
    draining = False
    try:
        while True:
            trouble = unwell(stack, members)
            if trouble is None:
                return
            if not draining and group_view(stack.kafka.bootstrap).total_lag > DRAIN_LAG:
                awx_faults(stack, {"job_seconds": FAST_JOB_SECONDS})
                draining = True
            if time.monotonic() > end:
                raise LabError(f"the workload is not well after {seconds:.0f} s: {trouble}")
            time.sleep(POLL_SECONDS)
    finally:
        if draining:
            awx_faults(stack, None)


# -- faults -----------------------------------------------------------------------------------


def _nothing(stack: Stack) -> dict[str, Any]:
    return {}


def _slow_awx(stack: Stack) -> dict[str, Any]:
    awx_faults(stack, {"job_seconds": SLOW_JOB_SECONDS})
    return {"job_seconds": SLOW_JOB_SECONDS}


def _heal_awx(stack: Stack) -> None:
    awx_faults(stack, None)


def _bad_release(stack: Stack) -> dict[str, Any]:
    apply(stack, consumer_manifest(stack, "retry", broken=True))
    return {"release": manifests.BAD_RELEASE}


def _good_release(stack: Stack) -> None:
    apply(stack, consumer_manifest(stack, "retry"))


def _poison(stack: Stack) -> dict[str, Any]:
    landed = ask("POST", f"{producer_url(stack)}/poison", {"partition": POISON_PARTITION})
    return dict(landed)


def _step_over(stack: Stack) -> None:
    """Release workers that skip the bad record, and see them past it.

    Without the wait the next release could meet the record again.
    """
    stuck = group_view(stack.kafka.bootstrap).committed.get(POISON_PARTITION, 0)
    apply(stack, consumer_manifest(stack, "skip"))

    def missing() -> str | None:
        try:
            now = group_view(stack.kafka.bootstrap).committed.get(POISON_PARTITION, 0)
        except LabError as error:
            return str(error)
        return None if now > stuck else f"its committed offset is still {now}"

    wait_for(f"partition {POISON_PARTITION} to pass the bad record", missing, GONE_SECONDS)


def _spike(stack: Stack) -> dict[str, Any]:
    ask("POST", f"{producer_url(stack)}/rate", {"multiplier": SPIKE})
    return {"multiplier": SPIKE}


def _calm(stack: Stack) -> None:
    ask("POST", f"{producer_url(stack)}/rate", {"multiplier": 1})


def _on_proxies(stack: Stack, type: str, attributes: Mapping[str, int]) -> dict[str, Any]:
    _need(stack, "toxiproxy")
    for broker in stack.kafka.nodes:
        for stream in ("downstream", "upstream"):
            stack.toxiproxy.add(broker.name, type, attributes, stream=stream)
    return {"toxic": type, **attributes}


def _blackhole(stack: Stack) -> dict[str, Any]:
    # timeout 0: bytes vanish and the connection stays open
    return _on_proxies(stack, "timeout", {"timeout": 0})


def _latency(stack: Stack) -> dict[str, Any]:
    return _on_proxies(stack, "latency", {"latency": LATENCY_MS, "jitter": JITTER_MS})


def _open_proxies(stack: Stack) -> None:
    stack.toxiproxy.clear()


@dataclass(frozen=True)
class Scenario:
    """One labelled incident.

    ``label`` is lagkit's cause id. ``inject`` breaks the stack and returns what it did; ``restore``
    takes the fault away, without waiting for the backlog. ``evidence`` is what one would expect a
    diagnosis to cite. ``policy`` is how the workers treat an undecodable record.
    """

    name: str
    label: str
    summary: str
    inject: Callable[[Stack], dict[str, Any]]
    restore: Callable[[Stack], None]
    evidence: tuple[str, ...]
    policy: str = "retry"


def _restore_nothing(stack: Stack) -> None:
    return


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "baseline",
            "none",
            "A healthy workload: 40 records a second, three members, lag near zero.",
            _nothing,
            _restore_nothing,
            ("lag below three seconds of production", "group Stable with 3 members"),
        ),
        Scenario(
            "slow_processing_awx",
            "slow_processing",
            "AWX jobs take 0.6 s instead of 0.015 s; the workers wait for them.",
            _slow_awx,
            _heal_awx,
            (
                "production unchanged, consumption falls to about 5 a second",
                "group Stable, 3 members, pods ready without restarts",
                "AWX jobs' elapsed time rises fortyfold; workers warn of slow jobs",
                "all six partitions lag alike; audit-writer does not",
            ),
        ),
        Scenario(
            "consumer_down_crash_loop",
            "consumer_down",
            "A release of the worker that needs a setting nobody made: every pod exits 1.",
            _bad_release,
            _good_release,
            (
                "pods in CrashLoopBackOff with exit code 1 from the rollout on",
                "group Empty most of the time; lag grows at the rate of production",
                "previous logs: missing AWX_TOKEN",
                "committed offsets stand still on all partitions",
            ),
        ),
        Scenario(
            "poison_message_retry",
            "poison_message",
            "One record that is not JSON; the worker tries it again for ever.",
            _poison,
            _step_over,
            (
                "exactly one partition's committed offset stands still, at the bad record",
                "the same topic[partition]@offset in every error line",
                "group Stable, pods running, the other five partitions healthy",
            ),
        ),
        Scenario(
            "poison_message_crash",
            "poison_message",
            "One record that is not JSON; whichever worker meets it exits 1.",
            _poison,
            _step_over,
            (
                "pods in CrashLoopBackOff one after another, from the bad record on",
                "the same topic[partition]@offset ends every previous log",
                "that partition's committed offset never passes the bad record",
            ),
            policy="crash",
        ),
        Scenario(
            "message_spike",
            "message_spike",
            "Twelve times the normal production; the workers do what they can.",
            _spike,
            _calm,
            (
                "production rises twelvefold before the lag does",
                "consumption rises too, to the workers' capacity",
                "group Stable, 3 members, AWX jobs as fast as before",
            ),
        ),
        Scenario(
            "network_blackhole",
            "network",
            "Nothing passes between the workers and the brokers; others are untouched.",
            _blackhole,
            _open_proxies,
            (
                "group Empty after the session timeout; pods running without restarts",
                "workers log session and request timeouts",
                "producer, exporters and audit-writer on the same broker are well",
            ),
        ),
        Scenario(
            "network_latency",
            "network",
            "Four seconds each way between the workers and the brokers, give or take two.",
            _latency,
            _open_proxies,
            (
                "pods running without restarts; members come and go or commits come late",
                "workers log session timeouts; the broker is well",
                "producer and audit-writer on the same broker are well",
            ),
        ),
    )
}


@dataclass(frozen=True)
class Injected:
    """What was done, and when (UTC). The fault is active from ``injected_at`` until restored."""

    name: str
    label: str
    started: datetime
    injected_at: datetime
    ended: datetime
    fault: Mapping[str, Any] = field(default_factory=dict)


def _scenario(name: str) -> Scenario:
    try:
        return SCENARIOS[name]
    except KeyError:
        raise LabError(f"no scenario {name!r}; known: {', '.join(SCENARIOS)}") from None


def run(
    stack: Stack,
    name: str,
    *,
    baseline_seconds: float = BASELINE_SECONDS,
    hold_seconds: float = HOLD_SECONDS,
) -> Injected:
    """Bring the workload up, let it be well for a while, inject the fault and hold it.

    The fault is still active on return: see :func:`restore`.

    Raises:
        LabError: the workload did not get well or the fault could not be injected.
    """
    scenario = _scenario(name)
    _note(f"{name}: deploying the workload")
    deploy(stack, scenario.policy)
    settle(stack)
    started = datetime.now(UTC)
    _note(f"{name}: well; {baseline_seconds:.0f} s of baseline")
    time.sleep(baseline_seconds)
    trouble = unwell(stack)
    if trouble is not None:
        settle(stack)
        raise LabError(f"{name}: the baseline did not stay well: {trouble}")
    injected_at = datetime.now(UTC)
    try:
        fault = scenario.inject(stack)
        _note(f"{name}: injected {fault or 'nothing'}; holding {hold_seconds:.0f} s")
        time.sleep(hold_seconds)
    except BaseException:
        scenario.restore(stack)
        raise
    return Injected(name, scenario.label, started, injected_at, datetime.now(UTC), fault)


def restore(stack: Stack, name: str) -> None:
    """Take a scenario's fault away. The backlog stays; :func:`settle` drains it."""
    _scenario(name).restore(stack)
    _note(f"{name}: restored")


@contextlib.contextmanager
def live(
    stack: Stack,
    name: str,
    *,
    baseline_seconds: float = BASELINE_SECONDS,
    hold_seconds: float = HOLD_SECONDS,
) -> Iterator[Injected]:
    """Run a scenario, hand it out with the fault active, and restore at the end."""
    injected = run(stack, name, baseline_seconds=baseline_seconds, hold_seconds=hold_seconds)
    try:
        yield injected
    finally:
        restore(stack, name)


def observed(stack: Stack) -> dict[str, Any]:
    """Return the group, its neighbour, the pods and the ends of their logs, for a person."""
    view = group_view(stack.kafka.bootstrap)
    neighbour = group_view(stack.kafka.bootstrap, NEIGHBOUR_GROUP, NEIGHBOUR_TOPIC)
    listed = pods(stack)
    return {
        "group": {
            "state": view.state,
            "members": view.members,
            "clients": view.clients,
            "lag": view.lag,
            "total_lag": view.total_lag,
            "committed": dict(sorted(view.committed.items())),
        },
        "neighbour": {"members": neighbour.members, "total_lag": neighbour.total_lag},
        "producer": ask("GET", producer_url(stack)),
        "pods": listed,
        "logs": {
            pod["name"]: (
                pod_log(stack, pod["name"], lines=6)
                or pod_log(stack, pod["name"], previous=True, lines=6)
            ).splitlines()
            for pod in listed
        },
    }


# -- command line -----------------------------------------------------------------------------


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=sorted(SCENARIOS))
    parser.add_argument("--folder", type=Path, default=Path(".lab"), help="of the running lab")
    parser.add_argument("--baseline", type=float, default=BASELINE_SECONDS, metavar="SECONDS")
    parser.add_argument("--hold", type=float, default=HOLD_SECONDS, metavar="SECONDS")
    parser.add_argument(
        "--restore", action="store_true", help="take the fault away at the end and settle"
    )


def add_cli(subparsers: Any) -> None:
    """Add the ``scenario`` command to a command line; its ``run`` takes the parsed arguments."""
    parser = subparsers.add_parser("scenario", help="inject one labelled incident")
    _arguments(parser)
    parser.set_defaults(run=_command)


def _command(args: argparse.Namespace) -> int:
    from lab.stack import Stack

    try:
        stack = Stack.attach(args.folder)
        injected = run(stack, args.name, baseline_seconds=args.baseline, hold_seconds=args.hold)
        shown = {**asdict(injected), "observed": observed(stack)}
        print(json.dumps(shown, indent=1, default=lambda value: value.isoformat()))
        if args.restore:
            restore(stack, args.name)
            settle(stack)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one scenario on a running lab: ``python -m lab.scenarios NAME --folder .lab``."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.scenarios", description="inject one labelled incident"
    )
    _arguments(parser)
    return _command(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())

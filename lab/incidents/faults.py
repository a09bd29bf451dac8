"""What can be broken on the running stack, each with the way to mend it.

A fault is a function of the :class:`Bench` and the options of a step. It does its harm, tells what
it did, and leaves on the bench how to undo it; the bench undoes everything in reverse, whatever
happened in between. The clock of the label is the moment a fault was asked for. Adding one is one
function here and its name in a script.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lab import cgroups, manifests, names, scenarios, security
from lab.install import Unavailable, install
from lab.processes import LabError, children, resident_bytes
from lab.stack import Stack
from lab.workload.producer import request

TICK_SECONDS = 0.25
GONE_SECONDS = 60.0
CONFIG_SECONDS = 30.0
TRANSACTION_SECONDS = 900


@dataclass(frozen=True)
class Release:
    """What the workers' Deployment says."""

    replicas: int = manifests.REPLICAS
    environment: Mapping[str, str] = field(default_factory=dict)
    version: str = manifests.RELEASE
    change_cause: str = f"release {manifests.RELEASE}"
    memory: str = "64Mi"
    killed_for_memory: bool = False
    rolling_seconds: int = 0
    """Between two pods of a rollout; 0 replaces all at once."""


class Bench:
    """The stack with the workload on it, and the list of what has to be undone."""

    def __init__(self, stack: Stack, release: Release, chooser: random.Random) -> None:
        """Deploy nothing yet."""
        self.stack = stack
        self.release = release
        self.chooser = chooser
        self._undo = contextlib.ExitStack()

    def mend_with(self, undo: Callable[..., object], *args: object) -> None:
        """Remember how to take a fault away."""
        self._undo.callback(undo, *args)

    def mend(self) -> None:
        """Undo every fault, the last one first."""
        self._undo.close()

    def roll_out(self, release: Release) -> None:
        """Put a release in force; an unchanged one starts no rollout."""
        stack = self.stack
        environment = {
            "KAFKA_BOOTSTRAP": stack.kafka.proxied_bootstrap,
            "KAFKA_TOPIC": scenarios.TOPIC,
            "KAFKA_GROUP": scenarios.GROUP,
            "AWX_URL": f"http://127.0.0.1:{stack.awx_port}",
        }
        if stack.secured:
            # this listener is not behind the proxy
            environment["KAFKA_BOOTSTRAP"] = stack.kafka.sasl_bootstrap
            environment |= security.login(stack.folder / security.FOLDER, security.WORKER)
        environment |= release.environment
        document = manifests.consumer(
            stack.python,
            environment,
            replicas=release.replicas,
            release=release.version,
            change_cause=release.change_cause,
            memory=release.memory,
            killed_for_memory=release.killed_for_memory,
            rolling_seconds=release.rolling_seconds,
            through=names.through(stack.folder) if stack.named else (),
        )
        scenarios.apply(stack, document)
        self.release = release

    def workers(self) -> dict[str, int]:
        """Return the process id of each running worker by the name of its pod."""
        kubelet = self.stack.ledger.find("kubelet")
        found = {}
        for pid in children(kubelet.pid):
            try:
                told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            names = [e.removeprefix(b"HOSTNAME=") for e in told if e.startswith(b"HOSTNAME=")]
            if names and names[0].startswith(manifests.CONSUMER.encode()):
                found[names[0].decode()] = pid
        return dict(sorted(found.items()))

    def pick(self, count: int) -> dict[str, int]:
        """Return *count* of the running workers.

        Raises:
            LabError: fewer run.
        """
        running = self.workers()
        if len(running) < count:
            raise LabError(f"{len(running)} workers run, {count} are wanted")
        names = sorted(self.chooser.sample(sorted(running), count))
        return {name: running[name] for name in names}

    def meanwhile(self, name: str, work: Callable[[threading.Event], None]) -> None:
        """Run *work* beside everything else until the fault is taken away."""
        stop = threading.Event()
        thread = threading.Thread(target=work, args=(stop,), name=name, daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join(GONE_SECONDS)

        self.mend_with(end)


Fault = Callable[..., Mapping[str, Any]]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    """Give a fault to the scripts under the function's name."""
    FAULTS[function.__name__] = function
    return function


def inject(bench: Bench, name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Do the fault called *name*.

    Raises:
        LabError: there is none, or its options are wrong, or it did not take.
    """
    if name not in FAULTS:
        raise LabError(f"no fault {name!r}; known: {', '.join(sorted(FAULTS))}")
    try:
        return FAULTS[name](bench, **options)
    except TypeError as error:
        raise LabError(f"fault {name}: {error}") from error


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


# -- pods -------------------------------------------------------------------------------------


@fault
def kill(bench: Bench, *, count: int, every: float = 0.0) -> Mapping[str, Any]:
    """End workers with SIGKILL, once or again *every* so many seconds."""
    victims = bench.pick(count)
    _signal(list(victims.values()), signal.SIGKILL)
    if every:

        def again(stop: threading.Event) -> None:
            while not stop.wait(every):
                _signal([p for n, p in bench.workers().items() if n in victims], signal.SIGKILL)

        bench.meanwhile("kill", again)
    return {"pods": sorted(victims), "every": every}


@fault
def freeze(bench: Bench, *, count: int, on: float = 0.0, off: float = 0.0) -> Mapping[str, Any]:
    """Stop workers by SIGSTOP; with *on* and *off* in turns, as long pauses of a runtime do."""
    victims = bench.pick(count)
    pids = list(victims.values())
    _in_turns(bench, pids, on, off)
    return {"pods": sorted(victims), "on": on, "off": off}


def _in_turns(bench: Bench, pids: Sequence[int], on: float, off: float) -> None:
    _signal(pids, signal.SIGSTOP)
    bench.mend_with(_signal, pids, signal.SIGCONT)
    if not on:
        return

    def turns(stop: threading.Event) -> None:
        while not stop.wait(on):
            _signal(pids, signal.SIGCONT)
            if stop.wait(off):
                return
            _signal(pids, signal.SIGSTOP)

    bench.meanwhile("freeze", turns)


@fault
def scale(bench: Bench, *, replicas: int) -> Mapping[str, Any]:
    """Change the number of replicas."""
    before = bench.release
    bench.mend_with(bench.roll_out, before)
    bench.roll_out(replace(before, replicas=replicas))
    return {"replicas": replicas}


@fault
def release(
    bench: Bench,
    *,
    environment: Mapping[str, Any],
    why: str,
    memory: str | None = None,
    replicas: int | None = None,
) -> Mapping[str, Any]:
    """Roll out another release of the worker."""
    before = bench.release
    bench.mend_with(bench.roll_out, before)
    told = {**before.environment, **{key: str(value) for key, value in environment.items()}}
    bench.roll_out(
        replace(
            before,
            environment=told,
            version=manifests.BAD_RELEASE,
            change_cause=f"release {manifests.BAD_RELEASE}: {why}",
            memory=memory or before.memory,
            replicas=before.replicas if replicas is None else replicas,
        )
    )
    return {"environment": dict(environment), "why": why}


@fault
def memory_limit(bench: Bench, *, megabytes: int) -> Mapping[str, Any]:
    """Kill workers that grow past a limit, as the kernel does where there are cgroups."""

    def watch(stop: threading.Event) -> None:
        while not stop.wait(TICK_SECONDS):
            for pid in bench.workers().values():
                if (resident_bytes(pid) or 0) > megabytes * 2**20:
                    _signal([pid], signal.SIGKILL)

    bench.meanwhile("memory", watch)
    return {"megabytes": megabytes}


@fault
def restart_in_turn(bench: Bench, *, every: float) -> Mapping[str, Any]:
    """End one worker after another gently, as rolling restarts do, without end."""

    def roll(stop: threading.Event) -> None:
        turn = 0
        while not stop.is_set():
            running = bench.workers()
            if running:
                name = sorted(running)[turn % len(running)]
                _signal([running[name]], signal.SIGTERM)
                turn += 1
            stop.wait(every)

    bench.meanwhile("restarts", roll)
    return {"every": every}


@fault
def delete_in_turn(bench: Bench, *, every: float) -> Mapping[str, Any]:
    """Delete one worker's pod after another, as drained or reclaimed nodes do, without end."""

    def drain(stop: threading.Event) -> None:
        while not stop.is_set():
            running = sorted(bench.workers())
            if running:
                scenarios.delete_pod(bench.stack, bench.chooser.choice(running))
            stop.wait(every)

    bench.meanwhile("evictions", drain)
    return {"every": every}


@fault
def cpu_limit(
    bench: Bench, *, percent: float, of: str = "workers", count: int = 0
) -> Mapping[str, Any]:
    """Let *count* or all workers together, or a broker, have so many percent of one core."""
    if of == "workers":
        pids = list((bench.pick(count) if count else bench.workers()).values())
    else:
        pids = [bench.stack.ledger.find(of).pid]
    name = f"{os.getpid()}-{bench.chooser.randrange(10**6)}"
    for pid in pids:
        bench.mend_with(cgroups.lift, cgroups.limit(f"{name}-{pid}", pid, percent / len(pids)))
    return {"percent": percent, "of": of, "processes": len(pids)}


@fault
def scale_in_turn(bench: Bench, *, more: int, every: float) -> Mapping[str, Any]:
    """Add replicas and take them away again, as a nervous autoscaler does."""
    before = bench.release
    bench.mend_with(bench.roll_out, before)

    def flap(stop: threading.Event) -> None:
        while not stop.is_set():
            bench.roll_out(replace(before, replicas=before.replicas + more))
            if stop.wait(every):
                return
            bench.roll_out(before)
            stop.wait(every)

    bench.meanwhile("scale", flap)
    return {"more": more, "every": every}


@fault
def contest_assignor(bench: Bench, *, every: float, rolling: int) -> Mapping[str, Any]:
    """Change the assignor and change it back without end, as two owners of one setting do.

    Pods are replaced one by one, and a member with the one assignor cannot join those with the
    other (INCONSISTENT_GROUP_PROTOCOL): it tries again until the last of them has gone.
    """
    settings = {"ASSIGNMENT_STRATEGY": "cooperative-sticky"}
    _contest(bench, settings, "cooperative rebalancing", every, rolling)
    return {"every": every, "rolling": rolling, "assignor": settings["ASSIGNMENT_STRATEGY"]}


@fault
def contest_release(bench: Bench, *, every: float, rolling: int) -> Mapping[str, Any]:
    """Roll out one release and the other without end, both of them well."""
    _contest(bench, {"LOG_STYLE": "plain"}, "plain logs", every, rolling)
    return {"every": every, "rolling": rolling}


def _contest(
    bench: Bench, settings: Mapping[str, str], why: str, every: float, rolling: int
) -> None:
    before = bench.release
    bench.mend_with(bench.roll_out, before)
    other = replace(
        before,
        environment={**before.environment, **settings},
        version=manifests.BAD_RELEASE,
        change_cause=f"release {manifests.BAD_RELEASE}: {why}",
        rolling_seconds=rolling,
    )

    def contest(stop: threading.Event) -> None:
        wanted = (other, replace(before, rolling_seconds=rolling))
        turn = 0
        while not stop.is_set():
            bench.roll_out(wanted[turn % len(wanted)])
            turn += 1
            stop.wait(every)

    bench.meanwhile("contest", contest)


@fault
def join_and_leave(bench: Bench, *, every: float) -> Mapping[str, Any]:
    """Have one more member join and leave, again and again."""
    stack = bench.stack
    command = [stack.python, "-m", "lab.workload.consumer"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(manifests.CHECKOUT),
        "KAFKA_BOOTSTRAP": stack.kafka.proxied_bootstrap,
        "KAFKA_TOPIC": scenarios.TOPIC,
        "KAFKA_GROUP": scenarios.GROUP,
        "AWX_URL": f"http://127.0.0.1:{stack.awx_port}",
        "HOSTNAME": "batch-reprocessor-0",
        **bench.release.environment,
    }

    def come_and_go(stop: threading.Event) -> None:
        while not stop.is_set():
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as member:
                stop.wait(every / 2)
                member.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    member.wait(GONE_SECONDS)
                member.kill()
            stop.wait(every / 2)

    bench.meanwhile("member", come_and_go)
    return {"every": every}


@fault
def intake_off(bench: Bench, *, count: int = 0) -> Mapping[str, Any]:
    """Tell *count* or all workers to take no more records, as for a maintenance."""
    victims = bench.pick(count or bench.release.replicas)
    _signal(list(victims.values()), signal.SIGUSR1)

    def on() -> None:
        running = bench.workers()
        _signal([pid for name, pid in victims.items() if running.get(name) == pid], signal.SIGUSR1)

    bench.mend_with(on)
    return {"pods": sorted(victims)}


# -- what the workers wait for ----------------------------------------------------------------


@fault
def awx(bench: Bench, **faults: Any) -> Mapping[str, Any]:
    """Make AWX slow, failing, hanging or small; see ``lab.awx.Faults``."""
    bench.mend_with(scenarios.awx_faults, bench.stack, None)
    scenarios.awx_faults(bench.stack, faults)
    return faults


@fault
def awx_down(bench: Bench) -> Mapping[str, Any]:
    """Scale AWX to no replica."""
    stack = bench.stack

    def to(replicas: int) -> None:
        scenarios.apply(stack, manifests.awx(stack.python, stack.awx_port, replicas=replicas))

    bench.mend_with(to, 1)
    to(0)
    return {"replicas": 0}


# -- records ----------------------------------------------------------------------------------


@fault
def produce(
    bench: Bench,
    *,
    multiplier: float,
    topic: str = scenarios.TOPIC,
    only: Sequence[int] = (),
    only_share: float = 0.0,
    age_seconds: float = 0.0,
    on: float = 0.0,
    off: float = 0.0,
) -> Mapping[str, Any]:
    """Produce so many times the usual; in bursts with *on* and *off*."""
    url = f"{scenarios.producer_url(bench.stack, topic)}/rate"
    usual = {"multiplier": _usual(bench, topic)}
    more = {
        "multiplier": usual["multiplier"] * multiplier,
        "only": list(only),
        "only_share": only_share,
        "age_seconds": age_seconds,
    }
    bench.mend_with(scenarios.ask, "POST", url, usual)
    scenarios.ask("POST", url, more)
    if on:

        def bursts(stop: threading.Event) -> None:
            while not stop.wait(on):
                scenarios.ask("POST", url, usual)
                if stop.wait(off):
                    return
                scenarios.ask("POST", url, more)

        bench.meanwhile("bursts", bursts)
    return {**more, "topic": topic}


@fault
def ramp(bench: Bench, *, multiplier: float, seconds: float) -> Mapping[str, Any]:
    """Raise production evenly to so many times the usual, as a day's peak does."""
    url = f"{scenarios.producer_url(bench.stack, scenarios.TOPIC)}/rate"
    usual = _usual(bench, scenarios.TOPIC)
    bench.mend_with(scenarios.ask, "POST", url, {"multiplier": usual})

    def rise(stop: threading.Event) -> None:
        began = time.monotonic()
        while not stop.wait(1.0):
            share = min(1.0, (time.monotonic() - began) / seconds)
            scenarios.ask("POST", url, {"multiplier": usual * (1 + (multiplier - 1) * share)})

    bench.meanwhile("ramp", rise)
    return {"multiplier": multiplier, "seconds": seconds}


def _usual(bench: Bench, topic: str) -> float:
    told = scenarios.ask("GET", scenarios.producer_url(bench.stack, topic))
    base = scenarios.RATE if topic == scenarios.TOPIC else scenarios.NEIGHBOUR_RATE
    return float(told["rate"]) / base


@fault
def poison(bench: Bench, *, partition: int, kind: str = "bytes") -> Mapping[str, Any]:
    """Send one record that no worker can handle; mended by a release that skips it."""
    url = f"{scenarios.producer_url(bench.stack)}/poison"
    landed = scenarios.ask("POST", url, {"partition": partition, "kind": kind})

    def step_over() -> None:
        before = bench.release
        bench.roll_out(replace(before, environment={**before.environment, "POISON_POLICY": "skip"}))

        def missing() -> str | None:
            try:
                now = scenarios.group_view(bench.stack.kafka.bootstrap).committed.get(partition, 0)
            except LabError as error:
                return str(error)
            return None if now > landed["offset"] else f"its committed offset is still {now}"

        scenarios.wait_for(f"partition {partition} to pass the bad record", missing, GONE_SECONDS)

    bench.mend_with(step_over)
    return dict(landed)


@fault
def hang_transaction(bench: Bench, *, partition: int) -> Mapping[str, Any]:
    """Open a transaction on a partition and leave it open."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": bench.stack.kafka.bootstrap,
            "transactional.id": f"exporter-{bench.chooser.randrange(10**6)}",
            "transaction.timeout.ms": TRANSACTION_SECONDS * 1000,
            "log_level": 0,
        }
    )
    producer.init_transactions(CONFIG_SECONDS)
    producer.begin_transaction()
    producer.produce(scenarios.TOPIC, key="open", value=b"{}", partition=partition)
    producer.flush(CONFIG_SECONDS)
    bench.mend_with(producer.abort_transaction, CONFIG_SECONDS)
    return {"partition": partition}


@fault
def commit_transactions(bench: Bench) -> Mapping[str, Any]:
    """Write one committed transaction to each partition: its marker is an offset no one reads."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": bench.stack.kafka.bootstrap,
            "transactional.id": f"ledger-{bench.chooser.randrange(10**6)}",
            "log_level": 0,
        }
    )
    producer.init_transactions(CONFIG_SECONDS)
    producer.begin_transaction()
    for partition in range(scenarios.PARTITIONS):
        value = request(partition, f"tenant-{partition:03d}", bench.chooser)
        producer.produce(scenarios.TOPIC, key="txn", value=value, partition=partition)
    producer.commit_transaction(CONFIG_SECONDS)
    return {"partitions": scenarios.PARTITIONS}


@fault
def leave_topic(bench: Bench, *, behind: int) -> Mapping[str, Any]:
    """Leave offsets of the group on a topic it reads no more, as a worker of last year would."""
    ends = scenarios.group_view(
        bench.stack.kafka.bootstrap, scenarios.NEIGHBOUR_GROUP, scenarios.NEIGHBOUR_TOPIC
    ).ends
    wanted = {p: max(0, end - behind) for p, end in ends.items()}
    _commit_while_stopped(bench, scenarios.NEIGHBOUR_TOPIC, lambda _: wanted)
    return {"topic": scenarios.NEIGHBOUR_TOPIC, "behind": behind}


@fault
def delete_unread(bench: Bench) -> Mapping[str, Any]:
    """Delete records up to the end of the log, as retention does to who is too far behind."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    view = scenarios.group_view(bench.stack.kafka.bootstrap)
    admin = AdminClient({"bootstrap.servers": bench.stack.kafka.bootstrap, "log_level": 0})
    wanted = [TopicPartition(scenarios.TOPIC, p, end) for p, end in sorted(view.ends.items())]
    for future in admin.delete_records(wanted).values():
        future.result(CONFIG_SECONDS)
    return {"deleted_unread": view.total_lag}


@fault
def move_offsets(bench: Bench, *, back: int) -> Mapping[str, Any]:
    """Stop the group, move its committed offsets back by so many records, start it again."""

    def earlier(committed: Mapping[int, int]) -> dict[int, int]:
        return {p: max(0, offset - back) for p, offset in committed.items()}

    _commit_while_stopped(bench, scenarios.TOPIC, earlier)
    return {"back": back}


def _commit_while_stopped(
    bench: Bench, topic: str, wanted: Callable[[Mapping[int, int]], Mapping[int, int]]
) -> None:
    """Scale the group to nothing, commit for it what an operator would, and start it again."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient

    bootstrap = bench.stack.kafka.bootstrap
    before = bench.release
    bench.roll_out(replace(before, replicas=0))

    def missing() -> str | None:
        try:
            view = scenarios.group_view(bootstrap)
        except LabError as error:
            return str(error)
        return None if view.state == "EMPTY" else f"it is {view.state}"

    scenarios.wait_for("the group to be empty", missing, GONE_SECONDS)
    offsets = wanted(scenarios.group_view(bootstrap).committed)
    told = [TopicPartition(topic, p, offset) for p, offset in sorted(offsets.items())]
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    answers = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(scenarios.GROUP, told)]
    )
    for future in answers.values():
        future.result(CONFIG_SECONDS)
    bench.roll_out(before)


# -- brokers ----------------------------------------------------------------------------------


def _broker(bench: Bench, number: int) -> str:
    nodes = bench.stack.kafka.nodes
    if not 0 <= number < len(nodes):
        raise LabError(f"this lab has {len(nodes)} brokers")
    return nodes[number].name


@fault
def freeze_broker(
    bench: Bench, *, number: int = 0, on: float = 0.0, off: float = 0.0
) -> Mapping[str, Any]:
    """Stop a broker by SIGSTOP; with *on* and *off* in turns, as long collections do."""
    name = _broker(bench, number)
    _in_turns(bench, [bench.stack.ledger.find(name).pid], on, off)
    return {"broker": name, "on": on, "off": off}


@fault
def starve_broker(bench: Bench, *, percent: float, number: int = 0) -> Mapping[str, Any]:
    """Let a broker have so many percent of one core."""
    return cpu_limit(bench, percent=percent, of=_broker(bench, number))


@fault
def quota(bench: Bench, *, bytes_per_second: int) -> Mapping[str, Any]:
    """Throttle every client's fetches, by Kafka's own tool."""
    stack = bench.stack

    artifact = install(["kafka"])["kafka"]
    java = shutil.which("java")
    if isinstance(artifact, Unavailable) or java is None:
        raise LabError("a quota is set by Kafka's own tool, which needs java and its jars")

    def configure(*change: str) -> None:
        done = subprocess.run(
            [
                *(java, "-cp", f"{artifact.files['libs']}/*", "kafka.admin.ConfigCommand"),
                *("--bootstrap-server", stack.kafka.bootstrap, "--alter"),
                *("--entity-type", "clients", "--entity-default", *change),
            ],
            capture_output=True,
            text=True,
            timeout=GONE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise LabError(f"the quota was not set: {done.stderr[-400:] or done.stdout[-400:]}")

    bench.mend_with(configure, "--delete-config", "consumer_byte_rate")
    configure("--add-config", f"consumer_byte_rate={bytes_per_second}")
    return {"bytes_per_second": bytes_per_second}


# -- the network between workers and brokers --------------------------------------------------


@fault
def toxic(
    bench: Bench,
    *,
    kind: str,
    attributes: Mapping[str, int],
    broker: int | None = None,
    share: float = 1.0,
    every: float = 0.0,
    on: float = 0.0,
    off: float = 0.0,
    ways: Sequence[str] = ("downstream", "upstream"),
) -> Mapping[str, Any]:
    """Put a toxic between the workers and the brokers; toxiproxy knows the kinds and *ways*.

    Only a *share* of the connections gets it. Which ones is decided when a connection is made or
    the toxic put there: with *every* it is put there again so often, and nobody is spared for long.
    With *on* and *off* it comes and goes.
    """
    stack = bench.stack
    names = [n.name for n in stack.kafka.nodes] if broker is None else [_broker(bench, broker)]
    bench.mend_with(stack.toxiproxy.clear)
    streams = ("downstream",) if kind == "reset_peer" else ways
    places = [(name, stream) for name in names for stream in streams]

    def put() -> None:
        for name, stream in places:
            stack.toxiproxy.add(name, kind, attributes, stream=stream, toxicity=share)

    def take() -> None:
        for name, stream in places:
            stack.toxiproxy.remove(name, kind, stream)

    put()
    if every or on:

        def again(stop: threading.Event) -> None:
            while not stop.wait(every or on):
                take()
                if stop.wait(off):
                    return
                put()

        bench.meanwhile("toxic", again)
    told = {"share": share, "every": every, **({"on": on, "off": off} if on else {})}
    return {"kind": kind, "brokers": names, **told, **attributes}


@fault
def resets(bench: Bench, *, every: float) -> Mapping[str, Any]:
    """Cut every connection between workers and brokers, again and again."""
    stack = bench.stack
    names = [node.name for node in stack.kafka.nodes]

    def cut(stop: threading.Event) -> None:
        while not stop.is_set():
            for name in names:
                stack.toxiproxy.disable(name)
            stop.wait(every / 2)
            for name in names:
                stack.toxiproxy.enable(name)
            stop.wait(every / 2)

    bench.mend_with(stack.toxiproxy.clear)
    bench.meanwhile("resets", cut)
    return {"every": every}


@fault
def refuse(bench: Bench) -> Mapping[str, Any]:
    """Refuse the workers' connections to every broker, and end those they have."""
    proxies = [node.name for node in bench.stack.kafka.nodes]
    bench.mend_with(bench.stack.toxiproxy.clear)
    for name in proxies:
        bench.stack.toxiproxy.disable(name)
    return {"brokers": proxies}


@fault
def lose_names(bench: Bench, *, way: str) -> Mapping[str, Any]:
    """Take the brokers' names from the workers, and end their connections, as a network does.

    What a connection was made by is asked again only when it is made anew.
    """
    stack = bench.stack
    if not stack.named:
        raise LabError("this lab's brokers have no names: the script needs names")
    bench.mend_with(names.give, stack.folder, [node.host for node in stack.kafka.nodes])
    names.take(stack.folder, way)
    for node in stack.kafka.nodes:
        stack.toxiproxy.disable(node.name)
        stack.toxiproxy.enable(node.name)
    return {"way": way, "brokers": [node.host for node in stack.kafka.nodes]}


# -- rights -----------------------------------------------------------------------------------


@fault
def forbid_group(bench: Bench) -> Mapping[str, Any]:
    """Take from the workers' user the right to be in their group."""
    return _forbid(bench, "GROUP", scenarios.GROUP)


@fault
def forbid_topic(bench: Bench) -> Mapping[str, Any]:
    """Take from the workers' user the right to read their topic."""
    return _forbid(bench, "TOPIC", scenarios.TOPIC)


def _forbid(bench: Bench, kind: str, name: str) -> Mapping[str, Any]:
    stack = bench.stack
    if not stack.secured:
        raise LabError("this lab's brokers know no users: the script needs logins")
    who = (stack.kafka.bootstrap, security.WORKER)
    bench.mend_with(security.let_consume, *who, scenarios.TOPIC, scenarios.GROUP)
    security.forbid(*who, kind, name)
    return {"user": security.WORKER, kind.lower(): name}


# -- monitoring -------------------------------------------------------------------------------


@fault
def freeze_exporter(bench: Bench, *, name: str) -> Mapping[str, Any]:
    """Stop an exporter, so that its scrapes fail."""
    _in_turns(bench, [bench.stack.ledger.find(name).pid], 0.0, 0.0)
    return {"exporter": name}


# -- distractors: true, and not the cause -----------------------------------------------------


@fault
def old_restart(bench: Bench) -> Mapping[str, Any]:
    """Kill one worker and let the group get well again, before anything else happens."""
    return kill(bench, count=1)


@fault
def failing_neighbour(bench: Bench) -> Mapping[str, Any]:
    """Deploy something else in the namespace that crashes for reasons of its own."""
    name = "report-mailer"
    stack = bench.stack
    document = manifests.failing(stack.python, manifests.NAMESPACE, name)
    bench.mend_with(scenarios.delete, stack, document)
    scenarios.apply(stack, document)
    return {"deployment": name}


@fault
def other_topic_spike(bench: Bench) -> Mapping[str, Any]:
    """Produce three times as much to the neighbour's topic, which it can take."""
    return produce(bench, multiplier=3.0, topic=scenarios.NEIGHBOUR_TOPIC)


@fault
def scaled_before(bench: Bench) -> Mapping[str, Any]:
    """Scale the workers by one and back, before anything else happens."""
    before = bench.release
    bench.roll_out(replace(before, replicas=before.replicas + 1))
    scenarios.wait_for(
        "the new member",
        lambda: None if len(bench.workers()) > before.replicas else "not there",
        GONE_SECONDS,
    )
    bench.roll_out(before)
    return {"replicas": before.replicas + 1}


@contextlib.contextmanager
def bench_on(stack: Stack, release: Release, chooser: random.Random) -> Iterator[Bench]:
    """Hand out a bench, and mend whatever was broken on it."""
    bench = Bench(stack, release, chooser)
    try:
        yield bench
    finally:
        bench.mend()

"""What a kubelet's own ``/metrics/cadvisor`` says of its containers, under cAdvisor's names.

The lab's kubelet runs containers as plain processes and has no cAdvisor. This page stands for it
and counts nothing itself: every number is the kernel's own, of the very processes that the
kubelet started (``/proc``) and of the CPU control group that a container was put into. As in the
real one, a container without a CPU limit has no series of periods. A container's ``id`` and
``name`` hold its process, so that a restarted one begins new series. What a process cannot tell
(network, disks, the pause container, sums of a pod) is left out.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import cgroups, manifests
from lab.cgroups import Counted
from lab.processes import LabError, Ledger, children, resident_bytes
from lab.relay.exposition import Family

WORKLOADS: Mapping[str, str] = {
    manifests.CONSUMER: manifests.NAMESPACE,
    manifests.AWX: manifests.AWX_NAMESPACE,
}
"""Deployments that tell their pods' names as HOSTNAME, and their namespaces."""
_HOSTNAME = b"HOSTNAME="


@dataclass(frozen=True)
class Container:
    """One running container: who it is, and what the kernel counted of it.

    ``limited`` is None where it has no CPU limit.
    """

    namespace: str
    pod: str
    container: str
    pid: int
    cpu_seconds: float
    resident: int
    started: float
    """Unix seconds at which the kernel made the process."""
    limited: Counted | None = None


def running(ledger: Ledger) -> list[Container]:
    """Return the containers that this lab's kubelet runs now; none where it runs no kubelet."""
    try:
        kubelet = ledger.find("kubelet").pid
    except LabError:
        return []
    found = (_container(pid) for pid in _started_by(kubelet))
    return [container for container in found if container is not None]


def _started_by(pid: int) -> list[int]:
    """Return a process's children, by the kernel's own lists where it keeps them.

    Looking through every process is ten times the work, five times every few seconds.
    """
    lists = list(Path(f"/proc/{pid}/task").glob("*/children"))
    if not lists:
        return children(pid)
    found: set[int] = set()
    for listed in lists:
        with contextlib.suppress(OSError):
            found.update(int(word) for word in listed.read_text().split())
    return sorted(found)


def _container(pid: int) -> Container | None:
    """Return a process as a container; None when it is gone or no pod's of the workload."""
    try:
        told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        # after the command in brackets, which may hold blanks: utime, stime, starttime: 14, 15, 22
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    pod = next((e.removeprefix(_HOSTNAME).decode() for e in told if e.startswith(_HOSTNAME)), "")
    name = next((name for name in WORKLOADS if pod.startswith(f"{name}-")), None)
    resident = resident_bytes(pid)
    if name is None or resident is None:
        return None
    group = cgroups.of(pid)
    return Container(
        namespace=WORKLOADS[name],
        pod=pod,
        container=name,
        pid=pid,
        cpu_seconds=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        resident=resident,
        started=_booted() + int(fields[19]) / os.sysconf("SC_CLK_TCK"),
        limited=None if group is None else cgroups.counted(group),
    )


@functools.cache
def _booted() -> float:
    """Return when the kernel started, in unix seconds."""
    lines = Path("/proc/stat").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("btime ")).split()[1])


def cadvisor(containers: list[Container]) -> list[Family]:
    """Return the page's families."""
    cpu = Family(
        "container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds."
    )
    memory = Family(
        "container_memory_working_set_bytes", "gauge", "Current working set of the container."
    )
    started = Family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
    )
    periods = Family(
        "container_cpu_cfs_periods_total",
        "counter",
        "Number of elapsed enforcement period intervals.",
    )
    throttled = Family(
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Number of throttled period intervals.",
    )
    held = Family(
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
    )
    for one in containers:
        labels = {
            "container": one.container,
            "id": f"/kubepods/{one.pod}/{one.pid}",
            "name": f"{one.pid}",
            "namespace": one.namespace,
            "pod": one.pod,
        }
        cpu.add(one.cpu_seconds, **labels, cpu="total")
        memory.add(one.resident, **labels)
        started.add(one.started, **labels)
        if one.limited is not None:
            periods.add(one.limited.periods, **labels)
            throttled.add(one.limited.throttled_periods, **labels)
            held.add(one.limited.throttled_seconds, **labels)
    return [periods, throttled, held, cpu, memory, started]

"""What tells how the consumer's containers did: kube-state-metrics and cAdvisor, by their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PodReading:
    """One way to read a canonical metric of containers, per namespace, pod and container.

    ``expression`` is PromQL with ``{where}``, ``{window}`` and ``{rate_window}`` to fill in;
    ``names`` must all exist.
    """

    metric: str
    unit: str
    names: tuple[str, ...]
    expression: str


_BY = "by (namespace, pod, container)"
_RUNNING = 'container!="",container!="POD",{where}'
"""cAdvisor has a series for the pod as a whole and one for its pause container too."""

POD_READINGS: tuple[PodReading, ...] = (
    PodReading(
        "restarts",
        "restarts",
        ("kube_pod_container_status_restarts_total",),
        f"max {_BY} (last_over_time(kube_pod_container_status_restarts_total"
        "{{{where}}}[{window}]))",
    ),
    PodReading(
        "oom_killed",
        "flag",
        ("kube_pod_container_status_last_terminated_reason",),
        f"max {_BY} (last_over_time(kube_pod_container_status_last_terminated_reason"
        '{{reason="OOMKilled",{where}}}[{window}]))',
    ),
    PodReading(
        "cpu_cores",
        "cores",
        ("container_cpu_usage_seconds_total",),
        f"sum {_BY} (rate(container_cpu_usage_seconds_total{{{{{_RUNNING}}}}}[{{rate_window}}]))",
    ),
    PodReading(
        "cpu_throttled_ratio",
        "ratio",
        ("container_cpu_cfs_throttled_periods_total", "container_cpu_cfs_periods_total"),
        f"sum {_BY} (rate(container_cpu_cfs_throttled_periods_total{{{{{_RUNNING}}}}}"
        f"[{{rate_window}}])) / sum {_BY} (rate(container_cpu_cfs_periods_total"
        f"{{{{{_RUNNING}}}}}[{{rate_window}}]))",
    ),
    PodReading(
        "memory_bytes",
        "bytes",
        ("container_memory_working_set_bytes",),
        f"max {_BY} (last_over_time(container_memory_working_set_bytes{{{{{_RUNNING}}}}}"
        "[{window}]))",
    ),
    PodReading(
        "started_at",
        "unix seconds",
        ("container_start_time_seconds",),
        f"max {_BY} (container_start_time_seconds{{{{{_RUNNING}}}}})",
    ),
    PodReading(
        "memory_limit_bytes",
        "bytes",
        ("kube_pod_container_resource_limits",),
        f"max {_BY} (last_over_time(kube_pod_container_resource_limits"
        '{{resource="memory",{where}}}[{window}]))',
    ),
)

POD_NAMES: tuple[str, ...] = tuple(name for reading in POD_READINGS for name in reading.names)

"""Kubernetes: the group's pods and those of what it waits for, and all that moves them.

Knows the API's JSON and its traps. Reads only (get and list), and only the workloads that the
runbook names. Answers are decoded from JSON here rather than by the client's models, which refuse
events that real kubelets write and logs with one bad byte. Knows no cause.

==================  ================================================================
``session``         one API server: a GET within a budget, pages, refusals, provenance
``rows``            pods, workloads and rollouts, from JSON to rows
``events``          events of both API groups, and whose they are
``logs``            which logs are worth reading, and their lines
``surroundings``    autoscalers, nodes, quotas
``reading``         the order of questions
``source``          ``KubernetesSource``, what ``lagkit.collect`` asks
==================  ================================================================
"""

from __future__ import annotations

from lagkit.sources.kubernetes.events import Subjects, event_row
from lagkit.sources.kubernetes.logs import (
    LINE_LIMIT,
    LOG_BYTES,
    level_of,
    log_rows,
    logs_worth_reading,
    telling_pods,
)
from lagkit.sources.kubernetes.rows import (
    Target,
    belongs,
    consumer_target,
    label_selector,
    pod_rows,
    revision_row,
    rollout_row,
    workload_row,
)
from lagkit.sources.kubernetes.session import RBAC_FILE
from lagkit.sources.kubernetes.source import KubernetesSource
from lagkit.sources.kubernetes.surroundings import (
    hpa_row,
    node_row,
    quantity_of,
    quota_rows,
    scaled_object_row,
)

__all__ = [
    "LINE_LIMIT",
    "LOG_BYTES",
    "RBAC_FILE",
    "KubernetesSource",
    "Subjects",
    "Target",
    "belongs",
    "consumer_target",
    "event_row",
    "hpa_row",
    "label_selector",
    "level_of",
    "log_rows",
    "logs_worth_reading",
    "node_row",
    "pod_rows",
    "quantity_of",
    "quota_rows",
    "revision_row",
    "rollout_row",
    "scaled_object_row",
    "telling_pods",
    "workload_row",
]

"""Monitoring that lies: who told an untruth, since when, and what is believed instead.

Pure functions over frames, one check per kind of untruth, in one table. They compute and never
display; they know exporters' habits (lag.md 1.3 and 10) and no cause of lag. To accuse takes proof
from somebody else, as a rule from Kafka itself: a quiet night, a stalled group or an exporter with
few names is no liar.
"""

from __future__ import annotations

from lagkit.monitoring.belief import believed
from lagkit.monitoring.checks import CHECKS, EMPTY_ANSWER, suspicions
from lagkit.monitoring.watched import (
    BLIND_TO_KIP848,
    SILENT_STEPS,
    UNTRUE_HISTORY,
    Watched,
)

__all__ = [
    "BLIND_TO_KIP848",
    "CHECKS",
    "EMPTY_ANSWER",
    "SILENT_STEPS",
    "UNTRUE_HISTORY",
    "Watched",
    "believed",
    "suspicions",
]

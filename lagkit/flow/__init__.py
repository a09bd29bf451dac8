"""Offset arithmetic: pure functions from the frame `offsets` to rates, ages, onset and forecasts.

Everything starts with :func:`clean_offsets`; every other function takes its result, or the totals
:func:`group_flow` makes of it. Frames in, frames and frozen records out: no clock, no network, no
display, and no idea of what a cause is. NaN is *unknown* throughout, never zero.
"""

from __future__ import annotations

from lagkit.flow import burrow
from lagkit.flow.backlog import (
    Delay,
    Drain,
    LossDeadline,
    delay_area,
    drain,
    loss_deadline,
)
from lagkit.flow.bulk import Evaluation, evaluate
from lagkit.flow.growth import FlowShares, Onset, onset, onset_by_partition, shares
from lagkit.flow.joined import FALLING_BEHIND_SECONDS, joined_history, standing_onset
from lagkit.flow.offsets import clean_offsets, group_flow, rates, scrape_step
from lagkit.flow.status import (
    Concentration,
    alignment,
    concentration,
    current_onset,
    modified_z,
    partition_status,
    state,
    without_markers,
)
from lagkit.flow.timelag import time_lag
from lagkit.flow.waits import DeletedUnread, Waits, deleted_unread, waits

__all__ = [
    "FALLING_BEHIND_SECONDS",
    "Concentration",
    "Delay",
    "DeletedUnread",
    "Drain",
    "Evaluation",
    "FlowShares",
    "LossDeadline",
    "Onset",
    "Waits",
    "alignment",
    "burrow",
    "clean_offsets",
    "concentration",
    "current_onset",
    "delay_area",
    "deleted_unread",
    "drain",
    "evaluate",
    "group_flow",
    "joined_history",
    "loss_deadline",
    "modified_z",
    "onset",
    "onset_by_partition",
    "partition_status",
    "rates",
    "scrape_step",
    "shares",
    "standing_onset",
    "state",
    "time_lag",
    "waits",
    "without_markers",
]

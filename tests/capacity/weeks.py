"""Histories for tests, hour by hour, from arrays of rates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.capacity.history import History
from lagkit.runbook import Group, Runbook, Workload

START = pd.Timestamp("2026-08-03T00:00:00Z")  # a Monday
HOURS = 168


def daily(weeks: int, mean: float = 100.0, growth: float = 0.0) -> np.ndarray:
    """Return a smooth demand with a day and a weekend, growing by a share a week."""
    hour = np.arange(weeks * HOURS)
    day = 1 - 0.5 * np.cos((hour % 24 - 3) / 24 * 2 * np.pi)
    weekend = np.where(hour // 24 % 7 >= 5, 0.6, 1.0)
    return mean * day * weekend * (1 + growth * hour / HOURS)


def outage(
    demand: np.ndarray, capacity: float, stops: Mapping[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (consumed, lag at the hour's end) of a consumer stopped from hour → for hours."""
    consumed, lag = np.zeros(len(demand)), np.zeros(len(demand))
    left = 0.0
    down = {hour for first, length in stops.items() for hour in range(first, first + length)}
    for hour, rate in enumerate(demand):
        could = 0.0 if hour in down else capacity
        read = min(could, rate + left / 3600)
        left += (rate - read) * 3600
        consumed[hour], lag[hour] = read, left
    return consumed, lag


def rows(
    produced: np.ndarray,
    consumed: np.ndarray | None = None,
    lag: np.ndarray | None = None,
    *,
    group: str = "g",
    topic: str = "t",
    **columns: np.ndarray | str,
) -> pd.DataFrame:
    """Return flow_hours: offsets that these rates add up to; *columns* replace what is derived."""
    consumed = produced if consumed is None else consumed
    lag = np.zeros(len(produced)) if lag is None else lag
    end = np.concatenate([[0.0], np.cumsum(produced * 3600)]) + 1e6
    read = np.concatenate([[0.0], np.cumsum(consumed * 3600)]) + 1e6
    known = {
        "timestamp": START + pd.to_timedelta(np.arange(len(end)), unit="h"),
        "group": group,
        "topic": topic,
        "log_end_sum": end,
        "committed_sum": read,
        "produced_high": np.append(produced, produced[-1]),
        "produced_low": np.append(produced, produced[-1]),
        "consumed_high": np.append(consumed[:1], consumed),
        "lag_high": np.append(np.maximum(lag[0], 0), np.maximum(lag, np.append(0, lag[:-1]))),
        "dialect": "otel",
    }
    return pd.DataFrame(known | columns)


def history(*tables: pd.DataFrame, **others: pd.DataFrame) -> History:
    """Return a history of these flow_hours and other frames."""
    flow = pd.concat(tables, ignore_index=True) if tables else frames.empty("flow_hours")
    kept = {name: frames.empty(name) for name in frames.HISTORY_FRAMES}
    kept["flow_hours"] = frames.normalise("flow_hours", flow)
    kept |= {name: frames.normalise(name, table) for name, table in others.items()}
    last = flow["timestamp"].max() if len(flow) else START + pd.Timedelta(weeks=8)
    return History(
        cluster="test",
        asked=(),
        start=START.as_unit("us"),
        end=last.as_unit("us"),
        captured_at=last.as_unit("us"),
        lagkit_version="0",
        runbook=Runbook(
            title="test",
            groups=(
                Group(
                    name="g",
                    criticality="high",
                    workload=Workload(namespace="n", name="w"),
                ),
            ),
        ),
        tables=kept,
    )

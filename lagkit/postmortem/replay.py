"""Alert rules run over the recorded data: which would have told of the lag, and when.

The conditions are those of the corrected rules and of the runbook's thresholds, evaluated at every
sample as Prometheus evaluates them, with their ``for:``. A rule that needs a series nobody recorded
is *cannot tell*, never silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lagkit.investigation import Result
from lagkit.postmortem.measures import NO_HISTORY, Course
from lagkit.postmortem.model import ReplayedRule
from lagkit.wording import count, duration

MINUTE = 60.0
FAST_BURN = 14.4
"""Times the budget's even rate: 2 % of a 30-day budget in one hour."""
ERROR_SHARE = 0.01
GROWING_AGE_SECONDS = 30.0
STALL_SECONDS = 600.0
SLOPE_SECONDS = 900.0
RETENTION_HORIZON_SECONDS = 7200.0
MISSING_STEPS = 3.0


@dataclass(frozen=True)
class Scene:
    """What a rule may look at."""

    result: Result
    path: Course
    promise: float
    retention: float | None

    @property
    def end(self) -> pd.Timestamp:
        """The end of the window."""
        return self.result.incident.end


@dataclass(frozen=True)
class Rule:
    """One alert rule: its condition over time as a boolean series, and how long it must hold."""

    name: str
    condition: Callable[[Scene], str]
    """The condition in words."""
    holds: Callable[[Scene], pd.Series[bool] | str]
    """By timestamp; a text where it cannot be told, saying why."""
    for_seconds: float
    needs_seconds: float = 0.0
    """With less history than this it cannot be true."""
    advised: bool = True
    """Worth having; False: of the runbook, for comparison."""


def _age(scene: Scene) -> pd.Series[float] | str:
    return scene.path.age if len(scene.path.age) else NO_HISTORY


def _lag(scene: Scene) -> pd.Series[float] | str:
    return scene.path.lag if len(scene.path.lag) else NO_HISTORY


def _above(level: Callable[[Scene], float]) -> Callable[[Scene], pd.Series[bool] | str]:
    def holds(scene: Scene) -> pd.Series[bool] | str:
        lag = _lag(scene)
        return lag if isinstance(lag, str) else lag > level(scene)

    return holds


def _fast_burn(scene: Scene) -> pd.Series[bool] | str:
    """Time before the data counts as kept: nobody saw it broken."""
    age = _age(scene)
    if isinstance(age, str):
        return age
    broken = (age > scene.promise).astype("float64")
    step = scene.path.step_seconds
    limit = FAST_BURN * ERROR_SHARE
    return (_share(broken, 3600.0, step) > limit) & (_share(broken, 300.0, step) > limit)


def _share(broken: pd.Series[float], window: float, step: float) -> pd.Series[float]:
    samples = max(1.0, window / step)
    return broken.rolling(f"{window:.0f}s").sum() / samples


def _growing(scene: Scene) -> pd.Series[bool] | str:
    lag, age = _lag(scene), _age(scene)
    if isinstance(lag, str):
        return lag
    if isinstance(age, str):
        return age
    return (_slope(lag, SLOPE_SECONDS) > 0) & (
        age.reindex(lag.index).ffill().fillna(0.0) > GROWING_AGE_SECONDS
    )


def _slope(values: pd.Series[float], window: float) -> pd.Series[float]:
    """Least-squares slope per second over a trailing window, as PromQL's ``deriv``."""
    seconds = pd.Series((values.index - values.index[0]).total_seconds(), index=values.index)
    over = f"{window:.0f}s"
    mean_t, mean_v = seconds.rolling(over).mean(), values.rolling(over).mean()
    covariance = (seconds * values).rolling(over).mean() - mean_t * mean_v
    variance = (seconds * seconds).rolling(over).mean() - mean_t * mean_t
    return covariance / variance.where(variance > 1e-9)


def _stalled(scene: Scene) -> pd.Series[bool] | str:
    cleaned = scene.result.flow.cleaned
    known = cleaned.dropna(subset=["committed_offset", "lag_messages"])
    if known.empty:
        return NO_HISTORY
    over = f"{STALL_SECONDS:.0f}s"
    begin = known["timestamp"].min() + pd.to_timedelta(STALL_SECONDS, unit="s")
    hits = pd.Series(False, index=pd.DatetimeIndex(sorted(known["timestamp"].unique())))
    for _, part in known.groupby(["topic", "partition"], sort=False):
        own = part.set_index("timestamp")
        moved = (
            own["committed_offset"].rolling(over).max()
            - own["committed_offset"].rolling(over).min()
        )
        stuck = (moved == 0) & (own["lag_messages"].rolling(over).min() > 0) & (own.index >= begin)
        hits |= stuck.reindex(hits.index, fill_value=False)
    return hits


def _rewound(scene: Scene) -> pd.Series[bool] | str:
    cleaned = scene.result.flow.cleaned
    if cleaned["committed_offset"].isna().all():
        return NO_HISTORY
    return cleaned.groupby("timestamp")["rewound"].any()


def _empty(scene: Scene) -> pd.Series[bool] | str:
    history = scene.result.incident.group_history
    members = history.dropna(subset=["member_count"]).set_index("timestamp")["member_count"]
    lag = _lag(scene)
    if members.empty:
        return "no exporter wrote the number of members"
    if isinstance(lag, str):
        return lag
    return (members == 0) & (lag.reindex(members.index, method="ffill").fillna(0.0) > 0)


def _missing(scene: Scene) -> pd.Series[bool] | str:
    """At every missing sample: as ``absent()`` would answer on the grid of the scrapes."""
    incident, step = scene.result.incident, scene.path.step_seconds
    known = incident.offsets["timestamp"].drop_duplicates().sort_values()
    if known.empty:
        return "no exporter wrote offsets"
    grid = pd.date_range(known.iloc[0], incident.end, freq=pd.to_timedelta(step, unit="s"))
    before = np.searchsorted(known.to_numpy(), grid.to_numpy(), side="right") - 1
    since = grid.to_numpy() - known.to_numpy()[before]
    return pd.Series(since > np.timedelta64(int(MISSING_STEPS * step * 1e6), "us"), index=grid)


def _reaches_retention(scene: Scene) -> pd.Series[bool] | str:
    age = _age(scene)
    if isinstance(age, str):
        return age
    if scene.retention is None:
        return "the retention of the topic is not known"
    slope = _slope(age, SLOPE_SECONDS)
    ahead = age + slope * RETENTION_HORIZON_SECONDS
    return (ahead > scene.retention) & (slope > 0) & (age > 1800.0)


RULES: tuple[Rule, ...] = (
    Rule(
        "LagSLOFastBurn",
        lambda scene: (
            f"oldest message over {duration(scene.promise)} in 14.4 % of the last hour and of the "
            "last 5 minutes"
        ),
        _fast_burn,
        2 * MINUTE,
    ),
    Rule(
        "LagGrowing",
        lambda _scene: "backlog rises over 15 minutes while the oldest message is over 30s",
        _growing,
        10 * MINUTE,
    ),
    Rule(
        "PartitionStalled",
        lambda _scene: "a partition has a backlog and no commit for 10 minutes",
        _stalled,
        5 * MINUTE,
        needs_seconds=STALL_SECONDS,
    ),
    Rule("OffsetRewound", lambda _scene: "a committed offset went back", _rewound, 0.0),
    Rule(
        "GroupEmptyWithBacklog",
        lambda _scene: "the group has no member and a backlog",
        _empty,
        3 * MINUTE,
    ),
    Rule("LagMetricsMissing", lambda _scene: "no lag series at all", _missing, 5 * MINUTE),
    Rule(
        "BacklogReachesRetention",
        lambda _scene: "in 2 hours the oldest message will be as old as the retention",
        _reaches_retention,
        5 * MINUTE,
    ),
    Rule(
        "DeploymentWorkerLagging",
        lambda scene: (
            f"backlog over {count(scene.result.incident.runbook.thresholds.lag_messages)} messages"
        ),
        _above(lambda scene: scene.result.incident.runbook.thresholds.lag_messages),
        0.0,
        advised=False,
    ),
    Rule(
        "KafkaConsumerLagHigh",
        lambda scene: (
            "backlog over "
            f"{count(scene.result.incident.runbook.thresholds.lag_messages_high)} messages"
        ),
        _above(lambda scene: scene.result.incident.runbook.thresholds.lag_messages_high),
        5 * MINUTE,
        advised=False,
    ),
)
"""The corrected rules first, then the runbook's own two that count messages."""


ADVISED = frozenset(rule.name for rule in RULES if rule.advised)


def replayed(scene: Scene, recorded: Mapping[str, object]) -> tuple[ReplayedRule, ...]:
    """Return what every rule would have done; *recorded* holds the names of alerts that fired."""
    onset = scene.result.verdict.onset
    begin = pd.Timestamp(onset.earliest) if onset else None
    return tuple(_replay(rule, scene, begin, rule.name in recorded) for rule in RULES)


def _replay(rule: Rule, scene: Scene, begin: pd.Timestamp | None, seen: bool) -> ReplayedRule:
    onset = scene.result.verdict.onset
    told = rule.holds(scene)
    words = rule.condition(scene)
    if isinstance(told, str):
        return ReplayedRule(
            rule.name, words, rule.for_seconds, "cannot_tell", seen_in_alerts=seen, why=told
        )
    true_at, fires_at = _fires(told.fillna(False).astype(bool), rule.for_seconds, begin)
    if fires_at is None:
        # true at the end: what comes after the data decides
        why = (
            "" if true_at is None else "true at the end, but the data stop before its for: is over"
        )
        seen_for = (told.index[-1] - told.index[0]).total_seconds() if len(told) else 0.0
        if seen_for < rule.needs_seconds:
            why = f"it looks back {duration(rule.needs_seconds)}, the data {duration(seen_for)}"
        return ReplayedRule(
            rule.name,
            words,
            rule.for_seconds,
            "cannot_tell" if why else "silent",
            true_at=true_at,
            seen_in_alerts=seen,
            why=why,
        )
    return ReplayedRule(
        rule.name,
        words,
        rule.for_seconds,
        "fires",
        true_at,
        fires_at,
        (fires_at - pd.Timestamp(onset.at)).total_seconds() if onset else None,
        seen,
    )


def _fires(
    holds: pd.Series[bool], wait: float, begin: pd.Timestamp | None
) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Return since when the condition held and when the alert fires; the last try if it never does.

    As in Prometheus: at the first evaluation at which it has held for *wait* seconds.
    """
    if begin is not None:
        holds = holds.loc[holds.index >= begin]
    values = holds.to_numpy(dtype=bool)
    if not values.any():
        return None, None
    starts = np.flatnonzero(values & ~np.concatenate(([False], values[:-1])))
    run = np.cumsum(values & ~np.concatenate(([False], values[:-1]))) - 1
    since = holds.index[starts[np.clip(run, 0, None)]]
    held = (holds.index - since).total_seconds().to_numpy()
    ready = np.flatnonzero(values & (held >= wait))
    if len(ready):
        return since[ready[0]], holds.index[ready[0]]
    last = np.flatnonzero(values)[-1]
    return (since[last], None) if values[-1] else (None, None)

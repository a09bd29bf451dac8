"""What the rules shall promise: ages, objective, retention, groups; durations as in PromQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lagkit.errors import UsageError

LEAST_PROMISE = 10.0
"""Seconds; a shorter promise lies between two scrapes."""
LONGEST_INTERVAL = 30.0
LONGEST_HORIZON = 24 * 3600.0
_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_DURATION = re.compile(r"(?:\d+(?:ms|[wdhms]))+")
_PART = re.compile(r"(\d+)(ms|[wdhms])")
_LONGEST = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """Everything the rules depend on beside the metrics there are; times in seconds."""

    promise: float = 60.0
    """No unread message is older than this."""
    promises: Mapping[str, float] = field(default_factory=dict)
    """Group → its own promise."""
    objective: float = 99.0
    """Per cent of the time, over 30 days, in which the promise is kept."""
    retention: float | None = None
    retentions: Mapping[str, float] = field(default_factory=dict)
    """Topic → its own retention."""
    expected: tuple[str, ...] = ()
    """Groups that must have metrics."""
    critical: tuple[str, ...] = ()
    """Groups with an alert of their own, at half the promise."""
    stalled: float = 600.0
    """So long without a commit, with something unread, is a standstill."""
    skip_groups: str = ""
    skip_topics: str = ""

    def __post_init__(self) -> None:
        """Refuse what no rule can hold.

        Raises UsageError.
        """
        for whose, seconds in (("", self.promise), *self.promises.items()):
            if seconds < LEAST_PROMISE:
                of = f" of {whose}" if whose else ""
                msg = f"The promise{of} is {seconds:g} s, which lies between two scrapes."
                raise UsageError(msg, hint=f"Promise {LEAST_PROMISE:g} s or more.")
        if not 50.0 <= self.objective < 100.0:
            msg = f"An objective of {self.objective:g} % leaves no budget to burn, or only that."
            raise UsageError(msg, hint="Give --objective between 50 and 99.99.")
        shortest = min([self.promise, *self.promises.values()])
        kept = {} if self.retention is None else {"": self.retention}
        for topic, retention in {**kept, **self.retentions}.items():
            if self.horizon(retention) + shortest >= retention:
                of = f" of {topic}" if topic else ""
                msg = f"The retention{of} is {retention:g} s, and the promise leaves no room in it."
                raise UsageError(msg, hint="Give --retention as the topic's retention.ms says.")
        for option, pattern in (("group", self.skip_groups), ("topic", self.skip_topics)):
            try:
                re.compile(pattern)
            except re.error as error:
                msg = f"--skip-{option} {pattern!r} is no pattern: {error}."
                raise UsageError(
                    msg, hint="It is a regular expression that matches whole."
                ) from None

    @property
    def interval(self) -> float:
        """How often the rules are evaluated: twice within the shortest promise."""
        shortest = min([self.promise, *self.promises.values()])
        return max(LEAST_PROMISE / 2, min(LONGEST_INTERVAL, shortest // 2))

    @property
    def budget(self) -> float:
        """The share of time in which the promise may be broken."""
        return round(1 - self.objective / 100, 6)

    @staticmethod
    def horizon(retention: float) -> float:
        """How long before unread records are deleted somebody is told: a third, a day at most."""
        return min(LONGEST_HORIZON, retention / 3)

    @property
    def rungs(self) -> tuple[float, ...]:
        """Ages that the rules tell apart, ascending."""
        promises = {self.promise, *self.promises.values()}
        steps = {factor * promise for promise in promises for factor in (0.5, 1.0)}
        steps |= {factor * self.promise for factor in (2, 5, 10, 30, 60, 180, 720)}
        kept = [r for r in (self.retention, *self.retentions.values()) if r is not None]
        steps |= {retention - self.horizon(retention) for retention in kept}
        return tuple(sorted(steps))


def seconds_of(text: str, option: str) -> float:
    """Return a duration such as ``60s``, ``1h30m`` or ``7d`` in seconds; UsageError for others."""
    found = _DURATION.fullmatch(text.strip())
    seconds = (
        sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text)) if found else 0.0
    )
    if not 0 < seconds <= _LONGEST:
        msg = f"{option} {text!r} is no duration."
        raise UsageError(msg, hint="Write 60s, 15m, 6h, 7d or 1h30m.")
    return seconds


def by_name(texts: Iterable[str], option: str) -> tuple[float | None, dict[str, float]]:
    """Return the duration for all and those by name, out of ``60s`` and ``NAME=60s``.

    A name may hold ``=``. UsageError for what is no duration, or is said twice.
    """
    default: float | None = None
    named: dict[str, float] = {}
    for text in texts:
        name, equals, length = text.rpartition("=")
        seconds = seconds_of(length, option)
        if (equals and name in named) or (not equals and default is not None):
            msg = f"{option} says two things about {name or 'everything'}."
            raise UsageError(msg, hint=f"Give {option} once for all, and once a name.")
        if equals and not name:
            msg = f"{option} {text!r} names nothing before the =."
            raise UsageError(msg, hint=f"Write {option} {length}, or NAME={length}.")
        if equals:
            named[name] = seconds
        else:
            default = seconds
    return default, named


def duration(seconds: float) -> str:
    """Return *seconds* as PromQL writes them, in the greatest unit that is whole: 90s, 6h, 7d."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        size = round(_UNITS[unit] * 1000)
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"

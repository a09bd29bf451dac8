"""The catalogue: causes, how likely each is before anything is seen, and what sets off what.

Priors come from the runbook's ratings (high : medium : low = 4 : 2 : 1). The mechanism graph is
hand-written: it is small and known, so nothing is learnt. What speaks for and against a cause is
``lagkit.evidence``.

A cause knows no source and no frame. A cause of one's own is added by an entry point of the group
``lagkit.causes`` (see :class:`Extension`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lagkit.evidence import EVIDENCE, EvidenceKind

if TYPE_CHECKING:
    from lagkit.model import Check

UNKNOWN = "unknown"
NONE = "none"

RATING_WEIGHT: Mapping[str, float] = {"high": 4.0, "medium": 2.0, "low": 1.0}
# Of everything the runbook has no name for, in shares of "low": two for the extended causes
# together, half a one for what no catalogue lists. One more for "no incident".
_EXTENDED_SHARE = 2.0
_UNKNOWN_SHARE = 0.5
_NONE_SHARE = 1.0


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause: its id, what it is called, and which causes it sets off in turn."""

    id: str
    title: str
    meaning: str
    kind: Literal["core", "extended", "fallback"] = "core"
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extension:
    """A user's own cause: what an entry point of the group ``lagkit.causes`` gives.

    ``signal`` is called like lagkit's own signals: context in, checks of ``evidence`` out.
    """

    cause: Cause
    evidence: tuple[EvidenceKind, ...] = ()
    signal: Callable[[Any], Iterable[Check]] | None = None
    rating: Literal["high", "medium", "low"] = "low"


CORE: tuple[Cause, ...] = (
    Cause(
        "consumer_down",
        "Consumers down",
        "members are gone, crashing, killed, pending or scaled away",
        leads_to=("rebalancing",),
    ),
    Cause(
        "slow_processing",
        "Slow processing",
        "each record takes longer: downstream, CPU or code",
        leads_to=("rebalancing", "consumer_down"),
    ),
    Cause(
        "message_spike",
        "Message spike",
        "more is produced than the group was made for",
        leads_to=("slow_processing", "consumer_down"),
    ),
    Cause(
        "rebalancing",
        "Rebalancing",
        "the group spends its time handing out partitions, with healthy members",
    ),
    Cause(
        "broker_overload",
        "Broker overload",
        "a broker is saturated, degraded or lost",
        leads_to=("rebalancing", "slow_processing"),
    ),
    Cause(
        "poison_message",
        "Poison message",
        "one record cannot be handled and holds its partition",
        leads_to=("consumer_down", "rebalancing"),
    ),
    Cause(
        "network",
        "Network",
        "clients cannot reach the brokers, which are well",
        leads_to=("rebalancing", "consumer_down"),
    ),
)
EXTENDED: tuple[Cause, ...] = (
    Cause("key_skew", "Key skew", "production is concentrated on few partitions", "extended"),
    Cause(
        "under_parallelism",
        "Too little parallelism",
        "every partition has its member, all are busy, none can be added",
        "extended",
    ),
    Cause(
        "hung_transaction",
        "Hung transaction",
        "an open transaction pins the last stable offset",
        "extended",
    ),
    Cause(
        "offset_reset", "Offset reset", "the committed offset was moved back or forth", "extended"
    ),
    Cause(
        "retention_loss",
        "Retention loss",
        "records were deleted before the group read them",
        "extended",
    ),
    Cause(
        "quota_throttled", "Throttled by a quota", "a client quota holds the group back", "extended"
    ),
)
FALLBACK: tuple[Cause, ...] = (
    Cause(UNKNOWN, "Unknown", "an incident that the evidence does not explain", "fallback"),
    Cause(NONE, "No incident", "the group keeps its promise, or is catching up", "fallback"),
)


@dataclass(frozen=True)
class Catalogue:
    """Causes and evidence in force: lagkit's own and those of entry points."""

    causes: tuple[Cause, ...]
    evidence: tuple[EvidenceKind, ...]
    signals: tuple[Callable[[Any], Iterable[Check]], ...] = ()
    ratings: Mapping[str, str] = field(default_factory=dict)

    def cause(self, name: str) -> Cause:
        """Return the cause *name*; KeyError if there is none."""
        for cause in self.causes:
            if cause.id == name:
                return cause
        raise KeyError(name)

    def kind(self, name: str) -> EvidenceKind:
        """Return the evidence kind *name*; KeyError if there is none."""
        for kind in self.evidence:
            if kind.id == name:
                return kind
        raise KeyError(name)

    def priors(self, ratings: Mapping[str, str]) -> dict[str, float]:
        """Return P(cause) before any evidence, from a runbook's *ratings*; sums to 1.

        Core causes the runbook does not rate count as low.
        """
        weights: dict[str, float] = {}
        extended = [cause.id for cause in self.causes if cause.kind == "extended"]
        for cause in self.causes:
            rating = ratings.get(cause.id) or self.ratings.get(cause.id)
            if cause.id == UNKNOWN:
                weights[cause.id] = _UNKNOWN_SHARE
            elif cause.id == NONE:
                weights[cause.id] = _NONE_SHARE
            elif rating:
                weights[cause.id] = RATING_WEIGHT[rating]
            elif cause.kind == "extended":
                weights[cause.id] = _EXTENDED_SHARE / len(extended)
            else:
                weights[cause.id] = RATING_WEIGHT["low"]
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def downstream_of(self, name: str) -> frozenset[str]:
        """Return every cause that *name* can set off, directly or through others."""
        found: set[str] = set()
        todo = [name]
        while todo:
            for follower in self.cause(todo.pop()).leads_to:
                if follower not in found:
                    found.add(follower)
                    todo.append(follower)
        return frozenset(found)


@functools.cache
def catalogue() -> Catalogue:
    """Return lagkit's catalogue with the causes of installed entry points.

    Raises
    ------
    UsageError
        An entry point cannot be loaded or clashes with a cause or evidence kind that exists.
    """
    from importlib.metadata import entry_points

    from lagkit.errors import UsageError

    causes, evidence = [*CORE, *EXTENDED, *FALLBACK], [*EVIDENCE]
    signals: list[Callable[[Any], Iterable[Check]]] = []
    ratings: dict[str, str] = {}
    for point in sorted(entry_points(group="lagkit.causes"), key=lambda point: point.name):
        try:
            extension = point.load()
        except Exception as error:
            msg = f"The cause {point.name!r} ({point.value}) cannot be loaded: {error}"
            raise UsageError(msg, hint="Uninstall or mend the package that brings it.") from error
        extension = extension() if isinstance(extension, type) else extension
        if not isinstance(extension, Extension):
            msg = f"The entry point {point.name!r} gives no lagkit.causes.Extension."
            raise UsageError(msg)
        taken = {c.id for c in causes} | {k.id for k in evidence}
        clash = taken & {extension.cause.id, *(kind.id for kind in extension.evidence)}
        if clash:
            msg = f"The entry point {point.name!r} redefines {', '.join(sorted(clash))}."
            raise UsageError(msg)
        causes.append(extension.cause)
        evidence.extend(extension.evidence)
        ratings[extension.cause.id] = extension.rating
        if extension.signal:
            signals.append(extension.signal)
    known = {cause.id for cause in causes}
    for cause in causes:
        if strangers := sorted(set(cause.leads_to) - known):
            msg = f"The cause {cause.id!r} leads to {', '.join(strangers)}, which is no cause."
            raise UsageError(msg, hint="Mend the package that brings it.")
    return Catalogue(tuple(causes), tuple(evidence), tuple(signals), ratings)

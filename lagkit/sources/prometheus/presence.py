"""Which dialect tells which group on which topic on which day, and in which cluster."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field

import numpy as np

from lagkit.sources import Blind
from lagkit.sources.dialects import CLUSTER_LABELS, Aggregates, Dialect, Found, joined, matcher
from lagkit.sources.prometheus.asking import Asking
from lagkit.sources.prometheus.grid import Grid
from lagkit.sources.prometheus.hours import HOUR, Places
from lagkit.sources.prometheus.queries import Series

DAY = 86400
RATE_SECONDS = 600
"""What an extreme rate is taken over: over five minutes the jitter of commits is in it."""
FRESH_SECONDS = 600
"""A sample this old still counts for its hour's end."""
MOST_PLACES = 5_000
"""Groups on topics that one run looks at."""
NEAR_NAME = 0.5

Place = tuple[str, str]
Days = dict[Place, np.ndarray]
"""Group and topic → one flag a day."""
Cluster = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Tellers:
    """Who tells each place on which day."""

    found: list[Found]
    days: np.ndarray
    told: dict[int, Days] = field(default_factory=dict)
    """By position in ``found``."""
    where: dict[int, str] = field(default_factory=dict)
    """Matchers of the cluster that each is read of."""


def find_tellers(
    asking: Asking, found: list[Found], groups: tuple[str, ...], window: Grid
) -> Tellers:
    """Ask once a day of *window*; of several clusters the one with most of *groups* is taken."""
    first = math.ceil(window.first / DAY) * DAY
    last = max(first, math.floor(window.last / DAY) * DAY)
    if first > window.last:
        first = last = window.last
    grid = Grid(first, last, DAY)
    tellers = Tellers(found, np.arange(grid.first, grid.last + 1, DAY))
    for number, item in enumerate(found):
        dialect = item.dialect
        if dialect.granularity == "group" or not item.group_metrics:
            continue
        labels = (dialect.group, dialect.topic, "job", *CLUSTER_LABELS)
        aggregates = Aggregates(item, f"{FRESH_SECONDS}s", RATE_SECONDS, HOUR)
        expression = aggregates.presence(item.group_metrics[0], labels)
        got: list[Series] = []
        asking.ask.attempt(
            f"which groups {dialect.title} tells",
            lambda expression=expression, got=got: got.append(  # type: ignore[misc]
                asking.range(expression, grid)
            ),
        )
        if got:
            clusters = _by_cluster(got[0], dialect, grid)
            chosen = _choose(asking, clusters, groups)
            tellers.told[number] = clusters.get(chosen, {})
            tellers.where[number] = joined(*(matcher(name, [value]) for name, value in chosen))
    return tellers


def _by_cluster(answer: Series, dialect: Dialect, grid: Grid) -> dict[Cluster, Days]:
    clusters: dict[Cluster, Days] = {}
    rows = {
        int(number): times.to_numpy() for number, times in answer.samples.groupby("series")["time"]
    }
    for number, item in enumerate(answer.series):
        labels = item["metric"]
        group, topic = labels.get(dialect.group), labels.get(dialect.topic)
        if not group or not topic or number not in rows:
            continue
        cluster = tuple((name, labels[name]) for name in CLUSTER_LABELS if labels.get(name))
        flags = clusters.setdefault(cluster, {}).setdefault(
            (group, topic), np.zeros(grid.points, dtype=bool)
        )
        at = ((rows[number] - grid.first) // DAY).astype("int64")
        flags[at[(at >= 0) & (at < grid.points)]] = True
    return clusters


def _choose(asking: Asking, clusters: dict[Cluster, Days], groups: tuple[str, ...]) -> Cluster:
    """Return the cluster with most days of *groups*, then of any; the others are named."""
    if not clusters:
        return ()
    wanted = set(groups)

    def weight(cluster: Cluster) -> tuple[int, int]:
        told = clusters[cluster]
        ours = sum(int(days.sum()) for (group, _), days in told.items() if group in wanted)
        return ours, sum(int(days.sum()) for days in told.values())

    chosen, *others = sorted(clusters, key=lambda cluster: (weight(cluster), cluster), reverse=True)
    if chosen:
        asking.facts["cluster_label"] = ", ".join(f"{name}={value}" for name, value in chosen)
    if others:
        named = "; ".join(
            " ".join(f"{name}={value}" for name, value in cluster) or "no cluster label"
            for cluster in others
        )
        asking.ask.blind.append(
            Blind(
                f"{len(others)} other cluster(s)",
                f"{named} is there too; shown is the one with most of the groups",
                "Point --prometheus at one cluster.",
            )
        )
    return chosen


def places_wanted(asking: Asking, tellers: Tellers, groups: tuple[str, ...]) -> Places:
    """Return the places of *groups* (empty: all) on the topics asked about, in order of names."""
    ask, topics = asking.ask, asking.ask.scope.topics
    places = sorted({place for told in tellers.told.values() for place in told})
    known = sorted({group for group, _ in places})
    asking.facts["group_count"] = str(len(known))
    if unknown := [group for group in groups if group not in set(known)]:
        near = {
            name
            for group in unknown
            for name in difflib.get_close_matches(group, known, n=3, cutoff=NEAR_NAME)
        }
        asking.facts["near_groups"] = ",".join(sorted(near))
        ask.miss(
            f"the history of {', '.join(map(repr, unknown))}",
            f"no series of {'it' if len(unknown) == 1 else 'them'} in the window; "
            f"{len(known)} other group(s) are there",
            f"Did you mean {', '.join(sorted(near))}?" if near else "Check the name.",
        )
    kept = [
        (group, topic)
        for group, topic in places
        if (not groups or group in groups) and (not topics or topic in topics)
    ]
    if len(kept) > MOST_PLACES:
        ask.miss(
            "some of many groups",
            f"{len(kept)} groups on topics; the first {MOST_PLACES} by name are looked at",
            "Name the groups, or take --topic.",
        )
    return kept[:MOST_PLACES]

"""Which dialect tells the group, in which cluster, and how often it is scraped.

Of several dialects the richest is read and the others become second opinions; of several clusters
one is read and the rest is said to be there.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from lagkit.sources.dialects import Found, joined, looked_for, matcher, silent
from lagkit.sources.prometheus.grid import MOST_SAMPLES, POINTS_PER_SERIES, Grid, shift
from lagkit.sources.prometheus.inquiry import Inquiry, Spoken, place_of
from lagkit.sources.prometheus.matrix import decode
from lagkit.sources.prometheus.queries import Series

UNKNOWN_STEP_SECONDS = 15
"""Step where no series tells how often it is scraped (a common scrape interval)."""
INTERVAL_LOOKBACK_SECONDS = 6 * 3600
NEAR_NAME = 0.5
"""Likeness from which another group's name is offered for a mistyped one (difflib's ratio)."""


def choose(
    inquiry: Inquiry, found: tuple[Found, ...], names: frozenset[str]
) -> tuple[Spoken | None, tuple[Spoken, ...]]:
    """Return the richest dialect that knows the group, and the others that do.

    Says what the others are, or the lack of any.
    """
    facts = inquiry.facts
    dead = sorted(set(inquiry.scope.runbook.alert_metrics) - names)
    if not found:
        _nothing_found(inquiry, names, dead)
        return None, ()
    ids = [item.dialect.id for item in found]
    candidates: list[Spoken] = []
    for item in found:
        inquiry.ask.attempt(
            f"series of the group in {item.dialect.title}",
            lambda item=item: candidates.extend(_group_series(inquiry, item)),  # type: ignore[misc]
        )
    candidates.sort(
        key=lambda spoken: (
            -spoken.found.fineness,
            -spoken.found.richness,
            ids.index(spoken.found.dialect.id),
        )
    )
    chosen = candidates[0] if candidates else None
    best = chosen.found if chosen else max(found, key=lambda item: (item.fineness, item.richness))
    facts["dialect"] = best.dialect.id
    facts["dialect_title"] = best.dialect.title
    others = [item for item in found if item.dialect.id != best.dialect.id]
    facts["cross_dialects"] = ",".join(item.dialect.id for item in others)
    inquiry.remarks.insert(0, f"{best.dialect.title} names")
    for gap in best.gaps:
        inquiry.blind(gap.what, gap.why, gap.fix)
    for item in others:
        # it runs and tells nothing: whoever relies on it should know
        if not item.group_metrics:
            for gap in item.gaps:
                inquiry.blind(gap.what, gap.why, gap.fix)
    if dead:
        inquiry.blind(
            "the runbook's alerts",
            f"the alert's metric does not exist here: {' and '.join(dead)} "
            + ("is no name" if len(dead) == 1 else "are no names")
            + f" of {best.dialect.title}, so an alert on it can never fire",
            f"Alert on {', '.join(best.group_metrics) or 'a metric that exists'} instead.",
        )
    if chosen is None:
        _not_there(inquiry, found)
        return None, ()
    chosen = _one_cluster(inquiry, chosen)
    if chosen.found.dialect.granularity == "group":
        inquiry.ask.miss(
            "offset history of the group",
            f"{best.dialect.title} tell the lag of the whole group and no offset",
            next((gap.fix for gap in best.gaps if gap.fix), ""),
        )
        return None, ()
    others_here = (_of_same_cluster(spoken, chosen.cluster) for spoken in candidates[1:])
    return chosen, tuple(spoken for spoken in others_here if spoken is not None)


def _nothing_found(inquiry: Inquiry, names: frozenset[str], dead: list[str]) -> None:
    inquiry.facts["dialect"] = "none"
    if mute := silent(names, inquiry.dialects):
        titles = " or ".join(mute)
        inquiry.remarks.append(f"{titles}, without any consumer group")
        inquiry.ask.miss(
            "offset history of the group",
            f"{titles} writes log offsets and not one consumer group: none has committed, "
            "or it cannot read them; for seconds after a broker restart, nobody can",
            "Look at the exporter's log and at its group filter; ask again in a minute.",
        )
        return
    inquiry.remarks.append("no lag metric of any known exporter")
    inquiry.ask.miss(
        "offset history of the group",
        "no lag exporter writes here; looked for "
        + ", ".join(looked_for(inquiry.dialects))
        + ". An alert on any of these cannot fire here"
        + (f", those of the runbook ({', '.join(dead)}) included" if dead else ""),
        "Deploy a lag exporter (the OpenTelemetry kafkametrics receiver has the runbook's "
        "names), give another --prometheus, or map your own exporter's names in a [[dialects]] "
        "table of lagkit.toml.",
    )


def _group_series(inquiry: Inquiry, found: Found) -> list[Spoken]:
    names = found.group_metrics
    if not names:
        return []
    own = joined(matcher(found.dialect.group, [inquiry.scope.group]), found.dialect.where)
    series = inquiry.series([f"{name}{{{own}}}" for name in names])
    return [Spoken(found, series)] if series else []


def _one_cluster(inquiry: Inquiry, spoken: Spoken) -> Spoken:
    """Keep one job and cluster: two clusters may have the same group, topics and partitions."""
    places: dict[tuple[tuple[str, str], ...], list[Mapping[str, str]]] = {}
    for item in spoken.series:
        places.setdefault(place_of(item), []).append(item)
    ordered = sorted(places, key=lambda place: (-len(places[place]), place))
    kept = dict(ordered[0])
    inquiry.facts["job"] = kept.get("job", "")
    cluster = {label: value for label, value in kept.items() if label != "job"}
    if cluster:
        inquiry.facts["cluster_label"] = ", ".join(
            f"{label}={value}" for label, value in sorted(cluster.items())
        )
    if len(ordered) == 1:
        # another cluster may have topics of the same names, so the cluster counts in any case
        where = joined(*(matcher(label, [value]) for label, value in cluster.items()))
        return Spoken(spoken.found, spoken.series, where, cluster)
    named = [" ".join(f"{key}={value}" for key, value in place) for place in ordered]
    inquiry.blind(
        f"the group as seen by {len(named) - 1} other exporter(s) or cluster(s)",
        f"the same group is exported by {'; '.join(named)}; {named[0]} is shown",
        "Point --prometheus at one cluster, or drop the second exporter.",
    )
    where = joined(*(matcher(label, [value]) for label, value in kept.items()))
    return Spoken(spoken.found, places[ordered[0]], where, cluster)


def _of_same_cluster(spoken: Spoken, cluster: Mapping[str, str]) -> Spoken | None:
    """Return *spoken* with the series of *cluster* only; None if it may be of another one.

    A group of the same name in another cluster is no second opinion.
    """
    places: dict[tuple[tuple[str, str], ...], list[Mapping[str, str]]] = {}
    for item in spoken.series:
        if all(item.get(label, value) == value for label, value in cluster.items()):
            places.setdefault(place_of(item), []).append(item)
    clusters = {tuple(part for part in place if part[0] != "job") for place in places}
    if len(clusters) != 1:
        return None
    kept = min(places, key=lambda place: (-len(places[place]), place))
    where = joined(*(matcher(label, [value]) for label, value in kept))
    return Spoken(spoken.found, places[kept], where, dict(*clusters))


def _not_there(inquiry: Inquiry, found: tuple[Found, ...]) -> None:
    """Say that no dialect has a lag of the group: unknown to it, or without any commit."""
    groups: set[str] = set()
    named: set[str] = set()
    group = inquiry.scope.group
    for item in found:
        for name in item.naming_metrics:
            known: set[str] = set()
            inquiry.ask.attempt(
                "names of the groups there are",
                lambda label=item.dialect.group, name=name, known=known: known.update(  # type: ignore[misc]
                    inquiry.label_values(label, name)
                ),
            )
            groups |= known
            if group in known:
                named.add(name)
    inquiry.facts["group_count"] = str(len(groups))
    if named:
        inquiry.facts["near_groups"] = group
        inquiry.remarks.append(f"group {group!r} has no lag per partition")
        inquiry.ask.miss(
            "offset history of the group",
            f"group {group!r} is known ({', '.join(sorted(named))}) and has no lag of any "
            "partition: it has committed nothing, or the exporter does not see its commits. Its "
            "lag is unknown; a sum of 0 for such a group is not a lag of 0",
            "Give --bootstrap: the broker itself knows what is committed.",
        )
        return
    near = difflib.get_close_matches(group, sorted(groups), n=5, cutoff=NEAR_NAME)
    inquiry.facts["near_groups"] = ",".join(near)
    inquiry.remarks.append(f"group {group!r} is not among the {len(groups)} groups")
    inquiry.ask.miss(
        "offset history of the group",
        f"no series of group {group!r} in the window; {len(groups)} other group(s) are there",
        f"Did you mean {', '.join(near)}?" if near else "Check the name and the window.",
    )


def scrape_interval(inquiry: Inquiry, spoken: Spoken) -> int:
    """Return the whole seconds between raw samples of one partition of the group."""
    dialect = spoken.found.dialect
    one = min(spoken.series, key=lambda item: sorted(item.items()))
    matchers = joined(
        *(matcher(label, [one[label]]) for label in
          (dialect.group, dialect.topic, dialect.partition) if label in one),
        spoken.where,
        dialect.where,
    )  # fmt: skip
    lookback = min(inquiry.span, INTERVAL_LOOKBACK_SECONDS)
    raw: list[Series] = []
    inquiry.ask.attempt(
        "scrape interval of the exporter",
        lambda: raw.append(inquiry.ask.instant(f"{one['__name__']}{{{matchers}}}[{lookback}s]")),
    )
    samples = raw[0].samples if raw else decode([])
    between = samples.groupby("series")["time"].diff().dropna()
    if between.empty:
        inquiry.facts["scrape_interval_seconds"] = "unknown"
        inquiry.remarks.append(f"scrape interval unknown, {UNKNOWN_STEP_SECONDS} s taken")
        return UNKNOWN_STEP_SECONDS
    interval = max(1, round(float(between.median())))
    inquiry.facts["scrape_interval_seconds"] = str(interval)
    if len({item.get("instance") for item in spoken.series}) == 1:
        inquiry.shift = shift(samples["time"].to_numpy(), interval)
    return interval


def grid_for(inquiry: Inquiry, interval: int, spoken: Spoken | None) -> Grid:
    """Return the grid: the scrape interval, or wider where that is too many points."""
    series = len(spoken.series) if spoken else 1
    step = max(
        interval,
        math.ceil(inquiry.span / POINTS_PER_SERIES),
        math.ceil(inquiry.span * series / MOST_SAMPLES),
    )
    if step != interval:
        inquiry.shift = 0.0
        inquiry.remarks.append(f"thinned from {interval} s")
    return Grid.over(inquiry.scope.start, inquiry.scope.end, step)

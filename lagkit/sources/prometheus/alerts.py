"""Alerts: which were pending and firing and since when, and which rules can never fire.

``ALERTS`` tells the state at every evaluation, ``ALERTS_FOR_STATE`` since when the expression has
been true. A rule is asked about only through the names in its expression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.sources.dialects import GROUP_LABELS, either, joined, matcher
from lagkit.sources.prometheus.grid import Grid
from lagkit.sources.prometheus.inquiry import LABEL_CHARACTERS, Inquiry

MOST_ALERT_SERIES = 100
MOST_RULES_NAMED = 10

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`')
_SELECTORS = re.compile(r"\{[^{}]*\}")
_LABEL_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_KAFKA_NAME = re.compile(r"(?<![\w:])(?:\w*(?:kafka|redpanda|burrow)\w*|klag_\w+)(?![\w:]|\s*\()")


def alerts(inquiry: Inquiry, grid: Grid, names: frozenset[str]) -> None:
    """Fill the frame ``alerts``: those of this group, and those of no group at all."""
    if "ALERTS" not in names:
        return
    of_us = [matcher(label, [inquiry.scope.group]) for label in GROUP_LABELS]
    of_nobody = joined(*(f'{label}=""' for label in GROUP_LABELS))
    rows = [
        part
        for selectors in (of_us, [of_nobody])
        for part in [_rows(inquiry, selectors, grid)]
        if not part.empty
    ]
    if rows:
        together = pd.concat(rows, ignore_index=True)
        inquiry.frames["alerts"] = frames.normalise(
            "alerts", together.drop_duplicates(["timestamp", "labels"])
        )


def _rows(inquiry: Inquiry, selectors: Sequence[str], grid: Grid) -> pd.DataFrame:
    states, since = (
        inquiry.ask.range(
            either(f"{name}{{{selector}}}" for selector in selectors),
            grid,
            most_series=grid.at_most(MOST_ALERT_SERIES),
        )
        for name in ("ALERTS", "ALERTS_FOR_STATE")
    )
    if states.samples.empty:
        return pd.DataFrame()
    described = pd.DataFrame([_described(item["metric"]) for item in states.series])
    rows = states.samples.join(described, on="series")
    identity = [_identity(item["metric"]) for item in since.series]
    active = since.samples.assign(
        identity=np.array(identity or [""], dtype=object)[since.samples["series"]]
        if len(since.samples)
        else []
    )
    rows = rows.merge(
        active[["time", "identity", "value"]].rename(columns={"value": "active"}),
        on=["time", "identity"],
        how="left",
    )
    active_at = pd.Series(pd.NaT, index=rows.index, dtype=frames.TIME)
    known = rows["active"].notna()
    active_at[known] = frames.from_epoch_seconds(rows.loc[known, "active"].to_numpy())
    return pd.DataFrame(
        {
            "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
            "alert": rows["alert"],
            "state": rows["state"],
            "group": rows["group"],
            "severity": rows["severity"],
            "active_at": active_at,
            "labels": rows["labels"],
            "query_id": states.query_id,
        }
    )


def _identity(labels: Mapping[str, str]) -> str:
    """Return what an alert's ALERTS and ALERTS_FOR_STATE series have in common."""
    own = {key: value for key, value in labels.items() if key not in {"__name__", "alertstate"}}
    return json.dumps(own, sort_keys=True, ensure_ascii=False)


def _described(labels: Mapping[str, str]) -> dict[str, str | None]:
    shown = {
        key[:LABEL_CHARACTERS]: value[:LABEL_CHARACTERS]
        for key, value in labels.items()
        if key != "__name__"
    }
    return {
        "alert": shown.get("alertname", "(unnamed)"),
        "state": shown.get("alertstate", "unknown"),
        "group": next((shown[label] for label in GROUP_LABELS if shown.get(label)), None),
        "severity": shown.get("severity"),
        "labels": json.dumps(shown, sort_keys=True, ensure_ascii=False),
        "identity": _identity(labels),
    }


def dead_rules(inquiry: Inquiry, names: frozenset[str]) -> None:
    """Name the alert rules whose metrics do not exist here: they can never fire.

    Only metrics of Kafka's and its exporters' are looked at, and only in the window: an absent
    metric may be what the rule is about, so a rule with ``absent`` in it is left alone.
    """
    data = inquiry.ask.page("rules")
    dead: dict[str, set[str]] = {}
    for name, expression in _alert_rules(data):
        if re.search(r"\babsent(_over_time)?\b", expression):
            continue
        missing = metrics_in(expression) - names
        if missing:
            dead.setdefault(name, set()).update(missing)
    if not dead:
        return
    inquiry.facts["rules_that_cannot_fire"] = ",".join(sorted(dead))[:LABEL_CHARACTERS]
    for name in sorted(dead)[:MOST_RULES_NAMED]:
        inquiry.blind(
            f"the alert {name[:LABEL_CHARACTERS]}",
            f"its rule reads {', '.join(sorted(dead[name]))[:LABEL_CHARACTERS]}, which does not "
            "exist here in the window: it cannot fire",
            "Write the rule with the names of the exporter that runs.",
        )


def _alert_rules(data: Any) -> Iterator[tuple[str, str]]:
    groups = data.get("groups") if isinstance(data, dict) else None
    for group in groups if isinstance(groups, list) else ():
        rules = group.get("rules") if isinstance(group, dict) else None
        for rule in rules if isinstance(rules, list) else ():
            if isinstance(rule, dict) and rule.get("type", "alerting") == "alerting":
                yield str(rule.get("name", "")), str(rule.get("query", ""))


def metrics_in(expression: str) -> set[str]:
    """Return the metric names in PromQL that are Kafka's or an exporter's of it.

    Strings, label matchers and label lists are taken out first: labels may have such names too.
    """
    bare = _STRINGS.sub('""', expression)
    bare = _LABEL_LISTS.sub(" ", _SELECTORS.sub(" ", bare))
    return set(_KAFKA_NAME.findall(bare))

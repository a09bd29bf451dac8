"""A Grafana dashboard of the recorded series, with variables for cluster, group and topic.

Its panels are the report's figures, as far as Grafana can draw them from metrics: which member had
which partition and what speaks for which cause need the report itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lagkit.rules.records import (
    AGE,
    COMMITTED,
    END,
    GROUP_UNREAD,
    MEMBERS,
    READ,
    START,
    TOPIC_AGE,
    TOPIC_UNREAD,
    UNREAD,
    WRITTEN,
)
from lagkit.rules.wishes import duration

if TYPE_CHECKING:
    from lagkit.rules.ruleset import Ruleset

UID = "lagkit-consumer-lag"
SCHEMA_VERSION = 39
"""Of Grafana 10.4 and 11; later ones migrate it when they load it."""
_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_GROUP = 'cluster=~"$cluster",group=~"$group"'
_TOPIC = f'{_GROUP},topic=~"$topic"'
_LOG = 'cluster=~"$cluster",topic=~"$topic"'
# Okabe and Ito's colours, which the colour-blind tell apart
_ORANGE, _BLUE, _RED = "#E69F00", "#0072B2", "#D55E00"
_SEQUENCE = ("#440154", "#3B528B", "#21918C", "#5EC962", "#FDE725")


@dataclass(frozen=True)
class _Panel:
    """One panel: its queries with their legends, and how it is drawn."""

    title: str
    description: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = _WIDTH
    height: int = 8
    needs: str = "offsets"
    thresholds: tuple[tuple[float | None, str], ...] = ((None, _BLUE),)
    line: bool = False
    custom: dict[str, Any] = field(default_factory=dict)


def dashboard(ruleset: Ruleset) -> str:
    """Return the dashboard as JSON that Grafana imports; it draws what *ruleset* records."""
    panels = [one for one in _panels(ruleset) if one.needs in ruleset.has]
    document = {
        "uid": UID,
        "title": "Consumer lag",
        "description": (
            f"Written by lagkit for {ruleset.title}: draws what the rules of the same dialect "
            "record. All of it is described in lagkit's docs/rules.md."
        ),
        "tags": ["kafka", "consumer-lag", "lagkit"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": [_alerts()]},
        "templating": {"list": _variables(ruleset)},
        "panels": _placed(panels),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def expressions(text: str) -> list[str]:
    """Return every PromQL expression in the dashboard *text*, its variables filled with all."""
    document = json.loads(text)
    found = [target["expr"] for panel in document["panels"] for target in panel.get("targets", ())]
    found += [one["expr"] for one in document["annotations"]["list"]]
    for name in ("cluster", "group", "topic"):
        found = [one.replace(f"${name}", ".*") for one in found]
    return [one.replace("$__rate_interval", "5m") for one in found]


def _panels(ruleset: Ruleset) -> list[_Panel]:
    wishes = ruleset.wishes
    own = f"{len(wishes.promises)} group(s) have their own" if wishes.promises else "for all groups"
    promise = duration(wishes.promise)
    kept = min((r for r in (wishes.retention, *wishes.retentions.values()) if r), default=None)
    steps: list[tuple[float | None, str]] = [(None, _BLUE), (wishes.promise, _ORANGE)]
    if kept:
        steps.append((kept - wishes.horizon(kept), _RED))
    half = _WIDTH // 2
    whole_groups = "offsets" not in ruleset.has
    panels = [
        _Panel(
            "Age of the oldest unread message",
            f"What happened when: at least so old, in steps. The promise is {promise} ({own}); "
            "dashed lines mark it and, where a retention is known, where loss comes near.",
            ((f"{TOPIC_AGE}{{{_TOPIC}}}", "{{group}} on {{topic}}"),),
            unit="s",
            thresholds=tuple(steps),
            line=True,
            custom={"lineInterpolation": "stepAfter"},
        ),
        _Panel(
            "Unread messages",
            "How much is behind. A gap is a missing metric, not zero.",
            ((f"{TOPIC_UNREAD}{{{_TOPIC}}}", "{{group}} on {{topic}}"),),
        ),
        _Panel(
            "Written and read per second",
            "Demand or capacity: the backlog grows by what lies between the lines.",
            (
                (f"sum by (topic) ({WRITTEN}{{{_written(ruleset)}}})", "written to {{topic}}"),
                (f"{READ}{{{_TOPIC}}}", "read by {{group}} from {{topic}}"),
            ),
            unit="cps",
        ),
        _Panel(
            "Age by partition",
            "Skew, one that is stuck, or all of them: a row is a partition, darker is younger.",
            ((f"max by (topic, partition) ({AGE}{{{_TOPIC}}})", "{{topic}}/{{partition}}"),),
            kind="status-history",
            unit="s",
            needs="partitions",
            thresholds=tuple(
                zip((None, *(f * wishes.promise for f in (0.5, 1, 10, 60))), _SEQUENCE, strict=True)
            ),
        ),
        _Panel(
            "Log end and committed offset of the worst partition",
            "Stuck, slow, rewound or skipped: the vertical gap is unread, the horizontal one is "
            "the delay.",
            (
                (_worst(f"{END}{{{_LOG}}}", "cluster, topic, partition"), "log end"),
                (_worst(f"{COMMITTED}{{{_TOPIC}}}", "cluster, group, topic, partition"),
                 "committed by {{group}}"),
                *(
                    ((_worst(f"{START}{{{_LOG}}}", "cluster, topic, partition"), "log start"),)
                    if "log_start" in ruleset.has
                    else ()
                ),
            ),
            needs="partitions",
        ),
        _Panel(
            "Unread messages of whole groups",
            "How much is behind; this exporter tells no topic.",
            ((f"{GROUP_UNREAD}{{{_GROUP}}}", "{{group}}"),),
            needs="unread" if whole_groups else "never",
        ),
        _Panel(
            "Members",
            "Lost consumers and rebalances. Some exporters count 0 for a live group of the "
            "consumer protocol (KIP-848).",
            ((f"{MEMBERS}{{{_GROUP}}}", "{{group}}"),),
            needs="members",
            width=half,
        ),
        _Panel(
            "Caught up in",
            "At the present net rate; nothing while the backlog does not shrink.",
            (
                (f"{TOPIC_UNREAD}{{{_TOPIC}}} / (deriv({TOPIC_UNREAD}{{{_TOPIC}}}[5m]) < 0) * -1",
                 "{{group}} on {{topic}}"),
            ),
            kind="stat",
            unit="s",
            width=half,
        ),
        _Panel(
            "Demand against the most that was read",
            "When capacity runs out: what is written, the same a week ago, and the fastest hour "
            "of reading in a week, which is a lower bound of what the group can do.",
            (
                (f"sum by (topic) ({WRITTEN}{{{_written(ruleset)}}})", "written to {{topic}}"),
                (f"sum by (topic) ({WRITTEN}{{{_written(ruleset)}}} offset 7d)",
                 "a week ago, {{topic}}"),
                (f"max_over_time({READ}{{{_TOPIC}}}[7d])", "most read by {{group}}, {{topic}}"),
            ),
            unit="cps",
        ),
    ]  # fmt: skip
    if kept and not whole_groups:
        panels.insert(
            2,
            _Panel(
                "Time until unread messages are deleted",
                f"By the time rule, at the earliest, with a retention of {duration(kept)}; "
                "retention.bytes and a full disk delete sooner.",
                ((f"{kept:g} - {TOPIC_AGE}{{{_TOPIC}}}", "{{group}} on {{topic}}"),),
                kind="stat",
                unit="s",
                height=5,
                thresholds=((None, _RED), (wishes.horizon(kept), _ORANGE), (kept / 2, _BLUE)),
            ),
        )
    return panels


def _written(ruleset: Ruleset) -> str:
    return _LOG if "partitions" in ruleset.has else _TOPIC


def _worst(selector: str, labels: str) -> str:
    return f"{selector}\nand on ({labels})\ntopk(1, {UNREAD}{{{_TOPIC}}})"


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": _ORANGE,
        "expr": f'ALERTS{{alertstate="firing",{_GROUP}}}',
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{group}} {{topic}} {{partition}}",
        "tagKeys": "severity",
    }


def _variables(ruleset: Ruleset) -> list[dict[str, Any]]:
    whole_groups = "offsets" not in ruleset.has
    metric = GROUP_UNREAD if whole_groups else TOPIC_UNREAD
    variables: list[dict[str, Any]] = [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
        }
    ]
    narrower = ""
    for name in ("cluster", "group", "topic"):
        if name == "topic" and whole_groups:
            continue
        selector = f"{metric}{{{narrower}}}" if narrower else metric
        variables.append(
            {
                "name": name,
                "label": name.capitalize(),
                "type": "query",
                "datasource": _SOURCE,
                "query": {
                    "query": f"label_values({selector}, {name})",
                    "refId": f"lagkit-{name}",
                },
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                # all of them, those without the label too
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
                "hide": 0,
            }
        )
        narrower = ",".join(filter(None, (narrower, f'{name}=~"${name}"')))
    return variables


def _placed(panels: list[_Panel]) -> list[dict[str, Any]]:
    placed = []
    left, top, tallest = 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        if left + panel.width > _WIDTH:
            left, top, tallest = 0, top + tallest, 0
        placed.append(_drawn(number, panel, left, top))
        left, tallest = left + panel.width, max(tallest, panel.height)
    return placed


def _drawn(number: int, panel: _Panel, left: int, top: int) -> dict[str, Any]:
    custom: dict[str, Any] = {"spanNulls": False, **panel.custom}
    if panel.line:
        custom["thresholdsStyle"] = {"mode": "dashed"}
    steps = [{"value": value, "color": colour} for value, colour in panel.thresholds]
    by_threshold = panel.kind != "timeseries"
    options: dict[str, Any] = (
        {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
        if panel.kind == "stat"
        else {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
              "tooltip": {"mode": "multi", "sort": "desc"}}
    )  # fmt: skip
    return {
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": custom if panel.kind != "stat" else {},
                "color": {"mode": "thresholds" if by_threshold else "palette-classic"},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for at, (expression, legend) in enumerate(panel.queries)
        ],
    }

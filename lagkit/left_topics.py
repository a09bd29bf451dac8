"""Topics that the group has left: their old commits live on, and their lag grows for ever.

Kafka keeps a committed offset until ``offsets.retention.minutes`` after the group last used it, and
every exporter goes on subtracting it from the log end. Such a lag is nobody's backlog.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from lagkit.incident import Gap

if TYPE_CHECKING:
    from lagkit.incident import Incident

LEAST_SHARE_SEEN = 0.5
"""Share of the window in which the committed offsets must have been seen to stand still."""
_FRAMES = ("offsets", "second_opinions", "partitions", "oldest_unread", "commits")


def left_topics(incident: Incident) -> tuple[str, ...]:
    """Return the topics whose offsets the group still has and that no member reads, sorted.

    Only where the group is Stable with members that are assigned something else, where not one
    committed offset of the topic moved during most of the window, and where the runbook does not
    say that the group reads it: then it is an incident. Source: lag.md Q22.
    """
    group = incident.group
    states = incident.group_state
    states = states.loc[states["group"] == group].sort_values("timestamp")
    members = incident.members
    members = members.loc[members["group"] == group]
    assigned = set(
        members.loc[members["timestamp"] == members["timestamp"].max(), "topic"].dropna()
    )
    if states.empty or not assigned or states["state"].iloc[-1] != "Stable":
        return ()
    expected = assigned | set(incident.runbook.group(group).topics)
    history = incident.offsets
    history = history.loc[(history["group"] == group) & (history["committed_offset"] >= 0)]
    found = []
    for topic, rows in history.groupby("topic", sort=True):
        if topic not in expected and _stood_still(rows, incident):
            found.append(str(topic))
    return tuple(found)


def _stood_still(rows: pd.DataFrame, incident: Incident) -> bool:
    seen = rows["timestamp"].max() - rows["timestamp"].min()
    if seen < LEAST_SHARE_SEEN * (incident.end - incident.start):
        return False
    spread = rows.groupby("partition")["committed_offset"].agg(["min", "max"])
    return bool((spread["min"] == spread["max"]).all())


def without_left_topics(incident: Incident) -> Incident:
    """Return *incident* without the offsets of topics that the group has left, and say so."""
    left = left_topics(incident)
    if not left:
        return incident
    tables = dict(incident.tables)
    for name in _FRAMES:
        table = tables.get(name)
        if table is not None and len(table):
            # an opinion on the whole group counts what it has left
            gone = table["topic"].isin(left) | table["topic"].isna()
            gone &= table["group"] == incident.group
            tables[name] = table.loc[~gone].reset_index(drop=True)
    gap = Gap(
        "kafka",
        f"lag of {', '.join(left)}",
        "the group is Stable, no member of it reads this, and its committed offsets stand still: "
        "it has left the topic and its old commits live on; not counted as lag",
        "Once you are sure of it, delete these offsets (rpk group offset-delete).",
    )
    topics = tuple(topic for topic in incident.topics if topic not in left)
    return replace(
        incident,
        tables=tables,
        topics=topics or incident.topics,
        coverage=(*incident.coverage, gap),
    )

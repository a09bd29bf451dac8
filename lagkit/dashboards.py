"""Links from a report to the runbook's dashboards, with this incident's group and window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from lagkit.runbook import Runbook

EVERYTHING = "$__all"
"""How Grafana writes "all" of a variable."""
_KEPT = "%/:?#[]@!$&*+,;=-._~"
"""What stays as it is in an address; brackets and quotes do not, which end one in Markdown."""


@dataclass(frozen=True, slots=True)
class Link:
    """A dashboard with its address, percent-encoded and safe to be put into any document."""

    title: str
    url: str


def links(
    runbook: Runbook,
    group: str,
    topics: Sequence[str],
    cluster: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
) -> tuple[Link, ...]:
    """Return the dashboards of *runbook* that are about *group*, from *start* to *end*."""
    # Grafana takes one value here: of several topics, or none, all are shown
    known = {
        "group": group,
        "topic": topics[0] if len(topics) == 1 else EVERYTHING,
        "cluster": cluster or EVERYTHING,
        "from_ms": str(round(start.timestamp() * 1000)),
        "to_ms": str(round(end.timestamp() * 1000)),
    }
    filled = {
        name: quote(value.encode("utf-8", "replace"), safe="$") for name, value in known.items()
    }
    return tuple(
        Link(one.title, quote(one.url.format_map(filled), safe=_KEPT))
        for one in runbook.dashboards
        if not one.groups or group in one.groups
    )

"""Scrape health of the exporters behind the other frames, and who answers here at all."""

from __future__ import annotations

import re

import pandas as pd

from lagkit import frames
from lagkit.sources.dialects import BROKER_READINGS, Found, matcher, one_of
from lagkit.sources.prometheus.grid import Grid
from lagkit.sources.prometheus.inquiry import LABEL_CHARACTERS, Inquiry


def targets(inquiry: Inquiry, grid: Grid, names: frozenset[str], found: tuple[Found, ...]) -> None:
    """Fill the frame ``targets`` for the jobs behind the other frames; sum up the rest."""
    if "up" not in names:
        return
    # by what told the dialect as well: an exporter may be up and write no group at all
    used = {
        name
        for item in found
        for name in item.names
        if name in item.group_metrics or re.fullmatch(item.dialect.detect, name)
    }
    used |= {name for reading in BROKER_READINGS for name in reading.names if name in names}
    jobs: list[str] = []
    if used:
        written = matcher("__name__", used)
        expression = f"count by (job) (last_over_time({{{written}}}[{inquiry.span}s]))"
        jobs = sorted(
            {item["metric"]["job"] for item in inquiry.ask.instant(expression).series
             if "job" in item["metric"]}
        )  # fmt: skip
    elsewhere = f"job!~{one_of(jobs)}" if jobs else ""
    rest = inquiry.ask.instant(f"count by (job) (up{{{elsewhere}}} == 0)")
    if rest.series:
        down = sorted(item["metric"].get("job", "?") for item in rest.series)
        inquiry.facts["other_jobs_down"] = ",".join(down)[:LABEL_CHARACTERS]
    if not jobs:
        return
    answer = inquiry.ask.range(
        f"min by (job, instance) (last_over_time(up{{{matcher('job', jobs)}}}[{grid.window}]))",
        grid,
    )
    rows = answer.columns("job", "instance").dropna()
    if rows.empty:
        return
    inquiry.frames["targets"] = frames.normalise(
        "targets",
        pd.DataFrame(
            {
                "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                "job": rows["job"],
                "instance": rows["instance"],
                "up": rows["value"],
                "query_id": answer.query_id,
            }
        ),
    )


def version(inquiry: Inquiry) -> None:
    """Note which server answers, and its clock; Thanos, Mimir and others do not say the first."""
    data = inquiry.ask.page("status/buildinfo")
    told = data.get("version") if isinstance(data, dict) else None
    inquiry.facts["server_version"] = str(told or "unknown")[:LABEL_CHARACTERS]
    skew = inquiry.ask.server.clock_skew_seconds
    if skew is not None:
        inquiry.facts["clock_skew_seconds"] = f"{skew:+.1f}"

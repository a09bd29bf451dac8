"""What happened, forward, from before the onset: every row with its source and its accuracy.

Rows come from frames that carry times of their own (events, rollouts, terminations, members, the
group's log, alerts), from the findings of the verdict and from the stamps. Personal names are left
out where a field may hold one (``change_cause``). Nothing here decides what mattered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from lagkit.incident import Incident
from lagkit.investigation import Result
from lagkit.model import Suspicion
from lagkit.postmortem.model import AlertSeen, Stamp, TimelineRow
from lagkit.wording import count, duration, printable

MOST_ROWS = 400
BEFORE_SECONDS = 900.0
"""Changes so long before the onset still belong to the story, whatever the window."""
API_SECONDS = 1.0
"""Times of the Kubernetes API are whole seconds."""
SECOND = "API server"
LOGGED = "the group's own log"
DEPLOYS = frozenset({"deploy"})
CHANGES = ("deploy", "scaling", "restart", "configuration")
"""Kinds of rows that change the state of something: what may have triggered the lag."""
_SCALING = frozenset({"ScalingReplicaSet", "SuccessfulRescale", "KEDAScaleTargetActivated"})
_TROUBLE = frozenset(
    {"BackOff", "Unhealthy", "Failed", "FailedScheduling", "OOMKilling", "Evicted", "NodeNotReady"}
)
_STAMPS = {
    "onset": ("onset", "the backlog began to grow"),
    "breach": ("promise", "the promise was broken"),
    "mitigation": ("mitigation", "the backlog stopped growing"),
    "recovery": ("recovery", "the oldest unread message was within the promise again"),
}


def timeline(
    result: Result,
    captures: Sequence[Incident],
    stamps: Iterable[Stamp],
    alerts: Iterable[AlertSeen],
    findings: Sequence[Any],
    baseline: TimelineRow | None,
) -> tuple[TimelineRow, ...]:
    """Return the timeline of *result*; *captures* are the files it was joined of."""
    incident, step = result.incident, result.flow.step_seconds
    onset = result.verdict.onset
    begin = incident.start
    if onset:
        early = pd.Timestamp(onset.earliest) - pd.to_timedelta(BEFORE_SECONDS, unit="s")
        begin = min(begin, early)
    rows = [
        *_of_stamps(stamps),
        *_of_alerts(alerts),
        *_of_rollouts(incident),
        *_of_pods(captures),
        *_of_events(incident),
        *_of_members(incident, step),
        *_of_group_log(incident),
        *_of_offsets(result, step),
        *_of_findings(findings, step),
        *_of_suspicions(result.verdict.suspicions, step),
    ]
    if baseline is not None:
        rows.append(baseline)
    end = max(incident.end, incident.captured_at)
    inside = [row for row in rows if begin <= pd.Timestamp(row.at) <= end]
    inside = list(dict.fromkeys(inside))
    inside.sort(key=lambda row: (pd.Timestamp(row.at), row.kind, row.what))
    return tuple(inside[:MOST_ROWS])


def _of_stamps(stamps: Iterable[Stamp]) -> Iterable[TimelineRow]:
    for stamp in stamps:
        if stamp.name not in _STAMPS or stamp.at is None:
            continue
        kind, what = _STAMPS[stamp.name]
        off = stamp.uncertainty_seconds
        yield TimelineRow(
            stamp.at,
            kind,
            what,
            stamp.source,
            stamp.query,
            "interval" if off is None else "scrape step",
            uncertainty_seconds=_half(stamp) if off is None else off,
        )


def _half(stamp: Stamp) -> float | None:
    if stamp.at is None or stamp.earliest is None or stamp.latest is None:
        return None
    at = pd.Timestamp(stamp.at)
    ends = (at - pd.Timestamp(stamp.earliest), pd.Timestamp(stamp.latest) - at)
    return float(max(end.total_seconds() for end in ends))


def _of_alerts(alerts: Iterable[AlertSeen]) -> Iterable[TimelineRow]:
    for one in alerts:
        moments = (
            (one.active_at, f"expression of {one.alert} true", "rule evaluation", 1.0),
            (one.fired_at, f"{one.alert} firing", "scrape step", one.uncertainty_seconds),
            (one.resolved_at, f"{one.alert} last seen firing", "scrape step", None),
        )
        for at, what, confidence, off in moments:
            if at is not None:
                yield TimelineRow(
                    at,
                    "alert",
                    what,
                    "prometheus",
                    one.query,
                    confidence,
                    one.uncertainty_seconds if off is None else off,
                )


def _of_rollouts(incident: Incident) -> Iterable[TimelineRow]:
    for row in incident.rollouts.to_dict("records"):
        revision = "" if pd.isna(row["revision"]) else f" revision {int(row['revision'])}"
        yield TimelineRow(
            row["timestamp"],
            "deploy",
            f"{_text(row['workload'])}{revision} made {_text(row['image'])}".rstrip(),
            "kubernetes",
            _text(row["query_id"]),
            SECOND,
            API_SECONDS,
        )


def _of_pods(captures: Sequence[Incident]) -> Iterable[TimelineRow]:
    for incident in captures:
        for row in incident.pods.to_dict("records"):
            who, query = _text(row["pod"]), _text(row["query_id"])
            if not pd.isna(row["last_finished_at"]):
                code = "" if pd.isna(row["last_exit_code"]) else f" exit {row['last_exit_code']}"
                yield TimelineRow(
                    row["last_finished_at"],
                    "restart",
                    f"container of {who} ended: {_text(row['last_reason'])}{code}".rstrip(": "),
                    "kubernetes",
                    query,
                    SECOND,
                    API_SECONDS,
                )
                if not pd.isna(row["started_at"]):
                    yield TimelineRow(
                        row["started_at"],
                        "restart",
                        f"container of {who} started again",
                        "kubernetes",
                        query,
                        SECOND,
                        API_SECONDS,
                    )
            if not pd.isna(row["deleted_at"]):
                yield TimelineRow(
                    row["deleted_at"],
                    "restart",
                    f"{who} asked to end",
                    "kubernetes",
                    query,
                    SECOND,
                    API_SECONDS,
                )


def _of_events(incident: Incident) -> Iterable[TimelineRow]:
    events = incident.events
    wanted = events.loc[events["reason"].isin(_SCALING | _TROUBLE) | (events["type"] == "Warning")]
    keys = ["namespace", "kind", "name", "reason", "message"]
    filled = wanted.assign(
        begun=wanted["first_at"].fillna(wanted["timestamp"]),
        times=wanted["count"].fillna(1),
        **{key: wanted[key].fillna("") for key in keys},
    )
    for (_, kind, name, reason, message), rows in filled.groupby(keys, sort=True):
        begun, until = rows["begun"].min(), rows["timestamp"].max()
        times = int(rows["times"].max())
        yield TimelineRow(
            begun,
            "scaling" if reason in _SCALING else "cluster event",
            printable(f"{reason} {kind} {name}: {message}", limit=240),
            "kubernetes",
            _text(rows["query_id"].iloc[0]),
            SECOND,
            API_SECONDS,
            until=until if until > begun else None,
            times=max(1, times),
        )


def _of_members(incident: Incident, step: float) -> Iterable[TimelineRow]:
    history = incident.group_history
    history = history.loc[history["group"] == incident.group]
    known = history.dropna(subset=["member_count"])
    counts = known["member_count"].to_numpy(dtype="float64")
    for index in range(1, len(known)):
        if counts[index] != counts[index - 1]:
            yield TimelineRow(
                known["timestamp"].iloc[index],
                "rebalance",
                f"members {counts[index - 1]:.0f} → {counts[index]:.0f}",
                "prometheus",
                _text(known["query_id"].iloc[index]),
                "scrape step",
                step,
            )
    states = history.dropna(subset=["state"])
    changed = states.loc[states["state"] != states["state"].shift()].iloc[1:]
    for row in changed.to_dict("records"):
        yield TimelineRow(
            row["timestamp"],
            "rebalance",
            f"group {_text(row['state'])}",
            "prometheus",
            _text(row["query_id"]),
            "scrape step",
            step,
        )


def _of_group_log(incident: Incident) -> Iterable[TimelineRow]:
    told = incident.group_log
    told = told.loc[(told["group"] == incident.group) & told["event"].isin(["generation", "epoch"])]
    for row in told.to_dict("records"):
        members = "" if pd.isna(row["member_count"]) else f", {row['member_count']} members"
        number = "" if pd.isna(row["generation"]) else f" {row['generation']}"
        yield TimelineRow(
            row["timestamp"],
            "rebalance",
            f"{row['event']}{number}{members}",
            "kafka",
            _text(row["query_id"]),
            LOGGED,
            0.001,
        )


def _of_offsets(result: Result, step: float) -> Iterable[TimelineRow]:
    cleaned = result.flow.cleaned
    words = (
        ("rewound", "committed offset of {} went back"),
        ("topic_recreated", "log of {} began anew"),
    )
    queries = ", ".join(sorted(result.incident.offsets["query_id"].unique()))
    for flag, words_of in words:
        hits = cleaned.loc[cleaned[flag].fillna(False).astype(bool)]
        for moment, rows in hits.groupby("timestamp"):
            places = ", ".join(
                f"{printable(topic, limit=80)} {number}"
                for topic, number in zip(rows["topic"], rows["partition"], strict=True)
            )
            yield TimelineRow(
                moment,
                "offsets",
                printable(words_of.format(places), limit=240),
                "offset history",
                queries,
                "scrape step",
                step,
            )


def _of_findings(findings: Sequence[Any], step: float) -> Iterable[TimelineRow]:
    for finding in findings:
        if finding.onset is not None:
            yield TimelineRow(
                finding.onset,
                "evidence",
                printable(finding.statement, limit=240),
                finding.source,
                finding.query,
                "first sign seen",
                step,
            )


def _of_suspicions(suspicions: Iterable[Suspicion], step: float) -> Iterable[TimelineRow]:
    for one in suspicions:
        yield TimelineRow(
            one.since,
            "monitoring",
            printable(f"{one.exporter}: {one.title}", limit=240),
            "prometheus",
            ", ".join(one.query_ids),
            "scrape step",
            step,
            until=one.until,
        )


def baseline_row(
    result: Result, queries: str, lag: float | None, age: float | None, promise: float
) -> TimelineRow | None:
    """Return the row with which the timeline starts: how it stood when the data begin."""
    cleaned = result.flow.cleaned
    cleaned = cleaned.loc[cleaned["timestamp"] >= result.incident.start]
    if cleaned.empty:
        return None
    backlog = "an unknown backlog" if lag is None else f"a backlog of {count(lag)} messages"
    oldest = "" if age is None else f", the oldest unread {duration(age)} old"
    return TimelineRow(
        cleaned["timestamp"].min(),
        "data begin",
        f"{backlog}{oldest}; promise {duration(promise)}",
        "offset history",
        queries,
        "scrape step",
        result.flow.step_seconds,
    )


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else printable(value, limit=160)

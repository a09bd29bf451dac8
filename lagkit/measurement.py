"""What the offsets of an incident come to: one history that can be believed, and its arithmetic.

Knows which source of offsets goes before which, and where one ends and the next goes on; the
arithmetic itself is ``lagkit.flow``. Refuses to know causes, signals and how anything is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lagkit import flow as flows
from lagkit import frames, model, monitoring
from lagkit.incident import Incident

_SHORTEST_TREND_SECONDS = 60.0
_LONGEST_TREND_SECONDS = 600.0
_DEFAULT_STEP_SECONDS = 15.0
BEHIND_SHARE = 0.25
"""A partition counts as behind from this share of the worst partition's lag."""
COMMIT_SECONDS = 5.0
"""How old an unread record gets in a group that keeps up: the clients' usual commit interval."""
_FEWEST_MOMENTS = 6
"""Below this no onset can be found (``lagkit.flow.growth``: two straight pieces of three)."""


@dataclass(frozen=True)
class Flow:
    """Everything computed from offsets, as frames and frozen records (``lagkit.flow``)."""

    cleaned: pd.DataFrame
    group: pd.DataFrame
    rates: pd.DataFrame
    time_lag: pd.DataFrame
    status: pd.DataFrame
    onset: flows.Onset | None
    shares: flows.FlowShares | None
    drain: flows.Drain | None
    deadline: flows.LossDeadline | None
    delay: flows.Delay | None
    deleted: flows.DeletedUnread
    state: model.State
    step_seconds: float
    seen_only_now: bool = False
    """The lag is known in the broker's own snapshots and hardly at any other time."""
    lagging: Lagging | None = None
    """The flow of the partitions that are behind alone; None where all are, or none."""


@dataclass(frozen=True)
class Lagging:
    """Demand and supply of the partitions that hold the backlog.

    Where a few partitions are behind, the group's totals mislead: they fall when the others get
    less to read, and hide that the few are read slower.
    """

    places: tuple[tuple[str, int], ...]
    group: pd.DataFrame
    """As ``Flow.group``."""
    shares: flows.FlowShares


def _lagging(cleaned: pd.DataFrame, onset: flows.Onset | None) -> Lagging | None:
    """Return the flow of the partitions behind at the peak, if they are not all there are."""
    if onset is None or (cleaned["partition"] == frames.WHOLE_TOPIC).any():
        return None
    by = cleaned.loc[cleaned["timestamp"] <= onset.peak].groupby(["topic", "partition"])
    lag = by["lag_messages"].last()
    behind = lag.index[(lag >= BEHIND_SHARE * lag.max()) & (lag > 0)]
    if len(behind) in (0, len(lag)):
        return None
    own = cleaned.set_index(["topic", "partition"]).index.isin(behind)
    group = flows.group_flow(cleaned.loc[own].reset_index(drop=True))
    return Lagging(
        places=tuple((str(topic), int(number)) for topic, number in behind),
        group=group.rename_axis("timestamp").reset_index(),
        shares=flows.shares(group, onset),
    )


def clean_history(incident: Incident) -> pd.DataFrame:
    """Return cleaned offsets: from Prometheus where its lag can be believed, else from Kafka.

    An exporter that writes a lag of 0 and no log end (``false_zero``) has told nothing. Where its
    history ends before the window, the broker's own last snapshot goes on from there.
    """
    exported = flows.clean_offsets(incident.offsets)
    moments = exported.loc[exported["lag_messages"].notna(), "timestamp"].nunique()
    if moments >= _FEWEST_MOMENTS:
        return _continued(incident, exported)
    told = _told_by_kafka(incident)
    if moments and len(told):
        # too few scrapes to see an onset in: they are moments of what Kafka tells
        told = pd.concat([incident.offsets[list(told.columns)], told], ignore_index=True)
    cleaned = flows.clean_offsets(told)
    return cleaned if len(cleaned) else exported


def _continued(incident: Incident, exported: pd.DataFrame) -> pd.DataFrame:
    """Return *exported*, gone on with by Kafka itself if it ends before the window does.

    Of the snapshots the last: seconds apart, their differences are commit intervals and no rates.
    """
    known = exported.loc[exported["lag_messages"].notna(), "timestamp"].max()
    step = flows.scrape_step(exported)
    patience = monitoring.SILENT_STEPS * (_DEFAULT_STEP_SECONDS if np.isnan(step) else step)
    if (incident.end - known).total_seconds() <= patience:
        return exported
    told, taken = _told_by_kafka(incident), incident.partitions["timestamp"].unique()
    told = told.loc[
        (told["timestamp"] > known)
        & (~told["timestamp"].isin(taken) | (told["timestamp"] == told["timestamp"].max()))
    ]
    if told.empty:
        return exported
    kept = incident.offsets.loc[~incident.offsets["timestamp"].isin(told["timestamp"])]
    return flows.clean_offsets(pd.concat([kept, told], ignore_index=True))


def _deleted_unread(incident: Incident, cleaned: pd.DataFrame) -> flows.DeletedUnread:
    """Return what was deleted before the group read it: by *cleaned* and by Kafka's snapshots."""
    columns = ["timestamp", "group", "topic", "partition", "committed_offset", "log_start_offset"]
    own = incident.partitions
    own = own.loc[own["group"] == incident.group, columns]
    told = cleaned[[*columns, "topic_recreated"]]
    if len(own) and not own["timestamp"].isin(told["timestamp"]).any():
        told = pd.concat([told, own.assign(topic_recreated=False)], ignore_index=True)
    return flows.deleted_unread(told.loc[told["partition"] >= 0])


def _told_by_kafka(incident: Incident) -> pd.DataFrame:
    """Return what Kafka itself knows of the group's offsets, as frame `offsets`."""
    own = incident.commits
    reported = ["lag_messages", "lag_seconds"]  # an exporter's words
    return flows.joined_history(
        _snapshots(incident).drop(columns=reported, errors="ignore"),
        incident.log_end_history,
        own.loc[own["group"] == incident.group],
    )


def _seen_only_now(incident: Incident, cleaned: pd.DataFrame) -> bool:
    """Whether the lag is known in the broker's own snapshots and hardly at any other time.

    A few commits of the group's log are no history: an onset takes more moments than that.
    """
    known = pd.Series(cleaned.loc[cleaned["lag_messages"].notna(), "timestamp"].unique())
    taken = known.isin(incident.partitions["timestamp"])
    return bool(taken.any()) and int((~taken).sum()) < _FEWEST_MOMENTS


def _with_exact_ages(incident: Incident, ages: pd.DataFrame) -> pd.DataFrame:
    """Return *ages* (:func:`lagkit.flow.time_lag`) with those that Kafka told by timestamp."""
    told = incident.oldest_unread
    told = told.loc[told["time_lag_seconds"].notna()]
    keys = ["timestamp", "group", "topic", "partition"]
    exact = ages[keys].merge(told[[*keys, "time_lag_seconds"]], on=keys, how="left")
    known = exact["time_lag_seconds"].notna().to_numpy()
    return ages.assign(
        time_lag_seconds=ages["time_lag_seconds"].where(~known, exact["time_lag_seconds"]),
        censored=ages["censored"].to_numpy() & ~known,
    )


def _oldest_unread(incident: Incident, ages: pd.DataFrame) -> pd.DataFrame:
    """Return when each partition's oldest unread record was written: as Kafka told it, else read
    off past log ends at the last look, for a broker that is too slow to be asked by timestamp."""
    told = incident.oldest_unread
    told = told.loc[told["group"] == incident.group]
    if told["time_lag_seconds"].notna().any() or incident.log_end_history.empty:
        return told
    last = ages.loc[(ages["timestamp"] == ages["timestamp"].max()) & ~ages["censored"]]
    age = pd.to_timedelta(last["time_lag_seconds"], unit="s").dt.as_unit("us")
    return last.assign(written_at=last["timestamp"] - age)


def _never_late(ages: pd.DataFrame, since: pd.Timestamp, promise_seconds: float) -> bool:
    """Whether every unread record seen *since* then, and all at the end, were young.

    Younger than a commit interval: the lag of a group that keeps up rises with production and
    from one commit to the next.
    """
    own = ages.loc[ages["timestamp"] >= since]
    last = own.loc[own["timestamp"] == own["timestamp"].max(), "time_lag_seconds"]
    if own.empty or last.isna().any() or own["censored"].any():
        return False
    return bool(own["time_lag_seconds"].max() <= min(COMMIT_SECONDS, promise_seconds / 2))


def _snapshots(incident: Incident) -> pd.DataFrame:
    """Return the broker's own snapshots, seconds apart, as frame `offsets`."""
    own = incident.partitions
    own = own.loc[own["group"] == incident.group]
    return frames.normalise(
        "offsets",
        own[
            [
                "timestamp",
                "group",
                "topic",
                "partition",
                "committed_offset",
                "log_end_offset",
                "log_start_offset",
                "query_id",
            ]
        ],
    )


def measure(incident: Incident, *, promise_seconds: float) -> Flow:
    """Return the flow of the incident's group over its window."""
    cleaned = clean_history(incident)
    group = flows.group_flow(cleaned)
    end = incident.end
    ages = _with_exact_ages(incident, flows.time_lag(cleaned))
    only_now = _seen_only_now(incident, cleaned)
    if only_now or len(incident.offsets):
        # snapshots are taken after the question was asked; without a history they are its end
        end = max(end, cleaned["timestamp"].max())
    recent = (
        flows.drain(cleaned, end=end, window_seconds=_SHORTEST_TREND_SECONDS)
        if len(cleaned)
        else None
    )
    if only_now:
        onset = flows.standing_onset(cleaned, _oldest_unread(incident, ages))
    else:
        onset = flows.current_onset(cleaned, group, recent)
        if onset is not None and _never_late(ages, onset.at, promise_seconds):
            onset = None
    trend = _LONGEST_TREND_SECONDS
    if onset is not None:
        since = (end - onset.at).total_seconds()
        trend = float(np.clip(since, _SHORTEST_TREND_SECONDS, _LONGEST_TREND_SECONDS))
    # A drain that began minutes ago must not be averaged with the growth before it.
    turned = onset.peak if onset is not None and onset.peak < end else None
    drain = (
        flows.drain(cleaned, end=end, window_seconds=trend, since=turned) if len(cleaned) else None
    )
    step = flows.scrape_step(cleaned) if len(cleaned) else float("nan")
    now = incident.group_state
    members = now.loc[now["group"] == incident.group, "member_count"].dropna()
    return Flow(
        cleaned=cleaned,
        group=group.rename_axis("timestamp").reset_index(),
        rates=flows.rates(cleaned),
        time_lag=ages,
        status=flows.partition_status(
            cleaned,
            end=end,
            members=int(members.iloc[-1]) if len(members) else None,
            promise_seconds=promise_seconds,
            window_seconds=trend,
        ),
        onset=onset,
        shares=flows.shares(group, onset) if onset is not None else None,
        drain=drain,
        deadline=_deadline(incident, cleaned),
        delay=flows.delay_area(
            cleaned, start=incident.start, end=end, promise_seconds=promise_seconds
        )
        if len(cleaned)
        else None,
        deleted=_deleted_unread(incident, cleaned),
        state=flows.state(group, onset, drain, window_seconds=trend) if len(group) else "unknown",
        step_seconds=_DEFAULT_STEP_SECONDS if np.isnan(step) else step,
        seen_only_now=only_now,
        lagging=None if only_now else _lagging(cleaned, onset),
    )


def _deadline(incident: Incident, cleaned: pd.DataFrame) -> flows.LossDeadline | None:
    """Return the earliest deadline over the topics, each with its own retention."""
    configs = incident.configs
    retention = (
        configs.loc[(configs["resource"] == "topic") & (configs["key"] == "retention.ms")]
        .drop_duplicates("name", keep="last")
        .set_index("name")["value"]
    )
    found = []
    for topic, rows in cleaned.groupby("topic"):
        value = pd.to_numeric(retention.get(topic), errors="coerce") if topic in retention else None
        known = None if value is None or pd.isna(value) or value < 0 else float(value)
        deadline = flows.loss_deadline(
            rows.reset_index(drop=True), retention_ms=known, end=incident.end
        )
        if deadline is not None:
            found.append(deadline)
    timed = {deadline.at: deadline for deadline in reversed(found) if deadline.at is not None}
    return timed[min(timed)] if timed else (found[0] if found else None)

"""What the checks look at, and how they put what they found: frames in, one record out."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from lagkit import frames
from lagkit.model import Suspicion
from lagkit.wording import count

if TYPE_CHECKING:
    from lagkit.incident import Incident

SILENT_STEPS = 3
"""Scrapes without a sample that are a hiccup."""
LEAST_FLAT_SECONDS = 60.0
"""The slowest usual refresh of an exporter (Redpanda's lag gauges, kminion's cache): shorter
flatness is a staircase."""
MOST_EVIDENCE_QUERIES = 6
WRITES_LOG_ENDS = frozenset({"klag_exporter", "seglo", "kminion", "braedon", "otel"})
"""Dialects that always write a log end beside a lag that they have really measured."""
BLIND_TO_KIP848 = frozenset({"otel", "kafka_exporter"})
"""Dialects that write ``members 0`` for a live group of the consumer protocol (lag.md Q28)."""
UNTRUE_HISTORY = frozenset({"false_zero", "frozen", "contradicted"})
"""Kinds that make the exporter's lag history untrue, in whole or in part."""


@dataclass(frozen=True)
class Watched:
    """What the checks look at: the frames of one group and window, and what the sources said."""

    group: str
    start: pd.Timestamp
    end: pd.Timestamp
    tables: Mapping[str, pd.DataFrame] = field(repr=False)
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the source `prometheus` said of itself: dialect, dialect_title, job, step_seconds."""

    @classmethod
    def of(cls, incident: Incident) -> Watched:
        """Return what there is to watch in *incident*."""
        return cls(
            incident.group,
            incident.start,
            incident.end,
            incident.tables,
            incident.facts.get("prometheus", {}),
        )

    def frame(self, name: str) -> pd.DataFrame:
        """Return the frame *name*, empty if it was not captured."""
        return self.tables[name] if name in self.tables else frames.empty(name)

    def own(self, name: str) -> pd.DataFrame:
        """Return the rows of the frame *name* that are about the group itself."""
        table = self.frame(name)
        return table.loc[table["group"] == self.group]

    @property
    def dialect(self) -> str:
        """The id of the exporter's dialect; "" if none is known."""
        dialect = self.facts.get("dialect", "")
        return "" if dialect == "none" else dialect

    @property
    def exporter(self) -> str:
        """What the exporter is called."""
        return self.facts.get("dialect_title") or "the exporter"

    @functools.cached_property
    def targets(self) -> pd.DataFrame:
        """The rows of `targets` that are the exporter's own, as far as that can be told."""
        targets = self.frame("targets")
        if job := self.facts.get("job", ""):
            return targets.loc[targets["job"] == job]
        # what gives broker metrics is the broker's own agent
        return targets.loc[~targets["instance"].isin(self._brokers)]

    @property
    def _brokers(self) -> set[str]:
        given = self.frame("broker_metrics")["instance"].unique()
        return {str(name).partition(" ")[0] for name in given}

    @property
    def instance(self) -> str:
        """The exporter's scrape job and address, as far as they are known."""
        places = self.targets[["job", "instance"]].drop_duplicates()
        jobs = sorted(places["job"].unique())
        if not len(places):
            job = self.facts.get("job", "")
            return f"job {job}" if job else ""
        addresses = ", ".join(sorted(places["instance"].unique())[:3])
        return f"job {jobs[0]} at {addresses}" if len(jobs) == 1 else addresses

    @property
    def other_instance(self) -> str:
        """Scrape job and address of the one other exporter there is; "" if there are several."""
        mine = set(self.targets["instance"])
        targets = self.frame("targets")[["job", "instance"]].drop_duplicates()
        rest = targets.loc[~targets["instance"].isin(mine | self._brokers)]
        return f"job {rest['job'].iloc[0]} at {rest['instance'].iloc[0]}" if len(rest) == 1 else ""

    def kafka_lag(self, topic: str | None, partition: int | None) -> float | None:
        """Return the lag by the broker's last snapshot of a partition, a topic or the group."""
        now = self.kafka_now
        if topic is not None:
            now = now.loc[now["topic"] == topic]
        if partition is not None:
            now = now.loc[now["partition"] == partition]
        lag = (now["log_end_offset"] - now["committed_offset"]).dropna()
        return float(lag.clip(lower=0).sum()) if len(lag) else None

    @functools.cached_property
    def step_seconds(self) -> float:
        """Seconds between samples."""
        try:
            return max(1.0, float(self.facts["step_seconds"]))
        except (KeyError, ValueError):
            moments = self.frame("offsets")["timestamp"].drop_duplicates().sort_values()
            gaps = moments.diff().dt.total_seconds().dropna()
            return float(gaps.median()) if len(gaps) else 15.0

    @functools.cached_property
    def kafka_now(self) -> pd.DataFrame:
        """The broker's last snapshot of the group's partitions; empty if there is none."""
        own = self.own("partitions")
        own = own.loc[own["log_end_offset"].notna() | own["committed_offset"].notna()]
        return own.loc[own["timestamp"] == own["timestamp"].max()]

    @property
    def soon(self) -> float:
        """Messages that a refresh and the way to the broker explain, at the present production."""
        newest, seen = self.frame("offsets")["timestamp"].max(), self.kafka_now["timestamp"].max()
        late = (seen - newest).total_seconds() if len(self.kafka_now) else 0.0
        return growth(self.own("partitions"), "log_end_offset") * (LEAST_FLAT_SECONDS + late)

    @property
    def heard(self) -> bool:
        """Whether Prometheus answered all that it was asked, in full."""
        queries = self.frame("queries")
        asked = queries.loc[queries["source"] == "prometheus", "outcome"]
        return bool(asked.isin(["ok", "empty"]).all())

    @property
    def unread(self) -> float | None:
        """Messages that are unread by the broker's last snapshot; None if it cannot tell."""
        return self.kafka_lag(None, None)

    def up_after(self, moment: pd.Timestamp) -> pd.Series[float]:
        """Return ``up`` of the exporter's targets later than *moment*, in order of time."""
        later = self.targets.loc[self.targets["timestamp"] > moment]
        return later.groupby("timestamp")["up"].max()


def growth(table: pd.DataFrame, column: str) -> float:
    """Return the growth of *column* per second over all partitions of *table*; 0 if unknown."""
    known = table.loc[table[column] >= 0]
    seconds = (known["timestamp"].max() - known["timestamp"].min()).total_seconds()
    if not seconds > 0:
        return 0.0
    spans = known.sort_values("timestamp").groupby(["topic", "partition"])[column]
    return max(0.0, float((spans.last() - spans.first()).sum()) / seconds)


FIXES: Mapping[tuple[str, str], str] = {
    ("false_zero", "klag_exporter"): "In klag-exporter's configuration, below "
    '[clusters.consumer_properties]: "metadata.max.age.ms" = "10000" (its default of 15 minutes is '
    "how long this lasts), then restart it; a topic younger than the exporter needs the same.",
    ("false_zero", ""): "Restart the exporter, and alert on its log end offsets being absent "
    "beside its lag.",
    ("frozen", "otel"): "In the collector's configuration, below exporters: prometheus: "
    "metric_expiration: 30s (its default is 5m), and mend its way to the brokers.",
    ("frozen", ""): "Mend the exporter's way to the brokers or restart it; alert on "
    "changes() of a log end offset being 0 for all topics at once.",
    ("members_unseen", ""): "Alert on lag, not on members, for groups of the consumer protocol; "
    "count them with: kafka-consumer-groups --bootstrap-server HOST:PORT --describe --members "
    "--group GROUP",
    ("mute", "braedon"): "Deploy another exporter, e.g. the OpenTelemetry kafkametrics receiver: "
    "this one cannot read Kafka 4 and later (ListOffsets v0 is gone, commits are version 4).",
    ("mute", "others"): "Look at the exporter's group filter (group.filter, group_whitelist, "
    "group_match, allowedGroups), at its right to describe this group, and at whether it watches "
    "this cluster.",
    ("mute", ""): "Look at the exporter's log, its group filter and its rights; until then alert "
    "on absent() of its lag series.",
    ("vanished", ""): "Look at the exporter's log; it reaches no broker, or the broker gives it no "
    "groups. Alert on absent() of its lag series.",
    ("unscraped", ""): "Look at the target's page in Prometheus and at the exporter's process; "
    "alert on up == 0.",
    ("stale", ""): "Look whether Prometheus still has this target, and at the delay of a remote "
    "write or federation in between.",
    ("disagreement", ""): "Look at the log of the exporter that is further from Kafka, and restart "
    "it; alert on one exporter only.",
    ("empty_list", ""): "Run again in a minute. If it stays empty, grant DESCRIBE on groups: "
    "kafka-acls --add --allow-principal User:NAME --operation Describe --group '*'",
}
"""What mends it, by kind and dialect; "" is any other dialect."""


def fix_of(kind: str, dialect: str = "") -> str:
    """Return what mends a suspicion of *kind* about an exporter of *dialect*."""
    return FIXES.get((kind, dialect)) or FIXES[kind, ""]


def suspect(
    watched: Watched,
    kind: str,
    *,
    since: pd.Timestamp,
    until: pd.Timestamp | None,
    title: str,
    statement: str,
    evidence: Iterable[str],
    rows: Iterable[pd.DataFrame],
    fix: str,
    believed: str = "",
) -> Suspicion:
    """Return the suspicion of the exporter of this history."""
    ids = sorted({str(name) for table in rows for name in table["query_id"].unique()})
    return Suspicion(
        kind=kind,
        exporter=watched.exporter,
        instance=watched.instance,
        since=since,
        until=until,
        title=title,
        statement=statement,
        evidence=tuple(evidence),
        query_ids=tuple(ids[:MOST_EVIDENCE_QUERIES]),
        believed_instead=believed or _instead(watched, since),
        fix=fix,
    )


def _instead(watched: Watched, since: pd.Timestamp) -> str:
    """Say what lag is believed from *since* on."""
    offsets = watched.frame("offsets")
    before = offsets.loc[(offsets["timestamp"] < since) & (offsets["lag_messages"] >= 0)]
    parts = []
    if len(watched.kafka_now):
        at = clock_text(watched.kafka_now["timestamp"].max())
        parts.append(f"Kafka's own offsets of {at} ({count(watched.unread)} unread)")
    if len(before):
        parts.append(f"this exporter's samples before {clock_text(since)}")
    return " and ".join(parts) or "nothing: give --bootstrap HOST:PORT, so that Kafka can be asked"


def clock_text(moment: pd.Timestamp) -> str:
    """Return *moment* in UTC to the second, without its date."""
    return f"{moment:%H:%M:%S}Z"

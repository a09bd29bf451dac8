"""The checks, one per kind of untruth. To add one: write it here and put it into CHECKS."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from lagkit.flow.second_opinions import Disagreement, disagreements
from lagkit.model import Suspicion
from lagkit.monitoring.watched import (
    LEAST_FLAT_SECONDS,
    SILENT_STEPS,
    WRITES_LOG_ENDS,
    Watched,
    clock_text,
    fix_of,
    growth,
    suspect,
)
from lagkit.wording import count, duration, plural

LASTING = 2
"""Samples in a row below which an oddity is one bad scrape."""
FLAT_STEPS = 4
FLAT_GAPS = 3.0
"""Flat for this many of the longest pauses seen before is no pause."""
USUAL_SHARE = 0.5
"""Kafka's log grew by at least this share of what its usual production would have made."""
LEAST_SILENT_SECONDS = 45.0
CLEARLY_NEARER = 0.5
"""Of two exporters the one is believed that is at most this much of the other's distance from
Kafka."""
EMPTY_LIST = "list_consumer_groups()"
"""The question for all groups in the frame `queries`."""
EMPTY_ANSWER = "no group and no error"
"""How its detail begins where an answer was empty; not so where rights hide the groups."""

_UNSET = pd.Timestamp(0, tz="UTC")


def false_zero(watched: Watched) -> Iterable[Suspicion]:
    """Find a lag of 0 that nothing was subtracted for (lag.md Q26, Q24, Q30).

    Accused is only who wrote log ends at other times, or always does, or still says 0 when Kafka
    has more unread than a minute could have brought.
    """
    offsets = watched.frame("offsets")
    ends = offsets["log_end_offset"]
    zeros = offsets.loc[~(ends >= 0) & (offsets["lag_messages"] == 0)]
    if zeros["timestamp"].nunique() < LASTING:
        return
    unread = watched.unread if zeros["timestamp"].max() == offsets["timestamp"].max() else None
    if not (
        (ends >= 0).any()
        or watched.dialect in WRITES_LOG_ENDS
        or (unread is not None and unread > watched.soon)
    ):
        return
    contradicted = unread is not None and unread > 0
    since, last = zeros["timestamp"].min(), zeros["timestamp"].max()
    others = watched.frame("neighbours")
    others = others.loc[(others["group"] != watched.group) & (others["timestamp"] == last)]
    zero_too = int((others["lag_messages"] == 0).sum())
    places = len(zeros[["topic", "partition"]].drop_duplicates())
    evidence = [
        (
            f"{len(zeros):,} samples of {plural(places, 'partition')} say lag 0 and have no log "
            "end that it could have been measured against"
        )
    ]
    if contradicted:
        evidence.append(
            f"Kafka's own offsets at {clock_text(watched.kafka_now['timestamp'].max())} leave "
            f"{count(unread)} unread"
        )
    if len(others):
        evidence.append(f"{zero_too} of {len(others)} other group-topics are at 0 with it")
    told = f"; Kafka itself shows {count(unread)} unread" if contradicted else ""
    yield suspect(
        watched,
        "false_zero",
        since=since,
        until=last if _sound_after(offsets, zeros) else None,
        title="a lag of 0 that it never measured",
        statement=f"{watched.exporter} wrote a lag of 0 without a log end {len(zeros):,} times "
        f"since {clock_text(since)}{told}",
        evidence=evidence,
        rows=(zeros, watched.kafka_now if contradicted else zeros),
        fix=fix_of("false_zero", watched.dialect),
    )


def _sound_after(offsets: pd.DataFrame, bad: pd.DataFrame) -> bool:
    """Tell whether the newest samples have a log end again."""
    newest = offsets.loc[offsets["timestamp"] > bad["timestamp"].max()]
    return bool((newest["log_end_offset"] >= 0).any())


def frozen(watched: Watched) -> Iterable[Suspicion]:
    """Find values that are repeated instead of read (lag.md Q27).

    All groups exactly flat at once, for longer than any pause before, while Kafka's own log went
    on: a stalled group's log end would move, and an idle topic's would not move in Kafka either.
    """
    offsets, now = watched.frame("offsets"), watched.kafka_now
    if offsets.empty or now.empty:
        return
    moves = _moves(watched)
    newest = offsets["timestamp"].max()
    since = max(moves) if moves else offsets["timestamp"].min()
    flat = (newest - since).total_seconds()
    if flat < max(LEAST_FLAT_SECONDS, FLAT_STEPS * watched.step_seconds):
        return
    last = offsets.loc[offsets["timestamp"] == newest].set_index(["topic", "partition"])
    real = now.set_index(["topic", "partition"]).reindex(last.index)
    column = "log_end_offset" if (last["log_end_offset"] >= 0).any() else "committed_offset"
    missed = (real[column] - last[column].where(last[column] >= 0)).dropna()
    if (missed < 0).any() or not missed.sum() > 0:
        return
    seen_at = now["timestamp"].max()
    went_on = _went_on(watched, last, since, newest) if column == "log_end_offset" else None
    if went_on is None:
        if (seen_at - newest).total_seconds() > LEAST_FLAT_SECONDS:
            return  # what came between the two looks is unknown
        pauses = [(b - a).total_seconds() for a, b in itertools.pairwise(moves)]
        age = (seen_at - since).total_seconds()
        usual = growth(offsets.loc[offsets["timestamp"] <= since], column)
        steady = bool(pauses) and flat >= FLAT_GAPS * max(pauses) and usual > 0
        went_on = (steady and missed.sum() >= USUAL_SHARE * usual * age) or (
            0 < 2 * watched.soon <= missed.sum()
        )
    if not went_on:
        return
    others = watched.frame("neighbours")
    groups = 1 + others.loc[others["group"] != watched.group, "group"].nunique()
    yield suspect(
        watched,
        "frozen",
        since=since,
        until=None,
        title="old values, repeated",
        statement=f"{watched.exporter} has repeated the same values for {plural(groups, 'group')} "
        f"since {clock_text(since)}, while Kafka's own "
        f"{'log grew' if column == 'log_end_offset' else 'commits went on'} by "
        f"{count(float(missed.sum()))}",
        evidence=(
            (
                f"not one offset or lag of {plural(groups, 'group')} changed for {duration(flat)}; "
                "a stalled group's log end would"
            ),
            (
                f"Kafka's {column.replace('_', ' ')}s at {clock_text(seen_at)} are "
                f"{count(float(missed.sum()))} further than the exporter's last ones"
            ),
        ),
        rows=(offsets.loc[offsets["timestamp"] > since], now),
        fix=fix_of("frozen", watched.dialect),
    )


def _went_on(
    watched: Watched, last: pd.DataFrame, since: pd.Timestamp, newest: pd.Timestamp
) -> bool | None:
    """Return whether records of before a refresh ago are missing in *last*; None if not known."""
    told = watched.frame("log_end_history")
    late = newest - pd.Timedelta(LEAST_FLAT_SECONDS, "s")
    told = told.loc[(told["timestamp"] > since) & (told["timestamp"] <= late)]
    shown = last["log_end_offset"].rename("shown").reset_index()
    both = told.merge(shown, on=["topic", "partition"]).dropna(subset=["log_end_offset", "shown"])
    return bool((both["log_end_offset"] > both["shown"]).any()) if len(both) else None


def _moves(watched: Watched) -> list[pd.Timestamp]:
    """Return the moments at which any value of any group differed from the one before."""
    offsets, others = watched.frame("offsets"), watched.frame("neighbours")
    found = _changed(
        offsets, ["topic", "partition"], ["committed_offset", "log_end_offset", "lag_messages"]
    ) | _changed(others, ["group", "topic"], ["lag_messages", "committed_sum"])
    return sorted(found)


def _changed(table: pd.DataFrame, keys: list[str], columns: list[str]) -> set[pd.Timestamp]:
    if table.empty:
        return set()
    rows = table.sort_values([*keys, "timestamp"], kind="stable")
    series = pd.factorize(pd.MultiIndex.from_frame(rows[keys]))[0]
    same = np.diff(series, prepend=-1) == 0
    moved = np.zeros(len(rows), dtype=bool)
    for column in columns:
        values = rows[column].to_numpy(dtype="float64")
        before = np.roll(values, 1)
        moved |= (values != before) & ~(np.isnan(values) & np.isnan(before))
    return set(rows.loc[moved & same, "timestamp"])


def members_unseen(watched: Watched) -> Iterable[Suspicion]:
    """Find ``members 0`` for a group whose members Kafka lists (lag.md Q28).

    Only for a group of the consumer protocol (KIP-848): for a classic one it may be a moment of a
    rebalance.
    """
    history = watched.own("group_history").dropna(subset=["member_count"])
    listed = watched.own("group_state").dropna(subset=["member_count"])
    if history.empty or listed.empty:
        return
    latest = listed.loc[listed["timestamp"].idxmax()]
    counted = history.sort_values("timestamp")
    seen = counted.loc[counted["member_count"] > 0, "timestamp"]
    zeros = counted.loc[counted["timestamp"] > (seen.max() if len(seen) else _UNSET)]
    if latest["protocol"] != "consumer" or not latest["member_count"] > 0 or len(zeros) < LASTING:
        return
    since = zeros["timestamp"].min()
    yield suspect(
        watched,
        "members_unseen",
        since=since,
        until=None,
        title="members 0 for a live group",
        statement=f"{watched.exporter} says members 0 since {clock_text(since)}; Kafka lists "
        f"{plural(int(latest['member_count']), 'member')} of this group of the consumer protocol "
        "(KIP-848)",
        evidence=(
            f"{plural(len(zeros), 'sample')} in a row say 0",
            (
                f"Kafka at {clock_text(latest['timestamp'])}: state {latest['state']}, "
                f"{plural(int(latest['member_count']), 'member')}, protocol consumer"
            ),
        ),
        rows=(zeros, listed),
        believed="Kafka's own list of members; the zeros are no evidence of a consumer that is "
        "down",
        fix=fix_of("members_unseen", watched.dialect),
    )


def mute(watched: Watched) -> Iterable[Suspicion]:
    """Find an exporter that is up and writes nothing about the group (lag.md Q31).

    Kafka must know of commits that it should have written about.
    """
    offsets, targets = watched.frame("offsets"), watched.targets
    silent = offsets[["committed_offset", "lag_messages"]].isna().all(axis=None)
    up = targets.loc[targets["up"] == 1]
    if not watched.dialect or not silent or up["timestamp"].nunique() < LASTING:
        return
    if not watched.heard:
        return
    committed = watched.kafka_now["committed_offset"].notna()
    if not committed.any():
        return
    others = int(watched.facts.get("group_count") or 0)
    since = up["timestamp"].min()
    about = f"of this group, though of {plural(others, 'other')}" if others else "at all"
    yield suspect(
        watched,
        "mute",
        since=since,
        until=None,
        title="up, and no lag series" + (" of this group" if others else ""),
        statement=f"{watched.exporter} is up and writes no lag series {about}, since "
        f"{clock_text(since)} at the latest: an alert on its lag can never fire",
        evidence=(
            f"up was 1 in {up['timestamp'].nunique()} scrapes",
            f"Kafka has commits of this group on {plural(int(committed.sum()), 'partition')}",
        ),
        rows=(up, watched.kafka_now),
        fix=fix_of("mute", "others") if others else fix_of("mute", watched.dialect),
    )


def ended(watched: Watched) -> Iterable[Suspicion]:
    """Find a history that stops before the window does: by the age of its newest sample.

    Its series vanished while the target is up, the target went down, or nothing came any more.
    A question that Prometheus did not answer in full says nothing of this.
    """
    offsets = watched.frame("offsets")
    known = offsets.loc[offsets[["committed_offset", "lag_messages"]].notna().any(axis=1)]
    if known.empty or not watched.heard:
        return
    newest = known["timestamp"].max()
    age = (watched.end - newest).total_seconds()
    if age <= max(LEAST_SILENT_SECONDS, SILENT_STEPS * watched.step_seconds):
        return
    others = watched.frame("neighbours")
    others = others.loc[others["group"] != watched.group]
    alive = watched.kafka_now["committed_offset"].notna().any()
    all_gone = len(others) > 0 and others["timestamp"].max() <= newest + pd.Timedelta(
        SILENT_STEPS * watched.step_seconds, "s"
    )
    if not (alive or all_gone):
        return  # the group may be gone, not its exporter
    up = watched.up_after(newest)
    first = up.index.min() if len(up) else newest
    if (up == 1).sum() >= LASTING:
        kind, title = "vanished", "lag series that vanished"
        told = f"{watched.exporter} is up and has written no offset of this group since"
    elif (up == 0).sum() >= LASTING:
        first = up.index[up == 0].min()
        kind, title = "unscraped", "no longer scraped"
        told = f"{watched.exporter} could not be scraped (up 0), so its values end at"
    else:
        kind, title = "stale", "no new samples"
        told = f"Prometheus has no sample of {watched.exporter} newer than"
    yield suspect(
        watched,
        kind,
        since=newest,
        until=None,
        title=title,
        statement=f"{told} {clock_text(newest)}, {duration(age)} before the end of the window",
        evidence=(
            f"newest sample {clock_text(newest)}, scraped every {duration(watched.step_seconds)}",
            (
                f"up after it: 1 in {int((up == 1).sum())}, 0 in {int((up == 0).sum())} scrapes, "
                f"from {clock_text(first)} on"
            ),
        ),
        rows=(known.loc[known["timestamp"] == newest], watched.targets),
        fix=fix_of(kind),
    )


def empty_list(watched: Watched) -> Iterable[Suspicion]:
    """Find a list without a group from a broker that has groups (lag.md Q32)."""
    queries = watched.frame("queries")
    empty = queries.loc[
        (queries["source"] == "kafka")
        & queries["statement"].str.startswith(EMPTY_LIST)
        & queries["detail"].fillna("").str.startswith(EMPTY_ANSWER)
    ]
    known = [
        name
        for name, there in (
            ("commits of this group", watched.kafka_now["committed_offset"].notna().any()),
            ("its history in Prometheus", len(watched.frame("offsets")) > 0),
            ("other groups in Prometheus", len(watched.frame("neighbours")) > 0),
            ("its members", (watched.own("group_state")["member_count"] > 0).any()),
        )
        if there
    ]
    if empty.empty or not known:
        return
    row = empty.iloc[0]
    brokers = ", ".join(sorted(watched.frame("brokers")["address"].unique())[:3])
    since = row["started_at"]
    whole = bool(row["rows"] > 0)
    yield Suspicion(
        kind="empty_list",
        exporter="Kafka's own list of groups",
        instance=f"broker {brokers}" if brokers else "",
        since=since,
        until=since + pd.Timedelta(float(row["seconds"]), "s") if whole else None,
        title="an empty list of groups",
        statement=f"Kafka listed no group and no error at {clock_text(since)}, though there are "
        + " and ".join(known)
        + ", as a broker does for seconds after its start"
        + ("; asked again, it listed them" if whole else ""),
        evidence=(f"{row['statement']}: {row['outcome']}, {int(row['rows'])} groups",),
        query_ids=(str(row["query_id"]),),
        believed_instead="that the group exists: " + ", ".join(known),
        fix=fix_of("empty_list"),
    )


def disagreement(watched: Watched) -> Iterable[Suspicion]:
    """Find exporters that tell another lag of the group than the chosen one (lag.md 1.4).

    Kafka is the witness: who is clearly nearer to its last snapshot is believed. Without it, or
    when the disagreement is over, neither is.
    """
    opinions = watched.frame("second_opinions")
    for told in disagreements(watched.frame("offsets"), opinions):
        lag = watched.kafka_lag(told.topic, told.partition) if told.lasting else None
        place = told.topic or "all topics"
        if told.topic is not None and told.partition is not None:
            place = f"{told.topic}[{told.partition}]"
        statement = (
            f"since {clock_text(told.since)} of {place} {watched.exporter} tells a lag of "
            f"{count(told.ours)}, {told.dialect} one of {count(told.theirs)}"
        )
        rows = [opinions.loc[opinions["dialect"] == told.dialect]]
        evidence = [f"they differ about {plural(told.places, 'place')}"]
        if lag is not None:
            rows.append(watched.kafka_now)
            evidence.append(f"Kafka's own offsets there leave {count(lag)} unread")
        nearer = _nearer(told, lag)
        found = suspect(
            watched,
            "contradicted" if nearer == "theirs" else "disagreement",
            since=told.since,
            until=None if told.lasting else told.until,
            title={
                "theirs": f"a lag that {told.dialect} and Kafka contradict",
                "ours": f"another lag than {watched.exporter} and Kafka",
                "": "one of the two lags",
            }[nearer],
            statement=statement
            + {
                "theirs": f"; Kafka itself agrees with {told.dialect}",
                "ours": f"; Kafka itself agrees with {watched.exporter}",
                "": "",
            }[nearer],
            evidence=evidence,
            rows=rows,
            believed={
                "theirs": "",
                "ours": f"{watched.exporter}, which Kafka bears out",
                "": f"{watched.exporter} for now; give --bootstrap HOST:PORT to let Kafka decide",
            }[nearer],
            # a lag of 0 that Kafka contradicts has the cure of a false zero
            fix=fix_of("false_zero", told.dialect)
            if nearer == "ours" and told.theirs == 0
            else fix_of("disagreement"),
        )
        if nearer == "theirs":
            yield found
        else:
            yield replace(
                found,
                exporter=told.dialect if nearer else f"{told.dialect} or {watched.exporter}",
                instance=watched.other_instance if nearer else "",
            )


def _nearer(told: Disagreement, lag: float | None) -> str:
    """Return who is clearly nearer to *lag*: ours, theirs or ""."""
    if lag is None:
        return ""
    ours, theirs = abs(lag - told.ours), abs(lag - told.theirs)
    if ours <= CLEARLY_NEARER * theirs:
        return "ours"
    return "theirs" if theirs <= CLEARLY_NEARER * ours else ""


Check = Callable[[Watched], Iterable[Suspicion]]

CHECKS: tuple[Check, ...] = (
    false_zero,
    frozen,
    ended,
    mute,
    members_unseen,
    disagreement,
    empty_list,
)
"""All checks, in the order in which their findings are shown."""


def suspicions(watched: Watched) -> tuple[Suspicion, ...]:
    """Return what monitoring told against the facts, in the order of :data:`CHECKS`."""
    found = [suspicion for check in CHECKS for suspicion in check(watched)]
    if any(suspicion.kind in ("false_zero", "frozen") for suspicion in found):
        # who contradicts a liar adds nothing
        found = [s for s in found if s.kind not in ("contradicted", "disagreement")]
    repeated = [suspicion for suspicion in found if suspicion.kind == "frozen"]
    # what it repeated before its series went is no better for that
    return tuple(
        replace(suspicion, believed_instead=repeated[0].believed_instead)
        if repeated and suspicion.kind in ("vanished", "unscraped", "stale")
        else suspicion
        for suspicion in found
    )

"""The members' own words: what their logs repeat since the onset and did not say before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pandas as pd

from lagkit.model import Check, Finding
from lagkit.signals import Context, absent, not_checked, present, queries_of
from lagkit.signals.broker import answers_late
from lagkit.signals.log_patterns import Kind, libraries, named_record, says
from lagkit.signals.membership import ALL_AT_ONCE, SHARED_FROM, cut_off, gone_together
from lagkit.signals.pods import ended_badly

REPEATS = 3
"""Lines of one sort after the onset that a single hiccup does not write."""
SURGE = 3.0
"""They must also come this many times more often than before the onset."""
SAME_RECORD_REPEATS = 2
"""One record that failed this often was tried again."""
_LEAD = pd.Timedelta("30s")

# What is left beside the table of client libraries (lagkit.signals.log_patterns): their errors in
# an application's own words. Every pattern needs a word of the Kafka client's, so that the
# downstream's time-outs are not taken for the broker's.
TRANSPORT = re.compile(
    r"(?i)(?:%\d\|[\d.]+\|(?:FAIL|REQTMOUT|FETCHERR)\||\b(?:FAIL|REQTMOUT)\b.*(?:broker|rdkafka)|"
    r"broker transport failure|_TRANSPORT\b|_ALL_BROKERS_DOWN|all broker connections are down|"
    r"\d+ request\(s\) timed out|timed out \d+ in-flight|ApiVersionRequest failed|"
    r"(?:broker|bootstrap|rdkafka|node -?\d+|kafka).{0,120}(?:disconnected|connection refused|"
    r"connection reset|connection timed out|failed to resolve|name or service not known|"
    r"could not be established|no route to host|unreachable)|"
    r"(?:connect to|connection to) (?:node|broker|ipv4#).{0,80}(?:failed|refused|timed out)|"
    r"coordinator.{0,40}(?:unavailable|dead|not available))"
)
POLL_INTERVAL = re.compile(
    r"(?i)(?:\bMAXPOLL\b|max\.poll\.interval|maximum poll interval|poll interval exceeded|"
    r"heartbeat poll expired|_MAX_POLL_EXCEEDED)"
)
HEARTBEAT = re.compile(
    r"(?i)(?:\bSESSTMOUT\b|session (?:has )?timed? ?out|heartbeat (?:session )?expired|"
    # one that failed because another member has joined is news of a rebalance
    r"heartbeat failed(?!.{0,80}rebalanc)|"
    r"UNKNOWN_MEMBER_ID|member id is not valid|marking (?:the )?coordinator.{0,40}dead)"
)
_COMPLAINT = re.compile(
    r"(?i)(?:time[d]?[ -]?out|took \d|slow|still (?:running|pending|waiting)|unavailable|refused|"
    r"\b5\d\d\b|bad gateway|will retry|retrying|failed|error)"
)
_TOOK = re.compile(r"(?i)\btook (\d+(?:\.\d+)?) ?s\b")
_FATAL = re.compile(
    r"(?i)(?:\b(?:error|critical|fatal|exception|panic|traceback)\b|exit(?:ing|ed)?\b)"
)
_DECODING = re.compile(
    r"(?i)(?:deseriali[sz]|decod|pars(?:e|ing)|malformed|invalid json|schema|corrupt|"
    r"unexpected (?:end|token)|poison|cannot (?:be )?handle)"
)
_LEFT_FOR = pd.Timedelta("30s")
"""What the coordinator says to a member that has left comes with its next commit or heartbeat."""
CUT_SHORT = (
    r"(?i)\b(?:connection reset|reset by peer|ECONNRESET|connection refused|ECONNREFUSED|"
    r"no route to host|EHOSTUNREACH|network is unreachable|ENETUNREACH|failed to resolve|"
    r"couldn't resolve|DNS lookup failed|DNS resolution failure|name or service not known|"
    r"temporary failure in name resolution)\b"
)
"""What only somebody who is there can say, and what a name server says or leaves unsaid."""
SILENCE = pd.Timedelta("60s")
"""A client that waits for an answer in vain says so within its request timeout, 60 s at most by
librdkafka's defaults ..."""
SILENCE_GAPS = 3
"""... and a pod that is silent was never silent for so long before: times its longest gap."""
STEADY_LINES = 3
"""Lines before the onset from which a pod's gaps are known."""
HUNG_UP = pd.Timedelta("30s")
"""How long after a refusal the client's other complaints are about that: it tries again sooner."""
_STUCK_THERE = ": the very offset the group is stuck at"
_KINDS = (
    "same_record_fails",
    "stuck_at_failing_record",
    "transport_errors",
    "connections_cut",
    "access_refused",
    "poll_interval_exceeded",
    "heartbeat_lost",
    "protocol_refused",
    "sessions_lost_by_all",
    "missing_member_silent",
    "startup_failures",
    "downstream_complaints",
)


def members_words(context: Context) -> Iterator[Check]:
    """Answer what the consumer's logs repeat since the onset."""
    logs = context.consumer_logs
    if logs.empty:
        reason = context.gap("kubernetes", "logs")
        for kind in _KINDS:
            if kind != "sessions_lost_by_all":
                yield not_checked(kind, reason, "kubernetes")
        yield gone_together(context)
        return
    messages = logs["message"]
    refused = says(messages, "authentication")
    same = _same_record(context, logs)
    yield same
    yield _stuck_at_it(same)
    # a refused call of the downstream in a "kafka worker"'s log is none of the broker's, and a
    # broker that refuses a login is there, whatever is called down after that
    lost = (
        _lost_brokers(messages)
        & ~_names_downstream(context, logs)
        & ~refused
        & ~_soon_after(logs, refused, HUNG_UP)
    )
    yield _repeated(
        context,
        logs,
        "transport_errors",
        lost,
        "transport",
        "lost connections or timeouts towards brokers",
    )
    yield _cut_short(context, logs, lost & messages.str.contains(CUT_SHORT))
    yield _repeated(
        context,
        logs,
        "access_refused",
        refused,
        "authentication",
        "a login or a right that the brokers refuse",
        repeats=1,
    )
    polled = says(messages, "poll_interval") | messages.str.contains(POLL_INTERVAL)
    yield _repeated(
        context,
        logs,
        "poll_interval_exceeded",
        polled,
        "poll_interval",
        "a poll interval that was exceeded",
        repeats=1,
    )
    expired = says(messages, "session") | messages.str.contains(HEARTBEAT)
    # the coordinator knows a member no more that left because it polled too late
    expired &= ~_soon_after(logs, polled, _LEFT_FOR)
    yield _repeated(
        context,
        logs,
        "heartbeat_lost",
        expired,
        "session",
        "expired heartbeats or sessions",
        repeats=1,
    )
    yield _repeated(
        context,
        logs,
        "protocol_refused",
        says(messages, "protocol"),
        "protocol",
        "a group whose members do not share their assignor or protocol",
        repeats=1,
    )
    yield _all_sessions(context, logs, logs.loc[expired])
    yield _fallen_silent(context, logs)
    yield _startup(context, logs)
    yield _downstream(context, logs)


def _soon_after(
    logs: pd.DataFrame, cause: pd.Series[bool], within: pd.Timedelta
) -> pd.Series[bool]:
    """Tell which lines come soon after one of *cause* of the same pod: they are its effect."""
    rows = logs[["pod", "timestamp"]].assign(line=range(len(logs))).sort_values("timestamp")
    causes = rows.loc[cause.to_numpy()[rows["line"]], ["pod", "timestamp"]]
    after = pd.merge_asof(
        rows, causes.assign(caused=True), on="timestamp", by="pod", tolerance=within
    )
    known = after.set_index("line")["caused"].notna().reindex(range(len(logs)))
    return pd.Series(known.to_numpy(), index=logs.index)


def _all_sessions(context: Context, logs: pd.DataFrame, expired: pd.DataFrame) -> Check:
    """Check whether no member was spared: what they share is the way to the coordinator."""
    kind, query = "sessions_lost_by_all", queries_of(logs)
    first = _since(context, expired).groupby("pod")["timestamp"].min().sort_values()
    writers = logs["pod"].nunique()
    if writers < SHARED_FROM:
        return not_checked(kind, "The logs of one member alone show nothing shared.", "kubernetes")
    if len(first) < writers or first.iloc[-1] - first.iloc[0] > ALL_AT_ONCE:
        return absent(
            kind,
            f"{len(first)} of {writers} members lost their sessions since the onset"
            + (", not at once." if len(first) == writers else "."),
            "kubernetes",
            query,
        )
    return present(
        kind,
        Finding(
            kind,
            f"all {writers} members lost their sessions within "
            f"{(first.iloc[-1] - first.iloc[0]).total_seconds():.0f} s",
            "kubernetes",
            query,
            onset=_began(context, logs, list(first.index), first.iloc[0]),
            value=float(len(first)),
            baseline=float(writers),
            unit="members",
        ),
    )


def _cut_short(context: Context, logs: pd.DataFrame, cut: pd.Series[bool]) -> Check:
    """Check whether connections end or names are lost though lagkit itself is answered in time.

    Who waits too long gives up by a timeout. A reset or a refusal comes from a machine that is
    there, and a broker that others reach sends none.
    """
    kind = "connections_cut"
    told = _repeated(
        context, logs, kind, cut, "transport", "brokers that refuse, reset or have lost their names"
    )
    if told.outcome == "absent":
        return told
    answers = answers_late(context)
    if answers.outcome == "not_checked":
        return not_checked(kind, answers.reason, answers.source)
    if answers.outcome == "present":
        return absent(kind, f"{answers.findings[0].statement}.", answers.source, answers.query)
    (finding,) = told.findings
    said = f"{finding.statement}, while they answer lagkit in time"
    return present(kind, replace(finding, statement=said))


def _lost_brokers(messages: pd.Series[str]) -> pd.Series[bool]:
    """Tell which lines say that a broker could not be reached, or was lost."""
    return (says(messages, "transport") | messages.str.contains(TRANSPORT)) & ~says(
        messages, "session"
    )


def _since(context: Context, logs: pd.DataFrame) -> pd.DataFrame:
    return logs.loc[logs["timestamp"] >= context.onset_earliest - _LEAD]


def _surged(context: Context, hits: pd.DataFrame, repeats: int) -> bool:
    """Whether hits come at least *repeats* times, and far more often than before the onset."""
    start = context.onset_earliest - _LEAD
    after = int((hits["timestamp"] >= start).sum())
    before = len(hits) - after
    length_after = max((context.incident.end - start).total_seconds(), 1.0)
    length_before = max((start - context.incident.start).total_seconds(), 1.0)
    return after >= repeats and after / length_after >= SURGE * before / length_before


def _fallen_silent(context: Context, logs: pd.DataFrame) -> Check:
    """Check whether one that is missing writes nothing any more, though its container runs.

    Who is cut off says so, and goes on saying so; who has nothing to do is not missing.
    """
    kind, query = "missing_member_silent", queries_of(logs)
    gone = cut_off(context)
    if gone.outcome == "not_checked":
        return not_checked(kind, gone.reason, gone.source)
    if gone.outcome == "absent":
        return absent(kind, gone.reason, gone.source, gone.query)
    before = logs.loc[logs["timestamp"] < context.onset_earliest].sort_values("timestamp")
    lines = before.groupby("pod").size()
    gaps = before.groupby("pod")["timestamp"].diff().groupby(before["pod"]).max()
    longest = gaps.loc[lines.index[lines >= STEADY_LINES]]
    last = logs.groupby("pod")["timestamp"].max().reindex(longest.index)
    silence = last.max() - last
    silent = silence.loc[(silence >= SILENCE) & (silence >= SILENCE_GAPS * longest)]
    if silent.empty or 2 * len(silent) >= len(longest):
        told = f"{len(silent)} of {len(longest)} pods that wrote steadily have fallen silent."
        return absent(kind, told, "kubernetes", query)
    pod = str(silent.idxmax())
    return present(
        kind,
        Finding(
            kind,
            f"pod {pod} runs and has written nothing for {silent[pod].total_seconds():.0f} s, "
            f"where it wrote every {longest[pod].total_seconds():.0f} s or sooner; "
            "the others go on",
            "kubernetes",
            query,
            onset=last[pod],
            value=silent[pod].total_seconds(),
            baseline=longest[pod].total_seconds(),
            unit="seconds",
        ),
    )


def _repeated(
    context: Context,
    logs: pd.DataFrame,
    kind: str,
    mask: pd.Series[bool],
    trouble: Kind,
    what: str,
    *,
    repeats: int = REPEATS,
) -> Check:
    hits = logs.loc[mask]
    query = queries_of(logs)
    if not _surged(context, hits, repeats):
        return absent(
            kind,
            f"{len(hits)} of {len(logs):,} log lines speak of {what}; "
            "no more since the onset than before.",
            "kubernetes",
            query,
        )
    after = _since(context, hits)
    pods = after["pod"].nunique()
    writers = ", ".join(libraries(after["message"], trouble))
    return present(
        kind,
        Finding(
            kind,
            f"{len(after)} log lines of {pods} pod{'s' if pods != 1 else ''} speak of {what}"
            + (f" ({writers})" if writers else ""),
            "kubernetes",
            query,
            onset=_began(context, logs, after["pod"], after["timestamp"].min()),
            value=float(len(after)),
            baseline=float(len(hits) - len(after)),
            unit="lines",
            quote=str(after["message"].iloc[0])[:300],
        ),
    )


def _began(
    context: Context, logs: pd.DataFrame, pods: Iterable[str], first: pd.Timestamp
) -> pd.Timestamp | None:
    """Return *first*, or None if the logs of *pods* do not reach back to the onset.

    Kubernetes keeps the log of one earlier container: of a crash loop only the last rounds.
    """
    reach = logs.loc[logs["pod"].isin(list(pods)), "timestamp"].min()
    return None if pd.notna(reach) and reach > context.onset_at else first


def _record_patterns(topics: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(sorted((re.escape(topic) for topic in topics), key=len, reverse=True))
    at = r"(?:@| ?offset[=: ]+| at offset )"
    # no broker counts further than these digits
    partition, offset = r"(\d{1,9})", r"(\d{1,18})(?!\d)"
    named = (
        rf"(?:{names})(?:\[|-| \[| partition[=: ]+){partition}\]?{at}{offset}"
        if names
        else r"(?!)()()"
    )
    unnamed = rf"\bpartition[=: ]+{partition}\b.{{0,40}}?\boffset[=: ]+{offset}"
    return re.compile(rf"(?i){named}|{unnamed}")


def _names_record(messages: pd.Series[str], topics: tuple[str, ...]) -> pd.Series[bool]:
    return messages.str.extract(_record_patterns(topics)).notna().any(axis=1)


def failing_records(logs: pd.DataFrame, topics: tuple[str, ...]) -> pd.DataFrame:
    """Return records named by warnings and errors: partition, offset, times, first_at, pods.

    A line of a client library that says a record is broken counts at any level: an exception's own
    line has none.
    """
    broken = says(logs["message"], "record")
    loud = logs.loc[logs["level"].isin(["ERROR", "CRITICAL", "FATAL", "WARNING", "WARN"]) | broken]
    found = loud["message"].str.extract(_record_patterns(topics))
    partition = pd.to_numeric(found[0].fillna(found[2]) if len(found) else found[0])
    offset = pd.to_numeric(found[1].fillna(found[3]) if len(found) else found[1])
    for index, message in loud.loc[broken.loc[loud.index], "message"].items():
        record = named_record(message)
        if record and record.offset is not None and (not topics or record.topic in topics):
            partition.loc[index], offset.loc[index] = record.partition, record.offset
    named = pd.DataFrame(
        {
            "partition": partition,
            "offset": offset,
            "timestamp": loud["timestamp"],
            "message": loud["message"],
            "pod": loud["pod"],
        }
    ).dropna(subset=["partition", "offset"])
    return (
        named.groupby(["partition", "offset"], as_index=False)
        .agg(
            times=("message", "size"),
            first_at=("timestamp", "min"),
            quote=("message", "first"),
            pods=("pod", "unique"),
        )
        .sort_values(
            ["times", "partition", "offset"], ascending=[False, True, True], ignore_index=True
        )
    )


def _same_record(context: Context, logs: pd.DataFrame) -> Check:
    query = queries_of(logs)
    recent = _since(context, logs)
    loud = recent.loc[~_about_downstream(context, recent) & ~_lost_brokers(recent["message"])]
    records = failing_records(loud, context.incident.topics)
    status = context.flow.status
    frozen = (
        {
            (int(row.partition), float(row.committed_offset))
            for row in status.itertuples()
            if pd.notna(row.committed_offset) and row.lag_messages > 0
        }
        if len(status)
        else set()
    )
    records = records.loc[~_passed(context, records)].reset_index(drop=True)
    at_head = [(int(row.partition), float(row.offset)) in frozen for row in records.itertuples()]
    again = records.loc[
        (records["times"] >= SAME_RECORD_REPEATS)
        | (
            pd.Series(at_head, index=records.index, dtype=bool)
            & (records["quote"].str.contains(_DECODING) | says(records["quote"], "record"))
        )
    ]
    # A service that fails on everything names many records on many partitions.
    if again.empty or again["partition"].nunique() > max(1, len(status) // 4):
        return absent(
            "same_record_fails",
            "No record is named twice by an error."
            if again.empty
            else f"Errors name records of {again['partition'].nunique()} partitions: "
            "not one record's fault.",
            "kubernetes",
            query,
        )
    return present(
        "same_record_fails",
        *(
            Finding(
                f"same_record_fails:{int(row.partition)}@{int(row.offset)}",
                f"partition {int(row.partition)}, offset {int(row.offset)} is named by "
                f"{row.times} error lines"
                + (_STUCK_THERE if (int(row.partition), float(row.offset)) in frozen else ""),
                "kubernetes",
                query,
                onset=_began(context, logs, row.pods, row.first_at),
                value=float(row.times),
                baseline=1.0,
                unit="lines",
                quote=str(row.quote)[:300],
            )
            for row in again.head(3).itertuples()
        ),
    )


def _stuck_at_it(same: Check) -> Check:
    """Answer whether the record that fails is the one that the group waits to get past."""
    kind = "stuck_at_failing_record"
    if same.outcome == "not_checked":
        return not_checked(kind, same.reason, same.source)
    stuck = [found for found in same.findings if found.statement.endswith(_STUCK_THERE)]
    if not stuck:
        why = "No partition waits at a record that fails."
        return absent(kind, same.reason or why, same.source, same.query)
    return present(kind, *(replace(found, id=found.id.replace(same.kind, kind)) for found in stuck))


def _passed(context: Context, records: pd.DataFrame) -> pd.Series[bool]:
    """Tell which records the group has meanwhile got past: tried again and handled.

    Of a group that has recovered nothing is said: its stuck record is behind it by now.
    """
    status = context.flow.status
    if status.empty or context.flow.state in ("recovered", "draining", "healthy"):
        return pd.Series(False, index=records.index)
    reached = status.groupby("partition")["committed_offset"].min()
    at = records["partition"].map(reached.to_dict()).astype("float64")
    return records["offset"] < at


def _names_downstream(context: Context, logs: pd.DataFrame) -> pd.Series[bool]:
    """Tell which lines name a downstream of the runbook."""
    names = "|".join(re.escape(entry.name) for entry in context.group.downstream)
    pattern = re.compile(rf"(?i)(?<![a-z])(?:{names})(?![a-z_])" if names else r"(?!)")
    return logs["message"].str.contains(pattern)


def _about_downstream(context: Context, logs: pd.DataFrame) -> pd.Series[bool]:
    # A pod called control-plane-api or a topic called api-events is no call of an API.
    words = re.compile(r"(?i)(?<![\w-])(?:https?|api|upstream|downstream)(?![\w-])")
    return _names_downstream(context, logs) | logs["message"].str.contains(words)


def _downstream(context: Context, logs: pd.DataFrame) -> Check:
    complaint = (
        _about_downstream(context, logs)
        & logs["message"].str.contains(_COMPLAINT)
        & logs["level"].isin(["ERROR", "CRITICAL", "WARNING", "WARN"])
    )
    about = logs.loc[
        # an HTTP client's or a database's time-out needs no name: it is never the broker's
        says(logs["message"], "downstream_timeout")
        | (complaint & (_names_downstream(context, logs) | ~_lost_brokers(logs["message"])))
    ]
    query = queries_of(logs)
    if not _surged(context, about, REPEATS):
        return absent(
            "downstream_complaints",
            f"{len(about)} of {len(logs):,} log lines complain of the downstream; no "
            "more since the onset than before.",
            "kubernetes",
            query,
        )
    after = _since(context, about)
    took = pd.to_numeric(after["message"].str.extract(_TOOK)[0], errors="coerce").dropna()
    return present(
        "downstream_complaints",
        Finding(
            "downstream_complaints",
            f"{len(after)} log lines of {after['pod'].nunique()} pods complain of the downstream"
            + (f", calls take {took.median():.2g} s in the median" if len(took) else ""),
            "kubernetes",
            query,
            onset=_began(context, logs, after["pod"], after["timestamp"].min()),
            value=float(took.median()) if len(took) else float(len(after)),
            unit="seconds" if len(took) else "lines",
            quote=str(after["message"].iloc[0])[:300],
        ),
    )


def _startup(context: Context, logs: pd.DataFrame) -> Check:
    query = queries_of(logs)
    pods = context.incident.pods
    pods = pods.loc[pods["role"] == "consumer"]
    failed = set(pods.loc[ended_badly(context, pods), "pod"])
    ended = logs.loc[logs["pod"].isin(failed)]
    ended = ended.loc[ended["previous"]] if ended["previous"].any() else ended
    ended = _since(context, ended)
    if not failed:
        return absent(
            "startup_failures",
            "No consumer container ended with an error since the onset.",
            "kubernetes",
            query,
        )
    if ended.empty:
        return not_checked(
            "startup_failures", "The logs of the failed containers could not be read.", "kubernetes"
        )
    last = ended.sort_values("line_number").groupby(["namespace", "pod"]).tail(5)
    names_record = _names_record(last["message"], context.incident.topics)
    fatal = last.loc[
        last["message"].str.contains(_FATAL) & ~names_record & ~_lost_brokers(last["message"])
    ]
    named = names_record & last["level"].isin(["ERROR", "CRITICAL", "FATAL"])
    if fatal.empty or named.any():
        return absent(
            "startup_failures",
            "The last words of the failed containers name a record or a connection."
            if named.any() or len(last)
            else "They left no last words.",
            "kubernetes",
            query,
        )
    return present(
        "startup_failures",
        Finding(
            "startup_failures",
            f"the failed containers of {fatal['pod'].nunique()} pods end with an error that names "
            "no record",
            "kubernetes",
            query,
            onset=None,
            value=float(len(fatal)),
            unit="lines",
            quote=str(fatal["message"].iloc[-1])[:300],
        ),
    )

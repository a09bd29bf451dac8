"""What the consumer waits for: how long it takes, whether it answers, whether its pods run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from lagkit.model import Check, Finding
from lagkit.signals import Context, absent, not_checked, once, present, quantity, queries_of
from lagkit.signals.thresholds import SLOWED_RATIO

SLOWER_RATIO = 2.5
"""Jobs that take this many times longer than before the onset are slow; handling one record mostly
waits for its job, so at a utilisation of 0.4 or more the group then falls behind."""
SLOWER_FLOOR_SECONDS = 0.05
SLOW_ANSWER_SECONDS = 1.0
"""A health probe that takes this long is slow without any baseline."""
FAILED_SHARE = 0.2
QUEUED_FLOOR_SECONDS = 1.0
"""A job that waited this long waited for capacity: an idle AWX starts one within a second."""
_LATENCY = "latency"
"""Check of the rows that hold a course out of Prometheus (``lagkit.sources.probes``)."""
_MIN_JOBS = 5
_LEAST_SECONDS = 10.0
UNCOMMITTED_SHARE = 0.5
"""Of the work, what is committed is less: more than records that are handled twice."""
GOES_ON_RATIO = 0.8
"""Of the jobs before: fewer, and the work itself is slower."""
LAST_JOBS = pd.Timedelta("5s")
"""What is still asked for when the lag has begun: records that were read before."""
GUSTS_BELOW = 0.65
"""Median time between two jobs, as a share of the mean time that their numbers tell. Work at an
even pace has 0.7 (Poisson) to 1; in gusts most jobs follow closely, and waits make the mean."""
_PAIRS = 20
"""Jobs that follow each other, to know the usual time between two."""
_KINDS = (
    "downstream_slow",
    "downstream_failing",
    "work_goes_on",
    "work_ended",
    "work_in_gusts",
)
_BAD_STATUS = ("failed", "error", "canceled")


def dependencies(context: Context) -> Iterator[Check]:
    """Answer whether the downstream is slow, or fails."""
    # probes of one's own need no entry in the runbook
    if not context.group.downstream and context.incident.downstream.empty:
        for kind in _KINDS:
            yield not_checked(kind, "The runbook names no downstream of this group.", "downstream")
        return
    slow, failing = _slow(context), _failing(context)
    yield slow
    yield failing
    yield work_goes_on(context)
    yield _work_ended(context, slow, failing)
    yield _work_in_gusts(context)


def _slow(context: Context) -> Check:
    jobs, probes = context.incident.jobs, context.incident.downstream
    if jobs.empty and probes.empty:
        return not_checked("downstream_slow", context.gap("downstream"), "downstream")
    query = queries_of(jobs, probes)
    onset = context.onset_earliest
    findings, told = [], []
    for target, rows in jobs.dropna(subset=["elapsed_seconds"]).groupby("target"):
        before = rows.loc[rows["timestamp"] < onset, "elapsed_seconds"]
        later = rows.loc[rows["timestamp"] >= context.onset_at]
        if len(later) < _MIN_JOBS or len(before) < _MIN_JOBS:
            continue
        usual, now = float(before.median()), float(later["elapsed_seconds"].median())
        if now >= SLOWER_RATIO * usual and now - usual >= SLOWER_FLOOR_SECONDS:
            slow = later.loc[later["elapsed_seconds"] >= (usual + now) / 2, "timestamp"]
            findings.append(
                Finding(
                    f"downstream_slow:{target}",
                    f"{target} jobs take {now:.2g} s in the median, {usual:.2g} s before the onset",
                    "downstream",
                    query,
                    onset=slow.min(),
                    value=now,
                    baseline=usual,
                    unit="seconds",
                )
            )
        told.append(f"{target} jobs take {now:.2g} s, before {usual:.2g} s")
    for queued in _queued(context):
        findings += queued.findings
        told.append(queued.reason)
    for latency in _latencies(context):
        findings += latency.findings
        told.append(latency.reason)
    for (target, check), rows in probes.groupby(["target", "check"]):
        if check == _LATENCY:
            continue
        took = rows.loc[rows["ok"].astype(bool), "latency_seconds"].dropna()
        if len(took) and float(took.median()) >= SLOW_ANSWER_SECONDS:
            findings.append(
                Finding(
                    f"downstream_slow:{target}/{check}",
                    f"{target} takes {took.median():.2g} s to answer its {check}",
                    "downstream",
                    query,
                    value=float(took.median()),
                    unit="seconds",
                )
            )
        elif len(took):
            told.append(f"{target} answers its {check} in {took.median():.2g} s")
    if findings:
        return present("downstream_slow", *findings)
    if not told:
        return not_checked("downstream_slow", "No job or probe could be timed.", "downstream")
    compared = any("before" in line for line in told)
    if not compared and len(jobs):
        return not_checked(
            "downstream_slow",
            f"{'; '.join(told)}; too few jobs on both sides of the onset to compare.",
            "downstream",
        )
    return absent("downstream_slow", "; ".join(told) + ".", "downstream", query)


@once
def work_goes_on(context: Context) -> Check:
    """Answer whether records are handled as before, though fewer of them are committed.

    The downstream numbers its jobs one after the other, so two of them tell how many there were in
    between, whoever else asks for jobs.
    """
    kind, jobs, shares = "work_goes_on", context.incident.jobs, context.flow.shares
    if jobs.empty:
        return not_checked(kind, context.gap("downstream"), "downstream")
    if shares is None or not shares.consume_baseline > 0:
        return not_checked(kind, "There is no reading rate before the onset to compare with.")
    query = queries_of(jobs)
    committed = shares.consume_now / shares.consume_baseline
    if not 0 <= committed <= SLOWED_RATIO:
        why = "As much is committed as before." if committed > 0 else "Offsets went back."
        return absent(kind, why, "downstream", query)
    told = []
    for target, rows in jobs.groupby("target"):
        before = _jobs_per_second(rows.loc[rows["timestamp"] < context.onset_earliest])
        now = _jobs_per_second(rows.loc[rows["timestamp"] >= context.onset_at])
        if before is None or now is None:
            continue
        said = f"{target} got {quantity(now)} jobs/s, before the onset {quantity(before)}/s"
        if now >= GOES_ON_RATIO * before and committed <= UNCOMMITTED_SHARE * now / before:
            return present(
                kind,
                Finding(
                    kind,
                    f"{said}, while {committed:.0%} of what was committed before is committed",
                    "downstream",
                    query,
                    value=now,
                    baseline=before,
                    unit="jobs/s",
                ),
            )
        told.append(said)
    if not told:
        return not_checked(
            kind, "Too few numbered jobs on both sides of the onset to compare.", "downstream"
        )
    return absent(kind, f"{'; '.join(told)}.", "downstream", query)


def _work_ended(context: Context, slow: Check, failing: Check) -> Check:
    """Answer whether nobody asks the downstream for anything any more, though it is well."""
    kind, jobs = "work_ended", context.incident.jobs
    if jobs.empty:
        return not_checked(kind, context.gap("downstream"), "downstream")
    query = queries_of(jobs)
    for check in (failing, slow):
        if check.outcome == "present":
            return absent(kind, f"{check.findings[0].statement}.", "downstream", query)
    if failing.outcome == "not_checked":
        return not_checked(kind, failing.reason, failing.source)
    share = work_share(context)
    if share is None:
        return not_checked(
            kind, "Too few numbered jobs on both sides of the onset to compare.", "downstream"
        )
    told = f"the downstream is well and gets {share:.1%} of the jobs of before the onset"
    waiting = jobs["elapsed_seconds"].isna() & ~jobs["status"].isin(_BAD_STATUS)
    if share > 0 or waiting.any():
        return absent(kind, f"T{told[1:]}.", "downstream", query)
    return present(
        kind,
        Finding(
            kind,
            f"{told}: nobody asks it for more",
            "downstream",
            query,
            onset=jobs["timestamp"].max(),
            value=share,
            baseline=1.0,
            unit="of the jobs before",
        ),
    )


def _work_in_gusts(context: Context) -> Check:
    """Answer whether fewer jobs are asked for, and those as soon after each other as before.

    Who takes longer over each record asks for the next job later. Who waits for records, or for
    leave to go on, works at the usual pace in between.
    """
    kind, jobs, shares = "work_in_gusts", context.incident.jobs, context.flow.shares
    if jobs.empty:
        return not_checked(kind, context.gap("downstream"), "downstream")
    query = queries_of(jobs)
    # how many jobs there are tells as well where nobody knows how fast the group read before
    if shares is not None and shares.consume_baseline > 0:
        share = shares.consume_now / shares.consume_baseline
        if not 0 <= share <= SLOWED_RATIO:
            return absent(kind, "The group does not read less than before.", "downstream", query)
    for target, rows in jobs.groupby("target"):
        earlier = rows.loc[rows["timestamp"] < context.onset_earliest]
        later = rows.loc[rows["timestamp"] >= context.onset_latest + LAST_JOBS]
        before, now = _evenness(earlier), _evenness(later)
        if before is None or now is None or before < GUSTS_BELOW:
            continue
        was, is_now = _jobs_per_second(earlier), _jobs_per_second(later)
        if was is None or is_now is None or is_now > GOES_ON_RATIO * was:
            # as much is done again: what slowed it is over, or was a wait
            continue
        told = (
            f"{target} gets one job after the other in {now:.0%} of the mean time between two, "
            f"{before:.0%} before the onset"
        )
        if now >= GUSTS_BELOW:
            return absent(kind, f"{told}.", "downstream", query)
        return present(
            kind,
            Finding(
                kind,
                f"work comes in gusts: {told}",
                "downstream",
                query,
                onset=context.onset_at,
                value=now,
                baseline=before,
                unit="of the mean time",
            ),
        )
    return not_checked(
        kind,
        "Too few numbered jobs on both sides of the onset to compare, or as many as before.",
        "downstream",
    )


def _evenness(jobs: pd.DataFrame) -> float | None:
    """Return the median time between jobs that follow each other, as a share of the mean time."""
    numbered = jobs.assign(number=pd.to_numeric(jobs["job_id"], errors="coerce"))
    numbered = numbered.dropna(subset=["number"]).sort_values("number")
    apart = numbered["timestamp"].diff().dt.total_seconds()
    next_ones = apart.loc[numbered["number"].diff() == 1]
    pace = _jobs_per_second(jobs)
    if len(next_ones) < _PAIRS or pace is None:
        return None
    return float(next_ones.median()) * pace


@once
def work_share(context: Context) -> float | None:
    """Return how many jobs there are now, of those before the onset; None if nobody counts them."""
    shares = []
    for _, rows in context.incident.jobs.groupby("target"):
        earlier = rows.loc[rows["timestamp"] < context.onset_earliest]
        later = rows.loc[rows["timestamp"] >= context.onset_at]
        before, now = _jobs_per_second(earlier), _jobs_per_second(later)
        if before is not None and now is not None:
            shares.append(now / before)
            continue
        later = rows.loc[rows["timestamp"] >= context.onset_latest + LAST_JOBS]
        if len(rows) - len(later) >= _MIN_JOBS > len(later):
            # the newest are listed first: there are no others
            shares.append(0.0)
    return max(shares, default=None)


def _jobs_per_second(jobs: pd.DataFrame) -> float | None:
    numbered = jobs.assign(number=pd.to_numeric(jobs["job_id"], errors="coerce"))
    numbered = numbered.dropna(subset=["number"]).sort_values("timestamp")
    if len(numbered) < _MIN_JOBS:
        return None
    first, last = numbered.iloc[0], numbered.iloc[-1]
    seconds = (last["timestamp"] - first["timestamp"]).total_seconds()
    if seconds < _LEAST_SECONDS or not last["number"] > first["number"]:
        return None
    return float(last["number"] - first["number"]) / seconds


@dataclass(frozen=True)
class _Compared:
    """What a comparison of before and after the onset told, and what it found."""

    reason: str
    findings: tuple[Finding, ...] = ()


def _queued(context: Context) -> Iterator[_Compared]:
    """Compare how long jobs waited to be started; one that still waits has waited until now."""
    jobs, onset = context.incident.jobs, context.onset_earliest
    if jobs.empty:
        return
    looked_at = context.incident.captured_at
    waited = (jobs["started_at"].fillna(looked_at) - jobs["timestamp"]).dt.total_seconds()
    pending = jobs["started_at"].isna() & jobs["status"].isin(["pending", "waiting"])
    jobs = jobs.assign(waited=waited).loc[jobs["started_at"].notna() | pending]
    for target, rows in jobs.groupby("target"):
        before = rows.loc[rows["timestamp"] < onset, "waited"]
        later = rows.loc[rows["timestamp"] >= context.onset_at]
        if len(later) < _MIN_JOBS or len(before) < _MIN_JOBS:
            continue
        usual, now = float(before.median()), float(later["waited"].median())
        told = f"{target} jobs wait {now:.2g} s to be started, {usual:.2g} s before the onset"
        if now < QUEUED_FLOOR_SECONDS or now < SLOWER_RATIO * usual:
            yield _Compared(f"{target} jobs wait {now:.2g} s, before {usual:.2g} s")
            continue
        slow = later.loc[later["waited"] >= (usual + now) / 2, "timestamp"]
        found = Finding(
            f"downstream_slow:{target}/queue",
            told,
            "downstream",
            queries_of(rows),
            onset=slow.min(),
            value=now,
            baseline=usual,
            unit="seconds",
        )
        yield _Compared(told, (found,))


def _latencies(context: Context) -> Iterator[_Compared]:
    """Compare each latency that the configuration reads out of Prometheus."""
    probes = context.incident.downstream
    courses = probes.loc[probes["check"] == _LATENCY].dropna(subset=["value"])
    for target, rows in courses.groupby("target"):
        before = rows.loc[rows["timestamp"] < context.onset_earliest, "value"]
        later = rows.loc[rows["timestamp"] >= context.onset_at]
        if len(later) < _MIN_JOBS or len(before) < _MIN_JOBS:
            continue
        usual, now = float(before.median()), float(later["value"].median())
        if now < SLOWER_RATIO * usual or now - usual < SLOWER_FLOOR_SECONDS:
            yield _Compared(f"calls of {target} take {now:.2g} s, before {usual:.2g} s")
            continue
        told = f"calls of {target} take {now:.2g} s, {usual:.2g} s before the onset"
        found = Finding(
            f"downstream_slow:{target}/{_LATENCY}",
            told,
            "downstream",
            queries_of(rows),
            onset=later.loc[later["value"] >= (usual + now) / 2, "timestamp"].min(),
            value=now,
            baseline=usual,
            unit="seconds",
        )
        yield _Compared(told, (found,))


def _failing(context: Context) -> Check:
    incident = context.incident
    probes, jobs = incident.downstream, incident.jobs
    # A finished job's pod and one that is being removed are not meant to be ready.
    pods = incident.pods.loc[
        (incident.pods["role"] != "consumer")
        & (incident.pods["phase"] != "Succeeded")
        & incident.pods["deleted_at"].isna()
    ]
    if probes.empty and pods.empty and jobs.empty:
        return not_checked("downstream_failing", context.gap("downstream"), "downstream")
    query = queries_of(probes, jobs, pods)
    findings = []
    for (target, check), rows in probes.groupby(["target", "check"]):
        bad = rows.loc[~rows["ok"].astype(bool)]
        if len(bad) * 2 > len(rows):
            detail = bad["detail"].dropna()
            findings.append(
                Finding(
                    f"downstream_failing:{target}/{check}",
                    f"{target} failed {len(bad)} of {len(rows)} probes of its {check}",
                    "downstream",
                    query,
                    value=float(len(bad)),
                    baseline=0.0,
                    unit="probes",
                    quote=str(detail.iloc[0])[:300] if len(detail) else "",
                )
            )
    for target, rows in jobs.groupby("target"):
        later = rows.loc[rows["timestamp"] >= context.onset_earliest]
        before = rows.loc[rows["timestamp"] < context.onset_earliest]
        share = later["status"].isin(_BAD_STATUS).mean() if len(later) >= _MIN_JOBS else 0.0
        usual = before["status"].isin(_BAD_STATUS).mean() if len(before) >= _MIN_JOBS else 0.0
        if share >= FAILED_SHARE and share > 2 * usual:
            first = later.loc[later["status"].isin(_BAD_STATUS), "timestamp"].min()
            findings.append(
                Finding(
                    f"downstream_failing:{target}/jobs",
                    f"{share:.0%} of {target}'s jobs failed since the onset",
                    "downstream",
                    query,
                    onset=first,
                    value=float(share),
                    baseline=float(usual),
                    unit="share",
                )
            )
    not_ready = pods.loc[~pods["ready"].fillna(True).astype(bool)]
    if len(not_ready):
        row = not_ready.iloc[0]
        reason = row["state_reason"] if isinstance(row["state_reason"], str) else row["phase"]
        findings.append(
            Finding(
                f"downstream_failing:{row['role']}/pods",
                f"{not_ready['pod'].nunique()} of {pods['pod'].nunique()} downstream pods are not "
                f"ready ({reason})",
                "kubernetes",
                query,
                value=float(not_ready["pod"].nunique()),
                baseline=0.0,
                unit="pods",
            )
        )
    if findings:
        return present("downstream_failing", *findings)
    looked = [
        text for table, text in ((probes, "probes"), (jobs, "jobs"), (pods, "pods")) if len(table)
    ]
    return absent(
        "downstream_failing",
        f"Nothing fails downstream ({', '.join(looked)}).",
        "downstream" if len(probes) else "kubernetes",
        query,
    )

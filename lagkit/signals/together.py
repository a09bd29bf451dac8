"""What several checks say only together: signs of their own, made of what others saw or missed.

The ranking takes evidence one by one. That members come and go is seen with most causes, and that
nothing else is wrong with none; both at once are seen with one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lagkit.model import Check, Finding
from lagkit.signals import absent, not_checked, present

CHURN_ENDS_IN = (
    "containers_failing",
    "poll_interval_exceeded",
    "transport_errors",
    "sessions_lost_by_all",
    "access_refused",
    "same_record_fails",
    "downstream_slow",
    "downstream_failing",
    "broker_degraded",
    "brokers_answer_late",
    "production_spike",
)
"""What makes members come and go, or lag for a reason of its own, when it is seen."""
UNSEEN_AT_MOST = 2
"""Of these that may be unknown: the downstream of a group is often not."""
MUST_BE_SEEN = ("containers_failing", "poll_interval_exceeded", "transport_errors")
"""Of these that may not: most churn is an effect of one of them."""


CUT_OFF_ENDS_IN = (
    "containers_idle",
    "poll_interval_exceeded",
    "access_refused",
    "downstream_slow",
    "downstream_failing",
    "downstream_complaints",
    "broker_degraded",
    "brokers_scraped_late",
    "brokers_answer_late",
    "neighbours_lag_too",
)
"""What else takes members away from their group and leaves their containers running."""


def conclusions(checks: Mapping[str, Check]) -> Iterator[Check]:
    """Answer the kinds that rest on the answers to others."""
    yield _over_in_time(checks)
    yield (well := _brokers_well(checks))
    yield _churn_by_itself(checks)
    yield _nothing_but_the_way({**checks, well.kind: well})


def _over_in_time(checks: Mapping[str, Check]) -> Check:
    """Answer whether the lag is over, or on its way out, and never broke the promise."""
    kind, kept, ending = "over_in_time", checks["promise_kept"], checks["backlog_draining"]
    if not_both := _not_all(kind, [kept, ending]):
        return not_both
    statement = f"{ending.findings[0].statement}, and {kept.findings[0].statement}"
    return present(kind, Finding(kind, statement, kept.source, kept.query))


def _brokers_well(checks: Mapping[str, Check]) -> Check:
    """Answer whether the brokers are as before in all that was looked at.

    Each look alone misses some overload: together they leave little room for one.
    """
    kind = "brokers_well"
    degraded, scraped, answers = (
        checks[kind] for kind in ("broker_degraded", "brokers_scraped_late", "brokers_answer_late")
    )
    if any(look.outcome == "present" for look in (degraded, scraped, answers)):
        return absent(kind, "They are not.", "prometheus")
    missing = [look for look in (degraded, scraped) if look.outcome == "not_checked"]
    if missing:
        return not_checked(kind, missing[0].reason, missing[0].source)
    told = "; ".join(look.reason.rstrip(".") for look in (scraped, answers) if look.reason)
    statement = f"the brokers are as before by their metrics. {told}"
    return present(kind, Finding(kind, statement, "prometheus", scraped.query))


def _churn_by_itself(checks: Mapping[str, Check]) -> Check:
    """Answer whether members come and go and nothing that was looked at makes them."""
    kind, churn = "churn_by_itself", checks["membership_churn"]
    if churn.outcome == "not_checked":
        return not_checked(kind, churn.reason, churn.source)
    if churn.outcome == "absent":
        return absent(kind, "Nobody comes and goes.", churn.source, churn.query)
    looks = [checks[name] for name in CHURN_ENDS_IN]
    if wrong := _wrong(kind, looks):
        return wrong
    unseen = [look for look in looks if look.outcome == "not_checked"]
    blind = [look for look in unseen if look.kind in MUST_BE_SEEN]
    if blind or len(unseen) > UNSEEN_AT_MOST:
        return not_checked(kind, (blind or unseen)[0].reason, (blind or unseen)[0].source)
    well = "no container fails, and neither the downstream, the brokers nor the way to them is in"
    return _as_seen(kind, churn, f"{churn.findings[0].statement}; {well} trouble")


def _nothing_but_the_way(checks: Mapping[str, Check]) -> Check:
    """Answer whether members that run are gone and do nothing, while both their ends are well.

    Where their own words are known they must speak of it: then silence says that it is not so. A
    way to one broker of several that is merely slow is told by the partitions it leads.
    """
    kind, gone, ended = (
        "only_the_way_is_left",
        checks["cut_off_while_running"],
        checks["work_ended"],
    )
    words = checks["transport_errors"]
    led, wrong = checks["one_leader_behind"], _wrong(kind, [checks[n] for n in CUT_OFF_ENDS_IN])
    if led.outcome == checks["brokers_well"].outcome == "present" and not wrong:
        left = "the brokers are well, and only what one of them leads is behind: its way is left"
        return _as_seen(kind, led, left)
    if not_both := _not_all(kind, [gone, ended]):
        return not_both
    if words.outcome == "absent":
        return absent(kind, words.reason, words.source, words.query)
    if wrong:
        return wrong
    if checks["containers_idle"].outcome == "not_checked":
        return not_checked(kind, checks["containers_idle"].reason)
    said = f"{gone.findings[0].statement}; {ended.findings[0].statement}"
    return _as_seen(kind, gone, f"{said}, and the brokers are not in trouble")


def _not_all(kind: str, needed: Sequence[Check]) -> Check | None:
    """Answer *kind* with the first of *needed* that found nothing; None if all did."""
    for check in needed:
        if check.outcome == "not_checked":
            return not_checked(kind, check.reason, check.source)
    for check in needed:
        if check.outcome == "absent":
            return absent(kind, check.reason, check.source, check.query)
    return None


def _wrong(kind: str, looks: Sequence[Check]) -> Check | None:
    """Answer *kind* with the first of *looks* that found something; None if none did."""
    for look in looks:
        if look.outcome == "present":
            why = f"Something else is wrong: {look.findings[0].statement}."
            return absent(kind, why, look.source, look.query)
    return None


def _as_seen(kind: str, check: Check, statement: str) -> Check:
    """Answer *kind* with yes, by what *check* found and when."""
    seen = replace(check.findings[0], id=kind, statement=statement, query=check.query, quote="")
    return present(kind, seen)

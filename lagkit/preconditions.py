"""Whether what must hold before a command did hold when the incident was captured.

One check a name; a runbook names them beside its preconditions (``checked_by``). A check that
finds nothing to tell from says *cannot tell*, which is no yes. Nothing is asked of a system: by
the time a command is run it may be otherwise, and every text says what it was read from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lagkit.incident import Incident
from lagkit.model import Check, Condition, ConditionStatus
from lagkit.prospects import RESTORE, SCALE, SKIP, Situation
from lagkit.wording import plural, printable

Told = tuple[ConditionStatus, str]
_NOTHING: Told = ("cannot_tell", "")
_REBALANCING = frozenset({"PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling"})


@dataclass(frozen=True, slots=True)
class Captured:
    """What the checks look at."""

    incident: Incident
    situation: Situation
    checks: Mapping[str, Check]
    """Evidence kind → what became of it."""

    @property
    def state(self) -> str:
        """The group's last known state, "" if it is not known."""
        rows = self.incident.group_state
        rows = rows.loc[(rows["group"] == self.incident.group) & rows["state"].notna()]
        return str(rows.sort_values("timestamp")["state"].iloc[-1]) if len(rows) else ""


def _outcome(captured: Captured, *kinds: str, good: str) -> Told:
    """Return whether all *kinds* are ``good``: "absent" or "present"; one other is a no."""
    found = [captured.checks[kind] for kind in kinds if kind in captured.checks]
    checked = [check for check in found if check.outcome != "not_checked"]
    against = [check for check in checked if check.outcome != good]
    if against:
        return "not_met", _seen(against[0])
    if not checked or len(checked) < len(kinds):
        return _NOTHING
    return "met", _seen(checked[0])


def _seen(check: Check) -> str:
    if check.findings:
        return printable(check.findings[0].statement, limit=300)
    return printable(check.reason or "looked for, and nothing was seen", limit=300)


def _members_below_partitions(captured: Captured) -> Told:
    members, partitions = captured.situation.members, captured.situation.partitions
    if members is None or not partitions:
        return _NOTHING
    status: ConditionStatus = "met" if members < partitions else "not_met"
    return status, f"{plural(members, 'member')}, {plural(partitions, 'partition')}"


def _members_equal_partitions(captured: Captured) -> Told:
    members, partitions = captured.situation.members, captured.situation.partitions
    if members is None or not partitions:
        return _NOTHING
    status: ConditionStatus = "met" if members >= partitions else "not_met"
    return status, f"{plural(members, 'member')}, {plural(partitions, 'partition')}"


def _no_rebalance(captured: Captured) -> Told:
    state = captured.state
    if state in _REBALANCING:
        return "not_met", f"the group was {state}"
    churn = captured.checks.get("membership_churn")
    if churn is not None and churn.outcome == "present":
        return "not_met", _seen(churn)
    return ("met", f"the group was {state}") if state and state != "Unknown" else _NOTHING


def _group_empty(captured: Captured) -> Told:
    state = captured.state
    if not state or state == "Unknown":
        return _NOTHING
    return ("met" if state == "Empty" else "not_met"), f"the group was {state}"


def _no_autoscaler(captured: Captured) -> Told:
    rows = captured.incident.autoscalers
    rows = rows.loc[rows["role"] == "consumer"]
    if len(rows):
        first = rows.iloc[0]
        return "not_met", printable(f"{first['kind']} {first['autoscaler']}", limit=200)
    blind = any("autoscaler" in gap.what.lower() for gap in captured.incident.coverage)
    if blind or not len(captured.incident.workloads):
        return _NOTHING
    return "met", "none was listed"


def _logs_saved(captured: Captured) -> Told:
    logs = captured.incident.logs
    earlier = logs.loc[(logs["role"] == "consumer") & logs["previous"].fillna(False).astype(bool)]
    if len(earlier):
        return "met", f"{plural(len(earlier), 'line')} of earlier containers are in the incident"
    return _NOTHING


def _poll_interval(captured: Captured) -> Told:
    """Return whether the log says so; that it does not is no answer to how long a batch takes."""
    check = captured.checks.get("poll_interval_exceeded")
    if check is None or check.outcome == "not_checked":
        return _NOTHING
    return ("met" if check.outcome == "present" else "cannot_tell"), _seen(check)


CHECKS: Mapping[str, Callable[[Captured], Told]] = {
    "members_below_partitions": _members_below_partitions,
    "members_equal_partitions": _members_equal_partitions,
    "no_rebalance": _no_rebalance,
    "group_empty": _group_empty,
    "no_autoscaler": _no_autoscaler,
    "logs_saved": _logs_saved,
    "downstream_has_room": lambda c: _outcome(
        c, "downstream_slow", "downstream_failing", good="absent"
    ),
    "rollout_before_onset": lambda c: _outcome(c, "rollout_before_onset", good="present"),
    "pods_do_not_crash": lambda c: _outcome(c, "containers_failing", good="absent"),
    "poll_interval_exceeded": _poll_interval,
    "handling_is_not_slow": lambda c: _outcome(
        c, "poll_interval_exceeded", "downstream_slow", good="absent"
    ),
    "one_protocol": lambda c: _outcome(c, "protocol_refused", good="absent"),
    "protocols_differ": lambda c: _outcome(c, "protocol_refused", good="present"),
    "record_fails_again": lambda c: _outcome(c, "same_record_fails", good="present"),
}

OWN: Mapping[str, tuple[tuple[str, str], ...]] = {
    SCALE: (
        ("members are fewer than partitions", "members_below_partitions"),
        ("no rebalance is going on", "no_rebalance"),
        ("what the consumer waits for has room for more load", "downstream_has_room"),
        ("no autoscaler sets the replicas", "no_autoscaler"),
    ),
    RESTORE: (("the logs of earlier containers are saved", "logs_saved"),),
    SKIP: (("the group is Empty", "group_empty"),),
}
"""What lagkit looks at for each prospect, whatever the runbook says."""


def conditions(
    captured: Captured, preconditions: Sequence[tuple[str, str]], prospect: str
) -> tuple[Condition, ...]:
    """Return the runbook's *preconditions* (text, check) and lagkit's own, each checked once."""
    own = [
        entry for entry in OWN.get(prospect, ()) if entry[1] not in {c for _, c in preconditions}
    ]
    found = []
    for text, name in (*preconditions, *own):
        check = CHECKS.get(name)
        status, seen = _NOTHING if check is None else check(captured)
        found.append(Condition(text, status, seen))
    return tuple(found)


@functools.cache
def shipped_checks() -> Mapping[str, str]:
    """Return the shipped runbook's preconditions → the check of each.

    An incident keeps the runbook of its day, and a company's own runbook often has these words: a
    precondition that names no check and is written as in the shipped runbook has that one's.
    """
    from lagkit.runbook import load

    return {
        text: check
        for remedy in load().remedies
        for text, check in zip(remedy.preconditions, remedy.checked_by, strict=False)
        if check
    }

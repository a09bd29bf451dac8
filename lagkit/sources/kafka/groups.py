"""Consumer groups: which there are, their state, their members and what they have committed.

Knows that a list which comes back empty may be a broker that still loads its groups, and that a
state of *Dead* is no proof of death.
"""

from __future__ import annotations

import difflib
import shlex
import time
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from lagkit.sources import Blind, Question
from lagkit.sources.kafka.coordinator import crashes_told
from lagkit.sources.kafka.errors import LOADING, describe_error, error_name, fault
from lagkit.sources.kafka.rows import (
    Place,
    Read,
    committed_offsets,
    group_row,
    member_rows,
    state_name,
)
from lagkit.sources.kafka.session import LOADING_PAUSE_SECONDS, LOADING_TRIES, Session

NEAR_NAMES = 5


def list_groups(session: Session) -> tuple[dict[str, str], bool]:
    """Return group → state, and whether every group that this user may describe is among them."""
    listed: dict[str, str] = {}
    errors: list[str] = []
    filtered = session.rights is not None and "DESCRIBE" not in session.rights

    def work(question: Question) -> bool:
        hollow = 0
        for attempt in range(LOADING_TRIES):
            seconds = session.timeout()
            result = session.wait(
                session.client.list_consumer_groups(request_timeout=seconds), seconds
            )
            listed.update({item.group_id: state_name(item) for item in result.valid or ()})
            errors[:] = [session.text(describe_error(error)) for error in result.errors or ()]
            if (listed or filtered) and not errors:
                break
            hollow += not (listed or errors)
            if errors and not {error_name(error) for error in result.errors} & LOADING:
                break  # whoever did not answer will not a moment later, and costs a timeout
            if attempt + 1 < LOADING_TRIES:
                time.sleep(session.deadline.left(LOADING_PAUSE_SECONDS))
        question.rows = len(listed)
        if hollow:
            question.detail = f"no group and no error in {hollow} of {attempt + 1} answers"
        if errors:
            question.outcome = "partial" if listed else "failed"
            told = [question.detail] if hollow else []
            question.detail = session.text("; ".join([*told, *errors]))
        return bool(listed) and not errors

    grant = session.acl("Describe", "cluster", "kafka-cluster")
    whole = session.ask("list_consumer_groups()", work, what="list of groups", acl=grant)
    if whole is None:
        return listed, False
    if errors:
        why = f"some brokers did not answer: {'; '.join(sorted(set(errors)))}"
        session.blind(Blind("list of groups", session.text(why), "Look at those brokers."))
    elif filtered:
        # the broker drops them without an error: only its list of rights gives it away
        why = "groups that this user may not describe are left out of it"
        session.blind(Blind("list of groups", why, grant))
    elif not listed:
        why = (
            f"the broker listed no groups in {LOADING_TRIES} tries, as one does while it loads "
            "its groups after a restart, or when this user may describe none"
        )
        session.blind(Blind("list of groups", why, f"Run again in a minute; else {grant}"))
    return listed, whole


def describe(session: Session, group: str, *, members: bool = True) -> Any:
    """Return the client's description of *group*, None if not answered; keep its rows."""

    def work(question: Question) -> Any:
        seconds = session.timeout()
        future = session.coordinator.describe_consumer_groups([group], request_timeout=seconds)[
            group
        ]
        description = session.wait(future, seconds)
        now = pd.Timestamp.now("UTC")
        session.found.add("group_state", [group_row(description, now, question.query_id)])
        rows = member_rows(description, now, question.query_id)
        question.rows = 1 + len(rows)
        if members:
            session.found.add("members", rows)
        return description

    return session.ask(
        f"describe_consumer_groups([{group!r}])",
        work,
        what="state and members of the group",
        acl=session.acl("Describe", "group", group),
    )


def describe_again(session: Session, looks: Sequence[Any]) -> None:
    """Describe the group once more: a rebalance shows as members that change in seconds.

    *looks* are the descriptions so far, in order; None where one was not answered.
    """
    seen = [look for look in looks if look is not None]
    if not seen or session.deadline.passed or session.found.facts["group_exists"] == "no":
        return
    after = describe(session, session.scope.group, members=False)
    members = [
        {member.member_id for member in look.members} for look in (*seen, after) if look is not None
    ]
    joined = sum(len(new - old) for old, new in pairwise(members))
    left = sum(len(old - new) for old, new in pairwise(members))
    if joined or left:
        session.found.facts["members_changed"] = (
            f"{joined} joined and {left} left between the first and the last look"
        )


def committed_of(session: Session, group: str) -> tuple[str, dict[Place, Read] | None]:
    """Return the query id and the committed offsets of *group*; None if not answered."""
    from confluent_kafka import ConsumerGroupTopicPartitions

    query_id = ""

    def work(question: Question) -> dict[Place, Read]:
        nonlocal query_id
        query_id = question.query_id
        seconds = session.timeout()
        request = ConsumerGroupTopicPartitions(group)
        before = session.coordinator.crashes
        future = session.coordinator.list_consumer_group_offsets(
            [request], request_timeout=seconds
        )[group]
        read = committed_offsets(session.wait(future, seconds).topic_partitions)
        question.rows = len(read)
        told = crashes_told(session.coordinator.crashes - before)
        if faults := sorted({value.error for value in read.values() if value.error}):
            question.outcome = "partial"
        question.detail = "; ".join([*told, *faults])
        return read

    answer = session.ask(
        f"list_consumer_group_offsets([{group!r}])",
        work,
        what="committed offsets",
        acl=session.acl("Describe", "group", group),
    )
    return query_id, answer


def judge_existence(
    session: Session,
    listed: Mapping[str, str],
    listed_whole: bool,
    description: Any,
    committed: Mapping[Place, Read] | None,
) -> None:
    """Decide whether the group exists, which takes all three answers."""
    group = session.scope.group
    facts = session.found.facts
    state = None if description is None else state_name(description)
    alive = bool(committed) or group in listed or state not in (None, "Dead")
    other_kind = not alive and state == "Dead" and _is_of_another_kind(session)
    if alive or other_kind:
        facts["group_exists"] = "yes"
    elif state == "Dead" and committed is not None and listed_whole:
        facts["group_exists"] = "no"
        near = difflib.get_close_matches(group, sorted(listed), n=NEAR_NAMES)
        if near:
            facts["near_groups"] = ", ".join(near)
    else:
        facts["group_exists"] = "unknown"
    if other_kind:
        facts["group_kind"] = "not a consumer group"
        session.blind(
            Blind(
                "members, commits and lag of the group",
                "the broker lists this group and not among its consumer groups: it is a share "
                "group (KIP-932) or a streams group (KIP-1071). A share group commits no offsets, "
                "records are acknowledged one by one, so a lag of commits does not exist",
                f"Ask its own tool: kafka-share-groups --describe --group {shlex.quote(group)}",
            )
        )
    elif state == "Dead" and alive:
        # KIP-848 groups look dead to coordinators and clients that do not speak it
        session.blind(
            Blind(
                "state and members of the group",
                "described as Dead although it is listed or has committed offsets, as a "
                "group of the new protocol (KIP-848) looks through an older API",
            )
        )
    if state is not None:
        count = len(description.members)
        shown = "not found" if facts["group_exists"] == "no" else state
        told = f"group {shown}, {count} member{'' if count == 1 else 's'}"
        session.found.notes.append("the group is not a consumer group" if other_kind else told)


def _is_of_another_kind(session: Session) -> bool:
    """Whether the broker lists the group though its calls for consumer groups know nothing of it.

    ``list_consumer_groups`` leaves out share and streams groups; ``list_groups`` does not.
    """
    group = session.scope.group
    # deprecated, and there is no other call that lists groups of every kind
    warnings.filterwarnings("ignore", r"list_groups\(\) is deprecated", DeprecationWarning)

    def work(question: Question) -> bool:
        found = session.client.list_groups(group=group, timeout=session.timeout())
        question.rows = len(found)
        return bool(found)

    return bool(
        session.ask(f"list_groups({group!r}) of every kind", work, what="groups of other kinds")
    )


def forget_dead(session: Session) -> None:
    """Unsay that a group which exists is dead and has no members: it could not be described."""
    if session.found.facts.get("group_exists") == "no":
        return
    for row in session.found.rows.get("group_state", []):
        if row["group"] == session.scope.group and row["state"] == "Dead":
            row["state"], row["member_count"] = "Unknown", None


def describe_others(session: Session, others: Mapping[str, object]) -> None:
    """Keep the state of *others*."""
    from confluent_kafka import KafkaException

    if not others:
        return
    what = "state of other groups on the same topics"

    def work(question: Question) -> None:
        seconds = session.timeout()
        futures = session.coordinator.describe_consumer_groups(
            sorted(others), request_timeout=seconds
        )
        until = time.monotonic() + seconds
        rows, faults = [], []
        for name, future in futures.items():
            try:
                description = session.wait(future, max(0.0, until - time.monotonic()))
            except (KafkaException, TimeoutError) as error:
                faults.append(f"{name}: {fault(error, seconds)[1]}")
                continue
            rows.append(group_row(description, pd.Timestamp.now("UTC"), question.query_id))
        question.rows = len(rows)
        session.found.add("group_state", rows)
        if faults:
            question.outcome = "partial" if rows else "failed"
            question.detail = session.text("; ".join(faults))
            session.blind(
                Blind(what, session.text(f"{len(faults)} of {len(others)} gave none; {faults[0]}"))
            )

    session.ask(
        f"describe_consumer_groups() of {len(others)} other groups",
        work,
        what=what,
    )

"""What an action would gain and cost, against arithmetic done by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import incidents
import pytest

from lagkit import preconditions, remedies
from lagkit.model import Action
from lagkit.preconditions import CHECKS, shipped_checks
from lagkit.prospects import Situation, drain_seconds, prospects
from lagkit.runbook import load

BEHIND = Situation(
    unread=6000.0,
    produce_per_second=40.0,
    consume_per_second=30.0,
    best_per_second=100.0,
    usual_per_second=40.0,
    members=3,
    partitions=6,
    usual_members=3,
    waits_for=("awx",),
)


def of(situation: Situation):
    return {entry.id: entry for entry in prospects(situation)}


def test_a_drain_takes_the_backlog_over_what_is_to_spare():
    assert drain_seconds(6000, 100, 40) == 100
    assert math.isinf(drain_seconds(6000, 40, 40))
    assert math.isinf(drain_seconds(6000, 40.1, 40))


def test_reading_slower_than_is_written_never_drains():
    found = of(BEHIND)["nothing"]
    assert (found.outlook, found.catch_up_seconds) == ("never", None)
    assert "never" in found.statement


def test_members_count_up_to_the_partitions():
    found = of(BEHIND)["scale"]
    assert found.members == 6
    assert found.capacity_per_second == 60.0
    assert found.catch_up_seconds == pytest.approx(6000 / (60 - 40))
    assert "from 5 members on it drains at all" in found.statement
    assert "2 times the load on awx" in found.cost


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"members": 6}, "6 members share 6 partitions"),
        ({"members": 9}, "9 members share 6 partitions"),
        ({"waits_in_trouble": True}, "awx is the limit"),
        ({"stuck": (("t", 2),)}, "reads the same record"),
        ({"worst_share": 0.9}, "lies in one partition"),
    ],
)
def test_where_more_members_gain_nothing_it_is_said_why(changes, reason):
    found = of(replace(BEHIND, **changes))["scale"]
    assert (found.outlook, found.catch_up_seconds) == ("no_gain", None)
    assert reason in found.statement


def test_what_was_never_seen_to_read_faster_has_no_time_instead_of_never():
    found = of(replace(BEHIND, best_per_second=40.0))["restore"]
    assert found.outlook == "unknown"


def test_a_stuck_partition_never_catches_up_by_itself_and_a_skip_costs_one_message():
    found = of(replace(BEHIND, stuck=(("t", 2),)))
    assert found["nothing"].outlook == "never"
    assert "t/2" in found["nothing"].statement
    assert found["skip_record"].catch_up_seconds == pytest.approx(100)
    assert found["skip_record"].cost.startswith("1 message ")


def test_no_record_is_to_be_skipped_where_a_transaction_holds_the_partition():
    found = of(replace(BEHIND, stuck=(("t", 2),), pinned=True))["skip_record"]
    assert found.outlook == "no_gain"
    assert "transaction" in found.statement


def test_giving_up_costs_every_unread_message_and_partitions_drain_nothing():
    found = of(BEHIND)
    assert found["give_up"].cost.startswith("6,000 messages")
    assert found["add_partitions"].outlook == "no_gain"


def test_without_rates_nothing_is_promised():
    nan = math.nan
    blind = replace(
        BEHIND, produce_per_second=nan, consume_per_second=nan, best_per_second=nan, members=None
    )
    kinds = {entry.id: entry.outlook for entry in prospects(blind)}
    assert kinds["nothing"] == kinds["restore"] == kinds["scale"] == "unknown"


def test_nothing_unread_needs_no_prospect():
    assert prospects(replace(BEHIND, unread=0.0)) == ()
    assert prospects(replace(BEHIND, unread=None)) == ()


@pytest.mark.parametrize(
    ("command", "cause", "name"),
    [
        ("kubectl scale -n x deployment/w --replicas=3", "consumer_down", "restore"),
        ("kubectl scale -n x deployment/w --replicas=3", "message_spike", "scale"),
        ("kubectl rollout undo -n x deployment/w", "consumer_down", "restore"),
        ("rpk topic add-partitions t --num 6", "message_spike", "add_partitions"),
        ("printf x | rpk group seek g --to-file /dev/stdin", "poison_message", "skip_record"),
        ("rpk group seek g --to end --topics t", "poison_message", "give_up"),
        ("rpk topic alter-config t --set retention.ms=5", "retention_loss", "retain"),
        ("kubectl set env -n x deployment/w A=1", "rebalancing", "restart"),
    ],
)
def test_what_a_command_brings_about_is_read_from_its_words(command, cause, name):
    assert remedies.effect(Action(command, "w", "disruptive", cause=cause)) == name
    assert remedies.effect(Action(command, "w", "read_only", cause=cause)) == ""


# -- preconditions


def test_every_check_that_the_runbook_names_exists_and_has_its_precondition():
    for remedy in load().remedies:
        assert len(remedy.checked_by) in (0, len(remedy.preconditions)), remedy.title
        assert {name for name in remedy.checked_by if name} <= CHECKS.keys()
    named = {name for remedy in load().remedies for name in remedy.checked_by}
    own = {name for checks in preconditions.OWN.values() for _, name in checks}
    assert named | own >= CHECKS.keys()
    assert "members are fewer than partitions ({partitions})" in shipped_checks()


@pytest.mark.parametrize("kind", incidents.KINDS)
def test_every_action_that_changes_something_says_what_it_costs_and_checks_its_conditions(kind):
    verdict = incidents.investigated(kind).verdict
    for action in verdict.actions:
        assert [c.text for c in action.conditions][: len(action.preconditions)] == list(
            action.preconditions
        )
        assert all(c.status == "cannot_tell" or c.seen for c in action.conditions)
        if action.safety != "read_only":
            assert action.prospect, action.command
            assert action.cost or not verdict.prospects, action.command


def test_a_scaled_down_worker_is_known_to_have_no_autoscaler_or_it_is_named():
    made = incidents.make("scaled_to_zero")
    verdict = incidents.investigated("scaled_to_zero").verdict
    scale = next(a for a in verdict.actions if " scale " in a.command)
    (condition,) = [c for c in scale.conditions if "autoscaler" in c.text]
    assert condition.status == ("met" if made.autoscalers.empty else "not_met")


def test_without_a_source_its_conditions_are_not_told_to_be_met():
    from lagkit.investigation import investigate

    bare = incidents.without(incidents.make("scaled_to_zero"), "kubernetes")
    for action in investigate(bare).verdict.actions:
        for condition in action.conditions:
            if "autoscaler" in condition.text or "pods" in condition.text:
                assert condition.status == "cannot_tell", condition

"""What several checks say only together."""

from __future__ import annotations

import pandas as pd
import pytest

from lagkit.model import Check, Finding
from lagkit.signals import together

AT = pd.Timestamp("2026-11-30T09:00:00Z")
QUIET = dict.fromkeys(
    [
        *together.CHURN_ENDS_IN,
        *together.CUT_OFF_ENDS_IN,
        "membership_churn",
        "cut_off_while_running",
        "work_ended",
        "promise_kept",
        "backlog_draining",
        "one_leader_behind",
        "brokers_scraped_late",
    ],
    "absent",
)


def concluded(kind: str, **outcomes: str) -> Check:
    """Return the conclusion *kind* where all was looked at and nothing seen, but for *outcomes*."""
    checks = {
        name: Check(
            name,
            outcome,
            (Finding(name, f"{name} was seen", "kafka", "kafka-1", onset=AT),)
            if outcome == "present"
            else (),
            reason="" if outcome == "present" else f"{name} is {outcome}",
        )
        for name, outcome in {**QUIET, **outcomes}.items()
    }
    return {check.kind: check for check in together.conclusions(checks)}[kind]


def test_churn_that_nothing_explains_stands_by_itself_since_it_began():
    check = concluded("churn_by_itself", membership_churn="present")
    assert check.outcome == "present"
    assert check.findings[0].onset == AT


@pytest.mark.parametrize("other", together.CHURN_ENDS_IN)
def test_churn_beside_anything_that_makes_it_does_not(other):
    check = concluded("churn_by_itself", membership_churn="present", **{other: "present"})
    assert check.outcome == "absent"
    assert f"{other} was seen" in check.reason


@pytest.mark.parametrize("blind", together.MUST_BE_SEEN)
def test_nobody_can_say_that_churn_stands_by_itself_without_pods_and_their_words(blind):
    check = concluded("churn_by_itself", membership_churn="present", **{blind: "not_checked"})
    assert check.outcome == "not_checked"


def test_an_unknown_downstream_leaves_churn_by_itself_and_more_does_not():
    downstream = {"downstream_slow": "not_checked", "downstream_failing": "not_checked"}
    churn = {"membership_churn": "present", **downstream}
    assert concluded("churn_by_itself", **churn).outcome == "present"
    assert concluded("churn_by_itself", **churn, broker_degraded="not_checked").outcome == (
        "not_checked"
    )


@pytest.mark.parametrize("outcome", ["absent", "not_checked"])
def test_where_no_churn_was_seen_there_is_none_by_itself(outcome):
    assert concluded("churn_by_itself", membership_churn=outcome).outcome == outcome


CUT_OFF = {
    "cut_off_while_running": "present",
    "work_ended": "present",
    "transport_errors": "not_checked",
}


@pytest.mark.parametrize("words", ["present", "not_checked"])
def test_members_that_run_and_get_nothing_done_have_only_the_way_left(words):
    check = concluded("only_the_way_is_left", **CUT_OFF | {"transport_errors": words})
    assert check.outcome == "present"
    assert "cut_off_while_running was seen" in check.findings[0].statement


def test_members_whose_own_words_are_known_and_silent_are_not_cut_off():
    check = concluded("only_the_way_is_left", **CUT_OFF | {"transport_errors": "absent"})
    assert check.outcome == "absent"


@pytest.mark.parametrize("other", together.CUT_OFF_ENDS_IN)
def test_members_with_another_trouble_may_be_gone_for_that(other):
    check = concluded("only_the_way_is_left", **CUT_OFF, **{other: "present"})
    assert check.outcome == "absent"


@pytest.mark.parametrize("blind", ["cut_off_while_running", "work_ended", "containers_idle"])
def test_what_was_not_looked_at_may_have_taken_members_away(blind):
    check = concluded("only_the_way_is_left", **CUT_OFF | {blind: "not_checked"})
    assert check.outcome == "not_checked"


LED = {"one_leader_behind": "present", "cut_off_while_running": "absent"}


def test_partitions_of_one_leader_that_is_well_have_only_the_way_to_it_left():
    check = concluded("only_the_way_is_left", **LED)
    assert check.outcome == "present"
    assert check.findings[0].statement.startswith("the brokers are well, and only what one of them")


@pytest.mark.parametrize("other", ["broker_degraded", "brokers_answer_late", "downstream_slow"])
def test_partitions_of_a_leader_that_is_not_well_may_be_behind_for_that(other):
    assert concluded("only_the_way_is_left", **LED, **{other: "present"}).outcome == "absent"


OVER = {"promise_kept": "present", "backlog_draining": "present"}


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (OVER, "present"),
        (OVER | {"promise_kept": "absent"}, "absent"),
        (OVER | {"backlog_draining": "absent"}, "absent"),
        (OVER | {"promise_kept": "not_checked"}, "not_checked"),
    ],
)
def test_lag_is_over_in_time_only_if_it_ends_and_nobody_waited(seen, outcome):
    assert concluded("over_in_time", **seen).outcome == outcome


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        ({}, "present"),
        ({"brokers_scraped_late": "present"}, "absent"),
        # one look alone leaves room for what it cannot see
        ({"brokers_scraped_late": "not_checked"}, "not_checked"),
        # a lagkit far from the brokers asks nothing of them in time
        ({"brokers_answer_late": "not_checked"}, "present"),
    ],
)
def test_brokers_are_well_if_their_metrics_and_the_time_these_take_show_nothing(seen, outcome):
    assert concluded("brokers_well", **seen).outcome == outcome

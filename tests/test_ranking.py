"""From checks to ranked causes: what a ranking must never do, whatever the evidence."""

from __future__ import annotations

import math
from dataclasses import replace

import incidents
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagkit import ranking
from lagkit.causes import (
    CORE,
    EXTENDED,
    FALLBACK,
    Catalogue,
    Cause,
)
from lagkit.evidence import EVIDENCE, GROUP_CAP_NATS, LEVELS, USUAL, EvidenceKind
from lagkit.model import Check, Finding, Onset

CATALOGUE = Catalogue((*CORE, *EXTENDED, *FALLBACK), EVIDENCE)
RATINGS = {
    "consumer_down": "high",
    "slow_processing": "high",
    "message_spike": "medium",
    "rebalancing": "medium",
}
T0 = pd.Timestamp("2026-11-23T02:18:00Z")
ONSET = Onset(T0, T0 - pd.Timedelta("30s"), T0 + pd.Timedelta("30s"))
STEP = 15.0


def seen(kind: str, *, after: float | None = 0.0, number: int = 1) -> Check:
    """Return the check of a kind that was seen *after* seconds past the onset."""
    at = None if after is None else T0 + pd.Timedelta(after, "s")
    findings = tuple(
        Finding(kind if number == 1 else f"{kind}:{n}", f"{kind} was seen", "kafka", "kafka-01", at)
        for n in range(number)
    )
    return Check(kind, "present", findings, source="kafka", query="kafka-01")


def unseen(kind: str) -> Check:
    return Check(kind, "absent", reason=f"{kind} was not seen")


def blind(kind: str) -> Check:
    return Check(kind, "not_checked", reason="kafka is not configured.")


def rank(*checks: Check, **changes) -> ranking.Ranking:
    """Rank by *checks*; every other kind was not checked."""
    given = {check.kind: check for check in checks}
    every = [given.get(kind.id, blind(kind.id)) for kind in CATALOGUE.evidence]
    options = {"ratings": RATINGS, "onset": ONSET, "step_seconds": STEP}
    return ranking.rank(every, CATALOGUE, **(options | changes))


def probabilities(found: ranking.Ranking) -> dict[str, float]:
    return {cause.cause: cause.probability for cause in found.causes}


def entry(found: ranking.Ranking, cause: str):
    return next(item for item in found.causes if item.cause == cause)


outcomes = st.lists(
    st.tuples(
        st.sampled_from(["present", "absent", "not_checked"]),
        st.sampled_from([None, -600.0, 0.0, 60.0, 900.0]),
    ),
    min_size=len(EVIDENCE),
    max_size=len(EVIDENCE),
)


def checks_of(drawn) -> list[Check]:
    made = {
        "present": lambda kind, at: seen(kind, after=at),
        "absent": lambda kind, _: unseen(kind),
        "not_checked": lambda kind, _: blind(kind),
    }
    return [made[outcome](kind.id, at) for kind, (outcome, at) in zip(EVIDENCE, drawn, strict=True)]


# -- whatever the evidence


@settings(max_examples=150, deadline=None)
@given(outcomes, st.booleans())
def test_any_evidence_gives_one_whole_ranking(drawn, timed):
    found = ranking.rank(
        checks_of(drawn),
        CATALOGUE,
        ratings=RATINGS,
        onset=ONSET if timed else None,
        step_seconds=STEP,
    )
    values = [cause.probability for cause in found.causes]
    assert math.isclose(sum(values), 1.0, abs_tol=1e-12)
    assert all(0.0 <= value <= 1.0 for value in values)
    assert [cause.rank for cause in found.causes] == list(range(1, len(CATALOGUE.causes) + 1))
    assert sorted(values, reverse=True) == values
    assert math.isclose(sum(cause.prior for cause in found.causes), 1.0, abs_tol=1e-12)
    roles = [cause.role for cause in found.causes]
    assert roles.count("primary") == (0 if found.top.cause == "none" else 1)
    assert found.top.role in ("primary", "none")


@settings(max_examples=80, deadline=None)
@given(outcomes)
def test_a_cause_without_discriminating_evidence_in_time_is_never_above_half(drawn):
    checks = checks_of(drawn)
    found = ranking.rank(checks, CATALOGUE, ratings=RATINGS, onset=ONSET, step_seconds=STEP)
    by_kind = {check.kind: check for check in checks}
    for cause in found.causes:
        if cause.cause == "unknown" or cause.probability <= ranking.UNGROUNDED_CAP:
            continue
        assert any(
            by_kind[kind.id].outcome == "present" and kind.points(cause.cause) for kind in EVIDENCE
        )


@settings(max_examples=60, deadline=None)
@given(outcomes, st.permutations(range(len(EVIDENCE))))
def test_the_order_of_the_checks_does_not_matter(drawn, order):
    checks = checks_of(drawn)
    options = {"ratings": RATINGS, "onset": ONSET, "step_seconds": STEP}
    assert ranking.rank(checks, CATALOGUE, **options) == ranking.rank(
        [checks[number] for number in order], CATALOGUE, **options
    )


@settings(max_examples=60, deadline=None)
@given(outcomes, st.integers(0, len(EVIDENCE) - 1), st.integers(2, 5))
def test_evidence_that_is_handed_in_twice_counts_once(drawn, which, times):
    checks = checks_of(drawn)
    options = {"ratings": RATINGS, "onset": ONSET, "step_seconds": STEP}
    once = ranking.rank(checks, CATALOGUE, **options)
    assert ranking.rank([*checks, *[checks[which]] * times], CATALOGUE, **options) == once


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_the_same_evidence_an_hour_later_gives_the_same_ranking(drawn):
    hour = pd.Timedelta("1h")
    checks = checks_of(drawn)
    later = [
        replace(
            check,
            findings=tuple(
                replace(finding, onset=None if finding.onset is None else finding.onset + hour)
                for finding in check.findings
            ),
        )
        for check in checks
    ]
    onset = Onset(ONSET.at + hour, ONSET.earliest + hour, ONSET.latest + hour)
    options = {"ratings": RATINGS, "step_seconds": STEP}
    assert probabilities(ranking.rank(later, CATALOGUE, onset=onset, **options)) == probabilities(
        ranking.rank(checks, CATALOGUE, onset=ONSET, **options)
    )


# -- weights


def test_several_findings_of_one_kind_weigh_as_one():
    one = probabilities(rank(seen("containers_failing")))
    assert probabilities(rank(seen("containers_failing", number=7))) == one


def test_what_was_not_checked_weighs_nothing_and_differs_from_what_was_not_seen():
    silent, nothing = rank(), rank(unseen("containers_failing"))
    assert probabilities(silent)["consumer_down"] > probabilities(nothing)["consumer_down"]
    assert entry(silent, "consumer_down").evidence_against == ()
    assert [e.id for e in entry(nothing, "consumer_down").evidence_against] == [
        "containers_failing"
    ]


def test_a_line_of_evidence_weighs_what_its_level_says():
    found = rank(seen("containers_failing"))
    line = entry(found, "consumer_down").evidence_for[0]
    assert line.weight == pytest.approx(math.log(LEVELS["*"] / USUAL), abs=1e-3)


@pytest.mark.parametrize(("groups", "nats"), [(("g", "g"), 3.0), (("g", "h"), 2 * 2.14)])
def test_correlated_evidence_is_capped_as_a_group(groups, nats):
    kinds = tuple(
        EvidenceKind(f"k{n}", group, "?", ("kafka",), {"a": "++", "b": "++"})
        for n, group in enumerate(groups)
    )
    tiny = Catalogue(
        (Cause("a", "A", ""), Cause("b", "B", ""), Cause("c", "C", ""), *FALLBACK), kinds
    )
    result = ranking.rank(
        [seen("k0"), seen("k1")], tiny, ratings={}, onset=ONSET, step_seconds=STEP
    )
    found, sharpness = probabilities(result), ranking.SHARPNESS[result.confidence]
    assert GROUP_CAP_NATS == 3.0
    assert math.log(found["a"] / found["c"]) == pytest.approx(sharpness * nats, abs=0.01)


def test_forms_of_a_cause_that_are_not_seen_speak_against_it_by_so_much_together():
    forms = tuple(
        EvidenceKind(f"form-{n}", f"g{n}", "?", ("kafka",), {"a": "*"}, seen_anyway=USUAL)
        for n in range(6)
    )
    catalogue = Catalogue((Cause("a", "A", ""), Cause("b", "B", ""), *FALLBACK), forms)

    def odds(unseen_forms: int, sharpness: float = 1.0) -> float:
        checks = [
            unseen(form.id) if n < unseen_forms else blind(form.id) for n, form in enumerate(forms)
        ]
        tuning = ranking.Tuning(sharpness=dict.fromkeys(ranking.SHARPNESS, sharpness))
        found = ranking.rank(
            checks, catalogue, ratings={}, onset=ONSET, step_seconds=STEP, tuning=tuning
        )
        one = probabilities(found)
        return math.log(one["a"] / one["b"])

    one_form = math.log((1 - LEVELS["*"]) / (1 - USUAL))
    assert odds(1) == pytest.approx(one_form)
    assert odds(3) == pytest.approx(3 * one_form)
    assert odds(6) == pytest.approx(-ranking.FORMS_CAP_NATS)
    assert 6 * one_form < -ranking.FORMS_CAP_NATS


def test_swapping_the_evidence_of_two_causes_swaps_their_ranks():
    causes = (Cause("a", "A", ""), Cause("b", "B", ""), *FALLBACK)
    kinds = (
        EvidenceKind("sees_a", "g1", "A?", ("kafka",), {"a": "++", "b": "-"}),
        EvidenceKind("sees_b", "g2", "B?", ("kafka",), {"b": "++", "a": "-"}),
    )
    tiny = Catalogue(causes, kinds)

    def order(first: str, second: str) -> list[str]:
        found = ranking.rank(
            [seen(first), unseen(second)], tiny, ratings={}, onset=ONSET, step_seconds=STEP
        )
        return [cause.cause for cause in found.causes]

    one, other = order("sees_a", "sees_b"), order("sees_b", "sees_a")
    assert one[0] == "a"
    swapped = {"a": "b", "b": "a"}
    assert [swapped.get(name, name) for name in one] == other


# -- time


def test_evidence_long_after_the_onset_keeps_a_quarter_of_its_weight():
    found = rank(seen("containers_failing", after=600))
    early = rank(seen("containers_failing", after=0))
    late_line = entry(found, "consumer_down").evidence_for[0].weight
    assert late_line == pytest.approx(
        ranking.LATE_FACTOR * entry(early, "consumer_down").evidence_for[0].weight, abs=1e-3
    )


def test_late_evidence_grounds_nothing():
    found = rank(
        seen("containers_failing", after=600),
        seen("pods_unavailable", after=600),
        seen("members_missing", after=600),
        seen("startup_failures", after=600),
    )
    assert entry(found, "consumer_down").probability <= ranking.UNGROUNDED_CAP
    assert found.top.cause == "unknown"


@pytest.mark.parametrize(("after", "late"), [(-500, False), (0, False), (119, False), (121, True)])
def test_late_begins_after_the_onsets_end_plus_delay_plus_two_steps(after, late):
    # 30 s onset interval, 60 s delay of the kind, 2 x 15 s
    found = rank(seen("containers_failing", after=after))
    full = math.log(LEVELS["*"] / USUAL)
    weight = entry(found, "consumer_down").evidence_for[0].weight
    assert (weight < full / 2) == late


def test_what_began_after_a_lag_that_is_accounted_for_did_not_begin_it():
    spike = [seen("production_spike"), seen("production_multiplied")]
    cut = ["transport_errors", "sessions_lost_by_all", "members_missing", "cut_off_while_running"]
    # in time for the errors of clients, which time out, and too late for a first cause
    after = 30.0 + 2 * STEP + 1.0
    assert not entry(rank(*(seen(kind, after=after) for kind in cut)), "network").rank > 1
    both = rank(*spike, *(seen(kind, after=after) for kind in cut))
    assert (both.top.cause, entry(both, "network").role) == ("message_spike", "contributing")
    together = rank(*spike, *(seen(kind) for kind in cut))
    assert together.top.cause == "network"


def test_without_an_onset_nothing_is_late():
    found = rank(seen("containers_failing", after=9000), onset=None)
    assert entry(found, "consumer_down").evidence_for[0].weight > 1.5


def test_one_finding_in_time_is_enough_for_its_kind():
    early, late = seen("containers_failing"), seen("containers_failing", after=900)
    both = Check("containers_failing", "present", (*late.findings, *early.findings))
    assert probabilities(rank(both)) == probabilities(rank(early))


# -- the gate and the fallback causes


def test_nothing_checked_leaves_unknown_first_and_every_cause_unchecked():
    found = rank()
    assert found.top.cause == "unknown"
    assert found.confidence == "low"
    assert found.evidence_checked == 0
    assert found.next_check
    statuses = {cause.cause: cause.status for cause in found.causes}
    assert {statuses[cause.id] for cause in CORE} == {"not_checked"}


def test_evidence_against_everything_leaves_unknown_or_none_first():
    found = rank(*(unseen(kind.id) for kind in EVIDENCE))
    assert found.top.cause in ("unknown", "none")
    assert {entry(found, cause.id).status for cause in CORE} == {"invalidated"}


def test_weak_evidence_names_no_cause():
    found = rank(
        seen("consumption_slowed"), seen("rollout_before_onset"), seen("one_member_behind")
    )
    assert found.top.cause == "unknown"


def test_one_decisive_observation_in_time_grounds_its_cause():
    found = rank(seen("containers_failing"), seen("members_missing"))
    assert found.top.cause == "consumer_down"
    assert found.top.status == "validated"


def test_what_the_gate_cuts_off_goes_to_unknown():
    grounded = rank(seen("containers_failing"), seen("members_missing"))
    late = rank(seen("containers_failing", after=900), seen("members_missing", after=900))
    assert probabilities(late)["unknown"] > probabilities(grounded)["unknown"]


# -- deleting evidence


@pytest.mark.parametrize("kind", incidents.CAUSES)
def test_deleting_what_points_to_the_first_cause_never_makes_it_more_probable(kind):
    checks = list(incidents.investigated(kind).verdict.checks)
    top = incidents.CAUSES[kind]
    onset = incidents.investigated(kind).verdict.onset
    options = {
        "ratings": incidents.make("calm").runbook.priors,
        "onset": onset,
        "step_seconds": STEP,
    }
    before = probabilities(ranking.rank(checks, CATALOGUE, **options))[top]
    for number, check in enumerate(checks):
        if check.outcome == "present" and CATALOGUE.kind(check.kind).points(top):
            less = [*checks]
            less[number] = blind(check.kind)
            after = ranking.rank(less, CATALOGUE, **options)
            # the same evidence may have grounded a rival, whose loss gives a little back
            assert probabilities(after)[top] <= before + 0.005, check.kind


@pytest.mark.parametrize("kind", incidents.CAUSES)
@pytest.mark.parametrize("seed", range(3))
def test_deleting_evidence_piece_by_piece_ends_at_the_prior_without_a_silent_flip(kind, seed):
    """Where the first cause changes to another one, a check that would tell is named."""
    result = incidents.investigated(kind)
    checks = list(result.verdict.checks)
    options = {
        "ratings": result.incident.runbook.priors,
        "onset": result.verdict.onset,
        "step_seconds": STEP,
    }
    top = ranking.rank(checks, CATALOGUE, **options).top.cause
    for number in np.random.default_rng(seed).permutation(len(checks)):
        checks[number] = blind(checks[number].kind)
        found = ranking.rank(checks, CATALOGUE, **options)
        if found.top.cause not in (top, "unknown"):
            assert found.next_check
            assert (
                found.confidence != "high"
                or found.top.not_checked
                or any(
                    CATALOGUE.kind(check.kind).points(top)
                    or CATALOGUE.kind(check.kind).level(top) == "--"
                    for check in checks
                    if check.outcome == "not_checked"
                )
            )
        if found.top.cause != "unknown":
            top = found.top.cause
    assert probabilities(found) == probabilities(rank(ratings=options["ratings"]))


# -- roles: the mechanism graph


def test_a_spike_that_kills_its_consumers_stays_the_primary_cause():
    found = rank(
        seen("production_spike"),
        seen("consumption_at_capacity"),
        seen("containers_failing", after=400),
        seen("pods_unavailable", after=400),
        seen("members_missing", after=420),
    )
    assert found.top.cause == "message_spike"
    assert entry(found, "consumer_down").role == "mechanism"


def test_slow_processing_that_ends_in_rebalances_stays_the_primary_cause():
    found = rank(
        seen("downstream_slow"),
        seen("consumption_slowed"),
        seen("downstream_complaints"),
        seen("membership_churn", after=330),
        seen("poll_interval_exceeded", after=300),
    )
    assert found.top.cause == "slow_processing"
    assert entry(found, "rebalancing").role == "mechanism"


def test_a_poison_record_that_crashes_its_consumer_stays_the_primary_cause():
    found = rank(
        seen("same_record_fails"),
        seen("partition_frozen"),
        seen("containers_failing"),
        seen("pods_unavailable"),
        seen("membership_churn", after=60),
    )
    assert found.top.cause == "poison_message"
    assert entry(found, "consumer_down").role == "mechanism"
    assert entry(found, "rebalancing").role == "mechanism"


def test_two_causes_that_do_not_set_each_other_off_are_primary_and_contributing():
    found = rank(
        seen("production_spike"),
        seen("production_multiplied"),
        seen("consumption_at_capacity"),
        seen("partition_frozen"),
        seen("same_record_fails"),
    )
    assert found.top.cause == "message_spike"
    assert entry(found, "poison_message").role == "contributing"


def test_a_cause_whose_only_evidence_the_primary_shows_anyway_has_no_role():
    found = rank(
        seen("slower_with_all_members"),
        seen("downstream_slow"),
        seen("consumption_slowed"),
        unseen("client_throttled"),
    )
    assert found.top.cause == "slow_processing"
    assert entry(found, "quota_throttled").role == "none"
    assert entry(found, "quota_throttled").status != "validated"


def test_what_the_primary_cause_shows_in_some_of_its_forms_makes_no_second_cause():
    """A broker that stops loses its clients' connections too: that is no broken network."""
    stopped = ["broker_degraded", "brokers_scraped_late", "brokers_answer_late", "heartbeat_lost"]
    found = rank(*(seen(kind) for kind in [*stopped, "transport_errors", "sessions_lost_by_all"]))
    assert found.top.cause == "broker_overload"
    assert entry(found, "network").role == "none"


def test_no_incident_has_no_contributing_causes():
    found = rank(
        seen("promise_kept", after=None),
        seen("backlog_draining", after=None),
        seen("production_spike"),
    )
    assert found.top.cause == "none"
    assert {cause.role for cause in found.causes} == {"none"}


def test_a_cause_explains_its_mechanism_but_not_what_was_there_before_it():
    """Containers that died well before the spike were not killed by it."""
    spike = seen("production_spike", after=0)
    after = rank(spike, seen("containers_failing", after=60))
    before = rank(spike, seen("containers_failing", after=-400))
    weight = {line.id: line.weight for line in entry(after, "message_spike").evidence_for}
    assert weight["containers_failing"] > 0
    assert "containers_failing" not in {
        line.id for line in entry(before, "message_spike").evidence_for
    }


# -- words


def test_every_line_names_a_finding_or_a_kind_and_a_sentence():
    found = rank(seen("containers_failing", number=3), unseen("partition_frozen"))
    lines = [
        line for cause in found.causes for line in (*cause.evidence_for, *cause.evidence_against)
    ]
    assert lines
    assert all(line.statement for line in lines)
    assert "(and 2 more)" in entry(found, "consumer_down").evidence_for[0].statement
    assert entry(found, "consumer_down").evidence_for[0].id == "containers_failing:0"


def test_evidence_is_listed_strongest_first():
    for cause in incidents.investigated("poison_crash").verdict.ranking:
        for lines in (cause.evidence_for, cause.evidence_against):
            assert [abs(x.weight) for x in lines] == sorted(
                (abs(x.weight) for x in lines), reverse=True
            )


def test_findings_carry_the_weights_they_were_given():
    found = rank(seen("containers_failing"))
    assert found.findings[0].weights["consumer_down"] == pytest.approx(1.61, abs=0.01)
    assert all(abs(nats) >= 0.15 for nats in found.findings[0].weights.values())


def test_findings_are_in_the_order_of_time_and_undated_ones_last():
    found = rank(
        seen("membership_churn", after=300),
        seen("containers_failing", after=5),
        seen("pods_unavailable", after=None),
    )
    assert [f.id for f in found.findings] == [
        "containers_failing",
        "membership_churn",
        "pods_unavailable",
    ]


def test_the_next_check_is_one_that_was_not_checked_and_would_separate():
    found = rank(seen("consumption_stopped"), seen("members_missing"))
    questions = {
        f"{k.question} {k.how_to_check}".strip()
        for k in EVIDENCE
        if k.id not in ("consumption_stopped", "members_missing")
    }
    assert found.next_check in questions


def test_nothing_left_to_check_has_no_next_check():
    assert rank(*(unseen(kind.id) for kind in EVIDENCE)).next_check == ""


def test_a_cause_says_what_was_not_checked_and_what_that_would_change():
    down = entry(rank(seen("consumption_stopped")), "consumer_down")
    assert any("kafka is not configured" in text for text in down.not_checked)
    assert any("speak for it" in text for text in down.would_change)
    slow = entry(rank(seen("consumption_stopped")), "slow_processing")
    assert any("speak against it" in text for text in slow.would_change)


@pytest.mark.parametrize(
    ("probability", "term"),
    [
        (0.0, "almost no chance"),
        (0.049, "almost no chance"),
        (0.05, "very unlikely"),
        (0.2, "unlikely"),
        (0.5, "roughly even"),
        (0.55, "likely"),
        (0.81, "very likely"),
        (0.95, "almost certain"),
        (1.0, "almost certain"),
    ],
)
def test_likelihood_words_follow_the_ladder(probability, term):
    assert ranking.likelihood_term(probability) == term


def test_confidence_is_about_what_was_looked_at_not_about_the_probability():
    few = rank(
        seen("containers_failing"),
        seen("members_missing"),
        seen("pods_unavailable"),
        seen("startup_failures"),
    )
    assert few.top.probability > 0.9
    assert few.confidence == "low"
    every = [seen(k.id) if k.points("consumer_down") else unseen(k.id) for k in EVIDENCE]
    assert rank(*every).confidence == "high"


def test_what_is_proven_does_not_hang_on_what_else_was_looked_at():
    found = rank(seen("records_deleted_unread"))
    assert (found.top.cause, found.confidence) == ("retention_loss", "moderate")
    assert rank(seen("containers_failing")).confidence == "low"


def test_confidence_is_not_high_when_nothing_discriminates():
    found = rank(
        seen("consumption_slowed"),
        *(unseen(kind.id) for kind in EVIDENCE if kind.id != "consumption_slowed"),
    )
    assert found.top.cause == "unknown"
    assert found.confidence == "moderate"

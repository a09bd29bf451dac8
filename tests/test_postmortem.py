"""A post-mortem's facts against truth that is worked out here, and its text against the facts."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import episodes
import incidents
import jsonschema
import numpy as np
import pandas as pd
import pytest
from replayed_queue import moment, offsets

import lagkit as lk
from lagkit import frames, postmortem, runbook, wording
from lagkit.errors import NothingThere, UsageError
from lagkit.postmortem import blameless, candidates, chain, edited, facts, pages, similar
from lagkit.postmortem import sentences as say
from lagkit.postmortem.attachments import attachments, figure_csv
from lagkit.postmortem.model import Candidate, Postmortem
from lagkit.postmortem.planned import Planned
from lagkit.render.postmortem_html import render_html
from lagkit.render.postmortem_markdown import render_sections
from lagkit.resources import resource_path

PROMISE = 60
ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "tests" / "data" / "incidents"


@functools.cache
def built(kind: str) -> postmortem.Account:
    """Return the post-mortem of ``incidents.make(kind)``; made once, for nobody can change it."""
    return postmortem.build(incidents.make(kind))


@pytest.fixture(scope="module")
def whole() -> postmortem.Account:
    return postmortem.build(episodes.first(), later=episodes.later(), zone="Europe/Paris")


@pytest.fixture(scope="module")
def early() -> postmortem.Account:
    return postmortem.build(episodes.first())


@pytest.fixture(scope="module")
def demo() -> postmortem.Account:
    return postmortem.build(lk.demo(), zone="Asia/Kolkata")


def markdown(account: postmortem.Account) -> str:
    made = sections(account)
    return edited.assemble(made, edited.merge(made, None), account.postmortem.incident.id)


def sections(account: postmortem.Account) -> tuple[edited.Made, ...]:
    figures = {figure.name: figure for figure in account.figures()}
    return render_sections(pages.sections(account.postmortem), figures)


# ── impact, recomputed from the raw offsets ─────────────────────────────────────────────────────


def truth() -> dict[str, float]:
    """Work every impact figure out anew, second by second, with nothing of lagkit's."""
    ends, reads = episodes.curves()
    lag = ends - reads
    seconds = np.arange(episodes.SECONDS + 1)
    ages = np.zeros_like(lag)
    for number in range(episodes.PARTITIONS):
        for second in seconds:
            if lag[number, second] > 1e-9:
                came = np.interp(reads[number, second], ends[number], seconds)
                ages[number, second] = second - came
    late = 0.0
    for number in range(episodes.PARTITIONS):
        for message in np.arange(0.5, ends[number, -1], 1.0):
            came = np.interp(message, ends[number], seconds)
            gone = seconds[np.searchsorted(reads[number], message)]
            late += gone - came > PROMISE
    total = lag.sum(axis=0)
    worst = ages.max(axis=0)
    broken = np.flatnonzero(worst > PROMISE)
    return {
        "area": float(((total[1:] + total[:-1]) / 2).sum()),
        "late": late,
        "peak_lag": float(total.max()),
        "peak_lag_at": float(total.argmax()),
        "peak_age": float(worst.max()),
        "breach": float(broken[0]),
        "recovered": float(broken[-1] + 1),
        "minutes": len(broken) / 60,
    }


def test_every_impact_figure_is_what_the_raw_offsets_come_to(whole):
    impact, known = whole.postmortem.impact, truth()
    step = episodes.STEP
    assert impact.delay_message_seconds == pytest.approx(known["area"], rel=0.002)
    assert impact.messages_delayed == pytest.approx(known["late"], rel=0.01)
    assert impact.peak_lag_messages == pytest.approx(known["peak_lag"], rel=0.002)
    assert impact.peak_age_seconds == pytest.approx(known["peak_age"], abs=step)
    assert impact.max_delay_seconds == impact.peak_age_seconds
    assert impact.promise_minutes_broken == pytest.approx(known["minutes"], abs=2 * step / 60)
    assert abs((pd.Timestamp(impact.peak_lag_at) - moment(known["peak_lag_at"])).seconds) <= step
    assert (impact.loss, impact.messages_lost) == ("proved_none", 0)
    assert impact.unread_at_end == pytest.approx(0, abs=episodes.PARTITIONS)
    assert not impact.delays_are_at_least


def test_the_waits_from_onset_to_recovery_are_those_of_the_queue(whole):
    impact = whole.postmortem.impact
    ends, reads = episodes.curves()
    begin = (pd.Timestamp(impact.counted_from) - moment(0)).total_seconds()
    stop = (pd.Timestamp(impact.counted_until) - moment(0)).total_seconds()
    seconds = np.arange(episodes.SECONDS + 1, dtype="float64")
    waits = []
    for number in range(episodes.PARTITIONS):
        first, last = (
            np.interp([begin, stop], seconds, reads[number])[0],
            np.interp(stop, seconds, ends[number]),
        )
        for message in np.arange(first + 0.5, last, 1.0):
            came = max(begin, np.interp(message, ends[number], seconds))
            gone = min(stop, np.interp(message, reads[number], seconds))
            waits.append(max(0.0, gone - came))
    assert impact.messages_waiting == pytest.approx(len(waits), rel=0.01)
    assert impact.mean_delay_seconds == pytest.approx(np.mean(waits), rel=0.02)
    assert impact.p95_delay_seconds == pytest.approx(np.quantile(waits, 0.95), rel=0.02)


def test_stamps_and_intervals_are_those_of_the_episode(whole):
    made, known, step = whole.postmortem, truth(), episodes.STEP

    def second(name: str) -> float:
        return (pd.Timestamp(made.stamp(name).at) - moment(0)).total_seconds()

    assert second("onset") == pytest.approx(episodes.OUTAGE, abs=2 * step)
    assert second("breach") == pytest.approx(known["breach"], abs=step)
    assert second("mitigation") == pytest.approx(episodes.MENDED, abs=step)
    assert second("recovery") == pytest.approx(known["recovered"], abs=step)
    assert (second("expression"), second("alert")) == (1320, 1500)
    assert made.interval("TTD").seconds == pytest.approx(1500 - second("onset"))
    assert made.interval("for-wait").seconds == 180
    assert made.interval("TTA").seconds is None
    assert made.state in ("recovered", "healthy")


def test_each_stamp_says_what_it_is_and_how_far_it_may_be_off(whole, early):
    for made in (whole.postmortem, early.postmortem):
        for stamp in made.stamps:
            assert stamp.definition
            if stamp.at is None:
                assert stamp.why
            else:
                assert stamp.source
                assert stamp.query
                assert stamp.uncertainty_seconds is not None or (stamp.earliest and stamp.latest)


# ── two captures as one ─────────────────────────────────────────────────────────────────────────


def test_two_overlapping_captures_count_as_one_that_saw_it_all(whole):
    """Sampled in one capture from start to end, every figure is the same: nothing counts twice."""
    one = replace(
        incidents.with_tables(episodes.first(), offsets=episodes.history(0, episodes.SECONDS)),
        end=moment(episodes.SECONDS),
        captured_at=moment(episodes.SECONDS + 4),
    )
    alone = postmortem.build(one).postmortem.impact
    both = whole.postmortem.impact
    for name in ("delay_message_seconds", "messages_delayed", "peak_lag_messages", "messages_lost"):
        assert getattr(both, name) == pytest.approx(getattr(alone, name), rel=1e-9), name
    assert whole.postmortem.completeness.samples_seen == len(
        one.offsets["timestamp"].drop_duplicates()
    )


def test_how_two_captures_were_joined_is_told(whole):
    joining = whole.postmortem.joining
    assert joining is not None
    came = episodes.PARTITIONS * (episodes.SECONDS - episodes.FIRST_END) // episodes.STEP
    both = episodes.PARTITIONS * ((episodes.FIRST_END - episodes.LATER_START) // episodes.STEP + 1)
    assert joining.rows_taken["offsets"] == came
    assert joining.rows_left_out["offsets"] == both
    assert joining.from_first_until == moment(episodes.FIRST_END)
    assert joining.unseen_seconds == 0
    assert "Two captures as one window" in markdown(whole)


def test_queries_of_both_captures_are_told_apart(whole):
    ids = [query.id for query in whole.postmortem.queries]
    assert len(ids) == len(set(ids))
    named = {name for row in whole.postmortem.timeline for name in row.query.split(", ") if name}
    assert {name for name in named if name.endswith(".later")} <= set(ids)


def test_the_cause_is_that_of_the_capture_that_saw_it(whole, early):
    assert whole.postmortem.chain.cause == early.postmortem.chain.cause == "slow_processing"
    assert whole.postmortem.chain.judged_on == episodes.first().id


def test_an_hour_between_two_captures_is_named_and_bridged():
    gap = episodes.history(3000, episodes.SECONDS)
    after = replace(
        incidents.with_tables(episodes.later(), offsets=gap), start=moment(3000), id="late"
    )
    made = postmortem.build(episodes.first(), later=after).postmortem
    assert made.joining is not None
    assert made.joining.unseen_seconds == 3000 - episodes.FIRST_END
    assert made.completeness.unseen_seconds == 3000 - episodes.FIRST_END
    assert "bridged" in made.impact.cannot_tell


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (replace(episodes.later(), group="billing"), "is a capture of group 'billing'"),
        (replace(episodes.later(), cluster="elsewhere"), "comes from cluster 'elsewhere'"),
        (replace(episodes.later(), end=moment(1700)), "it adds nothing"),
    ],
)
def test_what_is_no_later_capture_of_the_group_is_refused(other, says):
    with pytest.raises(UsageError, match=says):
        postmortem.build(episodes.first(), later=other)


# ── detection ───────────────────────────────────────────────────────────────────────────────────


def test_detection_is_split_into_gap_and_wait(whole):
    seen = whole.postmortem.detection
    assert seen.alert == "LagGrowing"
    assert seen.for_seconds == 180
    assert seen.gap_seconds + seen.for_seconds == pytest.approx(seen.ttd_seconds)


def test_rules_run_over_the_data_fire_when_their_condition_has_held(whole):
    rules = {rule.rule: rule for rule in whole.postmortem.detection.replayed}
    level = runbook.load().thresholds.lag_messages
    ends, reads = episodes.curves()
    above = np.flatnonzero((ends - reads).sum(axis=0) > level)[0]
    simple = rules["DeploymentWorkerLagging"]
    assert simple.outcome == "fires"
    fired = (pd.Timestamp(simple.fires_at) - moment(0)).total_seconds()
    assert above <= fired <= above + episodes.STEP
    growing = rules["LagGrowing"]
    held = pd.Timestamp(growing.fires_at) - pd.Timestamp(growing.true_at)
    assert held.total_seconds() == growing.for_seconds
    assert growing.seen_in_alerts
    assert rules["LagMetricsMissing"].outcome == "silent"
    assert rules["OffsetRewound"].outcome == "silent"
    assert rules["GroupEmptyWithBacklog"].outcome == "silent"


def test_the_rule_that_would_have_told_first_is_an_item_where_no_alert_did():
    silent = incidents.with_tables(episodes.first(), alerts=frames.empty("alerts"))
    after = incidents.with_tables(episodes.later(), alerts=frames.empty("alerts"))
    made = postmortem.build(silent, later=after).postmortem
    assert made.detection.alert == ""
    assert made.detection.earliest_rule == "LagGrowing"
    item = next(one for one in made.candidates if one.id == "alert-sooner")
    assert (item.type, item.priority) == ("detect", "P1")
    assert "No alert told of it" in " ".join(say.summary(made))


def test_a_stalled_partition_and_an_empty_group_are_seen_by_their_rules():
    poison = built("poison_retry").postmortem
    down = built("down").postmortem
    outcome = {rule.rule: rule.outcome for rule in poison.detection.replayed}
    assert outcome["PartitionStalled"] in ("fires", "cannot_tell")
    assert outcome["PartitionStalled"] != "silent"
    assert (
        next(
            rule for rule in down.detection.replayed if rule.rule == "GroupEmptyWithBacklog"
        ).outcome
        == "fires"
    )


def test_an_alert_that_fired_before_the_onset_detected_nothing():
    old = incidents.with_tables(episodes.first(), alerts=episodes.alerts((0, 30, 1800)))
    made = postmortem.build(old).postmortem
    assert made.detection.alert == ""
    assert made.stamp("alert").why == "only alerts that had fired before the onset were firing"


def test_without_prometheus_no_alert_is_not_no_alert():
    made = postmortem.build(incidents.without(incidents.make("slow"), "prometheus")).postmortem
    assert "Prometheus could not be read" in made.stamp("alert").why


# ── timeline and chain ──────────────────────────────────────────────────────────────────────────


def test_the_timeline_runs_forward_from_before_the_onset(whole):
    rows = whole.postmortem.timeline
    moments = [pd.Timestamp(row.at) for row in rows]
    assert moments == sorted(moments)
    assert moments[0] < pd.Timestamp(whole.postmortem.stamp("onset").earliest)
    kinds = {row.kind for row in rows}
    assert {"data begin", "onset", "promise", "alert", "mitigation", "recovery"} <= kinds


@pytest.mark.parametrize("kind", ["down", "storm", "rewind", "spike_oom"])
def test_every_row_has_a_source_and_an_accuracy(kind):
    made = built(kind).postmortem
    known = {query.id for query in made.queries}
    for row in made.timeline:
        assert row.source, row
        assert row.confidence, row
        assert row.uncertainty_seconds is not None, row
        ids = [name.strip(" …") for name in row.query.split(",") if name.strip(" …")]
        assert set(ids) <= known, row
    wanted = {"down": "restart", "storm": "rebalance", "rewind": "offsets"}
    if kind in wanted:
        assert wanted[kind] in {row.kind for row in made.timeline}


def test_a_change_shortly_before_the_onset_is_a_possible_trigger():
    incident = incidents.added(
        incidents.make("down"),
        "rollouts",
        {"timestamp": moment(incidents.FAULT - 20), "replica_set": "api-new", "revision": 14},
    )
    made = postmortem.build(incident).postmortem
    assert [change.kind for change in made.chain.triggers][:1] == ["deploy"]
    assert 0 <= made.chain.triggers[0].before_onset_seconds < 120


def test_no_change_seen_is_told_from_none_looked_for():
    blind = postmortem.build(incidents.without(incidents.make("slow"), "kubernetes"))
    assert "Not checked: Kubernetes could not be read" in markdown(blind)


# ── facts and candidates ────────────────────────────────────────────────────────────────────────


def test_what_went_well_is_computed_and_not_praised(whole, early):
    well = {fact.id: fact for fact in whole.postmortem.went_well}
    assert well["no_loss"].outcome == "holds"
    assert well["recovery_held"].outcome == "holds"
    assert well["told_before_breach"].outcome == "does_not_hold"
    assert well["others_kept"].outcome == "does_not_hold"
    early_well = {fact.id: fact for fact in early.postmortem.went_well}
    assert early_well["recovery_held"].outcome == "cannot_tell"


def test_a_narrow_margin_to_retention_is_a_near_miss_and_an_item():
    close = incidents.edited(
        episodes.first(),
        "configs",
        lambda table: (table["key"] == "retention.ms") & (table["resource"] == "topic"),
        value="700000",
    )
    made = postmortem.build(close).postmortem
    margin = next(fact for fact in made.got_lucky if fact.id == "retention_margin")
    assert margin.outcome == "holds"
    assert margin.numbers["margin_seconds"] == pytest.approx(700 - made.impact.peak_age_seconds)
    assert "retention-margin" in {item.id for item in made.candidates}


def test_the_weekly_peak_says_what_is_missing_for_it(early):
    fact = next(one for one in early.postmortem.got_lucky if one.id == "weekly_peak")
    assert fact.outcome == "cannot_tell"
    assert "a weekly peak needs a week of history" in say.fact_text(fact)[1]


def test_the_same_outage_at_the_weekly_peak_is_replayed_where_there_is_a_week():
    """Twice as much comes in at the peak hour; the outage reads nothing for half an hour.

    Then 4 messages/s are handled: at the peak the group gains 2/s, and the age at the end of the
    outage, half an hour, is the greatest.
    """
    step, week = 300, 8 * 86400
    seconds = np.arange(0, week + 1, step)
    rate = np.where((seconds // 3600) % 24 == 12, 2.0, 1.0)
    end = np.concatenate(([0.0], np.cumsum(rate[1:] * step)))
    outage = week - 4 * 3600
    able = np.where((seconds >= outage) & (seconds < outage + 1800), 0.0, 4.0) * step
    read = np.zeros_like(end)
    for index in range(1, len(end)):
        read[index] = min(end[index], read[index - 1] + able[index - 1])
    nothing = {name: frames.empty(name) for name in frames.FRAMES}
    rows = offsets(seconds, {0: {"end": end, "committed": read}})
    incident = replace(
        incidents.with_tables(
            incidents.make("calm"), **{**nothing, "offsets": frames.normalise("offsets", rows)}
        ),
        start=moment(0),
        end=moment(week),
        captured_at=moment(week + 5),
    )
    account = postmortem.build(incident)
    fact = next(one for one in account.postmortem.got_lucky if one.id == "weekly_peak")
    assert fact.outcome == "holds"
    assert fact.numbers["peak_rate_per_second"] == pytest.approx(2.0, rel=0.01)
    assert fact.numbers["factor"] == pytest.approx(2.0, rel=0.05)
    assert fact.numbers["would_be_backlog_messages"] == pytest.approx(3600, rel=0.1)
    assert fact.numbers["would_be_age_seconds"] == pytest.approx(1800, abs=step)


def test_every_candidate_is_typed_bounded_and_tied_to_evidence():
    for kind in ("down", "poison_retry", "spike", "storm"):
        made = built(kind).postmortem
        findings = {finding.id for finding in incidents.investigated(kind).verdict.findings}
        for item in made.candidates:
            assert item.type in ("detect", "mitigate", "prevent", "process")
            assert item.done_when
            assert item.priority_because
            tied = item.evidence.partition(":")[0] in ("rule", "fact", "suspicion", "coverage")
            assert tied or item.evidence in findings, item


def test_every_cause_of_the_catalogue_has_a_suggestion_that_its_evidence_can_bring():
    from lagkit.causes import catalogue
    from lagkit.postmortem.template import template

    known = catalogue()
    kinds = {kind.id for kind in known.evidence}
    suggested = {one.cause for one in template().candidates}
    assert {cause.id for cause in known.causes} - {"unknown", "none"} <= suggested
    assert {kind for one in template().candidates for kind in one.evidence} <= kinds


def test_items_of_a_capacity_report_come_in_where_it_was_bound_by_capacity():
    item = Candidate(
        "capacity-partitions", "prevent", "Add partitions", "six more", "capacity", "x", "P1", "y"
    )
    of_another = replace(item, id="capacity-billing")
    report = Planned(b"", {incidents.make("spike").group: (item,), "billing": (of_another,)})
    spike = postmortem.build(incidents.make("spike"), capacity=report).postmortem
    slow = postmortem.build(incidents.make("calm"), capacity=report).postmortem
    assert of_another not in spike.candidates
    assert (spike.chain.capacity_bound, slow.chain.capacity_bound) == (True, False)
    assert item in spike.candidates
    assert item not in slow.candidates


# ── similar ─────────────────────────────────────────────────────────────────────────────────────


def signature_of(kind: str, seed: int = 0) -> similar.Signature:
    return similar.signature(incidents.investigated(kind, seed), f"{kind}.{seed}")


def test_an_incident_is_most_like_one_of_its_own_kind():
    kinds = ("slow", "down", "spike")
    known = [signature_of(kind) for kind in kinds]
    for kind in kinds:
        own = signature_of(kind, 1)
        nearest = max(known, key=lambda one, own=own: sum(similar.likeness(own, one)))
        assert nearest.cause == own.cause


def test_likeness_is_symmetric_and_one_with_itself():
    one, other = signature_of("slow"), signature_of("network")
    assert similar.likeness(one, other) == similar.likeness(other, one)
    assert similar.likeness(one, one) == pytest.approx((1, 1))


def test_only_earlier_incidents_are_compared():
    own = signature_of("slow", 1)
    before = dataclasses.replace(own, id="before", start="2026-11-01T00:00:00+00:00")
    after = dataclasses.replace(own, id="after", start="2027-01-01T00:00:00+00:00")
    known = similar.Signatures(4, (own, before, after), ("broken.lagkit",))
    found = similar.nearest(own, known, [own.id])
    assert [one.id for one in found.nearest] == ["before"]
    assert (found.compared, found.not_earlier, found.unreadable) == (1, 1, ("broken.lagkit",))


def test_a_folder_of_incident_files_is_read_and_what_is_none_is_named(tmp_path):
    incidents.make("slow").save(tmp_path / "a.lagkit")
    (tmp_path / "b.lagkit").write_text("no incident")
    found = similar.read_folder(tmp_path)
    assert [one.cause for one in found.signatures] == ["slow_processing"]
    assert found.unreadable == ("b.lagkit",)
    (tmp_path / "similar.json").write_text(found.to_json())
    assert similar.read_signatures(tmp_path / "similar.json") == found
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingThere, match="holds no incident file"):
        similar.read_folder(tmp_path / "empty")
    (tmp_path / "similar.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no signatures"):
        similar.read_signatures(tmp_path / "similar.json")


# ── the text ────────────────────────────────────────────────────────────────────────────────────

DURATION = r"-?\d+d \d\dh|-?\d+h \d\dm|-?[\d,.]+(?:s|m)\b"
CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?Z?|\d\d:\d\d(?::\d\d)?Z?|\d{4}-\d\d-\d\d"
NUMBER = re.compile(rf"{CLOCK}|{DURATION}|[<>]?\d+(?:,\d{{3}})*(?:\.\d+)?(?: %)?")
CODE = re.compile(r"(`+)(?:.(?!\1))*?.?\1|<!--.*?-->")
DEFINITIONS = {
    "95": "the percentile that was asked for",
    "95 %": "width of the interval of a change point",
    "30": "days of the budget",
    "15": "minutes in which a change may be a trigger",
    "0": "lower end of likeness",
    "1": "upper end of likeness",
}
"""Numbers of definitions, not of this incident."""


def numbers_in(text: str) -> list[str]:
    """Return every number of the prose: code spans and marks are names and queries."""
    return NUMBER.findall(CODE.sub(" ", text).replace("\\", ""))


def numbers_of(made: Postmortem) -> set[str]:
    """Return every way in which a number or time of ``postmortem.json`` may be written."""
    document = json.loads(made.to_json())
    known: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            known.add(str(len(value)))  # how many there are of something
            for item in value:
                walk(item)
        elif isinstance(value, bool) or value is None:
            return
        elif isinstance(value, int | float):
            for sign in (1, -1):
                for form in (wording.count, wording.number, wording.duration, wording.percent):
                    known.add(form(sign * float(value)))
                known.add(wording.duration(sign * float(value) * 60))
        elif re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", value):
            at = datetime.fromisoformat(value)
            shown = {
                wording.clock(at),
                wording.clock(at, seconds=True),
                wording.clock(at, near=at, seconds=True),
                wording.clock(at, near=at),
                say.local(at, made.zone),
                f"{at:%Y-%m-%d}",
            }
            known.update(shown, *(NUMBER.findall(text) for text in shown))
        else:
            known.update(NUMBER.findall(value))

    walk(document)
    for value in (document["joining"] or {}).get("rows_left_out", {}).values():
        known.add(str(value))
    if document["joining"]:
        known.add(wording.count(sum(document["joining"]["rows_left_out"].values())))
    return known


def strangers(text: str, made: Postmortem) -> list[str]:
    known = numbers_of(made) | set(DEFINITIONS)
    return [token for token in numbers_in(text) if token not in known]


def accuracies(made: Postmortem) -> set[str]:
    return {say.accuracy(one.uncertainty_seconds).lstrip("±") for one in made.intervals}


def in_figures(account: postmortem.Account) -> set[str]:
    """Return the numbers of the figures' own words, which ``test_charts`` checks."""
    return {token for figure in account.figures() for token in numbers_in(figure.alt)}


@pytest.mark.parametrize("name", ["whole", "early", "demo"])
def test_every_number_in_the_prose_is_in_the_data(name, request):
    account = request.getfixturevalue(name)
    text = markdown(account)
    made = account.postmortem
    found = set(strangers(text, made)) - in_figures(account) - accuracies(made)
    counted = (
        {f"{sum(account.postmortem.joining.rows_left_out.values())}"} if made.joining else set()
    )
    assert found - counted == set()
    assert len(numbers_in(text)) > 100


def test_a_number_that_is_made_up_is_found(demo):
    text = markdown(demo)
    assert "1,071 messages waited" in text
    spoilt = text.replace("1,071 messages waited", "1,072 messages waited")
    assert "1,072" in strangers(spoilt, demo.postmortem)


@pytest.mark.parametrize(
    "kind",
    ["calm", "down", "spike", "poison_retry", "storm", "rewind", "spike_oom"],
)
def test_the_generated_text_blames_nobody(kind):
    text = markdown(built(kind))
    assert [str(fault) for fault in blameless.faults(text)] == []


@pytest.mark.parametrize(
    "path", sorted(RECORDED.glob("*.redpanda.lagkit"))[1:3], ids=lambda path: path.stem
)
def test_the_text_of_recorded_incidents_blames_nobody_and_has_only_numbers_of_the_data(path):
    account = postmortem.build(lk.open(path))
    text = markdown(account)
    assert [str(fault) for fault in blameless.faults(text)] == []
    made = account.postmortem
    assert set(strangers(text, made)) - in_figures(account) - accuracies(made) == set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The engineer forgot the limit.", "forgot"),
        ("It was a human error.", "human error"),
        ("They should have looked.", "should have"),
        ("The change just broke it.", "just"),
        ("The root cause is the pod.", "root cause"),
        ("Asked @alice about it.", "@alice"),
        ("Mail to alice@example.com.", "alice@example.com"),
        ("He restarted it.", "He"),
    ],
)
def test_the_linter_finds_blame(text, words):
    assert [fault.words for fault in blameless.faults(f"fine\n{text}")] == [words]
    assert blameless.faults(f"fine\n{text}")[0].line == 2


@pytest.mark.parametrize(
    "text",
    ["It was adjusted.", "`worker failed to connect`", "```\nfailed to\n```", "The pod restarted."],
)
def test_the_linter_leaves_quotes_and_other_words_alone(text):
    assert blameless.faults(text) == ()


def test_change_causes_are_left_out_for_they_name_people():
    incident = incidents.edited(
        incidents.make("slow"), "rollouts", change_cause="kubectl apply by alice"
    )
    account = postmortem.build(incident)
    assert "alice" not in markdown(account) + account.postmortem.to_json()


def test_what_people_have_to_say_is_visibly_blank(demo):
    text = markdown(demo)
    for name in ("owner", "customers", "revenue", "reasoning", "lessons", "declined"):
        marks = rf"<!-- lagkit:yours {name} .*?<!-- lagkit:end {name} -->"
        part = re.search(marks, text, re.DOTALL)
        assert part is not None
        assert "_to be written_" in part[0]
        assert "?" in part[0]
    assert "> **Status:** Draft" in text
    assert text.count("Owner: _unassigned_") == len(demo.postmortem.candidates)


def test_local_time_stands_beside_utc(demo):
    text = markdown(demo)
    assert "2026-11-23 21:57:43Z (2026-11-24 03:27:43 Asia/Kolkata)" in text
    assert "| UTC | Asia/Kolkata |" in text


def test_a_table_has_no_more_than_eight_columns(whole):
    for section in pages.sections(whole.postmortem):
        for block in section.blocks:
            assert len(getattr(block, "columns", ())) <= 8


def test_an_incident_without_history_says_what_cannot_be_computed():
    blind = incidents.without(incidents.make("slow"), "prometheus", "kafka")
    account = postmortem.build(blind)
    impact = account.postmortem.impact
    for name in ("messages_delayed", "delay_message_seconds", "peak_lag_messages"):
        assert getattr(impact, name) is None
        assert impact.cannot_tell[name] == "there is no offset history in the window"
    assert impact.loss == "cannot_tell"
    text = markdown(account)
    assert "How many messages were late cannot be computed" in text
    assert "cannot tell: there is no offset history" in text
    assert set(strangers(text, account.postmortem)) - in_figures(account) == set()


def test_lags_without_offsets_are_told_apart_from_no_history():
    lags = episodes.history(0, 1800)
    lags = lags.assign(
        lag_messages=lags["log_end_offset"] - lags["committed_offset"],
        committed_offset=np.nan,
        log_end_offset=np.nan,
    )
    made = postmortem.build(
        incidents.with_tables(episodes.first(), offsets=frames.normalise("offsets", lags))
    ).postmortem
    assert made.impact.peak_lag_messages is not None
    assert made.impact.cannot_tell["messages_delayed"] == (
        "the history has lags but no offsets to date messages by"
    )


def test_an_incident_that_is_none_is_said_to_be_none():
    account = built("calm")
    assert account.postmortem.chain.cause == "none"
    assert "By the evidence this was no incident" in repr(account)


HOSTILE = "x</script><img src=x onerror=alert(1)>`|](http://evil) @team\u202e\x1b[31m"


def test_names_from_outside_stay_text():
    incident = incidents.renamed(
        incidents.make("slow"), {incidents.TOPIC: HOSTILE, incidents.GROUP: HOSTILE}
    )
    account = postmortem.build(incident)
    text = markdown(account)
    assert "\x1b" not in text
    assert "\u202e" not in text
    outside = re.sub(r"(`+)(?:.(?!\1))*?.?\1", "", text)
    assert "<img" not in outside.replace("\\<img", "")
    html = page(account)
    assert "<img" not in html
    assert "onerror=alert(1)>" not in html
    assert edited.touched(edited.parse(text, Path("x.md"))) is False


def page(account: postmortem.Account, source: str = "") -> str:
    made = sections(account)
    known = edited.parse(source, Path("x.md")) if source else None
    return render_html(
        account.postmortem,
        pages.sections(account.postmortem),
        account.figures(),
        edited.merge(made, known),
        interactive=False,
    )


def test_markdown_of_people_is_drawn_and_runs_nothing(demo):
    text = fill(
        markdown(demo),
        "customers",
        "**Three** shops [saw](https://x.example) it\n\n"
        "<script>alert(1)</script> ![p](https://evil.example/p.png) "
        "[bad](javascript:alert(1))",
    )
    html = page(demo, text)
    assert "<strong>Three</strong> shops" in html
    assert "<script>" not in html
    assert "<img" not in html
    assert 'href="javascript:' not in html


def test_the_page_asks_nothing_of_a_network(demo):
    html = page(demo)
    assert "default-src &#39;none&#39;" in html
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", html) == []


# ── merging ─────────────────────────────────────────────────────────────────────────────────────


def fill(text: str, name: str, words: str) -> str:
    """Write *words* into section *name*, as a person would."""
    found, times = re.subn(
        rf"(<!-- lagkit:\w+ {name} [^\n]*-->\n).*?(\n<!-- lagkit:end {name} -->)",
        lambda match: match[1] + words + match[2],
        text,
        flags=re.DOTALL,
    )
    assert times == 1
    return found


def merged(account: postmortem.Account, text: str) -> tuple[str, edited.Merged]:
    made = sections(account)
    result = edited.merge(made, edited.parse(text, Path("edited.md")))
    return edited.assemble(made, result, account.postmortem.incident.id), result


def test_an_untouched_file_merges_into_itself(demo):
    text = markdown(demo)
    again, result = merged(demo, text)
    assert again == text
    assert (result.conflicts, result.kept, result.people) == ((), (), {})


def test_what_an_editor_changes_on_its_own_is_no_edit(demo):
    text = markdown(demo).replace("\n", "\r\n").replace("Impact\r\n", "Impact  \r\n")
    assert not edited.touched(edited.parse(text, Path("x.md")))


def test_filled_blanks_come_through_new_data(early, whole):
    text = fill(markdown(early), "customers", "Two shops waited. No tickets.")
    text = fill(text, "status", "**Status:** In Review")
    again, result = merged(whole, text)
    assert "Two shops waited. No tickets." in again
    assert "**Status:** In Review" in again
    assert set(result.kept) == {"customers", "status"}
    assert result.conflicts == ()
    assert result.people["customers"] == "Two shops waited. No tickets."
    assert "within its promise again" in again  # facts are new


def test_an_edited_fact_is_kept_while_the_data_stay_and_is_a_conflict_when_they_change(
    early, whole
):
    text = fill(markdown(early), "summary", "## Summary\n\nIt was bad.")
    same, result = merged(early, text)
    assert "It was bad." in same
    assert (result.kept, result.conflicts) == (("summary",), ())
    new, result = merged(whole, text)
    assert result.conflicts == ("summary",)
    assert "It was bad." in new
    assert "within its promise again" in new
    assert "**Conflict:**" in new


def test_an_unsettled_conflict_stays_one_and_a_settled_one_is_an_edit(early, whole):
    new, _ = merged(whole, fill(markdown(early), "summary", "It was bad."))
    again, result = merged(whole, new)
    assert (again, result.conflicts) == (new, ("summary",))
    marks = r"<!-- lagkit:conflict summary -->.*?<!-- lagkit:end summary -->\n*"
    settled = re.sub(marks, "", new, flags=re.DOTALL)
    settled = fill(settled, "summary", "It was bad, and it is over.")
    text, result = merged(whole, settled)
    assert (result.kept, result.conflicts) == (("summary",), ())
    assert "It was bad, and it is over." in text


def test_text_outside_the_marks_is_kept_in_its_place(early, whole):
    text = markdown(early).replace(
        "<!-- lagkit:end impact -->", "<!-- lagkit:end impact -->\n\n## Our own section\n\nHello."
    )
    new, _ = merged(whole, text)
    assert (
        new.index("lagkit:end impact") < new.index("Hello.") < new.index("lagkit:yours customers")
    )
    again, _ = merged(whole, new)
    assert again == new


def test_a_decision_on_an_item_that_is_no_more_is_kept_at_the_end(early, whole):
    name = next(item.id for item in early.postmortem.candidates)
    text = fill(markdown(early), f"decision-{name}", "Declined: too dear.")
    gone = dataclasses.replace(whole, postmortem=replace(whole.postmortem, candidates=()))
    new, result = merged(gone, text)
    assert result.leftover == "Declined: too dear."
    assert new.rstrip().endswith("Declined: too dear.")
    again, _ = merged(gone, new)
    assert "Declined: too dear." in again


def test_a_deleted_section_is_back_and_named(demo):
    text = re.sub(
        r"<!-- lagkit:yours revenue .*?<!-- lagkit:end revenue -->\n*",
        "",
        markdown(demo),
        flags=re.DOTALL,
    )
    new, result = merged(demo, text)
    assert result.restored == ("revenue",)
    assert new == markdown(demo)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("<!-- lagkit:end impact -->", ""), "section impact has no end"),
        (lambda text: text + text, "is there twice"),
        (
            lambda text: text.replace("<!-- lagkit:end impact -->", "<!-- lagkit:end other -->"),
            "the end of other has no beginning",
        ),
        (lambda _text: "# My own notes", "none of the marks"),
        (lambda text: text.replace("facts impact data=", "facts impact dat="), "the mark says"),
    ],
)
def test_damaged_marks_are_refused_with_their_line(demo, change, says):
    with pytest.raises(UsageError, match=says):
        edited.parse(change(markdown(demo)), Path("edited.md"))


# ── data and files ──────────────────────────────────────────────────────────────────────────────


def test_the_published_schema_is_that_of_the_data(whole, demo):
    schema = postmortem.json_schema()
    published = json.loads(resource_path("templates/postmortem.schema.json").read_text("utf-8"))
    assert published == schema, "write templates/postmortem.schema.json anew"
    jsonschema.Draft202012Validator.check_schema(schema)
    for made in (whole.postmortem, demo.postmortem):
        document = json.loads(made.to_json())
        jsonschema.Draft202012Validator(schema).validate(document)
        assert next(iter(document)) == "schema"
        assert document["status"] == "Draft"


def test_a_document_without_an_impact_breaks_the_schema(demo):
    document = json.loads(demo.postmortem.to_json())
    del document["impact"]
    with pytest.raises(jsonschema.ValidationError, match="'impact' is a required property"):
        jsonschema.Draft202012Validator(postmortem.json_schema()).validate(document)


def test_same_captures_same_bytes(demo):
    again = postmortem.build(lk.demo(), zone="Asia/Kolkata")
    assert again.postmortem.to_json() == demo.postmortem.to_json()
    assert markdown(again) == markdown(demo)
    assert page(again) == page(demo)


def test_attachments_stand_alone_and_their_manifest_is_true(demo):
    files = {"postmortem.md": b"text", "incident.lagkit": b"capture"}
    content = attachments(demo.postmortem, demo.figures(), files)
    assert content == attachments(demo.postmortem, demo.figures(), files)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("manifest.json"))
        assert names == sorted(names)
        assert {one["name"] for one in manifest["files"]} == set(names) - {"manifest.json"}
        for one in manifest["files"]:
            body = archive.read(one["name"])
            assert (len(body), hashlib.sha256(body).hexdigest()) == (one["bytes"], one["sha256"])
            assert one["what"]
        assert len(manifest["queries"]) == len(demo.postmortem.queries)
        for name in ("timeline", "flow", "partitions", "cumulative", "assignment", "evidence"):
            assert archive.read(f"figures/{name}.svg").startswith(b"<svg ")
            assert archive.read(f"figures/{name}.csv").startswith(b"panel,trace,kind,")


def test_the_numbers_of_a_figure_are_in_its_csv(demo):
    rows = list(csv.DictReader(io.StringIO(figure_csv(demo.figure("timeline")).decode())))
    lag = [
        float(row["value"]) for row in rows if row["trace"] == "unread messages" and row["value"]
    ]
    assert max(lag) == demo.postmortem.impact.peak_lag_messages
    assert all(re.fullmatch(r"[\d-]+T[\d:.]+Z", row["time_utc"]) for row in rows if row["time_utc"])


def test_a_cell_is_no_formula_of_a_spreadsheet(demo):
    made = demo.postmortem
    spoilt = replace(made.queries[0], statement="=HYPERLINK(1)", detail="-3.5")
    content = attachments(replace(made, queries=(spoilt,)), (), {})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        table = archive.read("queries.csv").decode()
    assert "'=HYPERLINK(1)" in table
    assert ",-3.5\n" in table


def test_the_names_of_the_package_lead_where_they_say(early):
    assert chain.capacity_bound(early.judged) == (False, "Slow processing")
    assert facts.weekly_peak(early.whole, None).outcome == "cannot_tell"  # type: ignore[arg-type]
    assert len(early.postmortem.candidates) <= candidates.MOST_CANDIDATES
    for name in ("impact", "stamps", "timeline", "candidates", "causes", "similar", "queries"):
        assert early.table(name).name.startswith("postmortem-")
    with pytest.raises(ValueError, match="no table 'gremlins'"):
        early.table("gremlins")


def test_there_is_no_such_time_zone():
    with pytest.raises(UsageError, match="no time zone 'Mars/Olympus'"):
        postmortem.build(episodes.first(), zone="Mars/Olympus")

"""From an incident to a verdict: the right cause, for reasons, whatever is missing or renamed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import incidents
import numpy as np
import pandas as pd
import pytest

from lagkit import frames, runbook
from lagkit.causes import Extension, catalogue
from lagkit.evidence import EXACT
from lagkit.incident import Incident, open_incident
from lagkit.investigation import investigate
from lagkit.measurement import clean_history, measure
from lagkit.model import SourceReport

SOURCES = ("prometheus", "kafka", "kubernetes", "downstream")


def ranking(incident: Incident) -> list[tuple[str, float]]:
    return [(c.cause, round(c.probability, 9)) for c in investigate(incident).ranking]


def outcomes(incident: Incident) -> dict[str, str]:
    return {check.kind: check.outcome for check in investigate(incident).verdict.checks}


def nothing() -> Incident:
    """Return an incident in which no source saw anything."""
    return incidents.without(incidents.make("calm"), *SOURCES)


# -- the right cause, for the right reasons


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", incidents.CAUSES)
def test_the_cause_that_was_built_in_is_named(kind, seed):
    verdict = incidents.investigated(kind, seed).verdict
    assert verdict.verdict.cause == incidents.CAUSES[kind]


REASONS = {
    "spike": {"production_spike"},
    "slow": {"downstream_slow", "downstream_complaints", "consumption_slowed"},
    "slow_poll": {"downstream_slow", "downstream_complaints", "poll_interval_exceeded"},
    "down": {"containers_failing", "members_missing", "startup_failures", "work_ended"},
    "scaled_to_zero": {"pods_unavailable", "members_missing", "work_ended"},
    "poison_retry": {"partition_frozen", "same_record_fails", "stuck_at_failing_record"},
    "poison_crash": {"partition_frozen", "same_record_fails", "stuck_at_failing_record"},
    "network": {"transport_errors", "cut_off_while_running", "work_ended"},
    "storm": {"membership_churn", "churn_by_itself", "cut_off_while_running"},
    "spike_oom": {"production_spike", "killed_for_memory"},
    "broker": {"broker_degraded", "neighbours_lag_too"},
    "skew": {"production_skewed"},
    "rewind": {"committed_moved"},
    "slow_until_deleted": {"slower_with_all_members", "records_deleted_unread"},
    "hung_transaction": {"last_stable_offset_pinned"},
    "throttled": {"client_throttled"},
    "calm": {"promise_kept"},
    "burst": {"promise_kept", "over_in_time"},
    "drain": {"backlog_draining"},
}


@pytest.mark.parametrize("kind", incidents.KINDS)
def test_the_evidence_that_was_built_in_is_seen(kind):
    seen = {c.kind for c in incidents.investigated(kind).verdict.checks if c.outcome == "present"}
    assert REASONS[kind] <= seen


# What a bystander shows by itself, and so may be seen without being built in.
SIDE_EFFECTS = {
    "consumption_slowed",
    "consumption_stopped",
    "slower_with_all_members",
    "members_missing",
    "pods_unavailable",
    "consumption_at_capacity",
    "membership_churn",
    "partition_frozen",
    "one_member_behind",
    "containers_failing",
    "heartbeat_lost",
    "sessions_lost_by_all",
    "poll_interval_exceeded",
    "backlog_draining",
    "production_spike",
    "production_multiplied",
}


@pytest.mark.parametrize("kind", incidents.KINDS)
def test_evidence_that_was_not_built_in_is_not_seen(kind):
    seen = {c.kind for c in incidents.investigated(kind).verdict.checks if c.outcome == "present"}
    assert seen - REASONS[kind] <= SIDE_EFFECTS


@pytest.mark.parametrize("kind", [k for k in incidents.KINDS if k != "calm"])
def test_the_onset_is_where_the_fault_set_in(kind):
    onset = incidents.investigated(kind).verdict.onset
    assert onset is not None
    if kind == "drain":
        assert onset.at == incidents.START
    else:
        fault = incidents.moment(incidents.FAULT)
        assert abs(onset.at - fault) <= pd.Timedelta(2 * incidents.STEP, "s")
        assert onset.earliest <= fault <= onset.latest + pd.Timedelta(incidents.STEP, "s")


def test_a_backlog_that_is_gone_names_no_cause():
    verdict = incidents.investigated("drain").verdict
    assert verdict.state == "recovered"
    assert verdict.verdict.cause in ("none", "unknown")


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        ("spike_oom", {"message_spike": "primary", "consumer_down": "mechanism"}),
        ("slow_poll", {"slow_processing": "primary", "rebalancing": "mechanism"}),
        (
            "poison_crash",
            {"poison_message": "primary", "consumer_down": "mechanism", "rebalancing": "mechanism"},
        ),
        # that the group read less is seen, and nothing of what made it slow
        ("slow_until_deleted", {"retention_loss": "primary"}),
        ("slow", {"slow_processing": "primary"}),
        ("down", {"consumer_down": "primary"}),
        ("spike", {"message_spike": "primary"}),
        ("calm", {}),
    ],
)
def test_cascades_have_their_roles(kind, roles):
    verdict = incidents.investigated(kind).verdict
    assert {c.cause: c.role for c in verdict.ranking if c.role != "none"} == roles


def test_the_summary_leads_with_what_was_seen():
    text = incidents.investigated("slow").verdict.verdict.summary
    assert text.startswith("Slow processing: ")
    assert "awx" in text.lower() or "reads" in text


# -- the same answer


@pytest.mark.parametrize("kind", ["slow", "poison_crash", "storm", "drain"])
def test_the_same_incident_gives_the_same_bytes(kind):
    assert investigate(incidents.make.__wrapped__(kind)).verdict.to_json() == (
        incidents.investigated(kind).verdict.to_json()
    )


@pytest.mark.parametrize("kind", incidents.KINDS)
def test_a_saved_incident_gives_the_same_bytes(kind, tmp_path):
    path = incidents.make(kind).save(tmp_path / "incident.lagkit")
    assert investigate(open_incident(path)).verdict.to_json() == (
        incidents.investigated(kind).verdict.to_json()
    )


def test_the_order_of_sources_and_facts_in_memory_does_not_matter():
    made = incidents.make("slow")
    turned = replace(made, sources=dict(reversed(list(made.sources.items()))))
    assert investigate(turned).verdict.to_json() == incidents.investigated("slow").verdict.to_json()


@pytest.mark.parametrize("delta", ["7s", "-3h", "400D"])
@pytest.mark.parametrize("kind", ["slow", "storm", "poison_crash", "spike_oom"])
def test_the_same_incident_at_another_time_is_ranked_the_same(kind, delta):
    made = incidents.make(kind)
    assert ranking(incidents.later(made, delta)) == ranking(made)


@pytest.mark.parametrize("kind", ["slow", "poison_retry", "down", "broker", "skew"])
def test_the_same_incident_under_other_names_is_ranked_the_same(kind):
    made = incidents.make(kind)
    names = {
        incidents.GROUP: "grp",
        incidents.TOPIC: "orders.v2",
        "control-plane-api": "mill",
        "stoa-system": "prod",
    }
    assert ranking(incidents.renamed(made, names)) == ranking(made)


@pytest.mark.parametrize("kind", ["poison_retry", "poison_crash", "skew", "slow"])
def test_the_same_incident_with_partitions_numbered_otherwise_is_ranked_the_same(kind):
    made = incidents.make(kind)
    assert ranking(incidents.repartitioned(made, [3, 0, 5, 1, 2, 4])) == ranking(made)


def test_a_neighbour_that_is_well_changes_nothing_much():
    made = incidents.make("slow")
    more = pd.concat([made.neighbours, made.neighbours.assign(group="one-more")])
    with_more = incidents.with_tables(made, neighbours=frames.normalise("neighbours", more))
    assert ranking(with_more) == ranking(made)


# -- whatever is missing


@pytest.mark.parametrize("kind", incidents.KINDS)
def test_there_is_one_check_per_kind_of_evidence_in_the_catalogues_order(kind):
    checks = incidents.investigated(kind).verdict.checks
    assert [check.kind for check in checks] == [kind.id for kind in catalogue().evidence]
    for check in checks:
        assert (check.outcome == "present") == bool(check.findings)
        if check.outcome != "present":
            assert check.reason.endswith((".", "!", ")")) or check.reason


def test_nothing_seen_at_all_is_unknown_and_every_check_unchecked():
    result = investigate(nothing())
    assert {check.outcome for check in result.verdict.checks} == {"not_checked"}
    assert result.cause == "unknown"
    assert result.verdict.state == "unknown"
    assert result.verdict.verdict.confidence == "low"
    assert result.verdict.onset is None
    assert result.verdict.findings == ()
    assert result.verdict.next_check
    assert {report.status for report in result.verdict.sources.values()} == {"unavailable"}


def test_nothing_seen_says_why_for_every_source():
    told = "\n".join(investigate(nothing()).verdict.not_checked)
    for source in SOURCES:
        assert f"{source}: did not answer within 20 s" in told


def test_what_is_not_known_of_the_impact_is_none_and_not_zero():
    impact = investigate(nothing()).verdict.impact
    assert impact.peak_lag_messages is None
    assert impact.messages_lost is None
    assert impact.lag_messages_now is None
    assert impact.slo_minutes_broken is None


def test_an_incident_file_that_names_no_source_is_answered():
    bare = replace(nothing(), sources={}, coverage=(), topics=(), tables={})
    verdict = investigate(bare).verdict
    assert set(verdict.sources) == set(SOURCES)
    assert {r.status for r in verdict.sources.values()} == {"not_configured"}


@pytest.mark.parametrize(
    "missing",
    [combination for size in (1, 2, 3) for combination in itertools.combinations(SOURCES, size)],
    ids="+".join,
)
@pytest.mark.parametrize("kind", ["slow", "poison_crash"])
def test_any_sources_may_be_missing(kind, missing):
    verdict = investigate(incidents.without(incidents.make(kind), *missing)).verdict
    assert sum(c.probability for c in verdict.ranking) == pytest.approx(1)
    unable = {k.id for k in catalogue().evidence if set(k.sources) <= set(missing)}
    # of these Kafka's snapshots show how it is now
    unable -= set() if "kafka" in missing else {"promise_kept", "backlog_draining"}
    by_kind = {check.kind: check for check in verdict.checks}
    for name in unable:
        assert by_kind[name].outcome == "not_checked", name
        assert by_kind[name].reason


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", incidents.CAUSES)
def test_losing_a_source_never_turns_to_another_cause_silently(kind, source):
    """Either the cause stays, or nobody is sure, or what would tell is named."""
    verdict = investigate(incidents.without(incidents.make(kind), source)).verdict
    full = incidents.investigated(kind).verdict
    if verdict.verdict.cause in (full.verdict.cause, "unknown"):
        return
    assert verdict.verdict.confidence != "high" or verdict.verdict.likelihood < 0.8
    assert verdict.next_check


@pytest.mark.parametrize("name", sorted(set(frames.FRAMES) - {"queries"}))
@pytest.mark.parametrize("kind", ["calm", "poison_crash"])
def test_any_single_frame_may_be_empty(kind, name):
    made = incidents.with_tables(incidents.make(kind), **{name: frames.empty(name)})
    assert investigate(made).verdict.ranking


@pytest.mark.parametrize("kind", ["slow", "poison_crash", "broker", "throttled"])
def test_every_value_that_may_be_missing_may_be_missing(kind):
    """All optional columns of all frames are emptied, one frame at a time."""
    made = incidents.make(kind)
    for name, frame in frames.FRAMES.items():
        optional = [c for c in frame.columns if not c.required]
        blank = made.tables[name].assign(
            **{
                c.name: pd.Series([None] * len(made.tables[name]), dtype="object").astype(c.dtype)
                for c in optional
            }
        )
        if name == "members":
            blank = blank.drop_duplicates(list(frame.keys))
        bare = incidents.with_tables(made, **{name: frames.normalise(name, blank)})
        verdict = investigate(bare).verdict
        verdict.to_json()
        assert sum(c.probability for c in verdict.ranking) == pytest.approx(1), name


def test_a_group_that_never_committed_is_answered():
    made = incidents.make("calm")
    tables = {
        name: made.tables[name].assign(committed_offset=value)
        for name, value in (("offsets", -1.0), ("partitions", np.nan))
    }
    tables["offsets"] = tables["offsets"].assign(lag_messages=np.nan)
    seen = outcomes(incidents.with_tables(made, **tables))
    assert seen["consumption_stopped"] == "not_checked"
    assert seen["promise_kept"] == "not_checked"


def test_one_sample_is_answered():
    made = incidents.make("slow")
    first = made.offsets.loc[made.offsets["timestamp"] == made.offsets["timestamp"].min()]
    verdict = investigate(incidents.with_tables(made, offsets=first.reset_index(drop=True))).verdict
    assert verdict.onset is None


def test_without_prometheus_the_brokers_own_snapshots_are_the_history():
    made = incidents.without(incidents.make("slow"), "prometheus")
    history = clean_history(made)
    assert len(history) == len(made.partitions)
    assert list(history["log_end_offset"].sort_values()) == list(
        made.partitions["log_end_offset"].sort_values()
    )


def test_a_few_snapshots_refute_nothing_that_takes_a_history():
    seen = outcomes(incidents.without(incidents.make("spike"), "prometheus"))
    for kind in (
        "production_spike",
        "consumption_at_capacity",
        "consumption_slowed",
        "slower_with_all_members",
        "neighbours_lag_too",
        "backlog_draining",
    ):
        assert seen[kind] == "not_checked", kind


# -- the past


@pytest.mark.parametrize("kind", ["calm", "slow", "spike"])
def test_what_the_cluster_shows_today_is_no_evidence_for_last_weeks_window(kind):
    """The workload was scaled down and its pods crash, but a week after the incident."""
    made = incidents.make(kind)
    week = pd.Timedelta("7D")
    now = made.end + week
    pods = made.pods.assign(
        ready=False,
        restart_count=9,
        last_exit_code=1,
        last_reason="Error",
        last_finished_at=now,
        state_reason="CrashLoopBackOff",
        timestamp=now,
    )
    workloads = made.workloads.assign(desired_replicas=0, ready_replicas=0, timestamp=now)
    state = made.group_state.assign(member_count=0, state="Empty", timestamp=now)
    today = replace(
        incidents.with_tables(
            made,
            pods=frames.normalise("pods", pods),
            members=frames.empty("members"),
            workloads=frames.normalise("workloads", workloads),
            group_state=frames.normalise("group_state", state),
        ),
        captured_at=now,
    )
    verdict = investigate(today).verdict
    assert verdict.verdict.cause == incidents.CAUSES[kind]
    by_kind = {check.kind: check.outcome for check in verdict.checks}
    assert by_kind["pods_unavailable"] == "not_checked"
    assert by_kind["containers_failing"] == "absent"
    assert by_kind["members_missing"] != "present"
    assert "too long after the window" in "\n".join(verdict.not_checked)
    assert verdict.cause("consumer_down").probability < 0.05


def test_a_snapshot_right_after_the_window_counts():
    made = incidents.make("down")
    soon = replace(made, captured_at=made.end + pd.Timedelta("4min"))
    assert ranking(soon) == ranking(made)


# -- what a result is


def test_explain_tells_for_against_not_checked_and_what_would_change_it():
    text = repr(incidents.investigated("slow").explain("slow_processing"))
    assert "Slow processing" in text
    assert "nats" in text
    bare = investigate(incidents.without(incidents.make("slow"), "downstream"))
    assert "would change it" in repr(bare.explain("slow_processing"))


def test_explaining_a_cause_that_is_not_ranked_is_an_error():
    with pytest.raises(KeyError):
        incidents.investigated("slow").explain("gremlins")


def test_a_result_prints_nothing(capsys):
    investigate(incidents.make("calm"))
    assert capsys.readouterr() == ("", "")


def test_the_incident_is_not_changed_by_being_investigated():
    made = incidents.make("poison_crash")
    before = made.to_bytes()
    investigate(made)
    assert made.to_bytes() == before


def test_generated_at_is_when_it_was_captured_and_not_now():
    verdict = incidents.investigated("slow").verdict
    assert verdict.generated_at == incidents.make("slow").captured_at


def test_losses_are_counted_and_are_zero_only_when_every_log_start_is_known():
    assert incidents.investigated("slow_until_deleted").verdict.impact.messages_lost == 1500
    assert incidents.investigated("calm").verdict.impact.messages_lost == 0


def test_what_was_deleted_stays_lost_after_the_group_went_on_at_the_log_start():
    made = incidents.make("slow_until_deleted")
    table = made.partitions
    went_on = table.assign(
        committed_offset=np.fmax(table["committed_offset"], table["log_start_offset"])
    )
    verdict = investigate(incidents.with_tables(made, partitions=went_on)).verdict
    assert verdict.impact.messages_lost == 1500
    made = incidents.make("calm")
    blind = incidents.with_tables(
        made,
        partitions=frames.empty("partitions"),
        offsets=made.offsets.assign(log_start_offset=np.nan),
    )
    assert investigate(blind).verdict.impact.messages_lost is None


def test_a_backlog_that_never_shrinks_has_no_date_of_recovery():
    for kind in ("down", "slow", "poison_retry"):
        forecast = incidents.investigated(kind).verdict.forecast
        assert forecast.catch_up_at is None, kind


def test_a_retention_that_makes_no_sense_gives_no_deadline_and_no_error():
    made = incidents.make("slow")
    for value in ("-1", "soon", None, ""):
        configs = made.configs.assign(value=pd.Series([value], dtype="str"))
        verdict = investigate(incidents.with_tables(made, configs=configs)).verdict
        assert verdict.forecast.data_loss_at is None, value


def test_a_configuration_read_twice_counts_as_it_was_last():
    made = incidents.make("slow")
    earlier = made.configs.assign(timestamp=made.end - pd.Timedelta("1min"), value="60000")
    twice = frames.normalise("configs", pd.concat([earlier, made.configs]))
    assert investigate(incidents.with_tables(made, configs=twice)).verdict.forecast == (
        incidents.investigated("slow").verdict.forecast
    )


def test_the_promise_of_the_runbook_decides_what_is_late():
    made = incidents.make("burst")
    group = made.runbook.group(incidents.GROUP).model_copy(update={"promise_seconds": 1.0})
    strict = replace(made, runbook=made.runbook.model_copy(update={"groups": (group,)}))
    assert outcomes(made)["promise_kept"] == "present"
    assert outcomes(strict)["promise_kept"] == "absent"


def test_a_group_the_runbook_does_not_know_is_answered():
    strange = replace(incidents.make("slow"), runbook=runbook.Runbook(title="t"))
    result = investigate(strange)
    assert result.runbook_group.name == incidents.GROUP
    assert result.verdict.actions == ()


def test_the_flow_is_measured_without_any_other_source():
    flow = measure(
        incidents.without(incidents.make("slow"), "kafka", "kubernetes", "downstream"),
        promise_seconds=60.0,
    )
    assert flow.state == "growing"
    assert flow.step_seconds == incidents.STEP
    assert set(flow.status["status"]) <= {"SLOW", "STALL_OR_STOP", "OK"}


def late_at_the_end(seconds: float) -> Incident:
    """A group whose oldest unread record gets older and older, up to *seconds* at the end."""
    at = np.arange(0.0, incidents.SECONDS + 1, incidents.STEP)
    end = 1000.0 + 40.0 * at
    since = np.clip((at - incidents.FAULT) / (incidents.SECONDS - incidents.FAULT), 0, None)
    columns = {"end": end, "committed": end - 40.0 * (0.5 + since * (seconds - 0.5))}
    table = incidents.offsets(at, dict.fromkeys(range(6), columns))
    made = incidents.without(incidents.make("calm"), "kafka", "kubernetes", "downstream")
    return incidents.with_tables(made, offsets=frames.normalise("offsets", table))


@pytest.mark.parametrize(
    ("late", "promise", "falls_behind"),
    [(3.0, 60.0, False), (3.0, 2.0, True), (20.0, 60.0, True)],
)
def test_lag_that_a_commit_explains_is_no_onset_however_it_rises(late, promise, falls_behind):
    flow = measure(late_at_the_end(late), promise_seconds=promise)
    assert (flow.onset is not None) == falls_behind
    assert (flow.state == "healthy") != falls_behind


# -- a user's own signal


@pytest.fixture
def house_cause(monkeypatch):
    """Install a cause with a signal through the entry point machinery."""
    from test_causes import WEATHER, Point

    def install(signal, **changes):
        kinds = tuple(replace(kind, **changes) for kind in WEATHER.evidence)
        extension = Extension(WEATHER.cause, kinds, signal, "high")
        monkeypatch.setattr(
            "importlib.metadata.entry_points", lambda **_: (Point("weather", extension),)
        )
        catalogue.cache_clear()

    yield install
    monkeypatch.undo()
    catalogue.cache_clear()


def test_a_users_signal_can_name_a_users_cause_by_what_chance_does_not_imitate(house_cause):
    from lagkit.model import Finding
    from lagkit.signals import present

    def rains(context):
        told = Finding("rain", "it rains", "downstream", "downstream-01", onset=context.onset_at)
        return [present("rain", told)]

    # where nothing else was looked at, an everyday sign is no verdict
    house_cause(rains)
    assert investigate(nothing()).verdict.verdict.cause == "unknown"
    house_cause(rains, seen_anyway=EXACT)
    verdict = investigate(nothing()).verdict
    assert verdict.verdict.cause == "bad_weather"
    assert verdict.cause("bad_weather").evidence_for[0].statement == "it rains"


def test_a_users_signal_that_fails_is_not_checked_and_stops_nothing(house_cause):
    def broken(context):
        raise ZeroDivisionError("no rain gauge")

    house_cause(broken)
    verdict = investigate(incidents.make("slow")).verdict
    rain = next(check for check in verdict.checks if check.kind == "rain")
    assert rain.outcome == "not_checked"
    assert "ZeroDivisionError: no rain gauge" in rain.reason
    assert verdict.verdict.cause == "slow_processing"


def test_a_users_signal_cannot_overrule_lagkits_own(house_cause):
    from lagkit.signals import absent

    house_cause(lambda context: [absent("downstream_slow", "No.", "downstream")])
    seen = {c.kind: c.outcome for c in investigate(incidents.make("slow")).verdict.checks}
    assert seen["downstream_slow"] == "present"


# -- hostile names go through as data


@pytest.mark.parametrize(
    "name",
    [
        "../../etc",
        "a'b\"c",
        "line\nbreak",
        "<b>x</b>",
        "{group}",
        "(",
        "[a",
        ".*|\\",
    ],
)
def test_a_hostile_name_changes_no_ranking(name):
    made = incidents.make("poison_retry")
    named = incidents.renamed(made, {incidents.TOPIC: name, incidents.GROUP: name + "g"})
    result = investigate(named)
    assert [(c.cause, round(c.probability, 9)) for c in result.ranking] == ranking(made)
    result.verdict.to_json()


def test_a_log_line_with_absurd_numbers_is_only_text():
    made = incidents.make("calm")
    absurd = made.logs.assign(level="ERROR", message=f"{incidents.TOPIC}[{'9' * 40}]@{'9' * 400}")
    assert outcomes(incidents.with_tables(made, logs=absurd))["same_record_fails"] == "absent"


def test_sources_keep_their_reports():
    made = replace(
        incidents.make("calm"), sources={"kafka": SourceReport("partial", "2 of 3 brokers", 1.5)}
    )
    reports = investigate(made).verdict.sources
    assert reports["kafka"] == SourceReport("partial", "2 of 3 brokers", 1.5)
    assert list(reports) == list(SOURCES)

"""Who lies is named, with since when and what mends it; who tells the truth is never accused."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lagkit as lk
from lagkit import frames, monitoring
from lagkit.model import Suspicion
from lagkit.render.html import render_html
from lagkit.render.markdown import render_markdown
from lagkit.render.text import LINES, WIDTH
from lagkit.report import build

DATA = Path(__file__).parent / "data"
HEALTHY = sorted((DATA / "incidents").glob("*.lagkit"))
START = pd.Timestamp("2026-11-23T02:00:00Z")
STEP = 15
SAMPLES = 40
END = START + pd.Timedelta(STEP * (SAMPLES - 1) + 5, "s")
ASKED = END + pd.Timedelta("6s")
GROUP, TOPIC = "deployment-worker", "deploy-requests"
PRODUCED = 10.0
"""Messages a second and partition."""
LAG = 500.0
PARTITIONS = 3
FACTS = {
    "dialect": "otel",
    "dialect_title": "OpenTelemetry kafkametrics receiver",
    "job": "otel",
    "step_seconds": str(STEP),
}

Values = np.ndarray[Any, Any]


def at(sample: float) -> pd.Timestamp:
    return START + pd.Timedelta(STEP * sample, "s")


def growing(samples: int = SAMPLES) -> Values:
    return 50_000 + PRODUCED * STEP * np.arange(samples)


def offsets(end: Values | None = None, committed: Values | None = None, **changes: Any) -> Any:
    """Return the frame `offsets` of one topic, every partition alike."""
    end = growing() if end is None else end
    committed = end - LAG if committed is None else committed
    return frames.normalise(
        "offsets",
        pd.concat(
            pd.DataFrame(
                {
                    "timestamp": [at(n) for n in range(len(end))],
                    "group": GROUP,
                    "topic": TOPIC,
                    "partition": partition,
                    "committed_offset": committed,
                    "log_end_offset": end,
                    "lag_messages": end - committed,
                    "query_id": "prometheus-01",
                }
                | changes
            )
            for partition in range(PARTITIONS)
        ),
    )


def kafka(end: float, committed: float, *, rate: float = PRODUCED) -> pd.DataFrame:
    """Return three snapshots of the broker, two seconds apart, the last at *end*."""
    return frames.normalise(
        "partitions",
        [
            {
                "timestamp": ASKED - pd.Timedelta(2 * back, "s"),
                "group": GROUP,
                "topic": TOPIC,
                "partition": partition,
                "committed_offset": committed - rate * 2 * back,
                "log_end_offset": end - rate * 2 * back,
                "log_start_offset": 0.0,
                "query_id": "kafka-07",
            }
            for back in (0, 1, 2)
            for partition in range(PARTITIONS)
        ],
    )


def neighbours(lag: Values, committed: Values) -> pd.DataFrame:
    return frames.normalise(
        "neighbours",
        pd.DataFrame(
            {
                "timestamp": [at(n) for n in range(len(lag))],
                "group": "audit-writer",
                "topic": "api-events",
                "lag_messages": lag,
                "committed_sum": committed,
                "query_id": "prometheus-02",
            }
        ),
    )


def targets(up: Values, job: str = "otel") -> pd.DataFrame:
    return frames.normalise(
        "targets",
        pd.DataFrame(
            {
                "timestamp": [at(n) for n in range(len(up))],
                "job": job,
                "instance": "10.0.0.7:8888",
                "up": up,
                "query_id": "prometheus-03",
            }
        ),
    )


def history(members: Values) -> pd.DataFrame:
    return frames.normalise(
        "group_history",
        pd.DataFrame(
            {
                "timestamp": [at(n) for n in range(len(members))],
                "group": GROUP,
                "member_count": members,
                "query_id": "prometheus-04",
            }
        ),
    )


def group_state(protocol: str, members: int) -> pd.DataFrame:
    return frames.normalise(
        "group_state",
        [
            {
                "timestamp": ASKED,
                "group": GROUP,
                "state": "Stable",
                "protocol": protocol,
                "member_count": members,
                "query_id": "kafka-03",
            }
        ],
    )


def listing(rows: int, detail: str | None) -> pd.DataFrame:
    return frames.normalise(
        "queries",
        [
            {
                "query_id": "kafka-02",
                "source": "kafka",
                "statement": "list_consumer_groups()",
                "started_at": ASKED,
                "seconds": 2.1,
                "rows": rows,
                "outcome": "ok" if rows else "empty",
                "detail": detail,
            }
        ],
    )


def opinions(lag: float, dialect: str = "klag_exporter") -> pd.DataFrame:
    return frames.normalise(
        "second_opinions",
        pd.concat(
            pd.DataFrame(
                {
                    "timestamp": [at(n) for n in range(SAMPLES)],
                    "dialect": dialect,
                    "group": GROUP,
                    "topic": TOPIC,
                    "partition": partition,
                    "lag_messages": lag,
                    "query_id": "prometheus-09",
                }
            )
            for partition in range(PARTITIONS)
        ),
    )


def suspected(facts: dict[str, str] | None = None, **tables: pd.DataFrame) -> tuple[Suspicion, ...]:
    watched = monitoring.Watched(GROUP, START, END, tables, {**FACTS, **(facts or {})})
    return monitoring.suspicions(watched)


def only(found: tuple[Suspicion, ...]) -> Suspicion:
    (one,) = found
    return one


def real_end() -> float:
    """Return the log end of a partition when Kafka was asked."""
    return 50_000 + PRODUCED * (ASKED - START).total_seconds()


def healthy() -> dict[str, pd.DataFrame]:
    return {
        "offsets": offsets(),
        "partitions": kafka(real_end(), real_end() - LAG),
        "targets": targets(np.ones(SAMPLES)),
        "group_history": history(np.full(SAMPLES, 3.0)),
        "group_state": group_state("classic", 3),
        "neighbours": neighbours(np.full(SAMPLES, 5.0), growing()),
        "queries": listing(4, None),
    }


def test_monitoring_that_tells_the_truth_is_not_accused() -> None:
    assert suspected(**healthy()) == ()


def test_nothing_captured_accuses_nobody() -> None:
    assert suspected() == ()


@pytest.mark.parametrize("path", HEALTHY, ids=lambda path: path.stem)
def test_no_exporter_of_the_recorded_incidents_is_accused(path: Path) -> None:
    assert monitoring.suspicions(monitoring.Watched.of(lk.open(path))) == ()


# -- a lag of 0 that was never measured ------------------------------------------------------

BAD = 25
"""The sample at which an exporter begins to lie."""


def zeros(since: int = BAD, to: int = SAMPLES) -> pd.DataFrame:
    """Return offsets that lack the log end and have lag 0 from sample *since* on."""
    end, lag = growing(), np.full(SAMPLES, LAG)
    committed = end - LAG
    end[since:to], lag[since:to] = np.nan, 0.0
    return offsets(end, committed, lag_messages=lag)


def test_lag_0_without_a_log_end_is_a_false_zero_since_its_first_sample() -> None:
    told = only(suspected(**{**healthy(), "offsets": zeros()}))
    assert (told.kind, told.since, told.until) == ("false_zero", at(BAD), None)
    assert told.instance == "job otel at 10.0.0.7:8888"
    assert "Kafka itself shows 1,500 unread" in told.statement
    assert "Kafka's own offsets" in told.believed_instead
    assert {"prometheus-01", "kafka-07"} <= set(told.query_ids)


def test_a_false_zero_of_klag_exporter_has_the_line_that_mends_it() -> None:
    klag = {"dialect": "klag_exporter", "dialect_title": "klag-exporter"}
    told = only(suspected(klag, **{**healthy(), "offsets": zeros()}))
    assert told.exporter == "klag-exporter"
    assert '"metadata.max.age.ms" = "10000"' in told.fix


def test_a_false_zero_that_is_over_ends_with_its_last_sample() -> None:
    told = only(suspected(**{**healthy(), "offsets": zeros(10, 20)}))
    assert (told.since, told.until) == (at(10), at(19))


def test_one_scrape_without_a_log_end_is_no_lie() -> None:
    assert suspected(**{**healthy(), "offsets": zeros(20, 21)}) == ()


def test_an_idle_group_with_lag_0_and_a_log_end_is_not_accused() -> None:
    end = np.full(SAMPLES, 700.0)
    idle = {"offsets": offsets(end, end), "partitions": kafka(700, 700, rate=0)}
    assert suspected(**{**healthy(), **idle}) == ()


def test_an_exporter_without_log_ends_that_kafka_bears_out_is_not_accused() -> None:
    end = np.full(SAMPLES, np.nan)
    told = offsets(end, np.full(SAMPLES, 700.0), lag_messages=0.0)
    own = {"dialect": "own", "dialect_title": "our own exporter"}
    assert suspected(own, **{**healthy(), "offsets": told, "partitions": kafka(700, 700)}) == ()


def lag_alone(lag: Values) -> dict[str, pd.DataFrame]:
    """Return what an exporter shows that writes lags and nothing they could be checked against."""
    nothing = np.full(SAMPLES, np.nan)
    return {**healthy(), "offsets": offsets(nothing, nothing, lag_messages=lag)}


def test_an_exporter_without_log_ends_may_have_said_0_before() -> None:
    lag = np.where(np.arange(SAMPLES) < 30, 0.0, LAG)
    assert suspected({"dialect": "own"}, **lag_alone(lag)) == ()


@pytest.mark.parametrize(("unread", "accused"), [(20.0, False), (9_000.0, True)])
def test_0_without_log_ends_is_a_lie_only_beside_much_that_is_unread(
    unread: float, accused: bool
) -> None:
    behind = {"partitions": kafka(real_end(), real_end() - unread)}
    told = suspected({"dialect": "own"}, **{**lag_alone(np.zeros(SAMPLES)), **behind})
    assert [one.kind for one in told] == ["false_zero"] * accused


# -- old values, repeated --------------------------------------------------------------------


def repeated(since: int = BAD) -> Values:
    values = growing()
    values[since:] = values[since]
    return values


def frozen(since: int = BAD) -> dict[str, pd.DataFrame]:
    """Return what the frames show when an exporter repeats itself from sample *since* on."""
    lag = np.full(SAMPLES, 5.0)
    return {
        **healthy(),
        "offsets": offsets(repeated(since)),
        "neighbours": neighbours(lag, repeated(since)),
    }


def test_all_groups_flat_at_once_while_kafka_goes_on_are_frozen_since_the_last_change() -> None:
    told = only(suspected(**frozen()))
    assert (told.kind, told.since, told.until) == ("frozen", at(BAD), None)
    assert "for 2 groups" in told.statement
    assert "metric_expiration: 30s" in told.fix
    assert told.believed_instead.startswith("Kafka's own offsets")


def test_a_group_that_stands_still_before_a_growing_log_is_no_frozen_exporter() -> None:
    stalled = offsets(growing(), np.full(SAMPLES, 49_000.0))
    assert suspected(**{**healthy(), "offsets": stalled}) == ()


def test_a_quiet_night_is_no_frozen_exporter() -> None:
    quiet = {**frozen(), "partitions": kafka(repeated()[-1], repeated()[-1] - LAG, rate=0)}
    assert suspected(**quiet) == ()


def test_a_single_stalled_group_on_an_idle_topic_is_no_frozen_exporter() -> None:
    end, committed = np.full(SAMPLES, 900.0), np.full(SAMPLES, 400.0)
    alone = {"offsets": offsets(end, committed), "partitions": kafka(900, 400, rate=0)}
    assert suspected(targets=targets(np.ones(SAMPLES)), **alone) == ()


def test_an_exporter_with_one_group_that_moves_is_not_frozen() -> None:
    moving = neighbours(np.arange(SAMPLES, dtype="float64"), growing())
    assert suspected(**{**frozen(), "neighbours": moving}) == ()


def test_values_flat_for_less_than_a_minute_are_a_staircase() -> None:
    assert suspected(**frozen(SAMPLES - 4)) == ()


def test_records_that_come_after_a_quiet_night_accuse_nobody() -> None:
    """The exporter has not refreshed yet: what was written in the last seconds proves nothing."""
    quiet = np.full(SAMPLES, 900.0)
    night = {
        "offsets": offsets(quiet, quiet),
        "neighbours": neighbours(np.zeros(SAMPLES), quiet),
        "partitions": kafka(900 + 8 * PRODUCED, 900),
    }
    assert suspected(**{**healthy(), **night}) == ()


def log_ends(values: Values) -> pd.DataFrame:
    return frames.normalise(
        "log_end_history",
        pd.concat(
            pd.DataFrame(
                {
                    "timestamp": [at(n) for n in range(len(values))],
                    "topic": TOPIC,
                    "partition": partition,
                    "log_end_offset": values,
                    "query_id": "kafka-09",
                }
            )
            for partition in range(PARTITIONS)
        ),
    )


def test_kafkas_own_past_decides_whether_values_were_frozen() -> None:
    """A producer that sent its backlog a moment ago looks the same but for the records' times."""
    assert suspected(**frozen(), log_end_history=log_ends(repeated())) == ()
    assert only(suspected(**frozen(), log_end_history=log_ends(growing()))).kind == "frozen"


# -- members that are not seen ---------------------------------------------------------------


def test_members_0_of_a_live_group_of_the_new_protocol_is_named_since_when() -> None:
    members = np.full(SAMPLES, 3.0)
    members[30:] = 0
    seen = {"group_history": history(members), "group_state": group_state("consumer", 3)}
    told = only(suspected(**{**healthy(), **seen}))
    assert (told.kind, told.since) == ("members_unseen", at(30))
    assert "Kafka lists 3 members" in told.statement


@pytest.mark.parametrize(("protocol", "listed"), [("classic", 3), ("consumer", 0)])
def test_members_0_that_kafka_does_not_contradict_is_believed(protocol: str, listed: int) -> None:
    none = {
        "group_history": history(np.zeros(SAMPLES)),
        "group_state": group_state(protocol, listed),
    }
    assert suspected(**{**healthy(), **none}) == ()


# -- up, and nothing to say ------------------------------------------------------------------

BRAEDON = {"dialect": "braedon", "dialect_title": "braedon's exporter", "job": ""}


def mute() -> dict[str, pd.DataFrame]:
    return {
        **healthy(),
        "offsets": frames.empty("offsets"),
        "neighbours": frames.empty("neighbours"),
        "targets": targets(np.ones(SAMPLES), "braedon"),
    }


def test_an_exporter_that_is_up_without_a_lag_series_is_named() -> None:
    told = only(suspected(BRAEDON, **mute()))
    assert (told.kind, told.instance) == ("mute", "job braedon at 10.0.0.7:8888")
    assert "can never fire" in told.statement
    assert "cannot read Kafka 4" in told.fix


def test_an_exporter_without_this_group_alone_is_sent_to_its_filter() -> None:
    told = only(suspected({**BRAEDON, "group_count": "12"}, **mute()))
    assert "of this group, though of 12 others" in told.statement
    assert "group filter" in told.fix


def test_an_exporter_that_is_down_is_not_mute() -> None:
    assert suspected(BRAEDON, **{**mute(), "targets": targets(np.zeros(SAMPLES))}) == ()


def test_an_exporter_is_not_mute_because_prometheus_did_not_answer() -> None:
    failed = listing(4, None).assign(source="prometheus", outcome="timeout")
    assert suspected(BRAEDON, **{**mute(), "queries": failed}) == ()


def test_an_exporter_of_a_group_without_commits_is_not_mute() -> None:
    assert suspected(BRAEDON, **{**mute(), "partitions": kafka(900, float("nan"))}) == ()


# -- histories that stop ---------------------------------------------------------------------


def cut(samples: int = 20) -> dict[str, pd.DataFrame]:
    return {
        **healthy(),
        "offsets": offsets(growing(samples)),
        "neighbours": neighbours(np.full(samples, 5.0), growing(samples)),
    }


@pytest.mark.parametrize(
    ("up", "kind"),
    [
        (np.ones(SAMPLES), "vanished"),
        (np.where(np.arange(SAMPLES) < 20, 1.0, 0.0), "unscraped"),
        (np.ones(20), "stale"),
    ],
)
def test_a_history_that_stops_is_told_by_what_became_of_its_target(up: Values, kind: str) -> None:
    told = only(suspected(**{**cut(), "targets": targets(up)}))
    assert (told.kind, told.since) == (kind, at(19))
    assert told.fix


def test_a_history_that_ends_with_the_window_is_whole() -> None:
    assert suspected(**cut(SAMPLES - 2)) == ()


def test_series_of_a_group_that_kafka_does_not_know_any_more_may_end() -> None:
    gone = {"partitions": frames.empty("partitions"), "neighbours": healthy()["neighbours"]}
    assert suspected(**{**cut(), **gone}) == ()


# -- an empty list of groups -----------------------------------------------------------------


@pytest.mark.parametrize(("rows", "over"), [(0, False), (4, True)])
def test_an_empty_list_of_groups_beside_commits_is_not_believed(rows: int, over: bool) -> None:
    asked = listing(rows, "no group and no error in 2 of 3 answers")
    told = only(suspected(**{**healthy(), "queries": asked}))
    assert told.kind == "empty_list"
    assert (told.until is not None) is over
    assert "commits of this group" in told.statement
    assert "Run again in a minute" in told.fix


def test_an_empty_list_of_a_cluster_without_groups_is_true() -> None:
    asked = listing(0, "no group and no error in 3 of 3 answers")
    assert suspected(queries=asked) == ()


# -- exporters that disagree -----------------------------------------------------------------


def test_of_two_exporters_the_one_further_from_kafka_is_named() -> None:
    told = only(suspected(**{**healthy(), "second_opinions": opinions(0)}))
    assert (told.kind, told.exporter) == ("disagreement", "klag_exporter")
    assert "Kafka itself agrees with OpenTelemetry" in told.statement
    assert "metadata.max.age.ms" in told.fix


def test_the_chosen_exporter_is_named_when_kafka_agrees_with_the_other() -> None:
    theirs = {
        "partitions": kafka(real_end(), real_end() - 9_000),
        "second_opinions": opinions(9_000, "kminion"),
    }
    told = only(suspected(**{**healthy(), **theirs}))
    assert (told.kind, told.exporter) == ("contradicted", FACTS["dialect_title"])


def test_without_kafka_neither_of_two_exporters_is_named_alone() -> None:
    nobody = {"partitions": frames.empty("partitions"), "second_opinions": opinions(9_000)}
    told = only(suspected(**{**healthy(), **nobody}))
    assert told.exporter == f"klag_exporter or {FACTS['dialect_title']}"
    assert "--bootstrap" in told.believed_instead


# -- what is left to believe: recorded lies ---------------------------------------------------

RECORDED = {
    "klag_exporter_false_zero": ("false_zero", "klag-exporter"),
    "klag_false_zero_after_restart": ("false_zero", "klag-exporter"),
    "otel_frozen": ("frozen", "OpenTelemetry kafkametrics receiver"),
    "otel_members_zero_of_kip848": ("members_unseen", "OpenTelemetry kafkametrics receiver"),
    "braedon_up_without_lag": ("mute", "prometheus-kafka-consumer-group-exporter (braedon)"),
    "otel_vanished_after_expiry": ("vanished", "OpenTelemetry kafkametrics receiver"),
}


@pytest.fixture(scope="module", params=sorted(RECORDED))
def lie(request: pytest.FixtureRequest) -> tuple[str, lk.Result]:
    return request.param, lk.investigate(lk.open(DATA / "lying" / f"{request.param}.lagkit"))


def test_the_liar_of_a_recorded_lie_is_named(lie: tuple[str, lk.Result]) -> None:
    name, result = lie
    kind, exporter = RECORDED[name]
    told = only(tuple(one for one in result.verdict.suspicions if one.kind == kind))
    assert told.exporter == exporter
    assert told.instance.startswith("job ")
    assert told.fix
    assert told.query_ids


def test_the_lag_of_a_recorded_lie_is_kafkas_own(lie: tuple[str, lk.Result]) -> None:
    name, result = lie
    if RECORDED[name][0] == "members_unseen":
        return  # its lag is true
    own = result.incident.partitions
    own = own.loc[own["group"] == result.incident.group]
    last = own.loc[own["timestamp"] == own["timestamp"].max()]
    truth = (last["log_end_offset"] - last["committed_offset"]).sum()
    assert result.verdict.impact.lag_messages_now == pytest.approx(truth)
    assert result.verdict.state not in ("recovered", "healthy", "draining")


def test_a_recorded_lie_is_no_evidence_of_a_consumer_that_is_down(
    lie: tuple[str, lk.Result],
) -> None:
    _, result = lie
    assert result.cause != "consumer_down"
    checks = {check.kind: check.outcome for check in result.verdict.checks}
    assert checks["members_missing"] != "present"


def test_the_first_screen_names_the_liar_within_its_bounds(lie: tuple[str, lk.Result]) -> None:
    name, result = lie
    lines = repr(result).splitlines()
    (told,) = (line for line in lines if line.startswith("DISTRUST"))
    assert RECORDED[name][1][:40] in told
    assert " since " in told
    assert len(told) <= WIDTH
    assert len(lines) <= LINES


def test_the_reports_say_who_lied_and_what_mends_it(lie: tuple[str, lk.Result]) -> None:
    _, result = lie
    report = build(result)
    for page in (render_html(report, interactive=False), render_markdown(report)):
        assert "Monitoring that is not believed" in page
        assert "believed instead" in page


def test_a_recorded_list_of_no_group_is_not_believed() -> None:
    result = lk.investigate(lk.open(DATA / "lying" / "kafka_empty_group_list.lagkit"))
    told = only(result.verdict.suspicions)
    assert (told.kind, told.exporter) == ("empty_list", "Kafka's own list of groups")
    assert told.instance.startswith("broker 127.0.0.1:")
    assert "commits of this group" in told.believed_instead
    assert "DISTRUST    Kafka's own list of groups since" in repr(result)
    report = build(result)
    for page in (render_html(report, interactive=False), render_markdown(report)):
        shown = html.unescape(page).replace("\\", "")
        assert "Monitoring that is not believed" in shown
        assert "Kafka's own list of groups" in shown
        assert f"{told.since:%H:%M:%S}Z" in shown
    # judged by the group's own commits and log ends
    own = result.incident.partitions
    own = own.loc[own["group"] == result.incident.group]
    last = own.loc[own["timestamp"] == own["timestamp"].max()]
    truth = (last["log_end_offset"] - last["committed_offset"]).clip(lower=0).sum()
    assert result.verdict.impact.lag_messages_now == pytest.approx(truth)


def test_a_frozen_exporter_is_forgotten_from_its_last_change_on() -> None:
    incident = lk.open(DATA / "lying" / "otel_frozen.lagkit")
    found = monitoring.suspicions(monitoring.Watched.of(incident))
    left = monitoring.believed(incident, found)
    since = only(found).since
    for name in ("offsets", "neighbours", "group_history"):
        assert (incident.tables[name]["timestamp"] > since).any()
        assert not (left.tables[name]["timestamp"] > since).any(), name
    assert left.partitions.equals(incident.partitions)


def test_labels_from_outside_can_do_nothing_in_the_reports() -> None:
    result = lk.investigate(lk.open(DATA / "lying" / "otel_frozen.lagkit"))
    hostile = "x</script><script>alert(1)</script>\n# [a](http://b)\x1b[2J"
    worse = dataclasses.replace(
        result.verdict.suspicions[0], exporter=hostile, instance=hostile, statement=hostile
    )
    verdict = dataclasses.replace(result.verdict, suspicions=(worse,))
    report = build(dataclasses.replace(result, verdict=verdict))
    assert "<script>alert" not in render_html(report, interactive=False)
    assert "\n# [a]" not in render_markdown(report)
    assert "\x1b" not in report.first_screen

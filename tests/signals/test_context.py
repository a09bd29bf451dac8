"""What a signal is given, and the words it answers with."""

from __future__ import annotations

from dataclasses import replace

import incidents
import pandas as pd
import pytest

from lagkit import signals
from lagkit.causes import catalogue
from lagkit.incident import Gap
from lagkit.model import Finding, SourceReport
from lagkit.signals import absent, not_checked, present, quantity, queries_of, together

CALM = incidents.make("calm")


def gap(source: str, what: str = "", **changes) -> str:
    return incidents.context(replace(CALM, **changes)).gap(source, what)


def test_a_source_that_is_not_configured_says_so():
    assert gap("kafka", sources={}) == "kafka is not configured."


def test_a_source_that_failed_says_why():
    down = {"kafka": SourceReport("unavailable", "timed out", 20.0)}
    assert gap("kafka", sources=down) == "kafka could not be read: timed out"


def test_a_gap_of_the_source_about_the_thing_comes_first():
    coverage = (Gap("kafka", "configs", "403"), Gap("kafka", "members of the group", "denied"))
    assert gap("kafka", "members", coverage=coverage) == "members of the group: denied"
    assert gap("kafka", "weather", coverage=coverage) == "kafka gave no weather."


def test_without_an_onset_everything_is_measured_from_the_start():
    context = incidents.context(CALM)
    assert context.flow.onset is None
    assert context.onset_at == context.onset_earliest == CALM.start


def test_the_history_is_named_after_where_it_came_from():
    assert incidents.context(CALM).history_source == "prometheus"
    assert incidents.context(incidents.without(CALM, "prometheus")).history_source == "kafka"


def test_log_lines_outside_the_window_are_not_given_to_a_signal():
    made = incidents.saying(
        CALM,
        (-60, 0, "INFO", "before"),
        (10, 0, "INFO", "inside"),
        (incidents.SECONDS + 7200, 0, "INFO", "after"),
    )
    said = set(incidents.context(made).consumer_logs["message"])
    assert "inside" in said
    assert not {"before", "after"} & said


def test_a_check_is_one_of_three_things():
    finding = Finding("x:1", "s", "kafka", "kafka-01")
    assert present("x", finding).outcome == "present"
    assert present("x", finding).query == "kafka-01"
    assert absent("x", "r", "kafka").outcome == "absent"
    assert not_checked("x", "r").outcome == "not_checked"


def test_the_queries_behind_frames_are_listed_once_and_bounded():
    table = pd.DataFrame({"query_id": ["b", "a", "a"]})
    assert queries_of(table, table) == "a, b"
    many = pd.DataFrame({"query_id": [f"q{n}" for n in range(9)]})
    assert queries_of(many).endswith("…")
    assert queries_of(table.iloc[:0]) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (1_250_000, "1,250,000"),
        (-2000, "-2,000"),
    ],
)
def test_a_quantity_is_written_as_a_person_reads_it(value, text):
    assert quantity(value) == text


def test_every_kind_of_lagkits_own_is_answered_by_exactly_one_signal():
    context = incidents.context(incidents.make("slow"))
    seen = {check.kind: check for signal in signals.signals() for check in signal(context)}
    answered = [check.kind for signal in signals.signals() for check in signal(context)]
    answered += [check.kind for check in together.conclusions(seen)]
    assert sorted(answered) == sorted(kind.id for kind in catalogue().evidence)


@pytest.mark.parametrize("kind", incidents.KINDS)
def test_every_statement_says_something_and_every_onset_has_a_zone(kind):
    for check in incidents.investigated(kind).verdict.checks:
        for finding in check.findings:
            assert finding.statement
            assert "nan" not in finding.statement.lower().replace("tenant", "")
            assert finding.onset is None or finding.onset.tzinfo is not None

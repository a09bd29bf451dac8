"""The doctor says what works, what is missing, and the line that fixes it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from command import run

from lagkit import doctor, frames
from lagkit.config import Settings
from lagkit.incident import open_incident
from lagkit.model import Suspicion
from lagkit.runbook import load
from lagkit.sources import Answer, Blind, Questions, Scope

BLIND = Blind("logs", "may not get pods/log (403)", "kubectl create role …")


def answer(name: str, status: str, *, blind: tuple[Blind, ...] = ()) -> Answer:
    questions = Questions(name)
    with questions.ask("GET /version") as question:
        question.rows = 1
    with questions.ask("GET /secret\x1b[2J") as question:
        question.outcome, question.detail = "denied", "403"
    return Answer(name, status, "v1", 0.5, {}, questions.frame(), blind, {"server_version": "v1"})


def diagnosis(**statuses: str) -> doctor.Diagnosis:
    patients = tuple(
        doctor._patient(name, answer(name, statuses[name]) if name in statuses else None)
        for name in doctor.SOURCES
    )
    return doctor.Diagnosis("g", patients, {"notebook": False, "pdf": True})


@pytest.mark.parametrize(
    ("statuses", "exit_status"),
    [
        ({}, 2),
        ({"kafka": "ok"}, 0),
        ({"kafka": "partial", "prometheus": "unavailable"}, 0),
        ({"kafka": "unavailable", "prometheus": "unavailable"}, 4),
    ],
)
def test_the_exit_status_says_whether_anything_can_be_read(statuses, exit_status):
    assert diagnosis(**statuses).exit_status == exit_status


def test_a_blind_spot_is_told_with_its_fix():
    patient = doctor._patient("kubernetes", answer("kubernetes", "partial", blind=(BLIND,)))
    shown = doctor.render(doctor.Diagnosis("g", (patient,), {}))
    assert "may not get pods/log (403)" in shown
    assert "fix  kubectl create role" in shown


def test_a_refused_question_is_told_and_counted():
    shown = doctor.render(diagnosis(kafka="partial"))
    assert "1 of 2 questions answered" in shown
    assert "denied: 403" in shown


def test_what_a_server_says_cannot_move_the_cursor():
    assert "\x1b" not in doctor.render(diagnosis(kafka="partial"))


def test_a_missing_extra_is_told_with_its_line():
    assert "pip install 'lagkit[notebook]'" in doctor.render(diagnosis())


def test_the_diagnosis_is_plain_json():
    told = json.loads(json.dumps(diagnosis(kafka="ok").to_dict()))
    assert told["sources"]["kafka"]["facts"] == {"server_version": "v1"}
    assert told["sources"]["downstream"]["missing"][0]["fix"]


def test_nothing_configured_asks_nobody(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    found = doctor.examine(Settings(), "g", on_progress=told.append)
    assert told == []
    assert {patient.status for patient in found.patients} == {"not_configured"}


def suspicion(**changes: object) -> Suspicion:
    at = pd.Timestamp("2026-11-23T02:14:30Z")
    told = Suspicion(
        kind="frozen",
        exporter="OpenTelemetry kafkametrics receiver",
        instance="job otel at 10.0.0.7:8888",
        since=at,
        until=None,
        title="old values, repeated",
        statement="it has repeated the same values",
        evidence=("not one offset changed",),
        query_ids=("prometheus-01",),
        believed_instead="Kafka's own offsets",
        fix="metric_expiration: 30s",
    )
    return dataclasses.replace(told, **changes)


def test_a_liar_is_told_with_since_when_what_counts_instead_and_the_line_that_mends_it():
    told = dataclasses.replace(diagnosis(kafka="ok"), suspicions=(suspicion(),))
    shown = doctor.render(told)
    assert "distrust    OpenTelemetry kafkametrics receiver (job otel at 10.0.0.7:8888)" in shown
    assert "since  2026-11-23 02:14:30Z" in shown
    assert "instead  Kafka's own offsets" in shown
    assert "fix  metric_expiration: 30s" in shown
    (written,) = json.loads(json.dumps(told.to_dict()))["suspicions"]
    assert written["since"] == "2026-11-23T02:14:30.000Z"
    assert written["kind"] == "frozen"


LIES = Path(__file__).parent / "data" / "lying"


@pytest.mark.parametrize(
    ("file", "liar", "fix"),
    [
        ("kafka_empty_group_list", "Kafka's own list of groups (broker 127.0.0.1:", "Run again"),
        ("klag_exporter_false_zero", "klag-exporter (job ", "In klag-exporter's configuration"),
        ("otel_frozen", "OpenTelemetry kafkametrics receiver (job ", "In the collector's conf"),
        (
            "otel_members_zero_of_kip848",
            "OpenTelemetry kafkametrics receiver (job ",
            "Alert on lag, not on members",
        ),
        (
            "braedon_up_without_lag",
            "prometheus-kafka-consumer-group-exporter (braedon) (job ",
            "Deploy another exporter",
        ),
    ],
)
def test_the_liar_in_recorded_answers_is_named_with_the_line_that_mends_it(file, liar, fix):
    """What real servers answered, given to the doctor as its sources would give it."""
    incident = open_incident(LIES / f"{file}.lagkit")
    answers = {
        source: Answer(
            source,
            report.status,
            report.detail,
            report.seconds,
            {
                name: table
                for name, table in incident.tables.items()
                if frames.FRAMES[name].source == source
            },
            incident.queries.loc[incident.queries["source"] == source],
            facts=incident.facts.get(source, {}),
        )
        for source, report in incident.sources.items()
        if report.status in ("ok", "partial")
    }
    scope = Scope(incident.group, (), incident.start, incident.end, incident.runbook)
    found = doctor._suspicions(scope, answers)
    shown = doctor.render(dataclasses.replace(diagnosis(kafka="ok"), suspicions=found))
    assert f"distrust    {liar}" in shown
    assert re.search(r"^ +since +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", shown, re.MULTILINE)
    assert re.search(rf"^ +fix +{re.escape(fix)}", shown, re.MULTILINE)


def test_what_an_exporter_is_called_cannot_move_the_cursor():
    hostile = suspicion(exporter="a\x1b[2J", instance="b\nc", statement="d\x1b[1A")
    shown = doctor.render(dataclasses.replace(diagnosis(), suspicions=(hostile,)))
    assert "\x1b" not in shown
    assert "b c" in shown


def test_a_frame_that_was_read_is_told_with_its_rows():
    read = {"brokers": 3, "members": 0}
    patient = dataclasses.replace(doctor._patient("kafka", answer("kafka", "ok")), read=read)
    shown = doctor.render(doctor.Diagnosis("g", (patient,), {}))
    assert "     reads  brokers 3 rows\n" in shown


RUNBOOK = """
title = "ours"
priors = { slow_procesing = "high", network = "low" }
groups = [{ name = "g" }]

[[remedies]]
cause = "gremlins"
title = "Chase them"
command = "true"
why = "they are there"
safety = "read_only"

[[do_not]]
cause = "poison_mesage"
text = "do not skip it"
"""


def test_cause_ids_of_a_runbook_that_are_no_causes_are_told(tmp_path):
    """They have no effect, and nothing else says so."""
    file = tmp_path / "runbook.toml"
    file.write_text(RUNBOOK, encoding="utf-8")
    told = run("doctor", "g", "--runbook", file, cwd=tmp_path)
    assert told.status == 2
    assert "ignores priors.slow_procesing: no cause is called 'slow_procesing'" in told.out
    assert "fix  write slow_processing" in told.out
    assert "ignores remedies, 'Chase them': no cause is called 'gremlins'" in told.out
    assert "fix  write one of: consumer_down" in told.out
    assert "fix  write poison_message" in told.out
    assert "priors.network" not in told.out


def test_the_shipped_runbook_names_only_causes_there_are():
    assert list(doctor._ignored(load(None))) == []

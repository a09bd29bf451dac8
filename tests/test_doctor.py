"""The doctor says what works, what is missing, and the line that fixes it."""

from __future__ import annotations

import json

import pytest

from lagkit import doctor
from lagkit.config import Settings
from lagkit.sources import Answer, Blind, Questions

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

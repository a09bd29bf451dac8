"""Who is told: by age and cause, in words that fit where they are pasted."""

from __future__ import annotations

from dataclasses import replace

import incidents
import pandas as pd
import pytest

from lagkit import escalation
from lagkit.model import Onset
from lagkit.runbook import Contact, load

BOOK = load()


def aged(kind: str, minutes: float):
    verdict = incidents.investigated(kind).verdict
    begun = pd.Timestamp(verdict.incident.end) - pd.Timedelta(minutes, "min")
    return replace(verdict, onset=Onset(begun, begun, begun), state="growing")


@pytest.mark.parametrize(("minutes", "level"), [(1, "L1"), (29.9, "L1"), (30, "L2"), (300, "L2")])
def test_the_level_rises_with_the_age(minutes, level):
    due = escalation.due(aged("slow", minutes), BOOK)
    assert due.level == level
    assert due.elapsed_seconds == pytest.approx(minutes * 60)


def test_trouble_of_the_brokers_goes_to_those_who_keep_them():
    due = escalation.due(aged("broker", 1), BOOK)
    assert (due.level, due.contact) == ("L3", "@data-team")
    assert any(text.startswith("L1") for text in due.also)
    assert any(text.startswith("L2") and "29m" in text for text in due.later)


def test_nobody_is_told_of_a_healthy_group():
    assert escalation.due(incidents.investigated("calm").verdict, BOOK) is None


def test_an_age_that_is_not_known_is_not_taken_for_a_short_one():
    verdict = replace(incidents.investigated("slow").verdict, onset=None, state="growing")
    due = escalation.due(verdict, BOOK)
    assert due.elapsed_seconds is None
    assert any("not known" in text for text in due.later)


@pytest.mark.parametrize(
    ("words", "seconds", "causes"),
    [
        ("Immediate", 0, frozenset()),
        ("If lag continues > 30min", 1800, frozenset()),
        ("after 2 hours", 7200, frozenset()),
        ("Kafka/Redpanda issue", None, escalation.BROKER_CAUSES),
        ("when Bob says so", None, frozenset()),
    ],
)
def test_a_runbook_without_keys_is_read_by_its_words(words, seconds, causes):
    contact = Contact(level="L", who="w", when=words, contact="c")
    assert escalation.when(contact) == escalation.When(seconds, causes)


def test_keys_go_before_words():
    contact = Contact(
        level="L", who="w", when="Immediate", contact="c", after_minutes=5, causes=("network",)
    )
    assert escalation.when(contact) == escalation.When(300, frozenset({"network"}))


@pytest.mark.parametrize("kind", incidents.KINDS)
def test_the_message_fits_into_slack_and_names_no_control_character(kind):
    verdict = incidents.investigated(kind).verdict
    text = escalation.message(verdict, BOOK)
    assert len(text) <= escalation.MESSAGE_CHARACTERS
    assert verdict.incident.id in text
    assert all(character == "\n" or ord(character) >= 32 for character in text)


def test_a_hostile_topic_stays_on_its_line():
    verdict = incidents.investigated("slow").verdict
    reference = replace(verdict.incident, topics=("evil\n\x1b[2J",), group="g\n@channel" * 900)
    text = escalation.message(replace(verdict, incident=reference), BOOK)
    assert "\x1b" not in text
    assert len(text) <= escalation.MESSAGE_CHARACTERS
    assert not any(line.startswith("@channel") for line in text.splitlines())

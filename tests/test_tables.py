"""A notebook's tables are whole, stable, and show foreign text as text."""

from __future__ import annotations

from dataclasses import replace

import factories
import pytest

from lagkit import tables


@pytest.fixture(scope="module")
def hostile():
    return factories.hostile_result()


@pytest.fixture(scope="module")
def result():
    return factories.result()


@pytest.fixture(scope="module")
def blind():
    return factories.blind_result()


@pytest.mark.parametrize("name", tables.SHEETS)
def test_foreign_text_is_never_markup(hostile, name):
    shown = tables.sheet(hostile, name)._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "\x1b" not in repr(tables.sheet(hostile, name))


@pytest.mark.parametrize("name", tables.SHEETS)
def test_a_table_has_a_caption_and_scoped_headings(result, name):
    shown = tables.sheet(result, name)._repr_html_()
    assert f'<table id="lagkit-{name}">' in shown
    assert shown.count("<caption>") == 1
    assert shown.count("<th ") == shown.count('<th scope="col"') > 0


@pytest.mark.parametrize("name", tables.SHEETS)
def test_an_incident_without_anything_gives_empty_tables_not_errors(blind, name):
    assert isinstance(tables.sheet(blind, name), tables.Sheet)


def test_a_long_sentence_is_shown_whole(result):
    sentence = ("word " * 100).strip()
    changed = replace(result, verdict=factories.verdict(not_checked=(sentence,)))
    assert sentence in repr(tables.sheet(changed, "blind-spots"))


def test_what_not_to_do_stands_with_the_actions(result):
    changed = replace(result, verdict=factories.verdict(do_not=("Skip to the end",)))
    frame = tables.sheet(changed, "actions").frame
    assert frame["why"].tolist()[-1] == "Skip to the end"


def test_a_table_that_does_not_exist_is_refused_with_the_names_there_are(result):
    with pytest.raises(ValueError, match="findings"):
        tables.sheet(result, "nosuch")

"""What ``import lagkit`` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lagkit as lk


@pytest.mark.parametrize("name", lk.__all__)
def test_every_name_that_is_offered_is_there(name):
    assert getattr(lk, name) is not None
    assert name in dir(lk)


def test_a_name_that_is_not_offered_is_an_attribute_error():
    with pytest.raises(AttributeError, match="gremlins"):
        _ = lk.gremlins


def test_open_is_the_incident_file_and_not_the_builtin():
    from lagkit.incident import open_incident

    assert lk.open is open_incident


def test_a_name_is_the_object_of_its_home():
    from lagkit.errors import NothingThere
    from lagkit.investigation import investigate

    assert lk.NothingThere is NothingThere
    assert lk.investigate is investigate


def test_star_import_gives_the_offered_names():
    code = "from lagkit import *; import lagkit; assert set(lagkit.__all__) - {'__version__'} <= "
    code += "set(dir())"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_carry_the_exit_status_of_the_contract():
    assert {
        error.__name__: error.exit_status
        for error in (
            lk.LagkitError,
            lk.UsageError,
            lk.NothingThere,
            lk.NoSourceReadable,
            lk.ReportFailed,
        )
    } == {
        "LagkitError": 1,
        "UsageError": 2,
        "NothingThere": 3,
        "NoSourceReadable": 4,
        "ReportFailed": 5,
    }


def test_a_hint_stands_on_a_line_of_its_own():
    assert str(lk.UsageError("No.", hint="Do this.")) == "No.\nDo this."
    assert str(lk.UsageError("No.")) == "No."


def test_all_errors_can_be_caught_as_one():
    for error in (lk.UsageError, lk.NothingThere, lk.NoSourceReadable, lk.ReportFailed):
        assert issubclass(error, lk.LagkitError)

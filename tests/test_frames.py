"""The one contract between sources and analysis: what fits, what is refused, what is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagkit import frames
from lagkit.frames import FLAG, FRAMES, NUMBER, TEXT, TIME, WHOLE, FrameError, normalise

AT = pd.Timestamp("2026-11-23T02:00:00Z")


def row(name: str, /, **changes: object) -> dict[str, object]:
    """Return a row of the frame *name* that has exactly what is required."""
    values = {TIME: AT, TEXT: "x", NUMBER: 1.0, WHOLE: 1, FLAG: True}
    made = {column.name: values[column.dtype] for column in FRAMES[name].columns if column.required}
    return made | changes


@pytest.mark.parametrize("name", FRAMES)
def test_an_empty_frame_has_every_column_and_dtype(name):
    table = frames.empty(name)
    assert len(table) == 0
    assert {c: str(table[c].dtype) for c in table} == {
        column.name: column.dtype for column in FRAMES[name].columns
    }
    frames.pandera_schema(name).validate(table)


@pytest.mark.parametrize("name", FRAMES)
def test_nothing_becomes_the_empty_frame(name):
    for nothing in ([], pd.DataFrame(), frames.empty(name)):
        pd.testing.assert_frame_equal(normalise(name, nothing), frames.empty(name))


@pytest.mark.parametrize("name", FRAMES)
def test_what_a_row_lacks_is_missing_and_not_zero_or_empty(name):
    table = normalise(name, [row(name)])
    for column in FRAMES[name].columns:
        assert table[column.name].isna().all() != column.required
        assert str(table[column.name].dtype) == column.dtype


@pytest.mark.parametrize("name", FRAMES)
def test_normalising_twice_changes_nothing(name):
    once = normalise(name, [row(name)])
    pd.testing.assert_frame_equal(normalise(name, once), once)


@pytest.mark.parametrize("name", FRAMES)
def test_keys_and_units_are_declared(name):
    frame = FRAMES[name]
    assert {frame.column(key).name for key in frame.keys} == set(frame.keys)
    assert all(column.meaning for column in frame.columns)
    schema = frames.pandera_schema(name)
    assert {c: schema.columns[c].metadata["unit"] for c in schema.columns} == {
        column.name: column.unit for column in frame.columns
    }


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (name, column.name)
        for name, frame in FRAMES.items()
        for column in frame.columns
        if column.required
    ],
)
def test_a_row_without_a_required_value_is_refused(name, column):
    with pytest.raises(FrameError, match=column):
        normalise(name, [row(name, **{column: None})])


def test_an_unknown_column_is_refused_by_name():
    with pytest.raises(FrameError, match="mood"):
        normalise("offsets", [row("offsets", mood="bad")])


def test_two_rows_with_the_same_keys_are_refused_where_keys_are_unique():
    with pytest.raises(FrameError, match="offsets"):
        normalise("offsets", [row("offsets"), row("offsets")])
    assert len(normalise("events", [row("events"), row("events")])) == 2


def test_row_order_never_matters():
    rows = [
        row("offsets", partition=p, timestamp=AT + pd.Timedelta(s, "s"))
        for p in range(3)
        for s in range(3)
    ]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    pd.testing.assert_frame_equal(normalise("offsets", rows), normalise("offsets", shuffled))


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-23T03:00:00+01:00",
        pd.Timestamp("2026-11-23T02:00:00Z"),
        pd.Timestamp("2026-11-22T18:00:00-08:00").to_pydatetime(),
    ],
)
def test_a_time_of_any_zone_becomes_utc_microseconds(value):
    table = normalise("offsets", [row("offsets", timestamp=value)])
    assert table["timestamp"].iloc[0] == AT
    assert str(table["timestamp"].dtype) == TIME


def test_times_of_mixed_zones_and_units_share_one_dtype():
    times = [
        "2026-11-23T03:00:00+01:00",
        pd.Timestamp("2026-11-23T02:00:01.5Z").as_unit("ns"),
        pd.Timestamp("2026-11-23T02:00:02Z").as_unit("s"),
    ]
    table = normalise("offsets", [row("offsets", timestamp=t) for t in times])
    assert list(table["timestamp"] - AT) == [pd.Timedelta(s, "s") for s in (0, 1.5, 2)]
    assert str(table["timestamp"].dtype) == TIME


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-23T02:00:00",
        pd.Timestamp("2026-11-23"),
        np.datetime64("2026-11-23"),
        1763863200,
        "soon",
    ],
)
def test_a_time_without_a_zone_is_refused(value):
    with pytest.raises(FrameError, match="timestamp"):
        normalise("offsets", [row("offsets", timestamp=value)])


def test_a_naive_datetime_column_is_refused():
    table = pd.DataFrame([row("offsets")]).assign(timestamp=pd.DatetimeIndex(["2026-11-23"]))
    with pytest.raises(FrameError, match="zone"):
        normalise("offsets", table)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("partition", 1.5),
        ("partition", "one"),
        ("partition", float("inf")),
        ("committed_offset", "many"),
        ("partition", 2**70),
    ],
)
def test_a_value_that_does_not_fit_its_dtype_is_refused_with_its_column(column, value):
    with pytest.raises(FrameError, match=column):
        normalise("offsets", [row("offsets", **{column: value})])


def test_markers_of_exporters_are_kept_as_they_came():
    table = normalise("offsets", [row("offsets", committed_offset=-1, lag_messages=-7)])
    assert table["committed_offset"].iloc[0] == -1
    assert table["lag_messages"].iloc[0] == -7


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_every_way_to_say_nothing_is_missing(missing):
    table = normalise(
        "pods",
        [row("pods", restart_count=missing, ready=missing, node=missing, last_finished_at=missing)],
    )
    assert table[["restart_count", "ready", "node", "last_finished_at"]].isna().all(axis=None)


def test_offsets_keep_every_digit_a_float_can_hold():
    big = 2**53 - 1
    table = normalise("offsets", [row("offsets", committed_offset=big)])
    assert int(table["committed_offset"].iloc[0]) == big


def test_half_a_surrogate_pair_is_replaced_and_fails_no_source():
    table = normalise("logs", [row("logs", message="bad \ud800 label")])
    assert table["message"].iloc[0] == "bad ? label"


@given(st.text())
def test_any_text_comes_through(text):
    table = normalise("logs", [row("logs", message=text)])
    expected = text.encode("utf-8", "replace").decode()
    assert table["message"].iloc[0] == expected


def test_a_frame_with_a_doubled_index_is_taken_as_it_is():
    table = pd.DataFrame([row("offsets", partition=p) for p in range(3)], index=[0, 0, 1])
    assert list(normalise("offsets", table)["partition"]) == [0, 1, 2]


def test_the_callers_rows_are_not_changed():
    table = pd.DataFrame([row("offsets", partition=p) for p in (2, 1)])
    before = table.copy()
    normalise("offsets", table)
    pd.testing.assert_frame_equal(table, before)


def test_float_seconds_keep_their_millisecond():
    found = frames.from_epoch_seconds([1763863200.123, 1763863200.1229999])
    assert list(found.microsecond) == [123000, 123000]
    assert str(found.dtype) == TIME


def test_a_column_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="mood"):
        FRAMES["offsets"].column("mood")

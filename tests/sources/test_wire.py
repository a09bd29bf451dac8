"""Numbers read from the bytes of an answer are those that a JSON parser and float() give."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lagkit.sources.prometheus import wire
from lagkit.sources.prometheus.matrix import Piece, decode, join

HOSTILE = ('"values":[[1,"2"]]', '],["', "]]", '\\"values\\":[[', "{}[]", "\\", "\n", "ü☃", "")


def answer(*series: dict[str, Any], **more: Any) -> bytes:
    data = {"resultType": "matrix", "result": list(series)}
    whole = {"status": "success", "data": data, **more}
    return json.dumps(whole, separators=(",", ":")).encode()


def one(*samples: tuple[float, str], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [list(sample) for sample in samples]}


def fast(body: bytes) -> pd.DataFrame:
    return decode(wire.parse(body)["data"]["result"])


def plain(body: bytes) -> pd.DataFrame:
    return decode(json.loads(body)["data"]["result"])


def values(*written: str) -> list[float]:
    """Read *written* as the values of one series, by the fast way only."""
    series = one(*((1_767_600_000 + 30 * at, text) for at, text in enumerate(written)))
    (item,) = wire.parse(answer(series))["data"]["result"]
    return list(wire.samples([item["values"]])[2])


def times(*written: str) -> list[float]:
    body = (
        b'{"data":{"result":[{"metric":{},"values":[%s]}]}}'
        % ",".join(f'[{text},"1"]' for text in written).encode()
    )
    (item,) = wire.parse(body)["data"]["result"]
    return list(wire.samples([item["values"]])[1])


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    "text",
    ["0", "7", "12345678", "123456789", "9007199254740993", "9999999999999999", "007",
     "99999999999999999999", "-1", "-0", "0.1", "123.456", "1e+06", "1e-7", "1.5E3", "5e-324",
     "1.7976931348623157e+308", "0.30000000000000004", "2.2250738585072014e-308"],
)  # fmt: skip
def test_a_number_is_the_float_nearest_to_its_text(text: str) -> None:
    read = values("1", text, "2")
    assert read == [1.0, float(text), 2.0]
    assert math.copysign(1, read[1]) == math.copysign(1, float(text))


@pytest.mark.parametrize("text", ["NaN", "+Inf", "-Inf", "Inf", "1e999"])
def test_what_is_no_number_is_nan_and_its_neighbours_stay(text: str) -> None:
    np.testing.assert_array_equal(values("1", text, "2"), [1, math.nan, 2])


@pytest.mark.parametrize("text", ["", " 1", "1 ", "nan", "infinity", "0x10", "1_0", "\\u0031", "a"])
def test_a_value_that_no_server_writes_is_left_to_the_parser(text: str) -> None:
    body = answer(one((1, "1"))).replace(b'"1"', b'"%s"' % text.encode())
    (item,) = wire.parse(body)["data"]["result"]
    with pytest.raises(wire.Unusual):
        wire.samples([item["values"]])


@pytest.mark.parametrize(
    "text", ["1767600000", "1767600000.123", "1767600000.5", "1.002", "1", "12345678901.25"]
)
def test_a_timestamp_is_the_float_nearest_to_its_text(text: str) -> None:
    assert times("1767600000", text, "1767600030") == [1767600000.0, float(text), 1767600030.0]


@pytest.mark.parametrize("text", ["-1", "0.5", "1e9", "1.", "01", "1.2.3", '"1"', "[1]", "null"])
def test_a_timestamp_that_no_server_writes_is_left_to_the_parser(text: str) -> None:
    with pytest.raises(wire.Unusual):
        times("1767600000", text)


@pytest.mark.parametrize(
    "samples",
    ['[1,"2"],[3]', '[1,"2",4]', '[1,"2"],', '[1,"2"] ,[3,"4"]', '[1, "2"]', '[1,2]', '[1,"2"]x',
     '[1,"2"],[3,"4"', '["2",1]', '[1,"2"],{"a":"b"}'],
)  # fmt: skip
def test_samples_of_another_shape_are_left_to_the_parser(samples: str) -> None:
    text = f"[{samples}]".encode()
    with pytest.raises(wire.Unusual):
        wire.samples([wire.Span(text, 0, len(text))])


# ---------------------------------------------------------------------- series


def test_each_series_has_its_own_samples_however_long_it_is() -> None:
    series = [one(*((1_767_600_000 + at, str(at * n)) for at in range(n))) for n in (3, 0, 1, 40)]
    body = answer(*series)
    pd.testing.assert_frame_equal(fast(body), plain(body))
    assert fast(body).groupby("series").size().to_dict() == {0: 3, 2: 1, 3: 40}


def test_an_answer_larger_than_a_chunk_is_read_without_a_seam() -> None:
    points = range(1_767_600_000, 1_767_600_000 + 30 * 11_000, 30)
    series = [one(*((at, str(at % (97 * n))) for at in points), n=str(n)) for n in range(1, 13)]
    body = answer(*series)
    assert len(body) > 2 * wire.CHUNK_BYTES
    pd.testing.assert_frame_equal(fast(body), plain(body))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_that_looks_like_samples_is_a_label(text: str) -> None:
    series = one((1_767_600_000, "5"), **{"a": text, "values": text, text: "b"})
    body = answer(series, one((1_767_600_030, "6"), z=text))
    read = wire.parse(body)
    assert read["data"]["result"][0]["metric"] == series["metric"]
    assert fast(body)["value"].tolist() == [5, 6]
    assert all(isinstance(item["values"], wire.Span) for item in read["data"]["result"])


def test_a_second_array_of_samples_in_one_series_is_left_to_the_parser() -> None:
    body = b'{"data":{"result":[{"metric":{},"values":[[1,"1"]],"values":[[2,"2"]]}]}}'
    assert fast(body)["time"].tolist() == [2]


def test_samples_outside_of_the_result_are_left_alone() -> None:
    body = answer(one((1, "1")), warnings=[{"values": [[1, "2"]]}])
    assert wire.parse(body) == json.loads(body)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " : ")])
def test_white_space_and_the_order_of_fields_change_nothing(separators: tuple[str, str]) -> None:
    series = {"values": [[1_767_600_000.5, "1e+06"], [1_767_600_030, "NaN"]], "metric": {"a": "]]"}}
    whole = {"isPartial": False, "data": {"result": [series, series]}, "status": "success"}
    body = json.dumps(whole, separators=separators).encode()
    pd.testing.assert_frame_equal(fast(body), plain(body))


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_half_an_answer_is_no_answer(cut: int) -> None:
    body = answer(one((1_767_600_000, "1"), (1_767_600_030, "2"), a="b"))
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind the parser raises
        wire.parse(body[:-cut])


# ---------------------------------------------------------------------- any answer

LABELS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.integers(0, 10**9).map(str),
    FINITE.map(repr),
    FINITE.map(lambda number: f"{number:.3e}"),
    st.floats(0, 1e6).map(lambda number: f"{number:.4f}"),
    st.sampled_from(["NaN", "+Inf", "-Inf", "0", "-0", "1e+06"]),
)
TIMES = st.one_of(
    st.integers(1, 2**34), st.integers(1, 2**41).map(lambda ms: ms / 1000), st.just(0)
)
SERIES = st.builds(
    lambda labels, samples: one(*samples, **labels),
    st.dictionaries(LABELS, LABELS, max_size=3),
    st.lists(st.tuples(TIMES, VALUES), max_size=12),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SERIES, max_size=5), st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
@example([one((1, "12345678901234567"), (2, ""))], False, (",", ":"))
def test_any_answer_reads_the_same_in_both_ways(
    series: list[dict[str, Any]], escaped: bool, separators: tuple[str, str]
) -> None:
    whole = {"status": "success", "data": {"resultType": "matrix", "result": series}}
    text = json.dumps(whole, ensure_ascii=escaped, separators=separators)
    body = text.encode("utf-8", "surrogatepass" if escaped else "replace")
    try:
        expected = plain(body)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - what the parser or float() said
            fast(body)
        return
    pd.testing.assert_frame_equal(fast(body), expected)
    labels = [item["metric"] for item in json.loads(body)["data"]["result"]]
    assert [item["metric"] for item in wire.parse(body)["data"]["result"]] == labels


# ---------------------------------------------------------------------- joining


def piece(*series: dict[str, Any]) -> Piece:
    return Piece(series, decode(series))


def test_joined_pieces_have_each_series_once_in_the_order_of_time() -> None:
    early = piece(one((1, "1"), (2, "2"), a="x"), one((1, "5"), a="z"))
    late = piece(one((3, "7"), a="y"), one((3, "6"), (4, "NaN"), a="z"))
    whole = join([early, late])
    assert [item["metric"]["a"] for item in whole.series] == ["x", "y", "z"]
    assert whole.samples["series"].tolist() == [0, 0, 1, 2, 2, 2]
    assert whole.samples["time"].tolist() == [1, 2, 3, 1, 3, 4]


def test_nothing_joins_to_nothing() -> None:
    whole = join([piece(), piece()])
    assert whole.samples.empty
    assert whole.samples.columns.tolist() == ["series", "time", "value"]

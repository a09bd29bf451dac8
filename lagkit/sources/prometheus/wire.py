"""Samples straight from the bytes of an answer, without a Python object for each.

It knows how the query API writes numbers and arrays, and no series. A real JSON parser reads
everything but the numbers: :func:`parse` cuts the text of each ``"values"`` array out and puts a
number in its place, and only what the parser then finds, as that number, at ``values`` of a series
was such an array. So no label text can pass for samples. The numbers are read by :func:`samples`,
eight digits at a time; whatever is not written exactly as servers write it raises
:class:`Unusual`, and is read by the plain way in :mod:`lagkit.sources.prometheus.matrix`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Words: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]
Places: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

OPENING = b'"values":[['
CLOSING = b"]]"
CHUNK_BYTES = 1 << 20
"""Text looked at in one go: its intermediate arrays (about ten times as much) stay small."""
_PADDING = b" " * 24
_WORD = 8
_ZEROS = np.uint64(0x3030303030303030)
_SIXES = np.uint64(0x0606060606060606)
_HIGH = np.uint64(0xF0F0F0F0F0F0F0F0)
_FRACTION = 4
"""Characters of a fraction as Prometheus writes it in a timestamp: a point and three digits."""
_MOST_DIGITS = 2 * _WORD
# keeps the last n of eight characters, the first of which is the lowest byte
_LAST = np.array([(2**64 - 1) ^ (2 ** (8 * (8 - n)) - 1) for n in range(9)], dtype="uint64")


class Unusual(ValueError):
    """Numbers that are not written as servers write them; the plain way decides what they are."""


@dataclass(frozen=True, slots=True)
class Span:
    """The text of one ``values`` array, brackets included: ``body[start:stop]``."""

    body: bytes
    start: int
    stop: int

    def plain(self) -> list[list[Any]]:
        """Return the samples as the JSON parser reads them."""
        read: list[list[Any]] = json.loads(self.body[self.start : self.stop])
        return read


def parse(body: bytes) -> Any:
    """Return *body* as ``json.loads`` does, but with a :class:`Span` for each array of samples.

    Raises
    ------
    ValueError
        *body* is no JSON. What is between the brackets of a span is not looked at here.
    """
    places = list(_arrays(body))
    if not places:
        return json.loads(body)
    pieces: list[bytes] = []
    end = 0
    for number, (start, stop) in enumerate(places):
        pieces += [body[end:start], b"[%d]" % number]
        end = stop
    pieces.append(body[end:])
    try:
        answer = json.loads(b"".join(pieces))
    except ValueError:
        return json.loads(body)
    return answer if _put_back(answer, body, places) else json.loads(body)


def _arrays(body: bytes) -> Iterator[tuple[int, int]]:
    at = body.find(OPENING)
    while at >= 0:
        start = at + len(OPENING) - 2
        closing = body.find(CLOSING, start)
        if closing < 0:
            return
        yield start, closing + len(CLOSING)
        at = body.find(OPENING, closing)


def _put_back(answer: Any, body: bytes, places: Sequence[tuple[int, int]]) -> bool:
    """Put spans where the numbers are; False unless each is found once, in order, in its place."""
    data = answer.get("data") if isinstance(answer, dict) else None
    result = data.get("result") if isinstance(data, dict) else None
    if not isinstance(result, list):
        return False
    number = 0
    for item in result:
        values = item.get("values") if isinstance(item, dict) else None
        if not values:
            continue
        if values != [number] or type(values[0]) is not int or number == len(places):
            return False
        item["values"] = Span(body, *places[number])
        number += 1
    return number == len(places)


def samples(spans: Sequence[Span]) -> tuple[Places, Numbers, Numbers]:
    """Return how many samples each span has, then the times (epoch s) and values of all of them.

    NaN and the infinities are NaN.

    Raises
    ------
    Unusual
        Something is not written as servers write it.
    """
    counts: list[Places] = []
    times: list[Numbers] = []
    values: list[Numbers] = []
    for chunk in _chunks(spans):
        count, time, value = _read(chunk)
        counts.append(count)
        times.append(time)
        values.append(value)
    if not counts:
        return np.empty(0, "int64"), np.empty(0), np.empty(0)
    return np.concatenate(counts), np.concatenate(times), np.concatenate(values)


def _chunks(spans: Sequence[Span]) -> Iterator[list[bytes]]:
    """Yield the insides of the arrays, together about CHUNK_BYTES."""
    inside: list[bytes] = []
    size = 0
    for span in spans:
        # the outer brackets are left out
        text = span.body[span.start + 1 : span.stop - 1]
        if not (text.startswith(b"[") and text.endswith(b'"]')):
            raise Unusual
        inside.append(text)
        size += len(text)
        if size >= CHUNK_BYTES:
            yield inside
            inside, size = [], 0
    if inside:
        yield inside


def _read(inside: Sequence[bytes]) -> tuple[Places, Numbers, Numbers]:
    """Return sample counts, times and values of arrays written ``[t,"v"],[t,"v"]``."""
    # every sample now ends in the same four characters, and each number has room before it
    text = b"".join([_PADDING, b",".join(inside), b",[", _PADDING])
    quotes = np.flatnonzero(np.frombuffer(text, "uint8") == ord('"'))
    if len(quotes) % 2:
        raise Unusual
    opening, closing = quotes[0::2], quotes[1::2]
    # these two checks and the two below account for every byte that is not part of a number
    between = _words(text, "<u4")[closing] == int.from_bytes(b'"],[', "little")
    before = _words(text, "<u2")[opening - 1] == int.from_bytes(b',"', "little")
    if not (between.all() and before.all()):
        raise Unusual
    begins = np.empty_like(opening)
    begins[0] = len(_PADDING) + 1
    begins[1:] = closing[:-1] + len('"],[')
    if begins[-1] >= opening[-1]:
        raise Unusual
    time = _times(text, begins, opening - 1)
    value = _values(text, opening + 1, closing)
    ends = np.cumsum([len(part) + 1 for part in inside]) + len(_PADDING)
    until = np.searchsorted(closing, ends)
    return np.diff(until, prepend=0), time, value


def _words(text: bytes, dtype: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Return *text* as numbers of *dtype* that begin at every byte."""
    kind = np.dtype(dtype)
    return np.ndarray((len(text) - kind.itemsize + 1,), kind, text, strides=(1,))


def _digits(text: bytes, begins: Places, ends: Places) -> tuple[Numbers, Any]:
    """Return the whole numbers in ``text[begins:ends]``, and which of them are none.

    Eight characters at a time: neighbours are joined to numbers of two, four and eight digits
    within one 64-bit word (D. Lemire, "Quickly parsing eight digits", 2018).
    """
    words = _words(text, "<u8")
    length = ends - begins
    odd = (length < 1) | (length > _MOST_DIGITS)
    value, wrong = _eight(words[ends - _WORD], np.clip(length, 0, _WORD))
    odd |= wrong
    long = np.flatnonzero((length > _WORD) & ~odd)
    if len(long):
        upper, wrong = _eight(words[ends[long] - _MOST_DIGITS], length[long] - _WORD)
        value[long] += upper * np.uint64(10**_WORD)
        odd[long] |= wrong
    return value.astype("float64"), odd


def _eight(words: Words, length: Places) -> tuple[Words, Any]:
    """Return the last *length* of eight characters as a number, and where one is no digit."""
    digits = (words ^ _ZEROS) & _LAST[length]
    wrong = (((digits + _SIXES) | digits) & _HIGH) != 0
    digits = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    digits = (digits * np.uint64(100) + (digits >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    digits = (digits * np.uint64(10_000) + (digits >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    return digits, wrong


def _times(text: bytes, begins: Places, ends: Places) -> Numbers:
    """Return timestamps: whole seconds, with or without decimals."""
    characters = np.frombuffer(text, "uint8")
    first, last = characters[begins], characters[ends - 1]
    # JSON has no other numbers from 1 on without a sign and an exponent
    if not ((first > ord("0")) & (first <= ord("9")) & (last >= ord("0"))).all():
        raise Unusual
    points = np.flatnonzero(characters[ends - _FRACTION] == ord("."))
    whole = ends.copy()
    whole[points] -= _FRACTION
    time, odd = _digits(text, begins, whole)
    if len(points):
        fraction, wrong = _digits(text, ends[points] - _FRACTION + 1, ends[points])
        odd[points] |= wrong
        # one rounding, as in reading the decimal number: the milliseconds are whole
        time[points] = (time[points] * 1000 + fraction) / 1000
    rest = np.flatnonzero(odd)
    if len(rest):
        time[rest] = _decimals(text, begins[rest], ends[rest], b"0123456789.")
    return time


def _values(text: bytes, begins: Places, ends: Places) -> Numbers:
    """Return sample values; what is no number of at most 16 digits is read by Arrow."""
    value, odd = _digits(text, begins, ends)
    rest = np.flatnonzero(odd)
    if not len(rest):
        return value
    begins, ends = begins[rest], ends[rest]
    nothing = _is(text, b"NaN", begins, ends)
    for infinity in (b"+Inf", b"-Inf", b"Inf"):
        nothing |= _is(text, infinity, begins, ends)
    value[rest[nothing]] = np.nan
    rest, begins, ends = rest[~nothing], begins[~nothing], ends[~nothing]
    if len(rest):
        value[rest] = _decimals(text, begins, ends, b"0123456789+-.eE")
    return value


def _is(text: bytes, word: bytes, begins: Places, ends: Places) -> Any:
    same = ends - begins == len(word)
    characters = np.frombuffer(text, "uint8")
    for place, character in enumerate(word):
        same &= characters[begins + place] == character
    return same


def _decimals(text: bytes, begins: Places, ends: Places, characters: bytes) -> Numbers:
    """Return decimal numbers of those *characters* as the nearest float64; infinities are NaN."""
    # the wanted strings and the ones between them; taking every second copies the wanted ones
    bounds = np.empty(2 * len(begins) + 1, dtype="int32")
    bounds[0:-1:2], bounds[1::2], bounds[-1] = begins, ends, ends[-1]
    every = pa.StringArray.from_buffers(2 * len(begins), pa.py_buffer(bounds), pa.py_buffer(text))
    wanted = every.take(pa.array(np.arange(0, 2 * len(begins), 2)))
    written = wanted.buffers()[2]
    # words that a float parser knows and servers do not write
    if written is None or written.to_pybytes().translate(None, characters):
        raise Unusual
    try:
        read = wanted.cast(pa.float64())
    except pa.ArrowInvalid:
        raise Unusual from None
    value: Numbers = read.to_numpy(zero_copy_only=False).copy()
    value[np.isinf(value)] = np.nan
    return value

"""Series of an answer become a frame of samples: one row per sample, a column per label.

It knows how an answer holds samples, as lists or as spans of its text, and nothing of what they
mean. A value that is no number is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from lagkit.sources.http import HttpFailure
from lagkit.sources.prometheus import wire

Labels = Mapping[str, str]
Read = tuple[wire.Places, wire.Numbers, wire.Numbers]


@dataclass(frozen=True, slots=True)
class Piece:
    """Series in the order of their labels, and their samples within a part of the window."""

    series: Sequence[Mapping[str, Any]]
    samples: pd.DataFrame


def decode(series: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per sample: ``series`` (position in the list), ``time`` (epoch s), ``value``.

    Infinities become NaN. Native histograms have no ``values`` and give no row.

    Raises
    ------
    ValueError
        A sample is no pair of a time and a number.
    """
    held = [item.get("values") or () for item in series]
    spans = [values for values in held if isinstance(values, wire.Span)]
    try:
        counts, time, value = wire.samples(spans) if len(spans) == len(held) else _each(held)
    except wire.Unusual:
        counts, time, value = _each(held)
    position = np.repeat(np.arange(len(held)), counts)
    return pd.DataFrame({"series": position, "time": time, "value": value}, copy=False)


def _each(held: Sequence[Any]) -> Read:
    """Read series by series, so that one that is written oddly costs no more than itself."""
    read = [_one(values) for values in held]
    counts = np.fromiter((len(time) for time, _ in read), dtype="int64", count=len(read))
    times, values = [time for time, _ in read], [value for _, value in read]
    nothing = [np.empty(0)]
    return counts, np.concatenate(nothing + times), np.concatenate(nothing + values)


def _one(values: Any) -> tuple[wire.Numbers, wire.Numbers]:
    if isinstance(values, wire.Span):
        try:
            return wire.samples([values])[1:]
        except wire.Unusual:
            values = values.plain()
    if any(len(sample) != 2 for sample in values):
        msg = "a sample is no pair of a time and a value"
        raise ValueError(msg)
    flat = list(chain.from_iterable(values))
    value = np.fromiter(map(float, flat[1::2]), dtype="float64", count=len(values))
    value[np.isinf(value)] = np.nan
    return np.array(flat[0::2], dtype="float64"), value


def join(pieces: Sequence[Piece]) -> Piece:
    """Return *pieces*, which follow each other in time, as one: each series once, in one order."""
    if len(pieces) == 1:
        return pieces[0]
    known: dict[tuple[tuple[str, str], ...], Mapping[str, Any]] = {}
    for piece in pieces:
        for item in piece.series:
            known.setdefault(identity(item), item)
    ordered = sorted(known)
    place = {key: number for number, key in enumerate(ordered)}
    parts = [
        piece.samples.assign(
            series=np.array([place[identity(item)] for item in piece.series], dtype="int64")[
                piece.samples["series"].to_numpy()
            ]
        )
        for piece in pieces
        if len(piece.samples)
    ]
    together = pd.concat(parts, ignore_index=True) if parts else decode([])
    # stable: within a series the pieces stay in the order of time
    together = together.sort_values("series", kind="stable", ignore_index=True)
    return Piece([known[key] for key in ordered], together)


def first_series(piece: Piece, most: int) -> Piece:
    """Return *piece* with its first *most* series."""
    kept = piece.samples[piece.samples["series"] < most]
    return Piece(piece.series[:most], kept.reset_index(drop=True))


def identity(item: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the labels of a series as something to compare and sort by."""
    return tuple(sorted(item["metric"].items()))


def labelled(
    samples: pd.DataFrame, series: Sequence[Mapping[str, Any]], labels: Iterable[str]
) -> pd.DataFrame:
    """Return *samples* with a text column per name in *labels*; missing where a series has none."""
    position = samples["series"].to_numpy()
    columns = {}
    for label in labels:
        # the texts of the series are taken by number: a Python string per sample costs ten times
        texts = pd.array([item["metric"].get(label) for item in series], dtype="str")
        columns[label] = texts.take(position)
    return samples.assign(**columns)


def series_of(data: Any, types: set[str]) -> list[Mapping[str, Any]]:
    """Return the series of a query's ``data`` after checking its type."""
    if not isinstance(data, dict) or data.get("resultType") not in types:
        kind = data.get("resultType") if isinstance(data, dict) else type(data).__name__
        text = f"the answer is a {kind}, not a {' or '.join(sorted(types))}"
        raise HttpFailure(text)
    result = data.get("result")
    if not isinstance(result, list) or not all(
        isinstance(item, dict)
        and isinstance(item.get("metric"), dict)
        and all(isinstance(value, str) for value in item["metric"].values())
        for item in result
    ):
        text = "the answer has no list of series"
        raise HttpFailure(text)
    return result

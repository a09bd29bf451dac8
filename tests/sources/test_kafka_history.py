"""The bisection over timestamps, on a log in memory that answers as ListOffsets does."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagkit.sources.kafka.history import (
    AFTER_END,
    PRECISION_MS,
    Mark,
    coarse_first,
    log_ends,
    sample_times,
    written_at,
)
from lagkit.sources.kafka.rows import Place, Read

NOW = 1_790_000_000_000
P: Place = ("t", 0)


class Log:
    """Partitions with records of these times (ms), asked by time; counts the rounds."""

    def __init__(self, times: Mapping[Place, Sequence[int]]) -> None:
        self.times = times
        # the first record not older than T is the first at which the running maximum reaches T
        self.newest = {place: list(accumulate(at, max)) for place, at in times.items()}
        self.rounds = 0

    def mark(self, place: Place, moment: int) -> Mark:
        offset = bisect_left(self.newest[place], moment)
        times = self.times[place]
        return Mark(float(offset), float(times[offset])) if offset < len(times) else Mark(AFTER_END)

    def __call__(self, requests: Sequence[Mapping[Place, int]]) -> list[dict[Place, Mark]]:
        self.rounds += len(requests)
        return [{p: self.mark(p, moment) for p, moment in asked.items()} for asked in requests]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=200), st.data())
def test_found_time_is_the_newest_up_to_the_position_to_half_a_second(
    gaps: list[int], data: st.DataObject
) -> None:
    times = [NOW - sum(gaps[n:]) for n in range(len(gaps))]
    shuffled = data.draw(st.permutations(times)) if data.draw(st.booleans()) else times
    position = data.draw(st.integers(0, len(times) - 1))
    log = Log({P: shuffled})
    found, _ = written_at(log, {P: float(position)}, now_ms=NOW + 60_000)
    truth = max(shuffled[: position + 1])
    assert found[P].low_ms <= truth
    assert truth <= found[P].high_ms
    assert truth - found[P].low_ms <= PRECISION_MS


@pytest.mark.parametrize("partitions", [1, 10, 1_000])
def test_rounds_are_those_of_the_slowest_partition_however_many_there_are(partitions: int) -> None:
    week = 7 * 24 * 3_600_000
    places = {("t", n): [NOW - week + n * 17 + k * week // 50 for k in range(50)]
              for n in range(partitions)}  # fmt: skip
    log = Log(places)
    _, rounds = written_at(
        log, {place: float(1 + place[1] % 40) for place in places}, now_ms=NOW + 60_000
    )
    assert rounds == log.rounds
    assert rounds <= 36, "a look at now, five further back, thirty halvings of their last reach"


def test_known_marks_save_rounds() -> None:
    log = Log({P: [NOW - 3_600_000 + n * 900 for n in range(4_000)]})
    grid = [NOW - 3_600_000 + n * 60_000 for n in range(61)]
    known = [(moment, {P: log.mark(P, moment)}) for moment in [*grid, NOW + 60_000]]
    log.rounds = 0
    found, rounds = written_at(log, {P: 1_234.0}, now_ms=NOW + 60_000, known=known)
    assert found[P].low_ms == pytest.approx(NOW - 3_600_000 + 1_234 * 900, abs=PRECISION_MS)
    assert rounds <= 7


def test_record_of_which_nothing_older_is_left_has_the_time_of_the_next_one() -> None:
    """A compacted log may begin above the position."""

    def ask(requests: Sequence[Mapping[Place, int]]) -> list[dict[Place, Mark]]:
        return [{p: Mark(50.0, NOW - 9_000) if moment <= NOW - 9_000 else Mark(AFTER_END)
                 for p, moment in asked.items()} for asked in requests]  # fmt: skip

    found, _ = written_at(ask, {P: 3.0}, now_ms=NOW + 60_000)
    assert found[P].low_ms == NOW - 9_000


def test_records_without_timestamps_have_no_age() -> None:
    def ask(requests: Sequence[Mapping[Place, int]]) -> list[dict[Place, Mark]]:
        return [dict.fromkeys(asked, Mark(AFTER_END)) for asked in requests]

    found, _ = written_at(ask, {P: 3.0}, now_ms=NOW)
    assert math.isnan(found[P].low_ms)
    assert "no timestamps" in found[P].note


def test_partition_that_does_not_answer_costs_the_others_nothing() -> None:
    good, bad = ("t", 0), ("t", 1)
    log = Log({good: [NOW - 1_000 * n for n in range(100, 0, -1)]})

    def ask(requests: Sequence[Mapping[Place, int]]) -> list[dict[Place, Mark]]:
        return [
            {p: Mark(math.nan, error="leader gone") if p == bad else log.mark(p, moment)
             for p, moment in asked.items()}
            for asked in requests
        ]  # fmt: skip

    found, _ = written_at(ask, {good: 50.0, bad: 50.0}, now_ms=NOW + 60_000)
    assert found[good].low_ms == pytest.approx(NOW - 50_000, abs=PRECISION_MS)
    assert found[bad].note == "leader gone"


def test_log_end_before_the_oldest_record_is_unknown_unless_the_log_was_never_cut() -> None:
    marks = [(NOW, {P: Mark(40.0, NOW)}), (NOW + 1, {P: Mark(AFTER_END)})]
    cut = log_ends(marks, {P: Read(40.0)}, {P: Read(90.0)}, {})
    assert cut == [(NOW + 1, P, 90.0)]
    whole = log_ends([(NOW, {P: Mark(0.0, NOW)})], {P: Read(0.0)}, {P: Read(90.0)}, {})
    assert whole == [(NOW, P, 0.0)]


def test_moments_cover_the_window_and_get_fewer_with_many_partitions() -> None:
    few = sample_times(NOW - 3_600_000, NOW, 6)
    assert (few[0], few[-1], len(few)) == (NOW - 3_600_000, NOW, 61)
    assert len(sample_times(NOW - 3_600_000, NOW, 5_000)) == 13


def test_every_beginning_of_the_order_is_spread_over_the_window() -> None:
    order = coarse_first(list(range(61)))
    assert sorted(order) == list(range(61))
    first = sorted(order[:9])
    assert max(b - a for a, b in pairwise(first)) <= 12

"""When records were written, by ListOffsets alone: log ends of the past, age of what is unread.

``list_offsets(for_timestamp)`` gives the first record that is not older than a moment. Asked at
many moments it is the log-end history of every partition; bisected it is the age of the record a
group reads next (T6 of lag.md 2.5). Needs DESCRIBE, reads no record, and takes as many calls for
one partition as for a thousand.

It trusts the records' own timestamps and knows where they cannot be trusted: of a record that is
older than one before it only the newer time is seen, and what claims to be from the future, or was
written long after its timestamp, is said to be so and left out of the history.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lagkit.sources import Blind, Question
from lagkit.sources.kafka.errors import fault
from lagkit.sources.kafka.rows import NOT_ANSWERED, Place, Read
from lagkit.sources.kafka.session import Session

SAMPLES = 60
"""Moments of the window at which log ends are asked for: one a minute of the usual hour."""
MOST_CELLS = 60_000
"""Moments x partitions asked for at most; beyond it the moments get fewer."""
FEWEST_SAMPLES = 6
PLACES_PER_CALL = 1_000
CALLS_IN_FLIGHT = 4
"""Redpanda reads its disk to answer: a few calls at a time."""
PRECISION_MS = 500
"""Width at which the bisection ends."""
FIRST_REACH_MS = 60_000
REACH_GROWTH = 16
"""How far back the bisection looks first, and how much further each time it has to."""
MOST_ROUNDS = 60
CLOCK_ALLOWANCE_MS = 60_000
"""Clocks of producers, brokers and lagkit may differ by this without comment."""

AFTER_END = math.inf


@dataclass(frozen=True, slots=True)
class Mark:
    """The first record not older than a moment: offset, and its time in ms since 1970.

    Offset ``AFTER_END``: there is none. NaN with an error: not answered.
    """

    offset: float
    written_ms: float = math.nan
    error: str | None = None


Ask = Callable[[Sequence[Mapping[Place, int]]], Sequence[Mapping[Place, Mark]]]
"""Requests (place → ms since 1970) → the marks of each, in order."""


@dataclass(frozen=True, slots=True)
class Written:
    """When the record at a position was written, in ms since 1970.

    The truth lies in ``low_ms`` .. ``high_ms``; ``next_ms`` is the time of the first record that
    is known to come after the position (NaN: none known), which bounds it where compaction has
    removed the record itself. NaN throughout, with a note, where it is not known.
    """

    low_ms: float
    high_ms: float
    next_ms: float = math.nan
    note: str = ""


@dataclass(slots=True)
class _Search:
    """The bisection of one partition: offset(low) <= position < offset(high)."""

    position: float
    low: int | None = None
    high: int | None = None
    next_ms: float = math.nan
    reach: int = FIRST_REACH_MS
    done: Written | None = None

    def next_moment(self, now_ms: int) -> int:
        """Return the time to ask about next, ms; looking back further each time."""
        if self.high is None:
            return now_ms
        if self.low is None:
            moment = max(0, self.high - self.reach)
            self.reach *= REACH_GROWTH
            return moment
        return (self.low + self.high) // 2

    def learn(self, asked: int, mark: Mark) -> None:
        """Narrow the bracket by what was found at *asked*."""
        if math.isnan(mark.offset):
            self.done = Written(math.nan, math.nan, note=mark.error or "not answered")
        elif mark.offset == self.position:
            self.done = Written(mark.written_ms, mark.written_ms, mark.written_ms)
        elif mark.offset < self.position:
            if self.high is None:
                note = "an earlier record claims to be from the future"
                self.done = Written(mark.written_ms, mark.written_ms, note=note)
                return
            # a record at or before the position has this time, so the running maximum has too
            self.low = min(max(asked, int(mark.written_ms), self.low or 0), self.high)
        else:
            first = self.low is None and asked == 0
            if first and mark.offset == AFTER_END:
                note = "the records carry no timestamps"
                self.done = Written(math.nan, math.nan, note=note)
                return
            if first:
                # nothing is left at or before the position: the next record is the oldest unread
                self.done = Written(mark.written_ms, mark.written_ms, mark.written_ms)
                return
            self.high = asked if self.high is None else min(self.high, asked)
            self.next_ms = mark.written_ms
        if self.low is not None and self.high is not None and self.high - self.low <= PRECISION_MS:
            self.done = Written(float(self.low), float(self.high), self.next_ms)


def written_at(
    ask: Ask,
    positions: Mapping[Place, float],
    *,
    now_ms: int,
    known: Iterable[tuple[int, Mapping[Place, Mark]]] = (),
) -> tuple[dict[Place, Written], int]:
    """Return when the record at each position was written, and the rounds it took.

    Parameters
    ----------
    ask
        Looks offsets up; called once a round, for every partition that is not settled.
    positions
        Offset of the next record to be read, below the log end and not below the log start.
    now_ms
        Newest time a record is expected to have, ms since 1970.
    known
        What was found before (time in ms → marks), to begin with a narrow bracket.

    The largest T with offset(T) <= position, to half a second. With timestamps that rise along the
    log that is the record's own time; else it is the newest time up to there, so an age from it is
    never too large because of a record that was written late.
    """
    searches = {place: _Search(position) for place, position in sorted(positions.items())}
    for moment, marks in sorted(known, key=lambda item: -item[0]):
        for place, search in searches.items():
            mark = marks.get(place)
            if search.done is None and search.low is None and mark is not None:
                usable = not math.isnan(mark.offset) and moment <= now_ms
                if usable and (search.high is not None or mark.offset > search.position):
                    search.learn(moment, mark)
    rounds = 0
    while rounds < MOST_ROUNDS:
        open_ = {place: search for place, search in searches.items() if search.done is None}
        if not open_:
            break
        rounds += 1
        wanted = {place: search.next_moment(now_ms) for place, search in open_.items()}
        (marks,) = ask([wanted])
        for place, search in open_.items():
            search.learn(wanted[place], marks.get(place, Mark(math.nan, error="not answered")))
    unsettled = Written(math.nan, math.nan, note=f"not found in {MOST_ROUNDS} rounds")
    return {place: search.done or unsettled for place, search in searches.items()}, rounds


def sample_times(start_ms: int, end_ms: int, places: int) -> list[int]:
    """Return the moments at which log ends are asked for, ascending, the window's ends included."""
    count = int(min(SAMPLES, max(FEWEST_SAMPLES, MOST_CELLS // max(1, places))))
    width = max(1, end_ms - start_ms)
    return sorted({start_ms + round(width * number / count) for number in range(count + 1)})


def coarse_first(times: Sequence[int]) -> list[int]:
    """Return *times* in an order of which every beginning is spread over the whole."""
    if not times:
        return []
    bits = max(1, (len(times) - 1).bit_length())
    order = sorted(range(len(times)), key=lambda n: int(f"{n:0{bits}b}"[::-1], 2))
    order.remove(len(times) - 1)
    return [times[-1], *(times[n] for n in order)]


def log_ends(
    marks: Iterable[tuple[int, Mapping[Place, Mark]]],
    starts: Mapping[Place, Read],
    ends: Mapping[Place, Read],
    untrusted_from: Mapping[Place, float],
) -> list[tuple[int, Place, float]]:
    """Return (time in ms, place, log end then), sorted, where it is known.

    Parameters
    ----------
    marks
        What was found at each moment.
    starts, ends
        Log start and end as read just before; a moment after the last record has this end.
    untrusted_from
        Offset from which a partition's timestamps say nothing (0: all of it).

    At a moment before the oldest record that is left, the log end is unknown: it lay somewhere
    below the log start. Only in a log that was never cut (start 0) was it 0.
    """
    found = []
    for moment, at in sorted(marks, key=lambda item: item[0]):
        for place, mark in sorted(at.items()):
            start, end = starts.get(place, Read(math.nan)), ends.get(place, Read(math.nan))
            offset = end.offset if mark.offset == AFTER_END else mark.offset
            if math.isnan(offset) or math.isnan(start.offset):
                continue
            before_all = offset <= start.offset and start.offset > 0
            if before_all or offset >= untrusted_from.get(place, AFTER_END):
                continue
            found.append((moment, place, offset))
    return found


# -- on the broker --------------------------------------------------------------------------------


class Lookup:
    """Offsets by timestamp from the broker: a few calls at a time, counted."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.calls = 0
        self.errors: set[str] = set()

    def __call__(self, requests: Sequence[Mapping[Place, int]]) -> list[dict[Place, Mark]]:
        """Return the marks of each of *requests*, in order."""
        answers: list[dict[Place, Mark]] = [{} for _ in requests]
        calls = [
            (number, dict(items[begin : begin + PLACES_PER_CALL]))
            for number, request in enumerate(requests)
            for items in [sorted(request.items())]
            for begin in range(0, len(items), PLACES_PER_CALL)
        ]
        for begin in range(0, len(calls), CALLS_IN_FLIGHT):
            batch = self._batch(calls[begin : begin + CALLS_IN_FLIGHT])
            for number, marks in batch:
                answers[number].update(marks)
            if not any(mark.error is None for _, marks in batch for mark in marks.values()):
                # a broker that is silent now would cost a timeout each time
                for number, request in calls[begin + CALLS_IN_FLIGHT :]:
                    answers[number].update(_unanswered(request, "not asked after that"))
                break
        return answers

    def _batch(
        self, calls: Sequence[tuple[int, Mapping[Place, int]]]
    ) -> list[tuple[int, dict[Place, Mark]]]:
        from confluent_kafka import KafkaException, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        session = self._session
        client = session.client
        if client is None or session.deadline.passed:
            why = f"the budget of {session.deadline.seconds:g} s was spent"
            if client is None:
                why = "the connection was being made anew"
            self.errors.add(why)
            return [(number, _unanswered(request, why)) for number, request in calls]
        seconds = session.timeout()
        until = time.monotonic() + seconds
        sent: list[tuple[int, Mapping[Any, Any]]] = []
        for number, request in calls:
            asked = {
                TopicPartition(topic, partition): OffsetSpec.for_timestamp(max(0, moment))
                for (topic, partition), moment in request.items()
            }
            self.calls += 1
            sent.append((number, client.list_offsets(asked, request_timeout=seconds)))
        answers = []
        for number, futures in sent:
            marks = {}
            for at, future in futures.items():
                try:
                    found = session.wait(future, max(0.0, until - time.monotonic()))
                    if found.offset == NOT_ANSWERED:
                        raise TimeoutError
                    offset = float(found.offset) if found.offset >= 0 else AFTER_END
                    mark = Mark(offset, float(found.timestamp) if found.offset >= 0 else math.nan)
                except (KafkaException, TimeoutError) as error:
                    why = session.text(fault(error, seconds)[1])
                    self.errors.add(why)
                    mark = Mark(math.nan, error=why)
                marks[at.topic, at.partition] = mark
            answers.append((number, marks))
        return answers


def _unanswered(request: Mapping[Place, int], why: str) -> dict[Place, Mark]:
    return dict.fromkeys(request, Mark(math.nan, error=why))


@dataclass(frozen=True, slots=True)
class LogTimes:
    """What the timestamps of the logs have told: marks by moment, and where they are not clocks."""

    marks: tuple[tuple[int, Mapping[Place, Mark]], ...] = ()
    untrusted_from: Mapping[Place, float] = field(default_factory=dict)


def read_log_ends(
    session: Session,
    places: Sequence[Place],
    starts: Mapping[Place, Read],
    ends: Mapping[Place, Read],
    read_at: pd.Timestamp,
) -> LogTimes:
    """Ask for the log ends of the window; give frame ``log_end_history``.

    *starts* and *ends* are those of the first snapshot, read at *read_at*.
    """
    wanted = [p for p in places if ends.get(p, Read(math.nan)).offset > 0]
    if not wanted:
        return LogTimes()
    now_ms = _milliseconds(read_at)
    last = min(_milliseconds(session.scope.end), now_ms)
    times = sample_times(_milliseconds(session.scope.start), last, len(wanted))
    marks: list[tuple[int, Mapping[Place, Mark]]] = []
    untrusted: dict[Place, float] = {}

    def work(question: Question) -> None:
        look_up = Lookup(session)
        order = coarse_first(times)
        asked = [now_ms + CLOCK_ALLOWANCE_MS, *order]
        found = look_up([dict.fromkeys(wanted, moment) for moment in asked])
        untrusted.update(
            {place: mark.offset for place, mark in found[0].items() if mark.offset < AFTER_END}
        )
        marks.extend(zip(asked, found, strict=True))
        rows = [
            {
                "timestamp": pd.Timestamp(moment, unit="ms", tz="UTC"),
                "topic": place[0],
                "partition": place[1],
                "log_end_offset": offset,
                "query_id": question.query_id,
            }
            for moment, place, offset in log_ends(marks[1:], starts, ends, untrusted)
        ]
        question.rows = len(rows)
        session.found.add("log_end_history", rows)
        if look_up.errors:
            question.outcome = "partial" if rows else "failed"
            question.detail = session.text("; ".join(sorted(look_up.errors)))
            session.blind(
                Blind(
                    "log ends of the past",
                    session.text(
                        f"{sum(m.error is not None for _, at in marks for m in at.values())} of "
                        f"{len(times)} moments x {len(wanted)} partitions are missing: "
                        f"{min(look_up.errors)}"
                    ),
                )
            )

    session.ask(
        f"list_offsets(for_timestamp) of {len(wanted)} partitions at {len(times)} times",
        work,
        what="log ends of the past",
    )
    if untrusted:
        session.blind(
            Blind(
                "log ends of the past",
                f"{_named(untrusted)}: a record there claims to be from the future, so later "
                "production cannot be told by time",
                "Mend the clock of its producer, or set message.timestamp.type=LogAppendTime.",
            )
        )
    return LogTimes(tuple(marks), untrusted)


def read_ages(
    session: Session,
    committed: Mapping[Place, Read],
    starts: Mapping[Place, Read],
    ends: Mapping[Place, Read],
    at: pd.Timestamp,
    told: LogTimes,
    before: Mapping[Place, Read],
    before_at: pd.Timestamp,
) -> None:
    """Find how old the oldest unread record of each partition is; give ``oldest_unread``.

    *committed*, *starts* and *ends* are those of the last snapshot, taken *at*; *before* are the
    log ends of the first one: what was written since must carry the clock's time.
    """
    asked_ms = _milliseconds(at)
    positions: dict[Place, float] = {}
    notes: dict[Place, str] = {}
    for place, commit in sorted(committed.items()):
        start, end = starts.get(place, Read(math.nan)), ends.get(place, Read(math.nan))
        if math.isnan(commit.offset):
            notes[place] = commit.error or "no commit"
        elif math.isnan(end.offset) or math.isnan(start.offset):
            notes[place] = end.error or start.error or "log start or end not known"
        elif commit.offset > end.offset:
            notes[place] = "committed beyond the log end: the topic was made anew or cut"
        elif commit.offset >= end.offset or start.offset >= end.offset:
            notes[place] = ""
        else:
            positions[place] = max(commit.offset, start.offset)
            below = commit.offset < start.offset
            notes[place] = "committed below the log start: the oldest still there" if below else ""
    found: dict[Place, Written] = {}
    late: set[Place] = set()
    query_id = ""

    def work(question: Question) -> None:
        nonlocal query_id
        query_id = question.query_id
        look_up = Lookup(session)
        risen = {p: r.offset for p, r in before.items() if p in ends and ends[p].offset > r.offset}
        if risen:
            moment = _milliseconds(before_at) - CLOCK_ALLOWANCE_MS
            (marks,) = look_up([dict.fromkeys(risen, moment)])
            late.update(p for p, mark in marks.items() if mark.offset > risen[p])
        answer, rounds = written_at(
            look_up, positions, now_ms=asked_ms + CLOCK_ALLOWANCE_MS, known=told.marks
        )
        found.update(answer)
        question.rows = sum(not math.isnan(written.low_ms) for written in found.values())
        question.detail = f"{rounds} rounds, {look_up.calls} calls"
        if look_up.errors:
            question.outcome = "partial" if question.rows else "failed"
            question.detail = session.text("; ".join([question.detail, *sorted(look_up.errors)]))

    session.ask(
        f"list_offsets(for_timestamp) of {len(positions)} partitions, bisected to the oldest "
        "unread record",
        work,
        what="age of the oldest unread record",
    )
    compacted = _compacted(session)
    if not query_id:  # the budget was spent; that has been said
        return
    session.found.add(
        "oldest_unread",
        [
            _age_row(session, place, positions.get(place), committed[place], found.get(place),
                     at, _notes(place, notes[place], found, late, compacted), query_id)
            for place in sorted(notes)
        ],
    )  # fmt: skip
    if late:
        _distrust(session, late)
    if beyond := [
        p for p, commit in committed.items() if p in ends and commit.offset > ends[p].offset
    ]:
        session.blind(
            Blind(
                f"lag of {len(beyond)} of {len(committed)} partitions",
                f"{_named(beyond)}: the committed offset lies beyond the log end, as after a topic "
                "was deleted and made anew, or a log was cut; the next fetch resets it",
                "Look up auto.offset.reset of the consumers, then seek where they should go on.",
            )
        )


def _notes(
    place: Place,
    note: str,
    found: Mapping[Place, Written],
    late: set[Place],
    compacted: set[str],
) -> str:
    said = [note]
    if place in found:
        said.append(found[place].note)
        if place[0] in compacted:
            said.append("compacted topic: at most so old")
    if place in late:
        said.append("records carry older times than when they were written")
    return "; ".join(text for text in said if text)


def _age_row(
    session: Session,
    place: Place,
    position: float | None,
    commit: Read,
    written: Written | None,
    at: pd.Timestamp,
    note: str,
    query_id: str,
) -> dict[str, Any]:
    age, oldest, newest = math.nan, None, None
    if position is None and not note:
        age = 0.0
    elif written is not None and not math.isnan(written.low_ms):
        age = max(0.0, (_milliseconds(at) - written.low_ms) / 1000)
        oldest = pd.Timestamp(round(written.low_ms), unit="ms", tz="UTC")
        upper = written.high_ms if math.isnan(written.next_ms) else written.next_ms
        newest = pd.Timestamp(round(max(upper, written.low_ms)), unit="ms", tz="UTC")
    return {
        "timestamp": at,
        "group": session.scope.group,
        "topic": place[0],
        "partition": place[1],
        "next_offset": commit.offset if position is None else position,
        "written_at": oldest,
        "written_before": newest,
        "time_lag_seconds": age,
        "note": note or None,
        "query_id": query_id,
    }


def _distrust(session: Session, late: set[Place]) -> None:
    """Take back the log ends of partitions whose records carry other times than the clock's."""
    rows = session.found.rows.get("log_end_history", [])
    session.found.rows["log_end_history"] = [
        row for row in rows if (row["topic"], row["partition"]) not in late
    ]
    session.blind(
        Blind(
            "log ends of the past",
            f"{_named(late)}: records written while lagkit watched carry times over "
            f"{CLOCK_ALLOWANCE_MS // 1000} s older, as of a replay or a mirror; production over "
            "time cannot be told by them",
            "Set message.timestamp.type=LogAppendTime on the topic, or configure Prometheus.",
        )
    )


def _compacted(session: Session) -> set[str]:
    return {
        row["name"]
        for row in session.found.rows.get("configs", [])
        if row["resource"] == "topic"
        and row["key"] == "cleanup.policy"
        and "compact" in str(row["value"])
    }


def _named(places: Iterable[Place]) -> str:
    listed = [f"{topic}[{partition}]" for topic, partition in sorted(places)]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _milliseconds(moment: pd.Timestamp) -> int:
    return round(moment.timestamp() * 1000)

"""The catch-up look by look, on queues whose true end is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lagkit import frames
from lagkit.render import progress as view
from lagkit.watching import UNTOUCHED_SECONDS, Watch

START = pd.Timestamp("2026-11-23T02:00:00Z").as_unit("us")
TOPIC, GROUP = "deploy-requests", "deployment-worker"


def watch(**changes) -> Watch:
    options = {"promise_seconds": 5.0, "interval_seconds": 2.0, "worse_after_seconds": 20.0}
    return Watch(GROUP, **(options | changes))


def at(seconds: float) -> pd.Timestamp:
    return START + pd.Timedelta(seconds, "s")


def look(watching: Watch, seconds: float, places, *, owners=None, members=2, topic=TOPIC):
    """Add a look; *places* are (committed, end[, start]) per partition."""
    rows = [
        {
            "timestamp": at(seconds),
            "group": GROUP,
            "topic": topic,
            "partition": number,
            "committed_offset": float(place[0]),
            "log_end_offset": float(place[1]),
            "log_start_offset": float(place[2]) if len(place) > 2 else 0.0,
            "query_id": "kafka-01",
        }
        for number, place in enumerate(places)
    ]
    table = frames.normalise("offsets", rows)
    names = {(topic, n): name for n, name in enumerate(owners or ["a"] * len(places))}
    return watching.add(at(seconds), table, state="Stable", members=members, owners=names)


def drained(watching: Watch, *, lag=6000.0, read=100.0, written=20.0, commit=20.0, until=400):
    """Drain one partition; return every progress and when it was truly within the promise."""
    found, end = [], None
    for seconds in np.arange(0.0, until, watching.interval_seconds):
        ends = 10_000 + written * seconds
        committed = min(np.floor((10_000 - lag + read * seconds) / commit) * commit, ends)
        progress = look(watching, seconds, [(committed, np.floor(ends))])
        found.append(progress)
        if end is None and (ends - committed) <= written * watching.promise_seconds:
            end = at(seconds)
        if watching.outcome():
            break
    return found, end


def test_the_interval_of_the_eta_holds_the_true_end_at_every_look():
    watching = watch()
    found, end = drained(watching)
    assert watching.outcome() == "caught_up"
    told = [progress for progress in found if progress.eta is not None]
    assert len(told) > 20
    assert all(progress.eta.low <= end <= progress.eta.high for progress in told)
    middle = told[len(told) // 2]
    assert (middle.eta.high - middle.eta.low).total_seconds() < 30


def test_partitions_that_one_member_reads_in_turns_are_one_queue():
    watching = watch()
    total, told, end = 0.0, [], None
    for seconds in range(0, 300, 2):
        total = min(80.0 * seconds, 12_000.0)
        parts = [min(max(total - 4000.0 * n, 0.0), 4000.0) for n in range(3)]
        progress = look(watching, seconds, [(part, 4000) for part in parts])
        if end is None and total >= 12_000:
            end = at(seconds)
        if progress.eta is not None:
            told.append(progress)
        assert not progress.stuck
        if watching.outcome():
            break
    assert watching.outcome() == "caught_up"
    assert all(progress.eta.low <= end <= progress.eta.high for progress in told)
    assert any(part.state == "waiting" for part in told[40].partitions)


def test_a_partition_that_stands_still_is_named_with_its_offset_and_there_is_no_eta():
    watching = watch()
    for seconds in range(0, 120, 2):
        progress = look(
            watching,
            seconds,
            [(500 + 50 * seconds, 40_000), (7777, 9000 + seconds)],
            owners=["a", "b"],
        )
    assert [part.place for part in progress.stuck] == [f"{TOPIC}/1"]
    assert progress.eta is None
    assert progress.eta_note == f"never while partition {TOPIC}/1 stands still"
    assert f"{TOPIC}/1 at offset 7777" in view.line(progress)


def test_a_backlog_that_grows_is_given_up_after_its_time_and_not_before():
    watching = watch(worse_after_seconds=20.0)
    outcomes = []
    for seconds in range(0, 80, 2):
        look(watching, seconds, [(100 + 10 * seconds, 5000 + 60 * seconds)])
        outcomes.append(watching.outcome())
    worse = outcomes.index("worse") * 2
    assert 20 <= worse <= 40
    assert set(outcomes[: worse // 2]) == {None}


def test_a_failed_look_says_so_keeps_the_numbers_and_judges_nothing():
    watching = watch()
    before = look(watching, 0, [(100, 100)])
    assert before.caught_up
    blind = watching.add(at(2), frames.empty("offsets"), fault="no answer within 5.0 s")
    assert (blind.caught_up, blind.growing, watching.outcome()) == (False, False, None)
    assert "NOT SEEN: no answer within 5.0 s" in view.line(blind)
    look(watching, 4, [(100, 100)])
    assert watching.outcome() is None
    look(watching, 6, [(100, 100)])
    assert watching.outcome() == "caught_up"


def test_records_without_a_commit_are_waited_for_before_it_is_called_over():
    nan = float("nan")
    watching = watch()
    for seconds in range(0, int(UNTOUCHED_SECONDS) + 10, 2):
        progress = look(watching, seconds, [(100, 100), (nan, 900)])
        if watching.outcome():
            break
    assert seconds >= UNTOUCHED_SECONDS
    assert progress.untouched_messages == 900
    assert "and up to 900 where it has no commit yet" in view.line(progress)


def test_empty_partitions_without_a_commit_are_not_waited_for():
    watching = watch()
    for seconds in (0, 2):
        look(watching, seconds, [(100, 100), (float("nan"), 900, 900)])
    assert watching.outcome() == "caught_up"


def test_the_deadline_comes_from_the_retention():
    watching = watch(retention_ms={TOPIC: 600_000})
    for seconds in range(0, 40, 2):
        progress = look(watching, seconds, [(100, 5000 + 60 * seconds)], members=0)
    assert progress.loss is not None
    assert progress.loss.rule == "time"
    assert at(500) < progress.loss.at <= at(660)
    assert "nobody reads" in view.line(progress)


def test_records_deleted_unread_are_lost_and_never_caught_up():
    watching = watch()
    for seconds in range(0, 20, 2):
        progress = look(watching, seconds, [(100, 5000, 700)])
    assert progress.partitions[0].state == "lost"
    assert progress.loss.already_lost == 600
    assert watching.outcome() is None


def test_a_hostile_topic_cannot_move_the_cursor():
    watching = watch()
    for seconds in range(0, 120, 2):
        progress = look(watching, seconds, [(5, 900 + seconds)], topic="\x1b[2Jevil\n")
    text = view.line(progress)
    assert "evil" in text
    assert "\x1b" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("value", "most", "shown"),
    [(0, 10, "    "), (10, 10, "████"), (5, 10, "██  "), (0.001, 10, "▏   "), (20, 10, "████")],
)
def test_a_bar_shows_anything_above_nothing_and_no_more_than_all(value, most, shown):
    assert view.bar(value, most, 4) == shown
    assert view.bar(float("nan"), most, 4) == "    "


def test_the_screen_fits_and_puts_the_stuck_first():
    from rich.console import Console

    watching = watch()
    for seconds in range(0, 120, 2):
        places = [(500 + 50 * seconds, 40_000)] * 30 + [(7777, 9000 + seconds)]
        progress = look(watching, seconds, places, owners=["a"] * 30 + ["b"])
    console = Console(width=80, height=24, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(view.screen(progress, height=24, width=80, heading="h"))
    lines = shown.get().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "STUCK" in next(line for line in lines if f"{TOPIC}/30" in line and "never" not in line)
    assert "more partitions that lag less" in lines[-1]

"""A consumer is stopped on the real broker: it catches up when the arithmetic said it would."""

from __future__ import annotations

from lab.capacity import drain
from lab.stack import Stack

from .conftest import require

TRIES = 3
ENOUGH = 2
"""An interval of 95 % misses one drain in twenty: two of three must lie in theirs."""


def test_stops_are_worked_off_within_the_predicted_interval(stack: Stack) -> None:
    require(stack, "kafka")
    held, told = 0, []
    for _ in range(TRIES):
        done = drain.experiment(stack.kafka.bootstrap)
        told.append(drain.report(done))
        assert done.stop > drain.STOP_SECONDS / 2, told
        # an interval that holds anything would confirm nothing
        assert done.predicted[1] < 2 * done.stop, told
        held += (
            done.predicted[0] <= done.observed <= done.predicted[1]
            and done.oldest_predicted[0] <= done.oldest_observed <= done.oldest_predicted[1]
        )
        if held == ENOUGH:
            return
    raise AssertionError(told)

"""A consumer is stopped on the real broker: it catches up when the arithmetic said it would."""

from __future__ import annotations

from lab.capacity import drain
from lab.stack import Stack

from .conftest import require


def test_a_stop_is_worked_off_within_the_predicted_interval(stack: Stack) -> None:
    require(stack, "kafka")
    done = drain.experiment(stack.kafka.bootstrap)
    text = drain.report(done)
    assert done.stop > drain.STOP_SECONDS / 2, text
    assert done.predicted[0] <= done.observed <= done.predicted[1], text
    assert done.oldest_predicted[0] <= done.oldest_observed <= done.oldest_predicted[1], text
    # an interval that holds anything would confirm nothing
    assert done.predicted[1] < 2 * done.stop, text

"""Each fault does to the real lab what its scenario says; what lagkit says to it is elsewhere."""

from __future__ import annotations

import pytest

from lab import scenarios
from lab.stack import Stack

from .conftest import require

BASELINE_SECONDS = 5
HOLD_SECONDS = 30  # above the workers' session timeout and a crash loop's first pause
PRODUCED = int(scenarios.RATE * HOLD_SECONDS)


@pytest.fixture
def lab(stack: Stack) -> Stack:
    for part in ("kafka", "toxiproxy", "kubernetes"):
        require(stack, part)
    return stack


def inject(lab: Stack, name: str):
    return scenarios.live(lab, name, baseline_seconds=BASELINE_SECONDS, hold_seconds=HOLD_SECONDS)


def neighbour_lag(lab: Stack) -> int:
    view = scenarios.group_view(
        lab.kafka.bootstrap, scenarios.NEIGHBOUR_GROUP, scenarios.NEIGHBOUR_TOPIC
    )
    return view.total_lag


def test_slow_awx_makes_lag_while_the_group_stays_whole(lab: Stack) -> None:
    with inject(lab, "slow_processing_awx"):
        view = scenarios.group_view(lab.kafka.bootstrap)
        assert (view.state, view.members) == ("STABLE", 3)
        assert view.total_lag > PRODUCED / 2
        assert neighbour_lag(lab) < scenarios.WELL_LAG
        assert [pod["restarts"] for pod in scenarios.pods(lab)] == [0, 0, 0]


def test_bad_release_leaves_pods_in_a_crash_loop(lab: Stack) -> None:
    with inject(lab, "consumer_down_crash_loop"):
        listed = scenarios.pods(lab)
        assert {pod["exit_code"] for pod in listed} == {1}
        assert min(pod["restarts"] for pod in listed) >= 1
        last = scenarios.pod_log(lab, listed[0]["name"], previous=True)
        assert "missing AWX_TOKEN" in last
        assert scenarios.group_view(lab.kafka.bootstrap).total_lag > PRODUCED / 2


def test_bad_record_holds_exactly_its_partition(lab: Stack) -> None:
    with inject(lab, "poison_message_retry") as injected:
        view = scenarios.group_view(lab.kafka.bootstrap)
        stuck = injected.fault["partition"]
        assert view.committed[stuck] == injected.fault["offset"]
        others = sum(lag for partition, lag in view.lag.items() if partition != stuck)
        assert others < scenarios.WELL_LAG
        assert (view.state, view.members) == ("STABLE", 3)


def test_blackhole_empties_the_group_while_its_pods_run_on(lab: Stack) -> None:
    with inject(lab, "network_blackhole"):
        view = scenarios.group_view(lab.kafka.bootstrap)
        assert view.members == 0
        assert neighbour_lag(lab) < scenarios.WELL_LAG
        listed = scenarios.pods(lab)
        assert [pod["phase"] for pod in listed] == ["Running"] * 3
        assert [pod["restarts"] for pod in listed] == [0, 0, 0]

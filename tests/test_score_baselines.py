"""What the other contestants say: each is right where it should be and wrong where it must be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import lagkit as lk
from lab.score.baro import CAUSE_OF, baro, metrics
from lab.score.baselines import BASELINES, CLASSES, NAMED, TREES, Seen, named, see
from lab.score.logistic import Example, judge

RECORDED = Path(__file__).parent / "data" / "incidents"

CALM = Seen(
    produced_ratio=1.0,
    produced_top_share=0.17,
    consumed_ratio=1.0,
    lag_now=600.0,
    lag_least=90.0,
    lag_most=110.0,
    lag_sigmas=1.2,
    lag_slope=5.0,
    lag_falls=False,
    lagging=6,
    partitions=6,
    burrow=("OK",) * 6,
    retention_share=0.1,
    stale_seconds=5.0,
    members_now=3.0,
    members_before=3.0,
    state="Stable",
    state_changes=0,
    others_lag=False,
    idle=0.95,
    latency=0.01,
    throttled=False,
    under_replicated=False,
    pods_not_running=False,
    decoding_errors=False,
    transport_errors=False,
    downstream_slow=False,
    stable_offset_pinned=False,
)


def says(name: str, **seen: object) -> str:
    told = BASELINES[name](dataclasses.replace(CALM, **seen))
    return max(told, key=lambda cause: told[cause])


@pytest.mark.parametrize(
    ("name", "seen", "told"),
    [
        ("runbook order", {}, "consumer_down"),
        ("runbook checklist, first match", {"under_replicated": True}, "broker_overload"),
        ("runbook checklist, first match", {"pods_not_running": True}, "consumer_down"),
        ("runbook checklist, first match", {"downstream_slow": True}, "slow_processing"),
        ("AWS decision tree", {"others_lag": True, "idle": 0.2}, "broker_overload"),
        ("AWS decision tree", {"others_lag": True, "throttled": True}, "quota_throttled"),
        ("AWS decision tree", {"lagging": 1, "produced_top_share": 0.7}, "key_skew"),
        ("AWS decision tree", {"lagging": 1, "decoding_errors": True}, "poison_message"),
        ("AWS decision tree", {"state": "PreparingRebalance"}, "rebalancing"),
        ("AWS decision tree", {"stable_offset_pinned": True}, "hung_transaction"),
        ("AWS decision tree", {"lag_falls": True}, "none"),
        ("Netdata decision tree", {"state": "Empty"}, "consumer_down"),
        ("Netdata decision tree", {"state": "PreparingRebalance"}, "rebalancing"),
        ("Netdata decision tree", {}, "slow_processing"),
        ("Netdata decision tree", {"consumed_ratio": 2.0}, "message_spike"),
        ("Burrow status", {"burrow": ("STOP",) * 6}, "consumer_down"),
        ("Burrow status", {"burrow": ("STALL", *("OK",) * 5)}, "poison_message"),
        ("Burrow status", {"burrow": ("REWIND", *("WARN",) * 5)}, "offset_reset"),
        ("klag diagnose", {"state_changes": 3}, "rebalancing"),
        ("klag diagnose", {"retention_share": 1.0, "state": "Empty"}, "retention_loss"),
        ("klag diagnose", {"lag_sigmas": 2.1}, "key_skew"),
        ("klag diagnose", {"stale_seconds": 300.0}, "poison_message"),
        ("klag diagnose", {"lag_slope": -1.0}, "none"),
        ("kafka-dataops-mcp rules", {"members_now": 0.0}, "consumer_down"),
        ("kafka-dataops-mcp rules", {"lag_least": 5.0}, "key_skew"),
        ("kafka-dataops-mcp rules", {}, "unknown"),
    ],
)
def test_a_baseline_names_what_its_source_says(name, seen, told):
    assert says(name, **seen) == told


@pytest.mark.parametrize(
    ("name", "truth", "seen"),
    [
        ("runbook order", "network", {"transport_errors": True}),
        # a crash loop reads as pods that do not run, whatever record they die of
        (
            "runbook checklist, first match",
            "poison_message",
            {"pods_not_running": True, "decoding_errors": True},
        ),
        # members that leave because they are slow look like a storm
        ("AWS decision tree", "slow_processing", {"state_changes": 4, "downstream_slow": True}),
        # a cut network leaves the group as empty as a crash
        ("Netdata decision tree", "network", {"state": "Empty", "transport_errors": True}),
        ("Burrow status", "network", {"burrow": ("STOP",) * 6, "transport_errors": True}),
        ("klag diagnose", "message_spike", {"produced_ratio": 12.0}),
        ("kafka-dataops-mcp rules", "slow_processing", {"downstream_slow": True}),
    ],
)
def test_a_baseline_is_wrong_where_its_source_is_silent(name, truth, seen):
    assert says(name, **seen) != truth


def test_every_baseline_has_a_case_it_gets_wrong_and_the_trees_are_among_them():
    assert set(TREES) <= set(BASELINES)


def test_what_is_named_second_comes_second_and_all_sums_to_one():
    told = named("key_skew", "consumer_down")
    assert told["key_skew"] == NAMED > told["consumer_down"] > told["network"] > 0
    assert sum(told.values()) == pytest.approx(1)
    assert set(named("network")) == set(CLASSES)


@pytest.fixture(scope="module")
def spike() -> lk.Result:
    return lk.investigate(lk.open(RECORDED / "message_spike.otel.lagkit"))


@pytest.fixture(scope="module")
def cut() -> lk.Result:
    return lk.investigate(lk.open(RECORDED / "network_blackhole.otel.lagkit"))


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_baseline_gives_probabilities_that_sum_to_one(name, cut):
    assert sum(BASELINES[name](see(cut)).values()) == pytest.approx(1)


def test_what_the_trees_ask_for_is_read_off_the_frames(spike, cut):
    seen = see(spike)
    assert seen.produced_ratio > 5
    assert seen.partitions == seen.lagging == 6
    assert not seen.lag_falls
    assert see(cut).transport_errors
    assert not seen.pods_not_running


def test_baro_finds_the_spike_in_the_metric_that_rose_most(spike):
    told = baro(spike)
    assert max(told, key=lambda cause: told[cause]) == "message_spike"


def test_baro_cannot_name_a_network_that_no_metric_sees(cut):
    assert "network" not in CAUSE_OF.values()
    told = baro(cut)
    assert max(told, key=lambda cause: told[cause]) != "network"


def test_baro_is_given_only_metrics_of_its_map_and_never_the_lag_itself(spike):
    columns = set(metrics(spike).columns) - {"time"}
    assert columns <= set(CAUSE_OF)
    assert not any(name.startswith("lag_") for name in columns)


def test_baro_without_an_onset_says_that_it_does_not_know(spike):
    flow = dataclasses.replace(spike.flow, onset=None)
    assert baro(dataclasses.replace(spike, flow=flow)) == named("unknown")


SLOW = {"downstream_slow": "present", "production_spike": "absent"}
RISEN = {"downstream_slow": "absent", "production_spike": "present"}
LEARNED = [
    *(Example(f"slow.{n}", SLOW, "slow_processing") for n in range(4)),
    *(Example(f"spike.{n}", RISEN, "message_spike") for n in range(4)),
]


def test_the_regression_learns_what_its_examples_show():
    told = judge("new", SLOW, LEARNED)
    assert max(told, key=lambda cause: told[cause]) == "slow_processing"
    assert sum(told.values()) == pytest.approx(1)
    assert told["network"] == 0, "a class it never saw is impossible to it"


def test_the_regression_is_wrong_where_the_evidence_is_like_another_cause():
    told = judge("new", RISEN, LEARNED)
    assert max(told, key=lambda cause: told[cause]) != "broker_overload"


def test_the_regression_has_not_seen_the_script_that_it_judges():
    odd = Example("odd", {"heartbeat_lost": "present"}, "network")
    seen = judge("another", odd.outcomes, [*LEARNED, odd])
    assert max(seen, key=lambda cause: seen[cause]) == "network"
    assert judge("odd", odd.outcomes, [*LEARNED, odd])["network"] == 0


def test_the_regression_without_examples_of_two_classes_is_flat():
    told = judge("slow.0", SLOW, [LEARNED[0], LEARNED[4]])
    assert set(told.values()) == {1 / len(CLASSES)}

"""Demand and supply: what rose, what fell, and what cannot be told."""

from __future__ import annotations

from dataclasses import replace

import incidents
import numpy as np
import pandas as pd
import pytest

from lagkit import frames
from lagkit.signals import rates


def flows(kind: str) -> dict:
    return incidents.checks(rates.demand_and_supply, incidents.make(kind))


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("calm", set()),
        (
            "spike",
            {"production_spike", "production_multiplied", "consumption_at_capacity"},
        ),
        ("slow", {"consumption_slowed"}),
        ("down", {"consumption_stopped"}),
        ("network", {"consumption_stopped"}),
        ("throttled", {"consumption_slowed"}),
    ],
)
def test_supply_and_demand_are_told_apart(kind, seen):
    assert {name for name, check in flows(kind).items() if check.outcome == "present"} == seen


def test_a_spike_is_told_with_both_rates_and_the_time_it_began():
    finding = flows("spike")["production_spike"].findings[0]
    assert finding.baseline == pytest.approx(12, rel=0.1)
    assert finding.value == pytest.approx(144, rel=0.15)
    fault = incidents.moment(incidents.FAULT)
    assert abs(finding.onset - fault) <= pd.Timedelta("45s")
    assert finding.query == "prometheus-01"


def test_a_short_burst_is_not_lost_in_the_median_of_what_came_after():
    check = flows("burst")["production_spike"]
    assert check.outcome == "present"
    assert check.findings[0].value > 1.5 * check.findings[0].baseline


def test_a_stop_names_since_when_and_how_much_is_unread():
    finding = flows("down")["consumption_stopped"].findings[0]
    assert finding.value == 0
    assert abs(finding.onset - incidents.moment(incidents.FAULT)) <= pd.Timedelta("30s")
    unread = incidents.make("down").offsets.groupby("partition").last()
    assert f"{(unread.log_end_offset - unread.committed_offset).sum():,.0f}" in finding.statement


def test_a_backlog_from_before_the_window_has_no_baseline_and_says_so():
    for kind, check in flows("drain").items():
        if kind != "consumption_stopped":
            assert check.outcome == "not_checked"
            assert "--since" in check.reason


def test_without_prometheus_rates_are_not_checked_and_not_refuted():
    blind = incidents.without(incidents.make("spike"), "prometheus")
    seen = incidents.checks(rates.demand_and_supply, blind)
    for kind in ("production_spike", "consumption_at_capacity", "consumption_slowed"):
        assert seen[kind].outcome == "not_checked"
        assert "did not answer" in seen[kind].reason


def snapshots(seconds: float, *, moving: bool):
    """Return a stopped group as Kafka alone shows it, over *seconds*."""
    made = incidents.without(incidents.make("down" if not moving else "slow"), "prometheus")
    spread = np.linspace(-seconds, 0, made.partitions["timestamp"].nunique())
    order = {
        t: made.end + pd.Timedelta(float(s), "s")
        for t, s in zip(sorted(made.partitions["timestamp"].unique()), spread, strict=True)
    }
    table = made.partitions.assign(timestamp=made.partitions["timestamp"].map(order))
    if moving:
        by = table.groupby("partition").cumcount()
        table["committed_offset"] += by
    table["log_end_offset"] += table.groupby("partition").cumcount()
    return incidents.with_tables(made, partitions=frames.normalise("partitions", table))


@pytest.mark.parametrize(
    ("seconds", "moving", "outcome"),
    [(30, False, "present"), (30, True, "absent"), (4, False, "not_checked")],
)
def test_snapshots_show_a_stop_only_when_they_outlast_two_commit_intervals(
    seconds, moving, outcome
):
    seen = incidents.checks(rates.demand_and_supply, snapshots(seconds, moving=moving))
    assert seen["consumption_stopped"].outcome == outcome


def test_a_group_that_never_committed_has_not_stopped():
    made = incidents.edited(snapshots(30, moving=False), "partitions", committed_offset=np.nan)
    check = incidents.checks(rates.demand_and_supply, made)["consumption_stopped"]
    assert check.outcome == "not_checked"
    assert "never committed" in check.reason


# -- calm


def test_a_kept_promise_is_told_with_the_worst_age_and_the_promise():
    finding = incidents.checks(rates.calm, incidents.make("calm"))["promise_kept"].findings[0]
    assert finding.value <= finding.baseline == 60


@pytest.mark.parametrize("kind", ["slow", "down", "spike", "poison_retry"])
def test_a_broken_promise_is_absent_with_its_age(kind):
    check = incidents.checks(rates.calm, incidents.make(kind))["promise_kept"]
    assert check.outcome == "absent"
    assert "promise 60 s" in check.reason


def test_an_age_that_may_be_older_than_it_looks_keeps_no_promise_and_breaks_none():
    """The backlog was there before the window, and all that is known is less than the promise."""
    made = incidents.make("drain")
    early = made.offsets.loc[made.offsets["timestamp"] < made.start + pd.Timedelta("46s")]
    made = incidents.with_tables(made, offsets=early.reset_index(drop=True))
    made = replace(made, end=made.start + pd.Timedelta("45s"))
    check = incidents.checks(rates.calm, made)["promise_kept"]
    assert check.outcome == "not_checked"
    assert "older than" in check.reason


def test_one_unread_record_per_partition_is_no_broken_promise():
    """A transaction marker at the end of a quiet partition is never read."""
    made = incidents.make("calm")
    still = made.offsets.assign(log_end_offset=2000.0, committed_offset=1999.0, lag_messages=1.0)
    check = incidents.checks(rates.calm, incidents.with_tables(made, offsets=still))["promise_kept"]
    assert check.outcome == "present"


def test_a_backlog_that_is_gone_is_told():
    check = incidents.checks(rates.calm, incidents.make("drain"))["backlog_draining"]
    assert check.outcome == "present"
    assert check.findings[0].statement == "the backlog is gone"


def test_nothing_to_see_is_not_checked():
    seen = incidents.checks(
        rates.calm, incidents.without(incidents.make("calm"), "prometheus", "kafka")
    )
    assert {check.outcome for check in seen.values()} == {"not_checked"}

"""The catalogue: every number derived, every name known, and causes of one's own."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass

import pytest

from lagkit import runbook
from lagkit.causes import (
    CORE,
    EXTENDED,
    FALLBACK,
    RATING_WEIGHT,
    Catalogue,
    Cause,
    Extension,
    catalogue,
)
from lagkit.errors import UsageError
from lagkit.evidence import EVIDENCE, LEVELS, EvidenceKind
from lagkit.model import SourceName

CONTRACT = {
    "consumer_down",
    "slow_processing",
    "message_spike",
    "rebalancing",
    "broker_overload",
    "poison_message",
    "network",
    "key_skew",
    "under_parallelism",
    "hung_transaction",
    "offset_reset",
    "retention_loss",
    "quota_throttled",
    "unknown",
    "none",
}
SOURCES = set(typing.get_args(SourceName))


def test_the_cause_ids_are_those_of_the_contract():
    assert {cause.id for cause in (*CORE, *EXTENDED, *FALLBACK)} == CONTRACT


def test_ids_are_unique():
    ids = [cause.id for cause in (*CORE, *EXTENDED, *FALLBACK)] + [kind.id for kind in EVIDENCE]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", EVIDENCE, ids=lambda kind: kind.id)
def test_a_kind_of_evidence_names_known_causes_levels_and_sources(kind):
    assert set(kind.levels) <= CONTRACT
    assert set(kind.levels.values()) <= set(LEVELS)
    assert kind.sources
    assert set(kind.sources) <= SOURCES
    assert kind.question.endswith("?")
    assert kind.delay_seconds >= 0


@pytest.mark.parametrize("kind", EVIDENCE, ids=lambda kind: kind.id)
@pytest.mark.parametrize("cause", sorted(CONTRACT))
def test_a_weight_is_the_log_ratio_of_its_level_to_a_distractor(kind, cause):
    level, base = kind.levels.get(cause, "."), kind.seen_anyway
    p = LEVELS[level] * (base if level in (".", "-", "--") else 1.0)
    assert kind.weight(cause, present=True) == pytest.approx(math.log(p / base))
    assert kind.weight(cause, present=False) == pytest.approx(math.log((1 - p) / (1 - base)))


@pytest.mark.parametrize("kind", EVIDENCE, ids=lambda kind: kind.id)
def test_levels_are_probabilities_in_order_around_the_rate_of_distractors(kind):
    levels = {str(n): level for n, level in enumerate(("--", "-", ".", "+", "*", "++"))}
    order = [dataclasses.replace(kind, levels=levels).probability(cause) for cause in levels]
    assert order == sorted(order)
    assert all(0 < p < 1 for p in order)
    assert order[2] == kind.seen_anyway


def test_what_speaks_for_a_cause_when_seen_speaks_against_it_when_not():
    for kind in EVIDENCE:
        for cause in CONTRACT:
            for_it = kind.weight(cause, present=True)
            against = kind.weight(cause, present=False)
            assert for_it * against <= 0


@pytest.mark.parametrize("cause", sorted(CONTRACT - {"unknown"}))
def test_every_cause_has_evidence_that_discriminates_it(cause):
    assert any(kind.points(cause) for kind in EVIDENCE)


def test_unknown_is_discriminated_by_nothing():
    assert not any(kind.points("unknown") for kind in EVIDENCE)


def test_what_nothing_committed_looks_like_names_no_cause():
    """Offsets alone cannot separate causes (causes.md, lesson 3)."""
    kind = next(kind for kind in EVIDENCE if kind.id == "consumption_stopped")
    assert kind.points_to() == ()


def test_the_mechanism_graph_leads_to_known_causes_and_has_no_cycle():
    for cause in catalogue().causes:
        assert set(cause.leads_to) <= CONTRACT
        assert cause.id not in catalogue().downstream_of(cause.id)


@pytest.mark.parametrize(
    ("cause", "effect"),
    [
        ("poison_message", "consumer_down"),
        ("poison_message", "rebalancing"),
        ("slow_processing", "rebalancing"),
        ("message_spike", "slow_processing"),
        ("message_spike", "consumer_down"),
        ("message_spike", "rebalancing"),
        ("consumer_down", "rebalancing"),
        ("broker_overload", "rebalancing"),
        ("broker_overload", "slow_processing"),
        ("network", "rebalancing"),
    ],
)
def test_the_mechanism_graph_is_that_of_the_reference(cause, effect):
    assert effect in catalogue().downstream_of(cause)


# -- priors


def test_priors_sum_to_one_and_follow_the_runbooks_ratings():
    priors = catalogue().priors(runbook.load().priors)
    assert math.isclose(sum(priors.values()), 1.0)
    assert priors["consumer_down"] == priors["slow_processing"]
    assert priors["consumer_down"] == pytest.approx(2 * priors["message_spike"])
    assert priors["message_spike"] == pytest.approx(2 * priors["network"])
    assert all(priors[cause.id] > 0 for cause in (*CORE, *EXTENDED, *FALLBACK))


def test_core_causes_without_a_rating_count_as_low():
    priors = catalogue().priors({"consumer_down": "high"})
    assert priors["consumer_down"] == pytest.approx(RATING_WEIGHT["high"] * priors["network"])


def test_a_runbook_may_rate_an_extended_cause():
    plain, rated = catalogue().priors({}), catalogue().priors({"offset_reset": "high"})
    assert rated["offset_reset"] > plain["offset_reset"]
    assert rated["key_skew"] < plain["key_skew"]


def test_nobody_can_rate_unknown_or_none_away():
    rated = catalogue().priors({"unknown": "high", "none": "high"})
    assert rated == catalogue().priors({})


# -- a user's own cause, through the real entry point machinery


@dataclass(frozen=True)
class Point:
    """An installed entry point, as importlib.metadata gives it."""

    name: str
    gives: object
    value: str = "house.causes:EXTENSION"

    def load(self) -> object:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


WEATHER = Extension(
    Cause("bad_weather", "Bad weather", "it rains into the data centre", leads_to=("network",)),
    (EvidenceKind("rain", "weather", "Does it rain?", ("downstream",), {"bad_weather": "++"}),),
    rating="medium",
)


@pytest.fixture
def installed(monkeypatch):
    def install(*points: Point) -> Catalogue:
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: points)
        catalogue.cache_clear()
        return catalogue()

    yield install
    monkeypatch.undo()
    catalogue.cache_clear()


def test_an_installed_cause_joins_the_catalogue_with_its_evidence_and_rating(installed):
    found = installed(Point("weather", WEATHER))
    assert found.cause("bad_weather").title == "Bad weather"
    assert found.kind("rain").points_to() == ("bad_weather",)
    priors = found.priors({})
    assert priors["bad_weather"] == pytest.approx(2 * priors["network"])
    assert math.isclose(sum(priors.values()), 1.0)
    assert "network" in found.downstream_of("bad_weather")


def test_the_runbook_may_overrule_an_installed_rating(installed):
    found = installed(Point("weather", WEATHER))
    priors = found.priors({"bad_weather": "low"})
    assert priors["bad_weather"] == pytest.approx(priors["network"])


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        (ImportError("no module"), "cannot be loaded"),
        ("something", "gives no"),
        (Extension(Cause("network", "N", "")), "redefines network"),
        (Extension(Cause("x", "X", ""), (EVIDENCE[0],)), "redefines"),
        (Extension(Cause("x", "X", "", leads_to=("nowhere",))), "nowhere"),
    ],
    ids=["import error", "wrong type", "cause taken", "evidence taken", "leads nowhere"],
)
def test_an_installed_cause_that_does_not_fit_is_refused_by_name(installed, gives, words):
    with pytest.raises(UsageError, match=words):
        installed(Point("weather", gives))


def test_names_that_are_not_there_are_errors():
    with pytest.raises(KeyError):
        catalogue().cause("gremlins")
    with pytest.raises(KeyError):
        catalogue().kind("gremlins")

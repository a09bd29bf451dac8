"""verdict.json: the contract's keys, plain JSON, the same bytes."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone

import incidents
import jsonschema
import numpy as np
import pandas as pd
import pytest

from lagkit import model
from lagkit.investigation import investigate
from lagkit.resources import resource_path

# What the contract promises; more keys may be added, none of these may vanish.
CONTRACT = {
    "": {
        "schema",
        "incident",
        "generated_at",
        "lagkit_version",
        "state",
        "onset",
        "verdict",
        "ranking",
        "findings",
        "impact",
        "forecast",
        "actions",
        "do_not",
        "sources",
        "not_checked",
    },
    "incident": {"id", "cluster", "group", "topics", "start", "end"},
    "onset": {"at", "earliest", "latest"},
    "verdict": {"cause", "likelihood", "likelihood_term", "confidence", "summary"},
    "ranking": {
        "cause",
        "rank",
        "probability",
        "prior",
        "status",
        "role",
        "evidence_for",
        "evidence_against",
        "not_checked",
        "would_change",
    },
    "findings": {
        "id",
        "statement",
        "source",
        "query",
        "onset",
        "value",
        "baseline",
        "unit",
        "weights",
    },
    "impact": {
        "peak_lag_messages",
        "peak_age_seconds",
        "messages_delayed",
        "delay_message_seconds",
        "slo_minutes_broken",
        "messages_lost",
    },
    "forecast": {"net_drain_per_second", "catch_up_at", "data_loss_at"},
    "actions": {"command", "why", "safety", "preconditions"},
    "sources": {"prometheus", "kafka", "kubernetes", "downstream"},
}
STATES = {"growing", "draining", "stalled", "recovered", "healthy", "unknown"}


@pytest.fixture(scope="module", params=incidents.KINDS)
def document(request) -> dict:
    return json.loads(incidents.investigated(request.param).verdict.to_json())


def test_every_key_of_the_contract_is_there(document):
    assert CONTRACT[""] <= document.keys()
    for name, keys in CONTRACT.items():
        part = document[name] if name else document
        for item in part if isinstance(part, list) else [part]:
            if item is not None:
                assert keys <= item.keys(), name
    for report in document["sources"].values():
        assert report.keys() >= {"status", "detail", "seconds"}
    assert document["schema"] == "lagkit.verdict/1"
    assert next(iter(document)) == "schema"


def test_a_verdict_validates_against_the_published_schema(document):
    schema = model.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


def test_values_come_from_the_contracts_words(document):
    assert document["state"] in STATES
    assert document["verdict"]["confidence"] in {"high", "moderate", "low"}
    for cause in document["ranking"]:
        assert cause["status"] in {"validated", "invalidated", "inconclusive", "not_checked"}
        assert cause["role"] in {"primary", "contributing", "mechanism", "none"}
    for action in document["actions"]:
        assert action["safety"] in {"read_only", "disruptive", "data_loss", "irreversible"}


def test_probabilities_still_sum_to_one_after_rounding(document):
    assert sum(cause["probability"] for cause in document["ranking"]) == pytest.approx(1, abs=1e-8)


def test_every_line_of_evidence_that_was_seen_is_a_finding(document):
    known = {finding["id"] for finding in document["findings"]}
    kinds = {check["kind"] for check in document["checks"]}
    for cause in document["ranking"]:
        for line in cause["evidence_for"] + cause["evidence_against"]:
            assert line["id"] in known | kinds


def test_finding_ids_are_unique(document):
    ids = [finding["id"] for finding in document["findings"]]
    assert len(ids) == len(set(ids))


def test_every_finding_names_a_query_of_the_incident(document):
    for finding in document["findings"]:
        assert finding["query"], finding["id"]


def test_no_number_is_infinite_or_not_a_number(document):
    def numbers(value):
        if isinstance(value, dict):
            for item in value.values():
                yield from numbers(item)
        elif isinstance(value, list):
            for item in value:
                yield from numbers(item)
        elif isinstance(value, float):
            yield value

    assert all(np.isfinite(number) for number in numbers(document))


def test_times_are_utc_to_the_millisecond(document):
    assert document["incident"]["start"] == "2026-11-23T02:00:00.000Z"
    assert document["generated_at"].endswith("Z")


def test_the_schema_names_its_version_and_refuses_a_verdict_without_a_ranking():
    schema = model.json_schema()
    assert schema["$id"] == "urn:lagkit.verdict:1"
    assert schema["title"] == model.SCHEMA
    json.dumps(schema, allow_nan=False)
    broken = json.loads(incidents.investigated("calm").verdict.to_json())
    del broken["ranking"]
    with pytest.raises(jsonschema.ValidationError, match="ranking"):
        jsonschema.validate(broken, schema)


def test_an_added_key_is_allowed():
    document = json.loads(incidents.investigated("calm").verdict.to_json())
    document["weather"] = "rain"
    jsonschema.validate(document, model.json_schema())


def test_the_json_ends_with_one_newline_and_keeps_foreign_letters():
    named = incidents.renamed(incidents.make("calm"), {incidents.GROUP: "grüße\n<b>"})
    text = investigate(named).verdict.to_json()
    assert text.endswith("}\n")
    assert "grüße" in text
    assert json.loads(text)["incident"]["group"] == "grüße\n<b>"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_a_number_that_is_none_becomes_null(value):
    impact = model.Impact(peak_lag_messages=value)
    verdict = dataclasses.replace(incidents.investigated("calm").verdict, impact=impact)
    assert json.loads(verdict.to_json())["impact"]["peak_lag_messages"] is None


def test_floats_are_cut_to_ten_digits_so_that_bytes_do_not_depend_on_the_machine():
    impact = model.Impact(peak_lag_messages=0.1 + 0.2)
    verdict = dataclasses.replace(incidents.investigated("calm").verdict, impact=impact)
    assert verdict.to_dict()["impact"]["peak_lag_messages"] == 0.3


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 11, 23, 2, 14, 30, 999_999, tzinfo=UTC),
        datetime(2026, 11, 23, 3, 14, 30, 999_999, tzinfo=timezone(timedelta(hours=1))),
        pd.Timestamp("2026-11-23T02:14:30.999999999Z"),
    ],
)
def test_a_time_is_cut_and_never_rounded_into_the_next_second(moment):
    assert model.timestamp_text(moment) == "2026-11-23T02:14:30.999Z"


def test_everything_is_frozen():
    verdict = incidents.investigated("calm").verdict
    for item in (verdict, verdict.ranking[0], verdict.impact, verdict.incident):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(item, dataclasses.fields(item)[0].name, "mine")


def test_a_finding_knows_its_kind():
    assert model.Finding("containers_failing:ns/pod:1", "", "kafka", "").kind == (
        "containers_failing"
    )
    assert model.Finding("members_missing", "", "kafka", "").kind == "members_missing"


def test_a_cause_is_found_by_name():
    verdict = incidents.investigated("slow").verdict
    assert verdict.cause("slow_processing").rank == 1
    with pytest.raises(KeyError):
        verdict.cause("gremlins")


def test_the_published_schema_is_the_one_of_the_code():
    """To change it on purpose: write json_schema() with indent=2 and sort_keys=True."""
    published = json.loads(resource_path("templates/verdict.schema.json").read_text("utf-8"))
    assert published == json.loads(json.dumps(model.json_schema()))

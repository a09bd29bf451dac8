"""Which exporter is which, and what it does not say; names from recorded scrapes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lagkit.sources.dialects import (
    BROKER_READINGS,
    DIALECTS,
    detect,
    looked_for,
    matcher,
    one_of,
    quoted,
    silent,
)

SCRAPES = Path(__file__).resolve().parent.parent / "data" / "scrapes"
REDPANDA = {
    "redpanda_kafka_consumer_group_committed_offset",
    "redpanda_kafka_max_offset",
    "redpanda_kafka_consumer_group_consumers",
}


def names(scrape: str) -> set[str]:
    text = (SCRAPES / f"{scrape}.prom").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-zA-Z_:][\w:]*)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("scrape", "dialect", "richness"),
    [
        ("otel_kafkametrics_runbook_names", "otel", 3),
        ("otel_kafkametrics_default", "otel", 3),
        ("klag_exporter_message", "klag_exporter", 3),
        ("kafka_exporter", "kafka_exporter", 3),
        ("kminion", "kminion", 3),
        ("braedon_kafka391", "braedon", 3),
        ("braedon_kafka431_broken", "braedon", 0),
    ],
)
def test_a_recorded_scrape_is_told_by_its_names(scrape: str, dialect: str, richness: int) -> None:
    (found,) = detect(names(scrape))
    assert (found.dialect.id, found.richness) == (dialect, richness)


def test_seglo_is_told_from_klag_exporter_by_what_it_lacks() -> None:
    (found,) = detect({"kafka_consumergroup_group_lag", "kafka_partition_latest_offset"})
    assert found.dialect.id == "seglo"


@pytest.mark.parametrize("prefix", ["kminion_", "myteam_", ""])
def test_kminion_is_told_by_the_end_of_its_names_whatever_the_prefix(prefix: str) -> None:
    (found,) = detect({name.replace("kminion_", prefix, 1) for name in names("kminion")})
    assert found.dialect.id == "kminion"
    assert found.metrics("log_end") == (f"{prefix}kafka_topic_partition_high_water_mark",)


def test_broker_count_alone_tells_no_exporter() -> None:
    assert detect({"kafka_brokers", "kafka_topic_partitions", "up"}) == ()


def test_the_jmx_exporter_is_no_lag_exporter() -> None:
    assert detect(names("jmx_narrow") | names("strimzi_metrics_reporter_020")) == ()


def test_an_exporter_that_sees_no_group_is_silent_and_not_absent() -> None:
    mute = {name for name in names("kminion") if "consumer_group" not in name}
    assert detect(mute) == ()
    assert silent(mute) == ("kminion",)
    assert silent(names("jmx_narrow")) == ()


def test_several_dialects_come_in_the_order_of_detection() -> None:
    together = names("kafka_exporter") | names("klag_exporter_message") | REDPANDA
    assert [found.dialect.id for found in detect(together)] == [
        "klag_exporter",
        "kafka_exporter",
        "redpanda",
    ]


def test_redpanda_without_its_lag_gauges_names_the_line_that_turns_them_on() -> None:
    (found,) = detect(REDPANDA)
    fixes = [gap.fix for gap in found.gaps]
    assert any(
        """enable_consumer_group_metrics '["group","partition","consumer_lag"]'""" in fix
        for fix in fixes
    )


def test_redpanda_with_its_lag_gauges_does_not() -> None:
    (found,) = detect(REDPANDA | {"redpanda_kafka_consumer_group_lag_sum"})
    assert not any("enable_consumer_group_metrics" in gap.fix for gap in found.gaps)


def test_redpanda_says_that_it_has_no_log_start() -> None:
    (found,) = detect(REDPANDA)
    assert found.metrics("log_start") == ()
    assert any("log start" in gap.what for gap in found.gaps)


def test_braedon_on_kafka_4_is_found_and_said_to_be_empty() -> None:
    (found,) = detect(names("braedon_kafka431_broken"))
    assert found.group_metrics == ()
    assert any("can never fire" in gap.why for gap in found.gaps)


def test_both_names_of_the_collector_are_asked_for_where_both_exist() -> None:
    both = names("otel_kafkametrics_default") | names("otel_kafkametrics_runbook_names")
    (found,) = detect(both)
    expression = found.by_partition("lag", 'group="g"', "5s")
    assert expression == (
        'max by (topic, partition) (last_over_time(kafka_consumer_group_lag{group="g"}[5s])) or '
        'max by (topic, partition) (last_over_time(kafka_consumer_group_lag_ratio{group="g"}[5s]))'
    )


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.id)
def test_no_dialect_reads_a_sum_that_counts_the_minus_ones(dialect) -> None:
    read = [
        *dialect.lag,
        *dialect.committed,
        *([dialect.committed_by_topic] if dialect.id != "kminion" else []),
    ]
    assert not [name for name in read if name.endswith(("_sum", "_sum_ratio"))]


def test_the_names_looked_for_are_told_to_a_person() -> None:
    assert "kafka_consumer_group_lag" in looked_for()
    assert "*_kafka_consumer_group_topic_partition_lag" in looked_for()


def test_recorded_broker_metrics_are_read_in_every_canonical_name() -> None:
    jmx = names("jmx_narrow")
    read = {reading.metric for reading in BROKER_READINGS if jmx.intersection(reading.names)}
    assert read == {reading.metric for reading in BROKER_READINGS}


@pytest.mark.parametrize(
    ("value", "promql"),
    [
        ("it's", '"it\'s"'),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ("a\nb", r'"a\nb"'),
        ("a\x07b", r'"a\x07b"'),
        ("größe", '"größe"'),
        ("\udcff", '"?"'),
    ],
)
def test_a_label_value_cannot_leave_its_quotes(value: str, promql: str) -> None:
    assert quoted(value) == promql


def test_a_pattern_matches_the_name_and_nothing_else() -> None:
    assert one_of(["a.b", ""]) == r'"a\\.b|"'


def test_a_matcher_of_nothing_is_left_out() -> None:
    assert matcher("topic", []) == ""
    assert matcher("topic", ["a"]) == 'topic="a"'
    assert matcher("topic", ["b", "a"]) == 'topic=~"a|b"'

"""Which exporter is which, and what it does not say; names from recorded scrapes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lagkit.config import OwnDialect
from lagkit.errors import UsageError
from lagkit.sources.dialects import (
    BROKER_READINGS,
    DIALECTS,
    asked_for,
    detect,
    looked_for,
    matcher,
    one_of,
    own_dialects,
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
        ("klag_exporter_rate", "klag_exporter", 3),
        ("burrow", "burrow", 2),
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


def test_kminion_by_topic_is_told_by_the_lack_of_partitions_whatever_the_prefix() -> None:
    by_topic = {
        n.replace("kminion_", "x_", 1) for n in names("kminion") if "partition_lag" not in n
    }
    (found,) = detect(by_topic)
    assert (found.dialect.id, found.dialect.granularity) == ("kminion_topic", "topic")
    assert found.group_metrics == ("x_kafka_consumer_group_topic_lag",)
    assert any("granularity: partition" in gap.fix for gap in found.gaps)


def test_klag_is_told_by_its_lag_and_its_milliseconds_become_seconds() -> None:
    (found,) = detect({"klag_consumer_lag", "klag_consumer_lag_ms"})
    assert found.dialect.id == "klag"
    assert found.by_partition("lag_seconds", "", "5s") == (
        "max by (topic, partition) (last_over_time(klag_consumer_lag_ms{}[5s]) * 0.001)"
    )


def test_the_runbooks_own_names_are_read_though_nothing_else_tells_the_exporter() -> None:
    (found,) = detect({"kafka_consumer_group_lag", "kafka_consumer_group_offset"})
    assert (found.dialect.id, found.richness) == ("otel", 1)
    assert any("topics scraper" in gap.why for gap in found.gaps)


def test_braedon_and_the_collector_side_by_side_are_two() -> None:
    both = detect(names("braedon_kafka391") | names("otel_kafkametrics_runbook_names"))
    assert [found.dialect.id for found in both] == ["braedon", "otel"]


def test_braedon_alone_is_not_taken_for_the_collector_as_well() -> None:
    assert [found.dialect.id for found in detect(names("braedon_kafka391"))] == ["braedon"]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.id)
def test_every_name_of_a_dialect_is_asked_for_in_the_first_question(dialect) -> None:
    pattern = asked_for(DIALECTS)
    used = [*dialect.lag, *dialect.committed, *dialect.log_end, *dialect.log_start,
            *dialect.lag_seconds, *dialect.lag_by_topic, *dialect.committed_by_topic,
            *dialect.lag_by_group, *dialect.members, *dialect.knows]  # fmt: skip
    state = [dialect.state.name] if dialect.state else []
    for name in used + state:
        assert re.fullmatch(pattern, name.replace("{prefix}", "any_")), name


def test_every_dialect_has_an_id_of_its_own() -> None:
    ids = [dialect.id for dialect in DIALECTS]
    assert len(ids) == len(set(ids))


OURS = OwnDialect(
    id="acme", lag="acme_lag", committed="acme_offset", log_end="acme_end", group="cg",
    where={"env": "prod"}, factor={"acme_lag": 1000.0},
)  # fmt: skip


def test_a_mapping_of_the_users_own_comes_first_and_reads_its_names_labels_and_units() -> None:
    (own,) = own_dialects([OURS])
    known = {"acme_lag", "acme_offset", "acme_end"} | names("kafka_exporter")
    first, second = detect(known, (own, *DIALECTS))
    assert (first.dialect.id, first.richness, second.dialect.id) == ("acme", 2, "kafka_exporter")
    assert first.by_partition("lag", 'cg="g"', "5s") == (
        'max by (topic, partition) (last_over_time(acme_lag{cg="g",env="prod"}[5s]) * 1000.0)'
    )


def test_a_mapping_with_the_id_of_a_known_exporter_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="kminion"):
        own_dialects([OURS.model_copy(update={"id": "kminion"})])


def test_an_exporter_whose_zero_means_nothing_says_so_as_data() -> None:
    zero = {dialect.id for dialect in DIALECTS if dialect.zero_lag_without_commit}
    assert zero == {"burrow"}


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


def test_redpanda_with_its_lag_gauges_does_not_and_they_are_a_second_opinion() -> None:
    found, gauges = detect(REDPANDA | {"redpanda_kafka_consumer_group_lag_sum"})
    assert (found.dialect.id, gauges.dialect.id) == ("redpanda", "redpanda_gauges")
    assert not any("enable_consumer_group_metrics" in gap.fix for gap in found.gaps + gauges.gaps)


def test_redpanda_with_group_metrics_only_names_the_line_that_adds_partitions() -> None:
    (found,) = detect({"redpanda_kafka_consumer_group_lag_sum"})
    assert found.dialect.granularity == "group"
    assert any('"partition"' in gap.fix for gap in found.gaps)


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
    # kminion's sum leaves such partitions out, the others' add a -1 for each
    sums = () if dialect.id.startswith("kminion") else dialect.committed_by_topic
    read = [*dialect.lag, *dialect.committed, *dialect.lag_by_topic, *sums]
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


def test_a_mapping_that_clashes_is_refused_by_the_command_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "lagkit.toml"
    file.write_text(
        'prometheus = "http://127.0.0.1:9"\n[[dialects]]\nid = "otel"\nlag = "a"\ncommitted = "b"\n'
    )
    run = subprocess.run(
        [sys.executable, "-m", "lagkit", "doctor", "g"],
        capture_output=True,
        text=True,
        env={**os.environ, "LAGKIT_CONFIG": str(file)},
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 2
    assert "The [[dialects]] table otel has the id of an exporter lagkit knows." in run.stderr
    assert "Give it another id" in run.stderr
    assert "Traceback" not in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lagkit.toml"]

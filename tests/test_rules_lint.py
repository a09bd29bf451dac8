"""``lagkit rules lint``: the seed's faults are found in anybody's rules, none in good ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import rule_proofs
import yaml

from lagkit import cli
from lagkit.rules.lint import KINDS, lint, render
from lagkit.rules.promql import Unparsable, parse
from lagkit.rules.reading import Rulebook, Written, of_file, of_server
from lagkit.rules.ruleset import build
from lagkit.rules.wishes import Wishes
from lagkit.sources.dialects import DIALECTS, detect, everything_of
from lagkit.sources.prometheus.survey import Survey

ROOT = Path(__file__).resolve().parent.parent
SEED = ROOT / "tests" / "data" / "rules" / "seed.yml"
BY_ID = {dialect.id: dialect for dialect in DIALECTS}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LAGKIT_")]:
        monkeypatch.delenv(name)


def book(*expressions: str, records: dict[str, str] | None = None) -> Rulebook:
    rules = [Written(name, expr, False, "f:1") for name, expr in (records or {}).items()]
    rules += [Written(f"A{n}", expr, True, "f:2") for n, expr in enumerate(expressions)]
    return Rulebook("f", tuple(rules))


def kinds(*expressions: str, survey: Survey | None = None, **records: str) -> set[str]:
    """Return what is found in alerts of *expressions*, but for absences, which most have."""
    names = {name.replace("__", ":"): expr for name, expr in records.items()}
    found = lint(book(*expressions, records=names), survey)
    return {one.kind for one in found} - {"absence-unnoticed"}


def server(*dialects: str, more: tuple[str, ...] = (), **types: str) -> Survey:
    names = frozenset(
        [name for one in dialects for name in everything_of(BY_ID[one]).names] + list(more)
    )
    return Survey("http://there", names, detect(names), types=types)


# ── the seed ────────────────────────────────────────────────────────────────────────────────────


def test_each_fault_of_the_seed_is_found_with_its_place_and_fix():
    found = {(one.rule, one.kind): one for one in lint(of_file(SEED))}
    assert set(found) == {
        ("KafkaConsumerLagHigh", "count-without-time"),
        ("KafkaConsumerLagGrowing", "rate-on-gauge"),
        ("KafkaConsumerNotConsuming", "rate-on-gauge"),
        ("KafkaConsumerNotConsuming", "idle-topic"),
        ("DeploymentWorkerLagging", "count-without-time"),
        ("KafkaConsumerLagHigh", "absence-unnoticed"),
        ("KafkaConsumerNotConsuming", "absence-unnoticed"),
    }
    lines = SEED.read_text(encoding="utf-8").splitlines()
    for (rule, _), one in found.items():
        line = int(one.place.removeprefix("seed.yml:"))
        assert lines[line - 1].strip().startswith("expr:")
        assert rule in lines[line - 2]
        assert one.why
        assert one.fix


def test_against_a_server_the_seeds_metrics_are_named_as_they_are_there():
    found = lint(of_file(SEED), server("redpanda"))
    unknown = [one for one in found if one.kind == "unknown-metric"]
    assert {one.rule for one in unknown} == {
        "KafkaConsumerLagHigh", "KafkaConsumerLagGrowing", "KafkaConsumerNotConsuming",
        "DeploymentWorkerLagging",
    }  # fmt: skip
    offsets = next(one for one in unknown if one.rule == "KafkaConsumerNotConsuming")
    assert "redpanda_kafka_consumer_group_committed_offset" in offsets.fix
    assert "redpanda_group" in offsets.fix


# ── good rules ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", sorted(BY_ID))
def test_nothing_is_found_in_the_shipped_rules(file):
    assert lint(of_file(rule_proofs.FOLDER / f"{file}.yml"), server(file)) == []


def test_what_the_labs_rules_lack_is_all_that_is_found_there():
    assert {one.kind for one in lint(of_file(ROOT / "lab" / "alerts.yml"))} == {"absence-unnoticed"}


@pytest.mark.parametrize(
    "expression",
    [
        "deriv(kafka_consumergroup_lag[15m]) > 0",
        "rate(kafka_topic_partition_current_offset[5m]) > 100",
        "rate(redpanda_kafka_records_produced_total[5m]) == 0",
        "rate(some_lag_total[5m]) > 1",
        "sum by (group) (kafka_consumer_group_lag >= 0) / on () group_left () vector(1) > 10",
        "sum(kafka_consumer_group_lag > 0) > 0",
        "sum(clamp_min(kafka_consumergroup_lag, 0)) > 0",
        "kafka_consumergroup_group_lag_seconds > 300",
        "kafka_consumergroup_lag > 10000 and kafka_consumergroup_group_lag_seconds > 60",
        "changes(kafka_consumergroup_current_offset[10m]) == 0 and kafka_consumergroup_lag > 0",
        "delta(kafka_consumergroup_current_offset[10m]) < 0",
        "up == 0",
        'label_replace(node_load1 > 10, "rate", "$1", "lag", "(.*)")',
    ],
)
def test_a_good_rule_is_left_alone(expression):
    assert kinds(expression) == set()


# ── each kind ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("sum by (g) (irate(kminion_kafka_consumer_group_topic_lag[5m])) > 1", "rate-on-gauge"),
        ("increase(acme_kafka_consumer_group_topic_partition_lag[5m]) > 1", "rate-on-gauge"),
        ("rate({__name__=\"klag_consumer_lag\"}[5m]) > 1", "rate-on-gauge"),
        ("rate(sum(burrow_kafka_consumer_partition_lag)[5m:1m]) > 1", "rate-on-gauge"),
        ("rate(our_own_lag[5m]) > 1", "rate-on-gauge"),
        ("rate(kafka_consumergroup_members[5m]) > 0", "rate-on-gauge"),
        ("delta(kafka_consumergroup_current_offset[10m]) == 0", "idle-topic"),
        ("sum(changes(klag_consumer_committed_offset[10m])) < 1", "idle-topic"),
        ("kafka_consumergroup_current_offset_sum > 0", "minus-one"),
        ("sum(kafka_consumergroup_lag) > 0", "minus-one"),
        ("avg(kafka_consumer_group_lag_ratio) > 0", "minus-one"),
        ("sum(kafka_consumer_group_lag) by (group) > 0", "minus-one"),
        ("kafka_consumer_group_lag < 5", "minus-one"),
        ("kafka_consumer_group_lag <= bool 5", "minus-one"),
        ("sum(klag_consumer_lag_sum) > 5000 or absent(klag_consumer_lag)", "count-without-time"),
        ("max(redpanda_kafka_consumer_group_lag_sum) >= 1000", "count-without-time"),
        ("kafka_consumergroup_lag[5m", "unreadable"),
        ("-" * 19000 + "kafka_consumergroup_lag", "unreadable"),
        ("(" * 4000 + "a" + ")" * 4000, "unreadable"),
    ],
)  # fmt: skip
def test_a_fault_is_found(expression, kind):
    assert kind in kinds(expression)


def test_a_recording_may_come_after_its_reader_or_be_made_of_itself():
    rules = (
        Written("A", "rate(late[5m]) > 1", True, "f:1"),
        Written("late", "sum(later >= 0)", False, "f:2"),
        Written("later", "kafka_consumergroup_lag or later", False, "f:3"),
        Written("turning", "turning", False, "f:4"),
        Written("B", "rate(turning[5m]) > 1 or absent(late)", True, "f:5"),
    )
    assert [one.kind for one in lint(Rulebook("f", rules))] == ["rate-on-gauge"]


def test_a_recording_is_what_it_records():
    records = {"g__lag": "sum by (g) (kafka_consumergroup_lag >= 0)"}
    assert kinds("rate(g:lag[5m]) > 100", **records) == {"rate-on-gauge"}
    assert kinds("g:lag > 10000", **records) == {"count-without-time"}
    computed = {
        "ours": "max by (topic) (redpanda_kafka_max_offset) - on (topic) group_right () "
        "redpanda_kafka_consumer_group_committed_offset"
    }
    assert kinds("rate(ours[5m]) > 100", **computed) == {"rate-on-gauge"}


def test_a_metric_that_the_server_calls_a_counter_may_be_rated():
    assert kinds("rate(our_lag[5m]) > 1", survey=server("otel", more=("our_lag",))) == {
        "rate-on-gauge"
    }
    declared = server("otel", more=("our_lag",), our_lag="counter")
    assert kinds("rate(our_lag[5m]) > 1", survey=declared) == set()


def test_an_absence_that_somebody_notices_is_none():
    def missed(*expressions: str, **records: str) -> list[str]:
        found = lint(book(*expressions, records=records))
        return [one.what for one in found if one.kind == "absence-unnoticed"]

    alert = "kafka_consumergroup_group_lag_seconds > 60"
    assert len(missed(alert)) == 1
    assert missed(alert, "absent(kafka_consumergroup_group_lag_seconds)") == []
    assert missed(alert, "absent_over_time(kafka_consumergroup_group_lag_seconds[15m])") == []
    assert missed("age > 60", "absent(age)", age="max(kafka_consumergroup_group_lag_seconds)") == []
    assert missed("age > 60", alert.replace("> 60", "offset 1h unless age"),
                  age="max(kafka_consumergroup_group_lag_seconds)") == []  # fmt: skip


def test_a_metric_that_is_not_there_makes_an_alert_silent_or_never_silent():
    there = server("otel")
    silent, loud = (
        next(one for one in lint(book(expr), there) if one.kind == "unknown-metric")
        for expr in ("kafka_consumergroup_lag > 1", "absent(kafka_consumergroup_lag)")
    )
    assert "never fires" in silent.why
    assert "holds always" in loud.why
    assert "kafka_consumer_group_lag of OpenTelemetry" in silent.fix
    assert kinds("node_load1 > 10", survey=there) == set()  # not about Kafka: not our business
    nothing = Survey("http://there", frozenset())
    assert "deploy one" in lint(book("kafka_consumergroup_lag > 1"), nothing)[0].fix


# ── files and servers ───────────────────────────────────────────────────────────────────────────


def test_manifests_lists_and_several_documents_are_read(tmp_path, capsys):
    cli.main(["rules", "--dialect", "otel", "--format", "prometheusrule"])
    manifest = capsys.readouterr().out
    item = yaml.safe_load(manifest)
    listing = yaml.safe_dump({"kind": "List", "items": [item, item]})
    (tmp_path / "all.yml").write_text(f"{manifest}---\n{listing}---\nfoo: bar\n")
    ours = build(everything_of(BY_ID["otel"]), Wishes())
    one = len(of_file(tmp_path / "all.yml").rules) / 3
    assert one >= len(ours.rules)


BAD_FILES = {
    "no YAML": (b"groups: [\n", 3, "is no YAML"),
    "a tab": (b"groups:\n\t- name: x\n", 3, "is no YAML"),
    "binary": (b"\x00\xff\xfe\x80", 3, "is no YAML"),
    "nothing": (b"", 3, "holds no rule"),
    "other YAML": (b"apiVersion: v1\nkind: Pod\n", 3, "holds no rule"),
    "a list": (b"- a\n- b\n", 3, "holds no rule"),
    "groups of the wrong shape": (b"groups: {a: b}\n", 3, "holds no rule"),
    "rules of the wrong shape": (b"groups: [{name: x, rules: [1, {alert: a}]}]\n", 3, "no rule"),
    "deep": (b"[" * 3000, 3, "is no YAML"),
    "an anchor that unfolds": (
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ngroups: *c\n", 3, "holds no rule"),
    "an anchor to itself": (b"&a [*a]\n", 3, "holds no rule"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_rule_file_is_said_to_be_none(name, tmp_path, capsys):
    content, status, said = BAD_FILES[name]
    (tmp_path / "bad.yml").write_bytes(content)
    assert cli.main(["rules", "lint", "bad.yml"]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert "A rule file has groups" in shown.err


def test_a_file_that_is_not_there_or_a_folder_is_bad_usage(tmp_path, capsys):
    assert cli.main(["rules", "lint", "gone.yml"]) == 2
    assert cli.main(["rules", "lint", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_names_from_outside_cannot_move_the_cursor(tmp_path, capsys):
    (tmp_path / "h.yml").write_text(
        'groups:\n- name: x\n  rules:\n  - alert: "\\e[2J\\u202e"\n'
        '    expr: "rate(kafka_consumergroup_lag[5m]) > 1"\n'
    )
    assert cli.main(["rules", "lint", "h.yml"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "rate-on-gauge" in shown


def test_the_status_tells_findings_only_where_it_is_asked_to(tmp_path, capsys):
    assert cli.main(["rules", "lint", str(SEED)]) == 0
    assert cli.main(["rules", "lint", str(SEED), "--check"]) == 1
    good = rule_proofs.FOLDER / "otel.yml"
    assert cli.main(["rules", "lint", str(good), "--check"]) == 0
    capsys.readouterr()
    assert cli.main(["rules", "lint", str(SEED), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"kind", "rule", "place", "what", "why", "fix"} == set(told[0])
    assert {one["kind"] for one in told} <= set(KINDS)


def test_a_server_that_is_only_configured_and_away_costs_its_part_of_the_findings(
    monkeypatch, capsys
):
    monkeypatch.setenv("LAGKIT_PROMETHEUS", "http://127.0.0.1:1")
    assert cli.main(["rules", "lint", str(SEED)]) == 0
    shown = capsys.readouterr()
    assert "Whether the metrics exist is not asked" in shown.err
    assert "rate-on-gauge" in shown.out
    assert cli.main(["rules", "lint", str(SEED), "--prometheus", "http://127.0.0.1:1"]) == 4
    given = ["rules", "lint", "http://127.0.0.1:1", "--prometheus", "http://127.0.0.1:2"]
    assert cli.main(given) == 2


def test_the_rules_of_a_server_have_their_group_as_place():
    data = {"groups": [{"name": "g", "rules": [
        {"type": "alerting", "name": "A", "query": "rate(kafka_consumergroup_lag[5m]) > 1"},
        {"type": "recording", "name": "r", "query": "1"}, "not a rule"]}]}  # fmt: skip
    read = of_server(Survey("http://there", frozenset(), rules=data))
    assert [rule.place for rule in read.rules] == ["group g", "group g"]
    assert "group g" in render(read, lint(read))


def test_the_page_lists_every_kind_of_finding():
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    table = page.partition("<!-- kinds: from -->")[2].partition("<!-- kinds: to -->")[0]
    rows = [f"| `{kind}` | {what} |" for kind, what in KINDS.items()]
    assert table.strip().splitlines()[2:] == rows


def test_more_than_the_parser_bears_is_refused_before_it_is_asked():
    for text in ("a+" * 9000 + "a", "x" * 30000, " or ".join(["a"] * 300)):
        with pytest.raises(Unparsable, match="longer than is looked at"):
            parse(text)

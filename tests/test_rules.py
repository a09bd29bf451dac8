"""Alert rules as data: what each dialect allows, what is said where not, and the command."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import rule_proofs
import yaml

from lagkit import cli
from lagkit.config import OwnDialect
from lagkit.errors import NothingThere, UsageError
from lagkit.rules import choosing, writing
from lagkit.rules.alerts import KIND_NAMES, own_name
from lagkit.rules.dashboard import dashboard, expressions
from lagkit.rules.promql import parse
from lagkit.rules.records import ABILITIES
from lagkit.rules.ruleset import build
from lagkit.rules.wishes import Wishes, by_name, duration, seconds_of
from lagkit.sources.dialects import DIALECTS, detect, everything_of, own_dialects
from lagkit.sources.prometheus.survey import Survey

BY_ID = {dialect.id: dialect for dialect in DIALECTS}
DEAD_PROMETHEUS = "http://127.0.0.1:1"
NAMES = {one.id: sorted(everything_of(one).names) for one in DIALECTS}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LAGKIT_")]:
        monkeypatch.delenv(name)


def ruleset(dialect: str, **wishes):
    return build(everything_of(BY_ID[dialect]), Wishes(**wishes))


def survey(*dialects: str, **more) -> Survey:
    names = frozenset(name for dialect in dialects for name in NAMES[dialect])
    found = sorted(detect(names), key=lambda one: (-one.fineness, -one.richness))
    return Survey("http://there", names, tuple(found), looked_for=("some_lag",), **more)


# ── what a dialect allows ───────────────────────────────────────────────────────────────────────


def test_the_shipped_files_are_what_the_data_says():
    there = {file.name: file.read_text(encoding="utf-8") for file in rule_proofs.FOLDER.iterdir()}
    wanted = rule_proofs.shipped()
    assert sorted(there) == sorted(wanted), "run: make rules"
    assert [name for name in wanted if there[name] != wanted[name]] == [], "run: make rules"


@pytest.mark.parametrize("dialect", sorted(BY_ID))
def test_every_alert_is_written_or_said_to_be_left_out_and_why(dialect):
    made = ruleset(dialect)
    told = {one.rule for one in made.left_out}
    assert {name for name in KIND_NAMES if name not in made.alerts} == told
    assert all(one.why and one.fix for one in made.left_out)
    text = writing.prometheus(made)
    head = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line[:1] == "#")
    assert [one.rule for one in made.left_out if one.rule not in head] == []
    lacking = {
        name for name, needs in KIND_NAMES.items() if not set(needs) <= made.has
    }  # what the metrics lack is never written
    assert lacking & set(made.alerts) == set()


def test_the_abilities_of_the_dialects_are_those_of_their_metrics():
    has = {dialect: ruleset(dialect).has for dialect in BY_ID}
    assert all(abilities <= set(ABILITIES) for abilities in has.values())
    assert {d for d in has if "offsets" not in has[d]} == {"redpanda_gauges"}
    assert {d for d in has if "partitions" not in has[d]} == {"redpanda_gauges", "kminion_topic"}
    assert {d for d in has if "log_start" not in has[d]} == {
        "redpanda_gauges", "kminion_topic", "redpanda", "burrow",
    }  # fmt: skip
    assert {d for d in has if "empty" not in has[d]} == {"seglo", "burrow", "braedon"}


@pytest.mark.parametrize("dialect", sorted(BY_ID))
def test_every_expression_is_promql_and_no_gauge_is_rated(dialect):
    made = build(everything_of(BY_ID[dialect]), rule_proofs.STANDARD)
    for rule in made.rules:
        tree = parse(rule.expr)
        assert [n.name for n in tree.walk() if n.name in {"rate", "irate", "increase"}] == []
        # every metric of a rule is an exporter's or was recorded
        assert tree.metrics() <= made.records | set(NAMES[dialect])


def test_a_collector_without_its_topics_scraper_has_log_ends_from_commits_and_lag():
    names = {"kafka_consumer_group_lag", "kafka_consumer_group_offset",
             "kafka_consumer_group_members"}  # fmt: skip
    (found,) = detect(names)
    made = build(found, Wishes())
    end = next(rule.expr for rule in made.rules if rule.record == "lagkit:log_end:offset")
    assert parse(end).metrics() == {"kafka_consumer_group_lag", "kafka_consumer_group_offset"}
    assert "log_start" not in made.has


def test_an_exporter_of_ones_own_is_written_for_with_its_labels_and_factor():
    table = OwnDialect(
        id="acme", lag="acme_lag", log_end="acme_end", group="cg", where={"env": 'p"r'},
        factor={"acme_lag": 1000},
    )  # fmt: skip
    (own,) = own_dialects([table])
    made = build(choosing.of_no_server("acme", [own]), Wishes())
    committed = next(rule.expr for rule in made.rules if rule.record == "lagkit:committed:offset")
    assert 'acme_lag{env="p\\"r"} * 1000.0 >= 0' in committed
    assert '"group", "$1", "cg"' in committed
    assert "PartitionStalled" in made.alerts


def test_clusters_are_told_apart_by_the_labels_of_the_server():
    made = build(everything_of(BY_ID["otel"]), Wishes(), ("cluster", "kafka_cluster"))
    end = made.rules[0].expr
    assert end.count("label_replace") == 1
    assert '"cluster", "$1", "kafka_cluster"' in end


def test_groups_and_topics_that_are_skipped_are_in_no_selector_of_the_rest():
    made = ruleset("kminion", skip_groups="console-.*", skip_topics='o"dd')
    committed = next(rule.expr for rule in made.rules if rule.record == "lagkit:committed:offset")
    assert 'group_id!~"console-.*",topic_name!~"o\\"dd"' in committed
    assert 'topic_name!~"o\\"dd"' in made.rules[0].expr


def test_the_page_names_every_alert():
    page = (rule_proofs.FOLDER.parents[1] / "docs" / "rules.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    shipped = build(everything_of(BY_ID["otel"]), rule_proofs.STANDARD)
    assert set(shipped.alerts) <= named


# ── wishes ──────────────────────────────────────────────────────────────────────────────────────


def test_the_promises_and_the_retentions_horizon_are_rungs_of_the_age():
    wishes = Wishes(promise=60, promises={"a": 300.0}, retention=6 * 3600.0,
                    retentions={"t": 7 * 86400.0})  # fmt: skip
    assert {30, 60, 150, 300, 4 * 3600, 6 * 86400} <= set(wishes.rungs)
    age = ruleset("otel", promises={"a": 300.0}, retention=6 * 3600.0).rules
    ladder = next(rule.expr for rule in age if rule.record == "lagkit:age:seconds")
    limits = [float(number) for number in re.findall(r"\* 0 \+ (\d+)", ladder)]
    assert limits == sorted(limits, reverse=True)  # the first that holds is the greatest


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"promise": 5}, "between two scrapes"),
        ({"promises": {"a": 1.0}}, "promise of a"),
        ({"objective": 100}, "no budget"),
        ({"objective": float("nan")}, "no budget"),
        ({"retention": 60.0}, "retention"),
        ({"skip_groups": "("}, "no pattern"),
    ],
)
def test_wishes_that_no_rule_can_hold_are_refused(wishes, said):
    with pytest.raises(UsageError, match=said):
        Wishes(**wishes)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("1h30m", 5400), ("7d", 604800), ("1500ms", 1.5), ("2w", 1209600)],
)
def test_durations_are_read_as_prometheus_reads_them(text, seconds):
    assert seconds_of(text, "--promise") == seconds
    assert seconds_of(duration(seconds), "--promise") == seconds


@pytest.mark.parametrize("text", ["", "60", "-5m", "1 h", "1h\n", "99999999999d", "0s", "x" * 99])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match="no duration"):
        seconds_of(text.replace("\n", "\nx"), "--promise")


def test_a_name_may_hold_an_equals_sign_and_is_said_once():
    assert by_name(["60s", "a=b=5m"], "--promise") == (60.0, {"a=b": 300.0})
    for twice in (["60s", "5m"], ["a=1m", "a=2m"], ["=1m"]):
        with pytest.raises(UsageError):
            by_name(twice, "--promise")


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("deployment-worker", "DeploymentWorkerLagging"),
        ("9 lives", "Group9LivesLagging"),
        ("ünï{{ $x }}", "NXLagging"),
        ("🙂", "GroupLagging"),
    ],
)
def test_a_groups_own_alert_has_a_name_that_prometheus_takes(group, name):
    assert own_name(group) == name


# ── for which exporter ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dialect", sorted(set(BY_ID) - {"redpanda_gauges"}))
def test_the_dialect_that_a_server_speaks_is_written_for(dialect):
    assert choosing.of_server("auto", survey(dialect)).dialect.id == dialect


def test_of_several_the_richest_is_written_for_and_the_others_are_named():
    there = survey("redpanda", "redpanda_gauges", "kafka_exporter")
    found = choosing.of_server("auto", there)
    assert found.dialect.id == "kafka_exporter"
    said = "\n".join(choosing.remarks(found, there, Wishes()))
    assert "redpanda, redpanda_gauges" in said
    assert choosing.of_server("redpanda", there).dialect.id == "redpanda"


def test_what_will_not_work_on_this_server_is_said_before_it_is_loaded():
    there = survey("otel", groups=("a",), kept_seconds=3600.0, cluster_labels=("cluster",))
    lines = choosing.remarks(there.found[0], there, Wishes(expected=("gone", "a")))
    said = "\n".join(lines)
    assert "LagMetricsMissing will fire: gone" in said
    assert "keeps 1h" in said
    assert "told apart by cluster" in said


def test_a_server_without_lag_is_nothing_there_and_a_mute_exporter_is_named():
    empty = Survey("http://there", frozenset(), mute=("braedon",), looked_for=("some_lag",))
    with pytest.raises(NothingThere) as told:
        choosing.of_server("auto", empty)
    assert "braedon" in str(told.value)
    assert "some_lag" in str(told.value)


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def test_without_a_server_or_a_dialect_nothing_is_guessed(capsys):
    assert cli.main(["rules"]) == 2
    assert "kafka_exporter" in capsys.readouterr().err
    assert cli.main(["rules", "--dialect", "kafka_exportr"]) == 2
    assert "Did you mean kafka_exporter?" in capsys.readouterr().err


def test_rules_go_to_stdout_and_what_is_left_out_to_stderr(capsys):
    assert cli.main(["rules", "--dialect", "burrow"]) == 0
    shown = capsys.readouterr()
    assert yaml.safe_load(shown.out)["groups"]
    assert "left out: GroupEmptyWithBacklog: Burrow does not tell whether a group has members" in (
        shown.err
    )
    assert "left out: BacklogReachesRetention: no retention was given" in shown.err


def test_the_runbook_says_promises_critical_groups_and_who_must_be_there(capsys, tmp_path):
    (tmp_path / "own.toml").write_text(
        'title = "own"\n[[groups]]\nname = "pay\\"ments"\npromise_seconds = 300\n'
        'criticality = "high"\n'
    )
    assert cli.main(["rules", "--dialect", "otel", "--runbook", "own.toml"]) == 0
    text = capsys.readouterr().out
    rules = {r.get("alert", r.get("record")): r for g in yaml.safe_load(text)["groups"]
             for r in g["rules"]}  # fmt: skip
    assert "PayMentsLagging" in rules
    assert (
        'absent(lagkit:committed:offset{group="pay\\"ments"})'
        in (rules["LagMetricsMissing"]["expr"])
    )
    assert '{group="pay\\"ments"} / 300' in rules["lagkit:group_topic_promise_used:ratio"]["expr"]


def test_the_same_wishes_are_the_same_bytes_in_a_file_and_on_stdout(capsysbinary, tmp_path):
    for _ in range(2):
        assert cli.main(["rules", "--dialect", "seglo", "--retention", "7d"]) == 0
    printed = capsysbinary.readouterr().out
    assert cli.main(["rules", "--dialect", "seglo", "--retention", "7d", "--out", "r.yml"]) == 0
    assert (tmp_path / "r.yml").read_bytes() * 2 == printed
    assert cli.main(["rules", "--dialect", "seglo", "--out", "no/such/r.yml"]) == 2


def test_a_prometheus_rule_is_what_the_operator_selects(capsys):
    arguments = ["rules", "--dialect", "otel", "--format", "prometheusrule", "--name", "lag",
                 "--namespace", "monitoring", "--label", "release=kps"]  # fmt: skip
    assert cli.main(arguments) == 0
    manifest = yaml.safe_load(capsys.readouterr().out)
    assert (manifest["apiVersion"], manifest["kind"]) == (
        "monitoring.coreos.com/v1", "PrometheusRule",
    )  # fmt: skip
    assert manifest["metadata"] == {
        "name": "lag", "namespace": "monitoring", "labels": {"release": "kps"},
    }  # fmt: skip
    assert cli.main(["rules", "--dialect", "otel"]) == 0
    assert manifest["spec"]["groups"] == yaml.safe_load(capsys.readouterr().out)["groups"]


@pytest.mark.parametrize(
    "arguments",
    [["--name", "No_Name"], ["--namespace", "a b"], ["--label", "x"], ["--label", "k=ü"]],
)
def test_what_kubernetes_would_refuse_is_refused_here(arguments):
    given = ["rules", "--dialect", "otel", "--format", "prometheusrule", *arguments]
    assert cli.main(given) == 2


def test_a_server_that_is_away_is_no_source_readable(capsys):
    assert cli.main(["rules", "--prometheus", DEAD_PROMETHEUS]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "connection refused" in shown.err
    assert cli.main(["rules", "lint", DEAD_PROMETHEUS]) == 4


def test_hostile_names_stay_inside_their_strings(capsys):
    hostile = 'x"} or vector(1) or y{z="\n{{ $labels }}'
    arguments = ["rules", "--dialect", "kafka_exporter", "--group", hostile, "--critical", hostile,
                 "--promise", f"{hostile}=5m", "--retention", f"{hostile}=7d"]  # fmt: skip
    assert cli.main(arguments) == 0
    groups = yaml.safe_load(capsys.readouterr().out)["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        calls = [node.name for node in parse(rule["expr"]).walk() if node.kind == "call"]
        assert "vector" not in calls
        assert hostile not in json.dumps(rule.get("annotations", {}))


# ── the dashboard ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dialect", sorted(BY_ID))
def test_the_dashboard_is_whole_and_draws_only_what_is_recorded(dialect):
    made = build(everything_of(BY_ID[dialect]), rule_proofs.STANDARD)
    text = dashboard(made)
    document = json.loads(text)
    assert document["uid"] and len(document["uid"]) <= 40  # noqa: PT018
    assert "id" not in document  # an id would overwrite somebody's dashboard
    panels = document["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids) >= 2
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not taken & cells
        taken |= cells
        assert panel["description"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) >= 1
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        steps = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert steps[0] is None
        assert steps[1:] == sorted(steps[1:])
    for expression in expressions(text):
        assert "$" not in expression
        assert parse(expression).metrics() <= made.records | {"ALERTS"}


def test_the_dashboard_has_variables_for_cluster_group_and_topic():
    listed = json.loads(dashboard(ruleset("otel")))["templating"]["list"]
    assert [one["name"] for one in listed] == ["datasource", "cluster", "group", "topic"]
    assert all(one["allValue"] == ".*" for one in listed[1:])
    whole = json.loads(dashboard(ruleset("redpanda_gauges")))
    assert [one["name"] for one in whole["templating"]["list"]] == [
        "datasource",
        "cluster",
        "group",
    ]


def test_the_dashboard_marks_the_promise_and_where_loss_comes_near():
    first = json.loads(dashboard(ruleset("otel", promise=120, retention=6 * 3600.0)))["panels"][0]
    steps = first["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, 120, 4 * 3600]

"""The runbook: the shipped one holds together, another company's is checked before it is used."""

from __future__ import annotations

import re
import string

import incidents
import pytest

from lagkit import runbook
from lagkit.causes import catalogue
from lagkit.errors import UsageError
from lagkit.runbook import Group, Topic, load

SHIPPED = load()
MINIMAL = 'title = "Ours"\n'
# What lagkit.remedies can fill in, in some incident.
PLACEHOLDERS = {
    "group",
    "topic",
    "partitions",
    "members",
    "unread_messages",
    "namespace",
    "workload",
    "kind",
    "selector",
    "replicas_wanted",
    "replicas_most",
    "downstream_namespace",
    "downstream_workload",
    "stuck_topic",
    "stuck_partition",
    "stuck_offset",
    "stuck_offset_next",
    "retention_doubled_ms",
    "kubectl",
    "rpk",
    "rpk_stdin",
}


def names_in(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


def written(path, text: str):
    file = path / "runbook.toml"
    file.write_text(text, encoding="utf-8")
    return file


# -- the shipped runbook


def test_every_cause_it_names_is_in_the_catalogue():
    known = {cause.id for cause in catalogue().causes}
    named = {
        *SHIPPED.priors,
        *(r.cause for r in SHIPPED.remedies),
        *(d.cause for d in SHIPPED.do_not),
    }
    assert named <= known


def test_every_cause_but_none_has_a_remedy():
    causes = {cause.id for cause in catalogue().causes} - {"none"}
    assert causes == {remedy.cause for remedy in SHIPPED.remedies}


def test_every_placeholder_is_one_that_can_be_filled_in():
    used = set()
    for remedy in SHIPPED.remedies:
        for text in (remedy.title, remedy.command, remedy.why, *remedy.preconditions):
            used |= names_in(text)
    for entry in SHIPPED.do_not:
        used |= names_in(entry.text)
    assert used <= PLACEHOLDERS


def test_no_placeholder_stands_inside_quotes_of_the_command():
    """A value is quoted for the shell already: inside quotes the quoting would end them."""
    for remedy in SHIPPED.remedies:
        for quoted in re.findall(r"'[^']*'|\"[^\"]*\"", remedy.command):
            assert names_in(quoted) == set(), remedy.command


def test_whatever_changes_something_has_preconditions():
    for remedy in SHIPPED.remedies:
        if remedy.safety != "read_only":
            assert remedy.preconditions, remedy.title


CHANGES = (
    r"\b(?:scale|rollout|set env|delete|seek|alter-config|add-partitions|restart|apply|edit)\b"
)


def test_whatever_changes_something_is_not_called_read_only():
    for remedy in SHIPPED.remedies:
        if re.search(CHANGES, remedy.command):
            assert remedy.safety != "read_only", remedy.title


def test_the_read_only_steps_of_a_cause_come_first():
    order = ("read_only", "disruptive", "data_loss", "irreversible")
    for cause in {remedy.cause for remedy in SHIPPED.remedies}:
        classes = [order.index(r.safety) for r in SHIPPED.remedies if r.cause == cause]
        assert classes == sorted(classes), cause


@pytest.mark.parametrize(
    "slip", ["--set partition.count", "--to-timestamp", "delete pod", "--to end"]
)
def test_the_seed_runbooks_slips_are_not_repeated(slip):
    assert not any(slip in remedy.command for remedy in SHIPPED.remedies)


def test_a_seek_demands_an_empty_group_and_a_saved_position():
    seeks = [r for r in SHIPPED.remedies if "group seek" in r.command]
    assert seeks
    for remedy in seeks:
        told = " ".join(remedy.preconditions)
        assert remedy.safety == "data_loss"
        assert "Empty" in told
        assert "saved" in told


def test_it_knows_the_groups_workload_topic_and_downstream():
    group = SHIPPED.group(incidents.GROUP)
    assert group.topics == (incidents.TOPIC,)
    assert group.workload.name == "control-plane-api"
    assert [entry.kind for entry in group.downstream] == ["awx"]
    assert SHIPPED.topic(incidents.TOPIC).criticality == "high"
    assert [contact.level for contact in SHIPPED.contacts] == ["L1", "L2", "L3"]


def test_it_survives_json_as_the_incident_file_keeps_it():
    assert runbook.Runbook.model_validate(SHIPPED.model_dump(mode="json")) == SHIPPED


# -- another company's


def test_a_title_is_enough(tmp_path):
    book = load(written(tmp_path, MINIMAL))
    assert book.commands.kubectl == "kubectl"
    assert book.group("anything") == Group(name="anything")
    assert book.topic("anything") == Topic(name="anything")


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\nb", "../.."])
def test_a_group_no_runbook_would_name_still_has_an_entry(name):
    assert SHIPPED.group(name).name == name
    assert SHIPPED.group(name).promise_seconds == 60
    assert SHIPPED.topic(name).name == name


REMEDY = '[[remedies]]\ncause = "network"\ntitle = "t"\nwhy = "w"\nsafety = "{}"\ncommand = "{}"\n'


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (MINIMAL + "colour = 'red'", "colour"),
        (MINIMAL + "[priors]\nnetwork = 'often'", "priors.network"),
        (MINIMAL + "[[groups]]\nname = 'g'\npromise_seconds = 0", "groups.0.promise_seconds"),
        (MINIMAL + "[[groups]]\nname = ''", "groups.0.name"),
        (MINIMAL + "[[groups]]\nname = 'g'\n[groups.workload]\nname = 'w'", "workload.namespace"),
        (MINIMAL + "[[groups]]\nname = 'g'\nmood = 'bad'", "groups.0.mood"),
        (MINIMAL + "[thresholds]\nlag_messages = -1", "thresholds.lag_messages"),
        (MINIMAL + REMEDY.format("harmless", "x"), "remedies.0.safety"),
        (MINIMAL + REMEDY.format("read_only", "xargs -I{} rm"), "remedies.0.command"),
        (MINIMAL + REMEDY.format("read_only", "awk '{print $1}'"), "remedies.0.command"),
        (MINIMAL + REMEDY.format("read_only", "echo {"), "remedies.0.command"),
        (MINIMAL + REMEDY.format("read_only", "echo {group.name}"), "remedies.0.command"),
        (MINIMAL + REMEDY.format("read_only", "echo {0}"), "remedies.0.command"),
        ("", "title"),
    ],
)
def test_a_runbook_that_breaks_its_schema_is_refused_with_the_place(tmp_path, text, where):
    file = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(file)
    assert where in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_brace_that_is_meant_as_one_is_written_twice(tmp_path):
    book = load(written(tmp_path, MINIMAL + REMEDY.format("read_only", "awk '{{print $1}}'")))
    assert book.remedies[0].command == "awk '{{print $1}}'"


@pytest.mark.parametrize("content", [b"title = ", b"\xff\xfe", b"title = 1\ntitle = 2"])
def test_a_file_that_is_no_toml_is_refused_with_its_name(tmp_path, content):
    file = tmp_path / "runbook.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"runbook\.toml"):
        load(file)


def test_a_runbook_that_is_not_there_is_refused_with_the_option(tmp_path):
    with pytest.raises(UsageError, match="--runbook"):
        load(tmp_path / "none.toml")


def test_many_faults_are_cut_to_ten(tmp_path):
    text = MINIMAL + "".join(f"[[groups]]\nname = 'g{n}'\nmood = 1\n" for n in range(40))
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, text))
    assert "40 place(s)" in str(caught.value)
    assert str(caught.value).count("mood") == 10

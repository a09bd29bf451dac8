"""Commands for a person to run: filled in whole or not at all, and safe to paste."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace

import incidents
import pandas as pd
import pytest

from lagkit import frames, remedies
from lagkit.investigation import investigate
from lagkit.model import Finding
from lagkit.remedies import fill
from lagkit.runbook import Commands, DoNot, Remedy, Runbook

HOSTILE = (
    "x; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "a'b",
    'a"; touch pwned; "',
    "a\ntouch pwned",
    "' ; touch pwned ; '",
    "a && touch pwned",
    "a|touch pwned",
)


def known(incident, findings=(), **changes) -> dict[str, str]:
    options = {"unread": 5931.0, "members": 2.0, "usual_members": 3.0}
    return remedies.names(incident, findings, **(options | changes))


def ranked(*pairs):
    """Return ranked causes (cause, probability), first is primary."""
    one = incidents.investigated("calm").verdict.ranking[0]
    return tuple(
        replace(
            one,
            cause=cause,
            rank=rank,
            probability=probability,
            role="primary" if rank == 1 else "none",
        )
        for rank, (cause, probability) in enumerate(pairs, start=1)
    )


def frozen(topic: str, partition: int, offset: float) -> Finding:
    return Finding(f"partition_frozen:{topic}/{partition}", "", "prometheus", "", value=offset)


# -- filling in


def test_a_template_with_an_unknown_name_is_left_out_and_not_half_filled():
    assert fill("scale {workload} to {moon}", {"workload": "w"}) is None
    assert fill("scale {workload}", {"workload": "w"}) == "scale w"
    assert fill("plain", {}) == "plain"


def test_doubled_braces_are_braces():
    assert fill("awk '{{print $1}}' {group}", {"group": "g"}) == "awk '{print $1}' g"


def test_a_value_is_not_filled_in_again():
    assert fill("{group}", {"group": "{topic}", "topic": "t"}) == "{topic}"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_one_word_in_every_command_and_runs_nothing(name, tmp_path):
    """Each filled command is given to a real shell whose rpk and kubectl only print their words."""
    named = incidents.renamed(
        incidents.make("poison_retry"), {incidents.TOPIC: name, incidents.GROUP: "g " + name}
    )
    show = tmp_path / "bin" / "show"
    show.parent.mkdir()
    show.write_text('#!/bin/sh\nprintf "<%s>" "$@"\ncat\n')
    show.chmod(0o755)
    commands = Commands(rpk=str(show), kubectl=str(show))
    book = named.runbook.model_copy(update={"commands": commands})
    names = known(replace(named, runbook=book), [frozen(name, 2, 1234.0)])
    filled = [c for c in (fill(r.command, names) for r in book.remedies) if c]
    assert len(filled) > 15
    for command in filled:
        command = command.replace("lagkit capture", str(show))
        run = subprocess.run(
            ["bash", "-c", command],
            check=False,
            cwd=tmp_path,
            input="",
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, (command, run.stderr)
        if shlex.quote(name) in command:
            assert name in run.stdout
    assert list(tmp_path.iterdir()) == [show.parent]


def test_the_runbooks_own_commands_are_not_quoted():
    names = known(incidents.make("calm"))
    assert names["rpk"] == "kubectl exec -n kafka redpanda-0 -- rpk"
    assert names["rpk_stdin"] == "kubectl exec -i -n kafka redpanda-0 -- rpk"


# -- names


def test_names_come_from_the_incident_and_the_runbook():
    names = known(incidents.make("down"))
    assert (names["group"], names["topic"], names["partitions"]) == (
        incidents.GROUP,
        incidents.TOPIC,
        "6",
    )
    assert (names["namespace"], names["workload"], names["kind"]) == (
        "stoa-system",
        "control-plane-api",
        "deployment",
    )
    assert names["unread_messages"] == "5931"
    assert names["retention_doubled_ms"] == "43200000"
    assert (names["downstream_namespace"], names["downstream_workload"]) == ("awx", "awx-web")


def test_what_is_not_known_has_no_name():
    bare = incidents.without(incidents.make("calm"), "kafka", "kubernetes", "prometheus")
    names = known(bare, unread=None, members=None, usual_members=None)
    assert (
        not {
            "partitions",
            "unread_messages",
            "members",
            "replicas_wanted",
            "replicas_most",
            "stuck_offset",
            "retention_doubled_ms",
        }
        & names.keys()
    )
    assert names["topic"] == incidents.TOPIC


def test_a_workload_scaled_to_zero_is_brought_back_to_what_it_was():
    names = known(incidents.make("scaled_to_zero"), members=0.0, usual_members=3.0)
    assert names["replicas_wanted"] == "3"


def test_more_replicas_than_partitions_are_never_asked_for():
    names = known(incidents.make("calm"), usual_members=40.0, members=40.0)
    assert names["replicas_wanted"] == "6"
    assert "replicas_most" not in names


def test_endless_retention_is_not_doubled():
    made = incidents.make("calm")
    for value in ("-1", "", "²", None):
        configs = made.configs.assign(value=pd.Series([value], dtype="str"))
        assert "retention_doubled_ms" not in known(incidents.with_tables(made, configs=configs))


def test_the_worst_topic_is_the_one_with_most_unread():
    made = incidents.make("slow")
    other = made.partitions.assign(topic="aaa", log_end_offset=10.0, committed_offset=9.0)
    both = frames.normalise("partitions", pd.concat([made.partitions, other]))
    assert known(incidents.with_tables(made, partitions=both))["topic"] == incidents.TOPIC


def test_the_record_to_skip_is_in_the_topic_it_is_stuck_in():
    """Another topic may have the larger backlog: a seek there would lose a good record."""
    made = incidents.make("slow")
    names = known(made, [frozen("other/topic", 4, 77.0)])
    assert names["topic"] == incidents.TOPIC
    assert (names["stuck_topic"], names["stuck_partition"]) == ("other/topic", "4")
    assert (names["stuck_offset"], names["stuck_offset_next"]) == ("77", "78")
    for remedy in made.runbook.remedies:
        if "{stuck_offset" in remedy.command:
            assert "{stuck_topic}" in remedy.command
            assert "{topic}" not in remedy.command


def test_a_record_known_from_logs_alone_is_named_when_only_one_topic_can_be_meant():
    said = Finding("same_record_fails:2@1284", "", "kubernetes", "")
    made = incidents.make("calm")
    assert known(made, [said])["stuck_offset"] == "1284"
    assert known(made, [said])["stuck_topic"] == incidents.TOPIC
    two = replace(made, topics=(incidents.TOPIC, "other"))
    assert "stuck_offset" not in known(two, [said])


def test_an_offset_is_printed_with_every_digit():
    made = incidents.make("calm")
    assert known(made, [frozen("t", 0, 2.0**53 - 1)])["stuck_offset"] == str(2**53 - 1)


# -- which remedies


BOOK = Runbook(
    title="t",
    remedies=(
        Remedy(cause="network", title="n2", command="b {group}", why="w", safety="disruptive"),
        Remedy(cause="network", title="n1", command="a {group}", why="w", safety="read_only"),
        Remedy(cause="network", title="n3", command="c {moon}", why="w", safety="read_only"),
        Remedy(cause="network", title="n4", command="d", why="{moon}", safety="read_only"),
        Remedy(
            cause="network",
            title="n5",
            command="e",
            why="w",
            safety="read_only",
            preconditions=("{moon} is up",),
        ),
        Remedy(cause="rebalancing", title="r", command="a {group}", why="w", safety="read_only"),
        Remedy(cause="unknown", title="u", command="u", why="w", safety="read_only"),
    ),
    do_not=(DoNot(cause="network", text="not {group}"), DoNot(cause="network", text="{moon}")),
)


def test_remedies_come_safest_first_and_only_whole():
    found = remedies.actions(BOOK, ranked(("network", 0.9), ("rebalancing", 0.1)), {"group": "g"})
    assert [action.command for action in found] == ["a g", "b g"]
    assert found[0].cause == "network"


def test_one_command_is_printed_once():
    found = remedies.actions(BOOK, ranked(("network", 0.5), ("rebalancing", 0.4)), {"group": "g"})
    assert [action.command for action in found] == ["a g", "b g"]


def test_a_cause_that_is_hardly_possible_gets_no_remedy():
    assert remedies.concerned(ranked(("network", 0.9), ("rebalancing", 0.1))) == ["network"]


def test_a_contributing_cause_gets_its_remedies_whatever_its_probability():
    first, second = ranked(("network", 0.95), ("rebalancing", 0.02))
    assert remedies.concerned((first, replace(second, role="contributing"))) == [
        "network",
        "rebalancing",
    ]


def test_no_incident_needs_no_action():
    assert remedies.actions(BOOK, ranked(("none", 0.6), ("network", 0.3)), {"group": "g"}) == ()
    assert remedies.do_not(BOOK, ranked(("none", 0.6), ("network", 0.3)), {"group": "g"}) == ()


def test_unknown_has_its_own_first_step():
    found = remedies.actions(BOOK, ranked(("unknown", 0.6), ("network", 0.1)), {"group": "g"})
    assert [action.command for action in found] == ["u"]


def test_what_would_make_it_worse_is_told_with_names_filled_in():
    assert remedies.do_not(BOOK, ranked(("network", 0.9)), {"group": "g"}) == ("not g",)


@pytest.mark.parametrize("kind", incidents.KINDS)
def test_every_verdict_offers_whole_commands(kind):
    verdict = incidents.investigated(kind).verdict
    for action in verdict.actions:
        for text in (action.command, action.why, action.title, *action.preconditions):
            assert not re.search(r"\{\w*\}", text)
    assert bool(verdict.actions) == (verdict.verdict.cause != "none")


def test_the_poison_remedies_name_the_record():
    verdict = incidents.investigated("poison_retry").verdict
    stuck = incidents.make("poison_retry").partitions.query("partition == 2")
    offset = int(stuck["committed_offset"].iloc[-1])
    skip = next(action for action in verdict.actions if "group seek" in action.command)
    assert f" {incidents.TOPIC} 2 {offset + 1} |" in skip.command
    assert skip.safety == "data_loss"
    look = next(action for action in verdict.actions if "consume" in action.command)
    assert f"--partitions 2 --offset {offset} --num 1" in look.command


def test_members_before_the_onset_are_the_usual_ones():
    made = incidents.make("down")
    assert remedies.usual_members(made, made.start + pd.Timedelta("10min")) == 3.0
    assert remedies.usual_members(made, made.start) is None
    assert remedies.usual_members(incidents.without(made, "prometheus"), made.end) is None


def test_a_group_without_a_workload_gets_no_kubectl_command_for_it():
    made = incidents.renamed(incidents.make("down"), {incidents.GROUP: "unlisted"})
    bare = replace(made, runbook=made.runbook.model_copy(update={"groups": ()}))
    for action in investigate(bare).verdict.actions:
        assert "control-plane-api" not in action.command

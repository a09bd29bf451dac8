"""From live systems to an incident: budgets, failures, the window, and what is refused."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import incidents
import pandas as pd
import pytest
from test_redact import SECRETS

from lagkit import collect, frames
from lagkit.collect import (
    OFFSET_HISTORY,
    ask_all,
    build_incident,
    capture,
    configured_sources,
    window,
)
from lagkit.config import Budgets, Settings
from lagkit.errors import NoSourceReadable, NothingThere, UsageError
from lagkit.incident import Incident, open_incident
from lagkit.runbook import Downstream, Group, Runbook, load
from lagkit.sources import Answer, Blind, Questions, Scope

SCOPE = Scope(incidents.GROUP, (), incidents.START, incidents.END, load())
SOURCES = ("prometheus", "kafka", "kubernetes", "downstream")
SEEN = incidents.make("calm")


def tables_of(source: str) -> dict[str, pd.DataFrame]:
    return {
        name: SEEN.tables[name] for name, frame in frames.FRAMES.items() if frame.source == source
    }


def answer_of(source: str, **changes) -> Answer:
    queries = SEEN.queries.loc[SEEN.queries["source"] == source].reset_index(drop=True)
    fields = {
        "source": source,
        "status": "ok",
        "detail": "answered",
        "seconds": 0.1,
        "frames": tables_of(source),
        "queries": queries,
    }
    return Answer(**(fields | changes))


@dataclass
class Ready:
    """A source that answers at once with the frames of a synthetic incident."""

    name: str
    asked: list[tuple[Scope, float]] = field(default_factory=list)

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        self.asked.append((scope, budget_seconds))
        return answer_of(self.name)


@dataclass
class Stuck:
    """A source that hangs inside a library, until it is let go."""

    name: str
    release: threading.Event = field(default_factory=threading.Event)

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        self.release.wait(30)
        return answer_of(self.name)


@dataclass
class Broken:
    """A source with a fault of its own."""

    name: str

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        msg = "no attribute 'items', token=s3cr3tvalue"
        raise AttributeError(msg)


@dataclass
class Down:
    """A source whose system is not there."""

    name: str
    detail: str = "connection refused by http://ops:hunter2@prom.example:9090"

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        return Answer(self.name, "unavailable", self.detail, 0.2)


SHORT = Settings(budgets=Budgets(prometheus=0.2, kafka=0.2, kubernetes=0.2, downstream=0.2))


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr(collect, "_GRACE_SECONDS", 0.3)
    monkeypatch.delenv("LAGKIT_CONFIG", raising=False)


def build(answers, *, settings: Settings = SHORT, scope: Scope = SCOPE) -> Incident:
    return build_incident(scope, {answer.source: answer for answer in answers}, settings)


# One answer per source, with every kind of secret in every text that is no name.
_CANARIES = [text for text, _ in SECRETS.values()]
_NOW = SEEN.end


def _secret_answers() -> list[Answer]:
    logs = [
        {
            "timestamp": _NOW,
            "namespace": "ns",
            "pod": "p",
            "container": "c",
            "role": "consumer",
            "previous": False,
            "line_number": n,
            "level": "ERROR",
            "message": text,
            "query_id": "kubernetes-01",
        }
        for n, text in enumerate(
            [
                *_CANARIES,
                "-----BEGIN PRIVATE KEY-----",
                "MIIEow" * 10,
                "MIIEow==",
                "-----END PRIVATE KEY-----",
            ]
        )
    ]
    events = [
        {
            "timestamp": _NOW,
            "namespace": "ns",
            "kind": "Pod",
            "name": "p",
            "reason": "Failed",
            "message": text,
            "query_id": "kubernetes-01",
        }
        for text in _CANARIES
    ]
    alerts = [
        {
            "timestamp": _NOW,
            "alert": "Lag",
            "state": "firing",
            "labels": text,
            "query_id": "prometheus-01",
        }
        for text in _CANARIES
    ]
    probes = [
        {
            "timestamp": _NOW,
            "target": "awx",
            "check": f"ping{n}",
            "url": text,
            "ok": False,
            "detail": text,
            "query_id": "downstream-01",
        }
        for n, text in enumerate(_CANARIES)
    ]
    configs = [
        {
            "timestamp": _NOW,
            "resource": "topic",
            "name": "t",
            "key": f"k{n}",
            "value": text,
            "query_id": "kafka-01",
        }
        for n, text in enumerate(_CANARIES)
    ]
    made = {
        "kubernetes": {"logs": logs, "events": events},
        "prometheus": {"alerts": alerts},
        "downstream": {"downstream": probes},
        "kafka": {"configs": configs},
    }
    answers = []
    for source, tables in made.items():
        questions = Questions(source)
        for text in _CANARIES:
            with questions.ask(text) as question:
                question.detail = text
        answers.append(
            answer_of(
                source,
                detail="\n".join(_CANARIES),
                queries=questions.frame(),
                frames={
                    **tables_of(source),
                    **{name: frames.normalise(name, rows) for name, rows in tables.items()},
                },
                blind=tuple(Blind(text, text, text) for text in _CANARIES),
                facts={f"fact{n}": text for n, text in enumerate(_CANARIES)},
            )
        )
    return answers


SECRET_ANSWERS = _secret_answers()

# -- budgets


def test_every_source_gets_the_scope_and_its_own_budget():
    sources = {name: Ready(name) for name in SOURCES}
    settings = Settings(budgets=Budgets(prometheus=1, kafka=2, kubernetes=3, downstream=4))
    ask_all(sources, SCOPE, settings)
    assert {name: source.asked for name, source in sources.items()} == {
        "prometheus": [(SCOPE, 1.0)],
        "kafka": [(SCOPE, 2.0)],
        "kubernetes": [(SCOPE, 3.0)],
        "downstream": [(SCOPE, 4.0)],
    }


def test_a_source_that_hangs_is_given_up_and_the_others_are_kept():
    stuck = Stuck("kafka")
    sources = {name: Ready(name) for name in SOURCES} | {"kafka": stuck}
    answers = ask_all(sources, SCOPE, SHORT)
    stuck.release.set()
    assert answers["kafka"].status == "unavailable"
    assert "budget of 0.2 s" in answers["kafka"].detail
    assert {answers[name].status for name in SOURCES if name != "kafka"} == {"ok"}


def test_when_all_sources_hang_all_are_given_up_together():
    stuck = {name: Stuck(name) for name in SOURCES}
    answers = ask_all(stuck, SCOPE, SHORT)
    for source in stuck.values():
        source.release.set()
    assert {answer.status for answer in answers.values()} == {"unavailable"}
    assert set(answers) == set(SOURCES)


def test_a_late_answer_does_not_change_what_was_returned():
    stuck = Stuck("kafka")
    answers = ask_all({"kafka": stuck}, SCOPE, SHORT)
    stuck.release.set()
    time.sleep(0.05)
    assert answers["kafka"].status == "unavailable"


def test_a_stuck_source_does_not_keep_the_process_alive():
    stuck = Stuck("kafka")
    ask_all({"kafka": stuck}, SCOPE, SHORT)
    left = [thread for thread in threading.enumerate() if thread.name == "lagkit-kafka"]
    assert all(thread.daemon for thread in left)
    stuck.release.set()


@dataclass
class Watching:
    """A Kafka source that answers once it is told to watch for longer, or is let go."""

    name: str = "kafka"
    longer: threading.Event = field(default_factory=threading.Event)

    def watch_longer(self) -> None:
        self.longer.set()

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        told = self.longer.wait(budget_seconds)
        return answer_of(self.name, detail="watched for longer" if told else "a few seconds")


@pytest.mark.parametrize(
    ("prometheus", "detail"),
    [(Down("prometheus"), "watched for longer"), (Ready("prometheus"), "a few seconds")],
    ids=["down", "with a history"],
)
def test_kafka_watches_for_longer_where_prometheus_has_no_history(prometheus, detail):
    sources = {"prometheus": prometheus, "kafka": Watching()}
    answers = ask_all(sources, SCOPE, Settings(budgets=Budgets(prometheus=2, kafka=2)))
    assert answers["kafka"].detail == detail


def test_a_fault_inside_a_source_ends_as_a_status():
    answers = ask_all({"kafka": Broken("kafka"), "prometheus": Ready("prometheus")}, SCOPE, SHORT)
    assert answers["kafka"].status == "unavailable"
    assert "AttributeError" in answers["kafka"].detail
    assert answers["prometheus"].status == "ok"


def test_an_answer_under_another_name_is_counted_for_the_source_that_gave_it():
    answers = ask_all(
        {"kafka": Ready("prometheus"), "kubernetes": Ready("kubernetes")}, SCOPE, SHORT
    )
    assert set(answers) == {"kafka", "kubernetes"}
    assert {answer.status for answer in answers.values()} == {"ok"}


def test_progress_tells_each_source_as_it_comes_and_those_that_were_given_up():
    stuck = Stuck("kafka")
    told: list[str] = []
    ask_all(
        {"kafka": stuck, "prometheus": Ready("prometheus")}, SCOPE, SHORT, on_progress=told.append
    )
    stuck.release.set()
    assert told[0].startswith("prometheus: ok")
    assert told[1].startswith("kafka: gave up after 0.2 s")


# -- joining


def test_all_answers_make_one_incident_that_survives_its_file(tmp_path):
    made = build([answer_of(source) for source in SOURCES])
    assert (made.group, made.start, made.end) == (SCOPE.group, SCOPE.start, SCOPE.end)
    assert made.topics == (incidents.TOPIC,)
    assert {name: report.status for name, report in made.sources.items()} == dict.fromkeys(
        SOURCES, "ok"
    )
    assert set(made.queries["source"]) == set(SOURCES)
    assert open_incident(made.save(tmp_path / "x.lagkit")) == made


def test_a_source_that_was_not_asked_is_not_configured_and_not_failed():
    made = build([answer_of("prometheus")])
    assert made.sources["kafka"].status == "not_configured"


def test_what_a_source_could_not_see_becomes_a_gap():
    blind = (Blind("logs", "403 Forbidden", "grant get on pods/log"),)
    made = build([answer_of("prometheus"), answer_of("kubernetes", status="partial", blind=blind)])
    assert [(gap.source, gap.what, gap.why, gap.fix) for gap in made.coverage] == [
        ("kubernetes", "logs", "403 Forbidden", "grant get on pods/log")
    ]


def test_the_same_question_about_the_same_window_has_the_same_id():
    def ident(scope: Scope) -> str:
        return build([answer_of("prometheus")], scope=scope).id

    other = Scope("other", (incidents.TOPIC,), SCOPE.start, SCOPE.end, SCOPE.runbook)
    assert ident(SCOPE) == ident(SCOPE) != ident(other)


def test_addresses_go_everywhere_when_asked(tmp_path):
    settings = Settings(redact_addresses=True)
    answers = [answer_of(source, detail="10.1.0.2 refused") for source in SOURCES]
    made = build(answers, settings=settings)
    assert b"10.1.0." not in made.to_bytes()
    assert "10.1.0." not in made.members.to_csv() + made.pods.to_csv()
    assert made.redactions["IP address"] > 0
    assert open_incident(made.save(tmp_path / "x.lagkit")) == made


def test_members_and_pods_still_meet_behind_pseudonyms():
    from lagkit.ownership import owners

    made = build([answer_of(s) for s in SOURCES], settings=Settings(redact_addresses=True))
    anonymous = made.members.assign(client_id=None, member_id="m")
    joined = owners(anonymous, made.pods)
    assert set(joined["joined_by"]) == {"host"}


def test_a_group_named_after_an_address_is_still_found_when_addresses_go():
    named = incidents.renamed(SEEN, {incidents.GROUP: "worker-10.1.2.3"})
    scope = Scope("worker-10.1.2.3", (), SCOPE.start, SCOPE.end, SCOPE.runbook)
    answer = answer_of("prometheus", frames={"offsets": named.offsets})
    made = build([answer], settings=Settings(redact_addresses=True), scope=scope)
    assert set(made.offsets["group"]) == {made.group}
    assert "10.1.2.3" not in made.group


def test_a_login_in_the_runbooks_own_url_is_not_kept():
    book = Runbook(
        title="t",
        groups=(
            Group(
                name=SCOPE.group,
                downstream=(Downstream(name="awx", url="https://ops:hunter2@awx.example/"),),
            ),
        ),
    )
    scope = Scope(SCOPE.group, (), SCOPE.start, SCOPE.end, book)
    made = build([answer_of("prometheus")], scope=scope)
    assert b"hunter2" not in made.to_bytes()
    assert made.runbook.group(SCOPE.group).downstream[0].url == "https://[removed]@awx.example/"


def test_contacts_of_the_runbook_are_kept():
    made = build(SECRET_ANSWERS)
    assert made.runbook == SCOPE.runbook


# -- refusing


def test_no_source_readable_names_each_and_its_reason_without_its_login():
    with pytest.raises(NoSourceReadable) as caught:
        build([Down(name).fetch(SCOPE, budget_seconds=1) for name in ("prometheus", "kafka")])
    text = str(caught.value)
    assert "prometheus: connection refused" in text
    assert "kafka: connection refused" in text
    assert "doctor" in text
    assert "hunter2" not in text
    assert caught.value.exit_status == 4


def nothing(source: str, **facts: str) -> Answer:
    return Answer(source, "ok", "answered", 0.1, facts=facts)


def test_an_unknown_group_is_refused_with_near_names():
    with pytest.raises(NothingThere) as caught:
        build(
            [
                nothing("prometheus", near_groups="deployment-workers,deploy"),
                nothing("kafka", near_groups="deploy, audit"),
            ]
        )
    text = str(caught.value)
    assert repr(incidents.GROUP) in text
    assert "Near: audit, deploy, deployment-workers." in text
    assert caught.value.exit_status == 3


def test_an_unknown_group_without_near_names_says_what_to_look_at():
    with pytest.raises(NothingThere, match="Check the name and the window"):
        build([nothing("prometheus")])


def test_without_any_exporter_no_group_is_called_unknown():
    """Nobody could have told it: the error is about the exporter, and so is what mends it."""
    blind = Blind(OFFSET_HISTORY, "no lag exporter writes here; looked for x.", "Deploy one.")
    answer = replace(nothing("prometheus", dialect="none"), blind=(blind,))
    with pytest.raises(NothingThere) as caught:
        build([answer])
    text = str(caught.value)
    assert "is not known: no lag exporter writes here; looked for x." in text
    assert "No group" not in text
    assert text.endswith("\nDeploy one.")
    with pytest.raises(NothingThere, match="No group"):
        build([answer, nothing("kafka")])


def test_a_group_that_was_forbidden_to_see_is_not_called_unknown():
    questions = Questions("kafka")
    with questions.ask("DescribeConsumerGroups") as question:
        question.outcome = "denied"
    made = build(
        [
            nothing("prometheus"),
            Answer("kafka", "partial", "denied", 0.1, queries=questions.frame()),
        ]
    )
    assert made.offsets.empty


def test_what_kubernetes_denied_does_not_hide_an_unknown_group():
    questions = Questions("kubernetes")
    with questions.ask("GET pods") as question:
        question.outcome = "denied"
    with pytest.raises(NothingThere):
        build(
            [
                nothing("prometheus"),
                Answer("kubernetes", "partial", "denied", 0.1, queries=questions.frame()),
            ]
        )


def test_another_groups_members_do_not_make_a_group_known():
    members = frames.normalise(
        "members", [{"timestamp": _NOW, "group": "other", "member_id": "m", "query_id": "kafka-01"}]
    )
    with pytest.raises(NothingThere):
        build([answer_of("kafka", frames={"members": members})])


def test_a_group_that_exists_and_has_committed_nothing_is_an_incident():
    made = build([nothing("kafka", group_exists="yes")])
    assert made.partitions.empty


def test_kubernetes_alone_is_enough_to_go_on():
    made = build([Down("prometheus").fetch(SCOPE, budget_seconds=1), answer_of("kubernetes")])
    assert len(made.pods)


# -- configuration


def test_without_an_address_no_source_is_made():
    assert configured_sources(Settings(), SCOPE) == {}


def test_capture_without_any_source_says_how_to_name_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--prometheus URL"):
        capture("g", settings=Settings())


def test_a_downstream_without_address_is_not_asked():
    settings = Settings(bootstrap="127.0.0.1:1")
    assert set(configured_sources(settings, SCOPE)) == {"kafka"}


def test_a_downstream_the_runbook_does_not_name_is_not_asked():
    settings = Settings(downstream={"elsewhere": "http://127.0.0.1:1"})
    assert configured_sources(settings, SCOPE) == {}


# -- the window


def seconds(*arguments, **options) -> float:
    start, end = window(*arguments, **options)
    return (end - start).total_seconds()


def test_the_window_is_the_last_hour_if_nothing_is_said():
    assert seconds() == 3600


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("90s", 90),
        ("45m", 2700),
        ("45min", 2700),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("3d", 259200),
        ("1w", 604800),
    ],
)
def test_since_reads_lengths_as_people_write_them(since, expected):
    assert seconds(since) == expected


@pytest.mark.parametrize("since", ["1", "h", "one hour", "-1h", "1h ", "1y", "1h30"])
def test_a_length_that_cannot_be_read_is_refused_with_an_example(since):
    with pytest.raises(UsageError, match="2h"):
        window(since)


@pytest.mark.parametrize("since", ["99999999999w", "9" * 400 + "d", "200000d"])
def test_a_length_beyond_time_is_refused_and_not_a_traceback(since):
    with pytest.raises(UsageError, match="2h"):
        window(since)


@pytest.mark.parametrize(
    "text", ["soon", "2026-13-01T00:00:00Z", "2026-11-23T02:00:00+99:00", "9" * 30, "NaT"]
)
def test_a_time_that_cannot_be_read_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="2026-11-23T02:00:00Z"):
        window(start=text)


def test_a_time_without_zone_is_refused_with_the_same_time_written_right():
    with pytest.raises(UsageError, match="2026-11-23T02:00:00Z for UTC"):
        window(start="2026-11-23 02:00")


def test_times_of_any_zone_become_utc():
    start, end = window(start="2026-11-23T03:00:00+01:00", end="2026-11-23T03:00:00Z")
    assert start == pd.Timestamp("2026-11-23T02:00:00Z")
    assert str(start.tz) == str(end.tz) == "UTC"
    assert start.unit == "us"


def test_times_are_cut_to_what_the_file_keeps():
    start, _ = window(start="2026-11-23T02:00:00.123456789Z", end="2026-11-23T03:00:00Z")
    assert start == pd.Timestamp("2026-11-23T02:00:00.123Z")


def test_an_empty_window_is_refused():
    with pytest.raises(UsageError, match="empty"):
        window(start="2026-11-23T03:00:00Z", end="2026-11-23T02:00:00Z")


def test_since_and_start_together_are_refused():
    with pytest.raises(UsageError, match="--since and --start"):
        window("1h", "2026-11-23T03:00:00Z")


def test_since_counts_back_from_the_given_end():
    start, end = window("1h", end="2026-11-23T03:00:00Z")
    assert (start, end) == (
        pd.Timestamp("2026-11-23T02:00:00Z"),
        pd.Timestamp("2026-11-23T03:00:00Z"),
    )

"""What a server has for rules, and every way in which it may not say so."""

from __future__ import annotations

import pytest
from http_stub import Asked, Handler, serving

from lagkit.config import HttpLogin, OwnDialect
from lagkit.errors import UsageError
from lagkit.sources.prometheus.survey import Survey, Unreadable, survey

NAMES = ["kafka_consumergroup_lag", "kafka_consumergroup_current_offset",
         "kafka_topic_partition_current_offset", "up"]  # fmt: skip
PAGES = {
    "/api/v1/label/__name__/values": NAMES,
    "/api/v1/labels": ["__name__", "consumergroup", "kafka_cluster", "topic"],
    "/api/v1/label/consumergroup/values": ["b", "a"],
    "/api/v1/status/runtimeinfo": {"storageRetention": "15d or 10GiB"},
    "/api/v1/rules": {"groups": []},
    "/api/v1/metadata": {"x": [{"type": "gauge"}], "y": [{"type": "gauge"}, {"type": "counter"}]},
}


def ask(url: str, **more) -> Survey:
    return survey(url, HttpLogin(), budget_seconds=10, **more)


def answering(**pages):
    def respond(handler: Handler, asked: Asked) -> None:
        page = {**PAGES, **pages}.get(asked.path)
        if page is None:
            handler.json(404, {"status": "error", "error": "not here"})
        else:
            handler.success(page)

    return serving(respond)


def test_a_server_tells_its_exporter_groups_clusters_and_how_long_it_keeps():
    with answering() as stub:
        found = ask(stub.url)
    assert [one.dialect.id for one in found.found] == ["kafka_exporter"]
    assert found.groups == ("a", "b")
    assert found.cluster_labels == ("kafka_cluster",)
    assert found.kept_seconds == 15 * 86400
    assert found.rules is None
    assert all(asked.method == "GET" for asked in stub.asked)


def test_everything_is_every_name_the_types_that_are_certain_and_the_rules():
    with answering() as stub:
        found = ask(stub.url, everything=True)
    names = next(one for one in stub.asked if "__name__" in one.path)
    assert "match[]" not in names.fields
    assert found.types == {"x": "gauge"}
    assert found.rules == {"groups": []}


def test_a_server_without_the_lesser_pages_is_read_all_the_same():
    bare = dict.fromkeys(["/api/v1/status/runtimeinfo", "/api/v1/metadata"])
    with answering(**bare) as stub:
        found = ask(stub.url, everything=True)
    assert (found.kept_seconds, found.types) == (None, {})


def test_an_exporter_that_tells_no_group_is_named_as_mute():
    names = {"/api/v1/label/__name__/values": ["kafka_topic_partition_current_offset"]}
    with answering(**names) as stub:
        found = ask(stub.url)
    assert found.found == ()
    assert any("kafka_exporter" in title for title in found.mute)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"<html>log in</html>", 200, "no Prometheus API"),
        (b"<html>log in</html>", 401, "refused the login"),
        (b'{"status":"success","data":{"a":1}}', 200, "shape"),
        (b'{"status":"success","data":7}', 200, "shape"),
        (b'{"status":"error","errorType":"timeout","error":"slow"}', 503, "slow"),
        (b"", 502, "502"),
    ],
)
def test_what_is_no_answer_is_said_in_one_sentence(body, status, said):
    with serving(lambda handler, _: handler.send(status, body)) as stub:
        with pytest.raises(Unreadable, match=said):
            ask(stub.url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "ftp://x", "http://no.invalid"])
def test_an_address_that_leads_nowhere_is_unreadable_and_shows_no_secret(url):
    with pytest.raises(Unreadable) as told:
        ask(url.replace("//", "//user:hunter2@", 1))
    assert "hunter2" not in str(told.value)


def test_an_exporter_of_ones_own_is_looked_for_too():
    own = OwnDialect(id="acme", lag="acme_lag", log_end="acme_end")
    pages = {"/api/v1/label/__name__/values": ["acme_lag", "acme_end"],
             "/api/v1/label/group/values": ["g"]}  # fmt: skip
    with answering(**pages) as stub:
        assert ask(stub.url, own=[own]).found[0].dialect.id == "acme"
    taken = OwnDialect(id="otel", lag="acme_lag", log_end="acme_end")
    with pytest.raises(UsageError, match="otel"):
        ask("http://127.0.0.1:1", own=[taken])

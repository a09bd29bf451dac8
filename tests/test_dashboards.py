"""Reports lead to the runbook's dashboards, with the incident's group and window."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import factories
import pandas as pd
import pytest

from lagkit import runbook
from lagkit.dashboards import Link, links
from lagkit.errors import UsageError
from lagkit.render.html import render_html
from lagkit.render.markdown import render_markdown
from lagkit.report import build

START, END = pd.Timestamp("2026-11-23T02:00:00Z"), pd.Timestamp("2026-11-23T03:00:00.5Z")
URL = "https://grafana.example/d/x?var-group={group}&var-topic={topic}&from={from_ms}&to={to_ms}"


def book(*dashboards: dict[str, object]) -> runbook.Runbook:
    return runbook.Runbook.model_validate({"title": "t", "dashboards": list(dashboards)})


def linked(group: str, topics: tuple[str, ...] = ("t",), url: str = URL, **more: object) -> str:
    (link,) = links(book({"title": "x", "url": url, **more}), group, topics, "", START, END)
    return link.url


def test_a_dashboard_is_linked_with_group_topic_and_window_in_epoch_milliseconds():
    query = parse_qs(urlsplit(linked("deployment-worker")).query)
    assert query == {
        "var-group": ["deployment-worker"],
        "var-topic": ["t"],
        "from": ["1795399200000"],
        "to": ["1795402800500"],
    }


def test_of_several_topics_or_none_the_dashboard_shows_all():
    for topics in ((), ("a", "b")):
        assert parse_qs(urlsplit(linked("g", topics)).query)["var-topic"] == ["$__all"]


@pytest.mark.parametrize(
    "group", ['a&from=0#"><script>', "x) [y](javascript:z", "a b\n/../{c}%41", "ünï\u202e🙂"]
)
def test_a_hostile_group_stays_one_value_of_the_query(group):
    url = linked(group)
    assert parse_qs(urlsplit(url).query)["var-group"] == [group]
    assert not set(url) & set("()<>\"'` \n\\|{}")
    assert url.isascii()


def test_a_dashboard_of_other_groups_is_not_linked():
    of_two = book(
        {"title": "mine", "url": "https://a/{group}", "groups": ["g"]},
        {"title": "theirs", "url": "https://b/", "groups": ["h"]},
        {"title": "all", "url": "http://c/"},
    )
    assert [one.title for one in links(of_two, "g", (), "", START, END)] == ["mine", "all"]


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "grafana/d/x", "https://g/{user}", "https://g/{group", "https://g/{}",
     "https://g/" + "x" * 2000],
)  # fmt: skip
def test_an_address_that_cannot_be_linked_is_refused_with_its_place(url, tmp_path):
    file = tmp_path / "runbook.toml"
    file.write_text(f'title = "t"\n[[dashboards]]\ntitle = "x"\nurl = "{url}"\n')
    with pytest.raises(UsageError, match=r"dashboards\.0\.url"):
        runbook.load(file)


def test_the_shipped_runbook_links_its_dashboards():
    shown = links(runbook.load(), "deployment-worker", ("deploy-requests",), "c", START, END)
    assert [one.title for one in shown] == ["Kafka", "Deployments"]
    assert "var-group=deployment-worker" in shown[0].url
    assert [one.title for one in links(runbook.load(), "other", (), "", START, END)] == ["Kafka"]


def test_both_reports_show_the_links_of_the_incidents_runbook():
    result = factories.result()
    incident = replace(
        result.incident,
        runbook=result.incident.runbook.model_copy(
            update={"dashboards": (runbook.Dashboard(title="Lag <b>|*x*", url=URL),)}
        ),
    )
    report = build(replace(result, incident=incident))
    (link,) = report.links
    html, markdown = render_html(report), render_markdown(report)
    assert f'<a href="{link.url.replace("&", "&amp;")}" rel="noopener noreferrer">' in html
    assert "Lag &lt;b&gt;|*x*</a>" in html
    assert f"]({link.url})" in markdown
    assert r"[Lag \<b\>\|\*x\*](" in markdown
    window = parse_qs(urlsplit(link.url).query)
    assert int(window["from"][0]) == round(incident.start.timestamp() * 1000)
    assert int(window["to"][0]) == round(incident.end.timestamp() * 1000)


def test_a_report_without_dashboards_has_no_line_for_them():
    report = replace(build(factories.result()), links=())
    assert "Dashboards with this" not in render_html(report)
    assert "Dashboards with this" not in render_markdown(report)
    assert Link("a", "b") == Link("a", "b")

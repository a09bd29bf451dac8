from __future__ import annotations

import base64
import hashlib
import html.parser
import itertools
import json
import re
import shutil
import stat
import zlib
from dataclasses import replace

import command
import factories
import pandas as pd
import pytest

from lagkit import model, report, writing
from lagkit.errors import ReportFailed, UsageError
from lagkit.model import CatchUp, Forecast, Headline, Impact
from lagkit.render import html as html_renderer
from lagkit.render import page as page_renderer
from lagkit.render.html import render_html
from lagkit.render.markdown import code, escape, fenced, render_markdown
from lagkit.render.text import first_screen
from lagkit.resources import resource_path

VOID = {"br", "link", "meta", "rect", "line", "path", "circle", "polygon", "img", "input", "hr"}
LIKELIHOODS = (
    "almost no chance",
    "very unlikely",
    "unlikely",
    "roughly even",
    "likely",
    "very likely",
    "almost certain",
)
MEGABYTE = 1_000_000


class Page(html.parser.HTMLParser):
    """The document as a browser would take it apart."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            self.text[tag][-1] += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def result():
    return factories.result()


@pytest.fixture(scope="module")
def page_text(result) -> str:
    return render_html(report.build(result))


@pytest.fixture(scope="module")
def page(page_text) -> Page:
    return Page(page_text)


@pytest.fixture(scope="module")
def markdown(result) -> str:
    return render_markdown(report.build(result))


@pytest.fixture(scope="module")
def hostile():
    return report.build(factories.hostile_result())


# ── the first screen ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "made", [factories.result, factories.blind_result, factories.hostile_result]
)
def test_the_first_screen_fits_twelve_lines_of_a_hundred(made):
    lines = report.first_screen(made()).splitlines()
    assert len(lines) <= 12
    assert max(len(line) for line in lines if not line.startswith("RUN")) <= 100


def test_the_first_screen_begins_with_who_what_and_since_when(result):
    first = report.first_screen(result).splitlines()[0]
    assert first == ("deployment-worker ← deploy-requests   STILL GROWING   since 02:09:00Z ±60s")


def test_likelihood_and_confidence_stand_in_different_lines(result):
    for line in report.first_screen(result).splitlines():
        words = any(re.search(rf"\b{term}\b", line) for term in LIKELIHOODS)
        assert not (words and "confidence" in line)


def test_the_first_screen_names_deadline_catch_up_impact_and_what_not_to_do(result):
    screen = report.first_screen(result)
    assert "DEADLINE    unread data may be deleted from 08:00Z (in 5h 20m)" in screen
    assert "CATCH-UP    never at this rate: the backlog grows by 3.2 messages/s" in screen
    assert "IMPACT      5,400 messages late; 5,931 unread; oldest 24m" in screen
    assert "DO NOT      scale out" in screen
    assert "RUN         kubectl get pods -n awx   # only reads" in screen


def test_what_is_not_known_is_said_not_left_out():
    screen = report.first_screen(factories.blind_result())
    assert "IMPACT      not known: late, unread, oldest, promise, loss" in screen
    assert "CATCH-UP    not known" in screen
    assert "no onset found" in screen


def test_an_unknown_cause_has_no_likelihood(result):
    verdict = replace(
        result.verdict,
        verdict=Headline(
            "unknown",
            0.6,
            "likely",
            "low",
            "Unknown: the evidence does not single out a cause",
            3,
            9,
        ),
    )
    line = first_screen(verdict).splitlines()[1]
    assert line == "VERDICT     Unknown: the evidence does not single out a cause"


def test_without_a_cause_the_screen_shows_what_was_seen(result):
    unknown = replace(result.verdict.ranking[0], cause="unknown", evidence_for=())
    screen = first_screen(replace(result.verdict, ranking=(unknown,)))
    assert "  seen      Consumed 0.18/s per partition" in screen
    assert "  for" not in screen


def test_do_not_is_not_said_twice(result):
    texts = ("Do not restart: it is read again. Do not seek to the end.",)
    screen = first_screen(replace(result.verdict, do_not=texts))
    assert "DO NOT      restart: it is read again; do not seek to the end" in screen


@pytest.mark.parametrize(
    ("rule", "words"),
    [("time", "by retention, at the earliest"), ("log_start", "the log start is catching up")],
)
def test_a_loss_deadline_says_by_which_rule(result, rule, words):
    forecast = replace(result.verdict.forecast, data_loss_rule=rule)
    assert f"(in 5h 20m); {words}" in first_screen(replace(result.verdict, forecast=forecast))


def test_records_already_gone_are_said_although_no_deadline_is_left(result):
    forecast = Forecast(data_loss_rule="lost")
    screen = first_screen(replace(result.verdict, forecast=forecast))
    assert "DEADLINE    records were already deleted unread" in screen


def test_a_command_is_shown_whole_or_not_at_all(result):
    long = replace(result.verdict.actions[0], command="kubectl " + "x" * 220)
    screen = first_screen(replace(result.verdict, actions=(long,)))
    assert "xxx" not in screen
    assert "RUN         Look at AWX: see the report   # only reads" in screen


def test_a_command_of_several_lines_is_left_to_the_report(result):
    two = replace(result.verdict.actions[0], command="rm -i a\nrm -i b")
    assert "rm -i" not in first_screen(replace(result.verdict, actions=(two,)))


def test_a_catch_up_is_given_as_an_interval(result):
    at = CatchUp(*(factories.END + pd.Timedelta(minutes=m) for m in (20, 34, 60)))
    screen = first_screen(
        replace(result.verdict, state="draining", forecast=Forecast(2.0, at, None, ""))
    )
    assert "at the present rate 03:14Z (between 03:00Z and 03:40Z)" in screen


def test_a_healthy_group_has_nothing_to_catch_up(result):
    screen = first_screen(replace(result.verdict, state="healthy"))
    assert "CATCH-UP    nothing to catch up" in screen


def test_a_bounded_age_says_at_least(result):
    impact = Impact(oldest_age_seconds_now=3600.0, oldest_age_is_at_least=True)
    screen = first_screen(replace(result.verdict, impact=impact))
    assert "oldest at least 60m" in screen


def test_lost_messages_are_named_loudly(result):
    impact = replace(result.verdict.impact, messages_lost=12.0)
    assert "12 LOST" in first_screen(replace(result.verdict, impact=impact))


def test_no_label_can_redraw_the_terminal():
    screen = report.first_screen(factories.hostile_result())
    assert "\x1b" not in screen
    assert "\u202e" not in screen


# ── report.html ─────────────────────────────────────────────────────────────────────────────────


def test_the_page_is_well_formed(page):
    assert page.open == []


def test_the_page_is_byte_identical_on_repeat(page_text):
    assert render_html(report.build(factories.result())) == page_text


def test_the_page_is_small_enough_to_mail(page_text):
    assert len(page_text.encode()) < 2.5 * MEGABYTE


def test_a_page_without_script_is_a_tenth_of_that(result):
    static = render_html(report.build(result), interactive=False)
    assert "<script" not in static
    assert len(static.encode()) < 0.3 * MEGABYTE


def test_the_policy_allows_exactly_the_two_scripts(page, page_text):
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    scripts = re.findall(r"<script>(.*?)</script>", page_text, re.DOTALL)
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    ]
    assert len(hashes) == 2
    assert policy.startswith("default-src 'none';")
    assert policy.endswith(f"script-src {' '.join(hashes)}")
    assert "unsafe-eval" not in policy


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attrs in page.tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attrs.get(name)
            if value is not None and tag != "script":
                assert value.startswith(("#", "data:,")), (tag, value)


def test_no_element_carries_an_event_handler(page):
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]


def test_headings_go_down_one_step_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(levels) == 3
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_every_id_is_unique_and_every_link_leads_somewhere(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in page.all("a"):
        assert attrs["href"][1:] in ids


def test_every_figure_has_words_with_numbers_and_a_table(page):
    assert len(page.all("figure")) == 7
    assert all(re.search(r"\d", caption) for caption in page.text["figcaption"])
    assert sum(text.startswith("Numbers of") for text in page.text["summary"]) == 7


def test_every_table_has_a_caption_and_scopes(page):
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))


def test_the_head_shows_the_first_screen_word_for_word(result, page):
    rows = html_renderer.screen_rows(report.first_screen(result))
    shown = [" ".join(text.split()) for text in page.text["dd"]]
    for _, text in rows:
        assert " ".join(text.split()) in shown


def test_each_finding_leads_to_its_query(page):
    links = [attrs["href"] for attrs in page.all("a")]
    assert "#query-prometheus-01" in links
    assert "#query-kubernetes-01" in links


def test_a_finding_of_several_queries_leads_to_each(result):
    both = replace(result.verdict.findings[0], query="prometheus-01, kafka-02")
    verdict = replace(result.verdict, findings=(both,))
    page = Page(render_html(report.build(replace(result, verdict=verdict))))
    links = [attrs["href"] for attrs in page.all("a")]
    assert {"#query-prometheus-01", "#query-kafka-02"} <= set(links)


def test_a_finding_names_its_strongest_causes_only():
    weights = {f"cause_{n}": n - 5.0 for n in range(11)}
    assert [weight for _, weight in html_renderer.strongest(weights)] == [5, 4, 3, 2, -3, -4, -5]


def test_every_action_shows_its_safety_in_words_and_its_conditions(page_text):
    for words in ("○ only reads", "▲ disruptive", "■ LOSES DATA"):
        assert words in page_text
    assert "the rollout at 02:05Z is not wanted" in page_text


def test_all_causes_are_ranked_with_before_and_after(result, page_text):
    for entry in result.verdict.ranking:
        assert f'id="cause-{entry.cause.replace("_", "-")}"' in page_text
    assert "not measured frequencies" in page_text


def test_blind_spots_say_what_mends_them(page_text):
    assert "grant get,list on pods in awx" in page_text
    assert "broker health: no broker metrics in Prometheus" in page_text


def test_the_page_says_what_was_redacted(page_text):
    assert "2 × bearer token, 1 × e-mail address" in page_text


def test_a_report_without_data_is_whole():
    page = Page(render_html(report.build(factories.blind_result())))
    assert page.open == []
    assert len(page.all("figure")) == 7
    assert "Nothing was seen that speaks for any cause." in " ".join(page.text["p"])


def test_hostile_text_stays_text_in_html(hostile):
    page = Page(render_html(hostile))
    assert page.open == []
    scripts = page.all("script")
    assert len(scripts) == 7 + 2
    assert not page.all("img")
    assert not page.all("b")
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]


def test_hostile_text_cannot_end_the_data_given_to_the_script(hostile):
    text = render_html(hostile)
    blocks = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        json.loads(block)
        assert "<" not in block


def test_hidden_and_reordering_characters_are_replaced(hostile):
    text = render_html(hostile, interactive=False) + render_markdown(hostile)
    text += "".join(figure.svg() + figure.plotly().to_json() for figure in hostile.figures)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_text_and_paper_differ_enough_to_read():
    """Contrast of at least 4.5:1 (WCAG 2.2, 1.4.3), light and dark."""
    css = resource_path("templates/report.css").read_text(encoding="utf-8")
    schemes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for paper in ("paper", "card"):
            for ink in ("ink", "soft", "accent", "danger", "calm"):
                assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
        assert contrast(colours["danger"], colours["danger-paper"]) >= 4.5
        assert contrast(colours["ink"], colours["danger-paper"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_vendored_library_is_the_one_plotly_expects():
    from plotly.offline import get_plotlyjs_version

    head = resource_path(page_renderer.LIBRARY).read_text(encoding="utf-8")[:200]
    assert f"v{get_plotlyjs_version()}\n" in head
    licence = resource_path("templates/vendor/plotly-cartesian.LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License")


# ── report.md ───────────────────────────────────────────────────────────────────────────────────


def test_markdown_begins_with_the_first_screen(result, markdown):
    assert markdown.startswith("# deployment-worker: Slow processing\n\n```text\n")
    assert report.first_screen(result) in markdown


def test_markdown_tables_have_at_most_eight_columns_and_equal_rows(markdown):
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) - 1 for line in block.splitlines()}
        assert len(widths) == 1
        assert widths.pop() <= 8


def test_markdown_is_the_same_on_repeat(markdown):
    assert render_markdown(report.build(factories.result())) == markdown


def test_markdown_shows_every_chart_in_words(result, markdown):
    for figure in report.build(result).figures:
        assert escape(figure.alt) in markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", r"a \| b"),
        ("# heading", r"\# heading"),
        ("1. one", r"1\. one"),
        ("-3.2 messages/s", "-3.2 messages/s"),
        ("> quote", r"\> quote"),
        ("[a](b)", r"\[a\](b)"),
        ("<b>x</b>", r"\<b\>x\</b\>"),
        ("`rm -rf`", r"\`rm -rf\`"),
        ("slow_processing", "slow_processing"),
        ("_loud_", r"\_loud\_"),
        ("ask @team now", "ask `@team` now"),
        ("see #12", "see `#12`"),
        ("http://evil.example/x", "`http://evil.example/x`"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_text_is_shown_as_it_is(text, shown):
    assert escape(text) == shown


def test_code_with_backticks_stays_code():
    assert code("a `b` c") == "``a `b` c``"
    assert code("`a") == "`` `a ``"
    assert fenced("x\n```\ny").startswith("````text\n")


def test_hostile_text_stays_text_in_markdown(hostile):
    import mistune

    rendered = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url"])(
        render_markdown(hostile)
    )
    assert not re.search(r"<(?:script|img|a|b)\b", rendered)
    assert not re.search(r"<h[12][^>]*>click", rendered)
    # a tracker looks for mentions in text, not in code
    outside = re.sub(r"<(code|pre)\b.*?</\1>", "", rendered, flags=re.DOTALL)
    assert "@team" not in outside


# ── files ───────────────────────────────────────────────────────────────────────────────────────


def test_a_report_is_its_files(result, tmp_path):
    said: list[str] = []
    written = writing.write(result, tmp_path / "out", on_progress=said.append)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "incident.lagkit",
        "report.html",
        "report.ipynb",
        "report.md",
        "verdict.json",
    ]
    assert json.loads(written.verdict.read_text())["schema"] == "lagkit.verdict/1"
    assert written.run.finished
    assert said


def test_two_reports_of_one_result_are_the_same_bytes(result, tmp_path):
    for name in ("one", "two"):
        writing.write(result, tmp_path / name, notebook=False)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_files_can_be_read_by_others(result, tmp_path):
    written = writing.write(result, tmp_path, notebook=False)
    assert stat.S_IMODE(written.html.stat().st_mode) == 0o644


def test_an_incident_file_that_is_there_is_kept(result, tmp_path):
    (tmp_path / "incident.lagkit").write_bytes(b"the recorded one")
    writing.write(result, tmp_path, notebook=False)
    assert (tmp_path / "incident.lagkit").read_bytes() == b"the recorded one"


def test_a_failed_notebook_leaves_the_rest_and_is_told_in_it(result, tmp_path):
    """Its cells open the incident file that is there, and this one is none."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "incident.lagkit").write_bytes(b"not a zip")
    with pytest.raises(ReportFailed, match="The notebook failed in cell") as failed:
        writing.write(result, tmp_path / "out")
    assert failed.value.exit_status == 5
    for name in ("verdict.json", "report.html", "report.md"):
        assert (tmp_path / "out" / name).exists()
    assert "Not all of this report could be made" in (tmp_path / "out/report.html").read_text()
    assert "it is not a zip archive" in (tmp_path / "out/report.md").read_text()
    assert "lagkit investigate" in failed.value.hint


def test_a_fault_in_one_renderer_leaves_the_others(result, tmp_path):
    """An installation whose template of the HTML report is gone; the others are there."""
    installed = tmp_path / "installed"
    for part in ("lagkit", "templates", "notebooks"):
        shutil.copytree(
            command.ROOT / part, installed / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    (installed / "templates" / html_renderer.TEMPLATE).unlink()
    saved = result.incident.save(tmp_path / "saved.lagkit")
    env = command.environment(PYTHONPATH=str(installed))
    done = command.run("investigate", saved, "--out", "out", cwd=tmp_path, env=env)
    assert done.status == 5
    gone = rf"report\.html could not be made \(.*{re.escape(html_renderer.TEMPLATE)}"
    assert re.search(gone, done.err)
    assert html_renderer.TEMPLATE in (tmp_path / "out" / "report.md").read_text()
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == [
        "incident.lagkit",
        "report.ipynb",
        "report.md",
        "verdict.json",
    ]


def test_a_fault_in_a_chart_cannot_take_the_verdict_away(result, tmp_path):
    unmeasured = replace(result, flow=None)
    with pytest.raises(ReportFailed, match=r"The verdict stands in .*verdict\.json"):
        writing.write(unmeasured, tmp_path, notebook=False)
    assert (tmp_path / "verdict.json").read_text() == result.verdict.to_json()


def test_a_folder_that_cannot_be_written_is_said_with_the_way_out(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportFailed, match="--out"):
        writing.write(result, tmp_path / "file" / "out", notebook=False)


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path):
    with command.small_disk(tmp_path / "full", "64k") as full:
        path = full / "report.html"
        path.write_text("old")
        with pytest.raises(OSError, match="No space left"):
            writing.write_whole(path, b"new" * 100_000)
        assert path.read_text() == "old"
        assert list(full.iterdir()) == [path]


# WeasyPrint leaves its colour profile to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pdf_carries_the_incident_and_the_verdict(result, tmp_path):
    pytest.importorskip("weasyprint", reason="the extra `pdf` is not installed")
    written = writing.write(result, tmp_path, notebook=False, pdf=True)
    content = written.pdf.read_bytes()
    assert content.startswith(b"%PDF-1.7")
    streams = [
        zlib.decompress(stream) if stream[:1] == b"x" else stream
        for stream in re.findall(rb"stream\n(.*?)\nendstream", content, re.DOTALL)
    ]
    assert written.verdict.read_bytes() in streams
    assert written.incident.read_bytes() in streams
    whole = content + b"".join(streams)
    assert b"/AFRelationship/Source" in whole.replace(b" ", b"")
    assert re.search(rb"pdfaid:part.{0,3}3", whole)


def test_a_pdf_without_weasyprint_names_the_extra(result, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "weasyprint", None)
    from lagkit.render.pdf import render_pdf

    with pytest.raises(UsageError, match=r'pip install "lagkit\[pdf\]"'):
        render_pdf(report.build(result), {})
    with pytest.raises(ReportFailed, match=r"lagkit\[pdf\]"):
        writing.write(result, tmp_path, notebook=False, pdf=True)
    assert (tmp_path / "report.html").exists()


def test_an_onset_that_nobody_saw_claims_no_precision(result):
    begin = result.verdict.onset
    unseen = replace(begin, earliest=begin.at, latest=begin.at, censored=True)
    first = first_screen(replace(result.verdict, onset=unseen)).splitlines()[0]
    assert first.endswith("Z or before")
    assert "±" not in first


# ── what an action would gain, and whom to tell ─────────────────────────────────────────────────

EVIL = "<script>x</script> @channel `|`"


@pytest.fixture(scope="module")
def weighed(result):
    first, *others = result.verdict.actions
    condition = model.Condition(f"it is so {EVIL}", "not_met", f"seen {EVIL}")
    action = replace(
        first, conditions=(condition,), gain=f"a gain {EVIL}", cost=f"a cost {EVIL}", prospect="x"
    )
    verdict = replace(
        result.verdict,
        actions=(action, *others),
        prospects=(model.Prospect("x", f"a way {EVIL}", "never", f"never {EVIL}", "a price"),),
        escalation=model.Escalation(
            "L9", "somebody", "#there", f"because {EVIL}", f"words {EVIL}", ("also me",), ("later",)
        ),
    )
    return report.build(replace(result, verdict=verdict))


WEIGHED = ("NOT MET", "it is so", "a gain", "a cost", "a way", "a price", "L9 somebody", "words")


@pytest.mark.parametrize("words", WEIGHED)
def test_gain_cost_conditions_and_whom_to_tell_are_in_both_reports(weighed, words):
    assert words in render_html(weighed)
    assert words in render_markdown(weighed)


def test_hostile_text_stays_text_in_what_is_weighed(weighed):
    page = render_html(weighed)
    Page(page)
    assert "<script>x" not in page
    text = render_markdown(weighed)
    outside = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    assert "<script>x" not in outside.replace("\\<", "")

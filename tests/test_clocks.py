"""Clocks that are five minutes apart: measured and put right, or at least no sure wrong verdict."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import command
import incidents
import pandas as pd
import pytest

import lagkit as lk
from lagkit import clocks, frames
from lagkit.sources.http import Reply

FOLDER = Path(__file__).parent / "data" / "incidents"
LABELS = json.loads((FOLDER / "labels.json").read_text(encoding="utf-8"))
FILES = sorted(LABELS)
OTEL = [file for file in FILES if ".otel." in file]
MINUTES = 300.0
# Stamped by the machine that looked, whatever the source's clock says.
OURS = {"pods", "workloads", "autoscalers", "nodes", "quotas"}


def off(incident: lk.Incident, source: str, seconds: float, *, told: bool) -> lk.Incident:
    """Return the incident as it would be had the clock of *source* been off; *told*: measured."""
    by = pd.Timedelta(seconds=seconds)
    tables = dict(incident.tables)
    for name, table in incident.tables.items():
        frame = frames.FRAMES[name]
        if frame.source != source or table.empty:
            continue
        times = [column.name for column in frame.columns if column.dtype == frames.TIME]
        if source == "kubernetes" and name in OURS:
            times.remove("timestamp")
        tables[name] = frames.normalise(name, table.assign(**{t: table[t] + by for t in times}))
    facts = {name: dict(known) for name, known in incident.facts.items()}
    facts.setdefault(source, {})[clocks.FACT] = f"{seconds if told else 0:+.1f}"
    return dataclasses.replace(incident, tables=tables, facts=facts)


@pytest.mark.parametrize("file", FILES)
def test_clocks_that_agree_are_not_doubted(file: str) -> None:
    incident = lk.open(FOLDER / file)
    seen, doubts = clocks.aligned(incident)
    assert doubts == ()
    assert seen is incident


@pytest.mark.parametrize(
    ("file", "sign"),
    [(file, 1 if number % 2 else -1) for number, file in enumerate(FILES)]
    + [(file, -1 if FILES.index(file) % 2 else 1) for file in OTEL],
)
def test_a_measured_skew_is_put_right_and_named(file: str, sign: int) -> None:
    incident = lk.open(FOLDER / file)
    skewed = off(incident, "prometheus", sign * MINUTES, told=True)
    skewed = off(skewed, "kubernetes", -sign * MINUTES, told=True)
    result = lk.investigate(skewed)
    assert result.cause == LABELS[file]["cause"], repr(result)
    told = " ".join(result.verdict.not_checked)
    for source, way in (("prometheus", sign), ("kubernetes", -sign)):
        assert f"the time by the clock of {source}: it is 300 s" in told
        assert f"{'ahead of' if way > 0 else 'behind'} this machine's" in told
    again, doubts = clocks.aligned(result.incident)
    assert again is result.incident, "what was moved is not moved twice"
    assert doubts == ()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_command_puts_three_clocks_right_and_says_so(tmp_path: Path, sign: int) -> None:
    """Kafka at this machine's time, one of the others five minutes ahead, one behind."""
    file = OTEL[0]
    skewed = off(lk.open(FOLDER / file), "prometheus", sign * MINUTES, told=True)
    off(skewed, "kubernetes", -sign * MINUTES, told=True).save(tmp_path / "skewed.lagkit")
    before = (tmp_path / "skewed.lagkit").read_bytes()
    done = command.run("investigate", "skewed.lagkit", "--no-report", "--out", "out", cwd=tmp_path)
    assert done.status == 0, done.both
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["verdict"]["cause"] == LABELS[file]["cause"]
    told = " ".join(verdict["not_checked"])
    for source, way in (("prometheus", sign), ("kubernetes", -sign)):
        ahead = "ahead of" if way > 0 else "behind"
        assert f"the time by the clock of {source}: it is 300 s {ahead} this machine's" in told
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert left == ["out/incident.lagkit", "out/verdict.json", "skewed.lagkit"]
    # what was captured is kept as it came
    assert (tmp_path / "out" / "incident.lagkit").read_bytes() == before


@pytest.mark.parametrize("seconds", [MINUTES, -MINUTES])
@pytest.mark.parametrize("source", ["prometheus", "kafka", "kubernetes"])
@pytest.mark.parametrize("file", OTEL)
def test_a_skew_nobody_measured_leads_to_no_sure_wrong_verdict(
    file: str, source: str, seconds: float
) -> None:
    result = lk.investigate(off(lk.open(FOLDER / file), source, seconds, told=False))
    headline = result.verdict.verdict
    assert headline.cause in (LABELS[file]["cause"], "unknown") or headline.confidence != "high"


@pytest.mark.parametrize("seconds", [MINUTES, -MINUTES])
@pytest.mark.parametrize("file", OTEL)
def test_the_log_end_is_a_clock_that_prometheus_and_the_broker_share(
    file: str, seconds: float
) -> None:
    skewed = off(lk.open(FOLDER / file), "prometheus", seconds, told=False)
    seen, (doubt,) = clocks.aligned(skewed)
    assert doubt.source == "prometheus"
    assert math.isclose(doubt.seconds, seconds, abs_tol=15)
    assert doubt.why in [gap.why for gap in seen.coverage]
    pd.testing.assert_frame_equal(seen.offsets, skewed.offsets)


def test_times_after_the_capture_show_a_clock_that_is_ahead() -> None:
    skewed = off(incidents.make("slow"), "kubernetes", MINUTES, told=False)
    _, doubts = clocks.aligned(skewed)
    assert [doubt.source for doubt in doubts] == ["kubernetes"]
    assert "after the capture" in doubts[0].why


@pytest.mark.parametrize("fact", ["", "soon", "nan", "inf", "1e300", "+0.4"])
def test_a_fact_that_is_no_skew_moves_nothing(fact: str) -> None:
    incident = incidents.make("slow")
    strange = dataclasses.replace(incident, facts={"prometheus": {clocks.FACT: fact}})
    seen, _ = clocks.aligned(strange)
    pd.testing.assert_frame_equal(seen.offsets, incident.offsets)


def test_a_date_header_is_compared_with_the_middle_of_the_exchange() -> None:
    date = {"Date": "Tue, 24 Nov 2026 02:05:00 GMT"}
    server = pd.Timestamp("2026-11-24T02:05:00Z").timestamp()
    reply = Reply(status=200, headers=date, body=b"", seconds=4.0)
    assert reply.clock_skew_seconds(server - 300 + 2) == pytest.approx(300.5)


@pytest.mark.parametrize("headers", [{}, {"Date": ""}, {"Date": "yesterday"}])
def test_an_answer_without_a_date_tells_no_skew(headers: dict[str, str]) -> None:
    reply = Reply(status=200, headers=headers, body=b"", seconds=4.0)
    assert reply.clock_skew_seconds(0.0) is None

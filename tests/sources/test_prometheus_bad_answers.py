"""The real command against a server that answers badly: status, words, memory, and the disk."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from command import Run, environment, run
from http_stub import Asked, Handler, serving

import lagkit as lk
from lagkit.incident import open_incident
from lagkit.render.html import render_html
from lagkit.render.markdown import render_markdown
from lagkit.report import build

GROUP = "deployment-worker"
START = pd.Timestamp("2026-01-05T08:00:00Z")
END = START + pd.Timedelta(minutes=10)
STEP = 5
LABELS = {"group": GROUP, "topic": "t", "partition": "0", "job": "otel", "instance": "x:1"}
LAG, OFFSET = "kafka_consumer_group_lag", "kafka_consumer_group_offset"
SECRET = "hunter2-9a1c"
NO_SOURCE = 4
MIB = 2**20
HUGE = 2 * 2**30
MEMORY_ALLOWANCE = 4 * 64 * MIB
"""lagkit takes up to 64 MiB of an answer; joining it doubles that, and the rest is slack."""

Respond = Callable[[Handler, Asked], None]


def says(handler: Handler, text: str) -> None:
    """Send *text* as a good answer."""
    handler.send(200, text.encode(), Content_Type="application/json")


def matrix(values: str) -> str:
    series = f'{{"metric":{json.dumps(LABELS)},"values":[{values}]}}'
    return f'{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}'


def every(asked: Asked, value: Callable[[int], str]) -> str:
    """Return one sample a step of what was asked; *value* makes text of the number of the step."""
    first, last, step = (int(asked.fields[key][0]) for key in ("start", "end", "step"))
    return ",".join(
        f'[{at},"{value((at - first) // step)}"]' for at in range(first, last + 1, step)
    )


def healthy(handler: Handler, asked: Asked, value: Callable[[int], str] = str) -> None:
    """Answer as a Prometheus does that scrapes one partition of the group every 5 s."""
    if asked.path.endswith("__name__/values"):
        handler.success([LAG, OFFSET, "up"])
    elif asked.path.endswith("/series"):
        handler.success([{"__name__": LAG, **LABELS}, {"__name__": OFFSET, **LABELS}])
    elif asked.path.endswith("/query_range"):
        says(handler, matrix(every(asked, value)))
    elif asked.path.endswith("/query"):
        scrapes = range(int(START.timestamp()), int(END.timestamp()), STEP)
        says(handler, matrix(",".join(f'[{at},"7"]' for at in scrapes)))
    else:
        handler.success({"version": "3.0.0"})


def investigate(respond: Respond, folder: Path, **env: str) -> Run:
    with serving(respond) as stub:
        return run(
            "investigate", GROUP, "--prometheus", stub.url, "--no-report",
            "--start", START.isoformat(), "--end", END.isoformat(), "--out", folder / "report",
            cwd=folder, env=environment(**env),
        )  # fmt: skip


def doctor(respond: Respond, folder: Path, **env: str) -> Run:
    with serving(respond) as stub:
        return run("doctor", GROUP, "--prometheus", stub.url, cwd=folder, env=environment(**env))


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------- no answer at all


def html(handler: Handler, _: Asked) -> None:
    handler.send(200, b"<!DOCTYPE html><html><title>Sign in</title>", Content_Type="text/html")


def refusal(handler: Handler, _: Asked) -> None:
    handler.send(401, f"who is {SECRET[:3]}?".encode())


def unavailable(handler: Handler, _: Asked) -> None:
    handler.send(503, b"Service Unavailable\x1b[2J")


def elsewhere(handler: Handler, _: Asked) -> None:
    handler.send(302, b"", Location="https://sso.example/login?token=abc#x")


def half(handler: Handler, _: Asked) -> None:
    says(handler, '{"status":"success","data":["kafka_consu')


def broken_off(handler: Handler, _: Asked) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"status":"success","da')
    handler.close_connection = True


def hanging(handler: Handler, _: Asked) -> None:
    handler.hang()


def dripping(handler: Handler, _: Asked) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**6))
    handler.end_headers()
    while not handler.stub.stopping.wait(0.05):
        handler.wfile.write(b" ")


def nested(handler: Handler, _: Asked) -> None:
    handler.send(200, b"[" * 200_000)


def numbers(handler: Handler, _: Asked) -> None:
    says(handler, '{"status":"success","data":NaN}')


def refused_query(handler: Handler, _: Asked) -> None:
    error = {"status": "error", "errorType": "internal", "error": "opening storage failed"}
    handler.json(500, error)


SHORT = {"LAGKIT_BUDGETS__PROMETHEUS": "5"}
NO_ANSWER = {
    html: "is no Prometheus API; it said: <!DOCTYPE html>",
    refusal: r"refused the login \(HTTP 401\)",
    unavailable: "answered HTTP 503: Service Unavailable",
    elsewhere: "points to https://sso.example/login instead of answering",
    half: "is no Prometheus API",
    broken_off: "broke the connection off before the answer was whole",
    # which of the two says it first is the scheduler's choice
    hanging: "did not finish an answer within|did not come back within its budget",
    dripping: "did not finish an answer within|did not come back within its budget",
    nested: "is no Prometheus API",
    numbers: "the answer is no list",
    refused_query: "HTTP 500, internal: opening storage failed",
}


@pytest.mark.parametrize("respond", NO_ANSWER, ids=lambda respond: respond.__name__)
def test_a_server_that_gives_no_answer_is_said_and_leaves_nothing(
    respond: Respond, tmp_path: Path
) -> None:
    done = investigate(respond, tmp_path, **(SHORT if respond in {hanging, dripping} else {}))
    assert done.status == NO_SOURCE
    assert "No source could be read" in done.err
    assert re.search(NO_ANSWER[respond], done.err)
    assert "\x1b[2J" not in done.both
    assert "token=abc" not in done.both
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("respond", "fix"),
    [
        (html, "/select/0/prometheus"),
        (refusal, "[prometheus_login]"),
        (unavailable, "/api/v1/query?query=up"),
    ],
)
def test_the_doctor_says_what_to_mend(respond: Respond, fix: str, tmp_path: Path) -> None:
    done = doctor(respond, tmp_path)
    assert done.status == NO_SOURCE
    assert re.search(NO_ANSWER[respond], done.out)
    assert fix in done.out


# ---------------------------------------------------------------------- too much of an answer


def huge(handler: Handler, _: Asked) -> None:
    """Send 2 GiB of what begins like samples."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(HUGE))
    handler.end_headers()
    handler.wfile.write(b'{"status":"success","data":{"resultType":"matrix","result":[')
    sample = b'[1767600000,"1"],' * 4_096
    for _ in range(HUGE // len(sample)):
        handler.wfile.write(sample)


def packed(handler: Handler, _: Asked) -> None:
    """Send 2 GiB of blanks, gzipped to 2 MiB in members that follow each other."""
    blank = b" " * (16 * MIB)
    handler.send(200, gzip.compress(blank) * (HUGE // len(blank)), Content_Encoding="gzip")


@pytest.fixture(scope="module")
def usual_peak(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return the memory in bytes that the command takes where the answer is small."""
    return investigate(html, tmp_path_factory.mktemp("small")).peak


@pytest.mark.parametrize("respond", [huge, packed], ids=lambda respond: respond.__name__)
def test_an_answer_of_two_gigabytes_is_cut_off_and_not_held(
    respond: Respond, usual_peak: int, tmp_path: Path
) -> None:
    done = investigate(respond, tmp_path)
    assert done.status == NO_SOURCE
    assert "answered with more than 64 MiB" in done.err
    assert done.peak < usual_peak + MEMORY_ALLOWANCE
    assert left(tmp_path) == []


# ---------------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("odd", ["NaN", "+Inf", "-Inf"])
def test_a_value_that_is_no_number_is_a_missing_one_and_nothing_else_is_lost(
    odd: str, tmp_path: Path
) -> None:
    def sometimes(handler: Handler, asked: Asked) -> None:
        healthy(handler, asked, lambda step: odd if 40 <= step < 50 else str(step))

    done = investigate(sometimes, tmp_path)
    assert done.status == 0
    assert "report/incident.lagkit" in left(tmp_path)
    offsets = open_incident(tmp_path / "report" / "incident.lagkit").offsets
    expected = [step for step in range(121) if not 40 <= step < 50]
    assert offsets["lag_messages"].tolist() == expected
    # a strict reader takes it: no NaN, no Infinity
    json.loads((tmp_path / "report" / "verdict.json").read_text(), parse_constant=pytest.fail)


def test_nothing_but_nan_is_no_lag_and_no_zero(tmp_path: Path) -> None:
    done = investigate(lambda h, asked: healthy(h, asked, lambda _: "NaN"), tmp_path)
    assert done.status == 3
    assert left(tmp_path) == []


# ---------------------------------------------------------------------- bad in the middle


def later(bad: Respond) -> Respond:
    """Answer well until range queries, and then as *bad*."""

    def respond(handler: Handler, asked: Asked) -> None:
        (bad if asked.path.endswith("/query_range") else healthy)(handler, asked)

    return respond


def pages(folder: Path) -> tuple[str, str]:
    """Return the report of the saved incident, as HTML and as Markdown."""
    result = lk.investigate(open_incident(folder / "report" / "incident.lagkit"))
    report = build(result)
    return render_html(report, interactive=False), render_markdown(report)


@pytest.mark.parametrize("respond", [html, broken_off, huge, refused_query])
def test_history_that_cannot_be_read_is_an_unknown_state_and_says_why(
    respond: Respond, tmp_path: Path
) -> None:
    done = investigate(later(respond), tmp_path)
    verdict = json.loads((tmp_path / "report" / "verdict.json").read_text(encoding="utf-8"))
    assert done.status == 0
    assert "STATE UNKNOWN" in done.out
    assert re.search(NO_ANSWER.get(respond, "more than 64 MiB"), json.dumps(verdict))
    assert left(tmp_path) == ["report/incident.lagkit", "report/verdict.json"]


def test_the_body_of_an_error_reaches_the_report(tmp_path: Path) -> None:
    assert investigate(later(refused_query), tmp_path).status == 0
    for page in pages(tmp_path):
        assert "HTTP 500, internal: opening storage failed" in page


def test_warnings_and_a_partial_flag_reach_the_report(tmp_path: Path) -> None:
    def warned(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/query_range"):
            whole = json.loads(matrix(every(asked, str)))
            whole |= {"warnings": ["store-2 is <b>unreachable</b>"], "isPartial": True}
            says(handler, json.dumps(whole))
        else:
            healthy(handler, asked)

    done = investigate(warned, tmp_path)
    assert done.status == 0
    verdict = (tmp_path / "report" / "verdict.json").read_text(encoding="utf-8")
    assert "unreachable" in verdict
    assert "isPartial" in verdict
    as_html, as_markdown = pages(tmp_path)
    assert "store-2 is &lt;b&gt;unreachable&lt;/b&gt;" in as_html
    assert "unreachable" in as_markdown
    assert all("isPartial" in page for page in (as_html, as_markdown))


# ---------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "login",
    [
        {
            "LAGKIT_PROMETHEUS_LOGIN__BEARER_TOKEN": SECRET,
            "LAGKIT_PROMETHEUS_LOGIN__HEADERS": json.dumps({"X-Api-Key": SECRET}),
        },
        {"LAGKIT_PROMETHEUS_LOGIN__USERNAME": "ann", "LAGKIT_PROMETHEUS_LOGIN__PASSWORD": SECRET},
    ],
)
def test_no_secret_is_printed_or_kept(login: dict[str, str], tmp_path: Path) -> None:
    good = investigate(healthy, tmp_path, **login)
    refused = investigate(refusal, tmp_path, **login)
    examined = doctor(refusal, tmp_path, **login)
    assert [run.status for run in (good, refused, examined)] == [0, NO_SOURCE, NO_SOURCE]
    assert SECRET not in good.both + refused.both + examined.both
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(SECRET.encode() in body for body in files)

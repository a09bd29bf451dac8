"""Answers of a Prometheus API, good and bad, become frames or a sentence."""

from __future__ import annotations

import math
import threading

import numpy as np
import pandas as pd
import pytest
from http_stub import Asked, Handler, serving

from lagkit.config import HttpLogin
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Deadline, Questions, Scope
from lagkit.sources.http import HttpFailure
from lagkit.sources.prometheus import Grid, PrometheusSource, Server, decode
from lagkit.sources.prometheus.grid import POINTS_PER_REQUEST, shift
from lagkit.sources.prometheus.queries import Queries
from lagkit.sources.prometheus.server import AT_ONCE

START = pd.Timestamp("2026-01-05T08:00:00Z")
END = START + pd.Timedelta(minutes=5)
NAMES = ["kafka_consumer_group_lag", "kafka_consumer_group_offset", "up"]
LABELS = {"group": "g", "topic": "t", "partition": "0", "job": "otel", "instance": "x:1"}


def scope(group: str = "g", **more: object) -> Scope:
    return Scope(group, (), START, END, Runbook(title="test"), **more)


def fetched(url: str, *, budget: float = 10.0, group: str = "g") -> Answer:
    return PrometheusSource(url, HttpLogin()).fetch(scope(group), budget_seconds=budget)


def query(url: str, expression: str = "up"):
    server = Server(url, HttpLogin())
    try:
        return server.ask("query", {"query": expression}, Deadline(5))
    finally:
        server.close()


def healthy(handler: Handler, asked: Asked) -> None:
    """Answer as a Prometheus does that scrapes one partition of group g every 5 s."""
    if asked.path.endswith("__name__/values"):
        handler.success(NAMES)
    elif asked.path.endswith("/series"):
        handler.success([{"__name__": NAMES[0], **LABELS}])
    elif asked.path.endswith("/query"):
        if asked.fields["query"][0].startswith(f"{NAMES[0]}{{"):
            values = [[START.timestamp() + 5 * step, "7"] for step in range(60)]
            result = [{"metric": LABELS, "values": values}]
            handler.success({"resultType": "matrix", "result": result})
        else:
            result = [{"metric": LABELS, "value": [END.timestamp(), "7"]}]
            handler.success({"resultType": "vector", "result": result})
    elif asked.path.endswith("/query_range"):
        first, last, step = (int(asked.fields[key][0]) for key in ("start", "end", "step"))
        values = [[time, "7"] for time in range(first, last + 1, step)]
        handler.success({"resultType": "matrix", "result": [{"metric": LABELS, "values": values}]})
    else:
        handler.success({"version": "3.0.0"})


# ---------------------------------------------------------------------- decoding and the grid


def test_samples_become_columns_with_nan_for_what_is_no_number() -> None:
    frame = decode(
        [
            {"metric": {}, "values": [[1, "2"], [2, "NaN"]]},
            {"metric": {}, "values": [[1, "+Inf"], [2, "-1"]]},
        ]
    )
    assert frame["series"].tolist() == [0, 0, 1, 1]
    assert frame["time"].tolist() == [1, 2, 1, 2]
    np.testing.assert_array_equal(frame["value"], [2, math.nan, math.nan, -1])


def test_a_native_histogram_gives_no_row() -> None:
    assert decode([{"metric": {"a": "b"}, "histograms": [[1, {}]]}]).empty


def test_nothing_decodes_to_an_empty_frame() -> None:
    assert decode([]).columns.tolist() == ["series", "time", "value"]


def test_points_lie_on_multiples_of_the_step_inside_the_window() -> None:
    grid = Grid.over(START + pd.Timedelta(seconds=1), END, 7)
    assert grid.first % 7 == grid.last % 7 == 0
    assert START.timestamp() < grid.first <= grid.last <= END.timestamp()


def test_parts_hold_every_point_once() -> None:
    grid = Grid.over(START, START + pd.Timedelta(seconds=5 * 3 * POINTS_PER_REQUEST + 12), 5)
    points = [
        point for part in grid.parts() for point in range(part.first, part.last + 1, grid.step)
    ]
    assert points == list(range(grid.first, grid.last + 1, grid.step))
    assert len(grid.parts()) == 4


def test_a_window_shorter_than_a_step_is_one_point() -> None:
    assert Grid.over(START, START + pd.Timedelta(seconds=2), 60).points == 1


def test_scrapes_around_a_multiple_lie_next_to_it_whatever_their_jitter() -> None:
    times = START.timestamp() + 5.0 * np.arange(20) + np.resize([0.002, -0.002, 0.001], 20)
    assert min(shift(times, 5), 5 - shift(times, 5)) < 0.01


def test_the_shift_is_the_time_from_scrape_to_grid_point() -> None:
    assert shift(START.timestamp() + 1.3 + 5.0 * np.arange(20), 5) == pytest.approx(3.7)


# ---------------------------------------------------------------------- transport


def test_a_query_is_posted_as_a_form_and_not_in_the_url() -> None:
    with serving(healthy) as stub:
        query(stub.url, "up" + " " * 6000)
        assert (stub.asked[0].method, stub.asked[0].query_length) == ("POST", 0)
        assert stub.asked[0].fields["query"][0].startswith("up")


@pytest.mark.parametrize("status", [403, 405])
def test_a_proxy_that_lets_only_get_through_is_asked_by_get_from_then_on(status: int) -> None:
    def read_only(handler: Handler, asked: Asked) -> None:
        if asked.method == "POST":
            handler.send(status, b"only GET")
        else:
            healthy(handler, asked)

    with serving(read_only) as stub:
        answer = fetched(stub.url)
        assert answer.status == "ok"
        assert [asked.method for asked in stub.asked].count("POST") == 1


def test_a_path_prefix_is_kept() -> None:
    with serving(healthy) as stub:
        query(stub.url + "/select/0/prometheus/")
        assert stub.asked[0].path == "/select/0/prometheus/api/v1/query"


def test_the_error_text_of_the_server_reaches_the_reader() -> None:
    def refuses(handler: Handler, _: Asked) -> None:
        error = {"status": "error", "errorType": "execution", "error": "too many samples"}
        handler.json(422, error)

    expected = "HTTP 422, execution: too many samples"
    with serving(refuses) as stub, pytest.raises(HttpFailure, match=expected):
        query(stub.url)


def test_a_query_timeout_of_the_server_is_a_timeout() -> None:
    error = {"status": "error", "errorType": "timeout", "error": "query timed out"}
    with serving(lambda handler, _: handler.json(503, error)) as stub:
        with pytest.raises(HttpFailure, match="query timed out") as failure:
            query(stub.url)
        assert (failure.value.outcome, len(stub.asked)) == ("timeout", 1)


def test_a_refused_login_is_denied_and_not_failed() -> None:
    with serving(lambda handler, _: handler.send(401, b"who are you")) as stub:
        answer = fetched(stub.url)
    assert answer.status == "unavailable"
    assert answer.queries["outcome"].tolist() == ["denied"]
    assert "who are you" in answer.detail


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Grafana</html>", b"[1]", b'{"status":"success"}', b'{"status":"success","da'],
)
def test_what_is_no_answer_of_this_api_is_said_as_such(body: bytes) -> None:
    def says(handler: Handler, _: Asked) -> None:
        handler.send(200, body)

    with serving(says) as stub, pytest.raises(HttpFailure, match="no Prometheus API"):
        query(stub.url)


def test_a_login_page_in_the_way_is_named() -> None:
    def elsewhere(handler: Handler, _: Asked) -> None:
        handler.send(302, b"", Location="https://login.example/?next=x")

    with serving(elsewhere) as stub, pytest.raises(HttpFailure, match=r"points to https://login\."):
        query(stub.url)


# ---------------------------------------------------------------------- a whole fetch


def test_a_healthy_server_gives_offsets_with_their_query() -> None:
    with serving(healthy) as stub:
        answer = fetched(stub.url)
    offsets = answer.frames["offsets"]
    assert answer.status == "ok"
    assert answer.facts["dialect"] == "otel"
    assert answer.facts["step_seconds"] == "5"
    assert len(offsets) == 61
    assert set(offsets["query_id"]) <= set(answer.queries["query_id"])


def test_a_server_that_hangs_costs_the_budget_and_is_said_as_such() -> None:
    with serving(lambda handler, _: handler.hang()) as stub:
        answer = fetched(stub.url, budget=0.5)
    assert answer.status == "unavailable"
    assert answer.queries["outcome"].tolist() == ["timeout"]
    assert answer.frames == {}


def test_one_question_that_hangs_does_not_take_the_others_along() -> None:
    def slow_alerts(handler: Handler, asked: Asked) -> None:
        if "ALERTS" in asked.fields.get("query", [""])[0]:
            handler.hang()
        elif asked.path.endswith("__name__/values"):
            handler.success([*NAMES, "ALERTS"])
        else:
            healthy(handler, asked)

    with serving(slow_alerts) as stub:
        answer = fetched(stub.url, budget=3)
    assert answer.status == "partial"
    assert len(answer.frames["offsets"]) == 61
    assert [blind.what for blind in answer.blind if "alert" in blind.what] == ["alert history"]


def test_a_warning_of_the_server_is_kept_and_makes_the_answer_partial() -> None:
    def warned(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("query_range"):
            data = {"resultType": "matrix", "result": []}
            handler.success(data, warnings=["partial response: store-2 unreachable"])
        else:
            healthy(handler, asked)

    with serving(warned) as stub:
        answer = fetched(stub.url)
    ranges = answer.queries[answer.queries["statement"].str.startswith("query_range")]
    assert set(ranges["outcome"]) == {"partial"}
    assert set(ranges["detail"]) == {"partial response: store-2 unreachable"}
    assert answer.status == "partial"


@pytest.mark.parametrize(
    "data",
    [
        {"resultType": "scalar", "result": [1, "2"]},
        {"resultType": "matrix", "result": {"a": 1}},
        {"resultType": "matrix", "result": [{"values": [[1, "2"]]}]},
        {"resultType": "matrix", "result": [{"metric": LABELS, "values": [[1]]}]},
        {"resultType": "matrix", "result": [{"metric": LABELS, "values": [[1, "two"]]}]},
        {"resultType": "matrix", "result": ["series"]},
        [1, 2],
    ],
)
def test_an_answer_of_a_wrong_shape_is_a_blind_spot_and_no_crash(data: object) -> None:
    def odd(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("query_range"):
            handler.success(data)
        else:
            healthy(handler, asked)

    with serving(odd) as stub:
        answer = fetched(stub.url)
    assert answer.status == "partial"
    assert "offsets" not in answer.frames
    assert any("offsets" in blind.what for blind in answer.blind)


def test_a_later_part_that_fails_leaves_what_came_before() -> None:
    def breaks(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("query_range") and int(asked.fields["start"][0]) > START.timestamp():
            error = {"status": "error", "errorType": "execution", "error": "too many samples"}
            handler.json(422, error)
        else:
            healthy(handler, asked)

    with serving(breaks) as stub:
        end = START + pd.Timedelta(seconds=5 * (POINTS_PER_REQUEST + 10))
        long = Scope("g", (), START, end, Runbook(title="test"))
        answer = PrometheusSource(stub.url, HttpLogin()).fetch(long, budget_seconds=20)
    assert answer.status == "partial"
    assert len(answer.frames["offsets"]) == Grid.over(START, end, 5).parts()[0].points
    assert (answer.queries["outcome"] == "partial").any()


def test_the_pieces_of_a_window_are_asked_for_at_once_within_a_bound() -> None:
    """Nobody is answered before as many are under way as may be; one more would be one too many."""
    together = threading.Barrier(AT_ONCE, timeout=20)
    lock = threading.Lock()
    under_way, most = 0, 0

    def respond(handler: Handler, asked: Asked) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait()
        with lock:
            under_way -= 1
        healthy(handler, asked)

    end = START + pd.Timedelta(seconds=POINTS_PER_REQUEST * 2 * AT_ONCE - 1)
    grid = Grid.over(START, end, 1)
    with serving(respond) as stub:
        server = Server(stub.url, HttpLogin())
        asking = Queries(server, scope(), Deadline(60), Questions("prometheus"))
        samples = asking.range("up", grid).samples
        server.close()
        starts = [int(asked.fields["start"][0]) for asked in stub.asked]
    assert len(grid.parts()) == len(set(starts)) == 2 * AT_ONCE
    assert most == AT_ONCE
    assert samples["time"].tolist() == list(range(grid.first, grid.last + 1))


def test_no_lag_exporter_names_what_was_looked_for() -> None:
    def bare(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("__name__/values"):
            handler.success(["up"])
        else:
            healthy(handler, asked)

    with serving(bare) as stub:
        answer = fetched(stub.url)
    (blind,) = [item for item in answer.blind if item.what == "offset history of the group"]
    assert answer.facts["dialect"] == "none"
    assert "kafka_consumer_group_lag" in blind.why
    assert "cannot fire" in blind.why


def test_an_exporter_without_any_group_is_not_called_missing() -> None:
    def mute(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("__name__/values"):
            handler.success(["up", "kafka_partition_current_offset"])
        else:
            healthy(handler, asked)

    with serving(mute) as stub:
        answer = fetched(stub.url)
    (blind,) = [item for item in answer.blind if item.what == "offset history of the group"]
    assert "OpenTelemetry kafkametrics receiver writes log offsets" in blind.why


def test_an_unknown_group_comes_with_near_names() -> None:
    def others(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/series"):
            handler.success([])
        elif asked.path.endswith("/group/values"):
            handler.success(["deployment-worker", "billing"])
        else:
            healthy(handler, asked)

    with serving(others) as stub:
        answer = fetched(stub.url, group="deploymnt-worker")
    assert answer.facts["near_groups"] == "deployment-worker"
    assert "offsets" not in answer.frames


def test_the_same_group_in_two_clusters_is_not_mixed() -> None:
    def two(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/series"):
            series = [
                {"__name__": NAMES[0], **LABELS, "partition": part, "cluster": cluster}
                for cluster, parts in (("a", "01"), ("b", "0"))
                for part in parts
            ]
            handler.success(series)
        else:
            healthy(handler, asked)

    with serving(two) as stub:
        answer = fetched(stub.url)
        ranges = [
            asked.fields["query"][0] for asked in stub.asked if asked.path.endswith("query_range")
        ]
    assert any('cluster="a"' in expression for expression in ranges)
    assert any("cluster=b" in blind.why for blind in answer.blind)


@pytest.mark.parametrize("url", ["", "not a url", "http://[::1", "http://nowhere.invalid:1"])
def test_an_address_that_cannot_be_used_is_unavailable_and_no_crash(url: str) -> None:
    answer = fetched(url, budget=3)
    assert answer.status == "unavailable"
    assert answer.detail


def test_a_password_in_the_address_is_never_shown() -> None:
    with serving(lambda handler, _: handler.send(500, b"broken")) as stub:
        answer = fetched(stub.url.replace("http://", "http://ann:hunter2@"))
    shown = answer.detail + repr(answer.blind) + answer.queries.to_csv()
    assert "hunter2" not in shown

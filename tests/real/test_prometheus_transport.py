"""Windows in many requests, limits and logins, on a real Prometheus and a real VictoriaMetrics.

Every server holds the same samples, so what arrives by another way in must be the same frame.
"""

from __future__ import annotations

import base64
import http.server
import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr

from lab import prometheus, security
from lab.install import Artifact, Unavailable, install
from lab.processes import Ledger, free_ports
from lagkit.config import HttpLogin
from lagkit.runbook import Runbook
from lagkit.sources import Answer, Deadline, Questions, Scope
from lagkit.sources.http import TooLarge
from lagkit.sources.prometheus import Grid, PrometheusSource, Server, decode
from lagkit.sources.prometheus.queries import Queries, Series

from .conftest import require

START = int(pd.Timestamp("2026-01-05T08:00:00Z").timestamp())
INTERVAL = 5
SECONDS = 3 * 3600
LAG, OFFSET = "kafka_consumer_group_lag", "kafka_consumer_group_offset"
HOSTILE = '],[[1,"2"]] "values":[[3,"4"]] \\ \n ü'
"""A topic that no broker would take and an exporter may write all the same."""
TOKEN = "token-8c1f0b"
USER = "ann"
PASSWORD = "password-77e2"
PASSWORD_HASH = "$2b$04$lagkitlagkitlagkitlag.GUhRaODXa3tz0/2VjtTfsXZMYDkPT6q"
"""bcrypt of PASSWORD, as --web.config.file wants it."""
TENANT = "team-a"
MANY = Grid(START, START + SECONDS - 1, 1)
"""10,800 points: one answer of Prometheus (it refuses over 11,000), three requests of lagkit."""


def escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def samples() -> Iterator[tuple[str, str, str, float]]:
    """Yield name, labels, value and time of each sample."""
    for partition, topic in enumerate(["t", "t", HOSTILE]):
        labels = f'group="g",topic="{escaped(topic)}",partition="{partition}",job="x"'
        for step in range(SECONDS // INTERVAL):
            at = START + step * INTERVAL + 1.3
            if 300 <= step < 330 or (partition == 1 and step > 1500):
                continue  # a gap of the exporter, and a series that ends: a stale one
            value = str(step * 3 + partition)
            if partition == 1 and step % 100 == 7:
                value = ("NaN", "+Inf", "-Inf", "1e+06", "0.25")[step // 100 % 5]
            yield OFFSET, labels, value, at
            yield LAG, labels, str(1_000_000 - step), at


@dataclass(frozen=True)
class Room:
    """Where the servers of these tests run, and what they hold."""

    ledger: Ledger
    artifact: Artifact
    store: Path
    certificates: Path

    def serve(self, *options: str, **more: Any) -> str:
        (port,) = free_ports(1)
        return prometheus.start_recorded(
            self.ledger, self.artifact, port, self.store, *options, **more
        )


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    parts = install(("prometheus",))
    require(parts, "prometheus")
    artifact = parts["prometheus"]
    assert isinstance(artifact, Artifact)
    folder = tmp_path_factory.mktemp("transport")
    lines = [f"{name}{{{labels}}} {value} {at}" for name, labels, value, at in samples()]
    store = prometheus.write_blocks(artifact, folder / "blocks", lines)
    certificates = folder / "certificates"
    security.make_certificates(certificates)
    ledger = Ledger(folder / "lab")
    try:
        yield Room(ledger, artifact, store, certificates)
    finally:
        ledger.stop()


@pytest.fixture(scope="module")
def plain(room: Room) -> str:
    return room.serve()


@pytest.fixture(scope="module")
def victoria(room: Room) -> str:
    return imported(room, "-search.maxSamplesPerQuery=1000000000")


def imported(room: Room, *options: str) -> str:
    """Start a VictoriaMetrics that holds the same samples."""
    parts = install(("victoria",))
    require(parts, "victoria")
    artifact = parts["victoria"]
    assert isinstance(artifact, Artifact)
    (port,) = free_ports(1)
    url = prometheus.start_victoria(room.ledger, artifact, port, *options)
    fill(f"http://127.0.0.1:{port}")
    return url


def fill(root: str, context: ssl.SSLContext | None = None, **headers: str) -> None:
    """Write the samples to the VictoriaMetrics at *root*."""
    body = "".join(
        f"{name}{{{labels}}} {value} {round(at * 1000)}\n" for name, labels, value, at in samples()
    )
    for path, data in (("api/v1/import/prometheus", body.encode()), ("internal/force_flush", None)):
        question = urllib.request.Request(f"{root}/{path}", data=data, headers=headers)
        with urllib.request.urlopen(question, timeout=30, context=context) as reply:
            reply.read()


SCOPE = Scope(
    "g",
    (),
    pd.Timestamp(START, unit="s", tz="UTC"),
    pd.Timestamp(START + SECONDS, unit="s", tz="UTC"),
    Runbook(title="test"),
)


@contextmanager
def queries(url: str, login: HttpLogin | None = None) -> Iterator[Queries]:
    server = Server(url, login or HttpLogin())
    try:
        yield Queries(server, SCOPE, Deadline(60), Questions("prometheus"))
    finally:
        server.close()


def read(url: str, expression: str, grid: Grid) -> tuple[Series, pd.Series[Any], Queries]:
    with queries(url) as ask:
        series = ask.range(expression, grid)
        return series, ask.questions.frame().iloc[0], ask


def in_one_request(url: str, expression: str, grid: Grid) -> tuple[list[Any], pd.DataFrame]:
    fields = {"query": expression, "start": grid.first, "end": grid.last, "step": grid.step}
    body = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query_range", data=body) as reply:
        result = json.load(reply)["data"]["result"]
    result.sort(key=lambda item: sorted(item["metric"].items()))
    return [item["metric"] for item in result], decode(result)


def fetched(url: str, login: HttpLogin | None = None) -> Answer:
    return PrometheusSource(url, login or HttpLogin()).fetch(SCOPE, budget_seconds=60)


def offsets(answer: Answer) -> pd.DataFrame:
    assert "offsets" in answer.frames, (answer.detail, answer.blind)
    return answer.frames["offsets"].drop(columns="query_id")


@pytest.fixture(scope="module")
def expected(plain: str) -> pd.DataFrame:
    frame = offsets(fetched(plain))
    assert set(frame["topic"]) == {"t", HOSTILE}
    assert len(frame) > 5_000
    return frame


# ---------------------------------------------------------------------- a window in pieces

EXPRESSIONS = (OFFSET, LAG, f"last_over_time({OFFSET}[{MANY.window}])", f"sum({LAG})", "vector(1)")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_window_in_pieces_is_the_window_in_one(plain: str, expression: str) -> None:
    assert len(MANY.parts()) == 3
    labels, whole = in_one_request(plain, expression, MANY)
    series, question, _ = read(plain, expression, MANY)
    assert [item["metric"] for item in series.series] == labels
    pd.testing.assert_frame_equal(series.samples, whole)
    assert (question["outcome"], question["rows"]) == ("ok", len(whole))


def test_nan_infinities_gaps_and_ended_series_are_as_written(plain: str) -> None:
    series, _, _ = read(plain, f"last_over_time({OFFSET}[5500ms])", replace(MANY, step=INTERVAL))
    rows = series.columns("partition")
    ended = rows[rows["partition"] == "1"].set_index("time")["value"]
    # grid point n * 5 shows the scrape 3.7 s before it
    shown = {step: ended.get(START + (step + 1) * INTERVAL, "none") for step in (6, 7, 107, 207)}
    assert shown[6] == 19
    assert pd.isna(shown[7]) and pd.isna(shown[107]) and pd.isna(shown[207])  # noqa: PT018
    assert ended[START + 408 * INTERVAL] == 0.25
    assert START + 310 * INTERVAL not in ended.index
    assert ended.index.max() <= START + 1502 * INTERVAL


def test_a_request_over_the_limit_of_the_server_is_halved_until_it_passes(room: Room) -> None:
    limited = room.serve("--query.max-samples=6000")
    with pytest.raises(urllib.error.HTTPError):
        in_one_request(limited, LAG, MANY)
    series, question, ask = read(limited, LAG, MANY)
    _, whole = in_one_request(room.serve(), LAG, MANY)
    pd.testing.assert_frame_equal(series.samples, whole)
    assert question["outcome"] == "ok"
    assert "too much for one answer: 6 requests, down to 1800 points" in question["detail"]
    assert ask.blind == []


def test_a_limit_that_no_half_keeps_is_said_with_what_to_do(room: Room) -> None:
    limited = room.serve("--query.max-samples=1")
    with queries(limited) as ask:
        with pytest.raises(TooLarge, match="too many samples") as failure:
            ask.range(LAG, MANY)
        question = ask.questions.frame().iloc[0]
    assert "points at a time" in str(failure.value)
    assert question["outcome"] == "failed"
    answer = fetched(limited)
    assert answer.status != "ok"
    assert any("too many samples" in blind.why for blind in answer.blind)


# ---------------------------------------------------------------------- VictoriaMetrics


def test_victoria_metrics_gives_the_offsets_that_prometheus_gives(
    victoria: str, expected: pd.DataFrame
) -> None:
    pd.testing.assert_frame_equal(offsets(fetched(victoria)), expected)


@pytest.mark.parametrize("expression", [LAG, f'{OFFSET}{{partition="0"}}'])
def test_a_window_in_pieces_is_the_window_in_one_on_victoria_metrics(
    victoria: str, expression: str
) -> None:
    labels, whole = in_one_request(victoria, expression, MANY)
    series, _, _ = read(victoria, expression, MANY)
    assert [item["metric"] for item in series.series] == labels
    pd.testing.assert_frame_equal(series.samples, whole)


def test_the_point_limit_of_victoria_metrics_is_kept_by_halving(room: Room, victoria: str) -> None:
    limited = imported(room, "-search.maxPointsPerTimeseries=1000")
    series, question, _ = read(limited, LAG, MANY)
    _, whole = in_one_request(victoria, LAG, MANY)
    pd.testing.assert_frame_equal(series.samples, whole)
    assert "down to 900 points" in question["detail"]


def test_the_sample_limit_of_victoria_metrics_is_said_as_it_says_it(room: Room) -> None:
    answer = fetched(imported(room, "-search.maxSamplesPerQuery=10"))
    assert answer.status != "ok"
    assert any("-search.maxSamplesPerQuery=10" in blind.why for blind in answer.blind)


# ---------------------------------------------------------------------- logins


def listening(url: str) -> Callable[[], str | None]:
    """Return a check that something takes connections; who may ask is what the tests are about."""
    place = urllib.parse.urlsplit(url)

    def missing() -> str | None:
        try:
            socket.create_connection((place.hostname, place.port), timeout=2).close()
        except OSError as error:
            return str(error)
        return None

    return missing


def guarded(room: Room, name: str, settings: dict[str, Any], scheme: str = "https") -> str:
    """Start a Prometheus with a --web.config.file; return its URL."""
    (port,) = free_ports(1)
    file = room.certificates / f"{name}.yml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    url = f"{scheme}://127.0.0.1:{port}"
    return prometheus.start_recorded(
        room.ledger, room.artifact, port, room.store, f"--web.config.file={file}",
        url=url, ready=listening(url),
    )  # fmt: skip


@pytest.fixture(scope="module")
def basic(room: Room) -> str:
    users = {"basic_auth_users": {USER: PASSWORD_HASH}}
    return guarded(room, "basic", users, scheme="http")


@pytest.fixture(scope="module")
def mutual(room: Room) -> str:
    """A server that shows a certificate of the lab's CA and wants one of it."""
    folder = room.certificates
    return guarded(
        room,
        "mutual",
        {
            "tls_server_config": {
                "cert_file": str(folder / "broker.pem"),
                "key_file": str(folder / "broker.key"),
                "client_auth_type": "RequireAndVerifyClientCert",
                "client_ca_file": str(folder / "ca.pem"),
            }
        },
    )


def test_a_user_and_password_open_a_guarded_prometheus(basic: str, expected: pd.DataFrame) -> None:
    login = HttpLogin(username=USER, password=SecretStr(PASSWORD))
    pd.testing.assert_frame_equal(offsets(fetched(basic, login)), expected)


@pytest.mark.parametrize("password", ["wrong-3d1", ""])
def test_a_wrong_password_is_a_refused_login_and_is_not_repeated_to_anyone(
    basic: str, password: str
) -> None:
    answer = fetched(basic, HttpLogin(username=USER, password=SecretStr(password)))
    assert answer.status == "unavailable"
    assert answer.queries["outcome"].tolist() == ["denied"]
    assert "refused the login (HTTP 401)" in answer.detail
    assert not password or password not in repr(answer) + answer.queries.to_csv()


def test_a_client_certificate_and_an_own_ca_open_a_guarded_prometheus(
    room: Room, mutual: str, expected: pd.DataFrame
) -> None:
    login = HttpLogin(
        ca_file=room.certificates / "ca.pem",
        client_certificate=room.certificates / "client.pem",
        client_key=room.certificates / "client.key",
    )
    pd.testing.assert_frame_equal(offsets(fetched(mutual, login)), expected)


def test_key_and_certificate_may_be_in_one_file(
    room: Room, mutual: str, expected: pd.DataFrame
) -> None:
    both = room.certificates / "both.pem"
    parts = [(room.certificates / name).read_text() for name in ("client.key", "client.pem")]
    both.write_text("".join(parts), encoding="utf-8")
    login = HttpLogin(ca_file=room.certificates / "ca.pem", client_certificate=both)
    pd.testing.assert_frame_equal(offsets(fetched(mutual, login)), expected)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "ca_file"),
        ({"ca_file": "other-ca.pem"}, "ca_file"),
        ({"ca_file": "ca.pem"}, "client_certificate"),
        ({"ca_file": "absent.pem"}, "absent.pem"),
        (
            {"ca_file": "ca.pem", "client_certificate": "client.pem", "client_key": "absent.key"},
            "absent.key",
        ),
        (
            {"ca_file": "ca.pem", "client_certificate": "client.pem", "client_key": "ca.key"},
            "client_key",
        ),
    ],
)
def test_what_is_wrong_with_certificates_is_said_with_the_key_to_mend(
    room: Room, mutual: str, files: dict[str, str], said: str
) -> None:
    login = HttpLogin(**{key: room.certificates / name for key, name in files.items()})
    answer = fetched(mutual, login)
    assert answer.status == "unavailable"
    assert said in answer.detail + " ".join(blind.fix for blind in answer.blind)


def test_unverified_tls_is_possible_where_the_configuration_says_so(
    room: Room, mutual: str, expected: pd.DataFrame
) -> None:
    login = HttpLogin(
        verify=False,
        client_certificate=room.certificates / "client.pem",
        client_key=room.certificates / "client.key",
    )
    pd.testing.assert_frame_equal(offsets(fetched(mutual, login)), expected)


def test_a_path_prefix_of_prometheus_itself_is_kept(room: Room, expected: pd.DataFrame) -> None:
    (port,) = free_ports(1)
    url = prometheus.start_recorded(
        room.ledger, room.artifact, port, room.store, "--web.route-prefix=/metrics/query",
        url=f"http://127.0.0.1:{port}/metrics/query",
    )  # fmt: skip
    for written in (url, url + "/"):
        pd.testing.assert_frame_equal(offsets(fetched(written)), expected)


# ---------------------------------------------------------------------- VictoriaMetrics guarded


@pytest.fixture(scope="module")
def guarded_victoria(room: Room) -> str:
    """Start a VictoriaMetrics with TLS, a password and a path prefix of its own."""
    parts = install(("victoria",))
    require(parts, "victoria")
    artifact = parts["victoria"]
    assert isinstance(artifact, Artifact)
    (port,) = free_ports(1)
    folder = room.certificates
    url = f"https://127.0.0.1:{port}/metrics/store"
    api = prometheus.start_victoria(
        room.ledger, artifact, port,
        "-tls", f"-tlsCertFile={folder / 'broker.pem'}", f"-tlsKeyFile={folder / 'broker.key'}",
        f"-httpAuth.username={USER}", f"-httpAuth.password={PASSWORD}",
        "-http.pathPrefix=/metrics/store",
        url=url, ready=listening(url),
    )  # fmt: skip
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    fill(url, context, Authorization=f"Basic {basic}")
    return api


def at_victoria(room: Room, password: str, ca: str | None = "ca.pem") -> HttpLogin:
    file = room.certificates / ca if ca else None
    return HttpLogin(username=USER, password=SecretStr(password), ca_file=file)


def test_a_password_an_own_ca_and_a_prefix_open_a_guarded_victoria_metrics(
    room: Room, guarded_victoria: str, expected: pd.DataFrame
) -> None:
    answer = fetched(guarded_victoria, at_victoria(room, PASSWORD))
    pd.testing.assert_frame_equal(offsets(answer), expected)


@pytest.mark.parametrize(
    ("password", "ca", "said"),
    [
        ("wrong-3d1", "ca.pem", "refused the login (HTTP 401)"),
        (PASSWORD, None, "certificate verify failed"),
        (PASSWORD, "other-ca.pem", "certificate verify failed"),
    ],
)
def test_what_keeps_a_guarded_victoria_metrics_closed_is_said(
    room: Room, guarded_victoria: str, password: str, ca: str | None, said: str
) -> None:
    answer = fetched(guarded_victoria, at_victoria(room, password, ca))
    assert answer.status == "unavailable"
    assert said in answer.detail
    assert password not in repr(answer) + answer.queries.to_csv()


@pytest.fixture(scope="module")
def vmauth(room: Room, victoria: str) -> str:
    """Start VictoriaMetrics' own doorkeeper, which knows one token."""
    parts = install(("victoria",))
    artifact = parts["victoria"]
    assert isinstance(artifact, Artifact)
    program = artifact.files["victoria"].parent / "vmauth"
    if not program.exists():
        require({"vmauth": Unavailable(f"{program} is missing", "install vmauth")}, "vmauth")
    (port,) = free_ports(1)
    users = room.certificates / "vmauth.yml"
    users.write_text(json.dumps({"users": [{"bearer_token": TOKEN, "url_prefix": victoria}]}))
    url = f"http://127.0.0.1:{port}"
    room.ledger.start(
        f"vmauth-{port}",
        [program, f"-auth.config={users}", f"-httpListenAddr=127.0.0.1:{port}"],
        endpoint=url, ready=listening(url), timeout=30,
    )  # fmt: skip
    return url


def test_a_bearer_token_opens_vmauth_before_victoria_metrics(
    vmauth: str, expected: pd.DataFrame
) -> None:
    login = HttpLogin(bearer_token=SecretStr(TOKEN))
    pd.testing.assert_frame_equal(offsets(fetched(vmauth, login)), expected)


def test_a_token_that_vmauth_does_not_know_is_a_refused_login_and_is_not_repeated(
    vmauth: str,
) -> None:
    """Vmauth says so with HTTP 400, and repeats the token."""
    answer = fetched(vmauth, HttpLogin(bearer_token=SecretStr("stale-4f81")))
    assert answer.status == "unavailable"
    assert answer.queries["outcome"].tolist() == ["denied"]
    assert "refused the login (HTTP 400): cannot find the provided auth token" in answer.detail
    assert "[prometheus_login]" in answer.blind[0].fix
    assert "stale-4f81" not in repr(answer) + answer.queries.to_csv()


# ---------------------------------------------------------------------- through a proxy


@dataclass
class Gate:
    """A reverse proxy that lets through who knows *token* and *tenant*, below *prefix*."""

    behind: str
    prefix: str = ""
    token: str = TOKEN
    tenant: str | None = None
    ahead: float = 0.0
    """Seconds that its clock is ahead: the Date of an answer is the proxy's."""
    url: str = ""
    passed: int = 0
    refused: int = 0


@contextmanager
def gate(behind: str, **more: Any) -> Iterator[Gate]:
    door = Gate(behind, **more)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            known = self.headers.get("Authorization") == f"Bearer {door.token}"
            if not known or self.headers.get("X-Scope-OrgID") != door.tenant:
                door.refused += 1
                self._send(401, b"no such bearer or tenant", "text/plain")
                return
            if not self.path.startswith(f"{door.prefix}/api/v1/"):
                self._send(404, b"page not found", "text/plain")
                return
            question = urllib.request.Request(
                door.behind + self.path.removeprefix(door.prefix),
                data=body or None,
                headers={"Content-Type": self.headers.get("Content-Type", "text/plain")},
                method=self.command,
            )
            with urllib.request.urlopen(question, timeout=30) as reply:
                door.passed += 1
                self._send(reply.status, reply.read(), reply.headers["Content-Type"])

        do_GET = do_POST = _answer  # noqa: N815

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + door.ahead)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        door.url = f"http://127.0.0.1:{server.server_port}{door.prefix}"
        try:
            yield door
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("prefix", ["", "/prometheus", "/select/0/prometheus"])
def test_a_bearer_token_a_tenant_and_a_prefix_open_the_way(
    plain: str, expected: pd.DataFrame, prefix: str
) -> None:
    login = HttpLogin(bearer_token=SecretStr(TOKEN), headers={"X-Scope-OrgID": SecretStr(TENANT)})
    with gate(plain, prefix=prefix, tenant=TENANT) as door:
        pd.testing.assert_frame_equal(offsets(fetched(door.url, login)), expected)
        assert door.refused == 0


@pytest.mark.parametrize(
    "login",
    [
        HttpLogin(bearer_token=SecretStr("stale-4f"), headers={"X-Scope-OrgID": SecretStr(TENANT)}),
        HttpLogin(bearer_token=SecretStr(TOKEN), headers={"X-Scope-OrgID": SecretStr("team-b9e")}),
        HttpLogin(bearer_token=SecretStr(TOKEN)),
        HttpLogin(),
    ],
)
def test_a_wrong_token_or_tenant_is_a_refused_login(plain: str, login: HttpLogin) -> None:
    with gate(plain, tenant=TENANT) as door:
        answer = fetched(door.url, login)
    assert (door.passed, door.refused) == (0, 1)
    assert answer.status == "unavailable"
    assert "refused the login" in answer.detail
    shown = repr(answer) + answer.queries.to_csv()
    assert not any(secret in shown for secret in (TOKEN, "stale-4f", "team-b9e"))


@pytest.mark.parametrize("ahead", [300.0, -300.0])
def test_how_far_the_servers_clock_is_ahead_is_measured_and_its_times_are_kept(
    plain: str, expected: pd.DataFrame, ahead: float
) -> None:
    with gate(plain, ahead=ahead) as door:
        answer = fetched(door.url, HttpLogin(bearer_token=SecretStr(TOKEN)))
    assert abs(float(answer.facts["clock_skew_seconds"]) - ahead) < 2
    pd.testing.assert_frame_equal(offsets(answer), expected)  # lagkit.clocks moves them


def test_a_wrong_prefix_is_said_as_an_address_without_the_api(plain: str) -> None:
    login = HttpLogin(bearer_token=SecretStr(TOKEN))
    with gate(plain, prefix="/prometheus") as door:
        answer = fetched(door.url.removesuffix("/prometheus"), login)
    assert answer.status == "unavailable"
    assert "HTTP 404" in answer.detail
    assert "path prefix" in answer.blind[0].fix


def test_a_token_file_that_rotates_is_read_again(
    plain: str, expected: pd.DataFrame, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    with gate(plain) as door:
        login = HttpLogin(bearer_token_file=file)
        pd.testing.assert_frame_equal(offsets(fetched(door.url, login)), expected)
        server = Server(door.url, login)
        server.ask("query", {"query": "1"}, Deadline(10))
        door.token = "rotated-55"
        file.write_text(door.token, encoding="utf-8")
        server.ask("query", {"query": "1"}, Deadline(10))
        server.close()
    assert door.refused == 1


def test_a_token_file_that_is_not_there_is_named(plain: str, tmp_path: Path) -> None:
    with gate(plain) as door:
        answer = fetched(door.url, HttpLogin(bearer_token_file=tmp_path / "absent-token"))
    assert answer.status == "unavailable"
    assert "absent-token" in answer.detail

"""One HTTP question stays within its budget and never tells a secret."""

from __future__ import annotations

import base64
import socket
from pathlib import Path
from typing import Any

import pytest
from http_stub import Asked, Handler, serving
from pydantic import SecretStr

from lagkit.config import HttpLogin
from lagkit.sources import Deadline
from lagkit.sources.http import HttpFailure, ask, build_session, excerpt, public_url

SECRET = "hunter2-5b0c"


def asking(url: str, login: HttpLogin | None = None, seconds: float = 5.0, **options: object):
    with build_session(login or HttpLogin()) as session:
        return ask(session, "GET", url, deadline=Deadline(seconds), **options)


def hello(handler: Handler, _: Asked) -> None:
    handler.send(200, b"hello")


def test_an_answer_comes_whole() -> None:
    with serving(hello) as stub:
        assert asking(stub.url).body == b"hello"


def test_a_server_that_hangs_ends_as_a_timeout() -> None:
    with serving(lambda handler, _: handler.hang()) as stub:
        with pytest.raises(HttpFailure, match="did not finish an answer") as failure:
            asking(stub.url, seconds=0.3)
        assert failure.value.outcome == "timeout"


def test_a_body_that_comes_in_drops_ends_as_a_timeout() -> None:
    def drip(handler: Handler, _: Asked) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while not handler.stub.stopping.wait(0.05):
            handler.wfile.write(b".")
            handler.wfile.flush()

    with serving(drip) as stub, pytest.raises(HttpFailure) as failure:
        asking(stub.url, seconds=0.4)
    assert failure.value.outcome == "timeout"


def test_a_body_that_breaks_off_is_no_answer() -> None:
    def cut(handler: Handler, _: Asked) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"half")

    with serving(cut) as stub, pytest.raises(HttpFailure, match="broke the connection off"):
        asking(stub.url)


def test_a_body_beyond_the_limit_is_not_read_to_its_end() -> None:
    def large(handler: Handler, _: Asked) -> None:
        handler.send(200, b"x" * 3_000_000)

    with serving(large) as stub, pytest.raises(HttpFailure, match="more than 1 MiB"):
        asking(stub.url, most_bytes=2**20)


def test_nothing_listening_is_said_as_such() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HttpFailure, match="connection refused"):
        asking(f"http://127.0.0.1:{port}/path")


def test_a_name_without_an_address_is_said_as_such() -> None:
    with pytest.raises(HttpFailure, match=r"nowhere\.invalid cannot be resolved|did not finish"):
        asking("http://nowhere.invalid:9090/", seconds=3)


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://host/", "http://", "http://[::1", ""])
def test_an_address_that_is_none_is_said_as_such(url: str) -> None:
    with pytest.raises(HttpFailure):
        asking(url)


def test_a_spent_budget_asks_nothing() -> None:
    with serving(hello) as stub:
        with pytest.raises(HttpFailure, match="not asked"):
            asking(stub.url, seconds=0)
        assert stub.asked == []


def test_a_bad_gateway_is_asked_again() -> None:
    def second_time(handler: Handler, _: Asked) -> None:
        handler.send(200 if len(handler.stub.asked) > 1 else 502, b"body")

    with serving(second_time) as stub:
        assert asking(stub.url).status == 200


def test_a_query_timeout_is_asked_once_and_its_body_survives() -> None:
    with serving(lambda handler, _: handler.send(503, b"query timed out")) as stub:
        reply = asking(stub.url)
        assert (reply.status, reply.body, len(stub.asked)) == (503, b"query timed out", 1)


def test_the_body_of_the_last_bad_answer_survives_its_retries() -> None:
    with serving(lambda handler, _: handler.send(502, b"upstream is gone")) as stub:
        assert asking(stub.url).body == b"upstream is gone"


def test_a_long_retry_after_is_cut_short() -> None:
    def wait_an_hour(handler: Handler, _: Asked) -> None:
        if len(handler.stub.asked) > 1:
            handler.send(200, b"now")
        else:
            handler.send(429, b"later", Retry_After="3600")

    with serving(wait_an_hour) as stub:
        assert asking(stub.url, seconds=10).body == b"now"


def test_a_redirect_is_not_followed_and_says_where_it_points() -> None:
    def elsewhere(handler: Handler, _: Asked) -> None:
        handler.send(302, b"", Location="https://user:secret@login.example/start?token=secret")

    with serving(elsewhere) as stub:
        reply = asking(stub.url)
        assert len(stub.asked) == 1
    assert reply.location == "https://login.example/start"


def test_headers_and_basic_login_are_sent() -> None:
    login = HttpLogin(
        username="ann", password=SecretStr("pässwörd-✓"), headers={"X-Scope-OrgID": "team"}
    )
    with serving(hello) as stub:
        asking(stub.url, login)
        headers = stub.asked[0].headers
    assert headers["X-Scope-OrgID"] == "team"
    assert headers["Authorization"].startswith("Basic ")


def test_a_token_file_is_read_again_when_the_token_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")

    def rotates(handler: Handler, asked: Asked) -> None:
        good = asked.headers.get("Authorization") == "Bearer new"
        file.write_text("new\n")
        handler.send(200 if good else 401, b"")

    with serving(rotates) as stub:
        assert asking(stub.url, HttpLogin(bearer_token_file=file)).status == 200
        assert [asked.headers["Authorization"] for asked in stub.asked] == [
            "Bearer old",
            "Bearer new",
        ]


def test_an_unchanged_token_is_not_sent_twice(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("only")
    with serving(lambda handler, _: handler.send(401, b"no")) as stub:
        assert asking(stub.url, HttpLogin(bearer_token_file=file)).status == 401
        assert len(stub.asked) == 1


def echo(handler: Handler, asked: Asked) -> None:
    """Repeat the login in the refusal, as vmauth does."""
    told = [asked.headers.get(name, "") for name in ("Authorization", "X-Api-Key")]
    handler.send(400, f"cannot find the provided auth token {told!r} in config".encode())


@pytest.mark.parametrize(
    "login",
    [
        {"bearer_token": SECRET},
        {"username": "ann", "password": SECRET},
        {"headers": {"X-Api-Key": SECRET}},
        {"bearer_token": SECRET, "headers": {"X-Api-Key": SECRET + SECRET}},
    ],
)
def test_a_refusal_that_repeats_the_login_comes_without_it(login: dict[str, Any]) -> None:
    with serving(echo) as stub:
        reply = asking(stub.url, HttpLogin(**login))
    basic = base64.b64encode(f"ann:{SECRET}".encode())
    assert b"***" in reply.body
    assert SECRET.encode() not in reply.body
    assert basic not in reply.body
    assert b"cannot find the provided auth token" in reply.body


def test_a_page_in_place_of_an_answer_comes_without_the_login() -> None:
    def page(handler: Handler, asked: Asked) -> None:
        token = asked.headers["Authorization"]
        handler.send(200, f"<html>{token}".encode(), Content_Type="text/html")

    with serving(page) as stub:
        assert asking(stub.url, HttpLogin(bearer_token=SECRET)).body == b"<html>Bearer ***"


def test_an_answer_that_is_data_is_left_as_it_is() -> None:
    """Else a password of one letter would take that letter out of every topic's name."""

    def data(handler: Handler, _: Asked) -> None:
        handler.send(200, b'{"topic": "t"}', Content_Type="text/plain")

    with serving(data) as stub:
        login = HttpLogin(username="t", password="t")
        assert asking(stub.url, login).body == b'{"topic": "t"}'


def test_a_token_file_that_is_gone_is_said_as_such(tmp_path: Path) -> None:
    with serving(hello) as stub, pytest.raises(HttpFailure, match="No such file"):
        asking(stub.url, HttpLogin(bearer_token_file=tmp_path / "gone"))


def test_a_certificate_bundle_that_is_gone_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(HttpFailure, match="CA certificate"):
        asking("https://127.0.0.1:1/", HttpLogin(ca_file=tmp_path / "gone.pem"))


def test_plain_http_behind_https_is_a_sentence() -> None:
    with serving(hello) as stub, pytest.raises(HttpFailure, match="TLS to 127"):
        asking(stub.url.replace("http:", "https:"))


def test_a_shown_url_has_no_userinfo_and_no_query() -> None:
    assert public_url("https://u:p@host:1/a?token=x#y") == "https://host:1/a"


def test_an_excerpt_is_one_bounded_printable_line() -> None:
    text = excerpt(b"\x1b[2Jred\nline\xff " + b"y" * 5000)
    assert len(text) <= 300
    assert text.isprintable()

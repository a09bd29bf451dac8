"""What is taken out on the way into the incident file, and what is left alone."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagkit import frames
from lagkit.redact import Redactor, redact_frames

T0 = pd.Timestamp("2026-11-23T02:00:00Z")
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9"
BODY = ["MIIEowIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MaO4HnTtXqs2NdLb", "q9Gx8Q=="]

SECRETS = {
    "bearer": ("GET /api failed, Authorization: Bearer abc.def-123456", "abc.def-123456"),
    "bearer alone": ("sent bearer 9f8e7d6c5b4a3210", "9f8e7d6c5b4a3210"),
    "basic": ("Authorization: Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
    "basic of letters only": ("header was Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    "token scheme": ("authorization: Token cafebabecafebabe", "cafebabecafebabe"),
    "JWT": (f"claims of {JWT} have expired", JWT),
    "JWT that was cut off": ("cookie eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0", "eyJzdWIiOiIxMjM0"),
    "URL userinfo": ("cannot reach https://ops:hunter2@prom.example:9090/x", "hunter2"),
    "URL userinfo with @": ("cannot reach http://ops:hun@ter2@prom.example/x", "ter2"),
    "password=": ("connecting with password=hunter2 to db", "hunter2"),
    "short password": ("password=q7z", "q7z"),
    "password in JSON": ('{"user": "ops", "password": "hunter2", "n": 1}', "hunter2"),
    "password in JSON in JSON": (r'"body": "{\"password\":\"hun ter2\",\"n\":1}"', "hun ter2"),
    "quoted password that was cut off": ('password: "hunter two and th', "two and th"),
    "long quoted secret": (f'client_secret="{"s3cr3t " * 200}"', "s3cr3t"),
    "long bare secret": (f"api_key={'k3y' * 300}", "k3y"),
    "camel case": ("dbPassword=hunter2 clientSecret: s3cr3t", "s3cr3t"),
    "flag": ("kcat --sasl-password hunter2 -L", "hunter2"),
    "jaas": ('PlainLoginModule required username="ops" password="hunter2";', "hunter2"),
    "AWS key": ("using AKIAIOSFODNN7EXAMPLE for s3", "AKIAIOSFODNN7EXAMPLE"),
    "AWS secret key": ("aws_secret_access_key=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
    "private key": (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\n-----END RSA PRIVATE KEY-----",
        "MIIEow",
    ),
    "private key that was cut off": ("-----BEGIN PRIVATE KEY-----\nMIIEow", "MIIEow"),
    "e-mail": ("owner is jane.doe+ops@mail.example.org.", "jane.doe"),
}

ORDINARY = (
    "authorization failed for group deployment-worker",
    "SASL authentication failed: broker said no",
    "token bucket is empty, waiting 250 ms",
    "the bearer of this message",
    "Basic authentication is not enabled",
    "basic auth-check passed",
    "author: John, tokenizer: fast, secretary: Ann, compass=north",
    "tests passed: 120034, records passed=1284",
    "2026-11-23T02:14:30.123Z 02:14:30 took 00:00:04",
    "deploy-requests[3]@1284: lag 5931, committed 120034, end 125965",
    "partition=3 offset=1284 key=tenant-7 session.timeout.ms=45000",
    "MAX_POLL_INTERVAL_MS=900000 SESSION_TIMEOUT_MS=45000",
    "image registry.example/worker@sha256:1f2e3d",
    "http://kafka:9092/path?a=b&c=d",
    "kafka:9092/1: 1 request(s) timed out: disconnect (after 10021ms in state UP)",
    "10.0.0.1:9092 refused",
)


def cleaned(text: str, *, salt: bytes | None = None) -> tuple[str, Counter[str]]:
    removed: Counter[str] = Counter()
    return Redactor(salt).text(text, removed), removed


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_removed_and_counted(kind):
    text, secret = SECRETS[kind]
    assert secret in text
    clean, removed = cleaned(text)
    assert secret not in clean
    assert removed.total() >= 1


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_left_as_it_is(text):
    assert cleaned(text) == (text, Counter())


@pytest.mark.parametrize("kind", SECRETS)
def test_redacting_twice_removes_nothing_more(kind):
    once, _ = cleaned(SECRETS[kind][0])
    assert cleaned(once) == (once, Counter())


def test_the_line_around_a_secret_still_reads():
    assert cleaned("login with password=hunter2 to db failed")[0] == (
        "login with password=[removed] to db failed"
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.1.2.3:9092 refused", "10.1.2.3"),
        ("from 10.1.2.3.", "10.1.2.3"),
        ("[2001:db8::1]:9092", "2001:db8::1"),
        ("fe80::1: refused", "fe80::1"),
        ("peer ::1 gone", "::1"),
        ("via ::ffff:10.1.2.3", "10.1.2.3"),
        ("at 2001:db8:0:0:0:0:0:1", "2001:db8:0:0:0:0:0:1"),
    ],
)
def test_addresses_go_when_asked_and_only_then(text, address):
    assert cleaned(text)[0] == text
    clean, removed = cleaned(text, salt=b"salt")
    assert address not in clean
    assert removed["IP address"] == 1


def test_times_and_versions_are_no_addresses():
    text = "02:14:30 2026-11-23T02:14:30.123Z offset 1:2:3 v4.1.0 aa:bb:cc:dd:ee:ff"
    assert cleaned(text, salt=b"salt") == (text, Counter())


def test_one_address_has_one_pseudonym_however_it_is_written():
    once, again = cleaned("10.1.2.3", salt=b"s")[0], cleaned("::ffff:10.1.2.3", salt=b"s")[0]
    assert once == again
    assert cleaned("10.1.2.3", salt=b"t")[0] != once


def logs(messages: list[str], pod: str = "worker-0", first: int = 1) -> list[dict[str, object]]:
    return [
        {
            "timestamp": T0 + pd.Timedelta(number, "s"),
            "namespace": "ns",
            "pod": pod,
            "container": "worker",
            "role": "consumer",
            "previous": False,
            "line_number": number,
            "level": "INFO",
            "message": message,
            "query_id": "kubernetes-01",
        }
        for number, message in enumerate(messages, first)
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["-----BEGIN RSA PRIVATE KEY-----", *BODY, "-----END RSA PRIVATE KEY-----"],
        ["-----BEGIN RSA PRIVATE KEY-----", BODY[0], BODY[0]],
        [BODY[0], BODY[0], "-----END RSA PRIVATE KEY-----"],
    ],
    ids=["whole", "cut off at its end", "cut off at its beginning"],
)
def test_a_private_key_over_several_log_lines_is_removed_line_by_line(lines):
    table = frames.normalise("logs", logs(["starting", *lines, "ready"]) + logs(["hello"], "w-1"))
    clean, removed = redact_frames({"logs": table}, Redactor())
    text = "\n".join(clean["logs"]["message"])
    assert not any(part in text for part in BODY)
    assert {"starting", "ready", "hello"} <= set(clean["logs"]["message"])
    assert removed["private key"] >= len(lines) - 1


def test_a_base64_line_without_a_key_around_it_stays():
    table = frames.normalise("logs", logs(["payload", BODY[0]]))
    assert redact_frames({"logs": table}, Redactor())[0]["logs"].equals(table)


def test_each_occurrence_is_counted_not_each_distinct_value():
    table = frames.normalise("logs", logs(["password=hunter2"] * 3))
    assert redact_frames({"logs": table}, Redactor())[1] == {"named secret": 3}


def test_rows_that_only_a_secret_told_apart_still_fit_the_schema():
    rows = [
        {
            "timestamp": T0,
            "alert": "Lag",
            "state": "firing",
            "labels": f'{{"owner": "{who}@mail.example"}}',
            "query_id": "prometheus-01",
        }
        for who in ("ann", "bob")
    ]
    clean, removed = redact_frames({"alerts": frames.normalise("alerts", rows)}, Redactor())
    assert len(frames.normalise("alerts", clean["alerts"])) == 1
    assert removed == {"e-mail address": 2}


def test_redacted_rows_stay_in_the_order_of_their_keys():
    rows = [
        {
            "timestamp": T0,
            "metric": "throttle_seconds",
            "instance": f"10.0.0.{n}:9092",
            "value": float(n),
            "unit": "seconds",
            "query_id": "prometheus-01",
        }
        for n in range(9)
    ]
    table = frames.normalise("broker_metrics", rows)
    clean = redact_frames({"broker_metrics": table}, Redactor(b"salt"))[0]["broker_metrics"]
    assert frames.normalise("broker_metrics", clean).equals(clean)


def test_a_name_keeps_what_joins_depend_on():
    rows = [
        {
            "timestamp": T0,
            "group": "team@mail.example",
            "topic": "token=abc123",
            "partition": 0,
            "query_id": "prometheus-01",
        }
    ]
    table = frames.normalise("offsets", rows)
    assert redact_frames({"offsets": table}, Redactor())[0]["offsets"].equals(table)


def test_a_frame_without_secrets_is_returned_as_it_is():
    table = frames.normalise("logs", logs(["worker handled 120 in 60 s"]))
    assert redact_frames({"logs": table}, Redactor())[0]["logs"] is table


@given(st.text(max_size=300))
def test_redaction_never_fails_and_is_stable(text):
    once, _ = cleaned(text, salt=b"salt")
    assert cleaned(once, salt=b"salt")[0] == once


@pytest.mark.parametrize("part", ["a", "a.", "ab-", "1:", "pass", "x@", "http://", '"\\\\', "--"])
def test_a_long_hostile_line_is_answered(part):
    """A quadratic pattern would not come back from this."""
    text = part * (100_000 // len(part))
    assert cleaned(text, salt=b"salt")[0] == text

"""A message to Slack, through the real library, to a server that has Slack's limits."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import incidents
import pytest
from apprise.plugins.slack import NotifySlack
from click.testing import CliRunner

from lagkit import cli
from lagkit.errors import UsageError
from lagkit.sources.messenger import place_of, send

TOKEN = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
WEBHOOK = f"https://hooks.slack.com/services/{TOKEN}"
SECRETS = TOKEN.split("/")


def refusal(message) -> tuple[int, bytes]:
    if not isinstance(message, dict):
        return 400, b"invalid_payload"
    parts = [message.get("text") or ""]
    parts += [str(entry.get("text") or "") for entry in message.get("attachments", ())]
    blocks = [
        block
        for holder in (message, *message.get("attachments", ()))
        for block in holder.get("blocks", ())
    ]
    parts += [str(block.get("text", {}).get("text", "")) for block in blocks]
    if not any(parts):
        return 400, b"no_text"
    if len(blocks) > 50 or any(len(part) > 3000 for part in parts):
        return 400, b"invalid_blocks"
    if sum(map(len, parts)) > 13_200:
        return 400, b"msg_blocks_too_long"
    return 200, b"ok"


@dataclass
class Slack:
    """A webhook on loopback; ``answer`` replaces what its limits would say."""

    url: str = ""
    messages: list = field(default_factory=list)
    paths: list = field(default_factory=list)
    answer: tuple[int, bytes] | None = None


@pytest.fixture
def slack(monkeypatch):
    found = Slack()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.paths.append(self.path)
            found.messages.append(json.loads(body))
            status, text = found.answer or refusal(found.messages[-1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        # the library's own Slack plugin, posting here instead of to Slack
        monkeypatch.setattr(NotifySlack, "webhook_url", f"{found.url}/services")
        monkeypatch.setattr(NotifySlack, "request_rate_per_sec", 0)
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def incident(tmp_path):
    path = tmp_path / "now.lagkit"
    incidents.make("slow").save(path)
    return path


def told(slack: Slack) -> str:
    return json.dumps(slack.messages, ensure_ascii=False)


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(a) for a in arguments])


def test_the_message_of_an_incident_is_within_slacks_limits(slack, incident):
    done = run("notify", incident, "--to", WEBHOOK)
    assert done.exit_code == 0, (done.output, done.exception)
    assert len(slack.messages) == 1
    assert "deployment-worker" in told(slack)
    assert slack.paths == [f"/services/{TOKEN}"]
    assert "Sent to https://hooks.slack.com/…." in done.stderr


def test_the_message_is_printed_before_it_is_sent_and_without_an_address_too(incident):
    done = run("notify", incident)
    assert done.exit_code == 0
    assert done.stdout.startswith("Tell L1 On-call DevOps (Slack #ops-alerts): ")
    assert "Slow processing" in done.stdout


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, b"invalid_blocks"), "400"),
        ((403, b"action_prohibited"), "403"),
        ((404, b"no_service"), "404"),
        ((410, b"channel_is_archived"), "410"),
        ((429, b"ratelimited"), "429"),
        ((500, b"rollup_error"), "500"),
    ],
)
def test_a_refusal_says_why_and_shows_no_token(slack, incident, answer, words):
    slack.answer = answer
    done = run("notify", incident, "--to", WEBHOOK)
    assert done.exception is not None
    text = done.stdout + done.stderr + str(done.exception)
    assert words in text
    assert "deployment-worker" in done.stdout
    assert not any(secret in text for secret in SECRETS)
    assert getattr(done.exception, "exit_status", None) == 4


def test_a_server_that_is_not_there_is_said_to_be(incident, monkeypatch):
    monkeypatch.setattr(NotifySlack, "webhook_url", "http://127.0.0.1:9/services")
    sent = send(WEBHOOK, "t", "b")
    assert not sent.ok
    assert sent.why
    assert not any(secret in sent.why + sent.place for secret in SECRETS)


def test_hostile_words_cannot_call_a_channel_or_make_a_link(slack):
    send(WEBHOOK, "lagkit", "topic <!channel> <https://evil.example|here> & co")
    assert "<!channel>" not in told(slack)
    assert "&lt;!channel&gt;" in told(slack)


def test_what_is_no_address_is_refused_without_being_repeated():
    with pytest.raises(UsageError) as raised:
        send("slack://nonsense-with-secret-inside", "t", "b")
    assert "secret" not in str(raised.value)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(UsageError, match=r"lagkit\[notify\]"):
        send(WEBHOOK, "t", "b")


def test_nobody_is_told_of_a_healthy_group(tmp_path):
    incidents.make("calm").save(tmp_path / "calm.lagkit")
    done = run("notify", tmp_path / "calm.lagkit")
    assert getattr(done.exception, "exit_status", None) == 3


@pytest.mark.parametrize(
    "address",
    [WEBHOOK, f"slack://{TOKEN}/#ops", "json://user:hunter2@host.example/hunter2?x=hunter2"],
)
def test_a_place_is_named_without_its_secrets(address):
    shown = place_of(address)
    assert not any(secret in shown for secret in (*SECRETS, "hunter2", "user"))

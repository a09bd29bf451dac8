"""A small real HTTP server whose answers a test writes as functions; it records what it was asked.

Not a stand-in for Prometheus: the tests against the real one are in ``tests/real``. This one does
what a real one cannot be made to do on request: hang, drip, break off, lie about its type.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Asked:
    method: str
    path: str
    fields: dict[str, list[str]]
    headers: dict[str, str]
    query_length: int


@dataclass
class Stub:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: Stub
    respond: Callable[[Handler, Asked], None]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        parts = urlsplit(self.path)
        asked = Asked(
            self.command,
            parts.path,
            parse_qs(body or parts.query),
            dict(self.headers),
            len(parts.query),
        )
        self.stub.asked.append(asked)
        type(self).respond(self, asked)

    do_GET = do_POST = _answer  # noqa: N815

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def json(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode(), Content_Type="application/json")

    def success(self, data: Any, **more: Any) -> None:
        self.json(200, {"status": "success", "data": data, **more})

    def hang(self) -> None:
        self.close_connection = True
        self.stub.stopping.wait(30)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing: a client that went away is what many of these tests are about."""


@contextmanager
def serving(respond: Callable[[Handler, Asked], None]) -> Iterator[Stub]:
    """Serve *respond* on a free loopback port."""
    stub = Stub()
    handler = type("Scripted", (Handler,), {"stub": stub, "respond": staticmethod(respond)})
    with _Server(("127.0.0.1", 0), handler) as server:
        stub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            stub.stopping.set()
            server.shutdown()
            thread.join()

"""Keep the newest snapshot and serve it under every path; refuse to serve an old one."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab.processes import Ledger
from lab.relay import cadvisor
from lab.relay.burrow_and_klag import burrow, klag
from lab.relay.exporters import kafka_exporter, kminion, kminion_by_topic
from lab.relay.exposition import Family, exposition
from lab.relay.redpanda import redpanda, redpanda_with_lag
from lab.relay.snapshot import LOG, Reader, Snapshot

REFRESH_SECONDS = 5.0
FRESH_SECONDS = 15.0  # three refreshes; older numbers are not served

EXPORTERS: Mapping[str, Callable[[Snapshot | None], list[Family]]] = {
    "/kafka_exporter": kafka_exporter,
    "/kminion": kminion,
    "/kminion_topic": kminion_by_topic,
    "/burrow": burrow,
    "/klag": klag,
}
BROKER_PAGES: Mapping[str, Callable[[Snapshot], list[Family]]] = {
    "/redpanda": redpanda,
    "/redpanda_lag": redpanda_with_lag,
}

CONTAINERS = "/cadvisor"


class Relay:
    """Keeps the newest snapshot, refreshed by a thread of its own."""

    def __init__(
        self,
        read: Callable[[], Snapshot],
        clock: Callable[[], float] = time.monotonic,
        containers: Callable[[], list[cadvisor.Container]] | None = None,
    ) -> None:
        """Read with these functions; nothing happens before :meth:`start`."""
        self._read = read
        self._containers = containers
        self._clock = clock
        self._lock = threading.Lock()
        self._newest: tuple[float, Snapshot] | None = None
        self._stopped = threading.Event()
        self._failing = False

    def refresh(self) -> None:
        """Read once. A failure drops the old snapshot: a gap, not a stale number."""
        began = self._clock()
        try:
            snapshot: Snapshot | None = self._read()
        except Exception as error:
            snapshot = None
            if not self._failing:
                LOG.warning(
                    "the broker cannot be read (%s); serving gaps until it can", str(error)[:300]
                )
        if snapshot is not None and self._failing:
            LOG.info("the broker can be read again")
        self._failing = snapshot is None
        with self._lock:
            self._newest = None if snapshot is None else (began, snapshot)

    def newest(self) -> Snapshot | None:
        """Return the newest snapshot, or None when there is none that is fresh."""
        with self._lock:
            if self._newest is None or self._clock() - self._newest[0] > FRESH_SECONDS:
                return None
            return self._newest[1]

    def start(self) -> None:
        """Begin to refresh in the background."""
        threading.Thread(target=self._run, name="relay-refresh", daemon=True).start()

    def stop(self) -> None:
        """End the background refresh."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = self._clock()
            self.refresh()
            self._stopped.wait(max(0.1, REFRESH_SECONDS - (self._clock() - began)))

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a path."""
        if path == "/":
            return 200, " ".join([*EXPORTERS, *BROKER_PAGES]) + " (lab stand-ins)\n"
        if path == CONTAINERS and self._containers is not None:
            return 200, exposition(cadvisor.cadvisor(self._containers()))
        snapshot = self.newest()
        if path in EXPORTERS:
            return 200, exposition(EXPORTERS[path](snapshot))
        if path in BROKER_PAGES:
            if snapshot is None:
                return 503, "the broker that would serve this page cannot be read\n"
            return 200, exposition(BROKER_PAGES[path](snapshot), seastar=True)
        return 404, "not found\n"


def server(relay: Relay, host: str, port: int) -> ThreadingHTTPServer:
    """Return an HTTP server over the relay, not yet serving."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30  # of an idle scraper

        def do_GET(self) -> None:
            status, text = relay.page(self.path.partition("?")[0])
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            LOG.debug(format, *args)

    return ThreadingHTTPServer((host, port), Handler)


def main(argv: list[str] | None = None) -> int:
    """Run the relay from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.relay", description="a broker's numbers under other exporters' names"
    )
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lab", type=Path, help="folder of the lab whose containers to serve")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("lab.relay.librdkafka").setLevel(logging.ERROR)
    containers = None if args.lab is None else partial(cadvisor.running, Ledger(args.lab))
    relay = Relay(Reader(args.bootstrap).read, containers=containers)
    relay.start()
    http = server(relay, args.host, args.port)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=http.shutdown).start())
    LOG.info("relay (lab stand-in) of %s listens on %s:%d", args.bootstrap, args.host, args.port)
    with contextlib.suppress(KeyboardInterrupt):
        http.serve_forever()
    relay.stop()
    return 0

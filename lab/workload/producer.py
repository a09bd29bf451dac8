"""Produces deploy requests at a steady, seeded rate, and does what its control page is told.

``python -m lab.workload.producer --bootstrap B --topic T --partitions N --rate R --control-port P``
is one topic's producer. A tenant always lands on the same partition and every partition has as many
tenants. The control page on loopback: ``GET /`` says what was done; ``POST /rate`` with
``{"multiplier": 12, "seconds": 60}`` changes the rate, without ``seconds`` until the next change;
with ``"only": [3]`` what comes on top of the usual rate goes to those partitions, or with
``"only_share": 0.9`` that share of everything, and with ``"age_seconds": 3600`` what is more than
usual is that old, as from a replay. ``POST /poison`` with
``{"partition": 2}`` sends one record that is not JSON, with ``"kind": "business"`` one that no
worker may deploy, and answers where it landed.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOG = logging.getLogger("producer")

TENANTS_PER_PARTITION = 50
GAP_JITTER = 0.5  # a gap between two records is the mean gap plus or minus this share
TICK_SECONDS = 0.02
REPORT_SECONDS = 5.0
POISON_SECONDS = 10.0
MULTIPLIER_CEILING = 100.0
BODY_BYTES = 4_096
# what a producer sends that was switched to the schema registry's framing: magic byte and schema id
POISON = b'\x00\x00\x00\x00\x2a\x48{"id": "'
# well-formed, for an API that the workers refuse
FORBIDDEN = json.dumps(
    {"id": "dep-refused", "api": "legacy-gateway", "version": "0.9.0", "tenant": "tenant-x"}
).encode()
UNFIT = {"bytes": POISON, "business": FORBIDDEN}


def request(number: int, tenant: str, chooser: random.Random, *, age_seconds: float = 0.0) -> bytes:
    """Return the value of one deploy request, asked for ``age_seconds`` ago."""
    asked = datetime.now(UTC) - timedelta(seconds=age_seconds)
    return json.dumps(
        {
            "id": f"dep-{number:08d}",
            "api": f"{chooser.choice(('billing', 'catalog', 'orders', 'search', 'users'))}-api",
            "version": f"1.{chooser.randrange(40)}.{chooser.randrange(10)}",
            "tenant": tenant,
            "requested_at": asked.isoformat(timespec="milliseconds"),
        }
    ).encode()


@dataclass
class Pace:
    """The rate now: ``base`` records a second times ``multiplier`` until ``until`` (monotonic).

    What comes on top of ``base`` goes to the partitions ``only``, if any, ``age_seconds`` old;
    with ``only_share`` that share of all records goes there.
    """

    base: float
    multiplier: float = 1.0
    until: float = float("inf")
    only: tuple[int, ...] = ()
    age_seconds: float = 0.0
    only_share: float = 0.0

    def rate(self, now: float) -> float:
        """Return the records a second wanted now."""
        if now >= self.until:
            self.multiplier, self.until = 1.0, float("inf")
            self.only, self.age_seconds, self.only_share = (), 0.0, 0.0
        return self.base * self.multiplier

    @property
    def extra_share(self) -> float:
        """Return the share of records that are more than the usual, or go to ``only``."""
        if self.only_share:
            return self.only_share
        return max(0.0, 1.0 - 1.0 / self.multiplier) if self.multiplier else 0.0


class Source:
    """One topic's producer."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, rate: float, seed: int) -> None:
        """Connect lazily; :meth:`run` sends."""
        from confluent_kafka import Producer

        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": f"producer-{topic}",
                "linger.ms": 5,
                # as Java's producer: what a slow broker has not taken waits here, in ever larger
                # batches, and not as one request for each record
                "max.in.flight.requests.per.connection": 5,
                "message.timeout.ms": 30_000,
            },
            logger=logging.getLogger("rdkafka"),
        )
        self.topic = topic
        self.partitions = partitions
        self.pace = Pace(rate)
        self.sent = 0
        self.failed = 0
        self._chooser = random.Random(seed)
        self._poison: queue.Queue[tuple[int, bytes, queue.Queue[dict[str, Any]]]] = queue.Queue(16)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End :meth:`run` after the present tick."""
        self._stopping.set()

    def poison(self, partition: int, kind: str = "bytes") -> dict[str, Any]:
        """Send one record that no worker can handle; return its topic, partition and offset.

        Raises:
            ValueError: no such partition or kind.
            TimeoutError: the broker did not acknowledge it within POISON_SECONDS.
        """
        if not 0 <= partition < self.partitions:
            raise ValueError(f"{self.topic} has partitions 0 to {self.partitions - 1}")
        if kind not in UNFIT:
            raise ValueError(f"kind must be one of {', '.join(UNFIT)}")
        answer: queue.Queue[dict[str, Any]] = queue.Queue(1)
        self._poison.put((partition, UNFIT[kind], answer), timeout=POISON_SECONDS)
        try:
            return answer.get(timeout=POISON_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"no acknowledgement within {POISON_SECONDS:.0f} s") from None

    def run(self) -> None:
        """Send until stopped, then flush."""
        due = time.monotonic()
        report_at, before = due, 0
        while not self._stopping.is_set():
            now = time.monotonic()
            rate = self.pace.rate(now)
            if now - due > 1.0:
                due = now  # after a pause of this process the gap is not made up for
            while due <= now and rate > 0:
                self._send()
                due += (1 + self._chooser.uniform(-GAP_JITTER, GAP_JITTER)) / rate
            self._send_poison()
            self._producer.poll(0)
            if now - report_at >= REPORT_SECONDS:
                count = self.sent - before
                LOG.info(
                    "produced %d records to %s in %.1f s: %.1f/s, wanted %.1f/s, failed %d in all",
                    count,
                    self.topic,
                    now - report_at,
                    count / (now - report_at),
                    rate,
                    self.failed,
                )
                report_at, before = now, self.sent
            self._stopping.wait(TICK_SECONDS)
        self._producer.flush(10)

    def _send(self) -> None:
        number = self._chooser.randrange(self.partitions * TENANTS_PER_PARTITION)
        pace, age = self.pace, 0.0
        if self._chooser.random() < pace.extra_share:
            age = pace.age_seconds
            if pace.only:
                number += self._chooser.choice(pace.only) - number % self.partitions
        tenant = f"tenant-{number:03d}"
        value = request(self.sent, tenant, self._chooser, age_seconds=age)
        try:
            self._producer.produce(
                self.topic,
                key=tenant,
                value=value,
                partition=number % self.partitions,
                timestamp=int((time.time() - age) * 1000),
                on_delivery=self._delivered,
            )
        except BufferError:
            self.failed += 1
            self._producer.poll(0.1)
            return
        self.sent += 1

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed += 1

    def _send_poison(self) -> None:
        while not self._poison.empty():
            partition, value, answer = self._poison.get()

            def landed(
                error: Any, message: Any, answer: queue.Queue[dict[str, Any]] = answer
            ) -> None:
                if error is None:
                    answer.put(
                        {
                            "topic": message.topic(),
                            "partition": message.partition(),
                            "offset": message.offset(),
                        }
                    )

            self._producer.produce(
                self.topic, key="tenant-x", value=value, partition=partition, on_delivery=landed
            )


def control(source: Source, port: int) -> ThreadingHTTPServer:
    """Return the control page of a source, not yet serving."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def _status(self) -> dict[str, Any]:
            return {
                "topic": source.topic,
                "sent": source.sent,
                "failed": source.failed,
                "rate": source.pace.rate(time.monotonic()),
            }

        def do_GET(self) -> None:
            self._answer(200, self._status())

        def do_POST(self) -> None:
            try:
                length = min(int(self.headers.get("Content-Length", "0")), BODY_BYTES)
                sent = json.loads(self.rfile.read(length) or b"{}")
                if self.path == "/rate":
                    multiplier = float(sent["multiplier"])
                    if not 0 <= multiplier <= MULTIPLIER_CEILING:
                        raise ValueError(f"multiplier must be 0 to {MULTIPLIER_CEILING:g}")
                    seconds = sent.get("seconds")
                    until = float("inf") if seconds is None else time.monotonic() + float(seconds)
                    only = tuple(int(number) for number in sent.get("only", ()))
                    if not set(only) <= set(range(source.partitions)):
                        raise ValueError(f"only must be among 0 to {source.partitions - 1}")
                    age = float(sent.get("age_seconds", 0.0))
                    share = float(sent.get("only_share", 0.0))
                    source.pace = Pace(source.pace.base, multiplier, until, only, age, share)
                    self._answer(200, self._status())
                elif self.path == "/poison":
                    self._answer(
                        200, source.poison(int(sent["partition"]), str(sent.get("kind", "bytes")))
                    )
                else:
                    self._answer(404, {"error": "known: /rate, /poison"})
            except (KeyError, TypeError, ValueError) as error:
                self._answer(400, {"error": str(error)})
            except (TimeoutError, queue.Full) as error:
                self._answer(504, {"error": str(error) or "busy"})

        def log_message(self, format: str, *args: Any) -> None:
            LOG.debug(format, *args)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main(argv: list[str] | None = None) -> int:
    """Run one producer from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.workload.producer", description="steady producer with a control page"
    )
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", default="deploy-requests")
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--rate", type=float, default=40.0, help="records a second")
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stdout,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    source = Source(args.bootstrap, args.topic, args.partitions, args.rate, args.seed)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: source.stop())
    page = control(source, args.control_port)
    threading.Thread(target=page.serve_forever, name="control", daemon=True).start()
    source.run()
    page.shutdown()
    LOG.info("stopped after %d records", source.sent)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

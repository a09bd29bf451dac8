"""Run toxiproxy and put faults on the way between consumers and brokers.

Knows toxiproxy's HTTP API (v2.5.0: ``/proxies``, ``/proxies/NAME/toxics``, ``/reset``); knows
nothing about who talks through a proxy.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.install import Artifact
from lab.processes import LabError, Ledger

PART = "toxiproxy"
READY_SECONDS = 15.0
REQUEST_SECONDS = 5.0
TERM_GRACE = 2.0


@dataclass(frozen=True)
class Toxiproxy:
    """A client of one running toxiproxy. `port` is its control port on loopback."""

    port: int

    @property
    def url(self) -> str:
        """Return the address of the control API."""
        return f"http://127.0.0.1:{self.port}"

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            detail = error.read().decode("utf-8", "replace").strip()
            raise LabError(f"toxiproxy refused {method} {path}: {error.code} {detail}") from error
        except OSError as error:
            raise LabError(f"toxiproxy did not answer {method} {path}: {error}") from error
        return json.loads(text) if text else None

    def proxies(self) -> dict[str, Any]:
        """Return all proxies by name, with their toxics."""
        answer: dict[str, Any] = self._ask("GET", "/proxies")
        return answer

    def create(self, proxy: str, *, listen: int, upstream: int) -> None:
        """Add a proxy from one loopback port to another."""
        self._ask(
            "POST",
            "/proxies",
            {
                "name": proxy,
                "listen": f"127.0.0.1:{listen}",
                "upstream": f"127.0.0.1:{upstream}",
                "enabled": True,
            },
        )

    def add(
        self,
        proxy: str,
        type: str,
        attributes: Mapping[str, int],
        stream: str = "downstream",
        toxicity: float = 1.0,
    ) -> str:
        """Put a toxic on a proxy and return its name.

        `type` is one of latency, bandwidth, slow_close, timeout, reset_peer, slicer, limit_data;
        `attributes` are its own (milliseconds, KB/s or bytes); `toxicity` is the share of
        connections that get it.
        """
        name = f"{type}_{stream}"
        self._ask(
            "POST",
            f"/proxies/{proxy}/toxics",
            {
                "name": name,
                "type": type,
                "stream": stream,
                "toxicity": toxicity,
                "attributes": dict(attributes),
            },
        )
        return name

    def remove(self, proxy: str, type: str, stream: str = "downstream") -> None:
        """Take a toxic of a type off a proxy again; its connections go on."""
        self._ask("DELETE", f"/proxies/{proxy}/toxics/{type}_{stream}")

    def clear(self) -> None:
        """Remove every toxic and enable every proxy."""
        self._ask("POST", "/reset")

    def disable(self, proxy: str) -> None:
        """Close a proxy: its connections end and new ones are refused."""
        self._ask("POST", f"/proxies/{proxy}", {"enabled": False})

    def enable(self, proxy: str) -> None:
        """Open a closed proxy again."""
        self._ask("POST", f"/proxies/{proxy}", {"enabled": True})


def start(
    ledger: Ledger, artifact: Artifact, port: int, routes: Mapping[str, tuple[int, int]]
) -> Toxiproxy:
    """Start toxiproxy on `port` with one proxy per route (name → listen port, upstream port)."""
    client = Toxiproxy(port)

    def ready() -> str | None:
        try:
            client.proxies()
        except LabError as error:
            return str(error)
        return None

    ledger.start(
        "toxiproxy",
        [artifact.files["server"], "-host", "127.0.0.1", "-port", str(port)],
        endpoint=client.url,
        ready=ready,
        timeout=READY_SECONDS,
        term_grace=TERM_GRACE,
    )
    for name, (listen, upstream) in routes.items():
        client.create(name, listen=listen, upstream=upstream)
    return client

"""Prometheus and whatever speaks its HTTP API: offset history, broker health, alerts, targets.

It knows the query API, its limits and its traps, and through :mod:`lagkit.sources.dialects` the
names exporters use; it knows no cause. Values are handed on as exported, -1 included. What was not
scraped is a missing row: a value is asked for within one step, because the server itself repeats
the last one for five minutes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lagkit.sources import Answer, Blind, Deadline, Questions, Scope, http
from lagkit.sources.dialects import own_dialects
from lagkit.sources.prometheus.grid import Grid
from lagkit.sources.prometheus.matrix import decode
from lagkit.sources.prometheus.queries import Queries
from lagkit.sources.prometheus.reading import Reading
from lagkit.sources.prometheus.server import Server

if TYPE_CHECKING:
    from lagkit.config import HttpLogin, OwnDialect

__all__ = ["Grid", "PrometheusSource", "Server", "decode"]


class PrometheusSource:
    """The Prometheus at *url*, any path prefix included, with *login*."""

    name = "prometheus"

    def __init__(self, url: str, login: HttpLogin, own: Iterable[OwnDialect] = ()) -> None:
        """Log in with *login*; *own* are the user's mappings of metric names.

        Raises UsageError if one of them has the id of a dialect that lagkit knows.
        """
        self.url = url
        self._login = login
        self._own = own_dialects(own)

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        """Ask about *scope*: offsets, group_history, neighbours, second_opinions, broker_metrics,
        pod_metrics, alerts, targets.

        Never raises; what could not be had is in ``blind`` and in the provenance.
        """
        began = time.monotonic()
        questions = Questions(self.name)
        try:
            server = Server(self.url, self._login)
        except Exception as error:  # an address or certificate of any shape
            why = f"{http.public_url(self.url)} cannot be used: {type(error).__name__}: {error}"
            return Answer(
                self.name,
                "unavailable",
                why,
                time.monotonic() - began,
                blind=(Blind("everything Prometheus knows", why, "Check --prometheus."),),
            )
        ask = Queries(server, scope, Deadline(budget_seconds), questions)
        reading = Reading(ask, self._own)
        try:
            reading.run()
        except Exception as error:  # the contract: a source never raises
            ask.miss("the rest of Prometheus", f"{type(error).__name__}: {error}")
        finally:
            server.close()
        return reading.answer(time.monotonic() - began)

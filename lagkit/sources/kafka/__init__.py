"""Kafka and Redpanda by AdminClient: group, members, offsets, replicas and configuration, now.

Knows the broker's admin calls and their traps. Reads only: it describes and lists, and creates no
consumer unless it is asked for the group's own log (``offsets_topic``), and then never one with
the group's id, so it cannot join, seek or commit for the group it looks at. Knows no cause. Only
calls that Redpanda has too are made: no multi-group fetch, no MAX_TIMESTAMP.

A number that the broker did not give is NaN, with the reason in ``error``; a group list that comes
back empty is *not seen*, because a broker that has just started answers so while it still loads
its groups.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from lagkit import frames
from lagkit.sources import Answer, Blind, Deadline, Questions, Scope, Status
from lagkit.sources.kafka.errors import fault
from lagkit.sources.kafka.login import resolve, secret_values, token_callback
from lagkit.sources.kafka.offsets import GroupOffsets, Refusal, offsets_of_groups
from lagkit.sources.kafka.reading import read_group
from lagkit.sources.kafka.rows import (
    STATES,
    Place,
    Read,
    Replicas,
    broker_rows,
    client_host,
    committed_offsets,
    group_row,
    member_rows,
)
from lagkit.sources.kafka.session import CALL_SECONDS, Found, Session

__all__ = [
    "STATES",
    "GroupOffsets",
    "KafkaSource",
    "Place",
    "Read",
    "Refusal",
    "Replicas",
    "broker_rows",
    "client_host",
    "committed_offsets",
    "fault",
    "group_row",
    "member_rows",
    "offsets_of_groups",
]

_LOG = logging.getLogger(__name__)


class KafkaSource:
    """A Kafka or Redpanda cluster, read by AdminClient."""

    name = "kafka"

    def __init__(
        self,
        bootstrap: str,
        properties: Mapping[str, SecretStr | str] | None = None,
        *,
        snapshots: int = 3,
        interval: float = 2.0,
        ignored: tuple[str, ...] = (),
    ) -> None:
        """Read *bootstrap* (HOST:PORT,…) with further librdkafka *properties*.

        Offsets are read *snapshots* times, *interval* seconds apart, so that motion is visible
        even without a metrics server; see :meth:`watch_longer`. *ignored* are names of properties
        that were given and left out; they are only told.
        """
        self.bootstrap = bootstrap
        self._properties = {
            key: value.get_secret_value() if isinstance(value, SecretStr) else value
            for key, value in (properties or {}).items()
        }
        self._snapshots = max(1, snapshots)
        self._interval = interval
        self._ignored = ignored
        self._longer = threading.Event()
        self._offsets_topic = False

    @classmethod
    def configured(
        cls, bootstrap: str | None, properties: Mapping[str, SecretStr], file: Path | None
    ) -> Self:
        """Return the source that settings describe; *file* holds properties of any Kafka client.

        Raises
        ------
        UsageError
            The login cannot be used as written; the text names the property, not its value.
        """
        plain = {key: value.get_secret_value() for key, value in properties.items()}
        login = resolve(bootstrap, plain, file)
        return cls(login.bootstrap, login.properties, ignored=login.ignored)

    def watch_longer(self) -> None:
        """Take snapshots until they can show a stop: no other source has a history of offsets.

        May be called while a fetch runs.
        """
        self._longer.set()

    def read_group_log(self) -> None:
        """Read the group's own log in ``__consumer_offsets`` too; needs READ on that topic."""
        self._offsets_topic = True

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        """Describe the group of *scope* and its topics; return within about *budget_seconds*."""
        started = time.monotonic()
        # the check of the frames is needed at the end, and costs a second to import: not then
        threading.Thread(target=frames.pandera_schema, args=("queries",), daemon=True).start()
        questions = Questions(self.name)
        found = Found()
        if self._ignored:
            found.facts["ignored_properties"] = ", ".join(self._ignored)
        session = Session(
            self.configuration(), self.secrets, scope, Deadline(budget_seconds), questions, found
        )
        try:
            read_group(
                session,
                snapshots=self._snapshots,
                interval=self._interval,
                longer=self._longer,
                offsets_topic=self._offsets_topic,
            )
        except Exception as error:  # a source never raises: whatever was read so far still counts
            _LOG.exception("reading Kafka stopped early")
            found.blind.append(
                Blind("rest of Kafka", session.text(f"{type(error).__name__}: {error}"))
            )
        finally:
            session.close()
        typed = found.typed()
        status: Status = "ok"
        if not found.reached:
            status = "unavailable"
        elif found.blind:
            status = "partial"
        return Answer(
            source=self.name,
            status=status,
            detail="; ".join(found.notes) or "nothing was answered",
            seconds=round(time.monotonic() - started, 3),
            frames=typed,
            queries=questions.frame(),
            blind=tuple(found.blind),
            facts=dict(sorted(found.facts.items())),
        )

    def configuration(self) -> dict[str, Any]:
        """Return the librdkafka configuration of a short-lived admin client."""
        properties: dict[str, Any] = dict(self._properties)
        if callback := token_callback(properties):
            properties["oauth_cb"] = callback
        return {
            "client.id": "lagkit",
            # reconnect fast: a broker that comes back within the budget should still be read
            "reconnect.backoff.max.ms": 1000,
            "socket.connection.setup.timeout.ms": int(CALL_SECONDS * 1000),
            # "Disconnected", which a TLS listener answers to plain text, is logged at this level
            "log_level": 6,
            **properties,
            "bootstrap.servers": self.bootstrap,
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        """Property values that must not appear in any text."""
        return secret_values(self._properties)

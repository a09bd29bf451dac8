"""One group looked at again and again: cheap looks after a first whole one.

Knows how to go on when a broker freezes, dies or cannot be reached: a look that failed says why,
and the next one is made by a new client. Describes and lists only; joins, commits and seeks
nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from lagkit import frames
from lagkit.sources import Answer, Deadline, Questions, Scope
from lagkit.sources.kafka.groups import committed_of, describe
from lagkit.sources.kafka.offsets import log_offsets
from lagkit.sources.kafka.rows import Place, RowMaker, state_name
from lagkit.sources.kafka.session import Found, Session
from lagkit.sources.kafka.topics import describe_topics

if TYPE_CHECKING:
    from lagkit.sources.kafka import KafkaSource

_LOG = logging.getLogger(__name__)
_OFFSETS = [column.name for column in frames.FRAMES["offsets"].columns]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw. ``offsets`` is a frame `offsets`, empty where nothing was answered.

    ``members`` is None where the group could not be described; ``owners`` names the member that
    has each partition. ``fault`` says what was not answered, "" if all was.
    """

    at: pd.Timestamp
    offsets: pd.DataFrame
    state: str = "Unknown"
    members: int | None = None
    owners: Mapping[Place, str] = field(default_factory=dict)
    fault: str = ""


class Follower:
    """Looks at one group until it is closed; a context manager.

    ``begin`` asks everything once, as a capture does; ``look`` asks for commits, log ends and
    members only.
    """

    def __init__(self, source: KafkaSource, scope: Scope) -> None:
        self._source = source
        self._scope = scope
        self._topics: tuple[str, ...] = scope.topics
        self._places: set[Place] = set()
        self._session: Session | None = None
        self._why = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the client."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def begin(self, *, budget_seconds: float) -> Answer:
        """Return the whole answer of the source: past log ends and retention are in it."""
        answer = self._source.fetch(self._scope, budget_seconds=budget_seconds)
        rows = answer.frames.get("partitions")
        if rows is not None:
            own = rows.loc[rows["group"] == self._scope.group]
            self._places = {(str(t), int(p)) for t, p in zip(own.topic, own.partition, strict=True)}
            self._topics = tuple(sorted({topic for topic, _ in self._places}))
        return answer

    def look(self, *, budget_seconds: float) -> Look:
        """Look once, within about *budget_seconds*; never raises."""
        at = pd.Timestamp.now("UTC").as_unit("us")
        try:
            session = self._ready(budget_seconds)
            if session is None:
                return Look(at, frames.empty("offsets"), fault=self._why)
            return self._read(session)
        except Exception as error:  # a source never raises: the next look may see again
            _LOG.exception("a look stopped early")
            self.close()
            return Look(at, frames.empty("offsets"), fault=f"{type(error).__name__}: {error}")

    def _ready(self, budget_seconds: float) -> Session | None:
        """Return a session that is connected; None, with the reason, where nobody answers."""
        session = self._session
        if session is None:
            session = Session(
                self._source.configuration(),
                self._source.secrets,
                self._scope,
                Deadline(budget_seconds),
                Questions("kafka"),
                Found(),
            )
            if not session.connect():
                self._why = "; ".join(session.found.notes) or "nobody answers"
                session.close()
                return None
            self._session = session
        else:
            # one look's answers, faults and time are its own
            session.deadline = Deadline(budget_seconds)
            session.questions, session.found = Questions("kafka"), Found()
        session.found.facts.setdefault("group_exists", "unknown")
        return session

    def _read(self, session: Session) -> Look:
        group = session.scope.group
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="lagkit-look") as pool:
            described = pool.submit(describe, session, group)
            replicas_later = pool.submit(describe_topics, session, list(self._topics))
            query_id, committed = committed_of(session, group)
            replicas, hidden = replicas_later.result()
            # a topic that was deleted, or is hidden now, is still asked about: it may come back
            self._places |= set(replicas) | set(committed or ())
            topics = self._topics or {topic for topic, _ in self._places}
            places = sorted(place for place in self._places if place[0] in topics)
            at = pd.Timestamp.now("UTC").as_unit("us")
            starts = pool.submit(log_offsets, session, places, "earliest")
            ends = log_offsets(session, places, "latest")
            description = described.result()
            maker = RowMaker(at, query_id, starts.result(), ends, {}, replicas, hidden)
        rows = list(maker.of(group, places, committed))
        told = [row for row in rows if _tells(row)]
        fault = "; ".join(dict.fromkeys(blind.why for blind in session.found.blind))
        if fault or not told:
            # a client that met a frozen broker keeps waiting for it
            self.close()
        table = frames.normalise("offsets", [{k: row.get(k) for k in _OFFSETS} for row in told])
        return Look(
            at,
            table,
            state="Unknown" if description is None else state_name(description),
            members=None if description is None else len(description.members),
            owners=_owners(description),
            fault=fault or ("" if told else "no offset was answered"),
        )


def _tells(row: Mapping[str, Any]) -> bool:
    """Whether *row* holds an offset at all: a partition nobody answered for has no row."""
    return not (math.isnan(row["committed_offset"]) and math.isnan(row["log_end_offset"]))


def _owners(description: Any) -> dict[Place, str]:
    owners: dict[Place, str] = {}
    for member in getattr(description, "members", ()):
        with contextlib.suppress(AttributeError):
            for place in member.assignment.topic_partitions:
                owners[place.topic, place.partition] = str(member.member_id)
    return owners

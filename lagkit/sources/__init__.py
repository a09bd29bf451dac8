"""What a source is: one system, asked within a budget, answering in frames with provenance.

A source knows its system and the frames, and no cause. Whatever goes wrong inside one ends as a
status and a sentence in its :class:`Answer`, never as an exception and never as an empty frame
without a reason: an empty answer and a failed question have different types here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import pandas as pd

from lagkit import frames

if TYPE_CHECKING:
    from lagkit.runbook import Runbook

Status = Literal["ok", "partial", "unavailable", "not_configured"]
Outcome = Literal["ok", "empty", "partial", "denied", "timeout", "failed"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What an investigation asks every source about.

    ``topics`` empty means: every topic the group has committed to or is assigned.
    """

    group: str
    topics: tuple[str, ...]
    start: pd.Timestamp
    end: pd.Timestamp
    runbook: Runbook
    namespace: str | None = None
    selector: str | None = None


@dataclass(frozen=True, slots=True)
class Blind:
    """Something a source should have shown and could not, and what that means for the reader."""

    what: str
    why: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source gave: frames, the questions behind them, and what it could not see."""

    source: str
    status: Status
    detail: str
    seconds: float
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    queries: pd.DataFrame = field(default_factory=lambda: frames.empty("queries"))
    blind: tuple[Blind, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """Small facts about the source itself: dialect, server version, cluster id, step."""


class Source(Protocol):
    """One system. ``fetch`` returns within about *budget_seconds* and never raises."""

    name: str

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        """Ask the system about *scope*."""
        ...


class Deadline:
    """A budget that several calls of one source share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, at_most: float | None = None) -> float:
        """Return the seconds left (at least 0), or *at_most* if that is less."""
        left = max(0.0, self._end - time.monotonic())
        return left if at_most is None else min(left, at_most)

    @property
    def passed(self) -> bool:
        """Whether the budget is spent."""
        return self.left() <= 0


@dataclass(slots=True)
class Question:
    """One question while it is being asked; set ``rows``, ``outcome`` and ``detail`` on it."""

    query_id: str
    statement: str
    rows: int = 0
    outcome: Outcome | None = None
    detail: str = ""


class Questions:
    """The provenance of one source: every question it asked, in order of asking. Thread-safe."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._number = 0
        self._rows: list[dict[str, object]] = []

    @contextmanager
    def ask(self, statement: str) -> Iterator[Question]:
        """Time one question and record its outcome; an exception is recorded and goes on up.

        Without an explicit outcome: ``ok`` with rows, ``empty`` without.
        """
        with self._lock:
            self._number += 1
            question = Question(f"{self._source}-{self._number:02d}", statement)
        started_at = pd.Timestamp.now("UTC")
        started = time.monotonic()
        try:
            yield question
        except Exception as error:
            question.outcome = question.outcome or "failed"
            question.detail = question.detail or f"{type(error).__name__}: {error}"
            raise
        finally:
            with self._lock:
                self._rows.append(
                    {
                        "query_id": question.query_id,
                        "source": self._source,
                        "statement": question.statement,
                        "started_at": started_at,
                        "seconds": round(time.monotonic() - started, 4),
                        "rows": question.rows,
                        "outcome": question.outcome or ("ok" if question.rows else "empty"),
                        "detail": question.detail[:1000] or None,
                    }
                )

    def frame(self) -> pd.DataFrame:
        """Return the frame ``queries`` of what was asked so far."""
        with self._lock:
            return frames.normalise("queries", list(self._rows))

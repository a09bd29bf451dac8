"""Questions to one server within one budget, each with its provenance; losses are kept as such.

It knows the three kinds of question (metadata, instant, range) and what the server says beside an
answer; it knows no metric. Whatever is missing ends as a :class:`~lagkit.sources.Blind`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any

import pandas as pd

from lagkit.sources import Blind, Deadline, Question, Questions, Scope, http
from lagkit.sources.http import HttpFailure, TooLarge
from lagkit.sources.prometheus.grid import Grid, epoch, iso
from lagkit.sources.prometheus.matrix import (
    Piece,
    decode,
    first_series,
    identity,
    join,
    labelled,
    series_of,
)
from lagkit.sources.prometheus.server import AT_ONCE, Page, Server

MOST_SERIES = 20_000
HALVINGS = 5
"""How often a request that is too much is halved: down to 156 of 5,000 points."""
TOO_LARGE_FIX = (
    "Narrow it with --topic or a shorter --since, or raise the limit that the server names."
)


@dataclass(slots=True)
class Series:
    """Decoded samples of one question with the series they belong to."""

    samples: pd.DataFrame
    series: list[Mapping[str, Any]]
    query_id: str

    def columns(self, *labels: str) -> pd.DataFrame:
        """Return the samples with a column per label; None where a series lacks it."""
        return labelled(self.samples, self.series, labels)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one request of a range query gave, or why it gave nothing."""

    grid: Grid
    piece: Piece | None = None
    found: int = 0
    """Series in the answer, of which at most most_series are in the piece."""
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    failure: HttpFailure | None = None


@dataclass(slots=True)
class Queries:
    """What was asked of *server* about *scope* before *deadline*, and what could not be had."""

    server: Server
    scope: Scope
    deadline: Deadline
    questions: Questions
    blind: list[Blind] = field(default_factory=list)
    failures: int = 0
    _losses: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def miss(self, what: str, why: str, fix: str = "") -> None:
        """Record something that should have been seen and was not."""
        with self._lock:
            self.failures += 1
            self.blind.append(Blind(what, why, fix))

    def metadata(self, path: str, fields: Mapping[str, Any], *, post: bool) -> list[Any]:
        """Ask for label values or series."""
        asked = " ".join(
            f"{key}={' '.join(value) if isinstance(value, list) else value}"
            for key, value in fields.items()
        )
        with self.questions.ask(f"{path} {asked}") as question:
            page = self._ask(path, fields, question, post=post)
            if not isinstance(page.data, list):
                text = "the answer is no list"
                raise HttpFailure(text)
            question.rows = len(page.data)
            self._note(question, page.notes, page.losses)
            return page.data

    def instant(self, expression: str) -> Series:
        """Ask for *expression* at the end of the window."""
        at = epoch(self.scope.end)
        with self.questions.ask(f"query {expression} time={at}") as question:
            page = self._ask("query", {"query": expression, "time": at}, question)
            series = series_of(page.data, {"vector", "matrix"})
            if page.data["resultType"] == "vector":
                series = [{**item, "values": [item["value"]]} for item in series if "value" in item]
            samples = decode(series)
            question.rows = len(samples)
            self._note(question, page.notes, page.losses)
            return Series(samples, _labels(series), question.query_id)

    def range(self, expression: str, grid: Grid, *, most_series: int = MOST_SERIES) -> Series:
        """Ask for *expression* at every point of *grid*, in requests that share no point.

        What the server takes only in smaller pieces is asked for in halves. What came stays when
        the rest fails: half a window with a reason beats none.
        """
        statement = f"query_range {expression} start={grid.first} end={grid.last} step={grid.step}"
        with self.questions.ask(statement) as question:
            grids = grid.parts(grid.at_most(most_series))
            if len(grids) == 1:
                parts = self._parts(expression, grid, most_series)
            else:
                with ThreadPoolExecutor(min(AT_ONCE, len(grids)), "range") as pool:
                    each = pool.map(lambda one: self._parts(expression, one, most_series), grids)
                    parts = list(chain.from_iterable(each))
            failures = [part.failure for part in parts if part.failure is not None]
            if len(failures) == len(parts):
                question.outcome, question.detail = failures[0].outcome, str(failures[0])
                raise failures[0]
            whole = join([part.piece for part in parts if part.piece is not None])
            if len(whole.series) > most_series:
                whole = first_series(whole, most_series)
            question.rows = len(whole.samples)
            self._describe(question, expression, parts, most_series, halved=len(parts) > len(grids))
            return Series(whole.samples, _labels(whole.series), question.query_id)

    def _parts(
        self, expression: str, grid: Grid, most_series: int, halvings: int = HALVINGS
    ) -> list[_Part]:
        """Ask for *grid*, in halves where it is too much; a failure is a part without a piece."""
        try:
            return [self._part(expression, grid, most_series)]
        except TooLarge as failure:
            if not halvings or grid.points == 1:
                text = f"{failure} (asked for {grid.points} points at a time)"
                lost = TooLarge(text, status=failure.status, fix=TOO_LARGE_FIX)
                return [_Part(grid, failure=lost)]
        except HttpFailure as failure:
            return [_Part(grid, failure=failure)]
        first, *rest = grid.cut(2)
        parts = self._parts(expression, first, most_series, halvings - 1)
        if all(part.failure for part in parts):
            # the other half would fail in the same way, at the same price for the server
            return [_Part(grid, failure=parts[0].failure)]
        for half in rest:
            parts += self._parts(expression, half, most_series, halvings - 1)
        return parts

    def _part(self, expression: str, grid: Grid, most_series: int) -> _Part:
        fields = {
            "query": expression,
            "start": str(grid.first),
            "end": str(grid.last),
            "step": str(grid.step),
        }
        page = self.server.ask("query_range", fields, self.deadline)
        answered = series_of(page.data, {"matrix"})
        series = sorted((item for item in answered if "values" in item), key=identity)
        samples = decode(series[:most_series])
        within = samples["time"].between(grid.first, grid.last)
        if not within.all():
            # a server that rounds the window itself would repeat points of the next part
            samples = samples[within].reset_index(drop=True)
        piece = Piece(_labels(series[:most_series]), samples)
        histograms = len(answered) - len(series)
        notes = [f"{histograms} native histograms left out"] if histograms else []
        return _Part(grid, piece, len(series), (*notes, *page.notes), page.losses)

    def _describe(
        self,
        question: Question,
        expression: str,
        parts: Sequence[_Part],
        most_series: int,
        *,
        halved: bool,
    ) -> None:
        """Say beside the question, and as blind spots, what *parts* lack."""
        notes: list[str] = []
        if halved:
            points = min(part.grid.points for part in parts)
            notes.append(f"too much for one answer: {len(parts)} requests, down to {points} points")
        lost = [(part.failure, part.grid) for part in parts if part.failure is not None]
        for (why, fix), same in groupby(lost, key=lambda pair: (str(pair[0]), pair[0].fix)):
            gap = [one for _, one in same]
            question.outcome = "partial"
            notes.append(f"nothing from {iso(gap[0].first)} to {iso(gap[-1].last)}: {why}")
            self.miss("a part of the window", f"{expression}: {notes[-1]}", fix)
        found = max(part.found for part in parts)
        if found > most_series:
            question.outcome = "partial"
            notes.append(f"{found} series, the first {most_series} kept")
            self.miss(
                "some of many series",
                f"{expression} has {found} series; the first {most_series} are kept",
                "Narrow it with --topic.",
            )
        notes += [note for part in parts for note in part.notes]
        self._note(question, notes, [loss for part in parts for loss in part.losses])

    def _note(self, question: Question, notes: Iterable[str], losses: Iterable[str]) -> None:
        """Keep what the server said beside its answer; what it lacks is said once as a loss."""
        question.detail = "; ".join(dict.fromkeys(notes))
        for loss in losses:
            question.outcome = "partial"
            with self._lock:
                known = loss in self._losses
                self._losses.add(loss)
            if not known:
                self.miss(
                    "what the server left out of its answers",
                    f"it warned, first at {question.query_id}: {loss}",
                    "Look at the stores, ingesters or limits that it names.",
                )

    def _ask(
        self, path: str, fields: Mapping[str, Any], question: Question, *, post: bool = True
    ) -> Page:
        try:
            return self.server.ask(path, fields, self.deadline, post=post)
        except HttpFailure as failure:
            question.outcome, question.detail = failure.outcome, str(failure)
            raise

    def attempt(self, what: str, call: Callable[[], None], fix: str = "") -> None:
        """Run *call*; whatever it fails with becomes a blind spot."""
        try:
            call()
        except HttpFailure as failure:
            self.miss(what, str(failure), failure.fix or fix)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            why = f"the answer has a shape that Prometheus does not give: {error!r}"
            self.miss(what, why[: http.EXCERPT_CHARACTERS], fix)

    def page(self, path: str) -> Any:
        """Ask for a page that not every server has; None where there is none, which is no loss."""
        with self.questions.ask(path) as question:
            try:
                page = self._ask(path, {}, question, post=False)
            except HttpFailure:
                return None
            question.rows = 1
            return page.data


def _labels(series: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return *series* without their samples, which would keep the whole answer in memory."""
    return [{"metric": item["metric"]} for item in series]

"""Weeks of many groups: asked an hour at a time, in pieces of a week, each kept on disk.

The server sums over partitions and takes the extremes of each hour, so that weeks of a thousand
groups are a few dozen answers. What is sampled away is said. An answer that the server finds too
large is asked for in shorter pieces, then for fewer groups. What a run has been told is kept: an
interrupted one goes on where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.sources import Answer, Blind, Deadline, Questions, Scope, Status, http
from lagkit.sources.dialects import (
    CLUSTER_LABELS,
    DIALECTS,
    Aggregates,
    Dialect,
    Found,
    asked_for,
    detect,
    joined,
    looked_for,
    matcher,
    own_dialects,
    recorded,
)
from lagkit.sources.http import HttpFailure, TooLarge
from lagkit.sources.prometheus.asking import Asking
from lagkit.sources.prometheus.grid import Grid, iso
from lagkit.sources.prometheus.hours import HOUR, Places, Tables
from lagkit.sources.prometheus.kept import Kept, kept_folder
from lagkit.sources.prometheus.presence import (
    DAY,
    FRESH_SECONDS,
    RATE_SECONDS,
    Tellers,
    find_tellers,
    places_wanted,
)
from lagkit.sources.prometheus.queries import Queries, Series
from lagkit.sources.prometheus.server import Server

if TYPE_CHECKING:
    from lagkit.config import HttpLogin, OwnDialect
    from lagkit.runbook import Runbook

WEEK = 7 * DAY
AT_ONCE = 2
"""Requests at a time: these are heavier than a dashboard's, and nobody waits at 3 am."""
SCRAPES_IN_RATE = 4
GROUPS_AT_ONCE = 400
"""Names in one matcher; a batch that is too much is halved."""
LATE_START_SECONDS = 36 * 3600
"""Data that begins this much after the window is worth a word."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Task:
    """One question over one piece of the window, for some groups or topics."""

    dialect: int
    """Its position among those found."""
    concept: str
    ask: Callable[[str], str]
    """Matchers → PromQL."""
    label: str
    names: tuple[str, ...]
    where: str
    """Matchers of the cluster."""
    keys: tuple[str, ...]
    grid: Grid


class PrometheusHistory:
    """The Prometheus at *url* asked about weeks; answers are kept in *folder* unless it is None."""

    name = "prometheus"

    def __init__(
        self,
        url: str,
        login: HttpLogin,
        own: Iterable[OwnDialect] = (),
        *,
        folder: Path | None = None,
        keep: bool = True,
    ) -> None:
        self.url = url
        self._login = login
        self._dialects: tuple[Dialect, ...] = (*own_dialects(own), *DIALECTS)
        tenants = sorted((name, value.get_secret_value()) for name, value in login.headers.items())
        place = f"{http.public_url(url)} {tenants} {login.username or ''}"
        self._kept = Kept(folder or kept_folder(), place) if keep else None

    def fetch(
        self,
        groups: Sequence[str],
        topics: Sequence[str],
        start: pd.Timestamp,
        end: pd.Timestamp,
        runbook: Runbook,
        *,
        budget_seconds: float,
        on_progress: Progress | None = None,
    ) -> Answer:
        """Return flow_hours, partition_days, member_hours, workload_hours; *groups* empty: all.

        Never raises but on an interrupt; what could not be had is in ``blind``.
        """
        began = time.monotonic()
        questions = Questions(self.name)
        try:
            server = Server(self.url, self._login)
        except Exception as error:
            why = f"{http.public_url(self.url)} cannot be used: {type(error).__name__}: {error}"
            return Answer(self.name, "unavailable", why, time.monotonic() - began)
        scope = Scope("", tuple(topics), start, end, runbook)
        ask = Queries(server, scope, Deadline(budget_seconds), questions)
        reading = _Reading(ask, self._dialects, self._kept, on_progress or (lambda _line: None))
        try:
            reading.run(tuple(groups))
        except HttpFailure as failure:
            ask.miss("everything Prometheus knows", str(failure), failure.fix or "Check the login.")
        except Exception as error:  # the contract: a source never raises
            ask.miss("the rest of Prometheus", f"{type(error).__name__}: {error}")
        finally:
            server.close()
            if self._kept:
                self._kept.tidy()
        return reading.answer(time.monotonic() - began)


class _Reading:
    """One fetch."""

    def __init__(
        self, ask: Queries, dialects: tuple[Dialect, ...], kept: Kept | None, say: Progress
    ) -> None:
        self._ask, self._dialects, self._say = ask, dialects, say
        self._asking = Asking(ask, kept)
        self._reached = False
        self._frames: dict[str, pd.DataFrame] = {}
        self._facts = self._asking.facts
        scope = ask.scope
        first = math.ceil(scope.start.timestamp() / HOUR) * HOUR
        last = math.floor(scope.end.timestamp() / HOUR) * HOUR
        self._grid = Grid(first, max(first, last), HOUR)
        self._hours = np.arange(self._grid.first, self._grid.last + 1, HOUR, dtype="int64")
        self._lost: dict[tuple[str, str, str], list[str]] = {}

    # ── the way through ─────────────────────────────────────────────────────────────────────────

    def run(self, groups: tuple[str, ...]) -> None:
        """Ask everything."""
        self._say("prometheus: which exporters and groups there are")
        names = self._names()
        self._reached = True
        found = list(detect(names, self._dialects))
        if not found:
            self._ask.miss(
                "the history of any group",
                "no lag exporter wrote here in the window; looked for "
                + ", ".join(looked_for(self._dialects)),
                "Give another --prometheus, or map your exporter's names in [[dialects]].",
            )
            return
        found.sort(key=lambda item: (-item.fineness, -item.richness))
        tellers = find_tellers(self._asking, found, groups, self._grid)
        places = places_wanted(self._asking, tellers, groups)
        if not places:
            return
        self._facts["group_topics"] = str(len(places))
        rules = self._rules()
        tables = Tables(places, self._hours, [item.dialect.id for item in found])
        tasks: list[_Task] = []
        spoken: list[tuple[int, Aggregates]] = []
        for number, item in enumerate(found):
            pieces = self._pieces(number, places, tellers)
            if not pieces:
                continue
            aggregates = self._aggregates(item, rules)
            spoken.append((number, aggregates))
            tasks += self._tasks(number, aggregates, tellers.where[number], places, pieces)
        self._facts["dialect"] = ", ".join(found[number].dialect.id for number, _ in spoken)
        self._run(tasks, tables)
        self._frames["flow_hours"] = tables.flow_hours()
        self._frames["partition_days"] = tables.partition_days()
        self._frames["member_hours"] = tables.member_hours()
        self._workloads(names)
        self._say_what_is_lost(tables)

    def answer(self, seconds: float) -> Answer:
        """Return all there is."""
        ask = self._ask
        status: Status = "ok" if not ask.failures else "partial"
        if not self._reached:
            status = "unavailable"
        queries = ask.questions.frame()
        detail = f"{self._facts.get('group_topics', '0')} groups on topics, {len(queries)} queries"
        if self._asking.taken:
            detail += f", {self._asking.taken} answers kept from before"
        if not self._reached:
            detail = ask.blind[-1].why if ask.blind else "no answer"
        return Answer(
            "prometheus",
            status,
            detail,
            seconds,
            frames=dict(self._frames),
            queries=queries,
            blind=tuple(dict.fromkeys(ask.blind)),
            facts=dict(sorted(self._facts.items())),
        )

    # ── who is there ────────────────────────────────────────────────────────────────────────────

    def _names(self) -> frozenset[str]:
        wanted = "|".join([asked_for(self._dialects), "kube_deployment_metadata_generation"])
        bounds = {"start": str(self._grid.first), "end": str(self._grid.last)}
        path = "label/__name__/values"
        try:
            fields = {**bounds, "match[]": f'{{__name__=~"{wanted}"}}'}
            names = self._ask.metadata(path, fields, post=False)
        except HttpFailure as failure:
            if failure.status not in {400, 404, 422}:
                raise
            names = self._ask.metadata(path, bounds, post=False)
        return frozenset(name for name in names if isinstance(name, str))

    # ── what is asked ───────────────────────────────────────────────────────────────────────────

    def _rules(self) -> list[Any]:
        """Return the recording rules whose text is understood, that cover the whole window."""
        page = self._ask.page("rules")
        groups = page.get("groups", []) if isinstance(page, dict) else []
        texts = [
            (str(rule.get("name")), str(rule.get("query")))
            for group in groups
            if isinstance(group, dict)
            for rule in group.get("rules", [])
            if isinstance(rule, dict) and rule.get("type") == "recording"
        ]
        rules = [rule for rule in (recorded(*text) for text in texts) if rule is not None]
        whole = []
        week = Grid.over(self._ask.scope.start, self._ask.scope.end, WEEK)
        edges = Grid(self._grid.first + HOUR, self._grid.last, self._grid.last - self._grid.first
                     - HOUR or HOUR)  # fmt: skip
        for rule in rules[:50]:
            expression = f"count(last_over_time({rule.rule}[1h]))"
            seen: list[int] = []
            for grid in (week, edges):
                self._ask.attempt(
                    f"whether the recording rule {rule.rule} covers the window",
                    lambda grid=grid, expression=expression, seen=seen: seen.append(  # type: ignore[misc]
                        len(self._asking.range(expression, grid).samples) - grid.points
                    ),
                )
            if seen == [0, 0]:
                whole.append(rule)
            else:
                self._facts[f"rule {rule.rule}"] = "not used: it does not cover the window"
        return whole

    def _aggregates(self, found: Found, rules: list[Any]) -> Aggregates:
        interval = self._scrape_interval(found)
        seconds = max(RATE_SECONDS, math.ceil(interval * SCRAPES_IN_RATE / 60) * 60)
        fresh = max(FRESH_SECONDS, math.ceil(interval * 2.2))
        plain = Aggregates(found, f"{fresh}s", min(seconds, HOUR), HOUR)
        used = plain.usable(rules, [*CLUSTER_LABELS, "job"])
        for concept, rule in sorted(used.items()):
            self._facts[f"rule {rule.rule}"] = f"read for {concept.replace('_', ' ')}"
        self._facts["rate_seconds"] = str(plain.rate_seconds)
        self._facts["scrape_interval_seconds"] = f"{interval:g}"
        return Aggregates(found, f"{fresh}s", plain.rate_seconds, HOUR, used)

    def _scrape_interval(self, found: Found) -> float:
        """Return the seconds between two samples of one series, at the end of the window."""
        name = found.group_metrics[0]
        where = f"{{{found.dialect.where}}}" if found.dialect.where else ""
        text = f"quantile(0.5, 3600 / (count_over_time({name}{where}[1h])))"
        got: list[float] = []

        def ask() -> None:
            answer = self._asking.range(
                text, Grid.over(self._ask.scope.start, self._ask.scope.end, DAY)
            )
            got.extend(answer.samples["value"].dropna())

        self._ask.attempt("how often it was scraped", ask)
        return float(np.median(got)) if got else 60.0

    def _pieces(
        self,
        number: int,
        places: Places,
        tellers: Tellers,
    ) -> list[Grid]:
        """Return the weeks to ask this dialect about: those that none before it tells whole."""
        told = tellers.told.get(number)
        if not told:
            return []
        own = np.zeros(len(tellers.days), dtype=bool)
        needed = np.zeros(len(tellers.days), dtype=bool)
        for place in places:
            days = told.get(place)
            if days is None:
                continue
            before = np.zeros(len(tellers.days), dtype=bool)
            for earlier in range(number):
                before |= tellers.told.get(earlier, {}).get(place, False)
            own |= days
            needed |= days & ~before
        if not needed.any():
            return []
        pieces = []
        for piece in self._weeks():
            inside = (tellers.days >= piece.first - DAY) & (tellers.days <= piece.last + DAY)
            if needed[inside].any() or not inside.any():
                pieces.append(piece)
        return pieces

    def _weeks(self) -> list[Grid]:
        """Cut the window at the same instants in every run, so that kept answers are met again."""
        first, last = self._grid.first, self._grid.last
        edges = range(first - first % WEEK, last + 1, WEEK)
        return [
            Grid(max(first, edge), min(last, edge + WEEK - HOUR), HOUR)
            for edge in edges
            if min(last, edge + WEEK - HOUR) >= max(first, edge)
        ]

    def _tasks(
        self,
        number: int,
        aggregates: Aggregates,
        where: str,
        places: Places,
        pieces: list[Grid],
    ) -> list[_Task]:
        dialect = aggregates.found.dialect
        group, topic = aggregates.keys
        groups = tuple(sorted({place[0] for place in places}))
        topics = tuple(sorted({place[1] for place in places}))
        of_group: dict[str, Callable[[str], str]] = {
            "committed": aggregates.committed,
            "lag_high": aggregates.lag_high,
            "consumed": aggregates.consumed,
            "retention_use": lambda matchers: aggregates.retention_use(matchers, where),
        }
        if not aggregates.committed("") or not aggregates.log("log_end", ""):
            of_group["lag"] = aggregates.lag
        of_topic: dict[str, Callable[[str], str]] = {
            "log_end": partial(aggregates.log, "log_end"),
            "log_start": partial(aggregates.log, "log_start"),
            "produced_high": lambda matchers: aggregates.produced(matchers, "max_over_time"),
            "produced_low": lambda matchers: aggregates.produced(matchers, "min_over_time"),
        }
        tasks = []
        for label, names, keys, asks in (
            (group, groups, (group, topic), of_group),
            (topic, topics, (topic,), of_topic),
            (group, groups, (group,), {"members": aggregates.members}),
            (topic, topics, (topic, dialect.partition), {"partitions": aggregates.partitions}),
        ):
            for concept, ask in asks.items():
                if not ask(""):
                    continue
                grids = pieces
                if concept == "partitions":
                    grids = [grid for piece in pieces if (grid := _daily(piece)) is not None]
                for start in range(0, len(names), GROUPS_AT_ONCE):
                    batch = names[start : start + GROUPS_AT_ONCE]
                    tasks += [
                        _Task(number, concept, ask, label, batch, where, keys, grid)
                        for grid in grids
                    ]
        return tasks

    # ── asking ──────────────────────────────────────────────────────────────────────────────────

    def _run(self, tasks: list[_Task], tables: Tables) -> None:
        """Ask all *tasks*, some at a time, and put each answer where it belongs as it comes."""
        total, done = len(tasks), 0
        told = time.monotonic()
        waiting = list(reversed(tasks))
        running: dict[Future[Series], _Task] = {}
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="history")
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE + 1:
                    task = waiting.pop()
                    running[pool.submit(self._answer, task)] = task
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    task = running.pop(future)
                    done += 1
                    halves = self._placed(task, future, tables)
                    waiting += halves
                    total += len(halves)
                if time.monotonic() - told > 1.0 or done == total:
                    told = time.monotonic()
                    kept = f", {self._asking.taken} kept" if self._asking.taken else ""
                    self._say(f"prometheus: {done} of {total} answers{kept}")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _answer(self, task: _Task) -> Series:
        matchers = joined(matcher(task.label, task.names), task.where)
        return self._asking.range(task.ask(matchers), task.grid)

    def _placed(self, task: _Task, future: Future[Series], tables: Tables) -> list[_Task]:
        """Store the answer; for one that was too large return the two halves to ask instead."""
        try:
            tables.put(task.dialect, task.concept, task.keys, future.result())
        except TooLarge as failure:
            if len(task.names) > 1:
                middle = len(task.names) // 2
                halves = (task.names[:middle], task.names[middle:])
                return [replace(task, names=names) for names in halves]
            self._lose(task, str(failure), failure.fix)
        except HttpFailure as failure:
            self._lose(task, str(failure), failure.fix)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            self._lose(task, f"the answer has a shape that Prometheus does not give: {error!r}", "")
        return []

    def _lose(self, task: _Task, why: str, fix: str) -> None:
        span = f"{iso(task.grid.first)[:10]} to {iso(task.grid.last)[:10]}"
        key = (task.concept.replace("_", " "), why[: http.EXCERPT_CHARACTERS], fix)
        self._lost.setdefault(key, []).append(span)

    def _say_what_is_lost(self, tables: Tables) -> None:
        for (concept, why, fix), spans in sorted(self._lost.items()):
            ordered = sorted(dict.fromkeys(spans))
            where = ordered[0] if len(ordered) == 1 else f"{len(ordered)} pieces, {ordered[0]} …"
            self._ask.miss(
                f"{concept} of {where}",
                why,
                fix or "Run it again: what was answered is kept and only the rest is asked.",
            )
        begin = tables.first_hour()
        if begin is not None and begin - self._grid.first > LATE_START_SECONDS:
            days = (self._grid.last - begin) / DAY
            self._facts["data_begins"] = iso(begin)
            self._ask.blind.append(
                Blind(
                    f"what was before {iso(begin)[:10]}",
                    f"the server holds {days:.0f} days of the {self._grid.points / 24:.0f} asked "
                    "for: its retention is shorter, or the exporter is younger",
                    "Raise --storage.tsdb.retention.time, or ask a long-term store.",
                )
            )

    def _workloads(self, names: frozenset[str]) -> None:
        """Ask when the runbook's workloads were deployed."""
        metric = "kube_deployment_metadata_generation"
        runbook = self._ask.scope.runbook
        wanted = {(g.workload.namespace, g.workload.name) for g in runbook.groups if g.workload}
        if metric not in names or not wanted:
            return
        matchers = joined(
            matcher("namespace", {one for one, _ in wanted}),
            matcher("deployment", {one for _, one in wanted}),
        )
        expression = f"max by (namespace, deployment) (last_over_time({metric}{{{matchers}}}[1h]))"
        got: list[pd.DataFrame] = []

        def ask() -> None:
            for piece in self._weeks():
                got.append(self._asking.range(expression, piece).columns("namespace", "deployment"))

        self._ask.attempt("deploys of the runbook's workloads", ask)
        rows = pd.concat(got, ignore_index=True) if got else pd.DataFrame()
        if rows.empty:
            return
        self._frames["workload_hours"] = frames.normalise(
            "workload_hours",
            pd.DataFrame(
                {
                    "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                    "namespace": rows["namespace"],
                    "workload": rows["deployment"],
                    "generation": rows["value"],
                }
            ),
        )


def _daily(piece: Grid) -> Grid | None:
    first = math.ceil(piece.first / DAY) * DAY
    last = math.floor(piece.last / DAY) * DAY
    return Grid(first, last, DAY) if first <= last else None

"""Prometheus and whatever speaks its HTTP API: offset history, broker health, alerts, targets.

It knows the query API, its limits and its traps, and through :mod:`lagkit.sources.dialects` the
names exporters use; it knows no cause. Values are handed on as exported, -1 included. What was not
scraped is a missing row: a value is asked for within one step, because the server itself repeats
the last one for five minutes.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lagkit import frames
from lagkit.sources import Answer, Blind, Deadline, Question, Questions, Scope, Status, http
from lagkit.sources.dialects import (
    BROKER_READINGS,
    CLUSTER_LABELS,
    GROUP_LABELS,
    BrokerReading,
    Found,
    detect,
    either,
    joined,
    looked_for,
    matcher,
    one_of,
    quoted,
    silent,
)
from lagkit.sources.http import HttpFailure

if TYPE_CHECKING:
    import requests
    from prometheus_api_client import PrometheusConnect

    from lagkit.config import HttpLogin

POINTS_PER_SERIES = 10_000
"""Most points of one series in a window; Prometheus itself refuses more than 11,000."""
POINTS_PER_REQUEST = 5_000
AT_ONCE = 4
MOST_SERIES = 20_000
MOST_SAMPLES = 500_000
"""Samples per question; a wider step is taken rather than more of them."""
MOST_NEIGHBOURS = 200
MOST_ALERT_SERIES = 100
MOST_THROTTLED_CLIENTS = 50
LABEL_CHARACTERS = 500
"""Most that is stored of one label of an alert: labels are written by anyone."""
UNKNOWN_STEP_SECONDS = 15
"""Step where no series tells how often it is scraped (a common scrape interval)."""
WINDOW_SLACK = 1.1
"""Looking back a tenth more than a step keeps scrape jitter from reading as a gap."""
RATE_STEPS = 5
"""Steps under a rate(): below four scrapes it breaks at the first lost one."""
INTERVAL_LOOKBACK_SECONDS = 6 * 3600
CODES_TRYING_GET = frozenset({403, 405, 501})
"""What proxies that let only GET through answer to a POST (403: Kubernetes service proxy)."""
INCOMPLETE = re.compile(r"partial|truncat|limit|unreachable|unavailable|incomplete", re.IGNORECASE)
"""How Prometheus, Thanos, Mimir and VictoriaMetrics say in a warning that something is missing."""
RUNBOOK_ALERT_METRIC = "kafka_consumer_group_lag"
"""What the alerts of the shipped runbook watch; most exporters do not write it."""
_KAFKA_NAMES = ".*(kafka|redpanda).*"


class PrometheusSource:
    """The Prometheus at *url*, any path prefix included, with *login*."""

    name = "prometheus"

    def __init__(self, url: str, login: HttpLogin) -> None:
        self.url = url
        self._login = login

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        """Ask about *scope*: offsets, group_history, neighbours, broker_metrics, alerts, targets.

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
        reading = _Reading(server, scope, Deadline(budget_seconds), questions)
        try:
            reading.run()
        except Exception as error:  # the contract: a source never raises
            reading.miss("the rest of Prometheus", f"{type(error).__name__}: {error}")
        finally:
            server.close()
        return reading.answer(time.monotonic() - began)


class Server:
    """The connection, its answers checked: form-encoded POST, or GET where it must be."""

    def __init__(self, url: str, login: HttpLogin) -> None:
        from prometheus_api_client import PrometheusConnect

        self._session: requests.Session = http.build_session(login)
        self._connection: PrometheusConnect = PrometheusConnect(
            url=url.rstrip("/"), session=self._session, retry=http.retry(), method="POST"
        )
        self._method = "POST"

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def ask(
        self, path: str, fields: Mapping[str, Any], deadline: Deadline, *, post: bool = True
    ) -> tuple[Any, list[str]]:
        """Return ``data`` of the API at *path*, and the server's warnings and infos.

        Raises
        ------
        HttpFailure
            No answer, a refusal, an error of the query, or no answer of this API.
        """
        method = self._method if post else "GET"
        reply = self._exchange(method, path, fields, deadline)
        if method == "POST" and reply.status in CODES_TRYING_GET:
            second = self._exchange("GET", path, fields, deadline)
            if second.status not in CODES_TRYING_GET:
                self._method = "GET"
            reply = second
        return _data(reply, f"{self._connection.url}/api/v1/{path}")

    def _exchange(
        self, method: str, path: str, fields: Mapping[str, Any], deadline: Deadline
    ) -> http.Reply:
        connection = self._connection
        return http.ask(
            self._session,
            method,
            f"{connection.url}/api/v1/{path}",
            deadline=deadline,
            data=fields if method == "POST" else None,
            params=fields if method == "GET" else None,
            headers=connection.headers,
            auth=connection.auth,
            verify=self._session.verify,
            cert=self._session.cert,
        )


def _data(reply: http.Reply, url: str) -> tuple[Any, list[str]]:
    place = http.public_url(url)
    status = reply.status
    if reply.location:
        text = f"{place} points to {reply.location} instead of answering; give that address"
        raise HttpFailure(text, status=status)
    try:
        answer = json.loads(reply.body)
    except ValueError:
        answer = None
    stated = answer if isinstance(answer, dict) else {}
    if status in {401, 403}:
        text = f"{place} refused the login (HTTP {status}): {http.excerpt(reply.body)}"
        raise HttpFailure(text, outcome="denied", status=status)
    if stated.get("status") == "error":
        kind, error = str(stated.get("errorType", "error")), str(stated.get("error", ""))
        text = f"HTTP {status}, {kind}: {http.excerpt(error.encode('utf-8', 'replace'))}"
        raise HttpFailure(text, outcome="timeout" if kind == "timeout" else "failed", status=status)
    if status >= 300:
        text = f"{place} answered HTTP {status}: {http.excerpt(reply.body)}"
        raise HttpFailure(text, status=status)
    if stated.get("status") != "success" or "data" not in stated:
        text = f"{place} is no Prometheus API; it said: {http.excerpt(reply.body)}"
        raise HttpFailure(text, status=status)
    notes = [
        http.excerpt(str(note).encode("utf-8", "replace"))
        for kind in ("warnings", "infos")
        for note in stated.get(kind) or ()
    ]
    return stated["data"], notes


@dataclass(frozen=True, slots=True)
class Grid:
    """The points asked for: every *step* whole seconds, at multiples of it, both ends included."""

    first: int
    last: int
    step: int

    @classmethod
    def over(cls, start: pd.Timestamp, end: pd.Timestamp, step: int) -> Grid:
        """Return the grid inside *start* to *end*; one point at the end if none lies between."""
        first = math.ceil(start.timestamp() / step) * step
        last = math.floor(end.timestamp() / step) * step
        return cls(min(first, last), last, step)

    @property
    def points(self) -> int:
        """Number of points."""
        return (self.last - self.first) // self.step + 1

    def at_most(self, series: int) -> int:
        """Return *series*, or fewer where that many would be more than MOST_SAMPLES."""
        return max(1, min(series, MOST_SAMPLES // self.points))

    @property
    def window(self) -> str:
        """PromQL duration within which a sample counts for a point."""
        return f"{round(self.step * WINDOW_SLACK * 1000)}ms"

    @property
    def rate_window(self) -> str:
        """PromQL duration under a rate()."""
        return f"{self.step * RATE_STEPS}s"

    def parts(self) -> list[tuple[int, int]]:
        """Return first and last point of each request; no point is in two of them."""
        stride = POINTS_PER_REQUEST * self.step
        return [
            (first, min(first + stride - self.step, self.last))
            for first in range(self.first, self.last + 1, stride)
        ]


def decode(series: Sequence[Mapping[str, Any]], field_name: str = "values") -> pd.DataFrame:
    """Return one row per sample: ``series`` (position in the list), ``time`` (epoch s), ``value``.

    Infinities become NaN. Native histograms have no ``values`` and give no row.
    """
    samples = [item.get(field_name) or () for item in series]
    lengths = np.fromiter(map(len, samples), dtype="int64", count=len(samples))
    flat = list(chain.from_iterable(chain.from_iterable(samples)))
    value = np.fromiter(map(float, flat[1::2]), dtype="float64", count=len(flat) // 2)
    value[np.isinf(value)] = np.nan
    return pd.DataFrame(
        {
            "series": np.repeat(np.arange(len(samples)), lengths),
            "time": np.array(flat[0::2], dtype="float64"),
            "value": value,
        }
    )


def labelled(
    samples: pd.DataFrame, series: Sequence[Mapping[str, Any]], labels: Iterable[str]
) -> pd.DataFrame:
    """Return *samples* with a column per name in *labels*; None where a series lacks the label."""
    position = samples["series"].to_numpy()
    columns = {
        label: np.array([item["metric"].get(label) for item in series] or [None], dtype=object)
        for label in labels
    }
    return samples.assign(
        **{label: values[position] if len(position) else [] for label, values in columns.items()}
    )


@dataclass(slots=True)
class _Series:
    """Decoded samples of one question with the series they belong to."""

    samples: pd.DataFrame
    series: list[Mapping[str, Any]]
    query_id: str

    def columns(self, *labels: str) -> pd.DataFrame:
        return labelled(self.samples, self.series, labels)


@dataclass(slots=True)
class _Spoken:
    """A dialect together with the series of the group in it."""

    found: Found
    series: list[Mapping[str, str]]
    where: str = ""
    """Further matchers: job and cluster, where there are several."""


@dataclass(slots=True)
class _Reading:
    """One fetch: what was asked, what came, what did not."""

    server: Server
    scope: Scope
    deadline: Deadline
    questions: Questions
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    blind: list[Blind] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failures: int = 0
    reached: bool = False
    concepts: dict[str, pd.DataFrame] = field(default_factory=dict)
    broker_rows: list[pd.DataFrame] = field(default_factory=list)
    shift: float = 0.0
    """Seconds that the scrape lies before the grid point which shows it."""

    # ------------------------------------------------------------------ outcome

    def miss(self, what: str, why: str, fix: str = "") -> None:
        """Record something that should have been seen and was not."""
        self.failures += 1
        self.blind.append(Blind(what, why, fix))

    def answer(self, seconds: float) -> Answer:
        status: Status = "ok" if not self.failures else "partial"
        if not self.reached:
            status = "unavailable"
        queries = self.questions.frame()
        detail = "; ".join([*self.remarks, f"{len(queries)} queries"])
        if not self.reached:
            detail = self.blind[-1].why if self.blind else "no answer"
        return Answer(
            "prometheus",
            status,
            detail,
            seconds,
            frames=dict(sorted(self.frames.items())),
            queries=queries,
            blind=tuple(sorted(self.blind, key=lambda item: (item.what, item.why))),
            facts=dict(sorted(self.facts.items())),
        )

    # ------------------------------------------------------------------ questions

    @property
    def span(self) -> int:
        seconds = (self.scope.end - self.scope.start).total_seconds()
        return max(1, math.ceil(float(seconds)))

    @property
    def bounds(self) -> dict[str, str]:
        return {"start": _epoch(self.scope.start), "end": _epoch(self.scope.end)}

    def metadata(self, path: str, fields: Mapping[str, Any], *, post: bool) -> list[Any]:
        """Ask for label values or series."""
        asked = " ".join(
            f"{key}={' '.join(value) if isinstance(value, list) else value}"
            for key, value in fields.items()
        )
        with self.questions.ask(f"{path} {asked}") as question:
            data, notes = self._ask(path, fields, question, post=post)
            if not isinstance(data, list):
                text = "the answer is no list"
                raise HttpFailure(text)
            question.rows = len(data)
            _note(question, notes)
            return data

    def instant(self, expression: str) -> _Series:
        """Ask for *expression* at the end of the window."""
        at = _epoch(self.scope.end)
        with self.questions.ask(f"query {expression} time={at}") as question:
            fields = {"query": expression, "time": at, **self._timeout()}
            data, notes = self._ask("query", fields, question)
            series = _result(data, {"vector", "matrix"})
            field_name = "values"
            if data["resultType"] == "vector":
                series = [{**item, "values": [item["value"]]} for item in series if "value" in item]
            samples = decode(series, field_name)
            question.rows = len(samples)
            _note(question, notes)
            return _Series(samples, series, question.query_id)

    def range(self, expression: str, grid: Grid, *, most_series: int = MOST_SERIES) -> _Series:
        """Ask for *expression* at every point of *grid*, in parts that share no point."""
        statement = f"query_range {expression} start={grid.first} end={grid.last} step={grid.step}"
        with self.questions.ask(statement) as question:
            collected: list[pd.DataFrame] = []
            series: list[Mapping[str, Any]] = []
            notes: list[str] = []
            for first, last in grid.parts():
                fields = {
                    "query": expression,
                    "start": str(first),
                    "end": str(last),
                    "step": str(grid.step),
                    **self._timeout(),
                }
                try:
                    data, part_notes = self._ask("query_range", fields, question)
                    part = _result(data, {"matrix"})
                    histograms = sum("values" not in item for item in part)
                    part = [item for item in part if "values" in item]
                    part.sort(key=lambda item: sorted(item["metric"].items()))
                    samples = decode(part[:most_series])
                except HttpFailure as failure:
                    if not collected:
                        raise
                    # what came stays: half a window with a reason beats none
                    question.outcome = "partial"
                    notes.append(f"nothing after {_iso(first)}: {failure}")
                    self.miss("the later part of a window", f"{expression}: {failure}")
                    break
                if histograms:
                    notes.append(f"{histograms} native histograms left out")
                if len(part) > most_series:
                    question.outcome = "partial"
                    notes.append(f"{len(part)} series, the first {most_series} kept")
                    self.miss(
                        "some of many series",
                        f"{expression} has {len(part)} series; the first {most_series} are kept",
                        "Narrow it with --topic.",
                    )
                notes.extend(note for note in part_notes if note not in notes)
                samples["series"] += len(series)
                series.extend(part[:most_series])
                collected.append(samples)
            together = pd.concat(collected, ignore_index=True) if collected else decode([])
            question.rows = len(together)
            _note(question, notes)
            return _Series(together, series, question.query_id)

    def _ask(
        self, path: str, fields: Mapping[str, Any], question: Question, *, post: bool = True
    ) -> tuple[Any, list[str]]:
        try:
            return self.server.ask(path, fields, self.deadline, post=post)
        except HttpFailure as failure:
            question.outcome, question.detail = failure.outcome, str(failure)
            raise

    def _timeout(self) -> dict[str, str]:
        # the server stops working on what nobody waits for any more
        return {"timeout": f"{max(1, math.ceil(self.deadline.left()))}s"}

    def attempt(self, what: str, call: Callable[[], None], fix: str = "") -> None:
        """Run *call*; whatever it fails with becomes a blind spot."""
        try:
            call()
        except HttpFailure as failure:
            self.miss(what, str(failure), fix)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            why = f"the answer has a shape that Prometheus does not give: {error!r}"
            self.miss(what, why[: http.EXCERPT_CHARACTERS], fix)

    # ------------------------------------------------------------------ the way through

    def run(self) -> None:
        """Ask everything: names, the group's dialect, its scrape interval, then all frames."""
        try:
            names = self._names()
        except HttpFailure as failure:
            fix = "Check --prometheus and the login; try the address with /api/v1/query?query=up."
            self.miss("everything Prometheus knows", str(failure), fix)
            return
        self.reached = True
        found = detect(names)
        spoken = self._choose(found, names)
        step = UNKNOWN_STEP_SECONDS
        if spoken is not None:
            step = self._scrape_interval(spoken)
        grid = self._grid(step, spoken)
        self.facts["step_seconds"] = str(grid.step)
        self.remarks.append(f"{grid.points} points of {grid.step} s")
        tasks: list[tuple[str, Callable[[], None]]] = [
            ("alert history", lambda: self._alerts(grid, names)),
            ("scrape health of the exporters", lambda: self._targets(grid, names, found)),
            ("version of the Prometheus server", self._version),
            *self._broker_tasks(grid, names),
        ]
        if spoken is not None:
            chosen = spoken
            tasks = [
                *self._concept_tasks(chosen, grid),
                ("members and state over time", lambda: self._history(chosen, grid)),
                ("other groups and topics", lambda: self._neighbours(chosen, grid)),
                *tasks,
            ]
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="prometheus") as pool:
            for future in [pool.submit(self.attempt, what, call) for what, call in tasks]:
                future.result()
        if spoken is not None:
            joining = spoken
            self.attempt("offset history of the group", lambda: self._join_offsets(joining, grid))
        self.attempt("broker metrics", self._join_broker_metrics)

    def _names(self) -> frozenset[str]:
        path = "label/__name__/values"
        fields = {**self.bounds, "match[]": f'{{__name__=~"{_KAFKA_NAMES}|up|ALERTS"}}'}
        try:
            names = self.metadata(path, fields, post=False)
        except HttpFailure as failure:
            if failure.status not in {400, 404, 422}:
                raise
            # older servers know no match[] here
            names = self.metadata(path, self.bounds, post=False)
        return frozenset(name for name in names if isinstance(name, str))

    # ------------------------------------------------------------------ which dialect, how often

    def _choose(self, found: tuple[Found, ...], names: frozenset[str]) -> _Spoken | None:
        """Return the richest dialect that knows the group; say what the others are, or the lack."""
        ids = [item.dialect.id for item in found]
        if not found:
            self.facts["dialect"] = "none"
            if mute := silent(names):
                titles = " or ".join(mute)
                self.remarks.append(f"{titles}, without any consumer group")
                self.miss(
                    "offset history of the group",
                    f"{titles} writes log offsets and not one consumer group: none has committed, "
                    "or it cannot read them; for seconds after a broker restart, nobody can",
                    "Look at the exporter's log and at its group filter; ask again in a minute.",
                )
                return None
            self.remarks.append("no lag metric of any known exporter")
            self.miss(
                "offset history of the group",
                "no lag exporter writes here; looked for "
                + ", ".join(looked_for())
                + f". An alert on any of these, {RUNBOOK_ALERT_METRIC} of the runbook included, "
                "cannot fire here",
                "Deploy a lag exporter (the OpenTelemetry kafkametrics receiver has the runbook's "
                "names), or give another --prometheus.",
            )
            return None
        candidates: list[_Spoken] = []
        for item in found:
            self.attempt(
                f"series of the group in {item.dialect.title}",
                lambda item=item: candidates.extend(self._group_series(item)),  # type: ignore[misc]
            )
        candidates.sort(
            key=lambda spoken: (-spoken.found.richness, ids.index(spoken.found.dialect.id))
        )
        chosen = candidates[0] if candidates else None
        best = chosen.found if chosen else max(found, key=lambda item: item.richness)
        self.facts["dialect"] = best.dialect.id
        self.facts["dialect_title"] = best.dialect.title
        self.facts["runbook_alert_metric"] = (
            f"{RUNBOOK_ALERT_METRIC} exists here"
            if RUNBOOK_ALERT_METRIC in best.names
            else f"{RUNBOOK_ALERT_METRIC} does not exist here: an alert on it cannot fire"
        )
        self.facts["cross_dialects"] = ",".join(x for x in ids if x != best.dialect.id)
        self.remarks.insert(0, f"{best.dialect.title} names")
        self.blind.extend(Blind(gap.what, gap.why, gap.fix) for gap in best.gaps)
        if chosen is None:
            self._near_groups(found)
            return None
        return self._one_cluster(chosen)

    def _group_series(self, found: Found) -> list[_Spoken]:
        names = found.group_metrics
        if not names:
            return []
        own = matcher(found.dialect.group, [self.scope.group])
        matches = [f"{name}{{{own}}}" for name in names]
        series = self.metadata("series", {**self.bounds, "match[]": matches}, post=True)
        return [_Spoken(found, series)] if series else []

    def _one_cluster(self, spoken: _Spoken) -> _Spoken:
        """Keep one job and cluster: two clusters may have the same group, topics and partitions."""
        places: dict[tuple[tuple[str, str], ...], list[Mapping[str, str]]] = {}
        for item in spoken.series:
            labels = ("job", *CLUSTER_LABELS)
            place = tuple((label, item[label]) for label in labels if item.get(label))
            places.setdefault(place, []).append(item)
        ordered = sorted(places, key=lambda place: (-len(places[place]), place))
        kept = ordered[0]
        self.facts["job"] = dict(kept).get("job", "")
        if len(ordered) == 1:
            return spoken
        names = [" ".join(f"{key}={value}" for key, value in place) for place in ordered]
        self.blind.append(
            Blind(
                f"the group as seen by {len(names) - 1} other exporter(s) or cluster(s)",
                f"the same group is exported by {'; '.join(names)}; {names[0]} is shown",
                "Point --prometheus at one cluster, or drop the second exporter.",
            )
        )
        where = joined(*(matcher(label, [value]) for label, value in kept))
        return _Spoken(spoken.found, places[kept], where)

    def _near_groups(self, found: tuple[Found, ...]) -> None:
        groups: set[str] = set()
        for item in found:
            for name in item.group_metrics:
                path = f"label/{item.dialect.group}/values"
                fields = {**self.bounds, "match[]": name}
                self.attempt(
                    "names of the groups there are",
                    lambda path=path, fields=fields: groups.update(  # type: ignore[misc]
                        map(str, self.metadata(path, fields, post=False))
                    ),
                )
        group = self.scope.group
        near = difflib.get_close_matches(group, sorted(groups), n=5, cutoff=0.5)
        self.facts["near_groups"] = ",".join(near)
        self.facts["group_count"] = str(len(groups))
        self.remarks.append(f"group {group!r} is not among the {len(groups)} groups")
        self.miss(
            "offset history of the group",
            f"no series of group {group!r} in the window; {len(groups)} other group(s) are there",
            f"Did you mean {', '.join(near)}?" if near else "Check the name and the window.",
        )

    def _scrape_interval(self, spoken: _Spoken) -> int:
        """Return the whole seconds between raw samples of one partition of the group."""
        dialect = spoken.found.dialect
        one = min(spoken.series, key=lambda item: sorted(item.items()))
        matchers = joined(
            *(matcher(label, [one[label]]) for label in
              (dialect.group, dialect.topic, dialect.partition) if label in one),
            spoken.where,
        )  # fmt: skip
        lookback = min(self.span, INTERVAL_LOOKBACK_SECONDS)
        raw: list[_Series] = []
        self.attempt(
            "scrape interval of the exporter",
            lambda: raw.append(self.instant(f"{one['__name__']}{{{matchers}}}[{lookback}s]")),
        )
        samples = raw[0].samples if raw else decode([])
        between = samples.groupby("series")["time"].diff().dropna()
        if between.empty:
            self.facts["scrape_interval_seconds"] = "unknown"
            self.remarks.append(f"scrape interval unknown, {UNKNOWN_STEP_SECONDS} s taken")
            return UNKNOWN_STEP_SECONDS
        interval = max(1, round(float(between.median())))
        self.facts["scrape_interval_seconds"] = str(interval)
        if len({item.get("instance") for item in spoken.series}) == 1:
            self.shift = _shift(samples["time"].to_numpy(), interval)
        return interval

    def _grid(self, interval: int, spoken: _Spoken | None) -> Grid:
        """Return the grid: the scrape interval, or wider where that is too many points."""
        series = len(spoken.series) if spoken else 1
        step = max(
            interval,
            math.ceil(self.span / POINTS_PER_SERIES),
            math.ceil(self.span * series / MOST_SAMPLES),
        )
        if step != interval:
            self.shift = 0.0
            self.remarks.append(f"thinned from {interval} s")
        return Grid.over(self.scope.start, self.scope.end, step)

    # ------------------------------------------------------------------ frames of the group

    def _concept_tasks(self, spoken: _Spoken, grid: Grid) -> list[tuple[str, Callable[[], None]]]:
        dialect = spoken.found.dialect
        of_group = self._matchers(spoken, self.scope.topics)
        of_topics = joined(matcher(dialect.topic, self._topics(spoken)), spoken.where)
        says = {
            "committed": "committed offsets over time",
            "lag": "lag as exported over time",
            "log_end": "log end offsets over time",
            "log_start": "log start offsets over time",
        }
        return [
            (
                says[concept],
                lambda concept=concept, matchers=matchers: self._concept(  # type: ignore[misc]
                    spoken, concept, matchers, grid
                ),
            )
            for concept, matchers in (
                ("committed", of_group),
                ("lag", of_group),
                ("log_end", of_topics),
                ("log_start", of_topics),
            )
            if spoken.found.metrics(concept)
        ]

    def _matchers(self, spoken: _Spoken, topics: Iterable[str]) -> str:
        dialect = spoken.found.dialect
        return joined(
            matcher(dialect.group, [self.scope.group]),
            matcher(dialect.topic, topics),
            spoken.where,
        )

    def _topics(self, spoken: _Spoken) -> list[str]:
        label = spoken.found.dialect.topic
        return sorted(self.scope.topics or {item[label] for item in spoken.series if label in item})

    def _concept(self, spoken: _Spoken, concept: str, matchers: str, grid: Grid) -> None:
        dialect = spoken.found.dialect
        answer = self.range(spoken.found.by_partition(concept, matchers, grid.window), grid)
        rows = answer.columns(dialect.topic, dialect.partition).dropna(subset="value")
        self.concepts[concept] = pd.DataFrame(
            {
                "time": rows["time"],
                "topic": rows[dialect.topic],
                "partition": pd.to_numeric(rows[dialect.partition], errors="coerce"),
                concept: rows["value"],
                f"{concept}_query": answer.query_id,
            }
        ).dropna(subset=["topic", "partition"])

    def _join_offsets(self, spoken: _Spoken, grid: Grid) -> None:
        """Join what came per partition into the frame ``offsets``."""
        keys = ["time", "topic", "partition"]
        rows = pd.DataFrame({key: [] for key in keys})
        for part in self.concepts.values():
            rows = part if rows.empty else rows.merge(part, on=keys, how="outer")
        if rows.empty:
            if not self.failures:
                self.miss(
                    "offset history of the group",
                    "the group has series, and no sample of them lies in the window",
                    "Widen the window with --since.",
                )
            return
        for concept in ("committed", "lag", "log_end", "log_start"):
            if concept not in rows:
                rows = rows.assign(**{concept: np.nan, f"{concept}_query": None})
        if not spoken.found.metrics("committed"):
            rows["committed"] = rows["log_end"] - rows["lag"]
        rows = self._used_topics(rows).drop_duplicates(keys)
        queries = rows["committed_query"]
        for concept in ("lag", "log_end", "log_start"):
            queries = queries.where(queries.notna(), rows[f"{concept}_query"])
        self.frames["offsets"] = frames.normalise(
            "offsets",
            pd.DataFrame(
                {
                    "timestamp": self._times(rows["time"]),
                    "group": self.scope.group,
                    "topic": rows["topic"],
                    "partition": rows["partition"].astype("int64"),
                    "committed_offset": rows["committed"],
                    "log_end_offset": rows["log_end"],
                    "log_start_offset": rows["log_start"],
                    "lag_messages": rows["lag"],
                    "query_id": queries,
                }
            ),
        )
        self._describe_gaps(rows, grid)

    def _used_topics(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Leave out topics the group never committed to, unless they were asked for by name.

        With one of its settings the OpenTelemetry receiver writes -1 for every topic there is.
        """
        if self.scope.topics:
            return rows
        used = set(rows.loc[rows["committed"] >= 0, "topic"])
        return rows[rows["topic"].isin(used)] if used else rows

    def _describe_gaps(self, rows: pd.DataFrame, grid: Grid) -> None:
        seen = rows.loc[rows[["committed", "lag"]].notna().any(axis=1), "time"]
        at = np.unique(np.append(seen.to_numpy(), [grid.first, grid.last]))
        gaps = np.diff(at)[np.diff(at) > grid.step * 1.5] - grid.step
        if len(gaps):
            longest = f"{int(gaps.max())} s"
            text = f"1 gap of {longest}" if len(gaps) == 1 else f"{len(gaps)} gaps up to {longest}"
            self.remarks.append(text)
            self.facts["gaps"] = text

    def _times(self, seconds: pd.Series[Any] | np.ndarray) -> pd.DatetimeIndex:
        return frames.from_epoch_seconds(np.asarray(seconds, dtype="float64") - self.shift)

    def _history(self, spoken: _Spoken, grid: Grid) -> None:
        """Fill the frame ``group_history``."""
        found = spoken.found
        own = self._matchers(spoken, ())
        rows = pd.DataFrame({"time": [], "member_count": [], "state": [], "query_id": []})
        if members := found.metrics("members"):
            # max, not sum: two coordinators may both write it while the group moves
            answer = self.range(
                " or ".join(f"max (last_over_time({name}{{{own}}}[{grid.window}]))"
                            for name in members), grid
            )  # fmt: skip
            rows = answer.samples.rename(columns={"value": "member_count"}).drop(columns="series")
            rows = rows.dropna(subset="member_count").assign(query_id=answer.query_id)
        states = self._states(spoken, own, grid)
        if states is not None:
            rows = rows.drop(columns="state", errors="ignore").merge(
                states, on="time", how="outer", suffixes=("", "_of_state")
            )
            rows["query_id"] = rows["query_id"].where(
                rows["query_id"].notna(), rows.pop("query_id_of_state")
            )
        if rows.empty:
            return
        self.frames["group_history"] = frames.normalise(
            "group_history",
            rows.drop(columns="time").assign(
                timestamp=self._times(rows["time"]), group=self.scope.group
            ),
        )

    def _states(self, spoken: _Spoken, own: str, grid: Grid) -> pd.DataFrame | None:
        state = spoken.found.dialect.state
        names = spoken.found.present([state.name]) if state else ()
        if state is None or not names:
            return None
        if state.codes:
            answer = self.range(f"max (last_over_time({names[0]}{{{own}}}[{grid.window}]))", grid)
            rows = answer.samples.dropna(subset="value")
            named = rows["value"].map(state.codes).fillna("Unknown")
            return pd.DataFrame({"time": rows["time"], "state": named, "query_id": answer.query_id})
        # the series of the old state lives on for a while: the one scraped last is right
        answer = self.range(f"max by ({state.label}) (timestamp({names[0]}{{{own}}}))", grid)
        rows = answer.columns(state.label).dropna(subset="value")
        rows = rows[rows["time"] - rows["value"] <= grid.step * WINDOW_SLACK]
        rows = rows.sort_values(["time", "value", state.label]).drop_duplicates("time", keep="last")
        return pd.DataFrame(
            {"time": rows["time"], "state": rows[state.label], "query_id": answer.query_id}
        )

    def _neighbours(self, spoken: _Spoken, grid: Grid) -> None:
        """Fill the frame ``neighbours``: other groups, and other topics of this one."""
        found, dialect = spoken.found, spoken.found.dialect
        where = spoken.where
        own = matcher(dialect.group, [self.scope.group])
        selections = [joined(f"{dialect.group}!={quoted(self.scope.group)}", where)]
        if self.scope.topics:
            others = f"{dialect.topic}!~{one_of(self.scope.topics)}"
            selections.append(joined(own, others, where))
        keys = [dialect.group, dialect.topic]
        rows: list[pd.DataFrame] = []
        for selection in selections:
            # the last value of each within the window picks the ones worth their history
            known = self.instant(found.by_topic("lag", selection, where, f"{self.span}s"))
            ranked = known.columns(*keys).dropna().drop_duplicates(keys)
            if ranked.empty:
                continue
            total = len(ranked)
            ranked = ranked.sort_values(["value", *keys], ascending=[False, True, True])
            kept = ranked.head(grid.at_most(MOST_NEIGHBOURS))
            narrowed = selection
            if total > len(kept):
                narrowed = joined(
                    selection, *(f"{key}=~{one_of(sorted(set(kept[key])))}" for key in keys)
                )
                self.facts["neighbours_left_out"] = str(total - len(kept))
                self.blind.append(
                    Blind(
                        "other groups with little lag",
                        f"{total} group-topics; the {len(kept)} with the most lag are kept",
                    )
                )
            parts = []
            for concept, column in (("lag", "lag_messages"), ("committed", "committed_sum")):
                expression = found.by_topic(concept, narrowed, where, grid.window)
                if not expression:
                    continue
                answer = self.range(expression, grid)
                part = answer.columns(*keys).dropna().drop(columns="series")
                part = part.merge(kept[keys], on=keys)
                parts.append(
                    part.rename(columns={"value": column}).assign(query_id=answer.query_id)
                )
            first, *rest = parts
            for part in rest:
                first = first.merge(part.drop(columns="query_id"), on=["time", *keys], how="left")
            rows.append(first)
        if not rows:
            return
        together = pd.concat(rows, ignore_index=True)
        self.frames["neighbours"] = frames.normalise(
            "neighbours",
            together.drop(columns="time")
            .rename(columns={dialect.group: "group", dialect.topic: "topic"})
            .assign(timestamp=self._times(together["time"])),
        )

    # ------------------------------------------------------------------ frames about the rest

    def _broker_tasks(
        self, grid: Grid, names: frozenset[str]
    ) -> list[tuple[str, Callable[[], None]]]:
        tasks: list[tuple[str, Callable[[], None]]] = []
        for metric, readings in groupby(BROKER_READINGS, key=lambda reading: reading.metric):
            there = [
                (reading, name) for reading in readings for name in reading.names if name in names
            ]
            kinds: dict[str, tuple[BrokerReading, str]] = {}
            for reading, name in there:
                kinds.setdefault(reading.about, (reading, name))
            tasks.extend(
                (
                    f"broker metric {metric}",
                    lambda reading=reading, name=name: self._broker(  # type: ignore[misc]
                        reading, name, grid
                    ),
                )
                for reading, name in kinds.values()
            )
        if not tasks:
            self.blind.append(
                Blind(
                    "health of the brokers over time",
                    "no broker metric is scraped here",
                    "Scrape the brokers' JMX exporter, or Redpanda's /public_metrics.",
                )
            )
        return tasks

    def _broker(self, reading: BrokerReading, name: str, grid: Grid) -> None:
        expression = reading.expression.format(
            name=name, window=grid.window, rate_window=grid.rate_window
        )
        answer = self.range(expression, grid)
        rows = answer.columns("instance", *reading.labels).dropna(subset="value")
        if reading.about:
            greatest = rows.groupby("series")["value"].max().sort_values(ascending=False)
            rows = rows[rows["series"].isin(greatest.index[:MOST_THROTTLED_CLIENTS])]
        place = rows["instance"].fillna("unknown").astype(str)
        if reading.about:
            place = place + f" {reading.about}"
        for label in reading.labels:
            value = rows[label].fillna("").astype(str)
            place = place.where(value == "", place + f" {label}=" + value)
        if rows.empty:
            return
        self.broker_rows.append(
            pd.DataFrame(
                {
                    "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                    "metric": reading.metric,
                    "instance": place.to_numpy(),
                    "value": rows["value"].to_numpy() * reading.scale,
                    "unit": reading.unit,
                    "query_id": answer.query_id,
                }
            )
        )

    def _join_broker_metrics(self) -> None:
        if self.broker_rows:
            self.frames["broker_metrics"] = frames.normalise(
                "broker_metrics", pd.concat(self.broker_rows, ignore_index=True)
            )

    def _alerts(self, grid: Grid, names: frozenset[str]) -> None:
        """Fill the frame ``alerts``: those of this group, and those of no group at all."""
        if "ALERTS" not in names:
            return
        of_us = [matcher(label, [self.scope.group]) for label in GROUP_LABELS]
        of_nobody = joined(*(f'{label}=""' for label in GROUP_LABELS))
        rows = [
            part
            for selectors in (of_us, [of_nobody])
            for part in [self._alert_rows(selectors, grid)]
            if not part.empty
        ]
        if rows:
            together = pd.concat(rows, ignore_index=True)
            self.frames["alerts"] = frames.normalise(
                "alerts", together.drop_duplicates(["timestamp", "labels"])
            )

    def _alert_rows(self, selectors: Sequence[str], grid: Grid) -> pd.DataFrame:
        states, since = (
            self.range(
                either(f"{name}{{{selector}}}" for selector in selectors),
                grid,
                most_series=grid.at_most(MOST_ALERT_SERIES),
            )
            for name in ("ALERTS", "ALERTS_FOR_STATE")
        )
        if states.samples.empty:
            return pd.DataFrame()
        described = pd.DataFrame([_alert(item["metric"]) for item in states.series])
        rows = states.samples.join(described, on="series")
        identity = [_identity(item["metric"]) for item in since.series]
        active = since.samples.assign(
            identity=np.array(identity or [""], dtype=object)[since.samples["series"]]
            if len(since.samples)
            else []
        )
        rows = rows.merge(
            active[["time", "identity", "value"]].rename(columns={"value": "active"}),
            on=["time", "identity"],
            how="left",
        )
        active_at = pd.Series(pd.NaT, index=rows.index, dtype=frames.TIME)
        known = rows["active"].notna()
        active_at[known] = frames.from_epoch_seconds(rows.loc[known, "active"].to_numpy())
        return pd.DataFrame(
            {
                "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                "alert": rows["alert"],
                "state": rows["state"],
                "group": rows["group"],
                "severity": rows["severity"],
                "active_at": active_at,
                "labels": rows["labels"],
                "query_id": states.query_id,
            }
        )

    def _targets(self, grid: Grid, names: frozenset[str], found: tuple[Found, ...]) -> None:
        """Fill the frame ``targets`` for the jobs behind the other frames; sum up the rest."""
        if "up" not in names:
            return
        used = {name for item in found for name in item.group_metrics}
        used |= {name for reading in BROKER_READINGS for name in reading.names if name in names}
        jobs: list[str] = []
        if used:
            written = matcher("__name__", used)
            expression = f"count by (job) (last_over_time({{{written}}}[{self.span}s]))"
            jobs = sorted(
                {item["metric"]["job"] for item in self.instant(expression).series
                 if "job" in item["metric"]}
            )  # fmt: skip
        elsewhere = f"job!~{one_of(jobs)}" if jobs else ""
        rest = self.instant(f"count by (job) (up{{{elsewhere}}} == 0)")
        if rest.series:
            down = sorted(item["metric"].get("job", "?") for item in rest.series)
            self.facts["other_jobs_down"] = ",".join(down)[:LABEL_CHARACTERS]
        if not jobs:
            return
        answer = self.range(
            f"min by (job, instance) (last_over_time(up{{{matcher('job', jobs)}}}[{grid.window}]))",
            grid,
        )
        rows = answer.columns("job", "instance").dropna()
        if rows.empty:
            return
        self.frames["targets"] = frames.normalise(
            "targets",
            pd.DataFrame(
                {
                    "timestamp": frames.from_epoch_seconds(rows["time"].to_numpy()),
                    "job": rows["job"],
                    "instance": rows["instance"],
                    "up": rows["value"],
                    "query_id": answer.query_id,
                }
            ),
        )

    def _version(self) -> None:
        with self.questions.ask("status/buildinfo") as question:
            try:
                data, _ = self._ask("status/buildinfo", {}, question, post=False)
            except HttpFailure:
                # Thanos, Mimir and others have no such page: not a loss
                self.facts["server_version"] = "unknown"
                return
            self.facts["server_version"] = str(data["version"])[:LABEL_CHARACTERS]
            question.rows = 1


def _epoch(at: pd.Timestamp) -> str:
    return f"{at.timestamp():.3f}"


def _iso(seconds: float) -> str:
    return str(pd.Timestamp(seconds, unit="s", tz="UTC").isoformat())


def _note(question: Question, notes: Sequence[str]) -> None:
    """Keep what the server said beside its answer; a cut or a missing store is not a whole one."""
    if notes:
        question.detail = "; ".join(notes)
        if question.outcome is None and any(INCOMPLETE.search(note) for note in notes):
            question.outcome = "partial"


def _result(data: Any, types: set[str]) -> list[Mapping[str, Any]]:
    """Return the series of a query's ``data`` after checking its type."""
    if not isinstance(data, dict) or data.get("resultType") not in types:
        kind = data.get("resultType") if isinstance(data, dict) else type(data).__name__
        text = f"the answer is a {kind}, not a {' or '.join(sorted(types))}"
        raise HttpFailure(text)
    result = data.get("result")
    if not isinstance(result, list) or not all(
        isinstance(item, dict) and isinstance(item.get("metric"), dict) for item in result
    ):
        text = "the answer has no list of series"
        raise HttpFailure(text)
    return result


def _shift(times: np.ndarray, interval: int) -> float:
    """Return how many seconds before a multiple of *interval* the scrapes at *times* lie.

    At least 0, less than *interval*. The median over the circle, so that jitter around a multiple
    does not read as half an interval.
    """
    first = times[0] % interval
    off = (times - first + interval / 2) % interval - interval / 2
    return float(round(-(first + np.median(off)) % interval, 3))


def _identity(labels: Mapping[str, str]) -> str:
    """Return what an alert's ALERTS and ALERTS_FOR_STATE series have in common."""
    own = {key: value for key, value in labels.items() if key not in {"__name__", "alertstate"}}
    return json.dumps(own, sort_keys=True, ensure_ascii=False)


def _alert(labels: Mapping[str, str]) -> dict[str, str | None]:
    shown = {
        key[:LABEL_CHARACTERS]: value[:LABEL_CHARACTERS]
        for key, value in labels.items()
        if key != "__name__"
    }
    return {
        "alert": shown.get("alertname", "(unnamed)"),
        "state": shown.get("alertstate", "unknown"),
        "group": next((shown[label] for label in GROUP_LABELS if shown.get(label)), None),
        "severity": shown.get("severity"),
        "labels": json.dumps(shown, sort_keys=True, ensure_ascii=False),
        "identity": _identity(labels),
    }

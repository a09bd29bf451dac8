"""The way through: names, the group's dialect, its scrape interval, then every frame at once.

What is asked stands in the modules beside this one, by what it tells: the group's own history, its
neighbours, other exporters' opinions, brokers, pods, alerts, scrape targets. None knows a cause.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lagkit.sources import Answer, Status
from lagkit.sources.dialects import DIALECTS, POD_NAMES, Dialect, asked_for, detect
from lagkit.sources.http import HttpFailure
from lagkit.sources.prometheus.alerts import alerts, dead_rules
from lagkit.sources.prometheus.broker_health import BrokerHealth, of_our_brokers
from lagkit.sources.prometheus.choosing import (
    UNKNOWN_STEP_SECONDS,
    choose,
    grid_for,
    scrape_interval,
)
from lagkit.sources.prometheus.history import OffsetHistory, group_history
from lagkit.sources.prometheus.inquiry import Inquiry
from lagkit.sources.prometheus.neighbours import neighbours
from lagkit.sources.prometheus.opinions import second_opinions
from lagkit.sources.prometheus.pod_history import PodHistory
from lagkit.sources.prometheus.queries import Queries
from lagkit.sources.prometheus.targets import targets, version

AT_ONCE = 4


class Reading:
    """One fetch, from the names of the server to an answer."""

    def __init__(self, ask: Queries, own: tuple[Dialect, ...] = ()) -> None:
        """Ask by *ask*; dialects of the user's *own* are tried before the known ones."""
        self._inquiry = Inquiry(ask, (*own, *DIALECTS))
        self._reached = False

    def answer(self, seconds: float) -> Answer:
        """Return all there is after *seconds*."""
        inquiry, ask = self._inquiry, self._inquiry.ask
        status: Status = "ok" if not ask.failures else "partial"
        if not self._reached:
            status = "unavailable"
        queries = ask.questions.frame()
        detail = "; ".join([*inquiry.remarks, f"{len(queries)} queries"])
        if not self._reached:
            detail = ask.blind[-1].why if ask.blind else "no answer"
        return Answer(
            "prometheus",
            status,
            detail,
            seconds,
            frames=dict(sorted(inquiry.frames.items())),
            queries=queries,
            blind=tuple(sorted(set(ask.blind), key=lambda item: (item.what, item.why, item.fix))),
            facts=dict(sorted(inquiry.facts.items())),
        )

    def run(self) -> None:
        """Ask everything."""
        inquiry, ask = self._inquiry, self._inquiry.ask
        try:
            names = self._names()
        except HttpFailure as failure:
            fix = "Check --prometheus and the login; try the address with /api/v1/query?query=up."
            ask.miss("everything Prometheus knows", str(failure), failure.fix or fix)
            return
        self._reached = True
        found = detect(names, inquiry.dialects)
        spoken, others = choose(inquiry, found, names)
        step = scrape_interval(inquiry, spoken) if spoken else UNKNOWN_STEP_SECONDS
        grid = grid_for(inquiry, step, spoken)
        inquiry.facts["step_seconds"] = str(grid.step)
        inquiry.remarks.append(f"{grid.points} points of {grid.step} s")
        whose: list[str | None] = []
        ask.attempt(
            "which brokers are the group's",
            lambda: whose.append(of_our_brokers(inquiry, names, spoken.cluster if spoken else {})),
        )
        of_brokers = whose[0] if whose else None
        brokers = BrokerHealth(inquiry, grid, names, of_brokers or "")
        pods = PodHistory(inquiry, grid, names)
        tasks: list[tuple[str, Callable[[], None]]] = []
        if spoken is not None:
            history = OffsetHistory(inquiry, spoken, grid, of_brokers)
            tasks += [
                *history.tasks(),
                ("members and state over time", partial(group_history, inquiry, spoken, grid)),
                ("other groups and topics", partial(neighbours, inquiry, spoken, grid)),
            ]
        tasks += [
            ("what other exporters say", partial(second_opinions, inquiry, others, grid)),
            ("alert history", partial(alerts, inquiry, grid, names)),
            ("alert rules", partial(dead_rules, inquiry, names)),
            ("scrape health of the exporters", partial(targets, inquiry, grid, names, found)),
            ("version of the Prometheus server", partial(version, inquiry)),
            *(brokers.tasks() if of_brokers is not None else ()),
            *pods.tasks(),
        ]
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="prometheus") as pool:
            for future in [pool.submit(ask.attempt, what, call) for what, call in tasks]:
                future.result()
        if spoken is not None:
            ask.attempt("offset history of the group", history.join)
        ask.attempt("broker metrics", brokers.join)
        ask.attempt("history of the pods", pods.join)

    def _names(self) -> frozenset[str]:
        path = "label/__name__/values"
        wanted = "|".join([asked_for(self._inquiry.dialects), *POD_NAMES, "up", "ALERTS"])
        fields = {**self._inquiry.bounds, "match[]": f'{{__name__=~"{wanted}"}}'}
        try:
            names = self._inquiry.ask.metadata(path, fields, post=False)
        except HttpFailure as failure:
            if failure.status not in {400, 404, 422} or failure.outcome == "denied":
                raise
            # older servers know no match[] here
            names = self._inquiry.ask.metadata(path, self._inquiry.bounds, post=False)
        return frozenset(name for name in names if isinstance(name, str))

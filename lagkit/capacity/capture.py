"""From settings to a history: asked of the configured Prometheus, redacted, ready to be saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from lagkit import frames
from lagkit.capacity.history import History
from lagkit.collect import window
from lagkit.config import Settings
from lagkit.errors import NoSourceReadable, NothingThere, UsageError
from lagkit.incident import Gap
from lagkit.model import SourceReport
from lagkit.redact import Redactor
from lagkit.runbook import load as load_runbook
from lagkit.version import __version__

SINCE = "8w"
BUDGET_SECONDS = 1800.0
SHORTEST = pd.Timedelta("1D")


def capture(
    groups: Sequence[str],
    topics: Sequence[str] = (),
    *,
    since: str | None = None,
    end: str | None = None,
    settings: Settings,
    budget_seconds: float = BUDGET_SECONDS,
    keep: bool = True,
    folder: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> History:
    """Read *since* (8 weeks) of *groups*, all where there are none, up to *end*, now if not given.

    With *keep* what the server said is kept in *folder* (the user's cache) for the next run.

    Raises
    ------
    UsageError
        No Prometheus is configured, or the window cannot be read.
    NothingThere
        The server knows none of the groups, or nothing from which a rate could be had.
    NoSourceReadable
        It could not be read.
    """
    from lagkit.sources.prometheus.long_range import PrometheusHistory

    if not settings.prometheus:
        msg = "A capacity trend reads Prometheus, and none is configured."
        raise UsageError(
            msg,
            hint="Give --prometheus URL, or write it in lagkit.toml. `lagkit capacity --demo` "
            "needs none.",
        )
    begin, stop = window(since or SINCE, None, end)
    begin, stop = begin.floor("h"), stop.floor("h")
    if stop - begin < SHORTEST:
        msg = f"{since or SINCE} is too short to see a day of demand."
        raise UsageError(msg, hint="Write --since 8w; less than three weeks gives no forecast.")
    runbook = load_runbook(settings.runbook)
    source = PrometheusHistory(
        settings.prometheus, settings.prometheus_login, settings.dialects, folder=folder, keep=keep
    )
    answer = source.fetch(
        groups,
        topics,
        begin,
        stop,
        runbook,
        budget_seconds=budget_seconds,
        on_progress=on_progress,
    )
    redactor = Redactor()
    counted: Counter[str] = Counter()

    def text(value: str) -> str:
        return redactor.text(value, counted)

    if answer.status == "unavailable":
        msg = f"Prometheus could not be read:\n  {text(answer.detail)}"
        raise NoSourceReadable(msg, hint="`lagkit doctor` says what to mend.")
    history = History(
        cluster=settings.cluster or answer.facts.get("cluster_label", "") or "unnamed",
        asked=tuple(groups),
        start=begin,
        end=stop,
        captured_at=pd.Timestamp.now("UTC").floor("ms").as_unit("us"),
        lagkit_version=__version__,
        runbook=runbook,
        tables={
            **{name: frames.empty(name) for name in frames.HISTORY_FRAMES},
            **answer.frames,
            "queries": answer.queries,
        },
        sources={
            "prometheus": SourceReport(answer.status, text(answer.detail), round(answer.seconds, 2))
        },
        facts={"prometheus": {key: text(value) for key, value in answer.facts.items()}},
        coverage=tuple(
            Gap("prometheus", text(blind.what), text(blind.why), text(blind.fix))
            for blind in answer.blind
        ),
    )
    _refuse_nothing(history)
    return history


def _refuse_nothing(history: History) -> None:
    """Raise if there is not one row to reason from, and say which of the reasons it is."""
    if len(history.flow_hours):
        return
    asked = ", ".join(repr(name) for name in history.asked) or "any group"
    reasons = "\n".join(f"  {gap.what}: {gap.why}" for gap in history.coverage)
    near = history.facts["prometheus"].get("near_groups", "")
    msg = f"Nothing is known of {asked} in the window."
    if reasons:
        msg += f"\n{reasons}"
    fix = next((gap.fix for gap in history.coverage if gap.fix), "")
    raise NothingThere(msg, hint=f"Near: {near}." if near else fix or "Check name and window.")

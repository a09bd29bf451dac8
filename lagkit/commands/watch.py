"""``lagkit watch``: follow the catch-up of a group live, from Kafka alone."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lagkit.commands.console import Progress as Steps
from lagkit.commands.console import mute_stdout
from lagkit.commands.options import settings_from, with_options
from lagkit.errors import GETTING_WORSE, TIMED_OUT, NoSourceReadable, NothingThere, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from lagkit.sources import Answer, Scope
    from lagkit.sources.kafka.following import Follower
    from lagkit.watching import Outcome, Progress, Watch

BEGIN_SECONDS = 20.0
LOOK_SECONDS = 10.0
"""Most that one look may take: a frozen broker must not freeze the screen for longer."""
HISTORY = "2h"
"""How far back log ends are asked for, which tells the age of what is unread."""

BROKER_OPTIONS = (
    click.option("--bootstrap", metavar="HOST:PORT,…", help="Kafka or Redpanda brokers."),
    click.option(
        "--kafka-properties",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Login for the brokers: client.properties, or a profile of rpk (.yaml).",
    ),
    click.option(
        "--runbook",
        type=click.Path(path_type=Path),
        help="Your runbook as data; the shipped one by default.",
    ),
)


@click.command()
@click.argument("group")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="T",
    envvar="LAGKIT_TOPIC",
    help="Only this topic; repeatable.",
)
@with_options(BROKER_OPTIONS)
@click.option(
    "--promise",
    type=click.FloatRange(min=1.0),
    metavar="SECONDS",
    envvar="LAGKIT_PROMISE",
    help="Caught up: nothing unread is older. [default: the runbook's, else 60]",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2, max=300.0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    envvar="LAGKIT_INTERVAL",
    help="Between two looks.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1.0),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    envvar="LAGKIT_TIMEOUT",
    help="Give up after so long; exit status 7.",
)
@click.option(
    "--worse-after",
    type=click.FloatRange(min=1.0),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    envvar="LAGKIT_WORSE_AFTER",
    help="Give up once it has surely grown for so long; exit status 6.",
)
def watch(
    group: str,
    topics: tuple[str, ...],
    promise: float | None,
    interval: float,
    timeout: float,
    worse_after: float,
    **sources: Any,
) -> int:
    """Follow how GROUP catches up: who lags, how fast it drains, when it will be over.

    Asks the brokers alone; joins no group and commits nothing. Ends with 0 once nothing unread is
    older than the promise, with 6 when it gets worse, with 7 at the timeout. Broker or network
    lost on the way: says so, and goes on as soon as they are back.
    """
    import pandas as pd

    from lagkit.runbook import load
    from lagkit.sources import Scope
    from lagkit.sources.kafka import KafkaSource
    from lagkit.sources.kafka.following import Follower
    from lagkit.watching import Watch

    settings = settings_from(sources)
    if not (settings.bootstrap or settings.kafka_properties_file):
        msg = "No broker is configured, and a catch-up is followed on the brokers."
        raise UsageError(msg, hint="Give --bootstrap HOST:PORT, or write it in lagkit.toml.")
    book = load(settings.runbook)
    now = pd.Timestamp.now("UTC").floor("ms").as_unit("us")
    scope = Scope(group, topics, now - pd.Timedelta(HISTORY), now, book)
    source = KafkaSource.configured(
        settings.bootstrap, settings.kafka_properties, settings.kafka_properties_file
    )
    until = time.monotonic() + timeout
    with Follower(source, scope) as follower:
        with Steps() as steps:
            steps(f"kafka: reading {group}")
            answer = follower.begin(budget_seconds=min(BEGIN_SECONDS, timeout))
            _refuse_nothing(answer, group)
        watching = Watch(
            group,
            promise_seconds=promise or book.group(group).promise_seconds,
            interval_seconds=interval,
            worse_after_seconds=worse_after,
            retention_ms=_retention(answer),
            past=_past(answer, scope),
        )
        with _shown(group, watching.promise_seconds) as show:
            outcome, last = _follow(follower, watching, show, interval=interval, until=until)
    return _end(outcome, last, timeout=timeout, worse_after=worse_after)


def _follow(
    follower: Follower, watching: Watch, show: Any, *, interval: float, until: float
) -> tuple[Outcome | None, Progress]:
    """Look until it is over or *until* is past; return how it ended and the last look."""
    while True:
        begun = time.monotonic()
        budget = max(1.0, min(LOOK_SECONDS, until - begun))
        seen = follower.look(budget_seconds=budget)
        progress = watching.add(
            seen.at,
            seen.offsets,
            state=seen.state,
            members=seen.members,
            owners=seen.owners,
            fault=seen.fault,
        )
        show(progress)
        outcome = watching.outcome()
        left = until - time.monotonic()
        if outcome is not None or left <= 0:
            return outcome, progress
        time.sleep(max(0.0, min(interval - (time.monotonic() - begun), left)))


def _refuse_nothing(answer: Answer, group: str) -> None:
    if answer.status == "unavailable":
        msg = f"The brokers could not be read: {answer.detail}"
        raise NoSourceReadable(msg, hint="`lagkit doctor` says what to mend.")
    if answer.facts.get("group_exists") == "no":
        near = answer.facts.get("near_groups", "")
        msg = f"No group {group!r} on these brokers."
        raise NothingThere(msg, hint=f"Near: {near}." if near else "Check the name.")
    rows = answer.frames.get("partitions")
    if rows is None or not (rows["group"] == group).any():
        why = "; ".join(blind.why for blind in answer.blind) or "it has committed nothing yet"
        msg = f"No partition of {group!r} is known: {why}."
        raise NothingThere(msg, hint="Name its topic with --topic T.")


def _retention(answer: Answer) -> dict[str, float]:
    import pandas as pd

    configs = answer.frames.get("configs")
    if configs is None:
        return {}
    rows = configs.loc[(configs["resource"] == "topic") & (configs["key"] == "retention.ms")]
    values = pd.to_numeric(rows["value"], errors="coerce")
    return {
        str(name): float(value)
        for name, value in zip(rows["name"], values, strict=True)
        if value >= 0
    }


def _past(answer: Answer, scope: Scope) -> pd.DataFrame | None:
    """Return the log ends of before; the first look's own commits are left to the looks."""
    from lagkit import flow, frames

    rows = answer.frames["partitions"]
    columns = frames.empty("offsets").columns
    own = rows.loc[rows["group"] == scope.group].reindex(columns=columns)
    ends = answer.frames.get("log_end_history", frames.empty("log_end_history"))
    none = frames.empty("commits")
    joined = flow.joined_history(own.drop(columns=["lag_messages", "lag_seconds"]), ends, none)
    return frames.normalise("offsets", joined)


@contextlib.contextmanager
def _shown(group: str, promise: float) -> Iterator[Any]:
    """Give what shows a progress: a table that stays on a terminal, a line a look elsewhere."""
    from lagkit.render import progress as view

    if sys.stdout is None or not sys.stdout.isatty():

        def say(progress: Progress) -> None:
            try:
                click.echo(view.line(progress))
                sys.stdout.flush()
            except BrokenPipeError:  # the reader has seen enough; the exit status is still wanted
                mute_stdout()

        yield say
        return
    from rich.console import Console
    from rich.live import Live

    from lagkit.wording import clock, duration, printable

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, transient=False) as live:

        def draw(progress: Progress) -> None:
            heading = (
                f"{printable(group, limit=60)}   {clock(progress.at, seconds=True)}   "
                f"promise: nothing unread older than {duration(promise)}"
            )
            live.update(
                view.screen(progress, height=console.height, width=console.width, heading=heading),
                refresh=True,
            )

        yield draw


def _end(outcome: Outcome | None, last: Progress, *, timeout: float, worse_after: float) -> int:
    """Say how it ended on stderr, and return the exit status."""
    from lagkit.render import progress as view
    from lagkit.wording import count, duration

    lag = f"{count(last.lag_messages)} unread, the oldest {view.age(last)}"
    blind = f" Not known: {view.places(last.not_known)}." if last.not_known else ""
    if outcome == "caught_up":
        click.echo(f"Caught up: {lag}.{blind} `lagkit verify` checks the rest.", err=True)
        return 0
    stuck = f" Stuck: {view.places(last.stuck)}; `lagkit peek` shows the record." * bool(last.stuck)
    if outcome == "worse":
        click.echo(
            f"Getting worse for {duration(worse_after)} now: {lag}, "
            f"{view.rate(last.net_per_second)}.{stuck}{blind}\n"
            "What was done does not help, or not yet; `lagkit investigate` says what is at work.",
            err=True,
        )
        return GETTING_WORSE
    seen = f" At the end nothing was seen: {last.fault}." if last.fault else ""
    click.echo(
        f"Not caught up within {duration(timeout)}: {lag}, {view.rate(last.net_per_second)}."
        f"{stuck}{seen}{blind}\nWatch for longer with --timeout.",
        err=True,
    )
    return TIMED_OUT

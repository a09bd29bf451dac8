"""From live systems to an incident: every configured source at once, each within its own budget.

A slow or dead source costs its budget once and never another's answer. What comes back is redacted
here, on the way in. Nothing is judged.
"""

from __future__ import annotations

import hashlib
import queue
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from lagkit import frames
from lagkit.config import Settings, load_settings
from lagkit.errors import NoSourceReadable, NothingThere, UsageError
from lagkit.incident import Gap, Incident
from lagkit.model import SourceReport
from lagkit.monitoring import EMPTY_ANSWER
from lagkit.redact import Redactor, redact_frames
from lagkit.runbook import Runbook
from lagkit.runbook import load as load_runbook
from lagkit.sources import Answer, Scope, Source
from lagkit.version import __version__

SOURCES = ("prometheus", "kafka", "kubernetes", "downstream")
# A source that keeps its own deadline returns in time; this is for one stuck inside a library.
_GRACE_SECONDS = 3.0
OFFSET_HISTORY = "offset history of the group"
"""What the source Prometheus calls what it could not see where no exporter writes."""
_DEFAULT_SINCE = pd.Timedelta("1h")

Progress = Callable[[str], None]


def window(
    since: str | None = None, start: str | None = None, end: str | None = None
) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the window (start, end) in UTC; the last hour if nothing is said. It ends by now.

    Raises
    ------
    UsageError
        Both forms at once, a length that cannot be read, a time without a zone, an empty
        window, or one that has yet to begin.
    """
    now = pd.Timestamp.now("UTC").floor("ms").as_unit("us")
    if since and start:
        msg = "--since and --start say two different things about the window."
        raise UsageError(msg, hint="Give one of them.")
    stop = _moment(end, "--end") if end else now
    if start:
        begin = _moment(start, "--start")
    else:
        try:
            begin = stop - (_length(since) if since else _DEFAULT_SINCE)
        except (ValueError, OverflowError):
            msg = f"--since {since!r} reaches back further than time is kept."
            raise UsageError(msg, hint="Write 45m, 2h, 1h30m or 3d.") from None
    if begin >= stop:
        msg = f"The window is empty: it starts at {begin} and ends at {stop}."
        raise UsageError(msg, hint="Give a --start before the --end, or a longer --since.")
    if begin >= now:
        msg = f"The window lies in the future: it starts at {begin}, and now it is {now}."
        raise UsageError(msg, hint="Leave --end out for now, or look at this machine's clock.")
    return begin, min(stop, now)


def _moment(text: str, option: str) -> pd.Timestamp:
    try:
        moment = pd.Timestamp(text)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment is pd.NaT:
        msg = f"{option} {text!r} is not a time."
        raise UsageError(msg, hint="Write it as 2026-11-23T02:00:00Z.")
    if moment.tzinfo is None:
        msg = f"{option} {text!r} has no time zone."
        raise UsageError(msg, hint=f"Write {moment.isoformat()}Z for UTC, or add +01:00.")
    # An incident file holds times to the millisecond: what is replayed must be what was asked.
    return moment.tz_convert("UTC").floor("ms").as_unit("us")


def _length(text: str) -> pd.Timedelta:
    if not re.fullmatch(r"(?:\d+(?:\.\d+)?(?:s|m|min|h|d|w))+", text):
        msg = f"--since {text!r} is not a length of time."
        raise UsageError(msg, hint="Write 45m, 2h, 1h30m or 3d.")
    parts = re.findall(r"(\d+(?:\.\d+)?)(min|s|m|h|d|w)", text)
    unit = {"s": "s", "m": "min", "min": "min", "h": "h", "d": "D", "w": "W"}
    return sum((pd.Timedelta(float(n), unit[u]) for n, u in parts), pd.Timedelta(0))


def capture(
    group: str,
    topics: Sequence[str] = (),
    *,
    since: str | None = None,
    start: str | None = None,
    end: str | None = None,
    settings: Settings | None = None,
    on_progress: Progress | None = None,
) -> Incident:
    """Capture an incident of *group* from every configured source.

    Raises
    ------
    UsageError
        No source is configured, or the window cannot be read.
    NothingThere
        The sources work and none of them knows the group; near names are offered.
    NoSourceReadable
        Sources are configured and none could be read.
    """
    settings = settings or load_settings()
    begin, stop = window(since, start, end)
    scope = Scope(
        group=group,
        topics=tuple(topics),
        start=begin,
        end=stop,
        runbook=load_runbook(settings.runbook),
        namespace=settings.namespace,
        selector=settings.selector,
    )
    sources = configured_sources(settings, scope)
    if not sources:
        msg = "No source is configured, so there is nothing to read."
        raise UsageError(
            msg,
            hint="Give --prometheus URL, --bootstrap HOST:PORT or --kubeconfig PATH, or write them "
            "in lagkit.toml. `lagkit demo` needs none.",
        )
    if on_progress and "kafka" in sources and "prometheus" not in sources:
        on_progress("kafka: watching for longer, as no Prometheus is configured")
    answers = ask_all(sources, scope, settings, on_progress=on_progress)
    return build_incident(scope, answers, settings)


def configured_sources(
    settings: Settings, scope: Scope, *, watch: bool = True
) -> dict[str, Source]:
    """Return the sources that have an address, by name.

    With *watch* brokers that are the only ones to know offsets are watched for longer.
    """
    found: dict[str, Source] = {}
    if settings.prometheus:
        from lagkit.sources.prometheus import PrometheusSource

        found["prometheus"] = PrometheusSource(
            settings.prometheus, settings.prometheus_login, settings.dialects
        )
    if settings.bootstrap or settings.kafka_properties_file:
        from lagkit.sources.kafka import KafkaSource

        kafka = KafkaSource.configured(
            settings.bootstrap, settings.kafka_properties, settings.kafka_properties_file
        )
        found["kafka"] = kafka
        if watch and not settings.prometheus:
            kafka.watch_longer()
        if settings.read_offsets_topic:
            kafka.read_group_log()
    if settings.kubeconfig or settings.in_cluster or settings.context:
        from lagkit.sources.kubernetes import KubernetesSource

        found["kubernetes"] = KubernetesSource(
            settings.kubeconfig, settings.context, settings.in_cluster
        )
    known = {entry.name: entry.url for entry in scope.runbook.group(scope.group).downstream}
    urls = {name: settings.downstream.get(name) or url for name, url in known.items()}
    urls = {name: url for name, url in urls.items() if url}
    probes = [p for p in settings.probes if not p.groups or scope.group in p.groups]
    latencies = [
        latency
        for latency in settings.latencies
        if settings.prometheus and (not latency.groups or scope.group in latency.groups)
    ]
    if urls or probes or latencies:
        from lagkit.sources.downstream import DownstreamSource

        found["downstream"] = DownstreamSource(
            urls,
            settings.downstream_login,
            probes=probes,
            latencies=latencies,
            prometheus=settings.prometheus or "",
            prometheus_login=settings.prometheus_login,
        )
    return found


def ask_all(
    sources: Mapping[str, Source],
    scope: Scope,
    settings: Settings,
    *,
    on_progress: Progress | None = None,
) -> dict[str, Answer]:
    """Ask all sources at once; return one answer each, whatever happens inside them."""
    done: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()
    started = time.monotonic()
    budgets = {name: float(getattr(settings.budgets, name)) for name in sources}

    def run(name: str, source: Source) -> None:
        begun = time.monotonic()
        try:
            answer = source.fetch(scope, budget_seconds=budgets[name])
        except Exception as error:  # noqa: BLE001 - the boundary: a fault of one source stays there
            answer = Answer(
                name,
                "unavailable",
                f"lagkit's own fault in this source: {type(error).__name__}: {error}",
                time.monotonic() - begun,
            )
        done.put((name, answer))

    # Daemon threads: one that is stuck inside a library must not keep the process alive.
    for name, source in sources.items():
        threading.Thread(
            target=run, args=(name, source), name=f"lagkit-{name}", daemon=True
        ).start()
    answers: dict[str, Answer] = {}
    while len(answers) < len(sources):
        waiting = {name: budgets[name] + _GRACE_SECONDS for name in sources if name not in answers}
        left = started + max(waiting.values()) - time.monotonic()
        try:
            name, answer = done.get(timeout=max(0.0, left))
        except queue.Empty:
            break
        answers[name] = answer
        if on_progress:
            on_progress(f"{name}: {answer.status} in {answer.seconds:.1f} s. {answer.detail}")
        if name == "prometheus" and "kafka" in sources and _without_offsets(answer):
            watch_longer = getattr(sources["kafka"], "watch_longer", None)
            if watch_longer is not None and "kafka" not in answers:
                watch_longer()
                if on_progress:
                    on_progress("kafka: watching for longer, as Prometheus gave no offsets")
    for name in sources:
        if name not in answers:
            answers[name] = Answer(
                name,
                "unavailable",
                f"It did not come back within its budget of {budgets[name]:g} s.",
                time.monotonic() - started,
            )
            if on_progress:
                on_progress(f"{name}: gave up after {budgets[name]:g} s.")
    return answers


def _without_offsets(answer: Answer) -> bool:
    offsets = answer.frames.get("offsets")
    return offsets is None or offsets.empty


def build_incident(scope: Scope, answers: Mapping[str, Answer], settings: Settings) -> Incident:
    """Join the answers into an incident, redacted. Raises as :func:`capture` does."""
    tables = {name: frames.empty(name) for name in frames.FRAMES}
    for answer in answers.values():
        tables.update(answer.frames)
    asked = [answer.queries for answer in answers.values() if len(answer.queries)]
    if asked:
        tables["queries"] = frames.normalise("queries", pd.concat(asked, ignore_index=True))
    _refuse_nothing(scope, answers, tables)
    redactor = Redactor(secrets.token_bytes(16) if settings.redact_addresses else None)
    clean, removed = redact_frames(tables, redactor)
    counted = Counter(removed)

    def text(value: str) -> str:
        return redactor.text(value, counted)

    # As in the frames, so that names and rows still meet.
    group = redactor.addresses(scope.group, counted)
    topics = tuple(redactor.addresses(topic, counted) for topic in scope.topics) or tuple(
        sorted(
            {
                *clean["offsets"]["topic"].unique(),
                *clean["partitions"].loc[clean["partitions"]["group"] == group, "topic"].unique(),
            }
        )
    )
    sources = {
        name: SourceReport(
            answers[name].status, text(answers[name].detail), round(answers[name].seconds, 2)
        )
        if name in answers
        else SourceReport("not_configured", "No address was given.", 0.0)
        for name in SOURCES
    }
    facts = {
        name: {key: text(value) for key, value in sorted(answer.facts.items())}
        for name, answer in answers.items()
    }
    coverage = tuple(
        Gap(name, text(blind.what), text(blind.why), text(blind.fix))
        for name in SOURCES
        if name in answers
        for blind in answers[name].blind
    )
    cluster = settings.cluster or facts.get("kafka", {}).get("cluster_id", "") or "unnamed"
    digest = hashlib.sha256(
        f"{cluster}\0{scope.group}\0{scope.start.isoformat()}\0{scope.end.isoformat()}".encode()
    ).hexdigest()[:8]
    return Incident(
        id=f"{scope.end:%Y%m%dT%H%M%SZ}-{digest}",
        cluster=cluster,
        group=group,
        topics=topics,
        start=scope.start,
        end=scope.end,
        captured_at=pd.Timestamp.now("UTC").floor("ms").as_unit("us"),
        lagkit_version=__version__,
        runbook=_without_logins(scope.runbook, redactor, counted),
        tables=clean,
        sources=sources,
        facts=facts,
        coverage=coverage,
        redactions=dict(sorted(counted.items())),
    )


def _without_logins(runbook: Runbook, redactor: Redactor, counted: Counter[str]) -> Runbook:
    """Return *runbook* with its downstream URLs redacted; its other words are the company's own."""
    groups = tuple(
        group.model_copy(
            update={
                "downstream": tuple(
                    entry.model_copy(update={"url": redactor.text(entry.url, counted)})
                    for entry in group.downstream
                )
            }
        )
        for group in runbook.groups
    )
    return runbook.model_copy(update={"groups": groups})


def _refuse_nothing(
    scope: Scope, answers: Mapping[str, Answer], tables: Mapping[str, pd.DataFrame]
) -> None:
    if all(answer.status == "unavailable" for answer in answers.values()):
        told = {name: Redactor().text(answer.detail, Counter()) for name, answer in answers.items()}
        details = "\n".join(f"  {name}: {detail}" for name, detail in told.items())
        msg = f"No source could be read:\n{details}"
        raise NoSourceReadable(msg, hint="`lagkit doctor` says per source what to mend.")
    asked = [
        name
        for name in ("prometheus", "kafka")
        if name in answers and answers[name].status in ("ok", "partial")
    ]
    known = (
        len(tables["offsets"])
        or (tables["members"]["group"] == scope.group).any()
        or (tables["partitions"]["group"] == scope.group).any()
    )
    queries = tables["queries"].loc[tables["queries"]["source"].isin(asked)]
    denied = queries["outcome"].isin(["denied", "timeout", "failed"]).any()
    exists = answers.get("kafka") and answers["kafka"].facts.get("group_exists") == "yes"
    if asked and not known and not exists and not denied:
        if queries["detail"].fillna("").str.startswith(EMPTY_ANSWER).any():
            msg = (
                "Kafka lists no group at all, as a broker does for seconds after its start: "
                f"whether there is a group {scope.group!r} is not known."
            )
            raise NothingThere(msg, hint="Ask again in a minute.")
        span = f"between {scope.start:%Y-%m-%d %H:%M:%SZ} and {scope.end:%Y-%m-%d %H:%M:%SZ}"
        if asked == ["prometheus"] and answers["prometheus"].facts.get("dialect") == "none":
            gaps = answers["prometheus"].blind
            why, fix = next(
                ((gap.why, gap.fix) for gap in gaps if gap.what == OFFSET_HISTORY),
                ("no lag exporter writes here", ""),
            )
            msg = (
                f"Prometheus shows no consumer group at all {span}, so whether there is a group "
                f"{scope.group!r} is not known: {why.rstrip('.')}."
            )
            raise NothingThere(msg, hint=fix)
        near = sorted(
            {
                name
                for source in asked
                for near_name in answers[source].facts.get("near_groups", "").split(",")
                if (name := near_name.strip())
            }
        )
        msg = f"No group {scope.group!r} {span} in {' and '.join(asked)}."
        raise NothingThere(
            msg,
            hint=f"Near: {', '.join(near)}." if near else "Check the name and the window.",
        )

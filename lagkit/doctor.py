"""What works here: each source asked as an investigation would ask it, and each extra looked for.

The module knows how to ask and how to say it; what a source needs it says itself, in the blind
spots of its answer, and what monitoring said against the facts ``lagkit.monitoring`` finds in the
last minutes. It judges no incident.
"""

from __future__ import annotations

import difflib
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lagkit.collect import SOURCES, ask_all, configured_sources, window
from lagkit.errors import NoSourceReadable, UsageError
from lagkit.model import timestamp_text
from lagkit.runbook import load as load_runbook
from lagkit.sources import Scope
from lagkit.version import __version__
from lagkit.wording import clock, plural, printable

if TYPE_CHECKING:
    from lagkit.config import Settings
    from lagkit.model import Suspicion
    from lagkit.runbook import Runbook
    from lagkit.sources import Answer

# Long enough for a few scrapes at the usual 15 to 60 s, short enough to be cheap everywhere.
WINDOW = "10m"

HOW_TO_CONFIGURE: Mapping[str, str] = {
    "prometheus": "--prometheus http://HOST:9090, LAGKIT_PROMETHEUS, or prometheus in lagkit.toml",
    "kafka": "--bootstrap HOST:9092, LAGKIT_BOOTSTRAP, or bootstrap in lagkit.toml",
    "kubernetes": "--kubeconfig ~/.kube/config, LAGKIT_KUBECONFIG, or in_cluster = true in "
    "lagkit.toml",
    "downstream": "a [downstream] table in lagkit.toml, one line a name of the runbook: "
    'awx = "https://…"',
}
EXTRAS: Mapping[str, tuple[str, str]] = {
    "notebook": ("jupyterlab", "lagkit open"),
    "pdf": ("weasyprint", "report.pdf"),
}
# Facts a source tells about itself that say whom one is talking to.
SHOWN_FACTS = (
    "dialect",
    "server_version",
    "step_seconds",
    "scrape_interval_seconds",
    "group_count",
    "cluster_id",
    "broker_count",
    "group_exists",
    "near_groups",
)
REFUSED = ("denied", "timeout", "failed", "partial")


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that cannot be seen or done, why, and the line that fixes it."""

    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Patient:
    """One source: how it did."""

    name: str
    status: str
    detail: str
    seconds: float
    facts: Mapping[str, str]
    answered: int
    """Questions that got an answer, empty ones included."""
    asked: int
    missing: tuple[Missing, ...]
    read: Mapping[str, int] = field(default_factory=dict)
    """Frame → rows that it gave."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """How all of them did."""

    group: str
    patients: tuple[Patient, ...]
    extras: Mapping[str, bool]
    suspicions: tuple[Suspicion, ...] = ()
    """Monitoring that told an untruth in the last minutes."""
    ignored: tuple[Missing, ...] = ()
    """What the runbook says and nobody reads."""

    @property
    def exit_status(self) -> int:
        """0 if anything can be read, 4 if nothing can, 2 if nothing is configured."""
        states = {patient.status for patient in self.patients}
        if states & {"ok", "partial"}:
            return 0
        if states == {"not_configured"}:
            return UsageError.exit_status
        return NoSourceReadable.exit_status

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "lagkit_version": __version__,
            "python": platform.python_version(),
            "group": self.group,
            "sources": {
                patient.name: {
                    "status": patient.status,
                    "detail": patient.detail,
                    "seconds": round(patient.seconds, 2),
                    "facts": dict(patient.facts),
                    "answered": patient.answered,
                    "asked": patient.asked,
                    "read": dict(patient.read),
                    "missing": [
                        {"what": gap.what, "why": gap.why, "fix": gap.fix}
                        for gap in patient.missing
                    ],
                }
                for patient in self.patients
            },
            "suspicions": [
                {
                    "kind": one.kind,
                    "exporter": one.exporter,
                    "instance": one.instance,
                    "since": timestamp_text(one.since),
                    "until": timestamp_text(one.until) if one.until else None,
                    "statement": one.statement,
                    "evidence": list(one.evidence),
                    "believed_instead": one.believed_instead,
                    "fix": one.fix,
                }
                for one in self.suspicions
            ],
            "runbook": {
                "ignored": [
                    {"what": fault.what, "why": fault.why, "fix": fault.fix}
                    for fault in self.ignored
                ]
            },
            "extras": dict(self.extras),
        }


def examine(
    settings: Settings, group: str | None, *, on_progress: Callable[[str], None] | None = None
) -> Diagnosis:
    """Ask every configured source about *group*, the runbook's first if None.

    Raises
    ------
    UsageError
        The runbook cannot be used, or names no group and none was given.
    """
    runbook = load_runbook(settings.runbook)
    if group is None:
        if not runbook.groups:
            msg = "The runbook names no group to ask about."
            raise UsageError(msg, hint="Say: lagkit doctor GROUP")
        group = runbook.groups[0].name
    start, end = window(WINDOW)
    scope = Scope(
        group=group,
        topics=(),
        start=start,
        end=end,
        runbook=runbook,
        namespace=settings.namespace,
        selector=settings.selector,
    )
    sources = configured_sources(settings, scope, watch=False)
    answers = ask_all(sources, scope, settings, on_progress=on_progress) if sources else {}
    return Diagnosis(
        group=group,
        patients=tuple(_patient(name, answers.get(name)) for name in SOURCES),
        extras={extra: find_spec(module) is not None for extra, (module, _) in EXTRAS.items()},
        suspicions=_suspicions(scope, answers),
        ignored=tuple(_ignored(runbook)),
    )


def _suspicions(scope: Scope, answers: Mapping[str, Answer]) -> tuple[Suspicion, ...]:
    """Return what monitoring said against the facts while the doctor looked."""
    if "prometheus" not in answers and "kafka" not in answers:
        return ()
    import pandas as pd

    from lagkit import monitoring

    tables = {name: frame for answer in answers.values() for name, frame in answer.frames.items()}
    asked = [answer.queries for answer in answers.values() if len(answer.queries)]
    if asked:
        tables["queries"] = pd.concat(asked, ignore_index=True)
    facts = answers["prometheus"].facts if "prometheus" in answers else {}
    return monitoring.suspicions(
        monitoring.Watched(scope.group, scope.start, scope.end, tables, facts)
    )


def _ignored(runbook: Runbook) -> Iterator[Missing]:
    """Find cause ids of *runbook* that are no cause's: what stands there has no effect."""
    from lagkit.causes import catalogue

    known = [cause.id for cause in catalogue().causes]
    named = [
        *((f"priors.{cause}", cause) for cause in runbook.priors),
        *((f"remedies, {entry.title!r}", entry.cause) for entry in runbook.remedies),
        *((f"do_not, {entry.text[:60]!r}", entry.cause) for entry in runbook.do_not),
    ]
    for where, cause in named:
        if cause in known:
            continue
        near = difflib.get_close_matches(cause, known, n=1)
        yield Missing(
            where,
            f"no cause is called {cause!r}, so this has no effect",
            f"write {near[0]}" if near else f"write one of: {', '.join(known)}",
        )


def _patient(name: str, answer: Answer | None) -> Patient:
    if answer is None:
        gap = Missing("everything it knows", "no address was given", HOW_TO_CONFIGURE[name])
        return Patient(name, "not_configured", "No address was given.", 0.0, {}, 0, 0, (gap,))
    outcomes = answer.queries["outcome"]
    missing = [Missing(blind.what, blind.why, blind.fix) for blind in answer.blind]
    refused = answer.queries.loc[outcomes.isin(REFUSED)]
    if not missing:  # else the source has already said in words what these cost
        missing = [
            Missing(str(row["statement"]), f"{row['outcome']}: {row['detail']}", "")
            for row in refused.to_dict("records")
        ]
    return Patient(
        name=name,
        status=answer.status,
        detail=answer.detail,
        seconds=answer.seconds,
        facts={key: answer.facts[key] for key in SHOWN_FACTS if answer.facts.get(key)},
        answered=len(outcomes) - len(refused),
        asked=len(outcomes),
        missing=tuple(missing),
        read={name: len(answer.frames[name]) for name in sorted(answer.frames)},
    )


def render(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as text for a terminal, without colours or control characters."""
    here = f"lagkit {__version__} on Python {platform.python_version()}"
    lines = [f"{here}, asking about group {printable(diagnosis.group)}", ""]
    for patient in diagnosis.patients:
        status = patient.status.replace("_", " ")
        asked = (
            f"{patient.answered} of {patient.asked} questions answered in {patient.seconds:.1f} s"
        )
        lines.append(f"{patient.name:<11} {status:<15} {asked if patient.asked else ''}".rstrip())
        if patient.status != "not_configured":
            lines.append(f"            {printable(patient.detail)}")
        if patient.facts:
            told = (f"{key.replace('_', ' ')} {value}" for key, value in patient.facts.items())
            lines.append(f"            {printable(' · '.join(told))}")
        if seen := [f"{name} {plural(rows, 'row')}" for name, rows in patient.read.items() if rows]:
            lines.append(f"     reads  {' · '.join(seen)}")
        for gap in patient.missing:
            lines.append(f"   missing  {printable(gap.what, limit=200)}: {printable(gap.why)}")
            if gap.fix:
                lines.append(f"       fix  {printable(gap.fix)}")
    lines += [line for one in diagnosis.suspicions for line in _suspected(one)]
    for fault in diagnosis.ignored:
        lines.append(f"runbook     ignores {printable(fault.what, limit=200)}: {fault.why}")
        lines.append(f"       fix  {printable(fault.fix)}")
    lines.append("")
    for extra, present in diagnosis.extras.items():
        state = "installed" if present else f"missing; fix: pip install 'lagkit[{extra}]'"
        lines.append(f"extra {extra:<9} {state} (for {EXTRAS[extra][1]})")
    return "\n".join(lines)


def _suspected(one: Suspicion) -> Iterator[str]:
    where = f" ({printable(one.instance, limit=200)})" if one.instance else ""
    yield f"distrust    {printable(one.exporter, limit=200)}{where}: {printable(one.title)}"
    yield f"     since  {clock(one.since, seconds=True)}" + (
        f" until {clock(one.until, seconds=True)}" if one.until else ""
    )
    yield f"      said  {printable(one.statement)}"
    yield f"   instead  {printable(one.believed_instead)}"
    yield f"       fix  {printable(one.fix)}"

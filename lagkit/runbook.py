"""The runbook as data: groups, workloads, topics, thresholds, priors, contacts, remedies.

``templates/runbook.toml`` is the default (the seed runbook, corrected); another company writes its
own file with the same shape. Nothing here asks a cluster or judges a cause.
"""

from __future__ import annotations

import string
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from lagkit.errors import UsageError
from lagkit.resources import resource_path

Criticality = Literal["high", "medium", "low", "unknown"]
Rating = Literal["high", "medium", "low"]
Safety = Literal["read_only", "disruptive", "data_loss", "irreversible"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=249)]


def _template(text: str) -> str:
    """Refuse a text whose braces are no ``{names}``: what cannot be filled in cannot be shown."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as error:
        msg = f"{error}; write a brace that is meant as one twice"
        raise ValueError(msg) from None
    for field in fields:
        if not field.isidentifier():
            msg = f"{{{field}}} is no name to fill in; write a brace that is meant as one twice"
            raise ValueError(msg)
    return text


Template = Annotated[str, AfterValidator(_template)]
"""Text with ``{names}`` of :func:`lagkit.remedies.names`."""

DASHBOARD_NAMES = ("group", "topic", "cluster", "from_ms", "to_ms")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Workload(_Model):
    """The Kubernetes object whose pods are the group's members."""

    namespace: Name
    name: Name
    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    selector: str = ""
    """Label selector of its pods; empty: the object's own."""


class Downstream(_Model):
    """Something the consumer waits for: probed over HTTP, its pods read where it has any."""

    name: Name
    kind: Literal["awx", "http"] = "http"
    workload: Workload | None = None
    url: str = ""
    """Base URL; empty: taken from the configuration (``downstream`` table), else not probed."""
    probe: str = "/"
    """Path that a healthy one answers with 2xx; of kind ``awx`` it is /api/v2/ping/."""


class Group(_Model):
    """A consumer group, its promise and what it runs on."""

    name: Name
    topics: tuple[Name, ...] = ()
    criticality: Criticality = "unknown"
    promise_seconds: float = Field(60.0, gt=0)
    """The oldest unread message may be this old."""
    workload: Workload | None = None
    downstream: tuple[Downstream, ...] = ()


class Topic(_Model):
    """A topic with the people on both ends of it."""

    name: Name
    producers: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    criticality: Criticality = "unknown"


class Contact(_Model):
    """One level of the escalation path."""

    level: Name
    who: str
    when: str
    contact: str
    after_minutes: float | None = Field(None, ge=0)
    """Told once the incident is this old; None: read from the words of ``when``, if they say it."""
    causes: tuple[Name, ...] = ()
    """Told when one of these is ranked first; empty: read from the words of ``when`` too."""


class Remedy(_Model):
    """A command of the runbook with what must hold before it is run.

    ``command`` is a template with ``{names}`` of :func:`lagkit.remedies.fill`.
    """

    cause: Name
    title: Template
    command: Template
    why: Template
    safety: Safety
    preconditions: tuple[Template, ...] = ()
    checked_by: tuple[str, ...] = ()
    """For each precondition the check of ``lagkit.preconditions`` that can tell; "": a person."""


class DoNot(_Model):
    """What would make it worse when this cause is at work."""

    cause: Name
    text: Template


def _dashboard_url(text: str) -> str:
    """Refuse an address that a report could not link to, or names it could not fill in."""
    if not text.startswith(("https://", "http://")):
        msg = "is no http:// or https:// address"
        raise ValueError(msg)
    names = {field for _, field, _, _ in string.Formatter().parse(text) if field}
    if unknown := sorted(names - set(DASHBOARD_NAMES)):
        msg = f"has {{{unknown[0]}}}; it may have {', '.join(f'{{{n}}}' for n in DASHBOARD_NAMES)}"
        raise ValueError(msg)
    return text


class Dashboard(_Model):
    """A page of graphs that the report links to, with this incident's group and window."""

    title: Name
    url: Annotated[Template, AfterValidator(_dashboard_url), StringConstraints(max_length=2000)]
    """With ``{group}``, ``{topic}``, ``{cluster}``, and ``{from_ms}``, ``{to_ms}`` in epoch ms."""
    groups: tuple[Name, ...] = ()
    """Only for these groups; empty: for every group."""


class Thresholds(_Model):
    """Numbers of the runbook's alerts."""

    lag_messages: float = Field(1000, ge=0)
    lag_messages_high: float = Field(10000, ge=0)
    growth_per_second: float = Field(100, ge=0)


class Commands(_Model):
    """How this company reaches its broker's and cluster's command line."""

    rpk: str = "rpk"
    kubectl: str = "kubectl"

    @property
    def rpk_stdin(self) -> str:
        """How rpk is reached when it must be given its standard input."""
        return self.rpk.replace("kubectl exec ", "kubectl exec -i ", 1)


class Runbook(_Model):
    """A validated runbook."""

    title: str
    owner: str = ""
    version: str = ""
    commands: Commands = Commands()
    thresholds: Thresholds = Thresholds()
    alert_metrics: tuple[Name, ...] = ()
    """Metrics that the runbook's alerts read: said to be dead where they do not exist."""
    priors: dict[str, Rating] = {}
    """Cause id → how often this company sees it."""
    groups: tuple[Group, ...] = ()
    topics: tuple[Topic, ...] = ()
    contacts: tuple[Contact, ...] = ()
    dashboards: tuple[Dashboard, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    do_not: tuple[DoNot, ...] = ()

    def group(self, name: str) -> Group:
        """Return the entry of group *name*, or one with defaults if the runbook has none."""
        for group in self.groups:
            if group.name == name:
                return group
        # not validated: what a cluster calls its groups is not the runbook's to limit
        return Group.model_construct(name=name)

    def topic(self, name: str) -> Topic:
        """Return the entry of topic *name*, or one with defaults if the runbook has none."""
        for topic in self.topics:
            if topic.name == name:
                return topic
        return Topic.model_construct(name=name)


def load(path: Path | None = None) -> Runbook:
    """Read and validate a runbook; the shipped one if *path* is None.

    Raises
    ------
    UsageError
        The file cannot be read, is not TOML, or breaks the schema; says where.
    """
    file = path or resource_path("templates/runbook.toml")
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        return Runbook.model_validate(document)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"The runbook {file} cannot be read: {error}"
        raise UsageError(msg, hint="Give another one with --runbook, or mend the file.") from None
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False)[:10]
        )
        msg = f"The runbook {file} breaks its schema in {error.error_count()} place(s):\n{faults}"
        raise UsageError(
            msg, hint="templates/runbook.toml is a complete example of the shape."
        ) from None

"""``lagkit rules``: alert rules for what a server has; ``lagkit rules lint``: others judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lagkit.commands.console import print_error, print_result, reason
from lagkit.commands.options import settings_from
from lagkit.errors import LagkitError, NoSourceReadable, UsageError

if TYPE_CHECKING:
    from lagkit.config import Settings
    from lagkit.rules.ruleset import Ruleset
    from lagkit.sources.prometheus.survey import Survey

FORMATS = ("prometheus", "prometheusrule", "grafana")
FOUND = LagkitError.exit_status
"""Status of ``lint --check`` where something was found."""


@click.group(invoke_without_command=True)
@click.option("--prometheus", metavar="URL", help="Server to write for: its metrics are asked for.")
@click.option(
    "--dialect",
    metavar="auto|NAME",
    default="auto",
    show_default=True,
    help="Exporter to write for; auto finds it out.",
)
@click.option(
    "--promise",
    "promises",
    metavar="[GROUP=]60s",
    multiple=True,
    help="The oldest unread message may be this old; repeatable, for groups that differ. "
    "[default: 60s, and the runbook's]",
)
@click.option(
    "--objective",
    type=float,
    default=99.0,
    show_default=True,
    metavar="PERCENT",
    help="Share of a month in which the promise holds.",
)
@click.option(
    "--retention",
    "retentions",
    metavar="[TOPIC=]7d",
    multiple=True,
    help="How long the topics keep records; repeatable, for topics that differ.",
)
@click.option(
    "--group",
    "expected",
    metavar="GROUP",
    multiple=True,
    help="A group that must have metrics; repeatable. [default: the runbook's]",
)
@click.option(
    "--critical",
    metavar="GROUP",
    multiple=True,
    help="A group with an early alert of its own; repeatable. [default: the runbook's of high "
    "criticality]",
)
@click.option(
    "--stalled-after",
    default="10m",
    show_default=True,
    metavar="10m",
    help="So long without a commit is a standstill.",
)
@click.option("--skip-group", default="", metavar="REGEX", help="Groups to leave out.")
@click.option("--skip-topic", default="", metavar="REGEX", help="Topics to leave out.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="A rule file, a PrometheusRule for the operator, or a Grafana dashboard.",
)
@click.option("--name", default="lagkit-rules", show_default=True, help="Of the PrometheusRule.")
@click.option("--namespace", "in_namespace", default="", help="Of the PrometheusRule.")
@click.option(
    "--label",
    "labels",
    metavar="K=V",
    multiple=True,
    help="Of the PrometheusRule; repeatable: what the operator selects rules by.",
)
@click.option(
    "--runbook",
    type=click.Path(path_type=Path),
    help="Your runbook as data; the shipped one by default.",
)
@click.option(
    "--out",
    "place",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write. [default: stdout]",
)
def rules(place: Path | None, form: str, **options: Any) -> int:
    """Write alert rules for the lag exporter that really runs.

    Time and not counts: a promise with burn rates, growth by slope, standstill, rewind, an empty
    group with a backlog, missing metrics, loss by retention. A rule that the exporter's metrics do
    not allow is left out, and said. With `lint`: judge rules that are there already.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return 0
    ruleset = _ruleset(**{key: options[key] for key in options if key not in _OF_MANIFEST})
    text = _text(ruleset, form, options)
    if place is None:
        return print_result(text.encode())
    from lagkit.disk import write_whole

    try:
        write_whole(place, text.encode())
    except OSError as error:
        msg = f"{place} cannot be written: {reason(error)}."
        raise UsageError(msg, hint="Give --out a file in a folder that is there.") from None
    return print_result(f"{place}\n")


_OF_MANIFEST = ("name", "in_namespace", "labels")


@rules.command()
@click.argument("place", metavar="FILE|URL")
@click.option(
    "--prometheus",
    metavar="URL",
    help="Server that the rules of FILE are for: metrics it lacks are found too.",
)
@click.option("--check", is_flag=True, help="End with status 1 if anything is found.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def lint(place: str, prometheus: str | None, check: bool, as_json: bool) -> int:
    """Find in lag alert rules what the seed runbook got wrong, with the fix.

    FILE is a rule file or a PrometheusRule; URL is the address of a Prometheus, whose own rules are
    judged against its own metrics. Status 0 whatever is found, unless --check is given.
    """
    from lagkit.rules import lint as linting
    from lagkit.rules.reading import of_file, of_server

    settings = settings_from({"prometheus": prometheus})
    survey: Survey | None = None
    if place.startswith(("http://", "https://")):
        if prometheus:
            msg = f"{place} has rules and metrics of its own; --prometheus says another server."
            raise UsageError(msg, hint="Leave --prometheus out, or give a rule file.")
        survey = _survey(place, settings, everything=True)
        read = of_server(survey)
    else:
        read = of_file(Path(place))
        if settings.prometheus:
            try:
                survey = _survey(settings.prometheus, settings, everything=True)
            except NoSourceReadable as error:
                if prometheus:
                    raise
                # it is configured for other commands: the file is judged without it
                print_error(f"{error}\nWhether the metrics exist is not asked.")
    findings = linting.lint(read, survey)
    if as_json:
        told = json.dumps([one.to_dict() for one in findings], indent=2, ensure_ascii=False)
        status = print_result(told.encode() + b"\n")
    else:
        status = print_result(linting.render(read, findings, survey) + "\n")
    return status or (FOUND if check and findings else 0)


def _ruleset(
    prometheus: str | None,
    dialect: str,
    promises: Sequence[str],
    objective: float,
    retentions: Sequence[str],
    expected: Sequence[str],
    critical: Sequence[str],
    stalled_after: str,
    skip_group: str,
    skip_topic: str,
    runbook: Path | None,
) -> Ruleset:
    from lagkit.rules import choosing, writing
    from lagkit.rules.ruleset import build
    from lagkit.rules.wishes import Wishes, by_name, seconds_of
    from lagkit.runbook import load
    from lagkit.sources.dialects import own_dialects

    settings = settings_from({"prometheus": prometheus, "runbook": runbook})
    own = own_dialects(settings.dialects)
    known = load(settings.runbook)
    default, by_group = by_name(promises, "--promise")
    retention, by_topic = by_name(retentions, "--retention")
    survey: Survey | None = None
    if settings.prometheus and (dialect == choosing.AUTO or prometheus):
        survey = _survey(settings.prometheus, settings)
        found = choosing.of_server(dialect, survey, own)
    else:
        found = choosing.of_no_server(dialect, own)
    there = None if survey is None or found is not survey.found[0] else set(survey.groups)
    groups = [one for one in known.groups if there is None or one.name in there]
    promise = default or 60.0
    wishes = Wishes(
        promise=promise,
        promises={
            one.name: one.promise_seconds
            for one in groups
            if one.promise_seconds != promise and default is None
        }
        | by_group,
        objective=objective,
        retention=retention,
        retentions=by_topic,
        expected=tuple(expected) or tuple(one.name for one in groups),
        critical=tuple(critical) or tuple(one.name for one in groups if one.criticality == "high"),
        stalled=seconds_of(stalled_after, "--stalled-after"),
        skip_groups=skip_group,
        skip_topics=skip_topic,
    )
    ruleset = build(found, wishes, survey.cluster_labels if survey else ())
    for line in choosing.remarks(found, survey, wishes) if survey else ():
        print_error(line)
    for line in writing.summary(ruleset):
        print_error(line)
    return ruleset


def _text(ruleset: Ruleset, form: str, options: dict[str, Any]) -> str:
    from lagkit.rules import writing
    from lagkit.rules.dashboard import dashboard

    if form == "grafana":
        return dashboard(ruleset)
    if form == "prometheus":
        return writing.prometheus(ruleset)
    labels = {}
    for text in options["labels"]:
        key, equals, value = text.partition("=")
        if not equals:
            msg = f"--label {text!r} is not K=V."
            raise UsageError(msg, hint="Write --label release=kube-prometheus-stack, for example.")
        labels[key] = value
    return writing.prometheus_rule(ruleset, options["name"], options["in_namespace"], labels)


def _survey(url: str, settings: Settings, *, everything: bool = False) -> Survey:
    from lagkit.sources.prometheus.survey import Unreadable, survey

    seconds = settings.budgets.prometheus
    try:
        return survey(
            url,
            settings.prometheus_login,
            settings.dialects,
            budget_seconds=seconds,
            everything=everything,
        )
    except Unreadable as error:
        msg = f"No answer from Prometheus, asked for up to {seconds:g} s: {error}."
        hint = error.fix or "Check the address and [prometheus_login] of lagkit.toml."
        raise NoSourceReadable(msg, hint=hint) from None

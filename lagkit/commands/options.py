"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lagkit.config import Settings

NOTEBOOK_SECONDS = 120.0

_Command = TypeVar("_Command", bound=Callable[..., Any])

SOURCE_OPTIONS = (
    click.option("--prometheus", metavar="URL", help="Prometheus, or what speaks its API."),
    click.option("--bootstrap", metavar="HOST:PORT,…", help="Kafka or Redpanda brokers."),
    click.option(
        "--kafka-properties",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Login for the brokers: client.properties, or a profile of rpk (.yaml).",
    ),
    click.option(
        "--kubeconfig", type=click.Path(path_type=Path), help="Kubernetes login; none by default."
    ),
    click.option("--context", metavar="NAME", help="Context in the kubeconfig."),
    click.option("--namespace", metavar="NS", help="Namespace of the consumer's pods."),
    click.option("--selector", metavar="K=V", help="Label selector of the consumer's pods."),
    click.option(
        "--runbook",
        type=click.Path(path_type=Path),
        help="Your runbook as data; the shipped one by default.",
    ),
)
WINDOW_OPTIONS = (
    click.option(
        "--topic",
        "topics",
        multiple=True,
        metavar="T",
        envvar="LAGKIT_TOPIC",
        help="Only this topic; repeatable.",
    ),
    click.option(
        "--since",
        metavar="1h",
        envvar="LAGKIT_SINCE",
        help="Length of the window up to its end: 45m, 2h, 3d. [default: 1h]",
    ),
    click.option(
        "--start", metavar="ISO", envvar="LAGKIT_START", help="Start of the window, with its zone."
    ),
    click.option(
        "--end", metavar="ISO", envvar="LAGKIT_END", help="End of the window. [default: now]"
    ),
)
REPORT_OPTIONS = (
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="LAGKIT_OUT",
        help="Folder of the report.",
    ),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        envvar="LAGKIT_JSON",
        help="Print the verdict alone, as verdict.json.",
    ),
    click.option(
        "--no-report",
        is_flag=True,
        envvar="LAGKIT_NO_REPORT",
        help="Stop after the verdict; keep it and the incident.",
    ),
    click.option("--pdf", is_flag=True, envvar="LAGKIT_PDF", help="Also report.pdf (extra `pdf`)."),
    click.option(
        "--deadline",
        type=click.FloatRange(min=1.0),
        default=NOTEBOOK_SECONDS,
        show_default=True,
        envvar="LAGKIT_DEADLINE",
        metavar="SECONDS",
        help="Most that the notebook may take.",
    ),
)


def with_options(*groups: Sequence[Callable[[Any], Any]]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options of *groups*, in their order."""

    def decorate(command: _Command) -> _Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def settings_from(options: Mapping[str, Any]) -> Settings:
    """Return the settings that typed *options*, the environment and lagkit.toml come to."""
    from lagkit.config import load_settings

    given = dict(options)
    # LAGKIT_KAFKA_PROPERTIES and its table in lagkit.toml are the properties themselves
    given["kafka_properties_file"] = given.pop("kafka_properties", None)
    return load_settings(**given)


def typed(option: str) -> bool:
    """Whether *option* stands on the command line, not only in the environment."""
    name = "topics" if option == "--topic" else option.removeprefix("--").replace("-", "_")
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE

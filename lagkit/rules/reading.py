"""Rules that somebody else wrote: from a rule file, a PrometheusRule, or a server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lagkit.errors import NothingThere, UsageError
from lagkit.wording import printable

if TYPE_CHECKING:
    import yaml

    from lagkit.sources.prometheus.survey import Survey

MOST_BYTES = 8 * 2**20
_SHAPE = "A rule file has groups, each with a name and rules; a PrometheusRule has them below spec."


@dataclass(frozen=True, slots=True)
class Written:
    """One rule as it was found."""

    name: str
    expr: str
    alerts: bool
    """Whether it is an alert; else it records."""
    place: str
    """File and line, or server and group."""


@dataclass(frozen=True, slots=True)
class Rulebook:
    """All rules of one file or server."""

    place: str
    rules: tuple[Written, ...]


def of_file(path: Path) -> Rulebook:
    """Return the rules of a YAML file, PrometheusRule manifests among its documents included.

    Raises
    ------
    UsageError
        The file cannot be read.
    NothingThere
        It is no YAML, or holds no rule.
    """
    import yaml

    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{printable(path)} cannot be read: {error.strerror or error}."
        raise UsageError(msg, hint="Give a rule file, or the address of a Prometheus.") from None
    if len(content) > MOST_BYTES:
        msg = f"{printable(path)} has {len(content):,} bytes; no rule file is so long."
        raise NothingThere(msg, hint=_SHAPE)
    try:
        # nodes and no objects: they know their lines, and an alias is not unfolded
        documents = list(yaml.compose_all(content.decode("utf-8"), Loader=yaml.SafeLoader))
        rules = tuple(rule for document in documents for rule in _of_document(document, path.name))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        text = printable(error, limit=300)
        msg = f"{printable(path)} is no YAML: {text}."
        raise NothingThere(msg, hint=_SHAPE) from None
    if not rules:
        msg = f"{printable(path)} holds no rule of Prometheus."
        raise NothingThere(msg, hint=_SHAPE)
    return Rulebook(printable(path), rules)


def of_server(survey: Survey) -> Rulebook:
    """Return the rules that the server of *survey* evaluates; raises NothingThere for none."""
    data = survey.rules
    groups = data.get("groups") if isinstance(data, dict) else None
    rules: list[Written] = []
    for group in groups if isinstance(groups, list) else ():
        inner = group.get("rules") if isinstance(group, dict) else None
        place = f"group {printable(group.get('name', ''), limit=200)}" if inner else ""
        rules += [
            Written(
                printable(rule.get("name", ""), limit=200),
                str(rule.get("query", "")),
                rule.get("type", "alerting") == "alerting",
                place,
            )
            for rule in (inner if isinstance(inner, list) else ())
            if isinstance(rule, dict)
        ]
    if not rules:
        msg = f"{survey.place} evaluates no rule."
        raise NothingThere(msg, hint="Load a rule file there, or give one here.")
    return Rulebook(survey.place, tuple(rules))


def _of_document(document: yaml.Node | None, file: str) -> Iterator[Written]:
    top = _mapping(document)
    groups = top.get("groups") or _mapping(top.get("spec")).get("groups")
    items = _mapping(document).get("items")  # kubectl get prometheusrule -o yaml
    for item in _sequence(items):
        yield from _of_document(item, file)
    for group in _sequence(groups):
        for node in _sequence(_mapping(group).get("rules")):
            rule = _mapping(node)
            expr = rule.get("expr")
            name = rule.get("alert") or rule.get("record")
            if expr is None or name is None:
                continue
            line = expr.start_mark.line + 1
            yield Written(
                printable(_scalar(name), limit=200),
                _scalar(expr),
                "alert" in rule,
                f"{printable(file, limit=200)}:{line}",
            )


def _mapping(node: yaml.Node | None) -> dict[str, yaml.Node]:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        return {}
    return {_scalar(key): value for key, value in node.value}


def _sequence(node: yaml.Node | None) -> list[Any]:
    import yaml

    return node.value if isinstance(node, yaml.SequenceNode) else []


def _scalar(node: yaml.Node) -> str:
    import yaml

    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""

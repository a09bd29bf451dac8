"""Rules as text: for Prometheus, for the Prometheus operator, for people.

The same ruleset is the same bytes. What could not be had stands at the top as comments, because a
rule that is not there looks like a rule that never fires.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lagkit.errors import UsageError
from lagkit.wording import printable

if TYPE_CHECKING:
    import yaml

    from lagkit.rules.ruleset import Rule, Ruleset

_WIDTH = 100
_KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_KUBERNETES_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def prometheus(ruleset: Ruleset) -> str:
    """Return a rule file for ``rule_files`` of Prometheus, Thanos or Mimir."""
    return _header(ruleset) + as_yaml({"groups": _groups(ruleset)})


def prometheus_rule(
    ruleset: Ruleset, name: str, namespace: str = "", labels: Mapping[str, str] | None = None
) -> str:
    """Return a PrometheusRule (monitoring.coreos.com/v1) for the Prometheus operator.

    Raises UsageError for a name or label that Kubernetes would refuse.
    """
    if not _KUBERNETES_NAME.fullmatch(name) or (
        namespace and not _KUBERNETES_NAME.fullmatch(namespace)
    ):
        msg = f"{printable(name)!r} or {printable(namespace)!r} is no name of Kubernetes."
        raise UsageError(msg, hint="Small letters, digits, - and . only, such as lagkit-rules.")
    for key, value in (labels or {}).items():
        if not key or not _KUBERNETES_LABEL.fullmatch(value) or not re.fullmatch(r"[\w./-]+", key):
            msg = f"--label {printable(key)}={printable(value)} is no label of Kubernetes."
            raise UsageError(msg, hint="Write --label release=kube-prometheus-stack, for example.")
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(sorted(labels.items()))
    return _header(ruleset) + as_yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": metadata,
            "spec": {"groups": _groups(ruleset)},
        }
    )


def summary(ruleset: Ruleset) -> list[str]:
    """Return, for a person, what the rules hold and what they lack."""
    lines = [f"{ruleset.title}: {len(ruleset.alerts)} alerts, {len(ruleset.records)} records"]
    lines += [f"left out: {one.rule}: {one.why}. {one.fix}" for one in ruleset.left_out]
    return lines + [f"note: {note}" for note in ruleset.notes]


def _header(ruleset: Ruleset) -> str:
    paragraphs = [
        f"Consumer-lag rules for {printable(ruleset.title)}, written by lagkit (lagkit rules).",
        "Change the options and write them again rather than editing.",
        *(
            f"Not here: {one.rule}: {printable(one.why)}. {printable(one.fix)}"
            for one in ruleset.left_out
        ),
        *(printable(note) for note in ruleset.notes),
    ]
    lines = [
        line
        for paragraph in paragraphs
        for line in textwrap.wrap(
            paragraph, _WIDTH - 2, subsequent_indent="  ", break_on_hyphens=False
        )
    ]
    return "".join(f"# {line}\n" for line in lines)


def _groups(ruleset: Ruleset) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "interval": group.interval,
            "rules": [_rule(rule) for rule in group.rules],
        }
        for group in ruleset.groups
    ]


def _rule(rule: Rule) -> dict[str, Any]:
    kind = "record" if rule.record else "alert"
    fields: Iterable[tuple[str, Any]] = (
        (kind, rule.name),
        ("expr", rule.expr),
        ("for", rule.hold),
        ("labels", dict(rule.labels)),
        ("annotations", dict(rule.annotations)),
    )
    return {key: value for key, value in fields if value}


def as_yaml(document: Mapping[str, Any]) -> str:
    """Return *document* with its keys in order and expressions of several lines as such."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Lines of an expression as lines."""

        def ignore_aliases(self, data: Any) -> bool:
            del data
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(
        yaml.dump(
            dict(document),
            Dumper=Dumper,
            sort_keys=False,
            width=1_000_000,
            allow_unicode=True,
            default_flow_style=False,
        )
    )

"""The Prometheus text format, as Go's client writes it and as Seastar does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Family:
    """One metric of the text format."""

    name: str
    kind: str
    help: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: object) -> None:
        """Append a sample."""
        self.samples.append(({k: str(v) for k, v in labels.items()}, value))


def escaped(text: str) -> str:
    """Escape a label value for the text format."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def go_number(value: float) -> str:
    """Write a number as Go's client does: short, with an exponent from 1e+21 up (never reached)."""
    return str(int(value)) if value == int(value) else repr(value)


def seastar_number(value: float) -> str:
    """Write a gauge as Seastar does, which serves Redpanda's metrics."""
    return f"{value:.6f}"


def exposition(families: Iterable[Family], *, seastar: bool = False) -> str:
    """Write families in the Prometheus text format, sorted by labels as the Go client sorts."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        plain = not seastar or family.kind == "counter"
        for labels, value in sorted(family.samples, key=lambda s: sorted(s[0].items())):
            inner = ",".join(f'{k}="{escaped(labels[k])}"' for k in sorted(labels))
            shown = f"{{{inner}}}" if inner or seastar else ""
            lines.append(f"{family.name}{shown} {(go_number if plain else seastar_number)(value)}")
    return "\n".join([*lines, ""])

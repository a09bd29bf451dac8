"""PromQL as text: every value that comes from outside is quoted here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable


def quoted(value: str) -> str:
    r"""Return *value* as a PromQL string; ``\``, ``"`` and control characters are escaped."""
    escaped = value.encode("utf-8", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.replace("\n", "\\n")
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda hit: f"\\x{ord(hit[0]):02x}", escaped) + '"'


def one_of(values: Iterable[str]) -> str:
    """Return a quoted pattern for ``=~`` that matches exactly *values*; "" among them: no label."""
    return quoted("|".join(re.escape(value) for value in values))


def matcher(label: str, values: Iterable[str]) -> str:
    """Return a matcher of *label* for one or several *values*; "" for none at all."""
    wanted = sorted(set(values))
    if not wanted:
        return ""
    return f"{label}={quoted(wanted[0])}" if len(wanted) == 1 else f"{label}=~{one_of(wanted)}"


def joined(*matchers: str) -> str:
    """Return *matchers* as the inside of one selector, empty ones left out."""
    return ",".join(part for part in matchers if part)


def either(expressions: Iterable[str]) -> str:
    """Return PromQL that takes the first of *expressions* that has a value; "" for none."""
    return " or ".join(expressions)

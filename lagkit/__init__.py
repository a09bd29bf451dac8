"""lagkit: from a consumer-lag alert to a ranked, evidenced cause.

>>> import lagkit as lk
>>> result = lk.investigate(lk.demo())
>>> result.verdict.schema
'lagkit.verdict/1'

Names load on first use, so that importing lagkit (and ``lagkit --help``) stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lagkit.version import __version__

if TYPE_CHECKING:
    from lagkit.collect import capture
    from lagkit.config import Settings
    from lagkit.errors import (
        LagkitError,
        NoSourceReadable,
        NothingThere,
        ReportFailed,
        UsageError,
    )
    from lagkit.incident import Incident
    from lagkit.incident import open_incident as open  # noqa: A004 - the contract's name
    from lagkit.investigation import Result, investigate
    from lagkit.model import Finding, Verdict

_HOME = {
    "Finding": "lagkit.model",
    "Incident": "lagkit.incident",
    "LagkitError": "lagkit.errors",
    "NoSourceReadable": "lagkit.errors",
    "NothingThere": "lagkit.errors",
    "ReportFailed": "lagkit.errors",
    "Result": "lagkit.investigation",
    "Settings": "lagkit.config",
    "UsageError": "lagkit.errors",
    "Verdict": "lagkit.model",
    "capture": "lagkit.collect",
    "investigate": "lagkit.investigation",
    "open": "lagkit.incident",
}

__all__ = [
    "Finding",
    "Incident",
    "LagkitError",
    "NoSourceReadable",
    "NothingThere",
    "ReportFailed",
    "Result",
    "Settings",
    "UsageError",
    "Verdict",
    "__version__",
    "capture",
    "demo",
    "investigate",
    "open",
]


def demo() -> Incident:
    """Open the bundled incident: a real one, recorded from the lab."""
    from lagkit.incident import open_incident
    from lagkit.investigation import demo_path

    return open_incident(demo_path())


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    if name not in _HOME:
        msg = f"module 'lagkit' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(
        importlib.import_module(_HOME[name]), "open_incident" if name == "open" else name
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List public names before they are loaded."""
    return sorted(__all__)

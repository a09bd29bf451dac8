"""Imports go one way, as data does: sources → incident → signals → causes, ranking → report."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lagkit"

NETWORK_CLIENTS = {
    "aiohttp",
    "apprise",
    "confluent_kafka",
    "http.client",
    "httpx",
    "kubernetes",
    "prometheus_api_client",
    "requests",
    "socket",
    "urllib.request",
    "urllib3",
    "websocket",
}
NOTEBOOK_ENGINES = {"jupyter_client", "nbclient", "nbconvert", "papermill"}
JUDGEMENT = {
    "lagkit.causes",
    "lagkit.evidence",
    "lagkit.investigation",
    "lagkit.ranking",
    "lagkit.remedies",
    "lagkit.signals",
}
# Modules that a mere `import lagkit` must not pay for.
HEAVY = {
    "confluent_kafka",
    "kubernetes",
    "nbclient",
    "pandas",
    "pandera",
    "papermill",
    "plotly",
    "prometheus_api_client",
    "pyarrow",
    "rich",
    "scipy",
    "statsmodels",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Return the modules *path* imports when it runs, also inside functions; not for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offends(imported: set[str], forbidden: set[str]) -> set[str]:
    return {
        name
        for name in imported
        if any(name == root or name.startswith(f"{root}.") for root in forbidden)
    }


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def in_package(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_no_module_is_imported_relatively():
    relative = [
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize("name", [m for m in MODULES if in_package(m, "lagkit.sources")])
def test_a_source_knows_no_cause_and_no_report(name):
    later = JUDGEMENT | {
        "lagkit.report",
        "lagkit.runner",
        "lagkit.cli",
        "lagkit.commands",
        "lagkit.incident",
    }
    assert offends(imports_of(MODULES[name]), later) == set()


@pytest.mark.parametrize("name", [m for m in MODULES if in_package(m, "lagkit.signals")])
def test_a_signal_knows_no_cause_and_no_source(name):
    forbidden = {"lagkit.causes", "lagkit.ranking", "lagkit.sources", "lagkit.report"}
    assert offends(imports_of(MODULES[name]), forbidden) == set()


@pytest.mark.parametrize(
    "name",
    [
        m
        for m in MODULES
        if m in {"lagkit.causes", "lagkit.charts", "lagkit.investigation", "lagkit.ranking"}
        or (in_package(m, "lagkit.capacity") and m != "lagkit.capacity.capture")
        or in_package(m, "lagkit.flow")
        or in_package(m, "lagkit.postmortem")
        or in_package(m, "lagkit.report")
        or in_package(m, "lagkit.render")
    ],
)
def test_what_judges_or_reports_asks_no_source(name):
    assert offends(imports_of(MODULES[name]), {"lagkit.sources", "lagkit.collect"}) == set()


@pytest.mark.parametrize("name", [m for m in MODULES if not in_package(m, "lagkit.sources")])
def test_only_sources_import_a_network_client(name):
    assert offends(imports_of(MODULES[name]), NETWORK_CLIENTS) == set()


@pytest.mark.parametrize("name", [m for m in MODULES if m != "lagkit.runner.engine"])
def test_only_the_runners_engine_imports_a_notebook_engine(name):
    assert offends(imports_of(MODULES[name]), NOTEBOOK_ENGINES) == set()


@pytest.mark.parametrize("statement", ["import lagkit", "import lagkit.cli"])
def test_importing_costs_no_heavy_module(statement):
    code = f"{statement}; import sys; print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert HEAVY & set(loaded) == set()

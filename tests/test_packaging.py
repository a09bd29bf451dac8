"""What a user installs: the wheel holds everything, and works without the developer's tools."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from lagkit.version import __version__

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    built = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def bare(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel and its core dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint"]
    done = subprocess.run(
        [*install, str(ROOT / "requirements.lock"), str(wheel)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode and re.search(r"connection|resolve|No matching distribution", done.stderr):
        pytest.skip(f"pip reaches no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def run_bare(bare: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the bare environment with nothing of ours in its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [str(bare / "bin" / arguments[0]), *arguments[1:]],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=kept,
        timeout=300,
    )


def test_the_wheel_ships_what_the_checkout_has(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"lagkit/_shipped/{path.relative_to(ROOT).as_posix()}"
        for folder in ("notebooks", "templates")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and ".ipynb_checkpoints" not in path.parts
    }
    assert expected
    assert expected - inside == set()
    assert "lagkit/py.typed" in inside


def test_the_wheel_ships_no_test_and_no_lab(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"lagkit", f"lagkit-{__version__}.dist-info"}


def test_the_version_is_said_once_and_the_same():
    assert PROJECT["version"] == __version__


@pytest.mark.real
def test_help_works_in_a_bare_install(bare, tmp_path):
    shown = run_bare(bare, tmp_path, "lagkit", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "investigate" in shown.stdout


@pytest.mark.real
def test_the_demo_works_in_a_bare_install(bare, tmp_path):
    done = run_bare(bare, tmp_path, "lagkit", "demo")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tmp_path / "lagkit-demo").iterdir()}
    assert {
        "incident.lagkit",
        "verdict.json",
        "report.html",
        "report.md",
        "report.ipynb",
    } <= written


@pytest.mark.real
def test_jupyterlab_missing_is_said_with_the_line_that_fixes_it(bare, tmp_path):
    done = run_bare(bare, tmp_path, "lagkit", "open")
    assert done.returncode == 2
    assert "pip install 'lagkit[notebook]'" in done.stderr


def test_environment_yml_names_no_dependency_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, nested = environment["dependencies"]
    assert [re.split(r"[<>=]", entry)[0] for entry in conda] == ["python", "pip"]
    constraint, editable = nested["pip"]
    assert constraint == "--constraint requirements.lock"
    extras = re.fullmatch(r"--editable \.\[(.+)\]", editable)
    assert extras is not None
    assert set(extras[1].split(",")) == set(PROJECT["optional-dependencies"])


def test_environment_yml_wants_the_python_of_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python"))
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])


def test_the_lock_names_versions_and_no_address():
    assert [
        line for line in LOCK if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9A-Za-z.+!]+", line)
    ] == []


def test_the_lock_has_every_direct_dependency_at_an_allowed_version():
    locked = {canonical(line.split("==")[0]): line.split("==")[1] for line in LOCK}
    wanted = [
        Requirement(text)
        for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
        for text in group
    ]
    wrong = [
        str(requirement)
        for requirement in wanted
        if Version(locked.get(canonical(requirement.name), "0")) not in requirement.specifier
    ]
    assert wrong == []

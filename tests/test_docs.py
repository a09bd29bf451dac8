"""The documents say what is so: every command in them parses, every name in them exists."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

import lagkit
from lagkit import cli
from lagkit.config import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [
    (document, line.removeprefix("$ "))
    for document in DOCUMENTS
    for block in blocks(document, "console")
    for line in block.splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize(("document", "line"), COMMANDS)
def test_a_command_in_a_document_exists(document, line):
    words = shlex.split(line)
    if words[0] == "lagkit":
        command = cli.cli.commands[words[1]]
        assert isinstance(command.make_context(words[1], words[2:]), click.Context)
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(words[-1])}:", makefile, flags=re.MULTILINE)
    elif words[0] == ".venv/bin/pytest":
        assert all((ROOT / word).exists() for word in words[1:] if word.startswith("tests"))
    else:
        assert words[:2] == ["pip", "install"]


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in cli.cli.commands if f"lagkit {name}" not in text] == []


@pytest.mark.parametrize(
    "block", [block for document in ["README.md", *PAGES] for block in blocks(document, "toml")]
)
def test_a_configuration_in_a_document_is_accepted(block, monkeypatch):
    monkeypatch.chdir("/")
    told = tomllib.loads(block)
    settings = Settings(**told)
    assert told
    assert set(told) <= settings.model_fields_set


def test_the_python_in_the_readme_uses_names_that_exist():
    (block,) = blocks("README.md", "python")
    used = {
        node.attr
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "lk"
    }
    assert used <= set(lagkit.__all__)
    assert all(callable(getattr(lagkit, name)) for name in used)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_link_to_a_file_leads_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    files = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in files if not (ROOT / document).parent.joinpath(link).exists()] == []


def test_every_make_target_says_what_it_is_for():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert targets is not None
    silent = [
        name
        for name in targets[1].split()
        if not re.search(rf"^{name}:.*## \S", makefile, flags=re.MULTILINE)
    ]
    assert silent == []

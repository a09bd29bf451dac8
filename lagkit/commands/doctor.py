"""``lagkit doctor``: what can be read here, and what would mend the rest."""

from __future__ import annotations

import json
from typing import Any

import click

from lagkit.commands.console import Progress, print_result
from lagkit.commands.options import SOURCE_OPTIONS, settings_from, with_options


@click.command()
@click.argument("group", required=False)
@with_options(SOURCE_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(group: str | None, as_json: bool, **sources: Any) -> int:
    """Say per source what works and what is missing, with the line that fixes it.

    Asks each configured source what an investigation of GROUP would ask; the runbook's first group
    if none is given.
    """
    from lagkit import doctor as surgery

    with Progress() as progress:
        diagnosis = surgery.examine(settings_from(sources), group, on_progress=progress)
    if as_json:
        text = json.dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False)
        unprinted = print_result(text.encode() + b"\n")
    else:
        unprinted = print_result(surgery.render(diagnosis) + "\n")
    return diagnosis.exit_status or unprinted

"""``lagkit verify``: is it over? The checklist after an incident, against live systems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from lagkit import folders
from lagkit.commands.console import Progress, print_result
from lagkit.commands.options import SOURCE_OPTIONS, settings_from, with_options
from lagkit.errors import GETTING_WORSE, NoSourceReadable

SINCE = "15m"


@click.command()
@click.argument("place", metavar="INCIDENT.lagkit|FOLDER", type=click.Path(path_type=Path))
@with_options(SOURCE_OPTIONS)
@click.option(
    "--last",
    metavar="15m",
    default=SINCE,
    show_default=True,
    envvar="LAGKIT_LAST",
    help="Look at so much time up to now: long enough for a trend, short enough to be after it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the checklist alone, as JSON.")
def verify(place: Path, last: str, as_json: bool, **sources: Any) -> int:
    """Check whether the incident is over, against live sources.

    Lag falling, promise kept, commits advancing, members there, no new errors in logs, downstream
    healthy, alerts resolved; each line with its evidence. Ends with 0 only when something could be
    checked and all of it is well, with 6 when a line is not.
    """
    from lagkit.collect import capture
    from lagkit.incident import open_incident
    from lagkit.investigation import investigate
    from lagkit.render.checklist import checklist
    from lagkit.verification import verify as go_through

    incident = open_incident(place / folders.INCIDENT_FILE if place.is_dir() else place)
    with Progress() as progress:
        progress(f"incident {incident.id}: {incident.group}")
        now = capture(
            incident.group,
            incident.topics,
            since=last,
            settings=settings_from(sources),
            on_progress=progress,
        )
        progress("judging")
        found = go_through(incident, investigate(now))
    text = (
        json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n"
        if as_json
        else f"{checklist(found)}\n"
    )
    status = print_result(text)
    if status:
        return status
    if not found.checked:
        msg = "Nothing could be checked, so whether it is over is not known."
        raise NoSourceReadable(msg, hint="`lagkit doctor` says per source what to mend.")
    return 0 if found.over else GETTING_WORSE

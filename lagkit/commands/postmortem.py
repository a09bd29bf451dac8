"""``lagkit postmortem``: from captures to a draft that people complete, and all it rests on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from lagkit import folders
from lagkit.commands.console import Progress, print_error, print_result
from lagkit.commands.options import NOTEBOOK_SECONDS
from lagkit.errors import ReportFailed, UsageError


@click.command()
@click.argument("file", metavar="FILE.lagkit", type=click.Path(path_type=Path))
@click.option(
    "--also",
    type=click.Path(path_type=Path),
    metavar="later.lagkit",
    help="A later capture of the same group: shows the recovery.",
)
@click.option(
    "--similar",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Incident files to look for similar earlier incidents in.",
)
@click.option(
    "--capacity",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Report of `lagkit capacity`: its action items, if capacity was what failed.",
)
@click.option(
    "--merge",
    type=click.Path(path_type=Path),
    metavar="EDITED.md",
    help="A postmortem.md that people wrote into: their text is kept.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="LAGKIT_OUT",
    help="Folder of the post-mortem, e.g. that of the report.",
)
@click.option("--pdf", is_flag=True, envvar="LAGKIT_PDF", help="Also postmortem.pdf (extra `pdf`).")
@click.option(
    "--zone",
    metavar="NAME",
    envvar="LAGKIT_ZONE",
    help="Time zone beside UTC, as Europe/Paris. [default: this machine's]",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=1.0),
    default=NOTEBOOK_SECONDS,
    show_default=True,
    envvar="LAGKIT_DEADLINE",
    metavar="SECONDS",
    help="Most that the notebook may take.",
)
def postmortem(
    file: Path,
    also: Path | None,
    similar: Path | None,
    capacity: Path | None,
    merge: Path | None,
    out: Path | None,
    pdf: bool,
    zone: str | None,
    deadline: float,
) -> int:
    """Write the post-mortem of a saved incident: facts filled in, blanks for people.

    Asks no system. Writes postmortem.md, .html, .json and .ipynb, and attachments.zip with all that
    they rest on.
    """
    from lagkit.incident import open_incident
    from lagkit.postmortem import edited as edits
    from lagkit.postmortem.account import build, refuse_zone
    from lagkit.postmortem.files import NOTEBOOK_MODULES, Captures, refuse_overwriting, write
    from lagkit.postmortem.planned import read_capacity
    from lagkit.postmortem.similar import read_folder
    from lagkit.runner.beside import standing_by

    place = zone or machine_zone()
    refuse_zone(place)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress())
        incident = open_incident(file)
        later = open_incident(also) if also is not None else None
        planned = read_capacity(capacity) if capacity is not None else None
        edited = edits.read(merge) if merge is not None else None
        if edited is not None and edited.incident != edits.identity(incident.id):
            msg = f"{merge} cannot be merged: it is the post-mortem of another incident."
            raise UsageError(msg, hint="Give the postmortem.md that was made of this file.")
        held = stack.enter_context(folders.held(out))
        folder = held or stack.enter_context(folders.own_folder(incident))
        for given, name in ((file, folders.INCIDENT_FILE), (also, folders.LATER_FILE)):
            known = folder / name
            if given is not None and known.exists() and known.read_bytes() != given.read_bytes():
                msg = f"{known} is another capture than {given}; it stays untouched."
                raise UsageError(msg, hint="Give another folder with --out.")
        refuse_overwriting(folder, incident.id, merge)
        standby = stack.enter_context(standing_by(NOTEBOOK_MODULES))
        signatures = read_folder(similar, on_progress=progress) if similar is not None else None
        progress("putting the post-mortem together")
        account = build(incident, later=later, signatures=signatures, zone=place, capacity=planned)
        captures = Captures(
            file.read_bytes(),
            also.read_bytes() if also is not None else None,
            signatures.to_json().encode() if signatures is not None else None,
            planned.content if planned is not None else None,
        )
        status = 0
        try:
            written = write(
                account,
                folder,
                captures,
                edited=edited,
                pdf=pdf,
                deadline_seconds=deadline,
                on_progress=progress,
                standby=standby,
            )
            for name in written.merged.restored if edited is not None else ():
                progress(f"not in {merge}, made anew: {name}")
        except ReportFailed as error:
            progress.stop()
            print_error(str(error))
            status = error.exit_status
        progress.stop()
        page = folder / folders.POSTMORTEM_HTML
        text = f"{account!r}\nPost-mortem: {page if page.exists() else folder}\n"
        return max(status, print_result(text))


def machine_zone() -> str:
    """Return the IANA name of this machine's time zone, UTC where it has none."""
    import os
    import zoneinfo

    named = os.environ.get("TZ", "").lstrip(":")
    if not named:
        with contextlib.suppress(OSError):
            named = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2]
    with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zoneinfo.ZoneInfo(named)
        return named if named not in ("Etc/UTC", "UCT", "Zulu", "Universal", "GMT") else "UTC"
    return "UTC"

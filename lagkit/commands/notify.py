"""``lagkit notify``: tell the people whom the runbook names, in words that are ready."""

from __future__ import annotations

from pathlib import Path

import click

from lagkit import folders
from lagkit.commands.console import print_result
from lagkit.errors import LagkitError, NothingThere


class NotSent(LagkitError):
    """A message that was not taken; nothing of what it says is lost."""

    exit_status = 4


@click.command()
@click.argument("place", metavar="INCIDENT.lagkit|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "addresses",
    multiple=True,
    metavar="URL",
    envvar="LAGKIT_NOTIFY",
    help="Slack webhook, or any Apprise URL; repeatable. Without one the message is only printed.",
)
def notify(place: Path, addresses: tuple[str, ...]) -> int:
    """Say who is to be told of an incident by now, and send them the message.

    The level comes from the runbook, by how long it has gone on and by its cause. Prints the
    message, ready to be pasted. An address holds a token: keep it in LAGKIT_NOTIFY rather than in
    the shell's history.
    """
    from lagkit.incident import open_incident
    from lagkit.investigation import investigate
    from lagkit.sources.messenger import send

    incident = open_incident(place / folders.INCIDENT_FILE if place.is_dir() else place)
    due = investigate(incident).verdict.escalation
    if due is None:
        msg = f"Nobody is to be told of {incident.id}: it is no incident, or nobody is due yet."
        raise NothingThere(msg, hint="The runbook's [[contacts]] say who is told and when.")
    lines = [f"Tell {due.level} {due.who} ({due.contact}): {due.why}"]
    lines += [f"  also {text}" for text in due.also]
    lines += [f"  not yet {text}" for text in due.later]
    status = print_result("\n".join([*lines, "", due.message]) + "\n")
    refused = []
    for address in addresses:
        sent = send(address, f"lagkit: {incident.group}", due.message)
        if sent.ok:
            click.echo(f"Sent to {sent.place}.", err=True)
        else:
            refused.append(f"{sent.place}: {sent.why}")
    if refused:
        msg = "The message was not taken:\n" + "\n".join(f"  {text}" for text in refused)
        raise NotSent(msg, hint="It stands above, to be pasted by hand.")
    return status

"""For which exporter rules are written, and what a person should know of the others."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lagkit.errors import NothingThere, UsageError
from lagkit.rules.wishes import duration
from lagkit.sources.dialects import DIALECTS, Dialect, Found, everything_of
from lagkit.wording import plural, printable

if TYPE_CHECKING:
    from lagkit.rules.wishes import Wishes
    from lagkit.sources.prometheus.survey import Survey

AUTO = "auto"


def of_no_server(name: str, own: Sequence[Dialect] = ()) -> Found:
    """Return the dialect called *name* with every metric it can write.

    Raises UsageError: there is none of that name, or it is to be found out and nothing to ask.
    """
    known = {dialect.id: dialect for dialect in (*own, *DIALECTS)}
    if name == AUTO:
        msg = "Which exporter runs is not known: no Prometheus is given, and no dialect."
        hint = f"Give --prometheus URL, or --dialect with one of: {', '.join(known)}."
        raise UsageError(msg, hint=hint)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        msg = f"lagkit knows no dialect {printable(name)!r}."
        meant = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(msg, hint=f"{meant}There are: {', '.join(known)}.")
    return everything_of(known[name])


def of_server(name: str, survey: Survey, own: Sequence[Dialect] = ()) -> Found:
    """Return the dialect called *name*, or the best there is, as the server of *survey* speaks it.

    Raises
    ------
    UsageError
        There is no dialect of that name.
    NothingThere
        The server has no lag metric, or none of that dialect.
    """
    if name != AUTO:
        of_no_server(name, own)
        for found in survey.found:
            if found.dialect.id == name:
                return found
        spoken = ", ".join(found.dialect.id for found in survey.found) or "none"
        msg = f"{survey.place} has no lag metric of {name} in the last hour."
        raise NothingThere(
            msg, hint=f"Spoken there: {spoken}. Without --prometheus its rules are written anyway."
        )
    if survey.found:
        return survey.found[0]
    mute = (
        f" {' and '.join(survey.mute)} writes there, and not one consumer group."
        if survey.mute
        else ""
    )
    msg = (
        f"{survey.place} has had no lag metric in the last hour, so there is nothing to write a "
        f"rule on.{mute}"
    )
    hint = (
        f"Looked for {', '.join(survey.looked_for)}. Deploy a lag exporter, map your own in a "
        "[[dialects]] table of lagkit.toml, or name one with --dialect and without --prometheus."
    )
    raise NothingThere(msg, hint=hint)


def remarks(found: Found, survey: Survey, wishes: Wishes) -> list[str]:
    """Return what a person should know before these rules are loaded on the server of *survey*."""
    lines = [f"{survey.place}: {found.dialect.title}, {plural(len(survey.groups), 'group')}"]
    others = [one.dialect.id for one in survey.found if one.dialect.id != found.dialect.id]
    if others:
        lines.append(f"also there, and not used: {', '.join(others)} (--dialect takes one)")
    lines += [f"up, and tells no consumer group: {title}" for title in survey.mute]
    if survey.cluster_labels:
        lines.append(f"clusters are told apart by {', '.join(survey.cluster_labels)}")
    strangers = sorted(set(wishes.expected) - set(survey.groups))
    if strangers and found is survey.found[0]:
        names = ", ".join(printable(name, limit=100) for name in strangers)
        lines.append(f"no such group there now, so LagMetricsMissing will fire: {names}")
    if survey.kept_seconds is not None and survey.kept_seconds < wishes.rungs[-1]:
        lines.append(
            f"the server keeps {duration(survey.kept_seconds)}, so an age of "
            f"{duration(wishes.rungs[-1])} will not be seen"
        )
    return lines

"""Which dialects the metric names of a server tell."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from lagkit.sources.dialects.dialect import Dialect, Found
from lagkit.sources.dialects.lag_exporters import DIALECTS


def detect(names: Collection[str], dialects: Sequence[Dialect] = DIALECTS) -> tuple[Found, ...]:
    """Return the dialects spoken by *names*, in order of detection."""
    known = frozenset(names)
    found = []
    for dialect in dialects:
        matches = [re.fullmatch(dialect.detect, name) for name in sorted(known)]
        prefixes = {match.groupdict().get("prefix", "") for match in matches if match}
        for prefix in sorted(prefixes):
            spoken = Found(dialect, prefix, known)
            if dialect.needs and not spoken.present(dialect.needs):
                continue
            if spoken.present(dialect.excludes):
                continue
            found.append(spoken)
    ids = {spoken.dialect.id for spoken in found}
    return tuple(
        spoken
        for spoken in found
        if spoken.dialect.yields_to not in ids or spoken.present(spoken.dialect.proof)
    )


def silent(names: Collection[str], dialects: Sequence[Dialect] = DIALECTS) -> tuple[str, ...]:
    """Return the titles of exporters that write log offsets to *names* and no group at all."""
    titles = [
        dialect.title
        for dialect in dialects
        for pattern in dialect.log_end
        if any(
            re.fullmatch(re.escape(pattern).replace(r"\{prefix\}", ".*"), name) for name in names
        )
    ]
    return tuple(dict.fromkeys(titles))


def looked_for(dialects: Sequence[Dialect] = DIALECTS) -> tuple[str, ...]:
    """Return, for a person, the metric names that would have told a dialect."""
    return tuple(
        dict.fromkeys(
            name.replace("{prefix}", "*_")
            for dialect in dialects
            for name in getattr(dialect, dialect.groups_from)
        )
    )


def asked_for(dialects: Sequence[Dialect]) -> str:
    """Return a PromQL pattern of every metric name that any of *dialects* may use."""
    fields = (
        "lag",
        "committed",
        "log_end",
        "log_start",
        "lag_seconds",
        "lag_by_topic",
        "committed_by_topic",
        "lag_by_group",
        "members",
        "knows",
    )
    names = {name for dialect in dialects for each in fields for name in getattr(dialect, each)}
    names |= {dialect.state.name for dialect in dialects if dialect.state}
    # what has kafka or redpanda in it is asked for in any case
    rest = sorted(name for name in names if not re.search("kafka|redpanda", name))
    return "|".join([".*(kafka|redpanda).*", *(re.escape(name) for name in rest)])

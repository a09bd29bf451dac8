"""A user's own exporter: a ``[[dialects]]`` table of lagkit.toml as a :class:`Dialect`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lagkit.errors import UsageError
from lagkit.sources.dialects.dialect import Dialect
from lagkit.sources.dialects.lag_exporters import DIALECTS
from lagkit.sources.dialects.promql import joined, matcher

if TYPE_CHECKING:
    from lagkit.config import OwnDialect


def own_dialects(tables: Iterable[OwnDialect]) -> tuple[Dialect, ...]:
    """Return the user's mappings as dialects, in the order of the file.

    Raises
    ------
    UsageError
        An id is taken by a dialect that lagkit knows.
    """
    known = {dialect.id for dialect in DIALECTS}
    given = tuple(tables)
    if taken := sorted(known & {table.id for table in given}):
        msg = f"The [[dialects]] table {', '.join(taken)} has the id of an exporter lagkit knows."
        raise UsageError(msg, hint=f"Give it another id; taken are {', '.join(sorted(known))}.")
    return tuple(_dialect(table) for table in given)


def _dialect(table: OwnDialect) -> Dialect:
    concepts = {
        "lag": table.lag,
        "committed": table.committed,
        "log_end": table.log_end,
        "log_start": table.log_start,
        "lag_seconds": table.lag_seconds,
        "members": table.members,
    }
    told_by = table.lag or table.committed
    return Dialect(
        id=table.id,
        title=table.title or table.id,
        detect=re.escape(str(told_by)),
        group=table.group,
        topic=table.topic,
        partition=table.partition,
        where=joined(*(matcher(label, [value]) for label, value in sorted(table.where.items()))),
        factor=dict(table.factor),
        end_from_lag=table.log_end is None,
        zero_lag_without_commit=table.zero_lag_without_commit,
        **{field: (name,) for field, name in concepts.items() if name},  # type: ignore[arg-type]
    )

"""What is left of an incident when the suspects' words are taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from lagkit.model import Suspicion

if TYPE_CHECKING:
    from lagkit.incident import Incident

Forget = Callable[[pd.DataFrame, Suspicion], pd.DataFrame]


def believed(incident: Incident, found: Iterable[Suspicion]) -> Incident:
    """Return *incident* without what the suspects said while they are suspected.

    A false zero is unknown; after values froze, nothing of that exporter counts; a member count of
    a group that it cannot see is unknown. What Kafka itself said stays.
    """
    tables = dict(incident.tables)
    for suspicion in found:
        for name, forget in _FORGET.get(suspicion.kind, {}).items():
            if name in tables:
                tables[name] = forget(tables[name], suspicion)
    return replace(incident, tables=tables)


def _within(table: pd.DataFrame, suspicion: Suspicion) -> pd.Series[bool]:
    inside = table["timestamp"] >= suspicion.since
    return inside if suspicion.until is None else inside & (table["timestamp"] <= suspicion.until)


def _without_rows_after(table: pd.DataFrame, suspicion: Suspicion) -> pd.DataFrame:
    """Drop what came later than ``since``: the last value that was read is still true."""
    return table.loc[~(table["timestamp"] > suspicion.since)].reset_index(drop=True)


def _without_rows_within(table: pd.DataFrame, suspicion: Suspicion) -> pd.DataFrame:
    return table.loc[~_within(table, suspicion)].reset_index(drop=True)


def _without_brokers_after(table: pd.DataFrame, suspicion: Suspicion) -> pd.DataFrame:
    addresses = suspicion.instance.rpartition(" at ")[2].split(", ")
    wrong = (table["timestamp"] > suspicion.since) & table["instance"].isin(addresses)
    return table.loc[~wrong].reset_index(drop=True)


def _without_zeros(column: str) -> Forget:
    def forget(table: pd.DataFrame, suspicion: Suspicion) -> pd.DataFrame:
        wrong = _within(table, suspicion) & (table[column] == 0)
        return table.assign(**{column: table[column].mask(wrong)})

    return forget


_FORGET: Mapping[str, Mapping[str, Forget]] = {
    # of the group itself ``lagkit.flow.clean_offsets`` takes such zeros out one by one
    "false_zero": {"neighbours": _without_zeros("lag_messages")},
    "frozen": {
        "offsets": _without_rows_after,
        "neighbours": _without_rows_after,
        "group_history": _without_rows_after,
        "broker_metrics": _without_brokers_after,
    },
    "contradicted": {"offsets": _without_rows_within, "neighbours": _without_rows_within},
    "members_unseen": {"group_history": _without_zeros("member_count")},
}

"""The labelled incidents that are scored, and the copies of them with something taken away.

A case is an incident file and the label that lies sealed beside it. Knows where they are and how to
spoil one; knows no metric and no ranking.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import lagkit as lk
from lab.processes import LabError
from lagkit import frames
from lagkit.model import SourceReport

SOURCES = ("prometheus", "kafka", "kubernetes", "downstream")
COARSE_SECONDS = 60
GAP_SHARE = 0.2
GAP_STEPS = 6
"""Scrapes that a gap takes away on the average: gaps come in runs, not as single samples."""
SKEW = pd.Timedelta("5min")


@dataclass(frozen=True)
class Case:
    """One labelled incident."""

    name: str
    file: Path
    label: Mapping[str, Any]

    @property
    def split(self) -> str:
        """dev, calibration or test."""
        return str(self.label["split"])

    @property
    def primary(self) -> str:
        """The cause to name."""
        return str(self.label["primary"])

    @property
    def active(self) -> frozenset[str]:
        """Every cause at work."""
        return frozenset(self.label["active"])

    @property
    def onset(self) -> pd.Timestamp | None:
        """When the primary cause began by the injector's clock; None where nothing did."""
        at = self.label["onsets"].get(self.primary)
        return None if at is None else pd.Timestamp(at)

    @cached_property
    def incident(self) -> lk.Incident:
        """The incident as captured."""
        return lk.open(self.file)


def load(folder: Path) -> list[Case]:
    """Return the cases of a corpus, by name.

    Raises:
        LabError: a label has no incident or is not that incident's; nothing is scored then.
    """
    import hashlib

    cases = []
    for sealed in sorted((folder / "labels").glob("*.json")):
        label = json.loads(sealed.read_text(encoding="utf-8"))
        file = folder / f"{sealed.stem}.lagkit"
        if not file.is_file():
            raise LabError(f"{sealed.name} has no incident beside it")
        if hashlib.sha256(file.read_bytes()).hexdigest() != label["sha256"]:
            raise LabError(f"{file.name} is not the incident that {sealed.name} was sealed for")
        cases.append(Case(sealed.stem, file, label))
    if not cases:
        raise LabError(f"{folder} holds no labelled incident")
    return cases


# -- something taken away ---------------------------------------------------------------------

Spoil = Callable[[lk.Incident], lk.Incident]


def without(source: str) -> Spoil:
    """Return what takes a source away, as if it had not answered."""

    def spoil(incident: lk.Incident) -> lk.Incident:
        kept = {
            name: frames.empty(name) if frames.FRAMES[name].source == source else table
            for name, table in incident.tables.items()
        }
        gone = SourceReport("unavailable", "taken away.", 0.0)
        return dataclasses.replace(
            incident, tables=kept, sources={**incident.sources, source: gone}
        )

    return spoil


def coarse(incident: lk.Incident) -> lk.Incident:
    """Return the incident as scraped once a minute."""

    def thin(table: pd.DataFrame) -> pd.DataFrame:
        seconds = table["timestamp"].astype("int64") // 10**6
        last = seconds.groupby(seconds // COARSE_SECONDS).transform("max")
        return table.loc[seconds == last].reset_index(drop=True)

    return _sampled(incident, thin)


def gappy(incident: lk.Incident) -> lk.Incident:
    """Return the incident with a fifth of its scrapes lost, in runs, the same ones each time."""
    chooser = np.random.default_rng(int.from_bytes(incident.id.encode()[-8:], "little"))
    times = np.sort(incident.offsets["timestamp"].unique())
    lost = np.zeros(len(times), dtype=bool)
    while len(times) and lost.mean() < GAP_SHARE:
        first = int(chooser.integers(0, len(times)))
        lost[first : first + 1 + int(chooser.poisson(GAP_STEPS - 1))] = True
    gone = set(times[lost])
    return _sampled(
        incident,
        lambda table: table.loc[~table["timestamp"].isin(gone)].reset_index(drop=True),
    )


def skewed(source: str) -> Spoil:
    """Return what sets a source's clock five minutes ahead of the others."""

    def spoil(incident: lk.Incident) -> lk.Incident:
        def ahead(name: str, table: pd.DataFrame) -> pd.DataFrame:
            if frames.FRAMES[name].source != source:
                return table
            times = [c.name for c in frames.FRAMES[name].columns if c.dtype == frames.TIME]
            return table.assign(**{column: table[column] + SKEW for column in times})

        return dataclasses.replace(
            incident, tables={name: ahead(name, t) for name, t in incident.tables.items()}
        )

    return spoil


def _sampled(incident: lk.Incident, change: Callable[[pd.DataFrame], pd.DataFrame]) -> lk.Incident:
    """Return the incident with what Prometheus scraped changed."""
    tables = {
        name: change(table) if frames.FRAMES[name].source == "prometheus" and len(table) else table
        for name, table in incident.tables.items()
    }
    return dataclasses.replace(incident, tables=tables)


DEGRADED: Mapping[str, Spoil] = {
    **{f"without {source}": without(source) for source in SOURCES},
    "scraped once a minute": coarse,
    "a fifth of the scrapes lost": gappy,
    **{f"{source}'s clock 5 min ahead": skewed(source) for source in SOURCES[:3]},
}

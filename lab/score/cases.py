"""The labelled incidents that are scored, and the copies of them with something taken away.

A case is an incident file and the label that lies sealed beside it. Knows where they are, which
labels may be read and how to spoil an incident; knows no metric and no ranking.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import lagkit as lk
from lab.incidents.manifest import FILE as MANIFEST
from lab.processes import LabError
from lagkit import clocks, frames
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
    def script(self) -> str:
        """The script it was made by; incidents of one script are alike."""
        return str(self.label.get("script") or self.name.rpartition(".")[0] or self.name)

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


def load(folder: Path, splits: Collection[str]) -> list[Case]:
    """Return the cases of *splits*, by name. A label of another split is not opened.

    Which split a name belongs to stands in the corpus's manifest, else in the script it was made
    by; only of a name that neither knows is the label itself asked.

    Raises:
        LabError: a file is not the one that the manifest or its label was sealed for, or there is
            none; nothing is scored then.
    """
    listed = _manifest(folder)
    by_script = _splits_of_scripts()
    names = sorted({*listed, *(path.stem for path in (folder / "labels").glob("*.json"))})
    cases = []
    for name in names:
        entry = listed.get(name)
        if listed and entry is None:
            raise LabError(f"{name} is not in {folder / MANIFEST}")
        split = str(entry["split"]) if entry else by_script.get(name.rpartition(".")[0])
        if split is not None and split not in splits:
            continue
        case = _case(folder, name, entry)
        if split is not None and case.split != split:
            raise LabError(f"{name} was made for {split}, and its label says {case.split}")
        if case.split in splits:
            cases.append(case)
    if not names:
        raise LabError(f"{folder} holds no labelled incident")
    return cases


def _case(folder: Path, name: str, entry: Mapping[str, Any] | None) -> Case:
    sealed, file = folder / "labels" / f"{name}.json", folder / f"{name}.lagkit"
    for path in (file, sealed):
        if not path.is_file():
            raise LabError(f"{name}: there is no {path}")
    found, text = hashlib.sha256(file.read_bytes()).hexdigest(), sealed.read_bytes()
    label = json.loads(text)
    if found != label["sha256"]:
        raise LabError(f"{file.name} is not the incident that {sealed.name} was sealed for")
    if entry is not None:
        for path, own, wanted in (
            (file, found, entry["incident_sha256"]),
            (sealed, hashlib.sha256(text).hexdigest(), entry["label_sha256"]),
        ):
            if own != wanted:
                raise LabError(f"{path.name} is not the file that {MANIFEST} was written for")
    return Case(name, file, label)


def _manifest(folder: Path) -> dict[str, Mapping[str, Any]]:
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    told = json.loads(path.read_text(encoding="utf-8"))["incidents"]
    return {str(entry["name"]): entry for entry in told}


def _splits_of_scripts() -> dict[str, str]:
    from lab.incidents.script import load as scripts

    return {name: script.split for name, script in scripts().items()}


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
    """Return what sets a source's clock five minutes ahead of the others.

    Its Date headers are ahead too: where lagkit measured the clock, it measures that.
    """

    def spoil(incident: lk.Incident) -> lk.Incident:
        facts = {name: dict(told) for name, told in incident.facts.items()}
        if clocks.FACT in facts.get(source, {}):
            measured = float(facts[source][clocks.FACT]) + SKEW.total_seconds()
            facts[source][clocks.FACT] = f"{measured:.1f}"

        def ahead(name: str, table: pd.DataFrame) -> pd.DataFrame:
            if frames.FRAMES[name].source != source:
                return table
            ours = clocks.OURS.get(source, {}).get(name, frozenset())
            times = [
                column.name
                for column in frames.FRAMES[name].columns
                if column.dtype == frames.TIME and column.name not in ours
            ]
            return table.assign(**{column: table[column] + SKEW for column in times})

        tables = {name: ahead(name, t) for name, t in incident.tables.items()}
        return dataclasses.replace(incident, tables=tables, facts=facts)

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

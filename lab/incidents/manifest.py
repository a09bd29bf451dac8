"""What a corpus holds: its manifest, the check of it, and packing its files again.

The manifest is made of what lies there: labels, and the incident files' own descriptions. Versions,
and the hash of the script an incident was made by, are those of the day it was entered; they stay
for as long as that recording does. Knows no metric and no verdict, and says of a label only whether
it is sealed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import io
import json
import re
import tomllib
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lab import install
from lab.incidents import script
from lab.processes import LabError
from lab.prometheus import DIALECTS
from lagkit import frames
from lagkit.disk import write_whole
from lagkit.errors import NothingThere
from lagkit.incident import Incident, open_incident

FORMAT = "lagkit.corpus/1"
FILE = "manifest.json"
LABELS = "labels"
RELAY = "the lab's relay"
WRITER = "lagkit capture"
REPACKED = "lagkit capture, repacked by the same writer"
NOT_OF_THE_INCIDENT = ("seeds", "summary")
"""Keys of a script that change nothing in an incident made by it."""
EARLIER = "earlier_sha256"
"""Key of a label: the hashes of the same incident as it was captured, and packed before."""
KEPT = ("script_sha256", "versions")
"""Of the day an incident was entered; what the checkout says today may be something else."""

Entry = dict[str, Any]


def write(folder: Path) -> Path:
    """Write the manifest of what lies in *folder* and return its path.

    Raises:
        LabError: a label has no incident, or is not sealed for the one beside it.
    """
    before = (
        {entry["name"]: entry for entry in _read(folder)["incidents"]} if _there(folder) else {}
    )
    entries = []
    for name in _names(folder):
        entry = _entry(folder, name)
        known = before.get(name)
        if known is not None and known.get("started") == entry["started"]:
            entry |= {key: known[key] for key in KEPT if known.get(key)}
        entries.append(entry)
    told = {"format": FORMAT, "splits": _splits(entries), "incidents": entries}
    return write_whole(folder / FILE, _text(told).encode())


def check(folder: Path) -> list[str]:
    """Return a line for each thing in *folder* that is not as its manifest says."""
    try:
        told = _read(folder)
    except LabError as error:
        return [str(error)]
    entries = told["incidents"]
    names = [entry["name"] for entry in entries]
    wrong = [f"{name} is in the manifest twice" for name, n in Counter(names).items() if n > 1]
    held = {*_names(folder), *(path.stem for path in folder.glob("*.lagkit"))}
    wrong += [f"{name} is not in the manifest" for name in sorted(held - set(names))]
    for entry in entries:
        wrong += [f"{entry['name']}: {what}" for what in _wrong(folder, entry)]
    if told.get("splits") != _splits(entries):
        wrong.append("the hashes of the splits are not those of their labels")
    return wrong


def repack(folder: Path) -> list[tuple[str, int, int]]:
    """Write each incident of *folder* anew, seal its label again, and write the manifest.

    Returns the name, and the bytes before and after, of each. A run that was ended is taken up
    where it stood.

    Raises:
        LabError: there is none, or one is not what its label was sealed for, or would not be the
            same when it is read again; nothing is written of that one.
    """
    done = []
    if not (names := _names(folder)):
        raise LabError(f"{folder} holds no labelled incident")
    for name in names:
        file, label = folder / f"{name}.lagkit", _label(folder, name)
        before = _bytes(file)
        sha256 = hashlib.sha256(before).hexdigest()
        earlier = label.get(EARLIER, [])
        if sha256 not in (label["sha256"], *earlier):
            raise LabError(f"{file.name} is not the incident that its label was sealed for")
        incident = _opened(file)
        after = incident.to_bytes()
        if lost := difference(before, after):
            raise LabError(f"{file.name} would not be the same: {lost}")
        if after != before:
            label["sha256"] = hashlib.sha256(after).hexdigest()
            label[EARLIER] = [*earlier, *({sha256} - set(earlier))]
            label["written_by"] = REPACKED
            # the label first: it names both files, so to be ended between the two harms nothing
            write_whole(folder / LABELS / f"{name}.json", _text(label).encode())
            saved = incident.save(file)
            if lost := _unequal(incident, _opened(saved)):
                raise LabError(f"{file.name} is not the same any more: {lost}")
        done.append((name, len(before), len(after)))
    write(folder)
    return done


def _opened(file: Path) -> Incident:
    try:
        return open_incident(file)
    except NothingThere as error:
        raise LabError(str(error)) from None


def difference(before: bytes, after: bytes) -> str:
    """Return the first thing two incident files do not say alike; empty if there is none.

    Both are read as zip, JSON and Parquet, not by lagkit's own reader, which leaves out what it
    does not know.
    """
    with zipfile.ZipFile(io.BytesIO(before)) as old, zipfile.ZipFile(io.BytesIO(after)) as new:
        told, again = (json.loads(archive.read("incident.json")) for archive in (old, new))
        for key in sorted({*told, *again} - {"frames", "runbook"}):
            if told.get(key) != again.get(key):
                return f"{key} of its description"
        if unlike := _unlike(told["runbook"], again["runbook"]):
            return f"{unlike} of its runbook"
        rows = {name: frame["rows"] for name, frame in told["frames"].items() if frame["rows"]}
        if rows != {name: frame["rows"] for name, frame in again["frames"].items()}:
            return "the frames with rows"
        for name in rows:
            was, now = (
                pd.read_parquet(io.BytesIO(archive.read(f"{name}.parquet")))
                for archive in (old, new)
            )
            if unlike := _other_values(was, now):
                return f"{unlike} of the frame {name}"
    return ""


def _other_values(was: pd.DataFrame, now: pd.DataFrame) -> str:
    added = [column for column in now.columns if column not in was.columns]
    if filled := [column for column in added if now[column].notna().any()]:
        return f"the column {filled[0]}"
    try:
        pd.testing.assert_frame_equal(was, now.drop(columns=added), check_exact=True)
    except (AssertionError, KeyError) as error:
        return " ".join(str(error).split())[:200]
    return ""


def _unlike(told: Any, again: Any) -> str:
    """Return where *again* lacks or changes something of *told*; it may say more."""
    if isinstance(told, Mapping) and isinstance(again, Mapping):
        for key, value in told.items():
            if key not in again:
                return str(key)
            if deeper := _unlike(value, again[key]):
                return f"{key}.{deeper}" if isinstance(value, Mapping) else str(key)
        return ""
    if isinstance(told, list) and isinstance(again, list) and len(told) == len(again):
        return next(filter(None, map(_unlike, told, again)), "")
    return "" if told == again else "the value"


def _unequal(incident: Incident, again: Incident) -> str:
    for name in frames.FRAMES:
        if not getattr(incident, name).equals(getattr(again, name)):
            return f"the frame {name}"
    fields = sorted({*vars(incident)} - {"tables"})
    return next((f for f in fields if getattr(incident, f) != getattr(again, f)), "")


# -- what is entered ----------------------------------------------------------------------------


def _entry(folder: Path, name: str) -> Entry:
    """Return what the manifest says of one incident."""
    file, label = folder / f"{name}.lagkit", _label(folder, name)
    content = _bytes(file)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != label.get("sha256"):
        raise LabError(f"{file.name} is not the incident that its label was sealed for")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            facts = json.loads(archive.read("incident.json"))["facts"]
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise LabError(f"{file.name} is no incident file: {error}") from None
    scraped = facts.get("prometheus", {}).get("scrape_interval_seconds")
    return {
        "name": name,
        "script": label["script"],
        "seed": label["seed"],
        "split": label["split"],
        "dialect": label["dialect"],
        "exporter": label.get("exporter"),
        "client": label.get("workload", {}).get("client"),
        "scrape_seconds": label.get("scrape_seconds", float(scraped) if scraped else None),
        "distractors": label.get("distractors"),
        "written_by": label.get("written_by", WRITER),
        "started": label["started"],
        "made": label["ended"],
        "bytes": len(content),
        "incident_sha256": sha256,
        "label_sha256": hashlib.sha256(_bytes(_sealed(folder, name))).hexdigest(),
        "script_sha256": _script_sha256(label),
        "versions": _versions(label, facts),
    }


def _versions(label: Mapping[str, Any], facts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what ran: by the incident where it tells, else by the lab's own pins."""
    return {
        "lagkit": label["lagkit_version"],
        "kafka": install.KAFKA_VERSION,
        "kafka_python": importlib.metadata.version("kafka-python"),
        "librdkafka": facts.get("kafka", {}).get("librdkafka"),
        "prometheus": facts.get("prometheus", {}).get("server_version"),
        "kubernetes": facts.get("kubernetes", {}).get("server_version"),
        "toxiproxy": install.TOXIPROXY_VERSION,
        "exporter": {"otel": _collector(), "klag": f"klag-exporter {install.KLAG_VERSION}"}.get(
            label["dialect"], RELAY
        ),
    }


def _collector() -> str:
    told = (install.HERE / "otelcol" / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"/(kafkametricsreceiver) (v\S+)", told)
    return " ".join(found.groups()) if found else "kafkametricsreceiver"


@functools.cache
def script_hashes() -> Mapping[str, str]:
    """Return a hash of each script by its id: of what decides an incident, as it is written."""
    hashes = {}
    for file in sorted(script.FOLDER.glob("*.toml")):
        for told in tomllib.loads(file.read_text(encoding="utf-8"))["script"]:
            kept = {key: value for key, value in told.items() if key not in NOT_OF_THE_INCIDENT}
            text = json.dumps(kept, sort_keys=True)
            hashes[f"{file.stem}.{told['name']}"] = hashlib.sha256(text.encode()).hexdigest()
    return hashes


@functools.cache
def _scripts() -> Mapping[str, script.Script]:
    return script.load()


def _script_sha256(label: Mapping[str, Any]) -> str | None:
    """Return the hash of the script as it is now, or None: it would not make this incident."""
    if label["script"] not in _scripts() or _drawn_otherwise(label):
        return None
    return script_hashes()[label["script"]]


def _drawn_otherwise(label: Mapping[str, Any]) -> list[str]:
    """Return what the label's script and seed would now put into the label in other words."""
    made_by = _scripts()[label["script"]]
    drawn = script.draw(made_by, label["seed"], DIALECTS)
    now = {
        "split": made_by.split,
        "primary": made_by.primary,
        "active": list(made_by.active),
        "evidence": list(made_by.evidence),
        "distractors": list(drawn.distractors),
        "values": drawn.values,  # noqa: PD011 - what was drawn
        "dialect": drawn.dialect,
    }
    other = [key for key in now if key in label and label[key] != now[key]]
    try:
        # a workload may have got more to say since
        workload = script.Workload(**label.get("workload", {}))
    except ValueError:
        workload = None
    return other if workload == drawn.workload else [*other, "workload"]


def _splits(entries: list[Entry]) -> dict[str, Any]:
    """Return of each split how many incidents it has, and one hash over its labels' hashes."""
    return {
        split: {
            "incidents": len(labels),
            "labels_sha256": hashlib.sha256("\n".join(sorted(labels)).encode()).hexdigest(),
        }
        for split in script.SPLITS
        if (labels := [entry["label_sha256"] for entry in entries if entry["split"] == split])
    }


# -- what is wrong ------------------------------------------------------------------------------


def _wrong(folder: Path, entry: Entry) -> list[str]:
    name, scripts = entry["name"], _scripts()
    try:
        found = _entry(folder, name)
    except LabError as error:
        return [str(error)]
    wrong = [
        f"the manifest says {key} {entry.get(key)!r}, the files say {found[key]!r}"
        for key in found
        if key not in KEPT and entry.get(key) != found[key]
    ]
    if name != f"{found['script']}.{found['seed']}":
        wrong.append(f"its label is of {found['script']}.{found['seed']}")
    if found["script"] not in scripts:
        wrong.append(f"there is no script {found['script']} any more")
    elif found["split"] != scripts[found["script"]].split:
        wrong.append(
            f"it is labelled {found['split']}, and its script is of the split "
            f"{scripts[found['script']].split}"
        )
    elif differs := _drawn_otherwise(_label(folder, name)):
        wrong.append(
            f"it was made by an earlier form of the script {found['script']}: "
            f"{', '.join(differs)} would now be another"
        )
    elif entry.get("script_sha256") != script_hashes()[found["script"]]:
        wrong.append(f"the script {found['script']} has changed since it was made")
    return wrong


# -- files --------------------------------------------------------------------------------------


def _there(folder: Path) -> bool:
    return (folder / FILE).is_file()


def _read(folder: Path) -> dict[str, Any]:
    if not _there(folder):
        raise LabError(f"{folder} has no {FILE}. To do: python -m lab corpus --repack {folder}")
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise LabError(f"{folder / FILE} is of the format {told['format']!r}, not {FORMAT!r}")
        if not all(isinstance(entry["name"], str) for entry in told["incidents"]):
            raise LabError(f"{folder / FILE} has an incident whose name is no text")
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(f"{folder / FILE} is no manifest: {type(error).__name__}: {error}") from None
    return dict(told)


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / LABELS).glob("*.json"))


def _sealed(folder: Path, name: str) -> Path:
    return folder / LABELS / f"{name}.json"


def _label(folder: Path, name: str) -> dict[str, Any]:
    sealed = _sealed(folder, name)
    try:
        told = json.loads(_bytes(sealed))
        missing = {"script", "seed", "split", "dialect", "started", "ended", "sha256"} - set(told)
    except (TypeError, ValueError) as error:
        raise LabError(f"{sealed.name} is no label: {error}") from None
    if missing:
        raise LabError(f"{sealed.name} is no label: it has no {', '.join(sorted(missing))}")
    return dict(told)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LabError(f"there is no {path.name}") from None
    except OSError as error:
        raise LabError(f"{path.name} cannot be read: {error.strerror}") from None


def _text(told: Any) -> str:
    return json.dumps(told, indent=1, sort_keys=True) + "\n"

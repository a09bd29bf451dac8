"""Earlier incidents that look like this one, by signature.

A signature is what a verdict saw and what it made of it: the kinds of evidence that were present,
each with the greatest weight it carries, and the probability of every cause. Likeness is the mean
of two shares: weighted Jaccard of the evidence, and overlap of the two rankings. Names of groups
and topics take no part: the same fault elsewhere is worth knowing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lagkit.errors import LagkitError, NothingThere, UsageError
from lagkit.folders import INCIDENT_SUFFIX
from lagkit.investigation import Result, investigate
from lagkit.model import plain
from lagkit.postmortem.model import Lookalike, Similar
from lagkit.wording import printable

FORMAT = "lagkit.signatures/1"
NEAREST = 3
LEAST_LIKENESS = 0.25
"""Less than this in common is not worth a reader's time."""
MOST_FILES = 2000
MOST_UNREADABLE = 10

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Signature:
    """What of an incident can be compared."""

    id: str
    group: str
    start: str
    cause: str
    title: str
    evidence: Mapping[str, float]
    """Kind of evidence → its greatest weight in nats, for or against any cause."""
    causes: Mapping[str, float]
    file: str = ""


@dataclass(frozen=True, slots=True)
class Signatures:
    """The signatures of a folder, and which files had none."""

    files: int
    signatures: tuple[Signature, ...]
    unreadable: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """Return them as the file that the notebook reads."""
        content = {"format": FORMAT, **plain(self)}
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def signature(result: Result, file: str = "") -> Signature:
    """Return the signature of *result*."""
    verdict = result.verdict
    evidence: dict[str, float] = {}
    for finding in verdict.findings:
        weight = max((abs(value) for value in finding.weights.values()), default=0.0)
        evidence[finding.kind] = max(weight, evidence.get(finding.kind, 0.0))
    return Signature(
        verdict.incident.id,
        verdict.incident.group,
        pd.Timestamp(verdict.incident.start).isoformat(),
        verdict.verdict.cause,
        result.catalogue.cause(verdict.verdict.cause).title,
        plain(dict(sorted(evidence.items()))),
        plain({entry.cause: entry.probability for entry in verdict.ranking}),
        file,
    )


def likeness(one: Signature, other: Signature) -> tuple[float, float]:
    """Return how alike evidence and causes are, each from 0 to 1."""
    kinds = one.evidence.keys() | other.evidence.keys()
    pairs = [(one.evidence.get(kind, 0.0), other.evidence.get(kind, 0.0)) for kind in sorted(kinds)]
    most = sum(max(pair) for pair in pairs)
    evidence = sum(min(pair) for pair in pairs) / most if most else 0.0
    causes = one.causes.keys() | other.causes.keys()
    overlap = sum(min(one.causes.get(c, 0.0), other.causes.get(c, 0.0)) for c in sorted(causes))
    return evidence, min(1.0, overlap)


def read_folder(folder: Path, *, on_progress: Progress | None = None) -> Signatures:
    """Return the signatures of every incident file in *folder* and below.

    A file that is none is named and left out.

    Raises
    ------
    NothingThere
        There is no such folder, or no incident file in it.
    """
    from lagkit.incident import open_incident

    if not folder.is_dir():
        msg = f"--similar {folder} is no folder."
        raise NothingThere(msg, hint="Give the folder that holds earlier incident files.")
    files = sorted(folder.rglob(f"*{INCIDENT_SUFFIX}"))[:MOST_FILES]
    if not files:
        msg = f"--similar {folder} holds no incident file (*{INCIDENT_SUFFIX})."
        raise NothingThere(msg, hint="Incident files are made by `lagkit capture GROUP`.")
    found, unreadable = [], []
    for number, path in enumerate(files, start=1):
        if on_progress and (number == 1 or number % 10 == 0):
            on_progress(f"comparing with earlier incidents: {number} of {len(files)}")
        name = printable(path.relative_to(folder), limit=200)
        try:
            found.append(signature(investigate(open_incident(path)), name))
        except LagkitError:
            unreadable.append(name)
    return Signatures(len(files), tuple(found), tuple(unreadable[:MOST_UNREADABLE]))


def read_signatures(path: Path) -> Signatures:
    """Return the signatures that :meth:`Signatures.to_json` wrote.

    Raises
    ------
    UsageError
        The file is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError(FORMAT)
        return Signatures(
            content["files"],
            tuple(Signature(**one) for one in content["signatures"]),
            tuple(content["unreadable"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} holds no signatures of earlier incidents ({type(error).__name__})."
        raise UsageError(
            msg, hint="Leave it out, or run `lagkit postmortem --similar` again."
        ) from None


def nearest(own: Signature, known: Signatures | None, ids: Iterable[str]) -> Similar:
    """Return the earlier incidents nearest to *own*; *ids* are its own captures'."""
    if known is None:
        return Similar(asked=False)
    begin, mine = pd.Timestamp(own.start), set(ids)
    others = [one for one in known.signatures if one.id not in mine]
    earlier = [one for one in others if pd.Timestamp(one.start) < begin]
    scored = []
    for one in earlier:
        evidence, causes = likeness(own, one)
        scored.append((round((evidence + causes) / 2, 4), evidence, causes, one))
    scored.sort(key=lambda item: (-item[0], item[3].start, item[3].file))
    close = [item for item in scored if item[0] >= LEAST_LIKENESS][:NEAREST]
    return Similar(
        asked=True,
        files=known.files,
        compared=len(earlier),
        not_earlier=len(others) - len(earlier),
        unreadable=known.unreadable,
        nearest=tuple(
            Lookalike(
                one.id,
                one.group,
                pd.Timestamp(one.start),
                one.cause,
                one.title,
                whole,
                round(evidence, 4),
                round(causes, 4),
                _shared(own, one),
                one.file,
            )
            for whole, evidence, causes, one in close
        ),
    )


def _shared(own: Signature, other: Signature) -> tuple[str, ...]:
    both = own.evidence.keys() & other.evidence.keys()
    return tuple(
        sorted(both, key=lambda kind: (-min(own.evidence[kind], other.evidence[kind]), kind))
    )

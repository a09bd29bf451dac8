"""Action items of a capacity report, as candidates of a post-mortem that was bound by capacity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lagkit.errors import UsageError
from lagkit.postmortem.model import Candidate
from lagkit.wording import printable

FORMAT = "lagkit.capacity/1"
LONGEST = 400
"""Characters that are kept of a sentence: the report is another file, and may be anybody's."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a capacity report suggests, by consumer group; *content* is the file as it came."""

    content: bytes
    by_group: Mapping[str, tuple[Candidate, ...]]

    def of(self, group: str) -> tuple[Candidate, ...]:
        """Return the candidates for *group*."""
        return self.by_group.get(group, ())


def read_capacity(path: Path) -> Planned:
    """Return the action items of ``capacity.json``, or of the folder of a report that holds one.

    Raises
    ------
    UsageError
        The file is something else.
    """
    file = path / "capacity.json" if path.is_dir() else path
    try:
        content = file.read_bytes()
        answer = json.loads(content)
        if answer["schema"] != FORMAT:
            raise ValueError(answer["schema"])
        found: dict[str, tuple[Candidate, ...]] = {}
        for trend in answer["trends"]:
            group = str(trend["group"])
            items = tuple(_candidate(item) for item in trend["actions"])
            found[group] = (*found.get(group, ()), *items)
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{file} is no capacity.json of `lagkit capacity` ({type(error).__name__})."
        raise UsageError(msg, hint="Give the folder that `lagkit capacity --out` wrote.") from None
    return Planned(content, found)


def _candidate(item: Mapping[str, Any]) -> Candidate:
    def told(text: str) -> str:
        return printable(str(text), limit=LONGEST)

    due = item["due"]
    seen = "; ".join(str(line) for line in item["evidence"])
    return Candidate(
        id=f"capacity-{told(item['id'])}",
        type="prevent",
        action=told(item["title"]),
        done_when=told(item["done_when"]),
        evidence=f"capacity:{told(item['id'])}",
        because=told(f"{item['why']} ({seen})" if seen else item["why"]),
        priority="P2",
        priority_because="the incident was bound by capacity"
        + (f"; due by {told(due)[:10]}" if due else ""),
    )

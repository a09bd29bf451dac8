"""What people wrote into the Markdown, and how it comes through a run with new data.

Every section stands between two marks (comments that Markdown does not show) that carry a hash of
the text as it was made, so that an edit is seen without keeping the old file:

- a blank that was filled in is kept, always;
- a section of facts that nobody touched is made anew;
- one that was edited is kept while the data say what they said then;
- one that both people and data changed is a conflict: both texts are put down and it is named;
- what stands outside the marks, or belongs to a section that is no more, is kept where it was or at
  the end.

Knows marks and text; refuses to know what a section says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lagkit.errors import NothingThere, UsageError
from lagkit.wording import printable

MOST_BYTES = 8 * 1024**2
LEFTOVER = "kept"
"""Section of what has no place any more."""
_HEAD = "<!-- lagkit:postmortem/1 incident={} -->"
_MARK = re.compile(
    r"^[ \t]*<!--[ \t]*lagkit:(postmortem/1|facts|yours|conflict|end)"
    r"(?:[ \t]+(\S.*?))?[ \t]*-->[ \t]*$"
)
_NAME = re.compile(r"^([a-z0-9][a-z0-9_-]*)(?: data=([0-9a-f]{16}))?$")
_CONFLICT_NOTE = (
    "> **Conflict:** this section was edited by hand, and the data changed too. Above is what the "
    "data say now, below the edited text. Keep what is right, then delete this note with its two "
    "marks."
)


@dataclass(frozen=True, slots=True)
class Part:
    """One marked section as it stands in an edited file."""

    id: str
    kind: str
    text: str
    base: str
    """Hash of the text as lagkit made it."""
    line: int

    @property
    def touched(self) -> bool:
        """Whether somebody changed it."""
        return digest(self.text) != self.base


@dataclass(frozen=True, slots=True)
class Edited:
    """An edited file, taken apart."""

    incident: str
    parts: Mapping[str, Part]
    conflicts: Mapping[str, str]
    """Section → text of a conflict that was not settled yet."""
    loose: Mapping[str, str]
    """Section → what people wrote after it, outside any mark; "" for the top."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a section comes to: the made text, people's in its place, or both in conflict."""

    made: str
    people: str = ""
    """Replaces what was made; with *conflict* it stands below it."""
    conflict: bool = False
    after: str = ""
    """Loose text that follows."""
    base: str = ""


@dataclass(frozen=True, slots=True)
class Merged:
    """Every section's body, and what there is to say of the merge."""

    bodies: Mapping[str, Body]
    conflicts: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """Sections in which people's text stands."""
    restored: tuple[str, ...] = ()
    """Sections that had been deleted, and are there again."""
    leftover: str = ""
    """Text of sections that are no more."""
    top: str = ""

    @property
    def people(self) -> dict[str, str]:
        """What people wrote, by section."""
        own = {name: body.people for name, body in self.bodies.items() if body.people}
        own |= {f"after {name}": body.after for name, body in self.bodies.items() if body.after}
        if self.top:
            own["top"] = self.top
        if self.leftover:
            own[LEFTOVER] = self.leftover
        return own


@dataclass(frozen=True, slots=True)
class Made:
    """A section as the renderer made it, without its marks."""

    id: str
    kind: str
    text: str


@dataclass(slots=True)
class _Open:
    """A section whose end has not come yet."""

    kind: str
    id: str
    base: str
    line: int
    lines: list[str] = field(default_factory=list)


def digest(text: str) -> str:
    """Return the hash of *text*, blind to what editors change on their own: blanks at line ends."""
    return hashlib.sha256(_plain(text).encode()).hexdigest()[:16]


def _plain(text: str) -> str:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return "\n".join(lines).strip("\n")


def identity(incident: str) -> str:
    """Return what an incident is called in the first mark."""
    return hashlib.sha256(incident.encode()).hexdigest()[:16]


def read(path: Path) -> Edited:
    """Read an edited Markdown file.

    Raises
    ------
    NothingThere
        There is no such file.
    UsageError
        It is no post-mortem of lagkit's, or its marks are damaged; says where. Nothing is lost.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _refusal(path, "it is larger than a post-mortem can be")
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        msg = f"{path} cannot be merged: there is no such file."
        raise NothingThere(msg, hint="Give the postmortem.md that was edited.") from None
    except UnicodeDecodeError:
        raise _refusal(path, "it is not UTF-8 text") from None
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from None
    return parse(content, path)


def parse(content: str, path: Path) -> Edited:
    """Take the text of an edited file apart; *path* is for what is said of it."""
    incident = ""
    parts: dict[str, Part] = {}
    conflicts: dict[str, str] = {}
    loose: dict[str, list[str]] = {"": []}
    current: _Open | None = None
    last = ""
    for number, line in enumerate(_plain(content).split("\n"), start=1):
        match = _MARK.match(line)
        if match is None:
            (current.lines if current else loose.setdefault(last, [])).append(line)
            continue
        kind, rest = match[1], match[2] or ""
        if kind == "postmortem/1":
            incident = rest.removeprefix("incident=")
            continue
        named = _NAME.match(rest)
        if named is None:
            raise _damaged(path, number, f"the mark says {printable(rest, limit=60)!r}")
        if kind == "end":
            if current is None or current.id != named[1]:
                raise _damaged(path, number, f"the end of {named[1]} has no beginning")
            text = _plain("\n".join(current.lines))
            if current.kind == "conflict":
                conflicts[current.id] = _without_note(text)
            elif current.id in parts:
                raise _damaged(path, current.line, f"section {current.id} is there twice")
            else:
                parts[current.id] = Part(current.id, current.kind, text, current.base, current.line)
                last = current.id
            current = None
            continue
        if current is not None:
            raise _damaged(path, current.line, f"section {current.id} has no end")
        current = _Open(kind, named[1], named[2] or "", number)
    if current is not None:
        raise _damaged(path, current.line, f"section {current.id} has no end")
    if not incident or not parts:
        raise _refusal(path, "it holds none of the marks that lagkit writes into a post-mortem")
    kept = {name: _plain("\n".join(lines)) for name, lines in loose.items()}
    return Edited(incident, parts, conflicts, {name: text for name, text in kept.items() if text})


def _refusal(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} cannot be merged: {why}.",
        hint="It is left as it is. Give a postmortem.md written by `lagkit postmortem`.",
    )


def _damaged(path: Path, line: int, what: str) -> UsageError:
    return UsageError(
        f"{path} cannot be merged: line {line}: {what}.",
        hint="It is left as it is, and nothing was written. Mend the `<!-- lagkit:… -->` marks "
        "around that section, or copy its text elsewhere and delete it with its marks.",
    )


def _without_note(text: str) -> str:
    return _plain(text.removeprefix(_CONFLICT_NOTE))


def touched(edited: Edited) -> bool:
    """Whether people wrote anything into the file."""
    return bool(
        edited.conflicts or edited.loose or any(part.touched for part in edited.parts.values())
    )


def merge(made: Iterable[Made], edited: Edited | None) -> Merged:
    """Return what each section of *made* comes to with what people wrote."""
    sections = list(made)
    if edited is None:
        return Merged({one.id: Body(one.text, base=digest(one.text)) for one in sections})
    bodies: dict[str, Body] = {}
    conflicts, kept, restored = [], [], []
    for one in sections:
        part, base = edited.parts.get(one.id), digest(one.text)
        after = edited.loose.get(one.id, "")
        unsettled = edited.conflicts.get(one.id, "")
        people, conflict = "", False
        if part is None:
            restored.append(one.id)
        elif part.touched:
            people = part.text
            conflict = one.kind == "facts" and base != part.base and digest(part.text) != base
            if digest(part.text) == base:  # the data now say what somebody wrote
                people = ""
        if unsettled:
            people = "\n\n".join(filter(None, (people if conflict or people else "", unsettled)))
            conflict = True
        if people and conflict:
            conflicts.append(one.id)
        elif people:
            kept.append(one.id)
        bodies[one.id] = Body(one.text, people, conflict, after, base)
    gone = [part for name, part in edited.parts.items() if name not in bodies]
    names = {one.id for one in sections}
    lost = [part.text for part in gone if part.touched]
    lost += [text for name, text in edited.loose.items() if name and name not in names]
    lost += [text for name, text in edited.conflicts.items() if name not in names]
    leftover = "\n\n".join(lost)
    return Merged(
        bodies,
        tuple(conflicts),
        tuple(kept),
        tuple(restored),
        leftover,
        edited.loose.get("", ""),
    )


def assemble(made: Iterable[Made], merged: Merged, incident: str) -> str:
    """Return the whole Markdown file, every section between its marks."""
    parts = [_HEAD.format(identity(incident))]
    if merged.top:
        parts.append(merged.top)
    for one in made:
        body = merged.bodies[one.id]
        shown = body.made if body.conflict or not body.people else body.people
        parts.append(
            f"<!-- lagkit:{one.kind} {one.id} data={body.base} -->\n{shown}\n"
            f"<!-- lagkit:end {one.id} -->"
        )
        if body.conflict:
            parts.append(
                f"<!-- lagkit:conflict {one.id} -->\n{_CONFLICT_NOTE}\n\n{body.people}\n"
                f"<!-- lagkit:end {one.id} -->"
            )
        if body.after:
            parts.append(body.after)
    if merged.leftover:
        parts.append(merged.leftover)
    return "\n\n".join(parts) + "\n"

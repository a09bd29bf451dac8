"""Is a text free of blame? A linter over prose: systems, roles and pods, never a person.

It reads Markdown and leaves out what is quoted as code: a log line says "failed to" by right. Whole
words only, so "adjust" is not "just". That a name is a person's it cannot know; addresses and
mentions it does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

WORDS = {
    "should have": "hindsight: say what was known then",
    "could have": "hindsight: say what was known then",
    "would have been avoided": "hindsight: say what was known then",
    "if only": "hindsight: say what was known then",
    "failed to": "say what happened, and what made it likely",
    "forgot": "say what in the system did not remind",
    "neglected": "say what made the step easy to leave out",
    "negligent": "say what made the step easy to leave out",
    "careless": "say what made the step easy to get wrong",
    "carelessly": "say what made the step easy to get wrong",
    "human error": "an error is where the search begins: say what made it likely",
    "operator error": "an error is where the search begins: say what made it likely",
    "user error": "an error is where the search begins: say what made it likely",
    "mistake": "say what happened and why it looked right",
    "mistakenly": "say what happened and why it looked right",
    "obviously": "it was not, then",
    "clearly": "it was not, then",
    "simply": "it was not, then",
    "just": "it was not that easy, then",
    "blame": "a cause is never a person",
    "fault of": "a cause is never a person",
    "culprit": "a cause is never a person",
    "guilty": "a cause is never a person",
    "root cause": "there is seldom one: name contributing factors",
    "he": "name a role",
    "she": "name a role",
    "his": "name a role",
    "her": "name a role",
    "him": "name a role",
}
"""Words of blame and hindsight, and what to write instead (report.md 1.4)."""
_QUOTED = re.compile(r"(`+)(?:.(?!\1))*?.?\1|<!--.*?-->", re.DOTALL)
_FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
_PERSON = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?<![\w`])@[A-Za-z][\w-]+")
_WORDS = re.compile(
    r"\b(?:" + "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True)) + r")\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where a text may blame."""

    line: int
    words: str
    why: str

    def __str__(self) -> str:
        """Return it on one line."""
        return f"line {self.line}: “{self.words}”: {self.why}"


def faults(text: str) -> tuple[Fault, ...]:
    """Return where *text* (Markdown) may blame, in its order."""
    bare = _FENCE.sub(_blank, text)
    bare = _QUOTED.sub(_blank, bare)
    found = []
    for number, line in enumerate(bare.split("\n"), start=1):
        for match in _WORDS.finditer(line):
            found.append(Fault(number, match.group(), WORDS[match.group().lower()]))
        for match in _PERSON.finditer(line):
            found.append(Fault(number, match.group(), "names a person or an account: name a role"))
    return tuple(found)


def _blank(match: re.Match[str]) -> str:
    """Keep the lines, so that places stay what they are."""
    return "\n" * match.group().count("\n")

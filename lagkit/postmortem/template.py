"""``templates/postmortem.toml``: what people are asked, and the action items a cause suggests."""

from __future__ import annotations

import functools
import tomllib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from lagkit.postmortem.model import ActionType, Priority
from lagkit.resources import resource_path
from lagkit.runbook import Template as Text

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,60}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Blank(_Model):
    """Something that data cannot know: left visibly blank, with the question."""

    id: Id
    title: str
    prompt: str
    value: str = ""
    """What stands there until somebody changes it."""


class Suggestion(_Model):
    """An action item for a cause, if one of its kinds of evidence was seen."""

    cause: Id
    id: Id
    type: ActionType
    action: Text
    done_when: Text
    priority: Priority
    evidence: tuple[Id, ...]


class Template(_Model):
    """The whole file."""

    blanks: tuple[Blank, ...]
    candidates: tuple[Suggestion, ...]

    def blank(self, name: str) -> Blank:
        """Return the blank called *name*; KeyError if there is none."""
        for blank in self.blanks:
            if blank.id == name:
                return blank
        raise KeyError(name)


@functools.cache
def template() -> Template:
    """Return the shipped template."""
    text = resource_path("templates/postmortem.toml").read_text(encoding="utf-8")
    return Template.model_validate(tomllib.loads(text))

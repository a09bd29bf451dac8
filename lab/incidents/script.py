"""The format of an incident's script: what runs, what is done to it, and what that is called.

A script is data and is checked when it is read. Every number that could matter is drawn from a
range by a seed, so one script gives many incidents, and the same seed the same one. Where a step or
the workload says ``"$name"``, it takes what was drawn under ``name``.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lagkit import causes
from lagkit.errors import UsageError

FOLDER = Path(__file__).resolve().parent
SPLITS = ("dev", "calibration", "test")
CAUSE_IDS = frozenset(
    {*(cause.id for cause in (*causes.CORE, *causes.EXTENDED)), causes.UNKNOWN, causes.NONE}
)
DISTRACTORS = ("old_restart", "failing_neighbour", "other_topic_spike", "scaled_before", "noise")
SCRAPE_SECONDS = (5, 10, 15)
EXPORTER_LAG_SECONDS = 15.0
"""The exporters' last look at what was settled before is not of the incident ..."""
EXPORTER_POLL_SECONDS = 5.0
"""... nor is that look, when it is scraped one interval later."""
LEAST_SCRAPES = 8
"""Scrapes of the baseline: fewer are no baseline to compare with."""
LEAST_HELD_SCRAPES = 6
"""Scrapes of the fault: fewer show it as a few points that may be anything."""
DISTRACTED_SHARE = 0.6
"""Of the incidents that get one or two distractors: more than the half that is asked for."""
ROUND = 3
"""Decimals of a drawn number: what is drawn is also what is written into the label."""

Value = float | int | str | bool
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Data):
    """A number between two others, a whole one if both are whole."""

    low: int | float
    high: int | float

    def draw(self, chooser: random.Random) -> Value:
        """Return a number of the range."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return chooser.randint(self.low, self.high)
        return round(chooser.uniform(self.low, self.high), ROUND)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            msg = f"low {self.low} is above high {self.high}"
            raise ValueError(msg)
        return self


class Choice(_Data):
    """One of several values."""

    choose: tuple[Value, ...] = Field(min_length=1)

    def draw(self, chooser: random.Random) -> Value:
        """Return one of them."""
        return chooser.choice(self.choose)


class Step(_Data):
    """One thing done to the stack, *after* so many seconds from the first."""

    do: Name
    after: Value = 0
    begins: str = ""
    """The cause that is active from here on."""
    options: dict[str, Any] = Field(default_factory=dict, alias="with")


class Workload(_Data):
    """What runs before anything is broken."""

    replicas: Value = 3
    rate: Value = 1.0
    """Times the usual production."""
    client: Value = "confluent"
    cpu_percent: Value = 0
    """Of one core that each worker may use from the beginning; 0: no limit."""
    environment: dict[str, Value] = Field(default_factory=dict)
    """Of the workers; see ``lab.workload.consumer``."""


class Script(_Data):
    """One kind of incident and its truth."""

    name: Name
    family: Name = "none"
    """The file it stands in; set by :func:`load`."""
    summary: str
    primary: str
    contributing: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    """Kinds of evidence a diagnosis of the primary cause should cite, any of them."""
    split: Literal["dev", "calibration", "test"]
    seeds: int = Field(4, ge=1)
    """Incidents that the corpus holds of it."""
    nodes: int = 1
    """Brokers it needs."""
    needs: tuple[Literal["names", "logins"], ...] = ()
    """What else its brokers must have; see ``lab.stack``."""
    dialects: tuple[str, ...] = ()
    """Exporters through which it must be seen; empty: any."""
    baseline_seconds: Range = Range(low=60, high=80)
    hold_seconds: Range = Range(low=60, high=90)
    scrape_seconds: Choice = Choice(choose=SCRAPE_SECONDS)
    """How often Prometheus scrapes."""
    mended_after_seconds: Range | None = None
    """Seconds of the hold after which the fault is taken away, if it is."""
    bars: tuple[
        Literal["old_restart", "failing_neighbour", "other_topic_spike", "scaled_before", "noise"],
        ...,
    ] = ()
    """Distractors that would be part of this incident, not beside it."""
    shows: dict[Literal["least_lag", "most_lag"], int] = Field(default_factory=dict)
    """What must be seen at the end; otherwise the fault did not work and nothing is kept."""
    draw: dict[Name, Range | Choice] = Field(default_factory=dict)
    workload: Workload = Workload()
    steps: tuple[Step, ...] = Field(default=(), alias="step")
    before: tuple[Step, ...] = ()
    """What is done, and is over, before the window begins."""

    @property
    def id(self) -> str:
        """Name it by file and name."""
        return f"{self.family}.{self.name}"

    @property
    def active(self) -> tuple[str, ...]:
        """Every cause at work, the primary first."""
        return (self.primary, *self.contributing)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = {self.primary, *self.contributing, *(s.begins for s in self.steps if s.begins)}
        if unknown := sorted(named - CAUSE_IDS):
            msg = f"no such cause: {', '.join(unknown)}"
            raise ValueError(msg)
        if loose := sorted({s.begins for s in self.steps if s.begins} - set(self.active)):
            msg = f"a step begins {', '.join(loose)}, which the label does not hold"
            raise ValueError(msg)
        wanted = _references(
            self.model_dump(by_alias=True, include={"steps", "before", "workload"})
        )
        if missing := sorted(wanted - set(self.draw)):
            msg = f"used and not drawn: {', '.join(missing)}"
            raise ValueError(msg)
        if idle := sorted(set(self.draw) - wanted):
            msg = f"drawn and not used: {', '.join(idle)}"
            raise ValueError(msg)
        return self


class Drawn(_Data):
    """A script with its numbers chosen."""

    script: Script
    seed: int
    values: dict[str, Value]
    baseline_seconds: float
    hold_seconds: float
    mended_after_seconds: float | None
    distractors: tuple[str, ...]
    dialect: str
    scrape_seconds: int

    @property
    def name(self) -> str:
        """Name the incident's files: script and seed."""
        return f"{self.script.id}.{self.seed}"

    @property
    def unseen_seconds(self) -> float:
        """Return how much of the beginning is left out of the window."""
        return max(EXPORTER_LAG_SECONDS, EXPORTER_POLL_SECONDS + self.scrape_seconds)

    @property
    def settled_seconds(self) -> float:
        """Return how long the group must be well: as drawn, or longer where scrapes are rare."""
        return max(self.baseline_seconds, self.unseen_seconds + LEAST_SCRAPES * self.scrape_seconds)

    @property
    def held_seconds(self) -> float:
        """Return how long the fault is in force: as drawn, or longer where scrapes are rare."""
        return max(self.hold_seconds, float(LEAST_HELD_SCRAPES * self.scrape_seconds))

    @property
    def workload(self) -> Workload:
        """The workload with its numbers chosen."""
        return Workload(**self.filled(self.script.workload.model_dump()))

    @property
    def before(self) -> tuple[Step, ...]:
        """What is done before the window begins, with its numbers chosen."""
        return tuple(Step(**self.filled(s.model_dump(by_alias=True))) for s in self.script.before)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps with their numbers chosen, in order of time."""
        told = [Step(**self.filled(s.model_dump(by_alias=True))) for s in self.script.steps]
        return tuple(sorted(told, key=lambda step: float(step.after)))

    def filled(self, told: Any) -> Any:
        """Return *told* with each ``"$name"`` replaced by what was drawn."""
        if isinstance(told, Mapping):
            return {key: self.filled(value) for key, value in told.items()}
        if isinstance(told, list | tuple):
            return [self.filled(value) for value in told]
        if isinstance(told, str) and told.startswith("$"):
            return self.values[told[1:]]
        return told


def _references(told: Any) -> set[str]:
    if isinstance(told, Mapping):
        return set().union(*(_references(value) for value in told.values()))
    if isinstance(told, list | tuple):
        return set().union(*(_references(value) for value in told))
    return {told[1:]} if isinstance(told, str) and told.startswith("$") else set()


def draw(script: Script, seed: int, dialects: tuple[str, ...]) -> Drawn:
    """Return the incident that *seed* makes of *script*, seen through one of *dialects*."""
    chooser = random.Random(f"{script.id}:{seed}")
    values = {name: script.draw[name].draw(chooser) for name in sorted(script.draw)}
    allowed = [kind for kind in DISTRACTORS if kind not in script.bars]
    distractors: tuple[str, ...] = ()
    if allowed and chooser.random() < DISTRACTED_SHARE:
        distractors = tuple(
            sorted(chooser.sample(allowed, min(len(allowed), chooser.randint(1, 2))))
        )
    mended = script.mended_after_seconds
    # of their own stream, or they would change what a seed drew before there was a choice
    scrapes = random.Random(f"{script.id}:{seed}:scrapes")
    return Drawn(
        script=script,
        seed=seed,
        values=values,
        baseline_seconds=float(script.baseline_seconds.draw(chooser)),
        hold_seconds=float(script.hold_seconds.draw(chooser)),
        mended_after_seconds=float(mended.draw(chooser)) if mended else None,
        distractors=distractors,
        dialect=chooser.choice(script.dialects or dialects),
        scrape_seconds=int(script.scrape_seconds.draw(scrapes)),
    )


def load(folder: Path = FOLDER) -> dict[str, Script]:
    """Return every script by its id, checked.

    Raises
    ------
    UsageError
        A file cannot be read or a script in it is wrong; the text names both.
    """
    found: dict[str, Script] = {}
    for file in sorted(folder.glob("*.toml")):
        try:
            told = tomllib.loads(file.read_text(encoding="utf-8"))
            scripts = [Script(family=file.stem, **entry) for entry in told["script"]]
        except (OSError, KeyError, TypeError, ValueError) as error:
            msg = f"{file.name} is no file of scripts: {error}"
            raise UsageError(msg) from None
        for script in scripts:
            if script.id in found:
                msg = f"{file.name} has two scripts called {script.name}"
                raise UsageError(msg)
            found[script.id] = script
    return found

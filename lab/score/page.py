"""The score as text: Markdown tables, the goals beside the numbers, the reliability picture, JSON.

Knows how a number is shown and what it was hoped to be; computes none.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.processes import LabError
from lab.score import metrics
from lab.score.baselines import CLASSES, CORE, TREES
from lab.score.board import (
    LAGKIT,
    Answer,
    Drop,
    Part,
    degraded,
    drop,
    is_cascade,
    is_control,
    is_extended,
    is_single,
    rows_by,
    score,
)
from lab.score.cases import DEGRADED, SOURCES, Case
from lab.score.metrics import Bin, Estimate, Share
from lagkit.figure.drawing import BLUE, GREY, INK

BEGIN = "<!-- score: written by `python -m lab score --write`, do not edit -->"
END = "<!-- score: end -->"
PICTURE = "reliability.svg"
PRIOR_ONLY = "runbook order"
TOO_EASY_POINTS = 3.0
"""A coded decision tree this close says that the cases are too easy, not that lagkit is good."""


@dataclass(frozen=True)
class Goal:
    """What a number is hoped to be: at least or at most *limit*."""

    title: str
    key: str
    limit: float | None
    at_least: bool = True
    text: str = ""

    def met(self, value: float) -> bool | None:
        """Whether *value* is on the good side; None where there is no goal or no value."""
        if self.limit is None or math.isnan(value):
            return None
        return value >= self.limit if self.at_least else value <= self.limit


GOALS = (
    Goal("AC@1, one of the seven causes", "ac@1", 0.95, text="≥ 0.95"),
    Goal("AC@3", "ac@3", 0.99, text="≥ 0.99"),
    Goal("Avg@5", "avg@5", 0.98, text="≥ 0.98"),
    Goal("Lift@5 (Avg@5 less chance)", "lift@5", 0.55, text="≥ 0.55"),
    Goal("MRR", "mrr", 0.97, text="≥ 0.97"),
    Goal("AC@1 of the primary cause, cascades", "cascades ac@1", 0.90, text="≥ 0.90"),
    Goal("exact set of active causes, cascades", "exact active set", 0.80, text="≥ 0.80"),
    Goal("grounded AC@1", "grounded ac@1", 0.93, text="≥ 0.93"),
    Goal("named right, everything", "named right", None),
    Goal("Brier, 0 to 2", "brier", 0.08, at_least=False, text="≤ 0.08"),
    Goal("log-loss, nats", "log_loss", 0.20, at_least=False, text="≤ 0.20"),
    Goal("ECE, 10 adaptive bins", "ece", 0.04, at_least=False, text="≤ 0.04"),
    Goal("false blame, controls", "false blame", 1 / 30, at_least=False, text="≤ 1 in 30"),
    Goal("false blame, extended causes", "false blame, extended", None),
    Goal("risk at 90 % coverage", "selective risk", 0.01, at_least=False, text="≤ 0.01"),
    Goal("AC@1 lost without a source, points", "worst drop", 8.0, at_least=False, text="≤ 8, any"),
    Goal("onset found", "onset found", None),
    Goal("onset error, scrape steps, median", "onset error", 1.0, at_least=False, text="≤ 1"),
    Goal("CPU seconds an incident, median", "seconds", 1.0, at_least=False, text="< 1"),
    Goal("CPU seconds an incident, slowest", "slowest", None),
)
"""Goals on the test split; on the others they only say where one stands."""

CONTESTANT_COLUMNS = (
    ("AC@1", "ac@1"),
    ("AC@3", "ac@3"),
    ("Avg@5", "avg@5"),
    ("MRR", "mrr"),
    ("cascades AC@1", "cascades ac@1"),
    ("named right", "named right"),
    ("false blame", "false blame"),
    ("Brier", "brier"),
    ("log-loss", "log_loss"),
)


@dataclass(frozen=True)
class Board:
    """One split, scored: who said what, and what it comes to."""

    split: str
    cases: tuple[Case, ...]
    given: Mapping[str, Sequence[Answer]]
    scores: Mapping[str, Mapping[str, Share | Estimate]] = field(default_factory=dict)
    drops: Mapping[str, Drop] = field(default_factory=dict)

    @property
    def bins(self) -> tuple[Bin, ...]:
        """The reliability of what lagkit named."""
        own = Part(self.cases, tuple(self.given[LAGKIT]))
        return metrics.reliability(own.said, own.right)

    @property
    def nearest_tree(self) -> tuple[str, float]:
        """The coded decision tree with the highest AC@1, and its points behind lagkit."""
        best = max(TREES, key=lambda name: _sortable(self.scores[name]["ac@1"].value))
        behind = self.scores[LAGKIT]["ac@1"].value - self.scores[best]["ac@1"].value
        return best, 100 * behind


def _sortable(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def board(split: str, cases: Sequence[Case], given: Mapping[str, Sequence[Answer]]) -> Board:
    """Score every contestant on one split."""
    spoiled = {degraded(how) for how in DEGRADED}
    scores = {name: score(cases, said) for name, said in given.items() if name not in spoiled}
    drops = {how: drop(cases, given[LAGKIT], given[degraded(how)]) for how in DEGRADED}
    own: dict[str, Share | Estimate] = dict(scores[LAGKIT])
    average = own["avg@5"]
    guess = metrics.chance(len(CORE))["avg@5"]
    own["lift@5"] = Estimate(
        average.value - guess, (average.interval[0] - guess, average.interval[1] - guess)
    )
    own["worst drop"] = max(
        (drops[f"without {source}"].points for source in SOURCES),
        key=lambda points: _sortable(points.value),
    )
    return Board(split, tuple(cases), given, {**scores, LAGKIT: own}, drops)


def chances() -> dict[str, float]:
    """Return the chance level of every number that has one."""
    seven, eight = metrics.chance(len(CORE)), metrics.chance(len(CLASSES))
    return {
        **{key: seven[key] for key in ("ac@1", "ac@3", "avg@5", "mrr")},
        "cascades ac@1": seven["ac@1"],
        "lift@5": 0.0,
        **{key: eight[key] for key in ("brier", "log_loss")},
    }


# -- Markdown ---------------------------------------------------------------------------------


def markdown(boards: Sequence[Board]) -> str:
    """Return every table of every split."""
    return "\n\n".join(_split(one) for one in boards)


def _split(one: Board) -> str:
    counts = ", ".join(
        f"{sum(wanted(case) for case in one.cases)} {title}"
        for title, wanted in (
            ("of one cause", is_single),
            ("cascades", is_cascade),
            ("controls", is_control),
            ("of extended causes", is_extended),
        )
    )
    scripts = len({case.script for case in one.cases})
    tree, points = one.nearest_tree
    near = (
        f"The nearest coded decision tree is the {tree.removesuffix(', first match')}, "
        f"{points:.1f} points of AC@1 behind"
        + (
            f": within {TOO_EASY_POINTS:g}, so these cases are too easy."
            if points <= TOO_EASY_POINTS
            else "."
        )
    )
    own = one.given[LAGKIT]
    return "\n\n".join(
        [
            f"### {one.split}: {len(one.cases)} incidents of {scripts} scripts\n\n{counts}.",
            _goals(one),
            "Everybody on the same incidents:",
            _contestants(one),
            *([] if math.isnan(points) else [near]),
            "lagkit on spoiled copies:",
            _drops(one),
            "By cause (what an incident's label calls primary):",
            _shares("cause", rows_by(one.cases, own, lambda case: case.primary)),
            "By exporter:",
            _shares("exporter", rows_by(one.cases, own, lambda case: str(case.label["dialect"]))),
            "What was named (columns) for what was true (rows):",
            _confusion(one.cases, own),
            "How sure it was, and how often it was right:",
            _table(
                ("incidents", "said", "right"),
                [(str(b.count), f"{b.said:.3f}", f"{b.true:.3f}") for b in one.bins],
            ),
        ]
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell for cell in line) + " |" for line in lines)


def shown(value: Share | Estimate) -> str:
    """Return *value* as a cell of the tables: three places, and of a share its count."""
    if isinstance(value, Share):
        return "–" if not value.of else f"{value.value:.3f} ({value.hits:.4g} of {value.of})"
    return "–" if math.isnan(value.value) else f"{value.value:.3f}"


def _interval(value: Share | Estimate) -> str:
    low, high = value.interval
    empty = isinstance(value, Share) and not value.of
    return "–" if empty or math.isnan(low) else f"{low:.3f} to {high:.3f}"


def _goals(one: Board) -> str:
    guess, own = chances(), one.scores[LAGKIT]
    rows = []
    for goal in GOALS:
        value = own[goal.key]
        met = goal.met(value.value)
        rows.append(
            (
                goal.title,
                shown(value),
                _interval(value),
                f"{guess[goal.key]:.3f}" if goal.key in guess else "–",
                goal.text or "–",
                "–" if met is None else "met" if met else "**not met**",
            )
        )
    return _table(("lagkit", "value", "95 % interval", "chance", "goal", ""), rows)


def _contestants(one: Board) -> str:
    guess = chances()
    rows = [
        ("*chance*", *(f"{guess[k]:.3f}" if k in guess else "–" for _, k in CONTESTANT_COLUMNS))
    ]
    for name, row in one.scores.items():
        cells = []
        for _, key in CONTESTANT_COLUMNS:
            value = row[key]
            blank = math.isnan(value.value)
            low, high = value.interval
            span = "" if math.isnan(low) else f" ({low:.2f}-{high:.2f})"
            cells.append("–" if blank else f"{value.value:.3f}{span}")
        rows.append((f"**{name}**" if name == LAGKIT else name, *cells))
    return _table(("", *(title for title, _ in CONTESTANT_COLUMNS)), rows)


def _drops(one: Board) -> str:
    whole, prior = one.scores[LAGKIT], one.scores[PRIOR_ONLY]["brier"].value
    rows = [("whole", shown(whole["ac@1"]), "", shown(whole["brier"]), "")]
    for how, lost in one.drops.items():
        worse = lost.brier.value > prior
        rows.append(
            (
                how,
                shown(lost.ac1),
                f"{lost.points.value:.1f} ({_interval(lost.points)})" if lost.ac1.of else "–",
                shown(lost.brier),
                "worse than the prior alone" if worse else "",
            )
        )
    return _table(("copy", "AC@1", "points lost", "Brier", ""), rows)


def _shares(title: str, shares: Mapping[str, Share]) -> str:
    rows = [
        (name, f"{share.hits:.4g} of {share.of}", f"{share.value:.2f}", _interval(share))
        for name, share in shares.items()
    ]
    return _table((title, "named right", "share", "95 % interval"), rows)


def _confusion(cases: Sequence[Case], given: Sequence[Answer]) -> str:
    found = metrics.confusion([a.named for a in given], [case.primary for case in cases])
    order = _order({*found, *(name for row in found.values() for name in row)})
    rows = [
        (was, *(str(found[was].get(said) or "·") for said in order))
        for was in order
        if was in found
    ]
    return _table(("", *order), rows)


def _order(names: set[str]) -> list[str]:
    """Put the seven first, in their order, then the extended, then unknown and none."""
    last = ("unknown", "none")
    return sorted(
        names,
        key=lambda name: (
            CORE.index(name) if name in CORE else len(CORE) + (name in last),
            name,
        ),
    )


# -- JSON -------------------------------------------------------------------------------------


def plain(one: Board) -> dict[str, Any]:
    """Return a split's numbers for JSON; NaN is null."""
    own = one.given[LAGKIT]
    return {
        "incidents": len(one.cases),
        "scripts": len({case.script for case in one.cases}),
        "chance": chances(),
        "contestants": {
            name: {key: _plain(value) for key, value in row.items()}
            for name, row in one.scores.items()
        },
        "goals": {
            goal.key: {"goal": goal.text, "met": goal.met(one.scores[LAGKIT][goal.key].value)}
            for goal in GOALS
            if goal.limit is not None
        },
        "spoiled": {
            how: {
                "ac@1": _plain(lost.ac1),
                "points_lost": _plain(lost.points),
                "brier": _plain(lost.brier),
            }
            for how, lost in one.drops.items()
        },
        "by_cause": _plain_rows(rows_by(one.cases, own, lambda case: case.primary)),
        "by_exporter": _plain_rows(
            rows_by(one.cases, own, lambda case: str(case.label["dialect"]))
        ),
        "confusion": metrics.confusion(
            [answer.named for answer in own], [case.primary for case in one.cases]
        ),
        "reliability": [{"count": b.count, "said": b.said, "right": b.true} for b in one.bins],
    }


def _plain_rows(shares: Mapping[str, Share]) -> dict[str, Any]:
    return {name: _plain(share) for name, share in shares.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _plain(value: Share | Estimate) -> dict[str, Any]:
    told: dict[str, Any] = {
        "value": _number(value.value),
        "ci95": [_number(end) for end in value.interval],
    }
    if isinstance(value, Share):
        told |= {"hits": value.hits, "of": value.of, "wilson95": list(value.wilson)}
        if value.by_script is not None:
            told["by_script95"] = [_number(end) for end in value.by_script]
    return told


# -- the picture ------------------------------------------------------------------------------

_SIDE, _LEFT, _TOP, _GAP, _FOOT = 240, 56, 40, 72, 52


def picture(boards: Sequence[Board]) -> str:
    """Return the reliability of each split as one SVG with its words; same bytes always."""
    width = _LEFT + len(boards) * (_SIDE + _GAP)
    height = _TOP + _SIDE + _FOOT
    words = html.escape(picture_words(boards), quote=True)
    body = "".join(
        _square(one.split, one.bins, _LEFT + number * (_SIDE + _GAP))
        for number, one in enumerate(boards)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{words}" font-family="sans-serif" '
        f'font-size="11" fill="{INK}"><title>{words}</title>'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{body}</svg>\n'
    )


def picture_words(boards: Sequence[Board]) -> str:
    """Return what the picture shows, in words."""
    told = [
        f"{one.split}: "
        + ", ".join(f"said {b.said:.2f}, right {b.true:.2f} ({b.count})" for b in one.bins)
        for one in boards
    ]
    return "Reliability: how sure lagkit was and how often it was right. " + "; ".join(told) + "."


def _square(title: str, bins: Sequence[Bin], left: float) -> str:
    def x(value: float) -> str:
        return f"{left + _SIDE * value:.1f}"

    def y(value: float) -> str:
        return f"{_TOP + _SIDE * (1 - value):.1f}"

    parts = [
        f'<text x="{left}" y="{_TOP - 14}" font-weight="600">{html.escape(title)}</text>',
        (
            f'<rect x="{left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" '
            f'stroke="{GREY}"/>'
        ),
        (
            f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" stroke="{GREY}" '
            'stroke-dasharray="4 4"/>'
        ),
        f'<text x="{x(0.5)}" y="{_TOP + _SIDE + 34}" text-anchor="middle">said</text>',
        (
            f'<text x="{left - 40}" y="{y(0.5)}" text-anchor="middle" '
            f'transform="rotate(-90 {left - 40} {y(0.5)})">right</text>'
        ),
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            f'<text x="{x(tick)}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{left - 8}" y="{y(tick)}" dy="4" text-anchor="end">{tick:g}</text>',
        ]
    for one in bins:
        low, high = Share(one.true * one.count, one.count).wilson
        parts += [
            (
                f'<line x1="{x(one.said)}" y1="{y(low)}" x2="{x(one.said)}" y2="{y(high)}" '
                f'stroke="{BLUE}" stroke-width="1.5"/>'
            ),
            (
                f'<circle cx="{x(one.said)}" cy="{y(one.true)}" r="4" fill="{BLUE}">'
                f"<title>said {one.said:.3f}, right {one.true:.3f}, {one.count} incidents</title>"
                "</circle>"
            ),
        ]
    return "".join(parts)


# -- the page ---------------------------------------------------------------------------------


def write(page: Path, boards: Sequence[Board], about: str) -> None:
    """Put the tables between the two marks of *page* and the picture beside it.

    Raises:
        LabError: the page is not there, or has not each mark once and in order.
    """
    if not page.is_file():
        raise LabError(f"{page} is not there: it needs the two marks {BEGIN} and {END}")
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise LabError(f"{page} needs the mark {BEGIN} once and after it {END} once")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    shown = f"![{_one_line(picture_words(boards))}]({PICTURE})"
    page.write_text(
        f"{before}{BEGIN}\n\n{about}\n\n{shown}\n\n{markdown(boards)}\n\n{END}{after}",
        encoding="utf-8",
    )
    (page.parent / PICTURE).write_text(picture(boards), encoding="utf-8")


def _one_line(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")


def misses(one: Board, right: Callable[[Case, Answer], bool]) -> list[str]:
    """Return a line for every incident of which lagkit named the wrong cause."""
    return [
        f"{case.name}: {answer.named} ({answer.said:.2f}), "
        f"{case.primary} {answer.probabilities.get(case.primary, 0.0):.2f}"
        for case, answer in zip(one.cases, one.given[LAGKIT], strict=True)
        if not right(case, answer)
    ]

"""Logistic regression on lagkit's own evidence: what counting alone makes of the same features.

A feature is one evidence kind that is present or one that is absent; not checked is neither. The
model is scikit-learn's, with its default penalty, on the dev split only. An incident of dev itself
is judged by a model that has seen no incident of its script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.score.baselines import CLASSES, Distribution

LOGISTIC = "logistic regression on lagkit's evidence"
MOST_ITERATIONS = 2_000

Outcomes = Mapping[str, str]
"""Evidence kind to present, absent or not_checked."""


@dataclass(frozen=True)
class Example:
    """What was seen of one incident of dev, and its folded truth."""

    script: str
    outcomes: Outcomes
    truth: str


def judge(script: str, outcomes: Outcomes, examples: Sequence[Example]) -> Distribution:
    """Return the model's distribution for an incident; flat if fewer than two classes were seen.

    The examples of the incident's own *script* are left out.
    """
    seen = [example for example in examples if example.script != script]
    if len({example.truth for example in seen}) < 2:
        return dict.fromkeys(CLASSES, 1 / len(CLASSES))
    kinds = tuple(sorted({kind for example in seen for kind in example.outcomes}))
    model = _fitted(kinds, seen)
    found = model.predict_proba(np.array([_features(kinds, outcomes)]))[0]
    told = dict.fromkeys(CLASSES, 0.0)
    return told | {str(name): float(p) for name, p in zip(model.classes_, found, strict=True)}


def _features(kinds: Sequence[str], outcomes: Outcomes) -> list[float]:
    told = [outcomes.get(kind) for kind in kinds]
    return [float(said == wanted) for wanted in ("present", "absent") for said in told]


def _fitted(kinds: Sequence[str], examples: Sequence[Example]) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=MOST_ITERATIONS)
    return model.fit(
        np.array([_features(kinds, example.outcomes) for example in examples]),
        np.array([example.truth for example in examples]),
    )

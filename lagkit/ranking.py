"""From checks to ranked causes: weights of evidence, the mechanism graph, the grounding gate.

The steps, in order, each a plain function of its inputs:

1. every check becomes weights in nats per cause (``EvidenceKind.weight``); what was not
   checked weighs nothing; what began too long after the lag counts little, it is an effect, and
   so does all that began after it where arithmetic accounts for the lag;
2. correlated kinds are added up per group and capped;
3. a grounded cause may explain what it sets off (mechanism graph), so the cascade's entry is not
   outweighed by its own symptoms;
4. prior + evidence give probabilities that sum to 1, the sharper the more was looked at;
5. a cause without discriminating evidence in time is capped, and ``unknown`` takes the rest;
6. roles, status, and the check that would teach most are read off the result.

No frame, no clock, no display.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from lagkit.causes import NONE, UNKNOWN, Catalogue
from lagkit.evidence import GROUP_CAP_NATS, IN_SOME_FORMS, PROOF, EvidenceKind
from lagkit.model import (
    Check,
    CheckStatus,
    Confidence,
    Evidence,
    Finding,
    Onset,
    RankedCause,
    Role,
)

SHARPNESS: Mapping[Confidence, float] = {"low": 0.6, "moderate": 0.85, "high": 1.2}
"""Exponent on the evidence, by how much of it was looked at.

Naive Bayes counts dependent evidence as independent and is too sure (Zadrozny & Elkan 2001); groups
and forms are capped for that, and where a source is missing the rest still tells less than it
seems to. Chosen on 47 incidents of scripts that were written after the rules of their day, each
judged by these (2026-11-30), with their spoiled copies. Log-loss at 0.5, 0.7, 0.85, 1, 1.2 and 1.8:
high (207 files) 0.723, 0.557, 0.517, 0.488, 0.486, 0.511; moderate (251) 1.500, 1.519, 1.579,
1.666, 1.803, 2.334; low (12) 2.229, 2.479, 2.768, 3.062, 3.547, 4.849. Moderate and low stand a
little above the least loss, for the rules were mended by what these incidents showed. Incidents
that rules were mended on ask for more than that (``python -m lab score --sharpness``)."""

SET_OFF_PROBABILITY = 0.3
"""P(a cause at work sets off the next one of the mechanism graph), per edge."""

LATE_FACTOR = 0.25
"""Share of its weight that evidence keeps when it began too late to be the cause."""

UNGROUNDED_CAP = 0.5
"""A cause that cites no discriminating evidence in time is never more probable than this, nor than
the most probable cause that does and is plausible (:data:`PLAUSIBLE`)."""

PLAUSIBLE = 0.1
"""What cites evidence and is less probable than this for all that does not hold the others down."""

VERDICT_FROM = 0.5
"""A cause is named from here on: more likely than not."""

REJECTED_KEEP = 0.5
"""Share of their probability that causes keep when none of them is named."""

FORMS_CAP_NATS = 3.0
"""What a cause shows in some of its forms speaks against it by this much at most when none of it
is seen. Forms exclude each other, and naive Bayes takes them for independent: the more of them the
table knows, the less each incident would look like any. Over 189 open incidents and five spoiled
copies of each, log-loss at 1.5, 2, 2.5, 3 and 4 adds up to 1.98, 1.86, 1.78, 1.78 and 1.78; 3 ranks
the true cause first most often."""

ACTIVE_NATS = 1.0
"""Own evidence a grounded cause needs to count as at work beside the primary one."""

_LADDER = (
    (0.05, "almost no chance"),
    (0.20, "very unlikely"),
    (0.45, "unlikely"),
    (0.55, "roughly even"),
    (0.80, "likely"),
    (0.95, "very likely"),
)


def likelihood_term(probability: float) -> str:
    """Return the word of the ICD 203 ladder for *probability*."""
    for limit, term in _LADDER:
        if probability < limit:
            return term
    return "almost certain"


@dataclass(frozen=True, slots=True)
class Tuning:
    """The numbers that calibration chooses; the rest is ``lagkit.evidence``."""

    sharpness: Mapping[Confidence, float] = field(default_factory=lambda: SHARPNESS)
    set_off: float = SET_OFF_PROBABILITY
    verdict_from: float = VERDICT_FROM


TUNED = Tuning()


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranked causes with all that the report needs to explain them."""

    causes: tuple[RankedCause, ...]
    findings: tuple[Finding, ...]
    next_check: str
    confidence: Confidence
    evidence_checked: int
    evidence_total: int

    @property
    def top(self) -> RankedCause:
        """The cause ranked first."""
        return self.causes[0]


@dataclass(frozen=True, slots=True)
class _Weighed:
    """One check with its kind and its weights per cause, own and with the graph's help."""

    kind: EvidenceKind
    check: Check
    late: bool
    own: Mapping[str, float]


def rank(
    checks: Sequence[Check],
    catalogue: Catalogue,
    *,
    ratings: Mapping[str, str],
    onset: Onset | None,
    step_seconds: float,
    tuning: Tuning = TUNED,
) -> Ranking:
    """Rank the causes of *catalogue* by *checks*; probabilities sum to 1.

    Parameters
    ----------
    ratings
        The runbook's rating per cause (high, medium, low).
    onset
        When the lag began, or None: then no evidence is late.
    step_seconds
        Resolution of the history; widens what counts as in time.
    tuning
        Other numbers than the calibrated ones, to compare them.
    """
    priors = catalogue.priors(ratings)
    # A kind counts once, however often it is handed in.
    once = {check.kind: check for check in checks}
    weighed = [
        _weigh(catalogue.kind(kind), once[kind], priors, onset, step_seconds)
        for kind in sorted(once)
    ]
    grounded = {cause: _grounded(cause, weighed) for cause in priors}
    helped = [
        _with_mechanism(item, weighed, grounded, catalogue, tuning.set_off) for item in weighed
    ]
    own = _support([dict(item.own) for item in weighed], priors, weighed)
    first = _of_the_beginning(helped, weighed, onset, step_seconds)
    support = _support(first, priors, weighed)

    def probabilities_at(sharpness: float) -> dict[str, float]:
        return _gate(_posterior(priors, support, sharpness), grounded, tuning.verdict_from)

    def order_of(probabilities: Mapping[str, float]) -> list[str]:
        return sorted(
            priors,
            key=lambda cause: (-probabilities[cause], not grounded[cause], -priors[cause], cause),
        )

    # How much was looked at is asked about the two likeliest causes, which a first pass names.
    likeliest = order_of(probabilities_at(1.0))[:2]
    confidence = _confidence(likeliest, weighed, grounded)
    probabilities = probabilities_at(tuning.sharpness[confidence])
    order = order_of(probabilities)
    primary = order[0]
    # what the primary cause shows by itself speaks neither for a second one nor against it
    others = [
        dict.fromkeys(priors, 0.0)
        if item.check.outcome == "present" and item.kind.points(primary)
        else dict(item.own)
        for item in weighed
    ]
    beside = _support(others, priors, weighed)
    causes = tuple(
        _ranked(
            cause,
            number,
            probabilities,
            priors,
            weighed,
            helped,
            grounded,
            own,
            beside,
            primary,
            catalogue,
        )
        for number, cause in enumerate(order, start=1)
    )
    return Ranking(
        causes=causes,
        findings=_findings(weighed, helped),
        next_check=_next_check(weighed, probabilities, catalogue),
        confidence=confidence,
        evidence_checked=_looked_at(weighed),
        evidence_total=len(weighed),
    )


def _weigh(
    kind: EvidenceKind,
    check: Check,
    causes: Mapping[str, float],
    onset: Onset | None,
    step_seconds: float,
) -> _Weighed:
    if check.outcome == "not_checked":
        return _Weighed(kind, check, late=False, own=dict.fromkeys(causes, 0.0))
    present = check.outcome == "present"
    late = present and _is_late(check, onset, kind.delay_seconds + 2 * step_seconds)
    factor = LATE_FACTOR if late else 1.0
    return _Weighed(
        kind,
        check,
        late=late,
        own={cause: factor * kind.weight(cause, present=present) for cause in causes},
    )


def _is_late(check: Check, onset: Onset | None, tolerance_seconds: float) -> bool:
    starts = [finding.onset for finding in check.findings if finding.onset is not None]
    if onset is None or not starts:
        return False
    return min(starts) > onset.latest + pd.Timedelta(tolerance_seconds, "s")


def _of_the_beginning(
    weights: Sequence[Mapping[str, float]],
    weighed: Sequence[_Weighed],
    onset: Onset | None,
    step_seconds: float,
) -> Sequence[Mapping[str, float]]:
    """Let what began after an onset that is accounted for count as late, however soon it could."""
    accounted = any(
        item.kind.accounts_for_lag and item.check.outcome == "present" and not item.late
        for item in weighed
    )
    if not accounted:
        return weights
    return [
        {cause: LATE_FACTOR * nats for cause, nats in weight.items()}
        if not item.late and _is_late(item.check, onset, 2 * step_seconds)
        else weight
        for item, weight in zip(weighed, weights, strict=True)
    ]


def _grounded(cause: str, weighed: Sequence[_Weighed]) -> bool:
    return any(
        item.check.outcome == "present" and not item.late and item.kind.singles_out() == cause
        for item in weighed
    )


def _first_onset(cause: str, weighed: Sequence[_Weighed]) -> pd.Timestamp | None:
    starts = [
        pd.Timestamp(finding.onset)
        for item in weighed
        if item.check.outcome == "present" and item.kind.points(cause)
        for finding in item.check.findings
        if finding.onset is not None
    ]
    return min(starts) if starts else None


def _with_mechanism(
    item: _Weighed,
    weighed: Sequence[_Weighed],
    grounded: Mapping[str, bool],
    catalogue: Catalogue,
    set_off: float,
) -> dict[str, float]:
    """Let grounded causes explain the evidence of what they set off, edge by edge."""
    weights = dict(item.own)
    if item.check.outcome != "present":
        return weights
    starts = [pd.Timestamp(f.onset) for f in item.check.findings if f.onset is not None]
    base = item.kind.seen_anyway
    for cause, own in item.own.items():
        # "--" is said with the cause's own effects in mind
        if not grounded[cause] or item.kind.level(cause) == "--":
            continue
        began = _first_onset(cause, weighed)
        if (
            began is not None
            and starts
            and min(starts) < began - pd.Timedelta(item.kind.delay_seconds, "s")
        ):
            continue
        through = max(
            (
                set_off**distance * item.kind.probability(follower)
                for follower, distance in _distances(cause, catalogue).items()
            ),
            default=0.0,
        )
        if through > item.kind.probability(cause):
            factor = LATE_FACTOR if item.late else 1.0
            weights[cause] = max(own, factor * math.log(through / base))
    return weights


def _distances(cause: str, catalogue: Catalogue) -> dict[str, int]:
    found: dict[str, int] = {}
    edge, distance = [cause], 0
    while edge:
        distance += 1
        edge = [f for name in edge for f in catalogue.cause(name).leads_to if f not in found]
        found.update(dict.fromkeys(edge, distance))
    return found


def _support(
    weights: Sequence[Mapping[str, float]],
    causes: Mapping[str, float],
    weighed: Sequence[_Weighed],
) -> dict[str, float]:
    """Return nats per cause: added up within a group, capped, then added over groups.

    Of what was looked for in a group and not seen, only the strongest counts: a downstream that is
    well neither fails nor is slow nor complained of, which is one fact and not three. What a cause
    shows in some of its forms only, and was not seen, is capped over all groups together
    (:data:`FORMS_CAP_NATS`).
    """
    groups: dict[str, list[tuple[_Weighed, Mapping[str, float]]]] = {}
    for item, weight in zip(weighed, weights, strict=True):
        groups.setdefault(item.kind.group, []).append((item, weight))
    total = dict.fromkeys(causes, 0.0)
    for cause in causes:
        forms = 0.0
        for group in groups.values():
            seen = [w[cause] for item, w in group if item.check.outcome == "present"]
            unseen = [(w[cause], item) for item, w in group if item.check.outcome == "absent"]
            strongest, of = max(unseen, key=lambda one: abs(one[0]), default=(0.0, None))
            if of is not None and of.kind.level(cause) in IN_SOME_FORMS:
                forms += strongest
                strongest = 0.0
            total[cause] += _capped([*seen, strongest])
        total[cause] += max(forms, -FORMS_CAP_NATS)
    return total


def _capped(nats: Sequence[float]) -> float:
    """Return the sum of *nats*, no further from 0 than the cap or the strongest of them."""
    most = max(GROUP_CAP_NATS, *(abs(weight) for weight in nats))
    return float(np.clip(sum(nats), -most, most))


def _posterior(
    priors: Mapping[str, float], support: Mapping[str, float], sharpness: float
) -> dict[str, float]:
    names = list(priors)
    logits = np.array([math.log(priors[name]) + sharpness * support[name] for name in names])
    shares = np.exp(logits - logits.max())
    return dict(zip(names, (shares / shares.sum()).tolist(), strict=True))


def _gate(
    probabilities: Mapping[str, float], grounded: Mapping[str, bool], verdict_from: float
) -> dict[str, float]:
    """Cap what cites no discriminating evidence in time; ``unknown`` takes what is cut off.

    A cause less likely than not is no verdict: then all of them give way to ``unknown``, in the
    order they have (Chow 1970: reject below a threshold).
    """
    # What cites nothing must not stand above what does, unless that is out of the question itself.
    best = max((p for cause, p in probabilities.items() if grounded[cause]), default=0.0)
    cap = min(UNGROUNDED_CAP, best) if best >= PLAUSIBLE else UNGROUNDED_CAP
    kept = {
        cause: probability if grounded[cause] else min(probability, cap)
        for cause, probability in probabilities.items()
        if cause != UNKNOWN
    }
    top = max(kept, key=lambda cause: kept[cause])
    if not grounded[top] or kept[top] < verdict_from:
        kept = {cause: probability * REJECTED_KEEP for cause, probability in kept.items()}
    return {**kept, UNKNOWN: 1.0 - sum(kept.values())}


def _ranked(
    cause: str,
    number: int,
    probabilities: Mapping[str, float],
    priors: Mapping[str, float],
    weighed: Sequence[_Weighed],
    helped: Sequence[Mapping[str, float]],
    grounded: Mapping[str, bool],
    own: Mapping[str, float],
    beside: Mapping[str, float],
    primary: str,
    catalogue: Catalogue,
) -> RankedCause:
    told = sorted(
        (
            (_SEES_IT[item.check.source], item.kind.id, item, weights[cause])
            for item, weights in zip(weighed, helped, strict=True)
            if abs(weights[cause]) >= _NEGLIGIBLE_NATS
        ),
        key=lambda row: (-abs(row[3]), row[0], row[1]),
    )
    lines = [
        Evidence(_evidence_id(item.check), round(nats, 3), _sentence(item.check))
        for _, _, item, nats in told
    ]
    pointing = [item for item in weighed if item.kind.points(cause)]
    unchecked = [
        item
        for item in weighed
        if item.check.outcome == "not_checked" and _decides(item.kind, cause)
    ]
    role: Role = "none"
    if cause == primary:
        role = "primary" if cause != NONE else "none"
    elif primary != NONE and cause not in (UNKNOWN, NONE):
        role = _side_role(cause, primary, weighed, beside[cause], catalogue)
    status: CheckStatus = "inconclusive"
    if pointing and all(item.check.outcome == "not_checked" for item in pointing):
        status = "not_checked"
    elif (
        cause == primary and grounded[cause] and probabilities[cause] >= UNGROUNDED_CAP
    ) or role in ("mechanism", "contributing"):
        status = "validated"
    elif not grounded[cause] and own[cause] <= -ACTIVE_NATS and cause != UNKNOWN:
        status = "invalidated"
    return RankedCause(
        cause=cause,
        rank=number,
        probability=probabilities[cause],
        prior=priors[cause],
        status=status,
        role=role,
        evidence_for=tuple(line for line in lines if line.weight > 0),
        evidence_against=tuple(line for line in lines if line.weight < 0),
        not_checked=tuple(
            f"{item.kind.question} {item.check.reason}".strip() for item in unchecked
        ),
        would_change=tuple(_would_change(cause, item) for item in unchecked),
    )


def _side_role(
    cause: str,
    primary: str,
    weighed: Sequence[_Weighed],
    own: float,
    catalogue: Catalogue,
) -> Role:
    """Return whether *cause* is at work beside the primary one, as its effect or on its own.

    Only what the primary cause would not show by itself counts. An effect comes late, and other
    evidence may well speak against it as a first cause. A second cause must stand by itself, on
    what the primary one shows in none of its forms.
    """
    present = {item.kind.id for item in weighed if item.check.outcome == "present"}
    pointing = [
        item
        for item in weighed
        if item.kind.id in present
        and item.kind.points(cause)
        and not item.kind.points(primary)
        and not present.intersection(item.kind.part_of)
    ]
    own_signs = [item for item in pointing if item.kind.singles_out() == cause]
    if own_signs and cause in catalogue.downstream_of(primary):
        return "mechanism"
    grounded = any(
        not item.late and item.kind.weight(primary, present=True) <= 0.0 for item in own_signs
    )
    if grounded and own >= ACTIVE_NATS:
        return "contributing"
    return "none"


_NEGLIGIBLE_NATS = 0.15
# Of equal weight, who sees the thing itself speaks before who sees its effect on offsets.
_SEES_IT = {"downstream": 0, "kubernetes": 1, "kafka": 2, "prometheus": 3}


def _decides(kind: EvidenceKind, cause: str) -> bool:
    return kind.points(cause) or kind.level(cause) == "--"


def _would_change(cause: str, item: _Weighed) -> str:
    direction: Literal["for", "against"] = "for" if item.kind.points(cause) else "against"
    how = f" {item.kind.how_to_check}" if item.kind.how_to_check else ""
    return f"A yes would speak {direction} it: {item.kind.question}{how}"


def _evidence_id(check: Check) -> str:
    return check.findings[0].id if check.findings else check.kind


def _sentence(check: Check) -> str:
    if check.findings:
        more = len(check.findings) - 1
        return check.findings[0].statement + (f" (and {more} more)" if more else "")
    return check.reason


def _findings(
    weighed: Sequence[_Weighed], helped: Sequence[Mapping[str, float]]
) -> tuple[Finding, ...]:
    rows = [
        replace(
            finding,
            weights={
                cause: round(nats, 3)
                for cause, nats in sorted(weights.items())
                if abs(nats) >= _NEGLIGIBLE_NATS
            },
        )
        for item, weights in zip(weighed, helped, strict=True)
        for finding in item.check.findings
    ]
    far = pd.Timestamp.max.tz_localize("UTC")
    return tuple(sorted(rows, key=lambda f: (f.onset or far, f.id)))


def _entropy(probabilities: np.ndarray) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())


def _next_check(
    weighed: Sequence[_Weighed], probabilities: Mapping[str, float], catalogue: Catalogue
) -> str:
    """Return the unchecked question with the largest expected loss of entropy, or ""."""
    names = list(probabilities)
    now = np.array([probabilities[name] for name in names])
    best, best_gain = "", 0.0
    for item in weighed:
        if item.check.outcome != "not_checked":
            continue
        seen = np.array([item.kind.probability(name) for name in names])
        p_seen = float((now * seen).sum())
        gain = _entropy(now) - (
            p_seen * _entropy(now * seen / p_seen)
            + (1 - p_seen) * _entropy(now * (1 - seen) / (1 - p_seen))
        )
        if gain > best_gain:
            how = f" {item.kind.how_to_check}" if item.kind.how_to_check else ""
            best, best_gain = f"{item.kind.question}{how}", gain
    return best


def _looked_at(items: Sequence[_Weighed]) -> int:
    return sum(item.check.outcome != "not_checked" for item in items)


def _confidence(
    likeliest: Sequence[str], weighed: Sequence[_Weighed], grounded: Mapping[str, bool]
) -> Confidence:
    """Return how far the evidence goes: what was looked at, not how probable the cause is.

    What is proven does not hang on what else might have been looked at.
    """
    decisive = [item for item in weighed if any(_decides(item.kind, cause) for cause in likeliest)]
    share, decisive_share = (
        _looked_at(items) / len(items) if items else 0.0 for items in (weighed, decisive or weighed)
    )
    if share >= 0.8 and decisive_share >= 0.8 and grounded[likeliest[0]]:
        return "high"
    proven = any(
        item.check.outcome == "present"
        and item.kind.singles_out() == likeliest[0]
        and item.kind.seen_anyway <= PROOF
        for item in weighed
    )
    if (share < 0.5 or decisive_share < 0.5) and not proven:
        return "low"
    return "moderate"

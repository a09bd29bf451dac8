"""How it was noticed: the alerts that were recorded, and those that would have been.

Alert history is ``ALERTS`` as Prometheus kept it: ``active_at`` is when the expression became true,
the first firing sample comes after its ``for``. A webhook is no log, and none is asked for here.
"""

from __future__ import annotations

import pandas as pd

from lagkit.incident import Incident
from lagkit.investigation import Result
from lagkit.postmortem.measures import Course, between
from lagkit.postmortem.model import AlertSeen, Detection, Stamp
from lagkit.postmortem.replay import ADVISED, Scene, replayed
from lagkit.wording import printable

MOST_ALERTS = 40
_DEFAULT_STEP = 15.0


def alerts_seen(incident: Incident) -> tuple[AlertSeen, ...]:
    """Return every alert of the window, in the order of firing."""
    table = incident.alerts
    if table.empty:
        return ()
    moments = table["timestamp"].drop_duplicates().sort_values()
    step = moments.diff().median().total_seconds() if len(moments) > 1 else _DEFAULT_STEP
    last = moments.iloc[-1]
    made = []
    for (alert, _), rows in _series(table):
        firing = rows.loc[rows["state"] == "firing", "timestamp"]
        active = rows["active_at"].dropna()
        first = rows["timestamp"].min()
        active_at = active.min() if len(active) else (None if len(firing) else first)
        still = bool(len(firing)) and firing.max() >= last - pd.to_timedelta(step, unit="s")
        text = [rows[name].dropna() for name in ("severity", "group")]
        made.append(
            AlertSeen(
                alert=printable(alert, limit=120),
                severity=printable(text[0].iloc[0], limit=40) if len(text[0]) else "",
                of_group=bool(len(text[1])) and text[1].iloc[0] == incident.group,
                active_at=active_at,
                fired_at=firing.min() if len(firing) else None,
                resolved_at=firing.max() if len(firing) and not still else None,
                still_firing=still,
                query=", ".join(sorted(rows["query_id"].unique())),
                uncertainty_seconds=float(step),
            )
        )
    late = incident.end + pd.Timedelta("1D")
    made.sort(key=lambda one: (one.fired_at or late, one.active_at or late, one.alert))
    return tuple(made[:MOST_ALERTS])


def _series(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Return the rows of each alert; its state is among its labels, so it is taken out."""
    labels = table["labels"].str.replace(r'"alertstate": ?"[a-z]+",? ?', "", regex=True)
    groups = table.assign(who=labels).groupby(["alert", "who"], sort=True)
    return [((str(alert), str(who)), rows) for (alert, who), rows in groups]


def telling(seen: tuple[AlertSeen, ...], onset: pd.Timestamp | None) -> AlertSeen | None:
    """Return the alert that told of it: of this group, the first to fire since the onset.

    One that was already firing tells nothing new. Alerts of no group count where the group has
    none of its own.
    """
    fired = [
        one
        for one in seen
        if one.fired_at is not None and (onset is None or pd.Timestamp(one.fired_at) >= onset)
    ]
    own = [one for one in fired if one.of_group]
    return next(iter(own or fired), None)


def alert_stamps(
    incident: Incident, seen: tuple[AlertSeen, ...], chosen: AlertSeen | None
) -> tuple[Stamp, Stamp]:
    """Return the stamps of the alert and of its expression."""
    expression = "the alert's expression became true (ALERTS_FOR_STATE)"
    fires = "the alert fired, after its for: (ALERTS)"
    if chosen is None:
        why = "no alert fired"
        if not incident.readable("prometheus"):
            why = "Prometheus could not be read, so no alert is known"
        elif seen and not any(one.fired_at for one in seen):
            why = "alerts were pending, none fired within the data"
        elif seen and any(one.fired_at for one in seen):
            why = "only alerts that had fired before the onset were firing"
        return (
            Stamp("alert", fires, None, why=why),
            Stamp("expression", expression, None, why=why),
        )
    off = chosen.uncertainty_seconds
    fired = Stamp("alert", fires, chosen.fired_at, "prometheus", chosen.query, off)
    if chosen.active_at is None:
        return fired, Stamp("expression", expression, None, why="its first instant is not recorded")
    return fired, Stamp("expression", expression, chosen.active_at, "prometheus", chosen.query, 1.0)


def detection(
    result: Result,
    path: Course,
    seen: tuple[AlertSeen, ...],
    chosen: AlertSeen | None,
    known: dict[str, Stamp],
    retention: float | None,
) -> Detection:
    """Return how it was noticed, and what would have noticed it."""
    ttd, gap, wait = (
        between("", known[begin], known[end])
        for begin, end in (("onset", "alert"), ("onset", "expression"), ("expression", "alert"))
    )
    scene = Scene(result, path, result.runbook_group.promise_seconds, retention)
    fired = {one.alert for one in seen if one.fired_at is not None}
    rules = replayed(scene, dict.fromkeys(fired))
    would = [
        rule
        for rule in rules
        if rule.after_onset_seconds is not None and rule.rule in ADVISED and not rule.seen_in_alerts
    ]
    first = min(would, key=lambda rule: (rule.after_onset_seconds or 0.0, rule.rule), default=None)
    return Detection(
        alert=chosen.alert if chosen else "",
        fired_at=chosen.fired_at if chosen else None,
        ttd_seconds=ttd.seconds,
        gap_seconds=gap.seconds,
        for_seconds=wait.seconds,
        uncertainty_seconds=ttd.uncertainty_seconds,
        why=ttd.why,
        alerts=seen,
        replayed=rules,
        earliest_rule=first.rule if first else "",
        earliest_rule_seconds=first.after_onset_seconds if first else None,
        dead_rules=tuple(
            f"{gap_.what}: {gap_.why}"
            for gap_ in result.incident.coverage
            if gap_.what.startswith("the alert ") and "cannot fire" in gap_.why
        ),
    )

"""What promtool proves of a ruleset: situations told once, written as each exporter would see them.

A situation says for each partition where the log begins and ends and where the group is, at
every scrape; :func:`proofs` turns that into the series of the dialect at hand, with its labels, its
-1 and its copies, and lists every alert that must fire. Alerts that the dialect cannot have are not
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from lagkit.rules import writing
from lagkit.rules.ruleset import Ruleset, build
from lagkit.rules.wishes import Wishes
from lagkit.sources.dialects import DIALECTS, Dialect, everything_of, quoted

STEP = 30
"""Seconds between two scrapes."""
GROUP, TOPIC = "deployment-worker", "deploy-requests"
Numbers = Sequence[float | None]
"""One value a scrape; None where there is no series."""


@dataclass(frozen=True)
class Partition:
    """One partition of one group over time; committed -1 where nothing was ever committed."""

    end: Numbers
    committed: Numbers
    start: Numbers = ()
    topic: str = TOPIC
    partition: int = 0
    group: str = GROUP
    cluster: str = ""
    told_end: Numbers | None = None
    """What the leader's exporter says of the log end, where that is not all there is."""


@dataclass(frozen=True)
class Copy:
    """The log end as another replica tells it."""

    end: Numbers
    topic: str = TOPIC
    partition: int = 0


@dataclass(frozen=True)
class Situation:
    """What happens, and which alerts must fire when: minute → alert → labels of each."""

    name: str
    partitions: tuple[Partition, ...]
    fires: Mapping[int, Mapping[str, Sequence[Mapping[str, str]]]]
    members: Mapping[str, Numbers] = field(default_factory=dict)
    copies: tuple[Copy, ...] = ()
    unread: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Minute → topic → messages that the group has not read."""
    ages: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Minute → topic → rung of the age, which must be among the rungs."""
    needs: frozenset[str] = frozenset()
    """Abilities without which the situation cannot be told."""


STANDARD = Wishes(retention=6 * 3600.0, expected=(GROUP,), critical=(GROUP,))
"""What the shipped rules promise."""
FOLDER = Path(__file__).resolve().parent.parent / "templates" / "rules"


def abilities(dialect: Dialect, ruleset: Ruleset) -> frozenset[str]:
    """Return what *ruleset* can tell, and ``both`` where the exporter writes both offsets."""
    both = dialect.partition and dialect.committed and dialect.log_end
    return ruleset.has | ({"both"} if both else set())


def proofs(ruleset: Ruleset, dialect: Dialect) -> str:
    """Return the promtool file that proves *ruleset* of *dialect*."""
    from rule_situations import SITUATIONS

    has = abilities(dialect, ruleset)
    document = {
        "rule_files": [f"{dialect.id}.yml"],
        "evaluation_interval": "1m",
        "group_eval_order": [group.name for group in ruleset.groups],
        "tests": [_test(one, dialect, ruleset) for one in SITUATIONS if one.needs <= has],
    }
    head = (
        f"# Proofs of {dialect.id}.yml: promtool test rules {dialect.id}_test.yml\n"
        "# ALERTS lists all that fires at that time: an alert that is not in the list is silent.\n"
    )
    return head + writing.as_yaml(document)


def shipped() -> dict[str, str]:
    """Return the files of templates/rules: name → text."""
    files: dict[str, str] = {}
    for dialect in DIALECTS:
        ruleset = build(everything_of(dialect), STANDARD)
        files[f"{dialect.id}.yml"] = writing.prometheus(ruleset)
        files[f"{dialect.id}_test.yml"] = proofs(ruleset, dialect)
    return files


def _test(situation: Situation, dialect: Dialect, ruleset: Ruleset) -> dict[str, Any]:
    expected: list[dict[str, Any]] = []
    for minute, alerts in sorted(situation.fires.items()):
        expected.append(
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": _labels(labels), "value": 1}
                    for name, all_labels in sorted(alerts.items())
                    if name in ruleset.alerts
                    for labels in sorted(_fired(name, all_labels, ruleset), key=str)
                ],
            }
        )
    offsets = "offsets" in ruleset.has
    for metric, values in (
        ("lagkit:group_topic_unread:messages", situation.unread),
        ("lagkit:group_topic_age:seconds", situation.ages),
    ):
        expected += [
            {
                "expr": f"{metric}{{group={quoted(GROUP)}}}",
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {
                        "labels": metric + braces({"group": GROUP, "topic": topic}),
                        "value": value,
                    }
                    for topic, value in sorted(topics.items())
                ],
            }
            for minute, topics in sorted(values.items())
            if offsets
        ]
    return {
        "name": situation.name,
        "interval": f"{STEP}s",
        "input_series": [
            {"series": series, "values": values}
            for series, values in _series(situation, dialect).items()
        ],
        "promql_expr_test": expected,
    }


def _fired(
    name: str, all_labels: Iterable[Mapping[str, str]], ruleset: Ruleset
) -> Iterator[dict[str, str]]:
    rule = next(rule for rule in ruleset.rules if rule.alert == name)
    for labels in all_labels:
        if "offsets" not in ruleset.has:  # all that is told is about whole groups
            labels = {key: value for key, value in labels.items() if key != "topic"}
        yield {"alertname": name, "alertstate": "firing", **labels, **rule.labels}


def _labels(labels: Mapping[str, str]) -> str:
    return "ALERTS" + braces(labels)


def braces(labels: Mapping[str, str]) -> str:
    """Return *labels* as a selector's."""
    inside = ", ".join(f"{key}={quoted(value)}" for key, value in labels.items())
    return f"{{{inside}}}"


# ── a situation in the words of an exporter ─────────────────────────────────────────────────────


def _series(situation: Situation, dialect: Dialect) -> dict[str, str]:
    found = everything_of(dialect)
    series: dict[str, list[str]] = {}

    def write(concept: str, labels: Mapping[str, str], numbers: Numbers) -> None:
        for name in found.metrics(concept)[:1]:
            factor = dialect.factor.get(name, 1.0)
            key = name + braces({k: v for k, v in labels.items() if v})
            series.setdefault(key, _written([n if n is None else n / factor for n in numbers]))

    match dialect.granularity:
        case "partition":
            for one in situation.partitions:
                _partition(one, dialect, write)
            for copy in situation.copies:
                labels = _log_labels(dialect, copy.topic, copy.partition)
                write("log_end", {**labels, "instance": "replica"}, copy.end)
        case "topic":
            for (cluster, group, topic), parts in _together(situation.partitions).items():
                labels = {dialect.group: group, dialect.topic: topic, "cluster": cluster}
                write("lag_by_topic", labels, _sum(_lag(one) for one in parts))
                write("committed_by_topic", labels, _sum(_known(one) for one in parts))
        case _:
            groups: dict[tuple[str, str], list[Partition]] = {}
            for one in situation.partitions:
                groups.setdefault((one.cluster, one.group), []).append(one)
            for (cluster, group), parts in groups.items():
                labels = {dialect.group: group, "cluster": cluster}
                write("lag_by_group", labels, _sum(_lag(one) for one in parts))
    for group, numbers in situation.members.items():
        write("members", {dialect.group: group}, numbers)
        _state(dialect, group, numbers, series)
    return {name: " ".join(values) for name, values in series.items()}


def _partition(
    one: Partition, dialect: Dialect, write: Callable[[str, Mapping[str, str], Numbers], None]
) -> None:
    of_log = _log_labels(dialect, one.topic, one.partition)
    of_group = {
        dialect.group: one.group,
        dialect.topic: one.topic,
        dialect.partition: str(one.partition),
    }
    cluster = {dialect.cluster or "cluster": one.cluster}
    told = one.end if one.told_end is None else one.told_end
    write("log_end", {**of_log, **cluster, "instance": "a"}, told)
    write("log_start", {**of_log, **cluster, "instance": "a"}, one.start or [0.0 for _ in told])
    committed = one.committed
    never = all(number in {-1, None} for number in committed)
    if never and not dialect.writes_minus_one:
        if dialect.zero_lag_without_commit:
            write("lag", {**of_group, **cluster, "instance": "a"}, [0 for _ in committed])
        return
    write("committed", {**of_group, **cluster, "instance": "a"}, committed)
    lag = list(committed) if never else _lag(one)
    write("lag", {**of_group, **cluster, "instance": "a"}, lag)


def _log_labels(dialect: Dialect, topic: str, partition: int) -> dict[str, str]:
    more = dict(
        part.split("=", 1) for part in dialect.log_matchers.split(",") if "=" in part
    )  # the matchers of log offsets are equalities
    return {
        **{label: value.strip('"') for label, value in more.items()},
        dialect.topic: topic,
        dialect.partition: str(partition),
    }


def _state(dialect: Dialect, group: str, numbers: Numbers, series: dict[str, list[str]]) -> None:
    if not dialect.state or dialect.members:
        return
    name = dialect.state.name.replace("{prefix}", "kminion_")
    if dialect.state.codes:
        codes = {state: code for code, state in dialect.state.codes.items()}
        values = [n if n is None else codes["Stable" if n else "Empty"] for n in numbers]
        series[name + braces({dialect.group: group})] = _written(values)
        return
    for state, wanted in (("stable", True), ("empty", False)):
        here = [1.0 if n is not None and bool(n) is wanted else None for n in numbers]
        if any(n is not None for n in here):
            labels = {dialect.group: group, dialect.state.label: state}
            series[name + braces(labels)] = _written(here)


def _together(
    partitions: Iterable[Partition],
) -> dict[tuple[str, str, str], list[Partition]]:
    groups: dict[tuple[str, str, str], list[Partition]] = {}
    for one in partitions:
        if any(number not in {-1, None} for number in one.committed):
            groups.setdefault((one.cluster, one.group, one.topic), []).append(one)
    return groups


def _known(one: Partition) -> Numbers:
    return [None if number in {-1, None} else number for number in one.committed]


def _lag(one: Partition) -> Numbers:
    return [
        None if end is None or committed in {-1, None} else max(0.0, end - (committed or 0.0))
        for end, committed in zip(one.end, one.committed, strict=True)
    ]


def _sum(parts: Iterable[Numbers]) -> Numbers:
    columns = zip(*parts, strict=True)
    return [
        sum(n for n in column if n is not None) if any(n is not None for n in column) else None
        for column in columns
    ]


def _written(numbers: Numbers) -> list[str]:
    """Return values in promtool's notation: runs of one slope, ``_`` where there is nothing."""
    parts: list[str] = []
    at = 0
    count = len(numbers)
    while at < count:
        first = numbers[at]
        if first is None:
            length = len(next(list(g) for k, g in groupby(numbers[at:], lambda n: n is None) if k))
            # a series that ends is gone from the next scrape on
            parts += (["stale"] if at else ["_"]) + ([f"_x{length - 1}"] if length > 1 else [])
            at += length
            continue
        step = 0.0
        following = numbers[at + 1] if at + 1 < count else None
        if following is not None:
            step = following - first
        length = 0
        while at + length + 1 < count:
            after = numbers[at + length + 1]
            if after is None or after != first + step * (length + 1):
                break
            length += 1
        parts.append(f"{first:.15g}{step:+.15g}x{length}" if length else f"{first:.15g}")
        at += length + 1
    return parts


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in shipped().items():
        (FOLDER / name).write_text(text, encoding="utf-8")

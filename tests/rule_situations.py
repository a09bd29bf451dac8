"""What the alert rules must say of which situation: each told once for every dialect.

Joins are over many partitions; topics come and go; replicas are behind, leaders move; clusters
share names. ``LATE`` are the alerts of a promise that has long been broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rule_proofs import GROUP, STEP, TOPIC, Copy, Numbers, Partition, Situation

Fired = Mapping[str, Sequence[Mapping[str, str]]]
PER_MINUTE = 60 // STEP
OURS = {"group": GROUP, "topic": TOPIC}


def path(minutes: int, start: float, *legs: tuple[int, float]) -> list[float]:
    """Return a value at every scrape: from *start*, per leg so much a scrape until its minute."""
    values = [start]
    for until, slope in legs:
        while len(values) <= until * PER_MINUTE:
            values.append(values[-1] + slope)
    assert len(values) == minutes * PER_MINUTE + 1
    return values


def less(values: Sequence[float], by: float) -> list[float]:
    return [value - by for value in values]


def between(values: Sequence[float], begin: int, end: int) -> list[float | None]:
    """Return *values* from minute *begin* until before minute *end*, nothing outside."""
    return [
        value if begin * PER_MINUTE <= at < end * PER_MINUTE else None
        for at, value in enumerate(values)
    ]


def late(**more: str) -> dict[str, list[Mapping[str, str]]]:
    labels = [{**OURS, **more}]
    names = (
        "LagPromiseFastBurn",
        "LagPromiseSlowBurn",
        "LagPromiseBudget",
        "KafkaConsumerLagHigh",
        "DeploymentWorkerLagging",
    )
    return {name: list(labels) for name in names}


def fires(**alerts: Sequence[Mapping[str, str]]) -> Fired:
    return alerts


GROWING = {"KafkaConsumerLagGrowing": [OURS]}
STANDING = {"KafkaConsumerNotConsuming": [OURS]}
STEADY = path(70, 1000, (70, 300))
STOPPED = path(70, 1000, (30, 300), (70, 0))


def _members(minutes: int, count: int, until: int | None = None) -> Numbers:
    stop = minutes if until is None else until
    return path(minutes, count, (minutes, 0))[: stop * PER_MINUTE + 1] + [0.0] * (
        (minutes - stop) * PER_MINUTE
    )


def _remade(minutes: int, at: int) -> list[float]:
    before = path(at, 50000, (at, 300))[:-1]
    return before + path(minutes - at, 0, (minutes - at, 300))


def _rewound() -> list[float]:
    end = path(60, 50000, (60, 300))
    return [value - (20 if at < 40 * PER_MINUTE else 5000) for at, value in enumerate(end)]


def _once_a_minute(minutes: int) -> list[float]:
    end = path(minutes, 1000, (minutes, 300))
    return [end[at - at % PER_MINUTE] for at in range(len(end))]


SITUATIONS: tuple[Situation, ...] = (
    Situation(
        "two groups keep up on six partitions of two topics, one poll behind: nothing fires",
        tuple(
            Partition(STEADY, less(STEADY, 20), topic=topic, partition=number, group=group)
            for group, count in ((GROUP, 6), ("audit", 2))
            for topic in (TOPIC, "api-events")
            for number in range(count)
        ),
        {65: {}},
        members={GROUP: _members(70, 3), "audit": _members(70, 1)},
        unread={65: {TOPIC: 120, "api-events": 120}},
        ages={65: {TOPIC: 0, "api-events": 0}},
    ),
    Situation(
        "an idle topic, a topic never committed to, one that never had a record: nothing fires",
        (
            Partition(path(70, 5000, (70, 0)), path(70, 5000, (70, 0))),
            Partition(STEADY, [-1] * len(STEADY), topic="new"),
            Partition([0] * len(STEADY), [0] * len(STEADY), topic="empty"),
        ),
        {65: {}},
        members={GROUP: _members(70, 1)},
        unread={65: {TOPIC: 0, "empty": 0}},
        ages={65: {TOPIC: 0, "empty": 0}},
    ),
    Situation(
        "the consumers go away at minute 30 while 20 messages a second keep arriving",
        tuple(Partition(STEADY, STOPPED, partition=number) for number in range(2)),
        {
            25: {},
            65: late() | GROWING | STANDING | {"GroupEmptyWithBacklog": [{"group": GROUP}]},
        },
        members={GROUP: _members(70, 2, 30)},
        unread={60: {TOPIC: 36000}},
        ages={60: {TOPIC: 600}, 61: {TOPIC: 1800}},
    ),
    Situation(
        "a backlog drains: late, but neither growing nor standing still",
        (Partition(path(70, 200000, (70, 300)), path(70, 80000, (70, 800))),),
        {60: late()},
        members={GROUP: _members(70, 3)},
        unread={60: {TOPIC: 60000}},
        ages={60: {TOPIC: 3600}},
    ),
    Situation(
        "one of six partitions stands still from minute 20: that one is named, not the group",
        tuple(
            Partition(STEADY, path(70, 1000, (20, 300), (70, 0)), partition=number)
            if number == 3
            else Partition(STEADY, less(STEADY, 20), partition=number)
            for number in range(6)
        ),
        {60: late() | GROWING | {"PartitionStalled": [{**OURS, "partition": "3"}]}},
        members={GROUP: _members(70, 3)},
        unread={60: {TOPIC: 24100}},
    ),
    Situation(
        "100 messages wait and the producers fall silent: still late, and named as standstill",
        (
            Partition(
                path(90, 1000, (10, 10), (11, 50), (90, 0)),
                path(90, 1000, (10, 10), (90, 0)),
            ),
        ),
        {85: late() | STANDING},
        members={GROUP: _members(90, 1)},
        unread={85: {TOPIC: 100}},
        ages={85: {TOPIC: 3600}},
    ),
    Situation(
        "a consumer falls 10 messages a minute behind for an hour and a half",
        (Partition(path(90, 1000, (90, 6)), path(90, 1000, (90, 1))),),
        {85: late() | GROWING},
        members={GROUP: _members(90, 1)},
        unread={85: {TOPIC: 850}},
        ages={85: {TOPIC: 3600}},
    ),
    Situation(
        "commits come once a minute, in steps: nothing fires",
        (Partition(STEADY, _once_a_minute(70)),),
        {65: {}},
        members={GROUP: _members(70, 1)},
        needs=frozenset({"offsets"}),
    ),
    Situation(
        "the group goes back by 4,980 messages: named as a rewind",
        (Partition(path(60, 50000, (60, 300)), _rewound()),),
        {
            39: {},
            44: fires(OffsetRewound=[{**OURS, "partition": "0"}], DeploymentWorkerLagging=[OURS]),
        },
        members={GROUP: _members(60, 1)},
        unread={44: {TOPIC: 5000}},
        ages={44: {TOPIC: 300}},
        needs=frozenset({"partitions"}),
    ),
    Situation(
        "a topic is deleted and made anew: no rewind, and no age out of its former life",
        (Partition(_remade(60, 40), _remade(60, 40)),),
        {45: {}},
        members={GROUP: _members(60, 1)},
        unread={45: {TOPIC: 0}},
        ages={45: {TOPIC: 0}},
    ),
    Situation(
        "every lag metric vanishes",
        (
            Partition(
                between(path(60, 1000, (60, 300)), 0, 20),
                between(path(60, 1000, (60, 300)), 0, 20),
                between(path(60, 0, (60, 0)), 0, 20),
            ),
        ),
        {
            19: {},
            40: fires(
                LagMetricsMissing=[{}, {"group": GROUP}],
                GroupMetricsVanished=[{"group": GROUP}],
            ),
        },
    ),
    Situation(
        "one group vanishes while another stays",
        (
            Partition(
                path(60, 1000, (60, 300)),
                between(path(60, 1000, (60, 300)), 0, 20),
            ),
            Partition(path(60, 1000, (60, 300)), path(60, 1000, (60, 300)), group="audit"),
        ),
        {
            40: fires(
                LagMetricsMissing=[{"group": GROUP}], GroupMetricsVanished=[{"group": GROUP}]
            ),
        },
    ),
    Situation(
        "commits stay and the log ends are lost: unknown, not zero",
        (
            Partition(
                path(60, 1000, (60, 300)),
                path(60, 1000, (60, 300)),
                told_end=between(path(60, 1000, (60, 300)), 0, 30),
            ),
        ),
        {50: fires(LagUnknown=[OURS], GroupMetricsVanished=[{"group": GROUP}])},
        members={GROUP: _members(60, 1)},
        needs=frozenset({"both"}),
    ),
    Situation(
        "a topic is added at minute 30 and removed at minute 50",
        (
            Partition(STEADY, less(STEADY, 20)),
            *(
                Partition(
                    between(path(70, 0, (70, 300)), 30, 50),
                    between(less(path(70, 0, (70, 300)), 20), 30, 50),
                    between(path(70, 0, (70, 0)), 30, 50),
                    topic="extra",
                    partition=number,
                )
                for number in range(4)
            ),
        ),
        {45: {}, 65: {}},
        members={GROUP: _members(70, 1)},
        unread={45: {TOPIC: 20, "extra": 80}, 65: {TOPIC: 20}},
        ages={45: {TOPIC: 0, "extra": 0}, 65: {TOPIC: 0}},
    ),
    Situation(
        "a replica is 500 behind, and becomes the leader at minute 30 as the other goes",
        tuple(
            Partition(
                STEADY,
                less(STEADY, 20),
                partition=number,
                told_end=between(STEADY, 0, 30),
            )
            for number in range(3)
        ),
        {29: {}, 31: {}, 60: {}},
        members={GROUP: _members(70, 1)},
        copies=tuple(
            Copy(
                [value - (500 if at < 30 * PER_MINUTE else 0) for at, value in enumerate(STEADY)],
                partition=number,
            )
            for number in range(3)
        ),
        unread={29: {TOPIC: 60}, 31: {TOPIC: 60}, 60: {TOPIC: 60}},
        ages={60: {TOPIC: 0}},
        needs=frozenset({"partitions"}),
    ),
    Situation(
        "two clusters have the same group and topic, and only in b it stands still",
        (
            Partition(STEADY, less(STEADY, 20), cluster="a"),
            Partition(less(STEADY, 900), less(STOPPED, 900), cluster="b"),
        ),
        {
            65: late(cluster="b")
            | {
                "KafkaConsumerLagGrowing": [{**OURS, "cluster": "b"}],
                "KafkaConsumerNotConsuming": [{**OURS, "cluster": "b"}],
            },
        },
    ),
    Situation(
        "nobody counts as a member while commits go on (KIP-848), or there is no backlog",
        (
            Partition(STEADY, less(STEADY, 20)),
            Partition(STEADY, STEADY, topic="api-events", group="audit"),
        ),
        {65: {}},
        members={GROUP: _members(70, 0), "audit": _members(70, 0)},
        needs=frozenset({"offsets"}),
    ),
    Situation(
        "unread messages come within two hours of the retention of six",
        (Partition(path(280, 1000, (280, 300)), path(280, 1000, (30, 300), (280, 0))),),
        {
            265: late() | GROWING | STANDING,
            278: late() | GROWING | STANDING | {"BacklogReachesRetention": [OURS]},
        },
        members={GROUP: _members(280, 1)},
        ages={278: {TOPIC: 14400}},
    ),
    Situation(
        "the log start catches up with the group, and passes it at minute 50",
        (
            Partition(
                path(70, 100000, (70, 300)),
                path(70, 50000, (70, 100)),
                path(70, 40000, (70, 200)),
            ),
        ),
        {
            30: late() | GROWING | {"LogStartCatchingUp": [{**OURS, "partition": "0"}]},
            65: late() | GROWING | {"RecordsDeletedUnread": [{**OURS, "partition": "0"}]},
        },
        members={GROUP: _members(70, 1)},
        needs=frozenset({"log_start"}),
        unread={30: {TOPIC: 62000}, 65: {TOPIC: 73000}},
    ),
)

"""``lagkit peek``: the record a group stands at, read without joining the group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from lagkit.commands.console import Progress, print_result
from lagkit.commands.options import settings_from, with_options
from lagkit.commands.watch import BROKER_OPTIONS
from lagkit.errors import NoSourceReadable, NothingThere, UsageError

if TYPE_CHECKING:
    from lagkit.config import Settings
    from lagkit.payloads import SchemaOf
    from lagkit.peeking import Shown, Standing
    from lagkit.redact import Redactor
    from lagkit.sources.kafka.following import Look
    from lagkit.sources.kafka.records import Record

LOOK_SECONDS = 15.0
READ_SECONDS = 15.0


@click.command()
@click.argument("group")
@click.option("--partition", type=click.IntRange(min=0), required=True, help="Which partition.")
@click.option("--topic", metavar="T", help="Its topic; only needed where the group reads several.")
@click.option(
    "--around",
    type=click.IntRange(0, 50),
    default=1,
    show_default=True,
    metavar="K",
    help="Show so many records before and after it.",
)
@click.option(
    "--characters",
    type=click.IntRange(80, 100_000),
    default=2000,
    show_default=True,
    metavar="N",
    help="Show at most so much of each payload.",
)
@click.option(
    "--schema-registry", metavar="URL", help="Schema registry that speaks Confluent's API."
)
@with_options(BROKER_OPTIONS)
def peek(
    group: str,
    partition: int,
    topic: str | None,
    around: int,
    characters: int,
    **sources: Any,
) -> int:
    """Show the record that GROUP reads next in a partition, and whether it decodes.

    Read without joining the group: nothing is committed, no member notices. Payloads are shown as
    JSON, Avro, Protobuf, text or hex, without what looks like a secret. Prints the safe way to
    skip that one record and what would be lost; runs none of it.
    """
    import pandas as pd

    from lagkit.peeking import skip
    from lagkit.redact import Redactor
    from lagkit.render.record import records
    from lagkit.runbook import load
    from lagkit.sources import Scope
    from lagkit.sources.kafka import KafkaSource
    from lagkit.sources.kafka.following import Follower
    from lagkit.sources.kafka.records import read_records

    settings = settings_from(sources)
    if not (settings.bootstrap or settings.kafka_properties_file):
        msg = "No broker is configured, and records are read from brokers."
        raise UsageError(msg, hint="Give --bootstrap HOST:PORT, or write it in lagkit.toml.")
    book = load(settings.runbook)
    now = pd.Timestamp.now("UTC").floor("ms").as_unit("us")
    source = KafkaSource.configured(
        settings.bootstrap, settings.kafka_properties, settings.kafka_properties_file
    )
    with Progress() as progress:
        progress(f"kafka: where {group} stands")
        scope = Scope(group, (topic,) if topic else (), now, now, book)
        with Follower(source, scope) as follower:
            look = follower.look(budget_seconds=LOOK_SECONDS)
        standing = _standing(look, group, topic, partition)
        first = max(standing.committed - around, standing.log_start or 0)
        progress(f"kafka: reading {standing.topic}/{partition} from offset {first}")
        read = read_records(
            source,
            standing.topic,
            partition,
            first,
            standing.committed + around,
            budget_seconds=READ_SECONDS,
        )
        if not read.records and read.fault:
            _refuse(read.fault, standing, denied=read.denied)
        redactor = Redactor()
        schema_of = _registry(settings)
        shown = [
            _shown(record, standing, schema_of, redactor, characters) for record in read.records
        ]
    target = next((record for record in shown if record.offset >= standing.committed), None)
    way = (
        None if target is None else skip(standing, target, book, bootstrap=settings.bootstrap or "")
    )
    return print_result(f"{records(standing, shown, way, fault=read.fault)}\n")


def _standing(look: Look, group: str, topic: str | None, partition: int) -> Standing:
    """Return where the group stands; refuse a partition that is not there, or not the group's."""
    from lagkit.peeking import Standing

    rows = look.offsets
    if rows.empty:
        if look.fault and look.state == "Unknown":
            msg = f"Where {group!r} stands could not be read: {look.fault}"
            raise NoSourceReadable(msg, hint="`lagkit doctor` says what to mend.")
        where = f"in a topic {topic!r}" if topic else "on these brokers"
        msg = f"The group {group!r} has committed nothing {where}."
        raise NothingThere(msg, hint="Check the names; `lagkit capture` offers near ones.")
    here = rows.loc[rows["partition"] == partition]
    topics = sorted(here["topic"].unique())
    if not topics:
        known = sorted({int(number) for number in rows["partition"]})
        named = topic or ", ".join(sorted(rows["topic"].unique()))
        msg = f"There is no partition {partition} in {named}."
        raise NothingThere(msg, hint=f"There are {known[0]} to {known[-1]}.")
    committed = here.loc[here["committed_offset"].notna()]
    if len(topics) > 1 and len(set(committed["topic"])) > 1:
        msg = f"{group!r} reads partition {partition} of several topics: {', '.join(topics)}."
        raise UsageError(msg, hint="Say which with --topic T.")
    if committed.empty:
        msg = f"{group!r} has committed nothing in {topics[0]}/{partition}, so it stands nowhere."
        raise NothingThere(msg, hint="Its auto.offset.reset decides where it will begin.")
    row = committed.iloc[0]
    return Standing(
        group=group,
        topic=str(row["topic"]),
        partition=partition,
        committed=int(row["committed_offset"]),
        log_start=_whole(row["log_start_offset"]),
        log_end=_whole(row["log_end_offset"]),
        state=look.state,
        members=look.members,
    )


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else int(value)


def _refuse(fault: str, standing: Standing, *, denied: bool) -> None:
    where = f"{standing.topic}/{standing.partition}"
    msg = f"The records of {where} could not be read: {fault}"
    hint = (
        f"It takes READ on topic {standing.topic!r}; groups need no right for this."
        if denied
        else "`lagkit doctor` says what to mend."
    )
    raise NoSourceReadable(msg, hint=hint)


def _registry(settings: Settings) -> SchemaOf | None:
    if not settings.schema_registry:
        return None
    from lagkit.sources.schema_registry import SchemaRegistry

    return SchemaRegistry(settings.schema_registry, settings.schema_registry_login).schema


def _shown(
    record: Record,
    standing: Standing,
    schema_of: SchemaOf | None,
    redactor: Redactor,
    characters: int,
) -> Shown:
    from lagkit.payloads import payload
    from lagkit.peeking import Shown

    place = record.offset - standing.committed
    return Shown(
        offset=record.offset,
        role="before" if place < 0 else "at" if place == 0 else "after",
        timestamp_ms=record.timestamp_ms,
        timestamp_kind=record.timestamp_kind,
        size=record.size,
        key=payload(record.key, schema_of=schema_of, redactor=redactor, characters=characters),
        value=payload(record.value, schema_of=schema_of, redactor=redactor, characters=characters),
        headers=tuple(
            (name, payload(value, redactor=redactor, characters=min(characters, 300)))
            for name, value in record.headers
        ),
    )

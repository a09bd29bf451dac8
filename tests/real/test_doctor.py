"""The doctor on real servers: what it can read there, what not, and the line that mends it."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import run

from lab.install import Artifact, install
from lab.processes import Ledger, free_ports
from lab.prometheus import start_recorded, start_victoria, write_blocks
from lab.stack import Stack
from lagkit import doctor
from lagkit.config import Budgets, OwnDialect, Settings

from .conftest import require
from .recorded import LINE, SCRAPES

GROUP, TOPIC = "deployment-worker", "deploy-requests"
STEP_SECONDS = 15
BEFORE_SECONDS, AHEAD_SECONDS = 900, 1800
"""The samples reach into the future, so that the last ten minutes are covered whenever it asks."""

CONSUMER_LAG = """'["group","partition","consumer_lag"]'"""
LAG_GAUGES = f"rpk cluster config set enable_consumer_group_metrics {CONSUMER_LAG}"
STATE_AND_MEMBERS = "Give --bootstrap for both as they are now."
MEMBERS = "Give --bootstrap for the members now."
STATE = "Give --bootstrap for the state now; members over time stand in for its history."
LOG_START = "Give --bootstrap: the broker itself knows its log start offsets."
BROKERS = "Scrape the brokers' JMX exporter, or Redpanda's /public_metrics."
Series = tuple[str, str]
"""Name and labels; its values rise by one a scrape."""


@dataclass(frozen=True)
class Variant:
    """One kind of Prometheus server: what it holds, and what the doctor must say of it."""

    dialect: str
    """Its id; "" where no exporter writes."""
    fixes: tuple[str, ...] = ()
    """All the lines that mend something about Prometheus, in any order."""
    series: tuple[Series, ...] = ()
    scrape: str = ""
    """A recorded page of ``tests/data/scrapes`` in place of *series*."""
    group: str = GROUP
    own: tuple[OwnDialect, ...] = ()
    disagree: bool = False
    """Whether the numbers of *series*, which all count up alike, contradict each other."""

    def lines(self) -> list[str]:
        """Return the samples around now, in the exposition format."""
        now = int(time.time())
        times = range(now - BEFORE_SECONDS, now + AHEAD_SECONDS, STEP_SECONDS)
        target = 'job="exporter",instance="10.0.0.7:9999"'
        found = [(name, labels, None) for name, labels in self.series]
        if self.scrape:
            page = (SCRAPES / f"{self.scrape}.prom").read_text(encoding="utf-8")
            matches = (LINE.match(line) for line in page.splitlines())
            found = [(one[1], one[2] or "", float(one[3])) for one in matches if one]
        return [
            f"{name}{{{','.join(filter(None, (labels, target)))}}} "
            f"{number if value is None else value} {at}"
            for name, labels, value in [*found, ("up", "", 1.0)]
            for number, at in enumerate(times, start=1)
        ]


PARTITION = f'topic="{TOPIC}",partition="0"'
SEGLO = (
    ("kafka_consumergroup_group_lag", f'group="{GROUP}",{PARTITION}'),
    ("kafka_consumergroup_group_offset", f'group="{GROUP}",{PARTITION}'),
    ("kafka_partition_latest_offset", PARTITION),
    ("kafka_partition_earliest_offset", PARTITION),
)
KLAG = (
    ("klag_consumer_lag", f'consumer_group="{GROUP}",{PARTITION}'),
    ("klag_consumer_committed_offset", f'consumer_group="{GROUP}",{PARTITION}'),
    ("klag_partition_log_end_offset", f'consumer_group="{GROUP}",{PARTITION}'),
    ("klag_partition_log_start_offset", f'consumer_group="{GROUP}",{PARTITION}'),
)
REDPANDA_GROUP = f'redpanda_group="{GROUP}",shard="0"'
REDPANDA = (
    (
        "redpanda_kafka_consumer_group_committed_offset",
        f'redpanda_group="{GROUP}",redpanda_topic="{TOPIC}",redpanda_partition="0",shard="0"',
    ),
    (
        "redpanda_kafka_max_offset",
        f'redpanda_namespace="kafka",redpanda_topic="{TOPIC}",redpanda_partition="0"',
    ),
    ("redpanda_kafka_consumer_group_consumers", REDPANDA_GROUP),
)
GAUGES = (
    ("redpanda_kafka_consumer_group_lag_sum", REDPANDA_GROUP),
    ("redpanda_kafka_consumer_group_consumers", REDPANDA_GROUP),
)
KMINION_BY_TOPIC = (
    ("kminion_kafka_consumer_group_topic_lag", f'group_id="{GROUP}",topic_name="{TOPIC}"'),
    ("kminion_kafka_consumer_group_topic_offset_sum", f'group_id="{GROUP}",topic_name="{TOPIC}"'),
    ("kminion_kafka_consumer_group_members", f'group_id="{GROUP}"'),
)
ACME = OwnDialect(id="acme", committed="acme_done", log_end="acme_end", group="cg")
ACME_PAGE = (("acme_done", f'cg="{GROUP}",{PARTITION}'), ("acme_end", PARTITION))


def instead(*names: str) -> str:
    """Return what is said where the runbook's alerts read names that do not exist."""
    return f"Alert on {', '.join(names)} instead."


VARIANTS = {
    "klag-exporter": Variant(
        "klag_exporter",
        (MEMBERS, BROKERS, instead("kafka_consumergroup_group_lag")),
        scrape="klag_exporter_rate",
    ),
    "seglo": Variant("seglo", (STATE_AND_MEMBERS, BROKERS, instead(SEGLO[0][0])), SEGLO),
    "klag": Variant("klag", (MEMBERS, BROKERS, instead(KLAG[0][0])), KLAG),
    "kminion": Variant(
        "kminion",
        (BROKERS, instead("kminion_kafka_consumer_group_topic_partition_lag")),
        scrape="kminion", group="orders-svc",
    ),
    "kminion by topic": Variant(
        "kminion_topic",
        (
            "Set minion.consumerGroups.granularity: partition in kminion's configuration.",
            BROKERS,
            instead(KMINION_BY_TOPIC[0][0]),
        ),
        KMINION_BY_TOPIC,
    ),
    "Burrow": Variant(
        "burrow",
        (LOG_START, STATE_AND_MEMBERS, BROKERS, instead("burrow_kafka_consumer_partition_lag")),
        scrape="burrow", group="orders-svc",
    ),
    "braedon": Variant("braedon", (STATE_AND_MEMBERS, BROKERS), scrape="braedon_kafka391"),
    "braedon on Kafka 4": Variant(
        "braedon",
        (
            "Deploy another exporter, e.g. the OpenTelemetry kafkametrics receiver.",
            STATE_AND_MEMBERS,
            BROKERS,
            instead("a metric that exists"),
            "Check the name and the window.",
        ),
        scrape="braedon_kafka431_broken",
    ),
    "OpenTelemetry": Variant("otel", (STATE,), scrape="otel_kafkametrics_runbook_names"),
    "OpenTelemetry with suffixes": Variant(
        "otel",
        (STATE, instead("kafka_consumer_group_lag_ratio")),
        scrape="otel_kafkametrics_default",
    ),
    "kafka_exporter": Variant(
        "kafka_exporter",
        (STATE, instead("kafka_consumergroup_lag")),
        scrape="kafka_exporter", group="orders-svc",
    ),
    "redpanda": Variant(
        "redpanda", (LAG_GAUGES, LOG_START, STATE, BROKERS, instead(REDPANDA[0][0])), REDPANDA
    ),
    "redpanda with consumer_lag": Variant(
        "redpanda", (LOG_START, STATE, BROKERS, instead(REDPANDA[0][0])), (*REDPANDA, GAUGES[0]),
        disagree=True,
    ),
    "redpanda without partition": Variant(
        "redpanda_gauges", (LAG_GAUGES, LAG_GAUGES, BROKERS, instead(GAUGES[0][0])), GAUGES
    ),
    "an own mapping": Variant("acme", (BROKERS, instead("acme_done")), ACME_PAGE, own=(ACME,)),
    "no exporter": Variant("", ("Deploy a lag exporter", BROKERS)),
}  # fmt: skip
PATIENT = Budgets(prometheus=60)
BY_COMMAND = ("kminion by topic", "no exporter", "redpanda")
"""Those that the command itself is run for; the others ask as it does, without its start."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    found = install(["prometheus"])
    require(found, "prometheus")
    prometheus = found["prometheus"]
    assert isinstance(prometheus, Artifact)
    return prometheus


@contextmanager
def serving(artifact: Artifact, folder: Path, variant: Variant) -> Iterator[str]:
    ledger = Ledger(folder / "lab")
    store = write_blocks(artifact, folder / "pages", variant.lines())
    try:
        yield start_recorded(ledger, artifact, free_ports(1)[0], store)
    finally:
        ledger.stop()


def about_prometheus(told: str, *, disagree: bool = False) -> str:
    """Return what the doctor prints about Prometheus alone."""
    part = told[told.index("\nprometheus ") : told.index("\nkafka ")]
    assert ("distrust" in told) is disagree
    return part


def fixes(part: str) -> list[str]:
    return re.findall(r"^ +fix +(.*)$", part, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_the_doctor_says_what_a_server_gives_and_each_line_that_gives_more(
    artifact: Artifact, tmp_path: Path, name: str
) -> None:
    variant = VARIANTS[name]
    with serving(artifact, tmp_path, variant) as url:
        if name in BY_COMMAND:
            ran = run("doctor", variant.group, "--prometheus", url, cwd=tmp_path)
            assert ran.status == 0, ran.both
            told = ran.out
        else:
            settings = Settings(prometheus=url, dialects=list(variant.own), budgets=PATIENT)
            diagnosis = doctor.examine(settings, variant.group)
            assert diagnosis.exit_status == 0
            told = doctor.render(diagnosis)
    part = about_prometheus(told, disagree=variant.disagree)
    assert re.search(rf"^ +dialect {variant.dialect or 'none'}( ·|$)", part, re.MULTILINE), part
    given = fixes(part)
    assert len(given) == len(variant.fixes), given
    for line in variant.fixes:
        assert any(one.startswith(line) for one in given), (line, given)
    reads = re.search(r"^ +reads +(.*)$", part, re.MULTILINE)
    tells_offsets = variant.dialect not in ("", "redpanda_gauges") and name != "braedon on Kafka 4"
    assert bool(reads and "offsets" in reads[1]) == tells_offsets, part


def test_the_doctor_reads_a_victoria_metrics(tmp_path: Path) -> None:
    found = install(["victoria"])
    require(found, "victoria")
    victoria = found["victoria"]
    assert isinstance(victoria, Artifact)
    lines = []
    for line in VARIANTS["OpenTelemetry"].lines():
        sample, _, at = line.rpartition(" ")
        lines.append(f"{sample} {at}000\n")
    ledger = Ledger(tmp_path / "lab")
    try:
        url = start_victoria(ledger, victoria, free_ports(1)[0])
        root = url.removesuffix("/prometheus")
        body = "".join(lines).encode()
        for path, data in (("api/v1/import/prometheus", body), ("internal/force_flush", None)):
            question = urllib.request.Request(f"{root}/{path}", data=data)
            with urllib.request.urlopen(question, timeout=30) as reply:
                reply.read()
        told = doctor.render(doctor.examine(Settings(prometheus=url, budgets=PATIENT), GROUP))
    finally:
        ledger.stop()
    part = about_prometheus(told)
    assert re.search(r"^ +dialect otel( ·|$)", part, re.MULTILINE)
    assert re.search(r"^ +reads +.*offsets", part, re.MULTILINE)
    assert fixes(part) == [STATE]


def test_the_doctor_gives_the_rules_that_a_user_without_rights_needs(
    control_plane: Stack, tmp_path: Path
) -> None:
    login = control_plane.kubeconfig("nobody")
    told = run("doctor", GROUP, "--kubeconfig", login, cwd=tmp_path)
    assert told.status in (0, 4), told.both
    assert "missing  " in told.out
    assert 'apiGroups: [""], resources: ["pods"]' in told.out

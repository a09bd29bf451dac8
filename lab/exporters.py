"""Run the lag exporters that can be installed, and the relay that stands in for the others.

Knows their configuration; knows nothing about Prometheus. The relay (``lab.relay``) is lab code:
it reads the real broker and serves its numbers under the names of kafka_exporter, kminion and
Redpanda, which no registry offers.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import urllib.request
from pathlib import Path

from lab.install import Artifact
from lab.processes import Ledger

READY_SECONDS = 45.0
RELAY_READY_SECONDS = 30.0
REQUEST_SECONDS = 3.0
TERM_GRACE = 3.0
POLL = "5s"
# Six polls without an answer: the collector forgets the last values instead of repeating them for
# its default of five minutes.
METRIC_EXPIRATION = "30s"
# By default a topic made after the collector started stays unseen for up to ten minutes.
METADATA_REFRESH = "10s"
# Its own default is 15 minutes: so long it reports a lag of 0 for all groups after a leader change.
METADATA_MAX_AGE = "10000"
KLAG_TEMPLATE = Path(__file__).resolve().parent / "klag-exporter.toml"
BRAEDON_LAUNCHER = Path(__file__).resolve().parent / "braedon.py"
CHECKOUT = Path(__file__).resolve().parent.parent
CONTAINERS = "/cadvisor"
RELAY_DIALECTS = ("kafka_exporter", "kminion", "redpanda")


def scrape_missing(url: str) -> str | None:
    """Return None when a metrics endpoint answers 200, else one line that says what it did."""
    try:
        with urllib.request.urlopen(url, timeout=REQUEST_SECONDS) as answer:
            answer.read()
    except OSError as error:
        return f"{url}: {error}"
    return None


def start_otel(
    ledger: Ledger,
    artifact: Artifact,
    brokers: str,
    port: int,
    *,
    metric_expiration: str | None = METRIC_EXPIRATION,
) -> None:
    """Start the OpenTelemetry collector with its kafkametrics receiver, serving on `port`.

    `metric_expiration` is how long it repeats a value it can no longer read; None leaves the
    collector's default of five minutes.
    """
    expiration = {} if metric_expiration is None else {"metric_expiration": metric_expiration}
    config = {
        "receivers": {
            "kafkametrics": {
                "brokers": brokers.split(","),
                "scrapers": ["brokers", "topics", "consumers"],
                "collection_interval": POLL,
                "metadata": {"refresh_interval": METADATA_REFRESH},
            }
        },
        "exporters": {
            "prometheus": {
                "endpoint": f"127.0.0.1:{port}",
                # Without this the name is kafka_consumer_group_lag_ratio.
                "add_metric_suffixes": False,
                "without_scope_info": True,
                **expiration,
            }
        },
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"metrics": {"receivers": ["kafkametrics"], "exporters": ["prometheus"]}},
        },
    }
    path = ledger.folder / "otel.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(config, indent=1) + "\n")
    url = f"http://127.0.0.1:{port}/metrics"
    ledger.start(
        "otel",
        [artifact.files["collector"], "--config", path],
        endpoint=url,
        ready=lambda: scrape_missing(url),
        timeout=READY_SECONDS,
        term_grace=TERM_GRACE,
    )


def start_klag(
    ledger: Ledger,
    artifact: Artifact,
    brokers: str,
    port: int,
    *,
    metadata_max_age_ms: str | None = METADATA_MAX_AGE,
) -> None:
    """Start klag-exporter, serving on `port`.

    `metadata_max_age_ms` keeps its false zeros after a leader change short; None leaves its own
    default, so that they last.
    """
    slots = {
        "@PORT@": str(port),
        "@BROKERS@": brokers,
        "@POLL@": POLL,
        "@WORKAROUND@": ""
        if metadata_max_age_ms is None
        else f'"metadata.max.age.ms" = "{metadata_max_age_ms}"',
    }
    text = KLAG_TEMPLATE.read_text()
    for slot, value in slots.items():
        text = text.replace(slot, value)
    path = ledger.folder / "klag-exporter.toml"
    path.write_text(text)
    url = f"http://127.0.0.1:{port}/metrics"
    ledger.start(
        "klag",
        [artifact.files["exporter"], "--config", path],
        endpoint=url,
        ready=lambda: scrape_missing(url),
        timeout=READY_SECONDS,
        term_grace=TERM_GRACE,
    )


def start_braedon(ledger: Ledger, artifact: Artifact, brokers: str, port: int) -> None:
    """Start braedon's exporter 0.5.5 as it is, serving on `port`: of Kafka 4 it reads no lag."""
    url = f"http://127.0.0.1:{port}/metrics"
    ledger.start(
        "braedon",
        # -P: beside the launcher stands a module called kafka, which is not the one it wants.
        [artifact.files["python"], "-P", BRAEDON_LAUNCHER, "-b", brokers, "-p", str(port), "-s"],
        endpoint=url,
        ready=lambda: scrape_missing(url),
        timeout=READY_SECONDS,
        term_grace=TERM_GRACE,
    )


def relay_exists() -> bool:
    """Tell whether this checkout has the relay."""
    return importlib.util.find_spec("lab.relay") is not None


def start_relay(ledger: Ledger, brokers: str, port: int) -> None:
    """Start the relay on `port`; `lab.relay` lists its pages.

    That of the containers is empty until this lab runs a kubelet.
    """
    url = f"http://127.0.0.1:{port}"
    ledger.start(
        "relay",
        [
            sys.executable,
            "-m",
            "lab.relay",
            "--bootstrap",
            brokers,
            "--port",
            str(port),
            "--lab",
            ledger.folder,
        ],
        endpoint=url,
        ready=lambda: scrape_missing(f"{url}/{RELAY_DIALECTS[0]}"),
        timeout=RELAY_READY_SECONDS,
        cwd=CHECKOUT,
        term_grace=TERM_GRACE,
    )

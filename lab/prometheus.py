"""Run Prometheus, one server per metric dialect, and one Alertmanager; run VictoriaMetrics.

Knows which exporter each server scrapes and the paths of the rules; knows nothing about what the
metrics mean. One server per dialect, so that dialect detection meets one dialect at a time, as it
does in a company.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.install import Artifact
from lab.processes import LabError, Ledger, Ready

PART = "prometheus"
READY_SECONDS = 30.0
REQUEST_SECONDS = 3.0
TEMPLATES = Path("/usr/share/prometheus")
TERM_GRACE = 3.0
RELOAD_SECONDS = 60.0
RELOAD_POLL_SECONDS = 0.2
SCRAPE_SECONDS = 5
LONGEST_SCRAPE = 10  # seconds; Prometheus' own default of scrape_timeout
EVALUATION_INTERVAL = "5s"
RULES = Path(__file__).resolve().parent / "alerts.yml"
DIALECTS = ("otel", "klag", "kafka_exporter", "kminion", "redpanda")


@dataclass(frozen=True)
class Target:
    """One thing to scrape: job name, HOST:PORT and path."""

    job: str
    addresses: tuple[str, ...]
    path: str = "/metrics"


def config(
    targets: Sequence[Target], *, rules: bool = False, alertmanager: int | None = None
) -> dict[str, Any]:
    """Return a Prometheus configuration; with `rules` the lab's alert rules are in it."""
    answer: dict[str, Any] = {
        "global": {
            "scrape_interval": f"{SCRAPE_SECONDS}s",
            "scrape_timeout": f"{SCRAPE_SECONDS}s",
            "evaluation_interval": EVALUATION_INTERVAL,
        },
        "scrape_configs": [
            {
                "job_name": target.job,
                "metrics_path": target.path,
                "static_configs": [{"targets": list(target.addresses)}],
            }
            for target in targets
        ],
    }
    if rules:
        answer["rule_files"] = [str(RULES)]
    if alertmanager is not None:
        answer["alerting"] = {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
        }
    return answer


def ready_missing(url: str) -> str | None:
    """Return None when a server says it is ready, else one line that says what it did."""
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=REQUEST_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"{url}/-/ready answered {error.code}"
    except OSError as error:
        return f"{url}/-/ready: {error}"


def start_prometheus(
    ledger: Ledger, artifact: Artifact, dialect: str, port: int, settings: dict[str, Any]
) -> str:
    """Start one Prometheus with an empty store and return its URL."""
    name = f"prometheus-{dialect}"
    folder = ledger.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "prometheus.yml"
    # JSON is YAML.
    path.write_text(json.dumps(settings, indent=1) + "\n")
    url = f"http://127.0.0.1:{port}"
    ledger.start(
        name,
        [
            artifact.files["prometheus"],
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        part=PART,
        endpoint=url,
        ready=lambda: ready_missing(url),
        timeout=READY_SECONDS,
        term_grace=TERM_GRACE,
    )
    return url


def scrape_every(ledger: Ledger, dialect: str, url: str, seconds: int) -> None:
    """Let the running Prometheus of a dialect scrape so often, and wait until it does.

    Raises:
        LabError: it did not take the new configuration.
    """
    name = f"prometheus-{dialect}"
    path = ledger.folder / name / "prometheus.yml"
    settings = json.loads(path.read_text())
    settings["global"] |= {
        "scrape_interval": f"{seconds}s",
        "scrape_timeout": f"{min(seconds, LONGEST_SCRAPE)}s",
    }
    path.write_text(json.dumps(settings, indent=1) + "\n")
    ledger.signal(name, signal.SIGHUP)
    end = time.monotonic() + RELOAD_SECONDS
    while (now := _interval(url)) != f"{seconds}s":
        if time.monotonic() > end:
            raise LabError(
                f"{name} scrapes every {now} and not every {seconds} s, "
                f"{RELOAD_SECONDS:.0f} s after it was told"
            )
        time.sleep(RELOAD_POLL_SECONDS)


def _interval(url: str) -> str:
    """Return the scrape interval in force, or why it is not known."""
    try:
        with urllib.request.urlopen(
            f"{url}/api/v1/status/config", timeout=REQUEST_SECONDS
        ) as answer:
            told = str(json.load(answer)["data"]["yaml"])
    except (OSError, ValueError, KeyError) as error:
        return f"nobody knows what ({error})"
    found = re.search(r"^global:\n(?:  .*\n)*?  scrape_interval: (\S+)", told, re.MULTILINE)
    return found[1] if found else "nobody knows what"


def write_blocks(
    artifact: Artifact, folder: Path, lines: Iterable[str], *, longest: str | None = None
) -> Path:
    """Write samples in the exposition format, with times in seconds, as a store; return it.

    `longest` is what one block may span (2h without it): promtool reads the page once a block, so
    weeks want long ones.
    """
    folder.mkdir(parents=True)
    page = folder / "samples.txt"
    with page.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.write("# EOF\n")
    store = folder / "tsdb"
    options = [f"--max-block-duration={longest}"] if longest else []
    subprocess.run(
        [artifact.files["promtool"], "tsdb", "create-blocks-from", *options, "openmetrics", page,
         store],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return store


def start_recorded(
    ledger: Ledger,
    artifact: Artifact,
    port: int,
    store: Path,
    *options: str,
    url: str | None = None,
    ready: Ready | None = None,
    settings: dict[str, Any] | None = None,
) -> str:
    """Start one Prometheus that scrapes nothing and answers from a copy of *store*.

    `options` are further arguments; with those that change its address give `url`, and with a
    login `ready` too. `settings` is its configuration, an empty one when None.
    """
    name = f"prometheus-{port}"
    folder = ledger.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(store, folder / "data")
    (folder / "prometheus.yml").write_text(json.dumps(settings or {"global": {}}) + "\n")
    address = url or f"http://127.0.0.1:{port}"
    ledger.start(
        name,
        [
            artifact.files["prometheus"],
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
            *options,
        ],
        part=PART,
        endpoint=address,
        ready=ready or (lambda: ready_missing(address)),
        timeout=READY_SECONDS,
        term_grace=TERM_GRACE,
    )
    return address


def start_victoria(
    ledger: Ledger,
    artifact: Artifact,
    port: int,
    *options: str,
    retention: str = "100y",
    url: str | None = None,
    ready: Ready | None = None,
) -> str:
    """Start one VictoriaMetrics with an empty store and return the URL of its Prometheus API.

    `retention` counts from now; what is older is not taken in. With `options` that change its
    address give `url`, and with a login `ready` too.
    """
    name = f"victoria-{port}"
    folder = ledger.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    address = url or f"http://127.0.0.1:{port}"
    ledger.start(
        name,
        [
            artifact.files["victoria"],
            f"-storageDataPath={folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-retentionPeriod={retention}",
            # what was just written is shown, not only what is 30 s old
            "-search.latencyOffset=0s",
            "-loggerLevel=WARN",
            *options,
        ],
        part=PART,
        endpoint=address,
        ready=ready or (lambda: ready_missing(address)),
        timeout=READY_SECONDS,
        term_grace=TERM_GRACE,
    )
    return f"{address}/prometheus"


def _lend_templates(alertmanager: Path) -> None:
    """Put Debian's message templates where its Alertmanager looks for them, and nowhere else.

    The path is compiled in; an unpacked package is not there.
    """
    unpacked = alertmanager.resolve().parents[1] / "share" / TEMPLATES.name
    if TEMPLATES.exists() or not unpacked.exists():
        return
    try:
        TEMPLATES.unlink(missing_ok=True)  # it may lead to a cache that was emptied
        TEMPLATES.parent.mkdir(parents=True, exist_ok=True)
        TEMPLATES.symlink_to(unpacked)
    except FileExistsError:
        pass  # another lab was quicker
    except OSError as error:
        raise LabError(
            f"Alertmanager needs {TEMPLATES}, which cannot be made ({error.strerror}): as root, "
            f"ln -s {unpacked} {TEMPLATES}"
        ) from error


def start_alertmanager(ledger: Ledger, artifact: Artifact, port: int) -> str:
    """Start Alertmanager with one receiver that sends nothing, and return its URL."""
    _lend_templates(Path(artifact.files["alertmanager"]))
    folder = ledger.folder / "alertmanager"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = {
        "route": {
            "receiver": "nobody",
            "group_by": ["alertname", "group", "topic"],
            # Short waits, so that an alert of the lab is seen within one incident.
            "group_wait": "5s",
            "group_interval": "10s",
        },
        "receivers": [{"name": "nobody"}],
    }
    path = folder / "alertmanager.yml"
    path.write_text(json.dumps(settings, indent=1) + "\n")
    url = f"http://127.0.0.1:{port}"
    ledger.start(
        "alertmanager",
        [
            artifact.files["alertmanager"],
            f"--config.file={path}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            # Alone: no cluster port.
            "--cluster.listen-address=",
            "--log.level=warn",
        ],
        part=PART,
        endpoint=url,
        ready=lambda: ready_missing(url),
        timeout=READY_SECONDS,
        term_grace=TERM_GRACE,
    )
    return url

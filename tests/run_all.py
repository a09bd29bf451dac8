"""Run everything ``make test`` promises, and say in one line how it went.

The lab's servers take long to build on a bare machine, so they are built in the background while
ruff, mypy and the tests that need no server run; then the real tests. Every stage runs even if an
earlier one failed; the exit status is 1 if any did.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / ".test"
INSTALL_LOG = RESULTS / "lab-install.log"
# Bare machine, two cores: Kubernetes 20 min and klag-exporter 8 min, one after the other; doubled.
INSTALL_SECONDS = 55 * 60
POLL_SECONDS = 1.0
# By whole files: what a file's tests share is made once.
SIDE_BY_SIDE = ("--numprocesses=2", "--dist=loadfile")
COUNTED = ("passed", "failed", "errors", "skipped")


@dataclass
class Tally:
    """What the stages came to."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    broken: list[str] = field(default_factory=list)

    def run(self, stage: str, *command: str) -> int:
        """Run one stage in the foreground and remember a failure."""
        print(f"\n== {stage}: {' '.join(command)}", flush=True)
        status = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode
        if status:
            self.broken.append(stage)
        return status

    def pytest(self, stage: str, *arguments: str) -> None:
        """Run one pytest stage and add up what it counted."""
        results = RESULTS / f"{stage}.xml"
        results.unlink(missing_ok=True)
        # A file that cannot be collected fails the stage, and the rest is still worth knowing.
        options = ["-q", "--continue-on-collection-errors", f"--junitxml={results}"]
        self.run(stage, "pytest", *options, *arguments)
        if not results.exists():
            return
        for suite in ET.parse(results).getroot().iter("testsuite"):
            failed, errors, skipped, total = (
                int(suite.get(key, "0")) for key in ("failures", "errors", "skipped", "tests")
            )
            for key, count in zip(
                COUNTED, (total - failed - errors - skipped, failed, errors, skipped), strict=True
            ):
                self.counts[key] += count


def start_lab_install() -> subprocess.Popen[bytes]:
    """Build the lab's servers in the background, into the user's cache."""
    with INSTALL_LOG.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "lab", "install"], cwd=ROOT, stdout=log, stderr=log
        )


def wait_for_lab(install: subprocess.Popen[bytes], started: float) -> None:
    """Show the build's own progress until it ends; give it up at its time limit."""
    print("\n== lab: waiting for the servers to be built", flush=True)
    with INSTALL_LOG.open(encoding="utf-8", errors="replace") as log:
        while True:
            ended = install.poll() is not None
            sys.stdout.write(log.read())
            sys.stdout.flush()
            if ended:
                return
            if time.monotonic() - started > INSTALL_SECONDS:
                install.terminate()
                install.wait()
                print(f"lab: gave the build up after {INSTALL_SECONDS // 60} min", flush=True)
                return
            time.sleep(POLL_SECONDS)


def main() -> int:
    """Run all stages; 0 if every one passed."""
    started = time.monotonic()
    RESULTS.mkdir(exist_ok=True)
    tally = Tally()
    install = start_lab_install()
    try:
        tally.run("format", "ruff", "format", "--check", ".")
        tally.run("ruff", "ruff", "check", ".")
        tally.run("mypy", "mypy")
        tally.pytest("unit", "-m", "not real", "--ignore=tests/real", *SIDE_BY_SIDE, "tests")
        tally.pytest(
            "notebooks",
            "--nbval",
            "--nbval-current-env",
            "--nbval-cell-timeout=60",
            "--nbval-sanitize-with=tests/notebooks/sanitize.cfg",
            "notebooks",
        )
        wait_for_lab(install, started)
        tally.pytest("real", "-m", "real", "tests")
    finally:
        if install.poll() is None:
            install.terminate()
            install.wait()
    counts = ", ".join(f"{count} {name}" for name, count in tally.counts.items() if count)
    if os.environ.get("LAGKIT_REQUIRE_REAL"):
        counts += " (a skipped real test counts as failed)"
    broken = f"; broken: {', '.join(tally.broken)}" if tally.broken else ""
    print(f"\n=== {counts or 'no test ran'} in {time.monotonic() - started:.0f}s{broken} ===")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())

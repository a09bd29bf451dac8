"""The rows that need the lab's servers: each gives its claims a figure, or says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.install import install

from .conftest import require

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDS = {
    "capacity": ("prometheus",),
    "offsets": ("kafka", "toxiproxy", "kafka-tools"),
    "verdict": ("kafka",),
}


@pytest.mark.parametrize("row", sorted(NEEDS))
def test_a_quick_run_of_a_row_on_real_servers_gives_every_claim_a_figure(row, tmp_path):
    parts = install(NEEDS[row])
    for part in NEEDS[row]:
        require(parts, part)
    command = [sys.executable, "-m", "benchmarks", row, "--quick", "--results", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"{row}.json").read_text(encoding="utf-8"))
    assert "missing" not in found
    assert found["claims"]
    assert all(each and min(each) > 0 for each in found["seconds"].values())

"""``python -m benchmarks``: every benchmark in turn, each beside its peer and its floor."""

from __future__ import annotations

from benchmarks import flow

if __name__ == "__main__":
    flow.main()

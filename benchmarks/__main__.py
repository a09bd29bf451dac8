"""``python -m benchmarks``: every benchmark, one after the other, each beside its peer and floor."""

from __future__ import annotations

from benchmarks import flow

if __name__ == "__main__":
    flow.main()

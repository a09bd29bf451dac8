"""``python -m lagkit``: the same as the ``lagkit`` command."""

from __future__ import annotations

import sys

from lagkit.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""Run the relay: ``python -m lab.relay --bootstrap HOST:PORT --port PORT``."""

from __future__ import annotations

from lab.relay.serving import main

raise SystemExit(main())

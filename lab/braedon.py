"""Launch braedon's exporter, unmodified, on loopback only. Runs in that exporter's own venv.

Its command line has no option for the address, and its Kafka client brings a copy of six that
Python 3.12 and later cannot import; nothing else is touched, least of all what it asks of Kafka.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Run the exporter with this process's arguments."""
    six: Any = importlib.import_module("six")
    client: Any = importlib.import_module("prometheus_client")
    sys.modules["kafka.vendor.six"] = six
    sys.modules["kafka.vendor.six.moves"] = six.moves
    client.start_http_server = functools.partial(client.start_http_server, addr=LOOPBACK)
    # Only now: it takes its own reference to start_http_server.
    importlib.import_module("prometheus_kafka_consumer_group_exporter").main()


if __name__ == "__main__":
    main()

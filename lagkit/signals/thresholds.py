"""Numbers that more than one signal compares with; each says where it comes from."""

from __future__ import annotations

SPIKE_RATIO = 1.5
"""Production this many times its baseline is a spike. The runbook names none; Kafka teams size
consumers for a utilisation of 0.6-0.7, so 1.5 times the demand is where headroom ends."""
GROWN_RATIO = 1.2
"""The same where the growth itself is most of the backlog: beyond what scrapes blur."""
MAJOR_SHARE = 0.6
"""A term that explains this share of the backlog is its main part (causes.md 3.3)."""
SLOWED_RATIO = 0.75
"""Reading less than this share of the baseline is slowed; smaller dips are scrape noise."""
FASTER_RATIO = 1.15
"""Reading at least this many times the baseline is faster."""
MORE_RATIO = 1.05
"""The same where growth is most of the backlog: a group that was busy before has little to add."""
SHORTEST_STOP_SECONDS = 10.0
"""Snapshots must span this to show a stop: twice the default auto.commit.interval.ms."""
FROZEN_SHARE = 0.1
"""Beyond one partition, up to this share of a topic's partitions may be stuck by single records."""
SKEW_FAIR_SHARES = 2.5
"""A partition that takes this many times its fair share of production is hot."""

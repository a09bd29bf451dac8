"""The table of exporters in docs/prometheus.md says what the data says."""

from __future__ import annotations

from pathlib import Path

from lagkit.sources.dialects import BROKER_READINGS, DIALECTS, POD_READINGS, Dialect

PAGE = Path(__file__).resolve().parents[2] / "docs" / "prometheus.md"
FROM, TO = "<!-- dialects: from -->", "<!-- dialects: to -->"
HEADER = ("exporter", "told by", "lag per", "gives", "cannot show")
GIVES = {
    "lag": "lag",
    "lag_by_topic": "lag",
    "lag_by_group": "lag",
    "committed": "committed",
    "committed_by_topic": "committed",
    "log_end": "log end",
    "log_start": "log start",
    "lag_seconds": "age",
    "members": "members",
}


def row(dialect: Dialect) -> tuple[str, ...]:
    gives = dict.fromkeys(words for field, words in GIVES.items() if getattr(dialect, field))
    if dialect.state:
        gives["state"] = None
    told = getattr(dialect, dialect.groups_from)[0].replace("{prefix}", "*_")
    cannot = "; ".join(gap.what for gap in dialect.gaps if not gap.unless) or "–"
    return (dialect.title, f"`{told}`", dialect.granularity, ", ".join(gives), cannot)


def table() -> str:
    rows = [HEADER, ("---",) * len(HEADER), *map(row, DIALECTS)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def test_the_table_of_exporters_is_that_of_the_data():
    page = PAGE.read_text(encoding="utf-8")
    written = page.partition(FROM)[2].partition(TO)[0].strip()
    assert written == table(), f"write this between the marks in {PAGE.name}:\n{table()}"


def test_the_page_names_every_canonical_metric_of_brokers_and_pods():
    page = PAGE.read_text(encoding="utf-8")
    canonical = {reading.metric for reading in (*BROKER_READINGS, *POD_READINGS)}
    assert {metric for metric in canonical if f"`{metric}`" not in page} == set()

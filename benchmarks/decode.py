"""The answer to a range query, from its bytes to a frame with a column per label.

100 series of 11,000 points are about what one answer of Prometheus can hold per series (it refuses
more points). The peer is what a notebook does with prometheus-api-client: ``json.loads``, then
``MetricRangeDataFrame``. The yardstick is orjson, which stops at Python lists and makes no frame:
nobody who reads every sample as a Python object can be faster. All three are given the same bytes;
that the two frames are equal is checked before anything is timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.harness import MIB, Claim, Missing, Row, paired, peak_bytes, ratio, single

SERIES, POINTS = 100, 11_000
QUICK_SERIES, QUICK_POINTS = 5, 500
STEP_SECONDS = 30
BEGINNING = 1_767_600_000
LABELS = ("__name__", "consumergroup", "instance", "job", "partition", "topic")
LAGKIT, PEER, YARDSTICK = "lagkit", "MetricRangeDataFrame", "orjson.loads"


def answer(series: int, points: int) -> bytes:
    """Return an answer as Prometheus writes it: offsets, some decimals, NaN, infinities, gaps."""
    random = np.random.default_rng(4)
    times = BEGINNING + STEP_SECONDS * np.arange(points)
    written = []
    for number in range(series):
        offsets = 1_000_000 + random.poisson(40, points).cumsum()
        # one in ten is a latency or a rate, which has decimals
        values = [
            f"{offset / 1000}" if number % 10 == 9 else f"{offset}" for offset in offsets.tolist()
        ]
        for place, odd in enumerate(("NaN", "+Inf", "-Inf", "1e+06")):
            values[points // 2 + place] = odd
        held = np.ones(points, dtype=bool)
        held[points // 3 : points // 3 + 10 + number] = False
        labels = {
            "__name__": "kafka_consumergroup_current_offset",
            "consumergroup": "deployment-worker",
            "instance": "exporter:9308",
            "job": "kafka",
            "partition": str(number),
            "topic": 'deployments ],["values":[[1,"2"]]',
        }
        samples = ",".join(
            f'[{at},"{value}"]'
            for at, value, there in zip(times.tolist(), values, held, strict=True)
            if there
        )
        written.append(f'{{"metric":{json.dumps(labels)},"values":[{samples}]}}')
    return (
        '{"status":"success","data":{"resultType":"matrix","result":[' + ",".join(written) + "]}}"
    ).encode()


def lagkit(body: bytes) -> pd.DataFrame:
    """Read *body* as the Prometheus source does, with every label."""
    from lagkit.frames import from_epoch_seconds
    from lagkit.sources.prometheus import matrix, wire

    series = matrix.series_of(wire.parse(body)["data"], {"matrix"})
    rows = matrix.labelled(matrix.decode(series), series, LABELS)
    rows["timestamp"] = from_epoch_seconds(rows["time"].to_numpy())
    return rows


def peer(body: bytes) -> pd.DataFrame:
    """Read *body* with prometheus-api-client."""
    from prometheus_api_client import MetricRangeDataFrame

    frame: pd.DataFrame = MetricRangeDataFrame(json.loads(body)["data"]["result"])
    return frame


def yardstick(body: bytes) -> object:
    """Read *body* with the fastest JSON parser there is for Python."""
    import orjson

    return orjson.loads(body)


CANDIDATES: dict[str, Callable[[bytes], object]] = {
    LAGKIT: lagkit,
    PEER: peer,
    YARDSTICK: yardstick,
}


def prepared(name: str, series: int, points: int) -> Callable[[], object]:
    """Return what *name* does with an answer that is in memory, its libraries loaded."""
    read, body = CANDIDATES[name], answer(series, points)
    read(answer(1, QUICK_POINTS))
    return lambda: read(body)


def measure(*, rounds: int, quick: bool = False) -> Row:
    """Time the three on the same bytes; take their peak memory in a process of each one's own."""
    try:
        import orjson  # noqa: F401 - is it here?
    except ImportError:
        text = "orjson is not installed: pip install -e '.[dev]'"
        raise Missing(text) from None
    series, points = (QUICK_SERIES, QUICK_POINTS) if quick else (SERIES, POINTS)
    body = answer(series, points)
    _check(lagkit(body), peer(body))
    # each is asked for its bytes as an argument, so that none keeps what another made
    works = {name: (lambda read=read: read(body)) for name, read in CANDIDATES.items()}
    seconds = paired(works, rounds=rounds)
    peaks = {
        name: peak_bytes("benchmarks.decode:prepared", name, series, points) for name in CANDIDATES
    }
    return Row(
        work=f"answer of {series} series x {points:,} points ({len(body) / MIB:.0f} MiB) to frame",
        seconds=seconds,
        claims=[
            Claim(
                f"times faster than {PEER}",
                ratio(seconds[PEER], seconds[LAGKIT]),
                8,
                at_least=True,
            ),
            Claim(f"time of {YARDSTICK}", ratio(seconds[LAGKIT], seconds[YARDSTICK]), 0.5),
            Claim(f"peak memory of {PEER}", single(peaks[LAGKIT] / peaks[PEER]), 0.25),
        ],
        peak_bytes=peaks,
        notes=(
            "the frames of lagkit and the peer are equal, but for infinities (NaN in lagkit)",
            "the peer's time is not in UTC by its type; lagkit's is datetime64[us, UTC]",
        ),
    )


def _check(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Raise AssertionError unless both frames hold the same rows in the same order."""
    theirs = theirs.reset_index().replace([np.inf, -np.inf], np.nan)
    theirs["timestamp"] = theirs["timestamp"].dt.tz_localize("UTC")
    pd.testing.assert_frame_equal(ours[theirs.columns], theirs)

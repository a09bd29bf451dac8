"""Files that are none, windows that are none and streams that go away, given to the real command.

Each asserts exit status, message, what is left on disk and, for files, the greatest memory: a file
from somewhere else may be made to harm.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import command
import factories
import incidents
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MEGABYTE = 1024**2
MOST_MEMORY = 700 * MEGABYTE
"""lagkit with its libraries takes about 200 MB; a refusal must not take many times that."""
DEAD = "http://127.0.0.1:1"
Members = dict[str, bytes]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return factories.incident().save(tmp_path / "saved.lagkit")


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# -- incident files


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def put(members: Members, name: str, content: bytes) -> None:
    """Put *content* in as the frame *name*, with a checksum that fits."""
    meta = json.loads(members["incident.json"])
    meta["frames"][name] = {"rows": 1, "sha256": hashlib.sha256(content).hexdigest()}
    members["incident.json"] = json.dumps(meta).encode()
    members[f"{name}.parquet"] = content


def describe(members: Members, **changes: object) -> None:
    members["incident.json"] = json.dumps(json.loads(members["incident.json"]) | changes).encode()


def same(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "int8")), [value])


def logs(rows: int, message: pa.Array | None = None, **changes: pa.Array) -> bytes:
    at = pa.array(np.full(rows, factories.END.value // 1000), pa.timestamp("us", tz="UTC"))
    names = ("namespace", "pod", "container", "role", "query_id")
    columns = {"timestamp": at, **{name: same("x", rows) for name in names}}
    columns["previous"] = pa.array(np.zeros(rows, bool))
    columns["line_number"] = pa.array(np.arange(rows))
    columns["message"] = same("x", rows) if message is None else message
    return parquet(pa.table(columns | changes))


def checksum_broken(members: Members) -> None:
    members["pods.parquet"] = members["offsets.parquet"]


def equal_rows(members: Members) -> None:
    put(members, "logs", logs(20_000_000))


def endless_text(members: Members) -> None:
    put(members, "logs", logs(2_000_000, same("x" * 10_000, 2_000_000)))


def thousands_of_columns(members: Members) -> None:
    nested = pa.array([[[1]]], pa.list_(pa.list_(pa.int64())))
    put(members, "logs", parquet(pa.table({f"c{number}": nested for number in range(10_000)})))


def lists_for_text(members: Members) -> None:
    put(members, "logs", logs(3, pa.array([["a"], ["b"], ["c"]])))


def numbers_for_times(members: Members) -> None:
    put(members, "logs", logs(3, timestamp=pa.array([1.0, 2.0, 3.0])))


def no_times(members: Members) -> None:
    put(members, "logs", logs(3, timestamp=pa.array([None] * 3, pa.timestamp("us", tz="UTC"))))


def not_a_time(members: Members) -> None:
    describe(members, start="NaT")


def reversed_window(members: Members) -> None:
    meta = json.loads(members["incident.json"])
    describe(members, start=meta["end"], end=meta["start"])


def window_of_centuries(members: Members) -> None:
    describe(members, start="1700-01-01T00:00:00.000Z")


def escaping(members: Members) -> None:
    members["../../escaped.txt"] = b"boo"


def absolute(members: Members) -> None:
    members["/tmp/escaped.txt"] = b"boo"


def foreign(members: Members) -> None:
    members.clear()
    members["word/document.xml"] = b"<w/>"


def newer(members: Members) -> None:
    describe(members, format="lagkit.incident/9")


def big_description(members: Members) -> None:
    members["incident.json"] = members["incident.json"] + b" " * 100 * MEGABYTE


def deep_description(members: Members) -> None:
    members["incident.json"] = b"[" * 300_000


def of_zeros(members: Members) -> None:
    members["zeros.bin"] = bytes(600 * MEGABYTE)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (checksum_broken, "pods does not match its checksum"),
        (equal_rows, "more rows than an incident can have"),
        (endless_text, "larger than an incident can be"),
        (thousands_of_columns, "logs has no column timestamp"),
        (lists_for_text, "message of several values a row"),
        (numbers_for_times, "damaged"),
        (no_times, "damaged"),
        (not_a_time, "damaged"),
        (reversed_window, "window"),
        (window_of_centuries, "window"),
        (escaping, "a name that is none: ../../escaped.txt"),
        (absolute, "a name that is none: /tmp/escaped.txt"),
        (foreign, "it holds"),
        (newer, "lagkit.incident/9"),
        (big_description, "incident.json is larger than it can be"),
        (deep_description, "damaged"),
        (of_zeros, "larger than an incident can be"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_file_made_to_harm_is_refused_at_little_cost(
    saved: Path, harm: Callable[[Members], None], words: str
) -> None:
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    harm(members)
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    members.clear()
    assert saved.stat().st_size < 10 * MEGABYTE
    refused(saved, words)


def refused(file: Path, *words: str) -> None:
    done = command.run("investigate", file, "--out", "out", cwd=file.parent)
    assert done.status == 3, done.err
    assert done.out == ""
    assert str(file) in done.err
    for word in words:
        assert word in done.err
    assert done.peak < MOST_MEMORY
    assert left(file.parent) == [file.name]


def test_a_file_that_was_cut_off_is_refused(saved: Path) -> None:
    os.truncate(saved, saved.stat().st_size * 2 // 3)
    refused(saved, "not a zip archive, or was cut off")


def test_a_name_that_occurs_twice_is_refused(saved: Path) -> None:
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(saved, "a") as archive,
    ):
        archive.writestr("incident.json", b"{}")
    refused(saved, "incident.json twice")


def test_a_link_in_place_of_a_frame_is_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            if name == "pods.parquet":
                entry.external_attr, content = 0o120777 << 16, b"/etc/passwd"
            archive.writestr(entry, content)
    refused(saved, "pods does not match its checksum")


def test_an_encrypted_member_is_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(magic)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(magic, at + 4)
    saved.write_bytes(bytes(content))
    refused(saved, "damaged")


def test_a_size_that_is_a_lie_is_refused(saved: Path) -> None:
    """The directory says three gigabytes, or three bytes: neither is believed."""
    content = bytearray(saved.read_bytes())
    at = content.find(b"PK\x01\x02")
    for size, word in ((3 * 1024**3, "larger"), (3, "")):
        struct.pack_into("<I", content, at + 24, size)
        saved.write_bytes(bytes(content))
        refused(saved, word)


def test_times_of_other_centuries_in_a_frame_cost_no_memory(tmp_path: Path) -> None:
    incident = incidents.make("slow")
    far = incident.offsets.iloc[:2].assign(
        timestamp=pd.to_datetime(["1700-01-01", "2260-01-01"], utc=True).as_unit("us")
    )
    strange = incidents.with_tables(incident, offsets=pd.concat([incident.offsets, far]))
    file = strange.save(tmp_path / "strange.lagkit")
    done = command.run("investigate", file, "--no-report", "--out", "out", cwd=tmp_path)
    assert done.status in (0, 3), done.err
    assert done.peak < MOST_MEMORY


# -- windows


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (["--start", "2026-11-23T02:00:00Z", "--end", "2026-11-23T02:00:00Z"], "window is empty"),
        (["--start", "2026-11-23T03:00:00Z", "--end", "2026-11-23T02:00:00Z"], "window is empty"),
        (["--start", "2099-01-01T00:00:00Z"], "window is empty"),
        (["--start", "2099-01-01T00:00:00Z", "--end", "2099-01-01T01:00:00Z"], "in the future"),
        (["--end", "2099-01-01T01:00:00Z"], "in the future"),
        (["--since", "0m"], "window is empty"),
        (["--since", "-1h"], "not a length of time"),
        (["--since", "yesterday"], "not a length of time"),
        (["--start", "NaT"], "not a time"),
        (["--start", "2026-11-23T02:00:00"], "no time zone"),
        (["--since", "1h", "--start", "2026-11-23T02:00:00Z"], "two different things"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_window_that_is_none_is_bad_usage_and_asks_nobody(tmp_path, window, words) -> None:
    done = command.run("investigate", "g", "--prometheus", DEAD, *window, cwd=tmp_path)
    assert done.status == 2, done.err
    assert words in done.err
    assert "prometheus" not in done.err
    assert left(tmp_path) == []


# -- streams


def test_a_reader_of_stdout_that_goes_away_costs_nothing(saved: Path) -> None:
    line = 'set -o pipefail; "$@" | head -n 1'
    done = subprocess.run(
        ["bash", "-c", line, "bash", *command.command("investigate", saved, "--out", "out")],
        cwd=saved.parent,
        env=command.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert "report.html" in left(saved.parent / "out")


@pytest.mark.parametrize(
    ("streams", "status"),
    [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("> /dev/full", 5), ("<&-", 0)],
)
def test_a_stream_that_is_closed_or_full_costs_no_report(saved: Path, streams, status) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh",
         *command.command("investigate", saved, "--out", "out", "--no-report")],
        cwd=saved.parent,
        env=command.environment(),
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    if status:
        assert "cannot be printed: No space left on device" in done.stderr
    assert left(saved.parent / "out") == ["incident.lagkit", "verdict.json"]


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LANG": "C", "LC_ALL": None},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=["ascii", "C", "latin-1"],
)
def test_a_locale_without_the_letters_costs_no_verdict(tmp_path: Path, locale) -> None:
    named = incidents.renamed(
        incidents.make("slow"), {incidents.GROUP: "grüße-組", incidents.TOPIC: "тема"}
    )
    file = named.save(tmp_path / "x.lagkit")
    env = command.environment(**locale)
    arguments = ["investigate", file, "--no-report", "--out", "größe"]
    done = command.run(*arguments, cwd=tmp_path, env=env)
    assert done.status == 0, done.err
    assert "VERDICT" in done.out
    done = command.run(*arguments, "--json", cwd=tmp_path, env=env)
    assert json.loads(done.out)["incident"]["group"] == "grüße-組"
    assert left(tmp_path / "größe") == ["incident.lagkit", "verdict.json"]


def test_a_home_that_cannot_be_written_costs_no_report(saved: Path) -> None:
    """Matplotlib, Jupyter and IPython would each like to write there."""
    with command.small_disk(saved.parent / "home", "1m", "ro") as home:
        env = command.environment(HOME=str(home), XDG_CACHE_HOME=None, XDG_CONFIG_HOME=None)
        done = command.run("investigate", saved, "--out", "out", cwd=saved.parent, env=env)
    assert done.status == 0, done.err
    assert "report.ipynb" in left(saved.parent / "out")

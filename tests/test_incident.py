"""The incident and its file: the same bytes, whole or not at all, opened as a stranger's."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import incidents
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import small_disk

from lagkit import frames
from lagkit.errors import NothingThere
from lagkit.incident import Gap, Incident, open_incident
from lagkit.model import SourceReport

DATA = Path(__file__).parent / "data"
HOSTILE = (
    "../../etc/passwd",
    "a'b\"c`d",
    "line\nbreak\rreturn",
    "<script>alert(1)</script>",
    "{group} %s ${HOME}",
    "\u202egnp.exe",
    "x" * 247,
)


@pytest.fixture(scope="module")
def whole() -> Incident:
    return incidents.make("slow")


@pytest.fixture
def saved(whole: Incident, tmp_path: Path) -> Path:
    return whole.save(tmp_path / "incident.lagkit")


def rewritten(path: Path, change, *, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write the archive again with its members (name → bytes) changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_meta(path: Path, **changes: object) -> Path:
    def change(members: dict[str, bytes]) -> None:
        meta = json.loads(members["incident.json"])
        for key, value in changes.items():
            meta.pop(key) if value is ... else meta.__setitem__(key, value)
        members["incident.json"] = json.dumps(meta).encode()

    return rewritten(path, change)


def with_frame(path: Path, name: str, content: bytes) -> Path:
    """Put *content* in as the frame *name*, with a checksum that fits."""

    def change(members: dict[str, bytes]) -> None:
        members[f"{name}.parquet"] = content
        meta = json.loads(members["incident.json"])
        meta["frames"][name] = {"rows": 0, "sha256": hashlib.sha256(content).hexdigest()}
        members["incident.json"] = json.dumps(meta).encode()

    return rewritten(path, change)


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


# -- writing


def test_the_same_incident_gives_the_same_bytes():
    assert incidents.make("slow").to_bytes() == incidents.make.__wrapped__("slow").to_bytes()


def test_a_file_gives_back_the_incident_it_was_made_of(whole, saved):
    again = open_incident(saved)
    assert again == whole
    assert again != incidents.make("down")
    for name in frames.FRAMES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(whole, name))


def test_times_come_back_in_the_unit_they_had(whole, saved):
    again = open_incident(saved)
    for name in ("start", "end", "captured_at"):
        assert getattr(again, name).unit == "us"
        assert getattr(again, name) == getattr(whole, name)


def test_what_no_frame_holds_comes_back_too(whole, tmp_path):
    rich = replace(
        whole,
        facts={"kafka": {"cluster_id": "q1"}},
        redactions={"JWT": 2},
        coverage=(Gap("kubernetes", "logs", "403", "grant get on pods/log"),),
        sources={"kafka": SourceReport("partial", "2 of 3 brokers", 1.25)},
    )
    again = open_incident(rich.save(tmp_path / "x.lagkit"))
    for name in ("facts", "redactions", "coverage", "sources", "runbook", "topics", "id"):
        assert getattr(again, name) == getattr(rich, name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_survives_as_data_and_names_no_file(name, tmp_path):
    named = incidents.renamed(
        incidents.make("calm"), {incidents.GROUP: name, incidents.TOPIC: name + ".t"}
    )
    folder = tmp_path / "only"
    path = named.save(folder / "incident.lagkit")
    again = open_incident(path)
    assert again == named
    assert again.group == name
    assert set(again.offsets["topic"]) == {name + ".t"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["incident.lagkit", "only"]
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) <= {f"{f}.parquet" for f in frames.FRAMES} | {
            "incident.json"
        }


def test_a_failed_save_leaves_the_old_file_whole_and_nothing_else(whole, tmp_path):
    content = whole.to_bytes()
    with small_disk(tmp_path / "full", f"{len(content) * 3 // 2048}k") as full:
        saved = whole.save(full / "incident.lagkit")
        with pytest.raises(OSError, match="No space left"):
            incidents.make("down").save(saved)
        assert saved.read_bytes() == content
        assert list(full.iterdir()) == [saved]


def test_a_frame_that_cannot_be_written_leaves_no_file(whole, tmp_path):
    broken = incidents.with_tables(whole, logs=pd.DataFrame({"message": [object()]}))
    with pytest.raises(pa.ArrowException):
        broken.save(tmp_path / "incident.lagkit")
    assert list(tmp_path.iterdir()) == []


def test_plain_pandas_reads_every_frame_with_its_dtypes(whole, saved):
    read = set()
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        for member in set(archive.namelist()) - {"incident.json"}:
            name = member.removesuffix(".parquet")
            table = pd.read_parquet(io.BytesIO(archive.read(member)))
            pd.testing.assert_frame_equal(table, getattr(whole, name))
            read.add(name)
    assert read == {name for name in frames.FRAMES if len(getattr(whole, name))}
    assert len(read) > 10


def test_whole_numbers_beyond_a_float_come_back_beside_a_missing_one(whole, tmp_path):
    exact = [2**53 + 1, None]
    members = whole.members.iloc[:2].assign(partition=pd.array(exact, dtype="Int64"))
    made = incidents.with_tables(whole, members=members)
    again = open_incident(made.save(tmp_path / "x.lagkit"))
    assert again.members["partition"].dropna().tolist() == [2**53 + 1]
    assert again.members["partition"].isna().sum() == 1


def test_a_frame_without_rows_takes_no_place_and_comes_back_typed(whole, tmp_path):
    names = ("logs", "jobs", "pods")
    without = incidents.with_tables(whole, **{name: frames.empty(name) for name in names})
    path = without.save(tmp_path / "x.lagkit")
    with zipfile.ZipFile(path) as archive:
        held = {name.removesuffix(".parquet") for name in archive.namelist()}
        meta = json.loads(archive.read("incident.json"))
    assert held.isdisjoint(names)
    assert set(meta["frames"]) == held - {"incident.json"}
    again = open_incident(path)
    assert set(again.tables) == set(frames.FRAMES)
    for name in names:
        pd.testing.assert_frame_equal(again.tables[name], frames.empty(name))
    assert again == without


def test_an_incident_of_minutes_is_a_file_of_tens_of_kilobytes():
    for file in sorted((DATA / "incidents").glob("*.otel.lagkit")):
        assert len(open_incident(file).to_bytes()) < 50_000 < file.stat().st_size


@pytest.mark.parametrize("rows", [200, 20_000])
def test_a_large_frame_is_neither_deflated_nor_without_dictionaries(whole, tmp_path, rows):
    several = pd.concat([whole.logs] * (rows // len(whole.logs) + 1), ignore_index=True)
    logs = several.assign(
        line_number=pd.array(range(len(several)), dtype="Int64"),
        message=[hashlib.sha256(b"%d" % line).hexdigest() for line in range(len(several))],
    )
    made = incidents.with_tables(whole, logs=logs)
    with zipfile.ZipFile(made.save(tmp_path / "x.lagkit")) as archive:
        entry = archive.getinfo("logs.parquet")
        pod = pq.ParquetFile(io.BytesIO(archive.read(entry))).metadata.row_group(0).column(1)
    assert (entry.compress_type == zipfile.ZIP_STORED) == (rows > 10_000)
    assert pod.has_dictionary_page == (rows > 10_000)


def test_secrets_in_any_text_reach_no_byte_of_the_file(tmp_path):
    """The whole way in: answers of sources with a canary in every text that is not a name."""
    from test_collect import SECRET_ANSWERS, build
    from test_redact import SECRETS

    path = build(SECRET_ANSWERS).save(tmp_path / "incident.lagkit")
    with zipfile.ZipFile(path) as archive:
        content = archive.read("incident.json")
        for name in archive.namelist():
            if name.endswith(".parquet"):
                table = pd.read_parquet(io.BytesIO(archive.read(name)))
                content += table.to_csv().encode() + archive.read(name)
    leaked = [kind for kind, (_, secret) in SECRETS.items() if secret.encode() in content]
    assert leaked == []


# -- opening


def refused(path: Path, *words: str) -> str:
    with pytest.raises(NothingThere) as caught:
        open_incident(path)
    text = str(caught.value)
    assert str(path) in text
    for word in words:
        assert word in text
    assert caught.value.exit_status == 3
    assert caught.value.hint
    return text


def test_a_file_that_is_not_there_is_named(tmp_path):
    refused(tmp_path / "none.lagkit", "no such file")


def test_a_folder_is_told_apart_from_a_file(tmp_path):
    assert "incident.lagkit" in refused(tmp_path, "folder")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 40])
def test_something_else_is_not_an_incident_file(content, tmp_path):
    path = tmp_path / "x.lagkit"
    path.write_bytes(content)
    refused(path, "zip")


def test_another_zip_is_not_an_incident_file(tmp_path):
    path = tmp_path / "x.lagkit"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, "incident.json")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    refused(saved)


def test_every_flipped_byte_is_refused_or_harmless(whole, saved):
    """Bit rot may hit the archive's own padding; it must never change what was seen."""
    content = saved.read_bytes()
    random = np.random.default_rng(1)
    for at in random.integers(0, len(content), 25):
        rotten = bytearray(content)
        rotten[at] ^= 0x41
        saved.write_bytes(bytes(rotten))
        try:
            again = open_incident(saved)
        except NothingThere:
            continue
        assert again == whole


def test_a_frame_that_was_changed_does_not_match_its_checksum(saved):
    def change(members: dict[str, bytes]) -> None:
        members["logs.parquet"] = members["pods.parquet"]

    refused(rewritten(saved, change), "logs", "checksum")


@pytest.mark.parametrize("wrong", ["lagkit.incident/2", "something", None, 7])
def test_another_format_is_refused_with_its_name(saved, wrong):
    refused(with_meta(saved, format=wrong), repr(wrong), "lagkit.incident/1")


@pytest.mark.parametrize(
    "changes",
    [
        {"group": ...},
        {"start": "yesterday"},
        {"start": "2026-11-23T02:00:00"},
        {"sources": {"kafka": {"status": "splendid", "detail": "", "seconds": 0}}},
        {"sources": {"kafka": {"status": "ok", "detail": "", "seconds": "many"}}},
        {"sources": []},
        {"coverage": [{"what": "x"}]},
        {"frames": {"logs": {}}},
        {"runbook": {"title": 1}},
        {"facts": {"kafka": "text"}},
        {"redactions": {"JWT": "several"}},
        {"topics": None},
    ],
    ids=lambda changes: "-".join(f"{k}:{str(v)[:24]}" for k, v in changes.items()),
)
def test_a_description_that_makes_no_sense_is_refused(saved, changes):
    refused(with_meta(saved, **changes), "damaged")


def test_a_description_nested_without_end_is_refused(saved):
    def change(members: dict[str, bytes]) -> None:
        members["incident.json"] = b"[" * 200_000

    refused(rewritten(saved, change))


@pytest.mark.parametrize(
    "content", [b"", b"PAR1PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1"], ids=["empty", "bare", "noise"]
)
def test_a_frame_that_is_not_parquet_is_refused(saved, content):
    refused(with_frame(saved, "logs", content))


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"message": ["a"]}),
        pa.table({"timestamp": pa.array([1], pa.timestamp("us")), "namespace": ["n"]}),
        pa.table({"line_number": ["not a number"]}),
    ],
    ids=["required columns missing", "naive time", "wrong type"],
)
def test_a_frame_that_breaks_its_schema_is_refused(saved, table):
    refused(with_frame(saved, "logs", parquet(table)), "damaged", "logs")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(saved):
    def change(members: dict[str, bytes]) -> None:
        members["bomb.parquet"] = bytes(600 * 1024**2)

    rewritten(saved, change, compression=zipfile.ZIP_DEFLATED)
    assert saved.stat().st_size < 1_000_000
    refused(saved, "larger")


def test_a_member_larger_than_it_says_is_not_unpacked_beyond_that(saved):
    bomb = b" " * 64 * 1024**2
    rewritten(
        saved,
        lambda members: members.update({"incident.json": bomb}),
        compression=zipfile.ZIP_DEFLATED,
    )
    content = saved.read_bytes()
    assert len(content) < 1_000_000
    saved.write_bytes(content.replace(struct.pack("<L", len(bomb)), struct.pack("<L", 1000)))
    tracemalloc.start()
    try:
        refused(saved)
        assert tracemalloc.get_traced_memory()[1] < len(bomb) / 4
    finally:
        tracemalloc.stop()


def test_a_parquet_bomb_of_equal_rows_is_refused_before_it_is_unpacked(saved):
    rows = 30_000_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "int8")), ["x"])
    names = [known.name for known in frames.FRAMES["logs"].columns]
    content = parquet(pa.table(dict.fromkeys(names, column)))
    assert len(content) < 1_000_000
    refused(with_frame(saved, "logs", content), "rows")


def test_too_many_members_are_refused(saved):
    def change(members: dict[str, bytes]) -> None:
        members.update({f"x{number}": b"" for number in range(300)})

    refused(rewritten(saved, change), "larger")


def test_a_huge_description_is_refused(saved):
    def change(members: dict[str, bytes]) -> None:
        members["incident.json"] += b" " * 5 * 1024**2

    refused(rewritten(saved, change), "incident.json", "larger")


def test_an_encrypted_member_is_refused(saved):
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        entry = archive.getinfo("incident.json")
    content[entry.header_offset + 6] |= 1
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 8] |= 1
        at = content.find(b"PK\x01\x02", at + 4)
    saved.write_bytes(bytes(content))
    refused(saved)


def test_a_frame_of_a_newer_lagkit_is_left_out(whole, saved):
    extra = parquet(pa.table({"x": [1]}))
    again = open_incident(with_frame(saved, "weather", extra))
    assert again == whole


def test_a_column_of_a_newer_lagkit_is_left_out(whole, saved):
    table = pa.Table.from_pandas(whole.logs.assign(mood="bad"), preserve_index=False)
    again = open_incident(with_frame(saved, "logs", parquet(table)))
    pd.testing.assert_frame_equal(again.logs, whole.logs)


def test_a_frame_an_older_lagkit_did_not_have_is_empty_and_typed(saved):
    def change(members: dict[str, bytes]) -> None:
        members.pop("jobs.parquet")
        meta = json.loads(members["incident.json"])
        meta["frames"].pop("jobs")
        members["incident.json"] = json.dumps(meta).encode()

    again = open_incident(rewritten(saved, change))
    pd.testing.assert_frame_equal(again.jobs, frames.empty("jobs"))


def test_a_frame_that_was_promised_and_is_not_there_is_damage(saved):
    refused(rewritten(saved, lambda members: members.pop("jobs.parquet")), "jobs")


# -- in memory


def test_a_misspelt_frame_is_an_error_and_not_an_empty_frame(whole):
    with pytest.raises(AttributeError, match="ofsets"):
        _ = whole.ofsets


def test_completion_offers_the_frames(whole):
    assert set(frames.FRAMES) <= set(dir(whole))


def test_repr_is_one_line_with_group_window_and_sources(whole):
    text = repr(whole)
    assert "\n" not in text
    for part in (incidents.GROUP, incidents.TOPIC, "2026-11-23T02:00:00.000Z", "kafka ok"):
        assert part in text


def test_a_source_that_answered_in_part_is_readable(whole):
    partial = replace(
        whole,
        sources={
            "kafka": SourceReport("partial", "", 1.0),
            "kubernetes": SourceReport("unavailable", "", 1.0),
        },
    )
    assert partial.readable("kafka")
    assert not partial.readable("kubernetes")
    assert not partial.readable("downstream")


def test_an_incident_can_be_pickled_for_a_notebook_kernel(whole):
    import pickle

    assert pickle.loads(pickle.dumps(whole)) == whole

"""The corpus on disk: its manifest, what the check finds, and packing files again."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hatchling.builders.sdist import SdistBuilder

from lab.__main__ import parser, run
from lab.incidents import manifest
from lab.incidents.corpus import CORPUS
from lab.incidents.script import draw, load
from lab.processes import LabError
from lab.prometheus import DIALECTS
from lagkit.incident import open_incident

ROOT = Path(__file__).resolve().parent.parent
RECORDED = Path(__file__).parent / "data" / "incidents"
SCRIPTS = load()
SAMPLE = {
    "network.latency": "network_latency.otel.lagkit",
    "network.one_broker": "network_blackhole.klag.lagkit",
    "network.narrow": "network_latency.kminion.lagkit",
}
"""A script of each split, and a recording to stand for it."""
ONE = "network.latency.1"


def put(folder: Path, script: str, recorded: Path) -> None:
    """Put a recording into *folder* under a script's name, with a label as it is sealed."""
    drawn = draw(SCRIPTS[script], 1, DIALECTS)
    file = folder / f"{drawn.name}.lagkit"
    shutil.copy(recorded, file)
    label = {
        "script": drawn.script.id,
        "seed": drawn.seed,
        "split": drawn.script.split,
        "primary": drawn.script.primary,
        "active": list(drawn.script.active),
        "onsets": {},
        "evidence": list(drawn.script.evidence),
        "distractors": list(drawn.distractors),
        "values": drawn.values,  # noqa: PD011 - what was drawn
        "workload": drawn.workload.model_dump(),
        "done": [],
        "dialect": drawn.dialect,
        "started": "2026-11-23T21:40:00+00:00",
        "ended": "2026-11-23T21:43:00+00:00",
        "lagkit_version": "0.1.0",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "labels" / f"{drawn.name}.json").write_text(json.dumps(label))


def command(option: str, folder: Path) -> int:
    return run(parser().parse_args(["corpus", option, str(folder)]))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three incidents as recorded, and their manifest."""
    for script, file in SAMPLE.items():
        put(tmp_path, script, RECORDED / file)
    manifest.write(tmp_path)
    return tmp_path


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """One incident as recorded, and its manifest."""
    put(tmp_path, "network.latency", RECORDED / SAMPLE["network.latency"])
    manifest.write(tmp_path)
    return tmp_path


def told(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def entry(folder: Path, name: str = ONE) -> dict:
    (found,) = [e for e in told(folder)["incidents"] if e["name"] == name]
    return found


def label(folder: Path, name: str = ONE) -> dict:
    return json.loads((folder / "labels" / f"{name}.json").read_text())


def with_label(folder: Path, name: str = ONE, **changes: object) -> None:
    text = json.dumps({**label(folder, name), **changes})
    (folder / "labels" / f"{name}.json").write_text(text)


def with_entry(folder: Path, **changes: object) -> None:
    whole = told(folder)
    for one in whole["incidents"]:
        one.update(changes if one["name"] == ONE else {})
    (folder / "manifest.json").write_text(json.dumps(whole))


# -- the stored corpus


def test_the_stored_corpus_is_what_its_manifest_says():
    wrong = manifest.check(CORPUS) if (CORPUS / "manifest.json").exists() else []
    assert not wrong, "\n".join(wrong)


def test_no_package_holds_the_corpus():
    packed = SdistBuilder(str(ROOT)).config
    assert packed.include_path("lab/incidents/corpus.py")
    assert not packed.include_path(f"corpus/{ONE}.lagkit")
    assert not packed.include_path(f"corpus/labels/{ONE}.json")


# -- the manifest


def test_a_corpus_that_is_as_it_was_made_has_nothing_wrong(corpus):
    assert manifest.check(corpus) == []


def test_the_manifest_says_how_each_incident_was_made(corpus):
    found = entry(corpus)
    drawn = draw(SCRIPTS["network.latency"], 1, DIALECTS)
    assert (found["script"], found["seed"], found["split"]) == ("network.latency", 1, "dev")
    assert found["dialect"] == drawn.dialect
    assert found["client"] == drawn.workload.client
    assert found["distractors"] == list(drawn.distractors)
    assert found["made"] == "2026-11-23T21:43:00+00:00"
    assert found["bytes"] == (corpus / f"{ONE}.lagkit").stat().st_size
    assert found["script_sha256"] == manifest.script_hashes()["network.latency"]


def test_versions_are_those_the_incident_tells(corpus):
    facts = open_incident(corpus / f"{ONE}.lagkit").facts
    versions = entry(corpus)["versions"]
    assert versions["prometheus"] == facts["prometheus"]["server_version"]
    assert versions["kubernetes"] == facts["kubernetes"]["server_version"]
    assert versions["librdkafka"] == facts["kafka"]["librdkafka"]
    assert versions["lagkit"] == "0.1.0"


def test_what_an_older_label_does_not_say_comes_from_its_incident_or_is_null(corpus):
    facts = open_incident(corpus / f"{ONE}.lagkit").facts["prometheus"]
    assert entry(corpus)["scrape_seconds"] == float(facts["scrape_interval_seconds"])
    assert entry(corpus)["exporter"] is None


def test_the_same_corpus_gives_the_same_manifest(corpus):
    before = (corpus / "manifest.json").read_bytes()
    manifest.write(corpus)
    assert (corpus / "manifest.json").read_bytes() == before


def test_versions_stay_those_of_the_day_while_the_recording_does(corpus):
    with_entry(corpus, versions={"kafka": "0.8"}, script_sha256="of then")
    manifest.write(corpus)
    assert entry(corpus)["versions"] == {"kafka": "0.8"}
    assert entry(corpus)["script_sha256"] == "of then"


def test_a_recording_made_anew_has_the_versions_of_now(corpus):
    with_entry(corpus, versions={"kafka": "0.8"}, script_sha256="of then")
    with_label(corpus, started="2026-11-25T00:00:00+00:00")
    manifest.write(corpus)
    assert entry(corpus)["versions"]["kafka"] != "0.8"
    assert entry(corpus)["script_sha256"] == manifest.script_hashes()["network.latency"]


def test_each_split_has_one_hash_over_its_labels(corpus):
    splits = told(corpus)["splits"]
    assert {name: split["incidents"] for name, split in splits.items()} == {
        "dev": 1,
        "calibration": 1,
        "test": 1,
    }
    text = entry(corpus)["label_sha256"]
    assert splits["dev"]["labels_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_label_of_another_incident_makes_no_manifest(corpus):
    with_label(corpus, sha256="0" * 64)
    with pytest.raises(LabError, match=r"network\.latency\.1\.lagkit is not the incident"):
        manifest.write(corpus)


# -- the check


def lose_incident(folder: Path) -> None:
    (folder / f"{ONE}.lagkit").unlink()


def lose_label(folder: Path) -> None:
    (folder / "labels" / f"{ONE}.json").unlink()


def cut(folder: Path) -> None:
    content = (folder / f"{ONE}.lagkit").read_bytes()
    (folder / f"{ONE}.lagkit").write_bytes(content[:-100])


def swap(folder: Path) -> None:
    shutil.copy(folder / "network.narrow.1.lagkit", folder / f"{ONE}.lagkit")


def add(folder: Path) -> None:
    put(folder, "network.blackhole", RECORDED / SAMPLE["network.latency"])


def add_without_label(folder: Path) -> None:
    shutil.copy(folder / f"{ONE}.lagkit", folder / "network.blackhole.1.lagkit")


def move_to_another_split(folder: Path) -> None:
    with_label(folder, split="test")
    manifest.write(folder)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lose_incident, f"{ONE}: there is no {ONE}.lagkit"),
        (lose_label, f"{ONE}: there is no {ONE}.json"),
        (cut, f"{ONE}: {ONE}.lagkit is not the incident that its label was sealed for"),
        (swap, f"{ONE}: {ONE}.lagkit is not the incident that its label was sealed for"),
        (add, "network.blackhole.1 is not in the manifest"),
        (add_without_label, "network.blackhole.1 is not in the manifest"),
        (lambda f: with_entry(f, seed=7), f"{ONE}: the manifest says seed 7, the files say 1"),
        (lambda f: with_entry(f, bytes=1), f"{ONE}: the manifest says bytes 1, the files say"),
        (lambda f: with_label(f, primary="none"), f"{ONE}: the manifest says label_sha256"),
        (
            lambda f: with_entry(f, script_sha256="0"),
            f"{ONE}: the script network.latency has changed since it was made",
        ),
        (
            lambda f: (with_label(f, values={"latency": 1}), manifest.write(f)),
            f"{ONE}: it was made by an earlier form of the script network.latency: values",
        ),
        (move_to_another_split, f"{ONE}: it is labelled test, and its script is of the split dev"),
        (
            lambda f: (with_label(f, script="network.gone"), manifest.write(f)),
            f"{ONE}: there is no script network.gone any more",
        ),
        (lambda f: (f / "manifest.json").unlink(), "has no manifest.json"),
        (lambda f: (f / "manifest.json").write_text("{"), "is no manifest"),
        (lambda f: (f / "manifest.json").write_text('{"format": "x"}'), "is of the format 'x'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(corpus, spoil, line, capsys):
    spoil(corpus)
    assert command("--check", corpus) == 1
    assert any(line in said for said in capsys.readouterr().out.splitlines())


def test_a_split_whose_hash_was_changed_is_said(corpus):
    whole = told(corpus)
    whole["splits"]["test"]["labels_sha256"] = "0" * 64
    (corpus / "manifest.json").write_text(json.dumps(whole))
    assert manifest.check(corpus) == ["the hashes of the splits are not those of their labels"]


def test_an_incident_that_its_script_would_not_draw_is_entered_without_a_script(tmp_path):
    put(tmp_path, "network.latency", RECORDED / SAMPLE["network.latency"])
    with_label(tmp_path, values={"latency": 1})
    manifest.write(tmp_path)
    assert entry(tmp_path)["script_sha256"] is None
    (line,) = manifest.check(tmp_path)
    assert line == (
        f"{ONE}: it was made by an earlier form of the script network.latency: "
        "values would now be another"
    )


def test_the_check_of_a_whole_corpus_ends_with_zero(corpus, capsys):
    assert command("--check", corpus) == 0
    assert "as its manifest says" in capsys.readouterr().out


# -- packed again


def test_a_packed_incident_says_the_same_in_a_third_of_the_bytes(corpus, tmp_path_factory):
    before = tmp_path_factory.mktemp("before")
    shutil.copytree(corpus, before, dirs_exist_ok=True)
    assert command("--repack", corpus) == 0
    assert manifest.check(corpus) == []
    for name in (f"{script}.1" for script in SAMPLE):
        old, new = (folder / f"{name}.lagkit" for folder in (before, corpus))
        assert new.stat().st_size < old.stat().st_size / 3
        assert open_incident(new) == open_incident(old)
        sealed = label(corpus, name)
        assert sealed["sha256"] == hashlib.sha256(new.read_bytes()).hexdigest()
        assert sealed["earlier_sha256"] == [hashlib.sha256(old.read_bytes()).hexdigest()]
        assert sealed["written_by"] == "lagkit capture, repacked by the same writer"
        kept = {key: value for key, value in label(before, name).items() if key != "sha256"}
        assert {key: sealed[key] for key in kept} == kept


def test_what_is_packed_is_not_packed_again(single):
    manifest.repack(single)
    before = {path: path.read_bytes() for path in single.rglob("*") if path.is_file()}
    manifest.repack(single)
    assert {path: path.read_bytes() for path in single.rglob("*") if path.is_file()} == before


def test_packing_that_ended_between_label_and_incident_is_taken_up(single):
    recorded = (single / f"{ONE}.lagkit").read_bytes()
    manifest.repack(single)
    packed, sealed = (single / f"{ONE}.lagkit").read_bytes(), label(single)
    (single / f"{ONE}.lagkit").write_bytes(recorded)
    manifest.repack(single)
    assert (single / f"{ONE}.lagkit").read_bytes() == packed
    assert label(single) == sealed


def test_an_incident_of_another_label_is_not_packed(corpus):
    swap(corpus)
    before = (corpus / f"{ONE}.lagkit").read_bytes()
    with pytest.raises(LabError, match="not the incident that its label was sealed for"):
        manifest.repack(corpus)
    assert (corpus / f"{ONE}.lagkit").read_bytes() == before


def test_a_folder_without_incidents_is_not_packed(tmp_path):
    with pytest.raises(LabError, match="holds no labelled incident"):
        command("--repack", tmp_path)
    assert list(tmp_path.iterdir()) == []


def rewritten(content: bytes, change) -> bytes:
    """Return an incident file with its members (name → bytes) changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return buffer.getvalue()


def with_logs(members: dict[str, bytes], change) -> None:
    table = change(pd.read_parquet(io.BytesIO(members["logs.parquet"])))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), buffer)
    members["logs.parquet"] = buffer.getvalue()
    meta = json.loads(members["incident.json"])
    digest = hashlib.sha256(members["logs.parquet"]).hexdigest()
    meta["frames"]["logs"] = {"rows": len(table), "sha256": digest}
    members["incident.json"] = json.dumps(meta).encode()


def with_description(members: dict[str, bytes], **changes: object) -> None:
    meta = json.loads(members["incident.json"]) | changes
    members["incident.json"] = json.dumps(meta).encode()


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (lambda m: with_logs(m, lambda t: t.assign(mood="bad")), "frame logs"),
        (lambda m: with_logs(m, lambda t: t.iloc[::-1]), "frame logs"),
        (lambda m: with_description(m, weather="rain"), "weather of its description"),
        (lambda m: with_description(m, captured_at="2026-11-23T22:00:00Z"), "captured_at"),
    ],
    ids=["a newer column", "another order", "a newer field", "a time written otherwise"],
)
def test_what_the_writer_would_not_keep_is_not_packed(tmp_path, change, lost):
    recorded = rewritten((RECORDED / SAMPLE["network.latency"]).read_bytes(), change)
    (tmp_path / "changed.lagkit").write_bytes(recorded)
    put(tmp_path, "network.latency", tmp_path / "changed.lagkit")
    with pytest.raises(LabError, match=lost):
        manifest.repack(tmp_path)
    assert (tmp_path / f"{ONE}.lagkit").read_bytes() == recorded


def test_a_recording_through_any_exporter_can_be_packed_without_a_loss():
    for file in sorted(RECORDED.glob("consumer_down_*.lagkit")):
        content = file.read_bytes()
        assert manifest.difference(content, open_incident(file).to_bytes()) == "", file.name

"""``lagkit postmortem`` as a user's shell runs it: what is printed, the status, what is on disk."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import command
import episodes
import incidents
import pytest
from test_postmortem import fill

import lagkit as lk
from lagkit import frames, postmortem
from lagkit.postmortem import edited, files

FILES = {
    "attachments.zip",
    "incident.lagkit",
    "postmortem.html",
    "postmortem.ipynb",
    "postmortem.json",
    "postmortem.md",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with two captures of one outage and one of another group."""
    folder = tmp_path_factory.mktemp("captures")
    episodes.first().save(folder / "first.lagkit")
    episodes.later().save(folder / "after.lagkit")
    replace(episodes.later(), group="billing").save(folder / "billing.lagkit")
    earlier = folder / "earlier"
    earlier.mkdir()
    old = replace(incidents.later(incidents.make("slow", seed=1), "-30D"), id="20261024T-slow")
    old.save(earlier / "slow.lagkit")
    (earlier / "notes.lagkit").write_text("no incident")
    return folder


@pytest.fixture(scope="module")
def done(place, tmp_path_factory) -> tuple[command.Run, Path]:
    """The whole command, once."""
    out = tmp_path_factory.mktemp("out") / "pm"
    run = command.run(
        *("postmortem", "first.lagkit", "--also", "after.lagkit", "--similar", "earlier"),
        *("--zone", "Europe/Paris", "--out", out),
        cwd=place,
    )
    return run, out


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()


def test_it_ends_well_and_prints_the_summary_and_where_the_page_is(done):
    run, out = done
    assert run.status == 0, run.err
    assert "fell behind from 2026-11-23 02:" in run.out
    assert "It was within its promise again from" in run.out
    assert run.out.rstrip().endswith(f"Post-mortem: {out / 'postmortem.html'}")


def test_it_leaves_what_the_contract_names_and_nothing_else(done):
    assert names(done[1]) == FILES | {"later.lagkit", "similar.json"}


def test_the_captures_are_kept_as_they_came(done, place):
    for name, given in (("incident.lagkit", "first.lagkit"), ("later.lagkit", "after.lagkit")):
        assert (done[1] / name).read_bytes() == (place / given).read_bytes()


def test_the_data_name_the_similar_incident_and_the_unreadable_file(done):
    similar = json.loads((done[1] / "postmortem.json").read_text())["similar"]
    assert [one["id"] for one in similar["nearest"]] == ["20261024T-slow"]
    assert similar["unreadable"] == ["notes.lagkit"]


def test_the_notebook_ran_to_its_end_and_says_what_the_text_says(done):
    notebook = json.loads((done[1] / "postmortem.ipynb").read_text())
    assert notebook["metadata"]["lagkit"]["run"]["outcome"] == "finished"
    shown = json.dumps(notebook["cells"], ensure_ascii=False)
    text = (done[1] / "postmortem.md").read_text()
    line = next(line for line in text.splitlines() if "within its promise again from" in line)
    assert line.removeprefix("- ") in shown
    assert "20261024T-slow" in shown or "slow.lagkit" in shown


def test_the_attachments_hold_everything_and_their_manifest_is_true(done):
    out = done[1]
    with zipfile.ZipFile(out / "attachments.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
        for one in manifest["files"]:
            assert hashlib.sha256(archive.read(one["name"])).hexdigest() == one["sha256"]
        for name in names(out) - {"attachments.zip"}:
            assert archive.read(name) == (out / name).read_bytes()


def test_same_captures_same_bytes_notebook_and_attachments_included(done, place, tmp_path):
    """Made again in this process rather than by the command: the same to the byte."""
    signatures = postmortem.read_signatures(done[1] / "similar.json")
    account = postmortem.build(
        lk.open(place / "first.lagkit"),
        later=lk.open(place / "after.lagkit"),
        signatures=signatures,
        zone="Europe/Paris",
    )
    captures = files.Captures(
        (place / "first.lagkit").read_bytes(),
        (place / "after.lagkit").read_bytes(),
        signatures.to_json().encode(),
    )
    files.write(account, tmp_path, captures)
    different = [
        name
        for name in sorted(names(done[1]))
        if (tmp_path / name).read_bytes() != (done[1] / name).read_bytes()
    ]
    assert different == []


# ── people's text ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def drafted(place, tmp_path) -> Path:
    """A post-mortem of the first capture alone, without its notebook."""
    out = tmp_path / "pm"
    out.mkdir()
    account = postmortem.build(lk.open(place / "first.lagkit"))
    captures = files.Captures((place / "first.lagkit").read_bytes())
    files.write(account, out, captures, notebook=False)
    return out


def edit(out: Path, **texts: str) -> Path:
    path = out / "postmortem.md"
    text = path.read_text()
    for name, words in texts.items():
        text = fill(text, name, words)
    path.write_text(text)
    return path


def test_edits_that_conflict_with_new_data_are_both_kept_and_named(place, drafted):
    path = edit(drafted, summary="It was bad.", customers="Two shops waited.")
    run = command.run(
        *("postmortem", "first.lagkit", "--also", "after.lagkit", "--zone", "UTC"),
        *("--merge", path, "--out", drafted),
        cwd=place,
    )
    assert run.status == 5
    assert "in 1 section(s) the edited text and the data both changed: summary" in run.err
    assert "run again with --merge" in run.err
    text = path.read_text()
    assert "It was bad." in text
    assert "It was within its promise again" in text
    assert "Two shops waited." in text
    people = json.loads((drafted / "postmortem.json").read_text())["people"]
    assert people == {"summary": "It was bad.", "customers": "Two shops waited."}
    assert "Two shops waited." in (drafted / "postmortem.html").read_text()
    assert names(drafted) >= FILES


def test_text_that_people_wrote_is_not_overwritten(place, drafted):
    path = edit(drafted, lessons="We learned.")
    before = {entry.name: entry.read_bytes() for entry in drafted.iterdir()}
    run = command.run("postmortem", "first.lagkit", "--out", drafted, cwd=place)
    assert run.status == 2
    assert "holds text that lagkit did not write" in run.err
    assert f"--merge {path}" in run.err
    assert {entry.name: entry.read_bytes() for entry in drafted.iterdir()} == before


def test_an_investigation_into_the_folder_leaves_the_text_alone(place, drafted):
    path = edit(drafted, lessons="We learned.")
    text = path.read_text()
    run = command.run("investigate", "first.lagkit", "--out", drafted, "--no-report", cwd=place)
    assert run.status == 0, run.err
    assert path.read_text() == text


def test_damaged_marks_are_refused_and_nothing_is_written(place, drafted, tmp_path):
    path = drafted / "postmortem.md"
    path.write_text(path.read_text().replace("<!-- lagkit:end impact -->", ""))
    run = command.run(
        "postmortem", "first.lagkit", "--merge", path, "--out", tmp_path / "new", cwd=place
    )
    assert run.status == 2
    assert "section impact has no end" in run.err
    assert "line " in run.err
    assert names(tmp_path / "new") == set()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00not text", "it is not UTF-8 text"),
        (b"# Notes\n", "none of the marks"),
        (None, "there is no such file"),
    ],
)
def test_what_is_no_post_mortem_cannot_be_merged(place, tmp_path, content, says):
    path = tmp_path / "edited.md"
    if content is not None:
        path.write_bytes(content)
    run = command.run(
        "postmortem", "first.lagkit", "--merge", path, "--out", tmp_path / "new", cwd=place
    )
    assert run.status == (3 if content is None else 2)
    assert says in run.err
    assert names(tmp_path / "new") == set()


def test_the_text_of_another_incident_cannot_be_merged(place, drafted, tmp_path):
    run = command.run(
        *("postmortem", "after.lagkit", "--merge", drafted / "postmortem.md"),
        *("--out", tmp_path / "new"),
        cwd=place,
    )
    assert run.status == 2
    assert "it is the post-mortem of another incident" in run.err
    assert names(tmp_path / "new") == set()


# ── bad input ───────────────────────────────────────────────────────────────────────────────────


def foreign(folder: Path) -> Path:
    path = folder / "foreign.lagkit"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    return path


def truncated(folder: Path) -> Path:
    path = folder / "truncated.lagkit"
    content = episodes.first().to_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (foreign, "it holds no incident.json"),
        (truncated, "it is not a zip archive, or was cut off"),
        (lambda folder: folder / "gone.lagkit", "there is no such file"),
    ],
)
def test_what_is_no_incident_ends_with_three_and_leaves_nothing(tmp_path, make, says):
    out = tmp_path / "pm"
    run = command.run("postmortem", make(tmp_path), "--out", out, cwd=tmp_path)
    assert run.status == 3
    assert says in run.err
    assert not out.exists()


def test_a_truncated_later_capture_ends_with_three_and_leaves_nothing(place, tmp_path):
    out = tmp_path / "pm"
    run = command.run(
        "postmortem", "first.lagkit", "--also", truncated(tmp_path), "--out", out, cwd=place
    )
    assert run.status == 3
    assert "truncated.lagkit cannot be opened" in run.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("also", "says"),
    [("billing.lagkit", "is a capture of group 'billing'"), ("first.lagkit", "it adds nothing")],
)
def test_what_is_no_later_capture_of_the_group_ends_with_two(place, tmp_path, also, says):
    out = tmp_path / "pm"
    run = command.run("postmortem", "first.lagkit", "--also", also, "--out", out, cwd=place)
    assert run.status == 2
    assert says in run.err
    assert not out.exists()


def test_what_a_capacity_report_suggests_is_taken_where_capacity_failed(tmp_path):
    import lagkit.capacity as planning

    incidents.make("spike").save(tmp_path / "spike.lagkit")
    report = planning.trends(planning.demo()).answer.to_json()
    (tmp_path / "trend").mkdir()
    (tmp_path / "trend" / "capacity.json").write_text(report)
    out = tmp_path / "pm"
    run = command.run(
        "postmortem", "spike.lagkit", "--capacity", "trend", "--out", out, cwd=tmp_path
    )
    assert run.status == 0, run.err
    assert names(out) == FILES | {"capacity.json"}
    items = json.loads((out / "postmortem.json").read_text())["candidates"]
    told = [item for item in items if item["evidence"].startswith("capacity:")]
    assert [item["action"] for item in told] == ["Run 5 members of deployment-worker (4 now)"]
    assert "Run 5 members" in (out / "postmortem.ipynb").read_text()


@pytest.mark.parametrize("content", ["{}", "no json", '{"schema": "lagkit.capacity/1"}'])
def test_what_is_no_capacity_report_is_refused_before_anything_is_written(place, tmp_path, content):
    (tmp_path / "capacity.json").write_text(content)
    out = tmp_path / "pm"
    run = command.run("postmortem", "first.lagkit", "--capacity", tmp_path, "--out", out, cwd=place)
    assert (run.status, out.exists()) == (2, False)
    assert "is no capacity.json of `lagkit capacity`" in run.err


def test_a_folder_without_incidents_and_a_zone_that_is_none_are_refused(place, tmp_path):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "pm"
    run = command.run(
        "postmortem", "first.lagkit", "--similar", tmp_path / "empty", "--out", out, cwd=place
    )
    assert (run.status, out.exists()) == (3, False)
    assert "holds no incident file" in run.err
    run = command.run("postmortem", "first.lagkit", "--zone", "Mars", "--out", out, cwd=place)
    assert (run.status, out.exists()) == (2, False)
    assert "no time zone 'Mars'" in run.err


def test_a_folder_with_another_capture_is_left_alone(place, tmp_path):
    out = tmp_path / "pm"
    out.mkdir()
    shutil.copy(place / "after.lagkit", out / "incident.lagkit")
    run = command.run("postmortem", "first.lagkit", "--out", out, cwd=place)
    assert run.status == 2
    assert "is another capture than first.lagkit; it stays untouched" in run.err
    assert names(out) == {"incident.lagkit"}


def test_an_incident_without_history_says_what_cannot_be_computed(place, tmp_path):
    nothing = {name: frames.empty(name) for name in ("offsets", "partitions", "commits")}
    incidents.with_tables(episodes.first(), **nothing).save(tmp_path / "blind.lagkit")
    out = tmp_path / "pm"
    run = command.run("postmortem", "blind.lagkit", "--out", out, cwd=tmp_path)
    assert run.status == 0, run.err
    assert "cannot be computed: there is no offset history in the window" in run.out
    assert "Whether messages were deleted unread cannot be told" in run.out
    assert names(out) == FILES


def test_a_notebook_that_cannot_finish_costs_itself_only(place, tmp_path, monkeypatch):
    broken = tmp_path.with_name("broken-kernel")
    broken.mkdir()
    (broken / "ipykernel_launcher.py").write_text("raise SystemExit('no kernel today')")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    account = postmortem.build(lk.open(place / "first.lagkit"))
    captures = files.Captures((place / "first.lagkit").read_bytes())
    with pytest.raises(lk.ReportFailed, match=r"postmortem\.ipynb|kernel"):
        files.write(account, tmp_path, captures)
    assert FILES - {"postmortem.ipynb"} <= names(tmp_path)
    assert "Not all of this could be made" in (tmp_path / "postmortem.html").read_text()
    assert edited.read(tmp_path / "postmortem.md").parts


# WeasyPrint leaves its colour profile to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_pdf_holds_the_captures_and_the_data(place, tmp_path):
    pytest.importorskip("weasyprint", reason="WeasyPrint (extra `pdf`) is not installed")
    account = postmortem.build(lk.open(place / "first.lagkit"))
    captures = files.Captures((place / "first.lagkit").read_bytes())
    written = files.write(account, tmp_path, captures, notebook=False, pdf=True)
    assert written.pdf is not None
    body = written.pdf.read_bytes()
    assert body.startswith(b"%PDF-1.7")
    assert b"pdfaid:part" in body or b"EmbeddedFile" in body
    with zipfile.ZipFile(io.BytesIO((tmp_path / "attachments.zip").read_bytes())) as archive:
        assert archive.read("postmortem.pdf") == body

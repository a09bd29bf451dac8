"""``lagkit investigate``, ``demo``, ``capture``: from a group or a file to verdict and report."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lagkit import folders
from lagkit.commands.console import Progress, print_error, print_result, reason
from lagkit.commands.options import (
    REPORT_OPTIONS,
    SOURCE_OPTIONS,
    WINDOW_OPTIONS,
    settings_from,
    typed,
    with_options,
)
from lagkit.errors import ReportFailed, UsageError

if TYPE_CHECKING:
    from lagkit.incident import Incident
    from lagkit.runner import Standby


@click.command()
@click.argument("target", metavar="GROUP|FILE.lagkit")
@with_options(WINDOW_OPTIONS, SOURCE_OPTIONS, REPORT_OPTIONS)
def investigate(
    target: str,
    topics: tuple[str, ...],
    since: str | None,
    start: str | None,
    end: str | None,
    out: Path | None,
    as_json: bool,
    no_report: bool,
    pdf: bool,
    deadline: float,
    **sources: Any,
) -> int:
    """Find why GROUP lags: the verdict first, then the report.

    With FILE.lagkit: the same from a saved incident, without asking any system.
    """
    saved = target.endswith(folders.INCIDENT_SUFFIX)
    with (
        Progress() as progress,
        folders.held(out, needed=not saved) as folder,
        _standby(wanted=not no_report) as standby,
    ):
        if saved:
            given = {"--topic": topics, "--since": since, "--start": start, "--end": end}
            given |= {f"--{name.replace('_', '-')}": value for name, value in sources.items()}
            # LAGKIT_SINCE may be set for good; only what was typed contradicts a saved incident.
            said = [name for name, value in given.items() if value and typed(name)]
            if said:
                msg = f"{', '.join(said)}: {target} is saved and has its own window and sources."
                raise UsageError(msg, hint="Leave the option out, or name a group instead.")
            from lagkit.incident import open_incident

            incident = open_incident(target)
        else:
            incident = _capture(target, topics, since, start, end, sources, progress)
        return _publish(
            incident,
            folder,
            progress,
            only_copy=not saved,
            as_json=as_json,
            report=not no_report,
            pdf=pdf,
            deadline=deadline,
            standby=standby,
        )


@click.command()
@with_options(REPORT_OPTIONS)
def demo(
    out: Path | None,
    as_json: bool,
    no_report: bool,
    pdf: bool,
    deadline: float,
) -> int:
    """Replay the bundled incident, recorded from real servers; asks no system."""
    import lagkit

    with (
        Progress() as progress,
        folders.held(out or Path("lagkit-demo")) as folder,
        _standby(wanted=not no_report) as standby,
    ):
        return _publish(
            lagkit.demo(),
            folder,
            progress,
            only_copy=False,
            as_json=as_json,
            report=not no_report,
            pdf=pdf,
            deadline=deadline,
            standby=standby,
        )


@click.command()
@click.argument("group")
@with_options(WINDOW_OPTIONS, SOURCE_OPTIONS)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The incident file. [default: lagkit-GROUP-TIME.lagkit]",
)
def capture(
    group: str,
    topics: tuple[str, ...],
    since: str | None,
    start: str | None,
    end: str | None,
    out: Path | None,
    **sources: Any,
) -> int:
    """Save what every source shows of GROUP now, before events expire and logs are gone."""
    if out is not None and out.suffix != folders.INCIDENT_SUFFIX:
        msg = f"--out {out} does not end in {folders.INCIDENT_SUFFIX}."
        raise UsageError(msg, hint=f"Write {out}{folders.INCIDENT_SUFFIX}.")
    with Progress() as progress:
        folders.refuse_unwritable(out.resolve().parent if out else Path())
        incident = _capture(group, topics, since, start, end, sources, progress)
        path: Path | None
        try:
            path, status = folders.saved(incident, out), 0
        except OSError as error:
            path, status = _rescued(incident, out, error)
        for gap in incident.coverage:
            progress(f"not seen: {gap.what}: {gap.why}")
        if incident.redactions:
            removed = ", ".join(f"{count} × {what}" for what, count in incident.redactions.items())
            progress(f"removed on the way in: {removed}")
    return status if path is None else max(status, print_result(f"{path}\n"))


# ── what they share ─────────────────────────────────────────────────────────────────────────────


def _capture(
    group: str,
    topics: Sequence[str],
    since: str | None,
    start: str | None,
    end: str | None,
    sources: Mapping[str, Any],
    progress: Progress,
) -> Incident:
    from lagkit.collect import capture as capture_incident

    settings = settings_from(sources)
    if start and since and not typed("--since"):
        since = None  # LAGKIT_SINCE gives way to a window that was typed
    progress(f"capturing {group}")
    return capture_incident(
        group, topics, since=since, start=start, end=end, settings=settings, on_progress=progress
    )


@contextlib.contextmanager
def _standby(*, wanted: bool) -> Iterator[Standby | None]:
    """Have the notebook's kernel start while the sources answer, if a report is *wanted*."""
    if not wanted:
        yield None
        return
    from lagkit.runner.beside import standing_by
    from lagkit.writing import NOTEBOOK_MODULES

    with standing_by(NOTEBOOK_MODULES) as standby:
        yield standby


def _publish(
    incident: Incident,
    held: Path | None,
    progress: Progress,
    *,
    only_copy: bool,
    as_json: bool,
    report: bool,
    pdf: bool,
    deadline: float,
    standby: Standby | None,
) -> int:
    """Save, judge, print, report, each file whole in *held* or in a folder of its own name."""
    from lagkit.disk import write_whole
    from lagkit.investigation import investigate as judge
    from lagkit.report import first_screen
    from lagkit.writing import write

    with contextlib.ExitStack() as stack:
        status, folder = 0, held
        kept: Path | None
        try:
            folder = held or stack.enter_context(folders.own_folder(incident))
            kept = incident.save(folder / folders.INCIDENT_FILE)  # before anything is analysed
            folders.remove_earlier(folder)
        except (OSError, UsageError) as error:
            # The evidence may be gone by the next attempt: what it shows is still told.
            if not only_copy and isinstance(error, UsageError):
                raise
            report, folder = False, None
            if only_copy:
                kept, status = _rescued(incident, held, error)
            else:
                place = held or folders.default_folder(incident)
                print_error(f"The report cannot be written to {place}: {reason(error)}.")
                kept, status = None, ReportFailed.exit_status
        try:
            result = judge(incident)
            verdict = result.verdict.to_json()
            if folder is not None:
                try:
                    write_whole(folder / folders.VERDICT_FILE, verdict.encode())
                except OSError as error:
                    print_error(f"{folder / 'verdict.json'} was not written: {reason(error)}.")
                    report, status = False, ReportFailed.exit_status
            text = verdict.encode() if as_json else f"{first_screen(result)}\n"
            status = max(status, print_result(text))
            if report and folder is not None:
                try:
                    write(
                        result,
                        folder,
                        pdf=pdf,
                        deadline_seconds=deadline,
                        on_progress=progress,
                        standby=standby,
                    )
                except ReportFailed as error:
                    print_error(str(error))
                    status = error.exit_status
        except BaseException:
            # Ctrl-C, SIGTERM or a fault: the capture may be all that is left of the evidence.
            progress.stop()
            if kept is not None:
                click.echo(f"What was captured is kept: {kept}", err=True)
            raise
    progress.stop()
    if folder is None:
        return status
    page = folder / folders.HTML_FILE
    line = f"{'Report' if report else 'Saved'}: {page if page.exists() else folder}"
    if as_json:
        click.echo(line, err=True)
        return status
    return max(status, print_result(f"{line}\n"))


def _rescued(incident: Incident, wanted: Path | None, error: Exception) -> tuple[Path | None, int]:
    """Keep a capture that its place did not take where temporary files go; None: nor there."""
    place = wanted or Path.cwd()
    name = f"{folders.default_folder(incident)}-{os.getpid()}{folders.INCIDENT_SUFFIX}"
    path = None
    try:
        path = incident.save(Path(tempfile.gettempdir()) / name, new=True)
        then = f"It is in {path} instead."
    except OSError as second:
        then = f"Nor can it be kept elsewhere: {reason(second)}.\nMake room and capture again soon."
    print_error(f"{place} did not take the capture: {reason(error)}. {then}")
    return path, ReportFailed.exit_status

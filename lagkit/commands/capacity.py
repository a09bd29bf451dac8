"""``lagkit capacity``: will these groups keep up, and until when."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lagkit import folders
from lagkit.commands.console import Progress, print_error, print_result, reason
from lagkit.commands.options import NOTEBOOK_SECONDS, settings_from, typed, with_options
from lagkit.errors import NothingThere, ReportFailed, UsageError

if TYPE_CHECKING:
    from lagkit.capacity.history import History
    from lagkit.capacity.outlook import Capacities

MOST_LINES = 20
BUDGET_SECONDS = 1800.0
OPTIONS = (
    click.option("--all", "every", is_flag=True, help="Every group that the exporters tell."),
    click.option("--topic", "topics", multiple=True, metavar="T", help="Only this topic."),
    click.option("--since", metavar="8w", help="How far back. [default: 8w]"),
    click.option("--end", metavar="ISO", help="End of the weeks, with its zone. [default: now]"),
    click.option(
        "--target",
        type=float,
        default=0.7,
        show_default=True,
        envvar="LAGKIT_TARGET",
        help="Share of its capacity that the weekly peak may take.",
    ),
    click.option("--prometheus", metavar="URL", help="Prometheus, or what speaks its API."),
    click.option(
        "--runbook", type=click.Path(path_type=Path), help="Your runbook: promises, criticality."
    ),
    click.option(
        "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the report."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print capacity.json alone."),
    click.option("--no-report", is_flag=True, help="Stop after capacity.json and the history."),
    click.option("--demo", is_flag=True, help="The bundled eight weeks; asks no system."),
    click.option(
        "--budget",
        type=click.FloatRange(min=1.0),
        default=BUDGET_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="Most that asking Prometheus may take; a second run goes on from there.",
    ),
    click.option("--no-cache", is_flag=True, help="Keep no answers for the next run, take none."),
    click.option(
        "--deadline",
        type=click.FloatRange(min=1.0),
        default=NOTEBOOK_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="Most that the notebook may take.",
    ),
)


@click.command()
@click.argument("groups", metavar="[GROUP…|FILE.lagkit]", nargs=-1)
@with_options(OPTIONS)
def capacity(
    groups: tuple[str, ...],
    target: float,
    out: Path | None,
    as_json: bool,
    no_report: bool,
    deadline: float,
    **given: Any,
) -> int:
    """Tell whether GROUPs will keep up, until when, and what a stop would cost.

    Reads weeks of Prometheus, an hour at a time; what was answered is kept, so an interrupted run
    goes on where it stopped. With FILE.lagkit: the same from a saved history.
    """
    if not 0 < target < 1:  # before a minute is spent on reading
        msg = f"--target {target:g} is no share of the capacity."
        raise UsageError(msg, hint="Write a number between 0 and 1, e.g. 0.7.")
    saved = len(groups) == 1 and groups[0].endswith(folders.INCIDENT_SUFFIX)
    _refuse_contradictions(groups, given, saved=saved)
    from lagkit.capacity import writing
    from lagkit.disk import claimed
    from lagkit.runner.beside import standing_by

    place = out or _default(groups, demo=bool(given["demo"]), every=bool(given["every"]))
    with (
        Progress() as progress,
        claimed(place) as folder,
        nullcontext() if no_report else standing_by(writing.NOTEBOOK_MODULES) as standby,
    ):
        writing.refuse_foreign(folder)
        history = _history(groups, given, saved=saved, progress=progress)
        try:
            kept = history.save(folder / writing.HISTORY_FILE)
            writing.remove_earlier(folder)
        except OSError as error:
            print_error(f"The history cannot be kept in {folder}: {reason(error)}.")
            return ReportFailed.exit_status
        try:
            from lagkit.capacity.outlook import trends

            found = trends(history, target=target, on_progress=progress)
            status = print_result(
                found.answer.to_json().encode() if as_json else f"{_screen(found)}\n"
            )
            if no_report:
                from lagkit.disk import write_whole

                write_whole(folder / writing.JSON_FILE, found.answer.to_json().encode())
            else:
                writing.write(
                    found,
                    folder,
                    standby=standby,
                    deadline_seconds=deadline,
                    on_progress=progress,
                )
        except ReportFailed as error:
            print_error(str(error))
            return error.exit_status
        except BaseException:
            progress.stop()
            click.echo(f"What was read is kept: {kept}", err=True)
            raise
    page = place / (writing.JSON_FILE if no_report else writing.HTML_FILE)
    line = f"{'Saved' if no_report else 'Report'}: {page}"
    if as_json:
        click.echo(line, err=True)
        return status
    return max(status, print_result(f"{line}\n"))


def _refuse_contradictions(groups: tuple[str, ...], given: dict[str, Any], *, saved: bool) -> None:
    chosen = [bool(groups), bool(given["every"]), bool(given["demo"])]
    if sum(chosen) != 1:
        msg = "Name the groups, or take --all or --demo: one of them."
        raise UsageError(msg, hint="E.g. lagkit capacity deployment-worker --since 8w")
    if not saved and not given["demo"]:
        return
    options = ("--topic", "--since", "--end", "--prometheus", "--runbook")
    said = [option for option in options if typed(option)]
    if said:
        what = groups[0] if saved else "--demo"
        msg = f"{', '.join(said)}: {what} is saved and has its own weeks and sources."
        raise UsageError(msg, hint="Leave the option out, or name a group instead.")


def _history(
    groups: tuple[str, ...], given: dict[str, Any], *, saved: bool, progress: Progress
) -> History:
    from lagkit.capacity import capture, history

    if given["demo"]:
        return history.demo()
    if saved:
        opened = history.open_history(groups[0])
        if not len(opened.flow_hours):
            msg = f"{groups[0]} holds no hour of any group."
            raise NothingThere(msg, hint="Read the weeks again: lagkit capacity GROUP --since 8w")
        return opened
    names = tuple(dict.fromkeys(groups))
    settings = settings_from({"prometheus": given["prometheus"], "runbook": given["runbook"]})
    read = capture.capture(
        names,
        given["topics"],
        since=given["since"],
        end=given["end"],
        settings=settings,
        budget_seconds=given["budget"],
        keep=not given["no_cache"],
        on_progress=progress,
    )
    if names and not (set(read.flow_hours["group"]) & set(names)):
        msg = f"Nothing is known of {', '.join(names)} in the window."
        raise NothingThere(msg, hint="Check the name.")
    return read


def _screen(found: Capacities) -> str:
    """Return what the terminal shows: one sentence a group, worst first, and what was not seen."""
    from lagkit.capacity.render import lead
    from lagkit.wording import printable

    answer = found.answer
    lines = [lead(found)]
    lines += [
        f"  {printable(trend.name, limit=120)}: {printable(trend.verdict, limit=400)}"
        for trend in answer.trends[:MOST_LINES]
    ]
    if len(answer.trends) > MOST_LINES:
        lines.append(f"  … and {len(answer.trends) - MOST_LINES} more in the report")
    lines += [
        f"NOT SEEN  {printable(gap.what, limit=200)}: {printable(gap.why, limit=300)}"
        for gap in answer.not_seen[:MOST_LINES]
    ]
    return "\n".join(lines)


def _default(groups: tuple[str, ...], *, demo: bool, every: bool) -> Path:
    if demo:
        return Path("lagkit-demo-capacity")
    name = "all" if every else re.sub(r"\.lagkit$", "", Path(groups[0]).name)
    more = f"-and-{len(groups) - 1}-more" if len(groups) > 1 else ""
    return Path(f"lagkit-capacity-{folders.safe_name(name)}{more}")

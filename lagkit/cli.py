"""The command line: parse, call, print.

stdout is for the result, stderr for progress and faults; the exit status is the contract's (0 done,
2 usage, 3 nothing there, 4 no source readable, 5 the report failed after the verdict). No logic of
its own, and no import that would make ``lagkit --help`` slow.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click

from lagkit import folders
from lagkit.errors import LagkitError, ReportFailed, UsageError
from lagkit.version import __version__

if TYPE_CHECKING:
    from types import FrameType

    from lagkit.config import Settings
    from lagkit.incident import Incident
    from lagkit.runner import Standby

NOTEBOOK = "notebooks/investigate.ipynb"
NOTEBOOK_SECONDS = 120.0
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
TERMINATED = 143  # 128 + SIGTERM

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Terminated(BaseException):
    """SIGTERM: what was captured stays, then the command ends with 143.

    Not a KeyboardInterrupt, which click would turn into its own exception.
    """


# ── options that several commands share ─────────────────────────────────────────────────────────

_SOURCE_OPTIONS = (
    click.option("--prometheus", metavar="URL", help="Prometheus, or what speaks its API."),
    click.option("--bootstrap", metavar="HOST:PORT,…", help="Kafka or Redpanda brokers."),
    click.option(
        "--kafka-properties",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Login for the brokers: client.properties, or a profile of rpk (.yaml).",
    ),
    click.option(
        "--kubeconfig", type=click.Path(path_type=Path), help="Kubernetes login; none by default."
    ),
    click.option("--context", metavar="NAME", help="Context in the kubeconfig."),
    click.option("--namespace", metavar="NS", help="Namespace of the consumer's pods."),
    click.option("--selector", metavar="K=V", help="Label selector of the consumer's pods."),
    click.option(
        "--runbook",
        type=click.Path(path_type=Path),
        help="Your runbook as data; the shipped one by default.",
    ),
)
_WINDOW_OPTIONS = (
    click.option(
        "--topic",
        "topics",
        multiple=True,
        metavar="T",
        envvar="LAGKIT_TOPIC",
        help="Only this topic; repeatable.",
    ),
    click.option(
        "--since",
        metavar="1h",
        envvar="LAGKIT_SINCE",
        help="Length of the window up to its end: 45m, 2h, 3d. [default: 1h]",
    ),
    click.option(
        "--start", metavar="ISO", envvar="LAGKIT_START", help="Start of the window, with its zone."
    ),
    click.option(
        "--end", metavar="ISO", envvar="LAGKIT_END", help="End of the window. [default: now]"
    ),
)
_REPORT_OPTIONS = (
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="LAGKIT_OUT",
        help="Folder of the report.",
    ),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        envvar="LAGKIT_JSON",
        help="Print the verdict alone, as verdict.json.",
    ),
    click.option(
        "--no-report",
        is_flag=True,
        envvar="LAGKIT_NO_REPORT",
        help="Stop after the verdict; keep it and the incident.",
    ),
    click.option("--pdf", is_flag=True, envvar="LAGKIT_PDF", help="Also report.pdf (extra `pdf`)."),
    click.option(
        "--deadline",
        type=click.FloatRange(min=1.0),
        default=NOTEBOOK_SECONDS,
        show_default=True,
        envvar="LAGKIT_DEADLINE",
        metavar="SECONDS",
        help="Most that the notebook may take.",
    ),
)


def _with(*groups: Sequence[Callable[[Any], Any]]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options of *groups*, in their order."""

    def decorate(command: _Command) -> _Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lagkit")
@click.option("--debug", is_flag=True, help="Log on stderr, and show the traceback of a fault.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """From a Kafka consumer-lag alert to a ranked cause, with the evidence behind it.

    Every option of a command can also come from LAGKIT_<OPTION> or lagkit.toml (the sources by
    name, the rest in its table [options]). A source without an address is not asked. lagkit only
    reads; it never runs a remedy.
    """
    context.default_map = dict.fromkeys(cli.commands, _options_in_file())
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.CRITICAL,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
        force=True,
    )
    if debug:  # the clients' own chatter would bury lagkit's
        for name in ("urllib3", "kubernetes", "asyncio", "fontTools", "weasyprint"):
            logging.getLogger(name).setLevel(logging.INFO)


@cli.command()
@click.argument("target", metavar="GROUP|FILE.lagkit")
@_with(_WINDOW_OPTIONS, _SOURCE_OPTIONS, _REPORT_OPTIONS)
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
        _Progress() as progress,
        folders.held(out, needed=not saved) as folder,
        _standby(wanted=not no_report) as standby,
    ):
        if saved:
            given = {"--topic": topics, "--since": since, "--start": start, "--end": end}
            given |= {f"--{name.replace('_', '-')}": value for name, value in sources.items()}
            # LAGKIT_SINCE may be set for good; only what was typed contradicts a saved incident.
            typed = [name for name, value in given.items() if value and _typed(name)]
            if typed:
                msg = f"{', '.join(typed)}: {target} is saved and has its own window and sources."
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


@cli.command()
@_with(_REPORT_OPTIONS)
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
        _Progress() as progress,
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


@cli.command()
@click.argument("group")
@_with(_WINDOW_OPTIONS, _SOURCE_OPTIONS)
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
    with _Progress() as progress:
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
    return status if path is None else max(status, _print_result(f"{path}\n"))


@cli.command()
@click.argument("group", required=False)
@_with(_SOURCE_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(group: str | None, as_json: bool, **sources: Any) -> int:
    """Say per source what works and what is missing, with the line that fixes it.

    Asks each configured source what an investigation of GROUP would ask; the runbook's first group
    if none is given.
    """
    from lagkit import doctor as surgery

    with _Progress() as progress:
        diagnosis = surgery.examine(_settings(sources), group, on_progress=progress)
    if as_json:
        text = json.dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False)
        unprinted = _print_result(text.encode() + b"\n")
    else:
        unprinted = _print_result(surgery.render(diagnosis) + "\n")
    return diagnosis.exit_status or unprinted


@cli.command("open")
@click.argument("place", metavar="[FILE.lagkit|FOLDER]", required=False, type=click.Path())
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening it.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of JupyterLab.")
def open_(place: str | None, no_browser: bool, port: int | None) -> None:
    """Open an incident in JupyterLab: a saved file, a report's folder, or the bundled one."""
    from importlib.util import find_spec
    from urllib.parse import quote

    if find_spec("jupyterlab") is None:
        msg = "JupyterLab is not installed, so there is nothing to open the notebook with."
        raise UsageError(msg, hint="Run: pip install 'lagkit[notebook]'")
    try:
        notebook = _workbook(Path(place) if place else None)
    except OSError as error:
        msg = f"The notebook cannot be written: {_reason(error)}."
        raise UsageError(msg, hint="Copy the incident to a folder that takes a file.") from None
    click.echo(f"Opening {notebook}", err=True)
    # By its address rather than as an argument: the line JupyterLab prints leads to the notebook.
    command = [sys.executable, "-m", "jupyterlab"]
    command += [f"--ServerApp.root_dir={notebook.parent.resolve()}"]
    command += [f"--LabApp.default_url=/lab/tree/{quote(notebook.name)}"]
    command += ["--no-browser"] if no_browser else []
    command += [f"--ServerApp.port={port}"] if port else []
    command += ["--allow-root"] if os.geteuid() == 0 else []  # a container; Jupyter would refuse
    sys.stderr.flush()
    os.execv(sys.executable, command)  # noqa: S606 - JupyterLab takes our place and our terminal


# ── what the commands share ─────────────────────────────────────────────────────────────────────


def _options_in_file() -> Mapping[str, Any]:
    """Return the table [options] of lagkit.toml; its faults are told by ``load_settings``."""
    import tomllib

    from lagkit.config import configuration_file

    try:
        document = tomllib.loads(configuration_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    table = document.get("options", {})
    known = {
        option.opts[0].removeprefix("--"): option.name
        for option in cli.commands["investigate"].params
        if isinstance(option, click.Option)
    }
    foreign = sorted(set(table) - known.keys()) if isinstance(table, dict) else ["options"]
    if foreign:
        msg = f"{configuration_file()}: [options] knows no {foreign[0]!r}."
        raise UsageError(msg, hint=f"It may hold: {', '.join(sorted(known))}.")
    return {str(known[key]): value for key, value in table.items()}


def _settings(options: Mapping[str, Any]) -> Settings:
    from lagkit.config import load_settings

    given = dict(options)
    # LAGKIT_KAFKA_PROPERTIES and its table in lagkit.toml are the properties themselves
    given["kafka_properties_file"] = given.pop("kafka_properties", None)
    return load_settings(**given)


def _capture(
    group: str,
    topics: Sequence[str],
    since: str | None,
    start: str | None,
    end: str | None,
    sources: Mapping[str, Any],
    progress: _Progress,
) -> Incident:
    from lagkit.collect import capture as capture_incident

    settings = _settings(sources)
    if start and since and not _typed("--since"):
        since = None  # LAGKIT_SINCE gives way to a window that was typed
    progress(f"capturing {group}")
    return capture_incident(
        group, topics, since=since, start=start, end=end, settings=settings, on_progress=progress
    )


def _typed(option: str) -> bool:
    """Whether *option* stands on the command line, not only in the environment."""
    name = "topics" if option == "--topic" else option.removeprefix("--").replace("-", "_")
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


@contextlib.contextmanager
def _standby(*, wanted: bool) -> Iterator[Standby | None]:
    """Have the notebook's kernel start while the sources answer, if a report is *wanted*."""
    if not wanted:
        yield None
        return
    from lagkit.writing import standing_by

    with contextlib.ExitStack() as stack:
        standby = None
        with contextlib.suppress(OSError):  # no room for its files: the report will say so
            standby = stack.enter_context(standing_by())
        yield standby


def _publish(
    incident: Incident,
    held: Path | None,
    progress: _Progress,
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
                _print_error(f"The report cannot be written to {place}: {_reason(error)}.")
                kept, status = None, ReportFailed.exit_status
        try:
            result = judge(incident)
            verdict = result.verdict.to_json()
            if folder is not None:
                try:
                    write_whole(folder / folders.VERDICT_FILE, verdict.encode())
                except OSError as error:
                    _print_error(f"{folder / 'verdict.json'} was not written: {_reason(error)}.")
                    report, status = False, ReportFailed.exit_status
            text = verdict.encode() if as_json else f"{first_screen(result)}\n"
            status = max(status, _print_result(text))
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
                    _print_error(str(error))
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
    return max(status, _print_result(f"{line}\n"))


def _print_result(text: str | bytes) -> int:
    """Put *text* on stdout, bytes as they are; return the status that this leads to."""
    try:
        click.echo(text, nl=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head -1` has seen enough; the report is still wanted
        _mute_stdout()
    except OSError as error:
        _mute_stdout()
        _print_error(f"The result cannot be printed: {_reason(error)}.")
        return ReportFailed.exit_status
    return 0


def _mute_stdout() -> None:
    """Let what is left in the buffer go nowhere, or Python would fail on it once more."""
    void = os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, sys.stdout.fileno())
    os.close(void)


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error).splitlines()[0].rstrip(".")


def _rescued(incident: Incident, wanted: Path | None, error: Exception) -> tuple[Path | None, int]:
    """Keep a capture that its place did not take where temporary files go; None: nor there."""
    place = wanted or Path.cwd()
    name = f"{folders.default_folder(incident)}-{os.getpid()}{folders.INCIDENT_SUFFIX}"
    path = None
    try:
        path = incident.save(Path(tempfile.gettempdir()) / name, new=True)
        then = f"It is in {path} instead."
    except OSError as second:
        then = (
            f"Nor can it be kept elsewhere: {_reason(second)}.\nMake room and capture again soon."
        )
    _print_error(f"{place} did not take the capture: {_reason(error)}. {then}")
    return path, ReportFailed.exit_status


def _workbook(place: Path | None) -> Path:
    """Return the notebook for *place*, made beside the incident if it is not there yet."""
    from lagkit.incident import open_incident
    from lagkit.resources import resource_path
    from lagkit.runner import prepare_notebook

    if place is None:
        return prepare_notebook(resource_path(NOTEBOOK), {}, Path("lagkit-demo.ipynb"))
    file = place / folders.INCIDENT_FILE if place.is_dir() else place
    open_incident(file)  # a file that is none is refused here, not by a traceback in a cell
    known = file.with_name(folders.NOTEBOOK_FILE)
    if file.name == folders.INCIDENT_FILE and known.exists():
        return known
    notebook = file.with_suffix(".ipynb")
    if notebook.exists():  # someone's notes may be in it
        return notebook
    return prepare_notebook(resource_path(NOTEBOOK), {"incident_path": file.name}, notebook)


class _Progress:
    """Says on stderr what is being done: a line that moves on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._status: Any = None
        self._chapter = ""

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console

            # rich honours NO_COLOR and TERM=dumb.
            self._status = Console(stderr=True, highlight=False).status("")
            self._status.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def __call__(self, line: str) -> None:
        """Say one line; what came from outside cannot move the cursor."""
        from lagkit.wording import printable

        text = f"{time.monotonic() - self._started:5.1f}s  {printable(line)}"
        # A notebook tells every cell; where lines stay, one a chapter is enough.
        head, _, chapter = line.partition(": ")
        told = head.startswith("notebook ") and chapter == self._chapter
        self._chapter = chapter if head.startswith("notebook ") else ""
        if self._status is None:
            if not told:
                click.echo(text, err=True)
            return
        from rich.text import Text

        self._status.update(Text(text))
        if not line.startswith("notebook "):  # each chapter is news only while it runs
            self._status.console.print(Text(text, style="dim"))

    def stop(self) -> None:
        """Take the moving line away; lines after this stand as they are."""
        if self._status is not None:
            self._status.stop()
            self._status = None


# ── the way out ─────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale without "←" must not cost the verdict
            stream.reconfigure(errors="backslashreplace")
    try:
        with _sigterm_as_interrupt():
            outcome = cli.main(given, prog_name="lagkit", standalone_mode=False)
            if sys.stdout is not None:
                sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LagkitError as error:
        if "--debug" in given:
            traceback.print_exc()
        _print_error(str(error))
        return error.exit_status
    except Terminated:
        _print_error("Terminated.")
        return TERMINATED
    except (click.Abort, KeyboardInterrupt):
        _print_error("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): not a fault, and nothing to flush to.
        _mute_stdout()
        return 0
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        _print_error(
            f"lagkit's own fault: {type(error).__name__}: {error}\n"
            "Run it again with `lagkit --debug …` and report the traceback."
        )
        return LagkitError.exit_status
    return outcome if isinstance(outcome, int) else 0


def _print_error(text: str) -> None:
    from lagkit.wording import printable

    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip(" "))]
        click.echo(indent + printable(line), err=True)


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def raise_terminated(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())

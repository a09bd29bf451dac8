"""The command line: parse, call, print.

stdout is for the result, stderr for progress and faults; the exit status is the contract's (0 done,
2 usage, 3 nothing there, 4 no source readable, 5 the report failed after the verdict, 6 not over,
7 out of time). The commands themselves are in ``lagkit.commands``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from lagkit.commands.capacity import capacity
from lagkit.commands.console import mute_stdout, print_error
from lagkit.commands.doctor import doctor
from lagkit.commands.investigate import capture, demo, investigate
from lagkit.commands.notify import notify
from lagkit.commands.open import open_
from lagkit.commands.peek import peek
from lagkit.commands.postmortem import postmortem
from lagkit.commands.rules import rules
from lagkit.commands.verify import verify
from lagkit.commands.watch import watch
from lagkit.errors import LagkitError, UsageError
from lagkit.version import __version__

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
TERMINATED = 143  # 128 + SIGTERM


class Terminated(BaseException):
    """SIGTERM: what was captured stays, then the command ends with 143.

    Not a KeyboardInterrupt, which click would turn into its own exception.
    """


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


for command in (
    *(investigate, demo, capture, doctor, open_),
    *(watch, verify, peek, notify, postmortem),
    *(rules, capacity),
):
    cli.add_command(command)


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
        print_error(str(error))
        return error.exit_status
    except Terminated:
        print_error("Terminated.")
        return TERMINATED
    except (click.Abort, KeyboardInterrupt):
        print_error("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): not a fault, and nothing to flush to.
        mute_stdout()
        return 0
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        print_error(
            f"lagkit's own fault: {type(error).__name__}: {error}\n"
            "Run it again with `lagkit --debug …` and report the traceback."
        )
        return LagkitError.exit_status
    return outcome if isinstance(outcome, int) else 0


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

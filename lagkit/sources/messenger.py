"""A message to people: Slack first, and whatever else the Apprise library can reach.

The only place that sends anything anywhere, and only what it is told to. An address holds a
token: no text made here repeats one.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from lagkit.errors import UsageError

EXTRA = "pip install 'lagkit[notify]'"
SLACK_CHARACTERS = 3000
"""Most of one block of text at Slack."""
_CODE = re.compile(r"\b(?:error[= ]|status |HTTP )?([1-5]\d\d)\b")


@dataclass(frozen=True, slots=True)
class Sent:
    """How one address took the message; ``place`` names it without what is secret in it."""

    place: str
    ok: bool
    why: str = ""


def place_of(address: str) -> str:
    """Return *address* without user, token, path and query: what may be shown of it."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme in ("http", "https") or parts.scheme.rstrip("s") in ("json", "xml", "form"):
        return f"{parts.scheme}://{host}" + ("/…" if parts.path.strip("/") else "")
    # of slack://TOKEN/… even the host is a token
    return f"{parts.scheme or 'an address'}://…"


def send(address: str, title: str, body: str) -> Sent:
    """Send one message to *address*, and say how it was taken.

    Raises
    ------
    UsageError
        Apprise is not installed, or *address* is none that it knows.
    """
    try:
        import apprise
    except ImportError:
        msg = "The library that sends messages is not installed."
        raise UsageError(msg, hint=f"Run: {EXTRA}") from None
    place = place_of(address)
    with _overheard() as said, warnings.catch_warnings():
        # it loads its services now, and some of them import what Python gives up one day
        warnings.simplefilter("ignore", DeprecationWarning)
        messenger = apprise.Apprise()
        if not messenger.add(address):
            msg = f"{place} is no address that a message can be sent to."
            raise UsageError(
                msg,
                hint="Give a Slack webhook (https://hooks.slack.com/services/…) or an Apprise URL.",
            )
        ok = bool(
            messenger.notify(
                title=title,
                body=body,
                body_format=apprise.NotifyFormat.TEXT,
                interpret_escapes=False,
            )
        )
    return Sent(place, ok, "" if ok else _why(said))


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextlib.contextmanager
def _overheard() -> Iterator[list[str]]:
    """Hear what the library logs, which is all it says of a refusal; let nobody else hear it."""
    log, ear = logging.getLogger("apprise"), _Ear()
    before = log.propagate, log.level
    log.addHandler(ear)
    log.propagate = False
    log.setLevel(logging.WARNING)
    try:
        yield ear.said
    finally:
        log.removeHandler(ear)
        log.propagate, level = before
        log.setLevel(level)


def _why(said: list[str]) -> str:
    """Return why a message was refused, in words of its own: the library's may hold the token."""
    text = " ".join(said)
    if found := _CODE.search(text):
        return {
            "400": "it answered 400: the message is not as it wants it",
            "401": "it answered 401: the token is not known",
            "403": "it answered 403: the token may not post there",
            "404": "it answered 404: there is no such webhook (any more)",
            "410": "it answered 410: the channel is archived",
            "429": "it answered 429: too many messages",
        }.get(found[1], f"it answered {found[1]}")
    if "connection" in text.lower():
        return "no connection to it"
    return "it did not take the message"

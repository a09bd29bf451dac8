"""One HTTP question, asked within a budget, whatever the server does with it.

Shared by the sources that speak HTTP. It knows logins, time limits and size limits, and nothing of
what is asked. Redirects are not followed: a body would be lost on the way and a login page would
read as an answer; the text says where the server pointed instead. No text made here carries a
password, a token or the query part of a URL, and a refusal that repeats them comes without them.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.utils
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

from lagkit.sources import Deadline, Outcome

if TYPE_CHECKING:
    import requests
    from urllib3.util.retry import Retry

    from lagkit.config import HttpLogin

CONNECT_SECONDS = 5.0
"""A host that does not take a connection in this time is down for the person waiting."""
RETRY_WAIT_SECONDS = 2.0
"""Most that a Retry-After header may make us wait: the budget belongs to the caller."""
RETRIED_STATUSES = frozenset({429, 502, 504})
"""Passing troubles of a proxy. Not 503: Prometheus says so when a query took too long."""
MOST_BYTES = 64 * 2**20
EXCERPT_CHARACTERS = 300
REMOVED = b"***"
OPEN_HEADERS = frozenset({"user-agent", "accept", "accept-encoding", "connection"})
"""Headers of a session that are not the user's own."""
# OpenSSL's words → what to do about it
TLS_FIXES = (
    (
        re.compile("mismatch, certificate is not valid|hostname", re.IGNORECASE),
        "Ask by a name that the server's certificate holds.",
    ),
    (
        re.compile("has expired|not yet valid", re.IGNORECASE),
        "Renew the server's certificate, or mend the clock of this machine.",
    ),
    (
        re.compile("certificate verify failed|self.signed", re.IGNORECASE),
        "Give the PEM file of the CA that signed the server's certificate as ca_file of its login.",
    ),
    (
        re.compile("KEY_VALUES_MISMATCH|key values mismatch", re.IGNORECASE),
        "Give the key of the client certificate as client_key of its login.",
    ),
    (
        re.compile(r"alert|peer did not return a certificate", re.IGNORECASE),
        "The server wants another client certificate: client_certificate, client_key of its login.",
    ),
    (
        re.compile("WRONG_VERSION_NUMBER|wrong version number|record layer", re.IGNORECASE),
        "The server may speak plain http:// there.",
    ),
    (
        re.compile(r"PEM|no start line|NO_START_LINE", re.IGNORECASE),
        "Certificates and keys of the login must be unencrypted PEM files.",
    ),
)
_PIECE_BYTES = 64 * 2**10
_START = 256
"""Bytes within which JSON begins; anything else is for people to read."""
_LEAST_SECONDS = 0.05


class HttpFailure(Exception):
    """A question that got no usable answer: *outcome* for the provenance, *status* if there is one.

    The text is one sentence without a secret; *fix* says what to do, if that is known.
    """

    def __init__(
        self,
        text: str,
        *,
        outcome: Outcome = "failed",
        status: int | None = None,
        fix: str = "",
    ) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.status = status
        self.fix = fix


class TooLarge(HttpFailure):
    """More than can be had in one answer; a smaller question may get through."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came, of any status; *body* is whole, but for the login where one repeats it.

    Such are pages and refusals, as of vmauth: ``cannot find the provided auth token "Bearer …"``.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def location(self) -> str:
        """Where a redirect points, without userinfo and query; empty if it is none."""
        is_redirect = self.status in {301, 302, 303, 307, 308}
        return public_url(self.headers.get("Location", "")) if is_redirect else ""

    def clock_skew_seconds(self, now: float) -> float | None:
        """Return how far the server's clock is ahead of ours, *now* being when the answer ended.

        Good to half a second, for the header has whole ones, and half of ``seconds``.
        """
        try:
            # cut, not rounded: half a second is its middle
            server = email.utils.parsedate_to_datetime(self.headers["Date"]).timestamp() + 0.5
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return server - (now - self.seconds / 2)


def public_url(url: str) -> str:
    """Return *url* without userinfo, query and fragment, so that it may be shown and stored."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def excerpt(body: bytes) -> str:
    """Return the beginning of *body* as one printable line, for an error text."""
    text = " ".join(body[: 8 * EXCERPT_CHARACTERS].decode("utf-8", "replace").split())
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 1] + "…"


def retry() -> Retry:
    """Return what is asked again: refused connections and passing proxy troubles, twice.

    A read that timed out is not, or one slow query would cost the budget three times; the body of
    a last bad answer survives.
    """
    from urllib3.exceptions import SSLError
    from urllib3.util.retry import Retry

    class Impatient(Retry):
        def increment(
            self,
            method: str | None = None,
            url: str | None = None,
            response: Any = None,
            error: Exception | None = None,
            _pool: Any = None,
            _stacktrace: Any = None,
        ) -> Self:
            # a certificate is as wrong the second time
            if isinstance(error, SSLError):
                raise error
            return super().increment(method, url, response, error, _pool, _stacktrace)

        def get_retry_after(self, response: Any) -> float | None:
            wanted = super().get_retry_after(response)
            return None if wanted is None else min(wanted, RETRY_WAIT_SECONDS)

    return Impatient(
        total=2,
        read=0,
        redirect=False,
        allowed_methods={"GET", "POST"},
        status_forcelist=RETRIED_STATUSES,
        backoff_factor=0.2,
        raise_on_status=False,
        respect_retry_after_header=True,
    )


def build_session(login: HttpLogin) -> requests.Session:
    """Return a session with the login, CA bundle, client certificate and headers of *login*.

    A bearer token from a file is read again when the server answers 401, because mounted tokens
    rotate. Proxies and ``REQUESTS_CA_BUNDLE`` of the environment hold where *login* says nothing.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from requests.auth import HTTPBasicAuth

    session = requests.Session()
    session.headers["User-Agent"] = "lagkit"
    session.headers["Accept"] = "application/json"
    for name, value in login.headers.items():
        # requests would send text as latin-1 and fail on the rest
        session.headers[name] = value.get_secret_value().encode()
    if not login.verify:
        import urllib3

        session.verify = False
        # the configuration says so: one warning per request would bury the verdict
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    elif login.ca_file is not None:
        session.verify = str(login.ca_file)
    if login.client_certificate is not None:
        certificate = str(login.client_certificate)
        session.cert = (certificate, str(login.client_key)) if login.client_key else certificate
    if login.bearer_token is not None or login.bearer_token_file is not None:
        session.auth = _bearer(
            login.bearer_token.get_secret_value() if login.bearer_token else "",
            login.bearer_token_file,
        )
    elif login.username is not None:
        password = login.password.get_secret_value() if login.password else ""
        # requests would send these as latin-1 and fail on the rest
        session.auth = HTTPBasicAuth(login.username.encode(), password.encode())
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry()))
    return session


def ask(
    session: requests.Session,
    method: str,
    url: str,
    *,
    deadline: Deadline,
    at_most_seconds: float | None = None,
    params: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    most_bytes: int = MOST_BYTES,
    **options: Any,
) -> Reply:
    """Ask once and return the whole answer, whatever its status.

    The time limit holds for all of it: name resolution, connecting, retries, and a body that comes
    in drops. *data* is sent form-encoded.

    Raises
    ------
    HttpFailure
        No answer in time, none at all, or more than *most_bytes* of it.
    """
    seconds = deadline.left(at_most_seconds)
    if seconds < _LEAST_SECONDS:
        text = f"not asked: the budget of {deadline.seconds:g} s is spent"
        raise HttpFailure(text, outcome="timeout")
    limit = Deadline(seconds)
    answers: list[Reply] = []
    failures: list[HttpFailure] = []

    def exchange() -> None:
        try:
            answers.append(_exchange(session, method, url, limit, most_bytes, params=params,
                                     data=data, **options))  # fmt: skip
        except HttpFailure as failure:
            failures.append(failure)
        except Exception as error:  # every fault of the library becomes a sentence
            failures.append(_failure(error, url, limit))

    # a thread that is left behind: nothing else bounds a resolver that hangs
    thread = threading.Thread(target=exchange, daemon=True, name=f"{method} {public_url(url)}")
    thread.start()
    thread.join(limit.left() + _LEAST_SECONDS)
    if answers:
        return answers[0]
    if failures:
        raise failures[0]
    raise _too_late(url, limit)


def _exchange(
    session: requests.Session,
    method: str,
    url: str,
    limit: Deadline,
    most_bytes: int,
    **options: Any,
) -> Reply:
    # said again here: left out, REQUESTS_CA_BUNDLE would win over the session's own bundle
    options.setdefault("verify", session.verify)
    began = time.monotonic()
    with session.request(
        method,
        url,
        timeout=(limit.left(CONNECT_SECONDS), limit.left()),
        allow_redirects=False,
        stream=True,
        **options,
    ) as response:
        pieces: list[bytes] = []
        size = 0
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                text = f"{public_url(url)} answered with more than {most_bytes / 2**20:.0f} MiB"
                raise TooLarge(text, status=response.status_code)
            if limit.passed:
                raise _too_late(url, limit)
        body = b"".join(pieces)
        if response.status_code >= 300 or body[:_START].lstrip()[:1] not in (b"{", b"["):
            for secret in _sent_secrets(session, response.request.headers):
                body = body.replace(secret, REMOVED)
        return Reply(
            status=response.status_code,
            headers=response.headers,
            body=body,
            seconds=time.monotonic() - began,
        )


def _sent_secrets(session: requests.Session, sent: Mapping[str, str | bytes]) -> list[bytes]:
    """Return what *sent* headers hold of a login, the longest first."""

    def value_of(name: str) -> bytes:
        value = sent.get(name, "")
        return value if isinstance(value, bytes) else value.encode("utf-8", "replace")

    found = {value_of(name) for name in session.headers if name.lower() not in OPEN_HEADERS}
    scheme, _, credential = value_of("Authorization").partition(b" ")
    found.add(credential)
    if scheme.lower() == b"basic":
        with contextlib.suppress(binascii.Error):
            found.add(base64.b64decode(credential).partition(b":")[2])
    return sorted((secret for secret in found if secret), key=lambda secret: (-len(secret), secret))


def _too_late(url: str, limit: Deadline) -> HttpFailure:
    text = f"{public_url(url)} did not finish an answer within {limit.seconds:.1f} s"
    return HttpFailure(text, outcome="timeout")


def _failure(error: Exception, url: str, limit: Deadline) -> HttpFailure:
    """Say in one sentence what the HTTP library means."""
    import requests
    import urllib3

    place = public_url(url)
    host = urlsplit(place).hostname or place
    chain = _chain(error)
    if any(isinstance(link, urllib3.exceptions.NameResolutionError) for link in chain):
        return HttpFailure(f"the name {host} cannot be resolved")
    if isinstance(error, requests.exceptions.ConnectTimeout):
        seconds = min(limit.seconds, CONNECT_SECONDS)
        return HttpFailure(f"no connection to {place} within {seconds:.1f} s", outcome="timeout")
    if any(
        isinstance(link, requests.exceptions.ReadTimeout | urllib3.exceptions.ReadTimeoutError)
        for link in chain
    ):
        return _too_late(url, limit)
    if any(isinstance(link, ConnectionRefusedError) for link in chain):
        return HttpFailure(f"nothing listens at {place}: connection refused")
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_failure(host, chain)
    if isinstance(error, requests.exceptions.ProxyError):
        return HttpFailure(f"the proxy on the way to {host} refused")
    if isinstance(
        error,
        requests.exceptions.InvalidURL
        | requests.exceptions.MissingSchema
        | requests.exceptions.InvalidSchema
        | UnicodeError,
    ):
        return HttpFailure(f"{place!r} is not an http:// or https:// address")
    if isinstance(
        error, requests.exceptions.ConnectionError | urllib3.exceptions.ProtocolError
    ) or any(isinstance(link, ConnectionError) for link in chain):
        return HttpFailure(f"{place} broke the connection off before the answer was whole")
    if isinstance(error, OSError) and not isinstance(error, requests.exceptions.RequestException):
        fix = "Mend the path in the login, or the rights of the file."
        return HttpFailure(f"cannot ask {place}: {excerpt(str(error).encode())}", fix=fix)
    return HttpFailure(f"asking {place} failed: {type(error).__name__}")


def _tls_failure(host: str, chain: Sequence[BaseException]) -> HttpFailure:
    reason = next((str(link) for link in chain[::-1] if str(link)), "handshake failed")
    fix = next((fix for words, fix in TLS_FIXES if words.search(reason)), "")
    return HttpFailure(f"TLS to {host} failed: {excerpt(reason.encode())}", fix=fix)


def _chain(error: BaseException) -> list[BaseException]:
    """Return *error* and everything it wraps: requests and urllib3 nest in three ways."""
    links: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        link = waiting.pop(0)
        if any(link is known for known in links):
            continue
        links.append(link)
        inner = [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
        waiting.extend(item for item in inner if isinstance(item, BaseException))
    return links


def _bearer(token: str, file: Path | None) -> Any:
    """Return a requests login that sends a bearer token, from *file* if there is one."""
    from requests.auth import AuthBase

    class Bearer(AuthBase):
        def __init__(self) -> None:
            self._token = token

        def _current(self) -> str:
            if file is not None:
                self._token = file.read_text(encoding="utf-8").strip()
            return self._token

        def __call__(self, request: Any) -> Any:
            request.headers["Authorization"] = f"Bearer {self._token or self._current()}"
            if file is not None:
                request.register_hook("response", self._again)
            return request

        def _again(self, response: Any, **options: Any) -> Any:
            sent = response.request.headers.get("Authorization")
            if response.status_code != 401 or sent == f"Bearer {self._current()}":
                return response
            response.close()
            request = response.request.copy()
            request.headers["Authorization"] = f"Bearer {self._token}"
            second = response.connection.send(request, **options)
            second.history.append(response)
            second.request = request
            return second

    return Bearer()

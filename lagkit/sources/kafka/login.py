"""How to log in to a cluster: properties of librdkafka, of Java, and of rpk, as librdkafka's own.

Knows the names of three clients and what cannot be translated between them; asks no broker. A
property that has nothing to do with the connection (``group.id``, ``acks``, …) is left out and
named, never passed on. No text made here holds a value of a secret property.

Sources: librdkafka's CONFIGURATION.md, Kafka's ``SslConfigs`` and ``SaslConfigs``, the profile of
``rpk`` (``kafka_api``).
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lagkit.errors import UsageError

FILE_LIMIT = 1_000_000
"""Bytes; a file of properties has some hundred, and --kafka-properties may be mistyped."""
TOKEN_SECONDS = 3600.0
"""How long a static token that does not say so itself is believed to be good."""

STATIC = "sasl.oauthbearer.token"
STATIC_FILE = "sasl.oauthbearer.token.file"
"""lagkit's own names: librdkafka takes a token that exists already from a callback only."""

# what a connection is made of; the rest of a client's properties is about consuming and producing
_CONNECTION = re.compile(
    r"bootstrap\.servers|client\.dns\.lookup|broker\.address\.family|security\.protocol"
    r"|sasl\..+|ssl\..+|https\.ca\..+|socket\..+|enable\.ssl\.certificate\.verification"
    r"|enable\.sasl\.oauthbearer\.unsecure\.jwt|api\.version\.request.*|broker\.version\.fallback"
)
# Java's own, with no counterpart and no effect on whether librdkafka can log in
_JAVA_ONLY = re.compile(
    r"ssl\.(enabled\.protocols|protocol|provider|cipher\.suites|engine\.factory\.class"
    r"|(key|trust)manager\.algorithm|secure\.random\.implementation|(key|trust)store\.type"
    r"|truststore\.password)"
    r"|sasl\.(login|jwt)\..+|sasl\.client\.callback\.handler\.class"
    r"|sasl\.oauthbearer\.(jwks|jwt|clock|expected|sub|scope\.claim|header).*"
    r"|sasl\.kerberos\.(kinit\.cmd|ticket).+|security\.providers|socket\.connection\.setup.*max.*"
)
_RENAMED = {
    "metadata.broker.list": "bootstrap.servers",
    "sasl.mechanisms": "sasl.mechanism",
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.keystore.key": "ssl.key.pem",
}
_SECRET = re.compile(
    r"password|secret|\.key\.pem$|jaas|^sasl\.oauthbearer\.(token|config|assertion)"
)
_ADDRESS_OF_TOKENS = "sasl.oauthbearer.token.endpoint.url"

_JAAS_OPTION = re.compile(
    r"""([A-Za-z_][\w.]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;"']+))"""
)
_JAVA_STYLE = re.compile(
    r"^\s*(sasl\.jaas\.config|ssl\.(trust|key)store\.(type|certificates|key)"
    r"|ssl\.truststore\.)", re.MULTILINE
)  # fmt: skip
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


@dataclass(frozen=True, slots=True)
class Login:
    """Where the brokers are and what librdkafka must be told to be let in."""

    bootstrap: str
    properties: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    """Names that were given and are not about the connection."""


def resolve(bootstrap: str | None, properties: Mapping[str, str], file: Path | None) -> Login:
    """Return the login in force: *properties* and *bootstrap* go before those of *file*.

    Raises
    ------
    UsageError
        *file* cannot be read, a property cannot be translated, or nobody names a broker.
    """
    ignored: list[str] = []
    found = {} if file is None else translate(read_file(file), f"{file}", ignored)
    found |= translate(dict(properties), "kafka_properties", None)
    known = found.pop("bootstrap.servers", "")
    token_file = found.get(STATIC_FILE)
    if token_file and not Path(token_file).is_file():
        msg = f"{STATIC_FILE} names {token_file}, and there is no such file."
        raise UsageError(msg, hint="Mend the path, or mount the token there.")
    if not (bootstrap or known):
        msg = f"{file or 'kafka_properties'} names no broker."
        raise UsageError(msg, hint="Give --bootstrap HOST:PORT, or add bootstrap.servers there.")
    return Login(bootstrap or known, found, tuple(sorted(ignored)))


def is_secret(key: str) -> bool:
    """Return whether the value of property *key* must never be shown."""
    return key != _ADDRESS_OF_TOKENS and key != STATIC_FILE and bool(_SECRET.search(key))


def secret_values(properties: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values in *properties* that must appear in no text."""
    values = [value for key, value in properties.items() if is_secret(key)]
    with contextlib.suppress(ValueError):
        values.append(urlsplit(properties.get(_ADDRESS_OF_TOKENS, "")).password or "")
    return tuple(value for value in values if value)


# -- files ----------------------------------------------------------------------------------------


def read_file(file: Path) -> dict[str, str]:
    """Return the properties in *file*, as they are named there; rpk's as librdkafka's."""
    try:
        with file.open("rb") as source:
            content = source.read(FILE_LIMIT + 1)
        text = content.decode()
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}."
        raise UsageError(msg, hint="Mend --kafka-properties (kafka_properties_file).") from None
    except UnicodeDecodeError:
        msg = f"{file} is not a text file, so it holds no properties."
        raise UsageError(
            msg, hint="A key store or certificate goes into a property (ssl.ca.location=FILE)."
        ) from None
    if len(content) > FILE_LIMIT:
        msg = f"{file} has over {FILE_LIMIT} bytes, which no file of properties has."
        raise UsageError(msg)
    if file.suffix in {".yaml", ".yml"}:
        return _rpk_properties(text, file)
    return dict(_lines(text, file))


def _lines(text: str, file: Path) -> Iterator[tuple[str, str]]:
    """Yield name and value of each line; escapes count in files that are plainly Java's."""
    java = bool(_JAVA_STYLE.search(text))
    whole, begun = "", 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        bare = line.strip()
        if not whole and (not bare or bare[0] in "#!"):
            continue
        begun = begun or number
        whole += bare
        if java and bare and whole.endswith("\\") and not whole.endswith("\\\\"):
            whole = whole[:-1]
            continue
        name, sign, value = whole.partition("=")
        if not sign and java:
            name, sign, value = whole.partition(":")
        name = name.strip()
        if not sign or not name:
            # the line itself may be a password: only its number is told
            msg = f"{file}, line {begun}: not NAME=VALUE."
            raise UsageError(msg)
        yield name, _unescaped(value.strip()) if java else value.strip()
        whole, begun = "", 0


def _unescaped(value: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", one, value)


def _rpk_properties(text: str, file: Path) -> dict[str, str]:
    import yaml

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        msg = f"{file}{where}: not YAML."
        raise UsageError(msg) from None
    api = _kafka_api(document)
    if not isinstance(api, dict):
        msg = f"{file} has no kafka_api, neither of its own nor in its current rpk profile."
        raise UsageError(msg, hint="See: rpk profile print")
    tls, sasl = api.get("tls"), api.get("sasl")
    # as rpk does: a key `tls` that is there means TLS, even an empty one
    over_tls = isinstance(tls, dict)
    tls, sasl = (value if isinstance(value, dict) else {} for value in (tls, sasl))
    brokers = api.get("brokers") or []
    given = {
        "bootstrap.servers": ",".join(map(str, brokers if isinstance(brokers, list) else [])),
        "security.protocol": ("SASL_" if sasl.get("user") else "")
        + ("SSL" if over_tls else "PLAINTEXT"),
        "sasl.username": sasl.get("user"),
        "sasl.password": sasl.get("password"),
        "sasl.mechanism": sasl.get("user")
        and (sasl.get("mechanism") or sasl.get("type") or "SCRAM-SHA-256"),
    }
    if over_tls:
        given |= {
            "ssl.ca.location": tls.get("ca_file") or tls.get("truststore_file"),
            "ssl.certificate.location": tls.get("cert_file"),
            "ssl.key.location": tls.get("key_file"),
        }
        if tls.get("insecure_skip_verify") is True:
            given["enable.ssl.certificate.verification"] = "false"
    return {name: str(value) for name, value in given.items() if value}


def _kafka_api(document: Any) -> Any:
    """Return ``kafka_api`` of a profile, of rpk.yaml's current profile, or of redpanda.yaml."""
    if not isinstance(document, dict):
        return None
    profiles = document.get("profiles")
    if isinstance(profiles, list):
        known = [profile for profile in profiles if isinstance(profile, dict)]
        current = document.get("current_profile")
        document = next(
            (profile for profile in known if profile.get("name") == current),
            known[0] if len(known) == 1 else {},
        )
    elif isinstance(document.get("rpk"), dict):
        document = document["rpk"]
    return document.get("kafka_api")


# -- names ----------------------------------------------------------------------------------------


def translate(given: Mapping[str, str], place: str, ignored: list[str] | None) -> dict[str, str]:
    """Return *given* in librdkafka's names; what is not about the connection goes to *ignored*.

    With None for *ignored* nothing is left out: *given* was written for lagkit itself.

    Raises
    ------
    UsageError
        A login that librdkafka cannot do: a Java key store, Kerberos, AWS' own mechanism.
    """
    renamed = {_RENAMED.get(name, name): value for name, value in given.items()}
    if "sasl.jaas.config" in renamed:
        renamed = {**_from_jaas(renamed.pop("sasl.jaas.config"), place), **renamed}
    renamed = _from_stores(renamed, place)
    if renamed.get("ssl.endpoint.identification.algorithm") == "":
        renamed["ssl.endpoint.identification.algorithm"] = "none"  # Java's way to say so
    mechanism = renamed.get("sasl.mechanism", "")
    if mechanism in {"GSSAPI", "AWS_MSK_IAM"} or mechanism.startswith("CLOUD"):
        msg = f"{place}: sasl.mechanism {mechanism} cannot be used here."
        raise UsageError(
            msg, hint="Use a user with SCRAM-SHA-512, PLAIN, OAUTHBEARER or a client certificate."
        )
    if _ADDRESS_OF_TOKENS in renamed:
        renamed.setdefault("sasl.oauthbearer.method", "oidc")
    found = {}
    for name, value in renamed.items():
        connects = _CONNECTION.fullmatch(name) and not _JAVA_ONLY.fullmatch(name)
        if ignored is None or connects:
            found[name] = value
        else:
            ignored.append(name)
    return found


def _from_jaas(text: str, place: str) -> dict[str, str]:
    # by its shape: whatever else stands first may be a password, and would be shown
    named = re.match(r"\s*(?:[\w$]+\.)*([A-Za-z]\w*LoginModule)\b", text)
    module = named[1] if named else ""
    options = {
        match[1]: re.sub(r"\\(.)", r"\1", match[2] or match[3] or match[4] or "")
        for match in _JAAS_OPTION.finditer(text)
    }
    if module in {"PlainLoginModule", "ScramLoginModule"}:
        names = {"username": "sasl.username", "password": "sasl.password"}
    elif module == "OAuthBearerLoginModule":
        names = {
            "clientId": "sasl.oauthbearer.client.id",
            "clientSecret": "sasl.oauthbearer.client.secret",
            "scope": "sasl.oauthbearer.scope",
        }
        if subject := options.get("unsecuredLoginStringClaim_sub"):
            return {
                "enable.sasl.oauthbearer.unsecure.jwt": "true",
                "sasl.oauthbearer.config": f"principal={subject}",
            }
    else:
        msg = f"{place}: sasl.jaas.config with {module or 'no login module'} cannot be used here."
        raise UsageError(
            msg,
            hint="PlainLoginModule, ScramLoginModule and OAuthBearerLoginModule are translated.",
        )
    return {ours: options[theirs] for theirs, ours in names.items() if theirs in options}


def _from_stores(given: dict[str, str], place: str) -> dict[str, str]:
    """Replace Java's trust and key stores, where they hold PEM or PKCS#12."""
    found = dict(given)
    if trust := found.pop("ssl.truststore.location", ""):
        if _kind_of_store(trust, found.get("ssl.truststore.type", "")) != "PEM":
            msg = f"{place}: ssl.truststore.location is a key store, and librdkafka reads PEM."
            raise UsageError(
                msg,
                hint=f"keytool -exportcert -rfc -keystore {trust} -alias ALIAS -file ca.pem; then "
                "ssl.ca.location=ca.pem (keytool -list shows the alias).",
            )
        found.setdefault("ssl.ca.location", trust)
    if key := found.get("ssl.keystore.location", ""):
        kind = _kind_of_store(key, found.get("ssl.keystore.type", ""))
        if kind == "JKS":
            msg = (
                f"{place}: ssl.keystore.location is a Java key store, which librdkafka cannot read."
            )
            raise UsageError(
                msg,
                hint=f"keytool -importkeystore -srckeystore {key} -destkeystore client.p12 "
                "-deststoretype PKCS12; then ssl.keystore.location=client.p12.",
            )
        if kind == "PEM":
            del found["ssl.keystore.location"]
            found.pop("ssl.keystore.password", None)
            found.setdefault("ssl.certificate.location", key)
            found.setdefault("ssl.key.location", key)
    return found


def _kind_of_store(file: str, told: str) -> str:
    """Return PEM, PKCS12 or JKS (Java's default) by what is in *file*, else by what is *told*."""
    try:
        with Path(file).open("rb") as source:
            head = source.read(4096)
    except OSError:
        return told.upper() or "PEM"  # the client itself says best what is wrong with the path
    if head.startswith((b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")):
        return "JKS"
    if b"-----BEGIN" in head:
        return "PEM"
    return "PKCS12" if head[:1] == b"\x30" else told.upper() or "JKS"


# -- tokens ---------------------------------------------------------------------------------------


def token_callback(properties: dict[str, str]) -> Callable[[str], tuple[str, float]] | None:
    """Take lagkit's own token properties out of *properties*; return librdkafka's callback."""
    token, file = properties.pop(STATIC, ""), properties.pop(STATIC_FILE, "")
    if not (token or file):
        return None

    def answer(_: str) -> tuple[str, float]:
        # read again each time: a projected token is replaced on disk while it is still good
        text = Path(file).read_text(encoding="utf-8").strip() if file else token
        return text, _good_until(text)

    return answer


def _good_until(token: str) -> float:
    """Return the Unix time a JSON web token names as its end, else an hour from now."""
    parts = token.split(".")
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        return float(json.loads(base64.urlsafe_b64decode(padded))["exp"])
    except (IndexError, KeyError, TypeError, ValueError):
        return time.time() + TOKEN_SECONDS

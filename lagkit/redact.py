"""What must not be kept: secrets and personal data, taken out on the way into the incident file.

Patterns over every text column that came from outside. What was removed is counted by kind, never
kept. The module knows the shape of secrets and nothing of lag.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from lagkit import frames

_WORDS = (
    r"pass(?:word|wd|phrase)?s?|pwd|secrets?|tokens?|api[_-]?keys?|access[_-]?keys?|"
    r"private[_-]?keys?|credentials?|sasl\.jaas\.config|session[_-]?id|auth|cookie"
)
# A whole word of the key: "author", "passed" and "tokenizer" are none, "dbPassword" is one. What
# comes before it in the key is not matched: that would be quadratic in the length of a line.
_KEY = (
    rf"(?:(?<![A-Za-z])(?i:{_WORDS})|(?<=[a-z])(?:Password|Passwd|Secret|Token|ApiKey|"
    r"AccessKey|PrivateKey|Credentials?|SessionId))(?![a-z])[\w.-]{0,60}"
)
# Quoted to its closing quote (escaped ones count: JSON inside JSON) or to the end of a cut line.
_VALUE = r"(?:(?P<quote>\\*[\"']).*?(?:(?P=quote)|$)|[^\s,;&\"']+)"

_KEY_REMOVED = "[private key removed]"

# Order matters: the more specific shape first, so that its kind is the one counted.
_PATTERNS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "private key",
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        _KEY_REMOVED,
    ),
    (
        # A cut one has fewer parts, an encrypted one five.
        "JWT",
        re.compile(r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}"),
        "[JWT removed]",
    ),
    (
        "authorization header",
        re.compile(
            r"(?i)\b((?:proxy-)?authorization\\*[\"']?\s*[:=]\s*\\*[\"']?"
            r"(?:basic|bearer|token|api-?key|digest|negotiate|ntlm|aws4-hmac-sha256)\s+)"
            r"(?!\[)[^\"'\\\r\n]+"
        ),
        r"\1[removed]",
    ),
    (
        # Without the header's name a word after "basic" may be plain text: it must look encoded.
        "authorization header",
        re.compile(
            r"\b((?i:bearer|basic)\s+)"
            r"(?=[\w+/.=~-]*(?:[0-9+/=]|[a-z][A-Z])|[\w+/.=~-]{24})[\w+/.=~-]{8,}"
        ),
        r"\1[removed]",
    ),
    (
        "cloud access key",
        re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
        "[access key removed]",
    ),
    (
        "URL userinfo",
        re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://)(?!\[removed\]@)[^\s/?#\"'<>]+@", re.IGNORECASE),
        r"\1[removed]@",
    ),
    (
        "named secret",
        # key=value, key: value, "key": "value", --key value; the key stays, so the line still reads
        re.compile(
            rf"({_KEY}(?:\\*[\"'])?\s*(?:=>|[=:])\s*|(?<![\w-])--[\w-]{{0,40}}{_KEY}\s+)"
            rf"(?!\[[\w -]*removed\]){_VALUE}",
            re.MULTILINE,
        ),
        r"\1[removed]",
    ),
    (
        "e-mail address",
        re.compile(
            r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@"
            r"(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}(?![A-Za-z0-9])"
        ),
        "[e-mail removed]",
    ),
)
_IPV4 = re.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"
    r"(?![\d.]*\d)"
)
# Anything with two colons that could be one; ``ipaddress`` decides, so that a time is none.
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:.]{2,45}")
_KEY_EDGE = re.compile(r"-----(BEGIN|END) [A-Z ]*PRIVATE KEY-----")
# A line of a PEM body has 64 of these; the last one of a body is told by what is around it.
_KEY_BODY = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")

# Text that lagkit itself or Kubernetes' validation made: no outside text can be in it.
_TRUSTED = frozenset({"query_id", "source", "role", "outcome", "metric", "unit", "phase", "level"})
# Names that joins depend on are kept whole unless addresses are to go.
_NAMES = frozenset(
    {
        "group",
        "topic",
        "pod",
        "container",
        "namespace",
        "workload",
        "replica_set",
        "node",
        "kind",
        "name",
        "member_id",
        "client_id",
        "instance_id",
        "job",
        "alert",
        "state",
        "type",
        "reason",
        "host",
        "pod_ip",
        "instance",
        "address",
        "coordinator",
        "resource",
        "key",
        "target",
        "check",
        "job_id",
        "status",
        "protocol",
        "assignor",
        "component",
        "image",
        "last_reason",
        "state_reason",
        "severity",
    }
)


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes secrets out of text; addresses too, as stable pseudonyms, when *salt* is given."""

    salt: bytes | None = None

    def text(self, value: str, removed: Counter[str]) -> str:
        """Return *value* without secrets; count what was removed by kind."""
        for kind, pattern, replacement in _PATTERNS:
            value, hits = pattern.subn(replacement, value)
            if hits:
                removed[kind] += hits
        return self.addresses(value, removed)

    def addresses(self, value: str, removed: Counter[str]) -> str:
        """Return *value* with IP addresses replaced by pseudonyms, if asked for."""
        if self.salt is None:
            return value

        def replaced(match: re.Match[str]) -> str:
            text = match.group()
            # "fe80::1: refused" and "10.0.0.1." end in punctuation, "fe80::" does not
            address = text if text.endswith("::") else text.rstrip(":.")
            try:
                known = ipaddress.ip_address(address)
            except ValueError:
                return text
            removed["IP address"] += 1
            # one host, one pseudonym, however its address is written
            mapped = known.ipv4_mapped if isinstance(known, ipaddress.IPv6Address) else None
            return self._pseudonym(str(mapped or known)) + text[len(address) :]

        return _IPV4.sub(replaced, _IPV6.sub(replaced, value))

    def _pseudonym(self, address: str) -> str:
        digest = hashlib.blake2s(address.encode(), key=self.salt or b"", digest_size=4)
        return f"address-{digest.hexdigest()}"

    def frame(self, name: str, frame: pd.DataFrame, removed: Counter[str]) -> pd.DataFrame:
        """Return the frame with every outside text column redacted; distinct values once each.

        The result fits the frame's schema again: sorted by its keys, and rows that only a secret
        told apart are one row.
        """
        changed: dict[str, pd.Series[str]] = {}
        if name == "logs" and not frame.empty:
            frame = _without_key_bodies(frame, removed)
        for column in frames.FRAMES[name].columns:
            if column.dtype != frames.TEXT or column.name in _TRUSTED or frame.empty:
                continue
            redact = self.addresses if column.name in _NAMES else self.text
            values = frame[column.name]
            counts = values.value_counts()
            mapping: dict[str, str] = {}
            for value, times in counts.items():
                hits: Counter[str] = Counter()
                clean = redact(str(value), hits)
                if hits:
                    mapping[str(value)] = clean
                    for kind, number in hits.items():
                        removed[kind] += number * int(times)
            if mapping:
                changed[column.name] = values.replace(mapping).astype(frames.TEXT)
        if not changed:
            return frame
        keys = list(frames.FRAMES[name].keys)
        clean = frame.assign(**changed)
        if frames.FRAMES[name].unique:
            clean = clean.drop_duplicates(keys)
        return clean.sort_values(keys, kind="stable", ignore_index=True)


def _without_key_bodies(logs: pd.DataFrame, removed: Counter[str]) -> pd.DataFrame:
    """Return *logs* without the lines of a private key that was logged over several lines.

    Also where the bounded tail begins or ends inside the key: lines that look like a key's body
    and touch its BEGIN or END go too.
    """
    edges = logs["message"].str.extract(_KEY_EDGE)[0]
    if edges.isna().all():
        return logs
    body = logs["message"].str.contains(_KEY_BODY).to_numpy()
    gone: set[int] = set()
    stream = ["namespace", "pod", "container", "previous"]
    for _, rows in logs.assign(edge=edges, at=range(len(logs))).groupby(stream, sort=True):
        places = rows.sort_values("line_number")["at"].to_list()
        marks = rows.sort_values("line_number")["edge"].to_list()
        for number, mark in enumerate(marks):
            if mark == "BEGIN" and "END" in marks[number + 1 :]:
                gone.update(places[number + 1 : marks.index("END", number + 1) + 1])
            step = {"BEGIN": 1, "END": -1}.get(mark, 0)
            near = number + step
            while step and 0 <= near < len(places) and body[places[near]]:
                gone.add(places[near])
                near += step
    removed["private key"] += len(gone)
    message = logs["message"].where(~logs.index.isin(logs.index[sorted(gone)]), _KEY_REMOVED)
    return logs.assign(message=message.astype(frames.TEXT))


def redact_frames(
    tables: Mapping[str, pd.DataFrame], redactor: Redactor
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Return the frames redacted, and how often each kind of secret was removed."""
    removed: Counter[str] = Counter()
    clean = {name: redactor.frame(name, table, removed) for name, table in tables.items()}
    return clean, dict(sorted(removed.items()))

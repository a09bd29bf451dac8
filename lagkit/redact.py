"""What must not be kept: secrets and personal data, taken out on the way into the incident file.

Patterns over every text column that came from outside. What was removed is counted by kind, never
kept. The module knows the shape of secrets and nothing of lag.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from lagkit import frames

_KEY = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"credentials?|sasl\.jaas\.config|session[_-]?id|auth)"
)

# Order matters: the more specific shape first, so that its kind is the one counted.
_PATTERNS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "private key",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
                   re.DOTALL),
        "[private key removed]",
    ),
    (
        "JWT",
        re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        "[JWT removed]",
    ),
    (
        "authorization header",
        re.compile(r"(?i)\b((?:bearer|basic)\s+)(?=[A-Za-z0-9+/_.=~-]*[0-9+/_=-])"
                   r"[A-Za-z0-9+/_.=~-]{8,}"),
        r"\1[removed]",
    ),
    ("cloud access key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "[access key removed]"),
    (
        "URL userinfo",
        re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@\"'<>]{1,200}@", re.IGNORECASE),
        r"\1[removed]@",
    ),
    (
        "named secret",
        # key=value, key: value, "key": "value"; the key stays, so that the line still reads
        re.compile(
            rf"(?i)([\w.-]*{_KEY}[\w.-]*[\"']?\s*[=:]\s*)(\"[^\"]{{1,500}}\"|'[^']{{1,500}}'|"
            r"[^\s,;&\"']{4,500})"
        ),
        r"\1[removed]",
    ),
    (
        "e-mail address",
        re.compile(r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+\b"),
        "[e-mail removed]",
    ),
)
_IPV4 = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"
                   r"(?![\d.]*\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{1,4}(?![\w:])")

# Text that lagkit itself or Kubernetes' validation made: no outside text can be in it.
_TRUSTED = frozenset({"query_id", "source", "role", "outcome", "metric", "unit", "phase", "level"})
# Names that joins depend on are kept whole unless addresses are to go.
_NAMES = frozenset(
    {"group", "topic", "pod", "container", "namespace", "workload", "replica_set", "node", "kind",
     "name", "member_id", "client_id", "instance_id", "job", "alert", "state", "type", "reason",
     "host", "pod_ip", "instance", "address", "coordinator", "resource", "key", "target", "check",
     "job_id", "status", "protocol", "assignor", "component", "image", "last_reason",
     "state_reason", "severity"}
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
        for pattern in (_IPV6, _IPV4):
            value, hits = pattern.subn(lambda match: self._pseudonym(match.group()), value)
            if hits:
                removed["IP address"] += hits
        return value

    def _pseudonym(self, address: str) -> str:
        digest = hashlib.blake2s(address.encode(), key=self.salt or b"", digest_size=4)
        return f"address-{digest.hexdigest()}"

    def frame(self, name: str, frame: pd.DataFrame, removed: Counter[str]) -> pd.DataFrame:
        """Return the frame with every outside text column redacted; distinct values once each."""
        changed: dict[str, pd.Series[str]] = {}
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
        return frame.assign(**changed) if changed else frame


def redact_frames(
    tables: Mapping[str, pd.DataFrame], redactor: Redactor
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Return the frames redacted, and how often each kind of secret was removed."""
    removed: Counter[str] = Counter()
    clean = {name: redactor.frame(name, table, removed) for name, table in tables.items()}
    return clean, dict(sorted(removed.items()))

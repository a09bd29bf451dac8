"""A schema registry that speaks Confluent's API: Confluent, Redpanda, Karapace, Apicurio.

Gets schemas by the id that a record carries, with what they refer to. GET only; registers and
checks nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote

from lagkit.sources import Deadline
from lagkit.sources.http import HttpFailure, ask, build_session, excerpt

if TYPE_CHECKING:
    import requests

    from lagkit.config import HttpLogin

MOST_REFERENCES = 64
_NOT_FOUND = 404

SchemaKind = Literal["AVRO", "PROTOBUF", "JSON"]


class SchemaUnavailable(Exception):
    """The schema could not be had; the text is one sentence without a secret."""


@dataclass(frozen=True, slots=True)
class Schema:
    """One schema, and those it refers to, the deepest first.

    ``text`` is as it was registered; ``descriptor`` the serialized form of a Protobuf file,
    base64, "" where the registry does not hand it out (Confluent does, Redpanda from 25.2 on).
    """

    id: int
    kind: SchemaKind
    text: str
    name: str = ""
    """What a schema that refers to it calls it; "" for the one that was asked for."""
    descriptor: str = ""
    references: tuple[Schema, ...] = field(default_factory=tuple)


class SchemaRegistry:
    """A registry at one address; what was asked once is not asked again."""

    def __init__(self, url: str, login: HttpLogin, *, budget_seconds: float = 10.0) -> None:
        self._url = url.rstrip("/")
        self._login = login
        self._deadline = Deadline(budget_seconds)
        self._known: dict[int, Schema] = {}
        self._session: requests.Session | None = None

    def schema(self, number: int) -> Schema:
        """Return schema *number*.

        Raises
        ------
        SchemaUnavailable
            No answer, no such schema, or an answer that is none.
        """
        if number not in self._known:
            document = self._get(f"/schemas/ids/{number}", f"schema {number}")
            self._known[number] = self._schema(document, number, "", f"/schemas/ids/{number}", 0)
        return self._known[number]

    def _schema(
        self, document: dict[str, Any], number: int, name: str, path: str, depth: int
    ) -> Schema:
        text = document.get("schema")
        kind = document.get("schemaType") or "AVRO"
        if not isinstance(text, str) or kind not in ("AVRO", "PROTOBUF", "JSON"):
            msg = f"the registry's answer about schema {number} is none (type {kind!r:.40})"
            raise SchemaUnavailable(msg)
        references = []
        for entry in document.get("references") or ():
            if depth >= MOST_REFERENCES:
                msg = f"schema {number} refers to others more than {MOST_REFERENCES} deep"
                raise SchemaUnavailable(msg)
            subject, version = str(entry.get("subject")), str(entry.get("version"))
            place = f"/subjects/{quote(subject, safe='')}/versions/{quote(version, safe='')}"
            inner = self._get(place, f"{subject} version {version}")
            references.append(
                self._schema(inner, inner.get("id") or 0, str(entry.get("name")), place, depth + 1)
            )
        descriptor = ""
        if kind == "PROTOBUF":
            try:
                descriptor = str(self._get(f"{path}?format=serialized", "")["schema"])
            except (SchemaUnavailable, KeyError):
                descriptor = ""  # fields are then shown by their numbers
        return Schema(number, cast("SchemaKind", kind), text, name, descriptor, tuple(references))

    def _get(self, path: str, what: str) -> dict[str, Any]:
        if self._session is None:
            self._session = build_session(self._login)
        try:
            reply = ask(self._session, "GET", self._url + path, deadline=self._deadline)
        except HttpFailure as failure:
            msg = f"the schema registry did not give {what}: {failure}"
            raise SchemaUnavailable(f"{msg} {failure.fix}".rstrip()) from None
        try:
            document = json.loads(reply.body)
        except ValueError:
            document = None
        if reply.status == _NOT_FOUND and isinstance(document, dict):
            msg = f"the schema registry has no {what}"
            raise SchemaUnavailable(msg)
        if reply.status >= 300 or not isinstance(document, dict):
            told = excerpt(reply.body)
            msg = f"the schema registry answered {reply.status} about {what}: {told}"
            raise SchemaUnavailable(msg)
        return document

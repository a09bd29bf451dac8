"""What the bytes of a record say, and whether they decode: JSON, Avro, Protobuf, text or hex.

Bytes in, text out; asks nobody: a schema comes from whoever calls. What is shown is redacted and
bounded, and says so. Whether it decodes has three answers: yes, no with the reason, and *not
known*, where no schema says what it should be.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lagkit.redact import Redactor
from lagkit.wording import shorten, visible

if TYPE_CHECKING:
    from lagkit.sources.schema_registry import Schema

PayloadKind = Literal["null", "empty", "json", "avro", "protobuf", "text", "binary"]

SHOWN_CHARACTERS = 2000
SHOWN_BYTES = 256
"""Of a binary payload, as hex."""
DECODED_BYTES = 8 * 2**20
"""A payload larger than this is not decoded: it would be shown for its first page anyway."""
MAGIC = 0
"""First byte of the wire format of schema registries; a four-byte schema id follows."""
HEADER_BYTES = 5
_LONGEST_INDEX = 64
EXTRA = "pip install 'lagkit[schemas]'"

SchemaOf = Callable[[int], "Schema"]
"""Schema id → schema; raises ``SchemaUnavailable``."""


class Undecodable(Exception):
    """The bytes are not what their schema says; the text is one sentence."""


class NoDecoder(Exception):
    """Nothing here can tell: a library or a form of the schema is missing."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes made readable. ``decodes`` None: nothing says what it should be, ``note`` says why."""

    kind: PayloadKind
    text: str
    decodes: bool | None
    note: str
    size: int
    schema_id: int | None = None
    removed: tuple[str, ...] = ()
    """What was redacted, by kind, e.g. ``2 × named secret``."""
    cut: bool = False

    @property
    def verdict(self) -> str:
        """Return whether it decodes, in words."""
        word = {True: "decodes", False: "DOES NOT DECODE", None: "not known whether it decodes"}
        return f"{word[self.decodes]}: {self.note}" if self.note else word[self.decodes]


def payload(
    raw: bytes | None,
    *,
    schema_of: SchemaOf | None = None,
    redactor: Redactor | None = None,
    characters: int = SHOWN_CHARACTERS,
) -> Payload:
    """Return *raw* made readable, redacted, at most *characters* long.

    With *schema_of* a payload that carries the id of a schema is decoded by it.
    """
    if raw is None:
        return Payload("null", "", None, "null: a tombstone in a compacted topic", 0)
    if not raw:
        return Payload("empty", "", None, "it has no bytes at all", 0)
    kind, text, decodes, note, number = _decoded(raw, schema_of)
    counted: Counter[str] = Counter()
    if kind == "binary":
        text, cut = _hex(raw, redactor or Redactor(), counted)
    else:
        # before it is cut: half a secret is not known for one any more
        text = (redactor or Redactor()).text(text[:DECODED_BYTES], counted)
        cut = len(text) > characters
        text = shorten(visible(text), characters)
    note = (redactor or Redactor()).text(note, Counter())
    removed = tuple(f"{times} × {what}" for what, times in sorted(counted.items()))
    return Payload(kind, text, decodes, visible(note), len(raw), number, removed, cut)


def _decoded(
    raw: bytes, schema_of: SchemaOf | None
) -> tuple[PayloadKind, str, bool | None, str, int | None]:
    """Return kind, text, whether it decodes, why, and the schema's id."""
    if len(raw) > DECODED_BYTES:
        return "binary", "", None, f"{len(raw):,} bytes are too many to decode here", None
    if raw[0] == MAGIC and len(raw) >= HEADER_BYTES:
        number = int.from_bytes(raw[1:HEADER_BYTES], "big")
        if schema_of is not None:
            return (*_by_schema(raw, number, schema_of), number)
        json_text = _json(raw[HEADER_BYTES:])
        if json_text is not None:
            return "json", json_text, None, f"JSON with schema {number}, which was not asked", None
        hint = (
            f"it begins like one with schema {number}; no schema registry is configured "
            "(schema_registry in lagkit.toml)"
        )
        return "binary", "", None, hint, None
    return (*_plain(raw), None)


def _plain(raw: bytes) -> tuple[PayloadKind, str, bool | None, str]:
    text = _json(raw)
    if text is not None:
        return "json", text, True, "JSON"
    try:
        words = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if raw.lstrip()[:1] in (b"{", b"["):
            why = f"it begins like JSON, and byte {error.start} is no UTF-8"
            return "binary", "", False, why
        return "binary", "", None, "binary, and nothing says of which kind"
    if words.lstrip()[:1] in ("{", "["):
        return "text", words, False, f"it begins like JSON and is none: {_json_fault(words)}"
    if any(ord(character) < 32 and character not in "\t\r\n" for character in words):
        return "binary", "", None, "binary, and nothing says of which kind"
    return "text", words, None, "plain text; nothing says what it should be"


def _json(raw: bytes) -> str | None:
    """Return JSON set out for reading; None if *raw* is none."""
    try:
        document = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return _set_out(document)


def _json_fault(words: str) -> str:
    try:
        json.loads(words)
    except json.JSONDecodeError as error:
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        return "it is nested too deep"
    except ValueError as error:
        return str(error)
    return ""


def _set_out(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def _hex(raw: bytes, redactor: Redactor, counted: Counter[str]) -> tuple[str, bool]:
    """Return the first bytes as hex, unless there is a secret among them: hex hides none."""
    redactor.text(raw[: 4 * SHOWN_BYTES].decode("latin-1"), counted)
    if counted:
        return "not shown: there is what looks like a secret among the bytes", False
    head = raw[:SHOWN_BYTES]
    lines = [f"{at:08x}  {head[at : at + 16].hex(' ')}" for at in range(0, len(head), 16)]
    return "\n".join(lines), len(raw) > SHOWN_BYTES


# -- by a schema ----------------------------------------------------------------------------------


def _by_schema(
    raw: bytes, number: int, schema_of: SchemaOf
) -> tuple[PayloadKind, str, bool | None, str]:
    from lagkit.sources.schema_registry import SchemaUnavailable

    try:
        schema = schema_of(number)
    except SchemaUnavailable as error:
        return "binary", "", None, str(error)
    body = raw[HEADER_BYTES:]
    kind: PayloadKind = "avro"
    try:
        if schema.kind == "JSON":
            text = _json(body)
            if text is None:
                why = f"schema {number} says JSON, and it is none"
                return "binary", "", False, why
            return "json", text, True, f"JSON; schema {number} itself was not applied"
        if schema.kind == "PROTOBUF":
            kind = "protobuf"
            text, note = _protobuf(body, schema)
        else:
            text, note = _avro(body, schema), f"Avro by schema {number}"
    except Undecodable as error:
        return "binary", "", False, f"{schema.kind.capitalize()} by schema {number}: {error}"
    except NoDecoder as error:
        return "binary", "", None, f"{schema.kind.capitalize()} by schema {number}: {error}"
    return kind, text, True, note


def _avro(body: bytes, schema: Schema) -> str:
    try:
        import fastavro
    except ImportError:
        msg = f"the Avro library is missing; run: {EXTRA}"
        raise NoDecoder(msg) from None
    named: dict[str, Any] = {}
    try:
        for inner in _in_order(schema):
            parsed = fastavro.parse_schema(json.loads(inner.text), named_schemas=named)
    except Exception as error:  # noqa: BLE001 - a schema from outside: any of its faults is its own
        msg = f"the schema itself cannot be read ({_one_line(error)})"
        raise NoDecoder(msg) from None
    stream = io.BytesIO(body)
    try:
        document = fastavro.schemaless_reader(stream, parsed, None)
    except Exception as error:  # noqa: BLE001 - hostile bytes: every exception means "no"
        msg = f"the bytes end or break off there ({_one_line(error)})"
        raise Undecodable(msg) from None
    if left := len(body) - stream.tell():
        msg = f"{left} bytes are left over after the record: another schema wrote it"
        raise Undecodable(msg)
    return _set_out(document)


def _in_order(schema: Schema) -> list[Schema]:
    """Return *schema* after all that it refers to."""
    return [inner for entry in schema.references for inner in _in_order(entry)] + [schema]


def _protobuf(body: bytes, schema: Schema) -> tuple[str, str]:
    """Return the message as JSON; by field numbers where the registry gives no descriptor."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
    except ImportError:
        msg = f"the Protobuf library is missing; run: {EXTRA}"
        raise NoDecoder(msg) from None
    path, start = _message_index(body)
    content = body[start:]
    if not schema.descriptor:
        return _by_number(content), (
            f"Protobuf by schema {schema.id}; the registry hands out no descriptor, so fields have "
            "numbers and no names"
        )
    pool = descriptor_pool.DescriptorPool()
    try:
        for inner in _in_order(schema):
            file = descriptor_pb2.FileDescriptorProto.FromString(
                base64.b64decode(inner.descriptor, validate=True)
            )
            # what refers to it does so by the name that the reference has
            file.name = inner.name or file.name or "schema.proto"
            _add_known(pool, file.dependency)
            pool.Add(file)
        name = _message_name(file, path)
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    except (binascii.Error, IndexError, Exception) as error:  # noqa: BLE001 - as above
        msg = f"the schema itself cannot be read ({_one_line(error)})"
        raise NoDecoder(msg) from None
    try:
        message = kind.FromString(content)
        document = json_format.MessageToDict(message, preserving_proto_field_name=True)
    except Exception as error:  # noqa: BLE001 - hostile bytes: every exception means "no"
        raise Undecodable(_one_line(error)) from None
    strange = _unknown_fields(message)
    more = f"; {strange} fields are not in it" if strange else ""
    return _set_out(document), f"Protobuf message {name} by schema {schema.id}{more}"


def _add_known(pool: Any, dependencies: Any) -> None:
    """Give *pool* Google's own files, which no registry lists."""
    import importlib

    from google.protobuf import descriptor_pb2, descriptor_pool

    for name in dependencies:
        if not str(name).startswith("google/protobuf/"):
            continue
        module = str(name).removesuffix(".proto").replace("/", ".") + "_pb2"
        importlib.import_module(module)
        known = descriptor_pb2.FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(known)
        _add_known(pool, known.dependency)
        pool.Add(known)


def _message_index(body: bytes) -> tuple[list[int], int]:
    """Return which message of the file it is, and where the message begins.

    Zigzag varints, their number first; a single 0 stands for the first message.
    """
    count, at = _varint(body, 0)
    if count == 0:
        return [0], at
    if not 0 < count <= _LONGEST_INDEX:
        msg = f"an index of {count} messages cannot be"
        raise Undecodable(msg)
    path = []
    for _ in range(count):
        number, at = _varint(body, at)
        path.append(number)
    return path, at


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(body) and shift < 64:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
    msg = "it ends within the index of its message"
    raise Undecodable(msg)


def _message_name(file: Any, path: list[int]) -> str:
    names = [file.package] if file.package else []
    messages = file.message_type
    for number in path:
        message = messages[number]
        names.append(message.name)
        messages = message.nested_type
    return ".".join(names)


def _unknown_fields(message: Any) -> int:
    from google.protobuf import unknown_fields

    return len(unknown_fields.UnknownFieldSet(message))


def _by_number(content: bytes) -> str:
    from google.protobuf import empty_pb2, unknown_fields

    message = empty_pb2.Empty()
    try:
        message.ParseFromString(content)
    except Exception as error:  # noqa: BLE001 - hostile bytes: every exception means "no"
        raise Undecodable(_one_line(error)) from None
    document: dict[str, list[Any]] = {}
    for entry in unknown_fields.UnknownFieldSet(message):
        data = entry.data
        if isinstance(data, bytes):
            try:
                data = data.decode("utf-8")
            except UnicodeDecodeError:
                data = data.hex(" ")
        document.setdefault(str(entry.field_number), []).append(data)
    return _set_out(document)


def _one_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__

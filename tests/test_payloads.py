"""Bytes of a record made readable: which kind, whether they decode, and no secret in what shows."""

from __future__ import annotations

import base64
import io
import json
import sys

import fastavro
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st
from sources.http_stub import serving

from lagkit.config import HttpLogin
from lagkit.payloads import payload
from lagkit.sources.schema_registry import SchemaRegistry, SchemaUnavailable

ADDRESS = {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}]}
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "id", "type": "long"}, {"name": "to", "type": "Address"}],
}


def proto_file() -> descriptor_pb2.FileDescriptorProto:
    """Return what ``package shop; message Order { int64 id = 1; google.protobuf.Timestamp at = 2;
    message Line { string name = 1; } }`` compiles to."""
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", package="shop", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    order = file.message_type.add(name="Order")
    order.field.add(name="id", number=1, type=3, label=1)
    order.field.add(name="at", number=2, type=11, label=1, type_name=".google.protobuf.Timestamp")
    order.nested_type.add(name="Line").field.add(name="name", number=1, type=9, label=1)
    return file


def registry_answers(path: str, fields, *, descriptors: bool = True):
    """Answer as Confluent's API does: the shapes are those of its documentation."""
    documents = {
        "/schemas/ids/1": {
            "schema": json.dumps(ORDER),
            "references": [{"name": "Address", "subject": "address-value", "version": 3}],
        },
        "/subjects/address-value/versions/3": {"id": 7, "schema": json.dumps(ADDRESS)},
        "/schemas/ids/2": {"schemaType": "PROTOBUF", "schema": 'syntax = "proto3"; …'},
        "/schemas/ids/3": {"schemaType": "JSON", "schema": "{}"},
        "/schemas/ids/5": {"schema": "not a schema"},
    }
    if path not in documents:
        return 404, {"error_code": 40403, "message": "Schema not found"}
    if fields.get("format") == ["serialized"]:
        if not descriptors:
            return 501, {"error_code": 501, "message": "unsupported"}
        text = base64.b64encode(proto_file().SerializeToString()).decode()
        return 200, {**documents[path], "schema": text}
    return 200, documents[path]


@pytest.fixture
def schema_of():
    with serving(
        lambda handler, asked: handler.json(*registry_answers(asked.path, asked.fields))
    ) as stub:
        yield SchemaRegistry(stub.url, HttpLogin()).schema


def framed(number: int, body: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + body


def avro(document) -> bytes:
    named: dict = {}
    fastavro.parse_schema(ADDRESS, named_schemas=named)
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(ORDER, named_schemas=named), document)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("raw", "kind", "decodes", "note"),
    [
        (None, "null", None, "tombstone"),
        (b"", "empty", None, "no bytes"),
        (b'{"a": [1, 2]}', "json", True, "JSON"),
        (b'{"a": [1, 2', "text", False, "line 1, column"),
        (b'{"a": "\xff"}', "binary", False, "no UTF-8"),
        (b"hello", "text", None, "plain text"),
        (b"\x01\x02\xff", "binary", None, "nothing says"),
        (b"a\x00b", "binary", None, "nothing says"),
        (framed(9, b"\x02"), "binary", None, "no schema registry is configured"),
        (framed(9, b"{}"), "json", None, "schema 9"),
    ],
)
def test_what_it_is_and_whether_it_decodes(raw, kind, decodes, note):
    found = payload(raw)
    assert (found.kind, found.decodes) == (kind, decodes)
    assert note in found.note


def test_avro_is_read_by_its_schema_and_what_that_refers_to(schema_of):
    found = payload(framed(1, avro({"id": 42, "to": {"city": "Kyiv"}})), schema_of=schema_of)
    assert (found.kind, found.decodes, found.schema_id) == ("avro", True, 1)
    assert json.loads(found.text) == {"id": 42, "to": {"city": "Kyiv"}}


@pytest.mark.parametrize(
    "change", [lambda b: b[:-2], lambda b: b + b"\x00", lambda b: b"\x80" * 30]
)
def test_avro_that_breaks_off_or_goes_on_does_not_decode(schema_of, change):
    found = payload(
        framed(1, change(avro({"id": 42, "to": {"city": "Kyiv"}}))), schema_of=schema_of
    )
    assert (found.kind, found.decodes) == ("binary", False)
    assert "DOES NOT DECODE" in found.verdict


def test_protobuf_is_read_by_the_descriptor_of_its_registry(schema_of):
    found = payload(framed(2, b"\x00\x08\x2a\x12\x02\x08\x05"), schema_of=schema_of)
    assert (found.kind, found.decodes) == ("protobuf", True)
    assert json.loads(found.text) == {"id": "42", "at": "1970-01-01T00:00:05Z"}
    assert "shop.Order" in found.note


def test_a_nested_protobuf_message_is_found_by_its_index(schema_of):
    # two indexes, 0 and 0, as zigzag varints: Order.Line
    found = payload(framed(2, b"\x04\x00\x00\x0a\x03abc"), schema_of=schema_of)
    assert json.loads(found.text) == {"name": "abc"}


@pytest.mark.parametrize("body", [b"\x00\x08", b"", b"\x02\x14", b"\x00\xff\xff", b"\x81"])
def test_broken_protobuf_does_not_decode_and_raises_nothing(schema_of, body):
    assert payload(framed(2, body), schema_of=schema_of).decodes in (False, None)


def test_a_registry_without_descriptors_gives_fields_by_number():
    def answer(handler, asked):
        handler.json(*registry_answers(asked.path, asked.fields, descriptors=False))

    with serving(answer) as stub:
        found = payload(
            framed(2, b"\x00\x08\x2a\x12\x02\x08\x05"),
            schema_of=SchemaRegistry(stub.url, HttpLogin()).schema,
        )
    assert json.loads(found.text)["1"] == [42]
    assert "numbers and no names" in found.note


def test_json_behind_a_schema_id_is_json(schema_of):
    assert payload(framed(3, b'{"a": 1}'), schema_of=schema_of).decodes is True
    assert payload(framed(3, b"{oops"), schema_of=schema_of).decodes is False


@pytest.mark.parametrize(("number", "words"), [(4, "has no schema 4"), (5, "cannot be read")])
def test_a_schema_that_cannot_be_had_leaves_it_unknown(schema_of, number, words):
    found = payload(framed(number, b"\x02"), schema_of=schema_of)
    assert found.decodes is None
    assert words in found.note


def test_a_registry_that_is_not_there_is_said_to_be_and_costs_no_traceback():
    registry = SchemaRegistry("http://127.0.0.1:9/", HttpLogin(), budget_seconds=2)
    with pytest.raises(SchemaUnavailable, match="did not give schema 1"):
        registry.schema(1)


def test_without_the_libraries_it_says_what_to_install(schema_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    found = payload(framed(1, b"\x02"), schema_of=schema_of)
    assert found.decodes is None
    assert "pip install 'lagkit[schemas]'" in found.note


@pytest.mark.parametrize(
    "raw",
    [
        b'{"password": "hunter2hunter2", "mail": "ann@example.com"}',
        b"\x00\x01password=hunter2hunter2\xff",
        framed(9, b"token=hunter2hunter2 ann@example.com"),
    ],
)
def test_no_secret_shows_in_any_form(raw):
    found = payload(raw)
    shown = found.text + found.note
    assert "hunter2" not in shown
    assert b"hunter2".hex(" ") not in shown
    assert "ann@example.com" not in shown
    assert found.removed


def test_what_is_shown_is_bounded_and_says_so():
    found = payload(b'"' + b"x" * 100_000 + b'"', characters=500)
    assert len(found.text) <= 500
    assert found.cut
    assert payload(b"\xff" * 100_000).cut
    deep = payload(b"[" * 100_000)
    assert deep.decodes is False


@given(st.binary(max_size=200))
def test_no_bytes_raise_or_move_the_cursor(raw):
    found = payload(raw)
    assert found.size == len(raw)
    assert all(character == "\n" or character.isprintable() for character in found.text)

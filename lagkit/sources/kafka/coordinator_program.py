"""The program that asks groups' coordinators: a client of its own in a process of its own.

Started by ``coordinator`` and by nobody else; it may be killed by the client library at any moment,
and that is what it is for. Knows the pipes it was given and two admin calls, and nothing of lagkit:
it is run as a file, so that neither the package nor pandas is loaded before the first question.

Lines of JSON. In: ``{"path"}``, then ``{"configuration", "oauth"}``, then any number of
``{"id", "call", "group", "seconds"}``, and ``{"token"}`` or ``{"fault"}`` for an ``{"oauth"}`` that
went out. Out: ``{"id", "commits", "faults"}``, ``{"id", "described"}``, ``{"id", "error"}`` or
``{"id", "raised"}``. The end of the input ends the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

TOKEN_SECONDS = 10.0
"""How long the parent may take to make a token; reading a file takes it a moment."""

_Line = dict[str, Any]


def main() -> None:
    """Answer until the input ends."""
    first = sys.stdin.buffer.readline()
    if not first:
        return
    sys.path[:] = json.loads(first)["path"]
    _leave_no_core()
    todo: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    tokens: queue.SimpleQueue[_Line] = queue.SimpleQueue()
    # before the library is loaded: the parent may be gone by then
    threading.Thread(target=_listen, args=(todo, tokens), daemon=True).start()

    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client: Any = None
    while True:
        number, what = todo.get()
        if not isinstance(what, dict):
            _tell(_answer(number, what, KafkaException))
        elif client is None:
            client = AdminClient(_configuration(what, tokens))
        else:
            try:
                future = _ask(client, what["call"], what["group"], what["seconds"])
            except (KafkaException, TypeError, ValueError, RuntimeError) as error:
                _tell({"id": number, **_failure(error, KafkaException)})
            else:
                # called on the client's own thread, which must get back to the network: only note
                future.add_done_callback(lambda done, number=number: todo.put((number, done)))
        if todo.empty():
            sys.stdout.buffer.flush()


def _ask(client: Any, call: str, group: str, seconds: float) -> Any:
    from confluent_kafka import ConsumerGroupTopicPartitions

    if call == "describe":
        (future,) = client.describe_consumer_groups([group], request_timeout=seconds).values()
    else:
        request = ConsumerGroupTopicPartitions(group)
        (future,) = client.list_consumer_group_offsets([request], request_timeout=seconds).values()
    return future


def _listen(todo: queue.SimpleQueue[tuple[int, Any]], tokens: queue.SimpleQueue[_Line]) -> None:
    """Hand on what comes in; once nothing can come any more, end the process at once."""
    with contextlib.suppress(ValueError):
        for text in sys.stdin.buffer:
            line = json.loads(text)
            if "token" in line or "fault" in line:
                tokens.put(line)
            else:
                todo.put((line.get("id", 0), line))
    os._exit(0)  # not by way of the client, which would wait for its brokers


def _configuration(line: _Line, tokens: queue.SimpleQueue[_Line]) -> dict[str, Any]:
    # the parent's own client logs and tells; two would say everything twice
    configuration: dict[str, Any] = {**line["configuration"], "log_level": 0}

    def token(said: str) -> Any:
        _tell({"oauth": said})
        sys.stdout.buffer.flush()
        answer = tokens.get(timeout=TOKEN_SECONDS)
        if "fault" in answer:
            raise RuntimeError(answer["fault"])
        return tuple(answer["token"])

    if line["oauth"]:
        configuration["oauth_cb"] = token
    return configuration


def _answer(number: int, done: Any, kafka_exception: type[Exception]) -> _Line:
    try:
        result = done.result()
    except Exception as error:  # whatever it was, the parent raises it
        return {"id": number, **_failure(error, kafka_exception)}
    if hasattr(result, "members"):
        return {"id": number, "described": _description(result)}
    places = result.topic_partitions or ()
    commits: dict[str, list[tuple[int, int]]] = {}
    faults = []
    for place in places:
        if place.error is not None:
            faults.append((place.topic, place.partition, place.offset, _error(place.error)))
        else:
            commits.setdefault(place.topic, []).append((place.partition, place.offset))
    return {"id": number, "commits": commits, "faults": faults}


def _description(group: Any) -> _Line:
    node, kind = group.coordinator, getattr(group, "type", None)
    return {
        "group_id": group.group_id,
        "state": None if group.state is None else group.state.name,
        "type": None if kind is None else kind.name,
        "partition_assignor": group.partition_assignor,
        "coordinator": None if node is None else (node.id, node.host, node.port),
        "members": [
            {
                "member_id": member.member_id,
                "client_id": member.client_id,
                "group_instance_id": member.group_instance_id,
                "host": member.host,
                "owned": None
                if member.assignment is None
                else [
                    (place.topic, place.partition) for place in member.assignment.topic_partitions
                ],
            }
            for member in group.members
        ],
    }


def _failure(error: Exception, kafka_exception: type[Exception]) -> _Line:
    if isinstance(error, kafka_exception) and error.args:
        return {"error": _error(error.args[0])}
    return {"raised": (type(error).__name__, str(error))}


def _error(error: Any) -> tuple[int, str, bool, bool, bool]:
    """Return what a KafkaError is made of, in the order its constructor takes it."""
    return (
        error.code(),
        error.str(),
        error.fatal(),
        error.retriable(),
        error.txn_requires_abort(),
    )


def _tell(line: _Line) -> None:
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")


def _leave_no_core() -> None:
    """Keep the memory of a crash off the disk: the configuration's secrets are in it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        # the limit does not count where a program takes the cores; without memory they are empty
        Path("/proc/self/coredump_filter").write_text("0", encoding="ascii")


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # told, and ended at once: the usual end would wait for the client
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)

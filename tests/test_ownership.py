"""Partition to pod: joined when it is certain, and never guessed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from lagkit import frames
from lagkit.ownership import owners

NOW = pd.Timestamp("2026-11-23T12:00:00Z")


def members(*rows: dict[str, Any]) -> pd.DataFrame:
    base = {
        "timestamp": NOW,
        "group": "g",
        "member_id": "m-1",
        "topic": "t",
        "partition": 0,
        "query_id": "kafka-01",
    }
    return frames.normalise("members", [{**base, **row} for row in rows])


def pods(*rows: dict[str, Any]) -> pd.DataFrame:
    base = {
        "timestamp": NOW,
        "namespace": "ns",
        "container": "app",
        "role": "consumer",
        "phase": "Running",
        "node": "node-1",
        "query_id": "kubernetes-01",
    }
    return frames.normalise("pods", [{**base, **row} for row in rows])


def joined(member: dict[str, Any], *pod: dict[str, Any]) -> tuple[str | None, str]:
    frame = owners(members(member), pods(*pod))
    assert len(frame) == 1
    name = frame["pod"].iloc[0]
    return (None if pd.isna(name) else name), frame["joined_by"].iloc[0]


def test_member_is_the_one_pod_with_its_address() -> None:
    member = {"host": "10.0.0.7"}
    found = joined(member, {"pod": "a", "pod_ip": "10.0.0.7"}, {"pod": "b", "pod_ip": "10.0.0.8"})
    assert found == ("a", "host")


def test_ipv4_written_inside_ipv6_is_the_same_address() -> None:
    assert joined({"host": "::ffff:10.0.0.7"}, {"pod": "a", "pod_ip": "10.0.0.7"}) == ("a", "host")


def test_shared_address_joins_nobody_without_a_name() -> None:
    shared = [{"pod": name, "pod_ip": "10.0.0.7"} for name in ("a", "b")]
    assert joined({"host": "10.0.0.7"}, *shared) == (None, "ambiguous")


def test_shared_address_is_decided_by_the_pod_name_in_the_client_id() -> None:
    shared = [{"pod": name, "pod_ip": "127.0.0.1"} for name in ("api-x1", "api-x2")]
    member = {"host": "127.0.0.1", "client_id": "lagkit-api-x2"}
    assert joined(member, *shared) == ("api-x2", "client_id")


def test_name_at_another_address_does_not_beat_the_address() -> None:
    found = joined(
        {"host": "10.0.0.7", "client_id": "b"},
        {"pod": "a", "pod_ip": "10.0.0.7"},
        {"pod": "b", "pod_ip": "10.0.0.8"},
    )
    assert found == ("a", "host")


@pytest.mark.parametrize(
    ("column", "joined_by"), [("instance_id", "client_id"), ("member_id", "member_id")]
)
def test_other_ids_name_the_pod_too(column: str, joined_by: str) -> None:
    member = {"host": "192.0.2.1", column: "api-0-6f1c"}
    assert joined(member, {"pod": "api-0", "pod_ip": "10.0.0.7"}) == ("api-0", joined_by)


def test_pod_name_inside_a_longer_word_is_not_that_pod() -> None:
    assert joined({"client_id": "api-10"}, {"pod": "api-1"}) == (None, "none")


def test_two_pods_named_in_one_id_are_ambiguous() -> None:
    member = {"client_id": "api-0 and api-1"}
    assert joined(member, {"pod": "api-0"}, {"pod": "api-1"}) == (None, "ambiguous")


def test_finished_pod_no_longer_owns_its_address() -> None:
    found = joined(
        {"host": "10.0.0.7"},
        {"pod": "old", "pod_ip": "10.0.0.7", "phase": "Failed"},
        {"pod": "new", "pod_ip": "10.0.0.7"},
    )
    assert found == ("new", "host")


def test_two_containers_of_a_pod_are_one_pod() -> None:
    found = joined(
        {"host": "10.0.0.7"},
        {"pod": "a", "pod_ip": "10.0.0.7"},
        {"pod": "a", "pod_ip": "10.0.0.7", "container": "sidecar"},
    )
    assert found == ("a", "host")


def test_no_pods_at_all_is_none_and_keeps_the_member() -> None:
    frame = owners(members({"host": "10.0.0.7"}), frames.empty("pods"))
    assert frame[["topic", "partition", "member_id", "joined_by"]].to_numpy().tolist() == [
        ["t", 0, "m-1", "none"]
    ]


def test_only_the_latest_look_counts() -> None:
    earlier = {"timestamp": NOW - pd.Timedelta(seconds=4), "member_id": "gone"}
    frame = owners(members(earlier, {"member_id": "here"}), frames.empty("pods"))
    assert frame["member_id"].tolist() == ["here"]


def test_member_without_partitions_gives_no_row() -> None:
    frame = owners(members({"topic": None, "partition": None}), frames.empty("pods"))
    assert frame.empty
    assert str(frame["partition"].dtype) == "Int64"


def test_empty_frames_give_an_empty_typed_frame() -> None:
    frame = owners(frames.empty("members"), frames.empty("pods"))
    assert list(frame.columns)[:2] == ["topic", "partition"]
    assert frame.empty

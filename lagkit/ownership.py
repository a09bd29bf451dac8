"""Partition → member → pod: who is to blame for a partition, or an honest "not known".

Pure: frames in, frame out. Knows the frames ``members`` and ``pods``; asks no server and guesses
nothing: an address that two pods share (host network, NAT, a lab on loopback) joins nobody.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

JoinedBy = Literal["host", "client_id", "member_id", "none", "ambiguous"]

COLUMNS: Mapping[str, str] = {
    "topic": "str",
    "partition": "Int64",
    "member_id": "str",
    "client_id": "str",
    "host": "str",
    "pod": "str",
    "namespace": "str",
    "node": "str",
    "joined_by": "str",
}
ENDED = frozenset({"Succeeded", "Failed"})
"""Phases in which a pod no longer owns its address."""


@dataclass(frozen=True, slots=True)
class _Pod:
    pod: str
    namespace: str
    node: str | None
    address: str | None


def owners(members: pd.DataFrame, pods: pd.DataFrame) -> pd.DataFrame:
    """Return one row per assigned partition and owner, with the owner's pod where it is certain.

    Parameters
    ----------
    members
        Frame ``members``; of several looks at a group the latest counts. Members without
        partitions give no row.
    pods
        Frame ``pods``, one row per container.

    Returns
    -------
    DataFrame
        ``topic``, ``partition``, ``member_id``, ``client_id``, ``host``, ``pod``, ``namespace``,
        ``node`` and ``joined_by``: *host* when exactly one pod has the client's address;
        *client_id* (or the static instance id) or *member_id* when it contains the name of exactly
        one pod; *ambiguous* when several fit, *none* when no pod does. Sorted by topic, partition
        and member.
    """
    candidates = _candidates(pods)
    assigned = members[members["topic"].notna() & members["partition"].notna()]
    if not assigned.empty:
        latest = assigned.groupby("group")["timestamp"].transform("max")
        assigned = assigned[assigned["timestamp"] == latest]
    rows: list[dict[str, Any]] = []
    known: dict[str, tuple[_Pod | None, JoinedBy]] = {}
    for member in assigned.to_dict("records"):
        key = str(member["member_id"])
        if key not in known:
            known[key] = _join(member, candidates)
        pod, joined_by = known[key]
        rows.append(
            {
                "topic": member["topic"],
                "partition": member["partition"],
                "member_id": member["member_id"],
                "client_id": _text(member["client_id"]),
                "host": _text(member["host"]),
                "pod": None if pod is None else pod.pod,
                "namespace": None if pod is None else pod.namespace,
                "node": None if pod is None else pod.node,
                "joined_by": joined_by,
            }
        )
    frame = pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype="object").astype(dtype)
            for name, dtype in COLUMNS.items()
        }
    )
    return frame.sort_values(["topic", "partition", "member_id"], kind="stable", ignore_index=True)


def _candidates(pods: pd.DataFrame) -> list[_Pod]:
    alive = pods[~pods["phase"].isin(ENDED)]
    found = {
        _Pod(
            str(row["pod"]),
            str(row["namespace"]),
            _text(row["node"]),
            _address(_text(row["pod_ip"])),
        )
        for row in alive.to_dict("records")
    }
    return sorted(found, key=lambda pod: (pod.namespace, pod.pod))


def _join(member: Mapping[Any, Any], pods: Sequence[_Pod]) -> tuple[_Pod | None, JoinedBy]:
    address = _address(_text(member["host"]))
    at_address = [pod for pod in pods if address is not None and pod.address == address]
    if len(at_address) == 1:
        return at_address[0], "host"
    # several pods at one address: the name decides among them; none: among all
    among = at_address or pods
    ways: tuple[tuple[JoinedBy, str], ...] = (
        ("client_id", "client_id"),
        ("client_id", "instance_id"),
        ("member_id", "member_id"),
    )
    several = len(at_address) > 1
    for joined_by, column in ways:
        named = _named(_text(member.get(column)), among)
        if len(named) == 1:
            return named[0], joined_by
        several = several or len(named) > 1
    return None, "ambiguous" if several else "none"


def _named(text: str | None, pods: Sequence[_Pod]) -> list[_Pod]:
    """Return the pods whose whole name stands in *text*; ``api-1`` does not stand in ``api-10``."""
    if not text:
        return []
    named = [
        pod
        for pod in pods
        if re.search(rf"(?<![A-Za-z0-9]){re.escape(pod.pod)}(?![A-Za-z0-9])", text)
    ]
    # web-0 stands in web-0-1 as well: the longer name is the whole one
    return [
        pod
        for pod in named
        if not any(other.pod != pod.pod and pod.pod in other.pod for other in named)
    ]


def _address(text: str | None) -> str | None:
    """Return an address in one spelling (IPv4 inside IPv6 as IPv4); a pseudonym stays itself."""
    if text is None:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        # lagkit.redact put the same word in the place of the same address everywhere
        return text
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None

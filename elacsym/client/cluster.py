"""What can be asked about the cluster, and of a node itself. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from elacsym.client.calls import Call, path_segment


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One node as another one sees it.

    health: `live`, `suspect`, `draining` or `silent`. ring_share: the part of all namespaces that it owns,
    0…1. heartbeat_age_s: None where there are no heartbeats. namespaces: how many it owns, if that was asked.
    """

    id: str
    url: str
    role: str
    weight: float
    health: str
    ring_share: float
    heartbeat_age_s: float | None
    namespaces: int | None
    is_self: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster as the node `node` sees it; `body` is the whole answer as JSON values.

    mode: `single`, `static` or `dynamic`. epoch: how often that node's view has changed. ring: a digest that
    is the same on nodes that agree about who owns what.
    """

    node: str
    mode: str
    epoch: int
    ring: str
    members: tuple[ClusterMember, ...]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who writes a namespace (None: nobody at present), and which nodes read it best, the best first."""

    namespace: str
    id: str | None
    url: str | None
    preferred_readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A namespace that would have another owner; None: no owner."""

    namespace: str
    source: str | None
    target: str | None


@dataclass(frozen=True, slots=True)
class Rebalance:
    """What other members would change: `moved` of `total` namespaces; `moves` are the first of them."""

    moved: int
    total: int
    moves: tuple[Move, ...]
    body: dict[str, Any]


def cluster(count_namespaces: bool) -> Call[Cluster]:
    """`GET /v1/cluster`."""

    def read(value: dict[str, Any]) -> Cluster:
        members = tuple(
            ClusterMember(
                m["id"],
                m["url"],
                m["role"],
                m["weight"],
                m["health"],
                m["ring_share"],
                m.get("heartbeat_age_s"),
                m.get("namespaces"),
                m["is_self"],
            )
            for m in value["members"]
        )
        return Cluster(value["node"], value["mode"], value["epoch"], value["ring"], members, value)

    return Call("GET", "/v1/cluster", read, params={"namespaces": "true"} if count_namespaces else {})


def owner(namespace: str) -> Call[Owner]:
    """`GET /v1/cluster/owner/{ns}`."""

    def read(value: dict[str, Any]) -> Owner:
        found = value["owner"] or {}
        return Owner(value["namespace"], found.get("id"), found.get("url"), tuple(value["preferred_readers"]))

    return Call("GET", f"/v1/cluster/owner/{path_segment(namespace)}", read)


def rebalance(members: Mapping[str, float]) -> Call[Rebalance]:
    """`POST /v1/cluster/rebalance`: changes nothing."""

    def read(value: dict[str, Any]) -> Rebalance:
        moves = tuple(Move(m["namespace"], m["from"], m["to"]) for m in value["moves"])
        return Rebalance(value["moved"], value["total"], moves, value)

    return Call("POST", "/v1/cluster/rebalance", read, orjson.dumps({"members": dict(members)}))


def drain() -> Call[dict[str, Any]]:
    """`POST /internal/drain`."""
    return Call("POST", "/internal/drain", dict)

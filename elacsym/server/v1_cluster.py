"""The v1 API's handlers of what people ask about the cluster."""

from __future__ import annotations

from typing import Any

from elacsym import setting_forms as forms
from elacsym.cluster import census
from elacsym.cluster.census import Move
from elacsym.cluster.member import Health, MemberState
from elacsym.cluster.ring import HashRing
from elacsym.errors import InvalidRequest, Unavailable
from elacsym.server import codec
from elacsym.server.exchange import Answer, Exchange, json_answer
from elacsym.server.service import Service
from elacsym.shapes import Fields, number

MOVES_SHOWN_MAX = 1_000
MEMBERS_MAX = 256
# each is 512 places on the ring
WEIGHTS_MAX = 512.0


async def cluster(exchange: Exchange) -> Answer:
    """`GET /v1/cluster`: the members as this node sees them."""
    wanted = exchange.parameters.get("namespaces", "false")
    if wanted not in ("true", "false"):
        raise InvalidRequest("namespaces", f"{wanted!r} where true or false is expected")
    service = exchange.service
    membership = service.cluster.membership
    ring, states = membership.ring, membership.states()
    owned = await _owned(service, ring) if wanted == "true" else None
    shares = ring.shares()
    return json_answer(
        {
            "node": membership.own.node_id,
            "mode": membership.mode,
            "epoch": membership.epoch,
            "ring": ring.digest,
            "members": [_member(service, state, shares, owned) for state in states],
        }
    )


async def owner(exchange: Exchange) -> Answer:
    """`GET /v1/cluster/owner/{ns}`: who writes a namespace now, whether it exists or not."""
    name, node = exchange.namespace, exchange.service.cluster
    try:
        found = await node.placement.owner(name)
        shown = {"id": found.node_id, "url": found.url}
    except Unavailable:
        shown = None
    preferred = node.membership.readers.preference(name)
    return json_answer({"namespace": name, "owner": shown, "preferred_readers": preferred})


async def rebalance(exchange: Exchange) -> Answer:
    """`POST /v1/cluster/rebalance`: what other members would move. Nothing is changed: placement follows the
    members."""
    weights = await exchange.decoded(decode_rebalance)
    service = exchange.service
    names = await service.census.names(service.database.services.store)
    before = service.cluster.membership.ring
    moved = await service.compute.run(lambda: census.moves(before, HashRing(weights), names))
    return Answer(await service.compute.run(_rebalance_body, moved, len(names)))


def decode_rebalance(body: Any) -> dict[str, float]:
    """The weights of the members to be, by id. Raises InvalidShape, InvalidRequest."""
    fields = Fields(body)
    members = fields.require("members", dict)
    fields.end()
    if not 1 <= len(members) <= MEMBERS_MAX:
        raise InvalidRequest("members", f"{len(members)} where 1 to {MEMBERS_MAX} are allowed")
    weights = {_node_id(name): _weight(weight, f"members.{name}") for name, weight in members.items()}
    if sum(weights.values()) > WEIGHTS_MAX:
        raise InvalidRequest(
            "members", f"weights of {sum(weights.values()):g} together where {WEIGHTS_MAX:g} are allowed"
        )
    return weights


def _node_id(name: str) -> str:
    try:
        return forms.node_id(name)
    except ValueError as error:
        raise InvalidRequest("members", f"{name[:200]!r} is no node id, where {error} is allowed") from error


def _weight(value: Any, path: str) -> float:
    weight = number(value, path)
    try:
        return float(forms.weight(weight))
    except ValueError as error:
        raise InvalidRequest(path, f"{weight:g} where {error} is allowed") from error


async def _owned(service: Service, ring: HashRing) -> dict[str | None, int]:
    names = await service.census.names(service.database.services.store)
    return await service.compute.run(census.counts, ring, names)


def _member(
    service: Service, state: MemberState, shares: dict[str, float], owned: dict[str | None, int] | None
) -> dict[str, Any]:
    member, age_s = state.member, state.heartbeat_age_s
    health = state.health
    if health is Health.LIVE:
        # membership is told late; who is asked for a write is known at once
        health = service.cluster.liveness.health(member.node_id)
    return {
        "id": member.node_id,
        "url": member.url,
        "role": member.role,
        "weight": member.weight,
        "health": health.value,
        "ring_share": round(shares.get(member.node_id, 0.0), 6),
        "heartbeat_age_s": None if age_s is None else round(age_s, 3),
        "namespaces": None if owned is None else owned.get(member.node_id, 0),
        "is_self": member.node_id == service.cluster.membership.own.node_id,
    }


def _rebalance_body(moved: list[Move], total: int) -> bytes:
    return codec.dumps(
        {
            "moved": len(moved),
            "total": total,
            "moves": [
                {"namespace": move.namespace, "from": move.source, "to": move.target}
                for move in moved[:MOVES_SHOWN_MAX]
            ],
        }
    )

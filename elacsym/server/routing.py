"""Which node answers a write: this one, the owner after a 307, or the owner through this one.

Every operation that is marked as a write passes here before its body is read. Reads are answered by any node.
"""

from __future__ import annotations

import asyncio

from starlette.types import Send

from elacsym.cluster.member import Member
from elacsym.errors import DeadlineExceeded, ElacsymError, InvalidRequest, NotOwner, Unavailable
from elacsym.server.exchange import Exchange, WrongOwner
from elacsym.server.forwarding import HOPS_HEADER, Forwarder
from elacsym.server.service import Service
from elacsym.telemetry import REDIRECTS

_HOPS_MAX = 2
# owners that were found dead one after another before a request is given back
_OWNERS_MAX = 5


class Router:
    """Settles where writes go. `forward`: this node passes them on itself."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._forwarder = Forwarder(service) if service.config.forward else None

    async def is_answered(self, exchange: Exchange, send: Send) -> bool:
        """False where this node writes the namespace and is to handle the request; True where it was passed
        on and answered.

        Raises WrongOwner where the client should go elsewhere; NotOwner, Unavailable where nobody can write
        now; what `Forwarder.forward` raises.
        """
        hops = _hops(exchange)
        namespace, cluster = exchange.namespace, self._service.cluster
        for _ in range(_OWNERS_MAX):
            owner = await self._owner(exchange)
            if owner.node_id == cluster.membership.own.node_id:
                return False
            if self._forwarder is None:
                raise self._redirect(exchange, owner.node_id, owner.url)
            if hops >= _HOPS_MAX:
                raise _not_owner(namespace, owner, f"{hops} nodes took each other for its owner")
            if await self._forwarder.forward(exchange, send, owner, hops=hops + 1):
                return True
        raise Unavailable(f"no owner of '{namespace}' can be reached")

    async def _owner(self, exchange: Exchange) -> Member:
        try:
            async with asyncio.timeout(exchange.remaining_s):
                return await self._service.cluster.placement.owner(exchange.namespace)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no owner of '{exchange.namespace}' answered within {exchange.timeout_s:g} s"
            ) from error

    def after_loss(self, exchange: Exchange, error: NotOwner) -> ElacsymError:
        """What to answer to a write that this node took and may not commit. Nothing has happened; but the
        body is gone, so it cannot be passed on."""
        if self._forwarder is not None or error.owner_id is None or error.owner_url is None:
            return error
        return self._redirect(exchange, error.owner_id, error.owner_url)

    def _redirect(self, exchange: Exchange, owner_id: str, owner_url: str) -> WrongOwner:
        REDIRECTS.inc()
        return WrongOwner(
            f"'{exchange.namespace}' is written by node '{owner_id}'",
            owner_id=owner_id,
            location=(owner_url + exchange.target).encode(),
        )


def _hops(exchange: Exchange) -> int:
    """How many nodes have passed the request on."""
    value = exchange.headers.get(HOPS_HEADER.lower().encode(), b"0")
    if not value.isdigit() or len(value) > 2:
        raise InvalidRequest(HOPS_HEADER, "a small whole number is expected; nodes set it")
    return int(value)


def _not_owner(namespace: str, owner: Member, why: str) -> NotOwner:
    return NotOwner(f"'{namespace}' is not written here: {why}", owner_id=owner.node_id, owner_url=owner.url)

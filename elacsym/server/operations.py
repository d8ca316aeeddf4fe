"""What is asked of the node itself: health, version, metrics, the API's description."""

from __future__ import annotations

import elacsym
from elacsym import telemetry
from elacsym.cluster.peers import ANNOUNCE_HEADER, STATE_HEADER, SUSPECTS_HEADER
from elacsym.server import codec
from elacsym.server.exchange import Answer, Exchange, json_answer
from elacsym.server.openapi import DOCUMENT

_ALIVE = codec.dumps({"status": "ok"})
_OPENAPI = codec.dumps(DOCUMENT)


async def health(exchange: Exchange) -> Answer:
    """`GET /health`: the node's identity; answered as long as the process serves."""
    config = exchange.service.config
    return json_answer(
        {
            "status": "ok",
            "version": elacsym.__version__,
            "node_id": config.node_id,
            "role": config.node_type,
        }
    )


async def live(exchange: Exchange) -> Answer:
    """`GET /livez`: the event loop turns. Headers tell other nodes whether this one drains, and which nodes
    it passes over."""
    cluster = exchange.service.cluster
    changed = exchange.headers.get(ANNOUNCE_HEADER.lower().encode())
    if changed is not None:
        cluster.liveness.look_again(changed.decode("latin-1"))
    state = "draining" if cluster.membership.is_draining else "live"
    suspects = ",".join(sorted(cluster.liveness.suspects()))
    headers = [(STATE_HEADER, state), (SUSPECTS_HEADER, suspects)]
    return Answer(
        _ALIVE, headers=tuple((name.lower().encode(), value.encode()) for name, value in headers if value)
    )


async def ready(exchange: Exchange) -> Answer:
    """`GET /readyz`: the store answers; that it is safe was proven before the server began to listen."""
    await exchange.service.check_ready()
    return json_answer({"status": "ok"})


async def version(exchange: Exchange) -> Answer:  # noqa: ARG001
    """`GET /version`."""
    return json_answer({"version": elacsym.__version__, "api": ["v1", "v2"]})


async def metrics(exchange: Exchange) -> Answer:
    """`GET /metrics` in the Prometheus text format."""
    body = await exchange.service.compute.run(telemetry.exposition)
    return Answer(body, media_type=telemetry.METRICS_CONTENT_TYPE.encode())


async def openapi(exchange: Exchange) -> Answer:  # noqa: ARG001
    """`GET /openapi.json`."""
    return Answer(_OPENAPI)

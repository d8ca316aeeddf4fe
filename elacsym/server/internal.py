"""What those who run the cluster ask of a node; proxies keep `/internal/` to themselves."""

from __future__ import annotations

from elacsym.server.exchange import Answer, Exchange, json_answer


async def drain(exchange: Exchange) -> Answer:
    """`POST /internal/drain`: leave the ring, finish what runs, and stop."""
    service = exchange.service
    service.stop_wanted.set()
    return json_answer({"status": "draining", "node": service.config.node_id}, 202)

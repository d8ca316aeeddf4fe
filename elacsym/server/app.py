"""The application: routes, the boundary around them, and the database for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from elacsym.compute import Compute, ThreadCompute
from elacsym.config import Config
from elacsym.server import internal, operations, v1, v1_cluster, v1_recall, v2, v2_copy, v2_namespaces
from elacsym.server.boundary import Boundary, not_found
from elacsym.server.endpoint import Endpoint, Operation
from elacsym.server.node import open_node as open_configured
from elacsym.server.service import OpenNode, Service

_NAMESPACE = "/v1/namespaces/{ns}"
_NAMESPACE_2 = "/v2/namespaces/{ns}"


def _of_both(path: str, **methods: Operation) -> dict[str, dict[str, Operation]]:
    """Operations that both APIs have under a namespace."""
    return {f"{_NAMESPACE}{path}": methods, f"{_NAMESPACE_2}{path}": methods}


# the most frequent paths first: routes are tried in order
ROUTES: dict[str, dict[str, Operation]] = {
    f"{_NAMESPACE}/query": {"POST": Operation(v1.query)},
    f"{_NAMESPACE_2}/query": {"POST": Operation(v2.query, errors="v2")},
    _NAMESPACE_2: {
        "POST": Operation(v2.write, is_write=True, errors="v2"),
        "DELETE": Operation(v1.delete_namespace, is_write=True, errors="v2"),
    },
    f"{_NAMESPACE}/upsert": {"POST": Operation(v1.upsert, is_write=True)},
    f"{_NAMESPACE}/delete": {"POST": Operation(v1.delete, is_write=True)},
    f"{_NAMESPACE}/documents/get": {"POST": Operation(v1.documents)},
    f"{_NAMESPACE}/documents/{{id:path}}": {"GET": Operation(v1.document)},
    f"{_NAMESPACE}/hint_cache_warm": {"GET": Operation(v1.warm, errors="both")},
    f"{_NAMESPACE_2}/hint_cache_warm": {"GET": Operation(v1.warm, errors="v2")},
    f"{_NAMESPACE}/_debug/recall": {"POST": Operation(v1_recall.recall, errors="both")},
    f"{_NAMESPACE_2}/_debug/recall": {"POST": Operation(v1_recall.recall, errors="v2")},
    f"{_NAMESPACE_2}/explain_query": {"POST": Operation(v2.explain, errors="v2")},
    f"{_NAMESPACE_2}/async": {"POST": Operation(v2_copy.start, is_write=True, errors="v2")},
    **_of_both("/operations/{token}", GET=Operation(v2_copy.operation, errors="v2")),
    **_of_both(
        "/metadata",
        GET=Operation(v2_namespaces.metadata, errors="v2"),
        PATCH=Operation(v2_namespaces.update_metadata, is_write=True, errors="v2"),
    ),
    **_of_both(
        "/schema",
        GET=Operation(v2_namespaces.schema, errors="v2"),
        POST=Operation(v2_namespaces.update_schema, is_write=True, errors="v2"),
    ),
    _NAMESPACE: {
        "GET": Operation(v1.info),
        "PUT": Operation(v1.create, is_write=True),
        "DELETE": Operation(v1.delete_namespace, is_write=True, errors="both"),
    },
    "/v1/namespaces": {"GET": Operation(v1.list_namespaces, errors="both")},
    "/v2/namespaces": {"GET": Operation(v1.list_namespaces, errors="v2")},
    "/v1/cluster": {"GET": Operation(v1_cluster.cluster)},
    "/v1/cluster/owner/{ns}": {"GET": Operation(v1_cluster.owner)},
    "/v1/cluster/rebalance": {"POST": Operation(v1_cluster.rebalance)},
    "/internal/drain": {"POST": Operation(internal.drain, is_admin=True)},
    "/health": {"GET": Operation(operations.health, is_open=True)},
    "/livez": {"GET": Operation(operations.live, is_open=True)},
    "/readyz": {"GET": Operation(operations.ready, is_open=True)},
    "/version": {"GET": Operation(operations.version, is_open=True)},
    "/metrics": {"GET": Operation(operations.metrics)},
    "/openapi.json": {"GET": Operation(operations.openapi, is_open=True)},
}


def create_app(config: Config, open_node: OpenNode = open_configured) -> Starlette:
    """The ASGI application. `open_node` is entered when it starts and left when it stops;
    `state.service` is what all requests share."""
    compute: Compute = ThreadCompute(config.threads or None)
    service = Service(config, compute)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            async with service.running(open_node):
                yield
        finally:
            compute.close()

    app = Starlette(
        routes=[_route(path, Endpoint(service, methods)) for path, methods in ROUTES.items()],
        middleware=[Middleware(Boundary, node_id=config.node_id)],
        lifespan=lifespan,
    )
    app.state.service = service
    app.router.redirect_slashes = False
    app.router.default = not_found
    return app


def _route(path: str, endpoint: Endpoint) -> Route:
    # GET documents/get is for the document whose id is "get": this route leaves other methods to the next
    return Route(path, endpoint, methods=["POST"] if path.endswith("/documents/get") else None)

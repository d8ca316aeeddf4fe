"""The HTTP client: `Client` and `AsyncClient` over one pure core.

    ApiError                       what every failed call raises
    ├── RejectedError              4xx: nothing happened, the request has to change
    │   └── MissingError           404
    ├── OverloadedError            429 until the retries are used up: nothing happened
    ├── UnavailableError           503, or no connection: nothing happened
    └── UnknownOutcomeError        a write may have happened; the same idempotency key settles it

Retried: 429, 502, 503, 504 and transport errors, after `Retry-After` or jitter, for a bounded time: by
default longer than a cluster needs to replace a node. Writes carry an `Idempotency-Key` that stays the same
over all attempts. Every attempt begins at the client's own address. A redirect is followed, at most twice in
a row, to hosts that `redirect_hosts` names and to members of the cluster, which the server that redirects is
asked for; nothing is sent anywhere else. A write of more than 1 MiB is first sent without its body.
"""

from elacsym.client.asynchronous import AsyncClient
from elacsym.client.blocking import Client
from elacsym.client.calls import (
    Answer,
    Consistency,
    Document,
    NamespacePage,
    QueryParams,
    Recall,
    Result,
    Share,
    Written,
)
from elacsym.client.cluster import Cluster, ClusterMember, Move, Owner, Rebalance
from elacsym.client.errors import (
    ApiError,
    MissingError,
    OverloadedError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)
from elacsym.client.session import DEFAULT_URL

__all__ = [
    "DEFAULT_URL",
    "Answer",
    "ApiError",
    "AsyncClient",
    "Client",
    "Cluster",
    "ClusterMember",
    "Consistency",
    "Document",
    "MissingError",
    "Move",
    "NamespacePage",
    "OverloadedError",
    "Owner",
    "QueryParams",
    "Rebalance",
    "Recall",
    "RejectedError",
    "Result",
    "Share",
    "UnavailableError",
    "UnknownOutcomeError",
    "Written",
]

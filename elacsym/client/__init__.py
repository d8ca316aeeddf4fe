"""The HTTP client: `Client` and `AsyncClient` over one pure core.

    ApiError                       what every failed call raises
    ├── RejectedError              4xx: nothing happened, the request has to change
    │   └── MissingError           404
    ├── OverloadedError            429 until the retries are used up: nothing happened
    ├── UnavailableError           503, or no connection: nothing happened
    └── UnknownOutcomeError        a write may have happened; the same idempotency key settles it

Retried: 429, 502, 503, 504 and transport errors, after `Retry-After` or jitter, a bounded number of times.
Writes carry an `Idempotency-Key` that stays the same over all attempts. A redirect to another host is
followed, at most twice, but is given the API key only if `redirect_hosts` names that host.
"""

from elacsym.client.api import DEFAULT_URL, AsyncClient, Client
from elacsym.client.calls import Answer, Document, NamespacePage, QueryParams, Recall, Result, Share, Written
from elacsym.client.conversation import (
    ApiError,
    MissingError,
    OverloadedError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)

__all__ = [
    "DEFAULT_URL",
    "Answer",
    "ApiError",
    "AsyncClient",
    "Client",
    "Document",
    "MissingError",
    "NamespacePage",
    "OverloadedError",
    "QueryParams",
    "Recall",
    "RejectedError",
    "Result",
    "Share",
    "UnavailableError",
    "UnknownOutcomeError",
    "Written",
]

"""How a call can fail, and which failure an answer, or the lack of one, stands for."""

from __future__ import annotations

from typing import Any

import httpx
import orjson

from elacsym.client.calls import Call
from elacsym.errors import ElacsymError

# these may be sent again; other answers stay what they are
RETRIED = frozenset({429, 502, 503, 504})
# a server may be cut off from the others, or from the store, for long, where another one is not
PASSED_OVER = RETRIED - {429}
_NOTHING_HAPPENED = frozenset({"overloaded", "unavailable", "not_owner", "deadline_exceeded"})


class ApiError(ElacsymError):
    """A call that failed. `code` and `status` are the server's (status 0: there was no answer)."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """All fields are what the server answered; `idempotency_key` is that of the failed write."""
        super().__init__(message)
        self.code, self.status, self.request_id = code, status, request_id
        self.idempotency_key = idempotency_key


class RejectedError(ApiError):
    """The server refused the request; nothing was stored and the same request will be refused again."""


class MissingError(RejectedError):
    """What the path names does not exist."""


class OverloadedError(ApiError):
    """The server is busy; nothing was stored."""

    retryable = True


class UnavailableError(ApiError):
    """The server or its store cannot be reached; nothing was stored."""

    retryable = True


class UnknownOutcomeError(ApiError):
    """The write may or may not have been stored; repeat it with `idempotency_key`."""

    retryable = True


def no_answer(call: Call[Any], url: httpx.URL, failure: httpx.RequestError) -> ApiError:
    """The error of a request to `url` that got no answer: a write that was sent may have happened."""
    was_sent = not isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    kind: type[ApiError] = UnknownOutcomeError if call.is_write and was_sent else UnavailableError
    server = f"{url.scheme}://{url.netloc.decode()}"
    return kind(
        f"no answer from {server} to {call.method} {call.path}: {str(failure) or type(failure).__name__}",
        code="no_answer",
        status=0,
        idempotency_key=call.idempotency_key,
    )


def refusal(call: Call[Any], answer: httpx.Response) -> ApiError:
    """The error of an answer that is no success."""
    try:
        body = orjson.loads(answer.content)
        # the v2 API has no codes
        message, code = str(body["error"]), str(body.get("code", "no_code"))
        request_id = body.get("request_id")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        message, code, request_id = f"the server answered {answer.status_code}", "no_code", None
        # the form of bad names on paths that both APIs have
        if answer.headers.get("content-type", "").startswith("text/plain") and answer.text:
            message = answer.text
    kind = _kind(answer.status_code, code, is_write=call.is_write)
    return kind(
        message,
        code=code,
        status=answer.status_code,
        request_id=request_id or answer.headers.get("x-request-id"),
        idempotency_key=call.idempotency_key,
    )


def _kind(status: int, code: str, *, is_write: bool) -> type[ApiError]:
    if status == 429:
        return OverloadedError
    if status == 404:
        return MissingError
    if 400 <= status < 500:
        return RejectedError
    if is_write and code not in _NOTHING_HAPPENED:
        return UnknownOutcomeError
    return UnavailableError if status in RETRIED else ApiError


def outcome_unknown(call: Call[Any], last: ApiError) -> UnknownOutcomeError:
    """The error of a write of which an earlier attempt than the `last` may have happened."""
    return UnknownOutcomeError(
        f"{call.method} {call.path} may have been applied: {last}",
        code="outcome_unknown",
        status=last.status,
        request_id=last.request_id,
        idempotency_key=call.idempotency_key,
    )

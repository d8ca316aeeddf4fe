"""The conversation about one call as a generator: attempts, redirects, waiting, errors. No I/O here.

It yields what to send or how long to wait, and is told what came back.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx
import orjson

from elacsym.client.calls import Call
from elacsym.clock import full_jitter_s
from elacsym.errors import ElacsymError

HOPS_MAX = 2
RETRY_AFTER_S_MAX = 30.0

_RETRIED = frozenset({429, 502, 503, 504})
_NOTHING_HAPPENED = frozenset({"overloaded", "unavailable", "not_owner", "deadline_exceeded"})

T = TypeVar("T")
Step = Generator["Send | Wait", "httpx.Response | httpx.TransportError | None", T]


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


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request and say what came back."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wait:
    """Let this time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Policy:
    """What all conversations of a client have in common."""

    base_url: httpx.URL
    api_key: str | None
    redirect_hosts: frozenset[str]
    retries: int
    rng: random.Random


def converse(policy: Policy, call: Call[T]) -> Step[T]:
    """Send, follow, wait and send again until there is an answer. Returns it or raises ApiError."""
    may_have_happened = False
    attempt = 0
    while True:
        answer = yield from _follow(policy, call)
        if isinstance(answer, httpx.Response) and answer.is_success:
            return _read(call, answer)
        error = _error_of(policy, call, answer)
        if error.status == 404 and may_have_happened and call.gone_is_done:
            return call.read(None)
        may_have_happened |= isinstance(error, UnknownOutcomeError)
        if not (error.status in _RETRIED or isinstance(answer, httpx.TransportError)):
            raise error
        if attempt == policy.retries:
            raise _unknown(call, error) if may_have_happened else error
        yield Wait(_delay_s(policy.rng, attempt, answer))
        attempt += 1


def _follow(policy: Policy, call: Call[T]) -> Step[httpx.Response | httpx.TransportError]:
    """One attempt: the request and up to HOPS_MAX redirects."""
    url = httpx.URL(str(policy.base_url).rstrip("/") + call.path)
    params = call.params
    for _ in range(HOPS_MAX + 1):
        answer = yield Send(call.method, str(url), _headers(policy, call, url), call.body, params)
        assert answer is not None
        location = answer.headers.get("location") if isinstance(answer, httpx.Response) else None
        if isinstance(answer, httpx.TransportError) or answer.status_code not in {307, 308} or not location:
            return answer
        url, params = url.join(location), {}
    raise UnavailableError(
        f"{call.path} was redirected {HOPS_MAX + 1} times in a row", code="redirect_loop", status=307
    )


def _headers(policy: Policy, call: Call[T], url: httpx.URL) -> dict[str, str]:
    headers = {"accept": "application/json"}
    if call.body is not None:
        headers["content-type"] = "application/json"
    if call.idempotency_key is not None:
        headers["idempotency-key"] = call.idempotency_key
    is_ours = (url.scheme, url.netloc) == (policy.base_url.scheme, policy.base_url.netloc)
    if policy.api_key and (is_ours or {url.host, url.netloc.decode()} & policy.redirect_hosts):
        headers["authorization"] = f"Bearer {policy.api_key}"
    return headers


def _delay_s(rng: random.Random, attempt: int, answer: httpx.Response | httpx.TransportError) -> float:
    asked = answer.headers.get("retry-after", "") if isinstance(answer, httpx.Response) else ""
    try:
        asked_s = min(max(float(asked), 0.0), RETRY_AFTER_S_MAX)
    except ValueError:  # absent, or a date, which only proxies send
        return full_jitter_s(rng, attempt, base_s=0.1)
    return asked_s + rng.uniform(0.0, 0.25 * asked_s)


def _read(call: Call[T], answer: httpx.Response) -> T:
    try:
        return call.read(orjson.loads(answer.content))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ApiError(
            f"the answer to {call.method} {call.path} is not what this client understands: {error!r}",
            code="unexpected_answer",
            status=answer.status_code,
            request_id=answer.headers.get("x-request-id"),
        ) from error


def _error_of(policy: Policy, call: Call[T], answer: httpx.Response | httpx.TransportError) -> ApiError:
    if isinstance(answer, httpx.TransportError):
        was_sent = not isinstance(answer, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        kind: type[ApiError] = UnknownOutcomeError if call.is_write and was_sent else UnavailableError
        reason = str(answer) or type(answer).__name__
        return kind(
            f"no answer from {policy.base_url} to {call.method} {call.path}: {reason}",
            code="no_answer",
            status=0,
            idempotency_key=call.idempotency_key,
        )
    try:
        body = orjson.loads(answer.content)
        message, code = str(body["error"]), str(body["code"])
        request_id = body.get("request_id")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        message, code, request_id = f"the server answered {answer.status_code}", "no_code", None
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
    return UnavailableError if status in _RETRIED else ApiError


def _unknown(call: Call[T], last: ApiError) -> UnknownOutcomeError:
    return UnknownOutcomeError(
        f"{call.method} {call.path} may have been applied: {last}",
        code="outcome_unknown",
        status=last.status,
        request_id=last.request_id,
        idempotency_key=call.idempotency_key,
    )

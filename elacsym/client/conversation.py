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
from elacsym.client.errors import (
    PASSED_OVER,
    RETRIED,
    ApiError,
    UnavailableError,
    UnknownOutcomeError,
    no_answer,
    outcome_unknown,
    refusal,
)
from elacsym.client.hosts import Hosts
from elacsym.clock import Clock, full_jitter_s

HOPS_MAX = 2
# a server that does not want a body reads a few MiB of it for a second, and then resets the connection, and
# its answer with it
LARGE_BYTES = 2**20
RETRY_AFTER_S_MAX = 30.0
CLUSTER_PATH = "/v1/cluster"

T = TypeVar("T")
# an answer, or why there is none
Heard = httpx.Response | httpx.RequestError
Step = Generator["Send | Wait", Heard | None, T]


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
    """What all conversations of a client have in common.

    A call is repeated at most `retries` times, and not later than `retry_for_s` after its first failure.
    """

    api_key: str | None
    retries: int
    retry_for_s: float
    rng: random.Random
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt without success. may_pass: the same request may succeed later, `retry_after` says when."""

    error: ApiError
    may_pass: bool
    retry_after: str = ""


def converse(policy: Policy, hosts: Hosts, call: Call[T]) -> Step[T]:
    """Send, follow, wait and send again until there is an answer. Returns it or raises ApiError."""
    may_have_happened = False
    first_failure_s: float | None = None
    attempt = 0
    while True:
        outcome = yield from _attempt(policy, hosts, call)
        if isinstance(outcome, httpx.Response):
            return _read(call, outcome)
        error = outcome.error
        if error.status == 404 and may_have_happened and call.gone_is_done:
            return call.read(None)
        may_have_happened |= isinstance(error, UnknownOutcomeError)
        wait_s = _delay_s(policy.rng, attempt, outcome.retry_after)
        now_s = policy.clock.monotonic_s()
        first_failure_s = now_s if first_failure_s is None else first_failure_s
        is_late = now_s + wait_s > first_failure_s + policy.retry_for_s
        if not outcome.may_pass or attempt == policy.retries or is_late:
            raise outcome_unknown(call, error) if may_have_happened else error
        yield Wait(wait_s)
        attempt += 1


def _attempt(policy: Policy, hosts: Hosts, call: Call[T]) -> Step[httpx.Response | _Failure]:
    """The request to the present address and up to HOPS_MAX redirects."""
    server = hosts.base
    url, params = _at(server, call.path), call.params
    for hop in range(HOPS_MAX + 1):
        answer = yield from _answer(policy, call, url, params)
        if isinstance(answer, httpx.RequestError):
            if hop == 0:
                hosts.pass_over(server)
            return _Failure(no_answer(call, url, answer), may_pass=True)
        if answer.is_success:
            return answer
        if hop == 0 and answer.status_code in PASSED_OVER:
            hosts.pass_over(server)
        location = answer.headers.get("location")
        if answer.status_code not in {307, 308} or not location:
            may_pass = answer.status_code in RETRIED
            return _Failure(refusal(call, answer), may_pass, answer.headers.get("retry-after", ""))
        url, params = url.join(location), {}
        if not hosts.is_trusted(url):
            failure = yield from _ask_for_members(policy, hosts, call, server, url)
            if failure is not None:
                return failure
        server = httpx.URL(f"{url.scheme}://{url.netloc.decode()}")
    # while a namespace moves, its old and its new owner may name each other for a moment
    message = f"{call.path} was redirected {HOPS_MAX + 1} times in a row"
    return _Failure(UnavailableError(message, code="redirect_loop", status=307), may_pass=True)


def _answer(policy: Policy, call: Call[T], url: httpx.URL, params: Mapping[str, str]) -> Step[Heard]:
    """What the server says. A large write is first asked without its body: a server that would read it
    refuses an empty one, any other says where to go, or what else is wrong."""
    headers = _headers(policy, call)
    if call.is_write and call.body is not None and len(call.body) > LARGE_BYTES:
        asked = yield Send(call.method, str(url), headers, b"", params)
        assert asked is not None
        if isinstance(asked, httpx.RequestError) or asked.status_code not in {400, 422}:
            return asked
    answer = yield Send(call.method, str(url), headers, call.body, params)
    assert answer is not None
    return answer


def _ask_for_members(
    policy: Policy, hosts: Hosts, call: Call[T], server: httpx.URL, target: httpx.URL
) -> Step[_Failure | None]:
    """Ask the server that redirects, because no other knows the same members for sure, whether the target is
    one of them. None: it is."""
    headers = _headers(policy, Call("GET", CLUSTER_PATH, dict))
    answer = yield Send("GET", str(_at(server, CLUSTER_PATH)), headers, None, {})
    assert answer is not None
    if isinstance(answer, httpx.RequestError) or answer.status_code in RETRIED:
        reason = str(answer) if isinstance(answer, httpx.RequestError) else f"{answer.status_code}"
        message = (
            f"{server} redirects {call.path} to {target}, but does not say who its members are: {reason}"
        )
        return _Failure(UnavailableError(message, code="members_unknown", status=0), may_pass=True)
    if answer.is_success:
        try:
            hosts.learn(member["url"] for member in orjson.loads(answer.content)["members"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            return _refused(call, server, target, f"its list of members cannot be read ({error!r})")
    if hosts.is_trusted(target):
        return None
    return _refused(call, server, target, "that is neither a member of the cluster nor a redirect host")


def _refused(call: Call[T], server: httpx.URL, target: httpx.URL, reason: str) -> _Failure:
    message = f"{server} redirects {call.method} {call.path} to {target}: {reason}; nothing was sent there"
    return _Failure(ApiError(message, code="redirect_refused", status=307), may_pass=False)


def _at(server: httpx.URL, path: str) -> httpx.URL:
    return httpx.URL(str(server).rstrip("/") + path)


def _headers(policy: Policy, call: Call[T]) -> dict[str, str]:
    # only trusted servers are sent anything, so the key may go to all of them
    headers = {"accept": "application/json"}
    if call.body is not None:
        headers["content-type"] = "application/json"
    if call.idempotency_key is not None:
        headers["idempotency-key"] = call.idempotency_key
    if policy.api_key:
        headers["authorization"] = f"Bearer {policy.api_key}"
    return headers


def _delay_s(rng: random.Random, attempt: int, retry_after: str) -> float:
    try:
        asked_s = min(max(float(retry_after), 0.0), RETRY_AFTER_S_MAX)
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

"""What both kinds of client are made of, whatever moves their bytes: settings, servers, tokens of writes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, TypeVar

import httpx

from elacsym.client.calls import Call, Consistency, QueryParams, Written
from elacsym.client.conversation import Policy, Send, Step, converse
from elacsym.client.errors import UnknownOutcomeError
from elacsym.client.hosts import Hosts
from elacsym.client.tokens import Tokens
from elacsym.clock import Clock, SystemClock, system_random

DEFAULT_URL = "http://127.0.0.1:3000"
CONNECT_TIMEOUT_S = 5.0
# at the usual waits these take longer than RETRY_FOR_S
RETRIES = 64
# a cluster serves all its namespaces again some seconds after it lost a node
RETRY_FOR_S = 30.0

T = TypeVar("T")


class Session:
    """One client's servers, how patient it is with them, and what its own reads have to see."""

    def __init__(
        self,
        urls: str | Iterable[str],
        *,
        api_key: str | None,
        redirect_hosts: Iterable[str],
        retries: int,
        retry_for_s: float,
        timeout_s: float,
        read_your_writes: bool,
        rng: random.Random | None,
        clock: Clock | None,
    ) -> None:
        """Raises ValueError for an address that is none."""
        self._hosts = Hosts(urls, redirect_hosts)
        self._policy = Policy(api_key, retries, retry_for_s, rng or system_random(), clock or SystemClock())
        self._timeout_s = timeout_s
        self._tokens = Tokens() if read_your_writes else None

    def http_settings(self) -> dict[str, Any]:
        """What the HTTP library is told."""
        local = {"localhost", "127.0.0.1", "::1"}
        return {
            "timeout": httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S),
            # a proxy of the environment cannot reach this machine's own servers
            "trust_env": not any(base.host in local for base in self._hosts.bases),
        }

    def run(self, call: Call[T]) -> Step[T]:
        """The conversation about the call; a write's token is noted."""
        try:
            value = yield from converse(self._policy, self._hosts, call)
        except UnknownOutcomeError:
            self._note(call, None)
            raise
        self._note(call, value)
        return value

    def _note(self, call: Call[T], value: object) -> None:
        if self._tokens is None or not call.is_write:
            return
        if isinstance(value, Written):
            self._tokens.note(call.namespace, value.token)
        else:
            # nothing names what was written: the next reads are strong
            self._tokens.forget(call.namespace)

    def consistency(self, namespace: str, asked: Consistency | None) -> Consistency:
        """What a read is to see that asked for `asked`."""
        if asked is not None:
            return asked
        token = None if self._tokens is None else self._tokens.newest(namespace)
        return "strong" if token is None else {"token": token}

    def query(self, namespace: str, params: QueryParams) -> QueryParams:
        """The body of a query that sees what it has to."""
        return {**params, "consistency": self.consistency(namespace, params.get("consistency"))}


def request(http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
    """The request of a step."""
    return http.build_request(
        send.method, send.url, headers=send.headers, content=send.body, params=send.params or None
    )

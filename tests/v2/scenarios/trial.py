"""What a scenario is, and what it may do: the official client, sync or async, behind the same methods.

This module and the scenarios import no client: which version is there is up to the process that runs them.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

OLDEST, NEWEST = "2.8.0", "3.1.0"
EXCEPTIONS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}
EUCLIDEAN, COSINE = "euclidean_squared", "cosine_distance"


@dataclass(frozen=True)
class Scenario:
    """One behaviour, shown with the client. features: the ids that it shows. since: the first version of the
    client that can ask for it."""

    name: str
    run: Callable[[Trial], Awaitable[None]]
    features: tuple[str, ...]
    since: str


SCENARIOS: dict[str, Scenario] = {}


def scenario(*features: str, since: str = OLDEST) -> Callable[[Any], Any]:
    """Make a coroutine function of a Trial a scenario."""

    def register(run: Callable[[Trial], Awaitable[None]]) -> Callable[[Trial], Awaitable[None]]:
        assert run.__name__ not in SCENARIOS, f"there are two scenarios {run.__name__}"
        SCENARIOS[run.__name__] = Scenario(run.__name__, run, features, since)
        return run

    return register


class Trial:
    """A namespace of a client. Answers come as plain dictionaries.

    client: Turbopuffer or AsyncTurbopuffer. connect: makes another client with other options.
    """

    def __init__(self, client: Any, name: str, version: str, connect: Callable[..., Any]) -> None:
        self.client, self.name, self.version, self.connect = client, name, version, connect
        self.ns = client.namespace(name)

    def other(self, suffix: str) -> Trial:
        """A second namespace."""
        return Trial(self.client, f"{self.name}-{suffix}", self.version, self.connect)

    def through(self, **options: Any) -> Trial:
        """The same namespace, through a client with these options."""
        return Trial(self.connect(**options), self.name, self.version, self.connect)

    async def close(self) -> None:
        """Close the client."""
        closed = self.client.close()
        if inspect.isawaitable(closed):
            await closed

    async def call(self, method: str, *arguments: Any, **parameters: Any) -> Any:
        """A method of the namespace. What this version of the client has no parameter for goes into the
        body."""
        function = getattr(self.ns, method)
        known = inspect.signature(function).parameters
        body = {name: parameters.pop(name) for name in [*parameters] if name not in known}
        if body:
            parameters["extra_body"] = body | parameters.get("extra_body", {})
        answer = function(*arguments, **parameters)
        if inspect.isawaitable(answer):
            answer = await answer
        return plain(answer)

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        return lambda *arguments, **parameters: self.call(method, *arguments, **parameters)

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Any request, through the client."""
        send = getattr(self.client, method)
        options = {} if body is None else {"body": body}
        answer = send(path, cast_to=object, **options)
        return await answer if inspect.isawaitable(answer) else answer

    async def raw(self, method: str, **parameters: Any) -> Any:
        """The whole HTTP answer of a method, with its headers."""
        answer = getattr(self.ns.with_raw_response, method)(**parameters)
        return await answer if inspect.isawaitable(answer) else answer

    async def names(self, **parameters: Any) -> list[str]:
        """The names that the client lists, over all pages."""
        listed = self.client.namespaces(**parameters)
        if inspect.isawaitable(listed):
            listed = await listed
        if hasattr(listed, "__aiter__"):
            return [summary.id async for summary in listed]
        return [summary.id for summary in listed]

    async def rows(self, **query: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        return (await self.query(**query))["rows"]

    async def ids(self, **query: Any) -> list[Any]:
        """The ids of a query's rows, in their order."""
        return [row["id"] for row in await self.rows(**query)]

    async def scores(self, **query: Any) -> list[tuple[Any, float]]:
        """The ids of a query's rows, and their `$dist`."""
        return [(row["id"], row["$dist"]) for row in await self.rows(**query)]

    async def found(self, *condition: Any) -> list[Any]:
        """The ids of the documents that a filter matches, in their order."""
        return await self.ids(filters=list(condition), limit=1000)

    async def documents(self) -> list[dict[str, Any]]:
        """All documents, whole, by id."""
        return await self.rows(limit=1000, include_attributes=True)

    async def store(self, rows: Iterable[dict[str, Any]], **options: Any) -> dict[str, Any]:
        """Upsert rows."""
        return await self.write(upsert_rows=list(rows), **options)

    async def refused(
        self, status: int, text: str | Iterable[str] = "", method: str = "write", **parameters: Any
    ) -> Any:
        """A call must fail with this status, the exception that belongs to it, and a message with these
        texts. Returns the error's body."""
        try:
            answer = await self.call(method, **parameters)
        except Exception as error:
            expect_error(error, status, [text] if isinstance(text, str) else text)
            return error.body
        raise AssertionError(f"answered instead of being refused with {status} {text!r}: {answer}")

    async def query_refused(self, status: int, text: str | Iterable[str] = "", **query: Any) -> Any:
        """A query must be refused."""
        return await self.refused(status, text, "query", **query)


def expect_error(error: Exception, status: int, texts: Iterable[str]) -> None:
    """`error` is the client's exception for an answer with this status and these texts."""
    if not hasattr(error, "status_code"):
        raise error
    assert error.status_code == status, f"{error.status_code} instead of {status}: {error}"
    kind = EXCEPTIONS[status]
    assert type(error).__name__ == kind, f"{type(error).__name__} instead of {kind}"
    assert error.body["status"] == "error", error.body
    for text in texts:
        assert text in error.body["error"], f"{text!r} is not in {error.body['error']!r}"


def plain(answer: Any) -> Any:
    """An answer as the JSON that it was."""
    if hasattr(answer, "to_dict"):
        return answer.to_dict(mode="json")
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [plain(value) for value in answer]
    return answer


def close(got: float, wanted: float, relative: float = 1e-6) -> bool:
    """Whether two numbers are equal to within rounding."""
    return abs(got - wanted) <= relative * max(abs(wanted), 1e-30)


def expect_scores(got: list[tuple[Any, float]], wanted: list[tuple[Any, float]]) -> None:
    """The same ids in the same order, with the same scores to within rounding."""
    assert [row for row, _ in got] == [row for row, _ in wanted], f"{got} instead of {wanted}"
    for (row, score), (_, right) in zip(got, wanted, strict=True):
        assert close(score, right), f"{row} has {score} instead of {right}"

"""What the process refuses early: too many body bytes held, too many queries at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from elacsym.errors import Overloaded, PayloadTooLarge
from elacsym.telemetry import HTTP_IN_FLIGHT_BYTES


class ByteBudget:
    """Bytes of request bodies that the process holds. Used on the event loop only."""

    def __init__(self, bytes_max: int) -> None:
        """`bytes_max` bounds all requests together."""
        self.bytes_max = bytes_max
        self.bytes_held = 0

    def take(self, size: int) -> None:
        """Account for `size` more bytes. Raises Overloaded where that would pass the limit."""
        if self.bytes_held + size > self.bytes_max:
            raise Overloaded(
                f"bodies of {self.bytes_held} bytes are being handled; {size} more would pass the limit, "
                f"{self.bytes_max}"
            )
        self.bytes_held += size
        HTTP_IN_FLIGHT_BYTES.inc(size)

    def give_back(self, size: int) -> None:
        """End the account of `size` bytes."""
        self.bytes_held -= size
        HTTP_IN_FLIGHT_BYTES.dec(size)
        assert self.bytes_held >= 0, "more bytes given back than taken"


@dataclass(slots=True)
class BodyAllowance:
    """One request's part of the budget; `bytes_max` bounds its body and what that decompresses to."""

    budget: ByteBudget
    bytes_max: int
    bytes_taken: int = 0

    def check(self, size: int, what: str) -> None:
        """Raise PayloadTooLarge where a body of `size` bytes passes the limit of one request."""
        if size > self.bytes_max:
            raise PayloadTooLarge(f"{what} of {size} bytes or more where {self.bytes_max} are allowed")

    def take(self, size: int) -> None:
        """Account for `size` more bytes."""
        self.budget.take(size)
        self.bytes_taken += size

    def release(self) -> None:
        """Give everything back."""
        self.budget.give_back(self.bytes_taken)
        self.bytes_taken = 0


class Gate:
    """Lets a number of operations in at once and refuses the rest."""

    def __init__(self, count_max: int, what: str) -> None:
        """`what` names the operations in the refusal."""
        self._count_max, self._what = count_max, what
        self._count = 0

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Hold one place. Raises Overloaded where none is free."""
        if self._count >= self._count_max:
            raise Overloaded(f"{self._count} {self._what} are running, and no more are allowed at once")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


@dataclass(slots=True)
class _Places:
    """The places of one namespace that are taken, and who waits for how many, told when it has them."""

    taken: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class NamespaceGate:
    """Lets each namespace have so many queries at once; the next ones wait a little, in order, and are then
    refused. Used on the event loop only."""

    def __init__(self, places_max: int, *, wait_s: float) -> None:
        """`wait_s` is how long a query waits for its places."""
        self._places_max, self._wait_s = places_max, wait_s
        self._namespaces: dict[str, _Places] = {}

    @asynccontextmanager
    async def passage(self, name: str, weight: int) -> AsyncIterator[None]:
        """Hold `weight` places of a namespace, or all that it has. Raises Overloaded."""
        weight = min(weight, self._places_max)
        places = self._namespaces.setdefault(name, _Places())
        if places.waiting or places.taken + weight > self._places_max:
            await self._waited(name, places, weight)
        else:
            places.taken += weight
        try:
            yield
        finally:
            self._leave(name, places, weight)

    async def _waited(self, name: str, places: _Places, weight: int) -> None:
        """Return when the places were taken for the caller."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        places.waiting.append((weight, turn))
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # the places came with the interruption
                self._leave(name, places, weight)
            else:
                if (weight, turn) in places.waiting:
                    places.waiting.remove((weight, turn))
                self._admit(name, places)
            if not isinstance(error, TimeoutError):
                raise
            raise Overloaded(
                f"'{name}' has as many queries at once as are allowed, {self._places_max}, "
                "where aggregations count more than once"
            ) from error

    def _leave(self, name: str, places: _Places, weight: int) -> None:
        places.taken -= weight
        self._admit(name, places)

    def _admit(self, name: str, places: _Places) -> None:
        """Let in those who wait, in order, as far as there are places."""
        while places.waiting and places.taken + places.waiting[0][0] <= self._places_max:
            weight, turn = places.waiting.popleft()
            # one that is done was given up, and will be told so
            if not turn.done():
                places.taken += weight
                turn.set_result(None)
        if not places.taken and not places.waiting:
            self._namespaces.pop(name, None)

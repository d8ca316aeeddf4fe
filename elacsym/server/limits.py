"""What the process refuses early: too many body bytes held, too many queries at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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

"""Which namespaces a process looks after, where several share a store."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol


class Duties(Protocol):
    """What falls to this process. Two that look after one namespace do work twice, and nothing wrong."""

    @property
    def view(self) -> Hashable | None:
        """A value that changes whenever `owns` may have changed; None where it never does."""
        ...

    def owns(self, namespace: str) -> bool:
        """Whether to fold, merge and collect it."""
        ...

    def prefers(self, namespace: str) -> bool:
        """Whether queries of it are meant to come here."""
        ...


class AllDuties:
    """There is no other process."""

    view: Hashable | None = None

    def owns(self, namespace: str) -> bool:  # noqa: ARG002 - the protocol's form
        """Everything is looked after here."""
        return True

    def prefers(self, namespace: str) -> bool:  # noqa: ARG002
        """All queries come here."""
        return True

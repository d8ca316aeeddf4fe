"""Which nodes may claim a log."""

from __future__ import annotations

from typing import Protocol


class Claims(Protocol):
    """Says who may claim a namespace's log. It keeps nodes from taking turns, no more: whatever it says, the
    log itself decides."""

    async def allow(self, namespace: str, *, claimed_by: str | None) -> None:
        """Called before every claim. claimed_by: the node of the log's last claim, where it is known.

        Raises NotOwner where another node should write the namespace, Unavailable where nobody can.
        """
        ...


class ClaimsOfAll:
    """Everybody may claim everything."""

    async def allow(self, namespace: str, *, claimed_by: str | None) -> None:
        """It may."""

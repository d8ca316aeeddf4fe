"""What nodes know of each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

Role = Literal["all", "indexer", "query"]


@dataclass(frozen=True, slots=True)
class Member:
    """One node. url: where other nodes and clients reach it, without a path. weight: its share of the ring
    relative to others."""

    node_id: str
    url: str
    role: Role = "all"
    weight: float = 1.0

    @property
    def is_indexer(self) -> bool:
        """Whether it may own namespaces."""
        return self.role != "query"


class Health(Enum):
    """What is known of a member. Only `LIVE` and `SUSPECT` members are in the ring; a suspect is passed over
    for a while."""

    LIVE = "live"
    SUSPECT = "suspect"
    DRAINING = "draining"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member as one node sees it. heartbeat_age_s: by the store's clock; None where there are no
    heartbeats."""

    member: Member
    health: Health
    heartbeat_age_s: float | None = None

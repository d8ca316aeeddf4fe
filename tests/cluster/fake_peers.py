"""Peers whose answers a test chooses."""

from __future__ import annotations

import asyncio

from support.clocks import ManualClock

from elacsym.cluster.liveness import Liveness
from elacsym.cluster.member import Member
from elacsym.cluster.peers import Look
from elacsym.errors import Unavailable

SUSPECT_S = 0.05
WELL = Look(is_draining=False, suspects=frozenset())
DRAINING = Look(is_draining=True, suspects=frozenset())


def passing_over(*node_ids):
    """The answer of a node that passes these over."""
    return Look(is_draining=False, suspects=frozenset(node_ids))


class FakePeers:
    """`answers` by node id; without one a node is dead. looks: who was asked, in order."""

    def __init__(self, **answers: Look) -> None:
        self.answers = answers
        self.looks: list[str] = []
        self.announced: list[str] = []

    async def look(self, member: Member, *, is_announcing: bool = False) -> Look:
        self.looks.append(member.node_id)
        if is_announcing:
            self.announced.append(member.node_id)
        await asyncio.sleep(0)
        if member.node_id not in self.answers:
            raise Unavailable("dead")
        return self.answers[member.node_id]


def members(*ids, role="all"):
    return {id_: Member(id_, f"http://{id_}", role) for id_ in ids}


def liveness_of(peers, known):
    """A liveness, and the clock by which it trusts."""
    clock = ManualClock()
    return Liveness(peers, clock, known.get, suspect_s=SUSPECT_S), clock

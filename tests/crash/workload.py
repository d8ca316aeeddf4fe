"""Clients of a namespace that write what can be recognised, and a full read-out of it.

Eight writers each insert documents of their own, which are written once and perhaps deleted once, and
fight over a few that they share. Every document carries the number of its write; vector and text follow
from number and id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from crash.journal import Journal

from elacsym.client import (
    AsyncClient,
    OverloadedError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)
from elacsym.client.calls import Document, Written

NAMESPACE = "crash"
DIMENSIONS = 8
SCHEMA = {
    "vector_dim": DIMENSIONS,
    "vector_metric": "l2",
    "attributes": {"write": {"type": "integer"}, "text": {"type": "string", "full_text": True}},
}
MARKER = 0
SHARED = range(1, 25)
OWN_IDS = 10_000_000  # writer w owns the ids from (w + 1) times this
OWN_MAX = 120
PAGE = 10_000
PAUSE_S = 0.02


def document(op: int, id_: int) -> Document:
    """The document that write `op` puts under an id."""
    vector = np.array([op % 4096, op // 4096, id_ % 4096, id_ // 4096, 1, -1, 0.5, 0], np.float32)
    padding = " elacsym" * (op * 37 % 400 if op % 5 == 0 else 3)
    return {"id": id_, "vector": vector, "attributes": {"write": op, "text": f"w{op} d{id_}{padding}"}}


def key_of(op: int) -> str:
    """The idempotency key of a write."""
    return f"key-{op}"


async def send(client: AsyncClient, op: int, kind: str, ids: Sequence[int]) -> Written:
    """Send a write, or send it again."""
    if kind == "upsert":
        return await client.upsert(NAMESPACE, [document(op, i) for i in ids], idempotency_key=key_of(op))
    return await client.delete(NAMESPACE, ids, idempotency_key=key_of(op))


async def journalled(client: AsyncClient, journal: Journal, kind: str, ids: Sequence[int]) -> str:
    """One write from begin to end; how it ended: ack, refused, unknown."""
    op = journal.begin(kind, ids)
    try:
        written = await send(client, op, kind, ids)
    except UnknownOutcomeError as error:
        journal.unknown(op, str(error))
        return "unknown"
    except (UnavailableError, OverloadedError, RejectedError) as error:
        journal.refused(op, str(error))
        return "refused"
    journal.ack(op, written.seq, written.count)
    return "ack"


async def again(client: AsyncClient, journal: Journal, op: int, kind: str, ids: Sequence[int]) -> Written:
    """Send a write once more with its key. Raises ApiError."""
    journal.again(op)
    written = await send(client, op, kind, ids)
    journal.ack(op, written.seq, written.count)
    return written


async def read_out(client: AsyncClient) -> dict[int, int]:
    """Document -> write for all documents, strongly consistent.

    Raises AssertionError for a mixed-up document.
    """
    rows: dict[int, int] = {}
    after: dict[str, str] = {}
    while True:
        answer = await client.query(
            NAMESPACE, order_by=[["id", "asc"]], top_k=PAGE, include_vector=True, **after
        )
        for row in answer.results:
            assert isinstance(row.id, int), row
            op = row.attributes["write"]
            expected = document(op, row.id)
            assert row.attributes == expected["attributes"], (row, expected)
            assert row.vector is not None, row
            assert row.vector.tolist() == expected["vector"].tolist(), (row, expected)
            assert row.id not in rows, f"document {row.id} is there twice"
            rows[row.id] = op
        if len(answer.results) < PAGE:
            break
        after = {"after": answer.results[-1].cursor}
    count = (await client.query(NAMESPACE, aggregate={"count": True})).body["aggregations"]["count"]
    assert count == len(rows), f"{count} documents are counted, {len(rows)} are read"
    return rows


@dataclass
class Writer:
    """One client. `own`: its documents that are there. It ends when it no longer knows what is."""

    number: int
    journal: Journal
    rng: random.Random
    next_id: int = 0
    own: list[int] = field(default_factory=list)
    acked: int = 0

    def __post_init__(self) -> None:
        self.next_id = self.next_id or (self.number + 1) * OWN_IDS

    def refresh(self, live: Mapping[int, int]) -> None:
        """Learn from a read-out what is there."""
        first = (self.number + 1) * OWN_IDS
        self.own = [id_ for id_ in live if first <= id_ < first + OWN_IDS]

    async def run(self, client: AsyncClient, stop: asyncio.Event) -> None:
        """Write until told to stop, or until an outcome is unknown."""
        while not stop.is_set():
            kind, ids = self._choice()
            outcome = await journalled(client, self.journal, kind, ids)
            if outcome == "unknown":
                return
            if outcome == "refused":
                await asyncio.sleep(PAUSE_S)  # a server that refuses is given time
                continue
            self.acked += 1
            if kind == "upsert" and ids[0] >= OWN_IDS:
                self.own += ids
            elif ids[0] >= OWN_IDS:
                self.own = [id_ for id_ in self.own if id_ not in ids]

    def _choice(self) -> tuple[str, list[int]]:
        draw = self.rng.random()
        if draw < 0.3:
            return "upsert", self.rng.sample(SHARED, self.rng.randint(1, 4))
        if draw < 0.4:
            return "delete", self.rng.sample(SHARED, self.rng.randint(1, 2))
        if (draw < 0.6 and len(self.own) > 4) or len(self.own) > OWN_MAX:
            return "delete", self.rng.sample(self.own, self.rng.randint(1, 4))
        count = self.rng.randint(1, 5)
        self.next_id += count
        return "upsert", list(range(self.next_id - count, self.next_id))


async def read_beside(client: AsyncClient, journal: Journal, rng: random.Random, stop: asyncio.Event) -> None:
    """Strong reads of the shared documents while others write."""
    while not stop.is_set():
        ids = rng.sample(SHARED, 6)
        op = journal.begin("read", ids)
        try:
            found = await client.documents(NAMESPACE, ids)
        except (UnknownOutcomeError, UnavailableError, OverloadedError) as error:
            journal.refused(op, str(error))
        else:
            seen = {
                i: None if row is None else row.attributes["write"] for i, row in zip(ids, found, strict=True)
            }
            journal.rows(op, seen)
        await asyncio.sleep(PAUSE_S)  # the writers are what this is about

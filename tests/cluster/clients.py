"""Clients that write and read a few documents of one namespace through any nodes, and record it.

A document says which write put it there and which write that one was made from (a *patch-like overwrite*
reads a document and writes it back with its own number). A read checks that the document is whole, vector
included.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
from cluster.history import History

from elacsym.client import AsyncClient, OverloadedError, UnavailableError, UnknownOutcomeError
from elacsym.client.calls import Document, Written

DIMENSIONS = 4
SCHEMA = {
    "vector_dim": DIMENSIONS,
    "vector_metric": "l2",
    "attributes": {"write": {"type": "integer"}, "carried": {"type": "integer"}},
}
CLIENTS = 16
DOCUMENTS = 5
# after a refusal, as programs do
REFUSED_PAUSE_S = 0.05
_KINDS = ("read", "upsert", "overwrite", "delete", "delete_if")
_SHARES = (40, 28, 16, 8, 8)


def document(id_: int, write: int, carried: int) -> Document:
    """The document that a write puts under an id."""
    vector = np.array([write % 4096, write // 4096, carried % 4096, id_], np.float32)
    return {"id": id_, "vector": vector, "attributes": {"write": write, "carried": carried}}


_pauses: ContextVar[list[float]] = ContextVar("_pauses")


async def noted_sleep(pause_s: float) -> None:
    """How clients wait before they ask again, so that their workers know of it."""
    pauses = _pauses.get(None)
    if pauses is not None:
        pauses.append(pause_s)
    await asyncio.sleep(pause_s)


@dataclass
class Tally:
    """What became of requests.

    waits_s: how long the acknowledged writes took, repetitions included. retried_s: those among them that had
    to be sent again.
    """

    acked: int = 0
    read: int = 0
    unknown: int = 0
    refused: int = 0
    unread: int = 0
    waits_s: list[float] = field(default_factory=list)
    retried_s: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests that were given up without an answer."""
        return self.unknown + self.refused + self.unread

    def retried_within(self, limit_s: float) -> float:
        """Of the writes that were sent again, the share that was acknowledged in time; those that were given
        up count."""
        count = len(self.retried_s) + self.unknown + self.refused
        return 1.0 if count == 0 else sum(wait_s <= limit_s for wait_s in self.retried_s) / count

    def summary(self) -> dict[str, float]:
        """The counts, and the longest wait."""
        counts = {name: getattr(self, name) for name in ("acked", "read", "unknown", "refused", "unread")}
        longest_s = round(max(self.waits_s, default=0.0), 2)
        return {**counts, "retried": len(self.retried_s), "wait_s_max": longest_s}

    def add(self, other: Tally) -> None:
        """Count another's requests, too."""
        self.acked += other.acked
        self.read += other.read
        self.unknown += other.unknown
        self.refused += other.refused
        self.unread += other.unread
        self.waits_s += other.waits_s
        self.retried_s += other.retried_s


class Worker:
    """One client: a request at a time, through `client`."""

    def __init__(
        self, history: History, client: AsyncClient, rng: random.Random, *, documents: int = DOCUMENTS
    ) -> None:
        self.history, self.client, self._rng = history, client, rng
        self.tally = Tally()
        self._documents = range(1, documents + 1)
        self._seen: dict[int, int] = {}

    async def run(self, stop: asyncio.Event, *, count_max: int | None = None, pause_s: float = 0.0) -> None:
        """One operation after the other until told to stop, `count_max` at most."""
        count = 0
        while not stop.is_set() and count != count_max:
            await self.step()
            count += 1
            if pause_s:
                await asyncio.sleep(self._rng.uniform(0, 2 * pause_s))

    async def step(self) -> None:
        """One operation of a random kind on a random document."""
        id_ = self._rng.choice(self._documents)
        (kind,) = self._rng.choices(_KINDS, _SHARES)
        if kind == "read" or (kind == "delete_if" and id_ not in self._seen):
            await self.read(id_)
        elif kind == "upsert":
            await self.upsert(id_, -1)
        elif kind == "overwrite":
            await self.upsert(id_, await self.read(id_) or -1)
        elif kind == "delete":
            await self.delete(id_)
        else:
            await self.delete_if(id_, self._seen[id_])

    async def read_all(self) -> None:
        """A strong read of every document."""
        for id_ in self._documents:
            await self.read(id_)

    async def read(self, id_: int) -> int | None:
        """A strong read by id: the write that the document is from; None also when there was no answer."""
        number = self.history.begin("read", id_)
        try:
            (found,) = await self.client.documents(self.history.namespace, [id_], include_vector=True)
        except (UnknownOutcomeError, UnavailableError, OverloadedError) as error:
            self.tally.unread += 1
            self.history.failed(number, str(error))
            await asyncio.sleep(REFUSED_PAUSE_S)  # a node that refuses is given time
            return None
        self.tally.read += 1
        if found is None:
            self.history.saw(number, None)
            return None
        write = found.attributes["write"]
        content = self.history.contents.get(write)
        assert content is not None, f"document {id_} says {found.attributes}, which nobody wrote"
        expected = document(id_, write, content.carried)
        assert found.attributes == expected["attributes"], (found, expected)
        assert found.vector is not None, found
        assert found.vector.tolist() == expected["vector"].tolist(), (found, expected)
        self.history.saw(number, write)
        self._seen[id_] = write
        return write

    async def upsert(self, id_: int, carried: int) -> bool:
        """Write a document that carries the number of another write; whether it was acknowledged."""
        number = self.history.begin("upsert", id_, carried=carried)
        return await self._write(
            number,
            self.client.upsert(
                self.history.namespace, [document(id_, number, carried)], idempotency_key=self._key(number)
            ),
        )

    async def delete(self, id_: int) -> bool:
        """Delete a document by id; whether it was acknowledged."""
        number = self.history.begin("delete", id_)
        return await self._write(
            number, self.client.delete(self.history.namespace, [id_], idempotency_key=self._key(number))
        )

    async def delete_if(self, id_: int, write: int) -> bool:
        """Delete a document if it is from this write; whether it was acknowledged."""
        number = self.history.begin("delete_if", id_, asked=write)
        is_it = {"field": "write", "op": "eq", "value": write}
        return await self._write(
            number,
            self.client.delete(self.history.namespace, filter=is_it, idempotency_key=self._key(number)),
        )

    def _key(self, number: int) -> str:
        return f"{self.history.namespace}-{number}"

    async def _write(self, number: int, request) -> bool:
        began_s = time.monotonic()
        pauses: list[float] = []
        _pauses.set(pauses)
        try:
            written: Written = await request
        except UnknownOutcomeError:
            self.tally.unknown += 1
            return False
        except (UnavailableError, OverloadedError) as error:
            self.tally.refused += 1
            self.history.failed(number, str(error))
            await asyncio.sleep(REFUSED_PAUSE_S)  # a node that refuses is given time
            return False
        self.tally.acked += 1
        self.tally.waits_s.append(time.monotonic() - began_s)
        if pauses:
            self.tally.retried_s.append(self.tally.waits_s[-1])
        self.history.acked(number, written.seq, written.count)
        return True


def workers(
    history: History,
    clients: Sequence[AsyncClient],
    seed: int,
    count: int = CLIENTS,
    *,
    documents: int = DOCUMENTS,
) -> list[Worker]:
    """`count` workers that take turns at the clients."""
    return [
        Worker(
            history,
            clients[n % len(clients)],
            random.Random(f"{history.namespace} {seed} {n}"),
            documents=documents,
        )
        for n in range(count)
    ]

"""Queries of one namespace that wait at the same time are answered together: one proof that the view is
current, one snapshot, and one search for all that are alike (`query.alike`).

No query is held back for others to come: together goes what was read while the event loop was busy, and what
waited for the same proof. A batch needs no bytes that are not at hand; queries that do, that take longer, or
that are like no other are answered one by one, beside each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass

from elacsym.compute import Compute
from elacsym.errors import InvalidRequest, Unavailable
from elacsym.query.alike import alike
from elacsym.query.ast import Query, QueryResult, TextLeg
from elacsym.query.cost import BATCH_US_MAX, inline_us
from elacsym.query.execute import EffortOf, answers_at_hand, execute
from elacsym.query.searchable import SearchSnapshot
from elacsym.query.validate import check
from elacsym.store.cache import ObjectMissing
from elacsym.types import Consistency

# gives a snapshot that is as fresh as demanded, proven since a time; see `Namespace.snapshot`
SnapshotOf = Callable[[Consistency, float | None], Awaitable[SearchSnapshot]]
# gives the newest snapshot, after a look at what is in the store
Refreshed = Callable[[], Awaitable[SearchSnapshot]]


def batches(snapshot: SearchSnapshot, queries: Sequence[Query]) -> list[list[int]]:
    """The places of checked queries in groups of which each is answered in one go: those that run in the pool
    alone, others as many as the event loop may be busy with."""
    found: list[list[int]] = []
    for group in alike(queries):
        if len(group) == 1:
            found.append(group)
            continue
        # vectors cost the same, texts and their filters do not
        are_texts = isinstance(queries[group[0]].legs[0], TextLeg)
        own_us = None if are_texts else inline_us(queries[group[0]], snapshot)
        batch: list[int] = []
        spent_us = 0.0
        for place in group:
            if are_texts:
                own_us = inline_us(queries[place], snapshot)
            if own_us is None:
                found.append([place])
                continue
            if batch and spent_us + own_us > BATCH_US_MAX:
                found.append(batch)
                batch, spent_us = [], 0.0
            batch.append(place)
            spent_us += own_us
        if batch:
            found.append(batch)
    return found


async def answers(
    snapshot: SearchSnapshot, queries: Sequence[Query], compute: Compute, effort_of: EffortOf
) -> list[QueryResult]:
    """The answers to checked queries, in their order; what any of them meets fails all."""

    async def answered(places: Sequence[int]) -> list[QueryResult]:
        batch = [queries[place] for place in places]
        results = answers_at_hand(snapshot, batch, effort_of) if len(batch) > 1 else None
        if results is None:
            results = await asyncio.gather(*(execute(snapshot, q, compute, effort_of) for q in batch))
        return results

    groups = batches(snapshot, queries)
    # at once, so that what they have to fetch is fetched beside each other
    found = await asyncio.gather(*(answered(group) for group in groups))
    by_place: dict[int, QueryResult] = {}
    for group, results in zip(groups, found, strict=True):
        by_place.update(zip(group, results, strict=True))
    return [by_place[place] for place in range(len(queries))]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A query, since when the view has to be proven current for it, and where its answer goes. was_missing:
    files of a snapshot were gone already once."""

    query: Query
    since_s: float | None
    answer: asyncio.Future[tuple[QueryResult, SearchSnapshot]]
    was_missing: bool = False

    def fail(self, error: Exception) -> None:
        """Let the caller have an error, if it still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Batcher:
    """Answers queries in batches. Used on one event loop."""

    def __init__(
        self,
        snapshot_of: SnapshotOf,
        refreshed: Refreshed,
        is_current_since: Callable[[float], bool],
        effort_of: Callable[[SearchSnapshot], EffortOf],
        compute: Compute,
    ) -> None:
        """is_current_since: whether the view was proven current since a time, so that no proof is needed."""
        self._snapshot_of, self._refreshed = snapshot_of, refreshed
        self._is_current_since, self._effort_of, self._compute = is_current_since, effort_of, compute
        self._coming: dict[Consistency, list[_Waiting]] = {}
        self._ready: dict[int, list[_Waiting]] = {}
        self._waiting: set[_Waiting] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def answer(self, query: Query, since_s: float | None) -> tuple[QueryResult, SearchSnapshot]:
        """The answer to a query that is small (`cost.is_small`), and the snapshot that it is about. since_s:
        see `Namespace.snapshot`.

        Raises what the query meets, which is nobody else's, and Unavailable when the namespace is closed.
        """
        if self._is_closed:
            raise _closed()
        one = _Waiting(query, since_s, asyncio.get_running_loop().create_future())
        coming = self._coming.get(query.consistency)
        if coming is not None:
            coming.append(one)
        else:
            self._coming[query.consistency] = [one]
            self._start(self._run(query.consistency))
        self._waiting.add(one)
        try:
            return await one.answer
        finally:
            self._waiting.discard(one)

    async def close(self) -> None:
        """Give up what is being answered; no more queries are taken."""
        self._is_closed = True
        self._coming.clear()
        _fail(self._waiting, _closed())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="answer queries")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, consistency: Consistency) -> None:
        """Answer those who come until the event loop has read what there is."""
        await asyncio.sleep(0)
        coming = self._coming.pop(consistency, [])
        served: list[_Waiting] = []
        others: list[_Waiting] = []
        for one in coming:
            is_proven = one.since_s is not None and self._is_current_since(one.since_s)
            (served if is_proven else others).append(one)
        if served and others:
            # they need not wait for the proof that the others need
            self._start(self._serve(consistency, served))
        await self._serve(consistency, others or served)

    async def _serve(self, consistency: Consistency, coming: list[_Waiting]) -> None:
        """Answer these by the snapshot that they demand, with others that have come to the same one."""
        try:
            times = [one.since_s for one in coming if one.since_s is not None]
            since_s = max(times) if times and len(times) == len(coming) else None
            snapshot = await self._snapshot_of(consistency, since_s)
            ready = self._ready.get(id(snapshot))
            if ready is not None:
                ready += coming
                return
            self._ready[id(snapshot)] = coming
            try:
                await asyncio.sleep(0)
            finally:
                del self._ready[id(snapshot)]
            await self._answer_all(snapshot, coming)
        except ObjectMissing as error:
            await self._start_over(coming, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            _fail(coming, error)

    async def _answer_all(self, snapshot: SearchSnapshot, waiting: Sequence[_Waiting]) -> None:
        """Answer those who still wait, or have begun to."""
        fitting: list[tuple[_Waiting, Query]] = []
        for one in waiting:
            if not one.answer.done():
                try:
                    fitting.append((one, check(one.query, snapshot.schema)))
                except InvalidRequest as error:
                    one.fail(error)
        groups = batches(snapshot, [query for _, query in fitting])
        for group in groups[:-1]:
            self._start(self._answer(snapshot, [fitting[place] for place in group]))
            # what runs on the event loop lets others pass before the next begins
            await asyncio.sleep(0)
        for group in groups[-1:]:
            await self._answer(snapshot, [fitting[place] for place in group])

    async def _answer(self, snapshot: SearchSnapshot, batch: Sequence[tuple[_Waiting, Query]]) -> None:
        """Answer queries in one go, or tell one what it met."""
        effort_of = self._effort_of(snapshot)
        try:
            results: list[QueryResult] | None
            if len(batch) > 1:
                results = answers_at_hand(snapshot, [query for _, query in batch], effort_of)
            else:
                results = [await execute(snapshot, batch[0][1], self._compute, effort_of)]
        except ObjectMissing as error:
            await self._start_over([one for one, _ in batch], error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            if len(batch) == 1:
                batch[0][0].fail(error)
                return
            results = None
        if results is None:
            # those at hand must not wait for what others need, nor be failed by what they meet
            for pair in batch:
                self._start(self._answer(snapshot, [pair]))
            return
        for (one, _), result in zip(batch, results, strict=True):
            if not one.answer.done():
                one.answer.set_result((result, snapshot))

    async def _start_over(self, waiting: Sequence[_Waiting], error: ObjectMissing) -> None:
        """The snapshot's files were collected under it: one fresh start, never a partial answer."""
        _fail([one for one in waiting if one.was_missing], error)
        left = [one for one in waiting if not one.answer.done()]
        if not left:
            return
        for one in left:
            one.was_missing = True
        try:
            await self._answer_all(await self._refreshed(), left)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is the callers'
            _fail(left, failure)


def _fail(waiting: Iterable[_Waiting], error: Exception) -> None:
    for one in tuple(waiting):
        one.fail(error)


def _closed() -> Unavailable:
    return Unavailable("the namespace is being closed; ask again")

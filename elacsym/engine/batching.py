"""Queries of one namespace that wait at the same time are answered together: one proof that the view is
current, one snapshot, and one search for all that are alike (`query.alike`).

No query is held back for others to come: together goes what was read while the event loop was busy, and what
waited for the same proof. Queries that are not alike, or run in the pool, are answered beside each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass

from elacsym.compute import Compute
from elacsym.errors import InvalidRequest, Unavailable
from elacsym.query.alike import alike
from elacsym.query.ast import Query, QueryResult
from elacsym.query.cost import batch_size
from elacsym.query.execute import EffortOf, execute_alike
from elacsym.query.searchable import SearchSnapshot
from elacsym.query.validate import check
from elacsym.store.cache import ObjectMissing
from elacsym.types import Consistency

# gives a snapshot that is as fresh as demanded, proven since a time; see `Namespace.snapshot`
SnapshotOf = Callable[[Consistency, float | None], Awaitable[SearchSnapshot]]
# gives the newest snapshot, after a look at what is in the store
Refreshed = Callable[[], Awaitable[SearchSnapshot]]


def batches(snapshot: SearchSnapshot, queries: Sequence[Query]) -> list[list[int]]:
    """The places of checked queries in groups of which each is answered in one go."""
    found: list[list[int]] = []
    for group in alike(queries):
        size = batch_size(queries[group[0]], snapshot)
        found += [group[start : start + size] for start in range(0, len(group), size)]
    return found


async def answers(
    snapshot: SearchSnapshot, queries: Sequence[Query], compute: Compute, effort_of: EffortOf
) -> list[QueryResult]:
    """The answers to checked queries, in their order; what any of them meets fails all."""
    groups = batches(snapshot, queries)
    found = await asyncio.gather(
        *(execute_alike(snapshot, [queries[i] for i in group], compute, effort_of) for group in groups)
    )
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
        effort_of: Callable[[SearchSnapshot], EffortOf],
        compute: Compute,
    ) -> None:
        self._snapshot_of, self._refreshed = snapshot_of, refreshed
        self._effort_of, self._compute = effort_of, compute
        self._coming: dict[Consistency, list[_Waiting]] = {}
        self._ready: dict[int, list[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, query: Query, since_s: float | None) -> tuple[QueryResult, SearchSnapshot]:
        """The answer to a query that is small (`cost.is_small`), and the snapshot that it is about. since_s:
        see `Namespace.snapshot`.

        Raises what the query meets, which is nobody else's.
        """
        one = _Waiting(query, since_s, asyncio.get_running_loop().create_future())
        coming = self._coming.get(query.consistency)
        if coming is not None:
            coming.append(one)
        else:
            coming = self._coming[query.consistency] = [one]
            self._start(self._run(query.consistency, coming))
        return await one.answer

    async def close(self) -> None:
        """Give up what is being answered."""
        for waiting in self._coming.values():
            _fail(waiting, _closing())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="answer queries")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, consistency: Consistency, coming: list[_Waiting]) -> None:
        """Answer those who come until the event loop has read what there is."""
        try:
            await asyncio.sleep(0)
            del self._coming[consistency]
            times = [one.since_s for one in coming if one.since_s is not None]
            since_s = max(times) if len(times) == len(coming) else None
            snapshot = await self._snapshot_of(consistency, since_s)
            ready = self._ready.get(id(snapshot))
            if ready is not None:
                # others have come to the same snapshot at the same time
                ready += coming
                return
            self._ready[id(snapshot)] = coming
            try:
                await asyncio.sleep(0)
            finally:
                del self._ready[id(snapshot)]
            await self._answer_all(snapshot, coming)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            _fail(coming, error)
        except asyncio.CancelledError:
            _fail(coming, _closing())
            raise

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
        for group in groups[1:]:
            self._start(self._answer(snapshot, [fitting[place] for place in group]))
            # what runs on the event loop lets others pass before the next begins
            await asyncio.sleep(0)
        for group in groups[:1]:
            await self._answer(snapshot, [fitting[place] for place in group])

    async def _answer(self, snapshot: SearchSnapshot, batch: Sequence[tuple[_Waiting, Query]]) -> None:
        """Answer queries in one go, or tell them what they met."""
        waiting = [one for one, _ in batch]
        try:
            queries = [query for _, query in batch]
            results = await execute_alike(snapshot, queries, self._compute, self._effort_of(snapshot))
            for one, result in zip(waiting, results, strict=True):
                if not one.answer.done():
                    one.answer.set_result((result, snapshot))
        except ObjectMissing as error:
            await self._start_over(waiting, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            if len(batch) == 1:
                waiting[0].fail(error)
            for pair in batch if len(batch) > 1 else ():
                # what one of them met must not become the others'
                self._start(self._answer(snapshot, [pair]))
        except asyncio.CancelledError:
            _fail(waiting, _closing())
            raise

    async def _start_over(self, waiting: Sequence[_Waiting], error: ObjectMissing) -> None:
        """The snapshot's files were collected under it: one fresh start, never a partial answer."""
        _fail([one for one in waiting if one.was_missing], error)
        for one in waiting:
            one.was_missing = True
        try:
            await self._answer_all(await self._refreshed(), waiting)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is the callers'
            _fail(waiting, failure)


def _fail(waiting: Sequence[_Waiting], error: Exception) -> None:
    for one in waiting:
        one.fail(error)


def _closing() -> Unavailable:
    return Unavailable("the namespace is being closed; ask again")

"""The probe: sees at start whether a store honours the two conditional writes.

It works under keys of its own and removes them. It runs through the store as it will be used, so a store that
answers contention with an error passes as long as reading back settles who won. It can show that a store is
unsafe, never that it is safe: what passes has not failed in this run.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from elacsym.clock import new_nonce
from elacsym.errors import StoreUnavailable, UnsafeStore
from elacsym.store.base import UNCHANGED, Etag, ObjectStore
from elacsym.store.wrapper import base_of, identity_of
from elacsym.telemetry import get_logger

RACERS = 32
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProbeCheck:
    """One sentence about the store, and what was seen where it is not true."""

    name: str
    failure: str | None

    @property
    def passed(self) -> bool:
        """Whether the sentence held."""
        return self.failure is None


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What the probe saw. `etag_style`: the spelling that If-Match wants, None where there is but one."""

    identity: str
    etag_style: str | None
    checks: tuple[ProbeCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def require_safe(self) -> None:
        """Raise UnsafeStore, naming what failed, unless everything passed."""
        failed = [f"{check.name}: {check.failure}" for check in self.checks if not check.passed]
        if failed:
            raise UnsafeStore(f"{self.identity} does not honour conditional writes: {'; '.join(failed)}")


async def probe(store: ObjectStore, rng: random.Random) -> ProbeReport:
    """Put `store` to the test, with some 200 small requests.

    Raises StoreUnavailable if it cannot be reached.
    """
    run = _Probe(store, rng)
    checks = []
    try:
        for name, check in run.checks():
            checks.append(ProbeCheck(name, await check()))
    finally:
        await run.clean_up()
    style = getattr(base_of(store), "etag_style", None)
    report = ProbeReport(identity_of(store), style, tuple(checks))
    failed = [check.name for check in checks if not check.passed]
    _log.info("store probed", store=report.identity, etag_style=style, passed=report.passed, failed=failed)
    return report


async def require_safe(store: ObjectStore, rng: random.Random) -> ProbeReport:
    """Probe `store` and raise UnsafeStore unless it passes."""
    report = await probe(store, rng)
    report.require_safe()
    return report


class _Probe:
    """The checks; each returns None, or what was wrong."""

    def __init__(self, store: ObjectStore, rng: random.Random) -> None:
        self._store, self._rng = store, rng
        self._prefix = f"probe/{new_nonce(rng)}/"
        self._keys: list[str] = []

    def checks(self) -> list[tuple[str, Callable[[], Awaitable[str | None]]]]:
        """Name and check, in the order to run them."""
        return [
            ("what was written is read", self._reads_its_write),
            ("an existing object is not created again", self._refuses_second_create),
            ("the current ETag replaces", self._replaces),
            ("a stale ETag is refused", self._refuses_stale_etag),
            ("a missing object is not replaced", self._refuses_missing),
            (f"one of {RACERS} concurrent creators wins", self._one_creator_wins),
            (f"one of {RACERS} concurrent replacements wins", self._one_replacement_wins),
            ("a deleted object can be created again", self._creates_after_delete),
            ("a listing shows what was written", self._lists_its_writes),
        ]

    async def clean_up(self) -> None:
        """Remove every key that was used; what cannot be removed is left, it is small and nobody reads it."""
        try:
            await asyncio.gather(*(self._store.delete(key) for key in self._keys))
        except StoreUnavailable as error:
            _log.warning("probe objects are left behind", prefix=self._prefix, error=str(error))

    def _key(self, name: str) -> str:
        self._keys.append(self._prefix + name)
        return self._keys[-1]

    def _body(self) -> bytes:
        return new_nonce(self._rng).encode()

    async def _created(self, name: str) -> tuple[str, bytes, Etag]:
        key, body = self._key(name), self._body()
        etag = await self._store.put_if_absent(key, body)
        if etag is None:
            raise StoreUnavailable(f"'{key}', a key that was never used, cannot be created")
        return key, body, etag

    async def _reads_its_write(self) -> str | None:
        key, body, etag = await self._created("read")
        found = await self._store.get(key)
        if found is None or found.data != body:
            return "read something else directly after writing"
        if await self._store.get_if_changed(key, etag) is not UNCHANGED:
            return "the ETag of a read differs from that of the write"
        return None

    async def _refuses_second_create(self) -> str | None:
        key, body, _ = await self._created("create")
        if await self._store.put_if_absent(key, self._body()) is not None:
            return "a second create succeeded"
        found = await self._store.get(key)
        return None if found is not None and found.data == body else "a refusal changed the object"

    async def _replaces(self) -> str | None:
        key, _, etag = await self._created("replace")
        body = self._body()
        if await self._store.put_if_match(key, body, etag) is None:
            return "If-Match is refused for the current ETag, quoted or not"
        found = await self._store.get(key)
        return None if found is not None and found.data == body else "read something else after replacing"

    async def _refuses_stale_etag(self) -> str | None:
        key, _, stale = await self._created("stale")
        body = self._body()
        if await self._store.put_if_match(key, body, stale) is None:
            return "If-Match is refused for the current ETag, quoted or not"
        if await self._store.put_if_match(key, self._body(), stale) is not None:
            return "a replacement with a stale ETag succeeded"
        found = await self._store.get(key)
        return (
            None if found is not None and found.data == body else "a refused replacement changed the object"
        )

    async def _refuses_missing(self) -> str | None:
        _, _, etag = await self._created("other")
        missing = self._key("missing")
        if await self._store.put_if_match(missing, self._body(), etag) is not None:
            return "a replacement of nothing succeeded"
        return None if await self._store.get(missing) is None else "a refused replacement created an object"

    async def _one_creator_wins(self) -> str | None:
        key = self._key("create-race")
        return await self._race(key, lambda body: self._store.put_if_absent(key, body))

    async def _one_replacement_wins(self) -> str | None:
        key, _, etag = await self._created("replace-race")
        return await self._race(key, lambda body: self._store.put_if_match(key, body, etag))

    async def _race(self, key: str, put: Callable[[bytes], Awaitable[Etag | None]]) -> str | None:
        bodies = [self._body() for _ in range(RACERS)]
        etags = await asyncio.gather(*(put(body) for body in bodies))
        winners = [body for body, etag in zip(bodies, etags, strict=True) if etag is not None]
        if len(winners) != 1:
            return f"{len(winners)} won"
        found = await self._store.get(key)
        return None if found is not None and found.data == winners[0] else "a loser's bytes are stored"

    async def _creates_after_delete(self) -> str | None:
        key, _, _ = await self._created("deleted")
        await self._store.delete(key)
        if await self._store.get(key) is not None:
            return "read directly after deleting"
        return None if await self._store.put_if_absent(key, self._body()) is not None else "refused"

    async def _lists_its_writes(self) -> str | None:
        created = sorted([(await self._created(f"list/{i}"))[0] for i in range(3)])
        found = [row.key async for row in self._store.list(self._prefix + "list/")]
        return None if found == created else f"listed {len(found)} of {len(created)}"

"""Branches and copies of a namespace: a new manifest that refers to the source's segments and to the unfolded
slots of its log; no data is copied.

Both are the same here. A branch remembers its parent and takes the place of nothing; a copy may take the
place of a namespace that has no documents. Four steps, each one object:

1. The name's manifest announces the incarnation that is to come. A name that was free stays free for
   everybody; a namespace is sealed, so that it can be seen to have no documents and no more are acknowledged.
   Meanwhile the source's collector is reminded that there may be a pin that nobody holds.
2. The source's manifest takes a pin: from then on nothing is collected that this generation refers to.
   The name is listed meanwhile.
3. The announced incarnation is put in place, as it follows from the generation that took the pin.

Whoever dies in between leaves an announcement and perhaps a pin. The source's collector withdraws the
announcement first, which makes the last step impossible, then the pin (`elacsym.upkeep.pins`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from elacsym.clock import new_nonce
from elacsym.engine.namespace import Namespace, Services
from elacsym.errors import InvalidRequest, NamespaceNotFound, OutcomeUnknown, StoreUnavailable
from elacsym.format.manifest import Home, Manifest, Pin, State
from elacsym.log import catalog, transitions
from elacsym.log.branching import branch_of, pin_of
from elacsym.log.manifest_file import ManifestFile
from elacsym.log.transitions import TransitionRefused
from elacsym.telemetry import BRANCHES
from elacsym.types import STRONG, Options


@dataclass(frozen=True, slots=True)
class BranchRequest:
    """What is to be made: namespace `name`. shards: see Options; only a copy may have any."""

    name: str
    is_copy: bool = False
    shards: int | None = None

    @property
    def field(self) -> str:
        """The field of a write that asks for it."""
        return "copy_from_namespace" if self.is_copy else "branch_from_namespace"


@dataclass(frozen=True, slots=True)
class _Pinned:
    """source: the generation that took the pin."""

    source: Manifest
    pin: Pin
    documents: int


async def branch(source: Namespace, request: BranchRequest, documents: Callable[[], Awaitable[int]]) -> int:
    """Make a branch or copy of `source` as of now; the number of its documents.

    documents: counts those of the namespace that is there already, by a strong read. Raises InvalidRequest
    where the name is taken or the source is sharded, NamespaceNotFound, StoreUnavailable and other
    Unavailable: nothing happened; OutcomeUnknown.
    """
    if request.name == source.name:
        raise InvalidRequest(request.field, f"namespace '{source.name}' cannot be made of itself")
    made = _Branch(source.services, source, request, documents)
    count = await made.run()
    BRANCHES.labels("copy" if request.is_copy else "branch").inc()
    return count


class _Branch:
    """One branch on its way."""

    def __init__(
        self,
        services: Services,
        source: Namespace,
        request: BranchRequest,
        documents: Callable[[], Awaitable[int]],
    ) -> None:
        self._services, self._source, self._request = services, source, request
        self._documents = documents
        self._home = Home(request.name, f"{services.rng.getrandbits(64):016x}")
        self._file = ManifestFile(services.store, request.name, services.rng, services.settings.log)

    async def run(self) -> int:
        snapshot = await self._source.snapshot(STRONG)
        if not self._request.is_copy and self._source.view.schema.options.shards is not None:
            raise InvalidRequest(self._request.field, f"namespace '{self._source.name}' is sharded")
        await self._require_free()
        pinned: _Pinned | None = None
        try:
            announced = await self._announce()
            if announced.state is State.SEALED:
                await self._require_empty()
            count = sum(part.rows_live for part in snapshot.parts)
            answer, listed = await asyncio.gather(
                self._pinned(snapshot.inc, snapshot.tail, count),
                catalog.ensure_listed(self._services.store, self._request.name),
                return_exceptions=True,
            )
            if isinstance(answer, BaseException):
                raise answer
            pinned = answer
            if listed is not None:
                raise listed
            await self._install(pinned)
        except BaseException as error:
            stands = await self._is_standing()
            if stands is None and pinned is not None and isinstance(error, StoreUnavailable):
                raise OutcomeUnknown(f"namespace '{self._request.name}' may or may not be there") from error
            if pinned is None or not stands or not isinstance(error, Exception):
                raise
        return pinned.documents

    async def _require_free(self) -> None:
        """Raises InvalidRequest where a look tells already that the name cannot be had."""
        loaded = await self._file.load()
        if loaded is not None and loaded.manifest.state is not State.DELETED:
            self._require_copy()
            await self._require_empty()

    def _require_copy(self) -> None:
        if not self._request.is_copy:
            raise InvalidRequest(self._request.field, f"namespace '{self._request.name}' exists already")

    async def _require_empty(self) -> None:
        try:
            count = await self._documents()
        except NamespaceNotFound:
            return
        if count:
            raise InvalidRequest(
                self._request.field,
                f"namespace '{self._request.name}' has {count} documents; a copy needs one without",
            )

    async def _announce(self) -> Manifest:
        announced, reminded = await asyncio.gather(
            self._file.swap(self._announced),
            catalog.remind(self._services.store, self._source.name),
            return_exceptions=True,
        )
        if isinstance(announced, BaseException):
            raise announced
        if reminded is not None:
            raise reminded
        return announced.manifest

    def _announced(self, before: Manifest | None) -> Manifest:
        if before is not None and before.state is not State.DELETED:
            self._require_copy()
        rng = self._services.rng
        return transitions.announce_successor(
            before,
            name=self._request.name,
            inc=f"{rng.getrandbits(64):016x}",
            nonce=new_nonce(rng),
            successor=self._home.inc,
        )

    async def _pinned(self, inc: str, tail: int, count: int) -> _Pinned:
        """Pin what the source refers to. It is taken over up to slot `tail`, when it had `count` documents;
        further if more is folded by now, which nothing but writes of others since the beginning can have
        caused."""
        found: Manifest | None = None

        def transition(manifest: Manifest) -> Manifest:
            nonlocal found
            if manifest.inc != inc and manifest.state is not State.DELETED:
                raise TransitionRefused(f"namespace '{manifest.name}' was made anew meanwhile")
            after = transitions.add_pin(manifest, pin_of(manifest, self._home, max(tail, manifest.applied)))
            # where an answer was lost, the generation that took the pin is an earlier one than what is read
            if after is not manifest:
                found = after
            return after

        loaded = await self._source.reader.file.update(transition)
        self._source.reader.adopt(loaded.manifest, loaded.etag)
        assert found is not None, "the pin of a new incarnation was there before"
        pin = next(p for p in found.pins if p.holder_inc == self._home.inc)
        return _Pinned(found, pin, count if found.applied <= tail else found.rows_live)

    async def _install(self, pinned: _Pinned) -> None:
        options = self._source.view.schema.options
        clock, rng = self._services.clock, self._services.rng
        if self._request.is_copy:
            options = Options(shards=self._request.shards)
        else:
            options = replace(options, replicas=0, parent=self._source.name)
        made = branch_of(
            pinned.source, pinned.pin, options=options, created_ms=clock.wall_ms(), nonce=new_nonce(rng)
        )
        await self._file.update(lambda before: transitions.install(before, made))

    async def _is_standing(self) -> bool | None:
        """Take back what was done; True where the last step was done all the same, None where nobody knows.

        What the store does not let us take back is left to the source's collector. A pin may stand although
        no answer said so.
        """
        try:
            if await self._file.load() is None:
                return False
            loaded = await self._file.update(
                lambda manifest: transitions.withdraw_successor(manifest, self._home.inc)
            )
            if loaded.manifest.inc == self._home.inc:
                return True
            if loaded.manifest.state is State.DELETED and not loaded.manifest.successor:
                await catalog.unlist(self._services.store, self._file)
            empty = Pin(self._home.name, self._home.inc, self._source.reader.manifest.inc, ())
            await self._source.reader.file.update(lambda m: transitions.narrow_pin(m, empty))
        except StoreUnavailable:
            with suppress(StoreUnavailable):
                await catalog.remind(self._services.store, self._source.name)
            return None
        return False

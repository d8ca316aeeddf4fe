"""Reads and compare-and-swaps one namespace's manifest.

A swap whose answer was lost is recognised by its nonce, or by its digest in the manifest that replaced it;
what neither shows is left to the transition, which returns its argument where the change is already in.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from elacsym.clock import full_jitter_s, new_nonce
from elacsym.errors import CorruptObject, NamespaceNotFound, StoreUnavailable
from elacsym.format.keys import NamespaceKeys
from elacsym.format.manifest import MANIFEST_BYTES_MAX, Manifest, digest_of
from elacsym.log.settings import DEFAULTS, LogSettings
from elacsym.log.transitions import TransitionRefused
from elacsym.store.base import Etag, ObjectStore, StoredObject, Unchanged
from elacsym.telemetry import RETRIES


@dataclass(frozen=True, slots=True)
class Loaded:
    """A manifest, the ETag of the version it was read from or written as, and the digest of its bytes."""

    manifest: Manifest
    etag: Etag
    digest: str


@dataclass(frozen=True, slots=True)
class _Sent:
    base: Etag | None
    manifest: Manifest
    data: bytes
    digest: str


class ManifestFile:
    """The manifest of namespace `name`."""

    def __init__(
        self, store: ObjectStore, name: str, rng: random.Random, settings: LogSettings = DEFAULTS
    ) -> None:
        self.name = name
        self.key = NamespaceKeys(name).manifest
        self._store, self._rng, self._settings = store, rng, settings

    async def load(self) -> Loaded | None:
        """The manifest (a tombstone included), or None where the name was never used. One request."""
        found = await self._store.get(self.key)
        return None if found is None else self._loaded(found)

    async def load_if_changed(self, etag: Etag) -> Loaded | Unchanged | None:
        """UNCHANGED if the manifest still has `etag`, else as `load`. One request."""
        found = await self._store.get_if_changed(self.key, etag)
        return self._loaded(found) if isinstance(found, StoredObject) else found

    async def update(self, transition: Callable[[Manifest], Manifest]) -> Loaded:
        """Swap in `transition(manifest)`; the manifest that holds the change: the one written, or a later
        one.

        Raises what the transition raises, NamespaceNotFound where there is no manifest, and StoreUnavailable
        when the attempts are used up: the change may then still be applied.
        """

        def existing(manifest: Manifest | None) -> Manifest:
            if manifest is None:
                raise NamespaceNotFound(self.name)
            return transition(manifest)

        return await self.swap(existing)

    async def swap(self, transition: Callable[[Manifest | None], Manifest]) -> Loaded:
        """As `update`, for transitions that may also make the first manifest out of None."""
        sent: _Sent | None = None
        cause: StoreUnavailable | None = None
        for attempt in range(self._settings.swap_attempts):
            if attempt:
                RETRIES.labels(operation="manifest").inc()
                await asyncio.sleep(self._pause_s(attempt - 1))
            try:
                base = await self.load()
                if sent is not None and base is not None and _holds(base, sent):
                    return base
                if sent is None or sent.base != (None if base is None else base.etag):
                    after = transition(None if base is None else base.manifest)
                    if base is not None and after is base.manifest:
                        return base
                    sent = self._stamp(base, after)
                # an unanswered swap is repeated with the same bytes, so that a late first one does no harm
                etag = await self._put(sent)
            except StoreUnavailable as error:
                cause = error
                continue
            if etag is not None:
                return Loaded(sent.manifest, etag, sent.digest)
        raise StoreUnavailable(f"{self.key}: no swap in {self._settings.swap_attempts} attempts") from cause

    async def _put(self, sent: _Sent) -> Etag | None:
        if sent.base is None:
            return await self._store.put_if_absent(self.key, sent.data)
        return await self._store.put_if_match(self.key, sent.data, sent.base)

    def _stamp(self, base: Loaded | None, after: Manifest) -> _Sent:
        after = replace(
            after,
            nonce=new_nonce(self._rng),
            generation=0 if base is None else base.manifest.generation + 1,
            previous="" if base is None else base.digest,
        )
        data = after.encode()
        if len(data) > MANIFEST_BYTES_MAX:
            raise TransitionRefused(
                f"{self.key}: {len(data)} bytes is over the limit of {MANIFEST_BYTES_MAX}"
            )
        return _Sent(None if base is None else base.etag, after, data, digest_of(data))

    def _loaded(self, found: StoredObject) -> Loaded:
        manifest = Manifest.decode(found.data, key=self.key)
        if manifest.name != self.name:
            raise CorruptObject(self.key, f"manifest of namespace '{manifest.name}'")
        return Loaded(manifest, found.etag, digest_of(found.data))

    def _pause_s(self, attempt: int) -> float:
        settings = self._settings
        return full_jitter_s(self._rng, attempt, base_s=settings.retry_base_s, cap_s=settings.retry_cap_s)


def _holds(base: Loaded, sent: _Sent) -> bool:
    return base.manifest.nonce == sent.manifest.nonce or base.manifest.previous == sent.digest

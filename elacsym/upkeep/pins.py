"""The pins of one namespace: those that it has in others are released, those that others have in it are
checked.

A branch releases what it does not refer to any more, and what no branch of it refers to; this is part of its
own collection, so a crash only delays it. A pin whose branch never came to be is withdrawn by the namespace
that it stands in. Nobody can be waiting for it then: the branch's announcement, without which it cannot be
put in place, is withdrawn before. An announcement gets as much time as a collector gives to garbage.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import partial

from elacsym.clock import Clock
from elacsym.errors import NamespaceNotFound
from elacsym.format.manifest import Hold, Manifest, Pin
from elacsym.log import catalog, transitions
from elacsym.log.branching import still_needed
from elacsym.log.manifest_file import ManifestFile
from elacsym.store.base import ObjectStore

_Holder = tuple[str, str]

_ASKED_AT_ONCE = 16


class Pins:
    """Looks after the pins of namespace `name`. Every method may raise StoreUnavailable: it is simply called
    again later."""

    def __init__(
        self, store: ObjectStore, name: str, clock: Clock, rng: random.Random, *, grace_s: float
    ) -> None:
        self._store, self._name, self._clock, self._rng, self._grace_s = store, name, clock, rng, grace_s
        self._announced_s: dict[_Holder, float] = {}
        self._confirmed: set[_Holder] = set()

    async def release(self, manifest: Manifest) -> None:
        """Release what `manifest` holds of others and does not need."""
        for hold in manifest.holds:
            needed = Hold(hold.name, still_needed(manifest, hold))
            if needed == hold:
                continue
            # there first: what is forgotten here would never be released
            try:
                await self._file(hold.name).update(partial(transitions.narrow_pin, pin=needed.pin))
            except NamespaceNotFound:
                pass
            else:
                await catalog.remind(self._store, hold.name)
            await self._file(self._name).update(partial(transitions.narrow_hold, hold=needed))

    async def check(self, manifest: Manifest) -> int:
        """Withdraw the pins of branches that will never be; how many are not known to be held yet."""
        standing = {(pin.holder, pin.holder_inc) for pin in manifest.pins}
        self._confirmed &= standing
        self._announced_s = {key: since for key, since in self._announced_s.items() if key in standing}
        # a holder that exists releases its pin by itself: once seen is enough
        unknown = [pin for pin in manifest.pins if (pin.holder, pin.holder_inc) not in self._confirmed]
        waiting = 0
        for start in range(0, len(unknown), _ASKED_AT_ONCE):
            some = unknown[start : start + _ASKED_AT_ONCE]
            for pin, is_held in zip(some, await asyncio.gather(*map(self._is_held, some)), strict=True):
                waiting += await self._is_waiting(pin, is_held=is_held)
        return waiting

    async def _is_waiting(self, pin: Pin, *, is_held: bool) -> bool:
        """Whether the pin may still come to be held; one that may not is withdrawn."""
        key, now_s = (pin.holder, pin.holder_inc), self._clock.monotonic_s()
        if is_held:
            self._confirmed.add(key)
            return False
        if now_s - self._announced_s.setdefault(key, now_s) < self._grace_s:
            return True
        await self._withdraw(pin)
        return False

    async def _is_held(self, pin: Pin) -> bool:
        loaded = await self._file(pin.holder).load()
        holds = () if loaded is None else loaded.manifest.holds
        return any(hold.name == self._name and hold.pin.is_of(pin) for hold in holds)

    async def _withdraw(self, pin: Pin) -> None:
        withdraw = partial(transitions.withdraw_successor, successor=pin.holder_inc)
        try:
            holder = (await self._file(pin.holder).update(withdraw)).manifest
        except NamespaceNotFound:
            holder = None
        if holder is not None and any(h.name == self._name and h.pin.is_of(pin) for h in holder.holds):
            return  # put in place a moment ago
        empty = replace(pin, jobs=(), slots=None)
        await self._file(self._name).update(partial(transitions.narrow_pin, pin=empty))

    def _file(self, name: str) -> ManifestFile:
        return ManifestFile(self._store, name, self._rng)

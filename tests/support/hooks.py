"""A store that calls a hook before each mutation: for races and crashes at a chosen step."""

from __future__ import annotations

from elacsym.store.wrapper import StoreWrapper


class HookedStore(StoreWrapper):
    """Passes everything to `inner`; `await hook(operation, key)` runs before each mutation and may raise."""

    def __init__(self, inner, hook=None):
        super().__init__(inner)
        self.hook = hook

    async def _called(self, operation: str, key: str) -> None:
        if self.hook is not None:
            await self.hook(operation, key)

    async def put_if_absent(self, key, data):
        await self._called("put_if_absent", key)
        return await self.inner.put_if_absent(key, data)

    async def put_if_match(self, key, data, etag):
        await self._called("put_if_match", key)
        return await self.inner.put_if_match(key, data, etag)

    async def delete(self, key):
        await self._called("delete", key)
        await self.inner.delete(key)

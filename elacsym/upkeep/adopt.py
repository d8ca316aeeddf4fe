"""Finds the tails that dead nodes left behind.

A process folds the namespaces that it has open. When others die, or leave, some of theirs fall to this one:
it looks once at all that it owns and does not have open, and opens those with a tail that nobody has folded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from elacsym.engine.database import Database
from elacsym.errors import ElacsymError, NamespaceNotFound
from elacsym.format import keys
from elacsym.format.manifest import State
from elacsym.log.manifest_file import ManifestFile
from elacsym.telemetry import ADOPTIONS, get_logger
from elacsym.upkeep.duties import Duties

_log = get_logger("upkeep")

# a look is two small requests
_LOOKS_PER_S = 50.0
_UNDER_WAY_MAX = 8
_RETRY_S = 30.0
# names that are passed over without letting others run
_NAMES_AT_ONCE = 256


class Adoption:
    """Looks once after every change of what this process owns."""

    def __init__(
        self,
        database: Database,
        duties: Duties,
        fold: Callable[[str], None],
        is_busy: Callable[[str], bool],
        *,
        settled_s: float = 5.0,
    ) -> None:
        """fold: queues a fold of an open namespace. is_busy: whether one waits or runs. settled_s: changes
        that last shorter are not looked after."""
        self._database, self._duties, self._fold, self._is_busy = database, duties, fold, is_busy
        self._settled_s = settled_s
        self._looked_at: Hashable | None = None
        self._under_way: set[str] = set()

    async def run(self) -> None:
        """Until it is cancelled. Does nothing where nothing ever changes."""
        while (view := self._duties.view) is not None:
            await asyncio.sleep(self._settled_s)
            if view == self._looked_at or view != self._duties.view:
                continue
            try:
                await self.look()
            except ElacsymError as error:
                _log.warning("namespaces could not be looked at", code=error.code, reason=str(error))
                await asyncio.sleep(_RETRY_S)
            except Exception:  # noqa: BLE001 - the supervisor of background work
                # it outlives whatever a look meets; the failure is counted and logged
                ADOPTIONS.labels("failed").inc()
                _log.exception("looking after namespaces failed")
                await asyncio.sleep(_RETRY_S)
            else:
                self._looked_at = view

    async def look(self) -> None:
        """One look at everything that is owned and not open. Raises StoreUnavailable."""
        services = self._database.services
        hints = [info.key async for info in services.store.list(keys.NAMES_PREFIX)]
        opened = {namespace.name for namespace in self._database.opened()}
        for number, hint in enumerate(hints, 1):
            name = keys.name_of_hint(hint)
            if name is not None and name not in opened and self._duties.owns(name):
                await self._room()
                await self._adopt(name)
                await asyncio.sleep(1 / _LOOKS_PER_S)
            elif number % _NAMES_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _room(self) -> None:
        """Wait until few enough folds are under way."""
        while True:
            self._under_way = {name for name in self._under_way if self._is_busy(name)}
            if len(self._under_way) < _UNDER_WAY_MAX:
                return
            await asyncio.sleep(1 / _LOOKS_PER_S)

    async def _adopt(self, name: str) -> None:
        try:
            if not await self._has_tail(name):
                ADOPTIONS.labels("clean").inc()
                return
            await self._database.namespace(name)
        except NamespaceNotFound:
            return
        except ElacsymError as error:
            # one namespace's trouble must not keep the others from being looked at
            ADOPTIONS.labels("failed").inc()
            _log.warning("namespace not looked after", namespace=name, code=error.code, reason=str(error))
            return
        ADOPTIONS.labels("folded").inc()
        self._under_way.add(name)
        self._fold(name)

    async def _has_tail(self, name: str) -> bool:
        services = self._database.services
        loaded = await ManifestFile(services.store, name, services.rng, services.settings.log).load()
        if loaded is None or loaded.manifest.state is not State.ACTIVE:
            return False
        manifest = loaded.manifest
        slot = manifest.slot_key(manifest.applied)
        return await services.store.get_ranges(slot, [(0, 1)]) is not None

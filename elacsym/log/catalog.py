"""Which namespaces there are: create, delete, list.

The manifest alone decides whether a namespace exists. The listing hint is written before the manifest and
removed after its deletion, so a crash leaves a hint without a namespace, which listing skips. A hint is only
removed after a tombstone was seen; so whoever takes a name again writes it again, after the tombstone is
gone or says who is going to take its place.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from itertools import islice

from elacsym.clock import Clock, new_nonce
from elacsym.errors import CorruptObject, InvalidRequest, NamespaceNotFound
from elacsym.format import frame, keys
from elacsym.format.manifest import Manifest, State
from elacsym.log import transitions
from elacsym.log.manifest_file import Loaded, ManifestFile
from elacsym.log.settings import DEFAULTS, LogSettings
from elacsym.store.base import ObjectStore
from elacsym.types import Schema

PAGE_SIZE_MAX = 1_000
_VERIFIED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Created:
    """The manifest that stands after `create`; `is_new` tells whether this call made the namespace."""

    loaded: Loaded
    is_new: bool


async def create(
    store: ObjectStore,
    name: str,
    schema: Schema,
    *,
    clock: Clock,
    rng: random.Random,
    settings: LogSettings = DEFAULTS,
) -> Created:
    """Make a namespace, or find that it exists, whatever its schema. Raises InvalidRequest (bad name)."""
    check_name(name)
    await ensure_listed(store, name)
    inc = f"{rng.getrandbits(64):016x}"

    def make(before: Manifest | None) -> Manifest:
        return transitions.create(
            before, name=name, inc=inc, nonce=new_nonce(rng), schema=schema, created_ms=clock.wall_ms()
        )

    loaded = await ManifestFile(store, name, rng, settings).swap(make)
    is_new = loaded.manifest.inc == inc
    if is_new and loaded.manifest.generation:
        # whoever saw the tombstone may have removed the hint since
        await ensure_listed(store, name)
    return Created(loaded, is_new)


async def delete(
    store: ObjectStore, name: str, *, rng: random.Random, settings: LogSettings = DEFAULTS
) -> Manifest:
    """Delete a namespace: no write is acknowledged from here on. Returns the tombstone.

    Raises NamespaceNotFound.
    """
    check_name(name)
    file = ManifestFile(store, name, rng, settings)
    loaded = await file.load()
    if loaded is None or loaded.manifest.state is State.DELETED:
        raise NamespaceNotFound(name)
    # before the tombstone: a crash between the two must not leave data that no collector is reminded of
    await remind(store, name)
    tombstone = (await file.update(transitions.tombstone)).manifest
    await unlist(store, file)
    return tombstone


async def unlist(store: ObjectStore, file: ManifestFile) -> None:
    """Remove the listing hint of a namespace that does not exist; a hint that is needed is there again.

    An incarnation that was announced meanwhile needs it, too: its hint may have been written before.
    """
    await store.delete(keys.name_hint(file.name))
    again = await file.load()
    if again is not None and (again.manifest.state is not State.DELETED or again.manifest.successor):
        await ensure_listed(store, file.name)


async def remind(store: ObjectStore, name: str) -> None:
    """Make sure that a collector looks at the namespace, whether it exists or not."""
    await store.put_if_absent(keys.dropped_hint(name), frame.encode(frame.Kind.NAME, name.encode()))


async def list_names(
    store: ObjectStore, *, prefix: str = "", cursor: str | None = None, page_size: int = 100
) -> tuple[list[str], str | None]:
    """Up to `page_size` names that begin with `prefix`, and the cursor of the next page (None at the end).

    Names are in the order of their bytes.
    """
    if not 1 <= page_size <= PAGE_SIZE_MAX:
        raise InvalidRequest("page_size", f"{page_size} where 1 to {PAGE_SIZE_MAX} are allowed")
    listed = store.list(keys.NAMES_PREFIX + keys.encode_name(prefix.lower()))
    hinted = [keys.name_of_hint(info.key) async for info in listed]
    # the order of the hints' keys ignores case first
    candidates = iter(
        sorted(
            name
            for name in hinted
            if name is not None and name.startswith(prefix) and (cursor is None or name > cursor)
        )
    )
    names: list[str] = []
    # one more than a page tells whether there is another
    while len(names) <= page_size and (chunk := list(islice(candidates, _VERIFIED_AT_ONCE))):
        exist = await asyncio.gather(*(_exists(store, name) for name in chunk))
        names += [name for name, found in zip(chunk, exist, strict=True) if found]
    page = names[:page_size]
    return page, page[-1] if len(names) > page_size else None


async def ensure_listed(store: ObjectStore, name: str) -> None:
    """Write the listing hint if it is missing."""
    await store.put_if_absent(keys.name_hint(name), frame.encode(frame.Kind.NAME, name.encode()))


def check_name(name: str) -> None:
    """Raises InvalidRequest unless `name` may name a namespace."""
    if not keys.is_valid_name(name):
        raise InvalidRequest("namespace", f"{name[:200]!r} does not match [A-Za-z0-9-_.]{{1,128}}")


async def _exists(store: ObjectStore, name: str) -> bool:
    found = await store.get(keys.NamespaceKeys(name).manifest)
    if found is None:
        return False
    try:
        return Manifest.decode(found.data, key=keys.NamespaceKeys(name).manifest).state is not State.DELETED
    except CorruptObject:
        # damage in one namespace must not hide the others; whoever opens it is told
        return True

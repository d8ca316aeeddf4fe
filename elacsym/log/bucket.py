"""The bucket's own object: format version and bucket id, written once by the first node that comes.

`cluster.json` is a frame around JSON. A later format raises the version; a node that does not know it must
not start.
"""

from __future__ import annotations

import random

import orjson

from elacsym.clock import new_nonce
from elacsym.errors import CorruptObject, StoreUnavailable, UnsafeStore
from elacsym.format import frame, keys
from elacsym.store.base import ObjectStore

FORMAT = 1


async def ensure(store: ObjectStore, rng: random.Random) -> str:
    """The bucket's id; a new bucket gets one. Raises UnsafeStore for a format that this release does not
    know."""
    body = orjson.dumps({"format": FORMAT, "bucket": new_nonce(rng)})
    if (found := await store.get(keys.CLUSTER)) is None:
        await store.put_if_absent(keys.CLUSTER, frame.encode(frame.Kind.CLUSTER, body))
        found = await store.get(keys.CLUSTER)
    if found is None:
        raise StoreUnavailable(f"{keys.CLUSTER} was written and is not there")
    try:
        value = orjson.loads(frame.decode(found.data, key=keys.CLUSTER, kind=frame.Kind.CLUSTER))
        if value["format"] != FORMAT:
            raise UnsafeStore(f"{keys.CLUSTER}: format {value['format']} where this release knows {FORMAT}")
        return str(value["bucket"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObject(keys.CLUSTER, f"not a bucket description: {error}") from error

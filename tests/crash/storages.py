"""Where the servers of crash tests keep their data: a folder, or a bucket of an S3 server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.s3_servers import S3Server

from elacsym.clock import SystemClock, system_random
from elacsym.store.base import ObjectStore
from elacsym.store.open import StoreOptions, open_store


@dataclass(frozen=True)
class Storage:
    """A value for `ELACSYM_STORAGE`, and what a server's environment needs for it."""

    url: str
    environment: Mapping[str, str] = field(default_factory=dict)
    options: StoreOptions = field(default_factory=StoreOptions)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[ObjectStore]:
        """The storage as a store of this process."""
        store = open_store(self.url, options=self.options, clock=SystemClock(), rng=system_random())
        try:
            yield store
        finally:
            await store.close()


def in_folder(folder: Path) -> Storage:
    """A folder of files."""
    return Storage(str(folder))


def in_bucket(server: S3Server, prefix: str) -> Storage:
    """Objects of a bucket below a prefix."""
    options = StoreOptions(
        endpoint_url=server.endpoint_url,
        region=server.region,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )
    return Storage(f"s3://{server.bucket}/{prefix}", server.environment, options)

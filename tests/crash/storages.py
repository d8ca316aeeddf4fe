"""Where the servers of crash tests keep their data: a folder, or a bucket of an S3 server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crash.processes import moto_process
from support.ceph import Ceph
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


@contextlib.contextmanager
def empty(kind: str, folder: Path, prefix: str) -> Iterator[Storage]:
    """An empty storage for as long as the block runs: `local` a folder, `ceph` a bucket of Ceph, else one of
    moto."""
    if kind == "local":
        yield in_folder(folder / "data")
    elif kind == "ceph":
        (folder / "ceph").mkdir()
        with Ceph(folder / "ceph") as ceph:
            server = S3Server(ceph.endpoint_url, ceph.access_key_id, ceph.secret_access_key)
            server.create_bucket()
            yield in_bucket(server, prefix)
    else:
        with moto_process() as moto:
            yield in_bucket(moto.server, prefix)

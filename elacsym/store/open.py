"""`open_store`: from a URL to a store with its wrappers; the one place where they are put together.

    ResolvingStore > MeteredStore > LocalStore | S3Store | MemoryStore

Metering is inside: it counts the requests that are really sent. Retries are outside.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from elacsym.clock import Clock
from elacsym.errors import InvalidRequest
from elacsym.store.base import ObjectStore
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.metered import MeteredStore
from elacsym.store.resolve import Budget, ResolvingStore
from elacsym.store.wrapper import StoreWrapper

_SETTING = "ELACSYM_STORAGE"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-_]{1,253}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What the URL does not say.

    The S3 fields that are None are looked up by the S3 library in its usual places.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0
    connections: int = 64
    local_threads: int = 16
    budget: Budget = field(default_factory=Budget)


def open_store(
    url: str, *, options: StoreOptions | None = None, clock: Clock, rng: random.Random
) -> ObjectStore:
    """The store at `url`, metered, with retries and resolution.

    url: `./folder`, `/folder`, `file:///folder`, `s3://bucket/prefix` or `memory://`. `rng` must differ
    between processes. Nothing is sent to a bucket yet. Raises InvalidRequest naming ELACSYM_STORAGE for any
    other url, and StoreUnavailable for a folder that cannot be used.
    """
    options = options or StoreOptions()
    base = _base(url, options, clock, rng)
    return ResolvingStore(MeteredStore(base), clock=clock, rng=rng, budget=options.budget)


def metered_of(store: ObjectStore) -> MeteredStore:
    """The counting wrapper inside what `open_store` gave."""
    while isinstance(store, StoreWrapper):
        if isinstance(store, MeteredStore):
            return store
        store = store.inner
    raise TypeError(f"{type(store).__name__} is not metered")


def _base(url: str, options: StoreOptions, clock: Clock, rng: random.Random) -> ObjectStore:
    scheme, separator, _ = url.partition("://")
    if not url.strip() or "\0" in url:
        raise InvalidRequest(_SETTING, "a folder, file:///folder or s3://bucket/prefix is needed")
    if not separator:
        return LocalStore(Path(url).expanduser(), threads=options.local_threads, rng=rng)
    parts = urlsplit(url)
    if scheme == "memory":
        return MemoryStore(clock=clock)
    if scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise InvalidRequest(_SETTING, f"'{url}' needs three slashes: file:///folder")
        return LocalStore(Path(unquote(parts.path)), threads=options.local_threads, rng=rng)
    if scheme == "s3":
        return _s3(url, options)
    raise InvalidRequest(
        _SETTING, f"'{scheme}://' is not known; use a folder, file:///folder or s3://bucket/prefix"
    )


def _s3(url: str, options: StoreOptions) -> ObjectStore:
    from elacsym.store.s3 import (
        S3Store,  # only here: importing the S3 library takes longer than the rest together
    )

    bucket, _, path = url.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidRequest(_SETTING, f"'{url}' names no bucket; use s3://bucket/prefix")
    prefix = path.strip("/")
    return S3Store(
        bucket,
        f"{prefix}/" if prefix else "",
        endpoint_url=options.endpoint_url,
        region=options.region,
        access_key_id=options.access_key_id,
        secret_access_key=options.secret_access_key,
        session_token=options.session_token,
        profile=options.profile,
        connect_timeout_s=options.connect_timeout_s,
        read_timeout_s=options.read_timeout_s,
        connections=options.connections,
    )

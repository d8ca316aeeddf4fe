from __future__ import annotations

import random

import pytest

from elacsym.clock import SystemClock
from elacsym.errors import InvalidRequest, StoreUnavailable
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.open import StoreOptions, metered_of, open_store
from elacsym.store.resolve import ResolvingStore
from elacsym.store.s3 import S3Store
from elacsym.store.wrapper import base_of, identity_of


def opened(url: str, **options):
    return open_store(url, options=StoreOptions(**options), clock=SystemClock(), rng=random.Random(0))


async def test_folders_open_as_local_stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("./a", "b/c", str(tmp_path / "d"), f"file://{tmp_path}/with%20space"):
        store = opened(url)
        assert isinstance(base_of(store), LocalStore)
        await store.put_if_absent("k", b"1")
        await store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "d", "with space"}


async def test_a_memory_url_opens_a_memory_store():
    assert isinstance(base_of(opened("memory://")), MemoryStore)


async def test_a_bucket_url_opens_an_s3_store_below_its_prefix():
    for url, prefix in [
        ("s3://bucket", ""),
        ("s3://bucket/", ""),
        ("s3://bucket/a/b", "a/b/"),
        ("s3://bucket/a/", "a/"),
    ]:
        base = base_of(opened(url, endpoint_url="http://127.0.0.1:1"))
        assert isinstance(base, S3Store)
        assert (base.bucket, base.prefix) == ("bucket", prefix)
    assert identity_of(opened("s3://bucket/a")) == "s3://bucket/a/"


@pytest.mark.parametrize(
    "url", ["", " ", "gs://bucket/a", "s3://", "s3:///a", "file://host/a", "file://", "http://x", "a\0b"]
)
def test_a_url_that_names_no_store_is_refused_naming_the_setting(url):
    with pytest.raises(InvalidRequest, match="ELACSYM_STORAGE"):
        opened(url)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        opened(str(tmp_path / "file" / "below"))


async def test_what_is_opened_retries_outside_and_counts_inside():
    store = opened("memory://")
    assert isinstance(store, ResolvingStore)
    await store.put_if_absent("a", b"1")
    await store.put_if_absent("a", b"2")
    assert metered_of(store).counts == {"put_if_absent": 2, "get": 1}


def test_secrets_are_not_shown():
    assert "hush" not in repr(StoreOptions(secret_access_key="hush", session_token="hush"))

from __future__ import annotations

import asyncio
import gc
import random
import socket

import pytest
from contract import ObjectStoreContract

from elacsym.clock import SystemClock
from elacsym.errors import StoreUnavailable
from elacsym.store.base import StoredObject
from elacsym.store.metered import MeteredStore
from elacsym.store.probe import probe
from elacsym.store.resolve import ResolvingStore
from elacsym.store.s3 import S3Store


def resolving(store: S3Store) -> ResolvingStore:
    return ResolvingStore(MeteredStore(store), clock=SystemClock(), rng=random.Random(0))


async def closing(store):
    yield store
    await store.close()
    gc.collect()  # an unclosed session would warn here, and warnings are errors


class TestS3StoreOnMoto(ObjectStoreContract):
    @pytest.fixture
    async def store(self, moto_server):
        async for store in closing(moto_server.store("some/prefix/")):
            yield store


@pytest.mark.ceph
class TestS3StoreOnCeph(ObjectStoreContract):
    """Ceph answers the losers of a race with a 500, so that who won is known only by reading back."""

    @pytest.fixture
    async def store(self, ceph_server):
        async for store in closing(resolving(ceph_server.store("some/prefix/"))):
            yield store


@pytest.fixture
async def moto_store(moto_server):
    async for store in closing(moto_server.store("behaviour/")):
        yield store


async def test_the_probe_accepts_moto_and_finds_that_it_wants_quoted_etags(moto_server):
    store = resolving(moto_server.store("probed/"))
    report = await probe(store, random.Random(0))
    report.require_safe()
    assert report.etag_style == "quoted"
    assert report.identity.startswith(f"s3://{moto_server.bucket}/probed/ at {moto_server.endpoint_url} (")
    assert [row async for row in store.list("")] == []
    await store.close()


@pytest.mark.ceph
async def test_the_probe_accepts_ceph_and_finds_its_spelling_of_etags(ceph_server):
    store = resolving(ceph_server.store("probed/"))
    report = await probe(store, random.Random(0))
    report.require_safe()
    assert report.etag_style == "unquoted"
    assert [row async for row in store.list("")] == []
    await store.close()


async def test_objects_of_another_prefix_are_not_seen(moto_server, moto_store):
    other = moto_server.store("behaviour-too/")
    await other.put_if_absent("a", b"other's")
    assert await moto_store.get("a") is None
    assert "a" not in [row.key async for row in moto_store.list("")]
    await other.close()


async def test_a_listing_of_several_pages_is_complete_and_ordered(moto_server):
    store = moto_server.store("behaviour/", page_rows=7)
    names = [f"pages/{i:02}" for i in range(30)]
    await asyncio.gather(*(store.put_if_absent(name, b"1") for name in names))
    assert [row.key async for row in store.list("pages/")] == names
    await store.close()


async def test_an_unknown_bucket_is_an_error_and_not_a_missing_object(moto_server):
    store = S3Store(
        "no-such-bucket",
        endpoint_url=moto_server.endpoint_url,
        region="us-east-1",
        access_key_id="test",
        secret_access_key="test",
    )
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        await store.get("a")
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        await store.put_if_absent("a", b"1")
    await store.close()


async def test_a_server_that_is_not_there_is_an_error():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        store = S3Store(
            "bucket",
            endpoint_url=f"http://127.0.0.1:{reserved.getsockname()[1]}",
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
            connect_timeout_s=0.5,
        )
        with pytest.raises(StoreUnavailable, match="get 'a'"):
            await store.get("a")
        await store.close()


class Proxy:
    """A TCP proxy that can cut a connection between the answer of the server and the client."""

    def __init__(self, server_url: str) -> None:
        self.host, port = server_url.removeprefix("http://").split(":")
        self.port, self.cuts = int(port), 0

    async def __aenter__(self):
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def _accept(self, reader, writer) -> None:
        self._writers.append(writer)
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader, writer) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(self.host, self.port)
        self._writers.append(upstream_writer)
        self._tasks.add(asyncio.create_task(self._forward(reader, upstream_writer)))
        while data := await upstream_reader.read(65536):
            if self.cuts and data.startswith(b"HTTP/1.1 200"):
                self.cuts -= 1
                break
            writer.write(data)
        writer.close()
        upstream_writer.close()

    async def _forward(self, reader, upstream_writer) -> None:
        while data := await reader.read(65536):
            upstream_writer.write(data)
        upstream_writer.close()


@pytest.mark.parametrize("cuts", [1, 2, 3])
async def test_a_create_whose_response_the_network_dropped_is_recognised_as_ours(moto_server, cuts):
    async with Proxy(moto_server.endpoint_url) as proxy:
        raw = S3Store(
            moto_server.bucket,
            f"cut-{cuts}/",
            endpoint_url=proxy.url,
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
            read_timeout_s=5,
        )
        store = resolving(raw)
        await store.put_if_absent("warm", b"1")
        proxy.cuts = cuts
        etag = await store.put_if_absent("a", b"ours")
        assert await store.get("a") == StoredObject(b"ours", etag)
        assert proxy.cuts == 0
        await store.close()
        gc.collect()


@pytest.mark.parametrize(("gap_bytes", "requests"), [(0, 3), (11, 2), (1000, 1)])
async def test_ranges_nearer_than_the_gap_are_one_request(moto_store, monkeypatch, gap_bytes, requests):
    key, data = f"gaps{gap_bytes}", bytes(range(256))
    await moto_store.put_if_absent(key, data)
    spans = []
    get_span = moto_store._get_span
    monkeypatch.setattr(moto_store, "_get_span", lambda k, span: spans.append(span) or get_span(k, span))
    ranges = [(200, 210), (0, 10), (20, 30)]
    assert await moto_store.get_ranges(key, ranges, gap_bytes=gap_bytes) == [data[s:e] for s, e in ranges]
    assert len(spans) == requests


async def test_many_far_ranges_leave_connections_to_others(moto_store, monkeypatch):
    under_way, most = 0, 0

    async def get_span(key, span):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return "etag", bytes(span[1] - span[0])

    monkeypatch.setattr(moto_store, "_get_span", get_span)
    ranges = [(i * 100, i * 100 + 1) for i in range(500)]
    assert await moto_store.get_ranges("k", ranges, gap_bytes=1) == [b"\0"] * 500
    assert most == 32

"""S3Store: the object store protocol on an S3 bucket; the only module that knows aiobotocore.

Every mutation is one `put_object` or `delete_object`, never multipart: a multipart upload would lose the
condition. The client's calls are made directly, because a parameter that it does not know is then an error,
where fsspec's layer drops it silently. Nothing is retried here, and still a request may be sent twice
(aiohttp repeats one on a dropped connection), so ResolvingStore goes on top.

What a failed request means is read from the error code alone:

    PreconditionFailed                                   refused ConditionalRequestConflict,
    ConcurrentModification   refused or not: StoreUnavailable, resolved by reading back NoSuchKey
    missing anything else, no answer, a body cut short           StoreUnavailable

Some stores compare If-Match with the ETag as they return it, in quotes, others without the quotes. Until a
replacement has succeeded, one that is refused although the ETag is current is sent again in the other
spelling.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from elacsym.errors import StoreUnavailable, UnsafeStore
from elacsym.store.base import UNCHANGED, Etag, ObjectInfo, StoredObject, Unchanged
from elacsym.store.ranges import GAP_BYTES_MAX, coalesce, cut

_READ_TRIES = 3  # of several ranges of one object that is replaced meanwhile
_SPANS_AT_ONCE = 32  # of one call, so that it leaves connections to others

# the credentials' source is logged for every client otherwise
logging.getLogger("aiobotocore.credentials").setLevel(logging.WARNING)


class S3Store:
    """The objects of `bucket` below `prefix` ("" or ending in '/').

    What is None of endpoint, region and credentials is looked up by the library in its usual places. The
    connection is made by the first request, on that request's event loop; `close` ends it.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        profile: str | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
        connections: int = 64,
        page_rows: int = 1000,
    ) -> None:
        assert prefix == "" or prefix.endswith("/")
        self.bucket, self.prefix, self.endpoint_url = bucket, prefix, endpoint_url
        self.is_etag_quoted: bool | None = None
        self._server = ""
        self._page_rows = page_rows
        self._profile = profile
        self._options: dict[str, Any] = {
            "endpoint_url": endpoint_url,
            "region_name": region,
            "aws_access_key_id": access_key_id,
            "aws_secret_access_key": secret_access_key,
            "aws_session_token": session_token,
            "config": AioConfig(
                connect_timeout=connect_timeout_s,
                read_timeout=read_timeout_s,
                max_pool_connections=connections,
                retries={"total_max_attempts": 1, "mode": "standard"},
                # a server of one's own seldom has a host name per bucket
                s3={"addressing_style": "path" if endpoint_url else "auto"},
            ),
        }
        self._client: Any = None
        self._resources = AsyncExitStack()
        self._connecting = asyncio.Lock()

    @property
    def identity(self) -> str:
        """Where the objects are, for people."""
        where = f" at {self.endpoint_url}" if self.endpoint_url else ""
        return f"s3://{self.bucket}/{self.prefix}{where}" + (f" ({self._server})" if self._server else "")

    @property
    def etag_style(self) -> str:
        """Which spelling If-Match wants: quoted, unquoted, or unknown before the first replacement."""
        return {None: "unknown", True: "quoted", False: "unquoted"}[self.is_etag_quoted]

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        found = await self._get(key)
        assert not isinstance(found, Unchanged)
        return found

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """See ObjectStore."""
        found = await self._get(key, IfNoneMatch=_spelled(etag, is_quoted=self.is_etag_quoted is not False))
        # a store that wants another spelling sends the body; it is unchanged all the same
        return UNCHANGED if isinstance(found, StoredObject) and found.etag == etag else found

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap_bytes: int = GAP_BYTES_MAX
    ) -> list[bytes] | None:
        """See ObjectStore."""
        spans = coalesce(ranges, gap_bytes_max=gap_bytes) or [(0, 1)]
        gate = asyncio.Semaphore(_SPANS_AT_ONCE)

        async def gated(span: tuple[int, int]) -> tuple[str | None, bytes]:
            async with gate:
                return await self._get_span(key, span)

        for _ in range(_READ_TRIES):
            found = await asyncio.gather(*(gated(span) for span in spans))
            versions = {version for version, _ in found}
            if versions == {None}:
                return None
            if len(versions) == 1 or versions == {"", max(v for v in versions if v is not None)}:
                return cut(ranges, {span: data for span, (_, data) in zip(spans, found, strict=True)})
        raise StoreUnavailable(f"'{key}' changed {_READ_TRIES} times while its ranges were read")

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore."""
        return await self._put(key, data, IfNoneMatch="*")

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore."""
        if self.is_etag_quoted is not None:
            return await self._put(key, data, IfMatch=_spelled(etag, is_quoted=self.is_etag_quoted))
        for is_quoted in (True, False):
            new_etag = await self._put(key, data, IfMatch=_spelled(etag, is_quoted=is_quoted))
            if new_etag is not None:
                self.is_etag_quoted = is_quoted
                return new_etag
            found = await self.get(key)
            if found is None or found.etag != etag:
                return None  # a true refusal says nothing about spelling
        return None

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        with self._translated("delete", key):
            await (await self._connected()).delete_object(Bucket=self.bucket, Key=self.prefix + key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore."""
        page: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        page["MaxKeys"] = self._page_rows
        while True:
            with self._translated("list", prefix):
                answer = await (await self._connected()).list_objects_v2(**page)
            for row in answer.get("Contents", ()):
                modified_ms = int(row["LastModified"].timestamp() * 1000)
                yield ObjectInfo(row["Key"].removeprefix(self.prefix), row["Size"], modified_ms)
            if not answer.get("IsTruncated"):
                return
            page["ContinuationToken"] = answer["NextContinuationToken"]

    async def close(self) -> None:
        """Close the connections; the store is not used again."""
        self._client = None
        await self._resources.aclose()

    async def _connected(self) -> Any:
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    creator = AioSession(profile=self._profile).create_client("s3", **self._options)
                    self._client = await self._resources.enter_async_context(creator)
        return self._client

    async def _get(self, key: str, **condition: str) -> StoredObject | Unchanged | None:
        with self._translated("get", key):
            try:
                client = await self._connected()
                answer = await client.get_object(Bucket=self.bucket, Key=self.prefix + key, **condition)
                return StoredObject(await _body(answer), Etag(answer["ETag"]))
            except ClientError as error:
                if _status(error) == 304:
                    return UNCHANGED
                if _code(error) in _MISSING:
                    return None
                raise

    async def _get_span(self, key: str, span: tuple[int, int]) -> tuple[str | None, bytes]:
        """The bytes of one span and their version's ETag.

        ("", b"") behind the end, (None, b"") where there is nothing.
        """
        start, end = span
        with self._translated("get", key):
            try:
                client = await self._connected()
                answer = await client.get_object(
                    Bucket=self.bucket, Key=self.prefix + key, Range=f"bytes={start}-{end - 1}"
                )
                return answer["ETag"], await _body(answer)
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None, b""
                if _status(error) == 416:
                    return "", b""
                raise

    async def _put(self, key: str, data: bytes, **condition: str) -> Etag | None:
        assert data, f"empty object '{key}'"
        with self._translated("put", key):
            try:
                client = await self._connected()
                answer = await client.put_object(
                    Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition
                )
            except ClientError as error:
                if _code(error) == "PreconditionFailed" or _code(error) in _MISSING:
                    return None
                raise
            self._server = answer["ResponseMetadata"]["HTTPHeaders"].get("server", "")
            return Etag(answer["ETag"])

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        """Turn what the library raises into the protocol's errors."""
        try:
            yield
        except ClientError as error:
            detail = error.response.get("Error", {}).get("Message") or "no message"
            what = f"{_code(error)} ({_status(error)})"
            raise StoreUnavailable(f"{operation} '{key}': {what}: {detail}") from error
        except ParamValidationError as error:
            raise UnsafeStore(f"{operation} '{key}': the S3 library is too old: {error}") from error
        except (BotoCoreError, ResponseParserError, aiohttp.ClientError, OSError) as error:
            raise StoreUnavailable(f"{operation} '{key}': {type(error).__name__}: {error}") from error


_MISSING = ("NoSuchKey", "404")  # not NoSuchBucket


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


async def _body(answer: Mapping[str, Any]) -> bytes:
    async with answer["Body"] as body:
        return bytes(await body.read())


def _spelled(etag: Etag, *, is_quoted: bool) -> str:
    bare = etag.strip('"')
    return f'"{bare}"' if is_quoted else bare

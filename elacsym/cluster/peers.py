"""HTTP from this node to the others of its cluster."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from elacsym.cluster.member import Member
from elacsym.errors import Unavailable

# what a node says of itself in the answer of /livez
STATE_HEADER = "X-Node-State"
SUSPECTS_HEADER = "X-Node-Suspects"
SERVED_BY_HEADER = "X-Served-By"
# in a request of /livez: what is known of the named node should be asked anew
ANNOUNCE_HEADER = "X-Elacsym-Changed"

_FORWARDS_MAX = 4_096
_KEEP_ALIVE_S = 30.0
_HEAD_BYTES_MAX = 64 * 2**10
# what aiohttp would add by itself
_OWN_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Look:
    """What a node says of itself. suspects: the nodes that it passes over."""

    is_draining: bool
    suspects: frozenset[str]


class Peers:
    """The connections to other nodes; proxies of the environment are not used."""

    def __init__(self, own_id: str, *, timeout_s: float) -> None:
        """`timeout_s` bounds every connection attempt, and `look` as a whole."""
        self._own_id, self._timeout_s = own_id, timeout_s
        # looks have connections of their own: they must not wait behind requests that are forwarded
        self._looks: aiohttp.ClientSession | None = None
        self._forwards: aiohttp.ClientSession | None = None

    async def look(self, member: Member, *, is_announcing: bool = False) -> Look:
        """Ask a node how it is. is_announcing: this node has changed, and the other is to ask it anew.

        Raises Unavailable where there is no good answer, or another node's.
        """
        if self._looks is None:
            self._looks = self._session(connections_max=0)
        headers = {ANNOUNCE_HEADER: self._own_id} if is_announcing else {}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._looks.get(f"{member.url}/livez", headers=headers, allow_redirects=False) as answer,
            ):
                await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"node '{member.node_id}' gave no answer: {said}") from error
        served_by = answer.headers.get(SERVED_BY_HEADER)
        if answer.status != 200 or served_by != member.node_id:
            raise Unavailable(
                f"node '{member.node_id}' is not at {member.url}: status {answer.status} of {served_by!r}"
            )
        suspects = answer.headers.get(SUSPECTS_HEADER, "").split(",")
        return Look(answer.headers.get(STATE_HEADER) == "draining", frozenset(filter(None, suspects)))

    async def request(
        self, member: Member, method: str, path: str, headers: CIMultiDict[str], body: aiohttp.Payload
    ) -> aiohttp.ClientResponse:
        """Send a request on and return the head of its answer, which the caller closes. Redirects and content
        codings are the client's matter.

        path: with the query string, percent-encoded as it came. Raises aiohttp.ClientError, OSError.
        """
        if self._forwards is None:
            self._forwards = self._session(connections_max=_FORWARDS_MAX)
        url = URL(member.url + path, encoded=True)
        return await self._forwards.request(method, url, headers=headers, data=body, allow_redirects=False)

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._looks, self._forwards):
            if session is not None:
                await session.close()
        self._looks = self._forwards = None

    def _session(self, *, connections_max: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections_max, keepalive_timeout=_KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s),
            skip_auto_headers=_OWN_HEADERS,
            auto_decompress=False,
            trust_env=False,
            max_line_size=_HEAD_BYTES_MAX,
            max_field_size=_HEAD_BYTES_MAX,
        )

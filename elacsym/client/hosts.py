"""Which servers a client talks to: the addresses that it was given, and those it may be redirected to."""

from __future__ import annotations

from collections.abc import Iterable

import httpx

_SCHEMES = frozenset({"http", "https"})


class Hosts:
    """The given addresses in turn, and the members of the cluster as last heard.

    Shared by all calls of a client, and by threads: every change is one assignment.
    """

    def __init__(self, urls: str | Iterable[str], redirect_hosts: Iterable[str]) -> None:
        """redirect_hosts: `host` or `host:port` that need not be members. Raises ValueError for an address
        that is none, and if there is no address."""
        given = [urls] if isinstance(urls, str) else list(urls)
        if not given:
            raise ValueError("a client needs the address of a server")
        self.bases = tuple(map(_address, given))
        self._named = frozenset(redirect_hosts)
        self._members: frozenset[tuple[str, str]] = frozenset()
        self._current = 0

    @property
    def base(self) -> httpx.URL:
        """The given address that requests go to at present."""
        return self.bases[self._current]

    def pass_over(self, base: httpx.URL) -> None:
        """`base` gave no answer: the next address is asked, unless another call has moved on already."""
        if base == self.base:
            self._current = (self._current + 1) % len(self.bases)

    def is_trusted(self, url: httpx.URL) -> bool:
        """Whether requests and the API key may go to `url`. A host that was named may not be less secure than
        the address that leads to it."""
        if url.scheme not in _SCHEMES:
            return False
        if _origin(url) in self._members or any(_origin(url) == _origin(base) for base in self.bases):
            return True
        is_as_secure = url.scheme == "https" or self.base.scheme == "http"
        return is_as_secure and bool({url.host, url.netloc.decode()} & self._named)

    def learn(self, members: Iterable[str]) -> None:
        """These are the addresses of the cluster's members. Raises ValueError for one that is none."""
        self._members = frozenset(_origin(_address(url)) for url in members)


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no http or https address") from error
    if address.scheme not in _SCHEMES or not address.host:
        raise ValueError(f"{url!r} is no http or https address")
    return address


def _origin(url: httpx.URL) -> tuple[str, str]:
    # httpx leaves the scheme's own port out
    return url.scheme, url.netloc.decode().lower()

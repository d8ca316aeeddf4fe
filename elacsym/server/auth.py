"""Keys: `Authorization: Bearer <key>`, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from elacsym.config import is_loopback
from elacsym.errors import Unauthorized


class ApiKeys:
    """The keys that may use the API; no keys: everybody may."""

    def __init__(self, keys: Iterable[str]) -> None:
        """`keys` are printable ASCII."""
        self._keys = tuple(key.encode() for key in keys)

    def check(self, authorization: bytes | None) -> None:
        """Raise Unauthorized unless the header's value brings one of the keys."""
        if not self._keys:
            return
        if authorization is None:
            raise Unauthorized("an API key is needed: send the header 'Authorization: Bearer <key>'")
        scheme, _, given = authorization.partition(b" ")
        given = given.strip()
        found = False
        for key in self._keys:
            # every key is compared, so that the time does not tell which one came close
            found |= hmac.compare_digest(key, given)
        if scheme.lower() != b"bearer" or not found:
            raise Unauthorized("the API key is not known here")


class AdminKeys:
    """The keys of those who run the cluster; no keys: whoever connects from this machine."""

    def __init__(self, keys: Iterable[str]) -> None:
        """`keys` are printable ASCII."""
        self._keys = tuple(keys)
        self._known = ApiKeys(self._keys)

    def check(
        self, authorization: bytes | None, *, peer_host: str | None, is_on_behalf: bool = False
    ) -> None:
        """Raise Unauthorized unless the header's value brings one of the keys, or, without keys, the
        connection comes from the loopback address `peer_host`. is_on_behalf: a proxy or a web page says that
        it asks for somebody else, who may be anywhere."""
        if self._keys:
            self._known.check(authorization)
        elif peer_host is None or not is_loopback(peer_host) or is_on_behalf:
            raise Unauthorized("without ELACSYM_ADMIN_KEYS this is only answered to the machine itself")

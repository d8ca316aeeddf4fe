"""Who may use the API."""

import pytest

from elacsym.errors import Unauthorized
from elacsym.server.auth import AdminKeys, ApiKeys


@pytest.mark.parametrize("header", [b"Bearer first-key", b"bearer second-key", b"Bearer  first-key "])
def test_every_key_opens(header):
    ApiKeys(["first-key", "second-key"]).check(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer first-ke",
        b"Bearer first-key2",
        b"Basic first-key",
        b"first-key",
        b"\xff\xff",
    ],
)
def test_nothing_else_does(header):
    with pytest.raises(Unauthorized):
        ApiKeys(["first-key", "second-key"]).check(header)


def test_without_keys_everybody_may():
    ApiKeys([]).check(None)


def test_admin_keys_are_other_keys():
    AdminKeys(["an-admin-key"]).check(b"Bearer an-admin-key", peer_host="10.0.0.1")
    for header in (None, b"Bearer an-api-key"):
        with pytest.raises(Unauthorized):
            AdminKeys(["an-admin-key"]).check(header, peer_host="127.0.0.1")


def test_without_admin_keys_the_machine_itself_may():
    for host in ("127.0.0.1", "::1"):
        AdminKeys([]).check(None, peer_host=host)
    for host in ("10.0.0.1", None):
        with pytest.raises(Unauthorized, match="ADMIN_KEYS"):
            AdminKeys([]).check(b"Bearer anything", peer_host=host)
    with pytest.raises(Unauthorized, match="ADMIN_KEYS"):
        AdminKeys([]).check(None, peer_host="127.0.0.1", is_on_behalf=True)

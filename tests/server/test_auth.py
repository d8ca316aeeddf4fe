"""Who may use the API."""

import pytest

from elacsym.errors import Unauthorized
from elacsym.server.auth import ApiKeys


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

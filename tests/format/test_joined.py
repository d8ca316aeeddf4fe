"""Joined bytes are the concatenation, however many and large the parts are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.format import joined as module
from elacsym.format.joined import joined


@given(st.lists(st.binary(max_size=40), max_size=6))
@pytest.mark.parametrize("at_once", [1, 7, 2**20])
def test_joined_is_the_concatenation(at_once, parts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE_BYTES", at_once)
        found = joined([*parts, memoryview(b"".join(parts))])
    assert type(found) is bytes
    assert found == b"".join(parts) * 2

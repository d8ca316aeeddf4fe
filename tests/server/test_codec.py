"""JSON and gzip at the edge."""

import asyncio
import gzip
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.compute import InlineCompute
from elacsym.errors import InvalidRequest, Overloaded, PayloadTooLarge
from elacsym.server import codec
from elacsym.server.limits import BodyAllowance, ByteBudget


def allowance(bytes_max=2**20, budget=2**24):
    return BodyAllowance(ByteBudget(budget), bytes_max)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1,2", b"NaN", b'{"a": Infinity}', b"\xff\xfe", b"1e999", b"[" * 2000]
)
def test_what_is_no_json_is_refused_in_words(body):
    with pytest.raises(InvalidRequest, match=r"^Failed to parse the request body as JSON: ") as error:
        codec.loads(body)
    assert error.value.status == 400


def test_float32_prints_as_the_shortest_decimal_that_identifies_it():
    assert (
        codec.dumps({"v": np.array([0.7, 0.1], np.float32), "s": np.float32(0.3)})
        == b'{"v":[0.7,0.1],"s":0.3}'
    )


@given(st.binary(max_size=4000))
def test_gzip_bodies_are_undone(data):
    plain = asyncio.run(codec.gunzip(gzip.compress(data), allowance(), InlineCompute()))
    assert bytes(plain) == data
    packed = asyncio.run(codec.gzip(data, InlineCompute()))
    assert gzip.decompress(packed) == data


async def test_damaged_gzip_is_refused():
    packed = gzip.compress(random.Random(1).randbytes(10_000))
    for cut in (0, 1, 9, 10, 500, len(packed) - 9, len(packed) - 1):
        with pytest.raises(InvalidRequest, match="gzip"):
            await codec.gunzip(packed[:cut], allowance(), InlineCompute())
    damaged = bytearray(packed)
    damaged[5_000] ^= 1
    with pytest.raises(InvalidRequest, match="gzip"):
        await codec.gunzip(damaged, allowance(), InlineCompute())
    with pytest.raises(InvalidRequest, match="5 bytes follow"):
        await codec.gunzip(packed + b"12345", allowance(), InlineCompute())


async def test_a_body_of_many_steps_is_undone_and_judged_like_one_of_a_single_step(monkeypatch):
    monkeypatch.setattr(codec, "_STEP_BYTES", 100)
    data = random.Random(2).randbytes(1_050) + bytes(50_000) + b"end"
    packed = gzip.compress(data)
    assert len(packed) > 1_000
    assert bytes(await codec.gunzip(packed, allowance(), InlineCompute())) == data
    for cut in range(0, len(packed), 7):
        with pytest.raises(InvalidRequest, match="truncated"):
            await codec.gunzip(packed[:cut], allowance(), InlineCompute())
    for extra in (1, 99, 1_000):
        with pytest.raises(InvalidRequest, match=f"^{extra} bytes follow"):
            await codec.gunzip(packed + b"x" * extra, allowance(), InlineCompute())


async def test_a_bomb_stops_at_the_limit_of_one_body():
    bomb = gzip.compress(bytes(2**26))
    given = allowance(bytes_max=2**20, budget=2**30)
    with pytest.raises(PayloadTooLarge):
        await codec.gunzip(bomb, given, InlineCompute())
    assert given.bytes_taken == 0


async def test_a_bomb_stops_at_the_limit_of_all_bodies():
    given = allowance(bytes_max=2**30, budget=2**23)
    with pytest.raises(Overloaded):
        await codec.gunzip(gzip.compress(bytes(2**26)), given, InlineCompute())
    assert given.bytes_taken <= 2**23
    given.release()
    assert given.budget.bytes_held == 0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        (b"identity", False),
        (b"gzip", True),
        (b"br, GZIP;q=0.5", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000", False),
        (b"gzip;q=0.001", True),
        (b"not-gzip", False),
    ],
)
def test_gzip_is_sent_to_those_who_accept_it(header, expected):
    assert codec.accepts_gzip(header) is expected

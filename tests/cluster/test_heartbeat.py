"""Heartbeats as values: bytes, and what a listing of them says."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.cluster.heartbeat import FORGET_MS, Heartbeat, Seen, changed, decode, encode, forgotten, judge
from elacsym.cluster.member import Health, Member, MemberState
from elacsym.errors import CorruptObject
from elacsym.format import frame, keys
from elacsym.store.base import ObjectInfo

NONCE = "0" * 32
members = st.builds(
    Member,
    st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True),
    st.sampled_from(["http://one:3000", "https://10.0.0.1", "http://[::1]:80"]),
    st.sampled_from(["all", "indexer", "query"]),
    st.floats(0.01, 16),
)
heartbeats = st.builds(
    Heartbeat, members, st.text("0123456789abcdef", min_size=32, max_size=32), st.booleans()
)


def heartbeat(node_id="a", **state):
    return Heartbeat(Member(node_id, f"http://{node_id}:3000"), NONCE, **state)


def listed(node_id, modified_ms):
    return ObjectInfo(keys.node(node_id), 200, modified_ms)


@given(heartbeats)
def test_a_heartbeat_is_read_back(sent):
    assert decode(encode(sent), key=keys.node(sent.member.node_id)) == sent


@given(heartbeats, st.data())
def test_every_flipped_bit_and_every_cut_is_noticed(sent, data):
    good = encode(sent)
    key = keys.node(sent.member.node_id)
    bad = bytearray(good)
    bad[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(bad), good[: data.draw(st.integers(0, len(good) - 1))], good + b"x"):
        with pytest.raises(CorruptObject, match="nodes/"):
            decode(damaged, key=key)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"node": "b"},
        {"node": 1},
        {"url": "one"},
        {"url": "http://one/\r\nset-cookie: x"},
        {"role": "king"},
        {"role": ["all"]},
        {"weight": 0},
        {"weight": 1e9},
        {"weight": None},
        {"weight": True},
        {"state": "gone"},
        {"nonce": 7},
    ],
)
def test_what_no_node_would_say_is_refused(change):
    body = orjson.loads(frame.decode(encode(heartbeat()), key="x", kind=frame.Kind.HEARTBEAT))
    (name,) = change
    for value in (body | change, {k: v for k, v in body.items() if k != name}, [body]):
        data = frame.encode(frame.Kind.HEARTBEAT, orjson.dumps(value))
        with pytest.raises(CorruptObject, match=r"nodes/a\.json"):
            decode(data, key=keys.node("a"))


def test_fields_of_later_releases_are_no_damage():
    body = orjson.loads(frame.decode(encode(heartbeat()), key="x", kind=frame.Kind.HEARTBEAT))
    data = frame.encode(frame.Kind.HEARTBEAT, orjson.dumps(body | {"zone": "b"}))
    assert decode(data, key=keys.node("a")) == heartbeat()


@given(st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True))
def test_the_key_of_a_heartbeat_is_read_back(node_id):
    assert keys.id_of_node(keys.node(node_id)) == node_id


@pytest.mark.parametrize(
    "key", ["nodes/.json", "nodes/a", "nodes/a/b.json", "names/a.json", "nodes/a.json.tmp"]
)
def test_other_keys_are_no_heartbeats(key):
    assert keys.id_of_node(key) is None


def test_only_heartbeats_that_have_changed_are_read_again():
    known = {name: Seen(50_000, heartbeat(name)) for name in ("same", "later", "earlier")}
    rows = [
        listed("same", 50_000),
        listed("later", 55_000),
        # a store's clock may step back
        listed("earlier", 45_000),
        listed("new", 10_000),
        ObjectInfo("nodes/readme", 3, 60_000),
    ]
    assert changed(known, rows, 60_000) == {"later": 55_000, "earlier": 45_000, "new": 10_000}


def test_a_heartbeat_of_the_same_second_may_be_another_one():
    known = {"a": Seen(59_000, heartbeat())}
    assert changed(known, [listed("a", 59_000)], 60_000) == {"a": 59_000}


def test_health_is_judged_by_age_state_and_damage():
    known = {
        "d": Seen(90_000, heartbeat("d", is_draining=True)),
        "b": Seen(70_000, heartbeat("b")),
        "a": Seen(69_999, heartbeat("a")),
        # perhaps rounded down by all but a second
        "whole": Seen(69_000, heartbeat("whole")),
        "whole too": Seen(68_000, heartbeat("whole too")),
        "gone": Seen(0, heartbeat("gone", is_draining=True)),
        "c": Seen(99_000, heartbeat("c"), is_corrupt=True),
        "unread": Seen(99_000, None, is_corrupt=True),
        # its clock is the store's, and our own heartbeat may be a little older
        "ahead": Seen(101_000, heartbeat("ahead")),
    }
    states = {s.member.node_id: (s.health, s.heartbeat_age_s) for s in judge(known, 100_000, 30_000)}
    assert list(states) == ["a", "ahead", "b", "c", "d", "gone", "whole", "whole too"]
    assert states == {
        "a": (Health.SILENT, 30.001),
        "ahead": (Health.LIVE, 0.0),
        "b": (Health.LIVE, 30.0),
        "c": (Health.SILENT, 1.0),
        "d": (Health.DRAINING, 10.0),
        "gone": (Health.SILENT, 100.0),
        "whole": (Health.LIVE, 31.0),
        "whole too": (Health.SILENT, 32.0),
    }
    (state,) = judge({"b": known["b"]}, 100_000, 30_000)
    assert state == MemberState(Member("b", "http://b:3000"), Health.LIVE, 30.0)


def test_what_has_been_silent_for_an_hour_is_forgotten():
    now_ms = 2 * FORGET_MS
    known = {
        "a": Seen(now_ms - FORGET_MS - 1, heartbeat("a")),
        "b": Seen(now_ms - FORGET_MS, heartbeat("b")),
        "unread": Seen(0, None, is_corrupt=True),
    }
    assert forgotten(known, now_ms) == ["a", "unread"]

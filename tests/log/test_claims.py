"""A writer asks before it claims, and says who has the log."""

from __future__ import annotations

import pytest
from log_nodes import Node, new_store

from elacsym.errors import NotOwner


class Asked:
    """Notes what it is asked; refuses while `is_closed`."""

    def __init__(self):
        self.claimed_by, self.is_closed = [], False

    async def allow(self, namespace, *, claimed_by):
        assert namespace == "Docs"
        self.claimed_by.append(claimed_by)
        if self.is_closed:
            raise NotOwner("not here", owner_id="other", owner_url="http://other")


@pytest.fixture
async def store():
    return await new_store()


def node_of(store, seed):
    node = Node(store, seed=seed)
    node.writer._claims = Asked()
    return node, node.writer._claims


async def test_it_asks_once_for_a_claim_and_not_for_a_write(store):
    node, asked = node_of(store, 0)
    for n in range(3):
        await node.write(b"%d" % n)
    assert asked.claimed_by == [None]


async def test_it_tells_whose_the_last_claim_is(store):
    (one, asked_one), (two, asked_two) = node_of(store, 1), node_of(store, 2)
    await one.write(b"a")
    await two.write(b"b")
    await one.write(b"c")
    assert (asked_one.claimed_by, asked_two.claimed_by) == ([None, "node2"], ["node1"])


async def test_what_is_refused_puts_nothing(store):
    (one, _), (two, asked) = node_of(store, 1), node_of(store, 2)
    await one.write(b"a")
    asked.is_closed = True
    with pytest.raises(NotOwner) as caught:
        await two.write(b"b")
    assert (caught.value.owner_id, two.store.sent["put_slot"]) == ("other", 0)
    asked.is_closed = False
    await two.write(b"b")
    assert two.consumer.payloads == [b"a", b"b"]


async def test_a_writer_that_was_fenced_is_not_let_in_again_without_being_asked(store):
    (one, asked), (two, _) = node_of(store, 1), node_of(store, 2)
    await one.write(b"a")
    await two.write(b"b")
    asked.is_closed = True
    with pytest.raises(NotOwner):
        await one.write(b"c")
    await two.reader.check()
    assert two.consumer.payloads == [b"a", b"b"]

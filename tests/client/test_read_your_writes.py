"""Which consistency reads ask for."""

import httpx
import orjson
from client.scripted import Script, refusal, written

from elacsym.client import UnknownOutcomeError, Written
from elacsym.client.tokens import Tokens

UPSERT = ("upsert", ("docs", [{"id": 1}]), {})
QUERY = ("query", ("docs",), {"top_k": 1})
OLD, NEW = "00000000000000aa:7", "00000000000000aa:9"


def found():
    return httpx.Response(200, json={"results": [], "took_ms": 0, "documents": []})


def consistencies(script):
    bodies = [orjson.loads(r.content) for r in script.requests if r.content]
    return [body["consistency"] for body in bodies if "consistency" in body]


async def test_reads_are_strong_unless_something_else_is_asked_for(talk):
    script = Script(written(), found(), found(), found())
    await talk(script, UPSERT, QUERY, ("documents", ("docs", [1]), {}), _query("eventual"))
    assert consistencies(script) == ["strong", "strong", "eventual"]


def _query(consistency):
    return ("query", ("docs",), {"top_k": 1, "consistency": consistency})


async def test_reads_see_the_newest_of_the_clients_own_writes(talk):
    script = Script(written(OLD), written(NEW), found(), found(), found())
    other = ("query", ("other",), {"top_k": 1})
    await talk(script, UPSERT, UPSERT, QUERY, ("documents", ("docs", [1]), {}), other, read_your_writes=True)
    assert consistencies(script) == [{"token": NEW}, {"token": NEW}, "strong"]


async def test_what_a_read_asks_for_is_sent_as_it_is(talk):
    script = Script(written(NEW), *[found() for _ in range(4)])
    asked = ["strong", "eventual", {"min_seq": 3}, Written(1, 7, OLD)]
    await talk(script, UPSERT, *map(_query, asked), read_your_writes=True)
    assert consistencies(script) == ["strong", "eventual", {"min_seq": 3}, {"token": OLD}]


async def test_after_a_write_of_unknown_outcome_reads_are_strong(talk):
    script = Script(written(NEW), httpx.ReadError("cut"), found())
    _, lost, _ = await talk(script, UPSERT, UPSERT, QUERY, read_your_writes=True, retries=0)
    assert isinstance(lost, UnknownOutcomeError)
    assert consistencies(script) == ["strong"]


async def test_after_the_namespace_was_deleted_or_changed_reads_are_strong(talk):
    for step, answer in [
        (("delete_namespace", ("docs",), {}), {}),
        (("create", ("docs", {}), {}), {"created": False}),
    ]:
        script = Script(written(NEW), httpx.Response(200, json=answer), found())
        await talk(script, UPSERT, step, QUERY, read_your_writes=True)
        assert consistencies(script) == ["strong"]


async def test_a_refused_write_changes_nothing(talk):
    script = Script(written(NEW), refusal(429, "overloaded"), written(NEW), found())
    await talk(script, UPSERT, UPSERT, QUERY, read_your_writes=True)
    assert consistencies(script) == [{"token": NEW}]


def test_acknowledgements_in_any_order_leave_the_highest_of_one_life():
    tokens = Tokens()
    tokens.note("docs", NEW)
    tokens.note("docs", OLD)
    assert tokens.newest("docs") == NEW
    tokens.note("docs", "00000000000000bb:1")
    assert tokens.newest("docs") == "00000000000000bb:1"


def test_slots_are_compared_as_numbers():
    tokens = Tokens()
    tokens.note("docs", "aa:10")
    tokens.note("docs", "aa:9")
    assert tokens.newest("docs") == "aa:10"


def test_the_namespaces_written_longest_ago_are_forgotten():
    tokens = Tokens(namespaces_max=2)
    for name in ["a", "b", "a", "c"]:
        tokens.note(name, NEW)
    assert [tokens.newest(name) for name in "abc"] == [NEW, None, NEW]

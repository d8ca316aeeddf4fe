"""Redirects are followed to members of the cluster and to named hosts; nothing is sent anywhere else."""

import httpx
import pytest
from client.scripted import Script, refusal, written

from elacsym.client import ApiError, RejectedError, UnavailableError, UnknownOutcomeError
from elacsym.client.conversation import LARGE_BYTES

UPSERT = "/v1/namespaces/docs/upsert"


def redirect(to):
    return httpx.Response(307, headers={"Location": to, "X-Correct-Indexer": "b"})


def cluster(*urls):
    return httpx.Response(200, json={"members": [{"id": url, "url": url} for url in urls]})


async def test_a_redirect_to_a_member_is_followed_with_the_same_key_and_body(call):
    script = Script(
        redirect(f"http://node-b:3001{UPSERT}"),
        cluster("http://node-a:3000", "http://node-b:3001/"),
        written(),
    )
    await call(script, "upsert", "docs", [{"id": 1}], client={"api_key": "secret"})
    assert script.asked == [
        f"POST http://node-a:3000{UPSERT}",
        "GET http://node-a:3000/v1/cluster",
        f"POST http://node-b:3001{UPSERT}",
    ]
    assert {r.headers["authorization"] for r in script.requests} == {"Bearer secret"}
    assert script.keys[1] is None
    assert script.keys[0] == script.keys[2]
    assert script.requests[0].content == script.requests[2].content


async def test_the_members_are_asked_for_once_and_remembered(talk):
    script = Script(
        redirect("http://node-b:3001/x"),
        cluster("http://node-b:3001", "http://node-c:3002"),
        written(),
        redirect("http://node-c:3002/x"),
        written(),
    )
    step = ("upsert", ("docs", [{"id": 1}]), {})
    await talk(script, step, step)
    assert [a for a in script.asked if "cluster" in a] == ["GET http://node-a:3000/v1/cluster"]


@pytest.mark.parametrize(
    "target",
    [
        "http://evil:3001/x",
        "http://node-b:3002/x",
        "https://node-b:3001/x",
        "http://node-b.evil:3001/x",
        "http://node-b:3001@evil/x",
        "ftp://node-b:3001/x",
    ],
)
async def test_nothing_is_sent_to_a_host_that_is_no_member(call, target):
    script = Script(redirect(target), cluster("http://node-a:3000", "http://node-b:3001"))
    with pytest.raises(ApiError, match="neither a member of the cluster nor a redirect host") as caught:
        await call(script, "upsert", "docs", [{"id": 1}], client={"api_key": "secret"})
    assert (caught.value.code, caught.value.status) == ("redirect_refused", 307)
    assert {r.url.host for r in script.requests} == {"node-a"}
    assert script.waits == []


@pytest.mark.parametrize(
    "members",
    [
        lambda: refusal(404, "not_found"),
        lambda: refusal(401, "unauthorized"),
        lambda: httpx.Response(200, content=b"<html>"),
        lambda: httpx.Response(200, json={"members": [{"id": "b"}]}),
        lambda: httpx.Response(200, json={"members": [{"url": "node-b:3001"}]}),
        lambda: httpx.Response(200, json=[]),
    ],
)
async def test_nothing_is_sent_where_the_members_cannot_be_learnt(call, members):
    script = Script(redirect("http://node-b:3001/x"), members())
    with pytest.raises(ApiError) as caught:
        await call(script, "upsert", "docs", [{"id": 1}])
    assert caught.value.code == "redirect_refused"
    assert len(script.requests) == 2


@pytest.mark.parametrize("named", ["node-b", "node-b:3001"])
async def test_a_named_host_need_not_be_a_member(call, named):
    script = Script(redirect("http://node-b:3001/x"), written())
    await call(script, "upsert", "docs", [{"id": 1}], client={"api_key": "secret", "redirect_hosts": [named]})
    assert script.requests[1].headers["authorization"] == "Bearer secret"


async def test_a_named_host_of_another_port_is_not_named(call):
    script = Script(redirect("http://node-b:9/x"), cluster())
    with pytest.raises(ApiError, match="neither a member"):
        await call(script, "upsert", "docs", [{"id": 1}], client={"redirect_hosts": ["node-b:3001"]})


async def test_the_key_does_not_leave_encryption_for_a_named_host(call):
    script = Script(redirect("http://node-b/x"), cluster())
    with pytest.raises(ApiError, match="neither a member"):
        await call(
            script, "upsert", "docs", [{"id": 1}], client={"url": "https://a", "redirect_hosts": ["node-b"]}
        )


async def test_a_redirect_to_the_same_server_asks_for_no_members(call):
    script = Script(redirect("/v1/elsewhere"), written())
    await call(script, "upsert", "docs", [{"id": 1}], client={"api_key": "secret"})
    assert script.asked[1] == "POST http://node-a:3000/v1/elsewhere"
    assert script.requests[1].headers["authorization"] == "Bearer secret"


async def test_the_server_that_redirects_is_asked_for_the_members_it_knows(call):
    script = Script(
        redirect("http://node-b:3001/x"),
        cluster("http://node-b:3001"),
        redirect("http://node-d:3003/x"),
        cluster("http://node-b:3001", "http://node-d:3003"),
        written(),
    )
    await call(script, "upsert", "docs", [{"id": 1}])
    assert script.asked[3] == "GET http://node-b:3001/v1/cluster"
    assert script.asked[4] == "POST http://node-d:3003/x"


async def test_nodes_that_name_each_other_are_asked_again_after_a_while(call):
    around = [
        redirect("http://node-b:3001/x"),
        redirect("http://node-c:3002/x"),
        redirect("http://node-b:3001/x"),
    ]
    script = Script(*around, redirect("http://node-b:3001/x"), written())
    await call(script, "upsert", "docs", [{"id": 1}], client={"redirect_hosts": ["node-b", "node-c"]})
    assert len(script.waits) == 1
    assert len(set(script.keys)) == 1


async def test_a_third_redirect_in_a_row_is_not_followed(call):
    script = Script(*[redirect(f"http://node-{i}:3000/x") for i in range(3)])
    hosts = [f"node-{i}" for i in range(3)]
    with pytest.raises(UnavailableError) as caught:
        await call(script, "upsert", "docs", [{"id": 1}], client={"redirect_hosts": hosts, "retries": 0})
    assert caught.value.code == "redirect_loop"
    assert len(script.requests) == 3


async def test_after_a_dead_owner_the_given_address_is_asked_again(call):
    script = Script(
        redirect("http://node-b:3001/x"),
        httpx.ConnectError("refused"),
        redirect("http://node-c:3002/x"),
        written(),
    )
    await call(script, "upsert", "docs", [{"id": 1}], client={"redirect_hosts": ["node-b", "node-c"]})
    assert [r.url.host for r in script.requests] == ["node-a", "node-b", "node-a", "node-c"]
    assert len(script.waits) == 1


async def test_members_that_cannot_be_asked_for_now_are_asked_for_again(call):
    for failure in [httpx.ReadError("cut"), refusal(503, "unavailable")]:
        script = Script(
            redirect("http://node-b:3001/x"),
            failure,
            redirect("http://node-b:3001/x"),
            cluster("http://node-b:3001"),
            written(),
        )
        await call(script, "upsert", "docs", [{"id": 1}])
        assert len(script.waits) == 1


async def test_a_write_is_not_unknown_because_the_members_were_not_told(call):
    script = Script(redirect("http://node-b:3001/x"), httpx.ReadError("cut"))
    with pytest.raises(UnavailableError) as caught:
        await call(script, "upsert", "docs", [{"id": 1}], client={"retries": 0})
    assert caught.value.code == "members_unknown"


async def test_a_write_that_may_have_happened_stays_unknown_when_a_redirect_is_refused(call):
    script = Script(httpx.ReadError("cut"), redirect("http://evil/x"), cluster())
    with pytest.raises(UnknownOutcomeError, match="evil"):
        await call(script, "upsert", "docs", [{"id": 1}])


def _large():
    return [{"id": 1, "attributes": {"text": "x" * LARGE_BYTES}}]


async def test_the_body_of_a_large_write_is_sent_to_the_server_that_would_read_it_only(call):
    """A node that redirects reads some of the body and resets the connection; so the client never heard
    where to send it, however often it tried."""
    script = Script(redirect("http://node-b:3001/x"), refusal(422, "invalid_shape"), written())
    await call(script, "upsert", "docs", _large(), client={"redirect_hosts": ["node-b"]})
    assert [(r.url.host, len(r.content) > LARGE_BYTES) for r in script.requests] == [
        ("node-a", False),
        ("node-b", False),
        ("node-b", True),
    ]
    assert len(set(script.keys)) == 1


async def test_a_large_write_that_is_refused_for_another_reason_is_not_sent(call):
    script = Script(refusal(429, "overloaded"), httpx.ConnectError("refused"), refusal(401, "unauthorized"))
    with pytest.raises(RejectedError):
        await call(script, "upsert", "docs", _large())
    assert [len(r.content) for r in script.requests] == [0, 0, 0]


async def test_a_refusal_of_a_large_body_is_the_answer(call):
    script = Script(refusal(422, "invalid_shape", "no body"), refusal(422, "invalid_shape", "no such field"))
    with pytest.raises(RejectedError, match="no such field"):
        await call(script, "upsert", "docs", _large())


async def test_a_large_query_is_sent_as_it_is(call):
    script = Script(httpx.Response(200, json={"results": []}))
    await call(script, "query", "docs", filter={"field": "a", "op": "eq", "value": "x" * LARGE_BYTES})
    assert len(script.requests[0].content) > LARGE_BYTES

"""How long a client goes on trying, and where."""

import httpx
import pytest
from client.scripted import Script, refusal, written
from support.clocks import ManualClock

from elacsym.client import UnavailableError, UnknownOutcomeError

REFUSED = httpx.ConnectError("refused")


class Outage:
    """A server of which connections are refused while the client waits, all in all, `down_s`."""

    def __init__(self, down_s, failure=REFUSED):
        self.down_s, self.failure, self.waits, self.keys = down_s, failure, [], []

    def answer(self, request):
        self.keys.append(request.headers["idempotency-key"])
        if sum(self.waits) < self.down_s:
            raise self.failure
        return written()


async def test_a_write_outlives_an_outage_of_15_seconds_under_one_idempotency_key(call):
    for failure in [REFUSED, httpx.ReadError("cut")]:
        outage = Outage(15.0, failure)
        assert (await call(outage, "upsert", "docs", [{"id": 1}])).seq == 17
        assert len(set(outage.keys)) == 1
        assert len(outage.keys) > 5


async def test_retrying_ends_after_the_time_that_was_set(call):
    outage = Outage(1e9)
    with pytest.raises(UnavailableError, match="no answer from http://node-a:3000"):
        await call(outage, "upsert", "docs", [{"id": 1}], client={"retry_for_s": 20.0, "retries": 10**6})
    assert 15.0 < sum(outage.waits) <= 20.0


async def test_the_time_counts_from_the_first_failure_not_from_the_call(call):
    clock = ManualClock()

    class Slow(Script):
        def answer(self, request):
            clock.now_s += 60.0
            return super().answer(request)

    script = Slow(httpx.ReadTimeout("a minute gone"), written())
    await call(script, "upsert", "docs", [{"id": 1}], client={"clock": clock, "retry_for_s": 5.0})
    assert len(script.requests) == 2


async def test_a_server_that_asks_for_more_time_than_there_is_is_not_waited_for(call):
    script = Script(refusal(503, "unavailable", **{"Retry-After": "20"}))
    with pytest.raises(UnavailableError):
        await call(script, "info", "docs", client={"retry_for_s": 10.0})
    assert script.waits == []


async def test_when_an_address_does_not_answer_the_next_one_is_asked_and_stays_in_use(talk):
    script = Script(REFUSED, written(), written(), httpx.ReadError("cut"), written())
    step = ("upsert", ("docs", [{"id": 1}]), {})
    await talk(script, step, step, step, url=["http://a:1", "http://b:2/gate"])
    assert [r.url.host for r in script.requests] == ["a", "b", "b", "b", "a"]
    assert script.requests[1].url.path == "/gate/v1/namespaces/docs/upsert"
    assert script.keys[0] == script.keys[1]
    assert script.keys[3] == script.keys[4]


@pytest.mark.parametrize(("status", "code"), [(503, "unavailable"), (503, "not_owner"), (502, "bad_gateway")])
async def test_a_server_that_cannot_serve_is_passed_over(call, status, code):
    """It may be cut off from the cluster for hours, while those at the other addresses are well."""
    script = Script(refusal(status, code), written())
    await call(script, "upsert", "docs", [{"id": 1}], client={"url": ["http://a:1", "http://b:2"]})
    assert [r.url.host for r in script.requests] == ["a", "b"]
    assert script.keys[0] == script.keys[1]


async def test_a_server_that_is_busy_is_asked_again(call):
    script = Script(refusal(429, "overloaded"), written())
    await call(script, "upsert", "docs", [{"id": 1}], client={"url": ["http://a:1", "http://b:2"]})
    assert [r.url.host for r in script.requests] == ["a", "a"]


async def test_an_owner_that_cannot_serve_does_not_change_the_address(call):
    sent_on = httpx.Response(307, headers={"Location": "http://owner:1/x"})
    script = Script(sent_on, refusal(503, "unavailable"), written())
    options = {"url": ["http://a:1", "http://b:2"], "redirect_hosts": ["owner"]}
    await call(script, "upsert", "docs", [{"id": 1}], client=options)
    assert [r.url.host for r in script.requests] == ["a", "owner", "a"]


async def test_a_write_that_may_have_happened_stays_unknown_when_the_retry_is_rejected(call):
    script = Script(httpx.ReadError("cut"), refusal(401, "unauthorized"))
    with pytest.raises(UnknownOutcomeError) as caught:
        await call(script, "upsert", "docs", [{"id": 1}], idempotency_key="k")
    assert (caught.value.status, caught.value.idempotency_key) == (401, "k")


async def test_a_write_whose_answer_cannot_be_unpacked_is_sent_again_with_the_same_key(call):
    def damaged():
        packed = httpx.ByteStream(b"no gzip")
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=packed)

    script = Script(damaged(), written())
    assert (await call(script, "upsert", "docs", [{"id": 1}])).seq == 17
    assert len(set(script.keys)) == 1
    script = Script(damaged())
    with pytest.raises(UnknownOutcomeError):
        await call(script, "upsert", "docs", [{"id": 1}], client={"retries": 0})

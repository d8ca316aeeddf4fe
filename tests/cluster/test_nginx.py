"""A real nginx with the shipped configuration, in front of nodes that note what reaches them."""

import asyncio
import contextlib
import subprocess
from pathlib import Path

import httpx
import pytest
from cluster.fake_nodes import fake_nodes
from cluster.nginx_process import Nginx, nginx_program

from elacsym.cluster.nginx import render

ROOT = Path(__file__).parents[2]
QUERY = "/v1/namespaces/docs/query"
UPSERT = "/v1/namespaces/docs/upsert"


class Front:
    """An nginx, the nodes behind it, and a client of it."""

    def __init__(self, nodes, nginx, http):
        self.nodes, self.nginx, self.http = {n.place.node_id: n for n in nodes}, nginx, http

    def __getitem__(self, node_id):
        return self.nodes[node_id]

    @property
    def targets(self):
        return [target for node in self.nodes.values() for target in node.targets]

    async def served_by(self, method, path, **options):
        answer = await self.http.request(method, path, **options)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-served-by"]


@pytest.fixture
def front(tmp_path):
    """`async with front(indexers, queries, **options)`: a Front."""

    @contextlib.asynccontextmanager
    async def made(indexers, queries, **options):
        async with fake_nodes(indexers, queries) as nodes:
            with Nginx(tmp_path / "nginx", [n.place for n in nodes], **options) as nginx:
                await nginx.ready()
                async with httpx.AsyncClient(base_url=nginx.url, trust_env=False, timeout=20) as http:
                    yield Front(nodes, nginx, http)

    return made


@pytest.mark.parametrize(("indexers", "queries"), [(1, 0), (1, 1), (3, 2), (20, 7)])
def test_nginx_accepts_the_configuration_for_any_number_of_nodes(tmp_path, indexers, queries):
    urls = [f"http://127.0.0.1:{3000 + n}" for n in range(indexers + queries)]
    path = tmp_path / "nginx.conf"
    path.write_text(render(urls[:indexers], urls[indexers:], listen="[::1]:18080"))
    done = subprocess.run(
        [nginx_program(), "-p", tmp_path, "-c", path, "-t"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_the_committed_configuration_is_what_its_first_lines_say():
    indexers = [f"http://indexer-{n}:3000" for n in range(3)]
    query_nodes = [f"http://query-{n}:3000" for n in range(2)]
    assert (ROOT / "nginx/nginx.conf").read_text() == render(indexers, query_nodes)


@pytest.mark.parametrize(
    "url",
    [
        "indexer-0:3000",
        "https://indexer-0:3000",
        "http://indexer-0:3000/path",
        "http://",
        "http://a:b@c",
        "http://a b",
        "http://a;deny all",
        "http://a?x",
        "http://a#x",
    ],
)
def test_what_is_no_address_of_a_node_is_refused(url):
    with pytest.raises(ValueError, match="is no address of a node"):
        render([url])
    with pytest.raises(ValueError, match="is no address of a node"):
        render(["http://a:1"], [url])


def test_indexers_and_a_port_are_needed():
    with pytest.raises(ValueError, match="at least one indexer"):
        render([])
    for listen in ["", "a b:1", "8080;", "localhost", "::1:80"]:
        with pytest.raises(ValueError, match="neither a port"):
            render(["http://a:1"], listen=listen)


READS = [
    ("POST", QUERY),
    ("POST", QUERY + "?x=1"),
    ("POST", "/v2/namespaces/docs/query"),
    ("POST", "/v2/namespaces/docs/explain_query"),
    ("GET", "/v2/namespaces/docs/metadata"),
    ("POST", "/v1/namespaces/docs/documents/get"),
    ("POST", "/v1/namespaces/docs/_debug/recall"),
    ("GET", "/v1/namespaces/docs"),
    ("GET", "/v1/namespaces/docs/documents/7"),
    ("GET", "/v1/namespaces"),
    ("GET", "/v1/cluster"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("HEAD", "/health"),
]
WRITES = [
    ("POST", UPSERT),
    ("POST", "/v1/namespaces/docs/delete"),
    ("POST", "/v1/namespaces/docs/query/more"),
    ("POST", "/v1/namespaces/query"),
    ("POST", "/v1/namespaces/query/upsert"),
    ("POST", UPSERT + "?x=/v1/namespaces/a/query"),
    ("POST", "/v2/namespaces/docs"),
    ("POST", "/v2/namespaces/docs/async"),
    ("POST", "/v1/namespaces/docs/schema"),
    ("PATCH", "/v1/namespaces/docs/metadata"),
    ("PUT", "/v1/namespaces/docs"),
    ("PATCH", "/v1/namespaces/docs"),
    ("DELETE", "/v1/namespaces/docs"),
    ("DELETE", "/v1/namespaces/docs/documents/query"),
]


async def test_reads_go_to_query_nodes_and_everything_else_to_indexers(front):
    async with front(1, 1) as f:
        for method, path in READS:
            assert await f.served_by(method, path) == "query-0", path
        for method, path in WRITES:
            assert await f.served_by(method, path) == "indexer-0", path
        assert f["query-0"].targets == [f"{m} {p}" for m, p in READS]
        assert f["indexer-0"].targets == [f"{m} {p}" for m, p in WRITES]


async def test_without_query_nodes_indexers_answer_reads(front):
    async with front(2, 0) as f:
        for method, path in READS:
            assert (await f.served_by(method, path)).startswith("indexer-")


async def test_a_namespace_has_its_node_and_many_namespaces_use_all(front):
    async with front(3, 2) as f:
        readers, writers = set(), set()
        for n in range(40):
            name = f"/v1/namespaces/ns-{n}"
            reading = [("POST", "/query"), ("GET", ""), ("GET", "/documents/1"), ("POST", "/query?a=b")]
            read_by = {await f.served_by(method, name + rest) for method, rest in reading}
            written_by = {await f.served_by("POST", name + rest) for rest in ["/upsert", "/delete"]}
            assert len(read_by) == len(written_by) == 1
            readers |= read_by
            writers |= written_by
        assert readers == {"query-0", "query-1"}
        assert writers == {"indexer-0", "indexer-1", "indexer-2"}


async def test_a_path_without_a_namespace_takes_the_header_as_affinity_and_else_any_node(front):
    async with front(1, 3) as f:
        named = {await f.served_by("GET", "/health", headers={"X-Namespace": "docs"}) for _ in range(12)}
        assert named == {await f.served_by("POST", QUERY)}
        assert len({await f.served_by("GET", "/health") for _ in range(60)}) == 3


async def test_names_and_targets_reach_the_node_as_they_were_sent(front):
    async with front(1, 0) as f:
        target = "/v1/namespaces/%2E%2E/documents/a%2Fb%20c?x=%41&y"
        await f.served_by("GET", target)
        await f.served_by("POST", "/v1/namespaces/%2E/query")
        assert f.targets == [f"GET {target}", "POST /v1/namespaces/%2E/query"]


async def test_a_query_is_repeated_on_the_next_node_when_its_own_is_down(front):
    async with front(1, 3) as f:
        own = await f.served_by("POST", QUERY)
        await f[own].stop()
        others = {await f.served_by("POST", QUERY, content=b"{}") for _ in range(20)}
        assert own not in others


async def test_a_query_is_repeated_when_the_connection_breaks_after_it_was_sent(front):
    async with front(1, 2) as f:
        own = await f.served_by("POST", QUERY)
        f[own].is_cutting = True
        body = b"[" + b" " * 1_000_000 + b"]"
        (other,) = {"query-0", "query-1"} - {own}
        assert await f.served_by("POST", QUERY, content=body) == other
        assert f[own].arrived[-1].body == f[other].arrived[-1].body == body


async def test_a_query_that_its_node_refuses_with_503_is_repeated_and_the_last_refusal_is_shown(front):
    async with front(1, 2) as f:
        own = await f.served_by("POST", QUERY)
        f[own].status = 503
        (other,) = {"query-0", "query-1"} - {own}
        assert await f.served_by("POST", QUERY) == other
        f[other].status, f[other].headers = 503, {"Retry-After": "3"}
        f[own].headers = {"Retry-After": "3"}
        answer = await f.http.post(QUERY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        assert answer.json()["node"] in {own, other}


async def test_other_refusals_are_not_repeated(front):
    async with front(1, 2) as f:
        for status in [400, 404, 413, 429, 500]:
            for node in f.nodes.values():
                node.status = status
                node.arrived.clear()
            assert (await f.http.post(QUERY)).status_code == status
            assert len(f.targets) == 1


async def test_when_no_query_node_is_up_indexers_answer_reads(front):
    async with front(2, 2) as f:
        for node_id in ["query-0", "query-1"]:
            await f[node_id].stop()
        for _ in range(3):
            assert (await f.served_by("POST", QUERY, content=b"{}")).startswith("indexer-")
            assert (await f.served_by("GET", "/v1/namespaces/docs")).startswith("indexer-")


async def test_a_write_goes_to_another_indexer_only_when_nothing_was_sent(front):
    async with front(3, 1) as f:
        own = await f.served_by("POST", UPSERT, content=b"{}")
        await f[own].stop()
        assert await f.served_by("POST", UPSERT, content=b"{}") != own
        assert len(f.targets) == 2
        assert f["query-0"].targets == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_node_that_is_down_costs_a_put_or_delete_one_refusal(front, method):
    async with front(3, 1) as f:
        own = await f.served_by(method, "/v1/namespaces/docs")
        await f[own].stop()
        assert (await f.http.request(method, "/v1/namespaces/docs")).status_code == 502
        assert await f.served_by(method, "/v1/namespaces/docs") != own


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_write_whose_connection_breaks_is_not_repeated(front, method):
    async with front(3, 2) as f:
        for node in f.nodes.values():
            node.is_cutting = True
        body = None if method == "DELETE" else b"{}"
        answer = await f.http.request(method, "/v1/namespaces/docs", content=body)
        assert len(f.targets) == 1
        assert answer.status_code == 502
        assert answer.json()["code"] == "bad_gateway"


async def test_the_body_of_a_write_streams_and_that_of_a_query_is_held(front):
    async with front(1, 1) as f:
        go_on = asyncio.Event()

        async def body():
            yield b"x" * 100_000
            await go_on.wait()
            yield b"y"

        write = asyncio.create_task(f.http.post(UPSERT, content=body()))
        await asyncio.wait_for(f["indexer-0"].first_bytes.wait(), 10)
        go_on.set()
        assert (await write).status_code == 200
        assert f["indexer-0"].arrived[0].body == b"x" * 100_000 + b"y"

        go_on.clear()
        query = asyncio.create_task(f.http.post(QUERY, content=body()))
        # a write that is answered later than the query began shows that the query was not passed on meanwhile
        assert (await f.http.post(UPSERT)).status_code == 200
        assert not f["query-0"].first_bytes.is_set()
        go_on.set()
        assert (await query).status_code == 200
        assert f["query-0"].arrived[0].body == b"x" * 100_000 + b"y"


async def test_a_body_over_the_limit_is_refused_as_the_api_refuses(front):
    async with front(1, 1, body_mib_max=1) as f:
        for path in [UPSERT, QUERY]:
            assert (await f.http.post(path, content=b"x" * 2**20)).status_code == 200
            answer = await f.http.post(path, content=b"x" * (2**20 + 1), headers={"X-Request-Id": "r-7"})
            assert answer.status_code == 413
            assert answer.json()["code"] == "payload_too_large"
            assert answer.json()["request_id"] == "r-7"


@pytest.mark.parametrize(
    "path",
    [
        "/internal/drain",
        "/internal/",
        "/internal/drain?x",
        "/%69nternal/drain",
        "//internal/drain",
        "/v1/../internal/drain",
        "/v1/%2e%2e/internal/drain",
        "/./internal//drain",
    ],
)
async def test_internal_paths_are_denied_however_they_are_spelt(front, path):
    async with front(1, 1) as f:
        for method in [b"POST", b"GET", b"DELETE"]:
            # httpx would tidy the path up
            reader, writer = await asyncio.open_connection("127.0.0.1", f.nginx.port)
            writer.write(method + b" " + path.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            assert b" 403 " in answer.split(b"\r\n")[0]
            assert b'"code":"forbidden"' in answer
        assert f.targets == []


async def test_a_request_id_is_passed_on_or_made(front):
    async with front(1, 0) as f:
        given = ["r-1", "a:b/c+d", 'x"y\\z', ""]
        for request_id in given:
            await f.served_by("GET", "/livez", headers={"X-Request-Id": request_id})
        seen = [a.headers["x-request-id"] for a in f["indexer-0"].arrived]
        assert seen[:2] == given[:2]
        assert len({*seen}) == 4
        assert all(len(made) == 32 for made in seen[2:])


async def test_headers_pass_both_ways_and_a_redirect_is_left_as_it_is(front):
    async with front(1, 0) as f:
        node = f["indexer-0"]
        node.status = 307
        node.headers = {"Location": f"{node.place.url}/v1/x", "X-Correct-Indexer": "indexer-9"}
        sent = {"Authorization": "Bearer k", "Idempotency-Key": "i", "X-Namespace": "docs", "Host": "db:1"}
        between_nodes = {"X-Elacsym-Hops": "2", "X-Elacsym-Changed": "indexer-1"}
        answer = await f.http.post(UPSERT, headers=sent | between_nodes)
        assert answer.status_code == 307
        assert answer.headers["location"] == f"{node.place.url}/v1/x"
        assert answer.headers["x-correct-indexer"] == "indexer-9"
        arrived = node.arrived[0].headers
        assert {name: arrived[name.lower()] for name in sent} == sent
        assert arrived["x-forwarded-for"] == "127.0.0.1"
        assert not {name.lower() for name in between_nodes} & set(arrived)


async def test_connections_to_nodes_are_kept(front):
    async with front(1, 1) as f:
        for _ in range(50):
            await f.served_by("POST", QUERY, content=b"{}")
            await f.served_by("POST", UPSERT, content=b"{}")
        assert len(f["query-0"].connections) < 5
        assert len(f["indexer-0"].connections) < 5


async def test_nginx_tells_its_own_health_without_a_node(front):
    async with front(1, 0) as f:
        await f["indexer-0"].stop()
        answer = await f.http.get("/nginx/health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert (await f.http.get("/livez")).status_code == 502

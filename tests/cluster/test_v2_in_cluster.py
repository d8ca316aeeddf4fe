"""The v2 API through a cluster: behind nginx with nodes that pass on, and by a bare 307."""

import asyncio

import httpx
from cluster.harness import cluster_of, places
from cluster.nginx_process import Nginx
from crash.storages import in_folder
from v2.scenarios.trial import NEWEST
from v2.ways import Way, run

SCENARIOS = [
    "upserts_replace_whole_documents",
    "patches_set_what_they_name",
    "deletes_by_filter",
    "upserts_where_the_stored_document_allows_it",
    "every_query_sees_every_write_that_was_answered",
    "an_entry_merges_and_a_bare_type_switches_off",
    "several_queries_see_one_snapshot",
    "counts_and_sums",
    "plans_are_explained",
    "namespaces_are_listed_by_prefix_and_pages",
    "metadata",
    "read_only_is_a_flag",
    "copies_are_independent",
    "copies_are_operations_with_a_token",
    "branches_share_the_past_only",
    "deleted_namespaces_are_gone",
]


async def failures(url, mode):
    """What went wrong with the newest client at this address."""
    results = await asyncio.to_thread(run, Way(NEWEST, mode), url, SCENARIOS)
    return {name: failure for name, failure in results.items() if failure is not None}


async def test_behind_nginx_every_kind_of_request_is_answered(tmp_path):
    nodes = places(2, 1)
    async with cluster_of(tmp_path, in_folder(tmp_path / "data"), nodes, forward=True) as cluster:
        with Nginx(tmp_path / "nginx", nodes) as nginx:
            await nginx.ready()
            assert await failures(nginx.url, "async") == {}
            async with httpx.AsyncClient(base_url=nginx.url, trust_env=False) as http:
                writers = set()
                for n in range(12):
                    path = f"/v2/namespaces/spread-{n}"
                    answer = await http.post(path, json={"upsert_rows": [{"id": 1, "n": n}]})
                    assert answer.json()["rows_upserted"] == 1
                    writers.add(answer.headers["x-served-by"])
                    answer = await http.post(f"{path}/query", json={"limit": 1})
                    assert answer.json()["rows"] == [{"id": 1}]
                    assert answer.headers["x-served-by"] == "query-0"
                assert writers == {"indexer-0", "indexer-1"}
        assert cluster.errors() == []


async def test_the_sync_client_follows_redirects_where_keys_do_not_matter(tmp_path):
    # the async one cannot: its transport reads a body once, and a redirect needs it again
    async with cluster_of(tmp_path, in_folder(tmp_path / "data"), places(2, 0)) as cluster:
        url = cluster.url("indexer-0")
        assert await failures(url, "sync") == {}
        async with cluster.http("indexer-0") as http:
            asked = [f"/v2/namespaces/spread-{n}" for n in range(12)]
            answers = [await http.post(path, json={"upsert_rows": [{"id": 1, "n": 1}]}) for path in asked]
            assert {answer.status_code for answer in answers} == {200, 307}
        assert cluster.errors() == []

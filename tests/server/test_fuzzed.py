"""Requests made up from the API's own description, sent to a real server: whatever they ask, it is no fault.

The path parameters of namespaces are replaced by names that exist, or most requests would end with 404.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest
import schemathesis
from crash.processes import ServerProcess
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from elacsym.server.openapi import DOCUMENT

# would end the server, or measure for seconds
PASSED_OVER = ("/internal/drain", "/_debug/recall")
DOCUMENTS = [
    {"id": n, "vector": [n / 7, 1.0], "title": f"copper kettle {n}", "tags": ["a", str(n)], "n": n}
    for n in range(20)
]
FIRST = {
    "upsert_rows": DOCUMENTS,
    "distance_metric": "cosine_distance",
    "schema": {
        "at": "datetime",
        "title": {"type": "string", "full_text_search": True, "glob": True, "regex": True, "fuzzy": True},
    },
}
# what is fuzzed on a namespace of its own, so that it stays what it is for the others
CHANGING = {"delete", "patch"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    process = ServerProcess(folder / "server", str(folder / "data"))
    asyncio.run(process.start())
    try:
        for name in ("queried", "written", "changed"):
            httpx.post(f"{process.url}/v2/namespaces/{name}", json=FIRST).raise_for_status()
        yield process.url
    finally:
        asyncio.run(process.stop())


# parametrized by what it describes, so it is taken before there is a server, which has to tell the same
schema = schemathesis.openapi.from_dict(DOCUMENT)


def test_the_server_tells_the_description(url):
    assert httpx.get(f"{url}/openapi.json").json() == DOCUMENT


@schema.parametrize()
@settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_is_a_fault(case, url):
    if case.path.endswith(PASSED_OVER):
        return
    if "ns" in (case.path_parameters or {}):
        is_query = case.path.endswith("query")
        name = "queried" if is_query else "written"
        case.path_parameters["ns"] = "changed" if case.method.lower() in CHANGING else name
    # a made-up time limit may be over before anything is done, which is 503 by design
    (case.headers or {}).pop("X-Request-Timeout-Ms", None)
    answer = case.call(base_url=url, timeout=30)
    assert answer.status_code < 500, (answer.status_code, answer.text)
    if answer.status_code >= 400 and "json" in answer.headers["content-type"][0]:
        assert answer.json()["status"] == "error"


# the description tells little of arrays with a grammar: these are nearly right, and often right
NAMES = st.sampled_from(["id", "vector", "title", "tags", "n", "at", "none", "Sum", "$dist", ""])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.floats(-2, 2, allow_nan=False),
    st.sampled_from(["a", "1", "copper kettle", "cop", "[", "*e*", "2024-01-01", "36h", ""]),
    st.sampled_from([2**64, -(2**63), 1e300]),
)
LISTS = st.lists(SCALARS, max_size=3)
OPERATORS = st.sampled_from(
    [
        *("Eq", "NotEq", "In", "NotIn", "Contains", "NotContains", "ContainsAny", "NotContainsAny"),
        *(
            "Lt",
            "Lte",
            "Gt",
            "Gte",
            "AnyLt",
            "AnyLte",
            "AnyGt",
            "AnyGte",
            "Glob",
            "IGlob",
            "NotGlob",
            "NotIGlob",
        ),
        *(
            "Regex",
            "Fuzzy",
            "ContainsAllTokens",
            "ContainsAnyToken",
            "ContainsTokenSequence",
            "BM25",
            "Nonsense",
        ),
    ]
)
OPTIONS = st.sampled_from(
    [
        {},
        {"last_as_prefix": True},
        {"max_edit_distance": [{"min_query_chars": 3, "distance": 0}, {"min_query_chars": 6, "distance": 1}]},
        {"midpoint": 2},
        {"midpoint": "36h", "exponent": 2},
        {"midpoint": 0},
    ]
)
FILTERS = st.recursive(
    st.one_of(
        st.tuples(NAMES, OPERATORS, SCALARS | LISTS).map(list),
        st.tuples(NAMES, OPERATORS, SCALARS | LISTS, OPTIONS).map(list),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["And", "Or"]), st.lists(inner, max_size=3)).map(list),
        inner.map(lambda f: ["Not", f]),
    ),
    max_leaves=4,
)
VECTORS = st.lists(st.sampled_from([0, 1, -0.5, 1e30]), min_size=1, max_size=3) | LISTS | SCALARS
SCORES = st.recursive(
    st.one_of(
        st.tuples(NAMES, st.just("BM25"), SCALARS | LISTS).map(list),
        st.tuples(NAMES, st.just("BM25"), SCALARS, OPTIONS).map(list),
        NAMES.map(lambda name: ["Attribute", name]),
        st.tuples(NAMES, SCALARS).map(lambda p: ["Dist", ["Attribute", p[0]], p[1]]),
        FILTERS,
        SCALARS,
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["Sum", "Max"]), st.lists(inner, max_size=3)).map(list),
        st.tuples(st.just("Product"), SCALARS, inner).map(list),
        st.tuples(st.sampled_from(["Saturate", "Decay"]), inner, OPTIONS).map(list),
    ),
    max_leaves=4,
)
RANKINGS = st.one_of(
    st.tuples(NAMES, st.sampled_from(["ANN", "kNN"]), VECTORS).map(list),
    st.tuples(NAMES, st.just("SparseKNN"), st.dictionaries(st.text(max_size=2), SCALARS, max_size=2)).map(
        list
    ),
    st.tuples(NAMES, st.sampled_from(["asc", "desc", "up"])).map(list),
    st.lists(st.tuples(NAMES, st.sampled_from(["asc", "desc"])).map(list), max_size=3),
    SCORES,
)
COMPUTED = st.one_of(
    SCORES,
    FILTERS,
    st.tuples(NAMES, st.just("VectorDist"), VECTORS).map(list),
    NAMES.map(lambda name: ["Highlight", name]),
    st.tuples(NAMES, st.sampled_from(["none", "sentence", "word", "x"]), SCORES).map(
        lambda p: [
            "Highlight",
            p[0],
            {"fragment_by": p[1], "include_offsets": "utf-8", "rank_fragments_by": p[2]},
        ]
    ),
)
FIGURES = st.dictionaries(
    st.sampled_from(["x", "n"]),
    st.one_of(st.just(["Count"]), NAMES.map(lambda name: ["Sum", name]), LISTS),
    max_size=2,
)
QUERIES = st.one_of(
    st.fixed_dictionaries(
        {"rank_by": RANKINGS, "limit": st.sampled_from([3, 10_000, 0, {"total": 3}])},
        optional={
            "filters": FILTERS,
            "include_attributes": st.booleans() | st.lists(NAMES, max_size=2),
            "compute_attributes": st.dictionaries(st.sampled_from(["c", "n"]), COMPUTED, max_size=2),
            "offset": st.integers(0, 3),
            "vector_encoding": st.just("base64"),
        },
    ),
    st.fixed_dictionaries(
        {"aggregate_by": FIGURES},
        optional={
            "filters": FILTERS,
            "group_by": st.lists(NAMES | NAMES.map(lambda n: {"g": ["ForEachUnique", n]}), max_size=2),
            "top_k": st.integers(0, 3),
        },
    ),
)
NEARLY = settings(
    max_examples=400, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def client(url):
    with httpx.Client(base_url=f"{url}/v2/namespaces", timeout=30) as client:
        yield client


@NEARLY
@given(QUERIES | st.lists(QUERIES, min_size=1, max_size=2).map(lambda several: {"queries": several}))
def test_no_query_that_is_nearly_right_is_a_fault(client, query):
    answer = client.post("/queried/query", json=query)
    assert answer.status_code in (200, 400, 422), answer.text


ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(-1, 5) | st.just("x")},
        optional={
            "vector": VECTORS,
            "title": SCALARS,
            "tags": LISTS,
            "n": SCALARS,
            "at": SCALARS,
            "new": LISTS,
        },
    ),
    max_size=3,
)


@NEARLY
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "upsert_rows": ROWS,
            "patch_rows": ROWS,
            "deletes": st.lists(st.integers(0, 5) | st.just("x"), max_size=2),
            "upsert_condition": FILTERS,
            "patch_condition": FILTERS,
            "delete_by_filter": FILTERS,
            "patch_by_filter": st.fixed_dictionaries(
                {"filters": FILTERS, "patch": st.dictionaries(NAMES, SCALARS, max_size=2)}
            ),
            "schema": st.dictionaries(
                st.sampled_from(["n", "new", "title", "more"]),
                st.sampled_from(["int", "[]string", "no", {"type": "string", "glob": True}, {"drop": True}]),
                max_size=1,
            ),
            "return_affected_ids": st.booleans(),
            "require_all_vectors": st.booleans(),
        },
    )
)
def test_no_write_that_is_nearly_right_is_a_fault(client, body):
    answer = client.post("/written", json=body)
    assert answer.status_code in (200, 400, 422), answer.text

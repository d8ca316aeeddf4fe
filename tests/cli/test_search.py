"""`query`, `namespaces`, `delete` and `version` against a real server."""

import orjson
import pytest

SCHEMA = {
    "vector_dim": 2,
    "vector_metric": "l2",
    "attributes": {"title": {"type": "string", "full_text": True}, "year": {"type": "integer"}},
}
TITLES = ["red kettle", "blue kettle", "green mountain"]


@pytest.fixture
def books(client):
    """A namespace of three books, made anew."""
    documents = [
        {"id": n, "vector": [float(n), 0.0], "attributes": {"title": title, "year": 2000 + n}}
        for n, title in enumerate(TITLES, 1)
    ]
    client.create("books", SCHEMA)
    client.upsert("books", documents)
    yield "books"
    if "books" in client.all_namespaces():
        client.delete_namespace("books")


@pytest.fixture
def ask(elacsym, server_url, books):
    """`ask(*flags)`: the ids that a query of the books finds, in order."""

    def run(*flags):
        code, out, err = elacsym("query", books, *flags, "--url", server_url, "--json")
        assert code == 0, err
        return [row["id"] for row in orjson.loads(out)["results"]]

    return run


def test_text_is_searched_in_all_full_text_attributes(ask):
    assert ask("mountain") == [3]
    assert sorted(ask("kettle", "--field", "title")) == [1, 2]


def test_a_vector_finds_its_neighbours(ask):
    assert ask("--vector", "[3, 0]", "-k", 2) == [3, 2]


def test_a_vector_is_compared_with_the_attribute_that_is_named(client, elacsym, server_url, books):
    client.create(books, {"attributes": {"cover": {"type": "[2]i8"}}})
    client.upsert(books, [{"id": 9, "attributes": {"title": "tea", "cover": [100, -100]}}])
    flags = ("--vector", "[99, -99]", "--url", server_url, "--json")
    code, out, err = elacsym("query", books, "--vector-field", "cover", *flags)
    assert code == 0, err
    assert [(row["id"], row["score"]) for row in orjson.loads(out)["results"]] == [(9, 2.0)]
    code, _, err = elacsym("query", books, "tea", "--vector-field", "cover", "--url", server_url)
    assert code == 2
    assert "--vector" in err


def test_recall_is_measured(elacsym, server_url, books, ask):
    code, out, err = elacsym("recall", books, "--stored", "-n", 2, "--url", server_url)
    assert (code, out) == (0, "recall@10: 1.0000\n"), err
    assert "0 queries asked lately and 2 stored vectors; 3.0 of 3.0 rows" in err
    ask("--vector", "[1, 0]")
    flags = ("--filter", "year>=2002", "-k", 1, "--vector-field", "vector", "--url", server_url, "--json")
    code, out, err = elacsym("recall", books, *flags)
    assert code == 0, err
    found = orjson.loads(out)
    assert (found["avg_exhaustive_count"], found["queries"]) == (1, {"recent": 1, "stored": 3})


def test_a_namespace_is_warmed(elacsym, server_url, books):
    code, _, err = elacsym("warm", books, "--url", server_url)
    assert (code, err) == (0, "books is being brought into the cache\n")
    code, _, err = elacsym("warm", "none-such", "--url", server_url)
    assert code == 1
    assert "none-such" in err


def test_text_and_vector_are_fused(ask):
    assert ask("green", "--vector", "[3, 0]", "--fusion", "weighted", "--text-weight", 0.5)[0] == 3


def test_filters_are_all_applied(ask):
    assert ask("kettle", "--filter", "year>=2001", "--filter", "year!=2001") == [2]


def test_without_words_or_vector_the_documents_are_listed_in_an_order(ask):
    assert ask() == [1, 2, 3]
    assert ask("--order-by", "year:desc", "-k", 2) == [3, 2]
    assert ask("--filter", "title=red kettle") == [1]


def test_a_whole_request_may_be_given_as_json(ask, tmp_path):
    (tmp_path / "q.json").write_text('{"vector": [1, 0], "top_k": 1}')
    assert ask("--request", f"@{tmp_path / 'q.json'}") == [1]


def test_results_are_shown_as_a_table_with_the_explanation(elacsym, server_url, books):
    code, out, err = elacsym("query", books, "kettle", "--vector", "[2, 0]", "--explain", "--url", server_url)
    assert code == 0, err
    assert "title: blue kettle" in out
    assert "text:title: rank" in out
    assert '"kind": "hybrid"' in out
    assert "3 results" in err


def test_groups_are_shown(elacsym, server_url, books):
    request = '{"aggregate": {"count": true}}'
    code, out, _ = elacsym("query", books, "--request", request, "--url", server_url)
    assert code == 0
    assert '"count": 3' in out


def test_namespaces_are_listed_one_per_line(elacsym, server_url, books):
    code, out, _ = elacsym("namespaces", "boo", "--url", server_url)
    assert (code, out) == (0, "books\n")
    code, out, _ = elacsym("namespaces", "--json", "--url", server_url)
    assert "books" in orjson.loads(out)


def test_documents_are_deleted_by_id_and_by_filter(elacsym, server_url, books, client):
    assert elacsym("delete", books, "1", "9", "--yes", "--url", server_url)[0] == 0
    assert [d and d.id for d in client.documents(books, [1, 2, 3])] == [None, 2, 3]
    assert elacsym("delete", books, "--filter", "year=2003", "--yes", "--url", server_url)[0] == 0
    assert client.info(books)["documents"] == 1


def test_a_namespace_is_deleted_only_when_it_is_confirmed(elacsym, server_url, books, client, monkeypatch):
    monkeypatch.setattr("sys.stdin.readline", lambda *_: "n\n", raising=False)
    code, _, err = elacsym("delete", books, "--url", server_url)
    assert code == 1
    assert "Delete the namespace books with 3 documents?" in err
    assert client.info(books)["documents"] == 3
    assert elacsym("delete", books, "--yes", "--url", server_url)[0] == 0
    assert books not in client.all_namespaces()


@pytest.mark.parametrize(
    "arguments",
    [
        ("query",),
        ("query", "books", "--filter", "nonsense"),
        ("query", "books", "--vector", "[1,"),
        ("query", "books", "--vector", "{}"),
        ("query", "books", "--vector", '["a"]'),
        ("query", "books", "--filter", "{"),
        ("query", "books", "--request", "[1]"),
        ("query", "books", "--request", '{"namespace": "books"}'),
        ("query", "books", "--order-by", "year:up"),
        ("query", "books", "-k", "0"),
        ("query", "books", "--url", "no-url"),
        ("delete", "books", "one"),
        ("delete", "books", "1", "--filter", "year=1"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_ends_with_code_2(elacsym, server_url, books, arguments):
    needs_url = "--url" not in arguments and arguments[0] in {"query", "delete"}
    code, _, err = elacsym(*arguments, *(["--yes"] if arguments[0] == "delete" else []),
                           *(["--url", server_url] if needs_url else []))  # fmt: skip
    assert code == 2
    assert "Traceback" not in err


def test_what_the_server_refuses_is_one_line_with_the_request_id_and_code_1(elacsym, server_url, books):
    code, out, err = elacsym("query", books, "--vector", "[1, 2, 3]", "--url", server_url)
    assert (code, out) == (1, "")
    assert err.startswith("error: vector: ")
    assert err.count("\n") == 1
    assert "(request " in err


def test_a_server_that_is_not_there_is_named(elacsym, unused_tcp_port_url):
    code, _, err = elacsym("namespaces", "--url", unused_tcp_port_url)
    assert code == 1
    assert unused_tcp_port_url in err
    assert err.count("\n") == 1


def test_the_address_and_the_key_may_come_from_the_environment(elacsym, server_url, books, monkeypatch):
    monkeypatch.setenv("ELACSYM_URL", server_url)
    monkeypatch.setenv("ELACSYM_API_KEY", "a-key-that-nobody-asks-for")
    assert elacsym("namespaces", "boo")[:2] == (0, "books\n")


def test_the_version_is_printed(elacsym):
    import elacsym as package

    assert elacsym("version")[:2] == (0, f"elacsym {package.__version__}\n")

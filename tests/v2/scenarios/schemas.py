"""The schema: inferred, declared, changed, shown."""

from __future__ import annotations

from v2.scenarios.trial import COSINE, EUCLIDEAN, Trial, scenario

FULL_TEXT = {
    "k1": 1.2,
    "k3": 8.0,
    "b": 0.75,
    "language": "english",
    "stemming": False,
    "remove_stopwords": False,
    "case_sensitive": False,
    "ascii_folding": False,
    "max_token_length": 39,
    "tokenizer": "word_v4",
}


def entry(kind: str, **more: object) -> dict[str, object]:
    """A plain attribute as the schema calls show it."""
    return {"type": kind, "filterable": True, "full_text_search": None} | more


@scenario("S-01", "S-05")
async def types_are_inferred_from_values(t: Trial) -> None:
    row = {"id": 1, "s": "x", "i": 1, "b": True, "ss": ["x"], "ii": [1], "bb": [False], "vector": [1.0, 2.0]}
    await t.store([row], distance_metric=COSINE)
    assert await t.schema() == {
        "id": entry("uint", filterable=None),
        "s": entry("string"),
        "i": entry("int"),
        "b": entry("bool"),
        "ss": entry("[]string"),
        "ii": entry("[]int"),
        "bb": entry("[]bool"),
        "vector": entry("[2]f32", filterable=None, ann=True),
    }


@scenario("S-01")
async def fractions_are_not_inferred(t: Trial) -> None:
    await t.refused(400, "signed 64-bit integer", upsert_rows=[{"id": 1, "x": 1.5}])
    await t.refused(400, "", upsert_rows=[{"id": 1, "x": [1, 1.5]}])
    await t.refused(400, "x", upsert_rows=[{"id": 1, "x": 1}, {"id": 2, "x": "a"}])
    await t.store([{"id": 1, "x": 1.5}], schema={"x": "float"})
    assert await t.documents() == [{"id": 1, "x": 1.5}]


@scenario("S-02", "W-10")
async def a_schema_comes_with_a_write(t: Trial) -> None:
    await t.store(
        [{"id": "a", "title": "Copper", "n": 3}],
        schema={
            "id": "string",
            "title": {"type": "string", "full_text_search": {"language": "german", "stemming": True}},
            "n": {"type": "uint", "filterable": False},
            "later": "datetime",
            "sku": {"type": "string", "glob": True, "regex": True, "fuzzy": True},
            "ignored": {"type": "int", "colour": "unknown options are ignored"},
        },
    )
    assert await t.schema() == {
        "id": entry("string", filterable=None),
        "title": entry(
            "string", filterable=False, full_text_search=FULL_TEXT | {"language": "german", "stemming": True}
        ),
        "n": entry("uint", filterable=False),
        "later": entry("datetime"),
        "sku": entry("string", filterable=False, glob=True, regex=True, fuzzy=True),
        "ignored": entry("int"),
    }
    await t.refused(422, "type", schema={"x": {"filterable": True}})
    await t.refused(422, "", schema={"x": "text"})
    await t.refused(400, "x", schema={"x": {"type": "int", "full_text_search": True}})
    await t.refused(400, "x", schema={"x": {"type": "int", "regex": True}})
    await t.refused(400, "x", schema={"x": {"type": "int", "ann": True}})


@scenario("S-03")
async def types_never_change(t: Trial) -> None:
    await t.store([{"id": 1, "x": 1}])
    told = "🙅 invalid schema update for attribute 'x': cannot change attribute type from int to string"
    body = await t.refused(400, told, schema={"x": "string"})
    assert body == {"status": "error", "error": told, "attribute": "x"}
    body = await t.refused(400, told, "update_schema", schema={"x": {"type": "string"}})
    assert body["attribute"] == "x"
    assert (await t.schema())["x"] == entry("int")


@scenario("S-04", "N-06")
async def an_entry_merges_and_a_bare_type_switches_off(t: Trial) -> None:
    first = {"type": "string", "filterable": True, "full_text_search": {"k1": 2.0, "stemming": True}}
    await t.store([{"id": 1, "s": "kettles"}], schema={"s": first})
    shown = await t.update_schema(schema={"s": {"type": "string", "full_text_search": {"b": 0.5}}})
    merged = FULL_TEXT | {"k1": 2.0, "b": 0.5, "stemming": True}
    assert shown["s"] == entry("string", full_text_search=merged)
    assert set(shown) == {"id", "s"}
    shown = await t.update_schema(schema={"s": {"type": "string", "glob": True}})
    assert shown["s"] == entry("string", full_text_search=merged, glob=True)
    shown = await t.update_schema(schema={"s": "string"})
    assert shown["s"] == entry("string")
    assert await t.schema() == shown
    shown = await t.update_schema(schema={"s": {"type": "string", "filterable": False}, "n": "int"})
    assert shown["s"] == entry("string", filterable=False)
    assert shown["n"] == entry("int")
    assert await t.update_schema(schema={}) == shown
    missing = t.other("missing")
    await missing.refused(404, "was not found", "update_schema", schema={"s": "string"})


@scenario("S-05", "S-06", "N-05")
async def schemas_are_shown_expanded(t: Trial) -> None:
    schema = {
        "s": {"type": "string", "full_text_search": True},
        "v": {"type": "[2]f16", "ann": True},
        "f": {"type": "string", "fuzzy": True},
    }
    row = {"id": 1, "s": "x", "v": [1.0, 2.0], "f": "x", "n": 1}
    await t.store([row], schema=schema, distance_metric=EUCLIDEAN)
    assert await t.schema() == {
        "id": entry("uint", filterable=None),
        "s": entry("string", filterable=False, full_text_search=FULL_TEXT),
        "v": entry("[2]f16", filterable=False, ann=True),
        "f": entry("string", filterable=False, fuzzy=True),
        "n": entry("int"),
    }
    shown = (await t.metadata())["schema"]
    assert shown["v"]["ann"] == {"distance_metric": EUCLIDEAN}
    assert shown["s"] == {"type": "string", "filterable": False, "full_text_search": FULL_TEXT}
    assert shown["n"] == {"type": "int", "filterable": True}
    assert shown["id"] == {"type": "uint"}
    await t.other("missing").refused(404, "was not found", "schema")


@scenario("S-07")
async def unfilterable_attributes_refuse_filters_at_once(t: Trial) -> None:
    await t.store([{"id": 1, "s": "x", "n": 1}])
    assert await t.found("s", "Eq", "x") == [1]
    await t.write(schema={"s": {"type": "string", "filterable": False}})
    await t.query_refused(400, "s", filters=["s", "Eq", "x"], limit=1)
    assert await t.ids(rank_by=["s", "asc"], limit=1) == [1]
    await t.write(schema={"s": {"type": "string", "filterable": True}})
    assert await t.found("s", "Eq", "x") == [1]


@scenario("S-08", "N-06")
async def indexes_are_switched_on_for_documents_that_are_there(t: Trial) -> None:
    await t.store([{"id": 1, "s": "copper kettle"}, {"id": 2, "s": "iron pot"}])
    await t.query_refused(400, "s", rank_by=["s", "BM25", "kettle"], limit=9)
    await t.query_refused(400, "s", filters=["s", "Regex", "^cop"], limit=9)
    await t.update_schema(
        schema={"s": {"type": "string", "full_text_search": True, "regex": True, "fuzzy": True, "glob": True}}
    )
    assert await t.ids(rank_by=["s", "BM25", "kettle"], limit=9) == [1]
    assert await t.found("s", "Regex", "^cop") == [1]
    assert await t.found("s", "Glob", "*pot") == [2]
    await t.store([{"id": 3, "s": "kettle"}])
    assert await t.ids(rank_by=["s", "BM25", "kettle"], limit=9) == [3, 1]
    await t.update_schema(schema={"s": {"type": "string", "full_text_search": {"stemming": True}}})
    assert await t.ids(rank_by=["s", "BM25", "kettles"], limit=9) == [3, 1]


@scenario("S-09", "N-06")
async def attributes_can_be_dropped(t: Trial) -> None:
    await t.store([{"id": 1, "a": 1, "b": "x"}, {"id": 2, "a": 2}])
    shown = await t.update_schema(schema={"a": {"drop": True}})
    assert set(shown) == {"id", "b"}
    assert await t.documents() == [{"id": 1, "b": "x"}, {"id": 2}]
    await t.query_refused(400, "a", filters=["a", "Eq", 1], limit=1)
    await t.refused(400, "id", schema={"id": {"drop": True}})
    await t.refused(400, "b", schema={"b": {"drop": True}}, upsert_rows=[{"id": 3, "b": "y"}])
    # the name is free for another type, and old values do not come back
    await t.store([{"id": 3, "a": "text"}])
    assert await t.documents() == [{"id": 1, "b": "x"}, {"id": 2}, {"id": 3, "a": "text"}]


@scenario("S-10")
async def vectors_need_ann_and_agree_on_the_metric(t: Trial) -> None:
    row = {"id": 1, "vector": [1.0, 2.0]}
    told = "the `vector` attribute must have `ann` set to `true`"
    for wrong in ("[2]f32", {"type": "[2]f32"}, {"type": "[2]f32", "ann": False}):
        await t.refused(400, told, upsert_rows=[row], schema={"vector": wrong}, distance_metric=COSINE)
    other = {"schema": {"v": {"type": "[2]f32"}}, "distance_metric": COSINE}
    await t.refused(
        400, "vector attribute 'v' must have ann:true", upsert_rows=[{"id": 1, "v": [1.0, 2.0]}], **other
    )
    own = {"vector": {"type": "[2]f32", "ann": {"distance_metric": COSINE}}}
    await t.refused(400, "distance_metric", upsert_rows=[row], schema=own)
    await t.refused(400, "", upsert_rows=[row], schema=own, distance_metric=EUCLIDEAN)
    await t.store([row], schema=own, distance_metric=COSINE)
    assert (await t.metadata())["schema"]["vector"]["ann"] == {"distance_metric": COSINE}


@scenario("S-11", "Q-24")
async def embedding_models_are_refused(t: Trial) -> None:
    told = "embedding model 'some/model' is not available on this server"
    schema = {"s": {"type": "string", "embed": "some/model"}}
    await t.refused(400, told, upsert_rows=[{"id": 1, "s": "x"}], schema=schema)
    detailed = {"s": {"type": "string", "embed": {"model": "some/model", "dims": 64}}}
    await t.refused(400, told, upsert_rows=[{"id": 1, "s": "x"}], schema=detailed)
    assert not await t.exists()
    await t.store([{"id": 1, "vector": [1.0, 2.0]}], distance_metric=COSINE)
    for embedded in (["Embed", "a text"], ["Embed", "a text", {"model": "some/model"}]):
        rank_by = ["vector", "ANN", embedded]
        await t.query_refused(400, "available on this server", rank_by=rank_by, limit=1)

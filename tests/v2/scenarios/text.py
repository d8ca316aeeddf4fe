"""Full-text search: analysis, scores, token filters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from v2.scenarios.trial import Trial, close, expect_scores, scenario

KETTLES = {
    1: "copper kettle",
    2: "a copper kettle and an iron kettle",
    3: "iron pot",
    4: None,
    5: "kettle kettle kettle kettle",
    6: "the lid of the pot",
    7: "copper kettle",
}


async def texts(t: Trial, documents: Mapping[int, Any], *, kind: str = "string", **settings: Any) -> None:
    """Documents with a text each, analysed with these settings."""
    schema = {"s": {"type": kind, "full_text_search": settings or True, "filterable": True}}
    await t.store([{"id": n, "s": s} for n, s in documents.items()], schema=schema)


def bm25(
    documents: Mapping[int, list[str]],
    query: list[str],
    *,
    k1: float = 1.2,
    b: float = 0.75,
    k3: float = 8.0,
) -> list[tuple[int, float]]:
    """The formula, token by token."""
    count, average = len(documents), sum(map(len, documents.values())) / len(documents)
    scores: dict[int, float] = {}
    for token, repeats in Counter(query).items():
        having = [n for n, tokens in documents.items() if token in tokens]
        rarity = math.log(1 + (count - len(having) + 0.5) / (len(having) + 0.5))
        asked = repeats * (k3 + 1) / (k3 + repeats)
        for n in having:
            times, length = documents[n].count(token), len(documents[n])
            often = times * (k1 + 1) / (times + k1 * (1 - b + b * length / average))
            scores[n] = scores.get(n, 0.0) + rarity * often * asked
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def split(documents: Mapping[int, str | None]) -> dict[int, list[str]]:
    """The tokens of texts that are only words and spaces."""
    return {n: s.split() for n, s in documents.items() if s is not None}


@scenario("F-01", "Q-03")
async def scores_are_exact(t: Trial) -> None:
    await texts(t, KETTLES)
    for query in ("kettle", "copper kettle", "kettle kettle pot", "iron nothing"):
        got = await t.scores(rank_by=["s", "BM25", query], limit=9)
        expect_scores(got, bm25(split(KETTLES), query.split()))
    assert await t.rows(rank_by=["s", "BM25", "nothing"], limit=9) == []
    assert await t.rows(rank_by=["s", "BM25", "…"], limit=9) == []
    filtered = await t.scores(rank_by=["s", "BM25", "pot"], filters=["id", "Eq", 3], limit=9)
    # statistics are the namespace's
    expect_scores(filtered, [p for p in bm25(split(KETTLES), ["pot"]) if p[0] == 3])
    await t.query_refused(400, "8192", rank_by=["s", "BM25", "x" * 8193], limit=9)
    await t.query_refused(422, "", rank_by=["s", "BM25", 7], limit=9)


@scenario("F-01", "W-01", "W-05")
async def what_is_gone_does_not_count(t: Trial) -> None:
    await texts(t, KETTLES)
    await t.write(
        deletes=[5], upsert_rows=[{"id": 2, "s": "a wooden spoon"}], patch_rows=[{"id": 3, "s": "kettle"}]
    )
    left = {1: "copper kettle", 2: "a wooden spoon", 3: "kettle", 6: "the lid of the pot", 7: "copper kettle"}
    for query in ("kettle", "copper pot"):
        got = await t.scores(rank_by=["s", "BM25", query], limit=9)
        expect_scores(got, bm25(split(left), query.split()))


@scenario("F-02")
async def parameters_of_the_formula(t: Trial) -> None:
    settings = {"k1": 0.9, "b": 0.3, "k3": 2.0}
    await texts(t, KETTLES, **settings)
    for query in ("copper kettle", "kettle kettle kettle pot"):
        got = await t.scores(rank_by=["s", "BM25", query], limit=9)
        expect_scores(got, bm25(split(KETTLES), query.split(), **settings))
    shown = (await t.schema())["s"]["full_text_search"]
    assert {name: shown[name] for name in settings} == settings
    # they can be changed later
    await t.update_schema(schema={"s": {"type": "string", "full_text_search": {"k1": 2.0}}})
    got = await t.scores(rank_by=["s", "BM25", "kettle"], limit=9)
    expect_scores(got, bm25(split(KETTLES), ["kettle"], **settings | {"k1": 2.0}))
    for bad in ({"k1": -1}, {"b": 2}, {"b": -0.1}):
        full_text = {"x": {"type": "string", "full_text_search": bad}}
        await t.refused(400, "", schema=full_text)


async def tokens_found(t: Trial, wanted: Mapping[str, list[int]]) -> None:
    """Every word finds exactly these documents."""
    for word, ids in wanted.items():
        assert await t.found("s", "ContainsAllTokens", word) == ids, word
        assert sorted(await t.ids(rank_by=["s", "BM25", word], limit=20)) == ids, word


@scenario("F-03", "F-04")
async def words_are_found_by_unicode_segmentation(t: Trial) -> None:
    documents = {
        1: "e.g. this",
        2: "U.S.A.",
        3: "fish@sea.com",
        4: "e-mail",
        5: "I don't",
        6: "3.14 is pi",
        7: "東京タワー",
        8: "a 😀 b",
    }
    wanted = {
        "e.g": [1],
        "u.s.a": [2],
        "sea.com": [3],
        "fish": [3],
        "mail": [4],
        "don't": [5],
        "3.14": [6],
        "東": [7],
        "タワー": [7],
        "😀": [8],
        "com": [],
        "14": [],
    }
    await texts(t, documents)
    await tokens_found(t, wanted)
    third = t.other("v3")
    await texts(third, documents, tokenizer="word_v3")
    await tokens_found(third, wanted)
    assert (await third.schema())["s"]["full_text_search"]["tokenizer"] == "word_v3"


@scenario("F-04")
async def older_tokenizers(t: Trial) -> None:
    documents = {1: "I don't", 2: "3.14", 3: "東京 タワー", 4: "a 😀 b"}
    common = {"don": [1], "t": [1], "3": [2], "14": [2]}
    for version, own in (
        ("word_v2", {"東": [3], "😀": [4]}),
        ("word_v1", {"東京": [3], "😀": [4]}),
        ("word_v0", {"東京": [3], "😀": []}),
    ):
        other = t.other(version)
        await texts(other, documents, tokenizer=version)
        await tokens_found(other, common | own)
    unknown = {"x": {"type": "string", "full_text_search": {"tokenizer": "word_v9"}}}
    await other.refused(422, "word_v9", schema=unknown)


@scenario("F-05", "F-16")
async def tokens_may_come_ready_made(t: Trial) -> None:
    documents = {1: ["Big", "data set"], 2: ["big", "data"], 3: ["Big"]}
    schema = {"content": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array"}}}
    await t.store([{"id": n, "content": tokens} for n, tokens in documents.items()], schema=schema)
    got = await t.scores(rank_by=["content", "BM25", ["Big", "data set"]], limit=9)
    expect_scores(got, bm25(documents, ["Big", "data set"]))
    assert await t.found("content", "ContainsAllTokens", ["Big"]) == [1, 3]
    assert await t.found("content", "ContainsAnyToken", ["big", "data set"]) == [1, 2]
    told = ["invalid input", ' for rank_by field "content", expecting []string']
    await t.query_refused(400, told, rank_by=["content", "BM25", "Big"], limit=9)
    for bad in (
        {"language": "english"},
        {"stemming": True},
        {"remove_stopwords": True},
        {"case_sensitive": False},
    ):
        full_text = {"tokenizer": "pre_tokenized_array"} | bad
        await t.refused(400, "", schema={"x": {"type": "[]string", "full_text_search": full_text}})
    full_text = {"tokenizer": "pre_tokenized_array"}
    await t.refused(400, "", schema={"x": {"type": "string", "full_text_search": full_text}})


@scenario("F-06", "F-08")
async def english_is_stemmed_and_stop_words_removed(t: Trial) -> None:
    documents = {1: "the running kettles", 2: "a kettle runs", 3: "the and of"}
    await texts(t, documents, stemming=True, remove_stopwords=True)
    await tokens_found(t, {"kettle": [1, 2], "kettles": [1, 2], "run": [1, 2], "the": [], "of": []})
    plain = t.other("plain")
    await texts(plain, documents)
    await tokens_found(plain, {"kettle": [2], "run": [], "the": [1, 3]})


@scenario("F-07")
async def eighteen_languages_are_stemmed(t: Trial) -> None:
    words = {
        "arabic": ("الكتاب", "كتاب"),
        "danish": ("hestene", "heste"),
        "dutch": ("boeken", "boek"),
        "english": ("kettles", "kettle"),
        "finnish": ("taloissa", "talo"),
        "french": ("continuellement", "continuelle"),
        "german": ("häuser", "hauses"),
        "greek": ("βιβλία", "βιβλίου"),
        "hungarian": ("házakat", "ház"),
        "italian": ("gatti", "gatto"),
        "norwegian": ("husene", "huset"),
        "portuguese": ("gatos", "gato"),
        "romanian": ("copiilor", "copii"),
        "russian": ("книги", "книга"),
        "spanish": ("gatos", "gato"),
        "swedish": ("bilarna", "bilen"),
        "tamil": ("வீடுகள்", "வீடு"),
        "turkish": ("evler", "ev"),
    }
    full_text = {lang: {"language": lang, "stemming": True} for lang in words}
    schema = {lang: {"type": "string", "full_text_search": settings} for lang, settings in full_text.items()}
    await t.store([{"id": 1} | {lang: one for lang, (one, _) in words.items()}], schema=schema)
    for lang, (one, other) in words.items():
        assert await t.found(lang, "ContainsAllTokens", one) == [1], lang
        assert await t.found(lang, "ContainsAllTokens", other) == [1], lang
    await t.refused(
        422, "klingon", schema={"x": {"type": "string", "full_text_search": {"language": "klingon"}}}
    )


@scenario("F-08", "F-16")
async def stop_words_by_language(t: Trial) -> None:
    schema = {
        lang: {"type": "string", "full_text_search": {"language": lang, "remove_stopwords": True}}
        for lang in ("german", "french")
    }
    await t.store([{"id": 1, "german": "und das Haus", "french": "et la maison"}], schema=schema)
    assert await t.found("german", "ContainsAllTokens", "haus") == [1]
    assert await t.found("german", "ContainsAllTokens", "und") == []
    assert await t.found("french", "ContainsAllTokens", "maison") == [1]
    assert await t.found("french", "ContainsAllTokens", "et") == []
    for lang in ("arabic", "greek", "romanian", "tamil", "turkish"):
        full_text = {"language": lang, "remove_stopwords": True}
        await t.refused(400, "", schema={"x": {"type": "string", "full_text_search": full_text}})


@scenario("F-09", "F-16")
async def case_and_accents(t: Trial) -> None:
    documents = {1: "Café STRASSE", 2: "cafe straße", 3: "CÆSAR"}
    await texts(t, documents)
    await tokens_found(t, {"café": [1], "CAFE": [2], "strasse": [1], "cæsar": [3], "caesar": []})
    folded = t.other("folded")
    await texts(folded, documents, ascii_folding=True)
    await tokens_found(folded, {"cafe": [1, 2], "café": [1, 2], "strasse": [1, 2], "caesar": [3]})
    exact = t.other("exact")
    await texts(exact, documents, case_sensitive=True)
    await tokens_found(exact, {"Café": [1], "café": [], "STRASSE": [1], "strasse": []})
    both = {"x": {"type": "string", "full_text_search": {"case_sensitive": True, "stemming": True}}}
    await t.refused(400, "", schema=both)


@scenario("F-10", "F-16")
async def long_tokens_are_dropped(t: Trial) -> None:
    documents = {1: "a" * 39, 2: "b" * 40, 3: "é" * 39}
    await texts(t, documents)
    await tokens_found(t, {"a" * 39: [1], "b" * 40: [], "é" * 39: [3]})
    short = t.other("short")
    await texts(short, {1: "abc abcd"}, max_token_length=3)
    await tokens_found(short, {"abc": [1], "abcd": []})
    for bad in (0, 255):
        full_text = {"x": {"type": "string", "full_text_search": {"max_token_length": bad}}}
        await t.refused(400, "254", schema=full_text)


@scenario("F-11", "F-14")
async def arrays_of_strings_are_one_text(t: Trial) -> None:
    documents = {1: ["copper kettle", "iron pot"], 2: ["pot"], 3: [], 4: None}
    await texts(t, documents, kind="[]string")
    analysed = {n: " ".join(parts).split() for n, parts in documents.items() if parts is not None}
    got = await t.scores(rank_by=["s", "BM25", "pot"], limit=9)
    expect_scores(got, bm25(analysed, ["pot"]))
    assert await t.found("s", "ContainsAllTokens", "copper pot") == [1]
    assert await t.found("s", "ContainsTokenSequence", "iron pot") == [1]
    # not from one element to the next
    assert await t.found("s", "ContainsTokenSequence", "kettle iron") == []


@scenario("F-12", "F-13")
async def documents_have_all_or_some_of_the_tokens(t: Trial) -> None:
    await texts(t, KETTLES)
    assert await t.found("s", "ContainsAllTokens", "kettle copper") == [1, 2, 7]
    assert await t.found("s", "ContainsAllTokens", ["Copper", "iron"]) == [2]
    assert await t.found("s", "ContainsAnyToken", "pot copper") == [1, 2, 3, 6, 7]
    assert await t.found("s", "ContainsAnyToken", ["lid", "nothing"]) == [6]
    assert await t.found("Not", ["s", "ContainsAnyToken", "kettle"]) == [3, 4, 6]
    for operator in ("ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"):
        assert await t.found("s", operator, "…") == []
        await t.query_refused(400, "8192", filters=["s", operator, "x" * 8193], limit=1)
    plain = t.other("plain")
    await plain.store([{"id": 1, "s": "kettle"}])
    await plain.query_refused(400, "s", filters=["s", "ContainsAllTokens", "kettle"], limit=1)


@scenario("F-14", "F-08")
async def tokens_in_sequence(t: Trial) -> None:
    documents = {1: "the lord of the rings", 2: "lord in a rings", 3: "lord rings", 4: "rings of the lord"}
    await texts(t, documents)
    assert await t.found("s", "ContainsTokenSequence", "of the") == [1, 4]
    assert await t.found("s", "ContainsTokenSequence", "Lord of") == [1]
    assert await t.found("s", "ContainsTokenSequence", "lord rings") == [3]
    stopped = t.other("stopped")
    await texts(stopped, documents, remove_stopwords=True)
    # what was removed leaves a gap of the same width
    assert await stopped.found("s", "ContainsTokenSequence", "lord of the rings") == [1, 2]
    assert await stopped.found("s", "ContainsTokenSequence", "lord rings") == [3]


@scenario("F-15")
async def the_last_token_may_be_a_prefix(t: Trial) -> None:
    documents = {1: "kettle", 2: "kettledrum", 3: "copper kettles", 4: "ket", 5: "copper"}
    await texts(t, documents)
    prefix = {"last_as_prefix": True}
    assert await t.found("s", "ContainsAllTokens", "kettle", prefix) == [1, 2, 3]
    assert await t.found("s", "ContainsAllTokens", "copper ke", prefix) == [3]
    assert await t.found("s", "ContainsAnyToken", "nothing ket", prefix) == [1, 2, 3, 4]
    scores = dict(await t.scores(rank_by=["s", "BM25", "kettle", prefix], limit=9))
    assert set(scores) == {1, 2, 3}
    # longer tokens give 1.0 in place of BM25
    assert scores[2] == scores[3] == 1.0
    assert close(scores[1], dict(bm25(split(documents), ["kettle"]))[1])
    assert await t.ids(rank_by=["s", "BM25", "kettle"], limit=9) == [1]


@scenario("F-05", "F-01")
async def a_query_may_be_a_list_of_tokens(t: Trial) -> None:
    await texts(t, KETTLES)
    got = await t.scores(rank_by=["s", "BM25", ["Copper", "kettle"]], limit=9)
    expect_scores(got, bm25(split(KETTLES), ["copper", "kettle"]))

"""BM25 of a namespace against the formula, document by document: every language, tokenizer and kind of
setting, over segments and tail, with deleted and replaced documents."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from support.database import open_database

from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.index.tokenize import PRE_TOKENIZED, analyzer, languages, tokenizer_names
from elacsym.query.ast import Bm25, Query, ScoreLeg
from elacsym.types import Attribute, AttributeType, FullText, Schema

WITHOUT_STOP_WORDS = {"arabic", "greek", "romanian", "tamil", "turkish"}
# of each language a few words with their inflections, so that stemming joins some, and stop words
WORDS = {
    "arabic": "الكتاب كتاب والكتب كاتب في من المدرسة مدرسة",
    "danish": "huset husene huse løber løb og i hundene",
    "dutch": "huizen huis lopen loopt de het honden hond",
    "english": "house houses running runs the and dogs dog's",
    "finnish": "talo talossa talot juoksee ja on koirat koira",
    "french": "maison maisons courir courait le les chevaux l'été",
    "german": "Haus Häuser laufen läuft der und Straße straße",
    "greek": "σπίτι σπίτια τρέχει σκύλος σκυλιά και το",
    "hungarian": "ház házak házban futott a az kutyák kutya",
    "italian": "casa case correre correva il la cani cane",
    "norwegian": "huset husene hus løper og i hundene hund",
    "portuguese": "casa casas correr corria o as cachorros não",
    "romanian": "casă case alergare alerga și câinii câine",
    "russian": "дом дома домов бежать бежал и в собаки",
    "spanish": "casa casas correr corría el los perros año",
    "swedish": "huset husen hus springer och i hundarna hund",
    "tamil": "வீடு வீடுகள் நாய் நாய்கள் ஓடு ஓடின",
    "turkish": "ev evler evlerde koşuyor köpek köpekler ve",
}
OTHERS = "東京タワー 3.14 e-mail U.S.A. don't 👩‍👧 supercalifragilistic CAFÉ café x"
WORD_TOKENIZERS = sorted(tokenizer_names - {PRE_TOKENIZED})


def settings_of(language: str, rng: random.Random) -> FullText:
    stems = rng.random() < 0.6
    return FullText(
        tokenizer=rng.choice(WORD_TOKENIZERS),
        language=language,
        stemming=stems,
        remove_stopwords=language not in WITHOUT_STOP_WORDS and rng.random() < 0.5,
        case_sensitive=not stems and rng.random() < 0.5,
        ascii_folding=rng.random() < 0.5,
        max_token_length=rng.choice([4, 8, 39]),
        k1=rng.choice([1e-9, 0.3, 1.2, 5.0]),
        b=rng.choice([0.0, 0.4, 0.75, 1.0]),
        k3=rng.choice([0.0, 1.0, 8.0, 100.0]),
    )


def fields() -> dict[str, tuple[FullText, bool]]:
    """By name the settings of a field, and whether it is an array. Every language stems at least once."""
    rng, found = random.Random(8), {}
    for language in sorted(languages):
        made = [settings_of(language, rng) for _ in range(2)]
        made.append(replace(settings_of(language, rng), stemming=True, case_sensitive=False))
        found |= {f"{language}_{n}": (one, n == 1) for n, one in enumerate(made)}
    found["tokens"] = (FullText(tokenizer=PRE_TOKENIZED, k1=2.0, b=0.5, k3=3.0), True)
    return found


FIELDS = fields()


def words_of(name: str) -> list[str]:
    return [*WORDS.get(FIELDS[name][0].language, "").split(), *OTHERS.split()]


def value(name: str, rng: random.Random):
    if rng.random() < 0.15:
        return None
    words = words_of(name)
    drawn = [rng.choice(words[: rng.randint(2, len(words))]) for _ in range(rng.randint(0, 12))]
    if not FIELDS[name][1]:
        return " ".join(drawn)
    return drawn if name == "tokens" else [" ".join(drawn[:3]), " ".join(drawn[3:])]


def document(id_: int, rng: random.Random) -> Document:
    values = {name: value(name, rng) for name in FIELDS}
    return Document(id_, {name: v for name, v in values.items() if v is not None})


def terms_of(settings: FullText, text) -> list[str]:
    texts = [text] if isinstance(text, str) else text
    return [term for one in texts for term in analyzer(settings).tokens(one)]


def expected(name: str, documents: dict[int, Document], query) -> list[tuple[int, float]]:
    """Ids and float32 scores, best first, ties by id."""
    settings = FIELDS[name][0]
    counts = {
        id_: Counter(terms_of(settings, one.attributes[name]))
        for id_, one in documents.items()
        if name in one.attributes
    }
    mean = sum(one.total() for one in counts.values()) / max(1, len(counts))
    scores = {}
    for id_, of_document in counts.items():
        score = 0.0
        for term, q in Counter(terms_of(settings, query)).items():
            if tf := of_document[term]:
                df = sum(term in other for other in counts.values())
                idf = math.log(1 + (len(counts) - df + 0.5) / (df + 0.5))
                norm = settings.k1 * (1 - settings.b + settings.b * of_document.total() / mean)
                share = tf * (settings.k1 + 1) / (tf + norm)
                score += idf * share * q * (settings.k3 + 1) / (settings.k3 + q)
        if score > 0:
            scores[id_] = score
    return sorted(scores.items(), key=lambda one: (-np.float32(one[1]), one[0]))


async def test_scores_are_those_of_the_formula_in_every_language(tmp_path):
    database, rng = await open_database(cache_path=tmp_path), random.Random(5)
    attributes = {
        name: Attribute(AttributeType.parse("[]string" if is_array else "string"), full_text=settings)
        for name, (settings, is_array) in FIELDS.items()
    }
    await database.create("docs", Schema(attributes=attributes))
    namespace, live = await database.namespace("docs"), {}
    for first in (0, 20, 40):
        # ids of the batch before come again: they are replaced
        batch = [document(first + i, rng) for i in range(-5 if first else 0, 25)]
        await database.write("docs", WriteRequest(upserts=batch))
        live |= {one.id: one for one in batch}
        gone = rng.sample(sorted(live), 4)
        await database.write("docs", WriteRequest(deletes=gone))
        live = {id_: one for id_, one in live.items() if id_ not in gone}
        if first < 40:
            await fold(namespace)
    compared = 0
    for name, (_, is_array) in FIELDS.items():
        for words in (2, 7):
            drawn = [rng.choice(words_of(name)) for _ in range(words)]
            query = tuple(drawn) if is_array else " ".join(drawn)
            wanted = expected(name, live, query)
            hits = (await database.query("docs", Query(legs=(ScoreLeg(Bm25(name, query)),), top_k=100))).hits
            assert [hit.id for hit in hits] == [id_ for id_, _ in wanted], (name, query)
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted], rel=1e-6)
            compared += len(wanted)
    assert compared > 1_000
    await database.close()


def test_every_language_and_tokenizer_is_covered():
    used = [settings for settings, _ in FIELDS.values()]
    assert {one.tokenizer for one in used} == tokenizer_names
    assert {one.language for one in used if one.stemming} == languages
    assert {one.language for one in used if one.remove_stopwords} <= languages - WITHOUT_STOP_WORDS

"""Rank expressions against a naive evaluation of their JSON, over tail and segments with deletes."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from support.database import open_database

from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.query.ast import Query
from elacsym.query.language.filter import parse_filter
from elacsym.query.language.rank import parse_rank_by
from elacsym.types import Attribute, AttributeType, FullText, Metric, Schema

CASES = 6_000
WORDS = ["copper", "copperplate", "kettle", "ketch", "tea", "teapot", "iron", "leaf"]
TAGS = ["red", "green", "blue"]
F32_MAX = float(np.finfo(np.float32).max)
F64_MAX = float(np.finfo(np.float64).max)
UNITS_MS = {"h": 3_600_000, "d": 86_400_000}
TITLE = FullText(k1=1.5, b=0.4, k3=3.0)
BODY = FullText()
MARKS = FullText(tokenizer="pre_tokenized_array", k1=0.9, b=1.0)
TEXTS = {"title": TITLE, "body": BODY, "marks": MARKS}


def attribute(kind: str, **options) -> Attribute:
    return Attribute(AttributeType.parse(kind), **options)


SCHEMA = Schema(
    None,
    Metric.L2,
    {
        "title": attribute("string", full_text=TITLE),
        "body": attribute("string", full_text=BODY, filterable=False),
        "marks": attribute("[]string", full_text=MARKS, filterable=False),
        "year": attribute("int"),
        "price": attribute("float", filterable=False),
        "stock": attribute("uint"),
        "seen": attribute("datetime"),
        "colour": attribute("string"),
        "tags": attribute("[]string"),
    },
)


def text(rng: random.Random, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(0, most)))


def time_of(rng: random.Random) -> str:
    return f"2026-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}T0{rng.randint(0, 9)}:00:00Z"


def attributes(rng: random.Random) -> dict:
    makers = {
        "title": lambda: text(rng, 4),
        "body": lambda: text(rng, 12),
        "marks": lambda: rng.choices(WORDS, k=rng.randint(0, 5)),
        "year": lambda: rng.choice([-3, 0, 1, 5, 2020, 2**53 + 1, -(2**63)]),
        "price": lambda: rng.choice([-1.5, 0.0, 0.25, 3.0, 1e-300, 1e300]),
        "stock": lambda: rng.choice([0, 1, 7, 2**53 + 1, 2**64 - 1]),
        "seen": lambda: time_of(rng),
        "colour": lambda: rng.choice(TAGS),
        "tags": lambda: rng.sample(TAGS, rng.randint(0, 3)),
    }
    return {name: make() for name, make in makers.items() if rng.random() < 0.8}


async def database_of(rng: random.Random, folder, rows: int, folds: int):
    """A database with `folds` segments and a tail, rows written twice and deleted; and its live documents."""
    database = await open_database(cache_path=folder)
    await database.create("docs", SCHEMA)
    live: dict[int, dict] = {}
    for layer in range(folds + 1):
        ids = rng.sample(range(2 * rows), rows // (folds + 1))
        written = {i: attributes(rng) for i in ids}
        await database.write("docs", WriteRequest(upserts=[Document(i, a) for i, a in written.items()]))
        live |= written
        deletes = rng.sample(sorted(live), len(live) // 8)
        if deletes:
            await database.write("docs", WriteRequest(deletes=deletes))
        for gone in deletes:
            del live[gone]
        if layer < folds:
            await fold(await database.namespace("docs"))
    return database, live


class Naive:
    """The documents, and scores of them by the definition."""

    def __init__(self, documents: dict[int, dict]) -> None:
        self.documents = documents
        self.tokens = {
            name: {
                i: d[name] if name == "marks" else d[name].split()
                for i, d in documents.items()
                if d.get(name) is not None
            }
            for name in TEXTS
        }

    def ranking(self, score, condition, limit: int) -> list[tuple[int, float]]:
        rows = []
        for i, document in self.documents.items():
            if condition is None or self.holds(condition, document, i):
                value = float(np.float32(max(-F32_MAX, min(F32_MAX, self.score(score, i)))))
                if value != 0 or self.keeps_zero(score):
                    rows.append((-value, i))
        return [(i, -value) for value, i in sorted(rows)[:limit]]

    def keeps_zero(self, score) -> bool:
        if not isinstance(score, list) or not score:
            return False
        return score[0] in ("Attribute", "Dist") or any(self.keeps_zero(part) for part in score)

    def score(self, score, i: int) -> float:
        match score:
            case [name, "BM25", query, *options]:
                return self.bm25(name, query, bool(options) and options[0]["last_as_prefix"], i)
            case ["Sum", clauses]:
                total = self.score(clauses[0], i)
                for clause in clauses[1:]:
                    total = self.finite(total + self.score(clause, i))
                return total
            case ["Max", [*clauses]]:
                return max(c if isinstance(c, int | float) else self.score(c, i) for c in clauses)
            case ["Max", floor, clause]:
                return max(floor, self.score(clause, i))
            case ["Product", int() | float() as weight, clause] | [
                "Product",
                clause,
                int() | float() as weight,
            ]:
                return self.finite(weight * self.score(clause, i))
            case ["Attribute", name]:
                return float(self.documents[i].get(name) or 0)
            case ["Saturate" | "Decay" as curve, ["Dist", [_, name], origin], options]:
                value = self.documents[i].get(name)
                if value is None:
                    return 0.0
                if name == "seen":
                    value, origin = milliseconds(value), milliseconds(origin)
                return self.curve(curve, float(abs(value - origin)), options)
            case ["Saturate" | "Decay" as curve, clause, options]:
                return self.curve(curve, max(0.0, self.score(clause, i)), options)
        return float(self.holds(score, self.documents[i], i))

    @staticmethod
    def finite(value: float) -> float:
        return max(-F64_MAX, min(F64_MAX, value))

    @staticmethod
    def curve(curve: str, x: float, options) -> float:
        midpoint, exponent = options["midpoint"], options.get("exponent", 1)
        if isinstance(midpoint, str):
            midpoint = float(midpoint[:-1]) * UNITS_MS[midpoint[-1]]
        # the powers of the definition overflow, logarithms do not
        if x == 0:
            return 0.0 if curve == "Saturate" else 1.0
        far = exponent * (math.log(x) - math.log(midpoint))
        if abs(far) < 30:
            a, b = x**exponent, midpoint**exponent
            return a / (a + b) if curve == "Saturate" else b / (a + b)
        return 1 / (1 + math.exp(min(700, -far if curve == "Saturate" else far)))

    def bm25(self, name: str, query, is_prefix: bool, i: int) -> float:
        settings, texts = TEXTS[name], self.tokens[name]
        asked = query.split() if isinstance(query, str) else query
        if i not in texts or not asked:
            return 0.0
        count, average = len(texts), sum(map(len, texts.values())) / len(texts)
        own, total = Counter(texts[i]), 0.0
        for token, times in sorted(Counter(asked).items()):
            tf = own[token]
            if tf:
                having = sum(token in tokens for tokens in texts.values())
                idf = math.log(1 + (count - having + 0.5) / (having + 0.5))
                norm = settings.k1 * (1 - settings.b + settings.b * len(texts[i]) / average)
                gain = times * (settings.k3 + 1) / (settings.k3 + times)
                total += idf * gain * (tf * (settings.k1 + 1) / (tf + norm))
        if is_prefix and not own[asked[-1]] and any(token.startswith(asked[-1]) for token in own):
            total += 1.0
        return total

    def holds(self, condition, document: dict, i: int) -> bool:
        match condition:
            case ["And", conditions]:
                return all(self.holds(c, document, i) for c in conditions)
            case ["Or", conditions]:
                return any(self.holds(c, document, i) for c in conditions)
            case ["Not", inner]:
                return not self.holds(inner, document, i)
            case ["id", "Gte", operand]:
                return i >= operand
            case [name, "Eq", operand]:
                return document.get(name) == operand
            case [name, "Gt", operand]:
                return document.get(name) is not None and document[name] > operand
            case [name, "Contains", operand]:
                return operand in (document.get(name) or ())
        raise AssertionError(condition)


def milliseconds(time: str) -> int:
    since = datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=UTC)
    return round(since.total_seconds() * 1000)


def filter_of(rng: random.Random, depth: int = 2):
    makers = [
        lambda: ["colour", "Eq", rng.choice([*TAGS, "none", None])],
        lambda: ["tags", "Contains", rng.choice(TAGS)],
        lambda: ["year", "Gt", rng.choice([-4, 0, 5, 2**53])],
        lambda: ["id", "Gte", rng.randint(0, 60)],
    ]
    if depth:
        makers += [
            lambda: ["And", [filter_of(rng, depth - 1) for _ in range(rng.randint(0, 3))]],
            lambda: ["Or", [filter_of(rng, depth - 1) for _ in range(rng.randint(0, 3))]],
            lambda: ["Not", filter_of(rng, depth - 1)],
        ]
    return rng.choice(makers)()


def bm25_of(rng: random.Random):
    name = rng.choice(list(TEXTS))
    tokens = rng.choices([*WORDS, "absent", "te", "k", "cop"], k=rng.randint(0, 4))
    query = tokens if name == "marks" or rng.random() < 0.3 else " ".join(tokens)
    options = [{"last_as_prefix": rng.random() < 0.7}] if rng.random() < 0.4 else []
    return [name, "BM25", query, *options]


def curve_of(rng: random.Random, depth: int, *, is_floored: bool):
    word = rng.choice(["Saturate", "Decay"])
    options = {"midpoint": rng.choice([0.5, 1, 3, 2.0**40])}
    if rng.random() < 0.5:
        options["exponent"] = rng.choice([0.5, 1, 2, 3.5])
    kind = rng.random()
    if kind < 0.2:
        options["midpoint"] = rng.choice(["36h", "14d", "1.5h"])
        return [word, ["Dist", ["Attribute", "seen"], time_of(rng)], options]
    if kind < 0.5:
        origins = {"year": [3, 2**53 + 2], "stock": [2**64 - 2, -1], "price": [0.5, 2]}
        name = rng.choice(list(origins))
        origin = rng.choice(origins[name])
        return [word, ["Dist", ["Attribute", name], origin], options]
    return [word, score_of(rng, depth - 1, is_floored=is_floored or word == "Saturate"), options]


def score_of(rng: random.Random, depth: int = 3, *, is_floored: bool = False):
    makers = [
        lambda: bm25_of(rng),
        lambda: filter_of(rng),
        lambda: ["Attribute", rng.choice(["year", "price", "stock"] if is_floored else ["stock"])],
    ]
    if depth:

        def clauses(low: int, *, floored: bool) -> list:
            return [score_of(rng, depth - 1, is_floored=floored) for _ in range(rng.randint(low, 3))]

        def product():
            pair = [rng.choice([0, 0.5, 2, 3, 1e20]), score_of(rng, depth - 1, is_floored=is_floored)]
            return ["Product", *(pair if rng.random() < 0.5 else pair[::-1])]

        makers += [
            lambda: ["Sum", clauses(1, floored=is_floored)],
            lambda: ["Sum", [["Product", rng.choice([0.5, 2]), bm25_of(rng)], bm25_of(rng)]],
            lambda: ["Max", clauses(1, floored=is_floored)],
            lambda: ["Max", [*clauses(1, floored=True), rng.choice([0, 0.75, -2])]],
            lambda: ["Max", rng.choice([0, 1]), score_of(rng, depth - 1, is_floored=True)],
            product,
            lambda: curve_of(rng, depth, is_floored=is_floored),
        ]
    return rng.choice(makers)()


@pytest.mark.parametrize(("rows", "folds"), [(5, 0), (60, 0), (80, 2), (120, 4)])
async def test_rank_expressions_give_the_scores_and_the_order_of_the_definition(tmp_path, rows, folds):
    rng = random.Random(1000 * rows + folds)
    database, documents = await database_of(rng, tmp_path, rows, folds)
    naive = Naive(documents)
    nonempty = 0
    for _ in range(CASES // 4):
        score, limit = score_of(rng), rng.choice([1, 3, 10, 1_000])
        condition = filter_of(rng) if rng.random() < 0.4 else None
        ranking = parse_rank_by(score, has_filter=False)
        query = Query(
            ranking.legs,
            filter=None if condition is None else parse_filter(condition, "filters"),
            top_k=limit,
            include_attributes=(),
        )
        hits = (await database.query("docs", query)).hits
        assert [(h.id, h.score) for h in hits] == naive.ranking(score, condition, limit), (score, condition)
        nonempty += bool(hits)
    assert nonempty > CASES // 8
    await database.close()

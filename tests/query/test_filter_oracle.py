"""Filters of the query language against an evaluator of their JSON that looks at one document at a time.

Every operator on every type it goes with, nulls on either side, and random nestings, over namespaces with a
tail and several segments with deleted and overwritten rows.
"""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from uuid import UUID

import pytest
from support.database import open_database
from support.edits import least_edits

from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.query.ast import OrderKey, Query
from elacsym.query.language.filter import parse_filter
from elacsym.types import Attribute, AttributeType, FullText, Metric, Schema

GUIDS = [f"{n:032x}" for n in (0, 1, 2**127, 2**128 - 1, 0x1234567890ABCDEF)]
TIMES = [
    "2024-03-02",
    "2024-03-02T10:20:30.123Z",
    "2024-03-02T12:20:30.123+02:00",
    "1969-12-31T23:59:59.999Z",
    "2024-03-02T10:20:30.1239",
]
TEXTS = [
    "",
    "a",
    "ab",
    "abc",
    "a/b",
    "A",
    "é",
    "z*",
    "😀",
    "\uffff",
    "jonathan smith",
    "Jonson & Sons",
    "JOHNSTON",
]
VALUES = {
    "string": TEXTS,
    "int": [-(2**63), -1, 0, 1, 2**53, 2**53 + 1, 2**63 - 1],
    "uint": [0, 1, 2**53 + 1, 2**63, 2**64 - 1],
    "float": [0.0, -0.0, 0.5, -1.5, 1, 2.0**53, 1e300],
    "bool": [False, True],
    "datetime": TIMES,
    "uuid": GUIDS,
}
# operands that no document has, some outside the type's range
FURTHER = {
    "string": ["b", "ab\u0300"],
    "int": [2**70, -(2**70), 7],
    "uint": [-1, 2**64, 7],
    "float": [2**53 + 1, 0.1, 7],
    "bool": [],
    "datetime": ["2024-03-02T10:20:30.124Z", "0001-01-01"],
    "uuid": ["f" * 31 + "e"],
}
SCALARS = {kind: f"one_{kind}" for kind in VALUES}
ARRAYS = {kind: f"many_{kind}" for kind in VALUES}
PATTERNED = ["one_string", "many_string", "hidden", "hiddens"]
GLOBS = ["*", "", "a*", "?", "a?c", "[!a]*", "[a-c]b", "*[é/]*", "{a,abc}", "z\\*", "{jon*,J*}", "*o?s*"]
REGEXES = ["^a", "b$", "a.?b", "[ac]b", "(?i)JON", "o[nh]", "^$", "\\*", "so{0,1}n|x", "é|😀", "\\bS"]
FUZZIES = ["jonson", "johnathan", "smiht", "sons", "jonston", "abc", "ab"]
THRESHOLDS = [
    [(3, 0)],
    [(6, 1)],
    [(3, 0), (6, 1), (9, 2)],
    [(9, 2), (4, 0)],
]
WORDS = ["red", "Red", "green", "greens", "blue"]
QUERIES = ["red", "red green", "Green red", ["blue", "gre"], "bl", "green blue green", "", "none"]
VECTORS = {"vector": "[2]f32", "sparse": "{}f16", "late": "[][2]f32"}
RANGES = {"Lt": -1, "Lte": 0, "Gt": 1, "Gte": 2}


def schema(id_type):
    attributes = {
        name: Attribute(AttributeType.parse(kind))
        for kinds, prefix in ((SCALARS, ""), (ARRAYS, "[]"))
        for kind, name in ((f"{prefix}{kind}", name) for kind, name in kinds.items())
    }
    options = {"filterable": False, "regex": True, "glob": True, "fuzzy": True}
    attributes["hidden"] = Attribute(AttributeType.parse("string"), **options)
    attributes["hiddens"] = Attribute(AttributeType.parse("[]string"), **options)
    searched = AttributeType.parse("string")
    attributes["searched"] = Attribute(searched, filterable=False, full_text=FullText())
    for name, kind in VECTORS.items():
        attributes[name] = Attribute(AttributeType.parse(kind), filterable=False)
    attributes["many_unknown"] = Attribute(AttributeType.parse("[]unknown"))
    return Schema(id_type, Metric.L2, attributes)


def a_document(rng):
    values = {}
    for kind, known in VALUES.items():
        if rng.random() < 0.75:
            values[SCALARS[kind]] = rng.choice(known)
        if rng.random() < 0.75:
            values[ARRAYS[kind]] = rng.choices(known, k=rng.randrange(4))
    if rng.random() < 0.75:
        values["hidden"] = rng.choice(TEXTS)
    if rng.random() < 0.75:
        values["hiddens"] = rng.choices(TEXTS, k=rng.randrange(4))
    if rng.random() < 0.75:
        values["searched"] = " ".join(rng.choices(WORDS, k=rng.randrange(5)))
    further = {"vector": [1.0, 0.5], "sparse": {"a": 1.0}, "late": [[1.0, 0.5]], "many_unknown": []}
    values.update({name: value for name, value in further.items() if rng.random() < 0.5})
    return values


def ids_of(id_type):
    if id_type == "uint":
        return [0, 1, 2**63, 2**64 - 1, *range(10, 46)]
    if id_type == "string":
        return ["", "😀", "é", "\uffff", *(f"doc {n}" for n in range(36))]
    return [str(UUID(g)) for g in GUIDS] + [str(UUID(int=n << 64)) for n in range(1, 36)]


async def filled(database, id_type, rng):
    """A namespace of three segments and a tail; returns what is alive in it."""
    await database.create("docs", schema(id_type))
    ids, alive = ids_of(id_type), {}
    for round_ in range(4):
        chosen = rng.sample(ids, 16)
        batch = {id_: a_document(rng) for id_ in chosen}
        gone = [id_ for id_ in rng.sample(ids, 3) if id_ not in batch]
        upserts = [Document(id_, values) for id_, values in batch.items()]
        await database.write("docs", WriteRequest(upserts=upserts, deletes=gone))
        alive.update(batch)
        for id_ in gone:
            alive.pop(id_, None)
        if round_ < 3:
            await fold(await database.namespace("docs"))
    return alive


def key(kind, value):
    """What compares as values of a type do."""
    if value is None or isinstance(value, list):
        return value if value is None else [key(kind, v) for v in value]
    if kind == "string":
        return value.encode()
    if kind == "uuid":
        return UUID(value).bytes
    if kind == "datetime":
        moment = datetime.fromisoformat(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution * 1000)
    return value


def glob_fits(pattern, text):
    """By the standard library, with alternatives written out and escapes as classes."""
    found = re.search(r"\{([^}]*)\}", pattern)
    if found:
        return any(
            glob_fits(pattern[: found.start()] + one + pattern[found.end() :], text)
            for one in found[1].split(",")
        )
    return fnmatchcase(text, re.sub(r"\\(.)", r"[\1]", pattern))


def pattern_fits(op, operand, options, text):
    match op:
        case "Glob":
            return glob_fits(operand, text)
        case "IGlob":
            return glob_fits(operand.lower(), text.lower())
        case "Regex":
            return re.search(operand.replace("$", r"\Z"), text, re.ASCII) is not None
    allowed = [
        (t["min_query_chars"], t["distance"])
        for t in options["max_edit_distance"]
        if t["min_query_chars"] <= len(operand)
    ]
    if not options.get("case_sensitive", True):
        operand, text = operand.lower(), text.lower()
    return bool(allowed) and least_edits(operand, text) <= max(allowed)[1]


def has_tokens(op, query, options, text):
    """Of texts of plain words."""
    words = (" ".join(query) if isinstance(query, list) else query).lower().split()
    known = text.lower().split()
    if not words or op == "ContainsTokenSequence":
        places = range(len(known) if words else 0)
        return any(known[start : start + len(words)] == words for start in places)
    tests = [word in known for word in words]
    if options:
        tests[-1] = any(word.startswith(words[-1]) for word in known)
    return all(tests) if op == "ContainsAllTokens" else any(tests)


def ordered(op, left, right):
    """Null sorts before everything."""
    if left is None or right is None:
        sign = (left is not None) - (right is not None)
    else:
        sign = (left > right) - (left < right)
    return {"Lt": sign < 0, "Lte": sign <= 0, "Gt": sign > 0, "Gte": sign >= 0}[op]


def holds(condition, document):
    """The table of operators, row by row."""
    match condition:
        case ["And", conditions]:
            return all(holds(c, document) for c in conditions)
        case ["Or", conditions]:
            return any(holds(c, document) for c in conditions)
        case ["Not", inner]:
            return not holds(inner, document)
    name, op, operand, *options = condition
    if op.startswith("Not"):
        return not holds([name, "Eq" if op == "NotEq" else op[3:], operand, *options], document)
    if op in ("Glob", "IGlob", "Regex", "Fuzzy"):
        texts = document.get(name, [])
        texts = texts if isinstance(texts, list) else [texts]
        return any(pattern_fits(op, operand, *(options or [None]), text) for text in texts)
    if "Token" in op:
        return name in document and has_tokens(op, operand, options, document[name])
    kind = document["$id_type"] if name == "id" else name.split("_")[-1]
    value, operand = key(kind, document.get(name)), key(kind, operand)
    if op in RANGES:
        return ordered(op, value, operand)
    if op == "Eq" or value is None:
        return op == "Eq" and value == operand
    match op:
        case "In":
            wanted = operand if isinstance(operand, list) else [operand]
            return any(v in wanted for v in (value if isinstance(value, list) else [value]))
        case "Contains":
            return operand in value
        case "ContainsAny":
            return any(v in operand for v in value)
    return any(ordered(op.removeprefix("Any"), v, operand) for v in value)


def operands_of(kind, id_type):
    return [*VALUES[kind], *FURTHER[kind]] if kind != "id" else ids_of(id_type)[:6]


def conditions_of(rng, id_type):
    """Every operator on every attribute it goes with, with operands of each kind."""
    for kind, name in [*SCALARS.items(), (id_type, "id")]:
        one = operands_of("id" if name == "id" else kind, id_type)
        for op in ("Eq", "NotEq", *RANGES):
            yield from ([name, op, operand] for operand in (None, *rng.sample(one, min(2, len(one)))))
        for op in ("In", "NotIn"):
            yield [name, op, rng.choice(one)]
            yield from ([name, op, rng.choices(one, k=count)] for count in (0, 1, 3))
    for kind, name in ARRAYS.items():
        one = operands_of(kind, id_type)
        for op in ("Eq", "NotEq"):
            yield [name, op, None]
            yield from ([name, op, rng.choices(VALUES[kind], k=count)] for count in (0, 1, 2))
        for op in ("In", "NotIn", "ContainsAny", "NotContainsAny"):
            yield from ([name, op, rng.choices(one, k=count)] for count in (0, 1, 3))
        for op in ("In", "NotIn", "Contains", "NotContains", "AnyLt", "AnyLte", "AnyGt", "AnyGte"):
            yield from ([name, op, operand] for operand in rng.sample(one, 2))
    for name in (*VECTORS, "many_unknown"):
        yield from ([name, op, None] for op in ("Eq", "NotEq"))
    for op in ("Eq", "NotEq", "In", "NotIn", "ContainsAny", "NotContainsAny"):
        yield from (["many_unknown", op, operand] for operand in ([], ["a"], [1, 2.5], [True]))
    for op in ("Contains", "NotContains", "AnyLt", "AnyGte", "NotGlob"):
        yield ["many_unknown", op, "a"]
    for op in ("ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"):
        yield from (["searched", op, query] for query in QUERIES)
        if op != "ContainsTokenSequence":
            yield from (["searched", op, query, {"last_as_prefix": True}] for query in QUERIES)
    for name in PATTERNED:
        for op in ("Glob", "IGlob", "NotGlob", "NotIGlob"):
            yield from ([name, op, pattern] for pattern in rng.sample(GLOBS, 3))
    for name in ("hidden", "hiddens"):
        yield from ([name, "Regex", pattern] for pattern in rng.sample(REGEXES, 4))
        for text in FUZZIES:
            thresholds = [
                {"min_query_chars": length, "distance": distance}
                for length, distance in rng.choice(THRESHOLDS)
            ]
            options = {"max_edit_distance": thresholds, "case_sensitive": rng.random() < 0.5}
            yield [name, "Fuzzy", text, options]


def nested(rng, plain, depth=0):
    """A random combination of conditions."""
    if depth == 3 or rng.random() < 0.3:
        return rng.choice(plain)
    word = rng.choice(["And", "Or", "Not"])
    if word == "Not":
        return [word, nested(rng, plain, depth + 1)]
    return [word, [nested(rng, plain, depth + 1) for _ in range(rng.randrange(4))]]


@pytest.mark.parametrize("id_type", ["uint", "string", "uuid"])
async def test_a_filter_finds_the_documents_that_the_table_of_operators_says(id_type, tmp_path):
    rng = random.Random(id_type)
    database = await open_database(cache_path=tmp_path)
    alive = await filled(database, id_type, rng)
    order = sorted(alive, key=lambda id_: key(id_type, id_))
    documents = {id_: {"id": id_, "$id_type": id_type, **alive[id_]} for id_ in order}
    plain = list(conditions_of(rng, id_type))
    cases = [*plain, *(nested(rng, plain) for _ in range(400))]
    assert len(cases) > 700
    matched = 0
    for case in cases:
        query = Query(filter=parse_filter(case, "filters"), order_by=(OrderKey("id"),), top_k=100)
        found = [hit.id for hit in (await database.query("docs", query)).hits]
        assert found == [id_ for id_, document in documents.items() if holds(case, document)], case
        matched += 0 < len(found) < len(order)
    assert matched > len(cases) / 2, "most filters tell documents apart"
    await database.close()

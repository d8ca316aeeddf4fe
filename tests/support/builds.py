"""Plans of small segments of every kind of schema, for tests of builds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from elacsym.compute import ThreadCompute
from elacsym.engine.build import BuildPlan, InlineBuilder
from elacsym.engine.rows import InputFile, SegmentInput, TailInput, merge_parts
from elacsym.format import segment
from elacsym.index.columns import arrow_type
from elacsym.index.ids import IdColumn
from elacsym.index.values import to_arrow
from elacsym.types import Attribute, AttributeType, FullText, Metric, Scalar, Schema

TEXT = FullText(stemming=True)


def attribute(kind: str, **options) -> Attribute:
    return Attribute(AttributeType.parse(kind), **options)


SHAPES = {
    "ids alone": Schema("uint"),
    "string ids": Schema("string", None, {"n": attribute("int")}),
    "attributes": Schema(
        "uint",
        None,
        {
            "int": attribute("int"),
            "uint": attribute("uint", filterable=False),
            "Float ": attribute("float"),
            "bool": attribute("bool"),
            "string": attribute("string"),
            "strings": attribute("[]string"),
            "never": attribute("string"),
        },
    ),
    "vector": Schema("uint", Metric.L2, {"vector": attribute("[8]f32", filterable=False)}),
    "vectors": Schema(
        "string",
        Metric.COSINE,
        {
            "half": attribute("[9]f16", filterable=False),
            "year": attribute("int"),
            "byte": attribute("[3]i8", filterable=False),
            "never": attribute("[4]f32", filterable=False),
        },
    ),
    "wide": Schema(
        "uuid",
        Metric.L2,
        {
            "owner": attribute("uuid"),
            "owners": attribute("[]uuid"),
            "seen": attribute("datetime"),
            "blob": attribute("bytes", filterable=False),
            "empty": attribute("[]unknown"),
            "tokens": attribute("[][3]f32", filterable=False),
            "lexical": attribute("{}f16", filterable=False),
        },
    ),
    "text": Schema("uint", None, {"body": attribute("string", full_text=TEXT, filterable=False)}),
    "everything": Schema(
        "uint",
        Metric.DOT,
        {
            "vector": attribute("[16]f32", filterable=False),
            "body": attribute("string", full_text=TEXT, filterable=False),
            "strings": attribute("[]string"),
            "year": attribute("int"),
            "lexical": attribute("{}f16", filterable=False),
        },
    ),
}
_WORDS = np.array(
    ["copper", "kettle", "boiling", "water", "tea", "leaf", "mountain", "river", "stone", "bridge"]
)
_MADE: dict[Scalar, Callable[[np.random.Generator], Any]] = {
    Scalar.UUID: lambda rng: str(UUID(bytes=rng.bytes(16))),
    Scalar.DATETIME: lambda rng: int(rng.integers(-(2**40), 2**40)),
    Scalar.BYTES: lambda rng: rng.bytes(int(rng.integers(0, 9))),
    Scalar.UNKNOWN: lambda rng: None,
}
_NUMPY = {"f32": np.float32, "f16": np.float16, "i8": np.int8}


def _values(type_: AttributeType, rows: int, rng: np.random.Generator) -> pa.Array:
    """Values of which some are null."""
    is_null = rng.random(rows) < 0.2
    if type_.is_vector:
        matrix = (4 * rng.standard_normal((rows, type_.dimensions))).astype(_NUMPY[type_.scalar])
        return pa.FixedSizeListArray.from_arrays(
            pa.array(matrix.reshape(-1)), type_.dimensions, mask=pa.array(is_null)
        )
    if type_.is_multivector or type_.is_sparse or type_.scalar in _MADE:
        made = [None if null else _made(type_, rng) for null in is_null]
        return to_arrow(made, arrow_type(type_))
    words = [" ".join(rng.choice(_WORDS, size=int(rng.integers(0, 6)))) for _ in range(rows)]
    values = {
        "string": words,
        "int": rng.integers(-5, 5, rows).tolist(),
        "uint": rng.integers(0, 2**63, rows, dtype=np.uint64).tolist(),
        "float": rng.standard_normal(rows).tolist(),
        "bool": (rng.random(rows) < 0.5).tolist(),
    }[type_.scalar]
    if type_.is_array:
        values = [value.split() for value in words]
    kind = {"int": pa.int64(), "uint": pa.uint64(), "float": pa.float64(), "bool": pa.bool_()}.get(
        type_.scalar, pa.string()
    )
    kind = pa.list_(kind) if type_.is_array else kind
    return pa.array([None if null else v for v, null in zip(values, is_null, strict=True)], kind)


def _made(type_: AttributeType, rng: np.random.Generator) -> Any:
    count = int(rng.integers(0, 4))
    if type_.is_multivector:
        return rng.standard_normal((count, type_.dimensions)).astype(np.float32)
    if type_.is_sparse:
        return {str(d): float(rng.integers(-9, 9)) / 4 for d in rng.integers(0, 20, count)}
    if type_.scalar is Scalar.UNKNOWN:
        return []
    make = _MADE[type_.scalar]
    return [make(rng) for _ in range(count)] if type_.is_array else make(rng)


def tail_input(schema: Schema, rows: int, first: int = 0, seed: int = 1) -> TailInput:
    """Rows `first` and on, of which some are dead."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(first, first + rows)
    ids = numbers
    if schema.id_type == "string":
        ids = [f"id-{n}" for n in numbers]
    elif schema.id_type == "uuid":
        ids = [str(UUID(int=n << 64)) for n in numbers.tolist()]
    columns = {
        "id": IdColumn.of(schema.id_type, ids).to_arrow(),
        "version": pa.array(rng.integers(3, 9, rows).astype(np.uint64)),
    }
    for name, attribute in schema.attributes.items():
        if name != "never":
            columns[segment.column_name(name)] = _values(attribute.type, rows, rng)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    return TailInput(batch, np.flatnonzero(rng.random(rows) < 0.9))


def fold_plan(schema: Schema, rows: int = 60) -> BuildPlan:
    return BuildPlan(schema, [tail_input(schema, rows), tail_input(schema, rows, first=rows, seed=2)])


def built_here(plan: BuildPlan) -> tuple[dict[str, bytes], object]:
    """The files and the rest of a plan built here."""
    files: dict[str, bytes] = {}
    return files, plan.write(lambda part, data: files.update({part: bytes(data)}))


async def merge_plan(schema: Schema, folder: Path, rows: int = 60, *, as_paths: bool = True) -> BuildPlan:
    """A merge of two segments of which some rows are dead, with their files in a folder."""
    compute = ThreadCompute(1)
    inputs = []
    for number in range(2):
        tail = tail_input(schema, rows, first=number * rows, seed=number)
        built = await InlineBuilder(compute).build(BuildPlan(schema, [tail]))
        files = {}
        for ref in built.files:
            if ref.part in merge_parts(schema):
                path = folder / f"{number}.{ref.part}"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(built.read(ref.part) + b"a trailer of the store")
                content = path if as_paths else memoryview(built.read(ref.part))
                files[ref.part] = InputFile(f"seg/{number}/{ref.part}", ref, content)
        alive = np.flatnonzero(np.random.default_rng(number).random(built.written.rows) < 0.8)
        inputs.append(SegmentInput(built.written.rows, alive, files))
    compute.close()
    return BuildPlan(schema, inputs)

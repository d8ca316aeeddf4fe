"""Documents in files: JSON lines and Parquet, read and written row by row.

A JSON line is a document of the v1 API (`id`, `vector`, `attributes`) or a flat object, whose other fields
are the attributes. A Parquet file is flat: one column per attribute. Errors count lines, or rows, from 1.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from elacsym.client import Document, Result
from elacsym.errors import ElacsymError

PARQUET_ROWS = 1_000


class FileError(ElacsymError):
    """A file whose contents are not what an import can take; the message names the line or row."""

    code = "invalid_file"


@dataclass(frozen=True, slots=True)
class Row:
    """One document and where it stood: `number` from 1, `size_bytes` in the file (about, for Parquet)."""

    number: int
    size_bytes: int
    document: Document


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the two fields that are no attributes."""

    id: str = "id"
    vector: str = "vector"


def read_json_lines(stream: Iterable[bytes], fields: Fields, name: str) -> Iterator[Row]:
    """The documents of a stream of lines; blank lines are passed over. Raises FileError."""
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
            document = _document(value, fields)
        except orjson.JSONDecodeError as error:
            raise FileError(f"{name}: line {number}, column {error.colno}: {error.msg}") from error
        except ValueError as error:
            raise FileError(f"{name}: line {number}: {error}") from error
        yield Row(number, len(line), document)


def _document(value: Any, fields: Fields) -> Document:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - what is wrong is the data
    if value.get(fields.id) is None:
        raise ValueError(f"field {fields.id!r} is missing")
    if type(value[fields.id]) not in (int, str):
        raise ValueError(f"field {fields.id!r} is neither a whole number nor a string")
    if isinstance(value.get("attributes"), dict) and set(value) <= {fields.id, fields.vector, "attributes"}:
        attributes = value["attributes"]
    else:
        attributes = {k: v for k, v in value.items() if k not in (fields.id, fields.vector)}
    document: Document = {"id": value[fields.id], "attributes": attributes}
    if value.get(fields.vector) is not None:
        document["vector"] = _vector(value[fields.vector], fields.vector)
    return document


def _vector(value: Any, name: str) -> Any:
    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        array = np.asarray(value)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"field {name!r} is no vector: {error}") from error
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"field {name!r} is no vector of numbers")
    return array


def read_parquet(path: Path, fields: Fields) -> Iterator[Row]:
    """The rows of a Parquet file. NaN and null attributes are left out. Raises FileError."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if fields.id not in schema.names:
                raise FileError(f"{path}: there is no column {fields.id!r}, only {', '.join(schema.names)}")
            _check_ids(path, schema.field(fields.id))
            convert = {
                f.name: _converter(path, f) for f in schema if f.name not in (fields.id, fields.vector)
            }
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                yield from _rows(path, batch, fields, convert, number)
                number += batch.num_rows
    except pa.ArrowException as error:
        raise FileError(f"{path}: {error}") from error


def parquet_rows(path: Path) -> int:
    """How many rows the file has. Raises FileError."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except pa.ArrowException as error:
        raise FileError(f"{path}: {error}") from error


Convert = Callable[[Any], Any]


def _converter(path: Path, column: pa.Field) -> Convert:
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    element = kind.value_type if _is_list(kind) else kind
    if pa.types.is_timestamp(element) or pa.types.is_date(element):
        return _iso
    if pa.types.is_floating(element):
        return _without_nan
    if (
        pa.types.is_string(element)
        or pa.types.is_large_string(element)
        or pa.types.is_integer(element)
        or pa.types.is_boolean(element)
    ):
        return lambda value: value
    raise FileError(f"{path}: column {column.name!r} has type {column.type}, which no attribute can hold")


def _check_ids(path: Path, column: pa.Field) -> None:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise FileError(f"{path}: column {column.name!r} has type {column.type}; ids are integers or strings")


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _iso(value: Any) -> Any:
    if isinstance(value, list):
        return [_iso(v) for v in value]
    return value.isoformat() if isinstance(value, dt.date) else value


def _without_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _rows(
    path: Path, batch: pa.RecordBatch, fields: Fields, convert: Mapping[str, Convert], before: int
) -> Iterator[Row]:
    ids = batch.column(fields.id).to_pylist()
    vectors = _parquet_vectors(batch, fields.vector)
    columns = {name: batch.column(name).to_pylist() for name in convert}
    size_bytes = batch.nbytes // max(1, batch.num_rows)
    for i, document_id in enumerate(ids):
        number = before + i + 1
        if document_id is None:
            raise FileError(f"{path}: row {number}: column {fields.id!r} is null")
        values = ((name, convert[name](column[i])) for name, column in columns.items())
        document: Document = {"id": document_id, "attributes": {k: v for k, v in values if v is not None}}
        try:
            if vectors is not None and vectors[i] is not None:
                document["vector"] = _vector(vectors[i], fields.vector)
        except ValueError as error:
            raise FileError(f"{path}: row {number}: {error}") from error
        yield Row(number, size_bytes, document)


def _parquet_vectors(batch: pa.RecordBatch, name: str) -> Sequence[Any] | None:
    if name not in batch.schema.names:
        return None
    column = batch.column(name)
    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        matrix: Sequence[Any] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        return matrix
    values: list[Any] = column.to_pylist()
    return values


class Writer(Protocol):
    """Where an export puts its documents."""

    def write(self, documents: Sequence[Result]) -> None:
        """Append the documents."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class JsonLinesWriter:
    """One document of the v1 API per line; vectors as numbers."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, documents: Sequence[Result]) -> None:
        """Append the documents."""
        for document in documents:
            value: dict[str, Any] = {"id": document.id}
            if document.vector is not None:
                value["vector"] = document.vector
            value["attributes"] = document.attributes
            option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
            self._stream.write(orjson.dumps(value, option=option))

    def close(self) -> None:
        """Flush; the stream belongs to the caller."""
        self._stream.flush()


_ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "unsigned": pa.uint64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    # as JSON shows them
    "uuid": pa.string(),
    "datetime": pa.string(),
    "bytes": pa.string(),
}


def vector_type(name: str) -> int:
    """The dimensions of a vector's type as the API spells it, as in `[384]f16`; 0 for other types."""
    match = re.fullmatch(r"\[(\d+)\]\w+", name)
    return 0 if match is None else int(match[1])


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of an attribute type as the API spells it. Raises FileError."""
    dimensions = vector_type(name)
    if dimensions:
        # whatever their elements are stored as, answers give 32-bit floats
        return pa.list_(pa.float32(), dimensions)
    array = re.fullmatch(r"array<(.+)>|\[\](.+)", name)
    if array is not None and vector_type(array[2] or ""):
        return pa.list_(arrow_type(array[2]))
    is_array = array is not None
    element = _ARROW.get((array[1] or array[2]) if array is not None else name)
    if element is None:
        raise FileError(f"attributes of type {name!r} cannot be written to Parquet")
    return pa.list_(element) if is_array else element


class ParquetWriter:
    """Flat columns: id, vector (when it has `dimensions`), `attributes` by name with types as in the API."""

    def __init__(self, path: Path, attributes: Mapping[str, str], dimensions: int | None) -> None:
        self._path, self._attributes, self._dimensions = path, attributes, dimensions
        self._types = {name: arrow_type(kind) for name, kind in attributes.items()}
        self._file: pq.ParquetWriter | None = None

    def _open(self, id_type: pa.DataType) -> pq.ParquetWriter:
        fields = [pa.field("id", id_type, nullable=False)]
        if self._dimensions is not None:
            fields.append(pa.field("vector", pa.list_(pa.float32(), self._dimensions)))
        fields += [pa.field(name, kind) for name, kind in self._types.items()]
        return pq.ParquetWriter(self._path, pa.schema(fields), compression="zstd")

    def write(self, documents: Sequence[Result]) -> None:
        """Append the documents as one row group."""
        if not documents:
            return
        if self._file is None:
            self._file = self._open(pa.string() if isinstance(documents[0].id, str) else pa.uint64())
        schema = self._file.schema
        columns: dict[str, list[Any]] = {"id": [d.id for d in documents]}
        if self._dimensions is not None:
            columns["vector"] = [d.vector for d in documents]
        for name in self._attributes:
            columns[name] = [d.attributes.get(name) for d in documents]
        self._file.write_table(pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema))

    def close(self) -> None:
        """Write the footer; an export of no documents is a file of no rows."""
        if self._file is None:
            self._file = self._open(pa.uint64())
        self._file.close()

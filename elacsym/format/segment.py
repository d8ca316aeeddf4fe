"""The files of a segment: their part names, and `rows.parquet`.

    rows.parquet       `id`, `version` (the log slot that wrote the row), one column `a:<name>` per attribute
    that is no vector ids                sorted ids with row numbers
    vector.<attr>      full-precision vectors
    text.<attr>        postings and forward list of a full-text attribute
    deletes.<job>      a delete bitmap of the segment that `job` wrote

Row groups of at most 1,024 rows, so that a scattered read decodes little; pages are checksummed and verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from elacsym.errors import CorruptObject
from elacsym.types import ID

ROWS = "rows.parquet"
IDS = "ids"
VERSION = "version"
ROW_GROUP_ROWS = 1_024
_PART_CHARS_MAX = 100


def attribute_part(kind: str, attribute: str) -> str:
    """The part name of an attribute's index file; `kind` is `vector` or `text`. Long names are replaced by
    their digest."""
    escaped = quote(attribute, safe="")
    if len(escaped) > _PART_CHARS_MAX or escaped != escaped.lower() or escaped.strip(".") == "":
        escaped = "~" + hashlib.blake2b(attribute.encode(), digest_size=16).hexdigest()
    return f"{kind}.{escaped}"


def deletes_part(job: str) -> str:
    """The part name of a delete bitmap of the segment that `job` wrote."""
    return f"deletes.{job}"


def encode_rows(ids: pa.Array, versions: npt.NDArray[np.uint64], attributes: dict[str, pa.Array]) -> bytes:
    """`rows.parquet` of these columns, in row order."""
    columns = {ID: ids, VERSION: pa.array(versions)} | {
        f"a:{name}": array for name, array in attributes.items()
    }
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns),
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        write_page_checksum=True,
        write_statistics=True,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode_columns(
    data: bytes | memoryview, names: Sequence[str], *, key: str, rows: int
) -> dict[str, pa.Array | None]:
    """The named columns (`id`, `version` or `a:<name>`) of `rows.parquet`; None for a column that the file
    lacks.

    Raises CorruptObject for a damaged file or one of another number of rows.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), page_checksum_verification=True)
        present = set(file.schema_arrow.names)
        table = file.read(columns=[name for name in names if name in present], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptObject(key, f"unreadable Parquet: {error}") from error
    if file.metadata.num_rows != rows:
        raise CorruptObject(key, f"{file.metadata.num_rows} rows where the manifest says {rows}")
    return {name: _single(table.column(name)) if name in present else None for name in names}


def required_columns(
    data: bytes | memoryview, names: Sequence[str], *, key: str, rows: int
) -> dict[str, pa.Array]:
    """As `decode_columns`, for columns that every file has. Raises CorruptObject where one is missing."""
    columns = decode_columns(data, names, key=key, rows=rows)
    missing = [name for name, array in columns.items() if array is None]
    if missing:
        raise CorruptObject(key, f"column {missing[0]!r} is missing")
    return columns


def _single(column: Any) -> pa.Array:
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        # a column is written from one array, so it fits into one
        assert combined.num_chunks <= 1, f"{combined.num_chunks} chunks"
        return combined.chunk(0) if combined.num_chunks else pa.array([], combined.type)
    return combined

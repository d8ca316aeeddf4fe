"""The files of a segment: their part names, and `rows.parquet`.

    rows.parquet         `id`, `version` (the log slot that wrote the row), one column `a:<name>` per
                         attribute that is no vector and has a value; what merges and exports read
    versions             the version of each row once more, for reads by range
    ids                  ids in row order, and sorted with row numbers
    attr.<attr>          an attribute's values in row order and, where filters may use it, sorted
    vector.<attr>.ivf    quantised clusters and full-precision vectors
    text.<attr>          postings of a full-text attribute
    deletes.<job>        a delete bitmap of the segment that `job` wrote

An attribute of which no row has a value has no file. Queries read everything but `rows.parquet`, whose pages
are checksummed and the checksums verified.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from elacsym.errors import CorruptObject
from elacsym.format import blob
from elacsym.format.reading import Source, Steps
from elacsym.types import ID

ROWS = "rows.parquet"
IDS = "ids"
VERSIONS = "versions"
VERSION = "version"
ATTRIBUTE = "attr"
TEXT = "text"
VECTOR = "vector"
# nobody reads single rows of it, and the footer describes every column of every group
ROW_GROUP_ROWS = 16_384
_VERSION_BLOCK_ROWS = 1_024
# a file up to this size is read with its head: its pieces would be as many units
_EAGER_BYTES_MAX = 2 * blob.UNIT_BYTES
_VERSION_TYPES = ("|u1", "<u2", "<u4", "<u8")
_PLAIN = re.compile(r"[a-z0-9_-]([a-z0-9_.-]{0,98}[a-z0-9_-])?")


def attribute_part(kind: str, attribute: str) -> str:
    """The part name of an attribute's file; `kind` is ATTRIBUTE, TEXT or VECTOR.

    A long name, and one that not every file system and store can tell from others, is replaced by its digest.
    """
    if _PLAIN.fullmatch(attribute) is None:
        attribute = "=" + hashlib.blake2b(attribute.encode(), digest_size=16).hexdigest()
    return f"{kind}.{attribute}"


def vector_part(attribute: str) -> str:
    """The part name of a vector attribute's file."""
    return attribute_part(VECTOR, attribute) + ".ivf"


def column_name(attribute: str) -> str:
    """The column of `rows.parquet` that holds an attribute."""
    return f"a:{attribute}"


def deletes_part(job: str) -> str:
    """The part name of a delete bitmap of the segment that `job` wrote."""
    return f"deletes.{job}"


def encode_rows(
    ids: pa.Array, versions: npt.NDArray[np.uint64], attributes: Mapping[str, pa.Array]
) -> memoryview:
    """`rows.parquet` of these columns, in row order; `attributes` by name."""
    columns = {ID: ids, VERSION: pa.array(versions)} | {
        column_name(name): array for name, array in attributes.items()
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
    return memoryview(sink.getvalue())


def decode_columns(
    data: bytes | memoryview, names: Sequence[str], *, key: str, rows: int
) -> dict[str, pa.Array | None]:
    """The named columns (`id`, `version` or of `column_name`) of `rows.parquet`; None for a column that
    the file lacks.

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


def encode_versions(versions: npt.NDArray[np.uint64]) -> bytes:
    """`versions` of these, (n,) with at least one: how much each is above the smallest, as narrow as can
    be."""
    base = int(versions.min())
    above = (versions - np.uint64(base)).astype(np.min_scalar_type(int(versions.max()) - base))
    eager = ("above",) if above.nbytes <= _EAGER_BYTES_MAX else ()
    return blob.encode({"above": above}, {"kind": VERSIONS, "version": 1, "base": base}, eager)


def versions_at(
    source: Source, rows: npt.NDArray[np.int64], rows_total: int
) -> Steps[npt.NDArray[np.uint64]]:
    """(k,) the versions of these rows, in a file `versions` of rows_total. At most two rounds.

    Raises CorruptObject.
    """
    file = (yield from blob.Blob.opened(source)).expect(VERSIONS, 1)
    dtype = file.sections["above"].dtype if "above" in file.sections else ""
    above = file.array("above", dtype if dtype in _VERSION_TYPES else "<u8", rows_total)
    blocks = np.unique(rows // _VERSION_BLOCK_ROWS) * _VERSION_BLOCK_ROWS
    ends = np.minimum(blocks + _VERSION_BLOCK_ROWS, rows_total)
    yield from file.want(
        *(file.span("above", *block) for block in zip(blocks.tolist(), ends.tolist(), strict=True))
    )
    versions: npt.NDArray[np.uint64] = above[rows].astype(np.uint64) + np.uint64(file.scalar("base"))
    return versions


def _single(column: Any) -> pa.Array:
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        # a column is written from one array, so it fits into one
        assert combined.num_chunks <= 1, f"{combined.num_chunks} chunks"
        return combined.chunk(0) if combined.num_chunks else pa.array([], combined.type)
    return combined

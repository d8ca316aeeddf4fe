"""The container of index files: numpy arrays behind one checksummed table, read whole, mapped or by range.

    prefix: magic 4 | version u8 | reserved u8 u16 | table bytes u32 | units u32 | file bytes u64
            | table crc32 u32 | prefix crc32 u32
    table: JSON {"meta": {...}, "sections": [{"name", "dtype", "shape", "offset", "length", "unit"}]}
    unit CRCs: crc32 u32 of every unit of UNIT_BYTES of every section, section after section
    sections, each at a multiple of ALIGNMENT, padded with zeros up to the next

Little-endian. The table CRC covers table and unit CRCs, whose length is padded with spaces so that the
first section is aligned. A unit never spans two sections and the last unit of a section includes its
padding, so every byte of the file is under exactly one CRC, and a ranged read of whole units can be checked
against the head of the file alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import orjson

from elacsym.errors import CorruptObject

MAGIC = b"elab"
VERSION = 1
ALIGNMENT = 64
UNIT_BYTES = 16 * 2**10
_PREFIX = struct.Struct("<4sBBHIIQI")
_CRC = struct.Struct("<I")
PREFIX_BYTES = _PREFIX.size + _CRC.size
assert PREFIX_BYTES == 32  # the format is public: a change here is a new VERSION


@dataclass(frozen=True, slots=True)
class Section:
    """One array in the file. offset, length: bytes, padding excluded. unit: number of its first unit CRC."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    unit: int

    @property
    def end(self) -> int:
        """Where the next section begins: the padded end, in bytes."""
        return self.offset + _padded(self.length)

    @property
    def units(self) -> int:
        """How many unit CRCs the section has."""
        return -(-_padded(self.length) // UNIT_BYTES)


def encode(sections: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> bytes:
    """The file that holds `sections` (numeric or boolean arrays of any shape) and the JSON object `meta`."""
    arrays = {name: _little_endian(array) for name, array in sections.items()}
    bodies = [_body(array) for array in arrays.values()]
    crcs = [_unit_crcs(body) for body in bodies]
    unit_crcs = np.concatenate([np.empty(0, "<u4"), *crcs]).astype("<u4").tobytes()
    # offsets stand in the table as digits, so its length depends on where the sections start
    start, table = 0, b""
    while (end := PREFIX_BYTES + len(table := _table(arrays, start, meta)) + len(unit_crcs)) > start:
        start = _padded(end)
    table += b" " * (start - end)
    size = start + sum(len(body) for body in bodies)
    table_crc = zlib.crc32(unit_crcs, zlib.crc32(table))
    units = len(unit_crcs) // _CRC.size
    prefix = _PREFIX.pack(MAGIC, VERSION, 0, 0, len(table), units, size, table_crc)
    return b"".join((prefix, _CRC.pack(zlib.crc32(prefix)), table, unit_crcs, *bodies))


class Blob:
    """An opened file. Arrays are read-only views of its bytes; nothing is copied."""

    def __init__(
        self, data: memoryview, key: str, table: Mapping[str, Any], unit_crcs: npt.NDArray[np.uint32]
    ) -> None:
        self._data, self.key, self._unit_crcs = data, key, unit_crcs
        self.meta: Mapping[str, Any] = table["meta"]
        self.sections = {
            s["name"]: Section(s["name"], s["dtype"], tuple(s["shape"]), s["offset"], s["length"], s["unit"])
            for s in table["sections"]
        }

    @classmethod
    def open(cls, data: memoryview | bytes, key: str) -> Self:
        """The blob in `data`; `key` names it in errors. Raises CorruptObject.

        Checks prefix, table and length; `verify` checks the sections.
        """
        view = memoryview(data).toreadonly().cast("B")
        if len(view) < PREFIX_BYTES:
            raise CorruptObject(key, f"{len(view)} bytes is shorter than a prefix", offset=0)
        if zlib.crc32(view[: _PREFIX.size]) != _CRC.unpack_from(view, _PREFIX.size)[0]:
            raise CorruptObject(key, "prefix checksum mismatch", offset=0)
        magic, version, flags, reserved, table_bytes, units, size, table_crc = _PREFIX.unpack_from(view)
        if magic != MAGIC or version != VERSION or flags or reserved:
            raise CorruptObject(key, f"not a blob of version {VERSION}", offset=0)
        if size != len(view):
            raise CorruptObject(
                key, f"{len(view)} bytes where the prefix says {size}", offset=min(size, len(view))
            )
        table_end = PREFIX_BYTES + table_bytes
        head_end = table_end + units * _CRC.size
        if head_end > size or zlib.crc32(view[PREFIX_BYTES:head_end]) != table_crc:
            raise CorruptObject(key, "table checksum mismatch", offset=PREFIX_BYTES)
        try:
            table = orjson.loads(view[PREFIX_BYTES:table_end])
            blob = cls(view, key, table, np.frombuffer(view[table_end:head_end], "<u4"))
            ends = [head_end, *(section.end for section in blob.sections.values())]
            starts = [*(section.offset for section in blob.sections.values()), size]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptObject(key, f"not a table of sections: {error}", offset=PREFIX_BYTES) from error
        if starts != ends or sum(section.units for section in blob.sections.values()) != units:
            raise CorruptObject(key, "sections do not tile the file", offset=PREFIX_BYTES)
        return blob

    def verify(self) -> Self:
        """Check every unit of every section. Raises CorruptObject naming the first damaged unit's offset."""
        for section in self.sections.values():
            found = _unit_crcs(self._data[section.offset : section.end])
            wrong = np.flatnonzero(found != self._unit_crcs[section.unit : section.unit + section.units])
            if len(wrong):
                offset = section.offset + int(wrong[0]) * UNIT_BYTES
                raise CorruptObject(self.key, f"section {section.name!r}: checksum mismatch", offset=offset)
        return self

    def array(self, name: str, dtype: npt.DTypeLike, *shape: int | None) -> npt.NDArray[Any]:
        """The section `name` as a read-only view, of this dtype and shape (None: any length).

        Raises CorruptObject where the file has another dtype or shape, or no such section.
        """
        section = self.sections.get(name)
        if section is None:
            raise CorruptObject(self.key, f"no section {name!r}", offset=PREFIX_BYTES)
        fits = len(shape) == len(section.shape) and all(
            a is None or a == b for a, b in zip(shape, section.shape, strict=True)
        )
        if np.dtype(section.dtype) != np.dtype(dtype) or not fits:
            found = f"{section.dtype}{list(section.shape)}"
            expected = f"{np.dtype(dtype).str}{list(shape)}"
            raise CorruptObject(
                self.key, f"section {name!r} is {found}, not {expected}", offset=section.offset
            )
        return np.frombuffer(
            self._data, dtype, section.length // np.dtype(dtype).itemsize, section.offset
        ).reshape(section.shape)

    def scalar(self, name: str) -> int:
        """The integer `name` of the meta object. Raises CorruptObject where there is none."""
        value = self.meta.get(name)
        if not isinstance(value, int):
            raise CorruptObject(self.key, f"meta has no integer {name!r}", offset=PREFIX_BYTES)
        return value

    def expect(self, kind: str, version: int) -> Self:
        """Check that the meta object says this `kind` and `version`. Raises CorruptObject."""
        found = (self.meta.get("kind"), self.meta.get("version"))
        if found != (kind, version):
            raise CorruptObject(
                self.key, f"holds {found[0]} {found[1]}, not {kind} {version}", offset=PREFIX_BYTES
            )
        return self


def _padded(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _little_endian(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    assert array.dtype.kind in "biuf", array.dtype
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def _body(array: npt.NDArray[Any]) -> memoryview | bytes:
    """The bytes of one section, padding included; a copy only where padding is due."""
    if array.nbytes == _padded(array.nbytes):
        return array.reshape(-1).view(np.uint8).data if array.size else b""
    return array.tobytes().ljust(_padded(array.nbytes), b"\0")


def _unit_crcs(body: memoryview | bytes) -> npt.NDArray[np.uint32]:
    view = memoryview(body)
    return np.fromiter(
        (zlib.crc32(view[i : i + UNIT_BYTES]) for i in range(0, len(view), UNIT_BYTES)), np.uint32
    )


def _table(arrays: Mapping[str, npt.NDArray[Any]], start: int, meta: Mapping[str, Any]) -> bytes:
    sections, offset, unit = [], start, 0
    for name, array in arrays.items():
        section = Section(name, array.dtype.str, array.shape, offset, array.nbytes, unit)
        sections.append({field: getattr(section, field) for field in Section.__slots__})
        offset, unit = section.end, unit + section.units
    return orjson.dumps({"meta": dict(meta), "sections": sections})

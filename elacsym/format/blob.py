"""The container of index files: numpy arrays behind one checksummed table, read whole, mapped or by range.

    prefix: magic 4 | version u8 | reserved u8 u16 | table bytes u32 | units u32 | file bytes u64
            | table crc32 u32 | prefix crc32 u32
    table: JSON {"meta": {...}, "eager": bytes, "sections": [{"name", "dtype", "shape", "offset", "length"}]}
    unit CRCs: crc32 u32 of every UNIT_BYTES of the rest of the file, the last one shorter
    sections, each at a multiple of ALIGNMENT, padded with zeros up to the next

Little-endian. The *head* is everything before the sections; the table CRC covers table and unit CRCs, whose
length is padded with spaces so that the first section is aligned. Every byte behind the head is under exactly
one unit CRC, so a ranged read of whole units can be checked against the head alone. Sections that every
reader needs stand first; `eager` says where they end, so that head and they are one request.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import orjson

from elacsym.errors import CorruptObject
from elacsym.format.reading import GAP_BYTES, MemorySource, Source, Span, Steps, ensure

MAGIC = b"elab"
VERSION = 2
ALIGNMENT = 64
UNIT_BYTES = 8 * 2**10
_PREFIX = struct.Struct("<4sBBHIIQI")
_CRC = struct.Struct("<I")
PREFIX_BYTES = _PREFIX.size + _CRC.size
assert PREFIX_BYTES == 32  # the format is public: a change here is a new VERSION


@dataclass(frozen=True, slots=True)
class Section:
    """One array in the file. offset, length: bytes, padding excluded."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int

    @property
    def end(self) -> int:
        """Where the next section begins: the padded end, in bytes."""
        return self.offset + _padded(self.length)


def encode(
    sections: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], eager: Collection[str] = ()
) -> bytes:
    """The file that holds `sections` (numeric or boolean arrays of any shape) and the JSON object `meta`.

    eager: names of sections that every reader needs; they are put first.
    """
    names = [*(n for n in sections if n in eager), *(n for n in sections if n not in eager)]
    arrays = {name: _little_endian(sections[name]) for name in names}
    body = b"".join(_body(array) for array in arrays.values())
    crcs = unit_crcs(memoryview(body)).astype("<u4").tobytes()
    # offsets stand in the table as digits, so its length depends on where the sections start
    start, table = 0, b""
    while (end := PREFIX_BYTES + len(table := _table(arrays, start, meta, eager)) + len(crcs)) > start:
        start = _padded(end)
    table += b" " * (start - end)
    size = start + len(body)
    table_crc = zlib.crc32(crcs, zlib.crc32(table))
    prefix = _PREFIX.pack(MAGIC, VERSION, 0, 0, len(table), len(crcs) // _CRC.size, size, table_crc)
    return b"".join((prefix, _CRC.pack(zlib.crc32(prefix)), table, crcs, body))


def unit_crcs(body: memoryview) -> npt.NDArray[np.uint32]:
    """The CRC of every unit of `body`, which begins with a unit."""
    return np.fromiter(
        (zlib.crc32(body[i : i + UNIT_BYTES]) for i in range(0, len(body), UNIT_BYTES)), np.uint32
    )


@dataclass(frozen=True, slots=True)
class Head:
    """The checked head of a file. size_bytes: of the head; unit i is [size_bytes + i * UNIT_BYTES, …).

    eager_bytes: where the sections that every reader needs end.
    """

    size_bytes: int
    eager_bytes: int
    file_bytes: int
    meta: Mapping[str, Any]
    sections: Mapping[str, Section]
    crcs: npt.NDArray[np.uint32]

    @classmethod
    def parse(cls, data: memoryview | bytes, key: str) -> Self:
        """The head at the beginning of `data`, which may end anywhere behind it. Raises CorruptObject.

        Nothing of `data` is kept.
        """
        view = memoryview(data).cast("B")
        if len(view) < PREFIX_BYTES:
            raise CorruptObject(key, f"{len(view)} bytes is shorter than a prefix", offset=0)
        if zlib.crc32(view[: _PREFIX.size]) != _CRC.unpack_from(view, _PREFIX.size)[0]:
            raise CorruptObject(key, "prefix checksum mismatch", offset=0)
        magic, version, flags, reserved, table_bytes, units, size, table_crc = _PREFIX.unpack_from(view)
        if magic != MAGIC or version != VERSION or flags or reserved:
            raise CorruptObject(key, f"not a blob of version {VERSION}", offset=0)
        table_end = PREFIX_BYTES + table_bytes
        head_end = table_end + units * _CRC.size
        if head_end > len(view) or zlib.crc32(view[PREFIX_BYTES:head_end]) != table_crc:
            raise CorruptObject(key, "table checksum mismatch", offset=PREFIX_BYTES)
        try:
            table = orjson.loads(view[PREFIX_BYTES:table_end])
            sections = {
                s["name"]: Section(s["name"], s["dtype"], tuple(s["shape"]), s["offset"], s["length"])
                for s in table["sections"]
            }
            eager, meta = table["eager"], table["meta"]
            ends = [head_end, *(section.end for section in sections.values())]
            starts = [*(section.offset for section in sections.values()), size]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptObject(key, f"not a table of sections: {error}", offset=PREFIX_BYTES) from error
        if starts != ends or -(-(size - head_end) // UNIT_BYTES) != units or eager not in ends:
            raise CorruptObject(key, "sections do not tile the file", offset=PREFIX_BYTES)
        return cls(
            head_end, eager, size, meta, sections, np.frombuffer(bytes(view[table_end:head_end]), "<u4")
        )

    def units(self, start: int, stop: int) -> range:
        """The numbers of the units that the file's bytes [start, stop) are in, head bytes left aside."""
        first = max(0, start - self.size_bytes) // UNIT_BYTES
        return range(first, -(-max(0, min(stop, self.file_bytes) - self.size_bytes) // UNIT_BYTES))

    def span_of_unit(self, unit: int) -> Span:
        """The byte range of a unit."""
        start = self.size_bytes + unit * UNIT_BYTES
        return start, min(start + UNIT_BYTES, self.file_bytes)

    def damaged(self, units: range, body: memoryview) -> int | None:
        """The first of these units whose bytes do not have its CRC, or None. body: their bytes, in order."""
        found = unit_crcs(body)
        wrong = np.flatnonzero(found != self.crcs[units.start : units.stop])
        return int(wrong[0]) + units.start if len(wrong) else None


class Blob:
    """An opened file: its sections as read-only arrays over the source's bytes; nothing is copied.

    An array covers its whole section; `want` has to bring the part of it that is looked at.
    """

    def __init__(self, source: Source, head: Head) -> None:
        self.source, self.head = source, head

    @property
    def key(self) -> str:
        """The object's key."""
        return self.source.key

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the writer noted."""
        return self.head.meta

    @property
    def sections(self) -> Mapping[str, Section]:
        """The sections by name, in the order of the file."""
        return self.head.sections

    @classmethod
    def opened(cls, source: Source) -> Steps[Self]:
        """The blob in a source; head and eager sections are at hand then. Raises CorruptObject."""
        yield from ensure(source, (0, source.eager_bytes))
        head = Head.parse(source.data, source.key)
        if head.file_bytes != source.size_bytes:
            raise CorruptObject(
                source.key,
                f"{source.size_bytes} bytes where the prefix says {head.file_bytes}",
                offset=min(head.file_bytes, source.size_bytes),
            )
        yield from ensure(source, (0, head.eager_bytes))
        return cls(source, head)

    @classmethod
    def open(cls, data: memoryview | bytes, key: str) -> Self:
        """The blob in memory. Raises CorruptObject; `verify` checks the sections."""
        view = memoryview(data)
        head = Head.parse(view, key)
        if head.file_bytes != len(view):
            raise CorruptObject(
                key,
                f"{len(view)} bytes where the prefix says {head.file_bytes}",
                offset=min(head.file_bytes, len(view)),
            )
        return cls(MemorySource(view, key), head)

    def verify(self) -> Self:
        """Check every unit. Raises CorruptObject naming the first damaged unit's offset."""
        wrong = self.head.damaged(
            self.head.units(0, self.head.file_bytes), self.source.data[self.head.size_bytes :]
        )
        if wrong is not None:
            raise CorruptObject(self.key, "checksum mismatch", offset=self.head.span_of_unit(wrong)[0])
        return self

    def array(self, name: str, dtype: npt.DTypeLike, *shape: int | None) -> npt.NDArray[Any]:
        """The section `name` as a read-only view, of this dtype and shape (None: any length).

        Raises CorruptObject where the file has another dtype or shape, or no such section.
        """
        section = self._section(name)
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
            self.source.data, dtype, section.length // np.dtype(dtype).itemsize, section.offset
        ).reshape(section.shape)

    def span(self, name: str, start: int = 0, stop: int | None = None) -> Span:
        """The bytes of elements [start, stop) of a section along its first axis; None: to its end."""
        section = self._section(name)
        count = section.shape[0]
        row_bytes = section.length // count if count else 0
        stop = count if stop is None else stop
        assert 0 <= start <= stop <= count, (name, start, stop, count)
        return section.offset + start * row_bytes, section.offset + stop * row_bytes

    def want(self, *spans: Span, gap_bytes: int = GAP_BYTES) -> Steps[None]:
        """Have these ranges (of `span`) at hand."""
        return ensure(self.source, *spans, gap_bytes=gap_bytes)

    def want_whole(self, *names: str) -> Steps[None]:
        """Have these sections at hand."""
        return ensure(self.source, *(self.span(name) for name in names))

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

    def _section(self, name: str) -> Section:
        section = self.sections.get(name)
        if section is None:
            raise CorruptObject(self.key, f"no section {name!r}", offset=PREFIX_BYTES)
        return section


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


def _table(
    arrays: Mapping[str, npt.NDArray[Any]], start: int, meta: Mapping[str, Any], eager: Collection[str]
) -> bytes:
    sections: list[dict[str, Any]] = []
    offset = eager_end = start
    for name, array in arrays.items():
        section = Section(name, array.dtype.str, array.shape, offset, array.nbytes)
        sections.append({field: getattr(section, field) for field in Section.__slots__})
        offset = section.end
        eager_end = offset if name in eager else eager_end
    return orjson.dumps({"meta": dict(meta), "eager": eager_end, "sections": sections})

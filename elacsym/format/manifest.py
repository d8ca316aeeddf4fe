"""The manifest: the only mutable object of a namespace, and the root of everything that is durable about it.

A frame of kind MANIFEST around UTF-8 JSON. Invariants are checked on encode and again on decode. `generation`
and `nonce` are inside, because an ETag may be a digest of the body and would let A-B-A pass a
compare-and-swap. Pure transitions live in `elacsym.log.transitions`; this module only says what a manifest
is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Self

import orjson

from elacsym.errors import CorruptObject
from elacsym.format import blob, frame
from elacsym.format.digest import blake2b_128
from elacsym.format.keys import NamespaceKeys, is_valid_name
from elacsym.types import Schema

FORMAT = 1
RING_SLOTS = 256
KEYS_REMEMBERED = 1_024
MANIFEST_BYTES_MAX = 4 * 2**20
PINS_MAX = 4_096


class State(StrEnum):
    """`deleted` is a tombstone: the name may be taken again under a new incarnation. `sealed`: nothing is
    acknowledged and nothing changes, while a copy makes sure that there are no documents."""

    ACTIVE = "active"
    SEALED = "sealed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class FileRef:
    """One immutable file: its part name below `seg/{job}/`, its size and the blake2b-128 of its bytes.

    For a blob also the size and digest of its head, under which every other byte can be checked by itself,
    and how much of its beginning is worth fetching at once; 0 and empty for files that are read whole.
    """

    part: str
    size_bytes: int
    digest: str
    head_bytes: int = 0
    eager_bytes: int = 0
    head_digest: str = ""

    @classmethod
    def of(cls, part: str, data: bytes | memoryview) -> Self:
        """What a manifest says of a file of these bytes."""
        view = memoryview(data)
        digest = blake2b_128(view)
        if view[: len(blob.MAGIC)] != blob.MAGIC:
            return cls(part, len(view), digest)
        head = blob.Head.parse(view, part)
        return cls(
            part, len(view), digest, head.size_bytes, head.eager_bytes, blake2b_128(view[: head.size_bytes])
        )


@dataclass(frozen=True, slots=True)
class Home:
    """An incarnation of a namespace: the prefix under which objects lie, to which others may refer, too."""

    name: str
    inc: str

    def wal(self, seq: int) -> str:
        """The key of log slot `seq`."""
        return NamespaceKeys(self.name).wal(self.inc, seq)

    def segment_file(self, job: str, part: str) -> str:
        """The key of one file that job `job` wrote."""
        return NamespaceKeys(self.name).segment_file(self.inc, job, part)


@dataclass(frozen=True, slots=True)
class DeletesRef:
    """The delete bitmap of a segment: `job` wrote it as `file`; `rows` bits are set. home: see SegmentRef."""

    job: str
    file: FileRef
    rows: int
    home: Home | None = None


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A segment: the files below `seg/{job}/` and what of its rows is alive.

    rows counts all rows, deletes included. seq_min and seq_max bound the row versions. row_sum is the row sum
    of the LIVE rows (32 hexadecimal digits). level is the number of merges behind it. home is where the files
    lie: None under the prefix of the namespace itself, else under that of one it was branched from.
    """

    job: str
    rows: int
    seq_min: int
    seq_max: int
    row_sum: str
    files: tuple[FileRef, ...]
    deletes: DeletesRef | None = None
    level: int = 0
    home: Home | None = None

    @property
    def rows_live(self) -> int:
        """Rows that are neither deleted nor overwritten."""
        return self.rows - (self.deletes.rows if self.deletes else 0)

    @property
    def size_bytes(self) -> int:
        """The bytes of all files, delete bitmap excluded."""
        return sum(f.size_bytes for f in self.files)

    def file(self, part: str) -> FileRef | None:
        """The file of this part name, if the segment has one."""
        return next((f for f in self.files if f.part == part), None)


@dataclass(frozen=True, slots=True)
class Intent:
    """A job under way: its output is no garbage while this stands. Anyone may remove it when it is old."""

    job: str
    kind: str
    inputs: tuple[str, ...]
    epoch: int
    node: str


@dataclass(frozen=True, slots=True)
class Pin:
    """A branch refers to objects of this namespace's incarnation `inc`, or to what that refers to itself.

    holder, holder_inc: the branch. jobs: whose files it refers to, wherever they lie. slots: the first and
    the last log slot that it refers to, None where there are none.
    """

    holder: str
    holder_inc: str
    inc: str
    jobs: tuple[str, ...]
    slots: tuple[int, int] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is referred to."""
        return not self.jobs and self.slots is None

    def covers(self, seq: int) -> bool:
        """Whether this log slot is referred to."""
        return self.slots is not None and self.slots[0] <= seq <= self.slots[1]

    def is_of(self, other: Pin) -> bool:
        """Whether both say what the same holder refers to, now or at another time."""
        return (self.holder, self.holder_inc) == (other.holder, other.holder_inc)


@dataclass(frozen=True, slots=True)
class Hold:
    """The other end of a pin: `pin` stands in the manifest of namespace `name`, and this one has to release
    it."""

    name: str
    pin: Pin


@dataclass(frozen=True, slots=True)
class Base:
    """Where the beginning of a branch's log lies: the slots below `end` that no base before has."""

    home: Home
    end: int


@dataclass(frozen=True, slots=True)
class FoldedKey:
    """The result of a folded write that carried an idempotency key."""

    key: str
    seq: int
    count: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation of a namespace's root.

    applied:     the first log slot that is not yet in segments.
    epoch:       the highest epoch among folded slots.
    ring:        nonce of each of the last RING_SLOTS folded slots.
    tail_digest: blake2b-128 of the object in slot applied - 1 (empty before the first fold): the digest chain
    starts here.
    keys:        the newest KEYS_REMEMBERED idempotency keys of folded writes, oldest first.
    previous:    blake2b-128 of the encoded manifest that this one replaced (empty for the first).
    row_sum:     of all live rows of all segments.
    bases:       of a branch: where the unfolded slots lie that it shares; its own begin behind the last one.
    holds:       the pins that this namespace has in others, those of its earlier incarnations included.
    successor:   the incarnation that a branch or copy under way is about to put in this one's place.
    written_ms:  when the last folded write of documents was written, by its writer's clock; 0: there is none.
    changed_ms:  the same for writes of any kind.
    """

    name: str
    inc: str
    nonce: str
    state: State = State.ACTIVE
    generation: int = 0
    applied: int = 0
    epoch: int = 0
    ring: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    tail_digest: str = ""
    schema: Schema = field(default_factory=Schema)
    segments: tuple[SegmentRef, ...] = ()
    intents: tuple[Intent, ...] = ()
    pins: tuple[Pin, ...] = ()
    keys: tuple[FoldedKey, ...] = ()
    rows_live: int = 0
    row_sum: str = f"{0:032x}"
    previous: str = ""
    created_ms: int = 0
    bases: tuple[Base, ...] = ()
    holds: tuple[Hold, ...] = ()
    successor: str = ""
    written_ms: int = 0
    changed_ms: int = 0

    def check(self) -> str | None:
        """What is wrong with this manifest, or None."""
        jobs = [s.job for s in self.segments]
        if not is_valid_name(self.name) or len(self.inc) != 16 or len(self.nonce) != 32:
            return "name, incarnation or nonce has the wrong form"
        if min(self.generation, self.applied, self.epoch, self.rows_live) < 0:
            return "a negative counter"
        if len(set(jobs)) != len(jobs):
            return "a segment is listed twice"
        if len(self.ring) > RING_SLOTS or any(not 0 <= seq < self.applied for seq in self.ring):
            return "the ring holds a slot that is not folded"
        if any(end <= start for start, end in pairwise((self.applied, *(b.end for b in self.bases)))):
            return "the bases of the log are not in order"
        if sum(s.rows_live for s in self.segments) != self.rows_live:
            return "live rows of the segments do not add up"
        if any(s.rows_live < 0 or s.seq_max >= self.applied for s in self.segments):
            return "a segment is inconsistent"
        if sum(int(s.row_sum, 16) for s in self.segments) % 2**128 != int(self.row_sum, 16):
            return "row sums of the segments do not add up"
        return None

    def encode(self) -> bytes:
        """The manifest as an object's bytes."""
        wrong = self.check()
        assert wrong is None, wrong
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        body |= {
            "format": FORMAT,
            "schema": self.schema.to_json(),
            "ring": [list(r) for r in sorted(self.ring.items())],
        }
        # hundreds of branches of one namespace pin the same jobs
        jobs = sorted({job for pin in self.pins for job in pin.jobs})
        number = {job: i for i, job in enumerate(jobs)}
        body |= {"pinned": jobs, "pins": [_numbered(pin, number) for pin in self.pins]}
        return frame.encode(frame.Kind.MANIFEST, orjson.dumps(body))

    @classmethod
    def decode(cls, data: bytes, *, key: str) -> Self:
        """The manifest in an object's bytes; `key` names it in errors. Raises CorruptObject."""
        body = frame.decode(data, key=key, kind=frame.Kind.MANIFEST)
        try:
            value: dict[str, Any] = orjson.loads(body)
            if value.pop("format") != FORMAT:
                raise ValueError("unknown format")
            value["state"] = State(value["state"])
            value["schema"] = Schema.from_json(value["schema"])
            value["ring"] = MappingProxyType({int(seq): str(nonce) for seq, nonce in value["ring"]})
            value["segments"] = tuple(_segment(s) for s in value["segments"])
            value["intents"] = tuple(Intent(**(i | {"inputs": tuple(i["inputs"])})) for i in value["intents"])
            pinned = value.pop("pinned")
            value["pins"] = tuple(_pin(p | {"jobs": [pinned[i] for i in p["jobs"]]}) for p in value["pins"])
            value["holds"] = tuple(Hold(h["name"], _pin(h["pin"])) for h in value["holds"])
            value["bases"] = tuple(Base(Home(**b["home"]), b["end"]) for b in value["bases"])
            value["keys"] = tuple(FoldedKey(**k) for k in value["keys"])
            manifest = cls(**value)
            wrong = manifest.check()
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise CorruptObject(key, f"not a manifest: {error}") from error
        if wrong is not None:
            raise CorruptObject(key, wrong)
        return manifest

    def segment(self, job: str) -> SegmentRef | None:
        """The segment that `job` wrote, if it is referenced."""
        return next((s for s in self.segments if s.job == job), None)

    @property
    def home(self) -> Home:
        """Where this incarnation's own objects lie."""
        return Home(self.name, self.inc)

    @property
    def begins(self) -> int:
        """The first unfolded slot that is the namespace's own; a branch shares those before it."""
        return self.bases[-1].end if self.bases else self.applied

    def home_of_slot(self, seq: int) -> Home:
        """Where log slot `seq` lies, which is not folded."""
        return next((base.home for base in self.bases if seq < base.end), self.home)

    def slot_key(self, seq: int) -> str:
        """The key of log slot `seq`, which is not folded."""
        return self.home_of_slot(seq).wal(seq)


def _segment(value: dict[str, Any]) -> SegmentRef:
    files = tuple(FileRef(**f) for f in value["files"])
    deletes = value["deletes"]
    if deletes is not None:
        deletes = DeletesRef(
            deletes["job"], FileRef(**deletes["file"]), deletes["rows"], _home(deletes["home"])
        )
    return SegmentRef(**(value | {"files": files, "deletes": deletes, "home": _home(value["home"])}))


def _home(value: dict[str, str] | None) -> Home | None:
    return None if value is None else Home(**value)


def _numbered(pin: Pin, number: Mapping[str, int]) -> dict[str, Any]:
    # not `asdict`, which copies everything and takes a hundred times as long
    fields = {name: getattr(pin, name) for name in pin.__dataclass_fields__}
    return fields | {"jobs": [number[job] for job in pin.jobs]}


def _pin(value: dict[str, Any]) -> Pin:
    slots = value["slots"]
    return Pin(
        value["holder"],
        value["holder_inc"],
        value["inc"],
        tuple(value["jobs"]),
        None if slots is None else (slots[0], slots[1]),
    )


def digest_of(encoded: bytes) -> str:
    """The digest by which a manifest names the one before it."""
    return blake2b_128(encoded)

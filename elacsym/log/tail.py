"""What is known of a log: a manifest and the slots after it. Pure: the chain is checked here, nothing is
read.

Invariants: records are contiguous from `manifest.applied` to `next - 1`; each record's `previous` is the
digest of the one before it, the first one's is `manifest.tail_digest`; `epoch` is the highest epoch of
manifest and records.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from elacsym.format.manifest import FoldedKey, Manifest
from elacsym.format.wal_entry import EntryKind, WalEntry


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What folding and proofs need of one slot, without its payload.

    inc:     the log that was read; a slot that a branch shares was written in another's.
    digest:  blake2b-128 of the object. previous: that of the slot before.
    is_void: the entry's epoch is lower than one before it, so it was not applied.
    keys:    (idempotency key, count) of its batches; empty where void, and of shared slots.
    writer:  the node that wrote it.
    written_ms: when, by that node's clock. has_documents: whether it writes or deletes any.
    """

    inc: str
    seq: int
    epoch: int
    nonce: str
    kind: EntryKind
    digest: str
    previous: str
    size_bytes: int
    is_void: bool
    keys: tuple[tuple[str, int], ...]
    writer: str
    written_ms: int = 0
    has_documents: bool = False


def claimant(records: Sequence[SlotRecord]) -> str | None:
    """The node of the last of these claims that counts; None where none is left of it."""
    claims = (r for r in reversed(records) if r.kind is EntryKind.CLAIM and not r.is_void)
    last = next(claims, None)
    return None if last is None else last.writer


class Tail:
    """A manifest and the verified slots after it; see the module for the invariants."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.epoch = manifest.epoch
        self.digest = manifest.tail_digest
        self.unfolded_bytes = 0
        self._records: list[SlotRecord] = []
        self._keys: dict[str, FoldedKey] | None = None

    @property
    def next(self) -> int:
        """The first slot that is not known."""
        return self.manifest.applied + len(self._records)

    @property
    def records(self) -> Sequence[SlotRecord]:
        """The slots from `manifest.applied` on. Not to be changed."""
        return self._records

    def mismatch(self, entry: WalEntry) -> str | None:
        """Why `entry` cannot be what slot `next` holds, or None."""
        inc = self.manifest.home_of_slot(self.next).inc
        if (entry.inc, entry.seq) != (inc, self.next):
            return f"holds slot {entry.inc}:{entry.seq} where {inc}:{self.next} belongs"
        if entry.previous != self.digest:
            return f"follows digest '{entry.previous}' where slot {self.next - 1} has '{self.digest}'"
        return None

    def is_void(self, entry: WalEntry) -> bool:
        """Whether the entry in slot `next` was written under an epoch that a claim before it ended."""
        return entry.epoch < self.epoch

    def append(self, entry: WalEntry, size_bytes: int, digest: str) -> SlotRecord:
        """Take `entry` as slot `next`; the caller has seen that `mismatch` is None."""
        is_void = self.is_void(entry)
        is_shared = entry.seq < self.manifest.begins
        # whoever wrote to the log that a branch begins with did not write to the branch
        keys = () if is_void or is_shared else _keys_of(entry)
        record = SlotRecord(
            self.manifest.inc,
            entry.seq,
            entry.epoch,
            entry.nonce,
            entry.kind,
            digest,
            entry.previous,
            size_bytes,
            is_void,
            keys,
            # a few nodes write all slots
            sys.intern(entry.writer),
            entry.written_ms,
            not is_void and entry.has_documents,
        )
        self._records.append(record)
        self.epoch = max(self.epoch, entry.epoch)
        self.digest = digest
        self.unfolded_bytes += size_bytes
        if self._keys is not None:
            self._keys |= {key: FoldedKey(key, entry.seq, count) for key, count in keys}
        return record

    def rebase(self, manifest: Manifest) -> str | None:
        """Put a later manifest of the same incarnation below the slots; what contradicts it, or None.

        Slots from its `applied` on stay: they were not folded when it was written, so they were never
        collected and what was read there is the log. Where its `applied` is beyond `next`, the slots between
        are in its segments.
        """
        assert manifest.inc == self.manifest.inc, "another incarnation is another log"
        if manifest.applied < self.manifest.applied:
            return f"applied went back from {self.manifest.applied} to {manifest.applied}"
        folded = manifest.applied - self.manifest.applied
        if 0 < folded <= len(self._records):
            last = self._records[folded - 1]
            if last.digest != manifest.tail_digest:
                return f"tail digest {manifest.tail_digest} where slot {last.seq} was read as {last.digest}"
        self._records = self._records[folded:]
        self.manifest = manifest
        self.epoch = max([manifest.epoch, *(r.epoch for r in self._records)])
        self.digest = self._records[-1].digest if self._records else manifest.tail_digest
        self.unfolded_bytes = sum(r.size_bytes for r in self._records)
        self._keys = None
        return None

    def find_key(self, key: str) -> FoldedKey | None:
        """The committed write that carried this idempotency key, if it is remembered."""
        if self._keys is None:
            self._keys = {k.key: k for k in self.manifest.keys}
            for record in self._records:
                self._keys |= {name: FoldedKey(name, record.seq, count) for name, count in record.keys}
        return self._keys.get(key)


def _keys_of(entry: WalEntry) -> tuple[tuple[str, int], ...]:
    return tuple((batch.key, batch.count) for batch in entry.batches if batch.key is not None)

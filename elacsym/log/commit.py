"""The commit protocol as a pure state machine: answers of the store in, the next request or the outcome out.

One entry, one slot. The log of a namespace is a row of slots; an entry becomes part of it by being created in
the first free one, and only the owner's claim before it decides whether it counts.

1. PUT: create the slot. A clean answer "created" is not yet a commit: create-if-absent forgets deleted names,
   and a writer that stalled past garbage collection can "win" a slot that was folded and collected long ago.
2. READ_SLOT, after anything but a clean "created": a layer below may have sent the request twice, or lost the
   answer of one that was applied. Our own entry in the slot: we won. Nothing there after an error: the same
   bytes are sent again. Nothing there after a refusal: the slot was taken, folded and collected while we
   stalled.
3. READ_MANIFEST, always, and after every other read: it proves which log the slot belongs to. While `applied`
   has not passed the slot, nobody can have collected it, so what it holds is the log. Beyond that only the
   nonces that the manifest remembers can tell, and a slot that has left the ring stays unknown.

The outcomes: COMMITTED may be acknowledged. REJECTED: the entry is not in the log and never will be. UNKNOWN:
neither can be said. After anything but COMMITTED the writer owns nothing: no entry goes into a later slot
before a new claim has been won, because whoever took the slot may have raised the epoch, and entries of a
lower epoch are void.

Epochs come from the log itself: a claim in the first free slot carries max(slot, highest epoch seen) + 1.
Winning the slot is winning the log; there is no lease and no clock. Depth 1: a slot is settled before the
next one is touched.
"""

from __future__ import annotations

from enum import Enum

from elacsym.format.manifest import Manifest, State


class Step(Enum):
    """What to ask the store next."""

    PUT = "put"
    READ_SLOT = "read_slot"
    READ_MANIFEST = "read_manifest"


class Outcome(Enum):
    """How an entry ended; see the module."""

    COMMITTED = "committed"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


Decision = Step | Outcome


class SlotAttempt:
    """One entry on its way into slot `inc:seq`; methods take an answer and return the next decision."""

    def __init__(self, inc: str, seq: int, nonce: str) -> None:
        self.inc, self.seq, self.nonce = inc, seq, nonce
        self._was_refused = False
        # whether the slot holds our entry; None where it was seen to hold none
        self._is_ours: bool | None = None

    def begin(self) -> Decision:
        """The first request."""
        return Step.PUT

    def put_created(self) -> Decision:
        """The store answered that it created the object."""
        self._is_ours = True
        return Step.READ_MANIFEST

    def put_refused(self) -> Decision:
        """The store answered that the object exists."""
        self._was_refused = True
        return Step.READ_SLOT

    def put_failed(self) -> Decision:
        """The store gave no clean answer: the entry may be there, come later, or never."""
        self._was_refused = False
        return Step.READ_SLOT

    def slot_read(self, is_ours: bool | None) -> Decision:
        """The slot holds our entry (True), another's (False) or nothing (None)."""
        self._is_ours = is_ours
        if is_ours is None and not self._was_refused:
            return Step.PUT
        return Step.READ_MANIFEST

    def manifest_read(self, manifest: Manifest | None) -> Decision:
        """The manifest as read after the slot was settled; None where there is none."""
        if manifest is None or manifest.state is not State.ACTIVE or manifest.inc != self.inc:
            return Outcome.UNKNOWN
        if manifest.applied > self.seq:
            return self._by_ring(manifest)
        if self._is_ours is None:
            return Outcome.UNKNOWN
        return Outcome.COMMITTED if self._is_ours else Outcome.REJECTED

    def _by_ring(self, manifest: Manifest) -> Decision:
        folded = manifest.ring.get(self.seq)
        if folded is None:
            return Outcome.UNKNOWN
        return Outcome.COMMITTED if folded == self.nonce else Outcome.REJECTED


class Ownership:
    """Whether a writer may put an entry, and under which epoch."""

    def __init__(self) -> None:
        self.epoch: int | None = None

    @staticmethod
    def claim_epoch(seq: int, epoch_seen: int) -> int:
        """The epoch of a claim in slot `seq` of a log whose highest epoch is `epoch_seen`."""
        return max(seq, epoch_seen) + 1

    def won(self, epoch: int) -> None:
        """A claim of this epoch was committed."""
        self.epoch = epoch

    def settled(self, outcome: Outcome) -> None:
        """An entry ended so: anything but a commit ends the ownership."""
        if outcome is not Outcome.COMMITTED:
            self.epoch = None

    def may_write(self, epoch_seen: int) -> bool:
        """Whether an entry may be put, given the highest epoch in the log as far as it is known."""
        return self.epoch is not None and epoch_seen <= self.epoch

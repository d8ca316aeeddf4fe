"""Every change that a manifest may undergo, as pure functions: manifest in, manifest out.

A transition raises TransitionRefused where the manifest has moved on so that the change makes no sense any
more, and returns the very manifest it was given where the change is already in it: a lost answer may be asked
for again. `generation`, `nonce` and `previous` are set by `elacsym.log.manifest_file`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

from elacsym.errors import InvalidRequest, NamespaceNotFound, Unavailable
from elacsym.format.digest import add_sums
from elacsym.format.manifest import (
    KEYS_REMEMBERED,
    PINS_MAX,
    RING_SLOTS,
    DeletesRef,
    FoldedKey,
    Hold,
    Intent,
    Manifest,
    Pin,
    SegmentRef,
    State,
)
from elacsym.format.wal_entry import EntryKind
from elacsym.log.tail import SlotRecord
from elacsym.types import Schema


class TransitionRefused(Unavailable):
    """The manifest has moved on: the job is abandoned, or starts again from the manifest that refused it."""

    code = "transition_refused"


@dataclass(frozen=True, slots=True)
class DeletesChange:
    """A segment's delete bitmap after a fold, and the row sum of what is alive then."""

    deletes: DeletesRef
    row_sum: str


def create(
    before: Manifest | None, *, name: str, inc: str, nonce: str, schema: Schema, created_ms: int
) -> Manifest:
    """A new namespace; `before` is the tombstone whose name is taken again. An active namespace stays as it
    is.

    Pins outlive the incarnation: what they name must not be collected. So do holds: they are to be released.
    """
    if before is not None and before.state is not State.DELETED:
        return before
    made = Manifest(name=name, inc=inc, nonce=nonce, schema=schema, created_ms=created_ms)
    return made if before is None else replace(made, pins=before.pins, holds=before.holds)


def tombstone(manifest: Manifest) -> Manifest:
    """The namespace deleted. Raises NamespaceNotFound if it already is."""
    if manifest.state is State.DELETED:
        raise NamespaceNotFound(manifest.name)
    return replace(
        manifest,
        state=State.DELETED,
        ring=MappingProxyType({}),
        segments=(),
        intents=(),
        keys=(),
        rows_live=0,
        row_sum=f"{0:032x}",
        bases=(),
        successor="",
    )


def add_intent(manifest: Manifest, intent: Intent) -> Manifest:
    """Announce a job: its files are no garbage while this stands. Every input must be referenced."""
    _require_active(manifest)
    if intent in manifest.intents:
        return manifest
    if any(i.job == intent.job for i in manifest.intents):
        raise TransitionRefused(f"job {intent.job} is announced with other inputs")
    missing = set(intent.inputs) - {s.job for s in manifest.segments}
    if missing:
        raise TransitionRefused(f"job {intent.job} reads segments that are gone: {sorted(missing)}")
    return replace(manifest, intents=(*manifest.intents, intent))


def remove_intent(manifest: Manifest, job: str) -> Manifest:
    """Withdraw a job; if it is still running it cannot commit any more."""
    if all(i.job != job for i in manifest.intents):
        return manifest
    return replace(manifest, intents=_without(manifest, job))


def fold(
    manifest: Manifest,
    slots: Sequence[SlotRecord],
    *,
    job: str,
    segments: Sequence[SegmentRef] = (),
    deletes: Mapping[str, DeletesChange] | None = None,
    schema: Schema,
) -> Manifest:
    """Move `slots`, which begin at `applied`, from the log into `segments` and delete bitmaps.

    job:     the intent under which the files were written; not needed where there are none.
    deletes: by segment job, what the slots deleted or overwrote in segments that stand.
    schema:  as of the last slot.
    """
    assert slots, "nothing to fold"
    changes = deletes or {}
    end = slots[-1].seq + 1
    if _is_folded(manifest, slots, job, segments):
        return manifest
    _require_active(manifest)
    first = slots[0]
    if (manifest.inc, manifest.applied, manifest.tail_digest) != (first.inc, first.seq, first.previous):
        raise TransitionRefused(
            f"slot {first.inc}:{first.seq} does not follow {manifest.inc}:{manifest.applied}"
        )
    for before, after in pairwise(slots):
        assert after.seq == before.seq + 1 and after.previous == before.digest, "slots are not one chain"
    if segments or changes:
        _require_intent(manifest, job)
    kept = _with_deletes(manifest, changes)
    ring = {**manifest.ring, **{s.seq: s.nonce for s in slots}}
    keys = [*manifest.keys, *(FoldedKey(key, s.seq, count) for s in slots for key, count in s.keys)]
    return replace(
        _with_segments(manifest, (*kept, *segments)),
        applied=end,
        epoch=max([manifest.epoch, *(s.epoch for s in slots)]),
        ring=MappingProxyType({seq: nonce for seq, nonce in ring.items() if seq >= end - RING_SLOTS}),
        tail_digest=slots[-1].digest,
        keys=tuple(keys[-KEYS_REMEMBERED:]),
        schema=schema,
        intents=_without(manifest, job),
        bases=tuple(base for base in manifest.bases if base.end > end),
        written_ms=max([manifest.written_ms, *(s.written_ms for s in slots if s.has_documents)]),
        changed_ms=max([manifest.changed_ms, *(s.written_ms for s in slots if s.kind is EntryKind.WRITE)]),
    )


def replace_segments(
    manifest: Manifest, *, job: str, inputs: Sequence[str], outputs: Sequence[SegmentRef]
) -> Manifest:
    """Put the outputs of a merge in the place of its inputs; the row sum of live rows is conserved.

    A delete that was folded while the job ran makes the sums differ: the job replays it onto its outputs and
        tries again.
    """
    if (
        outputs
        and all(manifest.segment(o.job) for o in outputs)
        and all(i.job != job for i in manifest.intents)
    ):
        return manifest
    _require_active(manifest)
    _require_intent(manifest, job)
    found = [s for s in manifest.segments if s.job in set(inputs)]
    if len(found) != len(set(inputs)):
        raise TransitionRefused(f"job {job} replaces segments that are gone")
    _require_conserved(job, found, outputs)
    place = manifest.segments.index(found[0]) if found else len(manifest.segments)
    rest = [s for s in manifest.segments if s not in found]
    merged = (*rest[:place], *outputs, *rest[place:])
    return replace(_with_segments(manifest, merged), intents=_without(manifest, job))


def add_pin(manifest: Manifest, pin: Pin) -> Manifest:
    """Keep the named objects from being collected; the holder refers to exactly those of this generation.

    Raises InvalidRequest where there are PINS_MAX.
    """
    _require_active(manifest)
    if any(p.is_of(pin) for p in manifest.pins):
        return manifest
    if len(manifest.pins) >= PINS_MAX:
        raise InvalidRequest(
            "", f"namespace '{manifest.name}' has {PINS_MAX} branches and copies that share its data already"
        )
    return replace(manifest, pins=(*manifest.pins, pin))


def narrow_pin(manifest: Manifest, pin: Pin) -> Manifest:
    """Put `pin` in the place of its holder's pin, which named more; an empty one is taken away."""
    pins = tuple(pin if p.is_of(pin) else p for p in manifest.pins)
    pins = tuple(p for p in pins if not (p.is_of(pin) and p.is_empty))
    return manifest if pins == manifest.pins else replace(manifest, pins=pins)


def narrow_hold(manifest: Manifest, hold: Hold) -> Manifest:
    """What `narrow_pin` did, on the holder's side."""

    def is_same(other: Hold) -> bool:
        return other.name == hold.name and other.pin.is_of(hold.pin)

    holds = tuple(hold if is_same(h) else h for h in manifest.holds)
    holds = tuple(h for h in holds if not (is_same(h) and h.pin.is_empty))
    return manifest if holds == manifest.holds else replace(manifest, holds=holds)


def announce_successor(
    before: Manifest | None, *, name: str, inc: str, nonce: str, successor: str
) -> Manifest:
    """Announce that incarnation `successor` is about to take the place of what is there.

    Nobody sees a namespace where there was none: it becomes the tombstone of `inc`, which never lived. One
    that lives is sealed. Whoever announces last, or takes the name, ends what was announced before.
    """
    if before is None:
        return Manifest(name=name, inc=inc, nonce=nonce, state=State.DELETED, successor=successor)
    if before.successor == successor:
        return before
    state = State.DELETED if before.state is State.DELETED else State.SEALED
    return replace(before, state=state, successor=successor)


def withdraw_successor(manifest: Manifest, successor: str) -> Manifest:
    """End what was announced: it cannot be installed any more, and what was sealed goes on."""
    if manifest.successor != successor:
        return manifest
    state = State.ACTIVE if manifest.state is State.SEALED else manifest.state
    return replace(manifest, state=state, successor="")


def install(before: Manifest, made: Manifest) -> Manifest:
    """Put the incarnation that was announced in the place of what is there."""
    if before.inc == made.inc:
        return before
    if before.successor != made.inc:
        raise TransitionRefused(f"namespace '{made.name}' was taken by somebody else meanwhile")
    return replace(made, pins=before.pins, holds=(*before.holds, *made.holds))


def _is_folded(
    manifest: Manifest, slots: Sequence[SlotRecord], job: str, segments: Sequence[SegmentRef]
) -> bool:
    last = slots[-1]
    if manifest.inc != last.inc or manifest.applied <= last.seq or manifest.ring.get(last.seq) != last.nonce:
        return False
    return all(manifest.segment(s.job) for s in segments) and all(i.job != job for i in manifest.intents)


def _require_active(manifest: Manifest) -> None:
    if manifest.state is State.DELETED:
        raise NamespaceNotFound(manifest.name)
    if manifest.state is not State.ACTIVE:
        raise TransitionRefused(f"namespace '{manifest.name}' is {manifest.state}")


def _require_intent(manifest: Manifest, job: str) -> None:
    if all(i.job != job for i in manifest.intents):
        raise TransitionRefused(f"the intent of job {job} is gone")


def _require_conserved(job: str, inputs: Sequence[SegmentRef], outputs: Sequence[SegmentRef]) -> None:
    before, after = (
        (sum(s.rows_live for s in part), add_sums(*(int(s.row_sum, 16) for s in part)))
        for part in (inputs, outputs)
    )
    if before != after:
        raise TransitionRefused(f"job {job}: live rows and row sum {before} became {after}")


def _without(manifest: Manifest, job: str) -> tuple[Intent, ...]:
    return tuple(i for i in manifest.intents if i.job != job)


def _with_deletes(manifest: Manifest, changes: Mapping[str, DeletesChange]) -> list[SegmentRef]:
    missing = set(changes) - {s.job for s in manifest.segments}
    if missing:
        raise TransitionRefused(f"deletes in segments that are gone: {sorted(missing)}")
    return [
        replace(s, deletes=changes[s.job].deletes, row_sum=changes[s.job].row_sum) if s.job in changes else s
        for s in manifest.segments
    ]


def _with_segments(manifest: Manifest, segments: Sequence[SegmentRef]) -> Manifest:
    return replace(
        manifest,
        segments=tuple(segments),
        rows_live=sum(s.rows_live for s in segments),
        row_sum=f"{add_sums(*(int(s.row_sum, 16) for s in segments)):032x}",
    )

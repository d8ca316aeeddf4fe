"""What a branch takes over from its source, and what it holds of it. Pure.

A branch is a manifest that refers to another namespace's segments and unfolded log slots; no data is copied.
It pins what it refers to in its source's manifest, also what the source itself was branched from: a source
releases nothing that is pinned in it. So every object is held by a chain of pins that ends where it lies,
and one pin is enough however long the chain is. Segments and slots that a manifest has ceased to refer to are
never referred to again by it or by a later branch of it; so whatever was computed from an earlier generation
holds too much at worst.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from elacsym.format.manifest import Base, Hold, Home, Manifest, Pin, SegmentRef, State
from elacsym.types import Options


def pin_of(source: Manifest, holder: Home, end: int) -> Pin:
    """What a branch of this generation refers to, whose own log begins with slot `end`."""
    slots = (source.applied, end - 1) if end > source.applied else None
    return Pin(holder.name, holder.inc, source.inc, tuple(_jobs(source.segments)), slots)


def branch_of(source: Manifest, pin: Pin, *, options: Options, created_ms: int, nonce: str) -> Manifest:
    """The branch that `pin` was made for. source: the generation that it was put into.

    Idempotency keys are not taken over: nothing was written to the branch under them. Neither are the nonces
    of folded slots, which only the writers of the source ask for.
    """
    end = source.applied if pin.slots is None else pin.slots[1] + 1
    bases = [Base(base.home, min(base.end, end)) for base in (*source.bases, Base(source.home, end))]
    ends = [source.applied, *(base.end for base in bases)]
    return Manifest(
        pin.holder,
        pin.holder_inc,
        nonce,
        applied=source.applied,
        epoch=source.epoch,
        tail_digest=source.tail_digest,
        schema=replace(source.schema, options=options),
        segments=tuple(_shared(segment, source.home) for segment in source.segments),
        rows_live=source.rows_live,
        row_sum=source.row_sum,
        created_ms=created_ms,
        bases=tuple(base for base, start in zip(bases, ends, strict=False) if base.end > start),
        holds=() if pin.is_empty else (Hold(source.name, pin),),
        written_ms=source.written_ms,
        changed_ms=source.changed_ms,
    )


def still_needed(manifest: Manifest, hold: Hold) -> Pin:
    """What of a hold is still referred to: by the namespace itself, or by branches of it."""
    held = hold.pin
    pins = [pin for pin in manifest.pins if pin.inc == held.holder_inc]
    jobs = set(chain.from_iterable(pin.jobs for pin in pins))
    ranges = [pin.slots for pin in pins if pin.slots is not None]
    if manifest.inc == held.holder_inc and manifest.state is not State.DELETED:
        jobs |= set(_jobs(manifest.segments))
        if manifest.bases:
            ranges.append((manifest.applied, manifest.begins - 1))
    needed = replace(held, jobs=tuple(job for job in held.jobs if job in jobs), slots=None)
    if held.slots is None or not ranges:
        return needed
    # one range around all that is needed: more than needed at worst
    first = max(held.slots[0], min(first for first, _ in ranges))
    last = min(held.slots[1], max(last for _, last in ranges))
    return replace(needed, slots=(first, last)) if first <= last else needed


def _jobs(segments: Iterable[SegmentRef]) -> list[str]:
    """Whose files these segments consist of."""
    jobs = {segment.job for segment in segments}
    return sorted(jobs | {segment.deletes.job for segment in segments if segment.deletes is not None})


def _shared(segment: SegmentRef, home: Home) -> SegmentRef:
    """The segment as another namespace refers to it."""
    deletes = segment.deletes
    if deletes is not None:
        deletes = replace(deletes, home=deletes.home or home)
    return replace(segment, home=segment.home or home, deletes=deletes)

"""Rules of the protocol taken away one by one: each a small override of the real code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from elacsym.log import transitions
from elacsym.log.commit import Decision, Outcome, Ownership, SlotAttempt
from elacsym.log.manifest_file import Loaded
from elacsym.log.reader import LogReader
from elacsym.log.writer import LogWriter
from elacsym.store.base import UNCHANGED, Etag, StoredObject, Unchanged


class NoCheck(SlotAttempt):
    """Acknowledges after the PUT without reading the manifest."""

    def put_created(self) -> Decision:
        return Outcome.COMMITTED


class NoVerify(SlotAttempt):
    """Trusts a refusal as "somebody else won" without reading the slot back."""

    def put_refused(self) -> Decision:
        return Outcome.REJECTED


class StaleEpoch(Ownership):
    """Goes on under the old epoch, in the next free slot, after it lost one."""

    def settled(self, outcome: Outcome) -> None:
        pass

    def may_write(self, epoch_seen: int) -> bool:
        return self.epoch is not None


class NoRecheck(LogReader):
    """Trusts an absent slot at the tail without the manifest."""

    def _is_current(self, manifest: Loaded | Unchanged | None) -> bool:
        return True


class LaxRecheck(LogReader):
    """Accepts a changed manifest whose `applied` is not ahead of what was read."""

    async def _round(
        self, start: int, width: int, etag: Etag, *, in_order: bool
    ) -> tuple[list[StoredObject | None], Loaded | Unchanged | None]:
        found, manifest = await super()._round(start, width, etag, in_order=in_order)
        read_to = start + (*found, None).index(None)
        if not isinstance(manifest, Loaded) or manifest.manifest.inc != self.manifest.inc:
            return found, manifest
        return found, UNCHANGED if manifest.manifest.applied <= read_to else manifest


class NoGuard(LogReader):
    """Accepts a round however long it took."""

    def _is_slow(self, elapsed_s: float) -> bool:
        return False


WRITER_MUTANTS = {"nocheck": NoCheck, "noverify": NoVerify}
READER_MUTANTS = {
    "norecheck": NoRecheck,
    "laxrecheck": LaxRecheck,
    "parnoguard": NoGuard,
    "parnograce": NoGuard,
}
MUTANTS = (*WRITER_MUTANTS, *READER_MUTANTS, "nextslot", "nosum", "nointent")


@contextmanager
def mutated(mutant: str | None) -> Iterator[type[LogReader]]:
    """Within the block the rule is gone; the reader class to build. None takes nothing away."""
    assert mutant is None or mutant in MUTANTS, mutant
    with ExitStack() as stack:
        if mutant in WRITER_MUTANTS:
            stack.enter_context(mock.patch.object(LogWriter, "attempt_type", WRITER_MUTANTS[mutant]))
        elif mutant == "nextslot":
            stack.enter_context(mock.patch.object(LogWriter, "ownership_type", StaleEpoch))
        elif mutant == "nosum":  # a merge may lose or revive rows
            stack.enter_context(mock.patch.object(transitions, "_require_conserved", lambda *_: None))
        elif mutant == "nointent":  # a job commits although its intent was withdrawn and its files collected
            stack.enter_context(mock.patch.object(transitions, "_require_intent", lambda *_: None))
        yield READER_MUTANTS.get(mutant or "", LogReader)

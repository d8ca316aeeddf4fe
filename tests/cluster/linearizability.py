"""Is a recorded history of one namespace linearizable? Wing and Gong's search with remembered states (Lowe).

Linearizability is local: every document is a register of its own, checked alone. The search takes
operations in an order that real time allows, lets each act on the register, and backtracks when an answer
does not fit; a state, that is which operations were taken and what the register holds, is visited once. The
slots of acknowledged writes narrow the search: they must be taken in the log's order.

A write of unknown outcome may act at any time after it began, or never. Such writes of the same effect are
interchangeable, so only the one that began first is tried; one whose value somebody saw did happen, before
the first answer that shows it.

References: Wing, Gong 1993; Lowe, Testing for linearizability, 2017; Horn, Kroening 2015 (locality).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["upsert", "delete", "delete_if", "read"]
# what the register holds after a write of unknown outcome whose value nobody saw
UNSEEN = "unseen"
STATES_MAX = 2_000_000
Value = int | str | None


class TooComplexError(Exception):
    """The search was given up; the history is neither right nor wrong."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request on one document. Times are places in the order of events; `ended` None: nobody knows.

    value: what an upsert wrote, what a delete_if asked for, what a read saw (None: no document).
    count: how many documents a delete_if took. seq: the slot of an acknowledged write.
    """

    number: int
    kind: Kind
    document: int
    begun: int
    ended: int | None
    value: int | None = None
    count: int | None = None
    seq: int | None = None

    @property
    def is_write(self) -> bool:
        """Whether it may change the register."""
        return self.kind != "read"

    def __str__(self) -> str:
        end = "?" if self.ended is None else self.ended
        took = "" if self.count is None else f" took {self.count}"
        slot = "" if self.seq is None else f" in slot {self.seq}"
        return f"#{self.number} {self.kind}({self.value}){took}{slot} [{self.begun}, {end}]"


def violations(operations: Iterable[Operation], *, states_max: int = STATES_MAX) -> list[str]:
    """What is wrong with a history: documents that are no registers, slots against real time.

    Raises TooComplexError.
    """
    by_document: dict[int, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_document[operation.document].append(operation)
    every = [operation for some in by_document.values() for operation in some]
    found = [problem for some in by_document.values() for problem in _Search(some).problems(states_max)]
    return found + list(slot_order_violations(every))


def slot_order_violations(operations: Iterable[Operation]) -> Iterator[str]:
    """Writes, of any document, that began after another was acknowledged and stand no later in the log."""
    acknowledged = [o for o in operations if o.seq is not None]
    acknowledged.sort(key=lambda o: (-o.seq, o.begun))
    first: Operation | None = None  # of those in this slot or later, the one that ended first
    for operation in acknowledged:
        if first is not None and first.ended < operation.begun:
            yield f"document {operation.document}: {operation} began after {first} had ended"
        if first is None or operation.ended < first.ended:
            first = operation


class _State(NamedTuple):
    """taken: a bit for each required operation. used: how many of each class of optional ones."""

    taken: int
    used: tuple[int, ...]
    value: Value


class _Search:
    """One document's operations, sorted out.

    Required operations happened for certain. Optional ones stand in classes of equal effect, each in order of
    beginning: `("upsert", UNSEEN)`, `("delete", None)`, `("delete_if", value)`.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.document = operations[0].document
        self.required: list[tuple[Operation, int]] = []  # with the time by which it had happened
        self.classes: list[tuple[Kind, Value]] = []
        self.optional: list[list[Operation]] = []
        self._sort_out(operations)
        self._before = self._slots_before()

    def _sort_out(self, operations: Sequence[Operation]) -> None:
        seen: dict[int, int] = {}
        for operation in operations:
            shows = operation.kind == "read" or operation.count == 1
            if shows and operation.ended is not None and operation.value is not None:
                seen[operation.value] = min(operation.ended, seen.get(operation.value, operation.ended))
        asked = {o.value for o in operations if o.kind == "delete_if"}
        classes: dict[tuple[Kind, Value], list[Operation]] = defaultdict(list)
        for operation in sorted(operations, key=lambda o: o.begun):
            if operation.ended is not None:
                self.required.append((operation, operation.ended))
            elif operation.kind == "upsert" and operation.value in seen:
                self.required.append((operation, seen[operation.value]))
            elif operation.kind == "upsert":
                # a delete_if may have been asked for the value and have taken nothing
                held = operation.value if operation.value in asked else UNSEEN
                classes["upsert", held].append(operation)
            elif operation.is_write:
                classes[operation.kind, operation.value].append(operation)
        self.classes, self.optional = list(classes), list(classes.values())

    def _slots_before(self) -> list[int]:
        """For each required operation, the bits of those in the slots before its own."""
        before = [0] * len(self.required)
        in_slot: dict[int, list[int]] = defaultdict(list)
        for index, (operation, _) in enumerate(self.required):
            if operation.seq is not None:
                in_slot[operation.seq].append(index)
        earlier = 0
        for seq in sorted(in_slot):
            for index in in_slot[seq]:
                before[index] = earlier
            earlier |= sum(1 << index for index in in_slot[seq])
        return before

    def problems(self, states_max: int) -> Iterator[str]:
        """Nothing, or what the search could not get past."""
        start = _State(0, (0,) * len(self.classes), None)
        every = (1 << len(self.required)) - 1
        stack, known, furthest = [start], {start}, start
        while stack:
            state = stack.pop()
            if state.taken == every:
                return
            if state.taken.bit_count() > furthest.taken.bit_count():
                furthest = state
            for successor in self._successors(state):
                if successor not in known:
                    known.add(successor)
                    stack.append(successor)
            if len(known) > states_max:
                raise TooComplexError(f"document {self.document}: more than {states_max} states")
        window = ", ".join(str(self.required[index][0]) for index in self._window(furthest)[0])
        yield (
            f"document {self.document}: no order explains the answers; after {furthest.taken.bit_count()} "
            f"operations it holds {furthest.value}, and none of these fits: {window}"
        )

    def _window(self, state: _State) -> tuple[list[int], float]:
        """The required operations of which any may come next, and the time by which one of them had to."""
        index = (~state.taken & (state.taken + 1)).bit_length() - 1
        window: list[int] = []
        deadline = float("inf")
        while index < len(self.required) and self.required[index][0].begun < deadline:
            if not state.taken >> index & 1:
                window.append(index)
                deadline = min(deadline, self.required[index][1])
            index += 1
        return window, deadline

    def _successors(self, state: _State) -> Iterator[_State]:
        """What may come next; the last one is tried first."""
        window, deadline = self._window(state)
        for place, ((kind, value), operations) in enumerate(zip(self.classes, self.optional, strict=True)):
            count = state.used[place]
            if count < len(operations) and operations[count].begun < deadline:
                held = _after(kind, value, state.value)
                if held != state.value:  # to act without effect explains nothing
                    used = (*state.used[:place], count + 1, *state.used[place + 1 :])
                    yield _State(state.taken, used, held)
        for index in sorted(window, key=lambda i: -self.required[i][1]):
            operation = self.required[index][0]
            if not self._before[index] & ~state.taken and _fits(operation, state.value):
                held = _after(operation.kind, operation.value, state.value)
                yield _State(state.taken | 1 << index, state.used, held)


def _fits(operation: Operation, held: Value) -> bool:
    """Whether a register that holds this gives the answer that the operation got."""
    if operation.kind == "read":
        return operation.value == held
    if operation.kind == "delete_if" and operation.count is not None:
        return operation.count == (operation.value == held)
    return True


def _after(kind: Kind, value: Value, held: Value) -> Value:
    """What the register holds afterwards."""
    if kind == "upsert":
        return value
    if kind == "delete" or (kind == "delete_if" and value == held):
        return None
    return held

"""Judges what clients saw: lost, doubled, torn, ghostly and out-of-order writes. No I/O.

A write is known by its number, which every document of an upsert carries. The slot of an acknowledgement
orders writes: what a document must hold is the effect of the acknowledged write of the highest slot that
names it, or that of a write whose outcome nobody knows. A *settled* read-out comes after an acknowledged
write of the server that took over: its claim has fenced every earlier request, so what is not there then
never will be, unless it is sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from crash.journal import Event

# operations that may still be sent again; a long run must not keep them all
REMEMBERED = 1_000

Rows = Mapping[int, int | None]


@dataclass
class Operation:
    """One request.

    outcome: pending, acked, refused, unknown. floors: of a read, the least slot of each document.
    """

    number: int
    kind: str
    ids: tuple[int, ...]
    floor: int
    floors: dict[int, int] = field(default_factory=dict)
    begun: int = 0
    ended: int | None = None
    outcome: str = "pending"
    seq: int | None = None
    count: int | None = None
    rows: dict[int, int | None] | None = None
    was_sent_again: bool = False

    def effect(self) -> int | None:
        """What the documents that it names hold after it."""
        return self.number if self.kind == "upsert" else None

    @property
    def may_be_applied(self) -> bool:
        """Whether it was not refused."""
        return self.kind != "read" and self.outcome != "refused"


class Model:
    """What must be in the namespace, as far as the journal says.

    `violations` collects everything that is wrong.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.operations: dict[int, Operation] = {}
        self.settled: dict[int, int] = {}
        self.settled_seq = -1
        self.acked_count = 0
        self.seq_max = -1
        self._time = 0
        self._acked: dict[
            int, int
        ] = {}  # document -> highest acknowledged slot since the last settled read-out
        self._current: dict[int, Operation] = {}  # what may have changed something since then
        self._touching: dict[int, list[Operation]] = {}  # the same by document
        self._reads: list[Operation] = []

    def consume(self, events: Iterable[Event]) -> None:
        """Take what the journal says."""
        for event in events:
            self._time += 1
            if event["event"] == "begin":
                self._begin(event)
                continue
            operation = self.operations[event["op"]]
            if event["event"] == "again":
                operation.was_sent_again = True
                if operation.outcome != "acked":
                    self._count_in(operation)
            elif event["event"] == "ack":
                self._ack(operation, event["seq"], event["count"])
            elif event["event"] == "rows":
                operation.ended, operation.rows = self._time, dict(event["rows"])
                self._reads.append(operation)
            elif operation.outcome == "pending" or not operation.was_sent_again:
                operation.outcome = event["event"]

    def unknown(self) -> list[Operation]:
        """The writes since the last settled read-out that nobody knows the outcome of."""
        return [o for o in self._current.values() if o.outcome in ("unknown", "pending")]

    def check_reads(self) -> None:
        """Judge the reads that ran beside the writes."""
        for read in self._reads:
            assert read.rows is not None and read.ended is not None
            for id_, seen in read.rows.items():
                self._judge(id_, seen, read.floors.get(id_, -1), f"read {read.number}", read.ended)
        self._reads = []

    def check(self, observed: Rows, *, is_settled: bool) -> None:
        """Judge a full read-out that began after everything else ended: document -> write."""
        for id_ in sorted(set(self._touching) | set(self.settled) | set(observed)):
            self._judge(id_, observed.get(id_), self._acked.get(id_, -1), "the read-out", self._time)
        if is_settled:
            self._check_atomic(observed)

    def settle(self, observed: Mapping[int, int], seq: int) -> None:
        """A settled read-out was judged: from here on only new writes, and old ones sent again, may
        change it.
        """
        self.settled, self.settled_seq = dict(observed), seq
        self._acked, self._current, self._touching = {}, {}, {}
        shown = set(observed.values())
        oldest = len(self.operations) and max(self.operations) - REMEMBERED
        self.operations = {n: o for n, o in self.operations.items() if n in shown or n > oldest}

    def _begin(self, event: Event) -> None:
        operation = Operation(event["op"], event["kind"], tuple(event["ids"]), self.seq_max, begun=self._time)
        self.operations[operation.number] = operation
        if operation.kind == "read":
            operation.floors = {id_: self._acked[id_] for id_ in operation.ids if id_ in self._acked}
        else:
            self._count_in(operation)

    def _count_in(self, operation: Operation) -> None:
        if operation.number not in self._current:
            self._current[operation.number] = operation
            for id_ in operation.ids:
                self._touching.setdefault(id_, []).append(operation)

    def _ack(self, operation: Operation, seq: int, count: int) -> None:
        name = f"write {operation.number}"
        if operation.seq is not None and (operation.seq, operation.count) != (seq, count):
            self._wrong(
                f"{name} was acknowledged at slot {operation.seq}, and at {seq} when it was sent again"
            )
        if operation.seq is None:
            self.acked_count += 1
            if seq <= operation.floor:
                self._wrong(
                    f"{name} got slot {seq}, but slot {operation.floor} was acknowledged before it began"
                )
        operation.outcome, operation.seq, operation.count = "acked", seq, count
        self.seq_max = max(self.seq_max, seq)
        if seq <= self.settled_seq:
            return
        if any(self.settled.get(id_) == operation.number for id_ in operation.ids):
            self._wrong(f"{name} was there before slot {self.settled_seq} and was applied again at {seq}")
        self._count_in(operation)
        for id_ in operation.ids:
            self._acked[id_] = max(seq, self._acked.get(id_, -1))

    def _judge(self, id_: int, seen: int | None, floor: int, where: str, until: int) -> None:
        """Whether a document may hold `seen`, when `floor` is the highest slot acknowledged for it before."""
        if floor < 0 and self.settled.get(id_) == seen:
            return
        for operation in self._touching.get(id_, ()):
            if (
                operation.may_be_applied
                and operation.effect() == seen
                and operation.begun < until
                and (operation.seq is None or operation.seq >= floor)
            ):
                return
        self._wrong(f"{where}: document {id_} holds {self._named(seen)} where {self._expected(id_, floor)}")

    def _named(self, seen: int | None) -> str:
        if seen is None:
            return "nothing"
        operation = self.operations.get(seen)
        if operation is None:
            return f"write {seen}, which nobody sent of late"
        return f"write {seen} ({operation.outcome}, slot {operation.seq}, documents {operation.ids})"

    def _expected(self, id_: int, floor: int) -> str:
        if floor < 0:
            return f"it held {self._named(self.settled.get(id_))}"
        last = [o for o in self._touching.get(id_, ()) if o.seq == floor]
        return "the last acknowledged is " + " or ".join(f"{o.kind} {o.number} at slot {o.seq}" for o in last)

    def _check_atomic(self, observed: Rows) -> None:
        """All or nothing of a write whose documents nobody else touched."""
        for operation in self._current.values():
            own = [id_ for id_ in operation.ids if len(self._touching[id_]) == 1]
            applied = [id_ for id_ in own if observed.get(id_) == operation.effect()]
            changed = [id_ for id_ in own if self.settled.get(id_) != operation.effect()]
            if operation.may_be_applied and len(changed) == len(own) and 0 < len(applied) < len(own):
                self._wrong(f"write {operation.number} is torn: {applied} of {own} show it")

    def _wrong(self, message: str) -> None:
        self.violations.append(message)

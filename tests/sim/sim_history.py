"""What clients asked for and saw, and the rules that it must obey.

Every operation has a number and every view carries the journal of all operations applied so far, beside the
rows. So one sequence explains everything: rows must be the replay of the journal, journals must agree, grow,
hold what was acknowledged, and never hold what was rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

Place = tuple[int, int, int]  # slot, batch in the slot, operation in the batch


@dataclass(slots=True)
class Operation:
    """`status`: pending, acked, failed or unknown; `inc` and `seq` are those of the acknowledgement."""

    number: int
    request: int
    kind: str
    row: str
    invoked_s: float
    status: str = "pending"
    ended_s: float = float("inf")
    inc: str = ""
    seq: int = -1


@dataclass(slots=True)
class View:
    """What a read saw. current_s: it had to see what was acknowledged before."""

    began_s: float
    ended_s: float
    current_s: float
    inc: str
    rows: dict[str, int]
    journal: list[tuple[int, Place]]


@dataclass(slots=True)
class History:
    operations: dict[int, Operation] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    deleted_s: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def check(self) -> list[str]:
        """All violations of the run, in words."""
        places: dict[tuple[str, int], Place] = {}
        longest: dict[str, list[View]] = {}
        for view in self.views:
            self._check_view(view, places)
            longest.setdefault(view.inc, []).append(view)
        for views in longest.values():
            self._check_growth(views)
        for operation in self.operations.values():
            deleted_s = self.deleted_s.get(operation.inc, float("inf"))
            if operation.status == "acked" and operation.invoked_s > deleted_s:
                self._bad("write acknowledged in a deleted incarnation", operation.number)
        return self.violations

    def _check_view(self, view: View, places: dict[tuple[str, int], Place]) -> None:
        numbers = [number for number, _ in view.journal]
        if len(set(numbers)) != len(numbers):
            self._bad("operation applied twice", [n for n, c in Counter(numbers).items() if c > 1])
        seen = dict(view.journal)
        for operation in self.operations.values():
            place = seen.get(operation.number)
            if operation.status == "acked" and operation.inc == view.inc:
                if place is None and operation.ended_s < view.current_s:
                    self._bad("acknowledged write not seen", operation.number)
                if place is not None and place[0] != operation.seq:
                    self._bad("acknowledged at another slot", operation.number)
            if place is not None and operation.status == "failed":
                self._bad("rejected write seen", operation.number)
            if place is not None and operation.invoked_s > view.ended_s:
                self._bad("write seen before it was sent", operation.number)
        for number, place in view.journal:
            if places.setdefault((view.inc, number), place) != place:
                self._bad("views disagree about a place", number)
        self._check_requests(seen)
        if view.rows != replay(self.operations, view.journal):
            self._bad("rows are not the replay of the journal", view.rows)

    def _check_requests(self, seen: dict[int, Place]) -> None:
        requests: dict[int, set[bool]] = {}
        for operation in self.operations.values():
            requests.setdefault(operation.request, set()).add(operation.number in seen)
        torn = [request for request, found in requests.items() if len(found) > 1]
        if torn:
            self._bad("request torn", torn)

    def _check_growth(self, views: Iterable[View]) -> None:
        """A view that began after another strong one had ended holds at least as much."""
        ordered = sorted(views, key=lambda v: v.ended_s)
        for view in (v for v in ordered if v.current_s >= v.began_s):
            before = [v for v in ordered if v.ended_s < view.began_s]
            if before and not {n for n, _ in before[-1].journal} <= {n for n, _ in view.journal}:
                self._bad("a later view holds less", view.began_s)

    def _bad(self, rule: str, what: object) -> None:
        self.violations.append(f"{rule}: {what}")


def replay(operations: dict[int, Operation], journal: Iterable[tuple[int, Place]]) -> dict[str, int]:
    """Row -> number of the put that made it, after all operations in order of place."""
    rows: dict[str, int] = {}
    for number, _ in sorted(journal, key=lambda entry: entry[1]):
        operation = operations[number]
        if operation.kind == "put":
            rows[operation.row] = number
        else:
            rows.pop(operation.row, None)
    return rows

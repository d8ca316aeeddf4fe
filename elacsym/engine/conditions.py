"""The conditions of a write: which stored documents they hold for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from elacsym.compute import give_way
from elacsym.engine.memtable import Chunk
from elacsym.engine.stored import Stored
from elacsym.format.reading import resident
from elacsym.query.ast import And, Compare, Filter, Not, Or, RefNew
from elacsym.query.check_filter import check_filter
from elacsym.query.columns import Bools, Ints
from elacsym.query.columns import stored as columns_in_parts
from elacsym.query.filters import attributes_of, matches
from elacsym.query.language.filter import bound
from elacsym.types import Schema

# documents with values of their own are looked at in chunks of so many: what is made for a chunk is shared,
# and a look at the whole chunk costs hardly more than one at a single row
_BOUND_AT_ONCE = 64

# what a request brings for the i-th of its documents
NewValues = Callable[[int], Mapping[str, Any]]


def nothing_new(index: int) -> Mapping[str, Any]:  # noqa: ARG001 - the same for all
    """What a delete brings."""
    return {}


def holds(condition: Filter, schema: Schema, documents: Stored, rows: Ints, new: NewValues) -> Bools:
    """(n,) bool: for which of these rows of `documents` a condition holds; new(i) is what the request brings
    for the i-th of them, in the place of references.

    Raises InvalidRequest where the condition does not fit the schema, or what it is bound to does not. Cost:
    one pass, with references one for every distinct set of values, over 64 rows at most.
    """
    if not has_refs(condition):
        checked = check_filter(condition, schema)
        return _matching(checked, schema, documents.chunk(rows, _names(checked), schema))
    check_filter(bound(condition, {}), schema)
    # a range from null, to which nothing binds it, looks at no values
    names = _names(condition)
    result = np.zeros(len(rows), np.bool_)
    for start in range(0, len(rows), _BOUND_AT_ONCE):
        give_way()
        chunk = documents.chunk(rows[start : start + _BOUND_AT_ONCE], names, schema)
        # documents that bring the same are looked at together
        known: dict[Filter, Bools] = {}
        for place in range(chunk.rows):
            checked = check_filter(bound(condition, new(start + place)), schema)
            found = known.get(checked)
            if found is None:
                found = known[checked] = _matching(checked, schema, chunk)
            result[start + place] = found[place]
    return result


def _names(condition: Filter) -> frozenset[str]:
    return columns_in_parts(attributes_of(condition))


def _matching(condition: Filter, schema: Schema, chunk: Chunk) -> Bools:
    return resident(matches(condition, schema, chunk))


def has_refs(condition: Filter) -> bool:
    """Whether a condition refers to what the request brings."""
    match condition:
        case Compare(value=value):
            return isinstance(value, RefNew)
        case And() | Or():
            return any(has_refs(c) for c in condition.conditions)
        case Not():
            return has_refs(condition.condition)
        case _:
            return False

"""What the values of an attribute that has no type yet tell of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from elacsym.engine.request import Inference
from elacsym.engine.vector_values import decode_base64, shown
from elacsym.errors import InvalidRequest
from elacsym.shapes import kind
from elacsym.types import DIMENSIONS_MAX, VECTOR, AttributeType, Scalar

_F32_BYTES = 4
_KINDS: tuple[tuple[Scalar, frozenset[type]], ...] = (
    (Scalar.BOOL, frozenset({bool})),
    (Scalar.INT, frozenset({int})),
    (Scalar.FLOAT, frozenset({int, float})),
    (Scalar.STRING, frozenset({str})),
)


def inferred_type(
    name: str, values: Sequence[Any], inference: Inference, field: Callable[[int], str]
) -> AttributeType | None:
    """The type of an attribute of these values, None where all are null.

    Empty arrays alone make `[]unknown`. That every value fits is checked where values are encoded. `field(i)`
    names the i-th value in errors. Raises InvalidRequest where values disagree, or tell nothing that an
    attribute may be without a declaration.
    """
    first, value = next(((i, v) for i, v in enumerate(values) if v is not None), (0, None))
    if value is None:
        return None
    if inference.vectors and (name == VECTOR or _is_nested(values)):
        return _vector_type(values, name, field)
    if isinstance(value, np.ndarray | bytes) or name == VECTOR:
        raise InvalidRequest(
            field(first), "a vector, but the namespace has no such vector attribute; declare it"
        )
    if not isinstance(value, list):
        return AttributeType(_scalar([v for v in values if v is not None], inference, field(first)))
    elements = [e for v in values if isinstance(v, list) for e in v]
    if not elements:
        return AttributeType(Scalar.UNKNOWN, is_array=True)
    return AttributeType(_scalar(elements, inference, field(first)), is_array=True)


def _is_nested(values: Sequence[Any]) -> bool:
    """Whether the first element of an array is an array itself."""
    first = next((v[0] for v in values if isinstance(v, list) and v), None)
    return isinstance(first, list | np.ndarray)


def _vector_type(values: Sequence[Any], name: str, field: Callable[[int], str]) -> AttributeType:
    """The type of the first value that is not empty: a vector, or an array of vectors."""
    filled = [(i, v) for i, v in enumerate(values) if v is not None and (name == VECTOR or not _is_empty(v))]
    index, value = filled[0]
    is_array = isinstance(value, list) and bool(value) and not isinstance(value[0], int | float)
    dimensions = _dimensions(value[0] if is_array else value, field(index))
    if not 1 <= dimensions <= DIMENSIONS_MAX:
        raise InvalidRequest(
            field(index), f"a vector of {dimensions} dimensions where 1 to {DIMENSIONS_MAX} are allowed"
        )
    arrays = [value for _, value in filled if isinstance(value, list)]
    if is_array and name != VECTOR and all(_is_whole(vector) for value in arrays for vector in value):
        raise InvalidRequest(
            field(index), "arrays of whole numbers, where arrays of floats are vectors; declare the attribute"
        )
    return AttributeType(Scalar.F32, is_array, dimensions)


def _is_whole(vector: Any) -> bool:
    return isinstance(vector, list) and set(map(type, vector)) <= {int}


def _is_empty(value: Any) -> bool:
    return isinstance(value, list) and not value


def _dimensions(vector: Any, field: str) -> int:
    if isinstance(vector, str):
        vector = decode_base64(vector, field)
    if isinstance(vector, bytes):
        if len(vector) % _F32_BYTES:
            raise InvalidRequest(field, f"{len(vector)} bytes, which is no whole number of 32-bit floats")
        return len(vector) // _F32_BYTES
    if isinstance(vector, list) or (isinstance(vector, np.ndarray) and vector.ndim == 1):
        return len(vector)
    raise InvalidRequest(field, f"{shown(vector)} where a vector is expected")


def _scalar(values: Sequence[Any], inference: Inference, field: str) -> Scalar:
    found = set(map(type, values))
    for scalar, kinds in _KINDS:
        if found <= kinds:
            if scalar is Scalar.FLOAT and not inference.floats:
                fraction = next(v for v in values if type(v) is float)
                raise InvalidRequest(
                    field,
                    f"{fraction!r} is no signed 64-bit integer, which numbers are unless the schema says "
                    "`float`; declare the attribute",
                )
            return scalar
    words = sorted({kind(v) for v in values})
    if len(words) == 1:
        raise InvalidRequest(field, f"{words[0]} is no value that tells the type of a new attribute")
    raise InvalidRequest(field, f"the values of a new attribute are of several types: {', '.join(words)}")

"""The rules of the legs of a ranked query that need the schema."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from elacsym.errors import InvalidRequest
from elacsym.query.ast import WEIGHT_MAX, Leg, MultiVectorLeg, ScoreLeg, SparseLeg, TextLeg, VectorLeg
from elacsym.query.check_score import check_score, check_text_query
from elacsym.query.operands import known
from elacsym.shapes import shown
from elacsym.types import AttributeType, Schema


def check_leg(leg: Leg, schema: Schema) -> Leg:
    """The leg, known to fit the schema. Raises InvalidRequest."""
    match leg:
        case VectorLeg():
            _check_vector_leg(leg, schema)
        case MultiVectorLeg():
            _check_multivector_leg(leg, schema)
        case SparseLeg():
            _check_sparse_leg(leg, schema)
        case TextLeg():
            _check_text_leg(leg, schema)
        case ScoreLeg():
            return replace(leg, score=check_score(leg.score, schema))
    return leg


def check_vector(vector: Any, kind: AttributeType, path: str, *, axes: int = 1) -> None:
    """Raises InvalidRequest unless an array of so many axes, the last of them components, has a type's
    dimensions and is finite."""
    if vector.ndim != axes or vector.shape[-1] != kind.dimensions:
        size = vector.shape[-1] if vector.ndim == axes else vector.size
        raise InvalidRequest(path, f"has {size} dimensions, the namespace has {kind.dimensions}")
    if not np.isfinite(vector).all():
        place = np.argwhere(~np.isfinite(vector))[0].tolist()
        indices = "".join(f"[{index}]" for index in place)
        raise InvalidRequest(f"{path}{indices}", f"must be finite, not {vector[tuple(place)]}")


def _check_vector_leg(leg: VectorLeg, schema: Schema) -> None:
    if leg.attribute not in schema.attributes and not schema.vectors():
        raise InvalidRequest(leg.path or "vector", "the namespace has no vectors")
    name_path = leg.path or "vector_field"
    kind = known(leg.attribute, schema, name_path).type
    if not kind.is_vector:
        several = "; search it with a list of vectors" if kind.is_multivector else ""
        raise InvalidRequest(
            name_path, f"attribute '{leg.attribute}' is of type {kind}, not a vector{several}"
        )
    check_vector(leg.vector, kind, f"{leg.path}[2]" if leg.path else "vector")
    _check_weight("vector_weight", leg.weight)


def _check_multivector_leg(leg: MultiVectorLeg, schema: Schema) -> None:
    kind = known(leg.attribute, schema, leg.path).type
    if not kind.is_multivector:
        raise InvalidRequest(
            leg.path, f"attribute '{leg.attribute}' is of type {kind}, not an array of vectors"
        )
    check_vector(leg.vectors, kind, f"{leg.path}[2]", axes=2)


def _check_sparse_leg(leg: SparseLeg, schema: Schema) -> None:
    kind = known(leg.attribute, schema, leg.path).type
    if not kind.is_sparse:
        raise InvalidRequest(leg.path, f"attribute '{leg.attribute}' is of type {kind}, not a sparse vector")
    for dimension, weight in leg.vector:
        if not math.isfinite(weight):
            raise InvalidRequest(leg.path, f"the weight of '{dimension}' must be finite, not {weight}")


def _check_text_leg(leg: TextLeg, schema: Schema) -> None:
    if not leg.fields:
        raise InvalidRequest(leg.path, "needs at least one field")
    names = [name for name, _ in leg.fields]
    for name, weight in leg.fields:
        check_text_query(leg.query, name, schema, leg.path, f"{leg.path}.query")
        if names.count(name) > 1:
            raise InvalidRequest(leg.path, f"field '{name}' is named twice")
        _check_weight(f"{leg.path}.weights.{name}", weight)
    _check_weight(f"{leg.path}.weight", leg.weight)


def _check_weight(path: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= WEIGHT_MAX:
        raise InvalidRequest(path, f"must be a number from 0 to {WEIGHT_MAX:,.0f}, not {shown(value)}")

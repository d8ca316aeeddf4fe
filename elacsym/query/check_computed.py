"""The rules of computed attributes that need the schema."""

from __future__ import annotations

from elacsym.errors import InvalidRequest
from elacsym.query.ast import (
    COMPUTED_MAX,
    AttributeValue,
    Bm25,
    Computed,
    Decay,
    Highlight,
    Indicator,
    Max,
    Product,
    Query,
    Saturate,
    Sum,
    VectorDistance,
)
from elacsym.query.check_filter import check_filter
from elacsym.query.check_leg import check_vector
from elacsym.query.check_score import check_score
from elacsym.query.highlight import check_highlight
from elacsym.query.operands import known
from elacsym.query.shown import Shown
from elacsym.types import ATTRIBUTE_NAME_BYTES_MAX, ID, Schema


def check_computed(query: Query, schema: Schema, answered: Shown) -> tuple[tuple[str, Computed], ...]:
    """The computed attributes of a query, known to fit the schema and the attributes that are answered beside
    them. Raises InvalidRequest."""
    if len(query.compute) > COMPUTED_MAX:
        raise InvalidRequest(
            "compute_attributes",
            f"has {len(query.compute)} attributes, at most {COMPUTED_MAX} are allowed",
        )
    taken = {ID, *answered.columns, *answered.vectors}
    for name, _ in query.compute:
        path = f"compute_attributes.{name}"
        size = len(name.encode(errors="surrogatepass"))
        if not 1 <= size <= ATTRIBUTE_NAME_BYTES_MAX or name.startswith("$"):
            raise InvalidRequest(
                path, f"a name has 1 to {ATTRIBUTE_NAME_BYTES_MAX} bytes and does not begin with '$'"
            )
        if name in taken:
            raise InvalidRequest(path, f"'{name}' is answered as an attribute already; choose another name")
    return tuple([(name, _checked(name, computed, query, schema)) for name, computed in query.compute])


def _checked(name: str, computed: Computed, query: Query, schema: Schema) -> Computed:
    match computed:
        case VectorDistance():
            kind = known(computed.attribute, schema, computed.path).type
            if not kind.is_vector:
                raise InvalidRequest(
                    computed.path, f"attribute '{computed.attribute}' is of type {kind}, not a vector"
                )
            check_vector(computed.vector, kind, computed.path)
            return computed
        case Highlight():
            return check_highlight(computed, query, schema)
        case Bm25() | Sum() | Max() | Product() | Indicator() | AttributeValue() | Saturate() | Decay():
            return check_score(computed, schema, f"compute_attributes.{name}")
        case _:
            return check_filter(computed, schema)

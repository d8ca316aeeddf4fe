"""Computed attributes as JSON: name to score expression, filter, distance of vectors, or highlighting.

["Highlight", attr] | ["Highlight", attr, {options}]
[attr, "VectorDist", vector]
a score expression, see `elacsym.query.language.score`; a bare filter gives a boolean
"""

from __future__ import annotations

from typing import Any

from elacsym.errors import InvalidRequest
from elacsym.query.ast import COMPUTED_MAX, Computed, Highlight, Indicator, VectorDistance
from elacsym.query.language.score import parse_score
from elacsym.query.language.vector import decode
from elacsym.shapes import Fields, expect, variant

_FRAGMENTS = ("none", "sentence", "paragraph", "word")
_UNITS = ("utf-8", "utf-16", "codepoints")
_SEARCHES = ("ANN", "kNN", "SparseKNN")


def parse_computed(value: Any, path: str = "compute_attributes") -> tuple[tuple[str, Computed], ...]:
    """The computed attributes of a JSON object. Raises InvalidShape, InvalidRequest."""
    given = expect(value, dict, path)
    if len(given) > COMPUTED_MAX:
        raise InvalidRequest(path, f"{len(given)} attributes where {COMPUTED_MAX} are allowed")
    return tuple((name, _computed(expression, f"{path}.{name}")) for name, expression in given.items())


def _computed(value: Any, path: str) -> Computed:
    match value:
        case ["Highlight", str() as name]:
            return Highlight(name, path=path)
        case ["Highlight", str() as name, dict() as options]:
            return _highlight(name, options, path)
        case [str() as name, "VectorDist", vector]:
            return VectorDistance(name, decode(vector, f"{path}[2]"), path)
        case [str(), str() as word, *_] if word in _SEARCHES:
            raise InvalidRequest(path, f"{word} ranks rows; it cannot be computed")
    score = parse_score(value, path)
    return score.condition if isinstance(score, Indicator) else score


def _highlight(name: str, options: dict[str, Any], path: str) -> Highlight:
    fields = Fields(options, f"{path}[2]")
    given: dict[str, Any] = {
        "fragment_by": _word(fields, "fragment_by", _FRAGMENTS),
        "limit": fields.optional("fragment_limit", int),
        "offsets": _word(fields, "include_offsets", _UNITS),
    }
    ranked = fields.take("rank_fragments_by")
    if ranked is not None:
        given["rank_by"] = parse_score(ranked, fields.path("rank_fragments_by"))
    fields.end()
    return Highlight(name, path=path, **{key: v for key, v in given.items() if v is not None})


def _word(fields: Fields, name: str, words: tuple[str, ...]) -> str | None:
    value = fields.take(name)
    return None if value is None else variant(value, words, fields.path(name))

"""Re-ranking of several queries' rows as JSON: `["RRF", {"rank_constant": 60, "weights": [1, 0.5]}]`."""

from __future__ import annotations

import math
from typing import Any

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import WEIGHT_MAX, Rerank
from elacsym.shapes import Fields, expect, number, wrong_type

_PATH = "rerank_by"


def parse_rerank(value: Any, queries: int) -> Rerank:
    """The re-ranking of so many queries. Raises InvalidShape, InvalidRequest."""
    if type(value) is dict:
        raise InvalidRequest(_PATH, f"model '{value.get('model')}' is not available on this server")
    if type(value) is not list:
        raise wrong_type(value, list, _PATH)
    if not value or value[0] != "RRF" or len(value) > 2:
        raise InvalidShape(_PATH, '["RRF"] or ["RRF", {"rank_constant": …, "weights": […]}] is expected')
    if len(value) == 1:
        return Rerank()
    fields = Fields(value[1], f"{_PATH}[1]")
    constant, given = fields.number("rank_constant"), fields.take("weights")
    fields.end()
    if constant is None:
        constant = Rerank.constant
    if not 0 < constant < math.inf:
        raise InvalidRequest(f"{_PATH}[1].rank_constant", f"{constant} where a number above 0 is expected")
    return Rerank(constant, () if given is None else _weights(given, queries))


def _weights(given: Any, queries: int) -> tuple[float, ...]:
    path = f"{_PATH}[1].weights"
    weights = tuple(number(v, f"{path}[{i}]") for i, v in enumerate(expect(given, list, path)))
    if len(weights) != queries:
        raise InvalidRequest(path, f"{len(weights)} weights for {queries} queries")
    for index, weight in enumerate(weights):
        if not 0 < weight <= WEIGHT_MAX:
            reason = f"{weight} where a number above 0, at most {WEIGHT_MAX:,.0f}, is expected"
            raise InvalidRequest(f"{path}[{index}]", reason)
    return weights
